//! What an option costs: a place against the one that differs from it in that option alone.

use crate::schema::{Case, Results};
use crate::stats::Ratio;

/// An option's cost in one case.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionCost {
    /// The place with the option.
    pub place: String,
    /// The one without.
    pub neighbour: String,
    /// The option.
    pub choice: String,
    /// What was measured.
    pub case: Case,
    /// Its rate divided by the neighbour's: below 1 the option costs, above it gains.
    pub ratio: Ratio,
}

/// Every option's cost, in order of places and cases. Guests' times are no figures and not here.
pub fn option_costs(results: &Results) -> Vec<OptionCost> {
    let mut costs = Vec::new();
    for place in results.places.iter().filter(|place| !place.guest) {
        let Some(neighbour) = &place.neighbour else { continue };
        for case in results.cases() {
            let (Some(this), Some(that)) =
                (results.figure(&place.name, &case), results.figure(neighbour, &case))
            else {
                continue;
            };
            if let Some(ratio) = Ratio::of(&this.per_second, &that.per_second) {
                costs.push(OptionCost {
                    place: place.name.clone(),
                    neighbour: neighbour.clone(),
                    choice: place.choice.clone(),
                    case,
                    ratio,
                });
            }
        }
    }
    costs
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::schema::{Crash, Figure, Impossible, Place, Settings};
    use crate::stats::{Latency, Samples};
    use std::time::Duration;

    fn latency(us: u64) -> Option<Latency> {
        let mut samples = Samples::default();
        (1..=100).for_each(|n| samples.push(Duration::from_micros(us * n)));
        samples.latency()
    }

    /// Two places, of which the second is clearly slower at deliveries and not at listings.
    pub(crate) fn example() -> Results {
        let mut results = Results::new(Settings { rounds: 5, ..Settings::default() });
        results.places.push(Place {
            name: "ext4".into(),
            filesystem: "ext4".into(),
            mkfs: "mke2fs -t ext4".into(),
            ..Place::default()
        });
        results.places.push(Place {
            name: "ext4 <journal>".into(),
            filesystem: "ext4".into(),
            neighbour: Some("ext4".into()),
            choice: "data=journal".into(),
            ..Place::default()
        });
        let rates = |factor: f64| [100.0, 110.0, 105.0, 108.0, 103.0].map(|r| r * factor).to_vec();
        for (place, workload, folder, per_second) in [
            ("ext4", "deliver-rename", 100, rates(1.0)),
            ("ext4", "deliver-rename", 10_000, rates(0.9)),
            ("ext4", "list", 100, rates(10.0)),
            ("ext4 <journal>", "deliver-rename", 100, rates(0.5)),
            ("ext4 <journal>", "deliver-rename", 10_000, rates(0.4)),
            ("ext4 <journal>", "list", 100, rates(10.1)),
        ] {
            results.figures.push(Figure {
                place: place.into(),
                workload: workload.into(),
                folder,
                concurrency: 1,
                cache: "warm".into(),
                per_second,
                latency: latency(folder as u64),
                notes: vec![],
            });
        }
        results.impossible.push(Impossible { name: "zfs".into(), reason: "no module".into() });
        results.crashes.push(Crash {
            filesystem: "ext4".into(),
            writer: "by hand".into(),
            cuts: 10,
            acknowledged: 100,
            ..Crash::default()
        });
        results
    }

    #[test]
    fn an_option_that_costs_is_told_from_one_within_noise() {
        let costs = option_costs(&example());
        let find = |workload: &str| {
            costs.iter().find(|c| c.case.workload == workload && c.case.folder == 100).unwrap()
        };
        let delivery = find("deliver-rename");
        assert!(delivery.ratio.clear && (delivery.ratio.spread.median - 0.5).abs() < 1e-9);
        assert_eq!(delivery.choice, "data=journal");
        assert!(!find("list").ratio.clear);
    }

    #[test]
    fn figures_of_guests_are_not_compared() {
        let mut results = example();
        results.places[1].guest = true;
        assert!(option_costs(&results).is_empty());
    }
}
