//! [`Lane`]: asynchronous file work for one session core; [`HelperPool`]: threads for calls that
//! block.
//!
//! Invariants: an operation in flight owns its buffer and its descriptor, so dropping the future
//! that waits for it frees nothing early and leaks nothing late; the operation itself goes on.
//! The futures work on any executor, except that the ring backend needs the core's own thread.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::blocking::{retry, set_mtime, write_all};
use super::uring::Ring;
use super::{HelperPool, Open, Storage, StoredFile};

/// Largest write that is made by the calling thread itself, in bytes. A copy into the page cache
/// of this size costs less than a thread switch.
const INLINE_WRITE_BYTES_MAX: usize = 65536;

/// A message file, open for as long as any clone or operation in flight holds it.
#[derive(Clone)]
pub struct BodyFile {
    inner: Inner,
    /// Bytes when it was opened for reading; such a file does not change.
    size: Option<u64>,
}

#[derive(Clone)]
enum Inner {
    Fd(Arc<OwnedFd>),
    Stored(Arc<dyn StoredFile>),
}

impl BodyFile {
    /// Bytes; of a file that was opened for reading, those at that time.
    pub fn size(&self) -> io::Result<u64> {
        if let Some(size) = self.size {
            return Ok(size);
        }
        match &self.inner {
            Inner::Fd(fd) => Ok(rustix::fs::fstat(fd)?.st_size as u64),
            Inner::Stored(file) => file.size(),
        }
    }

    /// Sets the modification time, seconds since 1970: the internal date in a Maildir. Touches
    /// the inode in memory only, so it may be called on a session core.
    pub fn set_mtime(&self, seconds: i64) -> io::Result<()> {
        match &self.inner {
            Inner::Fd(fd) => set_mtime(fd.as_fd(), seconds),
            Inner::Stored(file) => file.set_mtime(seconds),
        }
    }

    /// Reads up to `buf.len()` bytes; 0 at or behind the end. Blocks: for helper threads, tools
    /// and tests.
    pub fn read_at_blocking(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.inner {
            Inner::Fd(fd) => retry(|| rustix::io::pread(fd, &mut *buf, offset)),
            Inner::Stored(file) => file.read_at(buf, offset),
        }
    }

    /// `fdatasync`. Blocks: for helper threads, tools and tests.
    pub fn sync_blocking(&self) -> io::Result<()> {
        match &self.inner {
            Inner::Fd(fd) => retry(|| rustix::fs::fdatasync(fd)),
            Inner::Stored(file) => file.sync_data(),
        }
    }

    fn from_fd(fd: OwnedFd) -> BodyFile {
        BodyFile { inner: Inner::Fd(Arc::new(fd)), size: None }
    }
}

impl From<File> for BodyFile {
    fn from(file: File) -> BodyFile {
        BodyFile::from_fd(file.into())
    }
}

/// How one session core reads and writes message files. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct Lane {
    backend: Backend,
    /// Opens and reads that the kernel's caches could not answer.
    waits: Rc<Cell<u64>>,
}

#[derive(Clone)]
enum Backend {
    Ring(Rc<Ring>, HelperPool),
    Pool(HelperPool),
    Inline(Arc<dyn Storage>),
}

/// Set once the kernel says that it has no `openat2(RESOLVE_CACHED)`.
static CACHED_OPEN_REFUSED: AtomicBool = AtomicBool::new(false);

impl Lane {
    /// A lane over an io_uring of its own, driven by a task of the current thread's `LocalSet`;
    /// `pool` does what a ring cannot. Fails where the kernel or a seccomp filter refuses the
    /// ring: use [`Lane::pool`] then.
    pub fn ring(pool: HelperPool) -> io::Result<Lane> {
        Ok(Lane::over(Backend::Ring(Ring::start()?, pool)))
    }

    /// A lane that makes every call that may block in the pool.
    pub fn pool(pool: HelperPool) -> Lane {
        Lane::over(Backend::Pool(pool))
    }

    /// A lane that makes every call at once on the calling thread: for tools and tests.
    pub fn inline(storage: Arc<dyn Storage>) -> Lane {
        Lane::over(Backend::Inline(storage))
    }

    fn over(backend: Backend) -> Lane {
        Lane { backend, waits: Rc::default() }
    }

