//! RFC 5322 address lists, with the obsolete and broken forms that mail in the wild has.
//!
//! Text comes out as raw bytes: quotes and escapes are gone, encoded words and 8-bit bytes stay.

use super::lexer::Cursor;

/// Addresses read from one field; the rest is ignored. Keeps the envelope of a hostile header
/// from growing to many times the header's size.
pub const ADDRESSES_MAX: usize = 10_000;

/// One item of an address list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// A mailbox.
    Mailbox {
        /// Display name, or the last comment when there is no display name.
        name: Option<&'a [u8]>,
        /// Obsolete source route, `@a,@b`.
        route: Option<&'a [u8]>,
        /// Left of the `@`.
        local: &'a [u8],
        /// Right of the `@`; `None` when there is none.
        domain: Option<&'a [u8]>,
    },
    /// `name:`
    GroupStart(&'a [u8]),
    /// `;`, or the end of the value inside a group.
    GroupEnd,
}

/// Reads an address list and calls `each` with its items in order.
pub fn parse(value: &[u8], mut each: impl FnMut(Address<'_>)) {
    let mut reader = Reader::new();
    let mut cursor = Cursor::new(value);
    let mut in_group = false;
    for _ in 0..ADDRESSES_MAX {
        reader.clear();
        reader.words(&mut cursor);
        match cursor.peek() {
            Some(b':') => {
                cursor.bump();
                // A second colon inside a group is garbage, not a nested group.
                if !in_group {
                    in_group = true;
                    each(Address::GroupStart(&reader.phrase));
                }
                continue;
            }
            Some(b'@') => {
                cursor.bump();
                reader.domain(&mut cursor);
                if cursor.peek() == Some(b'<') {
                    reader.address_was_name();
                    reader.angle(&mut cursor);
                }
            }
            Some(b'<') => reader.angle(&mut cursor),
            _ => {}
        }
        reader.skip_to_separator(&mut cursor);
        reader.emit(&mut each);
        match cursor.peek() {
            Some(b';') => {
                cursor.bump();
                if std::mem::take(&mut in_group) {
                    each(Address::GroupEnd);
                }
            }
            Some(_) => cursor.bump(),
            None => break,
        }
    }
    if in_group {
        each(Address::GroupEnd);
    }
}

/// Bytes of a name or a part of an address for which a buffer has to grow no further.
const USUAL_BYTES: usize = 32;

/// Buffers for the address being read; reused from one to the next.
struct Reader {
    /// Words with one space where blanks stood between them.
    phrase: Vec<u8>,
    /// Words without the blanks: the local part of `a . b@c`.
    joined: Vec<u8>,
    comment: Vec<u8>,
    route: Vec<u8>,
    local: Vec<u8>,
    host: Vec<u8>,
    has_host: bool,
    has_angle: bool,
}

impl Reader {
    fn new() -> Reader {
        let usual = || Vec::with_capacity(USUAL_BYTES);
        Reader {
            phrase: usual(),
            joined: usual(),
            // Most addresses have neither.
            comment: Vec::new(),
            route: Vec::new(),
            // This one comes from `joined`.
            local: Vec::new(),
            host: usual(),
            has_host: false,
            has_angle: false,
        }
    }

    fn clear(&mut self) {
        for buffer in [
            &mut self.phrase,
            &mut self.joined,
            &mut self.comment,
            &mut self.route,
            &mut self.local,
            &mut self.host,
        ] {
            buffer.clear();
        }
        self.has_host = false;
        self.has_angle = false;
    }

    /// Reads words up to one of `, ; : < > @` or the end.
    fn words(&mut self, cursor: &mut Cursor<'_>) {
        loop {
            let blank = cursor.skip_blanks(&mut self.comment);
            match cursor.peek() {
                None | Some(b',' | b';' | b':' | b'<' | b'>' | b'@') => return,
                Some(b) => {
                    if blank && !self.phrase.is_empty() {
                        self.phrase.push(b' ');
                    }
                    let from = self.phrase.len();
                    if b == b'"' {
                        cursor.quoted_string(&mut self.phrase);
                    } else {
                        self.phrase.extend_from_slice(cursor.take_until(ends_atom));
                    }
                    self.joined.extend_from_slice(&self.phrase[from..]);
                }
            }
        }
    }

    /// Reads a domain, the `@` being behind us.
    fn domain(&mut self, cursor: &mut Cursor<'_>) {
        self.has_host = true;
        loop {
            cursor.skip_blanks(&mut self.comment);
            match cursor.peek() {
                None | Some(b',' | b';' | b'<' | b'>') => return,
                Some(b'[') => {
                    self.host.extend_from_slice(cursor.take_until(|b| b == b']'));
                    if cursor.eat(b']') {
                        self.host.push(b']');
                    }
                }
                Some(b'"') => cursor.quoted_string(&mut self.host),
                Some(b'@' | b':') => {
                    self.host.extend(cursor.peek());
                    cursor.bump();
                }
                Some(_) => self.host.extend_from_slice(cursor.take_until(ends_atom)),
            }
        }
    }

    /// `a@b <c@d>`: what looked like an address was a display name without quotes.
    fn address_was_name(&mut self) {
        self.phrase.push(b'@');
        self.phrase.append(&mut self.host);
        self.has_host = false;
    }

    /// Reads `<route:local@domain>`.
    fn angle(&mut self, cursor: &mut Cursor<'_>) {
        cursor.bump();
        self.has_angle = true;
        cursor.skip_blanks(&mut self.comment);
        if cursor.peek() == Some(b'@') {
            let blank = |b: &u8| !b" \t\r\n".contains(b);
            let route = cursor.take_until(|b| matches!(b, b':' | b'>'));
            self.route.extend(route.iter().copied().filter(blank));
            if !cursor.eat(b':') {
                return;
            }
        }
        // Words go behind the name too, where nobody wants them.
        let name_bytes = self.phrase.len();
        self.joined.clear();
        self.words(cursor);
        std::mem::swap(&mut self.local, &mut self.joined);
        self.phrase.truncate(name_bytes);
        if cursor.eat(b'@') {
            self.domain(cursor);
        }
        if !cursor.eat(b'>') {
            cursor.take_until(|b| matches!(b, b',' | b';' | b'>'));
            cursor.eat(b'>');
        }
    }

    /// Skips what can't be understood up to the next `,` or `;`, keeping a trailing comment.
    fn skip_to_separator(&mut self, cursor: &mut Cursor<'_>) {
        loop {
            cursor.skip_blanks(&mut self.comment);
            match cursor.peek() {
                None | Some(b',' | b';') => return,
                Some(b'"') => cursor.quoted_string(&mut Vec::new()),
                Some(_) => cursor.bump(),
            }
        }
    }

    fn emit(&self, each: &mut impl FnMut(Address<'_>)) {
        let some = |bytes: &'_ [u8]| !bytes.is_empty();
        let (local, name) = if self.has_angle {
            (&self.local, &self.phrase)
        } else if self.has_host {
            (&self.joined, &self.comment)
        } else {
            (&self.phrase, &self.comment)
        };
        if !some(local) && !some(&self.host) && (!self.has_angle || !some(name)) {
            return;
        }
        let name = if some(name) { name } else { &self.comment };
        each(Address::Mailbox {
            name: some(name).then_some(name),
            route: some(&self.route).then_some(&self.route),
            local,
            domain: self.has_host.then_some(&self.host),
        });
    }
}

fn ends_atom(b: u8) -> bool {
    matches!(
        b,
        b' ' | b'\t' | b'\r' | b'\n' | b'(' | b',' | b';' | b':' | b'<' | b'>' | b'@' | b'"'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Vec<String> {
        let mut out = Vec::new();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let maybe = |b: Option<&[u8]>| b.map_or("-".to_owned(), text);
        parse(value.as_bytes(), |a| {
            out.push(match a {
                Address::Mailbox { name, route, local, domain } => {
                    format!("{}|{}|{}|{}", maybe(name), maybe(route), text(local), maybe(domain))
                }
                Address::GroupStart(name) => format!("{}:", text(name)),
                Address::GroupEnd => ";".to_owned(),
            });
        });
        out
    }

    #[test]
    fn common_forms() {
        assert_eq!(
            read("John Doe <john@x.org>, \"D, J\" <j.d@x>,\r\n\ta@b (Al (\\) B))"),
            ["John Doe|-|john|x.org", "D, J|-|j.d|x", "Al () B)|-|a|b"]
        );
        assert_eq!(read("<@a,@b:c@d>"), ["-|@a,@b|c|d"]);
        assert_eq!(
            read("\"john q\"@x, a . b @ c . d, u@[127.0.0.1]"),
            ["-|-|john q|x", "-|-|a.b|c.d", "-|-|u|[127.0.0.1]"]
        );
    }

    #[test]
    fn groups() {
        assert_eq!(read("undisclosed-recipients:;"), ["undisclosed-recipients:", ";"]);
        assert_eq!(
            read("A Group: a@b, c <d@e>; f@g"),
            ["A Group:", "-|-|a|b", "c|-|d|e", ";", "-|-|f|g"]
        );
        assert_eq!(read("open: a@b"), ["open:", "-|-|a|b", ";"]);
    }

    #[test]
    fn broken_forms() {
        assert_eq!(read("root"), ["-|-|root|-"]);
        assert_eq!(read("John Doe"), ["-|-|John Doe|-"]);
        assert_eq!(read("a@b <c@d>"), ["a@b|-|c|d"]);
        assert_eq!(read("Name <>"), ["Name|-||-"]);
        assert_eq!(read("<>, ,;"), Vec::<String>::new());
        assert_eq!(read("x <y@z"), ["x|-|y|z"]);
        assert_eq!(read("\"open <y@z>"), ["-|-|open <y@z>|-"]);
        assert_eq!(read(">a@b"), Vec::<String>::new());
        assert_eq!(read("a@b@c"), ["-|-|a|b@c"]);
    }

    #[test]
    fn a_list_longer_than_the_limit_is_cut() {
        assert_eq!(read(&"a,".repeat(ADDRESSES_MAX + 1)).len(), ADDRESSES_MAX);
    }
}
