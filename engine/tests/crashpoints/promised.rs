//! Messages that another program put into an empty Maildir and whose number is told before they are
//! read: what was told holds, whatever becomes of them.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};

use engine::io::layer::{FileLayer, Layer};
use engine::io::sim::Sim;
use engine::io::{Facts, Lane, Open, Storage, StoredFile};
use engine::{
    Delivery, Drive, Error, FirstLook, INBOX, Mailbox, Promised, Result, Store, StoreConfig,
    Target, Turn, UserOptions, View,
};
use foreign::courier::uiddb::UidDb;
use protocol::types::{SeqNum, SystemFlags, Uid};

use crate::bench::{config, text};

const MAILDIR: &str = "/maildir/alice";
const MESSAGES: u32 = 6;

/// Calls that can fail for that message.
const NOTHING: u8 = 0;
const OPEN: u8 = 1;
const FACTS: u8 = 2;

/// A disk on which one message cannot be read for a while, or is waited for.
#[derive(Clone)]
struct Disk {
    sim: Sim,
    fails: Arc<AtomicU8>,
    is_held: Arc<(Mutex<bool>, Condvar)>,
}

impl Disk {
    /// With messages of which the second is the first that is not seen.
    fn filled(seed: u64) -> Disk {
        let disk = Disk { sim: Sim::new(seed), fails: Arc::default(), is_held: Arc::default() };
        for sub in ["cur", "new", "tmp"] {
            disk.sim.create_dir_all(&Path::new(MAILDIR).join(sub)).unwrap();
        }
        for n in 1..=MESSAGES {
            disk.put(
                n,
                &format!("{}.M{n}.host:2,{}", 1_600_000_000 + n, ["S", ""][n as usize / 2 % 2]),
            );
        }
        for dir in ["/", "/maildir", MAILDIR] {
            disk.sim.sync_dir(Path::new(dir)).unwrap();
        }
        disk.sim.advance(10_000_000_000);
        disk
    }

    fn put(&self, token: u32, name: &str) {
        let cur = Path::new(MAILDIR).join("cur");
        let file = self.sim.open(&cur.join(name), Open::CreateNew).unwrap();
        file.write_at(text(token).replace("\r\n", "\n").as_bytes(), 0).unwrap();
        file.sync_all().unwrap();
        self.sim.sync_dir(&cur).unwrap();
    }

    fn hold(&self, is_held: bool) {
        *self.is_held.0.lock().unwrap() = is_held;
        self.is_held.1.notify_all();
    }

    fn store(&self, drive: Drive) -> Result<Store> {
        let config = StoreConfig { promise_messages_min: 3, ..config(false) };
        Store::open(config, Arc::new(self.clone()), drive)
    }

    fn start(&self) -> Result<Site> {
        let store = self.store(Drive::Manual)?;
        let mut site = Site { store, disk: self.clone(), mailbox: None };
        let user = site.result(site.store.user("alice", &options()))?;
        site.mailbox = Some(site.result(user.mailbox(INBOX))?);
        Ok(site)
    }
}

fn options() -> UserOptions {
    UserOptions { partition: Some("maildir".into()), ..UserOptions::default() }
}

struct Site {
    store: Store,
    disk: Disk,
    mailbox: Option<Mailbox>,
}

impl Site {
    fn mailbox(&self) -> Mailbox {
        self.mailbox.clone().unwrap()
    }

