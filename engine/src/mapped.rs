//! The home of mmap and its `unsafe`: index records and cache blobs as other threads see them.
//!
//! One writer changes a file with `write_at`; readers load through a shared read-only map, record
//! by record, with atomic 8-byte loads. Small tables, and every table where the storage does not
//! map, are held in memory instead and the writer stores into them too; readers of one that has become
//! too small read the one that took its place.
//!
//! **When a record counts.** Two things can be wrong with what a load gives, and each has its
//! check:
//! - *Torn*: the writer is in the middle of it. [`Writes`] is odd while the writer changes records
//!   in place, and moves on afterwards. A reader that saw the same even number before and after
//!   its loads met no writer: its words are of one moment. Otherwise the CRC tells, and it looks
//!   again. All tables over one file share one `Writes`, since an old view's table shows the same
//!   pages.
//! - *Damaged*: the disk gave other bytes than were written. The CRC tells; for a record that was
//!   found whole since the map was opened (or since [`Trust`] last expired) it is not computed
//!   again. How far a page's records are verified is a number a page: records are verified from
//!   its first one on, in order, and with the order of their UIDs, at the page's borders too,
//!   so that blocks that changed places are noticed. What the writer writes it wrote whole; when
//!   its write fails, the page is verified anew.
//!
//! A walk over neighbours asks this once for what is left of a page ([`Run`]), and after each load
//! whether it still holds.
//!
//! Both need that the words were the file's: a map that lost pages ([`guard`]) is read with CRCs
//! only, and its zeros have none.
//!
//! Invariants: a map may reach past the end of its file, and only what lies below the committed
//! count is touched; we never cut a mapped file, and survive it when others do.

mod guard;
mod run;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use self::guard::Guarded;
pub(crate) use self::run::Run;
use crate::error::{Error, Result};
use crate::format::cache;
use crate::format::index::{RECORD_BYTES, RECORDS_OFFSET, Record, Words, words_from_bytes};
use crate::io::StoredFile;

/// Tables of at most this many records are read into memory rather than mapped.
const SMALL_RECORDS: usize = 256;
/// Caches of at most this many bytes are read blob by blob rather than mapped.
const SMALL_CACHE_BYTES: u64 = 64 << 10;
/// Words of a record.
const WORDS: usize = RECORD_BYTES / 8;
/// A record in memory.
type Cells = [AtomicU64; WORDS];
/// Records that are verified together: one 4 KiB page of the file.
pub(crate) const PAGE_RECORDS: usize = 64;
/// A page whose records were compared one by one with the other files: their order counts no more.
const EXAMINED: u8 = 255;
/// A page whose records are not in the order of their UIDs.
const SUSPECT: u8 = 254;
/// Looks at a record that is being written this often before it counts as damaged.
const TORN_READS_MAX: usize = 64;
/// Bytes that are prefetched at most for a blob.
const PREFETCH_BYTES_MAX: usize = 2048;
/// Bytes that processors load together.
const CACHE_LINE_BYTES: usize = 64;
/// No blob is smaller, so each begins in a piece of this size of its own.
const BLOB_BYTES_MIN: u64 = 64;

/// How long bytes that were found whole count as whole. One for a store.
#[derive(Debug)]
pub(crate) struct Trust {
    term: AtomicU32,
    /// Nothing is trusted: every read verifies.
    never: bool,
    /// Some mailbox met damage that nobody has looked at.
    alarm: AtomicBool,
}

impl Trust {
    /// With `seconds` of 0 every read verifies; whoever has a clock calls [`Trust::expire`].
    pub(crate) fn new(seconds: u64) -> Arc<Trust> {
        Arc::new(Trust {
            term: AtomicU32::new(0),
            never: seconds == 0,
            alarm: AtomicBool::new(false),
        })
    }

    /// From here on everything is verified again at its next touch.
    pub(crate) fn expire(&self) {
        self.term.fetch_add(1, Ordering::AcqRel);
    }

    /// Asks for a look at the damage that mailboxes met.
    pub(crate) fn raise_alarm(&self) {
        self.alarm.store(true, Ordering::Release);
    }

