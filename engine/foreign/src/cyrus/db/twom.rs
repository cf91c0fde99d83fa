//! Twom databases: integers are little-endian, unlike those of all other files of Cyrus's.
//!
//! Header, 96 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 16 | magic |
//! | 16 | 16 | UUID of the database, kept when it is repacked |
//! | 32 | 4 | version (1) |
//! | 36 | 4 | flags; bit 0: a transaction was begun; 27: no checksums, all are 0; 28: XXH3; 29: checksums of another kind; 30: another order of keys |
//! | 40 | 8 | generation |
//! | 48 | 8 | records |
//! | 56 | 8 | commits |
//! | 64 | 8 | bytes in records that no longer count |
//! | 72 | 8 | size when last repacked |
//! | 80 | 8 | current size: what lies behind it is of an unfinished transaction, or room |
//! | 88 | 4 | highest level in use |
//! | 92 | 4 | checksum of bytes 0-91 |
//!
//! Record, at a multiple of 8:
//!
//! | size | field | in |
//! |---|---|---|
//! | 1 | type: 1 dummy, 2 added, 3 added, long, 4 replaced, 5 replaced, long, 6 delete, 7 commit | all |
//! | 1 | level, 31 at most | all |
//! | 2 | key length, 0 in long ones | all |
//! | 4 | value length, 0 in long ones | all |
//! | 8, 8 | key length, value length | 3, 5 |
//! | 8 | ancestor: the record of this key before | 4, 5, 6 |
//! | 8 each | pointers, level + 1 | 1 to 5 |
//! | 8 | current size before | 7 |
//! | 4 | checksum of all before | all |
//! | 4 | checksum of all behind it, or 0 | all |
//! | | key, NUL, value, NUL, zeros to a multiple of 8 | 2 to 5 |
//!
//! The dummy is the first record and has level 31. Its pointers 0 and 1, and those of each record, both
//! tell the next one: the larger that is below the current size counts. A delete as the next one says
//! that its ancestor is gone, from which the list goes on. A checksum is the lower half of the 64-bit
//! XXH3, or 0 of no bytes. A transaction that was cut off may have left pointers of a head without
//! their checksum: where it is marked as begun, what the head leads to is what is checked.

use sha1::{Digest, Sha1};
use twox_hash::XxHash3_64;

use super::{Pair, level};
use crate::cyrus::Damage;

const FORMAT: &str = "twom database";
/// How a file begins.
pub const MAGIC: [u8; 16] = *b"\xa1\x02\x8b\x0dtwomfile\0\0\0\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 96;
const CHECKSUM_AT: usize = 92;
const LEVEL_MAX: u32 = 31;
const DUMMY: u8 = 1;
const ADD: u8 = 2;
const FAT_ADD: u8 = 3;
const REPLACE: u8 = 4;
const FAT_REPLACE: u8 = 5;
const DELETE: u8 = 6;
const COMMIT: u8 = 7;
/// Fixed part, 32 pointers, two checksums.
const DUMMY_BYTES: usize = 8 + 8 * (LEVEL_MAX as usize + 1) + 8;
/// The smallest record: a delete, a commit.
const RECORD_BYTES_MIN: usize = 24;

const BEGUN: u32 = 1;
const WITHOUT_CHECKSUMS: u32 = 1 << 27;
const XXH3: u32 = 1 << 28;
const OTHER_CHECKSUMS: u32 = 1 << 29;
const OTHER_ORDER: u32 = 1 << 30;

const _: () = assert!(MAGIC.len() + 16 + 4 + 4 + 6 * 8 + 4 == CHECKSUM_AT);
const _: () = assert!(CHECKSUM_AT + 4 == HEADER_BYTES);
const _: () = assert!(DUMMY_BYTES == 272 && HEADER_BYTES.is_multiple_of(8));

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(eight.try_into().ok()?))
}

/// The checksum of these bytes in a file that has checksums.
fn xxh3(bytes: &[u8]) -> u32 {
    if bytes.is_empty() { 0 } else { XxHash3_64::oneshot(bytes) as u32 }
}

/// What the header says of how records are read.
#[derive(Clone, Copy)]
struct Manner {
    checksums: bool,
    begun: bool,
}

impl Manner {
    fn sum(self, bytes: &[u8]) -> u32 {
        if self.checksums { xxh3(bytes) } else { 0 }
    }
}

