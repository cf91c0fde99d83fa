//! Whether a Cyrus server runs on these files, and Cyrus's own locks while we work on them.
//!
//! | what | how it is known | held |
//! |---|---|---|
//! | its master | command lines in `/proc`: `cyrmaster`, with this imapd.conf | |
//! | a session | `proc/PID` in `configdirectory`, or `proc_path`, of a process that lives | |
//! | a tool that lists mailboxes | fcntl lock on `mailboxes.db` | exclusively, for the whole command: every tool of Cyrus's reads it first, and waits |
//! | a mailbox that is open | fcntl locks on `lock/uuid/x/y/ID.lock` (3.6) and on `cyrus.index` | exclusively, while its files are read or written |
//!
//! Locks are those of open file descriptions (`F_OFD_SETLK`): they exclude the process's locks that
//! Cyrus takes, and closing another descriptor of the same file does not drop them. None is waited
//! for: whoever holds one is named instead.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::io::blocking::Blocking;
use engine::io::{Storage, StoredFile};
use foreign::cyrus::imapd_conf::ImapdConf;

use crate::failure::{Failed, Kind};

/// Which imapd.conf Cyrus takes where it is told none.
const USUAL_CONF: &str = "/etc/imapd.conf";
/// Services that have a file in `proc/` while somebody is logged in.
const SERVICES: [&str; 10] = [
    "imapd",
    "pop3d",
    "lmtpd",
    "httpd",
    "nntpd",
    "timsieved",
    "mupdate",
    "sync_server",
    "backupd",
    "ptloader",
];

/// Locks of Cyrus's that are ours until this is dropped.
pub struct Held {
    _files: Vec<Arc<dyn StoredFile>>,
}

/// Says which process of Cyrus's serves this imapd.conf, if one does.
pub fn server(conf: &ImapdConf, imapd_conf: &Path, config_dir: &Path) -> Option<String> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let words: Vec<_> = line.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        if is_master(&words, imapd_conf) {
            return Some(format!("Cyrus's master runs: process {pid}"));
        }
    }
    let sessions = conf.get("proc_path").map_or_else(|| config_dir.join("proc"), PathBuf::from);
    for entry in fs::read_dir(sessions).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(program) = program(pid)
            && SERVICES.contains(&program.as_str())
        {
            return Some(format!("a session of Cyrus's is open: {program}, process {pid}"));
        }
    }
    None
}

/// Whether a command line is that of the master with this configuration.
fn is_master(words: &[std::borrow::Cow<'_, str>], imapd_conf: &Path) -> bool {
    let path = Path::new(words.first().map_or("", |word| word));
    let name = path.file_name().unwrap_or_default();
    // Postfix has a master, too.
    let is_master = name == "cyrmaster"
        || name == "master" && path.to_str().is_some_and(|path| path.contains("cyrus"));
    let after = words.iter().position(|word| word == "-C").and_then(|at| words.get(at + 1));
    let conf = after.map_or(USUAL_CONF, |word| word);
    is_master && same_file(Path::new(conf), imapd_conf)
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// The name of a process that lives.
fn program(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim().to_owned())
}

/// Locks the list of mailboxes; refuses beside a running server.
///
/// # Errors
/// Names who holds what.
pub fn take(
    conf: &ImapdConf,
    imapd_conf: &Path,
    config_dir: &Path,
    list: &Path,
) -> Result<Held, Failed> {
    let busy = |who: String| Failed::new(Kind::Temporary, format!("{who}: stop Cyrus before"));
    if let Some(who) = server(conf, imapd_conf, config_dir) {
        return Err(busy(who));
    }
    lock(&[list.to_owned()]).map_err(busy)
}

/// Locks the files that are there of these.
///
/// # Errors
/// Which one is locked, and by whom.
pub fn lock(paths: &[PathBuf]) -> Result<Held, String> {
    let storage = Blocking::new();
    let mut files = Vec::new();
    for path in paths.iter().filter(|path| path.exists()) {
        match storage.lock_range(path) {
            Ok(file) => files.push(file),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(format!("{} is locked{}", path.display(), holder(path)));
            }
            // Where the filesystem has no locks Cyrus has none either.
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(e) => return Err(format!("{}: cannot be locked: {e}", path.display())),
        }
    }
    Ok(Held { _files: files })
}

/// Who holds a lock, in words: `/proc/locks` has a line for each, with the process and, behind the
/// device, the inode.
fn holder(path: &Path) -> String {
    let asked = || {
        let inode = fs::metadata(path).ok()?.ino().to_string();
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(4);
            // Locks of open file descriptions have -1.
            let pid = words.next()?.parse::<u32>();
            let of = words.next()?.rsplit(':').next()?;
            pid.ok().filter(|_| of == inode)
        })
    };
    match asked() {
        Some(pid) => {
            let program = program(pid).unwrap_or_else(|| "a program".to_owned());
            format!(" by {program}, process {pid}")
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_known_by_its_command_line() {
        let words = |line: &'static str| -> Vec<_> { line.split(' ').map(Into::into).collect() };
        let conf = Path::new("/somewhere/imapd.conf");
        for (line, expected) in [
            ("/usr/sbin/cyrmaster -C /somewhere/imapd.conf -d", true),
            ("/usr/lib/cyrus/bin/master -M /x -C /somewhere/imapd.conf", true),
            ("/usr/lib/cyrus/bin/master -d", false),
            ("/usr/lib/postfix/sbin/master -C /somewhere/imapd.conf", false),
            ("/usr/sbin/cyrmaster -C /else/imapd.conf", false),
        ] {
            assert_eq!(is_master(&words(line), conf), expected, "{line}");
        }
        assert!(is_master(&words("cyrmaster -d"), Path::new(USUAL_CONF)));
    }

    #[test]
    fn a_lock_of_another_process_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mailboxes.db");
        fs::write(&path, "x").unwrap();
        let held = lock(std::slice::from_ref(&path)).unwrap();
        let refused = lock(std::slice::from_ref(&path)).err().unwrap();
        assert!(refused.contains("mailboxes.db is locked"), "{refused}");
        drop(held);
        lock(&[path]).unwrap();
        assert!(lock(&[dir.path().join("missing")]).is_ok());
        assert!(!dir.path().join("missing").exists());
    }
}
