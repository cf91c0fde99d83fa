//! What every part of a running store shares: storage, log, threads' queues, the checkpoint's
//! to-do lists.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::acl::Grants;
use crate::archive::{Aside, Taker};
use crate::catalog::Catalog;
use crate::config::{Partition, StoreConfig};
use crate::error::{Error, Result};
use crate::events::Hub;
use crate::fulltext::Keeper;
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::{HelperPool, Storage};
use crate::layout::Unique;
use crate::log::Log;
use crate::mailbox::MailboxInner;
use crate::mapped::Trust;
use crate::metadata::Unwritten;
use crate::mount::Mount;
use crate::order::Budget;
use crate::owner::Owners;
use crate::search::crew::Crew;
use crate::seen::PrivateSeens;
use crate::store::{Checkpointer, Registry};
use crate::user::{Maildrops, UserInner};
use crate::watch::Watches;

/// Times that the inline drive tries failed work again before the waiting call hears of it.
const INLINE_RETRIES: usize = 3;

/// Who runs the log writer and the appliers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// Threads of the store.
    Threads,
    /// The awaiting call itself: tests and tools.
    Inline,
    /// Whoever calls [`crate::Store::turn`]: tests that decide on the order of things.
    Manual,
}

/// A piece of the store's own work, for [`crate::Store::turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The log writer: one group.
    Log,
    /// An applier: one mailbox.
    Apply,
    /// A helper thread: one job.
    Helper,
    /// The ticker: file names follow flags, one turn for each mailbox.
    Names,
    /// The ticker: work that failed is tried again.
    Retry,
}

/// Lines of mendings that are remembered for whoever asks; the log has all.
const MENDINGS_MAX: usize = 1000;

/// What was mended since the start, and what could not be.
#[derive(Default)]
pub(crate) struct Mendings {
    lines: Mutex<VecDeque<String>>,
    pub(crate) mended: AtomicU64,
    pub(crate) left: AtomicU64,
}

impl Mendings {
    /// One mending: which directory; file, record, what was wrong, what it was mended from.
    pub(crate) fn mended(&self, dir: &std::path::Path, line: &str) {
        tracing::warn!(dir = %dir.display(), "mended: {line}");
        self.mended.fetch_add(1, Ordering::Relaxed);
        self.remember(format!("{}: mended: {line}", dir.display()));
    }

    /// Damage that stays.
    pub(crate) fn left(&self, dir: &std::path::Path, line: &str) {
        tracing::error!(dir = %dir.display(), "damaged, and cannot be mended: {line}");
        self.left.fetch_add(1, Ordering::Relaxed);
        self.remember(format!("{}: damaged: {line}", dir.display()));
    }

    fn remember(&self, line: String) {
        let mut lines = self.lines.lock();
        if lines.len() == MENDINGS_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().iter().cloned().collect()
    }
}

/// Mailboxes with work for the appliers.
#[derive(Default)]
pub(crate) struct ApplyQueue {
    ready: Mutex<(VecDeque<Arc<MailboxInner>>, bool)>,
    wake: Condvar,
}

impl ApplyQueue {
    pub(crate) fn push(&self, mailbox: Arc<MailboxInner>) {
        self.ready.lock().0.push_back(mailbox);
        self.wake.notify_one();
    }

    pub(crate) fn try_pop(&self) -> Option<Arc<MailboxInner>> {
        self.ready.lock().0.pop_front()
    }

    /// Waits for work; `None` after [`ApplyQueue::close`].
    pub(crate) fn pop(&self) -> Option<Arc<MailboxInner>> {
        let mut ready = self.ready.lock();
        loop {
            if let Some(mailbox) = ready.0.pop_front() {
                return Some(mailbox);
            }
            if ready.1 {
                return None;
            }
            self.wake.wait(&mut ready);
        }
    }

    pub(crate) fn close(&self) {
        self.ready.lock().1 = true;
        self.wake.notify_all();
    }
}

/// A file that goes once the checkpoint covers the frame that dooms it ("destroy last").
pub(crate) struct Doomed {
    pub(crate) lsn: Lsn,
    pub(crate) what: DoomedKind,
}

pub(crate) enum DoomedKind {
    /// The file of a tombstone that was copied or moved from.
    Message(Arc<MailboxInner>, protocol::types::Uid),
    /// The remains of a deleted mailbox: partition name, directory.
    Mailbox(Partition, PathBuf),
    /// A name of a file that has another by now.
    Name(PathBuf),
}

