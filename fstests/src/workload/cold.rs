//! Emptying caches before a cold reading, and saying how far that went.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::Advice;

use crate::error::{Error, Result};

/// Root, on a machine that lets it: pages, inodes and names of the whole machine.
const DROPPED: &str = "cold: all caches of the kernel dropped";
/// Others: pages of the files that are read; inodes and names stay.
const ADVISED: &str = "half cold: pages of the files dropped, names and inodes in memory";

/// Empties what it can of the caches for these files, which were synced before. Returns how cold it
/// is now.
pub(super) fn make(paths: impl Iterator<Item = PathBuf>) -> Result<&'static str> {
    rustix::fs::sync();
    if fs::write("/proc/sys/vm/drop_caches", "3").is_ok() {
        return Ok(DROPPED);
    }
    for path in paths {
        let file = fs::File::open(&path).map_err(Error::io("open", &path))?;
        let advised = rustix::fs::fadvise(file.as_fd(), 0, None, Advice::DontNeed);
        advised.map_err(|errno| Error::io("drop the cache of", &path)(errno.into()))?;
    }
    Ok(ADVISED)
}
