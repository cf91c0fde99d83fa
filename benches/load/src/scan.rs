//! A tolerant reader of IMAP responses that understands only what a load generator needs.
//!
//! Pure functions over slices: what a response's first line says, whether a line ends in a literal
//! announcement. Everything else in a response is counted, not parsed.

use memchr::memmem::Finder;

/// The status of a tagged or untagged status response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    No,
    Bad,
}

/// What the first line of a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `+ …`
    Continue,
    /// Our tags are numbers with a letter before them.
    Tagged {
        tag: u32,
        status: Status,
    },
    /// `* OK`, `* NO`, `* BAD`, `* PREAUTH`
    Status(Status),
    Bye,
    Exists(u32),
    Expunge(u32),
    /// Sequence number.
    Fetch(u32),
    /// How many numbers followed: SEARCH, SORT, THREAD.
    Search(u32),
    Other,
}

/// One whole response, literals included.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) kind: Kind,
    /// The first line, kept only where somebody wants to read it (not for FETCH and SEARCH).
    pub(crate) text: String,
    pub(crate) literals: u32,
    pub(crate) literal_bytes: u64,
    /// Everything the response took on the wire.
    pub(crate) octets: u64,
    /// Bit n: word n of the `Words` that were looked for was seen outside literals.
    pub(crate) found: u32,
    /// The number after the last `word` of `Words::number_after`, if any.
    pub(crate) number: Option<u64>,
}

/// Item names that each response is searched for, as a check on what the server sent.
#[derive(Debug, Default)]
pub(crate) struct Words {
    finders: Vec<Finder<'static>>,
    number_after: Option<Finder<'static>>,
}

impl Words {
    pub(crate) fn new(words: &[&'static str]) -> Self {
        Self { finders: words.iter().map(|word| Finder::new(*word)).collect(), number_after: None }
    }

    /// Also read the number that follows `word`, for example `RFC822.SIZE `.
    pub(crate) fn number_after(word: &'static str) -> Self {
        Self { finders: Vec::new(), number_after: Some(Finder::new(word)) }
    }

    /// The value of `Response::found` when every word was seen.
    pub(crate) fn all(&self) -> u32 {
        (1u32 << self.finders.len()) - 1
    }

    pub(crate) fn find(&self, line: &[u8], response: &mut Response) {
        for (bit, finder) in self.finders.iter().enumerate() {
            if response.found & (1 << bit) == 0 && finder.find(line).is_some() {
                response.found |= 1 << bit;
            }
        }
        if let Some(finder) = &self.number_after
            && let Some(at) = finder.find(line)
        {
            let rest = &line[at + finder.needle().len()..];
            response.number = number(rest).map(|(value, _)| value);
        }
    }
}

impl Response {
    pub(crate) fn from_first_line(line: &[u8]) -> Self {
        let kind = Kind::parse(line);
        let text = match kind {
            Kind::Fetch(_) | Kind::Search(_) => String::new(),
            _ => String::from_utf8_lossy(line).trim_end().to_owned(),
        };
        Self { kind, text, literals: 0, literal_bytes: 0, octets: 0, found: 0, number: None }
    }
}

impl Kind {
    pub(crate) fn parse(line: &[u8]) -> Self {
        if line.first() == Some(&b'+') {
            return Self::Continue;
        }
        let Some(rest) = line.strip_prefix(b"* ") else { return Self::parse_tagged(line) };
        if let Some((value, rest)) = number(rest) {
            let value = u32::try_from(value).unwrap_or(u32::MAX);
            return match word(rest.trim_ascii_start()) {
                b"EXISTS" => Self::Exists(value),
                b"EXPUNGE" => Self::Expunge(value),
                b"FETCH" => Self::Fetch(value),
                _ => Self::Other,
            };
        }
        match word(rest) {
            b"OK" | b"PREAUTH" => Self::Status(Status::Ok),
            b"NO" => Self::Status(Status::No),
            b"BAD" => Self::Status(Status::Bad),
            b"BYE" => Self::Bye,
            b"SEARCH" | b"SORT" => Self::Search(count_numbers(rest)),
            b"THREAD" => Self::Search(count_members(rest)),
            _ => Self::Other,
        }
    }

    fn parse_tagged(line: &[u8]) -> Self {
        let Some(rest) = line.strip_prefix(b"a") else { return Self::Other };
        let Some((tag, rest)) = number(rest) else { return Self::Other };
        let status = match word(rest.trim_ascii_start()) {
            b"OK" => Status::Ok,
            b"NO" => Status::No,
            b"BAD" => Status::Bad,
            _ => return Self::Other,
        };
        Self::Tagged { tag: u32::try_from(tag).unwrap_or(u32::MAX), status }
    }

