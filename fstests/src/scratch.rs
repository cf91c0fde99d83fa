//! The directories that this program writes in. Nothing else is touched.
//!
//! A scratch directory is made inside a directory that the operator named, carries a marker with
//! the process that owns it, and is removed with all that is in it when the run ends, however it
//! ends. One whose process is gone (kill -9) is removed by the next run in the same place. A
//! directory that holds data is refused for a run: there nobody could tell its mail from ours.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

const PREFIX: &str = ".cursus-fstests-";
const MARKER: &str = "owner";
/// What mkfs leaves in a new filesystem.
const HARMLESS: [&str; 1] = ["lost+found"];

/// A directory of ours; removed when dropped.
pub struct Scratch {
    path: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Makes one in `parent`, which may hold other things.
    ///
    /// # Errors
    /// When `parent` is no directory, or may not be written.
    pub fn beside(parent: &Path) -> Result<Scratch> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let facts = fs::metadata(parent).map_err(Error::io("look at", parent))?;
        if !facts.is_dir() {
            let reason = "expected a directory".to_owned();
            return Err(Error::Refused { path: parent.to_owned(), reason });
        }
        // What is mounted or exported in there the kernel names by its whole path.
        let parent = &parent.canonicalize().map_err(Error::io("find", parent))?;
        remove_stale(parent)?;
        let pid = std::process::id();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{pid}-{number}"));
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(Error::io("create", &path))?;
        let scratch = Scratch { path, kept: false };
        let marker = scratch.path.join(MARKER);
        fs::write(&marker, owner_line(pid)).map_err(Error::io("write", &marker))?;
        Ok(scratch)
    }

    /// Makes one in `parent`, which must hold nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] when `parent` holds data.
    pub fn alone(parent: &Path) -> Result<Scratch> {
        refuse_data(parent)?;
        Scratch::beside(parent)
    }

    /// Leaves it where it is when dropped: the filesystem that it is on goes as a whole.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Whether it is left where it is.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a new directory in it.
    ///
    /// # Errors
    /// When the name is in use, or the filesystem refuses.
    pub fn create(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Gone already where it was noted as one of the leftovers.
        if let Err(error) = remove(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes a scratch directory, its marker last, so that one half removed is still known as ours.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir_all(path)
}

/// # Errors
/// [`Error::Refused`], with what was found, when a directory holds anything but what mkfs leaves
/// and what earlier runs of this program left.
pub fn refuse_data(dir: &Path) -> Result<()> {
    let entries = fs::read_dir(dir).map_err(Error::io("list", dir))?;
    for entry in entries {
        let name = entry.map_err(Error::io("list", dir))?.file_name();
        let name = name.to_string_lossy().into_owned();
        let ours = name.starts_with(PREFIX) && dir.join(&name).join(MARKER).is_file();
        if !ours && !HARMLESS.contains(&name.as_str()) {
            let reason = format!(
                "it holds data ({name}); measure in an empty directory of the same filesystem: \
                 mkdir {}/measure",
                dir.display()
            );
            return Err(Error::Refused { path: dir.to_owned(), reason });
        }
    }
    Ok(())
}

/// A process, and its start, so that another one with its number is told apart.
pub(crate) fn owner_line(pid: u32) -> String {
    format!("{pid} {}", start_of(pid).unwrap_or_default())
}

/// Start of a process in ticks since boot, and the boot.
fn start_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command may hold spaces and brackets; fields count from behind its last bracket.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // One that has ended and was not waited for yet (a zombie) owns nothing any more.
    let ticks = fields.next().filter(|state| *state != "Z").and(fields.nth(18))?.to_owned();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{ticks} {}", boot.trim()))
}

/// Whether the process of an owner's line is gone.
pub(crate) fn owner_is_gone(line: &str) -> bool {
    let pid = line.split(' ').next().and_then(|pid| pid.parse::<u32>().ok());
    pid.is_none_or(|pid| owner_line(pid) != line.trim())
}

/// Removes scratch directories in `parent` whose process is gone, if they are this user's.
fn remove_stale(parent: &Path) -> Result<()> {
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).map_err(Error::io("list", parent))? {
        let entry = entry.map_err(Error::io("list", parent))?;
        let path = entry.path();
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let marker = path.join(MARKER);
        let (Ok(line), Ok(facts)) = (fs::read_to_string(&marker), fs::symlink_metadata(&marker))
        else {
            continue;
        };
        if owner_is_gone(&line) && facts.uid() == me {
            eprintln!("removing {}, which a run left that was killed", path.display());
            remove(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_data_is_refused_and_nothing_is_made_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        assert!(refuse_data(dir.path()).is_ok());
        fs::write(dir.path().join("mail"), "x").unwrap();
        let said = Scratch::alone(dir.path()).map(drop).unwrap_err().to_string();
        assert!(said.contains("it holds data (mail)"), "{said}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_lives_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let stale = dir.path().join(format!("{PREFIX}999999999-0"));
        fs::create_dir(&stale).unwrap();
        fs::write(stale.join("mail"), "x").unwrap();
        fs::write(stale.join(MARKER), "999999999 1 boot").unwrap();
        let first = Scratch::alone(dir.path()).unwrap();
        assert!(!stale.exists());
        let second = Scratch::beside(dir.path()).unwrap();
        assert!(first.path().exists() && second.path().exists());
        let (first_path, second_path) = (first.path().to_owned(), second.path().to_owned());
        drop((first, second));
        assert!(!first_path.exists() && !second_path.exists());
    }

    #[test]
    fn a_name_like_ours_without_a_marker_is_data() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(format!("{PREFIX}1-0"))).unwrap();
        assert!(refuse_data(dir.path()).is_err());
    }

    #[test]
    fn a_process_is_known_by_number_and_start() {
        assert!(!owner_is_gone(&owner_line(std::process::id())));
        assert!(owner_is_gone(&format!("{} 1 other-boot", std::process::id())));
        assert!(owner_is_gone("nonsense"));
    }
}
