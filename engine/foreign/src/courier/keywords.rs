//! `courierimapkeywords/`: `:list`, and the updates beside it.
//!
//! `:list` names keywords, one a line; then an empty line; then `BASENAME:n n` for each message
//! that has some. An update is a file named as the message, `NAME` or (merged before) `.N.NAME`
//! with N the time in units of [`UNIT_SECONDS`]; it holds the message's whole set, one a line.

use std::collections::BTreeMap;

use crate::lines::{BadLine, number, numbered};

const FORMAT: &str = "courierimapkeywords/:list";

/// Seconds of a unit of time in the names of merged updates.
pub const UNIT_SECONDS: i64 = 300;

/// Name of the list in the directory.
pub const LIST_NAME: &str = ":list";

/// `:list`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Keywords of each message that has some, by base name.
    pub messages: BTreeMap<Vec<u8>, Vec<String>>,
}

impl List {
    /// Reads the list.
    ///
    /// # Errors
    /// Keywords that are not UTF-8, numbers of keywords that have no name.
    pub fn read(bytes: &[u8]) -> Result<List, BadLine> {
        let mut names: Vec<String> = Vec::new();
        let mut list = List::default();
        let mut in_names = true;
        for (at, line) in numbered(bytes) {
            if in_names {
                in_names = !line.is_empty();
                if in_names {
                    let name = std::str::from_utf8(line)
                        .map_err(|_| BadLine::new(FORMAT, at, "a keyword in UTF-8", line))?;
                    names.push(name.to_owned());
                }
                continue;
            }
            let bad = || BadLine::new(FORMAT, at, "a file name, ':' and numbers of keywords", line);
            let colon = line.iter().rposition(|b| *b == b':').ok_or_else(bad)?;
            let mut words = Vec::new();
            for digits in line[colon + 1..].split(|b| *b == b' ').filter(|d| !d.is_empty()) {
                let name = number::<usize>(digits).and_then(|n| names.get(n)).ok_or_else(bad)?;
                if !words.contains(name) {
                    words.push(name.clone());
                }
            }
            list.messages.insert(line[..colon].to_vec(), words);
        }
        list.messages.retain(|_, words| !words.is_empty());
        Ok(list)
    }

    /// The bytes of the list. Names of files or keywords that no line can hold are left out.
    pub fn write(&self) -> Vec<u8> {
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut names = Vec::new();
        let mut lines = Vec::new();
        let holds = |word: &str| !word.is_empty() && !word.contains('\n');
        for (base, words) in self.messages.iter().filter(|(base, _)| !base.contains(&b'\n')) {
            let mut line = base.clone();
            for (i, word) in words.iter().filter(|word| holds(word)).enumerate() {
                let next = names.len();
                let n = *numbers.entry(word).or_insert(next);
                if n == next {
                    names.push(word);
                }
                line.extend_from_slice(format!("{}{n}", if i == 0 { ':' } else { ' ' }).as_bytes());
            }
            if line.len() > base.len() {
                line.push(b'\n');
                lines.push(line);
            }
        }
        let mut out: Vec<u8> =
            names.iter().flat_map(|name| [name, "\n"].concat().into_bytes()).collect();
        out.push(b'\n');
        out.extend(lines.concat());
        out
    }
}

/// An update in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Its file.
    pub file: Vec<u8>,
    /// The message.
    pub base: Vec<u8>,
    /// When it was merged into the list, in units of time; `None`: not yet.
    pub merged: Option<i64>,
}

/// What a file in the directory is; `None` for the list and what is no update.
pub fn update(file: &[u8]) -> Option<Update> {
    let of =
        |base: &[u8], merged| Some(Update { file: file.to_vec(), base: base.to_vec(), merged });
    match file.strip_prefix(b".") {
        None if file.is_empty() || file.starts_with(b":") => None,
        None => of(file, None),
        Some(rest) => {
            let dot = rest.iter().position(|b| *b == b'.')?;
            let time = number::<i64>(&rest[..dot])?;
            let base = &rest[dot + 1..];
            (!base.is_empty()).then(|| of(base, Some(time))).flatten()
        }
    }
}

/// Of several updates of each message the one that counts: what was not merged yet, else the one
/// merged last.
pub fn newest(updates: Vec<Update>) -> BTreeMap<Vec<u8>, Update> {
    let mut out: BTreeMap<Vec<u8>, Update> = BTreeMap::new();
    let rank = |update: &Update| update.merged.unwrap_or(i64::MAX);
    for update in updates {
        match out.get(&update.base) {
            Some(known) if rank(known) >= rank(&update) => {}
            _ => drop(out.insert(update.base.clone(), update)),
        }
    }
    out
}

/// Keywords that an update holds.
///
/// # Errors
/// Keywords that are not UTF-8.
pub fn read_update(bytes: &[u8]) -> Result<Vec<String>, BadLine> {
    let mut words: Vec<String> = Vec::new();
    for (at, line) in numbered(bytes).filter(|(_, line)| !line.is_empty()) {
        let word = std::str::from_utf8(line)
            .map_err(|_| BadLine::new("courierimapkeywords", at, "a keyword in UTF-8", line))?;
        if !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    Ok(words)
}

/// The bytes of an update.
pub fn write_update(words: &[String]) -> Vec<u8> {
    words.iter().flat_map(|word| format!("{word}\n").into_bytes()).collect()
}
