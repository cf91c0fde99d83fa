//! Where the archive is: a directory, or whatever a command makes of it.

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::format::{FORMAT, MessageName, Owner, not_as_expected, read_json, to_json, write_whole};
use super::pool::{Pool, Put};
use super::{ArchiveConfig, ArchiveTarget};
use crate::error::{Error, Result};
use crate::ids::StoreId;
use crate::io::{Open, Storage, StoredFile};

/// How often a running command is looked after.
const COMMAND_POLL: Duration = Duration::from_millis(5);

/// An archive being written.
pub(super) enum Target {
    Directory { storage: Arc<dyn Storage>, root: PathBuf, pool: Pool, lock: Option<Lock> },
    Command { storage: Arc<dyn Storage>, line: Vec<String>, time_max: Duration },
}

pub(super) type Lock = Box<dyn Send + Sync>;

/// The archiver's lock in an archive directory.
pub(super) const TAKER_LOCK: &str = "lock";
/// A backup's. Whoever removes messages takes both.
pub(super) const BACKUP_LOCK: &str = "lock.base";

/// Keeps others from writing to an archive directory.
pub(super) fn lock(storage: &dyn Storage, root: &Path, name: &str) -> Result<Lock> {
    let path = root.join(name);
    storage.lock(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked(path.clone()),
        _ => Error::io("lock", &path)(e),
    })
}

/// Makes a directory this store's, or makes sure that it is and that no later owner writes to it.
pub(super) fn claim(
    storage: &dyn Storage,
    root: &Path,
    store_id: StoreId,
    owner_epoch: u32,
) -> Result<()> {
    let path = root.join("archive.json");
    let mine = Owner { format: FORMAT, store: store_id.to_string(), owner_epoch };
    match storage.stat(&path) {
        Ok(_) => {
            let owner: Owner = read_json(storage, &path)?;
            if owner.store != mine.store {
                let found = format!("that of store {}", owner.store);
                return Err(not_as_expected(&path, "the archive of this store", found));
            }
            if owner.owner_epoch > owner_epoch {
                let later = owner.owner_epoch;
                let found = format!(
                    "owner epoch {later}, that of a restored store; this one has {owner_epoch}"
                );
                return Err(not_as_expected(&path, "no later owner of this store", found));
            }
            if owner == mine {
                return Ok(());
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("stat", path)(e)),
    }
    write_whole(storage, root, &path, &to_json(&mine))
}

impl Target {
    pub(super) fn new(storage: Arc<dyn Storage>, config: &ArchiveConfig) -> Target {
        match &config.target {
            ArchiveTarget::Directory(root) => {
                let pool = Pool::new(storage.clone(), root);
                Target::Directory { storage, root: root.clone(), pool, lock: None }
            }
            ArchiveTarget::Command(line) => {
                let time_max = config.command_time_max;
                Target::Command { storage, line: line.clone(), time_max }
            }
        }
    }

    /// Takes a directory's lock for one turn and makes sure that it is this store's and that no
    /// later owner writes to it. A directory that is not there is not made: it may be a mount
    /// that is missing.
    pub(super) fn begin(&mut self, store_id: StoreId, owner_epoch: u32) -> Result<()> {
        let Target::Directory { storage, root, lock: held, .. } = self else { return Ok(()) };
        storage.stat(root).map_err(Error::io("open", &*root))?;
        *held = Some(lock(&**storage, root, TAKER_LOCK)?);
        claim(&**storage, root, store_id, owner_epoch)
    }

    /// Ends a turn.
    pub(super) fn end(&mut self) {
        match self {
            Target::Directory { lock, .. } => *lock = None,
            Target::Command { .. } => {}
        }
    }

    /// Whether a message surely is in the archive.
    pub(super) fn has(&self, name: &MessageName) -> Result<bool> {
        match self {
            Target::Directory { pool, .. } => pool.has(name),
            Target::Command { .. } => Ok(false),
        }
    }

    /// Takes a message.
    pub(super) fn put(&mut self, name: &MessageName, from: &Path) -> Result<Put> {
        match self {
            Target::Directory { pool, .. } => pool.put(name, from),
            Target::Command { storage, line, time_max } => {
                let file = match storage.open(from, Open::Read) {
                    Ok(file) => file,
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Put::Missing),
                    Err(e) => return Err(Error::io("open", from)(e)),
                };
                let mut check = super::pool::ContentCheck::new();
                let mut reader = Stored { file: file.clone(), at: 0, end: u64::MAX };
                let mut buffer = vec![0; 64 << 10];
                loop {
                    let n = reader.read(&mut buffer).map_err(Error::io("read", from))?;
                    if n == 0 {
                        break;
                    }
                    check.feed(&buffer[..n]);
                }
                if !check.is(name) {
                    return Ok(Put::Differs);
                }
                let bytes = u64::from(name.stored);
                let reader = Stored { file, at: 0, end: bytes };
                run(line, *time_max, "message", &name.path(), bytes, reader)?;
                Ok(Put::Written(bytes))
            }
        }
    }

    /// All messages put so far are durable on return.
    pub(super) fn flush(&mut self) -> Result<()> {
        match self {
            Target::Directory { pool, .. } => pool.flush(),
            Target::Command { .. } => Ok(()),
        }
    }

    /// Takes the first `bytes` of a segment.
    pub(super) fn put_segment(&self, path: &Path, segment: &[u8]) -> Result<()> {
        self.put_bytes("segment", path, segment)
    }

    /// Takes a small item: `manifest` or `gap`.
    pub(super) fn put_bytes(&self, kind: &str, path: &Path, bytes: &[u8]) -> Result<()> {
        match self {
            Target::Directory { storage, root, .. } => {
                write_whole(&**storage, root, &root.join(path), bytes)
            }
            Target::Command { line, time_max, .. } => {
                let reader = Cursor::new(bytes.to_vec());
                run(line, *time_max, kind, path, bytes.len() as u64, reader)
            }
        }
    }
}

