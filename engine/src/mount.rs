//! How the filesystem under a partition is used: what the operator asked for, and what follows
//! from it on the filesystem that is there.
//!
//! Invariant: a partition on a network filesystem is never mapped, never trusted to tell of other
//! programs' changes by itself, and has one owner per user (see [`crate::owner`]) unless the
//! operator said otherwise in so many words.

use std::path::Path;

use crate::error::{Error, Result};
use crate::io::{Filesystem, Storage};

/// How index and cache are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMode {
    /// Mapped on local filesystems, private buffers on network filesystems.
    #[default]
    Auto,
    /// Mapped; a filesystem whose maps cannot be trusted is refused.
    Mapped,
    /// Read into memory of our own; never mapped.
    Private,
}

/// What keeps a second host away from a user's mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockMode {
    /// [`LockMode::Ofd`] on network filesystems, [`LockMode::None`] on local ones.
    #[default]
    Auto,
    /// A lock of the kernel (`F_OFD_SETLK`), which NFS carries to the server.
    Ofd,
    /// A lock file with a lease.
    Dot,
    /// Nothing: only this store opens the tree.
    None,
}

/// How changes by other programs are heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NotifyMode {
    /// inotify on local filesystems, polling on network filesystems.
    #[default]
    Auto,
    /// inotify.
    Inotify,
    /// Directory times, looked at each second.
    Poll,
}

/// Whether the directory of a new file is synced before the file counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameSync {
    /// Where the filesystem is not known to make a name durable with its file.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The operator's settings for the filesystem of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Maps or buffers.
    pub io: IoMode,
    /// One owner per user.
    pub locks: LockMode,
    /// Events or polling.
    pub notify: NotifyMode,
    /// Directory syncs.
    pub sync_names: NameSync,
}

/// The kind of lock that a user's tree needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locks {
    Ofd,
    Dot,
    None,
}

/// What the settings of a partition come to on its filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) filesystem: Filesystem,
    /// No maps.
    pub(crate) private: bool,
    pub(crate) locks: Locks,
    /// inotify may be asked.
    pub(crate) events: bool,
    pub(crate) sync_names: bool,
}

impl Mount {
    /// Looks at the filesystem of a partition's root, which exists.
    pub(crate) fn resolve(
        storage: &dyn Storage,
        root: &Path,
        options: MountOptions,
    ) -> Result<Mount> {
        let filesystem = storage.filesystem(root).map_err(Error::io("look at", root))?;
        if !filesystem.renames_are_whole {
            tracing::warn!(
                path = %root.display(),
                filesystem = filesystem.name,
                "no journal here (or none that the kernel tells of): a power cut may lose blocks of \
                 directories, and during RENAME a mailbox's whole directory to lost+found; give the filesystem a journal (tune2fs -j), or use another"
            );
        }
        let private = match options.io {
            IoMode::Auto => filesystem.network,
            IoMode::Private => true,
            IoMode::Mapped if filesystem.network => {
                return Err(Error::Unsuitable {
                    path: root.to_owned(),
                    filesystem: filesystem.name,
                    expected: "a local filesystem for partition.io = \"mapped\": set it to \
                               \"auto\" or \"private\"",
                });
            }
            IoMode::Mapped => false,
        };
        let locks = match options.locks {
            LockMode::Auto if filesystem.network => Locks::Ofd,
            LockMode::Auto | LockMode::None => Locks::None,
            LockMode::Ofd => Locks::Ofd,
            LockMode::Dot => Locks::Dot,
        };
        let events = match options.notify {
            NotifyMode::Auto => !filesystem.network,
            NotifyMode::Inotify => true,
            NotifyMode::Poll => false,
        };
        let sync_names = match options.sync_names {
            NameSync::Auto => !filesystem.names_follow_files,
            NameSync::Always => true,
            NameSync::Never => false,
        };
        Ok(Mount { filesystem, private, locks, events, sync_names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::Sim;

    #[test]
    fn a_local_filesystem_is_mapped_watched_and_not_locked() {
        let sim = Sim::new(1);
        let mount = Mount::resolve(&sim, Path::new("/"), MountOptions::default()).unwrap();
        assert!(!mount.private && mount.events && !mount.sync_names);
        assert_eq!(mount.locks, Locks::None);
    }

    #[test]
    fn settings_win_over_what_the_filesystem_suggests() {
        let sim = Sim::new(1);
        let options = MountOptions {
            io: IoMode::Private,
            locks: LockMode::Dot,
            notify: NotifyMode::Poll,
            sync_names: NameSync::Always,
        };
        let mount = Mount::resolve(&sim, Path::new("/"), options).unwrap();
        assert!(mount.private && !mount.events && mount.sync_names);
        assert_eq!(mount.locks, Locks::Dot);
    }
}
