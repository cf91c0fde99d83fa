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

pub(crate) enum Move {
    /// An open mailbox's directory.
    Mailbox {
        mailbox: Arc<MailboxInner>,
        from: PathBuf,
        to: PathBuf,
        /// To where deleted mailboxes wait for their end.
        doomed: bool,
    },
    /// The directory of a mailbox that came from another partition, and is not open.
    Arrival { partition: Partition, from: PathBuf, to: PathBuf },
}

impl Move {
    /// Once the frames at `lsn` are durable.
    pub(super) fn run(&self, shared: &Shared, lsn: Lsn) -> Result<()> {
        let storage = &*shared.storage;
        let (mailbox, from, to, doomed) = match self {
            Move::Mailbox { mailbox, from, to, doomed } => (mailbox, from, to, *doomed),
            Move::Arrival { partition, from, to } => {
                let moved = partition.layout.relocate(storage, &partition.path, from, to);
                return moved.map_err(Error::io("move", from));
            }
        };
        let mut files = mailbox.files.lock();
        let mut place = mailbox.place.write();
        let partition = place.partition.clone();
        let moved = if doomed {
            move_to_trash(shared, &partition, from, to)
        } else {
            let relocated = partition.layout.relocate(storage, &partition.path, from, to);
            relocated.map_err(Error::io("move", from))
        };
        // What failed may be only that it is not durable yet.
        let id = mailbox.id;
        if moved.is_ok() || stamp(storage, to).is_some_and(|(there, _)| there == id) {
            place.dir = to.clone();
            files.dir = to.clone();
        }
        moved?;
        if doomed {
            let what = DoomedKind::Mailbox(partition, to.clone());
            shared.doomed.lock().push(Doomed { lsn, what });
        } else {
            mailbox.mark_dirty();
        }
        Ok(())
    }
}

/// Where a deleted mailbox waits for its end.
pub(crate) fn trash_dir(shared: &Shared, partition: &Partition, id: MailboxId) -> PathBuf {
    partition.path.join(TRASH).join(shared.own_name(id))
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
