//! The user file as the server reads it: an immutable snapshot, renewed when the file changes.

use std::collections::HashMap;
use std::collections::hash_map;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use thiserror::Error;

use super::line::{self, LineError, Problem, UserRecord};
use crate::backends::{Backend, Listed, Listing, on_a_thread};
use crate::credential::Credential;
use crate::directory::{
    Account, BoxFuture, Candidate, CredentialVersion, PassDb, PasswordCheck, Unavailable, UserDb,
};
use crate::name::UserName;
use crate::stamp::Stamp;

/// A file of at most so many bytes is read on the caller's thread, a larger one on its own.
const INLINE_BYTES_MAX: u64 = 64 * 1024;

/// The user file can't be read.
#[derive(Clone, Debug, Error)]
#[error("user file {}: {error}", path.display())]
pub struct UserFileError {
    /// Which file.
    pub path: PathBuf,
    /// What the system said.
    pub error: Arc<io::Error>,
}

/// A good line, with what every login would compute again.
#[derive(Debug)]
struct Entry {
    record: UserRecord,
    version: CredentialVersion,
}

/// The first line of a user. What it says is read when somebody asks for the user: a start does
/// not wait for the credentials of all.
#[derive(Debug)]
struct Line {
    at: usize,
    len: usize,
    read: OnceLock<Box<Result<Entry, LineError>>>,
}

/// All users at one moment.
#[derive(Debug, Default)]
pub struct Users {
    bytes: Vec<u8>,
    lines: HashMap<UserName, Line>,
}

/// What is in a user file.
#[derive(Debug, Default)]
pub struct Checked {
    /// Users whose line is good.
    pub good: u64,
    /// Bad lines.
    pub problems: Vec<Problem>,
}

impl Users {
    /// Takes a whole file. Bad lines are told by [`Users::check`].
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Users {
        let bytes = bytes.into();
        let mut lines = HashMap::new();
        let mut at = 0;
        for text in bytes.split(|&b| b == b'\n') {
            if let Some(user) = line::user(text) {
                let first = || Line { at, len: text.len(), read: OnceLock::new() };
                lines.entry(user).or_insert_with(first);
            }
            at += text.len() + 1;
        }
        Users { bytes, lines }
    }

    /// Reads every line, and keeps nothing of it: with 100,000 users this takes a second.
    pub fn check(&self) -> Checked {
        let mut checked = Checked::default();
        let mut first_lines: HashMap<UserName, usize> = HashMap::new();
        for (index, bytes) in self.bytes.split(|&b| b == b'\n').enumerate() {
            let number = index + 1;
            let (user, error) = match line::parse(bytes) {
                Ok(None) => continue,
                Ok(Some(record)) => (Some(record.account.name), None),
                Err((user, error)) => (user, Some(error)),
            };
            let is_good = error.is_none();
            let mut report =
                |user, error| checked.problems.push(Problem { line: number, user, error });
            if let Some(error) = error {
                report(user.clone(), error);
            }
            let Some(user) = user else { continue };
            match first_lines.entry(user.clone()) {
                hash_map::Entry::Occupied(first) => {
                    report(Some(user.clone()), LineError::Twice(user, *first.get()));
                }
                hash_map::Entry::Vacant(vacant) => {
                    vacant.insert(number);
                    checked.good += u64::from(is_good);
                }
            }
        }
        checked
    }

    /// The user's record; the error of its line if that is bad; `None` if there is no line.
    pub fn find(&self, user: &UserName) -> Option<Result<&UserRecord, &LineError>> {
        self.entry(user).map(|entry| entry.map(|e| &e.record))
    }

    fn entry(&self, user: &UserName) -> Option<Result<&Entry, &LineError>> {
        self.lines.get(user).map(|line| self.read(line))
    }

    fn read<'u>(&self, line: &'u Line) -> Result<&'u Entry, &'u LineError> {
        let read = || {
            let text = self.bytes.get(line.at..line.at + line.len).unwrap_or_default();
            let record = match line::parse(text) {
                Ok(record) => record.ok_or(LineError::Fields)?,
                Err((_, error)) => return Err(error),
            };
            let version = record.version();
            Ok(Entry { record, version })
        };
        line.read.get_or_init(|| Box::new(read())).as_ref().as_ref()
    }

    /// Every user whose line is good, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &UserRecord> {
        self.lines.values().filter_map(|line| self.read(line).ok()).map(|e| &e.record)
    }

    /// A real user's credentials, the same for one name, so that unknown users take as long as
    /// known ones whatever schemes are in use.
    fn decoy(&self, user: &UserName) -> Option<Arc<dyn PasswordCheck>> {
        let start = user.as_str().bytes().fold(0usize, |h, b| h.wrapping_mul(31) ^ usize::from(b));
        let record = self.iter().nth(start % self.lines.len().clamp(1, 64))?;
        Some(record.credentials.clone())
    }
}

