//! The writer's side of a mailbox's files: index, facts, heap, cache.
//!
//! Held under the mailbox's file lock. Write order for new messages: heap, cache, facts, index;
//! counts rise in memory only when all four succeeded, so a failed batch can be applied again.
//! Nothing is synced here: that is the checkpoint's work, and the log's until then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::types::{ModSeq, SystemFlags, Uid, UidValidity};

use super::cold::Cold;
use super::tombs::Tombstones;
use super::view::{KeywordTable, RecentChanges, View, ViewInner};
use crate::error::{Error, Result};
use crate::format::facts::{FACTS_BYTES, Facts};
use crate::format::heap::{self, ENTRY_HEADER_BYTES};
use crate::format::index::{
    NAMES_DIFFER, RECORD_BYTES, RECORDS_OFFSET, Record, SLOT_BYTES, Slot, words_to_bytes,
};
use crate::format::wire::{Reader, Writer};
use crate::format::{FormatError, cache};
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::{Open, Storage, StoredFile};
use crate::layout::Location;
use crate::mapped::{Blobs, Table};

/// Records read or written at a time by scans.
const SCAN_RECORDS: usize = 4096;

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
    pub(crate) keywords_at: u64,
    pub(crate) new_mtime: i64,
    pub(crate) cur_mtime: i64,
    pub(crate) listed_at: i64,
    /// Whose checkpoint wrote it.
    pub(crate) owner_epoch: u32,
    sequence: u64,
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
    store_id: StoreId,
    id: MailboxId,
    index: Arc<dyn StoredFile>,
    cold: Cold,
    cache: Arc<dyn StoredFile>,
    pub(crate) head: Head,
    table: Arc<Table>,
    blobs: Arc<Blobs>,
    tombs: Tombstones,
    keywords: Arc<KeywordTable>,
    /// Messages and bytes that the user's usage counts for this mailbox.
    accounted: (u64, u64),
}

fn damaged(path: PathBuf) -> impl FnOnce(FormatError) -> Error {
    move |e| Error::Corrupt {
        path,
        expected: e.expected,
        found: format!("{}: {}", e.what, e.found),
    }
}

fn cache_path(dir: &Path, generation: u32) -> PathBuf {
    dir.join(format!("cursus.cache.{generation}"))
}

/// The mailbox id and UIDVALIDITY that a directory's index states, if it has a readable one.
pub(crate) fn stamp(storage: &dyn Storage, dir: &Path) -> Option<(MailboxId, UidValidity)> {
    let file = storage.open(&dir.join(INDEX_NAME), Open::Read).ok()?;
    let mut bytes = [0; 512];
    [0, SLOT_BYTES].into_iter().find_map(|at| {
        file.read_exact_at(&mut bytes, at).ok()?;
        let slot = Slot::decode(&bytes).ok()?;
        Some((MailboxId(slot.mailbox_id), UidValidity(slot.uid_validity.get())))
    })
}

