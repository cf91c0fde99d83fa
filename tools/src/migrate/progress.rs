//! How far all users together are, how fast it goes, and not faster than allowed.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::output::human_bytes;

/// A line for people is written so often where standard error is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// How often the line on a terminal changes.
const TURN: Duration = Duration::from_millis(500);

/// What the threads of all users count.
#[derive(Default)]
pub struct Progress {
    /// Users to be done.
    pub users: u64,
    /// Users done.
    pub users_done: AtomicU64,
    /// Folders of the users begun.
    pub folders: AtomicU64,
    /// Folders done.
    pub folders_done: AtomicU64,
    /// Messages that the folders of the users begun have at the source.
    pub messages: AtomicU64,
    /// Messages of theirs that are over.
    pub messages_done: AtomicU64,
    /// Octets read.
    pub bytes: AtomicU64,
    /// Users begun.
    pub users_begun: AtomicU64,
    ended: AtomicBool,
    quiet: bool,
}

impl Progress {
    /// For so many users. `quiet`: nothing is shown.
    pub fn new(users: u64, quiet: bool) -> Progress {
        Progress { users, quiet, ..Progress::default() }
    }

    /// Tells people what happens, on a line of its own.
    pub fn say(&self, text: &str) {
        match std::io::stderr().is_terminal() {
            _ if self.quiet => {}
            true => eprintln!("\r\x1b[Kcursus: {text}"),
            false => eprintln!("cursus: {text}"),
        }
    }

    /// The line for people.
    pub fn line(&self, elapsed: Duration) -> String {
        let (bytes, seconds) = (count(&self.bytes), elapsed.as_secs_f64().max(0.001));
        let rate = human_bytes((bytes as f64 / seconds) as u64);
        let mut line = format!(
            "{} of {} users, {} of {} folders, {} of {} messages, {}, {rate}/s",
            count(&self.users_done),
            self.users,
            count(&self.folders_done),
            count(&self.folders),
            count(&self.messages_done),
            count(&self.messages),
            human_bytes(bytes),
        );
        if let Some(left) = self.left(seconds) {
            line += &format!(", {} left", human_time(left));
        }
        line
    }

    /// Seconds left if the rest goes like what is done: users not begun count as those begun.
    fn left(&self, seconds: f64) -> Option<f64> {
        let (begun, all) = (count(&self.users_begun) as f64, self.users as f64);
        let (done, known) = (count(&self.messages_done), count(&self.messages));
        if begun == 0.0 || known == 0 || done == 0 {
            return None;
        }
        let share = done as f64 / known as f64 * begun / all.max(1.0);
        Some(seconds / share - seconds)
    }

    /// Shows the line until [`Progress::end`]; on a terminal in one place.
    pub fn show(&self) {
        let quiet = self.quiet;
        let terminal = std::io::stderr().is_terminal();
        let (began, mut last) = (Instant::now(), Instant::now());
        while !self.ended.load(Ordering::Acquire) {
            std::thread::park_timeout(TURN);
            match terminal {
                _ if quiet => {}
                true => eprint!("\r\x1b[K{}", self.line(began.elapsed())),
                false if last.elapsed() >= LINE_EVERY => {
                    eprintln!("cursus: {}", self.line(began.elapsed()));
                    last = Instant::now();
                }
                false => {}
            }
        }
        if terminal && !quiet {
            eprint!("\r\x1b[K");
        }
    }

    /// Nothing more is shown.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

fn count(of: &AtomicU64) -> u64 {
    of.load(Ordering::Relaxed)
}

fn human_time(seconds: f64) -> String {
    let seconds = seconds.min(1e9) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// So many bytes a second for all users together.
pub struct Throttle {
    bytes_per_second: Option<u64>,
    /// When what was taken is paid for.
    until: Mutex<Instant>,
}

impl Throttle {
    /// Without a rate nobody waits.
    pub fn new(bytes_per_second: Option<u64>) -> Throttle {
        Throttle { bytes_per_second, until: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes are allowed.
    pub fn take(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let cost = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let wait = {
            let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            *until = (*until).max(now) + cost;
            *until - now
        };
        std::thread::sleep(wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_is_left() {
        let progress = Progress::new(4, false);
        progress.users_begun.store(2, Ordering::Relaxed);
        progress.messages.store(100, Ordering::Relaxed);
        progress.messages_done.store(50, Ordering::Relaxed);
        let line = progress.line(Duration::from_secs(10));
        assert!(line.ends_with("30 s left"), "{line}");
        assert!(line.contains("50 of 100 messages"), "{line}");
    }

    #[test]
    fn a_rate_is_kept() {
        let throttle = Throttle::new(Some(1_000_000));
        let began = Instant::now();
        (0..5).for_each(|_| throttle.take(10_000));
        assert!(began.elapsed() >= Duration::from_millis(49));
    }
}
