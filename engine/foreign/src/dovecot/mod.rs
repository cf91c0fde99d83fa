//! Dovecot 2.x: what lies in a Maildir beside the messages.
//!
//! | module | file |
//! |---|---|
//! | [`uidlist`] | `dovecot-uidlist` of a folder |
//! | [`keywords`] | `dovecot-keywords` of a folder: what the letters a to z in file names mean |
//! | [`uidvalidity`] | `dovecot-uidvalidity` |
//! | [`subscriptions`] | `subscriptions` |
//! | [`acl`] | `dovecot-acl` of a folder |
//! | [`crate::maildirsize`] | `maildirsize` |
//!
//! `dovecot.index*`, `dovecot.list.index*` and `dovecot.mailbox.log` are Dovecot's caches of these
//! and of file names; it brings them up to date by itself.

pub mod acl;
pub mod keywords;
pub mod subscriptions;
pub mod uidlist;
pub mod uidvalidity;
