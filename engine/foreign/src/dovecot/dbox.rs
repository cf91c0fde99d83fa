//! Message files of sdbox (`u.UID`, one message) and mdbox (`m.N`, one behind the other).
//!
//! | part | bytes |
//! |---|---|
//! | first line | `2 M1e C5f0a2c41`: version; length of a message's header and time of creation, hexadecimal |
//! | header of a message | 0x01 0x02, type (`N`), blanks; its last 17 bytes are the size in 16 hexadecimal digits and LF |
//! | message | so many bytes, with LF |
//! | behind it | LF 0x01 0x03 LF |
//! | metadata | lines of a letter and a value, up to an empty one: `R` INTERNALDATE (hexadecimal seconds), `G` GUID, `V` size with CRLF, `Z` size before compression, `B` mailbox of an mdbox, `X` attachments elsewhere |

use std::fmt;

/// In front of a message.
const MAGIC_BEFORE: [u8; 2] = [1, 2];
/// Behind a message.
const MAGIC_BEHIND: &[u8] = b"\n\x01\x03\n";
/// Digits of a size.
const SIZE_DIGITS: usize = 16;
/// A message's header is no longer than this.
const HEADER_BYTES_MAX: usize = 1024;

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadDbox {
    /// Byte of the file.
    pub at: u64,
    /// What should be there.
    pub expected: &'static str,
}

impl fmt::Display for BadDbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.at)
    }
}

impl std::error::Error for BadDbox {}

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Where the first message begins.
    pub end: usize,
    /// Bytes of a message's header.
    pub message_header: usize,
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message<'f> {
    /// Its bytes, with LF.
    pub text: &'f [u8],
    /// Seconds since 1970.
    pub internal_date: Option<i64>,
    /// The mailbox that it was stored into first, of an mdbox.
    pub mailbox: Option<String>,
    /// Whether it is compressed.
    pub compressed: bool,
    /// Whether parts of it are in other files.
    pub attachments: bool,
    /// Where the next one begins.
    pub end: usize,
}

/// Reads the first line.
pub fn head(file: &[u8]) -> Result<Head, BadDbox> {
    let bad = BadDbox { at: 0, expected: "the first line of a dbox file" };
    let length = file.iter().take(256).position(|b| *b == b'\n').ok_or(bad)?;
    let line = std::str::from_utf8(&file[..length]).map_err(|_| bad)?;
    let mut words = line.split(' ');
    if words.next() != Some("2") {
        return Err(BadDbox { at: 0, expected: "version 2 of dbox" });
    }
    let size = words.find_map(|word| usize::from_str_radix(word.strip_prefix('M')?, 16).ok());
    let fits = |n: &usize| (SIZE_DIGITS + 4..=HEADER_BYTES_MAX).contains(n);
    Ok(Head { end: length + 1, message_header: size.filter(fits).ok_or(bad)? })
}

/// Reads the message that begins at `at`; `None` at the end of the file.
pub fn message<'f>(file: &'f [u8], head: Head, at: usize) -> Result<Option<Message<'f>>, BadDbox> {
    let bad = |at: usize, expected| BadDbox { at: at as u64, expected };
    if at >= file.len() {
        return Ok(None);
    }
    let cut = bad(at, "the whole header of a message");
    let start = at.checked_add(head.message_header).ok_or(cut)?;
    let header = file.get(at..start).ok_or(cut)?;
    if !header.starts_with(&MAGIC_BEFORE) {
        return Err(bad(at, "0x01 0x02 in front of a message"));
    }
    let digits = header.len().checked_sub(SIZE_DIGITS + 1).and_then(|from| header.get(from..));
    let digits = digits.and_then(|digits| digits.strip_suffix(b"\n"));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let size = size.ok_or(bad(at, "the size of a message"))?;
    let end = start.checked_add(size).filter(|end| *end <= file.len());
    let end = end.ok_or(bad(start, "as many bytes as the message's header says"))?;
    let text = &file[start..end];
    if !file[end..].starts_with(MAGIC_BEHIND) {
        return Err(bad(end, "0x01 0x03 behind a message"));
    }
    let mut found = Message { text, ..Message::default() };
    let mut at = end + MAGIC_BEHIND.len();
    loop {
        let rest = &file[at..];
        let length = rest.iter().position(|b| *b == b'\n');
        let length = length.ok_or(bad(at, "an empty line behind the metadata"))?;
        let line = &rest[..length];
        at += length + 1;
        let Some((letter, value)) = line.split_first() else { break };
        let value = String::from_utf8_lossy(value);
        match letter {
            b'R' => found.internal_date = i64::from_str_radix(&value, 16).ok(),
            b'B' => found.mailbox = Some(value.into_owned()),
            b'Z' => found.compressed = usize::from_str_radix(&value, 16).ok() != Some(size),
            b'X' => found.attachments = true,
            _ => {}
        }
    }
    found.end = at;
    Ok(Some(found))
}

