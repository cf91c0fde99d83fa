//! CANCELUPDATE: RFC 5267 section 4.3.5.

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;

/// Ends the updates that searches with these tags asked for.
pub(in super::super) fn run(session: &mut Session, tags: &[String]) -> Outcome {
    let Some(selected) = session.selected.as_mut() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    if !tags.iter().all(|tag| selected.contexts.has(tag)) {
        return Ok(Reply::bad("No updates under that tag"));
    }
    tags.iter().for_each(|tag| selected.contexts.cancel(tag));
    Ok(Reply::ok("No further updates"))
}
