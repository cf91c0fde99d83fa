//! Annotations of messages: they are there after stops and crashes and in a backup's restore, go with
//! their messages, and count as ANNOTATION-STORAGE exactly.

mod site;

use std::path::Path;
use std::sync::Arc;

use engine::layout::LayoutKind;
use engine::{
    Annotate, AnnotationScope, AnnotationValue, Carried, CarriedAnnotations, Collation, Error,
    FlagScope, Mailbox, QuotaLimits, Store, Target, User,
};
use protocol::types::{ModSeq, Uid};

use site::{block, config, copied, deliver, open_with, storage, target, user, value};

struct Bench {
    store: Store,
    user: User,
}

impl Bench {
    fn open(dir: &Path, layout: LayoutKind) -> Bench {
        let mut config = config(dir, layout);
        config.metadata_value_bytes_max = 1024;
        config.annotations_max = 10;
        let store = open_with(config);
        let user = user(&store, "alice");
        Bench { store, user }
    }

    fn mailbox(&self, name: &str) -> Mailbox {
        block(self.user.mailbox(name)).unwrap()
    }

    fn append(&self, name: &str, annotations: Vec<AnnotationValue>) -> engine::Result<Uid> {
        let target = Target { annotations, ..target(&self.user, name) };
        deliver(&self.store, storage(), target).map(|appended| appended.uid)
    }

    fn annotate(
        &self,
        name: &str,
        uids: &[u32],
        values: Vec<AnnotationValue>,
    ) -> engine::Result<()> {
        let uids = uids.iter().map(|uid| Uid(*uid)).collect();
        let request = Annotate { uids, values, unchanged_since: None };
        block(self.mailbox(name).annotate(request, None)).map(drop)
    }

    /// `entry=shared|private` of each entry.
    fn seen(&self, name: &str, viewer: &str, uid: u32) -> Vec<String> {
        let found = block(self.mailbox(name).annotations(viewer, Uid(1), Uid::MAX)).unwrap();
        assert!(found.covers(Uid(uid)));
        let text = |value: &Option<Arc<[u8]>>| match value {
            Some(value) => String::from_utf8_lossy(value).into_owned(),
            None => "NIL".to_owned(),
        };
        let line = |one: &engine::Annotation| {
            format!("{}={}|{}", one.entry, text(&one.shared), text(&one.private))
        };
        found.of(Uid(uid)).iter().map(line).collect()
    }

    fn storage(&self) -> u64 {
        self.user.usage().annotation_bytes
    }

    fn found(&self, viewer: &str, scope: AnnotationScope, text: &str) -> Vec<(u32, u32)> {
        let inbox = self.mailbox("INBOX");
        let all = |_: &str| true;
        block(inbox.annotated(viewer, all, scope, text, Collation::default())).unwrap()
    }
}

