//! Bytes in, values out; values in, bytes out. No I/O, no async, no clock.
//!
//! | module | says |
//! |---|---|
//! | [`types`] | identifiers, flags, sets: what every crate shares |
//! | [`imap`] | IMAP4rev1 and IMAP4rev2: framing, decoding, encoding |
//! | [`mime`] | RFC 5322 headers and MIME structure; ENVELOPE and BODYSTRUCTURE in wire form |
//! | [`line`] | what POP3 and LMTP share: command lines, dot transparency |
//! | [`pop3`] | POP3 commands and replies |
//! | [`auth`] | Dovecot's authentication client protocol, which SMTP servers speak |
//! | [`lmtp`] | LMTP commands and replies |
//! | [`smap`] | SMAP1, Courier's own protocol |

pub mod auth;
pub mod imap;
pub mod line;
pub mod lmtp;
pub mod mime;
pub mod pop3;
pub mod smap;
pub mod types;
