//! A hot copy of the store.
//!
//! Files are copied one after another while mail goes on, so the copy as such is of no single
//! moment. What makes it one is the log from a checkpoint C before the first copy to a point E
//! behind the last: replayed over the copies, frame by frame, by absolute value, it gives the
//! store as of E, whatever each copy caught ("redo writes"). While it runs nothing is destroyed,
//! messages that come are kept aside, and segments from C on stay.
//!
//! A mailbox's file lock is held only while handles and counts are taken. A record that a writer
//! changes under the copy is read again until it is whole.

mod log;
mod mailbox;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::types::Uid;
use serde::Serialize;

use super::format::{
    ANNOTATIONS, BaseManifest, FORMAT, MAILBOX_FILES, METADATA, MailboxLine, MessageName,
    MetadataLine, PartitionLine, UserLine, base_dir, time_text, to_json, write_whole,
};
use super::pool::Pool;
use super::target::{BACKUP_LOCK, claim, lock};
use super::verify::digest;
use super::writer::Lines;
use crate::catalog::Meta;
use crate::error::{Error, Result};
use crate::ids::{Lsn, MailboxId};
use crate::io::Storage;
use crate::layout::{LayoutKind, create_durable};
use crate::metadata::Key;
use crate::shared::Shared;

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// How long the backup waits for a checkpoint, and at its end for what is being applied.
const SETTLE_MAX: Duration = Duration::from_secs(60);
const SETTLE_POLL: Duration = Duration::from_millis(20);

/// What is asked of a backup.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The directory; made when missing. Message files that it has are not copied again.
    pub to: PathBuf,
    /// Copy no faster than this; absent: as fast as it goes.
    pub bytes_per_second: Option<u64>,
    /// Files to be kept beside, by name: accounts, configuration.
    pub extra: Vec<(String, PathBuf)>,
}

/// How far a backup is. Counters only rise.
#[derive(Debug, Default)]
pub struct BackupProgress {
    phase: Mutex<&'static str>,
    /// Mailboxes copied.
    pub mailboxes: AtomicU64,
    /// Mailboxes to copy.
    pub mailboxes_total: AtomicU64,
    /// Messages looked at.
    pub messages: AtomicU64,
    /// Octets written.
    pub bytes: AtomicU64,
    /// Set to end it early.
    pub cancel: AtomicBool,
}

impl BackupProgress {
    /// What it is doing, for people.
    pub fn phase(&self) -> &'static str {
        *self.phase.lock()
    }

    fn enter(&self, phase: &'static str) {
        *self.phase.lock() = phase;
    }
}

/// What a backup has made.
#[derive(Clone, Debug, Serialize)]
pub struct BackupReport {
    /// The base backup's own directory.
    pub dir: PathBuf,
    /// It shows the store as of this LSN.
    pub end_lsn: u64,
    /// It serves restores to this moment and later ones, microseconds since 1970.
    pub consistent_us: u64,
    /// Users in it.
    pub users: u64,
    /// Mailboxes in it.
    pub mailboxes: u64,
    /// Messages in it.
    pub messages: u64,
    /// Message files that were copied now.
    pub messages_copied: u64,
    /// Octets of these.
    pub bytes_copied: u64,
    /// Messages whose files other programs removed meanwhile.
    pub absent: u64,
    /// What was damaged in the store, a line each.
    pub findings: Vec<String>,
}

/// The copied catalog, with the checksums of its files.
struct CopiedCatalog {
    meta: Meta,
    users: u64,
    /// User, name and id of each.
    mailboxes: Vec<(String, String, MailboxId)>,
    blake3: String,
    metadata_blake3: String,
    annotations_blake3: String,
}

/// Ends the hold however the backup ends.
struct Hold<'a>(&'a Arc<Shared>);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.log.unhold();
        self.0.aside.unhold(&*self.0.storage, &self.0.config.partitions);
    }
}

