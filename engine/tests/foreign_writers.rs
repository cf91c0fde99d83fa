//! Other programs at work in one large Maildir while a session watches: a delivery agent, a client
//! that moves and marks, one that deletes; another server's index files lie about. At the end the
//! store shows exactly the files that there are, each once.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `CURSUS_FOREIGN_MESSAGES` | 2000 | messages in the Maildir at the start |
//! | `CURSUS_FOREIGN_EVENTS` | 3000 | changes by the other programs |
//!
//! An hour of 50 changes a second on 250,000 messages:
//!
//! `CURSUS_FOREIGN_MESSAGES=250000 CURSUS_FOREIGN_EVENTS=180000 cargo test --release -p
//! cursus-engine --test foreign_writers -- --nocapture`

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use engine::io::blocking::Blocking;
use engine::io::layer::Layer;
use engine::io::{Lane, Open, Storage, StoredFile};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Drive, FirstLook, INBOX, Mailbox, MountOptions, NotifyMode, Partition, Store, StoreConfig,
    UserOptions,
};
use protocol::types::{SystemFlags, Uid};

/// How soon a change must be told.
const NOTICE_MAX: Duration = Duration::from_secs(1);

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn message(n: usize) -> String {
    format!("From: a@example.org\nSubject: message {n}\n\nbody {n}\n")
}

/// What was delivered, by number, read back from a message.
fn number_in(text: &str) -> usize {
    let line = text.lines().find_map(|line| line.strip_prefix("Subject: message "));
    line.and_then(|n| n.trim().parse().ok()).expect("a subject with a number")
}

struct Bench {
    store: Store,
    mailbox: Mailbox,
    lane: Lane,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn open(root: &Path, notify: NotifyMode) -> Bench {
        let bench = Bench::begin(root, notify, Arc::new(Blocking::new()));
        bench.runtime.block_on(bench.mailbox.refresh()).unwrap();
        bench
    }

    /// Without a look at the messages.
    fn begin(root: &Path, notify: NotifyMode, storage: Arc<dyn Storage>) -> Bench {
        let partition = Partition {
            name: "default".into(),
            path: root.join("mail"),
            layout: layout_for(LayoutKind::Maildir, &LayoutOptions::default()),
            mount: MountOptions { notify, ..MountOptions::default() },
        };
        let config = StoreConfig::new(root.join("state"), vec![partition]);
        let store = Store::open(config, storage, Drive::Threads).expect("a store");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mailbox = runtime.block_on(async {
            let user = store.user("alice", &UserOptions::default()).await?;
            user.mailbox(INBOX).await
        });
        let lane = Lane::pool(store.helpers().clone());
        Bench { mailbox: mailbox.unwrap(), store, lane, runtime }
    }

    fn read(&self, uid: Uid) -> String {
        self.runtime.block_on(async {
            let (_, record) = self.mailbox.view().record_of(uid).expect("in the view");
            let file = self.mailbox.message(&self.lane, &record).await.expect("the file");
            let mut served = file.served(0, u64::MAX, 0, u64::MAX);
            let mut out = Vec::new();
            while let Some(part) = served.next().await.unwrap() {
                out.extend(part);
            }
            String::from_utf8(out).unwrap()
        })
    }

