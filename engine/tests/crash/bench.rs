//! A store on a simulated disk, its history, and looks at it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use engine::io::sim::Sim;
use engine::io::{Kind, Lane, Open, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Drive, Error, Mailbox, MailboxId, MountOptions, Partition, Result, Store, StoreConfig, User,
    UserOptions,
};
use protocol::types::UidValidity;

use crate::model::{Folder, Msg, Place, Space, World};

/// A user in each layout.
pub const USERS: [(&str, &str); 2] = [("alice", "maildir"), ("bob", "cyrus")];
/// How long a call may go on after the power went.
const CUT_GRACE: Duration = Duration::from_millis(300);
/// How long a call may take at all.
const PATIENCE: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What was seen of one mailbox, ever.
#[derive(Default)]
struct Seen {
    validity: Option<UidValidity>,
    uid_next: u32,
    modseq: u64,
    /// Text, flags and MODSEQ last seen, by UID.
    messages: BTreeMap<u32, (Msg, u64)>,
}

/// The store under test.
pub struct Bench {
    pub sim: Sim,
    pub store: Store,
    lane: Lane,
    sync_names: bool,
    /// Texts that were read since the last start, so that each is read once.
    read: HashMap<(MailboxId, u32), u32>,
    seen: HashMap<MailboxId, Seen>,
}

pub fn config(sync_names: bool) -> StoreConfig {
    let partition = |name: &str, kind| Partition {
        name: name.into(),
        path: PathBuf::from("/").join(name),
        layout: layout_for(kind, &LayoutOptions::default()),
        mount: MountOptions::default(),
    };
    let partitions =
        vec![partition("maildir", LayoutKind::Maildir), partition("cyrus", LayoutKind::Cyrus)];
    let mut config = StoreConfig::new("/state", partitions);
    // For the weak mode; the other one needs only less.
    config.sync_names = sync_names;
    config.helpers = 1;
    config.open_mailboxes_max = 1;
    config.log_bytes_max = 1 << 20;
    config
}

pub fn storage(sim: &Sim) -> Arc<dyn Storage> {
    Arc::new(sim.clone())
}

/// The text of a message; sizes vary.
pub fn text(token: u32) -> String {
    let more = "line\r\n".repeat(token as usize % 37);
    format!("Subject: message {token}\r\nFrom: a@example.org\r\n\r\ntoken-{token}.\r\n{more}")
}

fn token_of(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("token-")?;
    rest.split_once('.')?.0.parse().ok()
}

impl Bench {
    /// Opens the store; fails when the power goes meanwhile.
    pub fn open(sim: &Sim, sync_names: bool) -> Result<Bench> {
        let store = Store::open(config(sync_names), storage(sim), Drive::Inline)?;
        let lane = Lane::inline(storage(sim));
        let (read, seen) = Default::default();
        Ok(Bench { sim: sim.clone(), store, lane, sync_names, read, seen })
    }

    /// Runs a future to its end, or until the power is cut and it makes no more progress.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
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

