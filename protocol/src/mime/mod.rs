//! RFC 5322 headers and MIME: one streaming pass over a message, and tools for header values.
//!
//! | module | says |
//! |---|---|
//! | [`parser`] | push parser: message bytes in, [`Structure`] out |
//! | [`structure`] | the flat part table with byte ranges |
//! | [`wire`] | ENVELOPE, BODY, BODYSTRUCTURE and strings as IMAP writes them |
//! | [`downgrade`] | ENVELOPE for clients that take no UTF-8 |
//! | [`part_structure`] | one part's own BODYSTRUCTURE within the whole |
//! | [`section`] | `1.2.MIME` to a byte range |
//! | [`header`] | field names, iteration, unfolding, HEADER.FIELDS |
//! | [`media`] | Content-Type and Content-Disposition values |
//! | `continued` | parameters in pieces (RFC 2231) |
//! | [`html`] | the text of an HTML document, for previews |
//! | [`address`], [`date`], [`subject`] | RFC 5322 address lists and dates, RFC 5256 base subjects |
//! | [`reencode`] | binary parts as base64 |
//! | [`encoded_word`], [`charset`], [`transfer`] | RFC 2047 words, charsets, base64 and quoted-printable |
//!
//! Invariants: nothing here fails on bad mail. What can't be understood is passed on as it is, or
//! becomes an opaque leaf; memory is bounded by [`Limits`], never by the message.

pub mod address;
pub mod charset;
mod continued;
pub mod date;
pub mod downgrade;
pub mod encoded_word;
pub mod header;
pub mod html;
mod lexer;
pub mod media;
pub mod parser;
pub mod part_structure;
pub mod reencode;
pub mod section;
pub mod structure;
pub mod subject;
pub mod transfer;
pub mod wire;

pub use header::Field;
pub use parser::{Limits, Parser};
pub use section::{PartEntry, PartTable, SectionText};
pub use structure::{Encoding, Kind, Part, Position, Span, Structure};
