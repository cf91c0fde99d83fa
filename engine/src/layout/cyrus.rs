//! Cyrus's partition tree: `a/user/alice/Work/17.`, one file per UID, CRLF line ends.
//!
//! A user's INBOX is the directory of the user, other mailboxes are sub-directories of it, so a
//! directory's sub-directories are child mailboxes, except those with a dot in their name, which
//! no mailbox has (`.` inside a level is stored as `^`): they hold our own files. Message files
//! are never changed in place. The index is truth for flags; the directory says which UIDs have
//! bytes.
//!
//! # Crash states
//!
//! | change | a crash can leave | recovery |
//! |---|---|---|
//! | deliver: write and sync `stage./NAME`, log the frame, rename to `N.` | a staged file without a frame | nobody was told of it: removed |
//! | | a frame, and the file staged | renamed to `N.` again |
//! | | a frame, and `N.` | nothing to do |
//! | | a frame, and neither, or one that is not whole | never acknowledged: the UID is burnt |
//! | flags | no file is touched | index redone from the log |
//! | expunge: log the frame, unlink after its checkpoint | `N.` with a frame that expunges it | unlinked again; gone is done |
//! | relocate: one rename, or file by file | some files in each directory | relocate again: what is moved stays moved |
//! | destroy | some files left | destroy again |
//! | create | directories without an index | create again |
//!
//! A path can be given to another mailbox later. Before it repeats a relocate or destroy,
//! recovery compares the mailbox id in the directory's own files.

use std::io;
use std::path::{Path, PathBuf};

use protocol::imap::mutf7;
use protocol::types::Uid;

use super::name::{FILE_NAME_BYTES_MAX, escape_user_part, levels, split_user};
use super::tree::{
    create_durable, is_directory, move_contents, remove_contents, rename_directory, sync_parents,
};
use super::{
    Found, FoundMailbox, Layout, LayoutKind, Location, NameError, NameFlags, Unique, is_inbox,
};
use crate::io::{Kind, Storage};

/// Where messages lie before they have a UID, below the partition's root.
const STAGE_DIRECTORY: &str = "stage.";
/// Levels below a user's directory that a search for mailboxes follows.
const DEPTH_MAX: usize = 64;

/// The layout of Cyrus's partitions by name.
#[derive(Clone, Debug)]
pub struct Cyrus {
    /// `hashimapspool`: a directory named by a letter spreads users. Debian's default.
    pub hashed: bool,
    /// `fulldirhash`: the letter comes from the whole name instead of its first character.
    pub full_hash: bool,
}

impl Default for Cyrus {
    fn default() -> Cyrus {
        Cyrus { hashed: true, full_hash: false }
    }
}

/// The UID in the name of a message file: decimal without leading zeros, and a dot.
pub(super) fn uid_of_name(name: &[u8]) -> Option<Uid> {
    let digits = name.strip_suffix(b".")?;
    if digits.first()? == &b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().map(Uid)
}

/// Whether an entry of a mailbox's directory is its own: all but child mailboxes.
fn is_own(name: &[u8], kind: Kind) -> bool {
    kind != Kind::Directory || name.contains(&b'.')
}

impl Cyrus {
    fn hash_letter(&self, word: &str) -> char {
        if !self.full_hash {
            let first = word.bytes().next().unwrap_or_default().to_ascii_lowercase();
            return if first.is_ascii_lowercase() { char::from(first) } else { 'q' };
        }
        let hash = |n: u32, byte: u8| ((n << 3) ^ (n >> 5)) ^ u32::from(byte);
        let n = word.bytes().take_while(|byte| *byte != b'.').fold(0, hash);
        char::from(b'A' + (n % 23) as u8)
    }

    fn user_dir(&self, root: &Path, user: &str) -> Result<PathBuf, NameError> {
        let (local, domain) = split_user(user);
        let mut dir = root.to_owned();
        let mut push = |part: &str| {
            dir.push(part);
            if part.len() <= FILE_NAME_BYTES_MAX {
                return Ok(());
            }
            Err(refusal(user, "the user name is longer than 255 bytes in a path"))
        };
        if let Some(domain) = domain {
            let domain = escape_user_part(domain, &[]);
            push("domain")?;
            if self.hashed {
                push(self.hash_letter(&domain).encode_utf8(&mut [0; 4]))?;
            }
            push(&domain)?;
        }
        let local = escape_user_part(local, &['^']).replace('.', "^");
        if self.hashed {
            push(self.hash_letter(&local).encode_utf8(&mut [0; 4]))?;
        }
        push("user")?;
        push(&local)?;
        Ok(dir)
    }

