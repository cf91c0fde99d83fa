//! Courier's authdaemond, asked by its unix socket.
//!
//! One question a connection, answered by lines; the daemon closes it behind the answer.
//!
//! | question | answer |
//! |---|---|
//! | `PRE . service user` | `KEY=value` lines and `.`; or `FAIL` |
//! | `AUTH n`, then n bytes: `service`, `login`, user, password, a line each | the same |
//! | the same with `cram-md5`, the challenge and the response in base64 | the same |
//! | `ENUMERATE` | `name<TAB>uid<TAB>gid<TAB>home<TAB>maildir<TAB>options` lines, comments, `.` |
//! | `PASSWD service<TAB>user<TAB>old<TAB>new` | `OK` or `FAIL` |
//!
//! A connection that ends without `.`, `OK` or `FAIL` is how the daemon says that it can't tell now.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::{Backend, Listed, Listing, courier};
use crate::directory::{
    Account, Asked, Attributes, BoxFuture, Candidate, PassDb, RemoteCheck, Unavailable, UserDb,
};
use crate::hash::HashKind;
use crate::name::UserName;

/// As `auth.backends` names it.
const KIND: &str = "authdaemon";
/// Longest answer about one user.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Longest list of all users.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Longest time for one question.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// Questions at one time: the daemon has five processes, unless told otherwise.
const QUESTIONS_MAX: usize = 64;

/// Asks authdaemond.
#[derive(Clone)]
pub struct Authdaemon {
    socket: Arc<PathBuf>,
    questions: Arc<Semaphore>,
}

/// What the daemon said.
enum Answer {
    /// Lines, without the one that ends them.
    Lines(String),
    /// `OK`.
    Ok,
    /// `FAIL`: no such user, or a wrong password.
    Fail,
}

impl Authdaemon {
    /// Its socket: `/run/courier/authdaemon/socket` in Debian.
    pub fn new(socket: impl Into<PathBuf>) -> Authdaemon {
        Authdaemon {
            socket: Arc::new(socket.into()),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        }
    }

    fn unavailable(&self, what: impl std::fmt::Display) -> Unavailable {
        Unavailable(format!("{KIND}: {}: {what}", self.socket.display()))
    }

    async fn ask(&self, question: &[u8], bytes_max: u64) -> Result<Answer, Unavailable> {
        let exchange = async {
            let _turn = self.questions.acquire().await.map_err(std::io::Error::other)?;
            let mut stream = UnixStream::connect(self.socket.as_path()).await?;
            stream.write_all(question).await?;
            let mut answer = Vec::new();
            stream.take(bytes_max).read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, exchange)
            .await
            .map_err(|_| self.unavailable("no answer in time"))?
            .map_err(|e| self.unavailable(e))?;
        parse(answer).ok_or_else(|| self.unavailable("expected an answer with an end"))
    }

    async fn pre(&self, user: &UserName, service: &str) -> Result<Option<String>, Unavailable> {
        let question = format!("PRE . {} {user}\n", service_name(service));
        match self.ask(question.as_bytes(), ANSWER_BYTES_MAX).await? {
            Answer::Lines(lines) => Ok(Some(lines)),
            Answer::Fail => Ok(None),
            Answer::Ok => Err(self.unavailable("expected an account")),
        }
    }

    async fn auth(&self, service: &str, kind: &str, data: &[u8]) -> Result<bool, Unavailable> {
        let mut body = format!("{}\n{kind}\n", service_name(service)).into_bytes();
        body.extend_from_slice(data);
        let mut question = format!("AUTH {}\n", body.len()).into_bytes();
        question.append(&mut body);
        match self.ask(&question, ANSWER_BYTES_MAX).await? {
            Answer::Lines(_) => Ok(true),
            Answer::Fail => Ok(false),
            Answer::Ok => Err(self.unavailable("expected an account")),
        }
    }

    /// Has the daemon set another password. `false`: the old one is wrong, or it can't.
    ///
    /// # Errors
    /// It can't be asked; or a password can't be written into a question.
    pub async fn set_password(
        &self,
        user: &UserName,
        old: &str,
        new: &str,
    ) -> Result<bool, Unavailable> {
        if [old, new].iter().any(|password| password.contains(['\t', '\n', '\0'])) {
            return Err(self.unavailable("expected passwords without tabs and line ends"));
        }
        let question = format!("PASSWD imap\t{user}\t{old}\t{new}\n");
        let answer = self.ask(question.as_bytes(), ANSWER_BYTES_MAX).await?;
        Ok(matches!(answer, Answer::Ok))
    }
}

