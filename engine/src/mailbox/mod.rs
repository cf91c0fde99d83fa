//! A mailbox while the store runs: allocation in memory, changes through the log, files brought
//! up to date by the appliers, views published to sessions.
//!
//! Three locks, taken in this order and never over an await:
//! - `files`: held by whoever touches the files (applier, rescan, rename, checkpoint);
//! - `state`: memory only; UIDs, MODSEQs and the queue, so that log order is queue order;
//! - the log's own lock, inside [`crate::log::Log::push`].
//!
//! Invariants: items are applied in push order; a change is visible to other sessions only after
//! it is durable and applied (what [`Mailbox::store_early`] answers before that is told to its
//! caller alone); an UID or MODSEQ handed to a failed change is burnt.

pub(crate) mod apply;
mod bases;
mod cold;
mod compact;
mod copy;
pub(crate) mod damage;
pub(crate) mod doubles;
mod early;
pub(crate) mod events;
pub(crate) mod files;
mod foreign;
pub(crate) mod heal;
mod inspect;
mod intake;
mod kept;
mod keywords;
mod latest;
mod message;
mod names;
mod numbers;
pub(crate) mod opening;
mod ops;
mod order;
pub(crate) mod placing;
mod pour;
mod promise;
pub(crate) mod rescan;
mod search;
mod sweep;
mod tombs;
mod transplant;
mod tx;
mod vanished;
mod view;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use protocol::types::{ModSeq, Uid, UidValidity};
use tokio::sync::{oneshot, watch};

pub(crate) use copy::set_name_flags;
pub use copy::{Carried, CarriedAnnotations, Copied};
pub use early::Answered;
pub use keywords::KeywordTable;
pub(crate) use message::line_ends as message_line_ends;
pub use message::{ExtrasBlob, MessageFile, ServedReader};
pub use numbers::UID_VALIDITY_GIVEN_MAX;
pub(crate) use ops::ranges;
pub use ops::{StoreMode, StoreOutcome, StoreRequest};
pub use order::Sorted;
pub(crate) use pour::pour;
pub(crate) use promise::Wants;
pub use promise::{FirstLook, Promised};
pub use search::Matched;
pub(crate) use tx::{Item, Tx};
pub use vanished::SeqMatch;
pub(crate) use view::RecentChanges;
pub use view::{Changes, ExtrasPart, ExtrasRef, Records, View};

use crate::annotation::Notes;
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::events::Hub;
use crate::fulltext::MailboxIndex;
use crate::ids::{Lsn, MailboxId};
use crate::order::Shelf;
use crate::owner::Owner;
use crate::quota::Share;
use crate::seen::Touches;
use crate::shared::Shared;
use crate::takeover::Copy;
use files::Files;
pub(crate) use latest::{Latest, LatestFlags};

/// Where a mailbox's files are. Changes by RENAME, under the file lock.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) partition: Partition,
    pub(crate) dir: PathBuf,
}

/// What changes under the state lock.
pub(crate) struct State {
    pub(crate) uid_next: Uid,
    pub(crate) modseq_last: ModSeq,
    pub(crate) keywords: Arc<KeywordTable>,
    /// The names that are in the files. Bits behind them are named in every transaction that uses
    /// them: an earlier one that did so may turn out void.
    pub(crate) keywords_filed: Arc<KeywordTable>,
    pub(crate) latest: LatestFlags,
    pub(crate) queue: VecDeque<Item>,
    /// Changes that were answered before they are durable.
    pub(crate) early: early::Early,
    /// In the apply queue, or being worked on.
    pub(crate) scheduled: bool,
    /// A rescan was asked for; who waits for its end.
    pub(crate) rescan: Option<Vec<oneshot::Sender<Result<()>>>>,
    /// Frames of a rescan that are not applied yet: no second one before they are.
    pub(crate) rescan_frames: u32,
    /// UIDs that were told before their messages are here.
    naming: promise::Naming,
    /// Deleted: takes no further change.
    pub(crate) gone: bool,
    /// On its way to another partition: takes no change for now.
    pub(crate) moving: bool,
}

