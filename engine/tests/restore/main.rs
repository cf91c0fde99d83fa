//! Archive, backup and restore: what comes back is what was there at that moment.
//!
//! A seed decides on the work; after every step all that a client can see is recorded with the
//! time. `CURSUS_RESTORE_SECONDS` makes the runs longer, `CURSUS_RESTORE_SEED` repeats one.

mod live;
mod site;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::archive::{ArchiveTarget, RestoreOptions, RestoreReport, prune, restore, verify};
use engine::io::sim::{Mode, Sim};
use engine::io::{Kind, Open, Storage};
use engine::{Drive, Result};

use site::{Random, Site, World, config, difference};

/// Seconds of each test that runs over seeds.
const SECONDS: u64 = 6;
/// Steps of one run.
const STEPS: u64 = 60;
/// Moments of a run that are restored.
const MOMENTS: u64 = 4;
/// More than ever waits in these tests.
const PLENTY: u64 = 1 << 40;

fn archive() -> Option<ArchiveTarget> {
    Some(ArchiveTarget::Directory("/archive".into()))
}

fn arc(sim: &Sim) -> Arc<dyn Storage> {
    Arc::new(sim.clone())
}

fn begin(seed: u64) -> (Sim, Site) {
    let sim = Sim::with_mode(seed, Mode::Ordered);
    sim.set_clock(1_795_000_000);
    sim.set_syncfs(!seed.is_multiple_of(3));
    sim.create_dir_all(Path::new("/archive")).unwrap();
    sim.sync_dir(Path::new("/")).unwrap();
    let site = open(&sim).unwrap();
    for (user, _) in site::USERS {
        site.user(user);
    }
    (sim, site)
}

fn open(sim: &Sim) -> Result<Site> {
    Site::open(arc(sim), config(Path::new("/"), archive(), PLENTY), Drive::Inline)
}

fn with_seeds(name: &str, run: impl Fn(u64)) {
    let number = |key: &str| std::env::var(key).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = number("CURSUS_RESTORE_SEED") {
        return run(seed);
    }
    let time = Duration::from_secs(number("CURSUS_RESTORE_SECONDS").unwrap_or(SECONDS));
    let began = Instant::now();
    let mut seed = 1;
    while began.elapsed() < time {
        let guard = SeedGuard(name, seed);
        run(seed);
        std::mem::forget(guard);
        seed += 1;
    }
    println!("{name}: {seed} seeds");
}

struct SeedGuard<'a>(&'a str, u64);

impl Drop for SeedGuard<'_> {
    fn drop(&mut self) {
        eprintln!("{} fails with CURSUS_RESTORE_SEED={}", self.0, self.1);
    }
}

/// A step, and what is there afterwards at a moment of its own.
fn step(sim: &Sim, site: &mut Site, random: &mut Random, moments: &mut Vec<(u64, World)>) {
    site.step(random);
    if random.below(8) == 0 {
        site.wait(site.store.checkpoint()).expect("a checkpoint");
        site.wait(site.store.archive_now()).expect("the archive takes all");
    }
    let world = site.look();
    sim.advance(1_000_000);
    moments.push((site.now_us(), world));
    sim.advance(1_000_000);
}

/// Restores on another machine that has nothing but what is durable in backup and archive.
fn restored(
    sim: &Sim,
    from: &[&str],
    as_of_us: Option<u64>,
    across_gaps: bool,
    user: Option<&str>,
) -> Result<(RestoreReport, World, Sim)> {
    let (machine, _) = sim.image().after_cut(7);
    for root in ["/state", "/maildir", "/cyrus"] {
        remove(&machine, Path::new(root));
    }
    let options = RestoreOptions {
        from: from.iter().map(PathBuf::from).collect(),
        as_of_us,
        user: user.map(str::to_owned),
        across_gaps,
    };
    let report = restore(config(Path::new("/"), None, 0), arc(&machine), &options)?;
    let site = Site::open(arc(&machine), config(Path::new("/"), None, 0), Drive::Inline)?;
    let findings = site.wait(site.store.check(None))?.findings;
    assert_eq!(findings, Vec::<String>::new());
    let world = site.look();
    assert_eq!(site.store.status().recovered, 0, "a restored store was closed");
    site.store.close()?;
    Ok((report, world, machine))
}

