//! What is in archives and backups, and under which names.
//!
//! | path | what |
//! |---|---|
//! | `archive.json` | whose archive it is: format, store, owner_epoch |
//! | `messages/XX/ID.N` | a message file as stored: ID its content id (32 hex digits, XX the first two), N its octets |
//! | `log/LSN-EPOCH.log` | a log segment up to its last group: first LSN and log epoch, 16 hex digits each |
//! | `log/LSN-EPOCH.json` | manifest of that segment, written last |
//! | `gaps/LSN-TIME.json` | a gap: its first LSN and when it was noted (microseconds), 16 hex digits each |
//! | `base/LSN/` | a base backup that is consistent at this LSN |
//! | `base/LSN/catalog.jsonl` | a line for each user: user, partition, mailboxes (id, name, uid_validity, special_use, partition, quota, acl), subscriptions, quota |
//! | `base/LSN/metadata.jsonl` | a line for each entry of metadata: mailbox (id), whose, entry, value (hex) |
//! | `base/LSN/annotations.jsonl` | a line for each value of an annotation: as of metadata, and uid |
//! | `base/LSN/mailboxes.jsonl` | a line for each mailbox: id, uid_validity, files (bytes and BLAKE3 of index, facts, heap) |
//! | `base/LSN/mailbox/ID.index, .facts, .heap` | index, facts and heap of a mailbox, both header slots valid for every checkpoint, no cache blobs |
//! | `base/LSN/log/LSN-EPOCH.log` | the log from the backup's checkpoint to its end |
//! | `base/LSN/manifest.json` | what the backup is, written last |
//! | `tmp/` | what is being written |
//!
//! Manifests are JSON objects; readers refuse a `format` above 1 and ignore keys that they do not
//! know. Times are microseconds since 1970, digests BLAKE3 in hex.
//!
//! | manifest | keys |
//! |---|---|
//! | segment | format, store, owner_epoch, epoch, first_lsn, end_lsn, durable_lsn, first_time_us, last_time_us, bytes, blake3, messages (names that its frames need), absent (those that could not be had) |
//! | gap | format, store, first_lsn, end_lsn, noted_us, last_time_us, reason |
//! | base | format, store, owner_epoch, epoch, checkpoint_lsn, end_lsn, consistent_us, uid_validity_last, partition_default, partitions (name, layout), users, mailboxes, messages, bytes, absent, log (name and BLAKE3 each), catalog_blake3, mailboxes_blake3, metadata_blake3, annotations_blake3 (absent in earlier ones, which have none) |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::types::{Uid, UidValidity};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::acl::Acl;
use crate::adoption::Adopted;
use crate::error::{Error, Result};
use crate::ids::MailboxId;
use crate::io::{Open, Storage};
use crate::layout::create_durable;
use crate::metadata::{Key, Value};
use crate::namespace::{MailboxEntry, Namespace, SpecialUse};
use crate::quota::QuotaLimits;

/// Version of the manifests that are written.
pub(super) const FORMAT: u32 = 1;
/// Largest manifest that is read, bytes: a segment's with its message names has some hundred
/// thousand lines at most.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// A message file by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageName {
    /// BLAKE3-128 of the served bytes.
    pub content_id: [u8; 16],
    /// Octets of the file.
    pub stored: u32,
}

impl fmt::Display for MessageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.content_id.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        write!(f, ".{}", self.stored)
    }
}

impl MessageName {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<MessageName> {
        let (id, stored) = text.split_once('.')?;
        let digits = id.as_bytes();
        if digits.len() != 32 || !digits.iter().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let content_id = u128::from_str_radix(id, 16).ok()?.to_be_bytes();
        let name = MessageName { content_id, stored: stored.parse().ok()? };
        (name.to_string() == text).then_some(name)
    }

    /// Its path within an archive.
    pub(super) fn path(&self) -> PathBuf {
        Path::new("messages").join(format!("{:02x}", self.content_id[0])).join(self.to_string())
    }
}