struct Entry<'a> {
    kind: u8,
    ancestor: u64,
    /// Both pointers of the lowest level.
    next: [u64; 2],
    key: &'a [u8],
    value: &'a [u8],
}

/// The generation of a file, and the UUID of the database, for the one that replaces it.
fn identity(bytes: &[u8]) -> Option<(u64, [u8; 16])> {
    bytes.starts_with(&MAGIC).then_some(())?;
    Some((le64(bytes, 40)?, bytes.get(16..32)?.try_into().ok()?))
}

/// What is wrong with an entry: an offset and what is expected there.
type Wrong = (usize, &'static str);

fn entry(bytes: &[u8], at: usize, manner: Manner) -> Result<Entry<'_>, Wrong> {
    let end = (at, "a whole record within the current size");
    let fixed = bytes.get(at..at.checked_add(8).ok_or(end)?).ok_or(end)?;
    let &[kind, level, k0, k1, v0, v1, v2, v3] = fixed else { return Err(end) };
    if !matches!(kind, DUMMY..=COMMIT) || u32::from(level) > LEVEL_MAX {
        return Err((at, "a record"));
    }
    let mut place = at + 8;
    let mut number = || {
        let value = le64(bytes, place).ok_or(end)?;
        place += 8;
        Ok(value)
    };
    let (key_len, value_len) = match kind {
        FAT_ADD | FAT_REPLACE => (number()?, number()?),
        ADD | REPLACE => {
            (u16::from_le_bytes([k0, k1]).into(), u32::from_le_bytes([v0, v1, v2, v3]).into())
        }
        _ => (0, 0),
    };
    let ancestor = match kind {
        REPLACE | FAT_REPLACE | DELETE => number()?,
        _ => 0,
    };
    let mut next = [0; 2];
    let pointers = match kind {
        DELETE => 0,
        COMMIT => 1,
        _ => usize::from(level) + 1,
    };
    for pointer in 0..pointers {
        let value = number()?;
        if let Some(next) = next.get_mut(pointer) {
            *next = value;
        }
    }
    let head = bytes.get(at..place).ok_or(end)?;
    if le32(bytes, place).ok_or(end)? != manner.sum(head) && !manner.begun {
        return Err((place, "the checksum of the record's head"));
    }
    if !matches!(kind, ADD..=FAT_REPLACE) {
        return Ok(Entry { kind, ancestor, next, key: b"", value: b"" });
    }
    let tail_sum = le32(bytes, place + 4).ok_or(end)?;
    let tail_at = place + 8;
    let length = |len: u64| usize::try_from(len).map_err(|_| end);
    let (key_len, value_len) = (length(key_len)?, length(value_len)?);
    let value_at = key_len.checked_add(1).ok_or(end)?;
    let len = value_at.checked_add(value_len).and_then(|len| len.checked_add(1)).ok_or(end)?;
    let padded = len.checked_next_multiple_of(8).ok_or(end)?;
    let tail = bytes.get(tail_at..tail_at.checked_add(padded).ok_or(end)?).ok_or(end)?;
    if tail_sum != manner.sum(tail) {
        return Err((tail_at, "key and value with the record's checksum"));
    }
    let key = tail.get(..key_len).ok_or(end)?;
    let value = tail.get(value_at..value_at + value_len).ok_or(end)?;
    Ok(Entry { kind, ancestor, next, key, value })
}

