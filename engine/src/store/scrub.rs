//! Scrub: reads every message and every record about it, at a bounded rate, while the store serves.
//!
//! What is compared: index header slots and records with their checksums and order, facts, names
//! in the heap, cache blobs, and of every message file its size and its content id (BLAKE3-128 of
//! the served bytes). The files of a mailbox are looked at in its file lock for a moment at a
//! time; message files are read without it.
//!
//! The position is kept in `scrub.json` of the state directory, so that a scrub that was stopped
//! goes on where it was; it is removed at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::types::Uid;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::format::index::Record;
use crate::io::Open;
use crate::layout::LayoutKind;
use crate::mailbox::Mailbox;
use crate::mailbox::apply::scan_file;
use crate::shared::Shared;

/// How often progress is told and the position kept.
const TELL: Duration = Duration::from_secs(1);
/// Where the position is kept, in the state directory.
const NAME: &str = "scrub.json";
/// A message that moved while it was looked at is looked for so often.
const LOOKS: usize = 3;

/// What a scrub is to do.
#[derive(Clone, Debug, Default)]
pub struct ScrubOptions {
    /// Only this user's mailboxes.
    pub user: Option<String>,
    /// Only mailboxes of this name.
    pub mailbox: Option<String>,
    /// Bytes of messages read in a second, at most; `None`: as fast as they come.
    pub rate_bytes: Option<u64>,
    /// Go on where the last one with the same choice was stopped.
    pub resume: bool,
    /// Mend what can be mended.
    pub repair: bool,
}

/// How far a scrub is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubProgress {
    /// Mailboxes done.
    pub mailboxes: u64,
    /// Mailboxes to be done.
    pub mailboxes_total: u64,
    /// Messages read.
    pub messages: u64,
    /// Their octets.
    pub bytes: u64,
    /// Damage found.
    pub damaged: u64,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// How far it came.
    pub progress: ScrubProgress,
    /// Damage that is there, a line each: user, mailbox, path or record, what is wrong.
    pub damaged: Vec<String>,
    /// Damage that was mended, likewise.
    pub mended: Vec<String>,
    /// Whether it was told to stop before the end.
    pub stopped: bool,
}

/// Where a scrub is: everything before is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    only_user: Option<String>,
    only_mailbox: Option<String>,
    user: String,
    mailbox: String,
    uid: u32,
}

struct Scrub<'a> {
    shared: &'a Arc<Shared>,
    options: &'a ScrubOptions,
    tell: Box<dyn FnMut(&ScrubProgress) -> bool + Send>,
    report: ScrubReport,
    began: Instant,
    told: Instant,
    position: Position,
}

/// Runs a scrub to its end, or until `tell` says no.
pub(super) fn scrub(
    shared: &Arc<Shared>,
    options: &ScrubOptions,
    tell: Box<dyn FnMut(&ScrubProgress) -> bool + Send>,
) -> Result<ScrubReport> {
    let position = Position {
        only_user: options.user.clone(),
        only_mailbox: options.mailbox.clone(),
        ..Position::default()
    };
    let from = if options.resume { kept(shared).filter(|p| same(p, &position)) } else { None };
    let (report, now) = (ScrubReport::default(), Instant::now());
    let mut scrub = Scrub { shared, options, tell, report, began: now, told: now, position };
    scrub.run(from)?;
    Ok(scrub.report)
}

fn same(a: &Position, b: &Position) -> bool {
    (&a.only_user, &a.only_mailbox) == (&b.only_user, &b.only_mailbox)
}

fn kept(shared: &Shared) -> Option<Position> {
    let file = shared.storage.open(&shared.config.state_dir.join(NAME), Open::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.size().ok()?).ok()?.min(1 << 20)];
    file.read_exact_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(&bytes).ok()
}

