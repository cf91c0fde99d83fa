//! Records of `user_deny.db`: who is denied which services.
//!
//! The key is the user. The value, its fields separated by TAB:
//!
//! | field | contents |
//! |---|---|
//! | version | `1`, `2` |
//! | services | patterns, separated by commas; with `!` before it a pattern makes an exception |
//! | message | what the user is told; since version 2 |
//!
//! The last pattern that matches decides. Patterns have `*` (anything), `?` (one character), `[a-z]`
//! and `[^a-z]` (one of, none of these), and `\` before a character that means itself.

use super::{Damage, text};

const FORMAT: &str = "user_deny.db";
/// The version that Cyrus writes since 2.3.
const VERSION: &str = "2";
/// Every service.
pub const ALL_SERVICES: &str = "*";
/// What Cyrus says to users for whom nothing else was written.
pub const MESSAGE: &str = "Access to this service has been blocked";

/// What is denied to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Patterns as they are written.
    pub services: String,
    /// What the user is told; empty: nothing.
    pub message: String,
}

impl Denial {
    /// Reads a value.
    ///
    /// # Errors
    /// Another version, no services, no UTF-8.
    pub fn parse(value: &[u8]) -> Result<Denial, Damage> {
        let value = text(FORMAT, 0, value)?;
        let mut fields = value.splitn(3, '\t');
        let version = fields.next().unwrap_or_default();
        if !matches!(version.trim(), "1" | VERSION) {
            return Err(Damage::new(FORMAT, 0, "version 1 or 2", version));
        }
        let Some(services) = fields.next() else {
            return Err(Damage::new(FORMAT, version.len(), "TAB, services", "the end"));
        };
        let message = fields.next().unwrap_or(MESSAGE).to_owned();
        Ok(Denial { services: services.to_owned(), message })
    }

    /// As Cyrus writes it.
    pub fn to_value(&self) -> Vec<u8> {
        format!("{VERSION}\t{}\t{}", self.services, self.message).into_bytes()
    }

    /// Whether the service of this name is denied.
    pub fn denies(&self, service: &str) -> bool {
        for pattern in self.services.rsplit(',') {
            let (denied, pattern) = match pattern.strip_prefix('!') {
                Some(pattern) => (false, pattern),
                None => (true, pattern),
            };
            if matches(pattern.as_bytes(), service.as_bytes()) {
                return denied;
            }
        }
        false
    }
}

/// Whether a pattern fits a whole name. Goes back to the last `*` only, which is enough: time is at
/// most the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        let rest = pattern.get(p..).unwrap_or_default();
        if rest.first() == Some(&b'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        match name.get(n).and_then(|&byte| one(rest, byte)) {
            Some(taken) => {
                p += taken;
                n += 1;
            }
            None => {
                let Some((behind, from)) = star else { return false };
                star = Some((behind, from + 1));
                (p, n) = (behind, from + 1);
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&byte| byte == b'*')
}

/// How many bytes of a pattern's start stand for this byte; `None` if they do not.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', next, ..] => (*next == byte).then_some(2),
        [b'[', set @ ..] => {
            let (except, set) = match set {
                [b'^', set @ ..] => (true, set),
                set => (false, set),
            };
            // `]` in the first place means itself.
            let len = 1 + set.iter().skip(1).position(|&b| b == b']')?;
            let members = set.get(..len)?;
            let fits = contains(members, byte) != except;
            fits.then_some(1 + usize::from(except) + len + 1)
        }
        [first, ..] => (*first == byte).then_some(1),
        [] => None,
    }
}

/// Whether a byte is one of a set such as `a-z_`.
fn contains(mut members: &[u8], byte: u8) -> bool {
    loop {
        members = match members {
            [from, b'-', to, rest @ ..] => {
                if (*from..=*to).contains(&byte) {
                    return true;
                }
                rest
            }
            [one, rest @ ..] => {
                if *one == byte {
                    return true;
                }
                rest
            }
            [] => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_written_as_cyrus_writes_them() {
        let read = |value: &str| Denial::parse(value.as_bytes());
        let denial = read("2\timap*,!imaps\tgo away").unwrap();
        assert_eq!(denial.services, "imap*,!imaps");
        assert_eq!(denial.message, "go away");
        assert_eq!(denial.to_value(), b"2\timap*,!imaps\tgo away");
        assert_eq!(read("1\tpop3").unwrap().message, MESSAGE);
        assert_eq!(read("2\t*\t").unwrap().message, "");
        for bad in ["", "3\t*\tx", "x", "2"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let denies = |services: &str, service: &str| {
            Denial { services: services.to_owned(), message: String::new() }.denies(service)
        };
        for (services, service, denied) in [
            ("*", "imap", true),
            ("imap*,!imaps", "imap", true),
            ("imap*,!imaps", "imaps", false),
            ("!imaps,imap*", "imaps", true),
            ("imap,pop3", "sieve", false),
            ("", "imap", false),
            ("pop?", "pop3", true),
            ("pop?", "pop", false),
            ("[a-i]map", "imap", true),
            ("[^a-i]map", "imap", false),
            ("[]i]map", "imap", true),
            ("[i", "[i", false),
            ("im\\*p", "im*p", true),
            ("im\\*p", "imap", false),
            ("*a*p*", "imap", true),
            ("*a*x*", "imap", false),
            ("imap*\\", "imap", false),
        ] {
            assert_eq!(denies(services, service), denied, "{services} {service}");
        }
    }
}
