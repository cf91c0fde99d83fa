//! Bytes owed to the client, in order.
//!
//! The queue itself has no upper bound: a session that makes much output asks [`OutQueue::is_high`]
//! after each piece (a message, a few list lines) and flushes before it makes more. So memory is
//! bounded by the high-water mark and one piece.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::buffer::{BUFFER_BYTES, BufferPool, LARGE_BUFFER_BYTES};

/// A buffer at least this big is queued itself instead of being copied.
const MOVE_BYTES_MIN: usize = 4 * 1024;

/// A chunk with so many bytes takes no further piece: most pieces fit behind it without a copy.
const FULL_BYTES: usize = BUFFER_BYTES - 2 * 1024;

/// Buffers handed to the kernel in one write.
pub(crate) const SLICES_MAX: usize = 32;

/// Bytes owed to the client, in order. Write to it, then [`super::Conn::flush`].
pub struct OutQueue {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that were sent already.
    sent: usize,
    len: usize,
    bytes_high: usize,
    pool: BufferPool,
}

impl OutQueue {
    pub(crate) fn new(bytes_high: usize, pool: BufferPool) -> OutQueue {
        OutQueue { chunks: VecDeque::new(), sent: 0, len: 0, bytes_high, pool }
    }

    /// Bytes not yet sent.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether so much is queued that the session should flush before it makes more.
    pub fn is_high(&self) -> bool {
        self.len >= self.bytes_high
    }

    /// Appends a copy of `bytes`.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.chunks.back().map_or(0, |c| c.capacity() - c.len());
            if room == 0 {
                self.chunks.push_back(self.pool.borrow());
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if let Some(chunk) = self.chunks.back_mut() {
                chunk.extend_from_slice(now);
            }
            self.len += now.len();
            bytes = later;
        }
    }

    /// Appends `bytes`, without a copy if they are many.
    pub fn push_vec(&mut self, bytes: Vec<u8>) {
        if bytes.len() < MOVE_BYTES_MIN {
            self.push(&bytes);
            return;
        }
        self.len += bytes.len();
        self.chunks.push_back(bytes);
    }

    /// As [`OutQueue::push_vec`], with a buffer of the pool, which goes back there.
    pub(crate) fn push_buffer(&mut self, buffer: Vec<u8>) {
        if buffer.len() < MOVE_BYTES_MIN {
            self.push(&buffer);
            self.pool.give_back(buffer);
        } else {
            self.push_vec(buffer);
        }
    }

    /// Lets `encode` append to a plain vector: the queue's last chunk, which may grow.
    ///
    /// Called once a message in a long FETCH, so it moves nothing about.
    pub fn with_vec<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        if self.chunks.back().is_none_or(|chunk| chunk.len() >= FULL_BYTES) {
            self.chunks.push_back(self.pool.borrow());
        }
        self.append_to_last(encode)
    }

    fn append_to_last<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let Some(chunk) = self.chunks.back_mut() else {
            let mut bytes = Vec::new();
            let result = encode(&mut bytes);
            self.push_vec(bytes);
            return result;
        };
        let before = chunk.len();
        let result = encode(chunk);
        self.len += chunk.len().saturating_sub(before);
        if chunk.is_empty()
            && let Some(chunk) = self.chunks.pop_back()
        {
            self.pool.give_back(chunk);
        }
        result
    }

    /// As [`OutQueue::with_vec`], for a piece of a long answer: `encode` may append about 64 KiB
    /// without the vector having to grow.
    pub fn with_large<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let room = |chunk: &Vec<u8>| chunk.capacity() - chunk.len();
        if self.chunks.back().is_none_or(|chunk| room(chunk) < LARGE_BUFFER_BYTES / 2) {
            self.chunks.push_back(self.pool.borrow_large());
        }
        self.append_to_last(encode)
    }

    /// Fills `slices` with the unsent bytes, for one vectored write; returns how many it filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, chunk) in slices.iter_mut().zip(&self.chunks) {
            let start = if count == 0 { self.sent } else { 0 };
            *slot = IoSlice::new(&chunk[start..]);
            count += 1;
        }
        count
    }

    /// The unsent bytes behind the first `skip` of them, in pieces.
    pub(crate) fn pieces_behind(&self, skip: usize) -> impl Iterator<Item = &[u8]> {
        let mut skip = skip + self.sent;
        self.chunks.iter().map(move |chunk| {
            let start = skip.min(chunk.len());
            skip -= start;
            &chunk[start..]
        })
    }

    /// The unsent bytes of the first chunk.
    pub(crate) fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| &chunk[self.sent..])
    }

    /// Forgets the first `n` bytes, which were sent.
    pub(crate) fn advance(&mut self, mut n: usize) {
        self.len -= n;
        while let Some(chunk) = self.chunks.front() {
            let left = chunk.len() - self.sent;
            if n < left {
                self.sent += n;
                return;
            }
            n -= left;
            self.sent = 0;
            if let Some(chunk) = self.chunks.pop_front() {
                self.pool.give_back(chunk);
            }
        }
        // An idle session keeps no table of chunks either.
        self.chunks = VecDeque::new();
    }
}

impl std::io::Write for OutQueue {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(queue: &OutQueue) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = queue.slices(&mut slices);
        slices[..count].iter().flat_map(|s| s.iter().copied()).collect()
    }

    #[test]
    fn order_is_kept_over_copies_moves_and_partial_sends() {
        let mut queue = OutQueue::new(100_000, BufferPool::new());
        let big: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
        queue.push(b"abc");
        queue.push_vec(big.clone());
        queue.push(b"def");
        queue.with_vec(|v| v.extend_from_slice(b"gh"));
        queue.with_large(|v| v.extend_from_slice(b"i"));
        let whole = [b"abc".as_slice(), &big, b"defghi"].concat();
        assert_eq!(content(&queue), whole);
        for step in [1, 2, 3, 40_000, 9_990] {
            let before = content(&queue);
            queue.advance(step);
            assert_eq!(content(&queue), before[step..]);
            for skip in [0, 1, 5, 9_999].map(|n| n.min(queue.len())) {
                let behind: Vec<_> = queue.pieces_behind(skip).collect();
                assert_eq!(behind.concat(), content(&queue)[skip..]);
            }
        }
        queue.advance(queue.len());
        assert!(queue.is_empty() && queue.chunks.capacity() == 0);
    }

    #[test]
    fn the_mark_is_reached_at_its_value() {
        let mut queue = OutQueue::new(20_000, BufferPool::new());
        queue.push(&[0; 19_999]);
        assert!(!queue.is_high());
        queue.push(&[0]);
        assert!(queue.is_high());
    }
}
