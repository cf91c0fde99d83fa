//! CAPABILITY: RFC 3501 section 6.1.1.

use protocol::imap::encode;

use super::super::capability::words;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) fn run(session: &mut Session) -> Outcome {
    let words = words(&session.conn, session.viewer.as_deref(), &session.services);
    session.conn.out.with_vec(|out| encode::print(out, format_args!("* CAPABILITY {words}\r\n")));
    Ok(Reply::ok("Completed"))
}
