//! What is known of a directory that other programs change: when it was looked at, which names are
//! our own doing, which events wait.
//!
//! Invariant: a name is here as issued from before we make or remove it until its event came, or
//! until it turns out that nothing happened.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::events::{Event, Events};
use super::files::Head;
use crate::takeover::{Mark, Told};

/// A directory changed this recently may change again within the same clock tick.
pub(super) const TICK_NS: i64 = 2_000_000_000;
/// Own names that are remembered while their events are on the way.
const ISSUED_MAX: usize = 100_000;
/// Names of removed messages that are remembered.
const REMOVED_MAX: usize = 10_000;

/// What was known at the last look at the directories.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    pub(super) new_mtime: i64,
    pub(super) cur_mtime: i64,
    /// When the last look at all names began, ns since 1970.
    pub(super) listed_at: i64,
    /// The same for `new/`, which is also listed alone.
    pub(super) new_listed_at: i64,
    /// Names that we made or removed and whose events have not come yet.
    issued: HashMap<Vec<u8>, u32>,
    events: Events,
    /// Base names whose messages were expunged because their files were gone. Should one turn up
    /// again, it is a new message and nothing to be removed.
    removed: HashSet<Vec<u8>>,
    /// Events were lost, or something did not fit.
    pub(super) distrusted: bool,
    /// The file of a message that we removed was not where it should be, and no look at all names
    /// came since: only the tombstone tells it from a delivery of another program.
    pub(super) strayed: bool,
    /// No listing came since a store stopped uncleanly: its staged files may be about, and files
    /// under two names.
    pub(super) after_crash: bool,
    /// UIDs that an old server gave to messages that are to be taken in.
    pub(crate) told: Option<Arc<Told>>,
    /// How we left Courier's and Dovecot's files of UIDs, since the mailbox was opened.
    pub(crate) given: [Option<Mark>; 2],
    /// `new/` may hold what the index does not know; `cur/` does not.
    pub(super) new_differs: bool,
}

impl Foreign {
    pub(crate) fn from_head(head: &Head) -> Foreign {
        let (new_mtime, cur_mtime, listed_at) = (head.new_mtime, head.cur_mtime, head.listed_at);
        let (new_listed_at, strayed) = (listed_at, listed_at == 0);
        let after_crash = head.not_listed_since_crash;
        Foreign {
            new_mtime,
            cur_mtime,
            listed_at,
            new_listed_at,
            strayed,
            after_crash,
            distrusted: after_crash,
            ..Foreign::default()
        }
    }

    pub(crate) fn fold_into_head(&self, head: &mut Head) {
        let known = !self.distrusted && !self.strayed;
        head.new_mtime = if known && !self.new_differs { self.new_mtime } else { 0 };
        head.cur_mtime = if known { self.cur_mtime } else { 0 };
        head.listed_at = if known { self.listed_at } else { 0 };
        head.not_listed_since_crash = self.after_crash;
    }

    /// The next look lists and cleans up what a crash left.
    pub(crate) fn crashed(&mut self) {
        self.after_crash = true;
        self.distrusted = true;
        // Files may be under two names.
        self.strayed = true;
    }

    /// See [`Foreign::strayed`]; if so, the next look lists.
    pub(crate) fn is_strayed(&mut self) -> bool {
        self.distrusted |= self.strayed;
        self.strayed
    }

    /// The next look lists, whatever the directory times say.
    pub(crate) fn distrust(&mut self) {
        self.distrusted = true;
    }

    pub(crate) fn issued(&mut self, name: &[u8]) {
        if self.issued.len() < ISSUED_MAX {
            *self.issued.entry(name.to_vec()).or_default() += 1;
        }
    }

    /// What was issued did not happen.
    pub(crate) fn unissued(&mut self, name: &[u8]) -> bool {
        let Some(count) = self.issued.get_mut(name) else { return false };
        *count -= 1;
        if *count == 0 {
            self.issued.remove(name);
        }
        true
    }

    /// Takes an event; whether it asks for a look.
    pub(crate) fn event(&mut self, event: Event) -> bool {
        if self.unissued(&event.name) {
            return false;
        }
        if !self.distrusted && !self.events.push(event) {
            self.distrusted = true;
        }
        true
    }

    pub(super) fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// Whether a missing name is to be looked for again.
    pub(crate) fn is_due(&self) -> bool {
        self.events.is_due()
    }

    pub(super) fn was_removed(&self, base: &[u8]) -> bool {
        self.removed.contains(base)
    }

    pub(super) fn removed(&mut self, bases: Vec<Vec<u8>>) {
        if self.removed.len() + bases.len() > REMOVED_MAX {
            self.removed.clear();
        }
        self.removed.extend(bases);
    }

    /// All names were looked at, by a listing or by events; the look began at `began` and the
    /// times are not older.
    pub(super) fn looked(&mut self, (new, cur): (i64, i64), began: i64) {
        (self.new_mtime, self.cur_mtime) = (new, cur);
        (self.listed_at, self.new_listed_at) = (began, began);
        self.new_differs = false;
    }

    /// Whether the directories may have changed since the last look, or events wait.
    pub(super) fn is_behind(&self, times: (i64, i64)) -> bool {
        let same = times == (self.new_mtime, self.cur_mtime);
        let settled = self.listed_at - times.0.max(times.1) > TICK_NS;
        !same || !settled || !self.events.is_empty()
    }

    /// Whether the times of the directories ask for a listing, and of what.
    pub(super) fn doubts(&mut self, (new, cur): (i64, i64)) -> bool {
        let cur_settled = self.listed_at - cur > TICK_NS;
        let new_settled = self.new_listed_at - new > TICK_NS;
        if cur != self.cur_mtime || !cur_settled {
            self.distrusted = true;
        } else if new != self.new_mtime || !new_settled {
            self.new_differs = true;
        }
        self.distrusted || self.new_differs
    }

    /// Events were lost: the next look lists.
    pub(crate) fn overflow(&mut self) {
        self.issued.clear();
        self.events.clear();
        self.distrusted = true;
    }

    /// Nobody watches any more. Where events told everything, the times of the directories are
    /// known as of now; young ones are not trusted anyway.
    pub(super) fn unwatched(&mut self, times: (i64, i64), now: i64) {
        let settled = self.issued.is_empty() && self.events.is_empty();
        if settled && !self.distrusted && !self.new_differs && self.listed_at != 0 {
            self.looked(times, now);
        } else {
            self.overflow();
        }
    }
}
