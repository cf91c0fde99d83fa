//! What can go wrong in a run: the network, the server's answer, or a check on what we got.

use std::path::PathBuf;

/// A run's failure; every variant ends the run with exit code 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("connection: {0}")]
    Connection(#[from] std::io::Error),
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the server closed the connection while we waited for {0}")]
    Closed(&'static str),
    #[error("the server said nothing for {limit:?} while we waited for {waiting_for}")]
    Silent { waiting_for: &'static str, limit: std::time::Duration },
    #[error("expected {expected}, got: {found}")]
    Answer { expected: String, found: String },
    #[error("check failed: {0}")]
    Check(String),
    #[error("{0}")]
    Usage(String),
    #[error("a client task died: {0}")]
    Task(#[from] tokio::task::JoinError),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Fails the run unless `expected == found`, naming both.
pub(crate) fn check_equal<T: PartialEq + std::fmt::Display>(
    what: &str,
    expected: T,
    found: T,
) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Check(format!("{what}: expected {expected}, got {found}")))
}