fn remove(sim: &Sim, dir: &Path) {
    let mut entries = Vec::new();
    let each = &mut |name: &[u8], kind| {
        entries.push((dir.join(String::from_utf8_lossy(name).as_ref()), kind));
    };
    if sim.list(dir, each).is_err() {
        return;
    }
    for (path, kind) in entries {
        match kind {
            Kind::Directory => remove(sim, &path),
            Kind::File | Kind::Link | Kind::Other => sim.unlink(&path).expect("a removal"),
        }
    }
    sim.remove_dir(dir).expect("a removal");
}

fn assert_restored(sim: &Sim, moment: u64, world: &World) {
    let (report, is, _) = restored(sim, &["/backup", "/archive"], Some(moment), false, None)
        .unwrap_or_else(|error| panic!("as of {moment}: {error}"));
    if let Some(difference) = difference(&is, world) {
        panic!("as of {moment}: {difference}\n{report:#?}");
    }
}

fn assert_whole(sim: &Sim) {
    let report = verify(&arc(sim), Path::new("/archive"), true).expect("an archive");
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!(report.gaps, []);
    assert!(report.segments > 0);
}

#[test]
fn a_store_comes_back_as_it_was_at_any_moment() {
    with_seeds("moments", |seed| {
        let (sim, mut site) = begin(seed);
        let mut random = Random(seed);
        let mut before = Vec::new();
        for _ in 0..STEPS / 3 {
            step(&sim, &mut site, &mut random, &mut before);
        }
        let base = site.backup(Path::new("/backup")).expect("a backup");
        assert_eq!(base.findings, Vec::<String>::new());
        sim.advance(1_000_000);
        let mut moments = vec![(site.now_us(), site.look())];
        sim.advance(1_000_000);
        for n in 0..STEPS {
            step(&sim, &mut site, &mut random, &mut moments);
            if n == STEPS / 2 {
                // The power goes; recovery's end is a moment like others.
                sim.stop_at(1);
                let _ = site.store.close();
                sim.crash(random.next());
                sim.stop_at(u64::MAX);
                site = open(&sim).expect("a start");
            }
        }
        site.store.close().expect("a stop");
        assert_whole(&sim);
        assert_restored(&sim, moments[0].0, &moments[0].1);
        for _ in 0..MOMENTS {
            let (moment, world) = &moments[random.below(moments.len() as u64) as usize];
            assert_restored(&sim, *moment, world);
        }
        let (moment, world) = moments.last().expect("moments");
        assert_restored(&sim, *moment, world);
        // Moments before the backup cannot be had from it, but the archive goes back to the start.
        let early = before[before.len() / 2].0;
        let (report, is, _) = restored(&sim, &["/archive"], Some(early), false, None).expect("all");
        assert_eq!(difference(&is, &before[before.len() / 2].1), None, "{report:#?}");
    });
}

#[test]
fn one_user_comes_back_alone() {
    let (sim, mut site) = begin(11);
    let mut random = Random(11);
    let mut moments = Vec::new();
    site.look();
    site.backup(Path::new("/backup")).expect("a backup");
    for _ in 0..STEPS {
        step(&sim, &mut site, &mut random, &mut moments);
    }
    site.store.close().expect("a stop");
    let (moment, world) = &moments[STEPS as usize / 2];
    for user in ["alice", "bob"] {
        let from = ["/backup", "/archive"];
        let (_, is, _) = restored(&sim, &from, Some(*moment), false, Some(user)).expect("a user");
        let mut only = World::new();
        only.insert(user.to_owned(), world[user].clone());
        assert_eq!(difference(&is, &only), None);
        assert_eq!(is.len(), 1);
    }
}

