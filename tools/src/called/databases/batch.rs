//! `cyr_dbtool … batch`: commands of standard input, one a line, with strings as IMAP has them.
//!
//! | command | does |
//! |---|---|
//! | `SHOW [prefix]`, `GET key` | prints records |
//! | `SET key value`, `DELETE key` | changes, at once or within a transaction |
//! | `BEGIN`, `COMMIT`, `ABORT` | a transaction |
//!
//! The file stays locked until the input ends, and is written then, with all that is not of a transaction
//! which nobody committed. A line that is wrong ends it.

use std::io::Write;

use foreign::cyrus::db::{self, Form, Pair};

/// From so many octets on a string is a literal.
const QUOTED_BYTES_MAX: usize = 8192;
/// From so many octets on a string is no atom.
const ATOM_BYTES_MAX: usize = 1024;

/// Runs the commands of `input` on records that are in the order of their keys' bytes.
///
/// # Errors
/// Which line is wrong, in Cyrus's words around it; what was done before it stays.
pub(super) fn run(
    input: &[u8],
    form: Form,
    pairs: &mut Vec<Pair>,
    out: &mut dyn Write,
) -> Result<(), String> {
    let mut rest = input;
    let mut before: Option<Vec<Pair>> = None;
    let mut done = Ok(());
    for number in 1.. {
        if rest.is_empty() {
            break;
        }
        let words = words(&mut rest);
        let (name, step) = match &words {
            Some(words) => (
                String::from_utf8_lossy(&words[0]).into_owned(),
                step(&words[0], &words[1..], form, pairs, &mut before, out),
            ),
            None => (String::new(), Err("strings that are atoms, quoted or literals")),
        };
        if let Err(expected) = step {
            done =
                Err(format!("FAILED: line {number} at cmd {name} with error expected {expected}"));
            break;
        }
    }
    if let Some(before) = before {
        *pairs = before;
    }
    done
}

/// One command.
fn step(
    name: &[u8],
    strings: &[Vec<u8>],
    form: Form,
    pairs: &mut Vec<Pair>,
    before: &mut Option<Vec<Pair>>,
    out: &mut dyn Write,
) -> Result<(), &'static str> {
    let place =
        |pairs: &[Pair], key: &[u8]| pairs.binary_search_by(|(one, _)| one.as_slice().cmp(key));
    match (name, strings) {
        // An empty line.
        (b"", []) => {}
        (b"BEGIN", []) if before.is_none() => *before = Some(pairs.clone()),
        (b"COMMIT", []) if before.is_some() => *before = None,
        (b"ABORT", []) if before.is_some() => *pairs = before.take().unwrap_or_default(),
        (b"BEGIN", []) => return Err("no transaction within another"),
        (b"COMMIT" | b"ABORT", []) => return Err("a transaction"),
        (b"SHOW", [] | [_]) => {
            let prefix = strings.first().map_or(&b""[..], Vec::as_slice);
            let mut shown: Vec<&Pair> =
                pairs.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
            shown.sort_by(|one, other| db::compare(form, &one.0, &other.0));
            shown.into_iter().for_each(|pair| print(out, pair));
        }
        (b"GET", [key]) => {
            if let Ok(at) = place(pairs, key) {
                print(out, &pairs[at]);
            }
        }
        (b"SET", [key, value]) => match place(pairs, key) {
            Ok(at) => pairs[at].1.clone_from(value),
            Err(at) => pairs.insert(at, (key.clone(), value.clone())),
        },
        (b"DELETE", [key]) => {
            if let Ok(at) = place(pairs, key) {
                pairs.remove(at);
            }
        }
        _ => return Err("BEGIN, SHOW, SET, GET, DELETE, COMMIT or ABORT with its strings"),
    }
    Ok(())
}

/// The command's name and strings of the next line; `None` where it is none.
fn words(rest: &mut &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    loop {
        words.push(word(rest)?);
        match rest.split_first() {
            None => return Some(words),
            Some((b' ', behind)) => *rest = behind,
            Some((b'\n', behind)) => {
                *rest = behind;
                return Some(words);
            }
            Some((b'\r', behind)) => {
                *rest = behind.strip_prefix(b"\n")?;
                return Some(words);
            }
            Some(_) => return None,
        }
    }
}

