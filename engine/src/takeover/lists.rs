//! Access control lists of Courier (`courierimapacl`, `courierimaphieracl/`) and Dovecot
//! (`dovecot-acl`), both ways. See the rules in [`super`].
//!
//! An entry is compared in our own words: what a file cannot say of it (Courier has no `p` and `n`,
//! and of the identifiers no `authenticated` and `anonymous`; Dovecot no `n`, no `administrators` and
//! no `anonymous`) is left out there and stays here, since an entry that the other server did not
//! touch is not taken from its file. `owner` and `administrators` with all that Courier knows have
//! everything, and so has an owner of whom Dovecot's file says nothing.
//!
//! A folder of Courier's without a file has the list of the folder above it, be that one that exists
//! in `courierimaphieracl/` alone.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreign::{courier, dovecot};
use serde::{Deserialize, Serialize};

use super::OldServer;
use super::files::{self, Stamp, stamp};
use super::memory::{Memory, OF_ACCOUNT};
use crate::acl::{Acl, AclEntry, Identifier, Rights};
use crate::config::Partition;
use crate::error::Result;
use crate::events::Event;
use crate::format::frame::Frame;
use crate::ids::MailboxId;
use crate::io::Storage;
use crate::layout::LayoutKind;
use crate::namespace::{INBOX, Namespace};
use crate::user::UserInner;

/// Lists of folders that do not exist, in a user's main Maildir.
const HIERARCHY_DIR: &str = "courierimaphieracl";
/// All rights that Courier has letters for, as its files have them.
const COURIERS: &str = "aceilrstwx";

/// Rights by entry, in our own words.
type Texts = BTreeMap<String, String>;

/// What was last seen, or written, of a mailbox's lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListMemory {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    courier: Option<Stamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dovecot: Option<Stamp>,
    entries: Texts,
}

impl OldServer {
    fn list_name(self) -> &'static str {
        match self {
            OldServer::Courier => "courierimapacl",
            OldServer::Dovecot => "dovecot-acl",
        }
    }
}

impl ListMemory {
    fn stamp(&self, server: OldServer) -> Option<Stamp> {
        match server {
            OldServer::Courier => self.courier,
            OldServer::Dovecot => self.dovecot,
        }
    }

    fn now(storage: &dyn Storage, dir: &Path) -> Result<ListMemory> {
        let of = |server: OldServer| stamp(storage, &dir.join(server.list_name()));
        Ok(ListMemory {
            courier: of(OldServer::Courier)?,
            dovecot: of(OldServer::Dovecot)?,
            entries: Texts::new(),
        })
    }
}

/// The entries of a file, in our own words. `None` where there is none, or one that cannot be read:
/// that is named in the log.
fn read(storage: &dyn Storage, path: &Path, server: OldServer) -> Option<Texts> {
    let bytes = match files::read(storage, path) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a list of rights cannot be read");
            return None;
        }
    };
    let entries = match server {
        OldServer::Courier => courier::acl::read(&bytes).map(|entries| {
            entries.into_iter().map(|e| of_courier(e.identifier, &e.rights)).collect::<Vec<_>>()
        }),
        OldServer::Dovecot => dovecot::acl::read(&bytes).map(of_dovecot),
    };
    let acl = match &entries {
        Ok(entries) => Acl::of_texts(entries.iter().map(|(who, rights)| (who, rights))),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a list of rights cannot be read");
            return None;
        }
    };
    if acl.is_none() {
        tracing::error!(path = %path.display(), "a list of rights has unknown identifiers: passed over");
    }
    acl.map(|acl| acl.to_texts())
}

/// Of whom Dovecot's files say nothing, the owner may do everything; and what they say of him, with all
/// that Dovecot knows, is everything.
fn of_dovecot(entries: Vec<dovecot::acl::Entry>) -> Vec<(String, String)> {
    let is_told = entries.iter().any(|entry| entry.identifier == "owner");
    let all = |rights: &str| "lrwstipekxa".chars().all(|letter| rights.contains(letter));
    let own = (!is_told).then(|| ("owner".to_owned(), Rights::ALL.to_string()));
    let others =
        entries.into_iter().map(|entry| match entry.identifier == "owner" && all(&entry.rights) {
            true => (entry.identifier, Rights::ALL.to_string()),
            false => (entry.identifier, entry.rights),
        });
    own.into_iter().chain(others).collect()
}

