//! How long a core keeps its sessions waiting, in two ways.
//!
//! **Turns.** Every poll of a session's task is measured ([`Meter::measured`]): wall time; of that,
//! what the core's thread did not spend waiting for a processor that others had (`own`: what it
//! computed, and what it waited for locks and disks); and its processor time alone (`busy`). So
//! what other programs took of the machine is told apart from what the session did to the others.
//! Turns below [`LONG`] count in all three with their wall time. For longer ones the kernel is asked,
//! and since it was last asked up to [`LONG`] before the turn, `own` and `busy` may be so much too
//! large.
//!
//! **A timer** on each core that measures how late it comes: `late` is wall time, `busy` the core's
//! own processor time within it. It also sees what is no session's. A stall shorter than [`PERIOD`]
//! may be missed; of a longer one up to a period is not seen. A core that has nothing to do is
//! looked at less often, so that the first stall of work that comes to it may be missed; its turn
//! is measured all the same. The timer itself rounds up to a millisecond.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use rustix::time::{ClockId, clock_gettime};

/// Time between two looks.
pub const PERIOD: Duration = Duration::from_millis(5);
/// Time between two looks on a core that has nothing to do: an idle server lets its machine sleep.
const IDLE_PERIOD: Duration = Duration::from_millis(200);
/// A core that used less of its processor between two looks has nothing to do.
const IDLE_USED_MAX: Duration = Duration::from_micros(200);

/// Of turns that take so long the kernel is asked what they spent the time on.
const LONG: Duration = Duration::from_millis(1);
/// Turns of which so much was the session's own are told in the log, at level debug.
const TOLD: Duration = Duration::from_millis(5);

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
    /// Wall time of turns.
    pub turns: Histogram,
    /// Of that, all but what the thread waited for a processor.
    pub turns_own: Histogram,
    /// Of that, processor time.
    pub turns_busy: Histogram,
}

/// What a thread had used at some moment.
#[derive(Clone, Copy)]
struct Used {
    at: Instant,
    /// Processor time.
    busy: Duration,
    /// Time in which it could have run, and others did.
    waited: Duration,
}

/// Measures the turns of one core. Stays on its thread.
pub struct Meter {
    stalls: Arc<Stalls>,
    /// The thread's `schedstat`; without it nothing is known of waiting for a processor, and `own`
    /// is wall time.
    waits: Option<File>,
    last: Cell<Used>,
    doing: Cell<&'static str>,
}

impl Meter {
    /// The meter of the calling thread.
    pub fn new(stalls: Arc<Stalls>) -> Meter {
        let waits = File::open("/proc/thread-self/schedstat").ok();
        let nothing = Used { at: Instant::now(), busy: Duration::ZERO, waited: Duration::ZERO };
        let meter = Meter { stalls, waits, last: Cell::new(nothing), doing: Cell::new("") };
        meter.last.set(meter.used());
        meter
    }

    /// Says what the present turn is busy with, and those of the same task that follow.
    pub fn doing(&self, what: &'static str) {
        self.doing.set(what);
    }

    /// A task with each of its turns measured. `what`: see [`Meter::doing`].
    pub fn measured<F: Future>(self: &Rc<Self>, what: &'static str, task: F) -> Measured<F> {
        Measured { meter: self.clone(), doing: what, task }
    }

    fn used(&self) -> Used {
        let mut text = [0; 64];
        let read = self.waits.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        Used {
            at: Instant::now(),
            busy: used_by_thread(),
            waited: waited(&text[..read.unwrap_or(0)]).unwrap_or_default(),
        }
    }

    fn turn<R>(&self, work: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        if began.duration_since(self.last.get().at) > LONG {
            self.last.set(self.used());
        }
        let result = work();
        let took = began.elapsed();
        self.stalls.turns.add(took);
        if took < LONG {
            self.stalls.turns_own.add(took);
            self.stalls.turns_busy.add(took);
            return result;
        }
        let (before, now) = (self.last.get(), self.used());
        self.last.set(now);
        let waited = now.waited.saturating_sub(before.waited);
        let waited_before = began.saturating_duration_since(before.at);
        let own = took.saturating_sub(waited.saturating_sub(waited_before));
        let busy = took.min(now.busy.saturating_sub(before.busy));
        self.stalls.turns_own.add(own);
        self.stalls.turns_busy.add(busy);
        if own >= TOLD {
            let doing = self.doing.get();
            tracing::debug!(target: "cursus::stalls", doing, ?took, ?own, ?busy, "a long turn");
        }
        result
    }
}

/// The second figure of a `schedstat`: nanoseconds that the thread waited for a processor.
fn waited(schedstat: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(schedstat).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

pin_project! {
    /// See [`Meter::measured`].
    pub struct Measured<F> {
        meter: Rc<Meter>,
        doing: &'static str,
        #[pin]
        task: F,
    }
}

impl<F: Future> Future for Measured<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.meter.doing(this.doing);
        let polled = this.meter.turn(|| this.task.poll(context));
        *this.doing = this.meter.doing.get();
        polled
    }
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
    fn turns_tell_computing_from_waiting() {
        let stalls = Arc::new(Stalls::default());
        let meter = Rc::new(Meter::new(stalls.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = meter.clone();
        runtime.block_on(meter.measured("first", async move {
            std::thread::sleep(Duration::from_millis(30));
            told.doing("second");
            tokio::task::yield_now().await;
            assert_eq!(told.doing.get(), "second");
            let used = used_by_thread();
            while used_by_thread() < used + Duration::from_millis(15) {}
        }));
        let count = |histogram: &Histogram, from: u64| -> u64 {
            let buckets = histogram.buckets().into_iter();
            buckets.filter(|(us, _)| *us >= from).map(|(_, count)| count).sum()
        };
        assert_eq!(count(&stalls.turns, 0), 2);
        assert_eq!(count(&stalls.turns, 15_000), 2);
        assert_eq!(count(&stalls.turns_own, 15_000), 2, "sleeping on the core is its own doing");
        assert_eq!(count(&stalls.turns_busy, 15_000), 1);
        assert_eq!(waited(b"300346 435795 3\n"), Some(Duration::from_nanos(435_795)));
        assert_eq!(waited(b""), None);
    }

    #[test]
    fn a_task_that_holds_the_core_is_seen_and_one_that_sleeps_is_not_busy() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stalls = Stalls::default();
        runtime.block_on(async {
            let held = async {
                // Work enough to be looked at often, also where others have the processor.
                for _ in 0..100 {
                    let used = used_by_thread();
                    while used_by_thread() < used + Duration::from_millis(1) {}
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                // Longer than any pause between two looks.
                std::thread::sleep(Duration::from_millis(250));
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            tokio::select! { () = probe(&stalls) => {}, () = held => {} }
        });
        assert!(stalls.late.buckets().last().is_some_and(|(us, _)| *us >= 40_000));
        assert!(stalls.busy.buckets().last().is_some_and(|(us, _)| *us < 40_000));
    }
}
