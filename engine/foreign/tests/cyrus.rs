//! Cyrus's files as Cyrus 3.6 wrote them: everything in them is read, and what we write of it is
//! the same byte for byte. Whatever is done to their bytes is an error or a value, never a panic.

mod archive;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use foreign::cyrus::annotations::Annotation;
use foreign::cyrus::db::{self, Form};
use foreign::cyrus::header::Header;
use foreign::cyrus::imapd_conf::ImapdConf;
use foreign::cyrus::index::Index;
use foreign::cyrus::name::{Name, Owner};
use foreign::cyrus::paths::{self, Spread};
use foreign::cyrus::quota::Quota;
use foreign::cyrus::seen::Seen;
use foreign::cyrus::{cache, dlist, mboxlist, subscriptions};
use proptest::prelude::*;
use sha1::{Digest, Sha1};

const STORES: [&str; 2] = ["cyrus-3.6-legacydirs", "cyrus-3.6-uuid"];

fn each(wanted: impl Fn(&str) -> bool, mut with: impl FnMut(&str, &[u8])) {
    let mut met = 0;
    for store in STORES {
        for (path, bytes) in archive::files(store) {
            if wanted(&path) {
                with(&path, &bytes);
                met += 1;
            }
        }
    }
    assert!(met > 0);
}

#[test]
fn indexes_of_all_versions_and_what_they_point_at() {
    let mut minors = BTreeMap::new();
    for store in STORES {
        let files = archive::files(store);
        for (path, bytes) in files.iter().filter(|(path, _)| path.ends_with("/cyrus.index")) {
            let index = Index::read(bytes).unwrap_or_else(|damage| panic!("{path}: {damage}"));
            *minors.entry(index.header.minor).or_insert(0) += 1;
            let dir = path.strip_suffix("cyrus.index").unwrap();
            let header = &files[&format!("{dir}cyrus.header")];
            if index.header.minor >= 12 {
                assert_eq!(index.header.header_file_crc, crc32fast::hash(header), "{path}");
            }
            let live: u64 = index.live().map(|record| record.size).sum();
            assert_eq!(live, index.header.bytes, "{path}");
            for record in &index.records {
                let message = &files[&format!("{dir}{}.", record.uid)];
                assert_eq!(record.size, message.len() as u64);
                if index.header.minor >= 12 {
                    assert_eq!(record.guid, <[u8; 20]>::from(Sha1::digest(message)), "{path}");
                    let cached = &files[&format!("{dir}cyrus.cache")];
                    let whole = cache::record(cached, record.cache_offset).unwrap();
                    assert_eq!(crc32fast::hash(whole), record.cache_crc, "{path}");
                }
            }
            if index.header.minor == 17 {
                let keywords = Header::read(header).unwrap().keywords;
                assert!(index.write(&keywords) == *bytes, "{path} is written otherwise");
            }
        }
    }
    let minors: Vec<u32> = minors.into_keys().collect();
    assert_eq!(minors, [6, 7, 8, 9, 12, 13, 14, 15, 16, 17]);
}

#[test]
fn removed_files_are_marked_in_the_version_that_an_index_has() {
    let mut marked = 0;
    each(
        |path| path.ends_with("/cyrus.index"),
        |path, bytes| {
            let before = Index::read(bytes).unwrap();
            // Live messages are none of it.
            let all: BTreeSet<u32> = before.records.iter().map(|record| record.uid).collect();
            if before.header.minor < 12 {
                assert_eq!(Index::unlinked(bytes, &all).unwrap(), bytes, "{path} has no mark");
                return;
            }
            assert_eq!(before.first_expunged(), before.header.first_expunged, "{path}");
            let after = Index::unlinked(bytes, &all).unwrap();
            let read = Index::read(&after).unwrap();
            assert_eq!((read.kept().count(), read.header.first_expunged), (0, 0), "{path}");
            assert!(read.live().eq(before.live()), "{path}");
            assert_eq!(read.header.minor, before.header.minor);
            assert_eq!(Index::unlinked(&after, &all).unwrap(), after);
            assert_eq!(Index::unlinked(bytes, &BTreeSet::new()).unwrap(), bytes, "{path}");
            for one in before.kept() {
                let one = BTreeSet::from([one.uid]);
                let read = Index::read(&Index::unlinked(bytes, &one).unwrap()).unwrap();
                assert_eq!(read.kept().count() + 1, before.kept().count());
                assert_eq!(read.header.first_expunged, read.first_expunged());
                marked += 1;
            }
        },
    );
    assert!(marked > 2, "{marked}");
}

