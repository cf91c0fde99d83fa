//! `cyrus.index`: a header and a record of fixed size for each message, by UID.
//!
//! Header, minor versions 6 to 18 (bytes not named are zero):
//!
//! | offset | size | from | field |
//! |---|---|---|---|
//! | 0, 4, 8 | 4 each | 6 | generation, format (0), minor version |
//! | 12, 16, 20 | 4 each | 6 | start offset, record size, number of records |
//! | 24, 28 | 4 each | 6 | last append, last UID |
//! | 32 | 8 | 6 | octets of live messages |
//! | 40, 44 | 4 each | 6 | last POP3 login, UIDVALIDITY |
//! | 48, 52, 56 | 4 each | 6 | live messages that are deleted, answered, flagged |
//! | 60, 64 | 4 each | 6 | options, leaked cache records |
//! | 68 | 8 | 8 | HIGHESTMODSEQ |
//! | 76 | 8 | 12 | MODSEQ that removals at or below are no longer known of |
//! | 84, 88, 92 | 4 each | 12 | live messages, first expunged, last repack |
//! | 96, 100 | 4 each | 12 | CRC of cyrus.header, sync CRC |
//! | 104, 108 | 4 each | 12 | recent UID, recent time |
//! | 112, 116, 120 | 4 each | 13 | POP3 shows after, octets of annotations, sync CRC of annotations |
//! | 124 | 4 | 14 | unseen; 12, 13: CRC of the header |
//! | 128, 136 | 8, 4 | 16, 17 | created MODSEQ, changes epoch |
//! | 140, 148 | 8 each | 18 | octets of deleted and of expunged messages |
//! | 156 | 4 | 14 | CRC of the header |
//!
//! Version 19 has: 60 live, 64 options, 68 leaked, 72 and 80 (8 each) MODSEQs, 88 first expunged, 92
//! last repack, 96 CRC of cyrus.header, 100 sync CRC, 104 recent UID, 108 recent time, 112 POP3 shows
//! after, 116 annotations, 120 their sync CRC, 124 unseen, 128 created MODSEQ, 136 and 144 (8 each)
//! deleted and expunged octets, 152 changes epoch, 156 CRC.
//!
//! Version 20 has times of 64 bits in nanoseconds: 24 last append, 32 octets, 40 last POP3 login, 48
//! deleted, 52 answered, 56 flagged, 60 live, 64 options, 68 leaked, 72 and 80 MODSEQs, 88 last UID,
//! 92 UIDVALIDITY, 96 and 100 CRCs, 104 recent time, 112 POP3 shows after, 120 sync CRC, 124 unseen,
//! 128 created MODSEQ, 136, 144, 152 octets, 160 changes epoch, 168 first expunged, 176 last repack,
//! 184 recent UID, 188 CRC.
//!
//! Record, versions 6 to 19:
//!
//! | offset | size | from | field |
//! |---|---|---|---|
//! | 0, 4, 8 | 4 each | 6 | UID, internal date, sent date |
//! | 12, 16 | 4 each | 6 | size, header size |
//! | 20 | 4 | 12 | Date field as UTC |
//! | 24, 28 | 4 each | 6 | cache offset, last updated |
//! | 32, 36 | 4, 16 | 6 | system flags, user flags |
//! | 52 | 4 | 15 | save date |
//! | 56 | 4 | 6 | cache version; upper 16 bits: bits 32-47 of the cache offset |
//! | 60 | 20 | 10 | SHA-1 of the file (7-9: 12 bytes of another id, MODSEQ at 72 from 8 on) |
//! | 80, 88, 96 | 8 each | 10, 13, 16 | MODSEQ, conversation, created MODSEQ |
//! | end-8, end-4 | 4 each | 12 | CRC of the cache record, CRC of this record |
//!
//! Version 20: 0 UID, 4 cache offset, 8 internal date, 16 sent date, 24 size (8), 32 header size, 36
//! and 40 flags, 56 cache version, 60 SHA-1, 80 MODSEQ, 88 conversation, 96 created MODSEQ, 104 Date,
//! 112 last updated, 120 save date, 128 base conversation, 136 and 140 CRCs.

