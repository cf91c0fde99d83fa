//! Medians, spreads and latencies, and when a difference is one.
//!
//! Two places are compared by the ratios of their figures in the same round, which met the same
//! noise of the machine. A difference counts only when the rounds' ratios are on one side of 1, but
//! for one of eight at most, and the median is at least [`RATIO_MIN`] away; all else is called
//! noise.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::text::ratio;

/// Ratios nearer to 1 than this are not called a difference.
pub const RATIO_MIN: f64 = 1.05;
/// Rounds below which nothing is called a difference: five fall on one side by chance one time in
/// sixteen, three one time in four.
pub const ROUNDS_MIN: usize = 5;
/// Of so many rounds one may be on the other side.
const ROUNDS_PER_STRAY: usize = 8;
/// Shares of the latency curve that are kept, beside the tail.
const CURVE_POINTS: usize = 20;
const TAIL: [f64; 6] = [0.98, 0.99, 0.995, 0.999, 0.9999, 1.0];

/// Latencies of single operations, kept whole, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<u64>);

impl Samples {
    /// Takes one.
    pub fn push(&mut self, duration: Duration) {
        self.0.push(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes all of another's.
    pub fn merge(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Their distribution; absent without samples.
    pub fn latency(mut self) -> Option<Latency> {
        self.0.sort_unstable();
        let at = |share: f64| quantile(&self.0, share).map(|ns| ns as f64 / 1000.0);
        let shares = (0..CURVE_POINTS).map(|n| n as f64 / CURVE_POINTS as f64).chain(TAIL);
        Some(Latency {
            p50_us: at(0.5)?,
            p99_us: at(0.99)?,
            p999_us: at(0.999)?,
            curve: shares.map(|share| Some((share, at(share)?))).collect::<Option<_>>()?,
        })
    }
}

/// Distribution of latencies, microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half of the operations took at most this.
    pub p50_us: f64,
    /// All but one in a hundred.
    pub p99_us: f64,
    /// All but one in a thousand.
    pub p999_us: f64,
    /// Share of operations (0 to 1), and what they took at most.
    pub curve: Vec<(f64, f64)>,
}

/// Nearest rank in a sorted slice.
fn quantile(sorted: &[u64], share: f64) -> Option<u64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Median of some figures, and the least and greatest of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; the mean of two.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
}

impl Spread {
    /// Of these; absent when there are none.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        };
        Some(Spread { median, low, high })
    }

    /// Width of the spread as a share of the median.
    pub fn noise(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.high - self.low) / self.median }
    }
}

/// One place's figure divided by another's, round by round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Of the rounds' ratios.
    pub spread: Spread,
    /// More than noise.
    pub clear: bool,
}

impl Ratio {
    /// Compares figures of the same rounds, in the same order; absent without a common round.
    pub fn of(these: &[f64], those: &[f64]) -> Option<Ratio> {
        let pairs = these.iter().zip(those).filter(|(_, that)| **that > 0.0);
        let ratios: Vec<f64> = pairs.map(|(this, that)| this / that).collect();
        let spread = Spread::of(&ratios)?;
        let above = ratios.iter().filter(|ratio| **ratio > 1.0).count();
        let below = ratios.iter().filter(|ratio| **ratio < 1.0).count();
        // Of nine rounds one may stray: by chance eight or nine fall on one side 4 times of 100.
        let one_side = above.max(below) >= ratios.len() - ratios.len() / ROUNDS_PER_STRAY;
        let far = spread.median >= RATIO_MIN || spread.median <= 1.0 / RATIO_MIN;
        Some(Ratio { spread, clear: ratios.len() >= ROUNDS_MIN && one_side && far })
    }

    /// For people: `1.82 (1.71 to 1.90)`, or that it is noise.
    pub fn text(&self) -> String {
        let Spread { median, low, high } = self.spread;
        let noise = if self.clear { "" } else { ", within noise" };
        let [median, low, high] = [median, low, high].map(ratio);
        format!("{median} ({low} to {high}{noise})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_rank() {
        let mut samples = Samples::default();
        (1..=1000).rev().for_each(|us| samples.push(Duration::from_micros(us)));
        let latency = samples.latency().unwrap();
        assert_eq!((latency.p50_us, latency.p99_us, latency.p999_us), (500.0, 990.0, 999.0));
        assert_eq!(latency.curve.last(), Some(&(1.0, 1000.0)));
        assert_eq!(latency.curve.first(), Some(&(0.0, 1.0)));
        assert!(Samples::default().latency().is_none());
    }

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_two() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.low, spread.high), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of(&[]), None);
        assert!((spread.noise() - 1.2).abs() < 1e-9);
    }

    #[test]
    fn a_difference_needs_every_round_on_one_side_and_some_distance() {
        let clear = |a: &[f64], b: &[f64]| Ratio::of(a, b).unwrap().clear;
        let ten = [10.0, 11.0, 9.0, 10.0, 10.0];
        let twenty = [20.0, 22.0, 18.0, 20.0, 21.0];
        assert!(clear(&twenty, &ten) && clear(&ten, &twenty));
        // One round on the other side, too near to 1, too few rounds.
        assert!(!clear(&[20.0, 22.0, 8.0, 20.0, 21.0], &ten));
        assert!(!clear(&ten.map(|x| x * 1.02), &ten));
        assert!(!clear(&twenty[..4], &ten[..4]));
        // One of nine may stray, two may not.
        let mut nine = [20.0; 9];
        nine[4] = 8.0;
        assert!(clear(&nine, &[10.0; 9]));
        nine[7] = 8.0;
        assert!(!clear(&nine, &[10.0; 9]));
        assert_eq!(Ratio::of(&[1.0], &[]), None);
    }

    #[test]
    fn noise_is_called_noise() {
        let ratio = Ratio::of(&[2.0, 1.0, 1.0], &[1.0, 1.0, 2.0]).unwrap();
        assert_eq!(ratio.text(), "1.00 (0.50 to 2.00, within noise)");
    }
}
