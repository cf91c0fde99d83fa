//! Cursus as a client of servers elsewhere: mail comes over from them, and passwords are tried there.
//!
//! | module | says |
//! |---|---|
//! | [`connect`] | where a server is, TLS or not, time-outs: a [`connect::Stream`] |
//! | [`imap`] | an IMAP connection: commands, responses, messages that stream |
//! | [`pop3`] | a POP3 connection: lists, headers |
//! | [`login`] | is this somebody's password there, by IMAP or POP3 |
//! | [`error`] | what went wrong, and whether trying again may help |
//!
//! All of it blocks: a migration has a thread for each user under way, the server one for each
//! question. Invariants: every read and write has a time-out; what a server sends is kept in memory
//! only up to [`imap::INLINE_BYTES_MAX`] for a response; a password is never in an error or a log.

pub mod connect;
pub mod error;
pub mod imap;
pub mod login;
pub mod pop3;
mod tls;

pub use connect::{Server, Stream, Tls};
pub use error::Error;
