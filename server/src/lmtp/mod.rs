//! LMTP sessions: RFC 2033 over RFC 5321, AUTH of RFC 4954.
//!
//! | module | says |
//! |---|---|
//! | `auth` | clients that have to log in |
//! | `recipient` | from an address to a user's mailbox |
//! | `receive` | one message streaming into the store, for all its recipients |
//! | `trace` | the header lines that a delivery adds |
//!
//! Invariants: 250 for a recipient is said after its commit and never before; what isn't known for
//! certain to be the sender's or the recipient's fault is answered 4xx, so the message stays with
//! the sender; a connection that ends inside a message leaves nothing behind; memory doesn't grow
//! with the message.

mod auth;
mod receive;
mod recipient;
mod trace;

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use protocol::line::DotDecoder;
use protocol::lmtp::{
    Body, Command, Enhanced, LINE_BYTES_MAX, MailParams, RcptParams, Recipient, Reply, ReturnPath,
};
use tokio::time::Instant;

use crate::lines::{End, Incoming, LineReader};
use crate::net::Conn;
use crate::services::Services;
use crate::telemetry::POSTMAN;
use crate::word::Leave;
use receive::{Receiving, refusal};
use recipient::{Accepted, Refused};

/// Serves one connection to its end.
///
/// Not an `async fn`: its task would keep room for the arguments beside the session that they
/// were moved into.
pub fn run(conn: Conn, services: Rc<Services>) -> impl Future<Output = ()> {
    let mut session = Session {
        conn,
        services,
        lines: LineReader::new(LINE_BYTES_MAX),
        client: None,
        transaction: None,
        transactions: 0,
        bad_commands: 0,
        may_deliver: false,
    };
    async move {
        if session.services.may_record() && !session.wants_login() {
            Box::pin(session.services.record(&mut session.conn, POSTMAN)).await;
        }
        let greeting = format!("{} Cursus LMTP ready", session.services.hostname());
        session.reply(Reply::bare(220, &greeting));
        drop(greeting);
        let reason = session.serve().await;
        session.transaction = None;
        session.services.log_end(&session.conn, None, &reason);
        session.conn.close().await;
    }
}

/// What MAIL FROM began.
struct Transaction {
    sender: ReturnPath,
    params: MailParams,
    recipients: Vec<Accepted>,
    /// The message, while chunks come in by BDAT.
    receiving: Option<Box<Receiving>>,
}

/// Whether the session goes on; if not, why.
enum Flow {
    Continue,
    End(String),
}

struct Session {
    conn: Conn,
    services: Rc<Services>,
    lines: LineReader,
    /// The name given in LHLO.
    client: Option<String>,
    transaction: Option<Box<Transaction>>,
    /// Messages begun so far: with the session's id, a name for each.
    transactions: u64,
    bad_commands: u32,
    /// The client has logged in, as a user that may deliver.
    may_deliver: bool,
}

impl Session {
    fn reply(&mut self, reply: Reply<'_>) {
        self.conn.out.with_vec(|out| out.extend_from_slice(reply.to_string().as_bytes()));
    }

    fn answer(&mut self, code: u16, enhanced: Enhanced, text: &str) {
        self.reply(Reply::new(code, enhanced, text));
    }

    async fn serve(&mut self) -> String {
        loop {
            let flow = match self.next_line().await {
                Incoming::Line(line) => match Command::parse(&line) {
                    Ok(command) => Box::pin(self.command(command)).await,
                    Err(error) => {
                        let text = error.to_string();
                        self.reply(error.reply(&text));
                        self.count_bad_command()
                    }
                },
                Incoming::TooLong => {
                    self.answer(500, Enhanced::SYNTAX, "line too long");
                    self.count_bad_command()
                }
                Incoming::End(end) => {
                    match end {
                        End::Leave(Leave::Stopping) => {
                            self.answer(421, Enhanced::SYSTEM_CLOSING, "server stops, come again")
                        }
                        End::Leave(Leave::Told(ref text)) => {
                            self.answer(421, Enhanced::SYSTEM_CLOSING, text)
                        }
                        End::Idle => self.answer(421, Enhanced::BAD_CONNECTION, "silent too long"),
                        End::Left | End::Failed(_) => {}
                    }
                    return end.reason();
                }
            };
            if let Flow::End(reason) = flow {
                return reason;
            }
            if self.conn.out.is_high()
                && let Err(error) = self.conn.flush().await
            {
                return error.to_string();
            }
        }
    }

