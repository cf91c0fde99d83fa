//! SMAP1: every line is a command or an error; a message decodes alike however it is cut; what is
//! quoted reads back. The first byte chooses the cuts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::smap::{Command, TextDecoder, TextEnd, Words, quoted};

fn text(input: &[u8], end: TextEnd, piece_bytes: usize) -> (Vec<u8>, usize, bool) {
    let mut decoder = TextDecoder::new(end);
    let (mut out, mut at) = (Vec::new(), 0);
    for piece in input.chunks(piece_bytes) {
        let (taken, done) = decoder.feed(piece, &mut out);
        at += taken;
        if done {
            return (out, at, true);
        }
    }
    decoder.finish(&mut out);
    (out, at, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, input)) = data.split_first() else { return };
    let piece_bytes = usize::from(choice) + 1;
    for line in input.split(|&b| b == b'\n') {
        let _ = Command::parse(line);
    }
    for end in [TextEnd::Dot, TextEnd::Count(input.len() as u64)] {
        let whole = text(input, end, input.len().max(1));
        assert_eq!(text(input, end, piece_bytes), whole);
        assert!(whole.0.is_empty() || whole.2 || whole.0.ends_with(b"\r\n") || input.ends_with(b"\r"));
    }
    if let Ok(word) = std::str::from_utf8(input)
        && !word.contains(char::is_control)
    {
        assert_eq!(Words::new(&quoted(word)).word(), word);
    }
});
