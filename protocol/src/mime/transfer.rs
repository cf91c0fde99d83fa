//! Content-Transfer-Encoding: streaming, tolerant base64 and quoted-printable decoders.
//!
//! Invariant: feeding the same bytes in other pieces gives the same output.

use memchr::memchr2;

use super::structure::Encoding;

/// Decoder for one body; push bytes in, decoded bytes come out.
#[derive(Debug)]
pub enum Decoder {
    /// 7bit, 8bit, binary and unknown encodings: bytes as they are.
    Identity,
    /// base64
    Base64(Base64),
    /// quoted-printable
    QuotedPrintable(QuotedPrintable),
}

impl Decoder {
    /// A decoder for that encoding.
    pub fn new(encoding: Encoding) -> Decoder {
        match encoding {
            Encoding::Base64 => Decoder::Base64(Base64::default()),
            Encoding::QuotedPrintable => Decoder::QuotedPrintable(QuotedPrintable::default()),
            _ => Decoder::Identity,
        }
    }

    /// Decodes `bytes` to the end of `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Decoder::Identity => out.extend_from_slice(bytes),
            Decoder::Base64(d) => d.feed(bytes, out),
            Decoder::QuotedPrintable(d) => d.feed(bytes, out),
        }
    }

    /// Decodes what was held back at the end of the body.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self {
            Decoder::Identity => {}
            Decoder::Base64(d) => d.finish(out),
            Decoder::QuotedPrintable(d) => d.finish(out),
        }
    }
}

const INVALID: u8 = 0xff;
const PADDING: u8 = 0xfe;

const BASE64_VALUES: [u8; 256] = {
    let mut table = [INVALID; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut i = 0;
    while i < 64 {
        table[alphabet[i] as usize] = i as u8;
        i += 1;
    }
    table[b'=' as usize] = PADDING;
    table
};

/// Base64 (RFC 2045 section 6.8). Characters outside the alphabet are skipped; padding ends a
/// group, and what follows it starts a new one (concatenated encodings are seen in the wild).
#[derive(Debug, Default)]
pub struct Base64 {
    group: u32,
    /// Characters in `group`, 0 to 3.
    count: u8,
}

impl Base64 {
    /// Decodes `bytes` to the end of `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.reserve(bytes.len() / 4 * 3 + 3);
        let mut rest = bytes;
        loop {
            // Within a line, sixteen characters at a time.
            while self.count == 0
                && let Some((groups, tail)) = rest.split_first_chunk::<16>()
            {
                let mut whole = [0; 12];
                let mut bad = 0;
                for (three, four) in whole.chunks_exact_mut(3).zip(groups.chunks_exact(4)) {
                    let value = |i: usize| u32::from(BASE64_VALUES[usize::from(four[i])]);
                    let (a, b, c, d) = (value(0), value(1), value(2), value(3));
                    bad |= a | b | c | d;
                    three.copy_from_slice(&(a << 18 | b << 12 | c << 6 | d).to_be_bytes()[1..]);
                }
                if bad > 63 {
                    break;
                }
                out.extend_from_slice(&whole);
                rest = tail;
            }
            while self.count == 0
                && let [a, b, c, d, tail @ ..] = rest
            {
                let value = |x: &u8| u32::from(BASE64_VALUES[usize::from(*x)]);
                let (a, b, c, d) = (value(a), value(b), value(c), value(d));
                if (a | b | c | d) > 63 {
                    break;
                }
                let group = a << 18 | b << 12 | c << 6 | d;
                out.extend_from_slice(&group.to_be_bytes()[1..]);
                rest = tail;
            }
            let [first, tail @ ..] = rest else { return };
            rest = tail;
            match BASE64_VALUES[usize::from(*first)] {
                INVALID => {}
                PADDING => self.flush(out),
                value => {
                    self.group = self.group << 6 | u32::from(value);
                    self.count += 1;
                    if self.count == 4 {
                        out.extend_from_slice(&self.group.to_be_bytes()[1..]);
                        self.group = 0;
                        self.count = 0;
                    }
                }
            }
        }
    }

    /// Decodes an unfinished last group.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.flush(out);
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        match self.count {
            2 => out.push((self.group >> 4) as u8),
            3 => out.extend_from_slice(&[(self.group >> 10) as u8, (self.group >> 2) as u8]),
            _ => {}
        }
        self.group = 0;
        self.count = 0;
    }
}

/// Blanks held back, in bytes, before they are taken for text: RFC 5322's longest line.
const HELD_BYTES_MAX: usize = 998;

