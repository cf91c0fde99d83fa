//! Dot transparency: RFC 5321 section 4.5.2, RFC 1939 section 3.
//!
//! Only CRLF makes a line here: a bare LF or CR before a dot neither ends a message nor hides a
//! dot. So no second message can be smuggled in behind `LF . LF`, and bytes round-trip exactly.

use memchr::memmem;

/// What [`DotDecoder::next`] made of the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Message bytes; may be empty while input was consumed.
    pub data: &'a [u8],
    /// Bytes of input to drop before the next call. May be 0 while `data` isn't empty: a CR held
    /// back from an earlier read comes out before the input is looked at.
    pub consumed: usize,
    /// The line with the single dot has been consumed: the message is complete.
    pub end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// At the start of a line.
    LineStart,
    /// Inside a line.
    Inside,
    /// A CR inside a line, already given out.
    Cr,
    /// A dot at the start of a line, not given out.
    Dot,
    /// A dot at the start of a line and a CR, neither given out.
    DotCr,
    /// The end of the message.
    End,
}

/// Turns what follows DATA into message bytes, piece by piece, without copying.
#[derive(Clone, Copy, Debug)]
pub struct DotDecoder {
    seen: Seen,
}

impl Default for DotDecoder {
    fn default() -> Self {
        DotDecoder { seen: Seen::LineStart }
    }
}

impl DotDecoder {
    /// A decoder at the start of a message.
    pub fn new() -> DotDecoder {
        DotDecoder::default()
    }

    /// Takes the next run of message bytes from `input`.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Piece<'a> {
        let Some(&first) = input.first() else {
            return Piece { data: &[], consumed: 0, end: self.seen == Seen::End };
        };
        match (self.seen, first) {
            (Seen::End, _) => Piece { data: &[], consumed: 0, end: true },
            (Seen::LineStart, b'.') => {
                self.seen = Seen::Dot;
                Piece { data: &[], consumed: 1, end: false }
            }
            (Seen::Dot, b'\r') => {
                self.seen = Seen::DotCr;
                Piece { data: &[], consumed: 1, end: false }
            }
            (Seen::DotCr, b'\n') => {
                self.seen = Seen::End;
                Piece { data: &[], consumed: 1, end: true }
            }
            // The dot was transparency after all, and the CR held back is data.
            (Seen::DotCr, _) => {
                self.seen = Seen::Cr;
                Piece { data: b"\r", consumed: 0, end: false }
            }
            _ => self.run(input),
        }
    }

    /// A run of bytes up to the next line that starts with a dot.
    fn run<'a>(&mut self, input: &'a [u8]) -> Piece<'a> {
        if self.seen == Seen::Cr && input.first() == Some(&b'\n') {
            self.seen = Seen::LineStart;
            return Piece { data: input.get(..1).unwrap_or_default(), consumed: 1, end: false };
        }
        let len = memmem::find(input, b"\r\n.").map_or(input.len(), |at| at + 2);
        let data = input.get(..len).unwrap_or_default();
        self.seen = match data {
            [.., b'\r', b'\n'] => Seen::LineStart,
            [.., b'\r'] => Seen::Cr,
            _ => Seen::Inside,
        };
        Piece { data, consumed: len, end: false }
    }
}

/// Writes a message as a multi-line reply: dots doubled at line starts, a line with one dot last.
#[derive(Clone, Copy, Debug)]
pub struct DotEncoder {
    seen: Seen,
}

impl Default for DotEncoder {
    fn default() -> Self {
        DotEncoder { seen: Seen::LineStart }
    }
}

impl DotEncoder {
    /// An encoder at the start of a message.
    pub fn new() -> DotEncoder {
        DotEncoder::default()
    }

    /// Gives `sink` the wire form of the next part of the message, in as many runs as needed.
    pub fn encode(&mut self, mut part: &[u8], mut sink: impl FnMut(&[u8])) {
        while let Some(&first) = part.first() {
            if self.seen == Seen::LineStart && first == b'.' {
                sink(b".");
            }
            let starts_with_lf = self.seen == Seen::Cr && first == b'\n';
            let len = match starts_with_lf {
                true => 1,
                false => Self::next_stuffed(part),
            };
            let (run, rest) = part.split_at(len);
            sink(run);
            self.seen = match run {
                [b'\n'] if starts_with_lf => Seen::LineStart,
                [.., b'\r', b'\n'] => Seen::LineStart,
                [.., b'\r'] => Seen::Cr,
                _ => Seen::Inside,
            };
            part = rest;
        }
    }

