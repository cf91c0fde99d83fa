//! The store: one state directory, its partitions, one process.

mod changed;
mod check;
mod checkpoint;
mod rebuild;
mod recover;
mod redo;
mod registry;
mod scrub;
mod threads;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub(crate) use changed::ChangedUsers;
pub use changed::Moment;
pub use check::CheckReport;
pub(crate) use checkpoint::Checkpointer;
pub(crate) use rebuild::rebuild;
pub(crate) use recover::Replay;
pub(crate) use registry::Registry;
pub use scrub::{ScrubOptions, ScrubProgress, ScrubReport};

use crate::archive::{self, ArchiveStatus, BackupOptions, BackupProgress, BackupReport};
use crate::catalog::StoredUser;
use crate::config::StoreConfig;
use crate::error::{Error, Result};
use crate::io::{HelperPool, Storage};
use crate::log::LogStatus;
use crate::namespace::Namespace;
use crate::shared::{Drive, Shared, Turn};
use crate::user::{User, UserInner, UserOptions};
use threads::Threads;

/// How long a stop works on what waits for the archive.
const ARCHIVE_STOP_WAIT: Duration = Duration::from_secs(10);

/// A running store. Cheap to clone; the last one to go does not close it: call
/// [`Store::close`].
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

struct Running {
    threads: Mutex<Option<Threads>>,
    /// Keeps other processes out.
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
    recovered: u64,
    damage: Vec<String>,
}

/// Figures for people and monitors.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StoreStatus {
    /// 32 hexadecimal digits.
    pub store_id: String,
    /// Rises with every start.
    pub owner_epoch: u32,
    /// Since this start.
    pub uptime_seconds: u64,
    /// The commit log.
    pub log: LogStatus,
    /// Bytes that only the log holds.
    pub log_bytes: u64,
    /// Mailboxes in memory.
    pub mailboxes_open: usize,
    /// Mailboxes let go since this start, to stay within the limits.
    pub mailboxes_evicted: u64,
    /// Bytes of their mapped files.
    pub mapped_bytes: u64,
    /// Bytes of the orders and threads that SORT and THREAD are answered from when asked again.
    pub orders_bytes: usize,
    /// Users in memory.
    pub users_open: usize,
    /// Mailboxes changed since the last checkpoint.
    pub mailboxes_dirty: usize,
    /// Checkpoints since this start.
    pub checkpoints: u64,
    /// How long the last one took, milliseconds.
    pub checkpoint_ms: u64,
    /// Transactions that this start redid.
    pub recovered: u64,
    /// Damage that this start met in the log.
    pub damage: Vec<String>,
    /// The archive, if one is configured.
    pub archive: Option<ArchiveStatus>,
    /// Damaged records that were mended since this start.
    pub mended: u64,
    /// Damaged records that could not be.
    pub unmended: u64,
}

impl Store {
    /// Takes the store's lock, recovers, starts. Blocks.
    pub fn open(config: StoreConfig, storage: Arc<dyn Storage>, drive: Drive) -> Result<Store> {
        recover::open(config, storage, drive)
    }

