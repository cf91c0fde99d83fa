//! Tables for a terminal.

use std::fmt::Write as _;

use crate::schema::{Case, Results};
use crate::stats::Ratio;

/// A case in a few words.
pub fn case_title(case: &Case) -> String {
    let mut title = case.workload.clone();
    if case.folder > 0 {
        let folder = match case.folder {
            small @ ..10_000 => small.to_string(),
            large => grouped(large as i64),
        };
        let _ = write!(title, ", folder of {folder}");
    }
    if case.concurrency > 1 {
        let _ = write!(title, ", {} at a time", case.concurrency);
    }
    title
}

/// A number with as many digits as say something.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => grouped(value.round() as i64),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A ratio: two digits behind the point, more where those would be zero.
pub fn ratio(value: f64) -> String {
    match value {
        v if v >= 0.095 || v <= 0.0 => format!("{v:.2}"),
        v if v >= 0.0095 => format!("{v:.3}"),
        v => format!("{v:.4}"),
    }
}

fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0 { format!("-{out}") } else { out }
}

/// A line of one figure's table.
pub(super) struct Row {
    pub(super) place: String,
    pub(super) median: String,
    pub(super) spread: String,
    /// Latency in microseconds: half, 99 %, 99.9 %.
    pub(super) latency: [String; 3],
    /// Against the first place.
    pub(super) ratio: String,
}

/// The rows of a case, the first place first.
pub(super) fn rows(results: &Results, case: &Case) -> Vec<Row> {
    let mut rows = Vec::new();
    // A guest's times stand beside the guest's alone.
    let mut firsts: [Option<&[f64]>; 2] = [None; 2];
    for place in &results.places {
        let Some(figure) = results.figure(&place.name, case) else { continue };
        let Some(spread) = figure.spread() else { continue };
        let first = &mut firsts[usize::from(place.guest)];
        let ratio = first.and_then(|first| Ratio::of(&figure.per_second, first));
        *first = first.or(Some(&figure.per_second));
        let latency = figure.latency.as_ref().map(|l| [l.p50_us, l.p99_us, l.p999_us]);
        let guest = if place.guest { " (guest: times are no figures)" } else { "" };
        rows.push(Row {
            place: format!("{}{guest}", place.name),
            median: number(spread.median),
            spread: format!("{} to {}", number(spread.low), number(spread.high)),
            latency: latency.map_or_else(Default::default, |l| l.map(number)),
            ratio: ratio.map_or("1".to_owned(), |ratio| ratio.text()),
        });
    }
    rows
}

/// All figures, a table a case.
pub fn summary(results: &Results) -> String {
    let mut out = String::new();
    let width = results.places.iter().map(|p| p.name.len()).max().unwrap_or(0).max(10);
    for case in results.cases() {
        let _ = writeln!(out, "\n{}", case_title(&case));
        let _ = writeln!(
            out,
            "  {:<width$} {:>12} {:>24} {:>9} {:>9} {:>9}  to the first",
            "", "a second", "rounds", "p50 us", "p99 us", "p99.9 us"
        );
        for Row { place, median, spread, latency: [p50, p99, p999], ratio } in rows(results, &case)
        {
            let _ = writeln!(
                out,
                "  {place:<width$} {median:>12} {spread:>24} {p50:>9} {p99:>9} {p999:>9}  {ratio}"
            );
        }
    }
    for place in &results.places {
        if let Some(flush) = &place.flush {
            let _ =
                writeln!(out, "\nflushes of {}: {:?}: {}", place.name, flush.verdict, flush.reason);
        }
    }
    for impossible in &results.impossible {
        let _ = writeln!(out, "not done: {}: {}", impossible.name, impossible.reason);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::compare::tests::example;
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let texts = [0.123, 12.34, 123.4, 1234.4, 1_234_567.0, -1234.0].map(number);
        assert_eq!(texts, ["0.12", "12.3", "123", "1,234", "1,234,567", "-1,234"]);
    }

    #[test]
    fn a_small_ratio_is_not_zero() {
        let texts = [1.234, 0.5, 0.0432, 0.0051, 0.0].map(ratio);
        assert_eq!(texts, ["1.23", "0.50", "0.043", "0.0051", "0.00"]);
    }

    #[test]
    fn the_summary_has_each_place_with_its_ratio_and_what_was_not_done() {
        let text = summary(&example());
        assert!(text.contains("deliver-rename, folder of 100\n"), "{text}");
        assert!(text.contains("0.50 (0.50 to 0.50)"), "{text}");
        assert!(text.contains("within noise"), "{text}");
        assert!(text.contains("not done: zfs: no module"), "{text}");
    }
}
