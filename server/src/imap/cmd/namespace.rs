//! NAMESPACE: RFC 2342.

use protocol::imap::encode;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) fn run(session: &mut Session) -> Outcome {
    let viewer = match session.viewer() {
        Ok(viewer) => viewer,
        Err(reply) => return Ok(reply),
    };
    let separator = viewer.names.separator();
    let mut line = b"* NAMESPACE".to_vec();
    for prefix in viewer.names.prefixes() {
        line.push(b' ');
        match prefix {
            Some(prefix) => {
                line.extend_from_slice(b"((");
                let mut name = Vec::new();
                encode::mailbox(&mut name, &prefix, session.features.utf8());
                // A string always, as the grammar has it.
                if !name.starts_with(b"\"") && !name.starts_with(b"{") {
                    name.insert(0, b'"');
                    name.push(b'"');
                }
                line.extend_from_slice(&name);
                encode::print(&mut line, format_args!(" \"{separator}\"))"));
            }
            None => line.extend_from_slice(b"NIL"),
        }
    }
    line.extend_from_slice(b"\r\n");
    session.conn.out.push_vec(line);
    Ok(Reply::ok("Completed"))
}
