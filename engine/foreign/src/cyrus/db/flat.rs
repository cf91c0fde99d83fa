//! Flat databases: sorted lines `key TAB value LF`, replaced as a whole.
//!
//! Since 2.4 the bytes NUL, TAB, CR and LF are written FF and the byte with bit 7 set, FF itself as
//! FF FF.
//!
//! Lines are in the order of their keys as they are written, by [`rank`] of their bytes: that of no other form.
//! Cyrus looks for lines by halves, and would not find one that is elsewhere.

use std::cmp::Ordering;

use super::Pair;
use crate::cyrus::Damage;

const FORMAT: &str = "flat database";

/// All records.
///
/// # Errors
/// A last line without its end, which is a file that was cut short; a line without TAB.
pub fn read(bytes: &[u8]) -> Result<Vec<Pair>, Damage> {
    let mut pairs = Vec::new();
    let mut at = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let Some(whole) = line.strip_suffix(b"\n") else {
            return Err(Damage::new(FORMAT, at + line.len(), "a line feed", "the end of the file"));
        };
        let Some(tab) = whole.iter().position(|b| *b == b'\t') else {
            return Err(Damage::new(
                FORMAT,
                at,
                "key, TAB, value",
                whole.escape_ascii().to_string(),
            ));
        };
        let (key, value) = whole.split_at(tab);
        pairs.push((unescape(key), unescape(value.get(1..).unwrap_or_default())));
        at += line.len();
    }
    Ok(pairs)
}

/// The place of a byte among the others: the dot, which parted levels of names, comes before all that a key
/// has on its line.
fn rank(byte: u8) -> u8 {
    match byte {
        b'.' => 2,
        1..=8 => byte + 2,
        other => other,
    }
}

/// How keys follow each other.
pub fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let ranks = |key: &[u8]| {
        let mut line = Vec::with_capacity(key.len());
        escape(&mut line, key);
        line.iter_mut().for_each(|byte| *byte = rank(*byte));
        line
    };
    ranks(one).cmp(&ranks(other))
}

/// A whole file; pairs in any order.
pub fn write(pairs: &[Pair]) -> Vec<u8> {
    let mut sorted: Vec<&Pair> = pairs.iter().collect();
    sorted.sort_by(|(one, _), (other, _)| compare(one, other));
    let mut out = Vec::new();
    for (key, value) in sorted {
        escape(&mut out, key);
        out.push(b'\t');
        escape(&mut out, value);
        out.push(b'\n');
    }
    out
}

fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        out.push(match byte {
            0xff => match rest.next() {
                Some(0xff) | None => 0xff,
                Some(other) => other & 0x7f,
            },
            other => other,
        });
    }
    out
}

fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            0 | b'\t' | b'\r' | b'\n' => out.extend([0xff, byte | 0x80]),
            0xff => out.extend([0xff, 0xff]),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_where_cyrus_looks_for_them() {
        let keys: [&[u8]; 7] = [b"a", b"a.b", b"a\x01", b"a b", b"a-b", b"ab", b"a\0b"];
        let mut pairs: Vec<Pair> = keys.iter().map(|key| (key.to_vec(), Vec::new())).collect();
        let wanted = pairs.clone();
        pairs.sort();
        assert_eq!(read(&write(&pairs)).unwrap(), wanted);
    }
}
