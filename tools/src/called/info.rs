//! `cyr_info` and `cyr_buildinfo`: what imapd.conf says, and what there is of Cyrus's parts here.
//!
//! `cyr_info` tells of imapd.conf as Cyrus would, from the table of all of its options; what becomes of each
//! here, docs/configuration-cyrus.md says. It needs no store.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use foreign::cyrus::imapd_conf::ImapdConf;
use inherit::cyrus::table;
use inherit::row::{Kind, Row};
use serde_json::json;

use super::Stop;
use super::cyrus::say;
use super::options::Given;
use crate::failure::{self, Failed};

/// Rows that are none of Cyrus's own options: it keeps what it does not know for others, as SASL.
const OF_OTHERS: [&str; 10] = [
    "autocreate_acl",
    "newsspool",
    "sasl_authdaemond_path",
    "sasl_auto_transition",
    "sasl_auxprop_plugin",
    "sasl_log_level",
    "sasl_mech_list",
    "sasl_pwcheck_method",
    "sasl_saslauthd_path",
    "sasl_sasldb_path",
];
/// Options that take words: without any, no blank follows the name.
const WORDS: [&str; 2] = ["httpmodules", "metapartition_files"];
/// What a default may begin with.
const CONFIG_DIRECTORY: &str = "{configdirectory}";

/// How Cyrus prints a duration that is not there.
const NULL: &str = "(null)";

/// Cyrus's own options.
fn options() -> impl Iterator<Item = &'static Row> {
    let all = table::ROWS.iter().flat_map(|rows| rows.iter());
    all.filter(|row| !row.name.contains(['*', '@']) && !OF_OTHERS.contains(&row.name))
}

fn switch(text: &str) -> Option<&'static str> {
    match text {
        "1" | "yes" | "on" | "t" | "true" => Some("yes"),
        "0" | "no" | "off" | "f" | "false" => Some("no"),
        _ => None,
    }
}

/// A value as Cyrus prints it.
fn printed(row: &Row, value: &str) -> String {
    match row.kind {
        Kind::Switch => switch(value).unwrap_or(value).to_owned(),
        // Whether a service is offered, in these.
        Kind::Text if row.default == "on" || row.default == "off" => match switch(value) {
            Some("yes") => "on".to_owned(),
            Some(_) => "off".to_owned(),
            None => value.to_owned(),
        },
        _ => value.to_owned(),
    }
}

/// Options with their values for a service; `changed`: only those that are not as usual.
fn listed(conf: &ImapdConf, service: &str, changed: bool) -> String {
    let directory = conf.get("configdirectory").unwrap_or_default();
    let mut text = String::new();
    for row in options() {
        let usual = printed(row, &row.default.replace(CONFIG_DIRECTORY, directory));
        let usual =
            if row.kind == Kind::Duration && usual.is_empty() { NULL.to_owned() } else { usual };
        let value = conf.get_for(service, row.name).map(|value| printed(row, value));
        let value = value.unwrap_or_else(|| usual.clone());
        if !changed || value != usual {
            line(&mut text, row.name, &value);
        }
    }
    let of_service = |name: &str| {
        let option = name.strip_prefix(service).and_then(|rest| rest.strip_prefix('_'));
        option.is_some_and(|option| options().any(|row| row.name == option))
    };
    for (name, value) in others(conf).filter(|(name, _)| !of_service(name)) {
        line(&mut text, name, value);
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    if value.is_empty() && WORDS.contains(&name) {
        let _ = writeln!(text, "{name}:");
        return;
    }
    // A string takes everything.
    let _ = writeln!(text, "{name}: {value}");
}

/// What is set and none of Cyrus's own options.
fn others(conf: &ImapdConf) -> impl Iterator<Item = (&str, &str)> {
    conf.options().filter(|(name, _)| !options().any(|row| row.name == *name))
}

/// Names of the services of a cyrus.conf.
fn services(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut within = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if line.ends_with('{') {
            within = line.starts_with("SERVICES");
        } else if line == "}" {
            within = false;
        } else if within {
            names.extend(line.split_whitespace().next().map(str::to_owned));
        }
    }
    names
}

/// Whether a name that is no option is known all the same.
fn is_known(conf: &ImapdConf, services: &BTreeSet<String>, name: &str) -> bool {
    let partition = |of: &str| conf.get(&format!("partition-{of}")).is_some();
    let plain = |name: &str| {
        name.starts_with("partition-")
            || name.starts_with("backuppartition-")
            || name.starts_with("xlist-")
            || name.strip_prefix("metapartition-").is_some_and(partition)
            || name.strip_prefix("archivepartition-").is_some_and(partition)
            || name.split_once("searchpartition-").is_some_and(|(_, of)| partition(of))
    };
    let of_service = |service: &String| {
        let option = name.strip_prefix(service.as_str()).and_then(|rest| rest.strip_prefix('_'));
        option.is_some_and(|option| plain(option) || options().any(|row| row.name == option))
    };
    plain(name) || name.starts_with("sasl_") || services.iter().any(of_service)
}

