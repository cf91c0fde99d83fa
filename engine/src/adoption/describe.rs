//! What the store knows of a user, in the form in which it is adopted: for handing mailboxes back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::types::Uid;

use super::{MailboxToAdopt, MessageToAdopt, UserToAdopt};
use crate::error::Result;
use crate::namespace::{INBOX, MailboxEntry};
use crate::seen;
use crate::store::Store;
use crate::user::UserInner;

impl Store {
    /// All users that have mailboxes; blocks.
    pub fn all_users(&self) -> Result<Vec<String>> {
        self.shared().all_users()
    }

    /// What the store knows of a user; blocks. Adopted by another store, it would serve the same.
    pub fn describe(&self, user: &str) -> Result<UserToAdopt> {
        self.describe_user(user, true)
    }

    /// The same without messages and their annotations.
    pub fn describe_heads(&self, user: &str) -> Result<UserToAdopt> {
        self.describe_user(user, false)
    }

    /// What the store knows of one mailbox, messages and all; `None`: there is none of this name.
    pub fn describe_mailbox(&self, user: &str, name: &str) -> Result<Option<MailboxToAdopt>> {
        let inner = self.shared().known_user(user)?;
        let _one_at_a_time = inner.changes.lock();
        inner.finish_moves()?;
        let namespace = inner.namespace.load_full();
        let entry = namespace.mailboxes.get(name);
        entry.map(|entry| inner.describe(name, entry, true)).transpose()
    }

    fn describe_user(&self, user: &str, with_messages: bool) -> Result<UserToAdopt> {
        let inner = self.shared().known_user(user)?;
        let _one_at_a_time = inner.changes.lock();
        inner.finish_moves()?;
        let namespace = inner.namespace.load_full();
        let mut mailboxes = Vec::new();
        for (name, entry) in &namespace.mailboxes {
            mailboxes.push(inner.describe(name, entry, with_messages)?);
        }
        Ok(UserToAdopt {
            partition: namespace.partition.clone(),
            mailboxes,
            subscriptions: namespace.subscriptions.clone(),
            quota: namespace.quota,
        })
    }
}

impl UserInner {
    fn describe(
        self: &std::sync::Arc<Self>,
        name: &str,
        entry: &MailboxEntry,
        with_messages: bool,
    ) -> Result<MailboxToAdopt> {
        let namespace = self.namespace.load_full();
        let shared = &self.shared;
        let partition = shared.partition(&entry.partition)?;
        let dir = entry.dir(partition, &self.name, name)?;
        let open = self.open(name)?;
        let files = open.0.files.lock();
        let count = if with_messages { files.head.count } else { 0 };
        let mut messages = Vec::with_capacity(count);
        for position in (0..count).filter(|position| !files.is_tombstone(*position)) {
            let record = files.record(position);
            messages.push(MessageToAdopt {
                uid: record.uid.0,
                modseq: record.modseq.0,
                internal_date: record.internal_date,
                save_date: files.facts(position).map(|facts| facts.save_date.get()),
                flags: record.flags,
                keywords: record.keywords,
                size: u64::from(record.size),
            });
        }
        let mut values: BTreeMap<_, _> =
            shared.catalog.metadata_of(entry.id)?.into_iter().collect();
        for (key, value) in shared.metadata.within(entry.id, Uid(0), Uid(0)) {
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
        }
        let (mut seen, mut metadata) = (Vec::new(), Vec::new());
        for (key, value) in values {
            match key.entry == seen::ENTRY {
                true => seen.push((key.whose, seen::decode_ranges(&value))),
                false => metadata.push((key.whose, key.entry, value.to_vec())),
            }
        }
        let mut annotations = Vec::new();
        if with_messages {
            shared.each_annotation(
                entry.id,
                Uid(1),
                Uid(u32::MAX),
                &mut |uid, whose, name, value| {
                    annotations.push((uid.0, whose.to_owned(), name.to_owned(), value.to_vec()));
                    true
                },
            )?;
        }
        let below =
            dir.strip_prefix(&partition.path).map_or_else(|_| PathBuf::new(), Path::to_owned);
        let keywords = files.keywords().names();
        Ok(MailboxToAdopt {
            name: name.to_owned(),
            partition: entry.partition.clone(),
            dir: below,
            unique_id: match &entry.adopted {
                Some(adopted) => adopted.unique_id.clone(),
                None => entry.object_id(),
            },
            uid_validity: entry.uid_validity.0,
            uid_next: files.head.uid_next.0,
            modseq_highest: files.head.modseq_highest.0,
            recent_uid: files.head.recent_uid.0,
            special_use: entry.special_use.clone(),
            keywords: keywords.iter().map(|keyword| keyword.as_str().to_owned()).collect(),
            messages,
            acl: namespace.acl(entry.id).map(crate::acl::Acl::to_texts),
            quota: entry.quota.filter(|_| name != INBOX),
            seen,
            metadata,
            annotations,
        })
    }
}
