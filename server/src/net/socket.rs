//! TCP and unix sockets behind one type, polled; and an adapter that shows them to rustls.
//!
//! Everything here goes through `tokio::net`, also inside the ring's runtime: a socket read that
//! io_uring has in flight can't be dropped without losing the bytes it will read, a readiness
//! wait can.

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// An accepted connection, before any TLS.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Ready when bytes (or the end) can be read, so that a buffer is borrowed only then.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(s) => s.poll_read_ready(cx),
            Socket::Unix(s) => s.poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(room);
        ready!(match self {
            Socket::Tcp(s) => Pin::new(s).poll_read(cx, &mut room),
            Socket::Unix(s) => Pin::new(s).poll_read(cx, &mut room),
        })?;
        Poll::Ready(Ok(room.filled().len()))
    }

    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(s) => Pin::new(s).poll_write_vectored(cx, slices),
            Socket::Unix(s) => Pin::new(s).poll_write_vectored(cx, slices),
        }
    }

    /// Acknowledges at once what was received. A client that sends a literal and its line end in
    /// two writes may wait for that before the second, 40 ms as kernels go.
    pub(crate) fn acknowledge(&self) {
        if let Socket::Tcp(socket) = self {
            // Where the kernel can't, it is only slower.
            let _ = rustix::net::sockopt::set_tcp_quickack(socket, true);
        }
    }

    /// Sends what the kernel holds, then the end.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Socket::Unix(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// A socket and the task that polls it, as the `Read` and `Write` that rustls wants:
/// "not ready" becomes `WouldBlock`, with the task's waker registered.
pub(crate) struct Polled<'a, 'b> {
    pub(crate) socket: &'a mut Socket,
    pub(crate) cx: &'a mut Context<'b>,
}

fn or_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Polled<'_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        or_would_block(self.socket.poll_read(self.cx, room))
    }
}

impl Write for Polled<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(self.socket.poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
