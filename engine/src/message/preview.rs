//! The line that PREVIEW tells: RFC 8970, the beginning of a message's text.
//!
//! Made in the one pass at delivery, from the first bytes of the message, and kept in the cache. It
//! is the text of the first text/plain or text/html part that has any and is no attachment, with
//! transfer encoding, charset and markup undone, runs of blanks as one, what is quoted from other
//! mail left out where something else is there. An encrypted message has none.

use protocol::mime::html::Stripper;
use protocol::mime::transfer::Decoder;
use protocol::mime::{Encoding, Kind, Part, Structure, charset};

/// Characters of a preview at most: RFC 8970 section 3.1 asks for 200 and allows 256.
const PREVIEW_CHARS_MAX: usize = 200;
/// Stored bytes of a message that are looked at.
pub(super) const BEGINNING_BYTES_MAX: usize = 64 << 10;
/// Stored bytes that are decoded before the next are; the first of them tell the charset.
const PIECE_BYTES: usize = 1 << 10;

/// The preview of a message of which `beginning` are the first stored bytes.
pub(super) fn make(structure: &Structure, beginning: &[u8]) -> String {
    let texts = structure.parts().iter().filter(|part| is_told(structure, part));
    let mut line = String::new();
    for part in texts {
        let from = (part.body_start.stored as usize).min(beginning.len());
        let to = (part.end.stored as usize).clamp(from, beginning.len());
        line = text_of(structure, part, &beginning[from..to]);
        if !line.is_empty() {
            break;
        }
    }
    line
}

/// Whether a part's text may be the preview.
fn is_told(structure: &Structure, part: &Part) -> bool {
    let attached = part.disposition.is_some_and(|d| structure.text(d) == b"attachment");
    part.kind == Kind::Leaf
        && !attached
        && structure.text(part.media_type) == b"text"
        && matches!(structure.text(part.subtype), b"plain" | b"html")
        && part.encoding != Encoding::Other
        && !is_forwarded(structure, part)
}

/// Whether a part is within another message.
fn is_forwarded(structure: &Structure, part: &Part) -> bool {
    let mut above = part.parent;
    while let Some(parent) = above.and_then(|index| structure.parts().get(usize::from(index))) {
        if parent.kind == Kind::Message {
            return true;
        }
        above = parent.parent;
    }
    false
}

fn text_of(structure: &Structure, part: &Part, body: &[u8]) -> String {
    let label = structure.parameter(part, b"charset").unwrap_or_default();
    let is_html = structure.text(part.subtype) == b"html";
    let mut collector = Collector::default();
    collector.line.reserve(PREVIEW_CHARS_MAX);
    let mut stripper = is_html.then(Stripper::default);
    let mut transfer = Decoder::new(part.encoding);
    let mut decoder = None;
    let mut text = String::with_capacity(PIECE_BYTES * 3);
    let mut decoded = Vec::with_capacity(PIECE_BYTES);
    let mut pieces = body.chunks(PIECE_BYTES);
    let mut is_last = false;
    while !collector.is_full() && !is_last {
        decoded.clear();
        match pieces.next() {
            Some(piece) => transfer.feed(piece, &mut decoded),
            None => {
                is_last = true;
                std::mem::replace(&mut transfer, Decoder::Identity).finish(&mut decoded);
            }
        }
        let decoder = decoder.get_or_insert_with(|| {
            charset::of_text(&label, &decoded).new_decoder_without_bom_handling()
        });
        let mut rest = &decoded[..];
        loop {
            text.clear();
            let (result, read, _) = decoder.decode_to_string(rest, &mut text, is_last);
            rest = &rest[read..];
            match &mut stripper {
                Some(stripper) => {
                    for c in text.chars() {
                        if collector.is_full() {
                            break;
                        }
                        stripper.push(c, &mut |c| collector.push(c));
                    }
                }
                None => collector.push_plain(&text),
            }
            if result == charset::CoderResult::InputEmpty {
                break;
            }
        }
    }
    collector.finish()
}

/// Gathers characters as one line.
#[derive(Default)]
struct Collector {
    line: String,
    chars: usize,
    /// A blank stands between what is gathered and what comes.
    is_apart: bool,
    /// Text that is quoted, in case that there is no other.
    quoted: Option<Box<Collector>>,
    /// How the present line began.
    line_is: LineIs,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum LineIs {
    #[default]
    New,
    Text,
    Quoted,
}

impl Collector {
    fn is_full(&self) -> bool {
        self.chars >= PREVIEW_CHARS_MAX
    }

    /// Plain text, whose lines may be quoted ones.
    fn push_plain(&mut self, text: &str) {
        let mut rest = text.chars();
        while !self.is_full() {
            // The inside of a word, which most characters are, goes as a whole.
            if self.line_is == LineIs::Text && !self.is_apart {
                let word = rest.as_str();
                let room = PREVIEW_CHARS_MAX - self.chars;
                let length = word.bytes().take(room).take_while(u8::is_ascii_graphic).count();
                self.line.push_str(&word[..length]);
                self.chars += length;
                rest = word[length..].chars();
            }
            let Some(c) = rest.next() else { return };
            self.push_quotable(c);
        }
    }

