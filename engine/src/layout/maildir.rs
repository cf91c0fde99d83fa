//! Maildir++: `alice/.Work.Projects/cur/BASE:2,FS`, LF line ends, flags in file names.
//!
//! A user's INBOX is the user's directory; every other mailbox is a directory with a leading dot
//! inside it, all flat. Other programs may deliver into `new/`, move files to `cur/` and rename
//! them at any time. File names are truth for flags and for which messages exist; the part of a
//! name before its last `:` is a message's identity.
//!
//! # Crash states
//!
//! | change | a crash can leave | recovery |
//! |---|---|---|
//! | deliver: write and sync `tmp/NAME`, log the frame, rename to `cur/BASE:2,FLAGS` or `new/BASE` | a file in `tmp/` without a frame | nobody was told of it: removed with old files of `tmp/` |
//! | | a frame, and the file in `tmp/` | renamed again |
//! | | a frame, and the file in `cur/` or `new/`, under any flags | nothing to do: another program may have moved it |
//! | | a frame, and neither, or a file that is not whole | never acknowledged, or removed by another program: burnt or expunged |
//! | flags: log the frame, rename within `cur/` | the old name | renamed again: found by its base, by listing where the old name is gone |
//! | `new/` to `cur/` | either name; a list between them sees both | the one in `cur/` counts |
//! | expunge: log the frame, unlink after its checkpoint | a file with a frame that expunges it | unlinked again; gone is done |
//! | relocate: one rename, or entry by entry for INBOX | some entries in each directory | relocate again: what is moved stays moved |
//! | destroy | some entries left | destroy again |
//! | create (`cur/` last) | no `cur/`: not yet a Maildir | create again |
//!
//! A path can be given to another mailbox later. Before it repeats a relocate or destroy,
//! recovery compares the mailbox id in the directory's own files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use protocol::imap::mutf7;

use super::name::{FILE_NAME_BYTES_MAX, escape_user_part, levels, split_user};
use super::tree::{create_durable, is_directory, move_contents, remove_contents, rename_directory};
use super::{Found, FoundMailbox, Layout, LayoutKind, Location, NameError, Unique, is_inbox};
use crate::io::{Kind, Open, Storage};

mod file_name;

pub use file_name::{NameSizes, sizes_in_name};
use file_name::{file_name, host_part, parse};
pub(crate) use file_name::{file_name as file_name_of, parse as parse_name};

/// In a folder's directory: tells a delivery agent that the quota file is one level up.
const FOLDER_MARKER: &str = "maildirfolder";

/// What the internal names of copies of shared folders begin with: then the name that the reader's
/// `shared-maildirs` gives the other Maildir, then the folder's.
pub const SHARED_COPIES: &str = "#shared-folders/";

/// Where a Maildir has these copies: `shared-folders/NAME/FOLDER`, without a dot in front.
const COPIES_DIR: &str = "shared-folders";

/// How folder names are written in directory names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// UTF-8, as Courier does since 5.0. Where no folder of a user has a name beyond ASCII,
    /// names with a valid modified UTF-7 shift are read as that.
    #[default]
    Utf8,
    /// Modified UTF-7, as Dovecot and older Courier do.
    ModifiedUtf7,
}

/// The Maildir++ layout.
#[derive(Clone, Debug)]
pub struct Maildir {
    /// A user's Maildir below the partition's root: `{user}` is the whole user name, `{local}`
    /// and `{domain}` its parts.
    pub user_path: String,
    /// How folder names are written.
    pub names: Names,
    /// Maildirs of single users, one level below the root, where there are any: then the others have
    /// none here, and `user_path` says nothing.
    pub homes: BTreeMap<String, String>,
    /// Whether copies of folders that others share on the filesystem are mailboxes, as they are
    /// Courier's: those below [`SHARED_COPIES`].
    pub shared_folders: bool,
}

impl Default for Maildir {
    fn default() -> Maildir {
        Maildir {
            user_path: "{user}".to_owned(),
            names: Names::default(),
            homes: BTreeMap::new(),
            shared_folders: false,
        }
    }
}

fn refusal(name: &str, reason: &'static str) -> NameError {
    NameError { name: name.to_owned(), layout: "maildir", reason }
}

