//! ENVELOPE, BODY and BODYSTRUCTURE as IMAP writes them (RFC 3501 section 7.4.2, RFC 9051 7.5.2).
//!
//! Invariants: output is valid for IMAP4rev1 and IMAP4rev2 clients whatever the message holds.
//! Strings are quoted when 7-bit, else literals; a NUL, which no string can hold, becomes `?`.

use super::address::{self, Address};
use super::continued;
use super::header::{Block, Field, trim, unfold};
use super::structure::{Kind, Part, Span, Structure};

/// Host of an address that has none. NIL would make the mailbox a group start (RFC 3501
/// section 7.4.2); clients know this word from other servers.
const MISSING_HOST: &[u8] = b"MISSING_DOMAIN";
/// Mailbox of an address that has none.
const MISSING_MAILBOX: &[u8] = b"MISSING_MAILBOX";

/// An octet that a quoted string has not as it is.
const ESCAPED: u8 = 1;
/// An octet that no quoted string has.
const UNQUOTABLE: u8 = 2;

/// What each octet asks of the string that it is in.
const ASKS: [u8; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = match octet as u8 {
            b'"' | b'\\' | 0 => ESCAPED,
            b'\r' | b'\n' | 0x80.. => UNQUOTABLE,
            _ => 0,
        };
        octet += 1;
    }
    table
};

/// Writes a `string`: quoted, or a literal when it has 8-bit bytes or line ends.
pub fn string(bytes: &[u8], out: &mut Vec<u8>) {
    let asked = bytes.iter().fold(0, |asked, &b| asked | ASKS[usize::from(b)]);
    out.reserve(bytes.len() + 2);
    if asked & UNQUOTABLE != 0 {
        out.push(b'{');
        number(bytes.len() as u64, out);
        out.extend_from_slice(b"}\r\n");
        out.extend(bytes.iter().map(|&b| if b == 0 { b'?' } else { b }));
        return;
    }
    out.push(b'"');
    if asked == 0 {
        out.extend_from_slice(bytes);
    } else {
        for &b in bytes {
            match b {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
                0 => out.push(b'?'),
                _ => out.push(b),
            }
        }
    }
    out.push(b'"');
}

