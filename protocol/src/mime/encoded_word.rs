//! RFC 2047 encoded words in header values.
//!
//! Words are decoded wherever they stand, also inside quoted strings and next to other text, as
//! mail in the wild has them. Neighbouring words of one charset are joined before the charset is
//! decoded, since senders split characters between words.

use std::borrow::Cow;

use memchr::memmem;

use super::charset;
use super::structure::Encoding;
use super::transfer::{Base64, Decoder};

/// A header value as text: unfolded by the caller, encoded words decoded, raw 8-bit guessed.
pub fn decode(value: &[u8]) -> Cow<'_, str> {
    if find_start(value).is_none() {
        return charset::guess(value);
    }
    let mut out = String::with_capacity(value.len());
    let mut run = Run::default();
    let mut rest = value;
    while let Some(start) = find_start(rest) {
        let Some((word, length)) = parse_word(&rest[start..]) else {
            run.flush(&mut out);
            out.push_str(&charset::guess(&rest[..start + 2]));
            rest = &rest[start + 2..];
            continue;
        };
        let between = &rest[..start];
        let joined = run.is_open() && between.iter().all(|b| b" \t\r\n".contains(b));
        if !joined {
            run.flush(&mut out);
            out.push_str(&charset::guess(between));
        }
        run.push(&word, &mut out);
        rest = &rest[start + length..];
    }
    run.flush(&mut out);
    out.push_str(&charset::guess(rest));
    Cow::Owned(out)
}

/// Where the first `=?` is. Values are short, and few have a `=`: cheaper than to prepare a search
/// for both octets.
fn find_start(value: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'=', value).find(|&at| value.get(at + 1) == Some(&b'?'))
}

struct Word<'a> {
    charset: &'a [u8],
    base64: bool,
    text: &'a [u8],
}

/// The encoded word at the start of `bytes` (which starts with `=?`) and its length.
fn parse_word(bytes: &[u8]) -> Option<(Word<'_>, usize)> {
    let question = |from: usize| memchr::memchr(b'?', &bytes[from..]).map(|i| from + i);
    let charset_end = question(2)?;
    let charset = &bytes[2..charset_end];
    let base64 = match bytes.get(charset_end + 1)? {
        b'B' | b'b' => true,
        b'Q' | b'q' => false,
        _ => return None,
    };
    if bytes.get(charset_end + 2) != Some(&b'?') || charset.is_empty() {
        return None;
    }
    let text_start = charset_end + 3;
    let text_end = text_start + memmem::find(bytes.get(text_start..)?, b"?=")?;
    // `=?utf-8?q??=`: the terminator of an empty word is its own second question mark.
    let text = &bytes[text_start..text_end];
    let plain = charset.iter().all(|&b| b > b' ') && !text.contains(&b'\n');
    plain.then_some((Word { charset, base64, text }, text_end + 2))
}

/// Decoded bytes of neighbouring words with the same charset.
#[derive(Default)]
struct Run<'a> {
    charset: Option<&'a [u8]>,
    bytes: Vec<u8>,
}

impl<'a> Run<'a> {
    fn is_open(&self) -> bool {
        self.charset.is_some()
    }

    fn push(&mut self, word: &Word<'a>, out: &mut String) {
        if self.charset.is_some_and(|c| !c.eq_ignore_ascii_case(word.charset)) {
            self.flush(out);
        }
        self.charset = Some(word.charset);
        if word.base64 {
            let mut decoder = Base64::default();
            decoder.feed(word.text, &mut self.bytes);
            decoder.finish(&mut self.bytes);
        } else {
            let spaced: Vec<u8> =
                word.text.iter().map(|&b| if b == b'_' { b' ' } else { b }).collect();
            let mut decoder = Decoder::new(Encoding::QuotedPrintable);
            decoder.feed(&spaced, &mut self.bytes);
            decoder.finish(&mut self.bytes);
        }
    }

    fn flush(&mut self, out: &mut String) {
        if let Some(label) = self.charset.take() {
            out.push_str(&charset::decode(Some(label), &self.bytes));
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_decoded_and_joined() {
        assert_eq!(decode(b"=?ISO-8859-1?Q?a?="), "a");
        assert_eq!(decode(b"=?ISO-8859-1?Q?a?= b"), "a b");
        assert_eq!(decode(b"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b_c?="), "ab c");
        assert_eq!(decode(b"=?utf-8?B?w6nDqQ==?="), "\u{e9}\u{e9}");
        assert_eq!(decode(b"=?utf-8?B?ww==?= =?utf-8?B?qQ==?="), "\u{e9}");
        assert_eq!(
            decode(b"Re: =?us-ascii?q?x?=, \"=?koi8-r?B?8PI=?=\""),
            "Re: x, \"\u{41f}\u{420}\""
        );
    }

    #[test]
    fn what_is_no_word_stays() {
        assert_eq!(decode(b"a =?b =?utf-8?x?y?= =?"), "a =?b =?utf-8?x?y?= =?");
        assert_eq!(decode(b"=?utf-8?q??="), "");
        assert_eq!(decode("na\u{ef}ve".as_bytes()), "na\u{ef}ve");
        assert_eq!(decode(b"na\xefve"), "na\u{ef}ve");
    }

    #[test]
    fn unknown_charset_is_guessed() {
        assert_eq!(decode(b"=?x-nowhere?q?abc=E9?="), "abc\u{e9}");
    }
}
