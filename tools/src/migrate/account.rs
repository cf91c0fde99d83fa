//! One user: the plan of folders, renames that the source made, then folder by folder; on new
//! connections after those that broke.
//!
//! | module | says |
//! |---|---|
//! | `plan` | which folders there are, and what becomes of each |
//! | `renames` | which have another name than before, and which are gone |

mod plan;
mod renames;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::Server;
use client::imap::Session;
use config::Config;
use engine::INBOX;

use super::arrivals::{Asked, BREAKS_MAX};
use super::folder::Work;
use super::report::{Missing, UserReport};
use super::state::{Folder, SHARED};
use super::stop::Stop;
use super::target::{Existing, Target, connect};
use super::uidls::Uidls;
use super::users::Account;
use super::{Migration, sharing};
use crate::place::Place;
pub use plan::Planned;
use plan::{Plan, Sight};
pub(super) use renames::facts;

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
            partition: String::new(),
        };
        let mailboxes = [("Sent".to_owned(), existing(&["\\Sent"]))].into();
        let wanted = ["\\Sent".to_owned(), "\\Archive".to_owned()];
        assert_eq!(free_uses(&wanted, "Sent Items", &mailboxes), ["\\Archive"]);
        assert_eq!(free_uses(&wanted, "Sent", &mailboxes), wanted);
    }
}
