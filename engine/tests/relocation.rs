//! Mailboxes that go to another partition or user come with all that belongs to them.

mod site;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::io::Storage;
use engine::io::sim::{Mode, Sim};
use engine::layout::LayoutKind;
use engine::{
    AclEntry, Depth, Drive, Error, Identifier, Mailbox, NewMailbox, QuotaLimits, Rights,
    RightsChange, SpecialUse, Store, StoreConfig, StoreMode, StoreRequest, Target, User,
    UserOptions,
};
use protocol::types::{Keyword, SystemFlags, Uid};

use site::{
    LAYOUTS, MESSAGE, block, copied, deliver, open_with, partition, storage, target, text_of, user,
    value,
};

fn open(dir: &Path) -> Store {
    let partitions = [("default", LayoutKind::Maildir), ("other", LayoutKind::Cyrus)];
    let partitions = partitions.map(|(name, layout)| partition(dir, name, layout));
    open_with(StoreConfig::new(dir.join("state"), partitions.into()))
}

fn append(store: &Store, user: &User, name: &str) {
    append_over(store, user, name, storage());
}

fn append_over(store: &Store, user: &User, name: &str, storage: Arc<dyn Storage>) {
    let target = Target {
        flags: SystemFlags::FLAGGED,
        keywords: vec![Keyword::new("work").unwrap()],
        internal_date: Some(1_000_000_000),
        annotations: vec![value("", "/comment", Some(name))],
        ..target(user, name)
    };
    deliver(store, storage, target).unwrap();
}

const LIMITS: QuotaLimits =
    QuotaLimits { bytes: None, messages: Some(9), mailboxes: None, annotation_bytes: Some(99) };

fn fill(store: &Store) -> User {
    let user = user(store, "alice");
    for name in ["a", "a/b"] {
        block(user.create(name, &[SpecialUse::Sent])).unwrap();
    }
    for name in ["INBOX", "a", "a/b"] {
        append(store, &user, name);
        append(store, &user, name);
        let who = AclEntry { negative: false, who: Identifier::User("bob".into()) };
        block(user.set_acl(name, who, RightsChange::Replace(Rights::LOOKUP))).unwrap();
        let value = Some(name.as_bytes().to_vec());
        let entries = vec![("/shared/comment".into(), value)];
        block(user.set_metadata(Some(name), "alice", entries)).unwrap();
    }
    block(user.set_quota(Some("a"), Some(LIMITS))).unwrap();
    user
}

/// The mailbox `was` of [`fill`] is whole under this name.
fn is_whole(user: &User, name: &str, was: &str) {
    let mailbox = block(user.mailbox(name)).unwrap();
    let view = mailbox.view();
    assert_eq!(view.exists(), 2, "{name}");
    let found = block(mailbox.annotations("", Uid(1), Uid::MAX)).unwrap();
    for (_, record) in view.all() {
        assert_eq!((record.flags, record.internal_date), (SystemFlags::FLAGGED, 1_000_000_000));
        assert_eq!(view.keywords().of_bits(record.keywords).count(), 1);
        assert_eq!(found.of(record.uid)[0].shared.as_deref(), Some(was.as_bytes()));
    }
    let comment = user.metadata(Some(name), "alice", vec!["/shared/comment".into()], Depth::Zero);
    assert_eq!(block(comment).unwrap()[0].1.as_deref(), Some(was.as_bytes()), "{name}");
    let acl = user.acl(name).unwrap();
    assert!(acl.entries().any(|(entry, _)| entry.to_string() == "bob"), "{name}");
}

/// What clients know mailboxes by: ids, UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ, and of each message UID,
/// MODSEQ, flags, size and content; what vanished.
fn faces(user: &User) -> Vec<String> {
    let names: Vec<String> = user.namespace().mailboxes.keys().cloned().collect();
    let face = |name: &String| {
        let mailbox = block(user.mailbox(name)).unwrap();
        let view = mailbox.view();
        let messages = view.all().map(|(seq, r)| {
            let content = view.content_id(r.uid);
            format!("{seq:?} {:?} {:?} {:?} {} {content:?}", r.uid, r.modseq, r.flags, r.size)
        });
        format!(
            "{name} {} {:?} {:?} {:?} {:?} {:?}",
            mailbox.id(),
            mailbox.uid_validity(),
            view.uid_next(),
            view.modseq_highest(),
            view.vanished_floor(),
            messages.collect::<Vec<_>>()
        )
    };
    names.iter().map(face).collect()
}

