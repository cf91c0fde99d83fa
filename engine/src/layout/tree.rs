//! Moving and removing directory contents so that every step can be repeated after a crash.
//!
//! Invariants: a name is at each moment in the old place or in the new one (rename is atomic); an
//! entry that is gone from the old place counts as moved or removed; directories vanish only when
//! empty. Names are synced where the order matters on a filesystem that keeps none: a directory
//! before anything moves into it, its contents before the place that they left is removed.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::cyrus::uid_of_name;
use crate::io::{Kind, Storage};
use crate::mailbox::files::INDEX_NAME;

/// Times that a directory is listed again because another program added to it meanwhile.
const PASSES_MAX: usize = 4;

/// Which entries of a mailbox's directory belong to the mailbox.
pub(super) type Belongs<'a> = &'a dyn Fn(&[u8], Kind) -> bool;

/// Takes what an absent file or directory means here: there is nothing left to do.
fn gone_is_done(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn entries(storage: &dyn Storage, dir: &Path) -> io::Result<Vec<(Vec<u8>, Kind)>> {
    let mut entries = Vec::new();
    match storage.list(dir, &mut |name, kind| entries.push((name.to_vec(), kind))) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map(|()| entries),
    }
}

/// Whether a directory is there.
pub(super) fn is_directory(storage: &dyn Storage, dir: &Path) -> bool {
    storage.stat(dir).is_ok_and(|stat| stat.kind == Kind::Directory)
}

/// Makes a directory, and its missing parents, so that their names survive a power cut; one that
/// is there already is synced too, as an earlier attempt may have ended before its sync.
pub(crate) fn create_durable(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    match storage.create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            create_durable(storage, parent)?;
            storage.create_dir_all(dir)?;
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            if storage.stat(dir)?.kind != Kind::Directory {
                return Err(e);
            }
        }
        other => other?,
    }
    storage.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// Renames a directory durably, unless something has the new name.
pub(super) fn rename_directory(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<()> {
    match storage.rename_noreplace(from, to) {
        // Renamed before, maybe not durably.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            sync_parents(storage, &[from, to])?;
            Err(e)
        }
        other => other.and_then(|()| sync_parents(storage, &[from, to])),
    }
}

/// Makes the names of these directories, or their absence, durable.
pub(super) fn sync_parents(storage: &dyn Storage, dirs: &[&Path]) -> io::Result<()> {
    let parents = dirs.iter().filter_map(|dir| dir.parent());
    parents.into_iter().try_for_each(|parent| gone_is_done(storage.sync_dir(parent)))
}

/// Moves what belongs to a mailbox from one directory to another, which exists, and removes the
/// old directory when that leaves it empty.
pub(super) fn move_contents(
    storage: &dyn Storage,
    from: &Path,
    to: &Path,
    belongs: Belongs<'_>,
) -> io::Result<()> {
    move_entries(storage, from, to, belongs, true)?;
    gone_is_done(storage.sync_dir(from))?;
    sync_parents(storage, &[from])
}

fn move_entries(
    storage: &dyn Storage,
    from: &Path,
    to: &Path,
    belongs: Belongs<'_>,
    top: bool,
) -> io::Result<()> {
    let whole = storage.filesystem(to)?.renames_are_whole;
    for _ in 0..PASSES_MAX {
        let mut all = entries(storage, from)?;
        all.retain(|(name, kind)| belongs(name, *kind));
        // By its index a directory is known as the mailbox's: it goes last.
        all.sort_by_key(|(name, _)| name == INDEX_NAME.as_bytes());
        let mut linked = Vec::new();
        if all.is_empty() && storage.stat(from).is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        {
            return Ok(());
        }
        for (name, kind) in all {
            let name = OsStr::from_bytes(&name);
            let (old, new) = (from.join(name), to.join(name));
            if kind == Kind::Directory {
                move_directory(storage, &old, &new)?;
                continue;
            }
            let replace = top && uid_of_name(name.as_bytes()).is_none();
            if whole {
                move_file(storage, &old, &new, replace)?;
            } else if link_file(storage, &old, &new, replace)? {
                linked.push(old);
            }
        }
        storage.sync_dir(to)?;
        linked.iter().try_for_each(|old| gone_is_done(storage.unlink(old)))?;
        match storage.remove_dir(from) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                if !entries(storage, from)?.iter().any(|(name, kind)| belongs(name, *kind)) {
                    return Ok(());
                }
            }
            other => return gone_is_done(other),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("{}: other programs keep adding files while it is moved", from.display()),
    ))
}

fn move_directory(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<()> {
    // rename(2) also replaces an empty directory.
    match storage.rename(from, to) {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            move_entries(storage, from, to, &|_, _| true, false)
        }
        other => gone_is_done(other),
    }
}

/// `replace`: the file describes the mailbox, so a fresh one at the target yields to it. A
/// message file never replaces another.
fn move_file(storage: &dyn Storage, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return gone_is_done(storage.rename(from, to));
    }
    match storage.rename_noreplace(from, to) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let (a, b) = (storage.stat(from)?, storage.stat(to)?);
            if (a.device, a.inode) != (b.device, b.inode) {
                let text = format!("{}: another file has this name", to.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            // A crash between link and unlink left both names.
            gone_is_done(storage.unlink(from))
        }
        other => gone_is_done(other),
    }
}

/// As [`move_file`] where a rename may lose both names: gives the file the new name beside the old
/// one, which has to go when the other is durable; `false` if there is no old one any more.
fn link_file(storage: &dyn Storage, from: &Path, to: &Path, replace: bool) -> io::Result<bool> {
    let linked = match storage.link(from, to) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let (a, b) = (storage.stat(from)?, storage.stat(to)?);
            match ((a.device, a.inode) == (b.device, b.inode), replace) {
                (true, _) => Ok(()),
                (false, true) => storage.unlink(to).and_then(|()| storage.link(from, to)),
                (false, false) => {
                    let text = format!("{}: another file has this name", to.display());
                    Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
                }
            }
        }
        other => other,
    };
    match linked {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

/// Removes what belongs to a mailbox, and its directory when that leaves it empty.
pub(super) fn remove_contents(
    storage: &dyn Storage,
    dir: &Path,
    belongs: Belongs<'_>,
) -> io::Result<()> {
    for _ in 0..PASSES_MAX {
        let mut all = entries(storage, dir)?;
        all.retain(|(name, kind)| belongs(name, *kind));
        for (name, kind) in all {
            let path = dir.join(OsStr::from_bytes(&name));
            match kind {
                Kind::Directory => remove_contents(storage, &path, &|_, _| true)?,
                Kind::File | Kind::Link | Kind::Other => gone_is_done(storage.unlink(&path))?,
            }
        }
        match storage.remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                if !entries(storage, dir)?.iter().any(|(name, kind)| belongs(name, *kind)) {
                    return Ok(());
                }
            }
            other => return gone_is_done(other),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("{}: other programs keep adding files while it is removed", dir.display()),
    ))
}
