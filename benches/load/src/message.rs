//! The messages that a run sends: seeded, so that message `serial` of a seed is always the same.
//!
//! **Sizes** are log-normal: most mail is small and a few messages carry the bytes. With mean M the
//! median is 0.4 M and sigma is sqrt(2 ln 2.5) = 1.354; draws are clipped to
//! `MESSAGE_BYTES_MIN ..= 20 M`, which leaves the mean of many draws within 5 % of M. M is 15 kB
//! unless `--size` says otherwise.
//!
//! **Shapes**: half are plain text, a quarter text and HTML alternatives, a quarter (where the size
//! allows it) carry base64 attachments. Headers take 1.3 to 1.8 kB, as delivered mail's do.
//!
//! **Planted words** let a search be checked: see `WORD_BODY`, `WORD_SUBJECT`, `person`.

use std::io::Write as _;

use crate::random::Random;

/// Mean size unless told otherwise, in bytes.
pub const MESSAGE_BYTES_MEAN: u32 = 15_000;
/// Smallest size, in bytes: headers alone take most of this.
pub const MESSAGE_BYTES_MIN: u64 = 2_200;

/// In the text of every message whose serial is a multiple of `WORD_BODY_EVERY`, nowhere else.
pub const WORD_BODY: &str = "zanzibarine";
/// How far apart they are.
pub const WORD_BODY_EVERY: u64 = 100;
/// In the subject of every message whose serial is a multiple of `WORD_SUBJECT_EVERY`.
pub const WORD_SUBJECT: &str = "quarterlies";
/// How far apart they are.
pub const WORD_SUBJECT_EVERY: u64 = 50;
/// Serial n is from person n modulo this.
pub const PERSONS: u64 = 200;

/// Bytes of a line of text, line end included.
const TEXT_LINE_BYTES: usize = 74;
const BASE64_LINE_BYTES: usize = 78;
const POOL_LINES: usize = 8192;

const WORDS: [&str; 48] = [
    "about",
    "account",
    "after",
    "again",
    "agenda",
    "answer",
    "before",
    "budget",
    "build",
    "call",
    "change",
    "copy",
    "customer",
    "daily",
    "delivery",
    "document",
    "early",
    "example",
    "figure",
    "first",
    "folder",
    "group",
    "holiday",
    "invoice",
    "letter",
    "list",
    "meeting",
    "message",
    "minutes",
    "monday",
    "number",
    "office",
    "order",
    "people",
    "please",
    "project",
    "question",
    "release",
    "report",
    "review",
    "schedule",
    "server",
    "summary",
    "thanks",
    "travel",
    "update",
    "week",
    "yesterday",
];

/// Makes messages; holds pools of text so that making one is mostly copying.
#[derive(Debug)]
pub struct Generator {
    seed: u64,
    /// First half of every Message-ID.
    nonce: u64,
    mean: u32,
    text: Vec<u8>,
    base64: Vec<u8>,
}

/// The address that message `serial` is from, before the `@`.
pub fn person(serial: u64) -> String {
    format!("person{:03}", serial % PERSONS)
}

/// How many of the messages with serials `0..count` are multiples of `every`.
pub fn planted(count: u64, every: u64) -> u64 {
    count.div_ceil(every)
}

impl Generator {
    /// A generator of messages with `mean` bytes on average.
    pub fn new(seed: u64, mean: u32) -> Self {
        let mut random = Random::new(seed);
        let mut text = Vec::with_capacity(POOL_LINES * TEXT_LINE_BYTES);
        for _ in 0..POOL_LINES {
            text_line(&mut random, &mut text);
        }
        let mut base64 = Vec::with_capacity(POOL_LINES * BASE64_LINE_BYTES);
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for _ in 0..POOL_LINES {
            base64.extend((0..BASE64_LINE_BYTES - 2).map(|_| ALPHABET[random.below(64) as usize]));
            base64.extend_from_slice(b"\r\n");
        }
        Self { seed, nonce: seed, mean, text, base64 }
    }

    /// The same messages under Message-IDs that no other run uses.
    pub fn unique(self, nonce: u64) -> Self {
        Self { nonce, ..self }
    }

    /// The size that message `serial` aims at; the message ends within two lines of it.
    pub fn size(&self, serial: u64) -> u64 {
        let mean = f64::from(self.mean);
        let sigma = (2.0 * 2.5f64.ln()).sqrt();
        let draw = 0.4 * mean * (sigma * Random::for_serial(self.seed, serial).normal()).exp();
        (draw as u64).clamp(MESSAGE_BYTES_MIN, 20 * u64::from(self.mean).max(MESSAGE_BYTES_MIN))
    }

