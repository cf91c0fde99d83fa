//! TLS.

use config::Protocol;
use toml::Value;

use super::Reading;
use crate::ciphers;
use crate::draft::Set;

/// The certificate of a service, with its key, if it has any. `None` within: switched off.
pub(super) type Pair<'c> = Option<Option<(&'c Set, &'c Set)>>;

pub(super) fn pair<'c>(conf: &'c super::conf::Conf, service: &str) -> Pair<'c> {
    let find = |name: &str, older: &str| conf.of(service, name).or_else(|| conf.of(service, older));
    let certificate = find("tls_server_cert", "tls_cert_file")?;
    if certificate.value == "disabled" {
        return Some(None);
    }
    let key = find("tls_server_key", "tls_key_file").unwrap_or(certificate);
    Some((key.value != "disabled").then_some((certificate, key)))
}

/// Of RSA and EC, the second.
pub(super) fn file(set: &Set) -> &str {
    set.value.rsplit(',').next().unwrap_or(&set.value).trim()
}

/// Sets the pair of a protocol, where it is not the common one.
pub(super) fn set_pair(reading: &mut Reading<'_>, protocol: Protocol, service: &str) {
    let Reading { conf, draft, pairs, .. } = reading;
    let common = pair(conf, "").flatten();
    let Some(own) = pair(conf, service).flatten() else { return };
    let known = pairs.iter().find(|(one, _)| *one == protocol).map(|(_, file)| file.as_str());
    if known.is_some_and(|known| known != own.0.value) {
        draft.refuse(own.0, format!("all services of {protocol} have one certificate here"));
        return;
    }
    pairs.push((protocol, own.0.value.clone()));
    if common != Some(own) {
        draft.set(&format!("tls.{protocol}.certificate"), file(own.0), own.0);
        draft.set(&format!("tls.{protocol}.key"), file(own.1), own.1);
    }
}

pub(super) fn map(reading: &mut Reading<'_>) {
    let Reading { conf, draft, .. } = reading;
    if let Some((certificate, key)) = pair(conf, "").flatten() {
        draft.set("tls.certificate", file(certificate), certificate);
        draft.set("tls.key", file(key), key);
    }
    if let Some(set) = conf.get("tls_versions") {
        let has = |word: &str| set.value.split_whitespace().any(|one| one == word);
        let versions: Vec<Value> = [("tls1_2", "1.2"), ("tls1_3", "1.3")]
            .into_iter()
            .filter(|(word, _)| has(word))
            .map(|(_, version)| version.into())
            .collect();
        match versions.is_empty() {
            true => draft.refuse(set, "expected tls1_2, tls1_3 or both: older ones are not spoken"),
            false => draft.set("tls.versions", versions, set),
        }
    }
    if let Some(set) = conf.either("tls_ciphers", "tls_cipher_list") {
        let chosen = ciphers::choose(&set.value);
        if !chosen.unknown.is_empty() {
            let text = format!("not among what the TLS library has: {}", chosen.unknown.join(" "));
            draft.not_served(set, text);
        }
        if !chosen.has_1_2 {
            draft.not_served(
                set,
                "it leaves no cipher suite of TLS 1.2 (ECDHE with AES-GCM or ChaCha20)",
            );
        }
        if !chosen.suites.is_empty() {
            let names: Vec<Value> = chosen.suites.iter().map(|s| s.as_str().into()).collect();
            draft.set("tls.cipher_suites", names, set);
        }
    }
    let authorities = conf.either("tls_client_ca_file", "tls_ca_file");
    let asked = conf.get("tls_client_certs");
    let word = match asked.map(|set| (set.value.as_str(), set)) {
        None | Some(("optional", _)) => "optional",
        Some(("off", _)) => "none",
        Some(("require", _)) => "required",
        Some((_, set)) => return draft.refuse(set, "expected off, optional or require"),
    };
    match (authorities, word) {
        (_, "none") => {}
        (None, "required") => {
            if let Some(set) = asked {
                draft.refuse(set, "needs tls_client_ca_file");
            }
        }
        (None, _) => {}
        (Some(set), word) => {
            draft.set("tls.client_ca", set.value.as_str(), set);
            let what = "Cyrus: tls_client_certs";
            draft.set_or_imply("tls.client_certificates", word, asked, what);
            if let Some(set) = conf.get("tls_crl_file") {
                draft.set("tls.client_crl", set.value.as_str(), set);
            }
        }
    }
}
