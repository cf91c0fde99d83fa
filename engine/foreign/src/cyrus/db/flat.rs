//! Flat databases: sorted lines `key TAB value LF`, replaced as a whole.
//!
//! Since 2.4 the bytes NUL, TAB, CR and LF are written FF and the byte with bit 7 set, FF itself as
//! FF FF.

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

/// A whole file; pairs in the order of their keys.
pub fn write(pairs: &[Pair]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in pairs {
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
