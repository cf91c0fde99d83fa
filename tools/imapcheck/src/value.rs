//! Server responses as values (RFC 9051 section 9), and nothing about what they mean.

use std::fmt;

/// One element of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// An atom, a number, a flag, a set; with its brackets and what they hold, as `BODY[HEADER]`.
    Atom(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    /// `(…)`
    List(Vec<Value>),
}

impl Value {
    /// The text of an atom; strings have none.
    pub(crate) fn atom(&self) -> Option<&str> {
        match self {
            Value::Atom(text) => Some(text),
            Value::Text(_) | Value::List(_) => None,
        }
    }

    pub(crate) fn number(&self) -> Option<u64> {
        self.atom()?.parse().ok()
    }

    pub(crate) fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            Value::Atom(_) | Value::Text(_) => None,
        }
    }

    /// The bytes of a string, or of an atom in its place.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Atom(text) => Some(text.as_bytes()),
            Value::Text(bytes) => Some(bytes),
            Value::List(_) => None,
        }
    }

    pub(crate) fn is(&self, word: &str) -> bool {
        self.atom().is_some_and(|text| text.eq_ignore_ascii_case(word))
    }
}

/// OK, NO, BAD, BYE or PREAUTH, with its response code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Upper case.
    pub(crate) word: String,
    /// What `[…]` holds; empty without a code.
    pub(crate) code: Vec<Value>,
    pub(crate) text: String,
}

impl Condition {
    pub(crate) fn is_ok(&self) -> bool {
        self.word == "OK"
    }

    /// The code's arguments, if its name is `name`.
    pub(crate) fn code(&self, name: &str) -> Option<&[Value]> {
        let (first, rest) = self.code.split_first()?;
        first.is(name).then_some(rest)
    }
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Response {
    Continue,
    Tagged(String, Condition),
    /// `* OK …` and its like.
    Status(Condition),
    /// Everything else behind `* `.
    Data(Vec<Value>),
}

/// Why bytes are no response.
#[derive(Debug)]
pub(crate) struct Malformed {
    at: usize,
    expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.at)
    }
}

/// Reads a response that ends with CRLF, literals included.
pub(crate) fn parse(bytes: &[u8]) -> Result<Response, Malformed> {
    let Some(bytes) = bytes.strip_suffix(b"\r\n") else {
        return Err(Malformed { at: bytes.len(), expected: "CRLF" });
    };
    let mut reader = Reader { bytes, at: 0 };
    let first = reader.word()?;
    match first.as_str() {
        "+" => return Ok(Response::Continue),
        "*" => {}
        _ => {
            reader.space()?;
            let word = reader.word()?;
            return Ok(Response::Tagged(first, reader.condition(word)?));
        }
    }
    reader.space()?;
    let start = reader.at;
    let word = reader.word()?;
    if ["OK", "NO", "BAD", "BYE", "PREAUTH"].iter().any(|w| word.eq_ignore_ascii_case(w)) {
        return Ok(Response::Status(reader.condition(word)?));
    }
    reader.at = start;
    let mut values = Vec::new();
    while !reader.ended() {
        if !values.is_empty() {
            reader.space()?;
        }
        // A space at the end is seen in the wild (SEARCH without results).
        if !reader.ended() {
            values.push(reader.value()?);
        }
    }
    Ok(Response::Data(values))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn ended(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong<T>(&self, expected: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, expected })
    }

    fn space(&mut self) -> Result<(), Malformed> {
        if self.peek() != Some(b' ') {
            return self.wrong("a space");
        }
        self.at += 1;
        Ok(())
    }

    /// Up to the next space, or the end.
    fn word(&mut self) -> Result<String, Malformed> {
        let start = self.at;
        while self.peek().is_some_and(|b| b != b' ') {
            self.at += 1;
        }
        if start == self.at {
            return self.wrong("a word");
        }
        Ok(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned())
    }

    fn condition(&mut self, word: String) -> Result<Condition, Malformed> {
        let mut code = Vec::new();
        if !self.ended() {
            self.space()?;
        }
        if self.peek() == Some(b'[') {
            self.at += 1;
            while self.peek() != Some(b']') {
                if !code.is_empty() {
                    self.space()?;
                }
                if self.ended() {
                    return self.wrong("] behind a response code");
                }
                code.push(self.value_until(b']')?);
            }
            self.at += 1;
        }
        let text = String::from_utf8_lossy(&self.bytes[self.at..]).trim().to_owned();
        self.at = self.bytes.len();
        Ok(Condition { word: word.to_ascii_uppercase(), code, text })
    }

    fn value(&mut self) -> Result<Value, Malformed> {
        self.value_until(b')')
    }

    fn value_until(&mut self, end: u8) -> Result<Value, Malformed> {
        match self.peek() {
            Some(b'(') => self.list(),
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal(),
            Some(b'~') if self.bytes.get(self.at + 1) == Some(&b'{') => {
                self.at += 1;
                self.literal()
            }
            Some(_) => self.bare(end),
            None => self.wrong("a value"),
        }
    }

    fn list(&mut self) -> Result<Value, Malformed> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            match self.peek() {
                Some(b')') => {
                    self.at += 1;
                    return Ok(Value::List(items));
                }
                // Lists of addresses and of body parts have no spaces between them.
                Some(b' ') if !items.is_empty() => self.at += 1,
                Some(_) => items.push(self.value()?),
                None => return self.wrong(")"),
            }
        }
    }

    fn quoted(&mut self) -> Result<Value, Malformed> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Value::Text(out));
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b @ (b'"' | b'\\')) => out.push(b),
                        _ => return self.wrong("\\ or \" behind \\"),
                    }
                }
                Some(b'\r' | b'\n') | None => return self.wrong("\" at a string's end"),
                Some(b) => out.push(b),
            }
            self.at += 1;
        }
    }

    fn literal(&mut self) -> Result<Value, Malformed> {
        let rest = &self.bytes[self.at..];
        let Some(end) = memchr::memchr(b'\n', rest) else { return self.wrong("a literal") };
        let Some(size) = literal_size(&rest[..=end]) else { return self.wrong("a literal's size") };
        let start = self.at + end + 1;
        let Some(bytes) = start.checked_add(size).and_then(|end| self.bytes.get(start..end)) else {
            return self.wrong("a whole literal");
        };
        self.at = start + size;
        Ok(Value::Text(bytes.to_vec()))
    }

    fn bare(&mut self, end: u8) -> Result<Value, Malformed> {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(b) = self.peek() {
            match b {
                b'[' => depth += 1,
                b']' if depth > 0 => depth -= 1,
                b' ' | b'(' | b')' if depth == 0 => break,
                _ if b == end && depth == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        if start == self.at {
            return self.wrong("an atom");
        }
        Ok(Value::Atom(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned()))
    }
}

/// The size of the literal that a line ends with the announcement of.
pub(crate) fn literal_size(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"\r\n")?.strip_suffix(b"}")?;
    let open = memchr::memrchr(b'{', line)?;
    std::str::from_utf8(&line[open + 1..]).ok()?.parse().ok()
}

