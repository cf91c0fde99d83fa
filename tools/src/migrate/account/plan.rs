//! Which folders the source has, and what becomes of each.
//!
//! Invariant: what is known of a folder from one connection is not asked again on the next, so that a
//! source that closes after few commands gets through.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use client::imap::{Listed, Namespace, Session, Whose};
use engine::{INBOX, SpecialUse};
use protocol::imap::mutf7;
use serde::Serialize;

use super::{LAST_TRIES_MAX, Run, pause};
use crate::failure::{Failed, Kind};
use crate::migrate::numbers::{why_not_kept, why_not_kept_on};
use crate::migrate::stop::Stop;
use crate::migrate::target::{Existing, Target};
use crate::place::Place;

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
    pub(super) wire: Vec<u8>,
}

/// What is at the source, and what becomes of it.
pub(super) struct Plan {
    /// In order of the names at the source, parents first.
    pub(super) folders: Vec<Planned>,
    /// Names of all folders of the source that hold messages, also those that rules leave out.
    pub(super) there: BTreeSet<String>,
    /// What is left out.
    pub(super) notes: Vec<String>,
}

/// What the source lists.
pub(super) struct Sight {
    namespace: Namespace,
    subscribed: BTreeSet<Vec<u8>>,
    listed: Vec<Listed>,
}

impl Run<'_> {
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
    pub(super) fn plan(
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
