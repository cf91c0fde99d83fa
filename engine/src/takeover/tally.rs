//! `maildirsize` while we serve: what our changes add and take is a line each, as every other agent
//! writes it, and what others added counts before the index knows of it.
//!
//! The file is kept where it is, and where an old server's files are kept up to date
//! ([`crate::StoreConfig::hand_back`]) and the user has limits. Rules of Maildir++:
//!
//! - A line is one write to a file opened for appending, no lock.
//! - The file is calculated anew, under a temporary name, when it has grown past 5120 bytes, says
//!   nothing that can be read, is gone, or says that the user is over the limits and may be old.
//!   Directories that changed meanwhile make the result worthless: it is done again, and at last the
//!   file is removed for the next agent to make.
//! - Messages marked as deleted count for nothing, nor those of folders named `Trash`. Dovecot
//!   counts them, and where it alone is the old server so do we.
//!
//! Invariants: `known` changes with the index, under its mailbox's file lock, so that a message is
//! in it or in the difference to the file and not in both. A batch of changes that a calculation ran
//! into writes no line, since nobody knows whether the calculation saw them: another one follows.
//! What a crash may have kept from the file is made good by a calculation at the user's next use.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foreign::maildirsize::{Definition, FILE_BYTES_MAX, Maildirsize, delta};
use parking_lot::Mutex;
use protocol::types::SystemFlags;

use super::memory::{Memory, OF_ACCOUNT};
use super::{OldServer, files};
use crate::error::{Error, Result};
use crate::format::frame::{FlagChange, Frame};
use crate::ids::MailboxId;
use crate::io::Storage;
use crate::layout::LayoutKind;
use crate::layout::maildir::sizes_in_name;
use crate::mailbox::files::Files;
use crate::namespace::INBOX;
use crate::quota::QuotaLimits;
use crate::shared::Shared;
use crate::user::{User, UserInner};

/// Name of the file, in a user's main Maildir.
pub(super) const NAME: &str = "maildirsize";
/// A file of this age is not believed when it says that a user is over the limits.
const STALE_NS: i64 = 15 * 60 * 1_000_000_000;

/// Octets as stored, and messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) bytes: i64,
    pub(super) messages: i64,
}

impl Sum {
    pub(super) fn plus(self, more: Sum) -> Sum {
        let bytes = self.bytes.saturating_add(more.bytes);
        Sum { bytes, messages: self.messages.saturating_add(more.messages) }
    }

    fn less(self, other: Sum) -> Sum {
        self.plus(Sum { bytes: other.bytes.saturating_neg(), messages: -other.messages })
    }
}

/// What one batch of changes to a mailbox means for the file.
#[derive(Debug, Default)]
pub(crate) struct Tallied {
    /// The calculation that the file had when the batch began; `None`: nothing is counted.
    began: Option<u64>,
    /// Also what is marked as deleted.
    all: bool,
    ours: Sum,
    /// Whoever did it wrote the line.
    theirs: Sum,
}

impl Tallied {
    /// A message with these flags came (1) or went (-1).
    pub(crate) fn count(&mut self, sign: i64, stored: u64, flags: SystemFlags, theirs: bool) {
        if self.began.is_none() || !self.all && flags.contains(SystemFlags::DELETED) {
            return;
        }
        let bytes = i64::try_from(stored).unwrap_or(i64::MAX).saturating_mul(sign);
        let side = if theirs { &mut self.theirs } else { &mut self.ours };
        *side = side.plus(Sum { bytes, messages: sign });
    }

    /// Flags are about to change so.
    pub(crate) fn mark(&mut self, files: &Files, changes: &[FlagChange], theirs: bool) {
        if self.began.is_none() || self.all {
            return;
        }
        for change in changes {
            let Some(position) = files.position_of(change.uid) else { continue };
            let record = files.record(position);
            let is = |flags: SystemFlags| flags.contains(SystemFlags::DELETED);
            if record.expunged || is(record.flags) == is(change.flags) {
                continue;
            }
            let sign = if is(record.flags) { 1 } else { -1 };
            let stored = stored_of(files, position);
            self.count(sign, stored, SystemFlags::empty(), theirs);
        }
    }

    /// These tombstones were messages before.
    pub(crate) fn expunged(&mut self, files: &Files, dead: &[usize], theirs: bool) {
        if self.began.is_none() {
            return;
        }
        for &position in dead {
            self.count(-1, stored_of(files, position), files.record(position).flags, theirs);
        }
    }
}

/// Octets that agents count for a message: those that its name tells, else the file's.
fn stored_of(files: &Files, position: usize) -> u64 {
    let named = files.location(position).and_then(|at| sizes_in_name(&at.base).stored);
    named.unwrap_or_else(|| files.facts(position).map_or(0, |facts| facts.stored.get().into()))
}