use std::collections::BTreeSet;

use super::{Damage, be32, be64};

const FORMAT: &str = "cyrus.index";

/// Nanoseconds of a second: the unit of times in version 20.
const NANOSECONDS: u64 = 1_000_000_000;

/// The minor version that Debian's Cyrus 3.6 writes.
pub const MINOR_WRITTEN: u32 = 17;

/// Sizes of header and record of a minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Minor version.
    pub minor: u32,
    /// Octets of the header.
    pub header: usize,
    /// Octets of a record.
    pub record: usize,
}

/// All that are read.
pub const SHAPES: [Shape; 14] = {
    const fn shape(minor: u32, header: usize, record: usize) -> Shape {
        Shape { minor, header, record }
    }
    [
        shape(6, 76, 60),
        shape(7, 76, 72),
        shape(8, 92, 80),
        shape(9, 96, 80),
        shape(10, 96, 88),
        shape(12, 128, 96),
        shape(13, 128, 104),
        shape(14, 160, 104),
        shape(15, 160, 104),
        shape(16, 160, 112),
        shape(17, 160, 112),
        shape(18, 160, 112),
        shape(19, 160, 112),
        shape(20, 192, 144),
    ]
};

/// Offsets in the version that is written, named where both directions use them.
mod at {
    pub const HEADER_CRC: usize = 156;
    pub const RECORD_CACHE_CRC: usize = 104;
    pub const RECORD_CRC: usize = 108;
    pub const GUID: usize = 60;
    pub const MODSEQ: usize = 80;
    pub const CREATED_MODSEQ: usize = 96;
}

const _: () = {
    let shape = SHAPES[10];
    assert!(shape.minor == MINOR_WRITTEN && shape.header == at::HEADER_CRC + 4);
    assert!(shape.record == at::RECORD_CRC + 4 && at::RECORD_CRC == at::RECORD_CACHE_CRC + 4);
    assert!(at::GUID + 20 == at::MODSEQ && at::CREATED_MODSEQ + 8 == at::RECORD_CACHE_CRC);
    let mut i = 1;
    while i < SHAPES.len() {
        assert!(SHAPES[i - 1].minor < SHAPES[i].minor && SHAPES[i - 1].record <= SHAPES[i].record);
        i += 1;
    }
};

/// System flags of records.
pub mod flag {
    /// `\Answered`
    pub const ANSWERED: u32 = 1;
    /// `\Flagged`
    pub const FLAGGED: u32 = 1 << 1;
    /// `\Deleted`
    pub const DELETED: u32 = 1 << 2;
    /// `\Draft`
    pub const DRAFT: u32 = 1 << 3;
    /// `\Seen`, of the owner, or of everybody with [`super::option::SHARED_SEEN`]; from 12 on.
    pub const SEEN: u32 = 1 << 4;
    /// Bits that Cyrus keeps for itself.
    pub const INTERNAL: u32 = 0xffff_0000;
    /// The message is in an archive partition.
    pub const ARCHIVED: u32 = 1 << 29;
    /// The file was removed already.
    pub const UNLINKED: u32 = 1 << 30;
    /// The message was expunged.
    pub const EXPUNGED: u32 = 1 << 31;
}

/// Options of mailboxes.
pub mod option {
    /// UIDL is `uidvalidity.uid`, not the UID alone.
    pub const POP3_NEW_UIDL: u32 = 1;
    /// `\Seen` is the same for everybody.
    pub const SHARED_SEEN: u32 = 1 << 2;
    /// The mailbox was deleted.
    pub const DELETED: u32 = 1 << 31;
}

