//! The store under power cuts and failing disks.
//!
//! A seed decides on everything: a workload of several sessions and other programs over both
//! layouts, which operations of the simulated disk fail and how, where the power goes, and what a
//! cut leaves of unsynced bytes and names. An image of the disk is kept at each operation of the
//! run; the store is started from each and must hold one of the worlds that the answers so far
//! allow (see [`model`]). Such a start is a *crash point*: see [`explore`].
//!
//! | variable | says |
//! |---|---|
//! | `CURSUS_CRASH_POINTS` | go on until so many crash points are reached, and fail if they are not |
//! | `CURSUS_CRASH_SECONDS` | but no longer than this |
//! | `CURSUS_CRASH_FIRST` | the first seed; threads take turns |
//! | `CURSUS_CRASH_SEED` | this seed alone, every image of it |
//! | `CURSUS_LOG` | with a seed: show the store's log lines, as `cursusd` filters them |
//! | `CURSUS_CRASH_THREADS` | as many as there are processors when absent |
//!
//! A failure prints its seed and what the run did. To soak:
//! `CURSUS_CRASH_SECONDS=3600 CURSUS_CRASH_FIRST=100000 cargo test --config
//! profile.dev.package.cursus-engine.opt-level=2 -p cursus-engine --test crashpoints every_moment`.

mod bench;
mod explore;
mod foreign;
mod mended;
mod model;
mod promised;
mod threads;
mod together;
mod work;

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::io::Storage;
use engine::io::sim::{Fault, Image, Mode, Sim};
use engine::{Drive, Store};

use bench::{Bench, Memory, USERS, config, storage};
use explore::{Count, Known, explore};
use model::{World, possible};
use work::{Random, choose};

/// Seconds where the environment does not say otherwise.
const SECONDS: u64 = 10;
/// Starts of one run.
const CYCLES: u64 = 5;
/// Steps between two starts at most.
const STEPS_MAX: u64 = 25;
/// Operations of sessions in one step at most.
const TOGETHER_MAX: u64 = 4;
/// Operations of the disk until the power goes, at most; some cycles end before.
const OPERATIONS_MAX: u64 = 400;
/// Faults of one cycle at most.
const FAULTS_MAX: u64 = 3;
/// Images of a run that are looked at: one in so many, by the seed.
const STRIDES: [u64; 4] = [1, 5, 11, 23];

fn number(key: &str) -> Option<u64> {
    std::env::var(key).ok().and_then(|v| v.parse().ok())
}

/// How long seeds are run.
fn seconds() -> Duration {
    Duration::from_secs(number("CURSUS_CRASH_SECONDS").unwrap_or(SECONDS))
}

/// Runs `run` with one seed after the other on all processors, until `enough` or time is over.
fn with_seeds(name: &str, enough: impl Fn() -> bool + Sync, run: impl Fn(u64) + Sync) {
    if let Some(seed) = number("CURSUS_CRASH_SEED") {
        if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("CURSUS_LOG") {
            let lines = tracing_subscriber::fmt().with_env_filter(filter).without_time();
            let _ = lines.with_writer(std::io::stderr).with_ansi(false).try_init();
        }
        let _guard = SeedGuard { name, seed };
        return run(seed);
    }
    let seconds = seconds();
    let threads = number("CURSUS_CRASH_THREADS")
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u64));
    let began = Instant::now();
    let next = AtomicU64::new(number("CURSUS_CRASH_FIRST").unwrap_or(1));
    let failed = AtomicBool::new(false);
    let work = || {
        while began.elapsed() < seconds && !enough() && !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let guard = SeedGuard { name, seed };
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
            if ended.is_err() {
                failed.store(true, Ordering::Relaxed);
                return;
            }
            std::mem::forget(guard);
            JOURNAL.take();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    assert!(!failed.load(Ordering::Relaxed), "{name}: a seed fails");
    let seeds = next.load(Ordering::Relaxed) - number("CURSUS_CRASH_FIRST").unwrap_or(1);
    println!("{name}: {seeds} seeds in {} s", began.elapsed().as_secs());
}

