//! Messages that other programs delivered, on their way into the index: read, and given frames.
//!
//! Many at once (the first opening of a Maildir that others filled) are read by several threads, in turns:
//! while one is read, the one before is pushed and the one before that applied, so that memory does not grow
//! with the Maildir. Whatever the number, they get their UIDs in the order in which they are given.

use std::io::ErrorKind;
use std::sync::Arc;

use protocol::types::Keyword;

use super::apply::scan_open_file;
use super::files::Files;
use super::{MailboxInner, Place, State, Tx};
use crate::error::{Error, Result};
use crate::format::frame::{Append, Frame, Source};
use crate::io::Open;
use crate::layout::{Found, LayoutKind, NameFlags};
use crate::message::Ingested;
use crate::shared::{Drive, Shared};
use crate::takeover::{LetterNames, Told, letter_bits};

/// Messages that one thread reads as fast as several would.
const READ_ALONE_MAX: usize = 64;

/// A message file, its internal date (seconds since 1970), and what one pass over it told.
type Fresh = (Found, i64, Ingested);

/// Messages that are read before the first of them are pushed: what is in memory of a large Maildir that
/// others filled is this many, read, and as many on their way.
const TURN: usize = 4 << 10;
/// Messages taken in by one transaction.
const IMPORT_MAX: usize = 1000;
/// Threads that read many. More than there are processors, since files that nobody read for a while are
/// waited for.
const READERS: usize = 8;

/// What new messages are taken in by.
pub(super) struct Intake<'a> {
    pub(super) place: &'a Place,
    /// What letters of names stand for.
    pub(super) letters: &'a LetterNames,
    /// What an old server says of them.
    pub(super) told: Option<&'a Told>,
}

impl MailboxInner {
    /// Reads these messages and pushes their frames, in their order; the last transaction, of which nothing
    /// is applied yet. In a rescan, under the file lock. Of many, those before are applied meanwhile.
    pub(super) fn take_in(
        self: &Arc<Self>,
        files: &mut Files,
        intake: &Intake<'_>,
        fresh: &[Found],
    ) -> Result<Option<Arc<Tx>>> {
        if fresh.len() <= TURN || self.shared.drive != Drive::Threads {
            let came = self.read_fresh(intake.place, fresh)?;
            return self.push_fresh(intake, came);
        }
        let mut turns = fresh.chunks(TURN);
        let mut last = None;
        std::thread::scope(|scope| {
            let mut begin = || {
                let turn = turns.next()?;
                Some(scope.spawn(move || self.read_fresh(intake.place, turn)))
            };
            let mut reading = begin();
            while let Some(read) = reading {
                let came = read.join().map_err(|_| Error::Closing)??;
                reading = begin();
                let before = self.state.lock().queue.len();
                if let Some(tx) = self.push_fresh(intake, came)? {
                    last = Some(tx);
                    // Never these, too: the rescan is done, and its promise kept, when none is left.
                    self.apply_ahead(files, before);
                }
            }
            Ok(last)
        })
    }

    /// Pushes the frames of messages that were read, [`IMPORT_MAX`] in a transaction; the last of these.
    fn push_fresh(
        self: &Arc<Self>,
        Intake { letters, told, .. }: &Intake<'_>,
        came: Vec<Fresh>,
    ) -> Result<Option<Arc<Tx>>> {
        let mut last = None;
        let mut came = came.into_iter().peekable();
        let mut state = self.open_state()?;
        while came.peek().is_some() {
            let mut frames = Vec::new();
            for (file, date, facts) in came.by_ref().take(IMPORT_MAX) {
                if let Some(told) = told {
                    state.uid_next = told.next(&file.base, state.uid_next);
                }
                let words = letters.keywords(letter_bits(&file));
                let came = (file, date, facts);
                frames.push(foreign_append(&self.shared, &mut state, came, words)?);
            }
            let bits = frames.iter().map(|(frame, _)| frame_bits(frame)).fold(0, |a, b| a | b);
            state.name_bits(bits, &mut frames);
            last = Some(self.push_rescan(&mut state, frames, Vec::new())?);
        }
        Ok(last)
    }

    /// Reads new message files, in their order; those that are gone meanwhile or can't be read are
    /// left out.
    fn read_fresh(&self, place: &Place, fresh: &[Found]) -> Result<Vec<Fresh>> {
        let readers = match self.shared.drive {
            Drive::Threads if fresh.len() > READ_ALONE_MAX => READERS,
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
        let scan = || {
            let open = storage.open(&path, Open::Read).map_err(Error::io("open", &path))?;
            let stat = open.facts().map_err(Error::io("stat", &path))?.stat;
            let facts = scan_open_file(&*open, &path, LayoutKind::Maildir, stat.size)?;
            Ok((file.clone(), stat.mtime_ns / 1_000_000_000, facts))
        };
        match scan() {
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
fn foreign_append(
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

fn frame_bits(frame: &Frame) -> u64 {
    if let Frame::Append(append) = frame { append.keywords } else { 0 }
}

/// Sorts files in the order of their delivery: by the leading numbers of their names, then by these.
pub(super) fn sort_by_delivery(files: &mut [Found]) {
    files.sort_by_cached_key(|file| leading_number(&file.base));
    // Mostly those of one second.
    for run in files.chunk_by_mut(|a, b| leading_number(&a.base) == leading_number(&b.base)) {
        run.sort_by(|a, b| a.base.cmp(&b.base));
    }
}

fn leading_number(base: &[u8]) -> u64 {
    let digits = base.iter().take_while(|b| b.is_ascii_digit()).take(18);
    digits.fold(0u64, |n, d| n * 10 + u64::from(d - b'0'))
}

#[cfg(test)]
mod tests {
    use protocol::types::Uid;

    use super::*;

    #[test]
    fn files_are_taken_in_by_number_and_name() {
        let sorted = ["x", "7.b", "12.M1", "12.M10", "12.M9", "100.a"];
        let file = |base: &&str| Found {
            uid: Uid(0),
            base: base.as_bytes().to_vec(),
            flags: NameFlags::default(),
            other_letters: Vec::new(),
            in_new: false,
        };
        for first in 0..sorted.len() {
            let mut files: Vec<Found> = sorted.iter().map(file).collect();
            files.rotate_left(first);
            sort_by_delivery(&mut files);
            let bases: Vec<_> = files.iter().map(|file| &file.base[..]).collect();
            assert_eq!(bases, sorted.map(str::as_bytes));
        }
    }
}
