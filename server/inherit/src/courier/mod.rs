//! Courier's files in `/etc/courier`, read as its own programs read them.
//!
//! imapd sources `imapd-ssl` and `imapd`, imapd-ssl the same in the other order, so that what both
//! set has two values; the processes that both start have `imapd-ssl`'s. pop3d likewise.

mod accounts;
mod service;
mod shell;
pub mod table;
mod transport;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use config::{Protocol, SaslMechanism};
use toml::Value;

use crate::draft::{Draft, Set};
use crate::row::{self, Row};
use crate::{Files, courier::service::Service};
use shell::Variables;
use table::FILES;

/// What the files say, while it is brought together.
pub(crate) struct Reading<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) files: &'a dyn Files,
    pub(crate) draft: Draft,
    /// Settings that IMAP and POP3 have in common, with who set them first.
    common: BTreeMap<String, (Value, Set)>,
    /// Which of the two set them.
    setters: HashSet<(String, Protocol)>,
    /// Which of them are served, and whether with TLS.
    served: Vec<(Protocol, bool)>,
    /// Words that CAPABILITY does not tell, and who says so.
    suppressed: Vec<(&'static str, Set)>,
    mechanisms: Vec<(SaslMechanism, Set)>,
    listeners: usize,
    services: Option<String>,
}

/// Reads all files of a directory.
pub(crate) fn read(dir: &Path, files: &dyn Files) -> Draft {
    let mut reading = Reading {
        dir,
        files,
        draft: Draft::default(),
        common: BTreeMap::new(),
        setters: HashSet::new(),
        served: Vec::new(),
        suppressed: Vec::new(),
        mechanisms: Vec::new(),
        listeners: 0,
        services: files.text(Path::new("/etc/services")).ok(),
    };
    reading.all();
    reading.draft
}

