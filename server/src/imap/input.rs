//! What a client sends: the next command or line, and the waiting for it.

use std::time::Duration;

use protocol::imap::command::{Command, Tag};
use protocol::imap::decode::{self, DecodeError, Dialect};
use protocol::imap::framing::{Event, Excess, Literal};

use super::reply::End;
use super::session::{Session, seconds_of};
use crate::word::Audience;

/// The tag that leads to SMAP, and its blank. No tag of IMAP's.
const SMAP_TAG: &[u8] = b"\\SMAP1 ";

/// The next thing that a client sent.
pub(super) enum Input {
    Command(Result<Command, DecodeError>),
    /// APPEND or REPLACE; without a literal its parts are URLs.
    Append {
        text: Vec<u8>,
        literal: Option<Literal>,
    },
    TooLong {
        tag: Option<Tag>,
        excess: Excess,
    },
}

/// A line outside commands, as AUTHENTICATE and IDLE want it.
pub(super) enum Line {
    /// The line.
    Text(Vec<u8>),
    /// It was too long, and dropped.
    TooLong,
}

impl Session {
    /// The next command. Waits, with everything sent that is owed, until it has one.
    pub(super) async fn next_input(&mut self) -> Result<Input, End> {
        loop {
            if self.framer.is_idle()
                && let Some(leave) = self.services.must_leave(&self.audience())
            {
                return Err(leave.into());
            }
            let dialect = self.dialect();
            let (used, event) = self.framer.next(self.conn.input());
            let input = match event {
                None => None,
                Some(Event::Command(text)) => {
                    self.smap = self.services.config().imap.smap && text.starts_with(SMAP_TAG);
                    // Behind the backslash it is a tag like others.
                    let text = if self.smap { &text[1..] } else { text };
                    if decode::is_append(text) {
                        Some(Input::Append { text: text.to_vec(), literal: None })
                    } else {
                        Some(Input::Command(decode::command(text, dialect)))
                    }
                }
                Some(Event::AppendMessage { text, literal, .. }) => {
                    Some(Input::Append { text: text.to_vec(), literal: Some(literal) })
                }
                Some(Event::TooLong { head, excess }) => {
                    Some(Input::TooLong { tag: decode::tag_of(head), excess })
                }
                Some(Event::Continue) => {
                    self.conn.consume_command(used, false);
                    self.continuation("OK");
                    continue;
                }
                Some(Event::Flood) => return Err(End::Bye("Too much input without a command")),
                // The session asked for none of these.
                Some(
                    Event::Line(_) | Event::MessageData(_) | Event::AppendEnd(_) | Event::Refused,
                ) => return Err(End::Bye("Lost track of the input")),
            };
            self.conn.consume_command(used, input.is_some());
            match input {
                Some(input) => return Ok(input),
                None => self.fill().await?,
            }
        }
    }

    /// The line that [`Framer::expect_line`] was called for.
    pub(super) async fn next_line(&mut self) -> Result<Line, End> {
        loop {
            let (used, event) = self.framer.next(self.conn.input());
            let line = match event {
                None => None,
                Some(Event::Line(text)) => Some(Line::Text(text.to_vec())),
                Some(Event::TooLong { .. }) => Some(Line::TooLong),
                Some(_) => return Err(End::Bye("Too much input without a line end")),
            };
            self.conn.consume(used);
            match line {
                Some(line) => return Ok(line),
                None => self.fill().await?,
            }
        }
    }

    /// Sends what is owed and waits for more bytes, within the time that the client has.
    pub(super) async fn fill(&mut self) -> Result<(), End> {
        self.conn.flush().await?;
        if self.framer.is_idle() && self.pushes() {
            // Apart from the task's own memory, as few sessions need it.
            return Box::pin(self.fill_and_push()).await;
        }
        if self.framer.is_idle() {
            self.framer.release();
        } else {
            self.conn.acknowledge();
        }
        // What can be asked for again is not held while it waits.
        let (wait, _) = self.patience();
        let read = tokio::select! {
            biased;
            // In the middle of a command the client may finish it.
            () = self.services.leaving(self.audience()), if self.framer.is_idle() => {
                return Err(self.services.why_leave(&self.audience()).into());
            }
            read = tokio::time::timeout(wait, self.conn.fill()) => read,
        };
        match read {
            Err(_) => Err(End::Bye(self.patience().1)),
            Ok(Ok(0)) => Err(End::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(End::Io(error)),
        }
    }

    /// What of the word to everybody concerns it.
    pub(super) fn audience(&self) -> Audience {
        Audience {
            listener: self.conn.listener().clone(),
            user: self.user.clone(),
            stays: self.viewer.as_ref().is_none_or(|viewer| viewer.administers()),
        }
    }

    /// How long to wait for the client's next byte, and what to say after that.
    pub(super) fn patience(&self) -> (Duration, &'static str) {
        let limits = &self.services.config().limits;
        if self.user.is_some() {
            let idle = Duration::from_secs(limits.imap_idle_seconds_max);
            return (idle, "Logged out for inactivity");
        }
        let until_login = Duration::from_secs(limits.login_seconds_max);
        let waited = seconds_of(&self.conn).saturating_sub(self.since_seconds);
        (until_login.saturating_sub(Duration::from_secs(waited.into())), "No login in time")
    }

    pub(super) fn dialect(&self) -> Dialect {
        Dialect { utf8_names: self.features.utf8(), no_charset: self.features.utf8_accept }
    }
}
