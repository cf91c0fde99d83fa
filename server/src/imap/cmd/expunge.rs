//! EXPUNGE (RFC 3501 section 6.4.3) and UID EXPUNGE (RFC 4315), HIGHESTMODSEQ of RFC 7162 section
//! 3.2.7.

use engine::{Record, Rights};
use protocol::imap::command::SetArgument;
use protocol::imap::encode::Code;
use protocol::types::{SeqNum, SystemFlags, Uid};

use super::super::reply::{Outcome, Reply};
use super::super::selected::{Selected, SeqRanges};
use super::super::session::Session;
use super::super::sync::SyncPoint;
use crate::services::Services;
use crate::trash;

/// With a set, only its messages (UIDs) are removed. The EXPUNGE lines come from the sync point
/// that follows.
pub(in super::super) async fn run(session: &mut Session, set: Option<SetArgument>) -> Outcome {
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    if selected.read_only {
        return Ok(Reply::no("Mailbox is selected read-only").word("CANNOT"));
    }
    if !selected.rights.contains(Rights::EXPUNGE) {
        return Ok(Reply::no_permission());
    }
    let by_uid = set.is_some();
    let ranges = match set.map(|set| selected.resolve(&set, true)).transpose() {
        Ok(ranges) => ranges,
        Err(reply) => return Ok(reply),
    };
    let mut uids = match deleted(&session.services, selected, ranges).await {
        Ok(uids) => uids,
        Err(error) => return Ok(session.failure("expunge messages", &error, "NONEXISTENT")),
    };
    if uids.is_empty() {
        return Ok(Reply::ok("Nothing to expunge"));
    }
    // EXPUNGE itself has no limit (RFC 9738 section 3.2).
    let limit = session.message_limit().filter(|_| by_uid);
    let cut = session.cut_uids(&mut uids, limit);
    let work = removal(session, selected, uids);
    match session.working(None, work).await? {
        Ok(()) => {
            let mut reply = Reply::ok("Expunged");
            if session.features.condstore {
                // With what others did told as well, HIGHESTMODSEQ is that of all the client knows.
                session.sync_point(SyncPoint::Newest).await?;
                let highest = session.selected.as_ref().map(|s| s.view.modseq_highest());
                reply.code = highest.map(Code::HighestModSeq);
            }
            Ok(session.limited(reply, cut))
        }
        Err(error) => Ok(session.failure("expunge messages", &error, "NONEXISTENT")),
    }
}

/// Removes messages of a mailbox that is or was selected, or moves them to the trash.
pub(super) fn removal(
    session: &Session,
    selected: &Selected,
    uids: Vec<Uid>,
) -> impl Future<Output = engine::Result<()>> + use<> {
    let (services, user) = (session.services.clone(), session.user.clone());
    let Selected { mailbox, view, copied, .. } = selected;
    let (mailbox, view, copied) = (mailbox.clone(), view.clone(), copied.clone());
    async move {
        match user {
            Some(user) => trash::expunge(&services, &user, &mailbox, &view, uids, &copied).await,
            // Only users select mailboxes.
            None => Err(engine::Error::MailboxGone),
        }
    }
}

/// UIDs of the messages with `\Deleted`, among `ranges` or all.
pub(super) async fn deleted(
    services: &Services,
    selected: &Selected,
    ranges: Option<SeqRanges>,
) -> engine::Result<Vec<Uid>> {
    let exists = selected.view.exists();
    let all = || if exists > 0 { vec![(SeqNum(1), SeqNum(exists))] } else { vec![] };
    let ranges = ranges.unwrap_or_else(all);
    let is_deleted = |record: &Record| record.flags.contains(SystemFlags::DELETED);
    selected.uids(services.store.helpers(), ranges, Some(is_deleted)).await
}
