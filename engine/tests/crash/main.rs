//! The store under power cuts and failing disks.
//!
//! A seed decides on a workload over both layouts, on the operation of the simulated disk at
//! which the power goes or an error comes, and on what a cut leaves of unsynced bytes and names.
//! After each start the store must hold one of the worlds that the answers allow; see
//! [`model`]. `CURSUS_CRASH_SECONDS` makes the runs longer, `CURSUS_CRASH_SEED` repeats one.

mod bench;
mod model;
mod work;

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::io::Storage;
use engine::io::sim::{Fault, Mode, Sim};
use engine::{Drive, Store};

use bench::{Bench, USERS, config, storage};
use model::{World, possible};
use work::{Random, step};

/// Seconds of each test where the environment does not say otherwise.
const SECONDS: u64 = 6;
/// Starts of one run.
const CYCLES: u64 = 5;
/// Steps between two starts at most.
const STEPS_MAX: u64 = 25;
/// Operations of the disk until the power goes, at most; some cycles end before.
const OPERATIONS_MAX: u64 = 400;

/// Faults of one cycle at most.
const FAULTS_MAX: u64 = 3;

/// Runs `run` with fresh seeds until the time is over, or once with the seed given.
fn with_seeds(name: &str, run: impl Fn(u64)) {
    let number = |key: &str| std::env::var(key).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = number("CURSUS_CRASH_SEED") {
        let _guard = SeedGuard { name, seed };
        run(seed);
        return;
    }
    let time = Duration::from_secs(number("CURSUS_CRASH_SECONDS").unwrap_or(SECONDS));
    let began = Instant::now();
    let mut seed = number("CURSUS_CRASH_FIRST").unwrap_or(1);
    while began.elapsed() < time {
        let guard = SeedGuard { name, seed };
        run(seed);
        std::mem::forget(guard);
        JOURNAL.take();
        seed += 1;
    }
    println!("{name}: {seed} seeds");
}

thread_local! {
    /// What the run did, for the reader of a failure.
    static JOURNAL: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn note(line: String) {
    JOURNAL.with_borrow_mut(|journal| journal.push(line));
}

/// Names the seed and what was done when a run panics.
struct SeedGuard<'a> {
    name: &'a str,
    seed: u64,
}

impl Drop for SeedGuard<'_> {
    fn drop(&mut self) {
        let journal = JOURNAL.take().join("\n");
        eprintln!("{journal}\n{} fails with CURSUS_CRASH_SEED={}", self.name, self.seed);
    }
}

struct Run {
    bench: Bench,
    random: Random,
    worlds: Vec<World>,
    next_token: u32,
}

impl Run {
    fn begin(seed: u64, mode: Mode) -> Run {
        let sim = Sim::with_mode(seed, mode);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock behind 1970");
        sim.set_clock(now.as_secs() as i64);
        sim.set_syncfs(!seed.is_multiple_of(3));
        let mut bench = Bench::open(&sim, mode == Mode::Weak).expect("a fresh store opens");
        for (name, _) in USERS {
            bench.user(name).expect("a fresh user");
        }
        let world = bench.look().expect("a fresh store can be read");
        let (random, worlds) = (Random(seed), vec![world]);
        Run { bench, random, worlds, next_token: 1 }
    }

    /// One operation and a look. Returns whether the store can go on.
    fn step(&mut self) -> bool {
        let from = self.bench.sim.operations();
        let outcome = step(&mut self.bench, &mut self.random, &mut self.next_token);
        let to = self.bench.sim.operations();
        note(format!("{from}..{to} {}", outcome.text()));
        self.worlds = possible(&self.worlds, &outcome.sure, &outcome.unsure);
        assert!(!self.worlds.is_empty(), "an answer contradicts what was there");
        if self.bench.sim.is_stopped() || self.bench.store.status().log.read_only.is_some() {
            return false;
        }
        self.settle("live")
    }

    /// Looks, and keeps the world that is real. Returns whether it could look.
    fn settle(&mut self, when: &str) -> bool {
        // Faults that were set for the operation before may come only now: few and once each.
        let mut patience = FAULTS_MAX;
        let actual = loop {
            match self.bench.look() {
                // Without power memory still answers, and may lack what the log has already.
                _ if self.bench.sim.is_stopped() => return false,
                Ok(actual) => break actual,
                Err(error) if patience == 0 => panic!("{when}: {error}"),
                Err(error) => note(format!("look: {error}")),
            }
            patience -= 1;
        };
        let misfits: Vec<String> =
            self.worlds.iter().filter_map(|world| world.misfit(&actual)).collect();
        assert!(misfits.len() < self.worlds.len(), "{when}: {misfits:#?}");
        self.worlds = vec![actual];
        true
    }

