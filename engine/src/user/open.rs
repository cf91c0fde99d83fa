//! A mailbox's files, opened once and found open afterwards; what a crash left is mended before
//! anybody sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::types::UidValidity;

use super::UserInner;
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::ids::{Lsn, MailboxId};
use crate::mailbox::files::{Files, INDEX_NAME};
use crate::mailbox::opening::{begin_anew, stamp};
use crate::mailbox::{Mailbox, MailboxInner, Place};
use crate::quota::Share;

impl UserInner {
    /// Opens a mailbox, or finds it open. Under the `changes` lock.
    /// The first time, it takes over what an old server did with it.
    pub(crate) fn open(self: &Arc<Self>, name: &str) -> Result<Mailbox> {
        let mailbox = self.open_as_it_is(name)?;
        self.look_at_old_server(name, &mailbox)?;
        Ok(mailbox)
    }

    fn open_as_it_is(self: &Arc<Self>, name: &str) -> Result<Mailbox> {
        let namespace = self.namespace.load_full();
        let entry = namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?;
        if let Some(open) = self.shared.mailboxes.find(entry.id) {
            return Ok(Mailbox(open));
        }
        let partition = self.shared.partition(&entry.partition)?.clone();
        let dir = entry.dir(&partition, &self.name, name)?;
        self.shared.make_room();
        let open = || self.open_at(entry.id, entry.uid_validity, partition.clone(), dir.clone());
        let inner = open().or_else(|error| {
            if !error.is_out_of_descriptors() {
                return Err(error);
            }
            self.shared.free_descriptors();
            open()
        })?;
        Ok(Mailbox(inner))
    }

    /// Opens the files of a mailbox and registers it.
    pub(crate) fn open_at(
        self: &Arc<Self>,
        id: MailboxId,
        uid_validity: UidValidity,
        partition: Partition,
        dir: PathBuf,
    ) -> Result<Arc<MailboxInner>> {
        let shared = &self.shared;
        let owner = shared.owners.of(shared, &partition, &self.name)?;
        let storage = &*shared.storage;
        let limit = Lsn(shared.checkpointed.load(Ordering::Acquire));
        partition
            .layout
            .create(storage, &partition.path, &dir)
            .map_err(Error::io("create", &dir))?;
        let suspect = |files: &Files| files.head.owner_epoch <= shared.unclean_epoch;
        let open = || {
            let trust = &shared.trust;
            let mut files =
                Files::open(storage, &dir, shared.store_id, id, uid_validity, limit, trust)?;
            if let Some(summary) = shared.catalog.summary(id)? {
                files.catch_up(&summary)?;
                if files.head.count == 0 && summary.messages > 0 {
                    return Err(Error::Corrupt {
                        path: dir.join(INDEX_NAME),
                        expected: "an index, or facts",
                        found: format!("neither, of {} messages", summary.messages),
                    });
                }
            }
            if suspect(&files) {
                files.distrust_records()?;
            }
            Ok(files)
        };
        let files = open().or_else(|error| match error {
            // A crash while it was begun. No checkpoint covers it, so the log has all that it
            // should hold.
            Error::Corrupt { .. }
                if shared.catalog.summary(id)?.is_none() && stamp(storage, &dir).is_none() =>
            {
                let path = dir.join(INDEX_NAME);
                storage.unlink(&path).map_err(Error::io("unlink", path))?;
                open()
            }
            Error::Corrupt { .. } if stamp(storage, &dir).is_none() => {
                tracing::error!(user = self.name, %error, "beginning the index's header anew");
                begin_anew(storage, &dir, shared.store_id, id, uid_validity)?;
                open()
            }
            other => Err(other),
        });
        let files = files.or_else(|error| match error {
            Error::Corrupt { .. } => {
                tracing::error!(user = self.name, %error, "rebuilding the index from files");
                crate::store::rebuild(shared, &partition, &dir, id, uid_validity)
            }
            other => Err(other),
        })?;
        let place = Place { partition, dir };
        let suspect = suspect(&files);
        let share = Share::new(self.ledger.clone(), &self.namespace.load(), id);
        let events = self.events.clone();
        let annotated = (id, shared.has_annotations(id)?);
        let inner =
            MailboxInner::new(shared.clone(), share, events, owner, annotated, place, files);
        // Before anybody sees it, so that frames are redone on whole records.
        {
            let mut files = inner.files.lock();
            let dir = files.dir.clone();
            files.notes.drain(..).for_each(|line| shared.mendings.mended(&dir, &line));
            inner.heal_files(&mut files, false);
            files.torn_allowed = false;
        }
        shared.mailboxes.insert(&inner);
        if suspect {
            inner.look_after_crash();
        }
        Ok(inner)
    }
}
