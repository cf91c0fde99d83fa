//! Mailboxes of another server are served where they lie, whatever moment the power goes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::io::sim::{Fault, Sim};
use engine::io::{Lane, Open, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Delivery, Drive, Error, MailboxToAdopt, MessageToAdopt, MountOptions, Partition, QuotaLimits,
    Store, StoreConfig, Target, UserOptions, UserToAdopt,
};
use protocol::types::SystemFlags;

const ROOT: &str = "/spool";
const LETTER: &[u8] = b"From: a@example.net\r\nSubject: x\r\n\r\nbody\r\n";

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(sim: &Sim) -> engine::Result<Store> {
    let partition = Partition {
        name: "default".into(),
        path: ROOT.into(),
        layout: layout_for(LayoutKind::Cyrus, &LayoutOptions::default()),
        mount: MountOptions::default(),
    };
    let mut config = StoreConfig::new("/state", vec![partition]);
    config.log_bytes_max = 1 << 20;
    config.log_segment_bytes = Some(64 << 10);
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    Store::open(config, storage, Drive::Inline)
}

/// The other server's spool: by id, with a message that it expunged and keeps.
fn spool() -> Sim {
    let sim = Sim::new(7);
    for (id, uids) in [("abc", vec![1, 2, 5]), ("xyz", vec![9])] {
        let dir = Path::new(ROOT).join("uuid").join(id);
        sim.create_dir_all(&dir).unwrap();
        for uid in uids {
            let file = sim.open(&dir.join(format!("{uid}.")), Open::Create).unwrap();
            file.write_at(LETTER, 0).unwrap();
            file.sync_all().unwrap();
        }
        sim.sync_dir(&dir).unwrap();
    }
    for dir in ["/spool/uuid", "/spool", "/"] {
        sim.sync_dir(Path::new(dir)).unwrap();
    }
    sim
}

fn mailbox(name: &str, id: &str, uids: &[u32], next: u32) -> MailboxToAdopt {
    let message = |uid: &u32| MessageToAdopt {
        uid: *uid,
        modseq: u64::from(*uid) + 10,
        internal_date: 1_000_000_000 + i64::from(*uid),
        save_date: Some(1_100_000_000),
        flags: SystemFlags::FLAGGED,
        keywords: 2,
        size: LETTER.len() as u64,
    };
    MailboxToAdopt {
        name: name.into(),
        partition: "default".into(),
        dir: PathBuf::from("uuid").join(id),
        unique_id: id.into(),
        uid_validity: 77,
        uid_next: next,
        modseq_highest: 40,
        recent_uid: next,
        special_use: vec![engine::SpecialUse::Sent],
        keywords: vec!["one".into(), "two".into()],
        messages: uids.iter().map(message).collect(),
        acl: Some([("bob".to_owned(), "lr".to_owned())].into()),
        quota: (name != "INBOX").then(|| QuotaLimits { messages: Some(9), ..Default::default() }),
        seen: vec![("bob".into(), vec![(1, 2)])],
        metadata: vec![(String::new(), "/shared/comment".into(), b"text".to_vec())],
        annotations: vec![(uids[0], String::new(), "/comment".into(), b"note".to_vec())],
    }
}

fn alice() -> UserToAdopt {
    UserToAdopt {
        partition: "default".into(),
        mailboxes: vec![mailbox("INBOX", "abc", &[1, 2], 6), mailbox("Sent", "xyz", &[9], 12)],
        subscriptions: BTreeSet::from(["Sent".to_owned()]),
        quota: Some(QuotaLimits { bytes: Some(1 << 20), ..Default::default() }),
    }
}

fn same(store: &Store) {
    let (wanted, got) = (alice(), store.describe("alice").unwrap());
    assert_eq!(format!("{got:?}"), format!("{wanted:?}"));
}

