//! OpenSSL's cipher lists (ciphers(1)), as far as they choose among the suites that there are.
//!
//! Lists are about TLS 1.2 and before: TLS 1.3's suites stay as they are. Words for suites that the
//! TLS library does not have change nothing, as with OpenSSL itself.

use config::{CipherSuite, TlsVersion};

/// A suite of TLS 1.2 and the words of OpenSSL that it answers to.
struct Suite {
    suite: CipherSuite,
    name: &'static str,
    words: &'static [&'static str],
}

macro_rules! suite {
    ($suite:ident, $name:literal, $($word:literal)+) => {
        Suite { suite: CipherSuite::$suite, name: $name, words: &[$($word),+] }
    };
}

/// In the order of OpenSSL's `DEFAULT`.
const SUITES: [Suite; 6] = [
    suite!(EcdheEcdsaAes256GcmSha384, "ECDHE-ECDSA-AES256-GCM-SHA384", "aECDSA" "ECDSA" "AES256" "AES" "AESGCM" "SHA384"),
    suite!(EcdheRsaAes256GcmSha384, "ECDHE-RSA-AES256-GCM-SHA384", "aRSA" "AES256" "AES" "AESGCM" "SHA384"),
    suite!(EcdheEcdsaChacha20Poly1305Sha256, "ECDHE-ECDSA-CHACHA20-POLY1305", "aECDSA" "ECDSA" "CHACHA20"),
    suite!(EcdheRsaChacha20Poly1305Sha256, "ECDHE-RSA-CHACHA20-POLY1305", "aRSA" "CHACHA20"),
    suite!(EcdheEcdsaAes128GcmSha256, "ECDHE-ECDSA-AES128-GCM-SHA256", "aECDSA" "ECDSA" "AES128" "AES" "AESGCM" "SHA256"),
    suite!(EcdheRsaAes128GcmSha256, "ECDHE-RSA-AES128-GCM-SHA256", "aRSA" "AES128" "AES" "AESGCM" "SHA256"),
];

/// Words that all six answer to.
const ALL_WORDS: [&str; 11] = [
    "ALL",
    "HIGH",
    "DEFAULT",
    "ECDHE",
    "EECDH",
    "kECDHE",
    "kEECDH",
    "ECDH",
    "TLSv1.2",
    "FIPS",
    "SUITEB128",
];

/// Words for suites that the TLS library does not have, or that no list of today has.
const ABSENT: &[&str] = &[
    "MEDIUM",
    "LOW",
    "EXP",
    "EXPORT",
    "eNULL",
    "NULL",
    "aNULL",
    "COMPLEMENTOFDEFAULT",
    "COMPLEMENTOFALL",
    "RSA",
    "kRSA",
    "kDHE",
    "kEDH",
    "DH",
    "DHE",
    "EDH",
    "ADH",
    "AECDH",
    "aDSS",
    "DSS",
    "TLSv1",
    "TLSv1.0",
    "SSLv3",
    "SSLv2",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "3DES",
    "DES",
    "RC4",
    "RC2",
    "IDEA",
    "SEED",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "MD5",
    "SHA",
    "SHA1",
    "PSK",
    "kPSK",
    "aPSK",
    "ECDHEPSK",
    "SRP",
    "kSRP",
    "aSRP",
    "GOST94",
    "GOST89MAC",
    "aGOST",
    "kGOST",
    "AESCCM",
    "AESCCM8",
    "kRSAPSK",
    "kDHEPSK",
    "kECDHEPSK",
    "EXPORT40",
    "EXPORT56",
    "KRB5",
    "FZA",
    "SUITEB192",
    "TLSv1.3",
];

fn answers(suite: &Suite, word: &str) -> bool {
    suite.name == word || suite.words.contains(&word) || ALL_WORDS.contains(&word)
}

fn is_known(word: &str) -> bool {
    ABSENT.contains(&word) || SUITES.iter().any(|suite| answers(suite, word))
}

/// What a list comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// All suites that are left, those of TLS 1.3 first; empty: the library's own choice.
    pub(crate) suites: Vec<CipherSuite>,
    /// Whether any of TLS 1.2 is left.
    pub(crate) has_1_2: bool,
    /// Words that OpenSSL does not know either, or that choose by something that is not suites.
    pub(crate) unknown: Vec<String>,
}

