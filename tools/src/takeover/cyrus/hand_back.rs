//! `cursus handback cyrus`: the store in Cyrus's own files again, for Debian's 3.6.
//!
//! Everything is written beside what is there first, which is what takes time and room; then all of it
//! is renamed into place: files of mailboxes, directories that have another place in Cyrus, the
//! databases that name them. Done twice it writes nothing the second time, so after a crash it is
//! done again. Last, our state directory's catalog and log are set aside: from then on the store is
//! Cyrus's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use config::Config;
use engine::{INBOX, MailboxToAdopt, Namespace, QuotaLimits, Rights, Store, UserToAdopt};
use foreign::cyrus::annotations::{Annotation, OWNER};
use foreign::cyrus::db::{self, Form, Pair};
use foreign::cyrus::index::Index;
use foreign::cyrus::mboxlist::{self, Acl, Entry};
use foreign::cyrus::name::{Name, Owner};
use foreign::cyrus::quota::{Quota, Resource};
use foreign::cyrus::seen::Seen;
use foreign::cyrus::subscriptions;
use protocol::imap::mutf7;

use super::ledger::{LEDGER_NAME, Ledger};
use super::mailbox::{Target, Weight};
use super::moves::{self, Moves, Wanted};
use super::site::{Site, read_if_any};
use super::source::Source;
use super::write::Stage;
use crate::failure::{Failed, Kind};

/// Rights of an owner whose mailbox has no list, as Cyrus writes them.
const ALL_RIGHTS: &str = "lrswipkxtecdan";

/// What was written.
#[derive(Default)]
pub struct Done {
    pub users: u64,
    pub mailboxes: u64,
    pub messages: u64,
    /// What Cyrus will not have, a line each.
    pub findings: Vec<String>,
}

/// One mailbox on its way.
struct Given {
    name: Name,
    user: String,
    /// The user; for shared mailboxes none.
    owner: String,
    mailbox: MailboxToAdopt,
    entry: Entry,
    dir: PathBuf,
}

/// Everything that is written from.
pub struct Giver<'a> {
    site: Site,
    config: &'a Config,
    now: u64,
    /// Cyrus's names of our partitions.
    partitions: BTreeMap<String, String>,
    /// Places of mailboxes in Cyrus's list by unique id.
    before: BTreeMap<String, usize>,
    pub done: Done,
}

fn failed(reason: String) -> Failed {
    Failed::new(Kind::Incomplete, reason)
}

