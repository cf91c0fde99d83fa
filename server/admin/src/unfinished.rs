//! What a command that was cut off has left in the state directory: nobody else opens the store before
//! it is finished.
//!
//! | file | the store meanwhile |
//! |---|---|
//! | [`MOVES_NAME`] | some of Cyrus's files are new ones and some are not; mailboxes may lie elsewhere than our catalog says |
//! | [`RETIRING_NAME`] | our catalog and log may be on their way out: what is left would be served as an empty store |

use std::path::{Path, PathBuf};

/// The journal of a hand-back to Cyrus whose files take their places.
pub const MOVES_NAME: &str = "handback-cyrus.moves";
/// All is Cyrus's again, and our own files go to the directory that this names.
pub const RETIRING_NAME: &str = "handback-cyrus.retiring";

/// A file that tells of a command which was cut off.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a hand-back to Cyrus was cut off ({} is there): `cursus handback cyrus` finishes it, \
     and nothing else may be done before",
    file.display()
)]
pub struct Unfinished {
    /// Which one.
    pub file: PathBuf,
}

/// Looks for such a file; one that cannot be looked for counts as there.
///
/// # Errors
/// The first one found.
pub fn check(state_dir: &Path) -> Result<(), Unfinished> {
    let files = [RETIRING_NAME, MOVES_NAME].map(|name| state_dir.join(name));
    match files.into_iter().find(|file| !matches!(file.try_exists(), Ok(false))) {
        Some(file) => Err(Unfinished { file }),
        None => Ok(()),
    }
}
