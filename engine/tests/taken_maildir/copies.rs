//! A folder that another Maildir shares on the filesystem, and a reader's copy of it: whenever the power
//! goes or the disk fails, no message is lost from either or there twice, what was answered holds in
//! both, and after the next look both have the same messages.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use engine::io::sim::{Fault, Mode, Sim};
use engine::io::{Kind, Lane, Open, Storage};
use engine::layout::maildir::Maildir;
use engine::{
    Delivery, Drive, Error, MountOptions, OldServer, Partition, Store, StoreConfig, Target,
    UserOptions,
};
use protocol::types::{SystemFlags, Uid};

use super::{block, every, read};

const ORIGINAL: &str = "/spool/bob/.Open";
const COPY: &str = "/spool/alice/shared-folders/team/Open";
const MAILBOX: &str = "#shared-folders/team/Open";
/// What is there first: the first is one of Courier's links in the copy, with UID 4 and a flag.
const FIRST: [&str; 3] =
    ["cur/1600000001.M1.h:2,S", "cur/1600000002.M2.h:2,", "new/1600000003.M3.h"];
/// What the owner gets meanwhile, and what the reader puts there.
const COME: &str = "new/1600000004.M4.h";
const PUT: &str = "Subject: put";

/// What the reader or the owner was told is done.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    put: bool,
    removed: bool,
    came: bool,
}

fn file(sim: &Sim, path: &Path, bytes: &str) -> io::Result<()> {
    let file = sim.open(path, Open::CreateNew)?;
    file.write_at(bytes.as_bytes(), 0)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |dir| sim.sync_dir(dir))
}

fn link(sim: &Sim, dir: &str, name: &str, target: &Path) {
    sim.directory(Path::new(dir)).unwrap().symlink(target, OsStr::new(name)).unwrap();
}

/// The contents of a message tell it from the others.
fn contents(name: &str) -> String {
    let base = name.split(['/', ':']).nth(1).unwrap();
    format!("Subject: {base}\n\nx\n")
}

fn shared(mode: Mode) -> Sim {
    let sim = Sim::with_mode(11, mode);
    for dir in ["/spool/alice", "/spool/bob", ORIGINAL, COPY] {
        for sub in ["cur", "new", "tmp"] {
            sim.create_dir_all(&Path::new(dir).join(sub)).unwrap();
        }
    }
    let original = Path::new(ORIGINAL);
    for name in FIRST {
        file(&sim, &original.join(name), &contents(name)).unwrap();
    }
    file(&sim, Path::new("/spool/alice/shared-maildirs"), "team\t/spool/bob\n").unwrap();
    link(&sim, COPY, "shared", original);
    link(&sim, &format!("{COPY}/cur"), "1600000001.M1.h:2,F", &original.join(FIRST[0]));
    let uids = Path::new(COPY).join("courierimapuiddb");
    file(&sim, &uids, "1 700 9\n4 1600000001.M1.h\n").unwrap();
    sim.sync_filesystem(original).unwrap();
    sim
}

fn open(sim: &Sim) -> engine::Result<Store> {
    let partition = Partition {
        name: "default".into(),
        path: "/spool".into(),
        layout: Arc::new(Maildir { shared_folders: true, ..Maildir::default() }),
        mount: MountOptions::default(),
    };
    let mut config = StoreConfig::new("/state", vec![partition]);
    config.log_bytes_max = 1 << 20;
    config.log_segment_bytes = Some(64 << 10);
    config.hand_back = vec![OldServer::Courier];
    Store::open(config, Arc::new(sim.clone()), Drive::Inline)
}

/// A session of the reader, beside which the owner gets a message; `done` tells how far it came.
fn session(sim: &Sim, done: &mut Done) -> engine::Result<()> {
    let store = open(sim)?;
    block(async {
        let user = store.user("alice", &UserOptions::default()).await?;
        let mailbox = user.mailbox(MAILBOX).await?;
        let view = mailbox.refresh().await?;
        let second = view
            .uids()
            .map(|(_, uid)| uid)
            .find(|uid| view.file_name(*uid).is_some_and(|name| name.contains("M2")));
        let target = Target {
            user: user.clone(),
            mailbox: mailbox.clone(),
            flags: SystemFlags::FLAGGED,
            keywords: vec![],
            internal_date: None,
            annotations: vec![],
        };
        let arrivals = mailbox.arrivals().await?;
        let lane = Lane::inline(Arc::new(sim.clone()));
        let mut delivery = Delivery::new(&store, &lane, vec![target])?;
        delivery.write(format!("{PUT}\r\n\r\nx\r\n").as_bytes()).await?;
        let uid = delivery.commit().await.remove(0)?.uid;
        mailbox.publish(vec![uid]).await?;
        done.put = true;
        drop(arrivals);
        let came = Path::new(ORIGINAL).join(COME);
        file(sim, &came, &contents(COME)).map_err(|source| Error::Io {
            what: "deliver",
            path: came,
            source: Arc::new(source),
        })?;
        done.came = true;
        if let Some(second) = second {
            mailbox.expunge(&mailbox.view(), vec![second]).await?;
            done.removed = true;
        }
        mailbox.refresh().await?;
        Ok::<(), Error>(())
    })?;
    store.close()
}

