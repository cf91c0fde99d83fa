//! A session's frozen message list.
//!
//! A view fixes which messages exist and their sequence numbers. Flags are read live from the
//! shared table, so a record may be newer than its view, never half written. Sync points compare
//! two views and tell what happened in between ([`changes`]); [`records`] walks over one.

mod changes;
mod records;

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock, mpsc};

use parking_lot::Mutex;
use protocol::types::{ModSeq, SeqNum, SystemFlags, Uid, UidValidity};

use super::cold::{Cold, Sweep};
use super::compact::{Heir, Lineage};
use super::damage::Damage;
use super::early::Reverted;
use super::keywords::KeywordTable;
use super::tombs::Tombstones;
use crate::error::{Error, Result};
use crate::format::cache;
use crate::format::index::Record;
use crate::layout::Location;
use crate::mapped::{BlobBytes, Blobs, Table};
use crate::message::Extras;
use crate::seen::PrivateSeen;

pub use changes::Changes;
pub(crate) use changes::RecentChanges;
pub use records::Records;
pub(super) use records::Walk;

/// A view of so many records is let go by a thread of its own, if it is the last of its table.
const FAREWELL_RECORDS_MIN: usize = 32 << 10;
/// Messages whose facts are read where the caller is: as many as one read brings.
const FACTS_INLINE_MAX: u32 = 128;
/// Records that are looked at for the first unseen one where the caller is.
const UNSEEN_INLINE_MAX: usize = 16 << 10;

/// Position of the first of `count` records whose uid is not below `uid`. Uids rise, so how far it
/// is from both ends is bounded by its distance from their uids: where few are missing, that leaves
/// little to search.
pub(super) fn lower_bound(count: usize, uid: Uid, uid_at: impl Fn(usize) -> Uid) -> usize {
    if count == 0 {
        return 0;
    }
    let (first, last) = (uid_at(0), uid_at(count - 1));
    if uid <= first {
        return 0;
    }
    if uid > last {
        return count;
    }
    let mut low = count.saturating_sub((last.0 - uid.0) as usize + 1);
    let mut high = ((uid.0 - first.0) as usize).min(count);
    while low < high {
        let middle = (low + high) / 2;
        if uid_at(middle) < uid { low = middle + 1 } else { high = middle }
    }
    low
}

pub(crate) struct ViewInner {
    pub(crate) uid_validity: UidValidity,
    pub(crate) uid_next: Uid,
    pub(crate) modseq_highest: ModSeq,
    pub(crate) vanished_floor: ModSeq,
    pub(crate) generation: u32,
    /// How this generation came from the one before, if that was in this mailbox's life in memory.
    pub(crate) lineage: Option<Arc<Lineage>>,
    pub(crate) heir: Arc<OnceLock<Heir>>,
    pub(crate) table: Arc<Table>,
    /// Records, tombstones included.
    pub(crate) count: usize,
    pub(crate) tombs: Tombstones,
    pub(crate) unseen: u32,
    pub(crate) deleted: u32,
    pub(crate) bytes: u64,
    pub(crate) keywords: Arc<KeywordTable>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) blobs_committed: u64,
    pub(crate) blobs_seed: u32,
    pub(crate) cold: Cold,
    pub(crate) damage: Arc<Damage>,
    pub(crate) recent: Arc<Mutex<RecentChanges>>,
    pub(crate) reverted: Arc<Mutex<Reverted>>,
}

/// An immutable message list of a mailbox; cheap to clone.
#[derive(Clone)]
pub struct View(pub(crate) Arc<ViewInner>, pub(crate) Option<PrivateSeen>);

impl Drop for View {
    /// The last view of a compacted generation has maps and files to let go, hundreds of megabytes
    /// of page cache with them: not where a session's core would wait for it. Should two views go
    /// at the same moment, the one that is later does it where it is.
    fn drop(&mut self) {
        let is_last = Arc::strong_count(&self.0) == 1 && Arc::strong_count(&self.0.table) == 1;
        if self.0.count >= FAREWELL_RECORDS_MIN && is_last {
            let_go(self.0.clone());
        }
    }
}

