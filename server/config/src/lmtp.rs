//! Delivery.

use serde::{Deserialize, Serialize};

/// Delivery.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lmtp {
    /// Domains whose local part alone may name a user. Empty: every domain.
    pub domains: Vec<String>,
    /// What `user+detail@domain` does with the detail.
    pub detail: Detail,
    /// The character between user and detail.
    pub detail_separator: char,
    /// The name before the detail in addresses of shared mailboxes; empty: they have none.
    pub post_user: String,
    /// Whose INBOX gets what is for nobody; empty: it is refused.
    pub catch_all: String,
    /// What a sender is told about a mailbox that is full.
    pub over_quota: OverQuota,
    /// Recipients of one message.
    pub recipients_max: usize,
    /// Users that may deliver, once they have logged in. Empty: everybody who can connect.
    pub users: Vec<String>,
}

impl Default for Lmtp {
    fn default() -> Self {
        Lmtp {
            domains: Vec::new(),
            detail: Detail::Mailbox,
            detail_separator: '+',
            post_user: String::new(),
            catch_all: String::new(),
            over_quota: OverQuota::default(),
            recipients_max: 1000,
            users: Vec::new(),
        }
    }
}

/// What `user+detail@domain` does with the detail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// Delivers into the user's mailbox of that name if there is one, else into INBOX.
    #[default]
    Mailbox,
    /// The same, where the mailbox's access control list lets everybody post (`p`).
    Post,
    /// Delivers into INBOX.
    Ignore,
}

/// What a sender is told about a mailbox that is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OverQuota {
    /// That it cannot be delivered: the sender is told.
    #[default]
    Permanent,
    /// To try again later.
    Temporary,
}
