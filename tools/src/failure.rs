//! What went wrong, and the exit status that says so. The table is [`crate::cli::EXIT_STATUS`].

use std::process::ExitCode;

use admin::client::ClientError;
use admin::{Failure, FailureCode};
use auth::users::EditError;

/// Why the command did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    kind: Kind,
    message: String,
}

/// Kinds of failure that scripts can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not done, or done in part.
    Incomplete,
    /// A value, a message or a name that the store refuses.
    Data,
    /// No such user.
    NoUser,
    /// Neither a server nor the store can be reached.
    Unreachable,
    /// Exists already.
    Exists,
    /// May work later.
    Temporary,
    /// The user's limit would be passed.
    OverQuota,
    /// The mailbox is not what it was a moment ago; may work when asked anew.
    Changed,
    /// Wrong configuration.
    Config,
}

impl Failed {
    /// A failure from its parts.
    pub fn new(kind: Kind, message: impl Into<String>) -> Failed {
        Failed { kind, message: message.into() }
    }

    /// Status 1 where anything was found, which is told already.
    pub fn unless_clean(findings: usize) -> Result<(), Failed> {
        match findings {
            0 => Ok(()),
            n => Err(Failed::new(Kind::Incomplete, format!("{n} findings"))),
        }
    }

    /// Which kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Prints it and gives the exit status.
    pub fn report(&self, json: bool) -> ExitCode {
        if json {
            eprintln!("{}", serde_json::json!({ "error": self.message }));
        } else {
            eprintln!("cursus: {}", self.message);
        }
        ExitCode::from(self.status())
    }

    fn status(&self) -> u8 {
        match self.kind {
            Kind::Incomplete => 1,
            Kind::Data | Kind::OverQuota => 65,
            Kind::NoUser => 67,
            Kind::Unreachable => 69,
            Kind::Exists => 73,
            Kind::Temporary | Kind::Changed => 75,
            Kind::Config => 78,
        }
    }
}

impl From<inherit::NotTaken> for Failed {
    fn from(errors: inherit::NotTaken) -> Failed {
        Failed::new(Kind::Config, errors.to_string())
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        let kind = match failure.code {
            FailureCode::NoSuchUser => Kind::NoUser,
            FailureCode::Exists => Kind::Exists,
            FailureCode::Temporary => Kind::Temporary,
            FailureCode::Changed => Kind::Changed,
            FailureCode::OverQuota => Kind::OverQuota,
            FailureCode::NeedsServer => Kind::Unreachable,
            FailureCode::BadRequest
            | FailureCode::NoSuchMailbox
            | FailureCode::NotAllowed
            | FailureCode::TooBig => Kind::Data,
            FailureCode::Version => Kind::Incomplete,
        };
        Failed::new(kind, failure.message)
    }
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Failed {
        match error {
            ClientError::Failure(failure) => failure.into(),
            other => Failed::new(Kind::Temporary, other.to_string()),
        }
    }
}

impl From<EditError> for Failed {
    fn from(error: EditError) -> Failed {
        let kind = match &error {
            EditError::Exists(_) => Kind::Exists,
            EditError::Unknown(_) => Kind::NoUser,
            EditError::Password(_) | EditError::Line(_) => Kind::Data,
            EditError::Io { .. } => Kind::Incomplete,
        };
        Failed::new(kind, error.to_string())
    }
}

impl From<auth::name::NameError> for Failed {
    fn from(error: auth::name::NameError) -> Failed {
        Failed::new(Kind::Data, error.to_string())
    }
}