/// Cyrus's `cyr_info`.
pub(super) fn info(arguments: &[String]) -> Result<(), Stop> {
    let refused = [("s", "in which version an option changed is not known here")];
    let given = Given::read(arguments, "C:M:n:s:", &refused)?;
    let usage = "expected conf, conf-all, conf-default, conf-lint or version";
    let [command] = given.operands.as_slice() else { return Err(Stop::Usage(usage.to_owned())) };
    match command.as_str() {
        "version" => {
            say(&format!("cursus {}\n", env!("CARGO_PKG_VERSION")));
            return Ok(());
        }
        "conf-default" => {
            let rows = options().map(|row| (row.name, printed(row, row.default)));
            let mut text = String::new();
            rows.for_each(|(name, value)| line(&mut text, name, &value));
            say(&text);
            return Ok(());
        }
        "proc" => {
            let why = "sessions are no processes: `cursus status` counts them";
            return Err(Stop::Refused(format!("proc: {why}")));
        }
        "conf" | "conf-all" | "conf-lint" => {}
        _ => return Err(Stop::Usage(usage.to_owned())),
    }
    let path = Path::new(given.value('C').unwrap_or("/etc/imapd.conf"));
    let named = |e: &dyn std::fmt::Display| {
        Failed::new(failure::Kind::Config, format!("{}: {e}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
    let conf = ImapdConf::read(&text, &mut |name| std::fs::read_to_string(name));
    let conf = conf.map_err(|e| named(&e))?;
    if command == "conf-lint" {
        let beside = path.with_file_name("cyrus.conf");
        let cyrus_conf = given.value('M').map_or(beside.as_path(), Path::new);
        let services = services(&std::fs::read_to_string(cyrus_conf).unwrap_or_default());
        let unknown = others(&conf).filter(|(name, _)| !is_known(&conf, &services, name));
        let mut text = String::new();
        unknown.for_each(|(name, value)| line(&mut text, name, value));
        say(&text);
        return Ok(());
    }
    say(&listed(&conf, given.value('n').unwrap_or("cyr_info"), command == "conf"));
    Ok(())
}

/// Cyrus's `cyr_buildinfo`: which of its parts are served, and which libraries of its are used: none.
pub(super) fn buildinfo(arguments: &[String]) -> Result<(), Stop> {
    Given::read(arguments, "C:", &[])?;
    let all = json!({
        "component": {
            "event_notification": false,
            "gssapi": false,
            "autocreate": true,
            "idled": false,
            "httpd": false,
            "kerberos_v4": false,
            "murder": false,
            "nntpd": false,
            "replication": false,
            "sieve": false,
            "calalarmd": false,
            "jmap": false,
            "objectstore": false,
            "backup": false,
        },
        "dependency": {
            "ldap": false,
            "openssl": false,
            "zlib": false,
            "jansson": false,
            "pcre": false,
            "clamav": false,
            "openio": false,
            "nghttp2": false,
            "wslay": false,
            "brotli": false,
            "xml2": false,
            "ical": false,
            "icu4c": false,
            "shapelib": false,
            "chardet": false,
            "cld2": false,
        },
        "database": { "mysql": false, "pgsql": false, "sqlite": false },
        "search": { "squat": false, "xapian": false, "xapian_cjk_tokens": "none" },
        "hardware": {},
    });
    // Plain values: nothing can be wrong with them.
    say(&(serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> ImapdConf {
        ImapdConf::read(text, &mut |_| Err(std::io::ErrorKind::NotFound.into())).unwrap()
    }

    #[test]
    fn what_is_not_as_usual_is_listed() {
        let conf = conf(
            "configdirectory: /c\npartition-default: /p\nallowplaintext: 1\numask: 077\n\
             imap_timeout: 40\naltnamespace: false\nidlesocket: /c/socket/idle\n",
        );
        let listed = |service| listed(&conf, service, true);
        assert_eq!(
            listed("cyr_info"),
            "allowplaintext: yes\naltnamespace: no\nconfigdirectory: /c\nimap_timeout: 40\n\
             partition-default: /p\n"
        );
        assert!(listed("imap").contains("\ntimeout: 40\n"));
        assert!(!listed("imap").contains("imap_timeout"));
    }

    #[test]
    fn what_nobody_knows_is_told() {
        let conf = conf("partition-a: /a\n");
        let services = services("START {\n x\n}\nSERVICES {\n #y\n imap cmd=\"imapd\"\n}\n");
        for name in ["partition-x", "metapartition-a", "imap_timeout", "sasl_x", "xlist-sent"] {
            assert!(is_known(&conf, &services, name), "{name}");
        }
        for name in ["tiemout", "metapartition-b", "imap_tiemout", "pop3_timeout", "x_timeout"] {
            assert!(!is_known(&conf, &services, name), "{name}");
        }
    }
}
