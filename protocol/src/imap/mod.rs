//! IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051) as bytes and values.
//!
//! | module | says |
//! |---|---|
//! | [`command`] | commands as values |
//! | [`decode`] | the command grammar |
//! | [`encode`] | responses as bytes |
//! | [`filter`] | named searches |
//! | [`framing`] | where commands begin and end; literals under limits |
//! | [`mutf7`] | the mailbox names of rev1 |
//! | [`pattern`] | names with wildcards |
//! | [`response`] | responses as values, for a client |
//! | [`search`] | the SEARCH key tree |
//! | [`sort`] | what SORT and THREAD are told and tell |
//! | [`url`] | IMAP URLs |

pub mod annotation;
pub mod command;
pub mod decode;
pub mod encode;
pub mod filter;
pub mod framing;
pub mod mutf7;
pub mod pattern;
pub mod response;
pub mod search;
pub mod sort;
pub mod url;

pub use search::{Date, SearchKey};
