//! Names of message files: `UNIQUE,S=stored,W=served:2,FLAGS`.
//!
//! Invariant: a [`Location`] parsed from a name and not changed since gives back that name byte
//! for byte, however odd the name. For that, a suffix that we would not write ourselves (absent,
//! not `:2,`, letters doubled or out of order, any suffix in `new/`) is kept verbatim in
//! `other_letters` behind a [`VERBATIM`] byte; a change of flags turns it into the usual form.

use protocol::types::{SystemFlags, Uid};

use super::super::{Location, NameFlags};

/// First byte of `other_letters` that hold a whole suffix. No file name contains it.
const VERBATIM: u8 = b'/';
/// Longest host name put into a base name, in bytes; leaves room for the rest and all letters.
const HOST_BYTES_MAX: usize = 100;

/// Letters that we interpret, in the order of names, with their bits in [`NameFlags`].
const LETTERS: [(u8, u8); 6] = [
    (b'D', SystemFlags::DRAFT.0),
    (b'F', SystemFlags::FLAGGED.0),
    (b'P', NameFlags::PASSED),
    (b'R', SystemFlags::ANSWERED.0),
    (b'S', SystemFlags::SEEN.0),
    (b'T', SystemFlags::DELETED.0),
];

/// The letters of a suffix such as `:2,FS`: what they mean, and those we don't interpret.
fn letters(suffix: &[u8]) -> (NameFlags, Vec<u8>) {
    let mut flags = NameFlags::default();
    let mut other = Vec::new();
    for letter in suffix.strip_prefix(b":2,").unwrap_or_default() {
        match LETTERS.iter().find(|(known, _)| known == letter) {
            Some((_, bit)) => flags.0 |= bit,
            None => other.push(*letter),
        }
    }
    other.sort_unstable();
    other.dedup();
    (flags, other)
}

/// The suffix that we write: every letter once, in ASCII order.
fn suffix(flags: NameFlags, other: &[u8]) -> Vec<u8> {
    let set = LETTERS.iter().filter(|(_, bit)| flags.0 & bit != 0).map(|(letter, _)| *letter);
    let mut letters: Vec<u8> = set.chain(other.iter().copied()).collect();
    letters.sort_unstable();
    letters.dedup();
    [b":2,", &letters[..]].concat()
}

/// Whether a suffix is what [`suffix`] makes of its letters, or in `new/` none.
fn is_usual(found: &[u8], in_new: bool) -> bool {
    if in_new {
        return found.is_empty();
    }
    found.strip_prefix(b":2,").is_some_and(|letters| letters.is_sorted_by(|a, b| a < b))
}

/// Reads the name of a message file, ours or foreign. `None` for names that are no message's:
/// empty, or with a leading dot.
pub(crate) fn parse(name: &[u8], in_new: bool) -> Option<Location> {
    if name.first()? == &b'.' {
        return None;
    }
    let (base, found) = match name.iter().rposition(|b| *b == b':') {
        Some(0) => return None,
        Some(colon) => name.split_at(colon),
        None => (name, &[][..]),
    };
    let (flags, mut other_letters) = letters(found);
    if !is_usual(found, in_new) {
        other_letters = [&[VERBATIM], found].concat();
    }
    Some(Location { uid: Uid(0), base: base.to_vec(), flags, other_letters, in_new })
}

/// The name of a message's file within `cur/` or `new/`.
pub(crate) fn file_name(at: &Location) -> Vec<u8> {
    let suffix = match at.other_letters.split_first() {
        Some((&VERBATIM, found)) => {
            let (flags, other) = letters(found);
            if at.in_new || flags == at.flags { found.to_vec() } else { suffix(at.flags, &other) }
        }
        _ if at.in_new => Vec::new(),
        _ => suffix(at.flags, &at.other_letters),
    };
    [&at.base[..], &suffix].concat()
}

/// A host name as it stands in base names.
pub(super) fn host_part(host: &str) -> String {
    let mut out = String::with_capacity(host.len());
    for c in host.chars() {
        match c {
            '/' => out.push_str("\\057"),
            ':' => out.push_str("\\072"),
            ',' => out.push_str("\\054"),
            c if c.is_control() || c == ' ' => out.push('_'),
            c => out.push(c),
        }
        if out.len() >= HOST_BYTES_MAX {
            break;
        }
    }
    if out.is_empty() { "localhost".to_owned() } else { out }
}

