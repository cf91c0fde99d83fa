//! The report as Markdown.

use std::fmt::Write as _;

use super::compare::{OptionCost, guest_costs, option_costs};
use super::device;
use super::orders::{WHY, counts, orders, standings, tallies};
use super::text::{Row, case_title, rows};
use crate::schema::{Place, Results};

/// A cell: no line ends, no bars.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// The whole report.
pub fn markdown(results: &Results) -> String {
    let mut out = format!("# Filesystems for mail, measured {}\n\n", results.at);
    for line in facts(results) {
        let _ = writeln!(out, "- {line}");
    }
    out.push_str(
        "\n## Places\n\n| place | made by | mounted with | flushes |\n|---|---|---|---|\n",
    );
    for place in &results.places {
        let (flush, options) = (flush_text(place), cell(&place.options));
        let _ = writeln!(
            out,
            "| {} | {} | {options} | {flush} |",
            cell(&place.name),
            cell(&place.mkfs)
        );
    }
    out.push_str("\n## Figures\n");
    for case in results.cases() {
        let _ = writeln!(
            out,
            "\n### {}\n\n| place | a second | rounds | p50 µs | p99 µs | p99.9 µs | to the first |\n\
             |---|---:|---|---:|---:|---:|---|",
            case_title(&case)
        );
        for Row { place, median, spread, latency: [p50, p99, p999], ratio } in rows(results, &case)
        {
            let place = cell(&place);
            let _ = writeln!(
                out,
                "| {place} | {median} | {spread} | {p50} | {p99} | {p999} | {ratio} |"
            );
        }
    }
    let costs = option_costs(results);
    if !costs.is_empty() {
        out.push_str(
            "\n## What an option does\n\nRate with the option divided by the rate of its neighbour \
             without, in the same rounds.\n",
        );
        cost_table(&mut out, &costs, |cost| &cost.choice);
    }
    let costs = guest_costs(results);
    if !costs.is_empty() {
        let _ = writeln!(out, "\n## Within the guest\n\n{GUEST_ABOUT}");
        cost_table(&mut out, &costs, |cost| &cost.place);
    }
    order_table(&mut out, results);
    let rows = device::rows(results);
    if !rows.is_empty() {
        let _ = writeln!(out, "\n## What one operation makes the device do\n\n{}", device::ABOUT);
        plain_table(&mut out, &device::HEAD.map(str::to_owned), &rows);
    }
    if !results.crashes.is_empty() {
        out.push_str(
            "\n## Power cuts\n\n| filesystem | writer | cuts | acknowledged | lost | twice | damaged |\n\
             |---|---|---:|---:|---:|---:|---:|\n",
        );
        for c in &results.crashes {
            let (filesystem, writer) = (cell(&c.filesystem), cell(&c.writer));
            let _ = writeln!(
                out,
                "| {filesystem} | {writer} | {} | {} | {} | {} | {} |",
                c.cuts, c.acknowledged, c.lost, c.duplicates, c.damaged
            );
        }
    }
    if !results.impossible.is_empty() {
        out.push_str("\n## Not done here\n\n| what | why |\n|---|---|\n");
        for one in &results.impossible {
            let _ = writeln!(out, "| {} | {} |", cell(&one.name), cell(&one.reason));
        }
    }
    out
}

/// What is to be known of a guest's ratios.
pub(super) const GUEST_ABOUT: &str = "Rate of a place divided by the rate of its neighbour in the \
    same guest and rounds. The rates themselves are no figures: one processor, system calls many \
    times dearer than outside, and disks that do not pass flushes on.";

fn cost_table(out: &mut String, costs: &[OptionCost], name: fn(&OptionCost) -> &String) {
    out.push_str("\n| option | against | workload | ratio |\n|---|---|---|---|\n");
    for cost in costs {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            cell(name(cost)),
            cell(&cost.neighbour),
            case_title(&cost.case),
            cost.ratio.text()
        );
    }
}

fn plain_table(out: &mut String, head: &[String], rows: &[Vec<String>]) {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let _ = writeln!(out, "\n{}\n{}|", line(head), "|---".repeat(head.len()));
    for row in rows {
        let _ = writeln!(out, "{}", line(row));
    }
}

/// Other programs' orders of the places beside ours.
fn order_table(out: &mut String, results: &Results) {
    let pairs = orders(results);
    if pairs.is_empty() {
        return;
    }
    let [agree, disagree, noise] = counts(&pairs);
    let _ = writeln!(
        out,
        "\n## Beside fio and postmark\n\nRate of one place divided by another's, as these programs \
         see it and as our workloads do, in the same rounds: {agree} pairs in the same order, \
         {disagree} in the opposite one, {noise} that one of both cannot tell apart.\n\n{WHY}\n\n\
         | theirs | ours | same order | opposite | noise |\n|---|---|---:|---:|---:|"
    );
    let tallies = tallies(&pairs);
    for tally in &tallies {
        let [agree, disagree, noise] = tally.counts;
        let (theirs, ours) = (case_title(&tally.theirs), case_title(&tally.ours));
        let _ = writeln!(out, "| {theirs} | {ours} | {agree} | {disagree} | {noise} |");
    }
    let (head, rows) = standings(results, &tallies);
    plain_table(out, &head, &rows);
    out.push_str("\n| places | theirs | ratio | ours | ratio | |\n|---|---|---|---|---|---|\n");
    for pair in pairs {
        let _ = writeln!(
            out,
            "| {} to {} | {} | {} | {} | {} | {} |",
            cell(&pair.place),
            cell(&pair.other),
            case_title(&pair.theirs),
            pair.their_ratio.text(),
            case_title(&pair.ours),
            pair.our_ratio.text(),
            pair.verdict().text()
        );
    }
}

/// The verdict of the flush test in a few words.
pub(super) fn flush_text(place: &Place) -> String {
    place.flush.as_ref().map_or_else(String::new, |flush| cell(&flush.reason))
}

/// Machine and sizes, a line each.
pub(super) fn facts(results: &Results) -> Vec<String> {
    let (machine, settings) = (&results.machine, &results.settings);
    let virtual_machine = if machine.virtual_machine { ", virtual" } else { "" };
    let mut lines = vec![
        format!(
            "{} with {} × {}, {} MiB{virtual_machine}; load {:.1} at the end",
            machine.host,
            machine.processors,
            machine.processor,
            machine.memory_bytes >> 20,
            machine.load_1min
        ),
        machine.kernel.clone(),
        format!(
            "{} rounds after {} to warm up, up to {} operations or {} s each, messages of {} bytes \
             on average, seed {}, {}",
            settings.rounds,
            settings.warm_up_rounds,
            settings.operations,
            settings.seconds_max,
            settings.message_bytes_mean,
            settings.seed,
            match settings.aged_operations {
                0 => "fresh filesystems".to_owned(),
                n => format!("aged by {n} deliveries"),
            }
        ),
        format!("cursus-fstests {} {}", results.program, results.command),
    ];
    lines.extend(machine.versions.iter().cloned());
    if results.places.iter().any(|place| place.guest) {
        lines.push("places of the guest ran in user-mode Linux: their times are no figures".into());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::compare::tests::example;
    use super::*;

    #[test]
    fn the_report_has_figures_options_crashes_and_what_was_not_done() {
        let text = markdown(&example());
        for part in [
            "| data=journal | ext4 | deliver-rename, folder of 100 | 0.50 (0.50 to 0.50) |",
            "| ext4 | by hand | 10 | 100 | 0 | 0 | 0 |",
            "| zfs | no module |",
            "## Figures",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
