//! What SORT and THREAD are told and tell: RFC 5256, RFC 5957, RFC 6203 section 6.

/// By what SORT compares two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// An annotation's value (RFC 5257): the one at this place among those of the command.
    Annotation(u8),
    /// Internal date and time.
    Arrival,
    /// Mailbox of the first Cc address.
    Cc,
    /// Date and time of the Date field, in UTC; else the internal date.
    Date,
    /// Display name of the first From address, else the address (RFC 5957).
    DisplayFrom,
    /// Display name of the first To address, else the address (RFC 5957).
    DisplayTo,
    /// Mailbox of the first From address.
    From,
    /// MODSEQ: what changed last is last.
    ModSeq,
    /// Relevancy (RFC 6203): the best match is first.
    Relevancy,
    /// RFC822.SIZE
    Size,
    /// Base subject.
    Subject,
    /// Mailbox of the first To address.
    To,
    /// UID, which is mailbox order.
    Uid,
}

impl SortKey {
    /// Every key that is a word alone, with it.
    pub const ALL: [(&'static str, SortKey); 12] = [
        ("ARRIVAL", SortKey::Arrival),
        ("CC", SortKey::Cc),
        ("DATE", SortKey::Date),
        ("DISPLAYFROM", SortKey::DisplayFrom),
        ("DISPLAYTO", SortKey::DisplayTo),
        ("FROM", SortKey::From),
        ("MODSEQ", SortKey::ModSeq),
        ("RELEVANCY", SortKey::Relevancy),
        ("SIZE", SortKey::Size),
        ("SUBJECT", SortKey::Subject),
        ("TO", SortKey::To),
        ("UID", SortKey::Uid),
    ];
}

/// One key of a SORT program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortCriterion {
    /// What is compared.
    pub key: SortKey,
    /// REVERSE: the greatest first. Messages that are equal stay in mailbox order.
    pub reverse: bool,
}

/// Most criteria of one SORT.
pub const SORT_CRITERIA_MAX: usize = 16;

/// How THREAD puts messages together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadAlgorithm {
    /// By base subject.
    OrderedSubject,
    /// By Message-ID, References and In-Reply-To, then by base subject.
    References,
    /// As References without the subjects; the thread with the newest message is last
    /// (draft-ietf-morg-inthread).
    Refs,
}

impl ThreadAlgorithm {
    /// Every algorithm with its word.
    pub const ALL: [(&'static str, ThreadAlgorithm); 3] = [
        ("ORDEREDSUBJECT", ThreadAlgorithm::OrderedSubject),
        ("REFERENCES", ThreadAlgorithm::References),
        ("REFS", ThreadAlgorithm::Refs),
    ];
}

/// A member of a thread. Threads are told as lists of these, each parent before its children, each
/// child followed by its own descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadNode<T> {
    /// Which message; `None` for a parent that is not among the messages asked for.
    pub message: Option<T>,
    /// How many children follow.
    pub children: u32,
}
