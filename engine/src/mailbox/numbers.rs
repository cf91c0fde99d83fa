//! Numbers that another server gave: UIDVALIDITY, UIDNEXT and UIDs of a mailbox that comes over from
//! there, so that no mail program fetches its copies anew.
//!
//! Invariants: UIDs only rise, so a message gets a UID of another server's only at or above UIDNEXT;
//! and UIDVALIDITY changes only while nothing was ever stored under the one before. Both are in the
//! log: UIDs stand in the frames of messages, UIDVALIDITY in the mailbox's, and UIDNEXT rises by an
//! expunge of the UID below it, which nobody has.

use std::sync::Arc;

use protocol::types::{Uid, UidValidity};

use super::{Mailbox, MailboxInner, State, settle};
use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::namespace::Namespace;
use crate::user::{User, UserInner};

/// The largest UIDVALIDITY that is taken from elsewhere: mailboxes that are made later have larger ones.
pub const UID_VALIDITY_GIVEN_MAX: u32 = u32::MAX - (1 << 24);

impl User {
    /// Gives a mailbox in which nothing was ever stored the UIDVALIDITY that another server gave it.
    ///
    /// # Errors
    /// [`Error::NotAllowed`]: something was stored in it, or is just coming.
    pub async fn set_uid_validity(&self, name: &str, uid_validity: UidValidity) -> Result<()> {
        if !(1..=UID_VALIDITY_GIVEN_MAX).contains(&uid_validity.0) {
            return Err(Error::NotAllowed("UIDVALIDITY is 0, or leaves no room above it"));
        }
        let name = Namespace::canonical(name);
        self.change(move |user| user.adopt_uid_validity(&name, uid_validity)).await
    }
}

impl UserInner {
    fn adopt_uid_validity(self: &Arc<Self>, name: &str, uid_validity: UidValidity) -> Result<()> {
        let mailbox = self.open(name)?;
        let inner = &mailbox.0;
        if inner.uid_validity() == uid_validity {
            return inner.never_used();
        }
        let namespace = self.namespace.load_full();
        let entry = namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?;
        let uses = crate::SpecialUse::to_bits(&entry.special_use);
        let mut frame = self.frame_of(name, entry, uses);
        if let Frame::Mailbox { uid_validity: told, .. } = &mut frame {
            *told = uid_validity;
        }
        let frames = vec![(entry.id, frame)];
        inner.hold_unused()?;
        let committed = self.commit(&frames);
        if committed.is_ok() {
            {
                // A mailbox that is made later under this name has a larger one.
                let mut last = self.shared.uid_validity_last.lock();
                *last = (*last).max(uid_validity.0);
            }
            self.apply(&frames);
            inner.set_uid_validity(uid_validity);
        }
        inner.state.lock().moving = false;
        self.applied(committed?);
        Ok(())
    }
}

impl MailboxInner {
    fn never_used(&self) -> Result<()> {
        match self.state.lock().is_unused() {
            true => Ok(()),
            false => Err(Error::NotAllowed("the mailbox has, or had, messages")),
        }
    }

    /// Keeps everybody from storing anything until `moving` is taken back, if nobody has so far.
    fn hold_unused(&self) -> Result<()> {
        let mut state = self.open_state()?;
        if !state.is_unused() {
            return Err(Error::NotAllowed("the mailbox has, or had, messages"));
        }
        state.moving = true;
        Ok(())
    }
}

impl State {
    fn is_unused(&self) -> bool {
        self.uid_next <= Uid(1) && self.queue.is_empty()
    }

    /// This UID, which another server gave.
    pub(crate) fn take_uid_given(&mut self, uid: Uid) -> Result<Uid> {
        self.allow_uid_given(uid, self.uid_next)?;
        self.uid_next = Uid(uid.0 + 1);
        Ok(uid)
    }

    /// Whether a UID can be given to a message where `next` is the lowest that is free.
    pub(crate) fn allow_uid_given(&self, uid: Uid, next: Uid) -> Result<()> {
        match uid >= next && uid < Uid::MAX {
            true => Ok(()),
            false => Err(Error::NotAllowed("UID is not above those that were given")),
        }
    }
}

impl Mailbox {
    /// Has the next message get at least this UID. Returns when that is durable and visible.
    pub async fn raise_uid_next(&self, uid_next: Uid) -> Result<()> {
        let shared = &self.0.shared;
        shared.log.room().await;
        let appending = self.0.appending().await;
        let heard = {
            let mut state = self.0.open_state()?;
            if state.uid_next >= uid_next {
                return Ok(());
            }
            state.uid_next = uid_next;
            // Above all that were given, so nobody has it nor ever will.
            let below = uid_next.0.saturating_sub(1);
            let modseq = state.take_modseq();
            let frame = Frame::Expunge { modseq, moved: false, ranges: vec![(below, below)] };
            self.0.push_frames(&mut state, vec![(frame, Vec::new())], 0)?.1
        };
        drop(appending);
        settle(shared, heard).await
    }
}
