//! A store with an archive, what is in it, and random work on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::archive::{ArchiveConfig, ArchiveTarget, BackupOptions, BackupProgress, BackupReport};
use engine::io::{Lane, Open, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    AclEntry, Delivery, Drive, Identifier, Mailbox, MountOptions, Partition, Result, Rights,
    RightsChange, Store, StoreConfig, StoreMode, StoreRequest, Target, User, UserOptions,
};
use protocol::types::{Keyword, SystemFlags, Uid};

/// A user in each layout.
pub const USERS: [(&str, &str); 2] = [("alice", "maildir"), ("bob", "cyrus")];
const NAMES: [&str; 5] = ["A", "A/B", "C", "D/E", "F"];
const KEYWORDS: [&str; 3] = ["$Label", "work", "$Forwarded"];

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub text: String,
    pub flags: u8,
    pub keywords: BTreeSet<String>,
    pub internal_date: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub id: String,
    pub uid_validity: u32,
    pub uid_next: u32,
    /// The access control list.
    pub acl: Vec<String>,
    pub messages: BTreeMap<u32, Message>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub folders: BTreeMap<String, Folder>,
    pub subscriptions: BTreeSet<String>,
}

pub type World = BTreeMap<String, Space>;

/// Settings below a root. Small segments, so that many are recycled, and early compactions.
pub fn config(root: &Path, archive: Option<ArchiveTarget>, pending_bytes_max: u64) -> StoreConfig {
    let partition = |name: &str, kind| Partition {
        name: name.into(),
        path: root.join(name),
        layout: layout_for(kind, &LayoutOptions::default()),
        mount: MountOptions::default(),
    };
    let partitions =
        vec![partition("maildir", LayoutKind::Maildir), partition("cyrus", LayoutKind::Cyrus)];
    let mut config = StoreConfig::new(root.join("state"), partitions);
    config.helpers = 2;
    config.open_mailboxes_max = 2;
    config.compact_tombstones_min = 3;
    config.log_segment_bytes = Some(64 << 10);
    config.archive = archive.map(|target| ArchiveConfig {
        target,
        pending_bytes_max,
        segment_age_max: Duration::ZERO,
        command_time_max: Duration::from_secs(20),
    });
    config
}

pub struct Site {
    pub storage: Arc<dyn Storage>,
    pub store: Store,
    pub lane: Lane,
    runtime: tokio::runtime::Runtime,
    pub root: PathBuf,
    next: u32,
}

pub fn text(token: u32) -> String {
    let more = "line\r\n".repeat(token as usize % 29);
    format!("Subject: message {token}\r\nFrom: a@example.org\r\n\r\ntoken-{token}.\r\n{more}")
}

impl Site {
    pub fn open(storage: Arc<dyn Storage>, config: StoreConfig, drive: Drive) -> Result<Site> {
        let root = config.state_dir.parent().expect("below a root").to_owned();
        let store = Store::open(config, storage.clone(), drive)?;
        Ok(Site::over(store, storage, &root))
    }