/// As Courier names it.
fn service_name(service: &str) -> &str {
    match service {
        "smap" => "imap",
        "smtp" => "esmtp",
        other => other,
    }
}

fn parse(answer: Vec<u8>) -> Option<Answer> {
    let text = String::from_utf8_lossy(&answer);
    match text.as_ref() {
        "FAIL\n" => Some(Answer::Fail),
        "OK\n" => Some(Answer::Ok),
        ".\n" => Some(Answer::Lines(String::new())),
        text => text.strip_suffix("\n.\n").map(|lines| Answer::Lines(lines.to_owned())),
    }
}

/// An account as `PRE` tells it.
fn account(name: &UserName, lines: &str) -> (Account, Vec<String>) {
    let (mut attributes, mut remarks) = (Attributes::default(), Vec::new());
    let (mut home, mut maildir) = (None, None);
    for (key, value) in lines.lines().filter_map(|line| line.split_once('=')) {
        match key {
            "HOME" => home = Some(value),
            "MAILDIR" => maildir = Some(value),
            "QUOTA" => courier::quota(value, &mut attributes, &mut remarks),
            "OPTIONS" => courier::options(value, &mut attributes, &mut remarks),
            _ => {}
        }
    }
    attributes.maildir = courier::maildir(home, maildir);
    (Account::new(name.clone(), attributes), remarks)
}

impl UserDb for Authdaemon {
    fn lookup<'a>(
        &'a self,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Option<Account>, Unavailable>> {
        Box::pin(
            async move { Ok(self.pre(user, "imap").await?.map(|lines| account(user, &lines).0)) },
        )
    }
}

/// Asks about one user.
struct Check {
    daemon: Authdaemon,
    user: UserName,
}

impl PassDb for Authdaemon {
    fn find<'a>(
        &'a self,
        user: &'a UserName,
        service: &'a str,
    ) -> BoxFuture<'a, Result<Candidate, Unavailable>> {
        Box::pin(async move {
            let check = Arc::new(Asked(Check { daemon: self.clone(), user: user.clone() }));
            Ok(match self.pre(user, service).await? {
                // The answer has the hash of the password, where there is one.
                Some(lines) => {
                    Candidate::Known { check, version: Sha256::digest(lines.as_bytes()).into() }
                }
                None => Candidate::Unknown { decoy: Some(check) },
            })
        })
    }
}

impl RemoteCheck for Check {
    fn check<'a>(
        &'a self,
        password: &'a [u8],
        service: &'a str,
    ) -> BoxFuture<'a, Result<bool, Unavailable>> {
        Box::pin(async move {
            // It would end the question early.
            if password.contains(&b'\n') || password.contains(&0) {
                return Ok(false);
            }
            let data = [self.user.as_str().as_bytes(), b"\n", password, b"\n"].concat();
            self.daemon.auth(service, "login", &data).await
        })
    }

    fn cram<'a>(
        &'a self,
        hash: HashKind,
        challenge: &'a [u8],
        digest: &'a [u8],
        service: &'a str,
    ) -> BoxFuture<'a, Result<Option<bool>, Unavailable>> {
        Box::pin(async move {
            let kind = match hash {
                HashKind::Md5 => "cram-md5",
                HashKind::Sha1 => "cram-sha1",
                HashKind::Sha256 => "cram-sha256",
                HashKind::Sha512 => return Ok(None),
            };
            let response = [self.user.as_str().as_bytes(), b" ", digest].concat();
            let data = format!("{}\n{}\n", BASE64.encode(challenge), BASE64.encode(response));
            self.daemon.auth(service, kind, data.as_bytes()).await.map(Some)
        })
    }
}

