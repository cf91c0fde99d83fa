//! Where users are looked for beside our own file: what the servers before us had.
//!
//! | module | whose users |
//! |---|---|
//! | [`chain`] | all of them, one after the other: the first that knows a name decides |
//! | `table`, `file` | users in a file: rows by name, read again when the file changes |
//! | [`userdb`] | Courier's `userdb`: text, a directory of texts, or `makeuserdb`'s database |
//! | [`passwd`] | Dovecot's passwd-file, `/etc/shadow`, htpasswd |
//! | [`sasldb`] | Cyrus SASL's `sasldb2` |
//! | [`authdaemon`] | Courier's authdaemond, asked by its socket |
//! | [`saslauthd`] | Cyrus SASL's saslauthd, asked by its socket |
//! | [`gdbm`], [`berkeley`] | the two database formats, for reading |
//! | `courier` | quotas and options as Courier writes them |
//!
//! Invariants: nothing is ever written; a file that can't be read and a daemon that does not
//! answer make users *unavailable*, never unknown; any bytes parse or are named as what they are.

pub mod authdaemon;
pub mod berkeley;
pub mod chain;
mod courier;
mod file;
pub mod gdbm;
pub mod passwd;
pub mod saslauthd;
pub mod sasldb;
mod table;
pub mod userdb;

use crate::directory::{BoxFuture, PassDb, Unavailable, UserDb};
use crate::name::UserName;

pub use authdaemon::Authdaemon;
pub use chain::{Chain, MailOwners};
pub use file::TableFile;
pub use passwd::Passwd;
pub use saslauthd::Saslauthd;
pub use sasldb::Sasldb;
pub use userdb::Userdb;

/// Somewhere that has users.
pub trait Backend: UserDb + PassDb {
    /// As `auth.backends` names it.
    fn kind(&self) -> &'static str;

    /// Somebody else is asked, by a socket: nothing is read, and listing users may take long.
    fn is_asked(&self) -> bool {
        false
    }

    /// Reads again what it has read before. Blocks.
    ///
    /// # Errors
    /// It can't be read; what was there before stays.
    fn reload(&self) -> Result<(), String>;

    /// All users that it can name, and what is wrong with some: for the operator.
    fn list<'a>(&'a self) -> BoxFuture<'a, Result<Listing, Unavailable>>;
}

/// What the operator is told of a back end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Users, in no order.
    pub users: Vec<Listed>,
    /// What could not be read, and where.
    pub problems: Vec<String>,
    /// It knows more users than it can name.
    pub is_partial: bool,
}

/// A user, as the operator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Who.
    pub name: UserName,
    /// The settings.
    pub attributes: crate::Attributes,
    /// Names of password schemes.
    pub schemes: Vec<&'static str>,
    /// What the operator should look at, one thing each.
    pub remarks: Vec<String>,
}

/// Runs blocking work on a thread of its
/// own: reading a large file takes longer than a core has.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Who asked may have gone away; then nobody needs it.
        let _ = sender.send(work());
    })?;
    receiver.await.map_err(|_| std::io::Error::other("the reading thread died"))
}
