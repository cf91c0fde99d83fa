//! Making segments: from messages, by way of memory, and from older segments.
//!
//! Invariants: memory is bounded, by [`BATCH_BYTES_MAX`] and by one block of each segment that is
//! merged; postings of a term rise by message.

use std::collections::HashMap;

use super::segment::{Doc, Posting, Postings, Segment, Terms, Writer, write_posting};
use super::tokens::BORDER;
use crate::error::{Error, Result};

/// Memory that the terms of messages take before they are written, in bytes.
pub(super) const BATCH_BYTES_MAX: usize = 32 << 20;
/// Terms that one message may bring along, in bytes. Beyond it is looked into at each search.
const MESSAGE_TERMS_BYTES_MAX: usize = 4 << 20;
/// What a term costs beside its own bytes: entry of the table, two allocations.
const TERM_COST_BYTES: usize = 128;

/// Terms of messages, in memory.
#[derive(Default)]
pub(super) struct Batch {
    terms: HashMap<Box<[u8]>, Entry>,
    docs: Vec<Doc>,
    content_id: [u8; 16],
    bytes: usize,
    /// Of the message that is being added.
    message_bytes: usize,
}

struct Entry {
    postings: Vec<u8>,
    /// The last message in `postings`.
    last: i64,
    /// The message that is not there yet, and how often the term is in its bodies.
    doc: u32,
    count: u32,
    in_header: bool,
}

impl Entry {
    fn settle(&mut self) {
        let in_body = match self.count {
            0 => 0,
            1 => 1,
            2..4 => 2,
            _ => 3,
        };
        let (doc, in_header) = (self.doc, self.in_header);
        write_posting(&mut self.postings, self.last, Posting { doc, in_header, in_body });
        self.last = i64::from(doc);
    }
}

impl Batch {
    /// A term of the message that is being added.
    pub(super) fn term(&mut self, term: &[u8], in_header: bool) {
        if self.message_bytes > MESSAGE_TERMS_BYTES_MAX {
            return;
        }
        let doc = self.docs.len() as u32;
        let count = u32::from(!in_header);
        if let Some(entry) = self.terms.get_mut(term) {
            if entry.doc != doc {
                let before = entry.postings.len();
                entry.settle();
                self.bytes += entry.postings.len() - before;
                (entry.doc, entry.count, entry.in_header) = (doc, 0, false);
            }
            entry.count = entry.count.saturating_add(count);
            entry.in_header |= in_header;
            return;
        }
        let cost = term.len() + TERM_COST_BYTES;
        self.bytes += cost;
        self.message_bytes += cost;
        let entry = Entry { postings: Vec::new(), last: -1, doc, count, in_header };
        self.terms.insert(term.into(), entry);
    }

    /// Ends the message whose terms were given. `readable`: they are all.
    pub(super) fn end_message(&mut self, uid: u32, content_id: [u8; 16], readable: bool) {
        let opaque = !readable || self.message_bytes > MESSAGE_TERMS_BYTES_MAX;
        self.docs.push(Doc { uid, opaque });
        self.content_id = content_id;
        self.bytes += size_of::<Doc>();
        self.message_bytes = 0;
    }

    /// Whether it should be written before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX
    }

    /// Messages in it.
    pub(super) fn docs(&self) -> &[Doc] {
        &self.docs
    }

    /// The content id of the last message.
    pub(super) fn content_id(&self) -> [u8; 16] {
        self.content_id
    }

    /// Writes all terms.
    pub(super) fn write(&mut self, writer: &mut Writer<'_>) -> Result<()> {
        let mut terms: Vec<(Box<[u8]>, Entry)> =
            std::mem::take(&mut self.terms).into_iter().collect();
        terms.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (term, mut entry) in terms {
            entry.settle();
            writer.add(&term, &entry.postings)?;
        }
        Ok(())
    }
}

