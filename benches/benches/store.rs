//! What the store costs without a server around it: committed deliveries, and scans of the index.
//!
//! Deliveries are durable, so these figures are the disk's as much as ours: set them beside
//! `cursus-load disk`. `TMPDIR` chooses the filesystem.

// criterion's macros make undocumented items.
#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use cursus_benches::{frames, messages};
use engine::format::frame::Frame;
use engine::format::index::{Record, words_from_bytes, words_to_bytes};
use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{Delivery, Drive, MountOptions, Partition, Store, StoreConfig, Target, UserOptions};
use protocol::types::SystemFlags;

const MESSAGES: u64 = 100;

struct Bench {
    runtime: tokio::runtime::Runtime,
    store: Store,
    lane: Lane,
    targets: Vec<Target>,
}

impl Bench {
    fn open(directory: &Path, kind: LayoutKind, users: usize) -> Bench {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
        let partition = Partition {
            name: "default".into(),
            path: directory.join("mail"),
            layout: layout_for(kind, &LayoutOptions::default()),
            mount: MountOptions::default(),
        };
        let config = StoreConfig::new(directory.join("state"), vec![partition]);
        let store = Store::open(config, storage, Drive::Threads).expect("an empty store");
        let lane = Lane::pool(store.helpers().clone());
        let targets = (0..users)
            .map(|number| {
                runtime.block_on(async {
                    let name = format!("user{number}");
                    let user =
                        store.user(&name, &UserOptions::default()).await.expect("a new user");
                    let mailbox = user.mailbox("INBOX").await.expect("an INBOX");
                    let flags = SystemFlags::empty();
                    Target {
                        user,
                        mailbox,
                        flags,
                        keywords: vec![],
                        internal_date: None,
                        annotations: vec![],
                    }
                })
            })
            .collect();
        Bench { runtime, store, lane, targets }
    }

    /// Delivers every message, one after another in each target, the targets side by side.
    fn deliver(&self, messages: &[Vec<u8>]) {
        let share = messages.len() / self.targets.len();
        let local = tokio::task::LocalSet::new();
        let work = local.run_until(async {
            let mut tasks = Vec::new();
            for (target, messages) in self.targets.iter().zip(messages.chunks(share)) {
                let (store, lane) = (self.store.clone(), self.lane.clone());
                let (target, messages) = (target.clone(), messages.to_vec());
                tasks.push(tokio::task::spawn_local(async move {
                    for message in &messages {
                        let mut delivery = Delivery::new(&store, &lane, vec![target.clone()])
                            .expect("an open mailbox");
                        delivery.write(message).await.expect("room");
                        delivery.commit().await.remove(0).expect("a durable message");
                    }
                }));
            }
            for task in tasks {
                task.await.expect("a delivery that ends");
            }
        });
        self.runtime.block_on(work);
    }
}

fn commits(c: &mut Criterion) {
    let messages = messages(MESSAGES);
    let mut group = c.benchmark_group("deliver 100");
    group.throughput(Throughput::Elements(MESSAGES)).sample_size(10);
    for (name, kind) in [("maildir", LayoutKind::Maildir), ("cyrus", LayoutKind::Cyrus)] {
        for users in [1, 20] {
            let directory = tempfile::tempdir().expect("a directory");
            let bench = Bench::open(directory.path(), kind, users);
            group.bench_function(format!("{name}, {users} at a time"), |b| {
                b.iter(|| bench.deliver(&messages));
            });
            bench.store.close().expect("a clean stop");
        }
    }
    group.finish();
}

fn scans(c: &mut Criterion) {
    const RECORDS: u64 = 100_000;
    let directory = tempfile::tempdir().expect("a directory");
    let bench = Bench::open(directory.path(), LayoutKind::Maildir, 1);
    bench.deliver(&messages(1));
    let view = bench.targets[0].mailbox.view();
    let (_, uid) = view.uids().next().expect("the message");
    let (_, record) = view.record_of(uid).expect("its record");
    bench.store.close().expect("a clean stop");

    let bytes: Vec<u8> = (0..RECORDS).flat_map(|_| words_to_bytes(&record.encode())).collect();
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, decode) in [
        ("flags of 100,000 records", Record::decode_unchecked as fn(&_) -> Record),
        ("flags of 100,000 records with their checksums", |words| {
            Record::decode(words).expect("a good record")
        }),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || (),
                |()| {
                    let records = black_box(&bytes).chunks_exact(64);
                    records.filter(|bytes| decode(&words_from_bytes(bytes)).flags.0 != 0).count()
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn frame_encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    for frame in frames() {
        let name = match &frame {
            Frame::Append(_) => "encode the frame of a delivery",
            _ => "encode the frame of a STORE of 100",
        };
        let mut out = Vec::new();
        frame.encode(&mut out);
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                black_box(&frame).encode(&mut out);
                out.len()
            });
        });
    }
    group.finish();
}

/// Reading a directory of message names, as the first look at a foreign Maildir does.
fn directories(c: &mut Criterion) {
    const FILES: u64 = 10_000;
    let directory = tempfile::tempdir().expect("a directory");
    let storage = Blocking::new();
    let mut group = c.benchmark_group("listing");
    group.throughput(Throughput::Elements(FILES));
    for (name, kind) in [("maildir", LayoutKind::Maildir), ("cyrus", LayoutKind::Cyrus)] {
        let layout = layout_for(kind, &LayoutOptions::default());
        let root = directory.path().join(name);
        let dir = layout.mailbox_dir(&root, "someone", "INBOX").expect("a good name");
        layout.create(&storage, &root, &dir).expect("a new mailbox");
        for n in 0..FILES {
            let file = match kind {
                LayoutKind::Maildir => {
                    dir.join(format!("cur/17000{n:05}.M{n}P77.mail.example.org,S=1500:2,S"))
                }
                LayoutKind::Cyrus => dir.join(format!("{}.", n + 1)),
            };
            std::fs::write(file, b"").expect("an empty file");
        }
        group.bench_function(format!("list 10,000 messages, {name}"), |b| {
            b.iter(|| {
                let mut found = 0;
                let each = &mut |_| found += 1;
                layout.list(&storage, &dir, false, each).expect("a directory that can be read");
                assert_eq!(found, FILES);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, commits, frame_encode, directories, scans);
criterion_main!(benches);
