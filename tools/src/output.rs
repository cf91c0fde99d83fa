//! Tables for people, tab-separated lines for pipes, JSON for programs; progress on a terminal.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Where and how results are printed.
pub struct Output {
    json: bool,
    terminal: bool,
    silent: bool,
}

/// Rows under headings. Columns whose heading begins with `#` are numbers, set to the right.
pub struct Table {
    /// One a column.
    pub headings: &'static [&'static str],
    /// As many cells as headings in each.
    pub rows: Vec<Vec<String>>,
}

impl Output {
    /// To standard output.
    pub fn new(json: bool) -> Output {
        Output { json, terminal: std::io::stdout().is_terminal(), silent: false }
    }

    /// Nowhere: for callers of whom only the exit status is wanted.
    pub fn silent() -> Output {
        Output { json: false, terminal: false, silent: true }
    }

    /// Whether JSON is asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result: `value` for programs, `table` for people and pipes.
    pub fn table(&self, value: &impl Serialize, table: impl FnOnce() -> Table) {
        let text = match (self.json, self.terminal) {
            (true, _) => json_line(value),
            (false, true) => table().aligned(),
            (false, false) => table().tabbed(),
        };
        self.print(&text);
    }

    /// Prints a result that is a sentence for people.
    pub fn line(&self, value: &impl Serialize, text: &str) {
        self.print(&if self.json { json_line(value) } else { format!("{text}\n") });
    }

    /// A closed pipe means that nobody wants the rest.
    fn print(&self, text: &str) {
        if !self.silent {
            let _ = std::io::stdout().write_all(text.as_bytes());
        }
    }

    /// A bar over `total` steps, on standard error if that is a terminal and JSON isn't asked for.
    pub fn progress(&self, total: u64, what: &str) -> ProgressBar {
        if self.json || self.silent || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total);
        let template = "{msg} [{bar:30}] {human_pos}/{human_len} {per_sec} {eta}";
        // The template is a constant; were it wrong, the default would do.
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what.to_owned());
        bar
    }
}

fn json_line(value: &impl Serialize) -> String {
    // Our values are plain: strings, numbers, lists.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

impl Table {
    fn tabbed(&self) -> String {
        self.rows.iter().map(|row| row.join("\t") + "\n").collect()
    }

    fn aligned(&self) -> String {
        if self.rows.is_empty() {
            return "(none)\n".to_owned();
        }
        let heading = |i: usize| self.headings[i].trim_start_matches('#');
        let width = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.max().unwrap_or(0).max(heading(i).len())
        };
        let widths: Vec<_> = (0..self.headings.len()).map(width).collect();
        let line = |cell: &dyn Fn(usize) -> String| {
            let cells = widths.iter().enumerate().map(|(i, width)| {
                let (cell, fill) = (cell(i), " ".repeat(width - cell(i).chars().count()));
                match self.headings[i].starts_with('#') {
                    true => fill + &cell,
                    false => cell + &fill,
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let head = line(&|i| heading(i).to_uppercase());
        self.rows.iter().fold(head, |text, row| text + &line(&|i| row[i].clone()))
    }
}

/// A size for people.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_set_right_and_pipes_get_tabs() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let table = Table {
            headings: &["name", "#size"],
            rows: vec![row("a", "100000"), row("äöü", "5")],
        };
        assert_eq!(table.aligned(), "NAME    SIZE\na     100000\näöü        5\n");
        assert_eq!(table.tabbed(), "a\t100000\näöü\t5\n");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(10 << 30), "10.0 GiB");
    }
}
