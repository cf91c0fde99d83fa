//! What scans do not need: facts and heap of a mailbox, read by position.
//!
//! Shared by the writer and by views, so that a session finds a Maildir name without the file
//! lock. Heap entries never change; a facts record is written whole and its CRC tells.

use std::sync::Arc;

use protocol::types::Uid;

use crate::format::facts::{FACTS_BYTES, Facts};
use crate::format::heap::{self, ENTRY_HEADER_BYTES};
use crate::format::index::Record;
use crate::io::StoredFile;
use crate::layout::Location;

/// Bytes of a heap entry that are read at first: most file names fit.
const ENTRY_FIRST_BYTES: usize = 144;

/// Open facts and heap files of one generation.
#[derive(Clone)]
pub(crate) struct Cold {
    pub(crate) facts: Arc<dyn StoredFile>,
    pub(crate) heap: Arc<dyn StoredFile>,
}

impl Cold {
    /// The facts of the message at a position; `None` when damaged or another's.
    pub(crate) fn facts(&self, position: usize, uid: Uid) -> Option<Facts> {
        let mut bytes = [0; FACTS_BYTES];
        self.facts.read_exact_at(&mut bytes, (position * FACTS_BYTES) as u64).ok()?;
        Facts::decode(&bytes, uid.0)
    }

    /// The uid that whole facts at a position state: where the index's record is damaged.
    pub(crate) fn uid(&self, position: usize) -> Option<Uid> {
        let mut bytes = [0; FACTS_BYTES];
        self.facts.read_exact_at(&mut bytes, (position * FACTS_BYTES) as u64).ok()?;
        let uid = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Facts::decode(&bytes, uid).map(|_| Uid(uid))
    }

    /// The data of a heap entry. A file name takes one read.
    pub(crate) fn entry(&self, at: u64, kind: heap::Kind, uid: u32) -> Option<Vec<u8>> {
        let mut first = [0; ENTRY_FIRST_BYTES];
        let got = self.heap.read_at(&mut first, at).ok()?;
        let (header, there) = first.get(..got)?.split_first_chunk::<ENTRY_HEADER_BYTES>()?;
        let len = heap::data_len(header, kind, uid)?;
        let data = match there.get(..len) {
            Some(data) => data.to_vec(),
            None => {
                let mut data = vec![0; len];
                self.heap.read_exact_at(&mut data, at + ENTRY_HEADER_BYTES as u64).ok()?;
                data
            }
        };
        heap::is_whole(header, &data).then_some(data)
    }

    /// Where the file of a record was last seen.
    pub(crate) fn location(&self, position: usize, record: &Record) -> Option<Location> {
        self.file(position, record).map(|(at, _)| at)
    }

    /// Where the file of a record was last seen, and its octets.
    pub(crate) fn file(&self, position: usize, record: &Record) -> Option<(Location, u32)> {
        let facts = self.facts(position, record.uid)?;
        let name = match facts.name_at.get() {
            0 => Vec::new(),
            at => self.entry(at, heap::Kind::FileName, record.uid.0)?,
        };
        Some((named(record, name), facts.stored.get()))
    }
}

/// The location of a message whose heap entry holds `name`: base, NUL, other letters.
fn named(record: &Record, name: Vec<u8>) -> Location {
    let (mut base, mut other_letters) = (name, Vec::new());
    if let Some(nul) = base.iter().position(|&b| b == 0) {
        other_letters = base.split_off(nul + 1);
        base.truncate(nul);
    }
    let (flags, in_new) = (record.name_flags, record.in_new);
    Location { uid: record.uid, base, flags, other_letters, in_new }
}

/// Facts and names of neighbouring messages, read a stretch at a time: for sweeps.
#[derive(Default)]
pub(crate) struct Sweep {
    facts: Vec<u8>,
    /// The position of the first of `facts`.
    first: usize,
    heap: Vec<u8>,
    heap_at: u64,
}

/// Facts that a sweep reads at once.
const SWEEP_RECORDS: usize = 128;
/// Bytes of the heap that it reads at once.
const SWEEP_HEAP_BYTES: usize = 16 << 10;

impl Sweep {
    /// As [`Cold::location`], of one store's mailbox at rising positions; `count` are there.
    pub(crate) fn location(
        &mut self,
        cold: &Cold,
        position: usize,
        count: usize,
        record: &Record,
    ) -> Option<Location> {
        let at = self.facts(cold, position, count, record.uid)?.name_at.get();
        if at == 0 {
            return Some(named(record, Vec::new()));
        }
        if let Some(name) = self.name(at, record.uid) {
            return Some(named(record, name));
        }
        self.heap_at = at;
        self.heap.resize(SWEEP_HEAP_BYTES, 0);
        let read = cold.heap.read_at(&mut self.heap, at).unwrap_or(0);
        self.heap.truncate(read);
        let name = match self.name(at, record.uid) {
            Some(name) => name,
            None => cold.entry(at, heap::Kind::FileName, record.uid.0)?,
        };
        Some(named(record, name))
    }

    /// As [`Cold::facts`], likewise.
    pub(crate) fn facts(
        &mut self,
        cold: &Cold,
        position: usize,
        count: usize,
        uid: Uid,
    ) -> Option<Facts> {
        let there = self.first..self.first + self.facts.len() / FACTS_BYTES;
        if !there.contains(&position) {
            let records = SWEEP_RECORDS.min(count.checked_sub(position)?);
            self.first = position;
            self.facts.resize(records * FACTS_BYTES, 0);
            let read = cold.facts.read_exact_at(&mut self.facts, (position * FACTS_BYTES) as u64);
            if read.is_err() {
                self.facts.clear();
                return cold.facts(position, uid);
            }
        }
        let bytes = self.facts.get((position - self.first) * FACTS_BYTES..)?.get(..FACTS_BYTES)?;
        Facts::decode(bytes, uid.0)
    }

    /// The name at that place of the heap, if it was read, whole.
    fn name(&self, at: u64, uid: Uid) -> Option<Vec<u8>> {
        let start = usize::try_from(at.checked_sub(self.heap_at)?).ok()?;
        let entry = self.heap.get(start..)?;
        let header = entry.first_chunk::<ENTRY_HEADER_BYTES>()?;
        let len = heap::data_len(header, heap::Kind::FileName, uid.0)?;
        let data = entry.get(ENTRY_HEADER_BYTES..)?.get(..len)?;
        heap::is_whole(header, data).then(|| data.to_vec())
    }
}
