//! Responses of a server as values (RFC 9051 section 7 and 9): for Cursus as a client of servers
//! elsewhere, which may be old, odd or hostile.
//!
//! [`parse`] takes a whole response: its lines up to the CRLF that ends it, literals included.
//! Invariants: no input makes it panic; nesting is bounded by [`DEPTH_MAX`]; what it gives holds no
//! more bytes than the input. Where servers are known to differ from the grammar in ways that
//! leave no doubt (spaces at an end, a lone LF), they are understood.

use std::fmt;

/// Lists in lists, at most.
pub const DEPTH_MAX: usize = 32;

/// One element of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An atom, a number, a flag, a set; with its brackets and what they hold, as `BODY[HEADER]`.
    Atom(Vec<u8>),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    /// `(…)`
    List(Vec<Value>),
}

impl Value {
    /// The text of an atom; strings have none.
    pub fn atom(&self) -> Option<&str> {
        match self {
            Value::Atom(text) => std::str::from_utf8(text).ok(),
            Value::Text(_) | Value::List(_) => None,
        }
    }

    /// An atom that is a number.
    pub fn number(&self) -> Option<u64> {
        self.atom()?.parse().ok()
    }

    /// The elements of a list; NIL is an empty one.
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ if self.is("NIL") => Some(&[]),
            Value::Atom(_) | Value::Text(_) => None,
        }
    }

    /// The bytes of a string, or of an atom in its place; NIL has none.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Atom(_) if self.is("NIL") => None,
            Value::Atom(bytes) | Value::Text(bytes) => Some(bytes),
            Value::List(_) => None,
        }
    }

    /// Whether it is this atom, in any case.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Value::Atom(text) if text.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// How a command went, or what the server says unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Done.
    Ok,
    /// Not done.
    No,
    /// Not understood.
    Bad,
    /// The server closes.
    Bye,
    /// Greeting of a connection that is logged in already.
    Preauth,
}

/// OK, NO, BAD, BYE or PREAUTH, with its response code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which.
    pub word: Word,
    /// What `[…]` holds; empty without a code.
    pub code: Vec<Value>,
    /// The text for people.
    pub text: String,
}

impl Condition {
    /// The code's arguments, if its name is `name`.
    pub fn code(&self, name: &str) -> Option<&[Value]> {
        let (first, rest) = self.code.split_first()?;
        first.is(name).then_some(rest)
    }
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// `+ …`: the server waits for more of a command.
    Continue(String),
    /// The end of the command with this tag.
    Tagged(String, Condition),
    /// `* OK …` and its like.
    Status(Condition),
    /// Everything else behind `* `.
    Data(Vec<Value>),
}

/// Why bytes are no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Byte of the response.
    pub at: usize,
    /// What should be there.
    pub expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {} of a response", self.expected, self.at)
    }
}

impl std::error::Error for Malformed {}

