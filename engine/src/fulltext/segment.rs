//! One file of the full-text index: the terms of a stretch of a mailbox's messages.
//!
//! Written once, under a temporary name, synced, renamed: a file with its proper name is whole, or
//! its checksums say that it isn't. Nothing is believed before its checksum was compared.
//!
//! Header, 128 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `CURSFTS\x01` |
//! | 8 | 4 | version (1) |
//! | 12 | 4 | rules by which text was cut; readers drop files with others |
//! | 16 | 16 | store id |
//! | 32 | 16 | mailbox id |
//! | 48 | 4 | UIDVALIDITY |
//! | 52 | 4 | first UID covered |
//! | 56 | 4 | last UID covered |
//! | 60 | 4 | number of messages |
//! | 64 | 4 | number of blocks |
//! | 68 | 4 | number of terms, modulo 2^32 |
//! | 72 | 8 | offset of the list of messages |
//! | 80 | 8 | offset of the block table |
//! | 88 | 8 | length of the file |
//! | 96 | 16 | content id of the last message |
//! | 112 | 4 | CRC of the list of messages |
//! | 116 | 4 | CRC of the block table |
//! | 120 | 4 | zero |
//! | 124 | 4 | CRC of bytes 0-123 |
//!
//! Then, one behind the other: the postings of all blocks, the terms of all blocks, the list of
//! messages, the block table.
//!
//! List of messages, 8 bytes each, by rising UID; a message's place in it is its number:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | UID |
//! | 4 | 4 | bit 0: its terms are not here (unreadable, or too many): look into the message |
//!
//! Block table, 40 bytes a block:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | offset of its terms |
//! | 8 | 8 | offset of its postings |
//! | 16 | 4 | bytes of its terms: a line feed, then each term and a line feed, in byte order |
//! | 20 | 4 | bytes of the lengths behind them: a varint a term, of its postings in bytes |
//! | 24 | 4 | bytes of its postings |
//! | 28 | 4 | number of its terms |
//! | 32 | 4 | CRC of terms and lengths |
//! | 36 | 4 | CRC of the postings |
//!
//! A posting is a varint: the number of the message less that of the posting before (from -1), times
//! eight, plus 4 if the term is in a header, plus how often it is in bodies: 0, 1 (once),
//! 2 (twice or three times), 3 (more often). Varints have seven bits a byte, the lowest first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::types::UidValidity;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::tokens::{BORDER, RULES};
use crate::error::{Error, Result};
use crate::format::crc;
use crate::ids::{MailboxId, StoreId};
use crate::io::{Open, Storage, StoredFile};

const MAGIC: [u8; 8] = *b"CURSFTS\x01";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 128;
/// A block is closed when its terms, or its postings, take this many bytes.
const BLOCK_TERMS_BYTES: usize = 32 << 10;
const BLOCK_POSTINGS_BYTES: usize = 1 << 20;
/// More is damage: one term beyond the limits above, in every message that a mailbox can have.
const BLOCK_BYTES_MAX: usize = 256 << 20;
/// Copied at once.
const COPY_BYTES: usize = 256 << 10;
/// Bit of a message whose terms are not in the file.
const OPAQUE: u32 = 1;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    rules: U32,
    store_id: [u8; 16],
    mailbox_id: [u8; 16],
    uid_validity: U32,
    uid_first: U32,
    uid_last: U32,
    messages: U32,
    blocks: U32,
    terms: U32,
    messages_at: U64,
    blocks_at: U64,
    length: U64,
    content_id: [u8; 16],
    messages_crc: U32,
    blocks_crc: U32,
    zero: U32,
    crc: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Listed {
    uid: U32,
    flags: U32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Block {
    terms_at: U64,
    postings_at: U64,
    terms: U32,
    lengths: U32,
    postings: U32,
    count: U32,
    terms_crc: U32,
    postings_crc: U32,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(std::mem::offset_of!(Header, messages_at) == 72);
const _: () = assert!(std::mem::offset_of!(Header, crc) == 124);
const _: () = assert!(size_of::<Listed>() == 8);
const _: () = assert!(size_of::<Block>() == 40);
const _: () = assert!(std::mem::offset_of!(Block, terms_crc) == 32);

/// Whose index a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) store: StoreId,
    pub(crate) mailbox: MailboxId,
    pub(crate) uid_validity: UidValidity,
}

/// A message in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doc {
    pub(super) uid: u32,
    /// Its terms are not there.
    pub(super) opaque: bool,
}

