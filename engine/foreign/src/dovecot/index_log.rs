//! `dovecot.index.log` of a mailbox that is written anew: all that Dovecot needs beside the messages, as a
//! mailbox has it before Dovecot writes its first base file.
//!
//! | entry | bytes behind its head of 8 |
//! |---|---|
//! | 0x40 introduction of an extension | id 4 (all ones: by name), reset id 4, size of its header 4, of a record 2, alignment 2, flags 2, size of its name 2, name |
//! | 0x100 its header | offset 2, size 2, bytes |
//! | 0x20 header of the index | offset 2, size 2, bytes: UIDVALIDITY is at 24, UIDNEXT at 28, the first recent UID at 48 |
//! | 0x2 messages | UID 4, flags 1, 3 that mean nothing, each |
//! | 0x400 keyword | 0: add, 1; 1 that means nothing; size of its name 2; name, to 4; then first and last UID, 4 each |
//!
//! The head is as [`super::index`] has it. An sdbox has an extension `dbox-hdr` without records; its
//! header is a counter of rebuilds 4, the mailbox's GUID 16, flags 1, 3 that mean nothing.

use std::collections::BTreeMap;

use super::index::FLAGS;

/// Size of the log file's header.
const HEADER_BYTES: u16 = 40;
/// Messages of one entry, at most.
const MESSAGES_MAX: usize = 4096;
/// What is in the mailbox already, rather than wanted.
const EXTERNAL: u32 = 0x1000_0000;

/// A mailbox that is written.
#[derive(Clone, Debug, Default)]
pub struct NewIndex {
    /// UIDVALIDITY
    pub uid_validity: u32,
    /// UIDNEXT
    pub uid_next: u32,
    /// When it is made, seconds since 1970.
    pub created: u32,
    /// What Dovecot knows the mailbox by, whatever its name.
    pub guid: [u8; 16],
    messages: Vec<(u32, u8)>,
    keywords: BTreeMap<String, Vec<(u32, u32)>>,
}

impl NewIndex {
    /// Adds a message; UIDs ascend. Flags and keywords are as IMAP has them.
    pub fn add(&mut self, uid: u32, flags: &[String]) {
        let mut bits = 0;
        for flag in flags {
            match FLAGS.iter().find(|(_, name)| name.eq_ignore_ascii_case(flag)) {
                Some((bit, _)) => bits |= bit,
                None => {
                    let ranges = self.keywords.entry(flag.clone()).or_default();
                    match ranges.last_mut() {
                        Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
                        _ => ranges.push((uid, uid)),
                    }
                }
            }
        }
        self.messages.push((uid, bits));
    }

    /// The file.
    pub fn log(&self) -> Vec<u8> {
        let mut out = vec![1, 3];
        out.extend(HEADER_BYTES.to_le_bytes());
        // Index id, number of this file, number and size of the one before, time of creation.
        for number in [self.created, 2, 0, 0, self.created] {
            out.extend(number.to_le_bytes());
        }
        // First MODSEQ; little-endian.
        out.extend(1u64.to_le_bytes());
        out.extend([1, 0, 0, 0]);
        out.resize(usize::from(HEADER_BYTES), 0);

        let mut intro = u32::MAX.to_le_bytes().to_vec();
        intro.extend(0u32.to_le_bytes());
        intro.extend(24u32.to_le_bytes());
        for half in [0u16, 0, 0, 8] {
            intro.extend(half.to_le_bytes());
        }
        intro.extend(b"dbox-hdr");
        entry(&mut out, 0x40, &intro);
        let mut header = [0u16.to_le_bytes(), 24u16.to_le_bytes()].concat();
        header.extend(0u32.to_le_bytes());
        header.extend(self.guid);
        header.extend([0; 4]);
        entry(&mut out, 0x100, &header);
        field(&mut out, 24, self.uid_validity);
        for some in self.messages.chunks(MESSAGES_MAX) {
            let each = some.iter().flat_map(|(uid, flags)| {
                let [a, b, c, d] = uid.to_le_bytes();
                [a, b, c, d, *flags, 0, 0, 0]
            });
            entry(&mut out, 0x2 | EXTERNAL, &each.collect::<Vec<u8>>());
        }
        for (name, ranges) in &self.keywords {
            let Ok(size) = u16::try_from(name.len()) else { continue };
            let mut data = vec![0, 0];
            data.extend(size.to_le_bytes());
            data.extend(name.as_bytes());
            data.resize(data.len().next_multiple_of(4), 0);
            for (first, last) in ranges {
                data.extend(first.to_le_bytes());
                data.extend(last.to_le_bytes());
            }
            entry(&mut out, 0x400 | EXTERNAL, &data);
        }
        field(&mut out, 28, self.uid_next);
        field(&mut out, 48, self.uid_next);
        out
    }
}

fn field(out: &mut Vec<u8>, offset: u16, value: u32) {
    let head = [offset.to_le_bytes(), 4u16.to_le_bytes()].concat();
    entry(out, 0x20 | EXTERNAL, &[head, value.to_le_bytes().to_vec()].concat());
}

/// Adds an entry. Its size is in units of 4, in 7 bits of each byte, the highest first.
fn entry(out: &mut Vec<u8>, kind: u32, data: &[u8]) {
    let size = (data.len() + 8).next_multiple_of(4);
    let units = size / 4;
    out.extend([21, 14, 7, 0].map(|shift| 0x80 | (units >> shift & 0x7f) as u8));
    out.extend(kind.to_le_bytes());
    out.extend(data);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::super::index::Index;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut new = NewIndex { uid_validity: 7, uid_next: 9000, ..NewIndex::default() };
        let words = ["\\Seen", "$Forwarded", "\\flagged", "Later"].map(str::to_owned);
        for uid in 1..6000 {
            new.add(uid, &words[..uid as usize % 5]);
        }
        let mut index = Index::default();
        index.apply_logs(&[new.log()]).unwrap();
        assert_eq!(index.records.len(), 5999);
        let names = |uid| {
            let mut names = index.records[&uid].names();
            names.sort();
            names
        };
        assert_eq!(names(5), Vec::<String>::new());
        assert_eq!(names(5998), ["$Forwarded", "\\Flagged", "\\Seen"]);
        assert_eq!(names(4), ["$Forwarded", "Later", "\\Flagged", "\\Seen"]);
        // The next extension, by its number: keywords have one, too.
        let mut log = new.log();
        let mut intro = u32::MAX.to_le_bytes().to_vec();
        intro.extend([0; 8]);
        intro.extend([4, 0, 4, 0, 0, 0, 5, 0]);
        intro.extend(b"cache");
        entry(&mut log, 0x40, &intro);
        intro.truncate(20);
        intro.splice(..4, 2u32.to_le_bytes());
        intro.splice(18..20, [0, 0]);
        entry(&mut log, 0x40, &intro);
        entry(&mut log, 0x200, &[5, 0, 0, 0, 9, 9, 9, 9]);
        let mut index = Index::default();
        index.apply_logs(&[log]).unwrap();
        assert_eq!(index.records[&5].extensions["cache"], [9; 4]);
    }
}
