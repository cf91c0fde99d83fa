//! One connection with big reads: lines, literals that are skipped unread, dot-stuffed texts.
//!
//! The buffer starts small, because an idle workload opens thousands of connections, and grows to
//! `READ_BYTES` once a read fills it, because a FETCH over all brings tens of megabytes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::error::{Error, Result};
use crate::scan::{Response, Words, literal_size};

/// First size of a read buffer, in bytes.
const READ_BYTES_FIRST: usize = 4 << 10;
/// Size that a busy connection's read buffer grows to, in bytes.
const READ_BYTES: usize = 256 << 10;
/// A line longer than this is an error: SEARCH over a million messages stays below.
const LINE_BYTES_MAX: usize = 64 << 20;
/// How long a server may say nothing while we wait: a slow search takes a minute, a hang for ever.
const SILENCE_SECONDS_MAX: u64 = 180;

/// TCP, unix or TLS behind one type.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection and what has been read from it but not consumed.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Stream,
    /// Acknowledge what is read at once; see [`Stream::acknowledge`].
    quick: bool,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Wire {
    pub(crate) fn new(stream: Stream, quick: bool) -> Self {
        Self { stream, quick, buffer: Vec::new(), start: 0, end: 0 }
    }

    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The next line with its line end, consumed at the next call.
    pub(crate) async fn line(&mut self, waiting_for: &'static str) -> Result<&[u8]> {
        let length = self.line_length(waiting_for).await?;
        self.start += length;
        Ok(&self.buffer[self.start - length..self.start])
    }

    /// The next IMAP response if it is one line and has arrived: of these a FETCH over all brings
    /// many, and what each costs here is time that no server can save.
    #[inline]
    pub(crate) fn response_here(&mut self, words: &Words) -> Option<Response> {
        let input = &self.buffer[self.start..self.end];
        let length = memchr::memchr(b'\n', input)? + 1;
        let line = &input[..length];
        if line.trim_ascii_end().last() == Some(&b'}') {
            return None;
        }
        let mut response = Response::from_first_line(line);
        words.find(line, &mut response);
        response.octets = length as u64;
        self.start += length;
        Some(response)
    }

    /// The next whole IMAP response; literals are skipped, not kept.
    pub(crate) async fn response(&mut self, words: &Words) -> Result<Response> {
        let mut length = self.line_length("a response").await?;
        let mut response = Response::from_first_line(&self.buffer[self.start..self.start + length]);
        loop {
            let line = &self.buffer[self.start..self.start + length];
            words.find(line, &mut response);
            let literal = if response.kind.ends_in_text() { None } else { literal_size(line) };
            self.start += length;
            response.octets += length as u64;
            let Some(size) = literal else { return Ok(response) };
            self.skip(size).await?;
            response.literals += 1;
            response.literal_bytes += size;
            response.octets += size;
            length = self.line_length("the rest of a response").await?;
        }
    }

    /// Reads a dot-terminated text (POP3) behind its status line, and hands back its true size:
    /// stuffed dots are not counted, nor is the final dot.
    ///
    /// Must follow `line` at once: the status line's CRLF is looked at again, so that the pattern
    /// CRLF dot is found at the very start too.
    pub(crate) async fn dotted_text(&mut self) -> Result<u64> {
        const PATTERN: &[u8] = b"\r\n.";
        const END: &[u8] = b"\r\n.\r\n";
        self.start -= 2;
        let finder = memmem::Finder::new(PATTERN);
        let mut size = 0u64;
        loop {
            let input = &self.buffer[self.start..self.end];
            let Some(at) = finder.find(input) else {
                // What may be the pattern's beginning stays.
                let done = input.len().saturating_sub(PATTERN.len() - 1);
                size += done as u64;
                self.start += done;
                self.fill("a message's text").await?;
                continue;
            };
            if input.len() < at + END.len() {
                self.fill("a message's end").await?;
                continue;
            }
            if input[at..].starts_with(END) {
                // The status line's CRLF stands for the text's last one, which is not counted.
                size += at as u64;
                self.start += at + END.len();
                return Ok(size);
            }
            size += at as u64 + 2;
            self.start += at + PATTERN.len();
        }
    }

    /// Length of the next line with its line end; the line is then in the buffer at `start`.
    async fn line_length(&mut self, waiting_for: &'static str) -> Result<usize> {
        let mut searched = 0;
        loop {
            let input = &self.buffer[self.start..self.end];
            if let Some(at) = memchr::memchr(b'\n', &input[searched..]) {
                return Ok(searched + at + 1);
            }
            searched = input.len();
            if searched > LINE_BYTES_MAX {
                return Err(Error::Answer {
                    expected: format!("a line of at most {LINE_BYTES_MAX} bytes"),
                    found: "a longer one".to_owned(),
                });
            }
            self.fill(waiting_for).await?;
        }
    }

    async fn skip(&mut self, size: u64) -> Result<()> {
        let mut left = size;
        loop {
            let here = (self.end - self.start).min(usize::try_from(left).unwrap_or(usize::MAX));
            self.start += here;
            left -= here as u64;
            if left == 0 {
                return Ok(());
            }
            self.fill("a literal").await?;
        }
    }

    /// Reads once more behind what is there.
    async fn fill(&mut self, waiting_for: &'static str) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            // Busy connections outgrow the first size; only a long line outgrows the second.
            let size = match self.buffer.len() {
                0 => READ_BYTES_FIRST,
                size if size < READ_BYTES => READ_BYTES,
                size if size - self.end < size / 4 => size * 2,
                size => size,
            };
            self.buffer.resize(size, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.end..]);
        let limit = Duration::from_secs(SILENCE_SECONDS_MAX);
        let count = match timeout(limit, read).await {
            Ok(count) => count?,
            Err(_) => return Err(Error::Silent { waiting_for, limit }),
        };
        if count == 0 {
            return Err(Error::Closed(waiting_for));
        }
        if self.quick {
            self.stream.acknowledge();
        }
        self.end += count;
        Ok(())
    }
}

