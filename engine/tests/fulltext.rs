//! The full-text index answers as a search without it does, whatever became of its files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::search::SearchKey;
use engine::{
    Collation, Delivery, Drive, IndexMode, Mailbox, MountOptions, Partition, Store, StoreConfig,
    Target, User, UserOptions,
};
use protocol::types::SystemFlags;
use tokio::runtime::Runtime;

struct Site {
    runtime: Runtime,
    store: Store,
    user: User,
    mailbox: Mailbox,
    dir: PathBuf,
}

impl Site {
    fn open(dir: &Path, mode: IndexMode) -> Site {
        Site::with_keeper(dir, mode, 10)
    }

    /// `messages_min`: from so many messages without an index on the keeper makes one by itself.
    fn with_keeper(dir: &Path, mode: IndexMode, messages_min: usize) -> Site {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let partition = Partition {
            name: "default".into(),
            path: dir.join("mail"),
            layout: layout_for(LayoutKind::Maildir, &LayoutOptions::default()),
            mount: MountOptions::default(),
        };
        let mut config = StoreConfig::new(dir.join("state"), vec![partition]);
        config.index.mode = mode;
        config.index.messages_min = messages_min;
        let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
        let store = Store::open(config, storage, Drive::Threads).unwrap();
        let user = runtime.block_on(store.user("u", &UserOptions::default())).unwrap();
        let mailbox = runtime.block_on(user.mailbox("INBOX")).unwrap();
        Site { runtime, store, user, mailbox, dir: dir.to_owned() }
    }

    fn deliver(&self, messages: &[Vec<u8>]) {
        self.runtime.block_on(async {
            let lane = Lane::pool(self.store.helpers().clone());
            let mut deliveries = Vec::new();
            for message in messages {
                let target = Target {
                    user: self.user.clone(),
                    mailbox: self.mailbox.clone(),
                    flags: SystemFlags::empty(),
                    keywords: vec![],
                    internal_date: None,
                    annotations: vec![],
                };
                let mut delivery = Delivery::new(&self.store, &lane, vec![target]).unwrap();
                delivery.write(message).await.unwrap();
                deliveries.push(delivery);
            }
            Delivery::commit_all(deliveries).await.unwrap();
        });
    }

    fn search(&self, key: &SearchKey) -> Vec<u32> {
        let found = self
            .runtime
            .block_on(self.mailbox.search(&self.mailbox.view(), key, Collation::default()))
            .unwrap();
        found.into_iter().map(|(_, record)| record.uid.0).collect()
    }

    fn answers(&self, keys: &[SearchKey]) -> Vec<Vec<u32>> {
        keys.iter().map(|key| self.search(key)).collect()
    }

    fn index(&self) {
        let status = self.runtime.block_on(self.mailbox.index_now(false)).unwrap();
        assert_eq!(status.uncovered, 0, "{status:?}");
        assert!(status.segments > 0 && status.terms > 0, "{status:?}");
    }

    fn segments(&self) -> Vec<PathBuf> {
        segments(&self.dir.join("state/search"))
    }

