//! Who is connected, and the name of the session in logs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP. IPv4 addresses mapped into IPv6 are shown and counted as IPv4.
    Ip(SocketAddr),
    /// Over a unix socket.
    Unix,
}

impl Peer {
    /// A TCP peer.
    pub fn from_addr(address: SocketAddr) -> Peer {
        Peer::Ip(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The address, if there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Ip(address) => Some(address.ip()),
            Peer::Unix => None,
        }
    }

    /// Whether the client is on this machine: a loopback address or a unix socket.
    pub fn is_loopback(&self) -> bool {
        self.ip().is_none_or(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

/// Name of a session in logs: never twice in one process, unlikely twice in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The next name.
    pub fn next() -> SessionId {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        static PROCESS: OnceLock<u64> = OnceLock::new();
        // 24 random bits tell processes apart, 40 bits count.
        let process = PROCESS.get_or_init(|| getrandom::u64().unwrap_or(0) << 40);
        SessionId(process | (COUNT.fetch_add(1, Ordering::Relaxed) & ((1 << 40) - 1)))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_seen_as_what_they_are() {
        let peer = Peer::from_addr("[::ffff:127.0.0.1]:99".parse().unwrap());
        assert!(peer.is_loopback());
        assert_eq!(peer.to_string(), "127.0.0.1:99");
        assert!(!Peer::from_addr("192.0.2.1:99".parse().unwrap()).is_loopback());
        assert!(Peer::Unix.is_loopback());
    }
}
