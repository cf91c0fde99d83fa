//! mbox files, in the four forms that differ in how a line `From ` in a message is told from one
//! between messages.
//!
//! | form | a line of a message that begins with | is written | length |
//! |---|---|---|---|
//! | mboxo | `From ` | `>From `; read back as `From `, whoever put the `>` there | not told |
//! | mboxrd | any number of `>`, `From ` | with one `>` more | not told |
//! | mboxcl | `From ` | as mboxo | `Content-Length` |
//! | mboxcl2 | `From ` | as it is | `Content-Length` |
//!
//! A message is written behind a line `From SENDER DATE` (UTC, as asctime has it) and before a line
//! end of its own, which is an empty line where the message ends with a line end. Read back, what
//! was written is the same octet for octet, except: mboxo and mboxcl for messages with a line
//! `>From `. Line ends are LF; messages that are not of CRLF throughout keep theirs.
//!
//! Files of others are read as they are met: a line `From ` separates behind an empty line, and
//! elsewhere where it has a date; a `Content-Length` that does not lead to a separator or the end is
//! named and not believed.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::{Damage, Found, line_ends};

/// Which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `mboxo`, the one that is called mbox.
    O,
    /// `mboxrd`
    Rd,
    /// `mboxcl`
    Cl,
    /// `mboxcl2`
    Cl2,
}

impl Kind {
    fn has_length(self) -> bool {
        matches!(self, Kind::Cl | Kind::Cl2)
    }

    /// How many bytes of a line are quoting.
    fn quoting(self, line: &[u8]) -> usize {
        let quotes = line.iter().take_while(|b| **b == b'>').count();
        let is_from = line.get(quotes..).is_some_and(|rest| rest.starts_with(b"From "));
        let quoted = match self {
            Kind::Rd => quotes > 0,
            Kind::O | Kind::Cl => quotes == 1,
            Kind::Cl2 => false,
        };
        usize::from(quoted && is_from)
    }

    /// Whether a line of a message needs a `>` in front.
    fn needs_quote(self, line: &[u8]) -> bool {
        let quotes = match self {
            Kind::Rd => line.iter().take_while(|b| **b == b'>').count(),
            Kind::O | Kind::Cl => 0,
            Kind::Cl2 => return false,
        };
        line.get(quotes..).is_some_and(|rest| rest.starts_with(b"From "))
    }
}

/// What reading takes from headers that mail programs add.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers {
    /// Flags from Status, X-Status and X-Keywords.
    pub flags: bool,
    /// And these three are removed where they are the last of the header, as we write them.
    pub strip: bool,
}

/// The messages of an mbox file, in order.
pub struct Reader<R> {
    from: R,
    kind: Kind,
    headers: Headers,
    name: String,
    /// Where `from` stands.
    at: u64,
    /// The separator of the message that comes next, and where it began.
    separator: Option<(Vec<u8>, u64)>,
    /// Whether separators end with CRLF.
    crlf: bool,
    count: u64,
    begun: bool,
    done: bool,
    damage: VecDeque<Damage>,
}

