//! LOGIN: RFC 3501 section 6.2.3; and what every kind of login ends with.

use std::time::Instant;

use auth::{Account, AuthError};
use protocol::imap::encode::Code;
use protocol::imap::url::home_of;

use super::super::capability::words;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use crate::login::context;
use crate::services::LoginEvent;

pub(in super::super) async fn run(session: &mut Session, user: &str, password: &[u8]) -> Outcome {
    if !session.conn.may_log_in() {
        return Ok(Reply::no("Start TLS before you log in").word("PRIVACYREQUIRED"));
    }
    if !session.services.takes_passwords() {
        return Ok(Reply::no("Passwords in clear are not taken here").word("CANNOT"));
    }
    let started = Instant::now();
    let context = context(&session.conn, "imap");
    let checked = session.services.auth.plain(user, password, &context).await;
    admit(session, user, "LOGIN", started, checked).await
}

/// Opens the user's mailboxes after a good login; counts a bad one. Logs both.
pub(super) async fn admit(
    session: &mut Session,
    name: &str,
    mechanism: &str,
    started: Instant,
    checked: Result<Account, AuthError>,
) -> Outcome {
    let by = checked.as_ref().ok().and_then(|a| a.by.clone());
    let log = |session: &Session, user: &str, failure: Option<&str>| {
        let (by, duration) = (by.as_ref().map(|n| n.as_str()), started.elapsed());
        let event = LoginEvent { user, by, mechanism, failure, duration };
        session.services.log_login(&session.conn, &event);
    };
    let account = match checked {
        Ok(account) => account,
        Err(error) => {
            log(session, name, Some(&error.to_string()));
            return Ok(refuse(session, &error));
        }
    };
    let elsewhere = account.attributes.host.as_deref();
    let elsewhere =
        elsewhere.filter(|host| !host.eq_ignore_ascii_case(session.services.hostname()));
    if let Some(host) = elsewhere {
        // Only now: nobody else has to know where the user is (RFC 2221 section 6).
        log(session, account.name.as_str(), Some("referred to the user's server"));
        let code = Code::Referral(home_of(account.name.as_str(), host));
        return Ok(Reply::no("Your mail is on another server").code(code));
    }
    match session.services.open_user(&account).await {
        Ok(user) => {
            log(session, account.name.as_str(), None);
            session.log_in(user, &account);
            session.services.record(&mut session.conn, account.name.as_str()).await;
            let code = Code::Capability(words(
                &session.conn,
                session.viewer.as_deref(),
                &session.services,
            ));
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
        AuthError::Binding(_) => Reply::no(error.to_string()).word("AUTHENTICATIONFAILED"),
        AuthError::Denied => {
            Reply::no("Not allowed to act as that user").word("AUTHORIZATIONFAILED")
        }
        AuthError::Disabled => Reply::no("Account is disabled").word("AUTHORIZATIONFAILED"),
        AuthError::Barred(told) => Reply::no(told.clone()).word("AUTHORIZATIONFAILED"),
        AuthError::Busy => Reply::no("Too many logins are waiting").word("UNAVAILABLE"),
        AuthError::Limited => Reply::no("Too many failed logins").word("LIMIT"),
        AuthError::Unavailable(_) => {
            Reply::no("Logins are not possible at the moment").word("UNAVAILABLE")
        }
        AuthError::Malformed(_) => Reply::bad(error.to_string()),
    }
}
