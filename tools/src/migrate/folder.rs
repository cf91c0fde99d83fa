//! One folder: what changed at the source since the last look, brought into its mailbox.
//!
//! A message is known by UIDVALIDITY and UID of the source. The order of things makes a kill
//! harmless at any point: an intent is durable before its import is asked for, the target makes
//! that import only at the UIDNEXT that the intent names, and what came of it is stored with the
//! next intent ([`super::state`]). Flags are changed by what the source added and removed, so that
//! what users change in the target meanwhile stays.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use client::imap::{Command, Examined, Session};
use protocol::imap::response::{Response, Value};

use super::arrivals::Asked;
use super::flags::{Differences, joined, split, taken};
use super::numbers::CAME_WITH_NEW;
use super::progress::{Progress, Throttle};
use super::report::{Missing, UserReport};
use super::state::{Folder, Intent, Known, State};
use super::stop::Stop;
use super::target::Target;

/// What the command line chose about messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// What is removed at the source is removed here, too.
    pub delete: bool,
    /// Copies that are there already are found by Message-ID.
    pub match_message_id: bool,
    /// UIDVALIDITY and UIDs are the source's.
    pub keep_uids: bool,
}

/// All that the work on folders needs.
pub struct Work<'w, 'p> {
    /// The source.
    pub session: &'w mut Session,
    /// The target.
    pub target: &'w mut Target<'p>,
    /// What was done before.
    pub state: &'w State,
    /// Key of the user in it.
    pub account: &'w str,
    /// What is wanted.
    pub choice: Choice,
    /// All users'.
    pub progress: &'w Progress,
    /// All users'.
    pub throttle: &'w Throttle,
    /// The user's.
    pub report: &'w mut UserReport,
    /// Flags that the target cannot have, and how often.
    pub dropped: &'w mut BTreeMap<String, u64>,
    /// Messages done of which the state does not know yet: stored with what follows.
    pub(super) pending: Vec<(u32, Option<Known>)>,
    /// An import of an earlier run that may still be under way.
    pub(super) suspect: Option<Intent>,
    /// The target's UIDNEXT, where it is known.
    pub(super) uid_next: Option<u32>,
    /// Flags that the source had, by UIDs in the target, where UIDs at the source lost their meaning.
    pub(super) former: HashMap<u32, String>,
    /// How often a connection broke without anything done: batches get smaller.
    pub(super) fruitless: u32,
    /// How often connections broke when one message alone was asked for, by folder and UID.
    pub(super) breaks: &'w mut HashMap<(String, u32, Asked), u32>,
    /// UIDNEXT of the source; 0: it was not told.
    pub(super) source_next: u32,
    /// The lowest UID that no message of the folder had when it was begun.
    pub(super) kept_from: u32,
    /// Whether the next message is above all UIDs of the source.
    pub(super) way_made: bool,
    /// Messages that could not have their UIDs.
    pub(super) unkept: u64,
}

impl<'w, 'p> Work<'w, 'p> {
    /// Stores the folder with what is pending.
    pub(super) fn store(&mut self, folder: &mut Folder) -> Result<(), Stop> {
        let pending = std::mem::take(&mut self.pending);
        Ok(self.state.store(self.account, folder, None, &pending)?)
    }

    /// Does a folder; `folder.target` is there.
    pub fn sync(&mut self, wire: &[u8], folder: &mut Folder) -> Result<(), Stop> {
        let before = folder.clone();
        let condstore = self.session.has("CONDSTORE")? || self.session.has("QRESYNC")?;
        let examined = self.session.examine(wire, condstore)?;
        if examined.uid_validity == 0 {
            return Err(Stop::Folder("the server tells no UIDVALIDITY".to_owned()));
        }
        self.source_next = examined.uid_next;
        self.identify(&examined, folder)?;
        if let Some(intent) = folder.intent.take() {
            self.settle(&intent, folder)?;
            self.suspect = Some(intent);
        }
        self.kept_from = folder.uid_next.max(folder.uid_last.saturating_add(1));
        if folder.keeps_uids && self.source_next > self.kept_from {
            let (_, uid_next) = self.target.numbers(&folder.target)?;
            self.uid_next = Some(uid_next);
            if uid_next > self.kept_from {
                self.way_made = true;
                self.make_way(folder, self.kept_from)?;
            }
        }
        let known = self.state.count(folder.id)?;
        self.progress_add(known.min(u64::from(examined.exists)));
        let unchanged = examined.modseq_highest.is_some_and(|n| n != 0 && n == folder.modseq);
        if known > 0 && !unchanged {
            self.changes(&examined, folder)?;
        }
        let all_seen = examined.uid_next != 0 && folder.uid_last >= examined.uid_next - 1;
        if !all_seen || !folder.failed.is_empty() {
            self.arrivals(folder)?;
        }
        self.end_numbers(folder)?;
        folder.uid_last = folder.uid_last.max(examined.uid_next.saturating_sub(1));
        folder.uid_next = examined.uid_next;
        folder.modseq = examined.modseq_highest.unwrap_or(0);
        folder.matching = false;
        if !self.pending.is_empty() || *folder != before {
            self.store(folder)?;
        }
        Ok(())
    }

    pub(super) fn progress_add(&self, messages: u64) {
        self.progress.messages_done.fetch_add(messages, std::sync::atomic::Ordering::Relaxed);
    }