    /// A store that is open, for another thread.
    pub fn over(store: Store, storage: Arc<dyn Storage>, root: &Path) -> Site {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (runtime, lane) = (runtime.expect("a runtime"), Lane::inline(storage.clone()));
        Site { storage, store, lane, runtime, root: root.to_owned(), next: 1 }
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn user(&self, name: &str) -> User {
        let partition = USERS.iter().find(|(user, _)| *user == name).map(|(_, p)| (*p).to_owned());
        let options = UserOptions { partition, ..UserOptions::default() };
        self.wait(self.store.user(name, &options)).expect("a user")
    }

    pub fn mailbox(&self, user: &str, name: &str) -> Mailbox {
        self.wait(self.user(user).mailbox(name)).expect("a mailbox")
    }

    /// Everything that is there, as a client would see it.
    pub fn look(&self) -> World {
        let mut world = World::new();
        for name in self.wait(self.store.users()).expect("users") {
            let user = self.user(&name);
            let namespace = user.namespace();
            let mut space =
                Space { subscriptions: namespace.subscriptions.clone(), ..Space::default() };
            for mailbox in namespace.mailboxes.keys() {
                let open = self.mailbox(&name, mailbox);
                let acl = user.acl(mailbox).expect("a list");
                let mut folder = self.look_at(&open);
                folder.acl = acl.entries().map(|(who, has)| format!("{who}={has}")).collect();
                space.folders.insert(mailbox.clone(), folder);
            }
            world.insert(name, space);
        }
        world
    }

    fn look_at(&self, mailbox: &Mailbox) -> Folder {
        let view = self.wait(mailbox.refresh()).expect("a view");
        let names = view.keywords().names().to_vec();
        let mut messages = BTreeMap::new();
        for (_, record) in view.all() {
            let named = |i: &usize| record.keywords & (1 << i) != 0;
            let message = Message {
                text: self.text_of(mailbox, &record),
                flags: record.flags.0,
                keywords: (0..64).filter(named).map(|i| names[i].as_str().to_owned()).collect(),
                internal_date: record.internal_date,
            };
            messages.insert(record.uid.0, message);
        }
        Folder {
            id: mailbox.id().to_string(),
            uid_validity: view.uid_validity().0,
            uid_next: view.uid_next().0,
            acl: Vec::new(),
            messages,
        }
    }

    pub fn text_of(&self, mailbox: &Mailbox, record: &engine::Record) -> String {
        let bytes = self.wait(async {
            let file = mailbox.message(&self.lane, record).await?;
            let mut served = file.served(0, file.stored_size(), 0, u64::MAX);
            let mut out = Vec::new();
            while let Some(piece) = served.next().await? {
                out.extend(piece);
            }
            Ok::<_, engine::Error>(out)
        });
        match bytes {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("unreadable: {error}"),
        }
    }

    pub fn append(&self, user: &str, mailbox: &str, token: u32, flags: u8, words: &[&str]) -> u32 {
        let target = Target {
            user: self.user(user),
            mailbox: self.mailbox(user, mailbox),
            flags: SystemFlags(flags),
            keywords: words.iter().filter_map(|k| Keyword::new(k)).collect(),
            internal_date: Some(1_700_000_000 + i64::from(token)),
            annotations: vec![],
        };
        let done = self.wait(async {
            let mut delivery = Delivery::new(&self.store, &self.lane, vec![target])?;
            delivery.write(text(token).as_bytes()).await?;
            delivery.commit().await.remove(0)
        });
        done.expect("an append").uid.0
    }

    /// One random change of the store, or of its Maildir by another program.
    pub fn step(&mut self, random: &mut Random) {
        let (user, partition) = USERS[random.below(2) as usize];
        let namespace = self.user(user).namespace();
        let names: Vec<&String> = namespace.mailboxes.keys().collect();
        let name = match random.below(2) {
            0 => "INBOX".to_owned(),
            _ => names[random.below(names.len() as u64) as usize].clone(),
        };
        let other = names[random.below(names.len() as u64) as usize].clone();
        let fresh = NAMES[random.below(NAMES.len() as u64) as usize];
        let open = self.mailbox(user, &name);
        let view = self.wait(open.refresh()).expect("a view");
        let uids: Vec<Uid> =
            view.uids().map(|(_, uid)| uid).filter(|_| random.below(3) == 0).collect();
        let word = KEYWORDS[random.below(3) as usize];
        match random.below(22) {
            0..=5 => {
                let flags = (random.next() & random.next() & 31) as u8;
                let token = self.token(random);
                self.append(user, &name, token, flags, &[word]);
            }
            6..=8 => {
                let mode = [StoreMode::Add, StoreMode::Remove, StoreMode::Replace];
                let request = StoreRequest {
                    uids,
                    mode: mode[random.below(3) as usize],
                    flags: SystemFlags((random.next() & 31) as u8),
                    keywords: Keyword::new(word).into_iter().collect(),
                    unchanged_since: None,
                };
                let _ = self.wait(open.store(request)).expect("a store");
            }
            9 | 10 => {
                self.wait(open.expunge(&view, uids)).expect("an expunge");
            }
            11 | 12 => {
                let target = self.mailbox(user, &other);
                self.wait(open.copy(&view, uids, &target)).expect("a copy");
            }
            13 | 14 => {
                let target = self.mailbox(user, &other);
                self.wait(open.move_to(&view, uids, &target)).expect("a move");
            }
            15 => {
                let _ = self.wait(self.user(user).create(fresh, &[]));
            }
            16 => {
                let _ = self.wait(self.user(user).delete(fresh));
            }
            17 => {
                let _ = self.wait(self.user(user).rename(&other, fresh));
            }
            18 => {
                let on = random.below(2) == 0;
                self.wait(self.user(user).subscribe(fresh, on)).expect("a subscription");
            }
            19 => {
                let who = Identifier::User(["eve", "fred"][random.below(2) as usize].to_owned());
                let entry = AclEntry { negative: random.below(4) == 0, who };
                let rights = [Rights::NONE, Rights::READ, Rights::ALL][random.below(3) as usize];
                let change = RightsChange::Replace(rights);
                let _ = self.wait(self.user(user).set_acl(&other, entry, change));
            }
            // Of the user whom no other program disturbs.
            20 if user == "bob" => {
                let to = match namespace.mailboxes[&other].partition.as_str() {
                    "cyrus" => "maildir",
                    _ => "cyrus",
                };
                self.wait(self.user(user).change_partition(&other, to)).expect("a move");
            }
            _ if partition == "maildir" => self.foreign(random),
            _ => self.wait(self.store.checkpoint()).expect("a checkpoint"),
        }
    }

    /// Mostly a new text, sometimes one that was there.
    fn token(&mut self, random: &mut Random) -> u32 {
        if random.below(6) == 0 {
            return 1 + random.below(u64::from(self.next)) as u32;
        }
        self.next += 1;
        self.next
    }

    /// Another program delivers, sets a flag, or removes.
    fn foreign(&mut self, random: &mut Random) {
        let dir = self.root.join("maildir/alice");
        let storage = self.storage.clone();
        let token = self.token(random);
        if random.below(2) == 0 {
            let path = dir.join("new").join(format!("{token}.M{}.other", random.next() % 1000));
            let file = storage.open(&path, Open::Create).expect("a file");
            file.write_at(text(token).replace('\r', "").as_bytes(), 0).expect("a write");
            file.sync_all().expect("a sync");
            storage.sync_dir(&dir.join("new")).expect("a sync");
            return;
        }
        let mut names = Vec::new();
        let each = &mut |name: &[u8], _| names.push(String::from_utf8_lossy(name).into_owned());
        storage.list(&dir.join("cur"), each).expect("a list");
        names.sort();
        let Some(name) = names.get(random.below(names.len().max(1) as u64) as usize) else {
            return;
        };
        let path = dir.join("cur").join(name);
        if random.below(2) == 0 {
            storage.unlink(&path).expect("a removal");
        } else if let Some((base, letters)) = name.split_once(":2,")
            && !letters.contains('R')
        {
            let mut all: Vec<char> = letters.chars().chain(['R']).collect();
            all.sort_unstable();
            let letters: String = all.into_iter().collect();
            let to = dir.join("cur").join(format!("{base}:2,{letters}"));
            storage.rename(&path, &to).expect("a rename");
        }
        storage.sync_dir(&dir.join("cur")).expect("a sync");
    }

    pub fn backup(&self, to: &Path) -> Result<BackupReport> {
        let options =
            BackupOptions { to: to.to_owned(), bytes_per_second: None, extra: Vec::new() };
        self.store.backup(&options, &BackupProgress::default())
    }

    pub fn now_us(&self) -> u64 {
        self.storage.now_ns() as u64 / 1000
    }
}

/// The first difference between two worlds, for people.
pub fn difference(is: &World, should: &World) -> Option<String> {
    if is == should {
        return None;
    }
    for (user, space) in should {
        let Some(other) = is.get(user) else { return Some(format!("no user {user}")) };
        if space.subscriptions != other.subscriptions {
            return Some(format!(
                "{user}: {:?}, not {:?}",
                other.subscriptions, space.subscriptions
            ));
        }
        let names = |space: &Space| space.folders.keys().cloned().collect::<Vec<_>>();
        if names(space) != names(other) {
            return Some(format!("{user}: {:?}, not {:?}", names(other), names(space)));
        }
        for (name, folder) in &space.folders {
            let found = &other.folders[name];
            if folder == found {
                continue;
            }
            for (uid, message) in &folder.messages {
                let is = found.messages.get(uid);
                if is != Some(message) {
                    return Some(format!("{user} {name} {uid}: {is:?}, not {message:?}"));
                }
            }
            let more = found.messages.keys().find(|uid| !folder.messages.contains_key(uid));
            if let Some(uid) = more {
                return Some(format!("{user} {name}: also {uid} {:?}", found.messages[uid]));
            }
            let head = |f: &Folder| (f.id.clone(), f.uid_validity, f.uid_next, f.acl.clone());
            return Some(format!("{user} {name}: {:?}, not {:?}", head(found), head(folder)));
        }
    }
    Some("more users".into())
}
