//! Where users are looked for.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Somewhere that has users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthBackend {
    /// Our own file.
    Users,
    /// Courier's userdb.
    Userdb,
    /// Dovecot's passwd-file, shadow, htpasswd.
    Passwd,
    /// Cyrus SASL's sasldb2.
    Sasldb,
    /// Courier's authdaemond.
    Authdaemon,
    /// Cyrus SASL's saslauthd.
    Saslauthd,
}

impl AuthBackend {
    /// As the file has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            AuthBackend::Users => "users",
            AuthBackend::Userdb => "userdb",
            AuthBackend::Passwd => "passwd",
            AuthBackend::Sasldb => "sasldb",
            AuthBackend::Authdaemon => "authdaemon",
            AuthBackend::Saslauthd => "saslauthd",
        }
    }
}

impl fmt::Display for AuthBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Courier's userdb.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Userdb {
    /// The text, a directory of texts, or `userdb.dat` (with `userdbshadow.dat` beside it).
    pub path: PathBuf,
}

impl Default for Userdb {
    fn default() -> Self {
        Userdb { path: "/etc/courier/userdb".into() }
    }
}

/// A file of the form of passwd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Passwd {
    /// The file.
    pub path: PathBuf,
}

/// Cyrus SASL's database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sasldb {
    /// The file.
    pub path: PathBuf,
    /// Users of this realm are known by their bare name, others as `user@realm`.
    pub realm: String,
}

impl Default for Sasldb {
    fn default() -> Self {
        Sasldb { path: "/etc/sasldb2".into(), realm: String::new() }
    }
}

/// Courier's daemon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authdaemon {
    /// Its unix socket.
    pub socket: PathBuf,
}

impl Default for Authdaemon {
    fn default() -> Self {
        Authdaemon { socket: "/run/courier/authdaemon/socket".into() }
    }
}

/// Cyrus SASL's daemon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Saslauthd {
    /// Its unix socket.
    pub socket: PathBuf,
    /// What it is told we are; empty: the protocol's name.
    pub service: String,
}

impl Default for Saslauthd {
    fn default() -> Self {
        Saslauthd { socket: "/run/saslauthd/mux".into(), service: String::new() }
    }
}
