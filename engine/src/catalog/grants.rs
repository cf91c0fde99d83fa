//! Rows of the index of who lets whom see something: see [`crate::acl`].
//!
//! `grants` answers by identifier; `granted` says which of its rows an owner has, so that these can
//! be replaced.

use std::collections::BTreeSet;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{Catalog, TableIfAny, UserChanges, failed};
use crate::error::Result;

const GRANTS: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("grants");
const GRANTED: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("granted");

macro_rules! attempt {
    ($what:literal, $e:expr) => {
        $e.map_err(|e| failed($what)(e.into()))?
    };
}

impl Catalog {
    /// Owners to whom one of the keys leads.
    pub(crate) fn granting(&self, keys: &[String]) -> Result<BTreeSet<String>> {
        let mut owners = BTreeSet::new();
        self.read(|read| {
            let Some(table) = read.table_if_any(GRANTS)? else { return Ok(owners) };
            for key in keys {
                for row in attempt!("read", table.range((key.as_str(), "")..)) {
                    let (row, _) = attempt!("read", row);
                    let (identifier, owner) = row.value();
                    if identifier != key {
                        break;
                    }
                    owners.insert(owner.to_owned());
                }
            }
            Ok(owners)
        })
    }
}

/// Replaces the rows of owners whose lists changed.
pub(super) fn write(write: &WriteTransaction, users: &[UserChanges]) -> Result<()> {
    let mut grants = attempt!("write", write.open_table(GRANTS));
    let mut granted = attempt!("write", write.open_table(GRANTED));
    for UserChanges { name: owner, unsaved, .. } in users {
        let Some(keys) = &unsaved.grants else { continue };
        let mut before = BTreeSet::new();
        for row in attempt!("write", granted.range((owner.as_str(), "")..)) {
            let (row, _) = attempt!("write", row);
            let (whose, identifier) = row.value();
            if whose != owner {
                break;
            }
            before.insert(identifier.to_owned());
        }
        for key in before.difference(keys) {
            attempt!("write", grants.remove((key.as_str(), owner.as_str())));
            attempt!("write", granted.remove((owner.as_str(), key.as_str())));
        }
        for key in keys.difference(&before) {
            attempt!("write", grants.insert((key.as_str(), owner.as_str()), ()));
            attempt!("write", granted.insert((owner.as_str(), key.as_str()), ()));
        }
    }
    Ok(())
}