/// All records as of the last commit, in the file's order.
///
/// # Errors
/// Checksums that do not fit on the way from the dummy or are of a kind that only the maker knows; keys
/// that do not rise; another number of records than the header tells.
pub fn read(bytes: &[u8]) -> Result<Vec<Pair>, Damage> {
    let header = bytes.get(..HEADER_BYTES).filter(|_| bytes.starts_with(&MAGIC));
    let Some(header) = header else {
        return Err(Damage::new(FORMAT, 0, "a header with its magic", "something else"));
    };
    let version = le32(header, 32).unwrap_or(0);
    if version != VERSION {
        return Err(Damage::new(FORMAT, 32, "version 1", version.to_string()));
    }
    let flags = le32(header, 36).unwrap_or(0);
    if flags & OTHER_CHECKSUMS != 0 {
        let found = format!("{flags:08x}");
        return Err(Damage::new(FORMAT, 36, "checksums by XXH3, or none", found));
    }
    let manner = Manner { checksums: flags & WITHOUT_CHECKSUMS == 0, begun: flags & BEGUN != 0 };
    let expected = manner.sum(header.get(..CHECKSUM_AT).unwrap_or_default());
    let sum = le32(header, CHECKSUM_AT).unwrap_or(0);
    if sum != expected {
        let found = format!("{sum:08x} for {expected:08x}");
        return Err(Damage::new(FORMAT, CHECKSUM_AT, "the header's checksum", found));
    }
    let size = le64(header, 80).unwrap_or(0);
    let Some(committed) = usize::try_from(size).ok().and_then(|size| bytes.get(..size)) else {
        let found = format!("{} of {size} bytes", bytes.len());
        return Err(Damage::new(FORMAT, 80, "a file of the current size", found));
    };
    let wrong = |(at, expected): Wrong| Damage::new(FORMAT, at, expected, "something else");
    let next_of = |entry: &Entry<'_>| {
        let below = entry.next.iter().filter(|pointer| **pointer < size);
        below.max().copied().unwrap_or(0)
    };
    let at_of = |next: u64| usize::try_from(next).unwrap_or(usize::MAX);
    let mut pairs: Vec<Pair> = Vec::new();
    let mut held = 0;
    let dummy = entry(committed, HEADER_BYTES, manner).map_err(wrong)?;
    if dummy.kind != DUMMY {
        return Err(wrong((HEADER_BYTES, "the dummy")));
    }
    let mut next = next_of(&dummy);
    // Each record is visited once; more steps than places go round in a circle.
    for _ in 0..=committed.len() / RECORD_BYTES_MIN {
        if next == 0 {
            break;
        }
        let mut at = at_of(next);
        let mut one = entry(committed, at, manner).map_err(wrong)?;
        let deleted = one.kind == DELETE;
        if deleted {
            at = at_of(one.ancestor);
            one = entry(committed, at, manner).map_err(wrong)?;
        }
        if !matches!(one.kind, ADD..=FAT_REPLACE) {
            return Err(wrong((at, "a record with a key")));
        }
        next = next_of(&one);
        if deleted {
            continue;
        }
        held += one.key.len() + one.value.len();
        if held > committed.len() {
            return Err(wrong((at, "a record that was not read yet")));
        }
        if flags & OTHER_ORDER == 0 && pairs.last().is_some_and(|(key, _)| **key >= *one.key) {
            return Err(wrong((at, "a key behind the one before")));
        }
        pairs.push((one.key.to_vec(), one.value.to_vec()));
    }
    let count = le64(header, 48).unwrap_or(0);
    if next != 0 || pairs.len() as u64 != count {
        let found = format!("{}", pairs.len());
        return Err(Damage::new(FORMAT, 48, "as many records as the header tells", found));
    }
    Ok(pairs)
}

/// A whole file as Cyrus's repack leaves it, in the place of `replaced`.
///
/// Where that is no file of this form the UUID is made of the contents: it only tells databases apart.
pub fn write(pairs: &[Pair], replaced: &[u8]) -> Vec<u8> {
    let (generation, uuid) = identity(replaced).unwrap_or_else(|| (0, uuid_of(pairs)));
    let levels: Vec<u32> = (0..pairs.len()).map(|i| level(i, LEVEL_MAX)).collect();
    let first = HEADER_BYTES + DUMMY_BYTES;
    let mut offsets = Vec::with_capacity(pairs.len());
    let mut at = first;
    for ((key, value), level) in pairs.iter().zip(&levels) {
        offsets.push(at as u64);
        at += 8 + if is_long(key, value) { 16 } else { 0 } + 8 * (*level as usize + 1) + 8;
        at += (key.len() + value.len() + 2).next_multiple_of(8);
    }
    let size = at + RECORD_BYTES_MIN;
    let mut out = MAGIC.to_vec();
    out.extend(uuid);
    out.extend(VERSION.to_le_bytes());
    out.extend(XXH3.to_le_bytes());
    let counts = [generation.wrapping_add(1), pairs.len() as u64, 1, 0, at as u64, size as u64];
    counts.iter().for_each(|field| out.extend(field.to_le_bytes()));
    out.extend(levels.iter().copied().max().unwrap_or(0).to_le_bytes());
    out.extend(xxh3(&out).to_le_bytes());
    // From the end: which record is the next on each level.
    let mut next = [0_u64; LEVEL_MAX as usize];
    let mut pointers = vec![Vec::new(); pairs.len()];
    for (i, own) in pointers.iter_mut().enumerate().rev() {
        own.push(0);
        for next in next.iter_mut().take(levels[i] as usize) {
            own.push(*next);
            *next = offsets[i];
        }
    }
    let mut dummy = vec![0];
    dummy.extend(next);
    put(&mut out, DUMMY, LEVEL_MAX, None, &dummy);
    for ((pair, level), pointers) in pairs.iter().zip(&levels).zip(&pointers) {
        let kind = if is_long(&pair.0, &pair.1) { FAT_ADD } else { ADD };
        put(&mut out, kind, *level, Some(pair), pointers);
    }
    put(&mut out, COMMIT, 0, None, &[first as u64]);
    out
}

