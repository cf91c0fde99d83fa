//! `cursus.index`: two header slots, then one 64-byte record per message by UID.
//!
//! File: slot 0 at 0, slot 1 at 4096, records from 8192. A slot is written at a checkpoint, in
//! turns, so that a torn write leaves the other one. Readers take the newest whole slot whose
//! checkpoint LSN is not above the catalog's.
//!
//! Header slot, 512 bytes used of 4096:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `CURSIDX\x01` |
//! | 8 | 4 | version (1) |
//! | 12, 16, 20 | 4 each | feature bits: compatible, read-only, refuse |
//! | 24 | 4 | record size (64; larger ones are read by their first 64 bytes) |
//! | 28 | 4 | owner epoch |
//! | 32 | 16 | store id |
//! | 48 | 16 | mailbox id |
//! | 64 | 8 | sequence: rises with every slot written |
//! | 72 | 8 | checkpoint LSN that this slot belongs to |
//! | 80 | 4 | generation: rises with every compaction |
//! | 84 | 4 | uidvalidity |
//! | 88 | 4 | uidnext |
//! | 92 | 4 | first uid that no session has claimed as recent |
//! | 96 | 4 | records, tombstones included |
//! | 100 | 4 | tombstones |
//! | 104 | 4 | messages without \Seen |
//! | 108 | 4 | messages with \Deleted |
//! | 112 | 8 | served bytes of all messages |
//! | 120 | 8 | highest modseq |
//! | 128 | 8 | vanished floor: removals at or below it have no tombstone |
//! | 136 | 8 | bytes of `cursus.heap` in use |
//! | 144 | 8 | bytes of `cursus.cache.G` in use |
//! | 152 | 4 | G, the cache generation |
//! | 156 | 4 | bit 0: some file names differ from the records' flags; bit 1: no listing since a crash |
//! | 160 | 8 | heap offset of the keyword names, 0 for none |
//! | 168, 176 | 8 each | mtime of `new/` and `cur/` when last listed, ns; 0 unknown |
//! | 184 | 8 | when that listing began, ns |
//! | 192 | 8 | hint: no unseen message has a smaller uid |
//! | 200 | 308 | zero |
//! | 508 | 4 | CRC of bytes 0-507 |
//!
//! Record:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | uid in bits 0-31, then [`Bits`] |
//! | 8 | 8 | modseq |
//! | 16 | 8 | keyword bits |
//! | 24 | 8 | internaldate, seconds |
//! | 32 | 4 | size, served octets |
//! | 36 | 4 | header size, served octets |
//! | 40 | 8 | cache blob: offset in bits 0-39, length in bits 40-63; 0 none |
//! | 48 | 4 | sent date, seconds since 1970, clamped to 32 bits |
//! | 52 | 4 | subject hash |
//! | 56 | 4 | from hash |
//! | 60 | 4 | CRC of bytes 0-59 |

use protocol::types::{ModSeq, SystemFlags, Uid};
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FormatError, check_features, crc};
use crate::layout::NameFlags;

/// Distance of the two header slots.
pub const SLOT_BYTES: u64 = 4096;
/// Where records begin.
pub const RECORDS_OFFSET: u64 = 2 * SLOT_BYTES;
/// Bytes of a record.
pub const RECORD_BYTES: usize = 64;

const MAGIC: [u8; 8] = *b"CURSIDX\x01";

/// See the module's first table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Slot {
    magic: [u8; 8],
    version: U32,
    features_compatible: U32,
    features_read_only: U32,
    features_refuse: U32,
    record_size: U32,
    /// Owner epoch.
    pub owner_epoch: U32,
    /// Whose.
    pub store_id: [u8; 16],
    /// Which.
    pub mailbox_id: [u8; 16],
    /// Rises.
    pub sequence: U64,
    /// Of the checkpoint.
    pub checkpoint_lsn: U64,
    /// Rises with compaction.
    pub generation: U32,
    /// RFC 3501.
    pub uid_validity: U32,
    /// RFC 3501.
    pub uid_next: U32,
    /// First uid not claimed as recent.
    pub recent_uid: U32,
    /// Incl. tombstones.
    pub records: U32,
    /// Expunged ones.
    pub tombstones: U32,
    /// Without \Seen.
    pub unseen: U32,
    /// With \Deleted.
    pub deleted: U32,
    /// Served bytes.
    pub bytes: U64,
    /// RFC 7162.
    pub modseq_highest: U64,
    /// Removals at or below have no tombstone.
    pub vanished_floor: U64,
    /// In use.
    pub heap_bytes: U64,
    /// In use.
    pub cache_bytes: U64,
    /// Which cache file.
    pub cache_generation: U32,
    /// [`NAMES_DIFFER`], [`NOT_LISTED_SINCE_CRASH`]
    pub state: U32,
    /// 0 for none.
    pub keywords_at: U64,
    /// ns
    pub new_mtime: I64,
    /// ns
    pub cur_mtime: I64,
    /// ns
    pub listed_at: I64,
    /// Hint.
    pub unseen_floor: U64,
    reserved: [u8; 308],
    crc: U32,
}

