//! Places compared side by side: every case is measured at each of them in turn, A B C A B C, in
//! rounds, so that the machine's other work meets all alike.
//!
//! A round begins with another place each time. Each measurement has an empty directory of its own,
//! which is removed afterwards, and begins after a sync of the filesystem. The folder that readers
//! share is made once for a size.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::io::Storage;
use engine::io::blocking::Blocking;

use crate::error::{Error, Result};
use crate::facts::{Device, FlushTruth, Mount, Watch, Work};
use crate::progress::Progress;
use crate::schema::{Figure, Impossible, Place, Results, Settings};
use crate::scratch::Scratch;
use crate::stats::Samples;
use crate::stop;
use crate::workload::{
    Bench, Corpus, FULL_MESSAGES_MAX, Hand, Mix, SHORT_MESSAGES_MAX, Spool, Trace, Workload,
};

/// What is to be measured everywhere.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Loops.
    pub workloads: Vec<Workload>,
    /// Messages in the folder that loops work on, each size for itself.
    pub folders: Vec<usize>,
    /// Operations at a time, each for itself.
    pub concurrency: Vec<usize>,
    /// Rounds and sizes.
    pub settings: Settings,
    /// Shares of the mixed day.
    pub mix: Mix,
    /// What is replayed.
    pub trace: Option<Trace>,
    /// Time that filling one folder may take.
    pub fill_max: Duration,
}

/// Makes a place ready for a large folder to be filled (`true`), or as it is to be measured again
/// (`false`).
pub type Reshape = Box<dyn Fn(bool) -> Result<()>>;

/// A place and the directory of ours in it.
pub struct Site {
    /// Its facts.
    pub place: Place,
    /// For places where filling a large folder would take too long as they are.
    pub reshape: Option<Reshape>,
    scratch: Scratch,
    watch: Option<Watch>,
}

impl Site {
    /// Takes an empty directory as a place, and looks at what it is on.
    ///
    /// # Errors
    /// When the directory holds data, or its mount is not found.
    pub fn new(dir: &Path, name: &str) -> Result<Site> {
        let scratch = Scratch::alone(dir)?;
        let mount = Mount::of(dir)?;
        let place = Place {
            name: name.to_owned(),
            path: dir.display().to_string(),
            filesystem: mount.filesystem.clone(),
            options: mount.options_text(),
            source: mount.source.clone(),
            device: Device::of(&mount),
            flush: Some(FlushTruth::test(&Blocking::new(), scratch.path())?),
            ..Place::default()
        };
        let watch = Watch::of(&mount);
        Ok(Site { place, reshape: None, scratch, watch })
    }

    /// The whole filesystem goes when the run has ended: nothing need be removed before.
    pub fn goes_whole(&mut self) {
        self.scratch.keep();
    }
}

/// One case of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    workload: Workload,
    concurrency: usize,
}

impl Plan {
    /// The cases for the `number`th size of folder: those that no folder matters to come with the
    /// first, and many at a time are tried on the first only.
    fn cases(&self, number: usize) -> Vec<Case> {
        let mut cases = Vec::new();
        for &workload in &self.workloads {
            if number > 0 && !workload.uses_folder() {
                continue;
            }
            let many = number == 0 && workload.scales();
            let concurrency = if many { self.concurrency.as_slice() } else { &[1] };
            cases.extend(concurrency.iter().map(|&concurrency| Case { workload, concurrency }));
        }
        cases
    }

    fn steps(&self, sites: usize) -> u64 {
        let rounds = self.settings.rounds + self.settings.warm_up_rounds;
        let cases: usize = (0..self.folders.len()).map(|n| self.cases(n).len() * rounds).sum();
        let fills: u64 = self.folders.iter().map(|size| fill_steps(*size)).sum();
        (cases as u64 + fills) * sites as u64
    }
}

/// How many measurements filling a folder takes as long as.
fn fill_steps(size: usize) -> u64 {
    (size as u64 / 20_000).max(1)
}

/// Folders larger than this are filled with their place reshaped for it, where it can be.
const RESHAPE_MIN: usize = 10_000;
/// Messages of folders that are not left in the kernel's caches when they are filled, so that
/// places with larger caches don't push others' out.
const UNCACHED_MIN: usize = 100_000;

