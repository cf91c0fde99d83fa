//! NAMESPACE: RFC 2342. There is the personal one.

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) fn run(session: &mut Session) -> Outcome {
    session.conn.out.push(b"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
    Ok(Reply::ok("Completed"))
}