#[test]
fn a_crash_while_archiving_loses_no_segment() {
    with_seeds("archiving", |seed| {
        let (sim, mut site) = begin(seed);
        let mut random = Random(seed);
        let mut moments = Vec::new();
        site.look();
        site.backup(Path::new("/backup")).expect("a backup");
        for _ in 0..4 {
            for _ in 0..6 {
                step(&sim, &mut site, &mut random, &mut moments);
            }
            let stop = sim.operations() + 1 + random.below(120);
            sim.stop_at(stop);
            let _ = site.wait(site.store.checkpoint());
            let _ = site.wait(site.store.archive_now());
            sim.stop_at(1);
            let _ = site.store.close();
            sim.crash(random.next());
            sim.stop_at(u64::MAX);
            site = open(&sim).expect("a start");
            let is = site.look();
            let was = &moments.last().expect("moments").1;
            assert_eq!(difference(&is, was), None, "seed {seed}");
            sim.advance(1_000_000);
            moments.push((site.now_us(), is));
            sim.advance(1_000_000);
        }
        site.wait(site.store.checkpoint()).expect("a checkpoint");
        assert!(site.wait(site.store.archive_now()).expect("all is taken"));
        site.store.close().expect("a stop");
        assert_whole(&sim);
        let left = |dir: &str| {
            let mut names = Vec::new();
            let each = &mut |name: &[u8], _| names.push(String::from_utf8_lossy(name).into_owned());
            sim.list(Path::new(dir), each).expect("an outbox");
            names.retain(|name| name != "state.json" && name != "tmp");
            names
        };
        assert_eq!(left("/state/log/outbox"), Vec::<String>::new());
        for dir in ["/maildir/..cursus-outbox", "/cyrus/..cursus-outbox"] {
            let stores = left(dir);
            assert_eq!(stores.len(), 1, "{dir}: {stores:?}");
            let own = format!("{dir}/{}", stores[0]);
            assert_eq!(left(&own), Vec::<String>::new(), "{own}");
        }
        let (moment, world) = moments.last().expect("moments");
        assert_restored(&sim, *moment, world);
    });
}

/// What is missing is named by everybody who is asked, and mail never waits.
#[test]
fn an_archive_that_is_down_stops_no_mail_and_its_gap_has_a_name() {
    let (sim, mut site) = begin(5);
    let mut random = Random(5);
    let mut moments = Vec::new();
    for _ in 0..10 {
        step(&sim, &mut site, &mut random, &mut moments);
    }
    site.backup(Path::new("/backup")).expect("a backup");
    for _ in 0..10 {
        step(&sim, &mut site, &mut random, &mut moments);
    }
    site.store.close().expect("a stop");
    let whole = moments.last().expect("moments").clone();
    let limit = 200 << 10;
    let small = || config(Path::new("/"), archive(), limit);
    let site = Site::open(arc(&sim), small(), Drive::Inline).expect("a start");
    sim.rename(Path::new("/archive"), Path::new("/unmounted")).expect("a rename");
    sim.advance(1_000_000);
    for token in 1000..1040 {
        site.append("alice", "INBOX", token, 0, &[]);
        site.wait(site.store.checkpoint()).expect("a checkpoint");
        site.wait(site.store.archive_now()).expect_err("nothing is there");
    }
    let status = site.store.archive_status().expect("an archive");
    assert!(status.alarm.as_deref().is_some_and(|a| a.contains("/archive")), "{status:?}");
    assert!(status.pending_bytes <= limit, "{status:?}");
    assert!(!status.gaps.is_empty(), "{status:?}");
    sim.advance(1_000_000);
    sim.rename(Path::new("/unmounted"), Path::new("/archive")).expect("a rename");
    site.wait(site.store.archive_now()).expect("it is back");
    let status = site.store.archive_status().expect("an archive");
    assert!(status.alarm.as_deref().is_some_and(|a| a.contains("gap")), "{status:?}");
    assert_eq!(status.pending_segments, 0);
    let last = (site.now_us(), site.look());
    site.store.close().expect("a stop");
    let report = verify(&arc(&sim), Path::new("/archive"), true).expect("an archive");
    assert_eq!((report.gaps.len(), report.findings.len()), (1, 0), "{report:?}");
    assert!(report.gaps[0].reason.contains("waited for the archive"), "{:?}", report.gaps);
    // Before the gap all is well, across it nothing goes unsaid.
    let from = ["/backup", "/archive"];
    assert_restored(&sim, whole.0, &whole.1);
    let error = restored(&sim, &from, Some(last.0), false, None).map(|_| ()).unwrap_err();
    let named = format!("gap from LSN {}", report.gaps[0].first_lsn);
    assert!(error.to_string().contains(&named), "{error}");
    let (across, is, _) = restored(&sim, &from, Some(last.0), true, None).expect("across");
    assert_eq!(across.gaps.len(), 1);
    let inbox = |world: &World| world["alice"].folders["INBOX"].messages.len();
    assert!(inbox(&is) < inbox(&last.1), "some are missing");
    assert!(inbox(&is) > inbox(&whole.1), "some came after the gap");
    // A backup after the gap ends the alarm, and restores no longer cross it.
    let site = Site::open(arc(&sim), small(), Drive::Inline).expect("a start");
    site.backup(Path::new("/backup")).expect("a backup");
    assert_eq!(site.store.archive_status().expect("an archive").alarm, None);
    site.append("alice", "INBOX", 2000, 0, &[]);
    sim.advance(1_000_000);
    let last = (site.now_us(), site.look());
    site.store.close().expect("a stop");
    assert_restored(&sim, last.0, &last.1);
}

