//! DIGEST-MD5: RFC 2831, historic since RFC 6331. Authentication only: no integrity, no privacy.
//!
//! The secret is `H(user:realm:password)`. A stored one fits one spelling of user and realm: for
//! `local@domain` the user is `local` and the realm is `domain` (as Dovecot stores it), else the
//! realm is the one that we offer. A password in clear fits whatever the client sends.

use subtle::ConstantTimeEq as _;

use crate::directory::AuthError;
use crate::hash::{HashKind, hex};
use crate::name::UserName;

/// RFC 2831 section 2.1.2: a response of more bytes is refused.
const RESPONSE_BYTES_MAX: usize = 4096;

/// Our challenge.
pub fn challenge(realm: &str, nonce: &str) -> Vec<u8> {
    let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
    format!("realm=\"{realm}\",nonce=\"{nonce}\",qop=\"auth\",charset=utf-8,algorithm=md5-sess")
        .into_bytes()
}

/// User and realm that a stored secret of `name` is made with.
pub fn stored_identity<'a>(name: &'a UserName, realm: &'a str) -> (&'a str, &'a str) {
    name.as_str().rsplit_once('@').unwrap_or((name.as_str(), realm))
}

/// `H(user:realm:password)`, of texts in ISO 8859-1 where that holds them (RFC 2831 section
/// 2.1.2.1), else in UTF-8.
pub fn secret(user: &str, realm: &str, password: &str) -> Vec<u8> {
    let bytes = |text: &str| -> Vec<u8> {
        let latin: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
        latin.unwrap_or_else(|| text.as_bytes().to_vec())
    };
    HashKind::Md5.digest(&[&bytes(user)[..], &bytes(realm), &bytes(password)].join(&b':'))
}

/// A client's response, read and consistent with our challenge; the proof is yet to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Who logs in.
    pub user: String,
    /// In which realm.
    pub realm: String,
    /// Who the client wants to act as.
    pub authzid: Option<String>,
    nonce: String,
    cnonce: String,
    count: String,
    uri: String,
    proof: String,
}

impl Response {
    /// Reads a digest-response to a challenge with `nonce`. `service` is the registered name of
    /// what is spoken (`imap`, `pop`).
    pub fn parse(bytes: &[u8], nonce: &str, service: &str) -> Result<Response, AuthError> {
        let bad = AuthError::Malformed("a DIGEST-MD5 response to this challenge");
        let directives =
            directives(bytes).filter(|_| bytes.len() < RESPONSE_BYTES_MAX).ok_or(bad.clone())?;
        let raw = |name: &str| {
            let mut found = directives.iter().filter(|(n, _)| n == name);
            match (found.next(), found.next()) {
                (Some((_, value)), None) => Ok(Some(value.as_slice())),
                (None, _) => Ok(None),
                // Once, says the RFC.
                (Some(_), Some(_)) => Err(bad.clone()),
            }
        };
        let is_utf8 = match raw("charset")? {
            None => false,
            Some(b"utf-8") => true,
            Some(_) => return Err(bad),
        };
        let text = |name: &str| match raw(name)? {
            None => Ok(None),
            Some(value) if is_utf8 => {
                String::from_utf8(value.to_vec()).map(Some).map_err(|_| bad.clone())
            }
            Some(value) => Ok(Some(value.iter().map(|&b| char::from(b)).collect())),
        };
        let needed = |name: &str| text(name)?.ok_or(bad.clone());
        let response = Response {
            user: needed("username")?,
            realm: text("realm")?.unwrap_or_default(),
            authzid: text("authzid")?.filter(|a| !a.is_empty()),
            nonce: needed("nonce")?,
            cnonce: needed("cnonce")?,
            count: needed("nc")?,
            uri: needed("digest-uri")?,
            proof: needed("response")?,
        };
        let serves = response
            .uri
            .split_once('/')
            .is_some_and(|(s, host)| s.eq_ignore_ascii_case(service) && !host.is_empty());
        let qop = text("qop")?.unwrap_or_else(|| "auth".to_owned());
        match response.nonce == nonce && response.count == "00000001" && qop == "auth" && serves {
            true => Ok(response),
            false => Err(bad),
        }
    }

    /// Checks the proof against `secret`; in constant time.
    pub fn check(&self, secret: &[u8]) -> bool {
        let expected = self.value(secret, "AUTHENTICATE");
        expected.as_bytes().ct_eq(self.proof.as_bytes()).into()
    }

    /// What proves to the client that we know the secret as well.
    pub fn server_proof(&self, secret: &[u8]) -> Vec<u8> {
        format!("rspauth={}", self.value(secret, "")).into_bytes()
    }