/// Reads a whole response.
///
/// # Errors
/// [`Malformed`], with the place.
pub fn parse(bytes: &[u8]) -> Result<Response, Malformed> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let mut reader = Reader { bytes, at: 0 };
    if bytes.first() == Some(&b'+') {
        let text = bytes.get(1..).unwrap_or_default();
        return Ok(Response::Continue(lossy(text).trim_start().to_owned()));
    }
    let first = reader.word("a tag or *")?;
    let first = lossy(first);
    reader.space()?;
    let start = reader.at;
    let word = reader.word("a word");
    let condition = word.ok().and_then(condition_word);
    if first != "*" {
        let Some(word) = condition else {
            return Err(Malformed { at: start, expected: "OK, NO or BAD" });
        };
        return Ok(Response::Tagged(first, reader.condition(word)?));
    }
    if let Some(word) = condition {
        return Ok(Response::Status(reader.condition(word)?));
    }
    reader.at = start;
    reader.values(None, 0).map(Response::Data)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn condition_word(word: &[u8]) -> Option<Word> {
    let words = [
        ("OK", Word::Ok),
        ("NO", Word::No),
        ("BAD", Word::Bad),
        ("BYE", Word::Bye),
        ("PREAUTH", Word::Preauth),
    ];
    let same = |(name, _): &&(&str, Word)| word.eq_ignore_ascii_case(name.as_bytes());
    words.iter().find(same).map(|(_, word)| *word)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong<T>(&self, expected: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, expected })
    }

    /// Up to a space or the end; not empty.
    fn word(&mut self, expected: &'static str) -> Result<&'a [u8], Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|b| b" \r\n".contains(b)).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        if word.is_empty() {
            return self.wrong(expected);
        }
        self.at += length;
        Ok(word)
    }

    fn spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn space(&mut self) -> Result<(), Malformed> {
        if self.peek() != Some(b' ') {
            return self.wrong("a space");
        }
        self.spaces();
        Ok(())
    }

    /// Behind OK, NO, BAD, BYE or PREAUTH.
    fn condition(&mut self, word: Word) -> Result<Condition, Malformed> {
        self.spaces();
        let mut code = Vec::new();
        if self.peek() == Some(b'[') {
            let start = self.at;
            self.at += 1;
            match self.values(Some(b']'), 0) {
                Ok(values) => code = values,
                // Texts that begin with a bracket of their own.
                Err(_) => self.at = start,
            }
            self.spaces();
        }
        let text = lossy(self.bytes.get(self.at..).unwrap_or_default());
        Ok(Condition { word, code, text })
    }

    /// Values up to and with `end`, or up to the end of the response.
    fn values(&mut self, end: Option<u8>, depth: usize) -> Result<Vec<Value>, Malformed> {
        if depth > DEPTH_MAX {
            return self.wrong("lists that are nested less deep");
        }
        let mut values = Vec::new();
        loop {
            self.spaces();
            match (self.peek(), end) {
                (None, None) => return Ok(values),
                (None, Some(_)) => return self.wrong("the end of a list"),
                (Some(byte), Some(end)) if byte == end => {
                    self.at += 1;
                    return Ok(values);
                }
                (Some(_), _) => values.push(self.value(end, depth)?),
            }
        }
    }

    fn value(&mut self, end: Option<u8>, depth: usize) -> Result<Value, Malformed> {
        match self.peek() {
            Some(b'(') => {
                self.at += 1;
                Ok(Value::List(self.values(Some(b')'), depth + 1)?))
            }
            Some(b'"') => self.quoted().map(Value::Text),
            Some(b'{' | b'~') if self.literal_head().is_some() => self.literal().map(Value::Text),
            _ => self.atom(end).map(Value::Atom),
        }
    }

    fn quoted(&mut self) -> Result<Vec<u8>, Malformed> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.peek() {
                None => return self.wrong("a closing quote"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let Some(byte) = self.peek() else { return self.wrong("a quoted character") };
                    text.push(byte);
                }
                Some(byte) => text.push(byte),
            }
            self.at += 1;
        }
    }

    /// Length of the literal's head here, and of its bytes.
    fn literal_head(&self) -> Option<(usize, usize)> {
        let rest = self.bytes.get(self.at..)?;
        let plain = rest.strip_prefix(b"~").unwrap_or(rest);
        let digits = plain.strip_prefix(b"{")?;
        let length = digits.iter().position(|b| !b.is_ascii_digit())?;
        let count: usize = std::str::from_utf8(digits.get(..length)?).ok()?.parse().ok()?;
        let behind = digits.get(length..)?;
        let behind = behind.strip_prefix(b"+").unwrap_or(behind).strip_prefix(b"}")?;
        let behind = behind.strip_prefix(b"\r").unwrap_or(behind).strip_prefix(b"\n")?;
        Some((rest.len() - behind.len(), count))
    }

    fn literal(&mut self) -> Result<Vec<u8>, Malformed> {
        let Some((head, count)) = self.literal_head() else { return self.wrong("a literal") };
        let start = self.at + head;
        let bytes = start.checked_add(count).and_then(|end| self.bytes.get(start..end));
        let Some(bytes) = bytes else { return self.wrong("as many bytes as announced") };
        self.at = start + count;
        Ok(bytes.to_vec())
    }

    /// An atom with its `[…]`, in which there may be spaces, lists and strings.
    fn atom(&mut self, end: Option<u8>) -> Result<Vec<u8>, Malformed> {
        let start = self.at;
        let (mut brackets, mut quoted) = (0usize, false);
        while let Some(byte) = self.peek() {
            match byte {
                b'"' if brackets > 0 => quoted = !quoted,
                _ if quoted => {}
                b'[' => brackets += 1,
                b']' if brackets > 0 => brackets -= 1,
                _ if brackets > 0 => {}
                _ if Some(byte) == end => break,
                b' ' | b'(' | b')' | b'"' => break,
                _ => {}
            }
            self.at += 1;
        }
        match self.bytes.get(start..self.at) {
            Some(text) if !text.is_empty() => Ok(text.to_vec()),
            _ => self.wrong("a value"),
        }
    }
}

