//! Maildirs of Courier and Dovecot, served where they lie: what these servers keep beside the
//! messages is taken over, and given back.
//!
//! **When it is looked at.** A mailbox's first use since the store started compares the old
//! server's files with what is remembered of them (`cursus.foreign`, [`memory`]): unchanged files
//! cost a `stat` each. Nothing is remembered of a tree that is met for the first time: then all is
//! taken. Whoever wants the mailbox waits meanwhile.
//!
//! **What wins** when both sides changed:
//!
//! | what | rule |
//! |---|---|
//! | UIDVALIDITY | the old server's, where we see the mailbox for the first time; ours later |
//! | UID of a message that we know | ours: no UID changes under a UIDVALIDITY |
//! | UID of a message that only they know | theirs, where it is not below our UIDNEXT |
//! | the same, below our UIDNEXT; or a message that we know under another UID | both kept UIDs apart from each other under one UIDVALIDITY: it rises above theirs and ours, our UIDs stay, their messages get new ones |
//! | UIDVALIDITY differs later | ours, with our UIDs: nothing that either server told is contradicted |
//! | UIDNEXT | the larger one |
//! | keywords, subscriptions, entries of access control lists | three-way, one by one, against what was last read or written; where both changed the same one, theirs |
//! | a quota's definition | theirs, where the limits here are those that the file had, or none; else ours |
//! | a file that cannot be read for now | the mailbox is unavailable until it can |
//! | a damaged file | named in the log, nothing taken; a mailbox with messages of ours gets a new UIDVALIDITY, since messages may have got UIDs that nobody knows |
//!
//! Messages, flags and keywords come into the index by frames of the log, as other programs'
//! changes do ([`crate::mailbox`]). The memory says before the first of them that they are coming
//! and is written anew after the last, so that a crash between finds the same files, takes what is
//! missing and finds the rest equal.
//!
//! **Giving back** ([`give`]): what changed is written in the old server's form a few seconds after
//! its checkpoint and at a stop, each file under a temporary name, renamed while the old server's
//! own lock is held.

mod account;
mod adopt;
mod copies;
mod dotlock;
mod files;
mod give;
mod lists;
mod memory;
mod recount;
mod shared_names;
mod tally;
mod uidls;
mod words;

pub(crate) use adopt::{Told, has_keywords};
pub use copies::Arrivals;
pub(crate) use copies::{Copy, is_copy};
pub(crate) use give::{Due, Mark};
pub(crate) use memory::remember_promise;
pub use shared_names::{SharedAccount, SharedIndex, SharedNames, common_user};
pub(crate) use tally::{Tallied, Tally, counted_size};
pub(crate) use words::{LetterNames, letter_bits, letters_of};

/// A server whose files in a Maildir we read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OldServer {
    /// Courier-IMAP.
    Courier,
    /// Dovecot with `mail_location = maildir:`.
    Dovecot,
}

impl OldServer {
    /// Both.
    pub const ALL: [OldServer; 2] = [OldServer::Courier, OldServer::Dovecot];

    /// The file in a mailbox's directory that has its UIDs.
    pub(crate) fn uids_name(self) -> &'static str {
        match self {
            OldServer::Courier => "courierimapuiddb",
            OldServer::Dovecot => "dovecot-uidlist",
        }
    }

    /// The file in a user's Maildir that has the subscriptions.
    pub(crate) fn subscriptions_name(self) -> &'static str {
        match self {
            OldServer::Courier => "courierimapsubscribed",
            OldServer::Dovecot => "subscriptions",
        }
    }
}
