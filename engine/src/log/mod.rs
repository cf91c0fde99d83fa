//! The commit log: what the store acknowledges is in here first.
//!
//! [`Log::push`] puts the frames of one transaction into the group that is filling; the writer
//! ([`Log::write_once`], called by a thread of its own or inline) takes the group, writes it with
//! one durable write and tells everybody in it. There is no timer: an idle writer starts at once,
//! and the next group fills while it syncs. Only frames for which nobody waits
//! ([`Log::push_unhurried`]) lie for a while, so that many go out together.
//!
//! Invariants:
//! - LSNs only rise; the frames of a transaction are in one group.
//! - A failed write retires the segment and fails every frame not yet durable; the log goes on in
//!   a segment of a new epoch, or turns read-only for good.
//! - [`Log::release`] is called with an LSN only after everything below it is durable in files.
//! - Times of groups never fall, whatever the clock does: restores to a moment depend on it.

mod scan;
mod segments;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

pub use scan::{Scan, Transaction, scan, scan_segment};
use segments::Segments;
pub use segments::kept_name;

use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::format::segment::{
    BLOCK_BYTES, FrameHead, GroupHeader, LAST_OF_TRANSACTION, PAYLOAD_BYTES_MAX, encode_frame,
    frame_span,
};
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::Storage;
use crate::shared::now_us;

/// Bytes of frames that one group takes at most; a transaction is never larger.
pub const GROUP_BYTES_MAX: usize = 9 << 20;
/// Bytes of one segment at most.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of one segment at least: one full group fits.
const SEGMENT_BYTES_MIN: u64 = 10 << 20;

/// Told once whether the frames are durable.
pub type Waiter = Box<dyn FnOnce(Result<()>) + Send>;

/// What the log needs to know at its start, from catalog and recovery.
pub struct LogStart {
    /// Directory of the segments.
    pub dir: PathBuf,
    /// Whose log.
    pub store_id: StoreId,
    /// Larger than every epoch seen.
    pub epoch: u64,
    /// Into every frame.
    pub owner_epoch: u32,
    /// Where the next group begins.
    pub next: Lsn,
    /// Time of the last group before, microseconds since 1970.
    pub time_us: u64,
    /// See [`crate::StoreConfig::log_bytes_max`].
    pub bytes_max: u64,
    /// See [`crate::StoreConfig::log_segment_bytes`].
    pub segment_bytes: Option<u64>,
    /// Where segments go when they are done with, for the archive; absent: they are used again.
    pub archive: Option<KeepSegments>,
}

/// What becomes of segments that are done with.
#[derive(Clone, Debug)]
pub struct KeepSegments {
    /// They are moved here, as [`kept_name`] says.
    pub dir: PathBuf,
    /// A segment with frames is closed when it is this old, however little is in it.
    pub age_max: Duration,
}

/// Where a segment lies and which LSNs it has.
#[derive(Clone, Debug)]
pub struct SegmentPlace {
    /// Of its file.
    pub path: PathBuf,
    /// Of its first group.
    pub first: Lsn,
    /// Where the group after its last one begins.
    pub end: Lsn,
}

struct Group {
    lsn: u64,
    frames: Vec<u8>,
    count: u32,
    chain: u32,
    waiters: Vec<Waiter>,
    /// When it is to be written; `None`: at once.
    due: Option<Instant>,
}

impl Group {
    fn new(lsn: u64, due: Option<Instant>) -> Group {
        Group { lsn, frames: Vec::new(), count: 0, chain: 0, waiters: Vec::new(), due }
    }

    fn span(&self) -> u64 {
        ((size_of::<GroupHeader>() + self.frames.len()) as u64).next_multiple_of(BLOCK_BYTES as u64)
    }
}

struct State {
    epoch: u64,
    /// Closed groups that wait for the writer; the last one takes frames until it is taken.
    groups: VecDeque<Group>,
    next: u64,
    durable: u64,
    released: u64,
    /// Time of the last group.
    time_us: u64,
    /// Transactions pushed and not yet applied, by LSN.
    active: BTreeSet<u64>,
    read_only: Option<Arc<str>>,
    closing: bool,
}

