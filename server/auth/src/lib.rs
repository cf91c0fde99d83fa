//! Accounts: user file, password schemes, SASL mechanisms, login memory and limits.
//!
//! | module | says |
//! |---|---|
//! | [`authenticator`] | the one door: plain logins, SASL exchanges, LMTP's look-ups |
//! | [`directory`] | the seam: where PAM, SQL or LDAP plug in beside the user file |
//! | [`users`] | the embedded user file and its editing |
//! | [`backends`] | users that other servers had: Courier's, Cyrus's, Dovecot's |
//! | [`deny`] | users who may not log in, whatever back end has them |
//! | [`learn`] | passwords that the server before us knows, learned at login |
//! | [`credential`], [`old_hash`], [`md5_crypt`] | password schemes |
//! | `decoy` | the password of users who do not exist |
//! | [`sasl`] | SASL exchanges as steps of bytes |
//! | [`mechanism`] | the names of mechanisms |
//! | [`channel`] | what a mechanism may know about the connection |
//! | [`scram`], [`digest_md5`] | mechanisms with more than one formula |
//! | [`token`], [`introspection`] | bearer tokens, and who says whose they are |
//! | [`acting`] | who may act as whom |
//! | [`hash`] | the hash functions that mechanisms name |
//! | [`pool`] | hashing threads, fair by address |
//! | [`limit`] | what wrong passwords cost |
//! | [`remember`] | good logins kept as keyed hashes |
//! | `replaced`, `stamp` | how files change, and whether they have |
//! | [`name`] | the one canonical form of a user's name |
//!
//! Invariants: no password is logged; none is stored in clear unless the operator asks for it; a
//! password is compared in constant time; an unknown user costs what a wrong password costs; nothing here blocks the
//! thread of the caller for longer than a small file read.

pub mod acting;
pub mod authenticator;
pub mod backends;
pub mod channel;
pub mod credential;
mod decoy;
pub mod deny;
pub mod digest_md5;
pub mod directory;
pub mod hash;
pub mod introspection;
pub mod learn;
pub mod limit;
pub mod md5_crypt;
pub mod mechanism;
pub mod name;
pub mod old_hash;
pub mod pool;
pub mod remember;
mod replaced;
pub mod sasl;
mod scheme;
pub mod scram;
mod stamp;
pub mod token;
pub mod users;

pub use authenticator::{Authenticator, Context, Settings};
pub use channel::Channel;
pub use directory::{Account, Attributes, AuthError, Proxy, Unavailable};
pub use limit::Origin;
pub use mechanism::Mechanism;
pub use name::{LoginDomains, UserName};
pub use sasl::{Exchange, Step};
pub use users::UserFile;
