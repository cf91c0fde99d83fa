//! Quota roots: those that limits are set on, and what their mailboxes weigh.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use engine::{QuotaLimits, UserToAdopt};
use foreign::cyrus::db::{self, Form};
use foreign::cyrus::index::Index;
use foreign::cyrus::name::Name;
use foreign::cyrus::quota::{Quota, Resource};

use super::given::Given;
use super::lists::Lists;
use super::mailbox::Weight;
use super::site::{Site, read_if_any};
use crate::failure::{Failed, Kind};

/// One of them.
#[derive(Default)]
struct Root {
    limits: QuotaLimits,
    /// Of all mailboxes together.
    weight: Weight,
    mailboxes: u64,
}

/// All of them, by name.
pub struct QuotaRoots(BTreeMap<Name, Root>);

impl QuotaRoots {
    /// Of these users and mailboxes; they weigh nothing yet.
    pub fn of<'u>(
        users: impl Iterator<Item = (&'u String, &'u UserToAdopt)>,
        given: &[Given],
    ) -> QuotaRoots {
        let root = |limits| Root { limits, ..Root::default() };
        let mut roots = BTreeMap::new();
        let names: BTreeSet<&Name> = given.iter().map(|one| &one.name).collect();
        for (user, described) in users {
            let name = Name::of_user(user, &[]);
            if let Some(limits) = described.quota
                && names.contains(&name)
            {
                roots.insert(name, root(limits));
            }
        }
        for one in given {
            if let Some(limits) = one.mailbox.quota {
                roots.insert(one.name.clone(), root(limits));
            }
        }
        QuotaRoots(roots)
    }

    /// The nearest root at or above a mailbox.
    pub fn governing(&self, name: &Name) -> Option<&Name> {
        let mut above = name.clone();
        loop {
            if let Some((root, _)) = self.0.get_key_value(&above) {
                return Some(root);
            }
            above.levels.pop()?;
        }
    }

    /// Counts a mailbox.
    pub fn count(&mut self, name: &Name, weight: Weight) {
        let Some(root) = self.governing(name).cloned() else { return };
        if let Some(root) = self.0.get_mut(&root) {
            root.weight.add(weight);
            root.mailboxes += 1;
        }
    }

    /// Counts what Cyrus has of mailboxes that we do not serve.
    pub fn count_left_alone(&mut self, site: &Site, given: &[Given]) -> Result<(), Failed> {
        let ours: BTreeSet<&Name> = given.iter().map(|one| &one.name).collect();
        for entry in &site.mailboxes {
            let Some(partition) = &entry.partition else { continue };
            let is_there = !entry.kind.contains(['d', 'i', 'r']) && entry.server.is_none();
            let served = entry.is_served() && site.was_taken(entry);
            if !is_there
                || served
                || ours.contains(&entry.name)
                || self.governing(&entry.name).is_none()
            {
                continue;
            }
            let Some(dir) = site.directory(entry) else { continue };
            let path = site.root(partition, "index")?.join(dir).join("cyrus.index");
            let bytes = read_if_any(&path)?.unwrap_or_default();
            if let Ok(index) = Index::read(&bytes) {
                self.count(&entry.name, Weight::of_index(&index));
            }
        }
        Ok(())
    }

    /// Stages the files of roots, or `quotas.db`.
    pub fn write(&self, site: &Site, lists: &mut Lists<'_>) -> Result<(), Failed> {
        let mut pairs = Vec::new();
        for (name, Root { limits, weight, mailboxes }) in &self.0 {
            let before = site.quotas.get(name).copied().unwrap_or_default();
            let of = |used, limit| Resource { used, limit };
            let quota = Quota {
                storage: of(weight.bytes, limits.bytes),
                messages: of(weight.messages, limits.messages),
                annotations: of(weight.annotations, limits.annotation_bytes),
                mailboxes: of(*mailboxes, limits.mailboxes),
                modseq: before.modseq,
            };
            if has_files(site) {
                let path = site.config_dir.join(site.spread.quota_file(name));
                let staged = lists.stage.put(&path, &quota.write());
                staged.map_err(|reason| Failed::new(Kind::Incomplete, reason))?;
                continue;
            }
            let value = quota.write();
            let value = value.strip_suffix(b"\n").unwrap_or(&value).to_vec();
            pairs.push((name.to_internal().into_bytes(), value));
        }
        if has_files(site) {
            return Ok(());
        }
        let path = site.database("quota_db_path", "quotas.db");
        lists.replace(&path, "quota_db", Form::Twoskip, db::sorted(pairs))
    }

    /// Removes the files of roots whose limits were taken back.
    pub fn remove_others(&self, site: &Site) -> Result<(), Failed> {
        if !has_files(site) {
            return Ok(());
        }
        for name in site.quotas.keys().filter(|name| !self.0.contains_key(name)) {
            let path = site.config_dir.join(site.spread.quota_file(name));
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    let message = format!("{}: {e}", path.display());
                    return Err(Failed::new(Kind::Incomplete, message));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether each root has a file.
fn has_files(site: &Site) -> bool {
    matches!(site.conf.get("quota_db"), None | Some("quotalegacy"))
}