    /// Whether somebody asked since the last call.
    pub(crate) fn take_alarm(&self) -> bool {
        self.alarm.swap(false, Ordering::AcqRel)
    }
}

/// Odd while the writer of a file changes records in place; see the module's first paragraphs.
#[derive(Default)]
struct Writes(AtomicU64);

impl Writes {
    fn begin(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
        // The odd number is seen before anything that is written from here on.
        fence(Ordering::SeqCst);
    }

    fn end(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// The number to compare with afterwards; `None` while somebody writes.
    fn quiet(&self) -> Option<u64> {
        let now = self.0.load(Ordering::Acquire);
        now.is_multiple_of(2).then_some(now)
    }

    /// Whether nobody wrote since [`Writes::quiet`] gave `before`.
    fn still(&self, before: u64) -> bool {
        // What was loaded from the records comes before this load.
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == before
    }
}

/// While it lives, readers do not trust what they load.
pub(crate) struct Writing(Arc<Writes>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[inline]
fn load(cells: &Cells) -> Words {
    let word = |i: usize| u64::from_le(cells[i].load(Ordering::Acquire));
    // Spelt out, they stay in registers: as an array that is filled one by one they went through
    // the stack, where a wide load waits for the narrow stores before it.
    [word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7)]
}

enum Memory {
    Map(Guarded),
    Words(Box<[AtomicU64]>),
}

/// The records of an index file.
pub(crate) struct Table {
    memory: Memory,
    /// Records that fit.
    capacity: usize,
    writes: Arc<Writes>,
    trust: Arc<Trust>,
    /// [`Trust::term`] for which `verified` counts.
    term: AtomicU32,
    /// By page: so many of its records, from the first one on, are verified.
    verified: Box<[AtomicU8]>,
    /// The table that holds more records of the same file, where this one is in memory: nothing is
    /// stored into this one from then on, so its readers read there.
    grown: OnceLock<Arc<Table>>,
    /// No message below this position is without `\Seen`; with a count of the times that it was
    /// lowered, so that a scan beside a change does not raise it over what changed.
    unseen_floor: Mutex<(u64, usize)>,
}

impl Table {
    /// Opens the table of a file that holds `count` committed records.
    pub(crate) fn open(
        file: &dyn StoredFile,
        path: &Path,
        count: usize,
        trust: &Arc<Trust>,
    ) -> Result<Table> {
        Table::open_beside(file, path, count, trust, Arc::default())
    }

    /// Opens the file of this table anew, for more records. Old views keep the old table, and
    /// the writer's mark is one for both. For the writer, which writes to the new one from now on.
    pub(crate) fn reopen(
        &self,
        file: &dyn StoredFile,
        path: &Path,
        count: usize,
    ) -> Result<Arc<Table>> {
        let table = Table::open_beside(file, path, count, &self.trust, self.writes.clone())?;
        let table = Arc::new(table);
        table.raise_unseen_floor(0, self.unseen_floor().1);
        // A table grows once: who could do it has the files' lock, and the new one afterwards.
        let _ = self.grown.set(table.clone());
        Ok(table)
    }

    /// The table whose memory shows the file as it is.
    #[inline]
    fn live(&self) -> &Table {
        let mut table = self;
        while let Memory::Words(_) = table.memory
            && let Some(grown) = table.grown.get()
        {
            table = grown;
        }
        table
    }

    fn open_beside(
        file: &dyn StoredFile,
        path: &Path,
        count: usize,
        trust: &Arc<Trust>,
        writes: Arc<Writes>,
    ) -> Result<Table> {
        let capacity = (count + count / 2 + 64).next_power_of_two();
        let mut table = Table {
            memory: Memory::Words(Box::default()),
            capacity,
            writes,
            trust: trust.clone(),
            term: AtomicU32::new(trust.term.load(Ordering::Acquire)),
            verified: (0..capacity.div_ceil(PAGE_RECORDS)).map(|_| AtomicU8::new(0)).collect(),
            grown: OnceLock::new(),
            unseen_floor: Mutex::default(),
        };
        if count > SMALL_RECORDS {
            let len = RECORDS_OFFSET as usize + capacity * RECORD_BYTES;
            if let Some(map) = file.map(len).map_err(Error::io("map", path))? {
                table.memory = Memory::Map(Guarded::new(map, path));
                return Ok(table);
            }
        }
        let mut bytes = vec![0; count * RECORD_BYTES];
        file.read_exact_at(&mut bytes, RECORDS_OFFSET).map_err(Error::io("read", path))?;
        table.memory = Memory::Words((0..capacity * WORDS).map(|_| AtomicU64::new(0)).collect());
        table.written_from(0, &bytes);
        Ok(table)
    }

