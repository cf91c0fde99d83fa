//! `cyrus.conf`: which services listen where, and what the other lines ask for.

use std::path::Path;

use config::Protocol;

use super::Reading;
use super::accounts::list;
use super::conf::words;
use super::service_file::{Entry, Section};
use super::{table, transport};
use crate::row::Fate;
use crate::value::{host_port, port};

/// Names of the entries that are served, by which options may be set for one alone.
pub(super) fn names(entries: &[Entry]) -> Vec<String> {
    let served = |entry: &&Entry| {
        entry.section == Section::Services && protocol(Command::of(entry).program).is_some()
    };
    entries.iter().filter(served).map(|entry| entry.name.clone()).collect()
}

fn protocol(program: &str) -> Option<Protocol> {
    match program {
        "imapd" => Some(Protocol::Imap),
        "pop3d" => Some(Protocol::Pop3),
        "lmtpd" => Some(Protocol::Lmtp),
        _ => None,
    }
}

/// A command line, taken apart.
struct Command<'e> {
    /// The program's name, without its directory.
    program: &'e str,
    /// What follows it.
    flags: Vec<&'e str>,
}

impl<'e> Command<'e> {
    fn of(entry: &'e Entry) -> Command<'e> {
        let mut rest = entry.get("cmd").unwrap_or_default().split_whitespace();
        let base = |path: &'e str| path.rsplit('/').next().unwrap_or(path);
        let mut program = base(rest.next().unwrap_or_default());
        // `nice -n 19 cyrus squatter -s`: wrappers of Debian's.
        if program == "nice" {
            let next =
                rest.by_ref().find(|word| !word.starts_with('-') && word.parse::<i32>().is_err());
            program = base(next.unwrap_or_default());
        }
        if program == "cyrus" {
            program = rest.next().unwrap_or_default();
        }
        Command { program, flags: rest.collect() }
    }

    /// The value of a flag, as getopt takes it: `-U30` or `-U 30`.
    fn value(&self, flag: char) -> Option<&'e str> {
        let mut rest = self.flags.iter();
        while let Some(word) = rest.next() {
            let inner = word.strip_prefix('-').and_then(|word| word.strip_prefix(flag));
            match inner {
                Some("") => return rest.next().copied(),
                Some(value) => return Some(value),
                None => {}
            }
        }
        None
    }

    fn has(&self, flag: char) -> bool {
        self.flags.iter().any(|word| word.strip_prefix('-').is_some_and(|w| w.starts_with(flag)))
    }
}

pub(super) fn map(reading: &mut Reading<'_>, file: Option<&Path>) {
    let services = reading.files.text(Path::new("/etc/services")).ok();
    let entries = std::mem::take(&mut reading.entries);
    let mut listeners = 0;
    for entry in &entries {
        let command = Command::of(entry);
        let served = protocol(command.program).filter(|_| entry.section == Section::Services);
        match served {
            Some(protocol) => {
                let service = Service { entry, command, protocol };
                listen(reading, &service, services.as_deref(), &mut listeners);
            }
            None => explain(reading, entry, &command),
        }
    }
    if file.is_some() && listeners == 0 && reading.draft.errors.is_empty() {
        let file = file.unwrap_or(Path::new(""));
        let reason = "no service imapd, pop3d or lmtpd listens";
        reading.draft.refuse_line(file, 0, "SERVICES", reason);
    }
    deliverers(reading, &entries);
    lmtp_socket(reading, &entries);
}

struct Service<'e> {
    entry: &'e Entry,
    command: Command<'e>,
    protocol: Protocol,
}

