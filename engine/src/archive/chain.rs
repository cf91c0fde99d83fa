//! The segments of an archive in order: what is void, what is missing, where a moment is.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::format::{FORMAT, Gap, SegmentManifest, names_in, read_json, time_text};
use super::taker::parse_kept_name;
use crate::error::Result;
use crate::format::segment::BLOCK_BYTES;
use crate::ids::{Lsn, StoreId};
use crate::io::Storage;
use crate::log::scan_segment;

/// A segment that an archive or a backup has.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentFound {
    /// Its file.
    pub path: PathBuf,
    /// Seeds its CRCs; rises with every start of the store.
    pub epoch: u64,
    /// Of its first group.
    pub first_lsn: u64,
    /// Behind its last group.
    pub end_lsn: u64,
    /// Frames of older epochs at or above this are void.
    pub durable_lsn: u64,
    /// Its own frames at or above this are void.
    pub void_lsn: u64,
    /// Microseconds since 1970.
    pub first_time_us: u64,
    /// Microseconds since 1970.
    pub last_time_us: u64,
}

/// Changes that are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapFound {
    /// Where it begins.
    pub first_lsn: u64,
    /// Where it ends.
    pub end_lsn: u64,
    /// Time of the last change before it, microseconds since 1970; 0 when there is none.
    pub after_us: u64,
    /// What was noted about it; empty when nothing was.
    pub reason: String,
}

impl std::fmt::Display for GapFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, end, after) = (self.first_lsn, self.end_lsn, time_text(self.after_us));
        write!(f, "gap from LSN {first} to {end}, after {after}")?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason) }
    }
}

/// All segments of a store that were found, by epoch and LSN.
pub(super) struct Chain {
    pub(super) segments: Vec<SegmentFound>,
    pub(super) noted: Vec<Gap>,
    /// Files that look like segments and cannot be read.
    pub(super) damage: Vec<String>,
    /// Segments that were cut off before their manifest: not counted.
    pub(super) unfinished: Vec<PathBuf>,
    pub(super) owner_epoch_max: u32,
}

impl Chain {
    /// Reads the segments of these archive directories, and of base backups' log directories.
    pub(super) fn read(
        storage: &dyn Storage,
        roots: &[PathBuf],
        base_logs: &[PathBuf],
        store_id: StoreId,
    ) -> Result<Chain> {
        let mut chain = Chain {
            segments: Vec::new(),
            noted: Vec::new(),
            damage: Vec::new(),
            unfinished: Vec::new(),
            owner_epoch_max: 0,
        };
        let store = store_id.to_string();
        for root in roots {
            let dir = root.join("log");
            for name in names_in(storage, &dir)? {
                if parse_kept_name(&name).is_some() {
                    chain.add_archived(storage, &dir.join(name), &store)?;
                }
            }
            let dir = root.join("gaps");
            for name in names_in(storage, &dir)? {
                match read_json::<Gap>(storage, &dir.join(&name)) {
                    Ok(gap) if gap.store == store => chain.noted.push(gap),
                    Ok(_) => {}
                    Err(error) => chain.damage.push(error.to_string()),
                }
            }
        }
        for dir in base_logs {
            for name in names_in(storage, dir)? {
                if parse_kept_name(&name).is_some() {
                    chain.add_scanned(storage, &dir.join(name), store_id)?;
                }
            }
        }
        chain.settle();
        Ok(chain)
    }

    fn add_archived(&mut self, storage: &dyn Storage, path: &Path, store: &str) -> Result<()> {
        let manifest_path = path.with_extension("json");
        if storage.stat(&manifest_path).is_err() {
            self.unfinished.push(path.to_owned());
            return Ok(());
        }
        match read_json::<SegmentManifest>(storage, &manifest_path) {
            Ok(m) if m.store == store && m.format <= FORMAT => {
                self.owner_epoch_max = self.owner_epoch_max.max(m.owner_epoch);
                self.segments.push(SegmentFound {
                    path: path.to_owned(),
                    epoch: m.epoch,
                    first_lsn: m.first_lsn,
                    end_lsn: m.end_lsn,
                    durable_lsn: m.durable_lsn,
                    void_lsn: u64::MAX,
                    first_time_us: m.first_time_us,
                    last_time_us: m.last_time_us,
                });
            }
            Ok(m) => self.damage.push(format!("{}: of store {}", path.display(), m.store)),
            Err(error) => self.damage.push(error.to_string()),
        }
        Ok(())
    }

