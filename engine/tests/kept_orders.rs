//! SORT and THREAD of a mailbox that keeps orders and threads, against one that keeps nothing: over random
//! appends, flag changes, expunges and compactions, in new views and in old ones, of all messages and of
//! some. Walks over the records of these views, begun before a change too, against looks at single ones.

use std::sync::Arc;

use engine::io::sim::Sim;
use engine::io::{Lane, Storage};
use engine::layout::LayoutKind;
use engine::{
    Collation, Delivery, Drive, Mailbox, SortValues, Store, StoreMode, StoreRequest, User, View,
};
use proptest::prelude::*;
use protocol::imap::search::SearchKey;
use protocol::imap::sort::{SortCriterion, SortKey, ThreadAlgorithm, ThreadNode};
use protocol::types::{Flag, SeqNum, SequenceSet, SystemFlags, Uid};

#[path = "site/mod.rs"]
mod site;

use site::{block, target};

#[derive(Clone, Debug)]
enum Step {
    /// Subject, sender, date and what it answers, each of few.
    Append(Vec<(u8, u8, u8, u8)>),
    Flag(Vec<u16>),
    Expunge(Vec<u16>),
    Checkpoint,
    Ask(Vec<SortCriterion>, Which),
    Thread(usize, Which),
}

/// Which messages are asked for.
#[derive(Clone, Copy, Debug)]
enum Which {
    All,
    Unflagged,
    FirstHalf,
    Subject,
}

/// A store whose one mailbox keeps orders, or does not.
struct Site {
    store: Store,
    user: User,
    mailbox: Mailbox,
    lane: Lane,
}

impl Site {
    fn new(orders_bytes_max: usize) -> Site {
        let storage: Arc<dyn Storage> = Arc::new(Sim::new(1));
        let mut config = site::config(std::path::Path::new("/"), LayoutKind::Cyrus);
        config.log_segment_bytes = Some(64 << 10);
        config.compact_tombstones_min = 4;
        config.order_messages_min = 1;
        config.orders_bytes_max = orders_bytes_max;
        let store = Store::open(config, storage.clone(), Drive::Inline).unwrap();
        let user = site::user(&store, "u");
        let mailbox = block(user.mailbox("INBOX")).unwrap();
        Site { store, user, mailbox, lane: Lane::inline(storage) }
    }

    fn append(&self, n: usize, (subject, from, date, answers): (u8, u8, u8, u8)) {
        let text = format!(
            "Subject: {}{}\r\nFrom: {}@x\r\nDate: {} Jan 2020 00:00:00 +0000\r\n\
             Message-ID: <{n}@x>\r\nReferences: <{answers}@x>\r\n\r\n{}",
            if subject % 2 == 0 { "" } else { "Re: " },
            subject / 2,
            from,
            date + 1,
            "x".repeat(usize::from(date)),
        );
        let target = target(&self.user, "INBOX");
        block(async {
            let mut delivery = Delivery::new(&self.store, &self.lane, vec![target]).unwrap();
            delivery.write(text.as_bytes()).await.unwrap();
            delivery.commit().await.remove(0).unwrap();
        });
    }

    fn pick(&self, which: &[u16]) -> Vec<Uid> {
        let all: Vec<Uid> = self.mailbox.view().uids().map(|(_, uid)| uid).collect();
        let mut picked: Vec<Uid> =
            which.iter().filter_map(|n| all.get(*n as usize % all.len().max(1)).copied()).collect();
        picked.sort();
        picked.dedup();
        picked
    }

    fn run(&self, step: &Step, appended: usize) {
        match step {
            Step::Append(some) => {
                some.iter().zip(appended..).for_each(|(message, n)| self.append(n, *message));
            }
            Step::Flag(which) => {
                let request = StoreRequest {
                    uids: self.pick(which),
                    mode: StoreMode::Add,
                    flags: SystemFlags::FLAGGED,
                    keywords: Vec::new(),
                    unchanged_since: None,
                };
                block(self.mailbox.store(request)).unwrap();
            }
            Step::Expunge(which) => {
                let uids = self.pick(which);
                block(self.mailbox.expunge(&self.mailbox.view(), uids)).unwrap();
            }
            Step::Checkpoint => block(self.store.checkpoint()).unwrap(),
            Step::Ask(..) | Step::Thread(..) => {}
        }
    }

    fn sort(&self, view: &View, criteria: &[SortCriterion], which: Which) -> Vec<(SeqNum, Uid)> {
        let key = which.key(view);
        let by = (criteria, SortValues::default());
        block(self.mailbox.sort(view, &key, by, Collation::default(), false)).unwrap().messages
    }

