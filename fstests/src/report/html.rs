//! The report as one HTML file: no network, no scripts, plots in the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::compare::{guest_costs, option_costs};
use super::device;
use super::markdown::{GUEST_ABOUT, facts};
use super::orders::{Pair, Verdict, WHY, counts, orders, standings, tallies};
use super::plot::{self, Bar, Dot, Line, escape, number_of_axis};
use super::text::{Row, case_title, rows};
use crate::schema::{Case, Figure, Results};
use crate::workload::Workload;
use clap::ValueEnum;

const STYLE: &str = "body{font:15px/1.45 system-ui,'DejaVu Sans',sans-serif;max-width:64em;\
margin:2em auto;padding:0 1em;color:#222;background:#fff}h1{font-size:1.6em}\
h2{margin-top:2em;border-bottom:1px solid #ccc}h3{margin-bottom:.3em}code{overflow-wrap:anywhere}\
nav a{margin-right:1.2em;white-space:nowrap}.wide{overflow-x:auto}details{margin:.6em 0}\
svg{width:100%;min-width:40em;max-width:60em;height:auto;display:block;margin:.6em 0}\
svg text{font:11px system-ui,'DejaVu Sans',sans-serif;fill:#222}.grid{stroke:#ddd;fill:none}\
.spread{stroke:#222;fill:none}table{border-collapse:collapse;font-size:.86em;margin:.6em 0}\
th,td{border:1px solid #ddd;padding:.15em .5em;text-align:left;vertical-align:top}\
td{overflow-wrap:break-word}td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
.about,.noise{color:#555}.about{margin:.2em 0}.bad{color:#b00020;font-weight:bold}";

/// The whole page.
pub fn html(results: &Results) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Filesystems for mail</title><style>{STYLE}</style></head><body>\n\
         <h1>Filesystems for mail, measured {}</h1>\n<ul>",
        escape(&results.at)
    );
    for line in facts(results) {
        // A command line breaks where there is room.
        let (open, close) =
            if line.starts_with("cursus-fstests ") { ("<code>", "</code>") } else { ("", "") };
        let _ = write!(out, "<li>{open}{}{close}</li>", escape(&line));
    }
    out.push_str("</ul>\n");
    let page = Page { results };
    let mut body = String::new();
    page.options(&mut body);
    page.scaling(&mut body);
    page.guest(&mut body);
    page.orders(&mut body);
    page.device(&mut body);
    page.crashes(&mut body);
    page.figures(&mut body);
    page.places(&mut body);
    page.impossible(&mut body);
    contents(&mut out, &body);
    out + &body + "</body></html>\n"
}

/// A section's heading, which the contents lead to.
fn heading(out: &mut String, title: &str) {
    let _ = writeln!(out, "<h2 id=\"{}\">{}</h2>", anchor(title), escape(title));
}

fn anchor(title: &str) -> String {
    let letters = title.chars().filter(|c| c.is_ascii_alphanumeric() || *c == ' ');
    letters.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Links to the sections that are there.
fn contents(out: &mut String, body: &str) {
    out.push_str("<nav>");
    for part in body.split("<h2 id=\"").skip(1) {
        let link =
            part.split_once("\">").and_then(|(id, rest)| Some((id, rest.split_once('<')?.0)));
        if let Some((id, title)) = link {
            let _ = write!(out, "<a href=\"#{id}\">{title}</a> ");
        }
    }
    out.push_str("</nav>\n");
}

/// The plots of options and of scaling as files of their own: name without extension, SVG.
pub fn plots(results: &Results) -> Vec<(String, String)> {
    let page = Page { results };
    let scaling = page.scaling_plots().into_iter().flat_map(|(_, plots)| plots);
    let all = page.option_plots().into_iter().chain(scaling);
    let open = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" ", plot::WIDTH);
    let style = "<style>text{font:11px system-ui,'DejaVu Sans',sans-serif;fill:#222}\
                 .grid{stroke:#ddd;fill:none}</style>";
    let alone = |svg: String| {
        let svg = svg.replacen("<svg ", &open, 1);
        // Behind the title; pages that show it may be dark.
        svg.replacen(
            "</title>",
            &format!("</title>{style}<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"),
            1,
        )
    };
    let name = |title: String| {
        let letters = title.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
        letters.collect::<String>().replace("--", "-")
    };
    all.map(|(title, svg)| (name(title), alone(svg))).collect()
}

struct Page<'a> {
    results: &'a Results,
}

