//! Names of a user's mailboxes, in memory and in the catalog's rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use protocol::types::UidValidity;
use serde::{Deserialize, Serialize};

use crate::acl::Acl;
use crate::adoption::Adopted;
use crate::format::frame::{Frame, UrlKey};
use crate::ids::MailboxId;
use crate::quota::QuotaLimits;

/// The name of the mailbox that every user has.
pub const INBOX: &str = "INBOX";
/// Between the levels of an internal name.
pub const SEPARATOR: char = '/';

/// Special uses of mailboxes: RFC 6154, RFC 8457.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// It is a quota root with these limits.
    pub quota: Option<QuotaLimits>,
    /// It is another server's, served where it lies.
    pub adopted: Option<Arc<Adopted>>,
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
    /// Limits of the user's own quota root, where they are not the account's.
    pub quota: Option<QuotaLimits>,
    /// Of mailboxes that URLs were authorised for (RFC 4467).
    pub(crate) url_keys: BTreeMap<MailboxId, UrlKey>,
    /// Of mailboxes that are not their owner's alone.
    pub(crate) acls: BTreeMap<MailboxId, Arc<Acl>>,
}

impl Namespace {
    /// The key that URLs into a mailbox are authorised with, if there is one.
    pub fn url_key(&self, name: &str) -> Option<&UrlKey> {
        self.url_keys.get(&self.mailboxes.get(name)?.id)
    }

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

    /// How a mailbox of another user is called among a user's subscriptions. No own name begins
    /// with a separator.
    pub fn name_of_others(owner: &str, name: &str) -> String {
        format!("{SEPARATOR}{owner}{SEPARATOR}{name}")
    }