#[test]
fn values_survive_and_go_with_their_messages() {
    for layout in [LayoutKind::Maildir, LayoutKind::Cyrus] {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), layout);
        for n in 1..=4 {
            assert_eq!(bench.append("INBOX", vec![]).unwrap(), Uid(n));
        }
        let with = vec![value("", "/comment", Some("came with it"))];
        assert_eq!(bench.append("INBOX", with).unwrap(), Uid(5));
        let before = bench.mailbox("INBOX").view().modseq_highest();
        let both = vec![
            value("", "/comment", Some("all")),
            value("alice", "/comment", Some("mine")),
            value("alice", "/altsubject", Some("")),
        ];
        bench.annotate("INBOX", &[1, 2, 3, 99], both).unwrap();
        bench.annotate("INBOX", &[2], vec![value("bob", "/comment", Some("bob's"))]).unwrap();
        let view = bench.mailbox("INBOX").view();
        let modseq = |uid| view.record_of(Uid(uid)).unwrap().1.modseq;
        assert!(modseq(4) <= before && modseq(1) > before && modseq(2) > modseq(3));
        block(bench.store.checkpoint()).unwrap();
        bench.annotate("INBOX", &[3], vec![value("", "/comment", None)]).unwrap();
        bench.annotate("INBOX", &[1], vec![value("alice", "/comment", Some("newer"))]).unwrap();
        let inbox = bench.mailbox("INBOX");
        block(inbox.expunge(&inbox.view(), vec![Uid(2)])).unwrap();
        let look = |bench: &Bench| {
            let own = ["/altsubject=NIL|", "/comment=all|newer"];
            assert_eq!(bench.seen("INBOX", "alice", 1), own);
            assert_eq!(bench.seen("INBOX", "bob", 1), ["/comment=all|NIL"]);
            assert!(bench.seen("INBOX", "alice", 2).is_empty(), "expunged");
            assert!(bench.seen("INBOX", "bob", 2).is_empty());
            assert_eq!(bench.seen("INBOX", "alice", 3), ["/altsubject=NIL|", "/comment=NIL|mine"]);
            assert!(bench.seen("INBOX", "alice", 4).is_empty());
            assert_eq!(bench.seen("INBOX", "alice", 5), ["/comment=came with it|NIL"]);
            assert_eq!(bench.storage(), 3 + 5 + 4 + 12);
            use AnnotationScope::{Either, Private, Shared};
            assert_eq!(bench.found("alice", Either, "M"), [(3, 3), (5, 5)]);
            assert_eq!(bench.found("alice", Private, "e"), [(1, 1), (3, 3)]);
            assert_eq!(bench.found("alice", Shared, "al"), [(1, 1)]);
            assert_eq!(bench.found("bob", Private, ""), []);
            assert_eq!(bench.found("alice", Either, ""), [(1, 1), (3, 3), (5, 5)]);
        };
        look(&bench);
        let crash = copied(dir.path());
        let again = Bench::open(crash.path(), layout);
        assert!(again.store.status().recovered > 0);
        look(&again);
        again.store.close().unwrap();
        drop(again);
        look(&Bench::open(crash.path(), layout));
        block(bench.store.checkpoint()).unwrap();
        look(&bench);
        block(bench.user.create("other", &[])).unwrap();
        block(bench.user.rename("INBOX", "kept")).unwrap();
        assert_eq!(bench.seen("kept", "alice", 1), ["/altsubject=NIL|", "/comment=all|newer"]);
        assert_eq!(bench.storage(), 3 + 5 + 4 + 12);
        block(bench.user.delete("kept")).unwrap();
        assert_eq!(bench.storage(), 0);
        bench.store.close().unwrap();
        assert_eq!(Bench::open(dir.path(), layout).storage(), 0);
    }
}

#[test]
fn copies_take_along_what_their_user_may() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), LayoutKind::Maildir);
    block(bench.user.create("a", &[])).unwrap();
    let all = vec![
        value("", "/comment", Some("all")),
        value("alice", "/comment", Some("alice's")),
        value("bob", "/comment", Some("bob's")),
    ];
    bench.append("INBOX", all).unwrap();
    let (inbox, target) = (bench.mailbox("INBOX"), bench.mailbox("a"));
    let carry = |shared, private: Option<&str>, remove| {
        let private = private.map(str::to_owned);
        let annotations = CarriedAnnotations::Of { shared, private };
        let carried = Carried { flags: FlagScope::ALL, annotations };
        let view = inbox.view();
        let uids = view.uids().map(|(_, uid)| uid).collect();
        block(inbox.transfer(&view, uids, &target, remove, carried)).unwrap();
    };
    carry(true, Some("alice"), false);
    carry(false, Some("bob"), false);
    carry(true, None, true);
    let (alice, bob) = (bench.seen("a", "alice", 1), bench.seen("a", "bob", 1));
    assert_eq!(
        (alice, bob),
        (vec!["/comment=all|alice's".into()], vec!["/comment=all|NIL".into()])
    );
    assert_eq!(bench.seen("a", "bob", 2), ["/comment=NIL|bob's"]);
    assert!(bench.seen("a", "alice", 2).is_empty());
    assert_eq!(bench.seen("a", "alice", 3), ["/comment=all|NIL"]);
    assert_eq!(bench.storage(), 10 + 5 + 3);
    let again = Bench::open(copied(dir.path()).path(), LayoutKind::Maildir);
    assert_eq!(again.storage(), 18);
    assert_eq!(again.seen("a", "bob", 2), ["/comment=NIL|bob's"]);
}

