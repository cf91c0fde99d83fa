//! Cyrus's `imapd.conf` and `cyrus.conf`.
//!
//! What an option is where it is not set is Cyrus's default, not ours: the settings that come of it
//! say so. An option may stand before a service's name (`imap_tls_server_cert`); that is honoured
//! where ours is a setting of a listener or a protocol, and refused where there is one for all.

mod accounts;
mod conf;
mod layout;
mod service_file;
mod services;
pub mod table;
mod transport;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use config::Protocol;
use foreign::cyrus::imapd_conf::ImapdConf;

use crate::Files;
use crate::draft::{Draft, Set};
use crate::row::{self, Fate, Row};
use conf::Conf;
use service_file::Entry;

/// What the files say, while it is brought together.
pub(crate) struct Reading<'a> {
    files: &'a dyn Files,
    draft: Draft,
    conf: Conf,
    /// imapd.conf, for what `-C` may name.
    imapd: PathBuf,
    /// Entries of cyrus.conf.
    entries: Vec<Entry>,
    /// Certificates of services that were looked at.
    pairs: Vec<(Protocol, String)>,
}

/// Reads both files. Without cyrus.conf there are no listeners.
pub(crate) fn read(imapd: Option<&Path>, cyrus: Option<&Path>, files: &dyn Files) -> Draft {
    let mut draft = Draft::default();
    let conf = imapd.map(|file| read_imapd_conf(file, files, &mut draft)).unwrap_or_default();
    let entries = match cyrus {
        None => Vec::new(),
        Some(file) => match files.text(file) {
            Ok(text) => service_file::read(&text, file, &mut draft),
            Err(error) => {
                draft.refuse_line(file, 0, "--cyrus-conf", error.to_string());
                Vec::new()
            }
        },
    };
    let imapd = imapd.unwrap_or(Path::new("/etc/imapd.conf")).to_owned();
    let mut reading = Reading { files, draft, conf, imapd, entries, pairs: Vec::new() };
    reading.conf.services = services::names(&reading.entries);
    explain(&mut reading);
    accounts::map(&mut reading);
    layout::map(&mut reading);
    transport::map(&mut reading);
    services::map(&mut reading, cyrus);
    reading.draft
}

fn read_imapd_conf(file: &Path, files: &dyn Files, draft: &mut Draft) -> Conf {
    let text = match files.text(file) {
        Ok(text) => text,
        Err(error) => {
            draft.refuse_line(file, 0, "--imapd-conf", error.to_string());
            return Conf::default();
        }
    };
    let beside = file.parent().unwrap_or(Path::new(""));
    let place = |name: &str| beside.join(name);
    let mut load = |name: &str| files.text(&place(name));
    match ImapdConf::read(&text, &mut load) {
        Ok(read) => {
            let set = |written: &foreign::cyrus::imapd_conf::Written| Set {
                name: written.name.clone(),
                value: written.value.clone(),
                file: Rc::from(written.file.as_deref().map_or(file.to_owned(), place).as_path()),
                line: written.line,
            };
            Conf { all: read.written().iter().map(set).collect(), services: Vec::new() }
        }
        Err(damage) => {
            let line = |text: &str| damage.found.contains(text.trim()) && !text.trim().is_empty();
            let number = text.lines().position(line).map_or(0, |at| at + 1);
            draft.refuse_line(file, number, &damage.found, format!("expected {}", damage.expected));
            Conf::default()
        }
    }
}

/// Whether a value is what the option is anyway, or means that the thing isn't wanted.
fn is_idle(default: &str, value: &str) -> bool {
    use crate::value::switch;
    match (switch(default), switch(value)) {
        (Some(usual), Some(given)) => usual == given,
        // Without a default, no means no.
        (None, Some(given)) => !given && default.is_empty(),
        _ => value.is_empty(),
    }
}

/// Whether two values of an option are the same, as words or as switches.
fn is_alike(one: &str, other: &str) -> bool {
    use crate::value::switch;
    one == other || switch(one).is_some_and(|one| Some(one) == switch(other))
}

/// Options whose default is not what is done here, and the value that is.
const OURS: [(&str, &str); 7] = [
    ("munge8bit", "no"),
    ("duplicatesuppression", "no"),
    ("expunge_mode", "immediate"),
    ("delete_mode", "immediate"),
    ("poppollpadding", "0"),
    ("search_skipdiacrit", "no"),
    ("crossdomains_onlyother", "no"),
];

