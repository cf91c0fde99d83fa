//! Courier's shared folders on the filesystem: a reader's copies of folders in other Maildirs.
//!
//! ```text
//! alice/Maildir/shared-maildirs                       lines NAME TAB PATH
//! alice/Maildir/shared-folders/NAME/FOLDER/shared     symbolic link to PATH/.FOLDER, the original
//! alice/Maildir/shared-folders/NAME/FOLDER/cur,new    a file for each message of the original
//! ```
//!
//! The copy is a mailbox of alice's, with UIDs, flags and keywords of its own; a message is the same
//! in both by the base of its name. Courier has symbolic links there, here they are hard links, which
//! the owner's changes of flags leave alone: [`follow`] makes them of Courier's, and [`give_back`]
//! makes Courier's of them again.
//!
//! What the reader may see is what the owner of his Maildir may: the server can read everybody's
//! mail, and `shared-maildirs` is the reader's to write. Owners, groups and modes of directories and
//! files are asked as the kernel would for that user, with the Maildir's own group alone.
//!
//! Calls go to the operating system, past [`crate::io::Storage`], which knows neither symbolic links nor
//! owners; so no simulated disk has such folders, and what is left by a crash is shown by tests of files.
//!
//! These files are other programs' as well: changes here are made as a delivery agent makes them, and
//! the rescan takes them in. A crash leaves at most a file in `tmp/`; the next look finds the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foreign::courier::shared::read_maildirs;
use parking_lot::Mutex;
use protocol::types::Uid;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::OldServer;
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::layout::maildir::{SHARED_COPIES, file_name_of, lies_among_copies};
use crate::layout::{Location, create_durable};
use crate::mailbox::files::Files;
use crate::mailbox::rescan::is_unchanged;
use crate::mailbox::{Mailbox, MailboxInner};
use crate::namespace::INBOX;
use crate::shared::Shared;
use crate::user::{User, UserInner};

/// In a copy: leads to the original.
const ORIGINAL_NAME: &str = "shared";
/// Octets of a reader's `shared-maildirs` at most.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// Times of an original's `new/` and `cur/`, ns since 1970; 0 for one that is not there.
pub(crate) type Times = (i64, i64);

/// What a user may do with files.
#[derive(Clone, Copy)]
struct Reader {
    uid: u32,
    gid: u32,
}

impl Reader {
    /// Who owns a Maildir, or what lies in it.
    fn of(dir: &Path) -> io::Result<Reader> {
        let owned = fs::metadata(dir)?;
        Ok(Reader { uid: owned.uid(), gid: owned.gid() })
    }

    /// Whether all of these bits (4: read, 2: write, 1: pass) are his.
    fn may(self, file: &Metadata, bits: u32) -> bool {
        let shift = match (self.uid == file.uid(), self.gid == file.gid()) {
            _ if self.uid == 0 => return true,
            (true, _) => 6,
            (_, true) => 3,
            _ => 0,
        };
        file.mode() >> shift & bits == bits
    }

    /// Whether he may list a Maildir's messages.
    fn reads(self, maildir: &Path) -> bool {
        let passes = |dir: &Path, bits| fs::metadata(dir).is_ok_and(|dir| self.may(&dir, bits));
        passes(maildir, 1) && passes(&maildir.join("cur"), 5)
    }

    /// Whether he may take a name out of a directory, as `sticky(7)` has it.
    fn removes(self, dir: &Metadata, file: &Metadata) -> bool {
        const STICKY: u32 = 0o1000;
        let own = [dir.uid(), file.uid()].contains(&self.uid) || self.uid == 0;
        self.may(dir, 3) && (own || dir.mode() & STICKY == 0)
    }
}

/// Where a copy's original is; `None` for what is no copy.
fn original(copy: &Path) -> Option<PathBuf> {
    fs::read_link(copy.join(ORIGINAL_NAME)).ok().filter(|path| path.is_absolute())
}

