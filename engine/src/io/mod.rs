//! Every byte that the engine reads or writes goes through here.
//!
//! Three faces:
//! - [`Storage`] and [`StoredFile`]: synchronous, object-safe, used by the engine's own threads
//!   (log writer, appliers, checkpoint), by recovery and by tools. Backends: [`blocking`] (the
//!   operating system) and [`sim`] (tests: a live and a durable image, faults from a seed);
//!   [`network`] and tests' doubles are a [`layer`] over another one.
//! - [`Directory`]: an open directory, in which names mean what they mean whatever becomes of its
//!   path; for trees that other users may write into.
//! - [`Lane`]: asynchronous, one per session core; carries the bodies of messages. Backends:
//!   [`uring`] (the core's ring), a pool of helper threads where the ring is refused, and inline
//!   calls over any [`Storage`] for tools and tests.
//!
//! Invariants: a failed `sync` is never retried as if it could succeed (the page cache lies); an
//! in-flight operation owns its buffer and descriptor; offsets and lengths are bytes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub mod blocking;
mod directory;
mod journal;
pub mod lane;
pub mod layer;
pub mod network;
pub mod pool;
pub mod sim;
pub mod uring;

pub use directory::{Directory, Facts};
pub use lane::{BodyFile, Lane};
pub use pool::{HelperPool, JobPanicked};

/// How a file is opened. Files are always read-write unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Must exist; read only.
    Read,
    /// Must exist.
    Write,
    /// Must not exist (`O_EXCL`).
    CreateNew,
    /// Created when missing.
    Create,
    /// Must exist; writes bypass the page cache where the filesystem allows (`O_DIRECT`), and
    /// `write_durable` is one durable write (`RWF_DSYNC`). Offsets, lengths and buffers given to
    /// it are multiples of [`DIRECT_ALIGN`]. Where O_DIRECT is refused, falls back to a buffered
    /// write followed by `fdatasync`.
    Log,
}

/// Alignment of offset, length and memory for [`StoredFile::write_durable`].
pub const DIRECT_ALIGN: usize = 4096;

/// What a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, where it is not followed.
    Link,
    /// A socket, device…
    Other,
}

/// The part of `stat` that the engine uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Change time, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
}

/// What is known of the filesystem under a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// For people: `ext4`, `nfs`…; `other` for one that we do not know by its number.
    pub name: &'static str,
    /// Another host can change or withdraw its files: NFS, SMB, FUSE, 9p.
    pub network: bool,
    /// The sync of a new file makes its name durable too.
    pub names_follow_files: bool,
    /// Behind a power cut a renamed file has its old name or its new one. It may have neither on
    /// ext2, and on ext4 without a journal.
    pub renames_are_whole: bool,
}

impl Filesystem {
    /// Local, with names that follow their files.
    pub const LOCAL: Filesystem = Filesystem {
        name: "local",
        network: false,
        names_follow_files: true,
        renames_are_whole: true,
    };
}

/// An open file.
pub trait StoredFile: Send + Sync {
    /// Reads up to `buf.len()` bytes; 0 at or behind the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf`, growing the file where needed. A short write is an error.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Writes all of `buf` and returns when it is on the device. See [`Open::Log`].
    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// `fdatasync`.
    fn sync_data(&self) -> io::Result<()>;
    /// `fsync`.
    fn sync_all(&self) -> io::Result<()>;
    /// Starts writeback without waiting (`sync_file_range`); a hint.
    fn start_writeback(&self, offset: u64, len: u64);
    /// Starts to read what will be asked for soon (`posix_fadvise`); a hint.
    fn will_need(&self, _offset: u64, _len: u64) {}
    /// Bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or grows the file. Never called on a mapped file with a smaller length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space so that later writes below `len` cannot meet a full disk
    /// (`fallocate`; writes zeros where that is refused).
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Sets the modification time, seconds since 1970.
    fn set_mtime(&self, seconds: i64) -> io::Result<()>;
    /// What the file is, whose, and who may use it.
    fn facts(&self) -> io::Result<Facts>;
    /// Sets who may use it: permission bits of [`Facts::mode`].
    fn set_mode(&self, mode: u32) -> io::Result<()>;
    /// A read-only shared map of `len` bytes, which may reach past the end of the file; `None`
    /// where this backend or filesystem does not map (the caller keeps a private buffer).
    fn map(&self, len: usize) -> io::Result<Option<memmap2::Mmap>>;

    /// Reads exactly `buf.len()` bytes, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
            }
        }
        Ok(())
    }
}

/// A filesystem.
pub trait Storage: Send + Sync + 'static {
    /// Opens or creates a file (mode 0600 before umask).
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>>;
    /// Adds `bytes` to the end of a file that exists, in one write that other programs' appends
    /// come before or behind (`O_APPEND`).
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.open(path, Open::Write)?;
        file.write_at(bytes, file.size()?)
    }
    /// Makes one directory (mode 0700 before umask); `AlreadyExists` when it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its missing parents; succeeds when it is there.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Opens a directory; symbolic links are followed.
    fn directory(&self, path: &Path) -> io::Result<Arc<dyn Directory>>;
    /// Renames, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames; `AlreadyExists` when the target exists (`RENAME_NOREPLACE`, link+unlink where
    /// the filesystem lacks it).
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a hard link; `AlreadyExists` when the target exists.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Calls `each` with the raw name of every entry except `.` and `..`, in directory order.
    fn list(&self, dir: &Path, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()>;
    /// Facts of a path; symbolic links are followed.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// [`Storage::stat`] that asks the server where attributes may be cached.
    fn stat_fresh(&self, path: &Path) -> io::Result<Stat> {
        self.stat(path)
    }
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes everything written so far on the filesystem of `path` durable (`syncfs`).
    /// `Unsupported` where that call is missing or does not report errors reliably; the caller
    /// then syncs file by file.
    fn sync_filesystem(&self, path: &Path) -> io::Result<()>;
    /// Takes the exclusive lock of a file (created when missing, mode 0600) until the guard is
    /// dropped; `WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
    /// Opens a file (created when missing) and takes a lock on all of it that other processes and
    /// other hosts meet, until the file is dropped; `WouldBlock` when another holds it,
    /// `Unsupported` where the filesystem has no such locks.
    fn lock_range(&self, path: &Path) -> io::Result<Arc<dyn StoredFile>> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// What is known of the filesystem of `path`.
    fn filesystem(&self, path: &Path) -> io::Result<Filesystem> {
        let _ = path;
        Ok(Filesystem::LOCAL)
    }
    /// Free bytes for us on the filesystem of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Nanoseconds since 1970, by the clock that the times of files come from.
    fn now_ns(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
    }
    /// Fills `out` with random bytes for names that must never meet.
    fn random(&self, out: &mut [u8]) {
        // The system's generator does not fail once it has been seeded at boot.
        getrandom::fill(out).expect("the system's random generator");
    }
}
