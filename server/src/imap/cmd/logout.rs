//! LOGOUT: RFC 3501 section 6.1.3.

use protocol::imap::command::Tag;
use protocol::imap::encode::Status;

use super::super::reply::{End, Outcome, Reply};
use super::super::session::Session;

pub(in super::super) fn run(session: &mut Session, tag: &Tag) -> Outcome {
    session.untagged(Status::Bye, None, "Logging out");
    session.finish(tag, &Reply::ok("Completed"))?;
    Err(End::Logout)
}
