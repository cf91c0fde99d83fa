//! The thread that brings indexes up to date, and what searches and operators ask of an index.
//!
//! Mailboxes are queued by checkpoints and by searches that met messages without an index. The
//! thread works through them one by one, at the lowest priority, reading each message once.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex};

use super::build::Batch;
use super::segment::{Cover, Owner, Writer};
use super::shelf::{Shelf, drop_file, merge_neighbours, verdicts};
use super::tokens::Cutter;
use super::{IndexConfig, IndexMode};
use crate::error::{Error, Result};
use crate::ids::MailboxId;
use crate::io::Kind;
use crate::mailbox::{Mailbox, MailboxInner, View};
use crate::search::{Leaf, Program, Text};
use crate::shared::Shared;

/// What thread lists show.
const THREAD_NAME: &str = "cursus-index";
/// It stands back behind everything else.
const NICENESS: i32 = 19;
/// Mailboxes that wait; more are found again at the next checkpoint or search.
const QUEUE_MAX: usize = 10_000;
/// Damaged segments that one search drops before it does without the index.
const DAMAGE_MAX: usize = 16;

/// The index of one open mailbox; opened at first use.
#[derive(Default)]
pub(crate) struct MailboxIndex {
    shelf: Mutex<Option<Shelf>>,
    /// Held by whoever writes segments.
    building: Mutex<()>,
}

/// How far the index of a mailbox is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct IndexStatus {
    /// Files.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Messages in them, some of which may be gone.
    pub messages: usize,
    /// Terms, counted in each file.
    pub terms: u64,
    /// Messages of the mailbox that are searched without an index.
    pub uncovered: usize,
}

/// The queue and its thread.
#[derive(Default)]
pub(crate) struct Keeper {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Weak<MailboxInner>>,
    /// Indexes of mailboxes that were deleted.
    doomed: Vec<MailboxId>,
    busy: bool,
    started: bool,
    closing: bool,
}

fn dir_of(config: &IndexConfig, id: MailboxId) -> PathBuf {
    let name = id.to_string();
    config.dir.join(&name[..2]).join(name)
}

impl Shared {
    /// Has the thread look whether a mailbox's index is up to date.
    pub(crate) fn index_soon(self: &Arc<Self>, mailbox: &Arc<MailboxInner>) {
        if self.config.index.mode == IndexMode::Off {
            return;
        }
        let mut state = self.keeper.state.lock();
        let known = state.queue.iter().any(|weak| weak.as_ptr() == Arc::as_ptr(mailbox));
        if !known && state.queue.len() < QUEUE_MAX {
            state.queue.push_back(Arc::downgrade(mailbox));
        }
        self.start_keeper(&mut state);
    }

    /// Has the index of a deleted mailbox removed.
    pub(crate) fn forget_index(self: &Arc<Self>, id: MailboxId) {
        if self.config.index.mode == IndexMode::Off {
            return;
        }
        let mut state = self.keeper.state.lock();
        state.doomed.push(id);
        self.start_keeper(&mut state);
    }

    fn start_keeper(self: &Arc<Self>, state: &mut State) {
        self.keeper.wake.notify_all();
        if state.started || state.closing {
            return;
        }
        let shared = Arc::downgrade(self);
        let builder = std::thread::Builder::new().name(THREAD_NAME.to_owned());
        match builder.spawn(move || run(&shared)) {
            Ok(_) => state.started = true,
            Err(error) => tracing::error!(%error, "cannot start the thread of the full-text index"),
        }
    }

    /// Ends the thread after what it is doing.
    pub(crate) fn stop_keeper(&self) {
        let mut state = self.keeper.state.lock();
        state.closing = true;
        state.queue.clear();
        self.keeper.wake.notify_all();
        while state.busy {
            self.keeper.wake.wait(&mut state);
        }
    }

    fn erase_index(&self, id: MailboxId) {
        let dir = dir_of(&self.config.index, id);
        let mut names = Vec::new();
        let _ = self.storage.list(&dir, &mut |name, _| {
            names.push(String::from_utf8_lossy(name).into_owned());
        });
        for name in names {
            let _ = self.storage.unlink(&dir.join(name));
        }
        let _ = self.storage.remove_dir(&dir);
    }

    /// Removes the indexes of mailboxes that are no longer there: those deleted while no index was
    /// kept, or just before a crash.
    fn erase_orphans(self: &Arc<Self>) -> Result<()> {
        let mut found: HashSet<String> = HashSet::new();
        let root = &self.config.index.dir;
        let directories = |dir: &Path| {
            let mut names = Vec::new();
            let _ = self.storage.list(dir, &mut |name, kind| {
                if kind == Kind::Directory {
                    names.push(String::from_utf8_lossy(name).into_owned());
                }
            });
            names
        };
        for prefix in directories(root) {
            found.extend(directories(&root.join(prefix)));
        }
        if found.is_empty() {
            return Ok(());
        }
        for user in self.all_users()? {
            let user = self.known_user(&user)?;
            for entry in user.namespace.load().mailboxes.values() {
                found.remove(&entry.id.to_string());
            }
        }
        for name in found {
            // Anything else in there is not ours.
            if let Some(id) = MailboxId::parse(&name) {
                self.erase_index(id);
            }
        }
        Ok(())
    }
}

