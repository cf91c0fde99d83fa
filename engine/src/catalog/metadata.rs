//! Rows of metadata and of annotations: see [`crate::metadata`], [`crate::annotation`].
//!
//! Invariant: `annotation_bytes` has of each mailbox the octets of all values that the other two
//! tables have of it and that count ([`Key::is_counted`]); one commit changes all three.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use protocol::types::Uid;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{Catalog, TableIfAny, failed};
use crate::error::Result;
use crate::ids::MailboxId;
use crate::metadata::{Key, Value};

type RowKey<'k> = (&'k [u8; 16], &'k str, &'k str);
const METADATA: TableDefinition<'_, RowKey<'_>, &[u8]> = TableDefinition::new("metadata");
type AnnotationKey<'k> = (&'k [u8; 16], u32, &'k str, &'k str);
const ANNOTATIONS: TableDefinition<'_, AnnotationKey<'_>, &[u8]> =
    TableDefinition::new("annotations");
const BYTES: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("annotation_bytes");

/// Hears of the annotations, one by one: mailbox, UID, whose, entry; value. Says whether to go on.
type EachAnnotation<'e> = dyn FnMut((MailboxId, Uid, &str, &str), &[u8]) -> Result<bool> + 'e;

macro_rules! attempt {
    ($what:literal, $e:expr) => {
        $e.map_err(|e| failed($what)(e.into()))?
    };
}

impl Catalog {
    /// One value of metadata.
    pub(crate) fn metadata(&self, key: &Key) -> Result<Value> {
        self.read(|read| {
            let Some(table) = read.table_if_any(METADATA)? else { return Ok(None) };
            let row = (&key.mailbox.0, key.whose.as_str(), key.entry.as_str());
            Ok(attempt!("read", table.get(row)).map(|value| Arc::from(value.value())))
        })
    }

    /// Values of metadata of one mailbox and one user whose names begin so.
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

    /// All values of a mailbox's metadata.
    pub(crate) fn metadata_of(&self, mailbox: MailboxId) -> Result<Vec<(Key, Arc<[u8]>)>> {
        let mut found = Vec::new();
        self.rows(&Key::first(mailbox, Uid(0)), &mut |key, value| {
            let same = key.mailbox == mailbox;
            if same {
                found.push((key, value));
            }
            Ok(same)
        })?;
        Ok(found)
    }

    /// Calls `each` with every value of metadata, of one commit.
    pub(crate) fn metadata_all(
        &self,
        each: &mut dyn FnMut(Key, Arc<[u8]>) -> Result<()>,
    ) -> Result<()> {
        self.rows(&Key::first(MailboxId::default(), Uid(0)), &mut |key, value| {
            each(key, value)?;
            Ok(true)
        })
    }

