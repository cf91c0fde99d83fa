//! The thread that has the files of transcripts: one for all, as few are written at a time.
//!
//! Sessions give it what they have and go on. What is queued is bounded by [`QUEUE_BYTES_MAX`];
//! whatever comes above that is left out, with a line that says how many bytes. A file that reached its
//! bound, whose directory was removed, or that cannot be written, ends.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use time::OffsetDateTime;
use tokio::sync::oneshot;

/// Bytes that may wait for the thread, of all sessions.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// What the thread is asked for.
enum Job {
    Open { number: u64, path: PathBuf, user: String, bytes_max: u64, state: Arc<State> },
    Write { number: u64, bytes: Vec<u8> },
    Close { number: u64 },
}

/// What session and thread know of a file.
#[derive(Default)]
struct State {
    over: AtomicBool,
    opened: parking_lot::Mutex<Option<oneshot::Sender<bool>>>,
}

/// What all have in common.
#[derive(Default)]
struct Queue {
    bytes: AtomicUsize,
    /// An opening took too long, and the thread has not come back from it.
    stuck: AtomicBool,
}

/// The way to the thread, which ends when this and all sheets are gone.
pub(super) struct Writer {
    jobs: Sender<Job>,
    queue: Arc<Queue>,
    next: AtomicU64,
}

/// A file, as a session has it.
pub(super) struct Sheet {
    number: u64,
    jobs: Sender<Job>,
    queue: Arc<Queue>,
    state: Arc<State>,
    /// Bytes that had no room in the queue, and of which the file says nothing yet.
    left_out: u64,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start() -> Option<Writer> {
        let (jobs, receiver) = channel();
        let queue = Arc::<Queue>::default();
        let thread = std::thread::Builder::new().name("cursus-telemetry".to_owned());
        let (held, next) = (queue.clone(), AtomicU64::new(0));
        match thread.spawn(move || work(&receiver, &held)) {
            Ok(_) => Some(Writer { jobs, queue, next }),
            Err(error) => {
                tracing::warn!(target: "cursus", reason = %error,
                    "cannot start the thread for transcripts: there are none");
                None
            }
        }
    }

    /// Opens a user's file; `None` where there is no directory for it, or none within `patience`.
    pub(super) async fn open(
        &self,
        path: PathBuf,
        user: &str,
        bytes_max: u64,
        patience: Duration,
    ) -> Option<Sheet> {
        if self.queue.stuck.load(Ordering::Relaxed) {
            return None;
        }
        let (answer, opened) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State { opened: Some(answer).into(), ..State::default() });
        let (jobs, queue) = (self.jobs.clone(), self.queue.clone());
        let sheet = Sheet { number, jobs, queue, state: state.clone(), left_out: 0 };
        let (at, user) = (path.clone(), user.to_owned());
        self.jobs.send(Job::Open { number, path, user, bytes_max, state }).ok()?;
        match tokio::time::timeout(patience, opened).await {
            Ok(opened) => opened.unwrap_or(false).then_some(sheet),
            Err(_) => {
                self.queue.stuck.store(true, Ordering::Relaxed);
                tracing::warn!(target: "cursus", file = %at.display(),
                    "opening a transcript takes too long: there are none until it is done");
                None
            }
        }
    }
}

