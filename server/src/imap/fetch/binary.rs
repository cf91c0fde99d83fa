//! `BINARY[…]` and `BINARY.SIZE[…]`: RFC 3516, transfer encodings undone here.

use protocol::imap::command::Partial;
use protocol::imap::encode;
use protocol::mime::transfer::Decoder;
use protocol::mime::{Encoding, Kind, SectionText};

use engine::message::Section;

use super::super::reply::{End, Reply};
use super::super::session::Session;
use super::plan::Message;
use super::section::{Place, cut_short, stream, write_origin, write_part};

/// Decoded parts up to this size are decoded once; larger ones once for their size and once more
/// for their bytes.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// What a part's bytes need to be served.
enum Way {
    /// Nothing.
    Identity,
    /// To be decoded.
    Decode,
    /// More than we know.
    Unknown,
}

fn way(section: &Section) -> Way {
    match (section.kind, section.encoding) {
        (Kind::Multipart | Kind::Message, _) => Way::Identity,
        (_, Encoding::SevenBit | Encoding::EightBit | Encoding::Binary) => Way::Identity,
        (_, Encoding::Base64 | Encoding::QuotedPrintable) => Way::Decode,
        (_, Encoding::Other) => Way::Unknown,
    }
}

fn find(message: &Message<'_>, part: &[u32]) -> Option<Section> {
    let section = message.extras?.section(part, SectionText::Whole)?;
    // The message as a whole is not encoded, whatever its one part says.
    Some(if part.is_empty() { Section { kind: Kind::Message, ..section } } else { section })
}

fn unknown() -> Reply {
    Reply::no("The part's transfer encoding is not known").word("UNKNOWN-CTE")
}

/// `BINARY.SIZE[1] 99`
pub(super) async fn write_size(
    session: &mut Session,
    message: &Message<'_>,
    part: &[u32],
) -> Result<Option<Reply>, End> {
    let (size, reply) = match find(message, part) {
        None => (0, None),
        Some(section) => match way(&section) {
            Way::Identity => (u64::from(section.size), None),
            Way::Decode => (decode(session, message, &section).await?.size, None),
            Way::Unknown => (0, Some(unknown())),
        },
    };
    session.conn.out.with_vec(|out| {
        out.extend_from_slice(b"BINARY.SIZE[");
        write_part(out, part);
        out.extend_from_slice(b"] ");
        encode::number(out, size);
    });
    Ok(reply)
}

/// `BINARY[1] ~{4}…`
pub(super) async fn write(
    session: &mut Session,
    message: &Message<'_>,
    part: &[u32],
    partial: Option<Partial>,
) -> Result<Option<Reply>, End> {
    session.conn.out.with_vec(|out| {
        out.extend_from_slice(b"BINARY[");
        write_part(out, part);
        out.push(b']');
        write_origin(out, partial);
    });
    write_value(session, message, part, partial).await
}

/// The decoded octets alone.
pub(super) async fn write_value(
    session: &mut Session,
    message: &Message<'_>,
    part: &[u32],
    partial: Option<Partial>,
) -> Result<Option<Reply>, End> {
    let Some(section) = find(message, part) else {
        session.conn.out.push(b"NIL");
        return Ok(None);
    };
    match way(&section) {
        Way::Unknown => {
            session.conn.out.push(b"NIL");
            return Ok(Some(unknown()));
        }
        Way::Identity => {
            let stored = u64::from(section.stored.start)..u64::from(section.stored.end);
            let place = Place { stored, skip: 0, size: u64::from(section.size) };
            // A NUL needs a literal8; where the message has one, this part is looked through.
            let may_have = message.extras.is_some_and(|extras| extras.has_nul());
            if may_have && decode(session, message, &section).await?.has_nul {
                session.conn.out.push(b"~");
            }
            stream(session, message, place.cut(partial)).await?;
        }
        Way::Decode => write_decoded(session, message, &section, partial).await?,
    }
    Ok(None)
}

/// What one pass over a part found.
struct Decoded {
    /// Decoded octets.
    size: u64,
    /// Whether NUL is among them.
    has_nul: bool,
    /// The octets, if they are few.
    kept: Option<Vec<u8>>,
}

async fn decode(
    session: &Session,
    message: &Message<'_>,
    section: &Section,
) -> Result<Decoded, End> {
    let mut decoded = Decoded { size: 0, has_nul: false, kept: Some(Vec::new()) };
    let mut pieces = Pieces::new(message, section);
    while let Some(piece) = pieces.next(session, message).await? {
        decoded.size += piece.len() as u64;
        decoded.has_nul |= piece.contains(&0);
        if decoded.size > KEPT_BYTES_MAX as u64 {
            decoded.kept = None;
        } else if let Some(kept) = &mut decoded.kept {
            kept.extend_from_slice(&piece);
        }
    }
    Ok(decoded)
}

async fn write_decoded(
    session: &mut Session,
    message: &Message<'_>,
    section: &Section,
    partial: Option<Partial>,
) -> Result<(), End> {
    let decoded = decode(session, message, section).await?;
    let offset = partial.map_or(0, |p| p.offset.min(decoded.size));
    let length = partial.map_or(u64::MAX, |p| p.length).min(decoded.size - offset);
    session.conn.out.with_vec(|out| {
        if decoded.has_nul {
            out.push(b'~');
        }
        encode::literal_start(out, length);
    });
    if let Some(kept) = &decoded.kept {
        let (start, end) = (offset as usize, (offset + length) as usize);
        session.conn.out.push(&kept[start..end]);
        return Ok(());
    }
    let (mut at, end) = (0, offset + length);
    let mut pieces = Pieces::new(message, section);
    while at < end {
        let Some(piece) = pieces.next(session, message).await? else {
            return Err(cut_short(session, message, "file has changed"));
        };
        let next = at + piece.len() as u64;
        let from = offset.clamp(at, next) - at;
        let to = end.clamp(at, next) - at;
        session.conn.out.push(&piece[from as usize..to as usize]);
        session.breathe().await?;
        at = next;
    }
    Ok(())
}

/// A part's octets, decoded piece by piece.
struct Pieces {
    reader: engine::ServedReader,
    decoder: Option<Decoder>,
}

impl Pieces {
    fn new(message: &Message<'_>, section: &Section) -> Pieces {
        let (start, end) = (u64::from(section.stored.start), u64::from(section.stored.end));
        let reader = message.file.served(start, end, 0, u64::from(section.size));
        Pieces { reader, decoder: Some(Decoder::new(section.encoding)) }
    }

    async fn next(
        &mut self,
        session: &Session,
        message: &Message<'_>,
    ) -> Result<Option<Vec<u8>>, End> {
        let mut out = Vec::new();
        match self.reader.next().await {
            Ok(Some(piece)) => {
                if let Some(decoder) = &mut self.decoder {
                    decoder.feed(&piece, &mut out);
                }
                Ok(Some(out))
            }
            Ok(None) => Ok(self.decoder.take().map(|decoder| {
                decoder.finish(&mut out);
                out
            })),
            Err(error) => Err(cut_short(session, message, &error.to_string())),
        }
    }
}