/// The part of a name that is the message's.
fn base(name: &OsStr) -> Vec<u8> {
    let name = name.as_bytes();
    name.iter().rposition(|b| *b == b':').map_or(name, |at| &name[..at]).to_vec()
}

/// Whether a mailbox's directory is that of a copy.
pub(crate) fn is_copy(dir: &Path) -> bool {
    lies_among_copies(dir)
        && fs::symlink_metadata(dir.join(ORIGINAL_NAME)).is_ok_and(|link| link.is_symlink())
}

/// Names of what is no directory in one of a Maildir's, and whether each is a symbolic link.
fn names(dir: &Path) -> io::Result<Vec<(OsString, bool)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if !kind.is_dir() && !entry.file_name().as_bytes().starts_with(b".") {
            names.push((entry.file_name(), kind.is_symlink()));
        }
    }
    Ok(names)
}

/// Times of what a copy is one of; `None` where that cannot be told.
pub(crate) fn times(copy: &Path) -> Option<Times> {
    let original = original(copy)?;
    let time = |sub: &str| {
        let seen = fs::metadata(original.join(sub));
        seen.map_or(0, |dir| dir.mtime() * 1_000_000_000 + dir.mtime_nsec())
    };
    Some((time("new"), time("cur")))
}

/// Messages of an original by their bases.
fn messages(original: &Path, reader: Reader) -> io::Result<BTreeMap<Vec<u8>, PathBuf>> {
    let mut found = BTreeMap::new();
    if !reader.reads(original) {
        // Gone is gone where the Maildir around it is there to say so; a disk that is not mounted
        // removes nothing.
        let gone = fs::metadata(original.join("cur")).err().map(|e| e.kind());
        let around = original.parent().is_some_and(|maildir| maildir.join("cur").is_dir());
        return match gone {
            None | Some(ErrorKind::PermissionDenied) => Ok(found),
            Some(ErrorKind::NotFound) if around => Ok(found),
            Some(kind) => Err(kind.into()),
        };
    }
    let (new, cur) = (original.join("new"), original.join("cur"));
    // As Courier does for whoever looks first. Without the right to, they are read where they are.
    let mut arrived = Vec::new();
    for (name, _) in names(&new).or_else(missing_is_empty)? {
        let mut named = name.clone();
        if !name.as_bytes().contains(&b':') {
            named.push(":2,");
        }
        let (from, to) = (new.join(&name), cur.join(&named));
        let moved = !to.exists() && fs::rename(&from, &to).is_ok();
        if !moved {
            arrived.push((base(&name), from));
        }
    }
    found.extend(arrived);
    for (name, is_link) in names(&cur)? {
        if !is_link {
            found.insert(base(&name), cur.join(&name));
        }
    }
    Ok(found)
}

fn missing_is_empty<T>(error: io::Error) -> io::Result<Vec<T>> {
    if error.kind() == ErrorKind::NotFound { Ok(Vec::new()) } else { Err(error) }
}

/// What a copy has, by bases: directory, name, and whether it is one of Courier's links.
fn copied(copy: &Path) -> io::Result<BTreeMap<Vec<u8>, (PathBuf, bool)>> {
    let mut found = BTreeMap::new();
    for sub in ["new", "cur"] {
        for (name, is_link) in names(&copy.join(sub)).or_else(missing_is_empty)? {
            found.insert(base(&name), (copy.join(sub).join(&name), is_link));
        }
    }
    Ok(found)
}

/// Gives a message of the original another name, in the copy; `false` where its reader may not have
/// it, or it has gone.
fn take(copy: &Path, file: &Path, reader: Reader, to: &Path) -> io::Result<bool> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let staged = copy.join("tmp").join(format!("cursus-copy.{}.{count}", std::process::id()));
    // Of what came here, whatever has the other name by now.
    let came = match fs::hard_link(file, &staged) {
        Ok(()) => fs::symlink_metadata(&staged)?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        // Of another filesystem, or not ours to link: what it says now.
        Err(_) => match duplicate(file, &staged) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            // One of ELOOP is a symbolic link.
            Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Ok(false),
            other => other?,
        },
    };
    let is_good = came.is_file() && reader.may(&came, 4);
    if is_good {
        fs::rename(&staged, to)?;
        // rename(2) leaves two names of one file as they are.
        let _ = fs::remove_file(&staged);
    } else {
        fs::remove_file(&staged)?;
    }
    Ok(is_good)
}