    /// No future of its own around the reader's: a session holds it all the time.
    fn next_line(&mut self) -> impl Future<Output = Incoming> {
        let idle = Duration::from_secs(self.services.config().limits.lmtp_idle_seconds_max);
        self.lines.next(&mut self.conn, &self.services, Instant::now() + idle)
    }

    fn count_bad_command(&mut self) -> Flow {
        self.bad_commands += 1;
        if self.bad_commands < self.services.config().limits.bad_commands_max {
            return Flow::Continue;
        }
        self.answer(421, Enhanced::BAD_COMMAND, "too many bad commands");
        Flow::End("too many bad commands".to_owned())
    }

    async fn command(&mut self, command: Command) -> Flow {
        match command {
            Command::Lhlo(name) => self.lhlo(name),
            Command::Starttls => return self.starttls().await,
            Command::Auth { mechanism, initial } => {
                return self.auth(&mechanism, initial.as_deref()).await;
            }
            Command::Mail(sender, params) => self.mail(sender, params),
            Command::Rcpt(recipient, params) => self.rcpt(recipient, params).await,
            Command::Data => return self.data().await,
            Command::Bdat { size, last } => return self.bdat(size, last).await,
            Command::Rset => {
                self.transaction = None;
                self.answer(250, Enhanced::OTHER, "forgotten");
            }
            Command::Noop => self.answer(250, Enhanced::OTHER, "ok"),
            Command::Vrfy => self.answer(252, Enhanced::OTHER, "send RCPT TO to find out"),
            Command::Quit => {
                self.answer(221, Enhanced::OTHER, "bye");
                return Flow::End("quit".to_owned());
            }
        }
        Flow::Continue
    }

    fn lhlo(&mut self, name: String) {
        self.transaction = None;
        self.client = Some(name);
        let size = self.services.config().limits.message_bytes_max;
        let mut text = format!(
            "250-{}\r\n250-PIPELINING\r\n250-SIZE {size}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
             250-CHUNKING\r\n250-IGNOREQUOTA\r\n",
            self.services.hostname()
        );
        if self.conn.may_start_tls() {
            text.push_str("250-STARTTLS\r\n");
        }
        if let Some(names) = self.mechanisms() {
            let _ = write!(text, "250-AUTH {names}\r\n");
        }
        let _ = write!(text, "250 ENHANCEDSTATUSCODES\r\n");
        self.conn.out.push(text.as_bytes());
    }

    async fn starttls(&mut self) -> Flow {
        if !self.conn.may_start_tls() {
            self.answer(
                502,
                Enhanced::BAD_COMMAND,
                "TLS isn't available here, or is in use already",
            );
            return Flow::Continue;
        }
        self.answer(220, Enhanced::OTHER, "begin TLS");
        match self.conn.start_tls().await {
            Ok(()) => {
                // Nothing that was said before TLS counts.
                self.client = None;
                self.transaction = None;
                self.may_deliver = false;
                Flow::Continue
            }
            Err(error) => Flow::End(format!("TLS: {error}")),
        }
    }

    fn mail(&mut self, sender: ReturnPath, params: MailParams) {
        let limit = self.services.config().limits.message_bytes_max;
        if self.client.is_none() {
            self.answer(503, Enhanced::BAD_COMMAND, "send LHLO first");
        } else if self.wants_login() && !self.may_deliver {
            self.answer(530, Enhanced::SECURITY, "log in by AUTH first");
        } else if self.transaction.is_some() {
            self.answer(503, Enhanced::BAD_COMMAND, "one MAIL at a time: send RSET first");
        } else if params.size.is_some_and(|size| size > limit) {
            let text = format!("message larger than {limit} bytes");
            self.answer(552, Enhanced::TOO_BIG, &text);
        } else if params.body == Body::BinaryMime {
            self.answer(555, Enhanced::BAD_ARGUMENT, "BINARYMIME isn't offered");
        } else {
            self.transactions += 1;
            let transaction =
                Transaction { sender, params, recipients: Vec::new(), receiving: None };
            self.transaction = Some(Box::new(transaction));
            self.answer(250, Enhanced::OTHER, "sender ok");
        }
    }

