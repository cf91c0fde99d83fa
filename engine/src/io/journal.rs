//! Whether an ext filesystem has a journal. With one, a rename is in one transaction, and the sync of
//! a new file makes its name durable too; without, as on ext2, blocks of directories are written one
//! by one, and a power cut may keep the one that lost a name without the one that got it.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{major, minor};

/// What is known of an ext filesystem's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Journal {
    /// It has one.
    There,
    /// The driver for ext4 has it mounted without. Its sync of a new file syncs the directory, too.
    Absent,
    /// The kernel does not say: its driver for ext2, which syncs no directories, or no `/sys`.
    Unknown,
}

/// Looks for the journal of the ext filesystem of `path`.
pub(super) fn journal(path: &Path) -> io::Result<Journal> {
    let device = rustix::fs::stat(path)?.st_dev;
    let block = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let Ok(block) = fs::canonicalize(block) else { return Ok(Journal::Unknown) };
    // The kernel calls a mounted filesystem by its device.
    let task = block.file_name().map(|name| Path::new("/sys/fs/ext4").join(name));
    let task = task.and_then(|dir| fs::read_to_string(dir.join("journal_task")).ok());
    Ok(match task {
        Some(task) if names_a_thread(&task) => Journal::There,
        Some(_) => Journal::Absent,
        None => Journal::Unknown,
    })
}

/// What `journal_task` says: the number of the journal's thread, or that there is none.
fn names_a_thread(task: &str) -> bool {
    task.trim().parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_has_a_thread() {
        assert!(names_a_thread("412\n"));
        assert!(!names_a_thread("<none>\n") && !names_a_thread(""));
    }
}
