//! Storage for partitions without maps: network filesystems, and local ones where the operator
//! wants private buffers.
//!
//! Wraps another [`Storage`] for the paths below some roots; others pass through untouched. Below
//! them nothing is mapped, names that an NFS client invents for files removed while open
//! (`.nfs…`, "silly renames") are not listed, and a handle that the server no longer knows
//! (`ESTALE`) is opened again.
//!
//! Invariant: a sync never succeeds on a handle that replaced one with unsynced writes. What was
//! written through the lost handle may be gone, so the sync fails as any failed sync does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::layer::Layer;
use super::{Facts, Kind, Open, Stat, Storage, StoredFile};

/// First bytes of the names that an NFS client gives to removed files that are still open.
const SILLY_PREFIX: &[u8] = b".nfs";

/// See the module.
pub struct Network {
    inner: Arc<dyn Storage>,
    roots: Vec<PathBuf>,
}

/// Whether an error says that the server no longer knows a handle.
pub fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESTALE)
}

impl Network {
    /// Wraps `inner` for everything below `roots`.
    pub fn new(inner: Arc<dyn Storage>, roots: Vec<PathBuf>) -> Network {
        Network { inner, roots }
    }

    fn covers(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    /// A call without effects, once more after `ESTALE`: the path is looked up anew.
    fn again<T>(&self, path: &Path, call: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match call() {
            Err(e) if is_stale(&e) && self.covers(path) => call(),
            other => other,
        }
    }
}

struct Remote {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    reopen: Open,
    inode: u64,
    file: RwLock<Arc<dyn StoredFile>>,
    /// Written through the present handle and not synced.
    unsynced: AtomicBool,
    /// A handle with unsynced writes was lost.
    lost: AtomicBool,
}

impl Remote {
    fn file(&self) -> Arc<dyn StoredFile> {
        self.file.read().clone()
    }

    /// Runs `call`; after `ESTALE` once more on a new handle of the same file.
    fn with<T>(&self, call: impl Fn(&dyn StoredFile) -> io::Result<T>) -> io::Result<T> {
        let file = self.file();
        match call(&*file) {
            Err(stale) if is_stale(&stale) => {
                self.open_again(&file, stale)?;
                call(&*self.file())
            }
            other => other,
        }
    }

    fn open_again(&self, old: &Arc<dyn StoredFile>, stale: io::Error) -> io::Result<()> {
        let mut current = self.file.write();
        if !Arc::ptr_eq(&current, old) {
            return Ok(());
        }
        let fresh = self.storage.open(&self.path, self.reopen);
        // Another file of that name is not the one that was open.
        let same = self.storage.stat(&self.path).is_ok_and(|stat| stat.inode == self.inode);
        let Some(fresh) = fresh.ok().filter(|_| same) else { return Err(stale) };
        tracing::warn!(path = %self.path.display(), "stale file handle; opened again");
        if self.unsynced.swap(false, Ordering::AcqRel) {
            self.lost.store(true, Ordering::Release);
        }
        *current = fresh;
        Ok(())
    }

    fn written<T>(&self, call: impl Fn(&dyn StoredFile) -> io::Result<T>) -> io::Result<T> {
        let done = self.with(call);
        self.unsynced.store(true, Ordering::Release);
        done
    }