/// What the header says. Times are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Equals the first four bytes of cyrus.cache.
    pub generation: u32,
    /// Minor version of the file that this was read from.
    pub minor: u32,
    /// When a message last came.
    pub last_append: u64,
    /// UIDNEXT less one.
    pub last_uid: u32,
    /// Octets of live messages.
    pub bytes: u64,
    /// Last POP3 login.
    pub pop3_last_login: u64,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// [`option`]
    pub options: u32,
    /// Cache records that nothing points at.
    pub leaked: u32,
    /// HIGHESTMODSEQ; 1 before version 8, which does not know it.
    pub modseq_highest: u64,
    /// Removals at or below it have no record any more.
    pub modseq_deleted: u64,
    /// When the first of the expunged messages was expunged; 0 for none.
    pub first_expunged: u64,
    /// When records were last dropped.
    pub last_repack: u64,
    /// CRC of cyrus.header.
    pub header_file_crc: u32,
    /// Last UID that the owner was told of.
    pub recent_uid: u32,
    /// When that was.
    pub recent_time: u64,
    /// POP3 shows messages from after then only; 0: all.
    pub pop3_show_after: u64,
    /// Octets of annotations.
    pub annotation_bytes: u64,
    /// Sync CRC of annotations.
    pub sync_crc_annotations: u32,
    /// MODSEQ of the mailbox's creation.
    pub created_modseq: u64,
    /// Changes before it are not known of.
    pub changes_epoch: u64,
}

/// What a record says. Times are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// UID.
    pub uid: u32,
    /// INTERNALDATE.
    pub internal_date: i64,
    /// The Date field, cut to its day.
    pub sent_date: i64,
    /// Octets of the file.
    pub size: u64,
    /// Octets of its header with the empty line.
    pub header_size: u32,
    /// The Date field.
    pub date_utc: i64,
    /// Where its cache record is.
    pub cache_offset: u64,
    /// Rules by which its cache record was made; 0: there is none.
    pub cache_version: u16,
    /// CRC of its cache record.
    pub cache_crc: u32,
    /// When this record last changed.
    pub last_updated: i64,
    /// [`flag`]
    pub system_flags: u32,
    /// Keywords by number.
    pub user_flags: u128,
    /// When it came into the mailbox; absent in files before version 15.
    pub save_date: Option<i64>,
    /// SHA-1 of the file; zeros for unknown.
    pub guid: [u8; 20],
    /// MODSEQ; 1 before version 8, which does not know it.
    pub modseq: u64,
    /// Conversation.
    pub conversation: u64,
    /// MODSEQ of its arrival; 0 for unknown.
    pub created_modseq: u64,
}

impl Record {
    /// Whether clients see the message.
    pub fn is_live(&self) -> bool {
        self.system_flags & (flag::EXPUNGED | flag::UNLINKED) == 0
    }

    /// Whether its file was removed.
    pub fn is_unlinked(&self) -> bool {
        self.system_flags & flag::UNLINKED != 0
    }
}

/// A whole index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The header.
    pub header: Header,
    /// Records by UID, expunged ones included.
    pub records: Vec<Record>,
}

/// A four-byte time: before 1970 does not occur, after 2038 does.
fn seconds(bytes: &[u8], at: usize) -> Option<u64> {
    be32(bytes, at).map(u64::from)
}

fn nanoseconds(bytes: &[u8], at: usize) -> Option<u64> {
    be64(bytes, at).map(|time| time / NANOSECONDS)
}