    fn value(&self, secret: &[u8], method: &str) -> String {
        let hash = |data: &[u8]| hex(&HashKind::Md5.digest(data));
        let mut a1 = secret.to_vec();
        a1.extend_from_slice(format!(":{}:{}", self.nonce, self.cnonce).as_bytes());
        if let Some(authzid) = &self.authzid {
            a1.extend_from_slice(format!(":{authzid}").as_bytes());
        }
        let a2 = format!("{method}:{}", self.uri);
        let Response { nonce, count, cnonce, .. } = self;
        let all = format!("{}:{nonce}:{count}:{cnonce}:auth:{}", hash(&a1), hash(a2.as_bytes()));
        hash(all.as_bytes())
    }
}

/// `name=value` or `name="value"`, separated by commas and blanks; names in lower case.
fn directives(bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut rest = bytes;
    let mut found = Vec::new();
    loop {
        while let [b',' | b' ' | b'\t' | b'\r' | b'\n', behind @ ..] = rest {
            rest = behind;
        }
        if rest.is_empty() {
            return Some(found);
        }
        let at = rest.iter().position(|&b| b == b'=')?;
        let name = std::str::from_utf8(rest.get(..at)?).ok()?.trim().to_ascii_lowercase();
        rest = rest.get(at + 1..)?.trim_ascii_start();
        let mut value = Vec::new();
        if let [b'"', behind @ ..] = rest {
            rest = behind;
            loop {
                match rest {
                    [b'"', behind @ ..] => {
                        rest = behind;
                        break;
                    }
                    [b'\\', escaped, behind @ ..] => {
                        value.push(*escaped);
                        rest = behind;
                    }
                    [byte, behind @ ..] => {
                        value.push(*byte);
                        rest = behind;
                    }
                    [] => return None,
                }
            }
        } else {
            let end = rest.iter().position(|&b| b == b',').unwrap_or(rest.len());
            value = rest.get(..end)?.trim_ascii().to_vec();
            rest = rest.get(end..)?;
        }
        found.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2831 section 4.
    const NONCE: &str = "OA6MG9tEQGm2hh";
    const EXAMPLE: &str = "charset=utf-8,username=\"chris\",realm=\"elwood.innosoft.com\",\
        nonce=\"OA6MG9tEQGm2hh\",nc=00000001,cnonce=\"OA6MHXh6VqTrRk\",\
        digest-uri=\"imap/elwood.innosoft.com\",\
        response=d388dad90d4bbd760a152321f2143af7,qop=auth";

    #[test]
    fn replays_the_rfc_2831_example() {
        let response = Response::parse(EXAMPLE.as_bytes(), NONCE, "imap").unwrap();
        assert_eq!((&*response.user, &*response.realm), ("chris", "elwood.innosoft.com"));
        let right = secret("chris", "elwood.innosoft.com", "secret");
        assert!(response.check(&right));
        assert_eq!(response.server_proof(&right), b"rspauth=ea40f60335c427b5527b84dbabcdfffd");
        assert!(!response.check(&secret("chris", "elwood.innosoft.com", "Secret")));
    }

    #[test]
    fn what_does_not_fit_the_challenge_is_refused() {
        for (from, to) in [
            ("nc=00000001", "nc=00000002"),
            ("qop=auth", "qop=auth-conf"),
            ("imap/", "smtp/"),
            ("imap/elwood.innosoft.com", "imap/"),
            ("OA6MG9tEQGm2hh", "other"),
            ("charset=utf-8", "charset=latin-9"),
            ("cnonce=\"OA6MHXh6VqTrRk\",", ""),
            ("realm=", "username=\"x\",realm="),
            ("qop=auth", "qop=\"auth"),
        ] {
            let text = EXAMPLE.replace(from, to);
            assert!(Response::parse(text.as_bytes(), NONCE, "imap").is_err(), "{text}");
        }
        assert!(Response::parse(b"", NONCE, "imap").is_err());
        assert!(Response::parse(b"=,=,\xff", NONCE, "imap").is_err());
        let long = format!("{EXAMPLE},x=\"{}\"", "x".repeat(RESPONSE_BYTES_MAX));
        assert!(Response::parse(long.as_bytes(), NONCE, "imap").is_err());
    }

    #[test]
    fn quoted_pairs_are_undone() {
        let text = EXAMPLE.replace("\"chris\"", "\"ch\\\"r\\\\is\"");
        assert_eq!(Response::parse(text.as_bytes(), NONCE, "imap").unwrap().user, "ch\"r\\is");
        assert!(challenge("a\"b", "n").starts_with(b"realm=\"a\\\"b\",nonce=\"n\""));
    }

    #[test]
    fn the_stored_form_is_dovecots() {
        let jo = UserName::new("jo@example.org").unwrap();
        let (user, realm) = stored_identity(&jo, "here");
        assert_eq!(hex(&secret(user, realm, "geheim")), "c29097954a411b6bfc618e287d42af90");
        let jo = UserName::new("jo").unwrap();
        assert_eq!(stored_identity(&jo, "here"), ("jo", "here"));
        assert_eq!(secret("jö", "r", "p"), HashKind::Md5.digest(b"j\xf6:r:p"));
    }
}
