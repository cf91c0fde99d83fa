//! Responses as bytes: RFC 3501 section 7, RFC 9051 section 7, RFC 4731, 5258, 5819, 7162.
//!
//! | module | says |
//! |---|---|
//! | here | what responses are made of: numbers, strings, names, flags, dates |
//! | `status` | OK, NO, BAD and their response codes; continuation requests |
//! | `names` | LIST, STATUS, ID |
//! | `results` | what SEARCH, SORT and THREAD found; which UIDs there are and which vanished |
//!
//! Everything appends to a `Vec<u8>`. Invariants: what is written is one well-formed piece of the
//! grammar whatever the values hold (strings that quotes can't carry become literals; texts for
//! people lose control characters), and a line is ended by whoever began it.

mod names;
mod results;
mod status;

use std::io::Write;

use super::mutf7;
use crate::types::{Keyword, SequenceSet, SystemFlags};

pub use names::{ListLine, StatusValue, id, list, mailbox_status};
pub use results::{ESearch, context_update, esearch, search, sort, threads, uid_batches, vanished};
pub use status::{Code, Status, continuation, status, status_utf8};

/// Longest string that is written in quotes, in bytes; longer ones become literals.
pub const QUOTED_BYTES_MAX: usize = 1000;

/// Appends formatted text. Writing to a `Vec` can't fail.
pub fn print(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// A decimal number, faster than by [`print`].
#[inline]
pub fn number(out: &mut Vec<u8>, n: u64) {
    if n >= EIGHT_DIGITS { long_number(out, n) } else { short_number(out, n) }
}

/// The least number of more than eight digits.
const EIGHT_DIGITS: u64 = 100_000_000;

#[cold]
fn long_number(out: &mut Vec<u8>, n: u64) {
    number(out, n / EIGHT_DIGITS);
    let digits = eight_digits(n % EIGHT_DIGITS) | u64::from_le_bytes([b'0'; 8]);
    out.extend_from_slice(&digits.to_le_bytes());
}

#[inline]
fn short_number(out: &mut Vec<u8>, n: u64) {
    let digits = eight_digits(n);
    // At least the last one is written.
    let zeros = (digits.trailing_zeros() / 8).min(7);
    let digits = (digits | u64::from_le_bytes([b'0'; 8])) >> (8 * zeros);
    // A copy of a fixed length needs no call.
    let from = out.len();
    out.extend_from_slice(&digits.to_le_bytes());
    out.truncate(from + 8 - zeros as usize);
}

/// The decimal digits of a number below 10^8, each as a byte of its value, the first one lowest: the
/// halves, quarters and digits are taken apart side by side in one word.
#[inline]
fn eight_digits(n: u64) -> u64 {
    let halves = (n / 10_000) | ((n % 10_000) << 32);
    // A division by 100, exact below 10,000.
    let hundreds = ((halves * 10_486) >> 20) & 0x7f_0000_007f;
    let pairs = hundreds | ((halves - hundreds * 100) << 16);
    // One by 10, exact below 100.
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((pairs - tens * 10) << 8)
}

/// A text of at most `N` octets that is written for each of many messages, by a copy of a fixed
/// length.
#[derive(Clone, Copy, Debug)]
pub struct Short<const N: usize> {
    octets: [u8; N],
    length: usize,
}

impl<const N: usize> Short<N> {
    /// `None` if the text is longer.
    pub fn new(text: &[u8]) -> Option<Short<N>> {
        let mut octets = [0; N];
        octets.get_mut(..text.len())?.copy_from_slice(text);
        Some(Short { octets, length: text.len() })
    }

    /// Appends the text.
    pub fn write(&self, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(&self.octets);
        out.truncate(from + self.length);
    }
}

/// A literal's announcement: its `bytes` bytes have to follow.
pub fn literal_start(out: &mut Vec<u8>, bytes: u64) {
    out.push(b'{');
    number(out, bytes);
    out.extend_from_slice(b"}\r\n");
}

fn quotable(bytes: &[u8], utf8: bool) -> bool {
    let plain = |&b: &u8| (b' '..0x7f).contains(&b) || (utf8 && b >= 0x80) || b == b'\t';
    bytes.len() <= QUOTED_BYTES_MAX
        && bytes.iter().all(plain)
        && (!utf8 || std::str::from_utf8(bytes).is_ok())
}

/// `string`: quoted if it can be, else a literal. `utf8`: rev2, whose quotes carry UTF-8.
pub fn string(out: &mut Vec<u8>, bytes: &[u8], utf8: bool) {
    if !quotable(bytes, utf8) {
        literal_start(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
        return;
    }
    out.push(b'"');
    for &b in bytes {
        if b == b'"' || b == b'\\' {
            out.push(b'\\');
        }
        out.push(b);
    }
    out.push(b'"');
}

/// `nstring`: NIL for nothing.
pub fn nstring(out: &mut Vec<u8>, bytes: Option<&[u8]>, utf8: bool) {
    match bytes {
        Some(bytes) => string(out, bytes, utf8),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// `nstring` or, where it holds NUL, a `literal8` (RFC 4466).
pub fn nstring8(out: &mut Vec<u8>, bytes: Option<&[u8]>, utf8: bool) {
    match bytes {
        Some(bytes) if bytes.contains(&0) => {
            out.push(b'~');
            literal_start(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        bytes => nstring(out, bytes, utf8),
    }
}

/// `astring`: bare where it can be.
pub fn astring(out: &mut Vec<u8>, bytes: &[u8], utf8: bool) {
    let bare = |b: &u8| *b > b' ' && *b < 0x7f && !b"(){%*\"\\]".contains(b);
    if !bytes.is_empty() && bytes.iter().all(bare) && !bytes.eq_ignore_ascii_case(b"NIL") {
        out.extend_from_slice(bytes);
    } else {
        string(out, bytes, utf8);
    }
}

/// A mailbox name (UTF-8 inside) as the session writes it: modified UTF-7, or in rev2 as it is.
pub fn mailbox(out: &mut Vec<u8>, name: &str, utf8: bool) {
    if utf8 {
        astring(out, name.as_bytes(), true);
    } else {
        astring(out, mutf7::encode(name).as_bytes(), false);
    }
}

/// `(\Seen $Forwarded)`; `last` is one more flag such as `\Recent`.
pub fn flags<'k>(
    out: &mut Vec<u8>,
    system: SystemFlags,
    keywords: impl IntoIterator<Item = &'k Keyword>,
    last: Option<&'k str>,
) {
    out.push(b'(');
    let start = out.len();
    let named = SystemFlags::NAMES.iter().filter(|(flag, _)| system.contains(*flag));
    let names = named.map(|(_, name)| *name);
    for name in names.chain(keywords.into_iter().map(Keyword::as_str)).chain(last) {
        if out.len() > start {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b')');
}

/// A set of ascending numbers in its shortest form.
pub fn set(out: &mut Vec<u8>, ascending: impl IntoIterator<Item = u32>) {
    print(out, format_args!("{}", SequenceSet::from_ascending(ascending)));
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `"17-Jul-1996 02:44:25 +0000"`. Times that no `date-time` can hold read as the epoch.
pub fn date_time(out: &mut Vec<u8>, unix_seconds: i64) {
    let at = time::OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .filter(|at| (0..=9999).contains(&at.year()))
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let month = MONTHS[usize::from(u8::from(at.month())) - 1];
    let (day, year) = (at.day(), at.year());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    print(
        out,
        format_args!("\"{day:02}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} +0000\""),
    );
}

/// `M6d99ac32`: an object id (RFC 8474 section 3) of a letter that tells the kind, and hexadecimal
/// digits.
pub fn object_id(out: &mut Vec<u8>, kind: u8, id: &[u8; 16]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(kind);
    out.extend(id.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|n| DIGITS[usize::from(n)]));
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;
    use crate::imap::command::{AppendItem, AppendOptions, Body, Tag};
    use proptest::prelude::*;

    pub(super) fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    pub(super) fn tag() -> Tag {
        decode::tag_of(b"A282 ").unwrap()
    }

    #[test]
    fn strings_take_the_form_that_can_carry_them() {
        assert_eq!(written(|out| string(out, b"a\"b\\", false)), r#""a\"b\\""#);
        assert_eq!(written(|out| string(out, "é".as_bytes(), false)), "{2}\r\né");
        assert_eq!(written(|out| string(out, "é".as_bytes(), true)), "\"é\"");
        assert_eq!(written(|out| string(out, b"a\nb", true)), "{3}\r\na\nb");
        let long = vec![b'x'; QUOTED_BYTES_MAX];
        assert!(written(|out| string(out, &long, false)).starts_with('"'));
        let longer = vec![b'x'; QUOTED_BYTES_MAX + 1];
        assert!(written(|out| string(out, &longer, false)).starts_with("{1001}"));
        assert_eq!(written(|out| astring(out, b"INBOX", false)), "INBOX");
        assert_eq!(written(|out| astring(out, b"nil", false)), "\"nil\"");
        assert_eq!(written(|out| astring(out, b"", false)), "\"\"");
        assert_eq!(written(|out| nstring(out, None, false)), "NIL");
    }

    #[test]
    fn dates_are_written_as_read() {
        let text = written(|out| date_time(out, 837_596_665));
        assert_eq!(text, "\"17-Jul-1996 09:44:25 +0000\"");
        assert_eq!(written(|out| date_time(out, i64::MAX)), "\"01-Jan-1970 00:00:00 +0000\"");
    }

    proptest! {
        #[test]
        fn strings_decode_to_themselves(bytes in prop::collection::vec(1u8.., 0..40), utf8: bool) {
            let mut input = b"t LOGIN x ".to_vec();
            astring(&mut input, &bytes, utf8);
            let body = decode::command(&input, decode::Dialect::default()).unwrap().body;
            prop_assert_eq!(body, Body::Login { user: "x".into(), password: bytes });
        }

        #[test]
        fn mailbox_names_decode_to_themselves(name in "[^\0]{1,20}", utf8_names: bool) {
            prop_assume!(!name.to_ascii_uppercase().starts_with("INBOX"));
            let mut input = b"t DELETE ".to_vec();
            mailbox(&mut input, &name, utf8_names);
            let dialect = decode::Dialect { utf8_names, no_charset: false };
            let body = decode::command(&input, dialect).unwrap().body;
            prop_assert_eq!(body, Body::Delete { mailbox: name });
        }

        #[test]
        fn dates_decode_to_themselves(seconds in 0i64..250_000_000_000) {
            let mut input = b"t APPEND x ".to_vec();
            date_time(&mut input, seconds);
            input.push(b' ');
            let read = decode::AppendText::begin(&input, true, decode::Dialect::default());
            let (_, _, items) = read.unwrap();
            let options = AppendOptions { internal_date: Some(seconds), ..Default::default() };
            prop_assert_eq!(&items[0], &AppendItem::Message(options));
        }

        #[test]
        fn short_texts_are_what_they_were_made_of(text in prop::collection::vec(any::<u8>(), 0..12)) {
            let short = Short::<8>::new(&text);
            prop_assert_eq!(short.is_some(), text.len() <= 8);
            let mut out = b"before".to_vec();
            short.iter().for_each(|short| short.write(&mut out));
            prop_assert!(short.is_none() || out == [b"before", &text[..]].concat());
        }

        #[test]
        fn numbers_are_decimal(n: u64, shift in 0..64) {
            let n = n >> shift;
            prop_assert_eq!(written(|out| number(out, n)), n.to_string());
        }
    }
}