struct Backup<'a> {
    shared: &'a Arc<Shared>,
    options: &'a BackupOptions,
    progress: &'a BackupProgress,
    pool: Pool,
    began: Instant,
    written: Vec<MessageName>,
    absent: Vec<MessageName>,
    messages: u64,
    octets: u64,
    findings: Vec<String>,
    /// Each file by itself.
    sync: bool,
}

/// Makes a backup. Blocks; one at a time.
pub(crate) fn backup(
    shared: &Arc<Shared>,
    options: &BackupOptions,
    progress: &BackupProgress,
) -> Result<BackupReport> {
    let Some(_one) = shared.backup_one.try_lock() else {
        return Err(Error::NotAllowed("another backup is running"));
    };
    let storage = &*shared.storage;
    let root = &options.to;
    create_durable(storage, root).map_err(Error::io("create", root))?;
    let _lock = lock(storage, root, BACKUP_LOCK)?;
    claim(storage, root, shared.store_id, shared.owner_epoch)?;
    shared.aside.hold(storage, &shared.config.partitions)?;
    let _hold = Hold(shared);
    Backup {
        shared,
        options,
        progress,
        pool: Pool::new(shared.storage.clone(), root),
        began: Instant::now(),
        written: Vec::new(),
        absent: Vec::new(),
        messages: 0,
        octets: 0,
        findings: Vec::new(),
        sync: !syncs_at_once(storage, root)?,
    }
    .run()
}

