//! `catalog.redb`: the copy of the catalog that a start reads, one durable commit per checkpoint.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | text | text: store, epoch, owner_epoch, checkpoint_lsn, uid_validity_last, unclean_epoch |
//! | users | user | JSON: partition of new mailboxes, quota: limits of the user's own quota root (bytes, messages, mailboxes, annotation_bytes) |
//! | mailboxes | user, mailbox id | JSON: name, uid_validity, special_use, partition, quota: limits of a quota root, likewise, url_key, acl: identifiers with their rights, adopted: dir, unique_id, uid_next of a mailbox that another server made |
//! | subscriptions | user, name | nothing |
//! | owners | mailbox id | user |
//! | grants | identifier that lists let see something (`anyone@` and the owner's domain), owner | nothing |
//! | granted | owner, identifier | nothing |
//! | metadata | mailbox id (zeros: the server), user (empty: shared), entry; `seen`: the user's own `\Seen`; `uidl/BLOCK`: UIDLs of another server; `departed/NAME` of the server: a removed user who is still in others' lists, his heir | value |
//! | annotations | mailbox id, UID, user (empty: shared), entry | value |
//! | annotation_bytes | mailbox id (zeros: the server) | octets of the values of the two tables above, but for `seen` and `uidl/…` |
//! | figures | mailbox id | 80 bytes: see [`Summary`] |
//!
//! The figures are in the same file as the catalog so that one commit makes both: usage and
//! checkpoint LSN cannot disagree. They answer STATUS of mailboxes that are not open.
//!
//! A checkpoint writes the rows that changed, so its cost does not grow with the number of a
//! user's mailboxes. Earlier versions kept a user's mailboxes and subscriptions inside the users
//! record, and figures of 32 bytes in a table `summary`: both are read where the new rows are
//! missing, and a user's record is taken apart when it is next written.

mod figures;
mod grants;
mod guard;
mod metadata;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

pub(crate) use figures::{Detail, Summary};

use redb::{Database, ReadableTable, StorageBackend, TableDefinition};

use crate::error::{Error, Result};
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::{Open, Storage, StoredFile};
use crate::metadata::{Key, Value};
use crate::namespace::{MailboxRecord, Namespace, UserRecord};

const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");
const MAILBOXES: TableDefinition<'_, (&str, &[u8; 16]), &[u8]> = TableDefinition::new("mailboxes");
const SUBSCRIPTIONS: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("subscriptions");
const OWNERS: TableDefinition<'_, &[u8; 16], &str> = TableDefinition::new("owners");
const FIGURES: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("figures");
/// Of earlier versions.
const SUMMARY: TableDefinition<'_, &[u8; 16], &[u8; 32]> = TableDefinition::new("summary");

/// Page cache of the database, bytes. Users are cached as namespaces above it.
const CACHE_BYTES: usize = 8 << 20;

/// What the catalog says of the store as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) store_id: StoreId,
    /// Larger than every log epoch used.
    pub(crate) epoch: u64,
    pub(crate) owner_epoch: u32,
    pub(crate) checkpoint: Lsn,
    pub(crate) uid_validity_last: u32,
    /// The last owner epoch that did not end with a clean stop: while a store runs, its own.
    pub(crate) unclean_epoch: u32,
}

/// What a checkpoint writes.
pub(crate) struct Batch {
    pub(crate) meta: Meta,
    /// Users with what changed of their namespaces.
    pub(crate) users: Vec<UserChanges>,
    pub(crate) summaries: Vec<(MailboxId, Summary)>,
    /// Mailboxes that are no more.
    pub(crate) gone: Vec<MailboxId>,
    /// Values of metadata and annotations that were set or removed.
    pub(crate) metadata: Vec<(Key, Value)>,
}

/// What the catalog does not yet have of a user's namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsaved {
    /// The catalog has the user in the form of an earlier version, or not at all: everything is
    /// to be written.
    pub(crate) all: bool,
    /// Made, renamed or gone.
    pub(crate) mailboxes: HashSet<MailboxId>,
    /// Set or taken back.
    pub(crate) subscriptions: BTreeSet<String>,
    /// All identifiers that the user's lists let see something, if there are others now.
    pub(crate) grants: Option<BTreeSet<String>>,
}