impl Files {
    /// Opens a mailbox's files; makes empty ones when there is no index.
    ///
    /// `limit`: header slots of checkpoints above it are passed over (recovery).
    pub(crate) fn open(
        storage: &dyn Storage,
        dir: &Path,
        store_id: StoreId,
        id: MailboxId,
        uid_validity: UidValidity,
        limit: Lsn,
    ) -> Result<Files> {
        let open = |path: &Path| storage.open(path, Open::Create).map_err(Error::io("open", path));
        let path = dir.join(INDEX_NAME);
        let index = open(&path)?;
        let size = index.size().map_err(Error::io("stat", &path))?;
        let slot = if size == 0 {
            let slot = Slot::empty(store_id.0, id.0, uid_validity.0);
            let mut both = [0; 2 * SLOT_BYTES as usize];
            both[..512].copy_from_slice(&slot.encode());
            // Durable before the mailbox gets its first message: by this stamp recovery tells
            // whose directory it is.
            let begun = index.write_at(&both, 0).and_then(|()| index.sync_all());
            if let Err(error) = begun.and_then(|()| storage.sync_dir(dir)) {
                let _ = storage.unlink(&path);
                return Err(Error::io("begin", path)(error));
            }
            slot
        } else {
            read_slot(&*index, &path, limit)?
        };
        if slot.store_id != store_id.0 || slot.mailbox_id != id.0 {
            let found = format!("mailbox {}", MailboxId(slot.mailbox_id));
            return Err(Error::Corrupt { path, expected: "the index of this mailbox", found });
        }
        let head = Head {
            uid_validity: UidValidity(slot.uid_validity.get()),
            uid_next: Uid(slot.uid_next.get().max(1)),
            recent_uid: Uid(slot.recent_uid.get()),
            modseq_highest: ModSeq(slot.modseq_highest.get()),
            vanished_floor: ModSeq(slot.vanished_floor.get()),
            generation: slot.generation.get(),
            count: slot.records.get() as usize,
            unseen: slot.unseen.get(),
            deleted: slot.deleted.get(),
            bytes: slot.bytes.get(),
            heap_bytes: slot.heap_bytes.get().max(heap::MAGIC.len() as u64),
            cache_bytes: slot.cache_bytes.get().max(cache::HEADER_BYTES),
            cache_generation: slot.cache_generation.get(),
            names_differ: slot.state.get() & NAMES_DIFFER != 0,
            keywords_at: slot.keywords_at.get(),
            new_mtime: slot.new_mtime.get(),
            cur_mtime: slot.cur_mtime.get(),
            listed_at: slot.listed_at.get(),
            owner_epoch: slot.owner_epoch.get(),
            sequence: slot.sequence.get(),
        };
        let needed = RECORDS_OFFSET + (head.count * RECORD_BYTES) as u64;
        if index.size().map_err(Error::io("stat", &path))? < needed {
            let found = format!("{size} bytes");
            return Err(Error::Corrupt { path, expected: "an index as long as its count", found });
        }
        let table = Arc::new(Table::open(&*index, head.count)?);
        settle_facts(storage, dir, &table, head.count)?;
        let cold =
            Cold { facts: open(&dir.join("cursus.facts"))?, heap: open(&dir.join("cursus.heap"))? };
        let cache_file = open(&cache_path(dir, head.cache_generation))?;
        let mut files = Files {
            dir: dir.to_owned(),
            store_id,
            id,
            index,
            cold,
            blobs: Arc::new(Blobs::open(cache_file.clone(), 0)?),
            cache: cache_file,
            head,
            table,
            tombs: Tombstones::default(),
            keywords: Arc::default(),
            accounted: (0, 0),
        };
        files.open_heap()?;
        files.open_cache(storage)?;
        files.read_keywords()?;
        if slot.tombstones.get() > 0 {
            files.scan_tombstones();
        }
        files.account();
        Ok(files)
    }

    fn open_heap(&mut self) -> Result<()> {
        let path = self.dir.join("cursus.heap");
        if self.cold.heap.size().map_err(Error::io("stat", &path))? < heap::MAGIC.len() as u64 {
            self.cold.heap.write_at(&heap::MAGIC, 0).map_err(Error::io("write", &path))?;
        }
        Ok(())
    }

    /// The cache is disposable: one that is not ours, or shorter than it should be, is begun anew.
    fn open_cache(&mut self, storage: &dyn Storage) -> Result<()> {
        let path = cache_path(&self.dir, self.head.cache_generation);
        let size = self.cache.size().map_err(Error::io("stat", &path))?;
        let mut bytes = [0; cache::HEADER_BYTES as usize];
        let whole = size >= self.head.cache_bytes
            && self.cache.read_exact_at(&mut bytes, 0).is_ok()
            && cache::check_header(&bytes, self.store_id, self.id, self.head.cache_generation)
                .is_ok();
        if !whole {
            if size > 0 {
                tracing::warn!(path = %path.display(), "cache is not whole; beginning a new one");
                self.head.cache_generation += 1;
                let fresh = cache_path(&self.dir, self.head.cache_generation);
                let _ = storage.unlink(&fresh);
                self.cache =
                    storage.open(&fresh, Open::Create).map_err(Error::io("create", &fresh))?;
                let _ = storage.unlink(&path);
            }
            let header = cache::header(self.store_id, self.id, self.head.cache_generation);
            self.cache.write_at(&header, 0).map_err(Error::io("write", &path))?;
            self.head.cache_bytes = cache::HEADER_BYTES;
        }
        self.blobs = Arc::new(Blobs::open(self.cache.clone(), self.head.cache_bytes)?);
        Ok(())
    }

