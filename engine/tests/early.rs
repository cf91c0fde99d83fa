//! STORE answered before it is durable: who sees it when, and what a crash or a failed write leaves.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use engine::io::sim::{Fault, Sim};
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Answered, Delivery, Drive, Mailbox, MountOptions, Partition, Store, StoreConfig, StoreMode,
    StoreRequest, Target, Turn, UserOptions,
};
use protocol::types::{Keyword, ModSeq, SystemFlags, Uid};

const KINDS: [LayoutKind; 2] = [LayoutKind::Maildir, LayoutKind::Cyrus];
const DRIVES: [Drive; 2] = [Drive::Inline, Drive::Threads];

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(sim: &Sim, kind: LayoutKind, drive: Drive) -> Store {
    let partition = Partition {
        name: "default".into(),
        path: PathBuf::from("/mail"),
        layout: layout_for(kind, &LayoutOptions::default()),
        mount: MountOptions::default(),
    };
    let config = StoreConfig::new("/state", vec![partition]);
    Store::open(config, Arc::new(sim.clone()), drive).unwrap()
}

fn inbox(store: &Store) -> Mailbox {
    let user = block(store.user("alice", &UserOptions::default())).unwrap();
    block(user.mailbox("INBOX")).unwrap()
}

/// A store on a simulated disk with `count` messages in INBOX.
fn with_messages(kind: LayoutKind, drive: Drive, count: usize) -> (Sim, Store, Mailbox) {
    let sim = Sim::new(1);
    let store = open(&sim, kind, drive);
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let lane = Lane::inline(storage);
    let mailbox = inbox(&store);
    for n in 0..count {
        let user = block(store.user("alice", &UserOptions::default())).unwrap();
        let target = Target {
            user,
            mailbox: mailbox.clone(),
            flags: SystemFlags::empty(),
            keywords: vec![],
            internal_date: Some(1_700_000_000),
            annotations: vec![],
        };
        block(async {
            let mut delivery = Delivery::new(&store, &lane, vec![target]).unwrap();
            delivery.write(format!("Subject: {n}\r\n\r\nbody\r\n").as_bytes()).await.unwrap();
            delivery.commit().await.remove(0).unwrap();
        });
    }
    (sim, store, mailbox)
}

fn add(uid: u32, flags: SystemFlags) -> StoreRequest {
    StoreRequest {
        uids: vec![Uid(uid)],
        mode: StoreMode::Add,
        flags,
        keywords: vec![],
        unchanged_since: None,
    }
}

fn flags(mailbox: &Mailbox, uid: u32) -> SystemFlags {
    mailbox.view().record_of(Uid(uid)).unwrap().1.flags
}

const SEEN: SystemFlags = SystemFlags::SEEN;
const FLAGGED: SystemFlags = SystemFlags::FLAGGED;

#[test]
fn an_early_answer_tells_what_every_reader_sees_once_it_is_settled() {
    for kind in KINDS {
        for drive in DRIVES {
            let (_sim, store, mailbox) = with_messages(kind, drive, 2);
            let before = mailbox.view().modseq_highest();
            let first = block(mailbox.store_early(add(1, SEEN))).unwrap();
            let now = |uid, flags| Some(vec![Answered { uid: Uid(uid), flags, keywords: 0 }]);
            assert_eq!(first.answered, now(1, SEEN));
            assert_eq!((first.changed, first.modseq), (vec![Uid(1)], ModSeq(before.0 + 1)));
            // The next one builds on it though nobody sees it yet.
            let second = block(mailbox.store_early(add(1, FLAGGED))).unwrap();
            assert_eq!(second.answered, now(1, SEEN.union(FLAGGED)));
            let same = block(mailbox.store_early(add(1, FLAGGED))).unwrap();
            assert_eq!((same.answered, same.changed), (second.answered, vec![]));
            let view = block(inbox(&store).refresh()).unwrap();
            let record = view.record_of(Uid(1)).unwrap().1;
            assert_eq!((record.flags, record.modseq), (SEEN.union(FLAGGED), second.modseq));
            assert!(!view.was_reverted(first.modseq) && !view.was_reverted(second.modseq));
            store.close().unwrap();
        }
    }
}

#[test]
fn a_change_that_somebody_waits_for_brings_the_earlier_ones_along() {
    for drive in DRIVES {
        let (_sim, store, mailbox) = with_messages(LayoutKind::Maildir, drive, 2);
        block(mailbox.store_early(add(1, SEEN))).unwrap();
        block(mailbox.store(add(2, SEEN))).unwrap();
        assert_eq!((flags(&mailbox, 1), flags(&mailbox, 2)), (SEEN, SEEN));
        store.close().unwrap();
    }
}

