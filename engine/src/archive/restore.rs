//! A store as it was at a moment: a base backup, and the log replayed over it by recovery's redo.
//!
//! The moment is the last group whose time is not above the one asked for. A restored store keeps
//! its id, UIDVALIDITYs and UIDs; its owner epoch and log epoch are above all that the archive has
//! seen, so that the store that it was made from is fenced off the archive, and what that one had
//! written behind the moment is void from then on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use super::chain::{Chain, GapFound};
use super::format::{
    MAILBOX_FILES, MailboxLine, MessageName, MetadataLine, UserLine, names_in, not_as_expected,
    read_text, time_text,
};
use super::pool::Pool;
use super::verify::{Base, bases, read_lines, store_of};
use crate::catalog::{Batch, Catalog, Meta, Summary, Unsaved, UserChanges};
use crate::config::{Partition, StoreConfig};
use crate::error::{Error, Result};
use crate::format::frame::{Append, Frame};
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::{Open, Storage};
use crate::layout::{LayoutKind, create_durable};
use crate::log::Transaction;
use crate::mailbox::files::Files;
use crate::mapped::Trust;
use crate::namespace::MailboxEntry;
use crate::store::Replay;

/// In a state directory whose restore has not come to its end: no store to start.
pub(crate) const UNFINISHED: &str = "restoring";
/// Bytes of segments that are replayed at a time.
const BATCH_BYTES: u64 = 64 << 20;
/// Users committed to the catalog at a time.
const BATCH_USERS: usize = 10_000;
/// Values of metadata in one commit.
const BATCH_VALUES: usize = 256;
/// What a restored store's epochs are above those of its past, so that the starts of one that
/// goes on all the same stay below.
const EPOCHS_ABOVE: u32 = 1000;

/// What is to be restored.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Backup and archive directories, all of the same store.
    pub from: Vec<PathBuf>,
    /// The moment, microseconds since 1970; absent: the latest there is.
    pub as_of_us: Option<u64>,
    /// Only this user.
    pub user: Option<String>,
    /// Go on where changes are missing.
    pub across_gaps: bool,
}

/// What was restored.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RestoreReport {
    /// End of the base backup used; 0 where there was none.
    pub base_lsn: u64,
    /// The store is as of this LSN.
    pub end_lsn: u64,
    /// Time of the last change in it, microseconds since 1970.
    pub reached_us: u64,
    /// Transactions replayed over the base.
    pub transactions: u64,
    /// Messages of the base.
    pub base_messages: u64,
    /// Messages that are nowhere in the archive, a line each.
    pub missing: Vec<String>,
    /// Gaps that were gone across.
    pub gaps: Vec<GapFound>,
    /// Whether the archive ends before the moment asked for.
    pub archive_ends_before: bool,
}

/// Where redo finds messages that are not in the store.
pub(crate) struct Bodies {
    pools: Vec<Pool>,
    pub(crate) missing: Mutex<Vec<String>>,
    pub(crate) placed: AtomicU64,
    /// Each file by itself: the filesystem cannot be made durable as a whole.
    sync: bool,
}

impl Bodies {
    /// Writes a message to a place in the store. Durable with its filesystem or, where that
    /// cannot be had, at once.
    pub(crate) fn fetch(&self, append: &Append, to: &Path) -> Result<bool> {
        let name = MessageName { content_id: append.content_id, stored: append.stored };
        self.fetch_named(&name, to, append.internal_date)
    }

    fn fetch_named(&self, name: &MessageName, to: &Path, date: i64) -> Result<bool> {
        for pool in &self.pools {
            if pool.fetch(name, to, date, self.sync)? {
                self.placed.fetch_add(1, Ordering::Relaxed);
                return Ok(true);
            }
        }
        self.missing.lock().push(format!("{name} for {}", to.display()));
        Ok(false)
    }
}

/// Which frames are of the user that is restored, if it is only one.
struct Only {
    user: Option<String>,
    mailboxes: HashSet<MailboxId>,
}

impl Only {
    fn takes(&mut self, id: MailboxId, frame: &Frame) -> bool {
        let Some(only) = &self.user else { return true };
        match frame {
            Frame::User { user, .. }
            | Frame::Subscription { user, .. }
            | Frame::Quota { user, .. }
            | Frame::Metadata { user, .. }
            | Frame::Acl { user, .. }
            | Frame::UrlKey { user, .. }
            | Frame::Adopted { user, .. }
            | Frame::MailboxGone { user, .. } => user == only,
            Frame::Mailbox { user, .. } => {
                if user == only {
                    self.mailboxes.insert(id);
                }
                user == only
            }
            _ => self.mailboxes.contains(&id),
        }
    }
}

