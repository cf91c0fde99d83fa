//! Which files there are to read, and the order in which they decide: a file of our own first, then
//! Courier's, then Cyrus's.

use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, ConfigErrors, Layer, Loaded, Origin, Origins};

use crate::draft::{Draft, Remark};
use crate::{Files, courier, cyrus};

/// Where the store's state is when no file says so and systemd does not either.
const STATE_DIR: &str = "/var/lib/cursus";

/// The files that a configuration is made of. None of them: the embedded default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Our own file.
    pub config: Option<PathBuf>,
    /// Courier's directory.
    pub courier: Option<PathBuf>,
    /// Cyrus's `imapd.conf`.
    pub imapd_conf: Option<PathBuf>,
    /// Cyrus's `cyrus.conf`.
    pub cyrus_conf: Option<PathBuf>,
}

/// A configuration with what other servers' files say that has no effect.
#[derive(Debug)]
pub struct Inherited {
    /// Settings and origins.
    pub loaded: Loaded,
    /// What was not taken, in the order of the files.
    pub remarks: Vec<Remark>,
}

impl Sources {
    /// Whether there is no file at all.
    pub fn is_empty(&self) -> bool {
        *self == Sources::default()
    }

    /// Whether there are files of another server among them.
    pub fn inherits(&self) -> bool {
        self.courier.is_some() || self.imapd_conf.is_some() || self.cyrus_conf.is_some()
    }

    /// For messages: the first of the files.
    pub fn name(&self) -> String {
        let files = [&self.config, &self.courier, &self.imapd_conf, &self.cyrus_conf];
        let first = files.into_iter().flatten().next();
        first.map_or_else(|| "embedded default".to_owned(), |file| file.display().to_string())
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// All that is wrong: each with file, line, option or key, and what would do.
    pub fn read(&self, files: &dyn Files) -> Result<Inherited, NotTaken> {
        if self.is_empty() {
            let config = Config::embedded(&Config::embedded_dir());
            let loaded = Loaded { config, origins: Origins::default() };
            return Ok(Inherited { loaded, remarks: Vec::new() });
        }
        let mut layers = Vec::new();
        let mut errors = Vec::new();
        let mut remarks = Vec::new();
        if let Some(file) = &self.config {
            match read_own(file, files) {
                Ok(layer) => layers.push(layer),
                Err(wrong) => errors.extend(wrong.0),
            }
        }
        let mut take = |draft: Draft| {
            layers.push(draft.layer);
            errors.extend(draft.errors);
            remarks.extend(draft.remarks);
        };
        if let Some(dir) = &self.courier {
            take(courier::read(dir, files));
        }
        if self.imapd_conf.is_some() || self.cyrus_conf.is_some() {
            take(cyrus::read(self.imapd_conf.as_deref(), self.cyrus_conf.as_deref(), files));
        }
        if self.inherits() {
            layers.push(state_dir());
        }
        if !errors.is_empty() {
            return Err(NotTaken { remarks: in_order(remarks), errors: ConfigErrors(errors) });
        }
        let remarks = in_order(remarks);
        match config::join(&layers) {
            Ok(loaded) => Ok(Inherited { loaded, remarks }),
            Err(errors) => Err(NotTaken { remarks, errors }),
        }
    }
}

fn in_order(mut remarks: Vec<Remark>) -> Vec<Remark> {
    remarks.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    remarks.dedup();
    remarks
}

/// Why there is no configuration; what else was found comes before it, so that one reading is enough.
#[derive(Debug)]
pub struct NotTaken {
    /// What has no effect.
    pub remarks: Vec<Remark>,
    /// What is wrong.
    pub errors: ConfigErrors,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.remarks.iter().try_for_each(|remark| writeln!(f, "{remark}"))?;
        self.errors.fmt(f)
    }
}

impl std::error::Error for NotTaken {}

fn read_own(file: &Path, files: &dyn Files) -> Result<Layer, ConfigErrors> {
    let text = files.text(file).map_err(|source| {
        ConfigErrors(vec![ConfigError::Read { file: file.to_owned(), source }])
    })?;
    Layer::parse(&text, file)
}

/// Where the state is, as other servers' files have no such thing.
fn state_dir() -> Layer {
    let mut layer = Layer::default();
    match Config::systemd_dir() {
        Some(dir) => {
            let dir = dir.to_string_lossy().into_owned();
            layer.set("state_dir", dir, Origin::Environment("STATE_DIRECTORY"));
        }
        None => {
            let what = "beside another server's files".to_owned();
            layer.set("state_dir", STATE_DIR, Origin::Implied(what));
        }
    }
    layer
}
