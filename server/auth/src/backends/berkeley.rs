//! Berkeley DB's hash databases (version 9, of releases 4.6 to 18), for reading: Cyrus SASL's
//! `sasldb2` in Debian.
//!
//! Little-endian, without checksums, encryption or several databases in one file. Pages of one size;
//! page 0 describes the file. We read every page of keys in the file: a database without duplicates
//! has each pair once.
//!
//! | page, at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | LSN |
//! | 8 | 4 | number of this page |
//! | 12 | 4 | page before; on page 0: magic `0x061561` |
//! | 16 | 4 | page behind; on page 0: version |
//! | 20 | 2 | items; on page 0: size of a page, 4 bytes |
//! | 22 | 2 | where free space ends; on an overflow page: bytes here |
//! | 24 | 1 | level; on page 0: kind of encryption |
//! | 25 | 1 | kind of page: 2 and 13 keys, 7 overflow, 8 the description |
//! | 26 | 2 each | where items begin, from the end of the page; on page 0: flags, 1 byte |
//!
//! Items are keys and values by turns. The first byte of one says what follows: 1 its bytes; 3 a
//! reference to overflow pages (three bytes of nothing, 4 the first page, 4 the length).

use std::fmt;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

const MAGIC_HASH: u32 = 0x0006_1561;
const MAGIC_BTREE: u32 = 0x0005_3162;
const VERSIONS: std::ops::RangeInclusive<u32> = 8..=10;
const NEXT_PAGE_AT: usize = 16;
const MAGIC_AT: usize = 12;
const VERSION_AT: usize = 16;
const PAGE_BYTES_AT: usize = 20;
const ITEMS_AT: usize = 20;
const OVERFLOW_BYTES_AT: usize = 22;
const ENCRYPTION_AT: usize = 24;
const KIND_AT: usize = 25;
const FLAGS_AT: usize = 26;
const HEADER_BYTES: usize = 26;
const LAST_PAGE_AT: usize = 32;

const KIND_HASH_UNSORTED: u8 = 2;
const KIND_OVERFLOW: u8 = 7;
const KIND_HASH_META: u8 = 8;
const KIND_HASH: u8 = 13;
const ITEM_BYTES: u8 = 1;
const ITEM_OVERFLOW: u8 = 3;

/// Bytes of one value: more is no password.
const ITEM_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(VERSION_AT == MAGIC_AT + 4 && PAGE_BYTES_AT == VERSION_AT + 4);
const _: () = assert!(OVERFLOW_BYTES_AT == ITEMS_AT + 2 && ENCRYPTION_AT == OVERFLOW_BYTES_AT + 2);
const _: () = assert!(HEADER_BYTES == KIND_AT + 1 && FLAGS_AT == HEADER_BYTES);

/// What is wrong with a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    at: usize,
    expected: &'static str,
}

impl Damage {
    pub(super) const fn new(at: usize, expected: &'static str) -> Damage {
        Damage { at, expected }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: expected {}", self.at, self.expected)
    }
}

impl std::error::Error for Damage {}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..)?.first_chunk().map(|b| usize::from(u16::from_le_bytes(*b)))
}

/// Whether the file says that it is one, of any form.
pub fn is_berkeley(bytes: &[u8]) -> bool {
    u32_at(bytes, MAGIC_AT).is_some_and(|magic| {
        [magic, magic.swap_bytes()].iter().any(|m| [MAGIC_HASH, MAGIC_BTREE].contains(m))
    })
}

