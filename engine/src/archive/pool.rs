//! Message files by content, in an archive or a backup.
//!
//! Invariant: a file has its name only when its bytes are durable and were seen to be what the
//! name says. So what is there need not be read again before it counts.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::MessageName;
use crate::error::{Error, Result};
use crate::io::{Open, Storage, StoredFile};
use crate::layout::create_durable;
use crate::message::{Crlf, LineEnds};

/// Bytes copied at a time.
const COPY_BYTES: usize = 256 << 10;
/// Files of one batch, which are made durable together.
const BATCH_FILES_MAX: usize = 256;
/// Bytes of one batch.
const BATCH_BYTES_HIGH: u64 = 32 << 20;

/// The messages of an archive.
pub(super) struct Pool {
    storage: Arc<dyn Storage>,
    root: PathBuf,
    batch: Vec<(Arc<dyn StoredFile>, PathBuf, MessageName)>,
    batch_bytes: u64,
    serial: u64,
}

/// What became of a message that was to be put into a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It was there already, or is in this batch.
    Present,
    /// Written, so many bytes; durable after [`Pool::flush`].
    Written(u64),
    /// There is no file at the place named.
    Missing,
    /// The file is not the message.
    Differs,
}

/// Tells whether bytes are a message: both ways in which layouts store them are tried.
pub(super) struct ContentCheck {
    raw: blake3::Hasher,
    served: blake3::Hasher,
    crlf: Crlf,
    buffer: Vec<u8>,
    bytes: u64,
}

impl ContentCheck {
    pub(super) fn new() -> ContentCheck {
        ContentCheck {
            raw: blake3::Hasher::new(),
            served: blake3::Hasher::new(),
            crlf: Crlf::new(LineEnds::Lf),
            buffer: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.raw.update(bytes);
        self.buffer.clear();
        self.crlf.convert(bytes, &mut self.buffer);
        self.served.update(&self.buffer);
        self.bytes += bytes.len() as u64;
    }

    pub(super) fn is(&self, name: &MessageName) -> bool {
        let same = |hasher: &blake3::Hasher| hasher.finalize().as_bytes()[..16] == name.content_id;
        self.bytes == u64::from(name.stored) && (same(&self.served) || same(&self.raw))
    }
}

impl Pool {
    pub(super) fn new(storage: Arc<dyn Storage>, root: &Path) -> Pool {
        let (batch, batch_bytes, serial) = (Vec::new(), 0, 0);
        Pool { storage, root: root.to_owned(), batch, batch_bytes, serial }
    }

    /// Where a message is, if it is there.
    pub(super) fn path(&self, name: &MessageName) -> PathBuf {
        self.root.join(name.path())
    }

    /// Whether a message is there, durably.
    pub(super) fn has(&self, name: &MessageName) -> Result<bool> {
        let path = self.path(name);
        match self.storage.stat(&path) {
            Ok(stat) => Ok(stat.size == u64::from(name.stored)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("stat", path)(e)),
        }
    }

    /// Copies a message from a file of the store.
    pub(super) fn put(&mut self, name: &MessageName, from: &Path) -> Result<Put> {
        if self.batch.iter().any(|(_, _, batched)| batched == name) || self.has(name)? {
            return Ok(Put::Present);
        }
        let source = match self.storage.open(from, Open::Read) {
            Ok(source) => source,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Put::Missing),
            Err(e) => return Err(Error::io("open", from)(e)),
        };
        let tmp = self.root.join("tmp");
        if self.serial == 0 {
            create_durable(&*self.storage, &tmp).map_err(Error::io("create", &tmp))?;
        }
        self.serial += 1;
        let making = tmp.join(format!("{name}.{}", self.serial));
        match self.storage.unlink(&making) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(Error::io("unlink", making)(e));
            }
            _ => {}
        }
        let file =
            self.storage.open(&making, Open::CreateNew).map_err(Error::io("create", &making))?;
        let mut check = ContentCheck::new();
        copy(&*source, from, &*file, &making, &mut check).inspect_err(|_| {
            let _ = self.storage.unlink(&making);
        })?;
        if !check.is(name) {
            self.storage.unlink(&making).map_err(Error::io("unlink", &making))?;
            return Ok(Put::Differs);
        }
        self.batch.push((file, making, *name));
        self.batch_bytes += u64::from(name.stored);
        if self.batch.len() >= BATCH_FILES_MAX || self.batch_bytes >= BATCH_BYTES_HIGH {
            self.flush()?;
        }
        Ok(Put::Written(u64::from(name.stored)))
    }

    /// Makes the batch durable and gives its files their names, durably.
    pub(super) fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let storage = &*self.storage;
        match storage.sync_filesystem(&self.root) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                for (file, making, _) in &batch {
                    file.sync_all().map_err(Error::io("sync", making))?;
                }
            }
            Err(e) => return Err(Error::io("sync", &self.root)(e)),
        }
        let mut dirs = Vec::new();
        for (_, making, name) in &batch {
            let path = self.root.join(name.path());
            let dir = path.parent().unwrap_or(&self.root).to_owned();
            if !dirs.contains(&dir) {
                create_durable(storage, &dir).map_err(Error::io("create", &dir))?;
                dirs.push(dir);
            }
            storage.rename(making, &path).map_err(Error::io("rename", making))?;
        }
        dirs.iter().try_for_each(|dir| storage.sync_dir(dir).map_err(Error::io("sync", dir)))
    }

    /// Reads a message that is there and says whether it is what its name says.
    pub(super) fn is_whole(&self, name: &MessageName) -> Result<bool> {
        let path = self.path(name);
        let file = match self.storage.open(&path, Open::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("open", path)(e)),
        };
        let mut check = ContentCheck::new();
        let mut buffer = vec![0; COPY_BYTES.min(name.stored as usize + 1)];
        let mut at = 0;
        loop {
            let n = file.read_at(&mut buffer, at).map_err(Error::io("read", &path))?;
            if n == 0 {
                return Ok(check.is(name));
            }
            check.feed(&buffer[..n]);
            at += n as u64;
        }
    }

    /// Writes a message into a file of a store; `false` when it is not here whole.
    /// With `sync` it is durable on return, but for its name.
    pub(super) fn fetch(
        &self,
        name: &MessageName,
        to: &Path,
        mtime: i64,
        sync: bool,
    ) -> Result<bool> {
        let from = self.path(name);
        let source = match self.storage.open(&from, Open::Read) {
            Ok(source) => source,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("open", from)(e)),
        };
        let file = match self.storage.unlink(to) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => self.storage.open(to, Open::CreateNew),
        };
        let file = file.map_err(Error::io("create", to))?;
        let mut check = ContentCheck::new();
        copy(&*source, &from, &*file, to, &mut check)?;
        if !check.is(name) {
            self.storage.unlink(to).map_err(Error::io("unlink", to))?;
            return Ok(false);
        }
        file.set_mtime(mtime).map_err(Error::io("date", to))?;
        if sync {
            file.sync_all().map_err(Error::io("sync", to))?;
        }
        Ok(true)
    }
}

