//! Names of Courier's shared index: which account, and which Maildir anywhere, is called what below
//! `#shared`.
//!
//! A Maildir that is no account's of ours is served as that of a user in [`COMMON_DOMAIN`], a
//! domain that nobody logs in to and in which everybody is at home.
//!
//! Invariants: a name has no `.` and no empty level; levels are separated by [`SEPARATOR`]; no name
//! lies below another one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use crate::acl::COMMON_DOMAIN;
use crate::namespace::SEPARATOR;

/// What a name of the index stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedAccount {
    /// Whose mailboxes these are: canonical.
    pub owner: String,
    /// The partition that the Maildir is on.
    pub partition: String,
    /// Where it is.
    pub maildir: PathBuf,
}

/// The names of one index, with those of the indexes below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedNames {
    accounts: BTreeMap<String, SharedAccount>,
    names: HashMap<String, String>,
}

impl SharedNames {
    /// Adds a name; of two that are equal, or that lie in each other, the first one counts. Whether
    /// it was added.
    pub fn add(&mut self, name: &str, account: SharedAccount) -> bool {
        let has_level = |level: &str| level.is_empty() || level.contains('.');
        if name.split(SEPARATOR).any(has_level) || self.find(name).is_some() || self.is_above(name)
        {
            return false;
        }
        self.names.entry(account.owner.clone()).or_insert_with(|| name.to_owned());
        self.accounts.insert(name.to_owned(), account);
        true
    }

    /// The account that a name below `#shared` lies in, and what of the name is its mailbox's;
    /// nothing for its INBOX.
    pub fn find<'n>(&self, name: &'n str) -> Option<(&SharedAccount, Option<&'n str>)> {
        let ends = name.match_indices(SEPARATOR).map(|(at, _)| at).chain([name.len()]);
        ends.into_iter().find_map(|end| {
            let account = self.accounts.get(&name[..end])?;
            Some((account, name.get(end + 1..)))
        })
    }

    /// Whether names of accounts lie below this one.
    fn is_above(&self, name: &str) -> bool {
        let prefix = format!("{name}{SEPARATOR}");
        let next = self.accounts.range(prefix.clone()..).next();
        next.is_some_and(|(first, _)| first.starts_with(&prefix))
    }

    /// Levels that names of accounts lie below.
    pub fn levels(&self) -> BTreeSet<String> {
        let above = |name: &String| {
            let ends = name.match_indices(SEPARATOR);
            ends.map(|(at, _)| name[..at].to_owned()).collect::<Vec<_>>()
        };
        self.accounts.keys().flat_map(above).collect()
    }

    /// What an owner is called.
    pub fn name_of(&self, owner: &str) -> Option<&str> {
        self.names.get(owner).map(String::as_str)
    }

    /// All of them.
    pub fn accounts(&self) -> impl Iterator<Item = &SharedAccount> {
        self.names.values().filter_map(|name| self.accounts.get(name))
    }

    /// The account of an owner.
    pub fn account_of(&self, owner: &str) -> Option<&SharedAccount> {
        self.accounts.get(self.names.get(owner)?)
    }
}

/// The user that stands for a Maildir that is no account's: by its name in the index.
pub fn common_user(name: &str) -> String {
    // No level has a dot.
    let plain = |c: char| match c {
        SEPARATOR => '.',
        c if c.is_alphanumeric() || c == '-' => c,
        _ => '_',
    };
    let local: String = name.to_lowercase().chars().map(plain).collect();
    format!("{local}@{COMMON_DOMAIN}")
}

/// The indexes of all groups of users; that of the empty name is everybody's who has no group.
#[derive(Clone, Debug, Default)]
pub struct SharedIndex {
    groups: BTreeMap<String, Arc<SharedNames>>,
    /// All names, for what is read without knowing the user's group.
    all: Arc<SharedNames>,
}

impl SharedIndex {
    /// Of the indexes by group.
    pub fn new(groups: BTreeMap<String, SharedNames>) -> SharedIndex {
        let mut all = SharedNames::default();
        for (name, account) in groups.values().flat_map(|names| &names.accounts) {
            all.add(name, account.clone());
        }
        let groups = groups.into_iter().map(|(group, names)| (group, Arc::new(names))).collect();
        SharedIndex { groups, all: Arc::new(all) }
    }

    /// What users of a group see. Where there is an index, those of an unknown group see nothing.
    pub fn of_group(&self, group: &str) -> Option<Arc<SharedNames>> {
        if self.groups.is_empty() {
            return None;
        }
        Some(self.groups.get(group).cloned().unwrap_or_default())
    }

    /// All names; `None` where there is no index.
    pub(crate) fn all(&self) -> Option<&SharedNames> {
        (!self.groups.is_empty()).then_some(&*self.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(owner: &str) -> SharedAccount {
        SharedAccount { owner: owner.into(), partition: "p".into(), maildir: "/m".into() }
    }

    #[test]
    fn names_lead_to_accounts_and_back() {
        let mut names = SharedNames::default();
        assert!(names.add("jo", account("jo")));
        assert!(names.add("staff/boss", account("mo")));
        for refused in ["jo", "jo/x", "staff", "", "a//b", "a.b"] {
            assert!(!names.add(refused, account("x")), "{refused}");
        }
        let found = |name| names.find(name).map(|(account, rest)| (account.owner.as_str(), rest));
        assert_eq!(found("jo"), Some(("jo", None)));
        assert_eq!(found("jo/a/b"), Some(("jo", Some("a/b"))));
        assert_eq!(found("staff/boss/Box"), Some(("mo", Some("Box"))));
        for none in ["staff", "john", "staff/bossy", ""] {
            assert_eq!(found(none), None, "{none}");
        }
        assert_eq!(names.levels(), ["staff".to_owned()].into());
        assert_eq!(names.name_of("mo"), Some("staff/boss"));
        assert_eq!(names.name_of("x"), None);
        assert_eq!(names.accounts().count(), 2);
    }

    #[test]
    fn groups_see_their_own_index() {
        assert!(SharedIndex::default().of_group("").is_none());
        let names = |name: &str| {
            let mut names = SharedNames::default();
            names.add(name, account(name));
            names
        };
        let groups = [(String::new(), names("a")), ("x".to_owned(), names("b"))];
        let index = SharedIndex::new(groups.into());
        assert!(index.of_group("").unwrap().find("a").is_some());
        assert!(index.of_group("x").unwrap().find("a").is_none());
        assert!(index.of_group("y").unwrap().find("a").is_none());
        assert_eq!(index.all().unwrap().accounts().count(), 2);
    }
}
