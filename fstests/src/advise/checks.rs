//! The checks: each looks at one thing, measures it where it is doubtful, and says what to do.

use std::path::{Path, PathBuf};

use engine::io::blocking::Blocking;

use super::finding::{Advice, Finding, Measurement, Weight};
use super::probe::{self, Turns, quiet};
use super::{like, network};
use crate::error::{Error, Result};
use crate::facts::{Device, Ext, FlushTruth, Mount, Verdict};
use crate::scratch::Scratch;

/// A cost below this is not worth a change.
const FACTOR_MIN: f64 = 1.2;
/// Bytes of a directory without an index above which a search in it is measured: some thousand
/// names.
const LARGE_DIRECTORY_BYTES: u64 = 256 << 10;
/// Mean bytes that a message takes, for inodes.
pub(super) const MESSAGE_BYTES: u64 = 15_000;
/// Share of inodes or bytes below which deliveries will soon fail.
const FREE_MIN: f64 = 0.05;
/// Bytes that ext4 writes for a byte of synced messages where it does not journal data (once, and
/// some metadata), as runs of ours found and where it cannot be measured; and their range.
const ORDERED_BYTES: f64 = 1.05;
const ORDERED_RANGE: &str = "1.0 to 1.1";

/// A path and all that is known of what it is on.
pub(super) struct Site {
    pub(super) path: PathBuf,
    pub(super) mount: Mount,
    device: Option<Device>,
    pub(super) scratch: Scratch,
}

/// Runs every check on a path.
pub(super) fn all(path: &Path, advice: &mut Advice) -> Result<()> {
    let mount = Mount::of(path)?;
    let device = Device::of(&mount);
    let site = Site { path: path.to_owned(), device, scratch: Scratch::beside(path)?, mount };
    for check in [
        flushes,
        room,
        network::exports,
        access_times,
        synchronous,
        data_journal,
        dir_index,
        inodes,
        network::options,
        raid,
    ] {
        check(&site, advice)?;
    }
    Ok(())
}

impl Site {
    /// A finding about this path; the command is a remount with other options.
    pub(super) fn finding(&self, id: &str, weight: Weight, title: String) -> Finding {
        Finding {
            id: id.to_owned(),
            path: self.path.display().to_string(),
            weight,
            title,
            number: String::new(),
            reason: String::new(),
            risk: String::new(),
            command: String::new(),
            fstab: String::new(),
        }
    }

    fn remount(&self, options: &str) -> String {
        format!("mount -o remount,{options} {}", self.mount.at.display())
    }

    /// Notes a measurement, and says by what factor it is dearer than it need be, if that is more
    /// than noise.
    pub(super) fn weigh(
        &self,
        advice: &mut Advice,
        id: &str,
        what: &str,
        unit: &str,
        turns: &Turns,
    ) -> Option<f64> {
        let (now, then) = (quiet(&turns.now), quiet(&turns.then));
        let (id, what, unit) = (id.to_owned(), what.to_owned(), unit.to_owned());
        advice.measured.push(Measurement { id, what, unit, now, then });
        turns.factor().filter(|factor| *factor >= FACTOR_MIN)
    }

    pub(super) fn note(&self, advice: &mut Advice, text: &str) {
        advice.notes.push(format!("{}: {text}", self.path.display()));
    }
}

/// "12.3 us, would be 4.5 us".
fn now_then(turns: &Turns, unit: &str) -> String {
    format!("{:.1} {unit}, would be {:.1} {unit}", quiet(&turns.now), quiet(&turns.then))
}

fn flushes(site: &Site, advice: &mut Advice) -> Result<()> {
    // A file server's promise is a matter of its export (`network::exports`).
    if site.mount.is_nfs() {
        return Ok(());
    }
    let truth = FlushTruth::test(&Blocking::new(), site.scratch.path())?;
    let off = site.mount.has("nobarrier") || site.mount.value("barrier") == Some("0");
    let through = site.device.as_ref().is_some_and(|d| d.write_cache == "write through");
    if off && !through {
        let title = "the mount has barriers off: syncs do not reach the medium".to_owned();
        advice.findings.push(Finding {
            number: truth.reason.clone(),
            reason: "without barriers fsync leaves data in the device's cache".to_owned(),
            risk: "none for mail; syncs take as long as the device needs".to_owned(),
            command: site.remount("barrier=1"),
            fstab: site.mount.fstab_line(&["nobarrier", "barrier"], &[]),
            ..site.finding("nobarrier", Weight::Danger, title)
        });
        return Ok(());
    }
    match truth.verdict {
        Verdict::Lies => {
            let title = "syncs return before anything reached the medium".to_owned();
            advice.findings.push(Finding {
                number: truth.reason,
                reason: "a layer below answers flushes without doing them".to_owned(),
                risk: "with honest flushes each sync takes longer".to_owned(),
                command: "look at the controller's and the hypervisor's cache mode (writethrough, \
                          or a cache with a battery)"
                    .to_owned(),
                ..site.finding("flush-lies", Weight::Danger, title)
            });
        }
        _ => site.note(advice, &format!("flushes: {}", truth.reason)),
    }
    Ok(())
}

