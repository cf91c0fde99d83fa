//! Files of accounts are changed as a whole: read, written anew beside the old one, renamed over it,
//! all of it under a lock. Who could read the old one can read the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// Permission bits of a file that we create: it holds what a thief would guess at.
const MODE_NEW: u32 = 0o600;

/// Replaces the bytes of the file at `path` (a missing one has none) by what `change` makes of them,
/// under the file's lock. `io` names the file of a system's error.
///
/// When this returns `Ok`, the change is durable; when `change` fails, nothing has changed.
pub(crate) fn replace<T, E>(
    path: &Path,
    io: impl Fn(PathBuf, io::Error) -> E,
    change: impl FnOnce(&[u8]) -> Result<(Vec<u8>, T), E>,
) -> Result<T, E> {
    let at = |path: &Path, error: io::Error| io(path.to_owned(), error);
    let lock_path = sibling(path, ".lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(MODE_NEW)
        .open(&lock_path)
        .map_err(|e| at(&lock_path, e))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|e| at(&lock_path, e.into()))?;
    let (bytes, metadata) = match fs::read(path) {
        Ok(bytes) => (bytes, Some(fs::metadata(path).map_err(|e| at(path, e))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
        Err(error) => return Err(at(path, error)),
    };
    let (bytes, result) = change(&bytes)?;
    put(path, &bytes, metadata.as_ref()).map_err(|e| at(path, e))?;
    Ok(result)
}

/// Writes beside `path`, syncs, renames over it, syncs the directory.
fn put(path: &Path, bytes: &[u8], old: Option<&fs::Metadata>) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let new_path = sibling(path, ".new");
    let mut new = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(MODE_NEW)
        .open(&new_path)?;
    // The operator may be root while the server is not: who could read the file still can.
    let owner = match old {
        Some(old) => (old.uid(), old.gid(), old.mode() & 0o7777),
        None => {
            let directory = fs::metadata(directory)?;
            (directory.uid(), directory.gid(), MODE_NEW)
        }
    };
    let made = new.metadata()?;
    if (made.uid(), made.gid()) != (owner.0, owner.1) {
        std::os::unix::fs::fchown(&new, Some(owner.0), Some(owner.1))?;
    }
    new.set_permissions(fs::Permissions::from_mode(owner.2))?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&new_path, path)?;
    File::open(directory)?.sync_all()
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
