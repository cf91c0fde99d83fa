//! Byte layouts of everything that we write: pure functions over slices, no I/O.
//!
//! All integers are little-endian. Every header has a magic, a version (readers refuse a larger
//! one), feature bits of three kinds as ext4 has them (compatible: ignore; read-only: may read;
//! refuse), and a CRC-32. `docs/formats.md` has the same tables for people.
//!
//! Invariant: decoding never panics and never reads outside its slice, whatever the bytes are.

pub mod cache;
pub mod facts;
pub mod frame;
pub mod heap;
pub mod index;
pub mod segment;
pub mod wire;

/// CRC-32 (ISO-HDLC) of `bytes`, begun from `seed` so that bytes copied from elsewhere differ.
pub fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// Turns back the one bit whose turning makes `whole` hold, if there is exactly one. A CRC-32 over
/// less than 11 KiB differs for any three bits turned, so what holds after turning one bit was
/// damaged in this one, or in three others.
pub(crate) fn turn_one_bit_back(bytes: &mut [u8], mut whole: impl FnMut(&[u8]) -> bool) -> bool {
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if whole(bytes) {
            return true;
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    false
}

/// Bytes that are not what the format says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {found}, expected {expected}")]
pub struct FormatError {
    /// Which structure.
    pub what: &'static str,
    /// What should be there.
    pub expected: &'static str,
    /// What is.
    pub found: String,
}

impl FormatError {
    pub(crate) fn new(
        what: &'static str,
        expected: &'static str,
        found: impl Into<String>,
    ) -> FormatError {
        FormatError { what, expected, found: found.into() }
    }
}

/// Feature bits of a header (the three words that ext4 taught).
pub(crate) fn check_features(what: &'static str, refuse: u32) -> Result<(), FormatError> {
    if refuse != 0 {
        let found = format!("feature bits {refuse:#x} that this version does not know");
        return Err(FormatError::new(what, "none of the refuse kind", found));
    }
    Ok(())
}
