//! The deny list: users who may not log in to some services, or to none, whatever back end has them.
//!
//! The file is Cyrus's `user_deny.db`, in any of its forms (`foreign::cyrus::deny`), so that both
//! servers and Cyrus's `cyr_deny` can use one file. A file that is not there denies nobody; one that
//! cannot be read, and an entry that cannot, make logins fail for now: somebody who is denied must
//! not get in because of it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use foreign::cyrus::Damage;
use foreign::cyrus::db::{self, Form};
pub use foreign::cyrus::deny::{ALL_SERVICES, Denial, MESSAGE};
use parking_lot::RwLock;
use thiserror::Error;

use crate::backends::on_a_thread;
use crate::directory::Unavailable;
use crate::name::UserName;
use crate::replaced;
use crate::stamp::Stamp;

/// A file of at most so many bytes is read on the caller's thread, a larger one on its own.
const INLINE_BYTES_MAX: u64 = 64 * 1024;

/// Why the file is not read or changed.
#[derive(Debug, Error)]
pub enum DenyError {
    /// Bytes that are no such file.
    #[error("{}: {damage}", path.display())]
    Damage {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Users as Cyrus names them, and what is denied to each, or what is wrong with the entry.
pub type Entries = BTreeMap<String, Result<Denial, Damage>>;

/// Who is denied what at one moment.
#[derive(Debug, Default)]
pub struct Denials(HashMap<UserName, Result<Denial, Damage>>);

impl Denials {
    /// Whether nobody is denied anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a user is told who is denied the service of this name; `None` if it is not denied.
    ///
    /// # Errors
    /// The user's entry cannot be read.
    pub fn of(&self, user: &str, service: &str) -> Result<Option<String>, Unavailable> {
        match self.0.get(user) {
            None => Ok(None),
            Some(Ok(denial)) => Ok(denial.denies(service).then(|| told(&denial.message))),
            Some(Err(damage)) => Err(Unavailable(format!("deny list: user {user}: {damage}"))),
        }
    }
}

/// A message without what would mean something in a protocol; what is not ASCII would ask for
/// UTF8=ACCEPT, and a bracket begins a response code.
fn told(message: &str) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    let text: String = message.chars().map(plain).collect();
    match text.trim().trim_start_matches('[') {
        "" => MESSAGE.to_owned(),
        text => text.to_owned(),
    }
}

struct Current {
    denials: Arc<Denials>,
    /// `Some(None)`: there was no file. `None`: to be read again at the next look.
    stamp: Option<Option<Stamp>>,
}

/// The file, shared by all cores; read again when it has changed.
pub struct DenyList {
    path: PathBuf,
    current: RwLock<Current>,
}

impl fmt::Debug for DenyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DenyList").field(&self.path).finish()
    }
}

impl DenyList {
    /// Reads the file once, so that trouble shows at the start.
    ///
    /// # Errors
    /// There is a file and it cannot be read.
    pub fn open(path: PathBuf) -> Result<DenyList, DenyError> {
        let current = RwLock::new(look(&path)?);
        Ok(DenyList { path, current })
    }

    /// The denials now.
    ///
    /// # Errors
    /// There is a file and it cannot be read.
    pub async fn now(&self) -> Result<Arc<Denials>, Unavailable> {
        match self.known()? {
            (Some(denials), _) => Ok(denials),
            (None, bytes) if bytes <= INLINE_BYTES_MAX => self.keep(look(&self.path)),
            (None, _) => {
                let path = self.path.clone();
                let read = on_a_thread("deny-list", move || look(&path)).await;
                self.keep(read.map_err(io_error(&self.path)).flatten())
            }
        }
    }

    /// As [`DenyList::now`], for a thread that may wait.
    ///
    /// # Errors
    /// There is a file and it cannot be read.
    pub fn now_blocking(&self) -> Result<Arc<Denials>, Unavailable> {
        match self.known()? {
            (Some(denials), _) => Ok(denials),
            (None, _) => self.keep(look(&self.path)),
        }
    }

    /// The denials if the file is still the one that was read; its size in bytes.
    fn known(&self) -> Result<(Option<Arc<Denials>>, u64), Unavailable> {
        let stamp = stamp(&self.path).map_err(unavailable)?;
        let current = self.current.read();
        let known = (current.stamp == Some(stamp)).then(|| current.denials.clone());
        Ok((known, stamp.map_or(0, |stamp| stamp.size)))
    }

    fn keep(&self, read: Result<Current, DenyError>) -> Result<Arc<Denials>, Unavailable> {
        let current = read.map_err(unavailable)?;
        let denials = current.denials.clone();
        *self.current.write() = current;
        Ok(denials)
    }
}

fn unavailable(error: DenyError) -> Unavailable {
    Unavailable(format!("deny list: {error}"))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DenyError {
    move |error| DenyError::Io { path: path.to_owned(), error }
}

fn stamp(path: &Path) -> Result<Option<Stamp>, DenyError> {
    match Stamp::of(path) {
        Ok(stamp) => Ok(Some(stamp)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path)(error)),
    }
}