impl Index {
    /// Reads a file of any version.
    ///
    /// # Errors
    /// Another version, sizes that do not fit it, a file that ends early, checksums that do not fit,
    /// UIDs that do not rise.
    pub fn read(bytes: &[u8]) -> Result<Index, Damage> {
        let wrong = |at, expected, found: u64| Damage::new(FORMAT, at, expected, found.to_string());
        let field = |at| {
            let short =
                || Damage::new(FORMAT, bytes.len(), "a whole header", "the end of the file");
            be32(bytes, at).ok_or_else(short)
        };
        let (format, minor) = (field(4)?, field(8)?);
        let (start, size, count) = (field(12)? as usize, field(16)? as usize, field(20)? as usize);
        if format != 0 {
            return Err(wrong(4, "format 0", u64::from(format)));
        }
        // A fault of one release: version 19 in the header of version 20's files.
        let meant = if minor == 19 && size == 144 { 20 } else { minor };
        let shape = SHAPES.iter().find(|shape| shape.minor == meant);
        let Some(&shape) = shape else {
            return Err(wrong(8, "a minor version from 6 to 20 that was released", minor.into()));
        };
        if size != shape.record {
            return Err(wrong(16, "the record size of this version", size as u64));
        }
        let Some(head) = bytes.get(..shape.header).filter(|_| start >= shape.header) else {
            return Err(wrong(12, "a start offset behind a whole header", start as u64));
        };
        if meant >= 12 {
            check_crc(head, 0, "the header's checksum")?;
        }
        let header = header(head, meant)
            .ok_or_else(|| Damage::new(FORMAT, 0, "a whole header", "a shorter one"))?;
        let end = count.checked_mul(size).and_then(|len| start.checked_add(len));
        let body = end.and_then(|end| bytes.get(start..end)).ok_or_else(|| {
            let found = format!("{} bytes for {count} records", bytes.len());
            Damage::new(FORMAT, 20, "a file with all its records", found)
        })?;
        let mut records: Vec<Record> = Vec::with_capacity(count);
        for (i, one) in body.chunks_exact(size).enumerate() {
            let at = start + i * size;
            if meant >= 12 {
                check_crc(one, at, "the record's checksum")?;
            }
            let record = record(one, meant)
                .ok_or_else(|| Damage::new(FORMAT, at, "a whole record", "a shorter one"))?;
            let before = records.last().map_or(0, |before| before.uid);
            if record.uid <= before || record.uid > header.last_uid {
                let expected = "a UID above the one before and not above the last UID";
                return Err(wrong(at, expected, record.uid.into()));
            }
            records.push(record);
        }
        Ok(Index { header, records })
    }

