//! SUBSCRIBE and UNSUBSCRIBE: RFC 3501 section 6.3.6 and 6.3.7.

use super::super::notify;
use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

/// A name may be subscribed that does not exist (yet, or any more).
pub(in super::super) async fn run(session: &mut Session, name: &str, on: bool) -> Outcome {
    let user = match session.user() {
        Ok(user) => user,
        Err(reply) => return Ok(reply),
    };
    match user.subscribe(name, on).await {
        Ok(()) => {
            session.forget_own(|event| notify::is_name_event(event, name));
            Ok(Reply::ok(if on { "Subscribed" } else { "Unsubscribed" }))
        }
        Err(error) => Ok(session.failure("subscribe a mailbox", &error, "NONEXISTENT")),
    }
}
