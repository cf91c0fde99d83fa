//! CLOSE (RFC 3501 section 6.4.2) and UNSELECT (RFC 3691).

use engine::Rights;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::expunge;

pub(in super::super) async fn run(session: &mut Session) -> Outcome {
    let Some(selected) = session.selected.take() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    // Without the right to it nothing is expunged, and the client need not know (RFC 4314 section 4).
    if !selected.read_only && selected.rights.contains(Rights::EXPUNGE) {
        let uids = match expunge::deleted(&session.services, &selected, None).await {
            Ok(uids) => uids,
            Err(error) => return Ok(session.failure("expunge messages", &error, "NONEXISTENT")),
        };
        if !uids.is_empty() {
            let work = expunge::removal(session, &selected, uids);
            if let Err(error) = session.working(None, work).await? {
                return Ok(session.failure("expunge messages", &error, "NONEXISTENT"));
            }
        }
    }
    Ok(Reply::ok("Closed"))
}

pub(in super::super) fn unselect(session: &mut Session) -> Outcome {
    session.selected = None;
    Ok(Reply::ok("Unselected"))
}
