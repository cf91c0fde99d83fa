//! Reading the log back at start.
//!
//! Rules: frames below the catalog's checkpoint LSN are skipped; in a segment of an older epoch,
//! frames at or above the durable LSN that a later epoch's segment states are void; a bad group
//! below a later group's durable LSN is a damaged block, named and passed over; above, it is the
//! end. Transactions without their last frame don't exist.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::format::segment::{
    BLOCK_BYTES, Group, LAST_OF_TRANSACTION, MAY_SKIP, SegmentHeader, decode_frame, frame_span,
};
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::{Kind, Open, Storage};

/// The frames of one transaction, in order.
pub struct Transaction {
    /// When its group was closed, microseconds since 1970; 0 in logs of version 1.
    pub time_us: u64,
    /// Where its group ends.
    pub end: Lsn,
    /// Which mailbox (zeros for the catalog), and what.
    pub frames: Vec<(MailboxId, Frame)>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Where new groups may begin.
    pub next: Lsn,
    /// Largest epoch seen.
    pub epoch_max: u64,
    /// Time of the last group, microseconds since 1970; 0 where there is none.
    pub time_us: u64,
    /// Segments of the log that are there, used or not.
    pub segments: usize,
    /// Transactions handed out.
    pub transactions: u64,
    /// Damage that was passed over, a line each.
    pub damage: Vec<String>,
}

/// Paths of all segments in use, by first LSN.
pub(super) fn segment_files(storage: &dyn Storage, dir: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    let listed = storage.list(dir, &mut |name, kind| {
        let digits = name.strip_suffix(b".log").filter(|d| d.len() == 16);
        if kind == Kind::File && digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
            out.push(dir.join(OsStr::from_bytes(name)));
        }
    });
    match listed {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        other => other.map_err(Error::io("list", dir))?,
    }
    out.sort();
    Ok(out)
}

struct Segment {
    path: PathBuf,
    header: SegmentHeader,
    bytes: Vec<u8>,
    void_at: u64,
}

/// Reads all transactions at or above `from` in order.
pub fn scan(
    storage: &dyn Storage,
    dir: &Path,
    store_id: StoreId,
    from: Lsn,
    each: &mut dyn FnMut(Transaction) -> Result<()>,
) -> Result<Scan> {
    let mut found = Scan { next: from, ..Scan::default() };
    let mut segments = Vec::new();
    for path in segment_files(storage, dir)? {
        match Segment::open(storage, path, store_id)? {
            Ok(segment) => segments.push(segment),
            Err(damage) => found.damage.push(damage),
        }
    }
    segments.sort_by_key(|s| (s.header.epoch.get(), s.header.first_lsn.get()));
    for i in 0..segments.len() {
        let epoch = segments[i].header.epoch.get();
        let later = segments[i + 1..].iter().filter(|s| s.header.epoch.get() > epoch);
        if let Some(limit) = later.map(|s| s.header.durable_lsn.get()).min() {
            segments[i].void_at = limit;
        }
        found.epoch_max = found.epoch_max.max(epoch);
        found.next = found.next.max(Lsn(segments[i].header.first_lsn.get()));
    }
    found.segments = segments.len();
    for segment in &segments {
        read_segment(segment, from, each, &mut found)?;
    }
    Ok(found)
}

/// Reads the transactions of one segment file wherever it lies, void ones of a later epoch
/// included; the header tells the rest. `Err` within: damage that leaves nothing to read.
pub fn scan_segment(
    storage: &dyn Storage,
    path: &Path,
    store_id: StoreId,
    each: &mut dyn FnMut(Transaction) -> Result<()>,
) -> Result<Result<(SegmentHeader, Scan), String>> {
    let segment = match Segment::open(storage, path.to_owned(), store_id)? {
        Ok(segment) => segment,
        Err(damage) => return Ok(Err(damage)),
    };
    let next = Lsn(segment.header.first_lsn.get());
    let epoch_max = segment.header.epoch.get();
    let mut found = Scan { next, epoch_max, segments: 1, ..Scan::default() };
    read_segment(&segment, Lsn(0), each, &mut found)?;
    Ok(Ok((segment.header, found)))
}