/// Writes a file again; returns what the first one is.
fn duplicate(file: &Path, to: &Path) -> io::Result<Metadata> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut from = fs::File::options().read(true).custom_flags(flags.bits() as i32).open(file)?;
    let found = from.metadata()?;
    let mut copied = fs::File::options().write(true).create(true).truncate(true).open(to)?;
    if found.is_file() {
        io::copy(&mut from, &mut copied)?;
        copied.set_modified(found.modified()?)?;
        copied.sync_data()?;
    }
    Ok(found)
}

/// Brings a copy up to date with its original, and has hard links in place of Courier's; what the
/// original does not have goes if `removes`. Returns the original's times from before the look.
///
/// # Errors
/// What kept it from looking at everything: nothing was removed from the copy.
pub(crate) fn follow(copy: &Path, removes: bool) -> io::Result<Option<Times>> {
    let (Some(original), Some(times)) = (original(copy), times(copy)) else { return Ok(None) };
    let reader = Reader::of(copy)?;
    let messages = messages(&original, reader)?;
    let mut copies = copied(copy)?;
    let mut changed = false;
    for (base, file) in messages {
        match copies.remove(&base) {
            Some((_, false)) => {}
            Some((link, true)) => changed |= take(copy, &file, reader, &link)?,
            None => {
                let to = copy.join("new").join(OsStr::from_bytes(&base));
                changed |= take(copy, &file, reader, &to)?;
            }
        }
    }
    for (gone, _) in copies.into_values().filter(|_| removes) {
        match fs::remove_file(&gone) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => changed = true,
        }
    }
    if changed {
        for sub in ["new", "cur"] {
            fs::File::open(copy.join(sub))?.sync_all()?;
        }
    }
    Ok(Some(times))
}

/// Removes messages from a copy's original. Returns the bases of those that stay, since the reader
/// may not remove them.
pub(crate) fn remove_originals(
    copy: &Path,
    bases: &BTreeSet<Vec<u8>>,
) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut kept = BTreeSet::new();
    let Some(original) = original(copy) else { return Ok(kept) };
    let reader = Reader::of(copy)?;
    for sub in ["new", "cur"] {
        let dir = original.join(sub);
        let Ok(owned) = fs::metadata(&dir) else { continue };
        for (name, _) in names(&dir)?.into_iter().filter(|(name, _)| bases.contains(&base(name))) {
            let path = dir.join(&name);
            let Ok(file) = fs::symlink_metadata(&path) else { continue };
            let may = reader.removes(&owned, &file);
            if !may || fs::remove_file(&path).is_err_and(|e| e.kind() != ErrorKind::NotFound) {
                kept.insert(base(&name));
            }
        }
    }
    Ok(kept)
}

/// Makes a copy as Courier has it: symbolic links, under the same names.
pub(crate) fn give_back(copy: &Path) -> io::Result<()> {
    let Some(original) = original(copy) else { return Ok(()) };
    let reader = Reader::of(copy)?;
    let messages = messages(&original, reader)?;
    for (base, (path, is_link)) in copied(copy)? {
        let Some(target) = messages.get(&base).filter(|_| !is_link) else { continue };
        let staged = copy.join("tmp").join("cursus-copy.link");
        match fs::remove_file(&staged) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        symlink(target, &staged)?;
        fs::rename(&staged, &path)?;
    }
    Ok(())
}

