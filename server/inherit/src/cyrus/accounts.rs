//! Who may log in, and how.

use std::path::Path;

use config::SaslMechanism;
use foreign::cyrus::db::Form;
use toml::Value;

use super::Reading;
use super::conf::words;

/// Where Cyrus SASL has its users if no option says otherwise.
const SASLDB: &str = "/etc/sasldb2";

pub(super) fn map(reading: &mut Reading<'_>) {
    administrators(reading);
    back_ends(reading);
    mechanisms(reading);
    domains(reading);
    denials(reading);
    let Reading { conf, draft, .. } = reading;
    if let Some(set) = conf.get("servername") {
        draft.set("server.hostname", set.value.as_str(), set);
    }
    let pause = conf.get("failedloginpause");
    let seconds = conf.seconds(pause, 1, draft).unwrap_or(3);
    let key = "auth.failure_delay_first_seconds";
    draft.set_or_imply(key, whole(seconds), pause, "Cyrus: failedloginpause");
    if seconds > 15 {
        draft.set_or_imply("auth.failure_delay_seconds_max", whole(seconds), pause, "as the first");
    }
    let submitting = words(conf.get("submitservers"));
    if let Some(set) = conf.get("submitservers") {
        draft.set("imap.submission_users", list(&submitting), set);
    }
    if let Some(set) = conf.get("maxlogins_per_host")
        && let Some(most) = conf.number(Some(set), draft).filter(|most| *most > 0)
    {
        draft.set("limits.connections_per_address_max", most, set);
        draft.set("limits.connections_loopback_max", most, set);
    }
}

/// Cyrus's own file, which both servers read, and `cyr_deny` writes.
fn denials(reading: &mut Reading<'_>) {
    let Reading { conf, draft, .. } = reading;
    if let Some(set) = conf.get("userdeny_db")
        && Form::named(&set.value).is_none()
    {
        draft.refuse(set, "expected flat, skiplist, twoskip or twom");
    }
    if let Some(set) = conf.get("userdeny_db_path") {
        draft.set("auth.deny_file", set.value.as_str(), set);
    } else if let Some(set) = conf.get("configdirectory") {
        let file = format!("{}/user_deny.db", set.value.trim_end_matches('/'));
        draft.set("auth.deny_file", file, set);
    }
}

pub(super) fn list(words: &[String]) -> Vec<Value> {
    words.iter().map(|word| Value::from(word.as_str())).collect()
}

