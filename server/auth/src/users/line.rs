//! One line of the user file.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::credential::{Credential, CredentialError, Credentials};
use crate::directory::{Account, Attributes, CredentialVersion, Proxy};
use crate::name::{NameError, UserName};

/// A user, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// Name and attributes.
    pub account: Account,
    /// What the password is checked against; shared with the checks that run.
    pub credentials: Arc<Credentials>,
}

/// Why a line is no user. Names what was expected; never holds a credential.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    /// No colon, or more than two.
    #[error("expected name:credentials or name:credentials:key=value,...")]
    Fields,
    /// The bytes are no text.
    #[error("expected UTF-8")]
    Utf8,
    /// The name is bad.
    #[error("{0}")]
    Name(#[from] NameError),
    /// A credential is bad.
    #[error("{0}")]
    Credential(#[from] CredentialError),
    /// Not `key=value`.
    #[error("expected key=value, found {0:?}")]
    KeyValue(String),
    /// The key is unknown.
    #[error(
        "unknown key {0:?}: expected quota_bytes, quota_messages, partition, detail, host, disabled, \
         disableimap, disablepop3, disableshared, read_only, group or proxy"
    )]
    Key(String),
    /// The value does not fit its key.
    #[error("bad value of {key}: expected {expected}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// An earlier line has the same user; that one counts.
    #[error("user {0} is already defined on line {1}")]
    Twice(UserName, usize),
}

/// A bad line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// The user, where the name could be read.
    pub user: Option<UserName>,
    /// What is wrong.
    pub error: LineError,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.error)
    }
}

impl UserRecord {
    /// Changes with every change of the credentials or of what decides over logins. Costs a hash.
    pub fn version(&self) -> CredentialVersion {
        let mut hash = Sha256::new();
        let Attributes { disabled, disableimap, disablepop3, .. } = self.account.attributes;
        hash.update([disabled, disableimap, disablepop3].map(u8::from));
        hash.update(self.credentials.to_string());
        hash.finalize().into()
    }
}

impl fmt::Display for UserRecord {
    /// The line, without its line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.account.name, self.credentials)?;
        let attributes = format_attributes(&self.account.attributes);
        if !attributes.is_empty() {
            write!(f, ":{attributes}")?;
        }
        Ok(())
    }
}

/// Reads a line. `Ok(None)`: a comment or nothing.
///
/// The name comes back with the error where it could be read.
pub(super) fn parse(line: &[u8]) -> Result<Option<UserRecord>, (Option<UserName>, LineError)> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text.trim(),
        Err(_) => return Err((name_of_bytes(line), LineError::Utf8)),
    };
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (name, rest) = text.split_once(':').ok_or((None, LineError::Fields))?;
    let name = UserName::new(name.trim()).map_err(|e| (None, e.into()))?;
    match parse_rest(name.clone(), rest) {
        Ok(record) => Ok(Some(record)),
        Err(error) => Err((Some(name), error)),
    }
}

/// The user of a line, good or bad; `None` where [`parse`] tells none. Costs little.
pub(super) fn user(line: &[u8]) -> Option<UserName> {
    let Ok(text) = std::str::from_utf8(line) else { return name_of_bytes(line) };
    let text = text.trim();
    if text.starts_with('#') {
        return None;
    }
    let (name, _) = text.split_once(':')?;
    UserName::new(name.trim()).ok()
}

fn name_of_bytes(line: &[u8]) -> Option<UserName> {
    let name = line.split(|&b| b == b':').next()?;
    UserName::new(std::str::from_utf8(name).ok()?.trim()).ok()
}

fn parse_rest(name: UserName, rest: &str) -> Result<UserRecord, LineError> {
    let (credentials, attributes) = rest.split_once(':').unwrap_or((rest, ""));
    if attributes.contains(':') {
        return Err(LineError::Fields);
    }
    let credentials: Result<Vec<_>, _> =
        credentials.split_ascii_whitespace().map(Credential::parse).collect();
    // Credentials first: their errors never quote, and what follows a colon in a password that was
    // left in clear must not be quoted as an unknown key.
    let credentials = Credentials(credentials?);
    let attributes = parse_attributes(attributes)?;
    Ok(UserRecord { account: Account::new(name, attributes), credentials: Arc::new(credentials) })
}

