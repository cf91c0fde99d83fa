//! What the names of a Maildir tell after a crash, beside the letters that frames gave them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use protocol::types::Uid;

use super::Redo;
use crate::error::{Error, Result};
use crate::ids::MailboxId;
use crate::layout::{LayoutKind, Location, NameFlags};
use crate::mailbox::doubles::drop_doubles;
use crate::mailbox::{MailboxInner, Place};

/// Which letters all names had that a message was to have since the checkpoint, and which some.
pub(super) struct Letters {
    all: u8,
    some: u8,
}

impl Redo<'_> {
    pub(super) fn note_letters(&mut self, mailbox: MailboxId, uid: Uid, flags: NameFlags) {
        let known = self.letters.entry(mailbox).or_default();
        let letters = known.entry(uid).or_insert(Letters { all: flags.0, some: flags.0 });
        letters.all &= flags.0;
        letters.some |= flags.0;
    }

    /// The next look at a Maildir merges what names say with what they said before. A rename of
    /// ours may have been undone by the crash, or done and not noted: of letters that we changed
    /// since the checkpoint the name tells nothing, so they are taken as noted. The others
    /// differ only where another program made them.
    pub(super) fn tell_renames_apart(&mut self, mailbox: &Arc<MailboxInner>) -> Result<()> {
        let place = mailbox.place.read().clone();
        let Some(letters) = self.letters.remove(&mailbox.id) else { return Ok(()) };
        if place.partition.layout.kind() != LayoutKind::Maildir {
            return Ok(());
        }
        self.names.remove(&mailbox.id);
        // A file may then be under one of the two names, and under a third one.
        let weak = self.shared.syncs_names(&place.partition.name);
        let mut files = mailbox.files.lock();
        let mut records = Vec::with_capacity(letters.len());
        for (uid, Letters { all, some }) in letters {
            let Some(position) = files.position_of(uid) else { continue };
            let Some(at) = files.location(position) else { continue };
            let mut record = files.record(position);
            let wanted = record.name_flags_wanted(files.keywords().passed_bit());
            let renamed = Location { flags: wanted, in_new: false, ..at.clone() };
            let now = match self.one_of(&place, [&at, &renamed]).filter(|_| !weak) {
                Some(now) => now,
                None => match self.name_now(mailbox, &at.base, Some(&at))? {
                    Some(now) => now,
                    None => continue,
                },
            };
            // A checkpoint leaves alone a name that another program had just changed, too.
            let (all, some) = (all & record.name_flags.0, some | record.name_flags.0);
            record.name_flags = NameFlags(all | some & now.flags.0);
            record.in_new = now.in_new;
            records.push((position, record));
        }
        records.sort_unstable_by_key(|(position, _)| *position);
        files.rewrite(&records)
    }

    /// The name that a message has, where it is one of two that we would give it: a folder is
    /// listed only for what others renamed, or a filesystem left under both.
    fn one_of(&self, place: &Place, names: [&Location; 2]) -> Option<Location> {
        let [first, second] = names;
        let path = |at: &Location| place.partition.layout.path(&place.dir, at);
        let is_there = |at: &Location| self.shared.storage.stat(&path(at)).is_ok();
        match (is_there(first), path(first) != path(second) && is_there(second)) {
            (true, false) => Some(first.clone()),
            (false, true) => Some(second.clone()),
            _ => None,
        }
    }

    /// The name that a file of this base has. Of several of one file one stays, if it can the one that
    /// the index knows.
    pub(super) fn name_now(
        &mut self,
        mailbox: &MailboxInner,
        base: &[u8],
        known: Option<&Location>,
    ) -> Result<Option<Location>> {
        let place = mailbox.place.read().clone();
        let storage = &*self.shared.storage;
        let names = match self.names.entry(mailbox.id) {
            Entry::Occupied(listed) => listed.into_mut(),
            Entry::Vacant(unlisted) => {
                let mut names: HashMap<Vec<u8>, Vec<Location>> = HashMap::new();
                let mut each =
                    |file: Location| names.entry(file.base.clone()).or_default().push(file);
                let listed = place.partition.layout.list(storage, &place.dir, false, &mut each);
                listed.map_err(Error::io("list", &place.dir))?;
                unlisted.insert(names)
            }
        };
        let Some(files) = names.get_mut(base) else { return Ok(None) };
        let knows = |file: &Location| known.is_some_and(|known| file.has_name_of(known));
        if files.len() > 1 {
            *files = drop_doubles(storage, &place, std::mem::take(files), knows)?;
        }
        // Of two messages of one name, the one that is listed last.
        Ok(files.last().cloned())
    }
}
