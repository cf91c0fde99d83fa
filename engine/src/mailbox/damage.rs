//! Damage that readers met, until the mender looks at it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::mapped::Trust;

/// Positions of a mailbox's records that are damaged: in the index, the facts or the heap.
pub(crate) struct Damage {
    noted: Mutex<BTreeSet<usize>>,
    any: AtomicBool,
    trust: Arc<Trust>,
}

impl Damage {
    pub(crate) fn new(trust: &Arc<Trust>) -> Arc<Damage> {
        let (noted, any) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Damage { noted, any, trust: trust.clone() })
    }

    /// Notes a position; the store's ticker has it mended soon.
    pub(crate) fn note(&self, position: usize) {
        self.noted.lock().insert(position);
        self.any.store(true, Ordering::Release);
        self.trust.raise_alarm();
    }

    /// Whether something waits.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// What waits; from here on it is the caller's.
    pub(crate) fn take(&self) -> BTreeSet<usize> {
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *self.noted.lock())
    }
}
