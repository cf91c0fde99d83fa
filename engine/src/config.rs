//! What the store must be told. The server's typed configuration ends here; so do tests'.

use std::path::PathBuf;
use std::sync::Arc;

use crate::archive::ArchiveConfig;
use crate::fulltext::{IndexConfig, IndexMode};
use crate::layout::Layout;
use crate::mount::MountOptions;
use crate::takeover::{OldServer, SharedIndex};

/// One partition: a tree of mailboxes in one layout on one filesystem.
#[derive(Clone)]
pub struct Partition {
    /// As the catalog names it.
    pub name: String,
    /// Its root.
    pub path: PathBuf,
    /// How messages lie in it.
    pub layout: Arc<dyn Layout>,
    /// How its filesystem is used.
    pub mount: MountOptions,
}

/// Settings of a store.
#[derive(Clone)]
pub struct StoreConfig {
    /// Catalog, lock, and the log unless `log_dir` says otherwise.
    pub state_dir: PathBuf,
    /// Where the log's segments are; its own device is possible.
    pub log_dir: PathBuf,
    /// At least one.
    pub partitions: Vec<Partition>,
    /// Where new users' mailboxes go; names one of `partitions`.
    pub partition_default: String,
    /// Host part of Maildir file names.
    pub hostname: String,
    /// Process part of Maildir file names.
    pub process_id: u32,
    /// The log never holds more than this many bytes; a checkpoint begins at half.
    pub log_bytes_max: u64,
    /// Bytes of one segment of the log; an eighth of the log within fixed limits when absent.
    /// No transaction is larger than a segment.
    pub log_segment_bytes: Option<u64>,
    /// A checkpoint at least this often while there is work, seconds.
    pub checkpoint_seconds: u64,
    /// Messages larger than this are refused, bytes. At most 4 GiB - 1.
    pub message_bytes_max: u64,
    /// Octets of one value of metadata, or of an annotation, at most.
    pub metadata_value_bytes_max: usize,
    /// Entries of metadata that a mailbox, or the server, can have: so many shared ones, and so
    /// many of each user.
    pub metadata_entries_max: usize,
    /// Values of annotations on a message at most: so many shared ones, and so many of each user.
    pub annotations_max: usize,
    /// An index is compacted at a checkpoint when at least this many of its records are
    /// tombstones and they are a quarter.
    pub compact_tombstones_min: usize,
    /// Maildirs of at least so many messages stay watched after a listing, as far as there is room,
    /// so that our own changes do not make the next opening list them again.
    pub linger_messages_min: usize,
    /// At least so many messages that another program put into an empty Maildir are told of before
    /// they are read: see [`crate::Mailbox::first_look`].
    pub promise_messages_min: usize,
    /// Mailboxes in memory above which those that nobody uses are let go. More stay only while
    /// sessions or unwritten changes need them.
    pub open_mailboxes_max: usize,
    /// File descriptors of open mailboxes, likewise; each takes four.
    pub descriptors_max: usize,
    /// Bytes of mapped indexes and caches, likewise.
    pub mapped_bytes_max: u64,
    /// Users in memory, likewise.
    pub open_users_max: usize,
    /// Bytes of the orders and threads that are kept of open mailboxes; 0: none is kept.
    pub orders_bytes_max: usize,
    /// Of mailboxes with at least so many messages.
    pub order_messages_min: u32,
    /// Index records and cache blobs that were found whole are not verified again for so many
    /// seconds; 0: at every read.
    pub verified_seconds: u64,
    /// Also sync the directory of a new message's file before it counts as durable, on every
    /// partition; see [`crate::NameSync`] for one.
    pub sync_names: bool,
    /// Let `state_dir` and `log_dir` be on a network filesystem. Its caches and its locks then
    /// stand between the log and the disk.
    pub network_state: bool,
    /// Threads that apply frames to files.
    pub appliers: usize,
    /// Threads for blocking calls.
    pub helpers: usize,
    /// Threads that look through messages for SEARCH.
    pub searchers: usize,
    /// Where closed log segments and their messages go; absent: nowhere.
    pub archive: Option<ArchiveConfig>,
    /// The full-text index.
    pub index: IndexConfig,
    /// Servers whose files in Maildirs are kept up to date, so that they can be started again on the
    /// same tree.
    pub hand_back: Vec<OldServer>,
    /// Names in Courier's shared index.
    pub shared_index: SharedIndex,
}

impl StoreConfig {
    /// Settings with defaults for everything but the places.
    pub fn new(state_dir: impl Into<PathBuf>, partitions: Vec<Partition>) -> StoreConfig {
        let state_dir = state_dir.into();
        let partition_default =
            partitions.first().map(|p| p.name.clone()).unwrap_or_else(|| "default".to_owned());
        StoreConfig {
            log_dir: state_dir.join("log"),
            index: IndexConfig {
                mode: IndexMode::Off,
                dir: state_dir.join("search"),
                messages_min: 256,
            },
            state_dir,
            partitions,
            partition_default,
            hostname: "localhost".to_owned(),
            process_id: std::process::id(),
            log_bytes_max: 256 << 20,
            log_segment_bytes: None,
            checkpoint_seconds: 60,
            message_bytes_max: 64 << 20,
            metadata_value_bytes_max: 64 << 10,
            metadata_entries_max: 1000,
            annotations_max: 100,
            compact_tombstones_min: 1000,
            linger_messages_min: 2048,
            promise_messages_min: 256,
            open_mailboxes_max: 4096,
            descriptors_max: 16 << 10,
            mapped_bytes_max: 8 << 30,
            open_users_max: 4096,
            orders_bytes_max: 64 << 20,
            order_messages_min: 256,
            sync_names: false,
            verified_seconds: 60,
            network_state: false,
            appliers: 2,
            helpers: 8,
            searchers: std::thread::available_parallelism().map_or(1, usize::from),
            archive: None,
            hand_back: Vec::new(),
            shared_index: SharedIndex::default(),
        }
    }
}
