//! Metadata: what is set is there after stops and crashes, in a backup's restore, and nowhere else.

mod site;

use std::path::Path;

use engine::layout::LayoutKind;
use engine::{Depth, Error, Event, Listener, SpecialUse, Store, User, UserOptions};
use protocol::types::{Uid, UidValidity};

use site::{block, config, copied, open_with};

struct Bench(Store);

impl Bench {
    fn open(dir: &Path) -> Bench {
        let mut config = config(dir, LayoutKind::Maildir);
        config.metadata_value_bytes_max = 1024;
        config.metadata_entries_max = 10;
        Bench(open_with(config))
    }

    fn user(&self, name: &str) -> User {
        block(self.0.user(name, &UserOptions::default())).unwrap()
    }

    fn get(&self, mailbox: Option<&str>, viewer: &str, entry: &str) -> Option<String> {
        let user = self.user("alice");
        let found = block(user.metadata(mailbox, viewer, vec![entry.into()], Depth::Zero)).unwrap();
        let (name, value) = &found[0];
        assert_eq!(name, entry);
        value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    fn set(&self, mailbox: Option<&str>, viewer: &str, changes: &[(&str, Option<&str>)]) {
        let owned = |(entry, value): &(&str, Option<&str>)| {
            ((*entry).to_owned(), value.map(|value| value.as_bytes().to_vec()))
        };
        let changes = changes.iter().map(owned).collect();
        block(self.user("alice").set_metadata(mailbox, viewer, changes)).unwrap();
    }

    fn below(&self, entry: &str, depth: Depth) -> Vec<String> {
        let user = self.user("alice");
        let found = block(user.metadata(Some("INBOX"), "alice", vec![entry.into()], depth));
        let there = found.unwrap().into_iter().filter(|(_, value)| value.is_some());
        there.map(|(name, _)| name).collect()
    }
}

#[test]
fn values_are_shared_or_a_users_own_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let user = bench.user("alice");
    block(user.create("a", &[])).unwrap();
    bench.set(Some("INBOX"), "alice", &[("/shared/comment", Some("all"))]);
    bench.set(Some("INBOX"), "alice", &[("/private/comment", Some("mine"))]);
    bench.set(Some("INBOX"), "bob", &[("/private/comment", Some("bob's"))]);
    bench.set(None, "alice", &[("/private/vendor/x/y", Some("server"))]);
    bench.set(Some("a"), "alice", &[("/shared/comment", Some("old"))]);
    block(bench.0.checkpoint()).unwrap();
    bench.set(Some("a"), "alice", &[("/shared/comment", Some("new")), ("/shared/b", Some(""))]);
    bench.set(Some("INBOX"), "alice", &[("/private/comment", None)]);
    block(user.rename("a", "c")).unwrap();
    block(user.create("d", &[])).unwrap();
    bench.set(Some("d"), "alice", &[("/shared/comment", Some("gone"))]);
    block(user.delete("d")).unwrap();
    block(user.create("d", &[])).unwrap();
    let look = |bench: &Bench| {
        assert_eq!(bench.get(Some("INBOX"), "alice", "/shared/comment").as_deref(), Some("all"));
        assert_eq!(bench.get(Some("INBOX"), "alice", "/private/comment"), None);
        assert_eq!(bench.get(Some("INBOX"), "bob", "/private/comment").as_deref(), Some("bob's"));
        assert_eq!(bench.get(None, "alice", "/private/vendor/x/y").as_deref(), Some("server"));
        assert_eq!(bench.get(None, "bob", "/private/vendor/x/y"), None);
        assert_eq!(bench.get(Some("c"), "alice", "/shared/comment").as_deref(), Some("new"));
        assert_eq!(bench.get(Some("c"), "alice", "/shared/b").as_deref(), Some(""));
        assert_eq!(bench.get(Some("d"), "alice", "/shared/comment"), None);
    };
    look(&bench);
    let crash = copied(dir.path());
    let again = Bench::open(crash.path());
    assert!(again.0.status().recovered > 0);
    look(&again);
    again.0.close().unwrap();
    drop(again);
    let again = Bench::open(crash.path());
    look(&again);
    // What a rename of INBOX leaves and gives: RFC 5464 section 4.1.
    block(again.user("alice").rename("INBOX", "kept")).unwrap();
    assert_eq!(again.get(Some("kept"), "bob", "/private/comment").as_deref(), Some("bob's"));
    look(&again);
}