/// The Maildirs that a reader's `shared-maildirs` names and that are there.
fn maildirs(main: &Path) -> Vec<(String, PathBuf)> {
    let path = main.join("shared-maildirs");
    let is_small = fs::symlink_metadata(&path)
        .is_ok_and(|file| file.is_file() && file.len() <= LIST_BYTES_MAX);
    let text = if is_small { fs::read(&path).unwrap_or_default() } else { Vec::new() };
    let named = read_maildirs(&text).into_iter();
    let named = named.map(|maildir| (maildir.name, PathBuf::from(maildir.path)));
    named.filter(|(name, path)| !name.contains(['/', '.']) && path.is_absolute()).collect()
}

/// Folders in other Maildirs that a reader may read: directory names without the dot.
fn folders(maildir: &Path, reader: Reader) -> Vec<String> {
    if !fs::metadata(maildir).is_ok_and(|dir| reader.may(&dir, 5)) {
        return Vec::new();
    }
    let entries = fs::read_dir(maildir).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_vec();
            let name = String::from_utf8(name).ok()?.strip_prefix('.')?.to_owned();
            let is_folder = name.split('.').all(|level| !level.is_empty());
            (is_folder && reader.reads(&entry.path())).then_some(name)
        })
        .collect();
    found.sort();
    found
}

/// What is known of an open copy.
#[derive(Default)]
pub(crate) struct Copy {
    /// The original's times when it was looked at last, and when that began, ns since 1970.
    seen: Mutex<Option<(Times, i64)>>,
    /// How many are bringing messages.
    arrivals: AtomicUsize,
}

/// Messages are brought into a copy of a shared folder: until this goes, those that the original does
/// not have yet stay.
pub struct Arrivals(Arc<MailboxInner>);

impl Drop for Arrivals {
    fn drop(&mut self) {
        if let Some(copy) = &self.0.copy {
            copy.arrivals.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Gives a message of a copy to its original. `name` is its name there.
fn publish(file: &Path, original: &Path, name: &OsStr) -> io::Result<()> {
    let (cur, staged) = (original.join("cur"), original.join("tmp").join(name));
    let (dir, found) = (fs::metadata(&cur)?, fs::metadata(file)?);
    // Who may look into the directory may read what lies there.
    const READ_BY_OTHERS: u32 = 0o044;
    let mode = found.mode() & 0o777 | dir.mode() & READ_BY_OTHERS;
    fs::set_permissions(file, Permissions::from_mode(mode))?;
    if fs::hard_link(file, &staged).is_err() {
        duplicate(file, &staged)?;
        fs::set_permissions(&staged, Permissions::from_mode(mode))?;
    }
    fs::rename(&staged, cur.join(name))?;
    fs::File::open(&cur)?.sync_all()
}

impl MailboxInner {
    /// Whether anything may come in: into a copy only what is then given to its original.
    pub(crate) fn takes_deliveries(&self) -> bool {
        self.copy.as_ref().is_none_or(|copy| copy.arrivals.load(Ordering::Acquire) > 0)
    }

    /// Whether the original of a copy has changed since it was looked at, or may have.
    pub(crate) fn is_behind_original(&self) -> bool {
        let Some(copy) = &self.copy else { return false };
        let dir = self.place.read().dir.clone();
        let (now, known) = (times(&dir), *copy.seen.lock());
        now.is_some() && now.zip(known).is_none_or(|(now, (then, at))| !is_unchanged(then, at, now))
    }

    /// Brings a copy up to date with its original. What cannot be looked at stays as it is.
    pub(crate) fn follow_original(&self) {
        let Some(copy) = &self.copy else { return };
        let dir = self.place.read().dir.clone();
        let began = self.shared.storage.now_ns();
        // Before the look: who comes later finds what the copy had then.
        let removes = copy.arrivals.load(Ordering::Acquire) == 0;
        match follow(&dir, removes) {
            // What was left is looked at again.
            Ok(_) if !removes => *copy.seen.lock() = None,
            Ok(times) => *copy.seen.lock() = times.map(|times| (times, began)),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "cannot look at a shared folder");
            }
        }
        self.shared.hand_back.copies().lock().insert(dir);
    }
}

impl Shared {
    /// The store has stopped: copies of shared folders become Courier's, if it comes next.
    pub(crate) fn give_copies_back(&self) {
        let asked = self.hand_back.courier_is_next.load(Ordering::Acquire);
        if !asked && !self.config.hand_back.contains(&OldServer::Courier) {
            return;
        }
        for dir in std::mem::take(&mut *self.hand_back.copies().lock()) {
            if let Err(error) = give_back(&dir) {
                tracing::error!(dir = %dir.display(), %error, "cannot give back a shared folder");
            }
        }
    }
}

impl Mailbox {
    /// Whether it is a copy of what another user shares on the filesystem.
    pub fn is_copy(&self) -> bool {
        self.0.copy.is_some()
    }

