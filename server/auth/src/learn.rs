//! Passwords that are learned at login, while mail moves here from another server.
//!
//! A user of the user file without credentials is asked about at the old server; if that takes the
//! password, a modern hash of it is stored, and the old server is not asked again. Off unless
//! configured, and over at a set time.
//!
//! Invariants: whoever has credentials, or is known to another back end, is never asked about; the old
//! server's *no* is a wrong password, and anything else that comes from there makes the user
//! unavailable, not wrong; a password is in no log and no record; a limited number of questions is
//! under way at a time.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;

use crate::backends::on_a_thread;
use crate::credential::Credentials;
use crate::directory::{Asked, BoxFuture, Candidate, PassDb, RemoteCheck, Unavailable};
use crate::name::UserName;
use crate::users::{EditError, edit};

/// Asks the old server, blocking: `Ok(false)` is its *no*, `Err` says why nothing is known.
pub type AskOldServer = dyn Fn(&str, &str) -> Result<bool, String> + Send + Sync;

/// How passwords are learned.
pub struct Settings {
    /// Asks the old server.
    pub ask: Box<AskOldServer>,
    /// What it is called in logs and records.
    pub server: String,
    /// From then on nothing is learned; Unix seconds.
    pub until: i64,
    /// Questions under way at a time.
    pub questions_max: usize,
    /// The longest wait for a turn to ask.
    pub wait_max: Duration,
    /// The old server knows users without their domains.
    pub without_domain: bool,
    /// The user file, which hashes are written to.
    pub users_file: PathBuf,
    /// A line of JSON for each password that was learned goes here.
    pub record: PathBuf,
}

/// A [`PassDb`] over the configured ones.
pub struct Learning {
    inner: Arc<dyn PassDb>,
    /// The user file alone.
    file: Arc<dyn PassDb>,
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    turns: Semaphore,
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

impl Learning {
    /// Learns passwords for users of the user file (`file`) of whom neither that nor the whole
    /// (`inner`) knows one.
    pub fn new(inner: Arc<dyn PassDb>, file: Arc<dyn PassDb>, settings: Settings) -> Learning {
        let turns = Semaphore::new(settings.questions_max);
        Learning { inner, file, shared: Arc::new(Shared { settings, turns }) }
    }
}

impl PassDb for Learning {
    fn find<'a>(
        &'a self,
        user: &'a UserName,
        service: &'a str,
    ) -> BoxFuture<'a, Result<Candidate, Unavailable>> {
        Box::pin(async move {
            let blank = |candidate: &Candidate| match candidate {
                Candidate::Known { check, .. } => check.is_blank(),
                Candidate::Unknown { .. } => false,
            };
            let found = self.inner.find(user, service).await?;
            if !blank(&found) || now() >= self.shared.settings.until {
                return Ok(found);
            }
            match self.file.find(user, service).await? {
                Candidate::Known { check, version } if check.is_blank() => {
                    let (shared, user) = (self.shared.clone(), user.clone());
                    Ok(Candidate::Known {
                        check: Arc::new(Asked(Question { shared, user })),
                        version,
                    })
                }
                _ => Ok(found),
            }
        })
    }
}

/// The question about one user.
struct Question {
    shared: Arc<Shared>,
    user: UserName,
}

impl RemoteCheck for Question {
    fn check<'a>(
        &'a self,
        password: &'a [u8],
        service: &'a str,
    ) -> BoxFuture<'a, Result<bool, Unavailable>> {
        Box::pin(async move {
            // No scheme of ours takes it, so there would be nothing to store.
            let Ok(password) = std::str::from_utf8(password) else { return Ok(false) };
            if password.is_empty() {
                // Some servers take it for an anonymous login.
                return Ok(false);
            }
            let shared = self.shared.clone();
            let settings = &shared.settings;
            let wait = tokio::time::timeout(settings.wait_max, shared.turns.acquire());
            let turn = match wait.await {
                Ok(Ok(turn)) => turn,
                _ => return Err(Unavailable("too many questions to the old server".to_owned())),
            };
            let (job, user) = (self.shared.clone(), self.user.clone());
            let (password, service) = (password.to_owned(), service.to_owned());
            let work = move || job.ask_and_store(&user, &password, &service);
            let done = on_a_thread("learn", work).await;
            drop(turn);
            done.map_err(|e| Unavailable(e.to_string()))?
        })
    }
}

