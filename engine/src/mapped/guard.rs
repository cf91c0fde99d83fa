//! Maps that survive the loss of their file's pages.
//!
//! A load from a map whose page cannot be had (the file was cut by somebody else, the disk gives
//! an error) raises SIGBUS. The handler here lays a page of zeros over the page and makes
//! the map's number odd; the load then gives zeros, which no checksum of ours accepts.
//!
//! Invariants:
//! - the map's number is odd before the first zero can be seen and moves on after the last one,
//!   so whoever finds it even and the same before and after its loads has loaded the file's bytes;
//! - the handler touches atomics that live for ever, and makes one system call: no locks, no
//!   memory, nothing that a thread may have been in the middle of;
//! - a fault outside our maps goes to whoever handled it before us.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};

use memmap2::Mmap;

/// Maps of one block of the table of ranges; further blocks are added when one is full.
const BLOCK_RANGES: usize = 1024;

/// An address range that a [`Guarded`] owns. `start` is 0 while it is free and [`TAKEN`] while it
/// is being filled in.
struct Range {
    start: AtomicUsize,
    end: AtomicUsize,
    /// Odd while pages are lost; moves on when the map is restored.
    state: AtomicUsize,
}

const TAKEN: usize = 1;

struct Block {
    ranges: [Range; BLOCK_RANGES],
    /// Leaked when made, never taken away.
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Block {
        Block {
            ranges: [const {
                Range {
                    start: AtomicUsize::new(0),
                    end: AtomicUsize::new(0),
                    state: AtomicUsize::new(0),
                }
            }; BLOCK_RANGES],
            next: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    fn next(&self) -> Option<&'static Block> {
        let next = self.next.load(Ordering::Acquire);
        // SAFETY: null, or a leaked `Block` that was whole when it was stored (Release below), is
        // shared from then on, and is never freed.
        unsafe { next.as_ref() }
    }

    /// The next block, made when there is none.
    fn next_or_new(&self) -> &'static Block {
        if let Some(next) = self.next() {
            return next;
        }
        let fresh = Box::into_raw(Box::new(Block::new()));
        let (was, into) = (std::ptr::null_mut(), Ordering::AcqRel);
        match self.next.compare_exchange(was, fresh, into, Ordering::Acquire) {
            // SAFETY: leaked just now and never freed.
            Ok(_) => unsafe { &*fresh },
            Err(other) => {
                // SAFETY: nobody else has seen `fresh`; it came from `Box::into_raw`.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: not null, since the exchange from null failed; leaked and never freed.
                unsafe { &*other }
            }
        }
    }
}

static RANGES: Block = Block::new();
static INSTALL: Once = Once::new();
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);
/// What handled SIGBUS before; leaked, null before [`install`].
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());

/// A read-only map whose lost pages read as zeros and are told of.
pub(crate) struct Guarded {
    map: Mmap,
    range: &'static Range,
    path: PathBuf,
    told: AtomicBool,
}

impl Guarded {
    /// Watches over a map of the file at `path`.
    pub(super) fn new(map: Mmap, path: &Path) -> Guarded {
        INSTALL.call_once(install);
        let start = map.as_ptr() as usize;
        let range = take_range(start, start + map.len());
        Guarded { map, range, path: path.to_owned(), told: AtomicBool::new(false) }
    }

    /// The number to compare with after loads; `None` when pages are lost. The first one to hear
    /// of it says so in the log.
    #[inline]
    pub(super) fn whole(&self) -> Option<usize> {
        let state = self.range.state.load(Ordering::Acquire);
        if state.is_multiple_of(2) {
            return Some(state);
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            let path = self.path.display();
            tracing::error!(%path, "pages of a mapped file are gone: cut short, or unreadable");
        }
        None
    }

    /// Whether all that was loaded since [`Guarded::whole`] gave `before` was the file's.
    #[inline]
    pub(super) fn still(&self, before: usize) -> bool {
        // What the caller loaded from the map comes before the look at the number.
        fence(Ordering::Acquire);
        self.range.state.load(Ordering::Acquire) == before
    }