fn let_go(view: Arc<ViewInner>) {
    static LETTING_GO: OnceLock<Option<mpsc::Sender<Arc<ViewInner>>>> = OnceLock::new();
    let thread = LETTING_GO.get_or_init(|| {
        let (give, taken) = mpsc::channel();
        let let_go = move || taken.into_iter().for_each(drop);
        std::thread::Builder::new().name("cursus-let-go".into()).spawn(let_go).ok()?;
        Some(give)
    });
    if let Some(thread) = thread {
        // Without the thread it goes here.
        let _ = thread.send(view);
    }
}

/// What of extras somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtrasPart {
    /// Answers in wire form.
    Answers,
    /// Header fields.
    Fields,
    /// Both.
    All,
}

/// A message's extras inside a view's cache; proven whole when made.
pub struct ExtrasRef<'a> {
    blob: BlobBytes<'a>,
}

impl ExtrasRef<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        let len = u32::from_le_bytes([self.blob[0], self.blob[1], self.blob[2], self.blob[3]]);
        &self.blob[cache::BLOB_HEADER_BYTES..][..len as usize]
    }

    /// The reader over them; `None` when they were made by a version that differs from this one.
    pub fn extras(&self) -> Option<Extras<'_>> {
        Extras::open(self.bytes()).ok()
    }

    /// For who goes on with the next messages and reads the same of them: has the processor fetch what
    /// FETCH answers from, or the header fields.
    #[inline]
    pub fn fetch_ahead(&self, extras: &Extras<'_>, part: ExtrasPart) {
        let (list_end, fields) = extras.fields_place();
        let behind = |at: usize| cache::BLOB_HEADER_BYTES + at;
        if part != ExtrasPart::Fields {
            self.blob.fetch_ahead(0..behind(extras.answers_end()));
        } else {
            self.blob.fetch_ahead(0..behind(list_end));
        }
        if part != ExtrasPart::Answers {
            self.blob.fetch_ahead(behind(fields.start)..behind(fields.end));
        }
    }

    /// Asked after the extras were used: whether they were whole all the time. The cache file may
    /// be cut by somebody under the map.
    pub fn held(&self) -> bool {
        self.blob.held()
    }
}

impl View {
    /// Number of messages.
    pub fn exists(&self) -> u32 {
        self.0.count as u32 - self.0.tombs.total()
    }

    /// UIDVALIDITY.
    pub fn uid_validity(&self) -> UidValidity {
        self.0.uid_validity
    }

    /// UIDNEXT.
    pub fn uid_next(&self) -> Uid {
        self.0.uid_next
    }

    /// HIGHESTMODSEQ.
    pub fn modseq_highest(&self) -> ModSeq {
        self.0.modseq_highest
    }

    /// Whether the change with this MODSEQ was answered by [`crate::Mailbox::store_early`] and then
    /// failed: who was told of it has to be told what the flags are.
    pub fn was_reverted(&self, modseq: ModSeq) -> bool {
        self.0.reverted.lock().contains(modseq)
    }

    /// Removals at or below this have no tombstone: a client that last synced before it cannot be
    /// told exactly what vanished (RFC 7162 section 3.2.6).
    pub fn vanished_floor(&self) -> ModSeq {
        self.0.vanished_floor
    }

    /// Names of the keyword bits.
    pub fn keywords(&self) -> &KeywordTable {
        self.0.keywords.newest()
    }

    /// Messages without the owner's `\Seen`.
    pub fn unseen(&self) -> u32 {
        self.0.unseen
    }

    /// Messages with `\Deleted`.
    pub fn deleted(&self) -> u32 {
        self.0.deleted
    }

    /// Served octets of all messages.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Bytes of the files that are mapped for this view.
    pub(crate) fn mapped_bytes(&self) -> u64 {
        self.0.table.mapped_bytes(self.0.count) + self.0.blobs.mapped_bytes(self.0.blobs_committed)
    }

    pub(crate) fn position(&self, seq: SeqNum) -> Option<usize> {
        (seq.0 >= 1 && seq.0 <= self.exists()).then(|| self.0.tombs.live(seq.index()))
    }

    fn seq_at(&self, position: usize) -> SeqNum {
        SeqNum(position as u32 - self.0.tombs.rank(position) + 1)
    }

