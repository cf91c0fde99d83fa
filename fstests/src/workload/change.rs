//! Loops that change a folder without a commit log: flags by rename, removals.

use std::sync::{Mutex, PoisonError};

use super::{Bench, FILL_MAX, Measured, Spool, side_by_side};
use crate::error::Result;

/// Messages of a folder that a loop uses up: as large as the place's folder, within this.
const USED_UP_MAX: usize = 20_000;

/// Makes files in the folder itself, and removes them afterwards.
pub(super) fn create(bench: &Bench<'_>) -> Result<Measured> {
    let made = Mutex::new(Vec::with_capacity(bench.operations));
    let measured = side_by_side(bench.operations, 1, bench.limit, |_| {
        let at = bench.folder.put(b"")?;
        made.lock().unwrap_or_else(PoisonError::into_inner).push(at);
        Ok(())
    });
    for at in made.into_inner().unwrap_or_else(PoisonError::into_inner) {
        bench.folder.remove(&at)?;
    }
    bench.folder.settle()?;
    measured
}

pub(super) fn flags(bench: &Bench<'_>) -> Result<Measured> {
    let all: Vec<Mutex<_>> = bench.folder.list()?.into_iter().map(Mutex::new).collect();
    let measured = side_by_side(bench.operations, 1, bench.limit, |n| {
        let mut at = all[n % all.len()].lock().unwrap_or_else(PoisonError::into_inner);
        *at = bench.folder.flip_seen(&at)?;
        Ok(())
    });
    bench.folder.settle()?;
    measured
}

/// A folder of its own, to be used up.
fn fresh(bench: &Bench<'_>) -> Result<Spool> {
    let spool = Spool::create(bench.storage.clone(), bench.dir, "used-up")?;
    let count = bench.folder.list()?.len().clamp(1, USED_UP_MAX);
    spool.fill(bench.corpus, count, FILL_MAX)?;
    Ok(spool)
}

pub(super) fn expunge(bench: &Bench<'_>) -> Result<Measured> {
    let spool = fresh(bench)?;
    let all = spool.list()?;
    let mut measured = side_by_side(all.len(), 1, bench.limit, |n| {
        spool.remove(&all[n])?;
        // The last one makes all of them durable, as one EXPUNGE does.
        if n + 1 == all.len() { spool.sync_names() } else { Ok(()) }
    })?;
    measured.notes.push(format!("{} messages, one directory sync at the end", all.len()));
    Ok(measured)
}

pub(super) fn pop3_drain(bench: &Bench<'_>) -> Result<Measured> {
    let spool = fresh(bench)?;
    let all = spool.list()?;
    let mut buffer = Vec::new();
    let storage = spool.storage();
    for at in &all {
        let path = spool.path(at);
        storage.stat(&path).map_err(crate::error::Error::io("look at", &path))?;
    }
    let buffer = Mutex::new(&mut buffer);
    side_by_side(all.len(), 1, bench.limit, |n| {
        let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
        spool.read(&all[n], &mut buffer)?;
        spool.remove(&all[n])?;
        if n + 1 == all.len() { spool.sync_names() } else { Ok(()) }
    })
}
