//! [`Ring`]: one io_uring per session core, for message files.
//!
//! A ring of our own rather than a runtime's: entries enter the kernel at the end of each turn of
//! the core's run queue (a busy core that never parks would otherwise starve them), syncs get
//! enough kernel workers, and an operation whose waiter is gone keeps its buffer and descriptor
//! in the slab below until the kernel is done with them. The completion queue is watched through
//! the runtime's own poller.
//!
//! Invariants: every address given to the kernel belongs to a [`Work`] in the slab; a slot is
//! freed only by its completion; [`Ring`] waits for every operation in flight before it goes.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use super::lane::FILE_MODE;

/// Entries of the submission queue; more operations than this can be in flight.
const ENTRIES: u32 = 256;
/// Entries of the completion queue.
const COMPLETIONS: u32 = 4096;
/// Kernel threads that may work on regular files for one ring, such as syncs at depth: the more
/// of them wait for one journal commit, the fewer commits there are.
const KERNEL_WORKERS_MAX: u32 = 64;
/// Bytes that one entry may carry; longer reads and writes take several.
const ENTRY_BYTES_MAX: usize = 1 << 30;

/// What runs when a sync has ended.
pub(super) type SyncDone = Box<dyn FnOnce(io::Result<()>) + Send>;

/// An io_uring with its operations in flight. Lives on one thread.
pub struct Ring {
    uring: RefCell<IoUring>,
    slab: RefCell<Slab>,
    /// Entries pushed and not yet submitted.
    unsubmitted: Cell<usize>,
    /// Wakes the driver task: entries wait, or the ring is going.
    driver: Rc<Notify>,
}

/// An operation in flight: owns all that the kernel may touch.
enum Work {
    Open {
        path: CString,
        flags: i32,
        reply: oneshot::Sender<io::Result<OwnedFd>>,
    },
    Read {
        fd: Arc<OwnedFd>,
        buf: Vec<u8>,
        filled: usize,
        offset: u64,
        reply: oneshot::Sender<io::Result<Vec<u8>>>,
    },
    Write {
        fd: Arc<OwnedFd>,
        buf: Vec<u8>,
        written: usize,
        offset: u64,
        reply: oneshot::Sender<io::Result<Vec<u8>>>,
    },
    Sync {
        fd: Arc<OwnedFd>,
        done: SyncDone,
    },
}

impl Work {
    /// The entry for what is left to do. Its addresses stay valid as long as `self` does, moved
    /// or not: they point to heap memory that `self` owns.
    fn entry(&mut self) -> squeue::Entry {
        match self {
            Work::Open { path, flags, .. } => {
                opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
                    .flags(*flags)
                    .mode(FILE_MODE.bits())
                    .build()
            }
            Work::Read { fd, buf, filled, offset, .. } => {
                let rest = &mut buf[*filled..];
                let len = rest.len().min(ENTRY_BYTES_MAX) as u32;
                opcode::Read::new(types::Fd(fd.as_raw_fd()), rest.as_mut_ptr(), len)
                    .offset(*offset + *filled as u64)
                    .build()
            }
            Work::Write { fd, buf, written, offset, .. } => {
                let rest = &buf[*written..];
                let len = rest.len().min(ENTRY_BYTES_MAX) as u32;
                opcode::Write::new(types::Fd(fd.as_raw_fd()), rest.as_ptr(), len)
                    .offset(*offset + *written as u64)
                    .build()
            }
            Work::Sync { fd, .. } => opcode::Fsync::new(types::Fd(fd.as_raw_fd()))
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
        }
    }

