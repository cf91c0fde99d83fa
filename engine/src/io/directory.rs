//! An open directory: its names are used by descriptor, not by path.
//!
//! For trees where others may exchange a directory for another, or for a symbolic link, between a
//! look and a use. Invariants: names are single ones; a symbolic link is never followed, so what was
//! asked about a directory that is open holds for all that is done in it.

use std::any::Any;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Kind, Open, Stat, StoredFile};

/// What a file is, whose, and who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What `stat` says.
    pub stat: Stat,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Permission bits, set-id and sticky bits (`07777`).
    pub mode: u32,
}

/// See the module. `to` of a link or a rename is of the same storage, else `CrossesDevices`.
pub trait Directory: Any + Send + Sync {
    /// Its own facts.
    fn facts(&self) -> io::Result<Facts>;
    /// Those of a name in it.
    fn facts_of(&self, name: &OsStr) -> io::Result<Facts>;
    /// Opens a directory in it.
    fn directory(&self, name: &OsStr) -> io::Result<Arc<dyn Directory>>;
    /// Opens or creates a file in it (mode 0600 before umask); not [`Open::Log`].
    fn open(&self, name: &OsStr, how: Open) -> io::Result<Arc<dyn StoredFile>>;
    /// Where a symbolic link in it leads.
    fn read_link(&self, name: &OsStr) -> io::Result<PathBuf>;
    /// Calls `each` with the raw name of every entry except `.` and `..`, in directory order.
    fn list(&self, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()>;
    /// Makes a symbolic link in it; `AlreadyExists` when the name is taken.
    fn symlink(&self, target: &Path, name: &OsStr) -> io::Result<()>;
    /// Makes a hard link of a name in it; `AlreadyExists` when the target exists.
    fn link(&self, name: &OsStr, to: &dyn Directory, new: &OsStr) -> io::Result<()>;
    /// Renames, replacing the target.
    fn rename(&self, name: &OsStr, to: &dyn Directory, new: &OsStr) -> io::Result<()>;
    /// Removes what is no directory.
    fn unlink(&self, name: &OsStr) -> io::Result<()>;
    /// Makes its names durable.
    fn sync(&self) -> io::Result<()>;
}
