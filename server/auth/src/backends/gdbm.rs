//! GDBM databases, for reading: what `makeuserdb` writes in Debian, and SASL's `sasldb2` in Fedora.
//!
//! 64-bit offsets, little-endian, as on every machine that we run on. A file has a header, a
//! directory of bucket offsets (several entries may name one bucket), buckets, and the data.
//!
//! | header, at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic: `0x13579acf`; `0x13579ad1` with numsync, whose header goes on differently after 48 |
//! | 4 | 4 | size of a block |
//! | 8 | 8 | where the directory is |
//! | 16 | 4 | bytes of the directory, 8 an entry |
//! | 20 | 4 | its bits |
//! | 24 | 4 | bytes of a bucket |
//! | 28 | 4 | elements of a bucket |
//!
//! | bucket, at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | number of free areas, and padding |
//! | 8 | 96 | six free areas |
//! | 104 | 4 | bits |
//! | 108 | 4 | elements in use |
//! | 112 | 24 each | elements |
//!
//! | element, at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | hash; -1: empty |
//! | 4 | 4 | first bytes of the key |
//! | 8 | 8 | where key and data are, one behind the other |
//! | 16 | 4 | bytes of the key |
//! | 20 | 4 | bytes of the data |

use std::collections::HashSet;

use super::berkeley::{Damage, Pair, u32_at, u64_at};

/// 64-bit offsets.
pub const MAGIC: u32 = 0x1357_9acf;
/// The same with numsync.
pub const MAGIC_NUMSYNC: u32 = 0x1357_9ad1;
/// Forms of other machines, which are named and not read.
const MAGICS_OTHER: [u32; 3] = [0x1357_9ace, 0x1357_9acd, 0x1357_9ad0];

const DIRECTORY_AT: usize = 8;
const DIRECTORY_BYTES_AT: usize = 16;
const BUCKET_BYTES_AT: usize = 24;
const BUCKET_ELEMENTS_AT: usize = 28;
const HEADER_BYTES: usize = 32;
const FREE_AREAS: usize = 6;
const ELEMENTS_AT: usize = 8 + FREE_AREAS * 16 + 4 + 4;
const ELEMENT_BYTES: usize = 4 + 4 + 8 + 4 + 4;
const HASH_EMPTY: u32 = u32::MAX;

const _: () = assert!(DIRECTORY_BYTES_AT == DIRECTORY_AT + 8);
const _: () = assert!(BUCKET_BYTES_AT == DIRECTORY_BYTES_AT + 8);
const _: () = assert!(BUCKET_ELEMENTS_AT + 4 == HEADER_BYTES);
const _: () = assert!(ELEMENTS_AT == 112 && ELEMENT_BYTES == 24);

/// Whether the file says that it is one, of any form.
pub fn is_gdbm(bytes: &[u8]) -> bool {
    u32_at(bytes, 0).is_some_and(|magic| {
        [magic, magic.swap_bytes()]
            .iter()
            .any(|m| [MAGIC, MAGIC_NUMSYNC].contains(m) || MAGICS_OTHER.contains(m))
    })
}