    /// Ends the message: a line end if its last line has none, then the line with the dot.
    pub fn finish(self, mut sink: impl FnMut(&[u8])) {
        match self.seen {
            Seen::LineStart => sink(b".\r\n"),
            // A last lone CR is data; a whole line end must follow it all the same.
            _ => sink(b"\r\n.\r\n"),
        }
    }

    /// Bytes before the next line that starts with a dot, or all.
    fn next_stuffed(part: &[u8]) -> usize {
        memmem::find(part, b"\r\n.").map_or(part.len(), |at| at + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes reads as a session does; the rest is what follows the message.
    fn decode(chunks: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut decoder = DotDecoder::new();
        let (mut message, mut rest) = (Vec::new(), None::<Vec<u8>>);
        for chunk in chunks {
            let mut input: &[u8] = chunk;
            if let Some(rest) = &mut rest {
                rest.extend_from_slice(chunk);
                continue;
            }
            while !input.is_empty() {
                let piece = decoder.next(input);
                message.extend_from_slice(piece.data);
                input = &input[piece.consumed..];
                if piece.end {
                    rest = Some(input.to_vec());
                    break;
                }
            }
        }
        (message, rest)
    }

    fn encode(parts: &[&[u8]]) -> Vec<u8> {
        let (mut encoder, mut wire) = (DotEncoder::new(), Vec::new());
        for part in parts {
            encoder.encode(part, |run| wire.extend_from_slice(run));
        }
        encoder.finish(|run| wire.extend_from_slice(run));
        wire
    }

    #[test]
    fn decodes_transparency_and_the_end() {
        let (message, rest) = decode(&[b"a\r\n..b\r\n.c\r\n.\r\nQUIT\r\n"]);
        assert_eq!(message, b"a\r\n.b\r\nc\r\n");
        assert_eq!(rest.as_deref(), Some(&b"QUIT\r\n"[..]));
        assert_eq!(decode(&[b".\r\n"]), (vec![], Some(vec![])));
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message() {
        for trick in [&b"a\n.\nb"[..], b"a\n.\r\nb", b"a\r\n.\nb", b"a\r.\rb", b"a\r\n.\r\rb"] {
            assert_eq!(decode(&[trick]).1, None, "{trick:?}");
        }
        assert_eq!(decode(&[b"\r\n.\rx\r\n.\r\n"]).0, b"\r\n\rx\r\n");
    }

    #[test]
    fn encoder_adds_a_missing_line_end() {
        assert_eq!(encode(&[b".a\r\n.b"]), b"..a\r\n..b\r\n.\r\n");
        assert_eq!(encode(&[b"a\n.b\r\n"]), b"a\n.b\r\n.\r\n");
        assert_eq!(encode(&[]), b".\r\n");
    }

    #[test]
    fn every_split_decodes_alike() {
        let wire = b".\rx\r\n..\r\n...\r\n\r\r\n.y\n.\r\n\r\n.\r\nNOOP\r\n";
        let whole = decode(&[wire]);
        assert!(whole.1.is_some());
        for i in 0..=wire.len() {
            for j in i..=wire.len() {
                assert_eq!(decode(&[&wire[..i], &wire[i..j], &wire[j..]]), whole, "{i} {j}");
            }
        }
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(decode(&bytes), whole);
    }

    fn dotty() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), any::<u8>()];
        proptest::collection::vec(byte, 0..120)
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(message in dotty(), at in 0usize..120) {
            let (a, b) = message.split_at(at.min(message.len()));
            let wire = encode(&[a, b]);
            prop_assert_eq!(&wire, &encode(&[&message]));
            let mut expected = message.clone();
            if !expected.is_empty() && !expected.ends_with(b"\r\n") {
                expected.extend_from_slice(b"\r\n");
            }
            let (decoded, rest) = decode(&[&wire]);
            prop_assert_eq!(decoded, expected);
            prop_assert_eq!(rest, Some(vec![]));
        }

        #[test]
        fn any_split_of_any_bytes_decodes_alike(wire in dotty(), at in 0usize..120) {
            let (a, b) = wire.split_at(at.min(wire.len()));
            prop_assert_eq!(decode(&[a, b]), decode(&[&wire]));
        }
    }
}