/// The commit log of a store. Shared by reference.
pub struct Log {
    /// Whose clock dates the groups.
    storage: Arc<dyn Storage>,
    owner_epoch: u32,
    /// Bytes of frames that a group takes at most.
    frames_max: usize,
    bytes_max: u64,
    state: Mutex<State>,
    work: Condvar,
    room: Notify,
    writer: Mutex<Segments>,
}

/// Figures for `status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LogStatus {
    /// LSN of the next group.
    pub next_lsn: u64,
    /// Everything below is on the device.
    pub durable_lsn: u64,
    /// Everything below is in files and no longer needed here.
    pub released_lsn: u64,
    /// Transactions not yet applied.
    pub active: usize,
    /// Why the store no longer writes, if so.
    pub read_only: Option<String>,
}

impl Log {
    /// Starts a log behind `start.next`; the first segment is made at the first write.
    pub fn new(storage: Arc<dyn Storage>, start: LogStart) -> Log {
        let usual = || (start.bytes_max / 8).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let block = BLOCK_BYTES as u64;
        let segment_bytes =
            start.segment_bytes.map_or_else(usual, |given| given.max(3 * block) / block * block);
        // The segment's header has a block of its own, and a group ends with its block.
        let frames_max = (segment_bytes - 2 * block).min(GROUP_BYTES_MAX as u64) as usize;
        let next = start.next.0.next_multiple_of(BLOCK_BYTES as u64);
        Log {
            storage: storage.clone(),
            owner_epoch: start.owner_epoch,
            frames_max,
            bytes_max: start.bytes_max.max(2 * segment_bytes),
            state: Mutex::new(State {
                epoch: start.epoch,
                groups: VecDeque::new(),
                next,
                durable: next,
                released: next,
                time_us: start.time_us,
                active: BTreeSet::new(),
                read_only: None,
                closing: false,
            }),
            work: Condvar::new(),
            room: Notify::new(),
            writer: Mutex::new(Segments::new(
                storage,
                start.dir,
                start.store_id,
                segment_bytes,
                start.archive,
            )),
        }
    }

    /// Puts the frames of one transaction into the filling group; `waiter` hears when they are
    /// durable. Memory only: safe under a mailbox's state lock. The transaction counts as active
    /// until [`Log::applied`] is called with the LSN returned.
    pub fn push(&self, frames: &[(MailboxId, Frame)], waiter: Waiter) -> Result<Lsn> {
        self.push_by(frames, waiter, None)
    }

    /// As [`Log::push`], for a change that nobody waits for: its group is written within `wait`,
    /// or as soon as somebody waits for it or for a later one.
    pub fn push_unhurried(
        &self,
        frames: &[(MailboxId, Frame)],
        waiter: Waiter,
        wait: Duration,
    ) -> Result<Lsn> {
        self.push_by(frames, waiter, Some(Instant::now() + wait))
    }

    fn push_by(
        &self,
        frames: &[(MailboxId, Frame)],
        waiter: Waiter,
        due: Option<Instant>,
    ) -> Result<Lsn> {
        let mut payloads = Vec::with_capacity(frames.len());
        for (_, frame) in frames {
            let mut payload = Vec::new();
            frame.encode(&mut payload);
            payloads.push(payload);
        }
        let span: usize = payloads.iter().map(|p| frame_span(p.len())).sum();
        if span > self.frames_max || payloads.iter().any(|p| p.len() > PAYLOAD_BYTES_MAX) {
            return Err(Error::NotAllowed("change too large for one transaction"));
        }
        let mut state = self.state.lock();
        if let Some(reason) = &state.read_only {
            return Err(Error::ReadOnly(reason.clone()));
        }
        if state.closing {
            return Err(Error::Closing);
        }
        let epoch = state.epoch;
        let full = |g: &Group| g.frames.len() + span > self.frames_max;
        let mut wake = due.is_none();
        if state.groups.back().is_none_or(full) {
            let lsn = state.groups.back().map_or(state.next, |g| g.lsn + g.span());
            state.groups.push_back(Group::new(lsn, due));
            wake = true;
        }
        let group = state.groups.back_mut().expect("a group was just made sure of");
        let base = group.lsn + size_of::<GroupHeader>() as u64;
        let transaction = base + group.frames.len() as u64;
        for (i, ((mailbox, frame), payload)) in frames.iter().zip(&payloads).enumerate() {
            let head = FrameHead {
                kind: frame.kind(),
                bits: if i + 1 == frames.len() { LAST_OF_TRANSACTION } else { 0 },
                lsn: base + group.frames.len() as u64,
                transaction,
                owner_epoch: self.owner_epoch,
                mailbox: mailbox.0,
            };
            let chain = group.chain;
            group.chain = encode_frame(&mut group.frames, epoch, head, chain, payload);
            group.count += 1;
        }
        group.waiters.push(waiter);
        if due.is_none() {
            group.due = None;
        }
        state.active.insert(transaction);
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Ok(Lsn(transaction))
    }

