//! `maildirsize` in a user's main Maildir: a quota, and usage as a sum of deltas. Maildir++'s own;
//! Courier, Dovecot, maildrop and `deliverquota` read and append to the same file without a lock.
//!
//! Line 1 is the definition, `1000000S,500C`; every other line is a delta of octets and messages.

use crate::lines::{BadLine, numbered};

const FORMAT: &str = "maildirsize";

/// A file of this many bytes or more is to be calculated anew.
pub const FILE_BYTES_MAX: usize = 5120;

/// What a user may have; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// Octets as stored.
    pub bytes: Option<u64>,
    /// Messages.
    pub messages: Option<u64>,
}

/// The whole file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maildirsize {
    /// Line 1.
    pub definition: Definition,
    /// Sum of the octets.
    pub bytes: i64,
    /// Sum of the messages.
    pub messages: i64,
    /// Lines of deltas.
    pub lines: usize,
}

impl Definition {
    /// Reads `<n>S` and `<n>C` with commas between; 0 is no limit, other letters are passed over.
    ///
    /// # Errors
    /// A term that is no number and a letter.
    pub fn read(line: &[u8]) -> Result<Definition, BadLine> {
        let mut definition = Definition::default();
        for term in line.split(|b| *b == b',').filter(|term| !term.is_empty()) {
            let (letter, digits) = match term.split_last() {
                Some((letter, digits)) if letter.is_ascii_alphabetic() => (*letter, digits),
                _ => return Err(BadLine::new(FORMAT, 1, "numbers with S or C", line)),
            };
            let n: u64 = crate::lines::number(digits)
                .ok_or_else(|| BadLine::new(FORMAT, 1, "numbers with S or C", line))?;
            match letter {
                b'S' => definition.bytes = Some(n).filter(|n| *n > 0),
                b'C' => definition.messages = Some(n).filter(|n| *n > 0),
                _ => {}
            }
        }
        Ok(definition)
    }

    /// As line 1 has it, without LF; nothing where there is no limit.
    pub fn write(&self) -> String {
        let terms = [self.bytes.map(|n| format!("{n}S")), self.messages.map(|n| format!("{n}C"))];
        terms.into_iter().flatten().collect::<Vec<_>>().join(",")
    }
}

impl Maildirsize {
    /// Reads the whole file.
    ///
    /// # Errors
    /// A line that is no two numbers, sums past 63 bits: the file is to be calculated anew.
    pub fn read(bytes: &[u8]) -> Result<Maildirsize, BadLine> {
        let mut lines = numbered(bytes);
        let first = lines.next().map_or(&[][..], |(_, line)| line);
        let mut out = Maildirsize { definition: Definition::read(first)?, ..Default::default() };
        for (at, line) in lines {
            let bad = || BadLine::new(FORMAT, at, "octets and messages", line);
            let text = std::str::from_utf8(line).map_err(|_| bad())?;
            let mut words = text.split_ascii_whitespace();
            let mut next = || words.next().and_then(|word| word.parse::<i64>().ok());
            let (Some(octets), Some(count)) = (next(), next()) else { return Err(bad()) };
            out.bytes = out.bytes.checked_add(octets).ok_or_else(bad)?;
            out.messages = out.messages.checked_add(count).ok_or_else(bad)?;
            out.lines += 1;
        }
        Ok(out)
    }

    /// A file that was just calculated: the definition and one line.
    pub fn write(&self) -> Vec<u8> {
        let head = format!("{}\n", self.definition.write());
        [head.into_bytes(), delta(self.bytes, self.messages)].concat()
    }
}

/// A line of a delta with its LF, as Courier pads it.
pub fn delta(bytes: i64, messages: i64) -> Vec<u8> {
    format!("{bytes:12} {messages:12}\n").into_bytes()
}
