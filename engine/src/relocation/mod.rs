//! A mailbox goes to another partition or to another user, as Cyrus's administrators have it.
//!
//! | module | says |
//! |---|---|
//! | `partition` | the same mailbox on another partition |
//! | `transfer` | the copying of its files |
//!
//! To another user, the messages are moved into a mailbox that is made for them, by transactions of
//! MOVE; then the old one is deleted, if it is empty. So each message is in one of the two at any
//! time, and what arrives meanwhile comes along. Names, rights, metadata, special uses and limits are
//! kept; the mailbox's id, UIDs and UIDVALIDITY are new, so clients read it anew, and so is `\Seen`
//! of users who are not the owner.

mod partition;
mod transfer;

use std::sync::Arc;

use crate::acl::Acl;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::format::frame::Frame;
use crate::mailbox::{Mailbox, MailboxInner};
use crate::namespace::{INBOX, MailboxEntry, Namespace, SpecialUse};
use crate::user::{NewMailbox, User, UserInner};

pub(crate) use transfer::{ARRIVALS, Transfer, Turn, arrival_dir};

/// Looks at a mailbox that messages keep coming to.
const ROUNDS_MAX: usize = 100;

impl User {
    /// Gives a mailbox, not those below it, to another user, on a partition of choice. An INBOX
    /// stays, and its messages join those in the other user's mailbox of the new name.
    ///
    /// # Errors
    /// [`Error::MailboxExists`], [`Error::NoSuchPartition`]
    pub async fn give(
        &self,
        name: &str,
        to: &User,
        new: &str,
        partition: Option<String>,
    ) -> Result<()> {
        let (name, new) = (Namespace::canonical(name), Namespace::canonical(new));
        let namespace = self.namespace();
        let entry = namespace.mailboxes.get(&name).ok_or(Error::NoSuchMailbox)?;
        if new != INBOX {
            let options = NewMailbox { partition, ..NewMailbox::default() };
            to.create_as(&new, &[], options).await?;
        }
        if (new == INBOX) == (name == INBOX) {
            self.dress(&name, to, &new).await?;
        }
        for _ in 0..ROUNDS_MAX {
            self.pour(&name, to, &new).await?;
            if name == INBOX {
                return Ok(());
            }
            let old = name.clone();
            if self.change(move |user| user.delete_empty(&old)).await? {
                return match entry.quota.filter(|_| new != INBOX) {
                    Some(limits) => to.set_quota(Some(&new), Some(limits)).await,
                    None => Ok(()),
                };
            }
        }
        Err(Error::NotAllowed("messages keep coming into the mailbox"))
    }

    /// Removes the user as [`User::remove`] does, if there is nothing left but an empty INBOX; says
    /// whether that was so. What others have given to the user is the heir's then.
    pub async fn remove_empty(&self, heir: Option<&User>) -> Result<bool> {
        let heir = heir.map(|heir| heir.name().to_owned());
        self.change(move |user| {
            let alone = user.namespace.load().mailboxes.len() == 1;
            if !alone || !user.stop_if_empty(INBOX)? {
                return Ok(false);
            }
            user.remove(heir.as_deref()).map(|()| true)
        })
        .await
    }

    /// Gives a new mailbox what belongs to another one, but for messages and limits.
    async fn dress(&self, name: &str, to: &User, new: &str) -> Result<()> {
        let namespace = self.namespace();
        let entry = namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?.clone();
        let (acl, new) = (namespace.acls.get(&entry.id).cloned(), new.to_owned());
        to.change(move |user| user.dress(&new, &entry, acl)).await
    }

    /// Moves all messages that are there.
    async fn pour(&self, name: &str, to: &User, new: &str) -> Result<()> {
        let (source, target) = (self.mailbox(name).await?, to.mailbox(new).await?);
        let view = source.refresh().await?;
        let all = view.clone();
        let collect = move || all.uids().map(|(_, uid)| uid).collect();
        let uids = self.0.shared.helpers.run(collect).await.map_err(|_| Error::Closing)?;
        source.move_to(&view, uids, &target).await.map(drop)
    }
}

impl UserInner {
    fn dress(
        self: &Arc<Self>,
        name: &str,
        like: &MailboxEntry,
        acl: Option<Arc<Acl>>,
    ) -> Result<()> {
        let namespace = self.namespace.load_full();
        let entry = namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?;
        self.copy_metadata(like.id, entry.id)?;
        let uses = SpecialUse::to_bits(&like.special_use);
        let mut frames = vec![(entry.id, self.frame_of(name, entry, uses))];
        if acl.is_some() {
            frames.push((entry.id, Frame::Acl { user: self.name.clone(), acl }));
        }
        let lsn = self.commit(&frames)?;
        self.apply(&frames);
        self.applied(lsn);
        self.events.post(&Event::Rights(name.to_owned()));
        Ok(())
    }

    /// Deletes a mailbox; does nothing, and says so, while there are messages in it.
    fn delete_empty(self: &Arc<Self>, name: &str) -> Result<bool> {
        if !self.stop_if_empty(name)? {
            return Ok(false);
        }
        self.delete_with(name, Vec::new()).map(|()| true)
    }

    /// From here on no message comes into the mailbox, if there is none in it.
    fn stop_if_empty(self: &Arc<Self>, name: &str) -> Result<bool> {
        let Mailbox(open) = self.open(name)?;
        Ok(open.stop_if_empty())
    }
}

impl MailboxInner {
    fn stop_if_empty(&self) -> bool {
        // Whoever applies something has this lock until the view is there.
        let _files = self.files.lock();
        let mut state = self.state.lock();
        let empty = state.queue.is_empty() && self.view().exists() == 0;
        state.gone |= empty;
        empty
    }
}