    pub(crate) fn uid_at(&self, position: usize) -> Uid {
        let inner = &self.0;
        match inner.table.uid(position, inner.count) {
            Some(uid) => Uid(uid),
            None => {
                inner.damage.note(position);
                uid_of_damaged(&inner.table, &inner.cold, position)
            }
        }
    }

    /// First position whose uid is not below `uid`.
    pub(crate) fn lower_bound(&self, uid: Uid) -> usize {
        lower_bound(self.0.count, uid, |position| self.uid_at(position))
    }

    /// The record at a position, tombstone or not; `None` when it stays damaged.
    #[inline]
    pub(crate) fn record_at(&self, position: usize) -> Option<Record> {
        let mut record = self.plain_record_at(position)?;
        if let Some(seen) = &self.1 {
            record.flags = seen.laid_over(record.uid, record.flags);
        }
        Some(record)
    }

    /// As the owner has it.
    #[inline]
    fn plain_record_at(&self, position: usize) -> Option<Record> {
        if self.0.heir.get().is_some() {
            return self.inherited_record_at(position);
        }
        let found = self.0.table.record(position, self.0.count);
        if found.is_none() {
            self.0.damage.note(position);
        }
        found
    }

    /// Where the table has an heir.
    #[cold]
    fn inherited_record_at(&self, position: usize) -> Option<Record> {
        if let Some(newest) = self.0.heir.get().and_then(|heir| heir.record(position)) {
            return newest;
        }
        let found = self.0.table.record(position, self.0.count);
        if found.is_none() {
            self.0.damage.note(position);
        }
        found
    }

    pub(crate) fn position_of(&self, uid: Uid) -> Option<usize> {
        let position = self.lower_bound(uid);
        let there = position < self.0.count && self.uid_at(position) == uid;
        (there && !self.0.tombs.contains(position)).then_some(position)
    }

    /// Where the file of a message was last seen; `None` when the message is not in the view, or
    /// its facts are damaged.
    pub(crate) fn location(&self, uid: Uid) -> Option<Location> {
        self.file(uid).map(|(at, _)| at)
    }

    /// As [`View::location`], with the file's octets.
    pub(crate) fn file(&self, uid: Uid) -> Option<(Location, u32)> {
        let position = self.position_of(uid)?;
        let file = self.0.cold.file(position, &self.record_at(position)?);
        if file.is_none() {
            self.0.damage.note(position);
        }
        file
    }

    /// The base name of a message's file: in a Maildir what stands before the flags. `None` as for
    /// [`View::record_of`], and where the name is not text.
    pub fn file_name(&self, uid: Uid) -> Option<String> {
        let location = self.location(uid)?;
        match location.base.is_empty() {
            true => Some(format!("{}.", uid.0)),
            false => String::from_utf8(location.base).ok(),
        }
    }

    /// Stored octets and content id of a message.
    pub(crate) fn stored(&self, uid: Uid) -> Option<(u32, [u8; 16])> {
        let position = self.position_of(uid)?;
        let Some(facts) = self.0.cold.facts(position, uid) else {
            self.0.damage.note(position);
            return None;
        };
        Some((facts.stored.get(), facts.content_id))
    }

    /// The content id of a message, 32 hexadecimal digits: BLAKE3-128 of the served bytes.
    pub fn content_id(&self, uid: Uid) -> Option<String> {
        let (_, id) = self.stored(uid)?;
        Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The UID of a sequence number.
    pub fn uid(&self, seq: SeqNum) -> Option<Uid> {
        self.position(seq).map(|p| self.uid_at(p))
    }

    /// The sequence number of a UID.
    pub fn seq(&self, uid: Uid) -> Option<SeqNum> {
        self.position_of(uid).map(|p| self.seq_at(p))
    }

    /// Whether damage was met that is not mended yet: what is missing from an answer may be
    /// there after [`super::Mailbox::mend`].
    pub fn met_damage(&self) -> bool {
        self.0.damage.any()
    }

    /// The record of a sequence number.
    pub fn record(&self, seq: SeqNum) -> Option<Record> {
        self.position(seq).and_then(|p| self.record_at(p))
    }

    /// The record of a UID.
    pub fn record_of(&self, uid: Uid) -> Option<(SeqNum, Record)> {
        let position = self.position_of(uid)?;
        Some((self.seq_at(position), self.record_at(position)?))
    }

    /// UIDs of an inclusive range of sequence numbers, cut to those that exist: reads a word where
    /// [`View::records`] reads the record.
    pub fn uids_within(&self, first: SeqNum, last: SeqNum) -> impl Iterator<Item = Uid> + '_ {
        let (first, last) = (first.0.max(1), last.0.min(self.exists()));
        let count = (last + 1).saturating_sub(first) as usize;
        let from = if count == 0 { 0 } else { self.0.tombs.live(first as usize - 1) };
        let live = (from..).filter(|position| !self.0.tombs.contains(*position));
        let mut walk = self.walk();
        live.take(count).map(move |position| walk.uid_at(position))
    }