/// Reads `"17-Jul-1996 02:44:25 -0700"`, without the quotes, as Unix seconds.
pub fn date_time(text: &[u8]) -> Option<i64> {
    super::decode::date_time(text)
}

/// Reads a set of numbers such as `1:3,7` as ascending inclusive ranges; `None` for what is none.
/// More than `ranges_max` ranges are none.
pub fn ranges(text: &str, ranges_max: usize) -> Option<Vec<(u32, u32)>> {
    let mut found = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if found.len() == ranges_max {
            return None;
        }
        found.push((first.min(last), first.max(last)));
    }
    found.sort_unstable();
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    fn atom(value: &str) -> Value {
        Value::Atom(value.into())
    }

    #[test]
    fn responses_are_read_as_values() {
        let Ok(Response::Data(values)) =
            parse(b"* LIST (\\HasNoChildren \\Sent) \".\" INBOX.Sent\r\n")
        else {
            panic!("no data")
        };
        let attributes = Value::List(vec![atom("\\HasNoChildren"), atom("\\Sent")]);
        assert_eq!(values, [atom("LIST"), attributes, text("."), atom("INBOX.Sent")]);
        let raw =
            b"* 3 FETCH (UID 7 BODY[HEADER.FIELDS (\"X y\" A)]<0> {4}\r\na)\r\n FLAGS ())\r\n";
        let Ok(Response::Data(values)) = parse(raw) else { panic!("no data") };
        let items = values[2].list().unwrap();
        assert_eq!(items[2], atom("BODY[HEADER.FIELDS (\"X y\" A)]<0>"));
        assert_eq!((&items[3], items[5].list()), (&text("a)\r\n"), Some(&[][..])));
    }

    #[test]
    fn conditions_have_codes() {
        let Ok(Response::Tagged(tag, condition)) = parse(b"a1 OK [UIDVALIDITY 7] yes\r\n") else {
            panic!("not tagged")
        };
        assert_eq!(
            (tag.as_str(), condition.word, condition.text.as_str()),
            ("a1", Word::Ok, "yes")
        );
        assert_eq!(condition.code("uidvalidity"), Some(&[atom("7")][..]));
        let raw = b"* OK [PERMANENTFLAGS (\\Seen \\*)] x\r\n";
        let Ok(Response::Status(condition)) = parse(raw) else { panic!("no status") };
        assert_eq!(condition.code("PERMANENTFLAGS").unwrap()[0].list().unwrap().len(), 2);
        // A bracket that belongs to the text.
        let Ok(Response::Status(condition)) = parse(b"* BYE [oops\n") else { panic!("no status") };
        assert_eq!((condition.code.len(), condition.text.as_str()), (0, "[oops"));
        assert_eq!(parse(b"+\r\n"), Ok(Response::Continue(String::new())));
    }

    #[test]
    fn nesting_and_lengths_are_bounded() {
        let deep = [b"* X ".as_slice(), &[b'('; 100], b"\r\n"].concat();
        assert!(parse(&deep).is_err());
        assert!(parse(b"* 1 FETCH (BODY[] {5}\r\nabc").is_err());
        let huge = b"* 1 FETCH (BODY[] {99999999999999999999}\r\nabc)";
        assert!(parse(huge).is_ok_and(|r| matches!(r, Response::Data(_))));
        assert_eq!(ranges("5,1:3", 8), Some(vec![(1, 3), (5, 5)]));
        assert_eq!(ranges("5,1:3", 1), None);
        assert_eq!(ranges("1:*", 8), None);
    }

    #[test]
    fn dates_have_zones() {
        assert_eq!(date_time(b"17-Jul-1996 02:44:25 -0700"), Some(837_596_665));
        assert_eq!(date_time(b" 1-Jan-1970 00:00:01 +0000"), Some(1));
        assert_eq!(date_time(b"yesterday"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let star = [b"* ".as_slice(), &bytes].concat();
            if let Ok(Response::Data(values)) = parse(&star) {
                prop_assert!(values.len() <= bytes.len());
            }
        }

        #[test]
        fn no_syntax_makes_it_panic(text in "[*+a ]{1,2} ?[A-Z0-9(){}\\[\\]\"\\\\ ~\r\n]{0,60}") {
            let _ = parse(text.as_bytes());
        }
    }
}
