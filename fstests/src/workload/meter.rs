//! The measured loop: operations one after the other or side by side, each timed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::facts::Work;
use crate::stats::Samples;
use crate::stop;

/// What one measurement found.
#[derive(Debug, Default)]
pub struct Measured {
    /// Latency of each operation.
    pub samples: Samples,
    /// What the rate counts; more than the samples where one operation is about many messages.
    pub units: u64,
    /// Wall time of all.
    pub elapsed: Duration,
    /// How the cache was.
    pub cache: &'static str,
    /// What the device did meanwhile, where somebody watched it ([`super::Bench::watched`]).
    pub device: Option<Work>,
    /// What else to know.
    pub notes: Vec<String>,
}

impl Measured {
    /// Units a second.
    pub fn per_second(&self) -> f64 {
        self.units as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Does `count` operations, `concurrency` at a time; `operation` gets their numbers, each once.
/// Ends early, without an error, when `limit` is over.
///
/// # Errors
/// The first that an operation says; [`Error::Stopped`] on Ctrl-C.
pub(crate) fn side_by_side(
    count: usize,
    concurrency: usize,
    limit: Duration,
    operation: impl Fn(usize) -> Result<()> + Sync,
) -> Result<Measured> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let worker = || -> Result<Samples> {
        let mut samples = Samples::default();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let before = Instant::now();
            if n >= count || before - began > limit {
                return Ok(samples);
            }
            stop::check()?;
            operation(n)?;
            samples.push(before.elapsed());
        }
    };
    let results: Vec<Result<Samples>> = match concurrency {
        0 | 1 => vec![worker()],
        many => thread::scope(|scope| {
            let workers: Vec<_> = (0..many).map(|_| scope.spawn(worker)).collect();
            let ended = workers.into_iter().map(|worker| worker.join());
            ended.map(|r| r.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        }),
    };
    let elapsed = began.elapsed();
    let mut samples = Samples::default();
    for result in results {
        samples.merge(result?);
    }
    if samples.count() == 0 {
        return Err(Error::Usage("a measurement without operations".to_owned()));
    }
    let units = samples.count() as u64;
    Ok(Measured { samples, units, elapsed, cache: "warm", ..Measured::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn every_number_is_used_once_by_one_and_by_many() {
        for concurrency in [1, 4] {
            let seen = Mutex::new(Vec::new());
            let measured = side_by_side(100, concurrency, LONG, |n| {
                seen.lock().unwrap().push(n);
                Ok(())
            });
            assert_eq!(measured.unwrap().units, 100);
            let mut seen = seen.into_inner().unwrap();
            seen.sort_unstable();
            assert_eq!(seen, (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_loop_ends_at_its_limit_and_at_the_first_error() {
        let wait = |_| {
            thread::sleep(Duration::from_millis(5));
            Ok(())
        };
        let measured = side_by_side(1000, 1, Duration::from_millis(30), wait).unwrap();
        assert!(measured.units < 20, "{}", measured.units);
        let failing = |n| if n == 3 { Err(Error::Usage("three".into())) } else { Ok(()) };
        assert_eq!(side_by_side(9, 2, LONG, failing).unwrap_err().to_string(), "three");
    }
}
