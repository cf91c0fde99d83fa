//! What we know of a mailbox, written in the old server's form.
//!
//! Order: keywords before UIDs, so that whoever finds a UID finds its keywords; the memory last, so
//! that what was not finished is compared with the old server's files again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foreign::courier::keywords::{LIST_NAME, List};
use foreign::courier::uiddb::UidDb;
use foreign::dovecot::uidlist::{Message, UidList};
use parking_lot::Mutex;
use protocol::types::Uid;

use super::adopt::{KEYWORDS_DIR, stamps};
use super::dotlock::DotLock;
use super::files::{self, Stamp, stamp};
use super::memory::{KEYWORDS_NAME, Memory, OF_MAILBOX};
use super::words::{self, LETTERS_NAME};
use super::{OldServer, letters_of};
use crate::error::{Error, Result};
use crate::ids::MailboxId;
use crate::io::{Kind, Open, Storage};
use crate::layout::{LayoutKind, Location};
use crate::mailbox::MailboxInner;
use crate::mailbox::files::Files;
use crate::shared::{Drive, Shared};
use crate::user::UserInner;

/// Renames under one hold of the file lock.
const RENAMES_MAX: usize = 128;

/// What changed since it was last given back.
#[derive(Default)]
pub(crate) struct Due {
    mailboxes: Mutex<BTreeMap<MailboxId, Arc<MailboxInner>>>,
    users: Mutex<BTreeMap<String, Arc<UserInner>>>,
    /// Users whose `maildirsize` asks to be looked at.
    tallies: Mutex<BTreeSet<String>>,
    /// Copies of shared folders that were looked at since the start.
    copies: Mutex<BTreeSet<PathBuf>>,
    /// Somebody asked for what Courier needs.
    pub(super) courier_is_next: AtomicBool,
    /// Locks of old servers that a thread of ours holds.
    held: Mutex<BTreeSet<PathBuf>>,
}

impl Due {
    pub(super) fn copies(&self) -> &Mutex<BTreeSet<PathBuf>> {
        &self.copies
    }

    pub(super) fn held(&self) -> &Mutex<BTreeSet<PathBuf>> {
        &self.held
    }

    pub(super) fn tallies(&self) -> &Mutex<BTreeSet<String>> {
        &self.tallies
    }
}

/// UIDs and base names, by rising UID.
type Listed = Vec<(u32, Vec<u8>)>;

/// Names that are looked up one by one sooner than all together.
const FEW: usize = 1000;

/// What tells one set of messages of a mailbox from another: none comes without a new UIDNEXT, and
/// none goes without there being one less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set {
    uid_validity: u32,
    uid_next: u32,
    living: usize,
}

/// A file of UIDs as we left it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    stamp: Stamp,
    set: Set,
    /// No listed UID is above.
    uid_last: u32,
    lines: usize,
}

impl Mark {
    fn of(
        storage: &dyn Storage,
        path: &Path,
        set: Set,
        uid_last: u32,
        lines: usize,
    ) -> Result<Option<Mark>> {
        Ok(stamp(storage, path)?.map(|stamp| Mark { stamp, set, uid_last, lines }))
    }
}

impl Shared {
    /// A checkpoint covers changes of these.
    pub(crate) fn hand_back_soon<'a>(
        &self,
        mailboxes: impl Iterator<Item = &'a Arc<MailboxInner>>,
        users: impl Iterator<Item = &'a Arc<UserInner>>,
    ) {
        if self.config.hand_back.is_empty() {
            return;
        }
        self.hand_back.mailboxes.lock().extend(mailboxes.map(|m| (m.id, m.clone())));
        self.hand_back.users.lock().extend(users.map(|user| (user.name.clone(), user.clone())));
    }

    /// Gives back what is due. What another program has locked is due again at the next turn; what
    /// fails otherwise after its next change, and is named in the log.
    pub(crate) fn hand_back_due(self: &Arc<Self>) {
        self.tend_tallies();
        let servers = &self.config.hand_back;
        if servers.is_empty() {
            return;
        }
        let goes_on = self.drive == Drive::Threads && !self.closing.load(Ordering::Acquire);
        let mailboxes = std::mem::take(&mut *self.hand_back.mailboxes.lock());
        for mailbox in mailboxes.into_values() {
            if mailbox.deleted.load(Ordering::Acquire) {
                continue;
            }
            match mailbox.hand_back(servers) {
                Err(Error::Locked(_)) if goes_on => {
                    self.hand_back.mailboxes.lock().entry(mailbox.id).or_insert(mailbox);
                }
                Err(error) => {
                    let mailbox = mailbox.id;
                    tracing::error!(%mailbox, %error, "cannot write the old server's files");
                }
                Ok(()) => {}
            }
        }
        let users = std::mem::take(&mut *self.hand_back.users.lock());
        for user in users.into_values().filter(|user| user.has_begun()) {
            if let Err(error) = user.hand_back_account(servers) {
                tracing::error!(user = user.name, %error, "cannot write the old server's files");
            }
        }
    }

    /// All that changed since the last checkpoint, too: before a stop.
    pub(crate) fn hand_back_all(self: &Arc<Self>) {
        let mailboxes: Vec<_> = self.dirty.lock().values().cloned().collect();
        let users: Vec<_> = self.dirty_users.lock().values().cloned().collect();
        self.hand_back_soon(mailboxes.iter(), users.iter());
        self.hand_back_due();
    }
}

