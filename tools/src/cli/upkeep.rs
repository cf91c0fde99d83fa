//! A store's upkeep: scrub, archive, backup, restore, full-text indexes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What a scrub reads, and how fast.
#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// Only this user's mailboxes
    #[arg(long)]
    pub user: Option<String>,
    /// Only mailboxes of this name
    #[arg(long)]
    pub mailbox: Option<String>,
    /// Read at most so many MiB of messages a second
    #[arg(long, value_name = "N")]
    pub rate_mb: Option<u64>,
    /// Go on where the last scrub of the same choice was stopped
    #[arg(long)]
    pub resume: bool,
    /// Mend index, facts, names and cache where the other files tell what they were
    #[arg(long)]
    pub repair: bool,
}

/// Commands on the archive.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Show what was taken, what waits and what is missing
    Status,
    /// Take what waits now
    Take,
    /// Check an archive or backup directory by itself: digests, CRCs, gaps, every message
    Verify {
        /// Which; without it the configured one
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Only see that messages are there, do not read them
        #[arg(long)]
        quick: bool,
    },
    /// Remove what no restore to TIME or later needs
    Prune {
        /// RFC 3339, such as 2026-11-24T04:30:00Z
        #[arg(long, value_name = "TIME")]
        before: String,
        /// Which; without it the configured one
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
}

/// Where a backup goes.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Directory; made when missing
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Write no faster than this
    #[arg(long, value_name = "N")]
    pub bytes_per_second: Option<u64>,
}

/// What is brought back, and where to.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Directory with a base backup
    #[arg(long, value_name = "DIR", required = true)]
    pub from: Vec<PathBuf>,
    /// Archive directory with the log behind it; without it the configured one, if it is there
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// The moment, RFC 3339 with zone; without it the latest
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
    /// Only this user
    #[arg(long)]
    pub user: Option<String>,
    /// Only this folder
    #[arg(long, requires = "user")]
    pub mailbox: Option<String>,
    /// Only the message that had this UID
    #[arg(long, requires = "mailbox", conflicts_with = "message_id")]
    pub uid: Option<u32>,
    /// Only messages with this Message-ID
    #[arg(long, requires = "mailbox", value_name = "ID")]
    pub message_id: Option<String>,
    /// Make a store below this empty directory, with a configuration that names it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["into_namespace", "in_place"])]
    pub into_state: Option<PathBuf>,
    /// Put what comes back below this folder; "Restored" and the moment without it
    #[arg(long, value_name = "NAME", requires = "user", conflicts_with = "in_place")]
    pub into_namespace: Option<String>,
    /// Put back what is missing where it was; nothing that is there changes
    #[arg(long, requires = "user")]
    pub in_place: bool,
    /// Only list what would be put back
    #[arg(long, requires = "user", conflicts_with = "into_state")]
    pub dry_run: bool,
    /// Go on where changes are missing in the archive
    #[arg(long)]
    pub across_gaps: bool,
}

/// Commands on full-text indexes.
///
/// An index is a copy that makes searches fast; removing it loses nothing.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Show how far indexes are and what they take
    Status(IndexArgs),
    /// Index what is not indexed yet, now
    Update(IndexArgs),
    /// Make indexes anew, now
    Rebuild(IndexArgs),
    /// Remove indexes. Where search.index wants one, it is made again
    Drop(IndexArgs),
}

/// Which indexes.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// Only this user's
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Only this mailbox of the user
    #[arg(long, value_name = "MAILBOX", requires = "user")]
    pub mailbox: Option<String>,
}
