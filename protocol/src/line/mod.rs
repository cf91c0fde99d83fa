//! What POP3 and LMTP share: command lines that end in CRLF, and dot transparency.
//!
//! Invariants: results depend on the bytes only, never on how the network cut them into reads;
//! nothing here allocates more than it is given, and an overlong line is dropped as it arrives.

mod dot;

pub use dot::{DotDecoder, DotEncoder, Piece};

/// What [`LineFramer::next`] found at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A line without its line end. `consumed` counts it and the line end.
    Line {
        /// The line; may hold any byte but LF.
        line: &'a [u8],
        /// Bytes of input to drop before the next call.
        consumed: usize,
    },
    /// A line longer than the limit has ended; it was not kept. Said once a line.
    TooLong {
        /// Bytes of input to drop before the next call.
        consumed: usize,
    },
    /// No line end yet. Drop `consumed` bytes and call again with more input.
    Incomplete {
        /// Bytes of input to drop: 0, or all of an overlong line's part.
        consumed: usize,
    },
}

/// Finds command lines under a length limit.
///
/// A line ends in LF; one CR before it belongs to the line end. (Bare LF is accepted for commands
/// because people type them; message data is [`DotDecoder`]'s and is strict.)
#[derive(Clone, Copy, Debug)]
pub struct LineFramer {
    line_bytes_max: usize,
    /// Bytes of the current input that are known to hold no LF.
    scanned: usize,
    skipping: bool,
}

impl LineFramer {
    /// Lines of more than `line_bytes_max` bytes (line end not counted) are refused.
    pub fn new(line_bytes_max: usize) -> LineFramer {
        LineFramer { line_bytes_max, scanned: 0, skipping: false }
    }

    /// Looks at `input`, which starts where the last call's `consumed` ended.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Framed<'a> {
        let fresh = input.get(self.scanned..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', fresh) else {
            // The CR of a line end that is still on its way must not make a line too long.
            if self.skipping || input.len() > self.line_bytes_max.saturating_add(1) {
                self.skipping = true;
                self.scanned = 0;
                return Framed::Incomplete { consumed: input.len() };
            }
            self.scanned = input.len();
            return Framed::Incomplete { consumed: 0 };
        };
        let end = self.scanned + at;
        self.scanned = 0;
        let consumed = end + 1;
        let line = input.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if std::mem::take(&mut self.skipping) || line.len() > self.line_bytes_max {
            return Framed::TooLong { consumed };
        }
        Framed::Line { line, consumed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `chunks` as reads and collects each line, `None` for an overlong one.
    fn frame(chunks: &[&[u8]], limit: usize) -> Vec<Option<Vec<u8>>> {
        let mut framer = LineFramer::new(limit);
        let (mut buffer, mut lines) = (Vec::new(), Vec::new());
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            loop {
                match framer.next(&buffer) {
                    Framed::Line { line, consumed } => {
                        lines.push(Some(line.to_vec()));
                        buffer.drain(..consumed);
                    }
                    Framed::TooLong { consumed } => {
                        lines.push(None);
                        buffer.drain(..consumed);
                    }
                    Framed::Incomplete { consumed } => {
                        buffer.drain(..consumed);
                        assert!(buffer.len() <= limit + 1);
                        break;
                    }
                }
            }
        }
        lines
    }

    #[test]
    fn limit_holds_at_and_one_past() {
        assert_eq!(frame(&[b"abcd\r\n"], 4), vec![Some(b"abcd".to_vec())]);
        assert_eq!(frame(&[b"abcde\r\n", b"x\n"], 4), vec![None, Some(b"x".to_vec())]);
    }

    #[test]
    fn every_split_gives_the_same_lines() {
        let script = b"abcd\r\n\r\nabcdefghij\r\nab\rc\nabcde\r\nab";
        let whole = frame(&[script], 4);
        assert_eq!(whole.len(), 5);
        for i in 0..=script.len() {
            let (a, b) = script.split_at(i);
            assert_eq!(frame(&[a, b], 4), whole, "split at {i}");
        }
        let bytes: Vec<&[u8]> = script.chunks(1).collect();
        assert_eq!(frame(&bytes, 4), whole);
    }

    proptest! {
        #[test]
        fn any_split_of_any_bytes_agrees(
            script in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..80),
            at in 0usize..80,
        ) {
            let (a, b) = script.split_at(at.min(script.len()));
            prop_assert_eq!(frame(&[a, b], 6), frame(&[&script], 6));
        }
    }
}
