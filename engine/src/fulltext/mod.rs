//! The full-text index: which messages may contain a string.
//!
//! A disposable copy of what SEARCH looks at, kept for each mailbox in a directory of its own
//! (`search/` in the state directory unless set otherwise), by mailbox id, so that renaming costs
//! nothing. It answers substring searches by looking through the list of distinct terms, which is
//! small beside the mail, and reading the postings of those that fit; where terms alone can't
//! tell, the message itself is asked, so answers are the same with and without an index.
//!
//! | module | says |
//! |---|---|
//! | `tokens` | text into terms, search strings into patterns of terms |
//! | `segment` | the file: bytes, checksums |
//! | `build` | segments from messages, and from segments |
//! | `query` | which messages have terms that fit |
//! | `shelf` | the segments of a mailbox: what counts, what is covered |
//! | `keeper` | the thread that brings indexes up to date |
//!
//! Invariants: nothing here is ever needed to serve mail; a failure costs the index, never an
//! answer; no delivery, store or expunge waits for it.

mod build;
mod keeper;
mod query;
mod segment;
mod shelf;
mod tokens;

pub use keeper::IndexStatus;
pub(crate) use keeper::{Keeper, MailboxIndex};
pub(crate) use query::Bits;
pub(crate) use tokens::{Clues, Cutter, words};

/// Whether mailboxes are indexed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexMode {
    /// No: what is there is neither used nor removed.
    #[default]
    Off,
    /// Those in which somebody searched for text since the index was there.
    Searched,
    /// All that are large enough, soon after they change.
    All,
}

/// Settings of the full-text index.
#[derive(Clone, Debug)]
pub struct IndexConfig {
    /// What is indexed.
    pub mode: IndexMode,
    /// Where.
    pub dir: std::path::PathBuf,
    /// Messages that are not covered before they are worth a file; smaller mailboxes are searched
    /// without an index. At least 1.
    pub messages_min: usize,
}
