//! What the cache keeps of a message: wire-ready answers, common headers, the part table.
//!
//! Written once at delivery, read by every FETCH and SEARCH. Little-endian, no alignment needed.
//!
//! Header, 32 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version (2; 1 has no identity; readers refuse others and have the message rescanned) |
//! | 1 | 1 | bit 0: every field of [`Field::ALL`] that the message has is here; bit 1: the message has a NUL |
//! | 2 | 2 | parts |
//! | 4 | 2 | header fields |
//! | 6 | 2 | zero |
//! | 8 | 4 | bytes of the ENVELOPE |
//! | 12 | 4 | bytes of the BODYSTRUCTURE |
//! | 16 | 4 | bytes of the BODY |
//! | 20 | 4 | bytes of the header fields |
//! | 24 | 4 | bytes of the charset names |
//! | 28 | 4 | day of the Date field as written, since 1970-01-01; the smallest i32 for none |
//!
//! Identity, 36 bytes, since version 2:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 32 | 16 | content id: BLAKE3-128 of the served bytes, for EMAILID |
//! | 48 | 16 | thread id, for THREADID: [`super::thread`] |
//! | 64 | 4 | bytes of the preview |
//!
//! Then, one behind the other: a field record per header field, a part record per part, ENVELOPE,
//! BODYSTRUCTURE, BODY, the header fields as they stand in the message with CRLF line ends, the
//! charset names, since version 2 the preview in UTF-8 ([`super::preview`]). Nothing may follow.
//!
//! Field record, 4 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | number of the [`Field`] |
//! | 1 | 1 | zero |
//! | 2 | 2 | bytes of the field; fields lie in this order |
//!
//! Part record, 40 bytes, in the order of [`protocol::mime::Structure::parts`]:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | index of the enclosing part, 65535 for the message itself |
//! | 2 | 1 | [`Kind`] |
//! | 3 | 1 | [`Encoding`] |
//! | 4 | 4 + 4 | start of the part's header: served octets, stored octets |
//! | 12 | 4 + 4 | start of its body |
//! | 20 | 4 + 4 | end of its body |
//! | 28 | 4 | lines of its body |
//! | 32 | 4 | offset of its charset among the charset names |
//! | 36 | 2 | bytes of its charset, 0 for none |
//! | 38 | 2 | bit 0: a part that SEARCH reads: text/*, or message/* that has no parts |
//!
//! Invariant: no bytes make a reader panic or look outside them; what a damaged blob says may be
//! wrong, but a [`Section`] never ends before it starts.

use std::ops::Range;

