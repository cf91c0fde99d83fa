//! COMPARATOR: RFC 5255 section 4.7.

use engine::Collation;
use protocol::imap::encode;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

/// The collation of each name that a pattern (RFC 4790 section 3.2) takes, the preferred first.
fn matching(pattern: &str) -> impl Iterator<Item = &'static (&'static str, Collation)> {
    Collation::ALL.iter().filter(move |(name, collation)| match pattern {
        "default" => *collation == Collation::default(),
        pattern => takes(&pattern.to_ascii_lowercase(), name),
    })
}

/// Whether `name` is what `pattern` says, where `*` stands for anything.
fn takes(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    let Some(mut middle) = rest.strip_suffix(last) else { return false };
    for piece in pieces {
        let Some(at) = middle.find(piece) else { return false };
        middle = &middle[at + piece.len()..];
    }
    true
}

/// Without patterns, tells the present collation.
pub(in super::super) fn run(session: &mut Session, patterns: &[String]) -> Outcome {
    let mut found = Vec::new();
    for known in patterns.iter().flat_map(|pattern| matching(pattern)) {
        if !found.contains(&known) {
            found.push(known);
        }
    }
    match found.first() {
        Some((_, collation)) => session.features.collation = *collation,
        None if patterns.is_empty() => {}
        None => return Ok(Reply::no("No such comparator").word("BADCOMPARATOR")),
    }
    let present = session.features.collation;
    session.conn.out.with_vec(|out| {
        out.extend_from_slice(b"* COMPARATOR");
        for (name, _) in Collation::ALL.iter().filter(|(_, collation)| *collation == present) {
            encode::print(out, format_args!(" \"{name}\""));
        }
        if found.len() > 1 {
            let names: Vec<String> = found.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            encode::print(out, format_args!(" ({})", names.join(" ")));
        }
        out.extend_from_slice(b"\r\n");
    });
    Ok(Reply::ok("Completed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_names() {
        let names = |pattern| matching(pattern).map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names("*").len(), 3);
        assert_eq!(names("default"), ["i;unicode-casemap"]);
        assert_eq!(names("i;*casemap"), ["i;unicode-casemap", "i;ascii-casemap"]);
        assert_eq!(names("I;ASCII-*"), ["i;ascii-casemap"]);
        assert_eq!(names("i;octet"), ["i;octet"]);
        assert_eq!(names("cz;*"), [""; 0]);
        assert_eq!(names("i;oct"), [""; 0]);
        assert_eq!(names("i;o*ct*t"), ["i;octet"]);
        assert_eq!(names("i;octet*octet"), [""; 0]);
    }
}
