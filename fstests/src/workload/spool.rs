//! A Maildir as other software writes it, through the engine's file calls and layout.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::io::{Open, Storage};
use engine::layout::{Layout, Location, Maildir, NameFlags, Unique};
use protocol::types::{SystemFlags, Uid};

use super::Corpus;
use crate::error::{Error, Result};
use crate::stop;

/// Folders larger than this have messages of [`SHORT_BYTES`], so that they fit on the disk.
pub const FULL_MESSAGES_MAX: usize = 10_000;
/// Folders larger than this have empty ones, so that a million do.
pub const SHORT_MESSAGES_MAX: usize = 100_000;
/// Bytes of a short message.
const SHORT_BYTES: usize = 256;
/// Messages between two looks at the clock.
const LOOK_EVERY: usize = 64;

/// How a delivery by hand puts a message into place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// rename(2), as Postfix, Dovecot and maildrop do.
    Rename,
    /// link(2) and unlink(2), as qmail and Courier do.
    Link,
    /// rename(2) without any sync, as agents do whose operator switched syncs off.
    Unsynced,
}

/// One Maildir.
pub struct Spool {
    storage: Arc<dyn Storage>,
    layout: Maildir,
    dir: PathBuf,
    counter: AtomicU64,
}

impl Spool {
    /// Makes an empty one below `root`.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn create(storage: Arc<dyn Storage>, root: &Path, user: &str) -> Result<Spool> {
        let layout = Maildir::default();
        let dir = layout
            .mailbox_dir(root, user, "INBOX")
            .map_err(|error| Error::Usage(error.to_string()))?;
        layout.create(&*storage, root, &dir).map_err(Error::io("create", &dir))?;
        Ok(Spool { storage, layout, dir, counter: AtomicU64::new(0) })
    }

    /// The same Maildir through other file calls: the old ones keep descriptors open.
    #[must_use]
    pub fn through(self, storage: Arc<dyn Storage>) -> Spool {
        Spool { storage, ..self }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A name that no other message here has.
    fn base(&self, bytes: usize) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unique = Unique {
            seconds: now.as_secs() as i64,
            micros: now.subsec_micros(),
            pid: std::process::id(),
            counter: self.counter.fetch_add(1, Ordering::Relaxed),
            host: "fstests",
        };
        self.layout.base_name(&unique, bytes as u32, bytes as u32)
    }

    fn location(base: Vec<u8>, in_new: bool) -> Location {
        let (flags, other_letters) = (NameFlags::default(), Vec::new());
        Location { uid: Uid(0), base, flags, other_letters, in_new }
    }

    /// Delivers: the message, then its name, both durable but for [`Hand::Unsynced`]. Returns where
    /// it is.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn deliver(&self, message: &[u8], hand: Hand) -> Result<Location> {
        let base = self.base(message.len());
        let name = String::from_utf8_lossy(&base).into_owned();
        let staged = self.dir.join("tmp").join(name);
        let at = Self::location(base, true);
        let place = self.layout.path(&self.dir, &at);
        let storage = &*self.storage;
        {
            let open = storage.open(&staged, Open::CreateNew);
            let file = open.map_err(Error::io("create", &staged))?;
            file.write_at(message, 0).map_err(Error::io("write", &staged))?;
            if hand != Hand::Unsynced {
                file.sync_all().map_err(Error::io("sync", &staged))?;
            }
        }
        match hand {
            Hand::Rename | Hand::Unsynced => storage.rename(&staged, &place),
            Hand::Link => storage.link(&staged, &place).and_then(|()| storage.unlink(&staged)),
        }
        .map_err(Error::io("place", &place))?;
        if hand == Hand::Unsynced {
            return Ok(at);
        }
        let new = self.dir.join("new");
        storage.sync_dir(&new).map_err(Error::io("sync", &new))?;
        Ok(at)
    }

    /// Puts `count` messages into `cur/` without syncs, then syncs the filesystem.
    ///
    /// # Errors
    /// What the filesystem says; when it takes longer than `limit`, as it does where each name is
    /// looked for among all; [`Error::Stopped`] on Ctrl-C.
    pub fn fill(&self, corpus: &Corpus, count: usize, limit: Duration) -> Result<()> {
        let began = Instant::now();
        let mut looked = began;
        for n in 0..count {
            if n % LOOK_EVERY == 0 {
                stop::check()?;
                let now = Instant::now();
                if now - began > limit {
                    let each = (now - looked).as_secs_f64() * 1000.0 / LOOK_EVERY as f64;
                    return Err(Error::Usage(format!(
                        "{n} of {count} messages were made in {} s, the last at {each:.1} ms each",
                        limit.as_secs()
                    )));
                }
                looked = now;
            }
            let whole = corpus.stored(n);
            let bytes = if count <= FULL_MESSAGES_MAX {
                whole.len()
            } else if count <= SHORT_MESSAGES_MAX {
                whole.len().min(SHORT_BYTES)
            } else {
                0
            };
            self.put(&whole[..bytes])?;
        }
        self.settle()
    }

    /// Puts a message into `cur/` without a sync.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn put(&self, message: &[u8]) -> Result<Location> {
        let at = Self::location(self.base(message.len()), false);
        let path = self.path(&at);
        let open = self.storage.open(&path, Open::CreateNew);
        let file = open.map_err(Error::io("create", &path))?;
        if !message.is_empty() {
            file.write_at(message, 0).map_err(Error::io("write", &path))?;
        }
        Ok(at)
    }

    /// Looks for a message that is not there, under a name that nobody looked for before: the
    /// kernel remembers those too.
    ///
    /// # Errors
    /// What the filesystem says, or that it is there.
    pub fn miss(&self) -> Result<()> {
        let path = self.path(&Self::location(self.base(0), false));
        match self.storage.stat(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io("look for", &path)(error)),
            Ok(_) => Err(Error::Usage(format!("{} is there", path.display()))),
        }
    }

    /// Syncs the filesystem, so that one measurement does not pay for another's writes.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn settle(&self) -> Result<()> {
        let dir = &self.dir;
        match self.storage.sync_filesystem(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::Unsupported => self.storage.sync_dir(dir),
            other => other,
        }
        .map_err(Error::io("sync", dir))
    }

    /// Path of a message.
    pub fn path(&self, at: &Location) -> PathBuf {
        self.layout.path(&self.dir, at)
    }

    /// Every message, as the layout lists them.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn list(&self) -> Result<Vec<Location>> {
        let mut found = Vec::new();
        self.layout
            .list(&*self.storage, &self.dir, false, &mut |at| found.push(at))
            .map_err(Error::io("list", &self.dir))?;
        Ok(found)
    }

    /// Reads a message whole into `into`.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn read(&self, at: &Location, into: &mut Vec<u8>) -> Result<()> {
        let path = self.path(at);
        let open = self.storage.open(&path, Open::Read);
        let file = open.map_err(Error::io("open", &path))?;
        let size = file.size().map_err(Error::io("look at", &path))?;
        into.resize(size as usize, 0);
        file.read_exact_at(into, 0).map_err(Error::io("read", &path))
    }

    /// Renames a message to the other state of `\Seen`, and to `cur/`.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn flip_seen(&self, at: &Location) -> Result<Location> {
        let flags = NameFlags(at.flags.0 ^ SystemFlags::SEEN.0);
        let after = Location { flags, in_new: false, ..at.clone() };
        let (old, new) = (self.path(at), self.path(&after));
        self.storage.rename(&old, &new).map_err(Error::io("rename", &old))?;
        Ok(after)
    }

    /// Removes a message.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn remove(&self, at: &Location) -> Result<()> {
        let path = self.path(at);
        self.storage.unlink(&path).map_err(Error::io("remove", &path))
    }

    /// Makes the names of `cur/` durable.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn sync_names(&self) -> Result<()> {
        let cur = self.dir.join("cur");
        self.storage.sync_dir(&cur).map_err(Error::io("sync", &cur))
    }

    /// The engine's file calls.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::io::blocking::Blocking;

    #[test]
    fn what_is_delivered_is_listed_read_flagged_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let corpus = Corpus::new(1, 5_000);
        let spool = Spool::create(Arc::new(Blocking::new()), dir.path(), "alice").unwrap();
        spool.fill(&corpus, 2, Duration::from_secs(60)).unwrap();
        spool.miss().unwrap();
        for (n, hand) in [Hand::Rename, Hand::Link, Hand::Unsynced].into_iter().enumerate() {
            let at = spool.deliver(corpus.stored(n), hand).unwrap();
            let mut text = Vec::new();
            spool.read(&at, &mut text).unwrap();
            assert_eq!(text, corpus.stored(n));
            let seen = spool.flip_seen(&at).unwrap();
            assert!(spool.path(&seen).to_string_lossy().ends_with(":2,S"));
            assert_eq!(spool.list().unwrap().len(), 3);
            spool.remove(&seen).unwrap();
        }
        assert_eq!(spool.list().unwrap().len(), 2);
        assert_eq!(std::fs::read_dir(spool.dir().join("tmp")).unwrap().count(), 0);
        let put = spool.put(b"").unwrap();
        assert!(spool.path(&put).parent().unwrap().ends_with("cur"));
    }

    #[test]
    fn a_folder_that_takes_too_long_to_fill_is_given_up_with_its_pace() {
        let dir = tempfile::tempdir().unwrap();
        let corpus = Corpus::new(1, 5_000);
        let spool = Spool::create(Arc::new(Blocking::new()), dir.path(), "alice").unwrap();
        let said = spool.fill(&corpus, 10_000_000, Duration::ZERO).unwrap_err().to_string();
        assert!(said.contains(" of 10000000 messages were made in 0 s, the last at "), "{said}");
    }
}
