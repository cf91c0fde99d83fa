//! What happened between two views, and the newest flag changes that tell it without a scan.

use std::sync::Arc;

use protocol::types::{ModSeq, SeqNum, Uid};

use super::View;
use crate::error::{Error, Result};
use crate::mailbox::Mailbox;
use crate::mailbox::tombs::Tombstones;

/// Ranges of recent flag changes that are remembered, so that a sync point need not scan. One
/// transaction has at most half as many.
const RECENT_RANGES_MAX: usize = 16 << 10;
/// Differences of two views that are looked at where the caller is; more are a helper's work.
const DIFFERENCES_INLINE_MAX: usize = 8 << 10;
/// What happened between two views.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sequence numbers in the older view, ascending; announce them from the last to the first.
    pub expunged: Vec<SeqNum>,
    /// The same messages by UID.
    pub vanished: Vec<Uid>,
    /// The number of messages, when some were added.
    pub exists: Option<u32>,
    /// Messages in both whose flags changed, ascending.
    pub flags: Vec<Uid>,
}

/// The newest flag changes of a mailbox, shared by its views: ranges of UIDs, so that a change of
/// all messages is remembered as easily as one of a single message.
pub(crate) struct RecentChanges {
    /// Changes above this are all in `entries`.
    floor: u64,
    /// MODSEQ, first and last UID: every UID between the two was changed.
    entries: std::collections::VecDeque<(u64, Uid, Uid)>,
}

impl RecentChanges {
    pub(crate) fn new(floor: ModSeq) -> RecentChanges {
        RecentChanges { floor: floor.0, entries: Default::default() }
    }

    pub(crate) fn add(&mut self, modseq: ModSeq, uids: impl Iterator<Item = Uid>) {
        let mut ranges = 0;
        for uid in uids {
            match self.entries.back_mut() {
                Some((last_modseq, _, last))
                    if ranges > 0 && *last_modseq == modseq.0 && last.0 + 1 == uid.0 =>
                {
                    *last = uid;
                }
                _ => {
                    ranges += 1;
                    self.entries.push_back((modseq.0, uid, uid));
                }
            }
        }
        while self.entries.len() > RECENT_RANGES_MAX {
            if let Some((modseq, ..)) = self.entries.pop_front() {
                self.floor = self.floor.max(modseq);
            }
        }
    }

    fn newer(&self, after: u64) -> Option<impl Iterator<Item = (u32, u32)> + '_> {
        let newer = self.entries.iter().rev().take_while(move |(modseq, ..)| *modseq > after);
        (after >= self.floor).then(|| newer.map(|(_, first, last)| (first.0, last.0)))
    }

    /// How many messages were changed above `after`, each as often as it was; `None` when that is
    /// too long ago.
    fn count_since(&self, after: u64) -> Option<usize> {
        Some(self.newer(after)?.map(|(first, last)| (last - first) as usize + 1).sum())
    }

    /// Ascending ranges of UIDs changed above `after`; `None` when that is too long ago.
    fn since(&self, after: u64) -> Option<Vec<(u32, u32)>> {
        let mut ranges: Vec<(u32, u32)> = self.newer(after)?.collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, before| {
            let joined = next.0 <= before.1.saturating_add(1);
            if joined {
                before.1 = before.1.max(next.1);
            }
            joined
        });
        Some(ranges)
    }
}

impl View {
    /// What happened since `old`, a view of the same mailbox.
    pub fn changes_since(&self, old: &View) -> Changes {
        self.changes_beside(old, ModSeq(0))
    }

    /// As [`View::changes_since`]; flags may be left out that were last changed with the MODSEQ
    /// `own`, because who asks knows them.
    pub fn changes_beside(&self, old: &View, own: ModSeq) -> Changes {
        let (new, old_inner) = (&self.0, &old.0);
        let mut changes = Changes::default();
        if Arc::ptr_eq(new, old_inner) {
            return changes;
        }
        let mut known = (0, 0);
        for position in self.gone_since(old) {
            known = (position, old_inner.tombs.rank_behind(known, position));
            changes.expunged.push(SeqNum(position as u32 - known.1 + 1));
            changes.vanished.push(old.uid_at(position));
        }
        if self.exists() + changes.expunged.len() as u32 != old.exists() {
            changes.exists = Some(self.exists());
        }
        if new.modseq_highest > old_inner.modseq_highest {
            let after = old_inner.modseq_highest;
            let recent = new.recent.lock().since(after.0);
            changes.flags = match recent {
                Some(ranges) => self.uids_in_both(&ranges, old),
                None => self
                    .all()
                    .filter(|(_, r)| {
                        r.modseq > after && r.modseq != own && r.uid < old_inner.uid_next
                    })
                    .map(|(_, r)| r.uid)
                    .collect(),
            };
        }
        changes
    }

