//! The file names of a whole mailbox in memory, read in two sweeps over heap and facts.

use std::sync::Arc;

use super::files::{Files, SCAN_RECORDS};
use crate::error::{Error, Result};
use crate::format::facts::{FACTS_BYTES, Facts};
use crate::format::heap::{self, ENTRY_HEADER_BYTES};
use crate::io::StoredFile;

impl Files {
    /// The file names of all messages, tombstones included, read in two sweeps.
    pub(crate) fn names(&self) -> Result<Names> {
        // What is cut off reads as zeros: no whole entry.
        let read = |file: &Arc<dyn StoredFile>, name: &str, bytes: &mut [u8], at: u64| match file
            .read_exact_at(bytes, at)
        {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
            other => other.map_err(Error::io("read", self.dir.join(name))),
        };
        let mut heap = vec![0; self.head.heap_bytes as usize];
        read(&self.cold.heap, "cursus.heap", &mut heap, 0)?;
        let mut entries = Vec::with_capacity(self.head.count);
        let mut facts = Vec::new();
        for start in (0..self.head.count).step_by(SCAN_RECORDS) {
            let end = (start + SCAN_RECORDS).min(self.head.count);
            facts.clear();
            facts.resize((end - start) * FACTS_BYTES, 0);
            read(&self.cold.facts, "cursus.facts", &mut facts, (start * FACTS_BYTES) as u64)?;
            for (position, bytes) in (start..end).zip(facts.chunks_exact(FACTS_BYTES)) {
                let uid = self.record(position).uid.0;
                let name = Facts::decode(bytes, uid)
                    .and_then(|facts| heap_slice(&heap, facts.name_at.get(), uid));
                if name.is_none() {
                    self.damage.note(position);
                }
                entries.push(name.unwrap_or(0..0));
            }
        }
        Ok(Names { heap, entries })
    }
}

/// File names of a mailbox in memory, for comparing with a listing.
pub(crate) struct Names {
    heap: Vec<u8>,
    /// By position; empty where facts or heap are damaged.
    entries: Vec<std::ops::Range<usize>>,
}

impl Names {
    /// Base name and uninterpreted letters of the file at a position; both empty when unknown.
    pub(crate) fn of(&self, position: usize) -> (&[u8], &[u8]) {
        let Some(range) = self.entries.get(position) else { return (&[], &[]) };
        let name = &self.heap[range.clone()];
        match name.iter().position(|&b| b == 0) {
            Some(nul) => (&name[..nul], &name[nul + 1..]),
            None => (name, &[]),
        }
    }
}

/// The data of a whole file-name entry inside a heap in memory.
fn heap_slice(heap: &[u8], at: u64, uid: u32) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(at).ok().filter(|at| *at != 0)?;
    let header = heap.get(start..start.checked_add(ENTRY_HEADER_BYTES)?)?;
    let header: &[u8; ENTRY_HEADER_BYTES] = header.try_into().ok()?;
    let len = heap::data_len(header, heap::Kind::FileName, uid)?;
    let data = start + ENTRY_HEADER_BYTES;
    let bytes = heap.get(data..data.checked_add(len)?)?;
    heap::is_whole(header, bytes).then_some(data..data + len)
}
