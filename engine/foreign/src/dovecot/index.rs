//! `dovecot.index` and its log `dovecot.index.log`: which messages there are, with flags, keywords and
//! the records of extensions.
//!
//! The base file is brought up to date by the log from the place that it names; a young mailbox has
//! only the log. Little-endian, as x86 and ARM write it.
//!
//! | base file | bytes |
//! |---|---|
//! | 0 | major version (7), 1; minor, 1; size of the header without extensions, 2; size of the header, 4; size of a record, 4 |
//! | 60 | number of the log file, 4; tail offset, 4; head offset, 4: the log is applied up to there |
//! | behind the header | extensions: header size 4, reset id 4, record offset 2, record size 2, alignment 2, name size 2, name, to 8; then its header, to 8 |
//! | records | UID 4, flags 1, and what extensions have at their offsets |
//!
//! | log file | bytes |
//! |---|---|
//! | 0 | major version (1), 1; minor, 1; size of the header, 2; index id, 4; its number, 4; that of the one before, 4 |
//! | entries | size (7 bits in each of 4 bytes, big-endian, in units of 4), type 4, contents |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The extension that keywords are.
const KEYWORDS: &str = "keywords";
/// Messages of one index, at most.
const MESSAGES_MAX: usize = 1 << 26;
/// Where the base file names the log.
const LOG_AT: usize = 60;
/// The shortest header of a base file.
const BASE_HEADER_MIN: usize = 72;
/// The shortest header of a log file.
const LOG_HEADER_MIN: usize = 24;
/// Flags of a record.
pub const FLAGS: [(u8, &str); 5] = [
    (0x01, "\\Answered"),
    (0x02, "\\Flagged"),
    (0x04, "\\Deleted"),
    (0x08, "\\Seen"),
    (0x10, "\\Draft"),
];

const EXPUNGE: u32 = 0x1 | 0xcd90;
const EXPUNGE_GUID: u32 = 0x2000 | 0xcd90;
const APPEND: u32 = 0x2;
const FLAG_UPDATE: u32 = 0x4;
const EXT_INTRO: u32 = 0x40;
const EXT_RESET: u32 = 0x80;
const EXT_REC_UPDATE: u32 = 0x200;
const KEYWORD_UPDATE: u32 = 0x400;
const KEYWORD_RESET: u32 = 0x800;
const TYPE_MASK: u32 = 0x0fff_ffff;
const EXTERNAL: u32 = 0x1000_0000;

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadIndex {
    /// Which kind of file.
    pub file: &'static str,
    /// Byte of it.
    pub at: usize,
    /// What should be there.
    pub expected: &'static str,
}

impl fmt::Display for BadIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {} at byte {}", self.file, self.expected, self.at)
    }
}

impl std::error::Error for BadIndex {}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Bits of [`FLAGS`].
    pub flags: u8,
    /// Keywords.
    pub keywords: BTreeSet<String>,
    /// What extensions keep of it, by their names.
    pub extensions: BTreeMap<String, Vec<u8>>,
}

impl Record {
    /// Flags and keywords as IMAP has them.
    pub fn names(&self) -> Vec<String> {
        let flags = FLAGS.iter().filter(|(bit, _)| self.flags & bit != 0);
        let flags = flags.map(|(_, name)| (*name).to_owned());
        flags.chain(self.keywords.iter().cloned()).collect()
    }
}

/// An index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// By UID.
    pub records: BTreeMap<u32, Record>,
    extensions: Vec<Extension>,
    /// Number of the log file and the offset that it is applied up to; `None`: from its beginning.
    log: Option<(u32, usize)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Extension {
    name: String,
    record_size: usize,
}

struct Reader<'f> {
    file: &'static str,
    bytes: &'f [u8],
}

impl<'f> Reader<'f> {
    fn wrong<T>(&self, at: usize, expected: &'static str) -> Result<T, BadIndex> {
        Err(BadIndex { file: self.file, at, expected })
    }

