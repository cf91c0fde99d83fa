//! Moves bytes between a socket, rustls and a session's buffers.
//!
//! Our own pump and not an `AsyncRead` wrapper, because reading here must be cancel-safe, must
//! borrow buffers only after readiness, and must not keep a record's worth of memory for a
//! connection that idles. All state is in [`TlsPump`], so a dropped future loses nothing.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;

use super::buffer::{BufferPool, InBuffer};
use super::out_queue::OutQueue;
use super::socket::{Polled, Socket};
use crate::tls::Served;

/// A socket with a TLS session over it.
pub(crate) struct TlsPump {
    socket: Socket,
    session: ServerConnection,
    served: Arc<Served>,
}

fn is_would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl TlsPump {
    pub(crate) fn new(socket: Socket, served: Arc<Served>) -> io::Result<TlsPump> {
        let session = ServerConnection::new(served.config.clone()).map_err(io::Error::other)?;
        Ok(TlsPump { socket, session, served })
    }

    /// What lies below.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn session(&self) -> &ServerConnection {
        &self.session
    }

    /// What the handshake was made with.
    pub(crate) fn served(&self) -> &Served {
        &self.served
    }

    /// Ready when the handshake is complete and all of its bytes are sent.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write_records(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_read_records(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Reads decrypted bytes into `input`; 0 is the end, also where the client didn't announce it.
    /// `None` within means that the input is full.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut InBuffer,
        pool: &BufferPool,
        bytes_max: usize,
    ) -> Poll<io::Result<Option<usize>>> {
        loop {
            let session = &mut self.session;
            match input.read_with(pool, bytes_max, |room| session.reader().read(room)) {
                None => return Poll::Ready(Ok(None)),
                Some(Ok(n)) => return Poll::Ready(Ok(Some(n))),
                Some(Err(e)) if is_would_block(&e) => {}
                Some(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(Some(0)));
                }
                Some(Err(e)) => return Poll::Ready(Err(e)),
            }
            // Answers to key updates and the like. That they wait for the socket must not keep us
            // from reading, so only a failure counts here.
            if let Poll::Ready(Err(e)) = self.poll_write_records(cx) {
                return Poll::Ready(Err(e));
            }
            ready!(self.socket.poll_read_ready(cx))?;
            if ready!(self.poll_read_records(cx))? == 0 {
                return Poll::Ready(Ok(Some(0)));
            }
        }
    }

    /// Encrypts and sends from `out` until something was sent. `true`: nothing is left.
    pub(crate) fn poll_flush_some(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut OutQueue,
    ) -> Poll<io::Result<bool>> {
        // rustls takes plaintext only up to its own bound, so memory stays bounded here too.
        while !out.is_empty() {
            let taken = self.session.writer().write(out.front())?;
            if taken == 0 {
                break;
            }
            out.advance(taken);
        }
        if self.session.wants_write() {
            ready!(self.poll_write_one(cx))?;
        }
        Poll::Ready(Ok(out.is_empty() && !self.session.wants_write()))
    }

    /// Says goodbye in TLS and in TCP.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.send_close_notify();
        ready!(self.poll_write_records(cx))?;
        self.socket.poll_shutdown(cx)
    }

    fn poll_read_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = self.session.read_tls(&mut Polled { socket: &mut self.socket, cx });
        let read = match read {
            Ok(n) => n,
            Err(e) if is_would_block(&e) => return Poll::Pending,
            Err(e) => return Poll::Ready(Err(e)),
        };
        if let Err(e) = self.session.process_new_packets() {
            // The alert tells the client why; whether it arrives doesn't matter to us.
            let _ = self.poll_write_records(cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, e)));
        }
        Poll::Ready(Ok(read))
    }

    fn poll_write_records(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            ready!(self.poll_write_one(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_one(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.session.write_tls(&mut Polled { socket: &mut self.socket, cx }) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(_) => Poll::Ready(Ok(())),
            Err(e) if is_would_block(&e) => Poll::Pending,
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}
