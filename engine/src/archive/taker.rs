//! Takes closed segments and the messages that they name to the archive.
//!
//! What waits lies in `outbox` of the log's directory (segments) and in the partitions' outboxes
//! (messages). A segment goes in this order: its messages, the segment, its manifest, durable
//! each; then the segment leaves the outbox, then its messages. A crash at any point is followed
//! by taking it again. When more waits than is allowed, the oldest segment is dropped and the
//! gap is noted here, in the archive when it can be reached, in status and log.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::types::Uid;
use serde::{Deserialize, Serialize};

use super::format::{
    FORMAT, Gap, MessageName, SegmentManifest, hex, names_in, read_json, to_json, write_whole,
};
use super::pool::Put;
use super::target::Target;
use super::{ArchiveConfig, ArchiveTarget};
use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::format::segment::BLOCK_BYTES;
use crate::ids::{Lsn, MailboxId};
use crate::io::{Open, Storage};
use crate::layout::create_durable;
use crate::log::scan_segment;
use crate::shared::{Shared, now_us};

/// Directory of waiting segments within the log's.
pub(crate) const SEGMENT_OUTBOX: &str = "outbox";
/// What is remembered between starts, in that directory.
const STATE_NAME: &str = "state.json";
/// First wait after a failure; doubles up to the largest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Gaps that are remembered one by one; older ones are merged.
const GAPS_MAX: usize = 100;

/// How the archive is.
#[derive(Clone, Debug, Serialize)]
pub struct ArchiveStatus {
    /// The directory or the command.
    pub target: String,
    /// What an operator must look after, if anything.
    pub alarm: Option<String>,
    /// Segments that wait.
    pub pending_segments: u64,
    /// Bytes that wait, messages included.
    pub pending_bytes: u64,
    /// What may wait, bytes.
    pub pending_bytes_max: u64,
    /// Everything below this LSN was taken, but for the gaps.
    pub taken_lsn: u64,
    /// Time of the last change that was taken, microseconds since 1970.
    pub taken_time_us: u64,
    /// Segments taken so far.
    pub segments: u64,
    /// Messages taken so far.
    pub messages: u64,
    /// Octets of these.
    pub message_bytes: u64,
    /// Messages that frames name and that could not be had: removed by another program, mostly.
    pub absent: u64,
    /// End of the last base backup.
    pub backup_lsn: u64,
    /// What is missing in the archive.
    pub gaps: Vec<Gap>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Memory {
    format: u32,
    store: String,
    taken_lsn: u64,
    taken_time_us: u64,
    segments: u64,
    messages: u64,
    message_bytes: u64,
    absent: u64,
    #[serde(default)]
    backup_lsn: u64,
    gaps: Vec<Gap>,
    /// The first so many of these are in the archive.
    gaps_told: usize,
}

#[derive(Default)]
struct State {
    memory: Memory,
    failing: Option<(String, u64)>,
    /// The segment that is being taken.
    busy: Option<String>,
}

struct Work {
    target: Target,
    /// Links that were there at the start; those that no waiting segment needs go.
    leftovers: Option<HashSet<MessageName>>,
}

/// The archive's side of a running store.
pub(crate) struct Taker {
    pub(crate) config: ArchiveConfig,
    dir: PathBuf,
    work: Mutex<Work>,
    state: Mutex<State>,
}

/// One waiting segment.
struct Waiting {
    name: String,
    first: u64,
    epoch: u64,
    bytes: u64,
}

/// A message that a frame of a segment needs.
struct Needed {
    name: MessageName,
    mailbox: MailboxId,
    uid: Uid,
}

impl Taker {
    /// Over the outbox of a log, which is made when missing.
    pub(crate) fn new(
        storage: &Arc<dyn Storage>,
        log_dir: &Path,
        config: ArchiveConfig,
        leftovers: HashSet<MessageName>,
    ) -> Result<Taker> {
        let dir = log_dir.join(SEGMENT_OUTBOX);
        create_durable(&**storage, &dir).map_err(Error::io("create", &dir))?;
        let path = dir.join(STATE_NAME);
        let memory = match storage.stat(&path) {
            Ok(_) => read_json(&**storage, &path).unwrap_or_else(|error| {
                tracing::error!(%error, "what was archived is no longer known");
                Memory::default()
            }),
            Err(_) => Memory::default(),
        };
        let target = Target::new(storage.clone(), &config);
        let work = Mutex::new(Work { target, leftovers: Some(leftovers) });
        let state = Mutex::new(State { memory, ..State::default() });
        Ok(Taker { config, dir, work, state })
    }

