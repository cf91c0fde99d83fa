//! A user and the namespace.
//!
//! | module | says |
//! |---|---|
//! | `names` | begin, create, delete, rename, remove |
//! | `moves` | directories follow names |
//! | `open` | a mailbox is opened |
//!
//! Changes run on helper threads from start to end, so that a session that goes away cannot
//! leave one half done: push, wait until durable, change directories, publish the new snapshot.
//! They take the user's `changes` lock; sessions read snapshots without it. Directories follow the
//! names by [`moves`].

mod moves;
mod names;
mod open;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::acl::Acl;
use crate::catalog::{StoredUser, Unsaved, UserChanges};
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::events::{Event, Hub};
use crate::format::frame::{Frame, UrlKey};
use crate::ids::{Lsn, MailboxId};
use crate::mailbox::Mailbox;
use crate::namespace::{INBOX, Namespace, NamespaceEdit, SEPARATOR};
use crate::quota::Ledger;
use crate::shared::Shared;

use moves::Unfinished;
pub(crate) use moves::{Move, TRASH, move_to_trash, trash_dir};
use names::checked_name;

/// Bytes of a mailbox name at most.
pub const MAILBOX_NAME_BYTES_MAX: usize = 1000;

/// Settings of a user that the account source decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserOptions {
    /// Partition of new mailboxes; the store's default when absent.
    pub partition: Option<String>,
    /// Served octets that the user may keep.
    pub quota_bytes: Option<u64>,
    /// Messages that the user may keep.
    pub quota_messages: Option<u64>,
}

/// How a mailbox is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMailbox {
    /// Where its files are; the user's own partition when absent.
    pub partition: Option<String>,
    /// Under no other mailbox, it takes the access control list of the INBOX.
    pub inherits_inbox: bool,
    /// Under no other mailbox, and not the INBOX's heir, it takes this list.
    pub acl_without_parent: Option<Arc<Acl>>,
}

pub(crate) struct UserInner {
    pub(crate) name: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) namespace: ArcSwap<Namespace>,
    /// What the mailboxes hold and may hold.
    pub(crate) ledger: Arc<Ledger>,
    /// Tells of the user's mailboxes.
    pub(crate) events: Arc<Hub>,
    pub(crate) options: Mutex<UserOptions>,
    /// Durable changes of names whose directories are not moved yet, in order.
    unfinished: Mutex<VecDeque<Unfinished>>,
    /// What of the namespace the catalog does not have.
    unsaved: Mutex<Unsaved>,
    /// One change, or one opening, at a time.
    pub(crate) changes: Mutex<()>,
    /// Whether it was looked at what an old server did with the account.
    pub(crate) looked: AtomicBool,
    /// When somebody last asked for the user: see [`crate::store::Registry`].
    pub(crate) used: AtomicU64,
}

/// A user of the store. Cheap to clone.
#[derive(Clone)]
pub struct User(pub(crate) Arc<UserInner>);

/// POP3's exclusive use of a maildrop; given back when dropped.
pub struct MaildropLock {
    shared: Arc<Shared>,
    user: String,
}

impl Drop for MaildropLock {
    fn drop(&mut self) {
        self.shared.maildrops.lock().remove(&self.user);
    }
}

impl User {
    /// Canonical name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Mailboxes and subscriptions as of now.
    pub fn namespace(&self) -> Arc<Namespace> {
        self.0.namespace.load_full()
    }

    /// Takes the maildrop; `None` while another POP3 session has it.
    pub fn lock_maildrop(&self) -> Option<MaildropLock> {
        let user = self.0.name.clone();
        let shared = self.0.shared.clone();
        let free = shared.maildrops.lock().insert(user.clone());
        free.then(|| MaildropLock { shared, user })
    }

