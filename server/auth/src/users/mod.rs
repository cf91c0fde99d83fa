//! The embedded user file: one line a user,
//!
//! ```text
//! # comments and empty lines are kept
//! jo@example.org:{ARGON2ID}$argon2id$… {SCRAM-SHA-256}32768,…:quota_bytes=10G,detail=yes
//! ```
//!
//! `name:credentials[:key=value,...]`. Several credentials are separated by a blank; none at all
//! means that the user gets mail, but can't log in. The keys are those of [`Attributes`].
//!
//! Invariants: a bad line is named with its number and never locks out another user; a user whose
//! own line is bad is *unavailable*, not unknown, so that no mail bounces over a typing error; the
//! file is only ever replaced whole, by a rename, under a lock.
//!
//! [`Attributes`]: crate::directory::Attributes

mod edit;
mod file;
mod line;

pub use edit::{Document, EditError, NewUser, edit};
pub use file::{Checked, UserFile, UserFileError, Users};
pub use line::{LineError, Problem, UserRecord, parse_size};
