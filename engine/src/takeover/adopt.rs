//! A mailbox's first look at what the old server left: UIDs, UIDNEXT, keywords. See the rules in
//! [`super`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foreign::courier::keywords::{self, LIST_NAME, List};
use foreign::courier::uiddb::UidDb;
use foreign::dovecot::modseq;
use foreign::dovecot::uidlist::UidList;
use protocol::types::{Keyword, ModSeq, Uid, UidValidity};

use super::OldServer;
use super::files::{self, Stamp, stamp};
use super::memory::{KEYWORDS_NAME, Memory, OF_MAILBOX};
use crate::error::{Error, Result};
use crate::format::frame::{FlagChange, Frame};
use crate::io::{Kind, Storage};
use crate::layout::LayoutKind;
use crate::mailbox::{Mailbox, MailboxInner};
use crate::namespace::{Namespace, SpecialUse};
use crate::user::UserInner;

/// The directory of Courier's keywords in a mailbox's.
pub(super) const KEYWORDS_DIR: &str = "courierimapkeywords";
/// Changes of keywords of one transaction.
const CHANGES_MAX: usize = 8 << 10;

/// What an old server's files say of a mailbox's UIDs.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(super) uid_validity: u32,
    pub(super) uid_next: u32,
    uids: HashMap<Vec<u8>, u32>,
    /// What its HIGHESTMODSEQ may be; 0: it has none, or it is not known.
    modseq: u64,
}

impl Told {
    /// The UID that a message has by it.
    pub(crate) fn uid(&self, base: &[u8]) -> Option<u32> {
        self.uids.get(base).copied()
    }

    /// Where the numbering of new messages has to go on for this one: at its own UID, or behind
    /// all of theirs.
    pub(crate) fn next(&self, base: &[u8], next: Uid) -> Uid {
        match self.uid(base) {
            Some(uid) if uid >= next.0 => Uid(uid),
            _ => next.max(Uid(self.uid_next)),
        }
    }

    /// UIDNEXT by it.
    pub(crate) fn uid_next(&self) -> Uid {
        Uid(self.uid_next)
    }

    /// Above which new MODSEQs have to be, for clients that go by those of the old server.
    pub(crate) fn modseq(&self) -> ModSeq {
        ModSeq(self.modseq)
    }

    fn of(uid_validity: u32, uid_next: u32, uids: Vec<(u32, Vec<u8>)>) -> Told {
        let uids = uids.into_iter().map(|(uid, base)| (base, uid)).collect();
        Told { uid_validity, uid_next, uids, modseq: 0 }
    }

    /// Reads a server's file in a mailbox's directory; `None` where there is none. Lines at the end of
    /// Dovecot's may be torn by a power cut.
    pub(super) fn read(
        storage: &dyn Storage,
        dir: &Path,
        server: OldServer,
        end_may_be_torn: bool,
    ) -> Result<Option<Told>> {
        let path = dir.join(server.uids_name());
        let Some(bytes) = files::read(storage, &path)? else { return Ok(None) };
        let told = match server {
            OldServer::Courier => {
                UidDb::read(&bytes).map(|db| Told::of(db.uid_validity, db.uid_next, db.messages))
            }
            OldServer::Dovecot => UidList::read_begun(&bytes).and_then(|(list, torn)| {
                if let Some(bad) = torn {
                    if !end_may_be_torn {
                        return Err(bad);
                    }
                    tracing::warn!(path = %path.display(), %bad, "its end is torn: passed over");
                }
                let uids = list.messages.into_iter().map(|m| (m.uid, m.base)).collect();
                Ok(Told::of(list.uid_validity, list.uid_next, uids))
            }),
        };
        let log = match server {
            OldServer::Dovecot => files::read(storage, &dir.join("dovecot.index.log"))?,
            OldServer::Courier => None,
        };
        let modseq = log.and_then(|bytes| modseq::at_most(&bytes)).unwrap_or(0);
        let told = told.map(|told| Told { modseq, ..told });
        told.map(Some).map_err(|bad| Error::Corrupt {
            path,
            expected: bad.expected,
            found: format!("line {}: {}", bad.line, bad.found),
        })
    }

