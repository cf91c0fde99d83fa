//! Changes of a user's names: begin, create, delete, rename, remove.
//!
//! Each is one transaction, and directories follow it by [`super::moves`]; the names are in memory
//! when it is durable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::moves::{Move, trash_dir};
use super::{MAILBOX_NAME_BYTES_MAX, NewMailbox, User, UserInner};
use crate::config::Partition;
use crate::departed;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::format::frame::Frame;
use crate::ids::MailboxId;
use crate::layout::LayoutKind;
use crate::mailbox::Mailbox;
use crate::namespace::{INBOX, MailboxEntry, Namespace, SEPARATOR, SpecialUse};

impl User {
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
            return self.change(move |user| user.rename(&[(from, to)])).await;
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

    /// Renames several mailboxes and those below them in one transaction. INBOX stays.
    ///
    /// # Errors
    /// [`Error::MailboxExists`] where a new name is one of a mailbox that is there before, or of
    /// two; [`Error::NoSuchMailbox`]; [`Error::NotAllowed`] for names below one that is renamed.
    pub async fn rename_all(&self, renames: &[(String, String)]) -> Result<()> {
        let canonical =
            |(from, to): &(String, String)| Ok((Namespace::canonical(from), checked_name(to)?));
        let renames = renames.iter().map(canonical).collect::<Result<Vec<_>>>()?;
        self.change(move |user| user.rename(&renames)).await
    }
}

/// The internal form of a name that a client wants to give.
pub(super) fn checked_name(name: &str) -> Result<String> {
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
        let mut made = Vec::new();
        for name in &names {
            // Served as new it would be empty, and its files would be in the way.
            if let Err(error) = self.not_anothers(&self.dir_of(&partition, name)?) {
                tracing::error!(
                    user = self.name,
                    mailbox = name,
                    "Cyrus's mailbox was not taken over \
                    (cursus takeover cyrus): the user is not served"
                );
                return Err(error);
            }
        }
        for name in names {
            let dir = self.dir_of(&partition, &name)?;
            partition
                .layout
                .create(storage, &partition.path, &dir)
                .map_err(Error::io("create", &dir))?;
            let frame = self.mailbox_frame_at(&partition, name, 0, &dir)?;
            made.push((frame.0, dir));
            frames.push(frame);
        }
        let main = self.dir_of(&partition, INBOX)?;
        frames.extend(self.account_frames(&partition, &made, &main)?);
        let lsn = self.commit(&frames)?;
        self.apply(&frames);
        self.applied(lsn);
        self.limit();
        self.looked.store(true, Ordering::Release);
        if partition.layout.kind() == LayoutKind::Maildir
            && let Err(error) = self.remember_account(&main)
        {
            tracing::warn!(user = self.name, %error, "cannot remember what an old server left");
        }
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

    /// The frame of a mailbox that is in a directory already: with the UIDVALIDITY that an old
    /// server's files give it.
    pub(crate) fn mailbox_frame_at(
        &self,
        partition: &Partition,
        name: String,
        uses: u32,
        dir: &Path,
    ) -> Result<(MailboxId, Frame)> {
        let (id, mut frame) = self.mailbox_frame(partition, name, uses);
        let is_maildir = partition.layout.kind() == LayoutKind::Maildir;
        if let Frame::Mailbox { uid_validity, .. } = &mut frame
            && is_maildir
            && let Some(told) = Namespace::told_validity(&*self.shared.storage, dir)?
        {
            let mut last = self.shared.uid_validity_last.lock();
            *last = (*last).max(told.0);
            *uid_validity = told;
        }
        Ok((id, frame))
    }

    pub(crate) fn mailbox_frame(
        &self,
        partition: &Partition,
        name: String,
        uses: u32,
    ) -> (MailboxId, Frame) {
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
        self.not_anothers(&dir)?;
        let mut frames = vec![self.mailbox_frame(&partition, name.to_owned(), special_use)];
        let id = frames[0].0;
        let inherited = self
            .hierarchy_list(&partition, &dir)
            .or_else(|| self.inherited(&namespace, name, options));
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

    /// Deletes a mailbox; under the `changes` lock.
    pub(crate) fn delete_now(self: &Arc<Self>, name: &str) -> Result<()> {
        self.delete(name)
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
        let (from, to) = (place.dir, trash_dir(&self.shared, &place.partition, id));
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
        self.recount_maildirsize();
        self.events.post(&Event::Deleted(name.to_owned()));
        self.regroup()
    }

    /// Old and new names of what renames move: each mailbox by the longest old name that it is at or
    /// below.
    fn renamed<'n>(
        namespace: &'n Namespace,
        renames: &[(String, String)],
    ) -> Result<Vec<(&'n str, String, &'n MailboxEntry)>> {
        let below = |name: &str, above: &str| {
            name.strip_prefix(above).is_some_and(|rest| rest.starts_with(SEPARATOR))
        };
        let mut moving: BTreeMap<&str, (usize, String, &MailboxEntry)> = BTreeMap::new();
        for (from, to) in renames {
            if to == INBOX || namespace.mailboxes.contains_key(to) {
                return Err(Error::MailboxExists);
            }
            // Nor below another that moves: on disk it might go along.
            if renames.iter().any(|(other, _)| below(to, other)) {
                return Err(Error::NotAllowed("a mailbox cannot be moved below itself"));
            }
            let own = namespace.mailboxes.get_key_value(from);
            let found: Vec<_> = own.into_iter().chain(namespace.below(from)).collect();
            if from == INBOX || found.is_empty() {
                return Err(Error::NoSuchMailbox);
            }
            for (old, entry) in found {
                let new = format!("{to}{}", &old[from.len()..]);
                if namespace.mailboxes.contains_key(&new) {
                    return Err(Error::MailboxExists);
                }
                let known = moving.get(old.as_str()).map_or(0, |(length, ..)| *length);
                if from.len() >= known {
                    moving.insert(old, (from.len(), new, entry));
                }
            }
        }
        let mut names: Vec<&str> = moving.values().map(|(_, new, _)| new.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::MailboxExists);
        }
        Ok(moving.into_iter().map(|(old, (_, new, entry))| (old, new, entry)).collect())
    }

    fn rename(self: &Arc<Self>, renames: &[(String, String)]) -> Result<()> {
        let namespace = self.namespace.load_full();
        let moving = Self::renamed(&namespace, renames)?;
        self.may_rename(&moving)?;
        let mut frames = Vec::with_capacity(moving.len());
        let mut steps = Vec::with_capacity(moving.len());
        for (old, new, entry) in moving {
            let partition = self.shared.partition(&entry.partition)?;
            // Of one that was adopted, the directory may be the other server's to name.
            let target = entry.dir(partition, &self.name, &new)?;
            if entry.adopted.as_ref().is_none_or(|adopted| adopted.dir.is_empty()) {
                self.not_anothers(&target)?;
            }
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
            (from != to).then_some(Move::Mailbox { mailbox: mailbox.0, from, to, doomed: false })
        };
        self.follow(lsn, moves.filter_map(step).collect());
        self.recount_maildirsize();
        for (from, to) in renames {
            self.events.post(&Event::Renamed { from: from.clone(), to: to.clone() });
        }
        self.regroup()
    }
}