impl Unsaved {
    /// Takes back what a failed commit did not write.
    pub(crate) fn add(&mut self, other: Unsaved) {
        self.all |= other.all;
        self.mailboxes.extend(other.mailboxes);
        self.subscriptions.extend(other.subscriptions);
        // What changed meanwhile is newer.
        self.grants = self.grants.take().or(other.grants);
    }
}

/// A user's part of a [`Batch`].
pub(crate) struct UserChanges {
    pub(crate) name: String,
    /// As it is to be.
    pub(crate) namespace: Arc<Namespace>,
    /// What differs from the catalog.
    pub(crate) unsaved: Unsaved,
}

/// A user as the catalog has them.
pub(crate) struct StoredUser {
    pub(crate) namespace: Namespace,
    /// Whether everything is in rows of its own: see [`Unsaved::all`].
    pub(crate) in_rows: bool,
}

/// The open catalog.
pub(crate) struct Catalog(guard::Guarded);

struct Backend(Arc<dyn StoredFile>);

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("catalog.redb")
    }
}

type BackendResult<T> = std::io::Result<T>;

impl StorageBackend for Backend {
    fn len(&self) -> BackendResult<u64> {
        self.0.size()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> BackendResult<()> {
        self.0.read_exact_at(out, offset)
    }
    fn set_len(&self, len: u64) -> BackendResult<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> BackendResult<()> {
        self.0.sync_all()
    }
    fn write(&self, offset: u64, data: &[u8]) -> BackendResult<()> {
        self.0.write_at(data, offset)
    }
}

fn failed(what: &'static str) -> impl Fn(redb::Error) -> Error {
    move |error| match error {
        redb::Error::Io(error) => Error::io(what, "catalog.redb")(error),
        other => Error::Corrupt {
            path: "catalog.redb".into(),
            expected: "a readable catalog",
            found: format!("{what}: {other}"),
        },
    }
}

macro_rules! attempt {
    ($what:literal, $e:expr) => {
        $e.map_err(|e| failed($what)(e.into()))?
    };
}

fn meta_of(read: &redb::ReadTransaction) -> Result<Option<Meta>> {
    let table = match read.open_table(META) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(failed("read")(error.into())),
    };
    let mut values = [const { String::new() }; META_KEYS.len()];
    for (slot, key) in values.iter_mut().zip(META_KEYS) {
        match attempt!("read", table.get(key)) {
            Some(value) => *slot = value.value().to_owned(),
            None => return Ok(None),
        }
    }
    let [store, epoch, owner_epoch, checkpoint, last, unclean] = &values;
    let meta = || {
        Some(Meta {
            store_id: StoreId(MailboxId::parse(store)?.0),
            epoch: epoch.parse().ok()?,
            owner_epoch: owner_epoch.parse().ok()?,
            checkpoint: Lsn(checkpoint.parse().ok()?),
            uid_validity_last: last.parse().ok()?,
            unclean_epoch: unclean.parse().ok()?,
        })
    };
    meta().map(Some).ok_or_else(|| Error::Corrupt {
        path: "catalog.redb".into(),
        expected: "numbers in the meta table",
        found: format!("{values:?}"),
    })
}

fn user_in(read: &redb::ReadTransaction, user: &str) -> Result<Option<StoredUser>> {
    let table = attempt!("read", read.open_table(USERS));
    let Some(value) = attempt!("read", table.get(user)) else { return Ok(None) };
    let record: UserRecord = json(user, value.value())?;
    let in_rows = record.is_in_rows();
    let mut namespace: Namespace = record.into();
    if let Some(table) = read.table_if_any(MAILBOXES)? {
        let all = (user, &[0; 16])..=(user, &[0xff; 16]);
        for entry in attempt!("read", table.range(all)) {
            let (key, value) = attempt!("read", entry);
            let record: MailboxRecord = json(user, value.value())?;
            let id = MailboxId(*key.value().1);
            namespace.url_keys.extend(record.url_key().map(|key| (id, key)));
            let acl = record.acl().map_err(|found| Error::Corrupt {
                path: "catalog.redb".into(),
                expected: "an access control list",
                found: format!("user {user}: {found}"),
            })?;
            namespace.acls.extend(acl.map(|acl| (id, Arc::new(acl))));
            namespace.mailboxes.extend([record.into_entry(id)]);
        }
    }
    if let Some(table) = read.table_if_any(SUBSCRIPTIONS)? {
        for entry in attempt!("read", table.range((user, "")..)) {
            let (key, _) = attempt!("read", entry);
            let (whose, name) = key.value();
            if whose != user {
                break;
            }
            namespace.subscriptions.insert(name.to_owned());
        }
    }
    Ok(Some(StoredUser { namespace, in_rows }))
}

