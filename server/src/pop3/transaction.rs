//! The TRANSACTION state: STAT, LIST, UIDL, RETR, TOP, DELE, RSET.

use std::io::Write as _;

use engine::Record;
use protocol::line::DotEncoder;
use protocol::pop3::{Command, MessageNumber, Reply, RespCode, TopLimit, surrogate};

use super::maildrop::{Maildrop, Totals};
use super::{Flow, Session, State};

/// Messages listed between two looks at the output queue.
const LIST_BATCH: u32 = 1024;

/// Longest header that is rewritten for a client without UTF-8; a longer one is sent as it is.
const SURROGATE_BYTES_MAX: usize = 1024 * 1024;

/// What a listing says about each message.
#[derive(Clone, Copy)]
enum Column {
    Size,
    Uidl,
}

impl Column {
    fn of(self, maildrop: &Maildrop, record: &Record) -> String {
        match self {
            Column::Size => record.size.to_string(),
            Column::Uidl => maildrop.uidl(record.uid),
        }
    }
}

impl Session {
    pub(super) async fn transaction(&mut self, command: Command<'_>) -> Flow {
        match command {
            Command::List(None) => return self.list_all(Column::Size).await,
            Command::Uidl(None) => return self.list_all(Column::Uidl).await,
            Command::Retr(message) => return self.send(message, None).await,
            Command::Top { message, lines } => return self.send(message, Some(lines)).await,
            _ => {}
        }
        let State::Transaction(maildrop) = &mut self.state else { return Flow::Continue };
        let result = match command {
            Command::Stat => {
                let Totals { messages, bytes } = maildrop.totals();
                Ok(format!("{messages} {bytes}"))
            }
            Command::Last => Ok(maildrop.last().to_string()),
            Command::List(Some(message)) => one(maildrop, message, Column::Size),
            Command::Uidl(Some(message)) => one(maildrop, message, Column::Uidl),
            Command::Dele(message) => match maildrop.delete(message) {
                Ok(()) => Ok(format!("message {message} deleted")),
                Err(error) => Err(error.text()),
            },
            Command::Rset => {
                maildrop.reset();
                Ok(format!("{} messages", maildrop.count()))
            }
            _ => Err("unknown command"),
        };
        match result {
            Ok(text) => self.ok(&text),
            Err(text) => self.err(text),
        }
        Flow::Continue
    }

    async fn list_all(&mut self, column: Column) -> Flow {
        let State::Transaction(maildrop) = &self.state else { return Flow::Continue };
        let (count, Totals { messages, bytes }) = (maildrop.count(), maildrop.totals());
        self.ok(&format!("{messages} messages ({bytes} octets)"));
        let mut first = 1;
        while first <= count {
            let last = first.saturating_add(LIST_BATCH - 1);
            if let State::Transaction(maildrop) = &self.state {
                self.conn.out.with_vec(|out| {
                    for (seq, record) in maildrop.left_from(first, last) {
                        // Writing to a vector can't fail.
                        let _ = write!(out, "{seq} {}\r\n", column.of(maildrop, &record));
                    }
                });
            }
            first = last.saturating_add(1);
            if self.conn.out.is_high()
                && let Err(error) = self.conn.flush().await
            {
                return Flow::End(error.to_string());
            }
            tokio::task::yield_now().await;
        }
        self.conn.out.push(b".\r\n");
        Flow::Continue
    }

    /// RETR, or TOP with so many lines of the body.
    async fn send(&mut self, message: MessageNumber, lines: Option<u64>) -> Flow {
        let State::Transaction(maildrop) = &mut self.state else { return Flow::Continue };
        let record = match maildrop.find(message) {
            Ok(record) => record,
            Err(error) => {
                self.err(error.text());
                return Flow::Continue;
            }
        };
        match self.stream(&record, lines).await {
            Ok(()) => {
                if let (State::Transaction(maildrop), None) = (&mut self.state, lines) {
                    maildrop.retrieved(message);
                }
                Flow::Continue
            }
            Err(Broken::BeforeReply(error)) => {
                self.log_broken(&error);
                let (code, text) = match error {
                    engine::Error::Expunged(_) => (None, "another session removed this message"),
                    _ => (Some(RespCode::SysTemp), "the message can't be read now"),
                };
                self.reply(Reply::Err(code, text));
                Flow::Continue
            }
            // Half a message was sent: only a cut connection tells the client so.
            Err(Broken::InMessage(error)) => {
                self.log_broken(&error);
                Flow::End(format!("message breaks off: {error}"))
            }
            Err(Broken::Connection(error)) => Flow::End(error.to_string()),
        }
    }

    fn log_broken(&self, error: &engine::Error) {
        if let State::Transaction(maildrop) = &self.state
            && !matches!(error, engine::Error::Expunged(_))
        {
            self.services.log_error(
                &self.conn,
                Some(maildrop.user().name()),
                "reading a message",
                error,
            );
        }
    }

    async fn stream(&mut self, record: &Record, lines: Option<u64>) -> Result<(), Broken> {
        let State::Transaction(maildrop) = &self.state else { return Ok(()) };
        let lane = &self.services.lane;
        let file = maildrop.mailbox.message(lane, record).await.map_err(Broken::BeforeReply)?;
        let end = file.stored_size();
        let mut reader = file.served(0, end, 0, u64::MAX);
        let mut chunk = reader.next().await.map_err(Broken::BeforeReply)?;
        let size = usize::try_from(record.header_size).unwrap_or(usize::MAX);
        if !self.utf8 && size <= SURROGATE_BYTES_MAX {
            // A header seldom ends beyond the first chunk.
            while let Some(head) = &mut chunk
                && head.len() < size
            {
                match reader.next().await.map_err(Broken::BeforeReply)? {
                    Some(more) => head.extend_from_slice(&more),
                    None => break,
                }
            }
            if let Some(head) = &mut chunk
                && let Some((header, body)) = head.split_at_checked(size)
                && !header.is_ascii()
            {
                *head = [&surrogate(header), body].concat();
            }
        }
        match lines {
            None => self.ok(&format!("{} octets", record.size)),
            Some(_) => self.ok("top of message follows"),
        }
        let mut limit = lines.map(TopLimit::new);
        let mut encoder = DotEncoder::new();
        while let Some(bytes) = &chunk {
            let part = match &mut limit {
                Some(limit) => limit.take(bytes),
                None => bytes,
            };
            let out = &mut self.conn.out;
            encoder.encode(part, |run| out.push(run));
            if limit.is_some_and(|l| l.is_done()) {
                break;
            }
            if self.conn.out.is_high() {
                self.conn.flush().await.map_err(Broken::Connection)?;
                tokio::task::yield_now().await;
            }
            chunk = reader.next().await.map_err(Broken::InMessage)?;
        }
        let out = &mut self.conn.out;
        encoder.finish(|run| out.push(run));
        Ok(())
    }
}

enum Broken {
    /// Nothing was said yet.
    BeforeReply(engine::Error),
    /// After a part of the message.
    InMessage(engine::Error),
    /// The client.
    Connection(std::io::Error),
}

fn one(
    maildrop: &Maildrop,
    message: MessageNumber,
    column: Column,
) -> Result<String, &'static str> {
    let record = maildrop.find(message).map_err(|e| e.text())?;
    Ok(format!("{message} {}", column.of(maildrop, &record)))
}
