//! Tagged answers, and the store's errors as response codes.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use engine::Error;
use protocol::imap::encode::{Code, Status};

use crate::word::Leave;

/// The tagged answer to a command.
#[derive(Debug)]
pub(super) struct Reply {
    /// OK, NO or BAD.
    pub(super) status: Status,
    /// In brackets before the text.
    pub(super) code: Option<Code>,
    /// For people.
    pub(super) text: Cow<'static, str>,
    /// Not written at all.
    pub(super) silent: bool,
}

impl Reply {
    /// Done.
    pub(super) fn ok(text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { status: Status::Ok, code: None, text: text.into(), silent: false }
    }

    /// Understood, not done.
    pub(super) fn no(text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { status: Status::No, code: None, text: text.into(), silent: false }
    }

    /// Not understood, or not allowed in this state.
    pub(super) fn bad(text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { status: Status::Bad, code: None, text: text.into(), silent: false }
    }

    /// Refused to a login that may read and nothing else.
    pub(super) fn read_only_login() -> Reply {
        Reply::no("This login can read and nothing else").word("NOPERM")
    }

    /// Refused for lack of rights on a mailbox that the user may see.
    pub(super) fn no_permission() -> Reply {
        Reply::no("You have no right to do that").word("NOPERM")
    }

    /// Nothing: the command has answered itself.
    pub(super) fn silent() -> Reply {
        Reply { silent: true, ..Reply::ok("") }
    }

    /// With a response code that has no arguments.
    pub(super) fn word(self, word: &'static str) -> Reply {
        self.code(Code::Word(word))
    }

    /// With a response code.
    pub(super) fn code(self, code: Code) -> Reply {
        Reply { code: Some(code), ..self }
    }

    /// The answer to a failure of the store. `missing` is the code for a mailbox that does not
    /// exist: TRYCREATE where the client could create it first, else NONEXISTENT.
    ///
    /// Says nothing of paths: those go to the log.
    pub(super) fn failure(error: &Error, missing: &'static str) -> Reply {
        match error {
            Error::NoSuchMailbox => Reply::no("No such mailbox").word(missing),
            Error::MailboxExists => Reply::no("Mailbox already exists").word("ALREADYEXISTS"),
            Error::NotAllowed(_) | Error::Name(_) | Error::NoSuchPartition(_) => {
                Reply::no(error.to_string()).word("CANNOT")
            }
            Error::OverQuota => Reply::no("Quota exceeded").word("OVERQUOTA"),
            Error::TooBig { .. } => Reply::no(error.to_string()).word("TOOBIG"),
            // RFC 5257 section 4.5.
            Error::AnnotationTooBig { .. } => Reply::no(error.to_string()).word("ANNOTATE TOOBIG"),
            Error::AnnotationTooMany { .. } => {
                Reply::no(error.to_string()).word("ANNOTATE TOOMANY")
            }
            Error::NoSuchPart => Reply::bad("No such body part"),
            Error::AclTooMany { .. } => Reply::no(error.to_string()).word("LIMIT"),
            Error::TooManyKeywords { .. } => Reply::no(error.to_string()).word("LIMIT"),
            Error::Expunged(_) => Reply::no("Message is expunged").word("EXPUNGEISSUED"),
            Error::MailboxGone => Reply::no("Mailbox was deleted").word("NONEXISTENT"),
            // RFC 9208 section 4.4.1 has OVERQUOTA for every resource that is used up.
            Error::DiskFull => Reply::no("No space left in the mail store").word("OVERQUOTA"),
            Error::DiskQuota => Reply::no("The mail store's quota is used up").word("OVERQUOTA"),
            Error::InUse { holder, .. } => {
                Reply::no(format!("Your mail is open on another server: {holder}")).word("INUSE")
            }
            // RFC 5530: what the client asked for cannot be served as it was stored.
            Error::Corrupt { .. } => Reply::no("Damaged in the mail store").word("CORRUPTION"),
            _ => Reply::no("The mail store has a temporary problem").word("UNAVAILABLE"),
        }
    }
}

/// Why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client said LOGOUT, and was answered.
    Logout,
    /// The client goes on in SMAP.
    Smap,
    /// The client closed the connection.
    Closed,
    /// Say BYE with this text first.
    Bye(&'static str),
    /// The operator ends sessions: say BYE with this text first, as an ALERT.
    Told(Arc<str>),
    /// The connection failed.
    Io(io::Error),
}

impl From<Leave> for End {
    fn from(leave: Leave) -> End {
        match leave {
            Leave::Stopping => End::Bye("Server is shutting down"),
            Leave::Told(text) => End::Told(text),
        }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Io(error)
    }
}

/// What a command comes to.
pub(super) type Outcome = Result<Reply, End>;
