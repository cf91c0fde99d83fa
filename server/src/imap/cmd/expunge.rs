//! EXPUNGE (RFC 3501 section 6.4.3) and UID EXPUNGE (RFC 4315).

use protocol::imap::command::SetArgument;
use protocol::imap::encode::Code;
use protocol::types::{SeqNum, SystemFlags, Uid};

use super::super::reply::{Outcome, Reply};
use super::super::selected::{Selected, SeqRanges};
use super::super::session::Session;

/// Records looked at before other sessions of the core have their turn.
const TURN: u32 = 64 << 10;

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
    let uids = deleted(selected, ranges).await;
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
pub(super) async fn deleted(selected: &Selected, ranges: Option<SeqRanges>) -> Vec<Uid> {
    let all = || vec![(SeqNum(1), SeqNum(selected.view.exists()))];
    let mut uids = Vec::new();
    for (first, last) in ranges.unwrap_or_else(all) {
        let mut from = first.0;
        while from <= last.0 {
            let to = last.0.min(from.saturating_add(TURN - 1));
            let records = selected.view.records(SeqNum(from), SeqNum(to)).map(|(_, r)| r);
            let deleted = records.filter(|r| r.flags.contains(SystemFlags::DELETED));
            uids.extend(deleted.map(|r| r.uid));
            from = to.saturating_add(1);
            if to < last.0 {
                tokio::task::yield_now().await;
            }
        }
    }
    uids
}
