//! `catalog.redb`: the copy of the catalog that a start reads, one durable commit per checkpoint.
//!
//! | table | key | value |
//! |---|---|---|
//! | meta | text | text: store, epoch, owner_epoch, checkpoint_lsn, uid_validity_last, unclean_epoch |
//! | users | user | JSON of a namespace |
//! | owners | mailbox id | user |
//! | summary | mailbox id | 32 bytes: messages u64, bytes u64, uidnext u32, uidvalidity u32, modseq u64 |
//!
//! The summary is in the same file as the catalog so that one commit makes both: usage and
//! checkpoint LSN cannot disagree.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use crate::error::{Error, Result};
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::{Open, Storage, StoredFile};
use crate::namespace::{Namespace, NamespaceRecord};

const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");
const OWNERS: TableDefinition<'_, &[u8; 16], &str> = TableDefinition::new("owners");
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

/// The numbers of a mailbox at a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) uid_next: u32,
    pub(crate) uid_validity: u32,
    pub(crate) modseq: u64,
}

impl Summary {
    fn encode(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out[..8].copy_from_slice(&self.messages.to_le_bytes());
        out[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        out[16..20].copy_from_slice(&self.uid_next.to_le_bytes());
        out[20..24].copy_from_slice(&self.uid_validity.to_le_bytes());
        out[24..].copy_from_slice(&self.modseq.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; 32]) -> Summary {
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Summary {
            messages: u64_at(0),
            bytes: u64_at(8),
            uid_next: u32_at(16),
            uid_validity: u32_at(20),
            modseq: u64_at(24),
        }
    }
}

/// What a checkpoint writes.
pub(crate) struct Batch {
    pub(crate) meta: Meta,
    /// Users with their namespaces.
    pub(crate) users: Vec<(String, Arc<Namespace>)>,
    pub(crate) summaries: Vec<(MailboxId, Summary)>,
    /// Mailboxes that are no more.
    pub(crate) gone: Vec<MailboxId>,
}

/// The open catalog.
pub(crate) struct Catalog {
    database: Database,
}

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

impl Catalog {
    /// Opens the catalog, or makes an empty one; the meta record is absent in a new one.
    pub(crate) fn open(storage: &dyn Storage, path: &Path) -> Result<(Catalog, Option<Meta>)> {
        let file = storage.open(path, Open::Create).map_err(Error::io("open", path))?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = attempt!("open", builder.create_with_backend(Backend(file)));
        let catalog = Catalog { database };
        let meta = catalog.meta()?;
        Ok((catalog, meta))
    }

    fn meta(&self) -> Result<Option<Meta>> {
        let read = attempt!("read", self.database.begin_read());
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

    /// A user's namespace; `None` for one who has no mailboxes.
    pub(crate) fn namespace(&self, user: &str) -> Result<Option<Namespace>> {
        let read = attempt!("read", self.database.begin_read());
        let table = attempt!("read", read.open_table(USERS));
        let Some(value) = attempt!("read", table.get(user)) else { return Ok(None) };
        let record: NamespaceRecord =
            serde_json::from_slice(value.value()).map_err(|error| Error::Corrupt {
                path: "catalog.redb".into(),
                expected: "the JSON of a namespace",
                found: format!("user {user}: {error}"),
            })?;
        Ok(Some(record.into()))
    }

    /// All users that have mailboxes.
    pub(crate) fn users(&self) -> Result<Vec<String>> {
        let read = attempt!("read", self.database.begin_read());
        let table = attempt!("read", read.open_table(USERS));
        let mut out = Vec::new();
        for entry in attempt!("read", table.iter()) {
            out.push(attempt!("read", entry).0.value().to_owned());
        }
        Ok(out)
    }

    /// Who owns a mailbox.
    pub(crate) fn owner(&self, id: MailboxId) -> Result<Option<String>> {
        let read = attempt!("read", self.database.begin_read());
        let table = attempt!("read", read.open_table(OWNERS));
        Ok(attempt!("read", table.get(&id.0)).map(|owner| owner.value().to_owned()))
    }

    /// A mailbox's numbers at the last checkpoint that touched it.
    pub(crate) fn summary(&self, id: MailboxId) -> Result<Option<Summary>> {
        let read = attempt!("read", self.database.begin_read());
        let table = attempt!("read", read.open_table(SUMMARY));
        let found = attempt!("read", table.get(&id.0));
        Ok(found.map(|value| Summary::decode(value.value())))
    }

    /// One durable commit.
    pub(crate) fn commit(&self, batch: &Batch) -> Result<()> {
        let write = attempt!("write", self.database.begin_write());
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
            let mut summary = attempt!("write", write.open_table(SUMMARY));
            for (user, namespace) in &batch.users {
                let json = serde_json::to_vec(&NamespaceRecord::from(&**namespace))
                    .expect("strings and numbers are JSON");
                attempt!("write", users.insert(user.as_str(), json.as_slice()));
                for entry in namespace.mailboxes.values() {
                    attempt!("write", owners.insert(&entry.id.0, user.as_str()));
                }
            }
            for (id, numbers) in &batch.summaries {
                attempt!("write", summary.insert(&id.0, &numbers.encode()));
            }
            for id in &batch.gone {
                attempt!("write", owners.remove(&id.0));
                attempt!("write", summary.remove(&id.0));
            }
        }
        attempt!("write", write.commit());
        Ok(())
    }
}

const META_KEYS: [&str; 6] =
    ["store", "epoch", "owner_epoch", "checkpoint_lsn", "uid_validity_last", "unclean_epoch"];
