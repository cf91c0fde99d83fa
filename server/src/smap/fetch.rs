//! FETCH: attributes on one line; headers in dot-stuffed lines, bodies in counted pieces.
//!
//! Parts have numbers of SMAP's own: `1` is the message, `1.2` its second part, and `1.2.0` the
//! message inside a part that is one.

use std::fmt::Write as _;
use std::ops::Range;

use engine::message::Extras;
use engine::{MessageFile, Record};
use protocol::mime::transfer::Decoder;
use protocol::mime::{Encoding, Kind, header};
use protocol::smap::{Attribute, Content, Entity, MessageSet, quoted};
use protocol::types::{SeqNum, SystemFlags};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::open::{Open, not_open};
use super::{Answer, Session, Stop};

/// Longest header that is read; the rest of a longer one isn't told.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// Header fields that `:ENVELOPE` stands for.
const ENVELOPE: [&str; 11] = [
    "DATE",
    "SUBJECT",
    "FROM",
    "SENDER",
    "REPLY-TO",
    "TO",
    "CC",
    "BCC",
    "IN-REPLY-TO",
    "MESSAGE-ID",
    "REFERENCES",
];

impl Session {
    pub(super) async fn fetch(
        &mut self,
        set: &MessageSet,
        attributes: &[Attribute],
        contents: &[Content],
    ) -> Answer {
        let Some(open) = self.open.as_ref() else { return Ok(Err(not_open())) };
        let messages: Vec<(SeqNum, Record)> = open.records(set).collect();
        for content in contents {
            for (seq, record) in &messages {
                if let Err(text) = self.content(*seq, record, content).await? {
                    return Ok(Err(text));
                }
            }
        }
        if !attributes.is_empty() {
            for (seq, record) in &messages {
                // Flags may have changed by what was read.
                let Some(open) = self.open.as_ref() else { return Ok(Err(not_open())) };
                let record = open.view.record(*seq).unwrap_or(*record);
                let line = attributes_line(open, *seq, &record, attributes);
                self.conn.out.push(line.as_bytes());
                if self.conn.out.is_high() {
                    self.breathe().await?;
                }
            }
        }
        Ok(Ok("Message retrieved."))
    }

    /// One content of one message; then SEEN, where it is due.
    async fn content(
        &mut self,
        seq: SeqNum,
        record: &Record,
        content: &Content,
    ) -> Result<Result<(), String>, Stop> {
        let Some(open) = self.open.as_ref() else { return Ok(Err(not_open())) };
        let lane = &self.services.lane;
        let loaded = async {
            let extras = open.mailbox.extras(lane, record).await?;
            Ok((extras, open.mailbox.message(lane, record).await?))
        };
        let (extras, file) = match loaded.await {
            Ok(loaded) => loaded,
            Err(error) => return Ok(Err(self.failure("read a message", &error))),
        };
        let Some(extras) = extras.extras() else {
            return Ok(Err("the message can't be read".to_owned()));
        };
        if content.entity == Entity::Mime {
            for index in 0..extras.part_count() {
                self.header(seq, &extras, &file, index, content).await?;
            }
        } else {
            let Some(index) = find(&extras, &content.part) else {
                return Ok(Err("no such part".to_owned()));
            };
            match content.entity {
                Entity::Headers | Entity::RawHeaders => {
                    self.header(seq, &extras, &file, index, content).await?;
                }
                _ => self.body((seq, record), &extras, &file, index, content.entity).await?,
            }
        }
        if !content.peek && !self.read_only && !record.flags.contains(SystemFlags::SEEN) {
            self.mark_seen(record).await?;
        }
        Ok(Ok(()))
    }

    async fn mark_seen(&mut self, record: &Record) -> Result<(), Stop> {
        let Some(open) = self.open.as_ref() else { return Ok(()) };
        let request = engine::StoreRequest {
            uids: vec![record.uid],
            mode: engine::StoreMode::Add,
            flags: SystemFlags::SEEN,
            keywords: Vec::new(),
            unchanged_since: None,
        };
        match open.mailbox.store(request).await {
            Ok(_) => self.tell_stored(&[record.uid]).await,
            Err(error) => {
                self.failure("mark a message as seen", &error);
                Ok(())
            }
        }
    }

