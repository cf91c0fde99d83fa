//! A store with known contents, copied for each case, and the comparison with what it had.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Delivery, Drive, Mailbox, Partition, ScrubOptions, Store, StoreConfig, StoreMode, StoreRequest,
    Target, User, UserOptions,
};
use protocol::types::{Keyword, SeqNum, SystemFlags, Uid};

use super::damage::{Damage, FileKind, Numbers, When};

/// Messages: more than a table that is not mapped may have.
const MESSAGES: u32 = 300;
const USER: &str = "alice";

/// What became of a damage.
pub(crate) enum Verdict {
    /// Nothing differs and nobody said anything: bytes that nobody uses.
    Harmless,
    /// Named, and afterwards everything is as it was.
    Healed,
    /// Named, and something is lost.
    Named,
    /// The store, or the mailbox, refuses to open and says why.
    Refused,
    /// Something differs and nobody said so.
    Wrong(String),
}

/// A message as it should be.
#[derive(Clone, PartialEq, Eq)]
struct Truth {
    uid: Uid,
    flags: SystemFlags,
    keywords: Vec<Keyword>,
    date: i64,
    size: u32,
    envelope: Vec<u8>,
    body: Vec<u8>,
}

/// A closed store in its directory, and one that was not closed.
pub(crate) struct Pristine {
    dir: tempfile::TempDir,
    kind: LayoutKind,
    truth: Vec<Truth>,
}

pub(crate) struct Bench<'a> {
    dir: tempfile::TempDir,
    pristine: &'a Pristine,
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn room() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn config(dir: &Path, kind: LayoutKind) -> StoreConfig {
    let partition = Partition {
        name: "default".into(),
        path: dir.join("mail"),
        layout: layout_for(kind, &LayoutOptions::default()),
        mount: Default::default(),
    };
    StoreConfig {
        // Damage under an open store is to be met, whatever was read before.
        verified_seconds: 0,
        log_bytes_max: 4 << 20,
        helpers: 2,
        ..StoreConfig::new(dir.join("state"), vec![partition])
    }
}

fn open(dir: &Path, kind: LayoutKind) -> engine::Result<(Store, Lane)> {
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    let store = Store::open(config(dir, kind), storage.clone(), Drive::Inline)?;
    Ok((store, Lane::inline(storage)))
}

fn user(store: &Store) -> engine::Result<User> {
    block(store.user(USER, &UserOptions::default()))
}

fn message(n: u32, numbers: &mut Numbers) -> String {
    let lines = 1 + numbers.below(12);
    let body: String = (0..lines).map(|_| format!("{:016x}\r\n", numbers.next())).collect();
    format!("Subject: message {n}\r\nFrom: a{n}@example.org\r\nTo: b@example.org\r\n\r\n{body}")
}

