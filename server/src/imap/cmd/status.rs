//! STATUS: RFC 3501 section 6.3.10, SIZE of RFC 8438, DELETED of RFC 9051, HIGHESTMODSEQ of RFC 7162,
//! APPENDLIMIT of RFC 7889, MAILBOXID of RFC 8474, DELETED-STORAGE of RFC 9208.

use engine::{MailboxStatus, Rights, User};
use protocol::imap::command::StatusItem;
use protocol::imap::encode::{self, StatusValue};

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) async fn run(
    session: &mut Session,
    name: &str,
    items: &[StatusItem],
) -> Outcome {
    let place = match session.place_with(name, Rights::READ, "NONEXISTENT").await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    if items.contains(&StatusItem::HighestModSeq) {
        session.enable_condstore();
    }
    let status = async {
        let mut status = place.user.status(&place.name).await?;
        complete(&place.user, &place.name, items, &mut status).await?;
        if items.contains(&StatusItem::Unseen) {
            session.own_unseen(&place, &mut status).await?;
        }
        Ok(status)
    };
    match status.await {
        Ok(status) => {
            write(session, name, items, &status);
            Ok(Reply::ok("Completed"))
        }
        Err(error) => Ok(session.failure("tell a mailbox's status", &error, "NONEXISTENT")),
    }
}

/// Adds what is not known without a look at the messages.
pub(super) async fn complete(
    user: &User,
    name: &str,
    items: &[StatusItem],
    status: &mut MailboxStatus,
) -> engine::Result<()> {
    if items.contains(&StatusItem::DeletedStorage) {
        status.deleted_bytes = Some(user.deleted_bytes(name, status.deleted).await?);
    }
    if items.contains(&StatusItem::MailboxId) {
        status.object_id = Some(user.namespace().object_id(status.id));
    }
    Ok(())
}

/// The STATUS line.
pub(in super::super) fn write(
    session: &mut Session,
    name: &str,
    items: &[StatusItem],
    status: &MailboxStatus,
) {
    let append_limit = session.services.config().limits.message_bytes_max;
    let number = |item: StatusItem| match item {
        StatusItem::Messages => u64::from(status.messages),
        StatusItem::Recent => u64::from(status.recent),
        StatusItem::UidNext => u64::from(status.uid_next.0),
        StatusItem::UidValidity => u64::from(status.uid_validity.0),
        StatusItem::Unseen => u64::from(status.unseen),
        StatusItem::Deleted => u64::from(status.deleted),
        StatusItem::DeletedStorage => status.deleted_bytes.unwrap_or(0),
        StatusItem::Size => status.bytes,
        StatusItem::HighestModSeq => status.modseq_highest.0,
        StatusItem::AppendLimit => append_limit,
        StatusItem::MailboxId => 0,
    };
    let value = |item: StatusItem| match item {
        StatusItem::MailboxId => StatusValue::Id(status.object_id.clone().unwrap_or_default()),
        _ => StatusValue::Number(number(item)),
    };
    let utf8 = session.features.utf8();
    let values = items.iter().map(|&item| (item, value(item)));
    session.conn.out.with_vec(|out| encode::mailbox_status(out, name, values, utf8));
}
