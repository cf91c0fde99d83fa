//! What can go wrong, sorted by whose fault it is: the client's (a reply), the operator's (a log
//! line and a temporary failure), ours (an assertion elsewhere). Clients never see paths.

use std::path::PathBuf;
use std::sync::Arc;

use protocol::types::Uid;

use crate::layout::NameError;

/// A failed operation of the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No mailbox of that name. `CREATE` it first (`TRYCREATE`), or `NONEXISTENT`.
    #[error("no such mailbox")]
    NoSuchMailbox,
    /// The name is taken (`ALREADYEXISTS`).
    #[error("mailbox already exists")]
    MailboxExists,
    /// INBOX cannot be deleted, or a name lies below one that cannot have children (`CANNOT`).
    #[error("{0}")]
    NotAllowed(&'static str),
    /// The layout cannot store the name (`CANNOT`).
    #[error(transparent)]
    Name(#[from] NameError),
    /// The user's limit would be passed (`OVERQUOTA`; 552 5.2.2).
    #[error("quota exceeded")]
    OverQuota,
    /// The message is larger than the store takes (`TOOBIG`; 552 5.3.4).
    #[error("message larger than {max} bytes")]
    TooBig {
        /// The limit in bytes.
        max: u64,
    },
    /// No further keyword fits into this mailbox (`LIMIT`).
    #[error("mailbox has its {max} keywords already")]
    TooManyKeywords {
        /// How many a mailbox can have.
        max: usize,
    },
    /// A value of metadata is too large (`METADATA MAXSIZE`).
    #[error("metadata of more than {max} bytes")]
    MetadataTooBig {
        /// The limit in bytes.
        max: usize,
    },
    /// No further entry of metadata fits (`METADATA TOOMANY`).
    #[error("{max} entries of metadata are there already")]
    MetadataTooMany {
        /// How many there can be.
        max: usize,
    },
    /// A value of an annotation is too large (`ANNOTATE TOOBIG`).
    #[error("annotation of more than {max} bytes")]
    AnnotationTooBig {
        /// The limit in bytes.
        max: usize,
    },
    /// No further annotation fits on the message (`ANNOTATE TOOMANY`).
    #[error("{max} annotations are on the message already")]
    AnnotationTooMany {
        /// How many there can be.
        max: usize,
    },
    /// No further entry fits into an access control list (`LIMIT`).
    #[error("{max} entries are in the access control list already")]
    AclTooMany {
        /// How many there can be.
        max: usize,
    },
    /// An annotation is of a body part that the message does not have: the client's mistake.
    #[error("no such body part")]
    NoSuchPart,
    /// The message is gone (`EXPUNGEISSUED`).
    #[error("message {0} is expunged")]
    Expunged(Uid),
    /// A partition that the configuration does not name.
    #[error("no partition named {0:?} in the configuration")]
    NoSuchPartition(String),
    /// The mailbox was deleted under the session.
    #[error("mailbox was deleted")]
    MailboxGone,
    /// The mailbox is on its way to another partition, and can be changed again soon.
    #[error("mailbox is being moved to another partition")]
    MailboxMoving,
    /// The store no longer writes; reads go on. Operator trouble, logged where it arose.
    #[error("store is read-only: {0}")]
    ReadOnly(Arc<str>),
    /// The disk is full (`OVERQUOTA`; 452 4.3.1).
    #[error("no space left on the device")]
    DiskFull,
    /// The filesystem's quota of the mail's owner is used up (`OVERQUOTA`; 452 4.2.2).
    #[error("the filesystem's quota is used up")]
    DiskQuota,
    /// An operation on a file failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb: "open", "rename"…
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// Bytes on disk that are not what they should be.
    #[error("{}: {found}, expected {expected}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
        /// What is.
        found: String,
    },
    /// Another process, most likely `cursusd`, has the store open.
    #[error("{}: taken: another process has the store open", .0.display())]
    Locked(PathBuf),
    /// Another store, maybe on another host, has this user's mail open (`INUSE`; 450 4.2.0).
    #[error("the mail of {user} is open elsewhere: {holder}")]
    InUse {
        /// Whose mail.
        user: String,
        /// Host, process, since when.
        holder: String,
    },
    /// A filesystem that cannot carry what is to be put on it.
    #[error("{} is on a filesystem that is {filesystem}; expected {expected}", path.display())]
    Unsuitable {
        /// What is to be put there.
        path: PathBuf,
        /// What the filesystem is.
        filesystem: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// The store is shutting down.
    #[error("store is closing")]
    Closing,
}

/// Result of an operation of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether the process or the system has no file descriptor left.
pub(crate) fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

impl Error {
    /// Wraps an I/O error with what was attempted on which path.
    pub fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        move |source| match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NOSPC) => Error::DiskFull,
            Some(rustix::io::Errno::DQUOT) => Error::DiskQuota,
            _ => Error::Io { what, path: path.into(), source: Arc::new(source) },
        }
    }

    /// Whether the process or the system has no file descriptor left.
    pub(crate) fn is_out_of_descriptors(&self) -> bool {
        matches!(self, Error::Io { source, .. } if is_out_of_descriptors(source))
    }

    /// Whether the same request may succeed later (4xx rather than 5xx).
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Error::ReadOnly(_)
                | Error::DiskFull
                | Error::DiskQuota
                | Error::Io { .. }
                | Error::Corrupt { .. }
                | Error::Closing
                | Error::MailboxGone
                | Error::MailboxMoving
                | Error::NoSuchPartition(_)
                | Error::InUse { .. }
                | Error::Unsuitable { .. }
        )
    }
}