pub(crate) struct Shared {
    pub(crate) config: StoreConfig,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) drive: Drive,
    pub(crate) store_id: StoreId,
    pub(crate) owner_epoch: u32,
    /// The last owner epoch that did not end with a clean stop.
    pub(crate) unclean_epoch: u32,
    /// A sync of files failed: what it should have saved may be lost though it can still be read,
    /// so no checkpoint may count it, and only the next start's recovery writes it again.
    pub(crate) unsynced: AtomicBool,
    /// While a start redoes the log.
    pub(crate) redoing: AtomicBool,
    /// Set for the checkpoint that ends this epoch with one.
    pub(crate) clean: AtomicBool,
    pub(crate) log: Log,
    pub(crate) helpers: HelperPool,
    /// Looks through messages for SEARCH.
    pub(crate) searchers: Crew,
    /// Keeps full-text indexes up to date.
    pub(crate) keeper: Keeper,
    pub(crate) apply: ApplyQueue,
    /// Mailboxes changed since their last header slot.
    pub(crate) dirty: Mutex<BTreeMap<MailboxId, Arc<MailboxInner>>>,
    pub(crate) doomed: Mutex<Vec<Doomed>>,
    /// Mailboxes whose file names wait to follow their flags.
    pub(crate) names_due: Mutex<BTreeMap<MailboxId, Arc<MailboxInner>>>,
    /// Mailboxes whose work failed, and why; it is tried again.
    pub(crate) stalled: Mutex<Vec<(Arc<MailboxInner>, Error)>>,
    pub(crate) watches: Watches,
    pub(crate) mendings: Mendings,
    /// How long records and blobs that were found whole count as whole.
    pub(crate) trust: Arc<Trust>,
    pub(crate) mailboxes: Registry,
    /// What the open mailboxes keep for SORT and THREAD.
    pub(crate) orders: Arc<Budget>,
    pub(crate) checkpointer: Checkpointer,
    /// LSN of the last committed checkpoint: header slots above it count for nothing.
    pub(crate) checkpointed: AtomicU64,
    pub(crate) closing: AtomicBool,
    pub(crate) uid_validity_last: Mutex<u32>,
    /// What is to be written in the forms of old servers.
    pub(crate) hand_back: crate::takeover::Due,
    pub(crate) catalog: Catalog,
    pub(crate) users: Mutex<BTreeMap<String, Arc<UserInner>>>,
    /// Users whose catalog record is older than their namespace.
    pub(crate) dirty_users: Mutex<BTreeMap<String, Arc<UserInner>>>,
    /// Whose mailboxes changed lately.
    pub(crate) changed_users: crate::store::ChangedUsers,
    /// Deleted mailboxes that the catalog still has.
    pub(crate) gone: Mutex<Vec<MailboxId>>,
    pub(crate) maildrops: Maildrops,
    /// Removed users who are still in what is others', with their heirs (empty: none).
    pub(crate) departed: Mutex<BTreeMap<String, String>>,
    /// One taker-out of these at a time.
    pub(crate) tidying: Mutex<()>,
    /// Metadata that the catalog does not have yet.
    pub(crate) metadata: Unwritten,
    /// The index of who lets whom see something, where the catalog does not have it yet.
    pub(crate) grants: Grants,
    /// `\Seen` of users in others' mailboxes.
    pub(crate) seens: PrivateSeens,
    /// Tells of the server's metadata.
    pub(crate) events: Arc<Hub>,
    /// By partition name.
    mounts: HashMap<String, Mount>,
    pub(crate) owners: Owners,
    /// Message files that archive or backup may still ask for.
    pub(crate) aside: Aside,
    /// Where closed segments go, if an archive is configured.
    pub(crate) archive: Option<Taker>,
    /// Mailboxes on their way to another partition.
    pub(crate) relocating: Mutex<HashSet<MailboxId>>,
    /// One backup at a time; and none while a mailbox switches to another partition.
    pub(crate) backup_one: Mutex<()>,
    names: AtomicU64,
    pub(crate) started: Instant,
}

