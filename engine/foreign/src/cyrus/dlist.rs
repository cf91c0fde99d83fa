//! dlist: atoms, quoted strings, literals, `NIL`, lists `( … )` and key-value lists `%( key value … )`.

use super::Damage;

const FORMAT: &str = "dlist";
/// Lists within lists at most.
const DEPTH_MAX: usize = 32;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `NIL`.
    Nil,
    /// An atom, quoted string or literal.
    Text(Vec<u8>),
    /// `( … )`.
    List(Vec<Value>),
    /// `%( … )`: keys with their values, in the file's order.
    Map(Vec<(Vec<u8>, Value)>),
}

impl Value {
    /// The bytes of a text.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A text that is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A decimal number.
    pub fn number(&self) -> Option<u64> {
        self.text()?.parse().ok()
    }

    /// The members of a list.
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(members) => Some(members),
            _ => None,
        }
    }

    /// Keys and values of a key-value list.
    pub fn map(&self) -> Option<&[(Vec<u8>, Value)]> {
        match self {
            Value::Map(members) => Some(members),
            _ => None,
        }
    }

    /// The value of a key in a key-value list.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.map()?.iter().find(|(k, _)| k == key.as_bytes()).map(|(_, value)| value)
    }

    /// A text, as a shorthand for writers.
    pub fn from_text(text: impl Into<Vec<u8>>) -> Value {
        Value::Text(text.into())
    }

    /// A number, likewise.
    pub fn from_number(number: u64) -> Value {
        Value::Text(number.to_string().into_bytes())
    }
}

/// Reads one value; only white space may follow.
///
/// # Errors
/// What is no dlist, or is nested deeper than anything that Cyrus writes.
pub fn read(bytes: &[u8]) -> Result<Value, Damage> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(0)?;
    match reader.bytes.get(reader.at..) {
        Some(rest) if !rest.iter().all(u8::is_ascii_whitespace) => {
            Err(reader.wrong("the end of the value"))
        }
        _ => Ok(value),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, expected: &'static str) -> Damage {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let found = rest.get(..24).unwrap_or(rest).escape_ascii().to_string();
        Damage::new(
            FORMAT,
            self.at,
            expected,
            if found.is_empty() { "the end".into() } else { found },
        )
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Damage> {
        if depth > DEPTH_MAX {
            return Err(self.wrong("fewer lists within lists"));
        }
        self.skip_blanks();
        match self.peek() {
            Some(b'(') => {
                self.at += 1;
                let mut members = Vec::new();
                while !self.ends_here()? {
                    members.push(self.value(depth + 1)?);
                }
                Ok(Value::List(members))
            }
            Some(b'%') if self.bytes.get(self.at + 1) == Some(&b'(') => {
                self.at += 2;
                let mut members = Vec::new();
                while !self.ends_here()? {
                    let Value::Text(key) = self.value(DEPTH_MAX)? else {
                        return Err(self.wrong("a key"));
                    };
                    members.push((key, self.value(depth + 1)?));
                }
                Ok(Value::Map(members))
            }
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal(),
            _ => self.atom(),
        }
    }

    /// Whether a list ends here; its end is taken.
    fn ends_here(&mut self) -> Result<bool, Damage> {
        self.skip_blanks();
        match self.peek() {
            Some(b')') => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Ok(false),
            None => Err(self.wrong("a closing parenthesis")),
        }
    }

    fn quoted(&mut self) -> Result<Value, Damage> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let byte = self.peek().ok_or_else(|| self.wrong("a closing quote"))?;
            self.at += 1;
            match byte {
                b'"' => return Ok(Value::Text(text)),
                b'\\' => {
                    text.push(self.peek().ok_or_else(|| self.wrong("an escaped byte"))?);
                    self.at += 1;
                }
                other => text.push(other),
            }
        }
    }

    fn literal(&mut self) -> Result<Value, Damage> {
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let len = rest.get(..digits).and_then(|d| std::str::from_utf8(d).ok()?.parse().ok());
        let after = rest.get(digits..).unwrap_or_default();
        let mark = [&b"+}\r\n"[..], b"}\r\n"].into_iter().find(|mark| after.starts_with(mark));
        let (Some(len), Some(mark)) = (len, mark) else {
            return Err(self.wrong("a literal's length"));
        };
        let len: usize = len;
        let start = self.at + 1 + digits + mark.len();
        let end = start.checked_add(len).ok_or_else(|| self.wrong("a literal's length"))?;
        let text = self.bytes.get(start..end).ok_or_else(|| self.wrong("a whole literal"))?;
        let value = Value::Text(text.to_vec());
        self.at = end;
        Ok(value)
    }

    fn atom(&mut self) -> Result<Value, Damage> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let ends = |b: &u8| matches!(b, b' ' | b'(' | b')' | b'"' | b'\r' | b'\n');
        let len = rest.iter().position(ends).unwrap_or(rest.len());
        let atom = rest.get(..len).filter(|atom| !atom.is_empty());
        let atom = atom.ok_or_else(|| self.wrong("a value"))?.to_vec();
        self.at += len;
        Ok(if atom == b"NIL" { Value::Nil } else { Value::Text(atom) })
    }
}

/// Writes a value as Cyrus does: atoms where the bytes allow, else quoted strings or literals.
pub fn write(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, value);
    out
}

fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Nil => out.extend(b"NIL"),
        Value::Text(bytes) => put_text(out, bytes),
        Value::List(members) => {
            out.push(b'(');
            for (i, member) in members.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                put(out, member);
            }
            out.push(b')');
        }
        Value::Map(members) => {
            out.extend(b"%(");
            for (i, (key, value)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                put_text(out, key);
                out.push(b' ');
                put(out, value);
            }
            out.push(b')');
        }
    }
}

fn is_atom(bytes: &[u8]) -> bool {
    // 1F stands between the levels of names and is allowed; 1D, behind a domain, is not.
    let special = |b: &u8| matches!(b, b'(' | b')' | b'{' | b' ' | b'%' | b'*' | b'"' | b'\\');
    let control = |b: &u8| *b != 0x1f && (*b < 0x20 || *b >= 0x7f);
    !bytes.is_empty()
        && !bytes.eq_ignore_ascii_case(b"NIL")
        && !bytes.iter().any(|b| special(b) || control(b))
}

fn put_text(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_atom(bytes) {
        return out.extend(bytes);
    }
    let plain = |b: &u8| *b < 0x80 && !matches!(b, 0 | b'\r' | b'\n' | b'"' | b'%' | b'\\');
    if bytes.len() < 1024 && bytes.iter().all(plain) {
        out.push(b'"');
        out.extend(bytes);
        return out.push(b'"');
    }
    out.extend(format!("{{{}+}}\r\n", bytes.len()).bytes());
    out.extend(bytes);
}
