//! Costs that must not grow with the store, counted in calls and bytes rather than seconds: the
//! same work on a small store and on a large one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use engine::io::blocking::Blocking;
use engine::io::layer::{FileLayer, Layer};
use engine::io::{Kind, Lane, Open, Stat, Storage, StoredFile};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Delivery, Drive, INBOX, MountOptions, Partition, Store, StoreConfig, StoreMode, StoreRequest,
    Target, User, UserOptions,
};
use protocol::types::{SystemFlags, Uid};

const MESSAGES: usize = 100_000;
const MAILBOXES: usize = 2_000;
const ACCOUNTS: usize = 5_000;
/// Sizes of the small store.
const FEW: usize = 20;

#[derive(Default)]
struct Counts {
    opens: AtomicU64,
    lists: AtomicU64,
    stats: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    /// Open now, and what the system allows.
    descriptors: AtomicI64,
    descriptors_max: AtomicUsize,
}

/// Counts, and syncs nothing: these tests cut no power.
#[derive(Clone)]
struct Counting(Arc<Blocking>, Arc<Counts>);

struct CountingFile(Arc<dyn StoredFile>, Arc<Counts>);

impl Drop for CountingFile {
    fn drop(&mut self) {
        self.1.descriptors.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FileLayer for CountingFile {
    fn below(&self) -> &dyn StoredFile {
        &*self.0
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.0.read_at(buf, offset)?;
        self.1.read_bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.1.written_bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.0.write_at(buf, offset)
    }
    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
    fn start_writeback(&self, _: u64, _: u64) {}
}

impl Layer for Counting {
    fn below(&self) -> &dyn Storage {
        &*self.0
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        self.1.opens.fetch_add(1, Ordering::Relaxed);
        let max = self.1.descriptors_max.load(Ordering::Relaxed);
        if max > 0 && self.1.descriptors.load(Ordering::Relaxed) >= max as i64 {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let how = if how == Open::Log { Open::Write } else { how };
        let file = self.0.open(path, how)?;
        self.1.descriptors.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(CountingFile(file, self.1.clone())))
    }
    fn list(&self, dir: &Path, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()> {
        self.1.lists.fetch_add(1, Ordering::Relaxed);
        self.0.list(dir, each)
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.1.stats.fetch_add(1, Ordering::Relaxed);
        self.0.stat(path)
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_filesystem(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// What one piece of work cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    opens: u64,
    stats: u64,
    read_bytes: u64,
    written_bytes: u64,
}

struct Bench {
    _dir: tempfile::TempDir,
    config: StoreConfig,
    storage: Counting,
    store: Store,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(adjust: impl FnOnce(&mut StoreConfig)) -> Bench {
        Bench::over(LayoutKind::Cyrus, adjust)
    }

    fn over(layout: LayoutKind, adjust: impl FnOnce(&mut StoreConfig)) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let partition = Partition {
            name: "default".into(),
            path: dir.path().join("mail"),
            layout: layout_for(layout, &LayoutOptions::default()),
            mount: MountOptions::default(),
        };
        let mut config = StoreConfig::new(dir.path().join("state"), vec![partition]);
        adjust(&mut config);
        let storage = Counting(Arc::new(Blocking::new()), Arc::default());
        let store = Store::open(config.clone(), Arc::new(storage.clone()), Drive::Threads).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Bench { _dir: dir, config, storage, store, runtime }
    }

    fn restart(&mut self) {
        self.store.close().unwrap();
        let storage = Arc::new(self.storage.clone());
        self.store = Store::open(self.config.clone(), storage, Drive::Threads).unwrap();
    }

    fn user(&self, name: &str) -> User {
        self.runtime.block_on(self.store.user(name, &UserOptions::default())).unwrap()
    }

    fn mailboxes(&self, user: &User, count: usize) -> Vec<String> {
        let names: Vec<String> = (0..count).map(|n| format!("Box {n}")).collect();
        for name in &names {
            self.runtime.block_on(user.create(name, &[])).unwrap();
        }
        // The first opening of a mailbox makes its files, and the checkpoint its figures.
        for name in &names {
            assert_eq!(self.runtime.block_on(user.mailbox(name)).unwrap().status().messages, 0);
        }
        self.runtime.block_on(self.store.checkpoint()).unwrap();
        names
    }

    fn deliver(&self, user: &User, name: &str) {
        let lane = Lane::inline(Arc::new(self.storage.clone()));
        self.runtime.block_on(async {
            let target = Target {
                user: user.clone(),
                mailbox: user.mailbox(name).await.unwrap(),
                flags: SystemFlags::empty(),
                keywords: vec![],
                internal_date: None,
                annotations: vec![],
            };
            let mut delivery = Delivery::new(&self.store, &lane, vec![target]).unwrap();
            delivery.write(b"Subject: x\r\n\r\ny\r\n").await.unwrap();
            delivery.commit().await.remove(0).unwrap();
        });
    }

    fn fill(&self, user: &User, count: usize) {
        (0..FEW.min(count)).for_each(|_| self.deliver(user, INBOX));
        self.runtime.block_on(async {
            let inbox = user.mailbox(INBOX).await.unwrap();
            loop {
                let view = inbox.view();
                let left = count - view.exists() as usize;
                if left == 0 {
                    return;
                }
                let uids: Vec<Uid> = view.uids().take(left).map(|(_, uid)| uid).collect();
                inbox.copy(&view, uids, &inbox).await.unwrap();
            }
        });
    }

    fn cost(&mut self, work: impl FnOnce(&mut Bench)) -> Cost {
        let now = |counts: &Counts| Cost {
            opens: counts.opens.load(Ordering::Relaxed),
            stats: counts.stats.load(Ordering::Relaxed),
            read_bytes: counts.read_bytes.load(Ordering::Relaxed),
            written_bytes: counts.written_bytes.load(Ordering::Relaxed),
        };
        let before = now(&self.storage.1);
        work(self);
        let after = now(&self.storage.1);
        Cost {
            opens: after.opens - before.opens,
            stats: after.stats - before.stats,
            read_bytes: after.read_bytes - before.read_bytes,
            written_bytes: after.written_bytes - before.written_bytes,
        }
    }

    fn descriptors(&self) -> i64 {
        self.storage.1.descriptors.load(Ordering::Relaxed)
    }
}

/// Whether a large store's cost is the small one's, but for `slack` calls and bytes.
fn is_flat(what: &str, small: Cost, large: Cost, calls: u64, bytes: u64) {
    println!("{what}: {small:?} and {large:?}");
    assert!(large.opens <= small.opens + calls, "{what}: {small:?}, {large:?}");
    assert!(large.stats <= small.stats + calls, "{what}: {small:?}, {large:?}");
    assert!(large.read_bytes <= small.read_bytes + bytes, "{what}: {small:?}, {large:?}");
    assert!(large.written_bytes <= small.written_bytes + bytes, "{what}: {small:?}, {large:?}");
}

/// Opening, delivery, a flag and a checkpoint in a mailbox of so many messages.
fn costs_in_mailbox(messages: usize) -> [Cost; 4] {
    let mut bench = Bench::new(|_| {});
    bench.fill(&bench.user("u"), messages);
    bench.restart();
    let open = bench.cost(|bench| {
        let inbox = bench.runtime.block_on(bench.user("u").mailbox(INBOX)).unwrap();
        let view = bench.runtime.block_on(inbox.refresh()).unwrap();
        assert_eq!(view.exists() as usize, messages);
        assert_eq!(view.first_unseen().unwrap().0, 1);
        inbox.claim_recent(&view, true);
    });
    let deliver = bench.cost(|bench| bench.deliver(&bench.user("u"), INBOX));
    let flag = bench.cost(|bench| {
        let inbox = bench.runtime.block_on(bench.user("u").mailbox(INBOX)).unwrap();
        let request = StoreRequest {
            uids: vec![Uid(messages as u32)],
            mode: StoreMode::Add,
            flags: SystemFlags::SEEN,
            keywords: vec![],
            unchanged_since: None,
        };
        assert_eq!(bench.runtime.block_on(inbox.store(request)).unwrap().changed.len(), 1);
    });
    let checkpoint = bench.cost(|bench| bench.runtime.block_on(bench.store.checkpoint()).unwrap());
    bench.store.close().unwrap();
    [open, deliver, flag, checkpoint]
}

#[test]
fn work_in_a_large_mailbox_costs_what_it_does_in_a_small_one() {
    // 400: mapped like the large one; smaller tables are read into memory.
    let (small, large) = (costs_in_mailbox(400), costs_in_mailbox(MESSAGES));
    for (what, (small, large)) in
        ["open", "deliver", "flag", "checkpoint"].iter().zip(small.into_iter().zip(large))
    {
        is_flat(what, small, large, 2, 32 << 10);
    }
}

/// STATUS of a few mailboxes, and a checkpoint of one change, beside so many others.
fn costs_beside_mailboxes(count: usize) -> [Cost; 3] {
    let mut bench = Bench::new(|_| {});
    let names = bench.mailboxes(&bench.user("u"), count);
    bench.deliver(&bench.user("u"), &names[3]);
    bench.restart();
    let user = bench.user("u");
    let few: Vec<&str> = names.iter().take(FEW).map(String::as_str).collect();
    let status = bench.cost(|bench| {
        let found = bench.runtime.block_on(user.statuses(&few));
        let messages: Vec<u32> = found.into_iter().map(|s| s.unwrap().messages).collect();
        assert_eq!(messages.iter().sum::<u32>(), 1);
        assert_eq!(messages[3], 1);
    });
    assert_eq!(bench.store.status().mailboxes_open, 0, "STATUS opens nothing");
    bench.deliver(&user, INBOX);
    bench.runtime.block_on(user.subscribe("Box 1", true)).unwrap();
    let checkpoint = bench.cost(|bench| bench.runtime.block_on(bench.store.checkpoint()).unwrap());
    bench.runtime.block_on(user.create("one more", &[])).unwrap();
    let created = bench.cost(|bench| bench.runtime.block_on(bench.store.checkpoint()).unwrap());
    drop(user);
    bench.store.close().unwrap();
    [status, checkpoint, created]
}

#[test]
fn a_users_other_mailboxes_cost_nothing() {
    let (small, large) = (costs_beside_mailboxes(FEW), costs_beside_mailboxes(MAILBOXES));
    for (what, (small, large)) in
        ["status", "checkpoint", "create"].iter().zip(small.into_iter().zip(large))
    {
        is_flat(what, small, large, 2, 256 << 10);
    }
}

#[test]
fn status_of_mailboxes_that_nobody_opened_makes_nothing() {
    for layout in [LayoutKind::Cyrus, LayoutKind::Maildir] {
        let mut bench = Bench::over(layout, |_| {});
        let user = bench.user("u");
        let names: Vec<String> = (0..50).map(|n| format!("Box {n}")).collect();
        for name in &names {
            bench.runtime.block_on(user.create(name, &[])).unwrap();
        }
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut told = Vec::new();
        let cost = bench.cost(|bench| {
            let found = bench.runtime.block_on(user.statuses(&all));
            told = found.into_iter().map(Result::unwrap).collect();
        });
        assert_eq!(bench.store.status().mailboxes_open, 0, "{layout:?}: STATUS opens nothing");
        assert_eq!((cost.opens, cost.written_bytes), (0, 0), "{layout:?}: {cost:?}");
        // What was told is what an opening tells, before and after a first message.
        for (name, told) in names.iter().zip(&told).take(3) {
            let mailbox = bench.runtime.block_on(user.mailbox(name)).unwrap();
            assert_eq!(format!("{:?}", mailbox.status()), format!("{told:?}"));
        }
        bench.deliver(&user, &names[7]);
        if layout == LayoutKind::Maildir {
            let dir = bench.config.partitions[0].path.join("u/.Box 8/new");
            assert!(std::fs::read_dir(&dir).is_ok(), "{}", dir.display());
            std::fs::write(dir.join("1.foreign"), "Subject: x\n\ny\n").unwrap();
        }
        let found = bench.runtime.block_on(user.statuses(&all));
        let messages: Vec<u32> = found.into_iter().map(|s| s.unwrap().messages).collect();
        let foreign = u32::from(layout == LayoutKind::Maildir);
        assert_eq!(messages[7..9], [1, foreign]);
        assert_eq!(messages.iter().sum::<u32>(), 1 + foreign);
        drop(user);
        bench.store.close().unwrap();
    }
}

/// A large Maildir is listed once: then our own changes and those of others are known by events,
/// over a clean restart by the directory times.
#[test]
fn a_large_maildir_is_listed_once() {
    let mut bench = Bench::over(LayoutKind::Maildir, |config| config.linger_messages_min = 100);
    bench.fill(&bench.user("u"), 200);
    let lists = |bench: &Bench| bench.storage.1.lists.load(Ordering::Relaxed);
    let exists = |bench: &Bench| {
        let inbox = bench.runtime.block_on(bench.user("u").mailbox(INBOX)).unwrap();
        bench.runtime.block_on(inbox.refresh()).unwrap().exists()
    };
    let cur = bench.config.partitions[0].path.join("u/cur");
    let flagged = || {
        let names = std::fs::read_dir(&cur).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(":2,F")).count()
    };
    assert_eq!(exists(&bench), 200);
    let listed = lists(&bench);
    assert!(listed > 0);
    for n in 1..=5 {
        let inbox = bench.runtime.block_on(bench.user("u").mailbox(INBOX)).unwrap();
        let request = StoreRequest {
            uids: vec![Uid(n)],
            mode: StoreMode::Add,
            flags: SystemFlags::FLAGGED,
            keywords: vec![],
            unchanged_since: None,
        };
        bench.runtime.block_on(inbox.store(request)).unwrap();
        while flagged() < n as usize {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        bench.deliver(&bench.user("u"), INBOX);
        drop(inbox);
        assert_eq!(exists(&bench), 200 + 2 * n - 1, "round {n}");
        // Another program's message counts at the next look, however soon that is.
        let text = "Subject: x\n\ny\n";
        let new = bench.config.partitions[0].path.join("u/new");
        std::fs::write(new.join(format!("{n}.foreign")), text).unwrap();
        assert_eq!(exists(&bench), 200 + 2 * n, "round {n}");
    }
    // So does its removal.
    std::fs::remove_file(bench.config.partitions[0].path.join("u/new/5.foreign")).unwrap();
    while exists(&bench) != 209 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(lists(&bench), listed, "events told everything");
    // Times that are younger than two seconds tell nothing.
    std::thread::sleep(std::time::Duration::from_millis(2_200));
    bench.restart();
    let restarted = lists(&bench);
    assert_eq!(exists(&bench), 209);
    assert_eq!(lists(&bench), restarted, "the directory times tell that nothing happened");
    std::fs::remove_file(std::fs::read_dir(&cur).unwrap().next().unwrap().unwrap().path()).unwrap();
    assert_eq!(exists(&bench), 208);
    assert!(lists(&bench) > restarted, "nobody watches since the restart");
    bench.store.close().unwrap();
}

/// A start, and the first delivery behind it, in a store of so many accounts.
fn costs_beside_accounts(count: usize) -> [Cost; 2] {
    let mut bench = Bench::new(|config| config.open_users_max = 100);
    (0..count).for_each(|n| drop(bench.user(&format!("user{n}"))));
    bench.runtime.block_on(bench.store.checkpoint()).unwrap();
    assert!(bench.store.status().users_open <= 100, "users leave");
    let start = {
        bench.store.close().unwrap();
        bench.cost(|bench| {
            let storage = Arc::new(bench.storage.clone());
            bench.store = Store::open(bench.config.clone(), storage, Drive::Threads).unwrap();
        })
    };
    let deliver = bench.cost(|bench| bench.deliver(&bench.user("user7"), INBOX));
    bench.store.close().unwrap();
    [start, deliver]
}

#[test]
fn a_start_does_not_look_at_accounts() {
    let (small, large) = (costs_beside_accounts(FEW), costs_beside_accounts(ACCOUNTS));
    for (what, (small, large)) in
        ["start", "first delivery"].iter().zip(small.into_iter().zip(large))
    {
        // The catalog's allocator reads its own state, which is of one size once a region is full.
        is_flat(what, small, large, 2, 2 << 20);
    }
}

#[test]
fn unused_mailboxes_leave_and_changed_ones_stay_until_a_checkpoint() {
    let mut bench = Bench::new(|config| config.open_mailboxes_max = 16);
    let user = bench.user("u");
    let names = bench.mailboxes(&user, 100);
    bench.restart();
    let user = bench.user("u");
    for name in &names {
        bench.runtime.block_on(user.mailbox(name)).unwrap();
        assert!(bench.store.status().mailboxes_open <= 17, "{:?}", bench.store.status());
    }
    assert!(bench.descriptors() < 100, "{} descriptors are open", bench.descriptors());
    let held: Vec<_> =
        names[..30].iter().map(|n| bench.runtime.block_on(user.mailbox(n)).unwrap()).collect();
    assert!(bench.store.status().mailboxes_open >= 30, "what is in use stays");
    for name in &names[..30] {
        bench.deliver(&user, name);
    }
    drop(held);
    for name in &names {
        let status = bench.runtime.block_on(user.status(name)).unwrap();
        let delivered = names[..30].contains(name);
        assert_eq!(status.messages, u32::from(delivered), "{name}");
    }
    bench.runtime.block_on(bench.store.checkpoint()).unwrap();
    assert!(bench.store.status().mailboxes_open <= 16, "{:?}", bench.store.status());
    for name in &names[..30] {
        assert_eq!(bench.runtime.block_on(user.status(name)).unwrap().messages, 1, "{name}");
    }
    drop(user);
    bench.store.close().unwrap();
}

#[test]
fn want_of_descriptors_closes_what_is_unused() {
    let mut bench = Bench::new(|_| {});
    let user = bench.user("u");
    let names = bench.mailboxes(&user, 60);
    bench.restart();
    let user = bench.user("u");
    let counts = bench.storage.1.clone();
    counts.descriptors_max.store(bench.descriptors() as usize + 41, Ordering::Relaxed);
    for name in &names {
        bench.deliver(&user, name);
    }
    for name in &names {
        let mailbox = bench.runtime.block_on(user.mailbox(name)).unwrap();
        assert_eq!(mailbox.view().exists(), 1, "{name}");
    }
    counts.descriptors_max.store(0, Ordering::Relaxed);
    drop(user);
    bench.store.close().unwrap();
}