/// What the table says of options that no other code looks at, and of those that nobody knows.
fn explain(reading: &mut Reading<'_>) {
    let all = reading.conf.all.clone();
    for (i, set) in all.iter().enumerate() {
        if let Some(later) = all.iter().skip(i + 1).find(|one| one.name == set.name) {
            let text = format!("set again in line {}", later.line);
            reading.draft.not_served(set, text);
            continue;
        }
        let Some(row) = table::find(&set.name) else {
            prefixed(reading, set);
            continue;
        };
        let draft = &mut reading.draft;
        let value = crate::value::switch(&set.value);
        match (set.name.as_str(), value) {
            ("username_tolower" | "lmtp_downcase_rcpt", Some(false)) => {
                draft.refuse(set, "names of users are always in lower case: set it to yes");
            }
            ("imapmagicplus", Some(true)) => {
                draft.refuse(set, "names with + are names like others: set it to no");
            }
            ("search_fuzzy_always", Some(true)) => {
                draft.refuse(set, "SEARCH=FUZZY is on request alone: set it to no");
            }
            ("imapidlepoll", _) if set.value == "0" => {
                draft.refuse(set, "IDLE is always there; `suppress_capabilities: IDLE` hides it");
            }
            ("imapidresponse", Some(false)) => {
                draft.not_served(set, "ID is answered; `suppress_capabilities: ID` hides it");
            }
            (name, _) => match OURS.iter().find(|(one, _)| *one == name) {
                Some((_, ours)) if is_alike(&set.value, ours) => {
                    draft.not_needed(set, "so it is here");
                }
                // Even as by default.
                Some(_) => draft.by_row(&Row { default: "\0", ..*row }, set, false),
                None => draft.by_row(row, set, is_idle(row.default, &set.value)),
            },
        }
    }
    // A file that could not be read has no defaults.
    for (name, ours) in OURS.into_iter().filter(|_| !all.is_empty()) {
        let row = table::find(name)
            .filter(|row| !is_alike(row.default, ours) && reading.conf.get(name).is_none());
        if let Some(row) = row
            && let Fate::NotServed(text) = row.fate
        {
            reading.draft.default_not_served(&reading.imapd, row, text);
        }
    }
}

/// Options of one service alone.
const OF_SERVICES: [&str; 9] = [
    "admins",
    "allowplaintext",
    "altnamespace",
    "sasl_minimum_layer",
    "tls_required",
    "tls_server_cert",
    "tls_server_key",
    "tls_cert_file",
    "tls_key_file",
];

/// Services that are not served, whatever they are called in cyrus.conf.
const ELSEWHERE: [&str; 10] =
    ["sieve", "nntp", "nntps", "http", "https", "mupdate", "sync", "csync", "fud", "notify"];

/// An option with a service's name before it, or one that there is not.
fn prefixed(reading: &mut Reading<'_>, set: &Set) {
    let split = |name: &str| {
        let option = set.name.strip_prefix(name)?.strip_prefix('_')?;
        table::find(option).is_some().then(|| option.to_owned())
    };
    let draft = &mut reading.draft;
    if ELSEWHERE.iter().find_map(|name| split(name)).is_some() {
        draft.not_served(set, "it is about a service that is not served");
        return;
    }
    let usual = ["imap", "imaps", "pop3", "pop3s", "lmtp", "lmtpunix"];
    let known = reading.conf.services.iter().map(String::as_str).chain(usual);
    if let Some(option) = known.into_iter().find_map(split) {
        let common = reading.conf.get(&option).map(|set| set.value.clone());
        let of_service = OF_SERVICES.contains(&option.as_str()) || option == "unixhierarchysep";
        if !of_service && common.as_deref() != Some(&set.value) {
            let text =
                format!("{option} is one for the whole server here: set it without the service");
            draft.refuse(set, text);
        }
        return;
    }
    let names = table::ROWS.iter().flat_map(|rows| rows.iter().map(|row| row.name));
    let hint = match row::nearest(names, &set.name) {
        Some(near) => format!("; {near} is one"),
        None => String::new(),
    };
    draft.not_served(set, format!("Cyrus 3.6 has no such option{hint}"));
}

#[cfg(test)]
mod tests;
