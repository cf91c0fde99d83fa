//! The store from outside: append, read back, flags, copy, move, rename, restart, crash.

use std::path::Path;
use std::sync::Arc;

use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Appended, Delivery, Drive, Error, Mailbox, MountOptions, Partition, Store, StoreConfig,
    StoreMode, StoreRequest, Target, User, UserOptions,
};
use protocol::types::{Keyword, ModSeq, SeqNum, SystemFlags, Uid, UidValidity};

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn config(dir: &Path, kind: LayoutKind) -> StoreConfig {
    let partition = Partition {
        name: "default".into(),
        path: dir.join("mail"),
        layout: layout_for(kind, &LayoutOptions::default()),
        mount: MountOptions::default(),
    };
    StoreConfig::new(dir.join("state"), vec![partition])
}

struct Bench {
    store: Store,
    lane: Lane,
}

impl Bench {
    fn open(dir: &Path, kind: LayoutKind, drive: Drive) -> Bench {
        let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
        let store = Store::open(config(dir, kind), storage.clone(), drive).unwrap();
        Bench { store, lane: Lane::inline(storage) }
    }

    fn user(&self) -> User {
        block(self.store.user("alice", &UserOptions::default())).unwrap()
    }

    fn mailbox(&self, name: &str) -> Mailbox {
        block(self.user().mailbox(name)).unwrap()
    }

    fn append(&self, name: &str, text: &str) -> Appended {
        let target = Target {
            user: self.user(),
            mailbox: self.mailbox(name),
            flags: SystemFlags::empty(),
            keywords: vec![],
            internal_date: Some(1_700_000_000),
            annotations: vec![],
        };
        block(async {
            let mut delivery = Delivery::new(&self.store, &self.lane, vec![target]).unwrap();
            delivery.write(text.as_bytes()).await.unwrap();
            delivery.commit().await.remove(0).unwrap()
        })
    }

    fn read(&self, name: &str, uid: Uid) -> String {
        let mailbox = self.mailbox(name);
        let (_, record) = mailbox.view().record_of(uid).unwrap();
        block(async {
            let file = mailbox.message(&self.lane, &record).await.unwrap();
            let mut served = file.served(0, file.stored_size(), 0, u64::MAX);
            let mut out = Vec::new();
            while let Some(piece) = served.next().await.unwrap() {
                out.extend(piece);
            }
            String::from_utf8(out).unwrap()
        })
    }

    fn store(&self, name: &str, uids: &[u32], mode: StoreMode, flags: SystemFlags) -> ModSeq {
        let request = StoreRequest {
            uids: uids.iter().map(|u| Uid(*u)).collect(),
            mode,
            flags,
            keywords: vec![Keyword::new("$Label").unwrap()],
            unchanged_since: None,
        };
        block(self.mailbox(name).store(request)).unwrap().modseq
    }

    fn uids(&self, name: &str) -> Vec<u32> {
        let view = block(self.mailbox(name).refresh()).unwrap();
        view.uids().map(|(_, uid)| uid.0).collect()
    }

    fn clean(&self) {
        let report = block(self.store.check(None)).unwrap();
        assert_eq!(report.findings, Vec::<String>::new());
    }
}

const KINDS: [LayoutKind; 2] = [LayoutKind::Maildir, LayoutKind::Cyrus];
const DRIVES: [Drive; 2] = [Drive::Inline, Drive::Threads];

fn message(n: usize) -> String {
    format!("Subject: message {n}\r\nFrom: a@example.org\r\n\r\nBody {n}\r\n.\r\nlast\r\n")
}

