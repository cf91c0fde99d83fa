//! Reads `{SCHEME}hash`, with all names that other servers have for schemes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as BASE64_BARE};

use crate::credential::{Credential, CredentialError, is_possible};
use crate::hash::{HashKind, HmacKey, hex, unhex};
use crate::old_hash::{self, DigestScheme};
use crate::scram::ScramVerifier;

/// Schemes that are known and not taken: broken, or of no use for a login by password.
const REFUSED: [&str; 8] =
    ["NTLM", "LANMAN", "LM", "OTP", "SKEY", "RPA", "PLAIN-MD4", "PLAIN-TRUNC"];

type Parsed = Result<Credential, CredentialError>;

/// What stands behind the scheme.
enum Rest<'t> {
    Text(&'t str),
    /// It was written in hexadecimal digits or base64, as a suffix of the scheme says.
    Bytes(Vec<u8>),
}

impl Rest<'_> {
    fn text(&self) -> Result<&str, CredentialError> {
        match self {
            Rest::Text(text) => Ok(text),
            Rest::Bytes(bytes) => std::str::from_utf8(bytes)
                .map_err(|_| CredentialError::Form("UTF-8 behind the encoding")),
        }
    }

    /// In hexadecimal digits, for schemes that are written so.
    fn hex(&self) -> String {
        match self {
            Rest::Text(text) => (*text).to_owned(),
            Rest::Bytes(bytes) => hex(bytes),
        }
    }
}

/// See [`Credential::parse`].
pub(crate) fn parse(text: &str) -> Parsed {
    let (scheme, rest) = match text.strip_prefix('{').and_then(|t| t.split_once('}')) {
        Some((scheme, rest)) => (scheme.to_ascii_uppercase(), rest),
        None => ("CRYPT".to_owned(), text),
    };
    let decoded = match scheme.split_once('.') {
        None => return named(&scheme, &Rest::Text(rest)),
        Some((scheme, "HEX")) => (scheme, unhex(rest), "an even number of hexadecimal digits"),
        Some((scheme, "B64" | "BASE64")) => {
            let bytes = BASE64.decode(rest).or_else(|_| BASE64_BARE.decode(rest)).ok();
            (scheme, bytes, "base64")
        }
        Some(_) => return Err(CredentialError::Scheme),
    };
    let (scheme, bytes, expected) = decoded;
    named(scheme, &Rest::Bytes(bytes.ok_or(CredentialError::Form(expected))?))
}

fn named(scheme: &str, rest: &Rest<'_>) -> Parsed {
    if let Some(name) = REFUSED.into_iter().find(|name| *name == scheme) {
        return Err(CredentialError::Refused(name));
    }
    match scheme {
        "SCRAM-SHA-1" => scram(HashKind::Sha1, rest.text()?),
        "SCRAM-SHA-256" => scram(HashKind::Sha256, rest.text()?),
        "SCRAM-SHA-512" => scram(HashKind::Sha512, rest.text()?),
        "CRAM-MD5" | "HMAC-MD5" => cram(HashKind::Md5, &rest.hex()),
        "CRAM-SHA1" => cram(HashKind::Sha1, &rest.hex()),
        "CRAM-SHA256" => cram(HashKind::Sha256, &rest.hex()),
        "DIGEST-MD5" => unhex(&rest.hex())
            .filter(|h| h.len() == HashKind::Md5.bytes())
            .map(Credential::DigestMd5)
            .ok_or(CredentialError::Form("32 hexadecimal digits")),
        "PLAIN" | "CLEAR" | "CLEARTEXT" => {
            let password = rest.text()?;
            let good = is_possible(password).is_ok();
            good.then(|| Credential::Clear(password.to_owned()))
                .ok_or(CredentialError::Form("a password"))
        }
        "PBKDF2" => old_hash::pbkdf2(rest.text()?)
            .map(Credential::Old)
            .ok_or(CredentialError::Form("$1$salt$rounds$40 hexadecimal digits")),
        "ARGON2ID" | "ARGON2I" | "ARGON2" | "SHA512-CRYPT" | "SHA256-CRYPT" | "BLF-CRYPT"
        | "MD5-CRYPT" | "DES-CRYPT" | "CRYPT" => crypt(scheme, rest.text()?),
        // Dovecot's `{MD5}` is MD5-crypt, Courier's a digest.
        "MD5" if rest.text().is_ok_and(|text| text.starts_with("$1$")) => {
            crypt("MD5-CRYPT", rest.text()?)
        }
        _ => digest(old_hash::digest_scheme(scheme).ok_or(CredentialError::Scheme)?, rest),
    }
}

