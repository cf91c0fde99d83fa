//! UIDBATCHES: RFC 10022. The mailbox's UIDs, cut into ranges that hold so many messages each, from
//! the newest message down; the last range goes down to UID 1.

use protocol::imap::command::{Tag, UidBatches};
use protocol::imap::encode;
use protocol::types::SeqNum;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

/// Fewest messages of a batch that a client may ask for.
const BATCH_MESSAGES_MIN: u32 = 500;

/// Most batches that are told at once.
const BATCHES_MAX: u32 = 10_000;

pub(in super::super) fn run(session: &mut Session, tag: &Tag, asked: UidBatches) -> Outcome {
    let UidBatches { size, wanted } = asked;
    if size < BATCH_MESSAGES_MIN {
        let text = format!("Batches have at least {BATCH_MESSAGES_MIN} messages");
        return Ok(Reply::no(text).word("TOOFEW"));
    }
    let (first, last) = wanted.unwrap_or((1, BATCHES_MAX));
    if first > last {
        return Ok(Reply::bad("The first batch is behind the last").word("CLIENTBUG"));
    }
    if last - first >= BATCHES_MAX {
        return Ok(Reply::no(format!("At most {BATCHES_MAX} batches")).word("TOOMANY"));
    }
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let exists = selected.view.exists();
    let batches = exists.div_ceil(size);
    if wanted.is_none() && batches > BATCHES_MAX {
        return Ok(Reply::no(format!("At most {BATCHES_MAX} batches")).word("TOOMANY"));
    }
    // The UID of the message at which the nth batch ends; a batch begins below the one before.
    let low = |batch: u32| match exists.checked_sub(batch.saturating_mul(size)) {
        None | Some(0) => Some(1),
        Some(before) => selected.view.uid(SeqNum(before + 1)).map(|uid| uid.0),
    };
    let high = |batch: u32| match batch {
        1 => Some(selected.uid_last()),
        _ => low(batch - 1).map(|uid| uid - 1),
    };
    let ranges = (first..=last.min(batches)).filter_map(|batch| Some((high(batch)?, low(batch)?)));
    let ranges: Vec<(u32, u32)> = ranges.collect();
    session.conn.out.with_vec(|out| encode::uid_batches(out, tag, &ranges));
    Ok(Reply::ok("Completed"))
}