#[test]
fn a_message_comes_back_as_it_went_in_also_after_a_restart() {
    for kind in KINDS {
        for drive in DRIVES {
            let dir = tempfile::tempdir().unwrap();
            let bench = Bench::open(dir.path(), kind, drive);
            for n in 1..=300 {
                assert_eq!(bench.append("INBOX", &message(n)).uid, Uid(n as u32));
            }
            let odd = "Subject: odd\r\n\r\na\0b\r\r\nlone \r cr\r\n";
            assert_eq!(bench.append("INBOX", odd).uid, Uid(301));
            assert_eq!(bench.read("INBOX", Uid(301)), odd);
            assert_eq!(bench.read("INBOX", Uid(7)), message(7));
            bench.clean();
            let validity = bench.mailbox("INBOX").uid_validity();
            bench.store.close().unwrap();
            let bench = Bench::open(dir.path(), kind, drive);
            assert_eq!(bench.store.status().recovered, 0, "a clean stop leaves an empty log");
            assert_eq!(bench.uids("INBOX").len(), 301);
            assert_eq!(bench.read("INBOX", Uid(301)), odd);
            assert_eq!(bench.mailbox("INBOX").uid_validity(), validity);
            assert_eq!(bench.append("INBOX", &message(9)).uid, Uid(302));
            bench.clean();
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_stop_without_goodbye() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let copy = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), kind, Drive::Inline);
        block(bench.user().create("Work/Old", &[])).unwrap();
        for n in 1..=20 {
            bench.append("INBOX", &message(n));
        }
        block(bench.store.checkpoint()).unwrap();
        for n in 21..=40 {
            bench.append("INBOX", &message(n));
        }
        bench.store("INBOX", &[3, 25], StoreMode::Add, SystemFlags::SEEN);
        let inbox = bench.mailbox("INBOX");
        block(inbox.expunge(&inbox.view(), vec![Uid(5), Uid(26)])).unwrap();
        let target = bench.mailbox("Work/Old");
        let moved = block(inbox.move_to(&inbox.view(), vec![Uid(7), Uid(30)], &target)).unwrap();
        assert_eq!(moved.pairs, vec![(Uid(7), Uid(1)), (Uid(30), Uid(2))]);
        block(bench.user().rename("Work/Old", "Archive/2026")).unwrap();
        block(bench.user().subscribe("Archive/2026", true)).unwrap();
        let modseq = inbox.view().modseq_highest();
        // The state on disk as a kill would leave it.
        let status = std::process::Command::new("cp")
            .args(["-a", "--"])
            .arg(dir.path().join("."))
            .arg(copy.path())
            .status();
        assert!(status.unwrap().success());
        let again = Bench::open(copy.path(), kind, Drive::Inline);
        assert!(again.store.status().recovered > 0);
        let uids = again.uids("INBOX");
        let gone = [5, 26, 7, 30];
        let expected: Vec<u32> = (1..=40).filter(|u| !gone.contains(u)).collect();
        assert_eq!(uids, expected);
        assert_eq!(again.uids("Archive/2026"), vec![1, 2]);
        assert_eq!(again.read("Archive/2026", Uid(2)), message(30));
        assert!(again.user().namespace().subscriptions.contains("Archive/2026"));
        let view = again.mailbox("INBOX").view();
        assert_eq!(view.record_of(Uid(25)).unwrap().1.flags, SystemFlags::SEEN);
        assert_eq!(view.keywords().names()[0].as_str(), "$Label");
        assert!(view.modseq_highest() >= modseq);
        assert_eq!(again.append("INBOX", &message(41)).uid, Uid(41));
        again.clean();
    }
}

#[test]
fn views_hold_still_and_tell_what_changed() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), kind, Drive::Inline);
        for n in 1..=10 {
            bench.append("INBOX", &message(n));
        }
        let inbox = bench.mailbox("INBOX");
        let old = inbox.view();
        block(inbox.expunge(&old, vec![Uid(2), Uid(9)])).unwrap();
        bench.append("INBOX", &message(11));
        bench.store("INBOX", &[4], StoreMode::Add, SystemFlags::FLAGGED);
        assert_eq!(old.exists(), 10);
        assert_eq!(old.uid(SeqNum(9)), Some(Uid(9)));
        let new = inbox.view();
        let changes = new.changes_since(&old);
        assert_eq!(changes.expunged, vec![SeqNum(2), SeqNum(9)]);
        assert_eq!(changes.exists, Some(9));
        assert_eq!(changes.flags, vec![Uid(4)]);
        assert_eq!(new.seq(Uid(11)), Some(SeqNum(9)));
        assert_eq!(new.unseen(), 9);
    }
}