    /// UIDs in ascending ranges that are in this view, and were given when `old` was made.
    fn uids_in_both(&self, ranges: &[(u32, u32)], old: &View) -> Vec<Uid> {
        let mut uids = Vec::new();
        let mut walk = self.walk();
        for &(first, last) in ranges {
            for position in self.lower_bound(Uid(first))..self.0.count {
                let uid = walk.uid_at(position);
                if uid.0 > last || uid >= old.0.uid_next {
                    break;
                }
                if !self.0.tombs.contains(position) {
                    uids.push(uid);
                }
            }
        }
        uids
    }

    /// Whether comparing with an older view is little work.
    fn compares_quickly(&self, old: &View) -> bool {
        let (new, old) = (&self.0, &old.0);
        let lineage = new.lineage.as_deref().filter(|l| l.generation == old.generation);
        let gone = match lineage {
            _ if Arc::ptr_eq(new, old) => 0,
            _ if new.generation == old.generation => {
                new.tombs.total().saturating_sub(old.tombs.total())
            }
            Some(lineage) => {
                lineage.dropped.total().saturating_sub(old.tombs.total()) + new.tombs.total()
            }
            None => return false,
        };
        let flags = match new.modseq_highest > old.modseq_highest {
            true => new.recent.lock().count_since(old.modseq_highest.0),
            false => Some(0),
        };
        flags.is_some_and(|flags| flags + gone as usize <= DIFFERENCES_INLINE_MAX)
    }

    /// Positions in an older view of what this one no longer has, ascending.
    fn gone_since(&self, old: &View) -> Vec<usize> {
        let (new, old_inner) = (&self.0, &old.0);
        if new.generation == old_inner.generation {
            return new.tombs.since(&old_inner.tombs, old_inner.count);
        }
        let lineage = new.lineage.as_deref().filter(|l| l.generation == old_inner.generation);
        if let Some(lineage) = lineage {
            let mut gone = lineage.dropped.since(&old_inner.tombs, old_inner.count);
            let later = new.tombs.since(&Tombstones::default(), new.count).into_iter();
            let before = later.map(|position| lineage.dropped.live(position));
            gone.extend(before.filter(|p| *p < old_inner.count && !old_inner.tombs.contains(*p)));
            gone.sort_unstable();
            return gone;
        }
        // More than one compaction ago: both lists side by side.
        let mut gone = Vec::new();
        let mut now = self.uids().map(|(_, uid)| uid).peekable();
        for position in (0..old_inner.count).filter(|p| !old_inner.tombs.contains(*p)) {
            let uid = old.uid_at(position);
            while now.next_if(|there| *there < uid).is_some() {}
            if now.next_if_eq(&uid).is_none() {
                gone.push(position);
            }
        }
        gone
    }
}

impl Mailbox {
    /// [`View::changes_beside`] of two views of this mailbox; on a helper thread where there is
    /// much to compare, so that no session waits for another's large change.
    ///
    /// # Errors
    /// [`Error::Closing`].
    pub async fn changes(&self, newest: &View, old: &View, own: ModSeq) -> Result<Changes> {
        if newest.compares_quickly(old) {
            return Ok(newest.changes_beside(old, own));
        }
        let (newest, old) = (newest.clone(), old.clone());
        let compare = move || newest.changes_beside(&old, own);
        self.0.shared.helpers.run(compare).await.map_err(|_| Error::Closing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_changes_are_ranges_and_those_of_long_ago_are_forgotten() {
        let mut recent = RecentChanges::new(ModSeq(5));
        recent.add(ModSeq(6), (1..=100_000).map(Uid));
        recent.add(ModSeq(7), [3, 4, 200_000].map(Uid).into_iter());
        recent.add(ModSeq(8), [100_001, 200_001].map(Uid).into_iter());
        assert_eq!(recent.entries.len(), 5);
        assert_eq!(recent.since(4), None);
        assert_eq!(recent.since(5), Some(vec![(1, 100_001), (200_000, 200_001)]));
        assert_eq!(recent.since(6), Some(vec![(3, 4), (100_001, 100_001), (200_000, 200_001)]));
        assert_eq!(recent.count_since(6), Some(5));
        assert_eq!(recent.since(8), Some(vec![]));
        recent.add(ModSeq(9), (0..RECENT_RANGES_MAX as u32).map(|n| Uid(2 * n + 1)));
        assert_eq!(recent.since(7), None);
        assert_eq!(recent.count_since(8), Some(RECENT_RANGES_MAX));
    }
}
