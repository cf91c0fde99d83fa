//! Directories of mailboxes follow their names: to where the new name says, or to where deleted
//! mailboxes wait for their end. A move that failed is done again; see [`Unfinished`].

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Partition;
use crate::error::{Error, Result};
use crate::ids::{Lsn, MailboxId};
use crate::mailbox::MailboxInner;
use crate::mailbox::opening::stamp;
use crate::shared::{Doomed, DoomedKind, Shared};

/// A change of names in the log, and the directories that must follow it. The log keeps its
/// frames until they have.
pub(super) struct Unfinished {
    pub(super) lsn: Lsn,
    pub(super) moves: VecDeque<Move>,
}

pub(super) struct Move {
    pub(super) mailbox: Arc<MailboxInner>,
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
    /// To where deleted mailboxes wait for their end.
    pub(super) doomed: bool,
}

impl Move {
    /// Once the frames at `lsn` are durable.
    pub(super) fn run(&self, shared: &Shared, lsn: Lsn) -> Result<()> {
        let mut files = self.mailbox.files.lock();
        let mut place = self.mailbox.place.write();
        let partition = place.partition.clone();
        let storage = &*shared.storage;
        let moved = if self.doomed {
            move_to_trash(shared, &partition, &self.from, &self.to)
        } else {
            let relocated =
                partition.layout.relocate(storage, &partition.path, &self.from, &self.to);
            relocated.map_err(Error::io("move", &self.from))
        };
        // What failed may be only that it is not durable yet.
        let id = self.mailbox.id;
        if moved.is_ok() || stamp(storage, &self.to).is_some_and(|(there, _)| there == id) {
            place.dir = self.to.clone();
            files.dir = self.to.clone();
        }
        moved?;
        if self.doomed {
            let what = DoomedKind::Mailbox(partition, self.to.clone());
            shared.doomed.lock().push(Doomed { lsn, what });
        } else {
            self.mailbox.mark_dirty();
        }
        Ok(())
    }
}

/// Where a deleted mailbox waits for its end.
pub(crate) fn trash_dir(partition: &Partition, id: MailboxId) -> PathBuf {
    partition.path.join(TRASH).join(id.to_string())
}

/// Directory of deleted mailboxes in a partition's root. Begins with a dot twice over, so that no
/// layout takes it for a user or a mailbox.
pub(crate) const TRASH: &str = "..cursus-deleted";

pub(crate) fn move_to_trash(
    shared: &Shared,
    partition: &Partition,
    dir: &Path,
    trash: &Path,
) -> Result<()> {
    let storage = &*shared.storage;
    let parent = partition.path.join(TRASH);
    storage.create_dir_all(&parent).map_err(Error::io("create", &parent))?;
    let moved = partition.layout.relocate(storage, &partition.path, dir, trash);
    moved.map_err(Error::io("move", dir))
}
