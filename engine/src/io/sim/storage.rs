//! The simulated disk's names, directories, locks and clock, as the engine calls them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Change, Inode, Node, mix};
use super::file::SimFile;
use super::{Fate, Mode, Sim, State, cut, raw};
use crate::io::{Filesystem, Kind, Open, Stat, Storage, StoredFile};

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
        let inode = match (state.lookup(path), how) {
            (Ok(_), Open::CreateNew) => return Err(raw(libc::EEXIST)),
            (Ok(inode), _) if state.is_dir(inode) => return Err(raw(libc::EISDIR)),
            (Ok(inode), _) => inode,
            (Err(e), Open::CreateNew | Open::Create) if e.kind() == io::ErrorKind::NotFound => {
                let (dir, name) = state.parent(path)?;
                let now = state.now_ns();
                let inode = state.disk.add_file(now);
                state.change(vec![Change { dir, name, to: Some(inode) }])?;
                inode
            }
            (Err(e), _) => return Err(e),
        };
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

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.lock().rename(from, to, true)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state.lock().rename(from, to, false)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        let inode = state.lookup(from)?;
        let (dir, name) = state.parent(to)?;
        if state.entry(dir, &name).is_some() {
            return Err(raw(libc::EEXIST));
        }
        if state.is_dir(inode) {
            return Err(raw(libc::EPERM));
        }
        state.change(vec![Change { dir, name, to: Some(inode) }])
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        let inode = state.lookup(path)?;
        if state.is_dir(inode) {
            return Err(raw(libc::EISDIR));
        }
        let (dir, name) = state.parent(path)?;
        state.change(vec![Change { dir, name, to: None }])
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
        let inode = state.lookup(dir)?;
        let node = state.disk.dir(inode).ok_or_else(|| raw(libc::ENOTDIR))?;
        let kind = |inode: Inode| if state.is_dir(inode) { Kind::Directory } else { Kind::File };
        let seed = state.list_seed;
        // By number, not by name: names have the process's id in them.
        let mut entries: Vec<(u64, Arc<[u8]>, Kind)> =
            node.live.iter().map(|(name, i)| (mix(seed ^ *i), name.clone(), kind(*i))).collect();
        entries.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        // `each` may call us.
        drop(state);
        entries.iter().for_each(|(_, name, kind)| each(name, *kind));
        Ok(())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.state.lock();
        state.check()?;
        let inode = state.lookup(path)?;
        let (kind, size, mtime_ns) = match state.disk.nodes.get(&inode).map(Arc::as_ref) {
            Some(Node::File(file)) => (Kind::File, file.live.len() as u64, file.mtime_ns),
            Some(Node::Dir(dir)) => (Kind::Directory, 0, dir.mtime_ns),
            None => return Err(raw(libc::EIO)),
        };
        Ok(Stat { kind, size, mtime_ns, ctime_ns: mtime_ns, inode, device: 1 })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        let inode = state.lookup(dir)?;
        match state.count()? {
            Fate::Happens => {
                state.disk.sync_dir(inode);
                Ok(())
            }
            Fate::Cut => Err(cut()),
            Fate::Fails(fault) => Err(fault.error()),
        }
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
