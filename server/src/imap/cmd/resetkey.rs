//! RESETKEY: RFC 4467 section 7.

use protocol::imap::encode::Code;

use super::super::names::Name;
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
    let name = match (&mailbox, session.viewer()) {
        (None, _) => None,
        (Some(mailbox), Ok(viewer)) => match viewer.names.parse(mailbox) {
            Some(Name::Own(name)) => Some(name),
            _ => return Ok(Reply::no("No such mailbox").word("NONEXISTENT")),
        },
        (Some(_), Err(reply)) => return Ok(reply),
    };
    match user.reset_url_keys(name.as_deref()).await {
        Ok(()) => Ok(Reply::ok("Completed").code(Code::UrlMechanism)),
        Err(error) => Ok(session.failure("reset a URL's key", &error, "NONEXISTENT")),
    }
}
