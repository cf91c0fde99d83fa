//! `cursus handback cyrus`: the store in Cyrus's own files again, for Debian's 3.6.
//!
//! Everything is written beside what is there first, which is what takes time and room; then all of it
//! is renamed into place: files of mailboxes, directories that have another place in Cyrus, the
//! databases that name them. Done twice it writes nothing the second time, so after a crash it is
//! done again. Last, our state directory's catalog and log are [set aside](super::retire): from then on
//! the store is Cyrus's.

use std::collections::{BTreeMap, BTreeSet};

use config::Config;
use engine::{INBOX, MailboxToAdopt, Store, UserToAdopt};
use foreign::cyrus::name::Name;

use super::given::{Given, Places};
use super::ledger::Ledger;
use super::lists::Lists;
use super::mailbox::{Target, Weight};
use super::moves::Moves;
use super::quota_roots::QuotaRoots;
use super::site::Site;
use super::source::Source;
use super::write::Stage;
use crate::failure::{Failed, Kind};

/// What was written.
#[derive(Default)]
pub struct Done {
    pub users: u64,
    pub mailboxes: u64,
    pub messages: u64,
    /// What Cyrus will not have, a line each.
    pub findings: Vec<String>,
}

/// Everything that is written from.
pub struct Giver<'a> {
    site: &'a Site,
    config: &'a Config,
    places: Places<'a>,
    /// Seconds since 1970.
    now: u64,
    pub done: Done,
}

fn failed(reason: String) -> Failed {
    Failed::new(Kind::Incomplete, reason)
}

