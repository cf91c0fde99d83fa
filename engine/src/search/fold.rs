//! Taking case off text, so that two strings that differ in case only become equal.
//!
//! This is `i;unicode-casemap` (RFC 5051) with the case of ASCII letters turned back: what text has
//! most of stays as it is, and one pass more makes ligatures and the like equal to their letters.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use crate::collation::Collation;

/// Appends `text` with case taken off.
pub(super) fn fold(text: &str, out: &mut Vec<u8>) {
    let from = out.len();
    Collation::UnicodeCasemap.form(text, out);
    out[from..].make_ascii_lowercase();
}

/// Characters of two and three bytes that are told apart; of others it is known by their first byte.
const KNOWN: std::ops::Range<u32> = 0x80..0x3400;

/// By character of [`KNOWN`]: whether its form has an ASCII character, a bit each.
static HAS_ASCII: LazyLock<Box<[u64]>> = LazyLock::new(|| {
    let mut bits = vec![0u64; KNOWN.len().div_ceil(64)];
    let mut form = Vec::new();
    for c in KNOWN.filter_map(char::from_u32) {
        form.clear();
        fold(c.encode_utf8(&mut [0; 4]), &mut form);
        if form.iter().any(u8::is_ascii) {
            let at = (u32::from(c) - KNOWN.start) as usize;
            bits[at / 64] |= 1 << (at % 64);
        }
    }
    bits.into()
});

/// Whether folding these bytes of UTF-8 gives ASCII characters that are not in them: of letters with
/// marks, wide forms and the like. True, too, where they are not whole UTF-8.
pub(super) fn gives_ascii(bytes: &[u8]) -> bool {
    let known = &**HAS_ASCII;
    let mut rest = bytes;
    loop {
        rest = &rest[crate::collation::ascii_prefix(rest)..];
        // Words of one script stand together.
        let looked = loop {
            let tail = |byte: &u8| (0x80..0xc0).contains(byte);
            let (code, length) = match rest {
                [0xc2..0xe0, b, ..] if tail(b) => {
                    (u32::from(rest[0] & 0x1f) << 6 | u32::from(b & 0x3f), 2)
                }
                [0xe0..0xf0, b, c, ..] if tail(b) && tail(c) => {
                    let code = u32::from(rest[0] & 0xf) << 12;
                    (code | u32::from(b & 0x3f) << 6 | u32::from(c & 0x3f), 3)
                }
                [] => return false,
                [0..0x80, ..] => break ControlFlow::Continue(()),
                _ => break ControlFlow::Break(()),
            };
            let gives = match code.checked_sub(KNOWN.start) {
                Some(at) if code < KNOWN.end => known[at as usize / 64] >> (at % 64) & 1 == 1,
                // Han and Hangul give none.
                _ => !matches!(code, 0x3400..=0x9fff | 0xac00..=0xd7a3),
            };
            if gives {
                break ControlFlow::Break(());
            }
            rest = &rest[length..];
        };
        if looked.is_break() {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        let mut out = Vec::new();
        fold(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_that_differ_in_case_become_equal() {
        assert_eq!(folded("\u{3a3}\u{3c2}\u{3c3} ABC \u{df}"), "\u{3a3}\u{3a3}\u{3a3} abc \u{df}");
        assert_eq!(folded("CAF\u{c9} caf\u{e9}"), "cafe\u{301} cafe\u{301}");
        assert_eq!(folded("\u{212a}\u{131}\u{17f}\u{fb01}"), "kisfi");
    }

    #[test]
    fn what_gives_ascii_is_known_beforehand() {
        for c in '\u{80}'..=char::MAX {
            let text = format!("a{c}\u{436}");
            let gives = folded(&c.to_string()).bytes().any(|b| b.is_ascii());
            if gives || u32::from(c) < 0x3400 {
                assert_eq!(gives_ascii(text.as_bytes()), gives, "{c:?}");
            }
        }
        assert!(!gives_ascii("plain \u{436}\u{2019}\u{4e2d}\u{ac00}".as_bytes()));
        assert!(gives_ascii(b"a\xe9"));
        assert!(gives_ascii(b"a\xc3"));
        assert!(!gives_ascii(b""));
    }
}
