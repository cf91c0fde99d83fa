//! A mailbox's files as a mender and a scrub look at them: records by what the file has now, damage
//! that one turned bit explains, files cut short.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::types::{ModSeq, Uid};

use super::files::{Files, INDEX_NAME};
use crate::catalog::Summary;
use crate::error::{Error, Result};
use crate::format::facts::{FACTS_BYTES, Facts};
use crate::format::heap::{self, ENTRY_HEADER_BYTES};
use crate::format::index::{
    RECORD_BYTES, RECORDS_OFFSET, Record, SLOT_BYTES, Slot, words_from_bytes, words_to_bytes,
};
use crate::format::turn_one_bit_back;
use crate::ids::Lsn;
use crate::io::StoredFile;
use crate::message::Ingested;

impl Files {
    /// The record at a position as the file has it, whole.
    pub(crate) fn whole_record(&self, position: usize) -> Option<Record> {
        Record::decode(&words_from_bytes(&self.raw_record(position)?))
    }

    pub(super) fn raw_record(&self, position: usize) -> Option<[u8; RECORD_BYTES]> {
        let mut bytes = [0; RECORD_BYTES];
        let at = RECORDS_OFFSET + (position * RECORD_BYTES) as u64;
        self.index.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }

    /// Whole facts at a position, whosever they are.
    pub(crate) fn any_facts(&self, position: usize) -> Option<Facts> {
        let bytes = self.raw_facts(position)?;
        Facts::decode(&bytes, u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(super) fn raw_facts(&self, position: usize) -> Option<[u8; FACTS_BYTES]> {
        let mut bytes = [0; FACTS_BYTES];
        self.cold.facts.read_exact_at(&mut bytes, (position * FACTS_BYTES) as u64).ok()?;
        Some(bytes)
    }

    /// The record with one bit turned back, if that makes it whole.
    pub(super) fn bit_back(&self, position: usize) -> Option<Record> {
        let mut bytes = self.raw_record(position)?;
        let whole = |bytes: &[u8]| Record::decode(&words_from_bytes(bytes)).is_some();
        turn_one_bit_back(&mut bytes, whole);
        Record::decode(&words_from_bytes(&bytes))
    }

    pub(super) fn facts_bit_back(&self, position: usize) -> Option<Facts> {
        let mut bytes = self.raw_facts(position)?;
        let decode = |b: &[u8]| Facts::decode(b, u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        turn_one_bit_back(&mut bytes, |bytes| decode(bytes).is_some());
        decode(&bytes)
    }

    /// Writes a heap entry back with one bit turned, if that makes it whole.
    pub(super) fn name_bit_back(&self, at: u64, uid: Uid) -> Result<bool> {
        const NAME_BYTES_MAX: usize = 512;
        let mut bytes = vec![0; NAME_BYTES_MAX];
        let path = || self.dir.join("cursus.heap");
        let read = self.cold.heap.read_at(&mut bytes, at).map_err(Error::io("read", path()))?;
        bytes.truncate(read);
        let whole = |bytes: &[u8]| {
            let Some(header) = bytes.first_chunk::<ENTRY_HEADER_BYTES>() else { return false };
            heap::data_len(header, heap::Kind::FileName, uid.0)
                .and_then(|len| bytes.get(ENTRY_HEADER_BYTES..)?.get(..len))
                .is_some_and(|data| heap::is_whole(header, data))
        };
        if !turn_one_bit_back(&mut bytes, whole) {
            return Ok(false);
        }
        let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let entry = &bytes[..ENTRY_HEADER_BYTES + len];
        self.cold.heap.write_at(entry, at).map_err(Error::io("write", path()))?;
        Ok(true)
    }

    /// A record that a crash caught half written, each word old or new: when what never changes
    /// in it agrees with the message. Only in a mailbox that had no checkpoint since the crash.
    pub(super) fn torn(&self, position: usize, uid: Uid, found: &Ingested) -> Option<Record> {
        let record = self.own_words(position, uid)?;
        let same = record.size == found.size
            && record.header_size == found.header_size
            && record.subject_hash == found.subject_hash
            && record.from_hash == found.from_hash;
        same.then_some(record)
    }

    /// What a record that may be half written says of itself: its words are each old or new. All
    /// there is when the message has no file any more, and the log is about to say so.
    pub(super) fn own_words(&self, position: usize, uid: Uid) -> Option<Record> {
        let record = Record::decode_unchecked(&words_from_bytes(&self.raw_record(position)?));
        (self.torn_allowed && record.uid == uid).then_some(record)
    }

    /// The UID that a half written record and its half written facts both state: their words are
    /// each old or new, and the UID is the same in both.
    pub(super) fn torn_uid(&self, position: usize) -> Option<Uid> {
        let record = Record::decode_unchecked(&words_from_bytes(&self.raw_record(position)?)).uid;
        let mut facts = [0; 4];
        let offset = (position * FACTS_BYTES) as u64;
        self.cold.facts.read_exact_at(&mut facts, offset).ok()?;
        (self.torn_allowed && u32::from_le_bytes(facts) == record.0).then_some(record)
    }

    /// Brings a header up to what the catalog knows of the last checkpoint: the newer header slot
    /// was damaged, or both. Records and facts that are in the files tell the rest.
    pub(crate) fn catch_up(&mut self, summary: &Summary) -> Result<bool> {
        let head = &self.head;
        if head.uid_next.0 >= summary.uid_next && head.modseq_highest.0 >= summary.modseq {
            return Ok(false);
        }
        let io = |what, name| Error::io(what, self.dir.join(name));
        let size = |file: &dyn StoredFile, name| file.size().map_err(io("stat", name));
        let records = size(&*self.index, INDEX_NAME)?.saturating_sub(RECORDS_OFFSET);
        let facts = size(&*self.cold.facts, "cursus.facts")?;
        let most = (records as usize / RECORD_BYTES).max(facts as usize / FACTS_BYTES);
        let mut count = head.count;
        // Behind the last committed record there may be older ones: UIDs rise no more.
        let before = head.count.checked_sub(1).and_then(|position| self.whole_record(position));
        let mut last = before.map_or(0, |record| record.uid.0);
        for position in head.count..most {
            let record = self.whole_record(position).map(|r| r.uid.0);
            let facts = self.any_facts(position).map(|f| f.uid.get());
            let mut uids = [record, facts].into_iter().flatten();
            if let Some(uid) = uids.find(|uid| (last + 1..summary.uid_next).contains(uid)) {
                (count, last) = (position + 1, uid);
            }
        }
        let heap_end = size(&*self.cold.heap, "cursus.heap")?.next_multiple_of(8);
        let cache_end = size(&*self.cache, "cursus.cache")?.next_multiple_of(8);
        let head = &mut self.head;
        head.heap_bytes = head.heap_bytes.max(heap_end);
        head.cache_bytes = head.cache_bytes.max(cache_end);
        head.count = count;
        head.uid_next = Uid(head.uid_next.0.max(summary.uid_next));
        head.modseq_highest = ModSeq(head.modseq_highest.0.max(summary.modseq));
        head.names_differ = true;
        (head.new_mtime, head.cur_mtime, head.listed_at) = (0, 0, 0);
        self.lengthen()?;
        let path = self.dir.join(INDEX_NAME);
        self.table = self.table.reopen(&*self.index, &path, count)?;
        self.blobs = Arc::new(self.blobs.reopen(self.head.cache_bytes)?);
        if let Some(at) = self.last_keywords() {
            self.head.keywords_at = at;
            self.read_keywords()?;
        }
        self.suspect_removed = (count as u64).saturating_sub(summary.messages) as u32;
        self.recount();
        self.account();
        (0..count).for_each(|position| self.damage.note(position));
        let from = "the catalog's figures and the records";
        self.notes.push(format!("{INDEX_NAME}: damaged header, mended from {from}"));
        Ok(true)
    }

    /// Where the heap's last whole list of keyword names is.
    fn last_keywords(&self) -> Option<u64> {
        let mut last = None;
        self.walk_heap(|uid, at, _| {
            if uid == 0 {
                last = Some(at);
            }
        });
        last
    }

    /// Lines for header slots that are damaged.
    pub(crate) fn damaged_headers(&self) -> Vec<String> {
        let damaged = |at: &u64| {
            let mut bytes = [0; SLOT_BYTES as usize];
            let read = self.index.read_exact_at(&mut bytes, *at);
            let unused = *at > 0 && self.is_first_checkpoint() && bytes.iter().all(|b| *b == 0);
            read.is_err() || Slot::decode(&bytes[..512]).is_err() && !unused
        };
        let line = |at| format!("{INDEX_NAME}: the header at {at} is damaged");
        [0, SLOT_BYTES].into_iter().filter(damaged).map(line).collect()
    }

    /// Writes the headers anew.
    pub(crate) fn mend_headers(&mut self, shared: &crate::shared::Shared) -> Result<()> {
        let checkpoint = Lsn(shared.checkpointed.load(Ordering::Acquire));
        for _ in 0..2 {
            self.write_slot(checkpoint, shared.owner_epoch)?;
            self.slot_committed();
        }
        self.sync()
    }

    /// Lines for records of index, facts and heap that are damaged or not where they belong.
    pub(crate) fn damaged_records(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut last = Uid(0);
        for position in 0..self.head.count {
            let record = self.whole_record(position);
            let facts = self.any_facts(position);
            match (record, facts) {
                (None, _) => lines.push(format!("{INDEX_NAME} record {position}: damaged")),
                (Some(r), None) => lines.push(format!("cursus.facts UID {}: damaged", r.uid)),
                (Some(r), Some(f)) if f.uid.get() != r.uid.0 || r.uid <= last => {
                    let line = "out of order, or with another message's facts";
                    lines.push(format!("{INDEX_NAME} UID {}: {line}", r.uid));
                }
                (Some(r), Some(f)) => {
                    let named = f.name_at.get();
                    let entry = || self.cold.entry(named, heap::Kind::FileName, r.uid.0);
                    if named != 0 && !r.expunged && entry().is_none() {
                        lines.push(format!("cursus.heap UID {}: damaged name at {named}", r.uid));
                    }
                }
            }
            last = record.map_or(last, |r| r.uid);
        }
        lines
    }

    /// Files that somebody cut get their length back, so that a mending has room and maps pages.
    pub(super) fn lengthen(&self) -> Result<()> {
        let count = self.head.count as u64;
        let lengths = [
            (&self.index, RECORDS_OFFSET + count * RECORD_BYTES as u64, INDEX_NAME),
            (&self.cold.facts, count * FACTS_BYTES as u64, "cursus.facts"),
            (&self.cold.heap, self.head.heap_bytes, "cursus.heap"),
            (&self.cache, self.head.cache_bytes, "cursus.cache"),
        ];
        for (file, len, name) in lengths {
            let path = || self.dir.join(name);
            if file.size().map_err(Error::io("stat", path()))? < len {
                tracing::error!(path = %path().display(), "the file was cut short");
                file.set_len(len).map_err(Error::io("lengthen", path()))?;
            }
        }
        Ok(())
    }

    pub(super) fn restore_maps(&self) -> Result<()> {
        self.table.restore(&*self.index, &self.dir.join(INDEX_NAME))?;
        self.blobs.restore()
    }

    /// Writes a record over a damaged one.
    pub(super) fn put_record(&mut self, position: usize, record: &Record) -> Result<()> {
        let words = record.encode();
        self.changed.iter_mut().for_each(|changed| changed.push(position));
        let offset = RECORDS_OFFSET + (position * RECORD_BYTES) as u64;
        let path = || self.dir.join(INDEX_NAME);
        let _writing = self.table.writing();
        let written = self.index.write_at(&words_to_bytes(&words), offset);
        written.map_err(Error::io("write", path()))?;
        self.table.written(position, &words);
        Ok(())
    }

    pub(super) fn append_name(&mut self, uid: Uid, name: &[u8]) -> Result<u64> {
        self.heap_append(heap::Kind::FileName, uid.0, name)
    }

    /// The newest whole name entry of each UID, found by walking the heap.
    pub(super) fn heap_names(&self) -> HashMap<u32, (u64, Vec<u8>)> {
        let mut names = HashMap::new();
        self.walk_heap(|uid, at, data| {
            if uid != 0 {
                names.insert(uid, (at, data.to_vec()));
            }
        });
        names
    }

    /// Every whole entry of the heap: its uid, its place, its data.
    fn walk_heap(&self, mut each: impl FnMut(u32, u64, &[u8])) {
        let mut bytes = vec![0; self.head.heap_bytes as usize];
        let read = self.cold.heap.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(read);
        let mut at = heap::MAGIC.len();
        while let Some(header) = bytes.get(at..).and_then(|b| b.first_chunk::<ENTRY_HEADER_BYTES>())
        {
            let uid = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            let kind = if uid == 0 { heap::Kind::Keywords } else { heap::Kind::FileName };
            let data = heap::data_len(header, kind, uid)
                .and_then(|len| bytes.get(at + ENTRY_HEADER_BYTES..)?.get(..len))
                .filter(|data| heap::is_whole(header, data));
            match data {
                Some(data) => {
                    each(uid, at as u64, data);
                    at += (ENTRY_HEADER_BYTES + data.len()).next_multiple_of(8);
                }
                // Damaged: entries begin at multiples of 8.
                None => at += 8,
            }
        }
    }
}
