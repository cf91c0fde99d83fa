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

/// Follows the text of APPEND into the parentheses of ANNOTATION (RFC 5257 section 4.7): a literal
/// there is a value, not a message. Each octet is looked at once.
#[derive(Debug, Default)]
struct AnnotationScan {
    /// What was looked at.
    at: u32,
    /// Where the word that may stand in front of a parenthesis begins.
    word: u32,
    depth: u16,
    /// The outermost parenthesis that is open is ANNOTATION's.
    annotation: bool,
}

impl AnnotationScan {
    /// Whether what follows `text`, which has grown since, is in there.
    fn is_inside(&mut self, text: &[u8]) -> bool {
        let (mut at, mut word) = (self.at as usize, self.word as usize);
        while let Some(&octet) = text.get(at) {
            match octet {
                b'"' => {
                    at += 1;
                    while text.get(at).is_some_and(|&octet| octet != b'"') {
                        at += if text[at] == b'\\' { 2 } else { 1 };
                    }
                }
                b'\n' => {
                    if let Some((_, literal)) = Literal::at_end_of(without_line_end(&text[..=at])) {
                        let bytes = usize::try_from(literal.bytes).unwrap_or(usize::MAX);
                        at = at.saturating_add(bytes);
                    }
                }
                b'(' => {
                    if self.depth == 0 {
                        let name = text.get(word..at).unwrap_or_default();
                        let is_name = name.trim_ascii_end().eq_ignore_ascii_case(b"ANNOTATION");
                        self.annotation = is_name;
                    }
                    self.depth = self.depth.saturating_add(1);
                    word = at + 1;
                }
                b')' => {
                    self.depth = self.depth.saturating_sub(1);
                    word = at + 1;
                }
                b' ' if text.get(at + 1) != Some(&b'(') => word = at + 1,
                _ => {}
            }
            at = at.saturating_add(1);
        }
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        (self.at, self.word) = (place(at), place(word));
        self.annotation && self.depth > 0
    }
}

