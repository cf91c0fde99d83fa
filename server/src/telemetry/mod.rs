//! Transcripts of sessions, as Cyrus has them: whatever a user and the server say to each other after
//! the login is in a file of `telemetry.dir`'s directory `USER`, where the operator has made that.
//!
//! | module | says |
//! |---|---|
//! | [`Transcript`] (`transcript`) | one session's: what is recorded, and what is left out |
//! | `writer` | the thread that has the files |
//!
//! Invariants: sessions never wait for a file, but at their login, and then for
//! [`OPEN_PATIENCE`] at most; a file that cannot be written ends its transcript and nothing else; what
//! is in memory for the writer has a bound; passwords are in no file.

mod transcript;
mod writer;

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use config::Protocol;

use crate::net::{Conn, SessionId};
use crate::services::Services;
pub(crate) use transcript::Transcript;
use writer::Writer;

/// How long a login waits for its file. A directory on another host may hang.
const OPEN_PATIENCE: Duration = Duration::from_millis(500);

/// How long a stop waits for what is not written yet.
const FINISH_PATIENCE: Duration = Duration::from_secs(1);

/// The user of LMTP clients that need no login, as Cyrus calls them.
pub(crate) const POSTMAN: &str = "postman";

/// All transcripts of the process.
#[derive(Default)]
pub(crate) struct Telemetry {
    /// Started with the first login that could have one; `None` if the system has no thread.
    writer: OnceLock<Option<Writer>>,
}

impl Telemetry {
    /// Begins a transcript, if the user's directory is there.
    async fn begin(
        &self,
        (dir, bytes_max): (&Path, u64),
        user: &str,
        (protocol, id): (Protocol, SessionId),
    ) -> Option<Transcript> {
        let writer = self.writer.get_or_init(Writer::start).as_ref()?;
        let path = dir.join(user).join(format!("{protocol}-{id}"));
        let sheet = writer.open(path, user, bytes_max, OPEN_PATIENCE).await?;
        Some(Transcript::new(protocol, sheet))
    }

    /// Has what sessions said up to their end written. Blocks.
    pub(crate) fn finish(&self) {
        if let Some(Some(writer)) = self.writer.get() {
            writer.finish(FINISH_PATIENCE);
        }
    }
}

impl Services {
    /// Whether the operator may want to record anybody.
    pub(crate) fn may_record(&self) -> bool {
        !self.config().telemetry.dir.as_os_str().is_empty()
    }

    /// Records the session from here on, if the operator wants that of this user. Behind each login.
    pub(crate) async fn record(&self, conn: &mut Conn, user: &str) {
        if !self.may_record() {
            return;
        }
        let config = self.config();
        let set = &config.telemetry;
        // A user's name is one component of a path: auth::UserName.
        let (place, who) = ((&*set.dir, set.file_bytes_max), (conn.protocol(), conn.id()));
        let begun = self.shared().telemetry.begin(place, user, who).await;
        conn.set_transcript(begun);
    }
}
