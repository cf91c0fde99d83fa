//! Two stores on one partition, as two hosts on one NFS export are: different users side by side,
//! the same user on one of them only. Private buffers, polling and both kinds of lock.

use std::path::Path;
use std::sync::Arc;

use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Delivery, Drive, Error, INBOX, IoMode, LockMode, MountOptions, NameSync, NotifyMode, Partition,
    Store, StoreConfig, Target, UserOptions,
};
use protocol::types::SystemFlags;

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(dir: &Path, host: &str, kind: LayoutKind, locks: LockMode) -> Store {
    let partition = Partition {
        name: "shared".into(),
        path: dir.join("export"),
        layout: layout_for(kind, &LayoutOptions::default()),
        mount: MountOptions {
            io: IoMode::Private,
            locks,
            notify: NotifyMode::Poll,
            sync_names: NameSync::Always,
        },
    };
    let config = StoreConfig::new(dir.join(host), vec![partition]);
    Store::open(config, Arc::new(Blocking::new()), Drive::Inline).unwrap()
}

fn deliver(store: &Store, user: &str, message: &str) -> engine::Result<()> {
    block(async {
        let user = store.user(user, &UserOptions::default()).await?;
        let mailbox = user.mailbox(INBOX).await?;
        let flags = SystemFlags::empty();
        let target = Target {
            user,
            mailbox,
            flags,
            keywords: vec![],
            internal_date: None,
            annotations: vec![],
        };
        let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
        let mut delivery = Delivery::new(store, &Lane::inline(storage), vec![target])?;
        delivery.write(message.as_bytes()).await?;
        delivery.commit().await.remove(0).map(|_| ())
    })
}

fn count(store: &Store, user: &str) -> engine::Result<u32> {
    block(async {
        let user = store.user(user, &UserOptions::default()).await?;
        Ok(user.mailbox(INBOX).await?.refresh().await?.exists())
    })
}

#[test]
fn a_user_is_open_on_one_host_and_others_on_the_other() {
    for kind in [LayoutKind::Maildir, LayoutKind::Cyrus] {
        for locks in [LockMode::Ofd, LockMode::Dot] {
            let dir = tempfile::tempdir().unwrap();
            let first = open(dir.path(), "first", kind, locks);
            let second = open(dir.path(), "second", kind, locks);
            // Beyond the size up to which tables are in memory anyway.
            for n in 0..300 {
                deliver(&first, "alice", &format!("Subject: {n}\r\n\r\nx\r\n")).unwrap();
            }
            deliver(&second, "bob", "Subject: 1\r\n\r\nx\r\n").unwrap();
            assert_eq!(count(&first, "alice").unwrap(), 300);
            let refused = deliver(&second, "alice", "Subject: 2\r\n\r\nx\r\n").unwrap_err();
            let Error::InUse { user, holder } = refused else { panic!("{refused}") };
            assert_eq!(user, "alice");
            assert!(holder.contains(&format!("pid {}", std::process::id())), "{holder}");
            assert!(matches!(count(&first, "bob"), Err(Error::InUse { .. })));
            // Given back by a clean stop.
            first.close().unwrap();
            assert_eq!(count(&second, "bob").unwrap(), 1);
            assert!(count(&second, "alice").is_ok());
            second.close().unwrap();
        }
    }
}

#[test]
fn without_locks_nobody_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), "first", LayoutKind::Maildir, LockMode::None);
    deliver(&first, "alice", "Subject: 1\r\n\r\nx\r\n").unwrap();
    first.close().unwrap();
    let second = open(dir.path(), "second", LayoutKind::Maildir, LockMode::None);
    assert!(count(&second, "alice").is_ok());
    second.close().unwrap();
}

/// A start removes what deletions and moves of its own store have left, and no other's.
#[test]
fn what_is_on_its_way_in_another_store_stays() {
    for kind in [LayoutKind::Maildir, LayoutKind::Cyrus] {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "first", kind, LockMode::None);
        deliver(&first, "alice", "Subject: 1\r\n\r\nx\r\n").unwrap();
        block(async {
            let user = first.user("alice", &UserOptions::default()).await.unwrap();
            user.create("gone", &[]).await.unwrap();
            user.delete("gone").await.unwrap();
        });
        let trash = dir.path().join("export/..cursus-deleted");
        let names = || -> Vec<_> {
            let entries = std::fs::read_dir(&trash).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let deleted = names();
        assert_eq!(deleted.len(), 1, "{deleted:?}");
        let mark = deleted[0].split_once('.').unwrap().0;
        // A copy that its store has not told of yet.
        let arriving = dir.path().join("export/..cursus-arriving").join(&deleted[0]);
        std::fs::create_dir_all(&arriving).unwrap();
        let second = open(dir.path(), "second", kind, LockMode::None);
        assert_eq!(names(), deleted);
        assert!(arriving.exists(), "{}", arriving.display());
        second.close().unwrap();
        first.close().unwrap();
        let first = open(dir.path(), "first", kind, LockMode::None);
        assert!(names().iter().all(|name| !name.starts_with(mark)), "{:?}", names());
        assert!(!arriving.exists(), "{}", arriving.display());
        first.close().unwrap();
    }
}
