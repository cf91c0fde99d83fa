//! What a run found, for people (a table) and for scripts (JSON).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::meter::Meter;

/// Whether a larger value is the better one.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One measured quantity with a sample for each round.
#[derive(Debug, Serialize)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) samples: Vec<f64>,
}

/// All of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) workload: String,
    pub(crate) target: String,
    pub(crate) parameters: BTreeMap<&'static str, String>,
    pub(crate) metrics: Vec<Metric>,
    /// What was verified, in words; a failed check fails the run instead.
    pub(crate) checks: Vec<String>,
    /// Over the timed sections only.
    pub(crate) wall_seconds: f64,
    pub(crate) client_cpu_seconds: f64,
    /// Of the process trees given by `--pid`; none when no pid was given.
    pub(crate) server_cpu_seconds: Option<f64>,
}

/// What a workload collects while it runs.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) parameters: BTreeMap<&'static str, String>,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) checks: Vec<String>,
}

impl Findings {
    /// Adds a sample to the metric `name`, which is made at its first sample.
    pub(crate) fn sample(&mut self, name: &str, unit: &'static str, better: Better, value: f64) {
        if let Some(metric) = self.metrics.iter_mut().find(|metric| metric.name == name) {
            metric.samples.push(value);
            return;
        }
        self.metrics.push(Metric { name: name.to_owned(), unit, better, samples: vec![value] });
    }

    /// Drops the first samples of each metric, of rounds that were to warm what is measured.
    pub(crate) fn forget(&mut self, warm: usize) {
        for metric in &mut self.metrics {
            metric.samples.drain(..warm.min(metric.samples.len()));
        }
    }

    /// Takes the samples of another run, whose metrics are called by `prefix` and their names here.
    pub(crate) fn adopt(&mut self, prefix: &str, other: Findings) {
        for mut metric in other.metrics {
            metric.name = format!("{prefix} {}", metric.name);
            match self.metrics.iter_mut().find(|known| known.name == metric.name) {
                Some(known) => known.samples.append(&mut metric.samples),
                None => self.metrics.push(metric),
            }
        }
    }

    pub(crate) fn parameter(&mut self, name: &'static str, value: impl ToString) {
        self.parameters.insert(name, value.to_string());
    }

    /// Records that `what` was verified (once, however many rounds say so).
    pub(crate) fn checked(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.checks.contains(&what) {
            self.checks.push(what);
        }
    }

    pub(crate) fn into_report(self, workload: String, target: String, meter: &Meter) -> Report {
        Report {
            workload,
            target,
            parameters: self.parameters,
            metrics: self.metrics,
            checks: self.checks,
            wall_seconds: meter.wall.as_secs_f64(),
            client_cpu_seconds: meter.client_cpu,
            server_cpu_seconds: (!meter.pids().is_empty()).then_some(meter.server_cpu),
        }
    }
}

impl Report {
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    pub(crate) fn to_table(&self) -> String {
        let mut text = format!("{} on {}\n", self.workload, self.target);
        for (name, value) in &self.parameters {
            let _ = writeln!(text, "  {name} = {value}");
        }
        let width = self.metrics.iter().map(|metric| metric.name.len()).max().unwrap_or(0).max(6);
        let _ = writeln!(
            text,
            "  {:width$}  {:>12}  {:>12}  {:>12}  unit (samples)",
            "metric", "median", "min", "max"
        );
        for metric in &self.metrics {
            let mut sorted = metric.samples.clone();
            sorted.sort_by(f64::total_cmp);
            let _ = writeln!(
                text,
                "  {:width$}  {:>12}  {:>12}  {:>12}  {} ({})",
                metric.name,
                number(median(&sorted)),
                number(sorted.first().copied().unwrap_or(0.0)),
                number(sorted.last().copied().unwrap_or(0.0)),
                metric.unit,
                sorted.len(),
            );
        }
        let _ = write!(
            text,
            "  timed {:.3} s; CPU: client {:.3} s",
            self.wall_seconds, self.client_cpu_seconds
        );
        if let Some(server) = self.server_cpu_seconds {
            let _ = write!(text, ", server {server:.2} s");
        }
        text.push('\n');
        for check in &self.checks {
            let _ = writeln!(text, "  checked: {check}");
        }
        text
    }
}

/// The middle of sorted samples.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_even_and_odd() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 3.0]), 2.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn samples_of_one_name_gather() {
        let mut findings = Findings::default();
        findings.sample("rate", "1/s", Better::Higher, 1.0);
        findings.sample("rate", "1/s", Better::Higher, 2.0);
        assert_eq!(findings.metrics.len(), 1);
        assert_eq!(findings.metrics[0].samples, [1.0, 2.0]);
        findings.forget(1);
        assert_eq!(findings.metrics[0].samples, [2.0]);
        let mut all = Findings::default();
        all.adopt("floor", findings);
        assert_eq!(
            (all.metrics[0].name.as_str(), &all.metrics[0].samples[..]),
            ("floor rate", &[2.0][..])
        );
    }
}
