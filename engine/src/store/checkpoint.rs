//! Checkpoints: files made durable, the catalog committed, the log recycled, the doomed destroyed.
//!
//! Order: choose C, below which everything is applied; write header slots of what changed; sync;
//! commit catalog and summary with C; release the log below C; destroy what frames below C doomed.
//! Effects of frames above C may be in the files too: redo is by absolute value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::changed::Taken;
use crate::catalog::{Batch, Meta, Summary, UserChanges};
use crate::error::{Error, Result};
use crate::fulltext::IndexMode;
use crate::ids::{Lsn, MailboxId};
use crate::mailbox::MailboxInner;
use crate::metadata::{Key, Value};
use crate::shared::{Doomed, DoomedKind, Shared};

/// Why nothing is written any more after a failed sync.
const UNSYNCED: &str = "a sync of the mail files failed; the next start writes them again";

/// One checkpoint at a time, and their figures.
#[derive(Default)]
pub(crate) struct Checkpointer {
    one: Mutex<()>,
    count: AtomicU64,
    last_ms: AtomicU64,
}

impl Checkpointer {
    pub(crate) fn figures(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.last_ms.load(Ordering::Relaxed))
    }
}

impl Shared {
    /// Whether anything happened that a checkpoint would write down.
    pub(crate) fn has_checkpoint_work(&self) -> bool {
        !self.dirty.lock().is_empty()
            || !self.dirty_users.lock().is_empty()
            || !self.gone.lock().is_empty()
            || !self.metadata.is_empty()
    }

    /// One checkpoint.
    pub(crate) fn checkpoint(self: &Arc<Self>) -> Result<()> {
        let _one = self.checkpointer.one.lock();
        if self.unsynced.load(Ordering::Acquire) {
            return Err(Error::ReadOnly(UNSYNCED.into()));
        }
        let began = Instant::now();
        let moving: Vec<_> =
            self.users.lock().values().filter(|user| user.has_moves()).cloned().collect();
        for user in moving {
            if let Err(error) = user.finish_moves() {
                tracing::warn!(user = user.name, %error, "cannot move a mailbox; will try again");
            }
        }
        let lsn = self.log.applied_below();
        // Of flags below C the names are told now: recovery takes a name that differs for
        // another program's doing, unless a frame from C on accounts for it.
        self.finish_names();
        let Taken { mailboxes: dirty, users } = self.take_changed();
        let gone = std::mem::take(&mut *self.gone.lock());
        let metadata = self.metadata.all();
        let changes: Vec<UserChanges> = users.values().map(|user| user.take_unsaved()).collect();
        let granted =
            |changes: &UserChanges| Some((changes.name.clone(), changes.unsaved.grants.clone()?));
        let grants: Vec<(String, BTreeSet<String>)> = changes.iter().filter_map(granted).collect();
        let result = self.write_checkpoint(lsn, dirty.values(), changes, &gone, &metadata);
        match result {
            Ok(()) => {
                self.checkpointed.store(lsn.0, Ordering::Release);
                self.metadata.written(&metadata);
                self.grants.written(grants.iter().map(|(owner, keys)| (owner.as_str(), keys)));
                for mailbox in dirty.values() {
                    mailbox.files.lock().slot_committed();
                }
                self.log.release(lsn)?;
                self.destroy_doomed(lsn);
                for mailbox in dirty.values() {
                    mailbox.pinned.lock().retain(|_, pinned_by| *pinned_by >= lsn);
                    self.compact(mailbox);
                    if self.config.index.mode == IndexMode::All {
                        self.index_soon(mailbox);
                    }
                }
                self.hand_back_soon(dirty.values(), users.values());
                self.checkpointer.count.fetch_add(1, Ordering::Relaxed);
                let took = began.elapsed();
                self.checkpointer.last_ms.store(took.as_millis() as u64, Ordering::Relaxed);
                tracing::debug!(%lsn, mailboxes = dirty.len(), ?took, "checkpoint");
                drop((dirty, users));
                self.mailboxes.checkpointed();
                self.make_room();
                Ok(())
            }
            Err((error, changes)) => {
                // Everything stays to be done: the log still has it.
                for changes in changes {
                    if let Some(user) = users.get(&changes.name) {
                        user.not_saved(changes.unsaved);
                    }
                }
                for (id, mailbox) in dirty {
                    self.dirty.lock().entry(id).or_insert(mailbox);
                }
                self.dirty_users.lock().extend(users);
                self.gone.lock().extend(gone);
                Err(error)
            }
        }
    }

