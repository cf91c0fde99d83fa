//! Filesystems made on loop files, or on slices of a device, with every option of a profile, all
//! mounted at once and measured in turns like any places.

mod ganesha;
mod guest;
mod make;
mod spec;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::{Sizes, save};
use crate::error::{Error, Result};
use crate::leftovers::{self, Leftovers, Thing};
use crate::run::{self, Site};
use crate::schema::{Impossible, Results};
use crate::scratch::Scratch;
use crate::stop;
use crate::workload::{SHORT_MESSAGES_MAX, Workload};

pub(crate) use guest::Guest;
use make::{Ground, obstacle, refuse_device_with_data};
pub(crate) use make::{has_filesystem, mkfs_always, mkfs_name};
pub use spec::{Profile, Spec, Stack};

/// Options of `matrix`.
#[derive(Args)]
pub struct Options {
    /// How much.
    #[arg(long, value_enum, default_value_t = Profile::Quick)]
    profile: Profile,
    /// Only these places of the profile, by name, and the places that they are compared with.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where images and mount points are made, in a directory of their own.
    #[arg(long = "in", default_value = "/var/tmp")]
    ground: PathBuf,
    /// Use slices of this empty block device instead of files. It is overwritten.
    #[arg(long)]
    device: Option<PathBuf>,
    /// Mebibytes of each device; images take space only as they fill. 1024 when absent, 4096 where a
    /// folder has more than 100,000 messages.
    #[arg(long, value_parser = clap::value_parser!(u64).range(320..=1 << 24))]
    size: Option<u64>,
    /// What cannot be done here do in a guest (user-mode Linux); its times are no figures.
    #[arg(long)]
    vm: bool,
    /// List the places of the profile, and what cannot be done here, and do nothing.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    sizes: Sizes,
    /// Save results here.
    #[arg(long, default_value = "fstests.json")]
    out: PathBuf,
}

/// The place that is made in a guest in any case, for the others to be compared with.
const REFERENCE: &str = "ext4";
/// What a matrix measures unless told otherwise.
const WORKLOADS_QUICK: [Workload; 5] = [
    Workload::DeliverRename,
    Workload::DeliverLog,
    Workload::ReadCold,
    Workload::Flags,
    Workload::Expunge,
];
const WORKLOADS_SCALING: [Workload; 4] =
    [Workload::Create, Workload::LookMissing, Workload::Flags, Workload::List];
/// Messages of the folders of [`Profile::Scaling`].
const FOLDERS_SCALING: [u64; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];
const WORKLOADS_BOOK: [Workload; 11] = [
    Workload::DeliverRename,
    Workload::DeliverLink,
    Workload::DeliverLog,
    Workload::DeliverCyrus,
    Workload::List,
    Workload::StatStorm,
    Workload::ReadCold,
    Workload::Flags,
    Workload::Expunge,
    Workload::BackupWalk,
    Workload::MixedDay,
];

/// Makes the places, measures, saves.
///
/// # Errors
/// When not root, when a device holds data, or on Ctrl-C. One place that cannot be made does not
/// end the run.
pub fn command(options: &Options) -> Result<()> {
    let specs = chosen(options)?;
    let (can, mut cannot): (Vec<Spec>, Vec<Spec>) =
        specs.into_iter().partition(|spec| obstacle(spec).is_none());
    if options.list {
        can.iter().for_each(|spec| println!("{}", spec.name));
        for spec in &cannot {
            println!("{}: not here: {}", spec.name, obstacle(spec).unwrap_or_default());
        }
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Usage(
            "matrix makes and mounts filesystems: run it as root, or use run DIR…".to_owned(),
        ));
    }
    let mut sizes = options.sizes.clone();
    if sizes.workload.is_empty() {
        sizes.workload = match options.profile {
            Profile::Quick => WORKLOADS_QUICK.to_vec(),
            Profile::Book => WORKLOADS_BOOK.to_vec(),
            Profile::Full => vec![],
            Profile::Scaling => WORKLOADS_SCALING.to_vec(),
        };
    }
    if sizes.folder.is_empty() && options.profile == Profile::Scaling {
        sizes.folder = FOLDERS_SCALING.to_vec();
    }
    let plan = sizes.plan()?;
    if let Some(device) = &options.device {
        refuse_device_with_data(device)?;
    }
    let mut results = Results::new(plan.settings.clone());
    let measured = measure(options, &plan, &can, &mut results);
    for spec in &cannot {
        let reason = obstacle(spec).unwrap_or_default();
        results.impossible.push(Impossible { name: spec.name.clone(), reason });
    }
    // What this kernel turned out not to mount another one may.
    let failed = |spec: &&Spec| results.impossible.iter().any(|i| i.name == spec.name);
    cannot.extend(can.iter().filter(failed).cloned());
    let measured = measured.and_then(|()| match options.vm && !cannot.is_empty() {
        true => in_guest(options, &sizes, &cannot, &mut results),
        false => Ok(()),
    });
    save(&results, &options.out, measured)
}

/// Mebibytes of a device.
fn mebibytes(options: &Options, folders: &[usize]) -> u64 {
    let large = folders.iter().any(|size| *size > SHORT_MESSAGES_MAX);
    options.size.unwrap_or(if large { 4096 } else { 1024 })
}

