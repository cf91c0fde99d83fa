//! How mailboxes of others are shown, and what is shared of them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How mailboxes of others are shown, and what is shared of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sharing {
    /// The user whose mailboxes are the shared namespace; with virtual domains the one of this name
    /// in each domain. Empty: there is none.
    pub shared_user: String,
    /// What other users' mailboxes lie below, in the alternate form of names.
    pub user_prefix: String,
    /// What shared mailboxes lie below, likewise.
    pub shared_prefix: String,
    /// Who has which rights (RFC 4314) on a new mailbox of the shared user's that is below no other:
    /// names, each with a blank and letters.
    pub default_acl: Vec<String>,
    /// Whether rights may be given to users of other domains.
    pub cross_domains: bool,
    /// Whose `\Seen` users see in mailboxes of others.
    pub seen: SeenState,
    /// Courier's shared index: who is seen below `#shared`, under which name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub courier_index: Option<PathBuf>,
    /// Whether the Maildirs that a user's `shared-maildirs` names are seen below `shared`, as Courier
    /// has it.
    pub courier_maildirs: bool,
}

/// Whose `\Seen` users see in mailboxes of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SeenState {
    /// Their own.
    #[default]
    Private,
    /// The owner's.
    Shared,
}

impl Default for Sharing {
    fn default() -> Sharing {
        Sharing {
            shared_user: String::new(),
            user_prefix: "Other Users".to_owned(),
            shared_prefix: "Shared Folders".to_owned(),
            default_acl: Vec::new(),
            cross_domains: false,
            seen: SeenState::default(),
            courier_index: None,
            courier_maildirs: false,
        }
    }
}
