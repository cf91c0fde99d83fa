//! What is an account's: mailboxes that the old server made, renamed or deleted; subscriptions, access
//! control lists, the quota's definition. See the rules in [`super`].

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foreign::courier::subscribed;
use foreign::dovecot::{self, uidvalidity};
use protocol::imap::mutf7;

use super::OldServer;
use super::SharedNames;
use super::copies::is_copy;
use super::files::{self, stamp};
use super::lists::first_list;
use super::memory::{Memory, OF_ACCOUNT, SUBSCRIPTIONS_NAME};
use crate::acl::domain_of;
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::ids::MailboxId;
use crate::io::{Kind, Open, Storage};
use crate::layout::LayoutKind;
use crate::mailbox::files::INDEX_NAME;
use crate::mailbox::opening;
use crate::namespace::{INBOX, MailboxEntry, Namespace, SEPARATOR, SpecialUse};
use crate::quota::QuotaLimits;
use crate::user::{User, UserInner};

/// Where Dovecot notes the last UIDVALIDITY that it gave a mailbox.
const VALIDITY_NAME: &str = "dovecot-uidvalidity";

/// Above this no UIDVALIDITY is believed.
const VALIDITY_MAX: u32 = u32::MAX - (1 << 24);

/// Below it Courier has other accounts' mailboxes.
const SHARED_PREFIX: &str = "#shared.";

type Frames = Vec<(MailboxId, Frame)>;

fn stamps(storage: &dyn Storage, dir: &Path) -> Result<Memory> {
    let of = |server: OldServer| stamp(storage, &dir.join(server.subscriptions_name()));
    Ok(Memory {
        courier_subscriptions: of(OldServer::Courier)?,
        dovecot_subscriptions: of(OldServer::Dovecot)?,
        ..Memory::default()
    })
}

/// Courier's name for what lies in another account is `#shared.ACCOUNT.folder`, by the account's name
/// in the shared index; ours by whose it is: without an index, a user of one's own domain. `None` for
/// what is none.
fn of_others(wire: &str, user: &str, index: Option<&SharedNames>) -> Option<String> {
    let rest = wire.strip_prefix(SHARED_PREFIX)?;
    if let Some(index) = index {
        let levels = rest.replace('.', "/");
        let (account, folder) = index.find(&levels)?;
        let folder = folder.unwrap_or(INBOX);
        let decoded = mutf7::decode(folder.as_bytes()).unwrap_or_else(|_| folder.to_owned());
        return Some(Namespace::name_of_others(&account.owner, &Namespace::canonical(&decoded)));
    }
    let (owner, folder) = rest.split_once('.').unwrap_or((rest, INBOX));
    let plain = |c: char| c != SEPARATOR && c != '@' && !c.is_control();
    if owner.is_empty() || folder.is_empty() || !owner.chars().all(plain) {
        return None;
    }
    let decoded = mutf7::decode(folder.as_bytes()).unwrap_or_else(|_| folder.to_owned());
    let mailbox = Namespace::canonical(&decoded.replace('.', &SEPARATOR.to_string()));
    let owner = match domain_of(user) {
        "" => owner.to_owned(),
        domain => format!("{owner}@{domain}"),
    };
    Some(Namespace::name_of_others(&owner, &mailbox))
}

/// The names that one of the old servers has subscribed to; `None` where it has no file.
fn subscriptions(
    storage: &dyn Storage,
    dir: &Path,
    server: OldServer,
    user: &str,
    index: Option<&SharedNames>,
) -> Result<Option<BTreeSet<String>>> {
    let Some(bytes) = files::read(storage, &dir.join(server.subscriptions_name()))? else {
        return Ok(None);
    };
    let names: BTreeSet<String> = match server {
        OldServer::Courier => subscribed::read(&bytes)
            .into_iter()
            .filter_map(|name| {
                if name.starts_with('#') {
                    return of_others(&name, user, index);
                }
                let own = name.strip_prefix("INBOX.").unwrap_or(&name);
                let decoded = mutf7::decode(own.as_bytes()).unwrap_or_else(|_| own.to_owned());
                Some(decoded.replace('.', &SEPARATOR.to_string()))
            })
            .collect(),
        OldServer::Dovecot => dovecot::subscriptions::read(&bytes, '.')
            .into_iter()
            .map(|levels| {
                let level = |level: &String| {
                    mutf7::decode(level.as_bytes()).unwrap_or_else(|_| level.clone())
                };
                levels.iter().map(level).collect::<Vec<_>>().join(&SEPARATOR.to_string())
            })
            .collect(),
    };
    Ok(Some(names.iter().map(|name| Namespace::canonical(name)).collect()))
}