    /// A result, where a call that never returned has failed.
    pub fn result<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.wait(future).unwrap_or(Err(Error::Closing))
    }

    pub fn user(&self, name: &str) -> Result<User> {
        let partition = USERS.iter().find(|(user, _)| *user == name).map(|(_, p)| (*p).to_owned());
        let options = UserOptions { partition, ..UserOptions::default() };
        self.result(self.store.user(name, &options))
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

    fn text_of(&self, mailbox: &Mailbox, record: &engine::Record) -> Result<String> {
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
                space.folders.insert(mailbox_name.clone(), self.look_at(&at, &mailbox)?);
            }
            let usage = user.usage();
            assert_eq!((usage.messages, usage.bytes), (messages, bytes), "usage of {name}");
            world.users.insert(name.to_owned(), space);
        }
        Ok(world)
    }

    fn look_at(&mut self, at: &Place, mailbox: &Mailbox) -> Result<Folder> {
        let view = mailbox.view();
        let id = mailbox.id();
        let names = view.keywords().names().to_vec();
        let mut folder = Folder { id: Some(id), ..Folder::default() };
        let mut modseqs = BTreeMap::new();
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
            folder.messages.insert(uid, Msg { token, flags: record.flags.0, keywords });
            modseqs.insert(uid, record.modseq.0);
        }
        if self.sim.is_stopped() {
            // Without power memory still answers, with half of a change, too.
            return Err(Error::Closing);
        }
        let seen = self.seen.entry(id).or_default();
        let validity = view.uid_validity();
        assert_eq!(*seen.validity.get_or_insert(validity), validity, "UIDVALIDITY of {at:?}");
        for (uid, message) in &folder.messages {
            let modseq = modseqs[uid];
            assert!(*uid < view.uid_next().0, "{at:?} UID {uid} is not below UIDNEXT");
            assert!(modseq <= view.modseq_highest().0, "{at:?} UID {uid}: MODSEQ {modseq}");
            match seen.messages.get(uid) {
                None => assert!(*uid >= seen.uid_next, "{at:?} UID {uid} comes late"),
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
        (seen.uid_next, seen.modseq) = (view.uid_next().0, highest);
        Ok(folder)
    }

    /// What the store's own check finds.
    pub fn findings(&self) -> Result<Vec<String>> {
        self.result(self.store.check(None)).map(|report| report.findings)
    }

    /// Ends the store as a power cut does; the bytes that survive depend on `seed`.
    pub fn crash(&mut self, seed: u64) {
        self.sim.stop_at(1);
        // With the power gone this changes nothing but memory.
        let _ = self.store.close();
        // Jobs that a dropped call left behind see the cut, too.
        self.wait(self.store.helpers().run(|| ()));
        self.sim.crash(seed);
    }

    /// Goes on with a store opened anew.
    pub fn reopened(&mut self) -> Result<()> {
        self.store = Store::open(config(self.sync_names), storage(&self.sim), Drive::Inline)?;
        self.read.clear();
        Ok(())
    }

    /// Files of a mailbox of the Maildir user, by text: path from its directory, letters.
    pub fn maildir_files(&self, at: &Place) -> HashMap<u32, Vec<(PathBuf, String)>> {
        let dir = maildir_of(at);
        let mut out: HashMap<u32, Vec<(PathBuf, String)>> = HashMap::new();
        for sub in ["new", "cur"] {
            let mut names = Vec::new();
            let each = &mut |name: &[u8], _| names.push(String::from_utf8_lossy(name).into_owned());
            if self.sim.list(&dir.join(sub), each).is_err() {
                continue;
            }
            for name in names {
                let path = dir.join(sub).join(&name);
                let Ok(file) = self.sim.open(&path, Open::Read) else { continue };
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
        // A closed store is still held by those who refer to each other; its disk need not be.
        self.crash(0);
        for root in ["/state", "/maildir", "/cyrus"] {
            let _ = empty(&self.sim, Path::new(root));
        }
        let _ = self.sim.sync_filesystem(Path::new("/"));
        self.sim.crash(0);
    }
}

fn empty(sim: &Sim, dir: &Path) -> std::io::Result<()> {
    let mut entries = Vec::new();
    sim.list(dir, &mut |name, kind| {
        entries.push((dir.join(String::from_utf8_lossy(name).as_ref()), kind));
    })?;
    for (path, kind) in entries {
        match kind {
            Kind::Directory => {
                empty(sim, &path)?;
                sim.remove_dir(&path)?;
            }
            Kind::File | Kind::Other => sim.unlink(&path)?,
        }
    }
    Ok(())
}

/// The Maildir user's directory of a mailbox.
pub fn maildir_of(at: &Place) -> PathBuf {
    let root = Path::new("/maildir").join(&at.0);
    match at.1.as_str() {
        "INBOX" => root,
        name => root.join(format!(".{}", name.replace('/', "."))),
    }
}