    /// How many opens and reads of this lane had to wait for the disk. Only grows.
    pub fn waits(&self) -> u64 {
        self.waits.get()
    }

    fn note_wait(&self) {
        self.waits.set(self.waits.get() + 1);
    }

    /// Begins to bring a file into the page cache, in a helper thread: `path` is asked there for
    /// its name. A hint: what cannot be had is left to whoever reads the file.
    pub fn read_ahead(&self, path: impl FnOnce() -> Option<PathBuf> + Send + 'static) {
        let (Backend::Ring(_, pool) | Backend::Pool(pool)) = &self.backend else { return };
        pool.spawn(move || {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Some(path) = path() else { return };
            if let Ok(fd) = retry(|| rustix::fs::openat(CWD, &path, flags, Mode::empty())) {
                let _ = rustix::fs::fadvise(&fd, 0, None, Advice::WillNeed);
            }
        });
    }

    /// `ring`, `pool` or `inline`, for the log.
    pub fn backend_name(&self) -> &'static str {
        match self.backend {
            Backend::Ring(..) => "ring",
            Backend::Pool(_) => "pool",
            Backend::Inline(_) => "inline",
        }
    }

    /// Creates a file, mode 0600; `AlreadyExists` when the name is taken.
    pub async fn create(&self, path: &Path) -> io::Result<BodyFile> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match &self.backend {
            Backend::Inline(storage) => {
                let file = storage.open(path, Open::CreateNew)?;
                Ok(BodyFile { inner: Inner::Stored(file), size: None })
            }
            Backend::Ring(ring, _) => ring.open(path, flags).await.map(BodyFile::from_fd),
            Backend::Pool(pool) => open_in(pool, path, flags).await.map(BodyFile::from_fd),
        }
    }

    /// Opens a regular file for reading. Whoever may write in the directory gains nothing by
    /// putting something else there: a symbolic link is not followed, and a FIFO cannot hang us.
    pub async fn open(&self, path: &Path) -> io::Result<BodyFile> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Backend::Inline(storage) = &self.backend {
            let file = storage.open(path, Open::Read)?;
            return Ok(BodyFile { inner: Inner::Stored(file), size: None });
        }
        let cached = open_cached(path, flags);
        if cached.is_none() {
            self.note_wait();
        }
        let fd = match (cached, &self.backend) {
            (Some(opened), _) => opened?,
            (None, Backend::Ring(ring, _)) => ring.open(path, flags).await?,
            (None, Backend::Pool(pool)) => open_in(pool, path, flags).await?,
            (None, Backend::Inline(_)) => unreachable!("returned above"),
        };
        let stat = rustix::fs::fstat(&fd)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type != FileType::RegularFile {
            let text = format!("{}: expected a regular file, found {file_type:?}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(BodyFile { size: Some(stat.st_size as u64), ..BodyFile::from_fd(fd) })
    }

    /// Writes all of `buf` at `offset` and hands the buffer back, emptied, for the next write.
    pub async fn write(
        &self,
        file: &BodyFile,
        mut buf: Vec<u8>,
        offset: u64,
    ) -> io::Result<Vec<u8>> {
        let fd = match &file.inner {
            Inner::Stored(file) => {
                file.write_at(&buf, offset)?;
                buf.clear();
                return Ok(buf);
            }
            Inner::Fd(fd) => fd,
        };
        if buf.len() <= INLINE_WRITE_BYTES_MAX || matches!(self.backend, Backend::Inline(_)) {
            write_all(fd.as_fd(), &buf, offset)?;
            buf.clear();
            return Ok(buf);
        }
        if let Backend::Ring(ring, _) = &self.backend {
            return ring.write(fd.clone(), buf, offset).await;
        }
        let fd = fd.clone();
        self.in_pool(move || {
            write_all(fd.as_fd(), &buf, offset)?;
            buf.clear();
            Ok(buf)
        })
        .await
    }

    /// Makes the file's bytes durable (`fdatasync`) and then calls `done`, on some thread. Goes
    /// on whatever happens to the caller.
    pub fn sync_detached(
        &self,
        file: BodyFile,
        done: impl FnOnce(io::Result<()>) + Send + 'static,
    ) {
        match (&self.backend, file.inner) {
            (_, Inner::Stored(file)) => done(file.sync_data()),
            (Backend::Inline(_), Inner::Fd(fd)) => done(retry(|| rustix::fs::fdatasync(&fd))),
            (Backend::Ring(ring, _), Inner::Fd(fd)) => ring.sync(fd, Box::new(done)),
            (Backend::Pool(pool), Inner::Fd(fd)) => {
                pool.spawn(move || done(retry(|| rustix::fs::fdatasync(&fd))));
            }
        }
    }

    /// Reads `len` bytes from `offset`; fewer only at the end of the file. Allocates `len` bytes
    /// at once: the caller keeps it within its buffer limit.
    pub async fn read(&self, file: &BodyFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; len];
        let fd = match &file.inner {
            Inner::Stored(file) => {
                let filled = read_until_end(&mut buf, 0, |rest, at| file.read_at(rest, at), offset);
                buf.truncate(filled?);
                return Ok(buf);
            }
            Inner::Fd(fd) => fd,
        };
        let (mut filled, complete) = read_cached(fd.as_fd(), &mut buf, offset)?;
        if complete {
            buf.truncate(filled);
            return Ok(buf);
        }
        self.note_wait();
        if file.size.is_some() {
            // It was opened with O_NONBLOCK, which the ring takes for "fail rather than wait", on
            // files too.
            rustix::fs::fcntl_setfl(fd, OFlags::empty())?;
        }
        match &self.backend {
            Backend::Ring(ring, _) => ring.read(fd.clone(), buf, filled, offset).await,
            Backend::Pool(_) | Backend::Inline(_) => {
                let fd = fd.clone();
                self.in_pool(move || {
                    let pread =
                        |rest: &mut [u8], at| retry(|| rustix::io::pread(&fd, &mut *rest, at));
                    filled = read_until_end(&mut buf, filled, pread, offset)?;
                    buf.truncate(filled);
                    Ok(buf)
                })
                .await
            }
        }
    }

    /// Size of the file in bytes.
    pub async fn size(&self, file: &BodyFile) -> io::Result<u64> {
        // fstat reads the inode in memory: an open file has it there.
        file.size()
    }

    /// Runs a call that blocks where this lane runs such calls.
    async fn in_pool<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match &self.backend {
            Backend::Ring(_, pool) | Backend::Pool(pool) => pool.run(job).await?,
            Backend::Inline(_) => job(),
        }
    }
}