/// Where an entry listens: a path, or hosts with a port.
fn addresses(entry: &Entry, services: Option<&str>) -> Result<String, String> {
    let listen =
        entry.get("listen").filter(|listen| !listen.is_empty()).ok_or("expected listen")?;
    if listen.starts_with('/') {
        return Ok(format!("unix:{listen}"));
    }
    let (host, text) = match listen.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').ok_or("expected [address]:port")?),
        None => listen.rsplit_once(':').unwrap_or(("", listen)),
    };
    let number =
        port(text, services).ok_or_else(|| format!("{text:?} is no port and no service"))?;
    match (host, entry.get("proto").unwrap_or("tcp")) {
        ("", "tcp4") => Ok(format!("0.0.0.0:{number}")),
        ("", "tcp6") => Ok(format!("[::]:{number}")),
        (host, "tcp" | "tcp4" | "tcp6") => Ok(host_port(host, number)),
        (_, other) => Err(format!("proto {other}: expected tcp, tcp4 or tcp6")),
    }
}

fn listen(
    reading: &mut Reading<'_>,
    service: &Service<'_>,
    services: Option<&str>,
    listeners: &mut usize,
) {
    let Service { entry, command, protocol } = service;
    let set = &entry.set;
    let address = match addresses(entry, services) {
        Ok(address) => address,
        Err(reason) => return reading.draft.refuse(set, reason),
    };
    if !flags(reading, service) {
        return;
    }
    transport::set_pair(reading, *protocol, &entry.name);
    let at = format!("listener[{listeners}]");
    *listeners += 1;
    let key = |name: &str| format!("{at}.{name}");
    let Reading { conf, draft, .. } = reading;
    draft.set(&key("protocol"), protocol.as_str(), set);
    draft.set(&key("address"), address.as_str(), set);
    draft.set(&key("name"), entry.name.as_str(), set);
    let is_unix = address.starts_with("unix:");
    let has_certificate = transport::pair(conf, &entry.name).flatten();
    let tls = match (command.has('s'), has_certificate) {
        (true, _) => "implicit",
        (false, Some(_)) => "starttls",
        (false, None) => "none",
    };
    let by = has_certificate.map(|(certificate, _)| certificate).filter(|_| tls == "starttls");
    draft.set(&key("tls"), tls, by.unwrap_or(set));
    let plain = conf.of(&entry.name, "allowplaintext");
    let required = conf.of(&entry.name, "tls_required");
    let layer = conf.of(&entry.name, "sasl_minimum_layer");
    let outside = command.value('p').and_then(|ssf| ssf.parse::<u32>().ok()).unwrap_or(0);
    let (word, by) = if tls == "implicit" {
        ("never", Some(set))
    } else if outside > 1 {
        // A tunnel before us has encrypted.
        ("always", Some(set))
    } else if conf.switch(required, false, draft) {
        ("never", required)
    } else if conf.number(layer, draft).is_some_and(|least| least > 0) {
        ("never", layer)
    } else if conf.switch(plain, false, draft) {
        ("always", plain)
    } else {
        ("never", plain)
    };
    match protocol {
        Protocol::Lmtp => {
            let trusted = is_unix || command.has('a');
            draft.set(&key("trusted"), trusted, set);
            // Of a listener where nobody logs in, there is nothing to be said.
            let word = if trusted { "never" } else { word };
            draft.set_or_imply(&key("plain_login"), word, by, "Cyrus: allowplaintext");
        }
        // No service of Cyrus is of the last kind.
        Protocol::Pop3 | Protocol::Auth => {
            draft.set_or_imply(&key("plain_login"), word, by, "Cyrus: allowplaintext");
        }
        Protocol::Imap => {
            draft.set_or_imply(&key("plain_login"), word, by, "Cyrus: allowplaintext");
            let alternate = conf.of(&entry.name, "altnamespace");
            let name = if conf.switch(alternate, true, draft) { "alternate" } else { "internal" };
            draft.set_or_imply(&key("names"), name, alternate, "Cyrus: altnamespace");
            let slashes = conf.of(&entry.name, "unixhierarchysep");
            let separator = if conf.switch(slashes, true, draft) { "/" } else { "." };
            draft.set_or_imply(&key("separator"), separator, slashes, "Cyrus: unixhierarchysep");
        }
    }
    if let Some(text) = entry.get("maxchild") {
        match text.parse::<i64>() {
            Ok(most) if most > 0 => draft.set(&key("connections_max"), most, set),
            Ok(_) => {}
            Err(_) => draft.refuse(set, format!("maxchild={text}: expected a number")),
        }
    }
    for name in ["prefork", "maxfds", "maxforkrate", "babysit"] {
        if let Some(text) = entry.get(name).filter(|text| *text != "0") {
            let text = format!("{name}={text}: sessions are no processes");
            draft.not_needed(set, text);
        }
    }
}

