//! `BODY[…]`, RFC822 and its kin: RFC 3501 section 6.4.5, streamed from the message file.

use std::io;
use std::ops::Range;

use protocol::imap::command::{Partial, Section, SectionText};
use protocol::imap::encode;
use protocol::mime::{self, header};

use super::super::reply::End;
use super::super::session::Session;
use super::plan::Message;

/// How much of a header is searched for fields, in bytes.
pub(super) const HEADER_BYTES_MAX: u64 = 1 << 20;

/// Where a section's bytes are.
pub(super) struct Place {
    /// Octets of the file.
    pub(super) stored: Range<u64>,
    /// Served octets of that range before the section begins.
    pub(super) skip: u64,
    /// Served octets of the section.
    pub(super) size: u64,
}

impl Place {
    /// What of the section `partial` asks for.
    pub(super) fn cut(self, partial: Option<Partial>) -> Place {
        let Some(Partial { offset, length }) = partial else { return self };
        self.from(offset, length)
    }

    /// At most `length` octets from `offset` on.
    pub(super) fn from(self, offset: u64, length: u64) -> Place {
        let offset = offset.min(self.size);
        Place { skip: self.skip + offset, size: length.min(self.size - offset), ..self }
    }
}

/// Writes `BODY[1.HEADER.FIELDS (To)]<0> `.
pub(super) fn write_name(out: &mut Vec<u8>, section: &Section, partial: Option<Partial>) {
    out.extend_from_slice(b"BODY[");
    write_part(out, &section.part);
    let (word, fields): (&[u8], &[String]) = match &section.text {
        SectionText::Whole => (b"", &[]),
        SectionText::Header => (b"HEADER", &[]),
        SectionText::Text => (b"TEXT", &[]),
        SectionText::Mime => (b"MIME", &[]),
        SectionText::HeaderFields(names) => (b"HEADER.FIELDS", names),
        SectionText::HeaderFieldsNot(names) => (b"HEADER.FIELDS.NOT", names),
    };
    if !section.part.is_empty() && !word.is_empty() {
        out.push(b'.');
    }
    out.extend_from_slice(word);
    for (i, name) in fields.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b" " } else { b" (" });
        encode::astring(out, name.as_bytes(), false);
    }
    if !fields.is_empty() {
        out.push(b')');
    }
    out.push(b']');
    write_origin(out, partial);
}

/// `1.2.3`
pub(super) fn write_part(out: &mut Vec<u8>, part: &[u32]) {
    for (i, number) in part.iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        encode::number(out, u64::from(*number));
    }
}

/// `<0> `, or only the space.
pub(super) fn write_origin(out: &mut Vec<u8>, partial: Option<Partial>) {
    if let Some(partial) = partial {
        out.push(b'<');
        encode::number(out, partial.offset);
        out.push(b'>');
    }
    out.push(b' ');
}

/// Writes a section's value; NIL if the message has no such section.
pub(super) async fn write(
    session: &mut Session,
    message: &Message<'_>,
    section: &Section,
    partial: Option<Partial>,
) -> Result<(), End> {
    let (text, selection) = match &section.text {
        SectionText::Whole => (mime::SectionText::Whole, None),
        SectionText::Header => (mime::SectionText::Header, None),
        SectionText::Text => (mime::SectionText::Text, None),
        SectionText::Mime => (mime::SectionText::Mime, None),
        SectionText::HeaderFields(names) => (mime::SectionText::Header, Some((names, false))),
        SectionText::HeaderFieldsNot(names) => (mime::SectionText::Header, Some((names, true))),
    };
    let Some(place) = find(message, &section.part, text) else {
        session.conn.out.push(b"NIL");
        return Ok(());
    };
    match selection {
        None => stream(session, message, place.cut(partial)).await,
        Some((names, not)) => {
            let block = read_header(session, message, place).await?;
            let names = names.iter().map(String::as_bytes);
            let mut fields = Vec::new();
            header::select(&block, names, not, &mut fields);
            let offset = partial.map_or(0, |p| p.offset.min(fields.len() as u64) as usize);
            let length = partial.map_or(u64::MAX, |p| p.length);
            let rest = &fields[offset..];
            let cut = &rest[..length.min(rest.len() as u64) as usize];
            session.conn.out.with_vec(|out| {
                encode::literal_start(out, cut.len() as u64);
                out.extend_from_slice(cut);
            });
            Ok(())
        }
    }
}

