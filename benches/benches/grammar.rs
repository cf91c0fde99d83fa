//! What it costs to understand a command and a message, and to write answers, without any I/O.

// criterion's macros make undocumented items.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use cursus_benches::{
    SESSION, SESSION_COMMANDS, decode_session, fetch_lines, framer, list_lines, messages, names,
    sparse_set,
};
use engine::message::{Extras, Ingest, LineEnds};
use protocol::mime::parser::{self, Parser};
use protocol::types::Keyword;

fn commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("imap");
    group.throughput(Throughput::Elements(SESSION_COMMANDS));
    group.bench_function("frame and decode eight commands", |b| {
        let mut framer = framer();
        b.iter(|| assert_eq!(decode_session(&mut framer, black_box(SESSION)), SESSION_COMMANDS));
    });

    const RANGES: u32 = 1_000;
    let set = sparse_set(RANGES);
    group.throughput(Throughput::Elements(u64::from(RANGES)));
    group.bench_function("resolve a set of 1,000 numbers", |b| {
        b.iter(|| black_box(&set).resolve(100_000).len());
    });

    const LINES: u32 = 10_000;
    let keywords: Vec<Keyword> =
        ["$Forwarded", "NonJunk"].iter().filter_map(|k| Keyword::new(k)).collect();
    group.throughput(Throughput::Elements(u64::from(LINES)));
    group.bench_function("encode 10,000 FETCH (UID FLAGS)", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            fetch_lines(&mut out, black_box(&keywords), LINES);
            out.len()
        });
    });

    let names = names(10_000);
    group.throughput(Throughput::Elements(names.len() as u64));
    group.bench_function("encode 10,000 LIST lines", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            list_lines(&mut out, black_box(&names));
            out.len()
        });
    });
    group.finish();
}

fn mail(c: &mut Criterion) {
    let messages = messages(200);
    let bytes = messages.iter().map(|message| message.len() as u64).sum();
    let mut group = c.benchmark_group("message");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("MIME structure of 200", |b| {
        b.iter(|| {
            for message in &messages {
                let mut parser = Parser::new(parser::Limits::default());
                parser.feed(black_box(message));
                black_box(parser.finish());
            }
        });
    });
    for (name, line_ends) in [("maildir", LineEnds::Lf), ("cyrus", LineEnds::Crlf)] {
        group.bench_function(format!("ingest of 200 for {name}"), |b| {
            let mut out = Vec::new();
            b.iter(|| {
                for message in &messages {
                    out.clear();
                    let mut ingest = Ingest::new(line_ends);
                    ingest.feed(black_box(message), &mut out);
                    black_box(ingest.finish(&mut out));
                }
            });
        });
    }
    group.finish();

    let extras: Vec<Vec<u8>> = messages
        .iter()
        .map(|message| {
            let mut ingest = Ingest::new(LineEnds::Crlf);
            let mut out = Vec::new();
            ingest.feed(message, &mut out);
            ingest.finish(&mut out).extras
        })
        .collect();
    let mut group = c.benchmark_group("cache");
    group.throughput(Throughput::Elements(extras.len() as u64));
    group.bench_function("envelope and body structure of 200", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            for bytes in &extras {
                let extras = Extras::open(black_box(bytes)).expect("extras that we made");
                out.extend_from_slice(extras.envelope());
                out.extend_from_slice(extras.body_structure());
            }
            black_box(out.len())
        });
    });
    group.finish();
}

criterion_group!(benches, commands, mail);
criterion_main!(benches);