/// Whether an entry of a user's main directory belongs to INBOX alone: its messages and indexes,
/// but no folders and nothing of the whole account such as `maildirsize` and subscriptions.
fn is_of_inbox(name: &[u8], _kind: Kind) -> bool {
    const NAMES: [&[u8]; 9] = [
        b"cur",
        b"new",
        b"tmp",
        b"courierimapuiddb",
        b"courierimapkeywords",
        b"courierimapacl",
        b"dovecot-acl",
        b"dovecot-uidlist",
        b"dovecot-keywords",
    ];
    NAMES.contains(&name) || name.starts_with(b"cursus.")
}

impl Maildir {
    /// What is wrong with `user_path`, if anything; for the configuration check.
    pub fn user_path_error(user_path: &str) -> Option<&'static str> {
        let whole = user_path.contains("{user}");
        let parts = user_path.contains("{local}") && user_path.contains("{domain}");
        let literal = |level: &str| level.is_empty() || level == "." || level == "..";
        if !whole && !parts {
            Some("expected {user}, or both {local} and {domain}, so that users don't share")
        } else if user_path.split('/').any(literal) {
            Some("expected a relative path without empty levels, '.' and '..'")
        } else {
            None
        }
    }

    fn user_dir(&self, root: &Path, user: &str) -> Result<PathBuf, NameError> {
        if !self.homes.is_empty() {
            let home = self.homes.get(user);
            let refused = || refusal(user, "the partition has Maildirs of certain users alone");
            return Ok(root.join(home.ok_or_else(refused)?));
        }
        let (local, domain) = split_user(user);
        let escape = |part: &str| escape_user_part(part, &[]);
        let mut dir = root.to_owned();
        for level in self.user_path.split('/') {
            // One pass, so that braces in a user name are not taken for a field.
            let mut level_out = String::new();
            let mut rest = level;
            while let Some(start) = rest.find('{') {
                level_out.push_str(&rest[..start]);
                rest = &rest[start..];
                let fields = [
                    ("{user}", escape(user)),
                    ("{local}", escape(local)),
                    // No domain differs from every domain: `%` never stands alone.
                    ("{domain}", domain.map_or("%".to_owned(), escape)),
                ];
                match fields.into_iter().find(|(field, _)| rest.starts_with(field)) {
                    Some((field, value)) => {
                        level_out.push_str(&value);
                        rest = &rest[field.len()..];
                    }
                    None => {
                        level_out.push('{');
                        rest = &rest[1..];
                    }
                }
            }
            level_out.push_str(rest);
            if level_out.len() > FILE_NAME_BYTES_MAX {
                return Err(refusal(user, "the user name is longer than 255 bytes in a path"));
            }
            dir.push(level_out);
        }
        Ok(dir)
    }

    /// The user whose Maildir a directory is, by `user_path`.
    pub fn user_of(&self, root: &Path, dir: &Path) -> Option<String> {
        let below = dir.strip_prefix(root).ok()?.to_str()?;
        let (patterns, levels) = (self.user_path.split('/'), below.split('/'));
        if patterns.clone().count() != levels.clone().count() {
            return None;
        }
        let (mut whole, mut local, mut domain) = (None, None, None);
        for (pattern, level) in patterns.zip(levels) {
            let fields =
                [("{user}", &mut whole), ("{local}", &mut local), ("{domain}", &mut domain)];
            for (field, value) in fields {
                let Some((before, behind)) = pattern.split_once(field) else { continue };
                *value = level.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
            }
        }
        let user = match (whole, local, domain) {
            (Some(user), _, _) => user.to_owned(),
            (None, Some(local), Some("%")) => local.to_owned(),
            (None, Some(local), Some(domain)) => format!("{local}@{domain}"),
            _ => return None,
        };
        // What was escaped, or does not fit, is nobody's that is found so.
        (self.user_dir(root, &user).ok()? == dir).then_some(user)
    }

    /// Whether a mailbox's directory is a folder inside a user's Maildir: it lies one level
    /// below what `user_path` spells.
    fn is_folder(&self, root: &Path, dir: &Path) -> bool {
        let depth = dir.strip_prefix(root).map_or(0, |below| below.components().count());
        depth > self.user_path.split('/').count()
    }

    /// A folder's directory name, with its dot in front. `mailbox` is for the error.
    fn stored_name(&self, mailbox: &str, folder: &str) -> Result<String, NameError> {
        let mut stored = String::new();
        for level in levels(folder, |reason| refusal(mailbox, reason))? {
            stored.push('.');
            match self.names {
                Names::Utf8 => stored.push_str(level),
                Names::ModifiedUtf7 => stored.push_str(&mutf7::encode(level)),
            }
        }
        if stored.len() > FILE_NAME_BYTES_MAX {
            return Err(refusal(mailbox, "the name is longer than 254 bytes as it is stored"));
        }
        Ok(stored)
    }

    /// The name that a folder's directory stands for.
    fn read_name(&self, stored: &str, legacy_possible: bool) -> String {
        let decode = self.names == Names::ModifiedUtf7 || legacy_possible;
        let name = match decode.then(|| mutf7::decode(stored.as_bytes())) {
            Some(Ok(name)) => name,
            _ => stored.to_owned(),
        };
        name.replace('.', "/")
    }
}