/// Space and inodes for the deliveries to come.
fn room(site: &Site, advice: &mut Advice) -> Result<()> {
    let facts = statvfs(&site.path)?;
    let share = |free: u64, all: u64| free as f64 / all.max(1) as f64;
    for (what, free, all) in
        [("bytes", facts.f_bavail, facts.f_blocks), ("inodes", facts.f_favail, facts.f_files)]
    {
        if all > 0 && share(free, all) < FREE_MIN {
            let title = format!("{:.1} % of the {what} are free", 100.0 * share(free, all));
            advice.findings.push(Finding {
                number: format!(
                    "{free} of {all} {}",
                    if what == "bytes" { "blocks" } else { what }
                ),
                reason: "deliveries fail when none are left".to_owned(),
                risk: "none".to_owned(),
                command: "move mailboxes away, or enlarge the filesystem".to_owned(),
                ..site.finding("full", Weight::Danger, title)
            });
        }
    }
    Ok(())
}

fn statvfs(path: &Path) -> Result<rustix::fs::StatVfs> {
    rustix::fs::statvfs(path).map_err(|errno| Error::io("look at", path)(errno.into()))
}

fn access_times(site: &Site, advice: &mut Advice) -> Result<()> {
    // NFS servers keep access times by their own mounts.
    if site.mount.is_nfs() || site.device.is_none() {
        return Ok(());
    }
    let (turns, written) = match probe::access_times(site.scratch.path(), &site.mount) {
        Err(Error::Io { error, .. }) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            site.note(advice, "access times: O_NOATIME is refused here");
            return Ok(());
        }
        other => other?,
    };
    let what = "processor time of reading a message";
    site.weigh(advice, "atime-processor", what, "us", &turns);
    let factor = quiet(&turns.now) / quiet(&turns.then).max(1e-3);
    let mode = ["noatime", "relatime"].into_iter().find(|mode| site.mount.has(mode));
    // Bytes are counted, not timed: whatever else the machine does, they say whether it matters.
    let written = written.unwrap_or(0.0);
    let then = if mode.is_some() { written } else { 0.0 };
    advice.measured.push(Measurement {
        id: "atime".to_owned(),
        what: "bytes that the device writes for a message that is read".to_owned(),
        unit: "bytes".to_owned(),
        now: written,
        then,
    });
    if mode.is_none() && (written >= 1.0 || factor >= FACTOR_MIN) {
        let title = "every reading writes an access time (strictatime)".to_owned();
        advice.findings.push(Finding {
            number: format!(
                "{written:.0} bytes written for a message that is read, would be 0; processor time: {}",
                now_then(&turns, "us")
            ),
            reason: "no mail software of today needs access times of message files".to_owned(),
            risk: "programs that compare access and modification times of mbox files (old biff, \
                   mutt's new-mail test) see no news"
                .to_owned(),
            command: site.remount("noatime"),
            fstab: site.mount.fstab_line(&["strictatime", "relatime"], &["noatime"]),
            ..site.finding("strictatime", Weight::Cost(factor.max(1.0)), title)
        });
        return Ok(());
    }
    let mode = mode.unwrap_or("strictatime");
    let text = format!(
        "access times ({mode}): {written:.0} bytes written for a message that is read again; {}",
        now_then(&turns, "us")
    );
    site.note(advice, &text);
    Ok(())
}

