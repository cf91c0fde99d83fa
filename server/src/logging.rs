//! Log lines: text for people or JSON for machines, on standard error.
//!
//! Invariant: no line holds a password. Sessions log through [`crate::services::Services`], whose
//! events have no field for one.

use config::{Log, LogFormat};
use inherit::{Remark, RemarkKind};
use tracing_subscriber::EnvFilter;

/// Environment variable that goes before `log.level`.
pub const FILTER_VARIABLE: &str = "CURSUS_LOG";

/// Begins to log. Call once.
///
/// # Errors
/// If the environment variable holds something that is not a filter; names both.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) => EnvFilter::try_new(&text).map_err(|e| {
            format!("{FILTER_VARIABLE}={text:?}: {e}, expected levels such as info,cursus=debug")
        })?,
        Err(_) => EnvFilter::new(log.level.as_str()),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => {
            builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init()
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let reason = panic.payload_as_str().unwrap_or("unknown");
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(target: "cursus", reason, at, thread = thread.name(), %backtrace,
            "a defect of the server: please report it");
    }));
    Ok(())
}

/// Says what other servers' files ask for and does not have an effect.
pub fn remarks(remarks: &[Remark]) {
    for Remark { file, line, option, kind, text } in remarks {
        let file = file.display();
        match kind {
            RemarkKind::NotServed => {
                tracing::warn!(target: "cursus::config", %file, line, option, reason = text, "not served");
            }
            RemarkKind::NotNeeded => {
                tracing::info!(target: "cursus::config", %file, line, option, reason = text, "not needed");
            }
        }
    }
}
