//! Compaction: index and facts without tombstones, in new files.
//!
//! The new files are durable before they get the names; older views keep the old ones open. A
//! crash in between leaves the new facts beside the index that they agree with, or with none:
//! [`settle_facts`] tells which at the next opening.

use std::path::Path;
use std::sync::Arc;

use super::files::{Files, INDEX_NAME, SCAN_RECORDS};
use super::tombs::Tombstones;
use crate::error::{Error, Result};
use crate::format::facts::{FACTS_BYTES, Facts};
use crate::format::index::{RECORD_BYTES, RECORDS_OFFSET, words_to_bytes};
use crate::io::{Open, Storage};
use crate::mapped::Table;

impl Files {
    /// Replaces index and facts by ones without tombstones: a new generation, made durable before
    /// it gets the names. Older views keep the old files open.
    pub(crate) fn compact(&mut self, storage: &dyn Storage, owner_epoch: u32) -> Result<()> {
        settle_facts(storage, &self.dir, &self.table, self.head.count)?;
        let live: Vec<usize> = (0..self.head.count).filter(|&p| !self.tombs.contains(p)).collect();
        let mut floor = self.head.vanished_floor;
        for position in (0..self.head.count).filter(|&p| self.tombs.contains(p)) {
            floor = floor.max(self.record(position).modseq);
        }
        let open_new = |name: &str| {
            let path = self.dir.join(name);
            let _ = storage.unlink(&path);
            storage.open(&path, Open::CreateNew).map_err(Error::io("create", &path))
        };
        let (index, facts) = (open_new("cursus.index.new")?, open_new("cursus.facts.new")?);
        for (chunk_index, chunk) in live.chunks(SCAN_RECORDS).enumerate() {
            let at = chunk_index * SCAN_RECORDS;
            let mut records = Vec::with_capacity(chunk.len() * RECORD_BYTES);
            let mut fact_bytes = vec![0; chunk.len() * FACTS_BYTES];
            for (i, &position) in chunk.iter().enumerate() {
                records.extend_from_slice(&words_to_bytes(&self.table.words(position)));
                let out = &mut fact_bytes[i * FACTS_BYTES..][..FACTS_BYTES];
                let from = (position * FACTS_BYTES) as u64;
                self.cold.facts.read_exact_at(out, from).map_err(Error::io("read", &self.dir))?;
            }
            let to = RECORDS_OFFSET + (at * RECORD_BYTES) as u64;
            index.write_at(&records, to).map_err(Error::io("write", &self.dir))?;
            let to = (at * FACTS_BYTES) as u64;
            facts.write_at(&fact_bytes, to).map_err(Error::io("write", &self.dir))?;
        }
        let old_index = std::mem::replace(&mut self.index, index);
        let old_facts = std::mem::replace(&mut self.cold.facts, facts);
        let old = (self.head.clone(), self.tombs.clone());
        self.head.count = live.len();
        self.head.generation += 1;
        self.head.vanished_floor = floor;
        self.tombs = Tombstones::default();
        let switched = self.write_both_slots(owner_epoch).and_then(|()| {
            self.sync()?;
            let path = self.dir.join(INDEX_NAME);
            let table = Table::open(&*self.index, &path, self.head.count, &self.trust)?;
            let from = self.dir.join("cursus.index.new");
            storage.rename(&from, &self.dir.join(INDEX_NAME)).map_err(Error::io("rename", from))?;
            Ok(table)
        });
        match switched {
            Ok(table) => {
                self.table = Arc::new(table);
                // By the index all is done; the facts are found under either name.
                if let Err(error) = settle_facts(storage, &self.dir, &self.table, self.head.count) {
                    tracing::warn!(%error, "new facts keep their first name for now");
                }
                Ok(())
            }
            Err(error) => {
                (self.index, self.cold.facts) = (old_index, old_facts);
                (self.head, self.tombs) = old;
                Err(error)
            }
        }
    }
}

/// Ends what a compaction began: new facts that agree with the index get their name, others never
/// came to have an index.
pub(super) fn settle_facts(
    storage: &dyn Storage,
    dir: &Path,
    table: &Table,
    count: usize,
) -> Result<()> {
    let fresh = dir.join("cursus.facts.new");
    let file = match storage.open(&fresh, Open::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("open", fresh)(e)),
    };
    let agree = |position: usize| {
        let mut bytes = [0; FACTS_BYTES];
        file.read_exact_at(&mut bytes, (position * FACTS_BYTES) as u64).is_ok()
            && Facts::decode(&bytes, table.first_word(position) as u32).is_some()
    };
    let settled = if (0..count).all(agree) {
        storage.rename(&fresh, &dir.join("cursus.facts"))
    } else {
        storage.unlink(&fresh)
    };
    settled.and_then(|()| storage.sync_dir(dir)).map_err(Error::io("settle", fresh))
}
