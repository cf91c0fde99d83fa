//! SEARCH: does one message match a key tree?
//!
//! A [`SearchKey`] is compiled once per command into a [`Program`]: sets resolved, keywords made
//! bit masks, strings folded, branches ordered so that the cheapest decide first. A message is
//! asked for its index record, then its cached extras, then its file, and for each only when the
//! ones before left the answer open.
//!
//! Strings compare as substrings without case, by Unicode case mapping, after transfer encodings,
//! charsets and RFC 2047 words are decoded. BODY looks into every text part; TEXT also into the
//! headers of the message and of all its parts. Parts that are not text are skipped.
//!
//! Invariants: nothing here does I/O except through [`Source`]; memory is bounded by constants
//! whatever the message's size; no allocation per message once [`Scratch`] has grown.

mod body;
mod caseless;
pub(crate) mod crew;
mod fold;
mod fuzzy;
mod needle;
mod program;
mod text;

pub use program::{Context, EMAIL_ID_KIND, Program, THREAD_ID_KIND};
pub use protocol::imap::search::SearchKey;

use protocol::types::{ModSeq, SeqNum, SystemFlags, Uid};

use crate::message::LineEnds;

pub use body::Scratch;
pub(crate) use body::{Fields, Text, each_text, with_fields};
pub(crate) use fuzzy::{Word, WordHit, relevancy};
pub(crate) use program::{Leaf, Place, Verdict};
pub(crate) use text::folded;

/// What a program may have to look at to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Index records.
    Index,
    /// Cached extras too (files only of messages whose extras are missing or cut).
    Cache,
    /// Files too.
    Bytes,
}

/// What the index and the session's view tell of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its UID.
    pub uid: Uid,
    /// Its place in the session's view.
    pub seq: SeqNum,
    /// System flags.
    pub flags: SystemFlags,
    /// Bit n: the view's nth keyword.
    pub keywords: u64,
    /// Whether the session sees it as `\Recent`.
    pub recent: bool,
    /// Of its last change.
    pub modseq: ModSeq,
    /// Seconds since 1970.
    pub internal_date: i64,
    /// Of the Date field, else the internal date; seconds since 1970, clamped to 32 bits.
    pub sent_date: u32,
    /// Served octets.
    pub size: u32,
}

/// One message as a search sees it. Methods are called only when needed, the cheap ones first.
pub trait Source {
    /// Why extras or bytes can't be had.
    type Error;

    /// What the index says.
    fn record(&self) -> Record;

    /// The cached extras ([`crate::message::Extras`]); `None` when there are none. They are found
    /// from the file then, as they are when damaged.
    fn extras(&mut self) -> Result<Option<&[u8]>, Self::Error>;

    /// When it was saved into its mailbox, seconds since 1970; `None` when that can't be read.
    fn save_date(&mut self) -> Result<Option<i64>, Self::Error>;

    /// Form of the message's file.
    fn line_ends(&self) -> LineEnds;

    /// Reads stored bytes at an offset into `buffer`; returns how many, 0 only at the end.
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize, Self::Error>;
}
