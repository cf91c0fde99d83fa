//! The compression layer of a connection: DEFLATE (RFC 1951) in both directions, RFC 4978.
//!
//! Between the session's buffers and the socket, or TLS where that is in force. Invariants:
//!
//! - Output is compressed a buffer at a time, as the socket takes it, and flushed when the queue is
//!   empty; so what waits here is bounded by [`BUFFER_BYTES`].
//! - Input is decompressed only into room that the session's input has: however small a bomb is, no
//!   more than the framing limits of its content is ever in memory.
//! - A compressor and a decompressor belong to the core and are lent. A connection that waits gives
//!   the compressor back as soon as its output is flushed (a new one starts with an empty window,
//!   which the client's side does not notice), and the decompressor when it stands between two
//!   blocks, as after every flush of the client: what is kept is the window, as far as it was used.
//! - A decompressor is lent with a window of zeros behind the connection's own: a stream that refers
//!   to what it never sent finds nothing of others.
//! - The client's end of the layer (RFC 8437 section 4.1) is found block by block, so no byte that
//!   was sent behind it in the clear is taken for compressed.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
};
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, decompress_with_limit};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status};

use super::buffer::{BUFFER_BYTES, BufferPool, InBuffer};
use super::out_queue::OutQueue;

/// How far back a DEFLATE stream may refer (RFC 1951 section 2).
const WINDOW_BYTES: usize = 32 << 10;

/// Compressors and decompressors that a core keeps for the next one who wants one.
const POOLED_MAX: usize = 16;

/// Above so many that are lent, connections give theirs back as soon as they wait.
const LENT_HIGH: usize = 64;

/// How long a connection that waits keeps what it was lent while few are.
pub(super) const KEEP_IDLE: Duration = Duration::from_secs(1);

/// How much is decompressed before other sessions run.
const TURN_BYTES: usize = 64 << 10;

/// A quarter of the memory of zlib's default, at a little less compression: 64 KiB a compressor.
const MEM_LEVEL: i32 = 6;

/// The core's compressors and decompressors.
#[derive(Clone, Default)]
pub struct DeflatePool {
    inner: Rc<Pooled>,
}

#[derive(Default)]
struct Pooled {
    /// With their levels: a reload may change it.
    compressors: RefCell<Vec<(u8, Deflate)>>,
    inflaters: RefCell<Vec<Box<Inflater>>>,
    /// Compressors and inflaters with connections.
    lent: Cell<usize>,
}

impl DeflatePool {
    fn is_scarce(&self) -> bool {
        self.inner.lent.get() > LENT_HIGH
    }

    /// How many are lent, for tests.
    #[cfg(test)]
    pub(super) fn lent(&self) -> usize {
        self.inner.lent.get()
    }

    fn lend(&self) {
        self.inner.lent.set(self.inner.lent.get() + 1);
    }

    fn returned(&self) {
        self.inner.lent.set(self.inner.lent.get().saturating_sub(1));
    }

    fn compressor(&self, level: u8) -> Deflate {
        self.lend();
        let pooled = self.inner.compressors.borrow_mut().pop();
        let fitting = pooled.filter(|(of_level, _)| *of_level == level);
        fitting.map(|(_, compressor)| compressor).unwrap_or_else(|| {
            Deflate::new_with_config(DeflateConfig {
                level: i32::from(level),
                // Negative: without zlib's header.
                window_bits: -15,
                mem_level: MEM_LEVEL,
                ..DeflateConfig::default()
            })
        })
    }

    fn take_compressor(&self, level: u8, mut compressor: Deflate) {
        self.returned();
        let mut pooled = self.inner.compressors.borrow_mut();
        if pooled.len() < POOLED_MAX {
            compressor.reset();
            pooled.push((level, compressor));
        }
    }

    fn inflater(&self, parked: &Parked) -> Box<Inflater> {
        self.lend();
        let pooled = self.inner.inflaters.borrow_mut().pop();
        let mut inflater = pooled.unwrap_or_default();
        inflater.resume(parked);
        inflater
    }

    fn take_inflater(&self, inflater: Box<Inflater>) {
        self.returned();
        let mut pooled = self.inner.inflaters.borrow_mut();
        if pooled.len() < POOLED_MAX {
            pooled.push(inflater);
        }
    }
}

/// What a decompressor between two blocks comes down to.
#[derive(Default)]
struct Parked {
    /// The last bytes that came out, [`WINDOW_BYTES`] at most.
    window: Vec<u8>,
    boundary: BlockBoundaryState,
}

/// A decompressor and its window.
struct Inflater {
    core: DecompressorOxide,
    /// [`WINDOW_BYTES`], written round and round.
    ring: Vec<u8>,
    /// Where the next byte goes, below [`WINDOW_BYTES`].
    at: usize,
    /// How much of the ring was ever written.
    filled: usize,
}

