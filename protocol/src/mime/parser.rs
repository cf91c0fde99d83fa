//! The push parser: one pass over a message, in pieces of any size, to its [`Structure`].
//!
//! Invariants: the result does not depend on how the message was cut into pieces; memory is
//! bounded by [`Limits`]; nothing is an error. Lines are the unit: a line is looked at whole (its
//! first [`LINE_KEPT_BYTES_MAX`] octets, that is) only in headers and where a boundary may be.

use memchr::memchr_iter;

use super::header::{self, Block, Field};
use super::media;
use super::structure::{Encoding, Kind, Part, Position, Span, Structure};
use super::wire;

/// Octets of one line that are looked at; the rest is only counted. No boundary is longer.
pub const LINE_KEPT_BYTES_MAX: usize = 64 * 1024;

/// What one message may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels of multipart and message/rfc822 that are opened. What is deeper is a leaf.
    pub depth_max: usize,
    /// Parts that are told apart. The last one holds what follows.
    pub parts_max: usize,
    /// Octets of each header that are read; fields behind them are not seen.
    pub header_bytes_max: usize,
    /// Octets kept of all parts together: types, parameters, envelopes. When they are spent,
    /// further values count as missing.
    pub structure_bytes_max: usize,
}

impl Limits {
    /// Default of [`Limits::depth_max`].
    pub const MIME_DEPTH_MAX: usize = 100;
    /// Default of [`Limits::parts_max`].
    pub const MIME_PARTS_MAX: usize = 1_000;
    /// Default of [`Limits::header_bytes_max`].
    pub const HEADER_BYTES_MAX: usize = 256 * 1024;
    /// Default of [`Limits::structure_bytes_max`].
    pub const STRUCTURE_BYTES_MAX: usize = 1024 * 1024;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            depth_max: Limits::MIME_DEPTH_MAX,
            parts_max: Limits::MIME_PARTS_MAX,
            header_bytes_max: Limits::HEADER_BYTES_MAX,
            structure_bytes_max: Limits::STRUCTURE_BYTES_MAX,
        }
    }
}

/// A part that has not ended yet. The stack of them is the path from the message to here.
struct Open {
    index: usize,
    /// `--boundary`, while the multipart is not closed.
    delimiter: Option<Span>,
}

/// How a line ended.
#[derive(Clone, Copy, PartialEq)]
enum LineEnd {
    CrLf,
    Lf,
    /// The message ended.
    None,
}

/// See the module's documentation.
pub struct Parser {
    limits: Limits,
    bare_lf_as_crlf: bool,
    structure: Structure,
    stack: Vec<Open>,
    /// Multiparts on the stack whose closing boundary has not come.
    delimiters: usize,
    in_header: bool,
    /// The header being read.
    header: Block,
    header_is_whole: bool,
    /// Start of the current line.
    line_start: Position,
    /// End of the line before it, without its line end.
    content_end: Position,
    /// The current line so far, when a piece ended within it.
    carry: Vec<u8>,
    /// Octets of the line that `carry` has no room for.
    carry_skipped: usize,
    /// The last octet fed of an unfinished line.
    carry_last: u8,
}

impl Parser {
    /// A parser for one message.
    pub fn new(limits: Limits) -> Parser {
        let limits = Limits {
            parts_max: limits.parts_max.clamp(1, 65_000),
            header_bytes_max: limits.header_bytes_max.min(Block::BYTES_MAX / 2),
            ..limits
        };
        let structure = Structure {
            parts: vec![Part::new(None, Position::default())],
            text: Vec::with_capacity(1024),
            text_bytes_max: limits.structure_bytes_max.min(u32::MAX as usize),
            ..Structure::default()
        };
        Parser {
            limits,
            bare_lf_as_crlf: false,
            structure,
            stack: vec![Open { index: 0, delimiter: None }],
            delimiters: 0,
            in_header: true,
            header: Block::with_capacity(2048, 16),
            header_is_whole: true,
            line_start: Position::default(),
            content_end: Position::default(),
            carry: Vec::new(),
            carry_skipped: 0,
            carry_last: 0,
        }
    }

