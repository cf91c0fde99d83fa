//! What Cyrus's files already say: mailboxes whose files are as the last pass of a hand-back wrote
//! them are not written again.
//!
//! The file is in the state directory. It decides nothing that the files do not confirm: an entry
//! counts where the mailbox has the same UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ, `cyrus.header`, and where
//! header, index and cache are the very files that were written. So an older ledger, or a lost one,
//! costs time only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use config::Config;
use engine::MailboxToAdopt;
use serde::{Deserialize, Serialize};

use super::mailbox::Weight;
use super::write::Stage;

/// In the state directory.
pub const LEDGER_NAME: &str = "handback-cyrus.json";

/// By which a file is known: length in bytes, time of change, inode. Absent for no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp(Option<(u64, i64, i64, u64)>);

impl FileStamp {
    /// Of what is there now.
    pub fn of(path: &Path) -> FileStamp {
        let meta = fs::metadata(path).ok();
        FileStamp(meta.map(|meta| (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino())))
    }
}

/// A mailbox as it was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Written {
    /// Whose, under which name.
    pub user: String,
    pub name: String,
    pub unique_id: String,
    pub uid_validity: u32,
    pub uid_next: u32,
    pub modseq_highest: u64,
    pub recent_uid: u32,
    /// CRC32 of `cyrus.header`.
    pub header_crc: u32,
    /// Octets of the mailbox's own annotations.
    pub annotation_bytes: u64,
    /// What quota roots count of it.
    pub weight: Weight,
    /// `cyrus.header`, `cyrus.index`, `cyrus.cache`.
    pub files: [FileStamp; 3],
}

impl Written {
    /// Whether the store has the messages as they were written.
    pub fn has_messages_of(&self, mailbox: &MailboxToAdopt) -> bool {
        self.unique_id == mailbox.unique_id
            && self.uid_validity == mailbox.uid_validity
            && self.uid_next == mailbox.uid_next
            && self.modseq_highest == mailbox.modseq_highest
    }
}

/// All that were written, by user and name.
#[derive(Default)]
pub struct Ledger {
    path: PathBuf,
    pub mailboxes: BTreeMap<(String, String), Written>,
}

impl Ledger {
    /// The store's; one that cannot be read is an empty one.
    pub fn read(config: &Config) -> Ledger {
        let path = config.state_dir.join(LEDGER_NAME);
        let read =
            || -> io::Result<Vec<Written>> { Ok(serde_json::from_slice(&fs::read(&path)?)?) };
        let list = read().unwrap_or_default();
        let mailboxes =
            list.into_iter().map(|one| ((one.user.clone(), one.name.clone()), one)).collect();
        Ledger { path, mailboxes }
    }

    /// What was written of a mailbox under this name.
    pub fn get(&self, user: &str, name: &str) -> Option<&Written> {
        self.mailboxes.get(&(user.to_owned(), name.to_owned()))
    }

    /// Notes a mailbox.
    pub fn insert(&mut self, one: Written) {
        self.mailboxes.insert((one.user.clone(), one.name.clone()), one);
    }

    /// Makes it durable.
    pub fn write(&self) -> Result<(), String> {
        let list: Vec<&Written> = self.mailboxes.values().collect();
        let mut stage = Stage::default();
        stage.put(&self.path, &serde_json::to_vec(&list).map_err(|e| e.to_string())?)?;
        stage.publish().map(drop)
    }
}
