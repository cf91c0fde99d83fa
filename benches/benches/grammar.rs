//! What it costs to understand a command and a message, without any I/O.

// criterion's macros make undocumented items.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use cursus_benches::messages;
use engine::message::{Extras, Ingest, LineEnds};
use protocol::imap::decode::{self, Dialect};
use protocol::imap::framing::{Event, Framer, Limits};
use protocol::mime::parser::{self, Parser};

/// What a mail program says after it has connected, and once a minute.
const SESSION: &[u8] = b"a1 LOGIN \"someone@example.org\" \"a password\"\r\n\
a2 SELECT \"INBOX\"\r\n\
a3 UID FETCH 1:* (UID FLAGS)\r\n\
a4 UID FETCH 1017:1120 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date \
Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])\r\n\
a5 UID SEARCH CHARSET UTF-8 SINCE 1-Jan-2025 NOT DELETED OR SUBJECT {9}\r\nquarterly FROM boss\r\n\
a6 UID STORE 1017,1019:1023 +FLAGS.SILENT (\\Seen $Junk)\r\n\
a7 FETCH 17 (BODY.PEEK[1.2.HEADER]<0.2048> ENVELOPE BODYSTRUCTURE)\r\n\
a8 NOOP\r\n";

fn commands(c: &mut Criterion) {
    let mut group = c.benchmark_group("imap");
    group.throughput(Throughput::Elements(8));
    group.bench_function("frame and decode eight commands", |b| {
        let mut framer = Framer::new(Limits::AFTER_LOGIN);
        b.iter(|| {
            let mut input = SESSION;
            let mut decoded = 0;
            while !input.is_empty() {
                let (used, event) = framer.next(input);
                match event {
                    Some(Event::Command(text)) => {
                        decode::command(black_box(text), Dialect::default()).expect("a command");
                        decoded += 1;
                    }
                    Some(Event::Continue) => {}
                    other => unreachable!("only commands are here: {other:?}"),
                }
                input = &input[used..];
            }
            assert_eq!(decoded, 8);
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
