//! One user: the plan of folders, renames that the source made, then folder by folder; on new
//! connections after those that broke.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::Server;
use client::imap::{Listed, Session, Whose};
use config::Config;
use engine::{INBOX, SpecialUse};
use serde::Serialize;

use super::arrivals::BREAKS_MAX;
use super::folder::Work;
use super::numbers::{why_not_kept, why_not_kept_on};
use super::report::{Missing, UserReport};
use super::state::Folder;
use super::stop::Stop;
use super::target::{Existing, Target, connect};
use super::uidls::Uidls;
use super::users::Account;
use super::{Migration, sharing};
use crate::failure::{Failed, Kind};
use crate::place::Place;

/// The longest pause before another try.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// So many fruitless attempts make batches of one message.
const FRUITLESS_SHORT: u32 = 2;
/// So many messages that break connections are taken for damaged ones; with more it is the source, and
/// attempts that only find more of them are fruitless.
const PASSED_OVER_MAX: usize = 20;

/// Messages that are compared to see whether a folder is another one under a new name.
const COMPARED_MAX: usize = 64;

/// A folder and what becomes of it.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// The user at the source.
    pub user: String,
    /// Name at the source.
    pub source: String,
    /// Name here.
    pub target: String,
    /// Messages at the source.
    pub messages: u64,
    /// Messages that came over already.
    pub known: u64,
    /// What it is for.
    pub special_use: Vec<String>,
    /// Whether it is subscribed.
    pub subscribed: bool,
    /// Whether the mailbox is here already.
    pub exists: bool,
    /// Why its UIDs cannot be kept, where `--keep-uids` asks for that.
    pub uids_not_kept: Option<String>,
    #[serde(skip)]
    wire: Vec<u8>,
}

/// What is at the source, and what becomes of it.
struct Plan {
    /// In order of the names at the source, parents first.
    folders: Vec<Planned>,
    /// Names of all folders of the source that hold messages, also those that rules leave out.
    there: BTreeSet<String>,
    /// What is left out.
    notes: Vec<String>,
}

/// A user's run.
pub struct Run<'m> {
    migration: &'m Migration,
    account: &'m Account,
    key: String,
    report: UserReport,
    dropped: BTreeMap<String, u64>,
    done: BTreeSet<String>,
    counted: bool,
    /// How often a connection broke without anything done: batches get smaller.
    fruitless: u32,
    /// How often connections broke when one message alone was asked for.
    breaks: HashMap<(String, u32), u32>,
}

