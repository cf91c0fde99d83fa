//! `cursus.heap`: append-only entries of varying length.
//!
//! The first 8 bytes of the file are the magic `CURSHEP\x01`. An entry, at a multiple of 8:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | data length |
//! | 4 | 4 | uid, 0 for entries of the mailbox |
//! | 8 | 1 | kind: 1 file name, 2 keyword names |
//! | 9 | 3 | zero |
//! | 12 | 4 | CRC of bytes 0-11 and the data |
//! | 16 | | data, zeros up to a multiple of 8 |
//!
//! A file name is the base, then, when the name has letters that we do not interpret, a NUL and
//! these letters. Keyword names are texts (u32 count, UTF-8), one after another.

use super::crc;

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"CURSHEP\x01";
/// Bytes before the data.
pub const ENTRY_HEADER_BYTES: usize = 16;
/// Largest data of an entry; readers refuse more.
pub const DATA_BYTES_MAX: usize = 1 << 20;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Base name of a message file.
    FileName = 1,
    /// Names of the keyword bits.
    Keywords = 2,
}

/// The bytes of an entry, padding included.
pub fn encode(kind: Kind, uid: u32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity((ENTRY_HEADER_BYTES + data.len()).next_multiple_of(8));
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out.extend_from_slice(&uid.to_le_bytes());
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    let sum = crc(crc(0, &out), data);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

/// Data length that an entry's header announces, when it is of this kind and uid.
pub fn data_len(header: &[u8; ENTRY_HEADER_BYTES], kind: Kind, uid: u32) -> Option<usize> {
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    let len = word(0) as usize;
    (word(4) == uid && header[8] == kind as u8 && len <= DATA_BYTES_MAX).then_some(len)
}

/// Whether the data belong to the header.
pub fn is_whole(header: &[u8; ENTRY_HEADER_BYTES], data: &[u8]) -> bool {
    let stored = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    stored == crc(crc(0, &header[..12]), data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_round_trip() {
        let bytes = encode(Kind::FileName, 5, b"name");
        assert_eq!(bytes.len() % 8, 0);
        let header: [u8; 16] = bytes[..16].try_into().unwrap();
        assert_eq!(data_len(&header, Kind::FileName, 5), Some(4));
        assert_eq!(data_len(&header, Kind::FileName, 6), None);
        assert!(is_whole(&header, b"name"));
        assert!(!is_whole(&header, b"nane"));
    }
}
