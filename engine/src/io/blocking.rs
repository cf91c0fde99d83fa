//! [`Storage`] over the operating system: every call blocks its thread.
//!
//! Invariants: descriptors are close-on-exec; reads and writes are positional, are retried when
//! interrupted and loop over short counts; a filesystem that refuses a call (`O_DIRECT`,
//! `RWF_DSYNC`, `fallocate`, `RENAME_NOREPLACE`) gets a slower way with the same promise, never a
//! weaker promise.

mod directory;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RawDir, RenameFlags,
    StatxFlags, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::{Errno, ReadWriteFlags};

use self::directory::{OsDirectory, facts_of};
use super::journal::{Journal, journal};
use super::{Directory, Facts, Filesystem, Kind, Open, Stat, Storage, StoredFile};

/// Bytes that one `getdents` call may return.
const LIST_BUFFER_BYTES: usize = 32 * 1024;
/// Bytes written at once where space can only be reserved by writing zeros.
const ZERO_CHUNK_BYTES: usize = 1 << 20;
/// Mode of new files, before umask.
const FILE_MODE: Mode = Mode::from_bits_retain(0o600);
/// Mode of new directories, before umask.
const DIRECTORY_MODE: Mode = Mode::from_bits_retain(0o700);

/// The operating system's filesystems.
#[derive(Default)]
pub struct Blocking {
    /// One descriptor per device for `syncfs`, by device number. The kernel reports a writeback
    /// error to a descriptor that was open when it happened, so each stays open.
    sync_descriptors: Mutex<HashMap<u64, Arc<OwnedFd>>>,
}

impl Blocking {
    /// Makes the storage of this machine.
    pub fn new() -> Blocking {
        Blocking::default()
    }
}

struct OsFile {
    fd: OwnedFd,
    /// Only for [`Open::Log`]: the same file, opened with `O_DIRECT`.
    direct: Option<OwnedFd>,
    /// Set when the filesystem took `O_DIRECT` at open and refused it at a write.
    direct_refused: AtomicBool,
    /// Set when the filesystem has no `RWF_DSYNC`.
    dsync_refused: AtomicBool,
}

/// Repeats a call that a signal interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => continue,
            other => return other.map_err(io::Error::from),
        }
    }
}

/// Writes all of `buf` with plain positional writes.
pub(super) fn write_all(fd: BorrowedFd<'_>, buf: &[u8], offset: u64) -> io::Result<()> {
    write_all_with(buf, offset, |rest, at| rustix::io::pwrite(fd, rest, at))
}

