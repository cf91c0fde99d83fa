//! The log's containers: segment header, group header, frame header.
//!
//! Segment header, one block of 4096 bytes at the file's start:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `CURSLOG\x01` |
//! | 8 | 4 | version (2; in version 1 group headers have no time) |
//! | 12 | 4 | feature bits, refuse kind |
//! | 16 | 16 | store id |
//! | 32 | 8 | log epoch: rises with every start and every retired segment; seeds all CRCs |
//! | 40 | 8 | first LSN: that of the group at offset 4096 |
//! | 48 | 8 | durable LSN: frames at or above it in segments of older epochs are void |
//! | 56 | 16 | boot id of the kernel that wrote it |
//! | 72 | 4 | CRC of bytes 0-71 |
//!
//! Group header, 40 bytes at a multiple of 4096; frames follow, zeros up to the next block:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `GRP\x02` |
//! | 4 | 4 | bytes of frames behind this header |
//! | 8 | 8 | LSN of this header |
//! | 16 | 8 | durable LSN when the group was written |
//! | 24 | 8 | time when the group was closed, microseconds since 1970; never falls from group to group |
//! | 32 | 4 | number of frames |
//! | 36 | 4 | CRC of bytes 0-35, seeded with the epoch |
//!
//! Version 1 had a group header of 32 bytes, magic `GRP\x01`, without the time: number of frames at
//! 24, CRC of bytes 0-27 at 28. It is still read; its groups have time 0.
//!
//! Frame header, 56 bytes at a multiple of 8; the payload follows, zeros up to a multiple of 8:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | payload length |
//! | 4 | 1 | type |
//! | 5 | 1 | bit 0: a reader that does not know the type may skip it; bit 1: last of transaction |
//! | 6 | 2 | zero |
//! | 8 | 8 | LSN of this header |
//! | 16 | 8 | transaction: LSN of its first frame |
//! | 24 | 4 | owner epoch |
//! | 28 | 4 | CRC of the payload, seeded with the epoch |
//! | 32 | 16 | mailbox id, zeros for the catalog |
//! | 48 | 4 | header CRC of the frame before in this group, 0 for the first |
//! | 52 | 4 | CRC of bytes 0-51, seeded with the epoch |

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FormatError, check_features, crc};

/// Groups begin at multiples of this many bytes, in the file and in LSNs.
pub const BLOCK_BYTES: usize = 4096;
/// Largest payload of one frame; larger changes are several frames of one transaction.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// See the module's table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SegmentHeader {
    /// `CURSLOG\x01`
    pub magic: [u8; 8],
    /// [`VERSION`], or an older one.
    pub version: U32,
    /// Refuse kind.
    pub features: U32,
    /// Whose log.
    pub store_id: [u8; 16],
    /// Seeds all CRCs of the segment.
    pub epoch: U64,
    /// LSN of the first group.
    pub first_lsn: U64,
    /// Frames of older epochs at or above this are void.
    pub durable_lsn: U64,
    /// Of the kernel.
    pub boot_id: [u8; 16],
    /// Over all before.
    pub crc: U32,
}

/// See the module's table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct GroupHeader {
    /// `GRP\x02`
    pub magic: [u8; 4],
    /// Bytes of frames.
    pub frames_bytes: U32,
    /// Of this header.
    pub lsn: U64,
    /// Known durable when written.
    pub durable_lsn: U64,
    /// When the group was closed, microseconds since 1970.
    pub time_us: U64,
    /// How many.
    pub frames: U32,
    /// Over all before.
    pub crc: U32,
}

/// A group header of version 1.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct GroupHeader1 {
    magic: [u8; 4],
    frames_bytes: U32,
    lsn: U64,
    durable_lsn: U64,
    frames: U32,
    crc: U32,
}

/// A group header as it was read, of whatever version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Bytes of the header in the file.
    pub header_bytes: usize,
    /// Bytes of frames.
    pub frames_bytes: usize,
    /// Known durable when written.
    pub durable_lsn: u64,
    /// Microseconds since 1970; 0 where the version has none.
    pub time_us: u64,
}

/// See the module's table.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FrameHeader {
    /// Bytes.
    pub payload_len: U32,
    /// [`super::frame`] numbers them.
    pub kind: u8,
    /// [`MAY_SKIP`], [`LAST_OF_TRANSACTION`].
    pub bits: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Of this header.
    pub lsn: U64,
    /// LSN of the transaction's first frame.
    pub transaction: U64,
    /// Fences other owners.
    pub owner_epoch: U32,
    /// Seeded with the log epoch.
    pub payload_crc: U32,
    /// Zeros for catalog frames.
    pub mailbox: [u8; 16],
    /// Chain within the group.
    pub previous_crc: U32,
    /// Over all before.
    pub crc: U32,
}

const _: () = assert!(size_of::<SegmentHeader>() == 76);
const _: () = assert!(size_of::<GroupHeader>() == 40);
const _: () = assert!(std::mem::offset_of!(GroupHeader, time_us) == 24);
const _: () = assert!(std::mem::offset_of!(GroupHeader, crc) == 36);
const _: () = assert!(size_of::<GroupHeader1>() == 32);
const _: () = assert!(size_of::<FrameHeader>() == 56);

