//! On a real filesystem, with the store's threads at work.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::archive::{ArchiveTarget, RestoreOptions, restore, verify};
use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::{Delivery, Drive, Target};
use protocol::types::{SystemFlags, Uid};

use crate::site::{Site, USERS, config};

/// One acknowledged delivery: when it began and when the answer came, microseconds since 1970.
struct Acknowledged {
    user: String,
    uid: u32,
    text: String,
    began: u64,
    ended: u64,
}

fn now() -> u64 {
    Blocking::new().now_ns() as u64 / 1000
}

/// Delivers, flags and expunges as fast as it goes, until told to stop.
fn writer(site: &Site, n: usize, stop: &AtomicBool) -> Vec<Acknowledged> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (user, _) = USERS[n % 2];
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    let lane = Lane::inline(storage);
    let mut out = Vec::new();
    let (account, mailbox) = (site.user(user), site.mailbox(user, "INBOX"));
    let scratch = site.mailbox(user, "Scratch");
    runtime.block_on(async {
        for turn in 0.. {
            if stop.load(Ordering::Acquire) {
                break;
            }
            for (mailbox, kept) in [(&mailbox, true), (&scratch, false)] {
                let text = format!("Subject: {n} {turn} {kept}\r\n\r\nbody of {n}\r\n");
                let (flags, keywords) = (SystemFlags(0), Vec::new());
                let (user, mailbox) = (account.clone(), mailbox.clone());
                let target = Target {
                    user,
                    mailbox,
                    flags,
                    keywords,
                    internal_date: None,
                    annotations: vec![],
                };
                let began = now();
                let mut delivery = Delivery::new(&site.store, &lane, vec![target]).unwrap();
                delivery.write(text.as_bytes()).await.unwrap();
                let done = delivery.commit().await.remove(0).expect("a delivery");
                if kept {
                    let (user, uid, ended) = (account.name().to_owned(), done.uid.0, now());
                    out.push(Acknowledged { user, uid, text, began, ended });
                }
            }
            if turn % 8 == 7 {
                let view = scratch.view();
                let all: Vec<Uid> = view.uids().map(|(_, uid)| uid).collect();
                scratch.expunge(&view, all).await.expect("an expunge");
            }
        }
    });
    out
}

#[test]
fn a_backup_under_full_load_and_the_log_behind_it_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (root, archive) = (dir.path().join("live"), dir.path().join("archive"));
    std::fs::create_dir_all(&archive).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    let target = ArchiveTarget::Directory(archive.clone());
    let mut settings = config(&root, Some(target), 1 << 40);
    settings.checkpoint_seconds = 1;
    let site = Site::open(storage.clone(), settings, Drive::Threads).unwrap();
    for (user, _) in USERS {
        site.wait(site.user(user).create("Scratch", &[])).unwrap();
    }
    let stop = AtomicBool::new(false);
    let backup = dir.path().join("backup");
    let (report, acknowledged) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|n| {
                let (store, storage) = (site.store.clone(), storage.clone());
                let (root, stop) = (&root, &stop);
                scope.spawn(move || writer(&Site::over(store, storage, root), n, stop))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(400));
        let report = site.backup(&backup).expect("a backup");
        std::thread::sleep(Duration::from_millis(400));
        stop.store(true, Ordering::Release);
        let all: Vec<Acknowledged> =
            writers.into_iter().flat_map(|w| w.join().expect("a writer")).collect();
        (report, all)
    });
    assert_eq!(report.findings, Vec::<String>::new());
    site.wait(site.store.checkpoint()).unwrap();
    // A stop would leave the rest to the next start.
    while !site.wait(site.store.archive_now()).expect("the archive takes all") {}
    site.store.close().unwrap();
    let last = acknowledged.iter().map(|a| a.ended).max().unwrap();
    let between = report.consistent_us + (last - report.consistent_us) / 2;
    assert!(verify(&storage, &archive, true).unwrap().findings.is_empty());
    for (n, moment) in [report.consistent_us, between, last].into_iter().enumerate() {
        let to = dir.path().join(format!("restored-{n}"));
        let options = RestoreOptions {
            from: vec![backup.clone(), archive.clone()],
            as_of_us: Some(moment),
            ..RestoreOptions::default()
        };
        let done = restore(config(&to, None, 0), storage.clone(), &options).expect("a restore");
        assert_eq!(done.missing, Vec::<String>::new());
        assert!(n == 2 || !done.archive_ends_before, "{done:?}");
        let back = Site::open(storage.clone(), config(&to, None, 0), Drive::Inline).unwrap();
        let world = back.look();
        let mut known: BTreeSet<(&str, u32)> = BTreeSet::new();
        for one in &acknowledged {
            let folder = &world[&one.user].folders["INBOX"];
            let is = folder.messages.get(&one.uid);
            if one.ended <= moment {
                assert_eq!(is.map(|m| &m.text), Some(&one.text), "{} {}", one.user, one.uid);
            } else if one.began > moment {
                assert_eq!(is, None, "{} {} came later", one.user, one.uid);
            }
            known.insert((&one.user, one.uid));
        }
        for (user, _) in USERS {
            let messages = &world[user].folders["INBOX"].messages;
            assert!(messages.keys().all(|uid| known.contains(&(user, *uid))), "nobody sent it");
        }
        assert!(back.wait(back.store.check(None)).unwrap().findings.is_empty());
        back.store.close().unwrap();
    }
    println!("{} deliveries, backup of {} messages", acknowledged.len(), report.messages);
}