impl<'m> Run<'m> {
    /// A run that has not begun.
    pub fn new(migration: &'m Migration, account: &'m Account) -> Run<'m> {
        let (source, target) = (account.source.clone(), account.target.clone());
        let mut key = format!("{}@{}:{}", source, migration.server.host, migration.server.port);
        if migration.shared {
            // Of their own, so that they are not taken for the user's that are gone.
            key.push_str("#shared");
        }
        Run {
            migration,
            account,
            key,
            report: UserReport { source, target, ..UserReport::default() },
            dropped: BTreeMap::new(),
            done: BTreeSet::new(),
            counted: false,
            fruitless: 0,
            breaks: HashMap::new(),
        }
    }

    /// Does all of it. `store`: the store where it is open in this process; else each try has a
    /// connection to the server.
    pub fn run(mut self, config: &Config, mut store: Option<&mut Place>) -> UserReport {
        let began = Instant::now();
        let mut tries = 0;
        loop {
            let before = self.came();
            let breaks = self.breaks.values().sum::<u32>();
            let tried = match &mut store {
                Some(place) => self.attempt(place),
                None => connect(config).map_err(Stop::from).and_then(|mut p| self.attempt(&mut p)),
            };
            match tried {
                Ok(()) => break,
                Err(Stop::Moment(reason)) => {
                    let came = self.came();
                    let is_fruitless = before == came;
                    // With the one message passed over, others come in batches of the usual size.
                    let is_found = before.2 < came.2;
                    self.fruitless =
                        if is_found { 0 } else { self.fruitless + u32::from(is_fruitless) };
                    tries = if is_fruitless { tries + 1 } else { 1 };
                    if tries > self.migration.retries {
                        self.report.error = Some(reason);
                        break;
                    }
                    self.report.retries += 1;
                    // The source may answer but to one message: no wait until it is found.
                    let is_one = self.breaks.values().sum::<u32>() > breaks;
                    let is_short = is_one || self.fruitless <= FRUITLESS_SHORT;
                    let pause = pause(if is_short { 1 } else { tries });
                    self.migration.progress.say(&format!(
                        "{}: {reason}; again in {} s",
                        self.account.source,
                        pause.as_secs_f64().ceil()
                    ));
                    std::thread::sleep(pause);
                }
                Err(Stop::Folder(reason) | Stop::User(reason)) => {
                    self.report.error = Some(reason);
                    break;
                }
            }
        }
        for (flag, count) in &self.dropped {
            self.report.notes.push(format!("flag {flag} of {count} messages was left out"));
        }
        self.report.seconds = began.elapsed().as_secs_f64();
        self.report.conclude();
        self.report
    }

    /// What tells an attempt that brought something from a fruitless one: messages that came, folders that
    /// are done, messages that are found to break connections.
    fn came(&self) -> (u64, usize, usize) {
        let found = self.breaks.values().filter(|times| **times >= BREAKS_MAX).count();
        (self.report.messages, self.done.len(), found.min(PASSED_OVER_MAX))
    }

    fn open(&self) -> Result<Session, Stop> {
        let mut session = Session::open(&self.migration.server)?;
        session.login(&self.account.login)?;
        Ok(session)
    }

    /// What would be done.
    pub fn plan_only(self, place: &mut Place) -> Result<Vec<Planned>, Failed> {
        let said = |stop: Stop| match stop {
            Stop::Moment(why) => {
                Failed::new(Kind::Temporary, format!("{}: {why}", self.account.source))
            }
            Stop::Folder(why) | Stop::User(why) => {
                Failed::new(Kind::Incomplete, format!("{}: {why}", self.account.source))
            }
        };
        let mut session = self.open().map_err(said)?;
        let mut target = Target::new(&self.account.target, place);
        let mailboxes = target.mailboxes()?;
        let mut plan = self.plan(&mut session, &mailboxes).map_err(said)?;
        if self.migration.choice.keep_uids {
            self.look_at_uids(&mut session, &mut target, &mut plan.folders).map_err(said)?;
        }
        session.log_out();
        Ok(plan.folders)
    }

    /// Finds out which folders cannot keep their UIDs.
    fn look_at_uids(
        &self,
        session: &mut Session,
        target: &mut Target<'_>,
        folders: &mut [Planned],
    ) -> Result<(), Stop> {
        let known = self.migration.state.folders(&self.key)?;
        for planned in folders {
            let examined = match session.examine(&planned.wire, false) {
                Ok(examined) => examined,
                Err(client::Error::No { text, .. }) => {
                    planned.uids_not_kept = Some(format!("the source does not open it: {text}"));
                    continue;
                }
                Err(other) => return Err(other.into()),
            };
            let before = known.get(&planned.source).filter(|folder| folder.uid_validity != 0);
            planned.uids_not_kept = match before {
                Some(folder) => why_not_kept_on(&examined, folder),
                None => {
                    let uid_next = match planned.exists {
                        true => target.numbers(&planned.target)?.1,
                        false => 1,
                    };
                    why_not_kept(&examined, &planned.target, uid_next)
                }
            };
        }
        Ok(())
    }

    /// Folders of the source, and prefixes that were left out.
    fn plan(
        &self,
        session: &mut Session,
        mailboxes: &BTreeMap<String, Existing>,
    ) -> Result<Plan, Stop> {
        let namespace = session.namespace()?;
        let personal = namespace.personal.first().map_or("", |(prefix, _)| prefix.as_str());
        let subscribed: BTreeSet<Vec<u8>> =
            session.subscribed()?.into_iter().map(|one| one.wire).collect();
        let known = self.migration.state.folders(&self.key)?;
        let (mut plan, mut others, mut there) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for listed in session.list()? {
            if listed.is_selectable() {
                there.insert(listed.name.clone());
            }
            let prefix = match (namespace.whose(&listed.name), self.migration.shared) {
                (Whose::Own, false) => personal.to_owned(),
                (Whose::Shared(prefix), true) => prefix,
                (Whose::Own, true) => continue,
                (Whose::Others(prefix), _) => {
                    others.insert(format!("{prefix:?}: other users' mailboxes are not copied"));
                    continue;
                }
                (Whose::Shared(prefix), false) => {
                    others.insert(format!(
                        "{prefix:?}: shared mailboxes are not copied: once, with --shared"
                    ));
                    continue;
                }
            };
            let mapped = self.migration.rules.map(&listed.name, listed.separator, &prefix);
            let (Some(target), true) = (mapped.target, listed.is_selectable()) else { continue };
            let state = known.get(&listed.name);
            plan.push(Planned {
                user: self.account.source.clone(),
                messages: session.messages(&listed.wire)?,
                known: state.map_or(Ok(0), |state| self.migration.state.count(state.id))?,
                special_use: uses(&listed),
                subscribed: subscribed.contains(&listed.wire),
                exists: mailboxes.contains_key(&target),
                uids_not_kept: None,
                source: listed.name,
                target,
                wire: listed.wire,
            });
        }
        plan.sort_by(|a, b| a.source.cmp(&b.source));
        plan.dedup_by(|a, b| a.source == b.source);
        let pairs = plan.iter().map(|one| (one.source.as_str(), one.target.as_str()));
        self.migration.rules.check(pairs).map_err(|failed| Stop::User(failed.to_string()))?;
        Ok(Plan { folders: plan, there, notes: others.into_iter().collect() })
    }

    fn attempt(&mut self, place: &mut Place) -> Result<(), Stop> {
        let mut session = self.open()?;
        let mut target = Target::new(&self.account.target, place);
        let mut mailboxes = target.mailboxes()?;
        let Plan { folders: plan, there, notes } = self.plan(&mut session, &mailboxes)?;
        let progress = &self.migration.progress;
        if !std::mem::replace(&mut self.counted, true) {
            progress.folders.fetch_add(plan.len() as u64, Ordering::Relaxed);
            progress
                .messages
                .fetch_add(plan.iter().map(|one| one.messages).sum(), Ordering::Relaxed);
            self.report.notes.extend(notes);
        }
        let mut known = self.migration.state.folders(&self.key)?;
        let (plan, there) = (&plan, &there);
        self.follow_renames(&mut session, &mut target, (plan, there), &mut known, &mut mailboxes)?;
        for planned in plan {
            if self.done.contains(&planned.source) {
                continue;
            }
            let folder = known.get(&planned.source).cloned();
            let folder = folder.unwrap_or_else(|| Folder {
                source: planned.source.clone(),
                target: planned.target.clone(),
                ..Folder::default()
            });
            match self.folder(&mut session, &mut target, planned, folder, &mut mailboxes) {
                Ok(()) => {}
                Err(Stop::Folder(reason)) => {
                    let (folder, uid) = (planned.source.clone(), None);
                    self.report.failed.push(Missing { folder, uid, reason });
                }
                Err(other) => return Err(other),
            }
            self.report.folders += 1;
            progress.folders_done.fetch_add(1, Ordering::Relaxed);
            self.done.insert(planned.source.clone());
        }
        if self.migration.choice.delete {
            self.remove_folders(&mut target, (plan, there), &mailboxes)?;
        }
        session.log_out();
        Ok(())
    }

    fn folder(
        &mut self,
        session: &mut Session,
        target: &mut Target<'_>,
        planned: &Planned,
        mut folder: Folder,
        mailboxes: &mut BTreeMap<String, Existing>,
    ) -> Result<(), Stop> {
        if folder.target != planned.target && folder.id != 0 {
            let note = format!(
                "{}: rules say {} now, but it came into {} before and stays there",
                folder.source, planned.target, folder.target
            );
            self.report.notes.push(note);
        }
        let wanted = free_uses(&planned.special_use, &folder.target, mailboxes);
        if !mailboxes.contains_key(&folder.target) {
            target.create(&folder.target, wanted)?;
            self.report.created += 1;
            let (uid_validity, _) = target.numbers(&folder.target)?;
            let special_use = planned.special_use.clone();
            let existing = Existing { uid_validity, special_use, messages: 0 };
            mailboxes.insert(folder.target.clone(), existing);
            folder.uses_set = true;
        } else if !folder.uses_set {
            let has_some = mailboxes.get(&folder.target).is_some_and(|m| !m.special_use.is_empty());
            if !wanted.is_empty() && !has_some {
                target.set_special_use(&folder.target, wanted)?;
            }
            folder.uses_set = true;
        }
        let mut work = Work {
            session,
            target,
            state: &self.migration.state,
            account: &self.key,
            choice: self.migration.choice,
            progress: &self.migration.progress,
            throttle: &self.migration.throttle,
            report: &mut self.report,
            dropped: &mut self.dropped,
            pending: Vec::new(),
            suspect: None,
            uid_next: None,
            former: HashMap::new(),
            fruitless: self.fruitless,
            breaks: &mut self.breaks,
            source_next: 0,
            kept_from: 0,
            way_made: false,
            unkept: 0,
        };
        work.sync(&planned.wire, &mut folder)?;
        let before = folder.clone();
        if self.migration.subscriptions && folder.subscribed != planned.subscribed {
            target.subscribe(&folder.target, planned.subscribed)?;
            folder.subscribed = planned.subscribed;
            self.report.subscriptions += 1;
        }
        if self.migration.acl {
            let set = sharing::copy(
                session,
                target,
                self.migration,
                self.account,
                &planned.wire,
                &mut folder,
            )?;
            self.report.acl += set;
        }
        if folder != before {
            self.migration.state.store(&self.key, &mut folder, None, &[])?;
        }
        match &self.migration.pop3 {
            Some(server) if folder.source.eq_ignore_ascii_case(INBOX) => {
                self.uidls(session, target, server, &planned.wire, &folder)
            }
            _ => Ok(()),
        }
    }

    /// UIDLs of the source's POP3, where its INBOX is the INBOX here.
    fn uidls(
        &mut self,
        session: &mut Session,
        target: &mut Target<'_>,
        server: &Server,
        wire: &[u8],
        folder: &Folder,
    ) -> Result<(), Stop> {
        if folder.target != INBOX {
            let note =
                format!("{}: no UIDLs: POP3 has INBOX here, not {}", folder.source, folder.target);
            self.report.notes.push(note);
            return Ok(());
        }
        let (login, state, report) = (&self.account.login, &self.migration.state, &mut self.report);
        Uidls { session, server, login, target, state, report }.bring(wire, folder)
    }

    /// Folders that have another name now: known by UIDVALIDITY, sizes and dates.
    fn follow_renames(
        &mut self,
        session: &mut Session,
        target: &mut Target<'_>,
        (plan, there): (&[Planned], &BTreeSet<String>),
        known: &mut BTreeMap<String, Folder>,
        mailboxes: &mut BTreeMap<String, Existing>,
    ) -> Result<(), Stop> {
        for planned in plan {
            if known.contains_key(&planned.source) {
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
            let Some(old) = self.same_folder(session, planned, vanished)? else { continue };
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
            for (uid, _, date) in facts(session, &super::arrivals::set_of(&asked))? {
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
        let found = facts(session, "1:*")?;
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
    fn remove_folders(
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

/// UIDs, sizes and dates.
pub(super) fn facts(
    session: &mut Session,
    set: &str,
) -> Result<Vec<(u32, u64, Option<i64>)>, Stop> {
    let mut found = Vec::new();
    if set.is_empty() {
        return Ok(found);
    }
    session.fetch(
        set,
        "(UID INTERNALDATE RFC822.SIZE)",
        &mut |fetched| {
            if let (Some(uid), Some(size)) = (fetched.uid, fetched.size) {
                found.push((uid, size, fetched.internal_date));
            }
            Ok(())
        },
        &mut |_| {},
    )?;
    Ok(found)
}

fn uses(listed: &Listed) -> Vec<String> {
    let one = |attribute: &String| SpecialUse::parse(attribute).map(|u| u.as_str().to_owned());
    listed.attributes.iter().filter_map(one).collect()
}

/// Uses that no other mailbox has.
fn free_uses(wanted: &[String], name: &str, mailboxes: &BTreeMap<String, Existing>) -> Vec<String> {
    let taken = |one: &&String| {
        mailboxes
            .iter()
            .any(|(other, existing)| other != name && existing.special_use.contains(one))
    };
    wanted.iter().filter(|one| !taken(one)).cloned().collect()
}

/// Twice as long each time, with a share of chance, so that not all come back at once.
fn pause(tries: u32) -> Duration {
    let whole = Duration::from_millis(500).saturating_mul(1 << tries.min(10)).min(PAUSE_MAX);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let chance = f64::from(now.map_or(0, |d| d.subsec_nanos() % 1000)) / 1000.0;
    whole.mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        assert!(pause(1) >= Duration::from_millis(500) && pause(1) <= Duration::from_secs(1));
        assert!(pause(30) >= PAUSE_MAX / 2 && pause(30) <= PAUSE_MAX);
    }

    #[test]
    fn a_use_is_given_once() {
        let existing = |uses: &[&str]| Existing {
            uid_validity: 1,
            special_use: uses.iter().map(|u| (*u).to_owned()).collect(),
            messages: 0,
        };
        let mailboxes = [("Sent".to_owned(), existing(&["\\Sent"]))].into();
        let wanted = ["\\Sent".to_owned(), "\\Archive".to_owned()];
        assert_eq!(free_uses(&wanted, "Sent Items", &mailboxes), ["\\Archive"]);
        assert_eq!(free_uses(&wanted, "Sent", &mailboxes), wanted);
    }
}