impl Reading<'_> {
    fn all(&mut self) {
        let texts: BTreeMap<&str, String> = FILES
            .iter()
            .filter_map(|(name, _)| Some((*name, self.files.text(&self.dir.join(name)).ok()?)))
            .collect();
        if !texts.contains_key("imapd") && !texts.contains_key("pop3d") {
            let reason = "there is no file imapd or pop3d of Courier in this directory";
            self.draft.refuse_line(self.dir, 0, "--courier", reason);
            return;
        }
        for (name, table) in FILES {
            let Some(text) = texts.get(name) else { continue };
            let mut variables = Variables::default();
            variables.read(text, &self.dir.join(name), &mut self.draft);
            for set in variables.all() {
                self.explain(table, set);
            }
        }
        let rc = self.together(&texts, &["authdaemonrc"]);
        accounts::map(self, &rc);
        if texts.contains_key("imapd") {
            let main = self.together(&texts, &["imapd", "imapd-ssl"]);
            let plain = self.together(&texts, &["imapd-ssl", "imapd"]);
            service::map(self, &Service::imap(main.clone(), plain));
            service::map_imap(self, &main);
        }
        if texts.contains_key("pop3d") {
            let main = self.together(&texts, &["pop3d", "pop3d-ssl"]);
            let plain = self.together(&texts, &["pop3d-ssl", "pop3d"]);
            service::map(self, &Service::pop3(main, plain));
        }
        self.finish();
    }

    /// Variables after these files were sourced one after the other. What is wrong with them was
    /// said before.
    fn together(&self, texts: &BTreeMap<&str, String>, names: &[&str]) -> Variables {
        let mut variables = Variables::default();
        let mut said = Draft::default();
        for name in names {
            if let Some(text) = texts.get(name) {
                variables.read(text, &self.dir.join(name), &mut said);
            }
        }
        variables
    }

    /// What the table says of a variable that no other code looks at.
    fn explain(&mut self, table: &[Row], set: &Set) {
        let Some(row) = row::find(table, &set.name) else {
            let all = FILES.iter().flat_map(|(_, table)| table.iter().map(|row| row.name));
            let elsewhere = FILES.iter().find(|(_, t)| row::find(t, &set.name).is_some());
            let hint = match (elsewhere, row::nearest(all, &set.name)) {
                (Some((file, _)), _) => format!("; it belongs into {file}"),
                (None, Some(near)) => format!("; {near} is one"),
                (None, None) => String::new(),
            };
            self.draft.not_served(set, format!("Courier has no such variable in this file{hint}"));
            return;
        };
        let value = set.value.as_str();
        match set.name.as_str() {
            "IMAP_KEYWORDS" if value == "1" || value == "2" => {
                self.draft.not_needed(set, "keywords are always there");
            }
            "IMAP_KEYWORDS" => self.draft.by_row(row, set, false),
            "IMAPACCESSFILE" => {
                let file = Path::new(value);
                // Courier reads this one, and makes it of the other at each start that it misses it.
                let compiled = PathBuf::from(format!("{value}.dat"));
                match (self.files.has(file), self.files.has(&compiled)) {
                    (true, _) if self.files.is_empty(file) => {
                        self.draft.not_needed(set, "it has no rules");
                    }
                    (false, false) => self.draft.not_needed(set, "there is no such file"),
                    _ => self.draft.by_row(&Row { default: "", ..*row }, set, false),
                }
            }
            _ => self.draft.by_row(row, set, is_off(value)),
        }
    }

    /// Sets what IMAP and POP3 have in common; two values are one too many.
    fn set_common(&mut self, key: &str, value: impl Into<Value>, by: &Set) {
        let value = value.into();
        let pop3 =
            by.file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pop3d"));
        let setter = if pop3 { Protocol::Pop3 } else { Protocol::Imap };
        self.setters.insert((key.to_owned(), setter));
        match self.common.get(key) {
            Some((other, _)) if *other == value => {}
            Some((_, first)) => {
                let place = format!("{}:{}", first.file.display(), first.line);
                let reason = format!(
                    "`{key}` is one setting for IMAP and POP3, and {place} has another value: make \
                     them equal, or put {key} into cursus.toml and take this line out"
                );
                self.draft.refuse(by, reason);
            }
            None => {
                self.draft.set(key, value.clone(), by);
                self.common.insert(key.to_owned(), (value, by.clone()));
            }
        }
    }

    /// A setting that only one of the two has would hold for the other, too.
    fn set_by_one(&mut self) {
        let mut wrong = Vec::new();
        for (key, (value, by)) in self.common.iter().filter(|(key, _)| key.contains('.')) {
            // Both versions, which the other has, too.
            if key == "tls.versions" && value.as_array().is_some_and(|all| all.len() > 1) {
                continue;
            }
            let of_tls = key.starts_with("tls.") || key == "auth.certificate_field";
            let is_set = |protocol| self.setters.contains(&(key.clone(), protocol));
            let mut missing =
                self.served.iter().filter(|(p, tls)| !is_set(*p) && (*tls || !of_tls));
            let Some((other, _)) = missing.next() else { continue };
            let (one, other) = match other {
                Protocol::Pop3 => ("IMAP", "POP3"),
                _ => ("POP3", "IMAP"),
            };
            let reason = format!(
                "`{key}` is one setting for IMAP and POP3, and only {one} has it: set it for {other}, \
                 too, or put {key} into cursus.toml and take this line out"
            );
            wrong.push((by.clone(), reason));
        }
        for (by, reason) in wrong {
            self.draft.refuse(&by, reason);
        }
    }

    /// Lists that came together from several variables.
    fn finish(&mut self) {
        self.set_by_one();
        let set = |mechanism: &SaslMechanism| {
            let mut all = self.mechanisms.iter();
            all.find(|(one, _)| one == mechanism).map(|(_, set)| set.clone())
        };
        let mut names: Vec<Value> = Vec::new();
        let mut by = None;
        for mechanism in SaslMechanism::ALL {
            if let Some(set) = set(&mechanism) {
                names.push(mechanism.as_str().into());
                by.get_or_insert(set);
            }
        }
        // LOGIN and USER are there whatever Courier's lists say.
        let takes_passwords = [SaslMechanism::Plain, SaslMechanism::Login];
        if !takes_passwords.iter().any(|m| names.contains(&m.as_str().into())) {
            names.push(SaslMechanism::Plain.as_str().into());
        }
        let what = "Courier: IMAP's LOGIN and POP3's USER are always there";
        self.draft.set_or_imply("auth.mechanisms", names, by.as_ref(), what);
        if let Some((_, by)) = self.suppressed.first() {
            let by = by.clone();
            let words: Vec<Value> =
                self.suppressed.iter().map(|(word, _)| (*word).into()).collect();
            self.draft.set("imap.suppress_capabilities", words, &by);
        }
        self.draft.imply(
            "sharing.seen",
            "shared",
            "Courier: \\Seen is in files' names, everybody's",
        );
        self.draft.imply(
            "sharing.courier_maildirs",
            true,
            "Courier: a Maildir's shared-maildirs names others that are shared",
        );
        self.draft.imply("pop3.uidl", "courier", "Courier: its own form of UIDLs");
        let hand_back = Value::Array(vec!["courier".into()]);
        let what = "Courier: its files are kept up to date for the way back";
        self.draft.imply("store.hand_back", hand_back, what);
    }
}

/// Whether a value means that the thing is not wanted.
fn is_off(value: &str) -> bool {
    value.is_empty() || value == "0" || value.starts_with(['n', 'N'])
}

/// Whether a value means yes.
fn is_on(value: &str) -> bool {
    value.starts_with(['y', 'Y', '1'])
}

#[cfg(test)]
mod tests;
