//! Courier-IMAP and Courier's MTA: what lies in a Maildir beside the messages.
//!
//! | module | file |
//! |---|---|
//! | [`uiddb`] | `courierimapuiddb` of a folder |
//! | [`keywords`] | `courierimapkeywords/` of a folder |
//! | [`subscribed`] | `courierimapsubscribed` |
//! | [`acl`] | `courierimapacl` of a folder, `courierimaphieracl/NAME` |
//! | [`sizelist`] | `courierpop3dsizelist` |
//! | [`shared`] | `shared-maildirs`, and the index of virtual shared folders |
//! | [`crate::maildirsize`] | `maildirsize` |
//!
//! File names are bytes; a message's is its base name, the part before the last `:`.

pub mod acl;
pub mod keywords;
pub mod shared;
pub mod sizelist;
pub mod subscribed;
pub mod uiddb;