/// Where a merge is in one of its segments.
struct Cursor<'a> {
    segment: &'a Segment,
    /// Number of the block behind the one in memory.
    next: usize,
    terms: Terms,
    postings: Vec<u8>,
    /// The term that is next: its number in the block and where it begins; its postings.
    term: usize,
    term_at: usize,
    postings_at: usize,
    /// New numbers of the messages; `u32::MAX` for those that are left out.
    numbers: Vec<u32>,
}

impl Cursor<'_> {
    /// Loads a block if the one in memory is used up. False at the end.
    fn ready(&mut self) -> Result<bool> {
        while self.term >= self.terms.lengths.len() {
            if self.next >= self.segment.block_count() {
                return Ok(false);
            }
            self.segment.terms(self.next, &mut self.terms)?;
            self.segment.postings(self.next, &mut self.postings)?;
            self.next += 1;
            (self.term, self.term_at, self.postings_at) = (0, 1, 0);
        }
        Ok(true)
    }

    fn term(&self) -> &[u8] {
        let rest = self.terms.list.get(self.term_at..).unwrap_or_default();
        &rest[..memchr::memchr(BORDER, rest).unwrap_or(rest.len())]
    }

    fn copy_postings(&self, last: &mut i64, out: &mut Vec<u8>) -> Result<()> {
        let end = self.postings_at.saturating_add(self.terms.lengths[self.term] as usize);
        let postings = self.postings.get(self.postings_at..end).ok_or_else(|| Error::Corrupt {
            path: self.segment.path.clone(),
            expected: "postings within their block",
            found: format!("some up to {end}"),
        })?;
        for posting in Postings::new(postings) {
            let number = self.numbers.get(posting.doc as usize).copied().unwrap_or(u32::MAX);
            if number != u32::MAX {
                write_posting(out, *last, Posting { doc: number, ..posting });
                *last = i64::from(number);
            }
        }
        Ok(())
    }

    fn advance(&mut self) {
        self.term_at += self.term().len() + 1;
        self.postings_at += self.terms.lengths[self.term] as usize;
        self.term += 1;
    }
}

/// Writes the terms of neighbouring segments, given by rising UID, as those of one. Returns its
/// messages: those that `keep` wants, and the last of all.
pub(super) fn merge(
    segments: &[&Segment],
    keep: impl Fn(u32) -> bool,
    writer: &mut Writer<'_>,
) -> Result<Vec<Doc>> {
    let mut docs = Vec::new();
    let mut cursors: Vec<Cursor<'_>> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let mut numbers = Vec::with_capacity(segment.docs().len());
        let last = segment.docs().len().saturating_sub(1);
        for (number, doc) in segment.docs().iter().enumerate() {
            // The file is known by its last message.
            let kept = keep(doc.uid) || index + 1 == segments.len() && number == last;
            numbers.push(if kept { docs.len() as u32 } else { u32::MAX });
            if kept {
                docs.push(*doc);
            }
        }
        cursors.push(Cursor {
            segment,
            next: 0,
            terms: Terms { list: Vec::new(), lengths: Vec::new() },
            postings: Vec::new(),
            term: 0,
            term_at: 1,
            postings_at: 0,
            numbers,
        });
    }
    let (mut term, mut postings) = (Vec::new(), Vec::new());
    loop {
        let mut least: Option<usize> = None;
        for index in 0..cursors.len() {
            if cursors[index].ready()?
                && least.is_none_or(|least| cursors[index].term() < cursors[least].term())
            {
                least = Some(index);
            }
        }
        let Some(least) = least else { return Ok(docs) };
        term.clear();
        term.extend_from_slice(cursors[least].term());
        postings.clear();
        let mut last = -1;
        for cursor in &mut cursors {
            if cursor.ready()? && cursor.term() == term {
                cursor.copy_postings(&mut last, &mut postings)?;
                cursor.advance();
            }
        }
        if !postings.is_empty() {
            writer.add(&term, &postings)?;
        }
    }
}
