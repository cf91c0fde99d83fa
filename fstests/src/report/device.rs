//! The table of what one operation made the device do.

use super::text::{case_title, number};
use crate::schema::Results;

/// Its heading.
pub(super) const HEAD: [&str; 6] =
    ["workload", "place", "writes", "kilobytes", "flushes", "commits"];
/// What it says.
pub(super) const ABOUT: &str = "Counted by the kernel while the operations ran, on average for each: \
    writes of the filesystem's device, their bytes, its flushes, and commits (of the journal on ext3 \
    and ext4, of the whole filesystem on btrfs, writes of the log on xfs). Counts don't depend on what \
    else the machine does.";

/// A row for each figure whose device was watched, one operation at a time.
pub(super) fn rows(results: &Results) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for case in results.cases().iter().filter(|case| case.concurrency == 1) {
        for place in &results.places {
            let Some(work) = results.figure(&place.name, case).and_then(|f| f.device) else {
                continue;
            };
            let count = |value: Option<f64>| value.map_or_else(String::new, number);
            rows.push(vec![
                case_title(case),
                place.name.clone(),
                number(work.writes),
                number(work.bytes / 1000.0),
                count(work.flushes),
                count(work.commits),
            ]);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::compare::tests::example;
    use super::*;

    #[test]
    fn what_was_watched_has_a_row_and_nothing_else() {
        let rows = rows(&example());
        assert_eq!(rows.len(), 4);
        let cells = ["deliver-rename, folder of 100", "ext4", "6.00", "40.0", "2.00", "1.50"];
        assert_eq!(rows[0], cells);
    }
}