/// Whether a directory has the place of a copy of a shared folder.
pub(crate) fn lies_among_copies(dir: &Path) -> bool {
    let above = dir.parent().and_then(Path::parent).and_then(Path::file_name);
    above.is_some_and(|name| name == COPIES_DIR)
}

/// Whether the name of a directory in a Maildir can be a folder's.
fn is_folder_name(name: &[u8]) -> bool {
    name.len() > 1 && name[0] == b'.' && name[1..].split(|b| *b == b'.').all(|l| !l.is_empty())
}

/// Directories in one that need not be there, in order; those whose names are no text are left out.
fn directories(storage: &dyn Storage, dir: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let listed = storage.list(dir, &mut |name, kind| {
        if kind == Kind::Directory
            && let Ok(name) = std::str::from_utf8(name)
        {
            found.push(name.to_owned());
        }
    });
    match listed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    found.sort();
    Ok(found)
}

impl Layout for Maildir {
    fn kind(&self) -> LayoutKind {
        LayoutKind::Maildir
    }

    fn mailbox_dir(&self, root: &Path, user: &str, mailbox: &str) -> Result<PathBuf, NameError> {
        let dir = self.user_dir(root, user)?;
        if is_inbox(mailbox) {
            return Ok(dir);
        }
        if mailbox.contains('.') {
            return Err(refusal(mailbox, "'.' separates levels on disk and cannot be in a name"));
        }
        if let Some(rest) = mailbox.strip_prefix(SHARED_COPIES).filter(|_| self.shared_folders) {
            let (name, folder) = rest.split_once('/').ok_or_else(|| {
                refusal(mailbox, "a shared folder has the name of its Maildir and its own")
            })?;
            levels(name, |reason| refusal(mailbox, reason))?;
            let stored = self.stored_name(mailbox, folder)?;
            return Ok(dir.join(COPIES_DIR).join(name).join(&stored[1..]));
        }
        Ok(dir.join(self.stored_name(mailbox, mailbox)?))
    }

    fn is_there(&self, storage: &dyn Storage, root: &Path, dir: &Path) -> bool {
        let has_marker =
            || !self.is_folder(root, dir) || storage.stat(&dir.join(FOLDER_MARKER)).is_ok();
        ["tmp", "new", "cur"].iter().all(|sub| is_directory(storage, &dir.join(sub)))
            && has_marker()
    }

    fn create(&self, storage: &dyn Storage, root: &Path, dir: &Path) -> io::Result<()> {
        create_durable(storage, dir)?;
        if self.is_folder(root, dir) && !lies_among_copies(dir) {
            storage.open(&dir.join(FOLDER_MARKER), Open::Create)?;
        }
        for sub in ["tmp", "new", "cur"] {
            match storage.create_dir(&dir.join(sub)) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        storage.sync_dir(dir)
    }

    fn relocate(
        &self,
        storage: &dyn Storage,
        root: &Path,
        from: &Path,
        to: &Path,
    ) -> io::Result<()> {
        if let Some(parent) = to.parent() {
            create_durable(storage, parent)?;
        }
        if self.is_folder(root, from) {
            // Folders hold no folders, so the whole directory can go.
            match rename_directory(storage, from, to) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other,
            }
            self.create(storage, root, to)?;
            return move_contents(storage, from, to, &|_, _| true);
        }
        self.create(storage, root, to)?;
        move_contents(storage, from, to, &is_of_inbox)
    }