    fn read_keywords(&mut self) -> Result<()> {
        if self.head.keywords_at == 0 {
            return Ok(());
        }
        let Some(data) = self.cold.entry(self.head.keywords_at, heap::Kind::Keywords, 0) else {
            return Err(Error::Corrupt {
                path: self.dir.join("cursus.heap"),
                expected: "the keyword names that the index points to",
                found: format!("damage at {}", self.head.keywords_at),
            });
        };
        let mut reader = Reader::new("keyword names", &data);
        let mut names = Vec::new();
        while reader.left() > 0 {
            names.push(reader.text().map_err(damaged(self.dir.join("cursus.heap")))?);
        }
        self.keywords = Arc::new(KeywordTable::from_names(names));
        Ok(())
    }

    /// Appends to the heap; returns the entry's offset. Committed with the caller's batch.
    fn heap_append(&mut self, kind: heap::Kind, uid: u32, data: &[u8]) -> Result<u64> {
        let at = self.head.heap_bytes;
        let entry = heap::encode(kind, uid, data);
        let path = || self.dir.join("cursus.heap");
        self.cold.heap.write_at(&entry, at).map_err(Error::io("write", path()))?;
        self.head.heap_bytes += entry.len() as u64;
        Ok(at)
    }

    fn scan_tombstones(&mut self) {
        let table = &self.table;
        let dead =
            (0..self.head.count).filter(|&i| Record::decode_unchecked(&table.words(i)).expunged);
        self.tombs = Tombstones::default().with(dead);
    }

    /// Makes records whole that a crash caught half written: not in the log are the places of
    /// names and of cache blobs. Their words are each old or new, and both are true or harmless.
    pub(crate) fn mend(&mut self) -> Result<()> {
        let mut torn = Vec::new();
        for position in 0..self.head.count {
            if Record::decode(&self.table.words(position)).is_some() {
                continue;
            }
            let record = self.record(position);
            if self.facts(position).is_none() {
                return Err(Error::Corrupt {
                    path: self.dir.join(INDEX_NAME),
                    expected: "a record that its facts agree with",
                    found: format!("UID {} at position {position}", record.uid),
                });
            }
            torn.push((position, record));
        }
        if !torn.is_empty() {
            tracing::warn!(dir = %self.dir.display(), records = torn.len(), "mended records");
            self.rewrite(&torn)?;
        }
        Ok(())
    }

    /// Counts again what the header counts: after recovery.
    pub(crate) fn recount(&mut self) {
        self.scan_tombstones();
        let (mut unseen, mut deleted, mut bytes) = (0, 0, 0);
        for position in 0..self.head.count {
            let record = self.record(position);
            if !record.expunged {
                unseen += u32::from(!record.flags.contains(SystemFlags::SEEN));
                deleted += u32::from(record.flags.contains(SystemFlags::DELETED));
                bytes += u64::from(record.size);
            }
            self.head.modseq_highest = self.head.modseq_highest.max(record.modseq);
        }
        (self.head.unseen, self.head.deleted, self.head.bytes) = (unseen, deleted, bytes);
    }

    /// The record at a position, as the writer left it.
    pub(crate) fn record(&self, position: usize) -> Record {
        Record::decode_unchecked(&self.table.words(position))
    }