impl<'a> Giver<'a> {
    /// To the files that imapd.conf names.
    pub fn new(
        site: Site,
        config: &'a Config,
        now: u64,
        partitions: BTreeMap<String, String>,
    ) -> Giver<'a> {
        let partitions = partitions.into_iter().map(|(theirs, ours)| (ours, theirs)).collect();
        let listed = site.mailboxes.iter().enumerate().filter(|(_, entry)| entry.is_served());
        let before = listed.filter_map(|(place, entry)| Some((entry.unique_id.clone()?, place)));
        let before = before.collect();
        Giver { site, config, now, partitions, before, done: Done::default() }
    }

    /// Writes all of Cyrus's files from the store, but those that are as the ledger has them.
    pub fn write(mut self, store: &Store, ledger: &Ledger) -> Result<Done, Failed> {
        let source: &mut dyn Source = &mut { store };
        // Records would have to be in another order than that of their bytes.
        if self.site.conf.switch("improved_mboxlist_sort", false).unwrap_or(true) {
            let line = "improved_mboxlist_sort is not supported: switch it off";
            return Err(Failed::new(Kind::Config, line));
        }
        let mut users: BTreeMap<String, UserToAdopt> = BTreeMap::new();
        for name in store.all_users().map_err(|e| failed(e.to_string()))? {
            let described = source.heads(&name)?;
            users.insert(name, described);
        }
        // Of a hand-back that was cut off.
        let mut moved = Moves::read(&self.config.state_dir).map_err(failed)?;
        moved.finish(&self.config.state_dir).map_err(failed)?;
        let mut given = Vec::new();
        for (user, described) in &mut users {
            for mailbox in std::mem::take(&mut described.mailboxes) {
                let Some(mut one) = self.place(user, mailbox)? else { continue };
                if let Some(place) = moved.place(&one.mailbox.unique_id) {
                    let below = place.strip_prefix(self.root_of(&one.entry)?);
                    one.dir = below.map_or_else(|_| one.dir.clone(), Path::to_owned);
                }
                given.push(one);
            }
        }
        let roots = self.roots(&users, &given);
        let mut stage = Stage::default();
        let mut weights: BTreeMap<Name, (Weight, u64)> = BTreeMap::new();
        let mut lists = Stage::default();
        let (pairs, own) = self.annotations(&given);
        let path = self.database("annotation_db_path", "annotations.db")?;
        self.replace_database(&mut lists, &path, "annotation_db", Form::Twoskip, pairs)?;
        let mut shared_seen = BTreeSet::new();
        for one in &given {
            let root = governing(&roots, &one.name);
            let weight = match self.as_written(one, root, &own, ledger, &mut stage)? {
                Some(weight) => weight,
                None => {
                    let missing = || failed(format!("{}: it is gone", one.name));
                    let full = source.mailbox(&one.user, &one.mailbox.name)?.ok_or_else(missing)?;
                    let target = self.target(one, &full, root, &own);
                    let mut findings = Vec::new();
                    let named = |reason| failed(format!("{}: {reason}", one.name));
                    let weight =
                        target.write(&self.site, &mut stage, &mut findings).map_err(named)?;
                    self.done.findings.append(&mut findings);
                    weight
                }
            };
            self.done.mailboxes += 1;
            self.done.messages += weight.messages;
            if let Some(root) = root {
                let (sum, mailboxes) = weights.entry(root.clone()).or_default();
                sum.add(weight);
                *mailboxes += 1;
            }
            if weight.shared_seen {
                shared_seen.insert(one.mailbox.unique_id.clone());
            }
        }
        for (root, weight) in self.left_alone(&roots, &given)? {
            let (sum, mailboxes) = weights.entry(root).or_default();
            sum.add(weight);
            *mailboxes += 1;
        }
        self.quotas(&roots, &weights, &mut lists)?;
        for (user, described) in &users {
            self.done.users += 1;
            self.subscriptions(user, described, &mut lists)?;
        }
        let seen = given.iter().filter(|one| !shared_seen.contains(&one.mailbox.unique_id));
        self.seen(seen, &mut lists)?;
        // Last, as it decides what there is.
        self.list(&given, &mut lists)?;
        let mut moves = Moves::in_order(self.wanted(&given)?, moved);
        let state_dir = &self.config.state_dir;
        moves.prepare(state_dir).map_err(failed)?;
        // From here on hardly anything is written that needs room.
        stage.publish().map_err(failed)?;
        moves.finish(state_dir).map_err(failed)?;
        lists.publish().map_err(failed)?;
        self.remove_quotas(&roots)?;
        Ok(self.done)
    }

    fn target<'t>(
        &'t self,
        one: &'t Given,
        mailbox: &'t MailboxToAdopt,
        quota_root: Option<&'t Name>,
        own: &BTreeMap<String, u64>,
    ) -> Target<'t> {
        Target {
            mailbox,
            name: &one.name,
            kind: &one.entry.kind,
            owner: &one.owner,
            acl: &one.entry.acl,
            quota_root,
            annotation_bytes: own.get(&one.mailbox.unique_id).copied().unwrap_or(0),
            dir: &one.dir,
            partition: one.entry.partition.as_deref().unwrap_or("default"),
            now: self.now,
        }
    }

    /// What a mailbox weighs whose messages need no writing.
    fn as_written(
        &self,
        one: &Given,
        root: Option<&Name>,
        own: &BTreeMap<String, u64>,
        ledger: &Ledger,
        stage: &mut Stage,
    ) -> Result<Option<Weight>, Failed> {
        let Some(written) = ledger.get(&one.user, &one.mailbox.name) else { return Ok(None) };
        let target = self.target(one, &one.mailbox, root, own);
        let named = |reason| failed(format!("{}: {reason}", one.name));
        if !target.is_as(&self.site, written).map_err(named)? {
            return Ok(None);
        }
        if written.recent_uid != one.mailbox.recent_uid {
            // A SELECT changes that much, and no MODSEQ.
            target.write_recent(&self.site, stage).map_err(named)?;
        }
        Ok(Some(written.weight))
    }

    /// Writes the files of some mailboxes of a user while a server serves them.
    pub fn follow(
        &mut self,
        source: &mut dyn Source,
        user: &str,
        names: &BTreeSet<&str>,
        ledger: &mut Ledger,
    ) -> Result<(), Failed> {
        let mut described = source.heads(user)?;
        let mut given = Vec::new();
        for mailbox in std::mem::take(&mut described.mailboxes) {
            // Its stand-in INBOX may have messages by now: the hand-back says so.
            given.extend(self.place(user, mailbox).ok().flatten());
        }
        let users = BTreeMap::from([(user.to_owned(), described)]);
        let roots = self.roots(&users, &given);
        let (_, own) = self.annotations(&given);
        for one in given.iter().filter(|one| names.contains(one.mailbox.name.as_str())) {
            let Some(full) = source.mailbox(user, &one.mailbox.name)? else { continue };
            // It was deleted or moved meanwhile: the next pass sees what it is then.
            if full.unique_id != one.mailbox.unique_id || full.dir != one.mailbox.dir {
                continue;
            }
            let target = self.target(one, &full, governing(&roots, &one.name), &own);
            let (mut stage, mut findings) = (Stage::in_existing_directories(), Vec::new());
            let done = target.write(&self.site, &mut stage, &mut findings).and_then(|weight| {
                stage.publish()?;
                target.written(&self.site, user, weight)
            });
            match done {
                Ok(written) => {
                    self.done.mailboxes += 1;
                    self.done.messages += written.weight.messages;
                    ledger.insert(written);
                }
                Err(reason) => findings.push(format!("{}: not written: {reason}", one.name)),
            }
            self.done.findings.append(&mut findings);
        }
        Ok(())
    }

    fn database(&self, option: &str, name: &str) -> Result<PathBuf, Failed> {
        self.site.conf.database(option, name).map_err(|e| failed(e.to_string()))
    }

    /// What mailboxes that are not served weigh, with their quota roots.
    fn left_alone(
        &self,
        roots: &BTreeMap<Name, QuotaLimits>,
        given: &[Given],
    ) -> Result<Vec<(Name, Weight)>, Failed> {
        let ours: BTreeSet<&Name> = given.iter().map(|one| &one.name).collect();
        let mut weights = Vec::new();
        for entry in &self.site.mailboxes {
            let Some(partition) = &entry.partition else { continue };
            let is_there = !entry.kind.contains(['d', 'i', 'r']) && entry.server.is_none();
            let served = entry.is_served() && self.was_taken(entry);
            if !is_there || served || ours.contains(&entry.name) {
                continue;
            }
            let (Some(root), Some(dir)) =
                (governing(roots, &entry.name), self.site.directory(entry))
            else {
                continue;
            };
            let path = self.site.root(partition, "index")?.join(dir).join("cyrus.index");
            let bytes = read_if_any(&path)?.unwrap_or_default();
            if let Ok(index) = Index::read(&bytes) {
                weights.push((root.clone(), Weight::of_index(&index)));
            }
        }
        Ok(weights)
    }

    /// A mailbox's name and entry in Cyrus; `None` for the stand-in INBOX of the shared user.
    fn place(&mut self, user: &str, mailbox: MailboxToAdopt) -> Result<Option<Given>, Failed> {
        let shared = &self.config.sharing.shared_user;
        let (local, domain) = user.rsplit_once('@').map_or((user, None), |(l, d)| (l, Some(d)));
        let is_shared = !shared.is_empty() && local == shared;
        let levels: Vec<String> = match mailbox.name == INBOX {
            true => Vec::new(),
            false => mailbox.name.split('/').map(mutf7::encode).collect(),
        };
        let name = match (is_shared, levels.is_empty()) {
            (true, true) => {
                if !mailbox.messages.is_empty() {
                    let line = "its INBOX has messages, and no place in Cyrus";
                    return Err(failed(format!("{user}: {line}")));
                }
                return Ok(None);
            }
            (true, false) => Name { domain: domain.map(str::to_owned), levels },
            (false, _) => Name::of_user(user, &levels),
        };
        let Some(partition) = self.partitions.get(&mailbox.partition) else {
            let line = "imapd.conf has no partition with this root";
            return Err(failed(format!("{name}: partition {}: {line}", mailbox.partition)));
        };
        let before = self.before.get(&mailbox.unique_id);
        let before = before.and_then(|place| self.site.mailboxes.get(*place));
        let owner = if is_shared { String::new() } else { user.to_owned() };
        let acl = self.acl(&mailbox, &owner, before.map(|entry| &entry.acl));
        let mut entry = before.cloned().unwrap_or_else(|| Entry {
            created_modseq: 1,
            folder_modseq: 1,
            // Our directories have the names of mailboxes.
            kind: "el".to_owned(),
            ..Entry::default()
        });
        if !self.site.is_by_id() {
            entry.kind = "el".to_owned();
        }
        let was = before.cloned();
        entry.name = name.clone();
        entry.unique_id = Some(mailbox.unique_id.clone());
        entry.partition = Some(partition.clone());
        entry.uid_validity = Some(mailbox.uid_validity);
        entry.acl = acl;
        entry.special_use = None;
        if was.as_ref() != Some(&entry) {
            entry.changed = self.now;
        }
        let dir = mailbox.dir.clone();
        let user = user.to_owned();
        Ok(Some(Given { name, user, owner, mailbox, entry, dir }))
    }

    /// The list as Cyrus writes it; as it was, where it says the same.
    fn acl(&self, mailbox: &MailboxToAdopt, owner: &str, before: Option<&Acl>) -> Acl {
        let mut acl = Acl::new();
        match &mailbox.acl {
            None if owner.is_empty() => {}
            None => acl.push((owner.to_owned(), ALL_RIGHTS.to_owned())),
            Some(texts) => {
                for (who, rights) in texts {
                    let (minus, word) = match who.strip_prefix('-') {
                        Some(word) => ("-", word),
                        None => ("", who.as_str()),
                    };
                    let word = match word {
                        // Administrators have their rights without an entry.
                        "administrators" => continue,
                        "owner" if owner.is_empty() => continue,
                        "owner" => owner,
                        "authenticated" => "anyone",
                        other => other.strip_prefix("user=").unwrap_or(other),
                    };
                    let rights = Rights::parse(rights).unwrap_or_default().wire();
                    acl.push((format!("{minus}{word}"), rights));
                }
            }
        }
        let plain = |acl: &Acl| -> BTreeMap<String, Rights> {
            let known = |rights: &str| {
                let kept = super::plan::without_old(rights);
                let kept: String = kept.chars().filter(|c| ALL_RIGHTS.contains(*c)).collect();
                Rights::parse(&kept).unwrap_or_default()
            };
            acl.iter().map(|(who, rights)| (who.clone(), known(rights))).collect()
        };
        match before {
            Some(before) if plain(before) == plain(&acl) => before.clone(),
            _ => acl,
        }
    }

    /// Quota roots: those that limits are set on, and those that Cyrus has files of.
    fn roots(
        &self,
        users: &BTreeMap<String, UserToAdopt>,
        given: &[Given],
    ) -> BTreeMap<Name, QuotaLimits> {
        let mut roots = BTreeMap::new();
        for (user, described) in users {
            let name = Name::of_user(user, &[]);
            if let Some(limits) = described.quota
                && given.iter().any(|one| one.name == name)
            {
                roots.insert(name, limits);
            }
        }
        for one in given {
            if let Some(limits) = one.mailbox.quota {
                roots.insert(one.name.clone(), limits);
            }
        }
        roots
    }

    /// Directories that have another place in Cyrus.
    fn wanted(&self, given: &[Given]) -> Result<Vec<Wanted>, Failed> {
        let mut all = Vec::new();
        for one in given {
            let wanted = self.site.directory(&one.entry).ok_or_else(|| {
                failed(format!("{}: its unique id cannot be a directory", one.name))
            })?;
            if wanted == one.dir {
                continue;
            }
            let partition = one.entry.partition.as_deref().unwrap_or("default");
            let mut roots = Vec::new();
            for what in ["", "header", "index", "cache", "annotations"] {
                let root = self.site.root(partition, what)?;
                if !roots.contains(&root) {
                    let is_home = roots.is_empty();
                    let unique_id = is_home.then(|| one.mailbox.unique_id.clone());
                    all.push(Wanted {
                        unique_id: unique_id.unwrap_or_default(),
                        from: root.join(&one.dir),
                        to: root.join(&wanted),
                    });
                    roots.push(root);
                }
            }
        }
        Ok(all)
    }

    fn root_of(&self, entry: &Entry) -> Result<PathBuf, Failed> {
        self.site.root(entry.partition.as_deref().unwrap_or("default"), "")
    }

    /// `annotations.db`, and the octets of each mailbox's values, by unique id.
    fn annotations(&self, given: &[Given]) -> (Vec<Pair>, BTreeMap<String, u64>) {
        let newer = self.site.is_by_id() || !given.is_empty();
        let mut wanted: BTreeMap<(String, String, String), Annotation> = BTreeMap::new();
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for one in given {
            names.insert(one.name.to_internal(), one.mailbox.unique_id.clone());
        }
        let ids: BTreeSet<&String> = given.iter().map(|one| &one.mailbox.unique_id).collect();
        let was: Vec<Annotation> = self.site.annotations.clone();
        let mut kept = Vec::new();
        let mut known = BTreeMap::new();
        for mut annotation in was {
            if newer && let Some(id) = names.get(&annotation.of) {
                annotation.of.clone_from(id);
            }
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
            let mut values: Vec<(String, String, Vec<u8>)> = Vec::new();
            for (whose, entry, value) in &one.mailbox.metadata {
                let user = match whose == &one.owner && !whose.is_empty() {
                    true => OWNER.to_owned(),
                    false => whose.clone(),
                };
                let scope = if whose.is_empty() { "/shared" } else { "/private" };
                let Some(entry) = entry.strip_prefix(scope) else { continue };
                values.push((entry.to_owned(), user, value.clone()));
            }
            if !one.mailbox.special_use.is_empty() {
                let uses: Vec<_> =
                    one.mailbox.special_use.iter().map(|use_| use_.as_str()).collect();
                let user = if one.owner.is_empty() { String::new() } else { OWNER.to_owned() };
                values.push(("/specialuse".to_owned(), user, uses.join(" ").into_bytes()));
            }
            for (entry, user, value) in values {
                let key = (one.mailbox.unique_id.clone(), entry, user);
                let same = known.get(&key).filter(|there: &&Annotation| there.value == value);
                let annotation = match same {
                    Some(there) => there.clone(),
                    None => Annotation {
                        of: key.0.clone(),
                        entry: key.1.clone(),
                        user: key.2.clone(),
                        value,
                        modseq: one.mailbox.modseq_highest,
                        flags: 0,
                    },
                };
                wanted.insert(key, annotation);
            }
        }
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        for annotation in wanted.values() {
            *bytes.entry(annotation.of.clone()).or_default() += annotation.value.len() as u64;
        }
        let all = kept.iter().chain(wanted.values());
        (sorted(all.map(Annotation::write).collect()), bytes)
    }

    /// `mailboxes.db`: our mailboxes in place of those that were served, the others as they are.
    fn list(&mut self, given: &[Given], stage: &mut Stage) -> Result<(), Failed> {
        let newer = self.site.is_by_id();
        let mut pairs: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let gone = |entry: &Entry| {
            let owner = entry.name.owner(&self.site.deleted_prefix);
            entry.is_served() && owner != Owner::Deleted && self.was_taken(entry)
        };
        let (mut histories, mut findings) = (BTreeMap::new(), Vec::new());
        if newer {
            for (key, value) in &self.site.list {
                pairs.insert(key.clone(), value.clone());
                if key.first() == Some(&b'I')
                    && let Ok(value) = foreign::cyrus::dlist::read(value)
                    && let Some(history) = value.get("H")
                {
                    histories.insert(key.get(1..).unwrap_or_default().to_vec(), history.clone());
                }
            }
        }
        for entry in &self.site.mailboxes {
            match (newer, gone(entry)) {
                (true, true) => {
                    pairs.remove(format!("N{}", entry.name.to_database()).as_bytes());
                    if let Some(id) = &entry.unique_id {
                        pairs.remove(format!("I{id}").as_bytes());
                    }
                }
                (false, false) => match mboxlist::write(entry, None) {
                    Some(both) => pairs.extend(both),
                    None => findings.push(format!(
                        "{}: left out of mailboxes.db: it has no unique id there",
                        entry.name
                    )),
                },
                _ => {}
            }
        }
        self.done.findings.extend(findings);
        for one in given {
            let id = one.mailbox.unique_id.as_bytes();
            let written = mboxlist::write(&one.entry, histories.get(id));
            pairs.extend(written.into_iter().flatten());
        }
        let path = self.site.conf.database("mboxlist_db_path", "mailboxes.db");
        let path = path.map_err(|e| failed(e.to_string()))?;
        let pairs = pairs.into_iter().collect();
        self.replace_database(stage, &path, "mboxlist_db", Form::Twoskip, pairs)
    }

    /// Whether a mailbox was ours: one that was left alone has its own directory as it was.
    fn was_taken(&self, entry: &Entry) -> bool {
        let Some(partition) = &entry.partition else { return false };
        let Ok(root) = self.site.root(partition, "") else { return false };
        let Some(dir) = self.site.directory(entry) else { return false };
        let dir = root.join(dir);
        // Ours to serve, or ours and deleted since.
        dir.join("cursus.index").exists() || !dir.join("cyrus.header").exists()
    }

    fn quotas(
        &mut self,
        roots: &BTreeMap<Name, QuotaLimits>,
        weights: &BTreeMap<Name, (Weight, u64)>,
        stage: &mut Stage,
    ) -> Result<(), Failed> {
        let legacy = self.has_quota_files();
        let mut pairs = Vec::new();
        for (name, limits) in roots {
            let (weight, mailboxes) = weights.get(name).copied().unwrap_or_default();
            let before = self.site.quotas.get(name).copied().unwrap_or_default();
            let of = |used, limit| Resource { used, limit };
            let quota = Quota {
                storage: of(weight.bytes, limits.bytes),
                messages: of(weight.messages, limits.messages),
                annotations: of(weight.annotations, limits.annotation_bytes),
                mailboxes: of(mailboxes, limits.mailboxes),
                modseq: before.modseq,
            };
            if !legacy {
                let value = quota.write();
                let value = value.strip_suffix(b"\n").unwrap_or(&value).to_vec();
                pairs.push((name.to_internal().into_bytes(), value));
                continue;
            }
            let path = self.site.config_dir.join(self.site.spread.quota_file(name));
            stage.put(&path, &quota.write()).map_err(failed)?;
        }
        if !legacy {
            let path = self.site.conf.database("quota_db_path", "quotas.db");
            let path = path.map_err(|e| failed(e.to_string()))?;
            self.replace_database(stage, &path, "quota_db", Form::Twoskip, sorted(pairs))?;
        }
        Ok(())
    }

    /// Whether each quota root has a file.
    fn has_quota_files(&self) -> bool {
        matches!(self.site.conf.get("quota_db"), None | Some("quotalegacy"))
    }

    /// Removes the files of roots whose limits were taken back.
    fn remove_quotas(&self, roots: &BTreeMap<Name, QuotaLimits>) -> Result<(), Failed> {
        if !self.has_quota_files() {
            return Ok(());
        }
        for name in self.site.quotas.keys().filter(|name| !roots.contains_key(name)) {
            let path = self.site.config_dir.join(self.site.spread.quota_file(name));
            match fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(format!("{}: {e}", path.display())));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn subscriptions(
        &mut self,
        user: &str,
        described: &UserToAdopt,
        stage: &mut Stage,
    ) -> Result<(), Failed> {
        let shared = &self.config.sharing.shared_user;
        let levels = |name: &str| -> Vec<String> {
            let levels = name.split('/').filter(|_| name != INBOX);
            levels.map(mutf7::encode).collect()
        };
        let mut names = Vec::new();
        for subscribed in &described.subscriptions {
            names.push(match Namespace::of_others(subscribed) {
                None => Name::of_user(user, &levels(subscribed)),
                Some((owner, name)) => {
                    let local = owner.rsplit_once('@').map_or(owner, |(local, _)| local);
                    let of_owner = Name::of_user(owner, &levels(name));
                    match !shared.is_empty() && local == shared {
                        true => Name { domain: of_owner.domain, levels: levels(name) },
                        false => of_owner,
                    }
                }
            });
        }
        let before = self.site.subscriptions(user).unwrap_or_default();
        let set = |names: &[Name]| names.iter().cloned().collect::<BTreeSet<Name>>();
        if set(&before) == set(&names) {
            return Ok(());
        }
        let path = self.site.user_file(user, "sub");
        let pairs = subscriptions::write(&names, user);
        self.replace_database(stage, &path, "subscription_db", Form::Flat, pairs)
    }

    /// Seen state of users in mailboxes of others.
    fn seen<'g>(
        &mut self,
        given: impl Iterator<Item = &'g Given>,
        stage: &mut Stage,
    ) -> Result<(), Failed> {
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
            self.replace_database(
                stage,
                &path,
                "seenstate_db",
                Form::Twoskip,
                pairs.into_iter().collect(),
            )?;
        }
        Ok(())
    }

    /// Writes a database in the form that it has, or imapd.conf wants; one that is so is left alone.
    fn replace_database(
        &self,
        stage: &mut Stage,
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
            Some(form @ (Form::Skiplist | Form::Twoskip)) => form,
            Some(Form::Flat) | None => named.unwrap_or(usual),
        };
        if there == Some(form) && sorted(before) == pairs {
            return Ok(());
        }
        let now = u32::try_from(self.now).unwrap_or(u32::MAX);
        let written = db::write(form, &pairs, db::twoskip::generation(&bytes), now);
        stage.put(path, &written).map_err(failed)
    }
}