impl Default for Inflater {
    fn default() -> Inflater {
        let (core, ring) = (DecompressorOxide::new(), vec![0; WINDOW_BYTES]);
        Inflater { core, ring, at: 0, filled: 0 }
    }
}

/// How a call of the decompressor ended.
enum Stretch {
    /// Between two blocks.
    Boundary,
    /// The last block is over.
    Finished,
    /// Room is used up: there may be more.
    Full,
    /// Input is used up.
    Hungry,
}

impl Inflater {
    fn resume(&mut self, parked: &Parked) {
        let (window, behind) = self.ring.split_at_mut(parked.window.len());
        window.copy_from_slice(&parked.window);
        behind.fill(0);
        self.filled = parked.window.len();
        self.at = self.filled % WINDOW_BYTES;
        self.core = DecompressorOxide::from_block_boundary_state(&parked.boundary);
    }

    /// `None` in the middle of a block.
    fn park(&self) -> Option<Parked> {
        let boundary = self.core.block_boundary_state()?;
        let mut window = Vec::with_capacity(self.filled);
        if self.filled == WINDOW_BYTES {
            window.extend_from_slice(&self.ring[self.at..]);
        }
        window.extend_from_slice(&self.ring[..self.at]);
        Some(Parked { window, boundary })
    }

    /// Takes from `input` and fills `room`: bytes taken, bytes made.
    fn run(&mut self, input: &[u8], room: &mut [u8]) -> io::Result<(usize, usize, Stretch)> {
        let most = room.len().min(WINDOW_BYTES - self.at);
        let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
        let (status, taken, made) =
            decompress_with_limit(&mut self.core, input, &mut self.ring, self.at, most, flags);
        let stretch = match status {
            TINFLStatus::BlockBoundary => Stretch::Boundary,
            TINFLStatus::Done => Stretch::Finished,
            TINFLStatus::HasMoreOutput => Stretch::Full,
            TINFLStatus::NeedsMoreInput => Stretch::Hungry,
            _ => {
                let reason = "what the client sends is not compressed as it should be";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        };
        room[..made].copy_from_slice(&self.ring[self.at..self.at + made]);
        self.at += made;
        self.filled = self.filled.max(self.at);
        self.at %= WINDOW_BYTES;
        Ok((taken, made, stretch))
    }
}

/// The compression layer of one connection.
pub(super) struct Layer {
    pool: DeflatePool,
    buffers: BufferPool,
    level: u8,
    compressor: Option<Deflate>,
    /// Bytes went into the compressor that were not flushed out of it.
    unflushed: bool,
    /// The last flush ends the stream.
    finishing: bool,
    finished: bool,
    /// Compressed bytes for the socket.
    pub(super) wire: OutQueue,
    /// Compressed bytes from the socket.
    pub(super) raw: InBuffer,
    inflater: Option<Box<Inflater>>,
    parked: Parked,
    /// The decompressor may have bytes although `raw` is empty.
    more: bool,
    /// Bytes that the present block has given.
    block_bytes: usize,
    /// The client's stream has ended by its own word.
    ended: bool,
    /// Bytes given since the session last waited.
    turn_bytes: usize,
}

impl Layer {
    pub(super) fn new(pool: DeflatePool, buffers: BufferPool, level: u8) -> Layer {
        Layer {
            pool,
            level,
            compressor: None,
            unflushed: false,
            finishing: false,
            finished: false,
            wire: OutQueue::new(BUFFER_BYTES, buffers.clone()),
            buffers,
            raw: InBuffer::default(),
            inflater: None,
            parked: Parked::default(),
            more: false,
            block_bytes: 0,
            ended: false,
            turn_bytes: 0,
        }
    }

    /// From the next flush on the stream is over: it ends with everything that is in `out` then.
    pub(super) fn finish_output(&mut self) {
        self.finishing = true;
    }

    /// Compresses from `out` until [`Layer::wire`] has a buffer's worth, or all is there and flushed.
    /// `true`: nothing is left but what is in `wire`.
    pub(super) fn compress(&mut self, out: &mut OutQueue) -> io::Result<bool> {
        loop {
            let last = out.is_empty();
            if last && !self.unflushed && (!self.finishing || self.finished) {
                return Ok(true);
            }
            if self.wire.is_high() {
                return Ok(false);
            }
            let flush = match last {
                false => DeflateFlush::NoFlush,
                true if self.finishing => DeflateFlush::Finish,
                true => DeflateFlush::SyncFlush,
            };
            let (pool, level) = (&self.pool, self.level);
            let compressor = self.compressor.get_or_insert_with(|| pool.compressor(level));
            let (taken, made) = (compressor.total_in(), compressor.total_out());
            let mut piece = self.buffers.borrow();
            piece.resize(BUFFER_BYTES, 0);
            let status = compressor.compress(out.front(), &mut piece, flush);
            let taken = (compressor.total_in() - taken) as usize;
            piece.truncate((compressor.total_out() - made) as usize);
            // A flush is complete when it leaves room.
            let flushed = last && piece.len() < BUFFER_BYTES;
            self.wire.push_buffer(piece);
            out.advance(taken);
            match status {
                Ok(Status::StreamEnd) => (self.finished, self.unflushed) = (true, false),
                Ok(_) => self.unflushed = !flushed || self.finishing,
                Err(error) => return Err(io::Error::other(error.as_str())),
            }
        }
    }

