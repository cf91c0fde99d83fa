//! Dovecot's sdbox and mdbox, read while Dovecot is stopped: messages from `u.N` or `m.N`, flags and
//! keywords from the index and its log. What is written is an sdbox, by [`Writer`].
//!
//! Of an sdbox the files say what is there; without an index they come without flags. Of an mdbox the
//! indexes say it; without them all that the files hold comes, into the mailboxes into which it was
//! stored first, also what was expunged and not yet purged; what could not be used is named.

mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use foreign::dovecot::dbox::{self, Head};
use foreign::dovecot::index::Index;
use protocol::imap::mutf7;

pub use self::writer::Writer;
use super::{Damage, Found, Messages, Tree, entries, file_name, line_ends};

/// Directory of a mailbox's messages.
const MAILS: &str = "dbox-Mails";
/// A message of an mdbox with what is around it is no longer than this.
const MESSAGE_BYTES_MAX: u64 = 4 << 30;

/// The messages below a directory: a user's, or one mailbox's.
pub fn read(path: &Path) -> Tree {
    let mut mailboxes = Vec::new();
    let mut damage = Vec::new();
    let storage = path.join("storage");
    let top = path.join("mailboxes");
    match top.is_dir() {
        true => collect(&top, None, &mut mailboxes, &mut damage),
        false => collect(path, None, &mut mailboxes, &mut damage),
    }
    if mailboxes.is_empty() && !storage.is_dir() && damage.is_empty() {
        let expected = "expected mailboxes or dbox-Mails below it";
        damage.push(Damage::of_file(path, expected));
    }
    let folders = mailboxes.iter().filter_map(|(_, mailbox)| mailbox.clone()).collect();
    let messages: Messages = match storage.is_dir() {
        true => mdbox(&storage, mailboxes, &mut damage),
        false => {
            let all = mailboxes.into_iter().flat_map(|(dir, mailbox)| sdbox(&dir, mailbox));
            Box::new(all)
        }
    };
    Tree { folders, messages: Box::new(damage.into_iter().map(Err).chain(messages)) }
}

type Mailboxes = Vec<(PathBuf, Option<String>)>;

/// Directories of messages, with names.
fn collect(dir: &Path, name: Option<String>, found: &mut Mailboxes, damage: &mut Vec<Damage>) {
    if file_name(dir) == MAILS {
        return found.push((dir.to_owned(), name));
    }
    let listed = match entries(dir) {
        Ok(listed) => listed,
        Err(bad) => return damage.push(bad),
    };
    for entry in listed.into_iter().filter(|entry| entry.is_dir()) {
        let level = file_name(&entry);
        if level == MAILS {
            found.push((entry, name.clone()));
            continue;
        }
        let level = mutf7::decode(level.as_bytes()).unwrap_or(level).replace('/', "_");
        let below = match &name {
            Some(above) => format!("{above}/{level}"),
            None => level,
        };
        collect(&entry, Some(below), found, damage);
    }
}

/// The index of a directory, brought up to date; `None`: there is none.
fn index(dir: &Path, name: &str) -> Result<Option<Index>, Damage> {
    let read = |file: String| match std::fs::read(dir.join(&file)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Damage::of_file(&dir.join(file), e)),
    };
    let base = read(name.to_owned())?;
    let logs = [read(format!("{name}.log.2"))?, read(format!("{name}.log"))?];
    let logs: Vec<Vec<u8>> = logs.into_iter().flatten().collect();
    if base.is_none() && logs.is_empty() {
        return Ok(None);
    }
    let bad = |e: foreign::dovecot::index::BadIndex| Damage {
        source: dir.join(e.file.replace("dovecot.index", name)).display().to_string(),
        offset: Some(e.at as u64),
        what: format!("expected {}", e.expected),
    };
    let mut index = match base {
        Some(bytes) => Index::read(&bytes).map_err(bad)?,
        None => Index::default(),
    };
    index.apply_logs(&logs).map_err(bad)?;
    Ok(Some(index))
}

fn without_flags(bad: Damage) -> Damage {
    Damage { what: format!("{}; messages come without flags", bad.what), ..bad }
}

fn sdbox(dir: &Path, mailbox: Option<String>) -> Messages {
    let listed = match entries(dir) {
        Ok(listed) => listed,
        Err(bad) => return Box::new(std::iter::once(Err(bad))),
    };
    let mut files = BTreeMap::new();
    for entry in listed {
        if let Some(uid) = file_name(&entry).strip_prefix("u.").and_then(|n| n.parse::<u32>().ok())
        {
            files.insert(uid, entry);
        }
    }
    let mut damage = Vec::new();
    let flags = match index(dir, "dovecot.index") {
        Ok(Some(index)) => index,
        Ok(None) if files.is_empty() => Index::default(),
        Ok(None) => {
            damage.push(Damage::of_file(dir, "no dovecot.index; messages come without flags"));
            Index::default()
        }
        Err(bad) => {
            damage.push(without_flags(bad));
            Index::default()
        }
    };
    let messages = files.into_iter().map(move |(uid, path)| {
        let bytes = std::fs::read(&path).map_err(|e| Damage::of_file(&path, e))?;
        let bad = |e: dbox::BadDbox| named(&path, e.at, e.expected);
        let head = dbox::head(&bytes).map_err(bad)?;
        let found = dbox::message(&bytes, head, head.end).map_err(bad)?;
        let found = found.ok_or_else(|| named(&path, head.end as u64, "a message"))?;
        let flags = flags.records.get(&uid).map(|record| record.names()).unwrap_or_default();
        taken(found, &path, head.end as u64, flags, mailbox.clone())
    });
    Box::new(damage.into_iter().map(Err).chain(messages))
}

