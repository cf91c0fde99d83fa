//! What other programs did goes through the log: frames for changed letters, for messages that are
//! gone and for those that came.
//!
//! Invariant: letters merge bit by bit with what the name last said, so that neither our changes nor
//! theirs are lost.

use std::sync::Arc;

use protocol::types::{Keyword, ModSeq, SystemFlags, Uid};

use crate::error::Result;
use crate::format::frame::{FlagChange, Frame};
use crate::layout::{Found, NameFlags};
use crate::mailbox::files::Files;
use crate::mailbox::intake::{Intake, sort_by_delivery};
use crate::mailbox::ops::ranges;
use crate::mailbox::{Latest, MailboxInner, Place, State, Tx, View};
use crate::takeover::{LetterNames, letter_bits};

impl MailboxInner {
    /// Pushes frames for all of these; the last transaction, where there is one.
    pub(in crate::mailbox) fn push_differences(
        self: &Arc<Self>,
        files: &mut Files,
        place: &Place,
        mut fresh: Vec<Found>,
        moved: Vec<(usize, Found)>,
        missing: Vec<usize>,
    ) -> Result<Option<Arc<Tx>>> {
        sort_by_delivery(&mut fresh);
        let told = self.foreign.lock().told.clone();
        if let Some(told) = &told {
            // Those that an old server gave UIDs, in their order, then the others.
            fresh.sort_by_key(|file| told.uid(&file.base).unwrap_or(u32::MAX));
            // What it removed is not known one by one, after a crash neither.
            if told.modseq() > files.head.vanished_floor {
                files.head.vanished_floor = told.modseq();
                if files.head.count == 0 {
                    files.write_both_slots(self.shared.owner_epoch)?;
                    files.sync()?;
                }
            }
        }
        self.make_promise(files, place, &mut fresh);
        // Of names that lost their last letter, too.
        let known = |position: usize| files.location(position).map_or(0, |at| letter_bits(&at));
        let lettered = fresh.iter().any(|file| letter_bits(file) != 0)
            || moved.iter().any(|(position, file)| letter_bits(file) | known(*position) != 0);
        let letters = self.shared.letters(&place.dir, lettered);
        let passed = |position: &usize| files.record(*position).name_flags.0 & NameFlags::PASSED;
        let passed_is_kept = moved.iter().any(|(position, _)| passed(position) != 0)
            && self.shared.is_couriers(&place.dir);
        let mut state = self.open_state()?;
        if let Some(told) = &told {
            state.modseq_last = state.modseq_last.max(told.modseq());
        }
        let view = self.view();
        // Names that say something new, and names that only lie elsewhere.
        let (mut changes, mut seen, mut relocated) = (Vec::new(), Vec::new(), Vec::new());
        for (position, file) in moved {
            let record = files.record(position);
            let before = known(position);
            let touched = before ^ letter_bits(&file);
            let set = touched & letter_bits(&file);
            let words = Words { letters: &letters, touched, set, passed_is_kept };
            let now = state.current(&view, record.uid);
            let base = record.name_flags;
            let file = Found { uid: record.uid, ..file };
            let change = match now {
                Some(now) => merge(&mut state, record.uid, now, base, file.flags, &words)?,
                None => None,
            };
            match change {
                Some(change) => {
                    changes.push(change);
                    seen.push(file);
                }
                None => relocated.push(file),
            }
        }
        let gone = missing.into_iter().map(|position| files.record(position).uid);
        let last = self.push_changes(&mut state, &view, changes, seen, gone)?;
        drop(state);
        let intake = Intake { place, letters: &letters, told: told.as_deref() };
        let came = self.take_in(files, &intake, &fresh)?;
        self.note_locations(files, &relocated)?;
        Ok(came.or(last))
    }

    /// Changed flags and messages that are gone, in one transaction; `None` where there are none.
    fn push_changes(
        self: &Arc<Self>,
        state: &mut State,
        view: &View,
        mut changes: Vec<FlagChange>,
        seen: Vec<Found>,
        gone: impl Iterator<Item = Uid>,
    ) -> Result<Option<Arc<Tx>>> {
        let gone: Vec<Uid> = gone.filter(|uid| state.current(view, *uid).is_some()).collect();
        let mut frames = Vec::new();
        let (mut changes_modseq, mut gone_modseq) = (ModSeq(0), ModSeq(0));
        if !changes.is_empty() {
            changes_modseq = state.take_modseq();
            changes.sort_by_key(|c| c.uid);
            let bits = changes.iter().fold(0, |bits, c| bits | c.keywords);
            let (modseq, changes) = (changes_modseq, changes.clone());
            frames.push((Frame::Flags { modseq, changes }, Vec::new()));
            state.name_bits(bits, &mut frames);
        }
        if !gone.is_empty() {
            tracing::info!(mailbox = %self.id, count = gone.len(), "messages removed by another program");
            let ranges = ranges(&gone);
            gone_modseq = state.take_modseq();
            frames.push((Frame::Expunge { modseq: gone_modseq, moved: false, ranges }, Vec::new()));
        }
        if frames.is_empty() {
            return Ok(None);
        }
        let tx = self.push_rescan(state, frames, seen)?;
        state.will_have(&changes, changes_modseq);
        state.will_be_gone(&gone, gone_modseq);
        Ok(Some(tx))
    }

    /// Pushes frames that a rescan found the reason for.
    pub(in crate::mailbox) fn push_rescan(
        self: &Arc<Self>,
        state: &mut State,
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
        if self.is_late(records.iter().map(|(_, record)| record.uid)) {
            self.shared.sync_dirs(self)?;
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
    state: &mut State,
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