/// Bit of [`FrameHeader::bits`].
pub const MAY_SKIP: u8 = 1;
/// Bit of [`FrameHeader::bits`].
pub const LAST_OF_TRANSACTION: u8 = 2;

const SEGMENT_MAGIC: [u8; 8] = *b"CURSLOG\x01";
const GROUP_MAGIC: [u8; 4] = *b"GRP\x02";
const GROUP_MAGIC_1: [u8; 4] = *b"GRP\x01";

/// Version of the segments that are written.
pub const VERSION: u32 = 2;

/// CRC seed of an epoch.
pub fn seed(epoch: u64) -> u32 {
    crc(0, &epoch.to_le_bytes())
}

impl SegmentHeader {
    /// A header ready to write.
    pub fn new(
        store_id: [u8; 16],
        epoch: u64,
        first_lsn: u64,
        durable_lsn: u64,
        boot_id: [u8; 16],
    ) -> SegmentHeader {
        let mut header = SegmentHeader {
            magic: SEGMENT_MAGIC,
            version: VERSION.into(),
            features: 0.into(),
            store_id,
            epoch: epoch.into(),
            first_lsn: first_lsn.into(),
            durable_lsn: durable_lsn.into(),
            boot_id,
            crc: 0.into(),
        };
        header.crc = crc(0, &header.as_bytes()[..72]).into();
        header
    }

    /// Reads and checks the first bytes of a segment.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, FormatError> {
        const WHAT: &str = "log segment header";
        let Ok((header, _)) = SegmentHeader::read_from_prefix(bytes) else {
            return Err(FormatError::new(WHAT, "76 bytes", format!("{}", bytes.len())));
        };
        if header.magic != SEGMENT_MAGIC {
            return Err(FormatError::new(WHAT, "CURSLOG", format!("{:02x?}", header.magic)));
        }
        if !(1..=VERSION).contains(&header.version.get()) {
            return Err(FormatError::new(WHAT, "version 1 or 2", format!("{}", header.version)));
        }
        if crc(0, &header.as_bytes()[..72]) != header.crc.get() {
            return Err(FormatError::new(WHAT, "a matching CRC", "a damaged header"));
        }
        check_features(WHAT, header.features.get())?;
        Ok(header)
    }
}

impl GroupHeader {
    /// A header ready to write.
    pub fn new(
        epoch: u64,
        lsn: u64,
        durable_lsn: u64,
        time_us: u64,
        frames_bytes: u32,
        frames: u32,
    ) -> GroupHeader {
        let mut header = GroupHeader {
            magic: GROUP_MAGIC,
            frames_bytes: frames_bytes.into(),
            lsn: lsn.into(),
            durable_lsn: durable_lsn.into(),
            time_us: time_us.into(),
            frames: frames.into(),
            crc: 0.into(),
        };
        header.crc = crc(seed(epoch), &header.as_bytes()[..36]).into();
        header
    }

    /// Bytes that the group takes in the log, padding included.
    pub fn span(&self) -> u64 {
        group_span(size_of::<GroupHeader>(), self.frames_bytes.get() as usize)
    }
}

fn group_span(header: usize, frames: usize) -> u64 {
    (header as u64 + frames as u64).next_multiple_of(BLOCK_BYTES as u64)
}

impl Group {
    /// Reads the group that should begin at `bytes` with `lsn`, in a segment of this version and
    /// epoch; `None` when none does.
    pub fn decode(bytes: &[u8], version: u32, epoch: u64, lsn: u64) -> Option<Group> {
        if version == 1 {
            let (header, _) = GroupHeader1::read_from_prefix(bytes).ok()?;
            let whole = header.magic == GROUP_MAGIC_1
                && header.lsn.get() == lsn
                && header.crc.get() == crc(seed(epoch), &header.as_bytes()[..28]);
            return whole.then_some(Group {
                header_bytes: size_of::<GroupHeader1>(),
                frames_bytes: header.frames_bytes.get() as usize,
                durable_lsn: header.durable_lsn.get(),
                time_us: 0,
            });
        }
        let (header, _) = GroupHeader::read_from_prefix(bytes).ok()?;
        let whole = header.magic == GROUP_MAGIC
            && header.lsn.get() == lsn
            && header.crc.get() == crc(seed(epoch), &header.as_bytes()[..36]);
        whole.then_some(Group {
            header_bytes: size_of::<GroupHeader>(),
            frames_bytes: header.frames_bytes.get() as usize,
            durable_lsn: header.durable_lsn.get(),
            time_us: header.time_us.get(),
        })
    }

    /// Bytes that the group takes in the log, padding included.
    pub fn span(&self) -> u64 {
        group_span(self.header_bytes, self.frames_bytes)
    }
}

/// Space of a frame with a payload of `len` bytes.
pub const fn frame_span(len: usize) -> usize {
    size_of::<FrameHeader>() + len.next_multiple_of(8)
}