    fn slice(&self, at: usize, length: usize) -> Result<&'f [u8], BadIndex> {
        let found = at.checked_add(length).and_then(|end| self.bytes.get(at..end));
        found.map_or_else(|| self.wrong(at, "more bytes"), Ok)
    }

    fn u32(&self, at: usize) -> Result<u32, BadIndex> {
        let bytes = self.slice(at, 4)?;
        Ok(bytes.iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte)))
    }

    fn u16(&self, at: usize) -> Result<usize, BadIndex> {
        let bytes = self.slice(at, 2)?;
        Ok(bytes.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    }
}

fn aligned(n: usize, to: usize) -> usize {
    n.div_ceil(to).saturating_mul(to)
}

impl Index {
    /// Reads a base file.
    pub fn read(bytes: &[u8]) -> Result<Index, BadIndex> {
        let file = Reader { file: "dovecot.index", bytes };
        if file.slice(0, 1)? != [7] {
            return file.wrong(0, "version 7");
        }
        let base = file.u16(2)?;
        let (header, size) = (file.u32(4)? as usize, file.u32(8)? as usize);
        if base < BASE_HEADER_MIN || header < base || size < 5 || header > bytes.len() {
            return file.wrong(2, "sizes that fit");
        }
        let log = Some((file.u32(LOG_AT)?, file.u32(LOG_AT + 8)? as usize));
        let mut index = Index { log, ..Index::default() };
        let mut offsets: Vec<usize> = Vec::new();
        let mut keywords = Vec::new();
        let mut at = aligned(base, 8);
        while at + 16 <= header {
            let data_size = file.u32(at)? as usize;
            let (offset, record_size) = (file.u16(at + 8)?, file.u16(at + 10)?);
            let name_size = file.u16(at + 14)?;
            let name = String::from_utf8_lossy(file.slice(at + 16, name_size)?).into_owned();
            let data = aligned(at + 16 + name_size, 8);
            if name == KEYWORDS {
                keywords = keyword_names(file.slice(data, data_size)?);
            }
            index.extensions.push(Extension { name, record_size });
            offsets.push(offset);
            at = aligned(data.saturating_add(data_size), 8);
        }
        for chunk in bytes.get(header..).unwrap_or_default().chunks_exact(size) {
            let record = Reader { file: "dovecot.index", bytes: chunk };
            let mut found = Record { flags: chunk[4] & 0x1f, ..Record::default() };
            for (extension, offset) in index.extensions.iter().zip(&offsets) {
                let Ok(data) = record.slice(*offset, extension.record_size) else { continue };
                if extension.name == KEYWORDS {
                    let set = |n: &usize| data.get(n / 8).is_some_and(|b| b >> (n % 8) & 1 == 1);
                    let set = (0..keywords.len()).filter(set);
                    found.keywords = set.filter_map(|n| keywords.get(n).cloned()).collect();
                } else if extension.record_size > 0 {
                    found.extensions.insert(extension.name.clone(), data.to_vec());
                }
            }
            index.records.insert(record.u32(0)?, found);
        }
        Ok(index)
    }

    /// Applies log files, whatever their order. Those that the base file is ahead of count for
    /// nothing.
    ///
    /// # Errors
    /// One is damaged, or the one from which on the index has to be brought up to date is missing.
    pub fn apply_logs(&mut self, logs: &[Vec<u8>]) -> Result<(), BadIndex> {
        let mut numbered = BTreeMap::new();
        for bytes in logs {
            let file = Reader { file: "dovecot.index.log", bytes };
            if file.slice(0, 1)? != [1] {
                return file.wrong(0, "version 1");
            }
            numbered.insert(file.u32(8)?, (file.u16(2)?, file.u32(12)?, bytes));
        }
        for (number, (header, before, bytes)) in numbered {
            let file = Reader { file: "dovecot.index.log", bytes };
            let start = match self.log {
                Some((first, _)) if number < first => continue,
                Some((first, offset)) if number == first => offset.max(header),
                Some((last, _)) if before == last || number == last + 1 => header,
                None if before == 0 => header,
                _ => return file.wrong(8, "the log file that comes next"),
            };
            if header < LOG_HEADER_MIN {
                return file.wrong(2, "a header that is long enough");
            }
            self.apply(&file, start)?;
            self.log = Some((number, bytes.len()));
        }
        Ok(())
    }

