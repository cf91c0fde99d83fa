//! Messages that other programs delivered, on their way into the index: read, and given frames.
//!
//! Many at once (the first opening of a Maildir that others filled) are read by as many threads as
//! there are processors. Whatever the number, they get their UIDs in the order in which they are given.

use std::io::ErrorKind;

use protocol::types::Keyword;

use super::apply::scan_file_of;
use super::{MailboxInner, Place, State};
use crate::error::{Error, Result};
use crate::format::frame::{Append, Frame, Source};
use crate::layout::{Found, LayoutKind, NameFlags};
use crate::message::Ingested;
use crate::shared::{Drive, Shared};

/// Messages that one thread reads as fast as several would.
const READ_ALONE_MAX: usize = 64;

/// A message file, its internal date (seconds since 1970), and what one pass over it told.
pub(super) type Fresh = (Found, i64, Ingested);

impl MailboxInner {
    /// Reads new message files, in their order; those that are gone meanwhile or can't be read are
    /// left out.
    pub(super) fn read_fresh(&self, place: &Place, fresh: &[Found]) -> Result<Vec<Fresh>> {
        let readers = match self.shared.drive {
            Drive::Threads if fresh.len() > READ_ALONE_MAX => {
                std::thread::available_parallelism().map_or(1, usize::from)
            }
            _ => 1,
        };
        let read = |part: &[Found]| -> Vec<Fresh> {
            part.iter().filter_map(|file| self.read_one(place, file)).collect()
        };
        if readers == 1 {
            return Ok(read(fresh));
        }
        let parts: Vec<std::thread::Result<Vec<Fresh>>> = std::thread::scope(|scope| {
            let part = fresh.len().div_ceil(readers);
            let threads: Vec<_> =
                fresh.chunks(part).map(|part| scope.spawn(move || read(part))).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        let mut all = Vec::with_capacity(fresh.len());
        for part in parts {
            all.extend(part.map_err(|_| Error::Closing)?);
        }
        Ok(all)
    }

    fn read_one(&self, place: &Place, file: &Found) -> Option<Fresh> {
        let storage = &*self.shared.storage;
        let path = place.partition.layout.path(&place.dir, file);
        let scanned = storage.stat(&path).map_err(Error::io("stat", &path)).and_then(|stat| {
            let facts = scan_file_of(storage, &path, LayoutKind::Maildir, stat.size)?;
            Ok((file.clone(), stat.mtime_ns / 1_000_000_000, facts))
        });
        match scanned {
            Ok(fresh) => Some(fresh),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                // One bad file must not hide the others; it is tried again at the next listing.
                tracing::error!(path = %path.display(), %error, "cannot read a message");
                None
            }
        }
    }
}

/// The frame that gives a message delivered by another program its UID. `words`: keywords that the
/// letters of its name stand for.
pub(super) fn foreign_append(
    shared: &Shared,
    state: &mut State,
    (file, internal_date, facts): Fresh,
    words: Vec<Keyword>,
) -> Result<(Frame, Vec<u8>)> {
    let mut keywords = state.known_keyword_bits(&words);
    if file.flags.0 & NameFlags::PASSED != 0 {
        let forwarded: Vec<Keyword> = Keyword::new("$Forwarded").into_iter().collect();
        keywords |= state.keyword_bits(&forwarded, true)?;
    }
    // What was promised: 0 for nothing.
    state.uid_next = state.uid_next.max(file.uid);
    let append = Append {
        uid: state.take_uid()?,
        modseq: state.take_modseq(),
        internal_date,
        save_date: shared.now_seconds(),
        flags: file.flags.system(),
        keywords,
        size: facts.size,
        stored: facts.stored,
        header_size: facts.header_size,
        sent_date: facts.sent_date.unwrap_or(internal_date),
        subject_hash: facts.subject_hash,
        from_hash: facts.from_hash,
        content_id: facts.content_id,
        source: Source::Foreign,
        base: file.base,
        other_letters: file.other_letters,
        name_flags: file.flags.0,
        in_new: file.in_new,
    };
    Ok((Frame::Append(append), facts.extras))
}

/// Names in the order of their delivery: the leading number, then the bytes.
pub(super) fn delivery_order(base: &[u8]) -> (u64, &[u8]) {
    let digits = base.iter().take_while(|b| b.is_ascii_digit()).take(18);
    let number = digits.fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    (number, base)
}