fn named(path: &Path, at: u64, expected: &str) -> Damage {
    let source = path.display().to_string();
    Damage { source, offset: Some(at), what: format!("expected {expected}") }
}

fn taken(
    found: dbox::Message<'_>,
    path: &Path,
    at: u64,
    flags: Vec<String>,
    mailbox: Option<String>,
) -> Result<Found, Damage> {
    let source = path.display().to_string();
    let what = match (found.compressed, found.attachments) {
        (true, _) => "is compressed, which is not read here",
        (_, true) => "has attachments in other files, which are not read here",
        _ => {
            let octets = line_ends::to_wire(found.text.to_vec());
            let internal_date = found.internal_date;
            let source = format!("{source} at byte {at}");
            return Ok(Found { source, octets, flags, internal_date, mailbox });
        }
    };
    Err(Damage { source, offset: Some(at), what: what.to_owned() })
}

/// A place in the files of an mdbox.
#[derive(Clone, Copy)]
struct Place {
    file: u32,
    offset: u64,
    size: u64,
}

fn word(bytes: &[u8], n: usize) -> Option<u32> {
    let bytes = bytes.get(n * 4..n * 4 + 4)?;
    Some(bytes.iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte)))
}

fn mdbox(storage: &Path, mailboxes: Mailboxes, damage: &mut Vec<Damage>) -> Messages {
    let map = match index(storage, "dovecot.map.index") {
        Ok(Some(map)) => map,
        Ok(None) => {
            damage.push(Damage::of_file(storage, "no dovecot.map.index; all that is stored comes"));
            return all_of(storage);
        }
        Err(bad) => {
            let what = format!("{}; all that is stored comes, without flags", bad.what);
            damage.push(Damage { what, ..bad });
            return all_of(storage);
        }
    };
    let place = |record: &foreign::dovecot::index::Record| {
        let data = record.extensions.get("map")?;
        let (file, offset, size) = (word(data, 0)?, word(data, 1)?, word(data, 2)?);
        Some(Place { file, offset: offset.into(), size: size.into() })
    };
    let places: BTreeMap<u32, Place> =
        map.records.iter().filter_map(|(uid, record)| Some((*uid, place(record)?))).collect();
    let mut wanted = Vec::new();
    for (dir, mailbox) in mailboxes {
        match index(&dir, "dovecot.index") {
            Ok(found) => {
                for (uid, record) in found.unwrap_or_default().records {
                    let map_uid = record.extensions.get("mdbox").and_then(|data| word(data, 0));
                    let place = map_uid.and_then(|map_uid| places.get(&map_uid)).copied();
                    wanted.push((dir.clone(), uid, place, record.names(), mailbox.clone()));
                }
            }
            Err(bad) => damage.push(Damage { what: format!("{}; left out", bad.what), ..bad }),
        }
    }
    let storage = storage.to_owned();
    Box::new(wanted.into_iter().map(move |(dir, uid, place, flags, mailbox)| {
        let Some(place) = place else {
            return Err(Damage::of_file(
                &dir,
                format!("UID {uid}: the map does not know where it is"),
            ));
        };
        let path = storage.join(format!("m.{}", place.file));
        let (head, bytes) = piece(&path, place)?;
        let bad = |e: dbox::BadDbox| named(&path, place.offset + e.at, e.expected);
        let found = dbox::message(&bytes, head, 0).map_err(bad)?;
        let found = found.ok_or_else(|| named(&path, place.offset, "a message"))?;
        taken(found, &path, place.offset, flags, mailbox)
    }))
}

/// The bytes of one message with what is around it.
fn piece(path: &Path, place: Place) -> Result<(Head, Vec<u8>), Damage> {
    let bad = |e: std::io::Error| Damage::of_file(path, e);
    let mut file = File::open(path).map_err(bad)?;
    let mut first = Vec::new();
    (&mut file).take(256).read_to_end(&mut first).map_err(bad)?;
    let head = dbox::head(&first).map_err(|e| named(path, e.at, e.expected))?;
    file.seek(SeekFrom::Start(place.offset)).map_err(bad)?;
    let mut bytes = Vec::new();
    file.take(place.size.min(MESSAGE_BYTES_MAX)).read_to_end(&mut bytes).map_err(bad)?;
    Ok((Head { end: 0, ..head }, bytes))
}

