//! The commit log, what the store keeps open, and the archive of both.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The commit log and what the store keeps open.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Where the log's segments are. Absent: `log` in `state_dir`.
    pub log_dir: Option<PathBuf>,
    /// Most bytes that the log may hold; a checkpoint begins at half.
    pub log_bytes_max: u64,
    /// Longest time between checkpoints while there is work.
    pub checkpoint_seconds: u64,
    /// Threads for calls that block.
    pub helper_threads: usize,
    /// Bytes that a user's mailboxes may hold, unless the users file says otherwise; 0: no limit.
    pub quota_bytes: u64,
    /// Messages that a user's mailboxes may hold, likewise.
    pub quota_messages: u64,
    /// Let `state_dir` and the log be on a network filesystem.
    pub network_state: bool,
    /// Servers whose files in Maildirs are kept up to date, so that they can be started again.
    pub hand_back: Vec<OldServer>,
    /// What new users have beside INBOX.
    pub new_mailbox: Vec<NewMailbox>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            log_dir: None,
            log_bytes_max: 256 << 20,
            checkpoint_seconds: 60,
            helper_threads: 8,
            quota_bytes: 0,
            quota_messages: 0,
            network_state: false,
            hand_back: Vec::new(),
            new_mailbox: Vec::new(),
        }
    }
}

/// A mailbox that is made, beside INBOX, when a user's mail is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewMailbox {
    /// Its name, with `/` between levels.
    pub name: String,
    /// What it is for (RFC 6154), such as `\\Sent`; empty: nothing special.
    #[serde(default)]
    pub special_use: String,
    /// Whether the user is subscribed to it.
    #[serde(default)]
    pub subscribe: bool,
}

/// A server whose files in Maildirs can be kept up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OldServer {
    /// Courier-IMAP.
    Courier,
    /// Dovecot.
    Dovecot,
}

/// Where closed log segments and their messages are taken. Without directory and command: nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// An archive directory. It must exist.
    pub directory: Option<PathBuf>,
    /// A program and its first arguments, run for every item instead.
    pub command: Vec<String>,
    /// Bytes that may wait for the archive; beyond that the oldest are dropped, with a named gap.
    pub pending_bytes_max: u64,
    /// A log segment with changes in it goes to the archive after this time, full or not.
    pub segment_seconds_max: u64,
    /// A command that runs longer has failed.
    pub command_seconds_max: u64,
}

impl Default for Archive {
    fn default() -> Self {
        Archive {
            directory: None,
            command: Vec::new(),
            pending_bytes_max: 1 << 30,
            segment_seconds_max: 300,
            command_seconds_max: 300,
        }
    }
}

impl Archive {
    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        self.directory.is_some() || !self.command.is_empty()
    }
}
