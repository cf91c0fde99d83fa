//! A user who is removed leaves nothing, whatever happens meanwhile, and begins anew; who follows a
//! store hears whose mailboxes changed.

mod site;

use engine::layout::LayoutKind;
use engine::{
    AclEntry, Depth, Identifier, Principal, QuotaLimits, Rights, RightsChange, Store, User,
    UserOptions,
};
use protocol::types::Uid;

use site::{block, copied, open};

fn user(store: &Store) -> User {
    block(store.user("alice", &UserOptions::default())).unwrap()
}

fn append(store: &Store, name: &str) -> Uid {
    append_to(store, "alice", name)
}

fn append_to(store: &Store, who: &str, name: &str) -> Uid {
    site::append(store, &site::user(store, who), name).unwrap().uid
}

/// Whatever there can be of a user.
fn fill(store: &Store) {
    let user = user(store);
    for name in ["a", "a/b", "c"] {
        block(user.create(name, &[])).unwrap();
        append(store, name);
    }
    append(store, "INBOX");
    block(user.subscribe("a", true)).unwrap();
    block(user.subscribe("gone", true)).unwrap();
    let limits = QuotaLimits { messages: Some(9), ..QuotaLimits::default() };
    block(user.set_quota(None, Some(limits))).unwrap();
    let value = |text: &str| Some(text.as_bytes().to_vec());
    block(user.set_metadata(None, "alice", vec![("/private/x".into(), value("own"))])).unwrap();
    let entries = vec![("/private/comment".into(), value("own"))];
    block(user.set_metadata(Some("INBOX"), "alice", entries)).unwrap();
}

fn is_gone(store: &Store) {
    assert!(!block(store.has_user("alice")).unwrap());
    assert!(block(store.users()).unwrap().is_empty());
    assert!(block(store.namespaces(vec!["alice".into()])).unwrap().is_empty());
}

fn begins_anew(store: &Store) {
    let user = user(store);
    let namespace = user.namespace();
    assert_eq!(namespace.mailboxes.keys().collect::<Vec<_>>(), ["INBOX"]);
    assert!(namespace.subscriptions.is_empty());
    let usage = user.usage();
    assert_eq!(
        (usage.messages, usage.bytes, usage.mailboxes, usage.annotation_bytes),
        (0, 0, 1, 0)
    );
    assert_eq!(user.quota_root("INBOX").limits, QuotaLimits::default());
    let entry = |mailbox, entry: &str| {
        let found = user.metadata(mailbox, "alice", vec![entry.into()], Depth::Zero);
        block(found).unwrap().remove(0).1
    };
    assert!(entry(None, "/private/x").is_none());
    assert!(entry(Some("INBOX"), "/private/comment").is_none());
    assert_eq!(block(user.mailbox("INBOX")).unwrap().view().exists(), 0);
    assert_eq!(append(store, "INBOX"), Uid(1));
    assert!(block(store.has_user("alice")).unwrap());
}

#[test]
fn a_removed_user_leaves_nothing_and_begins_anew() {
    for layout in [LayoutKind::Maildir, LayoutKind::Cyrus] {
        for checkpoint_before in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path(), layout);
            fill(&store);
            let inbox = block(user(&store).mailbox("INBOX")).unwrap();
            if checkpoint_before {
                block(store.checkpoint()).unwrap();
            }
            block(user(&store).remove()).unwrap();
            assert!(inbox.is_gone());
            is_gone(&store);
            let crash = copied(dir.path());
            let again = open(crash.path(), layout);
            is_gone(&again);
            begins_anew(&again);
            again.close().unwrap();
            begins_anew_after(&crash, layout);
            block(store.checkpoint()).unwrap();
            is_gone(&store);
            store.close().unwrap();
            drop(store);
            let store = open(dir.path(), layout);
            is_gone(&store);
            begins_anew(&store);
        }
    }
}

/// What was begun anew is still there.
fn begins_anew_after(dir: &tempfile::TempDir, layout: LayoutKind) {
    let store = open(dir.path(), layout);
    assert_eq!(block(store.users()).unwrap(), ["alice"]);
    assert_eq!(user(&store).usage().messages, 1);
}

