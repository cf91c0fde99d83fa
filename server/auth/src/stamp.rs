//! Whether a file is still the one that was read.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file changed so short before it was read may change again within the clock's tick.
const TICK: Duration = Duration::from_millis(20);

/// What tells whether the file is still the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    pub(crate) size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    /// Of the file at `path`, or the directory.
    pub(crate) fn of(path: &Path) -> io::Result<Stamp> {
        let stat = rustix::fs::stat(path)?;
        let ns = |seconds, ns| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Ok(Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
            changed_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
        })
    }

    /// Whether a change after the reading would show in the stamp.
    pub(crate) fn is_settled(&self) -> bool {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let tick = TICK.as_nanos() as i128;
        since.as_nanos() as i128 - self.changed_ns.max(self.modified_ns) > tick
    }
}