/// The same of a name and a size as found.
pub(crate) fn counted_size(base: &[u8], stored: u32) -> u64 {
    sizes_in_name(base).stored.unwrap_or(stored.into())
}

/// A user's `maildirsize`.
#[derive(Default)]
pub(crate) struct Tally {
    on: AtomicBool,
    pub(super) state: Mutex<State>,
    /// What the file has beyond `known`: other programs' deliveries that the index lacks.
    ahead_bytes: AtomicU64,
    ahead_messages: AtomicU64,
    /// One calculation at a time.
    pub(super) calculating: Mutex<()>,
}

#[derive(Default)]
pub(super) struct State {
    user: String,
    main: PathBuf,
    pub(super) all: bool,
    /// What the index knows of what the file counts.
    pub(super) known: Sum,
    /// Rises at the beginning and the end of each calculation.
    pub(super) generation: u64,
    pub(super) under_way: bool,
    /// Changes came that the calculation may have seen or not.
    pub(super) spoiled: bool,
    /// Mailboxes came or went since the last calculation: `known` is to be taken from it.
    pub(super) renamed: bool,
    pub(super) definition: Definition,
}

impl State {
    fn path(&self) -> PathBuf {
        self.main.join(NAME)
    }
}

impl Tally {
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// What others delivered and the index does not know yet, octets and messages.
    pub(crate) fn ahead(&self) -> (u64, u64) {
        (self.ahead_bytes.load(Ordering::Acquire), self.ahead_messages.load(Ordering::Acquire))
    }

    /// Before a batch of changes to a mailbox in `dir` is applied.
    pub(crate) fn begin(&self, dir: &Path, is_copy: bool) -> Tallied {
        if !self.is_on() {
            return Tallied::default();
        }
        let state = self.state.lock();
        let counts = dir.starts_with(&state.main) && (state.all || !is_trash(dir)) && !is_copy;
        Tallied { began: counts.then_some(state.generation), all: state.all, ..Default::default() }
    }

    /// After it is applied, under the mailbox's file lock.
    pub(crate) fn finish(&self, shared: &Shared, done: Tallied) {
        let Some(began) = done.began else { return };
        if (done.ours, done.theirs) == (Sum::default(), Sum::default()) {
            return;
        }
        let mut state = self.state.lock();
        state.known = state.known.plus(done.ours).plus(done.theirs);
        if state.under_way || state.generation != began {
            state.spoiled = true;
            shared.tend_tally(&state.user);
            return;
        }
        if done.ours != Sum::default() {
            let line = delta(done.ours.bytes, done.ours.messages);
            if let Err(error) = shared.storage.append(&state.path(), &line) {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(path = %state.path().display(), %error, "cannot write a quota's line");
                }
                shared.tend_tally(&state.user);
                return;
            }
        }
        if let Read::Bad = self.read(&*shared.storage, &state) {
            shared.tend_tally(&state.user);
        }
    }

    /// Reads the file and notes what it has that we do not know.
    fn read(&self, storage: &dyn Storage, state: &State) -> Read {
        let bytes = match files::read(storage, &state.path()) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Read::Gone,
            Err(_) => return Read::Bad,
        };
        let Ok(file) = Maildirsize::read(&bytes) else { return Read::Bad };
        self.note(state, Sum { bytes: file.bytes, messages: file.messages });
        match bytes.len() < FILE_BYTES_MAX && file.lines > 0 && file.definition == state.definition
        {
            true => Read::Good(file),
            false => Read::Bad,
        }
    }

    pub(super) fn note(&self, state: &State, sum: Sum) {
        let ahead = sum.less(state.known);
        self.ahead_bytes.store(ahead.bytes.max(0) as u64, Ordering::Release);
        self.ahead_messages.store(ahead.messages.max(0) as u64, Ordering::Release);
    }

    fn turn_off(&self) {
        self.on.store(false, Ordering::Release);
        self.ahead_bytes.store(0, Ordering::Release);
        self.ahead_messages.store(0, Ordering::Release);
    }
}

/// How the file is.
enum Read {
    Good(Maildirsize),
    /// To be looked at: it is long, says nothing, or has another definition.
    Bad,
    Gone,
}

/// Whether agents leave a folder out of the sum.
pub(super) fn is_trash(dir: &Path) -> bool {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned());
    name.is_some_and(|name| name.ends_with(".Trash"))
}

impl QuotaLimits {
    fn definition(&self) -> Definition {
        Definition {
            bytes: self.bytes.filter(|n| *n > 0),
            messages: self.messages.filter(|n| *n > 0),
        }
    }
}

