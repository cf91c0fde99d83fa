//! What becomes of expunged and of old messages: Courier's `IMAP_TRASHFOLDERNAME`,
//! `IMAP_MOVE_EXPUNGE_TO_TRASH` and `IMAP_EMPTYTRASH`.

use serde::{Deserialize, Serialize};

/// What becomes of expunged and of old messages.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trash {
    /// Name of the mailbox that expunged messages are moved to.
    pub mailbox: String,
    /// Whether they are moved there.
    pub move_expunged: bool,
    /// Mailboxes that old messages are removed from.
    pub empty: Vec<Expiry>,
}

impl Default for Trash {
    fn default() -> Trash {
        Trash { mailbox: "Trash".to_owned(), move_expunged: false, empty: Vec::new() }
    }
}

/// How long messages stay in every user's mailbox of a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Expiry {
    /// The mailbox.
    pub mailbox: String,
    /// Days since a message was saved there after which it is removed. At least 1.
    pub days: u32,
}