    fn synced(&self, call: impl Fn(&dyn StoredFile) -> io::Result<()>) -> io::Result<()> {
        // Taken back first: a write beside the sync sets it again.
        let unsynced = self.unsynced.swap(false, Ordering::AcqRel);
        let done = call(&*self.file());
        if self.lost.load(Ordering::Acquire) {
            return Err(io::Error::from_raw_os_error(libc::ESTALE));
        }
        if done.is_err() && unsynced {
            self.unsynced.store(true, Ordering::Release);
        }
        done
    }
}

impl StoredFile for Remote {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = self.file();
        match file.read_at(buf, offset) {
            Err(stale) if is_stale(&stale) => {
                self.open_again(&file, stale)?;
                self.file().read_at(buf, offset)
            }
            other => other,
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.written(|file| file.write_at(buf, offset))
    }

    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.with(|file| file.write_durable(buf, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.synced(|file| file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.synced(|file| file.sync_all())
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.file().start_writeback(offset, len);
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.file().will_need(offset, len);
    }

    fn size(&self) -> io::Result<u64> {
        self.with(|file| file.size())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written(|file| file.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.written(|file| file.allocate(len))
    }

    fn set_mtime(&self, seconds: i64) -> io::Result<()> {
        self.with(|file| file.set_mtime(seconds))
    }

    fn facts(&self) -> io::Result<Facts> {
        self.with(|file| file.facts())
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.with(|file| file.set_mode(mode))
    }

    fn map(&self, _len: usize) -> io::Result<Option<memmap2::Mmap>> {
        Ok(None)
    }
}

impl Layer for Network {
    fn below(&self) -> &dyn Storage {
        &*self.inner
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        let file = self.again(path, || self.inner.open(path, how))?;
        if !self.covers(path) {
            return Ok(file);
        }
        let reopen = match how {
            Open::Read => Open::Read,
            Open::Log => Open::Log,
            Open::Write | Open::CreateNew | Open::Create => Open::Write,
        };
        let inode = self.again(path, || self.inner.stat(path))?.inode;
        Ok(Arc::new(Remote {
            storage: self.inner.clone(),
            path: path.to_owned(),
            reopen,
            inode,
            file: RwLock::new(file),
            unsynced: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        }))
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.again(path, || self.inner.append(path, bytes))
    }

    fn list(&self, dir: &Path, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()> {
        if !self.covers(dir) {
            return self.inner.list(dir, each);
        }
        self.inner.list(dir, &mut |name, kind| {
            if !name.starts_with(SILLY_PREFIX) {
                each(name, kind);
            }
        })
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.again(path, || self.inner.stat(path))
    }

    fn stat_fresh(&self, path: &Path) -> io::Result<Stat> {
        self.again(path, || self.inner.stat_fresh(path))
    }

    fn sync_filesystem(&self, path: &Path) -> io::Result<()> {
        // Handles that were lost are known file by file only.
        if self.covers(path) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.inner.sync_filesystem(path)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::io::sim::Sim;

    const ROOT: &str = "/mail";

    /// A server that forgets its handles when told to.
    struct Forgetful {
        sim: Sim,
        generation: Arc<AtomicU32>,
    }

    struct Handle {
        file: Arc<dyn StoredFile>,
        now: Arc<AtomicU32>,
        generation: u32,
    }

    impl Handle {
        fn live(&self) -> io::Result<&dyn StoredFile> {
            if self.now.load(Ordering::Relaxed) == self.generation {
                Ok(&*self.file)
            } else {
                Err(io::Error::from_raw_os_error(libc::ESTALE))
            }
        }
    }

    impl StoredFile for Handle {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.live()?.read_at(buf, offset)
        }
        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
            self.live()?.write_at(buf, offset)
        }
        fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
            self.live()?.write_durable(buf, offset)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.live()?.sync_data()
        }
        fn sync_all(&self) -> io::Result<()> {
            self.live()?.sync_all()
        }
        fn start_writeback(&self, _offset: u64, _len: u64) {}
        fn size(&self) -> io::Result<u64> {
            self.live()?.size()
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.live()?.set_len(len)
        }
        fn allocate(&self, len: u64) -> io::Result<()> {
            self.live()?.allocate(len)
        }
        fn set_mtime(&self, seconds: i64) -> io::Result<()> {
            self.live()?.set_mtime(seconds)
        }
        fn facts(&self) -> io::Result<Facts> {
            self.live()?.facts()
        }
        fn set_mode(&self, mode: u32) -> io::Result<()> {
            self.live()?.set_mode(mode)
        }
        fn map(&self, _len: usize) -> io::Result<Option<memmap2::Mmap>> {
            Ok(None)
        }
    }

    impl Layer for Forgetful {
        fn below(&self) -> &dyn Storage {
            &self.sim
        }
        fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
            let generation = self.generation.load(Ordering::Relaxed);
            let file = self.sim.open(path, how)?;
            Ok(Arc::new(Handle { file, now: self.generation.clone(), generation }))
        }
    }

    fn storage() -> (Arc<dyn Storage>, Sim, Arc<AtomicU32>) {
        let (sim, generation) = (Sim::new(1), Arc::<AtomicU32>::default());
        sim.create_dir_all(Path::new(ROOT)).unwrap();
        let inner = Forgetful { sim: sim.clone(), generation: generation.clone() };
        (Arc::new(Network::new(Arc::new(inner), vec![ROOT.into()])), sim, generation)
    }

    #[test]
    fn a_stale_handle_is_opened_again_for_reads_and_a_sync_after_lost_writes_fails() {
        let (network, _, generation) = storage();
        let path = Path::new("/mail/a");
        let file = network.open(path, Open::CreateNew).unwrap();
        file.write_at(b"abc", 0).unwrap();
        file.sync_data().unwrap();
        generation.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0; 3];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"abc");
        // Nothing was pending on the lost handle, so the new one syncs.
        file.write_at(b"d", 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(b"e", 0).unwrap();
        generation.fetch_add(1, Ordering::Relaxed);
        file.write_at(b"f", 1).unwrap();
        assert!(is_stale(&file.sync_data().unwrap_err()));
        assert!(is_stale(&file.sync_data().unwrap_err()), "it stays failed");
    }

    #[test]
    fn another_file_of_the_same_name_is_not_taken_for_the_lost_one() {
        let (network, sim, generation) = storage();
        let path = Path::new("/mail/a");
        let file = network.open(path, Open::CreateNew).unwrap();
        sim.unlink(path).unwrap();
        sim.open(path, Open::CreateNew).unwrap();
        generation.fetch_add(1, Ordering::Relaxed);
        assert!(is_stale(&file.size().unwrap_err()));
    }

    #[test]
    fn silly_names_are_not_listed_and_paths_elsewhere_pass_through() {
        let (network, sim, _) = storage();
        for name in [".nfs000001", "message", ".other"] {
            sim.open(&Path::new(ROOT).join(name), Open::CreateNew).unwrap();
        }
        sim.create_dir_all(Path::new("/local")).unwrap();
        sim.open(Path::new("/local/.nfs1"), Open::CreateNew).unwrap();
        let listed = |dir: &str| {
            let mut names = Vec::new();
            network.list(Path::new(dir), &mut |name, _| names.push(name.to_vec())).unwrap();
            names.sort();
            names
        };
        assert_eq!(listed(ROOT), [&b".other"[..], b"message"]);
        assert_eq!(listed("/local"), [b".nfs1"]);
    }
}
