//! Names of mailboxes inside of Cyrus.
//!
//! | form | user alice's Work | john.doe's INBOX | dave@example.com's INBOX |
//! |---|---|---|---|
//! | internal | `user.alice.Work` | `user.john^doe` | `example.com!user.dave` |
//! | in databases since 3.6 | `user` 1F `alice` 1F `Work` | `user` 1F `john.doe` | `example.com` 1D `user` 1F `dave` |
//!
//! Levels stay in modified UTF-7. On the wire `.` and `/` change places with `unixhierarchysep`,
//! which nothing on disk depends on.

use super::Damage;

const FORMAT: &str = "mailbox name";
const LEVEL: char = '\x1f';
const DOMAIN: char = '\x1d';

/// A name, in whatever form it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Absent in the default domain.
    pub domain: Option<String>,
    /// Levels from the top, in modified UTF-7, with plain dots.
    pub levels: Vec<String>,
}

/// Whose a mailbox is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A user, canonical (`local` or `local@domain`); the levels below the INBOX.
    User(String, Vec<String>),
    /// Nobody: a shared mailbox of a domain.
    Shared,
    /// A deleted one that waits for its end.
    Deleted,
}

impl Name {
    /// Reads the internal form.
    ///
    /// # Errors
    /// An empty level; bytes that no name has.
    pub fn from_internal(text: &str) -> Result<Name, Damage> {
        let (domain, rest) = match text.split_once('!') {
            Some((domain, rest)) => (Some(domain), rest),
            None => (None, text),
        };
        let levels = rest.split('.').map(|level| level.replace('^', ".")).collect();
        Self::checked(text, domain, levels)
    }

    /// Reads the form of databases since 3.6.
    ///
    /// # Errors
    /// As of [`Name::from_internal`].
    pub fn from_database(text: &str) -> Result<Name, Damage> {
        let (domain, rest) = match text.split_once(DOMAIN) {
            Some((domain, rest)) => (Some(domain), rest),
            None => (None, text),
        };
        Self::checked(text, domain, rest.split(LEVEL).map(str::to_owned).collect())
    }

    fn checked(text: &str, domain: Option<&str>, levels: Vec<String>) -> Result<Name, Damage> {
        let bad = |s: &str| {
            s.is_empty()
                || s == ".."
                || s == "."
                || s.contains('/')
                || s.chars().any(char::is_control)
        };
        if levels.iter().any(|level| bad(level)) || domain.is_some_and(bad) {
            let found = text.escape_debug().to_string();
            return Err(Damage::new(FORMAT, 0, "levels that can be directories", found));
        }
        Ok(Name { domain: domain.map(str::to_owned), levels })
    }

    /// The internal form.
    pub fn to_internal(&self) -> String {
        let levels: Vec<_> = self.levels.iter().map(|level| level.replace('.', "^")).collect();
        match &self.domain {
            Some(domain) => format!("{domain}!{}", levels.join(".")),
            None => levels.join("."),
        }
    }

    /// The form of databases since 3.6.
    pub fn to_database(&self) -> String {
        let levels = self.levels.join(&LEVEL.to_string());
        match &self.domain {
            Some(domain) => format!("{domain}{DOMAIN}{levels}"),
            None => levels,
        }
    }

    /// The name of a user's mailbox; `below` are the levels below the INBOX.
    pub fn of_user(user: &str, below: &[String]) -> Name {
        let (local, domain) = match user.rsplit_once('@') {
            Some((local, domain)) => (local, Some(domain.to_owned())),
            None => (user, None),
        };
        let top = ["user".to_owned(), local.to_owned()];
        Name { domain, levels: top.into_iter().chain(below.iter().cloned()).collect() }
    }

    /// Whose the mailbox is; `deleted` is `deletedprefix`.
    pub fn owner(&self, deleted: &str) -> Owner {
        match self.levels.as_slice() {
            [first, _, ..] if first == deleted => Owner::Deleted,
            [first, user, below @ ..] if first == "user" => {
                let user = match &self.domain {
                    Some(domain) => format!("{user}@{domain}"),
                    None => user.clone(),
                };
                Owner::User(user, below.to_vec())
            }
            _ => Owner::Shared,
        }
    }

    /// Whether this name is `other` or lies below it.
    pub fn is_within(&self, other: &Name) -> bool {
        self.domain == other.domain && self.levels.starts_with(&other.levels)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_internal())
    }
}
