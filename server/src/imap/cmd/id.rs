//! ID: RFC 2971. What the client says of itself goes to the log, and nowhere else.

use engine::User;
use protocol::imap::encode;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) fn run(session: &mut Session, pairs: &[(String, Option<String>)]) -> Outcome {
    // Once a login: a client must not fill the log.
    if !pairs.is_empty() && !std::mem::replace(&mut session.has_said_id, true) {
        session.services.log_id(&session.conn, session.user.as_ref().map(User::name), pairs);
    }
    let (config, utf8) = (session.services.config(), session.features.utf8());
    let told = config.imap.id.pairs().into_iter().filter(|(_, value)| !value.is_empty());
    session.conn.out.with_vec(|out| encode::id(out, told, utf8));
    Ok(Reply::ok("Completed"))
}