/// Where a term is in one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Posting {
    /// Number of the message.
    pub(super) doc: u32,
    pub(super) in_header: bool,
    /// 0: not in a body; 1: once; 2: twice or three times; 3: more often.
    pub(super) in_body: u8,
}

/// Appends a posting; `last` is the number of the one before, -1 for the first.
pub(super) fn write_posting(out: &mut Vec<u8>, last: i64, posting: Posting) {
    let step = (i64::from(posting.doc) - last) as u64;
    let header = if posting.in_header { 4 } else { 0 };
    write_varint(out, step << 3 | header | u64::from(posting.in_body & 3));
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..42).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Reads postings; ends at the first that makes no sense.
pub(super) struct Postings<'a> {
    rest: &'a [u8],
    last: i64,
}

impl<'a> Postings<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Postings<'a> {
        Postings { rest: bytes, last: -1 }
    }
}

impl Iterator for Postings<'_> {
    type Item = Posting;

    fn next(&mut self) -> Option<Posting> {
        let value = read_varint(&mut self.rest)?;
        self.last += (value >> 3) as i64;
        let doc = u32::try_from(self.last).ok()?;
        Some(Posting { doc, in_header: value & 4 != 0, in_body: (value & 3) as u8 })
    }
}

/// Writes a segment term by term.
pub(super) struct Writer<'a> {
    storage: &'a dyn Storage,
    /// Header and postings, later all.
    file: Arc<dyn StoredFile>,
    path: PathBuf,
    at: u64,
    /// The terms of all blocks, until the postings are written.
    side: Arc<dyn StoredFile>,
    side_path: PathBuf,
    side_at: u64,
    terms: Vec<u8>,
    lengths: Vec<u8>,
    postings: Vec<u8>,
    count: u32,
    blocks: Vec<Block>,
    total: u32,
}

/// What a finished segment covers.
pub(super) struct Cover<'a> {
    pub(super) owner: Owner,
    pub(super) uid_first: u32,
    pub(super) uid_last: u32,
    pub(super) docs: &'a [Doc],
    /// Of the last of `docs`.
    pub(super) content_id: [u8; 16],
}

/// Ends the name of what is not whole yet.
pub(super) const TEMPORARY: &str = ".tmp";
/// Ends the name of a segment.
pub(super) const SUFFIX: &str = ".fts";

