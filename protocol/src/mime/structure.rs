//! What one pass over a message leaves: a flat part table over one text arena.
//!
//! Invariants: `parts[0]` is the message itself; a part stands behind its parent and before its
//! next sibling; ranges of children lie within their parent's body; every [`Span`] made by the
//! parser lies within the arena.

use std::borrow::Cow;

use super::header::Block;
use super::media;

/// A place in the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Octets before it as IMAP serves them.
    pub served: u32,
    /// Octets before it as they were fed. Differs from `served` only where bare LF counts as CRLF.
    pub stored: u32,
    /// Line ends before it.
    pub line: u32,
}

/// A piece of the structure's text arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub(super) at: u32,
    pub(super) length: u32,
}

/// How a part is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// No parts inside, or none that we look at.
    Leaf = 0,
    /// multipart/*
    Multipart = 1,
    /// message/rfc822 or message/global: exactly one child, the message inside.
    Message = 2,
}

/// Content-Transfer-Encoding (RFC 2045 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// 7bit, also when the field is missing.
    SevenBit = 0,
    /// 8bit
    EightBit = 1,
    /// binary
    Binary = 2,
    /// base64
    Base64 = 3,
    /// quoted-printable
    QuotedPrintable = 4,
    /// Anything else: can't be decoded.
    Other = 5,
}

impl Encoding {
    /// The encoding of that name, in any case.
    pub fn of(name: &[u8]) -> Encoding {
        const NAMES: [(&[u8], Encoding); 5] = [
            (b"7bit", Encoding::SevenBit),
            (b"8bit", Encoding::EightBit),
            (b"binary", Encoding::Binary),
            (b"base64", Encoding::Base64),
            (b"quoted-printable", Encoding::QuotedPrintable),
        ];
        let found = NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map_or(Encoding::Other, |(_, e)| *e)
    }
}

/// One entity: the message, a body part, or the message inside a message/rfc822 part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Index of the enclosing part; `None` for the message itself.
    pub parent: Option<u16>,
    /// How it is made up.
    pub kind: Kind,
    /// Media type in lower case.
    pub media_type: Span,
    /// Media subtype in lower case.
    pub subtype: Span,
    /// Content-Type parameters, names in lower case.
    pub parameters: Vec<(Span, Span)>,
    /// Content-ID
    pub id: Option<Span>,
    /// Content-Description
    pub description: Option<Span>,
    /// Content-Transfer-Encoding as understood.
    pub encoding: Encoding,
    /// Its name in lower case; `None` when the field is missing.
    pub encoding_name: Option<Span>,
    /// Content-Disposition without parameters.
    pub disposition: Option<Span>,
    /// Content-Disposition parameters, names in lower case.
    pub disposition_parameters: Vec<(Span, Span)>,
    /// Content-Language, unfolded.
    pub language: Option<Span>,
    /// Content-Location, unfolded.
    pub location: Option<Span>,
    /// Content-MD5
    pub md5: Option<Span>,
    /// ENVELOPE in wire form, for the message itself and for messages inside.
    pub envelope: Option<Span>,
    /// Where the header starts.
    pub header_start: Position,
    /// Where the body starts, behind the empty line that ends the header.
    pub body_start: Position,
    /// Where the body ends. The line end before a boundary belongs to the boundary.
    pub end: Position,
}

impl Part {
    pub(super) fn new(parent: Option<u16>, header_start: Position) -> Part {
        Part {
            parent,
            kind: Kind::Leaf,
            media_type: Span::default(),
            subtype: Span::default(),
            parameters: Vec::new(),
            id: None,
            description: None,
            encoding: Encoding::SevenBit,
            encoding_name: None,
            disposition: None,
            disposition_parameters: Vec::new(),
            language: None,
            location: None,
            md5: None,
            envelope: None,
            header_start,
            body_start: header_start,
            end: header_start,
        }
    }

    /// Served octets of the body.
    pub fn body_size(&self) -> u32 {
        self.end.served - self.body_start.served
    }

    /// Line ends in the body.
    pub fn body_lines(&self) -> u32 {
        self.end.line - self.body_start.line
    }
}

/// The structure of one message. Made by [`super::Parser`].
#[derive(Clone, Debug, Default)]
pub struct Structure {
    pub(super) parts: Vec<Part>,
    pub(super) text: Vec<u8>,
    pub(super) text_bytes_max: usize,
    pub(super) header: Block,
    pub(super) header_is_whole: bool,
}

impl Structure {
    /// Every part, in the order of their headers.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The bytes of a span of this structure.
    pub fn text(&self, span: Span) -> &[u8] {
        let (at, length) = (span.at as usize, span.length as usize);
        self.text.get(at..at + length).unwrap_or_default()
    }

    /// The message's header fields as they stand, with CRLF line ends, without the empty line.
    pub fn header(&self) -> &Block {
        &self.header
    }

    /// Whether [`Structure::header`] is the whole header rather than its first
    /// [`super::Limits::header_bytes_max`] octets.
    pub fn header_is_whole(&self) -> bool {
        self.header_is_whole
    }

    /// Where the message ends: its size in both forms.
    pub fn end(&self) -> Position {
        self.parts.first().map(|p| p.end).unwrap_or_default()
    }

    /// A Content-Type parameter of a part, by its lower-case name, also from the form
    /// `name*=charset'language'value` (RFC 2231 section 4).
    pub fn parameter(&self, part: &Part, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        let found = part.parameters.iter().find_map(|(n, value)| {
            let rest = self.text(*n).strip_prefix(name)?;
            (rest.is_empty() || rest == b"*").then(|| (rest.is_empty(), self.text(*value)))
        });
        found.map(|(is_plain, value)| match is_plain {
            true => Cow::Borrowed(value),
            false => Cow::Owned(media::extended_value(value)),
        })
    }

    /// Copies `bytes` into the arena; `None` when the arena's budget is spent.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Option<Span> {
        if self.text.len() + bytes.len() > self.text_bytes_max {
            return None;
        }
        let span = Span { at: self.text.len() as u32, length: bytes.len() as u32 };
        self.text.extend_from_slice(bytes);
        Some(span)
    }

    /// As [`Structure::keep`] of what `write` appends.
    pub(super) fn keep_written(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Option<Span> {
        let at = self.text.len();
        write(&mut self.text);
        if self.text.len() > self.text_bytes_max {
            self.text.truncate(at);
            return None;
        }
        Some(Span { at: at as u32, length: (self.text.len() - at) as u32 })
    }

    /// As [`Structure::keep`], in lower case.
    pub(super) fn keep_lower(&mut self, bytes: &[u8]) -> Option<Span> {
        let span = self.keep(bytes)?;
        self.text[span.at as usize..].make_ascii_lowercase();
        Some(span)
    }
}