/// First lines of a folder's messages, and how many there are of each.
fn held(sim: &Sim, dir: &str) -> BTreeMap<String, usize> {
    let mut held = BTreeMap::new();
    for sub in ["cur", "new"] {
        let dir = Path::new(dir).join(sub);
        let mut names = Vec::new();
        sim.list(&dir, &mut |name, kind| {
            assert_ne!(kind, Kind::Directory);
            names.push(String::from_utf8(name.to_vec()).unwrap());
        })
        .unwrap();
        for name in names {
            let text = String::from_utf8(read(sim, &dir.join(name)).unwrap()).unwrap();
            *held.entry(text.lines().next().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    held
}

/// What holds after the next look.
fn agree(sim: &Sim, done: Done, what: &str) {
    sim.advance(121_000_000_000);
    let store = open(sim).unwrap();
    block(async {
        let user = store.user("alice", &UserOptions::default()).await.unwrap();
        let mailbox = user.mailbox(MAILBOX).await.unwrap();
        let view = mailbox.refresh().await.unwrap();
        let original = held(sim, ORIGINAL);
        assert_eq!(held(sim, COPY), original, "{what}");
        assert_eq!(view.exists() as usize, original.len(), "{what}: {original:?}");
        assert!(original.values().all(|n| *n == 1), "{what}: {original:?}");
        let has = |name: &str| original.contains_key(contents(name).lines().next().unwrap());
        assert!(has(FIRST[0]) && has(FIRST[2]), "{what}: {original:?}");
        assert!(!done.put || original.contains_key(PUT), "{what}: {original:?}");
        assert!(!done.came || has(COME), "{what}: {original:?}");
        assert!(!done.removed || !has(FIRST[1]), "{what}: {original:?}");
        // Where nobody began to remove it, it stays.
        assert!(done.came || has(FIRST[1]), "{what}: {original:?}");
        let (_, record) = view.record_of(Uid(4)).unwrap();
        assert!(record.flags.contains(SystemFlags::FLAGGED), "{what}");
        assert_eq!(view.uid_validity().0, 700, "{what}");
    });
    let mut staged = Vec::new();
    for dir in [COPY, ORIGINAL] {
        sim.list(&Path::new(dir).join("tmp"), &mut |name, _| {
            let name = String::from_utf8_lossy(name).into_owned();
            staged.extend(name.starts_with("cursus.").then_some(name));
        })
        .unwrap();
    }
    assert_eq!(staged, [""; 0], "{what}");
    store.close().unwrap();
    // Courier's again: links that lead to the messages.
    assert_eq!(held(sim, COPY), held(sim, ORIGINAL), "{what}");
    sim.list(&Path::new(COPY).join("cur"), &mut |_, kind| assert_eq!(kind, Kind::Link, "{what}"))
        .unwrap();
}

#[test]
fn a_copy_and_its_original_agree_whenever_the_power_goes() {
    for (mode, step) in [(Mode::Ordered, 3), (Mode::Weak, 7), (Mode::NoJournal, 7)] {
        let step = every(step);
        let mut cuts = 0;
        for cut in (1..).step_by(step) {
            let (sim, mut done) = (shared(mode), Done::default());
            sim.stop_at(sim.operations() + cut);
            let whole = session(&sim, &mut done).is_ok() && !sim.is_stopped();
            if whole {
                assert!(done.put && done.came && done.removed);
                sim.stop_at(u64::MAX);
                agree(&sim, done, "whole");
                break;
            }
            sim.crash(cut);
            agree(&sim, done, &format!("{mode:?}, cut {cut}, {done:?}"));
            cuts += 1;
        }
        assert!(cuts * step > 100, "only {cuts} moments");
    }
}

#[test]
fn a_copy_and_its_original_agree_whatever_fails() {
    let step = every(13);
    for (first, fault) in [Fault::NoSpace, Fault::Io, Fault::ShortWrite].into_iter().enumerate() {
        for n in (1 + first as u64..).step_by(step) {
            let (sim, mut done) = (shared(Mode::Ordered), Done::default());
            let begun = sim.operations();
            sim.fail_at(begun + n, fault);
            let whole = session(&sim, &mut done).is_ok();
            if whole && sim.operations() < begun + n {
                break;
            }
            // As after a stop without goodbye.
            sim.crash(n);
            agree(&sim, done, &format!("{fault:?} at {n}, {done:?}"));
        }
    }
}
