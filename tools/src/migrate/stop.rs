//! How far an error reaches: a moment, a folder, a user.

use crate::failure::{Failed, Kind};

/// Why work stopped.
#[derive(Debug)]
pub enum Stop {
    /// A connection, or a server that is busy: the same is tried again on new connections.
    Moment(String),
    /// This folder does not come over; the others do.
    Folder(String),
    /// The user's run is over.
    User(String),
}

impl From<client::Error> for Stop {
    fn from(error: client::Error) -> Stop {
        match &error {
            _ if error.is_temporary() => Stop::Moment(format!("source: {error}")),
            client::Error::No { .. } => Stop::Folder(format!("source: {error}")),
            client::Error::Sink(message) => Stop::Moment(message.clone()),
            _ => Stop::User(format!("source: {error}")),
        }
    }
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Stop {
        match failed.kind() {
            Kind::Temporary | Kind::Changed => Stop::Moment(failed.to_string()),
            Kind::Data | Kind::Exists => Stop::Folder(failed.to_string()),
            _ => Stop::User(failed.to_string()),
        }
    }
}
