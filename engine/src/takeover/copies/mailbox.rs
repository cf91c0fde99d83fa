//! An open mailbox that is a copy: when its original is looked at, and what is done to both.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use protocol::types::Uid;

use super::place::{CopyDir, times};
use super::{Times, follow, original};
use crate::error::{Error, Result};
use crate::layout::Location;
use crate::layout::maildir::file_name_of;
use crate::mailbox::files::Files;
use crate::mailbox::rescan::is_unchanged;
use crate::mailbox::{Mailbox, MailboxInner};
use crate::shared::Shared;
use crate::takeover::OldServer;

/// What is known of an open copy.
#[derive(Default)]
pub(crate) struct Copy {
    /// The original's times when it was looked at last, and when that began, ns since 1970.
    seen: Mutex<Option<(Times, i64)>>,
    /// How many are bringing messages.
    arrivals: AtomicUsize,
}

/// Messages are brought into a copy of a shared folder: until this goes, those that the original does
/// not have yet stay.
pub struct Arrivals(Arc<MailboxInner>);

impl Drop for Arrivals {
    fn drop(&mut self) {
        if let Some(copy) = &self.0.copy {
            copy.arrivals.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl MailboxInner {
    /// Whether anything may come in: into a copy only what is then given to its original.
    pub(crate) fn takes_deliveries(&self) -> bool {
        self.copy.as_ref().is_none_or(|copy| copy.arrivals.load(Ordering::Acquire) > 0)
    }

    /// Whether the original of a copy has changed since it was looked at, or may have.
    pub(crate) fn is_behind_original(&self) -> bool {
        let Some(copy) = &self.copy else { return false };
        let dir = self.place.read().dir.clone();
        let (now, known) = (times(&*self.shared.storage, &dir), *copy.seen.lock());
        now.is_some() && now.zip(known).is_none_or(|(now, (then, at))| !is_unchanged(then, at, now))
    }

    /// Brings a copy up to date with its original. What cannot be looked at stays as it is.
    ///
    /// # Errors
    /// While Courier's UIDs are taken over, what kept it from looking: messages that came later would
    /// get others. Not for what is not there, or not ours to read: that may stay so.
    pub(crate) fn follow_original(&self) -> Result<()> {
        use ErrorKind::{NotFound, PermissionDenied};
        let Some(copy) = &self.copy else { return Ok(()) };
        let dir = self.place.read().dir.clone();
        let storage = &*self.shared.storage;
        let began = storage.now_ns();
        // Before the look: who comes later finds what the copy had then.
        let removes = copy.arrivals.load(Ordering::Acquire) == 0;
        let staged = || self.shared.stage_name();
        let followed = CopyDir::open(storage, &dir).and_then(|open| {
            let Some(open) = open else { return Ok(None) };
            if let Err(error) = follow::clean(&open, &|name| self.shared.is_left_staged(name)) {
                tracing::warn!(dir = %dir.display(), %error, "cannot remove staged files");
            }
            follow::follow(storage, &open, removes, &staged).map(Some)
        });
        self.shared.hand_back.copies().lock().insert(dir.clone());
        match followed {
            // What was left is looked at again.
            Ok(_) if !removes => *copy.seen.lock() = None,
            Ok(times) => *copy.seen.lock() = times.map(|times| (times, began)),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "cannot look at a shared folder");
                let stays_so = matches!(error.kind(), NotFound | PermissionDenied);
                if !stays_so && self.foreign.lock().told.is_some() {
                    return Err(Error::io("look at a shared folder", &dir)(error));
                }
            }
        }
        Ok(())
    }

    /// Whether the reader may write into the original of this copy.
    fn may_write(&self) -> bool {
        let (storage, dir) = (&*self.shared.storage, self.place.read().dir.clone());
        let Ok(Some(copy)) = CopyDir::open(storage, &dir) else { return false };
        let Ok(Some(original)) = copy.original(storage) else { return false };
        original.writable(copy.reader).is_some()
    }
}

impl Shared {
    /// The store has stopped: copies of shared folders become Courier's, if it comes next.
    pub(crate) fn give_copies_back(&self) {
        let asked = self.hand_back.courier_is_next.load(Ordering::Acquire);
        if !asked && !self.config.hand_back.contains(&OldServer::Courier) {
            return;
        }
        let (storage, staged) = (&*self.storage, || self.stage_name());
        for dir in std::mem::take(&mut *self.hand_back.copies().lock()) {
            let given = CopyDir::open(storage, &dir).and_then(|copy| {
                copy.map_or(Ok(()), |copy| follow::give_back(storage, &copy, &staged))
            });
            if let Err(error) = given {
                tracing::error!(dir = %dir.display(), %error, "cannot give back a shared folder");
            }
        }
    }
}

impl Mailbox {
    /// Whether it is a copy of what another user shares on the filesystem.
    pub fn is_copy(&self) -> bool {
        self.0.copy.is_some()
    }

