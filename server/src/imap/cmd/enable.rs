//! ENABLE: RFC 5161.

use protocol::imap::encode;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) fn run(session: &mut Session, names: &[String]) -> Outcome {
    let mut enabled = String::new();
    for name in names {
        let feature = match name.as_str() {
            "IMAP4REV2" => &mut session.features.rev2,
            "CONDSTORE" => &mut session.features.condstore,
            _ => continue,
        };
        if !std::mem::replace(feature, true) {
            enabled.push(' ');
            enabled.push_str(if name == "IMAP4REV2" { "IMAP4rev2" } else { name });
        }
    }
    session.conn.out.with_vec(|out| encode::print(out, format_args!("* ENABLED{enabled}\r\n")));
    Ok(Reply::ok("Completed"))
}
