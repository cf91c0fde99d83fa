//! Segment files: made ahead, written in full blocks, renamed to be used again.
//!
//! `<16 hex digits of the first LSN>.log` is in use, `spare.log` waits to be used. Invariant: a
//! segment gets its name only when its header is durable, and its zeros were written before, so
//! that a group write changes no metadata. With an archive, segments that are done with are moved
//! to its outbox instead of being used again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use zerocopy::IntoBytes;

use super::{KeepSegments, SegmentPlace};
use crate::error::{Error, Result};
use crate::format::segment::{BLOCK_BYTES, GroupHeader, SegmentHeader};
use crate::ids::{Lsn, StoreId};
use crate::io::{DIRECT_ALIGN, Open, Storage, StoredFile};

const _: () = assert!(BLOCK_BYTES.is_multiple_of(DIRECT_ALIGN));

/// Zeros written at a time.
const ZEROS_BYTES: usize = 1 << 20;

struct Current {
    file: Arc<dyn StoredFile>,
    first_lsn: u64,
    epoch: u64,
    /// End of what has been written, as a file offset.
    end: u64,
    /// When its first group was written.
    begun: Option<Instant>,
}

impl Current {
    fn end_lsn(&self) -> u64 {
        self.first_lsn + (self.end - BLOCK_BYTES as u64)
    }
}

/// The writer's side of the log directory.
pub(super) struct Segments {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    store_id: StoreId,
    bytes: u64,
    current: Option<Current>,
    /// First LSN and end LSN of older segments, oldest first.
    older: Vec<(u64, u64)>,
    spare: bool,
    buffer: Aligned,
    keep: Option<KeepSegments>,
    /// Segments that end above this stay.
    hold: u64,
}

/// The name of a segment in the archive's outbox, and in archives.
pub fn kept_name(first_lsn: u64, epoch: u64) -> String {
    format!("{first_lsn:016x}-{epoch:016x}.log")
}

/// The directory entry of a segment.
pub(super) fn segment_path(dir: &Path, first_lsn: u64) -> PathBuf {
    dir.join(format!("{first_lsn:016x}.log"))
}

fn making_path(dir: &Path) -> PathBuf {
    dir.join("spare.tmp")
}

fn spare_path(dir: &Path) -> PathBuf {
    dir.join("spare.log")
}

/// A spare segment that ought to be made, away from the writer's lock.
pub(super) struct SpareOrder {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    bytes: u64,
}

impl SpareOrder {
    /// Writes a segment's worth of zeros and makes them durable. It becomes the spare in
    /// [`Segments::spare_made`], under the writer's lock: a writer that could not wait may have
    /// made one meanwhile.
    pub(super) fn make(&self) -> Result<()> {
        self.make_at(&making_path(&self.dir))
    }

    fn make_at(&self, making: &Path) -> Result<()> {
        let file = self.storage.open(making, Open::Create).map_err(Error::io("create", making))?;
        let zeros = vec![0; ZEROS_BYTES.min(self.bytes as usize)];
        let mut at = 0;
        while at < self.bytes {
            let len = (self.bytes - at).min(zeros.len() as u64) as usize;
            file.write_at(&zeros[..len], at).map_err(Error::io("write", making))?;
            at += len as u64;
        }
        file.sync_all().map_err(Error::io("sync", making))
    }
}

