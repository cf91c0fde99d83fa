//! `cyrus.cache`: what Cyrus keeps of a message to answer FETCH and SEARCH; it can be made again.
//!
//! Four bytes of generation, then records, found by the offsets in cyrus.index. A record is ten
//! items, each with a length of four bytes in front and zeros behind up to a multiple of four:
//! ENVELOPE, BODYSTRUCTURE, BODY, section table, header lines, From, To, Cc, Bcc, Subject.
//!
//! Section table, a level of parts: their number with the header's (0: none), then for part 0, the
//! header, and each other: offset and size of its header, offset and size of its content, encoding
//! word, SHA-1 of the content, its decoded size and lines; then a level for each part from 1 on.

mod record;
mod restated;

pub use record::{Made, make};

use super::{Damage, be32};

const FORMAT: &str = "cyrus.cache";

/// Items of a record.
pub const ITEMS: usize = 10;
/// Octets in front of the first record.
pub const HEADER_BYTES: usize = 4;
/// The rules that Debian's Cyrus 3.6 makes records by.
pub const VERSION_WRITTEN: u16 = 11;

/// The octets of the record at an offset, with lengths and zeros: what its CRC covers.
///
/// # Errors
/// A record that is not whole.
pub fn record(bytes: &[u8], offset: u64) -> Result<&[u8], Damage> {
    let short = |at: usize| Damage::new(FORMAT, at, "ten items", "the end of the file");
    let start = usize::try_from(offset).map_err(|_| short(bytes.len()))?;
    let mut at = start;
    for _ in 0..ITEMS {
        let len = be32(bytes, at).ok_or_else(|| short(at))? as usize;
        let padded = len.checked_next_multiple_of(4).ok_or_else(|| short(at))?;
        at = at.checked_add(4).and_then(|at| at.checked_add(padded)).ok_or_else(|| short(at))?;
    }
    bytes.get(start..at).ok_or_else(|| short(at))
}

/// The items of a record, each without its length and zeros; fewer, where it is not whole.
pub fn items(record: &[u8]) -> Vec<&[u8]> {
    let mut items = Vec::new();
    let mut rest = record;
    while items.len() < ITEMS
        && let Some((len, behind)) = rest.split_first_chunk()
        && let Ok(len) = usize::try_from(u32::from_be_bytes(*len))
        && let Some(item) = behind.get(..len)
    {
        items.push(item);
        rest = len.checked_next_multiple_of(4).and_then(|at| behind.get(at..)).unwrap_or_default();
    }
    items
}

/// Writes a record.
pub fn write(items: &[&[u8]; ITEMS]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        out.extend((item.len() as u32).to_be_bytes());
        out.extend_from_slice(item);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}