    /// Polls and works until it ends, or nothing brings it on.
    fn wait<T>(&self, mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(out) = future.as_mut().poll(&mut context) {
                return Some(out);
            }
            if ![Turn::Helper, Turn::Log, Turn::Apply].map(|t| self.store.turn(t)).contains(&true) {
                return None;
            }
        }
    }

    fn result<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.wait(std::pin::pin!(future)).unwrap_or(Err(Error::Closing))
    }

    fn promised(&self) -> Result<Promised> {
        match self.result(self.mailbox().first_look())? {
            FirstLook::Promised(promised) => Ok(promised),
            FirstLook::Whole(view) => panic!("{} messages were read first", view.exists()),
        }
    }

    async fn deliver(&self, token: u32) -> Result<Uid> {
        let lane = Lane::inline(Arc::new(self.disk.clone()));
        let target = Target {
            user: self.store.user("alice", &options()).await?,
            mailbox: self.mailbox(),
            flags: SystemFlags::empty(),
            keywords: vec![],
            internal_date: None,
            annotations: vec![],
        };
        let mut delivery = Delivery::new(&self.store, &lane, vec![target])?;
        delivery.write(text(token).as_bytes()).await?;
        Ok(delivery.commit().await.remove(0)?.uid)
    }
}

fn uids(view: &View) -> Vec<u32> {
    view.uids().map(|(_, uid)| uid.0).collect()
}

#[test]
fn the_number_is_told_before_the_messages_and_holds() {
    let site = Disk::filled(1).start().unwrap();
    let promised = site.promised().unwrap();
    assert_eq!((promised.exists(), promised.uid_next()), (MESSAGES, Uid(MESSAGES + 1)));
    assert_eq!(promised.first_unseen(), Some(SeqNum(2)));
    assert_eq!(promised.before().exists(), 0);
    assert_eq!(site.mailbox().view().exists(), 0, "nothing was applied yet");
    // Whoever comes meanwhile waits: a message that would get a promised UID, and a second look.
    let mut delivery = Box::pin(site.deliver(70));
    let mailbox = site.mailbox();
    let mut second = Box::pin(mailbox.refresh());
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        while site.store.turn(Turn::Helper) {}
        assert!(delivery.as_mut().poll(&mut context).is_pending());
    }
    assert!(second.as_mut().poll(&mut context).is_pending());
    let kept = site.result(site.mailbox().kept(&promised)).unwrap();
    assert_eq!(uids(&kept), (1..=MESSAGES).collect::<Vec<_>>());
    assert!(promised.missing(&kept).is_empty());
    assert_eq!(kept.first_unseen(), promised.first_unseen());
    assert_eq!(site.wait(delivery.as_mut()).unwrap().unwrap(), promised.uid_next());
    let view = site.wait(second.as_mut()).unwrap().unwrap();
    assert!(view.exists() >= MESSAGES && view.uid_next() >= promised.uid_next());
    assert!(promised.missing(&site.mailbox().view()).is_empty());
}

/// Sequence numbers, UIDs and flags that were promised.
fn flags(promised: &Promised) -> Option<Vec<(SeqNum, Uid, SystemFlags)>> {
    Some(promised.messages(SeqNum(1), SeqNum(MESSAGES))?.collect())
}

#[test]
fn flags_are_told_before_the_messages_and_what_changed_then_is_known() {
    let disk = Disk::filled(1);
    let site = disk.start().unwrap();
    let promised = site.promised().unwrap();
    let told = flags(&promised).unwrap();
    let part = promised.messages(SeqNum(3), SeqNum(4)).unwrap().collect::<Vec<_>>();
    assert_eq!(part, told[2..4]);
    assert_eq!(promised.seqs_in_uid_range((0, 2)), Some((SeqNum(1), SeqNum(2))));
    assert_eq!(promised.seqs_in_uid_range((5, 99)), Some((SeqNum(5), SeqNum(6))));
    assert_eq!(promised.seqs_in_uid_range((7, 99)), None);
    let kept = site.result(site.mailbox().kept(&promised)).unwrap();
    let read = kept.records(SeqNum(1), SeqNum(MESSAGES));
    assert_eq!(told, read.map(|(seq, r)| (seq, r.uid, r.flags)).collect::<Vec<_>>());
    let otherwise = |view: &View| {
        let mailbox = site.mailbox();
        site.result(mailbox.told_otherwise(&promised, view)).unwrap()
    };
    assert_eq!(otherwise(&kept), []);
    let (old, new) = ("1600000004.M4.host:2,S", "1600000004.M4.host:2,FS");
    let cur = Path::new(MAILDIR).join("cur");
    assert_eq!(told[3].2, SystemFlags::SEEN);
    disk.sim.rename(&cur.join(old), &cur.join(new)).unwrap();
    disk.put(9, "1700000000.M9.host:2,S");
    let view = site.result(site.mailbox().refresh()).unwrap();
    assert_eq!((view.exists(), otherwise(&view)), (MESSAGES + 1, vec![SeqNum(4)]));
}