impl Shared {
    /// Has somebody who may take his time look after a user's `maildirsize`.
    pub(super) fn tend_tally(&self, user: &str) {
        self.hand_back.tallies().lock().insert(user.to_owned());
    }

    /// Looks after those that ask for it.
    pub(super) fn tend_tallies(self: &Arc<Self>) {
        let due: BTreeSet<String> = std::mem::take(&mut *self.hand_back.tallies().lock());
        for name in due {
            let Some(user) = self.users.lock().get(&name).cloned() else { continue };
            // Who changes something may wait for a checkpoint, which the caller makes, too.
            let Some(_one_at_a_time) = user.changes.try_lock() else {
                self.tend_tally(&name);
                continue;
            };
            if let Err(error) = user.tend_maildirsize(true, true) {
                tracing::error!(user = name, %error, "cannot keep maildirsize up to date");
            }
        }
    }
}

impl User {
    /// Sees what other programs made of the user's `maildirsize`: deliveries, another definition.
    /// Where none was known this costs a look into memory, or at the file with `thorough`. What
    /// cannot be read is named in the log, and the index counts.
    pub async fn look_at_maildirsize(&self, thorough: bool) {
        if self.0.ledger.tally.is_on() || thorough {
            self.tend_maildirsize(true).await;
        }
    }

    /// Whether the user's INBOX is a Maildir.
    pub(crate) fn is_in_maildir(&self) -> bool {
        let namespace = self.0.namespace.load();
        let partition = self.0.shared.partition(&namespace.partition);
        partition.is_ok_and(|partition| partition.layout.kind() == LayoutKind::Maildir)
    }

    /// `serving`: changes may be under way.
    pub(crate) async fn tend_maildirsize(&self, serving: bool) {
        let user = self.0.clone();
        let job = move || {
            let _one_at_a_time = user.changes.lock();
            user.tend_maildirsize(false, serving)
        };
        // A job that panicked has said so.
        if let Ok(Err(error)) = self.0.shared.helpers.run(job).await {
            tracing::error!(user = self.0.name, %error, "cannot look at maildirsize");
        }
    }
}

impl UserInner {
    /// Where the user's `maildirsize` is; `None` for mailboxes that do not lie in a Maildir.
    fn main_maildir(&self) -> Result<Option<PathBuf>> {
        let namespace = self.namespace.load();
        let partition = self.shared.partition(&namespace.partition)?;
        if partition.layout.kind() != LayoutKind::Maildir || !self.has_begun() {
            return Ok(None);
        }
        self.dir_of(partition, INBOX).map(Some)
    }

    /// Brings `maildirsize` and what we know of it up to date. Under the `changes` lock. `due`: its
    /// lines do not tell everything. `serving`: changes may be under way.
    pub(crate) fn tend_maildirsize(self: &Arc<Self>, due: bool, serving: bool) -> Result<()> {
        let Some(main) = self.main_maildir()? else { return Ok(()) };
        let (storage, tally) = (&*self.shared.storage, &self.ledger.tally);
        let bytes = files::read(storage, &main.join(NAME))?;
        if bytes.is_none() && !tally.is_on() {
            // Whoever removed it wants it made again.
            let kept = Memory::read(&self.shared, &main, OF_ACCOUNT)?.and_then(|m| m.quota);
            let limited = self.own_limits().definition() != Definition::default();
            if kept.is_none() || !limited {
                return Ok(());
            }
        }
        let mut due = due;
        if !tally.is_on() {
            self.begin_tally(&main, bytes.as_deref().unwrap_or_default());
            // Changes that are under way write no line.
            due |= serving;
        }
        if let Some(bytes) = &bytes {
            self.compare_definition(&main, bytes)?;
        }
        let limits = self.own_limits();
        if limits.definition() == Definition::default() {
            // Whoever took the limits away has no use for sums; and what nobody can read, with no
            // limits of ours, is nobody's business.
            if bytes.is_none_or(|bytes| Maildirsize::read(&bytes).is_err()) {
                tally.turn_off();
                return Ok(());
            }
        }
        let read = {
            let mut state = tally.state.lock();
            let definition = limits.definition();
            due |= state.definition != definition;
            state.definition = definition;
            tally.read(storage, &state)
        };
        due |= match read {
            Read::Good(file) => {
                let over = |used: i64, limit: Option<u64>| {
                    limit.is_some_and(|limit| used.max(0) as u64 > limit)
                };
                let is_over = over(file.bytes, file.definition.bytes)
                    || over(file.messages, file.definition.messages);
                let age = || {
                    let stat = storage.stat_fresh(&main.join(NAME)).ok();
                    stat.map_or(0, |stat| storage.now_ns() - stat.mtime_ns)
                };
                is_over && (file.lines > 1 || age() > STALE_NS)
            }
            Read::Bad | Read::Gone => true,
        };
        if due {
            self.calculate(&main)?;
        }
        Ok(())
    }