fn synchronous(site: &Site, advice: &mut Advice) -> Result<()> {
    if site.device.is_none() && !site.mount.is_nfs() {
        return Ok(());
    }
    let on = ["sync", "dirsync"].into_iter().find(|option| site.mount.has(option));
    let fresh = match on {
        Some(_) => like::fresh(&site.mount, statvfs(&site.path)?.f_bsize)?,
        None => None,
    };
    let other = on.filter(|_| fresh.is_none()).and_then(|_| like::without_sync(&site.mount));
    let like = fresh.as_ref().map(like::Fresh::path).or(other.as_ref().map(Scratch::path));
    let turns = probe::unsynced_changes(site.scratch.path(), like)?;
    let what = "writing, renaming and removing a file that nobody syncs";
    let factor = site.weigh(advice, "sync", what, "us", &turns);
    let Some(option) = on else {
        site.note(advice, &format!("changes without a sync: {:.0} us", quiet(&turns.now)));
        return Ok(());
    };
    let Some(factor) = factor else { return Ok(()) };
    let title = format!("the mount is synchronous ({option})");
    advice.findings.push(Finding {
        number: format!("a file written, renamed and removed: {}", now_then(&turns, "us")),
        reason: "every write and rename waits for the device, although the store syncs what must \
                 be durable by itself"
            .to_owned(),
        risk: "delivery agents that do not sync lose mail in a power cut".to_owned(),
        command: site.remount(if option == "sync" { "async" } else { "nodirsync" }),
        fstab: site.mount.fstab_line(&["sync", "dirsync"], &[]),
        ..site.finding("sync", Weight::Cost(factor), title)
    });
    Ok(())
}

fn data_journal(site: &Site, advice: &mut Advice) -> Result<()> {
    if !site.mount.is_ext() {
        return Ok(());
    }
    let Some(now) = probe::bytes_written_per_byte(site.scratch.path(), &site.mount)? else {
        return Ok(());
    };
    let journalled = site.mount.value("data") == Some("journal");
    // Each byte goes to the journal, more than once where a commit comes between, and to its place;
    // in the other modes to its place alone.
    let (then, told) = if journalled { ordered_bytes(site, now)? } else { (now, String::new()) };
    advice.measured.push(Measurement {
        id: "written".to_owned(),
        what: "bytes that the device writes for a byte of mail".to_owned(),
        unit: "bytes".to_owned(),
        now,
        then,
    });
    if !journalled || now / then < FACTOR_MIN {
        site.note(advice, &format!("a byte of mail is {now:.2} bytes on the device"));
        return Ok(());
    }
    let title = "mail is written twice (data=journal)".to_owned();
    advice.findings.push(Finding {
        number: format!("{now:.2} bytes written for a byte of mail, would be {told}"),
        reason: "the journal holds data too; the store's promises need it no more than \
                 data=ordered, the cheapest mode that shows no old bytes after a crash"
            .to_owned(),
        risk: "on one slow disk with many small synced writes data=journal may answer sooner, \
               until the journal is full: compare with cursus-fstests matrix"
            .to_owned(),
        command: format!(
            "umount {at} && mount -o data=ordered {source} {at} (tune2fs -o ^journal_data {source} \
             if the superblock asks for it)",
            at = site.mount.at.display(),
            source = site.mount.source
        ),
        // The other two come with data=journal by themselves.
        fstab: site
            .mount
            .fstab_line(&["data", "nodioread_nolock", "nodelalloc"], &["data=ordered"]),
        ..site.finding("data-journal", Weight::Cost(now / then), title)
    });
    Ok(())
}

/// What a byte of mail would be with data=ordered, and in words: measured on a fresh filesystem of
/// the same kind where one can be made, otherwise said to be an estimate.
fn ordered_bytes(site: &Site, now: f64) -> Result<(f64, String)> {
    let block_bytes = statvfs(&site.path)?.f_bsize;
    if let Some(fresh) = like::fresh(&site.mount, block_bytes)?
        && let Some(then) = probe::bytes_written_per_byte(fresh.path(), &Mount::of(fresh.path())?)?
    {
        let told = format!("{then:.2}, measured on a fresh {}", site.mount.filesystem);
        return Ok((then.min(now), told));
    }
    let told =
        format!("{ORDERED_RANGE}: an estimate from other machines' runs, root can measure it");
    Ok((now.min(ORDERED_BYTES), told))
}

