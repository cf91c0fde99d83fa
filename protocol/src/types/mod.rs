//! The nouns that every crate shares: identifiers, flags, sets.
//!
//! Invariants: a `Uid`, a `SeqNum` and a `ModSeq` are distinct types, so one cannot be passed
//! for another; values that the RFCs call nonzero are checked where they enter (the decoders).

mod flag;
mod number;
mod set;

pub use flag::{Flag, Keyword, SystemFlags};
pub use number::{ModSeq, SeqNum, Uid, UidValidity};
pub use set::{PartialRange, SequenceSet, SetRange, SetValue};