impl Segments {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        dir: PathBuf,
        store_id: StoreId,
        bytes: u64,
        keep: Option<KeepSegments>,
    ) -> Segments {
        let spare = storage.stat(&spare_path(&dir)).is_ok_and(|s| s.size >= bytes);
        Segments {
            storage,
            dir,
            store_id,
            bytes,
            current: None,
            older: Vec::new(),
            spare,
            buffer: Aligned::default(),
            keep,
            hold: u64::MAX,
        }
    }

    /// See [`super::Log::hold`].
    pub(super) fn hold(&mut self, lsn: Option<u64>) {
        self.hold = lsn.unwrap_or(u64::MAX);
    }

    /// The segments that have groups at or above `lsn`, oldest first.
    pub(super) fn from(&self, lsn: u64) -> Vec<SegmentPlace> {
        let current = self.current.iter().map(|c| (c.first_lsn, c.end_lsn()));
        let all = self.older.iter().copied().chain(current);
        all.filter(|&(_, end)| end > lsn)
            .map(|(first, end)| SegmentPlace {
                path: segment_path(&self.dir, first),
                first: Lsn(first),
                end: Lsn(end),
            })
            .collect()
    }

    /// Writes a group durably behind the one before.
    pub(super) fn append(
        &mut self,
        epoch: u64,
        durable: u64,
        header: &GroupHeader,
        frames: &[u8],
    ) -> Result<()> {
        let lsn = header.lsn.get();
        let span = header.span();
        let fits = |c: &Current| c.epoch == epoch && c.end + span <= self.bytes;
        if !self.current.as_ref().is_some_and(fits) {
            self.rotate(epoch, lsn, durable)?;
        }
        let Some(current) = &mut self.current else { unreachable!("rotate sets it") };
        let offset = BLOCK_BYTES as u64 + (lsn - current.first_lsn);
        let block = self.buffer.fill(&[header.as_bytes(), frames], span as usize);
        current
            .file
            .write_durable(block, offset)
            .map_err(Error::io("write", segment_path(&self.dir, current.first_lsn)))?;
        current.end = offset + span;
        current.begun.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn rotate(&mut self, epoch: u64, first_lsn: u64, durable: u64) -> Result<()> {
        let spare = if self.spare {
            spare_path(&self.dir)
        } else {
            let direct = self.dir.join("direct.tmp");
            self.order().make_at(&direct)?;
            direct
        };
        self.spare = false;
        let path = segment_path(&self.dir, first_lsn);
        let file = self.storage.open(&spare, Open::Log).map_err(Error::io("open", &spare))?;
        let header =
            SegmentHeader::new(self.store_id.0, epoch, first_lsn, durable, boot_id(&*self.storage));
        let block = self.buffer.fill(&[header.as_bytes()], BLOCK_BYTES);
        file.write_durable(block, 0).map_err(Error::io("write", &spare))?;
        self.storage.rename(&spare, &path).map_err(Error::io("rename", &spare))?;
        self.storage.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))?;
        if let Some(old) = self.current.take() {
            self.older.push((old.first_lsn, old.end_lsn()));
        }
        let end = BLOCK_BYTES as u64;
        self.current = Some(Current { file, first_lsn, epoch, end, begun: None });
        Ok(())
    }

    /// Gives up the current segment and begins one of a new epoch.
    pub(super) fn retire(&mut self, epoch: u64, next: u64, durable: u64) -> Result<()> {
        if let Some(old) = self.current.take() {
            self.older.push((old.first_lsn, next));
        }
        self.rotate(epoch, next, durable)
    }

    /// Ends the current segment if it has groups and all of them are below `lsn`.
    pub(super) fn close(&mut self, lsn: u64) {
        let has_groups = |current: &mut Current| {
            current.begun.is_some() && current.end_lsn() <= lsn.min(self.hold)
        };
        if let Some(current) = self.current.take_if(has_groups) {
            self.older.push((current.first_lsn, current.end_lsn()));
        }
    }

    /// Removes segments that end at or below `lsn`; one becomes the spare.
    pub(super) fn release(&mut self, lsn: u64) -> Result<()> {
        let lsn = lsn.min(self.hold);
        if let Some(current) = &self.current {
            let end = current.end_lsn();
            let aged = self.keep.as_ref().is_some_and(|keep| {
                current.begun.is_some_and(|begun| begun.elapsed() >= keep.age_max)
            });
            // A half-used segment is kept for the groups to come, unless the store stops.
            if end <= lsn && (current.end > self.bytes / 2 || aged) {
                self.older.push((current.first_lsn, end));
                self.current = None;
            }
        }
        while let Some(&(first, end)) = self.older.first() {
            if end > lsn {
                break;
            }
            self.dispose(&segment_path(&self.dir, first))?;
            self.older.remove(0);
        }
        Ok(())
    }

    /// Removes every segment: called after the last checkpoint and after recovery's.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.current = None;
        self.older.clear();
        for path in super::scan::segment_files(&*self.storage, &self.dir)? {
            self.dispose(&path)?;
        }
        self.storage.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))
    }

    fn dispose(&mut self, path: &Path) -> Result<()> {
        if let Some(keep) = &self.keep
            && let Some(name) = self.name_to_keep(path)?
        {
            let to = keep.dir.join(name);
            return self.storage.rename(path, &to).map_err(Error::io("keep", path));
        }
        let whole = self.storage.stat(path).is_ok_and(|s| s.size >= self.bytes);
        if !self.spare && whole {
            let spare = spare_path(&self.dir);
            self.storage.rename(path, &spare).map_err(Error::io("rename", path))?;
            self.spare = true;
            return Ok(());
        }
        match self.storage.unlink(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("unlink", path)(e)),
            _ => Ok(()),
        }
    }

    /// The name under which the archive takes a segment; `None` for one whose header is damaged
    /// or that is gone.
    fn name_to_keep(&self, path: &Path) -> Result<Option<String>> {
        let mut block = [0; BLOCK_BYTES];
        match self.storage.open(path, Open::Read).and_then(|f| f.read_exact_at(&mut block, 0)) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", path)(e)),
        }
        match SegmentHeader::decode(&block) {
            Ok(header) => Ok(Some(kept_name(header.first_lsn.get(), header.epoch.get()))),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "not archived: the log is damaged");
                Ok(None)
            }
        }
    }

    pub(super) fn spare_to_make(&self) -> Option<SpareOrder> {
        (!self.spare).then(|| self.order())
    }

    pub(super) fn spare_made(&mut self) -> Result<()> {
        let making = making_path(&self.dir);
        if self.spare {
            return self.storage.unlink(&making).map_err(Error::io("unlink", making));
        }
        let spare = spare_path(&self.dir);
        self.storage.rename(&making, &spare).map_err(Error::io("rename", making))?;
        self.spare = true;
        Ok(())
    }

    fn order(&self) -> SpareOrder {
        SpareOrder { storage: self.storage.clone(), dir: self.dir.clone(), bytes: self.bytes }
    }
}

/// The kernel's boot id, zeros where it has none.
fn boot_id(storage: &dyn Storage) -> [u8; 16] {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let mut text = [0; 36];
    let read = storage.open(path, Open::Read).and_then(|f| f.read_exact_at(&mut text, 0));
    let digits: String =
        text.iter().filter(|b| b.is_ascii_hexdigit()).map(|&b| b as char).collect();
    match (read, u128::from_str_radix(&digits, 16)) {
        (Ok(()), Ok(id)) => id.to_be_bytes(),
        _ => [0; 16],
    }
}

/// Memory whose used part begins at a multiple of [`DIRECT_ALIGN`].
#[derive(Default)]
struct Aligned {
    memory: Vec<u8>,
}

impl Aligned {
    /// The parts one behind another, then zeros up to `len`.
    fn fill(&mut self, parts: &[&[u8]], len: usize) -> &[u8] {
        if self.memory.len() < len + DIRECT_ALIGN {
            self.memory = vec![0; len.next_power_of_two() + DIRECT_ALIGN];
        }
        let start = self.memory.as_ptr().align_offset(DIRECT_ALIGN);
        let out = &mut self.memory[start..start + len];
        let mut at = 0;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        out[at..].fill(0);
        out
    }
}
