//! A part of a message for those who do not write a FETCH: CATENATE (RFC 4469), URLFETCH (RFC 4467,
//! RFC 5524).

use engine::io::Lane;
use engine::{Mailbox, ServedReader, View};
use protocol::imap::command::{Partial, Section, SectionText, UrlItem};
use protocol::imap::url::ImapUrl;
use protocol::mime::part_structure::part_structure;
use protocol::mime::{self, header};
use protocol::types::Uid;

use super::super::reply::End;
use super::super::session::Session;
use super::super::url::section_of;
use super::plan::{Message, blob_of};
use super::section::{HEADER_BYTES_MAX, Place, find};
use super::{binary, section};

/// The bytes of a section, as `BODY[…]` would give them; at most a piece of them is in memory.
pub(in super::super) struct Part {
    source: Source,
    /// Octets still to come.
    left: u64,
}

enum Source {
    /// Chosen fields of a header.
    Memory(Option<Vec<u8>>),
    File(ServedReader),
}

impl Part {
    /// Finds a section of a message; `partial` is its first octet and how many at most. `None` when
    /// the message is not there or has no such section.
    pub(in super::super) async fn open(
        lane: &Lane,
        (mailbox, view): (&Mailbox, &View),
        uid: Uid,
        section: &Section,
        (offset, length): (u64, Option<u64>),
    ) -> engine::Result<Option<Part>> {
        let Some((_, record)) = view.record_of(uid) else { return Ok(None) };
        let (text, fields) = match &section.text {
            SectionText::Whole => (mime::SectionText::Whole, None),
            SectionText::Header => (mime::SectionText::Header, None),
            SectionText::Text => (mime::SectionText::Text, None),
            SectionText::Mime => (mime::SectionText::Mime, None),
            SectionText::HeaderFields(names) => (mime::SectionText::Header, Some((names, false))),
            SectionText::HeaderFieldsNot(names) => (mime::SectionText::Header, Some((names, true))),
        };
        let blob = match section.part.is_empty() {
            true => None,
            false => Some(blob_of(lane, false, mailbox, view, &record).await?),
        };
        let extras = blob.as_ref().and_then(|blob| blob.extras());
        let file = match mailbox.message(lane, &record).await {
            Err(engine::Error::Expunged(_)) => return Ok(None),
            opened => opened?,
        };
        let message = Message { record, extras, file: &file };
        let Some(place) = find(&message, &section.part, text) else { return Ok(None) };
        let Some((names, not)) = fields else {
            let place = place.from(offset, length.unwrap_or(u64::MAX));
            let Place { stored, skip, size } = place;
            let source = Source::File(file.served(stored.start, stored.end, skip, size));
            return Ok(Some(Part { source, left: size }));
        };
        let size = place.size.min(HEADER_BYTES_MAX);
        let mut reader = file.served(place.stored.start, place.stored.end, place.skip, size);
        let mut block = Vec::with_capacity(size as usize);
        while let Some(piece) = reader.next().await? {
            block.extend_from_slice(&piece);
        }
        let mut chosen = Vec::new();
        header::select(&block, names.iter().map(String::as_bytes), not, &mut chosen);
        chosen.drain(..(chosen.len() as u64).min(offset) as usize);
        chosen.truncate(length.map_or(usize::MAX, |length| length as usize));
        let left = chosen.len() as u64;
        Ok(Some(Part { source: Source::Memory(Some(chosen)), left }))
    }

    /// Octets still to come.
    pub(in super::super) fn left(&self) -> u64 {
        self.left
    }

    /// The next piece; `None` behind the last.
    ///
    /// # Errors
    /// `Corrupt` when the file is shorter than what was announced.
    pub(in super::super) async fn next(&mut self) -> engine::Result<Option<Vec<u8>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let piece = match &mut self.source {
            Source::Memory(bytes) => bytes.take(),
            Source::File(reader) => reader.next().await?,
        };
        let Some(piece) = piece else {
            return Err(engine::Error::Corrupt {
                path: Default::default(),
                expected: "a message file as long as its index says",
                found: format!("{} octets less", self.left),
            });
        };
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok(Some(piece))
    }
}

/// Writes what a URL names, behind the URL: ` {n}…`, or an item each in parentheses. `false` (nothing
/// was written) when it names nothing.
pub(in super::super) async fn write_url(
    session: &mut Session,
    (mailbox, view): (&Mailbox, &View),
    url: &ImapUrl,
    items: Option<&[UrlItem]>,
) -> Result<bool, End> {
    let failed = |session: &Session, error: &engine::Error| {
        let _ = session.failure("follow a URL", error, "NONEXISTENT");
        Ok(false)
    };
    let Some((_, record)) = url.uid.and_then(|uid| view.record_of(uid)) else { return Ok(false) };
    let lane = session.services.lane.clone();
    let blob = match blob_of(&lane, false, mailbox, view, &record).await {
        Ok(blob) => blob,
        Err(error) => return failed(session, &error),
    };
    let file = match mailbox.message(&lane, &record).await {
        Ok(file) => file,
        Err(error) => return failed(session, &error),
    };
    let message = Message { record, extras: blob.extras(), file: &file };
    let asked = section_of(url);
    let text = match &asked.text {
        SectionText::Whole => mime::SectionText::Whole,
        SectionText::Text => mime::SectionText::Text,
        SectionText::Mime => mime::SectionText::Mime,
        _ => mime::SectionText::Header,
    };
    if find(&message, &asked.part, text).is_none() {
        return Ok(false);
    }
    let partial = url.partial.map(|(offset, length)| {
        // Less than 2^63, so that both fit into the file offsets below.
        Partial { offset, length: length.unwrap_or(i64::MAX as u64) }
    });
    let Some(items) = items else {
        session.conn.out.push(b" ");
        section::write(session, &message, &asked, partial).await?;
        return Ok(true);
    };
    let is_part = asked.text == SectionText::Whole;
    for item in items {
        match item {
            UrlItem::Body => {
                session.conn.out.push(b" (BODY ");
                section::write(session, &message, &asked, partial).await?;
            }
            UrlItem::Binary => {
                session.conn.out.push(b" (BINARY ");
                match is_part {
                    true => {
                        drop(binary::write_value(session, &message, &asked.part, partial).await?)
                    }
                    false => section::write(session, &message, &asked, partial).await?,
                }
            }
            UrlItem::Structure => {
                let whole =
                    message.extras.filter(|_| is_part).map(|extras| extras.body_structure());
                let structure = whole.and_then(|whole| part_structure(whole, &asked.part));
                session.conn.out.push(b" (BODYPARTSTRUCTURE ");
                session.conn.out.push(structure.unwrap_or(b"NIL"));
            }
        }
        session.conn.out.push(b")");
    }
    Ok(true)
}