    /// Appends message `serial` to `out`, in CRLF form.
    pub fn write(&self, serial: u64, out: &mut Vec<u8>) {
        let mut random = Random::for_serial(!self.seed, serial);
        let start = out.len();
        let size = self.size(serial) as usize;
        let shape = random.below(4);
        let boundary = format!("=_part_{:016x}", random.next());
        self.headers(serial, shape, &boundary, &mut random, out);
        let left = |out: &Vec<u8>| size.saturating_sub(out.len() - start);
        match shape {
            2 => {
                let half = left(out) / 3;
                part(out, &boundary, "text/plain; charset=utf-8", "8bit");
                self.planted_text(serial, half, &mut random, out);
                part(out, &boundary, "text/html; charset=utf-8", "8bit");
                out.extend_from_slice(b"<html><body><pre>\r\n");
                self.text(left(out), &mut random, out);
                out.extend_from_slice(b"</pre></body></html>\r\n");
                close(out, &boundary);
            }
            3 if left(out) > 4096 => {
                part(out, &boundary, "text/plain; charset=us-ascii", "7bit");
                self.planted_text(serial, 1200, &mut random, out);
                let name = WORDS[random.below(48) as usize];
                let kind = format!(
                    "application/pdf; name=\"{name}.pdf\"\r\nContent-Disposition: attachment; \
                     filename=\"{name}.pdf\""
                );
                part(out, &boundary, &kind, "base64");
                pool(&self.base64, BASE64_LINE_BYTES, left(out), &mut random, out);
                close(out, &boundary);
            }
            3 => {
                part(out, &boundary, "text/plain; charset=us-ascii", "7bit");
                self.planted_text(serial, left(out), &mut random, out);
                close(out, &boundary);
            }
            _ => self.planted_text(serial, left(out), &mut random, out),
        }
    }

