//! Twoskip databases.
//!
//! Header, 64 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 20 | magic |
//! | 20 | 4 | version (1) |
//! | 24 | 8 | generation |
//! | 32 | 8 | records |
//! | 40 | 8 | size when last written as a whole |
//! | 48 | 8 | current size: what lies behind it is of an unfinished transaction |
//! | 56 | 4 | flags; bit 0: a transaction was begun |
//! | 60 | 4 | CRC of bytes 0-59 |
//!
//! Record, at a multiple of 8:
//!
//! | size | field |
//! |---|---|
//! | 1 | type: `=` dummy, `+` record, `-` delete, `$` commit |
//! | 1 | level |
//! | 2 | key length, FFFF: 8 bytes of it follow the fixed lengths |
//! | 4 | value length, FFFFFFFF: likewise |
//! | 8 each | pointers, level + 1 |
//! | 4 | CRC of all before |
//! | 4 | CRC of key, value and zeros |
//! | | key, value, zeros to a multiple of 8 |
//!
//! Pointers 0 and 1 both tell the next record: the larger that is below the current size counts.
//! A delete as the next one says that the record behind it is gone, and where to go on.

use super::{Pair, level};
use crate::cyrus::{Damage, be32, be64};

const FORMAT: &str = "twoskip database";
/// How a file begins.
pub const MAGIC: [u8; 20] = *b"\xa1\x02\x8b\x0dtwoskip file\0\0\0\0";
const HEADER_BYTES: usize = 64;
const LEVEL_MAX: u32 = 31;
const DUMMY: u8 = b'=';
const RECORD: u8 = b'+';
const DELETE: u8 = b'-';
const COMMIT: u8 = b'$';
/// Fixed part, 32 pointers, two checksums.
const DUMMY_BYTES: usize = 8 + 8 * (LEVEL_MAX as usize + 1) + 8;

const _: () = assert!(MAGIC.len() == 20 && HEADER_BYTES == 60 + 4);
const _: () = assert!(DUMMY_BYTES.is_multiple_of(8) && HEADER_BYTES.is_multiple_of(8));

struct Entry<'a> {
    kind: u8,
    pointers: Vec<u64>,
    key: &'a [u8],
    value: &'a [u8],
}

/// The generation of a file, for the one that replaces it.
pub(super) fn generation(bytes: &[u8]) -> u64 {
    if bytes.starts_with(&MAGIC) { be64(bytes, 24).unwrap_or(0) } else { 0 }
}

/// What is wrong with an entry: an offset and what is expected there.
type Wrong = (usize, &'static str);

fn entry(bytes: &[u8], at: usize) -> Result<Entry<'_>, Wrong> {
    let end = (at, "a whole record within the current size");
    let fixed = bytes.get(at..at.checked_add(8).ok_or(end)?).ok_or(end)?;
    let &[kind, level, k0, k1, v0, v1, v2, v3] = fixed else { return Err(end) };
    if !matches!(kind, DUMMY | RECORD | DELETE | COMMIT) || u32::from(level) > LEVEL_MAX {
        return Err((at, "a record"));
    }
    let mut next = at + 8;
    let mut long = |short: u64, escape: u64| -> Result<usize, Wrong> {
        if short != escape {
            return Ok(short as usize);
        }
        let value = be64(bytes, next).ok_or(end)?;
        next += 8;
        usize::try_from(value).map_err(|_| end)
    };
    let key_len = long(u64::from(u16::from_be_bytes([k0, k1])), 0xffff)?;
    let value_len = long(u64::from(u32::from_be_bytes([v0, v1, v2, v3])), 0xffff_ffff)?;
    let mut pointers = Vec::with_capacity(usize::from(level) + 1);
    for _ in 0..=level {
        pointers.push(be64(bytes, next).ok_or(end)?);
        next += 8;
    }
    let head = bytes.get(at..next).ok_or(end)?;
    if be32(bytes, next).ok_or(end)? != crc32fast::hash(head) {
        return Err((next, "the checksum of the record's head"));
    }
    let tail_crc = be32(bytes, next + 4).ok_or(end)?;
    let tail_at = next + 8;
    let len = key_len.checked_add(value_len).ok_or(end)?;
    let padded = len.checked_next_multiple_of(8).ok_or(end)?;
    let tail = bytes.get(tail_at..tail_at.checked_add(padded).ok_or(end)?).ok_or(end)?;
    if tail_crc != crc32fast::hash(tail) {
        return Err((tail_at, "key and value with the record's checksum"));
    }
    let (key, value) = tail.get(..len).ok_or(end)?.split_at(key_len);
    Ok(Entry { kind, pointers, key, value })
}