struct Current {
    users: Arc<Users>,
    /// `None`: read again at the next look.
    stamp: Option<Stamp>,
}

/// The user file, shared by all cores.
pub struct UserFile {
    path: PathBuf,
    current: RwLock<Current>,
    /// Held while reading, so that one change is read once.
    reading: tokio::sync::Mutex<()>,
}

impl UserFile {
    /// Opens and reads the file. Bad lines are told in the log, those of a large file a while
    /// after the return.
    ///
    /// # Errors
    /// A missing or unreadable file is an error: with no users at all, mail would bounce.
    pub fn open(path: impl Into<PathBuf>) -> Result<UserFile, UserFileError> {
        let path = path.into();
        let current = RwLock::new(Self::read(&path)?);
        Ok(UserFile { path, current, reading: tokio::sync::Mutex::new(()) })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The users as last read.
    pub fn snapshot(&self) -> Arc<Users> {
        self.current.read().users.clone()
    }

    /// Reads the file now, changed or not. An unreadable file leaves the users as they were.
    pub fn reload(&self) -> Result<Arc<Users>, UserFileError> {
        let current = Self::read(&self.path)?;
        let users = current.users.clone();
        *self.current.write() = current;
        Ok(users)
    }

    fn read(path: &Path) -> Result<Current, UserFileError> {
        let error = |e| UserFileError { path: path.to_owned(), error: Arc::new(e) };
        // The stamp first: a change while reading then shows at the next look.
        let stamp = Stamp::of(path).map_err(error)?;
        let users = Users::parse(std::fs::read(path).map_err(error)?);
        let users = Arc::new(users);
        if stamp.size <= INLINE_BYTES_MAX {
            tell_problems(path, &users);
        } else {
            let (path, users) = (path.to_owned(), users.clone());
            let tell = move || tell_problems(&path, &users);
            if let Err(e) = std::thread::Builder::new().name("users-check".into()).spawn(tell) {
                tracing::warn!(error = %e, "user file: bad lines are not looked for");
            }
        }
        Ok(Current { users, stamp: stamp.is_settled().then_some(stamp) })
    }

    /// The users, after reading the file again if it has changed.
    async fn fresh(&self) -> Arc<Users> {
        let stamp = Stamp::of(&self.path);
        {
            let current = self.current.read();
            match &stamp {
                Ok(stamp) if current.stamp == Some(*stamp) => return current.users.clone(),
                Ok(_) => {}
                // Gone or unreadable, perhaps in the middle of a replacement: the users of before
                // are better than none.
                Err(_) => return current.users.clone(),
            }
        }
        let _reading = self.reading.lock().await;
        let stamp = stamp.ok();
        if stamp.is_some() && self.current.read().stamp == stamp {
            return self.snapshot();
        }
        let read = match stamp.map_or(0, |s| s.size) {
            0..=INLINE_BYTES_MAX => Self::read(&self.path),
            _ => self.read_on_a_thread().await,
        };
        match read {
            Ok(current) => {
                let users = current.users.clone();
                *self.current.write() = current;
                users
            }
            Err(error) => {
                tracing::error!(%error, "users stay as they were");
                self.snapshot()
            }
        }
    }

    async fn read_on_a_thread(&self) -> Result<Current, UserFileError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let path = self.path.clone();
        let spawned = std::thread::Builder::new().name("users".into()).spawn(move || {
            // The reader may have gone away; then nobody needs the users.
            let _ = sender.send(Self::read(&path));
        });
        let error = |e| UserFileError { path: self.path.clone(), error: Arc::new(e) };
        spawned.map_err(error)?;
        receiver.await.unwrap_or_else(|_| Err(error(io::Error::other("the reading thread died"))))
    }

    fn unavailable(user: &UserName, error: &LineError) -> Unavailable {
        Unavailable(format!("user {user} has a bad line in the user file: {error}"))
    }
}

fn tell_problems(path: &Path, users: &Users) {
    for problem in users.check().problems {
        tracing::warn!(path = %path.display(), %problem, "user file: line ignored");
    }
}

impl UserDb for UserFile {
    fn lookup<'a>(
        &'a self,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Option<Account>, Unavailable>> {
        Box::pin(async move {
            match self.fresh().await.find(user) {
                None => Ok(None),
                Some(Ok(record)) => Ok(Some(record.account.clone())),
                Some(Err(error)) => Err(Self::unavailable(user, error)),
            }
        })
    }
}

