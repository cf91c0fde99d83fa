//! Other programs' changes to a Maildir: deliveries, moves, flags, removals.
//!
//! A rescan runs in the applier's place with the file lock held, so names on disk differ from the
//! index only by what others did. Where a watch tells of every change, [`super::events`] looks at
//! the names that it tells; else directories are listed: `new/` alone where only its time differs.
//!
//! New names get UIDs by Append frames, missing ones (looked for twice) are expunged, changed
//! letters merge bit by bit with what the name last said; all of it goes through the log before
//! anyone sees it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use protocol::types::{Keyword, ModSeq, SystemFlags, Uid};
use tokio::sync::oneshot;

use super::doubles::drop_doubles;
use super::files::Files;
use super::foreign::TICK_NS;
use super::intake::{delivery_order, foreign_append};
use super::sweep::Names;
use super::{Latest, Mailbox, MailboxInner, Place, Tx, View, settle};
use crate::error::{Error, Result};
use crate::format::frame::{FlagChange, Frame};
use crate::io::Storage;
use crate::layout::{Found, LayoutKind, NameFlags};
use crate::takeover::{LetterNames, letter_bits};

/// Messages taken in by one transaction.
const IMPORT_MAX: usize = 1000;

/// Times of `new/` and `cur/`, ns since 1970; 0 for one that is not there.
pub(crate) fn directory_times(storage: &dyn Storage, dir: &Path) -> (i64, i64) {
    let time = |dir: &Path| storage.stat_fresh(dir).map_or(0, |s| s.mtime_ns);
    (time(&dir.join("new")), time(&dir.join("cur")))
}

/// Whether directories with these times hold what a listing found that began at `listed_at`
/// (ns since 1970; 0: there was none) and saw the times `known`.
pub(crate) fn is_unchanged(known: (i64, i64), listed_at: i64, now: (i64, i64)) -> bool {
    listed_at != 0 && now == known && listed_at - now.0.max(now.1) > TICK_NS
}

impl Mailbox {
    /// Looks for changes by other programs when that is due, then gives the newest view.
    pub async fn refresh(&self) -> Result<View> {
        self.settled().await;
        self.0.named().await;
        if self.0.may_differ() {
            self.look_now().await?;
        }
        Ok(self.view())
    }

    /// Takes in what events told; lists where there are none.
    pub(crate) async fn look_now(&self) -> Result<()> {
        let Some(heard) = self.0.ask_rescan() else { return Ok(()) };
        settle(&self.0.shared, heard).await
    }

    /// Compares the directory with the index now.
    pub(crate) async fn rescan_now(&self) -> Result<()> {
        self.0.foreign.lock().distrust();
        let Some(heard) = self.0.ask_rescan() else { return Ok(()) };
        settle(&self.0.shared, heard).await
    }
}

impl MailboxInner {
    fn is_maildir(&self) -> bool {
        self.place.read().partition.layout.kind() == LayoutKind::Maildir
    }

    /// Whether the directory may hold changes that the index does not know. Two `stat` calls
    /// where nobody watches.
    pub(super) fn may_differ(&self) -> bool {
        if !self.is_maildir() {
            return false;
        }
        let mut foreign = self.foreign.lock();
        if foreign.distrusted || foreign.listed_at == 0 {
            return true;
        }
        if self.is_watched() && self.shared.watches.are_events(self.id) {
            // Nobody waits for the events of one that only lingers: whoever comes now shall see
            // what was there before.
            return self.only_lingers() && foreign.is_behind(self.directory_times());
        }
        foreign.doubts(self.directory_times())
    }

    pub(super) fn directory_times(&self) -> (i64, i64) {
        directory_times(&*self.shared.storage, &self.place.read().dir)
    }

    /// Whether a file of a message that we removed may still be about, under a name that only a
    /// listing tells. If so, the next look lists.
    pub(crate) fn must_look_first(&self) -> bool {
        self.is_maildir() && self.foreign.lock().is_strayed()
    }