/// The ten items of a cache record.
fn items(record: &[u8]) -> Vec<&[u8]> {
    let mut items = Vec::new();
    let mut rest = record;
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let len = u32::from_be_bytes(*len) as usize;
        items.push(&after[..len]);
        rest = &after[len.next_multiple_of(4)..];
    }
    items
}

#[test]
fn cache_records_are_made_as_cyrus_makes_them() {
    let (mut met, mut bad) = (0, 0);
    for store in STORES {
        let files = archive::files(store);
        for (path, bytes) in files.iter().filter(|(path, _)| path.ends_with("/cyrus.index")) {
            let index = Index::read(bytes).unwrap();
            let dir = path.strip_suffix("cyrus.index").unwrap();
            for record in index.records.iter().filter(|r| r.cache_version == 11) {
                let message = &files[&format!("{dir}{}.", record.uid)];
                let cached = &files[&format!("{dir}cyrus.cache")];
                let theirs = items(cache::record(cached, record.cache_offset).unwrap());
                let made = cache::make(message);
                let ours = items(&made.record);
                let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
                for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                    let (ours, theirs) = (show(ours), show(theirs));
                    let same = match number {
                        // That text without a charset is US-ASCII we say, too.
                        1 | 2 => {
                            let said = "(\\\"CHARSET\\\" \\\"us-ascii\\\")";
                            ours.replace(said, "NIL") == theirs.replace(said, "NIL")
                        }
                        // Of the header we cache all.
                        4 => true,
                        _ => ours == theirs,
                    };
                    if !same {
                        println!("{dir}{} item {number}\n {ours}\n {theirs}", record.uid);
                        bad += 1;
                    }
                }
                met += 1;
                assert_eq!(made.header_size, record.header_size);
                if made.date_utc == 0 {
                    continue;
                }
                if index.header.minor >= 12 {
                    assert_eq!((made.guid, made.date_utc), (record.guid, record.date_utc));
                }
                assert_eq!(made.sent_date, record.sent_date, "{dir}{}", record.uid);
            }
        }
    }
    assert!(met > 100 && bad == 0, "{met} {bad}");
}

#[test]
fn headers_quotas_and_names() {
    each(
        |path| path.ends_with("/cyrus.header"),
        |path, bytes| {
            let header = Header::read(bytes).unwrap_or_else(|damage| panic!("{path}: {damage}"));
            assert!(header.write() == bytes, "{path}");
            let name = header.name.clone().unwrap();
            assert_eq!(Name::from_database(&name.to_database()).unwrap(), name);
            let spread = Spread { hashed: true, full_hash: false };
            let by_name = Path::new("spool").join(spread.by_name(&name));
            let by_id = Path::new("spool").join(paths::by_id(&header.unique_id).unwrap());
            let dir = Path::new(path).parent().unwrap();
            assert_eq!(dir, if header.kind.contains('l') { by_name } else { by_id });
        },
    );
    each(
        |path| path.contains("/quota/"),
        |path, bytes| {
            let root = Path::new(path).file_name().unwrap().to_str().unwrap();
            assert_eq!(Quota::read(bytes).unwrap().write(), bytes, "{path}");
            let domain = path.contains("domain/").then(|| "example.com".to_owned());
            let name = Name { domain, ..Name::from_internal(root).unwrap() };
            assert_eq!(Path::new("lib").join(Spread::default().quota_file(&name)), Path::new(path));
        },
    );
}

