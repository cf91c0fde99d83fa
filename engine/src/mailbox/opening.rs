//! Opening a mailbox's files: the newest header that counts, mending after a crash, counting anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::types::{ModSeq, SystemFlags, Uid, UidValidity};

use super::cold::{Cold, Sweep};
use super::compact::settle_facts;
use super::damage::Damage;
use super::files::{Files, Head, INDEX_NAME};
use super::keywords::KeywordTable;
use super::tombs::Tombstones;
use crate::error::{Error, Result};
use crate::format::facts::FACTS_BYTES;
use crate::format::index::{
    NAMES_DIFFER, NOT_LISTED_SINCE_CRASH, RECORD_BYTES, RECORDS_OFFSET, SLOT_BYTES, Slot,
};
use crate::format::wire::Reader;
use crate::format::{FormatError, cache, heap, turn_one_bit_back};
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::{Open, Storage, StoredFile};
use crate::mapped::{Blobs, Table, Trust};
use crate::takeover::{Tallied, is_copy};

/// Puts an empty header into an index that has lost both of its own: [`Files::catch_up`] tells the
/// rest.
pub(crate) fn begin_anew(
    storage: &dyn Storage,
    dir: &Path,
    store_id: StoreId,
    id: MailboxId,
    uid_validity: UidValidity,
) -> Result<()> {
    let path = dir.join(INDEX_NAME);
    let index = storage.open(&path, Open::Create).map_err(Error::io("open", &path))?;
    let slot = Slot::empty(store_id.0, id.0, uid_validity.0);
    index.write_at(&slot.encode(), 0).map_err(Error::io("write", path))
}

/// Zeros that are written at a time.
const ZEROS_BYTES: u64 = 1 << 20;