impl Pristine {
    pub(crate) fn make(kind: LayoutKind) -> Pristine {
        let dir = room();
        let (store, lane) = open(dir.path(), kind).unwrap();
        let owner = user(&store).unwrap();
        let inbox = block(owner.mailbox("INBOX")).unwrap();
        let mut numbers = Numbers(7);
        let keep = |text: &str, flags, keywords: Vec<Keyword>, date| {
            let (user, mailbox) = (owner.clone(), inbox.clone());
            let target = Target {
                user,
                mailbox,
                flags,
                keywords,
                internal_date: Some(date),
                annotations: vec![],
            };
            block(async {
                let mut delivery = Delivery::new(&store, &lane, vec![target]).unwrap();
                delivery.write(text.as_bytes()).await.unwrap();
                delivery.commit().await.remove(0).unwrap();
            });
        };
        for n in 1..=MESSAGES {
            let flags = SystemFlags(numbers.below(8) as u8);
            let label = Keyword::new(&format!("label{}", n % 5)).unwrap();
            keep(&message(n, &mut numbers), flags, vec![label], 1_700_000_000 + i64::from(n));
        }
        let view = inbox.view();
        let gone = [7u32, 80, 81, 299].map(Uid).to_vec();
        block(inbox.expunge(&view, gone)).unwrap();
        block(store.checkpoint()).unwrap();
        block(store.checkpoint()).unwrap();
        // What only the log has, for those who stop without goodbye.
        let request = StoreRequest {
            uids: (100..110).map(Uid).collect(),
            mode: StoreMode::Add,
            flags: SystemFlags::ANSWERED,
            keywords: vec![],
            unchanged_since: None,
        };
        block(inbox.store(request)).unwrap();
        keep(&message(301, &mut numbers), SystemFlags::SEEN, vec![], 1_700_001_000);
        let truth = read_all(&lane, &inbox).unwrap().into_iter().map(|m| m.unwrap()).collect();
        // Not closed: the log has a tail, and every file is damaged in its turn.
        drop((inbox, owner));
        copy_tree(dir.path(), &dir.path().join("kept"));
        store.close().unwrap();
        Pristine { dir, kind, truth }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in walk(from) {
        let target = to.join(entry.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&entry, &target).unwrap();
    }
    for empty in ["new", "cur", "tmp"] {
        // Maildirs want them.
        for dir in dirs(from).into_iter().filter(|d| d.ends_with(empty)) {
            std::fs::create_dir_all(to.join(dir.strip_prefix(from).unwrap())).unwrap();
        }
    }
}

fn dirs(dir: &Path) -> Vec<PathBuf> {
    let mut out = vec![];
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            out.extend(dirs(&entry));
            out.push(entry);
        }
    }
    out
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut out = vec![];
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        match entry.is_dir() {
            true if entry.ends_with("kept") => {}
            true => out.extend(walk(&entry)),
            false => out.push(entry),
        }
    }
    out.sort();
    out
}

type Read = Result<Truth, String>;

/// Every message by sequence number: as it is served, or why not.
fn read_all(lane: &Lane, mailbox: &Mailbox) -> engine::Result<Vec<Read>> {
    let mut view = block(mailbox.refresh())?;
    if view.all().count() as u32 != view.exists() {
        block(mailbox.mend())?;
        view = mailbox.view();
    }
    Ok((1..=view.exists()).map(|seq| read_one(lane, mailbox, SeqNum(seq))).collect())
}

fn read_one(lane: &Lane, mailbox: &Mailbox, seq: SeqNum) -> Read {
    let view = mailbox.view();
    let record = match view.record(seq) {
        Some(record) => record,
        None => {
            block(mailbox.mend()).map_err(|e| e.to_string())?;
            let found = mailbox.view().record(seq);
            found.ok_or_else(|| mailbox.damaged(&view, seq).to_string())?
        }
    };
    if view.uid(seq) != Some(record.uid) || view.seq(record.uid) != Some(seq) {
        return Err(format!("UID {} is not where it belongs", record.uid));
    }
    block(async {
        let text = |e: engine::Error| e.to_string();
        let blob = mailbox.extras(lane, &record).await.map_err(text)?;
        let extras = blob.extras().ok_or("extras of another version")?;
        let file = mailbox.message(lane, &record).await.map_err(text)?;
        let mut served = file.served(0, file.stored_size(), 0, u64::MAX);
        let mut body = Vec::new();
        while let Some(piece) = served.next().await.map_err(text)? {
            body.extend(piece);
        }
        Ok(Truth {
            uid: record.uid,
            flags: record.flags,
            keywords: view.keywords().of_bits(record.keywords).cloned().collect(),
            date: record.internal_date,
            size: record.size,
            envelope: extras.envelope().to_vec(),
            body,
        })
    })
}

