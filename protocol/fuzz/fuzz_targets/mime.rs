//! The MIME parser: the same result however the message is cut, ranges that nest, wire forms that
//! are IMAP's grammar; binary parts become base64 alike however cut. The first byte chooses the cuts and how bare LF counts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::mime::reencode::Reencoder;
use protocol::mime::section::{self, SectionText};
use protocol::mime::{Limits, Parser, Structure};

const LIMITS: Limits =
    Limits { depth_max: 8, parts_max: 20, header_bytes_max: 2000, structure_bytes_max: 8000 };

fn parse(message: &[u8], piece_bytes: usize, bare_lf_as_crlf: bool) -> Structure {
    let mut parser = Parser::new(LIMITS);
    if bare_lf_as_crlf {
        parser = parser.bare_lf_as_crlf();
    }
    message.chunks(piece_bytes).for_each(|piece| parser.feed(piece));
    parser.finish()
}

fn reencode(message: &[u8], piece_bytes: usize) -> Vec<u8> {
    let (mut reencoder, mut out) = (Reencoder::new(), Vec::new());
    message.chunks(piece_bytes).for_each(|piece| reencoder.feed(piece, &mut out));
    reencoder.finish(&mut out);
    out
}

/// Checks one parenthesised value of strings, numbers and NIL; returns what follows it.
fn value(bytes: &[u8]) -> &[u8] {
    match bytes {
        [b'(', rest @ ..] => {
            let mut rest = rest;
            while rest[0] != b')' {
                rest = value(rest);
                if rest[0] == b' ' {
                    rest = &rest[1..];
                    assert_ne!(rest[0], b')');
                }
            }
            &rest[1..]
        }
        [b'"', rest @ ..] => {
            let mut i = 0;
            while rest[i] != b'"' {
                assert!(rest[i] != 0 && rest[i] < 0x80 && rest[i] != b'\r' && rest[i] != b'\n');
                i += 1 + usize::from(rest[i] == b'\\');
            }
            &rest[i + 1..]
        }
        [b'{', rest @ ..] => {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let n: usize = std::str::from_utf8(&rest[..digits]).unwrap().parse().unwrap();
            let rest = rest[digits..].strip_prefix(b"}\r\n").expect("literal");
            assert!(!rest[..n].contains(&0));
            &rest[n..]
        }
        _ => {
            let n = bytes.iter().take_while(|b| b.is_ascii_alphanumeric()).count();
            let atom = &bytes[..n];
            assert!(atom == b"NIL" || (n > 0 && atom.iter().all(u8::is_ascii_digit)), "{atom:?}");
            &bytes[n..]
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, message)) = data.split_first() else { return };
    let bare_lf_as_crlf = choice & 1 == 1;
    let structure = parse(message, message.len().max(1), bare_lf_as_crlf);
    let cut = parse(message, usize::from(choice >> 1) + 1, bare_lf_as_crlf);
    assert_eq!(format!("{structure:?}"), format!("{cut:?}"));

    let whole = reencode(message, message.len().max(1));
    assert_eq!(whole, reencode(message, usize::from(choice >> 1) + 1));

    let end = structure.end();
    assert_eq!(end.stored as usize, message.len());
    let lines = memchr_count(message);
    assert_eq!(end.line as usize, lines);
    assert!(structure.parts().len() <= LIMITS.parts_max);
    for part in structure.parts() {
        for (a, b) in [(part.header_start, part.body_start), (part.body_start, part.end)] {
            assert!(a.stored <= b.stored && a.served <= b.served && a.line <= b.line);
        }
        if let Some(parent) = part.parent {
            let parent = &structure.parts()[usize::from(parent)];
            assert!(parent.body_start.stored <= part.header_start.stored);
            assert!(part.end.stored <= parent.end.stored);
        }
    }
    let mut out = Vec::new();
    structure.write_body(&mut out);
    assert_eq!(value(&out), b"");
    out.clear();
    structure.write_body_structure(&mut out);
    assert_eq!(value(&out), b"");
    assert_eq!(value(structure.envelope()), b"");
    for path in [&[][..], &[1], &[2], &[1, 1], &[1, 2, 1]] {
        use SectionText::{Header, Mime, Text, Whole};
        for text in [Whole, Header, Text, Mime] {
            if let Some(range) = section::find(&structure, path, text) {
                assert!(range.start.stored <= range.end.stored);
                assert!(range.end.stored <= end.stored);
            }
        }
    }
});

fn memchr_count(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b == b'\n').count()
}
