//! SMAP1 sessions: Courier's own protocol, for its webmail and its client.
//!
//! A session begins as IMAP: a LOGIN or AUTHENTICATE whose tag is `\SMAP1` ends IMAP and leads here
//! (`imap.smap`). What is spoken then is line by line; see [`protocol::smap`].
//!
//! | module | says |
//! |---|---|
//! | `folder` | names, LIST, STATUS, CREATE, DELETE, RENAME |
//! | `open` | the open folder: its message list, what changed in it, STORE, EXPUNGE, COPY, SEARCH |
//! | `fetch` | FETCH |
//! | `add` | ADD |
//!
//! Invariants: numbers hold still but for the answers to NOOP, IDLE, EXPUNGE and MOVE, which tell
//! what went and came; an answer in the affirmative is said after the commit; a message that breaks
//! off in the middle closes the connection.

mod add;
mod fetch;
mod folder;
mod open;

use std::rc::Rc;
use std::time::Duration;

use engine::User;
use protocol::smap::{Command, CommandError, LINE_BYTES_MAX};
use tokio::time::Instant;

use crate::lines::{End, Incoming, LineReader};
use crate::net::Conn;
use crate::services::Services;
use add::Adding;
use open::Open;

/// How often the open folder is looked at in IDLE for what no notice tells.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why a session ends before the client says so.
enum Stop {
    /// The connection, or what it was owed.
    Cut(String),
    /// LOGOUT.
    Logout,
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        Stop::Cut(error.to_string())
    }
}

/// How a command ends: what is said behind `+OK` or `-ERR`.
type Answer = Result<Result<&'static str, String>, Stop>;

struct Session {
    conn: Conn,
    services: Rc<Services>,
    lines: LineReader,
    user: User,
    read_only: bool,
    open: Option<Box<Open>>,
    adding: Option<Box<Adding>>,
    bad_commands: u32,
}

/// Serves a connection whose client has logged in, to its end.
pub(crate) async fn run(conn: Conn, services: Rc<Services>, user: User, read_only: bool) {
    let mut lines = LineReader::new(LINE_BYTES_MAX);
    lines.log_in(user.clone());
    let (open, adding, bad_commands) = (None, None, 0);
    let mut session =
        Session { conn, services, lines, user, read_only, open, adding, bad_commands };
    session.say("+OK SMAP1 LOGIN Ok.");
    let reason = match session.serve().await {
        Stop::Cut(reason) => reason,
        Stop::Logout => "logout".to_owned(),
    };
    session.services.log_end(&session.conn, Some(session.user.name()), &reason);
    session.conn.close().await;
}

impl Session {
    fn say(&mut self, line: &str) {
        self.conn.out.push(line.as_bytes());
        self.conn.out.push(b"\n");
    }

    async fn serve(&mut self) -> Stop {
        loop {
            let line = match self.next_line().await {
                Ok(line) => line,
                Err(stop) => return stop,
            };
            let answer = match Command::parse(&line) {
                Ok(command) => match Box::pin(self.command(command)).await {
                    Ok(answer) => answer,
                    Err(stop) => return stop,
                },
                Err(error) => {
                    self.bad_commands += 1;
                    if self.bad_commands >= self.services.config().limits.bad_commands_max {
                        self.say("-ERR too many bad commands");
                        return Stop::Cut("too many bad commands".to_owned());
                    }
                    Err(error.to_string())
                }
            };
            match answer {
                Ok(text) => self.say(&format!("+OK {text}")),
                Err(text) => self.say(&format!("-ERR {text}")),
            }
            if self.conn.out.is_high()
                && let Err(error) = self.conn.flush().await
            {
                return error.into();
            }
        }
    }

    async fn next_line(&mut self) -> Result<Vec<u8>, Stop> {
        let idle = Duration::from_secs(self.services.config().limits.imap_idle_seconds_max);
        let deadline = Instant::now() + idle;
        match self.lines.next(&mut self.conn, &self.services, deadline).await {
            Incoming::Line(line) => Ok(line),
            // Taken for a command that isn't understood.
            Incoming::TooLong => Ok(Vec::new()),
            Incoming::End(end) => {
                if matches!(end, End::Leave(_) | End::Idle) {
                    self.say(&format!("* BYE {}", end.reason()));
                }
                Err(Stop::Cut(end.reason()))
            }
        }
    }

