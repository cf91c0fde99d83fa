//! Copies of shared folders on files of this machine: two users' rights, and what follows what.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::folders::folders;
use super::place::{CopyDir, is_copy, names};
use super::reader::Reader;
use super::{ORIGINAL_NAME, follow, original};
use crate::io::blocking::Blocking;
use crate::io::{Directory, Storage};

fn staged() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("staged.{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn opened(copy: &Path) -> io::Result<CopyDir> {
    Ok(CopyDir::open(&Blocking::new(), copy)?.expect("a copy"))
}

fn follow(copy: &Path, removes: bool) -> io::Result<()> {
    follow::follow(&Blocking::new(), &opened(copy)?, removes, &staged).map(drop)
}

fn give_back(copy: &Path) -> io::Result<()> {
    follow::give_back(&Blocking::new(), &opened(copy)?, &staged)
}

fn remove_originals(copy: &Path, bases: &BTreeSet<Vec<u8>>) -> io::Result<BTreeSet<Vec<u8>>> {
    original::remove_originals(&Blocking::new(), &opened(copy)?, bases)
}

fn directory(path: &Path) -> Arc<dyn Directory> {
    Blocking::new().directory(path).unwrap()
}

fn maildir(path: &Path) {
    for sub in ["tmp", "new", "cur"] {
        fs::create_dir_all(path.join(sub)).unwrap();
    }
}

fn listed(copy: &Path) -> Vec<String> {
    let mut all: Vec<String> = ["new", "cur"]
        .iter()
        .flat_map(|sub| names(&*directory(&copy.join(sub))).unwrap())
        .map(|(name, is_link)| format!("{}{}", name.display(), if is_link { " ->" } else { "" }))
        .collect();
    all.sort();
    all
}

/// A shared folder and a copy of it: directory, original, copy.
fn shared() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) =
        (dir.path().join("Share/.Open"), dir.path().join("jo/shared-folders/team/Open"));
    [original.parent().unwrap(), &original, &copy].into_iter().for_each(maildir);
    symlink(&original, copy.join(ORIGINAL_NAME)).unwrap();
    for name in ["cur/1.a.h:2,S", "cur/2.b.h:2,", "new/3.c.h"] {
        fs::write(original.join(name), name).unwrap();
    }
    (dir, original, copy)
}

#[test]
fn a_copy_follows_and_is_given_back() {
    let (dir, original, copy) = shared();
    let is_copy = |dir: &Path| is_copy(&Blocking::new(), dir);
    assert!(is_copy(&copy) && !is_copy(&original));
    // One of Courier's links has the reader's flags.
    symlink(original.join("cur/1.a.h:2,S"), copy.join("cur/1.a.h:2,F")).unwrap();
    symlink(original.join("cur/0.x.h:2,"), copy.join("cur/0.x.h:2,")).unwrap();
    follow(&copy, true).unwrap();
    assert_eq!(listed(&copy), ["1.a.h:2,F", "2.b.h", "3.c.h"]);
    assert!(original.join("cur/3.c.h:2,").exists());
    // The owner's flags and removals.
    fs::rename(original.join("cur/1.a.h:2,S"), original.join("cur/1.a.h:2,RS")).unwrap();
    fs::remove_file(original.join("cur/2.b.h:2,")).unwrap();
    follow(&copy, true).unwrap();
    assert_eq!(listed(&copy), ["1.a.h:2,F", "3.c.h"]);
    let gone = BTreeSet::from([b"3.c.h".to_vec(), b"none".to_vec()]);
    assert_eq!(remove_originals(&copy, &gone).unwrap(), BTreeSet::new());
    follow(&copy, true).unwrap();
    give_back(&copy).unwrap();
    assert_eq!(listed(&copy), ["1.a.h:2,F ->"]);
    assert_eq!(fs::read_link(copy.join("cur/1.a.h:2,F")).unwrap(), original.join("cur/1.a.h:2,RS"));
    // What is not there to look at removes nothing.
    fs::rename(original.parent().unwrap(), dir.path().join("elsewhere")).unwrap();
    assert!(follow(&copy, true).is_err());
    assert_eq!(listed(&copy), ["1.a.h:2,F ->"]);
    fs::rename(dir.path().join("elsewhere"), original.parent().unwrap()).unwrap();
    fs::remove_dir_all(&original).unwrap();
    // What is on its way to the original stays meanwhile.
    follow(&copy, false).unwrap();
    assert_eq!(listed(&copy), ["1.a.h:2,F ->"]);
    follow(&copy, true).unwrap();
    assert_eq!(listed(&copy), [""; 0]);
}

