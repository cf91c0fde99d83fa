//! The typed configuration that `cursusd` and `cursus` share: TOML in, [`Config`] out.
//!
//! Lives in a crate of its own because `tools` may not import `server`, and both must agree on
//! where a store is.
//!
//! Invariants: a [`Config`] that [`Config::load`] returned is whole and consistent (relative paths
//! were resolved against the file's directory, every listener's settings go together), so nothing downstream checks it again. A setting that is unknown, misplaced or
//! without effect is an error that names it. Every key is described in `docs/configuration.md`;
//! a test compares the two.

mod auth;
mod check;
mod error;
mod imap;
mod limits;
mod listener;
mod outbox;
mod pop3;
mod sharing;
mod trash;

pub use auth::{Auth, CertificateField, OAuth, SaslMechanism};
pub use error::{ConfigError, ConfigErrors};
pub use imap::{Imap, ImapId, StoreSync, Utf8};
pub use limits::Limits;
pub use listener::{Listener, ListenerAddress, NameForm, PlainLogin, Protocol, Separator, TlsMode};
pub use outbox::Outbox;
pub use pop3::Pop3;
pub use sharing::{SeenState, Sharing};
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

/// One directory tree of message files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Unique name, used by `default_partition`.
    pub name: String,
    /// Root of the tree.
    pub path: PathBuf,
    /// How messages are laid out below `path`.
    #[serde(default)]
    pub layout: LayoutKind,
    /// Maildir: a user's main directory below `path`; see `docs/takeover.md`.
    #[serde(default = "default_user_path")]
    pub user_path: String,
    /// Maildir: how folder names are written in directory names.
    #[serde(default)]
    pub folder_names: FolderNames,
    /// Whether index and cache are mapped.
    #[serde(default)]
    pub io: PartitionIo,
    /// What keeps a second host away from a user's mail.
    #[serde(default)]
    pub locks: Locks,
    /// How changes by other programs are heard of.
    #[serde(default)]
    pub notify: Notify,
    /// Whether the directory of a new file is synced as well as the file.
    #[serde(default)]
    pub sync_names: SyncNames,
}

fn default_user_path() -> String {
    "{user}".to_owned()
}

/// How folder names of Maildirs are written in directory names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FolderNames {
    /// UTF-8, as Courier does since 5.0.
    #[default]
    Utf8,
    /// Modified UTF-7, as Dovecot and older Courier do.
    Utf7,
}

/// A server whose files in Maildirs can be kept up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OldServer {
    /// Courier-IMAP.
    Courier,
    /// Dovecot.
    Dovecot,
}

/// How index and cache of a partition are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionIo {
    /// Mapped, but private on network filesystems.
    #[default]
    Auto,
    /// Mapped; no start on a network filesystem.
    Mapped,
    /// Into buffers of our own.
    Private,
}

/// What keeps a second host away from a user's mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Locks {
    /// `ofd` on network filesystems, else `none`.
    #[default]
    Auto,
    /// A lock of the kernel.
    Ofd,
    /// A lock file with a lease.
    Dot,
    /// Nothing.
    None,
}

/// How changes by other programs are heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// inotify, but polling on network filesystems.
    #[default]
    Auto,
    /// inotify.
    Inotify,
    /// Directory times, each second.
    Poll,
}

/// Whether the directory of a new file is synced as well as the file: `"auto"`, `true`, `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(into = "SyncNamesForm")]
pub enum SyncNames {
    /// On filesystems that are not known to make a name durable with its file.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum SyncNamesForm {
    Switch(bool),
    Word(String),
}

impl From<SyncNames> for SyncNamesForm {
    fn from(value: SyncNames) -> SyncNamesForm {
        match value {
            SyncNames::Auto => SyncNamesForm::Word("auto".into()),
            SyncNames::Always => SyncNamesForm::Switch(true),
            SyncNames::Never => SyncNamesForm::Switch(false),
        }
    }
}

impl<'de> Deserialize<'de> for SyncNames {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<SyncNames, D::Error> {
        match SyncNamesForm::deserialize(from) {
            Ok(SyncNamesForm::Switch(true)) => Ok(SyncNames::Always),
            Ok(SyncNamesForm::Switch(false)) => Ok(SyncNames::Never),
            Ok(SyncNamesForm::Word(word)) if word == "auto" => Ok(SyncNames::Auto),
            _ => Err(serde::de::Error::custom("expected \"auto\", true or false")),
        }
    }
}

/// The message layouts that a partition can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutKind {
    /// Maildir++, open to other programs.
    #[default]
    Maildir,
    /// Hashed partition tree with immutable `N.` files.
    Cyrus,
}