    /// Messages that clients see.
    pub fn live(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.is_live())
    }

    /// Expunged messages whose files are kept.
    pub fn kept(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| !record.is_live() && !record.is_unlinked())
    }

    /// What [`Header::first_expunged`] is to be.
    pub fn first_expunged(&self) -> u64 {
        self.kept().map(|record| record.last_updated.max(0) as u64).min().unwrap_or(0)
    }

    /// A file with these expunged messages marked as such whose files are removed, in the version that
    /// it has; versions before 12 have no such mark and stay as they are.
    ///
    /// # Errors
    /// As [`Index::read`].
    pub fn unlinked(bytes: &[u8], uids: &BTreeSet<u32>) -> Result<Vec<u8>, Damage> {
        let mut index = Index::read(bytes)?;
        let mut out = bytes.to_vec();
        let field = |at| be32(bytes, at).unwrap_or(0) as usize;
        let (start, size) = (field(12), field(16));
        let minor = index.header.minor;
        let shape = SHAPES.iter().find(|shape| shape.minor == minor && minor >= 12);
        let Some(shape) = shape else { return Ok(out) };
        let mut freed = 0;
        for (i, record) in index.records.iter_mut().enumerate() {
            if !uids.contains(&record.uid) || record.is_live() || record.is_unlinked() {
                continue;
            }
            record.system_flags |= flag::UNLINKED;
            freed += record.size;
            let at = start + i * size;
            let one = out.get_mut(at..at + size).unwrap_or_default();
            let mut put = Put(one);
            put.u32(if minor == 20 { 36 } else { 32 }, record.system_flags);
            put.crc(size - 4);
        }
        let first = index.first_expunged();
        let octets = match minor {
            18 => Some(148),
            19 | 20 => Some(144),
            _ => None,
        };
        let mut put = Put(out.get_mut(..shape.header).unwrap_or_default());
        match minor {
            20 => put.u64(168, first.saturating_mul(NANOSECONDS)),
            _ => put.time(88, first),
        }
        if let Some(at) = octets {
            put.u64(at, be64(bytes, at).unwrap_or(0).saturating_sub(freed));
        }
        put.crc(shape.header - 4);
        Ok(out)
    }

    /// The file in version 17. Counts and sums are made from the records; `keywords` are the names
    /// of user flags, for the sync CRC.
    pub fn write(&self, keywords: &[String]) -> Vec<u8> {
        let shape = SHAPES[10];
        let with = |bit: u32| self.live().filter(|r| r.system_flags & bit != 0).count() as u32;
        let header = &self.header;
        let exists = self.live().count() as u32;
        let bytes: u64 = self.live().map(|record| record.size).sum();
        let sync = self.live().fold(0, |crc, record| crc ^ sync_crc(record, keywords));
        let mut out = vec![0; shape.header];
        let mut put = Put(&mut out);
        put.u32(0, header.generation);
        put.u32(8, MINOR_WRITTEN);
        put.u32(12, shape.header as u32);
        put.u32(16, shape.record as u32);
        put.u32(20, self.records.len() as u32);
        put.time(24, header.last_append);
        put.u32(28, header.last_uid);
        put.u64(32, bytes);
        put.time(40, header.pop3_last_login);
        put.u32(44, header.uid_validity);
        put.u32(48, with(flag::DELETED));
        put.u32(52, with(flag::ANSWERED));
        put.u32(56, with(flag::FLAGGED));
        put.u32(60, header.options);
        put.u32(64, header.leaked);
        put.u64(68, header.modseq_highest);
        put.u64(76, header.modseq_deleted);
        put.u32(84, exists);
        put.time(88, header.first_expunged);
        put.time(92, header.last_repack);
        put.u32(96, header.header_file_crc);
        put.u32(100, sync);
        put.u32(104, header.recent_uid);
        put.time(108, header.recent_time);
        put.time(112, header.pop3_show_after);
        put.u32(116, u32::try_from(header.annotation_bytes).unwrap_or(u32::MAX));
        put.u32(120, header.sync_crc_annotations);
        put.u32(124, exists - with(flag::SEEN));
        put.u64(128, header.created_modseq);
        put.time(136, header.changes_epoch);
        put.crc(at::HEADER_CRC);
        for record in &self.records {
            let mut one = vec![0; shape.record];
            let mut put = Put(&mut one);
            put.u32(0, record.uid);
            put.signed(4, record.internal_date);
            put.signed(8, record.sent_date);
            put.u32(12, u32::try_from(record.size).unwrap_or(u32::MAX));
            put.u32(16, record.header_size);
            put.signed(20, record.date_utc);
            put.u32(24, record.cache_offset as u32);
            put.signed(28, record.last_updated);
            put.u32(32, record.system_flags);
            for (i, word) in words(record.user_flags).into_iter().enumerate() {
                put.u32(36 + 4 * i, word);
            }
            put.signed(52, record.save_date.unwrap_or(0));
            let high = (record.cache_offset >> 32) as u32 & 0xffff;
            put.u32(56, high << 16 | u32::from(record.cache_version));
            put.bytes(at::GUID, &record.guid);
            put.u64(at::MODSEQ, record.modseq);
            put.u64(88, record.conversation);
            put.u64(at::CREATED_MODSEQ, record.created_modseq);
            put.u32(at::RECORD_CACHE_CRC, record.cache_crc);
            put.crc(at::RECORD_CRC);
            out.extend(one);
        }
        out
    }
}

/// User flags as a record has them: number 0 in bit 0 of the first word.
fn words(flags: u128) -> [u32; 4] {
    [0, 32, 64, 96].map(|shift| (flags >> shift) as u32)
}

/// Writes fields into bytes that are long enough for all of them.
struct Put<'a>(&'a mut [u8]);

