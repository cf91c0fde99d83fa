//! `cyrus.conf`: sections of entries with arguments.
//!
//! ```text
//! SERVICES {
//!     imap  cmd="imapd -U 30" listen="imap" prefork=0 maxchild=100
//! }
//! ```

use std::path::Path;
use std::rc::Rc;

use crate::draft::{Draft, Set};

/// The parts of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Start,
    Services,
    Events,
    Daemon,
}

/// A line within a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) section: Section,
    pub(super) name: String,
    pub(super) arguments: Vec<(String, String)>,
    /// The entry as a whole: its name, its command, where it stands.
    pub(super) set: Set,
}

impl Entry {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the text; what is wrong is refused with its line.
pub(super) fn read(text: &str, file: &Path, draft: &mut Draft) -> Vec<Entry> {
    let file: Rc<Path> = file.into();
    let mut entries = Vec::new();
    let mut section: Option<Option<Section>> = None;
    for (i, line) in text.lines().enumerate() {
        let number = i + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut refuse = |reason: &str| draft.refuse_line(&file, number, line, reason);
        let Some(within) = section else {
            let Some(name) = line.strip_suffix('{').map(str::trim) else {
                refuse("expected the beginning of a section, as in \"SERVICES {\"");
                continue;
            };
            let known = match name.to_ascii_uppercase().as_str() {
                "START" => Some(Section::Start),
                "SERVICES" => Some(Section::Services),
                "EVENTS" => Some(Section::Events),
                "DAEMON" => Some(Section::Daemon),
                _ => {
                    refuse("expected START, SERVICES, EVENTS or DAEMON");
                    None
                }
            };
            section = Some(known);
            continue;
        };
        if line == "}" {
            section = None;
            continue;
        }
        // The section is not known: that was said.
        let Some(within) = within else { continue };
        match entry(line) {
            Ok((name, arguments)) => {
                let command = arguments.iter().find(|(one, _)| one == "cmd");
                let Some((_, command)) = command else {
                    refuse("expected cmd=\"…\"");
                    continue;
                };
                let value = command.clone();
                let set = Set { name: name.clone(), value, file: file.clone(), line: number };
                entries.push(Entry { section: within, name, arguments, set });
            }
            Err(reason) => refuse(reason),
        }
    }
    if section.is_some() {
        let last = text.lines().count();
        draft.refuse_line(&file, last, "end of the file", "expected a closing }");
    }
    entries
}

type Parts = (String, Vec<(String, String)>);

fn entry(line: &str) -> Result<Parts, &'static str> {
    const FORM: &str = "expected name argument=value …, values in double quotes";
    let (name, mut rest) = line.split_once(char::is_whitespace).ok_or(FORM)?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        return Err(FORM);
    }
    let mut arguments = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            return Ok((name.to_owned(), arguments));
        }
        let (key, behind) = rest.split_once('=').ok_or(FORM)?;
        if key.is_empty() || key.contains(|c: char| !c.is_ascii_alphanumeric()) {
            return Err(FORM);
        }
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("the quotes do not end in this line")?,
            None => behind.split_at(behind.find(char::is_whitespace).unwrap_or(behind.len())),
        };
        arguments.push((key.to_ascii_lowercase(), value.to_owned()));
        rest = behind;
    }
}