impl Backend for Authdaemon {
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
        Box::pin(async move {
            let mut listing = Listing::default();
            let Answer::Lines(lines) = self.ask(b"ENUMERATE\n", LIST_BYTES_MAX).await? else {
                listing.is_partial = true;
                return Ok(listing);
            };
            for line in lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let mut fields = line.split('\t');
                let name = fields.next().unwrap_or_default();
                let [_, _, home, maildir, options] =
                    [(); 5].map(|()| fields.next().unwrap_or_default());
                match UserName::new(name) {
                    Err(error) => listing.problems.push(format!("{name:?}: {error}")),
                    Ok(name) => {
                        let (mut attributes, mut remarks) = (Attributes::default(), Vec::new());
                        courier::options(options, &mut attributes, &mut remarks);
                        attributes.maildir = courier::maildir(Some(home), Some(maildir));
                        listing.users.push(Listed {
                            name,
                            attributes,
                            schemes: Vec::new(),
                            remarks,
                        });
                    }
                }
            }
            Ok(listing)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers questions in their order; gives what was asked.
    async fn served<T>(
        answers: &'static [&'static [u8]],
        asked: impl AsyncFnOnce(Authdaemon) -> T,
    ) -> (T, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let serve = async {
            let mut questions = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut question = vec![0; 4096];
                let read = stream.read(&mut question).await.unwrap();
                questions.push(String::from_utf8_lossy(&question[..read]).into_owned());
                stream.write_all(answer).await.unwrap();
            }
            questions
        };
        tokio::join!(asked(Authdaemon::new(&path)), serve)
    }

    /// What Debian's authdaemond 0.71.4 answered.
    const JO: &[u8] = b"UID=1000\nGID=1000\nHOME=/home/vmail/jo\nADDRESS=jo@example.org\nMAILDIR=/home/vmail/jo/Maildir\nQUOTA=10000000S,1000C\nPASSWD=$1$kMCywqlp$TUUWPW2A3EE6jSUkzpZcx.\nOPTIONS=disablepop3,group=staff\n.\n";

    #[tokio::test]
    async fn questions_are_as_the_daemon_wants_them() {
        let jo = UserName::new("jo@example.org").unwrap();
        let (_, questions) = served(&[JO, JO, b"FAIL\n", JO, b"FAIL\n", b"OK\n"], async |daemon| {
            let found = daemon.lookup(&jo).await.unwrap().unwrap().attributes;
            assert_eq!((found.quota_bytes, found.quota_messages), (Some(10_000_000), Some(1000)));
            assert!(found.disablepop3 && found.maildir.is_some());
            let Candidate::Known { check, .. } = daemon.find(&jo, "imap").await.unwrap() else {
                panic!("unknown")
            };
            let remote = check.remote().unwrap();
            assert_eq!(remote.check(b"x", "imap").await, Ok(false));
            assert_eq!(remote.cram(HashKind::Md5, b"<1>", b"00", "pop3").await, Ok(Some(true)));
            assert_eq!(remote.check(b"a\nb", "imap").await, Ok(false));
            assert_eq!(daemon.lookup(&jo).await, Ok(None));
            assert_eq!(daemon.set_password(&jo, "a", "b").await, Ok(true));
        })
        .await;
        assert_eq!(
            questions,
            [
                "PRE . imap jo@example.org\n",
                "PRE . imap jo@example.org\n",
                "AUTH 28\nimap\nlogin\njo@example.org\nx\n",
                "AUTH 44\npop3\ncram-md5\nPDE+\nam9AZXhhbXBsZS5vcmcgMDA=\n",
                "PRE . imap jo@example.org\n",
                "PASSWD imap\tjo@example.org\ta\tb\n",
            ]
        );
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_no_answer() {
        let jo = UserName::new("jo").unwrap();
        const HALVES: [&[&[u8]]; 4] = [&[b"UID=1\nGID=1\n"], &[b""], &[b"FAI"], &[b"\xff\n"]];
        for answer in HALVES {
            let (found, _) = served(answer, async |daemon| daemon.lookup(&jo).await).await;
            assert!(found.is_err(), "{answer:?}");
        }
        assert!(Authdaemon::new("/nowhere/socket").lookup(&jo).await.is_err());
    }

    #[tokio::test]
    async fn all_users_are_listed() {
        const ALL: &[u8] = b"# authuserdb\n\nmo\t1\t1\t/home/mo\t\t\njo@example.org\t1000\t1000\t/home/vmail/jo\t/home/vmail/jo/Maildir\tdisablepop3,group=staff\na b\t1\t1\t\t\t\n.\n";
        let (listing, questions) = served(&[ALL], async |daemon| daemon.list().await).await;
        let listing = listing.unwrap();
        assert_eq!((listing.users.len(), listing.problems.len()), (2, 1));
        assert!(listing.users[1].attributes.disablepop3);
        assert_eq!(questions, ["ENUMERATE\n"]);
    }
}