impl<R: BufRead + Seek> Reader<R> {
    /// Reads `from`, which errors call `name`.
    pub fn new(from: R, name: &str, kind: Kind, headers: Headers) -> Reader<R> {
        Reader {
            from,
            kind,
            headers,
            name: name.to_owned(),
            at: 0,
            separator: None,
            crlf: false,
            count: 0,
            begun: false,
            done: false,
            damage: VecDeque::new(),
        }
    }

    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = self.from.read_until(b'\n', &mut line)?;
        self.at += read as u64;
        Ok((read > 0).then_some(line))
    }

    fn damaged(&mut self, offset: u64, what: impl Into<String>) {
        self.damage.push_back(Damage {
            source: self.name.clone(),
            offset: Some(offset),
            what: what.into(),
        });
    }

    /// Goes to the first separator.
    fn begin(&mut self) -> io::Result<()> {
        let mut before = 0;
        loop {
            let start = self.at;
            let Some(line) = self.line()? else { break };
            if line.starts_with(b"From ") {
                self.crlf = line.ends_with(b"\r\n");
                self.separator = Some((line, start));
                break;
            }
            if !is_empty(&line) {
                before += line.len();
            }
        }
        if before > 0 {
            self.damaged(0, format!("{before} bytes before the first line \"From \" are left out"));
        }
        Ok(())
    }

    fn message(&mut self) -> io::Result<Option<Found>> {
        if !std::mem::replace(&mut self.begun, true) {
            self.begin()?;
        }
        let Some((separator, start)) = self.separator.take() else { return Ok(None) };
        let text = match self.kind.has_length() {
            true => self.by_length(start)?,
            false => self.by_lines(Vec::new())?,
        };
        self.count += 1;
        let source = format!("{} message {} at byte {start}", self.name, self.count);
        let (text, flags) = self.without_added(text);
        let octets = line_ends::to_wire(text);
        let internal_date = separator_date(&separator);
        Ok(Some(Found { source, octets, flags, internal_date, mailbox: None }))
    }

    /// Up to the next separator.
    fn by_lines(&mut self, mut text: Vec<u8>) -> io::Result<Vec<u8>> {
        // A separator right behind a separator: an empty message.
        let mut after_empty =
            text.is_empty() || text.ends_with(b"\n\n") || text.ends_with(b"\n\r\n");
        loop {
            let start = self.at;
            let Some(line) = self.line()? else {
                // At the end there may be no empty line, and no line end.
                if after_empty && !text.is_empty() {
                    self.drop_line_end(&mut text);
                }
                return Ok(text);
            };
            if line.starts_with(b"From ") && (after_empty || separator_date(&line).is_some()) {
                self.separator = Some((line, start));
                self.drop_line_end(&mut text);
                return Ok(text);
            }
            after_empty = is_empty(&line);
            let quoting = self.kind.quoting(&line);
            text.extend_from_slice(line.get(quoting..).unwrap_or_default());
        }
    }

    /// The line end that belongs to the separator.
    fn drop_line_end(&self, text: &mut Vec<u8>) {
        let ends = if self.crlf && text.ends_with(b"\r\n") { 2 } else { 1 };
        if text.ends_with(b"\n") {
            text.truncate(text.len() - ends);
        }
    }

    /// By the length that the header tells, if that leads to a separator or the end.
    fn by_length(&mut self, start: u64) -> io::Result<Vec<u8>> {
        let mut header = Vec::new();
        let mut length: Option<(u64, usize, usize)> = None;
        let mut whole = false;
        let first = self.at;
        while let Some(line) = self.line()? {
            let at = header.len();
            header.extend_from_slice(line.get(self.kind.quoting(&line)..).unwrap_or_default());
            if is_empty(&line) {
                whole = true;
                break;
            }
            if let Some(value) = field(&line, b"Content-Length")
                && let Ok(n) = String::from_utf8_lossy(value).trim().parse()
            {
                length = Some((n, at, header.len()));
            }
        }
        let body_start = self.at;
        let Some((bytes, from, to)) = length.filter(|_| whole) else {
            // Nothing told: by lines, from the start of the header.
            self.seek(first)?;
            return self.by_lines(Vec::new());
        };
        let end = self.from.seek(SeekFrom::End(0))?;
        self.seek(body_start)?;
        let reachable = body_start.checked_add(bytes).is_some_and(|reached| reached <= end);
        let mut body = Vec::new();
        if reachable {
            (&mut self.from).take(bytes).read_to_end(&mut body)?;
            self.at += bytes;
            let behind = self.at;
            let after = self.line()?.unwrap_or_default();
            let next = self.at;
            let separator = self.line()?;
            let believed = match separator {
                None => after.is_empty() || is_empty(&after),
                Some(line) if is_empty(&after) && line.starts_with(b"From ") => {
                    self.separator = Some((line, next));
                    true
                }
                Some(_) if after.starts_with(b"From ") => {
                    // Without the line between.
                    self.seek(next)?;
                    self.separator = Some((after, behind));
                    true
                }
                Some(_) => false,
            };
            if believed {
                // As we write it, the length is the last field, and goes with the form.
                let line_end = if header.ends_with(b"\r\n") { 2 } else { 1 };
                if to + line_end == header.len() {
                    header.drain(from..to);
                }
                let kind = self.kind;
                let lines = body.split_inclusive(|b| *b == b'\n');
                let unquoted = lines.flat_map(|line| &line[kind.quoting(line)..]);
                header.extend(unquoted);
                return Ok(header);
            }
        }
        let what = match reachable {
            true => format!("Content-Length {bytes} does not lead to the next message"),
            false => format!("Content-Length {bytes}, but {} bytes are left", end - body_start),
        };
        self.damaged(start, what);
        self.separator = None;
        self.seek(body_start)?;
        self.by_lines(header)
    }

    fn seek(&mut self, to: u64) -> io::Result<()> {
        self.from.seek(SeekFrom::Start(to))?;
        self.at = to;
        Ok(())
    }

    /// Takes flags, and removes what was added for them.
    fn without_added(&self, mut text: Vec<u8>) -> (Vec<u8>, Vec<String>) {
        if !self.headers.flags {
            return (text, Vec::new());
        }
        let header = header_lines(&text);
        let ours = match header.as_slice() {
            [.., a, b, c]
                if field(&text[a.clone()], b"Status").is_some()
                    && field(&text[b.clone()], b"X-Status").is_some()
                    && field(&text[c.clone()], b"X-Keywords").is_some() =>
            {
                Some(a.start..c.end)
            }
            _ => None,
        };
        // Ours say it; the message may have had some of its own before.
        let says = match &ours {
            Some(_) => header.get(header.len() - 3..).unwrap_or_default(),
            None => header.as_slice(),
        };
        let flags = flags_of(says.iter().map(|range| &text[range.clone()]));
        if let Some(range) = ours.filter(|_| self.headers.strip) {
            text.drain(range);
        }
        (text, flags)
    }
}

