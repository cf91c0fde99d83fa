//! Accounts: user file, password schemes, SASL mechanisms, login memory and limits.
//!
//! | module | says |
//! |---|---|
//! | [`authenticator`] | the one door: plain logins, SASL exchanges, LMTP's look-ups |
//! | [`directory`] | the seam: where PAM, SQL or LDAP plug in beside the user file |
//! | [`users`] | the embedded user file and its editing |
//! | [`credential`] | password schemes |
//! | [`scram`] | SCRAM-SHA-256: RFC 5802, RFC 7677 |
//! | [`sasl`] | mechanisms as steps of bytes |
//! | [`pool`] | hashing threads, fair by address |
//! | [`limit`] | what wrong passwords cost |
//! | [`remember`] | good logins kept as keyed hashes |
//! | [`name`] | the one canonical form of a user's name |
//!
//! Invariants: no password is logged, stored or compared in clear; a password is compared in
//! constant time; an unknown user costs what a wrong password costs; nothing here blocks the
//! thread of the caller for longer than a small file read.

pub mod authenticator;
pub mod credential;
pub mod directory;
pub mod limit;
pub mod name;
pub mod pool;
pub mod remember;
pub mod sasl;
pub mod scram;
pub mod users;

pub use authenticator::{Authenticator, Context, Settings};
pub use directory::{Account, Attributes, AuthError, Unavailable};
pub use limit::Origin;
pub use name::UserName;
pub use sasl::{Exchange, Mechanism, Step};
pub use users::UserFile;
