//! `\Seen` of users who are not the owner of a mailbox: each has a set of UIDs of his own.
//!
//! A set is stored as metadata of the mailbox whose name no client can say (`seen`), so it is
//! durable, replayed, archived and deleted as metadata is. Its value is the whole set: pairs of
//! varints, the distance of each range's first UID from the end of the one before, and how many
//! UIDs follow the first. A set is changed under its owner's `changes` lock.
//!
//! [`View::seen_by`] lays a set over a view: from there on every record that is read through the
//! view has that user's `\Seen` in place of the owner's. Like all flags it is read live. The MODSEQ
//! of a message rises with a change of anybody's `\Seen`, so that all sessions of that user hear of
//! it; those of others can tell by [`crate::Mailbox::was_private`] that it is none of theirs.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use protocol::types::{ModSeq, SystemFlags, Uid};

use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::ids::MailboxId;
use crate::mailbox::{Mailbox, StoreMode, View};
use crate::metadata::Key;
use crate::shared::Shared;
use crate::user::{User, UserInner};

/// Name of the metadata that has a set.
pub(crate) const ENTRY: &str = "seen";

/// The stored form of a set of UIDs, whatever the order of its ranges.
pub(crate) fn encode_ranges(ranges: &[(u32, u32)]) -> Vec<u8> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut out: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match out.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => out.push((first, last)),
        }
    }
    UidRanges(out).encode()
}

/// What [`encode_ranges`] made; nothing for what is no set.
pub(crate) fn decode_ranges(bytes: &[u8]) -> Vec<(u32, u32)> {
    UidRanges::decode(bytes).unwrap_or_default().0
}

/// UIDs as ascending ranges that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UidRanges(Vec<(u32, u32)>);

impl UidRanges {
    /// The range with a UID.
    fn range_of(&self, uid: Uid) -> Option<(u32, u32)> {
        let behind = self.0.partition_point(|(first, _)| *first <= uid.0);
        let range = *self.0.get(behind.checked_sub(1)?)?;
        (uid.0 <= range.1).then_some(range)
    }

    fn contains(&self, uid: Uid) -> bool {
        self.range_of(uid).is_some()
    }

    /// With these UIDs, ascending, in it.
    fn with(&self, uids: &[Uid]) -> UidRanges {
        let mut out: Vec<(u32, u32)> = Vec::with_capacity(self.0.len() + 1);
        let mut more = uids.iter().map(|uid| (uid.0, uid.0)).peekable();
        let mut there = self.0.iter().copied().peekable();
        loop {
            let next = match (there.peek(), more.peek()) {
                (Some(a), Some(b)) if b.0 < a.0 => more.next(),
                (Some(_), _) => there.next(),
                (None, _) => more.next(),
            };
            let Some((first, last)) = next else { return UidRanges(out) };
            match out.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => out.push((first, last)),
            }
        }
    }

    /// Without these UIDs, ascending.
    fn without(&self, uids: &[Uid]) -> UidRanges {
        let mut out = Vec::with_capacity(self.0.len() + 1);
        let mut gone = uids.iter().map(|uid| u64::from(uid.0)).peekable();
        for &(first, last) in &self.0 {
            let (mut first, last) = (u64::from(first), u64::from(last));
            while gone.next_if(|uid| *uid < first).is_some() {}
            while let Some(uid) = gone.next_if(|uid| *uid <= last) {
                if uid > first {
                    out.push((first as u32, uid as u32 - 1));
                }
                first = uid + 1;
            }
            if first <= last {
                out.push((first as u32, last as u32));
            }
        }
        UidRanges(out)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * 3);
        let mut before = 0;
        for &(first, last) in &self.0 {
            varint(&mut out, first - before);
            varint(&mut out, last - first);
            before = last;
        }
        out
    }

    /// `None` for what is no set.
    fn decode(mut bytes: &[u8]) -> Option<UidRanges> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        let mut before = 0u32;
        while !bytes.is_empty() {
            let first = before.checked_add(take_varint(&mut bytes)?)?;
            let last = first.checked_add(take_varint(&mut bytes)?)?;
            if ranges.last().is_some_and(|range| first <= range.1) {
                return None;
            }
            ranges.push((first, last));
            before = last;
        }
        Some(UidRanges(ranges))
    }
}

fn varint(out: &mut Vec<u8>, mut n: u32) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut n = 0u64;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(n).ok();
        }
    }
    None
}

/// One user's `\Seen` in one mailbox, shared by all of the user's sessions. Cheap to clone.
#[derive(Clone)]
pub struct PrivateSeen(Arc<Inner>);