async fn open_in(pool: &HelperPool, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = path.to_owned();
    let open = move || retry(|| rustix::fs::openat(CWD, &path, flags, FILE_MODE));
    pool.run(open).await?
}

/// Mode of new files, before umask.
pub(super) const FILE_MODE: Mode = Mode::from_bits_retain(0o600);

/// Opens without blocking when every name on the path is in the kernel's cache; `None` when the
/// call could block or the kernel (before 5.12) has no such call.
fn open_cached(path: &Path, flags: OFlags) -> Option<io::Result<OwnedFd>> {
    if CACHED_OPEN_REFUSED.load(Ordering::Relaxed) {
        return None;
    }
    let how = ResolveFlags::CACHED;
    match retry(|| rustix::fs::openat2(CWD, path, flags, Mode::empty(), how)) {
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::AGAIN) => None,
            // EPERM: a seccomp filter that does not know the call.
            Some(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                CACHED_OPEN_REFUSED.store(true, Ordering::Relaxed);
                None
            }
            _ => Some(Err(e)),
        },
        Ok(fd) => Some(Ok(fd)),
    }
}

/// Reads what the page cache holds. Returns the bytes read, and whether that is all there is.
fn read_cached(fd: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> io::Result<(usize, bool)> {
    let mut filled = 0;
    while filled < buf.len() {
        let rest = &mut [io::IoSliceMut::new(&mut buf[filled..])];
        match rustix::io::preadv2(fd, rest, offset + filled as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Ok((filled, true)),
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                return Ok((filled, false));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok((filled, true))
}

/// Reads from `offset + filled` until `buf` is full or the file ends; returns the bytes in `buf`.
fn read_until_end(
    buf: &mut [u8],
    mut filled: usize,
    read_at: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    offset: u64,
) -> io::Result<usize> {
    while filled < buf.len() {
        match read_at(&mut buf[filled..], offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}
