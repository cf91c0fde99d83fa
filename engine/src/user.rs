//! A user's namespace: create, delete, rename, subscribe, open.
//!
//! Changes run on helper threads from start to end, so that a session that goes away cannot
//! leave one half done: push, wait until durable, change directories, publish the new snapshot.
//! They take the user's `changes` lock; sessions read snapshots without it. Directories follow the
//! names by [`moves`].

mod moves;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use protocol::types::UidValidity;

use crate::catalog::{StoredUser, Unsaved, UserChanges};
use crate::config::Partition;
use crate::departed;
use crate::error::{Error, Result};
use crate::events::{Event, Hub};
use crate::format::frame::{Frame, UrlKey};
use crate::ids::{Lsn, MailboxId};
use crate::mailbox::files::{Files, INDEX_NAME};
use crate::mailbox::opening::{begin_anew, stamp};
use crate::mailbox::{Mailbox, MailboxInner, Place};
use crate::namespace::{INBOX, MailboxEntry, Namespace, NamespaceEdit, SEPARATOR, SpecialUse};
use crate::quota::{Ledger, Share};
use crate::shared::Shared;

use moves::Unfinished;
pub(crate) use moves::{Move, TRASH, move_to_trash, trash_dir};

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

    /// Makes a mailbox. Levels above it are not made; they show as `\NonExistent`.
    pub async fn create(&self, name: &str, special_use: &[SpecialUse]) -> Result<()> {
        self.create_as(name, special_use, NewMailbox::default()).await
    }

    /// Makes a mailbox as [`User::create`] does, with more choices.
    ///
    /// # Errors
    /// [`Error::NoSuchPartition`]
    pub async fn create_as(
        &self,
        name: &str,
        special_use: &[SpecialUse],
        options: NewMailbox,
    ) -> Result<()> {
        let name = checked_name(name)?;
        let special_use = SpecialUse::to_bits(special_use);
        self.change(move |user| user.create(&name, special_use, &options)).await
    }

    /// Deletes a mailbox; those below it stay.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let name = Namespace::canonical(name);
        self.change(move |user| user.delete(&name)).await
    }

    /// Deletes the user: all mailboxes with what is in them, subscriptions, limits, and the private
    /// entries of the server's metadata; and, in the background, what others have given to him
    /// ([`crate::departed`]). Whoever opens the user again begins anew, with an INBOX.
    ///
    /// # Errors
    /// What was deleted before an error stays so; the INBOX is the last to go.
    pub async fn remove(&self) -> Result<()> {
        self.change(|user| user.remove(None)).await
    }

    /// Renames a mailbox and all below it. INBOX is emptied into the new one instead.
    pub async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (Namespace::canonical(from), checked_name(to)?);
        if from != INBOX {
            return self.change(move |user| user.rename(&from, &to)).await;
        }
        self.create(&to, &[]).await?;
        let (inbox, target) = (self.mailbox(INBOX).await?, self.mailbox(&to).await?);
        let (old, new) = (inbox.id(), target.id());
        self.change(move |user| user.copy_metadata(old, new)).await?;
        let view = inbox.refresh().await?;
        let all = view.clone();
        let collect = move || all.uids().map(|(_, uid)| uid).collect();
        let uids = self.0.shared.helpers.run(collect).await.map_err(|_| Error::Closing)?;
        inbox.move_to(&view, uids, &target).await?;
        Ok(())
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
        if let Some(open) = self.0.shared.mailboxes.find(entry.id) {
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

/// The internal form of a name that a client wants to give.
fn checked_name(name: &str) -> Result<String> {
    let trimmed = name.strip_suffix(SEPARATOR).unwrap_or(name);
    if trimmed.is_empty() {
        return Err(Error::NotAllowed("mailbox name is empty"));
    }
    if trimmed.len() > MAILBOX_NAME_BYTES_MAX {
        return Err(Error::NotAllowed("mailbox name is longer than 1000 bytes"));
    }
    if trimmed.split(SEPARATOR).any(str::is_empty) {
        return Err(Error::NotAllowed("mailbox name has an empty level"));
    }
    if trimmed.chars().any(char::is_control) {
        return Err(Error::NotAllowed("mailbox name has a control character"));
    }
    Ok(Namespace::canonical(trimmed))
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
                Frame::Mailbox { .. } | Frame::MailboxGone { .. } | Frame::UrlKey { .. } => {
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

    /// Frames for a user seen for the first time: the user, the INBOX, and whatever mailboxes
    /// are in the user's tree already.
    pub(crate) fn begin(self: &Arc<Self>, partition: &str) -> Result<()> {
        let _one_at_a_time = self.changes.lock();
        if self.has_begun() {
            return Ok(());
        }
        // Of a user who was removed, no directory is to be taken for a mailbox.
        self.finish_moves()?;
        let partition = self.shared.partition(partition)?.clone();
        self.shared.owners.of(&self.shared, &partition, &self.name)?;
        let storage = &*self.shared.storage;
        let mut names = vec![INBOX.to_owned()];
        let found = partition.layout.discover(storage, &partition.path, &self.name);
        for mailbox in found.map_err(Error::io("list", &partition.path))? {
            match self.dir_of(&partition, &mailbox.name) {
                Ok(dir) if dir == mailbox.dir => names.push(mailbox.name),
                _ => tracing::warn!(
                    user = self.name,
                    dir = %mailbox.dir.display(),
                    "mailbox left alone: its directory has another form of name"
                ),
            }
        }
        names.sort();
        names.dedup();
        let user = self.name.clone();
        let first = Frame::User { user, partition: partition.name.clone() };
        let mut frames = vec![(MailboxId::default(), first)];
        for name in names {
            let dir = self.dir_of(&partition, &name)?;
            partition
                .layout
                .create(storage, &partition.path, &dir)
                .map_err(Error::io("create", &dir))?;
            frames.push(self.mailbox_frame(&partition, name, 0));
        }
        let lsn = self.commit(&frames)?;
        self.apply(&frames);
        self.applied(lsn);
        self.regroup()
    }

    /// A mailbox as it is, with other special uses.
    pub(crate) fn frame_of(&self, name: &str, entry: &MailboxEntry, special_use: u32) -> Frame {
        Frame::Mailbox {
            user: self.name.clone(),
            name: name.to_owned(),
            partition: entry.partition.clone(),
            uid_validity: entry.uid_validity,
            special_use,
        }
    }

    fn mailbox_frame(&self, partition: &Partition, name: String, uses: u32) -> (MailboxId, Frame) {
        let frame = Frame::Mailbox {
            user: self.name.clone(),
            name,
            partition: partition.name.clone(),
            uid_validity: self.shared.uid_validity(),
            special_use: uses,
        };
        (MailboxId::random(&*self.shared.storage), frame)
    }

    fn create(self: &Arc<Self>, name: &str, special_use: u32, options: &NewMailbox) -> Result<()> {
        let namespace = self.namespace.load_full();
        if namespace.mailboxes.contains_key(name) {
            return Err(Error::MailboxExists);
        }
        self.may_create(name)?;
        let partition = options.partition.as_ref().unwrap_or(&namespace.partition);
        let partition = self.shared.partition(partition)?.clone();
        self.shared.owners.of(&self.shared, &partition, &self.name)?;
        let dir = self.dir_of(&partition, name)?;
        let mut frames = vec![self.mailbox_frame(&partition, name.to_owned(), special_use)];
        let id = frames[0].0;
        let inherited = self.inherited(&namespace, name, options.inherits_inbox);
        frames.extend(inherited.map(|acl| (id, acl)));
        let lsn = self.commit(&frames)?;
        let made = partition.layout.create(&*self.shared.storage, &partition.path, &dir);
        self.apply(&frames);
        self.applied(lsn);
        self.regroup()?;
        self.events.post(&Event::Created(name.to_owned()));
        // Durable by now: a directory that could not be made is tried again at opening.
        made.or_else(|error| {
            tracing::error!(dir = %dir.display(), %error, "cannot make a mailbox directory");
            Ok(())
        })
    }

    /// `heir`: who gets what others have given to the user.
    pub(crate) fn remove(self: &Arc<Self>, heir: Option<&str>) -> Result<()> {
        let namespace = self.namespace.load_full();
        for name in namespace.mailboxes.keys().rev().filter(|name| *name != INBOX) {
            self.delete(name)?;
        }
        let (user, nobodys) = (&self.name, MailboxId::default());
        let subscribed = namespace.subscriptions.iter().map(|name| Frame::Subscription {
            user: user.clone(),
            name: name.clone(),
            on: false,
        });
        let mut frames: Vec<_> = subscribed.map(|frame| (nobodys, frame)).collect();
        if namespace.quota.is_some() {
            frames.push((nobodys, Frame::Quota { user: user.clone(), limits: None }));
        }
        frames.extend(self.own_server_metadata_gone()?.map(|frame| (nobodys, frame)));
        frames.push((nobodys, departed::note(user, heir)));
        self.delete_with(INBOX, frames)?;
        self.shared.departs(user, heir);
        self.limit();
        self.shared.tidy_soon();
        Ok(())
    }

    fn delete(self: &Arc<Self>, name: &str) -> Result<()> {
        if name == INBOX {
            return Err(Error::NotAllowed("INBOX cannot be deleted"));
        }
        self.delete_with(name, Vec::new())
    }

    /// Deletes a mailbox in one transaction with other frames.
    pub(crate) fn delete_with(
        self: &Arc<Self>,
        name: &str,
        mut frames: Vec<(MailboxId, Frame)>,
    ) -> Result<()> {
        let namespace = self.namespace.load_full();
        let entry = namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?;
        let id = entry.id;
        let open = self.open(name)?;
        open.0.state.lock().gone = true;
        let frame = Frame::MailboxGone { user: self.name.clone(), name: name.to_owned() };
        frames.push((id, frame));
        let lsn = self.commit(&frames).inspect_err(|_| {
            open.0.state.lock().gone = false;
        })?;
        self.apply(&frames);
        for (id, frame) in &frames {
            if let Frame::Metadata { whose, changes, .. } = frame {
                self.shared.metadata.apply(*id, whose, changes);
            }
        }
        let place = open.0.place.read().clone();
        let (from, to) = (place.dir, trash_dir(&place.partition, id));
        let mailbox = open.0.clone();
        self.follow(lsn, [Move::Mailbox { mailbox, from, to, doomed: true }].into());
        self.shared.gone.lock().push(id);
        self.shared.mailboxes.remove(id);
        self.shared.watches.unlinger(&open.0);
        {
            // What is applied from here on counts for nobody.
            let files = open.0.files.lock();
            open.0.deleted.store(true, Ordering::Release);
            let annotation_bytes = self.shared.annotation_bytes(id).unwrap_or_else(|error| {
                tracing::error!(mailbox = %id, %error, "cannot tell what annotations it had");
                0
            });
            open.0.share.leave(files.accounted(), annotation_bytes);
        }
        self.shared.metadata.forget(id);
        self.shared.dirty.lock().remove(&id);
        self.shared.forget_index(id);
        open.0.wake();
        self.events.post(&Event::Deleted(name.to_owned()));
        self.regroup()
    }

    fn rename(self: &Arc<Self>, from: &str, to: &str) -> Result<()> {
        let namespace = self.namespace.load_full();
        if to == INBOX || namespace.mailboxes.contains_key(to) {
            return Err(Error::MailboxExists);
        }
        if to.strip_prefix(from).is_some_and(|rest| rest.starts_with(SEPARATOR)) {
            return Err(Error::NotAllowed("a mailbox cannot be moved below itself"));
        }
        let own = namespace.mailboxes.get_key_value(from);
        let moving: Vec<_> = own.into_iter().chain(namespace.below(from)).collect();
        if moving.is_empty() {
            return Err(Error::NoSuchMailbox);
        }
        let named = moving
            .iter()
            .map(|(old, entry)| (old.as_str(), format!("{to}{}", &old[from.len()..]), *entry));
        self.may_rename(&named.collect::<Vec<_>>())?;
        let mut frames = Vec::with_capacity(moving.len());
        let mut steps = Vec::with_capacity(moving.len());
        for (old, entry) in moving {
            let new = format!("{to}{}", &old[from.len()..]);
            if namespace.mailboxes.contains_key(&new) {
                return Err(Error::MailboxExists);
            }
            let partition = self.shared.partition(&entry.partition)?;
            let target = self.dir_of(partition, &new)?;
            let uses = SpecialUse::to_bits(&entry.special_use);
            frames.push((entry.id, self.frame_of(&new, entry, uses)));
            steps.push((self.open(old)?, target));
        }
        let lsn = self.commit(&frames)?;
        self.apply(&frames);
        // Deepest first: then each is one rename(2) in the cyrus layout.
        let moves = steps.into_iter().rev();
        let step = |(mailbox, to): (Mailbox, _)| {
            let from = mailbox.0.place.read().dir.clone();
            Move::Mailbox { mailbox: mailbox.0, from, to, doomed: false }
        };
        self.follow(lsn, moves.map(step).collect());
        self.events.post(&Event::Renamed { from: from.to_owned(), to: to.to_owned() });
        self.regroup()
    }

    /// Opens a mailbox, or finds it open. Under the `changes` lock.
    pub(crate) fn open(self: &Arc<Self>, name: &str) -> Result<Mailbox> {
        let namespace = self.namespace.load_full();
        let entry = namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?;
        if let Some(open) = self.shared.mailboxes.find(entry.id) {
            return Ok(Mailbox(open));
        }
        let partition = self.shared.partition(&entry.partition)?.clone();
        let dir = self.dir_of(&partition, name)?;
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

/// Users whose maildrop a POP3 session has.
pub(crate) type Maildrops = Mutex<HashSet<String>>;
