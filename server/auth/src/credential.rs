//! Password schemes, as they stand in the user file: `{SCHEME}hash`, or a bare crypt string.
//!
//! | scheme | form |
//! |---|---|
//! | `{ARGON2ID}`, `{ARGON2I}` | `$argon2id$v=19$m=…,t=…,p=…$salt$hash`: what new passwords get |
//! | `{SCRAM-SHA-256}` | `iterations,salt,stored key,server key`: also lets the user use SCRAM |
//! | `{SHA512-CRYPT}`, `{SHA256-CRYPT}` | `$6$…`, `$5$…`, as in `/etc/shadow` |
//! | `{BLF-CRYPT}` | `$2y$…`, `$2b$…`, `$2a$…` |
//!
//! `{CRYPT}` takes any of the crypt forms.

use std::fmt;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use sha_crypt::ShaCrypt;
use thiserror::Error;

use crate::directory::{PasswordCheck, Unavailable};
use crate::scram::ScramVerifier;

/// Longest password in bytes; a longer one is wrong without being hashed.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// One stored credential.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// An Argon2 hash in PHC form.
    Argon2(String),
    /// A SCRAM verifier.
    Scram(ScramVerifier),
    /// SHA-256-crypt or SHA-512-crypt.
    ShaCrypt(String),
    /// bcrypt.
    Bcrypt(String),
}

/// Why a text is no credential.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// The scheme is unknown.
    #[error(
        "unknown password scheme: expected {{ARGON2ID}}, {{SCRAM-SHA-256}}, {{SHA512-CRYPT}}, \
         {{BLF-CRYPT}} or a $6$, $2y$, $2b$ or $argon2id$ string"
    )]
    Scheme,
    /// The hash does not have its scheme's form.
    #[error("bad hash: expected {0}")]
    Form(&'static str),
}

/// Why a new password can't be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// Nothing there.
    #[error("expected a password that isn't empty")]
    Empty,
    /// Longer than [`PASSWORD_BYTES_MAX`].
    #[error("expected a password of at most {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
    /// Holds a NUL or a line end, which no client can send.
    #[error("expected a password without NUL or line ends")]
    Character,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers for a salt")]
    Random,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())
    }
}

impl Credential {
    /// The scheme's name, without braces.
    pub fn scheme(&self) -> &'static str {
        match self {
            Credential::Argon2(hash) if hash.starts_with("$argon2id$") => "ARGON2ID",
            Credential::Argon2(_) => "ARGON2I",
            Credential::Scram(_) => "SCRAM-SHA-256",
            Credential::ShaCrypt(hash) if hash.starts_with("$5$") => "SHA256-CRYPT",
            Credential::ShaCrypt(_) => "SHA512-CRYPT",
            Credential::Bcrypt(_) => "BLF-CRYPT",
        }
    }

    /// Reads `{SCHEME}hash` or a bare crypt string.
    pub fn parse(text: &str) -> Result<Credential, CredentialError> {
        let (scheme, hash) = match text.strip_prefix('{').and_then(|t| t.split_once('}')) {
            Some((scheme, hash)) => (scheme.to_ascii_uppercase(), hash),
            None => ("CRYPT".to_owned(), text),
        };
        let form = |good: bool, credential: fn(String) -> Credential, expected| match good {
            true => Ok(credential(hash.to_owned())),
            false => Err(CredentialError::Form(expected)),
        };
        match scheme.as_str() {
            "SCRAM-SHA-256" => ScramVerifier::parse(hash).map(Credential::Scram).ok_or(
                CredentialError::Form("iterations,salt,stored key,server key, these in base64"),
            ),
            "ARGON2ID" | "ARGON2I" | "ARGON2" | "CRYPT" if hash.starts_with("$argon2") => {
                form(is_argon2(hash), Credential::Argon2, "$argon2id$v=19$m=…,t=…,p=…$salt$hash")
            }
            "SHA512-CRYPT" | "CRYPT" if hash.starts_with("$6$") => form(
                is_sha_crypt(hash, 86),
                Credential::ShaCrypt,
                "$6$[rounds=n$]salt$86 characters",
            ),
            "SHA256-CRYPT" | "CRYPT" if hash.starts_with("$5$") => form(
                is_sha_crypt(hash, 43),
                Credential::ShaCrypt,
                "$5$[rounds=n$]salt$43 characters",
            ),
            "BLF-CRYPT" | "CRYPT" if hash.starts_with("$2") => form(
                is_bcrypt(hash),
                Credential::Bcrypt,
                "$2y$ or $2b$, two digits, $, 53 characters",
            ),
            "ARGON2ID" | "ARGON2I" | "ARGON2" => {
                Err(CredentialError::Form("$argon2id$v=19$m=…,t=…,p=…$salt$hash"))
            }
            "SHA512-CRYPT" => Err(CredentialError::Form("$6$[rounds=n$]salt$86 characters")),
            "SHA256-CRYPT" => Err(CredentialError::Form("$5$[rounds=n$]salt$43 characters")),
            "BLF-CRYPT" => Err(CredentialError::Form("$2y$ or $2b$, two digits, $, 53 characters")),
            _ => Err(CredentialError::Scheme),
        }
    }

    /// Whether `password` fits. Takes as long as the scheme wants.
    pub fn check(&self, password: &[u8]) -> bool {
        if password.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        match self {
            Credential::Argon2(hash) => {
                Argon2::default().verify_password(password, hash.as_str()).is_ok()
            }
            Credential::Scram(verifier) => verifier.check(password),
            Credential::ShaCrypt(hash) => {
                ShaCrypt::default().verify_password(password, hash.as_str()).is_ok()
            }
            Credential::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Scram(verifier) => write!(f, "{{{}}}{verifier}", self.scheme()),
            Credential::Argon2(hash) | Credential::ShaCrypt(hash) | Credential::Bcrypt(hash) => {
                write!(f, "{{{}}}{hash}", self.scheme())
            }
        }
    }
}

