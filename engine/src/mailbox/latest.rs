//! Flags of messages that have changes on their way: newer than the index, not yet applied.
//!
//! Changes of many messages at once are kept as the list that they came as, in the order of UIDs;
//! others are entries of a map.
//!
//! Invariants: a map entry's MODSEQ is that of the newest change pushed for its message but for the
//! lists; it goes when that change is applied or void, as a list goes with its own. Changes are
//! applied in the order of their MODSEQs, so when the newest of all is applied, nothing is left.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use protocol::types::{ModSeq, SystemFlags, Uid};

use crate::format::frame::{FlagChange, Frame};

/// A table larger than this is freed when it has become empty.
const KEPT_ENTRIES_MAX: usize = 1024;

/// Flags of a message that has changes on their way.
#[derive(Clone, Copy)]
pub(crate) struct Latest {
    pub(crate) flags: SystemFlags,
    pub(crate) keywords: u64,
    pub(crate) modseq: ModSeq,
    pub(crate) expunged: bool,
}

/// UIDs come from us, in rising order: a multiplication spreads them well.
#[derive(Default)]
pub(crate) struct UidHasher(u64);

impl Hasher for UidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20);
    }
}

/// Changes of one frame that make a list; fewer go into the map, since each look-up asks every list.
const LIST_MIN: usize = 1024;

/// Changes of many messages by one frame.
struct List {
    modseq: ModSeq,
    /// With rising UIDs.
    changes: Vec<FlagChange>,
}

impl List {
    fn get(&self, uid: Uid) -> Option<Latest> {
        let (first, last) = (self.changes.first()?.uid, self.changes.last()?.uid);
        // The next command's messages are most often those of none or of all lists.
        if !(first..=last).contains(&uid) {
            return None;
        }
        // Where nothing is missing between them, the place is known.
        let near = (uid.0 - first.0) as usize;
        let at = match self.changes.get(near) {
            Some(change) if change.uid == uid => near,
            _ => self.changes.binary_search_by_key(&uid, |change| change.uid).ok()?,
        };
        Some(latest_of(self.changes.get(at)?, self.modseq))
    }
}

fn latest_of(change: &FlagChange, modseq: ModSeq) -> Latest {
    Latest { flags: change.flags, keywords: change.keywords, modseq, expunged: false }
}

/// Of one mailbox; under its state lock.
#[derive(Default)]
pub(crate) struct LatestFlags {
    of: HashMap<Uid, Latest, BuildHasherDefault<UidHasher>>,
    /// The oldest first.
    lists: VecDeque<List>,
    newest: ModSeq,
}

impl LatestFlags {
    pub(crate) fn get(&self, uid: Uid) -> Option<Latest> {
        let single = if self.of.is_empty() { None } else { self.of.get(&uid).copied() };
        let listed = self.lists.iter().rev().find_map(|list| list.get(uid));
        match (single, listed) {
            (Some(single), Some(listed)) if single.modseq < listed.modseq => Some(listed),
            (None, listed) => listed,
            (single, _) => single,
        }
    }

    /// Changes of flags were pushed.
    pub(crate) fn changed(&mut self, changes: &[FlagChange], modseq: ModSeq) {
        self.newest = self.newest.max(modseq);
        let rising = || changes.is_sorted_by(|before, next| before.uid < next.uid);
        if changes.len() >= LIST_MIN && rising() {
            self.lists.push_back(List { modseq, changes: changes.to_vec() });
            return;
        }
        let entry = |change: &FlagChange| (change.uid, latest_of(change, modseq));
        // A map that is not empty would expect to know half of them, and grow at the wrong size.
        self.of.reserve(changes.len());
        self.of.extend(changes.iter().map(entry));
    }

    /// A removal was pushed.
    pub(crate) fn expunged(&mut self, uids: &[Uid], modseq: ModSeq) {
        self.newest = self.newest.max(modseq);
        let flags = SystemFlags::empty();
        let gone = Latest { flags, keywords: 0, modseq, expunged: true };
        self.of.extend(uids.iter().map(|uid| (*uid, gone)));
    }

