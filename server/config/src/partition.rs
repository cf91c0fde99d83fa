//! Where message files are, and what the filesystem there is good for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One directory tree of message files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Unique name, used by `default_partition`.
    pub name: String,
    /// Root of the tree.
    pub path: PathBuf,
    /// How messages are laid out below `path`.
    #[serde(default)]
    pub layout: LayoutKind,
    /// Maildir: a user's main directory below `path`; see `docs/takeover.md`.
    #[serde(default = "default_user_path")]
    pub user_path: String,
    /// Maildir: how folder names are written in directory names.
    #[serde(default)]
    pub folder_names: FolderNames,
    /// Cyrus: how directories of users are spread.
    #[serde(default)]
    pub spread: Spread,
    /// Whether index and cache are mapped.
    #[serde(default)]
    pub io: PartitionIo,
    /// What keeps a second host away from a user's mail.
    #[serde(default)]
    pub locks: Locks,
    /// How changes by other programs are heard of.
    #[serde(default)]
    pub notify: Notify,
    /// Whether the directory of a new file is synced as well as the file.
    #[serde(default)]
    pub sync_names: SyncNames,
}

impl Partition {
    /// A Maildir partition with all else as by default.
    pub fn new(name: &str, path: &Path) -> Partition {
        Partition {
            name: name.to_owned(),
            path: path.to_owned(),
            layout: LayoutKind::default(),
            user_path: default_user_path(),
            folder_names: FolderNames::default(),
            spread: Spread::default(),
            io: PartitionIo::default(),
            locks: Locks::default(),
            notify: Notify::default(),
            sync_names: SyncNames::default(),
        }
    }
}

/// How directories of users are spread in a tree of the Cyrus layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// By the first letter of the name: Cyrus's `hashimapspool`.
    #[default]
    First,
    /// By a hash of the whole name: with `fulldirhash`, too.
    Full,
    /// Not at all.
    None,
}

fn default_user_path() -> String {
    "{user}".to_owned()
}

/// How folder names of Maildirs are written in directory names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FolderNames {
    /// UTF-8, as Courier does since 5.0.
    #[default]
    Utf8,
    /// Modified UTF-7, as Dovecot and older Courier do.
    Utf7,
}

/// How index and cache of a partition are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionIo {
    /// Mapped, but private on network filesystems.
    #[default]
    Auto,
    /// Mapped; no start on a network filesystem.
    Mapped,
    /// Into buffers of our own.
    Private,
}

/// What keeps a second host away from a user's mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Locks {
    /// `ofd` on network filesystems, else `none`.
    #[default]
    Auto,
    /// A lock of the kernel.
    Ofd,
    /// A lock file with a lease.
    Dot,
    /// Nothing.
    None,
}

/// How changes by other programs are heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// inotify, but polling on network filesystems.
    #[default]
    Auto,
    /// inotify.
    Inotify,
    /// Directory times, each second.
    Poll,
}

/// Whether the directory of a new file is synced as well as the file: `"auto"`, `true`, `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(into = "SyncNamesForm")]
pub enum SyncNames {
    /// On filesystems that are not known to make a name durable with its file.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum SyncNamesForm {
    Switch(bool),
    Word(String),
}

impl From<SyncNames> for SyncNamesForm {
    fn from(value: SyncNames) -> SyncNamesForm {
        match value {
            SyncNames::Auto => SyncNamesForm::Word("auto".into()),
            SyncNames::Always => SyncNamesForm::Switch(true),
            SyncNames::Never => SyncNamesForm::Switch(false),
        }
    }
}

impl<'de> Deserialize<'de> for SyncNames {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<SyncNames, D::Error> {
        match SyncNamesForm::deserialize(from) {
            Ok(SyncNamesForm::Switch(true)) => Ok(SyncNames::Always),
            Ok(SyncNamesForm::Switch(false)) => Ok(SyncNames::Never),
            Ok(SyncNamesForm::Word(word)) if word == "auto" => Ok(SyncNames::Auto),
            _ => Err(serde::de::Error::custom("expected \"auto\", true or false")),
        }
    }
}

/// The message layouts that a partition can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutKind {
    /// Maildir++, open to other programs.
    #[default]
    Maildir,
    /// Hashed partition tree with immutable `N.` files.
    Cyrus,
}
