//! Maildirs of Courier and Dovecot, taken over and given back whatever moment the power goes, the disk
//! is full or cannot be read: no message and no UID is lost, and the old server can go on.
//!
//! The power goes at every third operation, and faults strike every thirteenth; with
//! `CURSUS_EVERY_MOMENT` set, which takes two minutes, at each.

mod copies;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::io::layer::Layer;
use engine::io::sim::{Fault, Sim};
use engine::io::{Kind, Lane, Open, Stat, Storage, StoredFile};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Delivery, Drive, Error, INBOX, MountOptions, OldServer, Partition, Store, StoreConfig, Target,
    UserOptions,
};
use foreign::courier::uiddb::UidDb;
use foreign::dovecot::uidlist::UidList;
use protocol::types::SystemFlags;

const MAIN: &str = "/spool/alice";

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open_on(storage: Arc<dyn Storage>, hand_back: &[OldServer]) -> engine::Result<Store> {
    let partition = Partition {
        name: "default".into(),
        path: "/spool".into(),
        layout: layout_for(LayoutKind::Maildir, &LayoutOptions::default()),
        mount: MountOptions::default(),
    };
    let mut config = StoreConfig::new("/state", vec![partition]);
    config.log_bytes_max = 1 << 20;
    config.log_segment_bytes = Some(64 << 10);
    config.hand_back = hand_back.to_vec();
    Store::open(config, storage, Drive::Inline)
}

fn open(sim: &Sim, hand_back: &[OldServer]) -> engine::Result<Store> {
    open_on(Arc::new(sim.clone()), hand_back)
}

fn write(sim: &Sim, path: &Path, bytes: &[u8]) {
    let file = sim.open(path, Open::Create).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
    sim.sync_dir(path.parent().unwrap()).unwrap();
}

fn read(sim: &Sim, path: &Path) -> Option<Vec<u8>> {
    let file = sim.open(path, Open::Read).ok()?;
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// UIDs and base names of the INBOX; the last one lies in `new/`.
const MESSAGES: [(u32, &str); 4] = [
    (9, "1600000001.M1.host"),
    (3, "1600000002.M2.host,S=14"),
    (5, "1600000003.M3.host,S=14"),
    (12, "1600000004.M4.host,S=14"),
];
const VALIDITY: u32 = 777;
const NEXT: u32 = 20;

fn spool(server: OldServer) -> Sim {
    let sim = Sim::new(7);
    let main = Path::new(MAIN);
    for dir in ["cur", "new", "tmp", "courierimapkeywords", ".Work/cur", ".Work/new", ".Work/tmp"] {
        sim.create_dir_all(&main.join(dir)).unwrap();
    }
    for (uid, base) in MESSAGES {
        let name = if uid == 12 { format!("new/{base}") } else { format!("cur/{base}:2,S") };
        write(&sim, &main.join(name), b"Subject: x\n\ny\n");
    }
    write(&sim, &main.join(".Work/cur/1600000009.M9.host:2,"), b"Subject: w\n\nw\n");
    let mut by_uid = MESSAGES.map(|(uid, base)| (uid, base.as_bytes().to_vec()));
    by_uid.sort();
    let messages = by_uid.to_vec();
    match server {
        OldServer::Courier => {
            let db = UidDb { uid_validity: VALIDITY, uid_next: NEXT, messages };
            write(&sim, &main.join("courierimapuiddb"), &db.write());
            let work = b"1 778 5\n2 1600000009.M9.host\n";
            write(&sim, &main.join(".Work/courierimapuiddb"), work);
            let list = format!("$Label1\n\n{}:0\n", MESSAGES[1].1);
            write(&sim, &main.join("courierimapkeywords/:list"), list.as_bytes());
            write(&sim, &main.join("courierimapsubscribed"), b"INBOX.Work\n");
            write(&sim, &main.join(".Work/courierimapacl"), b"owner aceilrstwx\nuser=bob lr\n");
        }
        OldServer::Dovecot => {
            let message = |(uid, base)| foreign::dovecot::uidlist::Message {
                uid,
                extra: if uid == 5 { vec!["Pold-uidl".into()] } else { vec![] },
                base,
            };
            let list = UidList {
                uid_validity: VALIDITY,
                uid_next: NEXT,
                extra: vec!["Gabcdef".into()],
                messages: messages.into_iter().map(message).collect(),
            };
            write(&sim, &main.join("dovecot-uidlist"), &list.write());
            let work = b"3 V778 N5\n2 :1600000009.M9.host\n";
            write(&sim, &main.join(".Work/dovecot-uidlist"), work);
            write(&sim, &main.join("dovecot-keywords"), b"0 $Label1\n");
            let (from, to) =
                (format!("cur/{}:2,S", MESSAGES[1].1), format!("cur/{}:2,Sa", MESSAGES[1].1));
            sim.rename(&main.join(from), &main.join(to)).unwrap();
            write(&sim, &main.join("subscriptions"), b"V\t2\n\nWork\n");
            write(&sim, &main.join(".Work/dovecot-acl"), b"user=bob lr\n");
        }
    }
    for dir in ["/spool/alice/cur", "/spool/alice/.Work", MAIN, "/spool", "/"] {
        sim.sync_dir(Path::new(dir)).unwrap();
    }
    sim.sync_filesystem(main).unwrap();
    sim
}

/// Every message file is there, under its base name.
fn nothing_is_lost(sim: &Sim) {
    let mut bases = Vec::new();
    for dir in ["cur", "new", ".Work/cur", ".Work/new"] {
        sim.list(&Path::new(MAIN).join(dir), &mut |name, _| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            bases.push(name.split(':').next().unwrap().to_owned());
        })
        .unwrap();
    }
    bases.sort();
    bases.dedup();
    let mut wanted: Vec<String> = MESSAGES.iter().map(|(_, base)| (*base).to_owned()).collect();
    wanted.push("1600000009.M9.host".into());
    assert_eq!(bases, wanted);
}

