//! `dovecot-uidlist`, versions 3 and 1.
//!
//! Version 3: line 1 `3 V<UIDVALIDITY> N<UIDNEXT> G<GUID>`, then `UID [extensions] :BASENAME`;
//! version 1: `1 UIDVALIDITY UIDNEXT`, then `UID BASENAME`. Lines are appended while N stays, and
//! names of expunged messages remain until the file is next written whole.

use crate::lines::{BadLine, first_word, number, numbered};

const FORMAT: &str = "dovecot-uidlist";

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidList {
    /// UIDVALIDITY, not 0.
    pub uid_validity: u32,
    /// UIDNEXT: what the header says, or above the last UID where that is more.
    pub uid_next: u32,
    /// Fields of the header beside V and N, as they stand: the mailbox's GUID.
    pub extra: Vec<String>,
    /// By rising UID.
    pub messages: Vec<Message>,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// UID.
    pub uid: u32,
    /// Extensions as they stand: a letter and its value each.
    pub extra: Vec<String>,
    /// File name without flags.
    pub base: Vec<u8>,
}

impl Message {
    /// Adds the line to `out`, as version 3 has it; a name with LF is left out.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.base.contains(&b'\n') {
            return;
        }
        out.extend_from_slice(self.uid.to_string().as_bytes());
        for field in &self.extra {
            out.push(b' ');
            out.extend_from_slice(field.as_bytes());
        }
        out.extend_from_slice(b" :");
        out.extend_from_slice(&self.base);
        out.push(b'\n');
    }

    /// Gives the message a UIDL of POP3, in the place of one that it has.
    pub fn set_uidl(&mut self, uidl: &str) {
        self.extra.retain(|field| !field.starts_with('P'));
        self.extra.push(format!("P{uidl}"));
    }

    /// The UIDL of POP3 that the `P` extension gives.
    pub fn uidl(&self) -> Option<&str> {
        self.extra.iter().find_map(|field| field.strip_prefix('P'))
    }
}

impl UidList {
    /// Reads the whole file. Of a last line without LF, which Dovecot was writing, the UID counts
    /// and no message.
    ///
    /// # Errors
    /// Another version, numbers that are none, UIDs that do not rise.
    pub fn read(bytes: &[u8]) -> Result<UidList, BadLine> {
        match UidList::read_begun(bytes)? {
            (list, None) => Ok(list),
            (_, Some(bad)) => Err(bad),
        }
    }

    /// The same of a file whose end may be torn, as a power cut leaves lines that were being added:
    /// what is before the first line that is none, and that line. Only an end is torn: behind it
    /// comes nothing that can be read.
    ///
    /// # Errors
    /// As [`UidList::read`], for a bad line with good ones behind it.
    pub fn read_begun(bytes: &[u8]) -> Result<(UidList, Option<BadLine>), BadLine> {
        let mut torn: Option<BadLine> = None;
        let mut lines = numbered(bytes).peekable();
        let (_, head) = lines.next().unwrap_or((1, &[]));
        let bad = || BadLine::new(FORMAT, 1, "3 V<UIDVALIDITY> N<UIDNEXT>", head);
        let words: Vec<&[u8]> = head.split(|b| *b == b' ').filter(|w| !w.is_empty()).collect();
        let (mut validity, mut next, mut extra) = (None, None, Vec::new());
        let newer = match words[..] {
            [b"1", v, n] => {
                (validity, next) = (number::<u32>(v), number::<u32>(n));
                false
            }
            [b"3", ref fields @ ..] => {
                for field in fields {
                    match field.split_first() {
                        Some((b'V', digits)) => validity = number(digits),
                        Some((b'N', digits)) => next = number(digits),
                        _ => extra.push(String::from_utf8_lossy(field).into_owned()),
                    }
                }
                true
            }
            _ => return Err(bad()),
        };
        let uid_validity = validity.filter(|v| *v != 0).ok_or_else(bad)?;
        let mut list = UidList {
            uid_validity,
            uid_next: next.filter(|n| *n != 0).ok_or_else(bad)?,
            extra,
            messages: Vec::new(),
        };
        let mut last = 0;
        while let Some((at, line)) = lines.next() {
            let cut = lines.peek().is_none() && !bytes.ends_with(b"\n");
            let (uid, rest) = first_word(line);
            let uid = number::<u32>(uid).filter(|uid| *uid > last && *uid < u32::MAX);
            let message = uid.and_then(|uid| message(uid, rest, newer)).filter(|_| !cut);
            match (uid, message) {
                (Some(_), Some(message)) => {
                    if let Some(bad) = torn {
                        return Err(bad);
                    }
                    list.messages.push(message);
                }
                _ if cut => {}
                _ => {
                    let bad = || BadLine::new(FORMAT, at, "a rising UID and a file name", line);
                    torn.get_or_insert_with(bad);
                    continue;
                }
            }
            last = uid.unwrap_or(last);
            list.uid_next = list.uid_next.max(last.saturating_add(1));
        }
        Ok((list, torn))
    }

    /// The bytes of the file, version 3. Names with LF are left out.
    pub fn write(&self) -> Vec<u8> {
        let mut head = format!("3 V{} N{}", self.uid_validity, self.uid_next);
        self.extra.iter().for_each(|field| head = format!("{head} {field}"));
        let mut out = head.into_bytes();
        out.push(b'\n');
        self.messages.iter().for_each(|message| message.write(&mut out));
        out
    }
}

fn message(uid: u32, rest: &[u8], newer: bool) -> Option<Message> {
    if !newer {
        return (!rest.is_empty()).then(|| Message { uid, extra: Vec::new(), base: rest.to_vec() });
    }
    let (mut extra, mut rest) = (Vec::new(), rest);
    loop {
        if let Some(base) = rest.strip_prefix(b":") {
            return (!base.is_empty()).then(|| Message { uid, extra, base: base.to_vec() });
        }
        let (field, behind) = first_word(rest);
        if behind.is_empty() {
            return None;
        }
        if !field.is_empty() {
            extra.push(std::str::from_utf8(field).ok()?.to_owned());
        }
        rest = behind;
    }
}
