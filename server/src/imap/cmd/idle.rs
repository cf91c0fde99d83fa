//! IDLE: RFC 2177.

use std::time::Duration;

use protocol::imap::framing::Event;

use super::super::notify;
use super::super::reply::{End, Outcome, Reply};
use super::super::session::Session;
use super::super::sync::SyncPoint;

/// How often the mailbox is looked at for what no notice tells: foreign changes on filesystems
/// without inotify.
const LOOK_EVERY: Duration = Duration::from_secs(30);

enum Wake {
    Input,
    Changed,
    Heard,
    Tick,
}

pub(in super::super) async fn run(session: &mut Session) -> Outcome {
    session.continuation("idling");
    session.framer.expect_line();
    // Made before the first sync point, so that no change falls between the two.
    let hears = session.selected.as_ref().filter(|_| !session.holds_still());
    let mut watcher = hears.map(|selected| selected.mailbox.watch());
    session.sync_point(SyncPoint::Refreshed).await?;
    let (patience, reason) = session.patience();
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let (used, event) = session.framer.next(session.conn.input());
        let done = match event {
            None => None,
            Some(Event::Line(line)) => Some(line.eq_ignore_ascii_case(b"DONE")),
            Some(_) => Some(false),
        };
        session.conn.consume(used);
        match done {
            Some(true) => return Ok(Reply::ok("Completed")),
            Some(false) => return Ok(Reply::bad("Expected DONE")),
            None => {}
        }
        if session.notices.is_some() {
            Box::pin(session.tell_notices()).await?;
        }
        session.conn.flush().await?;
        session.framer.release();
        let changed = async {
            match watcher.as_mut() {
                Some(watcher) => {
                    watcher.changed().await;
                }
                None => std::future::pending().await,
            }
        };
        let services = &session.services;
        let wake = tokio::select! {
            biased;
            () = services.leaving(session.audience()) => {
                return Err(services.why_leave(&session.audience()).into());
            }
            read = session.conn.fill() => match read? {
                0 => return Err(End::Closed),
                _ => Wake::Input,
            },
            () = changed => Wake::Changed,
            () = notify::heard(&session.notices) => Wake::Heard,
            () = tokio::time::sleep_until(deadline) => return Err(End::Bye(reason)),
            () = tokio::time::sleep(LOOK_EVERY), if session.selected.is_some() => Wake::Tick,
        };
        match wake {
            Wake::Input | Wake::Heard => {}
            Wake::Changed => session.sync_point(SyncPoint::Newest).await?,
            Wake::Tick => session.sync_point(SyncPoint::Refreshed).await?,
        }
    }
}
