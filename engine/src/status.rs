//! STATUS without opening mailboxes: from the catalog's figures, where these are still true.
//!
//! A mailbox that is in memory answers itself. For one that is not, the figures of the last
//! checkpoint that touched it are exact as far as our own changes go, since a changed mailbox
//! stays in memory until a checkpoint has them; what other programs may have done to a Maildir
//! shows in its directory times, compared by the rule of [`crate::mailbox::rescan`]. One that had no
//! messages is looked into where the times differ, and so is one that was never opened and has
//! neither figures nor an index: while it is empty nothing is made for it. Only else is the mailbox
//! opened.

use std::io::ErrorKind;
use std::path::Path;

use protocol::types::{ModSeq, SystemFlags, Uid, UidValidity};

use crate::catalog::Summary;
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::format::index::Slot;
use crate::ids::MailboxId;
use crate::layout::LayoutKind;
use crate::mailbox::files::INDEX_NAME;
use crate::mailbox::{MailboxStatus, rescan};
use crate::namespace::{MailboxEntry, Namespace};
use crate::shared::Shared;
use crate::takeover::is_copy;
use crate::user::User;

/// Mailboxes that one turn of a helper thread looks up.
const TURN: usize = 128;

impl User {
    /// STATUS of a mailbox, changes by other programs included.
    pub async fn status(&self, name: &str) -> Result<MailboxStatus> {
        let mut found = self.statuses(&[name]).await;
        found.pop().unwrap_or(Err(Error::NoSuchMailbox))
    }

    /// STATUS of many mailboxes, in the order of their names.
    pub async fn statuses(&self, names: &[&str]) -> Vec<Result<MailboxStatus>> {
        let mut out = Vec::with_capacity(names.len());
        for turn in names.chunks(TURN) {
            let namespace = self.namespace();
            let mut closed = Vec::new();
            for name in turn {
                let name = Namespace::canonical(name);
                if let Some(entry) = namespace.mailboxes.get(&name)
                    && self.0.shared.mailboxes.find(entry.id).is_none()
                {
                    closed.push((name, entry.clone()));
                }
            }
            let mut told = self.told_by_catalog(closed).await;
            for name in turn {
                let entry = namespace.mailboxes.get(&Namespace::canonical(name));
                out.push(match entry.and_then(|entry| told.remove(&entry.id)) {
                    Some(status) => Ok(status),
                    None => self.status_of_open(name).await,
                });
            }
        }
        out
    }

    /// Served octets of the messages with `\Deleted` (RFC 9208 section 4.1.4), where there are
    /// `deleted` of them: no figure is kept of it, so the mailbox is opened and looked through.
    pub async fn deleted_bytes(&self, name: &str, deleted: u32) -> Result<u64> {
        if deleted == 0 {
            return Ok(0);
        }
        let view = self.mailbox(name).await?.view();
        let sum = move || {
            let records = view.all().map(|(_, record)| record);
            let deleted = records.filter(|r| r.flags.contains(SystemFlags::DELETED));
            deleted.map(|record| u64::from(record.size)).sum()
        };
        self.0.shared.helpers.run(sum).await.map_err(|_| Error::Closing)
    }

    async fn status_of_open(&self, name: &str) -> Result<MailboxStatus> {
        let mailbox = self.mailbox(name).await?;
        mailbox.refresh().await?;
        Ok(mailbox.status())
    }

    /// Those whose figures in the catalog are still true.
    async fn told_by_catalog(
        &self,
        closed: Vec<(String, MailboxEntry)>,
    ) -> std::collections::HashMap<MailboxId, MailboxStatus> {
        if closed.is_empty() {
            return Default::default();
        }
        let inner = self.0.clone();
        let job = move || {
            let shared = &inner.shared;
            let figures = shared.catalog.summaries(closed.iter().map(|(_, entry)| entry.id));
            let figures = figures.inspect_err(|error| {
                tracing::error!(%error, "cannot read figures of mailboxes");
            });
            let told = closed.iter().zip(figures.unwrap_or_default());
            let told = told.filter_map(|((name, entry), figures)| {
                let partition = shared.partition(&entry.partition).ok()?;
                // Another host may write where this one does not own the user.
                shared.owners.of(shared, partition, &inner.name).ok()?;
                let dir = entry.dir(partition, &inner.name, name).ok()?;
                let status = match figures {
                    Some(figures) => from_figures(shared, entry, &dir, figures),
                    None => untouched(shared, entry, &dir),
                };
                Some((entry.id, status?))
            });
            told.collect()
        };
        self.0.shared.helpers.run(job).await.unwrap_or_default()
    }
}

/// The answer of figures, unless other programs may have changed the mailbox since.
fn from_figures(
    shared: &Shared,
    entry: &MailboxEntry,
    dir: &Path,
    figures: Summary,
) -> Option<MailboxStatus> {
    let detail = figures.detail?;
    let partition = shared.partition(&entry.partition).ok()?;
    if partition.layout.kind() == LayoutKind::Maildir {
        let known = (detail.new_mtime, detail.cur_mtime);
        let now = rescan::directory_times(&*shared.storage, dir);
        let unchanged = rescan::is_unchanged(known, detail.listed_at, now);
        if !unchanged && (figures.messages > 0 || !is_empty(shared, partition, dir)) {
            return None;
        }
    }
    Some(MailboxStatus {
        messages: u32::try_from(figures.messages).ok()?,
        recent: detail.recent,
        unseen: detail.unseen,
        deleted: detail.deleted,
        deleted_bytes: None,
        bytes: figures.bytes,
        uid_next: Uid(figures.uid_next),
        uid_validity: UidValidity(figures.uid_validity),
        modseq_highest: ModSeq(figures.modseq),
        id: entry.id,
        object_id: None,
    })
}

/// The answer for a mailbox that nobody has opened since it was made: what its index will say.
fn untouched(shared: &Shared, entry: &MailboxEntry, dir: &Path) -> Option<MailboxStatus> {
    let partition = shared.partition(&entry.partition).ok()?;
    if is_copy(&*shared.storage, dir) {
        return None;
    }
    let index = shared.storage.stat(&dir.join(INDEX_NAME));
    let is_begun = !index.is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if is_begun || !is_empty(shared, partition, dir) {
        return None;
    }
    let slot = Slot::empty(shared.store_id.0, entry.id.0, entry.uid_validity.0);
    Some(MailboxStatus {
        messages: 0,
        recent: 0,
        unseen: 0,
        deleted: 0,
        deleted_bytes: None,
        bytes: 0,
        uid_next: Uid(slot.uid_next.get()),
        uid_validity: entry.uid_validity,
        modseq_highest: ModSeq(slot.modseq_highest.get()),
        id: entry.id,
        object_id: None,
    })
}

/// Whether a mailbox's directory is there and holds no message.
fn is_empty(shared: &Shared, partition: &Partition, dir: &Path) -> bool {
    let mut found = 0;
    let listed = partition.layout.list(&*shared.storage, dir, false, &mut |_| found += 1);
    listed.is_ok() && found == 0
}
