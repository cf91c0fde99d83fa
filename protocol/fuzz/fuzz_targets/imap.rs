//! IMAP framing gives the same events however the bytes are cut; what it frames can be decoded
//! without a panic. The first byte chooses the cuts and whether messages are accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::imap::decode::{self, AppendText, Dialect};
use protocol::imap::framing::{Event, Framer, Limits};

const LIMITS: Limits =
    Limits { line_bytes_max: 256, literal_bytes_max: 64, command_bytes_max: 512 };

fn events(input: &[u8], piece_bytes: usize, accept: bool) -> Vec<String> {
    let mut framer = Framer::new(LIMITS);
    let mut out: Vec<String> = Vec::new();
    let mut message: Option<Vec<u8>> = None;
    let mut append: Option<AppendText> = None;
    for piece in input.chunks(piece_bytes) {
        let mut rest = piece;
        loop {
            let (used, event) = framer.next(rest);
            rest = &rest[used..];
            let Some(event) = event else { break };
            if let Event::MessageData(data) = event {
                message.get_or_insert_default().extend_from_slice(data);
                continue;
            }
            out.extend(message.take().map(|message| format!("message {message:?}")));
            out.push(format!("{event:?}"));
            match event {
                Event::Flood => return out,
                Event::AppendMessage { text, first, .. } => {
                    if first {
                        let begun = AppendText::begin(text, true, Dialect::default());
                        append = begun.ok().map(|(_, reader, _)| reader);
                    } else if let Some(reader) = &mut append {
                        let _ = reader.next(text, true);
                    }
                    if accept { framer.accept() } else { framer.refuse() }
                }
                Event::AppendEnd(text) => {
                    if let Some(reader) = &mut append {
                        let _ = reader.next(text, false);
                    }
                }
                Event::Command(command) => {
                    let _ = AppendText::begin(command, false, Dialect::default());
                    let _ = decode::search_criteria(command);
                    for utf8_names in [false, true] {
                        let _ = decode::command(command, Dialect { utf8_names, no_charset: utf8_names });
                    }
                }
                Event::TooLong { head, .. } => {
                    let _ = decode::tag_of(head);
                }
                _ => {}
            }
        }
    }
    out.extend(message.map(|message| format!("message {message:?}")));
    out
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, input)) = data.split_first() else { return };
    let accept = choice & 1 == 0;
    let piece_bytes = usize::from(choice >> 1) + 1;
    assert_eq!(events(input, piece_bytes, accept), events(input, input.len().max(1), accept));
});