fn digest(scheme: DigestScheme, rest: &Rest<'_>) -> Parsed {
    let hash = match rest {
        Rest::Text(text) => scheme.parse(text),
        Rest::Bytes(bytes) => scheme.from_bytes(bytes.clone()),
    };
    let expected = "the hash, and its salt where it has one, in base64 or hexadecimal digits";
    hash.map(Credential::Old).ok_or(CredentialError::Form(expected))
}

/// A text that tells by itself what it is; `scheme` may want one kind.
fn crypt(scheme: &str, text: &str) -> Parsed {
    let any = scheme == "CRYPT";
    let form = |good: bool, credential: fn(String) -> Credential, expected| match good {
        true => Ok(credential(text.to_owned())),
        false => Err(CredentialError::Form(expected)),
    };
    if scheme.starts_with("ARGON2") || (any && text.starts_with("$argon2")) {
        form(is_argon2(text), Credential::Argon2, "$argon2id$v=19$m=…,t=…,p=…$salt$hash")
    } else if scheme == "SHA512-CRYPT" || (any && text.starts_with("$6$")) {
        let good = text.starts_with("$6$") && is_sha_crypt(text, 86);
        form(good, Credential::ShaCrypt, "$6$[rounds=n$]salt$86 characters")
    } else if scheme == "SHA256-CRYPT" || (any && text.starts_with("$5$")) {
        let good = text.starts_with("$5$") && is_sha_crypt(text, 43);
        form(good, Credential::ShaCrypt, "$5$[rounds=n$]salt$43 characters")
    } else if scheme == "BLF-CRYPT" || (any && text.starts_with("$2")) {
        form(is_bcrypt(text), Credential::Bcrypt, "$2y$ or $2b$, two digits, $, 53 characters")
    } else {
        let wants = |found: &str| any || scheme == found;
        match old_hash::crypt(text).filter(|hash| wants(hash.scheme())) {
            Some(hash) => Ok(Credential::Old(hash)),
            None if any && !text.starts_with(['$', '_']) => Err(CredentialError::Scheme),
            None => Err(CredentialError::Form("a hash as crypt(3) makes it")),
        }
    }
}

fn scram(kind: HashKind, hash: &str) -> Parsed {
    let expected = "iterations,salt,stored key,server key, these in base64";
    let verifier = ScramVerifier::parse(kind, hash).map(Credential::Scram);
    verifier.ok_or(CredentialError::Form(expected))
}

fn cram(kind: HashKind, hash: &str) -> Parsed {
    let expected = "hexadecimal digits, four for each byte of the hash";
    HmacKey::parse(kind, hash).map(Credential::Hmac).ok_or(CredentialError::Form(expected))
}

fn is_argon2(hash: &str) -> bool {
    hash.starts_with("$argon2")
        && argon2::password_hash::phc::PasswordHash::new(hash).is_ok_and(|h| h.hash.is_some())
}

fn is_sha_crypt(hash: &str, hash_chars: usize) -> bool {
    let Some(body) = hash.get(3..) else { return false };
    let body = match body.strip_prefix("rounds=").map(|b| b.split_once('$')) {
        Some(Some((rounds, body))) if rounds.parse::<u32>().is_ok_and(|r| r >= 1000) => body,
        Some(_) => return false,
        None => body,
    };
    let crypt = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/');
    body.split_once('$').is_some_and(|(salt, hash)| {
        salt.len() <= 16 && hash.len() == hash_chars && hash.chars().all(crypt)
    })
}

fn is_bcrypt(hash: &str) -> bool {
    hash.len() == 60 && hash.parse::<bcrypt::HashParts>().is_ok()
}