    /// Asks the appliers for a rescan; `None` where none is needed or possible.
    pub(crate) fn ask_rescan(self: &Arc<Self>) -> Option<oneshot::Receiver<Result<()>>> {
        if !self.is_maildir() {
            return None;
        }
        let (tell, heard) = oneshot::channel();
        {
            let mut state = self.open_state().ok()?;
            state.rescan.get_or_insert_default().push(tell);
        }
        self.schedule();
        Some(heard)
    }

    /// A rescan for a helper thread that cannot await: does it when the files are free.
    ///
    /// # Errors
    /// What kept it from looking at everything.
    pub(crate) fn rescan_blocking(self: &Arc<Self>) -> Result<()> {
        self.foreign.lock().distrust();
        let Some(heard) = self.ask_rescan() else { return Ok(()) };
        self.shared.wait_blocking(heard)
    }

    /// The rescan itself, under the file lock, with no rescan's frames on their way.
    pub(crate) fn rescan(
        self: &Arc<Self>,
        files: &mut Files,
        waiters: Vec<oneshot::Sender<Result<()>>>,
    ) {
        match self.look(files) {
            // Applied under the file lock that we hold, so not yet told to anybody.
            Ok(Some(tx)) => tx.also_tell(waiters),
            Ok(None) => {
                self.keep_promise(files);
                tell_all(waiters, Ok(()));
            }
            Err(error) => {
                tracing::warn!(mailbox = %self.id, %error, "cannot look through the mailbox");
                self.foreign.lock().distrust();
                self.break_promise(&error);
                self.keep_promise(files);
                tell_all(waiters, Err(error));
            }
        }
    }

    /// Looks where it must: at what events told, at `new/`, at everything.
    fn look(self: &Arc<Self>, files: &mut Files) -> Result<Option<Arc<Tx>>> {
        let (distrusted, new_differs) = {
            let foreign = self.foreign.lock();
            (foreign.distrusted || foreign.listed_at == 0, foreign.new_differs)
        };
        if distrusted {
            return self.compare(files);
        }
        if new_differs {
            let Some(last) = self.compare_new(files)? else { return self.compare(files) };
            // Events that came meanwhile have their turn after this.
            if !self.foreign.lock().events().is_empty() {
                self.ask_rescan();
            }
            return Ok(last);
        }
        if self.is_watched() && self.shared.watches.are_events(self.id) {
            return self.follow_events(files);
        }
        self.compare(files)
    }

    /// Lists `new/` alone and compares it with the messages that are there. `None` when one of
    /// them is missing: then it may be in `cur/`.
    fn compare_new(self: &Arc<Self>, files: &mut Files) -> Result<Option<Option<Arc<Tx>>>> {
        let place = self.place.read().clone();
        let began = self.shared.storage.now_ns();
        let times = self.directory_times();
        let mut known = HashMap::new();
        for position in files.positions_in_new() {
            let Some(at) = files.location(position) else { return Ok(None) };
            known.insert(at.base.clone(), (position, at));
        }
        let (mut fresh, mut moved) = (Vec::new(), Vec::new());
        for file in self.list(&place, true)? {
            match known.remove(&file.base) {
                None => fresh.push(file),
                Some((position, _)) if files.is_tombstone(position) => {
                    if self.foreign.lock().was_removed(&file.base) {
                        fresh.push(file);
                    } else {
                        self.finish_removal(files, &place, position, &file);
                    }
                }
                Some((position, at)) => {
                    if at.other_letters != file.other_letters {
                        moved.push((position, file));
                    }
                }
            }
        }
        if known.values().any(|(position, _)| !files.is_tombstone(*position)) {
            return Ok(None);
        }
        let last = self.push_differences(files, &place, fresh, moved, Vec::new())?;
        let mut foreign = self.foreign.lock();
        (foreign.new_mtime, foreign.new_listed_at) = (times.0, began);
        foreign.new_differs = false;
        Ok(Some(last))
    }

