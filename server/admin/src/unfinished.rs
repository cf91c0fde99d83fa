//! What keeps a store from being opened: a command on Cyrus's files that was cut off, or that nobody
//! has given yet.
//!
//! | file | the store meanwhile |
//! |---|---|
//! | [`TAKING_NAME`] | some users have their mailboxes, and the rest would get empty ones |
//! | [`MOVES_NAME`] | some of Cyrus's files are new ones and some are not; mailboxes may lie elsewhere than our catalog says |
//! | [`RETIRING_NAME`] | our catalog and log may be on their way out: what is left would be served as an empty store |
//! | none, and neither catalog nor log | mailboxes by id in a partition are Cyrus's: everybody would get an empty INBOX beside them |
//!
//! Of mailboxes in directories by name the engine sees when it would make one over them.

use std::io;
use std::path::{Path, PathBuf};

use config::{Config, LayoutKind};

/// Takeover has begun, and was not at its end.
pub const TAKING_NAME: &str = "takeover-cyrus.begun";
/// The journal of a hand-back to Cyrus whose files take their places.
pub const MOVES_NAME: &str = "handback-cyrus.moves";
/// All is Cyrus's again, and our own files go to the directory that this names.
pub const RETIRING_NAME: &str = "handback-cyrus.retiring";
/// Without it there is no store.
pub const CATALOG_NAME: &str = "catalog.redb";
/// Where Cyrus 3.6 and later has mailboxes, below a partition.
const BY_ID: &str = "uuid";

/// What has to be done before.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// A takeover was cut off.
    #[error(
        "a takeover from Cyrus was cut off ({} is there): `cursus takeover cyrus` goes on with it, \
         and nothing else may be done before",
        .0.display()
    )]
    Takeover(PathBuf),
    /// A hand-back was cut off.
    #[error(
        "a hand-back to Cyrus was cut off ({} is there): `cursus handback cyrus` finishes it, \
         and nothing else may be done before",
        .0.display()
    )]
    HandBack(PathBuf),
    /// There is no store yet, or no more, where Cyrus has mailboxes.
    #[error(
        "mailboxes of Cyrus in {} are not taken over: `cursus takeover cyrus` does that, and until \
         then everybody would get an empty INBOX",
        .0.display()
    )]
    NotTakenOver(PathBuf),
}

/// Who wants to open the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// A server, or a command that wants all to be in order.
    Any,
    /// The command that takes over, and goes on with it.
    Takeover,
    /// The command that hands back, of what was taken over, and finishes that.
    HandBack,
}

/// Looks for what has to be done before `opener` may have the store. A file that cannot be looked for
/// counts as there.
///
/// # Errors
/// The first thing found.
pub fn check(config: &Config, opener: Opener) -> Result<(), Unfinished> {
    let file = |name: &str| config.state_dir.join(name);
    let is_there = |path: &Path| !matches!(path.try_exists(), Ok(false));
    let first = |names: &[&str]| names.iter().map(|name| file(name)).find(|path| is_there(path));
    if opener != Opener::HandBack
        && let Some(found) = first(&[RETIRING_NAME, MOVES_NAME])
    {
        return Err(Unfinished::HandBack(found));
    }
    if opener == Opener::Any {
        if let Some(found) = first(&[TAKING_NAME]) {
            return Err(Unfinished::Takeover(found));
        }
        if !is_there(&file(CATALOG_NAME)) && is_empty(&config.log_dir()) {
            let cyrus = config.partition.iter().filter(|p| p.layout == LayoutKind::Cyrus);
            let mut by_id = cyrus.map(|partition| partition.path.join(BY_ID));
            if let Some(found) = by_id.find(|dir| !is_empty(dir)) {
                return Err(Unfinished::NotTakenOver(found));
            }
        }
    }
    Ok(())
}

/// Whether a directory has nothing in it, or is not there.
fn is_empty(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