use protocol::mime::header::{self, FieldSet};
use protocol::mime::section::{self, PartEntry, PartTable, SectionText};
use protocol::mime::{Encoding, Field, Kind, Part, Position, Structure};
use zerocopy::little_endian::{I32, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::format::FormatError;

/// Header fields kept of one message, in bytes. A message whose fields don't fit has the rest read
/// from its file.
pub const HEADERS_BYTES_MAX: usize = 32 * 1024;

const _: () = assert!(HEADERS_BYTES_MAX <= u16::MAX as usize, "a field's length is a u16");

/// What BODYSTRUCTURE and BODY say of a usual part, in bytes.
const PART_ANSWERS_BYTES: usize = 200;

/// Longest charset name that is kept, in bytes.
const CHARSET_BYTES_MAX: usize = 64;

/// Separate pieces of the kept header that one answer takes at most; one of more is made from the
/// file.
const PIECES_MAX: usize = 32;

const VERSION: u8 = 2;
/// Without [`Identity`] and preview.
const VERSION_BEFORE: u8 = 1;
const ALL_FIELDS: u8 = 1;
const HAS_NUL: u8 = 2;
const TEXT: u16 = 1;
const NO_PARENT: u16 = u16::MAX;
const NO_DAY: i32 = i32::MIN;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    version: u8,
    flags: u8,
    parts: U16,
    fields: U16,
    zero: U16,
    envelope: U32,
    body_structure: U32,
    body: U32,
    headers: U32,
    charsets: U32,
    sent_day: I32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Identity {
    content_id: [u8; 16],
    thread_id: [u8; 16],
    preview: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FieldRecord {
    field: u8,
    zero: u8,
    length: U16,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Place {
    served: U32,
    stored: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PartRecord {
    parent: U16,
    kind: u8,
    encoding: u8,
    header_start: Place,
    body_start: Place,
    end: Place,
    lines: U32,
    charset_at: U32,
    charset_length: U16,
    flags: U16,
}

const _: () = assert!(size_of::<Header>() == 32);
const _: () = assert!(std::mem::offset_of!(Header, envelope) == 8);
const _: () = assert!(std::mem::offset_of!(Header, sent_day) == 28);
const _: () = assert!(size_of::<Identity>() == 36);
const _: () = assert!(std::mem::offset_of!(Identity, preview) == 32);
const _: () = assert!(size_of::<FieldRecord>() == 4);
const _: () = assert!(size_of::<PartRecord>() == 40);
const _: () = assert!(std::mem::offset_of!(PartRecord, lines) == 28);

/// What the pass over a message found out beside its structure.
pub(super) struct Findings<'a> {
    /// Of the Date field as written, in days since 1970-01-01.
    pub(super) sent_day: Option<i32>,
    /// BLAKE3-128 of the served bytes.
    pub(super) content_id: [u8; 16],
    /// See [`super::thread`].
    pub(super) thread_id: [u8; 16],
    /// See [`super::preview`].
    pub(super) preview: &'a str,
    /// Whether some octet is 0.
    pub(super) has_nul: bool,
}

/// Writes the extras of a parsed message.
pub(super) fn encode(structure: &Structure, findings: &Findings<'_>) -> Vec<u8> {
    let (parts, envelope) = (structure.parts(), structure.envelope());
    let preview = findings.preview.as_bytes();
    let mut headers_bytes = 0;
    let mut all_fields = structure.header_is_whole();
    let mut kept = Vec::with_capacity(16);
    for (field, raw) in structure.header().known() {
        if headers_bytes + raw.len() <= HEADERS_BYTES_MAX {
            headers_bytes += raw.len();
            kept.push((field, raw));
        } else {
            all_fields = false;
        }
    }

    let texts = envelope.len() + headers_bytes + preview.len();
    let records = size_of::<FieldRecord>() * kept.len() + size_of::<PartRecord>() * parts.len();
    let answers = PART_ANSWERS_BYTES * parts.len();
    let heads = size_of::<Header>() + size_of::<Identity>();
    let mut out = Vec::with_capacity(heads + records + texts + answers);
    // The header comes last, when the lengths in it are known.
    out.extend_from_slice(&[0; size_of::<Header>()]);
    let identity = Identity {
        content_id: findings.content_id,
        thread_id: findings.thread_id,
        preview: U32::new(preview.len() as u32),
    };
    out.extend_from_slice(identity.as_bytes());
    for (field, raw) in &kept {
        let length = U16::new(raw.len() as u16);
        let record = FieldRecord { field: *field as u8, zero: 0, length };
        out.extend_from_slice(record.as_bytes());
    }
    let mut charsets = Vec::new();
    for part in parts {
        out.extend_from_slice(part_record(structure, part, &mut charsets).as_bytes());
    }
    out.extend_from_slice(envelope);
    let body_structure_at = out.len();
    structure.write_body_structure(&mut out);
    let body_at = out.len();
    structure.write_body(&mut out);
    let body_end = out.len();
    kept.iter().for_each(|(_, raw)| out.extend_from_slice(raw));
    out.extend_from_slice(&charsets);
    out.extend_from_slice(preview);

    let header = Header {
        version: VERSION,
        flags: (u8::from(all_fields) * ALL_FIELDS) | (u8::from(findings.has_nul) * HAS_NUL),
        parts: U16::new(parts.len() as u16),
        fields: U16::new(kept.len() as u16),
        zero: U16::ZERO,
        envelope: U32::new(envelope.len() as u32),
        body_structure: U32::new((body_at - body_structure_at) as u32),
        body: U32::new((body_end - body_at) as u32),
        headers: U32::new(headers_bytes as u32),
        charsets: U32::new(charsets.len() as u32),
        sent_day: I32::new(findings.sent_day.unwrap_or(NO_DAY)),
    };
    out[..size_of::<Header>()].copy_from_slice(header.as_bytes());
    out
}

fn part_record(structure: &Structure, part: &Part, charsets: &mut Vec<u8>) -> PartRecord {
    // Delivery reports and the like are worth finding, so message/* that isn't opened counts.
    let is_text =
        part.kind == Kind::Leaf && matches!(structure.text(part.media_type), b"text" | b"message");
    let charset = structure.parameter(part, b"charset").filter(|_| is_text).unwrap_or_default();
    let charset = charset.get(..charset.len().min(CHARSET_BYTES_MAX)).unwrap_or_default();
    let charset_at = charsets.len() as u32;
    charsets.extend_from_slice(charset);
    PartRecord {
        parent: part.parent.unwrap_or(NO_PARENT).into(),
        kind: part.kind as u8,
        encoding: part.encoding as u8,
        header_start: place(part.header_start),
        body_start: place(part.body_start),
        end: place(part.end),
        lines: part.body_lines().into(),
        charset_at: charset_at.into(),
        charset_length: (charset.len() as u16).into(),
        flags: if is_text { TEXT } else { 0 }.into(),
    }
}

fn place(position: Position) -> Place {
    Place { served: position.served.into(), stored: position.stored.into() }
}

fn position(place: Place) -> Position {
    Position { served: place.served.get(), stored: place.stored.get(), line: 0 }
}

/// Reader of one message's extras.
#[derive(Clone, Copy, Debug)]
pub struct Extras<'a> {
    header: &'a Header,
    identity: Option<&'a Identity>,
    fields: &'a [FieldRecord],
    parts: &'a [PartRecord],
    envelope: &'a [u8],
    body_structure: &'a [u8],
    body: &'a [u8],
    headers: &'a [u8],
    charsets: &'a [u8],
    preview: &'a [u8],
}

/// What a message is known by, whatever its mailbox and UID (RFC 8474).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageIds {
    /// BLAKE3-128 of the served bytes: the same for every copy.
    pub content: [u8; 16],
    /// The same for every message of a conversation.
    pub thread: [u8; 16],
}

/// A part of the message as its cached record tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedPart<'a> {
    /// Index of the enclosing part; `None` for the message itself.
    pub parent: Option<u16>,
    /// How it is made up.
    pub kind: Kind,
    /// Content-Transfer-Encoding.
    pub encoding: Encoding,
    /// Whether SEARCH reads it: text/*, or message/* that has no parts of its own.
    pub is_text: bool,
    /// Charset of a text part; empty when unknown.
    pub charset: &'a [u8],
    /// Lines of the body.
    pub lines: u32,
    /// Its header and what ends it, in stored octets of the file.
    pub header: Range<u32>,
    /// Its body in stored octets of the file.
    pub body: Range<u32>,
    /// Served octets of the body.
    pub body_size: u32,
}

