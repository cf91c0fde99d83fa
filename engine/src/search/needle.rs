//! A search string, and the ways to look for it in headers and text.

use memchr::memmem::{self, Finder};
use protocol::mime::charset::{self, Charset, CoderResult};
use protocol::mime::transfer::Decoder;
use protocol::mime::{Encoding, encoded_word, header};

use super::caseless::Caseless;
use super::fold::{fold, gives_ascii};
use crate::collation::Collation;

/// Text decoded from one piece of a body at a time, in bytes; a multiple of the longest character.
pub(super) const TEXT_BYTES: usize = 16 * 1024;

/// A string prepared for many searches.
#[derive(Debug)]
pub(super) struct Needle {
    finder: Finder<'static>,
    /// Set when the string is ASCII: it is looked for in bytes as they are.
    ascii: Option<Ascii>,
    collation: Collation,
}

/// An ASCII string, looked for in bytes as they are.
#[derive(Debug)]
enum Ascii {
    /// In any case.
    Caseless(Caseless),
    /// `i;octet`
    Exactly(Box<Finder<'static>>),
}

impl Ascii {
    fn is_in(&self, hay: &[u8]) -> bool {
        match self {
            Ascii::Caseless(caseless) => caseless.is_in(hay),
            Ascii::Exactly(finder) => finder.find(hay).is_some(),
        }
    }
}

/// Buffers of one search, reused for all messages.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) folded: Vec<u8>,
    pub(super) decoded: Vec<u8>,
    pub(super) text: String,
}

impl Needle {
    pub(super) fn new(text: &str, collation: Collation) -> Needle {
        let mut folded = Vec::new();
        take_case(collation, text, &mut folded);
        let finder = Finder::new(&folded).into_owned();
        let ascii = folded.is_ascii().then(|| match collation {
            Collation::Octet => Ascii::Exactly(Box::new(finder.clone())),
            _ => Ascii::Caseless(Caseless::new(&folded)),
        });
        Needle { ascii, finder, collation }
    }

    /// Whether an ASCII string that is not in bytes is not in their text, either.
    fn misses(&self, bytes: &[u8]) -> bool {
        self.collation != Collation::UnicodeCasemap || !gives_ascii(bytes)
    }

    fn length(&self) -> usize {
        self.finder.needle().len()
    }

    /// Whether a field value (folded, encoded) contains the string.
    pub(super) fn in_value(&self, value: &[u8], buffers: &mut Buffers) -> bool {
        buffers.folded.clear();
        let unfolded = header::unfold(value);
        if memmem::find(&unfolded, b"=?").is_none() {
            match &self.ascii {
                Some(ascii) if ascii.is_in(&unfolded) => return true,
                Some(_) if self.misses(&unfolded) => return false,
                None if unfolded.is_ascii() => return false,
                _ => {}
            }
        }
        take_case(self.collation, &encoded_word::decode(&unfolded), &mut buffers.folded);
        self.finder.find(&buffers.folded).is_some()
    }

