//! A connection: plain, TLS, compressed or both, with whole responses read from it.
//!
//! Blocking, with a thread for each client: what is checked is the server's concurrency.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::value::{self, Response};

/// A server that says nothing for so long has lost the command.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A response larger than this is a fault: messages here have some kilobytes.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
const READ_BYTES: usize = 16 << 10;

/// How connections are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    Plain,
    Tls,
    /// COMPRESS=DEFLATE (RFC 4978) without TLS.
    Compress,
    /// COMPRESS=DEFLATE within TLS.
    TlsCompress,
}

impl Transport {
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Transport::Tls | Transport::TlsCompress)
    }

    pub(crate) fn is_compressed(self) -> bool {
        matches!(self, Transport::Compress | Transport::TlsCompress)
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(out),
            Stream::Tls(stream) => stream.read(out),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

/// The two directions of COMPRESS.
struct Deflate {
    out: Compress,
    input: Decompress,
    /// Read from the stream, not yet inflated.
    raw: Vec<u8>,
}

pub(crate) struct Wire {
    stream: Stream,
    deflate: Option<Box<Deflate>>,
    /// Read, not yet taken as a response.
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects; TLS is implicit.
    pub(crate) fn connect(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> io::Result<Wire> {
        let socket = TcpStream::connect_timeout(&address, SILENCE_MAX)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(SILENCE_MAX))?;
        socket.set_write_timeout(Some(SILENCE_MAX))?;
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(session, socket)))
            }
        };
        Ok(Wire { stream, deflate: None, buffer: Vec::new() })
    }

    /// From here on both directions are compressed.
    pub(crate) fn compress(&mut self) {
        self.deflate = Some(Box::new(Deflate {
            out: Compress::new(Compression::fast(), false),
            input: Decompress::new(false),
            raw: std::mem::take(&mut self.buffer),
        }));
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.deflate {
            None => self.stream.write_all(bytes)?,
            Some(deflate) => {
                let mut packed = Vec::new();
                let before = deflate.out.total_in();
                loop {
                    packed.reserve(bytes.len().max(256));
                    let used = (deflate.out.total_in() - before) as usize;
                    let rest = &bytes[used..];
                    deflate
                        .out
                        .compress_vec(rest, &mut packed, FlushCompress::Sync)
                        .map_err(io::Error::other)?;
                    let used = (deflate.out.total_in() - before) as usize;
                    if used == bytes.len() && packed.len() < packed.capacity() {
                        break;
                    }
                }
                self.stream.write_all(&packed)?;
            }
        }
        self.stream.flush()
    }

    /// The next response with its raw bytes; `None` at the connection's end.
    pub(crate) fn response(&mut self) -> io::Result<Option<(Response, Vec<u8>)>> {
        let mut searched = 0;
        let end = loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                let end = searched + at + 1;
                match value::literal_size(&self.buffer[..end]) {
                    None => break end,
                    Some(size) => {
                        searched = end.saturating_add(size);
                        if searched > RESPONSE_BYTES_MAX {
                            return Err(io::Error::other("a literal larger than any message"));
                        }
                        while self.buffer.len() < searched {
                            if !self.fill()? {
                                return Ok(None);
                            }
                        }
                        continue;
                    }
                }
            }
            searched = self.buffer.len();
            if searched > RESPONSE_BYTES_MAX {
                return Err(io::Error::other("a response without an end"));
            }
            if !self.fill()? {
                return Ok(None);
            }
        };
        let raw: Vec<u8> = self.buffer.drain(..end).collect();
        match value::parse(&raw) {
            Ok(response) => Ok(Some((response, raw))),
            Err(error) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no response: {error}: {:?}", String::from_utf8_lossy(&raw)),
            )),
        }
    }

    /// Whether something arrives within `wait`.
    pub(crate) fn readable(&mut self, wait: Duration) -> io::Result<bool> {
        if !self.buffer.is_empty() {
            return Ok(true);
        }
        self.stream.socket().set_read_timeout(Some(wait))?;
        let filled = self.fill();
        self.stream.socket().set_read_timeout(Some(SILENCE_MAX))?;
        match filled {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads once more; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; READ_BYTES];
        let Some(deflate) = &mut self.deflate else {
            let count = self.stream.read(&mut chunk)?;
            self.buffer.extend_from_slice(&chunk[..count]);
            return Ok(count > 0);
        };
        let had = self.buffer.len();
        loop {
            // Inflates what there is before it waits for more.
            let before = deflate.input.total_in();
            self.buffer.reserve(READ_BYTES);
            deflate
                .input
                .decompress_vec(&deflate.raw, &mut self.buffer, FlushDecompress::None)
                .map_err(io::Error::other)?;
            let used = (deflate.input.total_in() - before) as usize;
            deflate.raw.drain(..used);
            if self.buffer.len() > had {
                return Ok(true);
            }
            if used == 0 || deflate.raw.is_empty() {
                let count = self.stream.read(&mut chunk)?;
                if count == 0 {
                    return Ok(false);
                }
                deflate.raw.extend_from_slice(&chunk[..count]);
            }
        }
    }
}
