//! EXPUNGE (RFC 3501 section 6.4.3) and UID EXPUNGE (RFC 4315).

use protocol::imap::command::SetArgument;
use protocol::imap::encode::Code;
use protocol::types::{SystemFlags, Uid};

use super::super::reply::{Outcome, Reply};
use super::super::selected::{Selected, SeqRanges};
use super::super::session::Session;

/// With a set, only its messages (UIDs) are removed. The EXPUNGE lines come from the sync point
/// that follows.
pub(in super::super) async fn run(session: &mut Session, set: Option<SetArgument>) -> Outcome {
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    if selected.read_only {
        return Ok(Reply::no("Mailbox is selected read-only").word("CANNOT"));
    }
    let ranges = match set.map(|set| selected.resolve(&set, true)).transpose() {
        Ok(ranges) => ranges,
        Err(reply) => return Ok(reply),
    };
    let uids = deleted(selected, ranges);
    if uids.is_empty() {
        return Ok(Reply::ok("Nothing to expunge"));
    }
    match selected.mailbox.expunge(&selected.view, uids).await {
        Ok(modseq) => {
            let reply = Reply::ok("Expunged");
            let condstore = session.features.condstore;
            Ok(if condstore { reply.code(Code::HighestModSeq(modseq)) } else { reply })
        }
        Err(error) => Ok(session.failure("expunge messages", &error, "NONEXISTENT")),
    }
}

/// UIDs of the messages with `\Deleted`, among `ranges` or all.
pub(super) fn deleted(selected: &Selected, ranges: Option<SeqRanges>) -> Vec<Uid> {
    let is_deleted = |flags: SystemFlags| flags.contains(SystemFlags::DELETED);
    match ranges {
        Some(ranges) => {
            let records = selected.records(&ranges).map(|(_, record)| record);
            records.filter(|record| is_deleted(record.flags)).map(|record| record.uid).collect()
        }
        None => {
            let records = selected.view.all().map(|(_, record)| record);
            records.filter(|record| is_deleted(record.flags)).map(|record| record.uid).collect()
        }
    }
}
