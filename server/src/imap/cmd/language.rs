//! LANGUAGE: RFC 5255 sections 3.2 and 3.4.

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use crate::language::Language;

/// With ranges, takes the first that is spoken here; without, tells what is.
pub(in super::super) fn run(session: &mut Session, ranges: &[String]) -> Outcome {
    if ranges.is_empty() {
        let all = Language::ALL.map(Language::tag).join(" ");
        session.conn.out.push(format!("* LANGUAGE ({all})\r\n").as_bytes());
        return Ok(Reply::ok("Completed"));
    }
    match ranges.iter().find_map(|range| Language::of_range(range)) {
        Some(language) => {
            session.language = language;
            session.conn.out.push(format!("* LANGUAGE ({})\r\n", language.tag()).as_bytes());
            // What the prefixes are called now, as in the RFC's examples; before a login there are none.
            if let Ok(line) = super::namespace::line(session) {
                session.conn.out.push_vec(line);
            }
            Ok(Reply::ok("Language changed"))
        }
        None => Ok(Reply::no("Language is not spoken here")),
    }
}