/// A file of an sdbox with one message, whose line ends are as Dovecot stores them. `created` and `date`
/// are seconds since 1970; `guid` is hexadecimal.
pub fn write(text: &[u8], created: u32, date: i64, guid: &str) -> Vec<u8> {
    // With CRLF for each LF.
    let bare = |(at, byte): (usize, &u8)| {
        *byte == b'\n' && (at == 0 || text.get(at - 1).is_none_or(|before| *before != b'\r'))
    };
    let served = text.len() + text.iter().enumerate().filter(|one| bare(*one)).count();
    let date = date.clamp(0, i64::from(u32::MAX));
    let size = text.len();
    let mut file = format!("2 M1e C{created:x}\n\x01\x02N          {size:016X}\n").into_bytes();
    file.extend_from_slice(text);
    file.extend_from_slice(MAGIC_BEHIND);
    file.extend_from_slice(format!("R{date:x}\nV{served:x}\nG{guid}\n\n").as_bytes());
    file
}

/// Where the next message may begin behind a damaged one.
pub fn next_message(file: &[u8], at: usize) -> Option<usize> {
    let rest = file.get(at..)?;
    let mark = [b"\n\n".as_slice(), &MAGIC_BEFORE].concat();
    rest.windows(mark.len()).position(|window| window == mark).map(|found| at + found + 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(texts: &[&str]) -> Vec<u8> {
        let mut file = b"2 M1e C6b0a2c41\n".to_vec();
        for text in texts {
            file.extend_from_slice(b"\x01\x02N          ");
            file.extend_from_slice(format!("{:016x}\n{text}", text.len()).as_bytes());
            file.extend_from_slice(b"\n\x01\x03\nR596832e8\nV28\nGb890\nBWork/x\n\n");
        }
        file
    }

    #[test]
    fn messages_are_read_one_behind_the_other() {
        let file = file(&["Subject: 1\n\nx\n", "y"]);
        let head = head(&file).unwrap();
        let first = message(&file, head, head.end).unwrap().unwrap();
        assert_eq!(
            (first.text, first.internal_date),
            (&b"Subject: 1\n\nx\n"[..], Some(1_500_001_000))
        );
        assert_eq!(first.mailbox.as_deref(), Some("Work/x"));
        let second = message(&file, head, first.end).unwrap().unwrap();
        assert_eq!(second.text, b"y");
        assert_eq!(message(&file, head, second.end), Ok(None));
        assert_eq!(next_message(&file, head.end), Some(first.end));
    }

    #[test]
    fn a_cut_is_told_with_its_place() {
        let whole = file(&["abcdef"]);
        let top = head(&whole).unwrap();
        for length in top.end + 1..whole.len() {
            let error = message(&whole[..length], top, top.end).unwrap_err();
            assert!(error.at <= length as u64);
        }
        assert!(head(b"2 M99999999 C0\n").is_err() && head(b"3 M1e\n").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), at in 0usize..130) {
            let _ = head(&bytes);
            let _ = message(&bytes, Head { end: 0, message_header: 30 }, at);
            let _ = next_message(&bytes, at);
            let marked = [b"\x01\x02N          0000000000000005\n".as_slice(), &bytes].concat();
            let _ = message(&marked, Head { end: 0, message_header: 30 }, 0);
        }
    }
}