const _: () = assert!(size_of::<Slot>() == 512);
const _: () = assert!(std::mem::offset_of!(Slot, sequence) == 64);
const _: () = assert!(std::mem::offset_of!(Slot, modseq_highest) == 120);
const _: () = assert!(std::mem::offset_of!(Slot, new_mtime) == 168);
const _: () = assert!(std::mem::offset_of!(Slot, crc) == 508);

/// Bit of [`Slot::state`]: file names wait to be changed.
pub const NAMES_DIFFER: u32 = 1;
/// Bit of [`Slot::state`]: the listing that removes what a crash left did not come yet.
pub const NOT_LISTED_SINCE_CRASH: u32 = 2;

impl Slot {
    /// An empty mailbox's slot.
    pub fn empty(store_id: [u8; 16], mailbox_id: [u8; 16], uid_validity: u32) -> Slot {
        let mut slot = Slot::read_from_bytes(&[0; 512]).expect("512 zeros are a slot");
        slot.magic = MAGIC;
        slot.version = 1.into();
        slot.record_size = (RECORD_BYTES as u32).into();
        slot.store_id = store_id;
        slot.mailbox_id = mailbox_id;
        slot.uid_validity = uid_validity.into();
        slot.uid_next = 1.into();
        slot.recent_uid = 1.into();
        slot.modseq_highest = 1.into();
        slot
    }

    /// The bytes to write, with their CRC.
    pub fn encode(mut self) -> [u8; 512] {
        self.crc = crc(0, &self.as_bytes()[..508]).into();
        zerocopy::transmute!(self)
    }

    /// Reads and checks a slot.
    pub fn decode(bytes: &[u8]) -> Result<Slot, FormatError> {
        const WHAT: &str = "index header";
        let bad = |expected, found: String| Err(FormatError::new(WHAT, expected, found));
        let Ok((slot, _)) = Slot::read_from_prefix(bytes) else {
            return bad("512 bytes", bytes.len().to_string());
        };
        if slot.magic != MAGIC {
            return bad("CURSIDX", format!("{:02x?}", slot.magic));
        }
        if crc(0, &slot.as_bytes()[..508]) != slot.crc.get() {
            return bad("a matching CRC", "a damaged header".into());
        }
        if slot.version.get() != 1 {
            return bad("version 1", slot.version.get().to_string());
        }
        check_features(WHAT, slot.features_refuse.get())?;
        if slot.record_size.get() as usize != RECORD_BYTES {
            return bad("64-byte records", slot.record_size.get().to_string());
        }
        if slot.tombstones.get() > slot.records.get() {
            return bad("at most as many tombstones as records", slot.tombstones.get().to_string());
        }
        Ok(slot)
    }
}

/// The bits beside a record's uid.
pub struct Bits;

impl Bits {
    /// System flags in bits 32-36.
    pub const SYSTEM_SHIFT: u32 = 32;
    /// Flags last seen in the Maildir name in bits 40-45.
    pub const NAME_SHIFT: u32 = 40;
    /// A tombstone.
    pub const EXPUNGED: u64 = 1 << 48;
    /// The file is in `new/`.
    pub const IN_NEW: u64 = 1 << 49;
}

/// One message, as scans see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub uid: Uid,
    /// System flags.
    pub flags: SystemFlags,
    /// Bit n: the view's nth keyword.
    pub keywords: u64,
    /// Of its last change.
    pub modseq: ModSeq,
    /// Seconds since 1970.
    pub internal_date: i64,
    /// Served octets.
    pub size: u32,
    /// Served octets of the header with its blank line.
    pub header_size: u32,
    /// Of the Date header, else the internal date; seconds since 1970, clamped to 32 bits.
    pub sent_date: u32,
    /// Of the base subject.
    pub subject_hash: u32,
    /// Of the first From address.
    pub from_hash: u32,
    pub(crate) name_flags: NameFlags,
    pub(crate) in_new: bool,
    pub(crate) expunged: bool,
    pub(crate) cache_offset: u64,
    pub(crate) cache_len: u32,
}

/// A record as it lies in the file: eight words.
pub type Words = [u64; 8];

const CACHE_OFFSET_BITS: u32 = 40;

impl Record {
    /// Largest cache blob, bytes; larger ones are not cached.
    pub const CACHE_BYTES_MAX: usize = (1 << 24) - 1;