/// Quoted-printable (RFC 2045 section 6.7). Blanks before a line end are dropped; a `=` that
/// starts no escape stands for itself.
#[derive(Debug, Default)]
pub struct QuotedPrintable {
    /// The tail of the last piece that can't be judged yet: an unfinished escape or blanks.
    held: Vec<u8>,
}

impl QuotedPrintable {
    /// Decodes `bytes` to the end of `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.held.is_empty() {
            return self.run(bytes, out);
        }
        let mut joined = std::mem::take(&mut self.held);
        joined.extend_from_slice(bytes);
        self.run(&joined, out);
    }

    /// Decodes what was held back.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        if held.first() != Some(&b'=') || held.len() > 1 {
            out.extend_from_slice(&held);
        }
    }

    fn run(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        loop {
            let Some(i) = memchr2(b'=', b'\n', rest) else {
                let blanks = rest.iter().rev().take_while(|b| b" \t\r".contains(b)).count();
                let (text, tail) = rest.split_at(rest.len() - blanks);
                out.extend_from_slice(text);
                self.hold(tail, out);
                return;
            };
            let (before, at) = rest.split_at(i);
            if at[0] == b'\n' {
                let line = before.strip_suffix(b"\r").unwrap_or(before);
                let blanks = line.iter().rev().take_while(|b| b" \t".contains(b)).count();
                out.extend_from_slice(&line[..line.len() - blanks]);
                out.extend_from_slice(&before[line.len()..]);
                out.push(b'\n');
                rest = &at[1..];
                continue;
            }
            out.extend_from_slice(before);
            match escape(&at[1..]) {
                Escape::Byte(b) => {
                    out.push(b);
                    rest = &at[3..];
                    // In other scripts than Latin one escape follows the other.
                    while let [b'=', high, low, tail @ ..] = rest
                        && let (Some(high), Some(low)) = (hex(*high), hex(*low))
                    {
                        out.push(high << 4 | low);
                        rest = tail;
                    }
                }
                Escape::SoftBreak(length) => rest = &at[1 + length..],
                Escape::Unfinished => return self.hold(at, out),
                Escape::None => {
                    out.push(b'=');
                    rest = &at[1..];
                }
            }
        }
    }

    fn hold(&mut self, tail: &[u8], out: &mut Vec<u8>) {
        if tail.len() > HELD_BYTES_MAX {
            out.extend_from_slice(tail);
        } else {
            self.held.extend_from_slice(tail);
        }
    }
}

enum Escape {
    Byte(u8),
    SoftBreak(usize),
    Unfinished,
    None,
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// What the bytes after a `=` mean.
fn escape(after: &[u8]) -> Escape {
    match after {
        [] => return Escape::Unfinished,
        [a] if hex(*a).is_some() => return Escape::Unfinished,
        [a, b, ..] => {
            if let (Some(a), Some(b)) = (hex(*a), hex(*b)) {
                return Escape::Byte(a << 4 | b);
            }
        }
        _ => {}
    }
    let blanks = after.iter().take_while(|b| b" \t".contains(b)).count();
    match &after[blanks..] {
        [b'\n', ..] => Escape::SoftBreak(blanks + 1),
        [b'\r', b'\n', ..] => Escape::SoftBreak(blanks + 2),
        [] | [b'\r'] => Escape::Unfinished,
        _ => Escape::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode_split(encoding: Encoding, bytes: &[u8], at: usize) -> Vec<u8> {
        let mut decoder = Decoder::new(encoding);
        let mut out = Vec::new();
        decoder.feed(&bytes[..at], &mut out);
        decoder.feed(&bytes[at..], &mut out);
        decoder.finish(&mut out);
        out
    }

    fn assert_decodes(encoding: Encoding, bytes: &[u8], expected: &[u8]) {
        for at in 0..=bytes.len() {
            assert_eq!(decode_split(encoding, bytes, at), expected, "split at {at}");
        }
    }

    #[test]
    fn base64_ignores_line_ends_and_garbage() {
        assert_decodes(Encoding::Base64, b"aGVs\r\nbG8s!IHdv\r\ncmxk\r\n", b"hello, world");
        assert_decodes(Encoding::Base64, b"aGk=aGk=", b"hihi");
        assert_decodes(Encoding::Base64, b"aG", b"h");
        assert_decodes(Encoding::Base64, b"a", b"");
    }

    #[test]
    fn quoted_printable_escapes_and_soft_breaks() {
        let text = b"caf=C3=a9 is=20=\r\n good  \r\nx =  \n=3D=ZZ\t";
        assert_decodes(Encoding::QuotedPrintable, text, b"caf\xc3\xa9 is  good\r\nx ==ZZ\t");
        assert_decodes(Encoding::QuotedPrintable, b"end=", b"end");
    }
}