/// Every key with its value, in the order of the directory.
///
/// # Errors
/// It is no database of this form, or places in it lie outside of it.
pub fn read(bytes: &[u8]) -> Result<Vec<Pair>, Damage> {
    match u32_at(bytes, 0) {
        Some(MAGIC | MAGIC_NUMSYNC) => {}
        Some(_) if is_gdbm(bytes) => {
            return Err(Damage::new(0, "a GDBM file of this kind of machine: make it anew here"));
        }
        _ => return Err(Damage::new(0, "a GDBM file")),
    }
    let number = |at| u32_at(bytes, at).map(|n| n as usize);
    let header = (
        u64_at(bytes, DIRECTORY_AT),
        number(DIRECTORY_BYTES_AT),
        number(BUCKET_BYTES_AT),
        number(BUCKET_ELEMENTS_AT),
    );
    let (Some(directory_at), Some(directory_bytes), Some(bucket_bytes), Some(elements)) = header
    else {
        return Err(Damage::new(0, "a whole header"));
    };
    let fits = elements.checked_mul(ELEMENT_BYTES).and_then(|n| n.checked_add(ELEMENTS_AT));
    if fits.is_none_or(|needed| needed > bucket_bytes) {
        return Err(Damage::new(BUCKET_BYTES_AT, "a bucket that holds its elements"));
    }
    let directory = slice(bytes, directory_at, directory_bytes)
        .ok_or(Damage::new(DIRECTORY_AT, "a directory within the file"))?;
    let mut seen = HashSet::new();
    let mut pairs = Vec::new();
    // Buckets and elements lie beside each other: all of them are no larger than the file.
    let mut held = 0;
    for at in (0..directory.len()).step_by(8) {
        let Some(bucket_at) = u64_at(directory, at) else { break };
        if !seen.insert(bucket_at) {
            continue;
        }
        let place = usize::try_from(bucket_at).unwrap_or(usize::MAX);
        if seen.len().saturating_mul(bucket_bytes) > bytes.len() {
            return Err(Damage::new(place, "buckets that do not overlap"));
        }
        let bucket = slice(bytes, bucket_at, bucket_bytes)
            .ok_or(Damage::new(place, "a bucket within the file"))?;
        for element in 0..elements {
            let from = ELEMENTS_AT + element * ELEMENT_BYTES;
            let Some(element) = bucket.get(from..from + ELEMENT_BYTES) else { break };
            let Some(pair) = pair(bytes, element, place)? else { continue };
            held += pair.0.len() + pair.1.len();
            if held > bytes.len() {
                return Err(Damage::new(place, "elements that do not overlap"));
            }
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

fn pair(bytes: &[u8], element: &[u8], place: usize) -> Result<Option<Pair>, Damage> {
    if u32_at(element, 0) == Some(HASH_EMPTY) {
        return Ok(None);
    }
    let found = (u64_at(element, 8), u32_at(element, 16), u32_at(element, 20));
    let (Some(at), Some(key), Some(data)) = found else { return Ok(None) };
    let both = (key as usize).checked_add(data as usize);
    let text = both.and_then(|length| slice(bytes, at, length));
    let text = text.ok_or(Damage::new(place, "an element within the file"))?;
    let (key, data) = text.split_at_checked(key as usize).unwrap_or_default();
    Ok(Some((key.to_vec(), data.to_vec())))
}

fn slice(bytes: &[u8], at: u64, length: usize) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..at.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USERDB: &[u8] = include_bytes!("../../tests/fixtures/userdb.dat");

    #[test]
    fn what_makeuserdb_wrote_is_read() {
        let pairs = read(USERDB).unwrap();
        assert_eq!(pairs.len(), 203);
        let jo = pairs.iter().find(|(key, _)| key == b"jo@example.org").unwrap();
        assert!(jo.1.starts_with(b"uid=1000|gid=1000|home="), "{:?}", jo.1);
    }

    #[test]
    fn other_files_are_named() {
        assert!(read(b"").is_err() && read(b"jo\tuid=1").is_err());
        let mut swapped = USERDB.to_vec();
        swapped[..4].reverse();
        assert!(is_gdbm(&swapped));
        assert!(read(&swapped).unwrap_err().to_string().contains("machine"));
    }

    /// Or a file of 32 KiB would take gigabytes.
    #[test]
    fn elements_that_are_all_the_same_bytes_are_refused() {
        const ELEMENTS: usize = 100;
        let bucket_bytes = ELEMENTS_AT + ELEMENTS * ELEMENT_BYTES;
        let mut bytes = vec![0; HEADER_BYTES + 8 + bucket_bytes];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[DIRECTORY_AT..][..8].copy_from_slice(&(HEADER_BYTES as u64).to_le_bytes());
        for (at, number) in [
            (DIRECTORY_BYTES_AT, 8),
            (BUCKET_BYTES_AT, bucket_bytes),
            (BUCKET_ELEMENTS_AT, ELEMENTS),
        ] {
            bytes[at..][..4].copy_from_slice(&(number as u32).to_le_bytes());
        }
        bytes[HEADER_BYTES..][..8].copy_from_slice(&(HEADER_BYTES as u64 + 8).to_le_bytes());
        // Hash 0, at byte 0, key of nothing.
        assert_eq!(read(&bytes).map(|pairs| pairs.len()), Ok(ELEMENTS));
        for element in 0..ELEMENTS {
            let at = HEADER_BYTES + 8 + ELEMENTS_AT + element * ELEMENT_BYTES;
            bytes[at + 20..][..4].copy_from_slice(&1000u32.to_le_bytes());
        }
        assert!(read(&bytes).unwrap_err().to_string().contains("overlap"));
    }

    proptest! {
        #[test]
        fn any_change_is_read_or_named(changes in proptest::collection::vec((0usize..USERDB.len(), any::<u8>()), 1..40), cut in 0usize..USERDB.len()) {
            let mut bytes = USERDB.to_vec();
            for (at, byte) in changes {
                // Where the structure is, more often than not.
                let at = if byte % 2 == 0 { at % 8192 } else { at };
                if let Some(b) = bytes.get_mut(at) {
                    *b = byte;
                }
            }
            let _ = read(&bytes);
            bytes.truncate(cut);
            let _ = read(&bytes);
        }

        #[test]
        fn any_bytes_are_read_or_named(mut bytes in proptest::collection::vec(any::<u8>(), 4..600)) {
            bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
            let _ = read(&bytes);
        }
    }
}
