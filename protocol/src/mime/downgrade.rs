//! The ENVELOPE of a message with UTF-8 in its header (RFC 6532) for clients that have not said that
//! they take it: RFC 6855 section 8, in the simple way of RFC 6858.
//!
//! Texts become encoded-words (RFC 2047); an address that ASCII can't write becomes one that nobody
//! has, so that no answer goes astray, with its own name before it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::part_structure::element;
use super::wire;

/// What stands for an address that ASCII can't write (RFC 6858 section 2.1).
const SURROGATE: (&[u8], &[u8]) = (b"invalid", b"internationalized-address.invalid");

/// Bytes in an encoded-word, so that it has at most 75 characters (RFC 2047 section 2).
const WORD_BYTES_MAX: usize = 39;

/// Writes an ENVELOPE in wire form without any 8-bit byte; as it is if it is not well formed.
pub fn envelope(wire: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if wire.is_ascii() || downgraded(wire, out).is_none() {
        out.truncate(start);
        out.extend_from_slice(wire);
    }
}

fn downgraded(wire: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let fields = elements(wire)?;
    out.push(b'(');
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        match (2..8).contains(&at) && field.starts_with(b"(") {
            true => addresses(field, out)?,
            false => text(field, out)?,
        }
    }
    out.push(b')');
    Some(())
}

fn addresses(list: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(b'(');
    for address in elements(list)? {
        let parts = elements(address)?;
        let [name, route, mailbox, host] = parts[..] else { return None };
        out.push(b'(');
        text(name, out)?;
        out.push(b' ');
        if [route, mailbox, host].iter().all(|part| part.is_ascii()) {
            for part in [route, mailbox, host] {
                out.extend_from_slice(part);
                out.push(b' ');
            }
            out.pop();
        } else {
            out.extend_from_slice(b"NIL ");
            wire::string(SURROGATE.0, out);
            out.push(b' ');
            // A group's start has no host (RFC 3501 section 7.4.2).
            match host {
                b"NIL" => out.extend_from_slice(host),
                _ => wire::string(SURROGATE.1, out),
            }
        }
        out.push(b')');
    }
    out.push(b')');
    Some(())
}

/// The elements of a list.
fn elements(list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = list.strip_prefix(b"(")?.strip_suffix(b")")?;
    let mut out = Vec::new();
    while !rest.is_empty() {
        rest = rest.strip_prefix(b" ").unwrap_or(rest);
        let end = element(rest)?;
        out.push(&rest[..end]);
        rest = &rest[end..];
    }
    Some(out)
}

/// A string for people, as encoded-words if it has to be. Only literals have 8-bit bytes.
fn text(string: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if string.is_ascii() {
        out.extend_from_slice(string);
        return Some(());
    }
    let start = string.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let value = string.strip_prefix(b"{").map(|_| &string[start..])?;
    let mut words = String::new();
    let mut add = |charset: &str, bytes: &[u8]| {
        let space = if words.is_empty() { "" } else { " " };
        words.push_str(&format!("{space}=?{charset}?B?{}?=", STANDARD.encode(bytes)));
    };
    match std::str::from_utf8(value) {
        Ok(mut rest) => {
            while !rest.is_empty() {
                let mut end = rest.len().min(WORD_BYTES_MAX);
                while !rest.is_char_boundary(end) {
                    end -= 1;
                }
                let (word, behind) = rest.split_at(end);
                add("UTF-8", word.as_bytes());
                rest = behind;
            }
        }
        // RFC 1428 section 3.
        Err(_) => value.chunks(WORD_BYTES_MAX).for_each(|word| add("UNKNOWN-8BIT", word)),
    }
    wire::string(words.as_bytes(), out);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::envelope;
    use proptest::prelude::*;

    fn downgraded(wire: &[u8]) -> String {
        let mut out = Vec::new();
        envelope(wire, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn texts_are_encoded_and_addresses_replaced() {
        let literal = |text: &str| format!("{{{}}}\r\n{text}", text.len());
        let wire = format!(
            "(\"Wed\" {} (({} NIL {} \"example.org\")(\"Fred\" NIL \"fred\" \"x.org\")) NIL NIL \
             ((NIL NIL {} NIL)(NIL NIL NIL NIL)) NIL NIL NIL \"<1@x>\")",
            literal("Grüße"),
            literal("Jö"),
            literal("jö"),
            literal("gruppe-ü"),
        );
        assert_eq!(
            downgraded(wire.as_bytes()),
            "(\"Wed\" \"=?UTF-8?B?R3LDvMOfZQ==?=\" ((\"=?UTF-8?B?SsO2?=\" NIL \"invalid\" \
             \"internationalized-address.invalid\")(\"Fred\" NIL \"fred\" \"x.org\")) NIL NIL \
             ((NIL NIL \"invalid\" NIL)(NIL NIL NIL NIL)) NIL NIL NIL \"<1@x>\")"
        );
        let plain = "(NIL \"a\" NIL NIL NIL NIL NIL NIL NIL NIL)";
        assert_eq!(downgraded(plain.as_bytes()), plain);
        let long = format!("(NIL {} NIL)", literal(&"ü".repeat(30)));
        let encoded = downgraded(long.as_bytes());
        assert!(encoded.matches("=?UTF-8?B?").count() == 2 && encoded.is_ascii(), "{encoded}");
        assert!(downgraded(b"(NIL {2}\r\n\xfc\xdf NIL)").contains("=?UNKNOWN-8BIT?B?/N8=?="));
        assert_eq!(downgraded("(NIL \"ü".as_bytes()), "(NIL \"ü");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[()\"{}3 NILü\r\n\\\\]{0,40}") {
            let _ = downgraded(text.as_bytes());
        }
    }
}