    /// Makes everything durable in files, empties the log, gives the lock back. Blocks. Changes
    /// that come later fail with [`Error::Closing`].
    pub fn close(&self) -> Result<()> {
        let Some(lock) = self.running.lock.lock().take() else { return Ok(()) };
        let shared = &self.shared;
        shared.stop_keeper();
        shared.log.close();
        shared.pump_blocked();
        let threads = self.running.threads.lock().take();
        let stopped = match threads {
            Some(threads) => threads.stop(shared),
            None => {
                shared.finish_names();
                Ok(())
            }
        };
        shared.watches.stop_lingering();
        shared.hand_back_all();
        let result = stopped.and_then(|()| shared.last_checkpoint());
        if let (Some(archive), Ok(())) = (&shared.archive, &result) {
            // What the archive does not take now it takes after the next start.
            let _ = archive.turn(shared, Some(Instant::now() + ARCHIVE_STOP_WAIT));
        }
        shared.closing.store(true, Ordering::Release);
        shared.let_go();
        shared.give_copies_back();
        shared.owners.release();
        drop(lock);
        result
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Does a piece of the store's own work where nobody else does ([`Drive::Manual`]). Returns
    /// whether there was some.
    pub fn turn(&self, turn: Turn) -> bool {
        let shared = &self.shared;
        match turn {
            Turn::Log => shared.log.write_once(),
            Turn::Apply => shared.apply.try_pop().map(|mailbox| mailbox.run()).is_some(),
            Turn::Helper => shared.helpers.run_one(),
            Turn::Names => {
                let due = !shared.names_due.lock().is_empty();
                shared.follow_names();
                due
            }
            Turn::Retry => shared.retry_stalled(),
        }
    }

    /// Threads for blocking calls.
    pub fn helpers(&self) -> &HelperPool {
        &self.shared.helpers
    }

    /// Settings.
    pub fn config(&self) -> &StoreConfig {
        &self.shared.config
    }

    /// Figures for people and monitors.
    pub fn status(&self) -> StoreStatus {
        let shared = &self.shared;
        let (checkpoints, checkpoint_ms) = shared.checkpointer.figures();
        let (mapped_bytes, mailboxes_evicted) = shared.mailboxes.figures();
        StoreStatus {
            store_id: shared.store_id.to_string(),
            owner_epoch: shared.owner_epoch,
            uptime_seconds: shared.started.elapsed().as_secs(),
            log: shared.log.status(),
            log_bytes: shared.log.bytes_used(),
            mailboxes_open: shared.mailboxes.len(),
            mailboxes_evicted,
            mapped_bytes,
            orders_bytes: shared.orders.bytes(),
            users_open: shared.users.lock().len(),
            mailboxes_dirty: shared.dirty.lock().len(),
            checkpoints,
            checkpoint_ms,
            recovered: self.running.recovered,
            damage: self.running.damage.clone(),
            archive: self.archive_status(),
            mended: shared.mendings.mended.load(Ordering::Relaxed),
            unmended: shared.mendings.left.load(Ordering::Relaxed),
        }
    }

    /// The last mendings since this start, a line each: directory, file, message, what was wrong,
    /// what it was mended from. The log has all of them.
    pub fn mendings(&self) -> Vec<String> {
        self.shared.mendings.lines()
    }

    /// Reads every message and compares it, and every record about it, with what was stored.
    /// `progress` hears about every second, and says whether to go on.
    pub async fn scrub(
        &self,
        options: ScrubOptions,
        progress: impl FnMut(&ScrubProgress) -> bool + Send + 'static,
    ) -> Result<ScrubReport> {
        let shared = self.shared.clone();
        self.shared.pump();
        let job = move || scrub::scrub(&shared, &options, Box::new(progress));
        let report = self.shared.helpers.run(job).await.map_err(|_| Error::Closing)?;
        self.shared.pump();
        report
    }

    /// A user's namespace; made, with an INBOX, at first use.
    pub async fn user(&self, name: &str, options: &UserOptions) -> Result<User> {
        let known = self.shared.users.lock().get(name).cloned();
        known
            .iter()
            .for_each(|user| user.used.store(self.shared.mailboxes.now(), Ordering::Relaxed));
        // One that another caller is just beginning has no INBOX yet.
        if let Some(user) = known.filter(|user| user.has_begun()) {
            let user = User(user);
            user.set_options(options);
            return Ok(user);
        }
        self.shared.log.room().await;
        let (shared, name, given) = (self.shared.clone(), name.to_owned(), options.clone());
        let job = move || shared.load_user(&name, given.partition.as_deref());
        let user = self.shared.helpers.run(job).await.map_err(|_| Error::Closing)??;
        let user = User(user);
        user.set_options(options);
        // Whose limits count is known only now.
        if user.is_in_maildir() {
            user.tend_maildirsize(false).await;
        }
        Ok(user)
    }

    /// Whether a user has mailboxes here.
    pub async fn has_user(&self, name: &str) -> Result<bool> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        let job = move || {
            // In this order: what memory lets go is in the catalog.
            let known = shared.users.lock().get(&name).map(|user| user.has_begun());
            known.map_or_else(|| shared.catalog.has_user(&name), Ok)
        };
        self.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }

