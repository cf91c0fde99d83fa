//! The one path from frames to files, live and in recovery.
//!
//! Redo writes: every frame can be applied again, by UID and absolute value, whatever a crash
//! left half done. Live, items come from the mailbox's queue in push order, as far as their
//! transactions are settled; what fails stays at the queue's front and is tried again later,
//! since its commit point has passed.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use protocol::types::{ModSeq, Uid};

use super::files::{Files, NewMessage, REWRITE_RECORDS, heap_name};
use super::message::line_ends;
use super::ops::ranges;
use super::{Item, MailboxInner, Place, State};
use crate::archive::MessageName;
use crate::error::{Error, Result};
use crate::events::MessageEvents;
use crate::format::frame::{Append, FlagChange, Frame, Source};
use crate::format::index::Record;
use crate::ids::Lsn;
use crate::io::{Storage, StoredFile};
use crate::layout::{LayoutKind, Location, NameFlags};
use crate::message;
use crate::shared::{Doomed, DoomedKind};
use crate::takeover::counted_size;

/// Items taken from the queue at a time.
const BATCH_ITEMS: usize = 1024;
/// Messages that these change: when they are done, all are forgotten under one hold of the state
/// lock, which sessions wait for on their cores.
const BATCH_CHANGES: usize = 8 << 10;

impl MailboxInner {
    /// An applier's turn: everything that is due, in order.
    pub(crate) fn run(self: &Arc<Self>) {
        let mut files = self.files.lock();
        loop {
            let batch = self.take_settled(BATCH_ITEMS);
            if batch.is_empty() {
                let mut state = self.state.lock();
                let more = state.queue.front().is_some_and(|i| i.tx.is_settled());
                let rescan = state.rescan.is_some() && state.rescan_frames == 0;
                if more {
                    continue;
                }
                if !rescan {
                    state.scheduled = false;
                    break;
                }
                let waiters = state.rescan.take().unwrap_or_default();
                drop(state);
                self.rescan(&mut files, waiters);
                continue;
            }
            if let Err((error, rest)) = self.apply_batch(&mut files, batch) {
                tracing::error!(mailbox = %self.id, %error, "apply failed; it will be tried again");
                let mut state = self.state.lock();
                state.put_back(rest);
                state.scheduled = false;
                drop(state);
                self.shared.stalled.lock().push((self.clone(), error));
                break;
            }
        }
    }

    /// Applies of the first `most` items of the queue those that are settled: for a rescan that pushes more
    /// than is good to have in memory. What fails is the applier's, whose place this is in.
    pub(super) fn apply_ahead(self: &Arc<Self>, files: &mut Files, most: usize) {
        let mut left = most;
        while left > 0 {
            let batch = self.take_settled(left.min(BATCH_ITEMS));
            if batch.is_empty() {
                return;
            }
            left -= batch.len();
            if let Err((error, rest)) = self.apply_batch(files, batch) {
                tracing::warn!(mailbox = %self.id, %error, "apply failed; it will be tried again");
                return self.state.lock().put_back(rest);
            }
        }
    }

    fn take_settled(&self, most: usize) -> Vec<Item> {
        let mut state = self.state.lock();
        let settled = state.queue.iter().take_while(|i| i.tx.is_settled()).take(most);
        let mut changes = 0;
        let within = |item: &&Item| {
            let before = changes;
            changes += item.frame.messages();
            before < BATCH_CHANGES
        };
        let n = settled.take_while(within).count();
        state.queue.drain(..n).collect()
    }

