//! Several mailboxes renamed in one transaction: all or none, on disk too, through a stop without
//! a goodbye.

mod site;

use engine::Error;
use engine::layout::LayoutKind;
use site::{append, block, open, user};

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn several_names_change_together_and_messages_go_along() {
    for kind in [LayoutKind::Maildir, LayoutKind::Cyrus] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), kind);
        let jo = user(&store, "jo");
        for (n, name) in ["A", "A/x", "A/x/deep", "B", "C"].iter().enumerate() {
            block(jo.create(name, &[])).unwrap();
            for _ in 0..=n {
                append(&store, &jo, name).unwrap();
            }
        }
        // Below another rule, a longer one counts.
        let renames = pairs(&[("A", "Z/a"), ("A/x", "X"), ("C", "Z/c")]);
        block(jo.rename_all(&renames)).unwrap();
        let exists = |jo: &engine::User, name: &str| {
            block(jo.mailbox(name)).map(|mailbox| mailbox.view().exists())
        };
        // Away without a close: the log has it.
        std::mem::forget(store);
        let copied = site::copied(dir.path());
        let store = open(copied.path(), kind);
        let jo = user(&store, "jo");
        let names: Vec<String> = jo.namespace().mailboxes.keys().cloned().collect();
        assert_eq!(names, ["B", "INBOX", "X", "X/deep", "Z/a", "Z/c"], "{kind:?}");
        for (name, count) in [("Z/a", 1), ("X", 2), ("X/deep", 3), ("B", 4), ("Z/c", 5)] {
            assert_eq!(exists(&jo, name).unwrap(), count, "{kind:?} {name}");
        }
        assert!(block(store.check(None)).unwrap().findings.is_empty());
        store.close().unwrap();
    }
}

#[test]
fn one_that_cannot_be_keeps_all_from_changing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), LayoutKind::Cyrus);
    let jo = user(&store, "jo");
    for name in ["A", "A/x", "B", "C"] {
        block(jo.create(name, &[])).unwrap();
    }
    let refused = |of: &[(&str, &str)]| block(jo.rename_all(&pairs(of))).unwrap_err();
    assert!(matches!(refused(&[("A", "new"), ("B", "C")]), Error::MailboxExists));
    assert!(matches!(refused(&[("A", "new"), ("B", "new")]), Error::MailboxExists));
    assert!(matches!(refused(&[("A", "new"), ("B", "new/x")]), Error::MailboxExists));
    assert!(matches!(refused(&[("A", "B"), ("B", "A")]), Error::MailboxExists));
    assert!(matches!(refused(&[("B", "new"), ("none", "y")]), Error::NoSuchMailbox));
    assert!(matches!(refused(&[("B", "C/x"), ("C", "D")]), Error::NotAllowed(_)));
    assert!(matches!(refused(&[("INBOX", "new")]), Error::NoSuchMailbox));
    assert_eq!(jo.namespace().mailboxes.len(), 5);
    assert!(jo.namespace().mailboxes.contains_key("A/x"));
    store.close().unwrap();
}