/// A file of the store as a reader.
struct Stored {
    file: Arc<dyn StoredFile>,
    at: u64,
    end: u64,
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = (self.end - self.at).min(buffer.len() as u64) as usize;
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Runs the command for one item and waits for it.
fn run(
    line: &[String],
    time_max: Duration,
    kind: &str,
    path: &Path,
    bytes: u64,
    mut item: impl Read + Send + 'static,
) -> Result<()> {
    let Some((program, first)) = line.split_first() else {
        return Err(Error::NotAllowed("the archive's command is empty"));
    };
    let failed = |what: String| Error::Io {
        what: "run",
        path: PathBuf::from(program),
        source: Arc::new(std::io::Error::other(what)),
    };
    let mut command = Command::new(program);
    command.args(first).arg(kind).arg(path).arg(bytes.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(Error::io("run", program))?;
    let input = child.stdin.take();
    // In a thread of its own: a command that neither reads nor ends must not hold us for good.
    let feeder = std::thread::spawn(move || {
        let Some(mut input) = input else { return Ok(()) };
        std::io::copy(&mut item, &mut input).and_then(|_| input.flush())
    });
    let began = Instant::now();
    let status = loop {
        match child.try_wait().map_err(Error::io("wait for", program))? {
            Some(status) => break status,
            None if began.elapsed() > time_max => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!(
                    "{kind} {}: no end after {time_max:?}",
                    path.display()
                )));
            }
            None => std::thread::sleep(COMMAND_POLL),
        }
    };
    // A command that succeeds without reading everything says so itself.
    let fed = feeder.join().unwrap_or_else(|_| Err(std::io::Error::other("its input failed")));
    match fed {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err(failed(format!("{kind} {}: {e}", path.display())));
        }
        _ => {}
    }
    if status.success() {
        return Ok(());
    }
    Err(failed(format!("{kind} {}: {status}", path.display())))
}
