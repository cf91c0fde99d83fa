//! Directories that have another place in Cyrus: moved one after another, none over another.
//!
//! The steps are in a journal in the state directory before the first of them is done, and how many
//! are done is in it behind each. While it is there, [nobody else](admin::unfinished) opens the store. A step that was done and not counted is done again: of what it
//! moved nothing is left where it came from, so nothing happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use admin::unfinished::MOVES_NAME;
use serde::{Deserialize, Serialize};

use super::write::Stage;

/// A mailbox's directory, and where it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The mailbox's; empty for its directory in a metapartition.
    pub unique_id: String,
    pub from: PathBuf,
    pub to: PathBuf,
}

/// Steps, and how many of them are done.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    steps: Vec<(PathBuf, PathBuf)>,
    done: usize,
    /// Where mailboxes are behind the last step, by unique id.
    places: BTreeMap<String, PathBuf>,
}

fn named(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

impl Moves {
    /// In an order in which every place is free when something comes to it; behind moves that are
    /// done.
    pub fn in_order(mut wanted: Vec<Wanted>, before: Moves) -> Moves {
        let mut moves = Moves { places: before.places, ..Moves::default() };
        // What lies deeper goes first, else it would have gone along.
        wanted.sort_by_key(|one| std::cmp::Reverse(one.from.components().count()));
        for one in wanted.iter().filter(|one| !one.unique_id.is_empty()) {
            moves.places.insert(one.unique_id.clone(), one.to.clone());
        }
        while !wanted.is_empty() {
            let taken: BTreeSet<&Path> = wanted.iter().map(|one| one.from.as_path()).collect();
            let free = wanted.iter().position(|one| !taken.contains(one.to.as_path()));
            match free {
                Some(at) => {
                    let one = wanted.remove(at);
                    moves.steps.push((one.from, one.to));
                }
                None => {
                    // They change places in a ring: one steps aside.
                    let aside = wanted[0].from.with_extension("cursus-aside");
                    moves.steps.push((wanted[0].from.clone(), aside.clone()));
                    wanted[0].from = aside;
                }
            }
        }
        moves
    }

    /// What an earlier hand-back left to be done.
    pub fn read(state_dir: &Path) -> Result<Moves, String> {
        let path = state_dir.join(MOVES_NAME);
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Moves::default()),
            Err(e) => Err(named(&path)(e)),
        }
    }

    /// Where a mailbox is that was moved.
    pub fn place(&self, unique_id: &str) -> Option<&Path> {
        self.places.get(unique_id).map(PathBuf::as_path)
    }

    /// Whether no directory was to be moved.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Removes the journal: nothing was moved, and the store may be served on.
    pub fn forget(&self, state_dir: &Path) {
        if self.done == 0 {
            let _ = fs::remove_file(state_dir.join(MOVES_NAME));
        }
    }

    /// Makes the directories that are missing, and the journal.
    pub fn prepare(&self, state_dir: &Path) -> Result<(), String> {
        for (_, to) in &self.steps {
            fs::create_dir_all(to).map_err(named(to))?;
        }
        self.note(state_dir)
    }

    fn note(&self, state_dir: &Path) -> Result<(), String> {
        let text = serde_json::to_vec(self).map_err(|e| e.to_string())?;
        let mut stage = Stage::default();
        stage.put(&state_dir.join(MOVES_NAME), &text)?;
        stage.publish().map(drop)
    }

    /// Does what is left to be done.
    pub fn finish(&mut self, state_dir: &Path) -> Result<(), String> {
        while let Some((from, to)) = self.steps.get(self.done) {
            move_directory(from, to)?;
            self.done += 1;
            self.note(state_dir)?;
        }
        Ok(())
    }
}

fn has_directories(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
}

/// Renames a directory, or moves what it holds to where children are already.
fn move_directory(from: &Path, to: &Path) -> Result<(), String> {
    let named = |e: std::io::Error| format!("{} to {}: {e}", from.display(), to.display());
    // One rename where nothing else is in either: an empty directory gives way to another.
    if !has_directories(from) && fs::rename(from, to).is_ok() {
        return Ok(());
    }
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    fs::create_dir_all(to).map_err(named)?;
    for entry in entries {
        let entry = entry.map_err(named)?;
        // Sub-directories are other mailboxes.
        if !entry.path().is_dir() {
            fs::rename(entry.path(), to.join(entry.file_name())).map_err(named)?;
        }
    }
    let _ = fs::remove_dir(from);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(root: &Path, from: &str, to: &str) -> Wanted {
        Wanted { unique_id: from.to_owned(), from: root.join(from), to: root.join(to) }
    }

    /// A chain, a ring, and a directory with another mailbox in it; `b` is where `a` goes.
    fn tree(root: &Path) -> Vec<Wanted> {
        for name in ["a", "b", "x", "y", "p", "p/child"] {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("1."), name).unwrap();
        }
        let pairs = [("a", "b"), ("b", "new/c"), ("x", "y"), ("y", "x"), ("p", "q")];
        pairs.iter().map(|(from, to)| wanted(root, from, to)).collect()
    }

    fn moved(root: &Path) {
        for (name, from) in
            [("b", "a"), ("new/c", "b"), ("y", "x"), ("x", "y"), ("q", "p"), ("p/child", "p/child")]
        {
            assert_eq!(fs::read_to_string(root.join(name).join("1.")).unwrap(), from, "{name}");
        }
        assert!(!root.join("a").exists());
    }

    #[test]
    fn nothing_is_moved_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let mut moves = Moves::in_order(tree(dir.path()), Moves::default());
        moves.prepare(dir.path()).unwrap();
        moves.finish(dir.path()).unwrap();
        moved(dir.path());
        assert_eq!(moves.place("a"), Some(dir.path().join("b").as_path()));
    }

    #[test]
    fn what_was_cut_off_goes_on() {
        for steps in 0..6 {
            for counted in [true, false] {
                let dir = tempfile::tempdir().unwrap();
                let mut moves = Moves::in_order(tree(dir.path()), Moves::default());
                moves.prepare(dir.path()).unwrap();
                for step in 0..steps {
                    let (from, to) = moves.steps[step].clone();
                    move_directory(&from, &to).unwrap();
                    moves.done += 1;
                    if counted || step + 1 < steps {
                        moves.note(dir.path()).unwrap();
                    }
                }
                let mut again = Moves::read(dir.path()).unwrap();
                again.finish(dir.path()).unwrap();
                moved(dir.path());
            }
        }
    }
}