    fn close(&self) {
        self.store.close().unwrap();
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut out = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(segments(&path));
        } else if path.extension().is_some_and(|e| e == "fts") {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

const PIECES: [&str; 34] = [
    "invoice",
    "Invoice",
    "meeting",
    "re",
    "the",
    "a",
    " ",
    " ",
    " ",
    " ",
    "-",
    ".",
    ", ",
    "\r\n",
    "\r\n ",
    "na\u{ef}ve",
    "\u{c9}T\u{c9}",
    "\u{e9}t\u{e9}",
    "\u{17d}lu\u{165}",
    "\u{42}\u{43a}",
    "\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}",
    "\u{43f}\u{420}\u{418}",
    "\u{65e5}\u{672c}",
    "\u{8a9e}",
    "\u{65e5}",
    "\u{3c2}\u{3a3}",
    "STRASSE stra\u{df}e",
    "x0123456789abcdefghijklmnopq",
    "=?utf-8?q?caf=C3=A9?=",
    "<b>",
    "</b>",
    "@example.org",
    "\u{2014}",
    "\u{212a}elvin",
];

fn text(random: &mut Random, pieces: usize) -> String {
    (0..pieces).map(|_| random.of(&PIECES)).collect()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for (i, group) in bytes.chunks(3).enumerate() {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for (n, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let letter = char::from(ALPHABET[(bits >> shift & 63) as usize]);
            out.push(if n <= group.len() { letter } else { '=' });
        }
        if i % 19 == 18 {
            out.push_str("\r\n");
        }
    }
    out
}

fn quoted(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|b| format!("={b:02X}"))
        .collect::<Vec<_>>()
        .chunks(20)
        .map(|l| l.concat())
        .collect::<Vec<_>>()
        .join("=\r\n")
}

/// A body in one of the ways that mail is encoded, with its fields.
fn part(random: &mut Random) -> String {
    let pieces = 1 + random.below(40);
    let text = text(random, pieces).replace("=?", "");
    let kind = random.of(&["plain", "html"]);
    let (charset, encoding, body) = match random.below(6) {
        0 => ("utf-8", "base64", base64(text.as_bytes()).into_bytes()),
        1 => ("utf-8", "quoted-printable", quoted(text.as_bytes()).into_bytes()),
        2 => {
            ("koi8-r", "8bit", "\u{43f}\u{440}".chars().map(|_| 0xd0).chain(*b" caf Pri").collect())
        }
        3 => ("iso-2022-jp", "7bit", b"a \x1b$BF|K\\\x1b(B z invoice".to_vec()),
        4 => (
            "us-ascii",
            "7bit",
            text.chars().filter(char::is_ascii).collect::<String>().into_bytes(),
        ),
        _ => ("utf-8", "8bit", text.into_bytes()),
    };
    let body: String = body.iter().map(|b| char::from(*b)).collect();
    // Bytes as characters up to U+00FF, to be narrowed by the caller.
    format!(
        "Content-Type: text/{kind}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}\r\n"
    )
}

fn narrow(text: &str) -> Vec<u8> {
    text.chars().map(|c| c as u8).collect()
}

fn wide(text: &str) -> String {
    text.bytes().map(char::from).collect()
}

fn message(random: &mut Random) -> Vec<u8> {
    let subject = text(random, 4).replace("\r\n", " ");
    let head = format!(
        "From: {} <{}@example.org>\r\nTo: someone\r\nSubject: {subject}\r\nX-Odd: {}\r\n",
        random.of(&["Al", "=?utf-8?q?=C3=89mile?=", "Zo\u{eb}"]),
        random.of(&["al", "emile", "zoe"]),
        random.of(&["one", "two"]),
    );
    let head = wide(&head);
    narrow(&match random.below(3) {
        0 => head + &part(random),
        _ => {
            let parts: Vec<String> = (0..1 + random.below(3)).map(|_| part(random)).collect();
            format!(
                "{head}Content-Type: multipart/mixed; boundary=qq\r\n\r\n--qq\r\n{}--qq--\r\n",
                parts.join("--qq\r\n")
            )
        }
    })
}

fn corpus(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut random = Random(seed);
    (0..count).map(|_| message(&mut random)).collect()
}

fn keys(seed: u64, count: usize) -> Vec<SearchKey> {
    let mut random = Random(seed);
    let mut keys = Vec::new();
    for _ in 0..count {
        let pieces = 1 + random.below(3);
        let whole = text(&mut random, pieces);
        let skip = random.below(4).min(whole.chars().count() - 1);
        let take = 1 + random.below(40);
        let needle: String = whole.chars().skip(skip).take(take).collect();
        let key = |random: &mut Random, needle: &str| match random.below(6) {
            0 => SearchKey::Text(needle.to_owned()),
            1 => SearchKey::Subject(needle.to_owned()),
            2 => SearchKey::From(needle.to_owned()),
            3 => SearchKey::Header("x-odd".to_owned(), needle.to_owned()),
            _ => SearchKey::Body(needle.to_owned()),
        };
        let one = key(&mut random, &needle);
        keys.push(match random.below(5) {
            0 => one.negated(),
            1 => SearchKey::Or(Box::new(one), Box::new(key(&mut random, "invoice"))),
            2 => SearchKey::And(vec![one, key(&mut random, "e").negated()]),
            _ => one,
        });
    }
    keys
}

fn assert_same(keys: &[SearchKey], expected: &[Vec<u32>], found: &[Vec<u32>], when: &str) {
    for ((key, expected), found) in keys.iter().zip(expected).zip(found) {
        assert_eq!(expected, found, "{key:?} {when}");
    }
}

#[test]
fn answers_are_the_same_with_and_without_an_index() {
    for seed in 1..=3 {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(seed * 77, 250);
        let site = Site::open(dir.path(), IndexMode::Off);
        site.deliver(&corpus(seed, 90));
        let expected = site.answers(&keys);
        let hits = expected.iter().filter(|uids| !uids.is_empty()).count();
        assert!(hits > keys.len() / 3, "only {hits} searches find anything");
        site.close();

        let site = Site::open(dir.path(), IndexMode::Searched);
        site.index();
        assert_same(&keys, &expected, &site.answers(&keys), "with an index");
        // More messages than the index covers, some of which it has are gone.
        site.deliver(&corpus(seed + 100, 9));
        let gone = expected.iter().find(|uids| uids.len() > 3).unwrap();
        let gone: Vec<_> = gone.iter().take(3).map(|uid| protocol::types::Uid(*uid)).collect();
        site.runtime.block_on(site.mailbox.expunge(&site.mailbox.view(), gone)).unwrap();
        let partly = site.answers(&keys);
        site.close();
        let site = Site::open(dir.path(), IndexMode::Off);
        assert_same(&keys, &site.answers(&keys), &partly, "with an index of a part");
        site.close();
    }
}

#[test]
fn segments_are_merged_and_answer_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::open(dir.path(), IndexMode::Searched);
    let keys = keys(5, 80);
    for round in 0..9 {
        site.deliver(&corpus(round + 1, 12));
        site.index();
    }
    assert!(site.segments().len() < 9, "{:?}", site.segments());
    let found = site.answers(&keys);
    site.runtime.block_on(site.mailbox.index_drop()).unwrap();
    assert!(site.segments().is_empty());
    site.close();
    let site = Site::open(dir.path(), IndexMode::Off);
    assert_same(&keys, &site.answers(&keys), &found, "after merges");
    site.close();
}

