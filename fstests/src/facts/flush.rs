//! Does fsync reach the device? As far as software can tell.
//!
//! The kernel counts the flushes that a device has done. Small appends that are each synced must
//! raise that number, where the device says that it has a write cache; a mount without barriers, or
//! a layer that swallows flushes, leaves it. Below a loop device the backing file's device is looked
//! at as well. What a disk or a controller does with a flush that it has answered nobody can see
//! from here, except that a disk with a turning platter cannot have done one in less than
//! [`ROTATION_US_MIN`].

use std::path::Path;
use std::time::Instant;

use engine::io::{Open, Storage};
use serde::{Deserialize, Serialize};

use super::{Counters, Device, Mount, nfs};
use crate::error::{Error, Result};
use crate::stats::Samples;

/// Synced appends of one test.
const SYNCS: u64 = 32;
/// Bytes of each.
const APPEND_BYTES: usize = 512;
/// A platter at 15,000 rotations a minute turns in 4 ms; half of that is what a sync waits for.
const ROTATION_US_MIN: f64 = 500.0;

/// What the test says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A flush was counted for the syncs, or there is no cache to flush.
    Honest,
    /// Syncs returned and no flush reached the device: a power cut loses acknowledged mail.
    Lies,
    /// The device, or what is below it, does not tell.
    #[default]
    NotKnown,
}

/// Result of the test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlushTruth {
    /// What it means.
    pub verdict: Verdict,
    /// Syncs asked.
    pub syncs: u64,
    /// Flushes that the device counted meanwhile; other programs' are among them.
    pub flushes: Option<u64>,
    /// Median of a sync, microseconds.
    pub sync_us: f64,
    /// What was seen, for people.
    pub reason: String,
}

impl FlushTruth {
    /// Tests below `dir`, a scratch directory.
    ///
    /// # Errors
    /// What file calls say.
    pub fn test(storage: &dyn Storage, dir: &Path) -> Result<FlushTruth> {
        let mut mount = Mount::of(dir)?;
        // A file server on this host: its disk is what syncs must reach.
        let disk = || Mount::of(&nfs::exported_path(&mount.source)?).ok();
        if let Some(disk) = mount.is_nfs().then(disk).flatten() {
            mount = disk;
        }
        let path = dir.join("flush-truth");
        let file = storage.open(&path, Open::CreateNew).map_err(Error::io("create", &path))?;
        let settle = || file.sync_all().map_err(Error::io("sync", &path));
        settle()?;
        let below = below(&mount);
        let count = |mount: &Option<Mount>| mount.as_ref().and_then(Counters::of)?.flushes;
        let own = Some(mount.clone());
        let before = [count(&own), count(&below)];
        let mut samples = Samples::default();
        for n in 0..SYNCS {
            let at = n * APPEND_BYTES as u64;
            file.write_at(&[b'x'; APPEND_BYTES], at).map_err(Error::io("write", &path))?;
            let began = Instant::now();
            settle()?;
            samples.push(began.elapsed());
        }
        let rose = |before: Option<u64>, mount| Some(count(mount)?.saturating_sub(before?));
        let flushes = [rose(before[0], &own), rose(before[1], &below)];
        storage.unlink(&path).map_err(Error::io("remove", &path))?;
        let sync_us = samples.latency().map_or(0.0, |latency| latency.p50_us);
        Ok(judge(&mount, Device::of(&mount), flushes, sync_us))
    }
}

/// The mount that a loop device's file is on.
fn below(mount: &Mount) -> Option<Mount> {
    let file = Device::of(mount)?.backing_file;
    let dir = Path::new(&file).parent().filter(|_| !file.is_empty())?;
    Mount::of(dir).ok()
}

fn judge(
    mount: &Mount,
    device: Option<Device>,
    [own, below]: [Option<u64>; 2],
    sync_us: f64,
) -> FlushTruth {
    let is = |verdict, reason: String| FlushTruth {
        verdict,
        syncs: SYNCS,
        flushes: own,
        sync_us,
        reason,
    };
    let Some(device) = device else {
        let reason = match mount.is_nfs() {
            true => "the file server's disk is not seen from here",
            false => "there is no block device below",
        };
        return is(Verdict::NotKnown, reason.to_owned());
    };
    let name = &device.name;
    let cache = &device.write_cache;
    // Several syncs can share one flush only when they run at once; ours do not.
    let enough = SYNCS / 2;
    match (cache.as_str(), own) {
        ("write back", Some(n)) if n < enough => is(
            Verdict::Lies,
            format!("{name} has a write cache, and {SYNCS} syncs made {n} flushes"),
        ),
        (_, _)
            if device.rotational
                && device.backing_file.is_empty()
                && physical(&device)
                && sync_us < ROTATION_US_MIN =>
        {
            is(
                Verdict::Lies,
                format!("{name} turns, and a sync took {sync_us:.0} us: no platter is that fast"),
            )
        }
        ("write back", Some(n)) => match below {
            Some(b) if b < enough => is(
                Verdict::NotKnown,
                format!("{name} took {n} flushes for {SYNCS} syncs, the device below its file {b}"),
            ),
            _ => is(
                Verdict::Honest,
                format!("{name} took {n} flushes for {SYNCS} syncs, {sync_us:.0} us each"),
            ),
        },
        ("write through", _) => is(
            Verdict::Honest,
            format!("{name} says that it has no write cache; a sync took {sync_us:.0} us"),
        ),
        _ => is(Verdict::NotKnown, format!("the kernel does not count flushes of {name}")),
    }
}

/// Virtual disks say that they turn when nobody told them otherwise.
fn physical(device: &Device) -> bool {
    !device.name.starts_with("vd") && !device.name.starts_with("nbd") && !device.model.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(filesystem: &str) -> Mount {
        Mount {
            device: (0, 0),
            root: "/".into(),
            at: "/".into(),
            filesystem: filesystem.into(),
            source: "none".into(),
            options: vec![],
        }
    }

    fn device(name: &str, cache: &str) -> Option<Device> {
        Some(Device { name: name.into(), write_cache: cache.into(), ..Device::default() })
    }

    #[test]
    fn syncs_without_flushes_on_a_caching_device_are_lies() {
        let judge = |device, flushes| judge(&mount("ext4"), device, flushes, 900.0).verdict;
        assert_eq!(judge(device("sda", "write back"), [Some(0), None]), Verdict::Lies);
        assert_eq!(judge(device("sda", "write back"), [Some(SYNCS), None]), Verdict::Honest);
        assert_eq!(judge(device("sda", "write through"), [Some(0), None]), Verdict::Honest);
        assert_eq!(judge(device("sda", "write back"), [None, None]), Verdict::NotKnown);
        let looped = [Some(SYNCS), Some(0)];
        assert_eq!(judge(device("loop0", "write back"), looped), Verdict::NotKnown);
        assert_eq!(judge(None, [None, None]), Verdict::NotKnown);
    }

    #[test]
    fn a_platter_that_syncs_in_no_time_lies() {
        let mut disk = device("sda", "write back");
        if let Some(disk) = &mut disk {
            disk.rotational = true;
            disk.model = "ST4000".into();
        }
        let fast = judge(&mount("xfs"), disk.clone(), [Some(SYNCS), None], 80.0);
        assert_eq!(fast.verdict, Verdict::Lies);
        assert!(fast.reason.contains("80 us"), "{}", fast.reason);
        assert_eq!(
            judge(&mount("xfs"), disk, [Some(SYNCS), None], 8000.0).verdict,
            Verdict::Honest
        );
    }
}