#[test]
fn the_first_unseen_message_is_found_wherever_flags_move_it() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), LayoutKind::Cyrus, Drive::Inline);
    for n in 1..=6 {
        bench.append("INBOX", &message(n));
    }
    let first = || bench.mailbox("INBOX").view().first_unseen();
    assert_eq!(first(), Some(SeqNum(1)));
    bench.store("INBOX", &[1, 2, 3], StoreMode::Add, SystemFlags::SEEN);
    assert_eq!(first(), Some(SeqNum(4)));
    bench.store("INBOX", &[2], StoreMode::Remove, SystemFlags::SEEN);
    assert_eq!(first(), Some(SeqNum(2)));
    let inbox = bench.mailbox("INBOX");
    block(inbox.expunge(&inbox.view(), vec![Uid(2)])).unwrap();
    assert_eq!(first(), Some(SeqNum(3)), "UID 4, behind 1 and 3");
    bench.store("INBOX", &[4, 5, 6], StoreMode::Add, SystemFlags::SEEN);
    assert_eq!(first(), None);
    bench.append("INBOX", &message(7));
    assert_eq!(first(), Some(SeqNum(6)));
}

#[test]
fn names_are_checked_and_a_deleted_name_can_be_used_again() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), kind, Drive::Inline);
        let user = bench.user();
        block(user.create("A", &[])).unwrap();
        block(user.create("A/B", &[])).unwrap();
        let first = bench.append("A", &message(1)).uid_validity;
        bench.append("A/B", &message(2));
        assert!(matches!(block(user.create("A", &[])), Err(Error::MailboxExists)));
        assert!(matches!(block(user.create("a//b", &[])), Err(Error::NotAllowed(_))));
        assert!(block(user.create("../x", &[])).is_err() || kind == LayoutKind::Cyrus);
        block(user.delete("A")).unwrap();
        assert!(matches!(block(user.mailbox("A")), Err(Error::NoSuchMailbox)));
        assert_eq!(bench.read("A/B", Uid(1)), message(2));
        block(user.create("A", &[])).unwrap();
        assert_eq!(bench.uids("A"), Vec::<u32>::new());
        assert!(bench.append("A", &message(3)).uid_validity > first);
        block(user.rename("A", "C/D")).unwrap();
        assert_eq!(bench.read("C/D/B", Uid(1)), message(2));
        bench.clean();
    }
}

#[test]
fn other_programs_may_deliver_move_and_remove() {
    for drive in DRIVES {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), LayoutKind::Maildir, drive);
        bench.append("INBOX", &message(1));
        let root = dir.path().join("mail/alice");
        std::fs::write(root.join("new/1600000000.foreign.host"), "Subject: x\n\nbody\n").unwrap();
        assert_eq!(bench.uids("INBOX"), vec![1, 2]);
        assert_eq!(bench.read("INBOX", Uid(2)), "Subject: x\r\n\r\nbody\r\n");
        std::fs::rename(
            root.join("new/1600000000.foreign.host"),
            root.join("cur/1600000000.foreign.host:2,FS"),
        )
        .unwrap();
        bench.store("INBOX", &[2], StoreMode::Add, SystemFlags::ANSWERED);
        assert_eq!(bench.uids("INBOX"), vec![1, 2]);
        let flags = bench.mailbox("INBOX").view().record_of(Uid(2)).unwrap().1.flags;
        assert_eq!(flags.0, 1 | 2 | 4, "theirs and ours are merged");
        std::fs::remove_file(
            std::fs::read_dir(root.join("cur"))
                .unwrap()
                .map(|e| e.unwrap().path())
                .find(|p| p.to_string_lossy().contains("foreign"))
                .unwrap(),
        )
        .unwrap();
        assert_eq!(bench.uids("INBOX"), vec![1]);
        bench.store.close().unwrap();
    }
}

