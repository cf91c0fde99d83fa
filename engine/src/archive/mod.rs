//! Archive, backup, restore: the log and the messages that it names, kept elsewhere.
//!
//! | module | says |
//! |---|---|
//! | [`format`] | names and JSON of what is in archives and backups |
//! | [`pool`] | message files by content, written so that a name is a promise |
//! | [`aside`] | links to message files, kept in the store until the archive has them |
//! | [`taker`] | takes closed segments to the archive; limit, gaps, alarm |
//! | [`target`] | where the archive is: a directory, or behind a command |
//! | [`chain`] | the segments of an archive in order: what is void, what is missing |
//! | [`verify`] | checks an archive by itself; removes what is old |
//! | [`backup`] | a hot copy of the store |
//! | [`restore`] | a store as it was at a moment |
//!
//! Invariants:
//! - Mail never waits for an archive. What it cannot take in time becomes a gap with a name.
//! - A manifest is written after everything that it names is durable: an archive cut off at any
//!   point is a shorter archive.
//! - Taking is repeatable: content names messages, LSN and epoch name segments.
//! - Whatever frames can be restored go through recovery's redo, never through code of their own.

pub(crate) mod aside;
mod backup;
mod chain;
mod format;
mod pool;
mod restore;
mod taker;
mod target;
mod verify;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use aside::Aside;
pub(crate) use backup::backup;
pub use backup::{BackupOptions, BackupProgress, BackupReport};
pub use chain::{GapFound, SegmentFound};
pub use format::{Gap, MessageName};
pub(crate) use restore::{Bodies, UNFINISHED};
pub use restore::{RestoreOptions, RestoreReport, partitions, restore};
pub use taker::ArchiveStatus;
pub(crate) use taker::SEGMENT_OUTBOX;
pub(crate) use taker::Taker;
pub use verify::{ArchiveReport, PruneReport, prune, verify};

/// Where the archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveTarget {
    /// A directory that this process can write.
    Directory(PathBuf),
    /// A program and its first arguments, run once for every item. It gets three more arguments:
    /// `message`, `segment`, `manifest` or `gap`; the item's path within an archive directory;
    /// its size in bytes; and the item on standard input. Exit status 0 means that the item is
    /// durable. It may be asked to take an item again.
    Command(Vec<String>),
}

/// Settings of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// Where it is.
    pub target: ArchiveTarget,
    /// Bytes of segments and messages that may wait for it; beyond that the oldest are dropped.
    pub pending_bytes_max: u64,
    /// A segment with changes in it is closed after this time, however small it is.
    pub segment_age_max: Duration,
    /// A command that runs longer has failed.
    pub command_time_max: Duration,
}
