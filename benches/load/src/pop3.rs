//! A POP3 client (RFC 1939): login, STAT, LIST and pipelined RETR.

use crate::error::{Error, Result};
use crate::scan::number;
use crate::target::{Target, Tls};
use crate::wire::Wire;

/// A session in the transaction state.
#[derive(Debug)]
pub(crate) struct Pop3 {
    wire: Wire,
}

impl Pop3 {
    pub(crate) async fn login(target: &Target, connection: u32) -> Result<Self> {
        let mut pop3 = Self { wire: target.connect().await? };
        pop3.ok().await?;
        if target.tls() == Tls::Starttls {
            pop3.command("STLS").await?;
            pop3.wire = target.encrypt(pop3.wire).await?;
        }
        pop3.command(&format!("USER {}", target.user(connection))).await?;
        pop3.command(&format!("PASS {}", target.password())).await?;
        Ok(pop3)
    }

    /// Message count and their size in bytes.
    pub(crate) async fn stat(&mut self) -> Result<(u64, u64)> {
        let answer = self.command("STAT").await?;
        let mut fields = answer.split_ascii_whitespace().skip(1).map(str::parse);
        match (fields.next(), fields.next()) {
            (Some(Ok(count)), Some(Ok(size))) => Ok((count, size)),
            _ => Err(Error::Answer { expected: "+OK count size".to_owned(), found: answer }),
        }
    }

    /// The sizes of all messages, in order.
    pub(crate) async fn list(&mut self) -> Result<Vec<u64>> {
        self.command("LIST").await?;
        let mut sizes = Vec::new();
        loop {
            let line = self.wire.line("a LIST line").await?;
            if line.starts_with(b".") {
                return Ok(sizes);
            }
            let size = number(line).and_then(|(_, rest)| number(rest.trim_ascii_start()));
            let Some((size, _)) = size else {
                return Err(Error::Answer {
                    expected: "number and size".to_owned(),
                    found: String::from_utf8_lossy(line).into_owned(),
                });
            };
            sizes.push(size);
        }
    }

    /// Sends commands without waiting for their answers.
    pub(crate) async fn send(&mut self, commands: &[u8]) -> Result<()> {
        self.wire.send(commands).await
    }

    /// Reads the answer to one RETR; hands back the message's size.
    pub(crate) async fn retrieved(&mut self) -> Result<u64> {
        self.ok().await?;
        self.wire.dotted_text().await
    }

    pub(crate) async fn command(&mut self, command: &str) -> Result<String> {
        self.wire.send(format!("{command}\r\n").as_bytes()).await?;
        self.ok().await
    }

    /// Reads one status line, which must be +OK.
    pub(crate) async fn ok(&mut self) -> Result<String> {
        let line = self.wire.line("a POP3 status line").await?;
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        if text.starts_with("+OK") {
            return Ok(text);
        }
        Err(Error::Answer { expected: "+OK".to_owned(), found: text })
    }
}
