//! Courier's shared folders on the filesystem: a reader's copies of folders in other Maildirs.
//!
//! ```text
//! alice/Maildir/shared-maildirs                       lines NAME TAB PATH
//! alice/Maildir/shared-folders/NAME/FOLDER/shared     symbolic link to PATH/.FOLDER, the original
//! alice/Maildir/shared-folders/NAME/FOLDER/cur,new    a file for each message of the original
//! ```
//!
//! The copy is a mailbox of alice's, with UIDs, flags and keywords of its own; a message is the same
//! in both by the base of its name. Courier has symbolic links there, here they are hard links, which
//! the owner's changes of flags leave alone: [`follow`] makes them of Courier's, and Courier's of them
//! again.
//!
//! What the reader may see is what the owner of his Maildir may: the server can read everybody's
//! mail, and `shared-maildirs` is the reader's to write. Owners, groups and modes of directories and
//! files are asked as the kernel would for that user, with the Maildir's own group alone
//! ([`reader`]), of directories that stay open while they are used ([`place`]).
//!
//! These files are other programs' as well: changes here are made as a delivery agent makes them, and
//! the rescan takes them in. A crash leaves at most a file in `tmp/`; the next look finds the rest.

mod folders;
mod follow;
mod mailbox;
mod original;
mod place;
mod reader;
#[cfg(test)]
mod tests;

pub use mailbox::Arrivals;
pub(crate) use mailbox::Copy;
pub(crate) use place::is_copy;

/// In a copy: leads to the original.
const ORIGINAL_NAME: &str = "shared";

/// Times of an original's `new/` and `cur/`, ns since 1970; 0 for one that is not there.
type Times = (i64, i64);
