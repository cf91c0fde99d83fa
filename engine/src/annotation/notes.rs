//! What annotations changed lately: names of entries for the sessions that are told of them (RFC
//! 5257 section 4.4). In memory alone; a session that is told too late is told of the flags.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::types::{ModSeq, Uid};

use crate::format::frame::AnnotationValue;
use crate::mailbox::Mailbox;

/// Ranges of messages that are remembered of a mailbox.
const RANGES_MAX: usize = 4096;
/// Octets of names that are remembered.
const NAMES_BYTES_MAX: usize = 64 << 10;

/// Of a mailbox.
#[derive(Default)]
pub(crate) struct Notes {
    notes: VecDeque<Note>,
    ranges: usize,
    name_bytes: usize,
}

#[derive(Clone)]
struct Note {
    modseq: ModSeq,
    ranges: Arc<[(u32, u32)]>,
    /// Whose (empty: shared), and name of the entry.
    entries: Arc<[(String, String)]>,
}

impl Note {
    fn name_bytes(&self) -> usize {
        self.entries.iter().map(|(whose, entry)| whose.len() + entry.len()).sum()
    }
}

impl Notes {
    /// A change was pushed. Changes come in the order of their MODSEQs.
    pub(crate) fn add(
        &mut self,
        modseq: ModSeq,
        ranges: Vec<(u32, u32)>,
        values: &[AnnotationValue],
    ) {
        let entries = values.iter().map(|value| (value.whose.clone(), value.entry.clone()));
        let note = Note { modseq, ranges: ranges.into(), entries: entries.collect() };
        self.ranges += note.ranges.len();
        self.name_bytes += note.name_bytes();
        self.notes.push_back(note);
        while self.ranges > RANGES_MAX || self.name_bytes > NAMES_BYTES_MAX {
            let Some(oldest) = self.notes.pop_front() else { return };
            self.ranges -= oldest.ranges.len();
            self.name_bytes -= oldest.name_bytes();
        }
    }
}

/// Entries that changed since a view, as far as one user may see them.
#[derive(Default)]
pub struct NewAnnotations {
    notes: Vec<Note>,
    viewer: String,
}

impl NewAnnotations {
    /// Whether none changed.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Names of the entries of a message that changed, each once.
    pub fn of(&self, uid: Uid) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        let holds = |note: &&Note| {
            let behind = note.ranges.partition_point(|range| range.0 <= uid.0);
            behind > 0 && uid.0 <= note.ranges[behind - 1].1
        };
        for (whose, entry) in self.notes.iter().filter(holds).flat_map(|note| &*note.entries) {
            let sees = whose.is_empty() || *whose == self.viewer;
            if sees && !found.contains(&entry.as_str()) {
                found.push(entry);
            }
        }
        found
    }
}

impl Mailbox {
    /// Entries of annotations that changed above `since` and up to `through`, as `viewer` sees
    /// them.
    pub fn new_annotations(&self, since: ModSeq, through: ModSeq, viewer: &str) -> NewAnnotations {
        let notes = self.0.notes.lock();
        let from = notes.notes.partition_point(|note| note.modseq <= since);
        let new = notes.notes.range(from..).take_while(|note| note.modseq <= through);
        let sees = |note: &&Note| {
            note.entries.iter().any(|(whose, _)| whose.is_empty() || whose == viewer)
        };
        NewAnnotations { notes: new.filter(sees).cloned().collect(), viewer: viewer.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(whose: &str, entry: &str) -> AnnotationValue {
        AnnotationValue { whose: whose.into(), entry: entry.into(), value: None }
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut notes = Notes::default();
        for n in 1..=RANGES_MAX as u64 + 5 {
            notes.add(ModSeq(n), vec![(1, 1)], &[value("", "/comment")]);
        }
        assert_eq!((notes.notes.len(), notes.notes[0].modseq), (RANGES_MAX, ModSeq(6)));
        notes.add(ModSeq(9999), vec![(1, 1)], &[value("", &"x".repeat(NAMES_BYTES_MAX - 8))]);
        assert_eq!(notes.notes.len(), 2);
    }

    #[test]
    fn entries_of_others_are_not_told() {
        let mut notes = Notes::default();
        notes.add(
            ModSeq(1),
            vec![(2, 4)],
            &[value("jo", "/a"), value("", "/b"), value("al", "/c")],
        );
        notes.add(ModSeq(2), vec![(4, 4)], &[value("", "/b")]);
        let new = NewAnnotations { notes: notes.notes.into(), viewer: "jo".into() };
        assert_eq!(new.of(Uid(4)), ["/a", "/b"]);
        assert_eq!(new.of(Uid(2)), ["/a", "/b"]);
        assert!(new.of(Uid(1)).is_empty() && new.of(Uid(5)).is_empty());
    }
}