    /// Whether the next call of [`Layer::decompress`] may give something without the socket.
    pub(super) fn has_input(&self) -> bool {
        self.more || !self.raw.unread().is_empty()
    }

    /// Whether so much was given that others should run.
    pub(super) fn turn_is_over(&mut self) -> bool {
        if self.turn_bytes < TURN_BYTES {
            return false;
        }
        self.turn_bytes = 0;
        true
    }

    /// The session has waited: a new turn.
    pub(super) fn waited(&mut self) {
        self.turn_bytes = 0;
    }

    /// Fills `room` as far as the input goes, at most to the end of a block that gave something. 0
    /// when there is nothing.
    ///
    /// # Errors
    /// `InvalidData` if the input is no DEFLATE stream, `UnexpectedEof` if it goes on behind its own
    /// end.
    pub(super) fn decompress(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut given = 0;
        while given < room.len() && self.has_input() {
            if self.ended {
                match given {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    _ => break,
                }
            }
            let (pool, parked) = (&self.pool, &mut self.parked);
            let inflater = self.inflater.get_or_insert_with(|| {
                let inflater = pool.inflater(parked);
                *parked = Parked::default();
                inflater
            });
            let (taken, made, stretch) = inflater.run(self.raw.unread(), &mut room[given..])?;
            given += made;
            self.block_bytes += made;
            self.raw.consume(taken, &self.buffers);
            match stretch {
                Stretch::Full => self.more = true,
                Stretch::Hungry => self.more = false,
                Stretch::Finished => {
                    self.more = false;
                    self.ended = true;
                }
                Stretch::Boundary => {
                    self.more = false;
                    let gave = std::mem::take(&mut self.block_bytes) > 0;
                    if gave && given > 0 {
                        break;
                    }
                }
            }
        }
        self.turn_bytes += given;
        Ok(given)
    }

    /// Takes what ends the client's stream behind its last command: the rest of its last block, and
    /// the empty block of its flush, or nothing if it finished the stream. `true` when that was all
    /// there, and [`Layer::raw`] is what it sent in the clear; `false`: more has to be read.
    ///
    /// # Errors
    /// `InvalidData` if it compressed a further command.
    pub(super) fn end_input(&mut self) -> io::Result<bool> {
        while !self.ended {
            if self.raw.unread().is_empty() {
                return Ok(false);
            }
            let (pool, parked) = (&self.pool, &self.parked);
            let inflater = self.inflater.get_or_insert_with(|| pool.inflater(parked));
            // Byte by byte, so that the decompressor holds none that is not its own.
            let (taken, made, stretch) = inflater.run(&self.raw.unread()[..1], &mut [0])?;
            self.raw.consume(taken, &self.buffers);
            if made > 0 {
                let reason = "a command behind the one that ends the compression";
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            match stretch {
                Stretch::Full | Stretch::Hungry => {}
                Stretch::Finished => self.ended = true,
                // The first one may be that of the command's own block.
                Stretch::Boundary => self.ended = std::mem::take(&mut self.block_bytes) == 0,
            }
        }
        Ok(true)
    }

    /// Whether a connection that waits should give back at once what it was lent.
    pub(super) fn is_scarce(&self) -> bool {
        self.pool.is_scarce()
    }

    /// Gives back what was lent, as far as the streams stand where that can be done.
    pub(super) fn release(&mut self) {
        if !self.unflushed
            && let Some(compressor) = self.compressor.take()
        {
            self.pool.take_compressor(self.level, compressor);
        }
        if !self.has_input()
            && !self.ended
            && let Some(parked) = self.inflater.as_ref().and_then(|inflater| inflater.park())
        {
            self.parked = parked;
            self.inflater.take().into_iter().for_each(|inflater| self.pool.take_inflater(inflater));
        }
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        if let Some(compressor) = self.compressor.take() {
            self.pool.take_compressor(self.level, compressor);
        }
        if let Some(inflater) = self.inflater.take() {
            self.pool.take_inflater(inflater);
        }
    }
}
