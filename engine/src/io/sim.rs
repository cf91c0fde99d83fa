//! A filesystem in memory for tests: a live and a durable image, faults and power cuts from a
//! seed.
//!
//! Invariants: the same calls with the same seeds give the same results; [`Sim::crash`] leaves
//! only states that a real filesystem could leave in the chosen [`Mode`]; handles opened before a
//! crash fail ever after. Operations are counted from 1 where they change or sync something;
//! reads are not counted. Clock and random numbers come from the seed, too.
//!
//! [`Sim::record`] keeps an [`Image`] of the disk at each operation, from any of which another
//! simulated machine can start ([`Image::after_cut`]): images share what they have in common, so
//! one run of a workload gives as many power cuts as it has operations.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

mod contents;
mod directory;
mod disk;
mod file;
mod storage;

use disk::{Change, Disk, Inode, ROOT, Random, mix};

/// Operations that share one tick of the simulated clock: real ones are as coarse.
const OPERATIONS_PER_TICK: u64 = 4;
/// Length of a tick.
const TICK_NS: i64 = 4_000_000;
/// The simulated clock's first second.
const EPOCH_SECONDS: i64 = 1_700_000_000;

/// Symbolic links on one path at most.
const LINKS_MAX: u32 = 40;

/// What a power cut does to unsynced names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A prefix of the directory operations survives, and the sync of a file makes its names
    /// durable: ext4, xfs, btrfs.
    Ordered,
    /// Any subset survives; only `sync_dir` and `sync_filesystem` make names durable: POSIX.
    Weak,
    /// As [`Mode::Weak`], and the two names of a renamed file survive each for itself: ext2.
    NoJournal,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`. A failed sync saves some of the pending bytes and forgets the others, and the next
    /// sync succeeds.
    Io,
    /// `ENOSPC`.
    NoSpace,
    /// `EDQUOT`.
    Quota,
    /// Half of a write happens, then `ENOSPC`.
    ShortWrite,
}

/// The simulated filesystem. Clones are handles to the same one.
#[derive(Clone)]
pub struct Sim {
    state: Arc<Mutex<State>>,
}

/// A directory, and a name in it.
type Place = (Inode, Arc<[u8]>);

struct State {
    disk: Disk,
    random: Random,
    list_seed: u64,
    /// Rises with every crash; handles carry theirs.
    boot: u64,
    operations: u64,
    /// Seconds since 1970 when the clock began.
    clock: i64,
    /// Operations before the last crash: time goes on.
    operations_before: u64,
    stop_at: Option<u64>,
    stopped: bool,
    faults: HashMap<u64, Fault>,
    syncfs: bool,
    locks: HashSet<Inode>,
    /// Nanoseconds that [`Sim::advance`] added.
    advanced_ns: i64,
    mark: u64,
    images: Option<Vec<Image>>,
}

/// The disk of one moment, unsynced changes included.
#[derive(Clone)]
pub struct Image {
    disk: Disk,
    list_seed: u64,
    clock_ns: i64,
    syncfs: bool,
    operation: u64,
    mark: u64,
}

impl Image {
    /// The operation that was about to happen (a durable write: had begun), see
    /// [`Sim::operations`].
    pub fn operation(&self) -> u64 {
        self.operation
    }

    /// What [`Sim::set_mark`] had said last.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// A machine that starts with what a power cut at this moment leaves, by `seed`; and a
    /// number that differs where chance left something else.
    pub fn after_cut(&self, seed: u64) -> (Sim, u64) {
        let mut disk = self.disk.clone();
        let left = disk.crash(&mut Random(seed));
        let state = State {
            disk,
            random: Random(mix(seed ^ left)),
            list_seed: self.list_seed,
            boot: 0,
            operations: 0,
            clock: self.clock_ns / 1_000_000_000,
            operations_before: 0,
            stop_at: None,
            stopped: false,
            faults: HashMap::new(),
            syncfs: self.syncfs,
            locks: HashSet::new(),
            advanced_ns: self.clock_ns % 1_000_000_000 + TICK_NS,
            mark: 0,
            images: None,
        };
        (Sim { state: Arc::new(Mutex::new(state)) }, left)
    }
}

/// The marker that every call gets after a power cut and before [`Sim::crash`].
#[derive(Debug, thiserror::Error)]
#[error("the simulated power is cut")]
struct PowerCut;

/// What became of an operation that was counted.
#[derive(PartialEq, Eq)]
enum Fate {
    Happens,
    /// The power goes while it runs: it is begun, unsynced.
    Cut,
    Fails(Fault),
}

fn cut() -> io::Error {
    io::Error::other(PowerCut)
}

fn raw(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Fault {
    fn error(self) -> io::Error {
        raw(match self {
            Fault::Io => libc::EIO,
            Fault::NoSpace | Fault::ShortWrite => libc::ENOSPC,
            Fault::Quota => libc::EDQUOT,
        })
    }
}

impl Sim {
    /// An empty filesystem in [`Mode::Ordered`].
    pub fn new(seed: u64) -> Sim {
        Sim::with_mode(seed, Mode::Ordered)
    }

    /// An empty filesystem.
    pub fn with_mode(seed: u64, mode: Mode) -> Sim {
        let state = State {
            disk: Disk::new(mode),
            random: Random(seed),
            list_seed: mix(seed),
            boot: 0,
            operations: 0,
            clock: EPOCH_SECONDS,
            operations_before: 0,
            stop_at: None,
            stopped: false,
            faults: HashMap::new(),
            syncfs: true,
            locks: HashSet::new(),
            advanced_ns: 0,
            mark: 0,
            images: None,
        };
        Sim { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets time pass.
    pub fn advance(&self, ns: i64) {
        self.state.lock().advanced_ns += ns;
    }

    /// From here on an image is kept of every operation, or no more.
    pub fn record(&self, on: bool) {
        self.state.lock().images = on.then(Vec::new);
    }

    /// What images kept from here on say of their moment.
    pub fn set_mark(&self, mark: u64) {
        self.state.lock().mark = mark;
    }

    /// The images kept since the last call, oldest first.
    pub fn take_images(&self) -> Vec<Image> {
        self.state.lock().images.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The disk as it is now.
    pub fn image(&self) -> Image {
        self.state.lock().image()
    }

    /// Whether `sync_filesystem` works; else it is `Unsupported`.
    pub fn set_syncfs(&self, works: bool) {
        self.state.lock().syncfs = works;
    }

    /// Sets the clock, seconds since 1970: file times then fit those of the process.
    pub fn set_clock(&self, seconds: i64) {
        self.state.lock().clock = seconds;
    }

    /// Operations counted since the start or the last crash.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Cuts the power at operation `n`: it and all later calls fail, see [`is_power_cut`].
    pub fn stop_at(&self, n: u64) {
        self.state.lock().stop_at = Some(n);
    }

    /// Whether the power is cut.
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Makes operation `n` fail.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        self.state.lock().faults.insert(n, fault);
    }

    /// Cuts the power, if it is not, and starts again with what was durable plus some of the
    /// rest, by `seed`. Faults and stops are forgotten, operations count from 1 again.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state.lock();
        state.disk.crash(&mut Random(seed));
        state.disk.drop_unreachable();
        state.boot += 1;
        state.operations_before += state.operations;
        state.operations = 0;
        state.stop_at = None;
        state.stopped = false;
        state.faults.clear();
        state.locks.clear();
    }
}

/// Whether an error is that of a simulated power cut.
pub fn is_power_cut(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<PowerCut>())
}

impl State {
    fn image(&self) -> Image {
        Image {
            disk: self.disk.clone(),
            list_seed: self.list_seed,
            clock_ns: self.now_ns(),
            syncfs: self.syncfs,
            operation: self.operations + 1,
            mark: self.mark,
        }
    }

    fn count(&mut self) -> io::Result<Fate> {
        self.check()?;
        if let Some(mut images) = self.images.take() {
            images.push(self.image());
            self.images = Some(images);
        }
        self.operations += 1;
        if self.stop_at.is_some_and(|n| self.operations >= n) {
            self.stopped = true;
            return Ok(Fate::Cut);
        }
        Ok(self.faults.remove(&self.operations).map_or(Fate::Happens, Fate::Fails))
    }

    fn check(&self) -> io::Result<()> {
        if self.stopped { Err(cut()) } else { Ok(()) }
    }

    fn now_ns(&self) -> i64 {
        let operations = self.operations_before + self.operations;
        let ticks = (operations / OPERATIONS_PER_TICK) as i64;
        self.clock * 1_000_000_000 + self.advanced_ns + ticks * TICK_NS
    }

    /// What a path leads to: symbolic links, which are absolute here, are followed.
    fn lookup(&self, path: &Path) -> io::Result<Inode> {
        let mut links = 0;
        let mut left: Vec<OsString> = names(path)?.into_iter().rev().map(OsString::from).collect();
        let mut inode = ROOT;
        while let Some(name) = left.pop() {
            let dir = self.disk.dir(inode).ok_or_else(|| raw(libc::ENOTDIR))?;
            inode = *dir.live.get(name.as_bytes()).ok_or_else(|| raw(libc::ENOENT))?;
            if let Some(target) = self.disk.link(inode) {
                links += 1;
                if links > LINKS_MAX {
                    return Err(raw(libc::ELOOP));
                }
                left.extend(names(target)?.into_iter().rev().map(OsString::from));
                inode = ROOT;
            }
        }
        Ok(inode)
    }

    /// The directory that holds a path's last name, and that name.
    fn parent(&self, path: &Path) -> io::Result<Place> {
        let name = names(path)?.pop().ok_or_else(|| raw(libc::EBUSY))?;
        if name.len() > 255 {
            return Err(raw(libc::ENAMETOOLONG));
        }
        let dir = match path.parent() {
            Some(parent) => self.lookup(parent)?,
            None => ROOT,
        };
        self.disk.dir(dir).ok_or_else(|| raw(libc::ENOTDIR))?;
        Ok((dir, name.as_bytes().into()))
    }

    fn entry(&self, dir: Inode, name: &[u8]) -> Option<Inode> {
        self.disk.dir(dir)?.live.get(name).copied()
    }

    fn is_dir(&self, inode: Inode) -> bool {
        self.disk.dir(inode).is_some()
    }

    /// Counts and makes a directory operation.
    fn change(&mut self, changes: Vec<Change>) -> io::Result<()> {
        let fate = self.count()?;
        if let Fate::Fails(fault) = fate {
            return Err(fault.error());
        }
        let now = self.now_ns();
        self.disk.change_names(changes, now);
        if fate == Fate::Cut { Err(cut()) } else { Ok(()) }
    }

    fn rename(&mut self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        self.check()?;
        let (from_at, to_at) = (self.parent(from)?, self.parent(to)?);
        if to != from && to.starts_with(from) {
            return Err(raw(libc::EINVAL));
        }
        self.rename_at(from_at, to_at, replace)
    }

    fn rename_at(&mut self, from: Place, to: Place, replace: bool) -> io::Result<()> {
        let ((from_dir, from_name), (to_dir, to_name)) = (from, to);
        let inode = self.entry(from_dir, &from_name).ok_or_else(|| raw(libc::ENOENT))?;
        if let Some(target) = self.entry(to_dir, &to_name) {
            if !replace {
                return Err(raw(libc::EEXIST));
            }
            if target == inode {
                return Ok(());
            }
            match (self.is_dir(inode), self.disk.dir(target)) {
                (true, None) => return Err(raw(libc::ENOTDIR)),
                (false, Some(_)) => return Err(raw(libc::EISDIR)),
                (true, Some(dir)) if !dir.live.is_empty() => return Err(raw(libc::ENOTEMPTY)),
                _ => {}
            }
        }
        let old = Change { dir: from_dir, name: from_name, to: None };
        let new = Change { dir: to_dir, name: to_name, to: Some(inode) };
        if self.disk.mode() == Mode::NoJournal && !self.is_dir(inode) {
            self.change(vec![new])?;
            return self.change(vec![old]);
        }
        self.change(vec![old, new])
    }

    fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.check()?;
        let (dir, name) = match names(path)?.is_empty() {
            true => return Err(raw(libc::EEXIST)),
            false => self.parent(path)?,
        };
        if self.entry(dir, &name).is_some() {
            return Err(raw(libc::EEXIST));
        }
        let now = self.now_ns();
        let inode = self.disk.add_dir(now);
        self.change(vec![Change { dir, name, to: Some(inode) }])
    }
}

fn names(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(raw(libc::EINVAL)),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
