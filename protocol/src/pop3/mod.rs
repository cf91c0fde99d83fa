//! POP3 commands and replies: RFC 1939, 2449 (CAPA, response codes), 2595 (STLS), 5034 (AUTH), 6856 (UTF8).
//!
//! Line framing and dot transparency are in [`crate::line`].

mod command;
mod reply;
mod surrogate;

pub use command::{Command, CommandError, MessageNumber};
pub use reply::{Reply, RespCode, TopLimit};
pub use surrogate::surrogate;

/// Longest command line accepted, line end not counted. RFC 2449 asks for 253; SASL responses
/// (RFC 5034 section 4) need more, so a server bounds them itself.
pub const LINE_BYTES_MAX: usize = 12_288;
