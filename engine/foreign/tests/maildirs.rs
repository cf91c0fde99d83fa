//! Courier's and Dovecot's files as Courier 1.0 and Dovecot 2.3 wrote them: everything in them is
//! read, and what we write of it is the same byte for byte. Whatever is done to their bytes is an
//! error or a value, never a panic; what we write is read as what it was.

mod archive;

use foreign::courier::{acl, keywords, shared, sizelist, subscribed, uiddb};
use foreign::maildirsize::{self, Definition, Maildirsize};
use foreign::{courier, dovecot};
use proptest::prelude::*;
use serde_json::Value;

fn json(store: &str) -> Value {
    let path = format!("{}/tests/fixtures/{store}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// UID and flags of each message that the manifest has of a mailbox of the first user.
fn told(store: &str, mailbox: &str) -> Vec<(u32, Vec<String>)> {
    let json = json(store);
    let messages = json["imap"][0]["mailboxes"][mailbox]["messages"].as_array().unwrap().clone();
    let words = |flags: &Value| {
        let flags = flags.as_array().unwrap().iter().map(|f| f.as_str().unwrap().to_owned());
        let mut words: Vec<String> = flags.filter(|f| !f.starts_with('\\')).collect();
        words.sort();
        words
    };
    messages.iter().map(|m| (m["uid"].as_u64().unwrap() as u32, words(&m["flags"]))).collect()
}

const COURIER: [(&str, &str); 4] = [
    ("", "INBOX"),
    (".Work/", "INBOX.Work"),
    (".Sent/", "INBOX.Sent"),
    (".Entwürfe/", "INBOX.Entw&APw-rfe"),
];

#[test]
fn uids_and_keywords_of_courier_are_those_it_served() {
    let files = archive::files("courier-1.0");
    for (dir, mailbox) in COURIER {
        let bytes = &files[&format!("alice/Maildir/{dir}courierimapuiddb")];
        let db = uiddb::UidDb::read(bytes).unwrap();
        assert_eq!(db.uid_validity, 795_467_425);
        assert_eq!(db.write(), *bytes);
        let list = files.get(&format!("alice/Maildir/{dir}courierimapkeywords/:list"));
        let list = list.map_or(Ok(keywords::List::default()), |b| keywords::List::read(b)).unwrap();
        let ours: Vec<(u32, Vec<String>)> = db
            .messages
            .iter()
            .map(|(uid, base)| {
                let mut words = list.messages.get(base).cloned().unwrap_or_default();
                words.sort();
                (*uid, words)
            })
            .collect();
        assert_eq!(ours, told("courier-1.0", mailbox), "{mailbox}");
        assert_eq!(keywords::List::read(&list.write()).unwrap(), list);
    }
}

#[test]
fn what_else_courier_keeps_comes_back_byte_for_byte() {
    let files = archive::files("courier-1.0");
    let file = |path: &str| &files[&format!("alice/Maildir/{path}")];
    let sizes = file("courierpop3dsizelist");
    let list = sizelist::SizeList::read(sizes).unwrap();
    assert_eq!(list.write(), *sizes);
    let uidls: Vec<String> = list.messages.iter().map(|m| m.uidl()).collect();
    assert_eq!(uidls, (1..=7).map(|n| format!("UID{n}-1795467425")).collect::<Vec<_>>());
    assert_eq!(list.messages[1].size, 457);

    let names = subscribed::read(file("courierimapsubscribed"));
    assert_eq!(names, ["INBOX", "INBOX.Work", "INBOX.Entwürfe"]);
    assert_eq!(subscribed::write(names.iter().map(String::as_str)), *file("courierimapsubscribed"));

    let entries = acl::read(file(".Work/courierimapacl")).unwrap();
    assert_eq!(entries.len(), 5);
    assert_eq!((&*entries[4].identifier, &*entries[4].rights), ("-user=carol", "r"));
    assert_eq!(acl::write(&entries), *file(".Work/courierimapacl"));

    let quota = Maildirsize::read(file("maildirsize")).unwrap();
    assert_eq!(quota.definition, Definition { bytes: Some(1_000_000), messages: Some(500) });
    assert_eq!((quota.messages, quota.lines), (9, 12));
    assert!(file("maildirsize").ends_with(&maildirsize::delta(241, 1)));
    let fresh = Maildirsize { lines: 1, ..quota };
    assert_eq!(Maildirsize::read(&fresh.write()).unwrap(), fresh);

    let index = shared::read_index(&files["etc-courier/shared/index"]).unwrap();
    let shared::Indexed::Account { name, uid, maildir, .. } = &index[0] else {
        panic!("{index:?}")
    };
    assert_eq!((&**name, *uid, &**maildir), ("alice", 5000, "Maildir"));
}

#[test]
fn uids_and_keywords_of_dovecot_are_those_it_served() {
    let files = archive::files("dovecot-2.3");
    for (dir, mailbox) in [
        ("", "INBOX"),
        (".Work/", "Work"),
        (".Sent/", "Sent"),
        (".Work.Projects/", "Work.Projects"),
    ] {
        let bytes = &files[&format!("alice/Maildir/{dir}dovecot-uidlist")];
        let list = dovecot::uidlist::UidList::read(bytes).unwrap();
        let told = told("dovecot-2.3", mailbox);
        let has = |uid: u32| list.messages.iter().any(|m| m.uid == uid);
        assert!(told.iter().all(|(uid, _)| has(*uid) && *uid < list.uid_next), "{mailbox}");
        if list.messages.len() as u32 + 1 == list.uid_next && dir.is_empty() {
            assert_eq!(list.write(), *bytes);
        }
        let again = dovecot::uidlist::UidList::read(&list.write()).unwrap();
        assert_eq!(again, list);
    }
    let keywords = &files["alice/Maildir/dovecot-keywords"];
    let mut letters = dovecot::keywords::Letters::read(keywords).unwrap();
    assert_eq!(letters.write(), *keywords);
    assert_eq!((letters.name(b'b'), letters.name(b'z')), (Some("$Label1"), None));
    assert_eq!((letters.letter("nonjunk"), letters.letter("more")), (Some(b'c'), Some(b'g')));
}

#[test]
fn what_else_dovecot_keeps_comes_back_byte_for_byte() {
    let files = archive::files("dovecot-2.3");
    let file = |path: &str| &files[&format!("alice/Maildir/{path}")];
    let names = dovecot::subscriptions::read(file("subscriptions"), '.');
    assert_eq!(names, [["INBOX"], ["Work"], ["Entw&APw-rfe"]]);
    assert_eq!(dovecot::subscriptions::write(&names), *file("subscriptions"));
    let entries = dovecot::acl::read(file(".Work/dovecot-acl")).unwrap();
    assert_eq!(dovecot::acl::write(&entries), *file(".Work/dovecot-acl"));
    let last = dovecot::uidvalidity::read(file("dovecot-uidvalidity")).unwrap();
    assert_eq!(dovecot::uidvalidity::write(last), *file("dovecot-uidvalidity"));
    assert!(files.contains_key(&format!("alice/Maildir/{}", dovecot::uidvalidity::marker(last))));
    let quota = Maildirsize::read(file("maildirsize")).unwrap();
    assert_eq!((quota.definition.bytes, quota.messages), (Some(10_485_760), 14));
}

#[test]
fn damage_is_named_by_line() {
    for (bytes, line) in [
        (&b"2 5 6\n"[..], 1),
        (b"1 5 6\n3 a\n3 b\n", 3),
        (b"1 5 6\n6 a\n", 2),
        (b"1 0 6\n", 1),
        (b"1 5 6\n1 \n", 2),
        (b"", 1),
        (b"\0\0\0\0", 1),
    ] {
        assert_eq!(uiddb::UidDb::read(bytes).unwrap_err().line, line, "{}", bytes.escape_ascii());
    }
    let behind =
        dovecot::uidlist::UidList::read(b"3 V5 N1 Gx\n1 :a\n2 W3 S4 :b c\n7 :cut").unwrap();
    assert_eq!((behind.uid_next, behind.messages.len()), (8, 2));
    assert_eq!(behind.messages[1].base, b"b c");
    assert!(dovecot::uidlist::UidList::read(b"3 V5 N1\n2 :a\n1 :b\n").is_err());
    assert!(keywords::List::read(b"a\n\nname:1\n").is_err());
}

#[test]
fn the_newest_update_of_keywords_counts() {
    let files: [&[u8]; 6] = [b"a", b".7.a", b".9.b", b".8.b", b":list", b".x.c"];
    let newest = keywords::newest(files.iter().filter_map(|f| keywords::update(f)).collect());
    let names: Vec<&[u8]> = newest.values().map(|update| &update.file[..]).collect();
    assert_eq!(names, [&b"a"[..], b".9.b"]);
}

fn base() -> impl Strategy<Value = Vec<u8>> {
    "[0-9]{1,4}\\.[A-Za-z0-9:, ]{0,12}x".prop_map(String::into_bytes)
}

fn word() -> impl Strategy<Value = String> {
    "[$A-Za-z0-9_]{1,8}"
}

fn uids() -> impl Strategy<Value = Vec<(u32, Vec<u8>)>> {
    prop::collection::btree_map(1..1000u32, base(), 0..20).prop_map(|m| m.into_iter().collect())
}

proptest! {
    #[test]
    fn written_is_read(
        messages in uids(), uid_validity in 1u32.., words in prop::collection::btree_map(base(), prop::collection::btree_set(word(), 1..4), 0..9),
        deltas in prop::collection::vec((-9999i64..9999, -9i64..9), 0..5),
    ) {
        let db = uiddb::UidDb { uid_validity, uid_next: 1000, messages: messages.clone() };
        prop_assert_eq!(&uiddb::UidDb::read(&db.write()).unwrap(), &db);
        let list = dovecot::uidlist::UidList {
            uid_validity, uid_next: 1000, extra: vec!["Gabc".into()],
            messages: messages.iter().map(|(uid, base)| dovecot::uidlist::Message { uid: *uid, extra: vec!["W3".into()], base: base.clone() }).collect(),
        };
        prop_assert_eq!(&dovecot::uidlist::UidList::read(&list.write()).unwrap(), &list);
        let list = keywords::List { messages: words.into_iter().map(|(base, words)| (base, words.into_iter().collect())).collect() };
        prop_assert_eq!(&keywords::List::read(&list.write()).unwrap(), &list);
        let sizes = sizelist::SizeList {
            next: 5, uid_validity,
            messages: messages.iter().map(|(n, base)| sizelist::Message { file: [base, &b":2,S"[..]].concat(), size: 7, number: *n, uid_validity, utf8: n % 2 == 0 }).collect(),
        };
        prop_assert_eq!(&sizelist::SizeList::read(&sizes.write()).unwrap(), &sizes);
        let mut bytes = b"5S\n".to_vec();
        deltas.iter().for_each(|(b, n)| bytes.extend(maildirsize::delta(*b, *n)));
        let sum = Maildirsize::read(&bytes).unwrap();
        prop_assert_eq!((sum.bytes, sum.messages), deltas.iter().fold((0, 0), |s, d| (s.0 + d.0, s.1 + d.1)));
    }

    #[test]
    fn no_bytes_are_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), head in 0..4usize) {
        let heads: [&[u8]; 4] = [b"", b"1 5 9\n", b"3 V5 N9\n", b"a\n\n"];
        bytes.splice(0..0, heads[head].iter().copied());
        let _ = uiddb::UidDb::read(&bytes);
        let _ = keywords::List::read(&bytes);
        let _ = keywords::read_update(&bytes);
        let _ = keywords::update(&bytes);
        let _ = acl::read(&bytes);
        let _ = sizelist::SizeList::read(&bytes);
        let _ = Maildirsize::read(&bytes);
        let _ = shared::read_index(&bytes);
        let _ = shared::read_maildirs(&bytes);
        let _ = courier::subscribed::read(&bytes);
        let _ = dovecot::uidlist::UidList::read(&bytes);
        let _ = dovecot::keywords::Letters::read(&bytes);
        let _ = dovecot::uidvalidity::read(&bytes);
        let _ = dovecot::subscriptions::read(&bytes, '.');
        let _ = dovecot::acl::read(&bytes);
    }
}