    /// Lists, compares, pushes frames for what differs.
    pub(super) fn compare(self: &Arc<Self>, files: &mut Files) -> Result<Option<Arc<Tx>>> {
        let place = self.place.read().clone();
        if files.head.count >= self.shared.config.linger_messages_min && self.is_maildir() {
            self.shared.watches.linger(self);
        }
        // What they tell is in the listing, or comes again later.
        let after_crash = {
            let mut foreign = self.foreign.lock();
            foreign.events().clear();
            foreign.strayed = false;
            std::mem::take(&mut foreign.after_crash)
        };
        if after_crash {
            self.clean_stage(&place);
        }
        let began = self.shared.storage.now_ns();
        let times = self.directory_times();
        let mut found = self.list(&place, false)?;
        if after_crash {
            found = drop_doubles(&*self.shared.storage, &place, found)?;
        }
        let mut names = files.names()?;
        if files.damage.any() && !self.heal_files(files, false).mended.is_empty() {
            names = files.names()?;
        }
        let known = Known::of(files, &names);
        let told = self.foreign.lock().told.clone();
        let mut seen = vec![false; files.head.count];
        let mut fresh = Vec::new();
        let mut moved = Vec::new();
        for file in found {
            let Some(position) = known.find(&file.base) else {
                fresh.push(file);
                continue;
            };
            if files.is_tombstone(position) && self.foreign.lock().was_removed(&file.base) {
                fresh.push(file);
                continue;
            }
            // Dovecot gives copies the name that a message had, and another UID.
            let uid = files.record(position).uid;
            if files.is_tombstone(position)
                && told.as_ref().and_then(|told| told.uid(&file.base)).is_some_and(|t| t != uid.0)
            {
                fresh.push(file);
                continue;
            }
            if files.is_tombstone(position) {
                self.finish_removal(files, &place, position, &file);
                continue;
            }
            if std::mem::replace(&mut seen[position], true) {
                // Met twice while another program moves it from `new/`: where it went counts.
                moved.retain(|(at, _): &(usize, Found)| *at != position);
            }
            let record = files.record(position);
            let differs = file.flags != record.name_flags || file.in_new != record.in_new;
            if differs || known.names.of(position).1 != file.other_letters {
                moved.push((position, file));
            }
        }
        let mut missing: Vec<usize> =
            (0..seen.len()).filter(|&p| !seen[p] && !files.is_tombstone(p)).collect();
        // A name that cannot be read is missing nowhere, unless no file has the message's content.
        missing.retain(|&position| {
            let named = !names.of(position).0.is_empty();
            named || files.fileless.contains(&files.record(position).uid)
        });
        if !missing.is_empty() {
            self.look_again(&place, &known, &mut missing, &mut moved)?;
        }
        let removed = missing.iter().map(|&p| known.names.of(p).0.to_vec());
        let removed = removed.filter(|base| !base.is_empty()).collect();
        let last = self.push_differences(files, &place, fresh, moved, missing)?;
        let mut foreign = self.foreign.lock();
        foreign.removed(removed);
        foreign.looked(times, began);
        foreign.distrusted = false;
        Ok(last)
    }