    /// Says that messages are about to come into a copy of a shared folder; they have to be given
    /// to its original by [`Mailbox::publish`] before anybody hears that they came. `None` for any
    /// other mailbox.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] where the reader may not write into the original.
    pub async fn arrivals(&self) -> Result<Option<Arrivals>> {
        let Some(copy) = &self.0.copy else { return Ok(None) };
        let dir = self.0.place.read().dir.clone();
        let may = move || {
            let reader = Reader::of(&dir).ok()?;
            let original = original(&dir)?;
            let writes =
                |sub| fs::metadata(original.join(sub)).is_ok_and(|dir| reader.may(&dir, 3));
            (writes("cur") && writes("tmp")).then_some(())
        };
        if self.0.shared.helpers.run(may).await.map_err(|_| Error::Closing)?.is_none() {
            return Err(Error::NotAllowed("the shared folder takes no messages of yours"));
        }
        copy.arrivals.fetch_add(1, Ordering::AcqRel);
        Ok(Some(Arrivals(self.0.clone())))
    }

    /// Gives messages that came into a copy of a shared folder to its original. Durable on return.
    ///
    /// # Errors
    /// [`Error::Io`]: then none of them is in either.
    pub async fn publish(&self, uids: Vec<Uid>) -> Result<()> {
        if self.0.copy.is_none() {
            return Ok(());
        }
        let (inner, all) = (self.0.clone(), uids.clone());
        let give = move || {
            let place = inner.place.read().clone();
            let Some(original) = original(&place.dir) else { return Err(Error::MailboxGone) };
            let files = inner.files.lock();
            for uid in all {
                let Some(at) = files.position_of(uid).and_then(|at| files.location(at)) else {
                    return Err(Error::MailboxGone);
                };
                let path = place.partition.layout.path(&place.dir, &at);
                let named = file_name_of(&Location { in_new: false, ..at });
                let given = publish(&path, &original, OsStr::from_bytes(&named));
                given.map_err(Error::io("write into a shared folder", &original))?;
            }
            Ok(())
        };
        let given = self.0.shared.helpers.run(give).await.map_err(|_| Error::Closing)?;
        if let Err(error) = given {
            self.expunge(&self.view(), uids).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Of messages to be removed those whose originals are gone by then: a copy alone would come
    /// back. Anything else than a copy has no originals.
    pub(crate) async fn without_originals(&self, uids: Vec<Uid>) -> Result<Vec<Uid>> {
        if self.0.copy.is_none() {
            return Ok(uids);
        }
        let inner = self.0.clone();
        let remove = move || {
            let dir = inner.place.read().dir.clone();
            let base_of = |files: &Files, uid: Uid| {
                files.position_of(uid).and_then(|at| files.location(at)).map(|at| at.base)
            };
            let bases: Vec<(Uid, Option<Vec<u8>>)> = {
                let files = inner.files.lock();
                uids.into_iter().map(|uid| (uid, base_of(&files, uid))).collect()
            };
            let all = bases.iter().filter_map(|(_, base)| base.clone()).collect();
            let kept = remove_originals(&dir, &all)
                .map_err(Error::io("remove from a shared folder", &dir))?;
            let goes = |base: &Option<Vec<u8>>| base.as_ref().is_none_or(|b| !kept.contains(b));
            Ok(bases.into_iter().filter(|(_, base)| goes(base)).map(|(uid, _)| uid).collect())
        };
        self.0.shared.helpers.run(remove).await.map_err(|_| Error::Closing)?
    }
}

impl UserInner {
    fn copies_root(&self) -> Option<(Partition, PathBuf)> {
        let partition = self.shared.partition(&self.namespace.load().partition).ok()?.clone();
        partition.layout.has_copies().then_some(())?;
        let main = self.dir_of(&partition, INBOX).ok()?;
        Some((partition, main))
    }

    /// Shared folders, whether the user has a copy or not: internal name, and the original's directory.
    fn shared_folders(&self) -> Vec<(String, PathBuf)> {
        let Some((partition, main)) = self.copies_root() else { return Vec::new() };
        let Ok(reader) = Reader::of(&main) else { return Vec::new() };
        let mut found = Vec::new();
        for (name, path) in maildirs(&main) {
            for folder in folders(&path, reader) {
                let internal = partition.layout.folder_name(&folder);
                found.push((
                    format!("{SHARED_COPIES}{name}/{internal}"),
                    path.join(format!(".{folder}")),
                ));
            }
        }
        found
    }
}

impl User {
    /// Internal names of folders that others share on the filesystem and that this user may read,
    /// whether there is a copy of them or not.
    ///
    /// # Errors
    /// [`Error::Closing`]
    pub async fn shared_folders(&self) -> Result<Vec<String>> {
        let user = self.0.clone();
        let look = move || user.shared_folders().into_iter().map(|(name, _)| name).collect();
        self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing)
    }

    /// Makes the user's copy of a shared folder, if there is such a folder and no copy yet: Courier
    /// calls that a subscription.
    ///
    /// # Errors
    /// [`Error::Io`] where the link to the original cannot be made.
    pub async fn copy_shared_folder(&self, name: &str) -> Result<()> {
        if self.namespace().mailboxes.contains_key(name) {
            return Ok(());
        }
        let (user, wanted) = (self.0.clone(), name.to_owned());
        let link = move || {
            let Some((_, original)) =
                user.shared_folders().into_iter().find(|(name, _)| *name == wanted)
            else {
                return Ok(false);
            };
            let Some((partition, _)) = user.copies_root() else { return Ok(false) };
            let dir = user.dir_of(&partition, &wanted)?;
            let path = dir.join(ORIGINAL_NAME);
            let failed = |e| Error::io("link to a shared folder", &path)(e);
            create_durable(&*user.shared.storage, &dir).map_err(failed)?;
            match symlink(original, &path) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed(e)),
                _ => {}
            }
            fs::File::open(&dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
            Ok(true)
        };
        if !self.0.shared.helpers.run(link).await.map_err(|_| Error::Closing)?? {
            return Ok(());
        }
        match self.create(name, &[]).await {
            Err(Error::MailboxExists) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maildir(path: &Path) {
        for sub in ["tmp", "new", "cur"] {
            fs::create_dir_all(path.join(sub)).unwrap();
        }
    }

    fn listed(copy: &Path) -> Vec<String> {
        let mut all: Vec<String> = ["new", "cur"]
            .iter()
            .flat_map(|sub| names(&copy.join(sub)).unwrap())
            .map(|(name, is_link)| {
                format!("{}{}", name.display(), if is_link { " ->" } else { "" })
            })
            .collect();
        all.sort();
        all
    }

    /// A shared folder and a copy of it: directory, original, copy.
    fn shared() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) =
            (dir.path().join("Share/.Open"), dir.path().join("jo/shared-folders/team/Open"));
        [original.parent().unwrap(), &original, &copy].into_iter().for_each(maildir);
        symlink(&original, copy.join(ORIGINAL_NAME)).unwrap();
        for name in ["cur/1.a.h:2,S", "cur/2.b.h:2,", "new/3.c.h"] {
            fs::write(original.join(name), name).unwrap();
        }
        (dir, original, copy)
    }