pub(crate) struct MailboxInner {
    pub(crate) id: MailboxId,
    /// UIDVALIDITY. Changes only at the first look at what an old server did, before anybody has the
    /// mailbox (see [`crate::takeover`]), and while nothing was stored in it (see `numbers`).
    pub(crate) uid_validity: AtomicU32,
    /// Whether that look has been.
    pub(crate) looked: AtomicBool,
    pub(crate) shared: Arc<Shared>,
    /// Where it counts.
    pub(crate) share: Share,
    /// Tells the owner's listeners.
    pub(crate) events: Arc<Hub>,
    /// Where other hosts could open the same mail: the right to change it.
    owner: Option<Arc<Owner>>,
    pub(crate) place: RwLock<Place>,
    pub(crate) state: Mutex<State>,
    pub(crate) files: Mutex<Files>,
    view: ArcSwap<view::ViewInner>,
    pub(crate) recent: Arc<Mutex<RecentChanges>>,
    /// MODSEQs of changes that were answered and then failed; for [`View::was_reverted`].
    pub(crate) reverted: Arc<Mutex<early::Reverted>>,
    /// MODSEQs of changes of users' own `\Seen` and annotations.
    pub(crate) touches: Mutex<Touches>,
    /// Entries of annotations that changed lately.
    pub(crate) notes: Mutex<Notes>,
    /// Whether a message may have annotations.
    pub(crate) annotated: AtomicBool,
    recent_uid: AtomicU32,
    version: watch::Sender<u64>,
    /// Directory times and the like of the last look at a foreign-writable directory.
    pub(crate) foreign: Mutex<foreign::Foreign>,
    /// Held from the reading of Courier's list of UIDLs until it is written.
    pub(crate) size_list: Mutex<()>,
    /// UIDs whose file names should follow their flags.
    pub(crate) names_due: Mutex<names::NamesDue>,
    /// Of these, those whose change of flags a checkpoint covers already: see
    /// [`MailboxInner::follow_flags`].
    names_late: Mutex<BTreeSet<Uid>>,
    /// Doomed tombstones whose files are still there.
    pub(crate) doomed: Mutex<HashSet<Uid>>,
    /// UIDs that frames since the last checkpoint name as a source.
    pub(crate) pinned: Mutex<HashMap<Uid, Lsn>>,
    /// Sessions that watch; one more while it lingers: see [`crate::watch::Watches::linger`].
    watchers: AtomicU32,
    lingers: AtomicBool,
    /// When somebody last asked for it: see [`crate::store::Registry`].
    pub(crate) used: AtomicU64,
    pub(crate) deleted: AtomicBool,
    /// That it is a copy of a shared folder.
    pub(crate) copy: Option<Copy>,
    /// Its full-text index.
    pub(crate) index: MailboxIndex,
    /// Orders and threads of all its messages.
    pub(crate) kept: Shelf,
}

/// An open mailbox. Cheap to clone; stays usable, read-only, after its deletion.
#[derive(Clone)]
pub struct Mailbox(pub(crate) Arc<MailboxInner>);

/// STATUS of a mailbox.
#[derive(Clone, Debug, serde::Serialize)]
pub struct MailboxStatus {
    /// MESSAGES
    pub messages: u32,
    /// RECENT: not yet claimed by a session.
    pub recent: u32,
    /// UNSEEN
    pub unseen: u32,
    /// DELETED
    pub deleted: u32,
    /// DELETED-STORAGE, served octets; `None` unless asked for ([`crate::User::deleted_bytes`]).
    pub deleted_bytes: Option<u64>,
    /// SIZE, served octets.
    pub bytes: u64,
    /// UIDNEXT
    #[serde(serialize_with = "number")]
    pub uid_next: Uid,
    /// UIDVALIDITY
    #[serde(serialize_with = "validity")]
    pub uid_validity: UidValidity,
    /// HIGHESTMODSEQ
    #[serde(serialize_with = "modseq")]
    pub modseq_highest: ModSeq,
    /// MAILBOXID
    #[serde(serialize_with = "id")]
    pub id: MailboxId,
    /// MAILBOXID as clients are told; `None` unless asked for ([`Namespace::object_id`]).
    ///
    /// [`Namespace::object_id`]: crate::Namespace::object_id
    #[serde(skip)]
    pub object_id: Option<String>,
}

fn number<S: serde::Serializer>(v: &Uid, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u32(v.0)
}
fn validity<S: serde::Serializer>(v: &UidValidity, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u32(v.0)
}
fn modseq<S: serde::Serializer>(v: &ModSeq, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(v.0)
}
fn id<S: serde::Serializer>(v: &MailboxId, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(v)
}