/// All messages of the files.
fn all_of(storage: &Path) -> Messages {
    let listed = match entries(storage) {
        Ok(listed) => listed,
        Err(bad) => return Box::new(std::iter::once(Err(bad))),
    };
    let mut files = BTreeMap::new();
    for entry in listed {
        if let Some(number) =
            file_name(&entry).strip_prefix("m.").and_then(|n| n.parse::<u32>().ok())
        {
            files.insert(number, entry);
        }
    }
    Box::new(files.into_values().flat_map(|path| {
        let mut all = Vec::new();
        match std::fs::read(&path) {
            Ok(bytes) => match dbox::head(&bytes) {
                Ok(head) => file_messages(&path, &bytes, head, &mut all),
                Err(e) => all.push(Err(named(&path, e.at, e.expected))),
            },
            Err(e) => all.push(Err(Damage::of_file(&path, e))),
        }
        all
    }))
}

fn file_messages(path: &Path, bytes: &[u8], head: Head, all: &mut Vec<Result<Found, Damage>>) {
    let mut at = head.end;
    loop {
        match dbox::message(bytes, head, at) {
            Ok(None) => return,
            Ok(Some(found)) => {
                let (end, mailbox) = (found.end, found.mailbox.clone());
                all.push(taken(found, path, at as u64, Vec::new(), mailbox));
                at = end;
            }
            Err(e) => {
                all.push(Err(named(path, e.at, e.expected)));
                match dbox::next_message(bytes, at + 1) {
                    Some(next) => at = next,
                    None => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A store that Debian's Dovecot 2.3 wrote, unpacked.
    fn store(name: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let archive = archive.join(format!("dovecot-2.3-{name}.tar.gz"));
        let done = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()).status();
        assert!(done.unwrap().success());
        dir
    }

    fn all(path: &Path) -> (Vec<Found>, Vec<Damage>) {
        let (mut found, mut damage) = (Vec::new(), Vec::new());
        for one in read(path).messages {
            match one {
                Ok(message) => found.push(message),
                Err(bad) => damage.push(bad),
            }
        }
        (found, damage)
    }

    /// What Dovecot itself answered: bodies, dates and flags of each mailbox.
    fn compare(name: &str, found: &[Found]) {
        let table =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dovecot-2.3-dbox.json");
        let table: BTreeMap<String, Vec<(String, String)>> =
            serde_json::from_str(&std::fs::read_to_string(table).unwrap()).unwrap();
        let mut count = 0;
        for (wire, rows) in table {
            let mailbox = mutf7::decode(wire.as_bytes()).unwrap();
            let of: Vec<&Found> =
                found.iter().filter(|one| one.mailbox.as_deref() == Some(&mailbox)).collect();
            assert_eq!(of.len(), rows.len(), "{name} {mailbox}");
            for (one, (head, body)) in of.iter().zip(rows) {
                assert_eq!(one.octets, body.as_bytes());
                let between = |a: &str, b: char| {
                    let rest = head.split_once(a).unwrap().1;
                    rest.split(b).next().unwrap().to_owned()
                };
                let date = between("INTERNALDATE \"", '"');
                let date = protocol::imap::response::date_time(date.as_bytes());
                assert_eq!(one.internal_date, date, "{name} {mailbox} {head}");
                let mut flags: Vec<String> = between("FLAGS (", ')')
                    .split_ascii_whitespace()
                    .filter(|flag| *flag != "\\Recent")
                    .map(str::to_owned)
                    .collect();
                let mut have = one.flags.clone();
                flags.sort();
                have.sort();
                assert_eq!(have, flags, "{name} {mailbox} {head}");
                count += 1;
            }
        }
        assert_eq!((count, found.len()), (8, 8));
    }

    #[test]
    fn stores_of_dovecot_are_read_as_it_serves_them() {
        for name in ["sdbox", "mdbox"] {
            let dir = store(name);
            let (found, damage) = all(&dir.path().join(name));
            assert_eq!(damage, []);
            compare(name, &found);
        }
    }

    #[test]
    fn damage_is_named_and_the_rest_is_read() {
        let dir = store("sdbox");
        let inbox = dir.path().join("sdbox/mailboxes/INBOX/dbox-Mails");
        let whole = std::fs::read(inbox.join("u.3")).unwrap();
        std::fs::write(inbox.join("u.3"), &whole[..60]).unwrap();
        std::fs::remove_file(inbox.join("dovecot.index.log")).unwrap();
        let (found, damage) = all(&dir.path().join("sdbox"));
        assert_eq!(found.len(), 7);
        let places: Vec<Option<u64>> = damage.iter().map(|one| one.offset).collect();
        assert_eq!(places, [None, Some(46)], "{damage:?}");
        assert!(damage[0].what.contains("without flags"));
        let dir = store("mdbox");
        let storage = dir.path().join("mdbox/storage");
        std::fs::remove_file(storage.join("dovecot.map.index.log")).unwrap();
        let (found, damage) = all(&dir.path().join("mdbox"));
        // With the one that was expunged and without the copy.
        assert_eq!((found.len(), damage.len()), (8, 1), "{damage:?}");
    }
}
