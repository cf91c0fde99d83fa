//! COPY and MOVE with their UID forms: RFC 3501 section 6.4.7, RFC 6851, COPYUID of RFC 4315.

use engine::{Copied, Mailbox};
use protocol::imap::command::Copy;
use protocol::imap::encode::{Code, Status};
use protocol::types::{SequenceSet, Uid};

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) async fn run(session: &mut Session, copy: Copy) -> Outcome {
    let (target, uids) = match prepare(session, &copy).await {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return Ok(Reply::ok("No such messages")),
        Err(reply) => return Ok(reply),
    };
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    match selected.mailbox.copy(&selected.view, uids, &target).await {
        Ok(copied) => Ok(match copy_uid(&copied) {
            Some(code) => Reply::ok("Copied").code(code),
            None => Reply::ok("No such messages"),
        }),
        Err(error) => Ok(session.failure("copy messages", &error, "TRYCREATE")),
    }
}

/// The EXPUNGE lines come from the sync point that follows, after COPYUID as RFC 6851 wants it.
pub(in super::super) async fn run_move(session: &mut Session, copy: Copy) -> Outcome {
    if session.selected.as_ref().is_some_and(|selected| selected.read_only) {
        return Ok(Reply::no("Mailbox is selected read-only").word("CANNOT"));
    }
    let (target, uids) = match prepare(session, &copy).await {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return Ok(Reply::ok("No such messages")),
        Err(reply) => return Ok(reply),
    };
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    match selected.mailbox.move_to(&selected.view, uids, &target).await {
        Ok(moved) => {
            if let Some(code) = copy_uid(&moved) {
                session.untagged(Status::Ok, Some(&code), "Moved");
            }
            Ok(Reply::ok("Moved"))
        }
        Err(error) => Ok(session.failure("move messages", &error, "TRYCREATE")),
    }
}

/// The target, and the UIDs of the set; `None` if the set is empty.
async fn prepare(session: &mut Session, copy: &Copy) -> Result<Option<(Mailbox, Vec<Uid>)>, Reply> {
    let target = session.mailbox(&copy.mailbox, "TRYCREATE").await?;
    let Some(selected) = session.selected.as_ref() else {
        return Err(Reply::bad("Select a mailbox first"));
    };
    let ranges = selected.resolve(&copy.set, copy.uid)?;
    let uids: Vec<Uid> = selected.records(&ranges).map(|(_, record)| record.uid).collect();
    Ok((!uids.is_empty()).then_some((target, uids)))
}

fn copy_uid(copied: &Copied) -> Option<Code> {
    let set = |uids: Vec<u32>| SequenceSet::from_ascending(uids);
    let from: Vec<u32> = copied.pairs.iter().map(|(from, _)| from.0).collect();
    let to: Vec<u32> = copied.pairs.iter().map(|(_, to)| to.0).collect();
    (!from.is_empty()).then(|| Code::CopyUid(copied.uid_validity, set(from), set(to)))
}
