//! RENAME: RFC 3501 section 6.3.5, OLDNAME of RFC 9051.

use protocol::imap::encode::{self, ListLine};

use super::super::notify;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) async fn run(session: &mut Session, from: &str, to: &str) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    let to = to.strip_suffix('/').unwrap_or(to);
    if let Err(error) = user.rename(from, to).await {
        return Ok(session.failure("rename a mailbox", &error, "NONEXISTENT"));
    }
    session.forget_own(|event| notify::is_name_event(event, to));
    // INBOX stays; only its messages went.
    if session.features.rev2 && from != "INBOX" {
        let line = ListLine { name: to, old_name: Some(from), ..ListLine::default() };
        session.conn.out.with_vec(|out| encode::list(out, &line, true));
    }
    Ok(Reply::ok("Renamed"))
}