impl Stream {
    /// Acknowledges what was read at once. A server that leaves Nagle's algorithm on (Cyrus does)
    /// otherwise waits 40 ms for our delayed acknowledgement in the middle of an answer, and a run
    /// would measure that and nothing else. The kernel forgets the option, so it is set each time.
    fn acknowledge(&self) {
        let socket = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Unix(_) => return,
        };
        // It only asks; without it we are slower, not wrong.
        let _ = rustix::net::sockopt::set_tcp_quickack(socket, true);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Kind;

    /// Feeds `bytes` in pieces of `piece` bytes through a socket pair.
    async fn fed(bytes: &'static [u8], piece: usize) -> Wire {
        let (near, mut far) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            for part in bytes.chunks(piece) {
                far.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        Wire::new(Stream::Unix(near), true)
    }

    #[tokio::test]
    async fn literals_are_skipped_wherever_the_reads_split() {
        const INPUT: &[u8] =
            b"* 1 FETCH (BODY[] {13}\r\na1 OK {9}\r\n\r\n UID 7)\r\n* 2 FETCH (X {0}\r\n)\r\na1 OK {3}\r\n";
        for piece in 1..INPUT.len() {
            let mut wire = fed(INPUT, piece).await;
            let words = Words::new(&["UID "]);
            let first = wire.response(&words).await.unwrap();
            assert_eq!((first.kind, first.literals, first.literal_bytes), (Kind::Fetch(1), 1, 13));
            assert_eq!(first.found, words.all());
            let second = wire.response(&words).await.unwrap();
            assert_eq!((second.kind, second.literal_bytes), (Kind::Fetch(2), 0));
            let last = wire.response(&words).await.unwrap();
            assert!(matches!(last.kind, Kind::Tagged { tag: 1, .. }));
        }
    }

    #[tokio::test]
    async fn a_line_that_is_there_is_a_response_and_one_with_a_literal_is_not() {
        let mut wire = fed(b"* 7 FETCH (UID 9)\r\n* 8 FETCH (BODY[] {1}\r\nx)\r\n* 9 F", 64).await;
        let words = Words::new(&["UID "]);
        assert!(wire.response_here(&words).is_none(), "nothing was read yet");
        wire.fill("all").await.unwrap();
        let first = wire.response_here(&words).unwrap();
        assert_eq!((first.kind, first.octets, first.found), (Kind::Fetch(7), 19, words.all()));
        assert!(wire.response_here(&words).is_none());
        assert_eq!(wire.response(&words).await.unwrap().literals, 1);
        assert!(wire.response_here(&words).is_none(), "half a line");
    }

    #[tokio::test]
    async fn dotted_texts_have_their_true_size() {
        const INPUT: &[u8] = b"+OK\r\na\r\n..\r\n..b\r\n.\r\n+OK\r\n.\r\n+OK\r\n..\r\n.\r\n";
        for piece in 1..INPUT.len() {
            let mut wire = fed(INPUT, piece).await;
            for size in [3 + 3 + 4, 0, 3] {
                assert_eq!(wire.line("status").await.unwrap(), b"+OK\r\n");
                assert_eq!(wire.dotted_text().await.unwrap(), size);
            }
        }
    }
}