/// Where a section of a message is, and how to decode it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Stored octets of the file.
    pub stored: Range<u32>,
    /// Served octets, before any decoding.
    pub size: u32,
    /// Content-Transfer-Encoding of the part, for BINARY.
    pub encoding: Encoding,
    /// Whether the part is a multipart or a message, which BINARY refuses to decode.
    pub kind: Kind,
}

impl<'a> Extras<'a> {
    /// Reads extras; the lengths of all areas are checked here.
    pub fn open(bytes: &'a [u8]) -> Result<Extras<'a>, FormatError> {
        const WHAT: &str = "message extras";
        let bad = |expected, found: String| FormatError::new(WHAT, expected, found);
        let (header, rest) = Header::ref_from_prefix(bytes)
            .map_err(|_| bad("a 32-byte header", format!("{} bytes", bytes.len())))?;
        if header.version != VERSION && header.version != VERSION_BEFORE {
            return Err(bad("version 1 or 2", header.version.to_string()));
        }
        let short = || bad("as many bytes as the header says", format!("{} bytes", bytes.len()));
        let (identity, rest) = match header.version {
            VERSION_BEFORE => (None, rest),
            _ => Identity::ref_from_prefix(rest)
                .map(|(identity, rest)| (Some(identity), rest))
                .map_err(|_| short())?,
        };
        let count = usize::from(header.fields.get());
        let (fields, rest) =
            <[FieldRecord]>::ref_from_prefix_with_elems(rest, count).map_err(|_| short())?;
        let count = usize::from(header.parts.get());
        let (parts, mut rest) =
            <[PartRecord]>::ref_from_prefix_with_elems(rest, count).map_err(|_| short())?;
        let mut area = |length: U32| {
            let (area, behind) = rest.split_at_checked(length.get() as usize).ok_or_else(short)?;
            rest = behind;
            Ok::<&[u8], FormatError>(area)
        };
        let envelope = area(header.envelope)?;
        let body_structure = area(header.body_structure)?;
        let body = area(header.body)?;
        let headers = area(header.headers)?;
        let charsets = area(header.charsets)?;
        let preview = area(identity.map_or(U32::ZERO, |identity| identity.preview))?;
        if !rest.is_empty() {
            return Err(bad("nothing behind the last area", format!("{} bytes", rest.len())));
        }
        Ok(Extras {
            header,
            identity,
            fields,
            parts,
            envelope,
            body_structure,
            body,
            headers,
            charsets,
            preview,
        })
    }

    /// Where in them the answers to ENVELOPE, BODYSTRUCTURE and BODY end: these come first.
    pub(crate) fn answers_end(&self) -> usize {
        let answers = self.envelope.len() + self.body_structure.len() + self.body.len();
        self.fields_end() + size_of_val(self.parts) + answers
    }

    /// Where the list of header fields ends, at the beginning, and where the fields themselves are.
    pub(crate) fn fields_place(&self) -> (usize, Range<usize>) {
        let from = self.answers_end();
        (self.fields_end(), from..from + self.headers.len())
    }

    fn fields_end(&self) -> usize {
        let identity = if self.identity.is_some() { size_of::<Identity>() } else { 0 };
        size_of::<Header>() + identity + size_of_val(self.fields)
    }

    /// Content id and thread id; `None` where the extras were made by a version that had none.
    pub fn ids(&self) -> Option<MessageIds> {
        let identity = self.identity?;
        Some(MessageIds { content: identity.content_id, thread: identity.thread_id })
    }

    /// The beginning of the text, in one line; empty where there is none that means something.
    /// `None` where the extras were made by a version that had none, or it is no UTF-8: that is
    /// looked at here, since who reads other areas should not have to load this one.
    pub fn preview(&self) -> Option<&'a str> {
        self.identity.and_then(|_| std::str::from_utf8(self.preview).ok())
    }

