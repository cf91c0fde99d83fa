//! An LMTP client (RFC 2033): one transaction after another on a kept connection, as a mail
//! transfer agent does it.

use memchr::memmem;

use crate::error::{Error, Result};
use crate::target::Target;
use crate::wire::Wire;

/// A session after LHLO.
#[derive(Debug)]
pub(crate) struct Lmtp {
    wire: Wire,
    pipelining: bool,
    out: Vec<u8>,
}

impl Lmtp {
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let mut lmtp = Self { wire: target.connect().await?, pipelining: false, out: Vec::new() };
        lmtp.reply("220").await?;
        lmtp.wire.send(b"LHLO load.example.net\r\n").await?;
        lmtp.pipelining = lmtp.reply("250").await?.to_ascii_uppercase().contains("PIPELINING");
        Ok(lmtp)
    }

    /// Delivers one message to one recipient; returns after the server has taken responsibility.
    pub(crate) async fn deliver(&mut self, recipient: &str, message: &[u8]) -> Result<()> {
        self.out.clear();
        self.out.extend_from_slice(b"MAIL FROM:<sender@example.net>\r\n");
        self.step("250").await?;
        self.out.extend_from_slice(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
        self.step("250").await?;
        self.out.extend_from_slice(b"DATA\r\n");
        self.wire.send(&self.out).await?;
        self.out.clear();
        if self.pipelining {
            self.reply("250").await?;
            self.reply("250").await?;
        }
        self.reply("354").await?;
        stuff(message, &mut self.out);
        self.wire.send(&self.out).await?;
        self.reply("250").await?;
        Ok(())
    }

    pub(crate) async fn quit(mut self) -> Result<()> {
        self.wire.send(b"QUIT\r\n").await?;
        self.reply("221").await?;
        Ok(())
    }

    /// Without PIPELINING, sends what is queued and waits for its reply.
    async fn step(&mut self, code: &str) -> Result<()> {
        if self.pipelining {
            return Ok(());
        }
        self.wire.send(&self.out).await?;
        self.out.clear();
        self.reply(code).await?;
        Ok(())
    }

    /// Reads one reply of any number of lines; it must have `code`.
    async fn reply(&mut self, code: &str) -> Result<String> {
        let mut text = String::new();
        loop {
            let line = self.wire.line("an LMTP reply").await?;
            text.push_str(&String::from_utf8_lossy(line));
            if line.get(3) == Some(&b'-') {
                continue;
            }
            if line.starts_with(code.as_bytes()) {
                return Ok(text);
            }
            return Err(Error::Answer {
                expected: format!("LMTP reply {code}"),
                found: text.trim_end().to_owned(),
            });
        }
    }
}

/// Appends the message with dots stuffed and its final dot.
fn stuff(message: &[u8], out: &mut Vec<u8>) {
    out.reserve(message.len() + 64);
    if message.first() == Some(&b'.') {
        out.push(b'.');
    }
    let mut copied = 0;
    for at in memmem::find_iter(message, b"\r\n.") {
        out.extend_from_slice(&message[copied..at + 2]);
        out.push(b'.');
        copied = at + 2;
    }
    out.extend_from_slice(&message[copied..]);
    if !message.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_stuffed_at_line_starts_only() {
        let mut out = Vec::new();
        stuff(b".a\r\n..b\r\nc.d\r\n.\r\ne", &mut out);
        assert_eq!(out, b"..a\r\n...b\r\nc.d\r\n..\r\ne\r\n.\r\n");
    }
}
