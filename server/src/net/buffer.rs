//! The core's pool of buffers, and the input buffer that borrows from it.
//!
//! Invariant: an [`InBuffer`] without unread bytes holds no memory. So an idle session costs its
//! future and its socket, nothing else.

use std::cell::RefCell;
use std::rc::Rc;

/// Size of a pooled buffer. One TLS record (RFC 8446 section 5.1) fits.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// Size of a buffer for a long answer: a session's piece of one (64 KiB), and room for the end of
/// the message that makes it whole. Smaller than what the allocator maps anew each time.
pub const LARGE_BUFFER_BYTES: usize = 80 * 1024;

/// Idle buffers that a core keeps; more are given back to the allocator.
const POOLED_BUFFERS_MAX: usize = 256;

/// The same for large ones.
const POOLED_LARGE_BUFFERS_MAX: usize = 16;

/// Buffers of [`BUFFER_BYTES`] that are lent to whoever on this core is reading or writing, and
/// [`LARGE_BUFFER_BYTES`] ones for long answers.
#[derive(Clone, Default)]
pub struct BufferPool {
    idle: Rc<RefCell<Vec<Vec<u8>>>>,
    idle_large: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl BufferPool {
    /// An empty pool.
    pub fn new() -> BufferPool {
        BufferPool::default()
    }

    /// A buffer with length 0 and a capacity of at least [`BUFFER_BYTES`].
    pub fn borrow(&self) -> Vec<u8> {
        let idle = self.idle.borrow_mut().pop();
        idle.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// A buffer with length 0 and a capacity of at least [`LARGE_BUFFER_BYTES`].
    pub fn borrow_large(&self) -> Vec<u8> {
        let idle = self.idle_large.borrow_mut().pop();
        idle.unwrap_or_else(|| Vec::with_capacity(LARGE_BUFFER_BYTES))
    }

    /// Takes back a buffer. Those that grew, shrank or are too many are freed.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        let (idle, max) = match buffer.capacity() {
            BUFFER_BYTES => (&self.idle, POOLED_BUFFERS_MAX),
            LARGE_BUFFER_BYTES => (&self.idle_large, POOLED_LARGE_BUFFERS_MAX),
            _ => return,
        };
        let mut idle = idle.borrow_mut();
        if idle.len() < max {
            buffer.clear();
            idle.push(buffer);
        }
    }
}

/// Bytes read from the client and not yet consumed.
#[derive(Default)]
pub(crate) struct InBuffer {
    bytes: Vec<u8>,
    /// Start of what is unread; never beyond `bytes.len()`.
    start: usize,
}

impl InBuffer {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Forgets the first `n` unread bytes and gives the buffer back when none is left.
    ///
    /// # Panics
    /// If fewer than `n` bytes are unread: the caller counted wrongly.
    pub(crate) fn consume(&mut self, n: usize, pool: &BufferPool) {
        assert!(n <= self.unread().len(), "consumed {n} of {} bytes", self.unread().len());
        self.start += n;
        if self.start == self.bytes.len() {
            self.release(pool);
        }
    }

    /// Gives back an unused buffer; does nothing while bytes are unread.
    pub(crate) fn release(&mut self, pool: &BufferPool) {
        if self.start == self.bytes.len() {
            self.start = 0;
            let buffer = std::mem::take(&mut self.bytes);
            if buffer.capacity() > 0 {
                pool.give_back(buffer);
            }
        }
    }

    /// Reads once with `read` behind the unread bytes, growing the buffer up to `bytes_max` unread
    /// bytes. Nothing changes if `read` fails.
    ///
    /// Returns `None` if `bytes_max` are unread already.
    pub(crate) fn read_with(
        &mut self,
        pool: &BufferPool,
        bytes_max: usize,
        read: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
    ) -> Option<std::io::Result<usize>> {
        if self.unread().len() >= bytes_max {
            return None;
        }
        if self.bytes.capacity() == 0 {
            self.bytes = pool.borrow();
        }
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
            if self.bytes.len() == self.bytes.capacity() {
                self.bytes.reserve(BUFFER_BYTES);
            }
        }
        let filled = self.bytes.len();
        let room = (bytes_max - self.unread().len()).min(self.bytes.capacity() - filled);
        self.bytes.resize(filled + room, 0);
        let done = read(&mut self.bytes[filled..]);
        self.bytes.truncate(filled + *done.as_ref().unwrap_or(&0));
        self.release(pool);
        Some(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(buffer: &mut InBuffer, pool: &BufferPool, bytes_max: usize, bytes: &[u8]) -> usize {
        buffer
            .read_with(pool, bytes_max, |room| {
                let n = room.len().min(bytes.len());
                room[..n].copy_from_slice(&bytes[..n]);
                Ok(n)
            })
            .map_or(0, Result::unwrap)
    }

    #[test]
    fn an_empty_buffer_holds_no_memory() {
        let pool = BufferPool::new();
        let mut buffer = InBuffer::default();
        assert_eq!(put(&mut buffer, &pool, 100, b"abc"), 3);
        assert_eq!(buffer.unread(), b"abc");
        buffer.consume(3, &pool);
        assert_eq!(buffer.bytes.capacity(), 0);
        assert_eq!(pool.idle.borrow().len(), 1);
        assert!(
            buffer.read_with(&pool, 9, |_| Err(std::io::ErrorKind::WouldBlock.into())).is_some()
        );
        assert_eq!(buffer.bytes.capacity(), 0);
    }

    #[test]
    fn input_stops_at_its_limit_and_goes_on_after_consume() {
        let pool = BufferPool::new();
        let mut buffer = InBuffer::default();
        let limit = BUFFER_BYTES + 10;
        let data = vec![7; BUFFER_BYTES];
        assert_eq!(put(&mut buffer, &pool, limit, &data), BUFFER_BYTES);
        assert_eq!(put(&mut buffer, &pool, limit, &data), 10);
        assert_eq!(buffer.unread().len(), limit);
        assert!(buffer.read_with(&pool, limit, |_| Ok(0)).is_none());
        buffer.consume(1, &pool);
        assert_eq!(put(&mut buffer, &pool, limit, b"xy"), 1);
        assert_eq!(buffer.unread().last(), Some(&b'x'));
    }
}
