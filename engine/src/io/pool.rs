//! [`HelperPool`]: a bounded number of threads for calls that block or compute for long.
//!
//! Invariants: jobs start in the order they came; a panicking job ends neither its thread nor the
//! wait for it; when the last handle goes, queued jobs still run and the threads then end.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// What thread lists show.
const THREAD_NAME: &str = "helper";

type Job = Box<dyn FnOnce() + Send>;

/// A job given to the pool panicked; its result does not exist.
#[derive(Debug, thiserror::Error)]
#[error("a job on a helper thread panicked")]
pub struct JobPanicked;

impl From<JobPanicked> for io::Error {
    fn from(lost: JobPanicked) -> io::Error {
        io::Error::other(lost)
    }
}

/// Handle to a pool of threads; clones share the threads.
#[derive(Clone)]
pub struct HelperPool {
    owner: Arc<Owner>,
}

/// Ends the threads when the last handle goes; the threads themselves hold `Shared` only.
struct Owner {
    shared: Arc<Shared>,
}

struct Shared {
    /// None: jobs wait for [`HelperPool::run_one`].
    threads_max: usize,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closing: bool,
}

impl HelperPool {
    /// A pool of at most `threads_max` threads (at least one); each starts when there is work for
    /// it.
    pub fn new(threads_max: usize) -> HelperPool {
        let shared = Arc::new(Shared {
            threads_max: threads_max.max(1),
            state: Mutex::default(),
            work: Condvar::new(),
        });
        HelperPool { owner: Arc::new(Owner { shared }) }
    }

    /// A pool without threads: a job runs when somebody calls [`HelperPool::run_one`]. For tests
    /// that decide on the order of things.
    pub fn manual() -> HelperPool {
        let shared = Shared { threads_max: 0, state: Mutex::default(), work: Condvar::new() };
        HelperPool { owner: Arc::new(Owner { shared: Arc::new(shared) }) }
    }

    /// Runs the job that has waited longest on the calling thread; `false` when none waits.
    pub fn run_one(&self) -> bool {
        let job = self.owner.shared.state.lock().queue.pop_front();
        job.map(run_job).is_some()
    }

    /// Queues a job. It runs even when nobody waits for it.
    pub fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        let shared = &self.owner.shared;
        let mut state = shared.state.lock();
        state.queue.push_back(Box::new(job));
        if state.idle >= state.queue.len() {
            drop(state);
            shared.work.notify_one();
        } else if state.threads < shared.threads_max {
            state.threads += 1;
            drop(state);
            self.start_thread();
        }
    }

    /// Runs `job` on a helper thread and waits for its result, on any executor. Dropping the
    /// future abandons the result, not the job.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JobPanicked> {
        let (reply, result) = oneshot::channel();
        self.spawn(move || {
            // Nobody listens when the waiter is gone; the result is dropped here then.
            let _ = reply.send(job());
        });
        result.await.map_err(|_| JobPanicked)
    }

    fn start_thread(&self) {
        let shared = self.owner.shared.clone();
        let started = std::thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || shared.work_until_closed());
        if let Err(error) = started {
            let shared = &self.owner.shared;
            let mut state = shared.state.lock();
            state.threads -= 1;
            // With other threads alive the queue is served, only later.
            let orphan = if state.threads == 0 { state.queue.pop_front() } else { None };
            drop(state);
            tracing::error!(%error, "cannot start a helper thread");
            if let Some(job) = orphan {
                run_job(job);
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn work_until_closed(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                run_job(job);
                state = self.state.lock();
            } else if state.closing {
                state.threads -= 1;
                return;
            } else {
                state.idle += 1;
                self.work.wait(&mut state);
                state.idle -= 1;
            }
        }
    }
}

fn run_job(job: Job) {
    // A job owns what it touches; what it shares guards itself (no lock here is poisoned).
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("a job on a helper thread panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn run_returns_the_result_and_survives_panics() {
        let pool = HelperPool::new(1);
        for n in 0..3 {
            assert!(block_on(pool.run(|| panic!("on purpose"))).is_err());
            assert_eq!(block_on(pool.run(move || n)).unwrap(), n);
        }
    }

    #[test]
    fn one_thread_keeps_the_order_and_no_more_threads_than_allowed_run() {
        let pool = HelperPool::new(2);
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (done, all) = mpsc::channel();
        for _ in 0..20 {
            let (running, most, done) = (running.clone(), most.clone(), done.clone());
            pool.spawn(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2));
                running.fetch_sub(1, Ordering::SeqCst);
                done.send(()).unwrap();
            });
        }
        for _ in 0..20 {
            all.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);

        let single = HelperPool::new(1);
        let (done, all) = mpsc::channel();
        for n in 0..100 {
            let done = done.clone();
            single.spawn(move || done.send(n).unwrap());
        }
        let order: Vec<i32> = (0..100).map(|_| all.recv().unwrap()).collect();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn queued_jobs_run_after_the_last_handle_is_gone() {
        let (done, all) = mpsc::channel();
        let pool = HelperPool::new(1);
        pool.spawn(|| std::thread::sleep(Duration::from_millis(20)));
        pool.spawn(move || done.send(5).unwrap());
        drop(pool);
        assert_eq!(all.recv_timeout(Duration::from_secs(10)).unwrap(), 5);
    }
}