    /// What these users have, each as of now; those who have nothing are left out. Brings nobody
    /// into memory.
    pub async fn namespaces(&self, names: Vec<String>) -> Result<Vec<(String, Arc<Namespace>)>> {
        let shared = self.shared.clone();
        let job = move || {
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                // In this order: what memory lets go is in the catalog.
                let known = shared.users.lock().get(&name).map(|user| user.namespace.load_full());
                let namespace = match known {
                    Some(namespace) => Some(namespace),
                    None => shared.catalog.user(&name)?.map(|stored| Arc::new(stored.namespace)),
                };
                let there = namespace.filter(|namespace| !namespace.mailboxes.is_empty());
                found.extend(there.map(|namespace| (name, namespace)));
            }
            Ok(found)
        };
        self.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }

    /// Names of all users that have mailboxes, in order.
    pub async fn users(&self) -> Result<Vec<String>> {
        let shared = self.shared.clone();
        let job = move || shared.all_users();
        self.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }

    /// One checkpoint now.
    pub async fn checkpoint(&self) -> Result<()> {
        let shared = self.shared.clone();
        self.shared.pump();
        self.shared.helpers.run(move || shared.checkpoint()).await.map_err(|_| Error::Closing)?
    }

    /// How the archive is; `None` where none is configured.
    pub fn archive_status(&self) -> Option<ArchiveStatus> {
        self.shared.archive.as_ref().map(|archive| archive.status(&self.shared))
    }

    /// Closes the current segment, however old it is, and takes what waits to the archive. Returns
    /// whether nothing waits any more.
    ///
    /// # Errors
    /// What the archive says. It is tried again by itself; mail does not wait for it.
    pub async fn archive_now(&self) -> Result<bool> {
        if self.shared.archive.is_none() {
            return Err(Error::NotAllowed("no archive is configured"));
        }
        // A segment is closed only when all of it is in files.
        self.checkpoint().await?;
        let shared = self.shared.clone();
        let job = move || match &shared.archive {
            None => Ok(true),
            Some(archive) => {
                shared.log.close_now()?;
                archive.turn(&shared, None)
            }
        };
        self.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }

    /// Makes a base backup while the store serves. One at a time; blocks the calling thread.
    ///
    /// # Errors
    /// Nothing that an unfinished backup wrote counts as a backup; a later one uses its messages.
    pub fn backup(
        &self,
        options: &BackupOptions,
        progress: &BackupProgress,
    ) -> Result<BackupReport> {
        archive::backup(&self.shared, options, progress)
    }

    /// Compares indexes with files: all users, or one.
    pub async fn check(&self, user: Option<&str>) -> Result<CheckReport> {
        let (shared, user) = (self.shared.clone(), user.map(str::to_owned));
        self.shared.pump();
        let job = move || check::check(&shared, user.as_deref());
        self.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }
}

impl Shared {
    pub(crate) fn all_users(&self) -> Result<Vec<String>> {
        let known: Vec<(String, bool)> = {
            let users = self.users.lock();
            users.iter().map(|(name, user)| (name.clone(), user.has_begun())).collect()
        };
        let mut users: BTreeSet<String> = self.catalog.users()?.into_iter().collect();
        for (name, begun) in known {
            match begun {
                true => users.insert(name),
                // Removed, or just being begun.
                false => users.remove(&name),
            };
        }
        Ok(users.into_iter().collect())
    }

    /// A user from memory or catalog, begun when there is none and `partition` may be used.
    pub(crate) fn load_user(
        self: &Arc<Self>,
        name: &str,
        partition: Option<&str>,
    ) -> Result<Arc<UserInner>> {
        let user = self.known_user(name)?;
        if !user.has_begun() {
            self.tidy_one(name)?;
            user.begin(partition.unwrap_or(&self.config.partition_default))?;
        }
        user.look_at_account()?;
        Ok(user)
    }

    /// A user from memory or catalog; one that is in neither has an empty namespace.
    pub(crate) fn known_user(self: &Arc<Self>, name: &str) -> Result<Arc<UserInner>> {
        if let Some(user) = self.users.lock().get(name) {
            return Ok(user.clone());
        }
        let stored = self.catalog.user(name)?.unwrap_or_else(|| StoredUser {
            namespace: Namespace {
                partition: self.config.partition_default.clone(),
                ..Namespace::default()
            },
            in_rows: true,
        });
        let ids: Vec<_> = stored.namespace.mailboxes.values().map(|entry| entry.id).collect();
        let mut all = (0, 0);
        for numbers in self.catalog.summaries(ids.iter().copied())?.into_iter().flatten() {
            all.0 += numbers.messages;
            all.1 += numbers.bytes;
        }
        let annotation_bytes = self.annotation_bytes_of(&ids)?;
        let fresh = UserInner::new(self.clone(), name, stored, (all, annotation_bytes));
        fresh.regroup()?;
        fresh.limit();
        let user = self.users.lock().entry(name.to_owned()).or_insert(fresh).clone();
        user.used.store(self.mailboxes.now(), Ordering::Relaxed);
        self.make_room();
        Ok(user)
    }
}