/// What others gave to a user who is removed goes too: rights, `\Seen`, own metadata of theirs. Whoever
/// has the name afterwards begins without them.
#[test]
fn a_removed_user_is_in_nothing_of_others() {
    for (checkpoint_before, crash) in [(false, false), (true, false), (false, true), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        let layout = LayoutKind::Maildir;
        let mut store = open(dir.path(), layout);
        let bob = block(store.user("bob", &UserOptions::default())).unwrap();
        let mut usage = bob.usage().annotation_bytes;
        append_to(&store, "bob", "INBOX");
        block(bob.create("Box", &[])).unwrap();
        append(&store, "INBOX");
        for (name, who, rights) in [
            ("INBOX", "alice", Rights::LOOKUP.union(Rights::READ)),
            // Without `l` it is in no index.
            ("Box", "alice", Rights::READ),
            ("Box", "carol", Rights::READ),
        ] {
            grant(&bob, name, who, rights);
        }
        mark_seen(&bob, "alice", true);
        mark_seen(&bob, "carol", true);
        let entries = vec![("/private/comment".into(), Some(b"alice's".to_vec()))];
        block(bob.set_metadata(Some("INBOX"), "alice", entries)).unwrap();
        assert!(bob.usage().annotation_bytes > usage);
        if checkpoint_before {
            block(store.checkpoint()).unwrap();
        }
        block(user(&store).remove()).unwrap();
        // Whatever was done by then, the next start knows what is left.
        let copy = copied(dir.path());
        if crash {
            drop(store);
            store = open(copy.path(), layout);
        }
        block(store.tidy()).unwrap();
        let left = |store: &Store| {
            let bob = block(store.user("bob", &UserOptions::default())).unwrap();
            let names = |name: &str| {
                let acl = bob.acl(name).unwrap();
                acl.entries().map(|(entry, _)| entry.to_string()).collect::<Vec<_>>()
            };
            assert_eq!(names("INBOX"), ["owner"]);
            assert_eq!(names("Box"), ["owner", "carol"]);
            let comment = ["/private/comment".to_owned()].to_vec();
            let found = block(bob.metadata(Some("INBOX"), "alice", comment, Depth::Zero)).unwrap();
            assert_eq!(found[0].1, None);
            let granting = block(store.granting(&Principal::of_user("alice"))).unwrap();
            assert!(granting.is_empty(), "{granting:?}");
            assert_eq!((unseen(&bob, "alice"), unseen(&bob, "carol")), (1, 0));
            bob.usage().annotation_bytes
        };
        assert_eq!(left(&store), usage);
        // A new one of the name keeps what is given from now on.
        let bob = block(store.user("bob", &UserOptions::default())).unwrap();
        grant(&bob, "INBOX", "alice", Rights::LOOKUP);
        user(&store);
        block(store.tidy()).unwrap();
        assert_eq!(block(store.granting(&Principal::of_user("alice"))).unwrap().len(), 1);
        revoke(&bob, "INBOX", "alice");
        store.close().unwrap();
        usage = 0;
        let root = if crash { copy.path() } else { dir.path() };
        assert_eq!(left(&open(root, layout)), usage);
    }
}

/// A name that is put into a list, and one that begins anew, before anybody tidied up.
#[test]
fn a_name_that_comes_back_begins_without_the_old_rights() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LayoutKind::Maildir);
    let bob = block(store.user("bob", &UserOptions::default())).unwrap();
    append_to(&store, "bob", "INBOX");
    let rights = || bob.acl("INBOX").unwrap().rights_of(&entry_of("alice"));
    for by_list in [true, false] {
        user(&store);
        grant(&bob, "INBOX", "alice", Rights::LOOKUP.union(Rights::READ));
        mark_seen(&bob, "alice", true);
        block(user(&store).remove()).unwrap();
        assert!(rights().contains(Rights::READ), "nobody has tidied up yet");
        if by_list {
            grant(&bob, "INBOX", "alice", Rights::LOOKUP);
            assert_eq!(rights(), Rights::LOOKUP);
            user(&store);
            assert_eq!(rights(), Rights::LOOKUP);
        } else {
            user(&store);
            assert_eq!(rights(), Rights::NONE);
        }
        assert_eq!(unseen(&bob, "alice"), 1);
    }
}

fn entry_of(who: &str) -> AclEntry {
    AclEntry { negative: false, who: Identifier::User(who.into()) }
}

fn grant(owner: &User, name: &str, who: &str, rights: Rights) {
    block(owner.set_acl(name, entry_of(who), RightsChange::Replace(rights))).unwrap();
}

fn revoke(owner: &User, name: &str, who: &str) {
    grant(owner, name, who, Rights::NONE);
}

fn mark_seen(owner: &User, who: &str, on: bool) {
    let inbox = block(owner.mailbox("INBOX")).unwrap();
    let seen = block(owner.private_seen(&inbox, who)).unwrap();
    block(owner.change_private_seen(&seen, vec![Uid(1)], on)).unwrap();
}

fn unseen(owner: &User, who: &str) -> u32 {
    let inbox = block(owner.mailbox("INBOX")).unwrap();
    let seen = block(owner.private_seen(&inbox, who)).unwrap();
    inbox.view().unseen_by(Some(&seen))
}

#[test]
fn who_follows_a_store_is_told_whose_mailboxes_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LayoutKind::Cyrus);
    for name in ["alice", "bob"] {
        site::user(&store, name);
    }
    let (start, all) = store.changed_since(None);
    assert_eq!(all, None, "nothing is known of before");
    block(store.checkpoint()).unwrap();
    let (rested, _) = store.changed_since(Some(start));
    let named = |since| store.changed_since(Some(since)).1.unwrap();
    let told = |names: &[&str]| -> std::collections::BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    assert_eq!(named(start), told(&["alice", "bob"]));
    assert_eq!(named(rested), told(&[]));
    // Before a checkpoint has it, and behind that.
    let alice = site::user(&store, "alice");
    site::append(&store, &alice, "INBOX").unwrap();
    assert_eq!(named(rested), told(&["alice"]));
    let (meanwhile, _) = store.changed_since(Some(rested));
    block(store.checkpoint()).unwrap();
    assert_eq!(named(rested), told(&["alice"]));
    assert_eq!(named(meanwhile), told(&["alice"]), "told twice rather than never");
    let (rested, _) = store.changed_since(Some(rested));
    block(alice.create("New", &[])).unwrap();
    block(alice.rename("New", "Newer")).unwrap();
    block(alice.delete("Newer")).unwrap();
    assert_eq!(named(rested), told(&["alice"]));
    block(store.checkpoint()).unwrap();
    assert_eq!(named(rested), told(&["alice"]));
    store.close().unwrap();
    let store = open(dir.path(), LayoutKind::Cyrus);
    assert_eq!(store.changed_since(Some(rested)).1, None, "another start");
}
