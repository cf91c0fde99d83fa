//! DELETE: RFC 3501 section 6.3.4.

use super::super::notify;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) async fn run(session: &mut Session, name: &str) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    if let Err(error) = user.delete(name).await {
        if matches!(error, engine::Error::NoSuchMailbox) && user.namespace().has_children(name) {
            return Ok(Reply::no("Only its children exist").word("HASCHILDREN"));
        }
        return Ok(session.failure("delete a mailbox", &error, "NONEXISTENT"));
    }
    session.forget_own(|event| notify::is_name_event(event, name));
    // A client that deletes what it has selected wants to be out of it.
    if session.selected.as_ref().is_some_and(|selected| selected.mailbox.is_gone()) {
        session.selected = None;
    }
    Ok(Reply::ok("Deleted"))
}
