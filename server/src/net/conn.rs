//! What sessions hold: one accepted connection on the session's core.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use config::{Limits, Listener, PlainLogin, Protocol, TlsMode};
use tokio::time::timeout;

use super::buffer::{BUFFER_BYTES, BufferPool, InBuffer};
use super::busy_poll::BusyPoll;
use super::deflate::{DeflatePool, KEEP_IDLE, Layer};
use super::out_queue::{OutQueue, SLICES_MAX};
use super::peer::{Peer, SessionId};
use super::socket::Socket;
use super::tls_pump::TlsPump;
use crate::admission::Slot;
use crate::telemetry::Transcript;
use crate::tls::TlsSwitch;

/// What all connections of one core share.
pub struct NetCore {
    /// Buffers that are lent while bytes move.
    pub pool: BufferPool,
    /// Compressors, likewise.
    pub deflate: DeflatePool,
    /// Looks for commands that come at once.
    pub busy_poll: Rc<BusyPoll>,
    /// The certificates in use; SIGHUP may replace them.
    pub tls: Arc<TlsSwitch>,
}

/// How long a client may keep us waiting. Taken from the configuration at accept.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a TLS handshake.
    pub handshake: Duration,
    /// Without taking a byte that it is owed.
    pub write_stall: Duration,
}

impl From<&Limits> for Timeouts {
    fn from(limits: &Limits) -> Self {
        Timeouts {
            handshake: Duration::from_secs(limits.tls_handshake_seconds_max),
            write_stall: Duration::from_secs(limits.write_stall_seconds_max),
        }
    }
}

/// How long a goodbye may take after the last byte was sent.
const CLOSE_SECONDS_MAX: Duration = Duration::from_secs(2);

enum Stream {
    Plain(Socket),
    Tls(Box<TlsPump>),
    /// After a failed handshake.
    Gone,
}

impl Stream {
    /// Reads behind the unread bytes of `input`; 0 is the end. `None` within: `bytes_max` are unread.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut InBuffer,
        pool: &BufferPool,
        bytes_max: usize,
    ) -> Poll<io::Result<Option<usize>>> {
        match self {
            Stream::Plain(socket) => {
                ready!(socket.poll_read_ready(cx))?;
                let mut pending = false;
                let read =
                    input.read_with(pool, bytes_max, |room| match socket.poll_read(cx, room) {
                        Poll::Ready(done) => done,
                        Poll::Pending => {
                            pending = true;
                            Ok(0)
                        }
                    });
                if pending { Poll::Pending } else { Poll::Ready(read.transpose()) }
            }
            Stream::Tls(pump) => pump.poll_fill(cx, input, pool, bytes_max),
            Stream::Gone => Poll::Ready(Ok(Some(0))),
        }
    }

    /// Sends from `out`. Ready when some bytes were taken; `true` when none are left.
    fn poll_send_some(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut OutQueue,
    ) -> Poll<io::Result<bool>> {
        match self {
            Stream::Plain(socket) => {
                if !out.is_empty() {
                    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                    let count = out.slices(&mut slices);
                    let sent = ready!(socket.poll_write_vectored(cx, &slices[..count]))?;
                    if sent == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    out.advance(sent);
                }
                Poll::Ready(Ok(out.is_empty()))
            }
            Stream::Tls(pump) => pump.poll_flush_some(cx, out),
            Stream::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

fn input_is_full() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "input is at its limit and not consumed")
}

/// One accepted connection on the session's core.
///
/// A session loops over: take what it understands from [`Conn::input`], [`Conn::consume`] it, put
/// the answer into [`Conn::out`], [`Conn::flush`], and [`Conn::fill`] when the input holds no whole
/// command. Dropping it closes the socket; [`Conn::close`] says goodbye first.
pub struct Conn {
    /// Bytes owed to the client; sent by [`Conn::flush`].
    pub out: OutQueue,
    stream: Stream,
    /// Compression, between the buffers here and `stream`.
    layer: Option<Box<Layer>>,
    input: InBuffer,
    /// `limits.command_bytes_max`; no session shall be larger for a limit beyond 4 GiB.
    input_bytes_max: u32,
    peer: Peer,
    id: SessionId,
    since: Instant,
    bytes_in: u64,
    bytes_out: u64,
    timeouts: Timeouts,
    listener: Arc<Listener>,
    core: Rc<NetCore>,
    /// It does not wait for its client; [`BusyPoll`] counts those.
    is_awake: bool,
    /// What is said, where the operator wants to know.
    transcript: Option<Box<Transcript>>,
    /// Gives back the place under the connection limits when the connection ends.
    _slot: Option<Slot>,
}

