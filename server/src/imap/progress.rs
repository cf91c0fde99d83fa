//! Telling clients that a long command goes on: INPROGRESS of RFC 9585.
//!
//! Work that the engine does for a session is awaited here. What is told does not disturb the work,
//! and ends it no earlier than the client's leaving would.

use std::time::Duration;

use protocol::imap::encode::{Code, Status};

use super::reply::End;
use super::session::Session;

/// Time from the beginning of some work, or from the last notice, to the next: RFC 9585 section 4
/// wants none more often.
const NOTICE_EVERY: Duration = Duration::from_secs(10);

impl Session {
    /// Awaits a piece of a long command's work. `done` of `total` messages are behind it, if they
    /// are counted.
    pub(super) async fn working<T>(
        &mut self,
        counted: Option<(u64, u64)>,
        work: impl Future<Output = T>,
    ) -> Result<T, End> {
        let tell = async || {
            let code = Code::InProgress(self.tag.clone(), counted);
            self.untagged(Status::Ok, Some(&code), "Still working");
            self.conn.flush_now().await.map_err(End::from)
        };
        told_every(NOTICE_EVERY, work, tell).await
    }
}

/// Awaits `work`, and calls `tell` each time that `every` has passed.
async fn told_every<T>(
    every: Duration,
    work: impl Future<Output = T>,
    mut tell: impl AsyncFnMut() -> Result<(), End>,
) -> Result<T, End> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            out = &mut work => return Ok(out),
            () = tokio::time::sleep(every) => tell().await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn notices_come_until_the_work_is_done() {
        let (tell_enough, enough) = tokio::sync::oneshot::channel();
        let mut tell_enough = Some(tell_enough);
        let mut notices = 0;
        let tell = async || {
            notices += 1;
            if notices == 3 {
                let _ = tell_enough.take().map(|enough| enough.send(7));
            }
            Ok(())
        };
        let out = told_every(Duration::from_millis(1), enough, tell).await;
        assert!(matches!(out, Ok(Ok(7))) && notices >= 3, "{notices}");
        let tell = async || Err(End::Closed);
        let never = std::future::pending::<()>();
        let out = told_every(Duration::from_millis(1), never, tell).await;
        assert!(matches!(out, Err(End::Closed)));
        let tell = async || unreachable!("the work was done at once");
        assert!(matches!(told_every(Duration::ZERO, async { 3 }, tell).await, Ok(3)));
    }
}
