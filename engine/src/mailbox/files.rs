//! The writer's side of a mailbox's files: index, facts, heap, cache.
//!
//! Held under the mailbox's file lock. Write order for new messages: heap, cache, facts, index;
//! counts rise in memory only when all four succeeded, so a failed batch can be applied again.
//! Nothing is synced here: that is the checkpoint's work, and the log's until then.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use protocol::types::{ModSeq, SystemFlags, Uid, UidValidity};

use super::bases::Bases;
use super::cold::Cold;
use super::compact::{Heir, Lineage};
use super::damage::Damage;
use super::early::Reverted;
use super::keywords::KeywordTable;
use super::tombs::Tombstones;
use super::view::{RecentChanges, ViewInner, lower_bound, uid_of_damaged};
use crate::catalog::{Detail, Summary};
use crate::error::{Error, Result};
use crate::format::cache;
use crate::format::facts::{FACTS_BYTES, Facts};
use crate::format::heap;
use crate::format::index::{
    Bits, NAMES_DIFFER, NOT_LISTED_SINCE_CRASH, RECORD_BYTES, RECORDS_OFFSET, Record, SLOT_BYTES,
    Slot, words_to_bytes,
};
use crate::format::wire::Writer;
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::StoredFile;
use crate::layout::Location;
use crate::mapped::{Blobs, Table, Trust};
use crate::takeover::Tallied;

/// Records read or written at a time by scans.
pub(super) const SCAN_RECORDS: usize = 4096;

/// Records changed in place by one write: little enough that all of it stays in a processor's own
/// cache from the reading of the old ones to the copy into the page cache.
pub(super) const REWRITE_RECORDS: usize = 512;

/// Name of the index file in a mailbox's directory.
pub(crate) const INDEX_NAME: &str = "cursus.index";

/// What a mailbox's header slot says, as plain numbers.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) uid_validity: UidValidity,
    pub(crate) uid_next: Uid,
    pub(crate) recent_uid: Uid,
    pub(crate) modseq_highest: ModSeq,
    pub(crate) vanished_floor: ModSeq,
    pub(crate) generation: u32,
    pub(crate) count: usize,
    pub(crate) unseen: u32,
    pub(crate) deleted: u32,
    pub(crate) bytes: u64,
    pub(crate) heap_bytes: u64,
    pub(crate) cache_bytes: u64,
    pub(crate) cache_generation: u32,
    pub(crate) names_differ: bool,
    pub(crate) not_listed_since_crash: bool,
    pub(crate) keywords_at: u64,
    pub(crate) new_mtime: i64,
    pub(crate) cur_mtime: i64,
    pub(crate) listed_at: i64,
    /// Whose checkpoint wrote it.
    pub(crate) owner_epoch: u32,
    pub(super) sequence: u64,
}

/// A message about to be added.
pub(crate) struct NewMessage {
    pub(crate) record: Record,
    pub(crate) stored: u32,
    pub(crate) content_id: [u8; 16],
    pub(crate) save_date: i64,
    /// Heap data: file name.
    pub(crate) name: Vec<u8>,
    pub(crate) extras: Vec<u8>,
}

/// The open files of one mailbox.
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
    pub(super) store_id: StoreId,
    pub(super) id: MailboxId,
    pub(super) index: Arc<dyn StoredFile>,
    pub(super) cold: Cold,
    pub(super) cache: Arc<dyn StoredFile>,
    pub(crate) head: Head,
    pub(super) table: Arc<Table>,
    pub(super) blobs: Arc<Blobs>,
    pub(super) tombs: Tombstones,
    pub(super) keywords: Arc<KeywordTable>,
    pub(super) trust: Arc<Trust>,
    /// Positions that somebody found damaged.
    pub(crate) damage: Arc<Damage>,
    /// No checkpoint since a crash: a record may be half written.
    pub(crate) torn_allowed: bool,
    /// What opening mended by itself, a line each.
    pub(crate) notes: Vec<String>,
    /// Messages whose names were lost, and whose content no file had when all were looked at.
    pub(crate) fileless: BTreeSet<Uid>,
    /// Tombstones that the header counts and that no whole record is.
    pub(crate) suspect_removed: u32,
    pub(super) bases: Option<Bases>,
    /// A copy of a shared folder: it counts for no usage.
    pub(crate) is_copy: bool,
    /// Messages and bytes that the user's usage counts for this mailbox.
    pub(super) accounted: (u64, u64),
    /// What the batch that is being applied means for the user's `maildirsize`.
    pub(super) tallied: Tallied,
    /// While a compaction copies: positions of records and facts that changed.
    pub(super) changed: Option<Vec<usize>>,
    /// Of the last compaction since the mailbox was opened.
    pub(super) lineage: Option<Arc<Lineage>>,
    /// What will take the table's place: set at its compaction, and read by its views.
    pub(super) heir: Arc<OnceLock<Heir>>,
}

