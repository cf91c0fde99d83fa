//! Maildir names follow flags: in batches, after the flags are in the index.
//!
//! A batch holds the file lock for some milliseconds, in which no change of flags gets into the index, and
//! flags that are taken back need no other name: so names wait until no more flags change, within
//! limits ([`QUIET`], [`WAIT_MAX`]).
//!
//! The name is a copy of the truth in the index. What the name last said is in the record
//! (`name_flags`, `in_new`), the base of three-way merges with other programs' changes, so it is
//! written right after the rename.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::types::Uid;

use super::files::Files;
use super::placing::{OldNames, give_name};
use super::{MailboxInner, Place};
use crate::format::frame::{Append, Source};
use crate::ids::Lsn;
use crate::layout::LayoutKind;
use crate::shared::{Doomed, DoomedKind};

/// Renames under one hold of the file lock, so that other work comes in between.
const RENAMES_MAX: usize = 128;

/// Names follow when no flags of the mailbox changed for so long, ...
const QUIET: Duration = Duration::from_millis(200);
/// ... or when one has been due for so long.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Messages of a mailbox whose file names should follow their flags.
#[derive(Default)]
pub(crate) struct NamesDue {
    /// Ascending, behind those that were taken: a change of all messages adds thousands at a time.
    uids: Vec<Uid>,
    taken: usize,
    /// Since when there are some, and when the last came.
    times: Option<(Instant, Instant)>,
}

impl NamesDue {
    pub(crate) fn is_empty(&self) -> bool {
        self.left().is_empty()
    }

    fn left(&self) -> &[Uid] {
        &self.uids[self.taken..]
    }

    /// `uids` come in any order.
    fn add(&mut self, uids: &[Uid]) {
        let now = Instant::now();
        let since = self.times.filter(|_| !self.is_empty()).map_or(now, |(since, _)| since);
        self.times = Some((since, now));
        self.uids.drain(..std::mem::take(&mut self.taken));
        if let [uid] = uids {
            if let Err(at) = self.uids.binary_search(uid) {
                self.uids.insert(at, *uid);
            }
            return;
        }
        // Takes advantage of runs that are in order, which these are but for the border.
        self.uids.extend_from_slice(uids);
        self.uids.sort();
        self.uids.dedup();
    }

    fn take(&mut self, count: usize) -> Vec<Uid> {
        let some = self.left().iter().take(count).copied().collect::<Vec<Uid>>();
        self.taken += some.len();
        if self.is_empty() {
            (self.uids, self.taken) = (Vec::new(), 0);
        }
        some
    }

    /// Whether more changes are worth waiting for.
    fn may_wait(&self) -> bool {
        let may = |(since, last): (Instant, Instant)| {
            last.elapsed() < QUIET && since.elapsed() < WAIT_MAX
        };
        self.times.is_some_and(may)
    }

    /// Whether other work on the mailbox goes first.
    fn gives_way(&self) -> bool {
        self.times.is_some_and(|(since, _)| since.elapsed() < WAIT_MAX)
    }
}

impl MailboxInner {
    /// The names of these messages' files should follow their flags.
    pub(crate) fn names_fall_due(self: &Arc<Self>, uids: &[Uid]) {
        self.names_due.lock().add(uids);
        self.shared.names_due.lock().insert(self.id, self.clone());
    }

    /// Renames files as [`Self::follow_flags`] does, in up to `turns` holds of the file lock, when it is time
    /// for it. Returns whether some are left.
    pub(crate) fn follow_flags_in_time(self: &Arc<Self>, turns: usize) -> bool {
        if self.names_due.lock().may_wait() {
            return true;
        }
        for _ in 0..turns {
            // Between two holds of the file lock, whoever waits for it has it.
            if !self.follow_flags() {
                return false;
            }
            if !self.state.lock().queue.is_empty() && self.names_due.lock().gives_way() {
                return true;
            }
        }
        true
    }

    /// What a crash may have undone besides what the log redoes: removals of files whose frames
    /// a checkpoint covers, renames by us and by other programs. Once for every mailbox that had
    /// no checkpoint since.
    pub(crate) fn look_after_crash(self: &Arc<Self>) {
        let dead: Vec<_> = {
            let files = self.files.lock();
            let tombs = (0..files.head.count).filter(|p| files.is_tombstone(*p));
            tombs.map(|p| files.record(p).uid).collect()
        };
        self.doomed.lock().extend(dead.iter().copied());
        let doomed = |uid| Doomed { lsn: Lsn(0), what: DoomedKind::Message(self.clone(), uid) };
        self.shared.doomed.lock().extend(dead.into_iter().map(doomed));
        self.foreign.lock().crashed();
        self.find_differing_names();
        self.mark_dirty();
    }

