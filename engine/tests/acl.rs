//! Access control lists: inherited, through renames and deletions, restarts and crashes; and the
//! index of who gave what to whom.

mod site;

use std::sync::Arc;

use engine::io::blocking::Blocking;
use engine::layout::LayoutKind;
use engine::{
    ACL_ENTRIES_MAX, AclEntry, Authority, Error, NewMailbox, Principal, Rights, RightsChange,
    Store, User,
};

use site::{LAYOUTS, block, copied, open, user};

fn entry(text: &str) -> AclEntry {
    AclEntry::parse(text, |name| Some(name.to_owned())).unwrap()
}

fn set(user: &User, mailbox: &str, who: &str, rights: &str) {
    let rights = RightsChange::Replace(Rights::parse(rights).unwrap());
    block(user.set_acl(mailbox, entry(who), rights)).unwrap();
}

/// `identifier=rights`, a word each.
fn acl(user: &User, mailbox: &str) -> String {
    let acl = user.acl(mailbox).unwrap();
    let words: Vec<_> = acl.entries().map(|(who, rights)| format!("{who}={rights}")).collect();
    words.join(" ")
}

fn granting(store: &Store, name: &str) -> Vec<String> {
    block(store.granting(&Principal::of_user(name))).unwrap().into_iter().collect()
}

fn rights(owner: &User, mailbox: &str, name: &str) -> String {
    owner.rights(mailbox, &Principal::of_user(name)).unwrap().to_string()
}

#[test]
fn entries_are_replaced_added_to_and_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LayoutKind::Maildir);
    let jo = user(&store, "jo");
    assert_eq!(acl(&jo, "INBOX"), "owner=lrswipkxtean");
    assert_eq!(rights(&jo, "inbox", "bob"), "");
    set(&jo, "INBOX", "bob", "lrs");
    let change = |who, change| block(jo.set_acl("INBOX", entry(who), change)).unwrap();
    change("bob", RightsChange::Add(Rights::WRITE));
    change("bob", RightsChange::Remove(Rights::SEEN));
    assert_eq!(acl(&jo, "INBOX"), "owner=lrswipkxtean bob=lrw");
    change("bob", RightsChange::Remove(Rights::ALL));
    assert_eq!(acl(&jo, "INBOX"), "owner=lrswipkxtean");
    // The owner under his own name is the owner, and cannot lock himself out.
    set(&jo, "INBOX", "jo", "r");
    set(&jo, "INBOX", "-jo", "a");
    assert_eq!(acl(&jo, "INBOX"), "owner=r -owner=a");
    assert_eq!(rights(&jo, "INBOX", "jo"), "lra");
    let full = Rights::LOOKUP;
    for n in 0..ACL_ENTRIES_MAX - 2 {
        block(jo.set_acl("INBOX", entry(&format!("u{n}")), RightsChange::Replace(full))).unwrap();
    }
    let more = block(jo.set_acl("INBOX", entry("more"), RightsChange::Replace(full)));
    assert!(matches!(more, Err(Error::AclTooMany { .. })), "{more:?}");
    set(&jo, "INBOX", "u1", "lr");
    let missing = block(jo.set_acl("nowhere", entry("bob"), RightsChange::Replace(full)));
    assert!(matches!(missing, Err(Error::NoSuchMailbox)));
}

