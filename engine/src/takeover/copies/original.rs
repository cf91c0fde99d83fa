//! What a reader's changes mean for the original of his copy: messages come into it and go from it, as
//! far as he may himself.
//!
//! | cut or fault | what is left | what mends it |
//! |---|---|---|
//! | a message is in the copy, not yet in the original | nobody has heard of it | the next look removes it |
//! | it is staged in the original | a name in its `tmp/` | whoever cleans `tmp/` there |
//! | it is in the original, unsynced | as one of the two above | |
//! | an original is removed, the copy not yet | | the next look removes the copy's |

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};

use super::follow::{duplicate, is_no_link};
use super::place::{CopyDir, Original, base, names};
use crate::io::{Kind, Open, Storage};

/// How often an original is looked at for names that change while they are removed.
const LOOKS_MAX: usize = 4;

/// Who may look into the directory may read what lies there.
const READ_BY_OTHERS: u32 = 0o044;

/// Gives a message of a copy to its original, durably. `name` is its name in the copy's directory
/// `sub`, `new` that in the original.
pub(super) fn publish(
    copy: &CopyDir,
    original: &Original,
    (sub, name): (&str, &OsStr),
    new: &OsStr,
) -> io::Result<()> {
    let Some((tmp, cur)) = original.writable(copy.reader) else {
        return Err(ErrorKind::PermissionDenied.into());
    };
    let from = copy.sub(sub)?;
    let file = from.open(name, Open::Read)?;
    let found = file.facts()?;
    if found.stat.kind != Kind::File {
        return Err(ErrorKind::InvalidData.into());
    }
    let mode = found.mode & 0o777 | cur.facts()?.mode & READ_BY_OTHERS;
    file.set_mode(mode)?;
    match tmp.unlink(new) {
        // Of an attempt that was cut off.
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let staged = (|| {
        match from.link(name, tmp, new) {
            Err(e) if is_no_link(&e) => {
                duplicate(&*from, name, tmp, new)?;
                tmp.open(new, Open::Read)?.set_mode(mode)?;
            }
            other => {
                other?;
                let staged = tmp.facts_of(new)?.stat;
                if (staged.device, staged.inode) != (found.stat.device, found.stat.inode) {
                    return Err(ErrorKind::InvalidData.into());
                }
            }
        }
        tmp.rename(new, cur, new)
    })();
    if let Err(error) = staged {
        let _ = tmp.unlink(new);
        return Err(error);
    }
    cur.sync()
}

/// Removes messages from a copy's original, durably. Returns the bases of those that stay, since the
/// reader may not remove them.
///
/// # Errors
/// What kept it from removing them: some may be gone.
pub(super) fn remove_originals(
    storage: &dyn Storage,
    copy: &CopyDir,
    bases: &BTreeSet<Vec<u8>>,
) -> io::Result<BTreeSet<Vec<u8>>> {
    use ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    let mut kept = BTreeSet::new();
    let Some(original) = copy.original(storage)? else { return Ok(kept) };
    for dir in original.dirs() {
        let (owned, mut removed) = (dir.facts()?, false);
        for look in 1..=LOOKS_MAX {
            let mut moved = false;
            for (name, _) in names(&**dir)?.into_iter().filter(|(n, _)| bases.contains(&base(n))) {
                let gone =
                    dir.facts_of(&name).and_then(|file| match copy.reader.removes(&owned, &file) {
                        true => dir.unlink(&name),
                        false => Err(ErrorKind::PermissionDenied.into()),
                    });
                match gone.map_err(|e| (e.kind(), e)) {
                    Ok(()) => removed = true,
                    // The owner gave it other flags, or removed it.
                    Err((NotFound, _)) if look < LOOKS_MAX => moved = true,
                    Err((NotFound | PermissionDenied | ReadOnlyFilesystem, _)) => {
                        kept.insert(base(&name));
                    }
                    Err((_, error)) => return Err(error),
                }
            }
            if !moved {
                break;
            }
        }
        if removed {
            dir.sync()?;
        }
    }
    Ok(kept)
}