pub(crate) struct SharedStart {
    pub(crate) config: StoreConfig,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) drive: Drive,
    pub(crate) store_id: StoreId,
    pub(crate) owner_epoch: u32,
    pub(crate) unclean_epoch: u32,
    pub(crate) checkpoint: Lsn,
    pub(crate) uid_validity_last: u32,
    pub(crate) log: Log,
    pub(crate) catalog: Catalog,
    pub(crate) mounts: HashMap<String, Mount>,
    pub(crate) aside: Aside,
    pub(crate) archive: Option<Taker>,
}

/// What tells a store's stage names from those of another store on the same partition.
pub(crate) fn stage_mark(store: StoreId) -> String {
    store.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Shared {
    pub(crate) fn new(start: SharedStart) -> Arc<Shared> {
        Arc::new(Shared {
            helpers: match start.drive {
                Drive::Threads | Drive::Inline => HelperPool::new(start.config.helpers),
                Drive::Manual => HelperPool::manual(),
            },
            mendings: Mendings::default(),
            keeper: Keeper::default(),
            searchers: match start.drive {
                Drive::Threads | Drive::Inline => Crew::new(start.config.searchers.max(1)),
                Drive::Manual => Crew::new(0),
            },
            trust: Trust::new(start.config.verified_seconds),
            config: start.config,
            storage: start.storage,
            drive: start.drive,
            store_id: start.store_id,
            owner_epoch: start.owner_epoch,
            unclean_epoch: start.unclean_epoch,
            unsynced: AtomicBool::new(false),
            redoing: AtomicBool::new(false),
            clean: AtomicBool::new(false),
            log: start.log,
            apply: ApplyQueue::default(),
            dirty: Mutex::default(),
            doomed: Mutex::default(),
            names_due: Mutex::default(),
            stalled: Mutex::default(),
            watches: Watches::default(),
            mailboxes: Registry::default(),
            orders: Arc::default(),
            checkpointer: Checkpointer::default(),
            checkpointed: AtomicU64::new(start.checkpoint.0),
            closing: AtomicBool::new(false),
            uid_validity_last: Mutex::new(start.uid_validity_last),
            hand_back: crate::takeover::Due::default(),
            catalog: start.catalog,
            users: Mutex::default(),
            dirty_users: Mutex::default(),
            changed_users: Default::default(),
            gone: Mutex::default(),
            maildrops: Maildrops::default(),
            departed: Mutex::default(),
            tidying: Mutex::default(),
            metadata: Unwritten::default(),
            grants: Grants::default(),
            seens: PrivateSeens::default(),
            events: Arc::new(Hub::new("")),
            mounts: start.mounts,
            owners: Owners::new(start.store_id, start.owner_epoch),
            aside: start.aside,
            archive: start.archive,
            relocating: Mutex::default(),
            backup_one: Mutex::default(),
            names: AtomicU64::new(0),
            started: Instant::now(),
        })
    }

    /// The partition of a name.
    pub(crate) fn partition(&self, name: &str) -> Result<&Partition> {
        let found = self.config.partitions.iter().find(|p| p.name == name);
        found.ok_or_else(|| Error::NoSuchPartition(name.to_owned()))
    }

    /// How the filesystem of a partition is used.
    pub(crate) fn mount(&self, partition: &str) -> Result<&Mount> {
        self.mounts.get(partition).ok_or_else(|| Error::NoSuchPartition(partition.to_owned()))
    }

    /// Whether the directory of a new file on this partition must be synced too.
    pub(crate) fn syncs_names(&self, partition: &str) -> bool {
        self.config.sync_names || self.mount(partition).is_ok_and(|mount| mount.sync_names)
    }

    /// A stage name that no other delivery has or had, be it another store's on the same partition.
    pub(crate) fn stage_name(&self) -> String {
        let n = self.names.fetch_add(1, Ordering::Relaxed);
        format!("cursus.{:x}.{}.{n:x}", self.owner_epoch, stage_mark(self.store_id))
    }

    /// Whether a name is one of [`Shared::stage_name`] from an earlier run.
    pub(crate) fn is_left_staged(&self, name: &[u8]) -> bool {
        let name = std::str::from_utf8(name).ok();
        let epoch = name.and_then(|name| name.strip_prefix("cursus.")?.split('.').next());
        let epoch = epoch.and_then(|epoch| u32::from_str_radix(epoch, 16).ok());
        epoch.is_some_and(|epoch| epoch < self.owner_epoch)
    }

    /// The name of a mailbox's directory among those of all stores on a partition.
    pub(crate) fn own_name(&self, id: MailboxId) -> String {
        format!("{}.{id}", stage_mark(self.store_id))
    }

    /// What makes the next message's file name unique.
    pub(crate) fn unique(&self) -> Unique<'_> {
        let now = self.storage.now_ns().max(0);
        Unique {
            seconds: now / 1_000_000_000,
            micros: (now % 1_000_000_000 / 1000) as u32,
            pid: self.config.process_id,
            counter: self.names.fetch_add(1, Ordering::Relaxed),
            host: &self.config.hostname,
        }
    }

    /// A UIDVALIDITY larger than every one given before and not below the clock.
    pub(crate) fn uid_validity(&self) -> protocol::types::UidValidity {
        let mut last = self.uid_validity_last.lock();
        let clock = self.now_seconds().clamp(1, i64::from(u32::MAX)) as u32;
        *last = clock.max(last.saturating_add(1));
        protocol::types::UidValidity(*last)
    }

    /// Seconds since 1970.
    pub(crate) fn now_seconds(&self) -> i64 {
        self.storage.now_ns() / 1_000_000_000
    }

    /// In the inline drive, does all work that is waiting.
    pub(crate) fn pump(&self) {
        if self.drive == Drive::Inline {
            self.pump_blocked();
        }
    }

    /// For a call that is about to block until work of others is done: does that work where no
    /// threads do it.
    pub(crate) fn pump_blocked(&self) {
        if self.drive == Drive::Threads {
            return;
        }
        let mut retries = INLINE_RETRIES;
        loop {
            let wrote = self.log.write_once();
            let applied = self.apply.try_pop().map(|mailbox| mailbox.run());
            if wrote || applied.is_some() {
                continue;
            }
            if retries == 0 || !self.retry_stalled() {
                return;
            }
            retries -= 1;
        }
    }

    /// Waits for work of others on a thread that may block.
    pub(crate) fn wait_blocking(&self, mut heard: oneshot::Receiver<Result<()>>) -> Result<()> {
        self.pump_blocked();
        match self.drive {
            Drive::Threads => heard.blocking_recv().unwrap_or(Err(Error::Closing)),
            // Nobody else comes back to what stands still.
            Drive::Inline | Drive::Manual => match heard.try_recv() {
                Ok(result) => result,
                Err(oneshot::error::TryRecvError::Empty) => Ok(()),
                Err(oneshot::error::TryRecvError::Closed) => Err(Error::Closing),
            },
        }
    }

    /// Lets go of everything that refers back to the store: after its end.
    pub(crate) fn let_go(&self) {
        for mailbox in self.mailboxes.take_all() {
            let queue = std::mem::take(&mut mailbox.state.lock().queue);
            drop(queue);
        }
        self.users.lock().clear();
        self.dirty.lock().clear();
        self.dirty_users.lock().clear();
        self.names_due.lock().clear();
        self.doomed.lock().clear();
        self.stalled.lock().clear();
        while self.apply.try_pop().is_some() {}
    }

    /// Puts mailboxes whose work failed into the appliers' queue again, if there are any.
    pub(crate) fn retry_stalled(&self) -> bool {
        let stalled = std::mem::take(&mut *self.stalled.lock());
        let any = !stalled.is_empty();
        stalled.iter().for_each(|(mailbox, _)| drop(mailbox.heal()));
        stalled.into_iter().for_each(|(mailbox, _)| mailbox.schedule());
        any
    }

    /// Mends what readers met damaged since the last call.
    pub(crate) fn heal_noted(&self) {
        if !self.trust.take_alarm() {
            return;
        }
        for mailbox in self.mailboxes.all() {
            if mailbox.view().met_damage() {
                mailbox.heal();
            }
        }
    }

    /// Why work stands still, if it does and nobody will come back to it: in the inline drive,
    /// after [`Shared::pump`].
    pub(crate) fn standstill(&self) -> Option<Error> {
        if self.drive != Drive::Inline {
            return None;
        }
        self.stalled.lock().first().map(|(_, error)| error.clone())
    }
}

/// Microseconds since 1970.
pub(crate) fn now_us(storage: &dyn Storage) -> u64 {
    storage.now_ns().max(0) as u64 / 1000
}