    /// `{.size} FETCH 1 HEADERS`, or for MIME with what the part is; then its header, a field a
    /// line, unfolded unless it is wanted as it stands.
    async fn header(
        &mut self,
        seq: SeqNum,
        extras: &Extras<'_>,
        file: &MessageFile,
        index: usize,
        content: &Content,
    ) -> Result<(), Stop> {
        let Some(part) = extras.part(index) else { return Ok(()) };
        let size = part.header.end - part.header.start;
        let mut text = format!("{{.{size}}} FETCH {seq} ");
        match content.entity {
            Entity::Mime => {
                let _ = write!(text, "LINES={} SIZE={} ", part.lines, part.body_size);
                text.push_str(&quoted(&format!(
                    "MIME.ID={}",
                    part.parent.map_or(String::new(), |_| number(extras, index))
                )));
                if let Some(parent) = part.parent.map(usize::from) {
                    let above = extras.part(parent).and_then(|p| p.parent);
                    let name = above.map_or(String::new(), |_| number(extras, parent));
                    let _ = write!(text, " {}", quoted(&format!("MIME.PARENT={name}")));
                }
            }
            Entity::RawHeaders => text.push_str("RAWHEADERS"),
            _ => text.push_str("HEADERS"),
        }
        text.push('\n');
        let mut out = text.into_bytes();
        let block = self.read(file, part.header.clone(), HEADER_BYTES_MAX).await?;
        for field in header::fields(&block).filter(|f| is_wanted(&content.headers, f.name)) {
            match content.entity {
                Entity::RawHeaders => {
                    for line in field.raw.split_inclusive(|&b| b == b'\n') {
                        let line = line.trim_ascii_end();
                        if line.starts_with(b".") {
                            out.push(b'.');
                        }
                        out.extend_from_slice(line);
                        out.push(b'\n');
                    }
                }
                _ => {
                    if field.name.starts_with(b".") {
                        out.push(b'.');
                    }
                    out.extend_from_slice(field.name);
                    out.extend_from_slice(b": ");
                    let value: Vec<u8> = field
                        .value
                        .iter()
                        .copied()
                        .filter(|b| !matches!(b, b'\r' | b'\n'))
                        .map(|b| if b == b'\t' { b' ' } else { b })
                        .collect();
                    out.extend_from_slice(value.trim_ascii());
                    out.push(b'\n');
                }
            }
        }
        out.extend_from_slice(b".\n");
        self.conn.out.push_vec(out);
        self.breathe().await
    }

    /// `{piece/whole} FETCH 1 CONTENTS`, the piece, further pieces each behind its size.
    async fn body(
        &mut self,
        (seq, record): (SeqNum, &Record),
        extras: &Extras<'_>,
        file: &MessageFile,
        index: usize,
        entity: Entity,
    ) -> Result<(), Stop> {
        let Some(part) = extras.part(index) else { return Ok(()) };
        let stored = match entity {
            Entity::All => part.header.start..part.body.end,
            _ => part.body.clone(),
        };
        let encoding = match (entity, part.kind) {
            (Entity::Decoded, Kind::Leaf) => part.encoding,
            _ => Encoding::SevenBit,
        };
        // An estimate is enough: each piece has its own size.
        let header = part.header.end - part.header.start;
        let whole = match (encoding, entity) {
            (Encoding::Base64, _) => part.body_size / 4 * 3,
            (_, Entity::All) if index == 0 => record.size,
            (_, Entity::All) => part.body_size.saturating_add(header),
            _ => part.body_size,
        };
        let mut decoder = Decoder::new(encoding);
        let mut reader = file.served(u64::from(stored.start), u64::from(stored.end), 0, u64::MAX);
        let mut first = true;
        loop {
            let piece = reader.next().await.map_err(|e| Stop::Cut(format!("breaks off: {e}")))?;
            let mut out = Vec::new();
            let last = match piece {
                Some(piece) => {
                    decoder.feed(&piece, &mut out);
                    false
                }
                None => {
                    std::mem::replace(&mut decoder, Decoder::Identity).finish(&mut out);
                    true
                }
            };
            if !out.is_empty() {
                let size = out.len();
                let head = match first {
                    true => format!("{{{size}/{whole}}} FETCH {seq} CONTENTS\n"),
                    false => format!("{size}\n"),
                };
                first = false;
                self.conn.out.push(head.as_bytes());
                self.conn.out.push_vec(out);
                self.breathe().await?;
            }
            if last {
                break;
            }
        }
        let end = match first {
            true => format!("{{.0}} FETCH {seq} CONTENTS\n.\n"),
            false => "\n".to_owned(),
        };
        self.conn.out.push(end.as_bytes());
        Ok(())
    }

