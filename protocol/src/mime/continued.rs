//! Parameters that senders write in pieces (RFC 2231 section 3), put together for BODYSTRUCTURE as
//! section 6 asks of IMAP servers.
//!
//! Invariant: what is not whole (a piece missing, twice there, or in an extended form that its
//! first piece does not begin) stays as it came.

use std::borrow::Cow;

/// A parameter's name and value.
pub type Parameter<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// A piece's name: `name*2` or, in extended form, `name*2*`.
struct Piece<'a> {
    name: &'a [u8],
    number: usize,
    extended: bool,
}

fn piece(name: &[u8]) -> Option<Piece<'_>> {
    let (rest, extended) = match name.strip_suffix(b"*") {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let star = rest.iter().rposition(|&b| b == b'*').filter(|&star| star > 0)?;
    let digits = &rest[star + 1..];
    if digits.is_empty() || digits.len() > 4 || digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    let number = digits
        .iter()
        .try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + usize::from(b - b'0')))?;
    Some(Piece { name: &rest[..star], number, extended })
}

/// Whether a parameter of that name may be a piece, so that [`joined`] has something to do.
pub fn is_piece(name: &[u8]) -> bool {
    piece(name).is_some()
}

/// The parameters with those in pieces whole, each at the place of its first piece: as `name`, or
/// as `name*` with an extended value where a piece has that form. Names are in lower case.
pub fn joined<'a>(list: &[(&'a [u8], &'a [u8])]) -> Vec<Parameter<'a>> {
    let mut out: Vec<Parameter<'a>> = Vec::with_capacity(list.len());
    let mut done: Vec<&[u8]> = Vec::new();
    for &(name, value) in list {
        let of = piece(name).map(|piece| piece.name);
        if of.is_some_and(|of| done.contains(&of)) {
            continue;
        }
        match of.and_then(|of| whole(of, list)) {
            Some(parameter) => {
                done.extend(of);
                out.push(parameter);
            }
            None => out.push((Cow::Borrowed(name), Cow::Borrowed(value))),
        }
    }
    out
}

fn whole<'a>(name: &'a [u8], list: &[(&'a [u8], &'a [u8])]) -> Option<Parameter<'a>> {
    let mut pieces: Vec<(usize, bool, &[u8])> = Vec::new();
    for (other, value) in list {
        if let Some(piece) = piece(other).filter(|piece| piece.name == name) {
            pieces.push((piece.number, piece.extended, value));
        }
    }
    pieces.sort_by_key(|piece| piece.0);
    if pieces.iter().enumerate().any(|(at, piece)| piece.0 != at) {
        return None;
    }
    if !pieces.iter().any(|piece| piece.1) {
        let value: Vec<u8> = pieces.iter().flat_map(|piece| piece.2).copied().collect();
        return Some((Cow::Borrowed(name), Cow::Owned(value)));
    }
    if !pieces[0].1 {
        return None;
    }
    let mut value = Vec::new();
    for (_, extended, text) in pieces {
        if extended {
            value.extend_from_slice(text);
        } else {
            text.iter().for_each(|&b| encode(b, &mut value));
        }
    }
    Some((Cow::Owned([name, b"*"].concat()), Cow::Owned(value)))
}

/// A byte as extended values have it (RFC 2231 section 7, attribute-char).
fn encode(b: u8, out: &mut Vec<u8>) {
    if b.is_ascii_graphic() && !b"*'%()<>@,;:\\\"/[]?=".contains(&b) {
        return out.push(b);
    }
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[(&str, &str)]) -> Vec<(String, String)> {
        let list: Vec<_> = list.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        let text = |bytes: Cow<[u8]>| String::from_utf8(bytes.into_owned()).unwrap();
        joined(&list).into_iter().map(|(n, v)| (text(n), text(v))).collect()
    }

    fn expect(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
    }

    #[test]
    fn the_examples_of_rfc_2231_come_out_whole() {
        let read_as = |list: &[_], expected: &[_]| assert_eq!(read(list), expect(expected));
        read_as(
            &[
                ("access-type", "URL"),
                ("url*0", "ftp://"),
                ("url*1", "cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar"),
            ],
            &[
                ("access-type", "URL"),
                ("url", "ftp://cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar"),
            ],
        );
        read_as(
            &[
                ("title*0*", "us-ascii'en'This%20is%20even%20more%20"),
                ("title*1*", "%2A%2A%2Afun%2A%2A%2A%20"),
                ("title*2", "isn't it!"),
            ],
            &[(
                "title*",
                "us-ascii'en'This%20is%20even%20more%20%2A%2A%2Afun%2A%2A%2A%20isn%27t%20it!",
            )],
        );
        // In any order, between others; a single value in extended form is none in pieces.
        read_as(
            &[("a*1", "2"), ("b", "x"), ("a*0", "1"), ("c*", "utf-8''%C3")],
            &[("a", "12"), ("b", "x"), ("c*", "utf-8''%C3")],
        );
    }

    #[test]
    fn what_is_not_whole_stays() {
        for list in [
            &[("a*1", "2")][..],
            &[("a*0", "1"), ("a*2", "3")],
            &[("a*0", "1"), ("a*0", "again")],
            &[("a*0", "1"), ("a*1*", "%41")],
            &[("a*00", "1"), ("*0", "x"), ("a**", "y"), ("a*x", "z"), ("*", "w")],
        ] {
            assert_eq!(read(list), expect(list));
        }
    }
}
