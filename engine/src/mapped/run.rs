//! Walks over neighbours: what [`Table::record`] asks before each load is asked once for a page.
//!
//! Invariant: a run gives nothing that the table would not give for the same page state. Whatever
//! makes what was loaded doubtful (a change in place, a page that is lost) shows in one of the two
//! numbers that are compared after each load.

use std::sync::atomic::Ordering;

use super::guard::Guarded;
use super::{Cells, Memory, PAGE_RECORDS, Table, Writes, load};
use crate::format::index::Record;

/// Verified neighbours, by one look at their page's state for all of them. It counts as long as nobody
/// wrote in place and no page was lost since that look, which each load asks afterwards.
pub(crate) struct Run<'t> {
    cells: &'t [Cells],
    /// Index of the first one.
    first: usize,
    writes: &'t Writes,
    before: u64,
    map: Option<(&'t Guarded, usize)>,
}

impl Run<'_> {
    /// As [`Table::record`]; `None` where that has to be asked: outside the run, or when it counts no
    /// more.
    #[inline]
    pub(crate) fn record(&self, index: usize) -> Option<Record> {
        let words = load(self.cells.get(index.wrapping_sub(self.first))?);
        self.still().then(|| Record::decode_unchecked(&words))
    }

    /// As [`Table::uid`], likewise.
    #[inline]
    pub(crate) fn uid(&self, index: usize) -> Option<u32> {
        let cells = self.cells.get(index.wrapping_sub(self.first))?;
        let word = u64::from_le(cells[0].load(Ordering::Acquire));
        self.still().then_some(word as u32)
    }

    #[inline]
    fn still(&self) -> bool {
        self.writes.still(self.before) && self.map.is_none_or(|(map, whole)| map.still(whole))
    }
}

impl Table {
    /// The verified records from `index` on, of `count` committed ones, up to the end of their page;
    /// `None` where [`Table::record`] has to look closer.
    pub(crate) fn run(&self, index: usize, count: usize) -> Option<Run<'_>> {
        if index >= count {
            return None;
        }
        let table = self.live();
        let before = table.writes.quiet()?;
        let page = index / PAGE_RECORDS;
        let end = (page * PAGE_RECORDS + table.verified_of(page)).min(count);
        if index >= end {
            return None;
        }
        let map = match &table.memory {
            Memory::Map(map) => Some((map, map.whole()?)),
            Memory::Words(_) => None,
        };
        let (cells, writes) = (table.cells(index..end), &*table.writes);
        Some(Run { cells, first: index, writes, before, map })
    }
}
