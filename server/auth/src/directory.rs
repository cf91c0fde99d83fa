//! The seam between sessions and wherever accounts live.
//!
//! The user file and each of [`crate::backends`] implement both traits; PAM, SQL or LDAP implement
//! one or both later, and no session changes. A [`UserDb`] knows who exists, without a password, for
//! LMTP; a [`PassDb`] knows how to tell whether a password is right.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;

use crate::hash::{HashKind, HmacKey};
use crate::name::UserName;
use crate::scram::ScramVerifier;

/// A boxed future: what an object-safe async function gives back.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is configured about one user. `None` means: the server's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Most bytes that the user's mailboxes may hold together; 0 is no limit.
    pub quota_bytes: Option<u64>,
    /// Most messages that the user's mailboxes may hold together; 0 is no limit.
    pub quota_messages: Option<u64>,
    /// Partition for the user's new mailboxes.
    pub partition: Option<String>,
    /// Whether `user+detail` may select the mailbox `detail`.
    pub detail: Option<bool>,
    /// The server that has the user's mailboxes, if it is another one: IMAP logins are sent there.
    pub host: Option<String>,
    /// Logins are refused. Mail still arrives.
    pub disabled: bool,
    /// IMAP and SMAP logins are refused.
    pub disableimap: bool,
    /// POP3 logins are refused.
    pub disablepop3: bool,
    /// Sessions can read and nothing else.
    pub read_only: bool,
    /// As whom else the user may act.
    pub proxy: Proxy,
    /// Groups that rights on mailboxes can be given to. Canonical names without domain: they are
    /// groups of the user's domain.
    pub groups: Vec<UserName>,
    /// Mailboxes of others are not shown.
    pub disableshared: bool,
    /// Which of Courier's shared indexes says whose mailboxes are shown: the end of its file's name.
    pub shared_group: Option<String>,
    /// Where another server's directory says that the user's Maildir is. The store has its own
    /// rule; this is to be compared with it.
    pub maildir: Option<PathBuf>,
}

/// As whom else a user may act, after logging in with his own credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    /// Nobody.
    #[default]
    Nobody,
    /// Users of the same domain that may not act as others themselves.
    Domain,
    /// Everybody.
    Everybody,
}

/// One user, as sessions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The canonical name; the owner of mailboxes in the store.
    pub name: UserName,
    /// The user's settings.
    pub attributes: Attributes,
    /// Who logged in and acts as this user, if that is somebody else.
    pub by: Option<UserName>,
}

impl Account {
    /// A user who acts for himself.
    pub fn new(name: UserName, attributes: Attributes) -> Account {
        Account { name, attributes, by: None }
    }
}

