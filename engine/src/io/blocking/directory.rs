//! [`Directory`] over the operating system: a descriptor that only stands for its directory
//! (`O_PATH`), and the calls that take names from there.

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, OFlags};

use super::{FILE_MODE, OsFile, kind_of, list, open_fd, retry, sync_names};
use crate::io::{Directory, Facts, Kind, Open, Stat, StoredFile};

/// See the module.
pub(super) struct OsDirectory(OwnedFd);

/// Stands for a directory, to which nothing but a right to pass is needed.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) fn facts_of(stat: &rustix::fs::Stat) -> Facts {
    let ns = |seconds: i64, ns: u64| {
        seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(ns).unwrap_or(0))
    };
    Facts {
        stat: Stat {
            kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
            size: stat.st_size as u64,
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            device: stat.st_dev,
        },
        uid: stat.st_uid,
        gid: stat.st_gid,
        mode: stat.st_mode & 0o7777,
    }
}

/// A name that leads nowhere else than into its directory.
fn single(name: &OsStr) -> io::Result<&OsStr> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(io::ErrorKind::InvalidInput.into()),
        bytes if bytes.contains(&b'/') => Err(io::ErrorKind::InvalidInput.into()),
        _ => Ok(name),
    }
}

fn of(to: &dyn Directory) -> io::Result<&OwnedFd> {
    let to = (to as &dyn Any).downcast_ref::<OsDirectory>();
    to.map(|dir| &dir.0).ok_or_else(|| io::ErrorKind::CrossesDevices.into())
}

impl OsDirectory {
    pub(super) fn open(path: &Path) -> io::Result<OsDirectory> {
        open_fd(path, DIRECTORY).map(OsDirectory)
    }

    /// The directory, to be read.
    fn readable(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        retry(|| rustix::fs::openat(&self.0, ".", flags, FILE_MODE))
    }
}

impl Directory for OsDirectory {
    fn facts(&self) -> io::Result<Facts> {
        Ok(facts_of(&retry(|| rustix::fs::fstat(&self.0))?))
    }

    fn facts_of(&self, name: &OsStr) -> io::Result<Facts> {
        let name = single(name)?;
        let stat = retry(|| rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW))?;
        Ok(facts_of(&stat))
    }

    fn directory(&self, name: &OsStr) -> io::Result<Arc<dyn Directory>> {
        let (name, flags) = (single(name)?, DIRECTORY | OFlags::NOFOLLOW);
        let fd = retry(|| rustix::fs::openat(&self.0, name, flags, FILE_MODE))?;
        Ok(Arc::new(OsDirectory(fd)))
    }

    fn open(&self, name: &OsStr, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        let flags = match how {
            Open::Read => OFlags::RDONLY,
            Open::Write => OFlags::RDWR,
            Open::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            Open::Create => OFlags::RDWR | OFlags::CREATE,
            Open::Log => return Err(io::ErrorKind::Unsupported.into()),
        };
        // A pipe must not make us wait.
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let name = single(name)?;
        let fd = retry(|| rustix::fs::openat(&self.0, name, flags, FILE_MODE))?;
        Ok(Arc::new(OsFile::buffered(fd)))
    }

    fn read_link(&self, name: &OsStr) -> io::Result<PathBuf> {
        let name = single(name)?;
        let target = retry(|| rustix::fs::readlinkat(&self.0, name, Vec::new()))?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    fn list(&self, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()> {
        list(self.readable()?.as_fd(), each)
    }

    fn symlink(&self, target: &Path, name: &OsStr) -> io::Result<()> {
        let name = single(name)?;
        retry(|| rustix::fs::symlinkat(target, &self.0, name))
    }

    fn link(&self, name: &OsStr, to: &dyn Directory, new: &OsStr) -> io::Result<()> {
        let (name, new, to) = (single(name)?, single(new)?, of(to)?);
        retry(|| rustix::fs::linkat(&self.0, name, to, new, AtFlags::empty()))
    }

    fn rename(&self, name: &OsStr, to: &dyn Directory, new: &OsStr) -> io::Result<()> {
        let (name, new, to) = (single(name)?, single(new)?, of(to)?);
        retry(|| rustix::fs::renameat(&self.0, name, to, new))
    }

    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        let name = single(name)?;
        retry(|| rustix::fs::unlinkat(&self.0, name, AtFlags::empty()))
    }

    fn sync(&self) -> io::Result<()> {
        sync_names(self.readable()?.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("d/file")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("d/dir")).unwrap();
        let open = OsDirectory::open(&dir.path().join("d")).unwrap();
        for name in ["..", ".", "", "../secret", "/etc/passwd"] {
            assert!(open.open(OsStr::new(name), Open::Read).is_err(), "{name}");
            assert!(open.directory(OsStr::new(name)).is_err(), "{name}");
        }
        assert!(open.open(OsStr::new("file"), Open::Read).is_err());
        assert!(open.open(OsStr::new("file"), Open::Create).is_err());
        assert!(open.directory(OsStr::new("dir")).is_err());
        assert_eq!(open.facts_of(OsStr::new("file")).unwrap().stat.kind, Kind::Link);
        assert_eq!(open.read_link(OsStr::new("file")).unwrap(), Path::new("../secret"));
        // What is open stays what it is when its path is exchanged.
        std::fs::rename(dir.path().join("d"), dir.path().join("e")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("d")).unwrap();
        drop(open.open(OsStr::new("made"), Open::CreateNew).unwrap());
        open.sync().unwrap();
        assert!(dir.path().join("e/made").exists());
    }
}
