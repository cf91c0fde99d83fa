//! How messages are searched.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How messages are searched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    /// Threads that look through messages; 0 means one for each core that the process may use.
    pub threads: usize,
    /// Which mailboxes have a full-text index.
    pub index: SearchIndex,
    /// Where the indexes are. Absent: `search` in `state_dir`.
    pub index_dir: Option<PathBuf>,
    /// Messages without an index in a mailbox before one is made for them.
    pub index_messages_min: usize,
    /// Whether SEARCH=FUZZY (RFC 6203) is offered.
    pub fuzzy: bool,
}

impl Default for Search {
    fn default() -> Self {
        Search {
            threads: 0,
            index: SearchIndex::Off,
            index_dir: None,
            index_messages_min: 256,
            fuzzy: false,
        }
    }
}

/// Which mailboxes have a full-text index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchIndex {
    /// None.
    #[default]
    Off,
    /// Those in which somebody searches.
    Searched,
    /// All that are large enough.
    All,
}
