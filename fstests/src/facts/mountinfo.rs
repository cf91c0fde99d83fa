//! `/proc/self/mountinfo`: which mount a path is on, with the options in force.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// One mount, as proc_pid_mountinfo(5) tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Device number, `major:minor`.
    pub device: (u32, u32),
    /// The directory of the filesystem that is mounted.
    pub root: String,
    /// Where it is mounted.
    pub at: PathBuf,
    /// As the kernel names it.
    pub filesystem: String,
    /// What is mounted: a device, an export.
    pub source: String,
    /// Options of the mount, then those of the superblock.
    pub options: Vec<String>,
}

impl Mount {
    /// The mount that a path is on.
    ///
    /// # Errors
    /// When the path does not exist, or the kernel does not tell its mount.
    pub fn of(path: &Path) -> Result<Mount> {
        let path = path.canonicalize().map_err(Error::io("find", path))?;
        let inside = |mount: &Mount| path.starts_with(&mount.at);
        // The last of those with the longest path lies on top.
        let found = mounts()?.into_iter().filter(inside).enumerate();
        let found = found.max_by_key(|(n, mount)| (mount.at.components().count(), *n));
        found.map(|(_, mount)| mount).ok_or_else(|| Error::Refused {
            path,
            reason: "/proc/self/mountinfo has no mount for it".to_owned(),
        })
    }

    /// Whether an option is in force, alone or as the name before `=`.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|option| option == name)
    }

    /// The value of an option `name=value`.
    pub fn value(&self, name: &str) -> Option<&str> {
        let values = self.options.iter().filter_map(|option| option.split_once('='));
        values.filter(|(key, _)| *key == name).map(|(_, value)| value).next_back()
    }

    /// NFS of any version.
    pub fn is_nfs(&self) -> bool {
        matches!(self.filesystem.as_str(), "nfs" | "nfs4")
    }

    /// ext2, ext3 or ext4.
    pub fn is_ext(&self) -> bool {
        matches!(self.filesystem.as_str(), "ext2" | "ext3" | "ext4")
    }

    /// The options in one string, as in fstab.
    pub fn options_text(&self) -> String {
        self.options.join(",")
    }

    /// An fstab line for this mount with other options: those in `remove` (by name) are left out,
    /// those in `add` put in.
    pub fn fstab_line(&self, remove: &[&str], add: &[&str]) -> String {
        let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
        let mut kept: Vec<&str> = Vec::new();
        for option in &self.options {
            // Not for fstab: told by the kernel, not asked by anybody.
            let told = ["addr", "clientaddr", "mountaddr", "local_lock"].contains(&&*name(option));
            if !told && !remove.contains(&&*name(option)) && !kept.contains(&option.as_str()) {
                kept.push(option);
            }
        }
        kept.extend(add);
        let pass = if self.at == Path::new("/") { 1 } else { 2 };
        let pass = if self.is_ext() { pass } else { 0 };
        let (source, at) = (&self.source, self.at.display());
        format!("{source}  {at}  {}  {}  0  {pass}", self.filesystem, kept.join(","))
    }
}

/// Every mount that this process sees.
///
/// # Errors
/// When `/proc` is not there.
pub fn mounts() -> Result<Vec<Mount>> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<&str> = front.split(' ').collect();
    let back: Vec<&str> = back.split(' ').collect();
    let (major, minor) = front.get(2)?.split_once(':')?;
    let mut options: Vec<String> = Vec::new();
    for option in front.get(5)?.split(',').chain(back.get(2).unwrap_or(&"").split(',')) {
        if !option.is_empty() && !options.iter().any(|o| o == option) {
            options.push(option.to_owned());
        }
    }
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        root: unescape(front.get(3)?),
        at: PathBuf::from(unescape(front.get(4)?)),
        filesystem: (*back.first()?).to_owned(),
        source: unescape(back.get(1)?),
        options,
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let digits = more.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                rest = &more[3..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether two paths are on one filesystem.
///
/// # Errors
/// When one does not exist.
pub fn same_filesystem(a: &Path, b: &Path) -> std::io::Result<bool> {
    Ok(fs::metadata(a)?.dev() == fs::metadata(b)?.dev())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "36 35 98:0 /mnt1 /mnt\\040two rw,noatime master:1 - ext3 /dev/root \
                        rw,errors=continue,data=journal";

    #[test]
    fn a_line_gives_place_source_and_both_kinds_of_options() {
        let mount = parse(LINE).unwrap();
        assert_eq!(mount.device, (98, 0));
        assert_eq!(mount.at, Path::new("/mnt two"));
        assert_eq!((mount.filesystem.as_str(), mount.source.as_str()), ("ext3", "/dev/root"));
        assert_eq!(mount.options_text(), "rw,noatime,errors=continue,data=journal");
        assert!(mount.has("noatime") && !mount.has("data"));
        assert_eq!(mount.value("data"), Some("journal"));
        assert!(mount.is_ext() && !mount.is_nfs());
    }

    #[test]
    fn damaged_lines_give_no_mount() {
        for line in ["", "36 35", "36 35 98:0 / /mnt", "1 2 x:y / / rw - ext4 a b", "a - b"] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn an_fstab_line_has_the_change_and_keeps_the_rest() {
        let line = parse(LINE).unwrap().fstab_line(&["data", "noatime"], &["relatime"]);
        assert_eq!(line, "/dev/root  /mnt two  ext3  rw,errors=continue,relatime  0  2");
    }

    #[test]
    fn escapes_are_octal_and_others_stay() {
        assert_eq!(unescape("a\\040b\\134c\\"), "a b\\c\\");
        assert_eq!(unescape("\\9x\\04"), "\\9x\\04");
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(Mount::of(Path::new("/proc/self")).unwrap().filesystem == "proc");
    }
}