#[test]
fn mailboxes_change_their_partition() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = fill(&store);
    let usage = user.usage();
    block(store.checkpoint()).unwrap();
    let inbox = block(user.mailbox("INBOX")).unwrap();
    block(inbox.expunge(&inbox.view(), vec![Uid(1)])).unwrap();
    append(&store, &user, "INBOX");
    let before = faces(&user);
    for name in ["INBOX", "a"] {
        block(user.change_partition(name, "other")).unwrap();
        block(user.change_partition(name, "other")).unwrap();
    }
    let gone = block(user.change_partition("a", "nowhere"));
    assert!(matches!(gone, Err(Error::NoSuchPartition(_))));
    let look = |user: &User| {
        let namespace = user.namespace();
        let there: Vec<(&str, &str)> = namespace
            .mailboxes
            .iter()
            .map(|(name, entry)| (name.as_str(), entry.partition.as_str()))
            .collect();
        assert_eq!(there, [("INBOX", "other"), ("a", "other"), ("a/b", "default")]);
        for name in ["INBOX", "a", "a/b"] {
            is_whole(user, name, name);
        }
        assert_eq!(faces(user), before);
        assert_eq!(namespace.mailboxes["a"].special_use, [SpecialUse::Sent]);
        assert_eq!(user.usage(), usage);
        let root = user.quota_root("a");
        assert_eq!((root.mailbox.as_deref(), root.limits), (Some("a"), LIMITS));
        assert_eq!((root.usage.messages, root.usage.mailboxes), (4, 2));
        assert_eq!(namespace.partition, "other", "where new mailboxes are made");
    };
    look(&user);
    let crash = copied(dir.path());
    let again = open(crash.path());
    look(&block(again.user("alice", &UserOptions::default())).unwrap());
    assert_eq!(block(again.check(None)).unwrap().findings, [""; 0]);
    block(user.create_as("new", &[], NewMailbox::default())).unwrap();
    assert_eq!(user.namespace().mailboxes["new"].partition, "other");
    block(user.delete("new")).unwrap();
    store.close().unwrap();
    drop((store, user));
    look(&block(open(dir.path()).user("alice", &UserOptions::default())).unwrap());
}

#[test]
fn mailboxes_go_to_another_user() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let alice = fill(&store);
    let bob = user(&store, "bob");
    block(bob.create("x", &[])).unwrap();
    let taken = block(alice.give("a", &bob, "x", None));
    assert!(matches!(taken, Err(Error::MailboxExists)));
    block(alice.give("a/b", &bob, "x/b", Some("other".into()))).unwrap();
    block(alice.give("a", &bob, "y", None)).unwrap();
    block(alice.give("INBOX", &bob, "INBOX", None)).unwrap();
    assert_eq!(alice.namespace().mailboxes.keys().collect::<Vec<_>>(), ["INBOX"]);
    assert_eq!(alice.usage().messages, 0);
    let look = |bob: &User| {
        for (name, was) in [("x/b", "a/b"), ("y", "a"), ("INBOX", "INBOX")] {
            is_whole(bob, name, was);
        }
        assert_eq!(bob.namespace().mailboxes["x/b"].partition, "other");
        assert_eq!(bob.quota_root("y").limits, LIMITS);
        assert_eq!(bob.usage().messages, 6);
    };
    look(&bob);
    append(&store, &alice, "INBOX");
    assert!(!block(alice.remove_empty(None)).unwrap(), "there is a message");
    block(alice.give("INBOX", &bob, "x", None)).unwrap_err();
    let inbox = block(alice.mailbox("INBOX")).unwrap();
    block(inbox.expunge(&inbox.view(), vec![Uid(3)])).unwrap();
    assert!(block(alice.remove_empty(Some(&bob))).unwrap());
    assert_eq!(block(store.users()).unwrap(), ["bob"]);
    let again = open(copied(dir.path()).path());
    look(&user(&again, "bob"));
}

