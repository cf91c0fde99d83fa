//! Dovecot 2.x: what lies in a Maildir beside the messages; its own formats of messages, sdbox and
//! mdbox, to be read, and the first to be written.
//!
//! | module | file |
//! |---|---|
//! | [`uidlist`] | `dovecot-uidlist` of a folder |
//! | [`keywords`] | `dovecot-keywords` of a folder: what the letters a to z in file names mean |
//! | [`uidvalidity`] | `dovecot-uidvalidity` |
//! | [`subscriptions`] | `subscriptions` |
//! | [`acl`] | `dovecot-acl` of a folder |
//! | [`dbox`] | `u.N` of sdbox, `m.N` of mdbox: messages |
//! | [`index`] | `dovecot.index`, `dovecot.index.log`: their flags and keywords |
//! | [`index_log`] | `dovecot.index.log` of an sdbox, written anew |
//! | [`modseq`] | `dovecot.index.log` of a folder: how high its MODSEQs can be |
//! | [`crate::maildirsize`] | `maildirsize` |
//!
//! Of a Maildir, `dovecot.index*`, `dovecot.list.index*` and `dovecot.mailbox.log` are Dovecot's caches of these
//! and of file names; it brings them up to date by itself.

pub mod acl;
pub mod dbox;
pub mod index;
pub mod index_log;
pub mod keywords;
pub mod modseq;
pub mod subscriptions;
pub mod uidlist;
pub mod uidvalidity;