/// All records as of the last commit, in the file's order.
///
/// # Errors
/// A checksum that does not fit on the way from the dummy, or another number of records than the
/// header tells.
pub fn read(bytes: &[u8]) -> Result<Vec<Pair>, Damage> {
    let header = bytes.get(..HEADER_BYTES).filter(|_| bytes.starts_with(&MAGIC));
    let Some(header) = header else {
        return Err(Damage::new(FORMAT, 0, "a header with its magic", "something else"));
    };
    let number = |at| be64(header, at).unwrap_or(0);
    let expected = crc32fast::hash(header.get(..60).unwrap_or_default());
    let crc = be32(header, 60).unwrap_or(0);
    if crc != expected {
        let found = format!("{crc:08x} for {expected:08x}");
        return Err(Damage::new(FORMAT, 60, "the header's checksum", found));
    }
    let size = number(48);
    let Some(committed) = usize::try_from(size).ok().and_then(|size| bytes.get(..size)) else {
        let found = format!("{} of {size} bytes", bytes.len());
        return Err(Damage::new(FORMAT, 48, "a file of the current size", found));
    };
    let wrong = |(at, expected): Wrong| Damage::new(FORMAT, at, expected, "something else");
    let next_of = |entry: &Entry<'_>| {
        let below = entry.pointers.iter().take(2).filter(|pointer| **pointer < size);
        below.max().copied().unwrap_or(0)
    };
    let count = number(32);
    let mut pairs = Vec::new();
    let mut held = 0;
    let mut next = next_of(&entry(committed, HEADER_BYTES).map_err(wrong)?);
    // Each record is visited once; more steps than places go round in a circle.
    for _ in 0..=committed.len() / 24 {
        if next == 0 {
            break;
        }
        let at = usize::try_from(next).unwrap_or(usize::MAX);
        let one = entry(committed, at).map_err(wrong)?;
        match one.kind {
            RECORD => {
                held += one.key.len() + one.value.len();
                if held > committed.len() {
                    return Err(wrong((at, "a record that was not read yet")));
                }
                pairs.push((one.key.to_vec(), one.value.to_vec()));
                next = next_of(&one);
            }
            DELETE => next = one.pointers.first().copied().unwrap_or(0),
            _ => return Err(wrong((at, "a record or a delete"))),
        }
    }
    if pairs.len() as u64 != count {
        let found = format!("{}", pairs.len());
        return Err(Damage::new(FORMAT, 32, "as many records as the header tells", found));
    }
    Ok(pairs)
}

/// A whole file as Cyrus's repack leaves it.
pub fn write(pairs: &[Pair], generation: u64) -> Vec<u8> {
    let levels: Vec<u32> = (0..pairs.len()).map(|i| level(i, LEVEL_MAX)).collect();
    let mut offsets = Vec::with_capacity(pairs.len());
    let mut at = HEADER_BYTES + DUMMY_BYTES;
    for ((key, value), level) in pairs.iter().zip(&levels) {
        offsets.push(at as u64);
        let long = usize::from(key.len() >= 0xffff) + usize::from(value.len() >= 0xffff_ffff);
        at += 8 + 8 * long + 8 * (*level as usize + 1) + 8;
        at += (key.len() + value.len()).next_multiple_of(8);
    }
    let commit_at = at;
    let size = commit_at + 8 + 8 + 8;
    let mut out = MAGIC.to_vec();
    out.extend(1_u32.to_be_bytes());
    for field in [generation, pairs.len() as u64, size as u64, size as u64] {
        out.extend(field.to_be_bytes());
    }
    out.extend(0_u32.to_be_bytes());
    out.extend(crc32fast::hash(&out).to_be_bytes());
    let mut next = [0_u64; LEVEL_MAX as usize];
    let mut pointers = vec![Vec::new(); pairs.len()];
    for (i, own) in pointers.iter_mut().enumerate().rev() {
        own.push(0);
        for next in next.iter_mut().take(levels[i] as usize) {
            own.push(*next);
            *next = offsets[i];
        }
    }
    let mut first = vec![0];
    first.extend(next);
    put(&mut out, DUMMY, LEVEL_MAX, (b"", b""), &first);
    for (((key, value), level), pointers) in pairs.iter().zip(&levels).zip(&pointers) {
        put(&mut out, RECORD, *level, (key, value), pointers);
    }
    let begun = (HEADER_BYTES + DUMMY_BYTES) as u64;
    put(&mut out, COMMIT, 0, (b"", b""), &[begun]);
    out
}

fn put(out: &mut Vec<u8>, kind: u8, level: u32, (key, value): (&[u8], &[u8]), pointers: &[u64]) {
    let start = out.len();
    out.extend([kind, level as u8]);
    let key_len = u16::try_from(key.len()).unwrap_or(0xffff);
    let value_len = u32::try_from(value.len()).unwrap_or(u32::MAX);
    out.extend(key_len.to_be_bytes());
    out.extend(value_len.to_be_bytes());
    if key_len == 0xffff {
        out.extend((key.len() as u64).to_be_bytes());
    }
    if value_len == u32::MAX {
        out.extend((value.len() as u64).to_be_bytes());
    }
    pointers.iter().for_each(|pointer| out.extend(pointer.to_be_bytes()));
    let head = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend(head.to_be_bytes());
    let mut tail = [key, value].concat();
    tail.resize(tail.len().next_multiple_of(8), 0);
    out.extend(crc32fast::hash(&tail).to_be_bytes());
    out.extend(tail);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Or a file of a megabyte would take gigabytes.
    #[test]
    fn a_record_that_leads_to_itself_is_read_once() {
        let at = HEADER_BYTES + DUMMY_BYTES;
        let mut bytes = write(&[(b"key".to_vec(), vec![b'x'; 4000])], 1);
        assert_eq!(read(&bytes).map(|pairs| pairs.len()).ok(), Some(1));
        let pointers = usize::from(bytes[at + 1]) + 1;
        for pointer in 0..pointers.min(2) {
            bytes[at + 8 + 8 * pointer..][..8].copy_from_slice(&(at as u64).to_be_bytes());
        }
        let head = at + 8 + 8 * pointers;
        let crc = crc32fast::hash(&bytes[at..head]);
        bytes[head..][..4].copy_from_slice(&crc.to_be_bytes());
        assert!(read(&bytes).unwrap_err().to_string().contains("not read yet"));
    }
}