    /// The transaction is in files (not necessarily synced), or void.
    pub fn applied(&self, lsn: Lsn) {
        self.state.lock().active.remove(&lsn.0);
    }

    /// Everything below this LSN has been applied.
    pub fn applied_below(&self) -> Lsn {
        let state = self.state.lock();
        let next = state.groups.back().map_or(state.next, |g| g.lsn + g.span());
        Lsn(state.active.first().copied().unwrap_or(next))
    }

    /// Writes one waiting group, if there is one. Returns whether there was.
    pub fn write_once(&self) -> bool {
        let mut segments = self.writer.lock();
        let (group, epoch, durable, time_us) = {
            let mut state = self.state.lock();
            let Some(group) = state.groups.pop_front() else { return false };
            state.next = group.lsn + group.span();
            state.time_us = state.time_us.max(now_us(&*self.storage));
            (group, state.epoch, state.durable, state.time_us)
        };
        let frames_bytes = group.frames.len() as u32;
        let header =
            GroupHeader::new(epoch, group.lsn, durable, time_us, frames_bytes, group.count);
        let end = group.lsn + group.span();
        let written = segments.append(epoch, durable, &header, &group.frames);
        match written {
            Ok(()) => {
                self.state.lock().durable = end;
                drop(segments);
                group.waiters.into_iter().for_each(|tell| tell(Ok(())));
            }
            Err(error) => self.retire(&mut segments, group.waiters, error),
        }
        true
    }

    /// After a failed write: everything that is not durable fails, and the log goes on in a new
    /// epoch. Reading back would prove nothing, so nobody does.
    fn retire(&self, segments: &mut Segments, mut waiters: Vec<Waiter>, error: Error) {
        tracing::error!(%error, "log write failed; retiring the segment");
        let verdict = {
            let mut state = self.state.lock();
            for group in state.groups.drain(..).collect::<Vec<_>>() {
                state.next = state.next.max(group.lsn + group.span());
                waiters.extend(group.waiters);
            }
            state.epoch += 1;
            match segments.retire(state.epoch, state.next, state.durable) {
                Ok(()) => error,
                Err(second) => {
                    let reason: Arc<str> = format!("log: {error}; new segment: {second}").into();
                    tracing::error!(%reason, "store is read-only from now on");
                    state.read_only = Some(reason.clone());
                    Error::ReadOnly(reason)
                }
            }
        };
        self.room.notify_waiters();
        waiters.into_iter().for_each(|tell| tell(Err(verdict.clone())));
    }

    /// Writes at once what was pushed unhurried.
    pub fn hurry(&self) {
        let mut state = self.state.lock();
        let Some(group) = state.groups.back_mut().filter(|group| group.due.is_some()) else {
            return;
        };
        group.due = None;
        drop(state);
        self.work.notify_one();
    }

    /// The writer thread's loop; returns after [`Log::close`] when nothing is left to write.
    pub fn run_writer(&self) {
        while self.wait_for_work() {
            self.write_once();
        }
    }

