//! Places like a mount, but for the option that is doubted: what is measured there is what it would
//! be without.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::facts::Mount;
use crate::leftovers::{Leftovers, Thing};
use crate::matrix;
use crate::scratch::Scratch;

/// Where temporary files go.
const TEMPORARY: [&str; 2] = ["/var/tmp", "/tmp"];
/// Bytes of a filesystem that is made to be measured; its file takes space only as it fills.
const IMAGE_BYTES: u64 = 192 << 20;

/// A directory of ours on another mount of the same kind that is not synchronous, for those who may
/// make none.
pub(super) fn without_sync(mount: &Mount) -> Option<Scratch> {
    TEMPORARY.into_iter().map(Path::new).find_map(|dir| {
        let other = Mount::of(dir).ok()?;
        let fits = other.filesystem == mount.filesystem
            && other.device != mount.device
            && !["sync", "dirsync"].iter().any(|option| other.has(option));
        fits.then(|| Scratch::beside(dir).ok())?
    })
}

/// A fresh filesystem on a loop file, gone when dropped.
pub(super) struct Fresh {
    at: PathBuf,
    // Unmounted before its directory goes.
    _leftovers: Leftovers,
    _scratch: Scratch,
}

impl Fresh {
    /// Where it is mounted.
    pub(super) fn path(&self) -> &Path {
        &self.at
    }
}

/// A filesystem of the same kind with blocks of the same size, mounted as mail wants it (noatime,
/// data=ordered, not synchronous), which nobody else uses; absent where nobody but root may make one,
/// where none can be made, and for what is not ext3 or ext4.
///
/// # Errors
/// [`Error::Stopped`] alone.
pub(super) fn fresh(mount: &Mount, block_bytes: u64) -> Result<Option<Fresh>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let filesystem = match mount.filesystem.as_str() {
        "ext3" => "ext3",
        "ext4" => "ext4",
        _ => return Ok(None),
    };
    let blocks = if block_bytes == 1024 { "1024" } else { "4096" };
    let make = || -> Result<Fresh> {
        let scratch = Scratch::beside(Path::new(TEMPORARY[0]))?;
        let mut leftovers = Leftovers::begin()?;
        leftovers.note(Thing::Directory(scratch.path().to_owned()))?;
        let mkfs = vec!["-b", blocks];
        let mount = vec!["noatime", "data=ordered"];
        let dir = scratch.path().to_owned();
        let at = matrix::make_one(&dir, IMAGE_BYTES, filesystem, mkfs, mount, &mut leftovers)?;
        Ok(Fresh { at, _leftovers: leftovers, _scratch: scratch })
    };
    match make() {
        Ok(fresh) => Ok(Some(fresh)),
        Err(Error::Stopped) => Err(Error::Stopped),
        Err(_) => Ok(None),
    }
}
