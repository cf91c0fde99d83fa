//! A mailbox's files on their way to another partition: into a directory of arrivals there, under
//! the mailbox's id, from which they go to their place when the log says that they are there.
//!
//! [`Transfer::ahead`] copies messages while the mailbox is in use; [`Transfer::finish`] copies
//! what is missing, and the index, while nothing changes. Each message keeps its UID, dates and, in
//! a Maildir, its base name. Between layouts it is written with the other's line ends: its content
//! id, which is of the served octets, stays.
//!
//! Crash states: what is among the arrivals and in no frame is removed by the next start of the store
//! that put it there; others may use the same partition.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::types::Uid;

use crate::config::Partition;
use crate::error::{Error, Result};
use crate::format::index::{Record, name_flags};
use crate::ids::{Lsn, MailboxId};
use crate::io::Open;
use crate::layout::{LayoutKind, Location, NameFlags, create_durable};
use crate::mailbox::files::Files;
use crate::mailbox::{MailboxInner, Place, pour};
use crate::shared::Shared;

/// Directory of mailboxes on their way in, in a partition's root. Begins with a dot twice over, so
/// that no layout takes it for a user or a mailbox.
pub(crate) const ARRIVALS: &str = "..cursus-arriving";

/// A message that is being copied, before it has its name.
const UNNAMED: &str = "cursus.message.new";

/// Where a mailbox arrives in a partition.
pub(crate) fn arrival_dir(shared: &Shared, partition: &Partition, id: MailboxId) -> PathBuf {
    partition.path.join(ARRIVALS).join(shared.own_name(id))
}

/// The one move of a mailbox at a time.
pub(crate) struct Turn(Arc<Shared>, MailboxId);

impl Turn {
    /// # Errors
    /// [`Error::NotAllowed`] while another one has it.
    pub(crate) fn take(shared: &Arc<Shared>, id: MailboxId) -> Result<Turn> {
        const UNDER_WAY: Error = Error::NotAllowed("the mailbox is being moved already");
        let free = shared.relocating.lock().insert(id);
        free.then(|| Turn(shared.clone(), id)).ok_or(UNDER_WAY)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.relocating.lock().remove(&self.1);
    }
}

/// A copy under way. Dropped before [`Transfer::keep`], it removes what it made.
pub(crate) struct Transfer {
    shared: Arc<Shared>,
    turn: Turn,
    from: Place,
    to: Partition,
    dir: PathBuf,
    /// Messages that are there: under which name, of how many octets.
    arrived: HashMap<Uid, (Location, u32)>,
    kept: bool,
}

