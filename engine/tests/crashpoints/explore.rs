//! Power cuts at every moment of a run: each image of the disk that the run left is started from,
//! and what is there compared with what the answers so far allow.
//!
//! One crash point is one image with one choice of what survives of its unsynced bytes and names,
//! started and looked through. Cuts inside that start give further points, and so on to
//! [`DEPTH_MAX`].

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use engine::format::index::{
    Bits, RECORD_BYTES, RECORDS_OFFSET, SLOT_BYTES, Slot, words_from_bytes,
};
use engine::io::sim::{Image, Sim};
use engine::io::{Kind, Open, Storage};
use engine::{Record, Result};

use crate::bench::{Bench, Memory, USERS};
use crate::model::World;
use crate::work::Random;

/// Cuts on top of each other: the run's, that of the start after it, of the start after that.
const DEPTH_MAX: u32 = 3;
/// Choices of what survives, for one image.
const CHOICES: u64 = 3;
/// One start in so many is itself cut at several places.
const CUT_AGAIN_ONE_IN: u64 = 12;
/// Places at which such a start is cut.
const CUTS_OF_A_START: u64 = 4;
/// One point in so many compares indexes with ones made again from the files.
const REBUILD_ONE_IN: u64 = 24;

/// Points reached, by all threads.
#[derive(Default)]
pub struct Count {
    pub points: AtomicU64,
    /// Of these, cuts inside a start.
    pub inside_starts: AtomicU64,
    /// Of these, with indexes compared with rebuilt ones.
    pub rebuilt: AtomicU64,
}

/// What is known at a moment.
pub struct Known<'a> {
    pub worlds: &'a [World],
    pub memory: &'a Memory,
    pub sync_names: bool,
}

/// All choices for an image.
pub fn explore(image: &Image, known: &Known<'_>, random: &mut Random, count: &Count) {
    let mut met = Vec::new();
    for _ in 0..CHOICES {
        let seed = random.next();
        let (sim, left) = image.after_cut(seed);
        if met.contains(&left) {
            continue;
        }
        met.push(left);
        point(sim, known, random, count, 1);
    }
}

fn point(sim: Sim, known: &Known<'_>, random: &mut Random, count: &Count, depth: u32) {
    let _guard = Describe(&sim, sim.image());
    let again = depth < DEPTH_MAX && random.once_in(CUT_AGAIN_ONE_IN);
    sim.record(again);
    let mut bench = Bench::open(&sim, known.sync_names).expect("a start after a power cut");
    let images = sim.take_images();
    sim.record(false);
    bench.seen = known.memory.clone();
    let actual = bench.look().expect("a look after a power cut");
    let misfits: Vec<String> = known.worlds.iter().filter_map(|w| w.misfit(&actual)).collect();
    assert!(misfits.len() < known.worlds.len(), "after a cut (depth {depth}): {misfits:#?}");
    let findings = bench.findings().expect("a check can be made");
    assert!(findings.is_empty(), "after a cut (depth {depth}): {findings:#?}");
    count.points.fetch_add(1, Ordering::Relaxed);
    if depth > 1 {
        count.inside_starts.fetch_add(1, Ordering::Relaxed);
    }
    if again && !images.is_empty() {
        for _ in 0..CUTS_OF_A_START {
            let image = &images[random.below(images.len() as u64) as usize];
            let (sim, _) = image.after_cut(random.next());
            point(sim, known, random, count, depth + 1);
        }
        // What was seen after this start stays.
        let (sim, _) = bench.sim.image().after_cut(random.next());
        let known = Known { worlds: &[actual], memory: &bench.seen, ..*known };
        point(sim, &known, random, count, depth + 1);
    }
    if random.once_in(REBUILD_ONE_IN) {
        let headers = random.once_in(2);
        compare_with_rebuilt(&bench, known.sync_names, headers).expect("indexes are rebuilt");
        count.rebuilt.fetch_add(1, Ordering::Relaxed);
    }
}

/// Shows what indexes said before and after the start when a point fails.
struct Describe<'a>(&'a Sim, Image);

impl Drop for Describe<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("indexes before the start:\n{}", described(&self.1.after_cut(0).0));
            // The store may be stopped; its disk is not.
            eprintln!("indexes after it:\n{}", described(&self.0.image().after_cut(0).0));
        }
    }
}

