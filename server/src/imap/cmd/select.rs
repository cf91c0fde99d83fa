//! SELECT and EXAMINE: RFC 3501 section 6.3.1 and 6.3.2, RFC 9051, RFC 7162 section 3.1,
//! RFC 8474 section 4.2.

use protocol::imap::encode::{self, Code, ListLine, Status};
use protocol::types::SeqNum;

use super::super::reply::{Outcome, Reply};
use super::super::selected::Selected;
use super::super::session::Session;
use super::status::mailbox_id;

pub(in super::super) async fn run(
    session: &mut Session,
    name: &str,
    read_only: bool,
    condstore: bool,
) -> Outcome {
    // Even a SELECT that fails ends the selection before it.
    if session.selected.take().is_some() && (session.features.rev2 || session.features.condstore) {
        session.untagged(Status::Ok, Some(&Code::Word("CLOSED")), "Previous mailbox closed");
    }
    session.features.condstore |= condstore;
    let mailbox = match session.mailbox(name, "NONEXISTENT").await {
        Ok(mailbox) => mailbox,
        Err(reply) => return Ok(reply),
    };
    let view = match mailbox.refresh().await {
        Ok(view) => view,
        Err(error) => return Ok(session.failure("refresh a mailbox", &error, "NONEXISTENT")),
    };
    let selected = Box::new(Selected::new(mailbox, view, read_only));
    let rev2 = session.features.rev2;
    // RFC 9051 does without.
    let unseen = match rev2 {
        true => Ok(None),
        false => selected.mailbox.first_unseen(&selected.view).await,
    };
    let unseen = match unseen {
        Ok(unseen) => unseen,
        Err(error) => return Ok(session.failure("look through a mailbox", &error, "NONEXISTENT")),
    };
    session.conn.out.with_vec(|out| write_state(out, &selected, name, rev2, unseen));
    session.selected = Some(selected);
    Ok(Reply::ok("Selected").word(if read_only { "READ-ONLY" } else { "READ-WRITE" }))
}

fn write_state(
    out: &mut Vec<u8>,
    selected: &Selected,
    name: &str,
    rev2: bool,
    unseen: Option<SeqNum>,
) {
    let view = &selected.view;
    selected.write_flag_names(out);
    encode::print(out, format_args!("* {} EXISTS\r\n", view.exists()));
    let ok = |out: &mut Vec<u8>, code: Code, text: &str| {
        encode::status(out, None, Status::Ok, Some(&code), text);
    };
    if rev2 {
        let line = ListLine { name, ..ListLine::default() };
        encode::list(out, &line, true);
    } else {
        encode::print(out, format_args!("* {} RECENT\r\n", selected.recent_count()));
        if let Some(first) = unseen {
            ok(out, Code::Unseen(first.0), "First unseen");
        }
    }
    ok(out, Code::UidValidity(view.uid_validity()), "UIDs valid");
    ok(out, Code::UidNext(view.uid_next()), "Predicted next UID");
    ok(out, Code::HighestModSeq(view.modseq_highest()), "Highest");
    ok(out, Code::MailboxId(mailbox_id(&selected.mailbox.id())), "Mailbox id");
}
