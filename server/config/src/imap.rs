//! What IMAP sessions do.

use serde::{Deserialize, Serialize};

/// What IMAP sessions do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Imap {
    /// When a plain STORE is answered.
    pub store_sync: StoreSync,
    /// Most messages that one command works on (RFC 9738); 0: any number.
    pub message_limit: u32,
    /// Most messages that one command saves; 0: any number. Without effect beside `message_limit`.
    pub save_limit: u32,
    /// How to reach the administrator, a URI: the server's metadata `/shared/admin`. Empty: unset.
    pub metadata_admin: String,
    /// Whether clients may change over to SMAP1, Courier's own protocol.
    pub smap: bool,
    /// How hard COMPRESS=DEFLATE (RFC 4978) tries, 1 to 9; 0: it is not offered.
    pub compress_level: u8,
    /// Whether UNAUTHENTICATE (RFC 8437) is offered.
    pub unauthenticate: bool,
    /// What clients have to do with UTF-8 (RFC 6855).
    pub utf8: Utf8,
    /// Whether APPEND refuses 8-bit header fields of clients that have not enabled UTF-8.
    pub refuse_8bit_headers: bool,
    /// Users that are submission servers: they may follow `submit+` URLs (RFC 4467).
    pub submission_users: Vec<String>,
    /// Words that CAPABILITY does not tell, though what they stand for is there.
    pub suppress_capabilities: Vec<String>,
    /// Special uses (RFC 6154) whose mailboxes users can neither delete nor move below another one.
    pub protected_special_uses: Vec<String>,
    /// Percent of a limit on storage or messages from which on SELECT warns; 0: never.
    pub quota_warn_percent: u8,
    /// What ID (RFC 2971) says of the server.
    pub id: ImapId,
}

impl Default for Imap {
    fn default() -> Imap {
        Imap {
            store_sync: StoreSync::default(),
            message_limit: 0,
            save_limit: 0,
            metadata_admin: String::new(),
            smap: false,
            compress_level: 3,
            unauthenticate: true,
            utf8: Utf8::default(),
            refuse_8bit_headers: false,
            submission_users: Vec::new(),
            suppress_capabilities: Vec::new(),
            protected_special_uses: Vec::new(),
            quota_warn_percent: 0,
            id: ImapId::default(),
        }
    }
}

/// What clients have to do with UTF-8 (RFC 6855).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Utf8 {
    /// They may enable it.
    #[default]
    Accept,
    /// They have to.
    Only,
}

/// What ID (RFC 2971 section 3.3) says of the server. Empty values are not told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImapId {
    /// The program.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Who made it.
    pub vendor: String,
    /// Where to ask for help.
    pub support_url: String,
    /// Postal address of who answers.
    pub address: String,
    /// What it runs on.
    pub os: String,
}

impl Default for ImapId {
    fn default() -> ImapId {
        ImapId {
            name: "Cursus".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            vendor: String::new(),
            support_url: String::new(),
            address: String::new(),
            os: String::new(),
        }
    }
}

impl ImapId {
    /// Longest value, in bytes (RFC 2971 section 3.3).
    pub const VALUE_BYTES_MAX: usize = 1024;

    /// Field names as on the wire with their values.
    pub fn pairs(&self) -> [(&'static str, &str); 6] {
        [
            ("name", &self.name),
            ("version", &self.version),
            ("vendor", &self.vendor),
            ("support-url", &self.support_url),
            ("address", &self.address),
            ("os", &self.os),
        ]
    }
}

/// When a STORE of a session without CONDSTORE is answered. Conditional ones, and all of sessions
/// that see MODSEQs, are durable first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreSync {
    /// At once; the change is durable within 50 ms, and before anybody else sees it.
    #[default]
    AfterAnswer,
    /// When the change is durable.
    BeforeAnswer,
}
