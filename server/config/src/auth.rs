//! Accounts, mechanisms, tokens.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backends::{AuthBackend, Authdaemon, Passwd, Saslauthd, Sasldb, Userdb};
use crate::learn::Learn;

/// Accounts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Where users are looked for, in this order: the first that knows a name decides.
    pub backends: Vec<AuthBackend>,
    /// File with one user a line. Absent: `users` in `state_dir`.
    pub users_file: Option<PathBuf>,
    /// File with users who are denied services, in a form of Cyrus's `user_deny.db`. Absent:
    /// `user_deny.db` in `state_dir`.
    pub deny_file: Option<PathBuf>,
    /// Seconds that a good login is remembered as a keyed hash, in memory. 0: never.
    pub remember_seconds: u64,
    /// Threads that compute password hashes.
    pub hash_threads: usize,
    /// Logins that may wait for such a thread, in all.
    pub hash_queue_max: usize,
    /// Logins that may wait for such a thread, from one address.
    pub hash_queue_per_address_max: usize,
    /// Seconds that a first wrong password costs; doubles with each further one.
    pub failure_delay_first_seconds: u64,
    /// Most seconds that a wrong password costs.
    pub failure_delay_seconds_max: u64,
    /// Wrong passwords from one address, within the window, before it is refused.
    pub failures_per_address_max: u32,
    /// Seconds in which that many failures are forgotten.
    pub failure_window_seconds: u64,
    /// SASL mechanisms that are offered, where they can work.
    pub mechanisms: Vec<SaslMechanism>,
    /// The realm of DIGEST-MD5; empty: the server's name.
    pub realm: String,
    /// `user*master` logs `master` in as `user`, with this character between them; empty: off.
    pub master_separator: String,
    /// The domain of users who log in with a name without one; empty: none is added.
    pub default_domain: String,
    /// The domain whose users have names without it; empty: there is none.
    pub bare_domain: String,
    /// Users who administer mailboxes: one with a domain those of its users, one without
    /// everybody's.
    pub admins: Vec<String>,
    /// Whose mail ANONYMOUS reads; empty: nobody's.
    pub anonymous_user: String,
    /// Where a client's certificate has the user's name.
    pub certificate_field: CertificateField,
    /// Bearer tokens.
    pub oauth: OAuth,
    /// For the back end `userdb`.
    pub userdb: Userdb,
    /// For the back end `passwd`.
    pub passwd: Passwd,
    /// For the back end `sasldb`.
    pub sasldb: Sasldb,
    /// For the back end `authdaemon`.
    pub authdaemon: Authdaemon,
    /// For the back end `saslauthd`.
    pub saslauthd: Saslauthd,
    /// Passwords that are learned at login.
    pub learn: Learn,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            backends: vec![AuthBackend::Users],
            users_file: None,
            deny_file: None,
            remember_seconds: 300,
            hash_threads: 2,
            hash_queue_max: 1024,
            hash_queue_per_address_max: 64,
            failure_delay_first_seconds: 1,
            failure_delay_seconds_max: 15,
            failures_per_address_max: 50,
            failure_window_seconds: 600,
            mechanisms: vec![
                SaslMechanism::ScramSha256Plus,
                SaslMechanism::ScramSha256,
                SaslMechanism::Plain,
                SaslMechanism::Login,
            ],
            realm: String::new(),
            master_separator: String::new(),
            default_domain: String::new(),
            bare_domain: String::new(),
            admins: Vec::new(),
            anonymous_user: String::new(),
            certificate_field: CertificateField::Email,
            oauth: OAuth::default(),
            userdb: Userdb::default(),
            passwd: Passwd::default(),
            sasldb: Sasldb::default(),
            authdaemon: Authdaemon::default(),
            saslauthd: Saslauthd::default(),
            learn: Learn::default(),
        }
    }
}

impl Auth {
    /// Offers no SCRAM where nobody asked for it and a back end has no keys for it, or
    /// passwords are learned: clients take it
    /// before all else, and fail.
    pub(crate) fn fit_mechanisms(&mut self, are_set: bool) {
        let others = self.backends.iter().any(|&b| b != AuthBackend::Users);
        if !are_set && (others || self.learn.is_on()) {
            self.mechanisms.retain(|m| !m.as_str().starts_with("SCRAM-"));
        }
    }

