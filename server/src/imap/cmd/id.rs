//! ID: RFC 2971. What the client says of itself is not used.

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) fn run(session: &mut Session) -> Outcome {
    let line: &str =
        concat!("* ID (\"name\" \"Cursus\" \"version\" \"", env!("CARGO_PKG_VERSION"), "\")\r\n");
    session.conn.out.push(line.as_bytes());
    Ok(Reply::ok("Completed"))
}