    /// Sequence numbers of the messages in ascending UID ranges.
    pub fn seqs_in_uid_ranges(&self, ranges: &[(u32, u32)]) -> Vec<SeqNum> {
        let ranges = ranges.iter().filter_map(|&range| self.seqs_in_uid_range(range));
        ranges.flat_map(|(first, last)| first.0..=last.0).map(SeqNum).collect()
    }

    /// First and last sequence number of the messages in an inclusive UID range; `None` when there
    /// are none. Costs two searches, whatever lies between.
    pub fn seqs_in_uid_range(&self, (first, last): (u32, u32)) -> Option<(SeqNum, SeqNum)> {
        let before = |position: usize| position as u32 - self.0.tombs.rank(position);
        let from = before(self.lower_bound(Uid(first)));
        let to = last.checked_add(1).map_or(self.0.count, |uid| self.lower_bound(Uid(uid)));
        let to = before(to);
        (from < to).then(|| (SeqNum(from + 1), SeqNum(to)))
    }

    /// The first message without `\Seen`.
    pub fn first_unseen(&self) -> Option<SeqNum> {
        match self.look_for_unseen(usize::MAX) {
            ControlFlow::Break(found) => found,
            ControlFlow::Continue(()) => None,
        }
    }

    /// The first message that is not in a set; looks at each range of the set once.
    fn first_outside(&self, seen: &PrivateSeen) -> Option<SeqNum> {
        let mut position = 0;
        while position < self.0.count {
            if self.0.tombs.contains(position) {
                position += 1;
                continue;
            }
            match seen.run_end(self.uid_at(position)) {
                None => return Some(self.seq_at(position)),
                Some(Uid(u32::MAX)) => return None,
                Some(last) => position = self.lower_bound(Uid(last.0 + 1)),
            }
        }
        None
    }

    /// As [`View::first_unseen`], but gives up behind so many records.
    fn look_for_unseen(&self, records_max: usize) -> ControlFlow<Option<SeqNum>> {
        if let Some(seen) = &self.1 {
            return ControlFlow::Break(self.first_outside(seen));
        }
        if self.0.unseen == 0 {
            return ControlFlow::Break(None);
        }
        let table = &self.0.table;
        let (lowered, from) = table.unseen_floor();
        let unseen = |position: &usize| {
            !self.0.tombs.contains(*position)
                && self.record_at(*position).is_some_and(|r| !r.flags.contains(SystemFlags::SEEN))
        };
        let to = self.0.count.min(from.saturating_add(records_max));
        let Some(position) = (from..to).find(unseen) else {
            table.raise_unseen_floor(lowered, to);
            return match to == self.0.count {
                true => ControlFlow::Break(None),
                false => ControlFlow::Continue(()),
            };
        };
        table.raise_unseen_floor(lowered, position);
        ControlFlow::Break(Some(self.seq_at(position)))
    }

