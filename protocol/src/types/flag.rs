//! Flags and keywords: RFC 3501 section 2.3.2, RFC 9051 section 2.3.2.

use std::fmt;

/// The system flags that a message can carry, as a set. `\Recent` is session state and not here.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SystemFlags(pub u8);

impl SystemFlags {
    /// `\Seen`
    pub const SEEN: SystemFlags = SystemFlags(1);
    /// `\Answered`
    pub const ANSWERED: SystemFlags = SystemFlags(2);
    /// `\Flagged`
    pub const FLAGGED: SystemFlags = SystemFlags(4);
    /// `\Deleted`
    pub const DELETED: SystemFlags = SystemFlags(8);
    /// `\Draft`
    pub const DRAFT: SystemFlags = SystemFlags(16);
    /// Every flag above.
    pub const ALL: SystemFlags = SystemFlags(31);
    /// Wire name of each single flag.
    pub const NAMES: [(SystemFlags, &'static str); 5] = [
        (Self::ANSWERED, "\\Answered"),
        (Self::FLAGGED, "\\Flagged"),
        (Self::DELETED, "\\Deleted"),
        (Self::SEEN, "\\Seen"),
        (Self::DRAFT, "\\Draft"),
    ];

    /// No flag.
    pub const fn empty() -> Self {
        SystemFlags(0)
    }
    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// Whether no flag is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The flags of both.
    pub const fn union(self, other: Self) -> Self {
        SystemFlags(self.0 | other.0)
    }
    /// The flags of `self` that are not in `other`.
    pub const fn difference(self, other: Self) -> Self {
        SystemFlags(self.0 & !other.0)
    }
}

impl fmt::Debug for SystemFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, n)| n);
        f.debug_set().entries(names).finish()
    }
}

/// Keywords that are registered (RFC 5788 and its registry; RFC 3503, 5550, 8457, 9051), as they
/// are registered.
const REGISTERED: [&str; 8] = [
    "$Forwarded",
    "$Important",
    "$Junk",
    "$MDNSent",
    "$NotJunk",
    "$Phishing",
    "$SubmitPending",
    "$Submitted",
];

/// A user-defined flag: an atom of at least one character. Compared without case, kept as given;
/// registered ones as they are registered.
#[derive(Clone, Debug)]
pub struct Keyword(String);

impl Keyword {
    /// Longest keyword accepted, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Takes an IMAP atom (RFC 3501 `flag-keyword`).
    ///
    /// Returns `None` for an empty or overlong name, or one with a character no atom can hold.
    pub fn new(name: &str) -> Option<Keyword> {
        let atom = |b: u8| b > b' ' && b < 0x7f && !b"(){%*\"\\]".contains(&b);
        let fits = !name.is_empty() && name.len() <= Self::BYTES_MAX && name.bytes().all(atom);
        let registered = || REGISTERED.iter().find(|one| one.eq_ignore_ascii_case(name));
        let registered = if name.starts_with('$') { registered() } else { None };
        fits.then(|| Keyword(registered.map_or(name, |one| one).to_owned()))
    }

    /// The name: as it is registered, else as first given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Keyword {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Keyword {}

impl fmt::Display for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One flag as a client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Exactly one system flag.
    System(SystemFlags),
    /// A user-defined flag.
    Keyword(Keyword),
}