    /// Whether any field of a header block, its name included, contains the string.
    pub(super) fn in_header(&self, block: &[u8], buffers: &mut Buffers) -> bool {
        // Most headers have no hit in their raw bytes and no encoded words: one pass over all. A
        // hit may lie within an encoded word, or in a line that is no field.
        if let Some(ascii) = &self.ascii
            && !self.finder.needle().iter().any(|b| b" \t\r\n".contains(b))
            && !ascii.is_in(block)
            && memmem::find(block, b"=?").is_none()
            && self.misses(block)
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
                Some(ascii) if charset::is_ascii_transparent(charset) => {
                    if ascii.is_in(body) {
                        return true;
                    }
                    if self.misses(body) {
                        return false;
                    }
                }
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
    /// Search the bytes as they are, of this charset, as long as their text has no other ASCII.
    Bytes(&'static Charset),
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
        if let Mode::Bytes(charset) = mode
            && !needle.misses(bytes)
        {
            // Pieces before this one ended with whole characters; of the last one only ASCII counts.
            folded.make_ascii_lowercase();
            *mode = Mode::Text(charset.new_decoder_without_bom_handling());
        }
        match mode {
            Mode::Bytes(_) => {
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
                    take_case(needle.collation, text, folded);
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
            Mode::Bytes(charset)
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

/// Appends text as the collation's strings are compared.
fn take_case(collation: Collation, text: &str, out: &mut Vec<u8>) {
    let from = out.len();
    match collation {
        Collation::UnicodeCasemap => fold(text, out),
        Collation::AsciiCasemap => {
            out.extend_from_slice(text.as_bytes());
            out[from..].make_ascii_lowercase();
        }
        Collation::Octet => out.extend_from_slice(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_value(needle: &str, value: &str) -> bool {
        Needle::new(needle, Collation::default())
            .in_value(value.as_bytes(), &mut Buffers::default())
    }

    #[test]
    fn values_are_unfolded_decoded_and_compared_without_case() {
        assert!(in_value("hello world", " Hello\r\n World"));
        assert!(in_value("CAF\u{c9}", "=?iso-8859-1?q?caf=E9?="));
        assert!(in_value("cafe", "=?utf-8?q?CAFE?= x"));
        assert!(in_value("\u{3a3}", "\u{3c2}"));
        assert!(in_value("k", "\u{212a}"));
        assert!(in_value("cafe", "Un Caf\u{e9}"));
        assert!(!in_value("cafes", "Caf\u{e9}s"));
        assert!(in_value("STRA\u{df}E", "Stra\u{df}e"));
        assert!(in_value("", "x"));
        assert!(!in_value("caf\u{e9}", "cafe"));
    }

    #[test]
    fn headers_are_searched_with_names_and_across_folds() {
        let block = b"Subject: a\r\n b\r\nX-Y: =?utf-8?q?z=C3=A9?=\r\n";
        let found = |needle| {
            Needle::new(needle, Collation::default()).in_header(block, &mut Buffers::default())
        };
        assert!(found("x-y"));
        assert!(found("a b"));
        assert!(found("Z\u{c9}"));
        assert!(!found("b x-y"));
    }

    fn in_body(needle: &str, encoding: Encoding, label: &str, body: &[u8]) -> bool {
        let needle = Needle::new(needle, Collation::default());
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
        assert!(in_body("xy cafe", SevenBit, "utf-8", "long XY caf\u{e9}".as_bytes()));
        assert!(in_body("xy cafe", SevenBit, "iso-8859-2", b"long XY caf\xe9"));
        assert!(!in_body("cafes", SevenBit, "utf-8", "caf\u{e9}s".as_bytes()));
    }

    #[test]
    fn other_collations_tell_more_apart() {
        let hay = "Stra\u{df}e Caf\u{e9}".as_bytes();
        let found = |needle, collation| {
            let needle = Needle::new(needle, collation);
            let mut buffers = Buffers::default();
            let whole = needle.in_body(Encoding::SevenBit, b"utf-8", hay, &mut buffers);
            assert_eq!(needle.in_value(hay, &mut buffers), whole);
            let mut stream = Stream::new(&needle, Encoding::SevenBit, b"utf-8", &mut buffers);
            assert_eq!(hay.chunks(2).any(|piece| stream.feed(piece)) || stream.finish(), whole);
            whole
        };
        use Collation::{AsciiCasemap, Octet, UnicodeCasemap};
        for (needle, casemap, ascii, octet) in [
            ("stra", true, true, false),
            ("Stra", true, true, true),
            ("cafe", true, false, false),
            ("CAF\u{c9}", true, false, false),
            ("CAF\u{e9}", true, true, false),
            ("Caf\u{e9}", true, true, true),
        ] {
            assert_eq!(found(needle, UnicodeCasemap), casemap, "{needle}");
            assert_eq!(found(needle, AsciiCasemap), ascii, "{needle}");
            assert_eq!(found(needle, Octet), octet, "{needle}");
        }
    }
}
