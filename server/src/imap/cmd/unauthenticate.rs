//! UNAUTHENTICATE: RFC 8437.

use engine::User;
use protocol::imap::command::Tag;

use super::super::reply::{End, Outcome, Reply};
use super::super::session::Session;

/// Answers itself: compression ends behind the answer, and on the client's side behind the command.
pub(in super::super) async fn run(session: &mut Session, tag: &Tag) -> Outcome {
    if !session.services.config().imap.unauthenticate {
        return Ok(Reply::bad("Unknown command"));
    }
    session.finish(tag, &Reply::ok("Logged out, the connection stays"))?;
    session.conn.end_compression().await.map_err(End::Io)?;
    session.services.log_end(
        &session.conn,
        session.user.as_ref().map(User::name),
        "unauthenticate",
    );
    session.start_over();
    Ok(Reply::silent())
}
