//! RENAME: RFC 3501 section 6.3.5, OLDNAME of RFC 9051. Needs `x` on the mailbox and `k` above the
//! new name (RFC 4314).
//!
//! A mailbox stays its owner's: nothing is renamed into another user's mailboxes. Cyrus's
//! administrators name a partition behind the new name; a mailbox stays on its own.

use engine::{INBOX, Rights};
use protocol::imap::encode::{self, ListLine};

use super::super::notify;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::create;

pub(in super::super) async fn run(
    session: &mut Session,
    from: String,
    to: String,
    partition: Option<String>,
) -> Outcome {
    let (from, to, partition) = (from.as_str(), to.as_str(), partition.as_deref());
    let place = match session.place(from, "NONEXISTENT").await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    let namespace = place.user.namespace();
    // A name that only has children is the owner's to change; of others it does not exist.
    let only_children = place.own && place.rights.is_none() && namespace.has_children(&place.name);
    let demanded = place.demand(Rights::DELETE_MAILBOX, "NONEXISTENT");
    if let Err(reply) = demanded
        && !only_children
    {
        return Ok(reply);
    }
    if let Some(partition) = partition {
        let there = namespace.mailboxes.get(&place.name).map(|entry| entry.partition.as_str());
        if there != Some(partition) {
            return Ok(Reply::no("Mailboxes stay on their partition").word("CANNOT"));
        }
        if from == to {
            return Ok(Reply::ok("It is there"));
        }
    }
    // What lies below comes along, so it may have to be this user's to move, too.
    let viewer = match session.viewer() {
        Ok(viewer) => viewer,
        Err(reply) => return Ok(reply),
    };
    let may_move = |id| viewer.rights(place.user.name(), &namespace, id);
    let held = namespace.below(&place.name).any(|(_, entry)| {
        place.name != INBOX && !may_move(entry.id).contains(Rights::DELETE_MAILBOX)
    });
    if held {
        return Ok(Reply::no("A mailbox below may not be moved").word("NOPERM"));
    }
    let target = match create::target(session, to).await {
        Ok(target) => target.place,
        Err(reply) => return Ok(reply),
    };
    if target.user.name() != place.user.name() {
        return Ok(Reply::no("A mailbox stays its owner's").word("CANNOT"));
    }
    if let Err(error) = place.user.rename(&place.name, &target.name).await {
        return Ok(session.failure("rename a mailbox", &error, "NONEXISTENT"));
    }
    session.forget_own(|event| notify::is_name_event(event, &target.name));
    // INBOX stays; only its messages went.
    if session.features.rev2 && place.name != INBOX {
        let separator = session.viewer().ok().map(|viewer| viewer.names.separator());
        let to = separator.and_then(|separator| to.strip_suffix(separator)).unwrap_or(to);
        let old_name = Some(from);
        let line = ListLine { name: to, old_name, separator, ..ListLine::default() };
        session.conn.out.with_vec(|out| encode::list(out, &line, true));
    }
    Ok(Reply::ok("Renamed"))
}
