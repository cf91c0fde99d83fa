//! What SEARCH, SORT and THREAD cost: matching messages in memory on one core, by how their text is encoded; and a
//! mailbox on disk (in the page cache) on all cores, without and with its full-text index.
//!
//! `CURSUS_BENCH_MESSAGES` sets the size of the mailbox, 2,000 unless said; `CURSUS_BENCH_CORPUS`
//! names a directory of message files to fill it with instead.

// criterion's macros make undocumented items.
#![allow(missing_docs)]

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use cursus_benches::messages;
use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::message::{Ingest, LineEnds};
use engine::search::{Context, Program, Record, Scratch, SearchKey, Source};
use engine::{
    Collation, Delivery, Drive, IndexMode, Mailbox, Partition, SortValues, Store, StoreConfig,
    Target, UserOptions,
};
use protocol::imap::sort::{SortCriterion, SortKey, ThreadAlgorithm};
use protocol::types::{ModSeq, SeqNum, SystemFlags, Uid};

const TEXT_BYTES: usize = 15_000;

struct InMemory {
    record: Record,
    stored: Vec<u8>,
    extras: Vec<u8>,
}

impl InMemory {
    fn new(message: &[u8]) -> InMemory {
        let mut ingest = Ingest::new(LineEnds::Lf);
        let mut stored = Vec::new();
        ingest.feed(message, &mut stored);
        let facts = ingest.finish(&mut stored);
        let record = Record {
            uid: Uid(1),
            seq: SeqNum(1),
            flags: SystemFlags::empty(),
            keywords: 0,
            recent: false,
            modseq: ModSeq(1),
            internal_date: 0,
            sent_date: 0,
            size: facts.size,
        };
        InMemory { record, stored, extras: facts.extras }
    }
}

impl Source for InMemory {
    type Error = Infallible;

    fn record(&self) -> Record {
        self.record
    }

    fn extras(&mut self) -> Result<Option<&[u8]>, Infallible> {
        Ok(Some(&self.extras))
    }

    fn save_date(&mut self) -> Result<Option<i64>, Self::Error> {
        Ok(None)
    }

