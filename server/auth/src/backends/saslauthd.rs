//! Cyrus SASL's saslauthd, asked by its unix socket.
//!
//! A question is four strings, an answer one; each has its length in front, two bytes, the high one
//! first. Asked are user, password, service, realm; the answer begins with `OK` or `NO`.
//!
//! The daemon can't say who exists. So it is asked last of all back ends, and whoever has mail here
//! gets mail.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::{Backend, Listing};
use crate::directory::{
    Account, Asked, Attributes, BoxFuture, Candidate, PassDb, RemoteCheck, Unavailable, UserDb,
};
use crate::name::UserName;

/// As `auth.backends` names it.
const KIND: &str = "saslauthd";
/// Longest time for one question. PAM takes its time for wrong passwords.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Questions at one time: the daemon has five processes, unless told otherwise.
const QUESTIONS_MAX: usize = 64;

/// Asks saslauthd.
#[derive(Clone)]
pub struct Saslauthd {
    socket: Arc<PathBuf>,
    /// What it is told we are; empty: the protocol's name.
    service: Arc<str>,
    questions: Arc<Semaphore>,
}

impl Saslauthd {
    /// Its socket: `/run/saslauthd/mux` in Debian. An empty `service` is the protocol's name.
    pub fn new(socket: impl Into<PathBuf>, service: &str) -> Saslauthd {
        Saslauthd {
            socket: Arc::new(socket.into()),
            service: service.into(),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        }
    }

    fn unavailable(&self, what: impl std::fmt::Display) -> Unavailable {
        Unavailable(format!("{KIND}: {}: {what}", self.socket.display()))
    }

    async fn ask(&self, question: &[u8]) -> Result<bool, Unavailable> {
        let exchange = async {
            let _turn = self.questions.acquire().await.map_err(std::io::Error::other)?;
            let mut stream = UnixStream::connect(self.socket.as_path()).await?;
            stream.write_all(question).await?;
            let length = stream.read_u16().await?;
            let mut answer = vec![0; usize::from(length)];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, exchange)
            .await
            .map_err(|_| self.unavailable("no answer in time"))?
            .map_err(|e| self.unavailable(e))?;
        match answer.get(..2) {
            Some(b"OK") => Ok(true),
            Some(b"NO") => Ok(false),
            _ => Err(self.unavailable("expected OK or NO")),
        }
    }
}

/// The question, or `None`: something in it is too long.
fn question(user: &UserName, password: &[u8], service: &str) -> Option<Vec<u8>> {
    let name = user.as_str();
    // As libsasl2 does it.
    let (local, realm) = name.rsplit_once('@').unwrap_or((name, ""));
    let mut question = Vec::new();
    for field in [local.as_bytes(), password, service.as_bytes(), realm.as_bytes()] {
        question.extend(u16::try_from(field.len()).ok()?.to_be_bytes());
        question.extend(field);
    }
    Some(question)
}

impl UserDb for Saslauthd {
    fn lookup<'a>(
        &'a self,
        _: &'a UserName,
    ) -> BoxFuture<'a, Result<Option<Account>, Unavailable>> {
        Box::pin(async { Ok(None) })
    }

    fn proven<'a>(
        &'a self,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Option<Account>, Unavailable>> {
        Box::pin(async { Ok(Some(Account::new(user.clone(), Attributes::default()))) })
    }
}

/// Asks about one user.
struct Check {
    daemon: Saslauthd,
    user: UserName,
}

impl PassDb for Saslauthd {
    fn find<'a>(
        &'a self,
        user: &'a UserName,
        service: &'a str,
    ) -> BoxFuture<'a, Result<Candidate, Unavailable>> {
        let version = Sha256::digest(format!("{KIND} {service}")).into();
        let check = Arc::new(Asked(Check { daemon: self.clone(), user: user.clone() }));
        Box::pin(async move { Ok(Candidate::Known { check, version }) })
    }
}

impl RemoteCheck for Check {
    fn check<'a>(
        &'a self,
        password: &'a [u8],
        service: &'a str,
    ) -> BoxFuture<'a, Result<bool, Unavailable>> {
        Box::pin(async move {
            let service = match (&*self.daemon.service, service) {
                ("", "pop3") => "pop",
                ("", "smap") => "imap",
                ("", protocol) => protocol,
                (set, _) => set,
            };
            // The daemon reads C strings.
            let possible = !password.contains(&0) && !password.is_empty();
            match question(&self.user, password, service).filter(|_| possible) {
                Some(question) => self.daemon.ask(&question).await,
                None => Ok(false),
            }
        })
    }
}

impl Backend for Saslauthd {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn is_asked(&self) -> bool {
        true
    }

    fn reload(&self) -> Result<(), String> {
        Ok(())
    }

    fn list<'a>(&'a self) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        Box::pin(async { Ok(Listing { is_partial: true, ..Listing::default() }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(
        answer: &'static [u8],
        user: &str,
        service: &str,
    ) -> (Result<bool, Unavailable>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mux");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; 4096];
            let read = stream.read(&mut question).await.unwrap();
            stream.write_all(answer).await.unwrap();
            question.truncate(read);
            question
        };
        let user = UserName::new(user).unwrap();
        let check = Check { daemon: Saslauthd::new(&path, service), user };
        tokio::join!(RemoteCheck::check(&check, b"geheim", "pop3"), serve)
    }

    #[tokio::test]
    async fn the_daemon_is_asked_and_believed() {
        let (said, question) = ask(b"\0\x02OK", "jo@example.org", "").await;
        assert_eq!(said, Ok(true));
        assert_eq!(question, b"\0\x02jo\0\x06geheim\0\x03pop\0\x0bexample.org");
        let (said, question) = ask(b"\0\x0aNO wrong pw", "jo", "mail").await;
        assert_eq!(said, Ok(false));
        assert_eq!(question, b"\0\x02jo\0\x06geheim\0\x04mail\0\0");
        for answer in [b"".as_slice(), b"\0\x05OK", b"\0\x02??", b"\0\0"] {
            assert!(ask(answer, "jo", "").await.0.is_err(), "{answer:?}");
        }
        let down = Saslauthd::new("/nowhere/mux", "");
        let jo = UserName::new("jo").unwrap();
        let Candidate::Known { check, .. } = down.find(&jo, "imap").await.unwrap() else {
            panic!()
        };
        assert!(check.remote().unwrap().check(b"x", "imap").await.is_err());
        assert_eq!(down.lookup(&jo).await, Ok(None));
    }
}