impl MailboxInner {
    /// Writes UIDs and keywords as old servers have them. Not under the file lock.
    pub(crate) fn hand_back(self: &Arc<Self>, servers: &[OldServer]) -> Result<()> {
        let place = self.place.read().clone();
        if place.partition.layout.kind() != LayoutKind::Maildir {
            return Ok(());
        }
        let storage = &*self.shared.storage;
        let before = Memory::read(&self.shared, &place.dir, OF_MAILBOX)?.unwrap_or_default();
        for server in servers {
            match server {
                OldServer::Courier => self.give_to_courier(&place.dir, &before)?,
                OldServer::Dovecot => self.give_to_dovecot(&place.dir)?,
            }
        }
        let now = stamps(storage, &place.dir)?;
        // What one server's files say that we did not write is still to be looked at.
        let mut memory = before;
        for server in servers {
            match server {
                OldServer::Courier => {
                    memory.courier = now.courier;
                    memory.courier_keywords = now.courier_keywords;
                }
                OldServer::Dovecot => memory.dovecot = now.dovecot,
            }
        }
        memory.write(&self.shared, &place.dir, OF_MAILBOX)
    }

    /// Which messages there are.
    fn set(&self) -> Set {
        let files = self.files.lock();
        self.set_of(&files)
    }

    fn set_of(&self, files: &Files) -> Set {
        // What is under way has its UIDs already.
        let uid_next = self.state.lock().uid_next.max(files.head.uid_next).0;
        let living = files.head.count - files.tombstones() as usize;
        Set { uid_validity: files.head.uid_validity.0, uid_next, living }
    }

    /// Messages with at least this UID: UIDs and base names.
    fn given(&self, from: Uid) -> Result<(Set, Listed)> {
        let files = self.files.lock();
        let first = files.lower_bound(from);
        let living = (first..files.head.count).filter(|p| !files.is_tombstone(*p));
        let mut given = Vec::new();
        if files.head.count - first < FEW {
            given.extend(
                living.filter_map(|p| Some((files.record(p).uid.0, files.location(p)?.base))),
            );
        } else {
            let names = files.names()?;
            given.extend(living.map(|p| (files.record(p).uid.0, names.of(p).0.to_vec())));
        }
        given.retain(|(_, base)| !base.is_empty());
        Ok((self.set_of(&files), given))
    }

    /// All messages: UIDs, base names and sizes.
    pub(super) fn living(&self) -> Result<Vec<(u32, Vec<u8>, u64)>> {
        let files = self.files.lock();
        let names = files.names()?;
        let living = (0..files.head.count).filter(|p| !files.is_tombstone(*p));
        let one = |position: usize| {
            let record = files.record(position);
            (record.uid.0, names.of(position).0.to_vec(), u64::from(record.size))
        };
        Ok(living.map(one).filter(|(_, base, _)| !base.is_empty()).collect())
    }

    /// Keywords of the messages that have some, by base name.
    fn given_keywords(&self) -> Result<List> {
        let files = self.files.lock();
        let names = files.names()?;
        let mut list = List::default();
        for position in (0..files.head.count).filter(|p| !files.is_tombstone(*p)) {
            let record = files.record(position);
            let base = names.of(position).0;
            if record.keywords == 0 || base.is_empty() {
                continue;
            }
            let words = files.keywords().of_bits(record.keywords);
            let words = words.map(|word| word.as_str().to_owned()).collect();
            list.messages.insert(base.to_vec(), words);
        }
        Ok(list)
    }

    /// Messages got UIDLs: the old servers' files are to be written whole.
    pub(crate) fn uidls_changed(self: &Arc<Self>) {
        self.foreign.lock().given = Default::default();
        self.shared.hand_back_soon([self].into_iter(), [].into_iter());
    }

