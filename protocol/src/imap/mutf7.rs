//! Modified UTF-7, the mailbox names of IMAP4rev1: RFC 3501 section 5.1.3.
//!
//! Strict both ways: for every string there is exactly one encoded form, and [`decode`] takes no
//! other. So two names on the wire are one mailbox only if they are byte for byte equal.

use thiserror::Error;

/// Why a name is not modified UTF-7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Mutf7Error {
    /// A byte outside printable US-ASCII.
    #[error("expected printable US-ASCII in a mailbox name")]
    NotPrintable,
    /// `&` without its closing `-`.
    #[error("expected '-' at the end of a base64 run in a mailbox name")]
    Unclosed,
    /// A character outside the alphabet, leftover bits, or an odd number of bytes.
    #[error("expected modified base64 of UTF-16 in a mailbox name")]
    Base64,
    /// Surrogates that don't pair.
    #[error("expected paired UTF-16 surrogates in a mailbox name")]
    Surrogate,
    /// Printable US-ASCII inside a base64 run, or two runs side by side.
    #[error("expected the shortest modified UTF-7 form of a mailbox name")]
    NotShortest,
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

fn is_direct(c: char) -> bool {
    (' '..='~').contains(&c)
}

/// The wire form of `name`.
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut run: Vec<u16> = Vec::new();
    for c in name.chars() {
        if is_direct(c) {
            close_run(&mut out, &mut run);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            run.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    close_run(&mut out, &mut run);
    out
}

fn close_run(out: &mut String, run: &mut Vec<u16>) {
    if run.is_empty() {
        return;
    }
    out.push('&');
    let (mut bits, mut count) = (0u32, 0);
    for unit in run.drain(..) {
        bits = bits << 16 | u32::from(unit);
        count += 16;
        while count >= 6 {
            count -= 6;
            out.push(char::from(ALPHABET[(bits >> count & 63) as usize]));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        out.push(char::from(ALPHABET[(bits << (6 - count) & 63) as usize]));
    }
    out.push('-');
}

/// The name that `wire` stands for.
pub fn decode(wire: &[u8]) -> Result<String, Mutf7Error> {
    let mut out = String::with_capacity(wire.len());
    let mut rest = wire;
    let mut after_run = false;
    while let Some((&b, tail)) = rest.split_first() {
        if !is_direct(char::from(b)) {
            return Err(Mutf7Error::NotPrintable);
        }
        if b != b'&' {
            out.push(char::from(b));
            rest = tail;
            after_run = false;
            continue;
        }
        let end = tail.iter().position(|&b| b == b'-').ok_or(Mutf7Error::Unclosed)?;
        if end == 0 {
            out.push('&');
        } else if after_run {
            return Err(Mutf7Error::NotShortest);
        } else {
            decode_run(&tail[..end], &mut out)?;
        }
        after_run = end > 0;
        rest = &tail[end + 1..];
    }
    Ok(out)
}

fn decode_run(run: &[u8], out: &mut String) -> Result<(), Mutf7Error> {
    let mut units: Vec<u16> = Vec::with_capacity(run.len() * 6 / 16);
    let (mut bits, mut count) = (0u32, 0);
    for b in run {
        let value = ALPHABET.iter().position(|a| a == b).ok_or(Mutf7Error::Base64)?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push((bits >> count) as u16);
            bits &= (1 << count) - 1;
        }
    }
    // A whole unused digit, or bits that aren't the zero filling, have another spelling.
    if count >= 6 || bits != 0 || units.is_empty() {
        return Err(Mutf7Error::Base64);
    }
    for c in char::decode_utf16(units) {
        let c = c.map_err(|_| Mutf7Error::Surrogate)?;
        if is_direct(c) {
            return Err(Mutf7Error::NotShortest);
        }
        out.push(c);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples_of_the_rfc() {
        let wire = "~peter/mail/&U,BTFw-/&ZeVnLIqe-";
        assert_eq!(decode(wire.as_bytes()).unwrap(), "~peter/mail/台北/日本語");
        assert_eq!(encode("~peter/mail/台北/日本語"), wire);
        assert_eq!(encode("Q&A"), "Q&-A");
        assert_eq!(encode("😀"), "&2D3eAA-");
    }

    #[test]
    fn other_spellings_are_refused() {
        for (wire, why) in [
            ("&Jjo!", Mutf7Error::Unclosed),
            ("&U,BTFw-&ZeVnLIqe-", Mutf7Error::NotShortest),
            ("&AGE-", Mutf7Error::NotShortest),
            ("&U-", Mutf7Error::Base64),
            ("&U,BTFx-", Mutf7Error::Base64),
            ("&2D0-", Mutf7Error::Surrogate),
            ("caf\u{e9}", Mutf7Error::NotPrintable),
            ("a\tb", Mutf7Error::NotPrintable),
        ] {
            assert_eq!(decode(wire.as_bytes()), Err(why), "{wire}");
        }
    }

    proptest! {
        #[test]
        fn encode_then_decode_is_equal(name in any::<String>()) {
            let wire = encode(&name);
            prop_assert!(wire.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert_eq!(decode(wire.as_bytes()).unwrap(), name);
        }

        #[test]
        fn what_decodes_encodes_back(wire in "[ -~]{0,4}(&[A-Za-z0-9+,]{0,8}-){0,2}[ -~]{0,4}") {
            if let Ok(name) = decode(wire.as_bytes()) {
                prop_assert_eq!(encode(&name), wire);
            }
        }
    }
}