    /// The limits of the user's own root as of now.
    fn own_limits(&self) -> QuotaLimits {
        self.ledger.own_limits()
    }

    /// From now on changes are told in the file.
    fn begin_tally(&self, main: &Path, bytes: &[u8]) {
        let tally = &self.ledger.tally;
        let file = Maildirsize::read(bytes).unwrap_or_default();
        let servers = &self.shared.config.hand_back;
        let mut state = tally.state.lock();
        state.user = self.name.clone();
        state.main = main.to_owned();
        state.all = **servers == [OldServer::Dovecot];
        state.known = self.known_of(Sum { bytes: file.bytes, messages: file.messages });
        state.definition = file.definition;
        tally.note(&state, Sum { bytes: file.bytes, messages: file.messages });
        tally.on.store(true, Ordering::Release);
    }

    /// How much of what the file counts is in the index: an estimate, since served octets are a
    /// little more than stored ones, and not all messages count for the file.
    pub(super) fn known_of(&self, sum: Sum) -> Sum {
        let used = self.ledger.all();
        let at_most = |sum: i64, used: u64| sum.max(0).min(i64::try_from(used).unwrap_or(i64::MAX));
        Sum {
            bytes: at_most(sum.bytes, used.bytes),
            messages: at_most(sum.messages, used.messages),
        }
    }

    /// A definition that another program put there becomes the user's limit, unless one was set
    /// here; else ours is what the file is to say.
    fn compare_definition(self: &Arc<Self>, main: &Path, bytes: &[u8]) -> Result<()> {
        let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        // What says nothing is calculated anew with ours.
        let Ok(theirs) = Definition::read(first) else { return Ok(()) };
        let mut memory = Memory::read(&self.shared, main, OF_ACCOUNT)?.unwrap_or_default();
        let known = memory.quota.as_deref().and_then(|t| Definition::read(t.as_bytes()).ok());
        if known != Some(theirs) {
            let here = self.namespace.load().quota;
            let is_theirs = match here {
                None => self.own_limits().definition() == Definition::default(),
                Some(_) => known.is_some() && !memory.quota_here,
            };
            if is_theirs && theirs != Definition::default() {
                let (bytes, messages) = (theirs.bytes, theirs.messages);
                let limits = QuotaLimits { bytes, messages, ..here.unwrap_or_default() };
                tracing::info!(user = self.name, quota = theirs.write(), "took over a quota");
                let limits = Some(limits);
                let frames =
                    vec![(MailboxId::default(), Frame::Quota { user: self.name.clone(), limits })];
                let lsn = self.commit(&frames)?;
                self.apply(&frames);
                self.applied(lsn);
                self.limit();
            }
        }
        let now = self.own_limits().definition();
        // A run since then that a crash ended may have left lines out.
        let crashed = known.is_some() && memory.quota_epoch <= self.shared.unclean_epoch;
        if crashed {
            self.calculate(main)?;
        }
        if memory.quota.as_deref() != Some(&now.write()) || crashed {
            memory.quota = Some(now.write());
            memory.quota_epoch = self.shared.owner_epoch;
            memory.write(&self.shared, main, OF_ACCOUNT)?;
        }
        Ok(())
    }

    /// The user's own limits changed here. Under the `changes` lock.
    pub(crate) fn tell_limits(self: &Arc<Self>) -> Result<()> {
        let Some(main) = self.main_maildir()? else { return Ok(()) };
        let tally = &self.ledger.tally;
        let definition = self.own_limits().definition();
        if !tally.is_on() {
            if self.shared.config.hand_back.is_empty() || definition == Definition::default() {
                return Ok(());
            }
            self.begin_tally(&main, &[]);
        }
        let mut memory = Memory::read(&self.shared, &main, OF_ACCOUNT)?.unwrap_or_default();
        memory.quota = Some(definition.write());
        memory.quota_here = self.namespace.load().quota.is_some();
        memory.quota_epoch = self.shared.owner_epoch;
        memory.write(&self.shared, &main, OF_ACCOUNT)?;
        if definition == Definition::default() {
            tally.turn_off();
            let path = main.join(NAME);
            return match self.shared.storage.unlink(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("unlink", path)(e)),
                _ => Ok(()),
            };
        }
        tally.state.lock().definition = definition;
        self.calculate(&main)
    }

    /// Mailboxes came, went or have new names: lines cannot tell that. Under the `changes` lock.
    pub(crate) fn recount_maildirsize(self: &Arc<Self>) {
        if self.ledger.tally.is_on() {
            self.ledger.tally.state.lock().renamed = true;
            self.shared.tend_tally(&self.name);
        }
    }
}