pub(super) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn administrators(reading: &mut Reading<'_>) {
    let Reading { conf, draft, .. } = reading;
    let sets = [conf.get("admins"), conf.get("imap_admins")];
    let mut names: Vec<String> = Vec::new();
    for name in sets.iter().flat_map(|set| words(*set)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if let Some(set) = sets.into_iter().flatten().next() {
        draft.set("auth.admins", list(&names), set);
    }
}

fn back_ends(reading: &mut Reading<'_>) {
    let Reading { conf, draft, files, .. } = reading;
    let method = conf.get("sasl_pwcheck_method");
    let plugin = conf.get("sasl_auxprop_plugin");
    let mut chosen: Vec<&str> = vec!["users"];
    let mut asks_daemon = false;
    for word in method.map_or("auxprop", |set| &set.value).split_whitespace() {
        match (word, method) {
            // Without a file, Cyrus SASL knows nobody and says nothing.
            ("auxprop", _)
                if conf.get("sasl_sasldb_path").is_none() && !files.has(Path::new(SASLDB)) =>
            {
                if let Some(set) = method {
                    draft.not_served(
                        set,
                        format!("there is no {SASLDB}: accounts are made by `cursus user add`"),
                    );
                }
            }
            ("auxprop", _) => chosen.push("sasldb"),
            ("saslauthd", _) => asks_daemon = true,
            ("authdaemond", _) => chosen.push("authdaemon"),
            (_, Some(set)) => {
                let reason = format!("{word}: expected auxprop, saslauthd or authdaemond");
                draft.refuse(set, reason);
            }
            (_, None) => {}
        }
    }
    // It cannot say whom it knows, so whoever comes behind it is never asked.
    chosen.extend(asks_daemon.then_some("saslauthd"));
    chosen.dedup();
    let names: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
    draft.set_or_imply("auth.backends", list(&names), method, "Cyrus SASL: auxprop");
    if let Some(set) = plugin
        && let Some(other) = set.value.split_whitespace().find(|name| *name != "sasldb")
    {
        draft.refuse(set, format!("{other} is not served yet: sasldb is"));
    }
    if let Some(set) = conf.get("sasl_sasldb_path") {
        draft.set("auth.sasldb.path", set.value.as_str(), set);
    }
    if let Some(set) = conf.get("sasl_saslauthd_path") {
        draft.set("auth.saslauthd.socket", format!("{}/mux", set.value.trim_end_matches('/')), set);
    }
    if let Some(set) = conf.get("sasl_authdaemond_path") {
        draft.set("auth.authdaemon.socket", set.value.as_str(), set);
    }
    if let Some(set) = conf.get("servername") {
        draft.set("auth.sasldb.realm", set.value.as_str(), set);
    }
}

fn mechanisms(reading: &mut Reading<'_>) {
    let Reading { conf, draft, .. } = reading;
    let listed = conf.get("sasl_mech_list");
    let anonymous = conf.get("allowanonymouslogin");
    let allows_anonymous = conf.switch(anonymous, false, draft);
    let mut lists_anonymous = listed.is_none();
    let mut chosen: Vec<SaslMechanism> = Vec::new();
    if let Some(set) = listed {
        for word in set.value.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
            let mut all = SaslMechanism::ALL.into_iter();
            match all.find(|m| m.as_str().eq_ignore_ascii_case(word)) {
                // Where allowanonymouslogin allows it, too.
                Some(SaslMechanism::Anonymous) => lists_anonymous = true,
                Some(mechanism) if chosen.contains(&mechanism) => {}
                Some(mechanism) => chosen.push(mechanism),
                None => draft.not_served(set, format!("there is no mechanism {word}")),
            }
        }
        let plain = conf.get("allowplaintext");
        let has_plain =
            chosen.iter().any(|m| matches!(m, SaslMechanism::Plain | SaslMechanism::Login));
        if conf.switch(plain, false, draft) && !has_plain {
            // LOGIN and USER are commands, not mechanisms.
            chosen.push(SaslMechanism::Plain);
        }
        if chosen.is_empty() {
            draft.refuse(set, "leaves no mechanism that is there");
            return;
        }
    } else if allows_anonymous {
        chosen = vec![SaslMechanism::Plain, SaslMechanism::Login];
    } else {
        return;
    }
    if let Some(set) = anonymous.filter(|_| allows_anonymous && !lists_anonymous) {
        draft.not_served(set, "sasl_mech_list does not have ANONYMOUS, so nobody logs in by it");
    } else if let Some(set) = anonymous.filter(|_| allows_anonymous) {
        chosen.push(SaslMechanism::Anonymous);
        draft.set("auth.anonymous_user", "anonymous", set);
    }
    let names: Vec<Value> = chosen.iter().map(|m| m.as_str().into()).collect();
    draft.set_or_imply("auth.mechanisms", names, listed.or(anonymous), "Cyrus: all");
}

fn domains(reading: &mut Reading<'_>) {
    let Reading { conf, draft, .. } = reading;
    let virtual_domains = conf.get("virtdomains");
    match virtual_domains.map(|set| (set.value.to_ascii_lowercase(), set)) {
        Some((word, _)) if word == "userid" => {
            let default = conf.get("defaultdomain");
            if let Some(set) = default {
                draft.set("auth.bare_domain", set.value.as_str(), set);
            }
            // Elsewhere a local part alone is nobody.
            let domain = default.map_or("internal", |set| &set.value).to_owned();
            let what = "Cyrus: defaultdomain";
            draft.set_or_imply("lmtp.domains", list(&[domain]), default, what);
        }
        None => {}
        Some((word, set)) => match crate::value::switch(&word) {
            Some(false) => {}
            _ => draft.refuse(
                set,
                "domains are not known by the address of the connection: set it to userid",
            ),
        },
    }
    if virtual_domains.is_none_or(|set| crate::value::switch(&set.value) == Some(false))
        && let Some(set) = conf.get("defaultdomain")
    {
        draft.not_needed(set, "without virtdomains there are no domains");
    }
}
