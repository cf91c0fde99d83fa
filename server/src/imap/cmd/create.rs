//! CREATE: RFC 3501 section 6.3.3, USE of RFC 6154, MAILBOXID of RFC 8474.

use engine::SpecialUse;
use protocol::imap::encode::Code;

use super::super::notify;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::status::mailbox_id;

pub(in super::super) async fn run(
    session: &mut Session,
    name: &str,
    special_use: &[String],
) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    let uses: Option<Vec<SpecialUse>> =
        special_use.iter().map(|name| SpecialUse::parse(name)).collect();
    let Some(uses) = uses else {
        return Ok(Reply::no("Unknown special use").word("USEATTR"));
    };
    // A separator at the end only says that children are to come.
    let name = name.strip_suffix('/').unwrap_or(name);
    if name == "INBOX" {
        return Ok(Reply::no("INBOX exists").word("ALREADYEXISTS"));
    }
    match user.create(name, &uses).await {
        Ok(()) => {
            session.forget_own(|event| notify::is_name_event(event, name));
            let reply = Reply::ok("Created");
            // Deleted again in the meantime, it has none.
            Ok(match user.namespace().mailboxes.get(name) {
                Some(entry) => reply.code(Code::MailboxId(mailbox_id(&entry.id))),
                None => reply,
            })
        }
        Err(error) => Ok(session.failure("create a mailbox", &error, "NONEXISTENT")),
    }
}