/// The old server could go on: its list gives every message the UID that it had.
fn old_server_goes_on(sim: &Sim, server: OldServer) {
    nothing_is_lost(sim);
    let told: BTreeMap<Vec<u8>, u32> = match server {
        OldServer::Courier => {
            let bytes = read(sim, &Path::new(MAIN).join("courierimapuiddb")).unwrap();
            let db = UidDb::read(&bytes).unwrap();
            assert_eq!((db.uid_validity, db.uid_next), (VALIDITY, NEXT));
            db.messages.into_iter().map(|(uid, base)| (base, uid)).collect()
        }
        OldServer::Dovecot => {
            let bytes = read(sim, &Path::new(MAIN).join("dovecot-uidlist")).unwrap();
            let list = UidList::read(&bytes).unwrap();
            assert_eq!((list.uid_validity, list.uid_next), (VALIDITY, NEXT));
            assert_eq!(list.extra, ["Gabcdef"]);
            let uidl = list.messages.iter().find(|m| m.uid == 5).and_then(|m| m.uidl());
            assert_eq!(uidl, Some("old-uidl"));
            list.messages.into_iter().map(|m| (m.base, m.uid)).collect()
        }
    };
    let wanted = MESSAGES.iter().map(|(uid, base)| (base.as_bytes().to_vec(), *uid)).collect();
    assert_eq!(told, wanted);
}

/// Served as the old server served it.
fn serves(store: &Store) -> engine::Result<()> {
    block(async {
        let user = store.user("alice", &UserOptions::default()).await?;
        let view = user.mailbox(INBOX).await?.refresh().await?;
        let told: Vec<(u32, Vec<u8>, Vec<String>)> = view
            .uids()
            .map(|(_, uid)| {
                let (_, record) = view.record_of(uid).unwrap();
                let words = view.keywords().of_bits(record.keywords);
                let words = words.map(|word| word.as_str().to_owned()).collect();
                (uid.0, view.file_name(uid).unwrap().into_bytes(), words)
            })
            .collect();
        let mut wanted = MESSAGES.map(|(uid, base)| {
            let words = if uid == 3 { vec!["$Label1".to_owned()] } else { vec![] };
            (uid, base.as_bytes().to_vec(), words)
        });
        wanted.sort();
        assert_eq!(told, wanted);
        assert_eq!((view.uid_validity().0, view.uid_next().0), (VALIDITY, NEXT));
        let work = user.mailbox("Work").await?.refresh().await?;
        assert_eq!(work.uids().map(|(_, uid)| uid.0).collect::<Vec<_>>(), [2]);
        assert_eq!((work.uid_validity().0, work.uid_next().0), (778, 5));
        assert!(user.namespace().subscriptions.contains("Work"));
        let acl = user.acl("Work")?;
        assert!(acl.entries().any(|(entry, _)| entry.to_string() == "bob"));
        Ok(())
    })
}

