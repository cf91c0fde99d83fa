//! SUBSCRIBE and UNSUBSCRIBE: RFC 3501 section 6.3.6 and 6.3.7.

use engine::Namespace;

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