/// Reads `key=value,...`.
pub(super) fn parse_attributes(text: &str) -> Result<Attributes, LineError> {
    let mut attributes = Attributes::default();
    for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| LineError::KeyValue(pair.to_owned()))?;
        let value = value.trim();
        match key.trim() {
            "quota_bytes" => attributes.quota_bytes = Some(size("quota_bytes", value)?),
            "quota_messages" => attributes.quota_messages = Some(size("quota_messages", value)?),
            "partition" => attributes.partition = Some(partition(value)?),
            "detail" => attributes.detail = Some(yes_no("detail", value)?),
            "host" => attributes.host = Some(host(value)?),
            "disabled" => attributes.disabled = yes_no("disabled", value)?,
            "disableimap" => attributes.disableimap = yes_no("disableimap", value)?,
            "disablepop3" => attributes.disablepop3 = yes_no("disablepop3", value)?,
            "read_only" => attributes.read_only = yes_no("read_only", value)?,
            "proxy" => attributes.proxy = proxy(value)?,
            "group" => attributes.groups.push(group(value)?),
            "disableshared" => attributes.disableshared = yes_no("disableshared", value)?,
            key => return Err(LineError::Key(key.to_owned())),
        }
    }
    Ok(attributes)
}

impl fmt::Display for Attributes {
    /// `key=value,...`, without those that are as by default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_attributes(self))
    }
}

fn format_attributes(attributes: &Attributes) -> String {
    let yes_no = |b| if b { "yes" } else { "no" };
    let mut pairs = Vec::new();
    if let Some(bytes) = attributes.quota_bytes {
        pairs.push(format!("quota_bytes={bytes}"));
    }
    if let Some(messages) = attributes.quota_messages {
        pairs.push(format!("quota_messages={messages}"));
    }
    if let Some(partition) = &attributes.partition {
        pairs.push(format!("partition={partition}"));
    }
    if let Some(detail) = attributes.detail {
        pairs.push(format!("detail={}", yes_no(detail)));
    }
    if let Some(host) = &attributes.host {
        pairs.push(format!("host={host}"));
    }
    for (key, is_on) in [
        ("disabled", attributes.disabled),
        ("disableimap", attributes.disableimap),
        ("disablepop3", attributes.disablepop3),
        ("disableshared", attributes.disableshared),
        ("read_only", attributes.read_only),
    ] {
        if is_on {
            pairs.push(format!("{key}=yes"));
        }
    }
    match attributes.proxy {
        Proxy::Nobody => {}
        Proxy::Domain => pairs.push("proxy=domain".to_owned()),
        Proxy::Everybody => pairs.push("proxy=all".to_owned()),
    }
    pairs.extend(attributes.groups.iter().map(|group| format!("group={group}")));
    pairs.join(",")
}

/// A group's name: it is made as a user's, and has no domain.
fn group(value: &str) -> Result<UserName, LineError> {
    let expected = "a name without domain or comma";
    let name = UserName::new(value).ok().filter(|name| !name.as_str().contains(['@', ',']));
    name.ok_or(LineError::Value { key: "group", expected })
}

fn yes_no(key: &'static str, value: &str) -> Result<bool, LineError> {
    match value {
        "yes" | "true" | "1" => Ok(true),
        "no" | "false" | "0" => Ok(false),
        _ => Err(LineError::Value { key, expected: "yes or no" }),
    }
}

fn proxy(value: &str) -> Result<Proxy, LineError> {
    match value {
        "no" => Ok(Proxy::Nobody),
        "domain" => Ok(Proxy::Domain),
        "all" => Ok(Proxy::Everybody),
        _ => Err(LineError::Value { key: "proxy", expected: "no, domain or all" }),
    }
}

/// Digits, with K, M, G or T for powers of 1024.
fn size(key: &'static str, value: &str) -> Result<u64, LineError> {
    let expected = "a number, perhaps with K, M, G or T";
    parse_size(value).ok_or(LineError::Value { key, expected })
}

/// A number, perhaps with K, M, G or T for powers of 1024.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (text.len() - 1, 10),
        Some(b'M' | b'm') => (text.len() - 1, 20),
        Some(b'G' | b'g') => (text.len() - 1, 30),
        Some(b'T' | b't') => (text.len() - 1, 40),
        _ => (text.len(), 0),
    };
    let digits = text.get(..digits)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A host's name, as a URL can have it.
