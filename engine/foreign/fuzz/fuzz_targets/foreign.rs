//! Files of other servers and of mail programs: any bytes are read or refused, in memory and time
//! that go with their length; what was read and written again reads the same. The first byte
//! chooses the form.
#![no_main]

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use foreign::{courier, cyrus, dovecot, maildirsize};
use inherit::{Files, Sources};
use libfuzzer_sys::fuzz_target;

// One program for all forms: the crates around these modules would take longer to build than the
// fuzzing takes.
#[path = "../../../../server/auth/src/backends/berkeley.rs"]
#[allow(dead_code)]
mod berkeley;
#[path = "../../../../server/auth/src/backends/gdbm.rs"]
#[allow(dead_code)]
mod gdbm;
mod mailfiles;

use mailfiles::mbox;

/// More items than this many a byte are copies of the same.
const COPIES_MAX: usize = 2;

fuzz_target!(|data: &[u8]| {
    let Some((&form, bytes)) = data.split_first() else { return };
    match form {
        b'a'..=b'j' => of_courier(form, bytes),
        b'k'..=b'r' => of_dovecot(form, bytes),
        b'A'..=b'N' => of_cyrus(form, bytes),
        b'0'..=b'2' => configuration(form, bytes),
        b'3' => of_database(gdbm::read(bytes).ok(), bytes),
        b'4' => of_database(berkeley::read(bytes).ok(), bytes),
        b'5'..=b'8' => of_mbox(form, bytes),
        _ => {}
    }
});

fn of_courier(form: u8, bytes: &[u8]) {
    match form {
        b'a' => {
            if let Ok(list) = courier::uiddb::UidDb::read(bytes) {
                assert_eq!(courier::uiddb::UidDb::read(&list.write()).as_ref(), Ok(&list));
            }
        }
        b'b' => {
            if let Ok(list) = courier::keywords::List::read(bytes) {
                let again = courier::keywords::List::read(&list.write()).expect("a list of ours");
                assert!(again.messages.len() <= list.messages.len());
            }
        }
        b'c' => {
            let updates = bytes.split(|b| *b == b'\n').filter_map(courier::keywords::update);
            let _ = courier::keywords::newest(updates.collect());
        }
        b'd' => {
            let _ = courier::keywords::read_update(bytes);
        }
        b'e' => {
            if let Ok(list) = courier::sizelist::SizeList::read(bytes) {
                let _ = list.messages.iter().map(|m| (m.base().len(), m.uidl())).count();
                assert!(courier::sizelist::SizeList::read(&list.write()).is_ok());
            }
        }
        b'f' => {
            if let Ok(entries) = courier::acl::read(bytes) {
                let _ = courier::acl::write(&entries);
            }
        }
        b'g' => {
            let names = courier::subscribed::read(bytes);
            let _ = courier::subscribed::write(names.iter().map(String::as_str));
        }
        b'h' => {
            let list = courier::shared::read_maildirs(bytes);
            let written = courier::shared::write_maildirs(&list);
            assert!(courier::shared::read_maildirs(&written).len() <= list.len());
        }
        b'i' => {
            let _ = courier::shared::read_index(bytes);
        }
        _ => {
            if let Ok(file) = maildirsize::Maildirsize::read(bytes) {
                let again = maildirsize::Maildirsize::read(&file.write()).expect("a file of ours");
                assert_eq!((again.bytes, again.messages), (file.bytes, file.messages));
            }
        }
    }
}

fn of_dovecot(form: u8, bytes: &[u8]) {
    match form {
        b'k' => {
            if let Ok(list) = dovecot::uidlist::UidList::read(bytes) {
                assert!(dovecot::uidlist::UidList::read(&list.write()).is_ok());
            }
            let _ = dovecot::uidlist::UidList::read_begun(bytes);
        }
        b'l' => {
            if let Ok(letters) = dovecot::keywords::Letters::read(bytes) {
                let _ = (letters.name(b'a'), letters.write());
            }
        }
        b'm' => {
            if let Ok(entries) = dovecot::acl::read(bytes) {
                let _ = dovecot::acl::write(&entries);
            }
        }
        b'n' => {
            let names = dovecot::subscriptions::read(bytes, '.');
            let _ = dovecot::subscriptions::write(&names);
        }
        b'o' => {
            let _ = dovecot::uidvalidity::read(bytes);
        }
        b'p' => {
            let Ok(head) = dovecot::dbox::head(bytes) else { return };
            let (mut at, mut steps) = (head.end, 0);
            while let Ok(Some(_)) = dovecot::dbox::message(bytes, head, at) {
                let Some(next) = dovecot::dbox::next_message(bytes, at) else { break };
                assert!(next > at, "a message behind the last one");
                at = next;
                steps += 1;
                assert!(steps <= bytes.len());
            }
        }
        b'q' => {
            let Ok(index) = dovecot::index::Index::read(bytes) else { return };
            assert!(index.records.len() <= bytes.len());
            let _ = index.records.values().map(|record| record.names()).count();
        }
        _ => {
            // An index and a log behind it.
            let (length, rest) = bytes.split_first_chunk().map_or((0, bytes), |(length, rest)| {
                (usize::from(u16::from_le_bytes(*length)), rest)
            });
            let (index, log) = rest.split_at(length.min(rest.len()));
            let _ = dovecot::modseq::at_most(log);
            let mut index = dovecot::index::Index::read(index).unwrap_or_default();
            let _ = index.apply_logs(&[log.to_vec()]);
        }
    }
}

