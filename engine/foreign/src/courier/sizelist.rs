//! `courierpop3dsizelist`: what POP3's LIST and UIDL said of the messages of INBOX.
//!
//! Line 1 `/VERSION NEXT UIDV`, then `FILENAME SIZE N:UIDV[:UTF8]`. The UIDL of a message is made
//! from N and UIDV; both are independent of IMAP's UIDs. Version 3 since Courier 5.0; 2 before has
//! no UTF8; 1 has no UIDV.

use crate::lines::{BadLine, number, numbered};

const FORMAT: &str = "courierpop3dsizelist";

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SizeList {
    /// N of the next message.
    pub next: u32,
    /// UIDV of new messages; 0 in files of version 1.
    pub uid_validity: u32,
    /// In the order of the file.
    pub messages: Vec<Message>,
}

/// What one message has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// File name, with its flags.
    pub file: Vec<u8>,
    /// Octets with CRLF line ends.
    pub size: u64,
    /// N.
    pub number: u32,
    /// UIDV that belongs to N.
    pub uid_validity: u32,
    /// Whether its header needs UTF8.
    pub utf8: bool,
}

impl Message {
    /// The file name without flags.
    pub fn base(&self) -> &[u8] {
        let colon = self.file.iter().rposition(|b| *b == b':').unwrap_or(self.file.len());
        &self.file[..colon]
    }

    /// Gives the message a UIDL, where its number or name can be made to tell it: `false` where not.
    pub fn set_uidl(&mut self, uidl: &str) -> bool {
        let (number, uid_validity) = match uidl.strip_prefix("UID").map(|rest| rest.split_once('-'))
        {
            Some(Some((n, v))) => (n.parse().unwrap_or(0), v.parse().unwrap_or(0)),
            Some(None) => (uidl.trim_start_matches("UID").parse().unwrap_or(0), 0),
            None => (0, 0),
        };
        let told = Message { number, uid_validity, ..self.clone() };
        let is_told = told.uidl() == uidl;
        if is_told {
            *self = told;
        }
        is_told
    }

    /// The UIDL that clients know.
    pub fn uidl(&self) -> String {
        let Message { number, uid_validity, .. } = self;
        match (*number, *uid_validity) {
            (0, _) => self.base().iter().fold(String::new(), |out, byte| match byte {
                b'\'' | b'"' | b'+' => out + &format!("+{byte:02X}"),
                0x21..=0x7e => out + &char::from(*byte).to_string(),
                _ => out + &format!("+{byte:02X}"),
            }),
            (n, 0) => format!("UID{n}"),
            (n, v) => format!("UID{n}-{v}"),
        }
    }
}

impl SizeList {
    /// Reads the whole file.
    ///
    /// # Errors
    /// A first line of no known version, lines that do not fit it.
    pub fn read(bytes: &[u8]) -> Result<SizeList, BadLine> {
        let mut lines = numbered(bytes);
        let (_, head) = lines.next().unwrap_or((1, &[]));
        let bad = || BadLine::new(FORMAT, 1, "/VERSION NEXT UIDV", head);
        let words: Vec<&[u8]> = head.split(|b| *b == b' ').collect();
        let (next, validity) = match words[..] {
            [b"/2" | b"/3", next, validity] => (number(next), number(validity)),
            [b"/1", next] => (number(next), Some(0)),
            _ => return Err(bad()),
        };
        let (Some(next), Some(uid_validity)) = (next, validity) else { return Err(bad()) };
        let mut list = SizeList { next, uid_validity, messages: Vec::new() };
        for (at, line) in lines {
            let message = message(line)
                .ok_or_else(|| BadLine::new(FORMAT, at, "a name, a size, N:UIDV", line))?;
            list.messages.push(message);
        }
        Ok(list)
    }

    /// The bytes of the file, version 3. Names with LF are left out.
    pub fn write(&self) -> Vec<u8> {
        let mut out = format!("/3 {} {}\n", self.next, self.uid_validity).into_bytes();
        for m in self.messages.iter().filter(|m| !m.file.contains(&b'\n')) {
            out.extend_from_slice(&m.file);
            let (size, n, v, utf8) = (m.size, m.number, m.uid_validity, u8::from(m.utf8));
            out.extend_from_slice(format!(" {size} {n}:{v}:{utf8}\n").as_bytes());
        }
        out
    }
}

fn message(line: &[u8]) -> Option<Message> {
    let last = line.iter().rposition(|b| *b == b' ')?;
    let before = line[..last].iter().rposition(|b| *b == b' ')?;
    let mut id = line[last + 1..].split(|b| *b == b':');
    let number_of = number::<u32>(id.next()?)?;
    let uid_validity = id.next().map_or(Some(0), number::<u32>)?;
    let utf8 = match id.next() {
        None | Some(b"0") => false,
        Some(b"1") => true,
        _ => return None,
    };
    let file = line[..before].to_vec();
    let size = number(&line[before + 1..last])?;
    let whole = !file.is_empty() && id.next().is_none();
    whole.then_some(Message { file, size, number: number_of, uid_validity, utf8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uidls_that_numbers_tell_are_given() {
        let file = b"1.host+x:2,S".to_vec();
        let mut one = Message { file, size: 3, number: 9, uid_validity: 9, utf8: false };
        for uidl in ["UID7-1700000000", "UID12", "1.host+2Bx"] {
            assert!(one.set_uidl(uidl), "{uidl}");
            assert_eq!(one.uidl(), uidl);
        }
        let numbers = [
            "UID07-1",
            "UID7-",
            "UID",
            "UID0-1",
            "UID4294967296-1",
            "0000000c00000001",
            "1.host+x",
        ];
        for uidl in numbers {
            assert!(!one.set_uidl(uidl), "{uidl}");
            assert_eq!(one.uidl(), "1.host+2Bx");
        }
    }
}