/// Sizes that a base name tells; whoever wrote them may be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameSizes {
    /// `,S=`: bytes of the file.
    pub stored: Option<u64>,
    /// `,W=`: bytes with CRLF line ends.
    pub served: Option<u64>,
}

/// Reads the `,S=` and `,W=` fields of a base name.
pub fn sizes_in_name(base: &[u8]) -> NameSizes {
    let mut sizes = NameSizes::default();
    for field in base.split(|b| *b == b',').skip(1) {
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
        match field {
            [b'S', b'=', digits @ ..] => sizes.stored = number(digits),
            [b'W', b'=', digits @ ..] => sizes.served = number(digits),
            _ => {}
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_byte_for_byte() {
        let names: [&[u8]; 14] = [
            b"1.M2P3Q4.host,S=5,W=6:2,FS",
            b"1.M2P3Q4.host,S=5,W=6:2,",
            b"plain",
            b"odd:order:2,SF",
            b"double:2,SS",
            b"dovecot:2,DFRSd",
            b"mixed:2,SZab",
            b"comma:2,S,x=1",
            b"experimental:1,x",
            b"colon:",
            b"two:2",
            b"a:b",
            b"binary\xff\xfe:2,S\xff",
            b"1 space:2,Sa",
        ];
        for name in names {
            for in_new in [false, true] {
                let at = parse(name, in_new).unwrap();
                assert_eq!(file_name(&at), name, "{:?}", String::from_utf8_lossy(name));
                let found = name.iter().rposition(|b| *b == b':').map_or(&[][..], |at| &name[at..]);
                let (flags, other) = letters(found);
                let written = if in_new { Vec::new() } else { suffix(flags, &other) };
                assert_eq!(is_usual(found, in_new), found == written, "{found:?}");
            }
        }
    }

    #[test]
    fn flags_are_read_and_unknown_letters_stay_when_they_change() {
        let mut at = parse(b"x:2,DFPRSTab", false).unwrap();
        assert_eq!(at.flags.system(), SystemFlags::ALL);
        assert_eq!(at.flags.0 & NameFlags::PASSED, NameFlags::PASSED);
        assert_eq!(at.other_letters, b"ab");
        at.flags = NameFlags(SystemFlags::SEEN.0);
        assert_eq!(file_name(&at), b"x:2,Sab");

        let mut odd = parse(b"x:2,bSaa", false).unwrap();
        assert_eq!(odd.flags.system(), SystemFlags::SEEN);
        odd.flags = NameFlags(SystemFlags::SEEN.0 | SystemFlags::FLAGGED.0);
        assert_eq!(file_name(&odd), b"x:2,FSab");

        let mut bare = parse(b"x", false).unwrap();
        bare.flags = NameFlags(SystemFlags::DELETED.0);
        assert_eq!(file_name(&bare), b"x:2,T");
    }

    #[test]
    fn a_file_that_moves_from_new_gets_a_suffix_or_keeps_its_own() {
        let mut plain = parse(b"x", true).unwrap();
        assert!(plain.other_letters.is_empty());
        plain.in_new = false;
        assert_eq!(file_name(&plain), b"x:2,");

        let mut suffixed = parse(b"x:2,S", true).unwrap();
        assert_eq!(suffixed.flags.system(), SystemFlags::SEEN);
        suffixed.in_new = false;
        assert_eq!(file_name(&suffixed), b"x:2,S");
    }

    #[test]
    fn names_that_are_no_messages_are_skipped() {
        for name in [&b""[..], b".hidden", b":2,S", b"."] {
            assert!(parse(name, false).is_none());
        }
    }

    #[test]
    fn sizes_come_from_the_name_or_not_at_all() {
        let sizes = |stored, served| NameSizes { stored, served };
        assert_eq!(sizes_in_name(b"1.2.h,S=241,W=250"), sizes(Some(241), Some(250)));
        assert_eq!(sizes_in_name(b"1.M9_5.fixture.test,S=241"), sizes(Some(241), None));
        assert_eq!(sizes_in_name(b"S=1,W=x,S=99999999999999999999"), sizes(None, None));
    }

    #[test]
    fn hosts_are_escaped_and_bounded() {
        assert_eq!(host_part("a/b:c,d"), "a\\057b\\072c\\054d");
        assert_eq!(host_part(""), "localhost");
        assert!(host_part(&"ü".repeat(500)).len() <= HOST_BYTES_MAX + 4);
    }
}
