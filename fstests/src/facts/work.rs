//! What some work made a device do: writes, bytes, flushes, and how often the filesystem committed
//! its journal or its trees. Counts, not times: they say why one filesystem's syncs take longer than
//! another's, whatever else the machine does.
//!
//! The kernel counts a device for all who write to it, so that they mean something only where the
//! device is the filesystem's own, as in a matrix.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Counters, Device, Mount};

/// What a device did, over some work or on average for each operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Writes that it finished.
    pub writes: f64,
    /// Bytes written.
    pub bytes: f64,
    /// Flushes done; absent where the kernel does not count them.
    #[serde(default)]
    pub flushes: Option<f64>,
    /// Commits: of the journal (ext3, ext4), of whole trees (btrfs), writes of the log (xfs); absent
    /// on filesystems that do not tell.
    #[serde(default)]
    pub commits: Option<f64>,
}

impl Work {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Work) -> Work {
        let sum = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
        Work {
            writes: self.writes + other.writes,
            bytes: self.bytes + other.bytes,
            flushes: sum(self.flushes, other.flushes),
            commits: sum(self.commits, other.commits),
        }
    }

    /// The mean of so many operations.
    #[must_use]
    pub fn each(self, operations: u64) -> Work {
        let share = |sum: f64| sum / operations.max(1) as f64;
        Work {
            writes: share(self.writes),
            bytes: share(self.bytes),
            flushes: self.flushes.map(share),
            commits: self.commits.map(share),
        }
    }
}

/// Looks at a mount's counters before and after.
#[derive(Clone, Debug)]
pub struct Watch {
    mount: Mount,
    commits: Option<PathBuf>,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    device: Counters,
    commits: Option<u64>,
}

impl Watch {
    /// Of a mount; absent where no block device is below.
    pub fn of(mount: &Mount) -> Option<Watch> {
        let name = Device::of(mount)?.name;
        Counters::of(mount)?;
        Some(Watch { mount: mount.clone(), commits: commits_file(&mount.filesystem, &name) })
    }

    /// Now.
    pub fn look(&self) -> Option<Look> {
        let text = || fs::read_to_string(self.commits.as_ref()?).ok();
        Some(Look {
            device: Counters::of(&self.mount)?,
            commits: text().and_then(|text| commits(&text)),
        })
    }

    /// What was done since an earlier look.
    pub fn since(&self, before: &Look) -> Option<Work> {
        let now = self.look()?;
        let rose = |now: u64, before: u64| now.saturating_sub(before) as f64;
        let both = |now: Option<u64>, before: Option<u64>| Some(rose(now?, before?));
        Some(Work {
            writes: rose(now.device.writes, before.device.writes),
            bytes: rose(now.device.sectors_written, before.device.sectors_written) * 512.0,
            flushes: both(now.device.flushes, before.device.flushes),
            commits: both(now.commits, before.commits),
        })
    }
}

/// Where a filesystem on the device `name` counts its commits.
fn commits_file(filesystem: &str, name: &str) -> Option<PathBuf> {
    let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten();
    match filesystem {
        // Named by the device and the journal's inode.
        "ext3" | "ext4" => {
            let start = format!("{name}-");
            let mut journals = entries("/proc/fs/jbd2");
            let mine = journals.find(|j| j.file_name().to_string_lossy().starts_with(&start))?;
            Some(mine.path().join("info"))
        }
        // Named by the filesystem's identity, with its devices below.
        "btrfs" => {
            let mut all = entries("/sys/fs/btrfs");
            let mine = all.find(|f| f.path().join("devices").join(name).exists())?;
            Some(mine.path().join("commit_stats"))
        }
        "xfs" => Some(Path::new("/sys/fs/xfs").join(name).join("stats/stats")),
        _ => None,
    }
    .filter(|file| file.is_file())
}

/// The number in jbd2's `N transactions (…`, btrfs's `commits N` or xfs's `log WRITES …`.
fn commits(text: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next()?, words.next()?);
        match (first, second) {
            (number, "transactions") | ("commits" | "log", number) => number.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_where_each_kernel_part_tells_them() {
        let jbd2 = "17 transactions (15 requested), each up to 1024 blocks\naverage: \n";
        assert_eq!(commits(jbd2), Some(17));
        assert_eq!(commits("commits 5\ncur_commit_ms 0\nlast_commit_ms 3\n"), Some(5));
        assert_eq!(commits("extent_alloc 1 2\nlog 42 99 0 1 2\n"), Some(42));
        assert_eq!(commits("nothing\n"), None);
    }

    #[test]
    fn means_are_of_sums_and_what_one_does_not_know_both_do_not() {
        let one = Work { writes: 6.0, bytes: 8192.0, flushes: Some(4.0), commits: Some(2.0) };
        let sum = one.plus(Work { commits: None, ..one });
        let each = sum.each(4);
        assert_eq!(each, Work { writes: 3.0, bytes: 4096.0, flushes: Some(2.0), commits: None });
        assert_eq!(one.each(0), one);
    }
}