/// Many values: copies become several transactions.
#[test]
fn much_is_copied_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), LayoutKind::Maildir);
    block(bench.user.create("a", &[])).unwrap();
    let long = "x".repeat(1024);
    let uids: Vec<u32> = (1..=150).collect();
    for _ in &uids {
        bench.append("INBOX", vec![]).unwrap();
    }
    let values = (0..10).map(|n| value("", &format!("/vendor/x/{n}"), Some(&long))).collect();
    bench.annotate("INBOX", &uids, values).unwrap();
    let (inbox, target) = (bench.mailbox("INBOX"), bench.mailbox("a"));
    let all = uids.iter().map(|uid| Uid(*uid)).collect();
    let copied = block(inbox.copy(&inbox.view(), all, &target)).unwrap();
    assert_eq!(copied.pairs.len(), 150);
    let found = block(target.annotations("", Uid(1), Uid::MAX)).unwrap();
    assert!(found.covers(Uid(1)) && !found.covers(Uid(150)), "a look has its limit");
    let last = block(target.annotations("", Uid(150), Uid(150))).unwrap();
    assert_eq!(last.of(Uid(150)).len(), 10);
    assert_eq!(bench.storage(), 2 * 150 * 10 * 1024);
}

#[test]
fn limits_hold_at_their_values_and_not_past_them() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), LayoutKind::Maildir);
    bench.append("INBOX", vec![]).unwrap();
    let long = "x".repeat(1024);
    bench.annotate("INBOX", &[1], vec![value("", "/comment", Some(&long))]).unwrap();
    let longer = vec![value("", "/comment", Some(&format!("{long}x")))];
    let error = bench.annotate("INBOX", &[1], longer.clone()).unwrap_err();
    assert!(matches!(error, Error::AnnotationTooBig { max: 1024 }));
    let named = |whose: &str, n: usize| value(whose, &format!("/vendor/x/{n}"), Some("v"));
    bench.annotate("INBOX", &[1], (0..10).map(|n| named("alice", n)).collect()).unwrap();
    let error = bench.annotate("INBOX", &[1], vec![named("alice", 10)]).unwrap_err();
    assert!(matches!(error, Error::AnnotationTooMany { max: 10 }));
    // Shared ones and another user's count apart, and what takes the place of others does not.
    bench.annotate("INBOX", &[1], (0..9).map(|n| named("", n)).collect()).unwrap();
    bench.annotate("INBOX", &[1], vec![named("alice", 3), named("alice", 4)]).unwrap();
    let instead = vec![named("alice", 10), value("alice", "/vendor/x/0", None)];
    bench.annotate("INBOX", &[1], instead).unwrap();
    bench.annotate("INBOX", &[1], (0..9).map(|n| named("bob", n)).collect()).unwrap();
    let error = bench.append("INBOX", (0..11).map(|n| named("", n)).collect());
    assert!(error.is_ok(), "the session looks at what comes with a message");
    let many: Vec<_> = (0..11).map(|n| named("", n)).collect();
    let inbox = bench.mailbox("INBOX");
    let error = inbox.check_annotations(&many).unwrap_err();
    assert!(matches!(error, Error::AnnotationTooMany { max: 10 }));
    assert!(
        inbox.check_annotations(&longer).is_err() && inbox.check_annotations(&many[1..]).is_ok()
    );
    // Of a body part that is not there.
    let part = |n: &str| vec![value("", &format!("/{n}/comment"), Some("v"))];
    bench.append("INBOX", part("1")).unwrap();
    assert!(matches!(bench.append("INBOX", part("2")), Err(Error::NoSuchPart)));
}