    async fn rcpt(&mut self, recipient: Recipient, params: RcptParams) {
        let config = self.services.config();
        let Some(transaction) = &mut self.transaction else {
            self.answer(503, Enhanced::BAD_COMMAND, "send MAIL FROM first");
            return;
        };
        if transaction.receiving.is_some() {
            self.answer(503, Enhanced::BAD_COMMAND, "the message has begun");
            return;
        }
        if transaction.recipients.len() >= config.lmtp.recipients_max {
            self.answer(452, Enhanced::TOO_MANY_RECIPIENTS, "too many recipients");
            return;
        }
        if recipient.is_utf8() && !transaction.params.smtputf8 {
            self.answer(553, Enhanced::NEEDS_SMTPUTF8, "address needs SMTPUTF8");
            return;
        }
        let size = transaction.params.size;
        match recipient::accept(&self.services, &config.lmtp, recipient, size, params).await {
            Ok(accepted) => {
                transaction.recipients.push(accepted);
                self.answer(250, Enhanced::RECIPIENT_VALID, "recipient ok");
            }
            Err((recipient, refused)) => {
                let (sender, reason) = (transaction.sender.clone(), refused.to_string());
                self.log_refused(&recipient, &sender, &reason);
                match refused {
                    Refused::Unknown => self.answer(550, Enhanced::NO_SUCH_USER, "no such user"),
                    Refused::Directory(_) => {
                        self.answer(451, Enhanced::SYSTEM, "accounts can't be read now")
                    }
                    Refused::Store(error) => self.reply(refusal(&error, config.lmtp.over_quota)),
                }
            }
        }
    }

    fn log_refused(&self, recipient: &Recipient, sender: &ReturnPath, reason: &str) {
        let (recipient, sender) = (recipient.to_string(), sender.to_string());
        let event = crate::services::DeliveryEvent {
            user: "",
            recipient: &recipient,
            mailbox: "",
            sender: &sender,
            message_id: "",
            transaction: self.transactions,
            uid: None,
            bytes: 0,
            failure: Some(reason),
            duration: Duration::ZERO,
        };
        self.services.log_delivery(&self.conn, &event);
    }

    /// The recipients are there, so a message may come. If not, says so.
    fn may_receive(&mut self) -> bool {
        let text = match &self.transaction {
            None => "send MAIL FROM first",
            Some(transaction) if transaction.recipients.is_empty() => "no valid recipients",
            Some(_) => return true,
        };
        self.answer(503, Enhanced::BAD_COMMAND, text);
        false
    }

    fn begin(&self, transaction: &Transaction) -> Receiving {
        let trace = trace::Trace {
            client: self.client.as_deref().unwrap_or_default(),
            peer: self.conn.peer().ip(),
            tls: self.conn.is_tls(),
            logged_in: self.may_deliver,
            utf8: transaction.params.smtputf8,
            hostname: self.services.hostname(),
            id: &format!("{}.{}", self.conn.id(), self.transactions),
        };
        Receiving::new(&self.services, &transaction.sender, &transaction.recipients, &trace)
    }

    async fn data(&mut self) -> Flow {
        if !self.may_receive() {
            return Flow::Continue;
        }
        if self.transaction.as_ref().is_some_and(|t| t.receiving.is_some()) {
            self.answer(503, Enhanced::BAD_COMMAND, "the message has begun by BDAT");
            return Flow::Continue;
        }
        let Some(transaction) = self.transaction.take() else { return Flow::Continue };
        let mut receiving = self.begin(&transaction);
        self.reply(Reply::bare(354, "send the message, end it with a dot"));
        let mut decoder = DotDecoder::new();
        loop {
            while !self.conn.input().is_empty() {
                let piece = decoder.next(self.conn.input());
                receiving.write(piece.data).await;
                let (consumed, end) = (piece.consumed, piece.end);
                self.conn.consume(consumed);
                if end {
                    self.finish(&transaction, receiving).await;
                    return Flow::Continue;
                }
            }
            if let Err(reason) = self.more().await {
                return self.broken_off(&transaction, &reason);
            }
        }
    }