/// RFC 4467: keys are there after a restart, whether a checkpoint or the log has them.
#[test]
fn url_keys_survive_a_restart_and_renames_and_die_with_their_mailbox() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), LayoutKind::Maildir, Drive::Inline);
    let user = bench.user();
    block(user.create("x", &[])).unwrap();
    let (inbox, x) = (block(user.url_key("INBOX")).unwrap(), block(user.url_key("x")).unwrap());
    assert_ne!(inbox, x);
    assert_eq!(block(user.url_key("inbox")).unwrap(), inbox);
    assert!(matches!(block(user.url_key("y")), Err(Error::NoSuchMailbox)));
    block(user.rename("x", "y")).unwrap();
    drop(user);
    bench.store.close().unwrap();
    drop(bench);
    let bench = Bench::open(dir.path(), LayoutKind::Maildir, Drive::Inline);
    let user = bench.user();
    assert_eq!(user.namespace().url_key("INBOX"), Some(&inbox));
    assert_eq!(user.namespace().url_key("y"), Some(&x));
    block(user.reset_url_keys(Some("y"))).unwrap();
    assert_ne!(user.namespace().url_key("y"), Some(&x));
    assert_eq!(user.namespace().url_key("INBOX"), Some(&inbox));
    block(user.reset_url_keys(None)).unwrap();
    assert_ne!(user.namespace().url_key("INBOX"), Some(&inbox));
    block(user.delete("y")).unwrap();
    block(user.create("y", &[])).unwrap();
    assert_eq!(user.namespace().url_key("y"), None);
    drop(user);
    bench.store.close().unwrap();
}

/// RFC 8508: the new message and the removal are one transaction.
#[test]
fn a_replaced_message_is_never_gone_without_its_replacement() {
    for kind in [LayoutKind::Maildir, LayoutKind::Cyrus] {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), kind, Drive::Inline);
        block(bench.user().create("Sent", &[])).unwrap();
        let old = bench.append("INBOX", "Subject: old\r\n\r\nold\r\n");
        let replace = |target: &str, old: Uid, text: &str| {
            let target = Target {
                user: bench.user(),
                mailbox: bench.mailbox(target),
                flags: SystemFlags::DRAFT,
                keywords: vec![],
                internal_date: None,
                annotations: vec![],
            };
            let source = bench.mailbox("INBOX");
            block(async {
                let mut delivery = Delivery::new(&bench.store, &bench.lane, vec![target]).unwrap();
                delivery.write(text.as_bytes()).await.unwrap();
                delivery.replace(&source, old).await
            })
        };
        let new = replace("INBOX", old.uid, "Subject: new\r\n\r\nnew\r\n").unwrap();
        assert!(new.uid > old.uid && new.modseq > old.modseq);
        let inbox = bench.mailbox("INBOX");
        assert!(inbox.view().record_of(old.uid).is_none());
        assert!(inbox.view().record_of(new.uid).is_some());
        // What is gone can't be replaced, and nothing is added.
        let again = replace("INBOX", old.uid, "Subject: newer\r\n\r\nnewer\r\n");
        assert!(matches!(again, Err(Error::Expunged(uid)) if uid == old.uid), "{again:?}");
        assert_eq!(inbox.view().exists(), 1);
        let sent = replace("Sent", new.uid, "Subject: sent\r\n\r\nsent\r\n").unwrap();
        assert_eq!(inbox.view().exists(), 0);
        drop(inbox);
        bench.store.close().unwrap();
        drop(bench);
        let bench = Bench::open(dir.path(), kind, Drive::Inline);
        assert_eq!(bench.mailbox("INBOX").view().exists(), 0);
        assert!(bench.mailbox("Sent").view().record_of(sent.uid).is_some());
        bench.store.close().unwrap();
    }
}