    /// Counts each bare LF as two served octets: for bytes from a store that keeps LF line ends.
    pub fn bare_lf_as_crlf(mut self) -> Parser {
        self.bare_lf_as_crlf = true;
        self
    }

    /// Takes the next piece of the message.
    pub fn feed(&mut self, piece: &[u8]) {
        self.feed_lines(piece, memchr_iter(b'\n', piece));
    }

    /// The same of a piece that has LFs at `line_feeds`, for callers who looked for them already.
    pub fn feed_lines(&mut self, piece: &[u8], line_feeds: impl Iterator<Item = usize>) {
        let mut start = 0;
        for lf in line_feeds {
            let line = &piece[start..lf];
            start = lf + 1;
            if self.carry_length() > 0 {
                self.hold(line);
                self.finish_carry(true);
                continue;
            }
            match line {
                [content @ .., b'\r'] => self.line(content, content.len(), LineEnd::CrLf),
                content => self.line(content, content.len(), LineEnd::Lf),
            }
        }
        self.hold(&piece[start..]);
    }

    /// Ends the message.
    pub fn finish(mut self) -> Structure {
        if self.carry_length() > 0 {
            self.finish_carry(false);
        }
        self.content_end = self.line_start;
        self.close_above(None);
        self.structure
    }

    fn carry_length(&self) -> usize {
        self.carry.len() + self.carry_skipped
    }

    /// Keeps the start of a line whose end has not come.
    fn hold(&mut self, bytes: &[u8]) {
        let Some(&last) = bytes.last() else { return };
        let room = LINE_KEPT_BYTES_MAX - self.carry.len();
        let kept = bytes.len().min(room);
        self.carry.extend_from_slice(&bytes[..kept]);
        self.carry_skipped += bytes.len() - kept;
        self.carry_last = last;
    }

    /// Handles the line in `carry`, whose LF has come (or the message's end).
    fn finish_carry(&mut self, has_lf: bool) {
        let carry = std::mem::take(&mut self.carry);
        let length = carry.len() + std::mem::take(&mut self.carry_skipped);
        if has_lf && self.carry_last == b'\r' {
            let content = &carry[..carry.len().min(length - 1)];
            self.line(content, length - 1, LineEnd::CrLf);
        } else {
            self.line(&carry, length, if has_lf { LineEnd::Lf } else { LineEnd::None });
        }
        self.carry = carry;
        self.carry.clear();
    }

    /// One line: its content (cut at [`LINE_KEPT_BYTES_MAX`] when it came in pieces), the
    /// content's whole length, its line end.
    #[inline]
    fn line(&mut self, content: &[u8], length: usize, line_end: LineEnd) {
        let content_end = moved(self.line_start, length);
        let next = match line_end {
            LineEnd::None => content_end,
            LineEnd::CrLf => Position { line: content_end.line + 1, ..moved(content_end, 2) },
            LineEnd::Lf => Position {
                served: content_end.served.saturating_add(1 + u32::from(self.bare_lf_as_crlf)),
                stored: content_end.stored.saturating_add(1),
                line: content_end.line + 1,
            },
        };
        // The rare cases are out of line: most lines are body text.
        if self.in_header || (self.delimiters > 0 && content.starts_with(b"--")) {
            let content = &content[..content.len().min(LINE_KEPT_BYTES_MAX)];
            self.structural_line(content, length, next);
        }
        self.content_end = content_end;
        self.line_start = next;
    }

    fn structural_line(&mut self, content: &[u8], length: usize, next: Position) {
        if self.delimiters > 0 && content.starts_with(b"--") && self.boundary_line(content, next) {
            return;
        }
        if !self.in_header {
            return;
        }
        if length == 0 {
            return self.header_ends(next);
        }
        let header_bytes = self.header.bytes().len() + content.len();
        if !self.header_is_whole || header_bytes > self.limits.header_bytes_max {
            self.header_is_whole = false;
            return;
        }
        self.header_is_whole = content.len() == length;
        self.header.push_line(content);
    }

