//! Text files of lines ended by LF: what is wrong with one, and numbers in it.

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{format}, line {line}: expected {expected}, found {found}")]
pub struct BadLine {
    /// Which format it should be.
    pub format: &'static str,
    /// Counted from 1.
    pub line: usize,
    /// What the format wants there.
    pub expected: &'static str,
    /// What is there, escaped; its beginning if it is long.
    pub found: String,
}

/// Bytes of a line that an error quotes.
const QUOTED_BYTES_MAX: usize = 80;

impl BadLine {
    pub(crate) fn new(
        format: &'static str,
        line: usize,
        expected: &'static str,
        found: &[u8],
    ) -> BadLine {
        let found = found.get(..QUOTED_BYTES_MAX).unwrap_or(found).escape_ascii().to_string();
        BadLine { format, line, expected, found }
    }
}

/// Lines with their numbers from 1, without LF; the last one may lack it.
pub(crate) fn numbered(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let none = bytes.is_empty();
    whole.split(|b| *b == b'\n').enumerate().filter(move |_| !none).map(|(i, l)| (i + 1, l))
}

/// Decimal digits and nothing else.
pub(crate) fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| all)?.parse().ok()
}

/// What is before and behind the first blank.
pub(crate) fn first_word(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|b| *b == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}
