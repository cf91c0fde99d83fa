//! Messages in the files of mail programs: read one by one, and written.
//!
//! | module | says |
//! |---|---|
//! | [`mbox`] | mboxo, mboxrd, mboxcl, mboxcl2 |
//! | [`maildir`] | Maildirs with the folders of Maildir++ |
//! | [`mh`] | MH folders and their sequences |
//! | [`eml`] | a file for each message |
//! | [`dbox`] | Dovecot's sdbox and mdbox, read |
//! | [`line_ends`] | CRLF here, LF there |
//!
//! Invariants: a message that cannot be read is named with its file and place, and the others are
//! read; no more than one message is in memory.

pub mod dbox;
pub mod eml;
pub mod line_ends;
pub mod maildir;
pub mod mbox;
pub mod mh;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A message that was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Where, for people.
    pub source: String,
    /// Octets with CRLF.
    pub octets: Vec<u8>,
    /// Flags and keywords as IMAP writes them.
    pub flags: Vec<String>,
    /// Unix seconds.
    pub internal_date: Option<i64>,
    /// The folder that it is in, with `/` between levels; `None`: the one that was named.
    pub mailbox: Option<String>,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub source: String,
    /// Byte in it.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.source, self.reason())
    }
}

/// Messages that come one by one.
pub type Messages = Box<dyn Iterator<Item = Result<Found, Damage>>>;

/// What is below a path.
pub struct Tree {
    /// Folders, those without messages, too, with `/` between levels.
    pub folders: Vec<String>,
    /// What is in them, and beside them.
    pub messages: Messages,
}

impl Damage {
    /// What is wrong, with its place, without the file.
    pub fn reason(&self) -> String {
        match self.offset {
            Some(offset) => format!("at byte {offset}: {}", self.what),
            None => self.what.clone(),
        }
    }

    fn of_file(path: &Path, what: impl std::fmt::Display) -> Damage {
        Damage { source: path.display().to_string(), offset: None, what: what.to_string() }
    }
}

/// The whole of a file, and its time of change as Unix seconds.
fn read_file(path: &Path) -> Result<(Vec<u8>, Option<i64>), Damage> {
    let octets = std::fs::read(path).map_err(|e| Damage::of_file(path, e))?;
    let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let date = modified.map(|at| match at.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(0),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(0),
    });
    match octets.is_empty() {
        true => Err(Damage::of_file(path, "empty, expected a message")),
        false => Ok((octets, date)),
    }
}

/// Writes a new file with this time of change.
fn write_file(path: &Path, octets: &[u8], date: i64) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    std::io::Write::write_all(&mut file, octets)?;
    file.set_modified(system_time(date))
}

fn system_time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    match seconds < 0 {
        true => UNIX_EPOCH - distance,
        false => UNIX_EPOCH + distance,
    }
}

/// The entries of a directory, by name.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, Damage> {
    let bad = |e: std::io::Error| Damage::of_file(dir, e);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(bad)? {
        found.push(entry.map_err(bad)?.path());
    }
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