/// In Courier's files, c is the right to make folders alone.
fn of_courier(identifier: String, rights: &str) -> (String, String) {
    let (sign, who) = match identifier.strip_prefix('-') {
        Some(who) => ("-", who),
        None => ("", identifier.as_str()),
    };
    let all = COURIERS.chars().all(|letter| rights.contains(letter));
    let rights = match who {
        "owner" | "administrators" if all => Rights::ALL.to_string(),
        _ => rights.replace('c', "k"),
    };
    // Its two words for everybody.
    let who = if who == "anonymous" { "anyone" } else { who };
    (format!("{sign}{who}"), rights)
}

/// A list as a server's file has it, and what the file cannot say: entries, or letters of some.
fn write(acl: &Acl, server: OldServer) -> (Vec<u8>, Vec<String>) {
    let (mut entries, mut lost) = (Vec::new(), Vec::new());
    for (entry, rights) in acl.entries() {
        let Some(who) = identifier(entry, server) else {
            // Whoever administers is told from Dovecot's configuration, in every mailbox.
            if !matches!(entry.who, Identifier::Administrators) {
                lost.push(format!("{entry} {rights}"));
            }
            continue;
        };
        let (mut letters, mut rest) = (Vec::new(), String::new());
        for letter in rights.to_string().chars() {
            match (server, letter) {
                (_, 'n') | (OldServer::Courier, 'p') => rest.push(letter),
                (OldServer::Courier, 'k') => letters.push('c'),
                _ => letters.push(letter),
            }
        }
        if !rest.is_empty() && !matches!(entry.who, Identifier::Owner | Identifier::Administrators)
        {
            lost.push(format!("{entry} {rest}"));
        }
        if server == OldServer::Courier {
            letters.sort_unstable();
        }
        if !letters.is_empty() {
            entries.push((who, letters.into_iter().collect::<String>()));
        }
    }
    let bytes = match server {
        OldServer::Courier => {
            let entry = |(identifier, rights)| courier::acl::Entry { identifier, rights };
            courier::acl::write(&entries.into_iter().map(entry).collect::<Vec<_>>())
        }
        OldServer::Dovecot => {
            let entry = |(identifier, rights)| dovecot::acl::Entry { identifier, rights };
            dovecot::acl::write(&entries.into_iter().map(entry).collect::<Vec<_>>())
        }
    };
    (bytes, lost)
}

/// Whom a file calls so; `None` where it has no word for them.
fn identifier(entry: &AclEntry, server: OldServer) -> Option<String> {
    let who = match (&entry.who, server) {
        (Identifier::Owner, _) => "owner".to_owned(),
        (Identifier::Anyone, _) => "anyone".to_owned(),
        (Identifier::User(name), _) => format!("user={name}"),
        (Identifier::Group(name), _) => format!("group={name}"),
        (Identifier::Administrators, OldServer::Courier) => "administrators".to_owned(),
        (Identifier::Authenticated, OldServer::Dovecot) => "authenticated".to_owned(),
        (Identifier::Administrators | Identifier::Authenticated | Identifier::Anonymous, _) => {
            return None;
        }
    };
    Some(format!("{}{who}", if entry.negative { "-" } else { "" }))
}

/// The list that Courier gives a folder without one: that of the nearest above it. `within`: those
/// of folders that do not exist alone.
fn inherited(storage: &dyn Storage, main: &Path, dir: &Path, within: bool) -> Option<Texts> {
    let folder = dir.strip_prefix(main).ok()?.as_os_str().as_bytes().strip_prefix(b".")?;
    let mut name = folder;
    loop {
        let path = main.join(HIERARCHY_DIR).join(OsStr::from_bytes(name));
        if let Some(texts) = read(storage, &path, OldServer::Courier) {
            return Some(texts);
        }
        let Some(dot) = name.iter().rposition(|b| *b == b'.') else { break };
        name = &name[..dot];
        let above = main.join(OsStr::from_bytes(&[b".", name].concat()));
        if within && storage.stat(&above.join("cur")).is_ok() {
            return None;
        }
        let path = above.join(OldServer::Courier.list_name());
        if !within && let Some(texts) = read(storage, &path, OldServer::Courier) {
            return Some(texts);
        }
    }
    let path = main.join(OldServer::Courier.list_name());
    if within { None } else { read(storage, &path, OldServer::Courier) }
}

/// The list of a mailbox that we meet for the first time.
pub(super) fn first_list(storage: &dyn Storage, main: &Path, dir: &Path) -> Option<Acl> {
    let own = OldServer::ALL.into_iter().find(|s| storage.stat(&dir.join(s.list_name())).is_ok());
    let texts = match own {
        Some(server) => read(storage, &dir.join(server.list_name()), server),
        None => inherited(storage, main, dir, false),
    };
    Acl::of_texts(&texts?)
}