#[test]
fn uidls_of_another_server_survive_and_are_one_messages() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let user = bench.user("alice");
    let inbox = block(user.mailbox("INBOX")).unwrap();
    let validity = inbox.uid_validity();
    let set = |uidls: &[(u32, &str)]| {
        let uidls = uidls.iter().map(|(uid, uidl)| (Uid(*uid), (*uidl).to_owned())).collect();
        block(user.set_uidls("INBOX", validity, uidls))
    };
    let given = |bench: &Bench, mailbox: &str| {
        let mailbox = block(bench.user("alice").mailbox(mailbox)).unwrap();
        let mut given: Vec<_> = block(mailbox.given_uidls()).unwrap().into_iter().collect();
        given.sort_by_key(|(uid, _)| uid.0);
        given.into_iter().map(|(uid, uidl)| (uid.0, uidl)).collect::<Vec<_>>()
    };
    assert!(given(&bench, "INBOX").is_empty());
    set(&[(1, "a"), (1023, "b"), (1024, "c"), (u32::MAX - 1, "d")]).unwrap();
    block(bench.0.checkpoint()).unwrap();
    // Another one for a message; and what was a message's becomes another's.
    set(&[(1, "e"), (5, "b"), (7, "a")]).unwrap();
    let wanted: Vec<(u32, String)> =
        [(1, "e"), (5, "b"), (7, "a"), (1024, "c"), (u32::MAX - 1, "d")]
            .map(|(uid, uidl)| (uid, uidl.to_owned()))
            .into();
    assert_eq!(given(&bench, "INBOX"), wanted);
    assert!(matches!(set(&[(9, "a b")]), Err(Error::NotAllowed(_))));
    // No client sees them, and of another UIDVALIDITY there are none.
    assert!(bench.below("/shared", Depth::Infinity).is_empty());
    let other = UidValidity(validity.0 + 1);
    block(user.set_uidls("INBOX", other, vec![(Uid(3000), "x".to_owned())])).unwrap();
    assert!(!given(&bench, "INBOX").iter().any(|(uid, _)| *uid == 3000));
    let crash = copied(dir.path());
    let again = Bench::open(crash.path());
    assert_eq!(given(&again, "INBOX"), wanted);
    again.0.close().unwrap();
    drop(again);
    let again = Bench::open(crash.path());
    assert_eq!(given(&again, "INBOX"), wanted);
    // The messages of INBOX have other UIDs in the mailbox that they go to.
    block(again.user("alice").rename("INBOX", "kept")).unwrap();
    assert!(given(&again, "kept").is_empty());
}

#[test]
fn depths_and_limits() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let user = bench.user("alice");
    for entry in ["/private/f", "/private/f/a", "/private/f/a/b", "/private/f-x", "/private/fa"] {
        bench.set(Some("INBOX"), "alice", &[(entry, Some("v"))]);
    }
    block(bench.0.checkpoint()).unwrap();
    bench.set(Some("INBOX"), "alice", &[("/private/f/c", Some("v")), ("/private/f/a", None)]);
    assert_eq!(bench.below("/private/f", Depth::Zero), ["/private/f"]);
    assert_eq!(bench.below("/private/f", Depth::One), ["/private/f", "/private/f/c"]);
    let all = ["/private/f", "/private/f/a/b", "/private/f/c"];
    assert_eq!(bench.below("/private/f", Depth::Infinity), all);
    assert_eq!(bench.below("/private", Depth::One).len(), 3);
    let set = |entry: &str, size: usize| {
        block(user.set_metadata(None, "alice", vec![(entry.into(), Some(vec![0; size]))]))
    };
    set("/private/x", 1024).unwrap();
    assert!(matches!(set("/private/x", 1025), Err(Error::MetadataTooBig { max: 1024 })));
    (0..9).for_each(|n| set(&format!("/private/{n}"), 1).unwrap());
    assert!(matches!(set("/private/y", 1), Err(Error::MetadataTooMany { max: 10 })));
    set("/private/x", 3).unwrap();
    set("/shared/y", 3).unwrap();
    assert!(matches!(set("/private/vendor/x", 1), Err(Error::NotAllowed(_))));
    // All or nothing.
    let bad = vec![("/private/0".to_owned(), None), ("/private".to_owned(), None)];
    block(user.set_metadata(None, "alice", bad)).unwrap_err();
    assert!(bench.get(None, "alice", "/private/0").is_some());
}

/// RFC 6154 section 4.
#[test]
fn special_uses_are_metadata_too() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let user = bench.user("alice");
    block(user.create("s", &[SpecialUse::Sent])).unwrap();
    let uses = |bench: &Bench| bench.get(Some("s"), "alice", "/private/specialuse");
    assert_eq!(uses(&bench).as_deref(), Some("\\Sent"));
    bench.set(Some("s"), "alice", &[("/private/specialuse", Some("\\drafts \\Important"))]);
    assert_eq!(uses(&bench).as_deref(), Some("\\Drafts \\Important"));
    assert_eq!(user.namespace().mailboxes["s"].special_use.len(), 2);
    let odd = vec![("/private/specialuse".to_owned(), Some(b"\\Odd".to_vec()))];
    assert!(block(user.set_metadata(Some("s"), "alice", odd)).is_err());
    let again = Bench::open(copied(dir.path()).path());
    assert_eq!(uses(&again).as_deref(), Some("\\Drafts \\Important"));
    bench.set(Some("s"), "alice", &[("/private/specialuse", None)]);
    assert_eq!(uses(&bench), None);
}

#[test]
fn listeners_hear_of_names_and_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path());
    let user = bench.user("alice");
    let mut listener = Listener::new(&bench.0);
    listener.hear(&user);
    block(user.create("a", &[])).unwrap();
    block(user.create("a/b", &[])).unwrap();
    block(user.rename("a", "c")).unwrap();
    block(user.subscribe("c", true)).unwrap();
    block(user.subscribe("c", true)).unwrap();
    bench.set(Some("c"), "alice", &[("/shared/x", Some("v"))]);
    block(user.delete("c")).unwrap();
    bench.set(None, "alice", &[("/private/x", Some("v"))]);
    let heard = listener.take();
    let events: Vec<&Event> = heard.events.iter().map(|(_, event)| event).collect();
    assert_eq!(events.len(), 7, "{events:?}");
    assert_eq!(*events[0], Event::Created("a".into()));
    assert_eq!(*events[2], Event::Renamed { from: "a".into(), to: "c".into() });
    assert_eq!(*events[3], Event::Subscription("c".into()));
    assert!(matches!(events[4], Event::Metadata { mailbox: Some(_), whose: None, .. }));
    assert_eq!(*events[5], Event::Deleted("c".into()));
    assert!(matches!(events[6], Event::Metadata { mailbox: None, whose: Some(_), .. }));
}
