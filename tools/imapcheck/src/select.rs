//! SELECT, with and without QRESYNC, and the proof that what it caught up with equals a full look.

use std::collections::{BTreeMap, BTreeSet};

use crate::session::{Answer, Command, Selected, Session, Stop};
use crate::value::{Value, numbers, set};
use crate::view::{Fetched, Flags, Message, View, Wrong};

/// UID to flags and MODSEQ.
pub(crate) type Listing = BTreeMap<u32, (Flags, u64)>;

impl Session {
    /// Selects a mailbox and looks at all of it; with QRESYNC and something to resume from, catches
    /// up first and compares.
    pub(crate) fn select(&mut self, mailbox: usize, read_only: bool) -> Result<(), Stop> {
        self.keep_cache();
        let alive = self.shared.ledger.alive(mailbox);
        let removed = self.shared.ledger.removed(mailbox);
        let floor = self.shared.ledger.floor(mailbox);
        let cached = self.cached.get(&mailbox).cloned().filter(|_| self.enabled.qresync);
        // With them the server tells of these messages and no others.
        let names_known = self.random.u8(0..3) == 0;
        let verb = if read_only { "EXAMINE" } else { "SELECT" };
        let name = &self.shared.mailboxes[mailbox];
        let command = match &cached {
            Some(cached) if cached.synced > 0 && self.random.u8(0..4) > 0 => {
                let uids = cached.view.uids().unwrap_or_default();
                let known = if names_known && !uids.is_empty() {
                    format!(" {}", set(&uids))
                } else {
                    String::new()
                };
                let (validity, modseq) = (cached.view.uid_validity, cached.synced);
                format!("{verb} {name} (QRESYNC ({validity} {modseq}{known}))")
            }
            _ if self.has("CONDSTORE") && self.random.u8(0..4) == 0 => {
                self.enabled.condstore = true;
                format!("{verb} {name} (CONDSTORE)")
            }
            _ => format!("{verb} {name}"),
        };
        let resumed = command.contains("(QRESYNC");
        let answer = self.command(Command::new(&command))?.ok(&command)?;
        let exists = exists_of(&answer)?;
        let validity = answer.code_number("UIDVALIDITY").and_then(|n| u32::try_from(n).ok());
        let validity = validity.ok_or_else(|| format!("{command} told no UIDVALIDITY"))?;
        self.shared.ledger.uid_validity(mailbox, validity)?;
        let highest = answer.code_number("HIGHESTMODSEQ").unwrap_or(0);
        let uid_next = answer.code_number("UIDNEXT").unwrap_or(0) as u32;
        if highest != 0 && highest < floor.0 || uid_next != 0 && uid_next < floor.1 {
            let said = (highest, uid_next);
            return Err(format!("HIGHESTMODSEQ, UIDNEXT fell from {floor:?} to {said:?}").into());
        }
        self.shared.ledger.raise(mailbox, highest, uid_next);

        let mut caught_up = None;
        let mut view = View { uid_validity: validity, ..View::default() };
        if let Some(cached) = cached.filter(|_| resumed) {
            let listing = catch_up(&cached.view, &answer)?;
            let whole = !names_known || cached.view.messages.is_empty();
            if whole && listing.len() != exists as usize {
                let told = format!("QRESYNC leaves {} messages, EXISTS is {exists}", listing.len());
                return Err(Stop::Wrong(told));
            }
            if listing.len() > exists as usize {
                let told = format!("QRESYNC leaves {} messages, EXISTS is {exists}", listing.len());
                return Err(Stop::Wrong(told));
            }
            let last = cached.view.messages.last().and_then(|message| message.uid).unwrap_or(0);
            view.gone = cached.view.gone;
            view.messages = listing
                .iter()
                .map(|(&uid, (flags, modseq))| Message {
                    uid: Some(uid),
                    flags: Some(flags.clone()),
                    modseq: *modseq,
                })
                .collect();
            // Messages that came since are the last ones.
            view.exists(exists)?;
            caught_up = Some((listing, if whole { u32::MAX } else { last }));
        } else {
            view.exists(exists)?;
        }
        self.selected = Some(Selected { mailbox, read_only, view, synced: highest });

        let full = self.listing()?;
        if let Some((caught_up, last)) = caught_up {
            compare(&caught_up, &full, last, highest)?;
        }
        let missing = alive.iter().filter(|uid| !full.contains_key(uid));
        // Those that somebody has marked since may be gone.
        if let Some(uid) =
            missing.into_iter().find(|&&uid| self.shared.ledger.is_alive(mailbox, uid))
        {
            return Err(format!("UID {uid} was answered and is missing").into());
        }
        if let Some(uid) = removed.iter().find(|uid| full.contains_key(uid)) {
            return Err(format!("UID {uid} was removed and is back").into());
        }
        Ok(())
    }

