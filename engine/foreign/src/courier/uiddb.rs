//! `courierimapuiddb`: line 1 `1 UIDVALIDITY UIDNEXT`, then `UID BASENAME`, ascending.

use crate::lines::{BadLine, first_word, number, numbered};

const FORMAT: &str = "courierimapuiddb";

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidDb {
    /// UIDVALIDITY, not 0.
    pub uid_validity: u32,
    /// UIDNEXT: above every UID below.
    pub uid_next: u32,
    /// UID and base name of each message, by rising UID.
    pub messages: Vec<(u32, Vec<u8>)>,
}

impl UidDb {
    /// Reads the whole file.
    ///
    /// # Errors
    /// Another version, numbers that are none, UIDs that do not rise or are not below UIDNEXT, an
    /// empty name, a last line without LF: Courier would begin a new file, or two messages would
    /// have one UID.
    pub fn read(bytes: &[u8]) -> Result<UidDb, BadLine> {
        let mut lines = numbered(bytes);
        let (_, head) = lines.next().unwrap_or((1, &[]));
        let bad_head = || BadLine::new(FORMAT, 1, "1 UIDVALIDITY UIDNEXT", head);
        let words: Vec<&[u8]> = head.split(|b| *b == b' ').collect();
        let [b"1", validity, next] = words[..] else { return Err(bad_head()) };
        let (Some(uid_validity), Some(uid_next)) = (number::<u32>(validity), number::<u32>(next))
        else {
            return Err(bad_head());
        };
        if uid_validity == 0 || uid_next == 0 || !bytes.ends_with(b"\n") {
            return Err(bad_head());
        }
        let (mut messages, mut last): (Vec<(u32, Vec<u8>)>, u32) = (Vec::new(), 0);
        for (at, line) in lines {
            let (uid, name) = first_word(line);
            let uid = number::<u32>(uid).filter(|uid| *uid > last && *uid < uid_next);
            match uid {
                Some(uid) if !name.is_empty() => {
                    messages.push((uid, name.to_vec()));
                    last = uid;
                }
                _ => return Err(BadLine::new(FORMAT, at, "a rising UID and a file name", line)),
            }
        }
        Ok(UidDb { uid_validity, uid_next, messages })
    }

    /// The bytes of the file. Names with LF, which no line can hold, are left out.
    pub fn write(&self) -> Vec<u8> {
        let mut out = format!("1 {} {}\n", self.uid_validity, self.uid_next).into_bytes();
        for (uid, name) in self.messages.iter().filter(|(_, name)| !name.contains(&b'\n')) {
            out.extend_from_slice(format!("{uid} ").as_bytes());
            out.extend_from_slice(name);
            out.push(b'\n');
        }
        out
    }
}
