//! Where commands begin and end: lines, literals, streamed messages. Bytes in, events out.
//!
//! A push parser. The session hands [`Framer::next`] whatever bytes it has and gets at most one
//! event and the number of bytes that it used up. Invariants:
//!
//! - the same bytes split anywhere give the same events (a message's bytes may come in other
//!   pieces);
//! - no more than [`Limits::command_bytes_max`] and one line are ever held;
//! - a message literal of APPEND is never held: its bytes go out as [`Event::MessageData`];
//! - input past a limit is read and dropped to its end, so that the session can answer BAD or NO
//!   and go on; only what is past the `*_SKIP_*` limits too ends the connection;
//! - nothing is taken from the input before the session has dealt with the event before, so
//!   pipelined commands keep their order.
//!
//! A line may end in CRLF or in a bare LF.

mod append;

use self::append::{AnnotationScan, is_append_past_mailbox};

/// Longest stretch of command text between literals, in bytes, after login.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Longest literal other than a message, in bytes, after login.
pub const LITERAL_BYTES_MAX: u64 = 64 << 10;
/// Longest command with all its literals but without messages, in bytes, after login.
pub const COMMAND_BYTES_MAX: usize = 256 << 10;
/// How much text past a limit is read and dropped before the connection is given up, in bytes.
pub const TEXT_SKIP_BYTES_MAX: u64 = 1 << 20;
/// The longest unwanted literal that is read and dropped, in bytes.
pub const LITERAL_SKIP_BYTES_MAX: u64 = 512 << 20;

/// How much of an overlong command is kept, so that its tag can be answered.
const HEAD_BYTES: usize = 256;
/// Enough of a line's end to recognise `~{18446744073709551615+}` and its CR.
const TAIL_BYTES: usize = 32;

/// How much a client may make the server hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`LINE_BYTES_MAX`].
    pub line_bytes_max: usize,
    /// See [`LITERAL_BYTES_MAX`].
    pub literal_bytes_max: u64,
    /// See [`COMMAND_BYTES_MAX`].
    pub command_bytes_max: usize,
}

impl Limits {
    /// For clients that have not logged in: 2,000 of them cost little.
    pub const BEFORE_LOGIN: Limits =
        Limits { line_bytes_max: 8 << 10, literal_bytes_max: 4 << 10, command_bytes_max: 16 << 10 };
    /// For users.
    pub const AFTER_LOGIN: Limits = Limits {
        line_bytes_max: LINE_BYTES_MAX,
        literal_bytes_max: LITERAL_BYTES_MAX,
        command_bytes_max: COMMAND_BYTES_MAX,
    };
}

/// A literal as announced at a line's end: `{n}`, `{n+}` (RFC 7888), `~{n}` (RFC 3516).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal {
    /// Its size; a number that doesn't fit reads as `u64::MAX`.
    pub bytes: u64,
    /// The client waits for `+` before it sends.
    pub synchronizing: bool,
    /// `literal8`: NUL is allowed.
    pub binary: bool,
}

impl Literal {
    /// Reads the announcement at the end of `line` (without CRLF). Also returns where it starts.
    pub fn at_end_of(line: &[u8]) -> Option<(usize, Literal)> {
        let inner = line.strip_suffix(b"}")?;
        let (inner, synchronizing) = match inner.strip_suffix(b"+") {
            Some(inner) => (inner, false),
            None => (inner, true),
        };
        let digits = inner.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let open = inner.len().checked_sub(digits + 1)?;
        if digits == 0 || inner[open] != b'{' {
            return None;
        }
        let bytes = inner[open + 1..].iter().try_fold(0u64, |n, b| {
            n.checked_mul(10).and_then(|n| n.checked_add(u64::from(b - b'0')))
        });
        let binary = open > 0 && inner[open - 1] == b'~';
        let start = if binary { open - 1 } else { open };
        Some((start, Literal { bytes: bytes.unwrap_or(u64::MAX), synchronizing, binary }))
    }
}