impl Put<'_> {
    fn bytes(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.bytes(at, &value.to_be_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.bytes(at, &value.to_be_bytes());
    }

    fn time(&mut self, at: usize, value: u64) {
        self.u32(at, u32::try_from(value).unwrap_or(u32::MAX));
    }

    fn signed(&mut self, at: usize, value: i64) {
        // 32 bits that Cyrus reads as unsigned: what lies before 1970 is 1970.
        self.u32(at, u32::try_from(value.max(0)).unwrap_or(u32::MAX));
    }

    fn crc(&mut self, at: usize) {
        let crc = crc32fast::hash(self.0.get(..at).unwrap_or_default());
        self.u32(at, crc);
    }
}

/// Compares the last four bytes with the checksum of those before.
fn check_crc(bytes: &[u8], at: usize, expected: &'static str) -> Result<(), Damage> {
    let len = bytes.len().saturating_sub(4);
    let made = crc32fast::hash(bytes.get(..len).unwrap_or_default());
    match be32(bytes, len) {
        Some(crc) if crc == made => Ok(()),
        crc => {
            let found = format!("{:08x} for {made:08x}", crc.unwrap_or(0));
            Err(Damage::new(FORMAT, at + len, expected, found))
        }
    }
}

fn header(b: &[u8], minor: u32) -> Option<Header> {
    if minor == 20 {
        return header_20(b);
    }
    let from = |version: u32, at: usize| if minor >= version { be32(b, at) } else { Some(0) };
    let long_from = |version: u32, at: usize| if minor >= version { be64(b, at) } else { Some(0) };
    let newest = minor >= 19;
    // Version 19 put these elsewhere, in the order here.
    let place = |before: usize, since: usize| if newest { since } else { before };
    let modseq_highest = long_from(8, place(68, 72))?.max(1);
    let last_repack = from(12, 92)?;
    Some(Header {
        generation: be32(b, 0)?,
        minor,
        last_append: seconds(b, 24)?,
        last_uid: be32(b, 28)?,
        bytes: be64(b, 32)?,
        pop3_last_login: seconds(b, 40)?,
        uid_validity: be32(b, 44)?,
        options: be32(b, place(60, 64))?,
        leaked: be32(b, place(64, 68))?,
        modseq_highest,
        modseq_deleted: match minor {
            12.. => be64(b, place(76, 80))?,
            _ => modseq_highest,
        },
        first_expunged: from(12, 88)?.into(),
        last_repack: last_repack.into(),
        header_file_crc: from(12, 96)?,
        recent_uid: from(12, 104)?,
        recent_time: from(12, 108)?.into(),
        pop3_show_after: from(13, 112)?.into(),
        annotation_bytes: from(13, 116)?.into(),
        sync_crc_annotations: from(13, 120)?,
        created_modseq: long_from(16, 128)?,
        changes_epoch: match minor {
            17.. => be32(b, place(136, 152))?.into(),
            _ => last_repack.into(),
        },
    })
}

fn header_20(b: &[u8]) -> Option<Header> {
    Some(Header {
        generation: be32(b, 0)?,
        minor: 20,
        last_append: nanoseconds(b, 24)?,
        last_uid: be32(b, 88)?,
        bytes: be64(b, 32)?,
        pop3_last_login: nanoseconds(b, 40)?,
        uid_validity: be32(b, 92)?,
        options: be32(b, 64)?,
        leaked: be32(b, 68)?,
        modseq_highest: be64(b, 72)?.max(1),
        modseq_deleted: be64(b, 80)?,
        first_expunged: nanoseconds(b, 168)?,
        last_repack: nanoseconds(b, 176)?,
        header_file_crc: be32(b, 96)?,
        recent_uid: be32(b, 184)?,
        recent_time: nanoseconds(b, 104)?,
        pop3_show_after: nanoseconds(b, 112)?,
        annotation_bytes: be64(b, 152)?,
        sync_crc_annotations: be32(b, 120)?,
        created_modseq: be64(b, 128)?,
        changes_epoch: nanoseconds(b, 160)?,
    })
}