    /// Owner and name of a mailbox that is so called; `None`: it is the user's own.
    pub fn of_others(name: &str) -> Option<(&str, &str)> {
        name.strip_prefix(SEPARATOR)?.split_once(SEPARATOR)
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

/// A namespace while frames are applied to it, with an index by id: the cost of a frame does not
/// grow with the number of mailboxes.
pub(crate) struct NamespaceEdit {
    namespace: Namespace,
    names: HashMap<MailboxId, String>,
    /// Mailboxes whose name another one has taken: frames that follow give them a new one. Redo
    /// meets names in other orders than live work did.
    displaced: HashMap<MailboxId, MailboxEntry>,
}

impl NamespaceEdit {
    pub(crate) fn new(namespace: Namespace) -> NamespaceEdit {
        let pair = |(name, entry): (&String, &MailboxEntry)| (entry.id, name.clone());
        let names = namespace.mailboxes.iter().map(pair).collect();
        NamespaceEdit { namespace, names, displaced: HashMap::new() }
    }

    /// The entry of a mailbox, with its name.
    pub(crate) fn entry(&self, id: MailboxId) -> Option<(&String, &MailboxEntry)> {
        self.namespace.mailboxes.get_key_value(self.names.get(&id)?)
    }

    /// The entry of a mailbox, to be changed, also when another one has its name.
    fn entry_mut(&mut self, id: MailboxId) -> Option<&mut MailboxEntry> {
        if self.displaced.contains_key(&id) {
            return self.displaced.get_mut(&id);
        }
        let entry = self.namespace.mailboxes.get_mut(self.names.get(&id)?)?;
        (entry.id == id).then_some(entry)
    }

    /// The effect of a catalog frame: live and in recovery.
    pub(crate) fn apply(&mut self, id: MailboxId, frame: &Frame) {
        match frame {
            Frame::User { partition, .. } => self.namespace.partition = partition.clone(),
            Frame::Mailbox { name, partition, uid_validity, special_use, .. } => {
                let before = self.entry_mut(id).cloned();
                self.remove(id);
                let entry = MailboxEntry {
                    id,
                    uid_validity: *uid_validity,
                    special_use: SpecialUse::from_bits(*special_use),
                    partition: partition.clone(),
                    quota: before.as_ref().and_then(|entry| entry.quota),
                    adopted: before.and_then(|entry| entry.adopted_on(partition)),
                };
                self.names.insert(id, name.clone());
                let there = self.namespace.mailboxes.insert(name.clone(), entry);
                self.displaced.extend(there.map(|entry| (entry.id, entry)));
            }
            Frame::MailboxGone { .. } => {
                self.remove(id);
                self.namespace.url_keys.remove(&id);
                self.namespace.acls.remove(&id);
            }
            Frame::Acl { acl: Some(acl), .. } => {
                self.namespace.acls.insert(id, acl.clone());
            }
            Frame::Acl { acl: None, .. } => {
                self.namespace.acls.remove(&id);
            }
            Frame::UrlKey { key, .. } => {
                self.namespace.url_keys.insert(id, *key);
            }
            Frame::Adopted { adopted, .. } => {
                if let Some(entry) = self.entry_mut(id) {
                    entry.adopted = Some(Arc::new(adopted.clone()));
                }
            }
            Frame::Subscription { name, on: true, .. } => {
                self.namespace.subscriptions.insert(name.clone());
            }
            Frame::Subscription { name, on: false, .. } => {
                self.namespace.subscriptions.remove(name);
            }
            Frame::Quota { limits, .. } if id == MailboxId::default() => {
                self.namespace.quota = *limits;
            }
            Frame::Quota { limits, .. } => {
                if let Some(entry) = self.entry_mut(id) {
                    entry.quota = *limits;
                }
            }
            Frame::Append(_) | Frame::Flags { .. } | Frame::Expunge { .. } => {}
            Frame::Keywords { .. } | Frame::Metadata { .. } | Frame::Annotations { .. } => {}
        }
    }

    fn remove(&mut self, id: MailboxId) {
        self.displaced.remove(&id);
        let Some(old) = self.names.remove(&id) else { return };
        // In a chain of renames another one may have the name by now.
        if self.namespace.mailboxes.get(&old).is_some_and(|entry| entry.id == id) {
            self.namespace.mailboxes.remove(&old);
        }
    }

    pub(crate) fn finish(self) -> Namespace {
        self.namespace
    }
}

/// The catalog's record of a user: JSON, so that fields can be added.
#[derive(Serialize, Deserialize)]
pub(crate) struct UserRecord {
    partition: String,
    /// Of earlier versions: by now each has a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mailboxes: Vec<EarlyMailbox>,
    /// Likewise.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    subscriptions: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaLimits>,
}

#[derive(Serialize, Deserialize)]
struct EarlyMailbox {
    id: String,
    #[serde(flatten)]
    record: MailboxRecord,
}

/// The catalog's row of a mailbox: JSON, so that fields can be added.
#[derive(Serialize, Deserialize)]
pub(crate) struct MailboxRecord {
    name: String,
    uid_validity: u32,
    #[serde(default)]
    special_use: u32,
    partition: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaLimits>,
    /// Of [`Frame::UrlKey`], in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url_key: Option<String>,
    /// Of [`Frame::Acl`]: identifiers with their rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acl: Option<BTreeMap<String, String>>,
    /// Of [`Frame::Adopted`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adopted: Option<Adopted>,
}

impl UserRecord {
    pub(crate) fn of(namespace: &Namespace) -> UserRecord {
        UserRecord {
            partition: namespace.partition.clone(),
            mailboxes: Vec::new(),
            subscriptions: BTreeSet::new(),
            quota: namespace.quota,
        }
    }

    /// Whether mailboxes and subscriptions are in rows of their own.
    pub(crate) fn is_in_rows(&self) -> bool {
        self.mailboxes.is_empty() && self.subscriptions.is_empty()
    }
}

impl MailboxRecord {
    pub(crate) fn of(namespace: &Namespace, name: &str, entry: &MailboxEntry) -> MailboxRecord {
        let key = namespace.url_keys.get(&entry.id);
        MailboxRecord {
            name: name.to_owned(),
            uid_validity: entry.uid_validity.0,
            special_use: SpecialUse::to_bits(&entry.special_use),
            partition: entry.partition.clone(),
            quota: entry.quota,
            // An id is as long, and so written.
            url_key: key.map(|key| MailboxId(*key).to_string()),
            acl: namespace.acl(entry.id).map(Acl::to_texts),
            adopted: entry.adopted.as_deref().cloned(),
        }
    }

    /// The access control list, if there is one.
    ///
    /// # Errors
    /// What is there, if it is none.
    pub(crate) fn acl(&self) -> Result<Option<Acl>, String> {
        let read = |texts| Acl::of_texts(texts).ok_or_else(|| format!("{texts:?}"));
        self.acl.as_ref().map(read).transpose()
    }

    /// The key that URLs are authorised with.
    pub(crate) fn url_key(&self) -> Option<UrlKey> {
        MailboxId::parse(self.url_key.as_deref()?).map(|key| key.0)
    }

    /// The name with its entry.
    pub(crate) fn into_entry(self, id: MailboxId) -> (String, MailboxEntry) {
        let entry = MailboxEntry {
            id,
            uid_validity: UidValidity(self.uid_validity),
            special_use: SpecialUse::from_bits(self.special_use),
            partition: self.partition,
            quota: self.quota,
            adopted: self.adopted.map(Arc::new),
        };
        (self.name, entry)
    }
}

impl From<UserRecord> for Namespace {
    fn from(record: UserRecord) -> Namespace {
        let entry = |m: EarlyMailbox| Some(m.record.into_entry(MailboxId::parse(&m.id)?));
        Namespace {
            partition: record.partition,
            mailboxes: record.mailboxes.into_iter().filter_map(entry).collect(),
            subscriptions: record.subscriptions,
            quota: record.quota,
            url_keys: BTreeMap::new(),
            acls: BTreeMap::new(),
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

    #[test]
    fn records_of_earlier_versions_are_read() {
        let json = r#"{"partition":"p","mailboxes":[{"name":"INBOX","id":"000102030405060708090a0b0c0d0e0f","uid_validity":7,"special_use":0,"partition":"q"}],"subscriptions":["a"]}"#;
        let record: UserRecord = serde_json::from_str(json).unwrap();
        assert!(!record.is_in_rows());
        let namespace = Namespace::from(record);
        assert_eq!(namespace.mailboxes["INBOX"].uid_validity, UidValidity(7));
        assert!(namespace.subscriptions.contains("a"));
        let now = serde_json::to_string(&UserRecord::of(&namespace)).unwrap();
        assert_eq!(now, r#"{"partition":"p"}"#);
    }

    #[test]
    fn names_that_change_places_in_one_transaction_keep_their_mailboxes() {
        let frame = |name: &str| Frame::Mailbox {
            user: "u".into(),
            name: name.into(),
            partition: "p".into(),
            uid_validity: UidValidity(1),
            special_use: 0,
        };
        let (a, b) = (MailboxId([1; 16]), MailboxId([2; 16]));
        let mut edit = NamespaceEdit::new(Namespace::default());
        let limits = Some(QuotaLimits { messages: Some(1), ..QuotaLimits::default() });
        for (id, name) in [(a, "x"), (b, "y"), (a, "y"), (b, "x")] {
            edit.apply(id, &frame(name));
            if name == "y" && id == b {
                edit.apply(b, &Frame::Quota { user: "u".into(), limits });
            }
        }
        assert_eq!(edit.entry(b).unwrap().1.quota, limits);
        assert_eq!(edit.entry(a).unwrap().0, "y");
        let namespace = edit.finish();
        let found: Vec<_> = namespace.mailboxes.iter().map(|(n, e)| (n.as_str(), e.id)).collect();
        assert_eq!(found, [("x", b), ("y", a)]);
    }
}
