//! Names of a user's mailboxes: the catalog's unit, one record per user.

use std::collections::{BTreeMap, BTreeSet};

use protocol::types::UidValidity;
use serde::{Deserialize, Serialize};

use crate::ids::MailboxId;

/// The name of the mailbox that every user has.
pub const INBOX: &str = "INBOX";
/// Between the levels of an internal name.
pub const SEPARATOR: char = '/';

/// Special uses of mailboxes: RFC 6154, RFC 8457.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecialUse {
    /// `\All`
    All,
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Flagged`
    Flagged,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
    /// `\Important`
    Important,
}

impl SpecialUse {
    /// Each with its wire name; the position is the bit in frames and catalog.
    pub const NAMES: [(SpecialUse, &'static str); 8] = [
        (SpecialUse::All, "\\All"),
        (SpecialUse::Archive, "\\Archive"),
        (SpecialUse::Drafts, "\\Drafts"),
        (SpecialUse::Flagged, "\\Flagged"),
        (SpecialUse::Junk, "\\Junk"),
        (SpecialUse::Sent, "\\Sent"),
        (SpecialUse::Trash, "\\Trash"),
        (SpecialUse::Important, "\\Important"),
    ];

    /// The wire name.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(use_, _)| *use_ == self).map_or("", |(_, name)| name)
    }

    /// Reads a wire name, without regard to case.
    pub fn parse(name: &str) -> Option<SpecialUse> {
        let same = |(_, n): &&(SpecialUse, &str)| n.eq_ignore_ascii_case(name);
        Self::NAMES.iter().find(same).map(|(use_, _)| *use_)
    }

    pub(crate) fn to_bits(uses: &[SpecialUse]) -> u32 {
        let bit = |u: &SpecialUse| Self::NAMES.iter().position(|(n, _)| n == u).unwrap_or(0);
        uses.iter().fold(0, |bits, u| bits | 1 << bit(u))
    }

    pub(crate) fn from_bits(bits: u32) -> Vec<SpecialUse> {
        let set = |(i, (u, _)): (usize, &(SpecialUse, &str))| (bits & (1 << i) != 0).then_some(*u);
        Self::NAMES.iter().enumerate().filter_map(set).collect()
    }
}

/// What the catalog says of one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxEntry {
    /// What it is.
    pub id: MailboxId,
    /// Never changes for an id.
    pub uid_validity: UidValidity,
    /// RFC 6154.
    pub special_use: Vec<SpecialUse>,
    /// Where its files are.
    pub partition: String,
}

/// A snapshot of a user's mailboxes and subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Partition of new mailboxes.
    pub partition: String,
    /// By internal name.
    pub mailboxes: BTreeMap<String, MailboxEntry>,
    /// Names; they need not exist.
    pub subscriptions: BTreeSet<String>,
}

impl Namespace {
    /// The internal form of a name: INBOX in upper case whatever its case, also as first level.
    pub fn canonical(name: &str) -> String {
        let (first, rest) = match name.split_once(SEPARATOR) {
            Some((first, rest)) => (first, Some(rest)),
            None => (name, None),
        };
        if !first.eq_ignore_ascii_case(INBOX) {
            return name.to_owned();
        }
        rest.map_or_else(|| INBOX.to_owned(), |rest| format!("{INBOX}{SEPARATOR}{rest}"))
    }

    /// Whether any mailbox lies below `name`.
    pub fn has_children(&self, name: &str) -> bool {
        self.below(name).next().is_some()
    }

    /// Mailboxes below `name`, not itself.
    pub fn below<'a>(
        &'a self,
        name: &str,
    ) -> impl Iterator<Item = (&'a String, &'a MailboxEntry)> + use<'a> {
        let prefix = format!("{name}{SEPARATOR}");
        let from = self.mailboxes.range(prefix.clone()..);
        from.take_while(move |(n, _)| n.starts_with(&prefix))
    }

    /// The name of a mailbox.
    pub(crate) fn name_of(&self, id: MailboxId) -> Option<&String> {
        self.mailboxes.iter().find(|(_, entry)| entry.id == id).map(|(name, _)| name)
    }
}

/// The catalog's form of a [`Namespace`]: JSON, so that fields can be added.
#[derive(Serialize, Deserialize)]
pub(crate) struct NamespaceRecord {
    partition: String,
    mailboxes: Vec<MailboxRecord>,
    subscriptions: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct MailboxRecord {
    name: String,
    id: String,
    uid_validity: u32,
    #[serde(default)]
    special_use: u32,
    partition: String,
}

impl From<&Namespace> for NamespaceRecord {
    fn from(namespace: &Namespace) -> NamespaceRecord {
        let record = |(name, entry): (&String, &MailboxEntry)| MailboxRecord {
            name: name.clone(),
            id: entry.id.to_string(),
            uid_validity: entry.uid_validity.0,
            special_use: SpecialUse::to_bits(&entry.special_use),
            partition: entry.partition.clone(),
        };
        NamespaceRecord {
            partition: namespace.partition.clone(),
            mailboxes: namespace.mailboxes.iter().map(record).collect(),
            subscriptions: namespace.subscriptions.clone(),
        }
    }
}

impl From<NamespaceRecord> for Namespace {
    fn from(record: NamespaceRecord) -> Namespace {
        let entry = |m: MailboxRecord| {
            let entry = MailboxEntry {
                id: MailboxId::parse(&m.id)?,
                uid_validity: UidValidity(m.uid_validity),
                special_use: SpecialUse::from_bits(m.special_use),
                partition: m.partition,
            };
            Some((m.name, entry))
        };
        Namespace {
            partition: record.partition,
            mailboxes: record.mailboxes.into_iter().filter_map(entry).collect(),
            subscriptions: record.subscriptions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inbox_is_one_name_in_any_case() {
        assert_eq!(Namespace::canonical("inBox"), "INBOX");
        assert_eq!(Namespace::canonical("inbox/a"), "INBOX/a");
        assert_eq!(Namespace::canonical("Inboxes"), "Inboxes");
    }

    #[test]
    fn special_uses_survive_their_bits() {
        let uses = vec![SpecialUse::Sent, SpecialUse::Important];
        assert_eq!(SpecialUse::from_bits(SpecialUse::to_bits(&uses)), uses);
        assert_eq!(SpecialUse::parse("\\sENT"), Some(SpecialUse::Sent));
    }
}
