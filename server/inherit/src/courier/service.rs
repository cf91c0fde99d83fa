//! The daemons: where they listen, who may log in there, and what IMAP is told to do.

use config::{Protocol, SaslMechanism};
use toml::Value;

use super::shell::Variables;
use super::{Reading, accounts, is_off, is_on, transport};
use crate::draft::Set;
use crate::value::{host_port, port};

/// One of Courier's two protocols, with its variables as its programs see them.
pub(super) struct Service {
    pub(super) protocol: Protocol,
    /// What sessions see, and the daemon for TLS.
    pub(super) main: Variables,
    /// What the daemon without TLS sees.
    plain: Variables,
    names: Names,
}

/// The variables that have other names for IMAP and POP3.
struct Names {
    start: &'static str,
    start_ssl: &'static str,
    starttls: &'static str,
    required: &'static str,
    port: &'static str,
    port_ssl: &'static str,
    mechanisms: [&'static str; 2],
}

impl Service {
    pub(super) fn imap(main: Variables, plain: Variables) -> Service {
        let names = Names {
            start: "IMAPDSTART",
            start_ssl: "IMAPDSSLSTART",
            starttls: "IMAPDSTARTTLS",
            required: "IMAP_TLS_REQUIRED",
            port: "143",
            port_ssl: "993",
            mechanisms: ["IMAP_CAPABILITY", "IMAP_CAPABILITY_TLS"],
        };
        Service { protocol: Protocol::Imap, main, plain, names }
    }

    pub(super) fn pop3(main: Variables, plain: Variables) -> Service {
        let names = Names {
            start: "POP3DSTART",
            start_ssl: "POP3DSSLSTART",
            starttls: "POP3_STARTTLS",
            required: "POP3_TLS_REQUIRED",
            port: "110",
            port_ssl: "995",
            mechanisms: ["POP3AUTH", "POP3AUTH_TLS"],
        };
        Service { protocol: Protocol::Pop3, main, plain, names }
    }

    fn is_on(&self, name: &str) -> bool {
        self.main.get(name).is_some_and(|set| is_on(&set.value))
    }
}

/// What both protocols have.
pub(super) fn map(reading: &mut Reading<'_>, service: &Service) {
    let names = &service.names;
    let implicit = service.is_on(names.start_ssl);
    let plain = service.is_on(names.start);
    let starttls = plain && service.is_on(names.starttls);
    if plain {
        let tls = service.main.set(names.starttls);
        let required = service.main.set(names.required);
        let may = required.is_none_or(|set| is_off(&set.value));
        let listener = Listener {
            port: ("PORT", names.port),
            address: "ADDRESS",
            tls: (if starttls { "starttls" } else { "none" }, tls),
            plain_login: (if may { "always" } else { "never" }, required),
        };
        listen(reading, service, &service.plain, &listener);
    }
    if implicit {
        let by = service.main.get(names.start_ssl);
        let listener = Listener {
            port: ("SSLPORT", names.port_ssl),
            address: "SSLADDRESS",
            tls: ("implicit", by),
            plain_login: ("never", by),
        };
        listen(reading, service, &service.main, &listener);
    }
    if plain || implicit {
        reading.served.push((service.protocol, implicit || starttls));
    }
    if implicit || starttls {
        transport::map(reading, service);
    }
    for name in names.mechanisms {
        if let Some(set) = service.main.get(name) {
            mechanisms(reading, set);
        }
    }
    if let Some(set) = service.main.get("DEFDOMAIN") {
        let separator = service.main.get("DOMAINSEP").map_or("@", |set| &set.value);
        match set.value.strip_prefix('@') {
            Some(domain) if separator == "@" => {
                reading.set_common("auth.default_domain", domain, set);
            }
            _ => reading.draft.refuse(set, "only a domain behind @ is added to names"),
        }
    }
    let of = |seen: &Variables| seen.get("MAILDIRPATH").map(|set| set.value.clone());
    if let (true, true, Some(set)) = (plain, implicit, service.main.get("MAILDIRPATH"))
        && of(&service.plain) != of(&service.main)
    {
        reading.draft.refuse(set, "with and without TLS the same Maildir is served here");
    }
    if let Some(set) = service.main.get("MAILDIRPATH") {
        // The partition is made of it once; here it is only compared.
        match reading.common.get("MAILDIRPATH").cloned() {
            Some((other, _)) if other.as_str() != Some(&set.value) => {
                reading.draft.refuse(set, "IMAP and POP3 serve the same Maildir here");
            }
            Some(_) => {}
            None => {
                let value = Value::from(set.value.as_str());
                reading.common.insert("MAILDIRPATH".to_owned(), (value, set.clone()));
                accounts::map_homes(reading, &service.main);
            }
        }
    } else if let Some((other, by)) = reading.common.get("MAILDIRPATH").cloned() {
        if other.as_str() != Some("Maildir") {
            reading.draft.refuse(&by, "IMAP and POP3 serve the same Maildir here");
        }
    } else {
        accounts::map_homes(reading, &service.main);
    }
}

struct Listener<'v> {
    /// Variable and default.
    port: (&'static str, &'static str),
    address: &'static str,
    tls: (&'static str, Option<&'v Set>),
    plain_login: (&'static str, Option<&'v Set>),
}