impl UserInner {
    /// The list that a folder to be made here has in `courierimaphieracl/`.
    pub(crate) fn hierarchy_list(&self, partition: &Partition, dir: &Path) -> Option<Frame> {
        if partition.layout.kind() != LayoutKind::Maildir {
            return None;
        }
        let main = self.dir_of(partition, INBOX).ok()?;
        let texts = inherited(&*self.shared.storage, &main, dir, true)?;
        let acl = Acl::of_texts(&texts)?;
        Some(Frame::Acl { user: self.name.clone(), acl: Some(Arc::new(acl)) })
    }

    fn list_dirs(&self, partition: &Partition) -> Vec<(String, MailboxId, PathBuf)> {
        let namespace = self.namespace.load();
        let here = namespace.mailboxes.iter().filter(|(_, e)| e.partition == partition.name);
        let place = |(name, entry): (&String, &crate::namespace::MailboxEntry)| {
            let dir = self.dir_of(partition, name).ok()?;
            Some((name.clone(), entry.id, dir))
        };
        here.filter_map(place).collect()
    }

    /// Notes lists as they are, for [`Self::compare_lists`].
    pub(super) fn remember_lists(&self, partition: &Partition, memory: &mut Memory) -> Result<()> {
        let storage = &*self.shared.storage;
        for (_, id, dir) in self.list_dirs(partition) {
            let mut now = ListMemory::now(storage, &dir)?;
            let server = OldServer::ALL.into_iter().find(|server| now.stamp(*server).is_some());
            let Some(server) = server else { continue };
            now.entries = read(storage, &dir.join(server.list_name()), server).unwrap_or_default();
            memory.lists.insert(id.to_string(), now);
        }
        memory.lists_known = true;
        Ok(())
    }

    /// Takes what the old server did with the lists since they were last read or written, of one
    /// mailbox or of all. Under the `changes` lock.
    pub(super) fn compare_lists(
        self: &Arc<Self>,
        partition: &Partition,
        memory: &mut Memory,
        only: Option<MailboxId>,
    ) -> Result<()> {
        if !memory.lists_known {
            // Taken over before lists were compared.
            return self.remember_lists(partition, memory);
        }
        let storage = &*self.shared.storage;
        let namespace = self.namespace.load_full();
        let (mut frames, mut changed) = (Vec::new(), Vec::new());
        for (name, id, dir) in self.list_dirs(partition) {
            if only.is_some_and(|only| only != id) {
                continue;
            }
            let mut now = ListMemory::now(storage, &dir)?;
            let known = memory.lists.get(&id.to_string()).cloned().unwrap_or_default();
            let differs = |server: &OldServer| now.stamp(*server) != known.stamp(*server);
            let server = OldServer::ALL.into_iter().filter(differs);
            let time = |server: &OldServer| now.stamp(*server).map(|stamp| stamp.mtime_ns());
            let Some(server) = server.max_by_key(time) else { continue };
            let theirs = match now.stamp(server) {
                Some(_) => match read(storage, &dir.join(server.list_name()), server) {
                    Some(theirs) => theirs,
                    // Named in the log; ours counts.
                    None => continue,
                },
                None => Acl::default_of_owner().to_texts(),
            };
            let ours = namespace.acl(id).cloned().unwrap_or_else(Acl::default_of_owner);
            let mut after = ours.to_texts();
            for who in known.entries.keys().chain(theirs.keys()) {
                if known.entries.get(who) == theirs.get(who) {
                    continue;
                }
                match theirs.get(who) {
                    Some(rights) => drop(after.insert(who.clone(), rights.clone())),
                    None => drop(after.remove(who)),
                }
            }
            now.entries = theirs;
            memory.lists.insert(id.to_string(), now);
            let Some(after) = Acl::of_texts(&after).filter(|after| *after != ours) else {
                continue;
            };
            tracing::info!(user = self.name, mailbox = name, ?server, "took over a list of rights");
            let acl = (after != Acl::default_of_owner()).then(|| Arc::new(after));
            frames.push((id, Frame::Acl { user: self.name.clone(), acl }));
            changed.push(name);
        }
        if !frames.is_empty() {
            let lsn = self.commit(&frames)?;
            self.apply(&frames);
            self.applied(lsn);
            changed.into_iter().for_each(|name| self.events.post(&Event::Rights(name)));
        }
        Ok(())
    }

