//! Filesystems and modes for crash tests: making, checking, mounting on the recorded disk.

use std::path::Path;

use powercut::disk::Tears;

use crate::error::{Error, Result, has_program, run_program};
use crate::facts::mounts;
use crate::matrix::{has_filesystem, mkfs_always, mkfs_name};

/// A filesystem in a mode.
pub(super) struct Ground {
    /// As tables name it.
    pub(super) name: &'static str,
    filesystem: &'static str,
    mkfs: &'static [&'static str],
    mount: &'static str,
    /// It has no journal, or replays it in user space: fsck comes before the mount.
    fsck: Option<&'static str>,
}

const fn ground(name: &'static str, filesystem: &'static str, mount: &'static str) -> Ground {
    Ground { name, filesystem, mkfs: &[], mount, fsck: None }
}

const GROUNDS: [Ground; 15] = [
    Ground { fsck: Some("e2fsck"), ..ground("ext2", "ext2", "rw") },
    ground("ext3", "ext3", "data=ordered"),
    ground("ext3 data=journal", "ext3", "data=journal"),
    ground("ext3 data=writeback", "ext3", "data=writeback"),
    ground("ext4", "ext4", "data=ordered"),
    ground("ext4 data=journal", "ext4", "data=journal"),
    ground("ext4 data=writeback", "ext4", "data=writeback"),
    ground("ext4 nobarrier", "ext4", "nobarrier"),
    Ground {
        mkfs: &["-O", "^has_journal"],
        fsck: Some("e2fsck"),
        ..ground("ext4 no journal", "ext4", "rw")
    },
    Ground { mkfs: &["-O", "fast_commit"], ..ground("ext4 fast_commit", "ext4", "rw") },
    ground("xfs", "xfs", "rw"),
    ground("btrfs", "btrfs", "rw"),
    ground("f2fs", "f2fs", "rw"),
    Ground { fsck: Some("fsck.jfs"), ..ground("jfs", "jfs", "rw") },
    ground("reiserfs", "reiserfs", "rw"),
];

/// All of them.
pub(super) fn grounds() -> &'static [Ground] {
    &GROUNDS
}

impl Ground {
    /// Why it cannot be had here.
    pub(super) fn obstacle(&self) -> Option<String> {
        if !has_filesystem(self.filesystem) {
            return Some(format!("the kernel has no {}", self.filesystem));
        }
        let programs = [Some(mkfs_name(self.filesystem)), self.fsck];
        let missing = programs.into_iter().flatten().find(|name| !has_program(name))?;
        Some(format!("{missing} is not installed"))
    }

    /// Where writes may tear: what each filesystem takes to be written whole. ext's super block has
    /// a sum and no copy that the kernel would use; others take blocks of 4 KiB to be whole.
    pub(super) fn tears(&self) -> Tears {
        match self.filesystem {
            "ext2" | "ext3" | "ext4" => Tears { sector_bytes: 512, head_bytes: 4096 },
            _ => Tears { sector_bytes: 4096, head_bytes: 0 },
        }
    }

    pub(super) fn make(&self, device: &Path) -> Result<()> {
        let mut arguments = mkfs_always(self.filesystem).to_vec();
        arguments.extend(self.mkfs);
        let device = device.display().to_string();
        arguments.push(&device);
        run_program(mkfs_name(self.filesystem), &arguments).map(drop)
    }

    pub(super) fn mount(&self, device: &Path, at: &Path) -> Result<()> {
        let (device, at) = (device.display().to_string(), at.display().to_string());
        let arguments = ["-t", self.filesystem, "-o", self.mount, &device, &at];
        run_program("mount", &arguments).map(drop)
    }

    /// fsck, as an operator's start does it.
    pub(super) fn check(&self, device: &Path) -> Result<()> {
        let device = device.display().to_string();
        let said = match self.fsck {
            None => return Ok(()),
            Some("e2fsck") => run_program("e2fsck", &["-fy", &device]),
            Some(other) => run_program(other, &["-a", &device]),
        };
        match said {
            Ok(_) => Ok(()),
            // 1: errors were corrected. 2: and a restart would be needed, had it been mounted.
            Err(Error::Program { said, .. })
                if ["exit status: 1:", "exit status: 2:"].iter().any(|s| said.starts_with(s)) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Unmounts what is mounted at a directory, if anything is.
pub(super) fn unmount(at: &Path) -> Result<()> {
    if !mounts()?.iter().any(|mount| mount.at == at) {
        return Ok(());
    }
    run_program("umount", &[&at.display().to_string()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let names: std::collections::BTreeSet<&str> = GROUNDS.iter().map(|g| g.name).collect();
        assert_eq!(names.len(), GROUNDS.len());
    }
}