    /// Applies settled items; on failure gives back those that must be tried again.
    fn apply_batch(
        self: &Arc<Self>,
        files: &mut Files,
        batch: Vec<Item>,
    ) -> Result<(), (Error, Vec<Item>)> {
        if let Err(error) = self.check_owner() {
            return Err((error, batch));
        }
        let place = self.place.read().clone();
        files.tallied = self.share.tally().begin(&place.dir, files.is_copy);
        let mut done = Vec::with_capacity(batch.len());
        let mut items = batch.into_iter().peekable();
        let mut failed = None;
        while let Some(first) = items.next() {
            if first.tx.failure().is_some() {
                self.void(&first);
                done.push(first);
                continue;
            }
            // Neighbouring appends go out together.
            let mut run = vec![first];
            if matches!(run[0].frame, Frame::Append(_)) {
                let appends =
                    |i: &Item| matches!(i.frame, Frame::Append(_)) && i.tx.failure().is_none();
                while let Some(next) = items.next_if(appends) {
                    run.push(next);
                }
            }
            let result = if matches!(run[0].frame, Frame::Append(_)) {
                self.apply_appends(files, &place, &mut run)
            } else {
                self.apply_change(files, &place, &run[0])
            };
            match result {
                Ok(()) => done.append(&mut run),
                Err(error) => {
                    run.extend(items);
                    failed = Some((error, run));
                    break;
                }
            }
        }
        if !done.is_empty() {
            self.finish(files, done);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Publishes what was applied and tells the waiters.
    fn finish(self: &Arc<Self>, files: &mut Files, done: Vec<Item>) {
        use std::sync::atomic::Ordering::Acquire;
        if !self.deleted.load(Acquire) {
            self.share.add(files.account());
        }
        let tallied = std::mem::take(&mut files.tallied);
        if !self.deleted.load(Acquire) {
            self.share.tally().finish(&self.shared, tallied);
        }
        self.mark_dirty();
        self.note_reverted(&done);
        self.publish(files);
        if self.events.is_heard() {
            let frames = done.iter().map(|item| MessageEvents::of(&item.frame));
            let what = frames.fold(MessageEvents::default(), MessageEvents::union);
            self.events.post_messages(self.id, what);
        }
        let mut state = self.state.lock();
        self.bury(&mut state, &done);
        for item in &done {
            state.latest.forget(&item.frame);
            state.rescan_frames -= u32::from(item.from_rescan);
        }
        state.keywords_filed = files.keywords().clone();
        let settled = state.early_done(&done);
        drop(state);
        for tell in settled {
            // Nobody listens when the session went away.
            let _ = tell.send(());
        }
        if done.iter().any(|item| item.from_rescan && item.tx.failure().is_some()) {
            // What it saw is still to be taken in.
            self.foreign.lock().distrust();
        }
        self.keep_promise(files);
        for item in done {
            item.tx.item_done(&self.shared);
        }
    }

    /// Expunges in the log what is logged and void all the same, for want of its bytes: recovery
    /// might find them whole, and the UID is below some that were told.
    fn bury(self: &Arc<Self>, state: &mut State, done: &[Item]) {
        let void = |item: &&Item| item.tx.failure().is_some() && item.tx.is_logged();
        let uid = |item: &Item| match &item.frame {
            Frame::Append(append) => Some(append.uid),
            _ => None,
        };
        let uids: Vec<Uid> = done.iter().filter(void).filter_map(uid).collect();
        if uids.is_empty() {
            return;
        }
        let (modseq, ranges) = (state.take_modseq(), ranges(&uids));
        let frame = Frame::Expunge { modseq, moved: false, ranges };
        if let Err(error) = self.push_frames(state, vec![(frame, Vec::new())], 0) {
            tracing::warn!(mailbox = %self.id, %error, "cannot log that messages are void");
        }
    }

    /// A void item: its staged file goes, its UID and MODSEQ stay burnt.
    fn void(&self, item: &Item) {
        if let Frame::Append(append) = &item.frame
            && let Source::Staged(stage) | Source::Linked { stage, .. } = &append.source
        {
            let place = self.place.read().clone();
            let path = place.partition.layout.stage_path(&place.partition.path, &place.dir, stage);
            let _ = self.shared.storage.unlink(&path);
        }
    }

    fn apply_appends(&self, files: &mut Files, place: &Place, run: &mut [Item]) -> Result<()> {
        let mut messages = Vec::with_capacity(run.len());
        for item in run.iter() {
            if let Frame::Append(append) = &item.frame {
                self.note_names(append, place);
            }
        }
        let appends = run.iter().filter_map(|item| match &item.frame {
            Frame::Append(append) => Some(append),
            _ => None,
        });
        self.shared.place_files(place, appends, run.last().map(|item| item.lsn))?;
        for item in run.iter_mut() {
            let Frame::Append(append) = &item.frame else { continue };
            self.keep_aside(place, append, &location_of(append));
            let extras = std::mem::take(&mut item.extras);
            messages.push(new_message(append, extras));
        }
        // On failure the extras are lost and made again from the file at the first fetch.
        files.append(messages)?;
        for item in run.iter() {
            if let Frame::Append(append) = &item.frame {
                let size = counted_size(&append.base, append.stored);
                files.tallied.count(1, size, append.flags, item.from_rescan);
            }
        }
        Ok(())
    }

    /// Links a message that has its place for those who copy the log.
    pub(crate) fn keep_aside(&self, place: &Place, append: &Append, at: &Location) {
        let aside = &self.shared.aside;
        if aside.is_on() {
            let path = place.partition.layout.path(&place.dir, at);
            let name = MessageName { content_id: append.content_id, stored: append.stored };
            aside.keep(&*self.shared.storage, &place.partition, &path, &name);
        }
    }

    fn apply_change(self: &Arc<Self>, files: &mut Files, place: &Place, item: &Item) -> Result<()> {
        match &item.frame {
            Frame::Flags { modseq, changes } => {
                let mut tallied = std::mem::take(&mut files.tallied);
                tallied.mark(files, changes, item.from_rescan);
                let changed = apply_flags(files, *modseq, changes)?;
                files.tallied = tallied;
                self.note_locations(files, &item.seen)?;
                if place.partition.layout.kind() == LayoutKind::Maildir {
                    self.names_fall_due(&changed);
                }
                self.recent.lock().add(*modseq, changed.into_iter());
                Ok(())
            }
            Frame::Expunge { modseq, moved, ranges } => {
                let dead = apply_expunge(files, *modseq, ranges)?;
                for &position in &dead {
                    files.forget_lost_name(position)?;
                }
                let uids: Vec<Uid> =
                    dead.iter().map(|&position| files.record(position).uid).collect();
                self.drop_annotations(&uids)?;
                let mut tallied = std::mem::take(&mut files.tallied);
                tallied.expunged(files, &dead, item.from_rescan);
                files.tallied = tallied;
                // What another program removed has no file; one that comes back is a new message.
                if !item.from_rescan {
                    self.unlink_dead(files, place, item.lsn, *moved, &dead);
                }
                Ok(())
            }
            Frame::Keywords { names } => files.set_keywords(names),
            Frame::Annotations { ranges, values } => self.apply_annotations(files, ranges, values),
            Frame::Append(_)
            | Frame::User { .. }
            | Frame::Mailbox { .. }
            | Frame::MailboxGone { .. }
            | Frame::Subscription { .. }
            | Frame::Quota { .. }
            | Frame::Metadata { .. }
            | Frame::Acl { .. }
            | Frame::UrlKey { .. }
            | Frame::Adopted { .. } => Ok(()),
        }
    }

    /// Removes the files of tombstones, those that frames name as a source only later.
    fn unlink_dead(
        self: &Arc<Self>,
        files: &Files,
        place: &Place,
        lsn: Lsn,
        moved: bool,
        dead: &[usize],
    ) {
        let pinned = self.pinned.lock().clone();
        for &position in dead {
            let uid = files.record(position).uid;
            // What may still be asked for by the log's readers outlives the checkpoint, too.
            if moved || self.shared.aside.is_on() || pinned.contains_key(&uid) {
                self.doom(uid, lsn);
            } else {
                self.unlink_message(files, place, position);
            }
        }
    }

    /// Has the file of a tombstone removed behind the checkpoint that covers `lsn`.
    pub(crate) fn doom(self: &Arc<Self>, uid: Uid, lsn: Lsn) {
        self.doomed.lock().insert(uid);
        let what = DoomedKind::Message(self.clone(), uid);
        self.shared.doomed.lock().push(Doomed { lsn, what });
    }

    /// Removes the file of a tombstone; tries again later what fails. A file that is elsewhere by
    /// now is left to the rescan, which knows the tombstone's name.
    pub(crate) fn unlink_message(self: &Arc<Self>, files: &Files, place: &Place, position: usize) {
        let Some(at) = files.location(position) else { return };
        let path = place.partition.layout.path(&place.dir, &at);
        self.issued(&path);
        match self.shared.storage.unlink(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if place.partition.layout.kind() == LayoutKind::Maildir {
                    self.strayed(&[path.as_path()]);
                    self.foreign.lock().strayed = true;
                }
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove an expunged message");
                self.doom(files.record(position).uid, Lsn(0));
            }
        }
    }
}

impl State {
    /// Has items that could not be applied at the queue's front again.
    fn put_back(&mut self, items: Vec<Item>) {
        items.into_iter().rev().for_each(|item| self.queue.push_front(item));
    }
}

/// Where an append's file belongs.
pub(crate) fn location_of(append: &Append) -> Location {
    Location {
        uid: append.uid,
        base: append.base.clone(),
        flags: NameFlags(append.name_flags),
        other_letters: append.other_letters.clone(),
        in_new: append.in_new,
    }
}

/// The index side of an append.
pub(crate) fn new_message(append: &Append, extras: Vec<u8>) -> NewMessage {
    let record = Record {
        uid: append.uid,
        flags: append.flags,
        keywords: append.keywords,
        modseq: append.modseq,
        internal_date: append.internal_date,
        size: append.size,
        header_size: append.header_size,
        sent_date: append.sent_date.clamp(0, i64::from(u32::MAX)) as u32,
        subject_hash: append.subject_hash,
        from_hash: append.from_hash,
        name_flags: NameFlags(append.name_flags),
        in_new: append.in_new,
        expunged: false,
        cache_offset: 0,
        cache_len: 0,
    };
    NewMessage {
        record,
        stored: append.stored,
        content_id: append.content_id,
        save_date: append.save_date,
        name: heap_name(&location_of(append)),
        extras,
    }
}

/// Sets flags; returns the UIDs that were there.
pub(crate) fn apply_flags(
    files: &mut Files,
    modseq: ModSeq,
    changes: &[FlagChange],
) -> Result<Vec<Uid>> {
    let mut done = Vec::with_capacity(changes.len());
    let mut rewritten = Vec::with_capacity(changes.len().min(REWRITE_RECORDS));
    let mut next = usize::MAX;
    for some in changes.chunks(REWRITE_RECORDS) {
        rewritten.clear();
        for change in some {
            // Most often the neighbour of the one before.
            let found = Some(next).filter(|&next| files.is_at(next, change.uid));
            let Some(position) = found.or_else(|| files.position_of(change.uid)) else { continue };
            next = position + 1;
            let mut record = files.record(position);
            if record.expunged {
                continue;
            }
            record.flags = change.flags;
            record.keywords = change.keywords;
            record.modseq = modseq;
            rewritten.push((position, record));
            done.push(record.uid);
        }
        files.rewrite(&rewritten)?;
    }
    files.head.modseq_highest = files.head.modseq_highest.max(modseq);
    Ok(done)
}

/// Makes tombstones; returns their positions. A record may be one already: a redo finds what the
/// first time wrote. What is removed was given: UIDNEXT is above it, also where nobody has it.
pub(crate) fn apply_expunge(
    files: &mut Files,
    modseq: ModSeq,
    ranges: &[(u32, u32)],
) -> Result<Vec<usize>> {
    let mut dead = Vec::new();
    let mut seen = HashSet::new();
    for &(first, last) in ranges {
        let mut position = files.lower_bound(Uid(first));
        while position < files.head.count {
            let mut record = files.record(position);
            if record.uid.0 > last {
                break;
            }
            if seen.insert(position) {
                record.expunged = true;
                record.modseq = modseq;
                dead.push((position, record));
            }
            position += 1;
        }
    }
    dead.sort_unstable_by_key(|(position, _)| *position);
    files.rewrite(&dead)?;
    files.head.modseq_highest = files.head.modseq_highest.max(modseq);
    let last = ranges.iter().map(|&(_, last)| last).max().unwrap_or(0);
    files.head.uid_next = files.head.uid_next.max(Uid(last.saturating_add(1)));
    Ok(dead.into_iter().map(|(position, _)| position).collect())
}

/// Bytes of a message file that are read at a time.
const SCAN_BYTES: usize = 64 << 10;

thread_local! {
    static SCAN_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The bytes of a message file as one pass sees them.
pub(crate) fn scan_file(
    storage: &dyn Storage,
    path: &Path,
    kind: LayoutKind,
) -> Result<message::Ingested> {
    let file = storage.open(path, crate::io::Open::Read).map_err(Error::io("open", path))?;
    scan_open_file(&*file, path, kind, u64::MAX)
}

/// The same of an open file that had `size` bytes a moment ago, and is not looked at behind them.
pub(crate) fn scan_open_file(
    file: &dyn StoredFile,
    path: &Path,
    kind: LayoutKind,
    size: u64,
) -> Result<message::Ingested> {
    let mut pass = message::Rescan::new(line_ends(kind));
    // Most messages fill a small part of it, and clearing it would take as long as reading them.
    SCAN_BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(SCAN_BYTES, 0);
        let mut at = 0;
        loop {
            let n = file.read_at(buffer, at).map_err(Error::io("read", path))?;
            if n == 0 {
                return Ok(pass.finish());
            }
            pass.feed(&buffer[..n]);
            at += n as u64;
            if at >= size {
                return Ok(pass.finish());
            }
        }
    })
}
