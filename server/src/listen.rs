//! Listening sockets: TCP addresses, unix paths, and those that systemd passes.
//!
//! Invariant: a unix path is taken over only if nobody listens on it, so a second server doesn't
//! steal a running one's socket.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Listener, ListenerAddress};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Connections that the kernel keeps ready for us.
const BACKLOG: i32 = 4096;

/// A socket that accepts, and what is spoken there.
pub struct Bound {
    /// Accepts; not blocking.
    pub fd: OwnedFd,
    /// As configured.
    pub listener: Arc<Listener>,
    /// The address in fact, for the log.
    pub shown: String,
    /// A unix path of our making, removed at the end.
    path: Option<PathBuf>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Nothing to be done if it is gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system refused.
    #[error("cannot listen on {address}: {source}")]
    System {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// systemd passed no socket of that name.
    #[error("systemd passed no socket named {name:?}, only: {passed}")]
    NotPassed {
        /// The name looked for.
        name: String,
        /// The names that came.
        passed: String,
    },
}

/// Sockets from systemd, by name, each given out once.
pub struct Passed(HashMap<String, Vec<OwnedFd>>);

impl Passed {
    /// Takes what systemd passed. Call once, at start.
    pub fn take() -> io::Result<Passed> {
        let mut by_name: HashMap<String, Vec<OwnedFd>> = HashMap::new();
        for (fd, name) in sd_notify::listen_fds_with_names()? {
            // SAFETY: systemd hands the descriptor to this process (LISTEN_PID was compared), and
            // this function is called once, so nobody else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            by_name.entry(name).or_default().push(fd);
        }
        Ok(Passed(by_name))
    }

    fn give(&mut self, name: &str) -> Result<Vec<OwnedFd>, ListenError> {
        self.0.remove(name).ok_or_else(|| ListenError::NotPassed {
            name: name.to_owned(),
            passed: self.0.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// Names of sockets that no listener asked for.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Opens every socket of `listener`: a host name may have several addresses, systemd may pass
/// several sockets under one name.
pub fn bind(listener: &Listener, passed: &mut Passed) -> Result<Vec<Bound>, ListenError> {
    let address = listener.address.to_string();
    let failed = |source| ListenError::System { address: address.clone(), source };
    let bound = |fd, shown, path| Bound { fd, listener: Arc::new(listener.clone()), shown, path };
    match &listener.address {
        ListenerAddress::Tcp(text) => {
            let mut all = Vec::new();
            for (socket_address, needed) in addresses(text).map_err(failed)? {
                let fd = match bind_tcp(socket_address) {
                    Err(error) if !needed && is_missing_family(&error) => continue,
                    other => other.map_err(failed)?,
                };
                // With port 0 the system has chosen one.
                let chosen = rustix::net::getsockname(&fd).map_err(|e| failed(e.into()))?;
                let chosen = std::net::SocketAddr::try_from(chosen).unwrap_or(socket_address);
                all.push(bound(fd, chosen.to_string(), None));
            }
            Ok(all)
        }
        ListenerAddress::Unix(path) => {
            let fd = bind_unix(path, 0o666).map_err(failed)?;
            Ok(vec![bound(fd, address.clone(), Some(path.clone()))])
        }
        ListenerAddress::Systemd(name) => {
            let mut all = Vec::new();
            for fd in passed.give(name)? {
                rustix::io::ioctl_fionbio(&fd, true).map_err(|e| failed(e.into()))?;
                all.push(bound(fd, address.clone(), None));
            }
            Ok(all)
        }
    }
}

/// The addresses that a text stands for, each with whether it has to work. `*:port` is every address
/// of the machine; where the system is without IPv6 those are the IPv4 ones.
fn addresses(text: &str) -> io::Result<Vec<(SocketAddr, bool)>> {
    if let Some(port) = text.strip_prefix("*:") {
        let port = port.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        return Ok(vec![(SocketAddr::new(v4, port), true), (SocketAddr::new(v6, port), false)]);
    }
    Ok(text.to_socket_addrs()?.map(|address| (address, true)).collect())
}

fn is_missing_family(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|e| matches!(e, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if address.is_ipv6() {
        // "[::]" and "0.0.0.0" can then both be configured, and addresses are what they seem.
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Opens a unix socket with `mode`, replacing one that nobody listens on any more.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            if UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "address already in use: another server listens",
                ));
            }
            std::fs::remove_file(path)?;
        }
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there, and not a socket"));
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    rustix::net::listen(listener.as_fd(), BACKLOG)?;
    Ok(listener.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(bind_unix(&path, 0o600).unwrap());
        assert!(path.exists());
        let live = bind_unix(&path, 0o600).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind_unix(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(live);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mail").unwrap();
        assert_eq!(bind_unix(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn every_address_is_both_families_as_far_as_there_are_any() {
        let listener = Listener::new(config::Protocol::Imap, "*:0".to_owned().into());
        let bound = bind(&listener, &mut Passed(HashMap::new())).unwrap();
        assert!(bound[0].shown.starts_with("0.0.0.0:"), "{}", bound[0].shown);
        assert!(bound.iter().skip(1).all(|b| b.shown.starts_with("[::]:")));
    }

    #[test]
    fn a_name_that_systemd_did_not_pass_is_named() {
        let listener = Listener {
            tls: config::TlsMode::Implicit,
            plain_login: config::PlainLogin::Never,
            ..Listener::new(
                config::Protocol::Imap,
                ListenerAddress::from("systemd:imap".to_owned()),
            )
        };
        let error = bind(&listener, &mut Passed(HashMap::new())).err().unwrap().to_string();
        assert!(error.contains("\"imap\""), "{error}");
    }
}