/// See [`Files::image`].
pub(crate) struct Image {
    pub(crate) slot: Slot,
    pub(crate) count: usize,
    pub(crate) heap_bytes: u64,
    pub(crate) index: Arc<dyn StoredFile>,
    pub(crate) facts: Arc<dyn StoredFile>,
    pub(crate) heap: Arc<dyn StoredFile>,
}

impl Files {
    /// Appends to the heap; returns the entry's offset. Committed with the caller's batch.
    pub(super) fn heap_append(&mut self, kind: heap::Kind, uid: u32, data: &[u8]) -> Result<u64> {
        let at = self.head.heap_bytes;
        let entry = heap::encode(kind, uid, data);
        let path = || self.dir.join("cursus.heap");
        self.cold.heap.write_at(&entry, at).map_err(Error::io("write", path()))?;
        self.head.heap_bytes += entry.len() as u64;
        Ok(at)
    }

    /// Positions whose files are in `new/`, tombstones included.
    pub(crate) fn positions_in_new(&self) -> Vec<usize> {
        let in_new = |p: &usize| self.table.first_word(*p) & Bits::IN_NEW != 0;
        (0..self.head.count).filter(in_new).collect()
    }

    /// The record at a position, as the writer left it. What a damaged one says is noted as
    /// damage, and [`Files::rewrite`] does not make it whole.
    pub(crate) fn record(&self, position: usize) -> Record {
        self.table.record(position, self.head.count).unwrap_or_else(|| {
            self.damage.note(position);
            Record::decode_unchecked(&self.table.words(position))
        })
    }

    /// First position whose uid is not below `uid`.
    pub(crate) fn lower_bound(&self, uid: Uid) -> usize {
        lower_bound(self.head.count, uid, |position| self.uid_at(position))
    }

    /// Where the record of a uid is, tombstone or not.
    pub(crate) fn position_of(&self, uid: Uid) -> Option<usize> {
        let at = self.lower_bound(uid);
        self.is_at(at, uid).then_some(at)
    }

    /// Whether the record at a position, which need not exist, is that of a uid.
    pub(crate) fn is_at(&self, position: usize, uid: Uid) -> bool {
        position < self.head.count && self.uid_at(position) == uid
    }

    /// The uid of the record at a position, from the facts when the record is damaged.
    fn uid_at(&self, position: usize) -> Uid {
        match self.table.uid(position, self.head.count) {
            Some(uid) => Uid(uid),
            None => uid_of_damaged(&self.table, &self.cold, position),
        }
    }

    /// The facts of a message.
    pub(crate) fn facts(&self, position: usize) -> Option<Facts> {
        let facts = self.cold.facts(position, self.record(position).uid);
        if facts.is_none() {
            self.damage.note(position);
        }
        facts
    }

    /// Where the file of a message was last seen.
    pub(crate) fn location(&self, position: usize) -> Option<Location> {
        let at = self.cold.location(position, &self.record(position));
        if at.is_none() {
            self.damage.note(position);
        }
        at
    }

