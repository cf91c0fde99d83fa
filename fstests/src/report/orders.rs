//! Whether fio and postmark put filesystems in the order that our workloads do, where they were
//! measured in the same rounds ([`crate::workload::twins`]).

use clap::ValueEnum;

use super::text::{case_title, ratio};
use crate::schema::{Case, Results};
use crate::stats::Ratio;
use crate::workload::{Workload, twins};

/// Two places under another program's workload and under ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The other program's workload.
    pub theirs: Case,
    /// Ours.
    pub ours: Case,
    /// A place.
    pub place: String,
    /// The place that it is compared with.
    pub other: String,
    /// Rate at `place` divided by the rate at `other`, of theirs.
    pub their_ratio: Ratio,
    /// The same of ours.
    pub our_ratio: Ratio,
}

/// What two orders say of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both call the same place faster.
    Agree,
    /// Each calls another place faster.
    Disagree,
    /// At least one cannot tell the places apart.
    Noise,
}

impl Verdict {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Verdict::Agree => "same order",
            Verdict::Disagree => "opposite",
            Verdict::Noise => "noise",
        }
    }
}

impl Pair {
    /// Whether the orders agree.
    pub fn verdict(&self) -> Verdict {
        let faster = |ratio: &Ratio| ratio.spread.median > 1.0;
        match (self.their_ratio.clear && self.our_ratio.clear, faster(&self.their_ratio)) {
            (false, _) => Verdict::Noise,
            (true, theirs) if theirs == faster(&self.our_ratio) => Verdict::Agree,
            (true, _) => Verdict::Disagree,
        }
    }
}

/// Every pair of places of this machine, under every pair of workloads that do the same.
pub fn orders(results: &Results) -> Vec<Pair> {
    let cases = results.cases();
    let mut pairs = Vec::new();
    for theirs in &cases {
        let Ok(workload) = Workload::from_str(&theirs.workload, false) else { continue };
        let names: Vec<String> = twins(workload).iter().map(|twin| twin.name()).collect();
        for name in names {
            // One at a time, and of several folders the smallest: theirs are small.
            let mut same = cases.iter().filter(|c| c.concurrency == 1 && c.workload == name);
            if let Some(ours) = same.next() {
                pairs.extend(pairs_of(results, theirs, ours));
            }
        }
    }
    pairs
}

fn pairs_of(results: &Results, theirs: &Case, ours: &Case) -> Vec<Pair> {
    let places: Vec<&str> =
        results.places.iter().filter(|p| !p.guest).map(|p| p.name.as_str()).collect();
    let ratio = |case: &Case, place: &str, other: &str| {
        let (this, that) = (results.figure(place, case)?, results.figure(other, case)?);
        Ratio::of(&this.per_second, &that.per_second)
    };
    let mut pairs = Vec::new();
    for (at, other) in places.iter().enumerate() {
        for place in &places[at + 1..] {
            if let (Some(their_ratio), Some(our_ratio)) =
                (ratio(theirs, place, other), ratio(ours, place, other))
            {
                pairs.push(Pair {
                    theirs: theirs.clone(),
                    ours: ours.clone(),
                    place: (*place).to_owned(),
                    other: (*other).to_owned(),
                    their_ratio,
                    our_ratio,
                });
            }
        }
    }
    pairs
}

/// Counts of a list: agree, disagree, noise.
pub fn counts(pairs: &[Pair]) -> [usize; 3] {
    [Verdict::Agree, Verdict::Disagree, Verdict::Noise]
        .map(|verdict| pairs.iter().filter(|pair| pair.verdict() == verdict).count())
}

/// How the pairs of one workload of theirs and one of ours came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// The other program's.
    pub theirs: Case,
    /// Ours.
    pub ours: Case,
    /// As [`counts`].
    pub counts: [usize; 3],
}