/// Where a section is. The message's own are found without the cache.
pub(super) fn find(message: &Message<'_>, part: &[u32], text: mime::SectionText) -> Option<Place> {
    let (size, header) = (u64::from(message.record.size), u64::from(message.record.header_size));
    if !part.is_empty() {
        let section = message.extras?.section(part, text)?;
        let stored = u64::from(section.stored.start)..u64::from(section.stored.end);
        return Some(Place { stored, skip: 0, size: u64::from(section.size) });
    }
    let stored = 0..message.file.stored_size();
    Some(match text {
        mime::SectionText::Whole => Place { stored, skip: 0, size },
        mime::SectionText::Header => Place { stored, skip: 0, size: header.min(size) },
        mime::SectionText::Text => {
            Place { stored, skip: header.min(size), size: size.saturating_sub(header) }
        }
        mime::SectionText::Mime => return None,
    })
}

/// Writes a literal of these bytes, piece by piece.
pub(super) async fn stream(
    session: &mut Session,
    message: &Message<'_>,
    place: Place,
) -> Result<(), End> {
    session.conn.out.with_vec(|out| encode::literal_start(out, place.size));
    let Place { stored, skip, size } = place;
    if size == 0 {
        return Ok(());
    }
    let mut reader = message.file.served(stored.start, stored.end, skip, size);
    let mut sent = 0;
    while sent < size {
        match reader.next().await {
            Ok(Some(piece)) => {
                sent += piece.len() as u64;
                session.conn.out.push_vec(piece);
                session.breathe().await?;
            }
            Ok(None) => return Err(cut_short(session, message, "file is shorter than its index")),
            Err(error) => return Err(cut_short(session, message, &error.to_string())),
        }
    }
    Ok(())
}

/// The end of a session that can't send what it announced.
pub(super) fn cut_short(session: &Session, message: &Message<'_>, reason: &str) -> End {
    let user = session.user.as_ref().map(engine::User::name);
    let reason = format!("uid {}: {reason}", message.record.uid);
    session.services.log_error(&session.conn, user, "send a message", &reason);
    End::Io(io::Error::new(io::ErrorKind::InvalidData, "message can't be read to its end"))
}

/// A header in memory; no more than [`HEADER_BYTES_MAX`] of it.
async fn read_header(
    session: &Session,
    message: &Message<'_>,
    place: Place,
) -> Result<Vec<u8>, End> {
    let size = place.size.min(HEADER_BYTES_MAX);
    let mut block = Vec::with_capacity(size as usize);
    let stored = place.stored;
    let mut reader = message.file.served(stored.start, stored.end, place.skip, size);
    loop {
        match reader.next().await {
            Ok(Some(piece)) => block.extend_from_slice(&piece),
            Ok(None) => return Ok(block),
            Err(error) => return Err(cut_short(session, message, &error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(section: Section, partial: Option<Partial>) -> String {
        let mut out = Vec::new();
        write_name(&mut out, &section, partial);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_written_as_asked() {
        let fields = SectionText::HeaderFields(vec!["To".into(), "x y".into()]);
        assert_eq!(
            name(
                Section { part: vec![1, 20], text: fields },
                Some(Partial { offset: 5, length: 9 })
            ),
            "BODY[1.20.HEADER.FIELDS (To \"x y\")]<5> "
        );
        assert_eq!(name(Section { part: vec![], text: SectionText::Whole }, None), "BODY[] ");
        assert_eq!(name(Section { part: vec![3], text: SectionText::Mime }, None), "BODY[3.MIME] ");
    }

    #[test]
    fn partials_are_cut_to_what_is_there() {
        let cut = |offset, length| {
            let place = Place { stored: 0..100, skip: 10, size: 50 };
            let cut = place.cut(Some(Partial { offset, length }));
            (cut.skip, cut.size)
        };
        assert_eq!(cut(0, 10), (10, 10));
        assert_eq!(cut(45, 10), (55, 5));
        assert_eq!(cut(50, 10), (60, 0));
        assert_eq!(cut(u64::MAX / 2, u64::MAX / 2), (60, 0));
    }
}