impl Writer {
    /// Waits until all is written that was asked for.
    pub(super) fn finish(&self, patience: Duration) {
        let end = Instant::now() + patience;
        while self.queue.bytes.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Sheet {
    /// Has `bytes` written behind all before.
    pub(super) fn write(&mut self, bytes: Vec<u8>) {
        if self.is_over() {
            return;
        }
        let length = bytes.len();
        let before = self.queue.bytes.fetch_add(length, Ordering::Relaxed);
        if before + length > QUEUE_BYTES_MAX {
            self.queue.bytes.fetch_sub(length, Ordering::Relaxed);
            self.left_out += length as u64;
            return;
        }
        self.say_what_is_left_out();
        let _ = self.jobs.send(Job::Write { number: self.number, bytes });
    }

    /// Lines of so few bytes go past the queue's bound.
    fn say_what_is_left_out(&mut self) {
        let bytes = std::mem::take(&mut self.left_out);
        if bytes > 0 {
            let bytes = format!("\n---------- {bytes} bytes left out\n").into_bytes();
            self.queue.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
            let _ = self.jobs.send(Job::Write { number: self.number, bytes });
        }
    }

    /// The file is full, or cannot be written.
    pub(super) fn is_over(&self) -> bool {
        self.state.over.load(Ordering::Relaxed)
    }

    /// One without a file.
    #[cfg(test)]
    pub(super) fn nowhere() -> Sheet {
        let (jobs, _) = channel();
        Sheet { number: 0, jobs, queue: Arc::default(), state: Arc::default(), left_out: 0 }
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        self.say_what_is_left_out();
        let _ = self.jobs.send(Job::Close { number: self.number });
    }
}

/// A file, as the thread has it.
struct Open {
    file: File,
    path: PathBuf,
    /// Bytes that it may still get.
    room: u64,
    state: Arc<State>,
}

/// The thread's life.
fn work(jobs: &Receiver<Job>, queue: &Queue) {
    let mut open: HashMap<u64, Open> = HashMap::new();
    while let Ok(job) = jobs.recv() {
        // Whoever gave up waiting has said so before he closed the file: that job clears it, too.
        queue.stuck.store(false, Ordering::Relaxed);
        match job {
            Job::Open { number, path, user, bytes_max, state } => {
                let found = match begin(&path, &user, bytes_max) {
                    Ok((file, room)) => {
                        open.insert(number, Open { file, path, room, state: state.clone() });
                        true
                    }
                    // Nobody has asked for this user's transcripts.
                    Err(error) if no_directory(&error) => false,
                    Err(error) => {
                        say_over(&path, &error.to_string());
                        false
                    }
                };
                if let Some(answer) = state.opened.lock().take() {
                    // Whoever has gone has closed it, too: that job follows.
                    let _ = answer.send(found);
                }
            }
            Job::Write { number, bytes } => {
                if let Some(one) = open.get_mut(&number)
                    && let Err(error) = one.write(&bytes)
                {
                    one.state.over.store(true, Ordering::Relaxed);
                    say_over(&one.path, &error.to_string());
                    open.remove(&number);
                }
                queue.bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
            }
            Job::Close { number } => drop(open.remove(&number)),
        }
    }
}

fn no_directory(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn say_over(file: &std::path::Path, reason: &str) {
    tracing::warn!(target: "cursus", file = %file.display(), reason, "a transcript ends");
}

/// Opens a file and begins it; also gives how many bytes it may still get.
fn begin(path: &std::path::Path, user: &str, bytes_max: u64) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    // Whatever lies there must not lead elsewhere, nor let us wait for a reader.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    options.append(true).create(true).mode(0o600).custom_flags(flags);
    let mut file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file"));
    }
    let head = format!("---------- {user} {}\n\n", day_and_time(OffsetDateTime::now_utc()));
    file.write_all(head.as_bytes())?;
    Ok((file, bytes_max.saturating_sub(metadata.len() + head.len() as u64)))
}

/// As ctime(3) has it, in UTC.
fn day_and_time(at: OffsetDateTime) -> String {
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    format!(
        "{:.3} {:.3} {:2} {:02}:{:02}:{:02} {}",
        weekday,
        month,
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.year()
    )
}

impl Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Written on, a file without a name would only take room.
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed"));
        }
        let fits = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        self.file.write_all(&bytes[..fits])?;
        self.room -= fits as u64;
        if fits < bytes.len() {
            self.file.write_all(b"\n---------- the end: telemetry.file_bytes_max\n")?;
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "telemetry.file_bytes_max"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opened(writer: &Writer, path: &std::path::Path, bytes_max: u64) -> Option<Sheet> {
        writer.open(path.to_owned(), "jo", bytes_max, Duration::from_secs(20)).await
    }

    /// The file, once the thread has done what it was asked for.
    async fn read(writer: &Writer, path: &std::path::Path) -> String {
        assert!(opened(writer, std::path::Path::new("/nowhere/at/all"), 0).await.is_none());
        std::fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn files_end_where_they_have_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("imap-1");
        let writer = Writer::start().unwrap();
        let mut sheet = opened(&writer, &path, 60).await.unwrap();
        let head = read(&writer, &path).await;
        assert!(head.starts_with("---------- jo ") && head.ends_with("\n\n"), "{head}");
        sheet.write(vec![b'x'; 60]);
        let text = read(&writer, &path).await;
        let end = "x\n---------- the end: telemetry.file_bytes_max\n";
        assert!(text.len() == 60 + end.len() - 1 && text.ends_with(end), "{text}");
        assert!(sheet.is_over());
        // Appended to where it exists, but not above the bound either.
        let mut again = opened(&writer, &path, 60).await.unwrap();
        again.write(b"more".to_vec());
        assert!(!read(&writer, &path).await.contains("more"));
        // A removed one takes no room.
        let other = dir.path().join("imap-2");
        let mut gone = opened(&writer, &other, 1 << 20).await.unwrap();
        std::fs::remove_file(&other).unwrap();
        gone.write(b"x".to_vec());
        read(&writer, &path).await;
        assert!(gone.is_over());
        assert_eq!(writer.queue.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_has_no_room_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("imap-1");
        let writer = Writer::start().unwrap();
        let mut sheet = opened(&writer, &path, 1 << 30).await.unwrap();
        writer.queue.bytes.store(QUEUE_BYTES_MAX, Ordering::Relaxed);
        sheet.write(vec![b'x'; 1000]);
        sheet.write(vec![b'x'; 24]);
        writer.queue.bytes.store(0, Ordering::Relaxed);
        sheet.write(b"behind".to_vec());
        let text = read(&writer, &path).await;
        assert!(text.ends_with("\n\n\n---------- 1024 bytes left out\nbehind"), "{text}");
        // And where nothing follows.
        writer.queue.bytes.store(QUEUE_BYTES_MAX, Ordering::Relaxed);
        sheet.write(vec![b'x'; 7]);
        drop(sheet);
        assert!(read(&writer, &path).await.ends_with("\n---------- 7 bytes left out\n"));
    }

    #[tokio::test]
    async fn who_does_not_wait_has_no_file_and_keeps_nobody_from_one() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::start().unwrap();
        for n in 0..50 {
            let path = dir.path().join(format!("imap-{n}"));
            // Nearly always too short.
            let sheet = writer.open(path, "jo", 1 << 20, Duration::ZERO).await;
            drop(sheet);
            let end = Instant::now() + Duration::from_secs(20);
            let path = dir.path().join(format!("pop3-{n}"));
            while opened(&writer, &path, 1 << 20).await.is_none() {
                assert!(Instant::now() < end, "the thread is not asked any more");
            }
        }
    }

    #[test]
    fn times_are_as_ctime_has_them() {
        let at = OffsetDateTime::from_unix_timestamp(1_796_060_673).unwrap();
        assert_eq!(day_and_time(at), "Mon Nov 30 17:44:33 2026");
        let at = OffsetDateTime::from_unix_timestamp(0).unwrap();
        assert_eq!(day_and_time(at), "Thu Jan  1 00:00:00 1970");
    }
}
