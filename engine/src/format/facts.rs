//! `cursus.facts`: 128-byte records in the index's order: what scans do not need.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | uid |
//! | 4 | 4 | stored size, octets of the file |
//! | 8 | 16 | content id: BLAKE3-128 of the served bytes |
//! | 24 | 16 | thread id, zeros until known |
//! | 40 | 8 | savedate, seconds |
//! | 48 | 8 | modseq of creation |
//! | 56 | 8 | heap offset of the file's base name, 0 for none |
//! | 64 | 60 | zero |
//! | 124 | 4 | CRC of bytes 0-123 |
//!
//! The file has no header: record n is at 128 n and belongs to record n of the index; the uid in
//! both proves it.

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::crc;

/// Bytes of a record.
pub const FACTS_BYTES: usize = 128;

/// See the module's table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Facts {
    /// Which message.
    pub uid: U32,
    /// Octets of the file.
    pub stored: U32,
    /// BLAKE3-128 of the served bytes.
    pub content_id: [u8; 16],
    /// Zeros until known.
    pub thread_id: [u8; 16],
    /// Seconds since 1970.
    pub save_date: I64,
    /// Of creation.
    pub created_modseq: U64,
    /// 0 for none.
    pub name_at: U64,
    reserved: [u8; 60],
    crc: U32,
}

const _: () = assert!(size_of::<Facts>() == FACTS_BYTES);
const _: () = assert!(std::mem::offset_of!(Facts, name_at) == 56);

impl Facts {
    /// The facts of a new message.
    pub fn new(
        uid: u32,
        stored: u32,
        content_id: [u8; 16],
        save_date: i64,
        created_modseq: u64,
        name_at: u64,
    ) -> Facts {
        Facts {
            uid: uid.into(),
            stored: stored.into(),
            content_id,
            thread_id: [0; 16],
            save_date: save_date.into(),
            created_modseq: created_modseq.into(),
            name_at: name_at.into(),
            reserved: [0; 60],
            crc: 0.into(),
        }
    }

    /// The same with another place of the name.
    pub fn named(mut self, name_at: u64) -> Facts {
        self.name_at = name_at.into();
        self
    }

    /// The bytes to write, with their CRC.
    pub fn encode(mut self) -> [u8; FACTS_BYTES] {
        self.crc = crc(0, &self.as_bytes()[..124]).into();
        zerocopy::transmute!(self)
    }

    /// Reads a record of this uid; `None` when damaged or another's.
    pub fn decode(bytes: &[u8], uid: u32) -> Option<Facts> {
        let (facts, _) = Facts::read_from_prefix(bytes).ok()?;
        let whole = facts.uid.get() == uid && facts.crc.get() == crc(0, &facts.as_bytes()[..124]);
        whole.then_some(facts)
    }
}
