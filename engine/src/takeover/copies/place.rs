//! Where a copy and its original lie: both are opened once, and used by descriptor.
//!
//! Invariants: from the reader's Maildir on no symbolic link is followed but `shared`, which is read
//! once; the original is what that led to then, wherever it leads later. So nobody who exchanges links
//! or directories meanwhile has a message put where the reader could not put it himself.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::Reader;
use super::{ORIGINAL_NAME, Times};
use crate::io::{Directory, Facts, Kind, Storage};
use crate::layout::maildir::lies_among_copies;

/// The part of a name that is the message's.
pub(super) fn base(name: &OsStr) -> Vec<u8> {
    let name = name.as_bytes();
    name.iter().rposition(|b| *b == b':').map_or(name, |at| &name[..at]).to_vec()
}

/// Whether a mailbox's directory is that of a copy.
pub(crate) fn is_copy(storage: &dyn Storage, dir: &Path) -> bool {
    lies_among_copies(dir)
        && storage
            .directory(dir)
            .and_then(|dir| dir.facts_of(OsStr::new(ORIGINAL_NAME)))
            .is_ok_and(|link| link.stat.kind == Kind::Link)
}

/// Times of what a copy is one of; `None` where that cannot be told.
pub(super) fn times(storage: &dyn Storage, copy: &Path) -> Option<Times> {
    let link = storage.directory(copy).and_then(|dir| dir.read_link(OsStr::new(ORIGINAL_NAME)));
    link.ok().filter(|path| path.is_absolute()).map(|original| times_of(storage, &original))
}

fn times_of(storage: &dyn Storage, original: &Path) -> Times {
    let time = |sub: &str| storage.stat(&original.join(sub)).map_or(0, |dir| dir.mtime_ns);
    (time("new"), time("cur"))
}

/// Names of what is no directory in one of a Maildir's, and whether each is a symbolic link.
pub(super) fn names(dir: &dyn Directory) -> io::Result<Vec<(OsString, bool)>> {
    let mut names = Vec::new();
    dir.list(&mut |name, kind| {
        if kind != Kind::Directory && !name.starts_with(b".") {
            names.push((OsString::from_vec(name.to_vec()), kind == Kind::Link));
        }
    })?;
    Ok(names)
}

/// A message of an original or of a copy: its directory, and its name there.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) dir: Arc<dyn Directory>,
    pub(super) sub: &'static str,
    pub(super) name: OsString,
    pub(super) is_link: bool,
}

/// A reader's copy, open.
pub(super) struct CopyDir {
    pub(super) dir: Arc<dyn Directory>,
    pub(super) reader: Reader,
    /// What `shared` said.
    path: PathBuf,
}