    pub(crate) async fn change<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Arc<UserInner>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.0.shared.log.room().await;
        let inner = self.0.clone();
        let run = move || {
            let _one_at_a_time = inner.changes.lock();
            inner.finish_moves()?;
            job(&inner)
        };
        self.0.shared.helpers.run(run).await.map_err(|_| Error::Closing)?
    }

    /// Subscribes or unsubscribes a name, which need not exist. With a separator in front it is
    /// none of the user's own: [`Namespace::name_of_others`].
    pub async fn subscribe(&self, name: &str, on: bool) -> Result<()> {
        let name = match name.strip_prefix(SEPARATOR) {
            Some(others) if on => format!("{SEPARATOR}{}", checked_name(others)?),
            _ if on => checked_name(name)?,
            _ => Namespace::canonical(name),
        };
        self.change(move |user| {
            if user.namespace.load().subscriptions.contains(&name) == on {
                return Ok(());
            }
            let frame = Frame::Subscription { user: user.name.clone(), name: name.clone(), on };
            let frames = vec![(MailboxId::default(), frame)];
            let lsn = user.commit(&frames)?;
            user.apply(&frames);
            user.applied(lsn);
            user.events.post(&Event::Subscription(name));
            Ok(())
        })
        .await
    }

    /// The key that URLs into a mailbox are authorised with (RFC 4467); made, and durable, if there
    /// is none.
    pub async fn url_key(&self, name: &str) -> Result<UrlKey> {
        let name = Namespace::canonical(name);
        self.change(move |user| {
            let namespace = user.namespace.load();
            if let Some(key) = namespace.url_key(&name) {
                return Ok(*key);
            }
            let id = namespace.mailboxes.get(&name).ok_or(Error::NoSuchMailbox)?.id;
            drop(namespace);
            user.new_url_keys(vec![id])?;
            user.namespace.load().url_key(&name).copied().ok_or(Error::NoSuchMailbox)
        })
        .await
    }

    /// Makes new keys for a mailbox, or for all of the user's that have one: no URL that was
    /// authorised before is honoured any more.
    pub async fn reset_url_keys(&self, name: Option<&str>) -> Result<()> {
        let name = name.map(Namespace::canonical);
        self.change(move |user| {
            let namespace = user.namespace.load();
            let ids = match &name {
                Some(name) => vec![namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?.id],
                None => namespace.url_keys.keys().copied().collect(),
            };
            drop(namespace);
            user.new_url_keys(ids)
        })
        .await
    }

    /// Opens a mailbox.
    pub async fn mailbox(&self, name: &str) -> Result<Mailbox> {
        let name = Namespace::canonical(name);
        let namespace = self.0.namespace.load();
        let entry = namespace.mailboxes.get(&name).ok_or(Error::NoSuchMailbox)?;
        if let Some(open) = self.0.shared.mailboxes.find(entry.id)
            && open.looked.load(Ordering::Acquire)
        {
            return Ok(Mailbox(open));
        }
        drop(namespace);
        let inner = self.0.clone();
        let run = move || {
            let _one_at_a_time = inner.changes.lock();
            inner.finish_moves()?;
            inner.open(&name)
        };
        self.0.shared.helpers.run(run).await.map_err(|_| Error::Closing)?
    }
}

impl UserInner {
    pub(crate) fn new(
        shared: Arc<Shared>,
        name: &str,
        stored: StoredUser,
        (all, annotation_bytes): ((u64, u64), u64),
    ) -> Arc<UserInner> {
        let StoredUser { namespace, in_rows } = stored;
        Arc::new(UserInner {
            name: name.to_owned(),
            shared,
            namespace: ArcSwap::from_pointee(namespace),
            ledger: Arc::new(Ledger::new(all, annotation_bytes)),
            events: Arc::new(Hub::new(name)),
            options: Mutex::default(),
            unfinished: Mutex::default(),
            unsaved: Mutex::new(Unsaved { all: !in_rows, ..Unsaved::default() }),
            changes: Mutex::default(),
            looked: AtomicBool::new(false),
            used: AtomicU64::new(0),
        })
    }

    /// Logs catalog frames; returns when they are durable. The caller applies them and then says
    /// [`UserInner::applied`].
    pub(crate) fn commit(&self, frames: &[(MailboxId, Frame)]) -> Result<Lsn> {
        let (tell, heard) = std::sync::mpsc::channel();
        let waiter = Box::new(move |result| {
            let _ = tell.send(result);
        });
        let lsn = self.shared.log.push(frames, waiter)?;
        self.shared.pump_blocked();
        match heard.recv().unwrap_or(Err(Error::Closing)) {
            Ok(()) => Ok(lsn),
            Err(error) => {
                self.shared.log.applied(lsn);
                Err(error)
            }
        }
    }

    pub(crate) fn applied(self: &Arc<Self>, lsn: Lsn) {
        self.mark_dirty();
        self.shared.log.applied(lsn);
    }

    /// Whether directories wait to follow a change of names. One whose moves are under way has
    /// somebody who sees to them.
    pub(crate) fn has_moves(&self) -> bool {
        self.unfinished.try_lock().is_none_or(|unfinished| !unfinished.is_empty())
    }

