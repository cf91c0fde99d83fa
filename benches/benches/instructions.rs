//! The stable hot paths in instructions, which a noisy machine does not change: callgrind counts.
//!
//! Needs valgrind and `cargo install gungraun-runner` in the version of the crate; therefore behind
//! a feature, so that `cargo bench` alone always runs. Each run is compared with the one before.

// The macros make undocumented items.
#![allow(missing_docs)]

use std::hint::black_box;

use cursus_benches::{
    SESSION, SESSION_COMMANDS, decode_session, fetch_lines, framer, frames, list_lines, messages,
    names, sparse_set,
};
use engine::format::frame::Frame;
use engine::format::index::{Record, words_from_bytes, words_to_bytes};
use engine::message::{Extras, Ingest, LineEnds};
use gungraun::{library_benchmark, library_benchmark_group, main};
use protocol::imap::encode;
use protocol::imap::framing::Framer;
use protocol::types::SequenceSet;

#[library_benchmark]
#[bench::session(framer())]
fn decode_commands(mut framer: Framer) {
    assert_eq!(decode_session(&mut framer, black_box(SESSION)), SESSION_COMMANDS);
}

#[library_benchmark]
#[bench::sparse(sparse_set(1_000))]
fn resolve_set(set: SequenceSet) -> usize {
    black_box(&set).resolve(100_000).len()
}

#[library_benchmark]
#[bench::thousand(1_000)]
fn encode_fetch(count: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 << 10);
    fetch_lines(&mut out, &[], black_box(count));
    out
}

#[library_benchmark]
#[bench::thousand(names(1_000))]
fn encode_list(names: Vec<String>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 << 10);
    list_lines(&mut out, black_box(&names));
    out
}

#[library_benchmark]
#[bench::delivery_and_store(frames())]
fn encode_frames(frames: Vec<Frame>) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 << 10);
    for frame in &frames {
        black_box(frame).encode(&mut out);
    }
    out
}

#[library_benchmark]
#[bench::twenty(messages(20))]
fn ingest(messages: Vec<Vec<u8>>) -> usize {
    let mut out = Vec::with_capacity(1 << 20);
    let mut bytes = 0;
    for message in &messages {
        out.clear();
        let mut ingest = Ingest::new(LineEnds::Lf);
        ingest.feed(black_box(message), &mut out);
        bytes += ingest.finish(&mut out).extras.len();
    }
    bytes
}

fn extras() -> Vec<Vec<u8>> {
    let one = |message: &Vec<u8>| {
        let (mut ingest, mut out) = (Ingest::new(LineEnds::Crlf), Vec::new());
        ingest.feed(message, &mut out);
        ingest.finish(&mut out).extras
    };
    messages(100).iter().map(one).collect()
}

#[library_benchmark]
#[bench::hundred(extras())]
fn copy_envelopes(extras: Vec<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    for bytes in &extras {
        let extras = Extras::open(black_box(bytes)).expect("extras that we made");
        out.extend_from_slice(extras.envelope());
        out.extend_from_slice(extras.body_structure());
    }
    out
}

#[library_benchmark]
#[bench::ten_thousand(vec![0u8; 64 * 10_000])]
fn scan_records(bytes: Vec<u8>) -> usize {
    let records = black_box(&bytes).chunks_exact(64);
    records.filter(|bytes| Record::decode_unchecked(&words_from_bytes(bytes)).flags.0 != 0).count()
}

#[library_benchmark]
#[bench::ten_thousand(sound_records(10_000))]
fn verify_records(bytes: Vec<u8>) -> usize {
    let records = black_box(&bytes).chunks_exact(64);
    records.filter(|bytes| Record::decode(&words_from_bytes(bytes)).is_some()).count()
}

fn sound_records(count: u32) -> Vec<u8> {
    let numbered = |n: u32| {
        let words = [u64::from(n), 0, 0, 0, 0, 0, 0, 0];
        words_to_bytes(&Record::decode_unchecked(&words).encode())
    };
    (1..=count).flat_map(numbered).collect()
}

#[library_benchmark]
#[bench::thirty_thousand((1..=30_000).rev().collect())]
fn encode_sort(numbers: Vec<u32>) -> Vec<u8> {
    let mut out = Vec::new();
    encode::sort(&mut out, black_box(&numbers).iter().copied(), None);
    out
}

library_benchmark_group!(
    name = hot_paths;
    benchmarks = decode_commands, resolve_set, encode_fetch, encode_list, encode_frames, ingest,
        copy_envelopes, scan_records, verify_records, encode_sort
);
main!(library_benchmark_groups = hot_paths);