impl Segment {
    /// Reads a segment file; `Err` within: what is wrong with its header.
    fn open(
        storage: &dyn Storage,
        path: PathBuf,
        store_id: StoreId,
    ) -> Result<Result<Segment, String>> {
        let file = storage.open(&path, Open::Read).map_err(Error::io("open", &path))?;
        let size = file.size().map_err(Error::io("stat", &path))? as usize;
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", &path))?;
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) => header,
            Err(error) => return Ok(Err(format!("{}: {error}", path.display()))),
        };
        if header.store_id != store_id.0 {
            return Err(Error::Corrupt {
                path,
                expected: "a segment of this store's log",
                found: format!("one of store {}", StoreId(header.store_id)),
            });
        }
        Ok(Ok(Segment { path, header, bytes, void_at: u64::MAX }))
    }

    /// The group at an offset, if it is whole and within the file.
    fn group_at(&self, at: usize) -> Option<Group> {
        let header = &self.header;
        let lsn = header.first_lsn.get().checked_add((at - BLOCK_BYTES) as u64)?;
        let (version, epoch) = (header.version.get(), header.epoch.get());
        let group = Group::decode(self.bytes.get(at..)?, version, epoch, lsn)?;
        (at as u64 + group.span() <= (self.bytes.len() as u64).next_multiple_of(BLOCK_BYTES as u64)
            && at + group.header_bytes + group.frames_bytes <= self.bytes.len())
        .then_some(group)
    }

    /// Whether the file was cut, from what is at the offset behind its last whole group. A segment
    /// has its length before anything is written to it, and whole blocks; in an archive it ends with
    /// a group.
    fn cut_at(&self, at: usize) -> Option<String> {
        let header = &self.header;
        let (version, epoch) = (header.version.get(), header.epoch.get());
        let lsn = header.first_lsn.get().checked_add((at - BLOCK_BYTES) as u64)?;
        let begins = Group::decode(self.bytes.get(at..)?, version, epoch, lsn).is_some();
        let whole = self.bytes.len().is_multiple_of(BLOCK_BYTES);
        (begins || !whole).then(|| self.was_cut())
    }

    fn was_cut(&self) -> String {
        let (path, bytes) = (self.path.display(), self.bytes.len());
        format!("{path}: the file was cut to {bytes} bytes; what was behind is lost")
    }
}

fn read_segment(
    segment: &Segment,
    from: Lsn,
    each: &mut dyn FnMut(Transaction) -> Result<()>,
    found: &mut Scan,
) -> Result<()> {
    let epoch = segment.header.epoch.get();
    let first = segment.header.first_lsn.get();
    let mut at = BLOCK_BYTES;
    while at < segment.bytes.len() {
        let lsn = first + (at - BLOCK_BYTES) as u64;
        if lsn >= segment.void_at {
            break;
        }
        let Some(group) = segment.group_at(at) else {
            match next_group(segment, at) {
                Some((later, durable)) if durable > lsn => {
                    let path = segment.path.display();
                    found.damage.push(format!("{path}: offset {at}: a group is unreadable"));
                    at = later;
                    continue;
                }
                _ => {
                    found.damage.extend(segment.cut_at(at));
                    break;
                }
            }
        };
        let padding =
            segment.bytes.len().saturating_sub(at + group.header_bytes + group.frames_bytes);
        if (at as u64 + group.span()) > segment.bytes.len() as u64 && padding > 0 {
            found.damage.push(segment.was_cut());
        }
        let begin = at + group.header_bytes;
        let frames = &segment.bytes[begin..begin + group.frames_bytes];
        let torn = read_group(frames, lsn, &group, epoch, from, each, found)?;
        if let Some(error) = torn {
            match next_group(segment, at + group.span() as usize) {
                Some((_, durable)) if durable > lsn => {
                    found.damage.push(format!("{}: offset {at}: {error}", segment.path.display()));
                }
                _ => {
                    found.next = found.next.max(Lsn(lsn + group.span()));
                    break;
                }
            }
        }
        at += group.span() as usize;
        found.next = found.next.max(Lsn(lsn + group.span()));
        found.time_us = found.time_us.max(group.time_us);
    }
    Ok(())
}

