//! Where clients connect, and what they may do there.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// What is spoken.
    pub protocol: Protocol,
    /// `host:port`, `unix:/path` or `systemd:NAME`.
    pub address: ListenerAddress,
    /// What this service is called in the deny list. Absent: as [`Listener::name`] says.
    #[serde(default)]
    pub name: Option<String>,
    /// When TLS begins.
    #[serde(default)]
    pub tls: TlsMode,
    /// Who may log in without TLS.
    #[serde(default)]
    pub plain_login: PlainLogin,
    /// How mailboxes are called here. IMAP only.
    #[serde(default)]
    pub names: NameForm,
    /// What is between the levels of a mailbox's name here. Absent: as `names` has it.
    #[serde(default)]
    pub separator: Option<Separator>,
    /// Connections at one time here; 0: as many as `limits` allow.
    #[serde(default)]
    pub connections_max: usize,
    /// Connections at one time here from one address; 0: as many as `limits` allow.
    #[serde(default)]
    pub connections_per_address_max: usize,
    /// Whether who connects here may deliver without a login, even where `lmtp.users` names users.
    /// LMTP only.
    #[serde(default)]
    pub trusted: bool,
}

impl Listener {
    /// A listener with all else as by default.
    pub fn new(protocol: Protocol, address: ListenerAddress) -> Listener {
        Listener {
            protocol,
            address,
            name: None,
            tls: TlsMode::default(),
            plain_login: PlainLogin::default(),
            names: NameForm::default(),
            separator: None,
            connections_max: 0,
            connections_per_address_max: 0,
            trusted: false,
        }
    }

    /// What this service is called in the deny list: if nothing else is set, the protocol, and with an
    /// `s` where TLS begins at once.
    pub fn name(&self) -> Cow<'_, str> {
        match (&self.name, self.tls) {
            (Some(name), _) => name.into(),
            (None, TlsMode::Implicit) => format!("{}s", self.protocol).into(),
            (None, _) => self.protocol.as_str().into(),
        }
    }

    /// What is between the levels of a mailbox's name.
    pub fn separator(&self) -> char {
        match (self.separator, self.names) {
            (Some(Separator::Slash), _) => '/',
            (Some(Separator::Dot), _) | (None, NameForm::Courier) => '.',
            (None, NameForm::Alternate | NameForm::Internal) => '/',
        }
    }
}

/// How mailboxes are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NameForm {
    /// The user's own beside INBOX, others' below `Other Users`: Cyrus's alternate namespace.
    #[default]
    Alternate,
    /// The user's own below INBOX, others' below `user`: Cyrus's internal namespace.
    Internal,
    /// The user's own below INBOX, others' below `#shared`.
    Courier,
}

/// What is between the levels of a mailbox's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Separator {
    /// `/`
    #[serde(rename = "/")]
    Slash,
    /// `.`
    #[serde(rename = ".")]
    Dot,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// IMAP4rev1 and IMAP4rev2.
    Imap,
    /// POP3.
    Pop3,
    /// LMTP.
    Lmtp,
    /// Logins for an SMTP server: Dovecot's authentication client protocol.
    Auth,
}

impl Protocol {
    /// Every protocol, in the order of [`Protocol::index`].
    pub const ALL: [Protocol; 4] = [Protocol::Imap, Protocol::Pop3, Protocol::Lmtp, Protocol::Auth];

    /// The name as written in the file and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Imap => "imap",
            Protocol::Pop3 => "pop3",
            Protocol::Lmtp => "lmtp",
            Protocol::Auth => "auth",
        }
    }

    /// Place in an array with one entry a protocol.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When TLS begins on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Never.
    None,
    /// When the client asks (STARTTLS, STLS).
    #[default]
    Starttls,
    /// With the first byte.
    Implicit,
}

/// Who may log in without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlainLogin {
    /// Nobody.
    #[default]
    Never,
    /// Clients on the same machine: loopback addresses and unix sockets.
    Loopback,
    /// Everybody.
    Always,
}

/// An address to listen on. Kept as written until start, because names are resolved there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "String", into = "String")]
pub enum ListenerAddress {
    /// `host:port`; checked by [`crate::Config::load`] to have both. The host `*` is every address
    /// of the machine, IPv4 and, where the system has it, IPv6.
    Tcp(String),
    /// `unix:` and a path.
    Unix(PathBuf),
    /// `systemd:` and the name of a passed socket (`FileDescriptorName=`).
    Systemd(String),
}

impl From<String> for ListenerAddress {
    fn from(text: String) -> Self {
        if let Some(path) = text.strip_prefix("unix:") {
            ListenerAddress::Unix(PathBuf::from(path))
        } else if let Some(name) = text.strip_prefix("systemd:") {
            ListenerAddress::Systemd(name.to_owned())
        } else {
            ListenerAddress::Tcp(text)
        }
    }
}

impl From<ListenerAddress> for String {
    fn from(address: ListenerAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for ListenerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenerAddress::Tcp(address) => f.write_str(address),
            ListenerAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            ListenerAddress::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}