    /// Lays the file over the map again, lost pages included, for everybody who has the map.
    /// `fresh` maps the same file, mended, with the same length.
    pub(super) fn restore(&self, fresh: Mmap) -> std::io::Result<()> {
        if fresh.len() != self.map.len() {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        let page = PAGE_BYTES.load(Ordering::Relaxed);
        let len = fresh.len().next_multiple_of(page);
        // SAFETY: `fresh` is a whole map of its own that begins at a page border; it moves onto
        // the pages of our map, which are ours alone and stay mapped at every moment. Loads of
        // other threads see the old or the new pages; both are readable, and `state` tells which.
        let moved = unsafe {
            libc::mremap(
                fresh.as_ptr() as *mut libc::c_void,
                len,
                len,
                libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                self.map.as_ptr() as *mut libc::c_void,
            )
        };
        if moved == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        // Its pages are ours now: nothing is left that it could unmap.
        std::mem::forget(fresh);
        self.told.store(false, Ordering::Relaxed);
        self.range.state.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl std::ops::Deref for Guarded {
    type Target = Mmap;
    fn deref(&self) -> &Mmap {
        &self.map
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Before the map goes, so that its addresses are never taken for ours afterwards.
        self.range.start.store(0, Ordering::Release);
    }
}

fn take_range(start: usize, end: usize) -> &'static Range {
    let mut block: &'static Block = &RANGES;
    loop {
        for range in &block.ranges {
            let taken = range.start.compare_exchange(0, TAKEN, Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                range.state.store(0, Ordering::Relaxed);
                range.end.store(end, Ordering::Release);
                range.start.store(start, Ordering::Release);
                return range;
            }
        }
        block = block.next_or_new();
    }
}

/// Finds the range of an address. Async-signal-safe. A range that is given to another map
/// meanwhile is recognised by its changed start; the range of the faulting thread's own map
/// cannot change, since that thread borrows the map.
fn range_of(address: usize) -> Option<&'static Range> {
    let mut block: Option<&'static Block> = Some(&RANGES);
    while let Some(here) = block {
        for range in &here.ranges {
            let start = range.start.load(Ordering::Acquire);
            if start <= TAKEN || address < start {
                continue;
            }
            let end = range.end.load(Ordering::Acquire);
            if address < end && range.start.load(Ordering::Acquire) == start {
                return Some(range);
            }
        }
        block = here.next();
    }
    None
}

fn install() {
    // SAFETY: `sysconf` reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if let Ok(page) = usize::try_from(page)
        && page.is_power_of_two()
    {
        PAGE_BYTES.store(page, Ordering::Relaxed);
    }
    // SAFETY: all zeros is a valid `sigaction`: default action, empty mask, no flags.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null action asks; `before` is a place for the answer.
    unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut before) };
    BEFORE.store(Box::into_raw(Box::new(before)), Ordering::Release);
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the form that SA_SIGINFO asks for, keeps to async-signal-safe
    // means, and what it reads (`BEFORE`, `RANGES`, `PAGE_BYTES`) is set and never freed.
    if unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::warn!(%error, "cannot watch over maps: a file cut short would end this process");
    }
}