    /// Bytes that `count` records take in a map; 0 where they are in memory.
    pub fn mapped_bytes(&self, count: usize) -> u64 {
        match &self.memory {
            Memory::Map(_) => RECORDS_OFFSET + (count * RECORD_BYTES) as u64,
            Memory::Words(_) => 0,
        }
    }

    /// Whether a table of `count` records should be opened anew: it is full, or could be mapped.
    pub(crate) fn outgrown(&self, count: usize) -> bool {
        count > self.capacity
    }

    /// Whether pages of the file are gone: [`Table::restore`] once the file is mended.
    pub(crate) fn is_lost(&self) -> bool {
        self.whole().is_none()
    }

    /// Shows the mended file, to all who have this table.
    pub(crate) fn restore(&self, file: &dyn StoredFile, path: &Path) -> Result<()> {
        let Memory::Map(map) = &self.memory else { return Ok(()) };
        match file.map(map.len()).map_err(Error::io("map", path))? {
            Some(fresh) => map.restore(fresh).map_err(Error::io("map", path)),
            None => Ok(()),
        }
    }

    #[inline]
    fn whole(&self) -> Option<usize> {
        match &self.memory {
            Memory::Map(map) => map.whole(),
            Memory::Words(_) => Some(0),
        }
    }

    #[inline]
    fn still(&self, before: usize) -> bool {
        match &self.memory {
            Memory::Map(map) => map.still(before),
            Memory::Words(_) => true,
        }
    }

    /// The words of records that are neighbours.
    #[inline]
    fn cells(&self, records: Range<usize>) -> &[Cells] {
        let (index, count) = (records.start, records.len());
        assert!(index < self.capacity && count <= self.capacity - index);
        let first = match &self.memory {
            Memory::Words(words) => words[index * WORDS..][..count * WORDS].as_ptr(),
            Memory::Map(map) => {
                let offset = RECORDS_OFFSET as usize + index * RECORD_BYTES;
                debug_assert!(offset + count * RECORD_BYTES <= map.len());
                // SAFETY: the assertion above keeps the records inside the map, which was made
                // `RECORDS_OFFSET + capacity * RECORD_BYTES` long.
                unsafe { map.as_ptr().add(offset).cast::<AtomicU64>() }
            }
        };
        // SAFETY: `count * WORDS` words are there, by the slice's bounds or by the above; maps begin
        // at a page border and offsets are multiples of 8, so they are aligned; map and slice live as
        // long as `self`. Other threads change the file only through the kernel, which an atomic
        // load tolerates. Callers keep the records below the committed count, so the page is in the
        // file; when it is not any more, the guard's handler lays zeros there, which are a valid
        // value too.
        unsafe { std::slice::from_raw_parts(first.cast::<Cells>(), count) }
    }

    /// The words at `index`, below the committed count; possibly half changed, or damaged.
    #[inline]
    pub(crate) fn words(&self, index: usize) -> Words {
        load(&self.live().cells(index..index + 1)[0])
    }

    /// The first word alone: uid and flags, possibly damaged.
    #[inline]
    pub(crate) fn first_word(&self, index: usize) -> u64 {
        u64::from_le(self.live().cells(index..index + 1)[0][0].load(Ordering::Acquire))
    }

    /// The record at `index` of `count` committed ones; `None` when it is damaged or not where it
    /// belongs.
    #[inline]
    pub(crate) fn record(&self, index: usize, count: usize) -> Option<Record> {
        let table = self.live();
        if let Some(before) = table.writes.quiet()
            && table.is_verified(index)
            && let Some(whole) = table.whole()
        {
            let words = table.words(index);
            if table.writes.still(before) && table.still(whole) {
                return Some(Record::decode_unchecked(&words));
            }
        }
        table.verify(index, count)
    }