    /// The newest of the old servers' files in a directory.
    pub(super) fn newest(storage: &dyn Storage, dir: &Path) -> Result<Option<OldServer>> {
        let now = stamps(storage, dir)?;
        let time = |server: &OldServer| match server {
            OldServer::Courier => now.courier.map(|stamp| stamp.mtime_ns()),
            OldServer::Dovecot => now.dovecot.map(|stamp| stamp.mtime_ns()),
        };
        let there = OldServer::ALL.into_iter().filter(|server| time(server).is_some());
        Ok(there.max_by_key(|server| time(server)))
    }
}

/// How the old servers' files of a mailbox are now.
pub(super) fn stamps(storage: &dyn Storage, dir: &Path) -> Result<Memory> {
    let of = |name: &str| stamp(storage, &dir.join(name));
    Ok(Memory {
        courier: of(OldServer::Courier.uids_name())?,
        courier_keywords: of(KEYWORDS_DIR)?,
        dovecot: of(OldServer::Dovecot.uids_name())?,
        ..Memory::default()
    })
}

impl UserInner {
    /// What the old server did with a mailbox since we last looked. Under the `changes` lock, once
    /// for each opened mailbox, before anybody else has it.
    ///
    /// # Errors
    /// Files that cannot be read or written now: nobody gets the mailbox, whose messages might get
    /// other UIDs than the old server gave them, and the next use looks again. What is damaged is no
    /// error: see the rules.
    pub(crate) fn look_at_old_server(
        self: &Arc<Self>,
        name: &str,
        mailbox: &Mailbox,
    ) -> Result<()> {
        let inner = &mailbox.0;
        if inner.looked.load(Ordering::Acquire) {
            return Ok(());
        }
        // Recovery may have opened it before it met the frame that changed it.
        let entry = self.namespace.load().mailboxes.get(name).map(|entry| entry.uid_validity);
        if let Some(uid_validity) = entry.filter(|told| *told != inner.uid_validity()) {
            inner.set_uid_validity(uid_validity);
        }
        let place = inner.place.read().clone();
        if place.partition.layout.kind() != LayoutKind::Maildir {
            inner.looked.store(true, Ordering::Release);
            return Ok(());
        }
        let looked = self.look_at_list(inner.id, &place.dir);
        looked.and_then(|()| self.look(name, inner, &place.dir)).inspect_err(|error| {
            tracing::error!(user = self.name, mailbox = name, %error, "cannot take over what an old server left: it is tried again");
        })?;
        inner.looked.store(true, Ordering::Release);
        Ok(())
    }

    fn look(self: &Arc<Self>, name: &str, inner: &Arc<MailboxInner>, dir: &Path) -> Result<()> {
        let storage = &*self.shared.storage;
        let now = stamps(storage, dir)?;
        let known = Memory::read(&self.shared, dir, OF_MAILBOX)?;
        let promised = known.as_ref().map_or(0, |known| known.promised);
        // While UIDs are taken over, those that the file gives may be below.
        if !known.as_ref().is_some_and(|known| known.adopting) {
            inner.raise_uid_next(Uid(promised));
        }
        let known = known.filter(|known| !known.is_promise_alone());
        let fresh = inner.files.lock().head.uid_next <= Uid(1);
        // A crash may have come before the checkpoint that would have it.
        if let Some(known) = known.as_ref().filter(|known| !known.adopting) {
            inner.raise_uid_next(Uid(known.uid_next));
        }
        let same = |known: &Memory| {
            let all = |m: &Memory| (m.courier, m.courier_keywords, m.dovecot);
            !known.adopting && all(known) == all(&now)
        };
        match &known {
            None if now == Memory::default() => return Ok(()),
            Some(known) if same(known) => return Ok(()),
            // Served by us since before there was anything to take: its UIDs stay.
            None if !fresh => {
                let known = Memory { promised, ..now };
                return known.write(&self.shared, dir, OF_MAILBOX);
            }
            _ => {}
        }
        let before = known.clone().unwrap_or_default();
        let coming = Memory { adopting: fresh || before.adopting, ..before.clone() };
        coming.write(&self.shared, dir, OF_MAILBOX)?;
        let changed = |server: OldServer| {
            let (known, now) = match server {
                OldServer::Courier => (before.courier, now.courier),
                OldServer::Dovecot => (before.dovecot, now.dovecot),
            };
            now.filter(|_| before.adopting || known != now).map(|stamp: Stamp| stamp.mtime_ns())
        };
        let server = OldServer::ALL.into_iter().filter(|s| changed(*s).is_some());
        let server = server.max_by_key(|s| changed(*s));
        if let Some(server) = server {
            self.take_uids(name, inner, dir, server, (fresh, Uid(promised)))?;
        } else {
            inner.raise_uid_next(Uid(promised));
            inner.rescan_blocking()?;
        }
        if now.courier_keywords != before.courier_keywords || coming.adopting {
            inner.take_courier_keywords(dir)?;
        }
        let uid_next = inner.view().uid_next().0;
        Memory { uid_next, ..now }.write(&self.shared, dir, OF_MAILBOX)
    }