    /// A frame is in the files, or void: drops what was remembered for it, unless newer changes of
    /// the same messages wait.
    pub(crate) fn forget(&mut self, frame: &Frame) {
        let (Frame::Flags { modseq, .. } | Frame::Expunge { modseq, .. }) = frame else { return };
        if *modseq >= self.newest {
            self.lists.clear();
            if self.of.capacity() > KEPT_ENTRIES_MAX {
                self.of = HashMap::default();
            } else {
                self.of.clear();
            }
            return;
        }
        match frame {
            Frame::Flags { .. } if self.lists.front().is_some_and(|l| l.modseq == *modseq) => {
                self.lists.pop_front();
            }
            Frame::Flags { changes, .. } => {
                for change in changes {
                    if self.of.get(&change.uid).is_some_and(|l| l.modseq <= *modseq) {
                        self.of.remove(&change.uid);
                    }
                }
            }
            Frame::Expunge { ranges, .. } => {
                // Ranges hold the removed messages and nothing else, so this costs what they do.
                for uid in ranges.iter().flat_map(|&(first, last)| first..=last).map(Uid) {
                    if self.of.get(&uid).is_some_and(|l| l.modseq <= *modseq) {
                        self.of.remove(&uid);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(uids: &[u32], modseq: u64) -> Frame {
        let change = |uid: &u32| FlagChange {
            uid: Uid(*uid),
            flags: SystemFlags::SEEN,
            keywords: 0,
            before: Default::default(),
        };
        Frame::Flags { modseq: ModSeq(modseq), changes: uids.iter().map(change).collect() }
    }

    fn push(latest: &mut LatestFlags, frame: &Frame) {
        let Frame::Flags { modseq, changes } = frame else { panic!("not flags") };
        latest.changed(changes, *modseq);
    }

    #[test]
    fn what_a_newer_change_wants_is_kept() {
        let mut latest = LatestFlags::default();
        let (first, second) = (changes(&[1, 2], 5), changes(&[2, 3], 6));
        push(&mut latest, &first);
        push(&mut latest, &second);
        latest.forget(&first);
        let known = |latest: &LatestFlags, uid| latest.get(Uid(uid)).map(|l| l.modseq.0);
        assert_eq!([1, 2, 3].map(|uid| known(&latest, uid)), [None, Some(6), Some(6)]);
        latest.expunged(&[Uid(3)], ModSeq(7));
        latest.forget(&second);
        assert_eq!([2, 3].map(|uid| known(&latest, uid)), [None, Some(7)]);
        assert!(latest.get(Uid(3)).is_some_and(|l| l.expunged));
        let ranges = vec![(3, 3)];
        latest.forget(&Frame::Expunge { modseq: ModSeq(7), moved: false, ranges });
        assert!(latest.of.is_empty());
    }

    #[test]
    fn many_changes_are_a_list_and_the_newest_counts() {
        let mut latest = LatestFlags::default();
        let all: Vec<u32> = (1..=2 * LIST_MIN as u32).collect();
        let odd: Vec<u32> = all.iter().copied().filter(|uid| uid % 2 == 1).collect();
        let (first, single, second) = (changes(&all, 5), changes(&[7], 6), changes(&odd, 7));
        let known = |latest: &LatestFlags, uid| latest.get(Uid(uid)).map(|l| l.modseq.0);
        push(&mut latest, &first);
        push(&mut latest, &single);
        assert_eq!([6, 7, 5000].map(|uid| known(&latest, uid)), [Some(5), Some(6), None]);
        push(&mut latest, &second);
        assert!(latest.of.len() == 1 && latest.lists.len() == 2);
        assert_eq!([6, 7, 9].map(|uid| known(&latest, uid)), [Some(5), Some(7), Some(7)]);
        latest.forget(&first);
        assert_eq!([6, 7, 9].map(|uid| known(&latest, uid)), [None, Some(7), Some(7)]);
        latest.forget(&single);
        latest.expunged(&[Uid(9)], ModSeq(8));
        assert!(latest.get(Uid(9)).is_some_and(|l| l.expunged));
        latest.forget(&second);
        assert_eq!([7, 9].map(|uid| known(&latest, uid)), [None, Some(8)]);
    }
}