/// A takeover and the way back.
fn there_and_back(sim: &Sim, server: OldServer) -> engine::Result<()> {
    let store = open(sim, &[server])?;
    serves(&store)?;
    block(async {
        let user = store.user("alice", &UserOptions::default()).await?;
        user.hand_back(&[server]).await
    })?;
    store.close()
}

/// Each operation, or one in so many.
fn every(step: usize) -> usize {
    if std::env::var_os("CURSUS_EVERY_MOMENT").is_some() { 1 } else { step }
}

#[test]
fn the_power_may_go_at_any_moment() {
    let step = every(3);
    for server in OldServer::ALL {
        let mut cuts = 0;
        for cut in (1..).step_by(step) {
            let sim = spool(server);
            sim.stop_at(sim.operations() + cut);
            if there_and_back(&sim, server).is_ok() && !sim.is_stopped() {
                old_server_goes_on(&sim, server);
                break;
            }
            sim.crash(cut);
            // A lock may have lost what it says of its holder: it counts for two minutes.
            sim.advance(121_000_000_000);
            old_server_goes_on(&sim, server);
            there_and_back(&sim, server).unwrap();
            old_server_goes_on(&sim, server);
            serves(&open(&sim, &[]).unwrap()).unwrap();
            cuts += 1;
        }
        assert!(cuts * step > 100, "only {cuts} moments");
    }
}

#[test]
fn the_disk_may_be_full_or_fail_at_any_moment() {
    let step = every(13);
    for server in OldServer::ALL {
        for (first, fault) in [Fault::NoSpace, Fault::Io, Fault::ShortWrite].into_iter().enumerate()
        {
            for n in (1 + first as u64..).step_by(step) {
                let sim = spool(server);
                let begun = sim.operations();
                sim.fail_at(begun + n, fault);
                let whole = there_and_back(&sim, server).is_ok();
                if whole && sim.operations() < begun + n {
                    break;
                }
                nothing_is_lost(&sim);
                // As after a stop without goodbye.
                sim.crash(n);
                sim.advance(121_000_000_000);
                old_server_goes_on(&sim, server);
                there_and_back(&sim, server).unwrap();
                old_server_goes_on(&sim, server);
            }
        }
    }
}

/// A message into the INBOX, and the way back again.
fn one_more(sim: &Sim, server: OldServer) -> engine::Result<u32> {
    let store = open(sim, &[server])?;
    let uid = block(async {
        let user = store.user("alice", &UserOptions::default()).await?;
        user.hand_back(&[server]).await?;
        let target = Target {
            user: user.clone(),
            mailbox: user.mailbox(INBOX).await?,
            flags: SystemFlags::empty(),
            keywords: vec![],
            internal_date: None,
            annotations: vec![],
        };
        let lane = Lane::inline(Arc::new(sim.clone()));
        let mut delivery = Delivery::new(&store, &lane, vec![target])?;
        delivery.write(b"Subject: z\r\n\r\nz\r\n").await?;
        let uid = delivery.commit().await.remove(0)?.uid.0;
        // Dovecot's list only gets a line.
        user.hand_back(&[server]).await?;
        Ok::<u32, Error>(uid)
    })?;
    store.close()?;
    Ok(uid)
}

fn dovecots_lines(sim: &Sim) -> (u64, Vec<(u32, bool)>) {
    let path = Path::new(MAIN).join("dovecot-uidlist");
    let list = UidList::read(&read(sim, &path).unwrap()).unwrap();
    assert_eq!((list.uid_validity, list.extra), (VALIDITY, vec!["Gabcdef".to_owned()]));
    let lines = list.messages.iter().map(|m| (m.uid, m.uidl().is_some())).collect();
    (sim.stat(&path).unwrap().inode, lines)
}