fn host(value: &str) -> Result<String, LineError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    match !value.is_empty() && value.chars().all(good) {
        true => Ok(value.to_owned()),
        false => Err(LineError::Value { key: "host", expected: "a host name" }),
    }
}

fn partition(value: &str) -> Result<String, LineError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !value.is_empty() && value.chars().all(good) {
        true => Ok(value.to_owned()),
        false => Err(LineError::Value { key: "partition", expected: "a partition's name" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "{SHA512-CRYPT}$6$saltsalt$sfZR6YSW/Dp0uCiyF9fDipa6ORr5LVLOwXNgtzRlXXhkC7x\
                        A3w4zy97VIC3vL14AUXGJp3yBjZVztkdiBzJnX1";

    #[test]
    fn reads_names_credentials_and_attributes() {
        let line = format!("Jo@Example.ORG:{HASH}:quota_bytes=2G, detail=no,host=a.b,disabled=yes");
        let record = parse(line.as_bytes()).unwrap().unwrap();
        assert_eq!(record.account.name.as_str(), "jo@example.org");
        assert_eq!(record.account.attributes.quota_bytes, Some(2 << 30));
        assert_eq!(record.account.attributes.detail, Some(false));
        assert_eq!(record.account.attributes.host.as_deref(), Some("a.b"));
        assert!(record.account.attributes.disabled);
        let line =
            "jo::disableimap=1,disablepop3=yes,read_only=yes,proxy=domain,group=Staff,group=b";
        let other = parse(line.as_bytes()).unwrap().unwrap();
        let Attributes { disableimap, disablepop3, read_only, proxy, ref groups, .. } =
            other.account.attributes;
        assert_eq!(groups.iter().map(UserName::as_str).collect::<Vec<_>>(), ["staff", "b"]);
        assert!(disableimap && disablepop3 && read_only && proxy == Proxy::Domain);
        assert_eq!(parse(other.to_string().as_bytes()), Ok(Some(other)));
        assert_eq!(parse(record.to_string().as_bytes()), Ok(Some(record)));
        assert_eq!(parse(b"  # jo:x"), Ok(None));
        assert_eq!(parse(b" "), Ok(None));
        assert!(parse(b"nologin:").unwrap().unwrap().credentials.0.is_empty());
    }

    #[test]
    fn errors_name_the_user_and_what_was_expected() {
        let jo = UserName::new("jo").unwrap();
        for (line, user, said) in [
            ("jo", None, "name:credentials"),
            ("j o:x", None, "user name"),
            ("jo:geheim", Some(&jo), "{ARGON2ID}"),
            ("jo::colour=red", Some(&jo), "quota_bytes"),
            ("jo::detail", Some(&jo), "key=value"),
            ("jo::detail=maybe", Some(&jo), "yes or no"),
            ("jo::quota_bytes=G", Some(&jo), "a number"),
            ("jo::quota_bytes=99999999999T", Some(&jo), "a number"),
            ("jo::partition=../x", Some(&jo), "partition"),
            ("jo::host=a/b", Some(&jo), "a host name"),
            ("jo::group=a@b", Some(&jo), "without domain"),
            ("jo:::", Some(&jo), "name:credentials"),
        ] {
            let (found, error) = parse(line.as_bytes()).unwrap_err();
            assert_eq!(found.as_ref(), user, "{line}");
            assert!(error.to_string().contains(said), "{line}: {error}");
        }
        assert_eq!(parse(b"jo:\xff"), Err((Some(jo), LineError::Utf8)));
    }

    #[test]
    fn version_follows_the_credentials() {
        let read = |line: &str| parse(line.as_bytes()).unwrap().unwrap();
        let with = read(&format!("jo:{HASH}"));
        assert_eq!(with.version(), read(&format!("jo:{HASH}:quota_bytes=1")).version());
        assert_ne!(with.version(), read("jo:").version());
        assert_ne!(with.version(), read(&format!("jo:{HASH}:disabled=yes")).version());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_err(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(Some(record)) = parse(&line) {
                prop_assert_eq!(parse(record.to_string().as_bytes()), Ok(Some(record)));
            }
        }
    }
}