    /// Messages with the UIDs that the old server gave them.
    fn take_uids(
        self: &Arc<Self>,
        name: &str,
        inner: &Arc<MailboxInner>,
        dir: &Path,
        server: OldServer,
        (fresh, promised): (bool, Uid),
    ) -> Result<()> {
        // Lines that we were adding, of messages whose UIDs the index has.
        let mut told = match Told::read(&*self.shared.storage, dir, server, !fresh) {
            Ok(told) => told.unwrap_or_default(),
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(user = self.name, mailbox = name, %error, "UIDs of an old server are lost");
                if !fresh {
                    self.raise_uid_validity(name, inner, 0)?;
                }
                inner.raise_uid_next(promised);
                return inner.rescan_blocking();
            }
            Err(error) => return Err(error),
        };
        let ours = inner.uid_validity();
        if told.uid_validity != ours.0 {
            tracing::warn!(
                user = self.name,
                mailbox = name,
                ours = ours.0,
                theirs = told.uid_validity,
                "an old server began this mailbox anew: our UIDs stay"
            );
            inner.raise_uid_next(promised);
            return inner.rescan_blocking();
        }
        if let Some(why) = inner.contradiction(&told)? {
            tracing::error!(
                user = self.name,
                mailbox = name,
                why,
                "one UID for two messages: UIDVALIDITY rises"
            );
            self.raise_uid_validity(name, inner, told.uid_validity)?;
            return inner.rescan_blocking();
        }
        // What it does not give UIDs gets them behind those that were told before a crash.
        told.uid_next = told.uid_next.max(promised.0);
        let (uid_next, messages) = (told.uid_next, told.uids.len());
        inner.foreign.lock().told = Some(Arc::new(told));
        let taken = inner.rescan_blocking();
        inner.foreign.lock().told = None;
        taken?;
        inner.raise_uid_next(Uid(uid_next));
        tracing::info!(user = self.name, mailbox = name, ?server, messages, "took over UIDs");
        Ok(())
    }

    /// Gives a mailbox a UIDVALIDITY above ours and theirs.
    fn raise_uid_validity(
        self: &Arc<Self>,
        name: &str,
        inner: &Arc<MailboxInner>,
        theirs: u32,
    ) -> Result<()> {
        {
            let mut last = self.shared.uid_validity_last.lock();
            *last = (*last).max(theirs).max(inner.uid_validity().0);
        }
        let namespace = self.namespace.load_full();
        let entry = namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?;
        let uid_validity: UidValidity = self.shared.uid_validity();
        let frame = Frame::Mailbox {
            user: self.name.clone(),
            name: name.to_owned(),
            partition: entry.partition.clone(),
            uid_validity,
            special_use: SpecialUse::to_bits(&entry.special_use),
        };
        let frames = vec![(entry.id, frame)];
        let lsn = self.commit(&frames)?;
        self.apply(&frames);
        inner.set_uid_validity(uid_validity);
        self.applied(lsn);
        Ok(())
    }
}