/// Header slots of all indexes, with the number of records that are alive.
fn described(sim: &Sim) -> String {
    let mut paths = Vec::new();
    indexes_below(sim, Path::new("/"), &mut paths);
    let mut out = String::new();
    for path in paths {
        let Ok(file) = sim.open(&path, Open::Read) else { continue };
        out += &format!("{}:", path.display());
        let mut words = [0; RECORD_BYTES];
        let mut at = RECORDS_OFFSET;
        let (mut all, mut live) = (0, 0);
        while file.read_exact_at(&mut words, at).is_ok() {
            all += 1;
            live += usize::from(words_from_bytes(&words)[0] & Bits::EXPUNGED == 0);
            at += RECORD_BYTES as u64;
        }
        out += &format!(" {live} of {all} live;");
        for at in [0, SLOT_BYTES] {
            let mut bytes = [0; 512];
            let slot =
                file.read_exact_at(&mut bytes, at).ok().and_then(|()| Slot::decode(&bytes).ok());
            if let Some(slot) = slot {
                out += &format!(
                    " slot {}: C {} records {} tombstones {} generation {};",
                    slot.sequence.get(),
                    slot.checkpoint_lsn.get(),
                    slot.records.get(),
                    slot.tombstones.get(),
                    slot.generation.get()
                );
            }
        }
        out.push('\n');
    }
    out
}

/// What a rebuild can know of a message: all but keywords, and the flags of the cyrus layout.
#[derive(Debug, PartialEq)]
struct Facts {
    uid: u32,
    size: u32,
    header_size: u32,
    internal_date: i64,
    sent_date: u32,
    subject_hash: u32,
    from_hash: u32,
    flags: Option<u8>,
}

impl Facts {
    fn of(record: &Record, flags: bool) -> Facts {
        Facts {
            uid: record.uid.0,
            size: record.size,
            header_size: record.header_size,
            internal_date: record.internal_date,
            sent_date: record.sent_date,
            subject_hash: record.subject_hash,
            from_hash: record.from_hash,
            flags: flags.then_some(record.flags.0),
        }
    }
}

fn facts(bench: &Bench) -> Result<Vec<(String, Vec<Facts>)>> {
    let mut all = Vec::new();
    for (user, partition) in USERS {
        for name in bench.user(user)?.namespace().mailboxes.keys() {
            let mailbox = bench.mailbox(&(user.to_owned(), name.clone()))?;
            let view = bench.result(mailbox.refresh())?;
            let facts = view.all().map(|(_, r)| Facts::of(&r, partition == "maildir")).collect();
            all.push((format!("{user} {name}"), facts));
        }
    }
    Ok(all)
}

/// Makes every index unreadable in a copy of the disk of a store that came to rest, and compares
/// what is made of it with what was there. Sometimes the headers alone are gone, else all records
/// are, too.
fn compare_with_rebuilt(bench: &Bench, sync_names: bool, headers: bool) -> Result<()> {
    let before = facts(bench)?;
    bench.store.close()?;
    let (sim, _) = bench.sim.image().after_cut(0);
    let mut dirs = Vec::new();
    indexes_below(&sim, Path::new("/cyrus"), &mut dirs);
    indexes_below(&sim, Path::new("/maildir"), &mut dirs);
    for path in dirs {
        let file = sim.open(&path, Open::Write).expect("an index");
        let size = if headers { RECORDS_OFFSET } else { file.size().expect("a size") };
        file.write_at(&vec![0xaa; size as usize], 0).expect("a write");
        file.sync_all().expect("a sync");
    }
    let again = Bench::open(&sim, sync_names)?;
    assert_eq!(facts(&again)?, before, "an index differs from one rebuilt from the files");
    Ok(())
}

fn indexes_below(sim: &Sim, dir: &Path, found: &mut Vec<PathBuf>) {
    let mut below = Vec::new();
    // Unreadable is empty: then nothing is compared, which shows as a difference.
    let _ = sim.list(dir, &mut |name, kind| {
        below.push((dir.join(String::from_utf8_lossy(name).as_ref()), kind));
    });
    for (path, kind) in below {
        match kind {
            Kind::Directory => indexes_below(sim, &path, found),
            _ if path.ends_with("cursus.index") => found.push(path),
            _ => {}
        }
    }
}