    /// Adds messages behind the last one, in UID order.
    pub(crate) fn append(&mut self, messages: Vec<NewMessage>) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut heap_bytes = Vec::new();
        let mut blobs = Vec::new();
        let mut facts = Vec::with_capacity(messages.len() * FACTS_BYTES);
        let mut records = Vec::with_capacity(messages.len() * RECORD_BYTES);
        let mut words = Vec::with_capacity(messages.len());
        let seed = cache::seed(self.id, self.head.cache_generation);
        let mut head = self.head.clone();
        for mut message in messages {
            let uid = message.record.uid.0;
            let mut name_at = 0;
            if !message.name.is_empty() {
                name_at = self.head.heap_bytes + heap_bytes.len() as u64;
                let entry = heap::encode(heap::Kind::FileName, uid, &message.name);
                heap_bytes.extend_from_slice(&entry);
            }
            let start = blobs.len();
            if !message.extras.is_empty() {
                cache::encode(&mut blobs, seed, uid, &message.extras);
            }
            let len = blobs.len() - start;
            if len > 0 && len <= Record::CACHE_BYTES_MAX {
                message.record.cache_offset = self.head.cache_bytes + start as u64;
                message.record.cache_len = len as u32;
            } else {
                blobs.truncate(start);
            }
            let record = &message.record;
            let fact = Facts::new(
                uid,
                message.stored,
                message.content_id,
                message.save_date,
                record.modseq.0,
                name_at,
            );
            facts.extend_from_slice(&fact.encode());
            let encoded = record.encode();
            records.extend_from_slice(&words_to_bytes(&encoded));
            words.push(encoded);
            count(&mut head, record, true);
            head.uid_next = head.uid_next.max(Uid(uid.saturating_add(1)));
            head.modseq_highest = head.modseq_highest.max(record.modseq);
        }
        let at = self.head.count;
        let write = |file: &Arc<dyn StoredFile>, name: &str, bytes: &[u8], offset: u64| {
            if bytes.is_empty() {
                return Ok(());
            }
            file.write_at(bytes, offset).map_err(Error::io("write", self.dir.join(name)))
        };
        write(&self.cold.heap, "cursus.heap", &heap_bytes, self.head.heap_bytes)?;
        write(&self.cache, "cursus.cache", &blobs, self.head.cache_bytes)?;
        write(&self.cold.facts, "cursus.facts", &facts, (at * FACTS_BYTES) as u64)?;
        write(&self.index, INDEX_NAME, &records, RECORDS_OFFSET + (at * RECORD_BYTES) as u64)?;
        head.heap_bytes += heap_bytes.len() as u64;
        head.cache_bytes += blobs.len() as u64;
        head.count += words.len();
        if self.table.outgrown(head.count) {
            let path = self.dir.join(INDEX_NAME);
            self.table = self.table.reopen(&*self.index, &path, head.count)?;
        } else {
            for (i, record) in words.iter().enumerate() {
                self.table.written(at + i, record);
            }
        }
        if self.blobs.outgrown(head.cache_bytes) {
            self.blobs = Arc::new(self.blobs.reopen(head.cache_bytes)?);
        }
        self.head = head;
        Ok(())
    }

    /// Writes changed records in place. Positions ascend.
    pub(crate) fn rewrite(&mut self, changes: &[(usize, Record)]) -> Result<()> {
        let mut dead = Vec::new();
        if let Some(changed) = &mut self.changed {
            changed.extend(changes.iter().map(|(position, _)| *position));
        }
        let result = self.rewrite_runs(changes, &mut dead);
        // Also after a failure: counts and tombstones tell what the records say.
        let unseen =
            |(_, r): &&(usize, Record)| !r.expunged && !r.flags.contains(SystemFlags::SEEN);
        if let Some((position, _)) = changes.iter().find(unseen) {
            self.table.lower_unseen_floor(*position);
        }
        if !dead.is_empty() {
            self.tombs = self.tombs.with(dead);
        }
        result
    }

    fn rewrite_runs(&mut self, changes: &[(usize, Record)], dead: &mut Vec<usize>) -> Result<()> {
        let mut bytes = Vec::with_capacity(changes.len().min(REWRITE_RECORDS) * RECORD_BYTES);
        let mut rest = changes;
        while let Some(&(first, _)) = rest.first() {
            // Neighbours go out in one write.
            let run = rest.iter().enumerate().take_while(|(i, (p, _))| *p == first + i).count();
            let (run, behind) = rest.split_at(run.min(REWRITE_RECORDS));
            bytes.clear();
            let (mut head, known_dead) = (self.head.clone(), dead.len());
            for (position, record) in run {
                let Some(old) = self.table.record(*position, self.head.count) else {
                    // Made from damaged bytes, maybe: it would give them a good checksum.
                    self.damage.note(*position);
                    dead.truncate(known_dead);
                    return Err(Error::Corrupt {
                        path: self.dir.join(INDEX_NAME),
                        expected: "a whole record to change",
                        found: format!("a damaged one at position {position}"),
                    });
                };
                bytes.extend_from_slice(&words_to_bytes(&record.encode()));
                count(&mut head, &old, false);
                count(&mut head, record, true);
                head.modseq_highest = head.modseq_highest.max(record.modseq);
                if record.expunged && !old.expunged {
                    dead.push(*position);
                }
            }
            let offset = RECORDS_OFFSET + (first * RECORD_BYTES) as u64;
            let path = || self.dir.join(INDEX_NAME);
            let writing = self.table.writing();
            let written = self.index.write_at(&bytes, offset);
            if written.is_err() {
                // What is in the file now, nobody knows.
                run.iter().for_each(|(p, _)| self.table.examined(*p, true));
                dead.truncate(known_dead);
            }
            written.map_err(Error::io("write", path()))?;
            self.table.written_from(first, &bytes);
            self.head = head;
            drop(writing);
            rest = behind;
        }
        Ok(())
    }

    /// Gives a message's file another name in the heap and facts.
    pub(crate) fn rename(&mut self, position: usize, at: &Location) -> Result<()> {
        let Some(mut facts) = self.facts(position) else { return Ok(()) };
        let name = heap_name(at);
        facts.name_at = self.heap_append(heap::Kind::FileName, at.uid.0, &name)?.into();
        self.write_facts(position, facts)
    }

    /// The name of a tombstone whose message had no file is not looked for any more.
    pub(crate) fn forget_lost_name(&mut self, position: usize) -> Result<()> {
        if self.fileless.is_empty() || !self.fileless.remove(&self.record(position).uid) {
            return Ok(());
        }
        match self.facts(position) {
            Some(facts) => self.write_facts(position, facts.named(0)),
            None => Ok(()),
        }
    }

    pub(super) fn write_facts(&mut self, position: usize, facts: Facts) -> Result<()> {
        self.changed.iter_mut().for_each(|changed| changed.push(position));
        let offset = (position * FACTS_BYTES) as u64;
        let path = || self.dir.join("cursus.facts");
        self.cold.facts.write_at(&facts.encode(), offset).map_err(Error::io("write", path()))
    }

    /// Writes everything of a message that is already there anew: redo.
    pub(crate) fn redo(&mut self, position: usize, message: NewMessage) -> Result<()> {
        let uid = message.record.uid.0;
        let name_at = if message.name.is_empty() {
            0
        } else {
            self.heap_append(heap::Kind::FileName, uid, &message.name)?
        };
        let modseq = message.record.modseq.0;
        let (stored, saved) = (message.stored, message.save_date);
        self.write_facts(
            position,
            Facts::new(uid, stored, message.content_id, saved, modseq, name_at),
        )?;
        let mut record = message.record;
        if let Some((offset, len)) = self.cache_append(record.uid, &message.extras)? {
            record.cache_offset = offset;
            record.cache_len = len;
        }
        self.rewrite(&[(position, record)])
    }

    /// Appends a blob; returns where it is, or `None` when there is nothing to cache.
    pub(crate) fn cache_append(&mut self, uid: Uid, extras: &[u8]) -> Result<Option<(u64, u32)>> {
        let mut blob = Vec::new();
        cache::encode(&mut blob, cache::seed(self.id, self.head.cache_generation), uid.0, extras);
        if extras.is_empty() || blob.len() > Record::CACHE_BYTES_MAX {
            return Ok(None);
        }
        let at = self.head.cache_bytes;
        let path = || self.dir.join("cursus.cache");
        self.cache.write_at(&blob, at).map_err(Error::io("write", path()))?;
        self.head.cache_bytes += blob.len() as u64;
        if self.blobs.outgrown(self.head.cache_bytes) {
            self.blobs = Arc::new(self.blobs.reopen(self.head.cache_bytes)?);
        }
        Ok(Some((at, blob.len() as u32)))
    }

    /// Sets the names of the keyword bits.
    pub(crate) fn set_keywords(&mut self, names: &[String]) -> Result<()> {
        let mut data = Vec::new();
        names.iter().for_each(|name| Writer(&mut data).bytes(name.as_bytes()));
        self.head.keywords_at = self.heap_append(heap::Kind::Keywords, 0, &data)?;
        self.keywords = self.keywords.grown(names);
        Ok(())
    }

    /// Names of the keyword bits.
    pub(crate) fn keywords(&self) -> &Arc<KeywordTable> {
        &self.keywords
    }

    /// The message list as it is now.
    pub(crate) fn view(
        &self,
        recent: &Arc<Mutex<RecentChanges>>,
        reverted: &Arc<Mutex<Reverted>>,
    ) -> Arc<ViewInner> {
        Arc::new(ViewInner {
            uid_validity: self.head.uid_validity,
            uid_next: self.head.uid_next,
            modseq_highest: self.head.modseq_highest,
            vanished_floor: self.head.vanished_floor,
            generation: self.head.generation,
            lineage: self.lineage.clone(),
            heir: self.heir.clone(),
            table: self.table.clone(),
            count: self.head.count,
            tombs: self.tombs.clone(),
            unseen: self.head.unseen,
            deleted: self.head.deleted,
            bytes: self.head.bytes,
            keywords: self.keywords.clone(),
            blobs: self.blobs.clone(),
            blobs_committed: self.head.cache_bytes,
            blobs_seed: cache::seed(self.id, self.head.cache_generation),
            cold: self.cold.clone(),
            damage: self.damage.clone(),
            recent: recent.clone(),
            reverted: reverted.clone(),
        })
    }

    /// The header slot that says what there is now.
    fn slot(&self, checkpoint: Lsn, owner_epoch: u32, sequence: u64) -> Slot {
        let head = &self.head;
        let mut slot = Slot::empty(self.store_id.0, self.id.0, head.uid_validity.0);
        slot.owner_epoch = owner_epoch.into();
        slot.sequence = sequence.into();
        slot.checkpoint_lsn = checkpoint.0.into();
        slot.generation = head.generation.into();
        slot.uid_next = head.uid_next.0.into();
        slot.recent_uid = head.recent_uid.0.into();
        slot.records = (head.count as u32).into();
        slot.tombstones = self.tombs.total().into();
        slot.unseen = head.unseen.into();
        slot.deleted = head.deleted.into();
        slot.bytes = head.bytes.into();
        slot.modseq_highest = head.modseq_highest.0.into();
        slot.vanished_floor = head.vanished_floor.0.into();
        slot.heap_bytes = head.heap_bytes.into();
        slot.cache_bytes = head.cache_bytes.into();
        slot.cache_generation = head.cache_generation.into();
        let states = [
            (head.names_differ, NAMES_DIFFER),
            (head.not_listed_since_crash, NOT_LISTED_SINCE_CRASH),
        ];
        let set = states.into_iter().filter(|(is, _)| *is);
        slot.state = set.fold(0, |state, (_, bit)| state | bit).into();
        slot.keywords_at = head.keywords_at.into();
        slot.new_mtime = head.new_mtime.into();
        slot.cur_mtime = head.cur_mtime.into();
        slot.listed_at = head.listed_at.into();
        slot.unseen_floor = (self.table.unseen_floor().1 as u64).into();
        slot
    }

    /// Writes the header slot of a checkpoint. It goes where the slot of the last committed
    /// checkpoint is not, however many attempts fail in between: see
    /// [`Files::slot_committed`].
    pub(crate) fn write_slot(&self, checkpoint: Lsn, owner_epoch: u32) -> Result<()> {
        let sequence = self.head.sequence + 1;
        let slot = self.slot(checkpoint, owner_epoch, sequence);
        let at = (sequence % 2) * SLOT_BYTES;
        let path = || self.dir.join(INDEX_NAME);
        self.index.write_at(&slot.encode(), at).map_err(Error::io("write", path()))
    }

    /// What a backup needs to copy the files as they are now, without the lock: handles of this
    /// generation, counts, and a header slot that any checkpoint may find.
    pub(crate) fn image(&self, owner_epoch: u32) -> Image {
        let head = &self.head;
        let mut slot = self.slot(Lsn(0), owner_epoch, head.sequence);
        // The cache does not come along, nor do the times of another directory.
        (slot.cache_bytes, slot.cache_generation) = (0.into(), 0.into());
        (slot.new_mtime, slot.cur_mtime, slot.listed_at) = (0.into(), 0.into(), 0.into());
        Image {
            slot,
            count: head.count,
            heap_bytes: head.heap_bytes,
            index: self.index.clone(),
            facts: self.cold.facts.clone(),
            heap: self.cold.heap.clone(),
        }
    }

    /// Whether only one slot was ever written.
    pub(super) fn is_first_checkpoint(&self) -> bool {
        self.head.sequence == 0
    }

    /// The checkpoint of the slot written last is committed: the next one leaves it alone.
    pub(crate) fn slot_committed(&mut self) {
        self.head.sequence += 1;
    }

    /// Makes the files durable one by one.
    pub(crate) fn sync(&self) -> Result<()> {
        for (file, name) in [
            (&self.cold.heap, "cursus.heap"),
            (&self.cache, "cursus.cache"),
            (&self.cold.facts, "cursus.facts"),
            (&self.index, INDEX_NAME),
        ] {
            file.sync_data().map_err(Error::io("sync", self.dir.join(name)))?;
        }
        Ok(())
    }

    /// What is to be added to the user's usage (wrapping) since the last call.
    pub(crate) fn account(&mut self) -> (u64, u64) {
        let messages = (self.head.count - self.tombs.total() as usize) as u64;
        let now = if self.is_copy { (0, 0) } else { (messages, self.head.bytes) };
        let before = std::mem::replace(&mut self.accounted, now);
        (now.0.wrapping_sub(before.0), now.1.wrapping_sub(before.1))
    }

    /// What the user's usage counts for this mailbox.
    pub(crate) fn accounted(&self) -> (u64, u64) {
        self.accounted
    }

    /// What the catalog keeps of the mailbox.
    pub(crate) fn summary(&self) -> Summary {
        let head = &self.head;
        let (uid_next, uid_validity) = (head.uid_next.0, head.uid_validity.0);
        let modseq = head.modseq_highest.0;
        if self.is_copy {
            // The rest depends on the original.
            let (messages, bytes, detail) = (0, 0, None);
            return Summary { messages, bytes, uid_next, uid_validity, modseq, detail };
        }
        let messages = head.count - self.tombs.total() as usize;
        let recent_from = self.lower_bound(head.recent_uid);
        let before = recent_from - self.tombs.rank(recent_from) as usize;
        Summary {
            messages: messages as u64,
            bytes: head.bytes,
            uid_next,
            uid_validity,
            modseq,
            detail: Some(Detail {
                unseen: head.unseen,
                deleted: head.deleted,
                recent: (messages - before) as u32,
                new_mtime: head.new_mtime,
                cur_mtime: head.cur_mtime,
                listed_at: head.listed_at,
            }),
        }
    }

    /// Number of tombstones.
    pub(crate) fn tombstones(&self) -> u32 {
        self.tombs.total()
    }

    /// Whether the record at a position is a tombstone.
    pub(crate) fn is_tombstone(&self, position: usize) -> bool {
        self.tombs.contains(position)
    }

    /// Both slots, valid for every checkpoint: the file holds all effects up to now.
    pub(crate) fn write_both_slots(&mut self, owner_epoch: u32) -> Result<()> {
        for _ in 0..2 {
            self.write_slot(Lsn(0), owner_epoch)?;
            self.slot_committed();
        }
        Ok(())
    }
}

/// Adds a record to the header's counts, or takes it out.
fn count(head: &mut Head, record: &Record, add: bool) {
    if record.expunged {
        return;
    }
    let unseen = u32::from(!record.flags.contains(SystemFlags::SEEN));
    let deleted = u32::from(record.flags.contains(SystemFlags::DELETED));
    if add {
        head.unseen += unseen;
        head.deleted += deleted;
        head.bytes += u64::from(record.size);
    } else {
        head.unseen = head.unseen.saturating_sub(unseen);
        head.deleted = head.deleted.saturating_sub(deleted);
        head.bytes = head.bytes.saturating_sub(u64::from(record.size));
    }
}

/// A location as the heap holds it.
pub(crate) fn heap_name(at: &Location) -> Vec<u8> {
    let mut name = at.base.clone();
    if !at.other_letters.is_empty() {
        name.push(0);
        name.extend_from_slice(&at.other_letters);
    }
    name
}