/// Whether Courier may have given messages of a mailbox keywords.
pub(crate) fn has_keywords(storage: &dyn Storage, dir: &Path) -> bool {
    courier_keywords(storage, dir).map_or(true, |keywords| !keywords.is_empty())
}

/// Keywords by base name, updates included.
fn courier_keywords(storage: &dyn Storage, dir: &Path) -> Result<BTreeMap<Vec<u8>, Vec<String>>> {
    let dir = dir.join(KEYWORDS_DIR);
    let mut updates = Vec::new();
    let mut each = |name: &[u8], kind: Kind| {
        if kind == Kind::File {
            updates.extend(keywords::update(name));
        }
    };
    match storage.list(&dir, &mut each) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other.map_err(Error::io("list", &dir))?,
    }
    let bad = |path: &Path, error: foreign::lines::BadLine| {
        tracing::error!(path = %path.display(), %error, "keywords are passed over");
    };
    let path = dir.join(LIST_NAME);
    let list = files::read(storage, &path)?.unwrap_or_default();
    let list = List::read(&list).inspect_err(|e| bad(&path, e.clone())).unwrap_or_default();
    let mut messages = list.messages;
    for (base, update) in keywords::newest(updates) {
        use std::os::unix::ffi::OsStrExt;
        let path = dir.join(std::ffi::OsStr::from_bytes(&update.file));
        let Some(bytes) = files::read(storage, &path)? else { continue };
        match keywords::read_update(&bytes) {
            Ok(words) if words.is_empty() => drop(messages.remove(&base)),
            Ok(words) => drop(messages.insert(base, words)),
            Err(error) => bad(&path, error),
        }
    }
    Ok(messages)
}

impl MailboxInner {
    /// Why the old server's UIDs and ours cannot be under one UIDVALIDITY.
    fn contradiction(&self, told: &Told) -> Result<Option<String>> {
        let files = self.files.lock();
        let names = files.names()?;
        let mut known = BTreeSet::new();
        for position in 0..files.head.count {
            let base = names.of(position).0;
            if base.is_empty() {
                continue;
            }
            let ours = files.record(position).uid.0;
            let theirs = told.uid(base);
            if files.is_tombstone(position) && theirs.is_some_and(|theirs| theirs != ours) {
                // Another message of that name.
                continue;
            }
            if !files.is_tombstone(position) && theirs.is_some_and(|theirs| theirs != ours) {
                let name = base.escape_ascii();
                return Ok(Some(format!("{name} has UID {ours} and by the file {theirs:?}")));
            }
            known.insert(base.to_vec());
        }
        let next = files.head.uid_next.0;
        if next <= 1 {
            return Ok(None);
        }
        let place = self.place.read().clone();
        let mut why = None;
        let mut each = |file: crate::layout::Found| {
            if let Some(uid) = told.uid(&file.base).filter(|uid| *uid < next)
                && !known.contains(&file.base)
            {
                let name = file.base.escape_ascii();
                why = Some(format!("{name} has UID {uid}, and we gave those below {next}"));
            }
        };
        let (storage, layout) = (&*self.shared.storage, &place.partition.layout);
        let listed = layout.list(storage, &place.dir, false, &mut each);
        listed.map_err(Error::io("list", &place.dir))?;
        Ok(why)
    }

    /// UIDNEXT is at least this: the old server may have given and removed UIDs that no message has.
    fn raise_uid_next(self: &Arc<Self>, next: Uid) {
        let mut files = self.files.lock();
        let mut state = self.state.lock();
        state.uid_next = state.uid_next.max(next);
        if files.head.uid_next < next {
            files.head.uid_next = next;
            drop(state);
            self.publish(&files);
            self.mark_dirty();
        }
    }

