//! Which literals of APPEND and REPLACE are messages, told from their text so far.

use super::{Literal, without_line_end};

/// Follows the text of APPEND into the parentheses of ANNOTATION (RFC 5257 section 4.7): a literal
/// there is a value, not a message. Each octet is looked at once.
#[derive(Debug, Default)]
pub(super) struct AnnotationScan {
    /// What was looked at.
    at: u32,
    /// Where the word that may stand in front of a parenthesis begins.
    word: u32,
    depth: u16,
    /// The outermost parenthesis that is open is ANNOTATION's.
    annotation: bool,
}

impl AnnotationScan {
    /// Whether what follows `text`, which has grown since, is in there.
    pub(super) fn is_inside(&mut self, text: &[u8]) -> bool {
        let (mut at, mut word) = (self.at as usize, self.word as usize);
        while let Some(&octet) = text.get(at) {
            match octet {
                b'"' => {
                    at += 1;
                    while text.get(at).is_some_and(|&octet| octet != b'"') {
                        at += if text[at] == b'\\' { 2 } else { 1 };
                    }
                }
                b'\n' => {
                    if let Some((_, literal)) = Literal::at_end_of(without_line_end(&text[..=at])) {
                        let bytes = usize::try_from(literal.bytes).unwrap_or(usize::MAX);
                        at = at.saturating_add(bytes);
                    }
                }
                b'(' => {
                    if self.depth == 0 {
                        let name = text.get(word..at).unwrap_or_default();
                        let is_name = name.trim_ascii_end().eq_ignore_ascii_case(b"ANNOTATION");
                        self.annotation = is_name;
                    }
                    self.depth = self.depth.saturating_add(1);
                    word = at + 1;
                }
                b')' => {
                    self.depth = self.depth.saturating_sub(1);
                    word = at + 1;
                }
                b' ' if text.get(at + 1) != Some(&b'(') => word = at + 1,
                _ => {}
            }
            at = at.saturating_add(1);
        }
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        (self.at, self.word) = (place(at), place(word));
        self.annotation && self.depth > 0
    }
}

/// Whether `text` is `tag APPEND mailbox `, or `tag REPLACE number mailbox ` also behind UID (RFC
/// 8508), and perhaps more: then the literal that follows is a message or a piece of one (RFC 4469),
/// else the mailbox name itself or another command's string.
pub(super) fn is_append_past_mailbox(text: &[u8]) -> bool {
    let after_word = |text: &[u8]| {
        let end = text.iter().position(|&b| b == b' ')?;
        Some((text[..end].to_ascii_uppercase(), end + 1))
    };
    let mut rest = text;
    let mut next = || {
        let (word, behind) = after_word(rest)?;
        rest = &rest[behind..];
        Some(word)
    };
    let _tag = next();
    let command = match next() {
        Some(uid) if uid == b"UID" => next().filter(|name| name == b"REPLACE"),
        other => other,
    };
    match command.as_deref() {
        Some(b"APPEND") => {}
        Some(b"REPLACE") => drop(next()),
        _ => return false,
    }
    !rest.is_empty()
}
