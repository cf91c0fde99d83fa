//! Short measurements in a scratch directory: a few seconds, a few mebibytes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};

use crate::error::{Error, Result};
use crate::facts::{Counters, Mount};
use crate::stats::Spread;
use crate::stop;

/// Files that are read for access times.
const READ_FILES: usize = 400;
/// Bytes of each.
const READ_BYTES: usize = 4096;
/// Turns of each of two ways.
const TURNS: usize = 9;
/// Changes without a sync.
const CHANGES: usize = 90;
/// Bytes that are written to see how often a byte goes to the device.
const WRITTEN_BYTES: usize = 16 << 20;
/// Bytes of each file of these.
const WRITTEN_FILE_BYTES: usize = 256 << 10;
/// Names that are looked for in a large directory.
const LOOKUPS: usize = 100;
/// Entries of a large directory that are read before it is measured.
const ENTRIES_WARM: usize = 1_000_000;
/// Names in the small directory that it is compared with.
const SMALL_DIRECTORY: usize = 100;

/// Two ways of doing one thing, a figure a turn.
pub(super) struct Turns {
    pub(super) now: Vec<f64>,
    pub(super) then: Vec<f64>,
}

/// What some turns took without what other programs added: the upper end of the fastest quarter.
pub(super) fn quiet(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(values.len() / 4).copied().unwrap_or(0.0)
}

impl Turns {
    /// How much dearer it is now, if that is more than noise: of all pairs of a turn as it is and
    /// one as it would be, at least four of five say so. (Of nine turns each, chance says so 2
    /// times of 100.)
    pub(super) fn factor(&self) -> Option<f64> {
        let pairs = self.now.iter().flat_map(|now| self.then.iter().map(move |then| now > then));
        let dearer = pairs.filter(|dearer| *dearer).count();
        let (now, then) = (quiet(&self.now), quiet(&self.then));
        let clear = dearer * 5 >= self.now.len() * self.then.len() * 4;
        (clear && then > 0.0).then(|| now / then)
    }
}

fn sync(dir: &Path) -> Result<()> {
    let file = File::open(dir).map_err(Error::io("open", dir))?;
    rustix::fs::syncfs(&file).map_err(|errno| Error::io("sync", dir)(errno.into()))
}

/// Readings of small files, as they are and with `O_NOATIME`: microseconds of processor time a file,
/// as others' work delays wall time by more than an access time costs; and the bytes that the device
/// wrote for each file read as they are.
pub(super) fn access_times(scratch: &Path, mount: &Mount) -> Result<(Turns, Option<f64>)> {
    let dir = scratch.join("access-times");
    fs::create_dir(&dir).map_err(Error::io("create", &dir))?;
    let paths: Vec<PathBuf> = (0..READ_FILES).map(|n| dir.join(n.to_string())).collect();
    for path in &paths {
        fs::write(path, [b'x'; READ_BYTES]).map_err(Error::io("write", path))?;
    }
    let read = |flags: OFlags| -> Result<f64> {
        stop::check()?;
        let began = processor_seconds();
        let mut buffer = [0; READ_BYTES];
        for path in &paths {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(flags.bits() as i32);
            let mut file = options.open(path).map_err(Error::io("open", path))?;
            file.read_exact(&mut buffer).map_err(Error::io("read", path))?;
        }
        let took = processor_seconds() - began;
        // The next turn does not pay for this one's times.
        sync(&dir)?;
        Ok(took * 1e6 / READ_FILES as f64)
    };
    let sectors = || Counters::of(mount).map(|counters| counters.sectors_written);
    // The first reading of a file is another matter (relatime); it is not what this is about.
    read(OFlags::empty())?;
    let mut turns = Turns { now: Vec::new(), then: Vec::new() };
    let mut written = Vec::new();
    for _ in 0..TURNS {
        let first = sectors();
        turns.now.push(read(OFlags::empty())?);
        let second = sectors();
        turns.then.push(read(OFlags::NOATIME)?);
        if let (Some(first), Some(second), Some(third)) = (first, second, sectors()) {
            let [now, then] = [second.saturating_sub(first), third.saturating_sub(second)]
                .map(|sectors| sectors as f64 * 512.0);
            written.push((now - then) / READ_FILES as f64);
        }
    }
    remove(&dir)?;
    // What the kernel writes at times of its own, such as inode tables of a new ext4, is in both ways'
    // turns; what comes late is in some only.
    let each = Spread::of(&written).map(|spread| spread.median.max(0.0));
    Ok((turns, each))
}

