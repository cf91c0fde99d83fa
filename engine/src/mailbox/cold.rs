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

    /// The data of a heap entry.
    pub(crate) fn entry(&self, at: u64, kind: heap::Kind, uid: u32) -> Option<Vec<u8>> {
        let mut header = [0; ENTRY_HEADER_BYTES];
        self.heap.read_exact_at(&mut header, at).ok()?;
        let len = heap::data_len(&header, kind, uid)?;
        let mut data = vec![0; len];
        self.heap.read_exact_at(&mut data, at + ENTRY_HEADER_BYTES as u64).ok()?;
        heap::is_whole(&header, &data).then_some(data)
    }

    /// Where the file of a record was last seen.
    pub(crate) fn location(&self, position: usize, record: &Record) -> Option<Location> {
        let facts = self.facts(position, record.uid)?;
        let (mut base, mut other_letters) = (Vec::new(), Vec::new());
        if facts.name_at.get() != 0 {
            base = self.entry(facts.name_at.get(), heap::Kind::FileName, record.uid.0)?;
            if let Some(nul) = base.iter().position(|&b| b == 0) {
                other_letters = base.split_off(nul + 1);
                base.truncate(nul);
            }
        }
        let (flags, in_new) = (record.name_flags, record.in_new);
        Some(Location { uid: record.uid, base, flags, other_letters, in_new })
    }
}
