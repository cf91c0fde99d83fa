//! Views against a naive list: sequence numbers, UIDs, and what happened between any two views,
//! over random appends, flag changes, expunges and compactions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use engine::io::sim::Sim;
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Delivery, Drive, Mailbox, MountOptions, Partition, Store, StoreConfig, StoreMode, StoreRequest,
    Target, User, UserOptions, View,
};
use proptest::prelude::*;
use protocol::types::{Keyword, SeqNum, SystemFlags, Uid};

#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    /// The nth of the messages that are there, modulo their number.
    Flag(Vec<u16>),
    Expunge(Vec<u16>),
    /// Compacts where there are tombstones enough.
    Checkpoint,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || prop::collection::vec(any::<u16>(), 1..6);
    let step = prop_oneof![
        3 => (1..9u8).prop_map(Step::Append),
        2 => some().prop_map(Step::Flag),
        2 => some().prop_map(Step::Expunge),
        1 => Just(Step::Checkpoint),
    ];
    prop::collection::vec(step, 1..24)
}

/// With an inline drive a future is ready at its first poll, but for helper threads.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(out) => return out,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

struct Site {
    store: Store,
    user: User,
    mailbox: Mailbox,
    lane: Lane,
}

impl Site {
    fn new() -> Site {
        let sim = Sim::new(1);
        let storage: Arc<dyn Storage> = Arc::new(sim);
        let layout = layout_for(LayoutKind::Cyrus, &LayoutOptions::default());
        let partition = Partition {
            name: "p".into(),
            path: PathBuf::from("/p"),
            layout,
            mount: MountOptions::default(),
        };
        let mut config = StoreConfig::new("/state", vec![partition]);
        config.log_segment_bytes = Some(64 << 10);
        config.compact_tombstones_min = 4;
        let store = Store::open(config, storage.clone(), Drive::Inline).unwrap();
        let user = wait(store.user("u", &UserOptions::default())).unwrap();
        let mailbox = wait(user.mailbox("INBOX")).unwrap();
        Site { store, user, mailbox, lane: Lane::inline(storage) }
    }

    fn append(&self) {
        let target = Target {
            user: self.user.clone(),
            mailbox: self.mailbox.clone(),
            flags: SystemFlags::empty(),
            keywords: Vec::new(),
            internal_date: None,
            annotations: vec![],
        };
        let mut delivery = Delivery::new(&self.store, &self.lane, vec![target]).unwrap();
        wait(delivery.write(b"Subject: x\r\n\r\n")).unwrap();
        wait(delivery.commit()).remove(0).unwrap();
    }

    fn pick(&self, which: &[u16]) -> Vec<Uid> {
        let all: Vec<Uid> = self.mailbox.view().uids().map(|(_, uid)| uid).collect();
        let mut picked: Vec<Uid> =
            which.iter().filter_map(|n| all.get(*n as usize % all.len().max(1)).copied()).collect();
        picked.sort();
        picked.dedup();
        picked
    }

    fn run(&self, step: &Step) {
        match step {
            Step::Append(n) => (0..*n).for_each(|_| self.append()),
            Step::Flag(which) => {
                let uids = self.pick(which);
                // Half of the time there is something to change.
                let mode = [StoreMode::Add, StoreMode::Remove][uids.len() % 2];
                let request = StoreRequest {
                    uids,
                    mode,
                    flags: SystemFlags::FLAGGED,
                    keywords: Vec::new(),
                    unchanged_since: None,
                };
                wait(self.mailbox.store(request)).unwrap();
            }
            Step::Expunge(which) => {
                let uids = self.pick(which);
                wait(self.mailbox.expunge(&self.mailbox.view(), uids)).unwrap();
            }
            Step::Checkpoint => wait(self.store.checkpoint()).unwrap(),
        }
    }
}

/// What a view said when it was new: MODSEQs by UID, in order.
fn listed(view: &View) -> BTreeMap<u32, u64> {
    view.all().map(|(_, record)| (record.uid.0, record.modseq.0)).collect()
}

