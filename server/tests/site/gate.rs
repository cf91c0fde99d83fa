//! A disk on which messages of some names cannot be looked at before the test says so.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use engine::io::blocking::Blocking;
use engine::io::{Filesystem, Kind, Open, Stat, Storage, StoredFile};

/// Names with this in them wait.
pub(crate) const GATED: &str = "gated";

#[derive(Clone)]
pub(crate) struct Gate {
    disk: Arc<Blocking>,
    is_open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    /// Closed.
    pub(crate) fn new() -> Gate {
        Gate { disk: Arc::new(Blocking::new()), is_open: Arc::default() }
    }

    pub(crate) fn open_it(&self) {
        *self.is_open.0.lock().unwrap() = true;
        self.is_open.1.notify_all();
    }

    fn pass(&self, path: &Path) {
        if path.to_string_lossy().contains(GATED) {
            let is_open = self.is_open.0.lock().unwrap();
            drop(self.is_open.1.wait_while(is_open, |is_open| !*is_open).unwrap());
        }
    }
}

impl Storage for Gate {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        self.pass(path);
        self.disk.open(path, how)
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.disk.append(path, bytes)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename_noreplace(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.disk.unlink(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn list(&self, dir: &Path, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()> {
        self.disk.list(dir, each)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.pass(path);
        self.disk.stat(path)
    }
    fn stat_fresh(&self, path: &Path) -> io::Result<Stat> {
        self.disk.stat_fresh(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn sync_filesystem(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_filesystem(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }
    fn lock_range(&self, path: &Path) -> io::Result<Arc<dyn StoredFile>> {
        self.disk.lock_range(path)
    }
    fn filesystem(&self, path: &Path) -> io::Result<Filesystem> {
        self.disk.filesystem(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }
}