impl Shared {
    /// Blocks.
    fn ask_and_store(
        &self,
        user: &UserName,
        password: &str,
        service: &str,
    ) -> Result<bool, Unavailable> {
        let Settings { ask, server, without_domain, .. } = &self.settings;
        let name = match (without_domain, user.as_str().split_once('@')) {
            (true, Some((local, _))) => local,
            _ => user.as_str(),
        };
        match ask(name, password) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(reason) => {
                tracing::warn!(%user, server, reason, "learning: the old server cannot be asked");
                return Err(Unavailable(format!("old server {server}: {reason}")));
            }
        }
        match self.store(user, password) {
            Ok(true) => {
                tracing::info!(target: "cursus::learn", %user, server, service, "password learned");
                if let Err(error) = self.note(user, service) {
                    let path = self.settings.record.display();
                    tracing::error!(%user, %path, %error, "learning: no record could be written");
                }
            }
            // Somebody else was quicker.
            Ok(false) => {}
            Err(error) => {
                // The login is good all the same; the next one asks again.
                tracing::error!(%user, error, "learning: the password could not be stored");
            }
        }
        Ok(true)
    }

    /// Stores a hash, unless there is one by now.
    fn store(&self, user: &UserName, password: &str) -> Result<bool, String> {
        let credentials = Credentials::for_password(password).map_err(|e| e.to_string())?;
        let stored =
            edit(&self.settings.users_file, |document| match document.has_credentials(user)? {
                true => Ok(false),
                false => document.set_credentials(user, credentials).map(|()| true),
            });
        stored.map_err(|e: EditError| e.to_string())
    }

    /// Adds to the record.
    fn note(&self, user: &UserName, service: &str) -> std::io::Result<()> {
        let line = serde_json::json!({
            "time": now(),
            "user": user.as_str(),
            "service": service,
            "server": self.settings.server,
        });
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&self.settings.record)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::users::UserFile;

    struct Site {
        dir: tempfile::TempDir,
        learning: Learning,
        asked: Arc<AtomicUsize>,
    }

    fn site(until: i64, ask: fn(&str, &str) -> Result<bool, String>) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, "jo@x.org::quota_bytes=5\nmo:{PLAIN.B64}c2VjcmV0\n").unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let settings = Settings {
            ask: Box::new(move |user, password| {
                count.fetch_add(1, Ordering::Relaxed);
                ask(user, password)
            }),
            server: "old".to_owned(),
            until,
            questions_max: 2,
            wait_max: Duration::from_millis(200),
            without_domain: true,
            users_file: path.clone(),
            record: dir.path().join("learned.jsonl"),
        };
        let users = Arc::new(UserFile::open(&path).unwrap());
        Site { dir, learning: Learning::new(users.clone(), users, settings), asked }
    }

    impl Site {
        async fn login(&self, user: &str, password: &str) -> Result<bool, Unavailable> {
            let user = UserName::new(user).unwrap();
            match self.learning.find(&user, "imap").await? {
                Candidate::Known { check, .. } => match check.remote() {
                    Some(remote) => remote.check(password.as_bytes(), "imap").await,
                    None => check.check(password.as_bytes()),
                },
                Candidate::Unknown { .. } => Ok(false),
            }
        }

        fn text(&self, name: &str) -> String {
            std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
        }
    }

    #[tokio::test]
    async fn a_password_is_learned_once() {
        let site = site(i64::MAX, |user, password| Ok(user == "jo" && password == "right"));
        assert_eq!(site.login("jo@x.org", "wrong").await, Ok(false));
        assert_eq!(site.login("jo@x.org", "").await, Ok(false));
        assert_eq!(site.login("jo@x.org", "right").await, Ok(true));
        assert!(site.text("users").contains("jo@x.org:{ARGON2ID}"), "{}", site.text("users"));
        assert!(site.text("users").contains("quota_bytes=5"));
        assert_eq!(site.asked.load(Ordering::Relaxed), 2);
        // From here on it is ours.
        assert_eq!(site.login("jo@x.org", "right").await, Ok(true));
        assert_eq!(site.login("jo@x.org", "wrong").await, Ok(false));
        assert_eq!(site.login("mo", "secret").await, Ok(true));
        assert_eq!(site.login("nobody", "right").await, Ok(false));
        assert_eq!(site.asked.load(Ordering::Relaxed), 2);
        let record = site.text("learned.jsonl");
        assert!(record.contains("\"user\":\"jo@x.org\"") && !record.contains("right"), "{record}");
        assert_eq!(record.lines().count(), 1);
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_asked_makes_nobody_wrong() {
        let site = site(i64::MAX, |_, _| Err("no route".to_owned()));
        let told = site.login("jo@x.org", "right").await.unwrap_err();
        assert!(told.0.contains("no route"), "{told}");
        assert!(site.text("users").starts_with("jo@x.org::"));
    }

    #[tokio::test]
    async fn it_ends_at_its_time() {
        let site = site(now(), |_, _| Ok(true));
        assert_eq!(site.login("jo@x.org", "right").await, Ok(false));
        assert_eq!(site.asked.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn questions_wait_for_their_turn_and_not_for_ever() {
        let site = site(i64::MAX, |_, _| {
            std::thread::sleep(Duration::from_millis(600));
            Ok(false)
        });
        let (a, b, c) = tokio::join!(
            site.login("jo@x.org", "a"),
            site.login("jo@x.org", "b"),
            site.login("jo@x.org", "c"),
        );
        assert_eq!((a, b), (Ok(false), Ok(false)));
        assert!(c.unwrap_err().0.contains("too many"));
    }
}
