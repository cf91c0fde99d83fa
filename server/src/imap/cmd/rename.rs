//! RENAME: RFC 3501 section 6.3.5, OLDNAME of RFC 9051. Needs `x` on the mailbox and `k` above the
//! new name (RFC 4314).
//!
//! As Cyrus's do, administrators name a partition behind the new name (`RENAME user.jo user.jo fast`),
//! and give mailboxes, or all that a user has, to another user: [`super::relocation`].

use engine::{INBOX, Rights, SEPARATOR};
use protocol::imap::encode::{self, ListLine};

use super::super::notify;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::delete::protected;
use super::{create, relocation};

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
    if session.is_copy(&place) {
        return Ok(Reply::no_permission());
    }
    let namespace = place.user.namespace();
    // A name that only has children is the owner's to change; of others it does not exist.
    let only_children = place.own && place.rights.is_none() && namespace.has_children(&place.name);
    let demanded = place.demand(Rights::DELETE_MAILBOX, "NONEXISTENT");
    if let Err(reply) = demanded
        && !only_children
    {
        return Ok(reply);
    }
    let administers =
        |owner: &str| session.viewer().is_ok_and(|viewer| viewer.principal.administers(owner));
    if partition.is_some() && !administers(place.user.name()) {
        return Ok(Reply::no("Administrators choose partitions").word("NOPERM"));
    }
    if let Some(partition) = partition.filter(|_| from == to) {
        return match relocation::to_partition(&place, partition).await {
            Ok(()) => Ok(Reply::ok("Moved to the partition")),
            Err(error) => Ok(session.failure("move a mailbox", &error, "NONEXISTENT")),
        };
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
    let parent = |name: &str| name.rsplit_once(SEPARATOR).map(|(parent, _)| parent.to_owned());
    if parent(&place.name) != parent(&target.name)
        && !administers(place.user.name())
        && protected(session, &place.user, &place.name)
    {
        let text = "A mailbox with this special use stays below the one that it is in";
        return Ok(Reply::no(text).word("CANNOT"));
    }
    let moved = if target.user.name() != place.user.name() {
        if !administers(place.user.name()) || !administers(target.user.name()) {
            return Ok(Reply::no("Administrators give mailboxes to others").word("NOPERM"));
        }
        relocation::to_user(&place, &target, partition).await
    } else {
        let renamed = place.user.rename(&place.name, &target.name).await;
        match (renamed, partition) {
            (Ok(()), Some(partition)) => relocation::to_partition(&target, partition).await,
            (renamed, _) => renamed,
        }
    };
    if let Err(error) = moved {
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
