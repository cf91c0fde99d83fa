//! Start and recovery: catalog, log, redo, checkpoint. Reported in one line.
//!
//! Catalog frames first, so that every mailbox has its final directory; then each mailbox's
//! frames in order. Nothing is unlinked before the closing checkpoint, so a copy whose link was
//! lost finds its source.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use protocol::types::{ModSeq, Uid};

use super::threads::Threads;
use super::{Running, Store};
use crate::archive::{Aside, Bodies, SEGMENT_OUTBOX, Taker, UNFINISHED};
use crate::catalog::{Batch, Catalog, Meta};
use crate::config::{Partition, StoreConfig};
use crate::error::{Error, Result};
use crate::format::frame::{Append, Frame, Source};
use crate::format::index::name_flags;
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::Storage;
use crate::io::network::Network;
use crate::layout::{LayoutKind, Location, NameFlags, create_durable};
use crate::log::{KeepSegments, Log, LogStart, Scan, Transaction, scan};
use crate::mailbox::apply::{
    apply_expunge, apply_flags, location_of, new_message, place_file, scan_file,
};
use crate::mailbox::doubles::drop_doubles;
use crate::mailbox::files::Files;
use crate::mailbox::opening::stamp;
use crate::mailbox::ranges;
use crate::mailbox::{MailboxInner, Place};
use crate::message::Ingested;
use crate::mount::Mount;
use crate::namespace::{Namespace, NamespaceEdit};
use crate::shared::{Doomed, DoomedKind, Drive, Shared, SharedStart};
use crate::user::{TRASH, UserInner, move_to_trash, trash_dir};

/// Opens a store.
pub(super) fn open(config: StoreConfig, storage: Arc<dyn Storage>, drive: Drive) -> Result<Store> {
    let began = Instant::now();
    for dir in [&config.state_dir, &config.log_dir] {
        create_durable(&*storage, dir).map_err(Error::io("create", dir))?;
    }
    check_state_dirs(&config, &*storage)?;
    let lock_path = config.state_dir.join("lock");
    let lock = storage.lock(&lock_path).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => Error::Locked(lock_path.clone()),
        _ => Error::io("lock", &lock_path)(e),
    })?;
    let mut config = config;
    config.descriptors_max = config.descriptors_max.min(descriptors_of_process() / 2);
    let unfinished = config.state_dir.join(UNFINISHED);
    if storage.stat(&unfinished).is_ok() {
        return Err(Error::Corrupt {
            path: unfinished,
            expected: "a store; a restore into here has not come to its end",
            found: "its mark".into(),
        });
    }
    let (catalog, meta) = Catalog::open(&*storage, &config.state_dir.join("catalog.redb"))?;
    let meta = meta.unwrap_or_else(|| Meta {
        store_id: StoreId::random(&*storage),
        epoch: 0,
        owner_epoch: 0,
        checkpoint: Lsn(0),
        uid_validity_last: 0,
        unclean_epoch: 0,
    });
    let mut transactions = Vec::new();
    let found = scan(&*storage, &config.log_dir, meta.store_id, meta.checkpoint, &mut |tx| {
        transactions.push(tx);
        Ok(())
    })?;
    for line in &found.damage {
        tracing::error!(damage = line, "the log is damaged");
    }
    let owner_epoch = meta.owner_epoch + 1;
    let epoch = meta.epoch.max(found.epoch_max) + 1;
    let unclean_epoch = if found.segments > 0 { meta.owner_epoch } else { meta.unclean_epoch };
    let was_clean = found.segments == 0 && meta.unclean_epoch < meta.owner_epoch;
    let began_meta = Meta { epoch, owner_epoch, unclean_epoch: owner_epoch, ..meta };
    let nothing = Batch {
        meta: began_meta,
        users: vec![],
        summaries: vec![],
        gone: vec![],
        metadata: vec![],
    };
    catalog.commit(&nothing)?;
    let state_dir = &config.state_dir;
    storage.sync_dir(state_dir).map_err(Error::io("sync", state_dir))?;
    for partition in &config.partitions {
        let path = &partition.path;
        create_durable(&*storage, path).map_err(Error::io("create", path))?;
        // After a clean stop nothing of ours waits for the device.
        if was_clean {
            continue;
        }
        match storage.sync_filesystem(path) {
            Err(e) if e.kind() != ErrorKind::Unsupported => {
                return Err(Error::io("sync", path)(e));
            }
            _ => {}
        }
    }
    let mut mounts = HashMap::new();
    for partition in &config.partitions {
        let mount = Mount::resolve(&*storage, &partition.path, partition.mount)?;
        tracing::debug!(partition = partition.name, ?mount, "partition");
        mounts.insert(partition.name.clone(), mount);
    }
    let private = |p: &&Partition| mounts.get(&p.name).is_some_and(|mount| mount.private);
    let roots: Vec<_> = config.partitions.iter().filter(private).map(|p| p.path.clone()).collect();
    let storage: Arc<dyn Storage> =
        if roots.is_empty() { storage } else { Arc::new(Network::new(storage, roots)) };
    let aside = Aside::default();
    let archive = match &config.archive {
        None => None,
        Some(archive) => {
            let leftovers = aside.begin(&*storage, &config.partitions)?;
            Some(Taker::new(&storage, &config.log_dir, archive.clone(), leftovers)?)
        }
    };
    let start = LogStart {
        dir: config.log_dir.clone(),
        store_id: meta.store_id,
        epoch,
        owner_epoch,
        next: found.next,
        time_us: found.time_us,
        bytes_max: config.log_bytes_max,
        segment_bytes: config.log_segment_bytes,
        archive: archive.as_ref().map(|taker| KeepSegments {
            dir: config.log_dir.join(SEGMENT_OUTBOX),
            age_max: taker.config.segment_age_max,
        }),
    };
    let log = Log::new(storage.clone(), start);
    let uid_validity_last = meta.uid_validity_last;
    let store_id = meta.store_id;
    let shared = Shared::new(SharedStart {
        config,
        storage,
        drive,
        store_id,
        owner_epoch,
        unclean_epoch,
        checkpoint: meta.checkpoint,
        uid_validity_last,
        log,
        catalog,
        mounts,
        aside,
        archive,
    });
    let recovered = transactions.len() as u64;
    if recovered > 0 || found.segments > 0 {
        shared.redoing.store(true, Ordering::Release);
        let mut redo = Redo::new(&shared, None);
        redo.run(transactions)?;
        shared.redoing.store(false, Ordering::Release);
        shared.checkpoint()?;
        shared.log.clear()?;
        shared.destroy_doomed(Lsn(u64::MAX));
        let (placed, void) = (redo.placed, redo.void);
        redo.log_missing();
        let took = began.elapsed();
        tracing::info!(transactions = recovered, placed, void, ?took, "recovered from the log");
    }
    clean_up(&shared);
    shared.log.prepare_spare()?;
    let threads = match drive {
        Drive::Threads => Some(Threads::start(&shared)?),
        Drive::Inline | Drive::Manual => None,
    };
    let running = Running {
        threads: Mutex::new(threads),
        lock: Mutex::new(Some(lock)),
        recovered,
        damage: found.damage,
    };
    Ok(Store { shared, running: Arc::new(running) })
}

