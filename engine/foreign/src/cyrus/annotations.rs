//! Records of `annotations.db` (mailboxes, server) and `cyrus.annotations` (messages).
//!
//! Key: whose NUL entry NUL user NUL. Whose: to 3.4 a mailbox's name, then its unique id, nothing for
//! the server; in `cyrus.annotations` a UID. User: nothing for shared values; `[.OwNeR.]` for the
//! owner's own since 3.6.
//!
//! Value: the length as an unsigned long that has it big-endian in its first four bytes (eight
//! octets on 64-bit hosts, four on others), the value, NUL, a content type, NUL, the time as another
//! such long, since 2.5 the MODSEQ in eight octets, big-endian, and flags in one.

use super::db::Pair;
use super::{Damage, be32, be64, text};

const FORMAT: &str = "annotation";

/// How 3.6 calls the owner of a mailbox.
pub const OWNER: &str = "[.OwNeR.]";

/// A value of an annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// A mailbox's name or unique id, a UID, or nothing for the server.
    pub of: String,
    /// As `/comment`, without `/shared` or `/private` in front or behind.
    pub entry: String,
    /// Whose it is; empty: everybody's.
    pub user: String,
    /// The value.
    pub value: Vec<u8>,
    /// When it was set; 0 in files before 2.5.
    pub modseq: u64,
    /// Bit 0: it was deleted.
    pub flags: u8,
}

impl Annotation {
    /// Reads a record.
    ///
    /// # Errors
    /// Keys and values of another form.
    pub fn read((key, value): &Pair) -> Result<Annotation, Damage> {
        let wrong = |expected| Damage::new(FORMAT, 0, expected, key.escape_ascii().to_string());
        let mut words = key.split(|b| *b == 0);
        let (Some(of), Some(entry), Some(user)) = (words.next(), words.next(), words.next()) else {
            return Err(wrong("a key of three words"));
        };
        let len = be32(value, 0).ok_or_else(|| wrong("a length"))? as usize;
        // The value ends with a NUL, by which the size of the length is told.
        let fits = |start: usize| value.get(start.saturating_add(len)) == Some(&0);
        let long = match value.get(4..8) == Some(&[0; 4]) && fits(8) {
            true => 8,
            false if fits(4) => 4,
            false => return Err(wrong("a value of its length")),
        };
        let end = long + len;
        let kind = value.get(end + 1..).unwrap_or_default();
        let kind_len = kind.iter().position(|b| *b == 0).unwrap_or(kind.len());
        let modseq_at = end + 1 + kind_len + 1 + long;
        Ok(Annotation {
            of: text(FORMAT, 0, of)?.to_owned(),
            entry: text(FORMAT, 0, entry)?.to_owned(),
            user: text(FORMAT, 0, user)?.to_owned(),
            value: value.get(long..end).unwrap_or_default().to_vec(),
            modseq: be64(value, modseq_at).unwrap_or(0),
            flags: value.get(modseq_at + 8).copied().unwrap_or(0),
        })
    }

    /// The record as 3.6 has it on 64-bit hosts.
    pub fn write(&self) -> Pair {
        let mut key = Vec::new();
        for word in [&self.of, &self.entry, &self.user] {
            key.extend(word.bytes());
            key.push(0);
        }
        let mut value = (self.value.len() as u32).to_be_bytes().to_vec();
        value.extend([0; 4]);
        value.extend(&self.value);
        value.extend(b"\0text/plain\0");
        value.extend([0; 8]);
        value.extend(self.modseq.to_be_bytes());
        value.push(self.flags);
        (key, value)
    }

    /// Whether it was deleted.
    pub fn is_deleted(&self) -> bool {
        self.flags & 1 != 0
    }
}