#[test]
fn databases_in_all_forms() {
    let wanted = |path: &str| {
        path.ends_with(".db") && !path.contains("dav.db")
            || path.ends_with(".seen")
            || path.ends_with(".sub")
            || path.ends_with("cyrus.annotations")
    };
    each(wanted, |path, bytes| {
        let pairs = db::read(bytes).unwrap_or_else(|damage| panic!("{path}: {damage}"));
        let theirs = Form::of(bytes).unwrap();
        assert!(bytes.is_empty() || db::is_in_order(theirs, &pairs), "{path}: {theirs:?}");
        for form in [Form::Flat, Form::Skiplist, Form::Twoskip, Form::Twom] {
            let mut sorted = pairs.clone();
            sorted.sort();
            let written = db::write(form, &sorted, b"", 1);
            assert_eq!(Form::of(&written).or(Some(form)), Some(form));
            let read = db::read(&written).unwrap();
            assert!(db::is_in_order(form, &read), "{path} as {form:?}");
            assert!(db::sorted(read) == sorted, "{path} as {form:?}");
        }
        for (key, value) in &pairs {
            if path.ends_with("annotations.db") || path.ends_with("cyrus.annotations") {
                let pair = (key.clone(), value.clone());
                let read = Annotation::read(&pair).unwrap_or_else(|e| panic!("{path}: {e}"));
                assert!(read.write() == pair, "{path}: {read:?}");
            }
            if path.contains("seen") {
                assert_eq!(Seen::read(value).unwrap().write(), *value, "{path}");
            }
        }
        if path.ends_with("sub.db") || path.ends_with(".sub") {
            let users = [("bob.sub", "bob"), ("yltr8mm9", "bob"), ("63cwqw7s", "dave@example.com")];
            let user = users.iter().find(|(part, _)| path.contains(part)).map_or("alice", |u| u.1);
            let names = subscriptions::read(&pairs, user).unwrap();
            assert!(subscriptions::write(&names, user) == pairs, "{path}");
        }
    });
}

#[test]
fn lists_of_mailboxes_are_what_cyrus_dumps() {
    for store in STORES {
        let files = archive::files(store);
        let pairs = db::read(&files["lib/mailboxes.db"]).unwrap();
        let entries = mboxlist::read(&pairs).unwrap();
        let dump: serde_json::Value = serde_json::from_slice(&files["ctl_mboxlist-d.txt"]).unwrap();
        let dump = dump.as_object().unwrap();
        assert_eq!(dump.len(), entries.len());
        for entry in &entries {
            let wanted = &dump[&entry.name.to_internal()];
            let text = |key: &str| wanted[key].as_str().map(str::to_owned);
            assert_eq!(entry.unique_id, text("uniqueid"));
            assert_eq!(Some(entry.kind.clone()), text("mbtype"));
            assert_eq!(entry.partition, text("partition"));
            assert_eq!(entry.uid_validity.map(|v| v.to_string()), text("uidvalidity"));
            for (identifier, rights) in &entry.acl {
                assert_eq!(wanted["acl"][identifier], rights.as_str());
            }
            let Some(both) = mboxlist::write(entry, None) else { panic!("{entry:?} has no id") };
            if entry.is_served() && entry.name.owner("DELETED") != Owner::Deleted {
                for pair in both {
                    assert!(pairs.contains(&pair), "{:?}", String::from_utf8_lossy(&pair.1));
                }
            }
        }
    }
}

#[test]
fn lists_of_mailboxes_of_older_releases() {
    let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let old = [
        pair("example.com!user.dave", "0 default dave@example.com\tlrswipcda\t"),
        pair("user.john^doe", "0 two john.doe\tlrs\tanyone\tl\t"),
        pair("user.old", "16 default old\tlrs\t"),
        pair("user.far", "1 host!default far\tlrs\t"),
        pair("user.a.Sent", "(uniqueid 0123456789abcdef specialuse \\Sent) 0 default a\tlrs\t"),
        pair("older", "default anyone\tlrs\t"),
    ];
    let entries = mboxlist::read(&old).unwrap();
    assert_eq!(entries[0].name.domain.as_deref(), Some("example.com"));
    assert_eq!(entries[0].acl, [("dave@example.com".to_owned(), "lrswipcda".to_owned())]);
    assert_eq!(entries[1].name.levels, ["user", "john.doe"]);
    assert_eq!(entries[1].acl.len(), 2);
    assert!(entries[1].is_served() && !entries[2].is_served() && !entries[3].is_served());
    assert_eq!(entries[4].unique_id.as_deref(), Some("0123456789abcdef"));
    assert_eq!(entries[4].special_use.as_deref(), Some("\\Sent"));
    assert_eq!(entries[5].partition.as_deref(), Some("default"));
    let middle = [
        pair("$RACL$U$bob$user.alice", ""),
        pair("user.alice", "%(A %(alice lrs) I abc P default V 12 F 3 M 4)"),
    ];
    let entries = mboxlist::read(&middle).unwrap();
    assert_eq!((entries.len(), entries[0].uid_validity), (1, Some(12)));
}

