//! NAMESPACE: RFC 2342, with TRANSLATION of RFC 5255 section 3.4.

use std::borrow::Cow;

use protocol::imap::{encode, mutf7};

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) fn run(session: &mut Session) -> Outcome {
    match line(session) {
        Ok(line) => {
            session.conn.out.push_vec(line);
            Ok(Reply::ok("Completed"))
        }
        Err(reply) => Ok(reply),
    }
}

/// The untagged answer: each prefix with the separator, and with what it is called in the session's
/// language where that is something else.
///
/// # Errors
/// The refusal where nobody is logged in.
pub(super) fn line(session: &Session) -> Result<Vec<u8>, Reply> {
    let viewer = session.viewer()?;
    let separator = viewer.names.separator();
    let mut line = b"* NAMESPACE".to_vec();
    let [own, users, shared] = viewer.names.prefixes();
    let kinds = [(own, None), (users, None), (shared, viewer.names.copies_prefix())];
    for (first, second) in kinds {
        line.push(b' ');
        if first.is_none() && second.is_none() {
            line.extend_from_slice(b"NIL");
            continue;
        }
        line.push(b'(');
        for prefix in first.into_iter().chain(second) {
            write(&mut line, session, &prefix, separator);
        }
        line.push(b')');
    }
    line.extend_from_slice(b"\r\n");
    Ok(line)
}

fn write(line: &mut Vec<u8>, session: &Session, prefix: &str, separator: char) {
    line.push(b'(');
    let mut name = Vec::new();
    encode::mailbox(&mut name, prefix, session.features.utf8());
    // A string always, as the grammar has it.
    if !name.starts_with(b"\"") && !name.starts_with(b"{") {
        name.insert(0, b'"');
        name.push(b'"');
    }
    line.extend_from_slice(&name);
    encode::print(line, format_args!(" \"{separator}\""));
    let words = prefix.trim_end_matches(separator);
    if let Cow::Borrowed(said) = session.language.say(words)
        && said != words
    {
        // In modified UTF-7 whatever was enabled: there is no other form of it.
        let said = mutf7::encode(&format!("{said}{separator}"));
        encode::print(line, format_args!(" \"TRANSLATION\" (\"{said}\")"));
    }
    line.push(b')');
}
