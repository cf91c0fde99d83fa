//! What a migration has done: a redb database, so that a run that is killed at any moment can be
//! followed by another that does the rest, and nothing twice.
//!
//! | table | key | value |
//! |---|---|---|
//! | `folders` | account, a NUL, the source's name of the folder | JSON of [`Folder`] |
//! | `messages` | [`Folder::id`], UID at the source | JSON of [`Known`] |
//! | `numbers` | `folder` | the last [`Folder::id`] given |
//!
//! Invariants: a message is in `messages` once it is durable in the target. While an import is
//! under way, the folder's [`Intent`] says what it holds and which UIDNEXT the target had; the
//! target takes an import only at that UIDNEXT, so whoever finds an intent can tell what came of it.
//! One process has the database at a time (redb locks it).

use std::collections::BTreeMap;
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::failure::{Failed, Kind};

const FOLDERS: TableDefinition<&str, &[u8]> = TableDefinition::new("folders");
const MESSAGES: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("messages");
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");

/// Behind an account's key, where shared folders come over: they are not taken for the user's that are
/// gone.
pub const SHARED: &str = "#shared";

/// A folder at the source, and how far it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
pub struct Folder {
    /// Number in this database; 0: not stored yet.
    pub id: u64,
    /// Name at the source, as its server writes it.
    pub source: String,
    /// UIDVALIDITY at the source.
    pub uid_validity: u32,
    /// UIDNEXT at the source when it was last done; 0: never, or not told.
    pub uid_next: u32,
    /// HIGHESTMODSEQ at the source when it was last done; 0: the source has none.
    pub modseq: u64,
    /// Largest UID looked at.
    pub uid_last: u32,
    /// Mailbox in the target.
    pub target: String,
    /// Its UIDVALIDITY.
    pub target_uid_validity: u32,
    /// UIDs that the target refused; tried again.
    pub failed: Vec<u32>,
    /// Whether UIDVALIDITY and UIDs in the target are those of the source.
    pub keeps_uids: bool,
    /// Whether copies may be in the target that are not known: they are looked for by Message-ID.
    pub matching: bool,
    /// Whether the source had it subscribed.
    pub subscribed: bool,
    /// Whether special uses were set.
    pub uses_set: bool,
    /// Identifiers and rights that were set.
    pub acl: BTreeMap<String, String>,
    /// An import that may have been made or not.
    pub intent: Option<Intent>,
}

/// An import that was to be made.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Intent {
    /// UIDNEXT of the target that it depends on.
    pub uid_next: u32,
    /// Its messages, in order.
    pub messages: Vec<Intended>,
}

/// A message of an [`Intent`].
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Intended {
    /// UID at the source.
    pub uid: u32,
    /// Octets.
    pub size: u64,
    /// Unix seconds.
    pub internal_date: Option<i64>,
    /// Flags as they are stored.
    pub flags: String,
    /// BLAKE3-128 of the octets, hexadecimal; empty for one that streams.
    pub content_id: String,
}

/// A message that the target has.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct Known {
    /// UID in the target.
    #[serde(rename = "t")]
    pub target: u32,
    /// Octets at the source.
    #[serde(rename = "s")]
    pub size: u64,
    /// INTERNALDATE at the source.
    #[serde(rename = "d")]
    pub internal_date: Option<i64>,
    /// Flags at the source when it was last looked at, with a space between them, in order.
    #[serde(rename = "f")]
    pub flags: String,
}

/// The database.
pub struct State {
    database: Database,
}

fn failed(error: impl Into<redb::Error>) -> Failed {
    Failed::new(Kind::Incomplete, format!("state of the migration: {}", error.into()))
}

fn unreadable(error: serde_json::Error) -> Failed {
    Failed::new(Kind::Data, format!("state of the migration: {error}"))
}

fn key(account: &str, source: &str) -> String {
    format!("{account}\0{source}")
}

