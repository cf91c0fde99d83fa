//! Binary parts as base64, in a message on its way in: RFC 3516 section 6.
//!
//! IMAP without BINARY knows no part in the encoding `binary`: a message that has one, which only
//! literal8 brings, gets that part in base64, so that BODYSTRUCTURE, BODY and BINARY agree. All else
//! stays octet for octet.
//!
//! Invariants: the result does not depend on how the message was cut into pieces; memory is bounded
//! by a header and a line of [`LINE_BYTES_MAX`]; parts are told apart as [`super::parser`] does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memchr;

use super::header::{self, strip_line_end};
use super::parser::Limits;
use super::structure::Encoding;
use super::{Field, media};

/// Longest line that is held until its end has come. No boundary is longer.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Octets in one line of base64: 76 characters.
const BASE64_LINE_BYTES: usize = 57;

/// See the module's documentation.
#[derive(Default)]
pub struct Reencoder {
    /// The header being read; `None` in a body.
    header: Option<Vec<u8>>,
    /// In the body of a part that becomes base64: what does not fill a line yet.
    encoding: Option<Base64Lines>,
    /// Delimiter lines of the multiparts that are open.
    delimiters: Vec<Vec<u8>>,
    /// The line so far.
    line: Vec<u8>,
    /// The start of this line has been given out: it was too long to be held.
    is_long: bool,
    /// The line end before this line: of the delimiter, if this is one.
    line_end: Vec<u8>,
}

impl Reencoder {
    /// For one message.
    pub fn new() -> Reencoder {
        Reencoder { header: Some(Vec::new()), ..Reencoder::default() }
    }

    /// Takes the next piece; appends to `out` what is to be stored.
    pub fn feed(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while let Some(lf) = memchr(b'\n', piece) {
            let (line, rest) = piece.split_at(lf + 1);
            self.line.extend_from_slice(line);
            self.line_is_whole(out);
            piece = rest;
        }
        self.line.extend_from_slice(piece);
        if self.line.len() > LINE_BYTES_MAX {
            // A CR at the end may belong to the line's end.
            let cr = usize::from(self.line.ends_with(b"\r"));
            let rest = self.line.split_off(self.line.len() - cr);
            let start = std::mem::replace(&mut self.line, rest);
            self.text(&start, out);
            self.is_long = true;
        }
    }