impl MailboxInner {
    /// A mailbox over its opened files; `annotated`: some message may have annotations.
    pub(crate) fn new(
        shared: Arc<Shared>,
        share: Share,
        events: Arc<Hub>,
        owner: Option<Arc<Owner>>,
        (id, annotated): (MailboxId, bool),
        place: Place,
        files: Files,
    ) -> Arc<MailboxInner> {
        let head = &files.head;
        let recent = Arc::new(Mutex::new(RecentChanges::new(head.modseq_highest)));
        let reverted = Arc::default();
        let view = files.view(&recent, &reverted);
        let names_differ = head.names_differ;
        let copy = files.is_copy.then(Copy::default);
        let inner = Arc::new(MailboxInner {
            id,
            uid_validity: AtomicU32::new(head.uid_validity.0),
            looked: AtomicBool::new(false),
            state: Mutex::new(State {
                uid_next: head.uid_next,
                modseq_last: head.modseq_highest,
                keywords: files.keywords().clone(),
                keywords_filed: files.keywords().clone(),
                latest: LatestFlags::default(),
                queue: VecDeque::new(),
                early: early::Early::default(),
                scheduled: false,
                rescan: None,
                rescan_frames: 0,
                naming: promise::Naming::default(),
                gone: false,
                moving: false,
            }),
            touches: Mutex::default(),
            notes: Mutex::default(),
            annotated: AtomicBool::new(annotated),
            recent_uid: AtomicU32::new(head.recent_uid.0),
            foreign: Mutex::new(foreign::Foreign::from_head(head)),
            size_list: Mutex::default(),
            share,
            events,
            owner,
            place: RwLock::new(place),
            files: Mutex::new(files),
            view: ArcSwap::new(view),
            recent,
            reverted,
            version: watch::Sender::new(0),
            names_due: Mutex::default(),
            names_late: Mutex::default(),
            doomed: Mutex::default(),
            pinned: Mutex::default(),
            watchers: AtomicU32::new(0),
            lingers: AtomicBool::new(false),
            used: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            copy,
            index: MailboxIndex::default(),
            kept: Shelf::default(),
            shared,
        });
        if names_differ {
            inner.find_differing_names();
        }
        inner
    }

    /// UIDVALIDITY.
    pub(crate) fn uid_validity(&self) -> UidValidity {
        UidValidity(self.uid_validity.load(Ordering::Acquire))
    }

    /// Fails when another host has taken the user's mail over.
    pub(crate) fn check_owner(&self) -> Result<()> {
        self.owner.as_ref().map_or(Ok(()), |owner| owner.check())
    }

    /// The newest view.
    pub(crate) fn view(&self) -> View {
        View(self.view.load_full(), None)
    }

    /// Makes the files' state visible and wakes whoever watches. Under the file lock.
    pub(crate) fn publish(&self, files: &Files) {
        self.view.store(files.view(&self.recent, &self.reverted));
        self.version.send_modify(|version| *version += 1);
    }

    /// Wakes watchers without a new view: the mailbox is gone.
    pub(crate) fn wake(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Puts the mailbox into the appliers' queue unless it is there.
    pub(crate) fn schedule(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if !state.scheduled {
            state.scheduled = true;
            drop(state);
            self.shared.apply.push(self.clone());
        }
    }

    pub(crate) fn mark_dirty(self: &Arc<Self>) {
        let mut dirty = self.shared.dirty.lock();
        // Of a deleted one nothing is to be kept.
        if !self.deleted.load(Ordering::Acquire) {
            dirty.insert(self.id, self.clone());
        }
    }

    pub(crate) fn recent_uid(&self) -> Uid {
        Uid(self.recent_uid.load(Ordering::Acquire))
    }

    /// The header's numbers that live in atomics while the mailbox is open.
    pub(crate) fn fold_into_head(&self, files: &mut Files) {
        files.head.recent_uid = self.recent_uid();
        files.head.names_differ = self.names_stay_behind(files);
        self.foreign.lock().fold_into_head(&mut files.head);
    }

    /// Whether changes by other programs are looked for all the time.
    pub(crate) fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Acquire) > 0
    }

    /// Whether it is watched, and not for a session.
    pub(crate) fn only_lingers(&self) -> bool {
        self.lingers.load(Ordering::Acquire) && self.watchers.load(Ordering::Acquire) == 1
    }

    /// Whether it stays watched without a session.
    pub(crate) fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Acquire)
    }

    /// Counts as watched from here on. Returns whether the watch has to be made; `None` when it
    /// lingers already.
    pub(crate) fn begin_lingering(&self) -> Option<bool> {
        let begins = !self.lingers.swap(true, Ordering::AcqRel);
        begins.then(|| self.watchers.fetch_add(1, Ordering::AcqRel) == 0)
    }

    /// Ends that. Returns whether nobody watches any more.
    pub(crate) fn end_lingering(&self) -> bool {
        self.lingers.swap(false, Ordering::AcqRel)
            && self.watchers.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether nothing but the registry needs the mailbox in memory. Does not wait for locks: a
    /// mailbox whose locks are taken is not idle.
    pub(crate) fn is_idle(&self) -> bool {
        let quiet = |state: parking_lot::MutexGuard<'_, State>| {
            state.queue.is_empty() && !state.scheduled && state.rescan.is_none()
        };
        self.state.try_lock().is_some_and(quiet)
            && self.names_due.try_lock().is_some_and(|due| due.is_empty())
            && self.doomed.try_lock().is_some_and(|doomed| doomed.is_empty())
            && (!self.is_watched() || self.only_lingers())
    }
}

