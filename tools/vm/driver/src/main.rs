//! `cursus-powercut`: a storm of deliveries and IMAP commands on a disk with a volatile cache, then
//! many cuts of its power, after each of which the store must hold all that it had acknowledged.
//!
//! Runs as root in the guest of `tools/vm`; `tools/vm/powercut` starts it there. One storm is
//! recorded; each cut is a moment of it, picked by the seed, that is replayed onto a fresh disk,
//! mounted (the kernel recovers its journal), started (`cursusd` recovers its store) and compared.

mod ledger;
mod server;
mod storm;
mod verify;

mod wire;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use powercut::disk::{Cutter, Image, Loss, Recorder};
use powercut::nbd::Device;
use powercut::random::Random;
use server::{Filesystem, Place, USERS, unmount};
use storm::{Scene, WORKERS_PER_USER, Worker};

/// Longest storm; a guest that gets nothing done in this time has failed.
const STORM_SECONDS_MAX: u64 = 300;
/// Of a hundred cuts, those where the power fails again during the recovery.
const SECOND_CUT_PERCENT: u32 = 25;
/// Longest life of a recovery that is cut.
const SECOND_LIFE_MILLISECONDS_MAX: usize = 900;
/// Wrong lines that are printed of one cut.
const WRONG_LINES_MAX: usize = 12;

/// Records one storm and cuts it many times.
#[derive(Parser)]
struct Options {
    #[arg(long, value_enum)]
    fs: Filesystem,
    /// maildir or cyrus.
    #[arg(long)]
    layout: String,
    /// Moments at which the power fails.
    #[arg(long, default_value_t = 50)]
    cuts: usize,
    /// Answered operations in the storm.
    #[arg(long, default_value_t = 400)]
    operations: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the cut with this number, from 1.
    #[arg(long)]
    only: Option<usize>,
    /// Let the disk lose this many events that it had answered: a check of the check, which fails.
    #[arg(long, default_value_t = 0)]
    lag: usize,
    /// Size of the disk.
    #[arg(long, default_value_t = 512)]
    disk_mib: u64,
    /// Directory of cursusd and cursus.
    #[arg(long)]
    programs: PathBuf,
    /// The network block device to use.
    #[arg(long, default_value = "/dev/nbd0")]
    device: PathBuf,
}

impl Options {
    /// Every third seed has STOREs answered before their sync, as the default is.
    fn early(&self) -> bool {
        self.seed.is_multiple_of(3)
    }
}

