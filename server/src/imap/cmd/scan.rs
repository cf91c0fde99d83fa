//! SCAN, which c-client sends and Cyrus has: a LIST of the mailboxes in which some message has a text.

use engine::{Error, Rights};
use protocol::imap::SearchKey;
use protocol::imap::command::List;

use super::super::reply::{Outcome, Reply};
use super::super::session::Session;
use super::list;

/// Names without a mailbox, and mailboxes that the user may not read, have no such message.
pub(in super::super) async fn run(
    session: &mut Session,
    reference: String,
    pattern: String,
    text: String,
) -> Outcome {
    let asked = List { reference, patterns: vec![pattern], ..List::default() };
    let found = match list::find(session, &asked).await {
        Ok(found) => found,
        Err(reply) => return Ok(reply),
    };
    let (key, collation) = (SearchKey::Text(text), session.features.collation);
    let mut trouble = None;
    for listed in found {
        let readable = listed.mailbox.is_some_and(|mailbox| mailbox.rights.contains(Rights::READ));
        if !readable {
            continue;
        }
        // One that can't be opened (deleted just now) is as if it were not there.
        let opened = session.mailbox(&listed.name, Rights::READ, "NONEXISTENT").await;
        let Ok((_, mailbox)) = opened else { continue };
        let work = async {
            let view = mailbox.refresh().await?;
            let found = mailbox.search(&view, &key, collation).await?;
            Ok::<_, Error>(!found.is_empty())
        };
        match session.working(None, work).await? {
            Ok(true) => session.conn.out.push_vec(listed.line),
            Ok(false) => {}
            Err(error) => {
                trouble.get_or_insert(session.failure("search a mailbox", &error, "NONEXISTENT"));
            }
        }
        session.breathe().await?;
        tokio::task::yield_now().await;
    }
    Ok(trouble.unwrap_or_else(|| Reply::ok("Completed")))
}