/// Measures, and adds places and figures to `results`. What cannot be done at one place is noted
/// there and does not end the run.
///
/// # Errors
/// [`Error::Stopped`] on Ctrl-C; what was measured until then is in `results`.
pub fn run(plan: &Plan, sites: Vec<Site>, results: &mut Results) -> Result<()> {
    let mut progress = Progress::new(plan.steps(sites.len()));
    let corpus = Corpus::new(plan.settings.seed, plan.settings.message_bytes_mean);
    results.places.extend(sites.iter().map(|site| site.place.clone()));
    let runner = Runner { plan, corpus };
    for site in &sites {
        runner.age(site)?;
    }
    for (number, &size) in plan.folders.iter().enumerate() {
        let mut folders = Vec::new();
        for site in &sites {
            let place = &site.place.name;
            progress.begin(&format!("{place}: a folder of {size} messages"));
            let made = runner.folder(site, size);
            if let Err(Error::Stopped) = made {
                return Err(Error::Stopped);
            }
            if let Err(error) = &made {
                let name = format!("a folder of {size} on {place}");
                results.impossible.push(Impossible { name, reason: error.to_string() });
            }
            folders.push(made.ok());
            progress.steps(fill_steps(size));
        }
        if size >= UNCACHED_MIN {
            rustix::fs::sync();
            // Root alone may.
            let _ = std::fs::write("/proc/sys/vm/drop_caches", "3");
        }
        for case in plan.cases(number) {
            runner.case(case, size, &sites, &folders, results, &mut progress)?;
        }
        drop(folders);
        let last = number + 1 == plan.folders.len();
        // What goes with its filesystem needs no removal.
        for site in sites.iter().filter(|site| !(last && site.scratch.is_kept())) {
            let root = site.scratch.path().join(format!("folder-{size}"));
            std::fs::remove_dir_all(&root).map_err(Error::io("remove", &root))?;
        }
    }
    Ok(())
}

struct Runner<'a> {
    plan: &'a Plan,
    corpus: Corpus,
}

/// The operating system's files.
fn storage() -> Arc<dyn Storage> {
    Arc::new(Blocking::new())
}

/// Figures of one case at one place, as they come in.
#[derive(Default)]
struct Gathered {
    per_second: Vec<f64>,
    samples: Samples,
    cache: &'static str,
    notes: Vec<String>,
    device: Option<Work>,
    operations: u64,
    trouble: Option<String>,
}