thread_local! {
    /// What the run did, for the reader of a failure.
    static JOURNAL: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn note(line: String) {
    tracing::debug!("{line}");
    JOURNAL.with_borrow_mut(|journal| journal.push(line));
}

/// Names the seed and what was done when a run panics.
struct SeedGuard<'a> {
    name: &'a str,
    seed: u64,
}

impl Drop for SeedGuard<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() && number("CURSUS_CRASH_SEED").is_some() {
            return;
        }
        let journal = JOURNAL.take().join("\n");
        eprintln!("{journal}\n{} fails with CURSUS_CRASH_SEED={}", self.name, self.seed);
    }
}

/// Where crash points of a run are counted, and how many of its images are looked at.
struct Exploring<'a> {
    count: &'a Count,
    random: Random,
    stride: u64,
    /// The rest of a run is not looked at once time is over.
    until: Option<Instant>,
}

struct Run<'a> {
    bench: Bench,
    random: Random,
    worlds: Vec<World>,
    next_token: u32,
    mode: Mode,
    /// Operations that fail in this cycle.
    faults: Vec<u64>,
    exploring: Option<Exploring<'a>>,
}

impl<'a> Run<'a> {
    fn begin(seed: u64, mode: Mode) -> Run<'a> {
        Run::driven(seed, mode, Drive::Manual)
    }

    fn driven(seed: u64, mode: Mode, drive: Drive) -> Run<'a> {
        let sim = Sim::with_mode(seed, mode);
        sim.set_syncfs(!seed.is_multiple_of(3));
        let mut bench =
            Bench::driven(&sim, mode == Mode::Weak, drive).expect("a fresh store opens");
        for (name, _) in USERS {
            bench.user(name).expect("a fresh user");
        }
        let world = bench.look().expect("a fresh store can be read");
        let (random, worlds) = (Random(seed), vec![world]);
        Run { bench, random, worlds, next_token: 1, mode, faults: Vec::new(), exploring: None }
    }

    /// A few operations side by side, and a look. Returns whether the store can go on.
    fn step(&mut self) -> bool {
        if self.random.once_in(6) {
            // Then times of directories can be trusted.
            self.bench.sim.advance(3_000_000_000);
        }
        let memory = self.bench.seen.clone();
        self.bench.sim.set_mark(0);
        let from = self.bench.sim.operations();
        let together = 1 + self.random.below(TOGETHER_MAX).saturating_sub(1);
        let mut ops = Vec::new();
        let log = self.bench.store.status().log_bytes;
        if log > self.bench.store.config().log_bytes_max / 2 {
            ops.push(work::checkpoint(&self.bench));
        }
        for _ in 0..together {
            match choose(&self.bench, &mut self.random, &mut self.next_token) {
                Ok(op) => ops.push(op),
                Err(error) => note(format!("did not begin: {error}")),
            }
        }
        let staged = self.bench.staged();
        let history = together::run(&self.bench, &mut self.random, ops);
        let to = self.bench.sim.operations();
        note(format!("{from}..{to} {:#?}", history.text()));
        if let [(what, _, Some(outcome))] = &history.ops[..] {
            let over = what == "append with room for 0" && outcome.error.is_none();
            assert!(!over || outcome.effects.is_empty(), "a limit was passed");
            if over {
                // The removal of what was staged goes without a waiter.
                self.bench.finish_helpers();
                let left = self.bench.staged();
                // The next start removes it.
                let during = from..=self.bench.sim.operations();
                let failed = self.faults.iter().any(|at| during.contains(at));
                let cut = self.bench.sim.is_stopped();
                assert!(cut || failed || left == staged, "a refused delivery leaves {left:?}");
            }
        }
        for image in self.sampled() {
            let (answered, operation) = (image.mark(), image.operation());
            let worlds = possible(&self.worlds, &history.chains(answered));
            let mut memory = memory.clone();
            history.remember(&mut memory, answered, operation);
            note(format!("explored at {operation}, answered {answered:b}"));
            self.explored(&image, &worlds, &memory);
        }
        let answered = history.answered();
        self.worlds = possible(&self.worlds, &history.chains(answered));
        history.remember(&mut self.bench.seen, answered, u64::MAX);
        assert!(!self.worlds.is_empty(), "an answer contradicts what was there");
        if self.bench.sim.is_stopped() || self.bench.store.status().log.read_only.is_some() {
            return false;
        }
        let settled = self.settle("live");
        // What the look changed by taking things in is not what the next step does.
        self.bench.sim.take_images();
        settled
    }

    /// The images since the last call that are to be looked at.
    fn sampled(&mut self) -> Vec<Image> {
        let Some(exploring) = &mut self.exploring else { return Vec::new() };
        let images = self.bench.sim.take_images();
        images.into_iter().filter(|_| exploring.random.once_in(exploring.stride)).collect()
    }

    fn explored(&mut self, image: &Image, worlds: &[World], memory: &Memory) {
        let Some(exploring) = &mut self.exploring else { return };
        if exploring.until.is_some_and(|until| Instant::now() >= until) {
            return;
        }
        let sync_names = self.mode == Mode::Weak;
        let known = Known { worlds, memory, sync_names };
        explore(image, &known, &mut exploring.random, exploring.count);
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
            self.bench.sim.take_images();
            let opened = self.bench.reopened();
            let (worlds, memory) = (self.worlds.clone(), self.bench.seen.clone());
            for image in self.sampled() {
                note(format!("explored at {} of the start", image.operation()));
                self.explored(&image, &worlds, &memory);
            }
            match opened {
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
        self.bench.sim.take_images();
    }

    /// Sets what will go wrong in a cycle: a cut, or faults.
    fn arm(&mut self, faults: bool) {
        let now = self.bench.sim.operations();
        self.faults.clear();
        if faults {
            let kinds = [Fault::Io, Fault::NoSpace, Fault::Quota, Fault::ShortWrite];
            for _ in 0..1 + self.random.below(FAULTS_MAX) {
                let fault = kinds[self.random.below(4) as usize];
                let at = now + 1 + self.random.below(150);
                note(format!("fault {fault:?} at {at}"));
                self.bench.sim.fail_at(at, fault);
                self.faults.push(at);
            }
            return;
        }
        // Small distances as often as large ones.
        let most = 1 + self.random.below(OPERATIONS_MAX);
        let stop = now + 1 + self.random.below(most);
        note(format!("cycle: stop at {stop}"));
        self.bench.sim.stop_at(stop);
    }

    fn cycle(&mut self, faults: bool) {
        let steps = 1 + self.random.below(STEPS_MAX);
        self.arm(faults);
        for _ in 0..steps {
            if !self.step() {
                break;
            }
        }
        self.crash_and_reopen();
        self.verify();
    }
}

