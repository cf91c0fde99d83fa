//! POP3: lines are the same however the bytes are cut, and every line is a command or an error.
//! Dot-stuffed messages decode to what was encoded. The first byte chooses the cuts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::line::{DotDecoder, DotEncoder, Framed, LineFramer};
use protocol::pop3::Command;

const LINE_BYTES_MAX: usize = 64;

fn lines(input: &[u8], piece_bytes: usize) -> Vec<String> {
    let mut framer = LineFramer::new(LINE_BYTES_MAX);
    let mut held = Vec::new();
    let mut out = Vec::new();
    for piece in input.chunks(piece_bytes) {
        held.extend_from_slice(piece);
        loop {
            let (consumed, more) = match framer.next(&held) {
                Framed::Line { line, consumed } => {
                    out.push(format!("{:?}", Command::parse(line)));
                    (consumed, true)
                }
                Framed::TooLong { consumed } => {
                    out.push("too long".to_owned());
                    (consumed, true)
                }
                Framed::Incomplete { consumed } => (consumed, false),
            };
            held.drain(..consumed);
            if !more {
                break;
            }
        }
    }
    out
}

fn undotted(wire: &[u8], piece_bytes: usize) -> (Vec<u8>, bool) {
    let mut decoder = DotDecoder::new();
    let mut out = Vec::new();
    let mut at = 0;
    let mut available = 0;
    loop {
        let piece = decoder.next(&wire[at..available]);
        out.extend_from_slice(piece.data);
        at += piece.consumed;
        if piece.end {
            return (out, true);
        }
        if piece.consumed == 0 && piece.data.is_empty() {
            if available == wire.len() {
                return (out, false);
            }
            available = (available + piece_bytes).min(wire.len());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, input)) = data.split_first() else { return };
    let piece_bytes = usize::from(choice) + 1;
    assert_eq!(lines(input, piece_bytes), lines(input, input.len().max(1)));

    let mut encoder = DotEncoder::new();
    let mut wire = Vec::new();
    input.chunks(piece_bytes).for_each(|part| encoder.encode(part, |b| wire.extend_from_slice(b)));
    encoder.finish(|b| wire.extend_from_slice(b));
    let (message, ended) = undotted(&wire, piece_bytes);
    assert!(ended && message.starts_with(input));
    assert!(message.len() <= input.len() + 2);
    assert_eq!(undotted(input, piece_bytes), undotted(input, input.len().max(1)));
});