fn remove(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir).map_err(Error::io("remove", dir))
}

/// Processor time of this thread, seconds.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What changes take that nobody synced (write, rename, remove), in wall time; microseconds each.
/// Beside it stands, in turns, what they take in `like`, a directory on a filesystem of the same kind
/// that is mounted as this one would be; or, without one, their processor time here, which is more
/// than they take where nothing waits, as it has the work of the waiting in it.
pub(super) fn unsynced_changes(scratch: &Path, like: Option<&Path>) -> Result<Turns> {
    let dir = scratch.join("changes");
    fs::create_dir(&dir).map_err(Error::io("create", &dir))?;
    let turns = match like {
        None => waiting(CHANGES, || change_in(&dir)),
        Some(like) => in_turns(CHANGES, || change_in(&dir), || change_in(like)),
    };
    remove(&dir)?;
    turns
}

fn change_in(dir: &Path) -> Result<()> {
    let (old, new) = (dir.join("old"), dir.join("new"));
    let mut file = File::create_new(&old).map_err(Error::io("create", &old))?;
    for _ in 0..4 {
        file.write_all(&[b'x'; READ_BYTES]).map_err(Error::io("write", &old))?;
    }
    drop(file);
    fs::rename(&old, &new).map_err(Error::io("rename", &old))?;
    fs::remove_file(&new).map_err(Error::io("remove", &new))
}

/// Wall time of two steps, a turn of one and a turn of the other; microseconds each.
fn in_turns(
    count: usize,
    now: impl Fn() -> Result<()>,
    then: impl Fn() -> Result<()>,
) -> Result<Turns> {
    let turn = |step: &dyn Fn() -> Result<()>| -> Result<f64> {
        stop::check()?;
        let began = Instant::now();
        for _ in 0..count / TURNS {
            step()?;
        }
        Ok(began.elapsed().as_secs_f64() * 1e6 / (count / TURNS) as f64)
    };
    now()?;
    then()?;
    let mut turns = Turns { now: Vec::new(), then: Vec::new() };
    for _ in 0..TURNS {
        turns.now.push(turn(&now)?);
        turns.then.push(turn(&then)?);
    }
    Ok(turns)
}

/// What looking at a file that was looked at just now takes: wall time and processor time.
pub(super) fn repeated_stats(scratch: &Path) -> Result<Turns> {
    let path = scratch.join("looked-at");
    fs::write(&path, "x").map_err(Error::io("write", &path))?;
    let turns =
        waiting(CHANGES * 5, || fs::metadata(&path).map(drop).map_err(Error::io("look at", &path)));
    fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    turns
}

fn waiting(count: usize, step: impl Fn() -> Result<()>) -> Result<Turns> {
    step()?;
    let mut turns = Turns { now: Vec::new(), then: Vec::new() };
    for _ in 0..TURNS {
        stop::check()?;
        let (wall, processor) = (Instant::now(), processor_seconds());
        for _ in 0..count / TURNS {
            step()?;
        }
        let each = 1e6 / (count / TURNS) as f64;
        turns.now.push(wall.elapsed().as_secs_f64() * each);
        turns.then.push((processor_seconds() - processor) * each);
    }
    Ok(turns)
}