impl Backup<'_> {
    fn run(mut self) -> Result<BackupReport> {
        let shared = self.shared;
        let storage = &*shared.storage;
        let root = self.options.to.clone();
        self.progress.enter("checkpoint");
        self.checkpoint()?;
        // Named by where it ends, which is not known yet.
        let making = root.join("tmp").join("base");
        empty(storage, &making)?;
        for sub in ["mailbox", "log", "extra"] {
            let dir = making.join(sub);
            create_durable(storage, &dir).map_err(Error::io("create", dir))?;
        }
        self.progress.enter("catalog");
        let catalog = self.catalog(&making)?;
        shared.log.hold(catalog.meta.checkpoint);
        self.progress.mailboxes_total.store(catalog.mailboxes.len() as u64, Ordering::Relaxed);
        self.progress.enter("mailboxes");
        let mut lines = Lines::new(storage, making.join("mailboxes.jsonl"), self.sync)?;
        let mut mailboxes = 0;
        for (user, name, id) in catalog.mailboxes {
            self.check_cancel()?;
            if let Some(line) = self.mailbox(&making, &user, &name, id)? {
                lines.add(&line)?;
                mailboxes += 1;
            }
            self.progress.mailboxes.fetch_add(1, Ordering::Relaxed);
        }
        let mailboxes_blake3 = lines.finish()?;
        self.progress.enter("log");
        let (end, consistent_us, log) = self.log(&making, catalog.meta.checkpoint)?;
        self.pool.flush()?;
        for (name, from) in &self.options.extra {
            let bytes = super::format::read_text(storage, from)?;
            write_whole(storage, &root, &making.join("extra").join(name), &bytes)?;
        }
        let (bytes_copied, copied) =
            (self.written.iter().map(|n| u64::from(n.stored)).sum(), self.written.len() as u64);
        let partition = |p: &crate::Partition| PartitionLine {
            name: p.name.clone(),
            layout: layout_name(p.layout.kind()).to_owned(),
        };
        let manifest = BaseManifest {
            format: FORMAT,
            store: shared.store_id.to_string(),
            owner_epoch: shared.owner_epoch,
            epoch: shared.log.epoch(),
            checkpoint_lsn: catalog.meta.checkpoint.0,
            end_lsn: end.0,
            consistent_us,
            uid_validity_last: catalog.meta.uid_validity_last.max(*shared.uid_validity_last.lock()),
            partition_default: shared.config.partition_default.clone(),
            partitions: shared.config.partitions.iter().map(partition).collect(),
            users: catalog.users,
            mailboxes,
            messages: self.messages,
            bytes: self.octets,
            absent: std::mem::take(&mut self.absent),
            log,
            catalog_blake3: catalog.blake3,
            mailboxes_blake3,
            metadata_blake3: Some(catalog.metadata_blake3),
            annotations_blake3: Some(catalog.annotations_blake3),
        };
        let dir = base_dir(&root, end.0);
        empty(storage, &dir)?;
        self.settle(&root, &making, &dir)?;
        self.progress.enter("verify");
        self.verify(&dir, &manifest)?;
        write_whole(storage, &root, &dir.join("manifest.json"), &to_json(&manifest))?;
        if let Some(archive) = &shared.archive {
            archive.note_backup(shared, end)?;
        }
        let at = time_text(consistent_us);
        let took = self.began.elapsed();
        tracing::info!(dir = %dir.display(), %end, at, messages = self.messages, copied, ?took, "backup");
        Ok(BackupReport {
            dir,
            end_lsn: end.0,
            consistent_us,
            users: catalog.users,
            mailboxes,
            messages: self.messages,
            messages_copied: copied,
            bytes_copied,
            absent: manifest.absent.len() as u64,
            findings: self.findings,
        })
    }

    /// A checkpoint that covers everything pushed before the hold: all that follows is kept.
    fn checkpoint(&self) -> Result<()> {
        let shared = self.shared;
        shared.log.hold(Lsn(shared.checkpointed.load(Ordering::Acquire)));
        let held_from = shared.log.end();
        self.wait("a checkpoint", || {
            shared.pump();
            shared.checkpoint()?;
            Ok(shared.checkpointed.load(Ordering::Acquire) >= held_from.0)
        })
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !done()? {
            self.check_cancel()?;
            if began.elapsed() > SETTLE_MAX {
                tracing::error!(what, "backup: given up after {SETTLE_MAX:?}");
                return Err(Error::NotAllowed("the store does not settle; see the log"));
            }
            std::thread::sleep(SETTLE_POLL);
        }
        Ok(())
    }

    fn check_cancel(&self) -> Result<()> {
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(Error::Closing);
        }
        if self.progress.cancel.load(Ordering::Acquire) {
            return Err(Error::NotAllowed("the backup was cancelled"));
        }
        Ok(())
    }

    /// The catalog, with the values of mailboxes and messages that lie in it.
    fn catalog(&self, making: &Path) -> Result<CopiedCatalog> {
        let shared = self.shared;
        let storage = &*shared.storage;
        let mut lines = Lines::new(storage, making.join("catalog.jsonl"), self.sync)?;
        let mut mailboxes = Vec::new();
        let mut users = 0;
        let meta = shared.catalog.snapshot(&mut |user, namespace| {
            lines.add(&UserLine::of(user, &namespace))?;
            users += 1;
            for (name, entry) in &namespace.mailboxes {
                mailboxes.push((user.to_owned(), name.clone(), entry.id));
            }
            Ok(())
        })?;
        let blake3 = lines.finish()?;
        let mut values = Lines::new(storage, making.join(METADATA), self.sync)?;
        let add = &mut |key, value: Arc<[u8]>| values.add(&MetadataLine::of(&key, &value));
        shared.catalog.metadata_all(add)?;
        let metadata_blake3 = values.finish()?;
        let mut values = Lines::new(storage, making.join(ANNOTATIONS), self.sync)?;
        let from = (MailboxId::default(), Uid(0));
        shared.catalog.annotations(from, &mut |(mailbox, uid, whose, entry), value| {
            let (whose, entry) = (whose.to_owned(), entry.to_owned());
            values.add(&MetadataLine::of(&Key { mailbox, uid, whose, entry }, value))?;
            Ok(true)
        })?;
        let annotations_blake3 = values.finish()?;
        Ok(CopiedCatalog { meta, users, mailboxes, blake3, metadata_blake3, annotations_blake3 })
    }

    /// Counts written octets, and waits where there is a limit.
    fn wrote(&self, bytes: u64) {
        let all = self.progress.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let Some(per_second) = self.options.bytes_per_second.filter(|n| *n > 0) else { return };
        let due = Duration::from_secs_f64(all as f64 / per_second as f64);
        while self.began.elapsed() < due && self.check_cancel().is_ok() {
            std::thread::sleep((due - self.began.elapsed()).min(Duration::from_millis(100)));
        }
    }

    /// Everything durable, then under its final name.
    fn settle(&self, root: &Path, making: &Path, dir: &Path) -> Result<()> {
        let storage = &*self.shared.storage;
        syncs_at_once(storage, root)?;
        for sub in ["mailbox", "log", "extra"] {
            let path = making.join(sub);
            storage.sync_dir(&path).map_err(Error::io("sync", path))?;
        }
        storage.sync_dir(making).map_err(Error::io("sync", making))?;
        let parent = root.join("base");
        create_durable(storage, &parent).map_err(Error::io("create", &parent))?;
        storage.rename(making, dir).map_err(Error::io("rename", making))?;
        storage.sync_dir(&parent).map_err(Error::io("sync", &parent))
    }

    /// Reads everything that was written, before the manifest says that it is there.
    fn verify(&self, dir: &Path, manifest: &BaseManifest) -> Result<()> {
        let storage = &*self.shared.storage;
        let bad = |path: PathBuf| {
            let found = "something else, read back right after it was written".to_owned();
            super::format::not_as_expected(&path, "what was written", found)
        };
        let lines = dir.join("mailboxes.jsonl");
        let values = manifest.values().map(|(name, said)| (dir.join(name), said));
        let catalog = (dir.join("catalog.jsonl"), &manifest.catalog_blake3);
        let mailboxes = (lines.clone(), &manifest.mailboxes_blake3);
        for (path, said) in [catalog, mailboxes].into_iter().chain(values) {
            if digest(storage, &path)?.1 != *said {
                return Err(bad(path));
            }
        }
        for (name, said) in &manifest.log {
            let path = dir.join("log").join(name);
            if digest(storage, &path)?.1 != *said {
                return Err(bad(path));
            }
        }
        super::verify::read_lines(storage, &lines, &mut |line: MailboxLine| {
            self.check_cancel()?;
            for ((ending, _), said) in MAILBOX_FILES.iter().zip(&line.files) {
                let path = dir.join("mailbox").join(format!("{}.{ending}", line.id));
                if digest(storage, &path)? != *said {
                    return Err(bad(path));
                }
            }
            Ok(())
        })?;
        for name in &self.written {
            self.check_cancel()?;
            if !self.pool.is_whole(name)? {
                return Err(bad(self.pool.path(name)));
            }
        }
        Ok(())
    }
}

/// The name of a layout in manifests.
pub(super) fn layout_name(kind: LayoutKind) -> &'static str {
    match kind {
        LayoutKind::Maildir => "maildir",
        LayoutKind::Cyrus => "cyrus",
    }
}

/// Removes what an earlier, unfinished backup left.
fn empty(storage: &dyn Storage, dir: &Path) -> Result<()> {
    for sub in ["mailbox", "log", "extra", "."] {
        let path = if sub == "." { dir.to_owned() } else { dir.join(sub) };
        for name in super::format::names_in(storage, &path)? {
            let _ = storage.unlink(&path.join(name));
        }
        let _ = storage.remove_dir(&path);
    }
    Ok(())
}

/// Whether one call makes all files of a filesystem durable; else each is synced by itself.
fn syncs_at_once(storage: &dyn Storage, root: &Path) -> Result<bool> {
    match storage.sync_filesystem(root) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::Unsupported => Ok(false),
        Err(e) => Err(Error::io("sync", root)(e)),
    }
}
