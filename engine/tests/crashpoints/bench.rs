//! A store on a simulated disk, its history, and looks at it.
//!
//! Most often the store has no threads: [`Bench::wait`] and [`crate::together`] do its work, a
//! piece at a time, so that a seed decides on everything. With [`Drive::Inline`], which is the
//! tools', calls do the work that they wait for, and helpers are threads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use engine::io::sim::Sim;
use engine::io::{Lane, Open, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Drive, Error, Mailbox, MailboxId, MountOptions, Partition, Record, Result, Store, StoreConfig,
    Turn, User, UserOptions,
};
use protocol::types::{Uid, UidValidity};

use crate::model::{Folder, Msg, Place, Space, World};

/// A user in each layout.
pub const USERS: [(&str, &str); 2] = [("alice", "maildir"), ("bob", "cyrus")];
/// How often work that failed is tried again before a call counts as unanswered.
const RETRIES_MAX: usize = 4;
/// How long a call that waits for a thread may go on after the power went.
const CUT_GRACE: Duration = Duration::from_millis(300);
/// How long such a call may take at all.
const PATIENCE: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What was seen of one mailbox, ever.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    validity: Option<UidValidity>,
    uid_next: u32,
    /// UIDNEXT at the last full look: what was not there then and is below never comes.
    looked: u32,
    modseq: u64,
    /// Text, flags and MODSEQ last seen, by UID.
    messages: BTreeMap<u32, (Msg, u64)>,
}

impl Seen {
    /// Numbers that a session was told, or could read in a view.
    pub fn told(&mut self, uid_next: u32, modseq: u64) {
        self.uid_next = self.uid_next.max(uid_next);
        self.modseq = self.modseq.max(modseq);
    }
}

/// What was seen of all mailboxes. Cheap to clone.
pub type Memory = BTreeMap<MailboxId, Arc<Seen>>;

/// The store under test.
pub struct Bench {
    pub sim: Sim,
    pub store: Store,
    lane: Lane,
    sync_names: bool,
    pub drive: Drive,
    /// Texts that were read since the last start, so that each is read once.
    read: HashMap<(MailboxId, u32), u32>,
    pub seen: Memory,
}

/// Settings of the store under test. Made once: a hundred thousand starts use them.
pub fn config(sync_names: bool) -> StoreConfig {
    static MADE: LazyLock<StoreConfig> = LazyLock::new(settings);
    // For the weak mode; the other one needs only less.
    StoreConfig { sync_names, ..MADE.clone() }
}

fn settings() -> StoreConfig {
    let partition = |name: &str, kind| Partition {
        name: name.into(),
        path: PathBuf::from("/").join(name),
        layout: layout_for(kind, &LayoutOptions::default()),
        mount: MountOptions::default(),
    };
    let partitions =
        vec![partition("maildir", LayoutKind::Maildir), partition("cyrus", LayoutKind::Cyrus)];
    let mut config = StoreConfig::new("/state", partitions);
    config.helpers = 1;
    config.process_id = 1;
    config.open_mailboxes_max = 1;
    // Small, so that a short history has many segments and compactions.
    config.log_bytes_max = 512 << 10;
    config.log_segment_bytes = Some(64 << 10);
    config.compact_tombstones_min = 6;
    config.promise_messages_min = 1;
    config
}

pub fn storage(sim: &Sim) -> Arc<dyn Storage> {
    Arc::new(sim.clone())
}

/// The text of a message; sizes vary, from less than a sector to several.
pub fn text(token: u32) -> String {
    let lines = if token.is_multiple_of(9) { token % 400 } else { token % 37 };
    let more = "line\r\n".repeat(lines as usize);
    format!("Subject: message {token}\r\nFrom: a@example.org\r\n\r\ntoken-{token}.\r\n{more}")
}

fn token_of(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("token-")?;
    rest.split_once('.')?.0.parse().ok()
}

