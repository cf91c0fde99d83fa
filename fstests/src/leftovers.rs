//! Mounts, loop devices, arrays, exports, images and guests: noted before they are made, undone in
//! the opposite order when the run ends, and by the next run when this one was killed.
//!
//! A run's list is a file in [`STATE_DIR`], named by its process, with the owner in its first line
//! and a thing a line after that. What is undone twice, or was never made, is passed over.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result, run_program};
use crate::facts::mounts;
use crate::scratch::{owner_is_gone, owner_line};

/// Where lists are; root's.
const STATE_DIR: &str = "/run/cursus-fstests";
/// How often a busy mount is tried again, and how long between: an NFS server keeps files of an
/// export that is gone open for some seconds.
const BUSY_TRIES: usize = 200;
const BUSY_WAIT: Duration = Duration::from_millis(100);

/// A thing that must not outlive its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A mount, by its directory.
    Mount(PathBuf),
    /// Loop devices over a file or device.
    Loop(PathBuf),
    /// An array of md, by its device.
    Array(PathBuf),
    /// An export of nfsd: `client:path`.
    Export(String),
    /// A directory of images and mount points.
    Directory(PathBuf),
    /// A process of ours, such as a guest's script: as its owner's line.
    Process(String),
    /// Processes of a guest, by the directory of ours that it sees as `/host`.
    Guest(PathBuf),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Thing::Mount(path) => write!(f, "mount {}", path.display()),
            Thing::Loop(path) => write!(f, "loop {}", path.display()),
            Thing::Array(path) => write!(f, "array {}", path.display()),
            Thing::Export(text) => write!(f, "export {text}"),
            Thing::Directory(path) => write!(f, "directory {}", path.display()),
            Thing::Process(line) => write!(f, "process {line}"),
            Thing::Guest(host) => write!(f, "guest {}", host.display()),
        }
    }
}

impl Thing {
    fn parse(line: &str) -> Option<Thing> {
        let (kind, rest) = line.split_once(' ')?;
        Some(match kind {
            "mount" => Thing::Mount(rest.into()),
            "loop" => Thing::Loop(rest.into()),
            "array" => Thing::Array(rest.into()),
            "export" => Thing::Export(rest.into()),
            "directory" => Thing::Directory(rest.into()),
            "process" => Thing::Process(rest.into()),
            "guest" => Thing::Guest(rest.into()),
            _ => return None,
        })
    }

    fn undo(&self) -> Result<()> {
        match self {
            Thing::Mount(at) => unmount(at),
            Thing::Loop(file) => {
                for device in loops_of(file)? {
                    run_program("losetup", &["-d", &device])?;
                }
                Ok(())
            }
            Thing::Array(device) if device.exists() => {
                run_program("mdadm", &["--stop", &device.display().to_string()]).map(drop)
            }
            Thing::Array(_) => Ok(()),
            // Not exported any more: exportfs says so, and that is what is wanted.
            Thing::Export(export) => {
                let _ = run_program("exportfs", &["-u", export]);
                let _ = run_program("exportfs", &["-f"]);
                // The server keeps files open for a while, which would keep the filesystem mounted.
                if let Some((_, path)) = export.split_once(':') {
                    let _ = fs::write("/proc/fs/nfsd/unlock_filesystem", path);
                }
                Ok(())
            }
            Thing::Directory(path) => match fs::remove_dir_all(path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other.map_err(Error::io("remove", path)),
            },
            Thing::Process(line) => {
                end_process(line);
                Ok(())
            }
            Thing::Guest(host) => end_guest(host),
        }
    }
}

/// Ends a process of ours that is still there, and waits until it is not.
fn end_process(line: &str) {
    let pid = line.split(' ').next().and_then(|pid| pid.parse::<i32>().ok());
    let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { return };
    for _ in 0..BUSY_TRIES {
        if owner_is_gone(line) {
            return;
        }
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        thread::sleep(BUSY_WAIT);
    }
}

/// Kills what is left of a guest whose script could not end it.
fn end_guest(host: &Path) -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    for _ in 0..BUSY_TRIES {
        let left = guest_processes(host);
        if left.is_empty() {
            return Ok(());
        }
        for pid in left.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(BUSY_WAIT);
    }
    Err(Error::Usage(format!("the guest with {} as its /host does not end", host.display())))
}

/// Processes of the guest that has `host` as its `/host`: it stands on its kernel's command line.
/// Those that have ended and were not waited for have none.
fn guest_processes(host: &Path) -> Vec<i32> {
    let word = format!("vmhost={}", host.display());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let of_guest = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|part| part == word.as_bytes())
    };
    pids.filter(of_guest).collect()
}

fn unmount(at: &Path) -> Result<()> {
    let text = at.display().to_string();
    let mut last = None;
    for _ in 0..BUSY_TRIES {
        if !mounts()?.iter().any(|mount| mount.at == at) {
            return Ok(());
        }
        match run_program("umount", &[&text]) {
            Ok(_) => continue,
            Err(error) => last = Some(error),
        }
        thread::sleep(BUSY_WAIT);
    }
    last.map_or(Ok(()), Err)
}