/// Every key with its value, page by page.
///
/// # Errors
/// It is no hash database of this form, or places in it lie outside of it.
pub fn read(bytes: &[u8]) -> Result<Vec<Pair>, Damage> {
    match u32_at(bytes, MAGIC_AT) {
        Some(MAGIC_HASH) => {}
        Some(MAGIC_BTREE) => return Err(Damage::new(MAGIC_AT, "a hash database, found a B-tree")),
        Some(_) if is_berkeley(bytes) => {
            return Err(Damage::new(
                MAGIC_AT,
                "a database of this kind of machine: make it anew here",
            ));
        }
        _ => return Err(Damage::new(MAGIC_AT, "a Berkeley database")),
    }
    if u32_at(bytes, VERSION_AT).is_none_or(|version| !VERSIONS.contains(&version)) {
        return Err(Damage::new(VERSION_AT, "version 8 to 10"));
    }
    let byte = |at: usize| bytes.get(at).copied();
    if byte(ENCRYPTION_AT) != Some(0)
        || byte(FLAGS_AT) != Some(0)
        || byte(KIND_AT) != Some(KIND_HASH_META)
    {
        let expected = "a hash database without encryption and checksums";
        return Err(Damage::new(ENCRYPTION_AT, expected));
    }
    let page_bytes = u32_at(bytes, PAGE_BYTES_AT).unwrap_or(0) as usize;
    if !page_bytes.is_power_of_two() || !(512..=64 * 1024).contains(&page_bytes) {
        return Err(Damage::new(PAGE_BYTES_AT, "a size of pages from 512 to 65536"));
    }
    let last = u32_at(bytes, LAST_PAGE_AT).unwrap_or(0) as usize;
    let mut pairs = Vec::new();
    // No two values share bytes: all of them are no larger than the file.
    let mut held = 0;
    for (number, page) in bytes.chunks(page_bytes).enumerate().skip(1) {
        if number > last {
            break;
        }
        if matches!(page.get(KIND_AT), Some(&(KIND_HASH | KIND_HASH_UNSORTED))) {
            read_page(bytes, page_bytes, number, page, &mut held, &mut pairs)?;
        }
    }
    Ok(pairs)
}

fn read_page(
    bytes: &[u8],
    page_bytes: usize,
    number: usize,
    page: &[u8],
    held: &mut usize,
    pairs: &mut Vec<Pair>,
) -> Result<(), Damage> {
    let place = number.saturating_mul(page_bytes);
    let damage = |expected| Damage::new(place, expected);
    let count = u16_at(page, ITEMS_AT).ok_or(damage("a whole page"))?;
    let mut end = page.len();
    let mut key = None;
    for item in 0..count {
        let from = u16_at(page, HEADER_BYTES + 2 * item).ok_or(damage("items within the page"))?;
        let item = page.get(from..end).ok_or(damage("items from the end of the page"))?;
        end = from;
        let value = match item.split_first() {
            Some((&ITEM_BYTES, rest)) => rest.to_vec(),
            Some((&ITEM_OVERFLOW, _)) => {
                overflow(bytes, page_bytes, item).ok_or(damage("pages of a long value"))?
            }
            _ => return Err(damage("keys and values, without duplicates")),
        };
        *held += value.len();
        if *held > bytes.len() {
            return Err(damage("values on pages of their own"));
        }
        match key.take() {
            None => key = Some(value),
            Some(key) => pairs.push((key, value)),
        }
    }
    Ok(())
}

