//! What `cursusd` runs with when it is given no file.

use std::path::{Path, PathBuf};

use crate::{
    Config, Listener, ListenerAddress, Partition, PlainLogin, Protocol, TlsMode, default_partition,
};

impl Config {
    /// What `cursusd` runs with when it is given no file: everything below `dir`, high ports on
    /// loopback, plain logins from loopback, a self-signed certificate.
    pub fn embedded(dir: &Path) -> Config {
        let tcp = |protocol, address: &str, tls| Listener {
            tls,
            plain_login: match (protocol, tls) {
                (Protocol::Lmtp, _) | (_, TlsMode::Implicit) => PlainLogin::Never,
                (_, TlsMode::None | TlsMode::Starttls) => PlainLogin::Loopback,
            },
            ..Listener::new(protocol, ListenerAddress::from(address.to_owned()))
        };
        let lmtp_socket = ListenerAddress::Unix(dir.join("lmtp.sock"));
        Config {
            partition: vec![Partition::new(&default_partition(), &dir.join("mail"))],
            listener: vec![
                tcp(Protocol::Imap, "127.0.0.1:10143", TlsMode::Starttls),
                tcp(Protocol::Imap, "127.0.0.1:10993", TlsMode::Implicit),
                tcp(Protocol::Pop3, "127.0.0.1:10110", TlsMode::Starttls),
                tcp(Protocol::Pop3, "127.0.0.1:10995", TlsMode::Implicit),
                tcp(Protocol::Lmtp, "127.0.0.1:10024", TlsMode::None),
                Listener { tls: TlsMode::None, ..Listener::new(Protocol::Lmtp, lmtp_socket) },
            ],
            ..Config::bare(dir)
        }
    }

    /// The embedded store's directory: systemd's state directory, or `./var`.
    pub fn embedded_dir() -> PathBuf {
        Config::systemd_dir().unwrap_or_else(|| PathBuf::from("var"))
    }

    /// The state directory that systemd has made for us (`STATE_DIRECTORY`).
    pub fn systemd_dir() -> Option<PathBuf> {
        let dirs = std::env::var_os("STATE_DIRECTORY")?;
        // systemd separates several directories by colons; the first is ours.
        Some(PathBuf::from(dirs.to_string_lossy().split(':').next().unwrap_or("")))
    }
}
