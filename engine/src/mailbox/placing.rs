//! How message files get their names: staged files their place, placed ones the letters of new flags.
//!
//! | filesystem | a file gets a name by | a crash can leave |
//! |---|---|---|
//! | with a journal, copy-on-write, NFS | rename | the old name or the new one |
//! | without a journal (`Filesystem::renames_are_whole`) | link, sync, unlink | the old name, the new one or both |
//!
//! Without a journal, blocks of directories reach the disk one by one, so that a renamed file may have
//! neither name. For placed files the sync is the checkpoint's, so that no delivery waits for it, and the old
//! names go behind it; for renames within `cur/`, which others see, it is the directory's, at once. Both
//! names are mended where each of the two is looked at: a staged one when its frame is
//! redone, one in a Maildir by the first listing after a crash (`doubles`).
//!
//! Invariant: no message file ever replaces another.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Place;
use super::apply::location_of;
use crate::delivery::sync_names;
use crate::error::{Error, Result};
use crate::format::frame::{Append, Source};
use crate::ids::Lsn;
use crate::io::Storage;
use crate::shared::{Doomed, DoomedKind, Shared};

/// What is left to do for files that got their names as links.
#[derive(Debug, Default)]
pub(crate) struct OldNames {
    /// The names that stay.
    new: Vec<PathBuf>,
    /// Those that go when the others are durable.
    old: Vec<PathBuf>,
}

impl OldNames {
    /// Makes the new names durable, then removes the old ones.
    pub(crate) fn remove(self, storage: &dyn Storage) -> Result<()> {
        sync_names(storage, &self.new)?;
        self.old.into_iter().try_for_each(|path| match storage.unlink(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("unlink", path)(e)),
            _ => Ok(()),
        })
    }
}

impl Shared {
    /// Gives staged files their names. Succeeds for those that have theirs. Old names that cannot go
    /// at once go behind the checkpoint that covers `behind`.
    pub(crate) fn place_files<'a>(
        &self,
        place: &Place,
        appends: impl Iterator<Item = &'a Append>,
        behind: Option<Lsn>,
    ) -> Result<()> {
        let storage = &*self.storage;
        let layout = &place.partition.layout;
        let mut old = self.old_names(place);
        for append in appends {
            let (Source::Staged(stage) | Source::Linked { stage, .. }) = &append.source else {
                continue;
            };
            let from = layout.stage_path(&place.partition.path, &place.dir, stage);
            let to = layout.path(&place.dir, &location_of(append));
            match give_name(storage, &from, &to, old.as_mut()) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::NotFound && storage.stat(&to).is_ok() => {}
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    clear_the_way(storage, &from, &to)?;
                    give_name(storage, &from, &to, old.as_mut())
                        .map_err(Error::io("rename", &from))?;
                }
                Err(e) => return Err(Error::io("rename", &from)(e)),
            }
        }
        match (old, behind) {
            (None, _) => Ok(()),
            (Some(old), None) => old.remove(storage),
            (Some(old), Some(lsn)) => {
                let doomed = |path| Doomed { lsn, what: DoomedKind::Name(path) };
                self.doomed.lock().extend(old.old.into_iter().map(doomed));
                Ok(())
            }
        }
    }

    /// A place for the old names of files of this mailbox, where they cannot just be renamed.
    pub(crate) fn old_names(&self, place: &Place) -> Option<OldNames> {
        let mount = self.mount(&place.partition.name);
        let whole = mount.map_or(true, |mount| mount.filesystem.renames_are_whole);
        (!whole).then(OldNames::default)
    }
}

/// Renames a file. With `old` both names are there until [`OldNames::remove`]. Does not replace a
/// file that has the new name (`AlreadyExists`).
pub(crate) fn give_name(
    storage: &dyn Storage,
    from: &Path,
    to: &Path,
    old: Option<&mut OldNames>,
) -> io::Result<()> {
    let Some(old) = old else { return storage.rename_noreplace(from, to) };
    match storage.link(from, to) {
        // An earlier attempt was cut short behind this.
        Err(e) if e.kind() == ErrorKind::AlreadyExists && is_same_file(storage, from, to) => {}
        linked => linked?,
    }
    old.new.push(to.to_owned());
    old.old.push(from.to_owned());
    Ok(())
}

/// Whether two names are one file's.
pub(super) fn is_same_file(storage: &dyn Storage, first: &Path, second: &Path) -> bool {
    match (storage.stat(first), storage.stat(second)) {
        (Ok(first), Ok(second)) => (first.device, first.inode) == (second.device, second.inode),
        _ => false,
    }
}

/// Gives a file the name of another, which it replaces. Without a journal the file keeps its own name
/// until the other is durable.
pub(crate) fn replace(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<()> {
    if storage.filesystem(to)?.renames_are_whole {
        return storage.rename(from, to);
    }
    let mut second = from.as_os_str().to_owned();
    second.push(".link");
    let second = Path::new(&second);
    match storage.unlink(second) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    storage.link(from, second)?;
    storage.rename(second, to)?;
    to.parent().map_or(Ok(()), |dir| storage.sync_dir(dir))?;
    storage.unlink(from)
}

/// A file that no index knows has the name that a message is to get: it is kept, under another
/// name. When it is the message itself (a link of before a crash), it makes way.
fn clear_the_way(storage: &dyn Storage, from: &Path, to: &Path) -> Result<()> {
    if is_same_file(storage, from, to) {
        return storage.unlink(to).map_err(Error::io("unlink", to));
    }
    let mut aside = to.as_os_str().to_owned();
    aside.push(".found");
    tracing::warn!(path = %to.display(), "an unknown file is in a new message's place; set aside");
    storage.rename(to, Path::new(&aside)).map_err(Error::io("rename", to))
}
