//! Rows of metadata: see [`crate::metadata`].

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{Catalog, TableIfAny, failed};
use crate::error::Result;
use crate::ids::MailboxId;
use crate::metadata::{Key, Value};

type RowKey<'k> = (&'k [u8; 16], &'k str, &'k str);
const METADATA: TableDefinition<'_, RowKey<'_>, &[u8]> = TableDefinition::new("metadata");

macro_rules! attempt {
    ($what:literal, $e:expr) => {
        $e.map_err(|e| failed($what)(e.into()))?
    };
}

impl Catalog {
    /// One value.
    pub(crate) fn metadata(&self, key: &Key) -> Result<Value> {
        let read = attempt!("read", self.database.begin_read());
        let Some(table) = read.table_if_any(METADATA)? else { return Ok(None) };
        let row = (&key.mailbox.0, key.whose.as_str(), key.entry.as_str());
        Ok(attempt!("read", table.get(row)).map(|value| Arc::from(value.value())))
    }

    /// Values of one mailbox and one user whose names begin so.
    pub(crate) fn metadata_below(
        &self,
        from: &Key,
        prefix: &str,
    ) -> Result<BTreeMap<String, Arc<[u8]>>> {
        let mut found = BTreeMap::new();
        self.rows(from, &mut |key, value| {
            let same = key.mailbox == from.mailbox && key.whose == from.whose;
            if !same || !key.entry.starts_with(prefix) {
                return Ok(false);
            }
            found.insert(key.entry, value);
            Ok(true)
        })?;
        Ok(found)
    }

    /// All values of a mailbox.
    pub(crate) fn metadata_of(&self, mailbox: MailboxId) -> Result<Vec<(Key, Arc<[u8]>)>> {
        let mut found = Vec::new();
        let from = Key { mailbox, whose: String::new(), entry: String::new() };
        self.rows(&from, &mut |key, value| {
            let same = key.mailbox == mailbox;
            if same {
                found.push((key, value));
            }
            Ok(same)
        })?;
        Ok(found)
    }

    /// Calls `each` with every value, of one commit.
    pub(crate) fn metadata_all(
        &self,
        each: &mut dyn FnMut(Key, Arc<[u8]>) -> Result<()>,
    ) -> Result<()> {
        let (mailbox, whose, entry) = (MailboxId::default(), String::new(), String::new());
        self.rows(&Key { mailbox, whose, entry }, &mut |key, value| {
            each(key, value)?;
            Ok(true)
        })
    }

    /// Rows in order from `from` on, as long as `each` wants more.
    fn rows(&self, from: &Key, each: &mut dyn FnMut(Key, Arc<[u8]>) -> Result<bool>) -> Result<()> {
        let read = attempt!("read", self.database.begin_read());
        let Some(table) = read.table_if_any(METADATA)? else { return Ok(()) };
        let first: RowKey<'_> = (&from.mailbox.0, from.whose.as_str(), from.entry.as_str());
        for row in attempt!("read", table.range(first..)) {
            let (key, value) = attempt!("read", row);
            let (mailbox, whose, entry) = key.value();
            let key = Key {
                mailbox: MailboxId(*mailbox),
                whose: whose.to_owned(),
                entry: entry.to_owned(),
            };
            if !each(key, Arc::from(value.value()))? {
                break;
            }
        }
        Ok(())
    }
}

/// Writes what changed, and removes the values of mailboxes that are gone.
pub(super) fn write(
    write: &WriteTransaction,
    changes: &[(Key, Value)],
    gone: &[MailboxId],
) -> Result<()> {
    let mut table = attempt!("write", write.open_table(METADATA));
    for (Key { mailbox, whose, entry }, value) in changes {
        let key: RowKey<'_> = (&mailbox.0, whose.as_str(), entry.as_str());
        match value {
            Some(value) => drop(attempt!("write", table.insert(key, &**value))),
            None => drop(attempt!("write", table.remove(key))),
        }
    }
    for id in gone {
        let mut dead = Vec::new();
        let first: RowKey<'_> = (&id.0, "", "");
        for row in attempt!("write", table.range(first..)) {
            let (key, _) = attempt!("write", row);
            let (mailbox, whose, entry) = key.value();
            if *mailbox != id.0 {
                break;
            }
            dead.push((whose.to_owned(), entry.to_owned()));
        }
        for (whose, entry) in dead {
            attempt!("write", table.remove((&id.0, whose.as_str(), entry.as_str())));
        }
    }
    Ok(())
}
