//! A mailbox's figures at a checkpoint, as the catalog keeps them.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | messages |
//! | 8 | 8 | served bytes |
//! | 16 | 4 | UIDNEXT |
//! | 20 | 4 | UIDVALIDITY |
//! | 24 | 8 | HIGHESTMODSEQ |
//! | 32 | 4 | unseen |
//! | 36 | 4 | deleted |
//! | 40 | 4 | recent: not claimed by a session |
//! | 44 | 4 | bit 0: unseen, deleted, recent and the times are known |
//! | 48 | 8 | mtime of `new/`, ns since 1970 |
//! | 56 | 8 | mtime of `cur/` |
//! | 64 | 8 | when the last listing began; 0: list again |
//! | 72 | 8 | zeros |
//!
//! Little-endian. Longer values are of later versions, and read as far as this table goes.

use zerocopy::byteorder::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bit of [`Bytes::known`].
const DETAILED: u32 = 1;

/// The numbers of a mailbox at a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) uid_next: u32,
    pub(crate) uid_validity: u32,
    pub(crate) modseq: u64,
    /// What answers STATUS beyond these; `None` in records of earlier versions.
    pub(crate) detail: Option<Detail>,
}

/// See [`Summary::detail`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Detail {
    pub(crate) unseen: u32,
    pub(crate) deleted: u32,
    pub(crate) recent: u32,
    /// Directory times at the last listing, and when it began; ns since 1970.
    pub(crate) new_mtime: i64,
    pub(crate) cur_mtime: i64,
    pub(crate) listed_at: i64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Bytes {
    messages: U64,
    bytes: U64,
    uid_next: U32,
    uid_validity: U32,
    modseq: U64,
    unseen: U32,
    deleted: U32,
    recent: U32,
    known: U32,
    new_mtime: I64,
    cur_mtime: I64,
    listed_at: I64,
    zeros: [u8; 8],
}

/// Bytes of the first version: messages to HIGHESTMODSEQ.
const EARLY_BYTES: usize = 32;
const SUMMARY_BYTES: usize = 80;
const _: () = assert!(size_of::<Bytes>() == SUMMARY_BYTES);
const _: () = assert!(std::mem::offset_of!(Bytes, unseen) == EARLY_BYTES);
const _: () = assert!(std::mem::offset_of!(Bytes, new_mtime) == 48);

impl Summary {
    pub(super) fn encode(&self) -> [u8; SUMMARY_BYTES] {
        let detail = self.detail.unwrap_or_default();
        let bytes = Bytes {
            messages: self.messages.into(),
            bytes: self.bytes.into(),
            uid_next: self.uid_next.into(),
            uid_validity: self.uid_validity.into(),
            modseq: self.modseq.into(),
            unseen: detail.unseen.into(),
            deleted: detail.deleted.into(),
            recent: detail.recent.into(),
            known: if self.detail.is_some() { DETAILED } else { 0 }.into(),
            new_mtime: detail.new_mtime.into(),
            cur_mtime: detail.cur_mtime.into(),
            listed_at: detail.listed_at.into(),
            zeros: [0; 8],
        };
        zerocopy::transmute!(bytes)
    }

    /// `None` for fewer bytes than a summary has.
    pub(super) fn decode(bytes: &[u8]) -> Option<Summary> {
        let (bytes, _) = Bytes::read_from_prefix(bytes).ok()?;
        let detail = Detail {
            unseen: bytes.unseen.get(),
            deleted: bytes.deleted.get(),
            recent: bytes.recent.get(),
            new_mtime: bytes.new_mtime.get(),
            cur_mtime: bytes.cur_mtime.get(),
            listed_at: bytes.listed_at.get(),
        };
        Some(Summary {
            messages: bytes.messages.get(),
            bytes: bytes.bytes.get(),
            uid_next: bytes.uid_next.get(),
            uid_validity: bytes.uid_validity.get(),
            modseq: bytes.modseq.get(),
            detail: (bytes.known.get() & DETAILED != 0).then_some(detail),
        })
    }

    /// The form of earlier versions: a prefix of today's.
    pub(super) fn decode_early(bytes: &[u8; EARLY_BYTES]) -> Summary {
        let mut whole = [0; SUMMARY_BYTES];
        whole[..EARLY_BYTES].copy_from_slice(bytes);
        Summary::decode(&whole).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_survive_and_earlier_ones_are_read() {
        let detail =
            Detail { unseen: 1, deleted: 2, recent: 3, new_mtime: -4, ..Detail::default() };
        let summary = Summary {
            messages: 9,
            bytes: 8,
            uid_next: 7,
            uid_validity: 6,
            modseq: 5,
            detail: Some(detail),
        };
        let bytes = summary.encode();
        assert_eq!(Summary::decode(&bytes), Some(summary));
        assert_eq!(Summary::decode(&bytes[..79]), None);
        let early: [u8; EARLY_BYTES] = bytes[..EARLY_BYTES].try_into().unwrap();
        assert_eq!(Summary::decode_early(&early), Summary { detail: None, ..summary });
    }
}
