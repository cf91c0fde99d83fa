//! What an option costs: a place against the one that differs from it in that option alone.

use crate::schema::{Case, Place, Results};
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
        if let Some(neighbour) = &place.neighbour {
            costs_against(results, place, neighbour, &mut costs);
        }
    }
    costs
}

fn costs_against(results: &Results, place: &Place, neighbour: &str, costs: &mut Vec<OptionCost>) {
    for case in results.cases() {
        let (Some(this), Some(that)) =
            (results.figure(&place.name, &case), results.figure(neighbour, &case))
        else {
            continue;
        };
        if let Some(ratio) = Ratio::of(&this.per_second, &that.per_second) {
            costs.push(OptionCost {
                place: place.name.clone(),
                neighbour: neighbour.to_owned(),
                choice: place.choice.clone(),
                case,
                ratio,
            });
        }
    }
}

/// What stands for a guest's places that differ from no other in one option.
const GUEST_REFERENCE: &str = "guest: ext4";

/// The same within the guest: each of its places against its neighbour there, or against the
/// guest's ext4. The times themselves are no figures, and a place of this machine is never on
/// either side.
pub fn guest_costs(results: &Results) -> Vec<OptionCost> {
    let is_guest = |name: &str| results.places.iter().any(|p| p.guest && p.name == name);
    let mut costs = Vec::new();
    for place in results.places.iter().filter(|place| place.guest) {
        let neighbour = place.neighbour.as_deref().filter(|name| is_guest(name));
        let neighbour = neighbour.unwrap_or(GUEST_REFERENCE);
        if neighbour != place.name && is_guest(neighbour) {
            costs_against(results, place, neighbour, &mut costs);
        }
    }
    costs
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::facts::Work;
    use crate::schema::{Crash, Figure, Impossible, Settings};
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
                device: (workload == "deliver-rename").then_some(Work {
                    writes: 6.0,
                    bytes: 40_000.0,
                    flushes: Some(2.0),
                    commits: Some(1.5),
                }),
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
    fn figures_of_guests_are_compared_with_each_other_alone() {
        let mut results = example();
        results.places[1].guest = true;
        assert!(option_costs(&results).is_empty() && guest_costs(&results).is_empty());
        results.places[0].guest = true;
        assert!(option_costs(&results).is_empty());
        let delivery = guest_costs(&results).remove(0);
        assert_eq!((&*delivery.place, &*delivery.neighbour), ("ext4 <journal>", "ext4"));
        assert!(delivery.ratio.clear);
    }
}