impl Bench {
    /// Opens the store; fails when the power goes meanwhile.
    pub fn open(sim: &Sim, sync_names: bool) -> Result<Bench> {
        Bench::driven(sim, sync_names, Drive::Manual)
    }

    /// The same with another drive.
    pub fn driven(sim: &Sim, sync_names: bool, drive: Drive) -> Result<Bench> {
        let store = Store::open(config(sync_names), storage(sim), drive)?;
        let lane = Lane::inline(storage(sim));
        let (read, seen) = Default::default();
        Ok(Bench { sim: sim.clone(), store, lane, sync_names, drive, read, seen })
    }

    /// Runs a future to its end; `None` when nothing brings it on any more, as after a power cut.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        if self.drive == Drive::Inline {
            return self.parked(future);
        }
        let mut future = std::pin::pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        let mut retries = RETRIES_MAX;
        loop {
            if let Poll::Ready(out) = future.as_mut().poll(&mut context) {
                return Some(out);
            }
            let worked = [Turn::Helper, Turn::Log, Turn::Apply].map(|turn| self.store.turn(turn));
            if worked.contains(&true) {
                continue;
            }
            if retries == 0 || !self.store.turn(Turn::Retry) {
                return None;
            }
            retries -= 1;
        }
    }

    /// The same where threads may bring it on.
    fn parked<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let began = Instant::now();
        let mut cut: Option<Instant> = None;
        loop {
            if let Poll::Ready(out) = future.as_mut().poll(&mut context) {
                return Some(out);
            }
            if self.sim.is_stopped() && cut.get_or_insert_with(Instant::now).elapsed() > CUT_GRACE {
                return None;
            }
            assert!(began.elapsed() < PATIENCE, "a call hangs");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Lets the helpers end what they have.
    pub fn finish_helpers(&self) {
        match self.drive {
            Drive::Inline => drop(self.wait(self.store.helpers().run(|| ()))),
            Drive::Manual | Drive::Threads => while self.store.turn(Turn::Helper) {},
        }
    }

    /// A result, where a call that never returned has failed.
    pub fn result<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.wait(future).unwrap_or(Err(Error::Closing))
    }

    pub fn user(&self, name: &str) -> Result<User> {
        self.result(self.store.user(name, &options(name)))
    }

    pub fn mailbox(&self, at: &Place) -> Result<Mailbox> {
        let user = self.user(&at.0)?;
        self.result(user.mailbox(&at.1))
    }

    /// The text that a message was seen to hold since the last start.
    pub fn token_read(&self, id: MailboxId, uid: u32) -> Option<u32> {
        self.read.get(&(id, uid)).copied()
    }

    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    fn text_of(&self, mailbox: &Mailbox, record: &Record) -> Result<String> {
        let bytes = self.result(async {
            let file = mailbox.message(&self.lane, record).await?;
            let mut served = file.served(0, file.stored_size(), 0, u64::MAX);
            let mut out = Vec::new();
            while let Some(piece) = served.next().await? {
                out.extend(piece);
            }
            Ok(out)
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What is there, with everything that must hold of it alone. Panics where it does not.
    pub fn look(&mut self) -> Result<World> {
        let mut world = World::default();
        for (name, _) in USERS {
            let user = self.user(name)?;
            let namespace = user.namespace();
            let mut space =
                Space { subscriptions: namespace.subscriptions.clone(), ..Space::default() };
            let (mut messages, mut bytes) = (0, 0);
            for (mailbox_name, entry) in &namespace.mailboxes {
                let at = (name.to_owned(), mailbox_name.clone());
                let mailbox = self.mailbox(&at)?;
                assert_eq!(mailbox.id(), entry.id, "{at:?}");
                let view = self.result(mailbox.refresh())?;
                messages += u64::from(view.exists());
                bytes += view.bytes();
                let mut folder = self.look_at(&at, &mailbox)?;
                let acl = user.acl(mailbox_name)?;
                let others =
                    acl.entries().filter(|(entry, _)| entry.who != engine::Identifier::Owner);
                folder.acl =
                    others.map(|(entry, has)| (entry.to_string(), has.to_string())).collect();
                space.folders.insert(mailbox_name.clone(), Arc::new(folder));
            }
            let usage = user.usage();
            let each: Vec<_> = space.folders.iter().map(|(n, f)| (n, f.messages.len())).collect();
            let redone = self.store.status().recovered;
            let is = (usage.messages, usage.bytes, usage.annotation_bytes);
            let comments = space.folders.values().flat_map(|folder| folder.messages.values());
            let comments = comments.filter_map(|message| message.comment.as_ref());
            let should = (messages, bytes, comments.map(|text| text.len() as u64).sum());
            assert_eq!(is, should, "usage of {name}: {each:?}, {redone} redone");
            world.users.insert(name.to_owned(), space);
        }
        Ok(world)
    }

    fn look_at(&mut self, at: &Place, mailbox: &Mailbox) -> Result<Folder> {
        let view = mailbox.view();
        let id = mailbox.id();
        let names = view.keywords().names().to_vec();
        let mut folder = Folder { id: Some(id), ..Folder::default() };
        let annotations = self.result(mailbox.annotations("", Uid(1), Uid::MAX))?;
        let mut modseqs = BTreeMap::new();
        let mut bytes = 0;
        for (seq, record) in view.all() {
            let uid = record.uid.0;
            assert_eq!(view.seq(record.uid), Some(seq), "{at:?}");
            let token = match self.read.get(&(id, uid)) {
                Some(token) => *token,
                None => {
                    let is = self.text_of(mailbox, &record)?;
                    let token = token_of(&is);
                    let token = token.unwrap_or_else(|| panic!("{at:?} UID {uid} holds {is:?}"));
                    assert_eq!(is, text(token), "{at:?} UID {uid}");
                    assert_eq!(record.size as usize, is.len(), "{at:?} UID {uid}");
                    self.read.insert((id, uid), token);
                    token
                }
            };
            let named = |i: &usize| record.keywords & (1 << i) != 0;
            let keywords: BTreeSet<String> = (0..64)
                .filter(named)
                .map(|i| names.get(i).map_or_else(|| format!("bit {i}"), |k| k.as_str().into()))
                .collect();
            bytes += u64::from(record.size);
            let comment = annotations.of(record.uid).first().and_then(|one| one.shared.clone());
            let comment = comment.map(|text| String::from_utf8_lossy(&text).into_owned());
            folder.messages.insert(uid, Msg { token, flags: record.flags.0, keywords, comment });
            modseqs.insert(uid, record.modseq.0);
        }
        if self.sim.is_stopped() {
            // Without power memory still answers, with half of a change, too.
            return Err(Error::Closing);
        }
        assert_eq!(folder.messages.len(), view.exists() as usize, "{at:?}: records are damaged");
        assert_eq!(bytes, view.bytes(), "bytes of {at:?}");
        let validity = view.uid_validity();
        let same = |(_, seen): &(&MailboxId, &Arc<Seen>)| seen.validity == Some(validity);
        let other = self.seen.iter().filter(same).find(|(other, _)| **other != id);
        assert!(other.is_none(), "UIDVALIDITY of {at:?} was that of {other:?}");
        let seen = Arc::make_mut(self.seen.entry(id).or_default());
        assert_eq!(*seen.validity.get_or_insert(validity), validity, "UIDVALIDITY of {at:?}");
        for (uid, message) in &folder.messages {
            let modseq = modseqs[uid];
            assert!(*uid < view.uid_next().0, "{at:?} UID {uid} is not below UIDNEXT");
            assert!(modseq <= view.modseq_highest().0, "{at:?} UID {uid}: MODSEQ {modseq}");
            match seen.messages.get(uid) {
                None => assert!(*uid >= seen.looked, "{at:?} UID {uid} comes late"),
                Some((was, before)) => {
                    assert_eq!(was.token, message.token, "{at:?} UID {uid} was used again");
                    assert!(modseq >= *before, "{at:?} UID {uid}: MODSEQ {before}, now {modseq}");
                    let changed = was != message;
                    assert!(!changed || modseq > *before, "{at:?} UID {uid} changed unseen");
                }
            }
            seen.messages.insert(*uid, (message.clone(), modseq));
        }
        assert!(view.uid_next().0 >= seen.uid_next, "{at:?}: UIDNEXT fell from {}", seen.uid_next);
        let highest = view.modseq_highest().0;
        assert!(highest >= seen.modseq, "{at:?}: HIGHESTMODSEQ {} fell to {highest}", seen.modseq);
        seen.told(view.uid_next().0, highest);
        seen.looked = view.uid_next().0;
        Ok(folder)
    }

    /// What the store's own check finds.
    pub fn findings(&self) -> Result<Vec<String>> {
        self.result(self.store.check(None)).map(|report| report.findings)
    }

    /// Messages that nothing refers to where deliveries are staged.
    pub fn staged(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut list = |dir: PathBuf| {
            let each = &mut |name: &[u8], _| {
                found.push(dir.join(String::from_utf8_lossy(name).as_ref()));
            };
            // A directory that is not there holds nothing.
            let _ = self.sim.list(&dir, each);
        };
        list(PathBuf::from("/cyrus/stage."));
        if let Ok(user) = self.user(USERS[0].0) {
            for name in user.namespace().mailboxes.keys() {
                list(maildir_of(&(USERS[0].0.to_owned(), name.clone())).join("tmp"));
            }
        }
        found
    }

    /// Ends the store as a power cut does, before anything of it survives.
    pub fn stop(&self) {
        self.sim.stop_at(1);
        // With the power gone this changes nothing but memory.
        let _ = self.store.close();
        // Jobs that a dropped call left behind see the cut, too.
        self.finish_helpers();
    }

    /// A power cut; the bytes that survive depend on `seed`.
    pub fn crash(&mut self, seed: u64) {
        self.stop();
        self.sim.crash(seed);
    }

    /// Goes on with a store opened anew.
    pub fn reopened(&mut self) -> Result<()> {
        self.store = Store::open(config(self.sync_names), storage(&self.sim), self.drive)?;
        self.read.clear();
        Ok(())
    }

    /// Files of a mailbox of the Maildir user, by text: path from its directory, letters.
    pub fn maildir_files(sim: &Sim, at: &Place) -> HashMap<u32, Vec<(PathBuf, String)>> {
        let dir = maildir_of(at);
        let mut out: HashMap<u32, Vec<(PathBuf, String)>> = HashMap::new();
        for sub in ["new", "cur"] {
            let mut names = Vec::new();
            let each = &mut |name: &[u8], _| names.push(String::from_utf8_lossy(name).into_owned());
            if sim.list(&dir.join(sub), each).is_err() {
                continue;
            }
            for name in names {
                let path = dir.join(sub).join(&name);
                let Ok(file) = sim.open(&path, Open::Read) else { continue };
                let mut bytes = vec![0; file.size().unwrap_or(0) as usize];
                let _ = file.read_exact_at(&mut bytes, 0);
                let letters = name.split_once(":2,").map_or("", |(_, l)| l).to_owned();
                if let Some(token) = token_of(&String::from_utf8_lossy(&bytes)) {
                    out.entry(token).or_default().push((path, letters));
                }
            }
        }
        out
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A user's settings, without limits.
pub fn options(name: &str) -> UserOptions {
    let partition = USERS.iter().find(|(user, _)| *user == name).map(|(_, p)| (*p).to_owned());
    UserOptions { partition, ..UserOptions::default() }
}

/// The Maildir user's directory of a mailbox.
pub fn maildir_of(at: &Place) -> PathBuf {
    let root = Path::new("/maildir").join(&at.0);
    match at.1.as_str() {
        "INBOX" => root,
        name => root.join(format!(".{}", name.replace('/', "."))),
    }
}
