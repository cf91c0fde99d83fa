//! The simulated disk's names, directories, locks and clock, as the engine calls them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::directory::SimDirectory;
use super::disk::{Change, Inode};
use super::file::SimFile;
use super::{Fate, Mode, Sim, State, cut, raw};
use crate::io::{Directory, Filesystem, Kind, Open, Stat, Storage, StoredFile};

struct LockGuard {
    state: Arc<Mutex<State>>,
    inode: Inode,
    boot: u64,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.boot == self.boot {
            state.locks.remove(&self.inode);
        }
    }
}

impl Storage for Sim {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        let mut state = self.state.lock();
        state.check()?;
        let found = state.lookup(path);
        let inode = state.open(found, how, |state| state.parent(path))?;
        let (boot, writable) = (state.boot, how != Open::Read);
        Ok(Arc::new(SimFile { state: self.state.clone(), inode, boot, writable }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.state.lock().create_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for ancestor in ancestors {
            match state.create_dir(ancestor) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        let inode = state.lookup(path)?;
        if state.is_dir(inode) { Ok(()) } else { Err(raw(libc::EEXIST)) }
    }

    fn filesystem(&self, _path: &Path) -> io::Result<Filesystem> {
        let journal = self.state.lock().disk.mode() != Mode::NoJournal;
        let (renames_are_whole, names_follow_files) = (journal, journal);
        Ok(Filesystem { renames_are_whole, names_follow_files, ..Filesystem::LOCAL })
    }

    fn directory(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        let state = self.state.lock();
        state.check()?;
        let inode = state.lookup(path)?;
        state.disk.dir(inode).ok_or_else(|| raw(libc::ENOTDIR))?;
        Ok(Arc::new(SimDirectory { state: self.state.clone(), inode, boot: state.boot }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.lock().rename(from, to, true)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.lock().rename(from, to, false)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        let (from, to) = (state.parent(from)?, state.parent(to)?);
        state.link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        let at = state.parent(path)?;
        state.unlink(at)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        let inode = state.lookup(path)?;
        match state.disk.dir(inode) {
            None => return Err(raw(libc::ENOTDIR)),
            Some(dir) if !dir.live.is_empty() => return Err(raw(libc::ENOTEMPTY)),
            Some(_) => {}
        }
        let (dir, name) = state.parent(path)?;
        state.change(vec![Change { dir, name, to: None }])
    }

    fn list(&self, dir: &Path, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()> {
        let state = self.state.lock();
        state.check()?;
        let entries = state.entries(state.lookup(dir)?)?;
        // `each` may call us.
        drop(state);
        entries.iter().for_each(|(name, kind)| each(name, *kind));
        Ok(())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.state.lock();
        state.check()?;
        Ok(state.facts(state.lookup(path)?)?.stat)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        let inode = state.lookup(dir)?;
        state.sync_dir(inode)
    }

    fn sync_filesystem(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        if !state.syncfs {
            return Err(io::ErrorKind::Unsupported.into());
        }
        match state.count()? {
            Fate::Happens => {
                state.disk.sync_all();
                Ok(())
            }
            Fate::Cut => Err(cut()),
            Fate::Fails(fault) => Err(fault.error()),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        drop(self.open(path, Open::Create)?);
        let mut state = self.state.lock();
        let inode = state.lookup(path)?;
        if !state.locks.insert(inode) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(LockGuard { state: self.state.clone(), inode, boot: state.boot }))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.state.lock().check()?;
        Ok(1 << 40)
    }

    fn now_ns(&self) -> i64 {
        self.state.lock().now_ns()
    }

    fn random(&self, out: &mut [u8]) {
        let mut state = self.state.lock();
        out.fill_with(|| state.random.next() as u8);
    }
}
