//! The log's readers: any bytes decode or are refused, and what decodes encodes back to the same
//! value. The first byte chooses the frame's type.
#![no_main]

use engine::format::frame::Frame;
use engine::format::segment::{self, FrameHead, Group, GroupHeader, SegmentHeader, VERSION};
use libfuzzer_sys::fuzz_target;
use zerocopy::IntoBytes;

const EPOCH: u64 = 3;
const LSN: u64 = 8192;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else { return };
    if let Ok(Some(frame)) = Frame::decode(kind, bytes) {
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(Frame::decode(frame.kind(), &again), Ok(Some(frame)));
    }
    let _ = SegmentHeader::decode(bytes);
    for version in [1, VERSION] {
        let _ = Group::decode(bytes, version, EPOCH, LSN).map(|group| group.span());
    }
    let _ = segment::decode_frame(bytes, EPOCH, LSN, 0);

    // Headers with right checksums around the same bytes: whatever they say is bounded.
    let word = |at: usize| bytes.get(at).map_or(0, |b| u32::from(*b) << 24 | u32::from(*b));
    let group = GroupHeader::new(EPOCH, LSN, 0, 7, word(0), word(1));
    let read = Group::decode(group.as_bytes(), VERSION, EPOCH, LSN).expect("a whole group header");
    assert!(read.span() >= read.frames_bytes as u64);
    let head = FrameHead {
        kind,
        bits: bytes.first().copied().unwrap_or(0),
        lsn: LSN,
        transaction: LSN,
        owner_epoch: word(2),
        mailbox: [kind; 16],
    };
    let mut out = Vec::new();
    segment::encode_frame(&mut out, EPOCH, head, word(3), bytes);
    assert_eq!(out.len(), segment::frame_span(bytes.len()));
    let (_, payload) = segment::decode_frame(&out, EPOCH, LSN, word(3)).expect("a whole frame");
    assert_eq!(payload, bytes);
});