impl Serialize for MessageName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        MessageName::parse(&text).ok_or_else(|| serde::de::Error::custom("a message name"))
    }
}

/// Whose archive a directory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) format: u32,
    pub(super) store: String,
    /// Of the last process that wrote here: older ones are fenced off.
    pub(super) owner_epoch: u32,
}

/// A segment in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentManifest {
    pub(super) format: u32,
    pub(super) store: String,
    pub(super) owner_epoch: u32,
    pub(super) epoch: u64,
    pub(super) first_lsn: u64,
    pub(super) end_lsn: u64,
    pub(super) durable_lsn: u64,
    pub(super) first_time_us: u64,
    pub(super) last_time_us: u64,
    pub(super) bytes: u64,
    pub(super) blake3: String,
    pub(super) messages: Vec<MessageName>,
    pub(super) absent: Vec<MessageName>,
}

/// Changes that the archive does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Version of the manifest.
    pub format: u32,
    /// 32 hexadecimal digits.
    pub store: String,
    /// Where it begins.
    pub first_lsn: u64,
    /// Where it ends.
    pub end_lsn: u64,
    /// When it was made, microseconds since 1970.
    pub noted_us: u64,
    /// Time of its last change, microseconds since 1970; 0 when unknown.
    pub last_time_us: u64,
    /// For people.
    pub reason: String,
}

impl Gap {
    /// Its name in an archive.
    pub(super) fn path(&self) -> PathBuf {
        Path::new("gaps").join(format!("{:016x}-{:016x}.json", self.first_lsn, self.noted_us))
    }
}

/// A partition as a backup remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionLine {
    pub(super) name: String,
    /// `maildir` or `cyrus`.
    pub(super) layout: String,
}

/// A base backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BaseManifest {
    pub(super) format: u32,
    pub(super) store: String,
    pub(super) owner_epoch: u32,
    pub(super) epoch: u64,
    pub(super) checkpoint_lsn: u64,
    pub(super) end_lsn: u64,
    pub(super) consistent_us: u64,
    pub(super) uid_validity_last: u32,
    pub(super) partition_default: String,
    pub(super) partitions: Vec<PartitionLine>,
    pub(super) users: u64,
    pub(super) mailboxes: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) absent: Vec<MessageName>,
    /// Names and BLAKE3 of its log segments.
    pub(super) log: Vec<(String, String)>,
    pub(super) catalog_blake3: String,
    pub(super) mailboxes_blake3: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata_blake3: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations_blake3: Option<String>,
}

impl BaseManifest {
    /// The files of [`MetadataLine`]s that there are, with their digests.
    pub(super) fn values(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let all = [(METADATA, &self.metadata_blake3), (ANNOTATIONS, &self.annotations_blake3)];
        all.into_iter().filter_map(|(name, said)| Some((name, said.as_ref()?)))
    }
}

/// Names of a base's files of metadata and annotations.
pub(super) const METADATA: &str = "metadata.jsonl";
pub(super) const ANNOTATIONS: &str = "annotations.jsonl";

/// A user's line in a backup's catalog.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UserLine {
    pub(super) user: String,
    partition: String,
    mailboxes: Vec<NameLine>,
    subscriptions: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaLimits>,
}

/// A mailbox in a [`UserLine`].
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NameLine {
    id: String,
    name: String,
    uid_validity: u32,
    special_use: u32,
    partition: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaLimits>,
    /// Identifiers with their rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acl: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adopted: Option<Adopted>,
}

impl UserLine {
    pub(super) fn of(user: &str, namespace: &Namespace) -> UserLine {
        let line = |(name, entry): (&String, &MailboxEntry)| NameLine {
            id: entry.id.to_string(),
            name: name.clone(),
            uid_validity: entry.uid_validity.0,
            special_use: SpecialUse::to_bits(&entry.special_use),
            partition: entry.partition.clone(),
            quota: entry.quota,
            acl: namespace.acl(entry.id).map(Acl::to_texts),
            adopted: entry.adopted.as_deref().cloned(),
        };
        UserLine {
            user: user.to_owned(),
            partition: namespace.partition.clone(),
            mailboxes: namespace.mailboxes.iter().map(line).collect(),
            subscriptions: namespace.subscriptions.clone(),
            quota: namespace.quota,
        }
    }