    fn list(&self, place: &Place, new_only: bool) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let storage = &*self.shared.storage;
        let mut each = |file: Found| found.push(file);
        place
            .partition
            .layout
            .list(storage, &place.dir, new_only, &mut each)
            .map_err(Error::io("list", &place.dir))?;
        Ok(found)
    }

    /// Removes files in `tmp/` that deliveries of earlier runs left: what the log had of them was
    /// placed by recovery. Names tell the run (the owner epoch).
    fn clean_stage(&self, place: &Place) {
        let storage = &*self.shared.storage;
        let stage =
            |name: &str| place.partition.layout.stage_path(&place.partition.path, &place.dir, name);
        let mut left = Vec::new();
        let mut each = |name: &[u8], _| {
            let text = std::str::from_utf8(name).ok();
            let epoch = text.and_then(|name| name.strip_prefix("cursus.")?.split('.').next());
            let epoch = epoch.and_then(|epoch| u32::from_str_radix(epoch, 16).ok());
            if epoch.is_some_and(|epoch| epoch < self.shared.owner_epoch) {
                left.extend(text.map(str::to_owned));
            }
        };
        if let Some(dir) = stage("x").parent()
            && let Err(error) = storage.list(dir, &mut each)
        {
            tracing::warn!(dir = %dir.display(), %error, "cannot look for unfinished deliveries");
        }
        for name in left {
            let path = stage(&name);
            match storage.unlink(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "removed an unfinished delivery"),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove a staged file");
                }
            }
        }
    }

    /// A name missing once may have been renamed while we listed.
    fn look_again(
        &self,
        place: &Place,
        known: &Known<'_>,
        missing: &mut Vec<usize>,
        moved: &mut Vec<(usize, Found)>,
    ) -> Result<()> {
        let mut back = HashMap::new();
        for file in self.list(place, false)? {
            if let Some(position) = known.find(&file.base) {
                back.insert(position, file);
            }
        }
        missing.retain(|position| match back.remove(position) {
            Some(file) => {
                moved.push((*position, file));
                false
            }
            None => true,
        });
        Ok(())
    }

    /// The file of a tombstone that is still there: removed now unless a checkpoint must come
    /// first.
    pub(super) fn finish_removal(
        self: &Arc<Self>,
        files: &Files,
        place: &Place,
        position: usize,
        file: &Found,
    ) {
        let uid = files.record(position).uid;
        if self.doomed.lock().contains(&uid) {
            return;
        }
        let path = place.partition.layout.path(&place.dir, file);
        self.issued(&path);
        match self.shared.storage.unlink(&path) {
            // The next checkpoint makes it durable.
            Ok(()) => self.mark_dirty(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove an expunged message");
                self.foreign.lock().strayed = true;
            }
        }
    }

    /// Removes the files of tombstones that other programs had renamed before we could: a clean
    /// stop leaves nothing that only a tombstone tells from a delivery.
    pub(crate) fn remove_strays(self: &Arc<Self>) -> Result<()> {
        let files = self.files.lock();
        if !self.is_maildir() || !self.foreign.lock().strayed {
            return Ok(());
        }
        let place = self.place.read().clone();
        let names = files.names()?;
        let known = Known::of(&files, &names);
        let found = self.list(&place, false)?;
        self.foreign.lock().strayed = false;
        for file in found {
            if let Some(position) = known.find(&file.base)
                && files.is_tombstone(position)
                && !self.foreign.lock().was_removed(&file.base)
            {
                self.finish_removal(&files, &place, position, &file);
            }
        }
        Ok(())
    }

    pub(super) fn push_differences(
        self: &Arc<Self>,
        files: &mut Files,
        place: &Place,
        mut fresh: Vec<Found>,
        moved: Vec<(usize, Found)>,
        missing: Vec<usize>,
    ) -> Result<Option<Arc<Tx>>> {
        fresh.sort_by(|a, b| delivery_order(&a.base).cmp(&delivery_order(&b.base)));
        let told = self.foreign.lock().told.clone();
        if let Some(told) = &told {
            // Those that an old server gave UIDs, in their order, then the others.
            fresh.sort_by_key(|file| told.uid(&file.base).unwrap_or(u32::MAX));
        }
        self.make_promise(files, place, &mut fresh);
        let imported = self.read_fresh(place, &fresh)?;
        // Of names that lost their last letter, too.
        let known = |position: usize| files.location(position).map_or(0, |at| letter_bits(&at));
        let lettered = imported.iter().any(|(file, ..)| letter_bits(file) != 0)
            || moved.iter().any(|(position, file)| letter_bits(file) | known(*position) != 0);
        let letters = self.shared.letters(&place.dir, lettered);
        let passed = |position: &usize| files.record(*position).name_flags.0 & NameFlags::PASSED;
        let passed_is_kept = moved.iter().any(|(position, _)| passed(position) != 0)
            && self.shared.is_couriers(&place.dir);
        // Names that say something new, and names that only lie elsewhere.
        let (mut seen, mut relocated) = (Vec::new(), Vec::new());
        let mut last = None;
        let mut state = self.open_state()?;
        let view = self.view();
        let mut frames: Vec<(Frame, Vec<u8>)> = Vec::new();
        let mut changes = Vec::new();
        for (position, file) in moved {
            let record = files.record(position);
            let file = Found { uid: record.uid, ..file };
            let before = files.location(position).map_or(0, |known| letter_bits(&known));
            let touched = before ^ letter_bits(&file);
            let set = touched & letter_bits(&file);
            let words = Words { letters: &letters, touched, set, passed_is_kept };
            if let Some(now) = state.current(&view, record.uid)
                && let Some(change) =
                    merge(&mut state, record.uid, now, record.name_flags, file.flags, &words)?
            {
                changes.push(change);
                seen.push(file);
            } else {
                relocated.push(file);
            }
        }
        let mut changes_modseq = ModSeq(0);
        if !changes.is_empty() {
            changes_modseq = state.take_modseq();
            changes.sort_by_key(|c| c.uid);
            let bits = changes.iter().fold(0, |bits, c| bits | c.keywords);
            let (modseq, changes) = (changes_modseq, changes.clone());
            frames.push((Frame::Flags { modseq, changes }, Vec::new()));
            state.name_bits(bits, &mut frames);
        }
        let gone: Vec<Uid> = missing
            .into_iter()
            .map(|position| files.record(position).uid)
            .filter(|uid| state.current(&view, *uid).is_some())
            .collect();
        let mut gone_modseq = ModSeq(0);
        if !gone.is_empty() {
            tracing::info!(mailbox = %self.id, count = gone.len(), "messages removed by another program");
            let ranges = super::ops::ranges(&gone);
            gone_modseq = state.take_modseq();
            frames.push((Frame::Expunge { modseq: gone_modseq, moved: false, ranges }, Vec::new()));
        }
        if !frames.is_empty() {
            last = Some(self.push_rescan(&mut state, frames, seen)?);
            state.will_have(&changes, changes_modseq);
            state.will_be_gone(&gone, gone_modseq);
        }
        let mut imported = imported.into_iter().peekable();
        while imported.peek().is_some() {
            let mut frames = Vec::new();
            for (file, date, facts) in imported.by_ref().take(IMPORT_MAX) {
                if let Some(told) = &told {
                    state.uid_next = told.next(&file.base, state.uid_next);
                }
                let words = letters.keywords(letter_bits(&file));
                let came = (file, date, facts);
                frames.push(foreign_append(&self.shared, &mut state, came, words)?);
            }
            let bits = frames.iter().map(|(frame, _)| frame_bits(frame)).fold(0, |a, b| a | b);
            state.name_bits(bits, &mut frames);
            last = Some(self.push_rescan(&mut state, frames, Vec::new())?);
        }
        drop(state);
        self.note_locations(files, &relocated)?;
        Ok(last)
    }

    fn push_rescan(
        self: &Arc<Self>,
        state: &mut super::State,
        frames: Vec<(Frame, Vec<u8>)>,
        mut seen: Vec<Found>,
    ) -> Result<Arc<Tx>> {
        let count = frames.len();
        let (tx, _) = self.push_frames(state, frames, 0)?;
        for item in state.queue.iter_mut().rev().take(count) {
            item.from_rescan = true;
            if matches!(item.frame, Frame::Flags { .. }) {
                item.seen = std::mem::take(&mut seen);
            }
            state.rescan_frames += 1;
        }
        Ok(tx)
    }

    /// Writes down what names say now: the base of the next merge.
    pub(crate) fn note_locations(
        self: &Arc<Self>,
        files: &mut Files,
        seen: &[Found],
    ) -> Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        // Or it could be closed and opened again with the heap's end as it was.
        self.mark_dirty();
        let mut records = Vec::with_capacity(seen.len());
        for file in seen {
            let Some(position) = files.position_of(file.uid) else { continue };
            let mut record = files.record(position);
            let known = files.location(position);
            if known.is_none_or(|k| k.other_letters != file.other_letters) {
                files.rename(position, file)?;
            }
            record.name_flags = file.flags;
            record.in_new = file.in_new;
            records.push((position, record));
        }
        records.sort_unstable_by_key(|(position, _)| *position);
        // Flags of ours that the name was still to follow, and now another name is.
        let passed = files.keywords().passed_bit();
        let due: Vec<Uid> = records
            .iter()
            .filter(|(_, r)| r.name_flags_wanted(passed) != r.name_flags)
            .map(|(_, r)| r.uid)
            .collect();
        if !due.is_empty() {
            self.names_fall_due(&due);
        }
        files.rewrite(&records)
    }
}

