//! What went wrong with a server elsewhere, and whether trying again may help.

use std::io;

/// Why a server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection, or there is no more of one.
    #[error("{0}")]
    Connection(String),
    /// The certificate is not one that is trusted, or TLS cannot be begun.
    #[error("TLS: {0}")]
    Tls(String),
    /// What the server sent is not the protocol.
    #[error("{0}")]
    Protocol(String),
    /// The server says that name and password are not good.
    #[error("login refused: {0}")]
    Refused(String),
    /// The server says that it cannot do it now.
    #[error("not now: {0}")]
    Unavailable(String),
    /// The server answered NO or BAD to a command.
    #[error("{command}: {text}")]
    No {
        /// The command's name.
        command: String,
        /// The response code's name, in upper case; empty without one.
        code: String,
        /// What the server said.
        text: String,
    },
    /// Not the server's fault: where its bytes were to go.
    #[error("{0}")]
    Sink(String),
}

impl Error {
    /// Whether the same may go well on a new connection, after a while.
    pub fn is_temporary(&self) -> bool {
        match self {
            Error::Connection(_) | Error::Unavailable(_) => true,
            // Servers break off in the middle of a line when they are killed.
            Error::Protocol(_) => true,
            Error::No { code, .. } => {
                ["UNAVAILABLE", "INUSE", "SERVERBUG", "LIMIT"].contains(&code.as_str())
            }
            Error::Tls(_) | Error::Refused(_) | Error::Sink(_) => false,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        let timed_out = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        // What rustls found wrong comes wrapped.
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(tls) if !matches!(tls, rustls::Error::AlertReceived(_)) => {
                Error::Tls(tls.to_string())
            }
            _ if timed_out => Error::Connection("no answer in time".to_owned()),
            _ => Error::Connection(error.to_string()),
        }
    }
}
