//! The databases that name mailboxes: `mailboxes.db`, `annotations.db`, subscriptions, seen state.
//!
//! Of what they say, ours takes the place of what we took over; the rest stays. One that says so
//! already is not written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use engine::{MailboxToAdopt, UserToAdopt};
use foreign::cyrus::annotations::Annotation;
use foreign::cyrus::db::{self, Form, Pair};
use foreign::cyrus::dlist;
use foreign::cyrus::mboxlist::{self, Entry};
use foreign::cyrus::name::{Name, Owner};
use foreign::cyrus::seen::Seen;
use foreign::cyrus::subscriptions;

use super::given::{Given, Places};
use super::site::{Site, read_if_any};
use super::write::Stage;
use crate::failure::{Failed, Kind};

/// Databases on their way.
pub struct Lists<'a> {
    site: &'a Site,
    /// Seconds since 1970.
    now: u64,
    /// What is to take its place, in this order.
    pub stage: Stage,
    /// What Cyrus will not have, a line each.
    pub findings: Vec<String>,
}

impl<'a> Lists<'a> {
    /// None yet.
    pub fn new(site: &'a Site, now: u64) -> Lists<'a> {
        Lists { site, now, stage: Stage::default(), findings: Vec::new() }
    }

    /// `annotations.db`: our mailboxes' annotations in place of those that they had.
    pub fn annotations(&mut self, given: &[Given]) -> Result<(), Failed> {
        let id_of = |one: &Given| one.mailbox.unique_id.clone();
        let names: BTreeMap<String, String> =
            given.iter().map(|one| (one.name.to_internal(), id_of(one))).collect();
        let ids: BTreeSet<String> = given.iter().map(id_of).collect();
        let mut kept = Vec::new();
        let mut known = BTreeMap::new();
        for annotation in &self.site.annotations {
            // To 3.4 they are of names.
            let of = names.get(&annotation.of).unwrap_or(&annotation.of).clone();
            let annotation = Annotation { of, ..annotation.clone() };
            let Annotation { of, entry, user, .. } = &annotation;
            match ids.contains(of) && !annotation.is_deleted() {
                // Entries are in lower case here; Cyrus's own may be written otherwise.
                true => {
                    let key = (of.clone(), entry.to_ascii_lowercase(), user.clone());
                    known.insert(key, annotation);
                }
                false => kept.push(annotation),
            }
        }
        for one in given {
            for ((entry, user), value) in one.annotations() {
                let key = (id_of(one), entry, user);
                let same = known.remove(&key).filter(|there| there.value == value);
                kept.push(same.unwrap_or(Annotation {
                    of: key.0,
                    entry: key.1,
                    user: key.2,
                    value,
                    modseq: one.mailbox.modseq_highest,
                    flags: 0,
                }));
            }
        }
        let pairs = db::sorted(kept.iter().map(Annotation::write).collect());
        let path = self.site.database("annotation_db_path", "annotations.db");
        self.replace(&path, "annotation_db", Form::Twoskip, pairs)
    }

    /// `mailboxes.db`: our mailboxes in place of those that were served, the others as they are.
    pub fn mailboxes(&mut self, given: &[Given]) -> Result<(), Failed> {
        let site = self.site;
        let newer = site.is_by_id();
        let mut pairs: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let gone = |entry: &Entry| {
            let owner = entry.name.owner(&site.deleted_prefix);
            entry.is_served() && owner != Owner::Deleted && site.was_taken(entry)
        };
        let mut histories = BTreeMap::new();
        if newer {
            for (key, value) in &site.list {
                pairs.insert(key.clone(), value.clone());
                if key.first() == Some(&b'I')
                    && let Ok(value) = dlist::read(value)
                    && let Some(history) = value.get("H")
                {
                    histories.insert(key.get(1..).unwrap_or_default().to_vec(), history.clone());
                }
            }
        }
        for entry in &site.mailboxes {
            match (newer, gone(entry)) {
                (true, true) => {
                    pairs.remove(format!("N{}", entry.name.to_database()).as_bytes());
                    if let Some(id) = &entry.unique_id {
                        pairs.remove(format!("I{id}").as_bytes());
                    }
                }
                (false, false) => match mboxlist::write(entry, None) {
                    Some(both) => pairs.extend(both),
                    None => self.findings.push(format!(
                        "{}: left out of mailboxes.db: it has no unique id there",
                        entry.name
                    )),
                },
                _ => {}
            }
        }
        for one in given {
            let id = one.mailbox.unique_id.as_bytes();
            let written = mboxlist::write(&one.entry, histories.get(id));
            pairs.extend(written.into_iter().flatten());
        }
        let path = site.database("mboxlist_db_path", "mailboxes.db");
        self.replace(&path, "mboxlist_db", Form::Twoskip, pairs.into_iter().collect())
    }

    /// `mailboxes.db` and `annotations.db` without mailboxes that are no more.
    pub fn without(&mut self, gone: &[&Entry]) -> Result<(), Failed> {
        let site = self.site;
        let names: BTreeSet<&Name> = gone.iter().map(|entry| &entry.name).collect();
        let left = || site.mailboxes.iter().filter(|entry| !names.contains(&entry.name));
        // Annotations are of unique ids, to 3.4 of names.
        let mut of: BTreeSet<String> =
            gone.iter().filter_map(|entry| entry.unique_id.clone()).collect();
        for id in left().filter_map(|entry| entry.unique_id.as_ref()) {
            of.remove(id);
        }
        let keys: BTreeSet<Vec<u8>> = match site.is_by_id() {
            true => {
                let by_name = gone.iter().map(|entry| format!("N{}", entry.name.to_database()));
                by_name
                    .chain(of.iter().map(|id| format!("I{id}")))
                    .map(String::into_bytes)
                    .collect()
            }
            false => gone.iter().map(|entry| entry.name.to_internal().into_bytes()).collect(),
        };
        of.extend(gone.iter().map(|entry| entry.name.to_internal()));
        let is_left = |annotation: &&Annotation| !of.contains(&annotation.of);
        let kept = site.annotations.iter().filter(is_left);
        let pairs = db::sorted(kept.map(Annotation::write).collect());
        let path = site.database("annotation_db_path", "annotations.db");
        if pairs.len() < site.annotations.len() {
            self.replace(&path, "annotation_db", Form::Twoskip, pairs)?;
        }
        // Last, as it decides what there is.
        let pairs = site.list.iter().filter(|(key, _)| !keys.contains(key)).cloned().collect();
        let path = site.database("mboxlist_db_path", "mailboxes.db");
        self.replace(&path, "mboxlist_db", Form::Twoskip, pairs)
    }

    /// What a user subscribed to.
    pub fn subscriptions(
        &mut self,
        user: &str,
        described: &UserToAdopt,
        places: &Places<'_>,
    ) -> Result<(), Failed> {
        let subscribed = described.subscriptions.iter();
        let names: Vec<Name> = subscribed.map(|name| places.subscribed(user, name)).collect();
        let before = self.site.subscriptions(user).unwrap_or_default();
        let set = |names: &[Name]| names.iter().cloned().collect::<BTreeSet<Name>>();
        if set(&before) == set(&names) {
            return Ok(());
        }
        let path = self.site.user_file(user, "sub");
        let pairs = subscriptions::write(&names, user);
        self.replace(&path, "subscription_db", Form::Flat, pairs)
    }

    /// Seen state of users in mailboxes of others.
    pub fn seen<'g>(&mut self, given: impl Iterator<Item = &'g Given>) -> Result<(), Failed> {
        /// Ranges of UIDs by mailbox.
        type States<'s> = Vec<(&'s MailboxToAdopt, &'s [(u32, u32)])>;
        let mut by_user: BTreeMap<&str, States<'_>> = BTreeMap::new();
        for one in given {
            for (user, ranges) in &one.mailbox.seen {
                by_user.entry(user).or_default().push((&one.mailbox, ranges));
            }
        }
        for (user, states) in by_user {
            let path = self.site.user_file(user, "seen");
            let bytes = read_if_any(&path)?.unwrap_or_default();
            let before = db::read(&bytes).unwrap_or_default();
            let mut pairs: BTreeMap<Vec<u8>, Vec<u8>> = before.into_iter().collect();
            for (mailbox, ranges) in states {
                let key = mailbox.unique_id.as_bytes().to_vec();
                let there = pairs.get(&key).and_then(|value| Seen::read(value).ok());
                let there = there.unwrap_or_default();
                if there.uids == ranges {
                    continue;
                }
                let seen = Seen {
                    last_read: self.now,
                    last_uid: mailbox.uid_next.saturating_sub(1),
                    last_change: self.now,
                    uids: ranges.to_vec(),
                };
                pairs.insert(key, seen.write());
            }
            let pairs = pairs.into_iter().collect();
            self.replace(&path, "seenstate_db", Form::Twoskip, pairs)?;
        }
        Ok(())
    }

    /// Stages a database in the form that it has, or imapd.conf wants; one that is so is left alone.
    pub fn replace(
        &mut self,
        path: &Path,
        option: &str,
        usual: Form,
        pairs: Vec<Pair>,
    ) -> Result<(), Failed> {
        let bytes = read_if_any(path)?.unwrap_or_default();
        let before = db::read(&bytes).unwrap_or_default();
        let there = Form::of(&bytes).filter(|_| !bytes.is_empty());
        let named = self.site.conf.get(option).and_then(Form::named);
        let form = match there {
            // Cyrus goes by the magic of these; a flat file has none, and is what the option says.
            Some(form @ (Form::Skiplist | Form::Twoskip | Form::Twom)) => form,
            Some(Form::Flat) | None => named.unwrap_or(usual),
        };
        if there == Some(form) && db::sorted(before) == pairs {
            return Ok(());
        }
        let now = u32::try_from(self.now).unwrap_or(u32::MAX);
        let written = db::write(form, &pairs, &bytes, now);
        let staged = self.stage.put(path, &written);
        staged.map_err(|reason| Failed::new(Kind::Incomplete, reason))
    }
}