struct Plan {
    store_id: StoreId,
    base: Option<Base>,
    chain: Chain,
    /// Where replay begins and ends.
    from: Lsn,
    end: Lsn,
    owner_epoch: u32,
    gaps: Vec<GapFound>,
    archive_ends_before: bool,
}

/// The partitions that a restore from these directories needs: names and layouts.
///
/// # Errors
/// What cannot be read; none where there is no backup.
pub fn partitions(storage: &dyn Storage, from: &[PathBuf]) -> Result<Vec<(String, LayoutKind)>> {
    let mut newest: Option<Base> = None;
    for root in from {
        for base in bases(storage, root)? {
            let later = |other: &Base| base.manifest.end_lsn > other.manifest.end_lsn;
            if newest.as_ref().is_none_or(later) {
                newest = Some(base);
            }
        }
    }
    let lines = newest.map(|base| base.manifest.partitions).unwrap_or_default();
    let kind = |layout: &str| match layout {
        "cyrus" => LayoutKind::Cyrus,
        _ => LayoutKind::Maildir,
    };
    Ok(lines.into_iter().map(|line| (line.name, kind(&line.layout))).collect())
}

/// Restores into the empty places that `config` names. Blocks.
pub fn restore(
    config: StoreConfig,
    storage: Arc<dyn Storage>,
    options: &RestoreOptions,
) -> Result<RestoreReport> {
    let plan = plan(&*storage, options)?;
    check_empty(&*storage, &config)?;
    let state_dir = config.state_dir.clone();
    create_durable(&*storage, &state_dir).map_err(Error::io("create", &state_dir))?;
    let mark = state_dir.join(UNFINISHED);
    let marked = storage.open(&mark, Open::Create).and_then(|file| file.sync_all());
    marked.and_then(|()| storage.sync_dir(&state_dir)).map_err(Error::io("create", &mark))?;
    let bodies = Arc::new(Bodies {
        pools: options.from.iter().map(|root| Pool::new(storage.clone(), root)).collect(),
        missing: Mutex::default(),
        placed: AtomicU64::new(0),
        sync: config
            .partitions
            .iter()
            .any(|p| p.path.ancestors().find_map(|dir| syncs(&*storage, dir)) != Some(true)),
    });
    let mut only = Only { user: options.user.clone(), mailboxes: HashSet::new() };
    let lay = Lay { config: &config, storage: &*storage, bodies: &bodies, plan: &plan };
    let base_messages = lay.base(&mut only)?;
    let base_lsn = plan.base.as_ref().map_or(0, |base| base.manifest.end_lsn);
    let mut report = RestoreReport {
        base_lsn,
        base_messages,
        gaps: plan.gaps.clone(),
        archive_ends_before: plan.archive_ends_before,
        ..RestoreReport::default()
    };
    report.reached_us = plan.base.as_ref().map_or(0, |base| base.manifest.consistent_us);
    let replay = Replay::open(config, storage.clone(), bodies.clone())?;
    replay_log(&plan, &replay, &storage, &state_dir, &mut only, &mut report)?;
    report.end_lsn = plan.end.0;
    replay.finish()?;
    if let Some(base) = &plan.base {
        copy_extra(&*storage, base, &state_dir)?;
    }
    storage.unlink(&mark).map_err(Error::io("unlink", &mark))?;
    storage.sync_dir(&state_dir).map_err(Error::io("sync", &state_dir))?;
    report.missing = std::mem::take(&mut *bodies.missing.lock());
    let reached = time_text(report.reached_us);
    tracing::info!(transactions = report.transactions, reached, end = %plan.end, "restored");
    Ok(report)
}

/// Whether the filesystem of a directory can be made durable as a whole; `None`: not there.
fn syncs(storage: &dyn Storage, dir: &Path) -> Option<bool> {
    storage.stat(dir).ok()?;
    Some(storage.sync_filesystem(dir).is_ok())
}