#[test]
fn lines_are_added_and_may_be_torn() {
    let server = OldServer::Dovecot;
    let begun = || {
        let sim = spool(server);
        there_and_back(&sim, server).unwrap();
        sim
    };
    let sim = begun();
    let (inode, _) = dovecots_lines(&sim);
    assert_eq!(one_more(&sim, server).unwrap(), 20);
    let (after, lines) = dovecots_lines(&sim);
    assert_eq!(lines, [(3, false), (5, true), (9, false), (12, false), (20, false)]);
    assert_eq!(after, inode, "it was not written whole");
    for cut in 1.. {
        let sim = begun();
        sim.stop_at(sim.operations() + cut);
        let told = one_more(&sim, server);
        if told.is_ok() && !sim.is_stopped() {
            break;
        }
        sim.crash(cut);
        sim.advance(121_000_000_000);
        let store = open(&sim, &[server]).unwrap();
        block(async {
            let user = store.user("alice", &UserOptions::default()).await.unwrap();
            let view = user.mailbox(INBOX).await.unwrap().refresh().await.unwrap();
            let uids: Vec<u32> = view.uids().map(|(_, uid)| uid.0).collect();
            assert_eq!(uids[..4], [3, 5, 9, 12], "cut {cut}");
            assert!(uids.len() == 4 || uids[4] == 20, "cut {cut}: {uids:?}");
            assert_eq!(view.uid_validity().0, VALIDITY, "cut {cut}");
            user.hand_back(&[server]).await.unwrap();
        });
        store.close().unwrap();
        dovecots_lines(&sim);
    }
}

/// A disk on which files of some names cannot be looked at for a while.
struct Unreadable(Sim, &'static str, Arc<AtomicBool>);

impl Unreadable {
    fn check(&self, path: &Path) -> io::Result<()> {
        let is = path.to_string_lossy().contains(self.1) && self.2.load(Ordering::Acquire);
        if is { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

impl Layer for Unreadable {
    fn below(&self) -> &dyn Storage {
        &self.0
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        self.check(path)?;
        self.0.open(path, how)
    }
    fn list(&self, dir: &Path, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()> {
        self.check(dir)?;
        self.0.list(dir, each)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.check(path)?;
        self.0.stat(path)
    }
}

#[test]
fn what_cannot_be_read_now_is_taken_later_with_its_uids() {
    let of = |server: OldServer| match server {
        OldServer::Courier => ["alice/courierimapuiddb", ".Work/courierimapuiddb", "alice/cur"],
        OldServer::Dovecot => ["alice/dovecot-uidlist", ".Work/dovecot-uidlist", "alice/cur"],
    };
    for server in OldServer::ALL {
        for name in of(server) {
            let sim = spool(server);
            let fails = Arc::new(AtomicBool::new(true));
            let storage = Arc::new(Unreadable(sim.clone(), name, fails.clone()));
            let store = open_on(storage, &[server]).unwrap();
            for _ in 0..2 {
                let refused = serves(&store).unwrap_err();
                assert!(matches!(refused, Error::Io { .. }), "{server:?} {name}: {refused}");
            }
            fails.store(false, Ordering::Release);
            serves(&store).unwrap();
            store.close().unwrap();
            old_server_goes_on(&sim, server);
        }
    }
}

#[test]
fn a_damaged_list_is_named_and_costs_no_message() {
    for server in OldServer::ALL {
        let sim = spool(server);
        let path = match server {
            OldServer::Courier => PathBuf::from(MAIN).join("courierimapuiddb"),
            OldServer::Dovecot => PathBuf::from(MAIN).join("dovecot-uidlist"),
        };
        write(&sim, &path, b"\0\0\0");
        let store = open(&sim, &[server]).unwrap();
        block(async {
            let user = store.user("alice", &UserOptions::default()).await.unwrap();
            let view = user.mailbox(INBOX).await.unwrap().refresh().await.unwrap();
            assert_eq!(view.exists() as usize, MESSAGES.len());
            assert_ne!(view.uid_validity().0, VALIDITY);
        });
        store.close().unwrap();
        nothing_is_lost(&sim);
    }
}