    /// Finds the records whose file names say something else: after an unclean stop.
    pub(crate) fn find_differing_names(self: &Arc<Self>) {
        let files = self.files.lock();
        if self.place.read().partition.layout.kind() != LayoutKind::Maildir {
            return;
        }
        let passed = files.keywords().passed_bit();
        let live = (0..files.head.count).filter(|p| !files.is_tombstone(*p));
        let differing =
            live.map(|p| files.record(p)).filter(|r| r.name_flags_wanted(passed) != r.name_flags);
        let differing: Vec<Uid> = differing.map(|r| r.uid).collect();
        self.names_late.lock().extend(differing.iter().copied());
        drop(files);
        self.names_fall_due(&differing);
    }

    /// Whether a message's file name should say something else, under the file lock.
    fn name_differs(files: &Files, uid: Uid) -> bool {
        let live = files.position_of(uid).filter(|p| !files.is_tombstone(*p));
        let record = live.map(|position| files.record(position));
        let passed = files.keywords().passed_bit();
        record.is_some_and(|record| record.name_flags_wanted(passed) != record.name_flags)
    }

    /// At a checkpoint, under the file lock: no frame tells any more of the flags whose names are
    /// still to come. Returns whether there are such, which whoever opens the mailbox next has to
    /// know, too.
    pub(crate) fn names_stay_behind(&self, files: &Files) -> bool {
        let mut late = self.names_late.lock();
        late.extend(self.names_due.lock().left());
        late.retain(|uid| MailboxInner::name_differs(files, *uid));
        !late.is_empty()
    }

    /// Behind a listing: names that could not be given are tried again.
    pub(crate) fn try_late_names(self: &Arc<Self>, files: &Files) {
        let late: Vec<Uid> = self.names_late.lock().iter().copied().collect();
        let differ: Vec<Uid> =
            late.into_iter().filter(|uid| MailboxInner::name_differs(files, *uid)).collect();
        if !differ.is_empty() {
            self.names_fall_due(&differ);
        }
    }

    /// Whether a name of one of these is only noted once it is durable: see [`Self::follow_flags`].
    pub(crate) fn is_late(&self, mut uids: impl Iterator<Item = Uid>) -> bool {
        let late = self.names_late.lock();
        !late.is_empty() && uids.any(|uid| late.contains(&uid))
    }

    /// Renames files whose flags changed. Returns whether some are left for another turn.
    ///
    /// A change that no frame tells of any more, because a checkpoint covers it, is noted when the
    /// name is durable: were the note kept and the rename undone by a power cut, the old letters
    /// would pass for another program's.
    pub(crate) fn follow_flags(self: &Arc<Self>) -> bool {
        let mut files = self.files.lock();
        let place = self.place.read().clone();
        let (due, left) = {
            let mut due = self.names_due.lock();
            (due.take(RENAMES_MAX), !due.is_empty())
        };
        let passed = files.keywords().passed_bit();
        let mut changed = Vec::new();
        let mut old = self.shared.old_names(&place);
        for uid in due {
            let Some(position) = files.position_of(uid) else { continue };
            let mut record = files.record(position);
            let wanted = record.name_flags_wanted(passed);
            if files.is_tombstone(position) || wanted == record.name_flags {
                continue;
            }
            let Some(from) = files.location(position) else { continue };
            let mut to = from.clone();
            to.flags = wanted;
            to.in_new = false;
            if self.rename_message(&place, &from, &to, old.as_mut()) {
                record.name_flags = wanted;
                record.in_new = false;
                changed.push((position, record));
            } else {
                // A checkpoint may come before it is tried again.
                self.names_late.lock().insert(uid);
                self.mark_dirty();
            }
        }
        if changed.is_empty() {
            return left;
        }
        let uids = || changed.iter().map(|(_, record)| record.uid);
        let durable = match old {
            Some(old) => old.remove(&*self.shared.storage),
            None if self.is_late(uids()) => self.shared.sync_dirs(self),
            None => Ok(()),
        };
        match durable.and_then(|()| files.rewrite(&changed)) {
            Ok(()) => {
                let mut late = self.names_late.lock();
                uids().for_each(|uid| {
                    late.remove(&uid);
                });
            }
            Err(error) => {
                tracing::error!(mailbox = %self.id, %error, "cannot note new file names");
                // Some have their new names, maybe beside the old ones. The next listing sees which.
                self.names_late.lock().extend(uids());
                self.foreign.lock().distrust();
            }
        }
        self.mark_dirty();
        left
    }

