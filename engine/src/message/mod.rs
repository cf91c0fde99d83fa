//! Messages between wire, file and cache: one pass at delivery, one converter on the way out.
//!
//! | type | does |
//! |---|---|
//! | [`Ingest`] | wire bytes in; bytes to store, facts and [`Extras`] out |
//! | [`Rescan`] | the same facts from a stored file |
//! | [`Crlf`] | stored bytes to served bytes, whole or in part |
//! | [`Extras`] | reader of the cached parts of a message |
//!
//! `preview` makes the line that PREVIEW tells, `thread` the id that THREADID tells.
//!
//! Three forms of a message. *Wire*: what a client or Postfix sent. *Served*: the wire form with
//! each bare LF made CRLF; sizes, content ids and IMAP's offsets count its octets. *Stored*: the
//! served form as the layout keeps it, see [`LineEnds`].
//!
//! Invariants: stored and served determine each other; `Ingest` and `Rescan` of the same message
//! agree in every field; neither depends on how the bytes were cut into pieces.

mod crlf;
pub mod extras;
mod ingest;
mod preview;
mod thread;

pub use crlf::Crlf;
pub use extras::{Extras, MessageIds, Section};
pub use ingest::{Ingest, Ingested, Rescan};

/// How a layout keeps line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnds {
    /// LF, as in a Maildir. CRLF is stored as LF, except after a CR: then it is kept, so that a
    /// stored LF means CRLF exactly when no CR stands before it.
    Lf,
    /// CRLF, as in a Cyrus spool: stored as served.
    Crlf,
}
