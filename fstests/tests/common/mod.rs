//! What scenario tests share: the program, roots, and what is mounted.

// Each test uses its own part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program of this build.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cursus-fstests"))
}

/// Everything that a program said.
pub fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// Whether this process may mount loop devices; if not, says that `what` is skipped.
pub fn may_mount(what: &str) -> bool {
    let missing = match () {
        () if std::env::var_os("CURSUS_FSTESTS_LATER").is_some() => "left to tools/test fstests",
        () if !rustix::process::geteuid().is_root() => "not root",
        () if !Path::new("/dev/loop-control").exists() => "no loop devices",
        () if !fstests::error::has_program("mke2fs") => "no mke2fs",
        () => return true,
    };
    println!("skipped: {what}: {missing}");
    false
}

/// Runs a program that must succeed.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Loop devices and mounts whose file or directory is below `root`.
pub fn in_use(root: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap() + &sh("losetup -a");
    let root = root.to_str().unwrap();
    text.lines().filter(|line| line.contains(root)).map(str::to_owned).collect()
}

/// Processes that have a path below `root` on their command line.
pub fn processes_of(root: &Path) -> Vec<String> {
    let root = root.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(root)).collect()
}

/// A filesystem on a loop device, unmounted when dropped.
pub struct Mounted {
    pub image: PathBuf,
    pub at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mounted {
    /// Makes one of ext4 with these options of mke2fs, and mounts it.
    pub fn new(mkfs: &str, options: &str) -> Mounted {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("mail"));
        std::fs::create_dir(&at).unwrap();
        std::fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        sh(&format!("mke2fs -q -F -t ext4 -E nodiscard {mkfs} {}", image.display()));
        let mounted = Mounted { image, at, _dir: dir };
        mounted.mount(options);
        mounted
    }

    pub fn mount(&self, options: &str) {
        let (image, at) = (self.image.display(), self.at.display());
        sh(&format!("mount -o loop,{options} {image} {at}"));
    }

    pub fn unmount(&self) {
        sh(&format!("umount {}", self.at.display()));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Fails where a test has unmounted it, which is well.
        let _ = Command::new("umount").arg(&self.at).output();
    }
}