impl Runner<'_> {
    fn folder(&self, site: &Site, size: usize) -> Result<Spool> {
        let reshape = |filling: bool| match &site.reshape {
            Some(reshape) if size > RESHAPE_MIN => reshape(filling),
            _ => Ok(()),
        };
        reshape(true)?;
        let root = site.scratch.create(&format!("folder-{size}"))?;
        let spool = Spool::create(storage(), &root, "folder")?;
        let filled = spool.fill(&self.corpus, size, self.plan.fill_max);
        let spool = spool.through(storage());
        reshape(false)?;
        filled.map(|()| spool)
    }

    /// Deliveries, each third of which is removed again, so that free space is in pieces.
    fn age(&self, site: &Site) -> Result<()> {
        let count = self.plan.settings.aged_operations;
        if count == 0 {
            return Ok(());
        }
        let root = site.scratch.create("aged")?;
        let spool = Spool::create(storage(), &root, "aged")?;
        for n in 0..count {
            stop::check()?;
            let at = spool.deliver(self.corpus.stored(n), Hand::Rename)?;
            if n % 3 != 0 {
                spool.remove(&at)?;
            }
        }
        Ok(())
    }

    fn case(
        &self,
        case: Case,
        size: usize,
        sites: &[Site],
        folders: &[Option<Spool>],
        results: &mut Results,
        progress: &mut Progress,
    ) -> Result<()> {
        let settings = &self.plan.settings;
        let mut gathered: Vec<Gathered> = sites.iter().map(|_| Gathered::default()).collect();
        for round in 0..settings.warm_up_rounds + settings.rounds {
            for turn in 0..sites.len() {
                let at = (turn + round) % sites.len();
                let (site, mine) = (&sites[at], &mut gathered[at]);
                progress.begin(&format!("{}: {}", site.place.name, case.workload.name()));
                let counts = round >= settings.warm_up_rounds;
                // One that could not be filled was told of.
                if let (None, Some(folder)) = (&mine.trouble, &folders[at]) {
                    match self.once(case, round, site, folder) {
                        Ok(measured) if counts => {
                            mine.operations += match measured.samples.count() {
                                0 => measured.units,
                                count => count as u64,
                            };
                            mine.device = match (mine.device, measured.device) {
                                (Some(sum), Some(more)) => Some(sum.plus(more)),
                                (_, first) => first,
                            };
                            mine.per_second.push(measured.per_second());
                            mine.samples.merge(measured.samples);
                            mine.cache = measured.cache;
                            mine.notes = measured.notes;
                        }
                        Ok(_) => {}
                        Err(Error::Stopped) => return Err(Error::Stopped),
                        Err(error) => mine.trouble = Some(error.to_string()),
                    }
                }
                progress.step();
            }
        }
        for (site, mine) in sites.iter().zip(gathered) {
            let (place, workload) = (site.place.name.clone(), case.workload.name());
            if let Some(reason) = mine.trouble {
                results
                    .impossible
                    .push(Impossible { name: format!("{workload} on {place}"), reason });
                continue;
            }
            if mine.per_second.is_empty() {
                continue;
            }
            let mut notes = mine.notes;
            if case.workload.uses_folder() && size > SHORT_MESSAGES_MAX {
                notes.push("messages of the folder are empty".to_owned());
            } else if case.workload.uses_folder() && size > FULL_MESSAGES_MAX {
                notes.push("messages of the folder are short".to_owned());
            }
            results.figures.push(Figure {
                place,
                workload,
                folder: if case.workload.uses_folder() { size } else { 0 },
                concurrency: case.concurrency,
                cache: mine.cache.to_owned(),
                per_second: mine.per_second,
                latency: mine.samples.latency(),
                device: mine.device.map(|device| device.each(mine.operations)),
                notes,
            });
        }
        Ok(())
    }

    /// One measurement in a directory of its own.
    fn once(
        &self,
        case: Case,
        round: usize,
        site: &Site,
        folder: &Spool,
    ) -> Result<crate::workload::Measured> {
        stop::check()?;
        let dir = site.scratch.create("measurement")?;
        folder.settle()?;
        let settings = &self.plan.settings;
        let measured = case.workload.measure(&Bench {
            // Of this folder alone: what it keeps open goes with it, before a place is reshaped.
            storage: folder.storage().clone(),
            dir: &dir,
            folder,
            corpus: &self.corpus,
            operations: settings.operations,
            concurrency: case.concurrency,
            limit: Duration::from_secs_f64(settings.seconds_max),
            seed: settings.seed + round as u64,
            mix: self.plan.mix,
            trace: self.plan.trace.as_ref(),
            watch: site.watch.as_ref(),
        });
        std::fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))?;
        measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(workloads: Vec<Workload>) -> Plan {
        Plan {
            workloads,
            folders: vec![10, 20],
            concurrency: vec![1, 4],
            settings: Settings {
                rounds: 3,
                warm_up_rounds: 1,
                operations: 12,
                seconds_max: 5.0,
                message_bytes_mean: 3000,
                seed: 1,
                ..Settings::default()
            },
            mix: Mix::default(),
            trace: None,
            fill_max: Duration::from_secs(60),
        }
    }

    #[test]
    fn what_has_no_folder_is_measured_once_and_many_at_a_time_on_the_first_folder() {
        let plan = plan(vec![Workload::List, Workload::DeliverRename, Workload::IndexScan]);
        let cases =
            |n| plan.cases(n).iter().map(|c| (c.workload, c.concurrency)).collect::<Vec<_>>();
        assert_eq!(
            cases(0),
            [
                (Workload::List, 1),
                (Workload::DeliverRename, 1),
                (Workload::DeliverRename, 4),
                (Workload::IndexScan, 1)
            ]
        );
        assert_eq!(cases(1), [(Workload::List, 1), (Workload::DeliverRename, 1)]);
        assert_eq!(plan.steps(2), 2 * (4 * 4 + 1 + 2 * 4 + 1));
    }
}
