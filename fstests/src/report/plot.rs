//! Plots as SVG text: bars with spread, lines on logarithmic axes, ratios about 1.
//!
//! Every text goes through [`escape`]; sizes are in user units, which browsers scale to the page.

use std::fmt::Write as _;

use super::text::{number, ratio};

/// Of every picture.
pub(super) const WIDTH: f64 = 760.0;
/// Mean width of a letter.
const LETTER: f64 = 6.4;
const RIGHT: f64 = 80.0;
const BAR: f64 = 18.0;
const LINE_HEIGHT: f64 = 260.0;
/// Of the room below a plot for its axis.
const AXIS: f64 = 34.0;
/// Letters of a name beside a plot.
const NAME_MAX: usize = 36;
/// Ticks that an axis has at least, if its range lets it.
const TICKS_MIN: usize = 3;
/// Distinct, also for those who see fewer colours (Okabe and Ito), then darker again.
const COLOURS: [&str; 12] = [
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D1F", "#004A73",
    "#00664B", "#8A4A6C", "#8F3F00", "#555555",
];

/// For text and attributes of HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn colour(number: usize) -> &'static str {
    COLOURS[number % COLOURS.len()]
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>\n",
        escape(title)
    )
}

/// A bar: name, colour number, median, least, greatest.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Bars from 0, each with a line from its least to its greatest, and its median on the right.
pub(super) fn bars(title: &str, x_name: &str, bars: &[Bar]) -> String {
    let bottom = BAR * bars.len() as f64 + 6.0;
    let mut out = open(bottom + AXIS, title);
    let most = bars.iter().map(|bar| bar.high).fold(1e-9, f64::max);
    let left = room_for(bars.iter().map(|bar| bar.name.as_str()));
    let x = |value: f64| left + (WIDTH - left - RIGHT) * value / most;
    for (value, label) in even_ticks(most) {
        vertical(&mut out, x(value), bottom, &label);
    }
    axis_name(&mut out, (left + WIDTH - RIGHT) / 2.0, bottom + AXIS - 4.0, x_name);
    for (row, bar) in bars.iter().enumerate() {
        let y = BAR * row as f64 + 4.0;
        let middle = y + BAR / 2.0 - 1.0;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
             <path d=\"M{:.1} {middle:.1}H{:.1}M{:.1} {:.1}v8M{:.1} {:.1}v8\" class=\"spread\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            middle + 4.0,
            escape(&short(&bar.name)),
            x(bar.median) - left,
            BAR - 4.0,
            colour(bar.colour),
            x(bar.low),
            x(bar.high),
            x(bar.low),
            middle - 4.0,
            x(bar.high),
            middle - 4.0,
            WIDTH - 4.0,
            middle + 4.0,
            number(bar.median),
        );
    }
    out + "</svg>\n"
}

/// A line: name, colour number, points.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) points: Vec<(f64, f64)>,
}

/// A tick: where, and what it says.
pub(super) type Tick = (f64, String);

/// Powers of ten, and between them where there are few.
pub(super) fn log_ticks(low: f64, high: f64) -> Vec<Tick> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let within = |steps: &[f64]| -> Vec<f64> {
        let values = (first..=last).flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)));
        values.filter(|v| (low..=high).contains(v)).collect()
    };
    let steps: [&[f64]; 3] = [&[1.0], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]];
    let found = steps.into_iter().map(within).find(|ticks| ticks.len() >= TICKS_MIN);
    let ticks = found.unwrap_or_else(|| within(steps[2]));
    ticks.into_iter().map(|v| (v, number_of_axis(v))).collect()
}

/// From 0 to `most`, four to eight, at round numbers.
fn even_ticks(most: f64) -> Vec<Tick> {
    let power = 10f64.powf((most / 4.0).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().rev().find(|step| most / step >= 4.0).unwrap_or(power);
    let count = (most / step) as usize;
    (0..=count).map(|n| n as f64 * step).map(|v| (v, number_of_axis(v))).collect()
}

/// A line of the grid with what it says below it.
fn vertical(out: &mut String, x: f64, bottom: f64, label: &str) {
    let _ = writeln!(
        out,
        "<path d=\"M{x:.1} 0V{bottom:.1}\" class=\"grid\"/>\
         <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        bottom + 14.0,
        escape(label)
    );
}

/// What an axis is about.
fn axis_name(out: &mut String, x: f64, y: f64, name: &str) {
    let name = escape(name);
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{name}</text>");
}

/// Width that names beside a plot take.
fn room_for<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let longest = names.map(|name| name.chars().count().min(NAME_MAX)).max().unwrap_or(0);
    (longest as f64 * LETTER + 12.0).max(60.0)
}

