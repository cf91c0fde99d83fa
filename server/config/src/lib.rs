//! The typed configuration that `cursusd` and `cursus` share: TOML in, [`Config`] out.
//!
//! Lives in a crate of its own because `tools` may not import `server`, and both must agree on
//! where a store is.
//!
//! Settings come from one or several sources, each a [`Layer`]: a file of our own, those of another
//! server (crate `inherit`), the environment. [`join`] makes them one, and keeps where each came
//! from.
//!
//! Invariants: a [`Config`] that was read is whole and consistent (relative paths were resolved
//! against the file's directory, every listener's settings go together), so nothing downstream
//! checks it again. A setting that is unknown, misplaced or without effect is an error that names
//! it. Every key is described in `docs/configuration.md`; a test compares the two.

mod announce;
mod auth;
mod backends;
mod check;
mod domain;
mod embedded;
mod error;
mod imap;
mod layer;
mod learn;
mod limits;
mod listener;
mod lmtp;
mod log;
mod origin;
mod outbox;
mod partition;
mod pop3;
mod search;
mod server;
mod sharing;
mod store;
mod telemetry;
mod tls;
mod trash;

pub use announce::Announce;
pub use auth::{Auth, CertificateField, OAuth, SaslMechanism};
pub use backends::{AuthBackend, Authdaemon, Passwd, Saslauthd, Sasldb, Userdb};
pub use domain::{Domain, UserDefaults};
pub use error::{ConfigError, ConfigErrors};
pub use imap::{Imap, ImapId, StoreSync, Utf8};
pub use layer::{Layer, Loaded, Shown, join};
pub use learn::{Learn, LearnName, LearnProtocol, LearnTls};
pub use limits::Limits;
pub use listener::{Listener, ListenerAddress, NameForm, PlainLogin, Protocol, Separator, TlsMode};
pub use lmtp::{Detail, Lmtp, OverQuota};
pub use log::{Log, LogFormat, LogLevel};
pub use origin::{Origin, Origins};
pub use outbox::Outbox;
pub use partition::{
    FolderNames, LayoutKind, Locks, Notify, Partition, PartitionIo, Spread, SyncNames,
};
pub use pop3::Pop3;
pub use search::{Search, SearchIndex};
pub use server::{Admin, IoChoice, Server};
pub use sharing::{SeenState, Sharing};
pub use store::{Archive, NewMailbox, OldServer, Store};
pub use telemetry::Telemetry;
pub use tls::{CertificatePair, CipherSuite, ClientCertificates, Tls, TlsVersion};
pub use trash::{Expiry, Trash};

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Everything that can be set, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Catalog, log, lock, users file and admin socket live here.
    pub state_dir: PathBuf,
    /// Name of the partition that new users' mailboxes are made on.
    #[serde(default = "default_partition")]
    pub default_partition: String,
    /// Where message files are, one entry a partition. At least one.
    #[serde(default)]
    pub partition: Vec<Partition>,
    /// The commit log and what the store keeps open.
    #[serde(default)]
    pub store: Store,
    /// Domains whose users have other defaults.
    #[serde(default)]
    pub domain: Vec<Domain>,
    /// Threads, I/O backend and host name.
    #[serde(default)]
    pub server: Server,
    /// Where clients connect. At least one.
    #[serde(default)]
    pub listener: Vec<Listener>,
    /// Certificate and key.
    #[serde(default)]
    pub tls: Tls,
    /// Accounts.
    #[serde(default)]
    pub auth: Auth,
    /// Bounds on what one client may use.
    #[serde(default)]
    pub limits: Limits,
    /// What IMAP sessions do.
    #[serde(default)]
    pub imap: Imap,
    /// What POP3 sessions do.
    #[serde(default)]
    pub pop3: Pop3,
    /// What becomes of expunged and of old messages.
    #[serde(default)]
    pub trash: Trash,
    /// A mailbox whose messages are sent.
    #[serde(default)]
    pub outbox: Outbox,
    /// What the operator has to say to everybody.
    #[serde(default)]
    pub announce: Announce,
    /// Transcripts of users' sessions.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// How mailboxes of others are shown.
    #[serde(default)]
    pub sharing: Sharing,
    /// How messages are searched.
    #[serde(default)]
    pub search: Search,
    /// Delivery.
    #[serde(default)]
    pub lmtp: Lmtp,
    /// Where closed log segments and their messages are taken.
    #[serde(default)]
    pub archive: Archive,
    /// The operator's socket.
    #[serde(default)]
    pub admin: Admin,
    /// What is logged, and how.
    #[serde(default)]
    pub log: Log,
}

pub(crate) fn default_partition() -> String {
    "default".to_owned()
}