impl Scrub<'_> {
    fn run(&mut self, from: Option<Position>) -> Result<()> {
        let users = match &self.options.user {
            Some(user) => vec![user.clone()],
            None => self.shared.all_users()?,
        };
        let mut todo = Vec::new();
        for name in users {
            match self.shared.known_user(&name) {
                Ok(user) => {
                    let namespace = user.namespace.load_full();
                    let wanted =
                        |m: &&String| self.options.mailbox.as_ref().is_none_or(|w| w == *m);
                    let names = namespace.mailboxes.keys().filter(wanted);
                    todo.extend(names.map(|mailbox| (user.clone(), mailbox.clone())));
                }
                Err(error) => self.damage(format!("user {name}: {error}")),
            }
        }
        self.report.progress.mailboxes_total = todo.len() as u64;
        for (user, mailbox) in todo {
            let here = (user.name.as_str(), mailbox.as_str());
            let mut uid_first = 0;
            if let Some(from) = &from {
                let there = (from.user.as_str(), from.mailbox.as_str());
                if here < there {
                    self.report.progress.mailboxes += 1;
                    continue;
                }
                uid_first = if here == there { from.uid } else { 0 };
            }
            (self.position.user, self.position.mailbox) = (user.name.clone(), mailbox.clone());
            self.position.uid = uid_first;
            let shown = format!("{} {mailbox}", user.name);
            match user.open(&mailbox) {
                Ok(open) => self.mailbox(&shown, &open, uid_first)?,
                Err(Error::NoSuchMailbox) => {}
                // A mailbox that cannot be read costs itself.
                Err(error) => self.damage(format!("{shown}: {error}")),
            }
            if self.report.stopped {
                return Ok(());
            }
            self.report.progress.mailboxes += 1;
        }
        let _ = self.shared.storage.unlink(&self.shared.config.state_dir.join(NAME));
        let _ = (self.tell)(&self.report.progress);
        Ok(())
    }

    fn damage(&mut self, line: String) {
        tracing::error!("scrub: {line}");
        self.report.damaged.push(line);
        self.report.progress.damaged += 1;
    }

    /// Keeps the rate; tells progress and keeps the position about once a second.
    fn pace(&mut self) {
        if let Some(rate) = self.options.rate_bytes.filter(|rate| *rate > 0) {
            let due = Duration::from_secs_f64(self.report.progress.bytes as f64 / rate as f64);
            while let Some(early) = due.checked_sub(self.began.elapsed()) {
                std::thread::sleep(early.min(TELL));
                self.tell_now();
                if self.report.stopped {
                    return;
                }
            }
        }
        if self.told.elapsed() >= TELL {
            self.tell_now();
        }
    }

    fn tell_now(&mut self) {
        self.told = Instant::now();
        self.keep();
        let closing = self.shared.closing.load(std::sync::atomic::Ordering::Acquire);
        self.report.stopped |= closing || !(self.tell)(&self.report.progress);
    }

    fn keep(&self) {
        let path = self.shared.config.state_dir.join(NAME);
        let fresh = self.shared.config.state_dir.join("scrub.json.new");
        let storage = &*self.shared.storage;
        let text = serde_json::to_vec(&self.position).unwrap_or_default();
        let _ = storage.unlink(&fresh);
        let kept = storage
            .open(&fresh, Open::CreateNew)
            .and_then(|file| file.write_at(&text, 0))
            .and_then(|()| storage.rename(&fresh, &path));
        if let Err(error) = kept {
            tracing::warn!(path = %path.display(), %error, "cannot keep the position of the scrub");
        }
    }

    fn mailbox(&mut self, shown: &str, mailbox: &Mailbox, uid_first: u32) -> Result<()> {
        if uid_first == 0 {
            self.records(shown, mailbox);
        }
        if let Err(error) = self.listing(mailbox) {
            self.damage(format!("{shown}: {error}"));
            return Ok(());
        }
        let mut next = Uid(uid_first);
        loop {
            // A moment in the file lock for each message.
            let record = {
                let files = mailbox.0.files.lock();
                let mut position = files.lower_bound(next);
                while position < files.head.count && files.is_tombstone(position) {
                    position += 1;
                }
                if position >= files.head.count {
                    return Ok(());
                }
                files.record(position)
            };
            next = Uid(record.uid.0.max(next.0).saturating_add(1));
            self.message(shown, mailbox, &record);
            self.position.uid = next.0;
            self.pace();
            if self.report.stopped {
                return Ok(());
            }
        }
    }

    /// Whether the directory can be read at all: else every message of it would be a line.
    fn listing(&self, mailbox: &Mailbox) -> Result<()> {
        let place = mailbox.0.place.read().clone();
        let layout = &place.partition.layout;
        let listed = layout.list(&*self.shared.storage, &place.dir, false, &mut |_| {});
        listed.map_err(Error::io("list", &place.dir))
    }

    /// Index, facts and heap.
    fn records(&mut self, shown: &str, mailbox: &Mailbox) {
        let mut lines = Vec::new();
        let mut healing = None;
        {
            let mut files = mailbox.0.files.lock();
            lines.extend(files.damaged_headers());
            if self.options.repair {
                healing = Some(mailbox.0.heal_files(&mut files, true));
                if !lines.is_empty() {
                    mailbox.0.mark_dirty();
                    match files.mend_headers(self.shared) {
                        Ok(()) => self.report.mended.append(&mut lines),
                        Err(error) => lines.push(error.to_string()),
                    }
                }
            } else {
                lines.extend(files.damaged_records());
            }
        }
        if let Some(healing) = healing {
            self.report.mended.extend(healing.mended.iter().map(|l| format!("{shown}: {l}")));
            lines.extend(healing.left);
        }
        lines.into_iter().for_each(|line| self.damage(format!("{shown}: {line}")));
    }

    fn message(&mut self, shown: &str, mailbox: &Mailbox, record: &Record) {
        let uid = record.uid;
        let mut looked = Err("no look at it".to_owned());
        for look in 0..LOOKS {
            looked = self.look(mailbox, record);
            // Renamed or removed meanwhile, by us or by another program.
            let gone = mailbox.0.view().record_of(uid).is_none();
            if looked.is_ok() || gone {
                break;
            }
            if look == 0 {
                // What it cannot look at is looked for where it was.
                let _ = mailbox.0.rescan_blocking();
            }
        }
        if mailbox.0.view().record_of(uid).is_none() && !mailbox.0.view().met_damage() {
            return;
        }
        self.report.progress.messages += 1;
        match looked {
            Ok(bytes) => self.report.progress.bytes += bytes,
            Err(line) => self.damage(format!("{shown}: UID {uid}: {line}")),
        }
    }

    /// Reads a message and compares; gives its octets, or what is wrong.
    fn look(&mut self, mailbox: &Mailbox, record: &Record) -> Result<u64, String> {
        let place = mailbox.0.place.read().clone();
        let layout = &place.partition.layout;
        let (at, facts) = {
            let files = mailbox.0.files.lock();
            let position = files.position_of(record.uid);
            let position = position.ok_or_else(|| "its index record is damaged".to_owned())?;
            (files.location(position), files.facts(position))
        };
        let facts = facts.ok_or_else(|| "its facts are damaged".to_owned())?;
        let at = at.ok_or_else(|| "its name is damaged".to_owned())?;
        let path = layout.path(&place.dir, &at);
        let path_shown = path.display();
        let kind: LayoutKind = layout.kind();
        let found = scan_file(&*self.shared.storage, &path, kind).map_err(|e| e.to_string())?;
        if found.stored != facts.stored.get() {
            let (has, says) = (found.stored, facts.stored);
            return Err(format!("{path_shown}: {has} octets, stored were {says}"));
        }
        if found.content_id != facts.content_id {
            return Err(format!("{path_shown}: content differs from its content id"));
        }
        if found.size != record.size || found.header_size != record.header_size {
            return Err(format!("{path_shown}: sizes differ from the index"));
        }
        let view = mailbox.0.view();
        if record.cache_len > 0 && view.extras_verified(record).is_none_or(|e| e != found.extras) {
            let line = format!("cursus.cache: damaged blob at {}", record.cache_offset);
            if !self.options.repair {
                return Err(line);
            }
            mailbox.0.cache_again(record.uid, &found.extras);
            let line =
                format!("cursus.cache UID {}: damaged blob, mended from the file", record.uid);
            self.shared.mendings.mended(&place.dir, &line);
            self.report.mended.push(format!("{}: {line}", place.dir.display()));
        }
        Ok(u64::from(found.stored))
    }
}