    fn destroy(&self, storage: &dyn Storage, root: &Path, dir: &Path) -> io::Result<()> {
        if self.is_folder(root, dir) {
            remove_contents(storage, dir, &|_, _| true)
        } else {
            remove_contents(storage, dir, &is_of_inbox)
        }
    }

    fn stage_path(&self, _root: &Path, dir: &Path, name: &str) -> PathBuf {
        dir.join("tmp").join(name)
    }

    fn base_name(&self, unique: &Unique<'_>, stored: u32, served: u32) -> Vec<u8> {
        let Unique { seconds, micros, pid, counter, .. } = unique;
        let host = host_part(unique.host);
        format!("{seconds}.M{micros}P{pid}Q{counter}.{host},S={stored},W={served}").into_bytes()
    }

    fn path(&self, dir: &Path, at: &Location) -> PathBuf {
        let sub = if at.in_new { "new" } else { "cur" };
        dir.join(sub).join(OsStr::from_bytes(&file_name(at)))
    }

    /// Lists `new/` before `cur/`: a file that moves meanwhile is seen twice rather than missed.
    fn list(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        new_only: bool,
        each: &mut dyn FnMut(Found),
    ) -> io::Result<()> {
        let subs: &[(&str, bool)] =
            if new_only { &[("new", true)] } else { &[("new", true), ("cur", false)] };
        for (sub, in_new) in subs {
            storage.list(&dir.join(sub), &mut |name, kind| {
                if kind == Kind::File
                    && let Some(found) = parse(name, *in_new)
                {
                    each(found);
                }
            })?;
        }
        Ok(())
    }

    fn watched_dirs(&self, dir: &Path) -> Vec<PathBuf> {
        vec![dir.join("new"), dir.join("cur")]
    }

    fn has_copies(&self) -> bool {
        self.shared_folders
    }

    fn folder_name(&self, stored: &str) -> String {
        self.read_name(stored, false)
    }

    fn discover(
        &self,
        storage: &dyn Storage,
        root: &Path,
        user: &str,
    ) -> io::Result<Vec<FoundMailbox>> {
        let Ok(base) = self.user_dir(root, user) else { return Ok(Vec::new()) };
        let is_maildir = |dir: &Path| match storage.stat(&dir.join("cur")) {
            Ok(stat) => Ok(stat.kind == Kind::Directory),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        };
        if !is_maildir(&base)? {
            return Ok(Vec::new());
        }
        let mut folders = Vec::new();
        storage.list(&base, &mut |name, kind| {
            if kind == Kind::Directory && is_folder_name(name) {
                folders.push(name.to_vec());
            }
        })?;
        folders.sort();
        let legacy_possible = folders.iter().all(|name| name.is_ascii());
        let mut found = vec![FoundMailbox { name: "INBOX".to_owned(), dir: base.clone() }];
        for folder in folders {
            let dir = base.join(OsStr::from_bytes(&folder));
            if !is_maildir(&dir)? {
                continue;
            }
            let Ok(stored) = std::str::from_utf8(&folder[1..]) else {
                tracing::warn!(dir = %dir.display(), "expected a folder name in UTF-8: left alone");
                continue;
            };
            let name = self.read_name(stored, legacy_possible);
            if is_inbox(&name) || found.iter().any(|known| known.name == name) {
                tracing::warn!(dir = %dir.display(), name, "a second folder of this name: left alone");
                continue;
            }
            found.push(FoundMailbox { name, dir });
        }
        if self.shared_folders {
            let copies = base.join(COPIES_DIR);
            for name in directories(storage, &copies)? {
                for folder in directories(storage, &copies.join(&name))? {
                    let dir = copies.join(&name).join(&folder);
                    if is_maildir(&dir)? {
                        let folder = self.folder_name(&folder);
                        found.push(FoundMailbox {
                            name: format!("{SHARED_COPIES}{name}/{folder}"),
                            dir,
                        });
                    }
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