fn of_cyrus(form: u8, bytes: &[u8]) {
    match form {
        b'A' => of_index(bytes),
        b'B' => {
            let mut mended = bytes.to_vec();
            mend_index(&mut mended);
            of_index(&mended);
        }
        b'C' => {
            if let Ok(header) = cyrus::header::Header::read(bytes) {
                let _ = header.write();
            }
        }
        b'D' => {
            let offset = bytes.first().copied().unwrap_or(0);
            if let Ok(record) = cyrus::cache::record(bytes, offset.into()) {
                assert!(record.len() <= bytes.len());
            }
        }
        b'E' => {
            let _ = cyrus::cache::make(bytes);
        }
        b'F' => {
            let pairs = cyrus::db::read(bytes).ok();
            of_database(pairs.clone(), bytes);
            pairs.iter().for_each(|pairs| of_pairs(pairs));
            // What Cyrus would take as a whole file: keys that differ and are not empty.
            let mut pairs = cyrus::db::sorted(pairs.unwrap_or_default());
            pairs.retain(|(key, _)| !key.is_empty());
            pairs.dedup_by(|a, b| a.0 == b.0);
            let written = cyrus::db::write(cyrus::db::Form::Twom, &pairs, bytes, 0);
            assert_eq!(cyrus::db::read(&written), Ok(pairs));
        }
        b'G' => {
            let mut mended = bytes.to_vec();
            mend_twoskip(&mut mended);
            of_database(cyrus::db::read(&mended).ok(), &mended);
        }
        b'H' => {
            let mut halves = bytes.split(|b| *b == b'\n').map(|half| half.to_vec());
            let mut pairs = Vec::new();
            while let (Some(key), Some(value)) = (halves.next(), halves.next()) {
                pairs.push((key, value));
            }
            of_pairs(&pairs);
        }
        b'I' => {
            if let Ok(value) = cyrus::dlist::read(bytes) {
                assert_eq!(cyrus::dlist::read(&cyrus::dlist::write(&value)), Ok(value));
            }
        }
        b'J' => {
            let text = String::from_utf8_lossy(bytes);
            let mut again = |_: &str| Ok(text.clone().into_owned());
            if let Ok(conf) = cyrus::imapd_conf::ImapdConf::read(&text, &mut again) {
                let _ = (conf.partitions(), conf.spread(), conf.config_directory());
                let _ = conf.options().count();
            }
        }
        b'K' => {
            if let Ok(quota) = cyrus::quota::Quota::read(bytes) {
                let _ = quota.write();
            }
        }
        b'L' => of_seen(bytes),
        b'M' => {
            let text = String::from_utf8_lossy(bytes);
            for name in [cyrus::name::Name::from_internal(&text), cyrus::name::Name::from_database(&text)] {
                let Ok(name) = name else { continue };
                let _ = (name.to_internal(), name.to_database(), name.owner("DELETED"));
            }
        }
        _ => {
            let _ = cyrus::mboxlist::acl_of_lines(&String::from_utf8_lossy(bytes));
        }
    }
}

fn of_seen(bytes: &[u8]) {
    if let Ok(seen) = cyrus::seen::Seen::read(bytes) {
        let _ = (seen.contains(1), seen.write());
    }
}

fn of_index(bytes: &[u8]) {
    if let Ok(index) = cyrus::index::Index::read(bytes) {
        assert!(index.records.len() <= bytes.len());
        let written = index.write(&["one".to_owned()]);
        let again = cyrus::index::Index::read(&written).expect("an index of ours");
        assert_eq!(again.records.len(), index.records.len());
    }
}

/// Gives an index the checksums that its header and records should have.
fn mend_index(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize| {
        let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk());
        chunk.map_or(0, |chunk| u32::from_be_bytes(*chunk) as usize)
    };
    let (minor, start, size) = (number(bytes, 8), number(bytes, 12), number(bytes, 16));
    let Some(shape) = cyrus::index::SHAPES.iter().find(|s| s.minor as usize == minor) else { return };
    let mend = |part: &mut [u8]| {
        if let Some((covered, crc)) = part.split_last_chunk_mut::<4>() {
            *crc = crc32fast::hash(covered).to_be_bytes();
        }
    };
    bytes.get_mut(..shape.header).into_iter().for_each(mend);
    if let (Some(body), 1..) = (bytes.get_mut(start..), size) {
        body.chunks_exact_mut(size).for_each(mend);
    }
}

