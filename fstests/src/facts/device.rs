//! The block device under a filesystem, as sysfs shows it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Mount;

/// Facts of a block device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Kernel's name, such as `sda1`.
    pub name: String,
    /// `write back`: there is a cache that a flush empties; `write through`: none that we must know.
    pub write_cache: String,
    /// It writes single blocks through its cache.
    pub fua: bool,
    /// Has a head that moves.
    pub rotational: bool,
    /// The scheduler in force.
    pub scheduler: String,
    /// Bytes of a sector, as the device names them.
    pub sector_bytes: u64,
    /// Kibibytes read ahead.
    pub read_ahead_kib: u64,
    /// Model, where it has one.
    pub model: String,
    /// md's level, such as `raid5`.
    #[serde(default)]
    pub raid_level: String,
    /// Bytes that md or the device wants written at once to avoid reading first; 0: not known.
    #[serde(default)]
    pub stripe_bytes: u64,
    /// File behind a loop device.
    #[serde(default)]
    pub backing_file: String,
}

/// Counters of a device since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Writes finished.
    pub writes: u64,
    /// Sectors of 512 bytes written.
    pub sectors_written: u64,
    /// Flushes done; absent before Linux 5.5.
    pub flushes: Option<u64>,
}

impl Device {
    /// The device of a mount; absent where there is none, such as on NFS and tmpfs.
    pub fn of(mount: &Mount) -> Option<Device> {
        let dir = sysfs(mount)?;
        let name = dir.file_name()?.to_string_lossy().into_owned();
        // Partitions have their queue one level up.
        let disk = if dir.join("queue").is_dir() { dir } else { dir.parent()?.to_owned() };
        let read = |file: &str| {
            fs::read_to_string(disk.join(file)).map(|t| t.trim().to_owned()).unwrap_or_default()
        };
        let number = |file: &str| read(file).parse().unwrap_or(0u64);
        let schedulers = read("queue/scheduler");
        let scheduler = schedulers.split(['[', ']']).nth(1).unwrap_or(&schedulers).to_owned();
        Some(Device {
            name,
            write_cache: read("queue/write_cache"),
            fua: number("queue/fua") == 1,
            rotational: number("queue/rotational") == 1,
            scheduler,
            sector_bytes: number("queue/physical_block_size"),
            read_ahead_kib: number("queue/read_ahead_kb"),
            model: read("device/model"),
            raid_level: read("md/level"),
            stripe_bytes: number("queue/optimal_io_size"),
            backing_file: read("loop/backing_file"),
        })
    }
}

/// The device's directory in sysfs. btrfs gives mounts a device number of their own: its source is
/// looked up instead.
fn sysfs(mount: &Mount) -> Option<PathBuf> {
    let (major, minor) = mount.device;
    let by_number = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    if major != 0 && by_number.exists() {
        return by_number.canonicalize().ok();
    }
    let source = Path::new(&mount.source).canonicalize().ok()?;
    let name = source.strip_prefix("/dev").ok()?;
    let by_name = Path::new("/sys/class/block").join(name);
    by_name.canonicalize().ok()
}

impl Counters {
    /// Of the device of a mount. Arrays and mapped devices do not count flushes themselves: theirs
    /// are those of the device below that had most.
    pub fn of(mount: &Mount) -> Option<Counters> {
        let dir = sysfs(mount)?;
        let read = |dir: &Path| parse(&fs::read_to_string(dir.join("stat")).ok()?);
        let mut counters = read(&dir)?;
        let below = fs::read_dir(dir.join("slaves")).into_iter().flatten().flatten();
        let flushes = below.filter_map(|entry| read(&entry.path())?.flushes).max();
        counters.flushes = flushes.or(counters.flushes);
        Some(counters)
    }
}

/// Documentation/block/stat.rst: field 5 is writes finished, field 7 sectors written, field 16 flushes.
fn parse(stat: &str) -> Option<Counters> {
    let fields: Vec<u64> = stat.split_whitespace().map_while(|f| f.parse().ok()).collect();
    Some(Counters {
        writes: *fields.get(4)?,
        sectors_written: *fields.get(6)?,
        flushes: fields.get(15).copied(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_where_the_kernel_says() {
        let new = "1 2 3 4 5 6 77 8 9 10 11 12 13 14 15 166 17";
        assert_eq!(
            parse(new),
            Some(Counters { writes: 5, sectors_written: 77, flushes: Some(166) })
        );
        let old = "1 2 3 4 5 6 77 8 9 10 11";
        assert_eq!(parse(old), Some(Counters { writes: 5, sectors_written: 77, flushes: None }));
        assert_eq!(parse("1 2 x"), None);
    }
}
