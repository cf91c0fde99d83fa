//! How long a core keeps its sessions waiting: a task on each core that measures how late its
//! timer is.
//!
//! Two histograms. `late` is wall time, so it also holds what the machine's other processes took.
//! `busy` is the part of it in which this thread itself used its processor: a session that held
//! the core so long. A stall shorter than [`PERIOD`] may be missed; of a longer one up to a period
//! is not seen. A core that has nothing to do is looked at less often, so that the first stall of
//! work that comes to it may be missed. The timer itself rounds up to a millisecond.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Time between two looks.
pub const PERIOD: Duration = Duration::from_millis(5);
/// Time between two looks on a core that has nothing to do: an idle server lets its machine sleep.
const IDLE_PERIOD: Duration = Duration::from_millis(200);
/// A core that used less of its processor between two looks has nothing to do.
const IDLE_USED_MAX: Duration = Duration::from_micros(200);

/// Each doubling of the time has so many buckets.
const STEPS: usize = 8;
/// Buckets up to 2^30 microseconds, a quarter of an hour.
const BUCKETS: usize = 28 * STEPS;

/// Counts of durations, in buckets an eighth apart.
pub struct Histogram([AtomicU64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Histogram {
    fn add(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(us)].fetch_add(1, Ordering::Relaxed);
    }

    /// Buckets that are not empty: largest microseconds, count.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(at, count)| (largest(at), count)).collect()
    }
}

fn bucket(us: u64) -> usize {
    let us = us as usize;
    if us < STEPS {
        return us;
    }
    let doubling = us.ilog2() as usize - STEPS.ilog2() as usize;
    let step = (us >> doubling) - STEPS;
    ((doubling + 1) * STEPS + step).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn largest(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (doubling, step) = (bucket / STEPS - 1, bucket % STEPS);
    (((STEPS + step + 1) as u64) << doubling) - 1
}

/// What was seen on one core since the start.
#[derive(Default)]
pub struct Stalls {
    /// Wall time between when the timer was due and when the task ran.
    pub late: Histogram,
    /// Of that, processor time of the core's thread.
    pub busy: Histogram,
}

/// Measures for as long as the core runs.
pub async fn probe(stalls: &Stalls) {
    let mut period = PERIOD;
    loop {
        let used_before = used_by_thread();
        let due = Instant::now() + period;
        tokio::time::sleep_until(due.into()).await;
        let late = due.elapsed();
        let used = used_by_thread().saturating_sub(used_before);
        stalls.late.add(late);
        stalls.busy.add(late.min(used));
        period = if used < IDLE_USED_MAX { IDLE_PERIOD } else { PERIOD };
    }
}

/// Processor time of the calling thread.
fn used_by_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        for us in (0..100_000).chain([u64::MAX >> 34, 1 << 29]) {
            let at = bucket(us);
            assert!(us <= largest(at), "{us} is in a bucket up to {}", largest(at));
            assert!(at == 0 || us > largest(at - 1), "{us} belongs below");
            assert!(largest(at) - us <= us / STEPS as u64, "{us}: too coarse");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_task_that_holds_the_core_is_seen_and_one_that_sleeps_is_not_busy() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stalls = Stalls::default();
        runtime.block_on(async {
            let held = async {
                // Work enough to be looked at often.
                for _ in 0..100 {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(1) {}
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                std::thread::sleep(Duration::from_millis(50));
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            tokio::select! { () = probe(&stalls) => {}, () = held => {} }
        });
        assert!(stalls.late.buckets().last().is_some_and(|(us, _)| *us >= 40_000));
        assert!(stalls.busy.buckets().last().is_some_and(|(us, _)| *us < 40_000));
    }
}
