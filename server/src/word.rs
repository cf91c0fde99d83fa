//! What every session hears at once: that the server stops, and what the operator says in the files of
//! `announce.dir`, as Cyrus has them in `msg/`.
//!
//! | file | its first line |
//! |---|---|
//! | `motd` | is told to each IMAP client behind the greeting, as an ALERT |
//! | `shutdown` | is told to users, whose sessions then end, as do new ones, as long as it is there |
//! | `shutdown.imap`, `shutdown.pop3`, `shutdown.lmtp` | the same for one protocol, rather than `shutdown` |
//!
//! Administrators' IMAP sessions stay, and who has not logged in may do so: that could be one. Sessions
//! of users whom the deny list denies the service end, too. Invariant: a file that cannot be read says
//! nothing new, and the log says why.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use auth::deny::Denials;
use config::{Listener, Protocol};
use engine::User;

use crate::services::Shared;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a line that are told.
const LINE_BYTES_MAX: u64 = 1024;

/// What sessions hear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    /// The server stops. Is not taken back.
    pub(crate) stopping: bool,
    said: Said,
    denied: Denied,
}

/// What is denied to whom: another one where the list was read again, and somebody is in it.
#[derive(Clone, Debug, Default)]
struct Denied(Arc<Denials>);

impl PartialEq for Denied {
    fn eq(&self, other: &Denied) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.is_empty() && other.0.is_empty()
    }
}

impl Eq for Denied {}

/// Whom a session serves: that decides what concerns it.
#[derive(Clone)]
pub(crate) struct Audience {
    /// Where the client is.
    pub(crate) listener: Arc<Listener>,
    /// Who has logged in.
    pub(crate) user: Option<User>,
    /// Goes on while the operator ends users' sessions.
    pub(crate) stays: bool,
}

/// The first lines of the files, without what no protocol has in a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    motd: Option<Arc<str>>,
    shutdown: Option<Arc<str>>,
    /// By [`Protocol::index`].
    shutdown_of: [Option<Arc<str>>; Protocol::ALL.len()],
}

/// Why a session has to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// The server stops.
    Stopping,
    /// The operator says so, with this text: to all, or to this user.
    Told(Arc<str>),
}

impl Word {
    /// Whether a session has to end.
    pub(crate) fn leave(&self, audience: &Audience) -> Option<Leave> {
        if self.stopping {
            return Some(Leave::Stopping);
        }
        let Audience { listener, user, stays } = audience;
        // For each command: as a rule nobody is denied anything.
        if let Some(user) = user.as_ref().filter(|_| !self.denied.0.is_empty())
            && let Ok(Some(told)) = self.denied.0.of(user.name(), &listener.name())
        {
            return Some(Leave::Told(told.into()));
        }
        let own = self.said.shutdown_of[listener.protocol.index()].as_ref();
        let text = own.or(self.said.shutdown.as_ref()).filter(|_| !stays)?;
        Some(Leave::Told(text.clone()))
    }

    /// What is told to each IMAP client.
    pub(crate) fn motd(&self) -> Option<Arc<str>> {
        self.said.motd.clone()
    }
}

impl Said {
    /// What the files say, and which of them cannot be read, with the reasons.
    fn read(dir: &Path) -> (Said, Vec<String>) {
        let mut unread = Vec::new();
        let mut line = |name: &str| {
            let path = dir.join(name);
            line(&path).unwrap_or_else(|error| {
                unread.push(format!("{}: {error}", path.display()));
                None
            })
        };
        let said = Said {
            motd: line("motd"),
            shutdown: line("shutdown"),
            shutdown_of: Protocol::ALL.map(|protocol| line(&format!("shutdown.{protocol}"))),
        };
        (said, unread)
    }
}

/// The first line of a file; `None` where there is no such file.
fn line(path: &Path) -> io::Result<Option<Arc<str>>> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(LINE_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(text_of(&bytes).into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// In IMAP a bracket would begin a response code, and what is not ASCII would ask for UTF8=ACCEPT.
fn text_of(bytes: &[u8]) -> String {
    let line = bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    let plain = |&b: &u8| if matches!(b, b' '..=b'~') { char::from(b) } else { '?' };
    let text: String = line.iter().map(plain).collect();
    text.trim_start_matches('[').to_owned()
}

/// Looks at the files again and again.
pub async fn keep_looking(shared: Arc<Shared>) {
    let mut known = Vec::new();
    loop {
        let dir = shared.config().announce.dir.clone();
        let (said, unread) = match dir.as_os_str().is_empty() {
            true => Default::default(),
            // The directory may be another host's, and this thread accepts connections.
            false => match shared.store.helpers().run(move || Said::read(&dir)).await {
                Ok(read) => read,
                // The store closes.
                Err(_) => return,
            },
        };
        if unread != known {
            for reason in &unread {
                tracing::warn!(target: "cursus", reason, "cannot read an announcement");
            }
            known = unread;
        }
        // A list that cannot be read any more is in the log with each login.
        let auth = shared.auth.clone();
        let Ok(denied) = shared.store.helpers().run(move || auth.denials_blocking()).await else {
            return;
        };
        let denied = denied.ok().map(Denied);
        shared.change_word(|word| {
            word.said = said;
            word.denied = denied.unwrap_or_else(|| word.denied.clone());
        });
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_told_without_what_would_mean_something() {
        for (bytes, text) in [
            (&b"back at ten\r\nmore"[..], "back at ten"),
            (b"[[ALERT] x", "ALERT] x"),
            (b"", ""),
            (b"gr\xc3\xbc\xc3\x9fe\0", "gr????e?"),
        ] {
            assert_eq!(text_of(bytes), text);
        }
    }

    #[test]
    fn a_protocols_own_file_goes_before_the_one_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let word = || Word { said: Said::read(dir.path()).0, ..Word::default() };
        let of = |protocol, stays| {
            let listener = Listener::new(protocol, "127.0.0.1:1".to_owned().into()).into();
            Audience { listener, user: None, stays }
        };
        let (imap, pop3) = (of(Protocol::Imap, false), of(Protocol::Pop3, false));
        assert_eq!(word(), Word::default());
        std::fs::write(dir.path().join("shutdown.pop3"), "no POP3 today\n").unwrap();
        assert_eq!(word().leave(&imap), None);
        std::fs::write(dir.path().join("shutdown"), "closed").unwrap();
        let told = |text: &str| Some(Leave::Told(text.into()));
        assert_eq!(word().leave(&imap), told("closed"));
        assert_eq!(word().leave(&pop3), told("no POP3 today"));
        let stays = of(Protocol::Imap, true);
        assert_eq!(word().leave(&stays), None);
        let stopped = Word { stopping: true, ..word() };
        assert_eq!(stopped.leave(&stays), Some(Leave::Stopping));
        std::fs::create_dir(dir.path().join("motd")).unwrap();
        let (said, unread) = Said::read(dir.path());
        assert_eq!((said.motd, unread.len()), (None, 1), "{unread:?}");
    }
}