fn untouched(sim: &Sim) {
    for name in ["abc/1.", "abc/2.", "abc/5.", "xyz/9."] {
        let file = sim.open(&Path::new("/spool/uuid").join(name), Open::Read).unwrap();
        let mut bytes = vec![0; LETTER.len()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, LETTER, "{name}");
    }
}

#[test]
fn what_was_adopted_is_told_and_lives_on_where_it_lies() {
    let sim = spool();
    let store = open(&sim).unwrap();
    let mut heard = 0;
    let report = store.adopt("alice", alice(), &mut || heard += 1).unwrap();
    assert_eq!((report.mailboxes, report.messages, heard), (2, 3, 3));
    assert!(report.findings.is_empty());
    same(&store);
    let again = store.adopt("alice", alice(), &mut || panic!("nothing is to be read")).unwrap();
    assert_eq!((again.mailboxes, again.known), (0, 2));
    // The file of UID 5 is none of ours, and no fault.
    assert_eq!(block(store.check(None)).unwrap().findings, Vec::<String>::new());
    let user = block(store.user("alice", &UserOptions::default())).unwrap();
    let namespace = user.namespace();
    assert_eq!(namespace.mailboxes["Sent"].object_id(), "xyz");
    // A name changes, the directory does not.
    block(user.rename("Sent", "Out/Old")).unwrap();
    let target = Target {
        user: user.clone(),
        mailbox: block(user.mailbox("Out/Old")).unwrap(),
        flags: SystemFlags::empty(),
        keywords: vec![],
        internal_date: None,
        annotations: vec![],
    };
    block(async {
        let lane = Lane::inline(Arc::new(sim.clone()));
        let mut delivery = Delivery::new(&store, &lane, vec![target]).unwrap();
        delivery.write(LETTER).await.unwrap();
        let appended = delivery.commit().await.remove(0).unwrap();
        assert_eq!(appended.uid.0, 12);
    });
    store.close().unwrap();
    assert!(sim.stat(Path::new("/spool/uuid/xyz/12.")).is_ok());
    let store = open(&sim).unwrap();
    let described = store.describe("alice").unwrap();
    let old = described.mailboxes.iter().find(|mailbox| mailbox.name == "Out/Old").unwrap();
    assert_eq!(old.dir, Path::new("uuid/xyz"));
    assert_eq!(old.messages.len(), 2);
    untouched(&sim);
}

#[test]
fn a_directory_of_another_servers_mailbox_is_not_taken() {
    let sim = spool();
    let store = open(&sim).unwrap();
    let dir = Path::new("/spool/a/user/alice/Work");
    sim.create_dir_all(dir).unwrap();
    sim.open(&dir.join("cyrus.header"), Open::Create).unwrap();
    store.adopt("alice", alice(), &mut || ()).unwrap();
    let user = block(store.user("alice", &UserOptions::default())).unwrap();
    assert!(matches!(block(user.create("Work", &[])), Err(Error::NotAllowed(_))));
    let mut outside = alice();
    outside.mailboxes.truncate(1);
    outside.mailboxes[0].dir = "../state".into();
    assert!(store.adopt("eve", outside, &mut || ()).is_err());
    // More keywords than a record has bits for.
    let mut many = alice();
    many.mailboxes.truncate(1);
    many.mailboxes[0].keywords = (0..65).map(|i| format!("k{i}")).collect();
    assert!(store.adopt("eve", many, &mut || ()).is_err());
}

/// Cyrus makes it for the first message, where all other files are in a metapartition; a directory with
/// messages that is missing is a filesystem that is not mounted.
#[test]
fn a_mailbox_without_messages_needs_no_directory() {
    let sim = spool();
    let store = open(&sim).unwrap();
    let mut user = alice();
    user.mailboxes.truncate(1);
    user.mailboxes[0].dir = "b/user/bob".into();
    assert!(!user.mailboxes[0].messages.is_empty());
    assert!(store.adopt("bob", user.clone(), &mut || ()).is_err());
    assert!(sim.stat(Path::new("/spool/b")).is_err());
    user.mailboxes[0].messages.clear();
    user.mailboxes[0].annotations.clear();
    assert_eq!(store.adopt("bob", user, &mut || ()).unwrap().mailboxes, 1);
    let bob = block(store.user("bob", &UserOptions::default())).unwrap();
    assert_eq!(block(bob.mailbox("INBOX")).unwrap().view().uids().count(), 0);
}