/// What identifies a frame besides its payload.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    /// Type number.
    pub kind: u8,
    /// [`MAY_SKIP`], [`LAST_OF_TRANSACTION`].
    pub bits: u8,
    /// Its LSN.
    pub lsn: u64,
    /// LSN of the transaction's first frame.
    pub transaction: u64,
    /// Owner epoch.
    pub owner_epoch: u32,
    /// Zeros for catalog frames.
    pub mailbox: [u8; 16],
}

/// Appends header, payload and padding to `out`; returns the header's CRC for the chain.
pub fn encode_frame(
    out: &mut Vec<u8>,
    epoch: u64,
    head: FrameHead,
    previous_crc: u32,
    payload: &[u8],
) -> u32 {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX);
    let mut header = FrameHeader {
        payload_len: (payload.len() as u32).into(),
        kind: head.kind,
        bits: head.bits,
        reserved: [0; 2],
        lsn: head.lsn.into(),
        transaction: head.transaction.into(),
        owner_epoch: head.owner_epoch.into(),
        payload_crc: crc(seed(epoch), payload).into(),
        mailbox: head.mailbox,
        previous_crc: previous_crc.into(),
        crc: 0.into(),
    };
    header.crc = crc(seed(epoch), &header.as_bytes()[..52]).into();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(8), 0);
    header.crc.get()
}

/// Reads the frame at the start of `bytes`: its header and payload, both checked.
pub fn decode_frame(
    bytes: &[u8],
    epoch: u64,
    lsn: u64,
    previous_crc: u32,
) -> Result<(FrameHeader, &[u8]), FormatError> {
    const WHAT: &str = "log frame";
    let damaged = |expected, found: String| Err(FormatError::new(WHAT, expected, found));
    let Ok((header, rest)) = FrameHeader::read_from_prefix(bytes) else {
        return damaged("56 bytes of header", format!("{}", bytes.len()));
    };
    if header.crc.get() != crc(seed(epoch), &header.as_bytes()[..52]) {
        return damaged("a matching header CRC", "a damaged header".into());
    }
    if header.lsn.get() != lsn || header.previous_crc.get() != previous_crc {
        return damaged("the next frame of the chain", format!("LSN {}", header.lsn));
    }
    let len = header.payload_len.get() as usize;
    if len > PAYLOAD_BYTES_MAX || len > rest.len() {
        return damaged("a payload inside its group", format!("{len} bytes"));
    }
    let payload = &rest[..len];
    if crc(seed(epoch), payload) != header.payload_crc.get() {
        return damaged("a matching payload CRC", "a damaged payload".into());
    }
    Ok((header, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_round_trip_and_every_flipped_byte_is_noticed() {
        let head = FrameHead {
            kind: 5,
            bits: LAST_OF_TRANSACTION,
            lsn: 4128,
            transaction: 4128,
            owner_epoch: 1,
            mailbox: [7; 16],
        };
        let mut out = Vec::new();
        encode_frame(&mut out, 9, head, 0, b"payload");
        assert_eq!(out.len(), frame_span(7));
        assert_eq!(decode_frame(&out, 9, 4128, 0).unwrap().1, b"payload");
        assert!(decode_frame(&out, 10, 4128, 0).is_err(), "another epoch");
        for i in 0..size_of::<FrameHeader>() + 7 {
            let mut bad = out.clone();
            bad[i] ^= 0x10;
            assert!(decode_frame(&bad, 9, 4128, 0).is_err(), "byte {i}");
        }
    }

    #[test]
    fn headers_round_trip() {
        let segment = SegmentHeader::new([1; 16], 3, 4096, 4096, [2; 16]);
        assert!(SegmentHeader::decode(segment.as_bytes()).is_ok());
        assert!(SegmentHeader::decode(&segment.as_bytes()[..75]).is_err());
        let group = GroupHeader::new(3, 8192, 4096, 77, 100, 2);
        let read = Group::decode(group.as_bytes(), VERSION, 3, 8192).unwrap();
        assert_eq!((read.time_us, read.frames_bytes, read.durable_lsn), (77, 100, 4096));
        assert!(Group::decode(group.as_bytes(), VERSION, 3, 4096).is_none());
        assert!(Group::decode(group.as_bytes(), 1, 3, 8192).is_none());
        assert_eq!((group.span(), read.span()), (4096, 4096));
        for i in 0..size_of::<GroupHeader>() {
            let mut bad = group.as_bytes().to_vec();
            bad[i] ^= 0x10;
            assert!(Group::decode(&bad, VERSION, 3, 8192).is_none(), "byte {i}");
        }
    }

    #[test]
    fn groups_of_version_1_are_still_read() {
        let mut old = GroupHeader1 {
            magic: GROUP_MAGIC_1,
            frames_bytes: 4090.into(),
            lsn: 8192.into(),
            durable_lsn: 4096.into(),
            frames: 2.into(),
            crc: 0.into(),
        };
        old.crc = crc(seed(3), &old.as_bytes()[..28]).into();
        let read = Group::decode(old.as_bytes(), 1, 3, 8192).unwrap();
        assert_eq!((read.header_bytes, read.time_us, read.span()), (32, 0, 8192));
    }
}
