//! The seam between sessions and wherever accounts live.
//!
//! The user file implements both traits today; PAM, SQL or LDAP implement one or both later, and
//! no session changes. A [`UserDb`] knows who exists, without a password, for LMTP; a [`PassDb`]
//! knows how to tell whether a password is right.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;

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
    /// Logins are refused. Mail still arrives.
    pub disabled: bool,
}

/// One user, as sessions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The canonical name; the owner of mailboxes in the store.
    pub name: UserName,
    /// The user's settings.
    pub attributes: Attributes,
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
    /// The password is right and the account may not log in.
    #[error("account is disabled")]
    Disabled,
    /// Too many logins wait for a hashing thread.
    #[error("too many logins are waiting")]
    Busy,
    /// The account data can't be read now.
    #[error("account data unavailable: {0}")]
    Unavailable(#[from] Unavailable),
    /// Too many wrong passwords from this address.
    #[error("too many failed logins from this address")]
    Limited,
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

/// Tells whether a password is right. May take long and may block: it runs on a hashing thread.
pub trait PasswordCheck: Send + Sync {
    /// Compares in constant time.
    fn check(&self, password: &[u8]) -> Result<bool, Unavailable>;
}

/// Changes whenever the user's credentials do, so that remembered logins die with them.
pub type CredentialVersion = [u8; 32];

/// What a [`PassDb`] knows about a name.
pub enum Candidate {
    /// The user exists.
    Known {
        /// Checks the password.
        check: Arc<dyn PasswordCheck>,
        /// For SCRAM; without one the user can't use that mechanism.
        scram: Option<ScramVerifier>,
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
}

/// Knows passwords.
pub trait PassDb: Send + Sync {
    /// How to check a password for `user`.
    fn find<'a>(&'a self, user: &'a UserName) -> BoxFuture<'a, Result<Candidate, Unavailable>>;
}