    /// The message has ended.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line, out);
        }
        if let Some(header) = self.header.take() {
            self.header_ends(&header, out);
        }
        let end = std::mem::take(&mut self.line_end);
        self.give(&end, out);
        if let Some(encoding) = self.encoding.take() {
            encoding.finish(out);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn line_is_whole(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        self.take_line(&line, out);
        self.is_long = false;
        // Its room is used again.
        self.line = line;
        self.line.clear();
    }

    fn take_line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let is_long = self.is_long || line.len() > LINE_BYTES_MAX;
        if !is_long && self.delimiter(line, out) {
            return;
        }
        let content = strip_line_end(line);
        let header_is_over = content.is_empty() && !self.is_long;
        if let Some(mut header) = self.header.take() {
            header.extend_from_slice(line);
            match header_is_over {
                true => self.header_ends(&header, out),
                false => self.keep_header(header, out),
            }
            return;
        }
        self.text(content, out);
        self.line_end.extend_from_slice(&line[content.len()..]);
    }

    /// Goes on with a header. One that is too long passes as text.
    fn keep_header(&mut self, header: Vec<u8>, out: &mut Vec<u8>) {
        match header.len() > Limits::HEADER_BYTES_MAX {
            true => out.extend_from_slice(&header),
            false => self.header = Some(header),
        }
    }

    /// A piece of a line that is no delimiter.
    fn text(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if let Some(mut header) = self.header.take() {
            header.extend_from_slice(piece);
            self.keep_header(header, out);
            return;
        }
        let end = std::mem::take(&mut self.line_end);
        self.give(&end, out);
        self.give(piece, out);
    }

    /// Body text.
    fn give(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match &mut self.encoding {
            Some(encoding) => encoding.feed(bytes, out),
            None => out.extend_from_slice(bytes),
        }
    }

    /// Handles a delimiter line.
    fn delimiter(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let mut text = strip_line_end(line);
        while let [rest @ .., b' ' | b'\t'] = text {
            text = rest;
        }
        let found = self.delimiters.iter().enumerate().rev().find_map(|(level, delimiter)| {
            match text.strip_prefix(delimiter.as_slice())? {
                b"" => Some((level, false)),
                b"--" => Some((level, true)),
                _ => None,
            }
        });
        let Some((level, closes)) = found else { return false };
        if let Some(header) = self.header.take() {
            // It ended without an empty line.
            let keep = self.delimiters.len();
            self.header_ends(&header, out);
            self.delimiters.truncate(keep);
            self.header = None;
        }
        if let Some(encoding) = self.encoding.take() {
            encoding.finish(out);
        }
        out.append(&mut self.line_end);
        out.extend_from_slice(line);
        self.delimiters.truncate(if closes { level } else { level + 1 });
        self.header = (!closes).then(Vec::new);
        true
    }

    /// Gives out a header, changed where that has to be, and goes on to the body.
    fn header_ends(&mut self, header: &[u8], out: &mut Vec<u8>) {
        let mut content_type = None;
        let mut encoding = None;
        for field in header::fields(header) {
            match Field::of(field.name) {
                Some(Field::ContentType) if content_type.is_none() => content_type = Some(field),
                Some(Field::ContentTransferEncoding) if encoding.is_none() => {
                    encoding = Some(field);
                }
                _ => {}
            }
        }
        let mut boundary = None;
        let value = content_type.map(|field| header::unfold(field.value));
        let kind = value.as_deref().and_then(|value| {
            media::content_type(value, |name, value| {
                if name.eq_ignore_ascii_case(b"boundary") && boundary.is_none() {
                    boundary = Some([b"--", value].concat());
                }
            })
        });
        let is = |a: &[u8], b: &str| a.eq_ignore_ascii_case(b.as_bytes());
        let is_message =
            kind.is_some_and(|(a, b)| is(a, "message") && (is(b, "rfc822") || is(b, "global")));
        let is_multipart = kind.is_some_and(|(a, _)| is(a, "multipart"));
        let is_binary = |value: &[u8]| {
            let token = header::unfold(value);
            media::token(&token).map(Encoding::of) == Some(Encoding::Binary)
        };
        let room = self.delimiters.len() < Limits::MIME_DEPTH_MAX;
        match encoding.filter(|field| is_binary(field.value)) {
            Some(field) => {
                let start = field.raw.as_ptr() as usize - header.as_ptr() as usize;
                let end = start + field.raw.len();
                let name = if is_multipart || is_message { "8bit" } else { "base64" };
                out.extend_from_slice(&header[..start]);
                out.extend_from_slice(field.name);
                out.extend_from_slice(format!(": {name}\r\n").as_bytes());
                out.extend_from_slice(&header[end..]);
                self.encoding = (name == "base64").then(Base64Lines::default);
            }
            None => out.extend_from_slice(header),
        }
        if is_message && room {
            self.header = Some(Vec::new());
        } else if let (true, true, Some(delimiter)) = (is_multipart, room, boundary) {
            self.delimiters.push(delimiter);
        }
    }
}

/// Lines of base64.
#[derive(Default)]
struct Base64Lines {
    /// What does not fill a line.
    rest: Vec<u8>,
    lines: usize,
}

impl Base64Lines {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() - self.rest.len() % BASE64_LINE_BYTES;
        for line in self.rest[..whole].chunks(BASE64_LINE_BYTES) {
            write_line(line, &mut self.lines, out);
        }
        self.rest.drain(..whole);
    }

    /// The last line, without a line end.
    fn finish(mut self, out: &mut Vec<u8>) {
        if !self.rest.is_empty() {
            write_line(&self.rest, &mut self.lines, out);
        }
    }
}