/// Writes an `nstring`.
pub fn nstring(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => string(bytes, out),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// Writes a number in decimal.
pub fn number(mut n: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes the ENVELOPE of a header.
pub fn envelope(header: &Block, out: &mut Vec<u8>) {
    let text = |field: Field, out: &mut Vec<u8>| {
        nstring(header.value(field).map(unfold).as_deref(), out);
    };
    out.push(b'(');
    text(Field::Date, out);
    out.push(b' ');
    match header.value(Field::Subject).map(unfold) {
        Some(value) => for_display(&value, out),
        None => out.extend_from_slice(b"NIL"),
    }
    out.push(b' ');
    let from_start = out.len();
    addresses(header, Field::From, out);
    let from_end = out.len();
    for field in [Field::Sender, Field::ReplyTo] {
        out.push(b' ');
        let start = out.len();
        addresses(header, field, out);
        if &out[start..] == b"NIL" {
            out.truncate(start);
            out.extend_from_within(from_start..from_end);
        }
    }
    for field in [Field::To, Field::Cc, Field::Bcc] {
        out.push(b' ');
        addresses(header, field, out);
    }
    out.push(b' ');
    text(Field::InReplyTo, out);
    out.push(b' ');
    text(Field::MessageId, out);
    out.push(b')');
}

/// Writes text for people: the tabs that folding leaves behind as spaces, none at the ends.
fn for_display(text: &[u8], out: &mut Vec<u8>) {
    let text = trim(text);
    if text.contains(&b'\t') {
        let spaced: Vec<u8> = text.iter().map(|&b| if b == b'\t' { b' ' } else { b }).collect();
        string(&spaced, out);
    } else {
        string(text, out);
    }
}

/// Writes the addresses of every `field`, as one list, or NIL.
fn addresses(header: &Block, field: Field, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(b'(');
    for value in header.values(field) {
        address::parse(value, |item| write_address(item, out));
    }
    if out.len() == start + 1 {
        out.truncate(start);
        out.extend_from_slice(b"NIL");
    } else {
        out.push(b')');
    }
}

fn write_address(item: Address<'_>, out: &mut Vec<u8>) {
    match item {
        Address::Mailbox { name, route, local, domain } => {
            out.push(b'(');
            match name {
                Some(name) => for_display(name, out),
                None => out.extend_from_slice(b"NIL"),
            }
            out.push(b' ');
            nstring(route, out);
            out.push(b' ');
            string(if local.is_empty() { MISSING_MAILBOX } else { local }, out);
            out.push(b' ');
            string(domain.filter(|d| !d.is_empty()).unwrap_or(MISSING_HOST), out);
            out.push(b')');
        }
        Address::GroupStart(name) => {
            out.extend_from_slice(b"(NIL NIL ");
            string(name, out);
            out.extend_from_slice(b" NIL)");
        }
        Address::GroupEnd => out.extend_from_slice(b"(NIL NIL NIL NIL)"),
    }
}

impl Structure {
    /// The ENVELOPE value of the message.
    pub fn envelope(&self) -> &[u8] {
        self.parts.first().map_or(EMPTY_ENVELOPE, |part| self.envelope_of(part))
    }

    /// Writes the BODY value: BODYSTRUCTURE without extension data.
    pub fn write_body(&self, out: &mut Vec<u8>) {
        Writer { structure: self, extended: false, out }.part(0);
    }

    /// Writes the BODYSTRUCTURE value.
    pub fn write_body_structure(&self, out: &mut Vec<u8>) {
        Writer { structure: self, extended: true, out }.part(0);
    }

    fn envelope_of(&self, part: &Part) -> &[u8] {
        part.envelope.map_or(EMPTY_ENVELOPE, |span| self.text(span))
    }
}

/// Envelope of a message whose own was dropped for want of memory.
const EMPTY_ENVELOPE: &[u8] = b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)";

/// What stands in for the children of a multipart that has none: the grammar asks for one.
const EMPTY_CHILD: &[u8] =
    br#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)"#;
const EMPTY_CHILD_BASIC: &[u8] = br#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)"#;

struct Writer<'a> {
    structure: &'a Structure,
    extended: bool,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// Writes part `index` and all below it; returns the index behind them. Recursion is bounded
    /// by [`super::Limits::depth_max`].
    fn part(&mut self, index: usize) -> usize {
        let Some(part) = self.structure.parts.get(index) else { return index };
        let mut next = index + 1;
        self.out.push(b'(');
        if part.kind == Kind::Multipart {
            next = self.children(index);
            self.out.push(b' ');
            self.span(part.subtype);
            if self.extended {
                self.out.push(b' ');
                self.parameters(&part.parameters);
                self.extension(part);
            }
        } else {
            self.fields(part);
            if part.kind == Kind::Message {
                let structure = self.structure;
                let child = structure.parts.get(next);
                self.out.push(b' ');
                let envelope = child.map_or(EMPTY_ENVELOPE, |child| structure.envelope_of(child));
                self.out.extend_from_slice(envelope);
                self.out.push(b' ');
                next = self.part(next);
            }
            if part.kind == Kind::Message || self.structure.text(part.media_type) == b"text" {
                self.out.push(b' ');
                number(u64::from(part.body_lines()), self.out);
            }
            if self.extended {
                self.out.push(b' ');
                self.maybe(part.md5);
                self.extension(part);
            }
        }
        self.out.push(b')');
        next
    }

    fn children(&mut self, index: usize) -> usize {
        let mut next = index + 1;
        while self.structure.parts.get(next).is_some_and(|p| p.parent == Some(index as u16)) {
            next = self.part(next);
        }
        if next == index + 1 {
            let empty = if self.extended { EMPTY_CHILD } else { EMPTY_CHILD_BASIC };
            self.out.extend_from_slice(empty);
        }
        next
    }

    /// `media-type SP media-subtype SP body-fields`
    fn fields(&mut self, part: &Part) {
        self.span(part.media_type);
        self.out.push(b' ');
        self.span(part.subtype);
        self.out.push(b' ');
        self.parameters(&part.parameters);
        self.out.push(b' ');
        self.maybe(part.id);
        self.out.push(b' ');
        self.maybe(part.description);
        self.out.push(b' ');
        match part.encoding_name {
            Some(name) => self.span(name),
            None => self.out.extend_from_slice(b"\"7bit\""),
        }
        self.out.push(b' ');
        number(u64::from(part.body_size()), self.out);
    }

    /// Disposition, language and location.
    fn extension(&mut self, part: &Part) {
        self.out.push(b' ');
        match part.disposition {
            Some(name) => {
                self.out.push(b'(');
                self.span(name);
                self.out.push(b' ');
                self.parameters(&part.disposition_parameters);
                self.out.push(b')');
            }
            None => self.out.extend_from_slice(b"NIL"),
        }
        self.out.push(b' ');
        self.language(part.language);
        self.out.push(b' ');
        self.maybe(part.location);
    }

    fn language(&mut self, language: Option<Span>) {
        let value = language.map(|span| self.structure.text(span)).unwrap_or_default();
        let tags = || {
            let tags = value.split(|b| b", \t".contains(b));
            tags.filter(|tag| !tag.is_empty())
        };
        match tags().count() {
            0 => self.out.extend_from_slice(b"NIL"),
            1 => tags().for_each(|tag| string(tag, self.out)),
            _ => {
                self.out.push(b'(');
                for (i, tag) in tags().enumerate() {
                    if i > 0 {
                        self.out.push(b' ');
                    }
                    string(tag, self.out);
                }
                self.out.push(b')');
            }
        }
    }

    fn parameters(&mut self, list: &[(Span, Span)]) {
        if list.is_empty() {
            return self.out.extend_from_slice(b"NIL");
        }
        let structure = self.structure;
        let list = list.iter().map(|&(name, value)| (structure.text(name), structure.text(value)));
        // Few have pieces, and the others need no list to put them together from.
        if list.clone().any(|(name, _)| continued::is_piece(name)) {
            let list: Vec<_> = list.collect();
            let joined = continued::joined(&list);
            self.pairs(joined.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
        } else {
            self.pairs(list);
        }
    }

    fn pairs<'p>(&mut self, list: impl Iterator<Item = (&'p [u8], &'p [u8])>) {
        for (i, (name, value)) in list.enumerate() {
            self.out.push(if i == 0 { b'(' } else { b' ' });
            string(name, self.out);
            self.out.push(b' ');
            string(value, self.out);
        }
        self.out.push(b')');
    }

    fn maybe(&mut self, span: Option<Span>) {
        nstring(span.map(|span| self.structure.text(span)), self.out);
    }

    fn span(&mut self, span: Span) {
        string(self.structure.text(span), self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_quoted_or_literal() {
        assert_eq!(written(|o| string(b"a\"b\\c", o)), r#""a\"b\\c""#);
        assert_eq!(written(|o| string("\u{e9}".as_bytes(), o)), "{2}\r\n\u{e9}");
        assert_eq!(written(|o| string(b"a\rb", o)), "{3}\r\na\rb");
        assert_eq!(written(|o| string(b"a\0b", o)), "\"a?b\"");
        assert_eq!(written(|o| nstring(None, o)), "NIL");
        assert_eq!(written(|o| number(u64::MAX, o)), u64::MAX.to_string());
        assert_eq!(written(|o| number(0, o)), "0");
    }

    #[test]
    fn envelope_defaults_sender_and_reply_to() {
        let mut header = Block::default();
        for line in [
            "Subject: hi",
            "\tthere",
            "From: \" A\" <a@b>",
            "Reply-To: ",
            "Sender: s@t",
            "To: g: x@y;",
            "To: root",
            "In-Reply-To: ",
        ] {
            header.push_line(line.as_bytes());
        }
        assert_eq!(
            written(|o| envelope(&header, o)),
            concat!(
                r#"(NIL "hi there" (("A" NIL "a" "b")) ((NIL NIL "s" "t")) (("A" NIL "a" "b")) "#,
                r#"((NIL NIL "g" NIL)(NIL NIL "x" "y")(NIL NIL NIL NIL)"#,
                r#"(NIL NIL "root" "MISSING_DOMAIN")) NIL NIL "" NIL)"#
            )
        );
    }
}