#[test]
fn a_command_can_be_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let (root, archive) = (dir.path().join("live"), dir.path().join("archive"));
    let script = dir.path().join("take");
    let text = "#!/bin/sh\n# archive-take ROOT KIND PATH BYTES <item\nset -e\n\
                [ ! -e \"$1/down\" ]\nmkdir -p \"$1/$(dirname \"$3\")\" \"$1/tmp\"\n\
                cat >\"$1/tmp/item\"\n[ \"$(stat -c %s \"$1/tmp/item\")\" = \"$4\" ]\n\
                sync -d \"$1/tmp/item\"\nmv \"$1/tmp/item\" \"$1/$3\"\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(&archive).unwrap();
    let line = [&script, &archive].map(|p| p.display().to_string()).to_vec();
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    let settings = config(&root, Some(ArchiveTarget::Command(line)), 1 << 40);
    let site = Site::open(storage.clone(), settings, Drive::Inline).unwrap();
    site.look();
    site.backup(&archive).unwrap();
    std::fs::write(archive.join("down"), "").unwrap();
    for token in 1..6 {
        site.append("bob", "INBOX", token, 1, &["work"]);
    }
    let inbox = site.mailbox("bob", "INBOX");
    site.wait(inbox.expunge(&inbox.view(), vec![Uid(2)])).unwrap();
    site.wait(site.store.checkpoint()).unwrap();
    let error = site.wait(site.store.archive_now()).expect_err("the command fails");
    assert!(error.to_string().contains("exit status: 1"), "{error}");
    assert!(site.store.archive_status().unwrap().alarm.is_some());
    std::fs::remove_file(archive.join("down")).unwrap();
    assert!(site.wait(site.store.archive_now()).expect("it takes all"));
    let world = site.look();
    site.store.close().unwrap();
    let report = verify(&storage, &archive, true).unwrap();
    assert_eq!((report.findings.len(), report.messages), (0, 5), "{report:?}");
    let options = RestoreOptions { from: vec![archive], ..RestoreOptions::default() };
    let to = dir.path().join("restored");
    restore(config(&to, None, 0), storage.clone(), &options).expect("a restore");
    let back = Site::open(storage, config(&to, None, 0), Drive::Inline).unwrap();
    assert_eq!(crate::site::difference(&back.look(), &world), None);
    assert!(Path::new(&to).join("state").is_dir());
}