/// The first whole group header at or behind `at`: its offset and what it knew to be durable.
fn next_group(segment: &Segment, at: usize) -> Option<(usize, u64)> {
    let blocks = (at..segment.bytes.len()).step_by(BLOCK_BYTES);
    blocks.into_iter().find_map(|offset| {
        let group = segment.group_at(offset)?;
        Some((offset, group.durable_lsn))
    })
}

/// Hands out the transactions of a group; returns what ended it early, if anything did.
fn read_group(
    frames: &[u8],
    group_lsn: u64,
    group: &Group,
    epoch: u64,
    from: Lsn,
    each: &mut dyn FnMut(Transaction) -> Result<()>,
    found: &mut Scan,
) -> Result<Option<String>> {
    let base = group_lsn + group.header_bytes as u64;
    let mut at = 0;
    let mut chain = 0;
    let mut open: Vec<(MailboxId, Frame)> = Vec::new();
    let mut transaction = base;
    while at < frames.len() {
        let lsn = base + at as u64;
        let (header, payload) = match decode_frame(&frames[at..], epoch, lsn, chain) {
            Ok(frame) => frame,
            Err(error) => return Ok(Some(error.to_string())),
        };
        if open.is_empty() {
            transaction = lsn;
        }
        chain = header.crc.get();
        at += frame_span(payload.len());
        match Frame::decode(header.kind, payload) {
            Ok(Some(frame)) => open.push((MailboxId(header.mailbox), frame)),
            Ok(None) if header.bits & MAY_SKIP != 0 => {}
            Ok(None) => {
                return Err(Error::Corrupt {
                    path: PathBuf::from(format!("log at LSN {lsn}")),
                    expected: "a frame type that this version knows",
                    found: format!("type {}", header.kind),
                });
            }
            Err(error) => return Ok(Some(error.to_string())),
        }
        if header.bits & LAST_OF_TRANSACTION != 0 {
            let frames = std::mem::take(&mut open);
            if transaction >= from.0 && !frames.is_empty() {
                found.transactions += 1;
                let end = Lsn(group_lsn + group.span());
                each(Transaction { time_us: group.time_us, end, frames })?;
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::io::sim::{Fault, Sim};
    use crate::log::{Log, LogStart};

    const DIR: &str = "/log";
    const STORE: StoreId = StoreId([7; 16]);

    fn log(sim: &Sim, epoch: u64, next: Lsn) -> Log {
        sim.create_dir_all(Path::new(DIR)).unwrap();
        let dir = PathBuf::from(DIR);
        let start = LogStart {
            dir,
            store_id: STORE,
            epoch,
            owner_epoch: 1,
            next,
            time_us: 0,
            bytes_max: 0,
            segment_bytes: None,
            archive: None,
        };
        Log::new(Arc::new(sim.clone()), start)
    }

    /// Pushes one transaction and writes its group; whether it became durable.
    fn put(log: &Log, n: usize) -> bool {
        let (tell, told) = std::sync::mpsc::channel();
        let frame =
            Frame::Subscription { user: "u".into(), name: format!("{n}"), on: n.is_multiple_of(2) };
        let tell = Box::new(move |result: Result<()>| tell.send(result.is_ok()).unwrap());
        let lsn = log.push(&[(MailboxId::default(), frame)], tell).unwrap();
        log.write_once();
        log.applied(lsn);
        told.recv().unwrap()
    }

    fn names(sim: &Sim, from: Lsn) -> (Vec<usize>, Scan) {
        let mut names = Vec::new();
        let mut each = |transaction: Transaction| {
            for (_, frame) in transaction.frames {
                let Frame::Subscription { name, .. } = frame else { panic!("{frame:?}") };
                names.push(name.parse().unwrap());
            }
            Ok(())
        };
        let found = scan(sim, Path::new(DIR), STORE, from, &mut each).unwrap();
        (names, found)
    }

    /// Spoils the block that holds the nth group (from 0) of the only segment.
    fn spoil(sim: &Sim, group: usize) {
        let path = segment_files(sim, Path::new(DIR)).unwrap().remove(0);
        let file = sim.open(&path, Open::Write).unwrap();
        file.write_at(&[0xaa; 16], (BLOCK_BYTES * (1 + group) + 8) as u64).unwrap();
    }

    #[test]
    fn what_was_written_is_read_back_in_order() {
        let sim = Sim::new(1);
        let log = log(&sim, 1, Lsn(0));
        assert!((0..20).all(|n| put(&log, n)));
        let (read, found) = names(&sim, Lsn(0));
        assert_eq!(read, (0..20).collect::<Vec<_>>());
        assert_eq!(found.damage, Vec::<String>::new());
        assert_eq!(found.next, log.applied_below());
        let half = Lsn(10 * BLOCK_BYTES as u64);
        assert_eq!(names(&sim, half).0, (10..20).collect::<Vec<_>>(), "from a checkpoint on");
    }

    #[test]
    fn times_of_groups_never_fall() {
        let sim = Sim::new(5);
        let before = crate::shared::now_us(&sim);
        let log = log(&sim, 1, Lsn(0));
        (0..5).for_each(|n| assert!(put(&log, n)));
        let after = crate::shared::now_us(&sim);
        let mut times = Vec::new();
        let mut each = |transaction: Transaction| {
            times.push(transaction.time_us);
            Ok(())
        };
        let found = scan(&sim, Path::new(DIR), STORE, Lsn(0), &mut each).unwrap();
        assert!(times.is_sorted() && times[0] >= before && times[4] <= after, "{times:?}");
        assert_eq!(found.time_us, times[4]);
    }

    #[test]
    fn damage_in_the_middle_is_named_and_a_torn_tail_is_the_end() {
        let sim = Sim::new(2);
        let log = log(&sim, 1, Lsn(0));
        (0..6).for_each(|n| assert!(put(&log, n)));
        spoil(&sim, 2);
        let (read, found) = names(&sim, Lsn(0));
        assert_eq!(read, [0, 1, 3, 4, 5]);
        assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
        spoil(&sim, 5);
        let (read, found) = names(&sim, Lsn(0));
        assert_eq!(read, [0, 1, 3, 4]);
        assert_eq!(found.damage.len(), 1, "the tail is no damage: {:?}", found.damage);
    }

    #[test]
    fn a_segment_that_was_cut_is_named() {
        let sim = Sim::new(6);
        let log = log(&sim, 1, Lsn(0));
        (0..6).for_each(|n| assert!(put(&log, n)));
        let path = segment_files(&sim, Path::new(DIR)).unwrap().remove(0);
        let file = sim.open(&path, Open::Write).unwrap();
        for (blocks, odd, read) in [(6, 100, 5), (4, 20, 3), (3, 1000, 3)] {
            file.set_len((blocks * BLOCK_BYTES + odd) as u64).unwrap();
            let (found_names, found) = names(&sim, Lsn(0));
            assert_eq!(found_names.len(), read);
            assert_eq!(found.damage.len(), 1, "{:?}", found.damage);
            assert!(found.damage[0].contains("was cut"), "{:?}", found.damage);
        }
    }

    #[test]
    fn a_group_whose_write_failed_is_void_though_it_is_on_the_device() {
        let sim = Sim::new(3);
        let log = log(&sim, 1, Lsn(0));
        assert!(put(&log, 0));
        // The bytes get there all the same, and are seen by whoever reads the file.
        sim.fail_at(sim.operations() + 1, Fault::Io);
        assert!(!put(&log, 1));
        assert!(put(&log, 2), "the log goes on in a new epoch");
        let (read, found) = names(&sim, Lsn(0));
        assert_eq!(read, [0, 2]);
        assert_eq!((found.segments, found.epoch_max), (2, 2));
    }

    #[test]
    fn a_segment_used_again_shows_nothing_of_its_past() {
        let sim = Sim::new(4);
        let first = log(&sim, 1, Lsn(0));
        (0..8).for_each(|n| assert!(put(&first, n)));
        let next = first.applied_below();
        first.release(next).unwrap();
        first.clear().unwrap();
        let second = log(&sim, 1, next);
        assert!(put(&second, 100));
        assert_eq!(names(&sim, next).0, [100]);
        assert_eq!(names(&sim, Lsn(0)).0, [100]);
    }
}
