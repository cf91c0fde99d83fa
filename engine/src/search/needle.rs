//! A search string, and the ways to look for it in headers and text.

use memchr::memmem::{self, Finder};
use protocol::mime::charset::{self, Charset, CoderResult};
use protocol::mime::transfer::Decoder;
use protocol::mime::{Encoding, encoded_word, header};

use super::caseless::Caseless;
use super::fold::fold;

/// Text decoded from one piece of a body at a time, in bytes; a multiple of the longest character.
pub(super) const TEXT_BYTES: usize = 16 * 1024;

/// A string prepared for many searches.
#[derive(Debug)]
pub(super) struct Needle {
    finder: Finder<'static>,
    /// Set when the string is ASCII: it is looked for in bytes as they are.
    ascii: Option<Caseless>,
}

/// Buffers of one search, reused for all messages.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) folded: Vec<u8>,
    pub(super) decoded: Vec<u8>,
    pub(super) text: String,
}

impl Needle {
    pub(super) fn new(text: &str) -> Needle {
        let mut folded = Vec::new();
        fold(text, &mut folded);
        let ascii = folded.is_ascii().then(|| Caseless::new(&folded));
        Needle { ascii, finder: Finder::new(&folded).into_owned() }
    }

    fn length(&self) -> usize {
        self.finder.needle().len()
    }

    /// Whether a field value (folded, encoded) contains the string.
    pub(super) fn in_value(&self, value: &[u8], buffers: &mut Buffers) -> bool {
        buffers.folded.clear();
        let unfolded = header::unfold(value);
        if memmem::find(&unfolded, b"=?").is_none() {
            if let Some(ascii) = &self.ascii {
                return ascii.is_in(&unfolded);
            }
            if unfolded.is_ascii() {
                return false;
            }
        }
        fold(&encoded_word::decode(&unfolded), &mut buffers.folded);
        self.finder.find(&buffers.folded).is_some()
    }

    /// Whether any field of a header block, its name included, contains the string.
    pub(super) fn in_header(&self, block: &[u8], buffers: &mut Buffers) -> bool {
        // Most headers have no hit in their raw bytes and no encoded words: one pass over all. A
        // hit may lie within an encoded word, or in a line that is no field.
        if let Some(ascii) = &self.ascii
            && !ascii.needle().iter().any(|b| b" \t\r\n".contains(b))
            && !ascii.is_in(block)
            && memmem::find(block, b"=?").is_none()
        {
            return false;
        }
        header::fields(block).any(|field| self.in_value(field.raw, buffers))
    }

    /// Whether a whole text body, in memory, contains the string.
    pub(super) fn in_body(
        &self,
        encoding: Encoding,
        label: &[u8],
        body: &[u8],
        buffers: &mut Buffers,
    ) -> bool {
        if matches!(Decoder::new(encoding), Decoder::Identity) {
            // Of the charsets that a guess may end at, all are transparent.
            let charset = charset::of_text(label, &[]);
            match &self.ascii {
                Some(ascii) if charset::is_ascii_transparent(charset) => return ascii.is_in(body),
                None if charset::is_ascii_transparent(charset) && body.is_ascii() => return false,
                _ => {}
            }
        }
        let mut stream = Stream::new(self, encoding, label, buffers);
        stream.feed(body) || stream.finish()
    }
}

/// A search through a text body that comes in pieces.
pub(super) struct Stream<'a> {
    needle: &'a Needle,
    label: &'a [u8],
    transfer: Decoder,
    /// Set by the first decoded bytes.
    charset: Option<Mode>,
    buffers: &'a mut Buffers,
}

enum Mode {
    /// Search the bytes as they are.
    Bytes,
    /// Decode to text first.
    Text(charset::Decoder),
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        needle: &'a Needle,
        encoding: Encoding,
        label: &'a [u8],
        buffers: &'a mut Buffers,
    ) -> Stream<'a> {
        buffers.folded.clear();
        Stream { needle, label, transfer: Decoder::new(encoding), charset: None, buffers }
    }

    /// Takes the next piece; true when the string is found.
    pub(super) fn feed(&mut self, piece: &[u8]) -> bool {
        let mut decoded = std::mem::take(&mut self.buffers.decoded);
        decoded.clear();
        self.transfer.feed(piece, &mut decoded);
        let found = self.search(&decoded, false);
        self.buffers.decoded = decoded;
        found
    }

    /// Ends the body; true when the string is found in what was held back.
    pub(super) fn finish(mut self) -> bool {
        let mut decoded = Vec::new();
        std::mem::replace(&mut self.transfer, Decoder::Identity).finish(&mut decoded);
        self.search(&decoded, true)
    }

    fn search(&mut self, bytes: &[u8], is_last: bool) -> bool {
        let (needle, label) = (self.needle, self.label);
        let mode =
            self.charset.get_or_insert_with(|| Mode::new(needle, charset::of_text(label, bytes)));
        let folded = &mut self.buffers.folded;
        match mode {
            Mode::Bytes => {
                folded.extend_from_slice(bytes);
                needle.take_found(folded)
            }
            Mode::Text(decoder) => {
                let text = &mut self.buffers.text;
                let mut rest = bytes;
                loop {
                    text.clear();
                    text.reserve(TEXT_BYTES);
                    let (result, read, _) = decoder.decode_to_string(rest, text, is_last);
                    rest = &rest[read..];
                    fold(text, folded);
                    if needle.take_found(folded) {
                        return true;
                    }
                    if result == CoderResult::InputEmpty {
                        return false;
                    }
                }
            }
        }
    }
}