impl Conn {
    /// Takes an accepted socket. For tests, `slot` may be absent and the socket one end of a
    /// `UnixStream::pair`.
    pub fn new(
        socket: Socket,
        peer: Peer,
        listener: Arc<Listener>,
        limits: &Limits,
        core: Rc<NetCore>,
        slot: Option<Slot>,
    ) -> Conn {
        core.busy_poll.joined();
        Conn {
            out: OutQueue::new(limits.out_queue_bytes_high, core.pool.clone()),
            stream: Stream::Plain(socket),
            layer: None,
            input: InBuffer::default(),
            input_bytes_max: u32::try_from(limits.command_bytes_max).unwrap_or(u32::MAX),
            peer,
            id: SessionId::next(),
            since: Instant::now(),
            bytes_in: 0,
            bytes_out: 0,
            timeouts: Timeouts::from(limits),
            listener,
            is_awake: true,
            core,
            transcript: None,
            _slot: slot,
        }
    }

    /// Waits for bytes and reads them behind [`Conn::input`]. Returns how many; 0 is the end of the
    /// client's bytes.
    ///
    /// Cancel-safe: if the future is dropped, nothing that was read is lost. Holds no buffer while
    /// it waits.
    ///
    /// # Errors
    /// `InvalidInput` if the unread input is at its limit (`limits.command_bytes_max`): the session
    /// should have refused the command before. Else what the socket or TLS says.
    pub async fn fill(&mut self) -> io::Result<usize> {
        if let Some(transcript) = &mut self.transcript {
            transcript.pass_on();
            if transcript.is_over() {
                self.transcript = None;
            }
        }
        let read = match self.layer {
            None => poll_fn(|cx| self.poll_fill(cx)).await?,
            // Apart from the session's own memory: few compress.
            Some(_) => Box::pin(self.fill_decompressed()).await?,
        };
        self.bytes_in += read as u64;
        Ok(read)
    }

