//! Folders of the source that have another name than before, and those that are gone.

use std::collections::{BTreeMap, BTreeSet};

use client::imap::Session;

use super::Run;
use super::plan::Planned;
use crate::migrate::arrivals::set_of;
use crate::migrate::state::Folder;
use crate::migrate::stop::Stop;
use crate::migrate::target::{Existing, Target};

/// Messages that are compared to see whether a folder is another one under a new name.
const COMPARED_MAX: usize = 64;

/// UID, size and date of a message.
pub(in crate::migrate) type SizeAndDate = (u32, u64, Option<i64>);

impl Run<'_> {
    /// Folders that have another name now: known by UIDVALIDITY, sizes and dates.
    pub(super) fn follow_renames(
        &mut self,
        session: &mut Session,
        target: &mut Target<'_>,
        (plan, there): (&[Planned], &BTreeSet<String>),
        known: &mut BTreeMap<String, Folder>,
        mailboxes: &mut BTreeMap<String, Existing>,
    ) -> Result<(), Stop> {
        for planned in plan {
            if known.contains_key(&planned.source) || self.looked_at.contains(&planned.source) {
                continue;
            }
            let vanished: Vec<Folder> = known
                .values()
                .filter(|folder| !there.contains(&folder.source) && folder.uid_validity != 0)
                .cloned()
                .collect();
            if vanished.is_empty() {
                return Ok(());
            }
            let Some(old) = self.same_folder(session, planned, vanished)? else {
                self.looked_at.insert(planned.source.clone());
                continue;
            };
            let moved = mailboxes.get(&planned.target);
            let is_done = old.target == planned.target
                || moved.is_some_and(|m| m.uid_validity == old.target_uid_validity)
                    && !mailboxes.contains_key(&old.target);
            if !is_done {
                if mailboxes.contains_key(&planned.target) {
                    let reason = format!(
                        "was {} and should be {} now, but there is such a mailbox",
                        old.source, planned.target
                    );
                    return Err(Stop::User(format!("{}: {reason}", planned.source)));
                }
                target.rename(&old.target, &planned.target)?;
                *mailboxes = target.mailboxes()?;
                self.report.renamed += 1;
            }
            // Those below went along.
            let below = format!("{}/", old.target);
            let along: Vec<Folder> = known.values().cloned().collect();
            for mut folder in along {
                if folder.source != old.source
                    && let Some(rest) = folder.target.strip_prefix(&below)
                    && !mailboxes.contains_key(&folder.target)
                {
                    folder.target = format!("{}/{rest}", planned.target);
                    self.migration.state.store(&self.key, &mut folder, None, &[])?;
                    known.insert(folder.source.clone(), folder);
                }
            }
            let before = old.source.clone();
            let (source, to) = (planned.source.clone(), planned.target.clone());
            let mut folder = Folder { source, target: to, ..old };
            self.migration.state.store(&self.key, &mut folder, Some(&before), &[])?;
            known.remove(&before);
            known.insert(folder.source.clone(), folder);
        }
        Ok(())
    }

    fn same_folder(
        &self,
        session: &mut Session,
        planned: &Planned,
        vanished: Vec<Folder>,
    ) -> Result<Option<Folder>, Stop> {
        let examined = match session.examine(&planned.wire, false) {
            Ok(examined) => examined,
            Err(client::Error::No { .. }) => return Ok(None),
            Err(other) => return Err(other.into()),
        };
        // Those of the same UIDVALIDITY first.
        let (same, other): (Vec<Folder>, Vec<Folder>) =
            vanished.into_iter().partition(|folder| folder.uid_validity == examined.uid_validity);
        for folder in same {
            let messages = self.migration.state.messages(folder.id)?;
            let newest: Vec<u32> = messages.keys().rev().take(COMPARED_MAX).copied().collect();
            let asked: Vec<u32> = newest.into_iter().rev().collect();
            let (mut alike, mut differs) = (0, false);
            for (uid, _, date) in facts(session, &set_of(&asked))?.unwrap_or_default() {
                let Some(known) = messages.get(&uid) else { continue };
                alike += usize::from(known.internal_date == date);
                differs |= known.internal_date != date;
            }
            if !differs && alike > 0 {
                return Ok(Some(folder));
            }
        }
        // Courier numbers a renamed folder anew: then most messages have to be the same by size and
        // date, on either side. They are told apart by Message-ID afterwards.
        if other.is_empty() || examined.exists == 0 {
            return Ok(None);
        }
        let Some(found) = facts(session, "1:*")? else { return Ok(None) };
        for folder in other {
            let mut left: BTreeMap<(u64, Option<i64>), usize> = BTreeMap::new();
            let messages = self.migration.state.messages(folder.id)?;
            for known in messages.values() {
                *left.entry((known.size, known.internal_date)).or_default() += 1;
            }
            let alike = found.iter().filter(|(_, size, date)| {
                left.get_mut(&(*size, *date)).filter(|n| **n > 0).map(|n| *n -= 1).is_some()
            });
            let alike = alike.count();
            if alike > 0 && alike * 2 > messages.len() && alike * 2 > found.len() {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }

    /// Mailboxes whose folders are gone, where nothing else is in them.
    pub(super) fn remove_folders(
        &mut self,
        target: &mut Target<'_>,
        (plan, there): (&[Planned], &BTreeSet<String>),
        mailboxes: &BTreeMap<String, Existing>,
    ) -> Result<(), Stop> {
        let used: BTreeSet<&str> = plan.iter().map(|one| one.target.as_str()).collect();
        for folder in self.migration.state.folders(&self.key)?.into_values() {
            // Those that rules leave out are not gone.
            if there.contains(&folder.source) {
                continue;
            }
            let is_ours = mailboxes
                .get(&folder.target)
                .is_some_and(|one| one.uid_validity == folder.target_uid_validity);
            if is_ours && folder.target != "INBOX" && !used.contains(folder.target.as_str()) {
                let known = self.migration.state.messages(folder.id)?;
                let ours: BTreeSet<u32> = known.values().map(|one| one.target).collect();
                let found = target.messages(&folder.target, 0, false)?;
                if let Some(count) = Some(found.iter().filter(|m| !ours.contains(&m.uid)).count())
                    && count > 0
                {
                    let note = format!(
                        "{}: gone at the source; {} stays, as {count} other messages are in it",
                        folder.source, folder.target
                    );
                    self.report.notes.push(note);
                    continue;
                }
                target.delete(&folder.target)?;
                target.subscribe(&folder.target, false)?;
                self.report.removed += 1;
            }
            self.migration.state.forget(&self.key, &folder)?;
        }
        Ok(())
    }
}

/// UIDs, sizes and dates; `None`: the source refuses them.
pub(in crate::migrate) fn facts(
    session: &mut Session,
    set: &str,
) -> Result<Option<Vec<SizeAndDate>>, Stop> {
    let mut found = Vec::new();
    if set.is_empty() {
        return Ok(Some(found));
    }
    let fetched = session.fetch(
        set,
        "(UID INTERNALDATE RFC822.SIZE)",
        &mut |fetched| {
            if let (Some(uid), Some(size)) = (fetched.uid, fetched.size) {
                found.push((uid, size, fetched.internal_date));
            }
            Ok(())
        },
        &mut |_| {},
    );
    match fetched {
        Err(client::Error::No { .. }) => Ok(None),
        other => Ok(other.map(|_| Some(found))?),
    }
}
