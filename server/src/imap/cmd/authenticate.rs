//! AUTHENTICATE: RFC 3501 section 6.2.2, with the initial response of RFC 4959.

use std::time::Instant;

use auth::{AuthError, Step};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::imap::decode;

use super::super::input::Line;
use super::super::reply::{End, Outcome, Reply};
use super::super::session::Session;
use super::login;
use crate::login::context;

pub(in super::super) async fn run(
    session: &mut Session,
    mechanism: &str,
    initial: Option<Vec<u8>>,
) -> Outcome {
    if !session.conn.may_log_in() {
        return Ok(Reply::no("Start TLS before you log in").word("PRIVACYREQUIRED"));
    }
    let Some(mechanism) = session.services.mechanism(&session.conn, mechanism.as_bytes()) else {
        return Ok(Reply::no("Unknown mechanism").word("CANNOT"));
    };
    let started = Instant::now();
    let context = context(&session.conn, "imap");
    let channel = session.services.channel(&session.conn);
    let mut exchange = session.services.auth.begin(mechanism, context, channel);
    let mut response = initial;
    let checked = loop {
        match exchange.step(response.as_deref()).await {
            Step::Done(account) => break Ok(account),
            Step::Failed(error) => break Err(error),
            Step::Challenge(challenge) => match ask(session, &challenge).await? {
                Ok(bytes) => response = Some(bytes),
                Err(reply) => return Ok(reply),
            },
        }
    };
    let name = exchange.user().to_owned();
    if let Err(AuthError::Malformed(expected)) = checked {
        return Ok(Reply::bad(format!("Expected {expected}")));
    }
    login::admit(session, &name, mechanism.name(), started, checked).await
}

/// One challenge and its response; or the answer to a client that gave up.
async fn ask(session: &mut Session, challenge: &[u8]) -> Result<Result<Vec<u8>, Reply>, End> {
    session.continuation(&STANDARD.encode(challenge));
    session.framer.expect_line();
    Ok(match session.next_line().await? {
        Line::Text(line) if line == b"*" => Err(Reply::bad("Authentication cancelled")),
        Line::Text(line) => decode::base64(&line).ok_or_else(|| Reply::bad("Expected base64")),
        Line::TooLong => Err(Reply::bad("Line too long").word("LIMIT")),
    })
}
