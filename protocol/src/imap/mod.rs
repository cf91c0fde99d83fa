//! IMAP4rev1 (RFC 3501) and IMAP4rev2 (RFC 9051) as bytes and values.
//!
//! | module | says |
//! |---|---|
//! | [`search`] | the SEARCH key tree |

pub mod search;

pub use search::{Date, SearchKey};
