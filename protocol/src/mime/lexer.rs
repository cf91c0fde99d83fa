//! The lexical pieces that structured header values share: comments, quoted strings, blanks
//! (RFC 5322 section 3.2). Unterminated comments and strings end with the value.

/// A position in a header value.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn bump(&mut self) {
        self.at += 1;
    }

    /// Steps over `b` if it is next.
    pub(super) fn eat(&mut self, b: u8) -> bool {
        let found = self.peek() == Some(b);
        self.at += usize::from(found);
        found
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The bytes up to the first one for which `stop` holds, or to the end.
    pub(super) fn take_until(&mut self, stop: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().position(|&b| stop(b)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Skips blanks, line ends and comments. Returns whether there were any; the text of the last
    /// comment replaces `comment`.
    pub(super) fn skip_blanks(&mut self, comment: &mut Vec<u8>) -> bool {
        let start = self.at;
        while let Some(b) = self.peek() {
            match b {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                b'(' => self.comment(comment),
                _ => break,
            }
        }
        self.at > start
    }

    fn comment(&mut self, out: &mut Vec<u8>) {
        out.clear();
        let mut depth = 0usize;
        while let Some(b) = self.peek() {
            self.at += 1;
            match b {
                b'(' => {
                    depth += 1;
                    if depth == 1 {
                        continue;
                    }
                }
                b')' => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                b'\r' | b'\n' => continue,
                b'\\' => {
                    out.extend(self.peek());
                    self.at += 1;
                    continue;
                }
                _ => {}
            }
            out.push(b);
        }
    }

    /// Appends the content of the quoted string that starts here, without quotes and escapes.
    pub(super) fn quoted_string(&mut self, out: &mut Vec<u8>) {
        self.at += 1;
        loop {
            out.extend_from_slice(self.take_until(|b| b"\"\\\r\n".contains(&b)));
            let Some(b) = self.peek() else { return };
            self.at += 1;
            match b {
                b'"' => return,
                b'\\' => {
                    out.extend(self.peek().filter(|b| !b"\r\n".contains(b)));
                    self.at += 1;
                }
                // A fold.
                _ => {}
            }
        }
    }
}