    /// Handles a line that starts with `--`, if it is a boundary of an open multipart.
    fn boundary_line(&mut self, content: &[u8], next: Position) -> bool {
        let line = trim_blanks(content);
        let found = self.stack.iter().enumerate().rev().find_map(|(level, open)| {
            let rest = line.strip_prefix(self.structure.text(open.delimiter?))?;
            match rest {
                b"" => Some((level, false)),
                b"--" => Some((level, true)),
                _ => None,
            }
        });
        let Some((level, closes)) = found else { return false };
        // A header that this line ends may open the message inside it.
        let opened = usize::from(self.in_header) + 1;
        if !closes && self.structure.parts.len() + opened > self.limits.parts_max {
            return false;
        }
        self.close_above(Some(level));
        self.in_header = false;
        if closes {
            self.stack[level].delimiter = None;
            self.delimiters -= 1;
        } else {
            self.open_part(self.stack[level].index, next);
        }
        true
    }

    fn open_part(&mut self, parent: usize, header_start: Position) {
        let index = self.structure.parts.len();
        self.structure.parts.push(Part::new(Some(parent as u16), header_start));
        self.stack.push(Open { index, delimiter: None });
        self.in_header = true;
        self.header.clear();
        self.header_is_whole = true;
    }

    /// Ends every part above `level` of the stack (or all) where the last line ended.
    fn close_above(&mut self, level: Option<usize>) {
        let keep = level.map_or(0, |level| level + 1);
        let mut floor = self.content_end;
        while self.stack.len() > keep {
            if self.in_header {
                // The header ends without an empty line; this may open a message inside.
                let start =
                    self.structure.parts[self.stack[self.stack.len() - 1].index].header_start;
                self.header_ends(later(start, self.content_end));
                continue;
            }
            let Some(open) = self.stack.pop() else { return };
            self.delimiters -= usize::from(open.delimiter.is_some());
            let part = &mut self.structure.parts[open.index];
            floor = later(floor, part.body_start);
            part.end = floor;
        }
    }

    /// The header in `self.header` is complete and the body starts at `body_start`.
    fn header_ends(&mut self, body_start: Position) {
        self.in_header = false;
        let Some(open) = self.stack.last() else { return };
        let index = open.index;
        let header = std::mem::take(&mut self.header);
        self.structure.parts[index].body_start = body_start;
        let boundary = self.read_header(index, &header);
        let room = self.stack.len() <= self.limits.depth_max;
        match self.structure.parts[index].kind {
            Kind::Multipart if !room => self.make_opaque(index, b"application", b"octet-stream"),
            Kind::Multipart if boundary.is_none() => self.make_opaque(index, b"text", b"plain"),
            Kind::Multipart => {
                self.delimiters += 1;
                if let Some(open) = self.stack.last_mut() {
                    open.delimiter = boundary;
                }
            }
            Kind::Message if room && self.structure.parts.len() < self.limits.parts_max => {
                self.open_part(index, body_start);
            }
            Kind::Message => self.make_opaque(index, b"application", b"octet-stream"),
            Kind::Leaf => {}
        }
        if index == 0 {
            self.structure.header = header;
            self.structure.header_is_whole = self.header_is_whole;
        } else if self.header.capacity() == 0 {
            self.header = header;
            self.header.clear();
        }
    }

    /// Makes a leaf of a part that claims to hold others but can't be opened.
    fn make_opaque(&mut self, index: usize, media_type: &[u8], subtype: &[u8]) {
        let structure = &mut self.structure;
        let (media_type, subtype) = (structure.keep(media_type), structure.keep(subtype));
        let part = &mut structure.parts[index];
        part.kind = Kind::Leaf;
        part.media_type = media_type.unwrap_or_default();
        part.subtype = subtype.unwrap_or_default();
    }