    /// Takes a completion. Returns the work when more of it is to be submitted; otherwise its
    /// waiter has been told.
    fn complete(self, result: io::Result<usize>) -> Option<Work> {
        // An open that finds a lease on the file says EAGAIN until the lease is broken.
        let lasting = matches!(self, Work::Open { .. }).then_some(libc::EAGAIN);
        if let Err(error) = &result
            && matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
            && error.raw_os_error() != lasting
        {
            return Some(self);
        }
        // A failed send means that the waiter is gone; what it would have got is dropped here.
        match self {
            Work::Open { reply, .. } => {
                let fd = result.map(|fd| {
                    // SAFETY: the kernel just made this descriptor for us, and nobody else knows
                    // its number.
                    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
                });
                let _ = reply.send(fd);
            }
            Work::Read { fd, mut buf, mut filled, offset, reply } => match result {
                Ok(n) => {
                    filled += n;
                    if n > 0 && filled < buf.len() {
                        return Some(Work::Read { fd, buf, filled, offset, reply });
                    }
                    buf.truncate(filled);
                    let _ = reply.send(Ok(buf));
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            Work::Write { fd, mut buf, mut written, offset, reply } => match result {
                Ok(n) => {
                    written += n;
                    if n == 0 && written < buf.len() {
                        drop(reply.send(Err(io::ErrorKind::WriteZero.into())));
                        return None;
                    }
                    if written < buf.len() {
                        return Some(Work::Write { fd, buf, written, offset, reply });
                    }
                    buf.clear();
                    let _ = reply.send(Ok(buf));
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            Work::Sync { done, .. } => {
                let told = catch_unwind(AssertUnwindSafe(|| done(result.map(drop))));
                if told.is_err() {
                    tracing::error!("what follows a file's sync panicked");
                }
            }
        }
        None
    }
}

/// Operations in flight by number; freed numbers are used again.
#[derive(Default)]
struct Slab {
    slots: Vec<Option<Work>>,
    free: Vec<usize>,
}

impl Slab {
    fn insert(&mut self, work: Work) -> usize {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = Some(work);
                slot
            }
            None => {
                self.slots.push(Some(work));
                self.slots.len() - 1
            }
        }
    }

    fn take(&mut self, slot: usize) -> Option<Work> {
        let work = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(work)
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }
}

impl Ring {
    /// Makes a ring and starts the task that drives it. Must be called on the core's thread,
    /// inside its runtime and `LocalSet`.
    pub(super) fn start() -> io::Result<Rc<Ring>> {
        let uring = IoUring::builder().setup_cqsize(COMPLETIONS).build(ENTRIES)?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe)?;
        let needed =
            [opcode::OpenAt::CODE, opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE];
        if !needed.into_iter().all(|code| probe.is_supported(code)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Before Linux 5.15 the kernel's own limit holds, which is only slower.
        let _ = uring.submitter().register_iowq_max_workers(&mut [KERNEL_WORKERS_MAX, 0]);
        // SAFETY: the ring's descriptor is open while `uring` lives, longer than this borrow.
        let watched = unsafe { BorrowedFd::borrow_raw(uring.as_raw_fd()) }.try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, and `AsyncFd`
        // deregisters it before that.
        let watched = unsafe { AsyncFd::register_with_interest(watched, Interest::READABLE) }?;
        let ring = Rc::new(Ring {
            uring: RefCell::new(uring),
            slab: RefCell::default(),
            unsubmitted: Cell::new(0),
            driver: Rc::new(Notify::new()),
        });
        let drive = drive(Rc::downgrade(&ring), ring.driver.clone(), watched);
        tokio::task::spawn_local(drive);
        Ok(ring)
    }

    pub(super) async fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let (reply, result) = oneshot::channel();
        self.push(Work::Open { path, flags: flags.bits() as i32, reply });
        result.await.map_err(|_| gone())?
    }

    /// Reads behind the `filled` bytes already in `buf` until it is full or the file ends.
    pub(super) async fn read(
        &self,
        fd: Arc<OwnedFd>,
        buf: Vec<u8>,
        filled: usize,
        offset: u64,
    ) -> io::Result<Vec<u8>> {
        let (reply, result) = oneshot::channel();
        self.push(Work::Read { fd, buf, filled, offset, reply });
        result.await.map_err(|_| gone())?
    }

    /// Writes all of `buf`; returns it emptied.
    pub(super) async fn write(
        &self,
        fd: Arc<OwnedFd>,
        buf: Vec<u8>,
        offset: u64,
    ) -> io::Result<Vec<u8>> {
        let (reply, result) = oneshot::channel();
        self.push(Work::Write { fd, buf, written: 0, offset, reply });
        result.await.map_err(|_| gone())?
    }

    pub(super) fn sync(&self, fd: Arc<OwnedFd>, done: SyncDone) {
        self.push(Work::Sync { fd, done });
    }

    /// Queues an entry; the driver task submits it with all others of this turn.
    fn push(&self, mut work: Work) {
        let entry = work.entry();
        let slot = self.slab.borrow_mut().insert(work);
        let entry = entry.user_data(slot as u64);
        let mut uring = self.uring.borrow_mut();
        // SAFETY: the memory that the entry names belongs to the work in the slab, which stays
        // there until the completion of this entry.
        while unsafe { uring.submission().push(&entry) }.is_err() {
            // The queue is full: hand it to the kernel. EBUSY and EAGAIN pass by themselves once
            // completions are taken, which other turns of this loop wait for.
            if let Err(error) = uring.submit()
                && error.raw_os_error() == Some(libc::EBUSY)
            {
                let _ = uring.submit_and_wait(1);
                drop(uring);
                self.take_completions();
                uring = self.uring.borrow_mut();
            }
            self.unsubmitted.set(0);
        }
        self.unsubmitted.set(self.unsubmitted.get() + 1);
        self.driver.notify_one();
    }

    /// Hands queued entries to the kernel. False when it wants completions taken first.
    fn submit(&self) -> bool {
        if self.unsubmitted.get() == 0 {
            return true;
        }
        match self.uring.borrow_mut().submit() {
            Ok(_) => {
                self.unsubmitted.set(0);
                true
            }
            Err(_) => false,
        }
    }

    /// Takes every completion there is; partly done work goes back into the queue.
    fn take_completions(&self) {
        loop {
            let next = self.uring.borrow_mut().completion().next();
            let Some(completion) = next else {
                let mut uring = self.uring.borrow_mut();
                if !uring.submission().cq_overflow() {
                    return;
                }
                // The kernel kept what found no room; entering it brings that out.
                let _ = uring.submit();
                continue;
            };
            let result = match completion.result() {
                n if n < 0 => Err(io::Error::from_raw_os_error(-n)),
                n => Ok(n as usize),
            };
            let work = self.slab.borrow_mut().take(completion.user_data() as usize);
            if let Some(rest) = work.and_then(|work| work.complete(result)) {
                self.push(rest);
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while !self.slab.borrow().is_empty() {
            let waited = self.uring.borrow_mut().submit_and_wait(1);
            self.take_completions();
            if let Err(error) = waited
                && !matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN))
            {
                // The kernel may still write into these buffers: leak them rather than free them.
                tracing::error!(%error, "cannot wait for file operations in flight");
                std::mem::forget(self.slab.take());
                break;
            }
        }
        // Lets the driver task end, which holds a copy of the ring's descriptor.
        self.driver.notify_one();
    }
}

/// Submits what was queued since the last turn, and takes completions as they come.
async fn drive(ring: Weak<Ring>, wake: Rc<Notify>, watched: AsyncFd<OwnedFd>) {
    loop {
        tokio::select! {
            biased;
            () = wake.notified() => {}
            ready = watched.readable() => match ready {
                // Cleared before the completions are taken: one that comes in between sets it anew.
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            },
        }
        let Some(ring) = ring.upgrade() else { return };
        // Work that needs no waiting completes in the submission itself.
        let submitted = ring.submit();
        ring.take_completions();
        if !submitted {
            // Out of kernel memory for the moment, or completions were in the way: next turn.
            ring.driver.notify_one();
            tokio::task::yield_now().await;
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the core's ring is gone")
}