#[test]
fn changes_are_conditional_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), LayoutKind::Maildir);
    for _ in 0..2 {
        bench.append("INBOX", vec![]).unwrap();
    }
    let inbox = bench.mailbox("INBOX");
    let since = inbox.view().modseq_highest();
    bench.annotate("INBOX", &[1], vec![value("", "/comment", Some("v"))]).unwrap();
    let request = Annotate {
        uids: vec![Uid(1), Uid(2)],
        values: vec![value("alice", "/altsubject", Some("v"))],
        unchanged_since: Some(since),
    };
    let outcome = block(inbox.annotate(request, None)).unwrap();
    assert_eq!((outcome.modified, outcome.changed), (vec![Uid(1)], vec![Uid(2)]));
    assert!(bench.seen("INBOX", "alice", 1) == ["/comment=v|NIL"]);
    let through = inbox.view().modseq_highest();
    let new = inbox.new_annotations(since, through, "alice");
    assert_eq!((new.of(Uid(1)), new.of(Uid(2))), (vec!["/comment"], vec!["/altsubject"]));
    let others = inbox.new_annotations(since, through, "bob");
    assert!(others.of(Uid(2)).is_empty() && !others.of(Uid(1)).is_empty());
    assert!(inbox.was_private(outcome.modseq, None), "only its user's sessions hear of it");
    assert!(inbox.new_annotations(through, ModSeq(u64::MAX), "alice").is_empty());
}

#[test]
fn storage_is_counted_and_limited() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), LayoutKind::Maildir);
    block(bench.user.create("a", &[])).unwrap();
    block(bench.user.create("b", &[])).unwrap();
    bench.append("a", vec![]).unwrap();
    let metadata = |bench: &Bench, name: &str, value: Option<&str>| {
        let change = vec![("/shared/comment".into(), value.map(|v| v.as_bytes().to_vec()))];
        block(bench.user.set_metadata(Some(name), "alice", change))
    };
    metadata(&bench, "a", Some("12345")).unwrap();
    let limit = QuotaLimits { annotation_bytes: Some(10), ..QuotaLimits::default() };
    block(bench.user.set_quota(Some("a"), Some(limit))).unwrap();
    let usage = |bench: &Bench| bench.user.quota_root("a").usage.annotation_bytes;
    assert_eq!((usage(&bench), bench.storage()), (5, 5));
    let comment = |text: &str| vec![value("", "/comment", Some(text))];
    bench.annotate("a", &[1], comment("12345")).unwrap();
    assert!(matches!(bench.annotate("a", &[1], comment("123456")), Err(Error::OverQuota)));
    assert!(matches!(metadata(&bench, "a", Some("123456")), Err(Error::OverQuota)));
    assert!(matches!(bench.append("a", comment("1")), Err(Error::OverQuota)));
    metadata(&bench, "b", Some("free")).unwrap();
    // What grows less than before fits, also above the limit.
    bench.annotate("a", &[1], comment("1")).unwrap();
    metadata(&bench, "a", Some("123456789")).unwrap();
    assert_eq!((usage(&bench), bench.storage()), (10, 14));
    let (a, b) = (bench.mailbox("a"), bench.mailbox("b"));
    let copied_into = block(a.copy(&a.view(), vec![Uid(1)], &a));
    assert!(matches!(copied_into, Err(Error::OverQuota)));
    block(a.move_to(&a.view(), vec![Uid(1)], &b)).unwrap();
    assert_eq!((usage(&bench), bench.storage()), (9, 14));
    let again = Bench::open(copied(dir.path()).path(), LayoutKind::Maildir);
    assert_eq!((usage(&again), again.storage()), (9, 14));
    block(bench.user.set_quota(Some("a"), None)).unwrap();
    assert_eq!(bench.user.quota_root("a").usage.annotation_bytes, 14);
    metadata(&bench, "a", None).unwrap();
    block(bench.store.checkpoint()).unwrap();
    assert_eq!(bench.storage(), 5);
    bench.store.close().unwrap();
    assert_eq!(Bench::open(dir.path(), LayoutKind::Maildir).storage(), 5);
}
