//! What can go wrong, said so that an operator knows what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Failures of a command of this program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file call failed.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A place that this program will not touch.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why, and what to do instead.
        reason: String,
    },
    /// Another program failed, or is missing.
    #[error("{command}: {said}")]
    Program {
        /// Its command line.
        command: String,
        /// What it said.
        said: String,
    },
    /// A results file that cannot be used.
    #[error("{}: {reason}", path.display())]
    Results {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine refused something.
    #[error("the store: {0}")]
    Store(#[from] engine::Error),
    /// The request makes no sense here.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C or SIGTERM.
    #[error("stopped")]
    Stopped,
}

/// With this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes the error of a failed call.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |error| Error::Io { action, path, error }
    }
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// [`Error::Program`] when it is missing or fails, with what it said.
pub fn run_program(name: &str, arguments: &[&str]) -> Result<String> {
    let text = || format!("{name} {}", arguments.join(" "));
    let output = Command::new(name)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| Error::Program { command: text(), said: error.to_string() })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [&output.stderr[..], &output.stdout[..]].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Err(Error::Program { command: text(), said: format!("{}: {said}", output.status) })
}

/// Whether a program is in the path, `/sbin` and `/usr/sbin` included.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/sbin", "/usr/sbin"].map(PathBuf::from))
        .any(|dir| dir.join(name).is_file())
}