    pub(crate) fn rename_message(
        &self,
        place: &Place,
        from: &crate::layout::Location,
        to: &crate::layout::Location,
        old: Option<&mut OldNames>,
    ) -> bool {
        let layout = &place.partition.layout;
        let (from, to) = (layout.path(&place.dir, from), layout.path(&place.dir, to));
        self.issued(&from);
        self.issued(&to);
        let storage = &*self.shared.storage;
        let renamed = match old {
            Some(old) => give_name(storage, &from, &to, Some(old)),
            None => storage.rename(&from, &to),
        };
        match renamed {
            Ok(()) => true,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                // Another program renamed or removed it: its events tell, or the next listing.
                self.strayed(&[from.as_path(), to.as_path()]);
                false
            }
            Err(error) => {
                tracing::warn!(path = %from.display(), %error, "cannot rename a message file");
                self.strayed(&[from.as_path(), to.as_path()]);
                false
            }
        }
    }

    /// Notes a name that we are about to make or remove, so that its event is known as ours.
    pub(crate) fn issued(&self, path: &Path) {
        if self.is_watched()
            && let Some(name) = path.file_name()
        {
            self.foreign.lock().issued(name.as_encoded_bytes());
        }
    }

    /// Files were not where they should be, and what was issued for them did not happen.
    pub(crate) fn strayed(&self, paths: &[&Path]) {
        let mut foreign = self.foreign.lock();
        let names = paths.iter().filter_map(|path| path.file_name());
        names.for_each(|name| {
            foreign.unissued(name.as_encoded_bytes());
        });
        if !(self.is_watched() && self.shared.watches.are_events(self.id)) {
            foreign.distrust();
        }
    }

    /// As [`Self::issued`], of a message that is about to get its place. One that another program put
    /// there has it: what comes of its name later is not ours.
    pub(crate) fn note_names(&self, append: &Append, place: &Place) {
        let is_placed = matches!(append.source, Source::Staged(_) | Source::Linked { .. });
        if is_placed && self.is_watched() && place.partition.layout.kind() == LayoutKind::Maildir {
            self.issued(
                &place.partition.layout.path(&place.dir, &super::apply::location_of(append)),
            );
        }
    }

    /// Removes the files of doomed tombstones: the checkpoint covers their frames.
    pub(crate) fn destroy_doomed(self: &Arc<Self>, uid: Uid) {
        let files: &mut Files = &mut self.files.lock();
        let place = self.place.read().clone();
        self.doomed.lock().remove(&uid);
        if let Some(position) = files.position_of(uid)
            && files.is_tombstone(position)
        {
            self.unlink_message(files, &place, position);
            // The next checkpoint makes it durable.
            self.mark_dirty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_wait_while_flags_change_but_not_for_long() {
        let now = Instant::now();
        let ago = |milliseconds| now - Duration::from_millis(milliseconds);
        let mut due = NamesDue::default();
        assert!(!due.may_wait());
        due.add(&[Uid(5), Uid(9)]);
        due.add(&(1..8).map(Uid).collect::<Vec<_>>());
        assert!(due.may_wait() && due.gives_way());
        due.times = Some((ago(1000), ago(201)));
        assert!(!due.may_wait() && due.gives_way());
        due.times = Some((ago(2001), now));
        assert!(!due.may_wait() && !due.gives_way());
        // The oldest counts, until all are done.
        due.add(&[Uid(8)]);
        assert!(!due.gives_way());
        assert_eq!(due.take(3), [1, 2, 3].map(Uid));
        assert_eq!(due.take(10), (4..=9).map(Uid).collect::<Vec<_>>());
        assert!(due.is_empty());
        due.add(&[Uid(8)]);
        assert!(due.may_wait());
        // What was taken comes again when it changes again.
        due.add(&[12, 10, 11, 8].map(Uid));
        assert_eq!(due.take(2), [8, 10].map(Uid));
        due.add(&[Uid(9)]);
        due.add(&[Uid(8), Uid(13)]);
        assert_eq!(due.take(10), [8, 9, 11, 12, 13].map(Uid));
    }
}
