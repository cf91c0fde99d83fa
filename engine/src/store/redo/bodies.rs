//! Where the bytes of an append are: staged, in place, under another name, in the source of a copy, in
//! the archive.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::types::Uid;

use super::Redo;
use crate::error::{Error, Result};
use crate::format::frame::{Append, Source};
use crate::ids::{Lsn, MailboxId};
use crate::io::Storage;
use crate::layout::{LayoutKind, Location};
use crate::mailbox::MailboxInner;
use crate::mailbox::apply::{location_of, scan_file};
use crate::mailbox::files::Files;
use crate::mailbox::opening::stamp;
use crate::message::Ingested;
use crate::user::trash_dir;

/// A message's bytes as recovery found them.
pub(super) struct Body {
    pub(super) facts: Ingested,
    /// Where they are now: staged, or in place.
    pub(super) source: Source,
    /// In place under another name.
    pub(super) at: Option<Location>,
}

impl Redo<'_> {
    /// Where the bytes of an append are; `None` when they are nowhere.
    pub(super) fn find_body(
        &mut self,
        mailbox: &Arc<MailboxInner>,
        append: &Append,
    ) -> Result<Option<Body>> {
        match self.find_whole(mailbox, append)? {
            Some(body) => Ok(Some(body)),
            None if self.is_expunged(mailbox.id, append.uid) => Ok(None),
            None => self.find_damaged(mailbox, append),
        }
    }

    /// A file of ours in its place that is not what it was. It came there whole and durable, so
    /// something has damaged it since, and the message is not to vanish for that.
    fn find_damaged(
        &mut self,
        mailbox: &Arc<MailboxInner>,
        append: &Append,
    ) -> Result<Option<Body>> {
        if append.source == Source::Foreign {
            return Ok(None);
        }
        let storage = self.shared.storage.clone();
        let place = mailbox.place.read().clone();
        let layout = place.partition.layout.clone();
        let mut places = vec![None];
        if layout.kind() == LayoutKind::Maildir {
            places.extend(self.name_now(mailbox, &append.base, None)?.map(Some));
        }
        for at in places {
            let path = layout.path(&place.dir, at.as_ref().unwrap_or(&location_of(append)));
            if storage.stat(&path).is_ok_and(|stat| stat.size == u64::from(append.stored)) {
                let uid = append.uid;
                tracing::error!(path = %path.display(), mailbox = %mailbox.id, uid = uid.0,
                    "a message's file is damaged: it is served as it is");
                let mut facts = scan_file(&*storage, &path, layout.kind())?;
                // Made anew from the file, by whoever looks whether that is what it should be.
                facts.extras.clear();
                return Ok(Some(Body { facts, source: Source::Foreign, at }));
            }
        }
        Ok(None)
    }

    /// Where the bytes of an append are, whole.
    fn find_whole(&mut self, mailbox: &Arc<MailboxInner>, append: &Append) -> Result<Option<Body>> {
        let storage = self.shared.storage.clone();
        let place = mailbox.place.read().clone();
        let layout = place.partition.layout.clone();
        // In its place first: a filesystem may keep a later rename and lose the one before it,
        // so that the staged name is there as well.
        let home = location_of(append);
        let path = layout.path(&place.dir, &home);
        if let Some(facts) = whole(&*storage, &path, layout.kind(), append)? {
            return Ok(Some(Body { facts, source: Source::Foreign, at: None }));
        }
        // Only now, since a look for another name may have to list the directory.
        let mut candidates = Vec::new();
        if layout.kind() == LayoutKind::Maildir
            && let Some(at) = self.name_now(mailbox, &append.base, None)?
        {
            candidates.push((layout.path(&place.dir, &at), Source::Foreign, Some(at)));
        }
        if let Source::Staged(stage) | Source::Linked { stage, .. } = &append.source {
            let path = layout.stage_path(&place.partition.path, &place.dir, stage);
            candidates.push((path, append.source.clone(), None));
        }
        for (path, source, at) in candidates {
            if let Some(facts) = whole(&*storage, &path, layout.kind(), append)? {
                return Ok(Some(Body { facts, source, at }));
            }
        }
        if let Some(bodies) = &self.bodies {
            // One that goes again need not come.
            if self.is_expunged(mailbox.id, append.uid) || !bodies.fetch(append, &path)? {
                return Ok(None);
            }
            let facts = whole(&*storage, &path, layout.kind(), append)?;
            return Ok(facts.map(|facts| Body { facts, source: Source::Foreign, at: None }));
        }
        let Source::Linked { mailbox: from, uid, stage } = &append.source else { return Ok(None) };
        let to = layout.stage_path(&place.partition.path, &place.dir, stage);
        let Some(path) = self.source_path(*from, *uid, mailbox)? else { return Ok(None) };
        match storage.link(&path, &to) {
            Ok(()) => {
                let facts = whole(&*storage, &to, layout.kind(), append)?;
                let source = append.source.clone();
                Ok(facts.map(|facts| Body { facts, source, at: None }))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("link", path)(e)),
        }
    }

    /// The file of a copy's source, also when its mailbox was deleted meanwhile.
    fn source_path(
        &mut self,
        from: MailboxId,
        uid: Uid,
        target: &Arc<MailboxInner>,
    ) -> Result<Option<PathBuf>> {
        let partition = target.place.read().partition.clone();
        // A link was made within a partition. What has moved to another one since is left among the
        // deleted of this one.
        let is_here =
            |source: &Arc<MailboxInner>| source.place.read().partition.name == partition.name;
        if let Some(source) = self.mailbox(from)?.filter(is_here) {
            let place = source.place.read().clone();
            let at = {
                let files = source.files.lock();
                files.position_of(uid).and_then(|position| files.location(position))
            };
            let Some(mut at) = at else { return Ok(None) };
            if place.partition.layout.kind() == LayoutKind::Maildir
                && let Some(now) = self.name_now(&source, &at.base, Some(&at))?
            {
                at = now;
            }
            return Ok(Some(place.partition.layout.path(&place.dir, &at)));
        }
        let dir = trash_dir(self.shared, &partition, from);
        if stamp(&*self.shared.storage, &dir).is_none() {
            return Ok(None);
        }
        let none = protocol::types::UidValidity(0);
        let (storage, store_id) = (&*self.shared.storage, self.shared.store_id);
        let limit = Lsn(self.shared.checkpointed.load(Ordering::Acquire));
        let files = Files::open(storage, &dir, store_id, from, none, limit, &self.shared.trust)?;
        let orphan = self.orphans.get(&(from, uid)).cloned();
        // The log's frames were not redone there.
        let at = files.position_of(uid).and_then(|position| files.location(position));
        let mut paths = Vec::new();
        if let Some(at) = at.or_else(|| orphan.as_ref().map(location_of)) {
            paths.push(partition.layout.path(&dir, &at));
            if partition.layout.kind() == LayoutKind::Maildir {
                let mut each = |found: Location| {
                    if found.base == at.base {
                        paths.push(partition.layout.path(&dir, &found));
                    }
                };
                let listed = partition.layout.list(storage, &dir, false, &mut each);
                listed.map_err(Error::io("list", &dir))?;
            }
        }
        let source = orphan.map(|append| append.source);
        if let Some(Source::Staged(stage) | Source::Linked { stage, .. }) = &source {
            paths.push(partition.layout.stage_path(&partition.path, &dir, stage));
        }
        if let Some(path) = paths.into_iter().find(|path| storage.stat(path).is_ok()) {
            return Ok(Some(path));
        }
        match source {
            Some(Source::Linked { mailbox, uid, .. }) => self.source_path(mailbox, uid, target),
            _ => Ok(None),
        }
    }
}

/// The facts of a file that is exactly the message of the frame.
fn whole(
    storage: &dyn Storage,
    path: &Path,
    kind: LayoutKind,
    append: &Append,
) -> Result<Option<Ingested>> {
    match storage.stat(path) {
        Ok(stat) if stat.size == u64::from(append.stored) => {}
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("stat", path)(e)),
    }
    let facts = scan_file(storage, path, kind)?;
    Ok((facts.content_id == append.content_id).then_some(facts))
}
