//! What a POP3 server says.

/// Response codes in `-ERR [CODE]`: RFC 2449 section 8, RFC 3206, RFC 5034, RFC 6856.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespCode {
    /// The user logged in too short a time ago.
    LoginDelay,
    /// The message has UTF-8 in its header, and the client didn't say UTF8: RFC 6856.
    Utf8,
    /// The maildrop is held by another session.
    InUse,
    /// A fault that will pass.
    SysTemp,
    /// A fault that an operator must mend.
    SysPerm,
    /// The credentials were wrong; without it the client may keep the password.
    Auth,
}

impl RespCode {
    /// As written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            RespCode::LoginDelay => "[LOGIN-DELAY]",
            RespCode::Utf8 => "[UTF8]",
            RespCode::InUse => "[IN-USE]",
            RespCode::SysTemp => "[SYS/TEMP]",
            RespCode::SysPerm => "[SYS/PERM]",
            RespCode::Auth => "[AUTH]",
        }
    }
}

/// A reply's first line, written by `Display` with its CRLF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+OK text`
    Ok(&'a str),
    /// `-ERR [code] text`
    Err(Option<RespCode>, &'a str),
    /// `+ base64`: a SASL challenge, given in base64.
    Challenge(&'a str),
}

impl std::fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reply::Ok("") => f.write_str("+OK\r\n"),
            Reply::Ok(text) => write!(f, "+OK {text}\r\n"),
            Reply::Err(Some(code), text) => write!(f, "-ERR {} {text}\r\n", code.as_str()),
            Reply::Err(None, text) => write!(f, "-ERR {text}\r\n"),
            Reply::Challenge(base64) => write!(f, "+ {base64}\r\n"),
        }
    }
}

/// What the current line holds: only an empty line, with or without CR, ends a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineSoFar {
    Nothing,
    Cr,
    Text,
}

impl LineSoFar {
    fn and(self, bytes: &[u8]) -> LineSoFar {
        match (self, bytes) {
            (_, b"") => self,
            (LineSoFar::Nothing, b"\r") => LineSoFar::Cr,
            _ => LineSoFar::Text,
        }
    }
}

/// Cuts a message for TOP: its header, the empty line, and so many lines of the body.
///
/// Works on parts of any size, so that a large message need not be read further than asked.
#[derive(Clone, Copy, Debug)]
pub struct TopLimit {
    lines_left: u64,
    in_body: bool,
    line: LineSoFar,
    done: bool,
}

impl TopLimit {
    /// The header and `lines` lines.
    pub fn new(lines: u64) -> TopLimit {
        TopLimit { lines_left: lines, in_body: false, line: LineSoFar::Nothing, done: false }
    }

    /// Nothing more of the message is wanted.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The start of `part` that is wanted. `part` follows the part of the last call.
    pub fn take<'a>(&mut self, part: &'a [u8]) -> &'a [u8] {
        let mut kept = 0;
        while !self.done {
            let rest = part.get(kept..).unwrap_or_default();
            let Some(at) = memchr::memchr(b'\n', rest) else {
                self.line = self.line.and(rest);
                return part;
            };
            let line = self.line.and(rest.get(..at).unwrap_or_default());
            self.line = LineSoFar::Nothing;
            kept += at + 1;
            if self.in_body {
                self.lines_left = self.lines_left.saturating_sub(1);
            }
            self.in_body |= line != LineSoFar::Text;
            self.done = self.in_body && self.lines_left == 0;
        }
        part.get(..kept).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn top(chunks: &[&[u8]], lines: u64) -> Vec<u8> {
        let mut limit = TopLimit::new(lines);
        chunks.iter().flat_map(|c| limit.take(c).to_vec()).collect()
    }

    const MESSAGE: &[u8] = b"A: b\r\n c\r\n\r\none\r\n\r\nthree\r\nfour";

    #[test]
    fn counts_body_lines_behind_the_header() {
        assert_eq!(top(&[MESSAGE], 0), b"A: b\r\n c\r\n\r\n");
        assert_eq!(top(&[MESSAGE], 2), b"A: b\r\n c\r\n\r\none\r\n\r\n");
        assert_eq!(top(&[MESSAGE], 99), MESSAGE);
        assert_eq!(top(&[b"A: only a header\r\n"], 0), b"A: only a header\r\n");
    }

    #[test]
    fn every_split_counts_alike() {
        for lines in 0..6 {
            let whole = top(&[MESSAGE], lines);
            for i in 0..=MESSAGE.len() {
                let (a, b) = MESSAGE.split_at(i);
                assert_eq!(top(&[a, b], lines), whole, "{lines} lines, split at {i}");
            }
            let bytes: Vec<&[u8]> = MESSAGE.chunks(1).collect();
            assert_eq!(top(&bytes, lines), whole);
        }
    }

    #[test]
    fn replies_are_written_as_the_rfc_shows() {
        assert_eq!(Reply::Ok("2 320").to_string(), "+OK 2 320\r\n");
        let busy = Reply::Err(Some(RespCode::InUse), "Do you have another POP session running?");
        assert_eq!(busy.to_string(), "-ERR [IN-USE] Do you have another POP session running?\r\n");
        assert_eq!(Reply::Challenge("").to_string(), "+ \r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_split_alike(
            message in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..60),
            at in 0usize..60,
            lines in 0u64..5,
        ) {
            let (a, b) = message.split_at(at.min(message.len()));
            prop_assert_eq!(top(&[a, b], lines), top(&[&message], lines));
        }
    }
}