    /// Sees that source and target are the mailboxes that they were.
    fn identify(&mut self, examined: &Examined, folder: &mut Folder) -> Result<(), Stop> {
        if self.choice.keep_uids && folder.uid_validity == 0 {
            self.keep_uids(examined, folder)?;
        } else if self.choice.keep_uids && !folder.keeps_uids {
            return Err(Stop::Folder(format!("UIDs cannot be kept: {CAME_WITH_NEW}")));
        }
        let (target_validity, uid_next) = self.target.numbers(&folder.target)?;
        self.uid_next = Some(uid_next);
        let source_same = folder.uid_validity == examined.uid_validity;
        let target_same = folder.target_uid_validity == target_validity;
        if folder.uid_validity == 0 {
            folder.matching |= self.choice.match_message_id;
        } else if !source_same || !target_same {
            let whose = if source_same { "target" } else { "source" };
            let note = format!(
                "{}: UIDVALIDITY of the {whose} changed; messages are told apart by Message-ID",
                folder.source
            );
            self.report.notes.push(note);
            if folder.keeps_uids {
                let note = format!("{}: UIDs are no longer kept", folder.source);
                self.report.notes.push(note);
            }
            if target_same {
                let known = self.state.messages(folder.id)?;
                self.former = known.into_values().map(|one| (one.target, one.flags)).collect();
            }
            self.state.forget_messages(folder.id)?;
            let Folder { id, source, target, subscribed, uses_set, acl, .. } = folder.clone();
            let matching = true;
            *folder = Folder {
                id,
                source,
                target,
                subscribed,
                uses_set,
                acl,
                matching,
                ..Folder::default()
            };
        }
        if folder.id == 0 || !source_same || !target_same {
            folder.uid_validity = examined.uid_validity;
            folder.target_uid_validity = target_validity;
            self.store(folder)?;
        }
        Ok(())
    }

    /// Flags that changed, and messages that are gone.
    fn changes(&mut self, examined: &Examined, folder: &mut Folder) -> Result<(), Stop> {
        let known = self.state.messages(folder.id)?;
        let mut listed = BTreeSet::new();
        let mut gone: Vec<u32> = Vec::new();
        let mut differences = Differences::default();
        let mut updates = Vec::new();
        let since = folder.modseq;
        let by_modseq = since > 0 && examined.modseq_highest.is_some();
        let qresync = by_modseq && self.choice.delete && self.enable_qresync()?;
        let items = match (by_modseq, qresync) {
            (true, true) => format!("(UID FLAGS) (CHANGEDSINCE {since} VANISHED)"),
            (true, false) => format!("(UID FLAGS) (CHANGEDSINCE {since})"),
            (false, _) => "(UID FLAGS)".to_owned(),
        };
        let set = format!("1:{}", folder.uid_last.max(1));
        let dropped = &mut *self.dropped;
        self.session.fetch(
            &set,
            &items,
            &mut |fetched| {
                let (Some(uid), Some(flags)) = (fetched.uid, fetched.flags) else { return Ok(()) };
                listed.insert(uid);
                let Some(one) = known.get(&uid) else { return Ok(()) };
                let now = taken(&flags, dropped);
                if joined(&now) != one.flags {
                    differences.add(one.target, &split(&one.flags), &now);
                    updates.push((uid, Some(Known { flags: joined(&now), ..one.clone() })));
                }
                Ok(())
            },
            &mut |ranges| {
                for (first, last) in ranges {
                    gone.extend(known.range(first..=last).map(|(uid, _)| *uid));
                }
            },
        )?;
        if !updates.is_empty() {
            self.report.flags += differences.count();
            let changes = differences.changes();
            self.target.change_flags(&folder.target, folder.target_uid_validity, changes)?;
            self.state.store(self.account, folder, None, &updates)?;
        }
        if !self.choice.delete {
            return Ok(());
        }
        if !qresync {
            if by_modseq {
                listed = self.search(&format!("UID {set}"))?.into_iter().collect();
            }
            gone = known.keys().filter(|uid| !listed.contains(uid)).copied().collect();
        }
        self.remove(folder, &known, &gone)
    }

    fn remove(
        &mut self,
        folder: &mut Folder,
        known: &BTreeMap<u32, Known>,
        gone: &[u32],
    ) -> Result<(), Stop> {
        let targets: Vec<u32> =
            gone.iter().filter_map(|uid| Some(known.get(uid)?.target)).collect();
        if targets.is_empty() {
            return Ok(());
        }
        self.target.expunge(&folder.target, folder.target_uid_validity, &targets)?;
        self.report.expunged += targets.len() as u64;
        let forgotten: Vec<_> = gone.iter().map(|uid| (*uid, None)).collect();
        Ok(self.state.store(self.account, folder, None, &forgotten)?)
    }

    fn enable_qresync(&mut self) -> Result<bool, Stop> {
        if !self.session.has("QRESYNC")? {
            return Ok(false);
        }
        match self.session.ask(Command::new("ENABLE").word("QRESYNC")) {
            Ok(()) => Ok(true),
            Err(client::Error::No { .. }) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// The UIDs that fit, ascending.
    pub(super) fn search(&mut self, key: &str) -> Result<Vec<u32>, Stop> {
        let mut found = Vec::new();
        self.session.run(Command::new("UID SEARCH").word(key), &mut |response| {
            if let Response::Data(values) = &response
                && let Some((word, numbers)) = values.split_first()
                && word.is("SEARCH")
            {
                let number = |value: &Value| value.number().and_then(|n| u32::try_from(n).ok());
                found.extend(numbers.iter().filter_map(number));
            }
            Ok(())
        })?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Notes a message that did not come over; it is tried again by the next run.
    pub(super) fn refused(&mut self, folder: &mut Folder, uid: u32, reason: String) {
        if !folder.failed.contains(&uid) {
            folder.failed.push(uid);
        }
        let (name, uid) = (folder.source.clone(), Some(uid));
        // It may be tried again on a new connection.
        self.report.failed.retain(|one| (&one.folder, one.uid) != (&name, uid));
        self.report.failed.push(Missing { folder: name, uid, reason });
    }
}
