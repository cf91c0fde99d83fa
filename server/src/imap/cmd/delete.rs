//! DELETE: RFC 3501 section 6.3.4. Needs `x` (RFC 4314).
//!
//! An administrator who deletes a user's INBOX, as Cyrus's do (`DELETE user.jo`), deletes all that the
//! user has here. Where the account stays, the next login or message begins anew.

use engine::{INBOX, Rights, User};

use super::super::notify;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

pub(in super::super) async fn run(session: &mut Session, name: &str) -> Outcome {
    let place = match session.place(name, "NONEXISTENT").await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    let (user, name) = (&place.user, place.name.as_str());
    if place.rights.is_none() && user.namespace().has_children(name) && place.own {
        return Ok(Reply::no("Only its children exist").word("HASCHILDREN"));
    }
    // Of what others share on the filesystem only the copy goes, as its subscription.
    let needed = if session.is_copy(&place) { Rights::LOOKUP } else { Rights::DELETE_MAILBOX };
    if let Err(reply) = place.demand(needed, "NONEXISTENT") {
        return Ok(reply);
    }
    let administers =
        session.viewer().is_ok_and(|viewer| viewer.principal.administers(user.name()));
    if !administers && protected(session, &place.user, name) {
        return Ok(Reply::no("A mailbox with this special use stays").word("CANNOT"));
    }
    let deleted = match name {
        INBOX if !place.own && administers => user.remove().await,
        _ => user.delete(name).await,
    };
    if let Err(error) = deleted {
        return Ok(session.failure("delete a mailbox", &error, "NONEXISTENT"));
    }
    session.forget_own(|event| notify::is_name_event(event, name));
    // A client that deletes what it has selected wants to be out of it.
    if session.selected.as_ref().is_some_and(|selected| selected.mailbox.is_gone()) {
        session.selected = None;
    }
    Ok(Reply::ok("Deleted"))
}

/// Whether users may neither delete the mailbox nor move it below another one.
pub(super) fn protected(session: &Session, user: &User, name: &str) -> bool {
    let config = session.services.config();
    let kept = &config.imap.protected_special_uses;
    let namespace = user.namespace();
    let uses = namespace.mailboxes.get(name).map(|entry| entry.special_use.as_slice());
    let is_kept = |use_: &str| kept.iter().any(|one| one.eq_ignore_ascii_case(use_));
    uses.unwrap_or_default().iter().any(|use_| is_kept(use_.as_str()))
}