impl PassDb for UserFile {
    fn find<'a>(
        &'a self,
        user: &'a UserName,
        _service: &'a str,
    ) -> BoxFuture<'a, Result<Candidate, Unavailable>> {
        Box::pin(async move {
            let users = self.fresh().await;
            match users.entry(user) {
                None => Ok(Candidate::Unknown { decoy: users.decoy(user) }),
                Some(Ok(Entry { record, version })) => {
                    Ok(Candidate::Known { version: *version, check: record.credentials.clone() })
                }
                Some(Err(error)) => Err(Self::unavailable(user, error)),
            }
        })
    }
}

impl Backend for UserFile {
    fn kind(&self) -> &'static str {
        "users"
    }

    fn reload(&self) -> Result<(), String> {
        UserFile::reload(self).map(drop).map_err(|e| e.to_string())
    }

    fn list<'a>(&'a self) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        Box::pin(async move {
            let users = self.fresh().await;
            let path = self.path.clone();
            let listed = on_a_thread("users-list", move || listing(&users, &path)).await;
            listed.map_err(|e| Unavailable(format!("user file: {e}")))
        })
    }
}

/// Reads every line.
fn listing(users: &Users, path: &Path) -> Listing {
    let place = |problem: &Problem| format!("{}: {problem}", path.display());
    let problems = users.check().problems.iter().map(place).collect();
    let listed = |record: &UserRecord| {
        let mut weak: Vec<&str> = record
            .credentials
            .0
            .iter()
            .filter(|c| matches!(c, Credential::Old(old) if old.is_weak()))
            .map(Credential::scheme)
            .collect();
        weak.dedup();
        let weak = (!weak.is_empty()).then(|| format!("weak password scheme {}", weak.join(", ")));
        Listed {
            name: record.account.name.clone(),
            attributes: record.account.attributes.clone(),
            schemes: record.credentials.0.iter().map(Credential::scheme).collect(),
            remarks: weak.into_iter().collect(),
        }
    };
    Listing { users: users.iter().map(listed).collect(), problems, is_partial: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        UserName::new(text).unwrap()
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_bad_line_locks_out_nobody_else() {
        let users = Users::parse(b"# staff\njo:\nmo:geheim\n:\nflo:\njo::disabled=yes\n");
        assert!(users.find(&name("jo")).unwrap().is_ok_and(|r| !r.account.attributes.disabled));
        assert!(users.find(&name("flo")).unwrap().is_ok());
        assert!(users.find(&name("mo")).unwrap().is_err());
        assert!(users.find(&name("other")).is_none());
        let Checked { good, problems } = users.check();
        let lines: Vec<_> = problems.iter().map(|p| p.line).collect();
        assert_eq!(lines, [3, 4, 6]);
        assert!(problems[2].to_string().contains("line 2"), "{}", problems[2]);
        assert_eq!((good, users.iter().count()), (2, 2));
    }

    #[test]
    fn taking_a_file_reads_no_credentials() {
        let users = Users::parse(b"jo:{PLAIN}x\r\n\xff:\nflo: :quota_bytes=1K\nmo\n");
        assert!(users.lines.values().all(|line| line.read.get().is_none()));
        let flo = users.find(&name("flo")).unwrap().unwrap();
        assert_eq!(flo.account.attributes.quota_bytes, Some(1024));
        assert_eq!(users.lines.values().filter(|line| line.read.get().is_some()).count(), 1);
        assert!(users.find(&name("mo")).is_none());
    }

    #[test]
    fn a_bad_line_is_unavailable_not_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, "mo:geheim\n").unwrap();
        let file = UserFile::open(path).unwrap();
        assert!(block_on(file.lookup(&name("mo"))).is_err());
        assert_eq!(block_on(file.lookup(&name("jo"))), Ok(None));
    }

    #[test]
    fn changes_are_seen_even_within_a_tick() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, "jo:\n").unwrap();
        let file = UserFile::open(&path).unwrap();
        assert!(block_on(file.lookup(&name("jo"))).unwrap().is_some());
        std::fs::write(&path, "mo:\n").unwrap();
        assert!(block_on(file.lookup(&name("jo"))).unwrap().is_none());
        std::fs::write(dir.path().join("new"), "flo:\n").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(block_on(file.lookup(&name("flo"))).unwrap().is_some());
    }

    #[test]
    fn a_large_file_is_read_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, "jo:\n").unwrap();
        let file = UserFile::open(&path).unwrap();
        let many: String = (0..20_000).map(|n| format!("user{n}:\n")).collect();
        std::fs::write(&path, many).unwrap();
        assert!(block_on(file.lookup(&name("user19999"))).unwrap().is_some());
    }

    #[test]
    fn a_vanished_file_keeps_its_users() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, "jo:\n").unwrap();
        let file = UserFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(block_on(file.lookup(&name("jo"))).unwrap().is_some());
        assert!(file.reload().is_err());
        assert!(UserFile::open(&path).is_err());
    }
}