/// By the seed: how names survive, and what goes wrong.
fn kind(seed: u64) -> (Mode, bool) {
    let mode = [Mode::Ordered, Mode::Weak, Mode::Ordered, Mode::NoJournal][seed as usize % 4];
    (mode, seed % 5 < 2)
}

#[test]
fn every_moment_is_a_good_one_for_a_power_cut() {
    let count = Count::default();
    let wanted = number("CURSUS_CRASH_POINTS");
    let points = || count.points.load(Ordering::Relaxed);
    let enough = || wanted.is_some_and(|wanted| points() >= wanted);
    let alone = number("CURSUS_CRASH_SEED").is_some();
    let until = (!alone).then(|| Instant::now() + seconds());
    with_seeds("every_moment", enough, |seed| {
        let (mode, faults) = kind(seed);
        let mut run = Run::begin(seed, mode);
        let mut random = Random(!seed);
        let stride = STRIDES[random.below(STRIDES.len() as u64) as usize];
        run.exploring = Some(Exploring { count: &count, random, stride, until });
        run.bench.sim.record(true);
        for _ in 0..CYCLES {
            run.cycle(faults);
        }
    });
    let inside = count.inside_starts.load(Ordering::Relaxed);
    let rebuilt = count.rebuilt.load(Ordering::Relaxed);
    println!(
        "{} crash points, {inside} of them inside a start after a cut; {rebuilt} compared with \
         rebuilt indexes",
        points()
    );
    assert!(alone || points() > 0, "no crash point was reached");
    assert!(alone || wanted.is_none_or(|wanted| points() >= wanted), "too few crash points");
}

