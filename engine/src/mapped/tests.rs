//! Records under change, damage and cut files, as readers of a table see them.

use super::*;
use crate::format::index::words_to_bytes;
use crate::io::blocking::Blocking;
use crate::io::{Open, Storage};
use crate::layout::NameFlags;
use protocol::types::{ModSeq, SystemFlags, Uid};

fn record(uid: u32, modseq: u64) -> Record {
    Record {
        uid: Uid(uid),
        flags: SystemFlags::SEEN,
        keywords: modseq,
        modseq: ModSeq(modseq),
        internal_date: modseq as i64,
        size: modseq as u32,
        header_size: 8,
        sent_date: 7,
        subject_hash: 6,
        from_hash: 5,
        name_flags: NameFlags(0),
        in_new: false,
        expunged: false,
        cache_offset: 0,
        cache_len: 0,
    }
}

struct Bench {
    file: Arc<dyn StoredFile>,
    table: Table,
    trust: Arc<Trust>,
    _dir: tempfile::TempDir,
}

fn at(index: usize) -> u64 {
    RECORDS_OFFSET + (index * RECORD_BYTES) as u64
}

fn bench(count: usize) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let file = Blocking::new().open(&path, Open::CreateNew).unwrap();
    for i in 0..count {
        file.write_at(&words_to_bytes(&record(i as u32 + 1, 1).encode()), at(i)).unwrap();
    }
    let trust = Trust::new(60);
    let table = Table::open(&*file, &path, count, &trust).unwrap();
    Bench { file, table, trust, _dir: dir }
}

