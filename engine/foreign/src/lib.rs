//! What other servers keep beside their messages: one module for each server, one file for each
//! of its formats.
//!
//! Bytes in, values out, and back: nothing here opens a file, knows a store or asks the time, so
//! that every format can be fuzzed and replayed from fixtures. Whatever the bytes are, the answer is a
//! value or an error that names the format, the place and what was expected.

mod acl;
pub mod courier;
pub mod cyrus;
pub mod dovecot;
pub mod lines;
pub mod maildirsize;
