//! Deliveries as MTAs and delivery agents make them, without a commit log.

use super::{Bench, Hand, Measured, side_by_side};
use crate::error::Result;

/// Delivers into the place's folder, and removes what was delivered afterwards.
pub(super) fn by_hand(bench: &Bench<'_>, hand: Hand) -> Result<Measured> {
    let delivered = std::sync::Mutex::new(Vec::with_capacity(bench.operations));
    let deliver = |n: usize| {
        let at = bench.folder.deliver(bench.corpus.stored(n), hand)?;
        delivered.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(at);
        Ok(())
    };
    let all = || side_by_side(bench.operations, bench.concurrency, bench.limit, deliver);
    // What nobody syncs the device writes at another time.
    let measured = if hand == Hand::Unsynced { all() } else { bench.watched(all) };
    let delivered = delivered.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for at in &delivered {
        bench.folder.remove(at)?;
    }
    bench.folder.settle()?;
    measured
}