    #[test]
    fn a_copy_follows_and_is_given_back() {
        let (dir, original, copy) = shared();
        assert!(is_copy(&copy) && !is_copy(&original));
        // One of Courier's links has the reader's flags.
        symlink(original.join("cur/1.a.h:2,S"), copy.join("cur/1.a.h:2,F")).unwrap();
        symlink(original.join("cur/0.x.h:2,"), copy.join("cur/0.x.h:2,")).unwrap();
        assert!(follow(&copy, true).unwrap().is_some());
        assert_eq!(listed(&copy), ["1.a.h:2,F", "2.b.h", "3.c.h"]);
        assert!(original.join("cur/3.c.h:2,").exists());
        // The owner's flags and removals.
        fs::rename(original.join("cur/1.a.h:2,S"), original.join("cur/1.a.h:2,RS")).unwrap();
        fs::remove_file(original.join("cur/2.b.h:2,")).unwrap();
        follow(&copy, true).unwrap();
        assert_eq!(listed(&copy), ["1.a.h:2,F", "3.c.h"]);
        let gone = BTreeSet::from([b"3.c.h".to_vec(), b"none".to_vec()]);
        assert_eq!(remove_originals(&copy, &gone).unwrap(), BTreeSet::new());
        follow(&copy, true).unwrap();
        give_back(&copy).unwrap();
        assert_eq!(listed(&copy), ["1.a.h:2,F ->"]);
        assert_eq!(
            fs::read_link(copy.join("cur/1.a.h:2,F")).unwrap(),
            original.join("cur/1.a.h:2,RS")
        );
        // What is not there to look at removes nothing.
        fs::rename(original.parent().unwrap(), dir.path().join("elsewhere")).unwrap();
        assert!(follow(&copy, true).is_err());
        assert_eq!(listed(&copy), ["1.a.h:2,F ->"]);
        fs::rename(dir.path().join("elsewhere"), original.parent().unwrap()).unwrap();
        fs::remove_dir_all(&original).unwrap();
        // What is on its way to the original stays meanwhile.
        follow(&copy, false).unwrap();
        assert_eq!(listed(&copy), ["1.a.h:2,F ->"]);
        follow(&copy, true).unwrap();
        assert_eq!(listed(&copy), [""; 0]);
    }