/// A name that fits beside a plot; the whole one stands in the table below.
fn short(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_MAX - 1).chain(['…']).collect()
}

/// Without what sums of binary fractions leave behind.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A number in few letters: `20k`, `1M`.
pub(super) fn number_of_axis(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", round(v / 1e6)),
        v if v >= 1e3 => format!("{}k", round(v / 1e3)),
        v => format!("{}", round(v)),
    }
}

/// A point of a line.
fn dot_at(fill: &str) -> impl Fn((&str, &str)) -> String {
    move |(x, y)| format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"2.6\" fill=\"{fill}\"/>")
}

/// Lines over two logarithmic axes, with a legend on the left; `marked` ones show their points.
pub(super) fn lines(
    title: &str,
    x_name: &str,
    y_name: &str,
    x_ticks: &[Tick],
    all: &[Line],
    marked: bool,
) -> String {
    let points = || all.iter().flat_map(|line| &line.points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let range = |get: fn(&(f64, f64)) -> f64| {
        points().map(get).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)))
    };
    let ((x_low, x_high), (y_low, y_high)) = (range(|p| p.0), range(|p| p.1));
    if x_low > x_high || y_low > y_high {
        return String::new();
    }
    let (y_low, y_high) = (y_low / 1.15, y_high * 1.15);
    let height = LINE_HEIGHT.max(16.0 * all.len() as f64 + 40.0);
    let left = 20.0 + room_for(all.iter().map(|line| line.name.as_str())) + 50.0;
    let (right, top, bottom) = (WIDTH - 20.0, 14.0, height - 34.0);
    let scale = |v: f64, low: f64, high: f64| {
        if high > low { (v.ln() - low.ln()) / (high.ln() - low.ln()) } else { 0.5 }
    };
    let x = |v: f64| left + (right - left) * scale(v, x_low, x_high);
    let y = |v: f64| bottom - (bottom - top) * scale(v, y_low, y_high);
    let mut out = open(height, title);
    for (at, label) in x_ticks.iter().filter(|(v, _)| (x_low..=x_high).contains(v)) {
        let at = x(*at);
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {top}V{bottom}\" class=\"grid\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 14.0,
            escape(label)
        );
    }
    for (at, label) in log_ticks(y_low, y_high) {
        let at = y(at);
        let _ = writeln!(
            out,
            "<path d=\"M{left} {at:.1}H{right}\" class=\"grid\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 5.0,
            at + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text x=\"{left}\" y=\"10\">{}</text>",
        (left + right) / 2.0,
        height - 6.0,
        escape(x_name),
        escape(y_name)
    );
    for (row, line) in all.iter().enumerate() {
        let path: Vec<String> = line
            .points
            .iter()
            .filter(|(x, y)| *x > 0.0 && *y > 0.0)
            .map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py)))
            .collect();
        let (stroke, at) = (colour(line.colour), 20.0 + 16.0 * row as f64);
        let points: String = match marked {
            true => {
                path.iter().filter_map(|point| point.split_once(',')).map(dot_at(stroke)).collect()
            }
            false => String::new(),
        };
        let dash = ["", "7 3", "2 3"][(line.colour / COLOURS.len()).min(2)];
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"1.8\" stroke-dasharray=\"{dash}\"/>{points}\
             <path d=\"M4 {at:.1}h16\" stroke=\"{stroke}\" stroke-width=\"3\" stroke-dasharray=\"{dash}\"/><text x=\"24\" y=\"{:.1}\">{}</text>",
            path.join(" "),
            at + 4.0,
            escape(&short(&line.name))
        );
    }
    out + "</svg>\n"
}

/// A ratio with its spread; grey when it is noise.
pub(super) struct Dot {
    pub(super) name: String,
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) clear: bool,
}