/// Catalog and log want a local filesystem: their promises end where a network begins.
fn check_state_dirs(config: &StoreConfig, storage: &dyn Storage) -> Result<()> {
    for dir in [&config.state_dir, &config.log_dir] {
        let filesystem = storage.filesystem(dir).map_err(Error::io("look at", dir))?;
        if filesystem.network && !config.network_state {
            return Err(Error::Unsuitable {
                path: dir.clone(),
                filesystem: filesystem.name,
                expected: "a local one for catalog and log; store.network_state = true allows it",
            });
        }
    }
    Ok(())
}

/// Descriptors that this process may have.
fn descriptors_of_process() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// A store that is made from a base and a log that come from elsewhere, by the same redo.
pub(crate) struct Replay {
    shared: Arc<Shared>,
    bodies: Arc<Bodies>,
    _lock: Box<dyn Send + Sync>,
}

impl Replay {
    /// Over a base that has been laid out, with its catalog. Nothing can be logged: the log that
    /// is replayed is the only one.
    pub(crate) fn open(
        config: StoreConfig,
        storage: Arc<dyn Storage>,
        bodies: Arc<Bodies>,
    ) -> Result<Replay> {
        create_durable(&*storage, &config.log_dir).map_err(Error::io("create", &config.log_dir))?;
        let lock_path = config.state_dir.join("lock");
        let lock = storage.lock(&lock_path).map_err(|e| match e.kind() {
            ErrorKind::WouldBlock => Error::Locked(lock_path.clone()),
            _ => Error::io("lock", &lock_path)(e),
        })?;
        let path = config.state_dir.join("catalog.redb");
        let (catalog, meta) = Catalog::open(&*storage, &path)?;
        let meta = meta.ok_or_else(|| Error::Corrupt {
            path,
            expected: "the catalog of a base",
            found: "an empty one".into(),
        })?;
        let log = Log::new(
            storage.clone(),
            LogStart {
                dir: config.log_dir.clone(),
                store_id: meta.store_id,
                epoch: meta.epoch,
                owner_epoch: meta.owner_epoch,
                next: meta.checkpoint,
                time_us: 0,
                bytes_max: config.log_bytes_max,
                segment_bytes: config.log_segment_bytes,
                archive: None,
            },
        );
        log.refuse("a restore is under way");
        let mut mounts = HashMap::new();
        for partition in &config.partitions {
            let mount = Mount::resolve(&*storage, &partition.path, partition.mount)?;
            mounts.insert(partition.name.clone(), mount);
        }
        let shared = Shared::new(SharedStart {
            config,
            storage,
            drive: Drive::Inline,
            store_id: meta.store_id,
            owner_epoch: meta.owner_epoch,
            unclean_epoch: meta.unclean_epoch,
            checkpoint: meta.checkpoint,
            uid_validity_last: meta.uid_validity_last,
            log,
            catalog,
            mounts,
            aside: Aside::default(),
            archive: None,
        });
        Ok(Replay { shared, bodies, _lock: lock })
    }