/// Whether `text` is `tag APPEND mailbox `, or `tag REPLACE number mailbox ` also behind UID (RFC
/// 8508), and perhaps more: then the literal that follows is a message or a piece of one (RFC 4469),
/// else the mailbox name itself or another command's string.
fn is_append_past_mailbox(text: &[u8]) -> bool {
    let after_word = |text: &[u8]| {
        let end = text.iter().position(|&b| b == b' ')?;
        Some((text[..end].to_ascii_uppercase(), end + 1))
    };
    let mut rest = text;
    let mut next = || {
        let (word, behind) = after_word(rest)?;
        rest = &rest[behind..];
        Some(word)
    };
    let _tag = next();
    let command = match next() {
        Some(uid) if uid == b"UID" => next().filter(|name| name == b"REPLACE"),
        other => other,
    };
    match command.as_deref() {
        Some(b"APPEND") => {}
        Some(b"REPLACE") => drop(next()),
        _ => return false,
    }
    !rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Limits =
        Limits { line_bytes_max: 60, literal_bytes_max: 20, command_bytes_max: 100 };

    /// Feeds `input` in the given pieces; messages with `refuse` in their text are refused.
    fn events<'i>(limits: Limits, pieces: impl IntoIterator<Item = &'i [u8]>) -> Vec<String> {
        let mut framer = Framer::new(limits);
        let mut out: Vec<String> = Vec::new();
        let mut message = String::new();
        let mut pending: Vec<u8> = Vec::new();
        for piece in pieces {
            pending.extend_from_slice(piece);
            loop {
                let (used, event) = framer.next(&pending);
                let mut decision = None;
                let text = match event {
                    None => None,
                    Some(Event::MessageData(bytes)) => {
                        message.push_str(&String::from_utf8_lossy(bytes));
                        None
                    }
                    Some(event) => {
                        if let Event::AppendMessage { text, .. } = &event {
                            decision = Some(!text.windows(6).any(|w| w == b"refuse"));
                        }
                        Some(match event {
                            Event::Command(c) => format!("command {}", c.escape_ascii()),
                            Event::Line(l) => format!("line {}", l.escape_ascii()),
                            Event::AppendMessage { text, first, literal } => {
                                format!("message {first} {} {literal:?}", text.escape_ascii())
                            }
                            Event::AppendEnd(rest) => format!("end {}", rest.escape_ascii()),
                            Event::TooLong { head, excess } => {
                                format!("{excess:?} {}", String::from_utf8_lossy(&head[..2]))
                            }
                            other => format!("{other:?}"),
                        })
                    }
                };
                let progress = used > 0 || text.is_some();
                if text.is_some() && !message.is_empty() {
                    out.push(std::mem::take(&mut message));
                }
                let flood = text.as_deref() == Some("Flood");
                out.extend(text);
                match decision {
                    Some(true) => framer.accept(),
                    Some(false) => framer.refuse(),
                    None => {}
                }
                pending.drain(..used);
                if flood {
                    return out;
                }
                if !progress {
                    break;
                }
            }
        }
        out
    }

    fn whole(limits: Limits, input: &[u8]) -> Vec<String> {
        events(limits, [input])
    }

    #[test]
    fn commands_literals_and_line_ends() {
        let input = b"a NOOP\r\nb LOGIN {3}\r\nfoo {3+}\r\nb\r\n\nc NOOP\n";
        assert_eq!(
            whole(SMALL, input),
            [
                "command a NOOP",
                "Continue",
                r"command b LOGIN {3}\r\nfoo {3+}\r\nb\r\n",
                "command c NOOP"
            ]
        );
    }

    #[test]
    fn append_streams_its_messages() {
        let input = b"a APPEND {1+}\r\nx (\\Seen) {5}\r\nhello {2+}\r\nyo ~{0}\r\n\r\nb NOOP\r\n";
        let literal = |bytes, synchronizing, binary| {
            format!("{:?}", Literal { bytes, synchronizing, binary })
        };
        assert_eq!(
            whole(SMALL, input),
            [
                format!(r"message true a APPEND {{1+}}\r\nx (\\Seen)  {}", literal(5, true, false)),
                "hello".to_owned(),
                format!("message false   {}", literal(2, false, false)),
                "yo".to_owned(),
                format!("message false   {}", literal(0, true, true)),
                "end ".to_owned(),
                "command b NOOP".to_owned(),
            ]
        );
    }

    #[test]
    fn literals_of_annotations_are_no_messages() {
        let input = b"a APPEND x ANNOTATION (/a (v {2+}\r\n)( w \"(\\\"\")) {2+}\r\nhi \
            (\\Seen) ANNOTATION (/b (v {1}\r\nz)) CATENATE (TEXT {2+}\r\nho)\r\nb NOOP\r\n";
        let literal = format!("{:?}", Literal { bytes: 2, synchronizing: false, binary: false });
        let limits = Limits { line_bytes_max: 200, literal_bytes_max: 20, command_bytes_max: 400 };
        assert_eq!(
            whole(limits, input),
            [
                format!(
                    r#"message true a APPEND x ANNOTATION (/a (v {{2+}}\r\n)( w \"(\\\"\"))  {literal}"#
                ),
                "hi".to_owned(),
                "Continue".to_owned(),
                format!(
                    r"message false  (\\Seen) ANNOTATION (/b (v {{1}}\r\nz)) CATENATE (TEXT  {literal}"
                ),
                "ho".to_owned(),
                "end )".to_owned(),
                "command b NOOP".to_owned(),
            ]
        );
        let long = b"a APPEND x ANNOTATION (/a (v {21}\r\nb NOOP\r\n";
        assert_eq!(whole(limits, long), ["Literal a ", "command b NOOP"]);
    }

    #[test]
    fn refused_messages_are_drained() {
        let nonsync = b"a APPEND refuse {5+}\r\nhello {3+}\r\nabc\r\nb NOOP\r\n";
        let got = whole(SMALL, nonsync);
        assert_eq!(got[1..], ["Refused", "command b NOOP"]);
        // After {n} the client gets the refusal and goes on with its next command.
        let sync = b"a APPEND refuse {5}\r\nb NOOP\r\n";
        assert_eq!(whole(SMALL, sync)[1..], ["Refused", "command b NOOP"]);
    }

    #[test]
    fn a_line_at_the_limit_passes_and_one_past_it_does_not() {
        for end in ["\r\n", "\n"] {
            let fits = format!("a {}{end}b x{end}", "x".repeat(58));
            assert_eq!(whole(SMALL, fits.as_bytes()).len(), 2);
            assert!(whole(SMALL, fits.as_bytes())[0].starts_with("command a"));
            let long = format!("a {}{end}b x{end}", "x".repeat(59));
            assert_eq!(whole(SMALL, long.as_bytes()), ["Line a ", "command b x"]);
        }
    }

    #[test]
    fn a_literal_at_the_limit_passes_and_one_past_it_does_not() {
        let fits = format!("a x {{20+}}\r\n{}\r\n", "y".repeat(20));
        assert!(whole(SMALL, fits.as_bytes())[0].starts_with("command a"));
        let long = format!("a x {{21+}}\r\n{} {{9+}}\r\n123456789\r\nb x\r\n", "y".repeat(21));
        assert_eq!(whole(SMALL, long.as_bytes()), ["Literal a ", "command b x"]);
        assert_eq!(whole(SMALL, b"a x {21}\r\nb x\r\n"), ["Literal a ", "command b x"]);
        let many = "a x {20+}\r\n12345678901234567890".to_owned()
            + &" {20+}\r\n12345678901234567890".repeat(3)
            + "\r\nb x\r\n";
        assert_eq!(whole(SMALL, many.as_bytes()), ["Command a ", "command b x"]);
    }

    #[test]
    fn endless_text_and_giant_literals_end_the_connection() {
        let endless = vec![b'x'; TEXT_SKIP_BYTES_MAX as usize + 1];
        assert_eq!(whole(SMALL, &endless), ["Flood"]);
        assert_eq!(whole(SMALL, b"a x {99999999999999999999+}\r\n"), ["Flood"]);
    }

    #[test]
    fn an_expected_line_is_not_read_as_a_command() {
        let mut framer = Framer::new(SMALL);
        framer.expect_line();
        assert_eq!(framer.next(b"AGZv{3}\r\na NOOP\r\n").1, Some(Event::Line(b"AGZv{3}")));
        assert_eq!(framer.next(b"a NOOP\r\n").1, Some(Event::Command(b"a NOOP")));
    }

    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z ]{0,70}",
            "[a-d] APPEND (x|refuse) ",
            Just("\r\n".to_owned()),
            Just("\r".to_owned()),
            (0u8..30, "\\+?").prop_map(|(n, plus)| format!("{{{n}{plus}}}\r\n")),
            (0u8..30).prop_map(|n| format!("~{{{n}}}\n")),
        ]
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(pieces in prop::collection::vec(piece(), 0..12)) {
            let input = pieces.concat();
            let all = whole(SMALL, input.as_bytes());
            prop_assert_eq!(&events(SMALL, input.as_bytes().chunks(1)), &all);
            prop_assert_eq!(&events(SMALL, input.as_bytes().chunks(7)), &all);
            for at in 0..input.len() {
                let (a, b) = input.as_bytes().split_at(at);
                prop_assert_eq!(&events(SMALL, [a, b]), &all);
            }
        }
    }
}