/// Reads a list.
pub(crate) fn choose(list: &str) -> Chosen {
    let mut chosen: Vec<usize> = Vec::new();
    let mut barred = [false; SUITES.len()];
    let mut unknown = Vec::new();
    for item in list.split([':', ',', ' ', ';']).filter(|item| !item.is_empty()) {
        // Strength: the order is that of the key's length, as ours is.
        let item = item.strip_suffix("@STRENGTH").unwrap_or(item);
        if item.is_empty() {
            continue;
        }
        if item.starts_with('@') {
            unknown.push(item.to_owned());
            continue;
        }
        let (operator, words) = match item.chars().next() {
            Some(c @ ('!' | '-' | '+')) => (Some(c), item.get(1..).unwrap_or("")),
            _ => (None, item),
        };
        let words: Vec<&str> = words.split('+').collect();
        unknown.extend(words.iter().filter(|w| !is_known(w)).map(|w| (*w).to_owned()));
        let fits = |at: &usize| {
            SUITES.get(*at).is_some_and(|suite| words.iter().all(|word| answers(suite, word)))
        };
        let fitting: Vec<usize> = (0..SUITES.len()).filter(fits).collect();
        match operator {
            None => {
                for at in fitting {
                    if !barred.get(at).copied().unwrap_or(true) && !chosen.contains(&at) {
                        chosen.push(at);
                    }
                }
            }
            Some('+') => {
                let (moved, kept) = chosen.iter().copied().partition(|at| fitting.contains(at));
                let (moved, mut kept): (Vec<usize>, Vec<usize>) = (moved, kept);
                kept.extend(moved);
                chosen = kept;
            }
            Some(other) => {
                chosen.retain(|at| !fitting.contains(at));
                if other == '!' {
                    fitting.iter().for_each(|at| {
                        if let Some(one) = barred.get_mut(*at) {
                            *one = true;
                        }
                    });
                }
            }
        }
    }
    let has_1_2 = !chosen.is_empty();
    // All of them in our order is what there is without a list.
    let all = chosen.len() == SUITES.len();
    let newer = CipherSuite::ALL.into_iter().filter(|suite| suite.version() == TlsVersion::V1_3);
    let older = chosen.iter().filter_map(|at| SUITES.get(*at)).map(|suite| suite.suite);
    let suites = if all { Vec::new() } else { newer.chain(older).collect() };
    Chosen { suites, has_1_2, unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<&'static str> {
        let suites = choose(list).suites;
        let name = |s: &CipherSuite| s.as_str().strip_prefix("TLS_ECDHE_");
        suites.iter().filter_map(name).collect()
    }

    #[test]
    fn lists_of_the_originals_leave_all_suites() {
        for list in [
            "TLSv1:HIGH:!LOW:!MEDIUM:!EXP:!NULL:!aNULL@STRENGTH",
            "TLSv1.2:+TLSv1:+HIGH:!aNULL:@STRENGTH",
            "DEFAULT",
            "ALL",
        ] {
            let chosen = choose(list);
            assert!(chosen.suites.is_empty() && chosen.has_1_2, "{list}: {chosen:?}");
            assert!(chosen.unknown.is_empty(), "{list}: {chosen:?}");
        }
    }

    #[test]
    fn words_choose_bar_and_move() {
        assert_eq!(
            names("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"),
            ["RSA_WITH_AES_128_GCM_SHA256", "RSA_WITH_AES_256_GCM_SHA384"]
        );
        assert_eq!(names("AESGCM+aECDSA:!AES128"), ["ECDSA_WITH_AES_256_GCM_SHA384"]);
        assert_eq!(names("!AES:ALL").len(), 2);
        assert_eq!(names("ALL:-AES:AES256").len(), 4);
        let moved = names("aRSA:+AES256");
        assert_eq!(moved.last(), Some(&"RSA_WITH_AES_256_GCM_SHA384"));
        let none = choose("AES256-SHA:kRSA");
        assert!(!none.has_1_2);
        assert_eq!(none.suites.len(), 3, "TLS 1.3 stays");
        assert_eq!(none.unknown, ["AES256-SHA"]);
        assert_eq!(choose("HIGH:@SECLEVEL=2").unknown, ["@SECLEVEL=2"]);
        assert_eq!(choose("").suites.len(), 3);
    }
}
