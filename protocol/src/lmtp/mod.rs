//! LMTP commands and replies: RFC 2033 over RFC 5321, with PIPELINING (2920), 8BITMIME (6152),
//! SIZE (1870), SMTPUTF8 (6531), ENHANCEDSTATUSCODES (2034, 3463) and CHUNKING (3030).
//!
//! Line framing and the decoder for DATA are in [`crate::line`].

mod address;
mod command;
mod reply;

pub use address::{AddressError, DetailSplit, Recipient, ReturnPath, split_detail};
pub use command::{Body, Command, CommandError, MailParams, RcptParams};
pub use reply::{Enhanced, Reply};

/// Longest command line accepted, line end not counted. RFC 5321 section 4.5.3.1.4 asks for 512,
/// the extensions for up to 1,200 more, and RFC 4954 section 4 for 12,288 in AUTH and its answers.
pub const LINE_BYTES_MAX: usize = 12_288;
