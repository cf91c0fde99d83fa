//! Figures as CSV (RFC 4180): a line a round.

use std::fmt::Write as _;

use crate::schema::Results;

/// A field, quoted where it must be.
fn field(text: &str) -> String {
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// All rounds of all figures.
pub fn csv(results: &Results) -> String {
    let mut out = "place,filesystem,options,guest,workload,folder,concurrency,cache,round,\
                   per_second,p50_us,p99_us,p999_us\r\n"
        .to_owned();
    for figure in &results.figures {
        let place = results.places.iter().find(|place| place.name == figure.place);
        let of_place = |get: fn(&crate::schema::Place) -> &str| field(place.map_or("", get));
        let (filesystem, options) = (of_place(|p| &p.filesystem), of_place(|p| &p.options));
        let guest = place.is_some_and(|place| place.guest);
        let latency = figure.latency.as_ref();
        let [p50, p99, p999] = match latency {
            Some(l) => [l.p50_us, l.p99_us, l.p999_us].map(|us| format!("{us:.1}")),
            None => Default::default(),
        };
        for (round, per_second) in figure.per_second.iter().enumerate() {
            let _ = write!(
                out,
                "{},{filesystem},{options},{guest},{},{},{},{},{},{per_second:.3},{p50},{p99},{p999}\r\n",
                field(&figure.place),
                field(&figure.workload),
                figure.folder,
                figure.concurrency,
                field(&figure.cache),
                round + 1,
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::compare::tests::example;
    use super::*;

    #[test]
    fn every_round_is_a_line_with_as_many_fields_as_the_head() {
        let text = csv(&example());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 6 * 5);
        let fields = lines[0].split(',').count();
        assert!(lines.iter().all(|line| line.split(',').count() == fields), "{text}");
    }

    #[test]
    fn separators_and_quotes_are_quoted() {
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(field("plain"), "plain");
    }
}