/// Looks at the flags of a daemon; whether it can be served.
fn flags(reading: &mut Reading<'_>, service: &Service<'_>) -> bool {
    let Service { entry, command, .. } = service;
    let set = &entry.set;
    if let Some(file) = command.value('C')
        && Path::new(file) != reading.imapd
    {
        let reason = format!(
            "-C {file}: all services have one imapd.conf here ({}): set what differs by options \
             with the service's name before them",
            reading.imapd.display()
        );
        reading.draft.refuse(set, reason);
        return false;
    }
    // With a value, and without.
    const VALUES: [char; 4] = ['C', 'U', 'T', 'p'];
    const ALONE: [char; 5] = ['s', 'a', 'D', 'N', 'H'];
    let mut rest = command.flags.iter();
    while let Some(word) = rest.next() {
        let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
        match letters.next() {
            Some(letter) if VALUES.contains(&letter) => {
                if letters.next().is_none() {
                    rest.next();
                }
            }
            Some(letter) if ALONE.contains(&letter) => {}
            _ => {
                let reason =
                    format!("{word}: of this program's flags only -s -p -C -a -U -T -D are read");
                reading.draft.refuse(set, reason);
                return false;
            }
        }
    }
    true
}

/// What is not served: a line of the table by its program.
fn explain(reading: &mut Reading<'_>, entry: &Entry, command: &Command<'_>) {
    let set = &entry.set;
    let draft = &mut reading.draft;
    let archives = matches!(command.program, "cyr_expire" | "expire") && command.has('A');
    let pushes = command.program == "ctl_mboxlist" && command.has('m');
    match table::PROGRAMS.iter().find(|row| row.name == command.program).map(|row| row.fate) {
        _ if archives => draft.refuse(set, "-A: messages are not moved to archive partitions"),
        _ if pushes => draft.refuse(set, "clusters (murder) are not served: take the line out"),
        Some(Fate::Honoured(text) | Fate::NotNeeded(text)) => draft.not_needed(set, text),
        Some(Fate::NotServed(text)) => draft.not_served(set, text),
        Some(Fate::Refused(text)) => draft.refuse(set, text),
        None => {
            let reason = "other programs are not run by the server: a systemd unit or timer does \
                          that; take the line out";
            draft.refuse(set, reason);
        }
    }
}

/// Who may deliver by TCP, where lmtpd wants a login.
fn deliverers(reading: &mut Reading<'_>, entries: &[Entry]) {
    let wants_login = |entry: &&Entry| {
        let command = Command::of(entry);
        entry.section == Section::Services
            && command.program == "lmtpd"
            && !command.has('a')
            && !entry.get("listen").is_some_and(|listen| listen.starts_with('/'))
    };
    let Some(entry) = entries.iter().find(wants_login) else {
        if let Some(set) = reading.conf.get("lmtp_admins") {
            reading.draft.not_needed(set, "nobody delivers by TCP with a login");
        }
        return;
    };
    let Reading { conf, draft, .. } = reading;
    match conf.get("lmtp_admins").or_else(|| conf.get("admins")) {
        Some(set) => draft.set("lmtp.users", list(&words(Some(set))), set),
        None => {
            let reason = "nobody may deliver here: name users in lmtp_admins, or let everybody who \
                          can connect deliver by lmtpd -a";
            draft.refuse(&entry.set, reason);
        }
    }
}

fn lmtp_socket(reading: &mut Reading<'_>, entries: &[Entry]) {
    let Some(set) = reading.conf.get("lmtpsocket").cloned() else { return };
    let is_there = |entry: &Entry| entry.get("listen") == Some(set.value.as_str());
    if !entries.is_empty() && !entries.iter().any(is_there) {
        reading.draft.not_served(&set, "no lmtpd of cyrus.conf listens there");
    }
}
