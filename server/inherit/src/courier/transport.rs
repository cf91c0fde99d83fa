//! TLS, as imapd-ssl and pop3d-ssl set it.

use config::{Protocol, SaslMechanism};
use toml::Value;

use super::Reading;
use super::service::Service;
use crate::ciphers;
use crate::draft::Set;

const OLDER: &str = "TLS 1.2 is the oldest version that is spoken";

pub(super) fn map(reading: &mut Reading<'_>, service: &Service) {
    certificate(reading, service);
    let main = &service.main;
    if let Some(set) = main.get("TLS_PROTOCOL") {
        versions(reading, set);
    }
    if let Some(set) = main.get("TLS_STARTTLS_PROTOCOL") {
        let other = main.get("TLS_PROTOCOL").map_or("", |set| &set.value);
        if set.value != other {
            let reason = "STARTTLS and TLS from the first byte have the same versions here: leave it \
                          empty, or as TLS_PROTOCOL";
            reading.draft.refuse(set, reason);
        }
    }
    if let Some(set) = main.get("TLS_PRIORITY") {
        priority(reading, set);
    }
    if let Some(set) = main.get("TLS_CIPHER_LIST") {
        cipher_list(reading, set);
    }
    clients(reading, service);
}

fn certificate(reading: &mut Reading<'_>, service: &Service) {
    let Some(certificate) = service.main.get("TLS_CERTFILE") else { return };
    let key = service.main.get("TLS_PRIVATE_KEYFILE").unwrap_or(certificate);
    let pair = Value::from(format!("{}\n{}", certificate.value, key.value));
    let prefix = match reading.common.get("certificate") {
        // As IMAP's.
        Some((common, _)) if *common == pair => return,
        Some(_) => format!("tls.{}", service.protocol),
        None => "tls".to_owned(),
    };
    reading.common.entry("certificate".to_owned()).or_insert((pair, certificate.clone()));
    reading.draft.set(&format!("{prefix}.certificate"), certificate.value.as_str(), certificate);
    reading.draft.set(&format!("{prefix}.key"), key.value.as_str(), key);
}

fn versions(reading: &mut Reading<'_>, set: &Set) {
    let both = || Value::Array(vec!["1.2".into(), "1.3".into()]);
    let mut newest = false;
    let mut old = false;
    for word in set.value.split(':') {
        // OpenSSL's words are the least version, GnuTLS's one of several.
        match word.trim_end_matches('+') {
            "TLSv1.3" | "TLS1_3" | "TLSv1_3" => newest = true,
            "TLSv1.2" | "TLS1_2" | "TLSv1_2" => {}
            "TLSv1" | "TLSv1.1" | "TLS1" | "TLS1_1" | "SSL23" | "SSL3" => old = true,
            _ => {
                let text = format!("{word:?} is no version: expected TLSv1.2 or TLSv1.3");
                return reading.draft.refuse(set, text);
            }
        }
    }
    if old {
        reading.draft.not_served(set, OLDER);
    }
    let only_newest = newest && !set.value.contains(':');
    let value = if only_newest { Value::Array(vec!["1.3".into()]) } else { both() };
    reading.set_common("tls.versions", value, set);
}

/// GnuTLS's priorities: of them, versions.
fn priority(reading: &mut Reading<'_>, set: &Set) {
    let (mut has_2, mut has_3) = (true, true);
    let mut left = Vec::new();
    let mut said = false;
    for word in set.value.split(':') {
        let (on, name) = match word.chars().next() {
            Some('+') => (true, word.get(1..).unwrap_or("")),
            Some('-' | '!') => (false, word.get(1..).unwrap_or("")),
            _ => (true, word),
        };
        match name {
            "VERS-ALL" | "VERS-TLS-ALL" => (has_2, has_3) = (on, on),
            "VERS-TLS1.2" => has_2 = on,
            "VERS-TLS1.3" => has_3 = on,
            name if name.starts_with("VERS-") => said |= on,
            "NORMAL" => {}
            _ => left.push(word),
        }
    }
    if said {
        reading.draft.not_served(set, OLDER);
    }
    if !left.is_empty() {
        let text = format!("of GnuTLS's priorities only versions are read, not {}", left.join(":"));
        reading.draft.not_served(set, text);
    }
    let versions: Vec<Value> = [("1.2", has_2), ("1.3", has_3)]
        .into_iter()
        .filter(|(_, on)| *on)
        .map(|(version, _)| version.into())
        .collect();
    match versions.len() {
        0 => reading.draft.refuse(set, OLDER),
        1 => reading.set_common("tls.versions", versions, set),
        _ => {}
    }
}

fn cipher_list(reading: &mut Reading<'_>, set: &Set) {
    let chosen = ciphers::choose(&set.value);
    if !chosen.unknown.is_empty() {
        let text = format!("not among what the TLS library has: {}", chosen.unknown.join(" "));
        reading.draft.not_served(set, text);
    }
    if !chosen.has_1_2 {
        let reason = "it leaves no cipher suite of TLS 1.2 (ECDHE with AES-GCM or ChaCha20)";
        reading.draft.not_served(set, reason);
    }
    if !chosen.suites.is_empty() {
        let names: Vec<Value> = chosen.suites.iter().map(|suite| suite.as_str().into()).collect();
        reading.set_common("tls.cipher_suites", names, set);
    }
}

/// Certificates of clients.
fn clients(reading: &mut Reading<'_>, service: &Service) {
    let main = &service.main;
    let verify = main.get("TLS_VERIFYPEER");
    let asked = match verify.map(|set| (set.value.as_str(), set)) {
        None | Some(("NONE", _)) => None,
        Some(("PEER", set)) => Some(("optional", set)),
        Some(("REQUIREPEER", set)) => Some(("required", set)),
        Some((_, set)) => {
            return reading.draft.refuse(set, "expected NONE, PEER or REQUIREPEER");
        }
    };
    let external = main.get("TLS_EXTERNAL");
    let Some((asked, set)) = asked else {
        if let Some(set) = main.get("TLS_TRUSTCERTS").filter(|_| service.protocol == Protocol::Imap)
        {
            reading.draft.not_needed(set, "TLS_VERIFYPEER asks for no certificates");
        }
        if let Some(set) = external {
            reading.draft.refuse(set, "needs TLS_VERIFYPEER=PEER or REQUIREPEER");
        }
        return;
    };
    let Some(authorities) = main.get("TLS_TRUSTCERTS") else {
        return reading.draft.refuse(set, "needs TLS_TRUSTCERTS, a file");
    };
    reading.set_common("tls.client_certificates", asked, set);
    reading.set_common("tls.client_ca", authorities.value.as_str(), authorities);
    let Some(external) = external else { return };
    let field = match external.value.to_ascii_lowercase().as_str() {
        "emailaddress" | "email" => "email",
        "commonname" | "cn" => "common-name",
        "uid" => "uid",
        _ => return reading.draft.refuse(external, "expected emailaddress, commonname or uid"),
    };
    reading.set_common("auth.certificate_field", field, external);
    reading.mechanisms.push((SaslMechanism::External, external.clone()));
}