#[test]
fn a_flipped_bit_costs_the_index_and_never_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    // What was dropped must not be made again before it is counted.
    let open = || Site::with_keeper(dir.path(), IndexMode::Searched, usize::MAX);
    let site = open();
    site.deliver(&corpus(3, 40));
    let keys = keys(9, 12);
    let expected = site.answers(&keys);
    site.index();
    let whole = std::fs::read(&site.segments()[0]).unwrap();
    site.close();
    let mut random = Random(11);
    let (mut dropped, mut site) = (0, open());
    for round in 0..40 {
        // Every other time the file is open and its tables are in memory.
        let is_open = round % 2 == 0;
        site.index();
        if is_open {
            site.search(&keys[0]);
        } else {
            site.close();
        }
        let path = segments(&dir.path().join("state/search")).remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), whole.len());
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        // In place: an open descriptor sees it.
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        if !is_open {
            site = open();
        }
        assert_same(&keys, &expected, &site.answers(&keys), &format!("with a bit flipped at {at}"));
        let status = site.runtime.block_on(site.mailbox.index_status()).unwrap();
        dropped += usize::from(status.uncovered > 0 || !path.exists());
        site.runtime.block_on(site.mailbox.index_now(true)).unwrap();
    }
    assert!(dropped >= 20, "only {dropped} of 40 flips were noticed");
    site.close();
}

#[test]
fn whatever_a_crash_leaves_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::open(dir.path(), IndexMode::Searched);
    site.deliver(&corpus(21, 30));
    let keys = keys(13, 40);
    let expected = site.answers(&keys);
    site.index();
    let path = site.segments().remove(0);
    let whole = std::fs::read(&path).unwrap();
    site.close();
    let cut = whole.len() / 2;
    let mut zeroed = whole.clone();
    zeroed[cut..].fill(0);
    let cases: [(&str, Vec<u8>); 5] = [
        ("cut", whole[..cut].to_vec()),
        ("empty", Vec::new()),
        ("with its end not written", zeroed),
        ("with bytes behind its end", [&whole[..], b"x"].concat()),
        ("of another version", [&whole[..8], &[9], &whole[9..]].concat()),
    ];
    for (what, bytes) in cases {
        std::fs::write(&path, bytes).unwrap();
        std::fs::write(path.with_file_name("left.tmp"), &whole[..cut]).unwrap();
        let site = Site::open(dir.path(), IndexMode::Searched);
        assert_same(&keys, &expected, &site.answers(&keys), what);
        assert!(!path.with_file_name("left.tmp").exists());
        site.close();
    }
    // A merge that was cut off before its sources were removed.
    std::fs::write(&path, &whole).unwrap();
    let site = Site::open(dir.path(), IndexMode::Searched);
    site.deliver(&corpus(22, 30));
    site.index();
    let both = site.segments();
    assert_eq!(both.len(), 2);
    let (one, two) = (std::fs::read(&both[0]).unwrap(), std::fs::read(&both[1]).unwrap());
    let expected = site.answers(&keys);
    site.runtime.block_on(site.mailbox.index_now(true)).unwrap();
    let merged = site.segments();
    assert_eq!(merged.len(), 1);
    site.close();
    std::fs::write(&both[0], one).unwrap();
    std::fs::write(&both[1], two).unwrap();
    let site = Site::open(dir.path(), IndexMode::Searched);
    assert_same(&keys, &expected, &site.answers(&keys), "with a merge's sources");
    assert_eq!(site.segments(), merged);
    // Deleted under a running server.
    std::fs::remove_dir_all(dir.path().join("state/search")).unwrap();
    assert_same(&keys, &expected, &site.answers(&keys), "with its files deleted");
    site.runtime.block_on(site.mailbox.index_now(true)).unwrap();
    assert_eq!(site.segments().len(), 1);
    assert_same(&keys, &expected, &site.answers(&keys), "made anew");
    site.close();
}

