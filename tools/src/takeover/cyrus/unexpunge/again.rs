//! What tells a run of `unexpunge` that an earlier one was cut off between a message's import and the
//! removal of its old file.
//!
//! Before the first import into a mailbox its UIDNEXT is noted in the state directory, synced; the note
//! goes when all is done. Where one is there already, a message from its UIDNEXT on with the date and
//! octets of a record below it is that record's, come back. Each counts once.
//!
//! | a crash | leaves | the next run |
//! |---|---|---|
//! | before the note is whole | a note that is none, or none | begins anew |
//! | behind the note, or some imports | the note | brings the others back, and removes the files of all |
//! | behind the removals | the note | finds nothing kept, and removes the note |

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use admin::wire::{MESSAGE_LINES_MAX, MessageLine};
use admin::{Reply, Request};
use foreign::cyrus::index::Record;

use super::super::expire::named;
use super::super::given::Given;
use super::super::write::Stage;
use crate::failure::Failed;
use crate::place::Place;
use crate::store::unexpected;

/// What notes begin with, in the state directory.
const NOTE_PREFIX: &str = "unexpunge-cyrus.";

/// The note of one mailbox.
pub struct Note {
    path: PathBuf,
    /// UIDNEXT, when an earlier run began; 0: there was none.
    first: u32,
    /// What may have come back by an earlier run.
    candidates: Vec<MessageLine>,
    /// Which of them counted.
    taken: BTreeSet<u32>,
}

/// One line: UIDVALIDITY, UIDNEXT, and a point that says that it is whole.
fn line(uid_validity: u32, uid_next: u32) -> String {
    format!("{uid_validity} {uid_next} .\n")
}

/// The UIDNEXT of a note on a mailbox of this UIDVALIDITY.
fn uid_next(text: &str, uid_validity: u32) -> Option<u32> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    match words.as_slice() {
        [validity, next, "."] if validity.parse() == Ok(uid_validity) => next.parse().ok(),
        _ => None,
    }
}

impl Note {
    fn path(dir: &Path, one: &Given) -> PathBuf {
        let id = blake3::hash(one.mailbox.unique_id.as_bytes()).to_hex();
        dir.join(format!("{NOTE_PREFIX}{id}"))
    }

    /// Removes the note of a mailbox of which nothing is kept any more.
    pub fn drop_of(dir: &Path, one: &Given) -> Result<(), String> {
        let path = Note::path(dir, one);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(named(&path)(e)),
            _ => Ok(()),
        }
    }

    /// Reads the mailbox's note, or makes it.
    pub fn begin(dir: &Path, place: &mut Place, one: &Given) -> Result<Note, String> {
        let path = Note::path(dir, one);
        let validity = one.mailbox.uid_validity;
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            other => other.map_err(named(&path))?,
        };
        let mut note = Note { path, first: 0, candidates: Vec::new(), taken: BTreeSet::new() };
        match uid_next(&text, validity) {
            Some(first) => {
                note.first = first;
                let found = messages(place, one, first.saturating_sub(1));
                note.candidates = found.map_err(|e| e.to_string())?;
            }
            None => {
                let mut stage = Stage::in_existing_directories();
                stage.put(&note.path, line(validity, one.mailbox.uid_next).as_bytes())?;
                stage.publish()?;
            }
        }
        Ok(note)
    }

    /// The UID under which an earlier run has brought a record's message back.
    pub fn brought_back(
        &mut self,
        place: &mut Place,
        one: &Given,
        record: &Record,
        octets: &[u8],
    ) -> Result<Option<u32>, Failed> {
        let alike = |line: &&MessageLine| {
            record.uid < self.first
                && line.size == octets.len() as u64
                && line.internal_date == record.internal_date
                && !self.taken.contains(&line.uid)
        };
        for line in self.candidates.iter().filter(alike) {
            let mut is_it = false;
            let whose = (one.user.as_str(), one.mailbox.name.as_str());
            place.read(whose, &[line.uid], &mut |_, _, body| {
                let mut there = Vec::new();
                body.read_to_end(&mut there)?;
                is_it = there == octets;
                Ok(())
            })?;
            if is_it {
                let uid = line.uid;
                self.taken.insert(uid);
                return Ok(Some(uid));
            }
        }
        Ok(None)
    }

    /// All is done.
    pub fn end(self) -> Result<(), String> {
        fs::remove_file(&self.path).map_err(named(&self.path))
    }
}

/// Messages of a mailbox above a UID.
fn messages(place: &mut Place, one: &Given, mut above: u32) -> Result<Vec<MessageLine>, Failed> {
    let mut all = Vec::new();
    loop {
        let reply = place.ask(Request::Messages {
            user: one.user.clone(),
            mailbox: one.mailbox.name.clone(),
            above,
            limit: MESSAGE_LINES_MAX,
            message_ids: false,
        })?;
        let Reply::Messages { messages, more, .. } = reply else {
            return Err(unexpected(&reply));
        };
        all.extend(messages);
        match all.last() {
            Some(last) if more => above = last.uid,
            _ => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_counts_when_whole_and_of_the_same_mailbox() {
        assert_eq!(uid_next(&line(7, 12), 7), Some(12));
        assert_eq!(uid_next(&line(7, 12), 8), None);
        for cut in ["", "7", "7 1", "7 12", "7 12 ", "x y ."] {
            assert_eq!(uid_next(cut, 7), None, "{cut:?}");
        }
    }
}