    /// Whether it is a copy of a folder that the reader may not write into.
    ///
    /// # Errors
    /// [`Error::Closing`]
    pub async fn is_read_only_copy(&self) -> Result<bool> {
        if self.0.copy.is_none() {
            return Ok(false);
        }
        let inner = self.0.clone();
        let asked = move || !inner.may_write();
        self.0.shared.helpers.run(asked).await.map_err(|_| Error::Closing)
    }

    /// Says that messages are about to come into a copy of a shared folder; they have to be given
    /// to its original by [`Mailbox::publish`] before anybody hears that they came. `None` for any
    /// other mailbox.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] where the reader may not write into the original.
    pub async fn arrivals(&self) -> Result<Option<Arrivals>> {
        let Some(copy) = &self.0.copy else { return Ok(None) };
        if self.is_read_only_copy().await? {
            return Err(Error::NotAllowed("the shared folder takes no messages of yours"));
        }
        copy.arrivals.fetch_add(1, Ordering::AcqRel);
        Ok(Some(Arrivals(self.0.clone())))
    }

    /// Gives messages that came into a copy of a shared folder to its original. Durable on return.
    ///
    /// # Errors
    /// [`Error::Io`]: then none of them is in either.
    pub async fn publish(&self, uids: Vec<Uid>) -> Result<()> {
        if self.0.copy.is_none() {
            return Ok(());
        }
        let (inner, all) = (self.0.clone(), uids.clone());
        let give = move || inner.give_to_original(all);
        let given = self.0.shared.helpers.run(give).await.map_err(|_| Error::Closing)?;
        if let Err(error) = given {
            self.expunge(&self.view(), uids).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Of messages to be removed those whose originals are gone by then: a copy alone would come
    /// back. Anything else than a copy has no originals.
    pub(crate) async fn without_originals(&self, uids: Vec<Uid>) -> Result<Vec<Uid>> {
        if self.0.copy.is_none() {
            return Ok(uids);
        }
        let inner = self.0.clone();
        let remove = move || inner.remove_from_original(uids);
        self.0.shared.helpers.run(remove).await.map_err(|_| Error::Closing)?
    }
}

impl MailboxInner {
    fn give_to_original(&self, uids: Vec<Uid>) -> Result<()> {
        let (storage, place) = (&*self.shared.storage, self.place.read().clone());
        let failed = |error| Error::io("write into a shared folder", &place.dir)(error);
        let copy = CopyDir::open(storage, &place.dir).map_err(failed)?;
        let copy = copy.ok_or(Error::MailboxGone)?;
        let original = copy.original(storage).map_err(failed)?.ok_or(Error::MailboxGone)?;
        let files = self.files.lock();
        for uid in uids {
            let Some(at) = files.position_of(uid).and_then(|at| files.location(at)) else {
                return Err(Error::MailboxGone);
            };
            let path = place.partition.layout.path(&place.dir, &at);
            let sub = if at.in_new { "new" } else { "cur" };
            let name = path.file_name().ok_or_else(|| failed(ErrorKind::InvalidData.into()))?;
            let named = file_name_of(&Location { in_new: false, ..at });
            original::publish(&copy, &original, (sub, name), OsStr::from_bytes(&named))
                .map_err(failed)?;
        }
        Ok(())
    }

    fn remove_from_original(&self, uids: Vec<Uid>) -> Result<Vec<Uid>> {
        let (storage, dir) = (&*self.shared.storage, self.place.read().dir.clone());
        let failed = |error| Error::io("remove from a shared folder", &dir)(error);
        let Some(copy) = CopyDir::open(storage, &dir).map_err(failed)? else { return Ok(uids) };
        let base_of = |files: &Files, uid: Uid| {
            files.position_of(uid).and_then(|at| files.location(at)).map(|at| at.base)
        };
        let bases: Vec<(Uid, Option<Vec<u8>>)> = {
            let files = self.files.lock();
            uids.into_iter().map(|uid| (uid, base_of(&files, uid))).collect()
        };
        let all: BTreeSet<Vec<u8>> = bases.iter().filter_map(|(_, base)| base.clone()).collect();
        let kept = original::remove_originals(storage, &copy, &all).map_err(failed)?;
        let goes = |base: &Option<Vec<u8>>| base.as_ref().is_none_or(|b| !kept.contains(b));
        Ok(bases.into_iter().filter(|(_, base)| goes(base)).map(|(uid, _)| uid).collect())
    }
}