    /// The ENVELOPE value.
    pub fn envelope(&self) -> &'a [u8] {
        self.envelope
    }

    /// The BODY value.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The BODYSTRUCTURE value.
    pub fn body_structure(&self) -> &'a [u8] {
        self.body_structure
    }

    /// The kept header fields in their order, as they stand in the message.
    pub fn headers(&self) -> &'a [u8] {
        self.headers
    }

    /// The day of the Date field as written, in days since 1970-01-01.
    pub fn sent_day(&self) -> Option<i32> {
        Some(self.header.sent_day.get()).filter(|day| *day != NO_DAY)
    }

    /// Whether every field of [`Field::ALL`] that the message has is here. If not, the file must be
    /// asked.
    pub fn has_all_fields(&self) -> bool {
        self.header.flags & ALL_FIELDS != 0
    }

    /// Each kept field with its bytes, line ends included.
    pub fn fields(&self) -> impl Iterator<Item = (Field, &'a [u8])> + use<'a> {
        let mut rest = self.headers;
        self.fields.iter().map_while(move |record| {
            let (raw, behind) = rest.split_at_checked(usize::from(record.length.get()))?;
            rest = behind;
            Some((Field::of_number(record.field)?, raw))
        })
    }

    /// The value of each field of that name, folded.
    pub fn values(&self, wanted: Field) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.fields().filter(move |(field, _)| *field == wanted).map(|(_, raw)| {
            let colon = memchr::memchr(b':', raw).map_or(raw.len(), |colon| colon + 1);
            header::trim(&raw[colon..])
        })
    }

    /// The answer to `BODY[HEADER.FIELDS (wanted)]`, the empty line at its end included: its size
    /// in bytes goes to `announce`, then `out` gets it. Returns false, and does neither, when the
    /// file must be asked.
    pub fn select(
        &self,
        wanted: FieldSet,
        out: &mut Vec<u8>,
        announce: impl FnOnce(&mut Vec<u8>, usize),
    ) -> bool {
        const END: &[u8] = b"\r\n";
        if !self.has_all_fields() {
            return false;
        }
        let is_wanted =
            |record: &FieldRecord| record.field < 64 && wanted.0 >> record.field & 1 == 1;
        // Fields lie one behind the other, so wanted neighbours are one piece.
        let mut pieces = [(0, 0); PIECES_MAX];
        let (mut count, mut bytes, mut at) = (0, 0, 0);
        for record in self.fields {
            let end = at + usize::from(record.length.get());
            if is_wanted(record) {
                if end > self.headers.len() {
                    return false;
                }
                bytes += end - at;
                if count > 0 && pieces[count - 1].1 == at {
                    pieces[count - 1].1 = end;
                } else if count < PIECES_MAX {
                    pieces[count] = (at, end);
                    count += 1;
                } else {
                    return false;
                }
            }
            at = end;
        }
        announce(out, bytes + END.len());
        for &(start, end) in &pieces[..count] {
            out.extend_from_slice(self.headers.get(start..end).unwrap_or_default());
        }
        out.extend_from_slice(END);
        true
    }

    /// Whether some octet of the message is 0, so that parts of it may need a `literal8`. Extras of
    /// version 1 don't tell.
    pub fn has_nul(&self) -> bool {
        self.header.flags & HAS_NUL != 0
    }

    /// Number of parts, the message itself included.
    pub fn part_count(&self) -> usize {
        self.parts.len()
    }

    /// The part of that index; `None` behind the last, and for a damaged record.
    pub fn part(&self, index: usize) -> Option<CachedPart<'a>> {
        let record = self.parts.get(index)?;
        let charset_at = record.charset_at.get() as usize;
        let charset_end = charset_at.checked_add(usize::from(record.charset_length.get()))?;
        let (start, body, end) = (record.header_start, record.body_start, record.end);
        let range = |a: U32, b: U32| (a.get() <= b.get()).then(|| a.get()..b.get());
        Some(CachedPart {
            parent: Some(record.parent.get()).filter(|parent| *parent != NO_PARENT),
            kind: kind(record.kind)?,
            encoding: encoding(record.encoding),
            is_text: record.flags.get() & TEXT != 0,
            charset: self.charsets.get(charset_at..charset_end)?,
            lines: record.lines.get(),
            header: range(start.stored, body.stored)?,
            body: range(body.stored, end.stored)?,
            body_size: end.served.get().checked_sub(body.served.get())?,
        })
    }

    /// Every part in order.
    pub fn parts(&self) -> impl Iterator<Item = CachedPart<'a>> + use<'a> {
        let extras = *self;
        (0..self.parts.len()).map_while(move |index| extras.part(index))
    }

    /// Whether the message has this body part.
    pub fn has_part(&self, path: &[u32]) -> bool {
        self.section(path, SectionText::Whole).is_some()
    }

    /// Finds a section by IMAP's rules; see [`section::find`].
    pub fn section(&self, path: &[u32], text: SectionText) -> Option<Section> {
        let range = section::find(self, path, text)?;
        let record = self.parts.get(range.part)?;
        let (start, end) = (range.start, range.end);
        if end.stored < start.stored {
            return None;
        }
        Some(Section {
            stored: start.stored..end.stored,
            size: end.served.checked_sub(start.served)?,
            encoding: encoding(record.encoding),
            kind: kind(record.kind)?,
        })
    }
}

