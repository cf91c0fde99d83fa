//! Taking case off text, so that two strings that differ in case only become equal.

use std::sync::LazyLock;

/// Characters that UTF-8 writes in two bytes: U+0080 to U+07FF.
const TWO_BYTES: std::ops::Range<u32> = 0x80..0x800;

/// The folded form of each two-byte character where that is one two-byte character, else 0.
static FOLDED: LazyLock<Box<[u16]>> = LazyLock::new(|| {
    let folded = |code: u32| {
        let c = char::from_u32(code)?;
        let mut whole = String::new();
        fold_slowly(c, &mut |lower| whole.push(lower));
        let mut chars = whole.chars();
        let single = chars.next().filter(|lower| TWO_BYTES.contains(&u32::from(*lower)))?;
        chars.next().is_none().then_some(u32::from(single) as u16)
    };
    TWO_BYTES.map(|code| folded(code).unwrap_or(0)).collect()
});

/// Appends `text` with case taken off. A character beyond ASCII never becomes ASCII, so that an
/// ASCII string can be looked for in bytes that were not decoded.
pub(super) fn fold(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let ascii = ascii_prefix(rest.as_bytes());
        let from = out.len();
        out.extend_from_slice(&rest.as_bytes()[..ascii]);
        out[from..].make_ascii_lowercase();
        rest = &rest[ascii..];
        if rest.is_empty() {
            return;
        }
        let table = &**FOLDED;
        let mut chars = rest.chars();
        // Words of one script stand together: no search for ASCII between its characters.
        while let Some(c) = chars.clone().next().filter(|c| !c.is_ascii()) {
            chars.next();
            let code = u32::from(c);
            let known = code.checked_sub(TWO_BYTES.start).and_then(|i| table.get(i as usize));
            match known {
                Some(&folded) if folded != 0 => {
                    let folded = u32::from(folded);
                    out.extend_from_slice(&[
                        0xc0 | (folded >> 6) as u8,
                        0x80 | (folded & 0x3f) as u8,
                    ]);
                }
                _ if is_caseless(code) => push(c, out),
                _ => fold_slowly(c, &mut |lower| push(lower, out)),
            }
        }
        rest = chars.as_str();
    }
}

fn push(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Length of the ASCII bytes that `bytes` begin with.
fn ascii_prefix(bytes: &[u8]) -> usize {
    const STEP: usize = 32;
    let mut at = 0;
    while let Some(step) = bytes.get(at..at + STEP) {
        if !step.is_ascii() {
            break;
        }
        at += STEP;
    }
    at + bytes[at..].iter().take_while(|b| b.is_ascii()).count()
}

/// Large blocks of characters that have no case: general punctuation; the scripts of China, Japan
/// and Korea.
fn is_caseless(code: u32) -> bool {
    matches!(code, 0x2000..=0x20ff | 0x3000..=0x9fff | 0xac00..=0xd7a3)
}

/// By way of the upper case, so that ς and σ are one.
fn fold_slowly(c: char, each: &mut dyn FnMut(char)) {
    let lower = || c.to_uppercase().flat_map(char::to_lowercase);
    if !c.is_ascii() && lower().any(|lower| lower.is_ascii()) {
        each(c);
    } else {
        lower().for_each(each);
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
    fn every_character_folds_as_by_the_slow_way() {
        for c in '\0'..=char::MAX {
            let mut slow = String::new();
            fold_slowly(c, &mut |lower| slow.push(lower));
            assert_eq!(folded(c.encode_utf8(&mut [0; 4])), slow, "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn nothing_becomes_ascii_that_was_not() {
        // KELVIN SIGN, LATIN CAPITAL LETTER I WITH DOT ABOVE, LATIN SMALL LETTER LONG S
        assert_eq!(folded("\u{212a}\u{130}\u{17f}"), "\u{212a}\u{130}\u{17f}");
        assert_eq!(folded("\u{3a3}\u{3c2}\u{3c3} ABC \u{df}"), "\u{3c3}\u{3c3}\u{3c3} abc \u{df}");
    }
}
