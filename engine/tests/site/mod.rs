//! A store in a directory, for tests that ask what is there after stops and crashes.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    AnnotationValue, Appended, Delivery, Drive, Mailbox, MountOptions, Partition, Record, Result,
    Store, StoreConfig, Target, User, UserOptions,
};
use protocol::types::SystemFlags;

/// Both layouts.
pub const LAYOUTS: [LayoutKind; 2] = [LayoutKind::Maildir, LayoutKind::Cyrus];
/// The message of [`append`], as it is served.
pub const MESSAGE: &str = "Subject: x\r\n\r\nbody\r\n";

/// Waits for a store that does its work in the awaiting call.
pub fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The system's files.
pub fn storage() -> Arc<dyn Storage> {
    Arc::new(Blocking::new())
}

/// A partition in a directory of its name.
pub fn partition(dir: &Path, name: &str, layout: LayoutKind) -> Partition {
    Partition {
        name: name.into(),
        path: dir.join(name),
        layout: layout_for(layout, &LayoutOptions::default()),
        mount: MountOptions::default(),
    }
}

/// Settings of a store with one partition, `default`.
pub fn config(dir: &Path, layout: LayoutKind) -> StoreConfig {
    StoreConfig::new(dir.join("state"), vec![partition(dir, "default", layout)])
}

/// Opens a store.
pub fn open_with(config: StoreConfig) -> Store {
    Store::open(config, storage(), Drive::Inline).unwrap()
}

/// Opens a store with one partition.
pub fn open(dir: &Path, layout: LayoutKind) -> Store {
    open_with(config(dir, layout))
}

/// A user, begun if there is none.
pub fn user(store: &Store, name: &str) -> User {
    block(store.user(name, &UserOptions::default())).unwrap()
}

/// Where [`MESSAGE`] goes, without flags.
pub fn target(user: &User, name: &str) -> Target {
    Target {
        user: user.clone(),
        mailbox: block(user.mailbox(name)).unwrap(),
        flags: SystemFlags::empty(),
        keywords: vec![],
        internal_date: None,
        annotations: vec![],
    }
}

/// Delivers [`MESSAGE`] over these files.
pub fn deliver(store: &Store, storage: Arc<dyn Storage>, target: Target) -> Result<Appended> {
    let lane = Lane::inline(storage);
    block(async {
        let mut delivery = Delivery::new(store, &lane, vec![target])?;
        delivery.write(MESSAGE.as_bytes()).await?;
        delivery.commit().await.remove(0)
    })
}

/// Delivers [`MESSAGE`] without flags.
pub fn append(store: &Store, user: &User, name: &str) -> Result<Appended> {
    deliver(store, storage(), target(user, name))
}

/// The value of an annotation.
pub fn value(whose: &str, entry: &str, value: Option<&str>) -> AnnotationValue {
    let value = value.map(|value| value.as_bytes().into());
    AnnotationValue { whose: whose.into(), entry: entry.into(), value }
}

/// A message as it is served.
pub fn text_of(mailbox: &Mailbox, record: &Record, storage: Arc<dyn Storage>) -> String {
    let lane = Lane::inline(storage);
    block(async {
        let file = mailbox.message(&lane, record).await.unwrap();
        let mut served = file.served(0, file.stored_size(), 0, u64::MAX);
        let mut out = Vec::new();
        while let Some(piece) = served.next().await.unwrap() {
            out.extend(piece);
        }
        String::from_utf8(out).unwrap()
    })
}

/// What is on the disk while a store runs: what a crash would leave.
pub fn copied(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut copying = std::process::Command::new("cp");
    let status = copying.arg("-a").arg(dir.join(".")).arg(copy.path()).status();
    assert!(status.unwrap().success());
    copy
}