impl<'a> Writer<'a> {
    /// Begins a segment in a directory, which must be there.
    pub(super) fn new(storage: &'a dyn Storage, dir: &Path) -> Result<Writer<'a>> {
        let create = |name: &str| {
            let path = dir.join(format!("{name}{TEMPORARY}"));
            let _ = storage.unlink(&path);
            let file = storage.open(&path, Open::CreateNew).map_err(Error::io("create", &path))?;
            Ok::<_, Error>((file, path))
        };
        let ((file, path), (side, side_path)) = (create("segment")?, create("terms")?);
        Ok(Writer {
            storage,
            file,
            path,
            at: HEADER_BYTES as u64,
            side,
            side_path,
            side_at: 0,
            terms: vec![BORDER],
            lengths: Vec::new(),
            postings: Vec::new(),
            count: 0,
            blocks: Vec::new(),
            total: 0,
        })
    }

    /// Adds a term, in byte order, with its postings.
    pub(super) fn add(&mut self, term: &[u8], postings: &[u8]) -> Result<()> {
        self.terms.extend_from_slice(term);
        self.terms.push(BORDER);
        write_varint(&mut self.lengths, postings.len() as u64);
        self.postings.extend_from_slice(postings);
        self.count += 1;
        if self.terms.len() >= BLOCK_TERMS_BYTES || self.postings.len() >= BLOCK_POSTINGS_BYTES {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let terms = self.terms.len() as u32;
        self.terms.extend_from_slice(&self.lengths);
        self.blocks.push(Block {
            terms_at: self.side_at.into(),
            postings_at: self.at.into(),
            terms: terms.into(),
            lengths: (self.lengths.len() as u32).into(),
            postings: (self.postings.len() as u32).into(),
            count: self.count.into(),
            terms_crc: crc(0, &self.terms).into(),
            postings_crc: crc(0, &self.postings).into(),
        });
        let failed = Error::io("write", &self.path);
        self.file.write_at(&self.postings, self.at).map_err(failed)?;
        self.at += self.postings.len() as u64;
        let failed = Error::io("write", &self.side_path);
        self.side.write_at(&self.terms, self.side_at).map_err(failed)?;
        self.side_at += self.terms.len() as u64;
        self.total = self.total.wrapping_add(self.count);
        self.terms.clear();
        self.terms.push(BORDER);
        self.lengths.clear();
        self.postings.clear();
        self.count = 0;
        Ok(())
    }

    /// Makes the segment durable under its name, which it returns.
    pub(super) fn finish(mut self, cover: &Cover<'_>) -> Result<PathBuf> {
        self.end_block()?;
        let begin = self.at;
        let mut piece = vec![0; COPY_BYTES];
        let mut copied = 0;
        while copied < self.side_at {
            let wanted = (self.side_at - copied).min(COPY_BYTES as u64) as usize;
            let failed = Error::io("read", &self.side_path);
            self.side.read_exact_at(&mut piece[..wanted], copied).map_err(failed)?;
            self.put(&piece[..wanted])?;
            copied += wanted as u64;
        }
        for block in &mut self.blocks {
            block.terms_at = (block.terms_at.get() + begin).into();
        }
        let listed = |doc: &Doc| Listed {
            uid: doc.uid.into(),
            flags: if doc.opaque { OPAQUE } else { 0 }.into(),
        };
        let messages: Vec<Listed> = cover.docs.iter().map(listed).collect();
        let messages_at = self.at;
        self.put(messages.as_bytes())?;
        let blocks = std::mem::take(&mut self.blocks);
        let blocks_at = self.at;
        self.put(blocks.as_bytes())?;
        let mut header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            rules: RULES.into(),
            store_id: cover.owner.store.0,
            mailbox_id: cover.owner.mailbox.0,
            uid_validity: cover.owner.uid_validity.0.into(),
            uid_first: cover.uid_first.into(),
            uid_last: cover.uid_last.into(),
            messages: (messages.len() as u32).into(),
            blocks: (blocks.len() as u32).into(),
            terms: self.total.into(),
            messages_at: messages_at.into(),
            blocks_at: blocks_at.into(),
            length: self.at.into(),
            content_id: cover.content_id,
            messages_crc: crc(0, messages.as_bytes()).into(),
            blocks_crc: crc(0, blocks.as_bytes()).into(),
            zero: U32::ZERO,
            crc: U32::ZERO,
        };
        header.crc = crc(0, &header.as_bytes()[..HEADER_BYTES - 4]).into();
        let written = self.file.write_at(header.as_bytes(), 0);
        written.and_then(|()| self.file.sync_data()).map_err(Error::io("write", &self.path))?;
        let name = format!("{:010}-{:010}{SUFFIX}", cover.uid_first, cover.uid_last);
        let path = self.path.with_file_name(name);
        self.storage.rename(&self.path, &path).map_err(Error::io("rename", &self.path))?;
        let _ = self.storage.unlink(&self.side_path);
        Ok(path)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_at(bytes, self.at).map_err(Error::io("write", &self.path))?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// An open segment; header and tables are in memory, proven whole.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    file: Arc<dyn StoredFile>,
    header: Header,
    docs: Vec<Doc>,
    blocks: Vec<Block>,
}

/// The terms of one block; proven whole.
pub(super) struct Terms {
    /// With a [`BORDER`] before the first and behind each.
    pub(super) list: Vec<u8>,
    /// Bytes of each one's postings.
    pub(super) lengths: Vec<u32>,
}

impl Segment {
    /// Opens a segment of that owner.
    pub(super) fn open(storage: &dyn Storage, path: &Path, owner: Owner) -> Result<Segment> {
        let file = storage.open(path, Open::Read).map_err(Error::io("open", path))?;
        let damaged =
            |expected, found: String| Error::Corrupt { path: path.to_owned(), expected, found };
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", path))?;
        let header = Header::read_from_bytes(&bytes)
            .map_err(|_| damaged("a header", "other bytes".to_owned()))?;
        if header.magic != MAGIC || header.crc.get() != crc(0, &bytes[..HEADER_BYTES - 4]) {
            return Err(damaged("a whole header", "another checksum".to_owned()));
        }
        if header.version.get() != VERSION || header.rules.get() != RULES {
            let found = format!("version {}, rules {:08x}", header.version, header.rules);
            return Err(damaged("an index of this version and rules", found));
        }
        let found = Owner {
            store: StoreId(header.store_id),
            mailbox: MailboxId(header.mailbox_id),
            uid_validity: UidValidity(header.uid_validity.get()),
        };
        if found != owner {
            return Err(damaged("an index of this mailbox", format!("one of {}", found.mailbox)));
        }
        let length = file.size().map_err(Error::io("stat", path))?;
        if length != header.length.get() {
            return Err(damaged("a file as long as its header says", format!("{length} bytes")));
        }
        let table = |at: U64, count: U32, size: usize, sum: U32| {
            let bytes = count.get() as usize * size;
            if at.get().checked_add(bytes as u64).is_none_or(|end| end > length) {
                return Err(damaged("tables within the file", format!("one at {at}")));
            }
            let mut table = vec![0; bytes];
            file.read_exact_at(&mut table, at.get()).map_err(Error::io("read", path))?;
            if crc(0, &table) != sum.get() {
                return Err(damaged("whole tables", format!("another checksum at {at}")));
            }
            Ok(table)
        };
        let bytes = table(header.messages_at, header.messages, 8, header.messages_crc)?;
        let docs = bytes.chunks_exact(8).filter_map(|entry| Listed::read_from_bytes(entry).ok());
        let doc =
            |entry: Listed| Doc { uid: entry.uid.get(), opaque: entry.flags.get() & OPAQUE != 0 };
        let docs = docs.map(doc).collect();
        let bytes = table(header.blocks_at, header.blocks, size_of::<Block>(), header.blocks_crc)?;
        let blocks = bytes.chunks_exact(size_of::<Block>());
        let blocks = blocks.filter_map(|entry| Block::read_from_bytes(entry).ok()).collect();
        Ok(Segment { path: path.to_owned(), file, header, docs, blocks })
    }

    /// First and last UID covered.
    pub(super) fn range(&self) -> (u32, u32) {
        (self.header.uid_first.get(), self.header.uid_last.get())
    }

    /// Its messages by rising UID.
    pub(super) fn docs(&self) -> &[Doc] {
        &self.docs
    }

    /// The content id of the last message.
    pub(super) fn content_id(&self) -> [u8; 16] {
        self.header.content_id
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.header.length.get()
    }

    /// Terms in it.
    pub(super) fn term_count(&self) -> u32 {
        self.header.terms.get()
    }

    /// Number of blocks.
    pub(super) fn block_count(&self) -> usize {
        self.blocks.len()
    }

    fn damaged(&self, what: &'static str, at: u64) -> Error {
        let found = format!("damage at {at}");
        Error::Corrupt { path: self.path.clone(), expected: what, found }
    }

    fn read(&self, at: u64, len: usize, sum: u32, out: &mut Vec<u8>) -> Result<()> {
        let end = at.checked_add(len as u64);
        if end.is_none_or(|end| end > self.bytes()) || len > BLOCK_BYTES_MAX {
            return Err(self.damaged("a block within the file", at));
        }
        out.resize(len, 0);
        self.file.read_exact_at(out, at).map_err(Error::io("read", &self.path))?;
        if crc(0, out) == sum { Ok(()) } else { Err(self.damaged("a whole block", at)) }
    }

    /// Reads a block's terms into `out`.
    pub(super) fn terms(&self, index: usize, out: &mut Terms) -> Result<()> {
        let block = &self.blocks[index];
        let (terms, lengths) = (block.terms.get() as usize, block.lengths.get() as usize);
        let at = block.terms_at.get();
        self.read(at, terms.saturating_add(lengths), block.terms_crc.get(), &mut out.list)?;
        out.lengths.clear();
        let mut rest = &out.list[terms..];
        while let Some(length) = read_varint(&mut rest) {
            out.lengths.push(length as u32);
        }
        out.list.truncate(terms);
        let borders = out.list.first() == Some(&BORDER) && out.list.last() == Some(&BORDER);
        if !borders || out.lengths.len() != block.count.get() as usize {
            return Err(self.damaged("as many lengths as terms", at));
        }
        Ok(())
    }

    /// Reads a block's postings into `out`; those of term n lie behind those of the terms before.
    pub(super) fn postings(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        let block = &self.blocks[index];
        let (at, len) = (block.postings_at.get(), block.postings.get() as usize);
        self.read(at, len, block.postings_crc.get(), out)
    }
}