impl<R: BufRead + Seek> Iterator for Reader<R> {
    type Item = Result<Found, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return self.damage.pop_front().map(Err);
        }
        if let Some(damage) = self.damage.pop_front() {
            return Some(Err(damage));
        }
        match self.message() {
            Ok(Some(message)) => Some(Ok(message)),
            Ok(None) => {
                self.done = true;
                self.damage.pop_front().map(Err)
            }
            Err(e) => {
                self.done = true;
                let offset = Some(self.at);
                Some(Err(Damage { source: self.name.clone(), offset, what: e.to_string() }))
            }
        }
    }
}

fn is_empty(line: &[u8]) -> bool {
    line == b"\n" || line == b"\r\n"
}

/// The value of a line that is this field.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    (start.eq_ignore_ascii_case(name)).then(|| rest.strip_prefix(b":"))?
}

/// Where the lines of a header are, without the empty one.
fn header_lines(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut at = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive(|b| *b == b'\n') {
        if is_empty(line) {
            break;
        }
        found.push(at..at + line.len());
        at += line.len();
    }
    found
}

/// The flags that mail programs keep in Status, X-Status and X-Keywords.
fn flags_of<'l>(lines: impl Iterator<Item = &'l [u8]>) -> Vec<String> {
    let mut flags: Vec<String> = Vec::new();
    for line in lines {
        let letters = |value: &[u8], known: &[(u8, &str)]| -> Vec<String> {
            let known = known.iter().filter(|(letter, _)| value.contains(letter));
            known.map(|(_, flag)| (*flag).to_owned()).collect()
        };
        if let Some(value) = field(line, b"Status") {
            flags.extend(letters(value, &[(b'R', "\\Seen")]));
        } else if let Some(value) = field(line, b"X-Status") {
            flags.extend(letters(value, &X_STATUS));
        } else if let Some(value) = field(line, b"X-Keywords") {
            let text = String::from_utf8_lossy(value).into_owned();
            flags.extend(text.split_ascii_whitespace().map(str::to_owned));
        }
    }
    flags.dedup();
    flags
}

const X_STATUS: [(u8, &str); 4] =
    [(b'A', "\\Answered"), (b'F', "\\Flagged"), (b'T', "\\Draft"), (b'D', "\\Deleted")];