    /// Fills in part `index` from its header; returns the delimiter line of a multipart.
    fn read_header(&mut self, index: usize, header: &Block) -> Option<Span> {
        let parent = self.structure.parts[index].parent.map(usize::from);
        let structure = &mut self.structure;
        let is_message = parent.is_none_or(|p| structure.parts[p].kind == Kind::Message);
        if is_message {
            let envelope = structure.keep_written(|out| wire::envelope(header, out));
            structure.parts[index].envelope = envelope;
        }
        let value = |field: Field| {
            header.value(field).map(header::unfold).filter(|value| !value.is_empty())
        };
        let text = |structure: &mut Structure, field| structure.keep(&value(field)?);
        let mut part = structure.parts[index].clone();
        part.id = text(structure, Field::ContentId);
        part.description = text(structure, Field::ContentDescription);
        part.language = text(structure, Field::ContentLanguage);
        part.location = text(structure, Field::ContentLocation);
        part.md5 = text(structure, Field::ContentMd5);
        if let Some(value) = value(Field::ContentTransferEncoding)
            && let Some(name) = media::token(&value)
        {
            part.encoding = Encoding::of(name);
            part.encoding_name = structure.keep_lower(name);
        }
        if let Some(value) = value(Field::ContentDisposition) {
            let mut list = Vec::new();
            let name = media::disposition(&value, |n, v| keep_pair(structure, &mut list, n, v));
            part.disposition = name.and_then(|name| structure.keep_lower(name));
            part.disposition_parameters = list;
        }
        let in_digest = parent.is_some_and(|p| {
            let p = &structure.parts[p];
            p.kind == Kind::Multipart && structure.text(p.subtype) == b"digest"
        });
        let content_type = value(Field::ContentType);
        read_content_type(structure, &mut part, content_type.as_deref(), in_digest);
        structure.parts[index] = part;
        let part = &structure.parts[index];
        if part.kind != Kind::Multipart {
            return None;
        }
        let boundary = structure.parameter(part, b"boundary")?;
        let boundary = trim_blanks(&boundary);
        if boundary.is_empty() || boundary.len() + 4 > LINE_KEPT_BYTES_MAX {
            return None;
        }
        let delimiter = [b"--", boundary].concat();
        structure.keep(&delimiter)
    }
}

/// Keeps a parameter, its name in lower case.
fn keep_pair(structure: &mut Structure, list: &mut Vec<(Span, Span)>, name: &[u8], value: &[u8]) {
    if let Some(name) = structure.keep_lower(name)
        && let Some(value) = structure.keep(value)
    {
        list.push((name, value));
    }
}

/// Sets type, subtype, parameters and kind, with the defaults of RFC 2045 section 5.2 and RFC 2046
/// section 5.1.5.
fn read_content_type(
    structure: &mut Structure,
    part: &mut Part,
    value: Option<&[u8]>,
    in_digest: bool,
) {
    let mut list = Vec::new();
    let read = value
        .and_then(|value| media::content_type(value, |n, v| keep_pair(structure, &mut list, n, v)));
    let default: (&[u8], &[u8]) =
        if in_digest && value.is_none() { (b"message", b"rfc822") } else { (b"text", b"plain") };
    let (media_type, subtype) = read.unwrap_or(default);
    if read.is_none() {
        list.clear();
    }
    let is = |a: &[u8], b: &[u8]| a.eq_ignore_ascii_case(b);
    part.kind = if is(media_type, b"multipart") {
        Kind::Multipart
    } else if is(media_type, b"message") && (is(subtype, b"rfc822") || is(subtype, b"global")) {
        Kind::Message
    } else {
        Kind::Leaf
    };
    let has_charset = list.iter().any(|(n, _)| structure.text(*n).starts_with(b"charset"));
    if is(media_type, b"text") && !has_charset {
        keep_pair(structure, &mut list, b"charset", b"us-ascii");
    }
    part.media_type = structure.keep_lower(media_type).unwrap_or_default();
    part.subtype = structure.keep_lower(subtype).unwrap_or_default();
    part.parameters = list;
}

fn moved(from: Position, octets: usize) -> Position {
    let octets = u32::try_from(octets).unwrap_or(u32::MAX);
    Position {
        served: from.served.saturating_add(octets),
        stored: from.stored.saturating_add(octets),
        line: from.line,
    }
}

fn later(a: Position, b: Position) -> Position {
    if a.stored >= b.stored { a } else { b }
}