fn write_line(bytes: &[u8], lines: &mut usize, out: &mut Vec<u8>) {
    if *lines > 0 {
        out.extend_from_slice(b"\r\n");
    }
    *lines += 1;
    out.extend_from_slice(BASE64.encode(bytes).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::{Parser, transfer};
    use super::*;
    use proptest::prelude::*;

    fn reencoded<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
        let (mut out, mut reencoder) = (Vec::new(), Reencoder::new());
        pieces.into_iter().for_each(|piece| reencoder.feed(piece, &mut out));
        reencoder.finish(&mut out);
        out
    }

    #[test]
    fn binary_leaves_become_base64_and_nothing_else_changes() {
        let message = b"Subject: x\r\nContent-Type: multipart/mixed;\r\n boundary=\"a b\"\r\n\
            Content-Transfer-Encoding: binary\r\nno field\r\n\r\npreamble\r\n--a b\r\n\
            content-transfer-ENCODING: Binary (really)\r\nX: y\r\n\r\n\0\x01\r\n\xff\r\n--a b \r\n\
            Content-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\n\
            Content-Transfer-Encoding: binary\r\n\r\nin\0side\r\n--a b\r\n\r\nplain \xe4\n--a b--\r\n\
            epilogue\r\n";
        let expected = b"Subject: x\r\nContent-Type: multipart/mixed;\r\n boundary=\"a b\"\r\n\
            Content-Transfer-Encoding: 8bit\r\nno field\r\n\r\npreamble\r\n--a b\r\n\
            content-transfer-ENCODING: base64\r\nX: y\r\n\r\nAAENCv8=\r\n--a b \r\n\
            Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
            Content-Transfer-Encoding: base64\r\n\r\naW4Ac2lkZQ==\r\n--a b\r\n\r\nplain \xe4\n--a b--\r\n\
            epilogue\r\n";
        let whole = reencoded([&message[..]]);
        assert_eq!(whole.escape_ascii().to_string(), expected.escape_ascii().to_string());
        for cut in 0..message.len() {
            let (a, b) = message.split_at(cut);
            assert_eq!(reencoded([a, b]), whole, "cut at {cut}");
        }
        assert_eq!(reencoded(message.chunks(1)), whole);
        assert_eq!(reencoded([&whole[..]]), whole, "once is enough");
    }

    #[test]
    fn long_lines_and_ends_without_a_line_end() {
        let body = vec![0u8; 100_000];
        let message = [b"Content-Transfer-Encoding: binary\r\n\r\n", &body[..]].concat();
        let out = reencoded(message.chunks(1000));
        let text = std::str::from_utf8(&out).unwrap();
        let (_, encoded) = text.split_once("\r\n\r\n").unwrap();
        assert!(encoded.lines().all(|line| line.len() <= 76) && encoded.ends_with("\r\n"));
        let mut decoded = Vec::new();
        let mut decoder = transfer::Decoder::new(Encoding::Base64);
        decoder.feed(encoded.as_bytes(), &mut decoded);
        decoder.finish(&mut decoded);
        assert_eq!(decoded, body);
        assert_eq!(reencoded([&b"Subject: no body"[..]]), b"Subject: no body");
        assert_eq!(reencoded([]), b"");
        let endless = vec![b'x'; 300_000];
        assert_eq!(reencoded([&endless[..]]), endless);
        // What is longer than any boundary is none, however it comes.
        let blanks = " ".repeat(LINE_BYTES_MAX);
        let long = format!(
            "Content-Type: multipart/x; boundary=b\r\n\r\n--b{blanks}\r\n\
             Content-Transfer-Encoding: binary\r\n\r\n\0\r\n"
        );
        for piece_bytes in [1, 100, 5000, 20_000] {
            assert_eq!(reencoded(long.as_bytes().chunks(piece_bytes)), long.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn what_is_not_binary_stays_as_it_is(
            lines in prop::collection::vec(
                prop_oneof![
                    Just("Content-Type: multipart/mixed; boundary=b".to_owned()),
                    Just("Content-Type: message/rfc822".to_owned()),
                    Just("Content-Transfer-Encoding: 8bit".to_owned()),
                    Just("--b".to_owned()), Just("--b--".to_owned()), Just(String::new()),
                    "[ -~\0\r]{0,30}",
                ], 0..30),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            let message = lines.join("\r\n").into_bytes();
            prop_assume!(!message.windows(6).any(|w| w.eq_ignore_ascii_case(b"binary")));
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(message.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for cut in cuts {
                pieces.push(&message[from..cut]);
                from = cut;
            }
            pieces.push(&message[from..]);
            prop_assert_eq!(reencoded(pieces), message);
        }

        #[test]
        fn no_binary_part_is_left(
            lines in prop::collection::vec(
                prop_oneof![
                    Just("Content-Type: multipart/mixed; boundary=b".to_owned()),
                    Just("Content-Type: multipart/mixed; boundary=c".to_owned()),
                    Just("Content-Type: message/rfc822".to_owned()),
                    Just("Content-Transfer-Encoding: binary".to_owned()),
                    Just("--b".to_owned()), Just("--b--".to_owned()), Just("--c".to_owned()),
                    Just(String::new()), "[a-z\0]{0,9}",
                ], 0..40),
        ) {
            let out = reencoded([lines.join("\r\n").as_bytes()]);
            let mut parser = Parser::new(Limits::default());
            parser.feed(&out);
            let structure = parser.finish();
            for part in structure.parts() {
                prop_assert_ne!(part.encoding, Encoding::Binary, "{}", out.escape_ascii());
            }
        }
    }
}