    fn add_scanned(&mut self, storage: &dyn Storage, path: &Path, store: StoreId) -> Result<()> {
        let mut times: Option<(u64, u64)> = None;
        let read = scan_segment(storage, path, store, &mut |transaction| {
            let time = transaction.time_us;
            times = Some(times.map_or((time, time), |(first, _)| (first, time)));
            Ok(())
        })?;
        match read {
            Ok((header, found)) => {
                self.damage.extend(found.damage);
                let (first_time_us, last_time_us) = times.unwrap_or_default();
                self.segments.push(SegmentFound {
                    path: path.to_owned(),
                    epoch: header.epoch.get(),
                    first_lsn: header.first_lsn.get(),
                    end_lsn: found.next.0,
                    durable_lsn: header.durable_lsn.get(),
                    void_lsn: u64::MAX,
                    first_time_us,
                    last_time_us,
                });
            }
            Err(damage) => self.damage.push(damage),
        }
        Ok(())
    }

    /// Order, one of each, and what is void by a later epoch's word.
    fn settle(&mut self) {
        let longest_first = |s: &SegmentFound| (s.epoch, s.first_lsn, u64::MAX - s.end_lsn);
        self.segments.sort_by_key(longest_first);
        self.segments.dedup_by_key(|s| (s.epoch, s.first_lsn));
        let mut limit = u64::MAX;
        let mut later = u64::MAX;
        let mut epoch = u64::MAX;
        for segment in self.segments.iter_mut().rev() {
            if segment.epoch != epoch {
                (epoch, limit) = (segment.epoch, later);
            }
            segment.void_lsn = limit;
            later = later.min(segment.durable_lsn);
        }
    }

    pub(super) fn epoch_max(&self) -> u64 {
        self.segments.last().map_or(0, |s| s.epoch)
    }

    /// Whether what `epoch` wrote up to `end` stands: no later epoch says otherwise.
    pub(super) fn stands(&self, epoch: u64, end: Lsn) -> bool {
        self.segments.iter().all(|s| s.epoch <= epoch || s.durable_lsn >= end.0)
    }

    /// Where the last group ends whose time is not above `time_us`.
    pub(super) fn end_at(
        &self,
        storage: &dyn Storage,
        time_us: u64,
        store_id: StoreId,
    ) -> Result<Lsn> {
        let mut end = 0;
        for segment in &self.segments {
            let whole = segment.end_lsn.min(segment.void_lsn);
            if segment.first_lsn >= whole {
                continue;
            }
            if segment.first_time_us > time_us {
                break;
            }
            if segment.last_time_us <= time_us {
                end = end.max(whole);
                continue;
            }
            let read = scan_segment(storage, &segment.path, store_id, &mut |transaction| {
                if transaction.time_us <= time_us && transaction.end.0 <= whole {
                    end = end.max(transaction.end.0);
                }
                Ok(())
            })?;
            if let Err(damage) = read {
                tracing::error!(damage, "a segment of the archive cannot be read");
            }
        }
        Ok(Lsn(end))
    }

    /// Where everything ends, and the time of the last change.
    pub(super) fn end(&self) -> (Lsn, u64) {
        let stands = self.segments.iter().filter(|s| s.first_lsn < s.end_lsn.min(s.void_lsn));
        stands.fold((Lsn(0), 0), |(end, time), s| {
            (end.max(Lsn(s.end_lsn.min(s.void_lsn))), time.max(s.last_time_us))
        })
    }