/// Every way to ask a view agrees with the list of its UIDs.
fn numbers_agree(view: &View, uids: &[u32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(view.exists() as usize, uids.len());
    for (i, uid) in uids.iter().enumerate() {
        let seq = SeqNum(i as u32 + 1);
        prop_assert_eq!(view.uid(seq), Some(Uid(*uid)));
        prop_assert_eq!(view.seq(Uid(*uid)), Some(seq));
        prop_assert_eq!(view.record(seq).map(|r| r.uid), Some(Uid(*uid)));
        prop_assert_eq!(view.record_of(Uid(*uid)).map(|(s, r)| (s, r.uid)), Some((seq, Uid(*uid))));
    }
    prop_assert_eq!(view.uid(SeqNum(0)), None);
    prop_assert_eq!(view.uid(SeqNum(uids.len() as u32 + 1)), None);
    for uid in 0..view.uid_next().0 + 2 {
        if !uids.contains(&uid) {
            prop_assert_eq!(view.seq(Uid(uid)), None);
        }
    }
    let next = view.uid_next().0;
    for (first, last) in [(1, next), (next / 3, next / 2), (next / 2, u32::MAX), (next, next)] {
        let within: Vec<SeqNum> = uids
            .iter()
            .enumerate()
            .filter(|(_, uid)| (first..=last).contains(uid))
            .map(|(i, _)| SeqNum(i as u32 + 1))
            .collect();
        prop_assert_eq!(view.seqs_in_uid_ranges(&[(first, last)]), within);
    }
    let third = uids.len() as u32 / 3;
    let middle: Vec<u32> =
        view.records(SeqNum(third + 1), SeqNum(2 * third)).map(|(_, r)| r.uid.0).collect();
    prop_assert_eq!(&middle[..], &uids[third as usize..2 * third as usize]);
    Ok(())
}

/// VANISHED for a client that saw `old` last: exact as far back as removals are remembered, else
/// every UID that is not there.
fn vanished_agrees(
    now: &View,
    list: &BTreeMap<u32, u64>,
    old: &View,
    was: &BTreeMap<u32, u64>,
) -> Result<(), TestCaseError> {
    let next = now.uid_next().0;
    let since = old.modseq_highest();
    for known in [vec![(1, u32::MAX)], vec![(2, next / 2), (next / 2 + 2, next)]] {
        let known: Vec<_> = known.into_iter().filter(|(a, b)| a <= b).collect();
        let ranges = now.vanished_since(since, &known);
        prop_assert!(ranges.windows(2).all(|two| two[0].1 + 1 < two[1].0), "{:?}", ranges);
        let told: Vec<u32> = ranges.into_iter().flat_map(|(a, b)| a..=b).collect();
        let asked = |uid: &u32| known.iter().any(|(a, b)| (a..=b).contains(&uid));
        let missing: Vec<u32> =
            (1..next).filter(|uid| asked(uid) && !list.contains_key(uid)).collect();
        if since < now.vanished_floor() {
            prop_assert_eq!(told, missing);
            continue;
        }
        prop_assert!(told.iter().all(|uid| missing.contains(uid)), "{:?}", told);
        let gone = was.keys().copied().filter(|uid| asked(uid) && !list.contains_key(uid));
        let told = told.into_iter().filter(|uid| *uid < old.uid_next().0);
        prop_assert_eq!(told.collect::<Vec<u32>>(), gone.collect::<Vec<u32>>());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn views_hold_still_and_tell_what_changed_between_them(steps in steps()) {
        let site = Site::new();
        let mut views: Vec<(View, BTreeMap<u32, u64>)> = Vec::new();
        let first = site.mailbox.view();
        views.push((first.clone(), listed(&first)));
        for step in &steps {
            site.run(step);
            let now = site.mailbox.view();
            let list = listed(&now);
            for (old, was) in &views {
                let changes = now.changes_since(old);
                let gone: Vec<u32> =
                    was.keys().filter(|uid| !list.contains_key(uid)).copied().collect();
                let vanished: Vec<u32> = changes.vanished.iter().map(|uid| uid.0).collect();
                prop_assert_eq!(&vanished, &gone);
                let seqs: Vec<SeqNum> = was
                    .keys()
                    .enumerate()
                    .filter(|(_, uid)| gone.contains(uid))
                    .map(|(i, _)| SeqNum(i as u32 + 1))
                    .collect();
                prop_assert_eq!(&changes.expunged, &seqs);
                let came = list.keys().any(|uid| !was.contains_key(uid));
                prop_assert_eq!(changes.exists, came.then_some(list.len() as u32));
                let both = was.iter().filter_map(|(uid, m)| Some((*uid, *m, *list.get(uid)?)));
                let changed: Vec<u32> =
                    both.filter(|(_, before, after)| before != after).map(|(u, ..)| u).collect();
                let flags: Vec<u32> = changes.flags.iter().map(|uid| uid.0).collect();
                prop_assert_eq!(flags, changed);
                vanished_agrees(&now, &list, old, was)?;
            }
            views.push((now, list));
        }
        for (view, list) in &views {
            let uids: Vec<u32> = list.keys().copied().collect();
            numbers_agree(view, &uids)?;
        }
        site.store.close().unwrap();
    }
}

fn keyword(name: &str) -> Keyword {
    Keyword::new(name).unwrap()
}

/// Sessions hold a view across compactions, for as long as they may not tell what is gone; what
/// they tell of flags must be true all the same.
#[test]
fn a_view_of_an_older_generation_reads_what_is_written_to_the_newest() {
    let site = Site::new();
    site.run(&Step::Append(12));
    let old = site.mailbox.view();
    for (round, word) in ["first", "second", "third"].into_iter().enumerate() {
        // Each round compacts: three generations lie between the first view and the last change.
        let gone = (0..4).map(|n| Uid((round * 4 + n) as u32 + 1)).filter(|uid| uid.0 != 11);
        wait(site.mailbox.expunge(&site.mailbox.view(), gone.collect())).unwrap();
        site.run(&Step::Append(4));
        wait(site.store.checkpoint()).unwrap();
        let request = StoreRequest {
            uids: vec![Uid(11)],
            mode: StoreMode::Add,
            flags: SystemFlags::FLAGGED,
            keywords: vec![keyword(word)],
            unchanged_since: None,
        };
        let modseq = wait(site.mailbox.store(request)).unwrap().modseq;
        let (seq, record) = old.record_of(Uid(11)).unwrap();
        assert_eq!((seq, record.uid, record.modseq), (SeqNum(11), Uid(11), modseq));
        assert!(record.flags.contains(SystemFlags::FLAGGED));
        let names: Vec<&str> =
            old.keywords().of_bits(record.keywords).map(|keyword| keyword.as_str()).collect();
        assert_eq!(names, ["first", "second", "third"][..=round]);
    }
    assert_eq!(old.exists(), 12);
    assert!(old.record_of(Uid(1)).is_some());
    site.store.close().unwrap();
}