    /// Waits until the view has `count` messages; how long that took.
    fn wait(&self, count: usize) -> Option<Duration> {
        let began = Instant::now();
        while self.mailbox.view().exists() as usize != count {
            if began.elapsed() > Duration::from_secs(60) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(began.elapsed())
    }
}

/// The other programs' side: what is in the Maildir.
struct Tree {
    dir: PathBuf,
    /// Path and letters by message number.
    files: BTreeMap<usize, (PathBuf, String)>,
    delivered: usize,
}

impl Tree {
    fn make(dir: &Path, count: usize) -> Tree {
        for sub in ["tmp", "new", "cur"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let mut tree = Tree { dir: dir.to_owned(), files: BTreeMap::new(), delivered: 0 };
        for _ in 0..count {
            let n = tree.next();
            let text = message(n);
            let served = text.len() + text.lines().count();
            let path = tree.dir.join(format!("cur/{}:2,S", Tree::base(n, text.len(), served)));
            fs::write(&path, text).unwrap();
            tree.files.insert(n, (path, "S".into()));
        }
        tree
    }

    fn next(&mut self) -> usize {
        self.delivered += 1;
        self.delivered
    }

    fn base(n: usize, stored: usize, served: usize) -> String {
        // Without sizes now and then, as older programs write.
        if n.is_multiple_of(7) {
            format!("{}.M{n}P1.example", 1_700_000_000 + n)
        } else {
            format!("{}.M{n}P1.example,S={stored},W={served}", 1_700_000_000 + n)
        }
    }

    fn deliver(&mut self) {
        let n = self.next();
        let text = message(n);
        let served = text.len() + text.lines().count();
        let name = Tree::base(n, text.len(), served);
        let (tmp, new) = (self.dir.join("tmp").join(&name), self.dir.join("new").join(&name));
        fs::write(&tmp, text).unwrap();
        fs::rename(tmp, &new).unwrap();
        self.files.insert(n, (new, String::new()));
    }

    /// Gives the file of a message other letters, in `cur/`, wherever it is now.
    fn mark(&mut self, n: usize, letters: &str) {
        let (path, _) = &self.files[&n];
        let name = path.file_name().unwrap().to_str().unwrap();
        let base = name.split(":2,").next().unwrap();
        let to = self.dir.join(format!("cur/{base}:2,{letters}"));
        fs::rename(path, &to).unwrap();
        self.files.insert(n, (to, letters.into()));
    }

    fn delete(&mut self, n: usize) {
        let (path, _) = self.files.remove(&n).unwrap();
        fs::remove_file(path).unwrap();
    }
}

/// CPU time of this process, user and system, in hundredths of a second.
fn cpu_ticks() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<f64> = rest.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    fields[11] + fields[12]
}

/// Every message of the tree is in the view once, with its letters, and nothing else is.
fn compare(bench: &Bench, tree: &Tree) {
    let view = bench.mailbox.view();
    assert_eq!(view.exists() as usize, tree.files.len());
    let mut seen: HashMap<usize, Uid> = HashMap::new();
    // All of a small one, the newest of a large one: reading costs an open for each.
    let records: Vec<_> = view.all().map(|(_, record)| record).collect();
    for record in &records[records.len().saturating_sub(20_000)..] {
        let n = number_in(&bench.read(record.uid));
        assert_eq!(seen.insert(n, record.uid), None, "message {n} is there twice");
        let (_, letters) = &tree.files[&n];
        let flags = [('S', SystemFlags::SEEN), ('F', SystemFlags::FLAGGED)];
        for (letter, flag) in flags {
            assert_eq!(record.flags.contains(flag), letters.contains(letter), "message {n}");
        }
    }
}

#[test]
fn other_programs_lose_and_double_nothing() {
    let (messages, events) =
        (number("CURSUS_FOREIGN_MESSAGES", 2000), number("CURSUS_FOREIGN_EVENTS", 3000));
    let root = tempfile::tempdir().unwrap();
    let mut tree = Tree::make(&root.path().join("mail/alice"), messages);
    // Another server's files: names that are no messages.
    for name in ["dovecot.index", "dovecot.index.log", "dovecot-uidlist"] {
        fs::write(tree.dir.join(name), "x").unwrap();
    }
    let began = Instant::now();
    let bench = Bench::open(root.path(), NotifyMode::Auto);
    println!("first opening of {messages}: {:?}", began.elapsed());
    assert_eq!(bench.mailbox.view().exists() as usize, messages);
    let watcher = bench.mailbox.watch();
    std::thread::sleep(Duration::from_millis(2500));
    bench.runtime.block_on(bench.mailbox.refresh()).unwrap();

    // One at a time, to see how soon each is told.
    let mut notices = Vec::new();
    for _ in 0..200.min(events) {
        tree.deliver();
        notices.push(bench.wait(tree.files.len()).expect("the delivery is told"));
    }
    notices.sort();
    let at = |part: usize| notices[(notices.len() - 1) * part / 100];
    println!("notices: p50 {:?} p99 {:?} max {:?}", at(50), at(99), at(100));
    assert!(at(100) < NOTICE_MAX, "{:?}", at(100));

    let (began, cpu) = (Instant::now(), cpu_ticks());
    for event in 0..events {
        let n = tree.delivered;
        match event % 10 {
            0..=4 => tree.deliver(),
            5 | 6 if tree.files.contains_key(&n) => tree.mark(n, "S"),
            7 if tree.files.contains_key(&n) => tree.mark(n, "FS"),
            8 => {
                let middle = tree.files.keys().copied().nth(tree.files.len().min(50) / 2).unwrap();
                tree.mark(middle, "");
            }
            _ => {
                let first = *tree.files.keys().next().unwrap();
                tree.delete(first);
            }
        }
    }
    let wrote = began.elapsed();
    let settled = bench.wait(tree.files.len());
    // Flags have no count to wait for.
    std::thread::sleep(Duration::from_secs(1));
    let cpu = (cpu_ticks() - cpu) * 10.0;
    println!(
        "{events} changes in {wrote:?}, told {settled:?} later; {:.3} ms of CPU each, the other \
         programs' own included",
        cpu / events as f64
    );
    compare(&bench, &tree);
    drop(watcher);
    bench.store.close().unwrap();
    let bench = Bench::open(root.path(), NotifyMode::Auto);
    compare(&bench, &tree);
    bench.store.close().unwrap();
}

/// Files that are there when they are listed, and gone when they are looked at.
struct Vanishing {
    storage: Blocking,
    paths: HashSet<PathBuf>,
}

impl Layer for Vanishing {
    fn below(&self) -> &dyn Storage {
        &self.storage
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        match self.paths.contains(path) {
            true => Err(io::ErrorKind::NotFound.into()),
            false => self.storage.open(path, how),
        }
    }
}

/// More than are read before the first are pushed: see `mailbox/intake.rs`.
const IN_TURNS: usize = 10_000;

#[test]
fn many_messages_are_promised_until_the_last_turn_is_applied() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("mail/alice");
    let tree = Tree::make(&dir, IN_TURNS);
    // Some of the first turns, and all of the last one.
    let gone = |n: &usize| n.is_multiple_of(1009) || *n > 2 * (4 << 10);
    let paths = tree.files.iter().filter(|(n, _)| gone(n)).map(|(_, (path, _))| path.clone());
    let storage = Vanishing { storage: Blocking::new(), paths: paths.collect() };
    let bench = Bench::begin(root.path(), NotifyMode::Auto, Arc::new(storage));
    bench.runtime.block_on(async {
        let FirstLook::Promised(promised) = bench.mailbox.first_look().await.unwrap() else {
            panic!("the messages were read first")
        };
        assert_eq!(promised.exists() as usize, IN_TURNS);
        let kept = bench.mailbox.kept(&promised).await.unwrap();
        let missing: Vec<usize> = (1..=IN_TURNS).filter(gone).collect();
        let told = promised.missing(&kept).into_iter().map(|(_, uid)| uid.0 as usize);
        assert_eq!(told.collect::<Vec<_>>(), missing);
        assert_eq!(kept.exists() as usize, IN_TURNS - missing.len());
        assert_eq!(kept.uid_next(), promised.uid_next());
    });
    for n in [1, 1008, 1010, 4096, 4097, 8192] {
        assert_eq!(number_in(&bench.read(Uid(n))), n as usize);
    }
    bench.store.close().unwrap();
}