/// `From jo@example.org Thu Jan  1 00:00:01 2026`: the time, taken as UTC.
pub fn separator_date(line: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(line).ok()?;
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let start = words.iter().position(|w| MONTHS.contains(w))?;
    let [month, day, clock, rest @ ..] = words.get(start..)? else { return None };
    // Some programs write a zone before the year.
    let year = rest.iter().find(|w| w.len() == 4 && w.bytes().all(|b| b.is_ascii_digit()))?;
    let clock = if clock.len() == 5 { format!("{clock}:00") } else { (*clock).to_owned() };
    let date = format!("{month} {day:0>2} {clock} {year}");
    let format = format_description!("[month repr:short] [day] [hour]:[minute]:[second] [year]");
    let parsed = PrimitiveDateTime::parse(&date, format).ok()?;
    Some(parsed.assume_utc().unix_timestamp())
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Writes an mbox file.
pub struct Writer<W> {
    to: W,
    kind: Kind,
    status: bool,
    /// Whether the last message ended with a line end; `None`: there is none yet.
    ended: Option<bool>,
}

impl<W: Write> Writer<W> {
    /// Writes into `to`; with `status` flags go into headers.
    pub fn new(to: W, kind: Kind, status: bool) -> Writer<W> {
        Writer { to, kind, status, ended: None }
    }

    /// Writes a message. What cannot be read back as it was is said.
    pub fn add(
        &mut self,
        octets: &[u8],
        flags: &[String],
        internal_date: i64,
    ) -> io::Result<Option<&'static str>> {
        if self.ended.is_some() {
            self.to.write_all(b"\n")?;
        }
        let (text, mut lossy) = line_ends::to_file(octets);
        let date = asctime(internal_date);
        writeln!(self.to, "From {} {date}", sender_of(&text))?;
        let header = header_lines(&text);
        let header_end = header.last().map_or(0, |range| range.end);
        let (head, rest) = text.split_at(header_end);
        let line_end: &[u8] = if rest.starts_with(b"\r\n") { b"\r\n" } else { b"\n" };
        let has_body = rest.starts_with(line_end);
        let bare_from =
            |line: &[u8]| self.kind == Kind::Cl2 && !has_body && line.starts_with(b"From ");
        for line in head.split_inclusive(|b| *b == b'\n') {
            if self.kind.needs_quote(line) {
                self.to.write_all(b">")?;
            } else if bare_from(line) {
                self.to.write_all(b">")?;
                lossy = lossy.or(Some("a line \"From \" comes back as \">From \""));
            }
            self.to.write_all(line)?;
        }
        if self.status && (has_body || head.ends_with(b"\n")) {
            self.to.write_all(&status_lines(flags, line_end))?;
        }
        let mut body = Vec::new();
        for line in rest.strip_prefix(line_end).unwrap_or(rest).split_inclusive(|b| *b == b'\n') {
            if self.kind.needs_quote(line) {
                body.push(b'>');
            }
            body.extend_from_slice(line);
        }
        if self.kind.has_length() && has_body {
            write!(self.to, "Content-Length: {}", body.len())?;
            self.to.write_all(line_end)?;
        }
        if has_body {
            self.to.write_all(line_end)?;
        }
        self.to.write_all(&body)?;
        self.ended = Some(text.ends_with(b"\n"));
        let quoted = |line: &[u8]| line.starts_with(b">From ");
        let cannot_tell = matches!(self.kind, Kind::O | Kind::Cl);
        if cannot_tell && text.split(|b| *b == b'\n').any(quoted) {
            lossy =
                lossy.or(Some("a line \">From \" comes back as \"From \": use mboxrd or mboxcl2"));
        }
        Ok(lossy)
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<W> {
        if self.ended == Some(true) {
            self.to.write_all(b"\n")?;
        }
        self.to.flush()?;
        Ok(self.to)
    }
}

fn status_lines(flags: &[String], line_end: &[u8]) -> Vec<u8> {
    let has = |name: &str| flags.iter().any(|flag| flag.eq_ignore_ascii_case(name));
    let status = if has("\\Seen") { "RO" } else { "O" };
    let letters =
        X_STATUS.iter().filter(|(_, flag)| has(flag)).map(|(letter, _)| char::from(*letter));
    let words: Vec<&str> =
        flags.iter().map(String::as_str).filter(|flag| !flag.starts_with('\\')).collect();
    let lines = [
        format!("Status: {status}"),
        format!("X-Status: {}", letters.collect::<String>()),
        format!("X-Keywords: {}", words.join(" ")),
    ];
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line.as_bytes());
        text.extend_from_slice(line_end);
    }
    text
}

/// The envelope's sender: of Return-Path, else nobody's.
fn sender_of(text: &[u8]) -> String {
    let lines = header_lines(text);
    let path = lines.iter().find_map(|range| field(&text[range.clone()], b"Return-Path"));
    let path = path.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    let bare = path.trim().trim_start_matches('<').trim_end_matches('>');
    let good = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_graphic());
    if good { bare.to_owned() } else { "MAILER-DAEMON".to_owned() }
}

fn asctime(seconds: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format = format_description!(
        "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
    );
    at.format(format).unwrap_or_else(|_| "Thu Jan  1 00:00:00 1970".to_owned())
}

#[cfg(test)]
mod tests;