#[test]
fn calls_that_do_the_work_themselves_keep_what_they_acknowledge() {
    let run = |seed| {
        let (mode, faults) = kind(seed);
        let mut run = Run::driven(seed, mode, Drive::Inline);
        for _ in 0..CYCLES {
            run.cycle(faults);
        }
    };
    // An old name could not be removed beside the new one, and a cut came: too much for `mended`.
    run(1035);
    JOURNAL.take();
    with_seeds("inline", || false, run);
}

#[test]
fn nothing_acknowledged_is_undone_when_threads_race_with_the_cut() {
    with_seeds("threads", || false, threads::race);
}

#[test]
fn a_store_that_was_closed_opens_without_recovery() {
    with_seeds(
        "closes",
        || false,
        |seed| {
            let mut run = Run::begin(seed, Mode::Weak);
            for _ in 0..CYCLES {
                for _ in 0..1 + run.random.below(STEPS_MAX) {
                    assert!(run.step());
                }
                run.bench.store.close().expect("a store closes");
                let sim = run.bench.sim.clone();
                sim.crash(run.random.next());
                let again =
                    Store::open(config(true), storage(&sim), Drive::Manual).expect("it opens");
                assert_eq!(again.status().recovered, 0);
                again.close().expect("a store closes");
                drop(again);
                run.bench.reopened().expect("it opens");
                run.verify();
            }
        },
    );
}

/// Everything that a seed decides, as text.
fn trace(seed: u64) -> String {
    let (mode, faults) = kind(seed);
    let mut run = Run::begin(seed, mode);
    for _ in 0..2 {
        run.cycle(faults);
    }
    JOURNAL.take().join("\n")
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 1..8 {
        let (first, second) = (trace(seed), trace(seed));
        let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        assert!(differs.is_none(), "seed {seed}: {differs:?}");
        assert_eq!(first, second);
    }
}

/// Messages of the mailbox that is compacted, and how many of them stay.
const COMPACTED: (u32, u32) = (48, 12);

#[test]
fn compaction_may_be_cut_anywhere() {
    compaction_cut(1, Mode::Ordered);
    for seed in 2..4 {
        compaction_cut(seed, Mode::Weak);
        compaction_cut(seed, Mode::NoJournal);
    }
}

fn compaction_cut(seed: u64, mode: Mode) {
    let count = Count::default();
    let mut run = Run::begin(seed, mode);
    let at = ("alice".to_owned(), "INBOX".to_owned());
    work::fill(&run.bench, &at, COMPACTED.0);
    let mailbox = run.bench.mailbox(&at).expect("an INBOX");
    let doomed = (COMPACTED.1 / 2..).map(protocol::types::Uid);
    let doomed = doomed.take((COMPACTED.0 - COMPACTED.1) as usize).collect();
    run.bench.result(mailbox.expunge(&mailbox.view(), doomed)).expect("an expunge");
    run.worlds = vec![run.bench.look().expect("a look")];
    run.exploring = Some(Exploring { count: &count, random: Random(seed), stride: 1, until: None });
    run.bench.sim.record(true);
    run.bench.result(run.bench.store.checkpoint()).expect("a checkpoint");
    let index = run.bench.sim.stat(Path::new("/maildir/alice/cursus.index")).expect("an index");
    assert!(index.size < 8192 + 64 * u64::from(COMPACTED.1 + 1), "{} bytes", index.size);
    let (worlds, memory) = (run.worlds.clone(), run.bench.seen.clone());
    for image in run.sampled() {
        run.explored(&image, &worlds, &memory);
    }
    run.settle("compacted");
    assert!(count.points.load(Ordering::Relaxed) > 30);
}