/// One moment at which the power fails.
struct Cut {
    number: usize,
    at: usize,
    loss: Loss,
    random: Random,
    /// Whether the power fails again during the recovery.
    again: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("powercut: {} {}: {error}", options.fs.name(), options.layout);
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> io::Result<bool> {
    let place = Place {
        programs: options.programs.clone(),
        mount: PathBuf::from("/mnt/powercut"),
        scratch: PathBuf::from("/tmp/powercut"),
    };
    place.configure(&options.layout, options.early())?;
    let empty = Image::zeros(options.disk_mib << 20);
    let recorder = Arc::new(Recorder::new(empty.clone()));
    let began = Instant::now();
    let (scene, start, end) = record(options, &place, &recorder)?;
    let label = format!("{}, {}, seed {}", options.fs.name(), options.layout, options.seed);
    println!(
        "{label}: {} operations, {} in {:.1} s",
        scene.done.load(Ordering::SeqCst),
        recorder.summary(start..end),
        began.elapsed().as_secs_f32()
    );

    let mut cutter = Cutter::new(empty, recorder.events(end), options.fs.tears());
    let (mut failed, mut acknowledged, mut under_way) = (0, 0, 0);
    let (mut done, mut volatile, mut twice) = (0, 0, 0);
    let cuts = choose(options, &scene, start, end);
    for mut cut in cuts {
        let (image, lost) =
            cutter.cut(cut.at.saturating_sub(options.lag), cut.loss, &mut cut.random);
        if options.only.is_some_and(|only| only != cut.number) {
            continue;
        }
        volatile += lost;
        done += 1;
        twice += usize::from(cut.again);
        let image = match cut.again {
            true => cut_recovery(options, &place, image, &mut cut),
            false => Ok(image),
        };
        match image.and_then(|image| check(options, &place, image, &scene, &cut)) {
            Ok((counts, wrong)) => {
                acknowledged += counts.acknowledged;
                under_way += counts.under_way;
                if !wrong.is_empty() {
                    failed += 1;
                    report(&label, &cut, lost, &wrong);
                }
            }
            Err(error) => {
                failed += 1;
                report(&label, &cut, lost, &[error.to_string()]);
                // What is still mounted or running would spoil the next cut.
                if place.mount.join("state").exists() {
                    break;
                }
            }
        }
    }
    println!(
        "{label}: done in {:.1} s\nresult cuts={done} twice={twice} failed={failed} \
         acknowledged={acknowledged} under_way={under_way} unflushed={volatile}",
        began.elapsed().as_secs_f32()
    );
    Ok(failed == 0)
}

fn report(label: &str, cut: &Cut, lost: usize, wrong: &[String]) {
    println!(
        "FAILED {label}, cut {}: behind event {}, loss {:?} among {lost} unflushed writes{}",
        cut.number,
        cut.at,
        cut.loss,
        if cut.again { ", and again during the recovery" } else { "" }
    );
    for line in wrong.iter().take(WRONG_LINES_MAX) {
        println!("  {line}");
    }
    if wrong.len() > WRONG_LINES_MAX {
        println!("  and {} more", wrong.len() - WRONG_LINES_MAX);
    }
}

/// Runs the storm up to and through a stop of the server. The cuts lie between the two places.
///
/// The seed's lowest bit chooses between a stop and a kill, its second how soon the kernel writes
/// back what nobody syncs.
fn record(
    options: &Options,
    place: &Place,
    recorder: &Arc<Recorder>,
) -> io::Result<(Scene, usize, usize)> {
    server::write_back(options.seed % 4 < 2)?;
    let device =
        Device::connect(&options.device, recorder.clone(), options.fs.sector_bytes() as u64)?;
    options.fs.make(device.path())?;
    options.fs.mount(device.path(), &place.mount)?;
    let server = place.start()?;
    let scene = storm::prepare(recorder.clone(), options.seed, options.early())?;
    let start = recorder.now();
    let stormed = thread::scope(|scope| {
        let workers: Vec<_> = (0..USERS.len() * WORKERS_PER_USER)
            .map(|number| {
                let scene = &scene;
                scope.spawn(move || Worker::new(scene, number)?.run())
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(STORM_SECONDS_MAX);
        while scene.done.load(Ordering::SeqCst) < options.operations
            && Instant::now() < until
            && !workers.iter().any(|worker| worker.is_finished())
        {
            thread::sleep(Duration::from_millis(5));
        }
        scene.stopping.store(true, Ordering::SeqCst);
        // A clean stop's checkpoint is cut like everything else.
        let stopped = if options.seed.is_multiple_of(2) { server.stop() } else { server.kill() };
        let mut results: Vec<io::Result<()>> = workers
            .into_iter()
            .map(|worker| {
                worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
            })
            .collect();
        results.push(stopped);
        results.into_iter().collect::<io::Result<()>>()
    });
    let end = recorder.now();
    unmount(&place.mount)?;
    device.disconnect()?;
    stormed.map_err(|error| place.trouble(&error.to_string()))?;
    let log = place.log_text();
    match complaint(&log) {
        Some(line) => Err(io::Error::other(format!("the server says in the storm: {line}"))),
        None => Ok((scene, start, end)),
    }
}

/// A log line that no run may have.
fn complaint(log: &str) -> Option<&str> {
    log.lines().find(|line| line.contains("panicked at") || line.contains("a defect of the server"))
}

/// The moments, in rising order. Half of them are right behind an answer, where what was promised is
/// freshest.
fn choose(options: &Options, scene: &Scene, start: usize, end: usize) -> Vec<Cut> {
    let mut random = Random::new(options.seed).fork(7);
    let ledger = scene.ledger();
    let answers: Vec<usize> = ledger
        .operations
        .iter()
        .filter_map(|operation| operation.sure())
        .filter(|sure| (start..=end).contains(sure))
        .collect();
    let mut places: Vec<usize> = (0..options.cuts)
        .map(|_| {
            if answers.is_empty() || random.chance(50) {
                start + random.below(end - start + 1)
            } else {
                answers[random.below(answers.len())]
            }
        })
        .collect();
    places.sort_unstable();
    places
        .into_iter()
        .zip(1..)
        .map(|(at, number)| {
            let mut random = random.fork(number as u64);
            let again = random.chance(SECOND_CUT_PERCENT);
            Cut { number, at, loss: Loss::any(&mut random), random, again }
        })
        .collect()
}

/// Lets the kernel and the server recover from `image`, and cuts that.
fn cut_recovery(
    options: &Options,
    place: &Place,
    image: Image,
    cut: &mut Cut,
) -> io::Result<Image> {
    let recorder = Arc::new(Recorder::new(image.clone()));
    let device =
        Device::connect(&options.device, recorder.clone(), options.fs.sector_bytes() as u64)?;
    if let Err(error) = options.fs.mount(device.path(), &place.mount) {
        device.disconnect()?;
        return Err(error);
    }
    let server = place.launch()?;
    let life = cut.random.below(SECOND_LIFE_MILLISECONDS_MAX);
    thread::sleep(Duration::from_millis(life as u64));
    server.kill()?;
    let end = recorder.now();
    unmount(&place.mount)?;
    device.disconnect()?;
    let at = cut.random.below(end + 1);
    let loss = Loss::any(&mut cut.random);
    let mut cutter = Cutter::new(image, recorder.events(end), options.fs.tears());
    Ok(cutter.cut(at, loss, &mut cut.random).0)
}

/// Recovers from `image` and compares.
fn check(
    options: &Options,
    place: &Place,
    image: Image,
    scene: &Scene,
    cut: &Cut,
) -> io::Result<(verify::Counts, Vec<String>)> {
    let recorder = Arc::new(Recorder::new(image));
    let device = Device::connect(&options.device, recorder, options.fs.sector_bytes() as u64)?;
    if let Err(error) = options.fs.mount(device.path(), &place.mount) {
        device.disconnect()?;
        return Err(error);
    }
    let server = place.start()?;
    let verified = verify::verify(&scene.ledger(), cut.at, options.seed);
    let stopped = server.stop();
    let log = place.log_text();
    let checked = place.check();
    unmount(&place.mount)?;
    device.disconnect()?;
    let (counts, mut wrong) = verified.map_err(|error| place.trouble(&error.to_string()))?;
    wrong.extend(stopped.err().map(|error| error.to_string()));
    wrong.extend(complaint(&log).map(str::to_owned));
    wrong.extend(checked.err().map(|error| error.to_string()));
    Ok((counts, wrong))
}
