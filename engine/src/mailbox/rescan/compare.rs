//! A Maildir's listing beside the index: what is new, moved, missing, or should be gone already.
//!
//! Invariants: a message is missing only when two listings lack it; a tombstone's file that is still
//! there is removed, unless it came back as a message of another program's.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::layout::Found;
use crate::mailbox::doubles::drop_doubles;
use crate::mailbox::files::Files;
use crate::mailbox::sweep::Names;
use crate::mailbox::{MailboxInner, Place, Tx};

impl MailboxInner {
    /// Lists `new/` alone and compares it with the messages that are there. `None` when one of
    /// them is missing: then it may be in `cur/`.
    pub(super) fn compare_new(
        self: &Arc<Self>,
        files: &mut Files,
    ) -> Result<Option<Option<Arc<Tx>>>> {
        let place = self.place.read().clone();
        let began = self.shared.storage.now_ns();
        let times = self.directory_times();
        let mut known = HashMap::new();
        for position in files.positions_in_new() {
            let Some(at) = files.location(position) else { return Ok(None) };
            known.insert(at.base.clone(), (position, at));
        }
        let (mut fresh, mut moved) = (Vec::new(), Vec::new());
        for file in self.list(&place, true)? {
            match known.remove(&file.base) {
                None => fresh.push(file),
                Some((position, _)) if files.is_tombstone(position) => {
                    if self.foreign.lock().was_removed(&file.base) {
                        fresh.push(file);
                    } else {
                        self.finish_removal(files, &place, position, &file);
                    }
                }
                Some((position, at)) => {
                    if at.other_letters != file.other_letters {
                        moved.push((position, file));
                    }
                }
            }
        }
        if known.values().any(|(position, _)| !files.is_tombstone(*position)) {
            return Ok(None);
        }
        let last = self.push_differences(files, &place, fresh, moved, Vec::new())?;
        let mut foreign = self.foreign.lock();
        (foreign.new_mtime, foreign.new_listed_at) = (times.0, began);
        foreign.new_differs = false;
        Ok(Some(last))
    }

    /// Lists, compares, pushes frames for what differs.
    pub(in crate::mailbox) fn compare(
        self: &Arc<Self>,
        files: &mut Files,
    ) -> Result<Option<Arc<Tx>>> {
        self.follow_original()?;
        if files.head.count >= self.shared.config.linger_messages_min && self.is_maildir() {
            self.shared.watches.linger(self);
        }
        // What they tell is in the listing, or comes again later.
        let (strayed, after_crash) = {
            let mut foreign = self.foreign.lock();
            foreign.events().clear();
            (std::mem::take(&mut foreign.strayed), foreign.after_crash)
        };
        let last = self.compare_all(files, after_crash);
        let mut foreign = self.foreign.lock();
        match last {
            Ok(_) => foreign.after_crash = false,
            Err(_) => foreign.strayed |= strayed,
        }
        drop(foreign);
        if after_crash && last.is_ok() {
            // The next checkpoint makes it durable, and says that it was done.
            self.mark_dirty();
        }
        last
    }

    /// `after_crash`: removes what a crash left, too.
    fn compare_all(
        self: &Arc<Self>,
        files: &mut Files,
        after_crash: bool,
    ) -> Result<Option<Arc<Tx>>> {
        let place = self.place.read().clone();
        if after_crash {
            self.clean_stage(&place);
        }
        let began = self.shared.storage.now_ns();
        let times = self.directory_times();
        let mut found = self.list(&place, false)?;
        let mut names = files.names()?;
        if files.damage.any() && !self.heal_files(files, false).mended.is_empty() {
            names = files.names()?;
        }
        let known = Known::of(files, &names);
        if after_crash {
            let knows = |file: &Found| {
                let at = known.find(&file.base).and_then(|position| files.location(position));
                at.is_some_and(|at| file.has_name_of(&at))
            };
            found = drop_doubles(&*self.shared.storage, &place, found, knows)?;
        }
        let told = self.foreign.lock().told.clone();
        let mut seen = vec![false; files.head.count];
        let mut fresh = Vec::new();
        let mut moved = Vec::new();
        for file in found {
            let Some(position) = known.find(&file.base) else {
                fresh.push(file);
                continue;
            };
            if files.is_tombstone(position) && self.foreign.lock().was_removed(&file.base) {
                fresh.push(file);
                continue;
            }
            // Dovecot gives copies the name that a message had, and another UID.
            let uid = files.record(position).uid;
            if files.is_tombstone(position)
                && told.as_ref().and_then(|told| told.uid(&file.base)).is_some_and(|t| t != uid.0)
            {
                fresh.push(file);
                continue;
            }
            if files.is_tombstone(position) {
                self.finish_removal(files, &place, position, &file);
                continue;
            }
            if std::mem::replace(&mut seen[position], true) {
                // Met twice while another program moves it from `new/`: where it went counts.
                moved.retain(|(at, _): &(usize, Found)| *at != position);
            }
            let record = files.record(position);
            let differs = file.flags != record.name_flags || file.in_new != record.in_new;
            if differs || known.names.of(position).1 != file.other_letters {
                moved.push((position, file));
            }
        }
        let mut missing: Vec<usize> =
            (0..seen.len()).filter(|&p| !seen[p] && !files.is_tombstone(p)).collect();
        // A name that cannot be read is missing nowhere, unless no file has the message's content.
        missing.retain(|&position| {
            let named = !names.of(position).0.is_empty();
            named || files.fileless.contains(&files.record(position).uid)
        });
        if !missing.is_empty() {
            self.look_again(&place, &known, &mut missing, &mut moved)?;
        }
        let removed = missing.iter().map(|&p| known.names.of(p).0.to_vec());
        let removed = removed.filter(|base| !base.is_empty()).collect();
        let last = self.push_differences(files, &place, fresh, moved, missing)?;
        self.try_late_names(files);
        let mut foreign = self.foreign.lock();
        foreign.removed(removed);
        foreign.looked(times, began);
        foreign.distrusted = false;
        Ok(last)
    }