/// Which base, which part of the log; refuses what would not be the store of that moment.
fn plan(storage: &dyn Storage, options: &RestoreOptions) -> Result<Plan> {
    let mut owner_epoch = 0;
    let mut store: Option<StoreId> = None;
    let mut all = Vec::new();
    for root in &options.from {
        let (store_id, owner) = store_of(storage, root)?;
        if store.is_some_and(|store| store != store_id) {
            let found = format!("that of store {store_id}");
            return Err(not_as_expected(root, "an archive of the same store", found));
        }
        store = Some(store_id);
        owner_epoch = owner_epoch.max(owner.owner_epoch);
        all.extend(bases(storage, root)?);
    }
    let Some(store_id) = store else {
        return Err(Error::NotAllowed("no backup or archive was named"));
    };
    let base_logs: Vec<PathBuf> = all.iter().map(|base| base.dir.join("log")).collect();
    let chain = Chain::read(storage, &options.from, &base_logs, store_id)?;
    for line in &chain.damage {
        tracing::error!(damage = line, "the archive is damaged");
    }
    owner_epoch = owner_epoch.max(chain.owner_epoch_max);
    let in_time = |base: &&Base| {
        let m = &base.manifest;
        options.as_of_us.is_none_or(|as_of| m.consistent_us <= as_of)
            && chain.stands(m.epoch, Lsn(m.end_lsn))
    };
    let best = all.iter().filter(in_time).max_by_key(|base| base.manifest.end_lsn);
    let best = best.map(|base| base.dir.clone());
    let earliest = all.iter().map(|base| base.manifest.consistent_us).min();
    let base = best.and_then(|dir| all.into_iter().find(|base| base.dir == dir));
    let from = Lsn(base.as_ref().map_or(0, |base| base.manifest.checkpoint_lsn));
    let whole_from_zero = chain.segments.iter().any(|s| s.durable_lsn == 0);
    if base.is_none() && !whole_from_zero {
        let found = match earliest {
            Some(us) => format!("the first one serves from {} on", time_text(us)),
            None => "none".to_owned(),
        };
        let root = options.from.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
        return Err(not_as_expected(root, "a base backup of before the moment", found));
    }
    let (chain_end, last_us) = chain.end();
    let end = match options.as_of_us {
        Some(as_of) => chain.end_at(storage, as_of, store_id)?,
        None => chain_end,
    };
    let base_end = Lsn(base.as_ref().map_or(0, |base| base.manifest.end_lsn));
    let end = end.max(base_end);
    let archive_ends_before = options.as_of_us.is_some_and(|as_of| as_of > last_us);
    let to = (end < chain_end).then_some(end);
    let gaps = chain.gaps(from, to);
    if let (Some(gap), false) = (gaps.first(), options.across_gaps) {
        let root = options.from.last().map(PathBuf::as_path).unwrap_or(Path::new(""));
        return Err(not_as_expected(root, "every change up to the moment", gap.to_string()));
    }
    Ok(Plan { store_id, base, chain, from, end, owner_epoch, gaps, archive_ends_before })
}

/// A restore does not mix with what is there.
fn check_empty(storage: &dyn Storage, config: &StoreConfig) -> Result<()> {
    let taken = |path: &Path, found: String| Err(not_as_expected(path, "an empty place", found));
    for name in ["catalog.redb", UNFINISHED] {
        let path = config.state_dir.join(name);
        if storage.stat(&path).is_ok() {
            return taken(&path, "a store, or a restore that was cut off".into());
        }
    }
    let partitions = config.partitions.iter().map(|p| &p.path);
    for dir in partitions.chain([&config.log_dir]) {
        if let Some(name) = names_in(storage, dir)?.first() {
            return taken(dir, format!("{name:?}"));
        }
    }
    Ok(())
}

/// Lays the base backup out.
struct Lay<'a> {
    config: &'a StoreConfig,
    storage: &'a dyn Storage,
    bodies: &'a Bodies,
    plan: &'a Plan,
}

