//! Settings from one source, and the joining of sources.
//!
//! Invariants: of two sources the one that comes first decides, key by key; a list is one setting,
//! so the first source that has it gives all of it; keys of a [`GROUPS`] entry come from one source
//! together, since a certificate of the one has no key of the other.

use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use crate::origin::{Origin, Origins};
use crate::{Config, ConfigError, ConfigErrors, check};

/// Keys that mean something only together.
const GROUPS: &[&[&str]] = &[
    &["tls.certificate", "tls.key", "tls.imap", "tls.pop3", "tls.lmtp"],
    &["tls.client_ca", "tls.client_certificates", "tls.client_crl"],
    &["partition", "default_partition"],
    &["auth.mechanisms", "auth.anonymous_user"],
];

/// What one source sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer {
    tree: Table,
    origins: Origins,
}

/// A whole configuration, with the origin of everything that somebody set.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Where they came from.
    pub origins: Origins,
}

/// One value of a configuration, with its origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Dotted.
    pub key: String,
    /// As TOML writes it.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

impl Layer {
    /// Reads the text of a TOML file.
    ///
    /// # Errors
    /// It is not TOML.
    pub fn parse(text: &str, file: &Path) -> Result<Layer, ConfigErrors> {
        let whole = |error: toml::de::Error| {
            ConfigErrors::one(ConfigError::from_toml(file, text, String::new(), &error))
        };
        let tree: Table = toml::from_str(text).map_err(whole)?;
        let spans = DeTable::parse(text).map_err(whole)?;
        let mut layer = Layer { tree, origins: Origins::default() };
        let mut note = |key: String, at: usize| {
            let before = text.as_bytes().get(..at).unwrap_or_default();
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            layer.origins.0.insert(key, Origin::Line { file: file.to_owned(), line });
        };
        lines("", spans.get_ref(), &mut note);
        Ok(layer)
    }

    /// Sets the value of a dotted key; entries of a list of tables are made as they come:
    /// `listener[0].address`.
    pub fn set(&mut self, key: &str, value: impl Into<Value>, origin: Origin) {
        let mut at = &mut self.tree;
        let mut steps = key.split('.').peekable();
        while let Some(step) = steps.next() {
            let (name, index) = match step.split_once('[') {
                Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
                None => (step, None),
            };
            let empty = match index {
                _ if steps.peek().is_none() => {
                    at.insert(name.to_owned(), value.into());
                    break;
                }
                Some(_) => Value::Array(Vec::new()),
                None => Value::Table(Table::new()),
            };
            let slot = match at.entry(name.to_owned()).or_insert(empty) {
                Value::Array(entries) => {
                    let index = index.unwrap_or(0);
                    while entries.len() <= index {
                        entries.push(Value::Table(Table::new()));
                    }
                    entries.get_mut(index)
                }
                other => Some(other),
            };
            // A value where a table is wanted: what is set next comes to lie nowhere.
            let Some(Value::Table(inner)) = slot else { return };
            at = inner;
        }
        self.origins.0.insert(key.to_owned(), origin);
    }

    /// Whether it sets `key`, or something below it.
    pub fn has(&self, key: &str) -> bool {
        self.origins.has(key)
    }

    /// Puts what `lower` sets below what this layer sets.
    fn join(&mut self, lower: &Layer) {
        let barred: Vec<&str> = GROUPS
            .iter()
            .filter(|group| group.iter().any(|key| self.has(key)))
            .flat_map(|group| group.iter().copied())
            .collect();
        let mut taken = Vec::new();
        join_tables("", &mut self.tree, &lower.tree, &barred, &mut taken);
        for (key, origin) in &lower.origins.0 {
            let lies_in = |outer: &String| {
                key.strip_prefix(outer.as_str())
                    .is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']))
            };
            if taken.iter().any(lies_in) {
                self.origins.0.insert(key.clone(), origin.clone());
            }
        }
    }
}

