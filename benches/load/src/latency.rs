//! Latencies of single operations, kept whole: a run has at most a few million.

use std::time::Duration;

/// Samples in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    pub(crate) fn push(&mut self, duration: Duration) {
        self.0.push(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX));
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sorts, and hands back the value in milliseconds below which `share` of the samples lie
    /// (nearest rank); 0 without samples.
    pub(crate) fn quantile_ms(&mut self, share: f64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        self.0.sort_unstable();
        let rank = (share * self.0.len() as f64).ceil() as usize;
        f64::from(self.0[rank.clamp(1, self.0.len()) - 1]) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_rank() {
        let mut latencies = Latencies::default();
        for ms in (1..=1000).rev() {
            latencies.push(Duration::from_millis(ms));
        }
        assert_eq!(latencies.quantile_ms(0.5), 500.0);
        assert_eq!(latencies.quantile_ms(0.99), 990.0);
        assert_eq!(latencies.quantile_ms(0.999), 999.0);
        assert_eq!(latencies.quantile_ms(1.0), 1000.0);
        assert_eq!(Latencies::default().quantile_ms(0.5), 0.0);
    }
}