/// A directory can't answer now; says why, for the log. Never means "unknown user".
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Why somebody isn't logged in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// Unknown user or wrong password: one answer for both.
    #[error("wrong user name or password")]
    Wrong,
    /// The password is right and the account may not log in, or not by this protocol.
    #[error("account is disabled")]
    Disabled,
    /// The password is right and the deny list has the user: what the user is told.
    #[error("denied this service: {0}")]
    Barred(String),
    /// The password is right and the user may not act as the other one; or there is none.
    #[error("not allowed to act as that user")]
    Denied,
    /// Too many logins wait for a hashing thread.
    #[error("too many logins are waiting")]
    Busy,
    /// The account data can't be read now.
    #[error("account data unavailable: {0}")]
    Unavailable(#[from] Unavailable),
    /// Too many wrong passwords from this address.
    #[error("too many failed logins from this address")]
    Limited,
    /// The connection isn't what the client believes; names what was expected.
    #[error("channel binding: expected {0}")]
    Binding(&'static str),
    /// The client broke the mechanism's rules; names what was expected.
    #[error("bad authentication exchange: expected {0}")]
    Malformed(&'static str),
}

impl AuthError {
    /// Whether the same login may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(self, AuthError::Busy | AuthError::Unavailable(_) | AuthError::Limited)
    }
}

/// Tells whether a password is right; and gives what mechanisms need that never see the password.
pub trait PasswordCheck: Send + Sync {
    /// Compares in constant time. May take long and may block: it runs on a hashing thread.
    fn check(&self, password: &[u8]) -> Result<bool, Unavailable>;

    /// For SCRAM with that hash.
    fn scram(&self, _hash: HashKind) -> Option<ScramVerifier> {
        None
    }

    /// For CRAM with that hash.
    fn hmac_key(&self, _hash: HashKind) -> Option<HmacKey> {
        None
    }

    /// For DIGEST-MD5: `H(user:realm:password)` for user and realm as the client sent them. `name`
    /// is the user whose secrets these are, `own_realm` the realm that the server offers.
    fn digest_md5(
        &self,
        _name: &UserName,
        _user: &str,
        _realm: &str,
        _own_realm: &str,
    ) -> Option<Vec<u8>> {
        None
    }

    /// The password itself, for APOP.
    fn password(&self) -> Option<&str> {
        None
    }

    /// There is nothing that a password could be compared with.
    fn is_blank(&self) -> bool {
        false
    }

    /// Somebody else tells whether a password is right: he is asked instead of
    /// [`PasswordCheck::check`], and no hashing thread waits for his answer.
    fn remote(&self) -> Option<&dyn RemoteCheck> {
        None
    }
}

/// Asks somebody else whether a password is right.
pub trait RemoteCheck: Send + Sync {
    /// `service` is `imap`, `pop3`, …
    fn check<'a>(
        &'a self,
        password: &'a [u8],
        service: &'a str,
    ) -> BoxFuture<'a, Result<bool, Unavailable>>;

    /// Whether `digest`, in hexadecimal digits, answers a CRAM challenge of that hash. `None`: he
    /// can't tell.
    fn cram<'a>(
        &'a self,
        _hash: HashKind,
        _challenge: &'a [u8],
        _digest: &'a [u8],
        _service: &'a str,
    ) -> BoxFuture<'a, Result<Option<bool>, Unavailable>> {
        Box::pin(async { Ok(None) })
    }
}

/// A password that only somebody else can check.
pub struct Asked<R>(pub R);

impl<R: RemoteCheck> PasswordCheck for Asked<R> {
    fn check(&self, _password: &[u8]) -> Result<bool, Unavailable> {
        Err(Unavailable("somebody else has to be asked, and nobody waits".to_owned()))
    }

    fn remote(&self) -> Option<&dyn RemoteCheck> {
        Some(&self.0)
    }
}

/// Changes whenever the user's credentials do, so that remembered logins die with them.
pub type CredentialVersion = [u8; 32];

/// What a [`PassDb`] knows about a name.
pub enum Candidate {
    /// The user exists.
    Known {
        /// Checks the password, and has the secrets for other mechanisms.
        check: Arc<dyn PasswordCheck>,
        /// Which credentials these are.
        version: CredentialVersion,
    },
    /// No such user. The check is run all the same, so that it costs as much time.
    Unknown {
        /// As slow as a real user's; its verdict is ignored. `None`: the default scheme's.
        decoy: Option<Arc<dyn PasswordCheck>>,
    },
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Candidate::Known { .. } => "Known",
            Candidate::Unknown { .. } => "Unknown",
        })
    }
}

/// Knows who exists.
pub trait UserDb: Send + Sync {
    /// The account, or `None` if there certainly is none.
    fn lookup<'a>(
        &'a self,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Option<Account>, Unavailable>>;

    /// The account of somebody who has proved to be `user`: also of one whom a directory knows by
    /// the password alone.
    fn proven<'a>(
        &'a self,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Option<Account>, Unavailable>> {
        self.lookup(user)
    }
}

/// Knows passwords.
pub trait PassDb: Send + Sync {
    /// How to check a password of `user` for `service` (`imap`, `pop3`, …).
    fn find<'a>(
        &'a self,
        user: &'a UserName,
        service: &'a str,
    ) -> BoxFuture<'a, Result<Candidate, Unavailable>>;
}
