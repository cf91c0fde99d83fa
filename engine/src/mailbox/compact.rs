//! Compaction: index and facts without tombstones, in new files.
//!
//! Three steps, so that the file lock is held only for the first and the last, whose cost does
//! not grow with the mailbox: [`Files::begin_compaction`] notes what there is;
//! [`Compaction::copy`] writes the new files and makes them durable beside the running work;
//! [`Files::end_compaction`] adds what changed meanwhile and gives the new files the names.
//!
//! The new files and their first names are durable before they get the names, and the index has its
//! name for good before the facts get theirs: a filesystem may keep a later change of names and lose
//! an earlier one. Older views keep the old files open. A crash in between leaves the new facts
//! beside the index that they agree with, or with none: [`settle_facts`] tells which at the next
//! opening.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use protocol::types::ModSeq;

use super::cold::Cold;
use super::files::{Files, INDEX_NAME, SCAN_RECORDS};
use super::placing::replace;
use super::tombs::Tombstones;
use crate::error::{Error, Result};
use crate::format::facts::{FACTS_BYTES, Facts};
use crate::format::index::{RECORD_BYTES, RECORDS_OFFSET, Record, words_to_bytes};
use crate::io::{Open, Storage, StoredFile};
use crate::mapped::Table;

/// What the table before the last compaction was, so that views of it can be compared with
/// newer ones without a look at every message.
pub(crate) struct Lineage {
    /// The generation that was compacted.
    pub(crate) generation: u32,
    /// The tombstones that were left out.
    pub(crate) dropped: Tombstones,
}

impl Lineage {
    /// Where a record of the old table is in the new one; it is not one of the dropped.
    fn position_now(&self, position: usize) -> usize {
        position - self.dropped.rank(position) as usize
    }
}

/// The generation that took a table's place. Nothing is written to a table from then on, so views of
/// it read the records of what is still there from its heir.
pub(crate) struct Heir {
    lineage: Arc<Lineage>,
    table: Arc<Table>,
    /// Records of `table` when it took over.
    count: usize,
    /// Of `table` itself.
    next: Arc<OnceLock<Heir>>,
}

impl Heir {
    /// The record that is at `position` in the table before this one: `None` when it was left out and
    /// is a tombstone for ever, `Some(None)` when it is damaged, which readers of newer views mend.
    pub(crate) fn record(&self, position: usize) -> Option<Option<Record>> {
        let (mut heir, mut position) = (self, position);
        loop {
            if heir.lineage.dropped.contains(position) {
                return None;
            }
            position = heir.lineage.position_now(position);
            match heir.next.get() {
                Some(next) => heir = next,
                None => return Some(heir.table.record(position, heir.count)),
            }
        }
    }
}

/// A compaction under way.
pub(crate) struct Compaction {
    dir: PathBuf,
    table: Arc<Table>,
    cold: Cold,
    count: usize,
    lineage: Lineage,
    floor: ModSeq,
    copied: Option<(Arc<dyn StoredFile>, Arc<dyn StoredFile>)>,
}

impl Compaction {
    /// Writes records and facts of what lives into new files and makes them durable. Without the
    /// file lock: what changes meanwhile is noted by the writer, and copied again at the end.
    pub(crate) fn copy(&mut self, storage: &dyn Storage) -> Result<()> {
        let dir = &self.dir;
        let dropped = &self.lineage.dropped;
        for position in dropped.since(&Tombstones::default(), self.count) {
            let record = Record::decode_unchecked(&self.table.words(position));
            self.floor = self.floor.max(record.modseq);
        }
        let open_new = |name: &str| {
            let path = dir.join(name);
            let _ = storage.unlink(&path);
            storage.open(&path, Open::CreateNew).map_err(Error::io("create", &path))
        };
        let (index, facts) = (open_new("cursus.index.new")?, open_new("cursus.facts.new")?);
        let mut written = 0;
        for start in (0..self.count).step_by(SCAN_RECORDS) {
            let end = (start + SCAN_RECORDS).min(self.count);
            let live: Vec<usize> = (start..end).filter(|p| !dropped.contains(*p)).collect();
            let mut old_facts = vec![0; (end - start) * FACTS_BYTES];
            let from = (start * FACTS_BYTES) as u64;
            self.cold.facts.read_exact_at(&mut old_facts, from).map_err(Error::io("read", dir))?;
            let mut records = Vec::with_capacity(live.len() * RECORD_BYTES);
            let mut fact_bytes = Vec::with_capacity(live.len() * FACTS_BYTES);
            for position in &live {
                records.extend_from_slice(&words_to_bytes(&self.table.words(*position)));
                let at = (position - start) * FACTS_BYTES;
                fact_bytes.extend_from_slice(&old_facts[at..at + FACTS_BYTES]);
            }
            let to = RECORDS_OFFSET + (written * RECORD_BYTES) as u64;
            index.write_at(&records, to).map_err(Error::io("write", dir))?;
            let to = (written * FACTS_BYTES) as u64;
            facts.write_at(&fact_bytes, to).map_err(Error::io("write", dir))?;
            written += live.len();
        }
        for file in [&index, &facts] {
            file.sync_data().map_err(Error::io("sync", dir))?;
        }
        // The index must not get its name while a power cut may take the facts' away.
        storage.sync_dir(dir).map_err(Error::io("sync", dir))?;
        self.copied = Some((index, facts));
        Ok(())
    }
}