    /// Wire-ready extras, when the cache has them whole.
    pub fn extras(&self, record: &Record) -> Option<ExtrasRef<'_>> {
        if record.cache_len == 0 {
            return None;
        }
        let inner = &self.0;
        let len = record.cache_len as usize;
        let (committed, seed) = (inner.blobs_committed, inner.blobs_seed);
        let blob = inner.blobs.blob(record.cache_offset, len, committed, seed, record.uid.0)?;
        Some(ExtrasRef { blob })
    }

    /// The extras, verified now whatever was verified before; `None` when they are damaged.
    pub(crate) fn extras_verified(&self, record: &Record) -> Option<Vec<u8>> {
        let found = self.extras(record)?;
        let whole = cache::decode(&found.blob, self.0.blobs_seed, record.uid.0).is_some();
        let bytes = found.bytes().to_vec();
        (whole && found.held()).then_some(bytes)
    }

    /// Whether this is the very same view: then nothing happened in between.
    pub fn is_same(&self, other: &View) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How many messages are in ascending UID ranges.
    pub fn count_in_uid_ranges(&self, ranges: &[(u32, u32)]) -> u32 {
        let before = |uid: u32| {
            let position = self.lower_bound(Uid(uid));
            position as u32 - self.0.tombs.rank(position)
        };
        let last = |uid: u32| uid.checked_add(1).map_or(self.exists(), before);
        ranges.iter().map(|&(a, b)| last(b).saturating_sub(before(a))).sum()
    }

    /// Sequence numbers and UIDs of all messages.
    pub fn uids(&self) -> impl Iterator<Item = (SeqNum, Uid)> + '_ {
        let live = (0..self.0.count).filter(|p| !self.0.tombs.contains(*p));
        let mut walk = self.walk();
        live.enumerate().map(move |(i, p)| (SeqNum(i as u32 + 1), walk.uid_at(p)))
    }
}

/// The facts tell the uid of a record that is damaged, so that others are found past it.
#[cold]
pub(super) fn uid_of_damaged(table: &Table, cold: &Cold, position: usize) -> Uid {
    cold.uid(position).unwrap_or(Uid(table.first_word(position) as u32))
}

impl View {
    fn save_dates(&self, first: SeqNum, last: SeqNum) -> Vec<Option<i64>> {
        let mut sweep = Sweep::default();
        let (cold, count) = (&self.0.cold, self.0.count);
        let date = |seq| {
            let position = self.position(SeqNum(seq))?;
            let facts = sweep.facts(cold, position, count, self.uid_at(position));
            if facts.is_none() {
                self.0.damage.note(position);
            }
            facts.map(|facts| facts.save_date.get())
        };
        (first.0..=last.0.min(self.exists())).map(date).collect()
    }

    /// Messages at or behind a position.
    pub(crate) fn seqs_from(&self, position: usize) -> u32 {
        let before = position as u32 - self.0.tombs.rank(position);
        self.exists() - before
    }
}

impl super::Mailbox {
    /// When each message of an inclusive range of a view's sequence numbers was saved into this
    /// mailbox (RFC 8514), seconds since 1970, in order; `None` where its facts are damaged. Many
    /// are read by a helper thread.
    ///
    /// # Errors
    /// [`Error::Closing`].
    pub async fn save_dates(
        &self,
        view: &View,
        first: SeqNum,
        last: SeqNum,
    ) -> Result<Vec<Option<i64>>> {
        if last.0.saturating_sub(first.0) < FACTS_INLINE_MAX {
            return Ok(view.save_dates(first, last));
        }
        let view = view.clone();
        let read = move || view.save_dates(first, last);
        self.0.shared.helpers.run(read).await.map_err(|_| Error::Closing)
    }

    /// [`View::first_unseen`] of a view of this mailbox; on a helper thread where it is far.
    ///
    /// # Errors
    /// [`Error::Closing`].
    pub async fn first_unseen(&self, view: &View) -> Result<Option<SeqNum>> {
        if let ControlFlow::Break(found) = view.look_for_unseen(UNSEEN_INLINE_MAX) {
            return Ok(found);
        }
        let view = view.clone();
        let look = move || view.first_unseen();
        self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_bound_is_what_a_plain_search_finds() {
        for uids in [vec![], vec![7], vec![1, 2, 3, 4], vec![5, 9, 10, 11, 400], vec![3, u32::MAX]]
        {
            for uid in (0..420).chain([u32::MAX - 1, u32::MAX]) {
                let expected = uids.partition_point(|u| *u < uid);
                let found = lower_bound(uids.len(), Uid(uid), |position| Uid(uids[position]));
                assert_eq!(found, expected, "{uid} in {uids:?}");
            }
        }
    }
}
