//! An open directory of the simulated disk, and what it shares with the calls by path. Every file is
//! root's, with the same permission bits: what a user may do is not simulated.

use std::any::Any;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::disk::{Change, Inode, Node, mix};
use super::file::SimFile;
use super::{Fate, Place, State, cut, raw};
use crate::io::{Directory, Facts, Kind, Open, Stat, StoredFile};

const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

pub(super) struct SimDirectory {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) inode: Inode,
    pub(super) boot: u64,
}

impl State {
    pub(super) fn facts(&self, inode: Inode) -> io::Result<Facts> {
        let (kind, size, mtime_ns) = match self.disk.nodes.get(&inode).map(Arc::as_ref) {
            Some(Node::File(file)) => (Kind::File, file.live.len() as u64, file.mtime_ns),
            Some(Node::Dir(dir)) => (Kind::Directory, 0, dir.mtime_ns),
            Some(Node::Link(target)) => (Kind::Link, target.as_os_str().len() as u64, 0),
            None => return Err(raw(libc::EIO)),
        };
        let stat = Stat { kind, size, mtime_ns, ctime_ns: mtime_ns, inode, device: 1 };
        let mode = if kind == Kind::Directory { DIRECTORY_MODE } else { FILE_MODE };
        Ok(Facts { stat, uid: 0, gid: 0, mode })
    }

    /// What is in a directory, by number, not by name: names have the process's id in them.
    pub(super) fn entries(&self, dir: Inode) -> io::Result<Vec<(Arc<[u8]>, Kind)>> {
        let node = self.disk.dir(dir).ok_or_else(|| raw(libc::ENOTDIR))?;
        let mut entries: Vec<(u64, &Arc<[u8]>, Inode)> =
            node.live.iter().map(|(name, i)| (mix(self.list_seed ^ *i), name, *i)).collect();
        entries.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let kind = |inode| io::Result::Ok(self.facts(inode)?.stat.kind);
        entries.into_iter().map(|(_, name, inode)| Ok((name.clone(), kind(inode)?))).collect()
    }

    /// Opens what was found, or makes it at the place that `place` tells.
    pub(super) fn open(
        &mut self,
        found: io::Result<Inode>,
        how: Open,
        place: impl FnOnce(&State) -> io::Result<Place>,
    ) -> io::Result<Inode> {
        match (found, how) {
            (Ok(_), Open::CreateNew) => Err(raw(libc::EEXIST)),
            (Ok(inode), _) if self.is_dir(inode) => Err(raw(libc::EISDIR)),
            (Ok(inode), _) => Ok(inode),
            (Err(e), Open::CreateNew | Open::Create) if e.kind() == io::ErrorKind::NotFound => {
                let (dir, name) = place(self)?;
                let now = self.now_ns();
                let inode = self.disk.add_file(now);
                self.change(vec![Change { dir, name, to: Some(inode) }])?;
                Ok(inode)
            }
            (Err(e), _) => Err(e),
        }
    }

    fn found(&self, at: &Place) -> io::Result<Inode> {
        self.entry(at.0, &at.1).ok_or_else(|| raw(libc::ENOENT))
    }

    pub(super) fn link(&mut self, from: Place, to: Place) -> io::Result<()> {
        let inode = self.found(&from)?;
        let (dir, name) = to;
        if self.entry(dir, &name).is_some() {
            return Err(raw(libc::EEXIST));
        }
        if self.is_dir(inode) {
            return Err(raw(libc::EPERM));
        }
        self.change(vec![Change { dir, name, to: Some(inode) }])
    }

    pub(super) fn unlink(&mut self, at: Place) -> io::Result<()> {
        if self.is_dir(self.found(&at)?) {
            return Err(raw(libc::EISDIR));
        }
        let (dir, name) = at;
        self.change(vec![Change { dir, name, to: None }])
    }

    pub(super) fn sync_dir(&mut self, inode: Inode) -> io::Result<()> {
        match self.count()? {
            Fate::Happens => {
                self.disk.sync_dir(inode);
                Ok(())
            }
            Fate::Cut => Err(cut()),
            Fate::Fails(fault) => Err(fault.error()),
        }
    }
}

impl SimDirectory {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.boot != self.boot {
            return Err(cut());
        }
        state.check()?;
        work(&mut state)
    }

    fn at(&self, name: &OsStr) -> Place {
        (self.inode, name.as_bytes().into())
    }
}

fn of(to: &dyn Directory) -> io::Result<&SimDirectory> {
    let to = (to as &dyn Any).downcast_ref::<SimDirectory>();
    to.ok_or_else(|| io::ErrorKind::CrossesDevices.into())
}

impl Directory for SimDirectory {
    fn facts(&self) -> io::Result<Facts> {
        self.with(|state| state.facts(self.inode))
    }

    fn facts_of(&self, name: &OsStr) -> io::Result<Facts> {
        self.with(|state| state.facts(state.found(&self.at(name))?))
    }

    fn directory(&self, name: &OsStr) -> io::Result<Arc<dyn Directory>> {
        self.with(|state| {
            let inode = state.found(&self.at(name))?;
            state.disk.dir(inode).ok_or_else(|| raw(libc::ENOTDIR))?;
            let dir = SimDirectory { state: self.state.clone(), inode, boot: self.boot };
            Ok(Arc::new(dir) as Arc<dyn Directory>)
        })
    }

    fn open(&self, name: &OsStr, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        self.with(|state| {
            let found = state.found(&self.at(name));
            if found.as_ref().is_ok_and(|inode| state.disk.link(*inode).is_some()) {
                return Err(raw(libc::ELOOP));
            }
            let inode = state.open(found, how, |_| Ok(self.at(name)))?;
            let (boot, writable) = (self.boot, how != Open::Read);
            let file = SimFile { state: self.state.clone(), inode, boot, writable };
            Ok(Arc::new(file) as Arc<dyn StoredFile>)
        })
    }

    fn read_link(&self, name: &OsStr) -> io::Result<PathBuf> {
        self.with(|state| {
            let target = state.disk.link(state.found(&self.at(name))?);
            target.map(|path| path.to_path_buf()).ok_or_else(|| raw(libc::EINVAL))
        })
    }

    fn list(&self, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()> {
        let entries = self.with(|state| state.entries(self.inode))?;
        entries.iter().for_each(|(name, kind)| each(name, *kind));
        Ok(())
    }

    fn symlink(&self, target: &Path, name: &OsStr) -> io::Result<()> {
        self.with(|state| {
            let (dir, name) = self.at(name);
            if state.entry(dir, &name).is_some() {
                return Err(raw(libc::EEXIST));
            }
            let inode = state.disk.add_link(target);
            state.change(vec![Change { dir, name, to: Some(inode) }])
        })
    }

    fn link(&self, name: &OsStr, to: &dyn Directory, new: &OsStr) -> io::Result<()> {
        let to = of(to)?.at(new);
        self.with(|state| state.link(self.at(name), to))
    }

    fn rename(&self, name: &OsStr, to: &dyn Directory, new: &OsStr) -> io::Result<()> {
        let to = of(to)?.at(new);
        self.with(|state| state.rename_at(self.at(name), to, true))
    }

    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        self.with(|state| state.unlink(self.at(name)))
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state| state.sync_dir(self.inode))
    }
}
