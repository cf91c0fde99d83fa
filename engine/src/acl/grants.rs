//! The index of who may see something, in front of the catalog's: see [`crate::catalog`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Principal;
use crate::error::{Error, Result};
use crate::store::Store;

/// The part of the index that the catalog does not have yet: of owners, all of their keys.
#[derive(Default)]
pub(crate) struct Grants {
    unwritten: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Rises with every change.
    generation: AtomicU64,
}

impl Grants {
    /// An owner's lists changed.
    pub(crate) fn set(&self, owner: &str, keys: BTreeSet<String>) {
        self.unwritten.lock().insert(owner.to_owned(), keys);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The catalog has these now.
    pub(crate) fn written<'k>(&self, done: impl Iterator<Item = (&'k str, &'k BTreeSet<String>)>) {
        let mut unwritten = self.unwritten.lock();
        for (owner, keys) in done {
            if unwritten.get(owner) == Some(keys) {
                unwritten.remove(owner);
            }
        }
    }

    /// Of these owners: whether one of the keys leads to them.
    fn leading(&self, keys: &[String]) -> Vec<(String, bool)> {
        let leads = |has: &BTreeSet<String>| keys.iter().any(|key| has.contains(key));
        let unwritten = self.unwritten.lock();
        unwritten.iter().map(|(owner, has)| (owner.clone(), leads(has))).collect()
    }
}

impl Store {
    /// Changes whenever [`Store::granting`] may have another answer for somebody.
    pub fn grants_generation(&self) -> u64 {
        self.shared().grants.generation.load(Ordering::Acquire)
    }

    /// Users who may have let `principal` see (`l`) one of their mailboxes: no others have, and which
    /// mailboxes these are the lists say. Administrators see mailboxes beside that.
    pub async fn granting(&self, principal: &Principal) -> Result<BTreeSet<String>> {
        let (shared, keys) = (self.shared().clone(), principal.keys());
        let own = principal.user.clone();
        let job = move || {
            // In this order: what a checkpoint writes meanwhile is found in either.
            let unwritten = shared.grants.leading(&keys);
            let mut owners = shared.catalog.granting(&keys)?;
            for (owner, leads) in unwritten {
                match leads {
                    true => owners.insert(owner),
                    false => owners.remove(&owner),
                };
            }
            owners.remove(&own);
            Ok(owners)
        };
        self.shared().helpers.run(job).await.map_err(|_| Error::Closing)?
    }
}
