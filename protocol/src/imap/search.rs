//! The SEARCH key tree: RFC 3501 section 6.4.4, RFC 9051 section 6.4.4, RFC 7162 section 3.1.5,
//! RFC 8474, RFC 8514; named searches, RFC 5466; annotations, RFC 5257.
//!
//! Plain data. Invariants of a decoded tree: strings are UTF-8 whatever CHARSET they came in;
//! no path from the root is longer than [`SEARCH_DEPTH_MAX`], so that recursion over it is safe;
//! it has at most [`SEARCH_KEYS_MAX`] nodes. The spellings UNSEEN, UNKEYWORD, NEW, OLD and so on
//! are decoded into [`SearchKey::Not`] and [`SearchKey::And`] of the keys below.

use super::annotation::AnnotationSide;
use crate::types::{Flag, ModSeq, SequenceSet};

/// Longest path from the root of a key tree to a leaf, in keys.
pub const SEARCH_DEPTH_MAX: usize = 64;

/// Most keys in one tree.
pub const SEARCH_KEYS_MAX: usize = 2000;

/// A calendar day as SEARCH means it: no time, no zone. Ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Year, 0 to 9999.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day, 1 to 31; the decoder has checked it against month and year.
    pub day: u8,
}

/// One condition on a message, or a combination of conditions.
///
/// String matches are substring matches by the session's collation. An empty string
/// matches every message that has the field at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchKey {
    /// Every message.
    All,
    /// Every key inside holds. An empty list holds for every message.
    And(Vec<SearchKey>),
    /// Either key holds.
    Or(Box<SearchKey>, Box<SearchKey>),
    /// The key does not hold.
    Not(Box<SearchKey>),
    /// Exactly one system flag or a keyword is set.
    Flag(Flag),
    /// The session sees the message as `\Recent` (rev1 only).
    Recent,
    /// By sequence number in the session's view.
    SeqSet(SequenceSet),
    /// By UID.
    UidSet(SequenceSet),
    /// `$`: the result saved by an earlier SEARCH (RFC 5182); the session knows it.
    SavedResult,
    /// Internal date, its zone disregarded, is earlier than the day.
    Before(Date),
    /// Internal date is within the day.
    On(Date),
    /// Internal date is within or later than the day.
    Since(Date),
    /// `Date:` header, time and zone disregarded, is earlier than the day.
    SentBefore(Date),
    /// `Date:` header is within the day.
    SentOn(Date),
    /// `Date:` header is within or later than the day.
    SentSince(Date),
    /// The internal date is within so many seconds before now (RFC 5032).
    Younger(u32),
    /// The internal date is not within so many seconds before now (RFC 5032).
    Older(u32),
    /// The date of saving into this mailbox is earlier than the day (RFC 8514).
    SavedBefore(Date),
    /// The date of saving is within the day.
    SavedOn(Date),
    /// The date of saving is within or later than the day.
    SavedSince(Date),
    /// The mailbox keeps dates of saving.
    SaveDateSupported,
    /// EMAILID is this (RFC 8474).
    EmailId(String),
    /// THREADID is this.
    ThreadId(String),
    /// RFC822.SIZE is larger than so many bytes.
    Larger(u64),
    /// RFC822.SIZE is smaller than so many bytes.
    Smaller(u64),
    /// MODSEQ is this or larger. Entry names of RFC 7162 are read and, as it allows, disregarded:
    /// one MODSEQ stands for all flags of a message.
    ModSeq(ModSeq),
    /// Envelope's From contains the string.
    From(String),
    /// Envelope's To contains the string.
    To(String),
    /// Envelope's Cc contains the string.
    Cc(String),
    /// Envelope's Bcc contains the string.
    Bcc(String),
    /// Envelope's Subject contains the string.
    Subject(String),
    /// A header field of this name (no colon) contains the string; empty: has the field.
    Header(String, String),
    /// A text body part contains the string.
    Body(String),
    /// A header or a text body part contains the string.
    Text(String),
    /// An entry of an annotation (RFC 5257) whose name matches the pattern has a value that contains
    /// the string. The session puts the messages in its place.
    Annotation {
        /// May have wildcards.
        entry: String,
        /// Which values.
        side: AnnotationSide,
        /// Empty: the entry has a value.
        text: String,
    },
    /// What the user stored under this name (in lower case) holds. [`substitute`](super::filter::substitute) puts that in its
    /// place before anything is searched.
    Filter(String),
    /// The key holds about so, in a way of the server's choice (RFC 6203).
    Fuzzy(Box<SearchKey>),
}

impl SearchKey {
    /// All of these, which are one at least.
    pub fn all(mut keys: Vec<SearchKey>) -> SearchKey {
        if keys.len() == 1 { keys.remove(0) } else { SearchKey::And(keys) }
    }

    /// The key's negation, boxed as [`SearchKey::Not`].
    pub fn negated(self) -> SearchKey {
        SearchKey::Not(Box::new(self))
    }

    /// Whether the key, or one inside it, names messages by sequence numbers.
    pub fn names_sequence_numbers(&self) -> bool {
        match self {
            SearchKey::SeqSet(_) => true,
            SearchKey::Not(key) | SearchKey::Fuzzy(key) => key.names_sequence_numbers(),
            SearchKey::Or(a, b) => a.names_sequence_numbers() || b.names_sequence_numbers(),
            SearchKey::And(keys) => keys.iter().any(SearchKey::names_sequence_numbers),
            _ => false,
        }
    }

    /// Whether the key, or one inside it, is [`SearchKey::Annotation`].
    pub fn names_annotations(&self) -> bool {
        match self {
            SearchKey::Annotation { .. } => true,
            SearchKey::Not(key) | SearchKey::Fuzzy(key) => key.names_annotations(),
            SearchKey::Or(a, b) => a.names_annotations() || b.names_annotations(),
            SearchKey::And(keys) => keys.iter().any(SearchKey::names_annotations),
            _ => false,
        }
    }

    /// Whether the key, or one inside it, is [`SearchKey::Fuzzy`].
    pub fn is_fuzzy(&self) -> bool {
        match self {
            SearchKey::Fuzzy(_) => true,
            SearchKey::Not(key) => key.is_fuzzy(),
            SearchKey::Or(a, b) => a.is_fuzzy() || b.is_fuzzy(),
            SearchKey::And(keys) => keys.iter().any(SearchKey::is_fuzzy),
            _ => false,
        }
    }
}