    async fn read(
        &self,
        file: &MessageFile,
        stored: Range<u32>,
        bytes_max: u64,
    ) -> Result<Vec<u8>, Stop> {
        let mut reader = file.served(u64::from(stored.start), u64::from(stored.end), 0, bytes_max);
        let mut block = Vec::new();
        while let Some(piece) =
            reader.next().await.map_err(|e| Stop::Cut(format!("breaks off: {e}")))?
        {
            block.extend_from_slice(&piece);
        }
        Ok(block)
    }
}

fn attributes_line(open: &Open, seq: SeqNum, record: &Record, all: &[Attribute]) -> String {
    let mut line = format!("* FETCH {seq}");
    for attribute in all {
        let _ = match attribute {
            Attribute::Uid => {
                write!(line, " \"UID={}/{}\"", open.view.uid_validity().0, record.uid.0)
            }
            Attribute::Size => write!(line, " SIZE={}", record.size),
            Attribute::Flags => write!(line, " {}", Open::flags(record)),
            Attribute::Keywords => write!(line, " {}", open.keywords(record)),
            Attribute::InternalDate => {
                let date = OffsetDateTime::from_unix_timestamp(record.internal_date).ok();
                let date = date.and_then(|d| d.format(&Rfc2822).ok()).unwrap_or_default();
                write!(line, " {}", quoted(&format!("INTERNALDATE={date}")))
            }
        };
    }
    line.push('\n');
    line
}

fn is_wanted(names: &[String], name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return names.is_empty() };
    let name = name.to_ascii_uppercase();
    let envelope = || ENVELOPE.contains(&&*name);
    names.is_empty()
        || names.iter().any(|wanted| match wanted.as_str() {
            ":ENVELOPE" => envelope(),
            ":MIME" => envelope() || name == "MIME-VERSION" || name.starts_with("CONTENT-"),
            wanted => wanted == name,
        })
}

/// The parts directly inside a part, in order.
fn children<'e>(extras: &'e Extras<'_>, index: usize) -> impl Iterator<Item = usize> + 'e {
    let is_child =
        move |at: &usize| extras.part(*at).and_then(|p| p.parent).map(usize::from) == Some(index);
    (0..extras.part_count()).filter(is_child)
}

/// The part of that number; of none: the message.
fn find(extras: &Extras<'_>, path: &[u32]) -> Option<usize> {
    let (first, rest) = match path.split_first() {
        None => return Some(0),
        Some(split) => split,
    };
    if *first != 1 {
        return None;
    }
    let mut index = 0;
    for &number in rest {
        let inside = extras.part(index)?.kind == Kind::Message;
        let nth = if inside { number } else { number.checked_sub(1)? };
        index = children(extras, index).nth(nth as usize)?;
    }
    Some(index)
}

/// The number of a part.
fn number(extras: &Extras<'_>, index: usize) -> String {
    let Some(parent) = extras.part(index).and_then(|p| p.parent).map(usize::from) else {
        return "1".to_owned();
    };
    let inside = extras.part(parent).is_some_and(|p| p.kind == Kind::Message);
    let nth = children(extras, parent).position(|child| child == index).unwrap_or(0);
    format!("{}.{}", number(extras, parent), if inside { nth } else { nth + 1 })
}