fn dir_index(site: &Site, advice: &mut Advice) -> Result<()> {
    if !site.mount.is_ext() {
        return Ok(());
    }
    let source = Path::new(&site.mount.source);
    let ext = Ext::read(source);
    let (large, bytes) = probe::largest_directory(&site.path, &site.mount);
    if bytes < LARGE_DIRECTORY_BYTES {
        let indexed = match &ext {
            Ok(ext) if ext.dir_index => "directories are indexed",
            Ok(_) => "directories have no index, and none is large",
            Err(_) => "the superblock may not be read (dir_index not known); no directory is large",
        };
        site.note(advice, indexed);
        return Ok(());
    }
    let turns = probe::lookups(&large, site.scratch.path())?;
    let what = "looking for a name in the largest directory";
    let factor = site.weigh(advice, "lookup", what, "us", &turns);
    let text = format!("a name in {} ({bytes} bytes): {}", large.display(), now_then(&turns, "us"));
    match (factor, ext) {
        (Some(factor), Ok(ext)) if !ext.dir_index => {
            let title = "directories have no index, and some are large".to_owned();
            let (at, source) = (site.mount.at.display(), source.display());
            advice.findings.push(Finding {
                number: text,
                reason: "every delivery and every look for a file reads the whole directory"
                    .to_owned(),
                risk: "the filesystem is unmounted meanwhile; take a backup before e2fsck"
                    .to_owned(),
                command: format!(
                    "umount {at} && tune2fs -O dir_index {source} && e2fsck -fyD {source} && \
                     mount {at}"
                ),
                ..site.finding("dir-index", Weight::Cost(factor), title)
            });
        }
        (Some(factor), Err(error)) if factor > 10.0 => {
            let title = "names are found slowly in large directories".to_owned();
            advice.findings.push(Finding {
                number: text,
                reason: format!(
                    "perhaps without dir_index; the superblock cannot be read: {error}"
                ),
                risk: "none".to_owned(),
                command: format!("as root: dumpe2fs -h {} | grep dir_index", source.display()),
                ..site.finding("dir-index", Weight::Cost(factor), title)
            });
        }
        _ => site.note(advice, &text),
    }
    Ok(())
}

/// Fewer inodes than messages that would fit.
fn inodes(site: &Site, advice: &mut Advice) -> Result<()> {
    let facts = statvfs(&site.path)?;
    if facts.f_files == 0 || site.mount.is_nfs() || site.device.is_none() {
        return Ok(());
    }
    let by_space = facts.f_bavail * facts.f_frsize / MESSAGE_BYTES;
    let by_inodes = facts.f_favail;
    let factor = by_space as f64 / by_inodes.max(1) as f64;
    let fit = |messages: u64| messages.min(by_space) as f64;
    advice.measured.push(Measurement {
        id: "inodes".to_owned(),
        what: "messages that still fit".to_owned(),
        unit: "messages".to_owned(),
        now: fit(by_inodes),
        then: fit(if factor < FACTOR_MIN { by_inodes } else { by_space }),
    });
    if factor < FACTOR_MIN {
        site.note(advice, &format!("inodes for {by_inodes} messages, space for {by_space}"));
        return Ok(());
    }
    let title = "inodes run out before space".to_owned();
    let source = &site.mount.source;
    let command = match site.mount.filesystem.as_str() {
        "xfs" => format!("xfs_growfs -m 50 {}", site.mount.at.display()),
        _ => format!(
            "mkfs.{} -i 8192 {source} (a new filesystem: move the mail away before)",
            site.mount.filesystem
        ),
    };
    advice.findings.push(Finding {
        number: format!(
            "inodes for {by_inodes} messages, space for {by_space} of {MESSAGE_BYTES} bytes"
        ),
        reason: "each message is a file; the share of space behind the last inode is lost"
            .to_owned(),
        risk: "the number is fixed when the filesystem is made".to_owned(),
        command,
        ..site.finding("inodes", Weight::Cost(factor), title)
    });
    Ok(())
}

/// Parity below small synced writes.
fn raid(site: &Site, advice: &mut Advice) -> Result<()> {
    let Some(device) = site.device.as_ref().filter(|device| !device.raid_level.is_empty()) else {
        return Ok(());
    };
    let parity = matches!(device.raid_level.as_str(), "raid4" | "raid5" | "raid6");
    let told = Ext::read(Path::new(&site.mount.source)).is_ok_and(|ext| ext.stripe_blocks > 0);
    if parity && site.mount.is_ext() && !told && device.stripe_bytes > 0 {
        let now = probe::bytes_written_per_byte(site.scratch.path(), &site.mount)?.unwrap_or(1.0);
        let title = format!("{} is not told its stripe", site.mount.filesystem);
        advice.findings.push(Finding {
            number: format!("{now:.2} bytes written for a byte of mail above the array"),
            reason: format!(
                "{} reads old data and parity before it writes less than a stripe of {} bytes",
                device.raid_level, device.stripe_bytes
            ),
            risk: "none; it is a hint for where new data goes".to_owned(),
            command: format!(
                "tune2fs -E stripe_width={} {}",
                device.stripe_bytes / 4096,
                site.mount.source
            ),
            ..site.finding("raid-stripe", Weight::Cost(FACTOR_MIN), title)
        });
    }
    let level = &device.raid_level;
    let text = match parity {
        true => format!(
            "{level}: small synced writes read before they write; put the log on RAID 1 or 10"
        ),
        false => format!("{level}: small synced writes cost no reading before"),
    };
    site.note(advice, &text);
    Ok(())
}