    fn waiting(&self, storage: &dyn Storage) -> Result<Vec<Waiting>> {
        let mut out = Vec::new();
        for name in names_in(storage, &self.dir)? {
            let Some((first, epoch)) = parse_kept_name(&name) else { continue };
            let path = self.dir.join(&name);
            let stat = match storage.stat(&path) {
                Ok(stat) => stat,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("stat", path)(e)),
            };
            out.push(Waiting { name, first, epoch, bytes: stat.size });
        }
        out.sort_by_key(|w| (w.epoch, w.first));
        Ok(out)
    }

    /// Takes what waits, until nothing does, something fails, or `until` comes. Returns whether
    /// all was taken.
    pub(crate) fn turn(&self, shared: &Arc<Shared>, until: Option<Instant>) -> Result<bool> {
        let mut work = self.work.lock();
        let done = match self.take_waiting(shared, &mut work, until) {
            // Somebody prunes the archive.
            Err(Error::Locked(_)) => Ok(false),
            done => done,
        };
        work.target.end();
        drop(work);
        let mut state = self.state.lock();
        state.busy = None;
        match &done {
            Ok(_) => {
                if let Some((_, since)) = state.failing.take() {
                    let seconds = now_us(&*shared.storage).saturating_sub(since) / 1_000_000;
                    tracing::info!(seconds, "the archive takes segments again");
                }
            }
            Err(error) => {
                // Once: the status shows that it goes on.
                if state.failing.is_none() {
                    tracing::error!(%error, "the archive takes nothing; mail goes on, changes wait");
                }
                let since = state
                    .failing
                    .as_ref()
                    .map_or_else(|| now_us(&*shared.storage), |(_, since)| *since);
                state.failing = Some((error.to_string(), since));
            }
        }
        done
    }

    fn take_waiting(
        &self,
        shared: &Arc<Shared>,
        work: &mut Work,
        until: Option<Instant>,
    ) -> Result<bool> {
        let storage = &*shared.storage;
        self.enforce_limit(shared)?;
        let waiting = self.waiting(storage)?;
        if let Some(leftovers) = work.leftovers.take() {
            self.drop_leftovers(shared, leftovers, &waiting)?;
        }
        let gaps_due = {
            let state = self.state.lock();
            state.memory.gaps_told < state.memory.gaps.len()
        };
        if waiting.is_empty() && !gaps_due {
            return Ok(true);
        }
        work.target.begin(shared.store_id, shared.owner_epoch)?;
        self.tell_gaps(storage, &work.target)?;
        for one in waiting {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
            self.state.lock().busy = Some(one.name.clone());
            let taken = self.take(shared, &mut work.target, &one);
            self.state.lock().busy = None;
            taken?;
        }
        Ok(true)
    }

    /// Links of before this start that no waiting segment asks for.
    fn drop_leftovers(
        &self,
        shared: &Arc<Shared>,
        mut leftovers: HashSet<MessageName>,
        waiting: &[Waiting],
    ) -> Result<()> {
        for one in waiting {
            if let Ok((needed, ..)) = self.read(shared, &one.name)? {
                needed.iter().for_each(|n| {
                    leftovers.remove(&n.name);
                });
            }
        }
        let partitions = &shared.config.partitions;
        leftovers.iter().for_each(|n| shared.aside.let_go(&*shared.storage, partitions, n));
        Ok(())
    }