fn listen(reading: &mut Reading<'_>, service: &Service, seen: &Variables, listener: &Listener<'_>) {
    let (name, default) = listener.port;
    let what = format!("Courier: {name} of {}", service.protocol);
    let ports = seen.get(name);
    let address = seen.get(listener.address);
    let text = ports.map_or(default, |set| &set.value);
    for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        // 127.0.0.1.143: the port is behind the last dot of an address.
        let (host, number) = match one.rsplit_once('.') {
            Some((host, number)) => (host, number),
            None => (address.map_or("0", |set| &set.value), one),
        };
        let Some(number) = port(number, reading.services.as_deref()) else {
            if let Some(set) = ports {
                reading.draft.refuse(set, format!("{one:?} is neither a port nor address.port"));
            }
            continue;
        };
        let at = format!("listener[{}]", reading.listeners);
        reading.listeners += 1;
        let key = |name: &str| format!("{at}.{name}");
        let draft = &mut reading.draft;
        let protocol = service.protocol.as_str();
        draft.set_or_imply(&key("protocol"), protocol, ports, &what);
        draft.set_or_imply(&key("address"), host_port(host, number), ports.or(address), &what);
        let (tls, by) = listener.tls;
        draft.set_or_imply(&key("tls"), tls, by, &what);
        let (plain_login, by) = listener.plain_login;
        draft.set_or_imply(&key("plain_login"), plain_login, by, &what);
        if service.protocol == Protocol::Imap {
            draft.imply(&key("names"), "courier", "Courier: its names of folders");
        }
        for (name, setting, default) in
            [("MAXDAEMONS", "connections_max", 40), ("MAXPERIP", "connections_per_address_max", 4)]
        {
            let set = seen.get(name);
            let value = match set.map(|set| (set.value.parse::<u32>(), set)) {
                None => default,
                Some((Ok(value), _)) => i64::from(value),
                Some((Err(_), set)) => {
                    draft.refuse(set, "expected a number");
                    continue;
                }
            };
            draft.set_or_imply(&key(setting), value, set, &format!("Courier: {name}"));
        }
    }
    if let Some(set) = seen.get("TCPDOPTS") {
        let known = ["-nodnslookup", "-noidentlookup"];
        for option in set.value.split_whitespace().filter(|option| !known.contains(option)) {
            let reason =
                format!("{option}: of couriertcpd's options only {} are read", known.join(" "));
            reading.draft.refuse(set, reason);
        }
    }
}

fn mechanisms(reading: &mut Reading<'_>, set: &Set) {
    for word in set.value.split_whitespace() {
        let name = match word.get(..5) {
            Some(start) if start.eq_ignore_ascii_case("AUTH=") => word.get(5..).unwrap_or(""),
            // POP3's list has nothing else.
            _ if set.name.starts_with("POP3") => word,
            _ => continue,
        };
        let mut known = SaslMechanism::ALL.into_iter();
        match known.find(|m| m.as_str().eq_ignore_ascii_case(name)) {
            Some(mechanism) => reading.mechanisms.push((mechanism, set.clone())),
            None => reading.draft.not_served(set, format!("there is no mechanism {name:?}")),
        }
    }
}

/// What Courier has of CAPABILITY, and what of ours goes with it.
const CAPABILITIES: [(&str, &[&str]); 8] = [
    ("UIDPLUS", &[]),
    ("CHILDREN", &[]),
    ("NAMESPACE", &[]),
    ("THREAD=ORDEREDSUBJECT", &[]),
    ("THREAD=REFERENCES", &["THREAD=REFS"]),
    ("SORT", &["SORT=DISPLAY", "SORT=MODSEQ", "SORT=UID", "ESORT", "CONTEXT=SORT"]),
    (
        "QUOTA",
        &[
            "QUOTASET",
            "QUOTA=RES-STORAGE",
            "QUOTA=RES-MESSAGE",
            "QUOTA=RES-MAILBOX",
            "QUOTA=RES-ANNOTATION-STORAGE",
        ],
    ),
    ("IDLE", &[]),
];

