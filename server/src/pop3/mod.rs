//! POP3 sessions: RFC 1939, 2449, 2595, 3206, 5034, 6856.
//!
//! | module | says |
//! |---|---|
//! | `login` | USER, PASS, APOP, AUTH, STLS, UTF8: the AUTHORIZATION state |
//! | `delay` | LOGIN-DELAY |
//! | `maildrop` | the locked snapshot of INBOX, and what QUIT does to it |
//! | `transaction` | the commands of the TRANSACTION state |
//! | `uidl` | the forms of UIDLs |
//!
//! Invariants: the maildrop is one [`engine::View`], so numbers hold still whatever other sessions
//! do; one POP3 session at a time has it; messages are removed by QUIT and by nothing else; a
//! message that breaks off in the middle closes the connection, so the client can't take a part
//! for the whole.
//!
//! A UIDL is the same in every session and is never given to another message.

mod delay;
mod login;
mod maildrop;
mod transaction;
mod uidl;

pub use delay::LoginDelays;

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use protocol::pop3::{Command, LINE_BYTES_MAX, Reply, RespCode};
use tokio::time::Instant;

use crate::language::Language;
use crate::lines::{End, Incoming, LineReader};
use crate::net::Conn;
use crate::services::Services;
use maildrop::Maildrop;

/// Serves one connection to its end.
///
/// Not an `async fn`: its task would keep room for the arguments beside the session that they
/// were moved into.
pub fn run(conn: Conn, services: Rc<Services>) -> impl Future<Output = ()> {
    let mut session = Session {
        conn,
        services,
        lines: LineReader::new(LINE_BYTES_MAX),
        state: State::Authorization { user: None },
        stamp: None,
        utf8: false,
        language: Language::default(),
        login_failures: 0,
        bad_commands: 0,
    };
    async move {
        session.greet();
        let reason = session.serve().await;
        session.end(&reason);
        session.conn.close().await;
    }
}

enum State {
    Authorization {
        /// The name that USER gave.
        user: Option<String>,
    },
    Transaction(Box<Maildrop>),
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
    state: State,
    /// The greeting's timestamp, where APOP is offered.
    stamp: Option<Box<str>>,
    /// The client said UTF8.
    utf8: bool,
    /// Of texts for people.
    language: Language,
    login_failures: u32,
    bad_commands: u32,
}

impl Session {
    /// Lets the maildrop go, and says in the log how it ended.
    fn end(&mut self, reason: &str) {
        let state = std::mem::replace(&mut self.state, State::Authorization { user: None });
        let user = match &state {
            State::Transaction(maildrop) => Some(maildrop.user().name().to_owned()),
            State::Authorization { .. } => None,
        };
        drop(state);
        self.services.log_end(&self.conn, user.as_deref(), reason);
    }