    fn give_to_courier(self: &Arc<Self>, dir: &Path, before: &Memory) -> Result<()> {
        let (shared, storage) = (&self.shared, &*self.shared.storage);
        let _lock = DotLock::take(shared, dir, dir.join("tmp/courier.lock"))?;
        let keywords_dir = dir.join(KEYWORDS_DIR);
        match storage.create_dir(&keywords_dir) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => other.map_err(Error::io("create", &keywords_dir))?,
        }
        // Sets that other programs wrote while we ran.
        let mut updates = Vec::new();
        let mut each = |name: &[u8], kind: Kind| {
            if kind == Kind::File && foreign::courier::keywords::update(name).is_some() {
                updates.push(name.to_vec());
            }
        };
        storage.list(&keywords_dir, &mut each).map_err(Error::io("list", &keywords_dir))?;
        let theirs_changed = stamps(storage, dir)?.courier_keywords != before.courier_keywords;
        if !updates.is_empty() && theirs_changed {
            match self.take_courier_keywords(dir) {
                Ok(()) => {}
                // At a stop nothing can be taken any more: they stay where Courier finds them.
                Err(Error::Closing) => updates.clear(),
                Err(error) => return Err(error),
            }
        }
        self.leave_new()?;
        self.give_courier_uidls(dir)?;
        let bytes = self.given_keywords()?.write();
        files::update(shared, dir, &dir.join(KEYWORDS_NAME), &bytes)?;
        files::update(shared, dir, &keywords_dir.join(LIST_NAME), &bytes)?;
        for name in updates {
            use std::os::unix::ffi::OsStrExt;
            let path = keywords_dir.join(std::ffi::OsStr::from_bytes(&name));
            match storage.unlink(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("unlink", path)(e));
                }
                _ => {}
            }
        }
        let path = dir.join(OldServer::Courier.uids_name());
        let known = self.foreign.lock().given[0].filter(|known| known.set == self.set());
        if known.is_some_and(
            |known| matches!(stamp(storage, &path), Ok(now) if now == Some(known.stamp)),
        ) {
            return Ok(());
        }
        // UIDNEXT is in its first line: it is written whole, as Courier does.
        let (set, messages) = self.given(Uid(1))?;
        let uid_last = messages.last().map_or(0, |(uid, _)| *uid);
        let lines = messages.len();
        let db = UidDb { uid_validity: set.uid_validity, uid_next: set.uid_next, messages };
        files::update(shared, dir, &path, &db.write())?;
        self.foreign.lock().given[0] = Mark::of(storage, &path, set, uid_last, lines)?;
        Ok(())
    }

    fn give_to_dovecot(self: &Arc<Self>, dir: &Path) -> Result<()> {
        let (shared, storage) = (&self.shared, &*self.shared.storage);
        let path = dir.join(OldServer::Dovecot.uids_name());
        let _lock = DotLock::take(shared, dir, dir.join("dovecot-uidlist.lock"))?;
        self.give_letters(dir)?;
        let known = self.foreign.lock().given[1];
        if let Some(known) = known
            && stamp(storage, &path)? == Some(known.stamp)
            && self.add_lines(&path, known)?
        {
            return Ok(());
        }
        let known = files::read(storage, &path)?.and_then(|bytes| UidList::read(&bytes).ok());
        let known = known.unwrap_or_default();
        let (set, given) = self.given(Uid(1))?;
        let same = known.uid_validity == set.uid_validity;
        let uidls = self.uidls_given()?;
        // Sizes, UIDLs and the like that Dovecot wrote down.
        let extras: HashMap<Vec<u8>, Vec<String>> =
            known.messages.into_iter().map(|m| (m.base, m.extra)).collect();
        let messages = given.into_iter().map(|(uid, base)| {
            let extra = extras.get(&base).cloned().unwrap_or_default();
            with_uidl(Message { uid, extra, base }, &uidls)
        });
        let list = UidList {
            uid_validity: set.uid_validity,
            uid_next: if same { set.uid_next.max(known.uid_next) } else { set.uid_next },
            extra: known.extra,
            messages: messages.collect(),
        };
        let uid_last = list.uid_next.saturating_sub(1);
        files::update(shared, dir, &path, &list.write())?;
        let mark = Mark::of(storage, &path, set, uid_last, list.messages.len())?;
        self.foreign.lock().given[1] = mark;
        Ok(())
    }

    /// Adds lines of new messages to Dovecot's list. Those of removed ones may stay, up to a quarter;
    /// UIDNEXT is above the last line's UID. `false` where it is to be written whole.
    fn add_lines(self: &Arc<Self>, path: &Path, known: Mark) -> Result<bool> {
        let storage = &*self.shared.storage;
        let (set, given) = self.given(Uid(known.uid_last.saturating_add(1)))?;
        let uid_last = given.last().map_or(known.uid_last, |(uid, _)| *uid);
        let lines = known.lines + given.len();
        let is_told = set.uid_next <= uid_last.saturating_add(1);
        if set.uid_validity != known.set.uid_validity || !is_told || lines / 4 * 3 > set.living {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        let uidls = if given.is_empty() { HashMap::new() } else { self.uidls_given()? };
        for (uid, base) in given {
            with_uidl(Message { uid, extra: Vec::new(), base }, &uidls).write(&mut bytes);
        }
        if !bytes.is_empty() {
            let add = || {
                storage.append(path, &bytes)?;
                storage.open(path, Open::Write)?.sync_data()
            };
            add().map_err(Error::io("append to", path))?;
        }
        self.foreign.lock().given[1] = Mark::of(storage, path, set, uid_last, lines)?;
        Ok(true)
    }

    /// Files go from `new/` to `cur/`: Courier gives those that it moves itself new UIDs.
    fn leave_new(self: &Arc<Self>) -> Result<()> {
        let due: Vec<_> = {
            let files = self.files.lock();
            let living = files.positions_in_new().into_iter().filter(|p| !files.is_tombstone(*p));
            living
                .filter_map(|p| Some((files.record(p).uid, files.location(p)?.other_letters)))
                .collect()
        };
        due.chunks(RENAMES_MAX).try_for_each(|part| self.rename_for_old_server(part))
    }

    /// Names of files get the letters of their keywords.
    fn give_letters(self: &Arc<Self>, dir: &Path) -> Result<()> {
        let mut letters = words::read(&*self.shared.storage, dir);
        let (mut lost, mut due) = (BTreeMap::<String, usize>::new(), Vec::new());
        {
            let files = self.files.lock();
            let names = files.names()?;
            for position in (0..files.head.count).filter(|p| !files.is_tombstone(*p)) {
                let record = files.record(position);
                let (base, other) = names.of(position);
                if base.is_empty() || record.keywords == 0 && letters_of(other).next().is_none() {
                    continue;
                }
                let mut wanted: Vec<u8> = kept(other, &letters);
                for word in files.keywords().of_bits(record.keywords) {
                    match letters.letter(word.as_str()) {
                        Some(letter) => wanted.push(letter),
                        None => *lost.entry(word.as_str().to_owned()).or_default() += 1,
                    }
                }
                wanted.sort_unstable();
                wanted.dedup();
                let now: Vec<u8> = letters_of(other).collect();
                if wanted.iter().copied().filter(u8::is_ascii_lowercase).ne(now) {
                    due.push((record.uid, wanted));
                }
            }
        }
        if !lost.is_empty() {
            let words: Vec<String> = lost.iter().map(|(word, n)| format!("{word} ({n})")).collect();
            let words = words.join(", ");
            tracing::warn!(dir = %dir.display(), words, "Dovecot has letters for 26 keywords: these stay ours alone");
        }
        files::update(&self.shared, dir, &dir.join(LETTERS_NAME), &letters.write())?;
        due.chunks(RENAMES_MAX).try_for_each(|part| self.rename_for_old_server(part))
    }

    /// Renames files into `cur/`, with these uninterpreted letters.
    fn rename_for_old_server(self: &Arc<Self>, due: &[(Uid, Vec<u8>)]) -> Result<()> {
        let mut files = self.files.lock();
        let place = self.place.read().clone();
        let mut seen = Vec::new();
        for (uid, wanted) in due {
            let Some(position) = files.position_of(*uid).filter(|p| !files.is_tombstone(*p)) else {
                continue;
            };
            let Some(from) = files.location(position) else { continue };
            let to = Location { other_letters: wanted.clone(), in_new: false, ..from.clone() };
            if self.rename_message(&place, &from, &to, None) {
                seen.push(Location { uid: *uid, ..to });
            }
        }
        self.note_locations(&mut files, &seen)
    }
}

/// A line with the UIDL that its message had at another server.
fn with_uidl(mut message: Message, uidls: &HashMap<u32, String>) -> Message {
    if let Some(uidl) = uidls.get(&message.uid) {
        message.set_uidl(uidl);
    }
    message
}

/// Letters of a name that are none of a keyword that we know.
fn kept(other_letters: &[u8], letters: &words::Letters) -> Vec<u8> {
    let all = match other_letters.strip_prefix(b"/") {
        Some(suffix) => suffix.strip_prefix(b":2,").unwrap_or_default(),
        None => other_letters,
    };
    let ours = |letter: &&u8| b"DFPRST".contains(letter) || letters.name(**letter).is_some();
    all.iter().filter(|letter| !ours(letter)).copied().collect()
}
