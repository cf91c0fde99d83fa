//! How messages lie in directories: one trait, two layouts.
//!
//! | layout | message file | line ends | truth for flags |
//! |---|---|---|---|
//! | [`maildir`] | `cur/BASE:2,FLAGS` or `new/BASE` | LF | file names, then the index |
//! | [`cyrus`] | `N.` | CRLF | the index |
//!
//! A layout computes paths and touches directories through [`Storage`]; it keeps no state. The
//! index knows for every UID the [`Location`] that its file had when last seen.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::types::{SystemFlags, Uid};

use crate::io::Storage;

pub mod cyrus;
pub mod maildir;
mod name;
mod tree;

pub use cyrus::Cyrus;
pub use maildir::Maildir;
pub(crate) use tree::create_durable;

/// Which layout a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutKind {
    /// Maildir++.
    Maildir,
    /// Cyrus's partition tree.
    Cyrus,
}

/// Flags that a Maildir file name carries: bits of [`SystemFlags`] in the low five bits, then
/// bit 5 for `P` (passed). Letters that we do not know stay in the name and are not here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameFlags(pub u8);

impl NameFlags {
    /// `P`: resent, forwarded or bounced; the keyword `$Forwarded`.
    pub const PASSED: u8 = 1 << 5;
    /// Every bit in use.
    pub const ALL: u8 = SystemFlags::ALL.0 | Self::PASSED;

    /// The system flags among them.
    pub fn system(self) -> SystemFlags {
        SystemFlags(self.0 & SystemFlags::ALL.0)
    }
}

/// Where the file of a message is, as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The message's UID: names the file in the cyrus layout.
    pub uid: Uid,
    /// Maildir: the name up to (not including) the last `:`. Empty in the cyrus layout.
    pub base: Vec<u8>,
    /// Maildir: the letters in the name.
    pub flags: NameFlags,
    /// Maildir: letters that we do not interpret, in name order, such as Dovecot's keywords.
    /// Opaque to everybody else, kept with the base name: a name that we would not have written
    /// ourselves hides its exact form here.
    pub other_letters: Vec<u8>,
    /// Maildir: in `new/`, where names carry no letters; else in `cur/`.
    pub in_new: bool,
}

impl Location {
    /// Whether a message of this base has the same name at both.
    pub(crate) fn has_name_of(&self, other: &Location) -> bool {
        (self.flags, self.in_new, &self.other_letters)
            == (other.flags, other.in_new, &other.other_letters)
    }
}

/// A message file met in a listing.
pub type Found = Location;

/// Why a mailbox name cannot be stored in a layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mailbox name {name:?} cannot be stored in a {layout} partition: {reason}")]
pub struct NameError {
    /// The internal name.
    pub name: String,
    /// `maildir` or `cyrus`.
    pub layout: &'static str,
    /// What is wrong and what is expected.
    pub reason: &'static str,
}

/// A mailbox found in a tree that we did not make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundMailbox {
    /// Internal name: UTF-8, `/` between levels, `INBOX` for the main one.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
}

/// How messages of one partition lie on disk.
///
/// `root` is the partition's path, `dir` a mailbox's directory as `mailbox_dir` gave it. Names
/// of users are canonical (`local` or `local@domain`); names of mailboxes are internal.
pub trait Layout: Send + Sync {
    /// Which one this is.
    fn kind(&self) -> LayoutKind;
    /// The directory of a mailbox. Never leaves `root`, whatever the names hold.
    fn mailbox_dir(&self, root: &Path, user: &str, mailbox: &str) -> Result<PathBuf, NameError>;
    /// Whether the directory and what belongs in it are there, maybe not durably.
    fn is_there(&self, storage: &dyn Storage, root: &Path, dir: &Path) -> bool;
    /// Makes the directory and what belongs in it; succeeds when all is there.
    fn create(&self, storage: &dyn Storage, root: &Path, dir: &Path) -> io::Result<()>;
    /// Moves what belongs to this mailbox alone (not its children) from one directory to
    /// another. Can be repeated after a crash at any point: what is moved stays moved. Removes
    /// the old directory when it is empty.
    fn relocate(
        &self,
        storage: &dyn Storage,
        root: &Path,
        from: &Path,
        to: &Path,
    ) -> io::Result<()>;
    /// Removes what belongs to this mailbox alone, its directory when empty; repeatable.
    fn destroy(&self, storage: &dyn Storage, root: &Path, dir: &Path) -> io::Result<()>;
    /// Where a message being delivered is written before it has a UID; on the filesystem of
    /// `dir`. `name` is unique in the store.
    fn stage_path(&self, root: &Path, dir: &Path, name: &str) -> PathBuf;
    /// The base name for a new message file (empty in the cyrus layout). `unique` differs for
    /// every message of the store; sizes as stored and as served, in bytes.
    fn base_name(&self, unique: &Unique<'_>, stored: u32, served: u32) -> Vec<u8>;
    /// The path that a location stands for.
    fn path(&self, dir: &Path, at: &Location) -> PathBuf;
    /// Calls `each` with every message file in the directory, in directory order; `new_only`
    /// lists just `new/` (maildir).
    fn list(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        new_only: bool,
        each: &mut dyn FnMut(Found),
    ) -> io::Result<()>;
    /// Directories whose modification time changes when messages come or go.
    fn watched_dirs(&self, dir: &Path) -> Vec<PathBuf>;
    /// Whether mailboxes below [`maildir::SHARED_COPIES`] are copies of what others share.
    fn has_copies(&self) -> bool {
        false
    }
    /// The internal name that a folder's directory stands for, without a dot in front.
    fn folder_name(&self, stored: &str) -> String {
        stored.to_owned()
    }
    /// Every mailbox of a user that exists below `root`.
    fn discover(
        &self,
        storage: &dyn Storage,
        root: &Path,
        user: &str,
    ) -> io::Result<Vec<FoundMailbox>>;
}

/// What makes a file name unique: time of delivery, process, a counter of the process, host.
#[derive(Clone, Copy, Debug)]
pub struct Unique<'a> {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Microseconds of the second.
    pub micros: u32,
    /// Process id.
    pub pid: u32,
    /// Rises with every name made by this process.
    pub counter: u64,
    /// Host name as configured; `/` and `:` are escaped by the layout.
    pub host: &'a str,
}

/// What the layouts can be told; each uses its own part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutOptions {
    /// [`Maildir::user_path`].
    pub user_path: String,
    /// [`Maildir::names`].
    pub names: maildir::Names,
    /// [`Cyrus::hashed`].
    pub hashed: bool,
    /// [`Cyrus::full_hash`].
    pub full_hash: bool,
}

impl Default for LayoutOptions {
    fn default() -> LayoutOptions {
        let (maildir, cyrus) = (Maildir::default(), Cyrus::default());
        LayoutOptions {
            user_path: maildir.user_path,
            names: maildir.names,
            hashed: cyrus.hashed,
            full_hash: cyrus.full_hash,
        }
    }
}

/// Makes a layout.
pub fn layout_for(kind: LayoutKind, options: &LayoutOptions) -> Arc<dyn Layout> {
    match kind {
        LayoutKind::Maildir => {
            let (user_path, names) = (options.user_path.clone(), options.names);
            Arc::new(Maildir { user_path, names, ..Maildir::default() })
        }
        LayoutKind::Cyrus => {
            Arc::new(Cyrus { hashed: options.hashed, full_hash: options.full_hash })
        }
    }
}

/// Whether a mailbox name is INBOX, which clients may spell in any case.
fn is_inbox(mailbox: &str) -> bool {
    mailbox.eq_ignore_ascii_case("INBOX")
}