    /// The same for a mailbox that is opened.
    pub(super) fn look_at_list(self: &Arc<Self>, id: MailboxId, dir: &Path) -> Result<()> {
        let namespace = self.namespace.load_full();
        let there = ListMemory::now(&*self.shared.storage, dir)?;
        if there == ListMemory::default() && namespace.acl(id).is_none() {
            return Ok(());
        }
        let partition = self.shared.partition(&namespace.partition)?.clone();
        let main = self.dir_of(&partition, INBOX)?;
        let Some(mut memory) = Memory::read(&self.shared, &main, OF_ACCOUNT)? else {
            return Ok(());
        };
        let before = memory.clone();
        self.compare_lists(&partition, &mut memory, Some(id))?;
        if memory != before {
            memory.write(&self.shared, &main, OF_ACCOUNT)?;
        }
        Ok(())
    }

    /// Writes lists in the forms of these servers.
    pub(super) fn give_lists(
        self: &Arc<Self>,
        partition: &Partition,
        main: &Path,
        servers: &[OldServer],
        memory: &mut Memory,
    ) -> Result<()> {
        self.compare_lists(partition, memory, None)?;
        let (shared, storage) = (&self.shared, &*self.shared.storage);
        let namespace = self.namespace.load_full();
        let mut living = std::collections::BTreeSet::new();
        for (name, id, dir) in self.list_dirs(partition) {
            living.insert(id.to_string());
            let ours = namespace.acl(id);
            let known = memory.lists.get(&id.to_string()).cloned().unwrap_or_default();
            let mut now = ListMemory::now(storage, &dir)?;
            // One that could not be read is not written over.
            if OldServer::ALL.iter().any(|server| now.stamp(*server) != known.stamp(*server)) {
                continue;
            }
            for server in servers {
                let needed = ours.is_some()
                    || now.stamp(*server).is_some()
                    || *server == OldServer::Courier && is_below_a_list(&namespace, &name);
                if !needed {
                    continue;
                }
                let mut acl = ours.cloned().unwrap_or_else(Acl::default_of_owner);
                if ours.is_none() && *server == OldServer::Courier {
                    acl = with_administrators(&acl);
                }
                let path = dir.join(server.list_name());
                let (bytes, lost) = write(&acl, *server);
                let entries = said(&bytes, *server).unwrap_or_default();
                // A file that says the same in another way stays.
                let same = now.stamp(*server).is_some()
                    && read(storage, &path, *server).as_ref() == Some(&entries);
                if !same {
                    files::replace(shared, &dir, &path, &bytes)?;
                }
                if !lost.is_empty() && entries != known.entries {
                    tracing::warn!(
                        user = self.name,
                        mailbox = name,
                        ?server,
                        lost = lost.join(", "),
                        "rights that the old server has no words for stay ours alone"
                    );
                }
                now = ListMemory { entries, ..ListMemory::now(storage, &dir)? };
                memory.lists.insert(id.to_string(), now.clone());
                // Courier has it in the folder from now on.
                if let Ok(folder) = dir.strip_prefix(main)
                    && *server == OldServer::Courier
                    && let Some(stored) = folder.as_os_str().as_bytes().strip_prefix(b".")
                {
                    let stale = main.join(HIERARCHY_DIR).join(OsStr::from_bytes(stored));
                    let _ = storage.unlink(&stale);
                }
            }
        }
        memory.lists.retain(|id, _| living.contains(id));
        Ok(())
    }
}

/// What a file with these bytes says, in our own words.
fn said(bytes: &[u8], server: OldServer) -> Option<Texts> {
    let entries: Vec<(String, String)> = match server {
        OldServer::Courier => {
            let entries = courier::acl::read(bytes).ok()?;
            entries.into_iter().map(|e| of_courier(e.identifier, &e.rights)).collect()
        }
        OldServer::Dovecot => of_dovecot(dovecot::acl::read(bytes).ok()?),
    };
    Acl::of_texts(entries.iter().map(|(who, rights)| (who, rights))).map(|acl| acl.to_texts())
}

/// Whether Courier would have a folder without a file inherit a list.
fn is_below_a_list(namespace: &Namespace, name: &str) -> bool {
    let above = namespace.above(name);
    let has = |name: &str| {
        namespace.mailboxes.get(name).is_some_and(|entry| namespace.acl(entry.id).is_some())
    };
    name != INBOX && (has(above) || has(INBOX))
}

/// What Courier gives a folder by itself.
fn with_administrators(acl: &Acl) -> Acl {
    let mut texts = acl.to_texts();
    texts.insert("administrators".into(), Rights::ALL.to_string());
    Acl::of_texts(&texts).unwrap_or_else(|| acl.clone())
}