    /// The uid at `index` of `count` committed records, by the same rules.
    #[inline]
    pub(crate) fn uid(&self, index: usize, count: usize) -> Option<u32> {
        let table = self.live();
        // A uid never changes in place, and one word is never torn.
        if table.is_verified(index)
            && let Some(whole) = table.whole()
        {
            let uid = table.first_word(index) as u32;
            if table.still(whole) {
                return Some(uid);
            }
        }
        table.verify(index, count).map(|record| record.uid.0)
    }

    #[inline]
    fn is_verified(&self, index: usize) -> bool {
        self.verified_of(index / PAGE_RECORDS) > index % PAGE_RECORDS
    }

    /// So many records of a page, from its first one on, are verified.
    #[inline]
    fn verified_of(&self, page: usize) -> usize {
        if self.trust.never {
            return 0;
        }
        if self.term.load(Ordering::Acquire) != self.trust.term.load(Ordering::Acquire) {
            self.forget();
        }
        match self.verified[page].load(Ordering::Acquire) {
            SUSPECT | EXAMINED => 0,
            verified => usize::from(verified),
        }
    }

    /// Verifies everything anew at its next touch, but for pages that were examined.
    #[cold]
    fn forget(&self) {
        self.term.store(self.trust.term.load(Ordering::Acquire), Ordering::Release);
        for page in &self.verified {
            if page.load(Ordering::Relaxed) != EXAMINED {
                page.store(0, Ordering::Release);
            }
        }
    }

    /// The record by its CRC, and by its neighbours' UIDs.
    #[cold]
    fn verify(&self, index: usize, count: usize) -> Option<Record> {
        for attempt in 0..TORN_READS_MAX {
            let quiet = self.writes.quiet();
            if let Some(record) = Record::decode(&self.words(index)) {
                if let Some(before) = quiet {
                    self.verify_page(index, count, before);
                }
                let page = self.verified[index / PAGE_RECORDS].load(Ordering::Acquire);
                return (page != SUSPECT).then_some(record);
            }
            if attempt > 8 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        None
    }

    /// Verifies what is left of the page of `index`, of `count` committed records: at once, since a
    /// scan that went record by record would compute each one's CRC anew as its neighbour's.
    fn verify_page(&self, index: usize, count: usize, before: u64) {
        let page = index / PAGE_RECORDS;
        let state = self.verified[page].load(Ordering::Acquire);
        if state >= SUSPECT {
            return;
        }
        let (first, end) = (page * PAGE_RECORDS, (page + 1) * PAGE_RECORDS);
        let Some(mapped) = self.whole() else { return };
        // Of a neighbour that is damaged itself nothing can be told.
        let whole = |at: usize| Record::uid_if_whole(&self.words(at));
        let mut at = first + usize::from(state);
        let mut last = if at == 0 { None } else { whole(at - 1) };
        let mut in_order = true;
        while at < end.min(count) {
            let Some(uid) = whole(at) else { break };
            in_order &= last.is_none_or(|last| last < uid);
            last = Some(uid);
            at += 1;
        }
        if at > index && end < count {
            // The page's end must come before the next page's start.
            in_order &= whole(end).is_none_or(|next| last.is_none_or(|last| last < next));
        }
        if !self.writes.still(before) || !self.still(mapped) {
            return;
        }
        let now = if in_order { (at - first) as u8 } else { SUSPECT };
        self.verified[page].store(now, Ordering::Release);
    }

    /// Told by the mender after it compared every record of the page with the other files:
    /// `mended` when the page can be verified like others again.
    pub(crate) fn examined(&self, index: usize, mended: bool) {
        let state = if mended { 0 } else { EXAMINED };
        self.verified[index / PAGE_RECORDS].store(state, Ordering::Release);
    }

    /// Where a scan for the first unseen message may begin, and what [`Table::raise_unseen_floor`]
    /// wants to know.
    pub(crate) fn unseen_floor(&self) -> (u64, usize) {
        *self.unseen_floor.lock()
    }

    /// A scan that began with `lowered` found the first unseen message at `position`.
    pub(crate) fn raise_unseen_floor(&self, lowered: u64, position: usize) {
        let mut floor = self.unseen_floor.lock();
        if floor.0 == lowered {
            floor.1 = position;
        }
    }

    /// Told by the writer after a message without `\Seen` was written at `position`.
    pub(crate) fn lower_unseen_floor(&self, position: usize) {
        let mut floor = self.unseen_floor.lock();
        *floor = (floor.0 + 1, floor.1.min(position));
    }

    /// Held by the writer, under the file lock, while it changes records in place.
    pub(crate) fn writing(&self) -> Writing {
        self.writes.begin();
        Writing(self.writes.clone())
    }

    /// Told by the writer after it wrote the record into the file.
    pub(crate) fn written(&self, index: usize, record: &Words) {
        if let Memory::Words(words) = &self.memory {
            for (i, word) in record.iter().enumerate() {
                words[index * WORDS + i].store(word.to_le(), Ordering::Release);
            }
        }
    }
}

impl Table {
    /// The same for neighbours, from the one at `first` on, as the file has them now.
    pub(crate) fn written_from(&self, first: usize, bytes: &[u8]) {
        if let Memory::Words(_) = &self.memory {
            for (i, record) in bytes.chunks_exact(RECORD_BYTES).enumerate() {
                self.written(first + i, &words_from_bytes(record));
            }
        }
    }
}

/// The blobs of a cache file.
pub(crate) struct Blobs {
    file: Arc<dyn StoredFile>,
    path: PathBuf,
    map: Option<Guarded>,
    trust: Arc<Trust>,
    /// [`Trust::term`] for which `verified` counts.
    term: AtomicU32,
    /// A bit for each [`BLOB_BYTES_MIN`] of the map: the blob that begins there was found whole.
    verified: Box<[AtomicU64]>,
}

/// Bytes of a blob: borrowed from the map, or read.
pub(crate) enum BlobBytes<'a> {
    /// In the map. With the state of the map, and the bytes from here to the blob behind the next.
    Mapped(&'a [u8], &'a Guarded, usize, usize),
    /// Read for this call.
    Read(Vec<u8>),
}

impl BlobBytes<'_> {
    /// Whether what was read from it so far was the blob: a mapped page may be lost meanwhile.
    pub(crate) fn held(&self) -> bool {
        match self {
            BlobBytes::Mapped(_, map, before, _) => map.still(*before),
            BlobBytes::Read(_) => true,
        }
    }
}

