//! COMPRESS: RFC 4978. Compression within TLS can't be active already: rustls has none.

use protocol::imap::command::Tag;

use super::super::reply::{End, Outcome, Reply};
use super::super::session::Session;

/// Answers itself: what follows the answer is compressed. Bytes that came along with the command
/// end the connection, in [`crate::net::Conn::start_compression`].
pub(in super::super) async fn run(session: &mut Session, tag: &Tag, algorithm: &str) -> Outcome {
    let level = session.services.config().imap.compress_level;
    if level == 0 || algorithm != "DEFLATE" {
        return Ok(Reply::bad("Unknown compression"));
    }
    if session.conn.is_compressed() {
        return Ok(Reply::bad("DEFLATE is active").word("COMPRESSIONACTIVE"));
    }
    session.finish(tag, &Reply::ok("DEFLATE active"))?;
    session.conn.start_compression(level).await.map_err(End::Io)?;
    Ok(Reply::silent())
}
