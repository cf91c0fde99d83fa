//! `imapd.conf`: lines `name: value`.
//!
//! `#` begins a comment line, a backslash at the end of a line goes on in the next one, `@include:`
//! names another file, `service_name: value` goes before `name: value` in the service of that name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Damage;
use super::paths::Spread;

const FORMAT: &str = "imapd.conf";
/// Files within files at most.
const DEPTH_MAX: usize = 16;

/// The options of a server, as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImapdConf {
    options: BTreeMap<String, String>,
    written: Vec<Written>,
}

/// An option where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// In lower case.
    pub name: String,
    /// Without blanks around it.
    pub value: String,
    /// The included file that has it, as it is named there; `None`: the first one.
    pub file: Option<String>,
    /// Its first line, counted from 1.
    pub line: usize,
}

impl ImapdConf {
    /// Reads the text of a file; `load` gives the text of one that it includes.
    ///
    /// # Errors
    /// A line without a colon; files that cannot be had, or that include each other.
    pub fn read(
        text: &str,
        load: &mut dyn FnMut(&str) -> std::io::Result<String>,
    ) -> Result<ImapdConf, Damage> {
        let mut conf = ImapdConf::default();
        conf.add(text, load, None, 0)?;
        Ok(conf)
    }

    fn add(
        &mut self,
        text: &str,
        load: &mut dyn FnMut(&str) -> std::io::Result<String>,
        file: Option<&str>,
        depth: usize,
    ) -> Result<(), Damage> {
        let wrong = |line: &str, expected| Damage::new(FORMAT, 0, expected, line.to_owned());
        let mut whole = String::new();
        let mut first = None;
        for (i, line) in text.lines().enumerate() {
            first.get_or_insert(i + 1);
            if let Some(begun) = line.strip_suffix('\\') {
                whole.push_str(begun);
                continue;
            }
            whole.push_str(line);
            let line = std::mem::take(&mut whole);
            let line = line.trim();
            let number = first.take().unwrap_or(i + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(wrong(line, "name: value"));
            };
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            if name != "@include" {
                self.written.push(Written {
                    name: name.clone(),
                    value: value.to_owned(),
                    file: file.map(str::to_owned),
                    line: number,
                });
                self.options.insert(name, value.to_owned());
                continue;
            }
            if depth == DEPTH_MAX {
                return Err(wrong(line, "fewer files within files"));
            }
            let more = load(value).map_err(|error| {
                Damage::new(FORMAT, 0, "a file to include", format!("{value}: {error}"))
            })?;
            self.add(&more, load, Some(value), depth + 1)?;
        }
        Ok(())
    }

    /// All options as they are written, in that order: of one name the last one counts.
    pub fn written(&self) -> &[Written] {
        &self.written
    }

    /// All options with their values, by name.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of an option, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of an option for a service.
    pub fn get_for(&self, service: &str, name: &str) -> Option<&str> {
        self.get(&format!("{service}_{name}")).or_else(|| self.get(name))
    }

    /// A yes or no.
    ///
    /// # Errors
    /// Another word than those that Cyrus takes.
    pub fn switch(&self, name: &'static str, default: bool) -> Result<bool, Damage> {
        match self.get(name) {
            None => Ok(default),
            Some("1" | "yes" | "on" | "t" | "true") => Ok(true),
            Some("0" | "no" | "off" | "f" | "false") => Ok(false),
            Some(other) => Err(Damage::new(FORMAT, 0, "yes or no", format!("{name}: {other}"))),
        }
    }

    /// `configdirectory`, which has no default.
    ///
    /// # Errors
    /// It is missing.
    pub fn config_directory(&self) -> Result<PathBuf, Damage> {
        let value = self.get("configdirectory");
        value.map(PathBuf::from).ok_or_else(|| Damage::new(FORMAT, 0, "configdirectory", "none"))
    }

    /// Partitions by name, with their roots.
    pub fn partitions(&self) -> BTreeMap<&str, PathBuf> {
        let root =
            |(name, value)| Some((str::strip_prefix(name, "partition-")?, PathBuf::from(value)));
        self.options().filter_map(root).collect()
    }

    /// How directories are spread.
    ///
    /// # Errors
    /// As of [`ImapdConf::switch`].
    pub fn spread(&self) -> Result<Spread, Damage> {
        Ok(Spread {
            hashed: self.switch("hashimapspool", false)?,
            full_hash: self.switch("fulldirhash", false)?,
        })
    }

    /// The path of a database, where an option names it; else below `configdirectory`.
    ///
    /// # Errors
    /// As of [`ImapdConf::config_directory`].
    pub fn database(&self, option: &str, name: &str) -> Result<PathBuf, Damage> {
        match self.get(option) {
            Some(path) => Ok(PathBuf::from(path)),
            None => Ok(self.config_directory()?.join(name)),
        }
    }
}