    /// The words to write, with their CRC.
    pub fn encode(&self) -> Words {
        let mut head = u64::from(self.uid.0)
            | u64::from(self.flags.0) << Bits::SYSTEM_SHIFT
            | u64::from(self.name_flags.0) << Bits::NAME_SHIFT;
        if self.expunged {
            head |= Bits::EXPUNGED;
        }
        if self.in_new {
            head |= Bits::IN_NEW;
        }
        let cache = self.cache_offset | u64::from(self.cache_len) << CACHE_OFFSET_BITS;
        let mut words = [
            head,
            self.modseq.0,
            self.keywords,
            self.internal_date as u64,
            u64::from(self.size) | u64::from(self.header_size) << 32,
            cache,
            u64::from(self.sent_date) | u64::from(self.subject_hash) << 32,
            u64::from(self.from_hash),
        ];
        words[7] |= u64::from(words_crc(&words)) << 32;
        words
    }

    /// Reads words whose CRC matches; `None` when it does not.
    pub fn decode(words: &Words) -> Option<Record> {
        is_right(words).then(|| Record::decode_unchecked(words))
    }

    /// The uid of words whose CRC matches.
    pub(crate) fn uid_if_whole(words: &Words) -> Option<Uid> {
        is_right(words).then_some(Uid(words[0] as u32))
    }

    /// Reads words without looking at the CRC.
    #[inline(always)]
    pub fn decode_unchecked(words: &Words) -> Record {
        let low = |w: u64| w as u32;
        let high = |w: u64| (w >> 32) as u32;
        Record {
            uid: Uid(low(words[0])),
            flags: SystemFlags((words[0] >> Bits::SYSTEM_SHIFT) as u8 & SystemFlags::ALL.0),
            name_flags: NameFlags((words[0] >> Bits::NAME_SHIFT) as u8 & 0x3f),
            expunged: words[0] & Bits::EXPUNGED != 0,
            in_new: words[0] & Bits::IN_NEW != 0,
            modseq: ModSeq(words[1]),
            keywords: words[2],
            internal_date: words[3] as i64,
            size: low(words[4]),
            header_size: high(words[4]),
            cache_offset: words[5] & ((1 << CACHE_OFFSET_BITS) - 1),
            cache_len: (words[5] >> CACHE_OFFSET_BITS) as u32,
            sent_date: low(words[6]),
            subject_hash: high(words[6]),
            from_hash: low(words[7]),
        }
    }

    /// Flags and keywords as a Maildir name should show them.
    pub(crate) fn name_flags_wanted(&self, passed_bit: u64) -> NameFlags {
        name_flags(self.flags, self.keywords, passed_bit)
    }
}

/// The letters that a Maildir name of a message should have.
pub(crate) fn name_flags(flags: SystemFlags, keywords: u64, passed_bit: u64) -> NameFlags {
    let passed = if keywords & passed_bit != 0 { NameFlags::PASSED } else { 0 };
    NameFlags(flags.0 | passed)
}

/// Bytes of a record for `write_at`.
pub fn words_to_bytes(words: &Words) -> [u8; RECORD_BYTES] {
    let mut out = [0; RECORD_BYTES];
    for (chunk, word) in out.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    out
}

/// Words of a record's bytes; `bytes` holds at least 64.
pub fn words_from_bytes(bytes: &[u8]) -> Words {
    let mut out = [0; 8];
    for (word, chunk) in out.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut le = [0; 8];
        le.copy_from_slice(chunk);
        *word = u64::from_le_bytes(le);
    }
    out
}

fn words_crc(words: &Words) -> u32 {
    crc(0, &words_to_bytes(words)[..60])
}

fn is_right(words: &Words) -> bool {
    words_crc(words) == (words[7] >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_round_trip_and_every_flipped_bit_is_noticed() {
        let record = Record {
            uid: Uid(u32::MAX),
            flags: SystemFlags::SEEN,
            keywords: 1 << 63,
            modseq: ModSeq(77),
            internal_date: -3,
            size: 9,
            header_size: 8,
            sent_date: 7,
            subject_hash: 6,
            from_hash: 5,
            name_flags: NameFlags(33),
            in_new: true,
            expunged: false,
            cache_offset: (1 << 40) - 8,
            cache_len: (1 << 24) - 1,
        };
        let words = record.encode();
        assert_eq!(Record::decode(&words), Some(record));
        assert_eq!(words_from_bytes(&words_to_bytes(&words)), words);
        for bit in 0..512 {
            let mut bad = words;
            bad[bit / 64] ^= 1 << (bit % 64);
            assert_eq!(Record::decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn slot_round_trip_and_damage_is_noticed() {
        let bytes = Slot::empty([1; 16], [2; 16], 3).encode();
        assert_eq!(Slot::decode(&bytes).unwrap().uid_validity.get(), 3);
        for i in 0..512 {
            let mut bad = bytes;
            bad[i] ^= 1;
            assert!(Slot::decode(&bad).is_err(), "byte {i}");
        }
        assert!(Slot::decode(&bytes[..511]).is_err());
    }
}
