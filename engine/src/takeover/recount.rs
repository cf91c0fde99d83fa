//! `maildirsize` calculated anew from what lies in a user's Maildir. See [`super::tally`].
//!
//! Whoever delivers meanwhile is seen by the times of the directories, which are taken before each is
//! listed and compared when the file has its new place.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreign::maildirsize::Maildirsize;
use protocol::types::SystemFlags;

use super::files;
use super::tally::{NAME, Sum, is_trash};
use crate::error::{Error, Result};
use crate::io::Kind;
use crate::layout::maildir::{parse_name, sizes_in_name};
use crate::user::UserInner;

/// Calculations that other programs' changes spoil before the file is left to others to make.
const ATTEMPTS_MAX: usize = 5;

impl UserInner {
    /// Makes the file anew from what lies in the directories.
    pub(super) fn calculate(self: &Arc<Self>, main: &Path) -> Result<()> {
        let tally = &self.ledger.tally;
        let _one_at_a_time = tally.calculating.lock();
        let path = main.join(NAME);
        for attempt in 1..=ATTEMPTS_MAX {
            let (all, definition) = {
                let mut state = tally.state.lock();
                state.generation += 1;
                (state.under_way, state.spoiled) = (true, false);
                (state.all, state.definition)
            };
            let done = self.count_files(main, all).and_then(|(sum, before)| {
                let Sum { bytes, messages } = sum;
                let file = Maildirsize { definition, bytes, messages, lines: 1 };
                files::replace(&self.shared, main, &path, &file.write())?;
                Ok((sum, before == self.directory_times(main)?))
            });
            let mut state = tally.state.lock();
            state.generation += 1;
            state.under_way = false;
            let (sum, is_whole) = done?;
            if std::mem::take(&mut state.renamed) {
                state.known = self.known_of(sum);
            }
            tally.note(&state, sum);
            if is_whole && !state.spoiled {
                return Ok(());
            }
            drop(state);
            if attempt == ATTEMPTS_MAX {
                tracing::debug!(path = %path.display(), "changed while it was counted: removed");
                let _ = self.shared.storage.unlink(&path);
            }
        }
        self.shared.tend_tally(&self.name);
        Ok(())
    }

    /// Directories of the user's Maildir that hold messages.
    fn counted_dirs(&self, main: &Path) -> Result<Vec<PathBuf>> {
        let mut dirs = vec![main.to_owned()];
        let mut each = |name: &[u8], kind: Kind| {
            if kind == Kind::Directory && name.len() > 1 && name[0] == b'.' && name[1] != b'.' {
                dirs.push(main.join(OsStr::from_bytes(name)));
            }
        };
        self.shared.storage.list(main, &mut each).map_err(Error::io("list", main))?;
        Ok(dirs)
    }

    fn directory_times(&self, main: &Path) -> Result<Vec<i64>> {
        let storage = &*self.shared.storage;
        let time = |dir: PathBuf| storage.stat_fresh(&dir).map_or(0, |stat| stat.mtime_ns);
        let dirs = self.counted_dirs(main)?;
        Ok(dirs.iter().flat_map(|dir| [time(dir.join("new")), time(dir.join("cur"))]).collect())
    }

    /// What the files come to, and the times of their directories before they were listed.
    fn count_files(&self, main: &Path, all: bool) -> Result<(Sum, Vec<i64>)> {
        let storage = &*self.shared.storage;
        let before = self.directory_times(main)?;
        let doomed = self.doomed_names();
        let mut sum = Sum::default();
        for dir in self.counted_dirs(main)?.iter().filter(|dir| all || !is_trash(dir)) {
            for (sub, in_new) in [("new", true), ("cur", false)] {
                let dir = dir.join(sub);
                let mut unsized_names = Vec::new();
                let mut each = |name: &[u8], kind: Kind| {
                    let Some(at) = parse_name(name, in_new).filter(|_| kind == Kind::File) else {
                        return;
                    };
                    let deleted = at.flags.system().contains(SystemFlags::DELETED);
                    if deleted && !all || doomed.contains(&at.base) {
                        return;
                    }
                    match sizes_in_name(&at.base).stored.and_then(|n| i64::try_from(n).ok()) {
                        Some(bytes) => sum = sum.plus(Sum { bytes, messages: 1 }),
                        None => unsized_names.push(name.to_vec()),
                    }
                };
                match storage.list(&dir, &mut each) {
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    other => other.map_err(Error::io("list", &dir))?,
                }
                for name in unsized_names {
                    let path = dir.join(OsStr::from_bytes(&name));
                    // One that is gone meanwhile changed the directory's time.
                    let Ok(stat) = storage.stat(&path) else { continue };
                    let bytes = i64::try_from(stat.size).unwrap_or(i64::MAX);
                    sum = sum.plus(Sum { bytes, messages: 1 });
                }
            }
        }
        Ok((sum, before))
    }

    /// Files of expunged messages that wait for a checkpoint to remove them.
    fn doomed_names(&self) -> BTreeSet<Vec<u8>> {
        let mut names = BTreeSet::new();
        for entry in self.namespace.load().mailboxes.values() {
            let Some(open) = self.shared.mailboxes.find(entry.id) else { continue };
            let doomed: Vec<_> = open.doomed.lock().iter().copied().collect();
            if doomed.is_empty() {
                continue;
            }
            let files = open.files.lock();
            let positions = doomed.iter().filter_map(|uid| files.position_of(*uid));
            names.extend(positions.filter_map(|at| files.location(at)).map(|at| at.base));
        }
        names
    }
}