/// All credentials of one user. None at all: the user can't log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials(pub Vec<Credential>);

impl Credentials {
    /// What a new password is stored as: Argon2id, and a verifier so that SCRAM works.
    ///
    /// Takes a good part of a second.
    pub fn for_password(password: &str) -> Result<Credentials, PasswordError> {
        if password.is_empty() {
            return Err(PasswordError::Empty);
        }
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        if password.contains(['\0', '\r', '\n']) {
            return Err(PasswordError::Character);
        }
        let hash = Argon2::default()
            .hash_password(password.as_bytes())
            .map_err(|_| PasswordError::Random)?;
        let verifier = ScramVerifier::new(password).map_err(|_| PasswordError::Random)?;
        Ok(Credentials(vec![Credential::Argon2(hash.to_string()), Credential::Scram(verifier)]))
    }

    /// The verifier for SCRAM, if there is one.
    pub fn scram(&self) -> Option<&ScramVerifier> {
        self.0.iter().find_map(|c| match c {
            Credential::Scram(verifier) => Some(verifier),
            _ => None,
        })
    }
}

impl PasswordCheck for Credentials {
    /// Asks one hash, not several: all are of the same password, and the time must not tell which
    /// failed. A SCRAM verifier is asked only when there is nothing else.
    fn check(&self, password: &[u8]) -> Result<bool, Unavailable> {
        let hash = self.0.iter().find(|c| !matches!(c, Credential::Scram(_)));
        Ok(hash.or_else(|| self.0.first()).is_some_and(|c| c.check(password)))
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, credential) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{credential}")?;
        }
        Ok(())
    }
}

fn is_argon2(hash: &str) -> bool {
    argon2::password_hash::phc::PasswordHash::new(hash).is_ok_and(|h| h.hash.is_some())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl passwd -6` and `bcrypt` with cost 4, password "geheim".
    const SHA512: &str = "$6$saltsalt$sfZR6YSW/Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7xA3w4zy97VIC3vL14AUXGJp3yBjZVztkdiBzJnX1";
    const BCRYPT: &str = "$2y$04$L.CyiBJe8FaWbysocNLbdupykRE0/m0jPQhrgDhlECZ7XyOVbb3BC";

    #[test]
    fn foreign_hashes_check() {
        for (text, scheme) in [(SHA512, "SHA512-CRYPT"), (BCRYPT, "BLF-CRYPT")] {
            for text in [text.to_owned(), format!("{{{scheme}}}{text}"), format!("{{crypt}}{text}")]
            {
                let credential = Credential::parse(&text).unwrap();
                assert_eq!(credential.scheme(), scheme);
                assert!(credential.check(b"geheim"), "{text}");
                assert!(!credential.check(b"Geheim"), "{text}");
                assert_eq!(Credential::parse(&credential.to_string()), Ok(credential));
            }
        }
    }

    #[test]
    fn a_new_password_gets_argon2id_and_scram() {
        let credentials = Credentials::for_password("pässword").unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials([ARGON2ID, SCRAM-SHA-256])");
        assert_eq!(credentials.check("pässword".as_bytes()), Ok(true));
        assert_eq!(credentials.check(b"password"), Ok(false));
        assert!(credentials.scram().unwrap().check("pässword".as_bytes()));
        let again: Vec<_> =
            credentials.to_string().split(' ').map(|c| Credential::parse(c).unwrap()).collect();
        assert_eq!(Credentials(again), credentials);
    }

    #[test]
    fn no_credentials_fit_no_password() {
        assert_eq!(Credentials::default().check(b""), Ok(false));
    }

    #[test]
    fn bad_credentials_say_what_was_expected() {
        assert_eq!(Credential::parse("geheim"), Err(CredentialError::Scheme));
        assert_eq!(Credential::parse("{MD5}abc"), Err(CredentialError::Scheme));
        for text in [
            "{SHA512-CRYPT}$6$salt$short",
            "{ARGON2ID}$6$x",
            "{BLF-CRYPT}$2y$10$short",
            "$argon2id$v=19$nonsense",
            "{SCRAM-SHA-256}4096",
        ] {
            assert!(matches!(Credential::parse(text), Err(CredentialError::Form(_))), "{text}");
        }
    }

    #[test]
    fn passwords_no_client_could_send_are_refused() {
        for (password, error) in [
            ("".to_owned(), PasswordError::Empty),
            ("a\nb".to_owned(), PasswordError::Character),
            ("a".repeat(PASSWORD_BYTES_MAX + 1), PasswordError::TooLong),
        ] {
            assert_eq!(Credentials::for_password(&password), Err(error));
        }
    }
}