    fn apply(&mut self, file: &Reader<'_>, mut at: usize) -> Result<(), BadIndex> {
        let mut current: Option<usize> = None;
        while at + 8 <= file.bytes.len() {
            let head = file.slice(at, 8)?;
            let size = head.iter().take(4).fold(0usize, |n, b| n << 7 | usize::from(b & 0x7f)) * 4;
            // An entry that is being written has no size yet.
            if !head.iter().take(4).all(|b| b & 0x80 != 0) || size < 8 {
                return Ok(());
            }
            let Ok(data) = file.slice(at + 8, size - 8) else { return Ok(()) };
            let kind = file.u32(at + 4)?;
            let entry = Reader { file: file.file, bytes: data };
            self.entry(kind, &entry, &mut current)
                .map_err(|bad| BadIndex { at: at + 8 + bad.at, ..bad })?;
            at += size;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        kind: u32,
        entry: &Reader<'_>,
        current: &mut Option<usize>,
    ) -> Result<(), BadIndex> {
        let each = |size: usize| (0..entry.bytes.len() / size).map(move |n| n * size);
        match kind & TYPE_MASK {
            // Without that bit it is only wanted.
            EXPUNGE if kind & EXTERNAL != 0 => {
                for at in each(8) {
                    self.range(entry.u32(at)?, entry.u32(at + 4)?).for_each(|uid| {
                        self.records.remove(&uid);
                    });
                }
            }
            EXPUNGE_GUID if kind & EXTERNAL != 0 => {
                for at in each(20) {
                    self.records.remove(&entry.u32(at)?);
                }
            }
            APPEND => {
                for at in each(8) {
                    let flags = entry.slice(at + 4, 1)?[0] & 0x1f;
                    if self.records.len() >= MESSAGES_MAX {
                        return entry.wrong(at, "fewer messages");
                    }
                    self.records.insert(entry.u32(at)?, Record { flags, ..Record::default() });
                }
            }
            FLAG_UPDATE => {
                for at in each(12) {
                    let (add, remove) = (entry.slice(at + 8, 1)?[0], entry.slice(at + 9, 1)?[0]);
                    for uid in self.range(entry.u32(at)?, entry.u32(at + 4)?) {
                        if let Some(record) = self.records.get_mut(&uid) {
                            record.flags = (record.flags & !remove | add) & 0x1f;
                        }
                    }
                }
            }
            KEYWORD_UPDATE => {
                // The first one introduces the extension, without an entry of its own.
                if !self.extensions.iter().any(|one| one.name == KEYWORDS) {
                    self.extensions.push(Extension { name: KEYWORDS.to_owned(), record_size: 0 });
                }
                let how = entry.slice(0, 1)?[0];
                let size = entry.u16(2)?;
                let name = String::from_utf8_lossy(entry.slice(4, size)?).into_owned();
                let mut at = aligned(4 + size, 4);
                while at + 8 <= entry.bytes.len() {
                    for uid in self.range(entry.u32(at)?, entry.u32(at + 4)?) {
                        let Some(record) = self.records.get_mut(&uid) else { continue };
                        match how {
                            0 => drop(record.keywords.insert(name.clone())),
                            1 => drop(record.keywords.remove(&name)),
                            _ => record.keywords = BTreeSet::from([name.clone()]),
                        }
                    }
                    at += 8;
                }
            }
            KEYWORD_RESET => {
                for at in each(8) {
                    for uid in self.range(entry.u32(at)?, entry.u32(at + 4)?) {
                        if let Some(record) = self.records.get_mut(&uid) {
                            record.keywords.clear();
                        }
                    }
                }
            }
            EXT_INTRO => *current = Some(self.introduced(entry)?),
            EXT_RESET => {
                let keeps = entry.slice(4, 1).is_ok_and(|byte| byte != [0]);
                if let Some(extension) = current.and_then(|n| self.extensions.get(n))
                    && !keeps
                {
                    for record in self.records.values_mut() {
                        record.extensions.remove(&extension.name);
                    }
                }
            }
            EXT_REC_UPDATE => {
                let Some(extension) = current.and_then(|n| self.extensions.get(n)) else {
                    return entry.wrong(0, "an extension that was introduced");
                };
                let stride = aligned(4 + extension.record_size, 4);
                for at in each(stride) {
                    let data = entry.slice(at + 4, extension.record_size)?.to_vec();
                    if let Some(record) = self.records.get_mut(&entry.u32(at)?) {
                        record.extensions.insert(extension.name.clone(), data);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Which extension the next entries are about.
    fn introduced(&mut self, entry: &Reader<'_>) -> Result<usize, BadIndex> {
        let (id, record_size, name_size) = (entry.u32(0)?, entry.u16(12)?, entry.u16(18)?);
        let known = match id {
            u32::MAX => {
                let name = String::from_utf8_lossy(entry.slice(20, name_size)?).into_owned();
                let known = self.extensions.iter().position(|one| one.name == name);
                known.unwrap_or_else(|| {
                    self.extensions.push(Extension { name, record_size });
                    self.extensions.len() - 1
                })
            }
            id => id as usize,
        };
        match self.extensions.get_mut(known) {
            Some(extension) => {
                extension.record_size = record_size;
                Ok(known)
            }
            None => entry.wrong(0, "an extension that is known"),
        }
    }

    fn range(&self, first: u32, last: u32) -> impl Iterator<Item = u32> + use<> {
        let found: Vec<u32> = match first <= last {
            true => self.records.range(first..=last).map(|(uid, _)| *uid).collect(),
            false => Vec::new(),
        };
        found.into_iter()
    }
}

/// Names in the header of the extension `keywords`: count 4, then of each 4 that mean nothing and
/// the offset of its name 4, then names that end with NUL.
fn keyword_names(data: &[u8]) -> Vec<String> {
    let file = Reader { file: "dovecot.index", bytes: data };
    let count = file.u32(0).map_or(0, |n| n as usize).min(data.len() / 8);
    let names = 4 + count * 8;
    let name = |n: usize| {
        let offset = file.u32(4 + n * 8 + 4).ok()? as usize;
        let rest = data.get(names.checked_add(offset)?..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
    };
    (0..count).map(|n| name(n).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gap_in_the_log_is_told() {
        let mut log = vec![0; 40];
        (log[0], log[2], log[8], log[12]) = (1, 40, 5, 4);
        assert!(Index::default().apply_logs(&[log.clone()]).is_err());
        log[12] = 0;
        assert!(Index::default().apply_logs(&[log]).is_ok());
        assert!(Index::read(&[7; 100]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            kind in proptest::sample::select(vec![EXPUNGE, EXPUNGE_GUID, APPEND, FLAG_UPDATE, EXT_INTRO,
                EXT_RESET, EXT_REC_UPDATE, KEYWORD_UPDATE, KEYWORD_RESET]),
        ) {
            let _ = Index::read(&bytes);
            let mut base = bytes.clone();
            base.resize(base.len().max(16), 0);
            base[..12].copy_from_slice(&[7, 0, 72, 0, 80, 0, 0, 0, 8, 0, 0, 0]);
            let _ = Index::read(&base);
            let _ = keyword_names(&bytes);
            let mut log = vec![1, 3, 24, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let size = (bytes.len() + 8) / 4 * 4;
            let words = size / 4;
            log.extend([0x80, 0x80, 0x80 | (words >> 7) as u8, 0x80 | (words & 0x7f) as u8]);
            log.extend((kind | EXTERNAL).to_le_bytes());
            log.extend(&bytes);
            let mut index = Index::default();
            index.records.insert(1, Record::default());
            let _ = index.apply_logs(&[log]);
        }
    }
}