#[test]
fn flags_of_which_names_are_not_all_are_told_with_the_messages() {
    for (name, is_told) in [("Sa", false), ("PS", false), ("FS", true), ("SX", true)] {
        let disk = Disk::filled(1);
        disk.put(9, &format!("1700000000.M9.host:2,{name}"));
        let site = disk.start().unwrap();
        assert_eq!(flags(&site.promised().unwrap()).is_some(), is_told, "{name}");
    }
}

#[test]
fn a_message_on_its_way_keeps_promises_away() {
    let site = Disk::filled(1).start().unwrap();
    let mut delivery = Box::pin(site.deliver(70));
    assert!(delivery.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    match site.result(site.mailbox().first_look()).unwrap() {
        FirstLook::Promised(_) => panic!("promised UIDs behind one that is not in the log"),
        FirstLook::Whole(view) => assert_eq!(view.exists(), MESSAGES + 1),
    }
    assert_eq!(site.wait(delivery.as_mut()).unwrap().unwrap(), Uid(1));
}

#[test]
fn a_message_that_cannot_be_read_burns_its_uid() {
    for call in [OPEN, FACTS] {
        it_burns_its_uid_where(call);
    }
}

fn it_burns_its_uid_where(call: u8) {
    let disk = Disk::filled(1);
    let site = disk.start().unwrap();
    disk.fails.store(call, Ordering::Release);
    let promised = site.promised().unwrap();
    assert_eq!(promised.exists(), MESSAGES);
    let kept = site.result(site.mailbox().kept(&promised)).unwrap();
    assert_eq!(uids(&kept), [1, 2, 3, 4, 5]);
    assert_eq!(promised.missing(&kept), [(SeqNum(6), Uid(6))]);
    assert_eq!(kept.uid_next(), Uid(7), "it was told");
    disk.fails.store(NOTHING, Ordering::Release);
    disk.put(8, "1500000000.M8.host:2,");
    let view = site.result(site.mailbox().refresh()).unwrap();
    assert_eq!(uids(&view), [1, 2, 3, 4, 5, 7, 8]);
    assert_eq!(promised.missing(&view), [(SeqNum(6), Uid(6))]);
}

#[test]
fn a_listing_that_cannot_be_had_promises_nothing() {
    let disk = Disk::filled(1);
    let site = disk.start().unwrap();
    let at = disk.sim.operations() + 1;
    // The first operation is that which makes UIDNEXT durable.
    disk.sim.fail_at(at, engine::io::sim::Fault::Io);
    match site.result(site.mailbox().first_look()).unwrap() {
        FirstLook::Promised(_) => panic!("promised what no disk remembers"),
        FirstLook::Whole(view) => assert_eq!(uids(&view), [1, 2, 3, 4, 5, 6]),
    }
}

/// One run until the power goes: what was told of the promise, and the UIDs that were seen.
fn run(disk: &Disk) -> (Option<(u32, u32)>, Vec<u32>) {
    let mut told = None;
    let Ok(site) = disk.start() else { return (None, vec![]) };
    let validity = site.mailbox().uid_validity().0;
    let promised = match site.result(site.mailbox().first_look()) {
        Ok(FirstLook::Promised(promised)) => promised,
        // Without a disk no message could be read.
        Ok(FirstLook::Whole(view)) => {
            assert!(disk.sim.is_stopped(), "{} messages were read first", view.exists());
            return (None, vec![]);
        }
        Err(_) => return (None, vec![]),
    };
    if !disk.sim.is_stopped() {
        told = Some((validity, promised.uid_next().0));
    }
    let Ok(kept) = site.result(site.mailbox().kept(&promised)) else { return (told, vec![]) };
    let seen = if disk.sim.is_stopped() { vec![] } else { uids(&kept) };
    let _ = site.store.close();
    (told, seen)
}

#[test]
fn what_was_told_holds_when_the_power_goes() {
    let (mut told_alone, mut seen_too) = (0, 0);
    for cut in 1.. {
        let disk = Disk::filled(cut);
        disk.sim.stop_at(disk.sim.operations() + cut);
        let (told, seen) = run(&disk);
        if !disk.sim.is_stopped() {
            break;
        }
        disk.sim.crash(cut);
        // Delivered before all others, as far as its name tells, after the promise.
        disk.put(9, "1500000000.M9.host:2,");
        let site = disk.start().unwrap();
        let view = site.result(site.mailbox().refresh()).unwrap();
        let names: Vec<_> =
            view.uids().map(|(_, uid)| (uid.0, view.file_name(uid).unwrap())).collect();
        assert_eq!(names.len() as u32, MESSAGES + 1, "cut {cut}: {names:?}");
        let (new, _) = names.iter().find(|(_, name)| name.contains(".M9.")).unwrap();
        if let Some((validity, uid_next)) = told {
            // Whose flags may have been told is there under its UID, or under one that nobody was told.
            for (uid, name) in names.iter().filter(|(uid, _)| *uid < uid_next) {
                assert!(name.contains(&format!(".M{uid}.")), "cut {cut}: {name} has UID {uid}");
            }
            assert_eq!(site.mailbox().uid_validity().0, validity, "cut {cut}");
            assert!(*new >= uid_next, "cut {cut}: {new} is below UIDNEXT {uid_next}");
            assert!(view.uid_next().0 > uid_next, "cut {cut}");
            told_alone += u32::from(seen.is_empty());
        }
        if !seen.is_empty() {
            let old: Vec<u32> = names.iter().map(|(uid, _)| *uid).filter(|u| u != new).collect();
            assert_eq!(old, seen, "cut {cut}: UIDs that were told");
            seen_too += 1;
        }
    }
    assert!(told_alone > 1 && seen_too > 1, "{told_alone} cuts between, {seen_too} behind");
}

/// As Courier left it, which knew four of them.
fn couriers() -> Disk {
    let disk = Disk::filled(1);
    let uids = [(3, 2), (5, 3), (9, 1), (12, 4)];
    let base = |n: u32| format!("{}.M{n}.host", 1_600_000_000 + n).into_bytes();
    let messages = uids.into_iter().map(|(uid, n)| (uid, base(n))).collect();
    let db = UidDb { uid_validity: 777, uid_next: 20, messages };
    let path = Path::new(MAILDIR).join("courierimapuiddb");
    let file = disk.sim.open(&path, Open::CreateNew).unwrap();
    file.write_at(&db.write(), 0).unwrap();
    file.sync_all().unwrap();
    disk.sim.sync_dir(Path::new(MAILDIR)).unwrap();
    disk
}

#[test]
fn an_old_servers_uids_are_promised_while_they_are_taken_over() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for cut in 0..=3 {
        let power_goes = cut > 0;
        let disk = couriers();
        disk.hold(true);
        let store = disk.store(Drive::Threads).unwrap();
        let kept = runtime.block_on(async {
            let user = store.user("alice", &options()).await.unwrap();
            let (mailbox, look) = user.first_look(INBOX).await.unwrap();
            let FirstLook::Promised(promised) = look else {
                panic!("the messages were read first")
            };
            assert_eq!((promised.exists(), promised.uid_next()), (MESSAGES, Uid(22)));
            assert_eq!(promised.first_unseen(), Some(SeqNum(1)));
            let seen = [false, false, true, true, true, false];
            let flags = flags(&promised).unwrap().into_iter();
            assert_eq!(
                flags
                    .map(|(_, uid, flags)| (uid.0, flags == SystemFlags::SEEN))
                    .collect::<Vec<_>>(),
                [3, 5, 9, 12, 20, 21].into_iter().zip(seen).collect::<Vec<_>>()
            );
            assert_eq!(promised.seqs_in_uid_range((6, 12)), Some((SeqNum(3), SeqNum(4))));
            assert_eq!(promised.before().uid_validity().0, 777);
            let later = std::time::Duration::from_millis(50);
            let other = tokio::time::timeout(later, user.mailbox(INBOX)).await;
            assert!(other.is_err(), "somebody has a mailbox that is being taken over");
            let (_, second) = user.first_look(INBOX).await.unwrap();
            assert!(matches!(second, FirstLook::Promised(same) if same.exists() == MESSAGES));
            if power_goes {
                disk.sim.stop_at(disk.sim.operations() + 1);
            }
            disk.hold(false);
            let patience = if power_goes { later } else { 400 * later };
            let kept = tokio::time::timeout(patience, mailbox.kept(&promised)).await;
            let missing = |view: View| (promised.missing(&view), view);
            kept.ok().and_then(Result::ok).map(missing)
        });
        if !power_goes {
            let (missing, view) = kept.unwrap();
            assert_eq!((uids(&view), missing), (vec![3, 5, 9, 12, 20, 21], vec![]));
            assert_eq!(view.uid_next(), Uid(22));
            store.close().unwrap();
            continue;
        }
        assert!(kept.is_none(), "kept without a disk");
        drop(store);
        disk.sim.crash(cut);
        disk.put(9, "1500000000.M9.host:2,");
        let site = disk.start().unwrap();
        let view = site.result(site.mailbox().refresh()).unwrap();
        let now = uids(&view);
        assert_eq!(now[..4], [3, 5, 9, 12], "cut {cut}");
        assert!(view.file_name(Uid(9)).unwrap().contains(".M1."));
        assert_eq!((now.len(), view.uid_validity().0), (7, 777), "cut {cut}");
        let new = now.iter().find(|uid| view.file_name(Uid(**uid)).unwrap().contains(".M9."));
        assert!(new.is_some_and(|uid| *uid >= 22), "cut {cut}: {now:?}");
    }
}

impl Disk {
    fn is_it(path: &Path) -> bool {
        path.to_string_lossy().contains(".M6.")
    }

    fn wait_for(&self, path: &Path) {
        if Disk::is_it(path) {
            let held = self.is_held.0.lock().unwrap();
            drop(self.is_held.1.wait_while(held, |held| *held).unwrap());
        }
    }

    fn check(&self, call: u8, path: &Path) -> io::Result<()> {
        let fails = Disk::is_it(path) && self.fails.load(Ordering::Acquire) == call;
        if fails { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

impl Layer for Disk {
    fn below(&self) -> &dyn Storage {
        &self.sim
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        self.wait_for(path);
        self.check(OPEN, path)?;
        let file = self.sim.open(path, how)?;
        Ok(Arc::new(DiskFile { file, disk: self.clone(), path: path.to_owned() }))
    }
}

struct DiskFile {
    file: Arc<dyn StoredFile>,
    disk: Disk,
    path: PathBuf,
}

impl FileLayer for DiskFile {
    fn below(&self) -> &dyn StoredFile {
        &*self.file
    }
    fn facts(&self) -> io::Result<Facts> {
        self.disk.check(FACTS, &self.path)?;
        self.file.facts()
    }
}
