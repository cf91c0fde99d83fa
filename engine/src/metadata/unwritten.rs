//! Values that the catalog does not have yet: metadata of mailboxes and of the server, annotations
//! of messages ([`crate::annotation`]). In memory, in front of the catalog.
//!
//! Invariant: who asks for a value looks here first and then into the catalog, so that what a
//! checkpoint writes meanwhile is found in either.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::types::Uid;

use crate::format::frame::AnnotationValue;
use crate::ids::MailboxId;

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Zeros: the server.
    pub(crate) mailbox: MailboxId,
    /// The message that it is an annotation of; 0: it is metadata of the mailbox.
    pub(crate) uid: Uid,
    /// Empty: shared.
    pub(crate) whose: String,
    pub(crate) entry: String,
}

impl Key {
    /// Before all of a mailbox, from this message on.
    pub(crate) fn first(mailbox: MailboxId, uid: Uid) -> Key {
        Key { mailbox, uid, whose: String::new(), entry: String::new() }
    }

    /// Whether the value counts as ANNOTATION-STORAGE: what no client can see does not.
    pub(crate) fn is_counted(&self) -> bool {
        self.uid != Uid(0) || self.entry.starts_with('/')
    }
}

/// A value, or that there is none.
pub(crate) type Value = Option<Arc<[u8]>>;

/// What no checkpoint has written.
#[derive(Default)]
pub(crate) struct Unwritten {
    values: Mutex<BTreeMap<Key, Value>>,
    /// One change of the server's shared entries at a time.
    pub(super) server: Mutex<()>,
}

impl Unwritten {
    /// The effect of a frame of metadata: live and in recovery.
    pub(crate) fn apply(&self, id: MailboxId, whose: &str, changes: &[(String, Value)]) {
        let mut values = self.values.lock();
        for (entry, value) in changes {
            let (whose, entry) = (whose.to_owned(), entry.clone());
            values.insert(Key { mailbox: id, uid: Uid(0), whose, entry }, value.clone());
        }
    }

    /// The effect of a frame of annotations on these messages: live and in recovery.
    pub(crate) fn annotate(&self, id: MailboxId, uids: &[Uid], changes: &[AnnotationValue]) {
        let mut values = self.values.lock();
        for &uid in uids {
            for AnnotationValue { whose, entry, value } in changes {
                let (whose, entry) = (whose.clone(), entry.clone());
                values.insert(Key { mailbox: id, uid, whose, entry }, value.clone());
            }
        }
    }

    /// These values are removed.
    pub(crate) fn remove(&self, keys: impl IntoIterator<Item = Key>) {
        self.values.lock().extend(keys.into_iter().map(|key| (key, None)));
    }

    /// The mailbox is gone.
    pub(crate) fn forget(&self, id: MailboxId) {
        self.values.lock().retain(|key, _| key.mailbox != id);
    }

    /// What a checkpoint is to write.
    pub(crate) fn all(&self) -> Vec<(Key, Value)> {
        let values = self.values.lock();
        values.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.lock().is_empty()
    }

    /// The catalog has these now.
    pub(crate) fn written(&self, done: &[(Key, Value)]) {
        let mut values = self.values.lock();
        for (key, value) in done {
            let same = match (values.get(key), value) {
                (Some(Some(now)), Some(then)) => Arc::ptr_eq(now, then),
                (Some(None), None) => true,
                _ => false,
            };
            if same {
                values.remove(key);
            }
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Value> {
        self.values.lock().get(key).cloned()
    }

    /// Metadata of one mailbox and one user whose names begin so.
    pub(super) fn below(&self, from: &Key, prefix: &str) -> Vec<(String, Value)> {
        let values = self.values.lock();
        let same =
            |key: &&Key| (key.mailbox, key.uid, &key.whose) == (from.mailbox, Uid(0), &from.whose);
        let range = values.range(from.clone()..).take_while(|(key, _)| same(key));
        let found = range.filter(|(key, _)| key.entry.starts_with(prefix));
        found.map(|(key, value)| (key.entry.clone(), value.clone())).collect()
    }

    /// Those of one mailbox, of everybody: metadata, then annotations.
    pub(crate) fn of(&self, id: MailboxId) -> Vec<(Key, Value)> {
        self.within(id, Uid(0), Uid::MAX)
    }

    /// Those of these messages, in order.
    pub(crate) fn within(&self, id: MailboxId, first: Uid, last: Uid) -> Vec<(Key, Value)> {
        let values = self.values.lock();
        let range = values.range(Key::first(id, first)..);
        let range = range.take_while(|(key, _)| key.mailbox == id && key.uid <= last);
        range.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_leaves_unless_it_changed_meanwhile() {
        let unwritten = Unwritten::default();
        let set = |value: &[u8]| {
            unwritten.apply(MailboxId([1; 16]), "", &[("/shared/a".into(), Some(value.into()))]);
        };
        set(b"1");
        let batch = unwritten.all();
        set(b"1");
        unwritten.written(&batch);
        assert!(!unwritten.is_empty(), "set again, to the same value");
        unwritten.written(&unwritten.all());
        assert!(unwritten.is_empty());
    }
}
