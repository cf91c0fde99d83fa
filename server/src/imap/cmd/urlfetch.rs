//! URLFETCH: RFC 4467 section 7, with the items of RFC 5524.

use protocol::imap::command::UrlFetch;
use protocol::imap::encode;

use super::super::fetch::write_url;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::super::url::{NotFollowed, authorised};

/// Answers each URL in a line of its own: NIL for those that name nothing, and for those that this
/// user may not follow, without a difference.
pub(in super::super) async fn run(session: &mut Session, urls: Vec<UrlFetch>) -> Outcome {
    for UrlFetch { url: text, items } in urls {
        session.conn.out.with_vec(|out| {
            out.extend_from_slice(b"* URLFETCH ");
            encode::string(out, text.as_bytes(), false);
        });
        let written = match authorised(session, &text).await {
            Ok((url, mailbox, view)) => {
                write_url(session, (&mailbox, &view), &url, items.as_deref()).await?
            }
            Err(NotFollowed::BadUrl) => false,
            Err(NotFollowed::Store(error)) => {
                let _ = session.failure("follow a URL", &error, "NONEXISTENT");
                false
            }
        };
        session.conn.out.push(if written { b"\r\n" } else { b" NIL\r\n" });
        session.breathe().await?;
    }
    Ok(Reply::ok("Completed"))
}