    /// As [`Conn::fill`]: lets others run while much comes out of little, and gives back what the
    /// core has lent when the client keeps it waiting.
    async fn fill_decompressed(&mut self) -> io::Result<usize> {
        if self.layer.as_mut().is_some_and(|layer| layer.turn_is_over()) {
            tokio::task::yield_now().await;
        }
        let at_once = poll_fn(|cx| match self.poll_fill(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(done) = at_once.await {
            return done;
        }
        let scarce = self.layer.as_mut().is_some_and(|layer| {
            layer.waited();
            layer.is_scarce()
        });
        if !scarce && let Ok(done) = timeout(KEEP_IDLE, poll_fn(|cx| self.poll_fill(cx))).await {
            return done;
        }
        if let Some(layer) = &mut self.layer {
            layer.release();
        }
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let polled = self.poll_fill_once(cx);
        let is_awake = polled.is_ready();
        if is_awake != std::mem::replace(&mut self.is_awake, is_awake) {
            let busy_poll = &self.core.busy_poll;
            match is_awake {
                true => busy_poll.heard(self.id, Instant::now),
                false => busy_poll.waits(self.id, Instant::now),
            }
        }
        polled
    }

    fn poll_fill_once(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (pool, bytes_max) = (&self.core.pool, self.input_bytes_max as usize);
        let Some(layer) = &mut self.layer else {
            let read = ready!(self.stream.poll_read(cx, &mut self.input, pool, bytes_max))?;
            return Poll::Ready(read.ok_or_else(input_is_full));
        };
        loop {
            if layer.has_input() {
                let made = self.input.read_with(pool, bytes_max, |room| layer.decompress(room));
                match made {
                    None => return Poll::Ready(Err(input_is_full())),
                    Some(Ok(0)) => {}
                    Some(done) => return Poll::Ready(done),
                }
            }
            let read = ready!(self.stream.poll_read(cx, &mut layer.raw, pool, BUFFER_BYTES))?;
            if read == Some(0) {
                return Poll::Ready(Ok(0));
            }
        }
    }

    /// Tells the client's kernel that everything sent so far has arrived: for a session that waits
    /// for the rest of a command, with nothing to send that would tell it by the way.
    pub fn acknowledge(&self) {
        if let Stream::Plain(socket) = &self.stream {
            socket.acknowledge();
        } else if let Stream::Tls(pump) = &self.stream {
            pump.socket().acknowledge();
        }
    }

    /// Bytes read and not yet consumed.
    pub fn input(&self) -> &[u8] {
        self.input.unread()
    }

    /// Forgets the first `n` bytes of [`Conn::input`].
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, n: usize) {
        if let Some(transcript) = &mut self.transcript {
            transcript.took(&self.input.unread()[..n]);
        }
        self.input.consume(n, &self.core.pool);
    }

    /// As [`Conn::consume`], of a command's text, which could have a password; `whole`: with this it is
    /// complete.
    pub(crate) fn consume_command(&mut self, n: usize, whole: bool) {
        if let Some(transcript) = &mut self.transcript {
            transcript.took_command(&self.input.unread()[..n], whole);
        }
        self.input.consume(n, &self.core.pool);
    }

    /// Sends everything in [`Conn::out`].
    ///
    /// Cancel-safe: what was not sent stays in the queue.
    ///
    /// # Errors
    /// `TimedOut` if the client takes nothing for `limits.write_stall_seconds_max`. After an error
    /// the connection is of no more use.
    pub async fn flush(&mut self) -> io::Result<()> {
        // Nearly always the socket has room, and then no timer is armed.
        let done = poll_fn(|cx| match self.poll_flush(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        });
        match done.await {
            Some(done) => done,
            None => Box::pin(self.flush_slowly()).await,
        }
    }

    /// Sends what the socket takes at once of [`Conn::out`], for a session that makes more.
    ///
    /// # Errors
    /// As [`Conn::flush`].
    pub async fn flush_now(&mut self) -> io::Result<()> {
        poll_fn(|cx| match self.poll_flush(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Poll::Ready(Ok(())),
        })
        .await
    }

    async fn flush_slowly(&mut self) -> io::Result<()> {
        let stall = self.timeouts.write_stall;
        loop {
            match timeout(stall, poll_fn(|cx| self.poll_flush_some(cx))).await {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    let reason = format!("client took no byte for {} s", stall.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
                }
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !ready!(self.poll_flush_some(cx))? {}
        Poll::Ready(Ok(()))
    }

    /// Ready when some bytes were taken; `true` when none are left.
    fn poll_flush_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.transcript.is_none() {
            return self.poll_send_some(cx);
        }
        let before = self.out.len();
        if let Some(transcript) = &mut self.transcript {
            transcript.sending(&self.out);
        }
        let done = self.poll_send_some(cx);
        if let Some(transcript) = &mut self.transcript {
            transcript.sent(before - self.out.len());
        }
        done
    }

    /// The same, whether or not it is recorded.
    fn poll_send_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let before = self.out.len();
        let Some(layer) = &mut self.layer else {
            let done = self.stream.poll_send_some(cx, &mut self.out);
            self.bytes_out += (before - self.out.len()) as u64;
            return done;
        };
        let compressed = layer.compress(&mut self.out)?;
        self.bytes_out += (before - self.out.len()) as u64;
        let sent = ready!(self.stream.poll_send_some(cx, &mut layer.wire))?;
        Poll::Ready(Ok(compressed && sent))
    }

    /// Sends the queue; everything behind it is compressed, in both directions (RFC 4978).
    ///
    /// The session consumes the command that asked for it first. `level` is zlib's, 1 to 9.
    ///
    /// # Errors
    /// `InvalidInput` if the client sent more before the answer, which RFC 4978 forbids. After an
    /// error the connection is of no more use.
    pub async fn start_compression(&mut self, level: u8) -> io::Result<()> {
        if !self.input().is_empty() {
            let reason = "plain bytes behind the command that starts compression";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        self.flush().await?;
        let (pool, buffers) = (self.core.deflate.clone(), self.core.pool.clone());
        self.layer = Some(Box::new(Layer::new(pool, buffers, level)));
        Ok(())
    }

    /// Sends the queue compressed, and ends the compression, in both directions. Does nothing where
    /// there is none.
    ///
    /// The session consumes the command that asked for it first.
    ///
    /// # Errors
    /// `InvalidInput` if the client compressed a further command. After an error the connection is
    /// of no more use.
    pub async fn end_compression(&mut self) -> io::Result<()> {
        Box::pin(self.end_compression_unboxed()).await
    }

    async fn end_compression_unboxed(&mut self) -> io::Result<()> {
        let Some(layer) = &mut self.layer else { return Ok(()) };
        if !self.input.unread().is_empty() {
            let reason = "a command behind the one that ends the compression";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        layer.finish_output();
        self.flush().await?;
        poll_fn(|cx| self.poll_end_input(cx)).await?;
        if let Some(mut layer) = self.layer.take() {
            self.input = std::mem::take(&mut layer.raw);
        }
        Ok(())
    }

    /// Reads up to the end of what the client compressed.
    fn poll_end_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(layer) = &mut self.layer else { return Poll::Ready(Ok(())) };
        while !layer.end_input()? {
            let (raw, pool) = (&mut layer.raw, &self.core.pool);
            if ready!(self.stream.poll_read(cx, raw, pool, BUFFER_BYTES))? == Some(0) {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the connection is compressed.
    pub fn is_compressed(&self) -> bool {
        self.layer.is_some()
    }

    /// Sends the queue, then does the server's side of a TLS handshake.
    ///
    /// The session consumes the command that asked for it first.
    ///
    /// # Errors
    /// `InvalidInput` if the client sent more before the handshake: a forged command could hide
    /// there (CVE-2011-0411). `TimedOut` after `limits.tls_handshake_seconds_max`. After an error
    /// the connection is of no more use.
    pub async fn start_tls(&mut self) -> io::Result<()> {
        Box::pin(self.start_tls_unboxed()).await
    }

    async fn start_tls_unboxed(&mut self) -> io::Result<()> {
        if !self.input().is_empty() {
            let reason = "plain bytes behind the command that starts TLS";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        self.flush().await?;
        let config = self.core.tls.current(self.listener.protocol);
        let mut pump = match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Plain(socket) => Box::new(TlsPump::new(socket, config)?),
            Stream::Tls(_) | Stream::Gone => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS is there already"));
            }
        };
        let shaken = timeout(self.timeouts.handshake, poll_fn(|cx| pump.poll_handshake(cx))).await;
        shaken.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake too slow"))??;
        self.stream = Stream::Tls(pump);
        Ok(())
    }

    /// Sends the queue and says goodbye, in TLS too. Errors don't matter any more.
    ///
    /// Boxed, or every session's task would have room for a second connection from its start on.
    pub fn close(self) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(self.close_unboxed())
    }

    async fn close_unboxed(mut self) {
        if self.flush().await.is_err() {
            return;
        }
        let goodbye = poll_fn(|cx| match &mut self.stream {
            Stream::Plain(socket) => socket.poll_shutdown(cx),
            Stream::Tls(pump) => pump.poll_close(cx),
            Stream::Gone => Poll::Ready(Ok(())),
        });
        let _ = timeout(CLOSE_SECONDS_MAX, goodbye).await;
    }

    /// Records what is said from here on, or no longer.
    pub(crate) fn set_transcript(&mut self, transcript: Option<Transcript>) {
        self.transcript = transcript.map(Box::new);
        if let Some(transcript) = &mut self.transcript {
            transcript.begin_behind(&self.out);
        }
    }

    /// The other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Name of this session in logs.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// When the connection was accepted.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether TLS is in force.
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Whether the client is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.peer.is_loopback()
    }

    /// Where it was accepted.
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// What is spoken here.
    pub fn protocol(&self) -> Protocol {
        self.listener.protocol
    }

    /// Whether a command that starts TLS makes sense now.
    pub fn may_start_tls(&self) -> bool {
        self.listener.tls == TlsMode::Starttls && matches!(self.stream, Stream::Plain(_))
    }

    /// Whether a password may be sent now: TLS is in force, or the listener allows plain logins
    /// from this machine, or from everywhere. If not, IMAP says LOGINDISABLED.
    pub fn may_log_in(&self) -> bool {
        let plain = match self.listener.plain_login {
            PlainLogin::Never => false,
            PlainLogin::Loopback => self.is_loopback(),
            PlainLogin::Always => true,
        };
        self.is_tls() || plain
    }

    /// Bytes read from the client so far, decrypted.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Bytes given to the client so far, before encryption.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// The `tls-exporter` channel binding (RFC 9266); `None` without TLS 1.3.
    pub fn exporter(&self) -> Option<[u8; 32]> {
        let Stream::Tls(pump) = &self.stream else { return None };
        let session = pump.session();
        if session.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3) {
            return None;
        }
        let label = b"EXPORTER-Channel-Binding";
        // No context is another value than an empty one in TLS 1.2; RFC 9266 has none.
        session.export_keying_material([0; 32], label, None).ok()
    }

    /// The `tls-server-end-point` channel binding (RFC 5929); `None` without TLS.
    pub fn end_point(&self) -> Option<&[u8]> {
        let Stream::Tls(pump) = &self.stream else { return None };
        pump.served().end_point.as_deref()
    }

    /// The client's own certificate in DER, which the handshake has verified.
    pub fn client_certificate(&self) -> Option<&[u8]> {
        let Stream::Tls(pump) = &self.stream else { return None };
        pump.session().peer_certificates().and_then(<[_]>::first).map(|c| c.as_ref())
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.is_awake {
            self.core.busy_poll.left();
        }
    }
}

#[cfg(test)]
mod tests;