    fn headers(
        &self,
        serial: u64,
        shape: u64,
        boundary: &str,
        random: &mut Random,
        out: &mut Vec<u8>,
    ) {
        // Dates advance by 311 s, so that a large mailbox spans a year and SINCE can cut it.
        let at = serial * 311;
        let date = format!(
            "{:02} {} 2025 {:02}:{:02}:{:02} +0000",
            at / 86_400 % 28 + 1,
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
                [(at / (86_400 * 28) % 12) as usize],
            at / 3600 % 24,
            at / 60 % 60,
            at % 60
        );
        for hop in 0..3 + random.below(3) {
            let id = random.next();
            // Writing to a Vec cannot fail.
            let _ = write!(
                out,
                "Received: from relay{hop}.example.net (relay{hop}.example.net [192.0.2.{hop}])\r\n\
                 \tby mx{hop}.example.org (Postfix) with ESMTPS id {id:016X}\r\n\
                 \tfor <inbox@example.org>; {date}\r\n"
            );
        }
        let _ = write!(
            out,
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=mail;\r\n\
             \tt={}; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\tb=",
            1_735_689_600 + at
        );
        let _ = write!(out, "{:016x}{:016x}{:016x}\r\n", random.next(), random.next(), serial);
        let from = person(serial);
        let to = random.below(PERSONS);
        let _ = write!(
            out,
            "Date: {date}\r\nFrom: \"{} {}\" <{from}@example.net>\r\n\
             To: Person {to} <person{to:03}@example.org>\r\n",
            WORDS[random.below(48) as usize],
            WORDS[random.below(48) as usize],
        );
        if random.below(3) == 0 {
            let _ = write!(
                out,
                "Cc: list-{}@example.org, \"Two, Words\" <cc{}@example.com>\r\n",
                random.below(20),
                random.below(100)
            );
        }
        let subject = subject(serial, random);
        let _ = write!(out, "Subject: {subject}\r\n");
        let _ = write!(out, "Message-ID: <{:016x}.{serial}@example.net>\r\n", self.nonce);
        if serial > 0 && random.below(2) == 0 {
            let parent = serial - 1 - random.below(serial.min(20));
            let _ = write!(
                out,
                "In-Reply-To: <{0:016x}.{parent}@example.net>\r\n\
                 References: <{0:016x}.{parent}@example.net>\r\n",
                self.nonce
            );
        }
        out.extend_from_slice(
            b"X-Mailer: Example Mailer 4.2\r\nX-Spam-Status: No, score=-1.9 required=5.0\r\n\
              MIME-Version: 1.0\r\n",
        );
        let _ = match shape {
            2 => {
                write!(out, "Content-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n")
            }
            3 => write!(out, "Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n"),
            _ => write!(
                out,
                "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            ),
        };
    }

    /// Text that holds `WORD_BODY` if this serial is due, and sometimes a line that starts with a
    /// dot, which LMTP and POP3 must stuff.
    fn planted_text(&self, serial: u64, size: usize, random: &mut Random, out: &mut Vec<u8>) {
        if serial.is_multiple_of(WORD_BODY_EVERY) {
            let _ = write!(out, "The {WORD_BODY} matter is settled.\r\n");
        }
        if serial % 40 == 7 {
            out.extend_from_slice(b".hidden starts with a dot\r\n");
        }
        self.text(size, random, out);
    }

    fn text(&self, size: usize, random: &mut Random, out: &mut Vec<u8>) {
        pool(&self.text, TEXT_LINE_BYTES, size, random, out);
    }
}

/// Appends whole lines from a random place of the pool until `size` is reached.
fn pool(lines: &[u8], line: usize, size: usize, random: &mut Random, out: &mut Vec<u8>) {
    let mut at = random.below((lines.len() / line) as u64) as usize * line;
    let mut left = size.div_ceil(line) * line;
    while left > 0 {
        let take = left.min(lines.len() - at);
        out.extend_from_slice(&lines[at..at + take]);
        left -= take;
        at = 0;
    }
}

fn part(out: &mut Vec<u8>, boundary: &str, kind: &str, encoding: &str) {
    let _ = write!(
        out,
        "--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    );
}

fn close(out: &mut Vec<u8>, boundary: &str) {
    let _ = write!(out, "--{boundary}--\r\n");
}

fn subject(serial: u64, random: &mut Random) -> String {
    let mut subject = String::new();
    if random.below(3) == 0 {
        subject.push_str("Re: ");
    }
    if serial.is_multiple_of(WORD_SUBJECT_EVERY) {
        subject.push_str(WORD_SUBJECT);
        subject.push(' ');
    }
    if random.below(10) == 0 {
        subject.push_str("=?utf-8?q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?= ");
    }
    for _ in 0..2 + random.below(5) {
        subject.push_str(WORDS[random.below(48) as usize]);
        subject.push(' ');
    }
    subject.push_str(&serial.to_string());
    subject
}

fn text_line(random: &mut Random, out: &mut Vec<u8>) {
    let start = out.len();
    while out.len() - start < TEXT_LINE_BYTES - 2 {
        out.extend_from_slice(WORDS[random.below(48) as usize].as_bytes());
        out.push(b' ');
    }
    out.truncate(start + TEXT_LINE_BYTES - 2);
    // A space before a line end would be lost on the way through some gateways.
    if let Some(last) = out.last_mut() {
        *last = b'.';
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator() -> Generator {
        Generator::new(1, MESSAGE_BYTES_MEAN)
    }

    #[test]
    fn mean_size_is_what_was_asked_for() {
        let generator = generator();
        let sum: u64 = (0..100_000).map(|serial| generator.size(serial)).sum();
        let mean = sum as f64 / 100_000.0;
        assert!((14_250.0..15_750.0).contains(&mean), "mean {mean}");
    }

    #[test]
    fn messages_come_out_near_their_size() {
        let generator = generator();
        let mut made = 0;
        let mut aimed = 0;
        for serial in 0..2000 {
            let mut message = Vec::new();
            generator.write(serial, &mut message);
            made += message.len() as u64;
            aimed += generator.size(serial);
        }
        assert!((made as f64 / aimed as f64 - 1.0).abs() < 0.03, "{made} for {aimed}");
    }

    #[test]
    fn a_serial_always_gives_the_same_bytes() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        generator().write(77, &mut one);
        generator().write(77, &mut two);
        assert_eq!(one, two);
        two.clear();
        generator().write(78, &mut two);
        assert_ne!(one, two);
    }

    #[test]
    fn words_are_planted_where_they_are_due_and_nowhere_else() {
        let generator = generator();
        for serial in 0..500 {
            let mut message = Vec::new();
            generator.write(serial, &mut message);
            let text = String::from_utf8(message).unwrap();
            assert_eq!(text.contains(WORD_BODY), serial % WORD_BODY_EVERY == 0);
            assert_eq!(text.contains(WORD_SUBJECT), serial % WORD_SUBJECT_EVERY == 0);
            assert!(text.contains(&format!("<{}@example.net>", person(serial))));
            assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "bare line end");
        }
        assert_eq!(planted(1, 100), 1);
        assert_eq!(planted(100, 100), 1);
        assert_eq!(planted(101, 100), 2);
    }
}