impl BlobBytes<'_> {
    /// Has the processor fetch what lies at these places of the blob behind the next, counted from its
    /// first byte: blobs lie in the order of their messages, and who reads one mostly reads those that
    /// follow. A scan of more blobs than its caches hold would wait for memory at every one. So few
    /// lines can be on their way at a time that what is not needed costs as much as what is.
    #[inline]
    pub(crate) fn fetch_ahead(&self, place: Range<usize>) {
        let BlobBytes::Mapped(bytes, .., distance) = self else { return };
        let last = place.end.saturating_sub(1).min(place.start.saturating_add(PREFETCH_BYTES_MAX));
        let lines = (place.start..last).step_by(CACHE_LINE_BYTES).chain([last]);
        #[cfg(target_arch = "x86_64")]
        for at in lines {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = bytes.as_ptr().wrapping_add(distance.wrapping_add(at));
            // SAFETY: a prefetch reads nothing that the program sees and never faults, whatever the
            // address.
            unsafe { _mm_prefetch(line.cast(), _MM_HINT_T0) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (bytes, lines, distance);
    }
}

impl std::ops::Deref for BlobBytes<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            BlobBytes::Mapped(bytes, ..) => bytes,
            BlobBytes::Read(bytes) => bytes,
        }
    }
}

impl Blobs {
    /// Opens the blobs of a file of which `committed` bytes are in use.
    pub(crate) fn open(
        file: Arc<dyn StoredFile>,
        path: &Path,
        committed: u64,
        trust: &Arc<Trust>,
    ) -> Result<Blobs> {
        let (mut map, mut pieces) = (None, 0);
        if committed > SMALL_CACHE_BYTES {
            let len = (committed + committed / 2).next_power_of_two();
            pieces = (len / BLOB_BYTES_MIN).div_ceil(64) as usize;
            map = file.map(len as usize).map_err(Error::io("map", path))?;
        }
        let verified = if map.is_some() { pieces } else { 0 };
        Ok(Blobs {
            file,
            path: path.to_owned(),
            map: map.map(|map| Guarded::new(map, path)),
            trust: trust.clone(),
            term: AtomicU32::new(trust.term.load(Ordering::Acquire)),
            verified: (0..verified).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// Opens the file of these blobs anew, for more bytes.
    pub(crate) fn reopen(&self, committed: u64) -> Result<Blobs> {
        Blobs::open(self.file.clone(), &self.path, committed, &self.trust)
    }

    /// Bytes of `committed` that are mapped: all or none.
    pub fn mapped_bytes(&self, committed: u64) -> u64 {
        if self.map.is_some() { committed } else { 0 }
    }

    /// Whether a file of `committed` bytes should be opened anew.
    pub(crate) fn outgrown(&self, committed: u64) -> bool {
        match &self.map {
            Some(map) => committed > map.len() as u64,
            None => committed > 2 * SMALL_CACHE_BYTES,
        }
    }

    /// Whether pages of the file are gone: [`Blobs::restore`] once the file is long enough again.
    pub(crate) fn is_lost(&self) -> bool {
        self.map.as_ref().is_some_and(|map| map.whole().is_none())
    }

    /// Shows the file as it is now, to all who have these blobs.
    pub(crate) fn restore(&self) -> Result<()> {
        let Some(map) = &self.map else { return Ok(()) };
        match self.file.map(map.len()).map_err(Error::io("map", &self.path))? {
            Some(fresh) => map.restore(fresh).map_err(Error::io("map", &self.path)),
            None => Ok(()),
        }
    }

    /// The whole blob of a message: `len` bytes at `offset`, below the committed length. `None`
    /// when they are not (a damaged record), are damaged, or cannot be read.
    pub(crate) fn blob(
        &self,
        offset: u64,
        len: usize,
        committed: u64,
        seed: u32,
        uid: u32,
    ) -> Option<BlobBytes<'_>> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= committed)?;
        if let Some(map) = self.map.as_ref()
            && let Some(before) = map.whole()
        {
            // Bytes below the committed length never change, so a plain slice is sound; if the
            // page is lost they turn to zeros, and `BlobBytes::held` tells afterwards.
            let bytes = map.get(offset as usize..end as usize)?;
            let whole = if self.is_verified(offset, len) {
                cache::is_of(bytes, uid)
            } else {
                let whole = cache::decode(bytes, seed, uid).is_some();
                if whole && map.still(before) {
                    self.set_verified(offset);
                }
                whole
            };
            if map.still(before) {
                // The next one's size was fetched with its first line when this one was the next but one.
                let next = map.get(end as usize..committed as usize).map_or(0, cache::span);
                return whole.then_some(BlobBytes::Mapped(bytes, map, before, len + next));
            }
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        cache::decode(&bytes, seed, uid).is_some().then_some(BlobBytes::Read(bytes))
    }

    fn is_verified(&self, offset: u64, len: usize) -> bool {
        if self.trust.never || (len as u64) < BLOB_BYTES_MIN {
            return false;
        }
        let term = self.trust.term.load(Ordering::Acquire);
        if self.term.load(Ordering::Acquire) != term {
            self.term.store(term, Ordering::Release);
            self.verified.iter().for_each(|word| word.store(0, Ordering::Release));
            return false;
        }
        let piece = offset / BLOB_BYTES_MIN;
        let word = self.verified.get((piece / 64) as usize);
        word.is_some_and(|word| word.load(Ordering::Acquire) & (1 << (piece % 64)) != 0)
    }

    fn set_verified(&self, offset: u64) {
        let piece = offset / BLOB_BYTES_MIN;
        if let Some(word) = self.verified.get((piece / 64) as usize) {
            word.fetch_or(1 << (piece % 64), Ordering::AcqRel);
        }
    }
}
