//! Which messages were removed since a client last looked: VANISHED of RFC 7162.
//!
//! Tombstones tell it exactly, as far back as [`View::vanished_floor`]. Who was away for longer is
//! told every UID of its set that is not there (section 3.2.6).

use protocol::types::{ModSeq, SeqNum, Uid};

use super::tombs::Tombstones;
use super::{Mailbox, View};
use crate::error::{Error, Result};

/// Records that are looked at where the caller is; more are a helper's work.
const RECORDS_INLINE_MAX: usize = 8 << 10;

/// Sequence numbers and the UIDs that they had when a client last looked, both as ascending
/// inclusive ranges: QRESYNC's message sequence match data.
#[derive(Clone, Debug, Default)]
pub struct SeqMatch {
    /// Sequence numbers.
    pub seqs: Vec<(u32, u32)>,
    /// As many UIDs.
    pub uids: Vec<(u32, u32)>,
}

impl View {
    /// The UIDs within ascending ranges that were removed after `since`, as ascending ranges.
    pub fn vanished_since(&self, since: ModSeq, known: &[(u32, u32)]) -> Vec<(u32, u32)> {
        if since >= self.vanished_floor() {
            self.removed_since(since, known)
        } else {
            self.missing(known)
        }
    }

    fn removed_since(&self, since: ModSeq, known: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let mut ranges = Vec::new();
        let tombs = self.0.tombs.since(&Tombstones::default(), self.0.count);
        for position in tombs {
            // One that stays damaged may as well be told: it is gone.
            let record = self.record_at(position);
            let uid = record.map_or_else(|| self.uid_at(position), |record| record.uid);
            if record.is_none_or(|record| record.modseq > since) && is_within(known, uid) {
                push(&mut ranges, (uid.0, uid.0));
            }
        }
        ranges
    }

    /// UIDs within ascending ranges that were given and are not there.
    fn missing(&self, known: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let mut ranges = Vec::new();
        let newest = self.uid_next().0.saturating_sub(1);
        for &(first, last) in known {
            let last = last.min(newest);
            let mut next = first;
            for position in self.lower_bound(Uid(first))..self.0.count {
                let uid = self.uid_at(position).0;
                if uid > last {
                    break;
                }
                if !self.0.tombs.contains(position) {
                    if next < uid {
                        push(&mut ranges, (next, uid - 1));
                    }
                    next = uid.saturating_add(1);
                }
            }
            if next <= last {
                push(&mut ranges, (next, last));
            }
        }
        ranges
    }

    /// The UID of the last message of which the client knows that all before it is as it knows.
    fn known_to(&self, matched: &SeqMatch) -> u32 {
        let seqs = matched.seqs.iter().flat_map(|&(a, b)| a..=b);
        let uids = matched.uids.iter().flat_map(|&(a, b)| a..=b);
        let agree =
            seqs.zip(uids).take_while(|&(seq, uid)| self.uid(SeqNum(seq)) == Some(Uid(uid)));
        agree.last().map_or(0, |(_, uid)| uid)
    }
}

impl Mailbox {
    /// [`View::vanished_since`] of a view of this mailbox, without what `matched` shows that the
    /// client knows (RFC 7162 section 3.2.5.2); on a helper thread where there is much to look at.
    ///
    /// # Errors
    /// [`Error::Closing`].
    pub async fn vanished(
        &self,
        view: &View,
        since: ModSeq,
        known: Vec<(u32, u32)>,
        matched: SeqMatch,
    ) -> Result<Vec<(u32, u32)>> {
        let is_exact = since >= view.vanished_floor();
        let records = if is_exact { view.0.tombs.total() as usize } else { view.0.count };
        // Pairs beyond the last message match nothing, but a range of them may be any length.
        let pairs = if matched.seqs.is_empty() { 0 } else { view.exists() as usize };
        let little = records + pairs <= RECORDS_INLINE_MAX;
        let view = view.clone();
        let look = move || {
            let known_to = view.known_to(&matched);
            let unknown = known.into_iter().map(|(a, b)| (a.max(known_to.saturating_add(1)), b));
            let unknown: Vec<_> = unknown.filter(|(a, b)| a <= b).collect();
            view.vanished_since(since, &unknown)
        };
        if little {
            return Ok(look());
        }
        self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing)
    }
}

/// Adds a range behind the others.
fn push(ranges: &mut Vec<(u32, u32)>, (first, last): (u32, u32)) {
    match ranges.last_mut() {
        Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
        _ => ranges.push((first, last)),
    }
}

fn is_within(ranges: &[(u32, u32)], uid: Uid) -> bool {
    let after = ranges.partition_point(|range| range.0 <= uid.0);
    after > 0 && uid.0 <= ranges[after - 1].1
}