impl CopyDir {
    /// Opens a copy; `None` for what is none.
    pub(super) fn open(storage: &dyn Storage, path: &Path) -> io::Result<Option<CopyDir>> {
        let Some(main) = path.ancestors().nth(3).filter(|_| lies_among_copies(path)) else {
            return Ok(None);
        };
        let mut dir = storage.directory(main)?;
        let reader = Reader::of(&*dir)?;
        for name in path.strip_prefix(main).into_iter().flatten() {
            dir = dir.directory(name)?;
        }
        match dir.read_link(OsStr::new(ORIGINAL_NAME)) {
            Ok(path) if path.is_absolute() => Ok(Some(CopyDir { dir, reader, path })),
            Ok(_) => Ok(None),
            // EINVAL: no link.
            Err(e) if [ErrorKind::NotFound, ErrorKind::InvalidInput].contains(&e.kind()) => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    pub(super) fn sub(&self, name: &str) -> io::Result<Arc<dyn Directory>> {
        self.dir.directory(OsStr::new(name))
    }

    /// Times of the original.
    pub(super) fn times(&self, storage: &dyn Storage) -> Times {
        times_of(storage, &self.path)
    }

    /// What the copy has, by bases.
    pub(super) fn messages(&self) -> io::Result<BTreeMap<Vec<u8>, Named>> {
        let mut found = BTreeMap::new();
        for sub in ["new", "cur"] {
            let dir = match self.sub(sub) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                other => other?,
            };
            for (name, is_link) in names(&*dir)? {
                found.insert(base(&name), Named { dir: dir.clone(), sub, name, is_link });
            }
        }
        Ok(found)
    }

    /// Opens the original; `None` where it is gone, or not the reader's to look into.
    ///
    /// # Errors
    /// Where that cannot be told: a disk that is not mounted removes nothing.
    pub(super) fn original(&self, storage: &dyn Storage) -> io::Result<Option<Original>> {
        let denied = |e: &io::Error| e.kind() == ErrorKind::PermissionDenied;
        let (Some(maildir), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let maildir = match self.reader.open(storage, maildir) {
            Err(e) if denied(&e) => return Ok(None),
            other => other?,
        };
        // Of a link in its place, it leads on.
        let dir = match maildir.facts_of(name) {
            Ok(found) if found.stat.kind == Kind::Link => self.reader.open(storage, &self.path),
            Ok(_) if !self.reader.may_in(&*maildir, 1) => return Ok(None),
            Ok(_) => maildir.directory(name),
            Err(e) => Err(e),
        };
        let cur = dir.and_then(|dir| Ok((dir.directory(OsStr::new("cur"))?, dir)));
        let (cur, dir) = match cur {
            Ok(found) => found,
            Err(e) if denied(&e) => return Ok(None),
            // Gone is gone where the Maildir around it is there to say so.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                maildir.directory(OsStr::new("cur")).map_err(|_| e)?;
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        if !self.reader.may_in(&*dir, 1) || !self.reader.may_in(&*cur, 5) {
            return Ok(None);
        }
        let sub = |name: &str| dir.directory(OsStr::new(name)).ok();
        let (new, tmp) = (sub("new"), sub("tmp"));
        Ok(Some(Original { path: self.path.clone(), cur, new, tmp }))
    }
}

/// A shared folder, open, which the reader may look into.
pub(super) struct Original {
    pub(super) path: PathBuf,
    pub(super) cur: Arc<dyn Directory>,
    new: Option<Arc<dyn Directory>>,
    tmp: Option<Arc<dyn Directory>>,
}

impl Original {
    /// Its messages by their bases; those in `new/` are moved to `cur/`, as Courier does for whoever
    /// looks first. Without the right to, they are read where they are.
    pub(super) fn messages(&self, storage: &dyn Storage) -> io::Result<BTreeMap<Vec<u8>, Named>> {
        let mut found = BTreeMap::new();
        if let Some(new) = &self.new {
            for (name, is_link) in names(&**new)? {
                if !self.moves(storage, &**new, &name) {
                    let here = Named { dir: new.clone(), sub: "new", name, is_link };
                    found.insert(base(&here.name), here);
                }
            }
        }
        for (name, is_link) in names(&*self.cur)? {
            if !is_link {
                let here = Named { dir: self.cur.clone(), sub: "cur", name, is_link };
                found.insert(base(&here.name), here);
            }
        }
        Ok(found)
    }

    fn moves(&self, storage: &dyn Storage, new: &dyn Directory, name: &OsStr) -> bool {
        let mut named = name.to_owned();
        if !name.as_bytes().contains(&b':') {
            named.push(":2,");
        }
        let is_same = |there: &Facts| {
            let file = |facts: &Facts| (facts.stat.device, facts.stat.inode);
            new.facts_of(name).is_ok_and(|here| file(&here) == file(there))
        };
        let has_both = match self.cur.facts_of(&named) {
            Err(e) if e.kind() == ErrorKind::NotFound => false,
            // Something came between the two steps below.
            Ok(there) if is_same(&there) => true,
            _ => return false,
        };
        if !has_both && storage.filesystem(&self.path).is_ok_and(|found| found.renames_are_whole) {
            return new.rename(name, &*self.cur, &named).is_ok();
        }
        // Without a journal a power cut may leave neither name of a rename.
        let linked = if has_both { Ok(()) } else { new.link(name, &*self.cur, &named) };
        linked.and_then(|()| self.cur.sync()).and_then(|()| new.unlink(name)).is_ok()
    }

    /// Where messages are, `new/` first: what moves meanwhile goes from there to `cur/`.
    pub(super) fn dirs(&self) -> impl Iterator<Item = &Arc<dyn Directory>> {
        self.new.iter().chain([&self.cur])
    }

    /// `tmp/` and `cur/`, where the reader may write into both.
    pub(super) fn writable(&self, reader: Reader) -> Option<(&dyn Directory, &dyn Directory)> {
        let (tmp, cur) = (&**self.tmp.as_ref()?, &*self.cur);
        (reader.may_in(tmp, 3) && reader.may_in(cur, 3)).then_some((tmp, cur))
    }
}
