//! What a power cut leaves of acknowledged mail, filesystem by filesystem, mode by mode.
//!
//! Deliveries run on a disk of ours ([`powercut`]): a network block device with a volatile write
//! cache that records every write and flush. Moments of that record, half of them right behind an
//! acknowledgement, are replayed with unflushed writes lost, kept or torn, by a seed; the kernel
//! mounts that (after fsck where there is no journal), and what had been acknowledged is looked for,
//! byte for byte.

mod ground;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use powercut::disk::{Cutter, Image, Loss, Recorder};
use powercut::nbd::Device;
use powercut::random::Random;

use crate::error::{Error, Result};
use crate::leftovers::{self, Leftovers, Thing};
use crate::matrix::Guest;
use crate::progress::Progress;
use crate::schema::{Crash, Impossible, Results, Settings};
use crate::scratch::Scratch;
use crate::stop;

use ground::{Ground, grounds};
use writer::{Acknowledged, Writer};

/// Options of `crash`.
#[derive(Args)]
pub struct Options {
    /// Filesystems and modes by name, such as `ext4` or `ext4 data=journal`; all when absent.
    #[arg(long, value_delimiter = ',')]
    fs: Vec<String>,
    /// Who delivers; all when absent.
    #[arg(long, value_enum, value_delimiter = ',')]
    writer: Vec<Writer>,
    /// Power cuts of each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    cuts: u64,
    /// Messages delivered while the disk records.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    messages: u64,
    /// Of everything that is chosen.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run in a guest (user-mode Linux): where this kernel has no network block device.
    #[arg(long)]
    vm: bool,
    /// Where the guest's files and mount points are made.
    #[arg(long = "in", default_value = "/var/tmp")]
    ground: PathBuf,
    /// The network block device to use.
    #[arg(long, default_value = "/dev/nbd0")]
    device: PathBuf,
    /// Save results here.
    #[arg(long, default_value = "crash.json")]
    out: PathBuf,
}

/// Bytes of the disk: within what xfs and btrfs take, and kept in memory only as far as written.
const DISK_BYTES: u64 = 512 << 20;

/// Cuts, counts, saves, prints.
///
/// # Errors
/// When not root, without such a device, or on Ctrl-C.
pub fn command(options: &Options) -> Result<()> {
    let chosen: Vec<&Ground> = grounds()
        .iter()
        .filter(|g| options.fs.is_empty() || options.fs.iter().any(|n| n == g.name))
        .collect();
    if let Some(unknown) = options.fs.iter().find(|n| !chosen.iter().any(|g| g.name == **n)) {
        let names: Vec<&str> = grounds().iter().map(|g| g.name).collect();
        return Err(Error::Usage(format!(
            "no filesystem is called {unknown:?} here; there are: {}",
            names.join(", ")
        )));
    }
    let writers: &[Writer] =
        if options.writer.is_empty() { Writer::value_variants() } else { &options.writer };
    let results = match options.vm {
        true => in_guest(options, &chosen, writers)?,
        false => here(options, &chosen, writers)?,
    };
    results.write(&options.out)?;
    print!("{}", table(&results));
    println!("saved in {}", options.out.display());
    Ok(())
}

/// For a terminal.
fn table(results: &Results) -> String {
    let head = format!(
        "{:<22} {:<18} {:>5} {:>13} {:>5} {:>6} {:>8}\n",
        "filesystem", "writer", "cuts", "acknowledged", "lost", "twice", "damaged"
    );
    let rows = results.crashes.iter().map(|c| {
        let Crash { filesystem, writer, cuts, acknowledged, lost, duplicates, damaged, example } =
            c;
        let example = if example.is_empty() { String::new() } else { format!("  {example}") };
        format!(
            "{filesystem:<22} {writer:<18} {cuts:>5} {acknowledged:>13} {lost:>5} {duplicates:>6} \
             {damaged:>8}{example}\n"
        )
    });
    let not_done =
        results.impossible.iter().map(|i| format!("not done: {}: {}\n", i.name, i.reason));
    head + &rows.collect::<String>() + &not_done.collect::<String>()
}

fn in_guest(options: &Options, grounds: &[&Ground], writers: &[Writer]) -> Result<Results> {
    let mut guest = Guest::prepare(&options.ground, &[])?;
    let names: Vec<&str> = grounds.iter().map(|ground| ground.name).collect();
    let writers: Vec<String> = writers.iter().map(|writer| writer.name()).collect();
    let command = format!(
        "crash --in /tmp --fs '{}' --writer {} --cuts {} --messages {} --seed {} --out \
         /host/crash.json",
        names.join(","),
        writers.join(","),
        options.cuts,
        options.messages,
        options.seed
    );
    guest.run(&command, None)?;
    Results::read(&guest.path("crash.json"))
}

fn here(options: &Options, grounds: &[&Ground], writers: &[Writer]) -> Result<Results> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Usage("crash makes and mounts filesystems: run it as root".to_owned()));
    }
    if !options.device.exists() {
        return Err(Error::Usage(format!(
            "{} is not there (modprobe nbd): use --vm",
            options.device.display()
        )));
    }
    leftovers::clean_if_root();
    let scratch = Scratch::beside(&options.ground)?;
    let mut leftovers = Leftovers::begin()?;
    leftovers.note(Thing::Directory(scratch.path().to_owned()))?;
    let at = scratch.create("mount")?;
    leftovers.note(Thing::Mount(at.clone()))?;
    let mut results = Results::new(Settings { seed: options.seed, ..Settings::default() });
    let steps = grounds.len() as u64 * writers.len() as u64 * (options.cuts + 1);
    let mut progress = Progress::new(steps);
    for ground in grounds {
        if let Some(reason) = ground.obstacle() {
            results.impossible.push(Impossible { name: ground.name.to_owned(), reason });
            continue;
        }
        for writer in writers {
            let storm = Storm { options, ground, writer: *writer, at: &at };
            match storm.run(&mut progress) {
                Ok(crash) => results.crashes.push(crash),
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(error) => {
                    // What is mounted still would spoil the next.
                    ground::unmount(&at)?;
                    let name = format!("{} on {}", writer.name(), ground.name);
                    results.impossible.push(Impossible { name, reason: error.to_string() });
                }
            }
        }
    }
    Ok(results)
}