    /// A character of plain text.
    fn push_quotable(&mut self, c: char) {
        if c == '\n' {
            self.line_is = LineIs::New;
        } else if self.line_is == LineIs::New && c == '>' {
            self.line_is = LineIs::Quoted;
            self.quoted.get_or_insert_default().push(' ');
            return;
        } else if self.line_is == LineIs::New {
            self.line_is = LineIs::Text;
        }
        match self.line_is {
            LineIs::Quoted if c == '>' => {}
            LineIs::Quoted => self.quoted.get_or_insert_default().push(c),
            _ => self.push(c),
        }
    }

    fn push(&mut self, c: char) {
        if c.is_ascii_graphic() && !self.is_apart {
            if !self.is_full() {
                self.line.push(c);
                self.chars += 1;
            }
            return;
        }
        if self.is_full() || is_invisible(c) {
            return;
        }
        if c.is_whitespace() || c.is_control() {
            self.is_apart = true;
            return;
        }
        if std::mem::take(&mut self.is_apart) && self.chars > 0 {
            self.line.push(' ');
            self.chars += 1;
        }
        if !self.is_full() {
            self.line.push(c);
            self.chars += 1;
        }
    }

    fn finish(self) -> String {
        match self.quoted {
            Some(quoted) if self.line.is_empty() => quoted.line,
            _ => {
                let mut line = self.line;
                line.truncate(line.trim_end().len());
                line
            }
        }
    }
}

/// Characters that mail programs fill hidden beginnings with, and others without a shape.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fffd}'
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Extras, Ingest, LineEnds};
    use super::*;

    fn preview(message: &str) -> String {
        let mut ingest = Ingest::new(LineEnds::Lf);
        let mut stored = Vec::new();
        ingest.feed(message.as_bytes(), &mut stored);
        let extras = ingest.finish(&mut stored).extras;
        Extras::open(&extras).unwrap().preview().unwrap().to_owned()
    }

    #[test]
    fn plain_text_becomes_one_line() {
        assert_eq!(preview("Subject: s\r\n\r\n  Hello,\r\n\r\n\tworld \r\n"), "Hello, world");
        assert_eq!(preview("Subject: s\r\n\r\n"), "");
        assert_eq!(preview("Subject: s\r\n\r\n> a\r\n>> b\r\nmine\r\n"), "mine");
        assert_eq!(preview("Subject: s\r\n\r\n> a\r\n>> b\r\n"), "a b");
    }

    #[test]
    fn it_has_200_characters_at_most() {
        let body =
            |n: usize| format!("Content-Type: text/plain; charset=utf-8\r\n\r\n{}", "é".repeat(n));
        assert_eq!(preview(&body(200)), "é".repeat(200));
        assert_eq!(preview(&body(201)), "é".repeat(200));
        let words = preview(&format!("a: b\r\n\r\n{}", "nine char ".repeat(100)));
        assert!(words.chars().count() <= 200 && words.ends_with("nine char"), "{words:?}");
    }

    #[test]
    fn encodings_and_charsets_are_undone() {
        let qp = "Content-Type: text/plain; charset=iso-8859-1\r\n\
                  Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DF=\r\ne\r\n";
        assert_eq!(preview(qp), "Grüße");
        let base64 = "Content-Type: text/html; charset=utf-8\r\n\
                      Content-Transfer-Encoding: base64\r\n\r\nPHA+aGk8L3A+\r\n";
        assert_eq!(preview(base64), "hi");
        assert_eq!(preview("Content-Transfer-Encoding: x-odd\r\n\r\nabc\r\n"), "");
    }

    #[test]
    fn the_first_text_that_says_something_counts() {
        let parts = |parts: &[&str]| {
            let parts = parts.iter().map(|part| format!("--b\r\n{part}\r\n")).collect::<String>();
            format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n")
        };
        let blank = "Content-Type: text/plain\r\n\r\n \r\n";
        let html = "Content-Type: text/html\r\n\r\n<style>x{}</style><b>bold</b> move";
        let attached = "Content-Disposition: attachment\r\n\r\nfile";
        let inner = "Content-Type: message/rfc822\r\n\r\nSubject: i\r\n\r\ninner";
        assert_eq!(preview(&parts(&[blank, html])), "bold move");
        assert_eq!(preview(&parts(&[attached, inner])), "");
        assert_eq!(preview(&parts(&[attached, inner, html])), "bold move");
        let sealed = "Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\
                      Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b--\r\n";
        assert_eq!(preview(sealed), "");
    }

    #[test]
    fn only_the_beginning_of_a_message_is_looked_at() {
        let filler = "X-Filler: x\r\n".repeat(BEGINNING_BYTES_MAX / 12);
        assert_eq!(preview(&format!("{filler}{filler}\r\ntext\r\n")), "");
        assert_eq!(preview(&format!("{}\r\ntext\r\n", &filler[..13 * 3000])), "text");
    }
}