/// A value on pages of its own.
fn overflow(bytes: &[u8], page_bytes: usize, item: &[u8]) -> Option<Vec<u8>> {
    let mut number = u32_at(item, 4)?;
    let length = u32_at(item, 8)? as usize;
    if length > ITEM_BYTES_MAX {
        return None;
    }
    let mut value = Vec::new();
    // Each page has at least a byte, so a ring of them ends.
    while value.len() < length && number != 0 {
        let from = (number as usize).checked_mul(page_bytes)?;
        let page = bytes.get(from..from.checked_add(page_bytes)?)?;
        let here = u16_at(page, OVERFLOW_BYTES_AT).filter(|&n| n > 0)?;
        if page.get(KIND_AT) != Some(&KIND_OVERFLOW) {
            return None;
        }
        value.extend_from_slice(page.get(HEADER_BYTES..HEADER_BYTES.checked_add(here)?)?);
        number = u32_at(page, NEXT_PAGE_AT)?;
    }
    (value.len() == length).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SASLDB: &[u8] = include_bytes!("../../tests/fixtures/sasldb2");

    /// Or a file of 64 KiB would take gigabytes.
    #[test]
    fn values_that_are_all_on_the_same_pages_are_refused() {
        const PAGE: usize = 512;
        let mut bytes = vec![0; 3 * PAGE];
        let put = |bytes: &mut Vec<u8>, at: usize, number: u32| {
            bytes[at..][..4].copy_from_slice(&number.to_le_bytes());
        };
        put(&mut bytes, MAGIC_AT, MAGIC_HASH);
        put(&mut bytes, VERSION_AT, 9);
        put(&mut bytes, PAGE_BYTES_AT, PAGE as u32);
        bytes[KIND_AT] = KIND_HASH_META;
        put(&mut bytes, LAST_PAGE_AT, 2);
        bytes[PAGE + KIND_AT] = KIND_HASH;
        bytes[PAGE + ITEMS_AT] = 20;
        for item in 0..20 {
            let from = PAGE - 12 * (item + 1);
            bytes[PAGE + HEADER_BYTES + 2 * item..][..2]
                .copy_from_slice(&(from as u16).to_le_bytes());
            bytes[PAGE + from] = ITEM_OVERFLOW;
            put(&mut bytes, PAGE + from + 4, 2);
            put(&mut bytes, PAGE + from + 8, 400);
        }
        // A page that goes on with itself.
        put(&mut bytes, 2 * PAGE + NEXT_PAGE_AT, 2);
        bytes[2 * PAGE + OVERFLOW_BYTES_AT..][..2].copy_from_slice(&400u16.to_le_bytes());
        bytes[2 * PAGE + KIND_AT] = KIND_OVERFLOW;
        assert!(read(&bytes).unwrap_err().to_string().contains("pages of their own"));
        bytes[PAGE + ITEMS_AT] = 2;
        assert_eq!(read(&bytes).unwrap(), [(vec![0; 400], vec![0; 400])][..]);
    }

    #[test]
    fn what_saslpasswd2_wrote_is_read() {
        let pairs = read(SASLDB).unwrap();
        assert_eq!(pairs.len(), 103);
        let of = |key: &[u8]| pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value);
        assert_eq!(of(b"jo\0example.org\0userPassword").unwrap(), b"geheim");
        assert_eq!(of(b"long\0example.org\0userPassword").unwrap().len(), 2048);
    }

    #[test]
    fn other_files_are_named() {
        assert!(read(b"").is_err() && read(&[0; 4096]).is_err());
        let mut swapped = SASLDB.to_vec();
        swapped[MAGIC_AT..MAGIC_AT + 4].reverse();
        assert!(
            is_berkeley(&swapped) && read(&swapped).unwrap_err().to_string().contains("machine")
        );
        let mut tree = SASLDB.to_vec();
        tree[MAGIC_AT..MAGIC_AT + 4].copy_from_slice(&MAGIC_BTREE.to_le_bytes());
        assert!(read(&tree).unwrap_err().to_string().contains("B-tree"));
        let mut checked = SASLDB.to_vec();
        checked[FLAGS_AT] = 1;
        assert!(read(&checked).is_err());
    }

    proptest! {
        #[test]
        fn any_change_is_read_or_named(changes in proptest::collection::vec((0usize..SASLDB.len(), any::<u8>()), 1..40), cut in 0usize..SASLDB.len()) {
            let mut bytes = SASLDB.to_vec();
            for (at, byte) in changes {
                // Where pages begin, more often than not.
                let at = if byte % 2 == 0 { (at & !0xfff) | (at % 64) } else { at };
                if let Some(b) = bytes.get_mut(at) {
                    *b = byte;
                }
            }
            let _ = read(&bytes);
            bytes.truncate(cut);
            let _ = read(&bytes);
        }

        #[test]
        fn any_bytes_are_read_or_named(mut bytes in proptest::collection::vec(any::<u8>(), 1024..2048)) {
            bytes[..40].copy_from_slice(&SASLDB[..40]);
            bytes[PAGE_BYTES_AT..PAGE_BYTES_AT + 4].copy_from_slice(&512u32.to_le_bytes());
            let _ = read(&bytes);
        }
    }
}