/// One record of deliveries and its cuts.
struct Storm<'a> {
    options: &'a Options,
    ground: &'a Ground,
    writer: Writer,
    at: &'a Path,
}

impl Storm<'_> {
    fn run(&self, progress: &mut Progress) -> Result<Crash> {
        let title = format!("{} on {}", self.writer.name(), self.ground.name);
        progress.begin(&title);
        let empty = Image::zeros(DISK_BYTES);
        let recorder = Arc::new(Recorder::new(empty.clone()));
        let device = self.connect(&recorder)?;
        let recorded = self.record(&recorder);
        let unmounted = ground::unmount(self.at);
        device.disconnect().map_err(Error::io("disconnect", &self.options.device))?;
        unmounted?;
        let (start, end, acknowledged) = recorded?;
        progress.step();

        let mut crash = Crash {
            filesystem: self.ground.name.to_owned(),
            writer: self.writer.name(),
            ..Crash::default()
        };
        let mut cutter = Cutter::new(empty, recorder.events(end), self.ground.tears());
        for (at, mut random) in self.choose(start, end, &acknowledged) {
            stop::check()?;
            progress.begin(&title);
            let loss = Loss::any(&mut random);
            let (image, _) = cutter.cut(at, loss, &mut random);
            let promised: Vec<&Acknowledged> =
                acknowledged.iter().filter(|one| one.place <= at).collect();
            crash.cuts += 1;
            crash.acknowledged += promised.len();
            let trouble = match self.look(image, &promised) {
                Ok(found) => {
                    crash.lost += found.lost;
                    crash.duplicates += found.duplicates;
                    crash.damaged += usize::from(!found.damage.is_empty());
                    found.text()
                }
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(error) => {
                    crash.damaged += 1;
                    crash.lost += promised.len();
                    error.to_string()
                }
            };
            if crash.example.is_empty() && !trouble.is_empty() {
                crash.example = format!("cut {} behind event {at}: {trouble}", crash.cuts);
            }
            progress.step();
        }
        Ok(crash)
    }

    fn connect(&self, recorder: &Arc<Recorder>) -> Result<Device> {
        let sector = self.ground.tears().sector_bytes as u64;
        Device::connect(&self.options.device, recorder.clone(), sector)
            .map_err(Error::io("connect", &self.options.device))
    }

    /// Makes the filesystem and delivers; the places of the record before and after, and what was
    /// acknowledged where.
    fn record(&self, recorder: &Recorder) -> Result<(usize, usize, Vec<Acknowledged>)> {
        self.ground.make(&self.options.device)?;
        self.ground.mount(&self.options.device, self.at)?;
        let (options, writer) = (self.options, self.writer);
        let messages = writer::messages(options.seed, options.messages as usize);
        let mut start = 0;
        let acknowledged = writer.deliver(self.at, messages, &mut start, &|| recorder.now())?;
        Ok((start, recorder.now(), acknowledged))
    }

    /// The moments, in rising order.
    fn choose(&self, start: usize, end: usize, acks: &[Acknowledged]) -> Vec<(usize, Random)> {
        let mut random = Random::new(self.options.seed).fork(7);
        let mut places: Vec<usize> = (0..self.options.cuts)
            .map(|_| match acks.is_empty() || random.chance(50) {
                true => start + random.below(end - start + 1),
                false => acks[random.below(acks.len())].place.clamp(start, end),
            })
            .collect();
        places.sort_unstable();
        places.into_iter().zip(1..).map(|(at, number)| (at, random.fork(number))).collect()
    }

    /// Mounts what a cut left, and compares.
    fn look(&self, image: Image, promised: &[&Acknowledged]) -> Result<writer::Found> {
        let recorder = Arc::new(Recorder::new(image));
        let device = self.connect(&recorder)?;
        let mounted = self
            .ground
            .check(&self.options.device)
            .and_then(|()| self.ground.mount(&self.options.device, self.at));
        // A disk that lies can damage a file in any way: whoever panics over it has not recovered.
        let look = || self.writer.look(self.at, promised);
        let found = mounted.and_then(|()| {
            let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
            looked.unwrap_or_else(|_| Err(Error::Usage("the store panicked".to_owned())))
        });
        let unmounted = ground::unmount(self.at);
        device.disconnect().map_err(Error::io("disconnect", &self.options.device))?;
        unmounted?;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_what_was_lost_and_the_first_example() {
        let mut results = Results::new(Settings::default());
        results.crashes.push(Crash {
            filesystem: "ext4".into(),
            writer: "rename-unsynced".into(),
            cuts: 9,
            acknowledged: 100,
            lost: 3,
            example: "cut 2: 3 lost".into(),
            ..Crash::default()
        });
        let text = table(&results);
        assert!(text.contains("rename-unsynced"), "{text}");
        assert!(text.lines().nth(1).unwrap().ends_with("cut 2: 3 lost"), "{text}");
    }
}