/// Words that may stand in IMAP_CAPABILITY and take nothing away.
const PASSING: [&str; 9] = [
    "IMAP4rev1",
    "ACL",
    "ACL2=UNION",
    "STARTTLS",
    "ENABLE",
    "UTF8=ACCEPT",
    "XMAGICTRASH",
    "XCOURIEROUTBOX",
    "LOGINDISABLED",
];

/// What IMAP alone has.
pub(super) fn map_imap(reading: &mut Reading<'_>, main: &Variables) {
    let suppress = |reading: &mut Reading<'_>, word: &'static str, by: &Set| {
        if !reading.suppressed.iter().any(|(one, _)| *one == word) {
            reading.suppressed.push((word, by.clone()));
        }
    };
    if let Some(set) = main.get("IMAP_CAPABILITY") {
        let words: Vec<&str> = set.value.split_whitespace().collect();
        let has = |word: &str| words.iter().any(|one| one.eq_ignore_ascii_case(word));
        for (word, with) in CAPABILITIES.iter().filter(|(word, _)| !has(word)) {
            suppress(reading, word, set);
            with.iter().for_each(|word| suppress(reading, word, set));
        }
        let known = |word: &str| {
            PASSING.iter().any(|one| one.eq_ignore_ascii_case(word))
                || CAPABILITIES.iter().any(|(one, _)| one.eq_ignore_ascii_case(word))
                || word.starts_with("AUTH=")
                || word.starts_with("RIGHTS=")
        };
        for word in words.iter().filter(|word| !known(word)) {
            reading
                .draft
                .not_served(set, format!("{word:?} is told if it is there, and only then"));
        }
    }
    if let Some(set) = main.set("IMAP_ACL").filter(|set| is_off(&set.value)) {
        for word in ["ACL", "ACL2=UNION", "RIGHTS=texk", "LIST-MYRIGHTS"] {
            suppress(reading, word, set);
        }
    }
    if let Some(set) = main.get("IMAP_DISABLETHREADSORT").filter(|set| !is_off(&set.value)) {
        for (word, with) in
            CAPABILITIES.iter().filter(|(w, _)| w.starts_with("THREAD") || *w == "SORT")
        {
            suppress(reading, word, set);
            with.iter().for_each(|word| suppress(reading, word, set));
        }
    }
    let draft = &mut reading.draft;
    if let Some(set) = main.get("SMAP_CAPABILITY") {
        match set.value.as_str() {
            "SMAP1" => draft.set("imap.smap", true, set),
            _ => draft.refuse(set, "expected SMAP1"),
        }
    }
    if let Some(set) = main.get("IMAP_TRASHFOLDERNAME") {
        draft.set("trash.mailbox", set.value.replace('.', "/"), set);
    }
    if let Some(set) = main.get("IMAP_MOVE_EXPUNGE_TO_TRASH") {
        draft.set("trash.move_expunged", !is_off(&set.value), set);
    }
    if let Some(set) = main.get("IMAP_EMPTYTRASH") {
        let trash = main.get("IMAP_TRASHFOLDERNAME").map_or("Trash", |set| &set.value);
        for (i, one) in set.value.split(',').map(str::trim).enumerate() {
            // A number alone is about the trash folder.
            let (folder, days) = one.rsplit_once(':').unwrap_or((trash, one));
            let Some(days) = days.trim().parse::<u32>().ok().filter(|days| *days > 0) else {
                draft.refuse(set, format!("{one:?}: expected folder:days"));
                break;
            };
            let folder = folder.trim().trim_start_matches('.').replace('.', "/");
            draft.set(&format!("trash.empty[{i}].mailbox"), folder, set);
            draft.set(&format!("trash.empty[{i}].days"), i64::from(days), set);
        }
    }
    if let Some(set) = main.get("OUTBOX") {
        let name = set.value.trim_start_matches('.').replace('.', "/");
        draft.set("outbox.mailbox", name, set);
    }
    if let Some(set) = main.get("SENDMAIL") {
        let words: Vec<Value> = set.value.split_whitespace().map(Value::from).collect();
        draft.set("outbox.sendmail", words, set);
    }
    let header = main.get("HEADERFROM");
    let text = header.map_or("", |set| &set.value);
    draft.set_or_imply("outbox.header_from", text, header, "Courier: HEADERFROM");
    if let Some(set) = main.get("OUTBOX_MULTIPLE_SEND") {
        draft.set("outbox.multiple_send", !is_off(&set.value), set);
    }
    if let Some(set) = main.get("IMAP_ID_FIELDS") {
        match set.value.parse::<u8>() {
            Ok(fields) => {
                if fields & 1 == 0 {
                    draft.set("imap.id.version", "", set);
                }
                if fields & 6 != 0 {
                    draft.set("imap.id.os", "Linux", set);
                }
            }
            Err(_) => draft.refuse(set, "expected a sum of 1, 2 and 4"),
        }
    }
}