#[test]
fn quotas_of_older_releases() {
    let quota = Quota::read(b"51251\n10240\n").unwrap();
    assert_eq!((quota.storage.used, quota.storage.limit), (51251, Some(10240 << 10)));
    assert_eq!(Quota::read(b"5\n-1\n").unwrap().storage.limit, None);
    let quota = Quota::read(b"51251 10240 M 55 100 AS 57 -1 NF 9 20\n").unwrap();
    assert_eq!((quota.messages.used, quota.messages.limit), (55, Some(100)));
    assert_eq!((quota.annotations.limit, quota.mailboxes.limit), (None, Some(20)));
}

#[test]
fn options_of_imapd_conf() {
    let text = "# comment\nconfigdirectory: /var/lib/imap\npartition-a: /a\npartition-b: \\\n /b\n\
        @include: more\nhashimapspool: t\n";
    let mut load = |name: &str| match name {
        "more" => Ok("admins: cyrus root\nimaps_timeout: 3\ntimeout: 32m\n".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let conf = ImapdConf::read(text, &mut load).unwrap();
    let places: Vec<_> =
        conf.written().iter().map(|w| (&*w.name, w.file.as_deref(), w.line)).collect();
    assert_eq!(places[2..4], [("partition-b", None, 4), ("admins", Some("more"), 1)]);
    assert_eq!(places[6], ("hashimapspool", None, 7));
    assert_eq!(conf.get("admins"), Some("cyrus root"));
    assert_eq!(
        (conf.get_for("imaps", "timeout"), conf.get_for("pop3", "timeout")),
        (Some("3"), Some("32m"))
    );
    assert_eq!(conf.spread().unwrap(), Spread { hashed: true, full_hash: false });
    assert_eq!(conf.partitions()["b"], Path::new("/b"));
    assert!(ImapdConf::read("@include: other\n", &mut load).is_err());
    assert!(ImapdConf::read("what is this\n", &mut load).is_err());
}

#[test]
fn what_an_unfinished_transaction_left_is_not_read() {
    let pairs: Vec<db::Pair> =
        (0..40).map(|i| (format!("key{i:02}").into_bytes(), vec![i; usize::from(i)])).collect();
    for form in [Form::Skiplist, Form::Twoskip, Form::Twom] {
        let whole = db::write(form, &pairs, b"", 1);
        let mut torn = whole.clone();
        // An addition without its commit.
        torn.extend([0, 0, 0, 2, 0, 0, 0, 4, b'k', b'e', b'y', b'x', 0, 0, 0, 0]);
        torn.extend([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert!(db::read(&torn).unwrap() == pairs, "{form:?}");
    }
    // Committed changes in a skiplist's log count: an addition, and a delete.
    let mut log = db::write(Form::Skiplist, &pairs, b"", 1);
    let added = [0, 0, 0, 2, 0, 0, 0, 4, b'k', b'e', b'y', b'x', 0, 0, 0, 0];
    log.extend(added);
    log.extend([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 4, 0, 0, 0, 144, 0, 0, 0, 255]);
    let read = db::read(&log).unwrap();
    assert_eq!(read.len(), 40);
    assert_eq!(read[0].0, b"key01");
    assert_eq!(read[39].0, b"keyx");
}

/// As the library that Cyrus has them from made and read them.
#[test]
fn twom_databases() {
    let files = archive::files("twom");
    let listed = |name: &str| -> Vec<db::Pair> {
        let hex = |text: &str| {
            let digits = text.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap());
            digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect()
        };
        let text = std::str::from_utf8(&files[&format!("{name}.txt")]).unwrap();
        text.lines().filter_map(|l| l.split_once(' ')).map(|(k, v)| (hex(k), hex(v))).collect()
    };
    let mut met = 0;
    for (path, bytes) in &files {
        let Some(name) = path.strip_suffix(".db") else { continue };
        met += 1;
        assert_eq!(Form::of(bytes), Some(Form::Twom), "{name}");
        let read = db::read(bytes);
        if name == "other-checksums" {
            assert!(read.unwrap_err().to_string().contains("byte 36: expected checksums by XXH3"));
            continue;
        }
        let pairs = read.unwrap_or_else(|damage| panic!("{name}: {damage}"));
        assert!(pairs == listed(name) && !pairs.is_empty(), "{name}");
        let sorted = db::sorted(pairs);
        let written = db::write(Form::Twom, &sorted, bytes, 0);
        assert!(db::read(&written).unwrap() == sorted, "{name}");
        assert!(written.len() <= bytes.len() && written[16..32] == bytes[16..32], "{name}");
    }
    assert_eq!(met, 6);
}

/// Pointers that a killed transaction changed may be without their checksum; nothing else may.
#[test]
fn checksums_of_heads_in_a_twom_file_count_unless_a_transaction_was_begun() {
    let files = archive::files("twom");
    for (name, begun) in [("unfinished", true), ("repacked", false)] {
        let mut bytes = files[&format!("{name}.db")].clone();
        bytes[96 + 8 + 8 * 32] ^= 1;
        assert_eq!(db::read(&bytes).is_ok(), begun, "{name}");
        let mut bytes = files[&format!("{name}.db")].clone();
        let value = bytes.windows(12).position(|w| w == b"of the first").unwrap();
        bytes[value] ^= 1;
        let damage = db::read(&bytes).unwrap_err().to_string();
        assert!(damage.contains("key and value with the record's checksum"), "{damage}");
    }
}

/// A file of each binary kind.
fn samples() -> Vec<Vec<u8>> {
    let files = archive::files(STORES[0]);
    let other = archive::files(STORES[1]);
    let twom = archive::files("twom");
    ["lib/mailboxes.db", "lib/annotations.db", "spool/a/user/alice/cyrus.index"]
        .iter()
        .map(|path| files[*path].clone())
        .chain([
            other["lib/mailboxes.db"].clone(),
            files["spool/a/user/alice/V09/cyrus.index"].clone(),
        ])
        .chain([
            files["spool/a/user/alice/cyrus.header"].clone(),
            files["lib/user/a/alice.sub"].clone(),
            twom["repacked.db"].clone(),
            twom["unfinished.db"].clone(),
        ])
        .collect()
}

fn read_all(bytes: &[u8]) -> bool {
    let mut whole = false;
    whole |= db::read(bytes).is_ok_and(|pairs| {
        let _ = mboxlist::read(&pairs);
        let _ = subscriptions::read(&pairs, "alice");
        pairs.iter().for_each(|pair| drop(Annotation::read(pair)));
        true
    });
    whole |= Index::read(bytes).is_ok() | Header::read(bytes).is_ok();
    let _ = (Seen::read(bytes), Quota::read(bytes), dlist::read(bytes), cache::record(bytes, 4));
    whole
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
    }

    #[test]
    fn damaged_files_are_no_panic(
        which in 0..9_usize, at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = samples()[which].clone();
        let at = at.index(bytes.len());
        bytes[at] ^= byte;
        if cut {
            bytes.truncate(at);
        }
        read_all(&bytes);
    }

    /// Since version 12 the checksums find every changed byte that is read.
    #[test]
    fn changed_bytes_in_an_index_are_found(at in any::<proptest::sample::Index>(), bit in 0..8_u8) {
        let whole = samples()[2].clone();
        let before = Index::read(&whole).unwrap();
        let mut bytes = whole;
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Index::read(&bytes).is_err() || Index::read(&bytes).unwrap() == before);
    }

    #[test]
    fn dlists_come_back(text in proptest::collection::vec(any::<u8>(), 0..40), n in any::<u64>()) {
        let value = dlist::Value::Map(vec![
            (b"K".to_vec(), dlist::Value::List(vec![dlist::Value::Text(text), dlist::Value::Nil])),
            (b"n".to_vec(), dlist::Value::from_number(n)),
        ]);
        prop_assert_eq!(dlist::read(&dlist::write(&value)).unwrap(), value);
    }

    #[test]
    fn databases_come_back(
        pairs in proptest::collection::btree_map(
            proptest::collection::vec(any::<u8>(), 1..20), proptest::collection::vec(any::<u8>(), 0..70), 0..60,
        ),
    ) {
        let pairs: Vec<db::Pair> = pairs.into_iter().collect();
        for form in [Form::Skiplist, Form::Twoskip, Form::Twom] {
            prop_assert_eq!(&db::read(&db::write(form, &pairs, b"", 1)).unwrap(), &pairs);
        }
        // Its lines have an order of their own.
        prop_assert_eq!(&db::sorted(db::flat::read(&db::flat::write(&pairs)).unwrap()), &pairs);
    }
}