impl Catalog {
    /// Opens the catalog, or makes an empty one; the meta record is absent in a new one.
    pub(crate) fn open(storage: &dyn Storage, path: &Path) -> Result<(Catalog, Option<Meta>)> {
        // A new one gets its name when it is whole: one that was cut off at its making is no catalog,
        // and nothing is lost with it.
        let begun = storage.stat(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
        let at = if begun { path.with_extension("new") } else { path.to_owned() };
        if begun {
            let _ = storage.unlink(&at);
        }
        let file = storage.open(&at, Open::Create).map_err(Error::io("open", &at))?;
        let catalog = Catalog(guard::Guarded::open(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES);
            Ok(attempt!("open", builder.create_with_backend(Backend(file))))
        })?);
        if begun {
            storage.rename(&at, path).map_err(Error::io("name", path))?;
            let dir = path.parent().unwrap_or(path);
            storage.sync_dir(dir).map_err(Error::io("sync", dir))?;
        }
        let meta = catalog.meta()?;
        catalog.count_metadata()?;
        Ok((catalog, meta))
    }

    fn meta(&self) -> Result<Option<Meta>> {
        self.read(meta_of)
    }

    /// Calls `each` with every user, all of one commit; returns what that commit says of the
    /// store.
    pub(crate) fn snapshot(
        &self,
        each: &mut dyn FnMut(&str, Namespace) -> Result<()>,
    ) -> Result<Meta> {
        self.read(|read| {
            let meta = meta_of(read)?.ok_or_else(|| Error::Corrupt {
                path: "catalog.redb".into(),
                expected: "a catalog that was begun",
                found: "an empty one".into(),
            })?;
            let table = attempt!("read", read.open_table(USERS));
            for entry in attempt!("read", table.iter()) {
                let (user, _) = attempt!("read", entry);
                if let Some(stored) = user_in(read, user.value())? {
                    each(user.value(), stored.namespace)?;
                }
            }
            Ok(meta)
        })
    }

    /// A user's namespace; `None` for one who has no mailboxes.
    pub(crate) fn user(&self, user: &str) -> Result<Option<StoredUser>> {
        self.read(|read| user_in(read, user))
    }

    /// Whether a user has mailboxes here.
    pub(crate) fn has_user(&self, user: &str) -> Result<bool> {
        self.read(|read| {
            let table = attempt!("read", read.open_table(USERS));
            Ok(attempt!("read", table.get(user)).is_some())
        })
    }

    /// All users that have mailboxes.
    pub(crate) fn users(&self) -> Result<Vec<String>> {
        self.read(|read| {
            let table = attempt!("read", read.open_table(USERS));
            let mut out = Vec::new();
            for entry in attempt!("read", table.iter()) {
                out.push(attempt!("read", entry).0.value().to_owned());
            }
            Ok(out)
        })
    }

    /// Who owns a mailbox.
    pub(crate) fn owner(&self, id: MailboxId) -> Result<Option<String>> {
        self.read(|read| {
            let table = attempt!("read", read.open_table(OWNERS));
            Ok(attempt!("read", table.get(&id.0)).map(|owner| owner.value().to_owned()))
        })
    }

    /// A mailbox's figures at the last checkpoint that touched it.
    pub(crate) fn summary(&self, id: MailboxId) -> Result<Option<Summary>> {
        Ok(self.summaries([id])?.pop().flatten())
    }

    /// The figures of many mailboxes, in one look.
    pub(crate) fn summaries(
        &self,
        ids: impl IntoIterator<Item = MailboxId>,
    ) -> Result<Vec<Option<Summary>>> {
        self.read(|read| {
            let (figures, earlier) = (read.table_if_any(FIGURES)?, read.table_if_any(SUMMARY)?);
            let mut out = Vec::new();
            for id in ids {
                let mut found = None;
                if let Some(table) = &figures {
                    let value = attempt!("read", table.get(&id.0));
                    found = value.and_then(|value| Summary::decode(value.value()));
                }
                if let (None, Some(table)) = (&found, &earlier) {
                    let value = attempt!("read", table.get(&id.0));
                    found = value.map(|value| Summary::decode_early(value.value()));
                }
                out.push(found);
            }
            Ok(out)
        })
    }

    /// One durable commit.
    pub(crate) fn commit(&self, batch: &Batch) -> Result<()> {
        self.write(|write| {
            // The allocator's state goes with each commit, or a start after a crash would read the
            // whole database to find what is free.
            write.set_quick_repair(true);
            {
                let mut meta = attempt!("write", write.open_table(META));
                let m = &batch.meta;
                let values = [
                    m.store_id.to_string(),
                    m.epoch.to_string(),
                    m.owner_epoch.to_string(),
                    m.checkpoint.to_string(),
                    m.uid_validity_last.to_string(),
                    m.unclean_epoch.to_string(),
                ];
                for (key, value) in META_KEYS.iter().zip(&values) {
                    attempt!("write", meta.insert(*key, value.as_str()));
                }
                let mut users = attempt!("write", write.open_table(USERS));
                let mut owners = attempt!("write", write.open_table(OWNERS));
                let mut figures = attempt!("write", write.open_table(FIGURES));
                let mut summary = attempt!("write", write.open_table(SUMMARY));
                let mut rows = attempt!("write", write.open_table(MAILBOXES));
                let mut subscriptions = attempt!("write", write.open_table(SUBSCRIPTIONS));
                for UserChanges { name: user, namespace, unsaved } in &batch.users {
                    // A user has an INBOX, or is gone.
                    if namespace.mailboxes.is_empty() {
                        attempt!("write", users.remove(user.as_str()));
                    } else {
                        let record = to_json(&UserRecord::of(namespace));
                        attempt!("write", users.insert(user.as_str(), record.as_slice()));
                    }
                    let mut gone: BTreeMap<MailboxId, ()> =
                        unsaved.mailboxes.iter().map(|id| (*id, ())).collect();
                    for (name, entry) in &namespace.mailboxes {
                        let changed = gone.remove(&entry.id).is_some();
                        if changed || unsaved.all {
                            let row = to_json(&MailboxRecord::of(namespace, name, entry));
                            let key = (user.as_str(), &entry.id.0);
                            attempt!("write", rows.insert(key, row.as_slice()));
                            attempt!("write", owners.insert(&entry.id.0, user.as_str()));
                        }
                    }
                    for id in gone.keys() {
                        attempt!("write", rows.remove((user.as_str(), &id.0)));
                    }
                    let every = namespace.subscriptions.iter().filter(|_| unsaved.all);
                    for name in unsaved.subscriptions.iter().chain(every) {
                        let key = (user.as_str(), name.as_str());
                        if namespace.subscriptions.contains(name) {
                            attempt!("write", subscriptions.insert(key, ()));
                        } else {
                            attempt!("write", subscriptions.remove(key));
                        }
                    }
                }
                for (id, numbers) in &batch.summaries {
                    attempt!("write", figures.insert(&id.0, numbers.encode().as_slice()));
                }
                for id in &batch.gone {
                    attempt!("write", owners.remove(&id.0));
                    attempt!("write", figures.remove(&id.0));
                    attempt!("write", summary.remove(&id.0));
                }
            }
            metadata::write(write, &batch.metadata, &batch.gone)?;
            grants::write(write, &batch.users)?;
            Ok(())
        })
    }
}

const META_KEYS: [&str; 6] =
    ["store", "epoch", "owner_epoch", "checkpoint_lsn", "uid_validity_last", "unclean_epoch"];

fn to_json(record: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("strings and numbers are JSON")
}

fn json<T: serde::de::DeserializeOwned>(user: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        // A damaged key may have any length.
        let user: String = user.chars().take(80).collect();
        Error::Corrupt {
            path: "catalog.redb".into(),
            expected: "the JSON of a namespace",
            found: format!("user {user:?}: {error}"),
        }
    })
}

/// Tables that a catalog of an earlier version does not have.
trait TableIfAny {
    fn table_if_any<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Option<redb::ReadOnlyTable<K, V>>>;
}

impl TableIfAny for redb::ReadTransaction {
    fn table_if_any<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Option<redb::ReadOnlyTable<K, V>>> {
        match self.open_table(definition) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(failed("read")(error.into())),
        }
    }
}