impl Mailbox {
    /// What it is, whatever its name.
    pub fn id(&self) -> MailboxId {
        self.0.id
    }

    /// UIDVALIDITY.
    pub fn uid_validity(&self) -> UidValidity {
        self.0.uid_validity()
    }

    /// The newest published message list.
    pub fn view(&self) -> View {
        self.0.view()
    }

    /// A view that tells of every change up to `modseq`, which a record has already: records are
    /// changed some time before the view that tells of it.
    pub async fn view_at(&self, modseq: ModSeq) -> View {
        let view = self.view();
        if view.modseq_highest() >= modseq {
            return view;
        }
        let inner = self.0.clone();
        // Who changes records has the files' lock until the view is there.
        let published = move || {
            drop(inner.files.lock());
            inner.view()
        };
        self.0.shared.helpers.run(published).await.unwrap_or(view)
    }

    /// Whether the mailbox was deleted.
    pub fn is_gone(&self) -> bool {
        self.0.deleted.load(Ordering::Acquire)
    }

    /// UIDs at or above the one returned, as far as `view` reaches, are `\Recent` for this
    /// session. A read-write session claims them.
    pub fn claim_recent(&self, view: &View, read_write: bool) -> Uid {
        if read_write {
            let next = view.uid_next().0;
            let before = self.0.recent_uid.fetch_max(next, Ordering::AcqRel);
            if before < next {
                self.0.mark_dirty();
            }
            Uid(before)
        } else {
            self.0.recent_uid()
        }
    }

    /// STATUS from the newest view.
    pub fn status(&self) -> MailboxStatus {
        let view = self.view();
        let recent_from = self.0.recent_uid();
        let first = view.lower_bound(recent_from);
        let recent = view.seqs_from(first);
        MailboxStatus {
            messages: view.exists(),
            recent,
            unseen: view.unseen(),
            deleted: view.deleted(),
            deleted_bytes: None,
            bytes: view.bytes(),
            uid_next: view.uid_next(),
            uid_validity: view.uid_validity(),
            modseq_highest: view.modseq_highest(),
            id: self.id(),
            object_id: None,
        }
    }

    /// Hears of newer views. While a watcher lives, changes by other programs are looked for.
    pub fn watch(&self) -> Watcher {
        if self.0.watchers.fetch_add(1, Ordering::AcqRel) == 0 {
            self.0.shared.watches.add(&self.0);
        }
        Watcher { changes: self.0.version.subscribe(), mailbox: self.clone() }
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_gone() { Err(Error::MailboxGone) } else { Ok(()) }
    }
}

/// Hears when a newer view of a mailbox is published.
pub struct Watcher {
    changes: watch::Receiver<u64>,
    mailbox: Mailbox,
}

impl Watcher {
    /// Returns when a view was published since the last call. Cancel-safe.
    pub async fn changed(&mut self) {
        // The sender lives in the mailbox that this watcher holds.
        let _ = self.changes.changed().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if self.mailbox.0.watchers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.mailbox.0.shared.watches.remove(&self.mailbox.0);
        }
    }
}

/// Awaits the end of a transaction, doing the work itself in the inline drive.
pub(crate) async fn settle(shared: &Shared, heard: oneshot::Receiver<Result<()>>) -> Result<()> {
    shared.pump();
    let mut heard = heard;
    if let Some(error) = shared.standstill() {
        // Told already, or durable but for now not in the files.
        return heard.try_recv().unwrap_or(Err(error));
    }
    heard.await.unwrap_or(Err(Error::Closing))
}
