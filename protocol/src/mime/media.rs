//! Values of Content-Type, Content-Disposition and Content-Transfer-Encoding (RFC 2045, 2183).
//!
//! Parameters in RFC 2231 form (`filename*0*=…`) are passed on under the names they have;
//! [`super::continued`] puts pieces together. All functions take unfolded values.

use super::lexer::Cursor;

/// Parameters kept of one value; those that follow are ignored.
pub const PARAMETERS_MAX: usize = 100;

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// Reads `type/subtype; parameters` and calls `parameter` with each name (in its own case) and
/// unquoted value. `None` when there is no `type/subtype` to read.
pub fn content_type<'a>(
    value: &'a [u8],
    parameter: impl FnMut(&'a [u8], &[u8]),
) -> Option<(&'a [u8], &'a [u8])> {
    let mut cursor = Cursor::new(value);
    let mut comment = Vec::new();
    cursor.skip_blanks(&mut comment);
    let stop = |b: u8| matches!(b, b'/' | b';' | b'(' | b'"') || is_blank(b);
    let media_type = cursor.take_until(stop);
    cursor.skip_blanks(&mut comment);
    if media_type.is_empty() || !cursor.eat(b'/') {
        return None;
    }
    cursor.skip_blanks(&mut comment);
    let subtype = cursor.take_until(stop);
    if subtype.is_empty() {
        return None;
    }
    parameters(cursor, parameter);
    Some((media_type, subtype))
}

/// Reads `token; parameters`, the form of Content-Disposition. `None` when there is no token.
pub fn disposition<'a>(
    value: &'a [u8],
    parameter: impl FnMut(&'a [u8], &[u8]),
) -> Option<&'a [u8]> {
    let mut cursor = Cursor::new(value);
    cursor.skip_blanks(&mut Vec::new());
    let token = cursor.take_until(|b| matches!(b, b';' | b'(') || is_blank(b));
    if token.is_empty() {
        return None;
    }
    parameters(cursor, parameter);
    Some(token)
}

/// The first token of a value: the encoding's name in Content-Transfer-Encoding.
pub fn token(value: &[u8]) -> Option<&[u8]> {
    disposition(value, |_, _| {})
}

/// The bytes of a value in RFC 2231 form, `charset'language'%41bc`.
pub fn extended_value(value: &[u8]) -> Vec<u8> {
    let text = value.splitn(3, |&b| b == b'\'').nth(2).unwrap_or(value);
    let hex = |b: Option<&u8>| char::from(*b?).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&b) = text.get(at) {
        match (b, hex(text.get(at + 1)), hex(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                out.push(b);
                at += 1;
            }
        }
    }
    out
}

fn parameters<'a>(mut cursor: Cursor<'a>, mut each: impl FnMut(&'a [u8], &[u8])) {
    let mut comment = Vec::new();
    let mut value = Vec::new();
    for _ in 0..PARAMETERS_MAX {
        loop {
            cursor.skip_blanks(&mut comment);
            if !cursor.eat(b';') {
                break;
            }
        }
        if cursor.peek().is_none() {
            return;
        }
        let name = cursor.take_until(|b| matches!(b, b'=' | b';' | b'(') || is_blank(b));
        cursor.skip_blanks(&mut comment);
        if !cursor.eat(b'=') {
            // A word without a value, or garbage: go on behind it.
            continue;
        }
        cursor.skip_blanks(&mut comment);
        value.clear();
        if cursor.peek() == Some(b'"') {
            cursor.quoted_string(&mut value);
        } else {
            unquoted(&mut cursor, &mut value);
        }
        if !name.is_empty() {
            each(name, &value);
        }
    }
}

/// An unquoted value. Blanks inside belong to it (`name=my file.txt`, as broken senders write)
/// unless the next word looks like another parameter.
fn unquoted(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) {
    loop {
        out.extend_from_slice(cursor.take_until(|b| matches!(b, b';' | b'(') || is_blank(b)));
        let blanks = cursor.rest().iter().take_while(|b| is_blank(**b)).count();
        let after = &cursor.rest()[blanks..];
        let word = after.iter().position(|&b| b == b';' || is_blank(b)).unwrap_or(after.len());
        let more = blanks > 0 && word > 0 && after[0] != b'(' && !after[..word].contains(&b'=');
        if !more {
            return;
        }
        out.push(b' ');
        cursor.take_until(|b| !is_blank(b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Option<(String, Vec<(String, String)>)>;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn read(value: &str) -> Read {
        let mut list = Vec::new();
        let (t, s) = content_type(value.as_bytes(), |n, v| list.push((text(n), text(v))))?;
        Some((format!("{}/{}", text(t), text(s)), list))
    }

    fn expect(media: &str, list: &[(&str, &str)]) -> Read {
        let list = list.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Some((media.to_owned(), list))
    }

    #[test]
    fn parameters_are_unquoted_and_comments_skipped() {
        assert_eq!(
            read("text/plain; charset=us-ascii (Plain text); NAME=\"a \\\"b\\\"; c\""),
            expect("text/plain", &[("charset", "us-ascii"), ("NAME", "a \"b\"; c")])
        );
        assert_eq!(
            read("a/b; filename*0*=utf-8''x; filename*1=y"),
            expect("a/b", &[("filename*0*", "utf-8''x"), ("filename*1", "y")])
        );
    }

    #[test]
    fn broken_parameters_are_read_as_far_as_they_go() {
        assert_eq!(
            read("a/b; name=my file.txt ; x; y=; boundary=b charset=c;; z=\"open"),
            expect(
                "a/b",
                &[
                    ("name", "my file.txt"),
                    ("y", ""),
                    ("boundary", "b"),
                    ("charset", "c"),
                    ("z", "open")
                ]
            )
        );
        assert_eq!(read("text"), None);
        assert_eq!(read("/plain"), None);
        assert_eq!(read("text/; a=b"), None);
        assert_eq!(read("a/b; (((("), expect("a/b", &[]));
        assert_eq!(read("a/b; =x; ==y"), expect("a/b", &[]));
    }

    #[test]
    fn extended_values() {
        assert_eq!(extended_value(b"utf-8'en'a%20b%zz%4"), b"a b%zz%4");
        assert_eq!(extended_value(b"plain"), b"plain");
    }

    #[test]
    fn disposition_and_encoding() {
        assert_eq!(disposition(b" attachment; filename=x", |_, _| {}), Some(&b"attachment"[..]));
        assert_eq!(disposition(b"; filename=x", |_, _| {}), None);
        assert_eq!(token(b" (c) base64 "), Some(&b"base64"[..]));
    }
}