    #[test]
    fn what_the_reader_may_not_read_is_not_there() {
        let (dir, original, copy) = shared();
        if rustix::process::getuid().is_root() {
            // The reader is somebody else, then.
            for path in [&copy, &copy.join("new"), &copy.join("cur"), &copy.join("tmp")] {
                std::os::unix::fs::chown(path, Some(4711), Some(4711)).unwrap();
            }
        } else {
            eprintln!("skipped: files of two users take root");
            return;
        }
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
        };
        set(&original.join("cur/1.a.h:2,S"), 0o600);
        symlink("/etc/passwd", original.join("cur/9.p.h:2,")).unwrap();
        follow(&copy, true).unwrap();
        assert_eq!(listed(&copy), ["2.b.h", "3.c.h"]);
        // Neither in a directory that is not his, nor with the sticky bit another's file.
        let all = BTreeSet::from([b"2.b.h".to_vec()]);
        for (mode, stays) in [(0o755, true), (0o1777, true), (0o777, false)] {
            set(&original.join("cur"), mode);
            assert_eq!(remove_originals(&copy, &all).unwrap().is_empty(), !stays, "{mode:o}");
        }
        let reader = Reader::of(&copy).unwrap();
        assert_eq!(folders(&dir.path().join("Share"), reader), ["Open"]);
        set(&original, 0o700);
        assert_eq!(folders(&dir.path().join("Share"), reader), [""; 0]);
        follow(&copy, true).unwrap();
        assert_eq!(listed(&copy), [""; 0]);
    }
}
