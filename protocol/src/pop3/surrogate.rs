//! Headers for clients that don't know UTF-8: RFC 6856 section 2.1, in the manner of RFC 6858.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Bytes of text in one encoded-word: with its frame it stays below the 75 of RFC 2047.
const WORD_BYTES_MAX: usize = 45;

/// The header in ASCII: words with other characters become encoded-words. Unchanged if it is in
/// ASCII already, or not in UTF-8 (older mail has other charsets there, undeclared).
///
/// An address with such characters becomes one that can't be answered; its display name is kept.
pub fn surrogate(header: &[u8]) -> Cow<'_, [u8]> {
    let text = match std::str::from_utf8(header) {
        Ok(text) if !text.is_ascii() => text,
        _ => return Cow::Borrowed(header),
    };
    let mut out = String::with_capacity(text.len() * 2);
    // The blank before a word, held back: between two encoded-words it belongs to the second.
    let mut blank = "";
    let mut after_encoded = false;
    for piece in pieces(text) {
        if piece.starts_with([' ', '\t', '\r', '\n']) {
            blank = piece;
            continue;
        }
        if piece.is_ascii() {
            out.push_str(blank);
            out.push_str(piece);
            after_encoded = false;
        } else {
            let folds = blank.contains('\n');
            let with_blank = after_encoded && !blank.is_empty() && !folds;
            out.push_str(if with_blank { " " } else { blank });
            let whole = if with_blank { format!("{blank}{piece}") } else { piece.to_owned() };
            push_encoded(&mut out, &whole);
            after_encoded = true;
        }
        blank = "";
    }
    out.push_str(blank);
    Cow::Owned(out.into_bytes())
}

/// Runs of blanks and line ends, and runs of anything else.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let is_blank = |b: u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = is_blank(*rest.as_bytes().first()?);
        let end = rest.bytes().position(|b| is_blank(b) != first).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        rest = behind;
        Some(piece)
    })
}

fn push_encoded(out: &mut String, word: &str) {
    let mut rest = word;
    while !rest.is_empty() {
        let mut end = rest.len().min(WORD_BYTES_MAX);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (now, later) = rest.split_at(end);
        out.push_str("=?utf-8?B?");
        out.push_str(&BASE64.encode(now));
        out.push_str("?=");
        rest = later;
        if !rest.is_empty() {
            out.push_str("\r\n ");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(header: &str) -> String {
        String::from_utf8(surrogate(header.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn words_become_encoded_words() {
        assert_eq!(
            text("Subject: Grüße aus Köln\r\nTo: jo\r\n\r\n"),
            "Subject: =?utf-8?B?R3LDvMOfZQ==?= aus =?utf-8?B?S8O2bG4=?=\r\nTo: jo\r\n\r\n"
        );
        // Readers drop the blank between two encoded-words: it goes inside.
        assert_eq!(text("S: ü ö\r\n"), "S: =?utf-8?B?w7w=?= =?utf-8?B?IMO2?=\r\n");
        let long = text(&format!("S: {}\r\n", "ü".repeat(60)));
        assert!(long.is_ascii() && long.lines().all(|l| l.len() <= 80), "{long}");
    }

    #[test]
    fn other_headers_stay_as_they_are() {
        for header in [&b"Subject: plain\r\n\r\n"[..], b"Subject: Gr\xfc\xdfe\r\n\r\n", b""] {
            assert!(matches!(surrogate(header), Cow::Borrowed(same) if same == header));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_utf8_becomes_ascii(header in "([a-zäß€]{0,30}[ \t]?(\r\n)?){0,12}") {
            prop_assert!(surrogate(header.as_bytes()).is_ascii());
        }
    }
}