fn join_tables(
    prefix: &str,
    upper: &mut Table,
    lower: &Table,
    barred: &[&str],
    taken: &mut Vec<String>,
) {
    for (name, value) in lower {
        let key = under(prefix, name);
        if barred.contains(&key.as_str()) {
            continue;
        }
        match (upper.get_mut(name), value) {
            (Some(Value::Table(upper)), Value::Table(lower)) => {
                join_tables(&key, upper, lower, barred, taken);
            }
            (Some(_), _) => {}
            // Piece by piece, as some of it may be barred.
            (None, Value::Table(lower)) => {
                let mut inner = Table::new();
                join_tables(&key, &mut inner, lower, barred, taken);
                upper.insert(name.clone(), Value::Table(inner));
            }
            (None, value) => {
                upper.insert(name.clone(), value.clone());
                taken.push(key);
            }
        }
    }
}

fn under(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn lines(prefix: &str, table: &DeTable<'_>, note: &mut dyn FnMut(String, usize)) {
    for (name, value) in table {
        let key = under(prefix, name.get_ref());
        value_lines(key, name.span().start, value, note);
    }
}

fn value_lines(
    key: String,
    at: usize,
    value: &Spanned<DeValue<'_>>,
    note: &mut dyn FnMut(String, usize),
) {
    let is_table = |entry: &Spanned<DeValue<'_>>| matches!(entry.get_ref(), DeValue::Table(_));
    match value.get_ref() {
        DeValue::Table(inner) => lines(&key, inner, note),
        DeValue::Array(entries) if !entries.is_empty() && entries.iter().all(is_table) => {
            for (i, entry) in entries.iter().enumerate() {
                value_lines(format!("{key}[{i}]"), entry.span().start, entry, note);
            }
        }
        _ => note(key, at),
    }
}

/// Joins sources, the first one first, and checks the outcome.
///
/// # Errors
/// All that is wrong, each with its place, its key, what was found and what was expected.
pub fn join(layers: &[Layer]) -> Result<Loaded, ConfigErrors> {
    let mut whole = Layer::default();
    layers.iter().for_each(|layer| whole.join(layer));
    let Layer { tree, origins } = whole;
    let mut config: Config =
        serde_path_to_error::deserialize(Value::Table(tree)).map_err(|error| {
            let key = error.path().to_string();
            ConfigErrors::one(ConfigError::from_tree(&origins, key, error.inner().message()))
        })?;
    config.auth.fit_mechanisms(origins.has("auth.mechanisms"));
    config.resolve_paths(&origins);
    check::check(&config, &origins)?;
    Ok(Loaded { config, origins })
}

impl Loaded {
    /// Every setting with its value and origin, as the configuration has them.
    pub fn shown(&self) -> Vec<Shown> {
        let mut out = Vec::new();
        // What was read can be written: there is no map with keys that are not text.
        if let Ok(tree) = Table::try_from(&self.config) {
            self.flatten("", &tree, &mut out);
        }
        out
    }

    fn flatten(&self, prefix: &str, table: &Table, out: &mut Vec<Shown>) {
        for (name, value) in table {
            let key = under(prefix, name);
            match value {
                Value::Table(inner) => self.flatten(&key, inner, out),
                Value::Array(entries) if entries.iter().any(Value::is_table) => {
                    for (i, entry) in entries.iter().enumerate() {
                        if let Value::Table(inner) = entry {
                            self.flatten(&format!("{key}[{i}]"), inner, out);
                        }
                    }
                }
                value => {
                    let origin = self.origins.of(&key).clone();
                    out.push(Shown { key, value: value.clone(), origin });
                }
            }
        }
    }

    /// A file of our own that says what all sources together say: what somebody set, each with its
    /// origin as a comment.
    pub fn to_toml(&self) -> String {
        let set: Vec<Shown> =
            self.shown().into_iter().filter(|one| one.origin != Origin::Default).collect();
        // Tables in the order of their first keys; those of the top come before all.
        let mut tables: Vec<(&str, String)> = vec![("", String::new())];
        for one in &set {
            let (table, name) = one.key.rsplit_once('.').unwrap_or(("", one.key.as_str()));
            let line = format!("{name} = {}  # {}\n", one.value, one.origin);
            match tables.iter_mut().find(|(t, _)| *t == table) {
                Some((_, lines)) => lines.push_str(&line),
                None => tables.push((table, line)),
            }
        }
        let mut text = String::new();
        for (table, lines) in tables {
            match table.split_once('[') {
                _ if table.is_empty() => {}
                Some((list, _)) => text.push_str(&format!("\n[[{list}]]\n")),
                None => text.push_str(&format!("\n[{table}]\n")),
            }
            text.push_str(&lines);
        }
        text
    }
}
