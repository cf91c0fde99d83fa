//! `cursus.cache.G`: a blob per message, behind one another, disposable.
//!
//! File header, 64 bytes: magic `CURSCCH\x01` (8), version u32 (1), feature bits u32, store id
//! (16), mailbox id (16), generation u32, zeros (8), CRC of bytes 0-59.
//!
//! Blob, at a multiple of 8:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | bytes of the extras |
//! | 4 | 4 | uid |
//! | 8 | 4 | CRC of bytes 0-7 and the extras, seeded with mailbox id and generation |
//! | 12 | 4 | zero |
//! | 16 | | extras ([`crate::message`]), zeros up to a multiple of 8 |

use super::{FormatError, crc};
use crate::ids::{MailboxId, StoreId};

/// Bytes before the first blob.
pub const HEADER_BYTES: u64 = 64;
/// Bytes before a blob's extras.
pub const BLOB_HEADER_BYTES: usize = 16;

const MAGIC: [u8; 8] = *b"CURSCCH\x01";

/// The file's first bytes.
pub fn header(store: StoreId, mailbox: MailboxId, generation: u32) -> [u8; 64] {
    let mut out = [0; 64];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&1u32.to_le_bytes());
    out[16..32].copy_from_slice(&store.0);
    out[32..48].copy_from_slice(&mailbox.0);
    out[48..52].copy_from_slice(&generation.to_le_bytes());
    let sum = crc(0, &out[..60]);
    out[60..].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Checks that the bytes are exactly the header of this cache.
pub fn check_header(
    bytes: &[u8],
    store: StoreId,
    mailbox: MailboxId,
    generation: u32,
) -> Result<(), FormatError> {
    if bytes.get(..64) == Some(&header(store, mailbox, generation)) {
        return Ok(());
    }
    Err(FormatError::new("cache header", "that of this mailbox and generation", "another"))
}

/// CRC seed of a mailbox's cache generation.
pub fn seed(mailbox: MailboxId, generation: u32) -> u32 {
    crc(crc(0, &mailbox.0), &generation.to_le_bytes())
}

/// Bytes up to behind the blob at the start of `bytes`, as it says itself, unchecked; 0 when there is
/// none.
pub(crate) fn span(bytes: &[u8]) -> usize {
    let len = bytes.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
    if len == 0 { 0 } else { (BLOB_HEADER_BYTES + len as usize).next_multiple_of(8) }
}

/// Appends a blob to `out`.
pub fn encode(out: &mut Vec<u8>, seed: u32, uid: u32, extras: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&(extras.len() as u32).to_le_bytes());
    out.extend_from_slice(&uid.to_le_bytes());
    let sum = crc(crc(seed, &out[start..]), extras);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(extras);
    out.resize(start + (out.len() - start).next_multiple_of(8), 0);
}

/// Whether a blob that was found whole before is the one of this message, by its header alone.
pub fn is_of(blob: &[u8], uid: u32) -> bool {
    let word = |at: usize| Some(u32::from_le_bytes(blob.get(at..at + 4)?.try_into().ok()?));
    let fits = |len: u32| BLOB_HEADER_BYTES + len as usize <= blob.len();
    word(4) == Some(uid) && word(0).is_some_and(fits)
}

/// The extras in a blob; `None` when they are not this message's or damaged.
pub fn decode(blob: &[u8], seed: u32, uid: u32) -> Option<&[u8]> {
    let word = |at: usize| Some(u32::from_le_bytes(blob.get(at..at + 4)?.try_into().ok()?));
    let len = word(0)? as usize;
    let extras = blob.get(BLOB_HEADER_BYTES..)?.get(..len)?;
    let whole = word(4)? == uid && word(8)? == crc(crc(seed, &blob[..8]), extras);
    whole.then_some(extras)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blob_round_trip_and_a_copy_elsewhere_is_refused() {
        let seed_a = seed(MailboxId([1; 16]), 1);
        let mut blob = Vec::new();
        encode(&mut blob, seed_a, 7, b"extras");
        assert_eq!(decode(&blob, seed_a, 7), Some(&b"extras"[..]));
        assert_eq!(decode(&blob, seed_a, 8), None);
        assert_eq!(decode(&blob, seed(MailboxId([1; 16]), 2), 7), None);
        for cut in 0..16 + 6 {
            assert_eq!(decode(&blob[..cut], seed_a, 7), None);
        }
    }
}