    async fn bdat(&mut self, size: u64, last: bool) -> Flow {
        let may_receive = self.may_receive_chunk();
        let mut transaction = if may_receive { self.transaction.take() } else { None };
        if let Some(transaction) = &mut transaction
            && transaction.receiving.is_none()
        {
            transaction.receiving = Some(Box::new(self.begin(transaction)));
        }
        // The chunk follows in any case and must not be read as commands.
        let mut left = size;
        while left > 0 {
            if self.conn.input().is_empty() {
                match (self.more().await, &transaction) {
                    (Ok(()), _) => {}
                    (Err(reason), Some(transaction)) => {
                        return self.broken_off(transaction, &reason);
                    }
                    (Err(reason), None) => return Flow::End(reason),
                }
            }
            let input = self.conn.input();
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
            let part = input.get(..take).unwrap_or_default();
            if let Some(receiving) = transaction.as_mut().and_then(|t| t.receiving.as_mut()) {
                receiving.write(part).await;
            }
            self.conn.consume(take);
            left -= take as u64;
        }
        let Some(mut transaction) = transaction else {
            self.may_receive();
            return Flow::Continue;
        };
        if !last {
            // A chunk that failed is answered with the last one, once for each recipient.
            self.answer(250, Enhanced::OTHER, &format!("{size} bytes received"));
            self.transaction = Some(transaction);
        } else if let Some(receiving) = transaction.receiving.take() {
            self.finish(&transaction, *receiving).await;
        }
        Flow::Continue
    }

    fn may_receive_chunk(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| !t.recipients.is_empty())
    }

    /// Waits for more of a message. Goes on while the server stops: the client would have to send
    /// all of it again.
    async fn more(&mut self) -> Result<(), String> {
        let idle = Duration::from_secs(self.services.config().limits.lmtp_idle_seconds_max);
        self.conn.flush().await.map_err(|e| e.to_string())?;
        match tokio::time::timeout(idle, self.conn.fill()).await {
            Ok(Ok(0)) => Err("client left in the middle of a message".to_owned()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("client was silent in the middle of a message".to_owned()),
        }
    }

    fn broken_off(&self, transaction: &Transaction, reason: &str) -> Flow {
        for accepted in &transaction.recipients {
            self.log_refused(&accepted.recipient, &transaction.sender, reason);
        }
        Flow::End(reason.to_owned())
    }

    /// The message is whole: commits it and answers for each recipient.
    async fn finish(&mut self, transaction: &Transaction, receiving: Receiving) {
        let start = Instant::now();
        let sender = transaction.sender.to_string();
        let (bytes, message_id) = (receiving.bytes(), receiving.message_id());
        let results = receiving.commit().await;
        for (accepted, result) in transaction.recipients.iter().zip(&results) {
            let failure = result.as_ref().err().map(engine::Error::to_string);
            let event = crate::services::DeliveryEvent {
                user: accepted.user_name(),
                recipient: &accepted.recipient.to_string(),
                mailbox: if failure.is_none() { &accepted.mailbox_name } else { "" },
                sender: &sender,
                message_id: &message_id,
                transaction: self.transactions,
                uid: result.as_ref().ok().map(|appended| appended.uid),
                bytes,
                failure: failure.as_deref(),
                duration: start.elapsed(),
            };
            self.services.log_delivery(&self.conn, &event);
            match result {
                Ok(_) => {
                    let text = format!("<{}> stored", accepted.recipient);
                    self.answer(250, Enhanced::OTHER, &text);
                }
                Err(error) => self.reply(refusal(error, self.services.config().lmtp.over_quota)),
            }
        }
    }
}