fn run(shared: &Weak<Shared>) {
    // Refused in some sandboxes; then it competes with the others.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    if let Some(shared) = shared.upgrade()
        && let Err(error) = shared.erase_orphans()
    {
        tracing::warn!(%error, "cannot look for full-text indexes of deleted mailboxes");
    }
    loop {
        // The store outlives its queue: it is closed before it goes.
        let Some(shared) = shared.upgrade() else { return };
        let (mailbox, doomed) = {
            let mut state = shared.keeper.state.lock();
            loop {
                if state.closing {
                    return;
                }
                let doomed = std::mem::take(&mut state.doomed);
                let mailbox = state.queue.pop_front();
                if mailbox.is_some() || !doomed.is_empty() {
                    state.busy = true;
                    break (mailbox, doomed);
                }
                shared.keeper.wake.wait(&mut state);
            }
        };
        doomed.into_iter().for_each(|id| shared.erase_index(id));
        if let Some(mailbox) = mailbox.and_then(|weak| weak.upgrade())
            && !mailbox.deleted.load(Ordering::Acquire)
            && let Err(error) = mailbox.bring_index_up_to_date(shared.config.index.messages_min)
        {
            tracing::warn!(mailbox = %mailbox.id, %error, "cannot write the full-text index");
        }
        shared.keeper.state.lock().busy = false;
        shared.keeper.wake.notify_all();
    }
}

impl MailboxInner {
    fn index_owner(&self) -> Owner {
        let (store, mailbox) = (self.shared.store_id, self.id);
        Owner { store, mailbox, uid_validity: self.uid_validity() }
    }

    /// Calls `f` with the shelf, which is opened if need be.
    fn with_shelf<R>(&self, view: &View, f: impl FnOnce(&mut Shelf) -> R) -> R {
        let mut shelf = self.index.shelf.lock();
        let opened = shelf.get_or_insert_with(|| {
            let dir = dir_of(&self.shared.config.index, self.id);
            Shelf::open(&*self.shared.storage, &dir, self.index_owner(), view)
        });
        f(opened)
    }

    /// Asks the index, if there is one, what it knows of a search; blocks.
    pub(crate) fn ask_index(self: &Arc<Self>, view: &View, program: &mut Program) {
        let config = &self.shared.config.index;
        if config.mode == IndexMode::Off || !program.leaves().iter().any(Leaf::can_ask) {
            return;
        }
        // The newest view tells which UIDs there may be; `view` may be older.
        let (segments, (_, missing)) =
            self.with_shelf(&self.view(), |shelf| (shelf.segments().to_vec(), shelf.gap(view)));
        if missing >= config.messages_min {
            self.shared.index_soon(self);
        }
        let mut segments = segments;
        for _ in 0..DAMAGE_MAX {
            if segments.is_empty() {
                return;
            }
            match verdicts(&segments, view, program.leaves()) {
                Ok(verdicts) => return program.narrow(verdicts),
                Err(error) => {
                    let path = match &error {
                        Error::Corrupt { path, .. } | Error::Io { path, .. } => path.clone(),
                        _ => return tracing::warn!(%error, "searching without the full-text index"),
                    };
                    drop_file(&*self.shared.storage, &path, &error);
                    self.with_shelf(view, |shelf| shelf.remove(&*self.shared.storage, &path));
                    segments.retain(|segment| segment.path != path);
                    self.shared.index_soon(self);
                }
            }
        }
    }

    /// Writes segments for what no segment covers, where that are `messages_min` at least, and
    /// merges small ones. Blocks.
    pub(crate) fn bring_index_up_to_date(self: &Arc<Self>, messages_min: usize) -> Result<()> {
        let _one = self.index.building.lock();
        let storage = &*self.shared.storage;
        let dir = dir_of(&self.shared.config.index, self.id);
        loop {
            let view = self.view();
            let (gap, missing) = self.with_shelf(&view, |shelf| shelf.gap(&view));
            let Some((first, last)) = gap.filter(|_| missing >= messages_min.max(1)) else { break };
            storage.create_dir_all(&dir).map_err(Error::io("create", &dir))?;
            let path = self.write_segment(&view, first, last)?;
            self.with_shelf(&view, |shelf| shelf.add(storage, &path))?;
            self.merge_due(&view)?;
            if self.is_closing() {
                return Ok(());
            }
        }
        self.merge_due(&self.view())
    }