/// The nearest root at or above a mailbox.
fn governing<'r>(roots: &'r BTreeMap<Name, QuotaLimits>, name: &Name) -> Option<&'r Name> {
    let above = roots.keys().filter(|root| name.is_within(root));
    above.max_by_key(|root| root.levels.len())
}

fn sorted(mut pairs: Vec<Pair>) -> Vec<Pair> {
    pairs.sort();
    pairs
}

/// In the state directory: all is Cyrus's again, and our own files are on their way to the directory
/// that it names.
const RETIRING_NAME: &str = "handback-cyrus.retiring";

/// Whether an earlier hand-back was cut off while it set our own files aside: what the store says
/// then is not what there is.
pub fn is_retiring(config: &Config) -> bool {
    config.state_dir.join(RETIRING_NAME).exists()
}

/// Sets our catalog and log aside, and removes our files beside messages. The accounts stay.
///
/// A crash leaves the file that says so, and the next takeover or hand-back goes on with this first.
pub fn retire(config: &Config, site: &Site, now: u64) -> Result<PathBuf, Failed> {
    let named = |path: &Path, e: std::io::Error| failed(format!("{}: {e}", path.display()));
    let marker = config.state_dir.join(RETIRING_NAME);
    let name = match fs::read_to_string(&marker) {
        Ok(name) => name,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let name = format!("handed-back-{now}");
            let mut stage = Stage::default();
            stage.put(&marker, name.as_bytes()).map_err(failed)?;
            stage.publish().map_err(failed)?;
            name
        }
        Err(e) => return Err(named(&marker, e)),
    };
    let aside = config.state_dir.join(name);
    fs::create_dir_all(&aside).map_err(|e| named(&aside, e))?;
    let ours = ["catalog.redb", moves::JOURNAL_NAME, LEDGER_NAME];
    let ours = ours.iter().map(|name| config.state_dir.join(name));
    for path in ours.chain([config.log_dir(), config.index_dir()]) {
        let Some(name) = path.file_name() else { continue };
        match fs::rename(&path, aside.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(named(&path, e)),
            _ => {}
        }
    }
    for root in site.conf.partitions().into_values() {
        clear(&root).map_err(|e| named(&root, e))?;
    }
    fs::remove_file(&marker).map_err(|e| named(&marker, e))?;
    Ok(aside)
}

/// Removes our files; a directory that held nothing else goes, too. Says whether it went.
fn clear(dir: &Path) -> std::io::Result<bool> {
    let mut removed = false;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            removed |= clear(&entry.path())?;
            removed |= name.starts_with("..cursus-") && fs::remove_dir(entry.path()).is_ok();
        } else if name.starts_with("cursus.") {
            fs::remove_file(entry.path())?;
            removed = true;
        }
    }
    Ok(removed && fs::remove_dir(dir).is_ok())
}