/// An atom, a quoted string or a literal.
fn word(rest: &mut &[u8]) -> Option<Vec<u8>> {
    match rest.first() {
        Some(b'"') => {
            let mut word = Vec::new();
            let mut bytes = rest.iter().enumerate().skip(1);
            loop {
                match bytes.next()? {
                    (at, b'"') => {
                        *rest = rest.get(at + 1..)?;
                        return Some(word);
                    }
                    (_, b'\\') => word.push(*bytes.next()?.1),
                    (_, b'\r' | b'\n') => return None,
                    (_, byte) => word.push(*byte),
                }
            }
        }
        Some(b'{') => {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let head = std::str::from_utf8(rest.get(1..end)?).ok()?.trim_end_matches('\r');
            let length: usize = head.strip_suffix('}')?.trim_end_matches('+').parse().ok()?;
            let whole = rest.get(end + 1..)?;
            let word = whole.get(..length)?.to_vec();
            *rest = whole.get(length..)?;
            Some(word)
        }
        _ => {
            let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n'));
            let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
            *rest = behind;
            Some(word.to_vec())
        }
    }
}

/// A closed pipe means that nobody wants the rest.
fn print(out: &mut dyn Write, (key, value): &Pair) {
    let line = [string(key), b" ".to_vec(), string(value), b"\n".to_vec()].concat();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let is_atom_byte = |byte: &u8| (0x1f..0x7f).contains(byte) && !b" {()\"%*\\".contains(byte);
    let is_quoted_byte = |byte: &u8| (1..0x80).contains(byte) && !b"\r\n\"\\".contains(byte);
    let is_atom = !bytes.is_empty() && bytes.len() < ATOM_BYTES_MAX && bytes != b"NIL";
    if is_atom && bytes.iter().all(is_atom_byte) {
        bytes.to_vec()
    } else if bytes.len() < QUOTED_BYTES_MAX && bytes.iter().all(is_quoted_byte) {
        [b"\"", bytes, b"\""].concat()
    } else {
        [format!("{{{}}}\r\n", bytes.len()).as_bytes(), bytes].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(input: &[u8], pairs: &mut Vec<Pair>) -> (String, Result<(), String>) {
        let mut out = Vec::new();
        let done = run(input, Form::Twoskip, pairs, &mut out);
        (String::from_utf8_lossy(&out).into_owned(), done)
    }

    #[test]
    fn transactions_hold_or_fall() {
        let mut pairs = vec![(b"k".to_vec(), b"v".to_vec())];
        let input =
            b"BEGIN\nSET x {3+}\r\na b\nSET \"y z\" 5\nGET x\nCOMMIT\nSHOW\nBEGIN\nDELETE x\n\
                      SHOW x\nABORT\nDELETE k\nSHOW\nGET no\n";
        let (out, ended) = done(input, &mut pairs);
        ended.unwrap();
        assert_eq!(out, "x \"a b\"\nk v\nx \"a b\"\n\"y z\" 5\nx \"a b\"\n\"y z\" 5\n");
        // A line that is wrong ends it, and what nobody committed falls.
        let (_, ended) = done(b"SET a 1\nBEGIN\nSET b 2\nFOO\nSET c 3\n", &mut pairs);
        assert!(ended.unwrap_err().starts_with("FAILED: line 4 at cmd FOO with error "));
        let keys: Vec<_> = pairs.iter().map(|(key, _)| key.as_slice()).collect();
        assert_eq!(keys, [&b"a"[..], b"x", b"y z"]);
    }

    #[test]
    fn strings_are_read_as_they_are_printed_and_none_is_cut() {
        for value in
            [&b""[..], b"a", b"NIL", b"a b", b"a\"b\\", b"a\r\nb", b"\0\xff", &[b'x'; 9000]]
        {
            let mut line = string(value);
            line.push(b'\n');
            assert_eq!(words(&mut line.as_slice()).unwrap(), [value.to_vec()]);
            for cut in 1..line.len().min(20) {
                // No panic, whatever is left.
                let _ = words(&mut &line[..cut]);
            }
        }
        for wrong in [&b"\"a"[..], b"{9}\nabc", b"{x}\n", b"{99999999999999999999}\n", b"\"a\"b"] {
            assert_eq!(words(&mut &wrong[..]), None);
        }
    }
}
