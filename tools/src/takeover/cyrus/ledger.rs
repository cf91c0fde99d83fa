//! What Cyrus's files already say: mailboxes whose files are as the last pass of a hand-back wrote
//! them are not written again.
//!
//! The file is in the state directory. It decides nothing that the files do not confirm: an entry
//! counts where the mailbox has the same UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ, `cyrus.header`, and where
//! header, index and cache are the very files that were written. So an older ledger, or a lost one,
//! costs time only.
//!
//! Each line is an [`Entry`] in JSON; of one mailbox the last one counts. Lines are added behind the
//! others; where most of them count no more, and behind one that was cut off, the file is written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use config::Config;
use engine::MailboxToAdopt;
use serde::{Deserialize, Serialize};

use super::mailbox::Weight;
use super::write::Stage;

/// In the state directory.
pub const LEDGER_NAME: &str = "handback-cyrus.ledger";
/// Lines that count no more: so many may be there, whatever the others are.
const OLD_LINES_MAX: usize = 1000;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Written(Box<Written>),
    /// A mailbox that is no more.
    Gone {
        user: String,
        name: String,
    },
}

/// All that were written.
#[derive(Default)]
pub struct Ledger {
    path: PathBuf,
    /// By user and name.
    users: BTreeMap<String, BTreeMap<String, Written>>,
    /// Lines that the file does not have yet.
    waiting: Vec<u8>,
    /// Lines with them.
    lines: usize,
    /// The file ends in the middle of a line, or has something else in it.
    is_torn: bool,
}

impl Ledger {
    /// The store's; what cannot be read of it is left out.
    pub fn read(config: &Config) -> Ledger {
        let path = config.state_dir.join(LEDGER_NAME);
        let bytes = fs::read(&path).unwrap_or_default();
        let mut ledger = Ledger { path, ..Ledger::default() };
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            match serde_json::from_slice(line) {
                Ok(entry) if line.ends_with(b"\n") => ledger.apply(entry),
                _ => ledger.is_torn = true,
            }
        }
        ledger
    }

    fn apply(&mut self, entry: Entry) {
        self.lines += 1;
        match entry {
            Entry::Written(one) => {
                self.users.entry(one.user.clone()).or_default().insert(one.name.clone(), *one);
            }
            Entry::Gone { user, name } => {
                let left = self.users.get_mut(&user).map(|mailboxes| {
                    mailboxes.remove(&name);
                    mailboxes.is_empty()
                });
                if left == Some(true) {
                    self.users.remove(&user);
                }
            }
        }
    }

    fn add(&mut self, entry: Entry) {
        // Words and numbers always have a form in JSON.
        let Ok(mut line) = serde_json::to_vec(&entry) else { return };
        line.push(b'\n');
        self.waiting.append(&mut line);
        self.apply(entry);
    }

    /// What was written of a mailbox under this name.
    pub fn get(&self, user: &str, name: &str) -> Option<&Written> {
        self.users.get(user)?.get(name)
    }

    /// Notes a mailbox.
    pub fn insert(&mut self, one: Written) {
        self.add(Entry::Written(Box::new(one)));
    }

    /// Forgets a user's mailboxes but these.
    pub fn retain(&mut self, user: &str, names: &BTreeSet<&str>) {
        let known = self.users.get(user).into_iter().flat_map(BTreeMap::keys);
        let gone: Vec<String> =
            known.filter(|name| !names.contains(name.as_str())).cloned().collect();
        for name in gone {
            self.add(Entry::Gone { user: user.to_owned(), name });
        }
    }

    /// Users of whom something was written.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// Makes durable what was noted: it costs what that is, but for a rewrite now and then.
    pub fn write(&mut self) -> Result<(), String> {
        let count = self.users.values().map(BTreeMap::len).sum::<usize>();
        if self.is_torn || self.lines > 2 * count + OLD_LINES_MAX {
            return self.write_anew();
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        let append = || -> io::Result<()> {
            let mut file = File::options().append(true).create(true).open(&self.path)?;
            file.write_all(&self.waiting)?;
            file.sync_data()
        };
        // Part of a line may be there: what comes next has a file of its own.
        self.is_torn = true;
        append().map_err(|e| format!("{}: {e}", self.path.display()))?;
        self.is_torn = false;
        self.waiting.clear();
        Ok(())
    }

    fn write_anew(&mut self) -> Result<(), String> {
        let mut bytes = Vec::new();
        let mut lines = 0;
        for one in self.users.values().flat_map(BTreeMap::values) {
            let entry = Entry::Written(Box::new(one.clone()));
            serde_json::to_writer(&mut bytes, &entry).map_err(|e| e.to_string())?;
            bytes.push(b'\n');
            lines += 1;
        }
        let mut stage = Stage::default();
        stage.put(&self.path, &bytes)?;
        stage.publish()?;
        self.lines = lines;
        self.is_torn = false;
        self.waiting.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(user: &str, name: &str, uid_next: u32) -> Written {
        Written {
            user: user.to_owned(),
            name: name.to_owned(),
            unique_id: "id".to_owned(),
            uid_validity: 1,
            uid_next,
            modseq_highest: 7,
            recent_uid: 0,
            header_crc: 9,
            annotation_bytes: 0,
            weight: Weight::default(),
            files: [FileStamp(None); 3],
        }
    }

    fn lines(ledger: &Ledger) -> usize {
        fs::read(&ledger.path).unwrap().iter().filter(|b| **b == b'\n').count()
    }

    #[test]
    fn a_pass_adds_what_it_wrote_and_a_line_that_was_cut_off_costs_itself_only() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::embedded(dir.path());
        fs::create_dir_all(&config.state_dir).unwrap();
        let mut ledger = Ledger::read(&config);
        for name in ["a", "b", "c"] {
            ledger.insert(written("jo", name, 1));
        }
        ledger.write().unwrap();
        ledger.insert(written("jo", "a", 2));
        ledger.retain("jo", &BTreeSet::from(["a", "b"]));
        ledger.write().unwrap();
        assert_eq!(lines(&ledger), 5);
        let read = Ledger::read(&config);
        assert_eq!(read.get("jo", "a"), Some(&written("jo", "a", 2)));
        assert_eq!((read.get("jo", "b").is_some(), read.get("jo", "c")), (true, None));
        // A crash while a line was added.
        let whole = fs::read(&ledger.path).unwrap();
        fs::write(&ledger.path, [&whole[..], br#"{"written":{"user":"jo","#].concat()).unwrap();
        let mut read = Ledger::read(&config);
        read.insert(written("jo", "d", 4));
        read.write().unwrap();
        assert_eq!(lines(&read), 3);
        let read = Ledger::read(&config);
        assert_eq!(read.get("jo", "d"), Some(&written("jo", "d", 4)));
        assert_eq!(read.get("jo", "a"), Some(&written("jo", "a", 2)));
        // Everything of a user goes.
        let mut read = read;
        read.retain("jo", &BTreeSet::new());
        assert_eq!(read.users().count(), 0);
    }

    #[test]
    fn lines_that_count_no_more_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::embedded(dir.path());
        fs::create_dir_all(&config.state_dir).unwrap();
        let mut ledger = Ledger::read(&config);
        for uid_next in 0..3 * OLD_LINES_MAX as u32 {
            ledger.insert(written("jo", "a", uid_next));
        }
        ledger.write().unwrap();
        assert_eq!(lines(&ledger), 1);
    }
}
