//! SUBSCRIBE and UNSUBSCRIBE: RFC 3501 section 6.3.6 and 6.3.7.

use engine::{Error, Namespace, User};

use super::super::names::Name;
use super::super::notify;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

/// A name may be subscribed that does not exist (yet, or any more). So nobody learns by this what
/// others have.
pub(in super::super) async fn run(session: &mut Session, name: &str, on: bool) -> Outcome {
    let (user, viewer) = match (session.user(), session.viewer()) {
        (Ok(user), Ok(viewer)) => (user, viewer),
        (Err(reply), _) | (_, Err(reply)) => return Ok(reply),
    };
    let name = match viewer.names.parse(name) {
        Some(Name::Own(name)) if viewer.names.is_copy(&name) => {
            return copy(session, user, &name, on).await;
        }
        Some(Name::Own(name)) => name,
        Some(Name::Others { owner, mailbox }) => Namespace::name_of_others(&owner, &mailbox),
        Some(Name::Root) | None => {
            return Ok(Reply::no("No mailbox can have this name here").word("CANNOT"));
        }
    };
    match user.subscribe(&name, on).await {
        Ok(()) => {
            session.forget_own(|event| notify::is_name_event(event, &name));
            Ok(Reply::ok(if on { "Subscribed" } else { "Unsubscribed" }))
        }
        Err(error) => Ok(session.failure("subscribe a mailbox", &error, "NONEXISTENT")),
    }
}

/// As with Courier, what is subscribed of what others share on the filesystem is what the user has
/// copies of: with its subscription goes what was flagged there.
async fn copy(session: &mut Session, user: User, name: &str, on: bool) -> Outcome {
    let done = match on {
        true => user.copy_shared_folder(name).await,
        false => match user.delete(name).await {
            Err(Error::NoSuchMailbox) => Ok(()),
            deleted => deleted,
        },
    };
    if let Err(error) = done {
        return Ok(session.failure("subscribe a shared folder", &error, "NONEXISTENT"));
    }
    if on && !user.namespace().mailboxes.contains_key(name) {
        return Ok(Reply::no("There is no such shared folder").word("NONEXISTENT"));
    }
    session.forget_own(|event| notify::is_name_event(event, name));
    Ok(Reply::ok(if on { "Subscribed" } else { "Unsubscribed" }))
}