    /// What is relative to the configuration's own directory.
    pub(crate) fn paths_mut(&mut self) -> [(&'static str, &mut PathBuf); 5] {
        [
            ("auth.userdb.path", &mut self.userdb.path),
            ("auth.passwd.path", &mut self.passwd.path),
            ("auth.sasldb.path", &mut self.sasldb.path),
            ("auth.authdaemon.socket", &mut self.authdaemon.socket),
            ("auth.saslauthd.socket", &mut self.saslauthd.socket),
        ]
    }
}

/// A SASL mechanism by its registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum SaslMechanism {
    /// See `docs/accounts.md`.
    #[serde(rename = "SCRAM-SHA-1")]
    ScramSha1,
    /// See `docs/accounts.md`.
    #[serde(rename = "SCRAM-SHA-1-PLUS")]
    ScramSha1Plus,
    /// See `docs/accounts.md`.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// See `docs/accounts.md`.
    #[serde(rename = "SCRAM-SHA-256-PLUS")]
    ScramSha256Plus,
    /// See `docs/accounts.md`.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// See `docs/accounts.md`.
    #[serde(rename = "SCRAM-SHA-512-PLUS")]
    ScramSha512Plus,
    /// See `docs/accounts.md`.
    #[serde(rename = "PLAIN")]
    Plain,
    /// See `docs/accounts.md`.
    #[serde(rename = "LOGIN")]
    Login,
    /// See `docs/accounts.md`.
    #[serde(rename = "EXTERNAL")]
    External,
    /// See `docs/accounts.md`.
    #[serde(rename = "OAUTHBEARER")]
    OAuthBearer,
    /// See `docs/accounts.md`.
    #[serde(rename = "XOAUTH2")]
    XOAuth2,
    /// See `docs/accounts.md`.
    #[serde(rename = "CRAM-MD5")]
    CramMd5,
    /// See `docs/accounts.md`.
    #[serde(rename = "CRAM-SHA1")]
    CramSha1,
    /// See `docs/accounts.md`.
    #[serde(rename = "CRAM-SHA256")]
    CramSha256,
    /// See `docs/accounts.md`.
    #[serde(rename = "DIGEST-MD5")]
    DigestMd5,
    /// See `docs/accounts.md`.
    #[serde(rename = "ANONYMOUS")]
    Anonymous,
}

impl SaslMechanism {
    /// All that can be set.
    pub const ALL: [SaslMechanism; 16] = [
        SaslMechanism::ScramSha1,
        SaslMechanism::ScramSha1Plus,
        SaslMechanism::ScramSha256,
        SaslMechanism::ScramSha256Plus,
        SaslMechanism::ScramSha512,
        SaslMechanism::ScramSha512Plus,
        SaslMechanism::Plain,
        SaslMechanism::Login,
        SaslMechanism::External,
        SaslMechanism::OAuthBearer,
        SaslMechanism::XOAuth2,
        SaslMechanism::CramMd5,
        SaslMechanism::CramSha1,
        SaslMechanism::CramSha256,
        SaslMechanism::DigestMd5,
        SaslMechanism::Anonymous,
    ];

    /// The registered name.
    pub const fn as_str(self) -> &'static str {
        match self {
            SaslMechanism::ScramSha1 => "SCRAM-SHA-1",
            SaslMechanism::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            SaslMechanism::ScramSha512Plus => "SCRAM-SHA-512-PLUS",
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::Login => "LOGIN",
            SaslMechanism::External => "EXTERNAL",
            SaslMechanism::OAuthBearer => "OAUTHBEARER",
            SaslMechanism::XOAuth2 => "XOAUTH2",
            SaslMechanism::CramMd5 => "CRAM-MD5",
            SaslMechanism::CramSha1 => "CRAM-SHA1",
            SaslMechanism::CramSha256 => "CRAM-SHA256",
            SaslMechanism::DigestMd5 => "DIGEST-MD5",
            SaslMechanism::Anonymous => "ANONYMOUS",
        }
    }
}

/// Where a client's certificate has the user's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateField {
    /// Mail addresses: alternative names of that kind, then `emailAddress` of the subject.
    #[default]
    Email,
    /// The common name of the subject.
    CommonName,
    /// The `UID` of the subject.
    Uid,
    /// DNS names: alternative names of that kind.
    Dns,
}

/// Bearer tokens: who says whose they are, and what they must say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OAuth {
    /// A JWKS, or public keys in PEM: tokens are JWTs signed with one of them.
    pub keys: Option<PathBuf>,
    /// Instead: the authorisation server's introspection endpoint on this machine.
    pub introspection: String,
    /// How we name ourselves there; empty: not at all.
    pub client_id: String,
    /// A file with the password for that.
    pub client_secret_file: Option<PathBuf>,
    /// Who must have issued the token; empty: anybody.
    pub issuer: String,
    /// For whom it must be; empty: for anybody.
    pub audience: String,
    /// The claim that names the user.
    pub user_claim: String,
    /// The scope that it must have; empty: none.
    pub scope: String,
    /// What refused clients are told about where to get a token: an https URL; empty: nothing.
    pub openid_configuration: String,
}

impl Default for OAuth {
    fn default() -> Self {
        OAuth {
            keys: None,
            introspection: String::new(),
            client_id: String::new(),
            client_secret_file: None,
            issuer: String::new(),
            audience: String::new(),
            user_claim: "email".to_owned(),
            scope: String::new(),
            openid_configuration: String::new(),
        }
    }
}

impl OAuth {
    /// Whether tokens can be checked.
    pub fn is_on(&self) -> bool {
        self.keys.is_some() || !self.introspection.is_empty()
    }
}
