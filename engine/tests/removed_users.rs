//! A user who is removed leaves nothing, whatever happens meanwhile, and begins anew.

use std::path::Path;
use std::sync::Arc;

use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Delivery, Depth, Drive, MountOptions, Partition, QuotaLimits, Store, StoreConfig, Target, User,
    UserOptions,
};
use protocol::types::{SystemFlags, Uid};

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(dir: &Path, layout: LayoutKind) -> Store {
    let partition = Partition {
        name: "default".into(),
        path: dir.join("mail"),
        layout: layout_for(layout, &LayoutOptions::default()),
        mount: MountOptions::default(),
    };
    let config = StoreConfig::new(dir.join("state"), vec![partition]);
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    Store::open(config, storage, Drive::Inline).unwrap()
}

fn user(store: &Store) -> User {
    block(store.user("alice", &UserOptions::default())).unwrap()
}

fn append(store: &Store, name: &str) -> Uid {
    let user = user(store);
    let target = Target {
        mailbox: block(user.mailbox(name)).unwrap(),
        user,
        flags: SystemFlags::empty(),
        keywords: vec![],
        internal_date: None,
        annotations: vec![],
    };
    block(async {
        let lane = Lane::inline(Arc::new(Blocking::new()));
        let mut delivery = Delivery::new(store, &lane, vec![target]).unwrap();
        delivery.write(b"Subject: x\r\n\r\nbody\r\n").await.unwrap();
        delivery.commit().await.remove(0).unwrap().uid
    })
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

fn copied(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut copying = std::process::Command::new("cp");
    let status = copying.arg("-a").arg(dir.join(".")).arg(copy.path()).status();
    assert!(status.unwrap().success());
    copy
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
