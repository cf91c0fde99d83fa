//! SORT and THREAD: in which order messages come, and which belong together (RFC 5256).
//!
//! | module | says |
//! |---|---|
//! | `key` | what of a message is compared, as octets |
//! | `sort` | many keys in order |
//! | `reference` | message ids in header values, the subject: what threads are made from |
//! | `thread` | the three algorithms |
//! | `kept` | what is remembered of a mailbox, and how much |
//!
//! A message's key or clue is read from its index record and cached extras where they tell all, in
//! the same pass that finds out whether it matches. Nothing here does I/O; the work of a mailbox is
//! cut into turns by [`crate::mailbox`].

mod kept;
mod key;
mod reference;
mod sort;
mod thread;

pub(crate) use kept::{Budget, Kept, MessageSet, Node, Order, Place, Question, Shelf, Threads};
pub(crate) use key::{KeyMaker, Room, STRING_BYTES_MAX};
pub(crate) use reference::{Clue, ClueMaker};
pub(crate) use sort::{Batch, Keyed};
pub(crate) use thread::nodes;
