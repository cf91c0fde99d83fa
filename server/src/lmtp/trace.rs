//! The header lines that a delivery adds, and the one that the log wants.

use std::fmt::Write as _;
use std::net::IpAddr;

use protocol::lmtp::{Recipient, ReturnPath};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Bytes of a message that are searched for its Message-ID.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest Message-ID that is logged, in bytes.
const MESSAGE_ID_BYTES_MAX: usize = 256;

/// What the Received line tells.
pub(super) struct Trace<'a> {
    /// The name given in LHLO.
    pub(super) client: &'a str,
    pub(super) peer: Option<IpAddr>,
    pub(super) tls: bool,
    pub(super) logged_in: bool,
    pub(super) utf8: bool,
    pub(super) hostname: &'a str,
    /// Session and number of the message in it, as the log has them.
    pub(super) id: &'a str,
}

impl Trace<'_> {
    /// Return-Path, Delivered-To if there is one recipient `only`, and Received.
    pub(super) fn lines(&self, sender: &ReturnPath, only: Option<&Recipient>) -> String {
        self.lines_at(sender, only, OffsetDateTime::now_utc())
    }

    fn lines_at(
        &self,
        sender: &ReturnPath,
        only: Option<&Recipient>,
        now: OffsetDateTime,
    ) -> String {
        let mut text = format!("Return-Path: {sender}\r\n");
        if let Some(recipient) = only {
            let _ = write!(text, "Delivered-To: {recipient}\r\n");
        }
        let _ = write!(text, "Received: from {}", name(self.client));
        if let Some(ip) = self.peer {
            let tag = if ip.is_ipv6() { "IPv6:" } else { "" };
            let _ = write!(text, " ([{tag}{ip}])");
        }
        // The names are those of RFC 3848 and RFC 6531.
        let utf8 = if self.utf8 { "UTF8" } else { "" };
        let (tls, logged_in) =
            (if self.tls { "S" } else { "" }, if self.logged_in { "A" } else { "" });
        let with = format_args!("{utf8}LMTP{tls}{logged_in}");
        let _ =
            write!(text, "\r\n\tby {} (Cursus) with {with} id {}", name(self.hostname), self.id);
        if let Some(recipient) = only {
            let _ = write!(text, "\r\n\tfor <{recipient}>");
        }
        let date = now.format(&Rfc2822).unwrap_or_default();
        let _ = write!(text, ";\r\n\t{date}\r\n");
        text
    }
}

/// A host's name as a client gave it, if it can stand in a header line.
fn name(given: &str) -> &str {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    match !given.is_empty() && given.len() <= 255 && given.bytes().all(good) {
        true => given,
        false => "unknown",
    }
}

/// The start of a message, for its Message-ID.
#[derive(Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
}

impl Head {
    /// Takes the next part.
    pub(super) fn write(&mut self, part: &[u8]) {
        let room = HEAD_BYTES_MAX.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    /// The Message-ID; empty if there is none.
    pub(super) fn message_id(&self) -> String {
        const FIELD: &[u8] = b"message-id:";
        let mut lines = self.bytes.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end).peekable();
        while let Some(line) = lines.next().filter(|l| !l.is_empty()) {
            let field = line.get(..FIELD.len()).is_some_and(|f| f.eq_ignore_ascii_case(FIELD));
            if !field {
                continue;
            }
            let mut value = line.get(FIELD.len()..).unwrap_or_default().trim_ascii();
            if value.is_empty() {
                // Folded behind its name, as some do with a long one.
                let next = lines.peek().copied().unwrap_or_default();
                value = if next.starts_with(b" ") { next.trim_ascii() } else { b"" };
            }
            let value = value.get(..MESSAGE_ID_BYTES_MAX).unwrap_or(value);
            return String::from_utf8_lossy(value).into_owned();
        }
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn lines_are_header_fields() {
        let sender = ReturnPath(Some(Recipient::parse("a@example.org").unwrap()));
        let jo = Recipient::parse("jo@example.org").unwrap();
        let mut trace = Trace {
            client: "mx.example.org",
            peer: Some("2001:db8::1".parse().unwrap()),
            tls: false,
            logged_in: false,
            utf8: false,
            hostname: "store.example.org",
            id: "7f.1",
        };
        let now = datetime!(2025-01-02 03:04:05 UTC);
        assert_eq!(
            trace.lines_at(&sender, Some(&jo), now),
            "Return-Path: <a@example.org>\r\n\
             Delivered-To: jo@example.org\r\n\
             Received: from mx.example.org ([IPv6:2001:db8::1])\r\n\
             \tby store.example.org (Cursus) with LMTP id 7f.1\r\n\
             \tfor <jo@example.org>;\r\n\
             \tThu, 02 Jan 2025 03:04:05 +0000\r\n"
        );
        (trace.client, trace.peer, trace.utf8) = ("a (b\u{e4}d) name", None, true);
        (trace.tls, trace.logged_in) = (true, true);
        assert_eq!(
            trace.lines_at(&ReturnPath(None), None, now),
            "Return-Path: <>\r\n\
             Received: from unknown\r\n\
             \tby store.example.org (Cursus) with UTF8LMTPSA id 7f.1;\r\n\
             \tThu, 02 Jan 2025 03:04:05 +0000\r\n"
        );
    }

    #[test]
    fn message_id_is_found_in_the_header_only() {
        let id = |text: &str| {
            let mut head = Head::default();
            text.as_bytes().chunks(3).for_each(|part| head.write(part));
            head.message_id()
        };
        assert_eq!(id("A: b\r\nMESSAGE-ID: <x@y>\r\n\r\n"), "<x@y>");
        assert_eq!(id("Message-Id:\r\n <x@y>\r\n"), "<x@y>");
        assert_eq!(id("A: b\r\n\r\nMessage-ID: <x@y>\r\n"), "");
        assert_eq!(id(&"x".repeat(HEAD_BYTES_MAX + 100)), "");
    }
}