/// UIDVALIDITY, UIDs and UIDNEXT of another server, also after a crash.
#[test]
fn numbers_of_another_server_are_kept_where_nothing_was_stored() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::open(dir.path(), kind, Drive::Inline);
        let given = |uids: &[u32]| {
            let target = Target {
                user: bench.user(),
                mailbox: bench.mailbox("INBOX"),
                flags: SystemFlags::empty(),
                keywords: vec![],
                internal_date: None,
                annotations: vec![],
            };
            block(async {
                let mut all = Vec::new();
                for uid in uids {
                    let mut one = Delivery::new(&bench.store, &bench.lane, vec![target.clone()])?;
                    one.keep_uid(Uid(*uid));
                    one.write(message(*uid as usize).as_bytes()).await?;
                    all.push(one);
                }
                Delivery::commit_all(all).await
            })
        };
        let user = bench.user();
        block(user.set_uid_validity("INBOX", UidValidity(77))).unwrap();
        assert_eq!(bench.mailbox("INBOX").uid_validity(), UidValidity(77));
        given(&[5, 9, 10]).unwrap();
        // All or none, and what is refused takes no UID.
        assert!(matches!(given(&[11, 3]), Err(Error::NotAllowed(_))));
        assert!(matches!(given(&[10]), Err(Error::NotAllowed(_))));
        given(&[11]).unwrap();
        let late = block(user.set_uid_validity("INBOX", UidValidity(78)));
        assert!(matches!(late, Err(Error::NotAllowed(_))), "{late:?}");
        block(user.create("Raised", &[])).unwrap();
        for uid_next in [0, 1, 40, 30] {
            block(bench.mailbox("Raised").raise_uid_next(Uid(uid_next))).unwrap();
        }
        assert_eq!(bench.mailbox("Raised").view().uid_next(), Uid(40));
        let late = block(user.set_uid_validity("Raised", UidValidity(78)));
        assert!(late.is_err(), "its UIDs were told");
        let crash = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("cp")
            .arg("-a")
            .args([dir.path().join("."), crash.path().to_owned()])
            .status();
        assert!(status.unwrap().success());
        let look = |bench: &Bench, when: &str| {
            assert_eq!(bench.mailbox("INBOX").uid_validity(), UidValidity(77), "{kind:?} {when}");
            assert_eq!(bench.uids("INBOX"), [5, 9, 10, 11], "{kind:?} {when}");
            assert_eq!(bench.mailbox("INBOX").view().uid_next(), Uid(12), "{kind:?} {when}");
            assert_eq!(bench.read("INBOX", Uid(9)), message(9), "{kind:?} {when}");
            let raised = bench.mailbox("Raised");
            assert_eq!((raised.view().uid_next(), raised.view().exists()), (Uid(40), 0), "{when}");
            bench.clean();
        };
        look(&bench, "at once");
        drop(user);
        bench.store.close().unwrap();
        drop(bench);
        let bench = Bench::open(dir.path(), kind, Drive::Inline);
        look(&bench, "after a stop");
        bench.store.close().unwrap();
        let bench = Bench::open(crash.path(), kind, Drive::Inline);
        look(&bench, "after a crash");
        assert_eq!(bench.append("Raised", &message(1)).uid, Uid(40));
        // A mailbox of the same name, made later, has a larger one.
        block(bench.user().set_uid_validity("Raised", UidValidity(5))).unwrap_err();
        block(bench.user().create("New", &[])).unwrap();
        let large = UidValidity(4_000_000_000);
        block(bench.user().set_uid_validity("New", large)).unwrap();
        block(bench.user().delete("New")).unwrap();
        block(bench.user().create("New", &[])).unwrap();
        assert!(bench.mailbox("New").uid_validity() > large);
        let all = block(bench.user().create("Top", &[]))
            .and_then(|()| block(bench.user().set_uid_validity("Top", UidValidity(u32::MAX))));
        assert!(matches!(all, Err(Error::NotAllowed(_))), "none would be left above it");
        bench.store.close().unwrap();
    }
}