    fn greet(&mut self) {
        if self.services.config().pop3.apop {
            let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs());
            // Without random numbers there is no APOP, as its answer could be replayed.
            self.stamp = getrandom::u64()
                .ok()
                .map(|random| format!("<{random:016x}.{now}@{}>", self.services.hostname()).into());
        }
        match self.stamp.as_deref().map(|stamp| format!("Cursus POP3 ready {stamp}")) {
            Some(text) => self.ok(&text),
            None => self.ok("Cursus POP3 ready"),
        }
    }

    /// LANG: RFC 6856 section 3.
    fn lang(&mut self, range: Option<&[u8]>) {
        let Some(range) = range else {
            let mut text = String::from("+OK languages follow\r\n");
            for language in Language::ALL {
                let _ = write!(text, "{} {}\r\n", language.tag(), language.own_name());
            }
            text.push_str(".\r\n");
            self.conn.out.push(text.as_bytes());
            return;
        };
        match std::str::from_utf8(range).ok().and_then(Language::of_range) {
            Some(language) => {
                self.language = language;
                let text = format!("{} {}", language.tag(), language.say("Language changed"));
                self.ok(&text);
            }
            None => self.err("this language isn't spoken here, see LANG"),
        }
    }

    fn reply(&mut self, reply: Reply<'_>) {
        let language = self.language;
        self.conn.out.with_vec(|out| {
            let line = match reply {
                Reply::Ok(text) => Reply::Ok(&language.say(text)).to_string(),
                Reply::Err(code, text) => Reply::Err(code, &language.say(text)).to_string(),
                Reply::Challenge(_) => reply.to_string(),
            };
            out.extend_from_slice(line.as_bytes());
        });
    }

    fn ok(&mut self, text: &str) {
        self.reply(Reply::Ok(text));
    }

    fn err(&mut self, text: &str) {
        self.reply(Reply::Err(None, text));
    }

    async fn serve(&mut self) -> String {
        loop {
            let line = match self.next_line().await {
                Incoming::Line(line) => line,
                Incoming::TooLong => {
                    self.err("line too long");
                    if let Flow::End(reason) = self.count_bad_command() {
                        return reason;
                    }
                    continue;
                }
                Incoming::End(end) => {
                    if matches!(end, End::Leave(_)) {
                        self.reply(Reply::Err(Some(RespCode::SysTemp), &end.reason()));
                    }
                    return end.reason();
                }
            };
            let flow = match Command::parse(&line) {
                Ok(command) => Box::pin(self.command(command)).await,
                Err(error) => {
                    self.err(&error.to_string());
                    self.count_bad_command()
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

    async fn next_line(&mut self) -> Incoming {
        let limits = &self.services.config().limits;
        let (from, seconds) = match self.state {
            State::Authorization { .. } => (self.conn.since().into(), limits.login_seconds_max),
            State::Transaction(_) => (Instant::now(), limits.pop3_idle_seconds_max),
        };
        let deadline = from + Duration::from_secs(seconds);
        self.lines.next(&mut self.conn, &self.services, deadline).await
    }

    fn count_bad_command(&mut self) -> Flow {
        self.bad_commands += 1;
        if self.bad_commands < self.services.config().limits.bad_commands_max {
            return Flow::Continue;
        }
        self.err("too many bad commands");
        Flow::End("too many bad commands".to_owned())
    }

    async fn command(&mut self, command: Command<'_>) -> Flow {
        match command {
            Command::Capa => self.capa(),
            Command::Noop if matches!(self.state, State::Transaction(_)) => self.ok(""),
            Command::Quit => return self.quit().await,
            Command::Lang(range) => self.lang(range),
            Command::User(_)
            | Command::Pass(_)
            | Command::Apop { .. }
            | Command::Utf8
            | Command::Auth { .. }
            | Command::AuthList
            | Command::Stls => return self.authorization(command).await,
            _ => match &mut self.state {
                State::Authorization { .. } => {
                    self.err("log in first");
                    return self.count_bad_command();
                }
                State::Transaction(_) => return self.transaction(command).await,
            },
        }
        Flow::Continue
    }

    fn capa(&mut self) {
        let mut text = String::from("+OK capabilities follow\r\n");
        if self.conn.may_log_in() {
            if self.services.takes_passwords() {
                text.push_str("USER\r\n");
            }
            text.push_str("SASL");
            for mechanism in self.services.mechanisms(&self.conn) {
                let _ = write!(text, " {}", mechanism.name());
            }
            text.push_str("\r\n");
        }
        if self.conn.may_start_tls() && matches!(self.state, State::Authorization { .. }) {
            text.push_str("STLS\r\n");
        }
        let pop3 = &self.services.config().pop3;
        if pop3.login_delay_seconds > 0 {
            let _ = write!(text, "LOGIN-DELAY {}\r\n", pop3.login_delay_seconds);
        }
        match pop3.expire_days {
            None => text.push_str("EXPIRE NEVER\r\n"),
            Some(days) => drop(write!(text, "EXPIRE {days}\r\n")),
        }
        text.push_str(
            "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8 USER\r\n\
             LANG\r\nIMPLEMENTATION Cursus\r\n.\r\n",
        );
        self.conn.out.push(text.as_bytes());
    }

    async fn quit(&mut self) -> Flow {
        if let State::Transaction(maildrop) = &mut self.state {
            match maildrop.update().await {
                Ok(()) => self.ok("bye"),
                Err(error) => {
                    let user = maildrop.user().name().to_owned();
                    self.services.log_error(&self.conn, Some(&user), "removing messages", &error);
                    let text = "some deleted messages were not removed";
                    self.reply(Reply::Err(Some(RespCode::SysTemp), text));
                }
            }
        } else {
            self.ok("bye");
        }
        Flow::End("quit".to_owned())
    }
}
