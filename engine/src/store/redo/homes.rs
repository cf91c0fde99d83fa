//! Namespaces first, then directories to match.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::types::UidValidity;

use super::Redo;
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::ids::{Lsn, MailboxId};
use crate::log::Transaction;
use crate::mailbox::Place;
use crate::mailbox::files::Files;
use crate::mailbox::opening::stamp;
use crate::namespace::{Namespace, NamespaceEdit};
use crate::relocation::{Transfer, Turn, arrival_dir};
use crate::shared::{Doomed, DoomedKind};
use crate::user::{UserInner, move_to_trash, trash_dir};

/// A mailbox whose directory a change of names may not have moved yet.
struct Strayed {
    user: Arc<UserInner>,
    /// Where it may be, and on which partition.
    dirs: Vec<(Partition, PathBuf)>,
}

/// A directory that is to go to its mailbox's place, if it has one, by way of the deleted.
struct Leaving {
    partition: Partition,
    from: PathBuf,
    trash: PathBuf,
    home: Option<PathBuf>,
}

impl Redo<'_> {
    /// Namespaces first, then directories to match.
    pub(super) fn catalog(&mut self, transactions: &[Transaction]) -> Result<()> {
        type Edited<'f> = (Arc<UserInner>, NamespaceEdit, Vec<(MailboxId, &'f Frame)>);
        let mut users: BTreeMap<String, Edited<'_>> = BTreeMap::new();
        let mut strayed: BTreeMap<MailboxId, Strayed> = BTreeMap::new();
        for (id, frame) in transactions.iter().flat_map(|t| &t.frames) {
            if let Frame::Metadata { whose, changes, .. } = frame {
                self.shared.metadata.apply(*id, whose, changes);
            }
            let name = match frame {
                Frame::User { user, .. }
                | Frame::Mailbox { user, .. }
                | Frame::MailboxGone { user, .. }
                | Frame::Subscription { user, .. }
                | Frame::Quota { user, .. }
                | Frame::Acl { user, .. }
                | Frame::UrlKey { user, .. }
                | Frame::Adopted { user, .. } => user,
                _ => continue,
            };
            if !users.contains_key(name) {
                let user = self.shared.known_user(name)?;
                let edit = NamespaceEdit::new(Namespace::clone(&user.namespace.load()));
                users.insert(name.clone(), (user, edit, Vec::new()));
            }
            let Some((user, edit, frames)) = users.get_mut(name) else { continue };
            let old = edit.entry(*id).and_then(|(old, entry)| {
                let partition = self.shared.partition(&entry.partition).ok()?;
                let dir = entry.dir(partition, name, old).ok()?;
                Some((partition.clone(), dir))
            });
            if let Frame::Mailbox { uid_validity, .. } = frame {
                let mut last = self.shared.uid_validity_last.lock();
                *last = (*last).max(uid_validity.0);
            }
            if let (Frame::Mailbox { .. } | Frame::MailboxGone { .. }, Some((partition, dir))) =
                (frame, old)
            {
                let fresh = Strayed { user: user.clone(), dirs: Vec::new() };
                strayed.entry(*id).or_insert(fresh).dirs.push((partition, dir));
            }
            if matches!(frame, Frame::MailboxGone { .. }) {
                self.shared.metadata.forget(*id);
                self.shared.gone.lock().push(*id);
            }
            self.owners.insert(*id, name.clone());
            edit.apply(*id, frame);
            frames.push((*id, frame));
        }
        let mut named = Vec::new();
        for (user, edit, frames) in users.into_values() {
            named.push((user.clone(), frames.iter().map(|(id, _)| *id).collect::<Vec<_>>()));
            user.take_over(edit, frames.into_iter());
            user.mark_dirty();
        }
        self.bring_home(strayed)?;
        let storage = &*self.shared.storage;
        for (user, ids) in named {
            let namespace = NamespaceEdit::new(Namespace::clone(&user.namespace.load()));
            for (name, entry) in ids.into_iter().filter_map(|id| namespace.entry(id)) {
                let partition = self.shared.partition(&entry.partition)?;
                self.shared.owners.of(self.shared, partition, &user.name)?;
                let dir = entry.dir(partition, &user.name, name)?;
                let made = partition.layout.create(storage, &partition.path, &dir);
                made.map_err(Error::io("create", &dir))?;
            }
        }
        Ok(())
    }

    /// Moves directories to where the names say. Each is known by its stamp, so it does not
    /// matter how far things went before the crash. First all leave, then all arrive: names may
    /// have changed places.
    fn bring_home(&self, strayed: BTreeMap<MailboxId, Strayed>) -> Result<()> {
        let storage = &*self.shared.storage;
        let mut leaving = Vec::new();
        for (id, Strayed { user, dirs }) in strayed {
            let namespace = user.namespace.load_full();
            let named = namespace.mailboxes.iter().find(|(_, entry)| entry.id == id);
            let home = match named {
                Some((name, entry)) => {
                    let partition = self.shared.partition(&entry.partition)?;
                    Some((partition.clone(), entry.dir(partition, &user.name, name)?))
                }
                None => None,
            };
            // By partition, in the order of the frames: a copy on a later one is the whole mailbox.
            let mut places: Vec<(Partition, Vec<PathBuf>)> = Vec::new();
            for (partition, dir) in dirs.into_iter().chain(home.clone()) {
                match places.iter_mut().find(|(known, _)| known.name == partition.name) {
                    Some((_, dirs)) => dirs.push(dir),
                    None => places.push((partition, vec![dir])),
                }
            }
            let moved = places.len() > 1;
            let is = |dir: &PathBuf| stamp(storage, dir).is_some_and(|(i, _)| i == id);
            let mut found = Vec::new();
            for (partition, mut dirs) in places {
                dirs.push(trash_dir(self.shared, &partition, id));
                if moved {
                    dirs.push(arrival_dir(self.shared, &partition, id));
                }
                let from = dirs.into_iter().find(is);
                found.extend(from.map(|from| (partition, from)));
            }
            if let Some((to, _)) = &home
                && let Some((partition, from)) = found.last()
                && partition.name != to.name
            {
                // A log that is replayed over a base comes without the copy.
                let from = Place { partition: partition.clone(), dir: from.clone() };
                let arrived = self.bring_over(id, from, to)?;
                found.push((to.clone(), arrived));
            }
            let last = found.len().saturating_sub(1);
            for (at, (partition, from)) in found.into_iter().enumerate() {
                let trash = trash_dir(self.shared, &partition, id);
                let home = home.as_ref().filter(|_| at == last).map(|(_, dir)| dir.clone());
                if home.is_none() {
                    let what = DoomedKind::Mailbox(partition.clone(), trash.clone());
                    self.shared.doomed.lock().push(Doomed { lsn: Lsn(0), what });
                }
                if home.as_ref() != Some(&from) {
                    leaving.push(Leaving { partition, from, trash, home });
                }
            }
        }
        // Deepest first, as live.
        leaving.sort_by_key(|one| std::cmp::Reverse(one.from.components().count()));
        for Leaving { partition, from, trash, .. } in &leaving {
            if from != trash {
                move_to_trash(self.shared, partition, from, trash)?;
            }
        }
        for Leaving { partition, trash, home, .. } in leaving {
            if let Some(home) = home {
                let arrived = partition.layout.relocate(storage, &partition.path, &trash, &home);
                arrived.map_err(Error::io("move", &trash))?;
            }
        }
        Ok(())
    }

    /// Copies a mailbox to another partition; returns where it arrived.
    fn bring_over(&self, id: MailboxId, from: Place, to: &Partition) -> Result<PathBuf> {
        let shared = self.shared;
        if let Some(open) = shared.mailboxes.find(id) {
            // Of what was replayed before.
            let _files = open.files.lock();
            open.deleted.store(true, Ordering::Release);
            shared.mailboxes.remove(id);
            shared.dirty.lock().remove(&id);
        }
        let limit = Lsn(shared.checkpointed.load(Ordering::Acquire));
        let (storage, none) = (&*shared.storage, UidValidity(0));
        let mut files =
            Files::open(storage, &from.dir, shared.store_id, id, none, limit, &shared.trust)?;
        if let Some(summary) = shared.catalog.summary(id)? {
            files.catch_up(&summary)?;
        }
        let mut transfer = Transfer::begin(shared, Turn::take(shared, id)?, from, to.clone())?;
        transfer.finish(&files)?;
        let dir = transfer.dir().to_owned();
        transfer.keep();
        Ok(dir)
    }
}