impl UserInner {
    /// Frames of what an account brings along that we meet for the first time.
    pub(crate) fn account_frames(
        &self,
        partition: &Partition,
        mailboxes: &[(MailboxId, PathBuf)],
        main: &Path,
    ) -> Result<Frames> {
        let storage = &*self.shared.storage;
        let mut frames = Frames::new();
        if partition.layout.kind() != LayoutKind::Maildir {
            return Ok(frames);
        }
        let user = || self.name.clone();
        {
            // Ours are to be above those that Dovecot gave.
            let (told, _) = self.dovecots_last(main)?;
            let mut last = self.shared.uid_validity_last.lock();
            // One that leaves no room above is none that a server gave.
            *last = (*last).max(if told < VALIDITY_MAX { told } else { 0 });
        }
        for (id, dir) in mailboxes.iter().filter(|(_, dir)| !is_copy(storage, dir)) {
            if let Some(acl) = first_list(storage, main, dir) {
                frames.push((*id, Frame::Acl { user: user(), acl: Some(Arc::new(acl)) }));
            }
        }
        for server in OldServer::ALL {
            let index = self.shared.config.shared_index.all();
            let theirs = subscriptions(storage, main, server, &self.name, index)?;
            for name in theirs.into_iter().flatten() {
                let frame = Frame::Subscription { user: user(), name, on: true };
                frames.push((MailboxId::default(), frame));
            }
        }
        if let Some(bytes) = files::read(storage, &main.join("maildirsize"))? {
            let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
            match foreign::maildirsize::Definition::read(first) {
                Ok(definition) if definition.bytes.or(definition.messages).is_some() => {
                    let (bytes, messages) = (definition.bytes, definition.messages);
                    let limits = Some(QuotaLimits { bytes, messages, ..QuotaLimits::default() });
                    frames.push((MailboxId::default(), Frame::Quota { user: user(), limits }));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(user = self.name, %error, "a quota is passed over"),
            }
        }
        Ok(frames)
    }

    /// Remembers an account as it is now.
    pub(crate) fn remember_account(&self, main: &Path) -> Result<()> {
        let storage = &*self.shared.storage;
        let known = Memory::read(&self.shared, main, OF_ACCOUNT)?;
        let traces = ["courierimapacl", "dovecot-acl", "maildirsize"];
        let there = stamps(storage, main)? != Memory::default()
            || traces.iter().any(|name| storage.stat(&main.join(name)).is_ok());
        if !there && known.is_none() && self.shared.config.hand_back.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.namespace.load().subscriptions.iter().cloned().collect();
        let list = subscribed::write(names.iter().map(String::as_str));
        files::update(&self.shared, main, &main.join(SUBSCRIPTIONS_NAME), &list)?;
        let mut now = known.unwrap_or_default();
        let Memory { courier_subscriptions, dovecot_subscriptions, .. } = stamps(storage, main)?;
        now.courier_subscriptions = courier_subscriptions;
        now.dovecot_subscriptions = dovecot_subscriptions;
        if !now.lists_known {
            let partition = self.shared.partition(&self.namespace.load().partition)?.clone();
            self.remember_lists(&partition, &mut now)?;
        }
        now.write(&self.shared, main, OF_ACCOUNT)
    }

    /// What the old server did with the account since we last looked: once for each user in memory.
    ///
    /// # Errors
    /// Files that cannot be read now: the next use looks again.
    pub(crate) fn look_at_account(self: &Arc<Self>) -> Result<()> {
        if self.looked.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one_at_a_time = self.changes.lock();
        if self.looked.load(Ordering::Acquire) {
            return Ok(());
        }
        self.finish_moves().and_then(|()| self.compare_account()).inspect_err(|error| {
            tracing::error!(user = self.name, %error, "cannot take over what an old server left: it is tried again");
        })?;
        self.looked.store(true, Ordering::Release);
        Ok(())
    }

    fn compare_account(self: &Arc<Self>) -> Result<()> {
        let namespace = self.namespace.load_full();
        let partition = self.shared.partition(&namespace.partition)?.clone();
        if partition.layout.kind() != LayoutKind::Maildir {
            return Ok(());
        }
        let storage = &*self.shared.storage;
        let main = self.dir_of(&partition, INBOX)?;
        let known = Memory::read(&self.shared, &main, OF_ACCOUNT)?;
        let now = stamps(storage, &main)?;
        if known.is_none() && now == Memory::default() {
            // No old server was ever here: its folders need not be looked for.
            return Ok(());
        }
        let remembered = known.clone().unwrap_or_default();
        let is_there = |dir: &Path| match storage.stat(&dir.join("cur")) {
            Ok(_) => true,
            Err(e) => e.kind() != ErrorKind::NotFound,
        };
        let found = partition.layout.discover(storage, &partition.path, &self.name);
        let mut frames = Frames::new();
        let mut fresh = Vec::new();
        for mailbox in found.map_err(Error::io("list", &partition.path))? {
            if namespace.mailboxes.contains_key(&mailbox.name)
                || self.dir_of(&partition, &mailbox.name).ok().as_ref() != Some(&mailbox.dir)
            {
                continue;
            }
            // A directory that the old server renamed has our index in it.
            let before = opening::stamp(storage, &mailbox.dir)
                .and_then(|(id, _)| namespace.name_of(id))
                .and_then(|old| Some((old, namespace.mailboxes.get(old)?)));
            if let Some((old, entry)) = before
                && self.shared.mailboxes.find(entry.id).is_none()
                && !is_there(&self.dir_of(&partition, old)?)
                && !self.is_begun_anew(&mailbox.dir, entry)?
            {
                tracing::info!(
                    user = self.name,
                    from = old,
                    to = mailbox.name,
                    "an old server renamed a mailbox"
                );
                let uses = SpecialUse::to_bits(&entry.special_use);
                frames.push((entry.id, self.frame_of(&mailbox.name, entry, uses)));
                continue;
            }
            tracing::info!(
                user = self.name,
                mailbox = mailbox.name,
                "an old server made a mailbox"
            );
            let frame = self.mailbox_frame_at(&partition, mailbox.name, 0, &mailbox.dir)?;
            fresh.push((frame.0, mailbox.dir));
            frames.push(frame);
        }
        for (id, dir) in fresh.iter().filter(|(_, dir)| !is_copy(storage, dir)) {
            if let Some(acl) = first_list(storage, &main, dir) {
                let user = self.name.clone();
                frames.push((*id, Frame::Acl { user, acl: Some(Arc::new(acl)) }));
            }
        }
        let is_changed =
            known.is_some() && self.subscription_frames(&main, &remembered, &mut frames)?;
        if !frames.is_empty() {
            let lsn = self.commit(&frames)?;
            self.apply(&frames);
            self.applied(lsn);
            self.regroup()?;
        }
        let gone = remembered.mailboxes.iter().filter(|name| {
            let there = self.namespace.load().mailboxes.contains_key(*name);
            let dir = self.dir_of(&partition, name);
            there && dir.is_ok_and(|dir| !is_there(&dir))
        });
        let gone: Vec<String> = gone.filter(|name| *name != INBOX).cloned().collect();
        for name in gone {
            tracing::info!(user = self.name, mailbox = name, "an old server deleted a mailbox");
            self.delete_now(&name)?;
        }
        if is_changed || known.is_none() {
            self.remember_account(&main)?;
        }
        let before = Memory::read(&self.shared, &main, OF_ACCOUNT)?.unwrap_or_default();
        let mut memory = before.clone();
        self.compare_lists(&partition, &mut memory, None)?;
        if memory != before {
            memory.write(&self.shared, &main, OF_ACCOUNT)?;
        }
        Ok(())
    }

    /// What the old servers did with subscriptions since `then`. Whether one of them wrote its file.
    fn subscription_frames(&self, main: &Path, then: &Memory, frames: &mut Frames) -> Result<bool> {
        let storage = &*self.shared.storage;
        let (now, ours) = (stamps(storage, main)?, &self.namespace.load().subscriptions);
        let changed = |server: &OldServer| match server {
            OldServer::Courier => now.courier_subscriptions != then.courier_subscriptions,
            OldServer::Dovecot => now.dovecot_subscriptions != then.dovecot_subscriptions,
        };
        if !OldServer::ALL.iter().any(changed) {
            return Ok(false);
        }
        let base = files::read(storage, &main.join(SUBSCRIPTIONS_NAME))?.unwrap_or_default();
        let base: BTreeSet<String> = subscribed::read(&base).into_iter().collect();
        for server in OldServer::ALL.into_iter().filter(changed) {
            let index = self.shared.config.shared_index.all();
            let Some(theirs) = subscriptions(storage, main, server, &self.name, index)? else {
                continue;
            };
            for name in theirs.symmetric_difference(&base) {
                // Of others, some have no name in a file of theirs.
                let has_name = !name.starts_with(SEPARATOR)
                    || server == OldServer::Courier && self.name_for_courier(main, name).is_some();
                let on = theirs.contains(name);
                if on != ours.contains(name) && has_name {
                    let (user, name) = (self.name.clone(), name.clone());
                    let frame = Frame::Subscription { user, name, on };
                    frames.push((MailboxId::default(), frame));
                }
            }
        }
        Ok(true)
    }

    /// Courier gives a mailbox that it renames a new UIDVALIDITY: then it is another one, and what
    /// we had of it goes. Whether it was so.
    fn is_begun_anew(&self, dir: &Path, entry: &MailboxEntry) -> Result<bool> {
        let storage = &*self.shared.storage;
        let told = Namespace::told_validity(storage, dir)?;
        if told.is_none_or(|told| told == entry.uid_validity) {
            return Ok(false);
        }
        let mut ours = Vec::new();
        let mut each = |name: &[u8], kind: Kind| {
            if kind == Kind::File && name.starts_with(b"cursus.") {
                ours.push(dir.join(OsStr::from_bytes(name)));
            }
        };
        storage.list(dir, &mut each).map_err(Error::io("list", dir))?;
        // The index first: without it the rest is nobody's.
        ours.sort_by_key(|path| !path.ends_with(INDEX_NAME));
        for path in ours {
            storage.unlink(&path).map_err(Error::io("unlink", path))?;
        }
        Ok(true)
    }

    /// What Courier calls a mailbox of the user's or, shared, of another one.
    fn name_for_courier(&self, main: &Path, name: &str) -> Option<String> {
        let (account, mailbox) = match Namespace::of_others(name) {
            None => (INBOX.to_owned(), name),
            Some((owner, mailbox)) if let Some(index) = self.shared.config.shared_index.all() => {
                let name = index.name_of(owner)?.replace(SEPARATOR, ".");
                (format!("{SHARED_PREFIX}{name}"), mailbox)
            }
            Some((owner, mailbox)) => {
                let domain = domain_of(&self.name);
                let local = owner.strip_suffix(domain).filter(|_| domain_of(owner) == domain)?;
                let local = local.strip_suffix('@').unwrap_or(local);
                if local.is_empty() || local.contains(['.', '@', SEPARATOR]) {
                    return None;
                }
                (format!("{SHARED_PREFIX}{local}"), mailbox)
            }
        };
        let partition = self.shared.partition(&self.namespace.load().partition).ok()?.clone();
        let dir = self.dir_of(&partition, mailbox).ok()?;
        Some(format!("{account}{}", dir.strip_prefix(main).ok()?.to_str()?))
    }

    /// The last UIDVALIDITY that Dovecot knows to be handed out: by its file, and by the name of the
    /// one beside it.
    fn dovecots_last(&self, main: &Path) -> Result<(u32, Vec<PathBuf>)> {
        let storage = &*self.shared.storage;
        let bytes = files::read(storage, &main.join(VALIDITY_NAME))?;
        let mut last = bytes.and_then(|bytes| uidvalidity::read(&bytes)).unwrap_or_default();
        let mut markers = Vec::new();
        let mut each = |name: &[u8], kind: Kind| {
            let digits = name.strip_prefix(b"dovecot-uidvalidity.").filter(|_| kind == Kind::File);
            if let Some(told) = digits.and_then(uidvalidity::read) {
                last = last.max(told);
                markers.push(main.join(OsStr::from_bytes(name)));
            }
        };
        storage.list(main, &mut each).map_err(Error::io("list", main))?;
        Ok((last, markers))
    }

    /// Has Dovecot give new mailboxes a UIDVALIDITY above all of ours.
    fn give_uid_validity(&self, main: &Path) -> Result<()> {
        let storage = &*self.shared.storage;
        let namespace = self.namespace.load();
        let ours = namespace.mailboxes.values().map(|entry| entry.uid_validity.0).max();
        let (known, markers) = self.dovecots_last(main)?;
        let last = known.max(ours.unwrap_or_default());
        files::update(&self.shared, main, &main.join(VALIDITY_NAME), &uidvalidity::write(last))?;
        let marker = main.join(uidvalidity::marker(last));
        if !markers.contains(&marker) {
            storage.open(&marker, Open::Create).map_err(Error::io("create", &marker))?;
        }
        for path in markers.into_iter().filter(|path| *path != marker) {
            storage.unlink(&path).map_err(Error::io("unlink", path))?;
        }
        Ok(())
    }

    /// Writes what is the account's as old servers have it.
    pub(crate) fn hand_back_account(self: &Arc<Self>, servers: &[OldServer]) -> Result<()> {
        let _one_at_a_time = self.changes.lock();
        let partition = self.shared.partition(&self.namespace.load().partition)?.clone();
        if partition.layout.kind() != LayoutKind::Maildir {
            return Ok(());
        }
        let main = self.dir_of(&partition, INBOX)?;
        // What other programs wrote while we served comes first. At a stop nothing can be taken any
        // more, and what they wrote stays for the next start.
        if let Some(known) = Memory::read(&self.shared, &main, OF_ACCOUNT)? {
            let mut frames = Frames::new();
            if self.subscription_frames(&main, &known, &mut frames)? && !frames.is_empty() {
                let lsn = self.commit(&frames)?;
                self.apply(&frames);
                self.applied(lsn);
            }
        }
        let namespace = self.namespace.load_full();
        let own = || namespace.subscriptions.iter().filter(|name| !name.starts_with(SEPARATOR));
        for server in servers {
            let path = main.join(server.subscriptions_name());
            let bytes = match server {
                OldServer::Courier => {
                    let others = files::read(&*self.shared.storage, &path)?.unwrap_or_default();
                    let others = subscribed::read(&others);
                    let index = self.shared.config.shared_index.all();
                    // What we have no name for stays as it is.
                    let others = others.into_iter().filter(|name| {
                        name.starts_with('#') && of_others(name, &self.name, index).is_none()
                    });
                    let ours = namespace.subscriptions.iter();
                    let ours = ours.filter_map(|name| self.name_for_courier(&main, name));
                    let all: Vec<String> = ours.chain(others).collect();
                    subscribed::write(all.iter().map(String::as_str))
                }
                OldServer::Dovecot => {
                    let levels = |name: &String| name.split(SEPARATOR).map(mutf7::encode).collect();
                    dovecot::subscriptions::write(&own().map(levels).collect::<Vec<_>>())
                }
            };
            files::update(&self.shared, &main, &path, &bytes)?;
        }
        if servers.contains(&OldServer::Dovecot) {
            self.give_uid_validity(&main)?;
        }
        let mailboxes = namespace.mailboxes.iter();
        let mailboxes = mailboxes.filter(|(_, entry)| entry.partition == partition.name);
        let mut known = Memory::read(&self.shared, &main, OF_ACCOUNT)?.unwrap_or_default();
        known.mailboxes = mailboxes.map(|(name, _)| name.clone()).collect();
        self.give_lists(&partition, &main, servers, &mut known)?;
        known.write(&self.shared, &main, OF_ACCOUNT)?;
        self.remember_account(&main)
    }
}

impl User {
    /// Writes what these servers have of the user's mail, as it is now: every mailbox and what is the
    /// account's. Returns how many mailboxes.
    ///
    /// # Errors
    /// [`Error::Locked`] where a server does not give its lock back; what was written stays.
    pub async fn hand_back(&self, servers: &[OldServer]) -> Result<usize> {
        if servers.contains(&OldServer::Courier) {
            self.0.shared.hand_back.courier_is_next.store(true, Ordering::Release);
        }
        let mut count = 0;
        for name in self.namespace().mailboxes.keys() {
            let mailbox = match self.mailbox(name).await {
                Err(Error::NoSuchMailbox) => continue,
                other => other?,
            };
            mailbox.refresh().await?;
            let (inner, servers) = (mailbox.0.clone(), servers.to_vec());
            let job = move || inner.hand_back(&servers);
            self.0.shared.helpers.run(job).await.map_err(|_| Error::Closing)??;
            count += 1;
        }
        let (user, servers) = (self.0.clone(), servers.to_vec());
        let job = move || user.hand_back_account(&servers);
        self.0.shared.helpers.run(job).await.map_err(|_| Error::Closing)??;
        Ok(count)
    }
}