    /// Every message's UID, flags and MODSEQ, by one command.
    pub(crate) fn listing(&mut self) -> Result<Listing, Stop> {
        let modseq = if self.enabled.condstore { " MODSEQ" } else { "" };
        let count = self.selected.as_ref().map_or(0, |s| s.view.messages.len());
        if count > 0 {
            let answer =
                self.command(Command::holding(format!("FETCH 1:{count} (UID FLAGS{modseq})")))?;
            // Messages that others expunge meanwhile may be missing from the answer.
            answer.ok_or_expunged("FETCH 1:*")?;
        }
        self.learn()?;
        let Some(selected) = &self.selected else { return Ok(Listing::new()) };
        let known = selected.view.messages.iter().filter_map(|message| {
            Some((message.uid?, (message.flags.clone().unwrap_or_default(), message.modseq)))
        });
        Ok(known.collect())
    }

    /// Asks for the UIDs of messages that are new to the view.
    pub(crate) fn learn(&mut self) -> Result<(), Stop> {
        // A message that somebody expunged before we asked has no UID to tell until the next sync
        // point says that it is gone.
        for _ in 0..20 {
            let Some(first) = self.selected.as_ref().and_then(|s| s.view.unknown_from()) else {
                return Ok(());
            };
            let modseq = if self.enabled.condstore { " MODSEQ" } else { "" };
            let command = format!("FETCH {first}:* (UID FLAGS{modseq})");
            self.command(Command::holding(command))?.ok_or_expunged("FETCH")?;
            if self.selected.as_ref().is_some_and(|s| s.view.unknown_from().is_some()) {
                self.noop()?;
            }
        }
        Err(Stop::Wrong("messages have no UID even after NOOP".to_owned()))
    }

    pub(crate) fn noop(&mut self) -> Result<(), Stop> {
        let answer = self.command(Command::new("NOOP"))?.ok("NOOP")?;
        // After a sync point everything up to the highest MODSEQ told is known (RFC 7162 section 3.1),
        // unless the server names a lower one.
        let named = answer.code_number("HIGHESTMODSEQ").unwrap_or(u64::MAX);
        if let Some(selected) = &mut self.selected
            && selected.view.uids().is_some()
        {
            selected.synced = selected.synced.max(selected.view.modseq_seen.min(named));
        }
        Ok(())
    }
}

fn exists_of(answer: &Answer) -> Result<u64, Wrong> {
    let line = answer.data.iter().find(|v| v.get(1).is_some_and(|word| word.is("EXISTS")));
    line.and_then(|values| values[0].number()).ok_or_else(|| "SELECT told no EXISTS".to_owned())
}

/// Applies VANISHED (EARLIER) and FETCH of a SELECT (QRESYNC …) to what was cached.
fn catch_up(cached: &View, answer: &Answer) -> Result<Listing, Wrong> {
    let mut listing: Listing = BTreeMap::new();
    for message in &cached.messages {
        if let Some(uid) = message.uid {
            let flags = message.flags.clone().unwrap_or_default();
            listing.insert(uid, (flags, message.modseq));
        }
    }
    let mut fetched_any = false;
    for values in &answer.data {
        if values[0].is("VANISHED") {
            let earlier = values.get(1).and_then(Value::list);
            if !earlier.is_some_and(|list| list.iter().any(|word| word.is("EARLIER"))) {
                return Err("VANISHED without EARLIER in the answer to SELECT".to_owned());
            }
            if fetched_any {
                return Err("VANISHED (EARLIER) behind a FETCH".to_owned());
            }
            let uids = values.get(2).and_then(Value::atom).and_then(numbers);
            let uids = uids.ok_or_else(|| format!("VANISHED has no set: {values:?}"))?;
            let uids: BTreeSet<u32> = uids.into_iter().collect();
            listing.retain(|uid, _| !uids.contains(uid));
        } else if values.get(1).is_some_and(|word| word.is("FETCH")) {
            fetched_any = true;
            let items = values.get(2).and_then(Value::list).unwrap_or_default();
            let fetched = Fetched::read(items)?;
            match (fetched.uid, fetched.flags, fetched.modseq) {
                (Some(uid), Some(flags), Some(modseq)) => {
                    listing.insert(uid, (flags, modseq));
                }
                _ => return Err(format!("FETCH of SELECT lacks UID, FLAGS or MODSEQ: {values:?}")),
            }
        }
    }
    Ok(listing)
}

/// What was caught up with equals a full look up to UID `last`, but for what changed after `highest`.
fn compare(caught_up: &Listing, full: &Listing, last: u32, highest: u64) -> Result<(), Wrong> {
    for (uid, (flags, modseq)) in full.range(..=last) {
        match caught_up.get(uid) {
            None if *modseq <= highest => {
                return Err(format!("QRESYNC did not tell of UID {uid}, MODSEQ {modseq}"));
            }
            Some((told, _)) if *modseq <= highest && told != flags => {
                return Err(format!("QRESYNC left {told:?} of UID {uid} with {flags:?}, {modseq}"));
            }
            _ => {}
        }
    }
    Ok(())
}