/// The commit log and what the store keeps open.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Where the log's segments are. Absent: `log` in `state_dir`.
    pub log_dir: Option<PathBuf>,
    /// Most bytes that the log may hold; a checkpoint begins at half.
    pub log_bytes_max: u64,
    /// Longest time between checkpoints while there is work.
    pub checkpoint_seconds: u64,
    /// Threads for calls that block.
    pub helper_threads: usize,
    /// Bytes that a user's mailboxes may hold, unless the users file says otherwise; 0: no limit.
    pub quota_bytes: u64,
    /// Messages that a user's mailboxes may hold, likewise.
    pub quota_messages: u64,
    /// Let `state_dir` and the log be on a network filesystem.
    pub network_state: bool,
    /// Servers whose files in Maildirs are kept up to date, so that they can be started again.
    pub hand_back: Vec<OldServer>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            log_dir: None,
            log_bytes_max: 256 << 20,
            checkpoint_seconds: 60,
            helper_threads: 8,
            quota_bytes: 0,
            quota_messages: 0,
            network_state: false,
            hand_back: Vec::new(),
        }
    }
}

/// Threads, I/O backend and host name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Threads that serve sessions; 0 means one for each core that the process may use.
    pub cores: usize,
    /// How files are read and written.
    pub io: IoChoice,
    /// Name in greetings and trace headers; empty means the machine's own.
    pub hostname: String,
    /// Seconds that a stop waits for sessions to say goodbye before it cuts them.
    pub drain_seconds_max: u64,
}

impl Default for Server {
    fn default() -> Self {
        Server { cores: 0, io: IoChoice::Auto, hostname: String::new(), drain_seconds_max: 20 }
    }
}

/// How files are read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IoChoice {
    /// io_uring, or blocking calls in helper threads where the kernel refuses it.
    #[default]
    Auto,
    /// io_uring, or no start.
    Uring,
    /// Blocking calls in helper threads.
    Blocking,
}

/// Certificate and key; both or neither.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file with the certificate and its chain. Absent: self-signed, kept in `state_dir`.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key.
    pub key: Option<PathBuf>,
    /// Whether ALPN names (`imap`, `pop3`) are offered (RFC 7301), and a client that asks for other
    /// names alone is refused: it means to speak to somebody else. Off: it is served all the same.
    pub alpn: bool,
    /// Whether clients are asked for a certificate.
    pub client_certificates: ClientCertificates,
    /// PEM file with the authorities whose client certificates are good.
    pub client_ca: Option<PathBuf>,
    /// PEM file with their revocation lists.
    pub client_crl: Option<PathBuf>,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// No.
    #[default]
    None,
    /// Yes, and those without one are served too.
    Optional,
    /// Yes, and the handshake fails without one.
    Required,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            certificate: None,
            key: None,
            alpn: true,
            client_certificates: ClientCertificates::default(),
            client_ca: None,
            client_crl: None,
        }
    }
}

/// How messages are searched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    /// Threads that look through messages; 0 means one for each core that the process may use.
    pub threads: usize,
    /// Which mailboxes have a full-text index.
    pub index: SearchIndex,
    /// Where the indexes are. Absent: `search` in `state_dir`.
    pub index_dir: Option<PathBuf>,
    /// Messages without an index in a mailbox before one is made for them.
    pub index_messages_min: usize,
    /// Whether SEARCH=FUZZY (RFC 6203) is offered.
    pub fuzzy: bool,
}

impl Default for Search {
    fn default() -> Self {
        Search {
            threads: 0,
            index: SearchIndex::Off,
            index_dir: None,
            index_messages_min: 256,
            fuzzy: false,
        }
    }
}

/// Which mailboxes have a full-text index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchIndex {
    /// None.
    #[default]
    Off,
    /// Those in which somebody searches.
    Searched,
    /// All that are large enough.
    All,
}

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

/// Where closed log segments and their messages are taken. Without directory and command: nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Archive {
    /// An archive directory. It must exist.
    pub directory: Option<PathBuf>,
    /// A program and its first arguments, run for every item instead.
    pub command: Vec<String>,
    /// Bytes that may wait for the archive; beyond that the oldest are dropped, with a named gap.
    pub pending_bytes_max: u64,
    /// A log segment with changes in it goes to the archive after this time, full or not.
    pub segment_seconds_max: u64,
    /// A command that runs longer has failed.
    pub command_seconds_max: u64,
}

impl Default for Archive {
    fn default() -> Self {
        Archive {
            directory: None,
            command: Vec::new(),
            pending_bytes_max: 1 << 30,
            segment_seconds_max: 300,
            command_seconds_max: 300,
        }
    }
}

impl Archive {
    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        self.directory.is_some() || !self.command.is_empty()
    }
}

/// The operator's socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Path of the unix socket, made with mode 0600. Absent: `admin.sock` in `state_dir`.
    pub socket: Option<PathBuf>,
}

