//! The AUTHORIZATION state: USER and PASS, AUTH, STLS.

use std::time::Instant;

use auth::{Account, AuthError, Context, Mechanism, Origin, Step};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::pop3::{Command, Reply, RespCode};

use super::maildrop::{Maildrop, OpenError};
use super::{Flow, Session, State};
use crate::lines::Incoming;
use crate::services::LoginEvent;

impl Session {
    pub(super) async fn authorization(&mut self, command: Command<'_>) -> Flow {
        if matches!(self.state, State::Transaction(_)) {
            self.err("you are logged in already");
            return self.count_bad_command();
        }
        match command {
            Command::Stls => return self.stls().await,
            Command::AuthList if self.conn.may_log_in() => {
                let names = Mechanism::ALL.map(Mechanism::name).join("\r\n");
                self.conn.out.push(format!("+OK mechanisms follow\r\n{names}\r\n.\r\n").as_bytes());
            }
            _ if !self.conn.may_log_in() => self.err("logins need TLS: use STLS first"),
            Command::User(name) => match std::str::from_utf8(name) {
                Ok(name) => {
                    self.state = State::Authorization { user: Some(name.to_owned()) };
                    // The same for every name: who exists is nobody's business.
                    self.ok("send PASS");
                }
                Err(_) => self.err("expected a name in UTF-8"),
            },
            Command::Pass(password) => return self.pass(password).await,
            Command::Auth { mechanism, initial } => return self.auth(mechanism, initial).await,
            _ => {}
        }
        Flow::Continue
    }

    async fn stls(&mut self) -> Flow {
        if !self.conn.may_start_tls() {
            self.err("TLS isn't available here, or is in use already");
            return Flow::Continue;
        }
        self.ok("begin TLS");
        match self.conn.start_tls().await {
            Ok(()) => {
                // Nothing that was said before TLS counts.
                self.state = State::Authorization { user: None };
                Flow::Continue
            }
            Err(error) => Flow::End(format!("TLS: {error}")),
        }
    }

    fn context(&self) -> Context {
        let origin = self.conn.peer().ip().map_or(Origin::Local, Origin::from);
        Context { origin, service: "pop3" }
    }

    async fn pass(&mut self, password: &[u8]) -> Flow {
        let State::Authorization { user } = &mut self.state else { return Flow::Continue };
        let Some(user) = user.take() else {
            self.err("send USER first");
            return Flow::Continue;
        };
        let start = Instant::now();
        let result = self.services.auth.plain(&user, password, self.context()).await;
        self.logged_in("USER", &user, start, result).await
    }

    async fn auth(&mut self, name: &[u8], initial: Option<&[u8]>) -> Flow {
        let Some(mechanism) = Mechanism::parse(name) else {
            self.err("unknown mechanism: see CAPA");
            return Flow::Continue;
        };
        let mut exchange = self.services.auth.begin(mechanism, self.context());
        let mut start = Instant::now();
        let mut response = match initial {
            None => None,
            Some(b"=") => Some(Vec::new()),
            Some(text) => match BASE64.decode(text) {
                Ok(bytes) => Some(bytes),
                Err(_) => {
                    self.err("expected base64");
                    return Flow::Continue;
                }
            },
        };
        loop {
            let result = match exchange.step(response.as_deref()).await {
                Step::Challenge(challenge) => {
                    self.reply(Reply::Challenge(&BASE64.encode(challenge)));
                    let line = match self.next_line().await {
                        Incoming::Line(line) => line,
                        Incoming::TooLong => {
                            self.err("line too long");
                            return self.count_bad_command();
                        }
                        Incoming::End(end) => return Flow::End(end.reason()),
                    };
                    start = Instant::now();
                    if line == b"*" {
                        self.err("authentication cancelled");
                        return Flow::Continue;
                    }
                    match BASE64.decode(&line) {
                        Ok(bytes) => response = Some(bytes),
                        Err(_) => {
                            self.err("expected base64");
                            return Flow::Continue;
                        }
                    }
                    continue;
                }
                Step::Done(account) => Ok(account),
                Step::Failed(error) => Err(error),
            };
            return self.logged_in(mechanism.name(), exchange.user(), start, result).await;
        }
    }

    /// Answers a login, and opens the maildrop after a good one.
    async fn logged_in(
        &mut self,
        mechanism: &str,
        user: &str,
        start: Instant,
        result: Result<Account, AuthError>,
    ) -> Flow {
        let failure = result.as_ref().err().map(AuthError::to_string);
        let event =
            LoginEvent { user, mechanism, failure: failure.as_deref(), duration: start.elapsed() };
        self.services.log_login(&self.conn, &event);
        match result {
            Ok(account) => self.open(account).await,
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&mut self, error: &AuthError) -> Flow {
        let (code, text) = match error {
            AuthError::Wrong => (Some(RespCode::Auth), "wrong user name or password"),
            AuthError::Disabled => (Some(RespCode::Auth), "this account is disabled"),
            AuthError::Malformed(_) => (None, "bad authentication exchange"),
            AuthError::Limited => {
                (Some(RespCode::SysTemp), "too many failed logins from your address")
            }
            AuthError::Busy | AuthError::Unavailable(_) => {
                (Some(RespCode::SysTemp), "logins aren't possible now, try again later")
            }
        };
        self.reply(Reply::Err(code, text));
        self.login_failures += 1;
        match self.login_failures < self.services.config().limits.login_failures_max {
            true => Flow::Continue,
            false => Flow::End("too many failed logins".to_owned()),
        }
    }

    async fn open(&mut self, account: Account) -> Flow {
        match Maildrop::open(&self.services, &account).await {
            Ok(maildrop) => {
                let text = format!("{} messages", maildrop.count());
                self.state = State::Transaction(Box::new(maildrop));
                self.ok(&text);
            }
            Err(OpenError::InUse) => {
                let text = "another POP3 session has this maildrop";
                self.reply(Reply::Err(Some(RespCode::InUse), text));
            }
            Err(OpenError::Store(error @ engine::Error::InUse { .. })) => {
                let user = account.name.as_str();
                self.services.log_error(&self.conn, Some(user), "opening the maildrop", &error);
                let text = "the maildrop is open on another server";
                self.reply(Reply::Err(Some(RespCode::InUse), text));
            }
            Err(OpenError::Store(error)) => {
                let user = account.name.as_str();
                self.services.log_error(&self.conn, Some(user), "opening the maildrop", &error);
                let code = match error.is_temporary() {
                    true => RespCode::SysTemp,
                    false => RespCode::SysPerm,
                };
                self.reply(Reply::Err(Some(code), "the maildrop can't be opened"));
            }
        }
        Flow::Continue
    }
}