struct Inner {
    /// Unlike that of every other set in memory.
    number: u64,
    mailbox: MailboxId,
    whose: String,
    set: ArcSwap<UidRanges>,
}

/// In place of a set's number: what changed is the own of a user without a set.
pub(crate) const OWNERS: u64 = 0;

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// The newest changes of sets: MODSEQ, number of the set. Older ones count as the mailbox's own,
/// which costs others a line that says nothing new.
#[derive(Default)]
pub(crate) struct Touches(VecDeque<(ModSeq, u64)>);

/// Changes that are remembered of a mailbox.
const TOUCHES_MAX: usize = 1024;

impl Touches {
    pub(crate) fn note(&mut self, modseq: ModSeq, number: u64) {
        if self.0.len() >= TOUCHES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((modseq, number));
    }
}

impl Mailbox {
    /// Whether what changed with this MODSEQ is only another user's own `\Seen`.
    pub fn was_private(&self, modseq: ModSeq, own: Option<&PrivateSeen>) -> bool {
        let touches = self.0.touches.lock();
        let at = touches.0.partition_point(|(noted, _)| *noted < modseq);
        let number = touches.0.get(at).filter(|(noted, _)| *noted == modseq);
        number.is_some_and(|(_, number)| own.is_none_or(|own| own.0.number != *number))
    }
}

/// Sets that are in memory.
#[derive(Default)]
pub(crate) struct PrivateSeens(Mutex<HashMap<(MailboxId, String), Weak<Inner>>>);

/// Sets that were let go are cleared away when so many are remembered, and each time that is twice
/// as many as were left.
const REMEMBERED_MIN: usize = 1024;

impl PrivateSeens {
    fn find(&self, mailbox: MailboxId, whose: &str) -> Option<PrivateSeen> {
        let found = self.0.lock().get(&(mailbox, whose.to_owned()))?.upgrade();
        found.map(PrivateSeen)
    }

    /// What is in memory of a set is not what it is any more.
    pub(crate) fn forget(&self, mailbox: MailboxId, whose: &str) {
        if let Some(set) = self.find(mailbox, whose) {
            set.0.set.store(Arc::default());
        }
        self.0.lock().remove(&(mailbox, whose.to_owned()));
    }

    /// The one that is there by now, else this.
    fn settle(&self, fresh: Inner) -> PrivateSeen {
        let mut sets = self.0.lock();
        if sets.len() >= REMEMBERED_MIN && sets.len() == sets.capacity() {
            sets.retain(|_, set| set.strong_count() > 0);
        }
        let slot = sets.entry((fresh.mailbox, fresh.whose.clone())).or_default();
        if let Some(there) = slot.upgrade() {
            return PrivateSeen(there);
        }
        let fresh = Arc::new(fresh);
        *slot = Arc::downgrade(&fresh);
        PrivateSeen(fresh)
    }
}

impl PrivateSeen {
    pub(crate) fn contains(&self, uid: Uid) -> bool {
        self.0.set.load().contains(uid)
    }

    /// The set as ascending ranges.
    pub(crate) fn ranges(&self) -> Vec<(u32, u32)> {
        self.0.set.load().0.clone()
    }

    /// The last UID of the range that has this one.
    pub(crate) fn run_end(&self, uid: Uid) -> Option<Uid> {
        self.0.set.load().range_of(uid).map(|(_, last)| Uid(last))
    }

    /// Flags as this user has them.
    pub(crate) fn laid_over(&self, uid: Uid, flags: SystemFlags) -> SystemFlags {
        match self.contains(uid) {
            true => flags.union(SystemFlags::SEEN),
            false => flags.difference(SystemFlags::SEEN),
        }
    }

    /// How a STORE tells that this set changed.
    pub fn touch(&self) -> StoreMode {
        StoreMode::Touch(Some(self.0.number))
    }

    /// Whose it is.
    pub fn whose(&self) -> &str {
        &self.0.whose
    }
}

impl User {
    /// The `\Seen` of another user in one of this user's mailboxes.
    pub async fn private_seen(&self, mailbox: &Mailbox, whose: &str) -> Result<PrivateSeen> {
        let (shared, id) = (self.0.shared.clone(), mailbox.id());
        if let Some(found) = shared.seens.find(id, whose) {
            return Ok(found);
        }
        let (inner, whose) = (self.0.clone(), whose.to_owned());
        let job = move || {
            // A change that is under way would be missed.
            let _one_at_a_time = inner.changes.lock();
            let set = read(&inner.shared, id, &whose)?;
            let set = ArcSwap::from_pointee(set);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            Ok(inner.shared.seens.settle(Inner { number, mailbox: id, whose, set }))
        };
        shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }

