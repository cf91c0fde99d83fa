//! Where a server is and how it is reached.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::error::Error;
use crate::tls;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// From its first byte.
    Implicit,
    /// By STARTTLS (POP3: STLS), before anything is said; a server without it is not used.
    StartTls,
    /// Not at all. Passwords go in the clear.
    None,
}

/// A server elsewhere. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    /// Name or address; the certificate has to be for it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How a connection is protected.
    pub tls: Tls,
    /// The longest that a read, a write or the whole of connecting may take.
    pub timeout: Duration,
    config: Arc<ClientConfig>,
}

impl Server {
    /// A server. `ca`: a PEM file with the only authorities that are trusted; without it the
    /// system's are. `insecure`: any certificate is accepted.
    ///
    /// # Errors
    /// [`Error::Tls`]: the authorities cannot be read.
    pub fn new(
        host: &str,
        port: u16,
        tls: Tls,
        ca: Option<&Path>,
        insecure: bool,
        timeout: Duration,
    ) -> Result<Server, Error> {
        // Without TLS nothing of it is needed.
        let config = tls::config(ca, insecure || tls == Tls::None)?;
        Ok(Server { host: host.to_owned(), port, tls, timeout, config })
    }

    /// Connects; with implicit TLS the handshake is done, too.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::Tls`]
    pub fn connect(&self) -> Result<Stream, Error> {
        let end = Instant::now() + self.timeout;
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let unreachable = |e: &dyn std::fmt::Display| {
            Error::Connection(format!("{}:{}: {e}", self.host, self.port))
        };
        let addresses = (host, self.port).to_socket_addrs().map_err(|e| unreachable(&e))?;
        let mut last = Error::Connection(format!("{}: no address", self.host));
        for address in addresses {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(socket) => {
                    socket.set_read_timeout(Some(self.timeout))?;
                    socket.set_write_timeout(Some(self.timeout))?;
                    socket.set_nodelay(true)?;
                    let stream = Stream::Plain(socket);
                    return match self.tls {
                        Tls::Implicit => self.secure(stream),
                        Tls::StartTls | Tls::None => Ok(stream),
                    };
                }
                Err(error) => last = unreachable(&error),
            }
        }
        Err(last)
    }

    /// Begins TLS on a stream without it.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::Tls`]
    pub fn secure(&self, stream: Stream) -> Result<Stream, Error> {
        let Stream::Plain(mut socket) = stream else { return Ok(stream) };
        let host = self.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|e| Error::Tls(e.to_string()))?;
        let connection = ClientConnection::new(self.config.clone(), name);
        let mut connection = connection.map_err(|e| Error::Tls(e.to_string()))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, socket))))
    }
}

/// A connection.
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With it.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(room),
            Stream::Tls(stream) => match stream.read(room) {
                // Closed without the alert that says so.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                other => other,
            },
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