/// Loop devices over a file or device.
fn loops_of(file: &Path) -> Result<Vec<String>> {
    let text = run_program("losetup", &["-n", "-O", "NAME", "-j", &file.display().to_string()])?;
    Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

/// What this run has made; undone when dropped.
pub struct Leftovers {
    path: PathBuf,
    file: File,
    things: Vec<Thing>,
}

impl Leftovers {
    /// Undoes what killed runs left, and begins a list.
    ///
    /// # Errors
    /// When not root.
    pub fn begin() -> Result<Leftovers> {
        let dir = Path::new(STATE_DIR);
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        clean(dir)?;
        let pid = std::process::id();
        // Tests run several in one process.
        let mut number = 0;
        let (path, mut file) = loop {
            let path = dir.join(format!("{pid}-{number}"));
            match File::create_new(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                made => break (path.clone(), made.map_err(Error::io("create", &path))?),
            }
        };
        writeln!(file, "{}", owner_line(pid)).map_err(Error::io("write", &path))?;
        Ok(Leftovers { path, file, things: Vec::new() })
    }

    /// Notes a thing that is about to be made.
    ///
    /// # Errors
    /// When the list cannot be written: the thing must not be made then.
    pub fn note(&mut self, thing: Thing) -> Result<()> {
        writeln!(self.file, "{thing}").map_err(Error::io("write", &self.path))?;
        self.things.push(thing);
        Ok(())
    }

    /// Undoes what was noted behind the first `kept` things.
    pub fn undo_behind(&mut self, kept: usize) {
        while self.things.len() > kept {
            if let Some(thing) = self.things.pop() {
                undo(&thing);
            }
        }
    }

    /// How much is noted.
    pub fn count(&self) -> usize {
        self.things.len()
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let mut all = true;
        while let Some(thing) = self.things.pop() {
            all &= undo(&thing);
        }
        // What could not be undone the next run tries again.
        if all {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn undo(thing: &Thing) -> bool {
    match thing.undo() {
        Ok(()) => true,
        Err(error) => {
            eprintln!("cannot undo: {thing}: {error}");
            false
        }
    }
}

/// Undoes the lists of runs that are gone.
fn clean(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let mut lines = text.lines();
        if !lines.next().is_none_or(owner_is_gone) {
            continue;
        }
        eprintln!("undoing what a run left that was killed ({})", path.display());
        let things: Vec<Thing> = lines.filter_map(Thing::parse).collect();
        // All are tried, whatever one says.
        let undone = things.iter().rev().map(undo).filter(|ok| !ok).count() == 0;
        if undone {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Undoes what killed runs left, where this user may.
pub fn clean_if_root() {
    let dir = Path::new(STATE_DIR);
    if rustix::process::geteuid().is_root()
        && dir.is_dir()
        && let Err(error) = clean(dir)
    {
        eprintln!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back() {
        for thing in [
            Thing::Mount("/a b".into()),
            Thing::Loop("/x".into()),
            Thing::Array("/dev/md127".into()),
            Thing::Export("127.0.0.1:/srv".into()),
            Thing::Directory("/d".into()),
            Thing::Process("17 3 boot".into()),
            Thing::Guest("/var/tmp/x".into()),
        ] {
            assert_eq!(Thing::parse(&thing.to_string()), Some(thing));
        }
        assert_eq!(Thing::parse("nonsense x"), None);
    }

    #[test]
    fn a_guest_is_known_by_its_host_directory_alone_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let start = |host: &Path| {
            let word = format!("vmhost={}", host.display());
            let mut command = std::process::Command::new("sh");
            // It waits by itself: a child would have its command line for a moment.
            command.args(["-c", "read line", "uml", &word]);
            command.stdin(std::process::Stdio::piped()).spawn().unwrap()
        };
        let mut mine = start(dir.path());
        let mut other = start(&dir.path().join("longer"));
        // It has its command line once sh has begun.
        while guest_processes(dir.path()).is_empty() {
            assert!(mine.try_wait().unwrap().is_none());
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(guest_processes(dir.path()), [mine.id() as i32]);
        end_guest(dir.path()).unwrap();
        assert!(!mine.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none(), "another guest was ended");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_killed_runs_list_is_undone_last_first_and_a_living_ones_kept() {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().join("made");
        fs::create_dir_all(made.join("inner")).unwrap();
        let lists = dir.path().join("lists");
        fs::create_dir(&lists).unwrap();
        let gone = format!("999999999 1 boot\ndirectory {}\n", made.display());
        fs::write(lists.join("999999999-0"), gone).unwrap();
        let living = format!("{}\ndirectory {}\n", owner_line(std::process::id()), "/nowhere");
        fs::write(lists.join("1-0"), living).unwrap();
        clean(&lists).unwrap();
        assert!(!made.exists() && !lists.join("999999999-0").exists());
        assert!(lists.join("1-0").exists());
    }
}
