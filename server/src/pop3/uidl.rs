//! The forms of a UIDL. Clients keep them for years: whoever comes from another server keeps that
//! server's form, and nothing is downloaded twice.

use protocol::types::{Uid, UidValidity};

/// One message, as far as its UIDL goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) validity: UidValidity,
    pub(super) uid: Uid,
    /// The base name of its file; asked for only where the form has it.
    pub(super) file: Option<&'a str>,
}

/// RFC 1939 section 7: one to 70 characters from 0x21 to 0x7E.
const UIDL_BYTES_MAX: usize = 70;

/// Whether the form needs the names of files.
pub(super) fn needs_file(format: &str) -> bool {
    format.contains("%f")
}

/// The UIDL of a message in a form that the configuration has checked: `%u`, `%v`, `%f`, with a
/// width and `X` before the first two.
pub(super) fn write(format: &str, names: Names<'_>) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let at = behind.find(|c: char| c.is_ascii_alphabetic() && c != 'X').unwrap_or(0);
        let (modifiers, variable) = behind.split_at(at);
        let width = modifiers.trim_end_matches('X').parse().unwrap_or(0);
        let number = |out: &mut String, n: u32| match modifiers.ends_with('X') {
            true => out.push_str(&format!("{n:0width$x}")),
            false => out.push_str(&format!("{n:0width$}")),
        };
        match variable.chars().next() {
            Some('u') => number(&mut out, names.uid.0),
            Some('v') => number(&mut out, names.validity.0),
            Some('f') => push_file(&mut out, names.file.unwrap_or_default()),
            _ => {}
        }
        rest = variable.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
    match out.len() > UIDL_BYTES_MAX {
        // The end tells files of one second apart.
        true => out.split_off(out.len() - UIDL_BYTES_MAX),
        false => out,
    }
}

/// The UIDL, or the first one with a number behind it that is not taken: so many tries at most as there
/// are taken ones, whatever these say.
pub(super) fn distinct(uidl: String, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(&uidl) {
        return uidl;
    }
    let numbered = |number: u64| {
        let tail = format!("+{number}");
        let from = (uidl.len() + tail.len()).saturating_sub(UIDL_BYTES_MAX);
        format!("{}{tail}", uidl.get(from..).unwrap_or_default())
    };
    let mut free = (1..).map(numbered).filter(|one| !is_taken(one));
    free.next().unwrap_or_default()
}

/// Courier's way with characters that it doesn't want in a UIDL.
fn push_file(out: &mut String, name: &str) {
    for byte in name.bytes() {
        match byte {
            b'\'' | b'"' | b'+' => out.push_str(&format!("+{byte:02X}")),
            0x21..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("+{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_message_has_is_not_given_again() {
        let (long, plus) = ("x".repeat(UIDL_BYTES_MAX), "+".repeat(UIDL_BYTES_MAX));
        let longer = format!("{}+1", &long[2..]);
        let taken = ["a", "a+1", &long, &plus];
        let distinct = |uidl: &str| distinct(uidl.to_owned(), |one| taken.contains(&one));
        assert_eq!(
            [distinct("b"), distinct("a"), distinct(&long)],
            ["b".to_owned(), "a+2".to_owned(), longer]
        );
        // With one more sign in front of nothing but such signs it would be the same for ever.
        assert_ne!(distinct(&plus), plus);
    }

    #[test]
    fn the_forms_of_other_servers() {
        let names = Names {
            validity: UidValidity(1_326_375_168),
            uid: Uid(42),
            file: Some("1326375168.M1P2.host,S=3"),
        };
        for (format, uidl) in [
            // Ours.
            ("%08Xv%08Xu", "4f0ee1000000002a"),
            // Dovecot's default, and its older one.
            ("%08Xu%08Xv", "0000002a4f0ee100"),
            ("%v.%u", "1326375168.42"),
            // Courier's three, oldest first.
            ("%f", "1326375168.M1P2.host,S=3"),
            ("UID%u", "UID42"),
            ("UID%u-%v", "UID42-1326375168"),
            // What Cyrus calls uidonly and courier.
            ("%u", "42"),
            ("%v-%u", "1326375168-42"),
            ("%05u", "00042"),
        ] {
            assert_eq!(write(format, names), uidl, "{format}");
        }
        let odd = Names { file: Some("a b+c\"é"), ..names };
        assert_eq!(write("%f", odd), "a+20b+2Bc+22+C3+A9");
        let long = "x".repeat(69) + ".end";
        let long = Names { file: Some(&long), ..names };
        assert_eq!(write("%f", long).len(), UIDL_BYTES_MAX);
        assert!(write("%f", long).ends_with(".end"));
    }
}