/// A power cut at any operation of a move leaves the mailbox on the one partition or on the other,
/// whole, and nothing beside it.
#[test]
fn a_cut_at_any_moment_of_a_move_leaves_one_mailbox() {
    let pairs = LAYOUTS.into_iter().flat_map(|from| LAYOUTS.map(|to| (from, to)));
    {
        for ((from, to), mode) in pairs.zip([Mode::Weak, Mode::Ordered, Mode::Weak, Mode::Ordered])
        {
            let sim = Sim::with_mode(1, mode);
            let partition = |name: &str, layout| partition(Path::new("/"), name, layout);
            let open = |sim: &Sim| {
                let partitions = vec![partition("default", from), partition("other", to)];
                let mut config = StoreConfig::new("/state", partitions);
                config.sync_names = mode == Mode::Weak;
                Store::open(config, Arc::new(sim.clone()), Drive::Inline).unwrap()
            };
            let store = open(&sim);
            let user = user(&store, "alice");
            block(user.create("a", &[])).unwrap();
            for _ in 0..3 {
                append_over(&store, &user, "a", Arc::new(sim.clone()));
            }
            let mailbox = block(user.mailbox("a")).unwrap();
            block(mailbox.expunge(&mailbox.view(), vec![Uid(2)])).unwrap();
            // Recovery raises HIGHESTMODSEQ where it finds an expunged message without its file.
            block(store.checkpoint()).unwrap();
            let before = faces(&user);
            sim.record(true);
            block(user.change_partition("a", "other")).unwrap();
            block(store.checkpoint()).unwrap();
            let images = sim.take_images();
            sim.record(false);
            let mut found = [0, 0];
            for (n, image) in images.iter().enumerate() {
                let (sim, _) = image.after_cut(n as u64);
                let store = open(&sim);
                let user = block(store.user("alice", &UserOptions::default())).unwrap();
                let at = format!("{from:?} to {to:?}, {mode:?}, operation {}", image.operation());
                assert_eq!(faces(&user), before, "{at}");
                let mailbox = block(user.mailbox("a")).unwrap();
                for (_, record) in mailbox.view().all() {
                    let text = text_of(&mailbox, &record, Arc::new(sim.clone()));
                    assert_eq!(text, MESSAGE, "{at}");
                }
                assert_eq!(block(store.check(None)).unwrap().findings, [""; 0], "{at}");
                let there = user.namespace().mailboxes["a"].partition.clone();
                found[usize::from(there == "other")] += 1;
                // Both partitions have nothing but what is in use, and the mailbox can go on.
                for root in ["/default", "/other"] {
                    for dir in ["..cursus-deleted", "..cursus-arriving"] {
                        let mut left = 0;
                        let dir = Path::new(root).join(dir);
                        let _ = sim.list(&dir, &mut |_, _| left += 1);
                        assert_eq!(left, 0, "{at}: {}", dir.display());
                    }
                }
                let back = if there == "other" { "default" } else { "other" };
                block(user.change_partition("a", back)).unwrap();
                assert_eq!(faces(&user), before, "{at}");
                store.close().unwrap();
            }
            assert!(found[0] > 10 && found[1] > 3, "{found:?}");
            store.close().unwrap();
        }
    }
}

/// A mailbox that comes back to a partition does not meet what a power cut brings back of its former
/// stay there, where directories forget their changes one by one.
#[test]
fn a_mailbox_that_comes_back_is_the_only_one() {
    for (here, there) in
        [(LayoutKind::Cyrus, LayoutKind::Maildir), (LayoutKind::Maildir, LayoutKind::Cyrus)]
    {
        let sim = Sim::with_mode(1, Mode::Weak);
        let open = |sim: &Sim| {
            let root = Path::new("/");
            let partitions =
                vec![partition(root, "default", here), partition(root, "other", there)];
            let mut config = StoreConfig::new("/state", partitions);
            config.sync_names = true;
            Store::open(config, Arc::new(sim.clone()), Drive::Inline).unwrap()
        };
        let store = open(&sim);
        let user = user(&store, "alice");
        block(user.create("a", &[])).unwrap();
        for _ in 0..3 {
            append_over(&store, &user, "a", Arc::new(sim.clone()));
        }
        block(store.checkpoint()).unwrap();
        let before = faces(&user);
        block(user.change_partition("a", "other")).unwrap();
        sim.record(true);
        block(user.change_partition("a", "default")).unwrap();
        let images = sim.take_images();
        sim.record(false);
        for (n, image) in images.iter().enumerate() {
            for seed in 0..2 {
                let (sim, _) = image.after_cut((2 * n + seed) as u64);
                let store = open(&sim);
                let user = block(store.user("alice", &UserOptions::default())).unwrap();
                let at = format!("{here:?}, operation {}, seed {seed}", image.operation());
                assert_eq!(faces(&user), before, "{at}");
                assert_eq!(block(store.check(None)).unwrap().findings, [""; 0], "{at}");
                store.close().unwrap();
            }
        }
        store.close().unwrap();
    }
}