fn write_all_with(
    mut buf: &[u8],
    mut offset: u64,
    mut write: impl FnMut(&[u8], u64) -> rustix::io::Result<usize>,
) -> io::Result<()> {
    while !buf.is_empty() {
        let written = retry(|| write(buf, offset))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        buf = &buf[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Reserves `len` bytes of a file from its start, growing it.
fn allocate(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match retry(|| rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, len)) {
        Err(e) if is_refusal(&e) => {
            let mut at = rustix::fs::fstat(fd)?.st_size as u64;
            let zeros = vec![0u8; ZERO_CHUNK_BYTES.min(len.saturating_sub(at) as usize)];
            while at < len {
                let chunk = zeros.len().min((len - at) as usize);
                write_all(fd, &zeros[..chunk], at)?;
                at += chunk as u64;
            }
            Ok(())
        }
        other => other,
    }
}

/// Whether an error says "this kernel or filesystem does not do that".
fn is_refusal(error: &io::Error) -> bool {
    let refusals = [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS];
    refusals.iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

impl OsFile {
    fn buffered(fd: OwnedFd) -> OsFile {
        let refused = || AtomicBool::new(false);
        OsFile { fd, direct: None, direct_refused: refused(), dsync_refused: refused() }
    }

    fn write_dsync(&self, fd: BorrowedFd<'_>, buf: &[u8], offset: u64) -> io::Result<()> {
        if !self.dsync_refused.load(Ordering::Relaxed) {
            let done = write_all_with(buf, offset, |rest, at| {
                rustix::io::pwritev2(fd, &[io::IoSlice::new(rest)], at, ReadWriteFlags::DSYNC)
            });
            match done {
                // EINVAL is about O_DIRECT, so the caller's business.
                Err(e) if is_refusal(&e) && e.raw_os_error() != Some(libc::EINVAL) => {
                    self.dsync_refused.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        write_all(fd, buf, offset)?;
        retry(|| rustix::fs::fdatasync(fd))
    }
}

impl StoredFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        retry(|| rustix::io::pread(&self.fd, &mut *buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        write_all(self.fd.as_fd(), buf, offset)
    }

    fn write_durable(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = &self.direct
            && !self.direct_refused.load(Ordering::Relaxed)
        {
            match self.write_dsync(direct.as_fd(), buf, offset) {
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    self.direct_refused.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        self.write_dsync(self.fd.as_fd(), buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        retry(|| rustix::fs::fdatasync(&self.fd))
    }

    fn sync_all(&self) -> io::Result<()> {
        retry(|| rustix::fs::fsync(&self.fd))
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        let (offset, len) = (offset as libc::off64_t, len as libc::off64_t);
        // SAFETY: the descriptor is open for the duration of the call, which touches no memory
        // of ours. Its result is ignored: this is a hint.
        unsafe {
            libc::sync_file_range(self.fd.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
        };
    }

    fn will_need(&self, offset: u64, len: u64) {
        // A hint: where it is refused, the read itself waits.
        let len = std::num::NonZeroU64::new(len);
        let _ = rustix::fs::fadvise(&self.fd, offset, len, rustix::fs::Advice::WillNeed);
    }

    fn size(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.fd)?.st_size as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        retry(|| rustix::fs::ftruncate(&self.fd, len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        allocate(self.fd.as_fd(), len)
    }

    fn set_mtime(&self, seconds: i64) -> io::Result<()> {
        set_mtime(self.fd.as_fd(), seconds)
    }

    fn facts(&self) -> io::Result<Facts> {
        Ok(facts_of(&retry(|| rustix::fs::fstat(&self.fd))?))
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        retry(|| rustix::fs::fchmod(&self.fd, Mode::from_bits_truncate(mode)))
    }

    fn map(&self, len: usize) -> io::Result<Option<memmap2::Mmap>> {
        let magic = rustix::fs::fstatfs(&self.fd)?.f_type as u64;
        if filesystem_of(magic).network || len == 0 {
            return Ok(None);
        }
        // SAFETY: the map is shared and read only. Other threads and processes may write the
        // file meanwhile: the callers load live maps through atomics, check crcs, and touch only
        // bytes below a committed count, as the engine's `mapped` module states and enforces.
        unsafe { memmap2::MmapOptions::new().len(len).map(&self.fd) }.map(Some)
    }
}

/// Sets the modification time and leaves the access time.
pub(super) fn set_mtime(fd: BorrowedFd<'_>, seconds: i64) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    };
    retry(|| rustix::fs::futimens(fd, &times))
}

/// `f_type` of ext2, ext3 and ext4.
const MAGIC_EXT: u64 = 0xef53;

/// Filesystems by `f_type`: name, whether another host can change or withdraw its pages, whether
/// the sync of a file makes its name durable. An overlay does as the filesystem below it, which is
/// a local one; an NFS server makes a name durable before it answers.
const FILESYSTEMS: [(u64, &str, bool, bool); 14] = [
    (MAGIC_EXT, "ext4", false, true),
    (0x5846_5342, "xfs", false, true),
    (0x9123_683e, "btrfs", false, true),
    (0xf2f5_2010, "f2fs", false, true),
    (0x2fc1_2fc1, "zfs", false, true),
    (0x0102_1994, "tmpfs", false, true),
    (0x794c_7630, "overlayfs", false, true),
    (0x6969, "nfs", true, true),
    (0x517b, "smb", true, false),
    (0xff53_4d42, "cifs", true, false),
    (0xfe53_4d42, "smb2", true, false),
    (0x6573_5546, "fuse", true, false),
    (0x0102_1997, "9p", true, false),
    (0x00c3_6400, "ceph", true, false),
];

fn filesystem_of(magic: u64) -> Filesystem {
    let known = FILESYSTEMS.iter().find(|known| known.0 == magic & 0xffff_ffff);
    let (name, network, names_follow_files) =
        known.map_or(("other", false, false), |known| (known.1, known.2, known.3));
    Filesystem { name, network, names_follow_files, renames_are_whole: true }
}

/// `f_type` of filesystems whose `syncfs` reports errors: ext2/3/4, xfs, btrfs, f2fs.
const MAGIC_SYNCFS: [u64; 4] = [MAGIC_EXT, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

/// `syncfs` reports writeback errors since Linux 5.8.
fn kernel_reports_syncfs_errors() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>());
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 8),
        _ => false,
    }
}

fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

fn open_fd(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    retry(|| rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, FILE_MODE))
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    open_fd(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// [`Storage::list`] of an open directory.
fn list(fd: BorrowedFd<'_>, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(LIST_BUFFER_BYTES);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let file_type = match entry.file_type() {
            FileType::Unknown => {
                match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    // Gone since the listing.
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(e.into()),
                }
            }
            known => known,
        };
        each(name.to_bytes(), kind_of(file_type));
    }
    Ok(())
}

/// Syncs an open directory.
fn sync_names(fd: BorrowedFd<'_>) -> io::Result<()> {
    match retry(|| rustix::fs::fsync(fd)) {
        // Some network filesystems have no such call: their servers write names through.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other,
    }
}

impl Storage for Blocking {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StoredFile>> {
        let flags = match how {
            Open::Read => OFlags::RDONLY,
            Open::Write | Open::Log => OFlags::RDWR,
            Open::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            Open::Create => OFlags::RDWR | OFlags::CREATE,
        };
        let fd = open_fd(path, flags)?;
        let direct = match how {
            Open::Log => match open_fd(path, flags | OFlags::DIRECT) {
                Err(e) if is_refusal(&e) => None,
                other => Some(other?),
            },
            _ => None,
        };
        Ok(Arc::new(OsFile { direct, ..OsFile::buffered(fd) }))
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let fd = open_fd(path, OFlags::WRONLY | OFlags::APPEND)?;
        match retry(|| rustix::io::write(&fd, bytes))? {
            n if n == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        retry(|| rustix::fs::mkdir(path, DIRECTORY_MODE))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match self.create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                match path.parent().filter(|p| !p.as_os_str().is_empty()) {
                    Some(parent) => self.create_dir_all(parent)?,
                    None => return Err(e),
                }
                match self.create_dir(path) {
                    // Another thread made it meanwhile.
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    other => other,
                }
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if self.stat(path)?.kind == Kind::Directory { Ok(()) } else { Err(e) }
            }
            other => other,
        }
    }

    fn directory(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(OsDirectory::open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        retry(|| rustix::fs::rename(from, to))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        match retry(|| rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)) {
            Err(e) if is_refusal(&e) => {
                if self.stat(from)?.kind == Kind::Directory {
                    // Directories have no links. rename(2) itself refuses a target that is not
                    // an empty directory, so no contents can be lost.
                    return match self.stat(to) {
                        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                        Err(e) if e.kind() == io::ErrorKind::NotFound => self.rename(from, to),
                        Err(e) => Err(e),
                    };
                }
                self.link(from, to)?;
                self.unlink(from)
            }
            other => other,
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        retry(|| rustix::fs::link(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        retry(|| rustix::fs::unlink(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        retry(|| rustix::fs::rmdir(path))
    }

    fn list(&self, dir: &Path, each: &mut dyn FnMut(&[u8], Kind)) -> io::Result<()> {
        list(open_dir(dir)?.as_fd(), each)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(facts_of(&retry(|| rustix::fs::stat(path))?).stat)
    }

    fn stat_fresh(&self, path: &Path) -> io::Result<Stat> {
        let asked = AtFlags::STATX_FORCE_SYNC;
        match retry(|| rustix::fs::statx(CWD, path, asked, StatxFlags::BASIC_STATS)) {
            Err(e) if is_refusal(&e) => {}
            Err(e) => return Err(e),
            // The attributes are in the cache now, fresh.
            Ok(_) => {}
        }
        self.stat(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        sync_names(open_dir(dir)?.as_fd())
    }

    /// The descriptor is opened at the first call for a device and stays open: call once before
    /// the first write whose failure matters.
    fn sync_filesystem(&self, path: &Path) -> io::Result<()> {
        let device = self.stat(path)?.device;
        let known = self.sync_descriptors.lock().get(&device).cloned();
        let fd = match known {
            Some(fd) => fd,
            None => {
                let fd = open_fd(path, OFlags::RDONLY)?;
                let magic = rustix::fs::fstatfs(&fd)?.f_type as u64 & 0xffff_ffff;
                if !MAGIC_SYNCFS.contains(&magic) || !kernel_reports_syncfs_errors() {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                self.sync_descriptors.lock().entry(device).or_insert(Arc::new(fd)).clone()
            }
        };
        retry(|| rustix::fs::syncfs(&*fd))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let fd = open_fd(path, OFlags::RDWR | OFlags::CREATE)?;
        retry(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive))?;
        Ok(Box::new(fd))
    }

    fn lock_range(&self, path: &Path) -> io::Result<Arc<dyn StoredFile>> {
        let fd = open_fd(path, OFlags::RDWR | OFlags::CREATE)?;
        // SAFETY: all zeros is a valid `flock`: from the file's start to its end.
        let mut whole: libc::flock = unsafe { std::mem::zeroed() };
        whole.l_type = libc::F_WRLCK as libc::c_short;
        whole.l_whence = libc::SEEK_SET as libc::c_short;
        // SAFETY: the descriptor is open for the duration of the call, which reads the structure.
        let locked = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &whole) };
        if locked != 0 {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::EACCES | libc::EAGAIN) => io::ErrorKind::WouldBlock.into(),
                Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL) => {
                    io::ErrorKind::Unsupported.into()
                }
                _ => error,
            });
        }
        Ok(Arc::new(OsFile::buffered(fd)))
    }

    fn filesystem(&self, path: &Path) -> io::Result<Filesystem> {
        let magic = retry(|| rustix::fs::statfs(path))?.f_type as u64;
        let mut found = filesystem_of(magic);
        if magic & 0xffff_ffff == MAGIC_EXT {
            let journal = journal(path)?;
            found.renames_are_whole = journal == Journal::There;
            found.names_follow_files = journal != Journal::Unknown;
        }
        Ok(found)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = retry(|| rustix::fs::statvfs(path))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::DIRECT_ALIGN;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn create_new_refuses_an_existing_file_and_write_refuses_a_missing_one() {
        let (d, s) = (dir(), Blocking::new());
        let path = d.path().join("a");
        let kind = |r: io::Result<Arc<dyn StoredFile>>| r.err().map(|e| e.kind());
        assert_eq!(kind(s.open(&path, Open::Write)), Some(io::ErrorKind::NotFound));
        assert_eq!(kind(s.open(&path, Open::CreateNew)), None);
        assert_eq!(kind(s.open(&path, Open::CreateNew)), Some(io::ErrorKind::AlreadyExists));
    }

    #[test]
    fn write_durable_writes_on_disk_and_on_tmpfs() {
        let shm = tempfile::tempdir_in("/dev/shm").ok();
        for d in [Some(dir()), shm].into_iter().flatten() {
            let (s, path) = (Blocking::new(), d.path().join("log"));
            s.open(&path, Open::CreateNew).unwrap().allocate(8 * DIRECT_ALIGN as u64).unwrap();
            let log = s.open(&path, Open::Log).unwrap();
            let mut room = vec![0u8; 2 * DIRECT_ALIGN];
            let start = room.as_ptr().align_offset(DIRECT_ALIGN);
            room[start..start + DIRECT_ALIGN].fill(7);
            log.write_durable(&room[start..start + DIRECT_ALIGN], DIRECT_ALIGN as u64).unwrap();
            let mut back = vec![1u8; 3 * DIRECT_ALIGN];
            s.open(&path, Open::Read).unwrap().read_exact_at(&mut back, 0).unwrap();
            assert!(back[..DIRECT_ALIGN].iter().all(|b| *b == 0));
            assert!(back[DIRECT_ALIGN..2 * DIRECT_ALIGN].iter().all(|b| *b == 7));
            assert!(back[2 * DIRECT_ALIGN..].iter().all(|b| *b == 0));
            assert_eq!(log.size().unwrap(), 8 * DIRECT_ALIGN as u64);
        }
    }

    #[test]
    fn rename_noreplace_keeps_the_target() {
        let (d, s) = (dir(), Blocking::new());
        let (a, b) = (d.path().join("a"), d.path().join("b"));
        s.open(&a, Open::CreateNew).unwrap().write_at(b"a", 0).unwrap();
        s.open(&b, Open::CreateNew).unwrap().write_at(b"bb", 0).unwrap();
        let refused = s.rename_noreplace(&a, &b).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(s.stat(&b).unwrap().size, 2);
        s.unlink(&b).unwrap();
        s.rename_noreplace(&a, &b).unwrap();
        assert_eq!(s.stat(&b).unwrap().size, 1);
    }

    #[test]
    fn list_sees_every_name_of_a_directory_larger_than_the_buffer() {
        let (d, s) = (dir(), Blocking::new());
        for n in 0..2000 {
            let name = format!("{n:0100}");
            s.open(&d.path().join(name), Open::CreateNew).unwrap();
        }
        s.create_dir(&d.path().join("sub")).unwrap();
        let (mut files, mut dirs) = (std::collections::HashSet::new(), 0);
        s.list(d.path(), &mut |name, kind| match kind {
            Kind::File => assert!(files.insert(name.to_vec())),
            _ => dirs += 1,
        })
        .unwrap();
        assert_eq!((files.len(), dirs), (2000, 1));
    }

    #[test]
    fn lock_is_exclusive_until_the_guard_is_dropped() {
        let (d, s) = (dir(), Blocking::new());
        let path = d.path().join("lock");
        let guard = s.lock(&path).unwrap();
        assert_eq!(s.lock(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(guard);
        assert!(s.lock(&path).is_ok());
    }

    #[test]
    fn lock_range_is_exclusive_between_descriptions_of_one_process() {
        let (d, s) = (dir(), Blocking::new());
        let path = d.path().join("owner");
        let held = s.lock_range(&path).unwrap();
        held.write_at(b"me", 0).unwrap();
        assert_eq!(s.lock_range(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        // Others may read who holds it.
        assert_eq!(s.open(&path, Open::Read).unwrap().size().unwrap(), 2);
        drop(held);
        assert!(s.lock_range(&path).is_ok());
    }

    #[test]
    fn network_filesystems_are_known_by_their_numbers() {
        for (magic, name, network) in [(0x6969, "nfs", true), (0xef53, "ext4", false)] {
            let found = filesystem_of(magic);
            assert_eq!((found.name, found.network), (name, network));
        }
        let unknown = filesystem_of(0x1234_5678);
        assert!(!unknown.network && !unknown.names_follow_files);
    }

    #[test]
    fn set_mtime_takes_times_before_1970() {
        let (d, s) = (dir(), Blocking::new());
        let path = d.path().join("a");
        s.open(&path, Open::CreateNew).unwrap().set_mtime(-5).unwrap();
        assert_eq!(s.stat(&path).unwrap().mtime_ns, -5_000_000_000);
    }

    #[test]
    fn a_map_shows_later_writes() {
        let (d, s) = (dir(), Blocking::new());
        let file = s.open(&d.path().join("a"), Open::CreateNew).unwrap();
        file.write_at(&[1; 4096], 0).unwrap();
        let Some(map) = file.map(1 << 20).unwrap() else { return };
        file.write_at(&[9], 10).unwrap();
        assert_eq!((map[9], map[10]), (1, 9));
    }

    #[test]
    fn sync_filesystem_works_or_says_unsupported() {
        let (d, s) = (dir(), Blocking::new());
        match s.sync_filesystem(d.path()) {
            Ok(()) => s.sync_filesystem(d.path()).unwrap(),
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::Unsupported),
        }
    }
}