/// How many bytes the device writes for a byte of a synced message; absent where it does not count.
pub(super) fn bytes_written_per_byte(scratch: &Path, mount: &Mount) -> Result<Option<f64>> {
    let dir = scratch.join("written");
    fs::create_dir(&dir).map_err(Error::io("create", &dir))?;
    let count = || Counters::of(mount).map(|counters| counters.sectors_written);
    let data = vec![b'x'; WRITTEN_FILE_BYTES];
    let mut total = 0.0;
    let Some(before) = ({
        sync(&dir)?;
        count()
    }) else {
        return Ok(None);
    };
    for n in 0..WRITTEN_BYTES / WRITTEN_FILE_BYTES {
        stop::check()?;
        let path = dir.join(n.to_string());
        let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
        file.write_all(&data).map_err(Error::io("write", &path))?;
        file.sync_all().map_err(Error::io("sync", &path))?;
        total += data.len() as f64;
    }
    // What a journal holds goes to its place at the next writeback.
    sync(&dir)?;
    sync(&dir)?;
    let sectors = count().map(|after| after.saturating_sub(before));
    remove(&dir)?;
    Ok(sectors.map(|sectors| sectors as f64 * 512.0 / total))
}

/// Looks for names that are not there: in a directory that is there, which is not changed, and in a
/// small one of ours; microseconds each.
pub(super) fn lookups(large: &Path, scratch: &Path) -> Result<Turns> {
    let small = scratch.join("small");
    fs::create_dir(&small).map_err(Error::io("create", &small))?;
    for n in 0..SMALL_DIRECTORY {
        // Names as long as a Maildir's, so that its one block is as full as one of a large directory.
        let path = small.join(format!("1700000000.M{n}P1.mail,S=1000:2,S"));
        fs::write(&path, "").map_err(Error::io("create", &path))?;
    }
    // All of the large one into memory, as it is where mail arrives: an index leads each look to
    // another block, and the first reading of that is the disk's time.
    for entry in fs::read_dir(large).map_err(Error::io("list", large))?.take(ENTRIES_WARM) {
        entry.map_err(Error::io("list", large))?;
    }
    let mut number = 0u64;
    let mut look = |dir: &Path| -> Result<f64> {
        stop::check()?;
        let began = Instant::now();
        for _ in 0..LOOKUPS {
            // Another name each time: the kernel remembers what is not there.
            number += 1;
            let path = dir.join(format!(".cursus-no-such-{}-{number}", std::process::id()));
            match fs::symlink_metadata(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("look for", &path)(error)),
                Ok(_) => {}
            }
        }
        Ok(began.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64)
    };
    look(large)?;
    let mut turns = Turns { now: Vec::new(), then: Vec::new() };
    for _ in 0..TURNS {
        turns.now.push(look(large)?);
        turns.then.push(look(&small)?);
    }
    remove(&small)?;
    Ok(turns)
}

/// The directory with the largest entry of its own below `path`, on the same filesystem, as far as
/// a bounded walk finds it; with its bytes.
pub(super) fn largest_directory(path: &Path, mount: &Mount) -> (PathBuf, u64) {
    use std::os::unix::fs::MetadataExt;
    /// Directories that are looked at.
    const DIRECTORIES_MAX: usize = 20_000;
    /// Entries of one directory that are read in search of further ones.
    const ENTRIES_MAX: usize = 50_000;
    let device = fs::metadata(path).map(|facts| facts.dev()).unwrap_or_default();
    let mut best = (mount.at.clone(), 0);
    let mut queue = std::collections::VecDeque::from([path.to_owned()]);
    for _ in 0..DIRECTORIES_MAX {
        let Some(dir) = queue.pop_front() else { break };
        let Ok(facts) = fs::symlink_metadata(&dir) else { continue };
        if facts.dev() != device || stop::requested() {
            continue;
        }
        if facts.size() > best.1 {
            best = (dir.clone(), facts.size());
        }
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.take(ENTRIES_MAX).flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                queue.push_back(entry.path());
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_needs_most_pairs_on_one_side_and_looks_at_quiet_turns() {
        let then = vec![1.0, 1.1, 9.0, 1.0, 1.2, 1.0, 1.1, 7.0, 1.0];
        let now = vec![3.0, 50.0, 3.1, 3.0, 40.0, 3.2, 3.0, 3.1, 3.3];
        let factor = Turns { now: now.clone(), then: then.clone() }.factor().unwrap();
        assert!((2.7..3.2).contains(&factor), "{factor}");
        assert_eq!(Turns { now: then.clone(), then: now }.factor(), None);
        assert_eq!(Turns { now: then.clone(), then }.factor(), None);
        assert_eq!(Turns { now: vec![], then: vec![] }.factor(), None);
    }
}