    /// Rows of metadata in order from `from` on, as long as `each` wants more.
    fn rows(&self, from: &Key, each: &mut dyn FnMut(Key, Arc<[u8]>) -> Result<bool>) -> Result<()> {
        self.read(|read| {
            let Some(table) = read.table_if_any(METADATA)? else { return Ok(()) };
            let first: RowKey<'_> = (&from.mailbox.0, from.whose.as_str(), from.entry.as_str());
            for row in attempt!("read", table.range(first..)) {
                let (key, value) = attempt!("read", row);
                let (mailbox, whose, entry) = key.value();
                let key = Key {
                    mailbox: MailboxId(*mailbox),
                    uid: Uid(0),
                    whose: whose.to_owned(),
                    entry: entry.to_owned(),
                };
                if !each(key, Arc::from(value.value()))? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Calls `each` with the annotations from `from` on, in order, as long as it wants more.
    pub(crate) fn annotations(
        &self,
        from: (MailboxId, Uid),
        each: &mut EachAnnotation<'_>,
    ) -> Result<()> {
        self.read(|read| {
            let Some(table) = read.table_if_any(ANNOTATIONS)? else { return Ok(()) };
            let first: AnnotationKey<'_> = (&from.0.0, from.1.0, "", "");
            for row in attempt!("read", table.range(first..)) {
                let (key, value) = attempt!("read", row);
                let (mailbox, uid, whose, entry) = key.value();
                if !each((MailboxId(*mailbox), Uid(uid), whose, entry), value.value())? {
                    break;
                }
            }
            Ok(())
        })
    }

    /// What mailboxes have of ANNOTATION-STORAGE, and how many octets these values have, 0 those that
    /// are not there; of one commit.
    pub(crate) fn annotation_bytes(
        &self,
        ids: &[MailboxId],
        keys: &[Key],
    ) -> Result<(Vec<u64>, Vec<u64>)> {
        self.read(|read| {
            let (mut sums, mut values) = (Vec::new(), Vec::with_capacity(keys.len()));
            if let Some(table) = read.table_if_any(BYTES)? {
                for id in ids {
                    sums.push(attempt!("read", table.get(&id.0)).map_or(0, |bytes| bytes.value()));
                }
            }
            let metadata = read.table_if_any(METADATA)?;
            let annotations = read.table_if_any(ANNOTATIONS)?;
            for Key { mailbox, uid, whose, entry } in keys {
                let found = match (uid, &metadata, &annotations) {
                    (Uid(0), Some(table), _) => {
                        let row: RowKey<'_> = (&mailbox.0, whose, entry);
                        attempt!("read", table.get(row))
                    }
                    (Uid(0), None, _) | (_, _, None) => None,
                    (Uid(uid), _, Some(table)) => {
                        let row: AnnotationKey<'_> = (&mailbox.0, *uid, whose, entry);
                        attempt!("read", table.get(row))
                    }
                };
                values.push(found.map_or(0, |value| value.value().len() as u64));
            }
            Ok((sums, values))
        })
    }

    /// Counts what an earlier version did not.
    pub(super) fn count_metadata(&self) -> Result<()> {
        self.read(|read| {
            let counted = read.table_if_any(BYTES)?.is_some();
            if counted || read.table_if_any(METADATA)?.is_none() {
                return Ok(());
            }
            let mut sums: HashMap<MailboxId, u64> = HashMap::new();
            self.metadata_all(&mut |key, value| {
                if key.is_counted() {
                    *sums.entry(key.mailbox).or_default() += value.len() as u64;
                }
                Ok(())
            })?;
            self.write(|write| add(write, sums))
        })
    }
}

/// Adds to what mailboxes have (wrapping).
fn add(write: &WriteTransaction, growth: HashMap<MailboxId, u64>) -> Result<()> {
    let mut table = attempt!("write", write.open_table(BYTES));
    for (id, more) in growth {
        let before = attempt!("write", table.get(&id.0)).map_or(0, |bytes| bytes.value());
        match before.wrapping_add(more) {
            0 => drop(attempt!("write", table.remove(&id.0))),
            now => drop(attempt!("write", table.insert(&id.0, now))),
        }
    }
    Ok(())
}

/// Writes what changed, and removes the values of mailboxes that are gone.
pub(super) fn write(
    write: &WriteTransaction,
    changes: &[(Key, Value)],
    gone: &[MailboxId],
) -> Result<()> {
    let mut metadata = attempt!("write", write.open_table(METADATA));
    let mut annotations = attempt!("write", write.open_table(ANNOTATIONS));
    let mut growth: HashMap<MailboxId, u64> = HashMap::new();
    for (key, value) in changes {
        let Key { mailbox, uid, whose, entry } = key;
        let before = match (uid, value) {
            (Uid(0), Some(value)) => {
                let row: RowKey<'_> = (&mailbox.0, whose, entry);
                attempt!("write", metadata.insert(row, &**value))
            }
            (Uid(0), None) => {
                let row: RowKey<'_> = (&mailbox.0, whose, entry);
                attempt!("write", metadata.remove(row))
            }
            (Uid(uid), Some(value)) => {
                let row: AnnotationKey<'_> = (&mailbox.0, *uid, whose, entry);
                attempt!("write", annotations.insert(row, &**value))
            }
            (Uid(uid), None) => {
                let row: AnnotationKey<'_> = (&mailbox.0, *uid, whose, entry);
                attempt!("write", annotations.remove(row))
            }
        };
        let before = before.map_or(0, |value| value.value().len() as u64);
        let now = value.as_ref().map_or(0, |value| value.len() as u64);
        if key.is_counted() && before != now {
            let sum = growth.entry(*mailbox).or_default();
            *sum = sum.wrapping_add(now.wrapping_sub(before));
        }
    }
    add(write, growth)?;
    let mut bytes = attempt!("write", write.open_table(BYTES));
    for id in gone {
        let of_mailbox: (RowKey<'_>, RowKey<'_>) = ((&id.0, "", ""), (&id.0, "\u{10ffff}", ""));
        attempt!("write", metadata.retain_in(of_mailbox.0..of_mailbox.1, |_, _| false));
        let (first, last): (AnnotationKey<'_>, AnnotationKey<'_>) =
            ((&id.0, 0, "", ""), (&id.0, u32::MAX, "\u{10ffff}", ""));
        attempt!("write", annotations.retain_in(first..last, |_, _| false));
        attempt!("write", bytes.remove(&id.0));
    }
    Ok(())
}