impl Lay<'_> {
    /// The catalog and every mailbox of the base; returns the number of messages.
    fn base(&self, only: &mut Only) -> Result<u64> {
        let (config, storage) = (self.config, self.storage);
        let plan = self.plan;
        for partition in &config.partitions {
            let path = &partition.path;
            create_durable(storage, path).map_err(Error::io("create", path))?;
        }
        let (catalog, _) = Catalog::open(storage, &config.state_dir.join("catalog.redb"))?;
        let base = plan.base.as_ref();
        let epoch = plan.chain.epoch_max().max(base.map_or(0, |base| base.manifest.epoch));
        let owner_epoch = plan.owner_epoch.max(base.map_or(0, |b| b.manifest.owner_epoch));
        let meta = Meta {
            store_id: plan.store_id,
            epoch: epoch + u64::from(EPOCHS_ABOVE),
            owner_epoch: owner_epoch + EPOCHS_ABOVE,
            checkpoint: plan.from,
            uid_validity_last: base.map_or(0, |base| base.manifest.uid_validity_last),
            unclean_epoch: owner_epoch + EPOCHS_ABOVE,
        };
        let mut owners: HashMap<MailboxId, (String, String, MailboxEntry)> = HashMap::new();
        let mut users = Vec::new();
        let commit_all = |users, summaries, metadata| {
            let gone = Vec::new();
            catalog.commit(&Batch { meta, users, summaries, gone, metadata })
        };
        let commit = |users, summaries| commit_all(users, summaries, Vec::new());
        let Some(base) = base else {
            commit(Vec::new(), Vec::new())?;
            return Ok(0);
        };
        let path = base.dir.join("catalog.jsonl");
        read_lines(storage, &path, &mut |line: UserLine| {
            if only.user.as_ref().is_some_and(|only| *only != line.user) {
                return Ok(());
            }
            let name = line.user.clone();
            let bad = || not_as_expected(&path, "a user", format!("an unreadable line of {name}"));
            let namespace = Arc::new(line.namespace().ok_or_else(bad)?);
            for (mailbox, entry) in &namespace.mailboxes {
                owners.insert(entry.id, (name.clone(), mailbox.clone(), entry.clone()));
                only.mailboxes.insert(entry.id);
            }
            let grants = Some(namespace.grants(&name));
            let unsaved = Unsaved { all: true, grants, ..Unsaved::default() };
            users.push(UserChanges { name, namespace, unsaved });
            if users.len() >= BATCH_USERS {
                commit(std::mem::take(&mut users), Vec::new())?;
            }
            Ok(())
        })?;
        for (name, _) in base.manifest.values() {
            let path = base.dir.join(name);
            let mut values = Vec::new();
            read_lines(storage, &path, &mut |line: MetadataLine| {
                let bad = || not_as_expected(&path, "metadata", "an unreadable line".into());
                let (key, value) = line.read().ok_or_else(bad)?;
                // The server's own are not a single user's.
                if only.user.is_none() || owners.contains_key(&key.mailbox) {
                    values.push((key, value));
                }
                if values.len() >= BATCH_VALUES {
                    commit_all(Vec::new(), Vec::new(), std::mem::take(&mut values))?;
                }
                Ok(())
            })?;
            commit_all(Vec::new(), Vec::new(), values)?;
        }
        let mut summaries = Vec::new();
        let mut messages = 0;
        for line in base.mailboxes(storage)? {
            let Some(id) = MailboxId::parse(&line.id) else { continue };
            let Some((user, name, entry)) = owners.get(&id) else { continue };
            let (placed, numbers) = self.mailbox(base, &line, id, (user, name, entry))?;
            messages += placed;
            summaries.push((id, numbers));
        }
        for partition in &config.partitions {
            match storage.sync_filesystem(&partition.path) {
                Err(e) if e.kind() != ErrorKind::Unsupported => {
                    return Err(Error::io("sync", &partition.path)(e));
                }
                _ => {}
            }
        }
        commit(users, summaries)?;
        Ok(messages)
    }

    fn mailbox(
        &self,
        base: &Base,
        line: &MailboxLine,
        id: MailboxId,
        (user, name, entry): (&str, &str, &MailboxEntry),
    ) -> Result<(u64, Summary)> {
        let storage = self.storage;
        let partition = self.partition(&entry.partition)?;
        let layout = &partition.layout;
        let dir = entry.dir(partition, user, name)?;
        let made = layout.create(storage, &partition.path, &dir);
        made.map_err(Error::io("create", &dir))?;
        for (ending, to) in MAILBOX_FILES {
            copy_file(storage, &base.file(&line.id, ending), &dir.join(to))?;
        }
        let validity = protocol::types::UidValidity(line.uid_validity);
        let none = Lsn(u64::MAX);
        let trust = Trust::new(self.config.verified_seconds);
        let files = Files::open(storage, &dir, self.plan.store_id, id, validity, none, &trust)?;
        let mut messages = 0;
        for position in 0..files.head.count {
            let record = files.record(position);
            if record.expunged {
                continue;
            }
            let (Some(facts), Some(at)) = (files.facts(position), files.location(position)) else {
                let lost = format!("UID {} of {user} {name}: its facts are damaged", record.uid);
                self.bodies.missing.lock().push(lost);
                continue;
            };
            let (content_id, stored) = (facts.content_id, facts.stored.get());
            let path = layout.path(&dir, &at);
            let named = MessageName { content_id, stored };
            messages += u64::from(self.bodies.fetch_named(&named, &path, record.internal_date)?);
        }
        let mut dirs = layout.watched_dirs(&dir);
        dirs.push(dir);
        dirs.iter().try_for_each(|dir| storage.sync_dir(dir).map_err(Error::io("sync", dir)))?;
        Ok((messages, files.summary()))
    }

    fn partition(&self, name: &str) -> Result<&Partition> {
        let found = self.config.partitions.iter().find(|p| p.name == name);
        found.ok_or_else(|| Error::NoSuchPartition(name.to_owned()))
    }
}