    /// Puts messages (ascending) into another user's `\Seen`, or takes them out; returns those that
    /// were not so before, when that is durable.
    pub async fn change_private_seen(
        &self,
        seen: &PrivateSeen,
        uids: Vec<Uid>,
        on: bool,
    ) -> Result<Vec<Uid>> {
        let seen = seen.clone();
        self.change(move |user| user.change_private_seen(&seen, uids, on)).await
    }
}

impl UserInner {
    fn change_private_seen(
        self: &Arc<Self>,
        seen: &PrivateSeen,
        mut uids: Vec<Uid>,
        on: bool,
    ) -> Result<Vec<Uid>> {
        let Inner { mailbox, whose, set, .. } = &*seen.0;
        if self.namespace.load().name_of(*mailbox).is_none() {
            return Err(Error::MailboxGone);
        }
        let before = set.load_full();
        uids.retain(|uid| before.contains(*uid) != on);
        if uids.is_empty() {
            return Ok(uids);
        }
        let after = if on { before.with(&uids) } else { before.without(&uids) };
        let changes = vec![(ENTRY.to_owned(), Some(Arc::from(after.encode())))];
        let (user, whose) = (self.name.clone(), whose.clone());
        let frame = Frame::Metadata { user, whose: whose.clone(), changes: changes.clone() };
        let lsn = self.commit(&[(*mailbox, frame)])?;
        self.shared.metadata.apply(*mailbox, &whose, &changes);
        self.applied(lsn);
        set.store(Arc::new(after));
        Ok(uids)
    }
}

fn read(shared: &Shared, mailbox: MailboxId, whose: &str) -> Result<UidRanges> {
    let (whose_key, entry) = (whose.to_owned(), ENTRY.to_owned());
    let key = Key { mailbox, uid: Uid(0), whose: whose_key, entry };
    let value = match shared.metadata.get(&key) {
        Some(value) => value,
        None => shared.catalog.metadata(&key)?,
    };
    let Some(value) = value else { return Ok(UidRanges::default()) };
    UidRanges::decode(&value).ok_or_else(|| Error::Corrupt {
        path: "catalog.redb".into(),
        expected: "a set of UIDs",
        found: format!("{} other bytes for {whose} in {mailbox}", value.len()),
    })
}

impl View {
    /// The same view with this user's `\Seen` in place of the owner's.
    #[must_use]
    pub fn seen_by(&self, seen: Option<&PrivateSeen>) -> View {
        View(self.0.clone(), seen.cloned())
    }

    /// Messages that a user's `\Seen` leaves out; without a set, the owner's.
    pub fn unseen_by(&self, seen: Option<&PrivateSeen>) -> u32 {
        match seen {
            Some(seen) => self.exists() - self.count_in_uid_ranges(&seen.ranges()),
            None => self.unseen(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    fn uids(set: &UidRanges) -> BTreeSet<u32> {
        set.0.iter().flat_map(|&(first, last)| first..=last).collect()
    }

    fn ascending(uids: &BTreeSet<u32>) -> Vec<Uid> {
        uids.iter().map(|uid| Uid(*uid)).collect()
    }

    proptest! {
        #[test]
        fn sets_are_what_was_put_in_and_taken_out(
            steps in proptest::collection::vec(
                (proptest::collection::btree_set(1u32..60, 0..20), any::<bool>()), 0..8),
        ) {
            let (mut set, mut model) = (UidRanges::default(), BTreeSet::new());
            for (some, on) in steps {
                if on {
                    set = set.with(&ascending(&some));
                    model.extend(some);
                } else {
                    set = set.without(&ascending(&some));
                    model.retain(|uid| !some.contains(uid));
                }
                prop_assert_eq!(uids(&set), model.clone());
                prop_assert!(set.0.windows(2).all(|two| two[0].1 + 1 < two[1].0), "{:?}", set);
                prop_assert!((1..60).all(|uid| set.contains(Uid(uid)) == model.contains(&uid)));
                prop_assert_eq!(UidRanges::decode(&set.encode()), Some(set.clone()));
            }
        }

        #[test]
        fn any_bytes_are_a_set_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            let _ = UidRanges::decode(&bytes);
        }
    }

    #[test]
    fn the_largest_uid_has_its_place() {
        let all = UidRanges(vec![(1, u32::MAX)]);
        let less = all.without(&[Uid(1), Uid(7), Uid(u32::MAX)]);
        assert_eq!(less.0, [(2, 6), (8, u32::MAX - 1)]);
        assert_eq!(less.with(&[Uid(7), Uid(u32::MAX)]).0, [(2, u32::MAX)]);
        assert_eq!(UidRanges::decode(&all.encode()), Some(all));
    }
}