impl<'a> Giver<'a> {
    /// To the files that imapd.conf names; with our partitions by Cyrus's names for them.
    pub fn new(
        site: &'a Site,
        config: &'a Config,
        now: u64,
        partitions: &BTreeMap<String, String>,
    ) -> Giver<'a> {
        let places = Places::new(site, config, partitions);
        Giver { site, config, places, now, done: Done::default() }
    }

    /// Writes all of Cyrus's files from the store, but those that are as the ledger has them.
    pub fn write(mut self, store: &Store, ledger: &Ledger) -> Result<Done, Failed> {
        let source: &mut dyn Source = &mut { store };
        // Records would have to be in another order than that of their bytes.
        if self.site.conf.switch("improved_mboxlist_sort", false).unwrap_or(true) {
            let line = "improved_mboxlist_sort is not supported: switch it off";
            return Err(Failed::new(Kind::Config, line));
        }
        // Of a hand-back that was cut off.
        let mut moved = Moves::read(&self.config.state_dir).map_err(failed)?;
        moved.finish(&self.config.state_dir).map_err(failed)?;
        let mut users: BTreeMap<String, UserToAdopt> = BTreeMap::new();
        let mut given = Vec::new();
        for user in store.all_users().map_err(|e| failed(e.to_string()))? {
            let mut described = source.heads(&user)?;
            let mailboxes = std::mem::take(&mut described.mailboxes);
            for mailbox in self.places.wanted_of(&user, mailboxes) {
                given.extend(self.place(source, &user, mailbox, &moved)?);
            }
            users.insert(user, described);
        }
        let mut roots = QuotaRoots::of(users.iter(), &given);
        let mut lists = Lists::new(self.site, self.now);
        lists.annotations(&given)?;
        let mut stage = Stage::default();
        let mut shared_seen = BTreeSet::new();
        for one in &given {
            let root = roots.governing(&one.name);
            let weight = match self.as_written(one, root, ledger, &mut stage)? {
                Some(weight) => weight,
                None => self.stage(source, one, root, &mut stage)?,
            };
            self.done.mailboxes += 1;
            self.done.messages += weight.messages;
            roots.count(&one.name, weight);
            if weight.shared_seen {
                shared_seen.insert(one.mailbox.unique_id.as_str());
            }
        }
        roots.count_left_alone(self.site, &given)?;
        roots.write(self.site, &mut lists)?;
        for (user, described) in &users {
            self.done.users += 1;
            lists.subscriptions(user, described, &self.places)?;
        }
        let is_private = |one: &&Given| !shared_seen.contains(one.mailbox.unique_id.as_str());
        lists.seen(given.iter().filter(is_private))?;
        // Last, as it decides what there is.
        lists.mailboxes(&given)?;
        self.done.findings.append(&mut lists.findings);
        let mut wanted = Vec::new();
        for one in &given {
            wanted.append(&mut one.wanted(self.site)?);
        }
        let is_first = moved.is_empty();
        let mut moves = Moves::in_order(wanted, moved);
        let state_dir = &self.config.state_dir;
        // From here on hardly anything is written that needs room.
        let begun = moves.prepare(state_dir).and_then(|()| stage.publish());
        if let Err(reason) = begun {
            if is_first {
                moves.forget(state_dir);
            }
            return Err(failed(reason));
        }
        moves.finish(state_dir).map_err(failed)?;
        lists.stage.publish().map_err(failed)?;
        roots.remove_others(self.site)?;
        Ok(self.done)
    }

    /// A mailbox's place, where moves that were done have left it.
    fn place(
        &self,
        source: &mut dyn Source,
        user: &str,
        mailbox: MailboxToAdopt,
        moved: &Moves,
    ) -> Result<Option<Given>, Failed> {
        let Some(mut one) = self.places.place(user, mailbox, self.now)? else {
            if source.mailbox(user, INBOX)?.is_some_and(|inbox| !inbox.messages.is_empty()) {
                let line = "its INBOX has messages, and no place in Cyrus";
                return Err(failed(format!("{user}: {line}")));
            }
            return Ok(None);
        };
        let root = self.site.root(one.partition(), "")?;
        if let Some(below) =
            moved.place(&one.mailbox.unique_id).and_then(|place| place.strip_prefix(root).ok())
        {
            one.dir = below.to_owned();
        }
        Ok(Some(one))
    }

    fn target<'t>(
        &self,
        one: &'t Given,
        mailbox: &'t MailboxToAdopt,
        quota_root: Option<&'t Name>,
    ) -> Target<'t> {
        Target {
            mailbox,
            name: &one.name,
            kind: &one.entry.kind,
            owner: &one.owner,
            acl: &one.entry.acl,
            quota_root,
            annotation_bytes: one.annotation_bytes(),
            dir: &one.dir,
            partition: one.partition(),
            now: self.now,
        }
    }

    /// What a mailbox weighs whose messages need no writing.
    fn as_written(
        &self,
        one: &Given,
        root: Option<&Name>,
        ledger: &Ledger,
        stage: &mut Stage,
    ) -> Result<Option<Weight>, Failed> {
        let Some(written) = ledger.get(&one.user, &one.mailbox.name) else { return Ok(None) };
        let target = self.target(one, &one.mailbox, root);
        let named = |reason| failed(format!("{}: {reason}", one.name));
        if !target.is_as(self.site, written).map_err(named)? {
            return Ok(None);
        }
        if written.recent_uid != one.mailbox.recent_uid {
            // A SELECT changes that much, and no MODSEQ.
            target.write_recent(self.site, stage).map_err(named)?;
        }
        Ok(Some(written.weight))
    }

    /// Stages all files of a mailbox; returns what it weighs.
    fn stage(
        &mut self,
        source: &mut dyn Source,
        one: &Given,
        root: Option<&Name>,
        stage: &mut Stage,
    ) -> Result<Weight, Failed> {
        let named = |reason| failed(format!("{}: {reason}", one.name));
        let full = source.mailbox(&one.user, &one.mailbox.name)?;
        let full = full.ok_or_else(|| named("it is gone".to_owned()))?;
        let target = self.target(one, &full, root);
        target.write(self.site, stage, &mut self.done.findings).map_err(named)
    }

    /// Begins a pass.
    pub fn begin(&mut self, now: u64) {
        self.now = now;
        self.done = Done::default();
    }

    /// Writes the files of some mailboxes of a user while a server serves them; says whether all
    /// could be.
    pub fn follow(
        &mut self,
        source: &mut dyn Source,
        user: &str,
        names: &BTreeSet<&str>,
        ledger: &mut Ledger,
    ) -> Result<bool, Failed> {
        let mut is_whole = true;
        let mut described = source.heads(user)?;
        let mut given = Vec::new();
        let mailboxes = std::mem::take(&mut described.mailboxes);
        for mailbox in self.places.wanted_of(user, mailboxes) {
            // One without a place is for the hand-back to name.
            given.extend(self.places.place(user, mailbox, self.now).ok().flatten());
        }
        let roots = QuotaRoots::of([(&user.to_owned(), &described)].into_iter(), &given);
        for one in given.iter().filter(|one| names.contains(one.mailbox.name.as_str())) {
            let Some(full) = source.mailbox(user, &one.mailbox.name)? else { continue };
            // It was deleted or moved meanwhile: the next pass sees what it is then.
            if full.unique_id != one.mailbox.unique_id || full.dir != one.mailbox.dir {
                continue;
            }
            let target = self.target(one, &full, roots.governing(&one.name));
            let (mut stage, mut findings) = (Stage::in_existing_directories(), Vec::new());
            let done = target.write(self.site, &mut stage, &mut findings).and_then(|weight| {
                stage.publish()?;
                target.written(self.site, user, weight)
            });
            match done {
                Ok(written) => {
                    self.done.mailboxes += 1;
                    self.done.messages += written.weight.messages;
                    ledger.insert(written);
                }
                Err(reason) => {
                    is_whole = false;
                    findings.push(format!("{}: not written: {reason}", one.name));
                }
            }
            self.done.findings.append(&mut findings);
        }
        Ok(is_whole)
    }
}
