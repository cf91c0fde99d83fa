//! The configured back ends of accounts, in their order.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use auth::backends::{Authdaemon, Backend, Chain, MailOwners, Passwd, Saslauthd, Sasldb, Userdb};
use auth::directory::{BoxFuture, Unavailable};
use auth::{Account, UserFile, UserName};
use config::{AuthBackend, Config};
use engine::Store;
use engine::layout::LayoutKind;

/// A back end that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("auth.backends: {backend}: {reason}{}", hint(*.backend))]
pub struct AccountsError {
    /// Which.
    pub backend: AuthBackend,
    /// Why.
    pub reason: String,
}

fn hint(backend: AuthBackend) -> &'static str {
    match backend {
        AuthBackend::Users => " (the first user is made with `cursus user add NAME`)",
        _ => "",
    }
}

/// Opens the back ends that `auth.backends` names: reads files, asks no daemon.
///
/// # Errors
/// A file can't be read: its users' mail would bounce.
pub fn open(config: &Config) -> Result<Chain, AccountsError> {
    let auth = &config.auth;
    let (mut backends, mut blind) = (Vec::new(), None);
    for &backend in &auth.backends {
        let error = |e: io::Error| AccountsError { backend, reason: e.to_string() };
        let opened: Arc<dyn Backend> = match backend {
            AuthBackend::Users => Arc::new(
                UserFile::open(config.users_file())
                    .map_err(|e| AccountsError { backend, reason: e.to_string() })?,
            ),
            AuthBackend::Userdb => Arc::new(Userdb::open(&auth.userdb.path).map_err(error)?),
            AuthBackend::Passwd => Arc::new(Passwd::open(&auth.passwd.path).map_err(error)?),
            AuthBackend::Sasldb => {
                let (path, realm) = (&auth.sasldb.path, &auth.sasldb.realm);
                Arc::new(Sasldb::open(path, realm).map_err(error)?)
            }
            AuthBackend::Authdaemon => Arc::new(Authdaemon::new(&auth.authdaemon.socket)),
            AuthBackend::Saslauthd => {
                let daemon = Saslauthd::new(&auth.saslauthd.socket, &auth.saslauthd.service);
                blind = Some(Arc::new(daemon) as Arc<dyn Backend>);
                continue;
            }
        };
        backends.push(opened);
    }
    Ok(Chain::new(backends, blind))
}

/// Whoever has a mailbox in the store.
pub struct StoreOwners(pub Store);

impl MailOwners for StoreOwners {
    fn has_mail<'a>(&'a self, user: &'a UserName) -> BoxFuture<'a, Result<bool, Unavailable>> {
        Box::pin(async move {
            self.0.has_user(user.as_str()).await.map_err(|e| Unavailable(e.to_string()))
        })
    }
}

/// What an account's own Maildir comes to, where its directory names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaildirPlace {
    /// It is where the store has it, in the partition of that name.
    Here(String),
    /// The store has the user's mail there.
    Elsewhere(PathBuf),
}

/// Compares where an account's directory has the Maildir with where `config` has it: in the
/// account's partition, the default one, then any other.
pub fn maildir_place(config: &Config, hostname: &str, account: &Account) -> Option<MaildirPlace> {
    let theirs = account.attributes.maildir.as_deref()?;
    let partitions = crate::store::store_config(config, hostname).partitions;
    place_among(&partitions, &config.default_partition, account, theirs)
}

pub(crate) fn place_among(
    partitions: &[engine::Partition],
    default: &str,
    account: &Account,
    theirs: &Path,
) -> Option<MaildirPlace> {
    let own = account.attributes.partition.as_deref().unwrap_or(default);
    let is_own = |p: &&engine::Partition| p.name == own;
    let first = partitions.iter().find(is_own);
    let mut ours = None;
    for partition in first.into_iter().chain(partitions.iter().filter(|p| !is_own(p))) {
        if partition.layout.kind() != LayoutKind::Maildir {
            continue;
        }
        let Ok(dir) = partition.layout.mailbox_dir(&partition.path, account.name.as_str(), "INBOX")
        else {
            continue;
        };
        if is_same(&dir, theirs) {
            return Some(MaildirPlace::Here(partition.name.clone()));
        }
        ours.get_or_insert(dir);
    }
    ours.map(MaildirPlace::Elsewhere)
}

/// By name, else by what is there: a Maildir may be behind a link.
fn is_same(ours: &Path, theirs: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    ours == theirs || id(ours).is_some_and(|ours| id(theirs) == Some(ours))
}

/// Users of whom it was said that their Maildir is elsewhere.
static TOLD: LazyLock<Mutex<HashSet<UserName>>> = LazyLock::new(Mutex::default);
const TOLD_MAX: usize = 10_000;

/// Says once a user that the store has the mail elsewhere.
pub(crate) fn tell_elsewhere(user: &UserName, theirs: &Path, ours: &Path) {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() < TOLD_MAX && told.insert(user.clone()) {
        let (theirs, ours) = (theirs.display(), ours.display());
        tracing::warn!(target: "cursus", %user, %theirs, %ours,
            "the account names another Maildir than the store has for the user: set user_path");
    }
}
