//! Opening and reading messages for sessions: stored bytes on disk, served bytes out.

use std::io::ErrorKind;
use std::sync::Arc;

use protocol::types::Uid;

use super::{Mailbox, MailboxInner, Place};
use crate::error::{Error, Result, is_out_of_descriptors};
use crate::format::index::Record;
use crate::io::network::is_stale;
use crate::io::{BodyFile, Lane};
use crate::layout::{LayoutKind, Location};
use crate::message::{Crlf, Extras, LineEnds};

/// Bytes of a file that a reader takes at a time.
const READ_BYTES: usize = 64 << 10;

/// The line ends of a layout.
pub(crate) fn line_ends(kind: LayoutKind) -> LineEnds {
    match kind {
        LayoutKind::Maildir => LineEnds::Lf,
        LayoutKind::Cyrus => LineEnds::Crlf,
    }
}

/// Extras of one message, owned.
#[derive(Clone)]
pub struct ExtrasBlob(Arc<Vec<u8>>);

impl ExtrasBlob {
    /// The reader over them; `None` when they were made by a version that differs from this one.
    pub fn extras(&self) -> Option<Extras<'_>> {
        Extras::open(&self.0).ok()
    }
}

/// An open message; clones share the descriptor.
#[derive(Clone)]
pub struct MessageFile {
    file: BodyFile,
    lane: Lane,
    line_ends: LineEnds,
    stored: u64,
    path: std::path::PathBuf,
}

impl MessageFile {
    /// Octets of the file.
    pub fn stored_size(&self) -> u64 {
        self.stored
    }

    /// Whether stored bytes are served as they are.
    pub fn verbatim(&self) -> bool {
        self.line_ends == LineEnds::Crlf
    }

    /// How the file keeps line ends.
    pub fn line_ends(&self) -> LineEnds {
        self.line_ends
    }

    /// Stored bytes from `offset`, fewer than `len` only at the end.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let read = match self.lane.read(&self.file, offset, len).await {
            // The file server forgot the handle: the same file, opened again.
            Err(e) if is_stale(&e) => match self.lane.open(&self.path).await {
                Ok(again) => self.lane.read(&again, offset, len).await,
                Err(_) => Err(e),
            },
            other => other,
        };
        read.map_err(Error::io("read", &self.path))
    }

    /// Serves the stored range `start..end`: its served form without the first `skip` octets, at
    /// most `take` of them.
    pub fn served(&self, start: u64, end: u64, skip: u64, take: u64) -> ServedReader {
        let convert = Crlf::new(self.line_ends).skip(skip).take(take);
        let end = end.min(self.stored);
        ServedReader { at: start.min(end), file: self.clone(), end, convert }
    }
}

/// Streams the served form of a part of a message.
pub struct ServedReader {
    file: MessageFile,
    at: u64,
    end: u64,
    convert: Crlf,
}

impl ServedReader {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        while self.at < self.end && !self.convert.is_done() {
            let len = (self.end - self.at).min(READ_BYTES as u64) as usize;
            let stored = self.file.read(self.at, len).await?;
            if stored.is_empty() {
                return Err(Error::Corrupt {
                    path: self.file.path.clone(),
                    expected: "a message file as long as when it was opened",
                    found: format!("its end at {}", self.at),
                });
            }
            self.at += stored.len() as u64;
            let served = self.convert.converted(stored);
            if !served.is_empty() {
                return Ok(Some(served));
            }
        }
        Ok(None)
    }
}

impl Mailbox {
    /// Opens the file of a message. [`Error::Expunged`] when it is gone.
    pub async fn message(&self, lane: &Lane, record: &Record) -> Result<MessageFile> {
        let place = self.0.place.read().clone();
        let layout = &place.partition.layout;
        let (mut at, mut expected) = self.location_mended(&place, record).await?;
        for attempt in 0..4 {
            let path = layout.path(&place.dir, &at);
            let mut opened = lane.open(&path).await;
            if opened.as_ref().is_err_and(is_out_of_descriptors) {
                self.0.shared.freed_descriptors().await;
                opened = lane.open(&path).await;
            }
            match opened {
                Ok(file) => {
                    let stored = file.size().map_err(Error::io("stat", &path))?;
                    let line_ends = line_ends(layout.kind());
                    if u64::from(expected) != stored {
                        return Err(Error::Corrupt {
                            path,
                            expected: "a message file as long as when it was stored",
                            found: format!("{stored} octets instead of {expected}"),
                        });
                    }
                    return Ok(MessageFile { file, lane: lane.clone(), line_ends, stored, path });
                }
                Err(e) if e.kind() == ErrorKind::NotFound || is_stale(&e) => {}
                Err(e) => return Err(Error::io("open", path)(e)),
            }
            if layout.kind() == LayoutKind::Cyrus {
                break;
            }
            // Renamed under us: by our own appliers (look again), or by another program.
            match attempt {
                1 => self.look_now().await?,
                2 => self.rescan_now().await?,
                _ => {}
            }
            (at, expected) = self.location_mended(&place, record).await?;
        }
        Err(Error::Expunged(record.uid))
    }

