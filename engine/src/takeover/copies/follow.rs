//! A copy is brought up to date with its original, and made Courier's again.
//!
//! | cut or fault | what is left | what mends it |
//! |---|---|---|
//! | a message, or one of Courier's links, is staged | a name in the copy's `tmp/` | a look of the next run |
//! | it got its name, unsynced | the message is in the copy or not | the next look |
//! | what the original lost is removed, unsynced | it is in the copy or not | the next look |
//!
//! The original is never changed here but by moving what is in `new/` to `cur/`.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;

use super::Times;
use super::place::{CopyDir, Named, names};
use crate::io::{Directory, Facts, Kind, Open, Storage};

/// Bytes of a message that are copied at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Whether a file cannot get a second name there, but could be written again.
pub(super) fn is_no_link(error: &io::Error) -> bool {
    use ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    [CrossesDevices, PermissionDenied, TooManyLinks, Unsupported].contains(&error.kind())
}

/// Writes a file again, durably; returns what the first one is.
pub(super) fn duplicate(
    from: &dyn Directory,
    name: &OsStr,
    to: &dyn Directory,
    new: &OsStr,
) -> io::Result<Facts> {
    let source = from.open(name, Open::Read)?;
    let found = source.facts()?;
    if found.stat.kind != Kind::File {
        return Ok(found);
    }
    let target = to.open(new, Open::CreateNew)?;
    let written = (|| {
        let (mut at, mut buf) = (0, vec![0; CHUNK_BYTES]);
        loop {
            match source.read_at(&mut buf, at)? {
                0 => break,
                n => target.write_at(&buf[..n], at)?,
            }
            at = target.size()?;
        }
        target.set_mtime(found.stat.mtime_ns.div_euclid(1_000_000_000))?;
        target.sync_data()
    })();
    match written {
        Ok(()) => Ok(found),
        Err(e) => {
            let _ = to.unlink(new);
            Err(e)
        }
    }
}

/// Gives a message of the original another name, in the copy; `false` where its reader may not have
/// it, or it has gone.
fn take(
    copy: &CopyDir,
    staged: &OsStr,
    message: &Named,
    to: &dyn Directory,
    new: &OsStr,
) -> io::Result<bool> {
    let tmp = copy.sub("tmp")?;
    // Of what came here, whatever has the other name by now.
    let came = match message.dir.link(&message.name, &*tmp, staged) {
        Ok(()) => tmp.facts_of(staged)?,
        Err(e) if is_no_link(&e) => match duplicate(&*message.dir, &message.name, &*tmp, staged) {
            // A symbolic link: ELOOP.
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => return Ok(false),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            other => other?,
        },
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    let is_good = came.stat.kind == Kind::File && copy.reader.may(&came, 4);
    let moved = if is_good { tmp.rename(staged, to, new) } else { Ok(()) };
    // rename(2) leaves two names of one file as they are.
    let removed = match tmp.unlink(staged) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    moved.and(removed)?;
    Ok(is_good)
}

/// Removes from a copy's `tmp/` what earlier runs left there, which `is_left` tells by its name.
pub(super) fn clean(copy: &CopyDir, is_left: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
    let tmp = copy.sub("tmp")?;
    for (name, _) in names(&*tmp)?.into_iter().filter(|(name, _)| is_left(name.as_bytes())) {
        match tmp.unlink(&name) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Brings a copy up to date with its original, and has hard links in place of Courier's; what the
/// original does not have goes if `removes`. Returns the original's times from before the look.
/// `staged` tells names for files in `tmp/`.
///
/// # Errors
/// What kept it from looking at everything: nothing was removed from the copy.
pub(super) fn follow(
    storage: &dyn Storage,
    copy: &CopyDir,
    removes: bool,
    staged: &dyn Fn() -> String,
) -> io::Result<Times> {
    let times = copy.times(storage);
    let original = copy.original(storage)?;
    let look = || original.as_ref().map(|o| o.messages(storage)).transpose();
    let mut copies = copy.messages()?;
    let (new, mut changed) = (copy.sub("new")?, false);
    for (base, message) in look()?.unwrap_or_default() {
        let staged = staged();
        let staged = OsStr::new(&staged);
        match copies.remove(&base) {
            Some(here) if !here.is_link => {}
            Some(link) => changed |= take(copy, staged, &message, &*link.dir, &link.name)?,
            None => changed |= take(copy, staged, &message, &*new, OsStr::from_bytes(&base))?,
        }
    }
    if removes && !copies.is_empty() {
        // A listing may pass over a file that is renamed meanwhile.
        let there = look()?.unwrap_or_default();
        copies.retain(|base, _| !there.contains_key(base));
        for gone in copies.into_values() {
            match gone.dir.unlink(&gone.name) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => changed = true,
            }
        }
    }
    if changed {
        new.sync()?;
        copy.sub("cur")?.sync()?;
    }
    Ok(times)
}

/// Makes a copy as Courier has it: symbolic links, under the same names.
pub(super) fn give_back(
    storage: &dyn Storage,
    copy: &CopyDir,
    staged: &dyn Fn() -> String,
) -> io::Result<()> {
    let Some(original) = copy.original(storage)? else { return Ok(()) };
    let (messages, tmp) = (original.messages(storage)?, copy.sub("tmp")?);
    for (base, here) in copy.messages()? {
        let Some(message) = messages.get(&base).filter(|_| !here.is_link) else { continue };
        let target = original.path.join(message.sub).join(&message.name);
        let staged = staged();
        let staged = OsStr::new(&staged);
        tmp.symlink(&target, staged)?;
        if let Err(error) = tmp.rename(staged, &*here.dir, &here.name) {
            let _ = tmp.unlink(staged);
            return Err(error);
        }
    }
    Ok(())
}