    #[allow(clippy::type_complexity)]
    fn read(
        &self,
        shared: &Arc<Shared>,
        name: &str,
    ) -> Result<Result<(Vec<Needed>, SegmentManifest), String>> {
        let path = self.dir.join(name);
        let mut needed: Vec<Needed> = Vec::new();
        let mut seen = HashSet::new();
        let mut times: Option<(u64, u64)> = None;
        let mut each = |transaction: crate::log::Transaction| {
            let time = transaction.time_us;
            times = Some(times.map_or((time, time), |(first, _)| (first, time)));
            for (mailbox, frame) in transaction.frames {
                let Frame::Append(append) = frame else { continue };
                let content_id = append.content_id;
                let name = MessageName { content_id, stored: append.stored };
                if seen.insert(name) {
                    needed.push(Needed { name, mailbox, uid: append.uid });
                }
            }
            Ok(())
        };
        let read = scan_segment(&*shared.storage, &path, shared.store_id, &mut each)?;
        let (header, found) = match read {
            Ok(read) => read,
            Err(damage) => return Ok(Err(damage)),
        };
        for line in &found.damage {
            tracing::error!(damage = line, "a damaged segment goes to the archive");
        }
        let (first_time_us, last_time_us) = times.unwrap_or((found.time_us, found.time_us));
        let manifest = SegmentManifest {
            format: FORMAT,
            store: shared.store_id.to_string(),
            owner_epoch: shared.owner_epoch,
            epoch: header.epoch.get(),
            first_lsn: header.first_lsn.get(),
            end_lsn: found.next.0,
            durable_lsn: header.durable_lsn.get(),
            first_time_us,
            last_time_us,
            bytes: BLOCK_BYTES as u64 + (found.next.0 - header.first_lsn.get()),
            blake3: String::new(),
            messages: needed.iter().map(|n| n.name).collect(),
            absent: Vec::new(),
        };
        Ok(Ok((needed, manifest)))
    }

    fn take(&self, shared: &Arc<Shared>, target: &mut Target, one: &Waiting) -> Result<()> {
        let storage = &*shared.storage;
        let partitions = &shared.config.partitions;
        let (needed, mut manifest) = match self.read(shared, &one.name)? {
            Ok(read) => read,
            Err(damage) => {
                self.drop_segment(shared, one, &format!("damaged: {damage}"))?;
                return self.tell_gaps(storage, target);
            }
        };
        let (mut messages, mut octets) = (0, 0);
        for n in &needed {
            match put_needed(shared, target, n)? {
                Some(bytes) => {
                    messages += u64::from(bytes > 0);
                    octets += bytes;
                }
                None => manifest.absent.push(n.name),
            }
        }
        target.flush()?;
        let path = self.dir.join(&one.name);
        let file = storage.open(&path, Open::Read).map_err(Error::io("open", &path))?;
        // The last group may end at the end of the file, short of a block.
        let size = file.size().map_err(Error::io("stat", &path))?;
        manifest.bytes = manifest.bytes.min(size);
        let mut bytes = vec![0; manifest.bytes as usize];
        file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", &path))?;
        manifest.blake3 = hex(&blake3::hash(&bytes));
        let place = Path::new("log").join(&one.name);
        target.put_segment(&place, &bytes)?;
        let json = to_json(&manifest);
        target.put_bytes("manifest", &place.with_extension("json"), &json)?;
        {
            let mut state = self.state.lock();
            let memory = &mut state.memory;
            memory.taken_lsn = memory.taken_lsn.max(manifest.end_lsn);
            memory.taken_time_us = memory.taken_time_us.max(manifest.last_time_us);
            memory.segments += 1;
            memory.messages += messages;
            memory.message_bytes += octets;
            memory.absent += manifest.absent.len() as u64;
            self.save(shared, &memory.clone())?;
        }
        self.leave(storage, &one.name)?;
        needed.iter().for_each(|n| shared.aside.let_go(storage, partitions, &n.name));
        Ok(())
    }

