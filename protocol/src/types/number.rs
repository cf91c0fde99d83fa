//! Numbers with a meaning: RFC 3501 section 2.3.1 and RFC 7162 section 3.1.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Permanent number of a message, strictly rising within one UIDVALIDITY. Never 0 on the wire.
    Uid(u32)
}
number! {
    /// 1-based position of a message in a session's view.
    SeqNum(u32)
}
number! {
    /// Change stamp of a message or mailbox, 63 bits (RFC 7162). 0 means "none".
    ModSeq(u64)
}
number! {
    /// Changes only when the mailbox's old UIDs lose their meaning.
    UidValidity(u32)
}

impl Uid {
    /// The largest UID that can exist.
    pub const MAX: Uid = Uid(u32::MAX);
}

impl SeqNum {
    /// The position counted from 0.
    pub fn index(self) -> usize {
        (self.0 as usize).saturating_sub(1)
    }
}
