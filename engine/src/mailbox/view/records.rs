//! Walks over the records of a view.

use protocol::types::SeqNum;

use super::View;
use crate::format::index::Record;

impl View {
    /// Records of an inclusive range of sequence numbers, cut to those that exist.
    pub fn records(&self, first: SeqNum, last: SeqNum) -> Records<'_> {
        let first = first.0.max(1);
        let last = last.0.min(self.exists());
        if first > last {
            let (position, seq, last) = (0, 1, 0);
            return Records { view: self, position, seq, last, stops: false, damaged: None };
        }
        let position = self.0.tombs.live(first as usize - 1);
        Records { view: self, position, seq: first, last, stops: false, damaged: None }
    }

    /// Every record.
    pub fn all(&self) -> Records<'_> {
        self.records(SeqNum(1), SeqNum(self.exists()))
    }
}

/// Iterator over records by rising sequence number. Damaged ones are left out: see
/// [`View::met_damage`].
pub struct Records<'a> {
    view: &'a View,
    position: usize,
    seq: u32,
    last: u32,
    stops: bool,
    damaged: Option<SeqNum>,
}

impl Records<'_> {
    /// Ends in front of the first damaged record, rather than leaving it out.
    pub fn stopping_at_damage(self) -> Self {
        Records { stops: true, ..self }
    }

    /// The damaged record in front of which it ended.
    pub fn damaged(&self) -> Option<SeqNum> {
        self.damaged
    }
}

impl Iterator for Records<'_> {
    type Item = (SeqNum, Record);

    #[inline]
    fn next(&mut self) -> Option<(SeqNum, Record)> {
        while self.seq <= self.last {
            while self.view.0.tombs.contains(self.position) {
                self.position += 1;
            }
            let (seq, position) = (SeqNum(self.seq), self.position);
            self.seq += 1;
            self.position += 1;
            if let Some(record) = self.view.record_at(position) {
                return Some((seq, record));
            }
            if self.stops {
                self.damaged = Some(seq);
                self.last = 0;
            }
        }
        None
    }
}