impl PartTable for Extras<'_> {
    fn entry(&self, index: usize) -> Option<PartEntry> {
        let record = self.parts.get(index)?;
        Some(PartEntry {
            parent: Some(record.parent.get()).filter(|parent| *parent != NO_PARENT),
            kind: kind(record.kind)?,
            header_start: position(record.header_start),
            body_start: position(record.body_start),
            end: position(record.end),
        })
    }
}

fn kind(number: u8) -> Option<Kind> {
    [Kind::Leaf, Kind::Multipart, Kind::Message].into_iter().find(|kind| *kind as u8 == number)
}

fn encoding(number: u8) -> Encoding {
    use Encoding::{Base64, Binary, EightBit, QuotedPrintable, SevenBit};
    let known = [SevenBit, EightBit, Binary, Base64, QuotedPrintable];
    known.into_iter().find(|e| *e as u8 == number).unwrap_or(Encoding::Other)
}

#[cfg(test)]
mod tests {
    use super::super::{Ingest, LineEnds};
    use super::*;

    const MESSAGE: &[u8] = b"Date: Mon, 02 Jan 2006 23:04:05 -0700\r\nReceived: from x\r\nTo: a@b,\r\n\
        \tc@d\r\nSUBJECT: s\r\nto: e@f\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
        Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n\r\n8PI=\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: i\r\n\r\nx\r\ny\r\n--b--\r\n";

    fn ingest(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut ingest = Ingest::new(LineEnds::Lf);
        let mut stored = Vec::new();
        ingest.feed(message, &mut stored);
        let facts = ingest.finish(&mut stored);
        (stored, facts.extras)
    }