/// The pairs by what was compared.
pub fn tallies(pairs: &[Pair]) -> Vec<Tally> {
    let mut all: Vec<Tally> = Vec::new();
    for group in pairs.chunk_by(|a, b| a.theirs == b.theirs && a.ours == b.ours) {
        let (theirs, ours) = (group[0].theirs.clone(), group[0].ours.clone());
        all.push(Tally { theirs, ours, counts: counts(group) });
    }
    all
}

/// Every place's rate as a share of the first place's, as theirs and ours see it: the heading, then
/// a row a place.
pub fn standings(results: &Results, tallies: &[Tally]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut columns: Vec<&Case> = Vec::new();
    for case in tallies.iter().flat_map(|tally| [&tally.theirs, &tally.ours]) {
        if !columns.contains(&case) {
            columns.push(case);
        }
    }
    let places: Vec<&str> =
        results.places.iter().filter(|p| !p.guest).map(|p| p.name.as_str()).collect();
    let Some((first, others)) = places.split_first() else { return Default::default() };
    let against = |place: &str, case: &Case| {
        let (this, that) = (results.figure(place, case)?, results.figure(first, case)?);
        Ratio::of(&this.per_second, &that.per_second)
    };
    let head = std::iter::once(format!("to {first}"));
    let head = head.chain(columns.iter().map(|case| case_title(case))).collect();
    let rows = others.iter().map(|place| {
        let cells = columns.iter().map(|case| {
            against(place, case).map_or_else(String::new, |of| {
                let noise = if of.clear { "" } else { " (noise)" };
                format!("{}{noise}", ratio(of.spread.median))
            })
        });
        std::iter::once((*place).to_owned()).chain(cells).collect()
    });
    (head, rows.collect())
}

/// What is known of why they need not agree, for the reader of a pair in the opposite order.
pub const WHY: &str = "They need not agree. fio syncs each file when it closes it, and at its end all \
    of them again, which costs a flush on ext4 and xfs and nothing on btrfs. A delivery syncs the file, \
    renames it and syncs its directory, and by the log it writes the log as well: a journal takes \
    the second sync in a block or two more, btrfs writes its log tree anew. Where orders differ, compare \
    writes and flushes of one operation, below. postmark syncs nothing, and appends to and reads its \
    files, which ours do not.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Figure, Place, Settings};

    #[test]
    fn orders_agree_disagree_or_are_within_noise() {
        let mut results = Results::new(Settings::default());
        for name in ["ext4", "xfs", "btrfs"] {
            results.places.push(Place { name: name.into(), ..Place::default() });
        }
        let mut figure = |place: &str, workload: &str, rate: f64| {
            results.figures.push(Figure {
                place: place.into(),
                workload: workload.into(),
                concurrency: 1,
                per_second: [1.0, 1.02, 0.99, 1.01, 1.0].map(|r| r * rate).to_vec(),
                ..Figure::default()
            });
        };
        for (place, fio, ours) in
            [("ext4", 100.0, 50.0), ("xfs", 200.0, 90.0), ("btrfs", 101.0, 20.0)]
        {
            figure(place, "fio", fio);
            figure(place, "deliver-rename", ours);
            figure(place, "list", 1.0);
        }
        let pairs = orders(&results);
        let verdicts: Vec<_> = pairs.iter().map(|p| (&*p.place, &*p.other, p.verdict())).collect();
        assert_eq!(
            verdicts,
            [
                ("xfs", "ext4", Verdict::Agree),
                ("btrfs", "ext4", Verdict::Noise),
                ("btrfs", "xfs", Verdict::Agree)
            ]
        );
        let tally = tallies(&pairs).remove(0);
        assert_eq!(tally.counts, [2, 0, 1]);
        let (head, rows) = standings(&results, &[tally]);
        assert_eq!(head, ["to ext4", "fio", "deliver-rename"]);
        assert_eq!(rows[1], ["btrfs", "1.01 (noise)", "0.40"]);
        for figure in results.figures.iter_mut().filter(|f| f.workload == "fio") {
            figure.per_second.iter_mut().for_each(|rate| *rate = 1e4 / *rate);
        }
        assert_eq!(counts(&orders(&results)), [0, 2, 1]);
    }
}