fn is_long(key: &[u8], value: &[u8]) -> bool {
    u16::try_from(key.len()).is_err() || u32::try_from(value.len()).is_err()
}

/// A UUID of version 8 (RFC 9562, section 5.8).
fn uuid_of(pairs: &[Pair]) -> [u8; 16] {
    let mut hash = Sha1::new();
    for (key, value) in pairs {
        hash.update((key.len() as u64).to_le_bytes());
        hash.update(key);
        hash.update(value);
    }
    let hash: [u8; 20] = hash.finalize().into();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(hash.first_chunk::<16>().unwrap_or(&[0; 16]));
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

fn put(out: &mut Vec<u8>, kind: u8, level: u32, pair: Option<&Pair>, numbers: &[u64]) {
    let start = out.len();
    out.extend([kind, level as u8]);
    let (key_len, value_len) = pair.map_or((0, 0), |(key, value)| (key.len(), value.len()));
    if kind == FAT_ADD {
        out.extend([0; 6]);
        out.extend((key_len as u64).to_le_bytes());
        out.extend((value_len as u64).to_le_bytes());
    } else {
        out.extend((key_len as u16).to_le_bytes());
        out.extend((value_len as u32).to_le_bytes());
    }
    numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
    let head = xxh3(out.get(start..).unwrap_or_default());
    out.extend(head.to_le_bytes());
    let mut tail = Vec::new();
    if let Some((key, value)) = pair {
        tail.extend_from_slice(key);
        tail.push(0);
        tail.extend_from_slice(value);
        tail.push(0);
        tail.resize(tail.len().next_multiple_of(8), 0);
    }
    out.extend(xxh3(&tail).to_le_bytes());
    out.extend(tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_again(bytes: &mut [u8], at: usize) {
        let head = at + 8 + 8 * (usize::from(bytes[at + 1]) + 1);
        let sum = xxh3(&bytes[at..head]);
        bytes[head..][..4].copy_from_slice(&sum.to_le_bytes());
    }

    /// Or a file of a megabyte would take gigabytes.
    #[test]
    fn a_record_that_leads_to_itself_is_read_once() {
        let at = HEADER_BYTES + DUMMY_BYTES;
        let mut bytes = write(&[(b"key".to_vec(), vec![b'x'; 4000])], b"");
        assert_eq!(read(&bytes).map(|pairs| pairs.len()).ok(), Some(1));
        for pointer in 0..2 {
            bytes[at + 8 + 8 * pointer..][..8].copy_from_slice(&(at as u64).to_le_bytes());
        }
        sum_again(&mut bytes, at);
        assert!(read(&bytes).is_err());
        // Where keys have another order, what is held is what ends it.
        bytes[36..40].copy_from_slice(&(XXH3 | OTHER_ORDER).to_le_bytes());
        let sum = xxh3(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        assert!(read(&bytes).unwrap_err().to_string().contains("not read yet"));
    }

    #[test]
    fn lengths_beyond_the_short_fields_have_long_ones() {
        let pairs = [(vec![b'k'; 70_000], b"value".to_vec()), (vec![b'l'; 65_535], Vec::new())];
        let bytes = write(&pairs, b"");
        assert_eq!(bytes[HEADER_BYTES + DUMMY_BYTES], FAT_ADD);
        assert!(read(&bytes).unwrap() == pairs);
    }

    #[test]
    fn a_file_that_replaces_another_keeps_its_uuid() {
        let first = write(&[(b"a".to_vec(), b"b".to_vec())], b"");
        let second = write(&[(b"c".to_vec(), b"d".to_vec())], &first);
        assert_eq!(identity(&first).map(|(generation, _)| generation), Some(1));
        assert_eq!(identity(&second), identity(&first).map(|(_, uuid)| (2, uuid)));
    }
}