#[test]
fn without_inotify_deliveries_are_told_by_polling() {
    let root = tempfile::tempdir().unwrap();
    let mut tree = Tree::make(&root.path().join("mail/alice"), 50);
    let bench = Bench::open(root.path(), NotifyMode::Poll);
    let watcher = bench.mailbox.watch();
    for _ in 0..2 {
        tree.deliver();
        let took = bench.wait(tree.files.len()).expect("told");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    tree.mark(51, "S");
    tree.delete(3);
    bench.wait(tree.files.len()).expect("told");
    compare(&bench, &tree);
    drop(watcher);
    bench.store.close().unwrap();
}

#[test]
fn a_file_that_comes_back_is_a_new_message_and_never_removed() {
    let root = tempfile::tempdir().unwrap();
    let tree = Tree::make(&root.path().join("mail/alice"), 20);
    let bench = Bench::open(root.path(), NotifyMode::Auto);
    let watcher = bench.mailbox.watch();
    let (path, _) = &tree.files[&5];
    let away = root.path().join("away");
    fs::rename(path, &away).unwrap();
    bench.wait(19).expect("its going is told");
    fs::rename(&away, path).unwrap();
    bench.wait(20).expect("its coming back is told");
    assert!(path.exists());
    compare(&bench, &tree);
    drop(watcher);
    bench.store.close().unwrap();
}

#[test]
fn unfinished_deliveries_of_earlier_runs_are_removed_and_others_stay() {
    let (root, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Tree::make(&root.path().join("mail/alice"), 3);
    let bench = Bench::open(root.path(), NotifyMode::Auto);
    let epoch = bench.store.status().owner_epoch;
    bench.runtime.block_on(bench.store.checkpoint()).unwrap();
    // The state on disk as a kill would leave it.
    let copied = std::process::Command::new("cp")
        .args(["-a", "--"])
        .arg(root.path().join("."))
        .arg(copy.path())
        .status();
    assert!(copied.unwrap().success());
    let tmp = copy.path().join("mail/alice/tmp");
    let stale = tmp.join(format!("cursus.{epoch:x}.77"));
    let others = [tmp.join("1700000000.other"), tmp.join("cursus.ffffffff.1")];
    for path in others.iter().chain([&stale]) {
        fs::write(path, "x").unwrap();
    }
    let again = Bench::open(copy.path(), NotifyMode::Auto);
    assert!(!stale.exists(), "left by a run before this one");
    assert!(others.iter().all(|path| path.exists()));
    again.store.close().unwrap();
    bench.store.close().unwrap();
}

/// Debian's Dovecot as a client's server: one pre-authenticated IMAP session on standard input.
struct Dovecot {
    child: std::process::Child,
    output: std::io::BufReader<std::process::ChildStdout>,
    tag: usize,
}

impl Dovecot {
    const PROGRAM: &str = "/usr/lib/dovecot/imap";

    fn start(root: &Path, mail: &Path) -> Dovecot {
        use std::os::unix::fs::PermissionsExt;
        use std::process::{Command, Stdio};
        let run = root.join("dovecot");
        fs::create_dir_all(&run).unwrap();
        let config = run.join("dovecot.conf");
        let text = format!(
            "protocols = imap\nssl = no\nbase_dir = {run}\nstate_dir = {run}\nfirst_valid_uid = 0\n\
             default_internal_user = nobody\ndefault_login_user = nobody\n\
             default_internal_group = nogroup\nmail_location = maildir:{mail}\n\
             namespace inbox {{\n  inbox = yes\n}}\n",
            run = run.display(),
            mail = mail.display()
        );
        fs::write(&config, text).unwrap();
        // As root, Dovecot serves as nobody, who then needs to get at the tree.
        let is_root = fs::metadata("/proc/self").is_ok_and(|meta| {
            use std::os::unix::fs::MetadataExt;
            meta.uid() == 0
        });
        let mut command = if is_root {
            let open = |path: &Path| {
                fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
            };
            for path in [root, &run, &root.join("mail"), mail] {
                open(path);
            }
            ["tmp", "new", "cur"].iter().for_each(|sub| open(&mail.join(sub)));
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
            command.arg(Dovecot::PROGRAM);
            command
        } else {
            Command::new(Dovecot::PROGRAM)
        };
        let mut child = command
            .arg("-c")
            .arg(&config)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &run)
            .env("USER", "nobody")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Dovecot starts");
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut dovecot = Dovecot { child, output, tag: 0 };
        assert!(dovecot.line().contains("PREAUTH"));
        dovecot
    }

    fn line(&mut self) -> String {
        use std::io::BufRead;
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "Dovecot ended");
        line
    }

    /// Runs a command; its untagged answers.
    fn run(&mut self, command: &str) -> Vec<String> {
        use std::io::Write;
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        write!(self.child.stdin.as_ref().unwrap(), "{tag} {command}\r\n").unwrap();
        let mut untagged = Vec::new();
        loop {
            let line = self.line();
            match line.strip_prefix(&tag) {
                Some(end) => {
                    assert!(end.starts_with(" OK"), "{command}: {line}");
                    return untagged;
                }
                None => untagged.push(line),
            }
        }
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Its input ends, and with it the session.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What lies in a Maildir: letters by message number, and how many files.
fn on_disk(dir: &Path) -> (BTreeMap<usize, String>, usize) {
    let (mut found, mut files) = (BTreeMap::new(), 0);
    for sub in ["new", "cur"] {
        for entry in fs::read_dir(dir.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let letters = name.split_once(":2,").map_or("", |(_, letters)| letters);
            found.insert(number_in(&fs::read_to_string(&path).unwrap()), letters.to_owned());
            files += 1;
        }
    }
    (found, files)
}

#[test]
fn a_dovecot_with_its_own_index_files_works_in_the_same_tree() {
    if !Path::new(Dovecot::PROGRAM).exists() {
        println!("skipped: {} is not there (Debian: dovecot-imapd)", Dovecot::PROGRAM);
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let mut tree = Tree::make(&root.path().join("mail/alice"), 300);
    let mut dovecot = Dovecot::start(root.path(), &tree.dir);
    let bench = Bench::open(root.path(), NotifyMode::Auto);
    let watcher = bench.mailbox.watch();
    dovecot.run("SELECT INBOX");
    let mut expected = 300;
    for round in 0..40 {
        // A delivery agent, Dovecot and we ourselves, in turns and all on the same messages.
        for _ in 0..5 {
            tree.deliver();
        }
        expected += 5;
        dovecot.run("NOOP");
        let first = round * 3 + 1;
        dovecot.run(&format!("STORE {first}:{} +FLAGS (\\Flagged)", first + 20));
        dovecot.run(&format!("STORE {} -FLAGS (\\Seen)", first + 7));
        let uids: Vec<Uid> = (0..10).map(|n| Uid(first as u32 + 5 + n)).collect();
        let request = engine::StoreRequest {
            uids,
            mode: engine::StoreMode::Add,
            flags: SystemFlags::SEEN,
            keywords: Vec::new(),
            unchanged_since: None,
        };
        bench.runtime.block_on(bench.mailbox.store(request)).unwrap();
        if round % 4 == 3 {
            dovecot.run("NOOP");
            dovecot.run("STORE 2 +FLAGS.SILENT (\\Deleted)");
            dovecot.run("EXPUNGE");
            expected -= 1;
        }
    }
    bench.wait(expected).expect("all is told");
    // Names follow flags, and what others made of them is taken in.
    let began = Instant::now();
    let flags = |letters: &str| (letters.contains('S'), letters.contains('F'));
    loop {
        let (disk, files) = on_disk(&tree.dir);
        assert_eq!((files, disk.len()), (expected, expected), "each message has one file");
        let mut ours = BTreeMap::new();
        for (_, record) in bench.mailbox.view().all() {
            let seen = record.flags.contains(SystemFlags::SEEN);
            let flagged = record.flags.contains(SystemFlags::FLAGGED);
            let n = number_in(&bench.read(record.uid));
            assert_eq!(ours.insert(n, (seen, flagged)), None, "message {n} is there twice");
        }
        let theirs: BTreeMap<_, _> = disk.iter().map(|(n, l)| (*n, flags(l))).collect();
        if ours == theirs {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{ours:?} differs from {theirs:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let told = dovecot.run("STATUS INBOX (MESSAGES)");
    dovecot.run("NOOP");
    drop(watcher);
    println!("Dovecot says {told:?}");
    drop(dovecot);
    let mut again = Dovecot::start(root.path(), &tree.dir);
    let selected = again.run("SELECT INBOX");
    assert!(selected.contains(&format!("* {expected} EXISTS\r\n")), "{selected:?}");
    bench.store.close().unwrap();
}