    fn is_closing(&self) -> bool {
        self.shared.closing.load(Ordering::Acquire) || self.shared.keeper.state.lock().closing
    }

    fn merge_due(&self, view: &View) -> Result<()> {
        let storage = &*self.shared.storage;
        while let Some(due) = self.with_shelf(view, |shelf| shelf.due(view)) {
            let (dir, owner) = self.with_shelf(view, |s| (s.dir().to_owned(), s.owner()));
            match merge_neighbours(storage, &dir, owner, view, &due) {
                Ok(Some(path)) => {
                    self.with_shelf(view, |shelf| shelf.add(storage, &path))?;
                    for old in due.iter().filter(|old| old.path != path) {
                        let _ = storage.unlink(&old.path);
                    }
                }
                Ok(None) => return Ok(()),
                Err(Error::Corrupt { path, expected, found }) => {
                    let error = Error::Corrupt { path: path.clone(), expected, found };
                    drop_file(storage, &path, &error);
                    self.with_shelf(view, |shelf| shelf.remove(storage, &path));
                }
                Err(error) => return Err(error),
            }
            if self.is_closing() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Writes a segment of the messages from UID `first` on, as many as fit, at most up to `last`.
    fn write_segment(self: &Arc<Self>, view: &View, first: u32, last: u32) -> Result<PathBuf> {
        let mut batch = Batch::default();
        let mut cutter = Cutter::default();
        let mut uid_last = last;
        let records = view.seqs_in_uid_ranges(&[(first, last)]);
        let (Some(from), Some(to)) = (records.first(), records.last()) else {
            return Err(Error::NotAllowed("no message to index"));
        };
        self.sweep(view, *from, *to, &mut |record, mut message| {
            let uid = record.uid;
            let told = message.each_text(&mut |text| match text {
                Text::Header(text) => cutter.feed(text, &mut |term| batch.term(term, true)),
                Text::Body(text) => cutter.feed(text, &mut |term| batch.term(term, false)),
                Text::HeaderEnd => cutter.end(&mut |term| batch.term(term, true)),
                Text::BodyEnd => cutter.end(&mut |term| batch.term(term, false)),
            });
            // Removed meanwhile: whoever still sees it in an older view looks by itself.
            let readable = matches!(told, Ok(true));
            let content_id = view.stored(uid).map_or([0; 16], |(_, id)| id);
            batch.end_message(uid.0, content_id, readable);
            if batch.is_full() || self.is_closing() {
                uid_last = uid.0;
                return false;
            }
            true
        });
        let dir = dir_of(&self.shared.config.index, self.id);
        let mut writer = Writer::new(&*self.shared.storage, &dir)?;
        batch.write(&mut writer)?;
        let (docs, content_id, owner) = (batch.docs(), batch.content_id(), self.index_owner());
        writer.finish(&Cover { owner, uid_first: first, uid_last, docs, content_id })
    }

    /// How far the index is; blocks.
    fn index_status(&self) -> IndexStatus {
        let view = self.view();
        self.with_shelf(&view, |shelf| {
            let segments = shelf.segments();
            IndexStatus {
                segments: segments.len(),
                bytes: segments.iter().map(|s| s.bytes()).sum(),
                messages: segments.iter().map(|s| s.docs().len()).sum(),
                terms: segments.iter().map(|s| u64::from(s.term_count())).sum(),
                uncovered: shelf.gap(&view).1,
            }
        })
    }

    /// Removes the index; blocks.
    fn drop_index(&self) {
        let _one = self.index.building.lock();
        self.with_shelf(&self.view(), |shelf| shelf.clear(&*self.shared.storage));
        *self.index.shelf.lock() = None;
        self.shared.erase_index(self.id);
    }
}

impl Mailbox {
    /// How far its full-text index is.
    pub async fn index_status(&self) -> Result<IndexStatus> {
        let inner = self.0.clone();
        let ask = move || inner.index_status();
        self.0.shared.helpers.run(ask).await.map_err(|_| Error::Closing)
    }

    /// Brings its full-text index up to date now, whatever the settings say; with `anew`, from
    /// nothing.
    pub async fn index_now(&self, anew: bool) -> Result<IndexStatus> {
        let inner = self.0.clone();
        let job = move || {
            if anew {
                inner.drop_index();
            }
            inner.bring_index_up_to_date(1)?;
            Ok(inner.index_status())
        };
        self.0.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }

    /// Removes its full-text index. Where the settings want one, it is made again.
    pub async fn index_drop(&self) -> Result<()> {
        let inner = self.0.clone();
        self.0.shared.helpers.run(move || inner.drop_index()).await.map_err(|_| Error::Closing)
    }
}