#[test]
fn the_power_may_go_at_any_moment_of_an_adoption() {
    let mut cuts = 0;
    for cut in 1.. {
        let sim = spool();
        open(&sim).unwrap().close().unwrap();
        let begun = sim.operations();
        sim.stop_at(begun + cut);
        let whole = open(&sim).and_then(|store| {
            store.adopt("alice", alice(), &mut || ())?;
            store.close()
        });
        if whole.is_ok() && !sim.is_stopped() {
            break;
        }
        sim.crash(cut);
        let store = open(&sim).unwrap();
        let report = store.adopt("alice", alice(), &mut || ()).unwrap();
        assert_eq!(report.mailboxes + report.known, 2);
        same(&store);
        assert_eq!(block(store.check(None)).unwrap().findings, Vec::<String>::new());
        store.close().unwrap();
        same(&open(&sim).unwrap());
        untouched(&sim);
        cuts += 1;
    }
    assert!(cuts > 20, "only {cuts} moments");
}

#[test]
fn a_full_or_failing_disk_costs_nothing() {
    let (mut refused, mut cleared) = (0, 0);
    for fault in [Fault::NoSpace, Fault::ShortWrite, Fault::Io] {
        for n in 1.. {
            let sim = spool();
            let store = open(&sim).unwrap();
            let begun = sim.operations();
            sim.fail_at(begun + n, fault);
            let failed = store.adopt("alice", alice(), &mut || ()).is_err();
            let is_over = sim.operations() < begun + n;
            untouched(&sim);
            if failed {
                refused += 1;
                cleared += usize::from(!begun_files(&sim));
            }
            // Refusals by the log itself need a new start.
            let _ = store.close();
            let store = open(&sim).unwrap();
            let report = store.adopt("alice", alice(), &mut || ()).unwrap();
            assert_eq!(report.mailboxes + report.known, 2, "{fault:?} at {n}");
            same(&store);
            store.close().unwrap();
            if is_over {
                break;
            }
        }
    }
    assert!(refused > 20, "only {refused} refusals");
    // All but those that came from the log, behind which nobody knows what is durable.
    assert!(cleared * 2 > refused, "{cleared} of {refused} gave the room back");
}

/// Whether files of ours lie beside the other server's.
fn begun_files(sim: &Sim) -> bool {
    let mut found = false;
    for id in ["abc", "xyz"] {
        let dir = Path::new(ROOT).join("uuid").join(id);
        sim.list(&dir, &mut |name, _| found |= name.starts_with(b"cursus.")).unwrap();
    }
    found
}

#[test]
fn heads_are_without_messages_and_mailboxes_are_whole() {
    let sim = spool();
    let store = open(&sim).unwrap();
    store.adopt("alice", alice(), &mut || ()).unwrap();
    let mut wanted = alice();
    let heads = store.describe_heads("alice").unwrap();
    assert_eq!(
        store.describe_mailbox("alice", "Sent").unwrap().as_ref(),
        wanted.mailboxes.iter().find(|mailbox| mailbox.name == "Sent")
    );
    assert_eq!(store.describe_mailbox("alice", "None").unwrap(), None);
    for mailbox in &mut wanted.mailboxes {
        mailbox.messages.clear();
        mailbox.annotations.clear();
    }
    assert_eq!(heads, wanted);
    let text = serde_json::to_string(&alice()).unwrap();
    assert_eq!(serde_json::from_str::<UserToAdopt>(&text).unwrap(), alice());
}
