//! What comes out of reading another server's files: settings with their origins, remarks on what
//! was not taken, refusals.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use config::{ConfigError, Layer, Origin};
use toml::Value;

use crate::row::{Fate, Row};

/// One option that a file sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// Its name.
    pub(crate) name: String,
    /// As written, without quotes.
    pub(crate) value: String,
    /// The file.
    pub(crate) file: Rc<Path>,
    /// Counted from 1.
    pub(crate) line: usize,
}

impl Set {
    pub(crate) fn origin(&self) -> Origin {
        Origin::Line { file: self.file.to_path_buf(), line: self.line }
    }

    fn shown(&self) -> String {
        format!("{} = {:?}", self.name, self.value)
    }
}

/// Something that a file says and that has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1; 0: the file as a whole.
    pub line: usize,
    /// The option with its value, or the service.
    pub option: String,
    /// How much it matters.
    pub kind: RemarkKind,
    /// Why it has no effect.
    pub text: String,
}

/// How much a remark matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemarkKind {
    /// Something is missing that the file asks for.
    NotServed,
    /// Nothing is missing.
    NotNeeded,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            RemarkKind::NotServed => "not served",
            RemarkKind::NotNeeded => "not needed",
        };
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}: {word}: {}", self.option, self.text)
    }
}

/// What is known so far.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) layer: Layer,
    pub(crate) remarks: Vec<Remark>,
    pub(crate) errors: Vec<ConfigError>,
}

impl Draft {
    /// A setting that an option stands for.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>, by: &Set) {
        self.layer.set(key, value, by.origin());
    }

    /// A setting that is so as long as the other server's files say nothing else.
    pub(crate) fn imply(&mut self, key: &str, value: impl Into<Value>, what: &str) {
        self.layer.set(key, value, Origin::Implied(what.to_owned()));
    }

    /// By an option that is set, or else implied.
    pub(crate) fn set_or_imply(
        &mut self,
        key: &str,
        value: impl Into<Value>,
        by: Option<&Set>,
        what: &str,
    ) {
        let origin = by.map_or_else(|| Origin::Implied(what.to_owned()), Set::origin);
        self.layer.set(key, value, origin);
    }

    pub(crate) fn not_served(&mut self, set: &Set, text: impl Into<String>) {
        self.remark(set, RemarkKind::NotServed, text);
    }

    pub(crate) fn not_needed(&mut self, set: &Set, text: impl Into<String>) {
        self.remark(set, RemarkKind::NotNeeded, text);
    }

    fn remark(&mut self, set: &Set, kind: RemarkKind, text: impl Into<String>) {
        self.remarks.push(Remark {
            file: set.file.to_path_buf(),
            line: set.line,
            option: set.shown(),
            kind,
            text: text.into(),
        });
    }

    /// What is missing of what the other server does when its file says nothing.
    pub(crate) fn default_not_served(&mut self, file: &Path, row: &Row, text: &str) {
        self.remarks.push(Remark {
            file: file.to_owned(),
            line: 0,
            option: format!("{} = {:?}, by default", row.name, row.default),
            kind: RemarkKind::NotServed,
            text: text.to_owned(),
        });
    }

    pub(crate) fn refuse(&mut self, set: &Set, reason: impl Into<String>) {
        self.refuse_line(&set.file, set.line, &set.shown(), reason);
    }

    pub(crate) fn refuse_line(
        &mut self,
        file: &Path,
        line: usize,
        option: &str,
        reason: impl Into<String>,
    ) {
        self.errors.push(ConfigError::Refused {
            file: file.to_owned(),
            line,
            option: option.to_owned(),
            reason: reason.into(),
        });
    }

    /// What a row says of an option that nothing else is done about. `is_off`: whether the value
    /// means that the thing isn't wanted.
    pub(crate) fn by_row(&mut self, row: &Row, set: &Set, is_off: bool) {
        let idle = is_off || set.value == row.default;
        match row.fate {
            Fate::Honoured(_) => {}
            Fate::NotNeeded(text) => self.not_needed(set, text),
            Fate::NotServed(_) | Fate::Refused(_) if idle => {
                self.not_needed(set, "it is off, or as by default");
            }
            Fate::NotServed(text) => self.not_served(set, text),
            Fate::Refused(text) => self.refuse(set, text),
        }
    }
}
