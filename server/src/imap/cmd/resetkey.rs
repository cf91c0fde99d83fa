//! RESETKEY: RFC 4467 section 7.

use protocol::imap::encode::Code;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

/// Makes every URL worthless that was authorised for the mailbox, or for all of them.
pub(in super::super) async fn run(
    session: &mut Session,
    mailbox: Option<String>,
    mechanisms: &[String],
) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    if mechanisms.iter().any(|mechanism| mechanism != "INTERNAL") {
        return Ok(Reply::no("Unknown mechanism"));
    }
    match user.reset_url_keys(mailbox.as_deref()).await {
        Ok(()) => Ok(Reply::ok("Completed").code(Code::UrlMechanism)),
        Err(error) => Ok(session.failure("reset a URL's key", &error, "NONEXISTENT")),
    }
}