impl Mode {
    fn new(needle: &Needle, charset: &'static Charset) -> Mode {
        if needle.ascii.is_some() && charset::is_ascii_transparent(charset) {
            Mode::Bytes
        } else {
            Mode::Text(charset.new_decoder_without_bom_handling())
        }
    }
}

impl Needle {
    /// Looks through `window`, then leaves only the tail in it that could begin a match.
    fn take_found(&self, window: &mut Vec<u8>) -> bool {
        let found = match &self.ascii {
            Some(ascii) => ascii.is_in(window),
            None => self.finder.find(window).is_some(),
        };
        if found {
            return true;
        }
        let keep = self.length().saturating_sub(1).min(window.len());
        window.drain(..window.len() - keep);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_value(needle: &str, value: &str) -> bool {
        Needle::new(needle).in_value(value.as_bytes(), &mut Buffers::default())
    }

    #[test]
    fn values_are_unfolded_decoded_and_compared_without_case() {
        assert!(in_value("hello world", " Hello\r\n World"));
        assert!(in_value("CAF\u{c9}", "=?iso-8859-1?q?caf=E9?="));
        assert!(in_value("cafe", "=?utf-8?q?CAFE?= x"));
        assert!(in_value("\u{3a3}", "\u{3c2}"));
        assert!(!in_value("k", "\u{212a}"));
        assert!(in_value("STRA\u{df}E", "Stra\u{df}e"));
        assert!(in_value("", "x"));
        assert!(!in_value("caf\u{e9}", "cafe"));
    }

    #[test]
    fn headers_are_searched_with_names_and_across_folds() {
        let block = b"Subject: a\r\n b\r\nX-Y: =?utf-8?q?z=C3=A9?=\r\n";
        let found = |needle| Needle::new(needle).in_header(block, &mut Buffers::default());
        assert!(found("x-y"));
        assert!(found("a b"));
        assert!(found("Z\u{c9}"));
        assert!(!found("b x-y"));
    }

    fn in_body(needle: &str, encoding: Encoding, label: &str, body: &[u8]) -> bool {
        let needle = Needle::new(needle);
        let mut buffers = Buffers::default();
        let whole = needle.in_body(encoding, label.as_bytes(), body, &mut buffers);
        for size in [1, 2, 3, 7] {
            let mut stream = Stream::new(&needle, encoding, label.as_bytes(), &mut buffers);
            let found = body.chunks(size).any(|piece| stream.feed(piece)) || stream.finish();
            assert_eq!(found, whole, "pieces of {size}");
        }
        whole
    }

    #[test]
    fn bodies_are_decoded_whole_or_in_pieces() {
        use Encoding::{Base64, QuotedPrintable, SevenBit};
        assert!(in_body("needle", SevenBit, "us-ascii", b"hay NEEDLE hay"));
        assert!(in_body("long word", QuotedPrintable, "", b"a long =\r\nword"));
        assert!(in_body("hello, w", Base64, "utf-8", b"SEVM\r\nTE8sIFdv\r\ncmxk"));
        assert!(in_body("\u{43f}\u{440}", SevenBit, "koi8-r", b"x \xf0\xf2 y"));
        assert!(in_body("\u{e9}t\u{e9}", SevenBit, "utf-8", "l'\u{c9}T\u{c9}".as_bytes()));
        assert!(in_body("\u{30c6}\u{30b9}", SevenBit, "iso-2022-jp", b"a \x1b$B%F%9\x1b(B z"));
        assert!(!in_body("f%9", SevenBit, "iso-2022-jp", b"a \x1b$B%F%9\x1b(B z"));
        assert!(!in_body("absent", Base64, "", b"YWJzZW4="));
    }
}