fn copy(
    from: &dyn StoredFile,
    from_path: &Path,
    to: &dyn StoredFile,
    to_path: &Path,
    check: &mut ContentCheck,
) -> Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let n = from.read_at(&mut buffer, at).map_err(Error::io("read", from_path))?;
        if n == 0 {
            return Ok(());
        }
        check.feed(&buffer[..n]);
        to.write_at(&buffer[..n], at).map_err(Error::io("write", to_path))?;
        at += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::Sim;

    fn name_of(stored: &[u8], served: &[u8]) -> MessageName {
        let mut content_id = [0; 16];
        content_id.copy_from_slice(&blake3::hash(served).as_bytes()[..16]);
        MessageName { content_id, stored: stored.len() as u32 }
    }

    fn write(sim: &Sim, path: &Path, bytes: &[u8]) {
        sim.create_dir_all(path.parent().unwrap()).unwrap();
        sim.open(path, Open::Create).unwrap().write_at(bytes, 0).unwrap();
    }

    #[test]
    fn both_stored_forms_are_known_by_the_served_bytes() {
        let sim = Sim::new(1);
        let mut pool = Pool::new(Arc::new(sim.clone()), Path::new("/archive"));
        let (lf, crlf) = (b"a: b\n\nx\n".as_slice(), b"a: b\r\n\r\nx\r\n".as_slice());
        for stored in [lf, crlf] {
            let name = name_of(stored, crlf);
            write(&sim, Path::new("/mail/1"), stored);
            assert_eq!(
                pool.put(&name, Path::new("/mail/1")).unwrap(),
                Put::Written(stored.len() as u64)
            );
            assert!(!pool.has(&name).unwrap(), "a name is a promise");
            pool.flush().unwrap();
            assert!(pool.has(&name).unwrap() && pool.is_whole(&name).unwrap());
            assert_eq!(pool.put(&name, Path::new("/mail/1")).unwrap(), Put::Present);
            sim.unlink(Path::new("/mail/1")).unwrap();
            assert!(pool.fetch(&name, Path::new("/mail/2"), 7, true).unwrap());
            let back = sim.open(Path::new("/mail/2"), Open::Read).unwrap();
            assert_eq!(back.size().unwrap(), stored.len() as u64);
        }
    }

    #[test]
    fn what_is_not_the_message_is_not_taken_and_not_given() {
        let sim = Sim::new(1);
        let mut pool = Pool::new(Arc::new(sim.clone()), Path::new("/archive"));
        let name = name_of(b"abc", b"abc");
        assert_eq!(pool.put(&name, Path::new("/mail/1")).unwrap(), Put::Missing);
        write(&sim, Path::new("/mail/1"), b"abd");
        assert_eq!(pool.put(&name, Path::new("/mail/1")).unwrap(), Put::Differs);
        write(&sim, &pool.path(&name), b"abd");
        assert!(!pool.is_whole(&name).unwrap());
        assert!(!pool.fetch(&name, Path::new("/mail/2"), 7, true).unwrap());
        assert!(sim.stat(Path::new("/mail/2")).is_err());
    }
}