#[test]
fn lists_are_inherited_follow_new_names_and_go_with_the_mailbox() {
    for kind in LAYOUTS {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), kind);
        let jo = user(&store, "jo");
        block(jo.create("a", &[])).unwrap();
        set(&jo, "a", "bob", "lr");
        set(&jo, "INBOX", "anyone", "lp");
        // The nearest one above counts, though one between does not exist.
        block(jo.create("a/b/c", &[])).unwrap();
        assert_eq!(acl(&jo, "a/b/c"), "owner=lrswipkxtean bob=lr");
        block(jo.create("x", &[])).unwrap();
        assert_eq!(acl(&jo, "x"), "owner=lrswipkxtean", "the INBOX is above none of its own");
        let others = NewMailbox { inherits_inbox: true, ..NewMailbox::default() };
        block(jo.create_as("y", &[], others)).unwrap();
        assert_eq!(acl(&jo, "y"), "owner=lrswipkxtean anyone=lp");
        set(&jo, "a/b/c", "bob", "");
        set(&jo, "a/b/c", "fred", "l");
        block(jo.rename("a", "z")).unwrap();
        assert_eq!(rights(&jo, "z", "bob"), "lr");
        assert_eq!(rights(&jo, "z/b/c", "fred"), "l");
        block(jo.delete("z/b/c")).unwrap();
        block(jo.create("z/b/c", &[])).unwrap();
        assert_eq!(acl(&jo, "z/b/c"), "owner=lrswipkxtean bob=lr");
        assert_eq!(granting(&store, "fred"), ["jo"], "of the INBOX");
        set(&jo, "INBOX", "anyone", "");
        set(&jo, "y", "anyone", "p");
        assert!(granting(&store, "fred").is_empty());
        let nowhere = NewMailbox { partition: Some("none".into()), ..NewMailbox::default() };
        let refused = block(jo.create_as("w", &[], nowhere));
        assert!(matches!(refused, Err(Error::NoSuchPartition(_))), "{refused:?}");
    }
}

#[test]
fn the_index_leads_to_those_who_show_something_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LayoutKind::Cyrus);
    let names = ["jo@a", "bob@a", "fred@a", "jo@b", "eve"];
    let users: Vec<User> = names.iter().map(|name| user(&store, name)).collect();
    set(&users[0], "INBOX", "bob@a", "lr");
    set(&users[1], "INBOX", "anyone", "l");
    set(&users[2], "INBOX", "group:staff@a", "l");
    set(&users[3], "INBOX", "anyone", "l");
    set(&users[4], "INBOX", "-bob@a", "l");
    let look = |store: &Store| {
        assert_eq!(granting(store, "bob@a"), ["jo@a"]);
        assert_eq!(granting(store, "fred@a"), ["bob@a"]);
        assert_eq!(granting(store, "x@b"), ["jo@b"]);
        assert!(granting(store, "eve").is_empty());
        let mut staff = Principal::of_user("eve");
        staff.groups.push("staff@a".into());
        assert_eq!(block(store.granting(&staff)).unwrap().len(), 1);
    };
    look(&store);
    block(store.checkpoint()).unwrap();
    look(&store);
    // What is written is taken back before and after a checkpoint.
    set(&users[0], "INBOX", "bob@a", "");
    assert!(granting(&store, "bob@a").is_empty());
    block(store.checkpoint()).unwrap();
    assert!(granting(&store, "bob@a").is_empty());
    set(&users[0], "INBOX", "bob@a", "l");
    block(store.checkpoint()).unwrap();
    store.close().unwrap();
    drop((users, store));
    look(&open(dir.path(), LayoutKind::Cyrus));
}

#[test]
fn lists_survive_stops_and_crashes() {
    for kind in LAYOUTS {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), kind);
        let jo = user(&store, "jo");
        for name in ["kept", "gone", "later"] {
            block(jo.create(name, &[])).unwrap();
        }
        set(&jo, "kept", "bob", "lrs");
        set(&jo, "gone", "eve", "lrs");
        block(store.checkpoint()).unwrap();
        set(&jo, "kept", "-bob", "s");
        set(&jo, "later", "group:staff", "lr");
        set(&jo, "gone", "eve", "");
        block(jo.rename("kept", "later/kept")).unwrap();
        block(jo.create("later/new", &[])).unwrap();
        let look = |store: &Store, when: &str| {
            let jo = user(store, "jo");
            let all = "owner=lrswipkxtean";
            assert_eq!(acl(&jo, "later/kept"), format!("{all} bob=lrs -bob=s"), "{when}");
            assert_eq!(acl(&jo, "later/new"), format!("{all} group:staff=lr"), "{when}");
            assert_eq!(acl(&jo, "gone"), all, "{when}");
            assert_eq!(granting(store, "bob"), ["jo"], "{when}");
            assert!(granting(store, "eve").is_empty(), "{when}");
        };
        look(&store, "at once");
        let crash = copied(dir.path());
        let again = open(crash.path(), kind);
        assert!(again.status().recovered > 0);
        look(&again, "after a crash");
        block(again.checkpoint()).unwrap();
        look(&again, "after a checkpoint");
        again.close().unwrap();
        drop(again);
        look(&open(crash.path(), kind), "after a clean stop");
    }
}