    /// A segment leaves the outbox for good.
    fn leave(&self, storage: &dyn Storage, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        match storage.unlink(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("unlink", path)(e)),
            _ => {}
        }
        storage.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))
    }

    fn save(&self, shared: &Shared, memory: &Memory) -> Result<()> {
        let store = shared.store_id.to_string();
        let memory = Memory { format: FORMAT, store, ..memory.clone() };
        let path = self.dir.join(STATE_NAME);
        write_whole(&*shared.storage, &self.dir, &path, &to_json(&memory))
    }

    fn tell_gaps(&self, storage: &dyn Storage, target: &Target) -> Result<()> {
        loop {
            let (gap, told) = {
                let memory = &self.state.lock().memory;
                (memory.gaps.get(memory.gaps_told).cloned(), memory.gaps_told)
            };
            let Some(gap) = gap else { return Ok(()) };
            target.put_bytes("gap", &gap.path(), &to_json(&gap))?;
            let mut state = self.state.lock();
            state.memory.gaps_told = state.memory.gaps_told.max(told + 1);
            let path = self.dir.join(STATE_NAME);
            let memory = state.memory.clone();
            drop(state);
            write_whole(storage, &self.dir, &path, &to_json(&memory))?;
        }
    }

    /// Drops the oldest while too much waits. Also while a turn hangs.
    pub(crate) fn enforce_limit(&self, shared: &Arc<Shared>) -> Result<()> {
        loop {
            let waiting = self.waiting(&*shared.storage)?;
            let bytes = waiting.iter().map(|w| w.bytes).sum::<u64>() + shared.aside.bytes();
            let busy = self.state.lock().busy.clone();
            let oldest = waiting.iter().find(|w| Some(&w.name) != busy.as_ref());
            let Some(oldest) = oldest.filter(|_| bytes > self.config.pending_bytes_max) else {
                return Ok(());
            };
            let max = self.config.pending_bytes_max;
            let why = format!("{bytes} bytes waited for the archive, {max} may");
            self.drop_segment(shared, oldest, &why)?;
        }
    }

    fn drop_segment(&self, shared: &Arc<Shared>, one: &Waiting, reason: &str) -> Result<()> {
        let read = self.read(shared, &one.name)?;
        let (needed, end_lsn, last_time_us) = match read {
            Ok((needed, manifest)) => (needed, manifest.end_lsn, manifest.last_time_us),
            Err(_) => (Vec::new(), one.first, 0),
        };
        let noted_us = now_us(&*shared.storage);
        let gap = Gap {
            format: FORMAT,
            store: shared.store_id.to_string(),
            first_lsn: one.first,
            end_lsn,
            noted_us,
            last_time_us,
            reason: reason.to_owned(),
        };
        let (first, end) = (one.first, end_lsn);
        let times = crate::archive::format::time_text(last_time_us);
        tracing::error!(first, end, until = times, reason, "GAP in the archive: changes dropped");
        {
            let mut state = self.state.lock();
            let memory = &mut state.memory;
            memory.gaps.push(gap);
            if memory.gaps.len() > GAPS_MAX && memory.gaps_told > 1 {
                let second = memory.gaps.remove(1);
                memory.gaps_told -= 1;
                memory.gaps[0].end_lsn = memory.gaps[0].end_lsn.max(second.end_lsn);
                memory.gaps[0].last_time_us = memory.gaps[0].last_time_us.max(second.last_time_us);
            }
            self.save(shared, &memory.clone())?;
        }
        let storage = &*shared.storage;
        self.leave(storage, &one.name)?;
        // A later segment may name the same content: then its live file serves.
        let partitions = &shared.config.partitions;
        needed.iter().for_each(|n| shared.aside.let_go(storage, partitions, &n.name));
        Ok(())
    }

    /// A base backup that ends at `lsn` is whole: gaps below it matter no more.
    pub(super) fn note_backup(&self, shared: &Shared, lsn: Lsn) -> Result<()> {
        let mut state = self.state.lock();
        state.memory.backup_lsn = state.memory.backup_lsn.max(lsn.0);
        self.save(shared, &state.memory.clone())
    }

    /// For `status`.
    pub(crate) fn status(&self, shared: &Shared) -> ArchiveStatus {
        let waiting = self.waiting(&*shared.storage).unwrap_or_default();
        let state = self.state.lock();
        let memory = state.memory.clone();
        let failing = state.failing.clone();
        drop(state);
        let open: Vec<&Gap> =
            memory.gaps.iter().filter(|g| g.end_lsn > memory.backup_lsn).collect();
        let alarm = match (&failing, open.last()) {
            (Some((error, since)), _) => {
                let since = super::format::time_text(*since);
                Some(format!("takes nothing since {since}: {error}"))
            }
            (None, Some(gap)) => Some(format!(
                "{} gaps since the last backup, the last from LSN {} to {}: make a backup",
                open.len(),
                gap.first_lsn,
                gap.end_lsn
            )),
            (None, None) => None,
        };
        ArchiveStatus {
            target: match &self.config.target {
                ArchiveTarget::Directory(dir) => dir.display().to_string(),
                ArchiveTarget::Command(line) => line.join(" "),
            },
            alarm,
            pending_segments: waiting.len() as u64,
            pending_bytes: waiting.iter().map(|w| w.bytes).sum::<u64>() + shared.aside.bytes(),
            pending_bytes_max: self.config.pending_bytes_max,
            taken_lsn: memory.taken_lsn,
            taken_time_us: memory.taken_time_us,
            segments: memory.segments,
            messages: memory.messages,
            message_bytes: memory.message_bytes,
            absent: memory.absent,
            backup_lsn: memory.backup_lsn,
            gaps: memory.gaps,
        }
    }

    /// The archive thread's loop.
    pub(crate) fn run(&self, shared: &Arc<Shared>, tick: Duration) {
        let mut wait = RETRY_FIRST;
        let mut next = Instant::now();
        while !shared.closing.load(Ordering::Acquire) {
            std::thread::sleep(tick);
            if Instant::now() < next {
                continue;
            }
            match self.turn(shared, None) {
                Ok(_) => wait = RETRY_FIRST,
                Err(_) => wait = (wait * 2).min(RETRY_MAX),
            }
            next = Instant::now() + wait;
        }
    }
}