extern "C" fn on_bus_error(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel gives a valid `siginfo_t` to an SA_SIGINFO handler; for SIGBUS that a
    // load raised, the address is the one that could not be had.
    let address = unsafe { (*info).si_addr() } as usize;
    if let Some(range) = range_of(address) {
        // Before the zeros can be seen.
        range.state.fetch_or(1, Ordering::SeqCst);
        let page = PAGE_BYTES.load(Ordering::Relaxed);
        // SAFETY: errno belongs to this thread.
        let errno = unsafe { *libc::__errno_location() };
        // SAFETY: the page lies in a map of ours (maps begin at a page border and the kernel maps
        // whole pages), which cannot go away while this thread is in a load from it. Other
        // threads see either their fault, which ends here as well, or zeros. `mmap` is a plain
        // system call.
        let laid = unsafe {
            libc::mmap(
                (address & !(page - 1)) as *mut libc::c_void,
                page,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
        if laid != libc::MAP_FAILED {
            return;
        }
    }
    pass_on(signal, info, context);
}

/// Not ours: to the handler before us, or to the default action, which ends the process.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: set before the handler was installed, leaked.
    let before = unsafe { BEFORE.load(Ordering::Acquire).as_ref() };
    let action = before.map_or(libc::SIG_DFL, |b| b.sa_sigaction);
    if action == libc::SIG_DFL || action == libc::SIG_IGN {
        // SAFETY: all zeros is the default action. The load is made again on return and meets it.
        unsafe {
            let default: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        return;
    }
    if before.is_some_and(|b| b.sa_flags & libc::SA_SIGINFO != 0) {
        // SAFETY: whoever installed it with SA_SIGINFO gave a function of this form.
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            unsafe { std::mem::transmute(action) };
        handler(signal, info, context);
    } else {
        // SAFETY: whoever installed it without SA_SIGINFO gave a function of this form.
        let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(action) };
        handler(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(path: &Path, bytes: usize) -> (std::fs::File, Guarded) {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![7; bytes], 0).unwrap();
        // SAFETY: the test alone touches the file, and means to.
        let map = unsafe { memmap2::MmapOptions::new().len(bytes).map(&file) }.unwrap();
        (file, Guarded::new(map, path))
    }

    fn load(map: &Guarded, at: usize) -> u8 {
        // SAFETY: inside the map; volatile, so that the load is made.
        unsafe { std::ptr::read_volatile(map.as_ptr().add(at)) }
    }

    #[test]
    fn lost_pages_read_as_zeros_on_every_thread_and_the_map_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (file, map) = mapped(&dir.path().join("cut"), 16 * 4096);
        let (_other, whole) = mapped(&dir.path().join("whole"), 4096);
        assert_eq!((load(&map, 9 * 4096), map.whole().is_none()), (7, false));
        file.set_len(4096).unwrap();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for page in 1..16 {
                        assert_eq!(load(&map, page * 4096 + 5), 0);
                        assert!(map.whole().is_none());
                    }
                });
            }
        });
        assert_eq!(load(&map, 4095), 7, "what the file still has is still there");
        assert_eq!((load(&whole, 0), whole.whole().is_none()), (7, false));
        std::os::unix::fs::FileExt::write_all_at(&file, &[9; 15 * 4096], 4096).unwrap();
        assert_eq!(load(&map, 4096 * 9), 0, "lost for this map");
        // SAFETY: as in `mapped`.
        let fresh = unsafe { memmap2::MmapOptions::new().len(16 * 4096).map(&file) }.unwrap();
        map.restore(fresh).unwrap();
        assert_eq!((load(&map, 4096 * 9), map.whole().is_none()), (9, false));
    }

    #[test]
    fn there_is_room_for_more_maps_than_a_block_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("many");
        let (file, first) = mapped(&path, 4096);
        let more: Vec<Guarded> = (0..BLOCK_RANGES + 3)
            .map(|_| {
                // SAFETY: as in `mapped`.
                let map = unsafe { memmap2::MmapOptions::new().len(4096).map(&file) }.unwrap();
                Guarded::new(map, &path)
            })
            .collect();
        file.set_len(0).unwrap();
        assert!(more.iter().chain([&first]).all(|map| load(map, 8) == 0 && map.whole().is_none()));
    }

    #[test]
    fn a_fault_outside_our_maps_ends_the_process_as_before() {
        const INNER: &str = "CURSUS_TEST_FAULT_ELSEWHERE";
        if std::env::var_os(INNER).is_some() {
            let dir = tempfile::tempdir().unwrap();
            let (_file, map) = mapped(&dir.path().join("ours"), 4096);
            assert_eq!(load(&map, 0), 7);
            let foreign = std::fs::File::create_new(dir.path().join("foreign")).unwrap();
            let foreign = std::fs::File::options()
                .read(true)
                .open(dir.path().join("foreign"))
                .map(|f| (f, foreign))
                .unwrap();
            // SAFETY: an empty file: the load must fault, outside all guarded maps.
            let bytes = unsafe { memmap2::MmapOptions::new().len(4096).map(&foreign.0) }.unwrap();
            // SAFETY: as above.
            let byte = unsafe { std::ptr::read_volatile(bytes.as_ptr()) };
            panic!("read {byte} where there is nothing");
        }
        use std::os::unix::process::ExitStatusExt;
        let name = "mapped::guard::tests::a_fault_outside_our_maps_ends_the_process_as_before";
        let out = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(INNER, "1")
            .output()
            .unwrap();
        assert_eq!(out.status.signal(), Some(libc::SIGBUS), "{out:?}");
    }
}