    /// Whether nothing but the list of users needs this one.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.ledger) == 1
            && self.unfinished.try_lock().is_some_and(|unfinished| unfinished.is_empty())
    }

    /// Makes directories follow a change of names that is durable. What fails is tried again
    /// before the next change, at the next checkpoint or at the next start.
    pub(crate) fn follow(self: &Arc<Self>, lsn: Lsn, moves: VecDeque<Move>) {
        self.unfinished.lock().push_back(Unfinished { lsn, moves });
        self.mark_dirty();
        if let Err(error) = self.finish_moves() {
            tracing::error!(user = self.name, %error, "cannot move a mailbox; will try again");
        }
    }

    /// Moves every directory that a change of names left where it was. Until that is done the
    /// user's names stay as they are, or a mailbox could come into another one's directory.
    pub(crate) fn finish_moves(&self) -> Result<()> {
        let mut unfinished = self.unfinished.lock();
        while let Some(Unfinished { lsn, moves }) = unfinished.front_mut() {
            while let Some(first) = moves.front() {
                first.run(&self.shared, *lsn)?;
                moves.pop_front();
            }
            self.shared.log.applied(*lsn);
            unfinished.pop_front();
        }
        Ok(())
    }

    fn new_url_keys(self: &Arc<Self>, ids: Vec<MailboxId>) -> Result<()> {
        let frame = |id| {
            // An id is as long as a key, and as random.
            let MailboxId(key) = MailboxId::random(&*self.shared.storage);
            (id, Frame::UrlKey { user: self.name.clone(), key })
        };
        let frames: Vec<_> = ids.into_iter().map(frame).collect();
        if frames.is_empty() {
            return Ok(());
        }
        let lsn = self.commit(&frames)?;
        self.apply(&frames);
        self.applied(lsn);
        Ok(())
    }

    pub(crate) fn mark_dirty(self: &Arc<Self>) {
        self.shared.dirty_users.lock().insert(self.name.clone(), self.clone());
    }

    /// The in-memory effect of a transaction's catalog frames.
    pub(crate) fn apply(&self, frames: &[(MailboxId, Frame)]) {
        let mut edit = NamespaceEdit::new(Namespace::clone(&self.namespace.load()));
        frames.iter().for_each(|(id, frame)| edit.apply(*id, frame));
        self.take_over(edit, frames.iter().map(|(id, frame)| (*id, frame)));
    }

    /// Publishes a namespace that these frames were applied to. What they changed is noted first,
    /// so that a checkpoint that sees the change writes it.
    pub(crate) fn take_over<'f>(
        &self,
        edit: NamespaceEdit,
        frames: impl Iterator<Item = (MailboxId, &'f Frame)>,
    ) {
        let mut unsaved = self.unsaved.lock();
        let before = self.namespace.load();
        let mut lists_change = false;
        for (id, frame) in frames {
            match frame {
                Frame::Acl { .. } => {
                    unsaved.mailboxes.insert(id);
                    lists_change = true;
                }
                Frame::Mailbox { .. }
                | Frame::MailboxGone { .. }
                | Frame::UrlKey { .. }
                | Frame::Adopted { .. } => {
                    unsaved.mailboxes.insert(id);
                    lists_change |= before.acls.contains_key(&id);
                }
                // The user's own root is in the user's row, which every checkpoint writes.
                Frame::Quota { .. } if id != MailboxId::default() => {
                    unsaved.mailboxes.insert(id);
                }
                Frame::Subscription { name, .. } => {
                    unsaved.subscriptions.insert(name.clone());
                }
                _ => {}
            }
        }
        let after = edit.finish();
        if lists_change {
            let grants = after.grants(&self.name);
            // Before anybody sees the lists: who is looked for under them is found.
            self.shared.grants.set(&self.name, grants.clone());
            unsaved.grants = Some(grants);
        }
        self.namespace.store(Arc::new(after));
    }

    /// What the catalog lacks, for a checkpoint; given back by [`UserInner::not_saved`] when that
    /// fails.
    pub(crate) fn take_unsaved(&self) -> UserChanges {
        let mut unsaved = self.unsaved.lock();
        UserChanges {
            name: self.name.clone(),
            namespace: self.namespace.load_full(),
            unsaved: std::mem::take(&mut unsaved),
        }
    }

    pub(crate) fn not_saved(&self, changes: Unsaved) {
        self.unsaved.lock().add(changes);
    }

    pub(crate) fn dir_of(&self, partition: &Partition, name: &str) -> Result<PathBuf> {
        Ok(partition.layout.mailbox_dir(&partition.path, &self.name, name)?)
    }

    /// Whether [`Self::begin`] is through: from then on until [`User::remove`] there is an INBOX.
    pub(crate) fn has_begun(&self) -> bool {
        self.namespace.load().mailboxes.contains_key(INBOX)
    }
}

/// Users whose maildrop a POP3 session has.
pub(crate) type Maildrops = Mutex<HashSet<String>>;