    /// First position whose uid is not below `uid`.
    pub(crate) fn lower_bound(&self, uid: Uid) -> usize {
        let (mut low, mut high) = (0, self.head.count);
        while low < high {
            let middle = (low + high) / 2;
            let there = self.table.first_word(middle) as u32;
            if there < uid.0 { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Where the record of a uid is, tombstone or not.
    pub(crate) fn position_of(&self, uid: Uid) -> Option<usize> {
        let at = self.lower_bound(uid);
        (at < self.head.count && self.table.first_word(at) as u32 == uid.0).then_some(at)
    }

    /// The facts of a message.
    pub(crate) fn facts(&self, position: usize) -> Option<Facts> {
        self.cold.facts(position, self.record(position).uid)
    }

    /// Where the file of a message was last seen.
    pub(crate) fn location(&self, position: usize) -> Option<Location> {
        self.cold.location(position, &self.record(position))
    }

    /// The file names of all messages, tombstones included, read in two sweeps.
    pub(crate) fn names(&self) -> Result<Names> {
        let read = |file: &Arc<dyn StoredFile>, name: &str, bytes: &mut [u8], at: u64| {
            file.read_exact_at(bytes, at).map_err(Error::io("read", self.dir.join(name)))
        };
        let mut heap = vec![0; self.head.heap_bytes as usize];
        read(&self.cold.heap, "cursus.heap", &mut heap, 0)?;
        let mut entries = Vec::with_capacity(self.head.count);
        let mut facts = Vec::new();
        for start in (0..self.head.count).step_by(SCAN_RECORDS) {
            let end = (start + SCAN_RECORDS).min(self.head.count);
            facts.resize((end - start) * FACTS_BYTES, 0);
            read(&self.cold.facts, "cursus.facts", &mut facts, (start * FACTS_BYTES) as u64)?;
            for (position, bytes) in (start..end).zip(facts.chunks_exact(FACTS_BYTES)) {
                let uid = self.table.first_word(position) as u32;
                let name = Facts::decode(bytes, uid)
                    .and_then(|facts| heap_slice(&heap, facts.name_at.get(), uid));
                entries.push(name.unwrap_or(0..0));
            }
        }
        Ok(Names { heap, entries })
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
            self.table = Arc::new(Table::open(&*self.index, head.count)?);
        } else {
            for (i, record) in words.iter().enumerate() {
                self.table.written(at + i, record);
            }
        }
        if self.blobs.outgrown(head.cache_bytes) {
            self.blobs = Arc::new(Blobs::open(self.cache.clone(), head.cache_bytes)?);
        }
        self.head = head;
        Ok(())
    }

    /// Writes changed records in place. Positions ascend.
    pub(crate) fn rewrite(&mut self, changes: &[(usize, Record)]) -> Result<()> {
        let mut dead = Vec::new();
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
        let mut rest = changes;
        while let Some(&(first, _)) = rest.first() {
            // Neighbours go out in one write.
            let run = rest.iter().enumerate().take_while(|(i, (p, _))| *p == first + i).count();
            let run = run.min(SCAN_RECORDS);
            let mut bytes = Vec::with_capacity(run * RECORD_BYTES);
            for (_, record) in &rest[..run] {
                bytes.extend_from_slice(&words_to_bytes(&record.encode()));
            }
            let before: Vec<Record> = (first..first + run).map(|p| self.record(p)).collect();
            let offset = RECORDS_OFFSET + (first * RECORD_BYTES) as u64;
            let path = || self.dir.join(INDEX_NAME);
            self.index.write_at(&bytes, offset).map_err(Error::io("write", path()))?;
            for ((position, record), old) in rest[..run].iter().zip(before) {
                self.table.written(*position, &record.encode());
                count(&mut self.head, &old, false);
                count(&mut self.head, record, true);
                self.head.modseq_highest = self.head.modseq_highest.max(record.modseq);
                if record.expunged && !old.expunged {
                    dead.push(*position);
                }
            }
            rest = &rest[run..];
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

    fn write_facts(&self, position: usize, facts: Facts) -> Result<()> {
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
            self.blobs = Arc::new(Blobs::open(self.cache.clone(), self.head.cache_bytes)?);
        }
        Ok(Some((at, blob.len() as u32)))
    }

    /// Sets the names of the keyword bits.
    pub(crate) fn set_keywords(&mut self, names: &[String]) -> Result<()> {
        let mut data = Vec::new();
        names.iter().for_each(|name| Writer(&mut data).bytes(name.as_bytes()));
        self.head.keywords_at = self.heap_append(heap::Kind::Keywords, 0, &data)?;
        self.keywords = Arc::new(KeywordTable::from_names(names.iter().cloned()));
        Ok(())
    }

    /// Names of the keyword bits.
    pub(crate) fn keywords(&self) -> &Arc<KeywordTable> {
        &self.keywords
    }

    /// The message list as it is now.
    pub(crate) fn view(&self, recent: &Arc<Mutex<RecentChanges>>) -> View {
        View(Arc::new(ViewInner {
            uid_validity: self.head.uid_validity,
            uid_next: self.head.uid_next,
            modseq_highest: self.head.modseq_highest,
            vanished_floor: self.head.vanished_floor,
            generation: self.head.generation,
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
            recent: recent.clone(),
        }))
    }

    /// Writes the header slot of a checkpoint. It goes where the slot of the last committed
    /// checkpoint is not, however many attempts fail in between: see
    /// [`Files::slot_committed`].
    pub(crate) fn write_slot(&self, checkpoint: Lsn, owner_epoch: u32) -> Result<()> {
        let head = &self.head;
        let sequence = head.sequence + 1;
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
        slot.state = if head.names_differ { NAMES_DIFFER } else { 0 }.into();
        slot.keywords_at = head.keywords_at.into();
        slot.new_mtime = head.new_mtime.into();
        slot.cur_mtime = head.cur_mtime.into();
        slot.listed_at = head.listed_at.into();
        let at = (sequence % 2) * SLOT_BYTES;
        let path = || self.dir.join(INDEX_NAME);
        self.index.write_at(&slot.encode(), at).map_err(Error::io("write", path()))
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
        let now = (messages, self.head.bytes);
        let before = std::mem::replace(&mut self.accounted, now);
        (now.0.wrapping_sub(before.0), now.1.wrapping_sub(before.1))
    }

    /// What the user's usage counts for this mailbox.
    pub(crate) fn accounted(&self) -> (u64, u64) {
        self.accounted
    }

    /// Number of tombstones.
    pub(crate) fn tombstones(&self) -> u32 {
        self.tombs.total()
    }

    /// Whether the record at a position is a tombstone.
    pub(crate) fn is_tombstone(&self, position: usize) -> bool {
        self.tombs.contains(position)
    }

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
            let table = Table::open(&*self.index, self.head.count)?;
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

    /// Both slots, valid for every checkpoint: the file holds all effects up to now.
    pub(crate) fn write_both_slots(&mut self, owner_epoch: u32) -> Result<()> {
        for _ in 0..2 {
            self.write_slot(Lsn(0), owner_epoch)?;
            self.slot_committed();
        }
        Ok(())
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

/// Ends what a compaction began: new facts that agree with the index get their name, others never
/// came to have an index.
fn settle_facts(storage: &dyn Storage, dir: &Path, table: &Table, count: usize) -> Result<()> {
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

fn read_slot(index: &dyn StoredFile, path: &Path, limit: Lsn) -> Result<Slot> {
    let mut best: Option<Slot> = None;
    let mut first_error = None;
    for at in [0, SLOT_BYTES] {
        let mut bytes = [0; 512];
        if index.read_exact_at(&mut bytes, at).is_err() {
            continue;
        }
        match Slot::decode(&bytes) {
            Ok(slot) if slot.checkpoint_lsn.get() > limit.0 => {}
            Ok(slot) => {
                if best.is_none_or(|b| b.sequence.get() < slot.sequence.get()) {
                    best = Some(slot);
                }
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    best.ok_or_else(|| match first_error {
        Some(error) => damaged(path.to_owned())(error),
        None => Error::Corrupt {
            path: path.to_owned(),
            expected: "an index header of this or an earlier checkpoint",
            found: "none".into(),
        },
    })
}
