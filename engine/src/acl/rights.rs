//! Rights, their letters, and the flags that they let change.

use std::fmt;

use protocol::types::SystemFlags;

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rights(u16);

impl Rights {
    /// `l`: the mailbox is seen in LIST and can be subscribed.
    pub const LOOKUP: Rights = Rights(1);
    /// `r`: SELECT, STATUS, FETCH, SEARCH, COPY from it.
    pub const READ: Rights = Rights(1 << 1);
    /// `s`: `\Seen`.
    pub const SEEN: Rights = Rights(1 << 2);
    /// `w`: flags but `\Seen` and `\Deleted`.
    pub const WRITE: Rights = Rights(1 << 3);
    /// `i`: APPEND, COPY and MOVE into it.
    pub const INSERT: Rights = Rights(1 << 4);
    /// `p`: mail to its own address.
    pub const POST: Rights = Rights(1 << 5);
    /// `k`: mailboxes below it.
    pub const CREATE: Rights = Rights(1 << 6);
    /// `x`: DELETE, RENAME.
    pub const DELETE_MAILBOX: Rights = Rights(1 << 7);
    /// `t`: `\Deleted`.
    pub const DELETE_MESSAGES: Rights = Rights(1 << 8);
    /// `e`: EXPUNGE.
    pub const EXPUNGE: Rights = Rights(1 << 9);
    /// `a`: the list itself.
    pub const ADMINISTER: Rights = Rights(1 << 10);
    /// `n`: shared annotations (RFC 5257).
    pub const ANNOTATE: Rights = Rights(1 << 11);
    /// None.
    pub const NONE: Rights = Rights(0);
    /// Every one.
    pub const ALL: Rights = Rights((1 << 12) - 1);

    /// The letters, in the order of the bits and of the wire.
    const LETTERS: [char; 12] = ['l', 'r', 's', 'w', 'i', 'p', 'k', 'x', 't', 'e', 'a', 'n'];
    /// What the owner has in any case.
    pub const OF_OWNER: Rights = Rights(Self::LOOKUP.0 | Self::ADMINISTER.0);
    /// What administrators have in any case.
    pub const OF_ADMINISTRATORS: Rights =
        Rights(Self::OF_OWNER.0 | Self::CREATE.0 | Self::DELETE_MAILBOX.0);

    /// The right of a letter. `c` and `d`, of RFC 2086, stand for `kx` and `te`.
    pub fn of_letter(letter: char) -> Option<Rights> {
        match letter {
            'c' => Some(Rights::CREATE.union(Rights::DELETE_MAILBOX)),
            'd' => Some(Rights::DELETE_MESSAGES.union(Rights::EXPUNGE)),
            _ => {
                let at = Self::LETTERS.iter().position(|l| *l == letter)?;
                Some(Rights(1 << at))
            }
        }
    }

    /// Reads letters; `None` where one is no right.
    pub fn parse(letters: &str) -> Option<Rights> {
        letters.chars().try_fold(Rights::NONE, |all, c| Some(all.union(Rights::of_letter(c)?)))
    }

    /// Those of either.
    #[must_use]
    pub const fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn both(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }

    /// Whether all of `other` are there.
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is there.
    pub const fn intersects(self, other: Rights) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The letters with those of RFC 2086 behind them, as clients of either are to be told (RFC
    /// 4314 section 2.1.1): `c` where there is `k` or `x`, `d` where there is `t` or `e`.
    pub fn wire(self) -> String {
        let mut letters = self.to_string();
        let old = letters.find(['a', 'n']).unwrap_or(letters.len());
        if self.intersects(Rights::DELETE_MESSAGES.union(Rights::EXPUNGE)) {
            letters.insert(old, 'd');
        }
        if self.intersects(Rights::CREATE.union(Rights::DELETE_MAILBOX)) {
            letters.insert(old, 'c');
        }
        letters
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |(at, _): &(usize, &char)| self.0 & (1 << at) != 0;
        let letters = Self::LETTERS.iter().enumerate().filter(has);
        f.write_str(&letters.map(|(_, letter)| *letter).collect::<String>())
    }
}

/// Flags that somebody may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagScope {
    /// Of the system flags.
    pub system: SystemFlags,
    /// Keywords.
    pub keywords: bool,
}

impl FlagScope {
    /// Every flag.
    pub const ALL: FlagScope = FlagScope { system: SystemFlags::ALL, keywords: true };

    /// What rights allow: RFC 4314 section 4.
    pub fn of(rights: Rights) -> FlagScope {
        let keywords = rights.contains(Rights::WRITE);
        let (seen, deleted) = (SystemFlags::SEEN, SystemFlags::DELETED);
        let mut system = SystemFlags::empty();
        if keywords {
            system = SystemFlags::ALL.difference(seen).difference(deleted);
        }
        if rights.contains(Rights::SEEN) {
            system = system.union(seen);
        }
        if rights.contains(Rights::DELETE_MESSAGES) {
            system = system.union(deleted);
        }
        FlagScope { system, keywords }
    }

    /// Whether no flag may be changed.
    pub fn is_empty(self) -> bool {
        self.system.is_empty() && !self.keywords
    }

    /// Those of some system flags that are in here.
    pub fn system_of(self, flags: SystemFlags) -> SystemFlags {
        flags.difference(SystemFlags::ALL.difference(self.system))
    }
}
