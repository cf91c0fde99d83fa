//! What users of one domain have in place of the server's defaults.

use serde::{Deserialize, Serialize};

use crate::{Config, NewMailbox};

/// A domain with defaults of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// What stands behind the `@` of its users' names.
    pub name: String,
    /// In place of `store.quota_bytes`.
    #[serde(default)]
    pub quota_bytes: Option<u64>,
    /// In place of `store.quota_messages`.
    #[serde(default)]
    pub quota_messages: Option<u64>,
    /// In place of `default_partition`.
    #[serde(default)]
    pub partition: Option<String>,
    /// In place of `store.new_mailbox`.
    #[serde(default)]
    pub new_mailbox: Option<Vec<NewMailbox>>,
}

/// What a user has whose account does not say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserDefaults<'c> {
    /// Bytes that his mailboxes may hold; 0: no limit.
    pub quota_bytes: u64,
    /// Messages that they may hold; 0: no limit.
    pub quota_messages: u64,
    /// Where new mailboxes are made; `None`: on the default partition.
    pub partition: Option<&'c str>,
    /// What he has beside INBOX when he is new.
    pub new_mailboxes: &'c [NewMailbox],
}

impl Config {
    /// The defaults for a user of this canonical name: his domain's, else the server's.
    pub fn user_defaults(&self, user: &str) -> UserDefaults<'_> {
        let domain = user.rsplit_once('@').map(|(_, domain)| domain);
        let own = self.domain.iter().find(|own| Some(own.name.as_str()) == domain);
        let mut defaults = UserDefaults {
            quota_bytes: self.store.quota_bytes,
            quota_messages: self.store.quota_messages,
            partition: None,
            new_mailboxes: &self.store.new_mailbox,
        };
        if let Some(own) = own {
            defaults.quota_bytes = own.quota_bytes.unwrap_or(defaults.quota_bytes);
            defaults.quota_messages = own.quota_messages.unwrap_or(defaults.quota_messages);
            defaults.partition = own.partition.as_deref();
            defaults.new_mailboxes = own.new_mailbox.as_ref().unwrap_or(&self.store.new_mailbox);
        }
        defaults
    }
}