    /// What is missing between two LSNs. `to` is `None` for all that ever was.
    pub(super) fn gaps(&self, from: Lsn, to: Option<Lsn>) -> Vec<GapFound> {
        let mut covered = from.0;
        let mut after_us = 0;
        let mut gaps = Vec::new();
        let reason = |first: u64, end: u64| {
            let about = self.noted.iter().filter(|g| g.first_lsn < end && g.end_lsn > first);
            about.map(|g| g.reason.clone()).next_back().unwrap_or_default()
        };
        let limit = to.map_or(u64::MAX, |to| to.0);
        for segment in &self.segments {
            // Begun behind what a later epoch lets stand: all of it is void.
            if segment.durable_lsn >= segment.void_lsn {
                continue;
            }
            if segment.durable_lsn > covered && segment.durable_lsn < limit {
                let (first_lsn, end_lsn) = (covered, segment.durable_lsn);
                let reason = reason(first_lsn, end_lsn);
                gaps.push(GapFound { first_lsn, end_lsn, after_us, reason });
                covered = segment.durable_lsn;
            }
            // What lies between the durable LSN and the first group is void by the header's word.
            covered = covered.max(segment.end_lsn.min(segment.void_lsn));
            if segment.end_lsn <= covered && segment.first_lsn < segment.void_lsn {
                after_us = after_us.max(segment.last_time_us);
            }
        }
        if limit >= covered {
            // Dropped at the end: nothing later tells of it but the note.
            for gap in self.noted.iter().filter(|g| g.end_lsn > covered) {
                let (first_lsn, end_lsn) = (gap.first_lsn.max(covered), gap.end_lsn);
                let reason = gap.reason.clone();
                gaps.push(GapFound { first_lsn, end_lsn, after_us, reason });
            }
        }
        gaps
    }

    /// Bytes of a segment's file that count below `limit`; 0 for none.
    pub(super) fn bytes_below(segment: &SegmentFound, limit: Lsn) -> u64 {
        let end = segment.end_lsn.min(segment.void_lsn).min(limit.0);
        match end.checked_sub(segment.first_lsn) {
            None | Some(0) => 0,
            Some(groups) => BLOCK_BYTES as u64 + groups,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(epoch: u64, first: u64, end: u64, durable: u64) -> SegmentFound {
        SegmentFound {
            path: PathBuf::new(),
            epoch,
            first_lsn: first,
            end_lsn: end,
            durable_lsn: durable,
            void_lsn: u64::MAX,
            first_time_us: first,
            last_time_us: end,
        }
    }

    fn chain(segments: Vec<SegmentFound>) -> Chain {
        let (noted, damage, unfinished) = Default::default();
        let mut chain = Chain { segments, noted, damage, unfinished, owner_epoch_max: 0 };
        chain.settle();
        chain
    }

    #[test]
    fn segments_that_follow_each_other_have_no_gap() {
        let all = chain(vec![segment(1, 0, 8, 0), segment(1, 8, 20, 8), segment(2, 20, 30, 20)]);
        assert_eq!(all.gaps(Lsn(0), None), []);
        assert_eq!(all.gaps(Lsn(10), None), []);
        let without = chain(vec![segment(1, 0, 8, 0), segment(2, 20, 30, 20)]);
        let gaps = without.gaps(Lsn(0), None);
        assert_eq!(gaps.len(), 1);
        assert_eq!((gaps[0].first_lsn, gaps[0].end_lsn, gaps[0].after_us), (8, 20, 8));
        assert_eq!(without.gaps(Lsn(0), Some(Lsn(8))), [], "behind the end");
        assert_eq!(without.gaps(Lsn(20), None), [], "before the base");
    }

    #[test]
    fn a_failed_write_is_void_and_no_gap() {
        // Epoch 1 wrote up to 20, durable to 12 only; the log went on at 20 in epoch 2.
        let all = chain(vec![segment(1, 0, 20, 0), segment(2, 20, 30, 12), segment(3, 30, 40, 30)]);
        assert_eq!(all.segments[0].void_lsn, 12);
        assert_eq!(all.gaps(Lsn(0), None), []);
        assert_eq!(Chain::bytes_below(&all.segments[0], Lsn(u64::MAX)), BLOCK_BYTES as u64 + 12);
    }

    #[test]
    fn a_restored_store_makes_what_came_after_its_moment_void() {
        let all = chain(vec![segment(1, 0, 20, 0), segment(2, 20, 40, 20), segment(9, 16, 30, 16)]);
        assert_eq!((all.segments[0].void_lsn, all.segments[1].void_lsn), (16, 16));
        assert_eq!(Chain::bytes_below(&all.segments[1], Lsn(u64::MAX)), 0);
        assert!(all.stands(1, Lsn(16)) && !all.stands(2, Lsn(40)));
        assert_eq!(all.end().0, Lsn(30));
        assert_eq!(all.gaps(Lsn(0), None), []);
    }
}