#[test]
fn what_others_have_seen_survives_stops_and_crashes_and_is_theirs() {
    for kind in LAYOUTS {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), kind);
        let jo = user(&store, "jo");
        let lane = engine::io::Lane::inline(Arc::new(Blocking::new()));
        for _ in 0..5 {
            let target = engine::Target {
                mailbox: block(jo.mailbox("INBOX")).unwrap(),
                user: jo.clone(),
                flags: protocol::types::SystemFlags::empty(),
                keywords: vec![],
                internal_date: None,
                annotations: vec![],
            };
            block(async {
                let mut delivery = engine::Delivery::new(&store, &lane, vec![target]).unwrap();
                delivery.write(b"Subject: x\r\n\r\nbody\r\n").await.unwrap();
                delivery.commit().await.remove(0).unwrap();
            });
        }
        let uids = |some: &[u32]| some.iter().map(|uid| protocol::types::Uid(*uid)).collect();
        let change = |whose: &str, some: &[u32], on: bool| {
            let inbox = block(jo.mailbox("INBOX")).unwrap();
            let seen = block(jo.private_seen(&inbox, whose)).unwrap();
            block(jo.change_private_seen(&seen, uids(some), on)).unwrap().len()
        };
        assert_eq!(change("bob", &[1, 2, 3, 5], true), 4);
        block(store.checkpoint()).unwrap();
        assert_eq!(change("bob", &[2, 4], false), 1);
        assert_eq!(change("fred", &[1], true), 1);
        let look = |store: &Store, when: &str| {
            let jo = user(store, "jo");
            let inbox = block(jo.mailbox("INBOX")).unwrap();
            let seen = |whose: &str| {
                let seen = block(jo.private_seen(&inbox, whose)).unwrap();
                let view = inbox.view().seen_by(Some(&seen));
                let is_seen =
                    |r: &engine::Record| r.flags.contains(protocol::types::SystemFlags::SEEN);
                let found: Vec<u32> =
                    view.all().filter(|(_, r)| is_seen(r)).map(|(seq, _)| seq.0).collect();
                assert_eq!(view.unseen_by(Some(&seen)), 5 - found.len() as u32);
                (found, view.first_unseen().map(|seq| seq.0))
            };
            assert_eq!(seen("bob"), (vec![1, 3, 5], Some(2)), "{when}");
            assert_eq!(seen("fred"), (vec![1], Some(2)), "{when}");
            assert_eq!(seen("eve"), (vec![], Some(1)), "{when}");
            assert_eq!(inbox.view().unseen(), 5, "{when}");
        };
        look(&store, "at once");
        let crash = copied(dir.path());
        let again = open(crash.path(), kind);
        look(&again, "after a crash");
        again.close().unwrap();
        drop(again);
        look(&open(crash.path(), kind), "after a clean stop");
    }
}

#[test]
fn administrators_have_what_mends_and_what_they_give_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LayoutKind::Maildir);
    let jo = user(&store, "jo@a");
    let admin = |authority| Principal { authority, ..Principal::of_user("cyrus") };
    let told = |authority| jo.rights("INBOX", &admin(authority)).unwrap().to_string();
    assert_eq!(told(Authority::Everything), "lkxa");
    assert_eq!(told(Authority::Domain("a".into())), "lkxa");
    assert_eq!(told(Authority::Domain("b".into())), "");
    set(&jo, "INBOX", "cyrus", "r");
    assert_eq!(told(Authority::Everything), "lrkxa");
}