    /// Redoes what the segments of a directory have at or above `from`, as far as `pick` leaves
    /// it.
    pub(crate) fn run(
        &self,
        dir: &Path,
        from: Lsn,
        pick: &mut dyn FnMut(&mut Transaction),
    ) -> Result<Scan> {
        let shared = &self.shared;
        let mut transactions = Vec::new();
        let found = scan(&*shared.storage, dir, shared.store_id, from, &mut |mut transaction| {
            pick(&mut transaction);
            if !transaction.frames.is_empty() {
                transactions.push(transaction);
            }
            Ok(())
        })?;
        for line in &found.damage {
            tracing::error!(damage = line, "the log is damaged");
        }
        Redo::new(shared, Some(self.bodies.clone())).run(transactions)?;
        shared.log.skip_to(found.next, found.time_us);
        shared.checkpoint()?;
        shared.destroy_doomed(Lsn(u64::MAX));
        Ok(found)
    }

    /// Everything below is in the store.
    pub(crate) fn skip_to(&self, end: Lsn) {
        self.shared.log.skip_to(end, 0);
    }

    /// The last checkpoint: afterwards it is a store that was closed.
    pub(crate) fn finish(self) -> Result<()> {
        self.shared.clean.store(true, Ordering::Release);
        self.shared.checkpoint()?;
        clean_up(&self.shared);
        self.shared.let_go();
        Ok(())
    }
}

/// Removes what only a crash leaves: deleted mailboxes, stage files of the cyrus layout.
fn clean_up(shared: &Shared) {
    let storage = &*shared.storage;
    for partition in &shared.config.partitions {
        let mut leftovers = Vec::new();
        let trash = partition.path.join(TRASH);
        // A partition without them has no such directory.
        let _ = storage.list(&trash, &mut |name, _| {
            leftovers.push(trash.join(String::from_utf8_lossy(name).as_ref()));
        });
        for dir in leftovers {
            if let Err(error) = partition.layout.destroy(storage, &partition.path, &dir) {
                tracing::warn!(dir = %dir.display(), %error, "cannot destroy a deleted mailbox");
            }
        }
        if partition.layout.kind() == LayoutKind::Cyrus {
            let stage = partition.layout.stage_path(&partition.path, &partition.path, "");
            let mut names = Vec::new();
            let _ = storage.list(&stage, &mut |name, _| names.push(name.to_vec()));
            for name in names {
                if name.starts_with(b"cursus.") {
                    let _ = storage.unlink(&stage.join(String::from_utf8_lossy(&name).as_ref()));
                }
            }
        }
    }
}

struct Redo<'a> {
    shared: &'a Arc<Shared>,
    /// Base names in a Maildir, listed once.
    names: HashMap<MailboxId, HashMap<Vec<u8>, Location>>,
    /// Letters that the frames gave to the names of messages in Maildirs.
    letters: HashMap<MailboxId, HashMap<Uid, Letters>>,
    /// UIDs that frames remove.
    expunged: HashMap<MailboxId, Vec<(u32, u32)>>,
    /// Appends to mailboxes that were deleted since: a copy may have its bytes from there.
    orphans: HashMap<(MailboxId, Uid), Append>,
    /// Mailboxes of messages that were logged and have no bytes.
    burnt: HashSet<MailboxId>,
    /// Who owns a mailbox, as frames tell.
    owners: HashMap<MailboxId, String>,
    /// Namespaces with an index by id, made at the first question.
    homes: HashMap<String, NamespaceEdit>,
    placed: u64,
    void: u64,
    /// Messages that were logged and have no bytes.
    missing: BTreeMap<MailboxId, (Arc<MailboxInner>, Vec<Uid>)>,
    /// Where bodies may also be: the archive, in a restore.
    bodies: Option<Arc<Bodies>>,
}

/// A mailbox whose directory a change of names may not have moved yet.
struct Strayed {
    user: Arc<UserInner>,
    partition: Partition,
    /// Where it may be.
    dirs: Vec<PathBuf>,
}

/// Which letters all names had that a message was to have since the checkpoint, and which some.
struct Letters {
    all: u8,
    some: u8,
}

