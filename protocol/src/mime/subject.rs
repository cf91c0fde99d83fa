//! The base subject of RFC 5256 section 2.1, by which SORT and THREAD compare.

use super::{encoded_word, header};

/// A subject without reply and forward marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseSubject {
    /// UTF-8, in its own case; callers fold it before comparing.
    pub text: String,
    /// Whether a mark was taken off, which THREAD=REFERENCES asks for.
    pub is_reply_or_forward: bool,
}

/// The base subject of a raw Subject value (folded, encoded words and all).
pub fn base(value: &[u8]) -> BaseSubject {
    let mut room = String::new();
    let (text, is_reply_or_forward) = base_in(value, &mut room);
    BaseSubject { text: text.to_owned(), is_reply_or_forward }
}

/// As [`base`], without an allocation once `text` has grown.
pub fn base_in<'t>(value: &[u8], text: &'t mut String) -> (&'t str, bool) {
    let unfolded = header::unfold(value);
    let decoded = encoded_word::decode(&unfolded);
    text.clear();
    if is_spaced(decoded.as_bytes()) {
        text.push_str(&decoded);
    } else {
        for word in decoded.split([' ', '\t', '\r', '\n']).filter(|w| !w.is_empty()) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
    }
    let mut marked = false;
    let mut s = text.as_str();
    loop {
        s = strip_trailers(s, &mut marked);
        s = strip_leaders(s, &mut marked);
        match strip_forward_brackets(s) {
            Some(inner) => {
                marked = true;
                s = inner;
            }
            None => break,
        }
    }
    (s, marked)
}

/// Whether words have one space between them already, and none at the ends: most subjects.
fn is_spaced(text: &[u8]) -> bool {
    let mut before = b' ';
    let mut spaced = true;
    for &octet in text {
        let is_blank = matches!(octet, b'\t' | b'\r' | b'\n');
        spaced &= !(is_blank || octet == b' ' && before == b' ');
        before = octet;
    }
    spaced && before != b' '
}

/// `subj-trailer = "(fwd)" / WSP`
fn strip_trailers<'a>(mut s: &'a str, marked: &mut bool) -> &'a str {
    loop {
        s = s.trim_end_matches(' ');
        match strip_suffix_ignore_case(s, "(fwd)") {
            Some(rest) => {
                *marked = true;
                s = rest;
            }
            None => return s,
        }
    }
}

/// `subj-leader` and `subj-blob`, until neither is left.
fn strip_leaders<'a>(mut s: &'a str, marked: &mut bool) -> &'a str {
    loop {
        s = s.trim_start_matches(' ');
        if let Some(rest) = strip_reply_mark(s) {
            *marked = true;
            s = rest;
        } else if let Some(rest) = strip_blob(s).filter(|rest| !rest.is_empty()) {
            s = rest;
        } else {
            return s;
        }
    }
}

/// `*subj-blob subj-refwd`
fn strip_reply_mark(s: &str) -> Option<&str> {
    let mut rest = s;
    while let Some(next) = strip_blob(rest) {
        rest = next;
    }
    let rest = ["re", "fwd", "fw"].iter().find_map(|m| strip_prefix_ignore_case(rest, m))?;
    let rest = rest.trim_start_matches(' ');
    strip_blob(rest).unwrap_or(rest).strip_prefix(':')
}

/// `subj-blob = "[" *BLOBCHAR "]" *WSP`
fn strip_blob(s: &str) -> Option<&str> {
    let inner = s.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    let rest = inner[end..].strip_prefix(']')?;
    Some(rest.trim_start_matches(' '))
}

/// `[fwd: … ]`
fn strip_forward_brackets(s: &str) -> Option<&str> {
    strip_prefix_ignore_case(s, "[fwd:")?.strip_suffix(']')
}

fn strip_prefix_ignore_case<'a>(s: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = s.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn strip_suffix_ignore_case<'a>(s: &'a str, suffix: &str) -> Option<&'a str> {
    let (rest, tail) = s.split_at_checked(s.len().checked_sub(suffix.len())?)?;
    tail.eq_ignore_ascii_case(suffix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> String {
        base(value.as_bytes()).text
    }

    #[test]
    fn marks_are_taken_off() {
        assert_eq!(text("Re: Fwd: [list] hello  world (fwd)"), "hello world");
        assert_eq!(text("[a] re [b] : fw: x"), "x");
        assert_eq!(text("[Fwd: Re: inner]"), "inner");
        assert_eq!(text("RE:\r\n =?utf-8?q?re=3A_caf=C3=A9?="), "caf\u{e9}");
    }

    #[test]
    fn blanks_become_one_space_wherever_they_are() {
        for plain in ["a b", " a b", "a b ", "a  b", "a\tb", "\ta b\t", "a =?utf-8?q?=20?= b"] {
            assert_eq!(text(plain), "a b", "{plain:?}");
        }
        assert_eq!(text(" \t "), "");
    }

    #[test]
    fn what_is_no_mark_stays() {
        assert_eq!(text("[only a blob]"), "[only a blob]");
        assert_eq!(text("regarding: x"), "regarding: x");
        assert_eq!(text("Re: "), "");
        assert!(!base(b"[list] plain").is_reply_or_forward);
        assert_eq!(text("[list] plain"), "plain");
        assert!(base(b"x (fwd)").is_reply_or_forward);
    }
}