    /// `None` where the line is not what [`UserLine::of`] makes.
    pub(super) fn namespace(self) -> Option<Namespace> {
        let mut acls = BTreeMap::new();
        for line in &self.mailboxes {
            if let Some(texts) = &line.acl {
                acls.insert(MailboxId::parse(&line.id)?, Arc::new(Acl::of_texts(texts)?));
            }
        }
        let entry = |line: NameLine| {
            let entry = MailboxEntry {
                id: MailboxId::parse(&line.id)?,
                uid_validity: UidValidity(line.uid_validity),
                special_use: SpecialUse::from_bits(line.special_use),
                partition: line.partition,
                quota: line.quota,
                adopted: line.adopted.map(Arc::new),
            };
            Some((line.name, entry))
        };
        Some(Namespace {
            partition: self.partition,
            mailboxes: self.mailboxes.into_iter().filter_map(entry).collect(),
            subscriptions: self.subscriptions,
            quota: self.quota,
            // A restored mailbox honours no URL that was given out before.
            url_keys: Default::default(),
            acls,
        })
    }
}

/// A line of a backup's metadata or annotations.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MetadataLine {
    mailbox: String,
    /// Of a message, if it is an annotation.
    #[serde(default, skip_serializing_if = "is_zero")]
    uid: u32,
    whose: String,
    entry: String,
    /// Hexadecimal digits.
    value: String,
}

fn is_zero(uid: &u32) -> bool {
    *uid == 0
}