fn user_flags(b: &[u8], at: usize) -> Option<u128> {
    let word = |i: usize| Some(u128::from(be32(b, at + 4 * i)?) << (32 * i));
    Some(word(0)? | word(1)? | word(2)? | word(3)?)
}

fn guid(b: &[u8]) -> Option<[u8; 20]> {
    b.get(at::GUID..at::GUID + 20)?.try_into().ok()
}

fn record(b: &[u8], minor: u32) -> Option<Record> {
    let time = |at| seconds(b, at).map(|time| time as i64);
    let long_time = |at| nanoseconds(b, at).map(|time| time as i64);
    let version = be32(b, 56)?;
    if minor == 20 {
        return Some(Record {
            uid: be32(b, 0)?,
            internal_date: long_time(8)?,
            sent_date: long_time(16)?,
            size: be64(b, 24)?,
            header_size: be32(b, 32)?,
            date_utc: long_time(104)?,
            cache_offset: u64::from(version >> 16) << 32 | u64::from(be32(b, 4)?),
            cache_version: version as u16,
            cache_crc: be32(b, 136)?,
            last_updated: long_time(112)?,
            system_flags: be32(b, 36)?,
            user_flags: user_flags(b, 40)?,
            save_date: Some(long_time(120)?).filter(|date| *date != 0),
            guid: guid(b)?,
            modseq: be64(b, 80)?,
            conversation: be64(b, 88)?,
            created_modseq: be64(b, 96)?,
        });
    }
    let long_from = |version: u32, at: usize| if minor >= version { be64(b, at) } else { Some(0) };
    let modseq = match minor {
        ..8 => 1,
        8 | 9 => be64(b, 72)?,
        _ => be64(b, at::MODSEQ)?,
    };
    let sent_date = time(8)?;
    Some(Record {
        uid: be32(b, 0)?,
        internal_date: time(4)?,
        sent_date,
        size: be32(b, 12)?.into(),
        header_size: be32(b, 16)?,
        date_utc: if minor >= 12 { time(20)? } else { sent_date },
        cache_offset: match minor {
            12.. => u64::from(version >> 16) << 32,
            _ => 0,
        } | u64::from(be32(b, 24)?),
        cache_version: version as u16,
        cache_crc: if minor >= 12 { be32(b, b.len().checked_sub(8)?)? } else { 0 },
        last_updated: time(28)?,
        system_flags: be32(b, 32)?,
        user_flags: user_flags(b, 36)?,
        save_date: (minor >= 15).then(|| time(52)).flatten().filter(|date| *date != 0),
        guid: if minor >= 10 { guid(b)? } else { [0; 20] },
        modseq: modseq.max(1),
        conversation: long_from(13, 88)?,
        created_modseq: long_from(16, at::CREATED_MODSEQ)?,
    })
}

/// A live record's part of the header's sync CRC.
fn sync_crc(record: &Record, keywords: &[String]) -> u32 {
    let named = [
        (flag::SEEN, "\\seen"),
        (flag::ANSWERED, "\\answered"),
        (flag::FLAGGED, "\\flagged"),
        (flag::DELETED, "\\deleted"),
        (flag::DRAFT, "\\draft"),
    ];
    let system = named.iter().filter(|(bit, _)| record.system_flags & bit != 0);
    let system = system.map(|(_, name)| crc32fast::hash(name.as_bytes()));
    let user = keywords.iter().enumerate().filter(|(i, _)| record.user_flags >> (i & 127) & 1 != 0);
    let user = user.map(|(_, name)| crc32fast::hash(name.to_ascii_lowercase().as_bytes()));
    let flags = system.chain(user).fold(0, |all, crc| all ^ crc);
    let guid: String = record.guid.iter().map(|byte| format!("{byte:02x}")).collect();
    let Record { uid, modseq, last_updated, internal_date, .. } = record;
    let text = format!("{uid} {modseq} {last_updated} ({flags}) {internal_date} {guid}");
    crc32fast::hash(text.as_bytes())
}