/// The numbers of a sequence set without `*`, in ascending order within each range.
pub(crate) fn numbers(set: &str) -> Option<Vec<u32>> {
    let mut out = Vec::new();
    for part in set.split(',') {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        out.extend(first.min(last)..=first.max(last));
    }
    Some(out)
}

/// A sequence set of ascending numbers, with ranges.
pub(crate) fn set(numbers: &[u32]) -> String {
    let mut out = String::new();
    let mut rest = numbers;
    while let Some(&first) = rest.first() {
        let run = rest.iter().zip(first..).take_while(|(a, b)| **a == *b).count();
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&first.to_string());
        if run > 1 {
            out.push_str(&format!(":{}", rest[run - 1]));
        }
        rest = &rest[run..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetch_with_literal_and_section() {
        let bytes =
            b"* 3 FETCH (UID 9 FLAGS (\\Seen k1) BODY[HEADER.FIELDS (X Y)] {4}\r\na(b\n)\r\n";
        let Ok(Response::Data(values)) = parse(bytes) else { panic!("no data") };
        assert_eq!(values[0].number(), Some(3));
        let items = values[2].list().unwrap();
        assert_eq!(items[3].list().unwrap()[1], Value::Atom("k1".into()));
        assert_eq!(items[4], Value::Atom("BODY[HEADER.FIELDS (X Y)]".into()));
        assert_eq!(items[5], Value::Text(b"a(b\n".to_vec()));
    }

    #[test]
    fn conditions_have_codes() {
        let Ok(Response::Tagged(tag, condition)) = parse(b"a1 OK [COPYUID 1 2:3 4,6] Done\r\n")
        else {
            panic!("not tagged")
        };
        assert_eq!((tag.as_str(), condition.text.as_str()), ("a1", "Done"));
        let arguments = condition.code("copyuid").unwrap();
        assert_eq!(numbers(arguments[2].atom().unwrap()), Some(vec![4, 6]));
        let Ok(Response::Status(flags)) = parse(b"* OK [PERMANENTFLAGS (\\Seen \\*)] Limited\r\n")
        else {
            panic!("no status")
        };
        assert!(flags.code("PERMANENTFLAGS").is_some());
    }

    #[test]
    fn broken_ones_are_told() {
        for bytes in [
            &b"* 1 FETCH (UID 3"[..],
            b"* 1 FETCH (UID 3\r\n",
            b"* OK [UIDNEXT 3\r\n",
            b"* X \"a\r\n",
            b"* X {9}\r\nabc\r\n",
            b"\r\n",
            b"a1\r\n",
        ] {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn sets_come_back() {
        for numbers_in in [vec![1], vec![1, 2, 3, 7, 9, 10], vec![5, 8]] {
            assert_eq!(numbers(&set(&numbers_in)), Some(numbers_in));
        }
        assert_eq!(set(&[1, 2, 3, 7, 9, 10]), "1:3,7,9:10");
    }
}
