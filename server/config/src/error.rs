//! What can be wrong with a configuration. Each error names the key, what was found and what was
//! expected, so that an operator can mend it without reading the code.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Origin, Origins};

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// The configuration file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML, a key is unknown, or a value has the wrong type.
    #[error("{}:{line}: {}{message}", file.display(), with_colon(key))]
    Syntax {
        /// The configuration file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Dotted path of the key; empty where the text is not TOML at all.
        key: String,
        /// What was found and what was expected.
        message: String,
    },
    /// A value doesn't fit its key, or doesn't go with others.
    #[error("{place}: {key}: found {found}, expected {expected}")]
    Value {
        /// File and line, or what else the value came from.
        place: String,
        /// Dotted path of the key.
        key: String,
        /// The value, or "nothing".
        found: String,
        /// What would do.
        expected: String,
    },
    /// A setting of another server's file is not understood, or stands for what is not served.
    #[error("{}{}: {option}: {reason}", file.display(), at_line(*line))]
    Refused {
        /// The other server's file.
        file: PathBuf,
        /// Counted from 1; 0: the file as a whole.
        line: usize,
        /// The option with its value, or the line as far as it was understood.
        option: String,
        /// Why, and what to do.
        reason: String,
    },
}

fn at_line(line: usize) -> String {
    if line == 0 { String::new() } else { format!(":{line}") }
}

fn with_colon(key: &str) -> String {
    // serde_path_to_error writes "." for the top of the file.
    if key.is_empty() || key == "." { String::new() } else { format!("{key}: ") }
}

impl ConfigError {
    /// A wrong type, an unknown key or a missing one, in the joined tree.
    pub(crate) fn from_tree(origins: &Origins, key: String, message: &str) -> ConfigError {
        // serde names the table and, in its message, the key within.
        let inner = message.strip_prefix("unknown field `").and_then(|m| m.split('`').next());
        let table = if key == "." { "" } else { key.as_str() };
        let full = match inner {
            Some(name) if table.is_empty() => name.to_owned(),
            Some(name) => format!("{table}.{name}"),
            None => table.to_owned(),
        };
        match origins.nearest(&full).or_else(|| origins.0.values().next()) {
            Some(Origin::Line { file, line }) => {
                let (file, line) = (file.clone(), *line);
                ConfigError::Syntax { file, line, key, message: message.to_owned() }
            }
            other => ConfigError::Value {
                place: other.map_or_else(|| "configuration".to_owned(), Origin::to_string),
                key: full,
                found: "nothing that will do".to_owned(),
                expected: message.to_owned(),
            },
        }
    }

    pub(crate) fn from_toml(
        file: &Path,
        text: &str,
        key: String,
        error: &toml::de::Error,
    ) -> ConfigError {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count() + 1;
        ConfigError::Syntax {
            file: file.to_owned(),
            line,
            key,
            message: error.message().to_owned(),
        }
    }
}

/// Everything that is wrong, one a line when displayed. Never empty.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    pub(crate) fn one(error: ConfigError) -> ConfigErrors {
        ConfigErrors(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