fn copy_file(storage: &dyn Storage, from: &Path, to: &Path) -> Result<()> {
    let source = storage.open(from, Open::Read).map_err(Error::io("open", from))?;
    let target = storage.open(to, Open::CreateNew).map_err(Error::io("create", to))?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let n = source.read_at(&mut buffer, at).map_err(Error::io("read", from))?;
        if n == 0 {
            return target.sync_data().map_err(Error::io("sync", to));
        }
        target.write_at(&buffer[..n], at).map_err(Error::io("write", to))?;
        at += n as u64;
    }
}

fn copy_extra(storage: &dyn Storage, base: &Base, state_dir: &Path) -> Result<()> {
    let dir = base.dir.join("extra");
    for name in names_in(storage, &dir)? {
        let to = state_dir.join(&name);
        if storage.stat(&to).is_ok() {
            continue;
        }
        let bytes = read_text(storage, &dir.join(&name))?;
        let file = storage.open(&to, Open::CreateNew).map_err(Error::io("create", &to))?;
        let written = file.write_at(&bytes, 0).and_then(|()| file.sync_all());
        written.map_err(Error::io("write", to))?;
    }
    Ok(())
}

/// The segments of the plan, a batch at a time, through recovery's redo.
fn replay_log(
    plan: &Plan,
    replay: &Replay,
    storage: &Arc<dyn Storage>,
    state_dir: &Path,
    only: &mut Only,
    report: &mut RestoreReport,
) -> Result<()> {
    let work = state_dir.join("restore.log");
    create_durable(&**storage, &work).map_err(Error::io("create", &work))?;
    let due: Vec<_> = plan
        .chain
        .segments
        .iter()
        .filter(|s| s.end_lsn > plan.from.0 && Chain::bytes_below(s, plan.end) > 0)
        .collect();
    let mut from = plan.from;
    let mut batch: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let mut bytes = 0;
    for (i, segment) in due.iter().enumerate() {
        let n = Chain::bytes_below(segment, plan.end);
        let name = format!("{:016x}.log", segment.first_lsn);
        copy_head(&**storage, &segment.path, &work.join(&name), n)?;
        batch.insert(work.join(name), n);
        bytes += n;
        // Two of the same first LSN don't lie beside each other.
        let clash = due.get(i + 1).is_some_and(|next| next.first_lsn == segment.first_lsn);
        if bytes >= BATCH_BYTES || clash || i + 1 == due.len() {
            let mut each = |transaction: &mut Transaction| {
                transaction.frames.retain(|(id, frame)| only.takes(*id, frame));
            };
            let found = replay.run(&work, from, &mut each)?;
            report.transactions += found.transactions;
            report.reached_us = report.reached_us.max(found.time_us);
            from = from.max(found.next);
            for path in std::mem::take(&mut batch).into_keys() {
                storage.unlink(&path).map_err(Error::io("unlink", path))?;
            }
            bytes = 0;
        }
    }
    replay.skip_to(plan.end);
    storage.remove_dir(&work).map_err(Error::io("remove", work))
}

/// Copies the first bytes of a segment.
fn copy_head(storage: &dyn Storage, from: &Path, to: &Path, bytes: u64) -> Result<()> {
    let source = storage.open(from, Open::Read).map_err(Error::io("open", from))?;
    let size = source.size().map_err(Error::io("stat", from))?;
    let mut buffer = vec![0; bytes.min(size) as usize];
    source.read_exact_at(&mut buffer, 0).map_err(Error::io("read", from))?;
    let target = storage.open(to, Open::Create).map_err(Error::io("create", to))?;
    target.write_at(&buffer, 0).map_err(Error::io("write", to))
}
