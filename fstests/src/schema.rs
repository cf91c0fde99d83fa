//! The saved form of results: JSON with a version.
//!
//! Version rule: readers refuse a greater [`VERSION`] and take older ones of it, as fields are only
//! added, with a default. Times are microseconds or seconds as names say, sizes bytes.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::facts::{Device, FlushTruth, Machine, Work};
use crate::stats::{Latency, Spread};

/// Of what this program writes.
pub const VERSION: u32 = 1;

/// Everything that one run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`VERSION`] of who wrote it.
    pub schema: u32,
    /// Version of the program.
    pub program: String,
    /// Its command line.
    pub command: String,
    /// When it ended, RFC 3339, UTC.
    pub at: String,
    /// Where.
    pub machine: Machine,
    /// Sizes of the run.
    pub settings: Settings,
    /// What was compared.
    pub places: Vec<Place>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// What could not be done here.
    #[serde(default)]
    pub impossible: Vec<Impossible>,
    /// What power cuts left.
    #[serde(default)]
    pub crashes: Vec<Crash>,
}

/// How large and how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Rounds of each measurement.
    pub rounds: usize,
    /// Rounds before them that are thrown away.
    pub warm_up_rounds: usize,
    /// Operations of one measurement, at most.
    pub operations: usize,
    /// Seconds of one measurement, at most.
    pub seconds_max: f64,
    /// Mean size of messages.
    pub message_bytes_mean: u32,
    /// Of messages and of the order of operations.
    pub seed: u64,
    /// Deliveries and removals made before the first measurement; 0: fresh.
    pub aged_operations: usize,
    /// Shares of the mixed day.
    pub mix: String,
}

/// A directory that was measured, and what is under it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// As figures name it.
    pub name: String,
    /// Where it was.
    pub path: String,
    /// As the kernel names it.
    pub filesystem: String,
    /// As mounted: per mount, and per superblock.
    pub options: String,
    /// What is mounted.
    pub source: String,
    /// How it was made, where we made it.
    #[serde(default)]
    pub mkfs: String,
    /// How it was mounted, where we mounted it.
    #[serde(default)]
    pub mount: String,
    /// Block device below.
    #[serde(default)]
    pub device: Option<Device>,
    /// Whether syncs reach the device.
    #[serde(default)]
    pub flush: Option<FlushTruth>,
    /// Differs in one option from this place.
    #[serde(default)]
    pub neighbour: Option<String>,
    /// That option.
    #[serde(default)]
    pub choice: String,
    /// Ran in a guest, whose times are no figures.
    #[serde(default)]
    pub guest: bool,
    /// What else to know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One workload at one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// [`Place::name`].
    pub place: String,
    /// The workload.
    pub workload: String,
    /// Messages in the folder that it works on.
    pub folder: usize,
    /// Operations at a time.
    pub concurrency: usize,
    /// `warm`, or how caches were emptied.
    pub cache: String,
    /// Operations a second, a round each, in order of rounds.
    pub per_second: Vec<f64>,
    /// Of all rounds together.
    pub latency: Option<Latency>,
    /// What one operation made the device do, on average; absent where it was not watched.
    #[serde(default)]
    pub device: Option<Work>,
    /// What else to know.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Figure {
    /// What is measured, without where.
    pub fn case(&self) -> Case {
        Case { workload: self.workload.clone(), folder: self.folder, concurrency: self.concurrency }
    }

    /// Operations a second.
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(&self.per_second)
    }
}

/// What is measured at each place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The workload.
    pub workload: String,
    /// Messages in the folder.
    pub folder: usize,
    /// Operations at a time.
    pub concurrency: usize,
}

