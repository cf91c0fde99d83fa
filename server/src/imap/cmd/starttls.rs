//! STARTTLS: RFC 3501 section 6.2.1.

use protocol::imap::command::Tag;

use super::super::reply::{End, Outcome, Reply};
use super::super::session::Session;

/// Answers itself: what follows the answer is a handshake. Bytes that came along with the command
/// end the connection, in [`crate::net::Conn::start_tls`]: a forged command could hide there.
pub(in super::super) async fn run(session: &mut Session, tag: &Tag) -> Outcome {
    if !session.conn.may_start_tls() {
        return Ok(Reply::bad("TLS is not to be had here"));
    }
    session.finish(tag, &Reply::ok("Begin TLS"))?;
    session.conn.start_tls().await.map_err(End::Io)?;
    session.start_over();
    Ok(Reply::silent())
}