/// Bytes that the names of all keywords of a mailbox may take when one damaged bit is looked for.
const KEYWORD_ENTRY_BYTES_MAX: usize = 2048;

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
        trust: &Arc<Trust>,
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
            // The log's word, where it has risen since the header was written.
            uid_validity,
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
            not_listed_since_crash: slot.state.get() & NOT_LISTED_SINCE_CRASH != 0,
            keywords_at: slot.keywords_at.get(),
            new_mtime: slot.new_mtime.get(),
            cur_mtime: slot.cur_mtime.get(),
            listed_at: slot.listed_at.get(),
            owner_epoch: slot.owner_epoch.get(),
            sequence: slot.sequence.get(),
        };
        // Without records the file may end with the second slot.
        let needed = match head.count {
            0 => 0,
            count => RECORDS_OFFSET + (count * RECORD_BYTES) as u64,
        };
        let mut suspicious = false;
        if index.size().map_err(Error::io("stat", &path))? < needed {
            tracing::error!(path = %path.display(), size, needed, "the file was cut short");
            index.set_len(needed).map_err(Error::io("lengthen", &path))?;
            suspicious = true;
        }
        let table = Arc::new(Table::open(&*index, &path, head.count, trust)?);
        settle_facts(storage, dir, &table, head.count)?;
        let cold =
            Cold { facts: open(&dir.join("cursus.facts"))?, heap: open(&dir.join("cursus.heap"))? };
        let cache_at = cache_path(dir, head.cache_generation);
        let cache_file = open(&cache_at)?;
        let mut files = Files {
            dir: dir.to_owned(),
            store_id,
            id,
            index,
            cold,
            blobs: Arc::new(Blobs::open(cache_file.clone(), &cache_at, 0, trust)?),
            cache: cache_file,
            head,
            table,
            tombs: Tombstones::default(),
            keywords: Arc::default(),
            trust: trust.clone(),
            damage: Damage::new(trust),
            torn_allowed: false,
            notes: Vec::new(),
            fileless: BTreeSet::new(),
            suspect_removed: 0,
            bases: None,
            is_copy: is_copy(storage, dir),
            accounted: (0, 0),
            tallied: Tallied::default(),
            changed: None,
            lineage: None,
            heir: Arc::default(),
        };
        let floor = usize::try_from(slot.unseen_floor.get()).unwrap_or(0);
        files.table.raise_unseen_floor(0, floor.min(files.head.count));
        files.open_heap()?;
        files.open_cache(storage)?;
        files.read_keywords()?;
        if slot.tombstones.get() > 0 {
            files.scan_tombstones();
            files.suspect_removed = slot.tombstones.get().saturating_sub(files.tombs.total());
        }
        if suspicious || files.tombs.total() != slot.tombstones.get() {
            (0..files.head.count).for_each(|position| files.damage.note(position));
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
        let path = cache_path(&self.dir, self.head.cache_generation);
        let (file, committed) = (self.cache.clone(), self.head.cache_bytes);
        self.blobs = Arc::new(Blobs::open(file, &path, committed, &self.trust)?);
        Ok(())
    }

    /// The names of the keyword bits: where the header points, or else an older, shorter list.
    fn keyword_names(&mut self) -> Option<Vec<u8>> {
        let at = self.head.keywords_at;
        if let Some(data) = self.cold.entry(at, heap::Kind::Keywords, 0) {
            return Some(data);
        }
        let mut bytes = vec![0; KEYWORD_ENTRY_BYTES_MAX];
        let read = self.cold.heap.read_at(&mut bytes, at).ok()?;
        bytes.truncate(read);
        let data = |bytes: &[u8]| {
            let header = bytes.first_chunk::<{ heap::ENTRY_HEADER_BYTES }>()?;
            let len = heap::data_len(header, heap::Kind::Keywords, 0)?;
            let data = bytes.get(heap::ENTRY_HEADER_BYTES..)?.get(..len)?;
            heap::is_whole(header, data).then(|| data.to_vec())
        };
        if !turn_one_bit_back(&mut bytes, |bytes| data(bytes).is_some()) {
            return None;
        }
        let data = data(&bytes)?;
        let path = self.dir.join("cursus.heap");
        let whole = &bytes[..heap::ENTRY_HEADER_BYTES + data.len()];
        if let Err(error) = self.cold.heap.write_at(whole, at) {
            tracing::warn!(path = %path.display(), %error, "cannot mend the names of keywords");
        }
        let line = "mended from their checksum";
        self.notes.push(format!("cursus.heap: damaged keywords at {at}, {line}"));
        Some(data)
    }

    pub(super) fn read_keywords(&mut self) -> Result<()> {
        if self.head.keywords_at == 0 {
            return Ok(());
        }
        let path = self.dir.join("cursus.heap");
        let Some(data) = self.keyword_names() else {
            // Bits without a name are shown by their number, and the next new keyword writes
            // down all.
            let at = self.head.keywords_at;
            let line = "their names are lost: shown as unreadable-0 and so on";
            self.notes.push(format!("cursus.heap: damaged keywords at {at}, {line}"));
            let names = (0..KeywordTable::KEYWORDS_MAX).map(|bit| format!("unreadable-{bit}"));
            self.keywords = Arc::new(KeywordTable::from_names(names));
            return Ok(());
        };
        let mut reader = Reader::new("keyword names", &data);
        let mut names = Vec::new();
        while reader.left() > 0 {
            names.push(reader.text().map_err(damaged(path.clone()))?);
        }
        self.keywords = Arc::new(KeywordTable::from_names(names));
        Ok(())
    }

    fn scan_tombstones(&mut self) {
        let whole = |i: &usize| self.table.record(*i, self.head.count).is_some_and(|r| r.expunged);
        let dead: Vec<usize> = (0..self.head.count).filter(whole).collect();
        self.tombs = Tombstones::default().with(dead);
    }

    /// Has every record looked at, with its facts and its name: after a crash some may be half
    /// written, and facts may point into the heap behind the end that the last checkpoint knew,
    /// or at an entry that was lost.
    pub(crate) fn distrust_records(&mut self) -> Result<()> {
        self.torn_allowed = true;
        let size = self.cold.heap.size().map_err(Error::io("stat", &self.dir))?;
        self.head.heap_bytes = self.head.heap_bytes.max(size.next_multiple_of(8));
        let mut sweep = Sweep::default();
        for position in 0..self.head.count {
            let record = self.table.record(position, self.head.count);
            let at = record.and_then(|r| sweep.location(&self.cold, position, self.head.count, &r));
            if at.is_none() {
                self.damage.note(position);
            }
        }
        Ok(())
    }

    /// Overwrites what lies behind the last record and its facts. Recovery found messages void
    /// that were applied before the crash, and who has lost both headers looks for records behind
    /// the committed ones.
    pub(crate) fn clear_tail(&self) -> Result<()> {
        let count = self.head.count as u64;
        let tails = [
            (&self.index, RECORDS_OFFSET + count * RECORD_BYTES as u64, INDEX_NAME),
            (&self.cold.facts, count * FACTS_BYTES as u64, "cursus.facts"),
        ];
        for (file, end, name) in tails {
            let path = || self.dir.join(name);
            let mut at = end;
            let size = file.size().map_err(Error::io("stat", path()))?;
            while at < size {
                let zeros = vec![0; (size - at).min(ZEROS_BYTES) as usize];
                file.write_at(&zeros, at).map_err(Error::io("write", path()))?;
                at += zeros.len() as u64;
            }
        }
        Ok(())
    }

    /// Counts again what the header counts: after recovery.
    pub(crate) fn recount(&mut self) {
        self.scan_tombstones();
        let (mut unseen, mut deleted, mut bytes) = (0, 0, 0);
        for position in 0..self.head.count {
            let Some(record) = self.table.record(position, self.head.count) else { continue };
            if !record.expunged {
                unseen += u32::from(!record.flags.contains(SystemFlags::SEEN));
                deleted += u32::from(record.flags.contains(SystemFlags::DELETED));
                bytes += u64::from(record.size);
            }
            self.head.modseq_highest = self.head.modseq_highest.max(record.modseq);
        }
        (self.head.unseen, self.head.deleted, self.head.bytes) = (unseen, deleted, bytes);
    }
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
            Err(error) => {
                // A slot that no checkpoint has used yet is zeros.
                if bytes.iter().any(|b| *b != 0) {
                    tracing::error!(path = %path.display(), slot = at, %error, "a header is damaged");
                }
                first_error = first_error.or(Some(error));
            }
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
