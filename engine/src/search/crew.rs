//! [`Crew`]: the threads that look through messages, shared by all searches.
//!
//! A search is cut into turns of well under a millisecond's worth of warm messages. The threads
//! take turns of the waiting searches in rotation, so that each search has the same share however
//! large it is, and a search that is alone has all of them.
//!
//! Invariants: no thread exists before the first search; a turn that panics ends its search alone;
//! dropping the crew ends the threads, with the searches that wait.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// What thread lists show.
const THREAD_NAME: &str = "cursus-search";
/// How much these threads stand back behind those that serve sessions.
const NICENESS: i32 = 5;

/// Work that several threads can do turns of at the same time.
pub(crate) trait Turns: Send + Sync {
    /// Does one turn. False when there is nothing left to begin.
    fn turn(&self) -> bool;
}

/// See the module.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    threads_max: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<dyn Turns>>,
    threads: usize,
    closing: bool,
}

impl Crew {
    /// A crew of at most `threads_max` threads; with none, each search is done where it begins.
    pub(crate) fn new(threads_max: usize) -> Crew {
        Crew { shared: Arc::default(), threads_max }
    }

    /// Queues a search.
    pub(crate) fn begin(&self, work: Arc<dyn Turns>) {
        let mut state = self.shared.state.lock();
        state.waiting.push_back(work);
        while state.threads < self.threads_max {
            let shared = self.shared.clone();
            let builder = std::thread::Builder::new().name(THREAD_NAME.to_owned());
            if let Err(error) = builder.spawn(move || shared.work_until_closed()) {
                tracing::error!(%error, "cannot start a thread for searches");
                break;
            }
            state.threads += 1;
        }
        let none = state.threads == 0;
        drop(state);
        self.shared.work.notify_all();
        if none {
            // Slowly, and in the caller's place, but the search ends.
            while self.shared.one_turn() {}
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closing = true;
        state.waiting.clear();
        drop(state);
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn work_until_closed(&self) {
        // Refused where a sandbox forbids it; then these threads compete with the others.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        loop {
            {
                let mut state = self.state.lock();
                while state.waiting.is_empty() {
                    if state.closing {
                        return;
                    }
                    self.work.wait(&mut state);
                }
            }
            self.one_turn();
        }
    }

    /// One turn of the search that is next, which goes to the end of the queue for the threads
    /// that are free now. False when none waits.
    fn one_turn(&self) -> bool {
        let work = {
            let mut state = self.state.lock();
            let Some(work) = state.waiting.pop_front() else { return false };
            state.waiting.push_back(work.clone());
            work
        };
        let more = catch_unwind(AssertUnwindSafe(|| work.turn())).unwrap_or_else(|_| {
            tracing::error!("a search panicked");
            false
        });
        if !more {
            self.state.lock().waiting.retain(|other| !Arc::ptr_eq(other, &work));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    struct Count {
        name: char,
        left: AtomicU32,
        log: mpsc::Sender<char>,
    }

    impl Turns for Count {
        fn turn(&self) -> bool {
            let left =
                self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if left.is_ok() {
                std::thread::sleep(Duration::from_millis(1));
                let _ = self.log.send(self.name);
            }
            left.is_ok()
        }
    }

    struct Panics;

    impl Turns for Panics {
        fn turn(&self) -> bool {
            panic!("on purpose")
        }
    }

    #[test]
    fn a_small_search_does_not_wait_for_a_large_one() {
        let crew = Crew::new(1);
        let (log, done) = mpsc::channel();
        let count = |name, n| Arc::new(Count { name, left: AtomicU32::new(n), log: log.clone() });
        crew.begin(Arc::new(Panics));
        crew.begin(count('a', 300));
        crew.begin(count('b', 5));
        let order: Vec<char> =
            (0..305).map(|_| done.recv_timeout(Duration::from_secs(20)).unwrap()).collect();
        let last = order.iter().rposition(|name| *name == 'b').unwrap();
        assert!(last < 100, "the small search ended at turn {last}");
    }
}