#[test]
fn conditional_and_unusual_changes_are_durable_before_the_answer() {
    let (_sim, _store, mailbox) = with_messages(LayoutKind::Cyrus, Drive::Inline, 1);
    let highest = mailbox.view().modseq_highest();
    let conditional = StoreRequest { unchanged_since: Some(highest), ..add(1, SEEN) };
    let named = StoreRequest {
        keywords: vec![Keyword::new("$New").unwrap()],
        ..add(1, SystemFlags::empty())
    };
    let many = StoreRequest { uids: (1..=513).map(Uid).collect(), ..add(1, FLAGGED) };
    for request in [conditional, named.clone(), many] {
        let outcome = block(mailbox.store_early(request)).unwrap();
        assert!(outcome.answered.is_none() && outcome.changed == [Uid(1)]);
        assert_eq!(outcome.view.record_of(Uid(1)).unwrap().1.modseq, outcome.modseq);
    }
    // The keyword is known by now.
    assert!(block(mailbox.store_early(named)).unwrap().answered.is_some());
}

#[test]
fn a_crash_undoes_only_what_nobody_else_saw() {
    for kind in KINDS {
        let (sim, _store, mailbox) = with_messages(kind, Drive::Inline, 2);
        block(mailbox.store_early(add(1, SEEN))).unwrap();
        block(mailbox.settled());
        let lost = block(mailbox.store_early(add(2, SEEN))).unwrap();
        sim.crash(7);
        let again = inbox(&open(&sim, kind, Drive::Inline));
        assert_eq!(flags(&again, 1), SEEN);
        assert_eq!(flags(&again, 2), SystemFlags::empty());
        assert!(again.view().modseq_highest() < lost.modseq);
    }
}

#[test]
fn a_failed_write_takes_the_answer_back() {
    for kind in KINDS {
        let (sim, store, mailbox) = with_messages(kind, Drive::Inline, 2);
        let lost = block(mailbox.store_early(add(1, SEEN))).unwrap();
        sim.fail_at(sim.operations() + 1, Fault::Io);
        let view = block(mailbox.refresh()).unwrap();
        assert!(view.was_reverted(lost.modseq));
        assert_eq!(view.record_of(Uid(1)).unwrap().1.flags, SystemFlags::empty());
        // The log goes on in a new segment, under a new MODSEQ.
        let next = block(mailbox.store_early(add(1, FLAGGED))).unwrap();
        assert!(next.modseq > lost.modseq);
        let view = block(mailbox.refresh()).unwrap();
        assert_eq!(view.record_of(Uid(1)).unwrap().1.flags, FLAGGED);
        assert!(!view.was_reverted(next.modseq));
        assert_eq!(block(store.check(None)).unwrap().findings, Vec::<String>::new());
    }
}

/// Lets the store work until nothing is left to do, or the future has ended.
fn driven<T>(store: &Store, future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    for _ in 0..1000 {
        if let Poll::Ready(out) = step(&mut future) {
            return out;
        }
        work(store);
    }
    panic!("the store has nothing to do and the call does not return");
}

fn step<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn work(store: &Store) {
    while [Turn::Helper, Turn::Log, Turn::Apply].map(|turn| store.turn(turn)).contains(&true) {}
}

/// An answer promises that the change is durable, also where another session's change of the same
/// kind came first and is not durable yet.
#[test]
fn changes_that_others_are_just_making_are_waited_for() {
    let (sim, store, mailbox) = with_messages(LayoutKind::Cyrus, Drive::Inline, 3);
    drop(mailbox);
    store.close().unwrap();
    let store = open(&sim, LayoutKind::Cyrus, Drive::Manual);
    let user = driven(&store, store.user("alice", &UserOptions::default())).unwrap();
    let mailbox = driven(&store, user.mailbox("INBOX")).unwrap();
    let view = mailbox.view();

    let mut first = Box::pin(mailbox.store(add(1, SEEN)));
    let mut second = Box::pin(mailbox.store(add(1, SEEN)));
    assert!(step(&mut first).is_pending() && step(&mut second).is_pending());
    work(&store);
    assert!(step(&mut first).is_ready() && step(&mut second).is_ready());
    assert!(mailbox.view().record_of(Uid(1)).unwrap().1.flags.contains(SEEN));

    let mut first = Box::pin(mailbox.expunge(&view, vec![Uid(2)]));
    let mut second = Box::pin(mailbox.expunge(&view, vec![Uid(2), Uid(3)]));
    assert!(step(&mut first).is_pending() && step(&mut second).is_pending());
    work(&store);
    assert!(step(&mut first).is_ready() && step(&mut second).is_ready());
    assert_eq!(mailbox.view().exists(), 1);
    // What is durable already is not made again.
    let modseq = mailbox.view().modseq_highest();
    assert_eq!(driven(&store, mailbox.expunge(&view, vec![Uid(2)])).unwrap(), modseq);
    assert!(driven(&store, mailbox.store(add(1, SEEN))).unwrap().changed.is_empty());
}
