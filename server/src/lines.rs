//! Command lines of POP3 and LMTP, from a connection.
//!
//! Waiting holds no buffer and ends when the client leaves, is silent for too long, or the server
//! stops. Answers are sent before each wait, so a pipeline's answers go out together.

use std::io;

use engine::User;
use protocol::line::{Framed, LineFramer};
use tokio::time::Instant;

use crate::net::Conn;
use crate::services::Services;
use crate::word::{Audience, Leave};

/// What [`LineReader::next`] got.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A line, without its line end.
    Line(Vec<u8>),
    /// A line over the limit; it was dropped.
    TooLong,
    /// Nothing more comes.
    End(End),
}

/// Why nothing more comes.
#[derive(Debug)]
pub(crate) enum End {
    /// The client closed the connection.
    Left,
    /// The client was silent for too long.
    Idle,
    /// The server stops, or the operator ends such sessions.
    Leave(Leave),
    /// The connection failed.
    Failed(io::Error),
}

impl End {
    /// For the log.
    pub(crate) fn reason(&self) -> String {
        match self {
            End::Left => "client left".to_owned(),
            End::Idle => "client was silent for too long".to_owned(),
            End::Leave(Leave::Stopping) => "server stops".to_owned(),
            End::Leave(Leave::Told(text)) => text.to_string(),
            End::Failed(error) => error.to_string(),
        }
    }
}

/// Lines of a pipeline that are taken before other sessions of the core have their turn.
const LINES_PER_TURN: u32 = 64;

/// Reads command lines under a length limit.
pub(crate) struct LineReader {
    framer: LineFramer,
    /// Lines taken since other sessions had a turn.
    lines: u32,
    /// Who has logged in.
    user: Option<User>,
}

impl LineReader {
    pub(crate) fn new(line_bytes_max: usize) -> LineReader {
        LineReader { framer: LineFramer::new(line_bytes_max), lines: 0, user: None }
    }

    /// From now on waiting ends, too, when the user is denied the service.
    pub(crate) fn log_in(&mut self, user: User) {
        self.user = Some(user);
    }

    fn audience(&self, conn: &Conn) -> Audience {
        let listener = conn.listener().clone();
        Audience { listener, user: self.user.clone(), stays: false }
    }

    /// The next line, whole before `deadline` (a byte now and then doesn't put it off); sends what
    /// is queued before it waits.
    pub(crate) async fn next(
        &mut self,
        conn: &mut Conn,
        services: &Services,
        deadline: Instant,
    ) -> Incoming {
        self.lines += 1;
        if self.lines > LINES_PER_TURN {
            self.lines = 0;
            tokio::task::yield_now().await;
        }
        loop {
            let (incoming, consumed) = match self.framer.next(conn.input()) {
                Framed::Line { line, consumed } => (Some(Incoming::Line(line.to_vec())), consumed),
                Framed::TooLong { consumed } => (Some(Incoming::TooLong), consumed),
                Framed::Incomplete { consumed } => (None, consumed),
            };
            conn.consume_command(consumed, incoming.is_some());
            if let Some(incoming) = incoming {
                return incoming;
            }
            if let Err(error) = conn.flush().await {
                return Incoming::End(End::Failed(error));
            }
            self.lines = 0;
            let filled = tokio::select! {
                biased;
                () = services.leaving(self.audience(conn)) => {
                    return Incoming::End(End::Leave(services.why_leave(&self.audience(conn))));
                }
                filled = tokio::time::timeout_at(deadline, conn.fill()) => filled,
            };
            match filled {
                Ok(Ok(0)) => return Incoming::End(End::Left),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Incoming::End(End::Failed(error)),
                Err(_) => return Incoming::End(End::Idle),
            }
        }
    }
}