/// Rows of cells; numbers stand on the right.
fn table(out: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    out.push_str("<div class=\"wide\"><table><tr>");
    for title in head {
        let _ = write!(out, "<th>{}</th>", escape(title));
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for text in row {
            let first = text.chars().next();
            let class = match first.is_some_and(|c| c.is_ascii_digit()) {
                true if text.ends_with("noise)") => " class=\"n noise\"",
                true => " class=\"n\"",
                false => "",
            };
            let _ = write!(out, "<td{class}>{}</td>", escape(&text));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

/// A plot that is moved sideways where the page is narrow, so that its letters stay readable.
fn picture(svg: &str) -> String {
    if svg.is_empty() { String::new() } else { format!("<div class=\"wide\">{svg}</div>\n") }
}

fn pair_rows<'a>(pairs: impl Iterator<Item = &'a Pair>) -> impl Iterator<Item = Vec<String>> {
    pairs.map(|pair| {
        let (theirs, ours) = (case_title(&pair.theirs), case_title(&pair.ours));
        let verdict = pair.verdict().text().to_owned();
        let places = format!("{} to {}", pair.place, pair.other);
        vec![places, theirs, pair.their_ratio.text(), ours, pair.our_ratio.text(), verdict]
    })
}

/// What the rate of these counts.
fn unit_of(figures: &[&Figure]) -> &'static str {
    let says = |word: &str| figures.iter().flat_map(|f| &f.notes).any(|note| note.contains(word));
    match (says("the rate counts messages"), says("the rate counts records")) {
        (true, _) => "messages a second",
        (_, true) => "records a second",
        _ => "operations a second",
    }
}

impl Page<'_> {
    /// The number that gives a place its colour.
    fn colour(&self, place: &str) -> usize {
        self.results.places.iter().position(|p| p.name == place).unwrap_or(0)
    }

    /// Figures of places whose times mean something, in order of places.
    fn of_case(&self, case: &Case) -> Vec<&Figure> {
        let places = self.results.places.iter().filter(|place| !place.guest);
        places.filter_map(|place| self.results.figure(&place.name, case)).collect()
    }

    /// A plot for each case, with its title.
    fn option_plots(&self) -> Vec<(String, String)> {
        let mut by_case: BTreeMap<Case, Vec<Dot>> = BTreeMap::new();
        for cost in option_costs(self.results) {
            let spread = cost.ratio.spread;
            by_case.entry(cost.case).or_default().push(Dot {
                name: format!("{} on {}", cost.choice, cost.neighbour),
                median: spread.median,
                low: spread.low,
                high: spread.high,
                clear: cost.ratio.clear,
            });
        }
        let plot = |(case, dots): (Case, Vec<Dot>)| {
            let title = case_title(&case);
            let svg = plot::ratios(&title, &dots);
            (title, svg)
        };
        by_case.into_iter().map(plot).collect()
    }

    fn options(&self, out: &mut String) {
        let plots = self.option_plots();
        if plots.is_empty() {
            return;
        }
        heading(out, "What each option does");
        out.push_str(
            "<p>Rate with the option divided by the rate of its \
             neighbour without, round by round. Left of 1 it costs, right of 1 it gains; grey is \
             noise; the line is the spread of the rounds.</p>\n",
        );
        for (title, svg) in plots {
            let _ = writeln!(out, "<h3>{}</h3>\n{}", escape(&title), picture(&svg));
        }
    }

    fn guest(&self, out: &mut String) {
        let costs = guest_costs(self.results);
        if costs.is_empty() {
            return;
        }
        heading(out, "Within the guest");
        let _ = writeln!(out, "<p>{GUEST_ABOUT}</p>");
        let rows = costs.into_iter().map(|cost| {
            vec![cost.place, cost.neighbour, case_title(&cost.case), cost.ratio.text()]
        });
        table(out, &["place", "against", "workload", "ratio"], rows);
    }

    fn orders(&self, out: &mut String) {
        let pairs = orders(self.results);
        if pairs.is_empty() {
            return;
        }
        let [agree, disagree, noise] = counts(&pairs);
        heading(out, "Beside fio and postmark");
        let _ = writeln!(
            out,
            "<p>Rate of one place divided by another's, as these \
             programs see it and as our workloads do, in the same rounds: {agree} pairs in the same \
             order, {disagree} in the opposite one, {noise} that one of both cannot tell apart.</p>\
             <p>{WHY}</p>"
        );
        let tallies = tallies(&pairs);
        let rows = tallies.iter().map(|tally| {
            let cases = [case_title(&tally.theirs), case_title(&tally.ours)];
            cases.into_iter().chain(tally.counts.iter().map(usize::to_string)).collect()
        });
        table(out, &["theirs", "ours", "same order", "opposite", "noise"], rows);
        let (head, rows) = standings(self.results, &tallies);
        out.push_str("<h3>The order of the places</h3>\n");
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        table(out, &head, rows.into_iter());
        let head = ["places", "theirs", "ratio", "ours", "ratio", ""];
        let opposite = || pairs.iter().filter(|pair| pair.verdict() == Verdict::Disagree);
        if disagree > 0 {
            out.push_str("<h3>In the opposite order</h3>\n");
            table(out, &head, pair_rows(opposite()));
        }
        let _ = writeln!(out, "<details><summary>All {} pairs</summary>", pairs.len());
        table(out, &head, pair_rows(pairs.iter()));
        out.push_str("</details>\n");
    }

    fn device(&self, out: &mut String) {
        let rows = device::rows(self.results);
        if rows.is_empty() {
            return;
        }
        heading(out, "What one operation makes the device do");
        let _ = writeln!(out, "<p>{}</p>", device::ABOUT);
        table(out, &device::HEAD, rows.into_iter());
    }

    fn figures(&self, out: &mut String) {
        heading(out, "Figures");
        for case in self.results.cases() {
            let title = case_title(&case);
            let _ = writeln!(out, "<h3>{}</h3>", escape(&title));
            if let Ok(workload) = Workload::from_str(&case.workload, false) {
                let _ = writeln!(out, "<p class=\"about\">{}</p>", escape(&workload.about()));
            }
            let figures = self.of_case(&case);
            let notes: BTreeSet<String> = figures
                .iter()
                .flat_map(|f| f.notes.iter().chain([&f.cache]).cloned())
                .filter(|note| !note.is_empty())
                .collect();
            let notes: Vec<String> = notes.into_iter().collect();
            let _ = writeln!(out, "<p class=\"about\">{}</p>", escape(&notes.join("; ")));
            let bars: Vec<Bar> = figures
                .iter()
                .filter_map(|figure| {
                    let spread = figure.spread()?;
                    Some(Bar {
                        name: figure.place.clone(),
                        colour: self.colour(&figure.place),
                        median: spread.median,
                        low: spread.low,
                        high: spread.high,
                    })
                })
                .collect();
            if !bars.is_empty() {
                let unit = unit_of(&figures);
                out.push_str(&picture(&plot::bars(&format!("{title}: {unit}"), unit, &bars)));
                out.push_str(&picture(&self.latencies(&title, &figures)));
            }
            let head =
                ["place", "a second", "rounds", "p50 µs", "p99 µs", "p99.9 µs", "to the first"];
            let cells = rows(self.results, &case).into_iter().map(|row| {
                let Row { place, median, spread, latency: [p50, p99, p999], ratio } = row;
                vec![place, median, spread, p50, p99, p999, ratio]
            });
            table(out, &head, cells);
        }
    }

    /// Latency over the share of operations that are slower, both logarithmic.
    fn latencies(&self, title: &str, figures: &[&Figure]) -> String {
        let lines: Vec<Line> = figures
            .iter()
            .filter_map(|figure| {
                let curve = &figure.latency.as_ref()?.curve;
                // The slowest of all has no share above it: it stands where one in ten thousand is.
                let points = curve.iter().map(|(q, us)| (1.0 / (1.0 - q).max(5e-5), *us));
                Some(Line {
                    name: figure.place.clone(),
                    colour: self.colour(&figure.place),
                    points: points.collect(),
                })
            })
            .collect();
        // Other programs' figures come without any.
        if lines.is_empty() {
            return String::new();
        }
        let ticks: Vec<(f64, String)> = [
            (1.0, "0"),
            (2.0, "50 %"),
            (10.0, "90 %"),
            (100.0, "99 %"),
            (1000.0, "99.9 %"),
            (10_000.0, "99.99 %"),
        ]
        .map(|(at, label)| (at, label.to_owned()))
        .to_vec();
        let title = format!("{title}: latency");
        let (x, y) = ("share of operations that took at most this", "latency, µs");
        plot::lines(&title, x, y, &ticks, &lines, false)
    }

    /// Headings, each with a plot for each workload, with its title.
    fn scaling_plots(&self) -> Vec<(&'static str, Vec<(String, String)>)> {
        let by_folder = self.curves(|case| case.folder as f64, |case| Case { folder: 0, ..case });
        let by_count =
            self.curves(|case| case.concurrency as f64, |case| Case { concurrency: 0, ..case });
        let plot = |x_name: &str, (case, lines): (Case, Vec<Line>)| {
            let mut xs: Vec<f64> =
                lines.iter().flat_map(|line| line.points.iter().map(|p| p.0)).collect();
            xs.sort_by(f64::total_cmp);
            xs.dedup();
            let ticks: Vec<_> = xs.iter().map(|x| (*x, number_of_axis(*x))).collect();
            let title = format!("{} by {x_name}", case_title(&case));
            let y_name =
                if case.workload == "list" { "messages a second" } else { "operations a second" };
            let svg = plot::lines(&title, x_name, y_name, &ticks, &lines, true);
            (title, svg)
        };
        [
            ("How it scales with the folder", "messages in the folder", by_folder),
            ("How it scales with many at a time", "operations at a time", by_count),
        ]
        .map(|(head, x_name, curves)| (head, curves.into_iter().map(|c| plot(x_name, c)).collect()))
        .to_vec()
    }

    fn scaling(&self, out: &mut String) {
        for (head, plots) in self.scaling_plots() {
            if plots.is_empty() {
                continue;
            }
            heading(out, head);
            out.push_str(
                "<p>Medians of the rounds, both axes logarithmic. The points of one line were \
                 measured one after the other, those above each other in turns.</p>\n",
            );
            for (title, svg) in plots {
                let _ = writeln!(out, "<h3>{}</h3>\n{}", escape(&title), picture(&svg));
            }
        }
    }

    /// Lines of places over something that cases differ in, where there is more than one value.
    fn curves(&self, x: fn(&Case) -> f64, rest: fn(Case) -> Case) -> Vec<(Case, Vec<Line>)> {
        let mut groups: BTreeMap<Case, Vec<Case>> = BTreeMap::new();
        for case in self.results.cases().into_iter().filter(|case| x(case) > 0.0) {
            groups.entry(rest(case.clone())).or_default().push(case);
        }
        let mut curves = Vec::new();
        for (common, cases) in groups.into_iter().filter(|(_, cases)| cases.len() > 1) {
            let places = self.results.places.iter().filter(|place| !place.guest);
            let lines: Vec<Line> = places
                .map(|place| Line {
                    name: place.name.clone(),
                    colour: self.colour(&place.name),
                    points: cases
                        .iter()
                        .filter_map(|case| {
                            let figure = self.results.figure(&place.name, case)?;
                            Some((x(case), figure.spread()?.median))
                        })
                        .collect(),
                })
                .filter(|line: &Line| line.points.len() > 1)
                .collect();
            if !lines.is_empty() {
                curves.push((common, lines));
            }
        }
        curves
    }

    fn crashes(&self, out: &mut String) {
        if self.results.crashes.is_empty() {
            return;
        }
        heading(out, "Power cuts");
        out.push_str(
            "<p>Acknowledged messages that a cut took, of all that had been \
             acknowledged before it.</p>\n",
        );
        let head = [
            "filesystem",
            "writer",
            "cuts",
            "acknowledged",
            "lost",
            "twice",
            "damaged",
            "the first",
        ];
        let cells = self.results.crashes.iter().map(|c| {
            let numbers = [c.cuts, c.acknowledged, c.lost, c.duplicates, c.damaged];
            let mut row = vec![c.filesystem.clone(), c.writer.clone()];
            row.extend(numbers.iter().map(usize::to_string));
            row.push(c.example.clone());
            row
        });
        table(out, &head, cells);
    }

    fn places(&self, out: &mut String) {
        heading(out, "Places");
        let head = ["place", "made and mounted by", "in force", "device", "do syncs reach it?"];
        let cells = self.results.places.iter().map(|place| {
            let device = place.device.as_ref().map_or_else(String::new, |d| {
                format!("{} {} {}, {}", d.name, d.model, d.write_cache, d.scheduler)
            });
            let flush = place.flush.as_ref();
            let flush =
                flush.map_or_else(String::new, |f| format!("{:?}: {}", f.verdict, f.reason));
            vec![
                place.name.clone(),
                [&place.mkfs, &place.mount].map(String::as_str).join("; "),
                format!("{} {}", place.filesystem, place.options.replace(',', ", ")),
                device,
                flush,
            ]
        });
        table(out, &head, cells);
    }

    fn impossible(&self, out: &mut String) {
        if self.results.impossible.is_empty() {
            return;
        }
        heading(out, "Not done here");
        let rows = self.results.impossible.iter().map(|i| vec![i.name.clone(), i.reason.clone()]);
        table(out, &["what", "why"], rows);
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::tests::example;
    use super::*;

    #[test]
    fn the_page_has_every_plot_and_asks_nothing_of_the_network() {
        let page = html(&example());
        for part in [
            "<h2 id=\"what-each-option-does\">What each option does</h2>",
            "<a href=\"#what-each-option-does\">What each option does</a>",
            ">How it scales with the folder</h2>",
            ">What one operation makes the device do</h2>",
            ">Power cuts</h2>",
            ">Not done here</h2>",
            "data=journal on ext4",
            "aria-label=\"deliver-rename, folder of 100: latency\"",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        let files = plots(&example());
        assert_eq!(files[0].0, "deliver-rename-folder-of-100");
        assert!(files.iter().all(|(_, svg)| svg.contains("xmlns=") && svg.contains("<style>")));
        for outside in ["http:", "https:", "<script", "src=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(!page.contains("<journal>"), "a name that is not escaped");
    }
}