    /// Waits until a group is to be written; `false` when none will come.
    fn wait_for_work(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            match state.groups.front() {
                None if state.closing => return false,
                None => self.work.wait(&mut state),
                Some(_) if state.closing || state.groups.len() > 1 => return true,
                Some(Group { due: None, .. }) => return true,
                Some(Group { due: Some(due), .. }) => {
                    let due = *due;
                    if self.work.wait_until(&mut state, due).timed_out() {
                        return true;
                    }
                }
            }
        }
    }

    /// Takes no further frames, for good; those that wait are still written.
    pub fn refuse(&self, reason: &str) {
        self.state.lock().read_only.get_or_insert_with(|| reason.into());
        self.room.notify_waiters();
    }

    /// Refuses further frames and lets the writer thread end.
    pub fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_all();
        self.room.notify_waiters();
    }

    /// Bytes that only the log holds.
    pub fn bytes_used(&self) -> u64 {
        let state = self.state.lock();
        state.next.saturating_sub(state.released)
    }

    /// Whether a checkpoint should begin for lack of room.
    pub fn wants_checkpoint(&self) -> bool {
        self.bytes_used() > self.bytes_max / 2
    }

    /// Waits until the log has room for another large group: call before taking locks.
    pub async fn room(&self) {
        loop {
            let freed = self.room.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.bytes_used() < self.bytes_max - self.bytes_max / 8 {
                return;
            }
            if self.is_shut() {
                return;
            }
            freed.await;
        }
    }

    fn is_shut(&self) -> bool {
        let state = self.state.lock();
        state.read_only.is_some() || state.closing
    }

    /// Everything below `lsn` is durable in files: segments below it can be used again.
    pub fn release(&self, lsn: Lsn) -> Result<()> {
        let mut segments = self.writer.lock();
        segments.release(lsn.0)?;
        let mut state = self.state.lock();
        state.released = state.released.max(lsn.0);
        drop(state);
        self.room.notify_waiters();
        Ok(())
    }

    /// Closes a segment that has become old, for the archive, if all of it is in files.
    pub fn close_aged(&self) -> Result<()> {
        let released = self.state.lock().released;
        self.writer.lock().release(released)
    }

    /// Closes the segment that is being written, whatever its age, if all of it is in files.
    pub fn close_now(&self) -> Result<()> {
        let released = self.state.lock().released;
        let mut writer = self.writer.lock();
        writer.close(released);
        writer.release(released)
    }

    /// Keeps segments that end above `lsn` where they are, until [`Log::unhold`].
    pub fn hold(&self, lsn: Lsn) {
        self.writer.lock().hold(Some(lsn.0));
    }

    /// Ends a hold; the next release disposes of what is due.
    pub fn unhold(&self) {
        self.writer.lock().hold(None);
    }

    /// The segments that have groups at or above `lsn`, and the LSN below which all is durable.
    pub fn segments_from(&self, lsn: Lsn) -> (Vec<SegmentPlace>, Lsn) {
        let writer = self.writer.lock();
        (writer.from(lsn.0), Lsn(self.state.lock().durable))
    }

    /// Time of the last group, microseconds since 1970; 0 when there was none.
    pub fn time_us(&self) -> u64 {
        self.state.lock().time_us
    }

    /// Where the next group that is pushed begins.
    pub fn end(&self) -> Lsn {
        let state = self.state.lock();
        Lsn(state.groups.back().map_or(state.next, |g| g.lsn + g.span()))
    }

    /// Goes on at `next`: what is below it was replayed from elsewhere. Only while nothing can be
    /// pushed.
    pub fn skip_to(&self, next: Lsn, time_us: u64) {
        let mut state = self.state.lock();
        debug_assert!(state.groups.is_empty() && state.active.is_empty());
        let next = next.0.max(state.next);
        (state.next, state.durable) = (next, next);
        state.time_us = state.time_us.max(time_us);
    }

    /// Makes sure that the writer finds a prepared segment when the current one is full.
    pub fn prepare_spare(&self) -> Result<()> {
        // The slow part (writing zeros) happens without the writer's lock.
        let Some(spare) = self.writer.lock().spare_to_make() else { return Ok(()) };
        spare.make()?;
        self.writer.lock().spare_made()
    }

    /// Removes every segment: everything is in files, and nothing will be pushed before the next
    /// start, or nothing has been pushed since this one.
    pub fn clear(&self) -> Result<()> {
        self.writer.lock().clear()
    }

    /// The epoch of the frames being pushed.
    pub fn epoch(&self) -> u64 {
        self.state.lock().epoch
    }

    /// Figures for people.
    pub fn status(&self) -> LogStatus {
        let state = self.state.lock();
        LogStatus {
            next_lsn: state.next,
            durable_lsn: state.durable,
            released_lsn: state.released,
            active: state.active.len(),
            read_only: state.read_only.as_deref().map(str::to_owned),
        }
    }
}