impl MetadataLine {
    pub(super) fn of(key: &Key, value: &[u8]) -> MetadataLine {
        MetadataLine {
            mailbox: key.mailbox.to_string(),
            uid: key.uid.0,
            whose: key.whose.clone(),
            entry: key.entry.clone(),
            value: value.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// `None` where the line is not what [`MetadataLine::of`] makes.
    pub(super) fn read(self) -> Option<(Key, Value)> {
        let digits = self.value.as_bytes();
        if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let byte = |at: usize| u8::from_str_radix(self.value.get(at..at + 2)?, 16).ok();
        let value: Option<Arc<[u8]>> = (0..digits.len()).step_by(2).map(byte).collect();
        let mailbox = MailboxId::parse(&self.mailbox)?;
        let key = Key { mailbox, uid: Uid(self.uid), whose: self.whose, entry: self.entry };
        Some((key, Some(value?)))
    }
}

/// A mailbox's line in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MailboxLine {
    pub(super) id: String,
    pub(super) uid_validity: u32,
    /// Bytes and BLAKE3 of index, facts, heap.
    pub(super) files: [(u64, String); 3],
}

/// The endings of a mailbox's files in a backup, and their names in a store.
pub(super) const MAILBOX_FILES: [(&str, &str); 3] =
    [("index", "cursus.index"), ("facts", "cursus.facts"), ("heap", "cursus.heap")];

/// The directory of a base backup.
pub(super) fn base_dir(root: &Path, end_lsn: u64) -> PathBuf {
    root.join("base").join(format!("{end_lsn:016x}"))
}

/// A time in UTC as RFC 3339 writes it, to the second; `unknown` for 0.
pub(super) fn time_text(us: u64) -> String {
    if us == 0 {
        return "unknown".to_owned();
    }
    let seconds = us / 1_000_000;
    let (days, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Days since 1970 to a civil date: years begin in March, so that leap days come last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Digest for people and manifests.
pub(super) fn hex(hash: &blake3::Hash) -> String {
    hash.to_hex().to_string()
}

/// What follows from a manifest that does not say what it should.
pub(super) fn not_as_expected(path: &Path, expected: &'static str, found: String) -> Error {
    Error::Corrupt { path: path.to_owned(), expected, found }
}

/// Reads a whole file of at most [`MANIFEST_BYTES_MAX`].
pub(super) fn read_text(storage: &dyn Storage, path: &Path) -> Result<Vec<u8>> {
    let file = storage.open(path, Open::Read).map_err(Error::io("open", path))?;
    let size = file.size().map_err(Error::io("stat", path))?;
    if size > MANIFEST_BYTES_MAX {
        return Err(not_as_expected(path, "a manifest", format!("{size} bytes")));
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Reads JSON, and refuses a later format.
pub(super) fn read_json<T: DeserializeOwned>(storage: &dyn Storage, path: &Path) -> Result<T> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let bytes = read_text(storage, path)?;
    let bad = |e: serde_json::Error| not_as_expected(path, "a manifest", e.to_string());
    let version: Format = serde_json::from_slice(&bytes).map_err(bad)?;
    if version.format > FORMAT {
        let found = format!("format {}", version.format);
        return Err(not_as_expected(path, "a manifest of format 1", found));
    }
    serde_json::from_slice(&bytes).map_err(bad)
}

/// JSON for a manifest.
pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("strings, numbers and lists are JSON");
    text.push(b'\n');
    text
}

/// Writes a file under a temporary name, makes it durable, gives it its name, durably.
pub(super) fn write_whole(
    storage: &dyn Storage,
    root: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<()> {
    let (tmp, parent) = (root.join("tmp"), path.parent().unwrap_or(root));
    for dir in [&tmp, parent] {
        create_durable(storage, dir).map_err(Error::io("create", dir))?;
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let making = tmp.join(name);
    let file = match storage.unlink(&making) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => storage.open(&making, Open::CreateNew),
    };
    let file = file.map_err(Error::io("create", &making))?;
    file.write_at(bytes, 0).map_err(Error::io("write", &making))?;
    file.sync_all().map_err(Error::io("sync", &making))?;
    storage.rename(&making, path).map_err(Error::io("rename", &making))?;
    storage.sync_dir(parent).map_err(Error::io("sync", parent))
}

/// Names in a directory, in order; none where there is no directory.
pub(super) fn names_in(storage: &dyn Storage, dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let listed = storage.list(dir, &mut |name, _| {
        names.push(String::from_utf8_lossy(name).into_owned());
    });
    match listed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("list", dir)(e));
        }
        _ => {}
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_lines_survive_and_odd_ones_are_refused() {
        let entry = "/shared/x".to_owned();
        let key = Key { mailbox: MailboxId([7; 16]), uid: Uid(3), whose: "jo".into(), entry };
        let line = MetadataLine::of(&key, b"a\xff\0");
        let value: Value = Some(Arc::from(&b"a\xff\0"[..]));
        assert_eq!(line.clone().read(), Some((key, value)));
        for bad in ["6", "6x", "é0"] {
            assert_eq!(MetadataLine { value: bad.into(), ..line.clone() }.read(), None, "{bad}");
        }
    }

    #[test]
    fn message_names_are_read_back_and_nothing_else_is() {
        let name = MessageName { content_id: [0xab; 16], stored: 1234 };
        assert_eq!(MessageName::parse(&name.to_string()), Some(name));
        let path = Path::new("messages/ab/abababababababababababababababab.1234");
        assert_eq!(name.path(), path);
        for bad in ["", "ab.1", "abababababababababababababababab.01", "zz", ".5"] {
            assert_eq!(MessageName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        assert_eq!(time_text(1_000_000), "1970-01-01T00:00:01Z");
        assert_eq!(time_text(951_782_400_000_000), "2000-02-29T00:00:00Z");
        assert_eq!(time_text(1_795_492_801_999_999), "2026-11-24T04:00:01Z");
    }

    #[test]
    fn a_later_format_is_refused() {
        let sim = crate::io::sim::Sim::new(1);
        let path = Path::new("/a/archive.json");
        write_whole(&sim, Path::new("/a"), path, b"{\"format\":2,\"store\":\"x\"}").unwrap();
        let error = read_json::<Owner>(&sim, path).unwrap_err();
        assert!(error.to_string().contains("format 2"), "{error}");
    }
}