impl Files {
    /// Notes what there is to copy. From here on the writer notes what it changes.
    pub(crate) fn begin_compaction(&mut self, storage: &dyn Storage) -> Result<Compaction> {
        settle_facts(storage, &self.dir, &self.table, self.head.count)?;
        self.changed = Some(Vec::new());
        let (generation, dropped) = (self.head.generation, self.tombs.clone());
        Ok(Compaction {
            dir: self.dir.clone(),
            table: self.table.clone(),
            cold: self.cold.clone(),
            count: self.head.count,
            lineage: Lineage { generation, dropped },
            floor: self.head.vanished_floor,
            copied: None,
        })
    }

    /// Gives up a compaction.
    pub(crate) fn abandon_compaction(&mut self) {
        self.changed = None;
    }

    /// Brings the copies up to date and gives them the names: a new generation. Older views keep
    /// the old files open.
    pub(crate) fn end_compaction(
        &mut self,
        storage: &dyn Storage,
        compaction: Compaction,
        owner_epoch: u32,
    ) -> Result<()> {
        let mut changed = self.changed.take().unwrap_or_default();
        let Compaction { count, lineage, floor, copied, .. } = compaction;
        let Some((index, facts)) = copied else { return Ok(()) };
        changed.retain(|position| *position < count && !lineage.dropped.contains(*position));
        changed.sort_unstable();
        changed.dedup();
        for position in changed.into_iter().chain(count..self.head.count) {
            let now = lineage.position_now(position);
            let record = words_to_bytes(&self.table.words(position));
            let mut fact = [0; FACTS_BYTES];
            let from = (position * FACTS_BYTES) as u64;
            self.cold.facts.read_exact_at(&mut fact, from).map_err(Error::io("read", &self.dir))?;
            let to = RECORDS_OFFSET + (now * RECORD_BYTES) as u64;
            index.write_at(&record, to).map_err(Error::io("write", &self.dir))?;
            let to = (now * FACTS_BYTES) as u64;
            facts.write_at(&fact, to).map_err(Error::io("write", &self.dir))?;
        }
        let later = self.tombs.since(&lineage.dropped, self.head.count);
        let tombs = Tombstones::default().with(later.iter().map(|p| lineage.position_now(*p)));
        let unseen_floor = lineage.position_now(self.table.unseen_floor().1.min(self.head.count));
        let old_index = std::mem::replace(&mut self.index, index);
        let old_facts = std::mem::replace(&mut self.cold.facts, facts);
        let old = (self.head.clone(), std::mem::replace(&mut self.tombs, tombs));
        self.head.count -= lineage.dropped.total() as usize;
        self.head.generation += 1;
        self.head.vanished_floor = floor.max(self.head.vanished_floor);
        let switched = self.write_both_slots(owner_epoch).and_then(|()| {
            self.sync()?;
            let path = self.dir.join(INDEX_NAME);
            let table = Table::open(&*self.index, &path, self.head.count, &self.trust)?;
            let from = self.dir.join("cursus.index.new");
            replace(storage, &from, &self.dir.join(INDEX_NAME))
                .map_err(Error::io("rename", from))?;
            Ok(table)
        });
        match switched {
            Ok(table) => {
                table.raise_unseen_floor(0, unseen_floor);
                self.table = Arc::new(table);
                let (lineage, next) = (Arc::new(lineage), Arc::default());
                let heir = Heir {
                    lineage: lineage.clone(),
                    table: self.table.clone(),
                    count: self.head.count,
                    next: Arc::clone(&next),
                };
                // A generation is compacted once.
                let _ = std::mem::replace(&mut self.heir, next).set(heir);
                self.lineage = Some(lineage);
                // By the index all is done; the facts are found under either name. The old ones
                // lose theirs when the old index can't come back.
                let from = self.dir.join("cursus.facts.new");
                let durable = storage.sync_dir(&self.dir);
                let named =
                    durable.and_then(|()| replace(storage, &from, &self.dir.join("cursus.facts")));
                if let Err(error) = named {
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
        replace(storage, &fresh, &dir.join("cursus.facts"))
    } else {
        storage.unlink(&fresh)
    };
    settled.and_then(|()| storage.sync_dir(dir)).map_err(Error::io("settle", fresh))
}