    fn line_ends(&self) -> LineEnds {
        LineEnds::Lf
    }

    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let rest = self.stored.get(at as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

fn encoded(charset: &str, encoding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "From: a@example.org\r\nSubject: x\r\nContent-Type: text/plain; charset={charset}\r\n\
         Content-Transfer-Encoding: {encoding}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for line in bytes.chunks(57) {
        for group in line.chunks_exact(3) {
            let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
            out.extend([18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize]));
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn one_core(c: &mut Criterion) {
    let line = "Please answer the question about the invoice before the meeting on Monday.\r\n";
    let plain = line.repeat(TEXT_BYTES / line.len());
    let line = "Прошу ответить на вопрос о счёте до встречи в понедельник, спасибо.\r\n";
    let cyrillic = line.repeat(TEXT_BYTES / line.len());
    let quoted: String = line.chars().fold(String::new(), |mut out, c| {
        let mut bytes = [0; 4];
        match c {
            ' '..='~' | '\r' | '\n' => out.push(c),
            _ => c.encode_utf8(&mut bytes).bytes().for_each(|b| out += &format!("={b:02X}")),
        }
        out
    });
    let quoted = quoted.repeat(TEXT_BYTES / quoted.len());
    let cases = [
        ("7bit, ASCII needle", encoded("us-ascii", "7bit", plain.as_bytes()), "zanzibarine"),
        ("7bit, frequent letters", encoded("us-ascii", "7bit", plain.as_bytes()), "instead"),
        ("8bit utf-8, ASCII needle", encoded("utf-8", "8bit", cyrillic.as_bytes()), "zanzibar"),
        ("8bit utf-8, Cyrillic needle", encoded("utf-8", "8bit", cyrillic.as_bytes()), "Занзибар"),
        ("base64, ASCII needle", encoded("utf-8", "base64", &base64(plain.as_bytes())), "zanzibar"),
        (
            "quoted-printable, Cyrillic needle",
            encoded("utf-8", "quoted-printable", quoted.as_bytes()),
            "Занзибар",
        ),
    ];
    let mut group = c.benchmark_group("one core, in memory");
    for (name, message, needle) in cases {
        let context = Context {
            uid_largest: Uid(1),
            seq_largest: 1,
            saved: &[],
            collation: Default::default(),
            now: 0,
            keyword_bit: &|_| None,
        };
        let program = Program::new(&SearchKey::Body(needle.to_owned()), &context);
        let mut source = InMemory::new(&message);
        let mut scratch = Scratch::default();
        group.throughput(Throughput::Bytes(source.stored.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let Ok(found) = program.matches(black_box(&mut source), &mut scratch);
                assert!(!found);
            });
        });
    }
    group.finish();
}

fn mailbox(c: &mut Criterion) {
    let count = std::env::var("CURSUS_BENCH_MESSAGES").ok().and_then(|n| n.parse().ok());
    let corpus = match std::env::var_os("CURSUS_BENCH_CORPUS") {
        Some(directory) => std::fs::read_dir(directory)
            .expect("the corpus")
            .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a message"))
            .collect(),
        None => messages(count.unwrap_or(2000)),
    };
    let count = corpus.len() as u64;
    let directory = tempfile::tempdir().expect("a directory");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let partition = Partition {
        name: "default".into(),
        path: directory.path().join("mail"),
        layout: layout_for(LayoutKind::Maildir, &LayoutOptions::default()),
        mount: engine::MountOptions::default(),
    };
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    let mut config = StoreConfig::new(directory.path().join("state"), vec![partition]);
    // An index is used when there is one, and made when this bench says so.
    config.index.mode = IndexMode::Searched;
    config.index.messages_min = usize::MAX;
    // What is measured first is the sorting.
    let orders_bytes_max = std::mem::take(&mut config.orders_bytes_max);
    let store =
        Store::open(config.clone(), storage.clone(), Drive::Threads).expect("an empty store");
    let lane = Lane::pool(store.helpers().clone());
    let mailbox = runtime.block_on(async {
        let user = store.user("u", &UserOptions::default()).await.expect("a new user");
        let mailbox = user.mailbox("INBOX").await.expect("an INBOX");
        let flags = SystemFlags::empty();
        let target = Target {
            user,
            mailbox: mailbox.clone(),
            flags,
            keywords: vec![],
            internal_date: None,
            annotations: vec![],
        };
        for some in corpus.chunks(200) {
            let mut deliveries = Vec::new();
            for message in some {
                let mut delivery =
                    Delivery::new(&store, &lane, vec![target.clone()]).expect("an open mailbox");
                delivery.write(message).await.expect("room");
                deliveries.push(delivery);
            }
            Delivery::commit_all(deliveries).await.expect("durable messages");
        }
        mailbox
    });
    let view = mailbox.view();
    assert_eq!(u64::from(view.exists()), count);
    let mut group = c.benchmark_group(format!("mailbox of {count}"));
    group.sample_size(20);
    let keys = [
        ("BODY", SearchKey::Body("zanzibarine".to_owned())),
        ("TEXT", SearchKey::Text("zanzibarine".to_owned())),
        ("SUBJECT", SearchKey::Subject("quarterlies".to_owned())),
        ("FROM", SearchKey::From("person007@".to_owned())),
        ("HEADER Received", SearchKey::Header("received".to_owned(), "nowhere".to_owned())),
    ];
    for indexed in ["", ", index"] {
        if !indexed.is_empty() {
            let begun = std::time::Instant::now();
            let status = runtime.block_on(mailbox.index_now(false)).expect("an index");
            let share = status.bytes as f64 * 100.0 / view.bytes() as f64;
            eprintln!("indexed in {:?}: {share:.1} % of the mail; {status:?}", begun.elapsed());
        }
        for (name, key) in &keys {
            let bytes =
                matches!(key, SearchKey::Body(_) | SearchKey::Text(_)) && indexed.is_empty();
            let bytes = bytes.then(|| view.bytes());
            group.throughput(bytes.map_or(Throughput::Elements(count), Throughput::Bytes));
            group.bench_function(format!("{name}{indexed}"), |b| {
                b.iter(|| {
                    runtime
                        .block_on(mailbox.search(&view, key, Collation::default()))
                        .expect("an answer")
                        .len()
                });
            });
        }
    }
    orders(&mut group, &runtime, &mailbox, "");
    drop((mailbox, view));
    store.close().expect("a clean stop");
    config.orders_bytes_max = orders_bytes_max;
    let store = Store::open(config, storage, Drive::Threads).expect("the store from before");
    let mailbox = runtime.block_on(async {
        let user = store.user("u", &UserOptions::default()).await.expect("the user");
        user.mailbox("INBOX").await.expect("an INBOX")
    });
    orders(&mut group, &runtime, &mailbox, ", again");
    group.finish();
    drop(mailbox);
    store.close().expect("a clean stop");
}

/// SORT and THREAD of all messages.
fn orders(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &tokio::runtime::Runtime,
    mailbox: &Mailbox,
    how: &str,
) {
    let view = mailbox.view();
    let count = u64::from(view.exists());
    group.throughput(Throughput::Elements(count));
    let all = SearchKey::All;
    for (name, criteria) in [
        ("SORT (ARRIVAL)", vec![SortKey::Arrival]),
        ("SORT (DATE)", vec![SortKey::Date]),
        ("SORT (SUBJECT)", vec![SortKey::Subject]),
        ("SORT (FROM DATE)", vec![SortKey::From, SortKey::Date]),
        ("SORT (DISPLAYTO)", vec![SortKey::DisplayTo]),
    ] {
        let criterion = |key| SortCriterion { key, reverse: false };
        let criteria: Vec<_> = criteria.into_iter().map(criterion).collect();
        let collation = Collation::default();
        group.bench_function(format!("{name}{how}"), |b| {
            b.iter(|| {
                let sort =
                    mailbox.sort(&view, &all, (&criteria, SortValues::default()), collation, false);
                assert_eq!(runtime.block_on(sort).expect("an answer").messages.len() as u64, count);
            });
        });
    }
    for (name, algorithm) in ThreadAlgorithm::ALL {
        group.bench_function(format!("THREAD {name}{how}"), |b| {
            b.iter(|| {
                let thread = mailbox.thread(&view, &all, algorithm, Collation::default());
                assert!(runtime.block_on(thread).expect("an answer").len() as u64 >= count);
            });
        });
    }
}

criterion_group!(benches, one_core, mailbox);
criterion_main!(benches);