    /// Adds the mailboxes in `dir`, named `name`, and below.
    fn discover_below(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        name: Option<&str>,
        depth: usize,
        found: &mut Vec<FoundMailbox>,
    ) -> io::Result<()> {
        let (mut is_mailbox, mut children) = (name.is_none(), Vec::new());
        storage.list(dir, &mut |entry, kind| {
            if is_own(entry, kind) {
                let marker = entry == b"cyrus.header" || entry.starts_with(b"cursus.");
                is_mailbox |= marker || uid_of_name(entry).is_some();
            } else if let Ok(child) = std::str::from_utf8(entry) {
                children.push(child.to_owned());
            }
        })?;
        if is_mailbox {
            found.push(FoundMailbox {
                name: name.unwrap_or("INBOX").to_owned(),
                dir: dir.to_owned(),
            });
        }
        if depth == DEPTH_MAX {
            return Ok(());
        }
        children.sort();
        for child in children {
            let Ok(level) = mutf7::decode(child.replace('^', ".").as_bytes()) else {
                tracing::warn!(dir = %dir.display(), child, "expected modified UTF-7: left alone");
                continue;
            };
            let child_name = match name {
                Some(parent) => format!("{parent}/{level}"),
                // The user's directory is INBOX already.
                None if is_inbox(&level) => continue,
                None => level,
            };
            self.discover_below(storage, &dir.join(&child), Some(&child_name), depth + 1, found)?;
        }
        Ok(())
    }
}

fn refusal(name: &str, reason: &'static str) -> NameError {
    NameError { name: name.to_owned(), layout: "cyrus", reason }
}

impl Layout for Cyrus {
    fn kind(&self) -> LayoutKind {
        LayoutKind::Cyrus
    }

    fn mailbox_dir(&self, root: &Path, user: &str, mailbox: &str) -> Result<PathBuf, NameError> {
        let mut dir = self.user_dir(root, user)?;
        if is_inbox(mailbox) {
            return Ok(dir);
        }
        if mailbox.contains('^') {
            return Err(refusal(mailbox, "'^' is how the layout stores '.' inside a name"));
        }
        for level in levels(mailbox, |reason| refusal(mailbox, reason))? {
            let stored = mutf7::encode(level).replace('.', "^");
            if stored.len() > FILE_NAME_BYTES_MAX {
                return Err(refusal(mailbox, "a level is longer than 255 bytes as it is stored"));
            }
            dir.push(stored);
        }
        Ok(dir)
    }

    fn is_there(&self, storage: &dyn Storage, root: &Path, dir: &Path) -> bool {
        is_directory(storage, &root.join(STAGE_DIRECTORY)) && is_directory(storage, dir)
    }

    fn create(&self, storage: &dyn Storage, root: &Path, dir: &Path) -> io::Result<()> {
        create_durable(storage, &root.join(STAGE_DIRECTORY))?;
        create_durable(storage, dir)
    }

    fn relocate(
        &self,
        storage: &dyn Storage,
        _root: &Path,
        from: &Path,
        to: &Path,
    ) -> io::Result<()> {
        let mut has_children = false;
        let listed = storage.list(from, &mut |name, kind| has_children |= !is_own(name, kind));
        match listed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return sync_parents(storage, &[from, to]);
            }
            other => other?,
        }
        if let Some(parent) = to.parent() {
            create_durable(storage, parent)?;
        }
        if !has_children {
            match rename_directory(storage, from, to) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // `to` lies below `from`.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
                other => return other,
            }
        }
        create_durable(storage, to)?;
        move_contents(storage, from, to, &is_own)
    }

    fn destroy(&self, storage: &dyn Storage, _root: &Path, dir: &Path) -> io::Result<()> {
        remove_contents(storage, dir, &is_own)
    }

    fn stage_path(&self, root: &Path, _dir: &Path, name: &str) -> PathBuf {
        root.join(STAGE_DIRECTORY).join(name)
    }

    fn base_name(&self, _unique: &Unique<'_>, _stored: u32, _served: u32) -> Vec<u8> {
        Vec::new()
    }

    fn path(&self, dir: &Path, at: &Location) -> PathBuf {
        dir.join(format!("{}.", at.uid))
    }

    fn list(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        new_only: bool,
        each: &mut dyn FnMut(Found),
    ) -> io::Result<()> {
        if new_only {
            return Ok(());
        }
        storage.list(dir, &mut |name, kind| {
            if let (Kind::File, Some(uid)) = (kind, uid_of_name(name)) {
                each(Location {
                    uid,
                    base: Vec::new(),
                    flags: NameFlags::default(),
                    other_letters: Vec::new(),
                    in_new: false,
                });
            }
        })
    }

    fn watched_dirs(&self, dir: &Path) -> Vec<PathBuf> {
        vec![dir.to_owned()]
    }

    fn discover(
        &self,
        storage: &dyn Storage,
        root: &Path,
        user: &str,
    ) -> io::Result<Vec<FoundMailbox>> {
        let mut found = Vec::new();
        let Ok(dir) = self.user_dir(root, user) else { return Ok(found) };
        match self.discover_below(storage, &dir, None, 0, &mut found) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map(|()| found),
        }
    }
}

#[cfg(test)]
mod tests;