/// First LSN and epoch of a segment by its name in an outbox or archive.
pub(super) fn parse_kept_name(name: &str) -> Option<(u64, u64)> {
    let (first, epoch) = name.strip_suffix(".log")?.split_once('-')?;
    let number = |text: &str| (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok())?;
    Some((number(first)?, number(epoch)?))
}

/// Puts a message from wherever it is: octets that were written (0 when it was there), or `None`
/// when it is nowhere.
fn put_needed(shared: &Arc<Shared>, target: &mut Target, n: &Needed) -> Result<Option<u64>> {
    if target.has(&n.name)? {
        return Ok(Some(0));
    }
    let kept = shared.aside.find(&*shared.storage, &shared.config.partitions, &n.name);
    for path in kept.into_iter().chain(live_path(shared, n.mailbox, n.uid)) {
        match target.put(&n.name, &path)? {
            Put::Present => return Ok(Some(0)),
            Put::Written(bytes) => return Ok(Some(bytes)),
            Put::Missing => {}
            Put::Differs => {
                let path = path.display();
                tracing::error!(%path, message = %n.name, "not archived: the file has changed");
            }
        }
    }
    Ok(None)
}

/// The file of a message as the index knows it.
pub(super) fn live_path(shared: &Arc<Shared>, id: MailboxId, uid: Uid) -> Option<PathBuf> {
    let open = shared.mailboxes.find(id);
    let mailbox = match open {
        Some(open) => open,
        None => {
            let owner = shared.catalog.owner(id).ok()??;
            let user = shared.known_user(&owner).ok()?;
            let _one = user.changes.lock();
            let name = user.namespace.load_full().name_of(id)?.clone();
            user.open(&name).ok()?.0
        }
    };
    mailbox.path_of(uid).map(|(path, ..)| path)
}