    fn thread(&self, view: &View, which: Which, n: usize) -> Vec<ThreadNode<(SeqNum, Uid)>> {
        let (_, algorithm) = ThreadAlgorithm::ALL[n % ThreadAlgorithm::ALL.len()];
        let key = which.key(view);
        block(self.mailbox.thread(view, &key, algorithm, Collation::default())).unwrap().to_vec()
    }
}

impl Which {
    fn key(self, view: &View) -> SearchKey {
        match self {
            Which::All => SearchKey::All,
            Which::Unflagged => {
                SearchKey::Not(Box::new(SearchKey::Flag(Flag::System(SystemFlags::FLAGGED))))
            }
            Which::FirstHalf => {
                SearchKey::SeqSet(SequenceSet::from_ascending(1..=view.exists().div_ceil(2)))
            }
            Which::Subject => SearchKey::Subject("1".to_owned()),
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || prop::collection::vec(any::<u16>(), 1..4);
    let message = (0..8_u8, 0..4_u8, 0..28_u8, 0..40_u8);
    let which = || {
        prop::sample::select(vec![Which::All, Which::Unflagged, Which::FirstHalf, Which::Subject])
    };
    let key = prop::sample::select(SortKey::ALL.map(|(_, key)| key).to_vec());
    let criterion = (key, any::<bool>()).prop_map(|(key, reverse)| SortCriterion { key, reverse });
    // Few lists of criteria, so that most are asked for again.
    let one = |key, reverse| SortCriterion { key, reverse };
    let criteria = prop_oneof![
        3 => Just(vec![one(SortKey::Subject, false)]),
        3 => Just(vec![one(SortKey::From, true), one(SortKey::Date, false)]),
        1 => prop::collection::vec(criterion, 1..4),
    ];
    let step = prop_oneof![
        // Few messages are put in where they belong, many have all sorted anew.
        2 => prop::collection::vec(message.clone(), 1..2).prop_map(Step::Append),
        1 => prop::collection::vec(message, 20..60).prop_map(Step::Append),
        1 => some().prop_map(Step::Flag),
        2 => some().prop_map(Step::Expunge),
        1 => Just(Step::Checkpoint),
        5 => (criteria, which()).prop_map(|(criteria, which)| Step::Ask(criteria, which)),
        4 => (0..3_usize, which()).prop_map(|(n, which)| Step::Thread(n, which)),
    ];
    prop::collection::vec(step, 8..32)
}

/// The answers of both sites to all questions of a history, with the views that it had.
fn compare(steps: &[Step], orders_bytes_max: usize) -> Result<(), TestCaseError> {
    let (keeps, plain) = (Site::new(orders_bytes_max), Site::new(0));
    let mut views = Vec::new();
    let mut appended = 0;
    for step in steps {
        let before = keeps.mailbox.view();
        let mut on_its_way = before.all();
        let passed = on_its_way.by_ref().take(before.exists() as usize / 2).count();
        keeps.run(step, appended);
        plain.run(step, appended);
        for (seq, record) in on_its_way {
            prop_assert_eq!(before.record(seq), Some(record), "behind {} of {:?}", passed, step);
        }
        if let Step::Append(some) = step {
            appended += some.len();
        }
        views.push((keeps.mailbox.view(), plain.mailbox.view()));
        // The newest view, then one from before.
        for (view, as_plain) in [&views[views.len() - 1], &views[views.len() / 2]] {
            for (seq, record) in view.all() {
                prop_assert_eq!(view.record(seq), Some(record), "a walk after {:?}", step);
            }
            for (seq, uid) in view.uids() {
                prop_assert_eq!(view.uid(seq), Some(uid), "a walk after {:?}", step);
            }
            match step {
                Step::Ask(criteria, which) => {
                    let told = keeps.sort(view, criteria, *which);
                    prop_assert_eq!(told, plain.sort(as_plain, criteria, *which), "{:?}", step);
                }
                Step::Thread(n, which) => {
                    let told = keeps.thread(view, *which, *n);
                    prop_assert_eq!(told, plain.thread(as_plain, *which, *n), "{:?}", step);
                }
                _ => {}
            }
        }
    }
    prop_assert_eq!(plain.store.status().orders_bytes, 0, "told of what is kept");
    keeps.store.close().unwrap();
    plain.store.close().unwrap();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_kept_answers_as_if_nothing_were(steps in steps()) {
        compare(&steps, 64 << 20)?;
    }

    #[test]
    fn and_so_it_does_where_little_room_is_for_it(steps in steps()) {
        compare(&steps, 4 << 10)?;
    }
}