fn trim_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::section::{self, SectionText};
    use super::*;

    fn parse(message: &[u8]) -> Structure {
        let mut parser = Parser::new(Limits::default());
        parser.feed(message);
        parser.finish()
    }

    fn parse_split(message: &[u8], at: usize) -> Structure {
        let mut parser = Parser::new(Limits::default());
        parser.feed(&message[..at]);
        parser.feed(&message[at..]);
        parser.finish()
    }

    fn body_structure(message: &[u8]) -> String {
        let mut out = Vec::new();
        parse(message).write_body_structure(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn section<'a>(message: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let (path, text) = section::parse(name.as_bytes())?;
        let range = section::find(&parse(message), &path, text)?;
        Some(&message[range.start.served as usize..range.end.served as usize])
    }

    /// Every section up to three levels, and the wire forms, as text.
    fn everything(structure: &Structure) -> String {
        let mut out = structure.envelope().to_vec();
        structure.write_body(&mut out);
        structure.write_body_structure(&mut out);
        for i in 0..structure.parts().len() {
            let part = &structure.parts()[i];
            let line = format!("{:?} {:?} {:?}", part.header_start, part.body_start, part.end);
            out.extend_from_slice(line.as_bytes());
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    const NESTED: &[u8] = b"From: a@b\r\nContent-Type: multipart/mixed; boundary=AA\r\n\r\n\
        preamble\r\n--AA\r\n\r\none\r\n\r\n--AA  \r\nContent-Type: message/rfc822\r\n\r\n\
        Subject: inner\r\nContent-Type: multipart/alternative; boundary=\"AAB\"\r\n\r\n\
        --AAB\r\nContent-Type: text/html\r\nX: y\r\n\r\n<p>\r\n--AAB\r\n\r\ntwo\r\n--AAB--\r\n\
        epilogue\r\n--AA\r\nContent-Type: message/rfc822\r\n\r\nSubject: plain\r\n\r\nhi\r\n\
        --AA--\r\nend\r\n";

    #[test]
    fn sections_of_a_nested_message() {
        let s = |name| section(NESTED, name).map(|b| String::from_utf8_lossy(b).into_owned());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(s("1"), some("one\r\n"));
        assert_eq!(s("1.MIME"), some("\r\n"));
        assert_eq!(s("1.TEXT"), None);
        assert_eq!(s("1.1"), None);
        assert_eq!(s("2.MIME"), some("Content-Type: message/rfc822\r\n\r\n"));
        assert!(s("2").unwrap().starts_with("Subject: inner\r\n"));
        assert!(s("2.HEADER").unwrap().ends_with("\"AAB\"\r\n\r\n"));
        assert!(s("2.TEXT").unwrap().starts_with("--AAB\r\n"));
        assert!(s("2.TEXT").unwrap().ends_with("epilogue"));
        assert_eq!(s("2.1"), some("<p>"));
        assert_eq!(s("2.1.MIME"), some("Content-Type: text/html\r\nX: y\r\n\r\n"));
        assert_eq!(s("2.2"), some("two"));
        assert_eq!(s("2.3"), None);
        assert_eq!(s("3.1"), some("hi"));
        assert_eq!(s("3.1.MIME"), some("Subject: plain\r\n\r\n"));
        assert_eq!(s("3.HEADER"), some("Subject: plain\r\n\r\n"));
        assert_eq!(s("4"), None);
        assert!(s("TEXT").unwrap().starts_with("preamble"));
        assert!(s("TEXT").unwrap().ends_with("end\r\n"));
        assert_eq!(s("").unwrap().len(), NESTED.len());
    }

    #[test]
    fn body_structure_of_a_nested_message() {
        let plain = r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit""#;
        let expected = [
            "(",
            plain,
            " 5 1 NIL NIL NIL NIL)",
            r#"("message" "rfc822" NIL NIL NIL "7bit" 147 "#,
            r#"(NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL) "#,
            r#"(("text" "html" ("charset" "us-ascii") NIL NIL "7bit" 3 0 NIL NIL NIL NIL)"#,
            plain,
            r#" 3 0 NIL NIL NIL NIL) "alternative" ("boundary" "AAB") NIL NIL NIL) 12 "#,
            r#"NIL NIL NIL NIL)("message" "rfc822" NIL NIL NIL "7bit" 20 "#,
            r#"(NIL "plain" NIL NIL NIL NIL NIL NIL NIL NIL) "#,
            plain,
            r#" 2 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL) "mixed" ("boundary" "AA") NIL NIL NIL)"#,
        ];
        assert_eq!(body_structure(NESTED), expected.concat());
    }

    #[test]
    fn pieces_make_no_difference() {
        let odd = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n--x\r\nA\r\r\n\r\n\r\r\n\0\n--x--";
        for message in [NESTED, odd] {
            let whole = everything(&parse(message));
            for at in 0..=message.len() {
                assert_eq!(everything(&parse_split(message, at)), whole, "split at {at}");
            }
            let mut parser = Parser::new(Limits::default());
            message.chunks(1).for_each(|b| parser.feed(b));
            assert_eq!(everything(&parser.finish()), whole);
        }
    }

    #[test]
    fn bare_lf_counts_as_two_served_octets_where_asked() {
        let lf: Vec<u8> = NESTED.iter().copied().filter(|&b| b != b'\r').collect();
        let mut parser = Parser::new(Limits::default()).bare_lf_as_crlf();
        parser.feed(&lf);
        let (stored, served) = (parser.finish(), parse(NESTED));
        for (a, b) in stored.parts().iter().zip(served.parts()) {
            assert_eq!(a.body_start.served, b.body_start.served);
            assert_eq!(a.end.served, b.end.served);
            assert_eq!(a.end.stored, a.end.served - a.end.line);
        }
        assert_eq!(stored.header().bytes(), served.header().bytes());
        assert_eq!(stored.end().stored as usize, lf.len());
    }

    #[test]
    fn boundaries_end_parts_that_have_no_body_or_no_end() {
        let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
        let s = |rest: &str, name| {
            let message = [head, rest].concat();
            section(message.as_bytes(), name).map(|b| String::from_utf8_lossy(b).into_owned())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(s("--b\r\n--b\r\n\r\n--b--", "1"), some(""));
        assert_eq!(s("--b\r\nA: b\r\n--b\r\n\r\n--b--", "1.MIME"), some("A: b"));
        assert_eq!(s("--b\r\n\r\nx", "1"), some("x"));
        assert_eq!(s("--b\r\n\r\nx\r\n--bb\r\ny\r\n--b--\r\n", "1"), some("x\r\n--bb\r\ny"));
        assert_eq!(s("--b--\r\n--b\r\n\r\nx", "1"), None);
    }

    #[test]
    fn empty_and_unbounded_multiparts_still_make_valid_structures() {
        let empty = body_structure(b"Content-Type: multipart/mixed; boundary=b\r\n\r\nnothing");
        assert!(empty.starts_with("((\"text\" \"plain\""), "{empty}");
        let none = body_structure(b"Content-Type: multipart/mixed\r\n\r\nnothing\r\n");
        assert!(none.starts_with("(\"text\" \"plain\" NIL NIL NIL \"7bit\" 9 1"), "{none}");
        let digest = body_structure(
            b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: s\r\n\r\n--b--",
        );
        assert!(digest.starts_with("((\"message\" \"rfc822\" NIL"), "{digest}");
        let cut = body_structure(b"Content-Type: message/rfc822");
        assert!(cut.contains("(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"), "{cut}");
    }

    #[test]
    fn boundary_and_charset_are_read_in_extended_form_too() {
        let message = b"Content-Type: multipart/mixed; boundary*=us-ascii''a%2Db\r\n\r\n--a-b\r\n\
            Content-Type: text/plain; charset*=''koi8-r\r\n\r\nx\r\n--a-b--";
        let structure = parse(message);
        let part = &structure.parts()[1];
        assert_eq!(structure.parameter(part, b"charset").as_deref(), Some(&b"koi8-r"[..]));
        assert_eq!(part.body_size(), 1);
    }

    fn nested_messages(levels: usize) -> Vec<u8> {
        let mut message = b"Content-Type: message/rfc822\r\n\r\n".repeat(levels);
        message.extend_from_slice(b"Subject: deep\r\n\r\nx\r\n");
        message
    }

    #[test]
    fn nesting_is_opened_to_the_limit_and_no_further() {
        let depth = Limits::MIME_DEPTH_MAX;
        assert_eq!(parse(&nested_messages(depth)).parts().len(), depth + 1);
        let deeper = parse(&nested_messages(2 * depth));
        assert_eq!(deeper.parts().len(), depth + 1);
        let last = &deeper.parts()[depth];
        assert_eq!(deeper.text(last.media_type), b"application");
        assert_eq!(last.end, deeper.end());
    }

    #[test]
    fn parts_are_told_apart_to_the_limit_and_no_further() {
        let limits = Limits { parts_max: 3, ..Limits::default() };
        let mut parser = Parser::new(limits);
        parser.feed(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n");
        parser.feed(&b"--b\r\n\r\nx\r\n".repeat(5));
        parser.feed(b"--b--\r\nend");
        let structure = parser.finish();
        assert_eq!(structure.parts().len(), 3);
        assert_eq!(structure.parts()[2].body_size(), 1 + 3 * 10);
    }

    #[test]
    fn a_boundary_that_ends_a_messages_header_opens_no_part_beyond_the_limit() {
        let limits = Limits { parts_max: 4, ..Limits::default() };
        let message = [
            &b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n"[..],
            b"--b\r\nContent-Type: message/rfc822\r\n--b\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n",
        ];
        let mut parser = Parser::new(limits);
        parser.feed(&message.concat());
        assert_eq!(parser.finish().parts().len(), 4);
    }

    #[test]
    fn a_header_is_read_to_its_limit() {
        let limits = Limits { header_bytes_max: 20, ..Limits::default() };
        let mut parser = Parser::new(limits);
        parser.feed(b"Subject: 0123456\r\nA: b\r\nB:\r\n\r\nbody");
        let structure = parser.finish();
        assert_eq!(structure.header().bytes(), b"Subject: 0123456\r\n");
        assert!(!structure.header_is_whole());
        assert_eq!(structure.parts()[0].body_size(), 4);
    }

    #[test]
    fn a_spent_budget_drops_values_not_parts() {
        let limits = Limits { structure_bytes_max: 600, ..Limits::default() };
        let mut parser = Parser::new(limits);
        parser.feed(NESTED);
        let structure = parser.finish();
        assert!(structure.text.len() <= 600);
        assert!(everything(&structure).contains("NIL"));
    }

    #[test]
    fn a_line_longer_than_is_kept_is_counted() {
        let mut message = b"A: ".to_vec();
        message.resize(LINE_KEPT_BYTES_MAX + 100, b'x');
        message.extend_from_slice(b"\r\n\r\nbody\r\n");
        let structure = parse(&message);
        assert_eq!(structure.parts()[0].body_size(), 6);
        assert!(!structure.header_is_whole());
        for size in [1, 1000, LINE_KEPT_BYTES_MAX, LINE_KEPT_BYTES_MAX + 1] {
            let mut parser = Parser::new(Limits::default());
            message.chunks(size).for_each(|piece| parser.feed(piece));
            let split = parser.finish();
            assert_eq!(everything(&split), everything(&structure));
            assert_eq!(split.header_is_whole(), structure.header_is_whole());
        }
    }

    #[test]
    fn eight_bit_headers_come_as_literals() {
        let message = "Subject: \u{e9}\r\nFrom: \u{e9} <a@b>\r\n\r\n".as_bytes();
        let structure = parse(message);
        let envelope = String::from_utf8_lossy(structure.envelope());
        assert!(envelope.starts_with("(NIL {2}\r\n\u{e9} (({2}\r\n\u{e9} NIL \"a\" \"b\"))"));
        assert_eq!(section(message, "1.MIME").unwrap().len(), message.len());
        let whole = section::find(&structure, &[], SectionText::Header).unwrap();
        assert_eq!(whole.end.served as usize, message.len());
    }
}