/// A session that goes on in the old mailbox hears that it is gone, and what another program
/// delivers at the last moment comes along.
#[test]
fn sessions_and_other_programs_are_not_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let user = fill(&store);
    let inbox = block(user.mailbox("INBOX")).unwrap();
    std::fs::write(dir.path().join("default/alice/new/1.foreign"), "Subject: f\n\nx\n").unwrap();
    block(user.change_partition("INBOX", "other")).unwrap();
    assert!(inbox.is_gone());
    let gone = block(inbox.expunge(&inbox.view(), vec![Uid(1)]));
    assert!(matches!(gone, Err(Error::MailboxGone)));
    let now = block(user.mailbox("INBOX")).unwrap();
    assert_eq!((now.id(), now.view().exists()), (inbox.id(), 3));
    let (_, last) = now.view().all().last().unwrap();
    let text = text_of(&now, &last, storage());
    assert_eq!((last.uid, text.as_str()), (Uid(3), "Subject: f\r\n\r\nx\r\n"));
    block(inbox_changes(&now));
    assert_eq!(block(store.check(None)).unwrap().findings, [""; 0]);
}

async fn inbox_changes(now: &Mailbox) {
    now.expunge(&now.view(), vec![Uid(1)]).await.unwrap();
    assert_eq!(now.refresh().await.unwrap().exists(), 2);
}

/// Deliveries and changes of flags while a mailbox goes from one partition to the other and back: what
/// was acknowledged is there once, under the UID that was told, with its flags.
#[test]
fn nothing_is_lost_while_a_mailbox_moves() {
    let dir = tempfile::tempdir().unwrap();
    let partitions = [("default", LayoutKind::Maildir), ("other", LayoutKind::Cyrus)];
    let partitions = partitions.map(|(name, layout)| partition(dir.path(), name, layout));
    let config = StoreConfig::new(dir.path().join("state"), partitions.into());
    let store = Store::open(config, storage(), Drive::Threads).unwrap();
    let alice = user(&store, "alice");
    let over = std::sync::atomic::AtomicBool::new(false);
    let (told, moves) = std::thread::scope(|scope| {
        let deliverers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut told: Vec<(Uid, bool)> = Vec::new();
                    while !over.load(Ordering::Acquire) {
                        let target = target(&alice, "INBOX");
                        let mailbox = target.mailbox.clone();
                        let uid = match deliver(&store, storage(), target) {
                            Ok(appended) => appended.uid,
                            Err(Error::MailboxGone | Error::MailboxMoving) => continue,
                            // Staged where the mailbox is no more.
                            Err(Error::Io { .. }) if mailbox.is_gone() => continue,
                            Err(error) => panic!("{error}"),
                        };
                        let request = StoreRequest {
                            uids: vec![uid],
                            mode: StoreMode::Add,
                            flags: SystemFlags::FLAGGED,
                            keywords: vec![],
                            unchanged_since: None,
                        };
                        let flagged = block(mailbox.store(request))
                            .is_ok_and(|done| !done.changed.is_empty());
                        told.push((uid, flagged));
                    }
                    told
                })
            })
            .collect();
        let mut moves = 0;
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(2) {
            let to = if moves % 2 == 0 { "other" } else { "default" };
            block(alice.change_partition("INBOX", to)).unwrap();
            moves += 1;
        }
        over.store(true, Ordering::Release);
        let told: Vec<_> = deliverers.into_iter().flat_map(|one| one.join().unwrap()).collect();
        (told, moves)
    });
    assert!(moves > 1 && told.len() > 10, "{moves} moves, {} messages", told.len());
    let view = block(block(alice.mailbox("INBOX")).unwrap().refresh()).unwrap();
    assert_eq!(view.exists() as usize, told.len(), "after {moves} moves");
    for (uid, flagged) in told {
        let (_, record) = view.record_of(uid).unwrap_or_else(|| panic!("{uid} is lost"));
        assert_eq!(record.flags.contains(SystemFlags::FLAGGED), flagged, "{uid}");
        text_of(&block(alice.mailbox("INBOX")).unwrap(), &record, storage());
    }
    assert_eq!(block(store.check(None)).unwrap().findings, [""; 0]);
    store.close().unwrap();
}