    pub(crate) fn set_uid_validity(self: &Arc<Self>, uid_validity: UidValidity) {
        let mut files = self.files.lock();
        files.head.uid_validity = uid_validity;
        self.uid_validity.store(uid_validity.0, Ordering::Release);
        self.publish(&files);
        self.mark_dirty();
    }

    /// Courier's keywords, against what they were when we last looked or wrote.
    pub(super) fn take_courier_keywords(self: &Arc<Self>, dir: &Path) -> Result<()> {
        let storage = &*self.shared.storage;
        let theirs = courier_keywords(storage, dir)?;
        let base = files::read(storage, &dir.join(KEYWORDS_NAME))?;
        let base = base.and_then(|bytes| List::read(&bytes).ok()).unwrap_or_default();
        self.merge_keywords(&base.messages, &theirs)?;
        let theirs = List { messages: theirs };
        files::update(&self.shared, dir, &dir.join(KEYWORDS_NAME), &theirs.write()).map(drop)
    }

    /// Changes keywords as another server did: between `base` and `theirs`, by base name.
    fn merge_keywords(
        self: &Arc<Self>,
        base: &BTreeMap<Vec<u8>, Vec<String>>,
        theirs: &BTreeMap<Vec<u8>, Vec<String>>,
    ) -> Result<()> {
        let mut wanted: Vec<(Uid, Vec<Keyword>, Vec<Keyword>)> = Vec::new();
        {
            let files = self.files.lock();
            let names = files.names()?;
            let words = |of: &BTreeMap<Vec<u8>, Vec<String>>, name: &[u8]| -> Vec<Keyword> {
                of.get(name).into_iter().flatten().filter_map(|word| Keyword::new(word)).collect()
            };
            for position in (0..files.head.count).filter(|p| !files.is_tombstone(*p)) {
                let name = names.of(position).0;
                let (before, now) = (words(base, name), words(theirs, name));
                let less = |all: &[Keyword], not: &[Keyword]| -> Vec<Keyword> {
                    all.iter().filter(|word| !not.contains(word)).cloned().collect()
                };
                let (add, remove) = (less(&now, &before), less(&before, &now));
                if !add.is_empty() || !remove.is_empty() {
                    wanted.push((files.record(position).uid, add, remove));
                }
            }
        }
        for part in wanted.chunks(CHANGES_MAX) {
            let heard = {
                let mut state = self.open_state()?;
                let view = self.view();
                let mut changes: Vec<FlagChange> = Vec::new();
                for (uid, add, remove) in part {
                    let Some(now) = state.current(&view, *uid) else { continue };
                    let add = state.known_keyword_bits(add);
                    let bits = now.keywords & !state.keyword_bits(remove, false)? | add;
                    if bits != now.keywords {
                        changes.push(state.flag_change(*uid, &now, now.flags, bits));
                    }
                }
                if changes.is_empty() {
                    continue;
                }
                let modseq = state.take_modseq();
                let bits = changes.iter().fold(0, |bits, change| bits | change.keywords);
                let mut frames =
                    vec![(Frame::Flags { modseq, changes: changes.clone() }, Vec::new())];
                state.name_bits(bits, &mut frames);
                let (_, heard) = self.push_frames(&mut state, frames, 0)?;
                state.will_have(&changes, modseq);
                heard
            };
            self.shared.wait_blocking(heard)?;
        }
        Ok(())
    }
}

impl Namespace {
    /// The UIDVALIDITY that the old server's files give a mailbox in this directory.
    ///
    /// # Errors
    /// A file that cannot be read now; one that is damaged gives none.
    pub(crate) fn told_validity(storage: &dyn Storage, dir: &Path) -> Result<Option<UidValidity>> {
        let Some(server) = Told::newest(storage, dir)? else { return Ok(None) };
        match Told::read(storage, dir, server, false) {
            Ok(told) => Ok(told.map(|told| UidValidity(told.uid_validity))),
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(dir = %dir.display(), %error, "UIDs of an old server are lost: a new UIDVALIDITY");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