/// Ratios on a logarithmic axis about 1: left of it costs, right of it gains.
pub(super) fn ratios(title: &str, dots: &[Dot]) -> String {
    let far = |dot: &Dot| dot.low.max(1e-3).ln().abs().max(dot.high.max(1e-3).ln().abs());
    let most = dots.iter().map(far).fold(0.7f64, f64::max).min(7.0);
    let left = room_for(dots.iter().map(|dot| dot.name.as_str())) + 8.0;
    let right = WIDTH - RIGHT;
    let x = |v: f64| {
        let share = (v.max(1e-3).ln() / most).clamp(-1.0, 1.0);
        (left + right) / 2.0 + (right - left) / 2.0 * share
    };
    let bottom = BAR * dots.len() as f64 + 4.0;
    let mut out = open(bottom + AXIS, title);
    axis_name(&mut out, (left + right) / 2.0, bottom + AXIS - 4.0, "times the rate without it");
    for (at, label) in [
        (0.01, "1/100"),
        (0.1, "1/10"),
        (0.5, "1/2"),
        (1.0, "1"),
        (2.0, "2"),
        (10.0, "10"),
        (100.0, "100"),
    ] {
        if f64::ln(at).abs() <= most {
            vertical(&mut out, x(at), bottom, label);
        }
    }
    for (row, dot) in dots.iter().enumerate() {
        let y = BAR * row as f64 + BAR / 2.0 + 2.0;
        let fill = match (dot.clear, dot.median < 1.0) {
            (false, _) => "#999999",
            (true, true) => "#D55E00",
            (true, false) => "#009E73",
        };
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <path d=\"M{:.1} {y:.1}H{:.1}\" stroke=\"{fill}\" stroke-width=\"2\"/>\
             <circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{fill}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 10.0,
            y + 4.0,
            escape(&short(&dot.name)),
            x(dot.low),
            x(dot.high),
            x(dot.median),
            WIDTH - 4.0,
            y + 4.0,
            ratio(dot.median)
        );
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_picture() {
        let bar = Bar { name: "<script>&\"".into(), colour: 0, median: 1.0, low: 0.5, high: 2.0 };
        let svg = bars("a \"title\"", "a second", &[bar]);
        assert!(svg.contains("&lt;script&gt;&amp;&quot;") && !svg.contains("<script"), "{svg}");
        assert!(svg.contains("aria-label=\"a &quot;title&quot;\""));
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_others_are_in_proportion() {
        let bar =
            |median: f64| Bar { name: "x".into(), colour: 0, median, low: median, high: median };
        let svg = bars("t", "x", &[bar(10.0), bar(5.0)]);
        let full = WIDTH - 60.0 - RIGHT;
        assert!(svg.contains(&format!("width=\"{full:.1}\"")), "{svg}");
        assert!(svg.contains(&format!("width=\"{:.1}\"", full / 2.0)), "{svg}");
    }

    #[test]
    fn lines_without_points_make_no_picture_and_nothing_is_not_a_number() {
        assert_eq!(lines("t", "x", "y", &[], &[], true), "");
        let line = |points| Line { name: "one".into(), colour: 20, points };
        let svg = lines("t", "x", "y", &[], &[line(vec![(1.0, 5.0), (0.0, 3.0)])], true);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("<polyline") && !svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn ticks_are_within_their_range() {
        let ticks = log_ticks(90.0, 120_000.0);
        assert_eq!(
            ticks.iter().map(|t| t.1.as_str()).collect::<Vec<_>>(),
            ["100", "1k", "10k", "100k"]
        );
        assert_eq!(
            log_ticks(9.0, 60.0).iter().map(|t| t.0).collect::<Vec<_>>(),
            [10.0, 20.0, 50.0]
        );
    }

    #[test]
    fn an_axis_has_some_ticks_however_short_it_is() {
        let texts = |ticks: Vec<Tick>| ticks.into_iter().map(|t| t.1).collect::<Vec<_>>();
        assert_eq!(texts(log_ticks(1.9e6, 5.6e6)), ["2M", "3M", "4M", "5M"]);
        assert_eq!(texts(even_ticks(588.0)), ["0", "100", "200", "300", "400", "500"]);
        assert_eq!(texts(even_ticks(0.45)), ["0", "0.1", "0.2", "0.3", "0.4"]);
    }

    #[test]
    fn a_long_name_is_cut_so_that_it_stays_in_the_picture() {
        assert_eq!(short("ext4"), "ext4");
        let cut = short(&"é".repeat(50));
        assert!(cut.chars().count() == NAME_MAX && cut.ends_with('…'), "{cut}");
    }

    #[test]
    fn noise_is_grey_in_the_plot_of_ratios() {
        let dot = |clear| Dot { name: "o".into(), median: 0.5, low: 0.4, high: 0.6, clear };
        assert!(ratios("t", &[dot(false)]).contains("#999999"));
        assert!(ratios("t", &[dot(true)]).contains("#D55E00"));
    }
}
