//! ENABLE: RFC 5161. Names that are unknown, or can't be enabled, are passed over.

use protocol::imap::encode;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) fn run(session: &mut Session, names: &[String]) -> Outcome {
    let mut enabled = String::new();
    for name in names {
        if name == "METADATA" {
            session.enable_metadata();
            enabled.push_str(" METADATA");
            continue;
        }
        if matches!(name.as_str(), "CONDSTORE" | "QRESYNC") && !session.features.condstore {
            session.enable_condstore();
            // QRESYNC brings it along (RFC 7162 section 3.2.3).
            enabled.push_str(" CONDSTORE");
        }
        let feature = match name.as_str() {
            "IMAP4REV2" => &mut session.features.rev2,
            "QRESYNC" => &mut session.features.qresync,
            "UIDONLY" => &mut session.features.uid_only,
            "UTF8=ACCEPT" => &mut session.features.utf8_accept,
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