#[test]
fn a_record_under_change_is_old_or_new_never_both() {
    const COUNT: usize = 400;
    let b = bench(COUNT);
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let seen = b.table.record(77, COUNT).expect("a whole record");
                    assert_eq!(seen, record(78, seen.modseq.0), "torn");
                    assert!(seen.modseq.0 >= last, "an older record came back");
                    last = seen.modseq.0;
                }
            });
        }
        threads.spawn(|| {
            let mut last = 0;
            let mut run = None;
            while !stop.load(Ordering::Relaxed) {
                let Some(seen) = run.as_ref().and_then(|run: &Run<'_>| run.record(77)) else {
                    run = b.table.run(70, COUNT);
                    continue;
                };
                assert_eq!(seen, record(78, seen.modseq.0), "torn");
                assert!(seen.modseq.0 >= last, "an older record came back");
                last = seen.modseq.0;
            }
        });
        for modseq in 2..20_000 {
            let words = record(78, modseq).encode();
            let writing = b.table.writing();
            b.file.write_at(&words_to_bytes(&words), at(77)).unwrap();
            b.table.written(77, &words);
            drop(writing);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_run_gives_what_is_verified_until_somebody_writes() {
    const COUNT: usize = 400;
    let b = bench(COUNT);
    b.file.write_at(&[0xff], at(100) + 9).unwrap();
    assert!(b.table.run(0, COUNT).is_none(), "nothing is verified yet");
    for index in [0, 64, 390] {
        assert!(b.table.record(index, COUNT).is_some());
    }
    let given = |index| {
        let run = b.table.run(index, COUNT).expect("verified records");
        let of = |i| (run.record(i), run.uid(i));
        let given: Vec<usize> = (0..COUNT + 64).filter(|i| run.record(*i).is_some()).collect();
        for &i in &given {
            assert_eq!(of(i), (b.table.record(i, COUNT), b.table.uid(i, COUNT)));
        }
        (given[0], given.len())
    };
    assert_eq!(given(0), (0, 64));
    assert_eq!(given(70), (70, 30));
    assert_eq!(given(399), (399, 1));
    assert!(b.table.run(100, COUNT).is_none() && b.table.run(COUNT, COUNT).is_none());

    let run = b.table.run(5, COUNT).unwrap();
    let words = record(8, 2).encode();
    let writing = b.table.writing();
    assert!(run.record(6).is_none() && b.table.run(5, COUNT).is_none());
    b.file.write_at(&words_to_bytes(&words), at(7)).unwrap();
    b.table.written(7, &words);
    drop(writing);
    assert!(run.record(6).is_none() && run.uid(6).is_none());
    let run = b.table.run(5, COUNT).unwrap();
    assert_eq!(run.record(7), Some(record(8, 2)));

    b.trust.expire();
    assert!(b.table.run(5, COUNT).is_none());
    assert!(b.table.record(5, COUNT).is_some());
    let run = b.table.run(5, COUNT).unwrap();
    b.file.set_len(at(64)).unwrap();
    assert_eq!(b.table.record(399, COUNT), None);
    assert!(run.record(7).is_none() && run.uid(7).is_none(), "a page of the map is lost");
}

#[test]
fn who_has_a_table_that_was_outgrown_reads_what_is_written_later() {
    const COUNT: usize = 60;
    let b = bench(COUNT);
    let path = Path::new("index");
    let mut newest = b.table.reopen(&*b.file, path, COUNT).unwrap();
    for modseq in 2..5 {
        let words = record(8, modseq).encode();
        b.file.write_at(&words_to_bytes(&words), at(7)).unwrap();
        newest.written(7, &words);
        assert_eq!(b.table.record(7, COUNT), Some(record(8, modseq)));
        newest = newest.reopen(&*b.file, path, COUNT).unwrap();
    }
}

#[test]
fn damage_is_seen_at_the_first_touch_and_after_trust_expired() {
    const COUNT: usize = 400;
    let b = bench(COUNT);
    b.file.write_at(&[0xff], at(300) + 9).unwrap();
    assert_eq!(b.table.record(300, COUNT), None);
    assert_eq!(b.table.record(299, COUNT), Some(record(300, 1)));
    assert_eq!(b.table.record(301, COUNT), Some(record(302, 1)));
    assert_eq!(b.table.record(10, COUNT), Some(record(11, 1)));
    b.file.write_at(&[0xff], at(10) + 9).unwrap();
    assert!(b.table.record(10, COUNT).is_some(), "verified a moment ago");
    b.trust.expire();
    assert_eq!(b.table.record(10, COUNT), None);
}

#[test]
fn a_page_is_verified_at_its_first_touch_up_to_what_is_damaged_or_not_committed() {
    const COUNT: usize = 7 * PAGE_RECORDS + 10;
    let b = bench(COUNT);
    b.file.write_at(&[0xff], at(PAGE_RECORDS + 20) + 9).unwrap();
    for index in [PAGE_RECORDS - 1, PAGE_RECORDS + 3, COUNT - 10] {
        assert!(b.table.record(index, COUNT).is_some());
    }
    let verified = |index| b.table.is_verified(index);
    assert!((0..PAGE_RECORDS + 20).all(verified));
    assert!(!(PAGE_RECORDS + 20..7 * PAGE_RECORDS).any(verified));
    assert!((7 * PAGE_RECORDS..COUNT).all(verified) && !verified(COUNT));
}

#[test]
fn blocks_that_changed_places_are_seen_from_every_record_in_them() {
    const COUNT: usize = 8 * PAGE_RECORDS;
    let b = bench(COUNT);
    let (mut two, mut five) = ([0; 4096], [0; 4096]);
    b.file.read_exact_at(&mut two, at(2 * PAGE_RECORDS)).unwrap();
    b.file.read_exact_at(&mut five, at(5 * PAGE_RECORDS)).unwrap();
    b.file.write_at(&five, at(2 * PAGE_RECORDS)).unwrap();
    b.file.write_at(&two, at(5 * PAGE_RECORDS)).unwrap();
    for index in 0..COUNT {
        if let Some(seen) = b.table.record(index, COUNT) {
            assert_eq!(seen.uid.0 as usize, index + 1);
        }
    }
    assert!(b.table.record(0, COUNT).is_some());
}

#[test]
fn a_file_cut_under_its_table_gives_damaged_records() {
    const COUNT: usize = 400;
    let b = bench(COUNT);
    assert!((0..COUNT).all(|i| b.table.record(i, COUNT).is_some()));
    b.file.set_len(at(64)).unwrap();
    assert_eq!(b.table.record(399, COUNT), None);
    assert_eq!(b.table.uid(200, COUNT), None);
    assert!(b.table.is_lost());
    assert_eq!(b.table.record(63, COUNT), Some(record(64, 1)));
    for i in 64..COUNT {
        b.file.write_at(&words_to_bytes(&record(i as u32 + 1, 1).encode()), at(i)).unwrap();
    }
    b.table.restore(&*b.file, Path::new("index")).unwrap();
    assert!((0..COUNT).all(|i| b.table.record(i, COUNT) == Some(record(i as u32 + 1, 1))));
}

#[test]
fn blobs_of_a_cut_file_are_refused_and_one_in_use_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let file = Blocking::new().open(&path, Open::CreateNew).unwrap();
    let mut bytes = Vec::new();
    let mut places = Vec::new();
    for uid in 1..=100u32 {
        let start = bytes.len();
        cache::encode(&mut bytes, 9, uid, &vec![uid as u8; 1000]);
        places.push((start as u64, bytes.len() - start));
    }
    file.write_at(&bytes, 0).unwrap();
    let end = bytes.len() as u64;
    let blobs = Blobs::open(file.clone(), &path, end, &Trust::new(60)).unwrap();
    let blob = |uid: u32| {
        let (offset, len) = places[uid as usize - 1];
        blobs.blob(offset, len, end, 9, uid)
    };
    assert!((1..=100).all(|uid| blob(uid).is_some()));
    assert!((1..=100).all(|uid| blob(uid).is_some_and(|b| b.held())));
    let (offset, len) = places[4];
    assert!(blobs.blob(offset, len, end, 9, 6).is_none(), "another's");
    let last = blob(100).unwrap();
    file.set_len(8192).unwrap();
    assert_eq!(last[500], 0);
    assert!(!last.held());
    assert!(blob(99).is_none() && blob(3).is_some());
}
