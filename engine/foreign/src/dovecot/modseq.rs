//! `dovecot.index.log`, the newest changes of a mailbox's index: of it, how high its MODSEQs can be.
//!
//! Header, of the machine's byte order (here little-endian):
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0, 1 | 1 each | major (1) and minor version |
//! | 2 | 2 | octets of the header |
//! | 4, 8 | 4 each | of which index, number of the file |
//! | 12, 16 | 4 each | number and end of the file before it |
//! | 20 | 4 | when it was made |
//! | 24 | 8 | HIGHESTMODSEQ then, in headers of 32 octets and more |
//! | 32 | 1 | bit 0: little-endian, from minor version 2 on |
//!
//! Behind it are records, each with a head of [`RECORD_HEAD`] octets, and none raises HIGHESTMODSEQ by more than
//! one, but for those by which dsync sets it.

/// Octets of a header that has a MODSEQ.
const HEADER: usize = 32;
/// Size and type of a record.
const RECORD_HEAD: usize = 8;
/// No mailbox counts that far: the file is damaged.
const MODSEQ_MAX: u64 = 1 << 48;

/// What HIGHESTMODSEQ is at most; `None`, where the file does not say.
pub fn at_most(bytes: &[u8]) -> Option<u64> {
    let size = u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?);
    let minor = *bytes.get(1)?;
    let is_little = minor < 2 || bytes.get(HEADER).is_some_and(|flags| flags & 1 != 0);
    if *bytes.first()? != 1 || usize::from(size) < HEADER || !is_little {
        return None;
    }
    let first = u64::from_le_bytes(*bytes.get(24..)?.first_chunk()?);
    let records = bytes.len().saturating_sub(usize::from(size)) / RECORD_HEAD;
    let most = first.checked_add(records as u64)?;
    (most <= MODSEQ_MAX).then_some(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_and_other_files_say_nothing() {
        let mut file = vec![1, 3, 40, 0];
        file.resize(24, 0);
        file.extend(16u64.to_le_bytes());
        file.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(at_most(&file), Some(16));
        file.extend([0; 24]);
        assert_eq!(at_most(&file), Some(19));
        for len in 0..33 {
            assert_eq!(at_most(&file[..len]), None, "{len}");
        }
        for (at, value) in [(0, 2), (2, 24), (31, 1), (32, 0)] {
            let mut other = file.clone();
            other[at] = value;
            assert_eq!(at_most(&other), None, "{at}");
        }
    }
}