/// The same for a database: its header, and records from the beginning as far as they are whole.
fn mend_twoskip(bytes: &mut [u8]) {
    const HEADER_BYTES: usize = 64;
    if let Some(magic) = bytes.get_mut(..20) {
        magic.copy_from_slice(&cyrus::db::twoskip::MAGIC);
    }
    let mut mend = |from: usize, to: usize, at: usize| {
        let crc = crc32fast::hash(bytes.get(from..to)?);
        bytes.get_mut(at..)?.first_chunk_mut().map(|place| *place = crc.to_be_bytes())
    };
    mend(0, HEADER_BYTES - 4, HEADER_BYTES - 4);
    let mut at = HEADER_BYTES;
    loop {
        let Some(&[_, level, k0, k1, v0, v1, v2, v3]) =
            bytes.get(at..).and_then(|rest| rest.first_chunk())
        else {
            return;
        };
        let key = usize::from(u16::from_be_bytes([k0, k1]));
        let length = key.saturating_add(u32::from_be_bytes([v0, v1, v2, v3]) as usize);
        let head = at + 8 + 8 * (usize::from(level) + 1);
        let end = (head + 8).saturating_add(length.next_multiple_of(8));
        let mut mend = |from: usize, to: usize, at: usize| {
            let crc = crc32fast::hash(bytes.get(from..to)?);
            bytes.get_mut(at..)?.first_chunk_mut().map(|place| *place = crc.to_be_bytes())
        };
        if mend(at, head, head).is_none() || mend(head + 8, end, head + 4).is_none() {
            return;
        }
        at = end;
    }
}

fn of_pairs(pairs: &[(Vec<u8>, Vec<u8>)]) {
    let _ = cyrus::mboxlist::read(pairs);
    let _ = cyrus::subscriptions::read(pairs, "jo");
    for pair in pairs {
        if let Ok(annotation) = cyrus::annotations::Annotation::read(pair) {
            let _ = (annotation.is_deleted(), annotation.write());
        }
        of_seen(&pair.1);
        let _ = cyrus::quota::Quota::read(&pair.1);
        let _ = cyrus::dlist::read(&pair.1);
        if let Ok(denial) = cyrus::deny::Denial::parse(&pair.1) {
            let _ = denial.denies("imaps");
            assert_eq!(cyrus::deny::Denial::parse(&denial.to_value()), Ok(denial));
        }
    }
}

/// A file cannot hold more than it has bytes.
fn of_database(pairs: Option<Vec<(Vec<u8>, Vec<u8>)>>, bytes: &[u8]) {
    let held: usize = pairs.iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
    assert!(held <= COPIES_MAX * bytes.len(), "{held} octets out of {}", bytes.len());
}

/// All files of a configuration are the same text.
struct OneText(String);

impl Files for OneText {
    fn text(&self, _: &Path) -> io::Result<String> {
        Ok(self.0.clone())
    }

    fn has(&self, _: &Path) -> bool {
        true
    }

    fn is_empty(&self, _: &Path) -> bool {
        self.0.is_empty()
    }
}

fn configuration(form: u8, bytes: &[u8]) {
    let text = OneText(String::from_utf8_lossy(bytes).into_owned());
    let file = || Some(PathBuf::from("/etc/other/file"));
    let sources = match form {
        b'0' => Sources { courier: file(), ..Sources::default() },
        b'1' => Sources { imapd_conf: file(), ..Sources::default() },
        _ => Sources { imapd_conf: file(), cyrus_conf: file(), ..Sources::default() },
    };
    let _ = sources.read(&text);
}

fn of_mbox(form: u8, bytes: &[u8]) {
    let kind = match form {
        b'5' => mbox::Kind::O,
        b'6' => mbox::Kind::Rd,
        b'7' => mbox::Kind::Cl,
        _ => mbox::Kind::Cl2,
    };
    let headers = mbox::Headers { flags: true, strip: true };
    let reader = mbox::Reader::new(Cursor::new(bytes), "mbox", kind, headers);
    let read: Vec<_> = reader.collect();
    let held: usize = read.iter().flatten().map(|found| found.octets.len()).sum();
    // A CR for each LF.
    assert!(held <= 2 * bytes.len() && read.len() <= bytes.len() + 1);
    let mut writer = mbox::Writer::new(Vec::new(), kind, true);
    for found in read.iter().flatten() {
        writer.add(&found.octets, &found.flags, found.internal_date.unwrap_or(0)).expect("memory");
    }
    writer.finish().expect("memory");
}
