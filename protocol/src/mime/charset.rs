//! Charset labels to text, by the tables of encoding_rs.
//!
//! Undecodable bytes become U+FFFD. Bytes that are plain ASCII are passed through without a copy
//! where the charset allows it.

use std::borrow::Cow;

use encoding_rs::{EUC_JP, REPLACEMENT, UTF_8, WINDOWS_1252};

pub use encoding_rs::{CoderResult, Decoder, Encoding as Charset};

/// The charset of that label (any case, blanks around it ignored); `None` for one that we can't
/// decode.
pub fn of_label(label: &[u8]) -> Option<&'static Charset> {
    // RFC 2231 language suffix in RFC 2047 words: `utf-8*en`.
    let label = label.split(|&b| b == b'*').next().unwrap_or(label);
    Charset::for_label(label).filter(|c| *c != REPLACEMENT)
}

/// Decodes bytes that are labelled `label`, or not labelled at all.
///
/// Without a usable label, and for US-ASCII that isn't, the bytes are read as UTF-8 where they are
/// valid UTF-8, else as windows-1252.
pub fn decode<'a>(label: Option<&[u8]>, bytes: &'a [u8]) -> Cow<'a, str> {
    match label.and_then(of_label) {
        Some(charset) if charset != WINDOWS_1252 => charset.decode_without_bom_handling(bytes).0,
        _ => guess(bytes),
    }
}

/// Decodes bytes of unknown charset: UTF-8 if valid, else windows-1252.
pub fn guess(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

/// Whether a byte below 0x80 always stands for itself in this charset and never for a piece of
/// another character, so that ASCII text can be searched for without decoding.
pub fn is_ascii_transparent(charset: &'static Charset) -> bool {
    charset == UTF_8 || charset == EUC_JP || charset.is_single_byte()
}

/// The charset that [`decode`] uses for bytes with this label of which `bytes` are the first. They
/// may end within a character.
pub fn of_text(label: &[u8], bytes: &[u8]) -> &'static Charset {
    match of_label(label) {
        Some(charset) if charset != WINDOWS_1252 => charset,
        _ => match std::str::from_utf8(bytes) {
            Err(error) if error.error_len().is_some() => WINDOWS_1252,
            _ => UTF_8,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_decode() {
        assert_eq!(decode(Some(b"ISO-8859-1"), b"caf\xe9"), "caf\u{e9}");
        assert_eq!(decode(Some(b"koi8-r"), b"\xf0\xf2"), "\u{41f}\u{420}");
        assert_eq!(decode(Some(b"UTF-8*en"), "\u{416}".as_bytes()), "\u{416}");
        assert_eq!(decode(Some(b"shift_jis"), b"\x83\x65"), "\u{30c6}");
    }

    #[test]
    fn unlabelled_and_mislabelled_bytes_are_guessed() {
        assert_eq!(decode(None, b"caf\xe9"), "caf\u{e9}");
        assert_eq!(decode(Some(b"us-ascii"), "caf\u{e9}".as_bytes()), "caf\u{e9}");
        assert_eq!(decode(Some(b"x-unknown"), b"ab"), "ab");
    }

    #[test]
    fn text_is_guessed_by_its_first_bytes() {
        assert_eq!(of_text(b"", b"caf\xc3"), UTF_8);
        assert_eq!(of_text(b"us-ascii", b"caf\xe9 x"), WINDOWS_1252);
        assert!(!is_ascii_transparent(of_text(b"shift_jis", b"")));
    }
}
