//! A mailbox's files, opened once and found open afterwards; what a crash left is mended before
//! anybody sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::types::UidValidity;
use tokio::sync::oneshot;

use super::{User, UserInner};
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::ids::{Lsn, MailboxId};
use crate::mailbox::files::{Files, INDEX_NAME};
use crate::mailbox::opening::{begin_anew, stamp};
use crate::mailbox::{FirstLook, Mailbox, MailboxInner, Place, Wants};
use crate::namespace::Namespace;
use crate::quota::Share;

impl User {
    /// Opens a mailbox for an answer that needs no message: [`Mailbox::first_look`], also while what
    /// an old server left is still being taken over. A mailbox that comes with a promise is good for
    /// nothing but [`Mailbox::kept`] before that.
    ///
    /// # Errors
    /// As [`User::mailbox`] and [`Mailbox::refresh`].
    pub async fn first_look(&self, name: &str) -> Result<(Mailbox, FirstLook)> {
        let shared = &self.0.shared;
        let name = Namespace::canonical(name);
        let id = self.namespace().mailboxes.get(&name).ok_or(Error::NoSuchMailbox)?.id;
        let there = shared.mailboxes.find(id);
        if let Some((open, promised)) =
            there.as_ref().and_then(|open| Some((open, open.promise()?)))
        {
            return Ok((Mailbox(open.clone()), FirstLook::Promised(promised)));
        }
        let mailbox = match there.filter(|open| open.looked.load(Ordering::Acquire)) {
            Some(open) => Mailbox(open),
            None => {
                let (tell, told) = oneshot::channel();
                let inner = self.0.clone();
                let opened = shared.helpers.run(move || {
                    let _one_at_a_time = inner.changes.lock();
                    inner.finish_moves()?;
                    inner.open_telling(&name, tell)
                });
                let promised = async {
                    let mailbox = told.await.ok()?;
                    let promised = mailbox.promised().await;
                    Some((mailbox, FirstLook::Promised(promised)))
                };
                tokio::select! {
                    Some(promised) = promised => return Ok(promised),
                    opened = opened => opened.map_err(|_| Error::Closing)??,
                }
            }
        };
        let look = mailbox.first_look().await?;
        Ok((mailbox, look))
    }
}

impl UserInner {
    /// Opens a mailbox, or finds it open. Under the `changes` lock.
    /// The first time, it takes over what an old server did with it.
    pub(crate) fn open(self: &Arc<Self>, name: &str) -> Result<Mailbox> {
        let mailbox = self.open_as_it_is(name)?;
        self.look_at_old_server(name, &mailbox)?;
        Ok(mailbox)
    }

    /// The same; `tell` gets the mailbox before that, for whom its promises are enough.
    fn open_telling(
        self: &Arc<Self>,
        name: &str,
        tell: oneshot::Sender<Mailbox>,
    ) -> Result<Mailbox> {
        let mailbox = self.open_as_it_is(name)?;
        let _wants = Wants::of(&mailbox.0);
        // Who asked may have gone.
        let _ = tell.send(mailbox.clone());
        let looked = self.look_at_old_server(name, &mailbox);
        mailbox.0.taken_over(looked.as_ref().err());
        looked.map(|()| mailbox)
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
        let layout = &partition.layout;
        let create = || {
            let made = layout.create(storage, &partition.path, &dir);
            made.map_err(Error::io("create", &dir))
        };
        // Its first checkpoint came behind an opening that made the names of its directories durable:
        // two syncs less.
        let is_covered = shared.catalog.summary(id)?.is_some();
        let is_made = is_covered && layout.is_there(storage, &partition.path, &dir);
        if !is_made {
            create()?;
        }
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
        let suspect = suspect(&files);
        if suspect && is_made {
            // What stopped the server may have come between a name and its sync.
            create()?;
        }
        let place = Place { partition, dir };
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
