//! Files that replace others, all of them together.
//!
//! | step | a crash or a full disk there leaves |
//! |---|---|
//! | [`Stage::put`]: every new file whole beside the old one, synced | the old files, and files called `….NEW` that Cyrus ignores |
//! | [`Stage::publish`]: renames, which need no room | some of the old files and some of the new ones, each whole |
//!
//! In both cases the same is done again from its beginning. A stage that is dropped removes what it
//! has written.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Cyrus's own ending for a rewrite in progress.
const ENDING: &str = ".NEW";

/// Files on their way.
#[derive(Default)]
pub struct Stage {
    /// In the order in which they are to take their places.
    waiting: VecDeque<PathBuf>,
    /// Make no directories: one that is gone was another's to remove.
    existing_only: bool,
    /// What nothing tells of any more once all files are in their places.
    leaving: Vec<PathBuf>,
}

fn fresh(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ENDING);
    path.with_file_name(name)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn named(path: &Path) -> impl Fn(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

impl Stage {
    /// For directories that are there only.
    pub fn in_existing_directories() -> Stage {
        let mut stage = Stage::default();
        stage.existing_only = true;
        stage
    }

    /// Writes a file beside the one whose place it will take; one that has these bytes already is
    /// left alone.
    pub fn put(&mut self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        if fs::read(path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        if !self.existing_only {
            fs::create_dir_all(parent(path)).map_err(named(path))?;
        }
        let beside = fresh(path);
        // Known before it is there, so that it goes when this fails.
        self.waiting.push_back(path.to_owned());
        let write = || -> io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(named(&beside))
    }

    /// Has a file removed once all others are in their places.
    pub fn remove(&mut self, path: PathBuf) {
        self.leaving.push(path);
    }

    /// Puts all files in their places, in the order in which they were written; returns how many.
    pub fn publish(&mut self) -> Result<usize, String> {
        let count = self.waiting.len();
        let mut dirs = BTreeSet::new();
        while let Some(path) = self.waiting.front() {
            // It leaves the list when it is in its place: what fails is cleared away.
            fs::rename(fresh(path), path).map_err(named(path))?;
            dirs.insert(parent(path).to_owned());
            self.waiting.pop_front();
        }
        for dir in dirs {
            File::open(&dir).and_then(|dir| dir.sync_all()).map_err(named(&dir))?;
        }
        for path in self.leaving.drain(..) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(named(&path)(e)),
                _ => {}
            }
        }
        Ok(count)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for path in &self.waiting {
            let _ = fs::remove_file(fresh(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_take_their_places_together_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("below/two"));
        fs::write(&one, "old").unwrap();
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        {
            let mut stage = Stage::default();
            stage.put(&one, b"new").unwrap();
            assert_eq!(fs::read(&one).unwrap(), b"old");
            // A directory in the way of the second.
            fs::write(dir.path().join("below"), "").unwrap();
            assert!(stage.put(&two, b"new").is_err());
        }
        assert_eq!(fs::read(&one).unwrap(), b"old");
        assert_eq!(names(), ["below", "one"]);
        fs::remove_file(dir.path().join("below")).unwrap();
        let mut stage = Stage::default();
        stage.put(&one, b"new").unwrap();
        stage.put(&two, b"new").unwrap();
        assert_eq!(stage.publish().unwrap(), 2);
        drop(stage);
        assert_eq!(
            (fs::read(&one).unwrap(), fs::read(&two).unwrap()),
            (b"new".into(), b"new".into())
        );
        let mut again = Stage::default();
        again.put(&one, b"new").unwrap();
        assert_eq!(again.publish().unwrap(), 0);
    }

    #[test]
    fn a_directory_that_is_gone_stays_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut stage = Stage::in_existing_directories();
        assert!(stage.put(&dir.path().join("gone/file"), b"x").is_err());
        assert!(!dir.path().join("gone").exists());
    }
}