#[test]
fn a_restored_store_goes_on_in_the_archive_and_its_past_is_fenced_off() {
    let (sim, mut site) = begin(21);
    let mut random = Random(21);
    let mut moments = Vec::new();
    site.look();
    site.backup(Path::new("/archive")).expect("a backup into the archive itself");
    for _ in 0..30 {
        step(&sim, &mut site, &mut random, &mut moments);
    }
    site.store.close().expect("a stop");
    let (moment, world) = &moments[15];
    let from = ["/archive"];
    let (_, is, machine) = restored(&sim, &from, Some(*moment), false, None).expect("a restore");
    assert_eq!(difference(&is, world), None);
    // It works on, in the same archive; what was behind the moment is void.
    let site = open(&machine).expect("a start");
    machine.advance(60_000_000_000);
    site.append("bob", "INBOX", 5000, 0, &[]);
    machine.advance(1_000_000);
    let last = (site.now_us(), site.look());
    site.store.close().expect("a stop");
    assert!(verify(&arc(&machine), Path::new("/archive"), true).expect("it").findings.is_empty());
    let (_, is, _) = restored(&machine, &from, Some(last.0), false, None).expect("a restore");
    assert_eq!(difference(&is, &last.1), None);
    // The store of before would write over it: it may not, and serves mail all the same.
    let path = Path::new("/archive/archive.json");
    let claim = machine.open(path, Open::Read).unwrap();
    let mut bytes = vec![0; claim.size().unwrap() as usize];
    claim.read_exact_at(&mut bytes, 0).unwrap();
    sim.unlink(path).unwrap();
    sim.open(path, Open::Create).unwrap().write_at(&bytes, 0).unwrap();
    let old = open(&sim).expect("a start");
    old.append("bob", "INBOX", 6000, 0, &[]);
    old.wait(old.store.checkpoint()).expect("a checkpoint");
    let error = old.wait(old.store.archive_now()).expect_err("fenced off");
    assert!(error.to_string().contains("later owner"), "{error}");
    old.store.close().expect("a stop");
}

