//! How far a long run is, and how long it will take: a bar on a terminal, a line now and then
//! elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress of one run, on standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    said: Instant,
    done: u64,
    all: u64,
}

impl Progress {
    /// Begins a run of so many steps of about equal length.
    pub fn new(steps: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{elapsed_precise} [{bar:32}] {pos}/{len} {msg} (left: {eta})";
            let bar = ProgressBar::new(steps);
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar
        });
        let began = Instant::now();
        Progress { bar, began, said: began, done: 0, all: steps }
    }

    /// Says what comes now.
    pub fn begin(&mut self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None if self.said.elapsed() >= LINE_EVERY => {
                self.said = Instant::now();
                let left = time_left(self.began.elapsed(), self.done, self.all);
                eprintln!("{}/{} {what} (left: {left})", self.done, self.all);
            }
            None => {}
        }
    }

    /// One step is done.
    pub fn step(&mut self) {
        self.steps(1);
    }

    /// So many steps are done.
    pub fn steps(&mut self, count: u64) {
        self.done += count;
        if let Some(bar) = &self.bar {
            bar.inc(count);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What is left, from the mean of what was done.
fn time_left(elapsed: Duration, done: u64, steps: u64) -> String {
    if done == 0 {
        return "not known yet".to_owned();
    }
    let seconds = elapsed.as_secs_f64() / done as f64 * steps.saturating_sub(done) as f64;
    match seconds as u64 {
        s @ 0..60 => format!("{s} s"),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_the_mean_step_times_the_steps_left() {
        assert_eq!(time_left(Duration::from_secs(10), 0, 9), "not known yet");
        assert_eq!(time_left(Duration::from_secs(10), 5, 10), "10 s");
        assert_eq!(time_left(Duration::from_secs(30), 1, 6), "2 min 30 s");
        assert_eq!(time_left(Duration::from_secs(30), 6, 6), "0 s");
    }
}