    async fn command(&mut self, command: Command) -> Answer {
        let adds = matches!(command, Command::Add(_));
        if !adds {
            self.adding = None;
        }
        let changes = matches!(
            command,
            Command::Create(_)
                | Command::Delete(_)
                | Command::Rename(..)
                | Command::Store(..)
                | Command::Expunge(_)
                | Command::Copy(..)
                | Command::Move(..)
                | Command::Add(_)
        );
        if changes && self.read_only {
            return Ok(Err("this login can read and nothing else".to_owned()));
        }
        match command {
            Command::Logout => {
                self.say("* BYE Cursus SMAP server says goodbye");
                self.say("+OK LOGOUT completed");
                Err(Stop::Logout)
            }
            Command::Rset => Ok(Ok("Reset")),
            Command::Noop => self.noop().await,
            Command::Idle => self.idle().await,
            Command::Resume => Ok(Err("RESUME ends an IDLE".to_owned())),
            Command::List(folder) => self.list(&folder).await,
            Command::Status(folder) => self.status(&folder).await,
            Command::Create(folder) => self.create(&folder).await,
            Command::MkDir(folder) | Command::RmDir(folder) => self.directory(&folder),
            Command::Delete(folder) => self.delete(&folder).await,
            Command::Rename(from, to) => self.rename(&from, &to).await,
            Command::Open(folder) => self.open(&folder).await,
            Command::Close => {
                self.open = None;
                Ok(Ok("Folder closed"))
            }
            Command::Expunge(set) => self.expunge(&set).await,
            Command::Store(set, changes) => self.store(&set, changes).await,
            Command::Fetch { set, attributes, contents } => {
                self.fetch(&set, &attributes, &contents).await
            }
            Command::Copy(set, folder) => self.copy(&set, &folder, false).await,
            Command::Move(set, folder) => self.copy(&set, &folder, true).await,
            Command::Search(key) => self.search(&key).await,
            Command::Add(words) => self.add(words).await,
            Command::Acl => Ok(Err("access lists aren't offered here, use IMAP's".to_owned())),
        }
    }

    /// Tells changes as they come, up to RESUME.
    async fn idle(&mut self) -> Answer {
        let mut watcher = self.open.as_ref().map(|open| open.mailbox.watch());
        self.tell_changes(true).await?;
        let patience = Duration::from_secs(self.services.config().limits.imap_idle_seconds_max);
        let deadline = Instant::now() + patience;
        loop {
            self.conn.flush().await?;
            let changed = async {
                match watcher.as_mut() {
                    Some(watcher) => watcher.changed().await,
                    None => std::future::pending().await,
                }
            };
            let look = Instant::now() + LOOK_EVERY;
            let line = tokio::select! {
                biased;
                line = self.lines.next(&mut self.conn, &self.services, deadline) => Some(line),
                () = changed => None,
                () = tokio::time::sleep_until(look), if self.open.is_some() => None,
            };
            match line {
                None => self.tell_changes(true).await?,
                Some(Incoming::Line(line)) => {
                    return Ok(match Command::parse(&line) {
                        Ok(Command::Resume) => Ok("Resumed"),
                        Ok(_) | Err(CommandError::Unknown) => {
                            Err("RESUME is required to follow IDLE".to_owned())
                        }
                        Err(error) => Err(error.to_string()),
                    });
                }
                Some(Incoming::TooLong) => return Ok(Err("line too long".to_owned())),
                Some(Incoming::End(end)) => return Err(Stop::Cut(end.reason())),
            }
        }
    }

    /// What a client is told about the store's trouble; the log has more.
    fn failure(&self, doing: &str, error: &engine::Error) -> String {
        if error.is_temporary() && !matches!(error, engine::Error::MailboxGone) {
            self.services.log_error(&self.conn, Some(self.user.name()), doing, error);
            return "the mail store has a temporary problem".to_owned();
        }
        match error {
            engine::Error::NoSuchMailbox | engine::Error::MailboxGone => "no such folder".into(),
            engine::Error::MailboxExists => "such a folder exists".into(),
            engine::Error::OverQuota => "quota exceeded".into(),
            engine::Error::Expunged(_) => "the message is gone".into(),
            other => other.to_string(),
        }
    }
}
