//! IMAP section paths to byte ranges: RFC 3501 section 6.4.5, RFC 9051 section 6.4.5.1.
//!
//! Works on any [`PartTable`], so that a cached table answers as the parser's own does.

use super::structure::{Kind, Position, Structure};

/// What a section needs to know of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartEntry {
    /// Index of the enclosing part.
    pub parent: Option<u16>,
    /// How it is made up.
    pub kind: Kind,
    /// Where its header starts.
    pub header_start: Position,
    /// Where its body starts.
    pub body_start: Position,
    /// Where its body ends.
    pub end: Position,
}

/// A flat part table in the order of [`Structure::parts`].
pub trait PartTable {
    /// The part of that index; `None` behind the last.
    fn entry(&self, index: usize) -> Option<PartEntry>;
}

impl PartTable for Structure {
    fn entry(&self, index: usize) -> Option<PartEntry> {
        let part = self.parts().get(index)?;
        Some(PartEntry {
            parent: part.parent,
            kind: part.kind,
            header_start: part.header_start,
            body_start: part.body_start,
            end: part.end,
        })
    }
}

/// The word behind the numbers of a section. HEADER.FIELDS reads the range of `Header`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionText {
    /// No word: the message, or the body of the part.
    Whole,
    /// `HEADER`: with the empty line that ends it.
    Header,
    /// `TEXT`
    Text,
    /// `MIME`: the part's own header.
    Mime,
}

/// Where a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionRange {
    /// Index of the part that the section belongs to.
    pub part: usize,
    /// First octet.
    pub start: Position,
    /// Behind the last octet.
    pub end: Position,
}

/// Finds a section. `None` when the message has no such part, when HEADER or TEXT is asked of a
/// part that is not a message, or MIME of the message itself.
pub fn find(table: &impl PartTable, path: &[u32], text: SectionText) -> Option<SectionRange> {
    let Some(index) = resolve(table, path)? else {
        return message_range(table, 0, text);
    };
    let part = table.entry(index)?;
    let range = |start, end| Some(SectionRange { part: index, start, end });
    match text {
        SectionText::Whole => range(part.body_start, part.end),
        SectionText::Mime => range(part.header_start, part.body_start),
        SectionText::Header | SectionText::Text if part.kind == Kind::Message => {
            message_range(table, message_inside(table, index)?, text)
        }
        SectionText::Header | SectionText::Text => None,
    }
}

fn message_range(table: &impl PartTable, index: usize, text: SectionText) -> Option<SectionRange> {
    let message = table.entry(index)?;
    let range = |start, end| Some(SectionRange { part: index, start, end });
    match text {
        SectionText::Whole => range(message.header_start, message.end),
        SectionText::Header => range(message.header_start, message.body_start),
        SectionText::Text => range(message.body_start, message.end),
        SectionText::Mime => None,
    }
}

/// The part that a path of numbers leads to: `Some(None)` for the empty path.
fn resolve(table: &impl PartTable, path: &[u32]) -> Option<Option<usize>> {
    let Some((&first, rest)) = path.split_first() else { return Some(None) };
    let mut index = part_of_message(table, 0, first)?;
    for &number in rest {
        index = match table.entry(index)?.kind {
            Kind::Multipart => child(table, index, number)?,
            Kind::Message => part_of_message(table, message_inside(table, index)?, number)?,
            Kind::Leaf => return None,
        };
    }
    Some(Some(index))
}

/// Part `number` of a message: a child of its multipart, or for any other body the body itself
/// as part 1.
fn part_of_message(table: &impl PartTable, message: usize, number: u32) -> Option<usize> {
    if table.entry(message)?.kind == Kind::Multipart {
        child(table, message, number)
    } else {
        (number == 1).then_some(message)
    }
}

fn message_inside(table: &impl PartTable, index: usize) -> Option<usize> {
    child(table, index, 1)
}

fn child(table: &impl PartTable, parent: usize, number: u32) -> Option<usize> {
    let nth = (number as usize).checked_sub(1)?;
    let parent = u16::try_from(parent).ok()?;
    // Descendants stand behind their ancestor, so the first entry whose parent is before ours
    // ends the search.
    let mut found = 0;
    let mut index = usize::from(parent) + 1;
    while let Some(entry) = table.entry(index) {
        let of = entry.parent?;
        if of < parent {
            return None;
        }
        if of == parent {
            if found == nth {
                return Some(index);
            }
            found += 1;
        }
        index += 1;
    }
    None
}

/// Reads `1.2.MIME`, `HEADER`, `2`, and the empty string. Words are taken in any case;
/// HEADER.FIELDS is the caller's.
pub fn parse(section: &[u8]) -> Option<(Vec<u32>, SectionText)> {
    let mut path = Vec::new();
    if section.is_empty() {
        return Some((path, SectionText::Whole));
    }
    let mut pieces = section.split(|&b| b == b'.').peekable();
    while let Some(piece) = pieces.next() {
        if piece.first().is_some_and(|b| matches!(b, b'1'..=b'9')) {
            path.push(std::str::from_utf8(piece).ok()?.parse().ok()?);
            continue;
        }
        const WORDS: [(&[u8], SectionText); 3] = [
            (b"HEADER", SectionText::Header),
            (b"TEXT", SectionText::Text),
            (b"MIME", SectionText::Mime),
        ];
        let (_, text) = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(piece))?;
        let fits = pieces.peek().is_none() && (*text != SectionText::Mime || !path.is_empty());
        return fits.then_some((path, *text));
    }
    Some((path, SectionText::Whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_parsed() {
        assert_eq!(parse(b""), Some((vec![], SectionText::Whole)));
        assert_eq!(parse(b"1.20"), Some((vec![1, 20], SectionText::Whole)));
        assert_eq!(parse(b"3.mime"), Some((vec![3], SectionText::Mime)));
        assert_eq!(parse(b"HEADER"), Some((vec![], SectionText::Header)));
        for bad in ["MIME", "1.", "0", "1.0", "TEXT.1", "1.X", "99999999999", "."] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
