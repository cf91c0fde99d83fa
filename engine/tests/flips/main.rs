//! A campaign of damage: bits turned, sectors zeroed, files cut, blocks that changed places, in
//! every kind of file of a store, before a start and under an open store. Afterwards everything is
//! read and compared with the truth, and scrubbed.
//!
//! An answer that differs from the truth must have been named: by an error in its place, by a
//! mending that says what was lost, or by the scrub. `CURSUS_FLIPS` sets the number of cases,
//! `CURSUS_FLIPS_SEED` the first seed; each failure prints the seed that repeats it.

mod bench;
mod damage;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bench::{Bench, Pristine, Verdict};
use damage::{Damage, FileKind};
use engine::layout::LayoutKind;

/// Cases of one layout, when nobody says otherwise.
const CASES: u64 = 900;
/// No further cases are begun after so long.
const TIME_MAX: Duration = Duration::from_secs(18);

#[derive(Default)]
struct Count {
    cases: u64,
    harmless: u64,
    healed: u64,
    named: u64,
    refused: u64,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn campaign(kind: LayoutKind) {
    let cases = number("CURSUS_FLIPS", CASES);
    let first = number("CURSUS_FLIPS_SEED", 1);
    let longest = if cases > CASES { Duration::MAX } else { TIME_MAX };
    let began = Instant::now();
    let pristine = Pristine::make(kind);
    let mut counts: BTreeMap<FileKind, Count> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut done = 0;
    for seed in first..first + cases {
        if began.elapsed() > longest {
            break;
        }
        let bench = Bench::copy(&pristine);
        let damage = Damage::choose(seed, &bench.files());
        let verdict = bench.suffer(&damage);
        done += 1;
        let count = counts.entry(damage.file_kind).or_default();
        count.cases += 1;
        match verdict {
            Verdict::Harmless => count.harmless += 1,
            Verdict::Healed => count.healed += 1,
            Verdict::Named => count.named += 1,
            Verdict::Refused => count.refused += 1,
            Verdict::Wrong(what) => failures.push(format!("seed {seed}: {damage:?}: {what}")),
        }
    }
    println!("{kind:?}: {done} of {cases} cases in {:?}", began.elapsed());
    println!(
        "{:10} {:>7} {:>8} {:>7} {:>7} {:>7}",
        "file", "cases", "harmless", "healed", "named", "refused"
    );
    for (file, c) in &counts {
        let (cases, harmless, healed, named, refused) =
            (c.cases, c.harmless, c.healed, c.named, c.refused);
        println!("{file:10?} {cases:>7} {harmless:>8} {healed:>7} {named:>7} {refused:>7}");
    }
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn damage_in_a_maildir_store_is_never_served_as_if_right() {
    campaign(LayoutKind::Maildir);
}

#[test]
fn damage_in_a_cyrus_store_is_never_served_as_if_right() {
    campaign(LayoutKind::Cyrus);
}
