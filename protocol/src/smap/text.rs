//! A message that a client sends: line ends of any kind become CRLF; dots are undone.

/// How the client marks the end of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextEnd {
    /// A line with a dot alone; lines that begin with a dot have one more.
    Dot,
    /// So many bytes, then a line: a further number of bytes, or nothing.
    Count(u64),
}

/// Takes a message apart from what follows it, in pieces of any size.
#[derive(Clone, Debug)]
pub struct TextDecoder {
    dots: bool,
    /// What the current line holds so far.
    line: Line,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Empty,
    Dot,
    Some,
}

impl TextDecoder {
    /// For a message that ends in that way.
    pub fn new(end: TextEnd) -> TextDecoder {
        TextDecoder { dots: end == TextEnd::Dot, line: Line::Empty }
    }

    /// Decodes to the end of `out`. Gives the bytes taken, and whether the dot was met.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        for (at, &byte) in input.iter().enumerate() {
            match (byte, self.line) {
                // CRs alone never were part of a line end.
                (b'\r', _) => {}
                (b'\n', Line::Dot) => return (at + 1, true),
                (b'\n', _) => {
                    out.extend_from_slice(b"\r\n");
                    self.line = Line::Empty;
                }
                (b'.', Line::Empty) if self.dots => self.line = Line::Dot,
                (byte, _) => {
                    out.push(byte);
                    self.line = Line::Some;
                }
            }
        }
        (input.len(), false)
    }

    /// The end: a last line without its end gets one.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.line == Line::Some {
            out.extend_from_slice(b"\r\n");
            self.line = Line::Empty;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &[u8] = b"A: b\n\n..dot\r\n.x\nend\n.\nNOOP\n";
    const TAKEN: &[u8] = b"A: b\r\n\r\n.dot\r\nx\r\nend\r\n";

    #[test]
    fn every_split_decodes_alike() {
        for cut in 0..SENT.len() {
            let mut decoder = TextDecoder::new(TextEnd::Dot);
            let mut out = Vec::new();
            let (taken, done) = decoder.feed(&SENT[..cut], &mut out);
            let taken = match done {
                true => taken,
                false => {
                    let (more, done) = decoder.feed(&SENT[cut..], &mut out);
                    assert!(done);
                    cut + more
                }
            };
            assert_eq!((&out[..], &SENT[taken..]), (TAKEN, &b"NOOP\n"[..]), "{cut}");
        }
    }

    #[test]
    fn counted_text_keeps_its_dots() {
        let mut decoder = TextDecoder::new(TextEnd::Count(9));
        let mut out = Vec::new();
        assert_eq!(decoder.feed(b".\n..x\nend", &mut out), (9, false));
        decoder.finish(&mut out);
        assert_eq!(out, b".\r\n..x\r\nend\r\n");
    }
}