#[test]
fn what_the_reader_may_not_read_is_not_there() {
    let (dir, original, copy) = shared();
    if rustix::process::getuid().is_root() {
        // The reader is somebody else, then.
        let main = dir.path().join("jo");
        for path in [&main, &copy, &copy.join("new"), &copy.join("cur"), &copy.join("tmp")] {
            std::os::unix::fs::chown(path, Some(4711), Some(4711)).unwrap();
        }
    } else {
        eprintln!("skipped: files of two users take root");
        return;
    }
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(dir.path(), 0o711);
    set(&original.join("cur/1.a.h:2,S"), 0o600);
    symlink("/etc/passwd", original.join("cur/9.p.h:2,")).unwrap();
    follow(&copy, true).unwrap();
    assert_eq!(listed(&copy), ["2.b.h", "3.c.h"]);
    // Neither in a directory that is not his, nor with the sticky bit another's file.
    let all = BTreeSet::from([b"2.b.h".to_vec()]);
    for (mode, stays) in [(0o755, true), (0o1777, true), (0o777, false)] {
        set(&original.join("cur"), mode);
        assert_eq!(remove_originals(&copy, &all).unwrap().is_empty(), !stays, "{mode:o}");
    }
    let reader = Reader::of(&*directory(&dir.path().join("jo"))).unwrap();
    let folders = |path: &Path, reader| folders(&Blocking::new(), path, reader);
    assert_eq!(folders(&dir.path().join("Share"), reader), ["Open"]);
    set(&original, 0o700);
    assert_eq!(folders(&dir.path().join("Share"), reader), [""; 0]);
    follow(&copy, true).unwrap();
    assert_eq!(listed(&copy), [""; 0]);
    // Nor what lies behind a directory that he may not pass.
    set(&original, 0o755);
    follow(&copy, true).unwrap();
    assert_eq!(listed(&copy), ["3.c.h"]);
    set(dir.path(), 0o700);
    assert_eq!(folders(&dir.path().join("Share"), reader), [""; 0]);
    follow(&copy, true).unwrap();
    assert_eq!(listed(&copy), [""; 0]);
}

/// The race that a reader could run: he has the server look at a folder that he may write into, and
/// exchanges what leads there before it writes.
#[test]
fn what_was_looked_at_is_what_is_written_into() {
    let (dir, original, copy) = shared();
    let theirs = dir.path().join("bob/.Private");
    [theirs.parent().unwrap(), &theirs].into_iter().for_each(maildir);
    fs::write(copy.join("new/7.m.h"), "mine").unwrap();
    let storage = Blocking::new();
    let open = opened(&copy).unwrap();
    let found = open.original(&storage).unwrap().unwrap();
    // The link, and the directory that it led to.
    fs::remove_file(copy.join(ORIGINAL_NAME)).unwrap();
    symlink(&theirs, copy.join(ORIGINAL_NAME)).unwrap();
    let moved = dir.path().join("Share/.Moved");
    fs::rename(&original, &moved).unwrap();
    symlink(&theirs, &original).unwrap();
    let given =
        original::publish(&open, &found, ("new", OsStr::new("7.m.h")), OsStr::new("7.m.h:2,"));
    given.unwrap();
    assert_eq!(fs::read(moved.join("cur/7.m.h:2,")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(theirs.join("cur")).unwrap().count(), 0);
    // What has a message's name is the message, not what a link leads to.
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::set_permissions(dir.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink(dir.path().join("secret"), copy.join("new/8.n.h")).unwrap();
    let name = OsStr::new("8.n.h");
    assert!(original::publish(&open, &found, ("new", name), name).is_err());
    let secret = fs::metadata(dir.path().join("secret")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
    // The copy's own directories are no links either.
    fs::rename(copy.join("tmp"), copy.join("tmp.was")).unwrap();
    symlink(theirs.join("tmp"), copy.join("tmp")).unwrap();
    fs::write(theirs.join("cur/9.o.h:2,"), "theirs").unwrap();
    assert!(follow::follow(&storage, &open, true, &staged).is_err());
    assert_eq!(fs::read_dir(theirs.join("tmp")).unwrap().count(), 0);
    fs::rename(&copy, dir.path().join("gone")).unwrap();
    symlink(&theirs, &copy).unwrap();
    assert!(CopyDir::open(&storage, &copy).is_err());
}