#[test]
fn an_index_of_messages_that_the_store_no_longer_has_is_dropped() {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (live, saved) = (dir.path().join("live"), dir.path().join("saved"));
    let site = Site::open(&live, IndexMode::Searched);
    site.deliver(&corpus(1, 10));
    site.close();
    drop(site);
    copy(&live, &saved);
    let site = Site::open(&live, IndexMode::Searched);
    site.deliver(&corpus(2, 10));
    site.index();
    site.close();
    drop(site);
    // The store as saved, with the newer index; the same UIDs for other messages.
    copy(&live.join("state/search"), &saved.join("state/search"));
    for others in [0, 10] {
        let site = Site::open(&saved, IndexMode::Searched);
        let keys = keys(17, 60);
        let found = site.answers(&keys);
        site.close();
        drop(site);
        let site = Site::open(&saved, IndexMode::Off);
        assert_same(&keys, &site.answers(&keys), &found, "after a restore");
        if others == 0 {
            site.deliver(&corpus(3, 10));
        }
        site.close();
        drop(site);
        copy(&live.join("state/search"), &saved.join("state/search"));
    }
}

#[test]
fn the_keeper_indexes_what_is_searched_and_forgets_what_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::open(dir.path(), IndexMode::Searched);
    site.deliver(&corpus(1, 15));
    assert!(site.segments().is_empty());
    site.search(&SearchKey::Body("invoice".to_owned()));
    let wait = |what: &dyn Fn() -> bool| {
        for _ in 0..500 {
            if what() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("nothing came of it in ten seconds");
    };
    wait(&|| site.segments().len() == 1);
    site.runtime.block_on(site.user.create("Box", &[])).unwrap();
    let other = site.runtime.block_on(site.user.mailbox("Box")).unwrap();
    let site = Site { mailbox: other, ..site };
    site.deliver(&corpus(2, 15));
    site.index();
    assert_eq!(site.segments().len(), 2);
    site.runtime.block_on(site.user.delete("Box")).unwrap();
    wait(&|| site.segments().len() == 1);
    site.close();
}

#[test]
fn fuzzy_searches_find_and_rank_the_same_with_and_without_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let plain = |subject: &str, body: &str| {
        format!("Subject: {subject}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n")
            .into_bytes()
    };
    let site = Site::open(dir.path(), IndexMode::Off);
    let mut messages = vec![
        plain("one", "The invoice of the meeting, an invoice indeed."),
        plain("two", "An invocie with a slip."),
        plain("three", "Many invoices"),
        plain("Invoice four", "Nothing of the sort."),
        plain("five", "Quite another matter."),
    ];
    messages.extend(
        corpus(4, 20).into_iter().filter(|m| !m.windows(3).any(|w| w.eq_ignore_ascii_case(b"inv"))),
    );
    site.deliver(&messages);
    let fuzzy = |key: SearchKey| SearchKey::Fuzzy(Box::new(key));
    let text = |text: &str| text.to_owned();
    let keys = [
        fuzzy(SearchKey::Body(text("invoice"))),
        fuzzy(SearchKey::Text(text("meating invioce"))),
        fuzzy(SearchKey::Subject(text("invoise"))),
        SearchKey::And(vec![
            fuzzy(SearchKey::Text(text("invoice"))),
            SearchKey::Body(text("slip")),
        ]),
    ];
    let ask = |site: &Site, key: &SearchKey| {
        let view = site.mailbox.view();
        let search = site.mailbox.search_by_relevancy(&view, key, Collation::default());
        let (found, scores) = site.runtime.block_on(search).unwrap();
        let uids: Vec<u32> = found.iter().map(|(_, record)| record.uid.0).collect();
        uids.into_iter().zip(scores).filter(|(uid, _)| *uid <= 5).collect::<Vec<_>>()
    };
    let expected: Vec<_> = keys.iter().map(|key| ask(&site, key)).collect();
    let uids = |i: usize| expected[i].iter().map(|(uid, _)| *uid).collect::<Vec<u32>>();
    assert_eq!(uids(0), [1, 2, 3]);
    assert!(
        expected[0][0].1 > expected[0][2].1 && expected[0][2].1 > expected[0][1].1,
        "{expected:?}"
    );
    assert_eq!(uids(1), [1]);
    assert_eq!(uids(2), [4]);
    assert_eq!(uids(3), [2]);
    site.close();
    drop(site);
    let site = Site::open(dir.path(), IndexMode::Searched);
    site.index();
    let indexed: Vec<_> = keys.iter().map(|key| ask(&site, key)).collect();
    assert_eq!(indexed, expected);
    site.close();
}