    fn list(&self, place: &Place, new_only: bool) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let storage = &*self.shared.storage;
        let mut each = |file: Found| found.push(file);
        place
            .partition
            .layout
            .list(storage, &place.dir, new_only, &mut each)
            .map_err(Error::io("list", &place.dir))?;
        Ok(found)
    }

    /// Removes files in `tmp/` that deliveries of earlier runs left: what the log had of them was
    /// placed by recovery. Names tell the run (the owner epoch).
    fn clean_stage(&self, place: &Place) {
        let storage = &*self.shared.storage;
        let stage =
            |name: &str| place.partition.layout.stage_path(&place.partition.path, &place.dir, name);
        let mut left = Vec::new();
        let mut each = |name: &[u8], _| {
            if self.shared.is_left_staged(name) {
                left.extend(std::str::from_utf8(name).ok().map(str::to_owned));
            }
        };
        if let Some(dir) = stage("x").parent()
            && let Err(error) = storage.list(dir, &mut each)
        {
            tracing::warn!(dir = %dir.display(), %error, "cannot look for unfinished deliveries");
        }
        for name in left {
            let path = stage(&name);
            match storage.unlink(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "removed an unfinished delivery"),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove a staged file");
                }
            }
        }
    }

    /// A name missing once may have been renamed while we listed.
    fn look_again(
        &self,
        place: &Place,
        known: &Known<'_>,
        missing: &mut Vec<usize>,
        moved: &mut Vec<(usize, Found)>,
    ) -> Result<()> {
        let mut back = HashMap::new();
        for file in self.list(place, false)? {
            if let Some(position) = known.find(&file.base) {
                back.insert(position, file);
            }
        }
        missing.retain(|position| match back.remove(position) {
            Some(file) => {
                moved.push((*position, file));
                false
            }
            None => true,
        });
        Ok(())
    }

    /// The file of a tombstone that is still there: removed now unless a checkpoint must come
    /// first.
    pub(in crate::mailbox) fn finish_removal(
        self: &Arc<Self>,
        files: &Files,
        place: &Place,
        position: usize,
        file: &Found,
    ) {
        let uid = files.record(position).uid;
        if self.doomed.lock().contains(&uid) {
            return;
        }
        let path = place.partition.layout.path(&place.dir, file);
        self.issued(&path);
        match self.shared.storage.unlink(&path) {
            // The next checkpoint makes it durable.
            Ok(()) => self.mark_dirty(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove an expunged message");
                self.foreign.lock().strayed = true;
            }
        }
    }

    /// Removes the files of tombstones that other programs had renamed before we could: a clean
    /// stop leaves nothing that only a tombstone tells from a delivery.
    pub(crate) fn remove_strays(self: &Arc<Self>) -> Result<()> {
        let files = self.files.lock();
        if !self.is_maildir() || !self.foreign.lock().strayed {
            return Ok(());
        }
        let place = self.place.read().clone();
        let names = files.names()?;
        let known = Known::of(&files, &names);
        let found = self.list(&place, false)?;
        self.foreign.lock().strayed = false;
        for file in found {
            if let Some(position) = known.find(&file.base)
                && files.is_tombstone(position)
                && !self.foreign.lock().was_removed(&file.base)
            {
                self.finish_removal(&files, &place, position, &file);
            }
        }
        Ok(())
    }
}

/// The file names that the index knows, tombstones' included.
struct Known<'a> {
    names: &'a Names,
    by_base: HashMap<&'a [u8], u32>,
}

impl<'a> Known<'a> {
    /// A living message goes before a tombstone of the same name.
    fn of(files: &Files, names: &'a Names) -> Known<'a> {
        let mut by_base = HashMap::with_capacity(files.head.count);
        for position in 0..files.head.count {
            let (base, _) = names.of(position);
            if base.is_empty() {
                continue;
            }
            if files.is_tombstone(position) {
                by_base.entry(base).or_insert(position as u32);
            } else {
                by_base.insert(base, position as u32);
            }
        }
        Known { names, by_base }
    }

    /// The position whose file has this base name.
    fn find(&self, base: &[u8]) -> Option<usize> {
        self.by_base.get(base).map(|position| *position as usize)
    }
}
