//! Collations: how strings compare (RFC 4790), for SORT, THREAD and SEARCH (RFC 5255).
//!
//! A string is brought into a form whose octets compare as the collation wants its strings to:
//! equal forms are equal strings, and the order of forms is the order of strings.

use std::sync::LazyLock;

use unicode_normalization::char::decompose_compatible;

/// How strings compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Collation {
    /// `i;unicode-casemap` (RFC 5051): each character's titlecase, decomposed.
    #[default]
    UnicodeCasemap,
    /// `i;ascii-casemap` (RFC 4790 section 9.2): the case of ASCII letters does not count.
    AsciiCasemap,
    /// `i;octet` (RFC 4790 section 9.3): octet by octet, in UTF-8.
    Octet,
}

impl Collation {
    /// Every collation with its registered name, the default first.
    pub const ALL: [(&'static str, Collation); 3] = [
        ("i;unicode-casemap", Collation::UnicodeCasemap),
        ("i;ascii-casemap", Collation::AsciiCasemap),
        ("i;octet", Collation::Octet),
    ];

    /// Appends the form of `text`.
    pub fn form(self, text: &str, out: &mut Vec<u8>) {
        let from = out.len();
        match self {
            Collation::UnicodeCasemap => casemap(text, out),
            Collation::AsciiCasemap => {
                out.extend_from_slice(text.as_bytes());
                out[from..].make_ascii_uppercase();
            }
            Collation::Octet => out.extend_from_slice(text.as_bytes()),
        }
    }
}

/// The simple titlecase mapping of UnicodeData.txt. Rust has the full uppercase mappings, which
/// differ where several characters come of one, and where title and upper case are not the same.
fn titlecase(c: char) -> char {
    let offset = |by: i32| char::from_u32(u32::from(c).wrapping_add_signed(by)).unwrap_or(c);
    match c {
        '\u{1c4}' | '\u{1c7}' | '\u{1ca}' | '\u{1f1}' => offset(1),
        '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}' => c,
        '\u{1c6}' | '\u{1c9}' | '\u{1cc}' | '\u{1f3}' => offset(-1),
        '\u{10d0}'..='\u{10fa}' | '\u{10fd}'..='\u{10ff}' => c,
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => offset(8),
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => offset(9),
        _ => {
            let mut upper = c.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(upper), None) => upper,
                _ => c,
            }
        }
    }
}

/// What `i;unicode-casemap` makes of a character beyond ASCII.
fn canonical(c: char, each: &mut dyn FnMut(char)) {
    let title = titlecase(c);
    // UnicodeData.txt lists no decompositions of Hangul syllables.
    if matches!(title, '\u{ac00}'..='\u{d7a3}') {
        each(title);
    } else {
        decompose_compatible(title, each);
    }
}

/// What the table knows: all alphabets, punctuation, kana and their variants.
const TABLE: std::ops::Range<u32> = 0x80..0x3400;

/// The forms of the characters of [`TABLE`], in UTF-8.
struct Table {
    /// Where each character's form begins in `bytes`; and, at the end, where the last one ends.
    begins: Box<[u32]>,
    bytes: Box<[u8]>,
}

static FORMS: LazyLock<Table> = LazyLock::new(|| {
    let (mut begins, mut bytes) = (Vec::with_capacity(TABLE.len() + 1), Vec::new());
    for c in TABLE.filter_map(char::from_u32) {
        begins.push(bytes.len() as u32);
        canonical(c, &mut |c| push(c, &mut bytes));
    }
    begins.push(bytes.len() as u32);
    Table { begins: begins.into(), bytes: bytes.into() }
});

fn push(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn casemap(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let ascii = ascii_prefix(rest.as_bytes());
        let from = out.len();
        out.extend_from_slice(&rest.as_bytes()[..ascii]);
        out[from..].make_ascii_uppercase();
        rest = &rest[ascii..];
        if rest.is_empty() {
            return;
        }
        let table = &*FORMS;
        let mut chars = rest.chars();
        // Words of one script stand together: no search for ASCII between its characters.
        while let Some(c) = chars.clone().next().filter(|c| !c.is_ascii()) {
            chars.next();
            let code = u32::from(c);
            match code {
                // Scripts of China and Korea have no case.
                0x3400..=0x9fff | 0xac00..=0xd7a3 => push(c, out),
                _ if TABLE.contains(&code) => {
                    let at = (code - TABLE.start) as usize;
                    let (begin, end) = (table.begins[at] as usize, table.begins[at + 1] as usize);
                    out.extend_from_slice(&table.bytes[begin..end]);
                }
                _ => canonical(c, &mut |c| push(c, out)),
            }
        }
        rest = chars.as_str();
    }
}

/// Length of the ASCII bytes that `bytes` begin with.
pub(crate) fn ascii_prefix(bytes: &[u8]) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn form(collation: Collation, text: &str) -> String {
        let mut out = Vec::new();
        collation.form(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_character_is_mapped_as_without_the_table() {
        for c in '\0'..=char::MAX {
            let mut slow = String::new();
            match c.is_ascii() {
                true => slow.push(c.to_ascii_uppercase()),
                false => canonical(c, &mut |c| slow.push(c)),
            }
            let text = format!("a{c}b");
            assert_eq!(form(Collation::UnicodeCasemap, &text), format!("A{slow}B"), "{c:?}");
        }
    }

    #[test]
    fn unicode_casemap_takes_title_case_and_decomposes_it() {
        let casemap = |text| form(Collation::UnicodeCasemap, text);
        assert_eq!(casemap("caf\u{e9}"), "CAFE\u{301}");
        assert_eq!(casemap("\u{1c4}\u{1c5}\u{1c6}"), casemap("\u{1c5}\u{1c5}\u{1c5}"));
        assert_eq!(casemap("\u{1c6}"), "Dz\u{30c}");
        assert_eq!(casemap("\u{3c2}\u{3c3}\u{3a3}"), "\u{3a3}\u{3a3}\u{3a3}");
        assert_eq!(casemap("\u{df}\u{212a}\u{131}"), "\u{df}KI");
        assert_eq!(casemap("\u{ff41}\u{2026}\u{a0}"), "A... ");
        assert_eq!(casemap("\u{1f80}"), casemap("\u{1f88}"));
        assert_eq!(casemap("\u{10d0}\u{ac00}"), "\u{10d0}\u{ac00}");
    }

    /// RFC 5255 section 4.6: the two valid strings of its example.
    #[test]
    fn order_is_that_of_the_rfc() {
        let koi8 =
            protocol::mime::charset::decode(Some(b"koi8-r"), b"\xe1\xcc\xc5\xcb\xd3\xc5\xca");
        let utf8 = "\u{441}\u{415}\u{420}\u{413}\u{415}\u{419}";
        let casemap = |text| form(Collation::UnicodeCasemap, text);
        assert!(casemap(&koi8) < casemap(utf8));
    }

    #[test]
    fn other_collations() {
        assert_eq!(form(Collation::AsciiCasemap, "a\u{e9}_Z"), "A\u{e9}_Z");
        assert_eq!(form(Collation::Octet, "a\u{e9}Z"), "a\u{e9}Z");
    }
}