impl Config {
    /// Reads `file`. Relative paths in it are taken from the file's directory.
    ///
    /// # Errors
    /// All that is wrong, each with its key, what was found and what was expected.
    pub fn load(file: &Path) -> Result<Config, ConfigErrors> {
        let text = std::fs::read_to_string(file).map_err(|source| {
            ConfigErrors::one(ConfigError::Read { file: file.to_owned(), source })
        })?;
        Config::parse(&text, file)
    }

    /// As [`Config::load`], with the text of `file` at hand.
    pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigErrors> {
        Ok(join(&[Layer::parse(text, file)?])?.config)
    }

    /// A configuration in which only the state directory is set; it has neither partitions nor
    /// listeners yet.
    fn bare(state_dir: &Path) -> Config {
        Config {
            state_dir: state_dir.to_owned(),
            default_partition: default_partition(),
            partition: Vec::new(),
            store: Store::default(),
            domain: Vec::new(),
            server: Server::default(),
            listener: Vec::new(),
            tls: Tls::default(),
            auth: Auth::default(),
            limits: Limits::default(),
            imap: Imap::default(),
            pop3: Pop3::default(),
            trash: Trash::default(),
            outbox: Outbox::default(),
            announce: Announce::default(),
            telemetry: Telemetry::default(),
            sharing: Sharing::default(),
            search: Search::default(),
            lmtp: Lmtp::default(),
            archive: Archive::default(),
            admin: Admin::default(),
            log: Log::default(),
        }
    }

    /// The users file: as set, or `users` in `state_dir`.
    pub fn users_file(&self) -> PathBuf {
        self.auth.users_file.clone().unwrap_or_else(|| self.state_dir.join("users"))
    }

    /// Where users are who are denied services.
    pub fn deny_file(&self) -> PathBuf {
        self.auth.deny_file.clone().unwrap_or_else(|| self.state_dir.join("user_deny.db"))
    }

    /// The log's directory: as set, or `log` in `state_dir`.
    pub fn log_dir(&self) -> PathBuf {
        self.store.log_dir.clone().unwrap_or_else(|| self.state_dir.join("log"))
    }

    /// The directory of full-text indexes: as set, or `search` in `state_dir`.
    pub fn index_dir(&self) -> PathBuf {
        self.search.index_dir.clone().unwrap_or_else(|| self.state_dir.join("search"))
    }

    /// The admin socket: as set, or `admin.sock` in `state_dir`.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin.socket.clone().unwrap_or_else(|| self.state_dir.join("admin.sock"))
    }

    /// Takes relative paths from the directory of the file that has them.
    fn resolve_paths(&mut self, origins: &Origins) {
        let absolute = |key: &str, path: &mut PathBuf| *path = origins.base(key).join(&*path);
        let perhaps = |key: &str, path: &mut Option<PathBuf>| {
            if let Some(path) = path {
                absolute(key, path);
            }
        };
        absolute("state_dir", &mut self.state_dir);
        for (i, partition) in self.partition.iter_mut().enumerate() {
            absolute(&format!("partition[{i}].path"), &mut partition.path);
        }
        perhaps("store.log_dir", &mut self.store.log_dir);
        perhaps("search.index_dir", &mut self.search.index_dir);
        perhaps("tls.certificate", &mut self.tls.certificate);
        perhaps("tls.key", &mut self.tls.key);
        for protocol in Protocol::ALL {
            if let Some(pair) = self.tls.own_pair_mut(protocol) {
                absolute(&format!("tls.{protocol}.certificate"), &mut pair.certificate);
                absolute(&format!("tls.{protocol}.key"), &mut pair.key);
            }
        }
        perhaps("tls.client_ca", &mut self.tls.client_ca);
        perhaps("tls.client_crl", &mut self.tls.client_crl);
        perhaps("auth.users_file", &mut self.auth.users_file);
        perhaps("auth.deny_file", &mut self.auth.deny_file);
        perhaps("auth.learn.ca", &mut self.auth.learn.ca);
        for (key, path) in self.auth.paths_mut() {
            if !path.as_os_str().is_empty() {
                absolute(key, path);
            }
        }
        perhaps("auth.oauth.keys", &mut self.auth.oauth.keys);
        perhaps("auth.oauth.client_secret_file", &mut self.auth.oauth.client_secret_file);
        for (key, path) in
            [("announce.dir", &mut self.announce.dir), ("telemetry.dir", &mut self.telemetry.dir)]
        {
            if !path.as_os_str().is_empty() {
                absolute(key, path);
            }
        }
        perhaps("archive.directory", &mut self.archive.directory);
        perhaps("admin.socket", &mut self.admin.socket);
        for (i, listener) in self.listener.iter_mut().enumerate() {
            if let ListenerAddress::Unix(path) = &mut listener.address {
                absolute(&format!("listener[{i}].address"), path);
            }
        }
    }
}

#[cfg(test)]
mod tests;
