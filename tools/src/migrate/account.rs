//! One user: the plan of folders, renames that the source made, then folder by folder; on new
//! connections after those that broke.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::Server;
use client::imap::{Listed, Namespace, Session, Whose};
use config::Config;
use engine::{INBOX, SpecialUse};
use protocol::imap::mutf7;
use serde::Serialize;

use super::arrivals::{Asked, BREAKS_MAX};
use super::folder::Work;
use super::numbers::{why_not_kept, why_not_kept_on};
use super::report::{Missing, UserReport};
use super::state::{Folder, SHARED};
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
/// A folder in which connections break so often, without anything done, waits until all others are done.
const FOLDER_BREAKS_MAX: u32 = 3;
/// Folders that wait at most; with more it is the source.
const POSTPONED_MAX: usize = 20;
/// So often a folder that waited is tried again, and a dry run without anything found out.
const LAST_TRIES_MAX: u32 = 4;

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
    /// Why there can be no such mailbox here.
    pub cannot_be: Option<String>,
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

/// UID, size and date of a message.
type SizeAndDate = (u32, u64, Option<i64>);

/// What the source lists.
struct Sight {
    namespace: Namespace,
    subscribed: BTreeSet<Vec<u8>>,
    listed: Vec<Listed>,
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
    /// The user's mail came over before, but by another name or port of the server.
    came_from_elsewhere: bool,
    /// How often a connection broke without anything done: batches get smaller.
    fruitless: u32,
    /// How often connections broke when one message alone was asked for.
    breaks: HashMap<(String, u32, Asked), u32>,
    /// What was found out about the source, so that a connection goes on where the last one broke.
    sight: Option<Rc<Sight>>,
    counts: BTreeMap<Vec<u8>, u64>,
    plan: Option<Rc<Plan>>,
    /// Folders that are none that had another name before.
    looked_at: BTreeSet<String>,
    /// Why folders' UIDs cannot be kept, as far as it was asked.
    unkept: BTreeMap<String, Option<String>>,
    /// The folder that is being done.
    at: Option<String>,
    /// How often connections broke in it, one after the other, without anything done.
    breaks_here: u32,
    /// Folders that wait until the others are done.
    postponed: BTreeSet<String>,
}

