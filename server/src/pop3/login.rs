//! The AUTHORIZATION state: USER and PASS, APOP, AUTH, STLS, UTF8.

use std::time::{Duration, Instant};

use auth::{Account, AuthError, Step};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::pop3::{Command, Reply, RespCode};

use super::maildrop::{Maildrop, OpenError};
use super::{Flow, Session, State};
use crate::lines::Incoming;
use crate::login::context;
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
                let mut text = String::from("+OK mechanisms follow\r\n");
                for mechanism in self.services.mechanisms(&self.conn) {
                    text.push_str(mechanism.name());
                    text.push_str("\r\n");
                }
                self.conn.out.push(text.as_bytes());
                self.conn.out.push(b".\r\n");
            }
            // RFC 6856 section 2.1: it says how mail is sent, and logs nobody in.
            _ if !self.conn.may_log_in() && !matches!(command, Command::Utf8) => {
                self.err("logins need TLS: use STLS first")
            }
            Command::Utf8 => {
                self.utf8 = true;
                self.ok("UTF-8 it is");
            }
            Command::Apop { name, digest } => return self.apop(name, digest).await,
            Command::User(_) if !self.services.takes_passwords() => {
                self.err("passwords in clear aren't taken, see CAPA for mechanisms");
            }
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

    async fn pass(&mut self, password: &[u8]) -> Flow {
        let State::Authorization { user } = &mut self.state else { return Flow::Continue };
        let Some(user) = user.take() else {
            self.err("send USER first");
            return Flow::Continue;
        };
        let start = Instant::now();
        let result = self.services.auth.plain(&user, password, &context(&self.conn, "pop3")).await;
        self.logged_in("USER", &user, start, result).await
    }

    /// RFC 1939 section 7.
    async fn apop(&mut self, name: &[u8], digest: &[u8]) -> Flow {
        let (Some(stamp), Ok(name)) = (self.stamp.clone(), std::str::from_utf8(name)) else {
            self.err("APOP isn't available here, or the name isn't in UTF-8");
            return Flow::Continue;
        };
        let (start, digest) = (Instant::now(), digest.to_ascii_lowercase());
        let context = context(&self.conn, "pop3");
        let result = self.services.auth.apop(name, &stamp, &digest, &context).await;
        self.logged_in("APOP", name, start, result).await
    }

    async fn auth(&mut self, name: &[u8], initial: Option<&[u8]>) -> Flow {
        let Some(mechanism) = self.services.mechanism(&self.conn, name) else {
            self.err("unknown mechanism: see CAPA");
            return Flow::Continue;
        };
        let (context, channel) = (context(&self.conn, "pop3"), self.services.channel(&self.conn));
        let mut exchange = self.services.auth.begin(mechanism, context, channel);
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
        let (user, by) = match &result {
            Ok(account) => (account.name.as_str(), account.by.as_ref().map(|n| n.as_str())),
            Err(_) => (user, None),
        };
        let (failure, duration) = (failure.as_deref(), start.elapsed());
        let event = LoginEvent { user, by, mechanism, failure, duration };
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
            AuthError::Barred(told) => (Some(RespCode::Auth), told.as_str()),
            AuthError::Denied => (Some(RespCode::Auth), "not allowed to act as that user"),
            AuthError::Binding(_) => {
                (Some(RespCode::Auth), "the channel binding is not this connection's")
            }
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
        let delay = Duration::from_secs(self.services.config().pop3.login_delay_seconds);
        let delays = &self.services.shared().pop3_delays;
        if !delays.admit(account.name.as_str(), delay, Instant::now()) {
            let text = "the last login was too short a time ago";
            self.reply(Reply::Err(Some(RespCode::LoginDelay), text));
            return Flow::Continue;
        }
        match Maildrop::open(&self.services, &account).await {
            Ok(maildrop) => {
                let text = format!("{} messages", maildrop.count());
                self.services.record(&mut self.conn, account.name.as_str()).await;
                self.lines.log_in(maildrop.user().clone());
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