    /// Human text ends such a line, so `{5}` at its end announces nothing.
    pub(crate) fn ends_in_text(&self) -> bool {
        matches!(self, Self::Continue | Self::Tagged { .. } | Self::Status(_) | Self::Bye)
    }
}

/// The size of the literal that the line (with its line end) announces.
pub(crate) fn literal_size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\n")?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let inner = line.strip_suffix(b"}")?;
    let inner = inner.strip_suffix(b"+").unwrap_or(inner);
    let digits = inner.len() - inner.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == inner.len() || inner[..digits].last() != Some(&b'{') {
        return None;
    }
    number(&inner[digits..]).map(|(value, _)| value)
}

/// Reads decimal digits; none, or a number past 64 bits, is no number.
pub(crate) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (mut value, mut digits) = (0u64, 0);
    while let Some(digit) = bytes.get(digits).filter(|byte| byte.is_ascii_digit()) {
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        digits += 1;
    }
    (digits > 0).then(|| (value, &bytes[digits..]))
}

fn word(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(bytes.len());
    &bytes[..end]
}

/// `SEARCH 1 2 3 (MODSEQ 9)`: the numbers before the parenthesis.
fn count_numbers(bytes: &[u8]) -> u32 {
    let end = memchr::memchr(b'(', bytes).unwrap_or(bytes.len());
    let numbers = bytes[..end].split(|&byte| byte == b' ').skip(1);
    let count = numbers.filter(|part| part.first().is_some_and(u8::is_ascii_digit)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The numbers in nested parentheses.
fn count_members(bytes: &[u8]) -> u32 {
    let runs = bytes.split(|byte| !byte.is_ascii_digit()).filter(|run| !run.is_empty());
    u32::try_from(runs.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_threads_are_counted() {
        let line = b"* THREAD (2)(3 6 (4 23)(44 7 96))\r\n";
        assert_eq!(Kind::parse(line), Kind::Search(8));
        assert_eq!(Kind::parse(b"* SORT 5 3\r\n"), Kind::Search(2));
    }

    #[test]
    fn literals_are_announced_at_line_ends_only() {
        assert_eq!(literal_size(b"* 1 FETCH (BODY[] {310}\r\n"), Some(310));
        assert_eq!(literal_size(b"BINARY[] ~{7}\r\n"), Some(7));
        assert_eq!(literal_size(b"{7+}\n"), Some(7));
        assert_eq!(literal_size(b"{}\r\n"), None);
        assert_eq!(literal_size(b"x 12}\r\n"), None);
        assert_eq!(literal_size(b"{310} \r\n"), None);
        assert_eq!(literal_size(b"{99999999999999999999999}\r\n"), None);
    }

    #[test]
    fn first_lines_are_told_apart() {
        assert_eq!(Kind::parse(b"+ idling\r\n"), Kind::Continue);
        assert_eq!(Kind::parse(b"* 23 EXISTS\r\n"), Kind::Exists(23));
        assert_eq!(Kind::parse(b"* 5 FETCH (UID 5 FLAGS ())\r\n"), Kind::Fetch(5));
        assert_eq!(Kind::parse(b"* SEARCH\r\n"), Kind::Search(0));
        assert_eq!(Kind::parse(b"* SEARCH 2 4 9 (MODSEQ 77)\r\n"), Kind::Search(3));
        assert_eq!(
            Kind::parse(b"a12 NO [ALERT] x\r\n"),
            Kind::Tagged { tag: 12, status: Status::No }
        );
        assert_eq!(Kind::parse(b"* BYE bye {5}\r\n"), Kind::Bye);
        assert!(Kind::parse(b"* OK done {5}\r\n").ends_in_text());
        assert_eq!(Kind::parse(b"\r\n"), Kind::Other);
    }

    #[test]
    fn words_are_found_across_segments() {
        let words = Words::new(&["ENVELOPE ", "BODYSTRUCTURE "]);
        let mut response = Response::from_first_line(b"* 1 FETCH (ENVELOPE (NIL {3}\r\n");
        words.find(b"* 1 FETCH (ENVELOPE (NIL {3}\r\n", &mut response);
        assert_ne!(response.found, words.all());
        words.find(b" NIL) BODYSTRUCTURE (NIL))\r\n", &mut response);
        assert_eq!(response.found, words.all());
    }

    #[test]
    fn number_after_a_word() {
        let words = Words::number_after("RFC822.SIZE ");
        let mut response = Response::from_first_line(b"* 1 FETCH (RFC822.SIZE 4711)\r\n");
        words.find(b"* 1 FETCH (RFC822.SIZE 4711)\r\n", &mut response);
        assert_eq!(response.number, Some(4711));
    }
}