/// The places of the profile that `--only` leaves, and their neighbours.
fn chosen(options: &Options) -> Result<Vec<Spec>> {
    let all = options.profile.specs();
    if options.only.is_empty() {
        return Ok(all);
    }
    if let Some(unknown) = options.only.iter().find(|n| !all.iter().any(|s| s.name == **n)) {
        let names: Vec<&str> = all.iter().map(|spec| spec.name.as_str()).collect();
        return Err(Error::Usage(format!(
            "no place of this profile is called {unknown:?}; there are: {}",
            names.join(", ")
        )));
    }
    let asked = |spec: &Spec| options.only.contains(&spec.name);
    let needed = |spec: &Spec| {
        let neighbours = all.iter().filter(|s| asked(s)).filter_map(|s| s.neighbour);
        neighbours.into_iter().any(|(name, _)| name == spec.name)
    };
    Ok(all.iter().filter(|spec| asked(spec) || needed(spec)).cloned().collect())
}

fn measure(
    options: &Options,
    plan: &run::Plan,
    specs: &[Spec],
    results: &mut Results,
) -> Result<()> {
    // Dropped in the opposite order: sites, then mounts and devices, then images.
    leftovers::clean_if_root();
    let scratch = Scratch::beside(&options.ground)?;
    let mut leftovers = Leftovers::begin()?;
    leftovers.note(Thing::Directory(scratch.path().to_owned()))?;
    let mut ground = Ground {
        dir: scratch.path().to_owned(),
        device_bytes: mebibytes(options, &plan.folders) << 20,
        messages_max: plan.folders.iter().max().map_or(0, |most| *most as u64),
        device: options.device.clone(),
        made: 0,
        nfs_root: false,
    };
    let mut sites = Vec::new();
    for spec in specs {
        stop::check()?;
        eprintln!("making {}", spec.name);
        let site = ground.make(spec, &mut leftovers).and_then(|made| {
            let mut site = Site::new(&made.at, &spec.name)?;
            site.goes_whole();
            site.reshape = made.reshape;
            site.place.mkfs = made.mkfs;
            site.place.mount = made.mount;
            site.place.neighbour = spec.neighbour.map(|(name, _)| name.to_owned());
            site.place.choice = spec.neighbour.map_or_else(String::new, |(_, c)| c.to_owned());
            Ok(site)
        });
        match site {
            Ok(site) => sites.push(site),
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => results
                .impossible
                .push(Impossible { name: spec.name.clone(), reason: error.to_string() }),
        }
    }
    if sites.is_empty() {
        return Ok(());
    }
    run::run(plan, sites, results)
}

/// Makes one filesystem on a loop file in `dir`, and mounts it there. Whoever notes leftovers undoes
/// it.
pub(crate) fn make_one(
    dir: &Path,
    device_bytes: u64,
    filesystem: &'static str,
    mkfs: Vec<&'static str>,
    mount: Vec<&'static str>,
    leftovers: &mut Leftovers,
) -> Result<PathBuf> {
    let dir = dir.to_owned();
    let mut ground =
        Ground { dir, device_bytes, device: None, made: 0, messages_max: 0, nfs_root: false };
    let spec = Spec { mkfs, mount, ..Spec::plain(filesystem) };
    Ok(ground.make(&spec, leftovers)?.at)
}

/// Runs `specs` in a guest, and takes its results over.
fn in_guest(options: &Options, sizes: &Sizes, specs: &[Spec], results: &mut Results) -> Result<()> {
    let served_by_program = specs.iter().any(|spec| matches!(spec.stack, Stack::Ganesha));
    let packages = if served_by_program { ganesha::PACKAGES } else { &[] };
    let mut guest = match Guest::prepare(&options.ground, packages) {
        Ok(guest) => guest,
        Err(Error::Stopped) => return Err(Error::Stopped),
        Err(error) => {
            let name = "the guest for what cannot be done here".to_owned();
            results.impossible.push(Impossible { name, reason: error.to_string() });
            return Ok(());
        }
    };
    let mut names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    // Times of a guest mean something only beside another time of that guest.
    if !names.contains(&REFERENCE) {
        names.insert(0, REFERENCE);
    }
    let folders = sizes.plan()?.folders;
    let workloads: Vec<String> = sizes.workload.iter().map(|w| w.name()).collect();
    let list = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let profile = clap::ValueEnum::to_possible_value(&options.profile);
    let mut command = format!(
        "matrix --in /mnt --profile {} --only '{}' --out /host/guest.json --size {} --folder {} \
         --concurrency {} --rounds {} --warm-up {} --operations {} --seconds {} --message-bytes {} \
         --aged {} --mix {} --seed {}",
        profile.as_ref().map_or("full", |v| v.get_name()),
        names.join(","),
        mebibytes(options, &folders),
        list(&folders.iter().map(|n| *n as u64).collect::<Vec<_>>()),
        list(&sizes.concurrency),
        sizes.rounds,
        sizes.warm_up,
        sizes.operations,
        sizes.seconds,
        sizes.message_bytes,
        sizes.aged,
        sizes.mix,
        sizes.seed,
    );
    if !workloads.is_empty() {
        command += &format!(" --workload {}", workloads.join(","));
    }
    guest.run(&command, Some(8 << 30))?;
    let mut found = Results::read(&guest.path("guest.json"))?;
    for place in &mut found.places {
        let name = format!("guest: {}", place.name);
        let old = std::mem::replace(&mut place.name, name.clone());
        place.guest = true;
        place.neighbour = place.neighbour.take().map(|neighbour| format!("guest: {neighbour}"));
        place.notes.push(found.machine.kernel.clone());
        found.figures.iter_mut().filter(|f| f.place == old).for_each(|f| f.place = name.clone());
    }
    // What the guest could do is not impossible any more.
    let did = |name: &str| found.places.iter().any(|p| p.name == format!("guest: {name}"));
    results.impossible.retain(|impossible| !did(&impossible.name));
    for impossible in &mut found.impossible {
        impossible.name = format!("guest: {}", impossible.name);
    }
    results.merge(found);
    Ok(())
}
