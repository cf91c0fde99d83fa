//! LOGIN: RFC 3501 section 6.2.3; and what every kind of login ends with.

use std::time::Instant;

use auth::{Account, AuthError, Context, Origin};
use protocol::imap::encode::Code;

use super::super::capability::words;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use crate::services::LoginEvent;

pub(in super::super) async fn run(session: &mut Session, user: &str, password: &[u8]) -> Outcome {
    if !session.conn.may_log_in() {
        return Ok(Reply::no("Start TLS before you log in").word("PRIVACYREQUIRED"));
    }
    let started = Instant::now();
    let context = context(session);
    let checked = session.services.auth.plain(user, password, context).await;
    admit(session, user, "LOGIN", started, checked).await
}

/// Who is asking, for the authenticator.
pub(super) fn context(session: &Session) -> Context {
    let origin = session.conn.peer().ip().map_or(Origin::Local, Origin::from);
    Context { origin, service: "imap" }
}

/// Opens the user's mailboxes after a good login; counts a bad one. Logs both.
pub(super) async fn admit(
    session: &mut Session,
    name: &str,
    mechanism: &str,
    started: Instant,
    checked: Result<Account, AuthError>,
) -> Outcome {
    let log = |session: &Session, user: &str, failure: Option<&str>| {
        let duration = started.elapsed();
        let event = LoginEvent { user, mechanism, failure, duration };
        session.services.log_login(&session.conn, &event);
    };
    let account = match checked {
        Ok(account) => account,
        Err(error) => {
            log(session, name, Some(&error.to_string()));
            return Ok(refuse(session, &error));
        }
    };
    match session.services.open_user(&account).await {
        Ok(user) => {
            log(session, account.name.as_str(), None);
            session.log_in(user);
            let code = Code::Capability(words(&session.conn, true, &session.services.config()));
            Ok(Reply::ok("Logged in").code(code))
        }
        Err(error) => {
            log(session, account.name.as_str(), Some("mailboxes can't be opened"));
            Ok(session.failure("open a user's mailboxes", &error, "UNAVAILABLE"))
        }
    }
}

fn refuse(session: &mut Session, error: &AuthError) -> Reply {
    session.login_failures += 1;
    if session.login_failures >= session.services.config().limits.login_failures_max {
        session.last_words = Some("Too many failed logins");
    }
    match error {
        AuthError::Wrong => Reply::no("Wrong user name or password").word("AUTHENTICATIONFAILED"),
        AuthError::Disabled => Reply::no("Account is disabled").word("AUTHORIZATIONFAILED"),
        AuthError::Busy => Reply::no("Too many logins are waiting").word("UNAVAILABLE"),
        AuthError::Limited => Reply::no("Too many failed logins").word("LIMIT"),
        AuthError::Unavailable(_) => {
            Reply::no("Logins are not possible at the moment").word("UNAVAILABLE")
        }
        AuthError::Malformed(_) => Reply::bad(error.to_string()),
    }
}