    fn write_checkpoint<'a>(
        &self,
        lsn: Lsn,
        dirty: impl Iterator<Item = &'a Arc<MailboxInner>>,
        users: Vec<UserChanges>,
        gone: &[MailboxId],
        metadata: &[(Key, Value)],
    ) -> Result<(), (Error, Vec<UserChanges>)> {
        let summaries = match self.write_files(lsn, dirty) {
            Ok(summaries) => summaries,
            Err(error) => return Err((error, users)),
        };
        let clean = self.clean.load(Ordering::Acquire);
        let batch = Batch {
            meta: Meta {
                store_id: self.store_id,
                epoch: self.log.epoch(),
                owner_epoch: self.owner_epoch,
                unclean_epoch: if clean { self.unclean_epoch } else { self.owner_epoch },
                checkpoint: lsn,
                uid_validity_last: *self.uid_validity_last.lock(),
            },
            users,
            summaries,
            gone: gone.to_vec(),
            metadata: metadata.to_vec(),
        };
        self.catalog.commit(&batch).map_err(|error| (error, batch.users))
    }

    /// Header slots of what changed, made durable with everything that they count.
    fn write_files<'a>(
        &self,
        lsn: Lsn,
        dirty: impl Iterator<Item = &'a Arc<MailboxInner>>,
    ) -> Result<Vec<(MailboxId, Summary)>> {
        let mut summaries = Vec::new();
        let mut by_partition: BTreeMap<String, Vec<&Arc<MailboxInner>>> = BTreeMap::new();
        for mailbox in dirty {
            let mut files = mailbox.files.lock();
            mailbox.fold_into_head(&mut files);
            files.write_slot(lsn, self.owner_epoch)?;
            summaries.push((mailbox.id, files.summary()));
            let name = mailbox.place.read().partition.name.clone();
            by_partition.entry(name).or_default().push(mailbox);
        }
        for (name, mailboxes) in by_partition {
            self.sync_partition(&name, &mailboxes).inspect_err(|error| {
                tracing::error!(partition = name, %error, UNSYNCED);
                self.unsynced.store(true, Ordering::Release);
                self.log.refuse(UNSYNCED);
            })?;
        }
        Ok(summaries)
    }

    /// One `syncfs` where it can be trusted, else file by file.
    fn sync_partition(&self, name: &str, mailboxes: &[&Arc<MailboxInner>]) -> Result<()> {
        let root = &self.partition(name)?.path;
        match self.storage.sync_filesystem(root) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::Unsupported => {}
            Err(e) => return Err(Error::io("sync", root)(e)),
        }
        if self.aside.is_on() {
            let links = self.aside.outbox(self.partition(name)?);
            self.storage.sync_dir(&links).map_err(Error::io("sync", links))?;
        }
        for mailbox in mailboxes {
            mailbox.files.lock().sync()?;
            self.sync_dirs(mailbox)?;
        }
        Ok(())
    }

    /// Makes the names in a mailbox durable, and removals of names.
    pub(crate) fn sync_dirs(&self, mailbox: &MailboxInner) -> Result<()> {
        let place = mailbox.place.read().clone();
        let mut dirs = place.partition.layout.watched_dirs(&place.dir);
        dirs.push(place.dir);
        for dir in dirs {
            self.storage.sync_dir(&dir).map_err(Error::io("sync", dir))?;
        }
        Ok(())
    }

    /// Destroys what frames below `lsn` doomed.
    pub(crate) fn destroy_doomed(self: &Arc<Self>, lsn: Lsn) {
        if self.aside.is_held() {
            return;
        }
        let (due, later): (Vec<Doomed>, Vec<Doomed>) =
            std::mem::take(&mut *self.doomed.lock()).into_iter().partition(|d| d.lsn < lsn);
        self.doomed.lock().extend(later);
        let mut strays = BTreeMap::new();
        for doomed in due {
            match doomed.what {
                DoomedKind::Message(mailbox, uid) => {
                    mailbox.destroy_doomed(uid);
                    strays.insert(mailbox.id, mailbox);
                }
                DoomedKind::Mailbox(partition, dir) => {
                    let storage = &*self.storage;
                    let destroyed = partition.layout.destroy(storage, &partition.path, &dir);
                    if let Err(error) = destroyed {
                        tracing::warn!(dir = %dir.display(), %error, "cannot destroy a mailbox");
                    }
                }
                DoomedKind::Name(path) => match self.storage.unlink(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        tracing::warn!(path = %path.display(), %error, "cannot remove a name");
                    }
                    _ => {}
                },
            }
        }
        for mailbox in strays.into_values().filter(|mailbox| mailbox.must_look_first()) {
            mailbox.ask_rescan();
        }
    }

    /// Leaves tombstones out of the index where they are many. The copying is done without the
    /// file lock.
    ///
    /// A tombstone is what tells an expunged message's file, should a power cut bring it back,
    /// from one that another program delivered: so the removals of their files are made durable
    /// first. One whose file another program had renamed waits for a look at all names.
    fn compact(self: &Arc<Self>, mailbox: &Arc<MailboxInner>) {
        let storage = &*self.storage;
        let begun = {
            let mut files = mailbox.files.lock();
            let tombstones = files.tombstones() as usize;
            let min = self.config.compact_tombstones_min;
            let many = tombstones >= min.max(1) && tombstones * 4 >= files.head.count;
            if !many || !mailbox.doomed.lock().is_empty() {
                return;
            }
            if mailbox.must_look_first() {
                mailbox.ask_rescan();
                return;
            }
            files.begin_compaction(storage)
        };
        let copied = begun.and_then(|mut compaction| {
            self.sync_dirs(mailbox)?;
            compaction.copy(storage)?;
            Ok(compaction)
        });
        let mut files = mailbox.files.lock();
        let ended = copied.and_then(|compaction| {
            if mailbox.deleted.load(Ordering::Acquire) {
                return Err(Error::MailboxGone);
            }
            mailbox.fold_into_head(&mut files);
            files.end_compaction(storage, compaction, self.owner_epoch)
        });
        files.abandon_compaction();
        match ended {
            Ok(()) => mailbox.publish(&files),
            Err(Error::MailboxGone) => {}
            Err(error) => {
                tracing::error!(mailbox = %mailbox.id, %error, "cannot compact the index");
            }
        }
    }

    /// The checkpoint of a clean stop: afterwards the log is empty.
    pub(crate) fn last_checkpoint(self: &Arc<Self>) -> Result<()> {
        self.checkpoint()?;
        if self.log.status().active > 0 {
            // Something could not be applied: the log keeps it for the next start.
            return Ok(());
        }
        self.destroy_doomed(Lsn(u64::MAX));
        for mailbox in self.mailboxes.all() {
            if let Err(error) = mailbox.remove_strays() {
                tracing::warn!(mailbox = %mailbox.id, %error, "the next start looks for strays");
            }
        }
        // Once more, for the removals: then nothing is left that a crash could undo. What could
        // not be removed is the next start's work, as after a crash.
        let clean = self.doomed.lock().is_empty();
        self.clean.store(clean, Ordering::Release);
        self.checkpoint()?;
        self.log.clear()
    }
}
