//! What comes on standard input: a message with line ends of either kind, perhaps with an mbox
//! `From ` line in front.

use std::io::{self, Read};

/// Longest message that is read; the server has its own, smaller limit.
const MESSAGE_BYTES_MAX: u64 = 4 << 30;

/// A message and its envelope's sender.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Empty: nobody, as bounces have it.
    pub sender: String,
    /// With the line ends that it came with.
    pub bytes: Vec<u8>,
}

impl Message {
    /// Reads to the end. Without `sender` it is what the environment says, then the `From ` line, then
    /// the first Return-Path.
    pub fn read(input: &mut dyn Read, sender: Option<&str>) -> io::Result<Message> {
        let mut bytes = Vec::new();
        input.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == MESSAGE_BYTES_MAX {
            return Err(io::Error::other("longer than 4 GiB"));
        }
        let environment = std::env::var("SENDER").ok();
        Ok(Message::new(bytes, sender.or(environment.as_deref())))
    }

    fn new(mut bytes: Vec<u8>, sender: Option<&str>) -> Message {
        let mut from = None;
        if bytes.starts_with(b"From ") {
            let end = line_end(&bytes);
            let line = String::from_utf8_lossy(bytes.get(5..end).unwrap_or_default()).into_owned();
            from = line.split_ascii_whitespace().next().map(str::to_owned);
            bytes.drain(..end);
        }
        let sender = sender.map(str::to_owned).or(from).or_else(|| return_path(&bytes));
        let sender = sender.unwrap_or_default();
        let sender = sender.trim().trim_start_matches('<').trim_end_matches('>');
        // What nobody can send: a command's end within an address. qmail's two names of nobody.
        let bad = sender.chars().any(|c| c.is_control() || c == '<' || c == '>');
        let nobody = bad || matches!(sender, "MAILER-DAEMON" | "#@[]");
        let sender = if nobody { String::new() } else { sender.to_owned() };
        Message { sender, bytes }
    }

    /// The lines, without line ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let body = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        let lines = body.split(|&b| b == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Where the first line is over, its end included.
fn line_end(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| b == b'\n').map_or(bytes.len(), |at| at + 1)
}

fn return_path(bytes: &[u8]) -> Option<String> {
    let line = bytes.get(..line_end(bytes))?;
    let (name, value) = line.split_at_checked(b"Return-Path:".len())?;
    name.eq_ignore_ascii_case(b"Return-Path:").then(|| String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8], sender: Option<&str>) -> (String, Vec<u8>) {
        let message = Message::new(bytes.to_vec(), sender);
        (message.sender, message.bytes)
    }

    #[test]
    fn the_sender_is_found() {
        let letter = b"Subject: x\n\nHi\n".to_vec();
        assert_eq!(of(&letter, Some("a@b")), ("a@b".into(), letter.clone()));
        assert_eq!(of(&letter, Some("<>")), (String::new(), letter.clone()));
        assert_eq!(of(&letter, Some("MAILER-DAEMON")).0, "");
        assert_eq!(of(&letter, Some("a\r\nRCPT TO:<x>")).0, "");
        let mbox = [b"From c@d  Sat Nov 28 2026\r\n".as_slice(), &letter].concat();
        assert_eq!(of(&mbox, None), ("c@d".into(), letter.clone()));
        assert_eq!(of(b"Return-path: <e@f>\n\n", None).0, "e@f");
        assert_eq!(of(b"From", None), (String::new(), b"From".to_vec()));
    }

    #[test]
    fn lines_of_either_end_are_lines() {
        let message = Message::new(b"a\r\nb\n\nc".to_vec(), None);
        let lines: Vec<&[u8]> = message.lines().collect();
        assert_eq!(lines, [b"a".as_slice(), b"b", b"", b"c"]);
    }
}