fn tell_all(waiters: Vec<oneshot::Sender<Result<()>>>, result: Result<()>) {
    for waiter in waiters {
        // A waiter that went away needs no answer.
        let _ = waiter.send(result.clone());
    }
}

/// Keyword letters that another program set or took away in a name.
struct Words<'a> {
    letters: &'a LetterNames,
    touched: u32,
    set: u32,
    /// The loss of a `P` says nothing: Courier leaves it out of names, and has the keyword elsewhere.
    passed_is_kept: bool,
}

/// Three-way merge: what another program changed in the name, on top of what we have.
fn merge(
    state: &mut super::State,
    uid: Uid,
    now: Latest,
    base: NameFlags,
    found: NameFlags,
    words: &Words<'_>,
) -> Result<Option<FlagChange>> {
    let mut touched = base.0 ^ found.0;
    if words.passed_is_kept {
        touched &= !(base.0 & NameFlags::PASSED);
    }
    let system = touched & SystemFlags::ALL.0;
    let flags = SystemFlags(now.flags.0 & !system | found.0 & system);
    let mut keywords = now.keywords;
    if touched & NameFlags::PASSED != 0 {
        let forwarded: Vec<Keyword> = Keyword::new("$Forwarded").into_iter().collect();
        let bit = state.keyword_bits(&forwarded, true)?;
        keywords = if found.0 & NameFlags::PASSED != 0 { keywords | bit } else { keywords & !bit };
    }
    if words.touched != 0 {
        let set = words.letters.keywords(words.set);
        let bits = state.known_keyword_bits(&set);
        let cleared = words.letters.keywords(words.touched & !words.set);
        keywords = keywords & !state.keyword_bits(&cleared, false)? | bits;
    }
    let same = (flags, keywords) == (now.flags, now.keywords);
    Ok((!same).then(|| state.flag_change(uid, &now, flags, keywords)))
}

