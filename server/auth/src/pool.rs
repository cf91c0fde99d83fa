//! Hashing threads, off the cores, fair by address.
//!
//! Each origin has a queue of its own and the queues take turns, so that one address that sends a
//! thousand logins delays another address's login by one hash, not by a thousand. Queues are
//! bounded: past that the login fails for now. A login whose connection is gone isn't hashed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::directory::{AuthError, Unavailable};
use crate::limit::Origin;

type Job = Box<dyn FnOnce() + Send>;

/// How large the pool is.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// Threads that hash.
    pub threads: usize,
    /// Logins that may wait, in all.
    pub queue_max: usize,
    /// Logins that may wait from one address.
    pub queue_per_address_max: usize,
}

#[derive(Default)]
struct Queues {
    by_origin: HashMap<Origin, VecDeque<Job>>,
    /// Origins with a queue, next one first. Each is in here once.
    turns: VecDeque<Origin>,
    waiting: usize,
    closed: bool,
}

impl Queues {
    fn pop(&mut self) -> Option<Job> {
        let origin = self.turns.pop_front()?;
        let queue = self.by_origin.get_mut(&origin)?;
        let job = queue.pop_front();
        if queue.is_empty() {
            self.by_origin.remove(&origin);
        } else {
            self.turns.push_back(origin);
        }
        self.waiting = self.waiting.saturating_sub(usize::from(job.is_some()));
        job
    }
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    ready: Condvar,
}

/// The threads. Dropping it lets them end after their current job.
pub struct HashPool {
    shared: Arc<Shared>,
    settings: PoolSettings,
}

impl HashPool {
    /// Starts the threads.
    pub fn start(settings: PoolSettings) -> std::io::Result<HashPool> {
        let shared = Arc::new(Shared::default());
        for n in 0..settings.threads.max(1) {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("hash-{n}")).spawn(move || work(&shared))?;
        }
        Ok(HashPool { shared, settings })
    }

    /// Runs `work` on a thread of the pool.
    ///
    /// # Errors
    /// `Busy` if too many logins wait; `Unavailable` if the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        origin: Origin,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AuthError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let job: Job = Box::new(move || {
            if !sender.is_closed() {
                // The connection may go away while we hash; then nobody needs the result.
                let _ = sender.send(work());
            }
        });
        self.push(origin, job)?;
        let died = || AuthError::Unavailable(Unavailable("a hashing thread failed".to_owned()));
        receiver.await.map_err(|_| died())
    }

    fn push(&self, origin: Origin, job: Job) -> Result<(), AuthError> {
        let mut queues = self.shared.queues.lock();
        if queues.waiting >= self.settings.queue_max {
            return Err(AuthError::Busy);
        }
        let queue = queues.by_origin.entry(origin).or_default();
        if queue.len() >= self.settings.queue_per_address_max {
            return Err(AuthError::Busy);
        }
        queue.push_back(job);
        if queue.len() == 1 {
            queues.turns.push_back(origin);
        }
        queues.waiting += 1;
        drop(queues);
        self.shared.ready.notify_one();
        Ok(())
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.shared.queues.lock().closed = true;
        self.shared.ready.notify_all();
    }
}

fn work(shared: &Shared) {
    let mut queues = shared.queues.lock();
    while !queues.closed {
        match queues.pop() {
            None => shared.ready.wait(&mut queues),
            Some(job) => parking_lot::MutexGuard::unlocked(&mut queues, || {
                // A hash that panics fails its own login; the thread serves the next one.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a password check panicked");
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn origin(n: u8) -> Origin {
        Origin::from(std::net::IpAddr::from(Ipv4Addr::new(192, 0, 2, n)))
    }

    fn pool(threads: usize) -> HashPool {
        HashPool::start(PoolSettings { threads, queue_max: 6, queue_per_address_max: 4 }).unwrap()
    }

    /// Occupies the only thread until the guard is dropped.
    fn occupy(pool: &HashPool) -> std::sync::mpsc::Sender<()> {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let (started, start) = std::sync::mpsc::channel();
        pool.push(
            origin(0),
            Box::new(move || {
                started.send(()).unwrap();
                let _ = wait.recv();
            }),
        )
        .unwrap();
        start.recv().unwrap();
        release
    }

    #[test]
    fn addresses_take_turns() {
        let pool = pool(1);
        let release = occupy(&pool);
        let (sender, receiver) = std::sync::mpsc::channel();
        for n in [1, 1, 1, 2] {
            let sender = sender.clone();
            pool.push(origin(n), Box::new(move || sender.send(n).unwrap())).unwrap();
        }
        drop((release, sender));
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2, 1, 1]);
    }

    #[test]
    fn full_queues_are_busy() {
        let pool = pool(1);
        let _release = occupy(&pool);
        for _ in 0..4 {
            pool.push(origin(1), Box::new(|| ())).unwrap();
        }
        assert_eq!(pool.push(origin(1), Box::new(|| ())), Err(AuthError::Busy));
        for _ in 0..2 {
            pool.push(origin(2), Box::new(|| ())).unwrap();
        }
        assert_eq!(pool.push(origin(3), Box::new(|| ())), Err(AuthError::Busy));
    }

    #[tokio::test]
    async fn a_panic_fails_one_login_only() {
        let pool = pool(1);
        let failed = pool.run(origin(1), || panic!("in a test")).await;
        assert!(matches!(failed, Err::<(), _>(AuthError::Unavailable(_))));
        assert_eq!(pool.run(origin(1), || 7).await, Ok(7));
    }
}