impl State {
    /// Opens or makes it.
    ///
    /// # Errors
    /// Another process has it, or it is none.
    pub fn open(path: &Path) -> Result<State, Failed> {
        let at = |e: redb::Error| {
            Failed::new(Kind::Temporary, format!("state of the migration {}: {e}", path.display()))
        };
        let database = Database::create(path).map_err(|e| at(e.into()))?;
        let state = State { database };
        // So that reading finds the tables.
        let write = state.database.begin_write().map_err(failed)?;
        write.open_table(FOLDERS).map_err(failed)?;
        write.open_table(MESSAGES).map_err(failed)?;
        write.open_table(NUMBERS).map_err(failed)?;
        write.commit().map_err(failed)?;
        Ok(state)
    }

    /// The folders of an account by their names at the source.
    pub fn folders(&self, account: &str) -> Result<BTreeMap<String, Folder>, Failed> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(FOLDERS).map_err(failed)?;
        let (first, end) = (key(account, ""), format!("{account}\x01"));
        let mut found = BTreeMap::new();
        for one in table.range(first.as_str()..end.as_str()).map_err(failed)? {
            let (_, value) = one.map_err(failed)?;
            let folder: Folder = serde_json::from_slice(value.value()).map_err(unreadable)?;
            found.insert(folder.source.clone(), folder);
        }
        Ok(found)
    }

    /// Other accounts of the same user that came over before: at the server under another name or port.
    pub fn same_user(&self, user: &str, account: &str) -> Result<Vec<String>, Failed> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(FOLDERS).map_err(failed)?;
        let prefix = format!("{user}@");
        let is_shared = account.ends_with(SHARED);
        let mut found: Vec<String> = Vec::new();
        for one in table.range(prefix.as_str()..).map_err(failed)? {
            let (key, _) = one.map_err(failed)?;
            let Some(server) = key.value().strip_prefix(&prefix) else { break };
            let server = server.split('\0').next().unwrap_or_default();
            // A longer user name has an @ of its own.
            let is_other = !server.contains('@') && *account != format!("{prefix}{server}");
            let is_known = found.last().is_some_and(|last| last == server);
            if is_other && !is_known && server.ends_with(SHARED) == is_shared {
                found.push(server.to_owned());
            }
        }
        Ok(found)
    }

    /// The messages of a folder by their UIDs at the source.
    pub fn messages(&self, folder: u64) -> Result<BTreeMap<u32, Known>, Failed> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(MESSAGES).map_err(failed)?;
        let mut found = BTreeMap::new();
        for one in table.range((folder, 0)..=(folder, u32::MAX)).map_err(failed)? {
            let (key, value) = one.map_err(failed)?;
            let known = serde_json::from_slice(value.value()).map_err(unreadable)?;
            found.insert(key.value().1, known);
        }
        Ok(found)
    }

    /// How many messages of a folder are known.
    pub fn count(&self, folder: u64) -> Result<u64, Failed> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(MESSAGES).map_err(failed)?;
        Ok(table.range((folder, 0)..=(folder, u32::MAX)).map_err(failed)?.count() as u64)
    }

    /// Stores a folder and what became of its messages (`None`: gone), durably. A new folder gets
    /// its number; `before` is the name under which it was stored, if that was another.
    pub fn store(
        &self,
        account: &str,
        folder: &mut Folder,
        before: Option<&str>,
        messages: &[(u32, Option<Known>)],
    ) -> Result<(), Failed> {
        let write = self.database.begin_write().map_err(failed)?;
        {
            let mut numbers = write.open_table(NUMBERS).map_err(failed)?;
            if folder.id == 0 {
                let last = numbers.get("folder").map_err(failed)?.map_or(0, |n| n.value());
                folder.id = last + 1;
                numbers.insert("folder", folder.id).map_err(failed)?;
            }
            let mut folders = write.open_table(FOLDERS).map_err(failed)?;
            if let Some(before) = before {
                folders.remove(key(account, before).as_str()).map_err(failed)?;
            }
            let value = serde_json::to_vec(folder).map_err(unreadable)?;
            let name = key(account, &folder.source);
            folders.insert(name.as_str(), value.as_slice()).map_err(failed)?;
            let mut table = write.open_table(MESSAGES).map_err(failed)?;
            for (uid, known) in messages {
                match known {
                    Some(known) => {
                        let value = serde_json::to_vec(known).map_err(unreadable)?;
                        table.insert((folder.id, *uid), value.as_slice()).map_err(failed)?;
                    }
                    None => drop(table.remove((folder.id, *uid)).map_err(failed)?),
                }
            }
        }
        write.commit().map_err(failed)
    }

    /// Forgets a folder's messages, all of them.
    pub fn forget_messages(&self, folder: u64) -> Result<(), Failed> {
        let write = self.database.begin_write().map_err(failed)?;
        {
            let mut table = write.open_table(MESSAGES).map_err(failed)?;
            let all = (folder, 0)..=(folder, u32::MAX);
            table.retain_in(all, |_, _| false).map_err(failed)?;
        }
        write.commit().map_err(failed)
    }

    /// Forgets a folder.
    pub fn forget(&self, account: &str, folder: &Folder) -> Result<(), Failed> {
        self.forget_messages(folder.id)?;
        let write = self.database.begin_write().map_err(failed)?;
        {
            let mut folders = write.open_table(FOLDERS).map_err(failed)?;
            folders.remove(key(account, &folder.source).as_str()).map_err(failed)?;
        }
        write.commit().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_messages_are_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let state = State::open(&path).unwrap();
        assert!(State::open(&path).is_err(), "two have it");
        let mut folder = Folder { source: "A".to_owned(), uid_last: 3, ..Folder::default() };
        let known =
            Known { target: 7, size: 5, internal_date: Some(9), flags: "\\Seen".to_owned() };
        state.store("jo@h", &mut folder, None, &[(1, Some(known.clone())), (2, None)]).unwrap();
        let mut other = Folder { source: "A".to_owned(), ..Folder::default() };
        state.store("jo", &mut other, None, &[(1, Some(Known::default()))]).unwrap();
        assert_ne!(folder.id, other.id);
        for user in ["jo@h", "jo@h:1", "jo@example.org@h:2", "jo@h:2#shared"] {
            state.store(user, &mut Folder::default(), None, &[]).unwrap();
        }
        assert_eq!(state.same_user("jo", "jo@h").unwrap(), ["h:1"]);
        assert_eq!(state.same_user("jo@example.org", "jo@example.org@new:1").unwrap(), ["h:2"]);
        assert_eq!(state.same_user("j", "j@h").unwrap(), [""; 0]);
        for user in ["jo@h", "jo@h:1", "jo@example.org@h:2", "jo@h:2#shared"] {
            let empty = state.folders(user).unwrap().remove("").unwrap();
            state.forget(user, &empty).unwrap();
        }
        drop(state);
        let state = State::open(&path).unwrap();
        assert_eq!(state.folders("jo@h").unwrap(), [("A".to_owned(), folder.clone())].into());
        assert_eq!(state.messages(folder.id).unwrap(), [(1, known)].into());
        let renamed = Folder { source: "B".to_owned(), ..folder.clone() };
        state.store("jo@h", &mut renamed.clone(), Some("A"), &[(1, None)]).unwrap();
        assert_eq!(state.folders("jo@h").unwrap().keys().collect::<Vec<_>>(), ["B"]);
        assert_eq!((state.count(folder.id).unwrap(), state.count(other.id).unwrap()), (0, 1));
        state.forget("jo", &other).unwrap();
        assert!(
            state.folders("jo").unwrap().is_empty() && state.messages(other.id).unwrap().is_empty()
        );
    }
}