fn frame_bits(frame: &Frame) -> u64 {
    if let Frame::Append(append) = frame { append.keywords } else { 0 }
}

/// The file names that the index knows, tombstones' included.
struct Known<'a> {
    names: &'a Names,
    by_base: HashMap<&'a [u8], u32>,
}

impl<'a> Known<'a> {
    /// A living message goes before a tombstone of the same name.
    fn of(files: &Files, names: &'a Names) -> Known<'a> {
        let mut by_base = HashMap::with_capacity(files.head.count);
        for position in 0..files.head.count {
            let (base, _) = names.of(position);
            if base.is_empty() {
                continue;
            }
            if files.is_tombstone(position) {
                by_base.entry(base).or_insert(position as u32);
            } else {
                by_base.insert(base, position as u32);
            }
        }
        Known { names, by_base }
    }

    /// The position whose file has this base name.
    fn find(&self, base: &[u8]) -> Option<usize> {
        self.by_base.get(base).map(|position| *position as usize)
    }
}

impl MailboxInner {
    /// Right after the last watch ended; `events`: it told of every change.
    pub(crate) fn look_after_unwatch(&self, events: bool) {
        if !events {
            return self.foreign.lock().overflow();
        }
        let times = self.directory_times();
        let now = self.shared.storage.now_ns();
        self.foreign.lock().unwatched(times, now);
        // Whoever has the files may need the table still.
        if let Some(mut files) = self.files.try_lock() {
            files.forget_bases();
        }
    }

    /// Right after a watch began: changes from before it are found by the directory times.
    pub(crate) fn look_after_watch(self: &Arc<Self>) {
        let times = self.directory_times();
        if self.foreign.lock().doubts(times) {
            self.ask_rescan();
        }
    }

    /// For mailboxes without events: asks for a rescan when the directory times say so.
    pub(crate) fn poll(self: &Arc<Self>) {
        if self.may_differ() {
            self.ask_rescan();
        }
    }
}
