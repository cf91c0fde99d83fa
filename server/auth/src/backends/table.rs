//! Users of a file: a row for each name, read when somebody asks for the user.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::credential::{Credential, Credentials};
use crate::digest_md5;
use crate::directory::{Account, CredentialVersion, PasswordCheck, Unavailable};
use crate::hash::{HashKind, HmacKey};
use crate::name::UserName;
use crate::scram::ScramVerifier;
use subtle::ConstantTimeEq as _;

/// What a file says of one name, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where: a file and a line, or a database.
    pub at: String,
    /// The fields, without the name.
    pub fields: Vec<u8>,
}

/// How a remark on password schemes begins.
pub const WEAK: &str = "weak password scheme";

/// All rows of a file, or of several.
#[derive(Debug, Default)]
pub struct Table {
    pub rows: HashMap<UserName, Row>,
    /// What is no row, and where.
    pub problems: Vec<String>,
}

/// Problems that are kept; a file of another kind would have one in each line.
const PROBLEMS_MAX: usize = 100;

impl Table {
    /// Adds a row; the first one of a name counts.
    pub fn add(&mut self, name: &[u8], row: Row) {
        let text = String::from_utf8_lossy(name);
        match UserName::new(text.trim()) {
            Err(error) => self.problem(format!("{}: {text:?}: {error}", row.at)),
            Ok(name) => match self.rows.get(&name) {
                Some(first) => {
                    let problem = format!("{}: {name} is already at {}", row.at, first.at);
                    self.problem(problem);
                }
                None => {
                    self.rows.insert(name, row);
                }
            },
        }
    }

    /// Notes what is no row.
    pub fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        }
    }
}

/// A user, read from a row.
#[derive(Clone, Debug)]
pub struct Record {
    pub account: Account,
    pub passwords: Passwords,
    /// What the operator should know: fields that mean nothing here, and the like.
    pub remarks: Vec<String>,
}

/// The credentials of one user, some of which may be for one service alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passwords {
    pub any: Credentials,
    pub by_service: Vec<(String, Credentials)>,
    /// Services without logins, whatever the general password is.
    pub locked: Vec<String>,
}

impl Passwords {
    /// Reads one; `None`: it is one that nobody has, as `*` and `!` in `/etc/shadow`.
    pub fn read(text: &str) -> Result<Option<Credential>, String> {
        match text {
            "" | "x" => Ok(None),
            text if text.starts_with(['*', '!']) => Ok(None),
            text => Credential::parse(text).map(Some).map_err(|e| e.to_string()),
        }
    }

    /// Those for a service: its own, and of the general ones what it has none of its own for.
    fn of(&self, service: &str) -> Credentials {
        // Courier has no name of its own for our other protocols.
        let service = match service {
            "smap" => "imap",
            other => other,
        };
        let own = self.by_service.iter().find(|(name, _)| name == service).map(|(_, c)| &c.0);
        let own = own.into_iter().flatten();
        let is_secret = |c: &Credential| matches!(c, Credential::Hmac(_));
        let mut found: Vec<Credential> = own.cloned().collect();
        let is_locked = self.locked.iter().any(|name| name == service);
        let has_password = is_locked || found.iter().any(|c| !is_secret(c));
        for credential in &self.any.0 {
            let replaced = match credential {
                Credential::Hmac(key) => {
                    found.iter().any(|c| matches!(c, Credential::Hmac(k) if k.kind() == key.kind()))
                }
                _ => has_password,
            };
            if !replaced {
                found.push(credential.clone());
            }
        }
        Credentials(found)
    }

    /// Every credential there is.
    pub fn all(&self) -> impl Iterator<Item = &Credential> {
        self.any.0.iter().chain(self.by_service.iter().flat_map(|(_, c)| &c.0))
    }
}

impl Record {
    /// What a login of `service` is checked against.
    pub fn check(&self, service: &str) -> (Arc<dyn PasswordCheck>, CredentialVersion) {
        let credentials = self.passwords.of(service);
        let mut hash = Sha256::new();
        hash.update(self.account.attributes.to_string());
        hash.update([0]);
        hash.update(credentials.to_string());
        let check = Check { name: self.account.name.clone(), credentials };
        (Arc::new(check), hash.finalize().into())
    }

    /// What the operator should look at: weak schemes first.
    pub fn remarks(&self) -> Vec<String> {
        let mut weak: Vec<&str> =
            self.passwords.all().filter(|c| c.is_weak()).map(Credential::scheme).collect();
        weak.sort_unstable();
        weak.dedup();
        let weak = (!weak.is_empty()).then(|| format!("{WEAK} {}", weak.join(", ")));
        weak.into_iter().chain(self.remarks.iter().cloned()).collect()
    }
}

/// Credentials whose owner is known, so that a digest with the name in it fits a password, too.
struct Check {
    name: UserName,
    credentials: Credentials,
}

impl PasswordCheck for Check {
    fn check(&self, password: &[u8]) -> Result<bool, Unavailable> {
        match self.credentials.0.as_slice() {
            [Credential::DigestMd5(right)] => {
                let Ok(password) = std::str::from_utf8(password) else { return Ok(false) };
                // As Dovecot makes it: without a domain the realm is empty.
                let (user, realm) = digest_md5::stored_identity(&self.name, "");
                Ok(digest_md5::secret(user, realm, password).ct_eq(right).into())
            }
            _ => self.credentials.check(password),
        }
    }

    fn scram(&self, hash: HashKind) -> Option<ScramVerifier> {
        self.credentials.scram(hash)
    }

    fn hmac_key(&self, hash: HashKind) -> Option<HmacKey> {
        self.credentials.hmac_key(hash)
    }

    fn digest_md5(
        &self,
        name: &UserName,
        user: &str,
        realm: &str,
        own_realm: &str,
    ) -> Option<Vec<u8>> {
        self.credentials.digest_md5(name, user, realm, own_realm)
    }

    fn password(&self) -> Option<&str> {
        self.credentials.password()
    }
}