/// What could not be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Impossible {
    /// Which place or step.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What power cuts left of a storm of deliveries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Crash {
    /// Filesystem and mode.
    pub filesystem: String,
    /// Who delivered, and how.
    pub writer: String,
    /// Power cuts.
    pub cuts: usize,
    /// Messages acknowledged before a cut, over all cuts.
    pub acknowledged: usize,
    /// Of these, those that were gone or not whole.
    pub lost: usize,
    /// Messages that were there twice.
    pub duplicates: usize,
    /// Cuts after which the filesystem, or the mailbox, could not be used or failed its check.
    pub damaged: usize,
    /// The first that was wrong.
    #[serde(default)]
    pub example: String,
}

impl Results {
    /// Begins results of this program, now.
    pub fn new(settings: Settings) -> Results {
        let now = time::OffsetDateTime::now_utc();
        let now = now.replace_nanosecond(0).unwrap_or(now);
        Results {
            schema: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            at: now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default(),
            machine: Machine::look(),
            settings,
            ..Results::default()
        }
    }

    /// The figure of a place and case.
    pub fn figure(&self, place: &str, case: &Case) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.place == place && figure.case() == *case)
    }

    /// Every case, in order.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases: Vec<Case> = self.figures.iter().map(Figure::case).collect();
        cases.sort();
        cases.dedup();
        cases
    }

    /// Adds another run's results, such as a guest's. Places with the same name are told apart by
    /// a number.
    pub fn merge(&mut self, mut other: Results) {
        for place in &mut other.places {
            let taken = |name: &str| self.places.iter().any(|mine| mine.name == name);
            let old = place.name.clone();
            let mut number = 2;
            while taken(&place.name) {
                place.name = format!("{old} ({number})");
                number += 1;
            }
            if place.name != old {
                other.figures.iter_mut().filter(|f| f.place == old).for_each(|figure| {
                    figure.place = place.name.clone();
                });
            }
        }
        self.places.append(&mut other.places);
        self.figures.append(&mut other.figures);
        self.impossible.append(&mut other.impossible);
        self.crashes.append(&mut other.crashes);
    }

    /// Reads a results file.
    ///
    /// # Errors
    /// When it is not there, no JSON of this kind, or of a newer version.
    pub fn read(path: &Path) -> Result<Results> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let wrong = |reason: String| Error::Results { path: path.to_owned(), reason };
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let head: Head = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("no results of cursus-fstests: {error}")))?;
        if head.schema > VERSION {
            let reason =
                format!("written in form {}, this program reads up to {VERSION}", head.schema);
            return Err(wrong(reason));
        }
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
    }

    /// Writes a results file, whole or not at all.
    ///
    /// # Errors
    /// What the filesystem says.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other);
        let text = text.map_err(Error::io("write", path))?;
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = Path::new(&fresh);
        fs::write(fresh, text).map_err(Error::io("write", fresh))?;
        fs::rename(fresh, path).map_err(Error::io("write", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut results = Results::new(Settings { rounds: 3, ..Settings::default() });
        results.places.push(Place { name: "a".into(), ..Place::default() });
        results.figures.push(Figure {
            place: "a".into(),
            workload: "list".into(),
            per_second: vec![1.0, 3.0, 2.0],
            ..Figure::default()
        });
        results
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        let results = results();
        results.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
    }

    #[test]
    fn a_newer_form_is_refused_and_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        let newer = Results { schema: VERSION + 1, ..results() };
        newer.write(&path).unwrap();
        let said = Results::read(&path).unwrap_err().to_string();
        assert!(said.contains(&format!("written in form {}", VERSION + 1)), "{said}");
        fs::write(&path, "{}").unwrap();
        assert!(Results::read(&path).unwrap_err().to_string().contains("no results"));
    }

    #[test]
    fn merged_places_keep_their_own_figures() {
        let mut all = results();
        let mut other = results();
        other.figures[0].per_second = vec![9.0];
        all.merge(other);
        assert_eq!(all.places[1].name, "a (2)");
        let case = all.cases().remove(0);
        assert_eq!(all.figure("a (2)", &case).unwrap().per_second, vec![9.0]);
        assert_eq!(all.figure("a", &case).unwrap().spread().unwrap().median, 2.0);
    }
}
