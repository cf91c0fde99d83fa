//! Giving messages to a program that sends them, as Courier's Outbox does.
//!
//! The program is run as the configuration has it, without a shell, with `-oi -t -f USER` behind its
//! own arguments. Invariants: it sees the end of its input only when the whole message is in it, else
//! it is killed first; no thread waits for it longer than `outbox.seconds_max`.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use config::Outbox;
use tokio::sync::{mpsc, oneshot};

/// Programs that run at one time; each takes three threads.
const RUNNING_MAX: usize = 16;
/// Pieces of a message that may wait for the program.
const PIECES_MAX: usize = 4;
/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(20);
/// What is kept of the program's own words, in bytes.
const WORDS_BYTES_MAX: usize = 512;
/// How long the program's words are waited for once it has ended.
const WORDS_WAIT: Duration = Duration::from_millis(500);

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// A place among the programs that run.
struct Place;

impl Place {
    fn take() -> Option<Place> {
        let one_more = |n| (n < RUNNING_MAX).then_some(n + 1);
        RUNNING.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok().map(|_| Place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

enum Piece {
    Bytes(Vec<u8>),
    End,
}

/// A message on its way into the program. Dropped before its end, it is not sent.
pub(crate) struct Sending {
    pieces: mpsc::Sender<Piece>,
    done: oneshot::Receiver<Result<(), String>>,
}

impl Sending {
    /// Runs the program for a message of `sender`.
    ///
    /// # Errors
    /// Why it does not run, for the log.
    pub(crate) fn begin(config: &Outbox, sender: &str) -> Result<Sending, String> {
        let place =
            Place::take().ok_or_else(|| format!("{RUNNING_MAX} messages are being sent"))?;
        let (program, first) = config.sendmail.split_first().ok_or("outbox.sendmail is empty")?;
        let mut command = Command::new(program);
        command.args(first).args(["-oi", "-t", "-f", sender]).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let header = match config.header_from.as_str() {
            "" => String::new(),
            name => format!("{name}: {sender}\n"),
        };
        let (pieces, received) = mpsc::channel(PIECES_MAX);
        let (tell, done) = oneshot::channel();
        let time_max = Duration::from_secs(config.seconds_max);
        let watch = move || {
            let _place = place;
            let result = run(&mut child, header, received, time_max);
            // Killed or not, it is not left as a zombie.
            let _ = child.kill();
            let _ = child.wait();
            // The session may be gone.
            let _ = tell.send(result);
        };
        let thread = std::thread::Builder::new().name("cursus-outbox".to_owned());
        // Without the thread `child` is dropped, its input is closed: but nothing was in it.
        thread.spawn(watch).map_err(|error| format!("no thread: {error}"))?;
        Ok(Sending { pieces, done })
    }

    /// Gives the next piece of the message, with CRLF at line ends.
    pub(crate) async fn piece(&mut self, bytes: Vec<u8>) {
        // A program that is gone tells why at the end.
        let _ = self.pieces.send(Piece::Bytes(bytes)).await;
    }

    /// Ends the message, and waits until it is sent.
    ///
    /// # Errors
    /// Why it is not, for the log.
    pub(crate) async fn end(self) -> Result<(), String> {
        let _ = self.pieces.send(Piece::End).await;
        self.done.await.unwrap_or_else(|_| Err("its thread ended".to_owned()))
    }
}

/// How the program's input ended.
enum Fed {
    /// With the whole message, or before the program wanted all of it.
    Whole,
    /// The message broke off. The program must not see the end of its input.
    Broken(ChildStdin),
}

fn run(
    child: &mut Child,
    header: String,
    pieces: mpsc::Receiver<Piece>,
    time_max: Duration,
) -> Result<(), String> {
    let (Some(input), Some(words)) = (child.stdin.take(), child.stderr.take()) else {
        return Err("no pipes to the program".to_owned());
    };
    let (tell_fed, fed) = blocking::channel();
    let (tell_words, said) = blocking::channel();
    let thread = |work: Box<dyn FnOnce() + Send>| {
        let builder = std::thread::Builder::new().name("cursus-outbox".to_owned());
        builder.spawn(work).map(|_| ()).map_err(|error| format!("no thread: {error}"))
    };
    // What these two threads read from and write to ends with the program.
    thread(Box::new(move || drop(tell_words.send(heard(words)))))?;
    thread(Box::new(move || drop(tell_fed.send(feed(input, &header, pieces)))))?;
    let began = Instant::now();
    let status = loop {
        if let Ok(Fed::Broken(_input)) = fed.try_recv() {
            let _ = child.kill();
            return Err("the message broke off".to_owned());
        }
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() > time_max => {
                let _ = child.kill();
                return Err(format!("no end after {} s", time_max.as_secs()));
            }
            Ok(None) => std::thread::sleep(POLL),
            Err(error) => return Err(error.to_string()),
        }
    };
    if status.success() {
        return Ok(());
    }
    let words = said.recv_timeout(WORDS_WAIT).unwrap_or_default();
    Err(format!("{status}: {words}"))
}

/// Writes header field and message into the program, with the line ends that it expects.
fn feed(mut input: ChildStdin, header: &str, mut pieces: mpsc::Receiver<Piece>) -> Fed {
    let mut failed = input.write_all(header.as_bytes()).is_err();
    let mut lines = BareLines::default();
    loop {
        match pieces.blocking_recv() {
            None => return Fed::Broken(input),
            Some(Piece::End) => {
                let rest = lines.rest();
                if !failed {
                    let _ = input.write_all(rest).and_then(|()| input.flush());
                }
                return Fed::Whole;
            }
            Some(Piece::Bytes(bytes)) => {
                // Whoever ends before it has read everything says by its status what that means.
                failed = failed || input.write_all(&lines.of(&bytes)).is_err();
            }
        }
    }
}

/// What the program says on standard error, cut and in one line.
fn heard(mut words: impl Read) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(n @ 1..) = words.read(&mut buffer) {
        let room = WORDS_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
    let text = String::from_utf8_lossy(&kept);
    text.trim().replace(|c: char| c.is_control(), "/")
}

/// CRLF to LF, over any cuts.
#[derive(Default)]
struct BareLines {
    /// A CR that was held back.
    cr: bool,
}

impl BareLines {
    fn of(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 1);
        for &b in bytes {
            if std::mem::take(&mut self.cr) && b != b'\n' {
                out.push(b'\r');
            }
            match b {
                b'\r' => self.cr = true,
                _ => out.push(b),
            }
        }
        out
    }

    fn rest(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.cr) { b"\r" } else { b"" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(script: &str, seconds_max: u64) -> Outbox {
        let sendmail = ["/bin/sh", "-c", script, "sendmail"].map(str::to_owned).to_vec();
        Outbox { sendmail, seconds_max, ..Outbox::default() }
    }

    async fn send(config: &Outbox, pieces: &[&str]) -> Result<(), String> {
        let mut sending = Sending::begin(config, "jo@example.org").unwrap();
        for piece in pieces {
            sending.piece(piece.as_bytes().to_vec()).await;
        }
        sending.end().await
    }

    #[tokio::test]
    async fn a_message_goes_in_whole_with_bare_line_feeds() {
        let dir = tempfile::tempdir().unwrap();
        let (sent, with) = (dir.path().join("sent"), dir.path().join("with"));
        let script = format!("echo \"$@\" >{}; cat >{}", with.display(), sent.display());
        send(&config(&script, 10), &["To: a@b\r", "\n\r\nx\ry\r\n", "z\r"]).await.unwrap();
        let sent = std::fs::read_to_string(sent).unwrap();
        assert_eq!(sent, "X-IMAP-Sender: jo@example.org\nTo: a@b\n\nx\ry\nz\r");
        assert_eq!(std::fs::read_to_string(with).unwrap(), "-oi -t -f jo@example.org\n");
    }

    #[tokio::test]
    async fn failures_and_slowness_are_told() {
        let script = "cat >/dev/null; printf 'no\\nway' >&2; exit 75";
        let error = send(&config(script, 10), &["x"]).await.unwrap_err();
        assert!(error.contains("75") && error.ends_with("no/way"), "{error}");
        let error = send(&config("exit 1", 10), &[&"x".repeat(1 << 20)]).await.unwrap_err();
        assert!(error.contains('1'), "{error}");
        let began = Instant::now();
        let error = send(&config("exec sleep 60", 1), &["x"]).await.unwrap_err();
        assert!(error.contains("no end after 1 s"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30));
        let missing = Outbox { sendmail: vec!["/no/such".into()], ..Outbox::default() };
        assert!(Sending::begin(&missing, "jo").is_err());
    }

    #[tokio::test]
    async fn a_message_that_breaks_off_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let sent = dir.path().join("sent");
        let script = format!("cat >/dev/null; touch {}", sent.display());
        let mut sending = Sending::begin(&config(&script, 10), "jo").unwrap();
        sending.piece(b"To: a@b\r\n".to_vec()).await;
        let Sending { pieces, done } = sending;
        drop(pieces);
        assert_eq!(done.await.unwrap(), Err("the message broke off".to_owned()));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!sent.exists());
    }
}
