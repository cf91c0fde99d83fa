//! NOTIFY: RFC 5465.

use protocol::imap::command::Notify;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

/// The sync point that follows tells what came together in the selected mailbox.
pub(in super::super) async fn run(session: &mut Session, notify: Notify) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    match notify {
        Notify::None => session.notify_none(&user),
        Notify::Set { status, groups } => {
            if let Err(reply) = session.notify_set(&user, groups, status).await? {
                return Ok(reply);
            }
        }
    }
    Ok(Reply::ok("Completed"))
}