#[test]
fn an_archive_tells_every_damage_and_gives_up_what_is_old() {
    let (sim, mut site) = begin(31);
    let mut random = Random(31);
    let mut moments = Vec::new();
    site.look();
    site.backup(Path::new("/archive")).expect("a backup");
    for _ in 0..25 {
        step(&sim, &mut site, &mut random, &mut moments);
    }
    let second = site.backup(Path::new("/archive")).expect("a second one");
    for _ in 0..25 {
        step(&sim, &mut site, &mut random, &mut moments);
    }
    site.store.close().expect("a stop");
    let root = Path::new("/archive");
    assert!(verify(&arc(&sim), root, true).expect("it").findings.is_empty());
    // Every file that counts, one flipped byte each.
    let (machine, _) = sim.image().after_cut(1);
    let mut files = Vec::new();
    collect(&machine, root, &mut files);
    files.retain(|f| !f.ends_with("lock") && !f.ends_with("lock.base"));
    let mut flipped = 0;
    for path in files {
        let file = machine.open(&path, Open::Write).unwrap();
        let size = file.size().unwrap();
        if size == 0 {
            continue;
        }
        let at = random.below(size);
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_at(&[byte[0] ^ 0x10], at).unwrap();
        let noticed = match verify(&arc(&machine), root, true) {
            Err(_) => true,
            Ok(report) => !report.findings.is_empty() || !report.gaps.is_empty(),
        };
        // A number in a manifest's key that nothing is compared with tells nothing.
        let json = path.extension().is_some_and(|e| e == "json");
        assert!(noticed || json, "a flipped byte of {} at {at}", path.display());
        file.write_at(&byte, at).unwrap();
        flipped += 1;
    }
    assert!(flipped > 20, "{flipped}");
    // What was before the second backup goes; what is after it stays whole.
    let storage = arc(&sim);
    let dry = prune(&storage, root, second.consistent_us, true).expect("a dry run");
    let done = prune(&storage, root, second.consistent_us, false).expect("a prune");
    assert_eq!((dry.segments, dry.messages), (done.segments, done.messages));
    assert!(done.segments > 0 && done.bases == 1, "{done:?}");
    assert_eq!(done.restorable_us, second.consistent_us);
    let report = verify(&storage, root, true).expect("it");
    assert_eq!((report.findings.len(), report.gaps.len()), (0, 0), "{report:?}");
    let (moment, world) = moments.last().expect("moments");
    let (_, is, _) = restored(&sim, &["/archive"], Some(*moment), false, None).expect("it");
    assert_eq!(difference(&is, world), None);
    match restored(&sim, &["/archive"], Some(moments[0].0), false, None) {
        Err(error) => assert!(error.to_string().contains("before the moment"), "{error}"),
        // The second backup took along a log that goes back to the store's beginning.
        Ok((_, is, _)) => assert_eq!(difference(&is, &moments[0].1), None),
    }
}

fn collect(sim: &Sim, dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries = Vec::new();
    let each = &mut |name: &[u8], kind| {
        entries.push((dir.join(String::from_utf8_lossy(name).as_ref()), kind));
    };
    sim.list(dir, each).expect("a directory");
    for (path, kind) in entries {
        match kind {
            Kind::Directory => collect(sim, &path, out),
            Kind::File | Kind::Link | Kind::Other => out.push(path),
        }
    }
}

#[test]
fn a_restore_does_not_mix_with_a_store_and_one_cut_off_does_not_start() {
    let (sim, site) = begin(41);
    site.look();
    site.append("alice", "INBOX", 1, 0, &[]);
    site.backup(Path::new("/backup")).expect("a backup");
    site.store.close().expect("a stop");
    let options = RestoreOptions { from: vec!["/backup".into()], ..RestoreOptions::default() };
    let plain = || config(Path::new("/"), None, 0);
    let error = restore(plain(), arc(&sim), &options).unwrap_err();
    assert!(error.to_string().contains("an empty place"), "{error}");
    for root in ["/state", "/maildir", "/cyrus"] {
        remove(&sim, Path::new(root));
    }
    sim.stop_at(sim.operations() + 40);
    restore(plain(), arc(&sim), &options).expect_err("the power goes");
    sim.crash(1);
    sim.stop_at(u64::MAX);
    let error = Site::open(arc(&sim), plain(), Drive::Inline).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("restore"), "{error}");
}