impl<'m> Run<'m> {
    /// A run that has not begun.
    pub fn new(migration: &'m Migration, account: &'m Account) -> Run<'m> {
        let (source, target) = (account.source.clone(), account.target.clone());
        let mut key = format!("{}@{}:{}", source, migration.server.host, migration.server.port);
        if migration.shared {
            key.push_str(SHARED);
        }
        Run {
            migration,
            account,
            key,
            report: UserReport { source, target, ..UserReport::default() },
            dropped: BTreeMap::new(),
            done: BTreeSet::new(),
            counted: false,
            came_from_elsewhere: false,
            fruitless: 0,
            breaks: HashMap::new(),
            sight: None,
            counts: BTreeMap::new(),
            plan: None,
            looked_at: BTreeSet::new(),
            unkept: BTreeMap::new(),
            at: None,
            breaks_here: 0,
            postponed: BTreeSet::new(),
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
                    // The source may answer but to one message: no wait until it is found.
                    let is_one = self.breaks.values().sum::<u32>() > breaks;
                    let is_postponed = before == came && !is_one && self.is_postponed(&reason);
                    let is_fruitless = before == came && !is_postponed;
                    // With the one message passed over, others come in batches of the usual size.
                    let is_found = before.2 < came.2 || is_postponed;
                    self.fruitless =
                        if is_found { 0 } else { self.fruitless + u32::from(is_fruitless) };
                    tries = if is_fruitless { tries + 1 } else { 1 };
                    if before != came {
                        self.breaks_here = 0;
                    }
                    if tries > self.migration.retries {
                        self.report.error = Some(reason);
                        break;
                    }
                    self.report.retries += 1;
                    let is_short = is_one || self.fruitless <= FRUITLESS_SHORT;
                    let pause = pause(if is_short { 0 } else { tries });
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

    /// What tells an attempt that brought something from a fruitless one: messages that came or were changed,
    /// folders that are done or were looked at, messages that are found to break connections.
    fn came(&self) -> (u64, usize, usize) {
        let found = self.breaks.values().filter(|times| **times >= BREAKS_MAX).count();
        let report = &self.report;
        let changed = report.matched + report.flags + report.expunged + report.uidls;
        let looked_at = self.counts.len() + self.looked_at.len() + self.unkept.len();
        let folders = self.done.len() + looked_at + usize::from(self.sight.is_some());
        (report.messages + changed, folders, found.min(PASSED_OVER_MAX))
    }

    /// Has a folder that breaks connections wait until all others are done; one that waited is given up,
    /// to be tried by the next run.
    fn is_postponed(&mut self, reason: &str) -> bool {
        let Some(at) = self.at.clone() else { return false };
        self.breaks_here += 1;
        if self.postponed.contains(&at) {
            if self.breaks_here < LAST_TRIES_MAX {
                return false;
            }
            let reason = format!("the connection broke again and again in it: {reason}");
            self.report.failed.push(Missing { folder: at.clone(), uid: None, reason });
            self.end_folder(at);
        } else {
            if self.breaks_here < FOLDER_BREAKS_MAX || self.postponed.len() == POSTPONED_MAX {
                return false;
            }
            self.postponed.insert(at);
        }
        self.breaks_here = 0;
        true
    }

    fn end_folder(&mut self, name: String) {
        self.report.folders += 1;
        self.migration.progress.folders_done.fetch_add(1, Ordering::Relaxed);
        self.done.insert(name);
        self.breaks_here = 0;
    }

    fn open(&self) -> Result<Session, Stop> {
        let mut session = Session::open(&self.migration.server)?;
        session.login(&self.account.login)?;
        Ok(session)
    }

    /// What would be done.
    pub fn plan_only(mut self, place: &mut Place) -> Result<Vec<Planned>, Failed> {
        let mut tries = 0;
        loop {
            let before = self.came();
            let (kind, why) = match self.try_plan(place) {
                Ok(folders) => return Ok(folders),
                Err(Stop::Moment(why)) => (Kind::Temporary, why),
                Err(Stop::Folder(why) | Stop::User(why)) => (Kind::Incomplete, why),
            };
            tries = if before == self.came() { tries + 1 } else { 1 };
            let tries_max = self.migration.retries.min(LAST_TRIES_MAX);
            if kind != Kind::Temporary || tries > tries_max {
                return Err(Failed::new(kind, format!("{}: {why}", self.account.source)));
            }
            std::thread::sleep(pause(tries));
        }
    }

    fn try_plan(&mut self, place: &mut Place) -> Result<Vec<Planned>, Stop> {
        let mut session = self.open()?;
        let mut target = Target::new(&self.account.target, place);
        let mailboxes = target.mailboxes()?;
        let plan = self.plan(&mut session, &mailboxes)?;
        let mut folders = plan.folders.clone();
        self.look_at_names(&mailboxes, &mut folders);
        if self.migration.choice.keep_uids {
            self.look_at_uids(&mut session, &mut target, &mut folders)?;
        }
        session.log_out();
        Ok(folders)
    }

    /// Finds out which names the layout of the user's partition has no place for.
    fn look_at_names(&self, mailboxes: &BTreeMap<String, Existing>, folders: &mut [Planned]) {
        let known = &self.migration.partitions;
        let name = mailboxes.get(INBOX).map(|inbox| inbox.partition.as_str());
        let Some(partition) = known.iter().find(|one| Some(one.name.as_str()) == name) else {
            return;
        };
        for planned in folders.iter_mut().filter(|planned| !planned.exists) {
            let (user, target) = (&self.account.target, &planned.target);
            let dir = partition.layout.mailbox_dir(&partition.path, user, target);
            planned.cannot_be = dir.err().map(|error| error.to_string());
        }
    }

    /// Finds out which folders cannot keep their UIDs.
    fn look_at_uids(
        &mut self,
        session: &mut Session,
        target: &mut Target<'_>,
        folders: &mut [Planned],
    ) -> Result<(), Stop> {
        let known = self.migration.state.folders(&self.key)?;
        for planned in folders {
            if let Some(found) = self.unkept.get(&planned.source) {
                planned.uids_not_kept = found.clone();
                continue;
            }
            let before = known.get(&planned.source).filter(|folder| folder.uid_validity != 0);
            planned.uids_not_kept = match (session.examine(&planned.wire, false), before) {
                (Err(client::Error::No { text, .. }), _) => {
                    Some(format!("the source does not open it: {text}"))
                }
                (Err(other), _) => return Err(other.into()),
                (Ok(examined), Some(folder)) => why_not_kept_on(&examined, folder),
                (Ok(examined), None) => {
                    let uid_next = match planned.exists {
                        true => target.numbers(&planned.target)?.1,
                        false => 1,
                    };
                    why_not_kept(&examined, &planned.target, uid_next)
                }
            };
            self.unkept.insert(planned.source.clone(), planned.uids_not_kept.clone());
        }
        Ok(())
    }

    /// Folders of the source, and prefixes that were left out. What is known of them from an earlier
    /// connection is not asked again.
    fn plan(
        &mut self,
        session: &mut Session,
        mailboxes: &BTreeMap<String, Existing>,
    ) -> Result<Rc<Plan>, Stop> {
        if let Some(plan) = &self.plan {
            return Ok(Rc::clone(plan));
        }
        let sight = match &self.sight {
            Some(sight) => Rc::clone(sight),
            None => {
                let namespace = session.namespace()?;
                let subscribed = session.subscribed()?.into_iter().map(|one| one.wire).collect();
                let listed = distinct(session.list()?);
                let sight = Rc::new(Sight { namespace, subscribed, listed });
                self.sight = Some(Rc::clone(&sight));
                sight
            }
        };
        let namespace = &sight.namespace;
        let personal = namespace.personal.first().map_or("", |(prefix, _)| prefix.as_str());
        let known = self.migration.state.folders(&self.key)?;
        let (mut plan, mut others, mut there) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for listed in &sight.listed {
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
                messages: self.count(session, &listed.wire)?,
                known: state.map_or(Ok(0), |state| self.migration.state.count(state.id))?,
                special_use: uses(listed),
                subscribed: sight.subscribed.contains(&listed.wire),
                exists: mailboxes.contains_key(&target),
                cannot_be: None,
                uids_not_kept: None,
                source: listed.name.clone(),
                target,
                wire: listed.wire.clone(),
            });
        }
        plan.sort_by(|a, b| a.source.cmp(&b.source));
        let pairs = plan.iter().map(|one| (one.source.as_str(), one.target.as_str()));
        self.migration.rules.check(pairs).map_err(|failed| Stop::User(failed.to_string()))?;
        let plan = Rc::new(Plan { folders: plan, there, notes: others.into_iter().collect() });
        self.plan = Some(Rc::clone(&plan));
        Ok(plan)
    }

    /// Messages of a folder. One that the source does not tell of may still open, and says why it does not.
    fn count(&mut self, session: &mut Session, wire: &[u8]) -> Result<u64, Stop> {
        if let Some(count) = self.counts.get(wire) {
            return Ok(*count);
        }
        let count = match session.messages(wire) {
            Err(client::Error::No { .. }) => 0,
            other => other?,
        };
        self.counts.insert(wire.to_vec(), count);
        Ok(count)
    }

    fn attempt(&mut self, place: &mut Place) -> Result<(), Stop> {
        self.at = None;
        let mut session = self.open()?;
        let mut target = Target::new(&self.account.target, place);
        let mut mailboxes = target.mailboxes()?;
        let whole = self.plan(&mut session, &mailboxes)?;
        let progress = &self.migration.progress;
        if !std::mem::replace(&mut self.counted, true) {
            progress.folders.fetch_add(whole.folders.len() as u64, Ordering::Relaxed);
            progress
                .messages
                .fetch_add(whole.folders.iter().map(|one| one.messages).sum(), Ordering::Relaxed);
            self.report.notes.extend(whole.notes.iter().cloned());
        }
        let mut known = self.migration.state.folders(&self.key)?;
        if known.is_empty() && !self.came_from_elsewhere {
            let others = self.migration.state.same_user(&self.account.source, &self.key)?;
            if !others.is_empty() {
                self.came_from_elsewhere = true;
                self.report.notes.push(format!(
                    "came over from {} before: what is here already is told by Message-ID",
                    others.join(", ")
                ));
            }
        }
        let (plan, there) = (whole.folders.as_slice(), &whole.there);
        self.follow_renames(&mut session, &mut target, (plan, there), &mut known, &mut mailboxes)?;
        let waits = |planned: &&Planned| self.postponed.contains(&planned.source);
        let (last, first): (Vec<&Planned>, Vec<&Planned>) = plan.iter().partition(waits);
        for planned in first.into_iter().chain(last) {
            if self.done.contains(&planned.source) {
                continue;
            }
            let folder = known.get(&planned.source).cloned();
            let folder = folder.unwrap_or_else(|| Folder {
                source: planned.source.clone(),
                target: planned.target.clone(),
                matching: self.came_from_elsewhere,
                ..Folder::default()
            });
            self.at = Some(planned.source.clone());
            match self.folder(&mut session, &mut target, planned, folder, &mut mailboxes) {
                Ok(()) => {}
                Err(Stop::Folder(reason)) => {
                    let (folder, uid) = (planned.source.clone(), None);
                    self.report.failed.push(Missing { folder, uid, reason });
                }
                Err(other) => return Err(other),
            }
            self.end_folder(planned.source.clone());
        }
        self.at = None;
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
            let partition = mailboxes.get(INBOX).map(|inbox| inbox.partition.clone());
            let partition = partition.unwrap_or_default();
            let existing = Existing { uid_validity, special_use, messages: 0, partition };
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
            for (uid, _, date) in
                facts(session, &super::arrivals::set_of(&asked))?.unwrap_or_default()
            {
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

/// UIDs, sizes and dates; `None`: the source refuses them.
pub(super) fn facts(session: &mut Session, set: &str) -> Result<Option<Vec<SizeAndDate>>, Stop> {
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

/// Folders under names that differ: names that are no modified UTF-7 are told as they are, which may be
/// what another one is decoded to.
fn distinct(mut listed: Vec<Listed>) -> Vec<Listed> {
    listed.sort_by(|a, b| a.wire.cmp(&b.wire));
    listed.dedup_by(|a, b| a.wire == b.wire);
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    listed.iter().for_each(|one| *names.entry(one.name.clone()).or_default() += 1);
    for one in &mut listed {
        let is_as_written = mutf7::encode(&one.name).as_bytes() == one.wire;
        if names.get(&one.name).is_some_and(|times| *times > 1) && !is_as_written {
            one.name = format!("{} ({})", one.name, one.wire.escape_ascii());
        }
    }
    listed
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
    fn names_that_are_decoded_alike_stay_apart() {
        let listed = |name: &str, wire: &[u8]| Listed {
            name: name.to_owned(),
            separator: Some('.'),
            attributes: Vec::new(),
            wire: wire.to_vec(),
        };
        let two = [listed("R&D", b"R&D"), listed("R&D", b"R&-D"), listed("R&D", b"R&-D")];
        let names: Vec<String> = distinct(two.to_vec()).into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["R&D", "R&D (R&D)"]);
        let raw = [listed("\u{fffd}", b"\xe4"), listed("\u{fffd}", b"\xf6")];
        let names: Vec<String> = distinct(raw.to_vec()).into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["\u{fffd} (\\xe4)", "\u{fffd} (\\xf6)"]);
    }

    #[test]
    fn a_use_is_given_once() {
        let existing = |uses: &[&str]| Existing {
            uid_validity: 1,
            special_use: uses.iter().map(|u| (*u).to_owned()).collect(),
            messages: 0,
            partition: String::new(),
        };
        let mailboxes = [("Sent".to_owned(), existing(&["\\Sent"]))].into();
        let wanted = ["\\Sent".to_owned(), "\\Archive".to_owned()];
        assert_eq!(free_uses(&wanted, "Sent Items", &mailboxes), ["\\Archive"]);
        assert_eq!(free_uses(&wanted, "Sent", &mailboxes), wanted);
    }
}