impl Bench<'_> {
    pub(crate) fn copy(pristine: &Pristine) -> Bench<'_> {
        let dir = room();
        // In turns a store that was closed and one that was not would do; the latter has a log.
        copy_tree(&pristine.dir.path().join("kept"), dir.path());
        Bench { dir, pristine }
    }

    /// Files that can be damaged.
    pub(crate) fn files(&self) -> Vec<(FileKind, PathBuf)> {
        let known = |path: PathBuf| FileKind::of(&path).map(|kind| (kind, path));
        walk(self.dir.path()).into_iter().filter_map(known).collect()
    }

    pub(crate) fn suffer(&self, damage: &Damage) -> Verdict {
        let changed = damage.when == When::Offline && damage.inflict();
        let (store, lane) = match open(self.dir.path(), self.pristine.kind) {
            Ok(opened) => opened,
            Err(error) => return self.refused(changed, &error),
        };
        let verdict = self.live(damage, changed, &store, &lane);
        let _ = store.close();
        verdict
    }

    fn refused(&self, changed: bool, error: &engine::Error) -> Verdict {
        match changed {
            true => Verdict::Refused,
            false => Verdict::Wrong(format!("a whole store is refused: {error}")),
        }
    }

    fn live(&self, damage: &Damage, changed: bool, store: &Store, lane: &Lane) -> Verdict {
        let opened = user(store).and_then(|user| block(user.mailbox("INBOX")));
        let mailbox = match opened {
            Ok(mailbox) => mailbox,
            Err(error) => return self.refused(changed, &error),
        };
        let mut changed = changed;
        if damage.when == When::Live {
            // Recovery may have renamed or removed it.
            if !damage.path.exists() {
                return Verdict::Harmless;
            }
            changed = damage.inflict();
        }
        let answers = match read_all(lane, &mailbox) {
            Ok(answers) => answers,
            Err(error) => return self.refused(changed, &error),
        };
        let options = ScrubOptions { repair: true, ..ScrubOptions::default() };
        let report = match block(store.scrub(options, |_| true)) {
            Ok(report) => report,
            Err(error) => return self.refused(changed, &error),
        };
        let mut named = store.mendings();
        named.extend(report.damaged.iter().cloned());
        named.extend(store.status().damage);
        let mut lost = !report.damaged.is_empty();
        for want in &self.pristine.truth {
            let uid = format!("UID {}", want.uid);
            let says = |line: &String| {
                line.split([':', ' ', ','])
                    .collect::<Vec<_>>()
                    .windows(2)
                    .any(|w| w == ["UID", &want.uid.to_string()])
            };
            // The names of keywords are the mailbox's, not a message's.
            let told = named.iter().any(says) || named.iter().any(|l| l.contains("keywords at"));
            // A log that was cut, or a catalog, cannot say of which messages it told.
            let of_many =
                |l: &String| l.contains(".log: the file was cut") || l.contains("catalog.redb");
            let told = told || named.iter().any(of_many);
            let got = answers.iter().find(|a| matches!(a, Ok(t) if t.uid == want.uid));
            match got {
                Some(Ok(got)) if got == want => {}
                Some(Ok(got)) if told => {
                    lost = true;
                    // Lost flags are named; a body that differs must not have been served unless
                    // the scrub names the file.
                    let _ = got;
                }
                Some(Ok(got)) => {
                    let what = [
                        (got.flags != want.flags, "flags"),
                        (got.keywords != want.keywords, "keywords"),
                        (got.date != want.date, "date"),
                        (got.size != want.size, "size"),
                        (got.envelope != want.envelope, "envelope"),
                        (got.body != want.body, "body"),
                    ];
                    let what: Vec<&str> =
                        what.iter().filter(|(differs, _)| *differs).map(|(_, w)| *w).collect();
                    return Verdict::Wrong(format!("{uid}: {what:?} differ; named: {named:?}"));
                }
                _ if told || self.log_named(&named, damage) => lost = true,
                _ => {
                    let errors: Vec<_> = answers.iter().filter_map(|a| a.as_ref().err()).collect();
                    if errors.is_empty() {
                        return Verdict::Wrong(format!("{uid} is not there; named: {named:?}"));
                    }
                    lost = true;
                }
            }
        }
        let strangers = answers.iter().flatten();
        let mut strangers =
            strangers.filter(|got| !self.pristine.truth.iter().any(|t| t.uid == got.uid));
        if let Some(got) = strangers.next() {
            if named.is_empty() {
                return Verdict::Wrong(format!("UID {} was not there before", got.uid));
            }
            lost = true;
        }
        match (named.is_empty(), lost) {
            (true, false) => Verdict::Harmless,
            (false, false) => Verdict::Healed,
            (_, true) => Verdict::Named,
        }
    }

    /// Damage of the log names a block, not messages.
    fn log_named(&self, named: &[String], damage: &Damage) -> bool {
        damage.file_kind == FileKind::Log && named.iter().any(|line| line.contains(".log"))
    }
}
