//! Message files kept aside: a link to each in the store's folder in `..cursus-outbox` of its
//! partition, named by content, until the archive (or a running backup) has it.
//!
//! A link is made when the message is placed, by the frame's apply and again by its redo; the
//! checkpoint makes it durable, and only then may the file itself be destroyed. So whatever
//! becomes of the message, its bytes are there as long as the archive may ask for them.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::format::MessageName;
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::ids::StoreId;
use crate::io::Storage;
use crate::layout::create_durable;
use crate::shared::stage_mark;

/// Directory in a partition's root, with one of links for each store that uses the partition.
/// Begins with a dot twice over, so that no layout takes it for a user or a mailbox.
pub(crate) const OUTBOX: &str = "..cursus-outbox";

/// Which message files are kept aside, and how much that is.
pub(crate) struct Aside {
    /// The store's own folder in a partition's outbox.
    folder: String,
    /// For the archive.
    archiving: AtomicBool,
    /// For a running backup: nothing is destroyed or let go.
    held: AtomicBool,
    bytes: AtomicU64,
    /// To be let go when the hold ends: let go while held, or linked for the backup alone.
    deferred: Mutex<HashSet<MessageName>>,
}

impl Aside {
    /// Keeps nothing yet.
    pub(crate) fn new(store: StoreId) -> Aside {
        Aside {
            folder: stage_mark(store),
            archiving: AtomicBool::default(),
            held: AtomicBool::default(),
            bytes: AtomicU64::default(),
            deferred: Mutex::default(),
        }
    }

    /// The directory of the store's links in a partition.
    pub(crate) fn outbox(&self, partition: &Partition) -> PathBuf {
        partition.path.join(OUTBOX).join(&self.folder)
    }

    /// Whether message files are to be kept.
    pub(crate) fn is_on(&self) -> bool {
        self.archiving.load(Ordering::Acquire) || self.is_held()
    }

    /// Whether a backup forbids every destruction.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Bytes of message files kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Begins to keep for the archive; counts what is there. Returns the names.
    pub(crate) fn begin(
        &self,
        storage: &dyn Storage,
        partitions: &[Partition],
    ) -> Result<HashSet<MessageName>> {
        let mut there = HashSet::new();
        for partition in partitions {
            let dir = self.outbox(partition);
            create_durable(storage, &dir).map_err(Error::io("create", &dir))?;
            there.extend(names(storage, &dir)?);
        }
        let bytes = there.iter().map(|name| u64::from(name.stored)).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
        self.archiving.store(true, Ordering::Release);
        Ok(there)
    }

    /// Begins a hold for a backup.
    pub(super) fn hold(&self, storage: &dyn Storage, partitions: &[Partition]) -> Result<()> {
        for partition in partitions {
            let dir = self.outbox(partition);
            create_durable(storage, &dir).map_err(Error::io("create", &dir))?;
        }
        self.held.store(true, Ordering::Release);
        Ok(())
    }

    /// Ends it.
    pub(super) fn unhold(&self, storage: &dyn Storage, partitions: &[Partition]) {
        self.held.store(false, Ordering::Release);
        let deferred = std::mem::take(&mut *self.deferred.lock());
        deferred.iter().for_each(|name| self.let_go(storage, partitions, name));
    }

    /// Links a message file that has just got its place. A failure is not the message's: the
    /// archive will look for the file itself.
    pub(crate) fn keep(
        &self,
        storage: &dyn Storage,
        partition: &Partition,
        path: &Path,
        name: &MessageName,
    ) {
        if !self.is_on() {
            return;
        }
        match storage.link(path, &self.outbox(partition).join(name.to_string())) {
            Ok(()) => {
                self.bytes.fetch_add(u64::from(name.stored), Ordering::Relaxed);
                if !self.archiving.load(Ordering::Acquire) {
                    self.deferred.lock().insert(*name);
                }
            }
            // Another message of the same content; or gone or renamed by another program.
            Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "cannot keep a message aside for the archive");
            }
        }
    }

    /// Where a message is kept, if it is.
    pub(super) fn find(
        &self,
        storage: &dyn Storage,
        partitions: &[Partition],
        name: &MessageName,
    ) -> Option<PathBuf> {
        let paths = partitions.iter().map(|p| self.outbox(p).join(name.to_string()));
        paths.into_iter().find(|path| storage.stat(path).is_ok())
    }

    /// The archive has a message, or will never ask for it.
    pub(super) fn let_go(
        &self,
        storage: &dyn Storage,
        partitions: &[Partition],
        name: &MessageName,
    ) {
        if self.is_held() {
            self.deferred.lock().insert(*name);
            return;
        }
        for partition in partitions {
            if storage.unlink(&self.outbox(partition).join(name.to_string())).is_ok() {
                let less = |n: u64| Some(n.saturating_sub(u64::from(name.stored)));
                let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            }
        }
    }
}

fn names(storage: &dyn Storage, dir: &Path) -> Result<Vec<MessageName>> {
    let mut names = Vec::new();
    let listed = storage.list(dir, &mut |name, _| {
        names.extend(std::str::from_utf8(name).ok().and_then(MessageName::parse));
    });
    match listed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("list", dir)(e)),
        _ => Ok(names),
    }
}
