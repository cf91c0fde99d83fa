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
use crate::facts::{Device, FlushTruth, Mount};
use crate::progress::Progress;
use crate::schema::{Figure, Impossible, Place, Results, Settings};
use crate::scratch::Scratch;
use crate::stats::Samples;
use crate::stop;
use crate::workload::{Bench, Corpus, Hand, Mix, Spool, Trace, Workload};

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
}

/// A place and the directory of ours in it.
pub struct Site {
    /// Its facts.
    pub place: Place,
    scratch: Scratch,
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
        Ok(Site { place, scratch })
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
        let cases: usize = (0..self.folders.len()).map(|n| self.cases(n).len() * rounds + 1).sum();
        (cases * sites) as u64
    }
}

/// Measures, and adds places and figures to `results`. What cannot be done at one place is noted
/// there and does not end the run.
///
/// # Errors
/// [`Error::Stopped`] on Ctrl-C; what was measured until then is in `results`.
pub fn run(plan: &Plan, sites: Vec<Site>, results: &mut Results) -> Result<()> {
    let mut progress = Progress::new(plan.steps(sites.len()));
    let corpus = Corpus::new(plan.settings.seed, plan.settings.message_bytes_mean);
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    results.places.extend(sites.iter().map(|site| site.place.clone()));
    let runner = Runner { plan, corpus, storage };
    for site in &sites {
        runner.age(site)?;
    }
    for (number, &size) in plan.folders.iter().enumerate() {
        let mut folders = Vec::new();
        for site in &sites {
            progress.begin(&format!("{}: a folder of {size} messages", site.place.name));
            let root = site.scratch.create(&format!("folder-{size}"))?;
            folders.push(runner.folder(&root, size));
            progress.step();
        }
        for case in plan.cases(number) {
            runner.case(case, size, &sites, &folders, results, &mut progress)?;
        }
        drop(folders);
        for site in &sites {
            let root = site.scratch.path().join(format!("folder-{size}"));
            std::fs::remove_dir_all(&root).map_err(Error::io("remove", &root))?;
        }
    }
    Ok(())
}

struct Runner<'a> {
    plan: &'a Plan,
    corpus: Corpus,
    storage: Arc<dyn Storage>,
}

/// Figures of one case at one place, as they come in.
#[derive(Default)]
struct Gathered {
    per_second: Vec<f64>,
    samples: Samples,
    cache: &'static str,
    notes: Vec<String>,
    trouble: Option<String>,
}

impl Runner<'_> {
    fn folder(&self, root: &Path, size: usize) -> Result<Spool> {
        let spool = Spool::create(self.storage.clone(), root, "folder")?;
        spool.fill(&self.corpus, size)?;
        Ok(spool)
    }

    /// Deliveries, each third of which is removed again, so that free space is in pieces.
    fn age(&self, site: &Site) -> Result<()> {
        let count = self.plan.settings.aged_operations;
        if count == 0 {
            return Ok(());
        }
        let root = site.scratch.create("aged")?;
        let spool = Spool::create(self.storage.clone(), &root, "aged")?;
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
        folders: &[Result<Spool>],
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
                if mine.trouble.is_none() {
                    match self.once(case, round, site, &folders[at]) {
                        Ok(measured) if counts => {
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
            let mut notes = mine.notes;
            if case.workload.uses_folder() && size > crate::workload::FULL_MESSAGES_MAX {
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
        folder: &Result<Spool>,
    ) -> Result<crate::workload::Measured> {
        stop::check()?;
        let folder = folder.as_ref().map_err(|error| Error::Usage(error.to_string()))?;
        let dir = site.scratch.create("measurement")?;
        folder.settle()?;
        let settings = &self.plan.settings;
        let measured = case.workload.measure(&Bench {
            storage: self.storage.clone(),
            dir: &dir,
            folder,
            corpus: &self.corpus,
            operations: settings.operations,
            concurrency: case.concurrency,
            limit: Duration::from_secs_f64(settings.seconds_max),
            seed: settings.seed + round as u64,
            mix: self.plan.mix,
            trace: self.plan.trace.as_ref(),
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
