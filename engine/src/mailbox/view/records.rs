//! Walks over the records of a view.

use protocol::types::{SeqNum, Uid};

use super::View;
use crate::format::index::Record;
use crate::mapped::Run;

impl View {
    /// Records of an inclusive range of sequence numbers, cut to those that exist.
    pub fn records(&self, first: SeqNum, last: SeqNum) -> Records<'_> {
        let first = first.0.max(1);
        let last = last.0.min(self.exists());
        if first > last {
            let (walk, position, seq, last) = (self.walk(), 0, 1, 0);
            return Records { walk, position, seq, last, stops: false, damaged: None };
        }
        let (walk, position) = (self.walk(), self.0.tombs.live(first as usize - 1));
        Records { walk, position, seq: first, last, stops: false, damaged: None }
    }

    /// For who reads many records, most of them in the order of their positions.
    pub(crate) fn walk(&self) -> Walk<'_> {
        Walk { view: self, run: None }
    }

    /// Every record.
    pub fn all(&self) -> Records<'_> {
        self.records(SeqNum(1), SeqNum(self.exists()))
    }
}

/// Reads what [`View::record_at`] and [`View::uid_at`] read, quicker where positions are neighbours.
pub(crate) struct Walk<'a> {
    view: &'a View,
    /// Where the last one was read.
    run: Option<Run<'a>>,
}

impl<'a> Walk<'a> {
    /// As [`View::record_at`].
    #[inline]
    pub(crate) fn record_at(&mut self, position: usize) -> Option<Record> {
        let found = self.run.as_ref().and_then(|run| run.record(position));
        // An heir may have a newer one.
        let Some(mut record) = found.filter(|_| self.view.0.heir.get().is_none()) else {
            return self.look_closer(position);
        };
        if let Some(seen) = &self.view.1 {
            record.flags = seen.laid_over(record.uid, record.flags);
        }
        Some(record)
    }

    #[cold]
    fn look_closer(&mut self, position: usize) -> Option<Record> {
        // Reading it verifies the page that the run then is in.
        let found = self.view.record_at(position);
        if self.view.0.heir.get().is_none() {
            self.begin_run(position);
        }
        found
    }

    /// As [`View::uid_at`].
    #[inline]
    pub(crate) fn uid_at(&mut self, position: usize) -> Uid {
        match self.run.as_ref().and_then(|run| run.uid(position)) {
            Some(uid) => Uid(uid),
            None => {
                let uid = self.view.uid_at(position);
                self.begin_run(position);
                uid
            }
        }
    }

    #[cold]
    fn begin_run(&mut self, position: usize) {
        self.run = self.view.0.table.run(position, self.view.0.count);
    }

    /// The record of a UID, which is looked for at `next` first: for UIDs that rise. `next` is the
    /// position behind it then.
    #[inline]
    pub(crate) fn record_next(&mut self, next: &mut usize, uid: Uid) -> Option<Record> {
        let mut position = *next;
        let mut found = self.record_if(position, uid);
        if found.is_none() {
            position = self.view.lower_bound(uid);
            found = self.record_if(position, uid);
        }
        *next = position + 1;
        found
    }

    #[inline]
    fn record_if(&mut self, position: usize, uid: Uid) -> Option<Record> {
        let there = position < self.view.0.count && !self.view.0.tombs.contains(position);
        there.then(|| self.record_at(position)).flatten().filter(|record| record.uid == uid)
    }
}

/// Iterator over records by rising sequence number. Damaged ones are left out: see
/// [`View::met_damage`].
pub struct Records<'a> {
    walk: Walk<'a>,
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
            while self.walk.view.0.tombs.contains(self.position) {
                self.position += 1;
            }
            let (seq, position) = (SeqNum(self.seq), self.position);
            self.seq += 1;
            self.position += 1;
            if let Some(record) = self.walk.record_at(position) {
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
