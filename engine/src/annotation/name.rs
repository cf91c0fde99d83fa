//! Names of entries: RFC 5257 section 3.2.

use crate::metadata::ENTRY_BYTES_MAX;

/// Deepest section part: deeper than any structure that the MIME reader follows.
const PART_LEVELS_MAX: usize = 1000;

/// What an entry is about, by its name: the numbers of a body part, none for the whole message.
/// `None` for what is no name (RFC 5257 section 3.2): the client's mistake.
pub fn annotation_part(entry: &str) -> Option<Vec<u32>> {
    let good = |b: u8| (b' '..0x7f).contains(&b) && !b"*%".contains(&b);
    if entry.len() > ENTRY_BYTES_MAX || !entry.bytes().all(good) {
        return None;
    }
    let mut levels = entry.strip_prefix('/')?.split('/');
    if entry[1..].split('/').any(str::is_empty) {
        return None;
    }
    let first = levels.next()?;
    if !first.starts_with(|c: char| c.is_ascii_digit()) {
        return Some(Vec::new());
    }
    let numbers = first.split('.').map(|number| {
        let number = Some(number).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?;
        number.parse().ok().filter(|n| *n > 0)
    });
    numbers.collect::<Option<Vec<u32>>>().filter(|part| part.len() <= PART_LEVELS_MAX)
}

/// Why a well-formed entry may not have a value, if it may not: names that only have others below
/// them, `/flags`, which is reserved, and flags of body parts that are neither on nor off.
pub fn annotation_refusal(entry: &str, value: Option<&[u8]>) -> Option<&'static str> {
    let mut levels: Vec<&str> = entry.split('/').skip(1).collect();
    let of_part = levels.first().is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit()));
    if of_part {
        levels.remove(0);
    }
    match levels[..] {
        [] => Some("an annotation needs a name below its body part"),
        ["vendor"] | ["vendor", _] => Some("an annotation needs a name below its vendor"),
        ["flags", ..] if !of_part => Some("/flags is reserved"),
        ["flags"] => Some("an annotation needs the name of a flag"),
        ["flags", ..] if value.is_some_and(|value| !matches!(value, b"0" | b"1")) => {
            Some("the flag of a body part is \"1\", \"0\" or NIL")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_rfc_5257() {
        for (name, part) in [
            ("/comment", Some(vec![])),
            ("/Comment", Some(vec![])),
            ("/vendor/foobar/label", Some(vec![])),
            ("/1/comment", Some(vec![1])),
            ("/1.2.3/flags/seen", Some(vec![1, 2, 3])),
            ("/", None),
            ("comment", None),
            ("", None),
            ("//comment", None),
            ("/comment/", None),
            ("/vendor//x", None),
            ("/com*ent", None),
            ("/com%ent", None),
            ("/é", None),
            ("/0/comment", None),
            ("/1./comment", None),
            ("/1x/comment", None),
            ("/1.+2/comment", None),
            ("/4294967296/comment", None),
        ] {
            assert_eq!(annotation_part(name), part, "{name}");
        }
        let long = format!("/{}", "x".repeat(ENTRY_BYTES_MAX - 1));
        assert!(annotation_part(&long).is_some());
        assert_eq!(annotation_part(&format!("{long}x")), None);
        let deep = format!("/{}/comment", ["1"; 200].join("."));
        assert_eq!(annotation_part(&deep).map(|part| part.len()), Some(200));
    }

    #[test]
    fn what_has_no_value_is_refused() {
        for (name, value, good) in [
            ("/comment", "x", true),
            ("/vendor", "x", false),
            ("/vendor/foobar", "x", false),
            ("/vendor/foobar/label", "x", true),
            ("/flags", "1", false),
            ("/flags/seen", "1", false),
            ("/1", "x", false),
            ("/1/comment", "x", true),
            ("/1/flags", "1", false),
            ("/1/flags/seen", "1", true),
            ("/1/flags/seen", "2", false),
            ("/1/vendor/foobar", "x", false),
        ] {
            assert_eq!(annotation_refusal(name, Some(value.as_bytes())).is_none(), good, "{name}");
        }
        assert_eq!(annotation_refusal("/1/flags/seen", None), None);
    }
}