/// Which limit a command went past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// [`Limits::line_bytes_max`]
    Line,
    /// [`Limits::literal_bytes_max`]
    Literal,
    /// [`Limits::command_bytes_max`]
    Command,
}

/// What the session has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole command, its literals inside as sent, without the last line end.
    Command(&'a [u8]),
    /// A line that [`Framer::expect_line`] asked for, without its line end.
    Line(&'a [u8]),
    /// Write a continuation request and flush: the client waits with a literal.
    Continue,
    /// APPEND comes to a message. Call [`Framer::accept`] (after a continuation request, if the
    /// literal is synchronizing) or [`Framer::refuse`] before the next event.
    AppendMessage {
        /// For the first message the command so far; for others what stands between the messages.
        text: &'a [u8],
        /// Whether this is the command's first message.
        first: bool,
        /// The announcement; a message may be larger than every limit here.
        literal: Literal,
    },
    /// The next bytes of the accepted message.
    MessageData(&'a [u8]),
    /// The last line of APPEND, after its last message: empty when well-formed.
    AppendEnd(&'a [u8]),
    /// The refused APPEND has been read to its end: answer it now.
    Refused,
    /// A command past a limit has been read to its end: answer it with BAD.
    TooLong {
        /// The command's first bytes, where its tag is.
        head: &'a [u8],
        /// The limit.
        excess: Excess,
    },
    /// The client sends more than can sensibly be skipped: say BYE and close.
    Flood,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between commands: what `buffer` holds belongs to the event before.
    Start,
    /// In command text.
    Text,
    /// In a literal that is part of the command.
    Literal(u64),
    /// `AppendMessage` is out, the session decides.
    Undecided(Literal),
    /// In a message.
    Message(u64),
    /// Dropping a command's text, a literal of it; then saying so.
    SkipText(Ending),
    SkipLiteral(u64, Ending),
    Skipped(Ending),
    Flood,
}

/// What is said after a command that was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Refused,
    TooLong(Excess),
}

/// The push parser; one per connection.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    state: State,
    /// The command so far, or while skipping its head.
    buffer: Vec<u8>,
    /// Where in `buffer` the present line begins. Of 32 bits, as an idle session has one of these.
    line_start: u32,
    /// The end of the line being skipped.
    tail: Vec<u8>,
    text_skipped: u32,
    expect_line: bool,
    /// In APPEND after its first message.
    in_append: bool,
    /// Of APPEND's text in `buffer`.
    annotation: AnnotationScan,
}

impl Framer {
    /// At the start of a connection.
    pub fn new(limits: Limits) -> Framer {
        Framer {
            limits,
            state: State::Start,
            buffer: Vec::new(),
            line_start: 0,
            tail: Vec::new(),
            text_skipped: 0,
            expect_line: false,
            in_append: false,
            annotation: AnnotationScan::default(),
        }
    }

    /// From the next command on, other limits hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The next line is no command: it comes as [`Event::Line`] (AUTHENTICATE, IDLE).
    pub fn expect_line(&mut self) {
        self.expect_line = true;
    }

    /// Undoes [`Framer::expect_line`], unless part of the line is there already.
    pub fn expect_command(&mut self) {
        self.expect_line = false;
    }

    /// Whether nothing of a next command has arrived.
    pub fn is_idle(&self) -> bool {
        self.state == State::Start
    }

    /// Gives memory back; for an idle connection.
    pub fn release(&mut self) {
        if self.state == State::Start {
            self.buffer = Vec::new();
            self.tail = Vec::new();
        }
    }

    /// Takes the message just announced: its bytes follow as [`Event::MessageData`].
    pub fn accept(&mut self) {
        if let State::Undecided(literal) = self.state {
            self.state = State::Message(literal.bytes);
        }
    }

    /// Gives up the APPEND in progress: reads on to its end, then says [`Event::Refused`].
    pub fn refuse(&mut self) {
        self.in_append = false;
        match self.state {
            State::Undecided(literal) => self.skip(literal, Ending::Refused),
            State::Message(left) => self.state = State::SkipLiteral(left, Ending::Refused),
            // AppendEnd is out already: the command is over.
            _ => self.state = State::Skipped(Ending::Refused),
        }
    }

    /// Uses up some of `input` and says what it means. `(n, None)`: all used, more is wanted.
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> (usize, Option<Event<'a>>) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Start if rest.is_empty() => return (used, None),
                State::Start => {
                    self.buffer.clear();
                    self.line_start = 0;
                    self.annotation = AnnotationScan::default();
                    self.text_skipped = 0;
                    self.state = State::Text;
                }
                State::Text => {
                    let (n, complete) = self.take_line(rest);
                    used += n;
                    if complete && let Some(outcome) = self.end_of_line() {
                        return (used, Some(self.event(outcome)));
                    }
                    if !complete && self.state == State::Text {
                        return (used, None);
                    }
                }
                State::Literal(left) => {
                    let n = left.min(rest.len() as u64) as usize;
                    self.buffer.extend_from_slice(&rest[..n]);
                    used += n;
                    if left > n as u64 {
                        self.state = State::Literal(left - n as u64);
                        return (used, None);
                    }
                    self.line_start = u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
                    self.state = State::Text;
                }
                State::Undecided(_) => return (used, None),
                State::Message(0) => {
                    self.buffer.clear();
                    self.line_start = 0;
                    self.annotation = AnnotationScan::default();
                    self.in_append = true;
                    self.state = State::Text;
                }
                State::Message(left) => {
                    let n = left.min(rest.len() as u64) as usize;
                    if n == 0 {
                        return (used, None);
                    }
                    self.state = State::Message(left - n as u64);
                    return (used + n, Some(Event::MessageData(&input[used..used + n])));
                }
                State::SkipText(ending) => {
                    let end = rest.iter().position(|&b| b == b'\n');
                    let n = end.map_or(rest.len(), |at| at + 1);
                    used += n;
                    self.keep_tail(&rest[..n]);
                    self.text_skipped = self.text_skipped.saturating_add(n as u32);
                    if u64::from(self.text_skipped) > TEXT_SKIP_BYTES_MAX {
                        self.state = State::Flood;
                    } else if end.is_none() {
                        return (used, None);
                    } else {
                        let literal = Literal::at_end_of(without_line_end(&self.tail));
                        self.tail.clear();
                        match literal {
                            Some((_, literal)) => self.skip(literal, ending),
                            None => self.state = State::Skipped(ending),
                        }
                    }
                }
                State::SkipLiteral(left, ending) => {
                    let n = left.min(rest.len() as u64) as usize;
                    used += n;
                    if left > n as u64 {
                        self.state = State::SkipLiteral(left - n as u64, ending);
                        return (used, None);
                    }
                    self.tail.clear();
                    self.state = State::SkipText(ending);
                }
                State::Skipped(ending) => {
                    self.state = State::Start;
                    self.in_append = false;
                    self.expect_line = false;
                    let event = match ending {
                        Ending::Refused => Event::Refused,
                        Ending::TooLong(excess) => Event::TooLong { head: &self.buffer, excess },
                    };
                    return (used, Some(event));
                }
                State::Flood => return (used, Some(Event::Flood)),
            }
        }
    }

    /// Copies up to and with the next LF. Goes over to skipping if the line is too long.
    fn take_line(&mut self, rest: &[u8]) -> (usize, bool) {
        let end = rest.iter().position(|&b| b == b'\n');
        let n = end.map_or(rest.len(), |at| at + 1);
        // Two for the line end, which isn't counted.
        let held = self.buffer.len() - self.line_start as usize;
        let line_room = (self.limits.line_bytes_max + 2).saturating_sub(held);
        if n <= line_room {
            self.buffer.extend_from_slice(&rest[..n]);
            let line = without_line_end(&self.buffer[self.line_start as usize..]);
            if line.len() <= self.limits.line_bytes_max {
                return (n, end.is_some());
            }
        }
        let taken = if n <= line_room { n } else { 0 };
        let line = self.buffer[self.line_start as usize..].to_vec();
        self.keep_tail(&line);
        self.text_skipped = line.len() as u32;
        if taken == 0 {
            let room = self.limits.line_bytes_max.saturating_sub(held);
            self.buffer.extend_from_slice(&rest[..n.min(room).min(HEAD_BYTES)]);
        }
        self.buffer.truncate(self.line_start as usize + self.limits.line_bytes_max);
        self.begin_skipping(Excess::Line);
        if taken > 0 && end.is_some() {
            // The line end is in `tail` already, so the line can be judged right here.
            let literal = Literal::at_end_of(without_line_end(&self.tail));
            self.tail.clear();
            let ending = Ending::TooLong(Excess::Line);
            match literal {
                Some((_, literal)) => self.skip(literal, ending),
                None => self.state = State::Skipped(ending),
            }
        }
        (taken, false)
    }

    fn begin_skipping(&mut self, excess: Excess) {
        self.buffer.truncate(HEAD_BYTES);
        self.buffer.shrink_to(HEAD_BYTES);
        self.in_append = false;
        self.state = State::SkipText(Ending::TooLong(excess));
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
    }

    /// A literal that isn't wanted. A client that waits for `+` won't send it: the command is over.
    fn skip(&mut self, literal: Literal, ending: Ending) {
        self.state = if literal.synchronizing {
            State::Skipped(ending)
        } else if literal.bytes > LITERAL_SKIP_BYTES_MAX {
            State::Flood
        } else {
            State::SkipLiteral(literal.bytes, ending)
        };
    }

    fn end_of_line(&mut self) -> Option<Outcome> {
        let line_end = self.line_start as usize
            + without_line_end(&self.buffer[self.line_start as usize..]).len();
        if self.expect_line {
            self.expect_line = false;
            self.state = State::Start;
            return Some(Outcome::Line(line_end));
        }
        let Some((at, literal)) =
            Literal::at_end_of(&self.buffer[self.line_start as usize..line_end])
        else {
            self.state = State::Start;
            let append = std::mem::take(&mut self.in_append);
            return Some(if append {
                Outcome::AppendEnd(line_end)
            } else {
                Outcome::Command(line_end)
            });
        };
        let at = self.line_start as usize + at;
        let first = !self.in_append;
        let appends = !first || is_append_past_mailbox(&self.buffer[..at]);
        if appends && !self.annotation.is_inside(&self.buffer[..at]) {
            self.state = State::Undecided(literal);
            return Some(Outcome::AppendMessage { text_end: at, first, literal });
        }
        let excess = if literal.bytes > self.limits.literal_bytes_max {
            Some(Excess::Literal)
        } else if self.buffer.len() as u64 + literal.bytes > self.limits.command_bytes_max as u64 {
            Some(Excess::Command)
        } else {
            None
        };
        if let Some(excess) = excess {
            self.begin_skipping(excess);
            self.skip(literal, Ending::TooLong(excess));
            return None;
        }
        self.state = State::Literal(literal.bytes);
        literal.synchronizing.then_some(Outcome::Continue)
    }

    fn event(&self, outcome: Outcome) -> Event<'_> {
        match outcome {
            Outcome::Command(end) => Event::Command(&self.buffer[..end]),
            Outcome::Line(end) => Event::Line(&self.buffer[..end]),
            Outcome::AppendEnd(end) => Event::AppendEnd(&self.buffer[..end]),
            Outcome::Continue => Event::Continue,
            Outcome::AppendMessage { text_end, first, literal } => {
                Event::AppendMessage { text: &self.buffer[..text_end], first, literal }
            }
        }
    }
}

/// An event as positions in `buffer`, so that it can be found while `buffer` is borrowed for
/// writing.
enum Outcome {
    Command(usize),
    Line(usize),
    AppendEnd(usize),
    Continue,
    AppendMessage { text_end: usize, first: bool, literal: Literal },
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests;