    /// Cuts the power and starts again, sometimes with cuts while it starts.
    fn crash_and_reopen(&mut self) {
        let seed = self.random.next();
        note(format!("crash {seed} at {}", self.bench.sim.operations()));
        self.bench.crash(seed);
        let mut cuts = self.random.below(3);
        loop {
            if cuts > 0 {
                let at = 1 + self.random.below(60);
                note(format!("start, cut at {at}"));
                self.bench.sim.stop_at(at);
            } else {
                note("start".into());
            }
            match self.bench.reopened() {
                Ok(()) if cuts == 0 => break,
                Ok(()) => {
                    if !self.bench.sim.is_stopped() {
                        // It was quick; the cut comes while it works.
                        break;
                    }
                    let seed = self.random.next();
                    self.bench.crash(seed);
                }
                Err(error) if self.bench.sim.is_stopped() => {
                    let _ = error;
                    let seed = self.random.next();
                    self.bench.sim.crash(seed);
                }
                Err(error) => panic!("cannot start: {error}"),
            }
            cuts = cuts.saturating_sub(1);
        }
    }

    /// After a start: the world is one that the answers allow, and the store is sound.
    fn verify(&mut self) {
        self.bench.sim.stop_at(u64::MAX);
        self.settle("after the start");
        let findings = self.bench.findings().expect("a check can be made");
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

fn power_cuts(mode: Mode) {
    with_seeds("power_cuts", |seed| {
        let mut run = Run::begin(seed, mode);
        for _ in 0..CYCLES {
            let steps = 1 + run.random.below(STEPS_MAX);
            // Small distances as often as large ones.
            let most = 1 + run.random.below(OPERATIONS_MAX);
            let stop = run.bench.sim.operations() + 1 + run.random.below(most);
            run.bench.sim.stop_at(stop);
            note(format!("cycle: stop at {stop}"));
            for _ in 0..steps {
                if !run.step() {
                    break;
                }
            }
            run.crash_and_reopen();
            run.verify();
        }
    });
}

#[test]
fn acknowledged_changes_survive_power_cuts() {
    power_cuts(Mode::Ordered);
}

#[test]
fn weak_directories_keep_acknowledged_changes_too() {
    power_cuts(Mode::Weak);
}

#[test]
fn nothing_is_lost_when_an_operation_fails() {
    with_seeds("faults", |seed| {
        let mut run = Run::begin(seed, Mode::Ordered);
        for _ in 0..CYCLES {
            let faults = [Fault::Io, Fault::NoSpace, Fault::Quota, Fault::ShortWrite];
            for _ in 0..1 + run.random.below(FAULTS_MAX) {
                let fault = faults[run.random.below(4) as usize];
                let at = run.bench.sim.operations() + 1 + run.random.below(150);
                note(format!("fault {fault:?} at {at}"));
                run.bench.sim.fail_at(at, fault);
            }
            for _ in 0..1 + run.random.below(STEPS_MAX) {
                if !run.step() {
                    break;
                }
            }
            run.crash_and_reopen();
            run.verify();
        }
    });
}

#[test]
fn a_store_that_was_closed_opens_without_recovery() {
    with_seeds("closes", |seed| {
        let mut run = Run::begin(seed, Mode::Weak);
        for _ in 0..CYCLES {
            for _ in 0..1 + run.random.below(STEPS_MAX) {
                assert!(run.step());
            }
            run.bench.store.close().expect("a store closes");
            let sim = run.bench.sim.clone();
            sim.crash(run.random.next());
            let again = Store::open(config(true), storage(&sim), Drive::Inline).expect("it opens");
            assert_eq!(again.status().recovered, 0);
            again.close().expect("a store closes");
            drop(again);
            run.bench.reopened().expect("it opens");
            run.verify();
        }
    });
}

/// Messages of the mailbox that is compacted, and how many of them stay.
const COMPACTED: (u32, u32) = (1100, 60);

/// A store whose next checkpoint compacts alice's INBOX.
fn before_compaction(seed: u64) -> Run {
    let mut run = Run::begin(seed, Mode::Ordered);
    let at = ("alice".to_owned(), "INBOX".to_owned());
    work::fill(&mut run.bench, &at, COMPACTED.0);
    let mailbox = run.bench.mailbox(&at).expect("an INBOX");
    let doomed = (COMPACTED.1 / 2..).map(protocol::types::Uid);
    let doomed = doomed.take((COMPACTED.0 - COMPACTED.1) as usize).collect();
    run.bench.result(mailbox.expunge(&mailbox.view(), doomed)).expect("an expunge");
    run.worlds = vec![run.bench.look().expect("a look")];
    run
}

#[test]
fn compaction_may_be_cut_anywhere() {
    let mut run = before_compaction(1);
    let from = run.bench.sim.operations();
    run.bench.result(run.bench.store.checkpoint()).expect("a checkpoint");
    let to = run.bench.sim.operations();
    run.settle("compacted");
    let index = run.bench.sim.stat(Path::new("/maildir/alice/cursus.index")).expect("an index");
    assert!(index.size < 64 * u64::from(COMPACTED.0), "{} bytes, {from}..{to}", index.size);
    // Compaction comes last.
    let stops = to.saturating_sub(14).max(from + 1)..=to;
    // What survives is by chance.
    for (stop, seed) in stops.flat_map(|stop| [(stop, 1), (stop, 2)]) {
        note(format!("cut at {stop} of {from}..{to}"));
        let guard = SeedGuard { name: "compaction", seed: stop };
        let mut run = before_compaction(1);
        run.bench.sim.stop_at(stop);
        let _ = run.bench.result(run.bench.store.checkpoint());
        run.bench.crash(seed);
        run.bench.reopened().expect("a start");
        run.verify();
        std::mem::forget(guard);
    }
}
