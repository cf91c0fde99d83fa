//! Loops that read: lists, stats, messages, walks.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::io::{HelperPool, Kind, Lane, Storage};
use engine::layout::Location;

use super::{Bench, Measured, cold, side_by_side};
use crate::error::{Error, Result};
use crate::stats::Samples;
use crate::stop;

/// Listings of one measurement: each is about a whole folder.
const WHOLE_FOLDERS: usize = 5;
/// Messages of a folder that is listed once only.
const LISTED_ONCE: u64 = 100_000;
/// Different messages that one storm of stats is about, at most.
const STORM_MAX: usize = 20_000;

thread_local! {
    /// The buffer of a reader; its growth is not what is measured.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn list(bench: &Bench<'_>) -> Result<Measured> {
    let messages = bench.folder.list()?.len() as u64;
    let count = if messages < LISTED_ONCE { WHOLE_FOLDERS } else { 1 };
    let mut measured = side_by_side(count, 1, bench.limit, |_| bench.folder.list().map(drop))?;
    measured.units *= messages;
    measured.notes.push("the rate counts messages, the latency whole listings".to_owned());
    Ok(measured)
}

/// The messages in an order that a seed decides, `count` of them, from the start again as needed.
fn shuffled(bench: &Bench<'_>, random: bool) -> Result<Vec<Location>> {
    let mut all = bench.folder.list()?;
    all.sort_by(|a, b| a.base.cmp(&b.base));
    if random {
        fastrand::Rng::with_seed(bench.seed).shuffle(&mut all);
    }
    Ok(all)
}

pub(super) fn stat_storm(bench: &Bench<'_>) -> Result<Measured> {
    let all = shuffled(bench, true)?;
    let storage = bench.folder.storage();
    let paths: Vec<_> = all.iter().take(STORM_MAX).map(|at| bench.folder.path(at)).collect();
    side_by_side(bench.operations.max(paths.len()), 1, bench.limit, |n| {
        let path = &paths[n % paths.len()];
        storage.stat(path).map(drop).map_err(Error::io("look at", path))
    })
}

/// Looks for names that are not there.
pub(super) fn missing(bench: &Bench<'_>) -> Result<Measured> {
    side_by_side(bench.operations, 1, bench.limit, |_| bench.folder.miss())
}

pub(super) fn messages(bench: &Bench<'_>, random: bool, cold: bool) -> Result<Measured> {
    let all = shuffled(bench, random)?;
    let read = |at: &Location| BUFFER.with_borrow_mut(|buffer| bench.folder.read(at, buffer));
    let (cache, count) = if cold {
        // What was read once is warm: no message twice.
        let cache = cold::make(all.iter().map(|at| bench.folder.path(at)))?;
        (cache, bench.operations.min(all.len()))
    } else {
        for at in all.iter().take(bench.operations) {
            stop::check()?;
            read(at)?;
        }
        ("warm", bench.operations)
    };
    let concurrency = if cold { bench.concurrency } else { 1 };
    let mut measured =
        side_by_side(count, concurrency, bench.limit, |n| read(&all[n % all.len()]))?;
    measured.cache = cache;
    Ok(measured)
}

/// Cold random reads through the ring that a session core has, at depth.
pub(super) fn ring(bench: &Bench<'_>) -> Result<Measured> {
    let all = shuffled(bench, true)?;
    let paths: Vec<_> = all.iter().map(|at| bench.folder.path(at)).collect();
    let count = bench.operations.min(paths.len());
    let cache = cold::make(paths.iter().cloned())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("start a runtime for", bench.dir))?;
    let local = tokio::task::LocalSet::new();
    let began = Instant::now();
    let samples = local.block_on(&runtime, async {
        let pool = HelperPool::new(4);
        let lane = Lane::ring(pool).map_err(Error::io("use io_uring on", bench.dir))?;
        let next = std::rc::Rc::new(std::cell::Cell::new(0));
        let paths = std::rc::Rc::new(paths);
        let limit = bench.limit;
        let tasks: Vec<_> = (0..bench.concurrency.max(1))
            .map(|_| {
                let (lane, next, paths) = (lane.clone(), next.clone(), paths.clone());
                tokio::task::spawn_local(async move {
                    let mut samples = Samples::default();
                    while next.get() < count && began.elapsed() < limit {
                        stop::check()?;
                        let path = &paths[next.replace(next.get() + 1)];
                        let before = Instant::now();
                        read_by_lane(&lane, path).await.map_err(Error::io("read", path))?;
                        samples.push(before.elapsed());
                    }
                    Ok::<_, Error>(samples)
                })
            })
            .collect();
        let mut samples = Samples::default();
        for task in tasks {
            let ended = task.await.map_err(|e| Error::Usage(format!("a reader ended: {e}")))?;
            samples.merge(ended?);
        }
        Ok::<_, Error>(samples)
    })?;
    let elapsed: Duration = began.elapsed();
    let units = samples.count() as u64;
    Ok(Measured { samples, units, elapsed, cache, ..Measured::default() })
}

async fn read_by_lane(lane: &Lane, path: &Path) -> std::io::Result<()> {
    let file = lane.open(path).await?;
    let size = file.size()?;
    lane.read(&file, 0, size as usize).await.map(drop)
}

pub(super) fn backup_walk(bench: &Bench<'_>) -> Result<Measured> {
    let storage = bench.folder.storage();
    let cache = cold::make(bench.folder.list()?.iter().map(|at| bench.folder.path(at)))?;
    let mut files = 0;
    // Once: a second walk is not cold.
    let began = Instant::now();
    let mut samples = Samples::default();
    let mut dirs = vec![bench.folder.dir().to_owned()];
    while let Some(dir) = dirs.pop() {
        stop::check()?;
        let mut entries = Vec::new();
        storage
            .list(&dir, &mut |name, kind| entries.push((name.to_vec(), kind)))
            .map_err(Error::io("list", &dir))?;
        for (name, kind) in entries {
            let path = dir.join(OsStr::from_bytes(&name));
            if kind == Kind::Directory {
                dirs.push(path);
                continue;
            }
            if began.elapsed() > bench.limit {
                continue;
            }
            let before = Instant::now();
            copy_of(&**storage, &path).map_err(Error::io("read", &path))?;
            samples.push(before.elapsed());
            files += 1;
        }
    }
    let elapsed = began.elapsed();
    Ok(Measured { samples, units: files, elapsed, cache, ..Measured::default() })
}

/// What a backup does with a file, but for the writing.
fn copy_of(storage: &dyn Storage, path: &Path) -> std::io::Result<()> {
    storage.stat(path)?;
    let file = storage.open(path, engine::io::Open::Read)?;
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(file.size()? as usize, 0);
        file.read_exact_at(buffer, 0)
    })
}