fn look(path: &Path) -> Result<Current, DenyError> {
    // The stamp first: a change while reading then shows at the next look.
    let stamp = stamp(path)?;
    let mut denials = HashMap::new();
    for (user, denial) in read(path)? {
        match UserName::new(&user) {
            Ok(name) => drop(denials.insert(name, denial)),
            Err(error) => {
                tracing::warn!(target: "cursus", file = %path.display(), user, %error, "no user here");
            }
        }
    }
    let settled = stamp.as_ref().is_none_or(Stamp::is_settled);
    Ok(Current { denials: Arc::new(Denials(denials)), stamp: settled.then_some(stamp) })
}

/// All entries of the file at `path`; none if there is no file.
///
/// # Errors
/// It cannot be read, or is no such file.
pub fn read(path: &Path) -> Result<Entries, DenyError> {
    match std::fs::read(path) {
        Ok(bytes) => entries(path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Entries::new()),
        Err(error) => Err(io_error(path)(error)),
    }
}

fn entries(path: &Path, bytes: &[u8]) -> Result<Entries, DenyError> {
    let pairs =
        db::read(bytes).map_err(|damage| DenyError::Damage { path: path.to_owned(), damage })?;
    let entry = |(user, value): db::Pair| {
        (String::from_utf8_lossy(&user).into_owned(), Denial::parse(&value))
    };
    Ok(pairs.into_iter().map(entry).collect())
}

/// Denies a user what `denial` says, instead of what was denied before; `None`: nothing.
/// Tells whether that changed anything. A new file is a flat one; another keeps its form.
///
/// # Errors
/// The file cannot be read or written; an entry of another user cannot be read.
pub fn set(path: &Path, user: &str, denial: Option<Denial>) -> Result<bool, DenyError> {
    let io = |path: PathBuf, error: io::Error| DenyError::Io { path, error };
    // Nothing to be made where nothing is denied.
    if denial.is_none() && !path.try_exists().map_err(|e| io(path.to_owned(), e))? {
        return Ok(false);
    }
    replaced::replace(path, io, |bytes| {
        let damaged = |damage| DenyError::Damage { path: path.to_owned(), damage };
        let pairs = db::read(bytes).map_err(damaged)?;
        let mut kept: BTreeMap<Vec<u8>, Vec<u8>> = pairs.into_iter().collect();
        let value = denial.map(|denial| denial.to_value());
        let changes = kept.get(user.as_bytes()) != value.as_ref();
        match value {
            Some(value) => drop(kept.insert(user.as_bytes().to_vec(), value)),
            None => drop(kept.remove(user.as_bytes())),
        }
        let form = Form::of(bytes).filter(|_| !bytes.is_empty()).unwrap_or(Form::Flat);
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let pairs: Vec<_> = kept.into_iter().collect();
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        Ok((db::write(form, &pairs, bytes, now), changes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &str) -> Option<Denial> {
        Some(Denial { services: ALL_SERVICES.to_owned(), message: message.to_owned() })
    }

    #[tokio::test]
    async fn who_is_denied_is_known_at_once_and_not_for_longer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("user_deny.db");
        let list = DenyList::open(path.clone()).unwrap();
        assert_eq!(list.now().await.unwrap().of("jo", "imap").unwrap(), None);
        assert!(!set(&path, "jo", None).unwrap());
        assert!(!path.exists());
        assert!(set(&path, "jo", all("[ALERT] gehe\nweg ü")).unwrap());
        assert!(!set(&path, "jo", all("[ALERT] gehe\nweg ü")).unwrap());
        let told = list.now().await.unwrap().of("jo", "imap").unwrap();
        assert_eq!(told.as_deref(), Some("ALERT] gehe?weg ?"));
        assert_eq!(list.now().await.unwrap().of("flo", "imap").unwrap(), None);
        assert!(set(&path, "jo", None).unwrap());
        assert_eq!(list.now().await.unwrap().of("jo", "imap").unwrap(), None);
    }

    #[tokio::test]
    async fn what_cannot_be_read_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("user_deny.db");
        std::fs::write(&path, "jo\t9\t*\tx\nmo\t2\t*\t\n").unwrap();
        let list = DenyList::open(path.clone()).unwrap();
        let now = list.now().await.unwrap();
        assert!(now.of("jo", "imap").is_err());
        assert_eq!(now.of("mo", "imap").unwrap().as_deref(), Some(MESSAGE));
        assert_eq!(now.of("flo", "imap").unwrap(), None);
        std::fs::write(&path, "cut short").unwrap();
        assert!(list.now().await.is_err());
        assert!(DenyList::open(path.clone()).is_err());
        assert!(set(&path, "flo", all("")).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"cut short");
    }

    #[test]
    fn a_file_keeps_its_form_and_its_other_entries() {
        let dir = tempfile::tempdir().unwrap();
        for form in [Form::Flat, Form::Skiplist, Form::Twoskip, Form::Twom] {
            let path = dir.path().join("user_deny.db");
            let before = vec![(b"mo".to_vec(), b"9\todd".to_vec())];
            std::fs::write(&path, db::write(form, &before, &[], 0)).unwrap();
            assert!(set(&path, "jo", all("no")).unwrap());
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(Form::of(&bytes), Some(form));
            let pairs = db::sorted(db::read(&bytes).unwrap());
            assert_eq!(pairs[1], before[0]);
            assert_eq!(pairs[0], (b"jo".to_vec(), b"2\t*\tno".to_vec()));
        }
    }
}