/// What is logged, and how. Lines go to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// One line of text, or one JSON object, per event.
    pub format: LogFormat,
    /// Least severe level that is logged.
    pub level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Text, level: LogLevel::Info }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Severity of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what needs an operator.
    Error,
    /// Also what may need one.
    Warn,
    /// Also logins, deliveries, starts and stops.
    Info,
    /// Also the ends of sessions and what led to a decision.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name as written in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

fn default_partition() -> String {
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
        let whole = |error: toml::de::Error| {
            ConfigErrors::one(ConfigError::from_toml(file, text, String::new(), &error))
        };
        let tree = toml::Deserializer::parse(text).map_err(whole)?;
        let mut config: Config = serde_path_to_error::deserialize(tree).map_err(|error| {
            let key = error.path().to_string();
            ConfigErrors::one(ConfigError::from_toml(file, text, key, error.inner()))
        })?;
        let base = file.parent().unwrap_or(Path::new(""));
        config.resolve_paths(base);
        check::check(&config, file)?;
        Ok(config)
    }

    /// What `cursusd` runs with when it is given no file: everything below `dir`, high ports on
    /// loopback, plain logins from loopback, a self-signed certificate.
    pub fn embedded(dir: &Path) -> Config {
        let listener = |protocol, address: &str, tls| Listener {
            protocol,
            address: ListenerAddress::from(address.to_owned()),
            tls,
            plain_login: match tls {
                TlsMode::Implicit => PlainLogin::Never,
                TlsMode::None | TlsMode::Starttls => PlainLogin::Loopback,
            },
            names: NameForm::default(),
            separator: None,
        };
        let lmtp = |address: ListenerAddress| Listener {
            protocol: Protocol::Lmtp,
            address,
            tls: TlsMode::None,
            plain_login: PlainLogin::Never,
            names: NameForm::default(),
            separator: None,
        };
        Config {
            state_dir: dir.to_owned(),
            default_partition: default_partition(),
            partition: vec![Partition {
                name: default_partition(),
                path: dir.join("mail"),
                user_path: default_user_path(),
                folder_names: FolderNames::default(),
                layout: LayoutKind::Maildir,
                io: PartitionIo::Auto,
                locks: Locks::Auto,
                notify: Notify::Auto,
                sync_names: SyncNames::Auto,
            }],
            store: Store::default(),
            server: Server::default(),
            listener: vec![
                listener(Protocol::Imap, "127.0.0.1:10143", TlsMode::Starttls),
                listener(Protocol::Imap, "127.0.0.1:10993", TlsMode::Implicit),
                listener(Protocol::Pop3, "127.0.0.1:10110", TlsMode::Starttls),
                listener(Protocol::Pop3, "127.0.0.1:10995", TlsMode::Implicit),
                lmtp(ListenerAddress::from("127.0.0.1:10024".to_owned())),
                lmtp(ListenerAddress::Unix(dir.join("lmtp.sock"))),
            ],
            tls: Tls::default(),
            auth: Auth::default(),
            limits: Limits::default(),
            imap: Imap::default(),
            pop3: Pop3::default(),
            trash: Trash::default(),
            outbox: Outbox::default(),
            sharing: Sharing::default(),
            search: Search::default(),
            lmtp: Lmtp::default(),
            archive: Archive::default(),
            admin: Admin::default(),
            log: Log::default(),
        }
    }

    /// The embedded store's directory: systemd's state directory, or `./var`.
    pub fn embedded_dir() -> PathBuf {
        match std::env::var_os("STATE_DIRECTORY") {
            // systemd separates several directories by colons; the first is ours.
            Some(dirs) => {
                let first = dirs.to_string_lossy().split(':').next().unwrap_or("").to_owned();
                PathBuf::from(first)
            }
            None => PathBuf::from("var"),
        }
    }

    /// The users file: as set, or `users` in `state_dir`.
    pub fn users_file(&self) -> PathBuf {
        self.auth.users_file.clone().unwrap_or_else(|| self.state_dir.join("users"))
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

    fn resolve_paths(&mut self, base: &Path) {
        let absolute = |path: &mut PathBuf| *path = base.join(&*path);
        absolute(&mut self.state_dir);
        self.partition.iter_mut().for_each(|p| absolute(&mut p.path));
        self.store.log_dir.as_mut().map(absolute);
        self.search.index_dir.as_mut().map(absolute);
        self.tls.certificate.as_mut().map(absolute);
        self.tls.key.as_mut().map(absolute);
        self.tls.client_ca.as_mut().map(absolute);
        self.tls.client_crl.as_mut().map(absolute);
        self.auth.users_file.as_mut().map(absolute);
        self.auth.oauth.keys.as_mut().map(absolute);
        self.auth.oauth.client_secret_file.as_mut().map(absolute);
        self.archive.directory.as_mut().map(absolute);
        self.admin.socket.as_mut().map(absolute);
        for listener in &mut self.listener {
            if let ListenerAddress::Unix(path) = &mut listener.address {
                absolute(path);
            }
        }
    }
}

#[cfg(test)]
mod tests;