    #[test]
    fn fields_are_selected_without_the_file() {
        let (_, bytes) = ingest(MESSAGE);
        let extras = Extras::open(&bytes).unwrap();
        let set = FieldSet::of_names([b"to".as_slice(), b"Subject", b"Cc"]).unwrap();
        let mut out = Vec::new();
        let mut announced = 0;
        assert!(extras.select(set, &mut out, |_, bytes| announced = bytes));
        assert_eq!(announced, out.len());
        assert_eq!(out, b"To: a@b,\r\n\tc@d\r\nSUBJECT: s\r\nto: e@f\r\n\r\n");
        assert_eq!(extras.values(Field::To).collect::<Vec<_>>(), [&b"a@b,\r\n\tc@d"[..], b"e@f"]);
        assert!(FieldSet::of_names([b"received".as_slice()]).is_none());
        assert_eq!(extras.sent_day(), Some(13_150));
    }

    #[test]
    fn a_header_beyond_the_limit_sends_readers_to_the_file() {
        let mut message = b"Subject: s\r\nReferences: ".to_vec();
        message.resize(message.len() + HEADERS_BYTES_MAX, b'x');
        message.extend_from_slice(b"\r\nTo: a@b\r\n\r\n");
        let (_, bytes) = ingest(&message);
        let extras = Extras::open(&bytes).unwrap();
        assert!(!extras.has_all_fields());
        assert!(!extras.select(FieldSet::ALL, &mut Vec::new(), |_, _| {}));
        assert_eq!(extras.headers(), b"Subject: s\r\nTo: a@b\r\n");
    }

    #[test]
    fn sections_are_ranges_of_the_stored_file() {
        let (stored, bytes) = ingest(MESSAGE);
        let extras = Extras::open(&bytes).unwrap();
        let section = |path: &[u32], text| {
            let section = extras.section(path, text)?;
            let range = section.stored.start as usize..section.stored.end as usize;
            Some((String::from_utf8_lossy(&stored[range]).into_owned(), section.size))
        };
        let some = |text: &str, size| Some((text.to_owned(), size));
        assert_eq!(section(&[1], SectionText::Whole), some("8PI=", 4));
        assert_eq!(section(&[2], SectionText::Header), some("Subject: i\n\n", 14));
        assert_eq!(section(&[2, 1], SectionText::Whole), some("x\ny", 4));
        assert_eq!(section(&[3], SectionText::Whole), None);
        assert_eq!(extras.section(&[], SectionText::Whole).unwrap().size as usize, MESSAGE.len());
        let part = extras.part(1).unwrap();
        assert_eq!((part.charset, part.encoding), (&b"koi8-r"[..], Encoding::Base64));
        assert!(part.is_text);
    }

    /// Extras as version 1 wrote them: the same without identity and preview.
    fn of_version_1(bytes: &[u8]) -> Vec<u8> {
        let preview = Extras::open(bytes).unwrap().preview.len();
        let identity = size_of::<Header>()..size_of::<Header>() + size_of::<Identity>();
        let mut old = [&bytes[..identity.start], &bytes[identity.end..]].concat();
        old.truncate(old.len() - preview);
        old[0] = VERSION_BEFORE;
        old
    }

    #[test]
    fn extras_of_version_1_tell_what_they_have() {
        let (_, bytes) = ingest(MESSAGE);
        let extras = Extras::open(&bytes).unwrap();
        assert_eq!(extras.preview(), Some("\u{41f}\u{420}"));
        assert!(extras.ids().is_some());
        let old = of_version_1(&bytes);
        let before = Extras::open(&old).unwrap();
        assert_eq!((before.ids(), before.preview()), (None, None));
        assert_eq!(before.envelope(), extras.envelope());
        assert_eq!(before.body_structure(), extras.body_structure());
        assert_eq!(before.headers(), extras.headers());
        assert_eq!(before.part(1), extras.part(1));
    }

    #[test]
    fn damaged_bytes_are_errors_or_wrong_but_never_a_panic() {
        let (_, bytes) = ingest(MESSAGE);
        for cut in 0..bytes.len() {
            assert!(Extras::open(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = bytes.clone();
                bad[at] = value;
                let Ok(extras) = Extras::open(&bad) else { continue };
                extras.select(FieldSet::ALL, &mut Vec::new(), |_, _| {});
                assert!(extras.fields().count() <= extras.fields.len());
                assert!(extras.parts().count() <= extras.part_count());
                for path in [&[][..], &[1], &[2, 1], &[2, 2, 2]] {
                    if let Some(section) = extras.section(path, SectionText::Whole) {
                        assert!(section.stored.start <= section.stored.end);
                    }
                }
            }
        }
    }
}