impl Transfer {
    /// Begins with an empty directory.
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        turn: Turn,
        from: Place,
        to: Partition,
    ) -> Result<Transfer> {
        let storage = &*shared.storage;
        let dir = arrival_dir(shared, &to, turn.1);
        let cleared = to.layout.destroy(storage, &to.path, &dir);
        cleared.map_err(Error::io("clear", &dir))?;
        let stage = to.layout.stage_path(&to.path, &dir, "");
        for dir in to.layout.watched_dirs(&dir).iter().chain([&dir, &stage]) {
            create_durable(storage, dir).map_err(Error::io("create", dir))?;
        }
        let (shared, arrived) = (shared.clone(), HashMap::new());
        Ok(Transfer { shared, turn, from, to, dir, arrived, kept: false })
    }

    /// Where it goes.
    pub(crate) fn to(&self) -> &Partition {
        &self.to
    }

    /// Where the mailbox is now: its name may have changed.
    pub(crate) fn set_from(&mut self, from: Place) {
        self.from = from;
    }

    /// Where it all is until it has its place.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was copied belongs to the mailbox now.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }

    fn crosses_layouts(&self) -> bool {
        self.from.partition.layout.kind() != self.to.layout.kind()
    }

    /// Copies the messages that are there now, while others come and go.
    pub(crate) fn ahead(&mut self, mailbox: &MailboxInner) -> Result<()> {
        let view = mailbox.view();
        let passed = view.keywords().passed_bit();
        for (_, uid) in view.uids() {
            let (Some((_, record)), Some(at)) = (view.record_of(uid), view.location(uid)) else {
                // Damaged, or gone meanwhile: the end has another look.
                continue;
            };
            self.bring(&record, &at, passed)?;
        }
        Ok(())
    }

    /// Copies what is missing, with the mailbox's own files: durable on return. `files` are those
    /// of the mailbox, which nothing changes.
    pub(crate) fn finish(&mut self, files: &Files) -> Result<()> {
        let storage = self.shared.storage.clone();
        let passed = files.keywords().passed_bit();
        let mut live = Vec::new();
        for position in (0..files.head.count).filter(|position| !files.is_tombstone(*position)) {
            let record = files.record(position);
            live.push((position, record.uid));
            match files.location(position) {
                Some(at) => self.bring(&record, &at, passed)?,
                None => {
                    let (dir, uid) = (files.dir.display(), record.uid.0);
                    tracing::error!(%dir, uid, "a message without a readable name stays behind");
                }
            }
        }
        self.drop_others(live.iter().map(|(_, uid)| *uid))?;
        for dir in self.to.layout.watched_dirs(&self.dir) {
            storage.sync_dir(&dir).map_err(Error::io("sync", dir))?;
        }
        let epoch = self.shared.owner_epoch;
        files.copy_to(&*storage, &self.dir, epoch)?;
        if !self.crosses_layouts() {
            return Ok(());
        }
        let (store_id, limit, trust) = (self.shared.store_id, Lsn(0), &self.shared.trust);
        let uid_validity = files.head.uid_validity;
        let mut copy =
            Files::open(&*storage, &self.dir, store_id, self.turn.1, uid_validity, limit, trust)?;
        for (position, uid) in live {
            if let Some((at, stored)) = self.arrived.get(&uid) {
                copy.set_place(position, at, *stored)?;
            }
        }
        copy.head.names_differ = false;
        copy.write_both_slots(epoch)?;
        copy.sync()
    }

    /// Removes messages that were copied and are gone since.
    fn drop_others(&mut self, live: impl Iterator<Item = Uid>) -> Result<()> {
        let mut gone = std::mem::take(&mut self.arrived);
        self.arrived = live.filter_map(|uid| gone.remove_entry(&uid)).collect();
        for (at, _) in gone.into_values() {
            let path = self.to.layout.path(&self.dir, &at);
            self.shared.storage.unlink(&path).map_err(Error::io("unlink", path))?;
        }
        Ok(())
    }

    /// The name that a message is to have, of so many stored octets.
    fn wanted(&self, record: &Record, at: &Location, passed: u64, stored: u32) -> Location {
        let (uid, other_letters) = (record.uid, Vec::new());
        match (self.from.partition.layout.kind(), self.to.layout.kind()) {
            (LayoutKind::Maildir, LayoutKind::Maildir) => at.clone(),
            (_, LayoutKind::Cyrus) => {
                let flags = NameFlags::default();
                Location { uid, base: Vec::new(), flags, other_letters, in_new: false }
            }
            (LayoutKind::Cyrus, LayoutKind::Maildir) => {
                let before = self.arrived.get(&uid).map(|(at, _)| at.base.clone());
                let fresh = || self.to.layout.base_name(&self.shared.unique(), stored, record.size);
                let base = before.unwrap_or_else(fresh);
                let flags = name_flags(record.flags, record.keywords, passed);
                Location { uid, base, flags, other_letters, in_new: flags.0 == 0 }
            }
        }
    }

    /// Has a message there, under the name that it is to have now. One whose file is not there is
    /// passed over: another program removed it, and the next look at the mailbox says so.
    fn bring(&mut self, record: &Record, at: &Location, passed: u64) -> Result<()> {
        let storage = self.shared.storage.clone();
        if let Some((now, stored)) = self.arrived.get(&record.uid).cloned() {
            let wanted = self.wanted(record, at, passed, stored);
            if wanted != now {
                let layout = &self.to.layout;
                let (old, new) = (layout.path(&self.dir, &now), layout.path(&self.dir, &wanted));
                storage.rename(&old, &new).map_err(Error::io("rename", old))?;
                self.arrived.insert(record.uid, (wanted, stored));
            }
            return Ok(());
        }
        let Some(stored) = self.copy(record, at)? else { return Ok(()) };
        let wanted = self.wanted(record, at, passed, stored);
        let (from, to) = (self.dir.join(UNNAMED), self.to.layout.path(&self.dir, &wanted));
        storage.rename(&from, &to).map_err(Error::io("rename", from))?;
        self.arrived.insert(record.uid, (wanted, stored));
        Ok(())
    }

    /// Copies a message's file; returns its octets. A Maildir's may have another name by now.
    fn copy(&self, record: &Record, at: &Location) -> Result<Option<u32>> {
        let Place { partition, dir } = &self.from;
        let layout = &partition.layout;
        match self.copy_bytes(record, &layout.path(dir, at)) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            copied => return copied.map(Some),
        }
        if layout.kind() == LayoutKind::Cyrus {
            tracing::error!(dir = %dir.display(), uid = record.uid.0, "a message has no file");
            return Ok(None);
        }
        let mut now = None;
        let mut look = |found: Location| {
            if found.base == at.base {
                now = Some(found);
            }
        };
        layout
            .list(&*self.shared.storage, dir, false, &mut look)
            .map_err(Error::io("list", dir))?;
        let Some(now) = now else { return Ok(None) };
        match self.copy_bytes(record, &layout.path(dir, &now)) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            copied => copied.map(Some),
        }
    }

    /// Durable on return, all but its name.
    fn copy_bytes(&self, record: &Record, from: &Path) -> Result<u32> {
        let storage = &*self.shared.storage;
        let to = self.dir.join(UNNAMED);
        let input = storage.open(from, Open::Read).map_err(Error::io("open", from))?;
        match storage.unlink(&to) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("unlink", to)(e)),
            _ => {}
        }
        let output = storage.open(&to, Open::CreateNew).map_err(Error::io("create", &to))?;
        let forms = (self.from.partition.layout.kind(), self.to.layout.kind());
        pour((&*input, from, forms.0), (&*output, &to, forms.1), record.internal_date)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let storage = &*self.shared.storage;
        if let Err(error) = self.to.layout.destroy(storage, &self.to.path, &self.dir) {
            let dir = self.dir.display();
            tracing::warn!(%dir, %error, "cannot remove a copy; the next start does");
        }
    }
}
