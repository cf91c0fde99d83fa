//! Where settings came from.
//!
//! Keys are dotted; an entry of a list of tables has its place in brackets: `listener[0].address`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a setting came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// A line of a file, counted from 1.
    Line {
        /// The file.
        file: PathBuf,
        /// Where in it.
        line: usize,
    },
    /// An environment variable, by its name.
    Environment(&'static str),
    /// What another server does as long as its own files say nothing else; the text says of what.
    Implied(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Implied(what) => f.write_str(what),
        }
    }
}

/// The origins of all settings that somebody set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(pub(crate) BTreeMap<String, Origin>);

impl Origins {
    /// Where the value of `key` came from.
    pub fn of(&self, key: &str) -> &Origin {
        self.0.get(key).unwrap_or(&Origin::Default)
    }

    /// Whether somebody set `key`, or something below it.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key) || self.below(key).is_some()
    }

    /// Keys that somebody set, with their origins.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.0.iter().map(|(key, origin)| (key.as_str(), origin))
    }

    /// The origin that says most about `key`: its own, else the first of what lies below it, else
    /// that of what it lies in.
    pub(crate) fn nearest(&self, key: &str) -> Option<&Origin> {
        if let Some(found) = self.0.get(key).or_else(|| self.below(key)) {
            return Some(found);
        }
        let (outer, _) = key.rsplit_once(['.', '['])?;
        self.nearest(outer)
    }

    /// The origin of the first key that lies below `key`.
    fn below(&self, key: &str) -> Option<&Origin> {
        let inside = |(k, _): &(&String, &Origin)| {
            k.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        let near = self.0.range(key.to_owned()..).take_while(|(k, _)| k.starts_with(key));
        near.into_iter().find(inside).map(|(_, origin)| origin)
    }

    /// The directory that a relative path under `key` is taken from.
    pub(crate) fn base(&self, key: &str) -> &Path {
        match self.0.get(key) {
            Some(Origin::Line { file, .. }) => file.parent().unwrap_or(Path::new("")),
            _ => Path::new(""),
        }
    }
}