    /// Begins to bring the files of messages into the page cache: for a session that will read
    /// them soon and found that it waits for the disk.
    pub fn read_ahead(&self, lane: &Lane, records: &[Record]) {
        for record in records {
            let (mailbox, record) = (self.clone(), *record);
            lane.read_ahead(move || {
                let place = mailbox.0.place.read().clone();
                let (at, _) = mailbox.place_in(&place, &record)?;
                Some(place.partition.layout.path(&place.dir, &at))
            });
        }
    }

    /// Where the file of a message was last seen, and its octets; `None` when the message is gone.
    fn place_in(&self, place: &Place, record: &Record) -> Option<(Location, u32)> {
        if place.partition.layout.kind() == LayoutKind::Maildir {
            return self.0.view().file(record.uid);
        }
        let at = Location {
            uid: record.uid,
            base: Vec::new(),
            flags: record.name_flags,
            other_letters: Vec::new(),
            in_new: false,
        };
        // Stored as they are served: no need to read the facts.
        Some((at, record.size))
    }

    /// Where a message's file is; a damaged name is mended first.
    async fn location_mended(&self, place: &Place, record: &Record) -> Result<(Location, u32)> {
        let uid = record.uid;
        if let Some(file) = self.place_in(place, record) {
            return Ok(file);
        }
        if self.0.view().position_of(uid).is_none() {
            return Err(Error::Expunged(uid));
        }
        self.mend().await?;
        self.place_in(place, record).ok_or_else(|| Error::Corrupt {
            path: place.dir.join("cursus.facts"),
            expected: "facts and a name that can be mended",
            found: format!("damage of UID {uid}"),
        })
    }

    /// Wire-ready extras of a message, with all that this version knows: from the cache, else made
    /// from the file and cached.
    pub async fn extras(&self, lane: &Lane, record: &Record) -> Result<ExtrasBlob> {
        let mut is_outdated = false;
        if let Some(found) = self.view().extras(record) {
            let extras = ExtrasBlob(Arc::new(found.bytes().to_vec()));
            if found.held() {
                is_outdated = extras.extras().is_some_and(|extras| extras.ids().is_none());
                if !is_outdated {
                    return Ok(extras);
                }
            }
        }
        if record.cache_len > 0 && !is_outdated {
            let dir = self.0.place.read().dir.clone();
            let (uid, at) = (record.uid, record.cache_offset);
            let line =
                format!("cursus.cache UID {uid}: damaged blob at {at}, mended from the file");
            self.0.shared.mendings.mended(&dir, &line);
        }
        let file = self.message(lane, record).await?;
        let mut pass = crate::message::Rescan::new(file.line_ends());
        let mut at = 0;
        loop {
            let stored = file.read(at, READ_BYTES).await?;
            if stored.is_empty() {
                break;
            }
            at += stored.len() as u64;
            pass.feed(&stored);
        }
        let extras = pass.finish().extras;
        let (inner, uid, kept) = (self.0.clone(), record.uid, extras.clone());
        self.0.shared.helpers.spawn(move || inner.cache_again(uid, &kept));
        Ok(ExtrasBlob(Arc::new(extras)))
    }
}

impl MailboxInner {
    /// Puts a message's extras into the cache. A failure costs a rebuild at the next fetch.
    pub(crate) fn cache_again(self: &Arc<Self>, uid: Uid, extras: &[u8]) {
        let mut files = self.files.lock();
        let Some(position) = files.position_of(uid) else { return };
        if files.is_tombstone(position) {
            return;
        }
        let result = files.cache_append(uid, extras).and_then(|at| {
            let Some((offset, len)) = at else { return Ok(()) };
            let mut record = files.record(position);
            record.cache_offset = offset;
            record.cache_len = len;
            files.rewrite(&[(position, record)])
        });
        match result {
            Ok(()) => {
                self.mark_dirty();
                self.publish(&files);
            }
            Err(error) => tracing::warn!(mailbox = %self.id, %error, "cannot write the cache"),
        }
    }
}
