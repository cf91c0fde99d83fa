//! The home of mmap and its `unsafe`: index records and cache blobs as other threads see them.
//!
//! One writer changes a file with `write_at`; readers load through a shared read-only map, record
//! by record, with atomic 8-byte loads. A record may be seen half changed: its CRC tells, and the
//! reader looks again. Small tables, and every table where the storage does not map, are held in
//! memory instead and the writer stores into them too.
//!
//! Invariants: a map may reach past the end of its file, and only what lies below the committed
//! count is touched; a mapped file is never cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::format::index::{RECORD_BYTES, RECORDS_OFFSET, Words, words_from_bytes};
use crate::io::StoredFile;

/// Tables of at most this many records are read into memory rather than mapped.
const SMALL_RECORDS: usize = 256;
/// Caches of at most this many bytes are read blob by blob rather than mapped.
const SMALL_CACHE_BYTES: u64 = 64 << 10;

enum Memory {
    Map(Mmap),
    Words(Box<[AtomicU64]>),
}

/// The records of an index file.
pub struct Table {
    memory: Memory,
    /// Records that fit.
    capacity: usize,
    /// No message below this position is without `\Seen`; with a count of the times that it was
    /// lowered, so that a scan beside a change does not raise it over what changed.
    unseen_floor: Mutex<(u64, usize)>,
}

impl Table {
    /// Opens the table of a file that holds `count` committed records.
    pub fn open(file: &dyn StoredFile, count: usize) -> Result<Table> {
        let io = |what| Error::io(what, "cursus.index");
        let capacity = (count + count / 2 + 64).next_power_of_two();
        if count > SMALL_RECORDS {
            let len = RECORDS_OFFSET as usize + capacity * RECORD_BYTES;
            if let Some(map) = file.map(len).map_err(io("map"))? {
                return Ok(Table {
                    memory: Memory::Map(map),
                    capacity,
                    unseen_floor: Mutex::default(),
                });
            }
        }
        let mut bytes = vec![0; count * RECORD_BYTES];
        file.read_exact_at(&mut bytes, RECORDS_OFFSET).map_err(io("read"))?;
        let words: Box<[AtomicU64]> = (0..capacity * 8).map(|_| AtomicU64::new(0)).collect();
        let memory = Memory::Words(words);
        let table = Table { memory, capacity, unseen_floor: Mutex::default() };
        for (i, record) in bytes.chunks_exact(RECORD_BYTES).enumerate() {
            table.written(i, &words_from_bytes(record));
        }
        Ok(table)
    }

    /// Whether a table of `count` records should be opened anew: it is full, or could be mapped.
    pub fn outgrown(&self, count: usize) -> bool {
        count > self.capacity
    }

    fn cell(&self, index: usize, word: usize) -> &AtomicU64 {
        assert!(index < self.capacity && word < 8);
        match &self.memory {
            Memory::Words(words) => &words[index * 8 + word],
            Memory::Map(map) => {
                let offset = RECORDS_OFFSET as usize + index * RECORD_BYTES + word * 8;
                debug_assert!(offset + 8 <= map.len());
                // SAFETY: the assertion above keeps the offset inside the map, which was made
                // `RECORDS_OFFSET + capacity * RECORD_BYTES` long; maps begin at a page border
                // and offsets are multiples of 8, so the pointer is aligned; the map lives as
                // long as `self`. Other threads change the file only through the kernel, which
                // an atomic load tolerates. Callers keep `index` below the committed count, so
                // the page exists in the file (no SIGBUS).
                unsafe { &*map.as_ptr().add(offset).cast::<AtomicU64>() }
            }
        }
    }

    /// The record at `index`, below the committed count; possibly half changed.
    pub fn words(&self, index: usize) -> Words {
        let mut out = [0; 8];
        for (i, word) in out.iter_mut().enumerate() {
            *word = u64::from_le(self.cell(index, i).load(Ordering::Acquire));
        }
        out
    }

    /// The first word alone: uid and flags.
    pub fn first_word(&self, index: usize) -> u64 {
        u64::from_le(self.cell(index, 0).load(Ordering::Acquire))
    }

    /// Where a scan for the first unseen message may begin, and what [`Table::raise_unseen_floor`]
    /// wants to know.
    pub fn unseen_floor(&self) -> (u64, usize) {
        *self.unseen_floor.lock()
    }

    /// A scan that began with `lowered` found the first unseen message at `position`.
    pub fn raise_unseen_floor(&self, lowered: u64, position: usize) {
        let mut floor = self.unseen_floor.lock();
        if floor.0 == lowered {
            floor.1 = position;
        }
    }

    /// Told by the writer after a message without `\Seen` was written at `position`.
    pub fn lower_unseen_floor(&self, position: usize) {
        let mut floor = self.unseen_floor.lock();
        *floor = (floor.0 + 1, floor.1.min(position));
    }

    /// Told by the writer after it wrote the record into the file.
    pub fn written(&self, index: usize, record: &Words) {
        if let Memory::Words(words) = &self.memory {
            for (i, word) in record.iter().enumerate() {
                words[index * 8 + i].store(word.to_le(), Ordering::Release);
            }
        }
    }
}

/// The blobs of a cache file.
pub struct Blobs {
    file: Arc<dyn StoredFile>,
    map: Option<Mmap>,
}

/// Bytes of a blob: borrowed from the map, or read.
pub enum BlobBytes<'a> {
    /// In the map.
    Mapped(&'a [u8]),
    /// Read for this call.
    Read(Vec<u8>),
}

impl std::ops::Deref for BlobBytes<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            BlobBytes::Mapped(bytes) => bytes,
            BlobBytes::Read(bytes) => bytes,
        }
    }
}

impl Blobs {
    /// Opens the blobs of a file of which `committed` bytes are in use.
    pub fn open(file: Arc<dyn StoredFile>, committed: u64) -> Result<Blobs> {
        let map = if committed > SMALL_CACHE_BYTES {
            let len = (committed + committed / 2).next_power_of_two() as usize;
            file.map(len).map_err(Error::io("map", "cursus.cache"))?
        } else {
            None
        };
        Ok(Blobs { file, map })
    }

    /// Whether a file of `committed` bytes should be opened anew.
    pub fn outgrown(&self, committed: u64) -> bool {
        match &self.map {
            Some(map) => committed > map.len() as u64,
            None => committed > 2 * SMALL_CACHE_BYTES,
        }
    }

    /// `len` bytes at `offset`, which lie below the committed length; `None` when they do not
    /// (a damaged record) or cannot be read.
    pub fn bytes(&self, offset: u64, len: usize, committed: u64) -> Option<BlobBytes<'_>> {
        let end = offset.checked_add(len as u64)?;
        if end > committed {
            return None;
        }
        if let Some(map) = &self.map {
            // Bytes below the committed length never change, so a plain slice is sound.
            return map.get(offset as usize..end as usize).map(BlobBytes::Mapped);
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(BlobBytes::Read(bytes))
    }
}
