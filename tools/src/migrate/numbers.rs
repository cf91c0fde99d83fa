//! UIDs as they are at the source (`--keep-uids`), so that mail programs fetch nothing anew.
//!
//! A folder's UIDs are kept from its first message on or not at all. UIDNEXT here is brought to the
//! source's, so that no UID that the source has given, not even of a message that is gone there, is
//! given to another message here. Mail that comes in here before the last run takes UIDs that the
//! source gives to others meanwhile: such messages get new ones above the source's, and so do the
//! source's messages whose place is taken; a mail program fetches these anew, and sees none for
//! another.

use std::collections::BTreeMap;

use client::imap::Examined;
use engine::UID_VALIDITY_GIVEN_MAX;

use super::folder::Work;
use super::state::{Folder, Known};
use super::stop::Stop;

/// Why the UIDs of a folder that begins now cannot be kept in a mailbox with this UIDNEXT, if so.
pub(super) fn why_not_kept(examined: &Examined, target: &str, uid_next: u32) -> Option<String> {
    if examined.uids_not_sticky {
        return Some("the source itself does not keep them (UIDNOTSTICKY)".to_owned());
    }
    if examined.uid_next == 0 {
        return Some("the source tells no UIDNEXT".to_owned());
    }
    if !(1..=UID_VALIDITY_GIVEN_MAX).contains(&examined.uid_validity) {
        let found = examined.uid_validity;
        return Some(format!("UIDVALIDITY is {found}, expected 1 to {UID_VALIDITY_GIVEN_MAX}"));
    }
    (uid_next > 1).then(|| format!("{target} has, or had, messages here already"))
}

/// Why the UIDs of a folder are not kept that came over before, if so.
pub(super) fn why_not_kept_on(examined: &Examined, folder: &Folder) -> Option<String> {
    if !folder.keeps_uids {
        return Some(CAME_WITH_NEW.to_owned());
    }
    let (before, now) = (folder.uid_validity, examined.uid_validity);
    (before != now).then(|| format!("UIDVALIDITY at the source was {before} and is {now}"))
}

/// Of a folder that came over without its UIDs.
pub(super) const CAME_WITH_NEW: &str = "it came over before, with new ones";

impl Work<'_, '_> {
    /// Gives the mailbox of a folder that begins now the UIDVALIDITY of the source.
    ///
    /// # Errors
    /// [`Stop::Folder`] with the reason where UIDs cannot be kept.
    pub(super) fn keep_uids(
        &mut self,
        examined: &Examined,
        folder: &mut Folder,
    ) -> Result<(), Stop> {
        let cannot = |why: &str| {
            let hint = "without --keep-uids it comes over with new ones";
            Stop::Folder(format!("UIDs cannot be kept: {why}; {hint}"))
        };
        let (_, uid_next) = self.target.numbers(&folder.target)?;
        if let Some(why) = why_not_kept(examined, &folder.target, uid_next) {
            return Err(cannot(&why));
        }
        let given = self.target.set_uid_validity(&folder.target, examined.uid_validity);
        given.map_err(|failed| cannot(&failed.to_string()))?;
        folder.keeps_uids = true;
        Ok(())
    }

    /// Whether the next message can have its UID of the source. If not, it and those behind it get
    /// UIDs that the source has not given.
    pub(super) fn keeps_uid(&mut self, folder: &mut Folder, uid: u32) -> Result<bool, Stop> {
        if !folder.keeps_uids {
            return Ok(false);
        }
        let uid_next = match self.uid_next {
            Some(uid_next) => uid_next,
            None => self.target.numbers(&folder.target)?.1,
        };
        self.uid_next = Some(uid_next);
        if uid >= uid_next {
            return Ok(true);
        }
        if !std::mem::replace(&mut self.way_made, true) {
            self.make_way(folder, self.kept_from)?;
        }
        Ok(false)
    }

    /// Gives messages here, from a UID on, new UIDs if theirs are, at the source, those of others; and
    /// has the next ones be above all that the source has given.
    pub(super) fn make_way(&mut self, folder: &mut Folder, from: u32) -> Result<(), Stop> {
        let (name, validity) = (folder.target.clone(), folder.target_uid_validity);
        self.target.raise_uid_next(&name, validity, self.source_next)?;
        self.uid_next = None;
        let lines = self.target.messages(&name, from.saturating_sub(1), false)?;
        let taken: Vec<u32> =
            lines.iter().map(|line| line.uid).filter(|uid| *uid < self.source_next).collect();
        if taken.is_empty() {
            return Ok(());
        }
        self.store(folder)?;
        let mut by_target: BTreeMap<u32, (u32, Known)> = self
            .state
            .messages(folder.id)?
            .into_iter()
            .map(|(uid, known)| (known.target, (uid, known)))
            .collect();
        let same = |uid: &u32| by_target.get(uid).is_some_and(|(source, _)| source == uid);
        let others: Vec<u32> = taken.into_iter().filter(|uid| !same(uid)).collect();
        for (before, now) in self.target.renumber(&name, validity, &others)? {
            if let Some((uid, known)) = by_target.remove(&before) {
                self.pending.push((uid, Some(Known { target: now, ..known })));
            }
        }
        self.store(folder)
    }

    /// What is to be done when all messages of a folder have come.
    pub(super) fn end_numbers(&mut self, folder: &mut Folder) -> Result<(), Stop> {
        if !folder.keeps_uids {
            return Ok(());
        }
        let uid_next = match self.uid_next {
            Some(uid_next) => uid_next,
            None => self.target.numbers(&folder.target)?.1,
        };
        if uid_next < self.source_next {
            self.make_way(folder, uid_next)?;
        }
        if self.unkept > 0 {
            let note = format!(
                "{}: {} messages have new UIDs, as others had come into {} here",
                folder.source, self.unkept, folder.target
            );
            self.report.notes.push(note);
        }
        Ok(())
    }
}
