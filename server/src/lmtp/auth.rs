//! AUTH: RFC 4954, over which RFC 2033 puts the client of a site's own mail system.
//!
//! Offered where the configuration names users that may deliver; then nobody else may.

use auth::{AuthError, Step};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::lmtp::{Enhanced, Reply};
use tokio::time::Instant;

use super::{Flow, Session};
use crate::lines::Incoming;
use crate::login::context;
use crate::services::LoginEvent;

impl Session {
    /// Whether a client has to log in first.
    pub(super) fn wants_login(&self) -> bool {
        !self.conn.listener().trusted && !self.services.config().lmtp.users.is_empty()
    }

    /// The mechanisms that are offered, in LHLO's words; `None` where none are.
    pub(super) fn mechanisms(&self) -> Option<String> {
        if !self.wants_login() || !self.conn.may_log_in() {
            return None;
        }
        let mechanisms = self.services.mechanisms(&self.conn);
        let names: Vec<&str> = mechanisms.iter().map(|mechanism| mechanism.name()).collect();
        (!names.is_empty()).then(|| names.join(" "))
    }

    pub(super) async fn auth(&mut self, mechanism: &str, initial: Option<&str>) -> Flow {
        if !self.wants_login() {
            self.answer(502, Enhanced::BAD_COMMAND, "AUTH isn't offered");
        } else if self.client.is_none() {
            self.answer(503, Enhanced::BAD_COMMAND, "send LHLO first");
        } else if self.may_deliver || self.transaction.is_some() {
            self.answer(503, Enhanced::BAD_COMMAND, "once, and not within a message");
        } else if !self.conn.may_log_in() {
            self.answer(538, Enhanced::NEEDS_ENCRYPTION, "use STARTTLS first");
        } else {
            return self.exchange(mechanism, initial).await;
        }
        Flow::Continue
    }

    async fn exchange(&mut self, mechanism: &str, initial: Option<&str>) -> Flow {
        let Some(mechanism) = self.services.mechanism(&self.conn, mechanism.as_bytes()) else {
            self.answer(504, Enhanced::BAD_ARGUMENT, "unknown mechanism");
            return Flow::Continue;
        };
        let (context, channel) = (context(&self.conn, "lmtp"), self.services.channel(&self.conn));
        let mut exchange = self.services.auth.begin(mechanism, context, channel);
        let mut start = Instant::now();
        let mut response = match initial.map(|text| if text == "=" { "" } else { text }) {
            None => None,
            Some(text) => match BASE64.decode(text) {
                Ok(bytes) => Some(bytes),
                Err(_) => return self.not_base64(),
            },
        };
        let result = loop {
            match exchange.step(response.as_deref()).await {
                Step::Challenge(challenge) => {
                    self.reply(Reply::bare(334, &BASE64.encode(challenge)));
                    let line = match self.next_line().await {
                        Incoming::Line(line) => line,
                        Incoming::TooLong => {
                            self.answer(500, Enhanced::SYNTAX, "line too long");
                            return self.count_bad_command();
                        }
                        Incoming::End(end) => return Flow::End(end.reason()),
                    };
                    start = Instant::now();
                    if line == b"*" {
                        self.answer(501, Enhanced::OTHER, "authentication cancelled");
                        return Flow::Continue;
                    }
                    match BASE64.decode(&line) {
                        Ok(bytes) => response = Some(bytes),
                        Err(_) => return self.not_base64(),
                    }
                }
                Step::Done(account) => break Ok(account),
                Step::Failed(error) => break Err(error),
            }
        };
        let users = &self.services.config().lmtp.users;
        let result =
            result.and_then(|account| match users.iter().any(|u| u == account.name.as_str()) {
                true => Ok(account),
                false => Err(AuthError::Denied),
            });
        let failure = result.as_ref().err().map(AuthError::to_string);
        let (user, by) = match &result {
            Ok(account) => (account.name.as_str(), account.by.as_ref().map(|n| n.as_str())),
            Err(_) => (exchange.user(), None),
        };
        let (failure, duration) = (failure.as_deref(), start.elapsed());
        let event = LoginEvent { user, by, mechanism: mechanism.name(), failure, duration };
        self.services.log_login(&self.conn, &event);
        match result {
            Ok(account) => {
                self.services.record(&mut self.conn, account.name.as_str()).await;
                self.may_deliver = true;
                self.answer(235, Enhanced::SECURITY, "logged in");
                Flow::Continue
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn not_base64(&mut self) -> Flow {
        self.answer(501, Enhanced::SYNTAX, "expected base64");
        Flow::Continue
    }

    fn refuse(&mut self, error: &AuthError) -> Flow {
        let (code, enhanced, text) = match error {
            AuthError::Wrong
            | AuthError::Disabled
            | AuthError::Barred(_)
            | AuthError::Binding(_) => (535, Enhanced::BAD_CREDENTIALS, "wrong credentials"),
            AuthError::Denied => (535, Enhanced::BAD_CREDENTIALS, "not a user that may deliver"),
            AuthError::Malformed(_) => (501, Enhanced::SYNTAX, "bad authentication exchange"),
            AuthError::Limited | AuthError::Busy | AuthError::Unavailable(_) => {
                (454, Enhanced::SECURITY, "logins aren't possible now, try again later")
            }
        };
        self.answer(code, enhanced, text);
        self.count_bad_command()
    }
}