impl<'a> Redo<'a> {
    fn new(shared: &'a Arc<Shared>, bodies: Option<Arc<Bodies>>) -> Redo<'a> {
        Redo {
            shared,
            names: HashMap::new(),
            letters: HashMap::new(),
            expunged: HashMap::new(),
            orphans: HashMap::new(),
            burnt: HashSet::new(),
            owners: HashMap::new(),
            homes: HashMap::new(),
            placed: 0,
            void: 0,
            missing: BTreeMap::new(),
            bodies,
        }
    }

    fn run(&mut self, transactions: Vec<Transaction>) -> Result<()> {
        self.catalog(&transactions)?;
        for (id, frame) in transactions.iter().flat_map(|t| &t.frames) {
            if let Frame::Expunge { ranges, .. } = frame {
                self.expunged.entry(*id).or_default().extend(ranges);
            }
        }
        let mut touched: BTreeMap<MailboxId, Arc<MailboxInner>> = BTreeMap::new();
        for transaction in transactions {
            self.mailbox_frames(transaction, &mut touched)?;
        }
        for mailbox in touched.values() {
            self.tell_renames_apart(mailbox)?;
            let mut files = mailbox.files.lock();
            files.clear_tail()?;
            files.recount();
            files.account();
            if self.burnt.contains(&mailbox.id) {
                let head = &mut files.head;
                head.modseq_highest = ModSeq(head.modseq_highest.0 + 1);
                head.vanished_floor = head.modseq_highest;
            }
            let mut state = mailbox.state.lock();
            state.uid_next = files.head.uid_next;
            state.modseq_last = files.head.modseq_highest;
            state.keywords = files.keywords().clone();
            state.keywords_filed = files.keywords().clone();
            drop(state);
            mailbox.foreign.lock().distrust();
            mailbox.publish(&files);
            drop(files);
            mailbox.find_differing_names();
            mailbox.mark_dirty();
        }
        self.recount_users(&touched)
    }

    /// Says in the log, too, which messages came to nothing: who replays it later has other
    /// means to find their bytes.
    fn log_missing(self) {
        if self.shared.archive.is_none() {
            return;
        }
        for (mailbox, uids) in self.missing.into_values() {
            let mut state = mailbox.state.lock();
            let (modseq, ranges) = (state.take_modseq(), ranges(&uids));
            let frame = Frame::Expunge { modseq, moved: false, ranges };
            if let Err(error) = mailbox.push_frames(&mut state, vec![(frame, Vec::new())], 0) {
                tracing::warn!(mailbox = %mailbox.id, %error, "cannot log void messages");
            }
        }
    }

    /// Namespaces first, then directories to match.
    fn catalog(&mut self, transactions: &[Transaction]) -> Result<()> {
        type Edited<'f> = (Arc<UserInner>, NamespaceEdit, Vec<(MailboxId, &'f Frame)>);
        let mut users: BTreeMap<String, Edited<'_>> = BTreeMap::new();
        let mut strayed: BTreeMap<MailboxId, Strayed> = BTreeMap::new();
        for (id, frame) in transactions.iter().flat_map(|t| &t.frames) {
            if let Frame::Metadata { whose, changes, .. } = frame {
                self.shared.metadata.apply(*id, whose, changes);
            }
            let name = match frame {
                Frame::User { user, .. }
                | Frame::Mailbox { user, .. }
                | Frame::MailboxGone { user, .. }
                | Frame::Subscription { user, .. }
                | Frame::Quota { user, .. }
                | Frame::Acl { user, .. }
                | Frame::UrlKey { user, .. } => user,
                _ => continue,
            };
            if !users.contains_key(name) {
                let user = self.shared.known_user(name)?;
                let edit = NamespaceEdit::new(Namespace::clone(&user.namespace.load()));
                users.insert(name.clone(), (user, edit, Vec::new()));
            }
            let Some((user, edit, frames)) = users.get_mut(name) else { continue };
            let old = edit.entry(*id).and_then(|(old, entry)| {
                let partition = self.shared.partition(&entry.partition).ok()?;
                let dir = partition.layout.mailbox_dir(&partition.path, name, old).ok()?;
                Some((partition.clone(), dir))
            });
            if let Frame::Mailbox { uid_validity, .. } = frame {
                let mut last = self.shared.uid_validity_last.lock();
                *last = (*last).max(uid_validity.0);
            }
            if let (Frame::Mailbox { .. } | Frame::MailboxGone { .. }, Some((partition, dir))) =
                (frame, old)
            {
                let user = user.clone();
                let fresh = Strayed { user, partition, dirs: Vec::new() };
                strayed.entry(*id).or_insert(fresh).dirs.push(dir);
            }
            if matches!(frame, Frame::MailboxGone { .. }) {
                self.shared.metadata.forget(*id);
                self.shared.gone.lock().push(*id);
            }
            self.owners.insert(*id, name.clone());
            edit.apply(*id, frame);
            frames.push((*id, frame));
        }
        let mut named = Vec::new();
        for (user, edit, frames) in users.into_values() {
            named.push((user.clone(), frames.iter().map(|(id, _)| *id).collect::<Vec<_>>()));
            user.take_over(edit, frames.into_iter());
            user.mark_dirty();
        }
        self.bring_home(strayed)?;
        let storage = &*self.shared.storage;
        for (user, ids) in named {
            let namespace = NamespaceEdit::new(Namespace::clone(&user.namespace.load()));
            for (name, entry) in ids.into_iter().filter_map(|id| namespace.entry(id)) {
                let partition = self.shared.partition(&entry.partition)?;
                self.shared.owners.of(self.shared, partition, &user.name)?;
                let dir = partition.layout.mailbox_dir(&partition.path, &user.name, name)?;
                let made = partition.layout.create(storage, &partition.path, &dir);
                made.map_err(Error::io("create", &dir))?;
            }
        }
        Ok(())
    }

    /// Moves directories to where the names say. Each is known by its stamp, so it does not
    /// matter how far things went before the crash. First all leave, then all arrive: names may
    /// have changed places.
    fn bring_home(&self, strayed: BTreeMap<MailboxId, Strayed>) -> Result<()> {
        let storage = &*self.shared.storage;
        let mut leaving = Vec::new();
        for (id, Strayed { user, partition, mut dirs }) in strayed {
            let trash = trash_dir(&partition, id);
            let namespace = user.namespace.load_full();
            let home = match namespace.name_of(id) {
                Some(name) => {
                    Some(partition.layout.mailbox_dir(&partition.path, &user.name, name)?)
                }
                None => {
                    let what = DoomedKind::Mailbox(partition.clone(), trash.clone());
                    self.shared.doomed.lock().push(Doomed { lsn: Lsn(0), what });
                    None
                }
            };
            dirs.push(trash.clone());
            let is = |dir: &PathBuf| stamp(storage, dir).is_some_and(|(i, _)| i == id);
            let Some(from) = dirs.into_iter().find(is) else { continue };
            if home.as_ref() != Some(&from) {
                leaving.push((from, trash, partition, home));
            }
        }
        // Deepest first, as live.
        leaving.sort_by_key(|(from, ..)| std::cmp::Reverse(from.components().count()));
        for (from, trash, partition, _) in &leaving {
            if from != trash {
                move_to_trash(self.shared, partition, from, trash)?;
            }
        }
        for (_, trash, partition, home) in leaving {
            if let Some(home) = home {
                let arrived = partition.layout.relocate(storage, &partition.path, &trash, &home);
                arrived.map_err(Error::io("move", &trash))?;
            }
        }
        Ok(())
    }

    /// The open mailbox of an id; `None` when it was deleted since.
    fn mailbox(&mut self, id: MailboxId) -> Result<Option<Arc<MailboxInner>>> {
        if let Some(open) = self.shared.mailboxes.find(id) {
            return Ok(Some(open));
        }
        let owner = match self.owners.get(&id) {
            Some(owner) => Some(owner.clone()),
            None => self.shared.catalog.owner(id)?,
        };
        let Some(owner) = owner else { return Ok(None) };
        let user = self.shared.known_user(&owner)?;
        let homes = self
            .homes
            .entry(owner.clone())
            .or_insert_with(|| NamespaceEdit::new(Namespace::clone(&user.namespace.load())));
        let Some((name, entry)) = homes.entry(id) else { return Ok(None) };
        let partition = self.shared.partition(&entry.partition)?.clone();
        let dir = partition.layout.mailbox_dir(&partition.path, &owner, name)?;
        user.open_at(id, entry.uid_validity, partition, dir).map(Some)
    }

    fn mailbox_frames(
        &mut self,
        transaction: Transaction,
        touched: &mut BTreeMap<MailboxId, Arc<MailboxInner>>,
    ) -> Result<()> {
        // Bodies first: one that is not whole voids the transaction.
        let mut found = Vec::with_capacity(transaction.frames.len());
        for (id, frame) in transaction.frames {
            let is_mailbox = matches!(
                frame,
                Frame::Append(_)
                    | Frame::Flags { .. }
                    | Frame::Expunge { .. }
                    | Frame::Keywords { .. }
                    | Frame::Annotations { .. }
            );
            if !is_mailbox {
                continue;
            }
            let Some(mailbox) = self.mailbox(id)? else {
                if let Frame::Append(append) = frame {
                    self.orphans.insert((id, append.uid), append);
                }
                continue;
            };
            touched.insert(id, mailbox.clone());
            let body = match &frame {
                Frame::Append(append) => Some(self.find_body(&mailbox, append)?),
                _ => None,
            };
            found.push((mailbox, frame, body));
        }
        // One file in its place proves that the transaction had settled: then a missing one was
        // removed later, and voids nothing.
        let settled = found
            .iter()
            .any(|(_, _, body)| matches!(body, Some(Some(body)) if body.source == Source::Foreign));
        let torn = |(mailbox, frame, body): &(Arc<MailboxInner>, Frame, Option<Option<Body>>)| {
            matches!(frame, Frame::Append(a) if matches!(a.source, Source::Staged(_))
                && !self.is_expunged(mailbox.id, a.uid))
                && matches!(body, Some(None))
        };
        let void = !settled && found.iter().any(torn);
        for (mailbox, frame, body) in found {
            let files: &mut Files = &mut mailbox.files.lock();
            self.redo(&mailbox, files, frame, body.flatten(), void)?;
        }
        Ok(())
    }

    fn redo(
        &mut self,
        mailbox: &Arc<MailboxInner>,
        files: &mut Files,
        frame: Frame,
        body: Option<Body>,
        void: bool,
    ) -> Result<()> {
        match frame {
            Frame::Append(append) => {
                let uid = append.uid;
                match body {
                    Some(body) if !void => {
                        self.redo_append(mailbox, files, append, body)?;
                        self.placed += 1;
                    }
                    _ => {
                        // Removed by another program, maybe: then somebody has seen it, and
                        // hears that it is gone.
                        apply_expunge(files, append.modseq, &[(uid.0, uid.0)])?;
                        mailbox.drop_annotations(&[uid])?;
                        self.burnt.insert(mailbox.id);
                        let missing = self.missing.entry(mailbox.id);
                        missing.or_insert_with(|| (mailbox.clone(), Vec::new())).1.push(uid);
                        self.void += 1;
                    }
                }
                let head = &mut files.head;
                head.uid_next = head.uid_next.max(Uid(uid.0.saturating_add(1)));
                Ok(())
            }
            Frame::Flags { modseq, changes } => {
                apply_flags(files, modseq, &changes)?;
                let passed = files.keywords().passed_bit();
                for change in &changes {
                    let after = name_flags(change.flags, change.keywords, passed);
                    for flags in [change.before, after] {
                        self.note_letters(mailbox.id, change.uid, flags);
                    }
                }
                Ok(())
            }
            Frame::Expunge { modseq, ranges, .. } => {
                let dead = apply_expunge(files, modseq, &ranges)?;
                let uids: Vec<Uid> =
                    dead.into_iter().map(|position| files.record(position).uid).collect();
                uids.iter().for_each(|uid| mailbox.doom(*uid, Lsn(0)));
                mailbox.drop_annotations(&uids)
            }
            Frame::Keywords { names } => files.set_keywords(&names),
            Frame::Annotations { ranges, values } => {
                mailbox.apply_annotations(files, &ranges, &values)
            }
            _ => Ok(()),
        }
    }

    fn redo_append(
        &mut self,
        mailbox: &Arc<MailboxInner>,
        files: &mut Files,
        mut append: Append,
        body: Body,
    ) -> Result<()> {
        let place = mailbox.place.read().clone();
        place_file(
            &*self.shared.storage,
            &place,
            &Append { source: body.source.clone(), ..append.clone() },
        )?;
        if body.source == Source::Foreign
            && let Source::Staged(stage) | Source::Linked { stage, .. } = &append.source
        {
            let layout = &place.partition.layout;
            let path = layout.stage_path(&place.partition.path, &place.dir, stage);
            // As a rule it is not there.
            let _ = self.shared.storage.unlink(&path);
        }
        let home = body.at.clone().unwrap_or_else(|| location_of(&append));
        mailbox.keep_aside(&place, &append, &home);
        self.note_letters(mailbox.id, append.uid, NameFlags(append.name_flags));
        if let Some(at) = body.at {
            append.in_new = at.in_new;
            append.other_letters = at.other_letters;
        }
        let message = new_message(&append, body.facts.extras);
        match files.position_of(append.uid) {
            Some(position) => files.redo(position, message),
            None if append.uid < files.head.uid_next => Ok(()), // Expunged and compacted away.
            None => files.append(vec![message]),
        }
    }

    /// Where the bytes of an append are, whole; `None` when they are nowhere.
    fn find_body(&mut self, mailbox: &Arc<MailboxInner>, append: &Append) -> Result<Option<Body>> {
        let storage = self.shared.storage.clone();
        let place = mailbox.place.read().clone();
        let layout = place.partition.layout.clone();
        // In its place first: a filesystem may keep a later rename and lose the one before it,
        // so that the staged name is there as well.
        let home = location_of(append);
        let path = layout.path(&place.dir, &home);
        if let Some(facts) = whole(&*storage, &path, layout.kind(), append)? {
            return Ok(Some(Body { facts, source: Source::Foreign, at: None }));
        }
        // Only now, since a look for another name may have to list the directory.
        let mut candidates = Vec::new();
        if layout.kind() == LayoutKind::Maildir
            && let Some(at) = self.name_now(mailbox, &append.base)?
        {
            candidates.push((layout.path(&place.dir, &at), Source::Foreign, Some(at)));
        }
        if let Source::Staged(stage) | Source::Linked { stage, .. } = &append.source {
            let path = layout.stage_path(&place.partition.path, &place.dir, stage);
            candidates.push((path, append.source.clone(), None));
        }
        for (path, source, at) in candidates {
            if let Some(facts) = whole(&*storage, &path, layout.kind(), append)? {
                return Ok(Some(Body { facts, source, at }));
            }
        }
        if let Some(bodies) = &self.bodies {
            // One that goes again need not come.
            if self.is_expunged(mailbox.id, append.uid) || !bodies.fetch(append, &path)? {
                return Ok(None);
            }
            let facts = whole(&*storage, &path, layout.kind(), append)?;
            return Ok(facts.map(|facts| Body { facts, source: Source::Foreign, at: None }));
        }
        let Source::Linked { mailbox: from, uid, stage } = &append.source else { return Ok(None) };
        let to = layout.stage_path(&place.partition.path, &place.dir, stage);
        let Some(path) = self.source_path(*from, *uid, mailbox)? else { return Ok(None) };
        match storage.link(&path, &to) {
            Ok(()) => {
                let facts = whole(&*storage, &to, layout.kind(), append)?;
                let source = append.source.clone();
                Ok(facts.map(|facts| Body { facts, source, at: None }))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("link", path)(e)),
        }
    }

    /// Whether a frame removes the message: then its file may be gone.
    fn is_expunged(&self, mailbox: MailboxId, uid: Uid) -> bool {
        let ranges = self.expunged.get(&mailbox);
        ranges.is_some_and(|ranges| ranges.iter().any(|&(a, b)| (a..=b).contains(&uid.0)))
    }

    fn note_letters(&mut self, mailbox: MailboxId, uid: Uid, flags: NameFlags) {
        let known = self.letters.entry(mailbox).or_default();
        let letters = known.entry(uid).or_insert(Letters { all: flags.0, some: flags.0 });
        letters.all &= flags.0;
        letters.some |= flags.0;
    }

    /// The next look at a Maildir merges what names say with what they said before. A rename of
    /// ours may have been undone by the crash, or done and not noted: of letters that we changed
    /// since the checkpoint the name tells nothing, so they are taken as noted. The others
    /// differ only where another program made them.
    fn tell_renames_apart(&mut self, mailbox: &Arc<MailboxInner>) -> Result<()> {
        let place = mailbox.place.read().clone();
        let Some(letters) = self.letters.remove(&mailbox.id) else { return Ok(()) };
        if place.partition.layout.kind() != LayoutKind::Maildir {
            return Ok(());
        }
        self.names.remove(&mailbox.id);
        // A file may then be under one of the two names, and under a third one.
        let weak = self.shared.syncs_names(&place.partition.name);
        let mut files = mailbox.files.lock();
        let mut records = Vec::with_capacity(letters.len());
        for (uid, Letters { all, some }) in letters {
            let Some(position) = files.position_of(uid) else { continue };
            let Some(at) = files.location(position) else { continue };
            let mut record = files.record(position);
            let wanted = record.name_flags_wanted(files.keywords().passed_bit());
            let renamed = Location { flags: wanted, in_new: false, ..at.clone() };
            let now = match self.one_of(&place, [&at, &renamed]).filter(|_| !weak) {
                Some(now) => now,
                None => match self.name_now(mailbox, &at.base)? {
                    Some(now) => now,
                    None => continue,
                },
            };
            // A checkpoint leaves alone a name that another program had just changed, too.
            let (all, some) = (all & record.name_flags.0, some | record.name_flags.0);
            record.name_flags = NameFlags(all | some & now.flags.0);
            record.in_new = now.in_new;
            records.push((position, record));
        }
        records.sort_unstable_by_key(|(position, _)| *position);
        files.rewrite(&records)
    }

    /// The name that a message has, where it is one of two that we would give it: a folder is
    /// listed only for what others renamed, or a filesystem left under both.
    fn one_of(&self, place: &Place, names: [&Location; 2]) -> Option<Location> {
        let [first, second] = names;
        let path = |at: &Location| place.partition.layout.path(&place.dir, at);
        let is_there = |at: &Location| self.shared.storage.stat(&path(at)).is_ok();
        match (is_there(first), path(first) != path(second) && is_there(second)) {
            (true, false) => Some(first.clone()),
            (false, true) => Some(second.clone()),
            _ => None,
        }
    }

    fn name_now(&mut self, mailbox: &MailboxInner, base: &[u8]) -> Result<Option<Location>> {
        if !self.names.contains_key(&mailbox.id) {
            let place = mailbox.place.read().clone();
            let mut found = Vec::new();
            let mut each = |file: Location| found.push(file);
            let storage = &*self.shared.storage;
            let listed = place.partition.layout.list(storage, &place.dir, false, &mut each);
            listed.map_err(Error::io("list", &place.dir))?;
            let found = drop_doubles(storage, &place, found)?;
            let names = found.into_iter().map(|file| (file.base.clone(), file)).collect();
            self.names.insert(mailbox.id, names);
        }
        Ok(self.names[&mailbox.id].get(base).cloned())
    }

    /// The file of a copy's source, also when its mailbox was deleted meanwhile.
    fn source_path(
        &mut self,
        from: MailboxId,
        uid: Uid,
        target: &Arc<MailboxInner>,
    ) -> Result<Option<PathBuf>> {
        if let Some(source) = self.mailbox(from)? {
            let place = source.place.read().clone();
            let at = {
                let files = source.files.lock();
                files.position_of(uid).and_then(|position| files.location(position))
            };
            let Some(mut at) = at else { return Ok(None) };
            if place.partition.layout.kind() == LayoutKind::Maildir
                && let Some(now) = self.name_now(&source, &at.base)?
            {
                at = now;
            }
            return Ok(Some(place.partition.layout.path(&place.dir, &at)));
        }
        let partition = target.place.read().partition.clone();
        let dir = trash_dir(&partition, from);
        if stamp(&*self.shared.storage, &dir).is_none() {
            return Ok(None);
        }
        let none = protocol::types::UidValidity(0);
        let (storage, store_id) = (&*self.shared.storage, self.shared.store_id);
        let limit = Lsn(self.shared.checkpointed.load(Ordering::Acquire));
        let files = Files::open(storage, &dir, store_id, from, none, limit, &self.shared.trust)?;
        let orphan = self.orphans.get(&(from, uid)).cloned();
        // The log's frames were not redone there.
        let at = files.position_of(uid).and_then(|position| files.location(position));
        let mut paths = Vec::new();
        if let Some(at) = at.or_else(|| orphan.as_ref().map(location_of)) {
            paths.push(partition.layout.path(&dir, &at));
            if partition.layout.kind() == LayoutKind::Maildir {
                let mut each = |found: Location| {
                    if found.base == at.base {
                        paths.push(partition.layout.path(&dir, &found));
                    }
                };
                let listed = partition.layout.list(storage, &dir, false, &mut each);
                listed.map_err(Error::io("list", &dir))?;
            }
        }
        let source = orphan.map(|append| append.source);
        if let Some(Source::Staged(stage) | Source::Linked { stage, .. }) = &source {
            paths.push(partition.layout.stage_path(&partition.path, &dir, stage));
        }
        if let Some(path) = paths.into_iter().find(|path| storage.stat(path).is_ok()) {
            return Ok(Some(path));
        }
        match source {
            Some(Source::Linked { mailbox, uid, .. }) => self.source_path(mailbox, uid, target),
            _ => Ok(None),
        }
    }

    /// Usage of users whose mailboxes were touched: summaries are older than the log.
    fn recount_users(&self, touched: &BTreeMap<MailboxId, Arc<MailboxInner>>) -> Result<()> {
        let users: Vec<Arc<UserInner>> = self.shared.users.lock().values().cloned().collect();
        for user in users {
            let (mut messages, mut bytes) = (0, 0);
            let namespace = user.namespace.load_full();
            for entry in namespace.mailboxes.values() {
                if let Some(mailbox) = touched.get(&entry.id) {
                    let view = mailbox.view();
                    messages += u64::from(view.exists());
                    bytes += view.bytes();
                } else if let Some(numbers) = self.shared.catalog.summary(entry.id)? {
                    messages += numbers.messages;
                    bytes += numbers.bytes;
                }
            }
            let ids: Vec<_> = namespace.mailboxes.values().map(|entry| entry.id).collect();
            user.ledger.sums.set((messages, bytes), self.shared.annotation_bytes_of(&ids)?);
            // Limits may be in frames, too.
            user.limit();
            user.regroup()?;
        }
        Ok(())
    }
}

/// A message's bytes as recovery found them.
struct Body {
    facts: Ingested,
    /// Where they are now: staged, or in place.
    source: Source,
    /// In place under another name.
    at: Option<Location>,
}

/// The facts of a file that is exactly the message of the frame.
fn whole(
    storage: &dyn Storage,
    path: &std::path::Path,
    kind: LayoutKind,
    append: &Append,
) -> Result<Option<Ingested>> {
    match storage.stat(path) {
        Ok(stat) if stat.size == u64::from(append.stored) => {}
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("stat", path)(e)),
    }
    let facts = scan_file(storage, path, kind)?;
    Ok((facts.content_id == append.content_id).then_some(facts))
}
