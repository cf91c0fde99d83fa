//! Whether an ext filesystem has a journal. With one, a rename is in one transaction, and the sync of
//! a new file makes its name durable too; without, as on ext2, blocks of directories are written one
//! by one, and a power cut may keep the one that lost a name without the one that got it.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{major, minor};

/// Whether the ext filesystem of `path` is known to have a journal. Where the kernel does not say
/// (its driver for ext2, no `/sys`), it has none.
pub(super) fn has_journal(path: &Path) -> io::Result<bool> {
    let device = rustix::fs::stat(path)?.st_dev;
    let block = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let Ok(block) = fs::canonicalize(block) else { return Ok(false) };
    // The kernel calls a mounted filesystem by its device.
    let task = block.file_name().map(|name| Path::new("/sys/fs/ext4").join(name));
    let task = task.and_then(|dir| fs::read_to_string(dir.join("journal_task")).ok());
    Ok(task.is_some_and(|task| names_a_thread(&task)))
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
