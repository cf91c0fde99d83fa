//! Namespaces first, then directories to match.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::Redo;
use crate::config::Partition;
use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::ids::{Lsn, MailboxId};
use crate::log::Transaction;
use crate::mailbox::opening::stamp;
use crate::namespace::{Namespace, NamespaceEdit};
use crate::shared::{Doomed, DoomedKind};
use crate::user::{UserInner, move_to_trash, trash_dir};

/// A mailbox whose directory a change of names may not have moved yet.
struct Strayed {
    user: Arc<UserInner>,
    partition: Partition,
    /// Where it may be.
    dirs: Vec<PathBuf>,
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
                | Frame::UrlKey { user, .. } => user,
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
                let dir = partition.layout.mailbox_dir(&partition.path, name, old).ok()?;
                Some((partition.clone(), dir))
            });
            if let Frame::Mailbox { uid_validity, .. } = frame {
                let mut last = self.shared.uid_validity_last.lock();
                *last = (*last).max(uid_validity.0);
            }
            if let (Frame::Mailbox { .. } | Frame::MailboxGone { .. }, Some((partition, dir))) =
                (frame, old)
            {
                let user = user.clone();
                let fresh = Strayed { user, partition, dirs: Vec::new() };
                strayed.entry(*id).or_insert(fresh).dirs.push(dir);
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
                let dir = partition.layout.mailbox_dir(&partition.path, &user.name, name)?;
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
        for (id, Strayed { user, partition, mut dirs }) in strayed {
            let trash = trash_dir(&partition, id);
            let namespace = user.namespace.load_full();
            let home = match namespace.name_of(id) {
                Some(name) => {
                    Some(partition.layout.mailbox_dir(&partition.path, &user.name, name)?)
                }
                None => {
                    let what = DoomedKind::Mailbox(partition.clone(), trash.clone());
                    self.shared.doomed.lock().push(Doomed { lsn: Lsn(0), what });
                    None
                }
            };
            dirs.push(trash.clone());
            let is = |dir: &PathBuf| stamp(storage, dir).is_some_and(|(i, _)| i == id);
            let Some(from) = dirs.into_iter().find(is) else { continue };
            if home.as_ref() != Some(&from) {
                leaving.push((from, trash, partition, home));
            }
        }
        // Deepest first, as live.
        leaving.sort_by_key(|(from, ..)| std::cmp::Reverse(from.components().count()));
        for (from, trash, partition, _) in &leaving {
            if from != trash {
                move_to_trash(self.shared, partition, from, trash)?;
            }
        }
        for (_, trash, partition, home) in leaving {
            if let Some(home) = home {
                let arrived = partition.layout.relocate(storage, &partition.path, &trash, &home);
                arrived.map_err(Error::io("move", &trash))?;
            }
        }
        Ok(())
    }
}
