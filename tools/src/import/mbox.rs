//! mbox files as a source: RFC 4155's lines, with the `>From ` quoting of mboxrd undone.

use std::io::BufRead;

use time::PrimitiveDateTime;
use time::macros::format_description;

use super::{Incoming, Refused};

/// The messages of an mbox file, in order.
pub(super) struct Messages<R> {
    reader: R,
    name: String,
    /// The `From ` line of the message that comes next.
    separator: Option<Vec<u8>>,
    count: u64,
    done: bool,
}

impl<R: BufRead> Messages<R> {
    pub(super) fn new(reader: R, name: &str) -> Messages<R> {
        let name = name.to_owned();
        Messages { reader, name, separator: None, count: 0, done: false }
    }

    fn read_line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = self.reader.read_until(b'\n', &mut line)?;
        Ok((read > 0).then_some(line))
    }

    fn read_message(&mut self) -> std::io::Result<Option<Incoming>> {
        let separator = match self.separator.take() {
            Some(line) => line,
            None => match self.read_line()? {
                Some(line) => line,
                None => return Ok(None),
            },
        };
        let mut bytes = Vec::new();
        // A separator counts only behind an empty line, or at the start.
        let mut after_empty = false;
        while let Some(line) = self.read_line()? {
            if after_empty && line.starts_with(b"From ") {
                self.separator = Some(line);
                break;
            }
            after_empty = line == b"\n" || line == b"\r\n";
            let quotes = line.iter().take_while(|b| **b == b'>').count();
            let unquoted = quotes > 0 && line[quotes..].starts_with(b"From ");
            bytes.extend_from_slice(&line[usize::from(unquoted)..]);
        }
        if after_empty {
            // The empty line belongs to the separator, not to the message.
            let end = if bytes.ends_with(b"\r\n") { 2 } else { 1 };
            bytes.truncate(bytes.len() - end);
        }
        self.count += 1;
        let source = format!("{} message {}", self.name, self.count);
        let flags = status_flags(&bytes);
        Ok(Some(Incoming { source, bytes, flags, internal_date: separator_date(&separator) }))
    }
}

impl<R: BufRead> Iterator for Messages<R> {
    type Item = Result<Incoming, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.read_message() {
            Ok(Some(message)) => Some(Ok(message)),
            Ok(None) => None,
            Err(e) => {
                self.done = true;
                Some(Err(Refused { source: self.name.clone(), reason: e.to_string() }))
            }
        }
    }
}

/// `From jo@example.org Thu Jan  1 00:00:01 2026`: the time, taken as UTC.
fn separator_date(line: &[u8]) -> Option<i64> {
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

/// The flags that mail programs keep in the headers Status and X-Status.
fn status_flags(message: &[u8]) -> Vec<String> {
    let mut flags = Vec::new();
    for line in message.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let status = name.eq_ignore_ascii_case(b"Status");
        let x_status = name.eq_ignore_ascii_case(b"X-Status");
        for letter in value {
            let flag = match letter {
                b'R' if status => "\\Seen",
                b'A' if x_status => "\\Answered",
                b'F' if x_status => "\\Flagged",
                b'T' if x_status => "\\Draft",
                b'D' if x_status => "\\Deleted",
                _ => continue,
            };
            flags.push(flag.to_owned());
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Incoming> {
        let messages = Messages::new(text.as_bytes(), "box");
        messages.map(|m| m.map_err(|r| r.reason).unwrap()).collect()
    }

    #[test]
    fn messages_are_split_and_unquoted() {
        let text = "From a@b Thu Jan  1 00:00:01 2026\nSubject: 1\nStatus: RO\nX-Status: AF\n\n\
                    >From here\n>>From there\nFrom not behind an empty line\n\n\
                    From c Fri Feb 13 10:11:12 2026\nSubject: 2\n\nbody\n";
        let messages = read(text);
        assert_eq!(messages.len(), 2);
        let first = "Subject: 1\nStatus: RO\nX-Status: AF\n\nFrom here\n>From there\n\
                     From not behind an empty line\n";
        assert_eq!(String::from_utf8_lossy(&messages[0].bytes), first);
        assert_eq!(messages[0].flags, ["\\Seen", "\\Answered", "\\Flagged"]);
        assert_eq!(messages[0].internal_date, Some(1_767_225_601));
        assert_eq!(messages[1].bytes, b"Subject: 2\n\nbody\n");
        assert_eq!(messages[1].source, "box message 2");
    }

    #[test]
    fn a_message_that_ends_in_an_empty_line_loses_only_the_separators() {
        let messages = read("From a\nS: 1\n\nx\n\n\nFrom b\nS: 2\n\n\n");
        assert_eq!(messages[0].bytes, b"S: 1\n\nx\n\n");
        assert_eq!(messages[1].bytes, b"S: 2\n\n");
    }
}
