//! Making a filesystem of a spec: images, loop devices, arrays, mkfs, mount, export.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::ganesha;
use super::spec::{Spec, Stack};
use crate::error::{Error, Result, has_program, run_program};
use crate::facts::nfs;
use crate::leftovers::{Leftovers, Thing};
use crate::run::Reshape;

/// Where Debian puts Ganesha's module for directories, by processor.
const GANESHA_VFS: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so",
    "/usr/lib/aarch64-linux-gnu/ganesha/libfsalvfs.so",
];
/// Bytes of a device for an inode, where mke2fs is not told otherwise.
const BYTES_PER_INODE: u64 = 16_384;
/// Inodes for all that is not in the largest folder.
const INODES_BESIDE: u64 = 25_000;

/// What images are made of.
pub(super) struct Ground {
    /// A directory for images and mount points.
    pub(super) dir: PathBuf,
    /// Bytes of one device.
    pub(super) device_bytes: u64,
    /// A block device that is cut into slices instead of using files.
    pub(super) device: Option<PathBuf>,
    /// Slices and files made.
    pub(super) made: u64,
    /// Messages of the largest folder: there must be inodes for them.
    pub(super) messages_max: u64,
    /// What NFSv4 clients see as `/` is a directory of ours (see [`Ground::mount_export`]).
    pub(super) nfs_root: bool,
}

/// A mounted filesystem.
pub(super) struct Made {
    pub(super) at: PathBuf,
    pub(super) mkfs: String,
    pub(super) mount: String,
    /// Makes directories with an index or without, by mounting anew.
    pub(super) reshape: Option<Reshape>,
}

/// Why a filesystem cannot be had here, if so, before anything is tried.
pub(super) fn obstacle(spec: &Spec) -> Option<String> {
    let program = |name: &str| (!has_program(name)).then(|| format!("{name} is not installed"));
    if let Stack::Md { .. } = spec.stack {
        let _ = run_program("modprobe", &["md_mod"]);
        if !Path::new("/proc/mdstat").exists() {
            return Some("the kernel has no md".to_owned());
        }
        return program("mdadm");
    }
    if let Stack::Ganesha = spec.stack {
        if !has_filesystem("nfs4") {
            return Some("the kernel has no NFS client".to_owned());
        }
        let module = "nfs-ganesha or its module for directories (nfs-ganesha-vfs)";
        let here =
            has_program(ganesha::PROGRAM) && GANESHA_VFS.iter().any(|p| Path::new(p).exists());
        return (!here)
            .then(|| format!("{module} is not installed"))
            .or_else(|| program("mount.nfs"));
    }
    if let Stack::Nfs { .. } = spec.stack {
        let _ = run_program("modprobe", &["nfsd"]);
        if !has_filesystem("nfsd") {
            return Some("the kernel has no NFS server".to_owned());
        }
        if !has_filesystem(if spec.mount.contains(&"vers=3") { "nfs" } else { "nfs4" }) {
            return Some("the kernel has no NFS client".to_owned());
        }
        return program("exportfs")
            .or_else(|| program("rpc.nfsd"))
            .or_else(|| program("mount.nfs"));
    }
    if !has_filesystem(spec.filesystem) {
        let more = match spec.filesystem {
            "zfs" => {
                " (a module of OpenZFS that is built for one kernel; measure a pool by run DIR…)"
            }
            _ => "",
        };
        return Some(format!("the kernel has no {}{more}", spec.filesystem));
    }
    let acl = spec.acl_entries.then(|| program("setfacl")).flatten();
    program(mkfs_name(spec.filesystem)).or(acl)
}

pub(crate) fn has_filesystem(name: &str) -> bool {
    let known = || {
        let text = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        text.lines().any(|line| line.split('\t').next_back() == Some(name))
    };
    known() || (run_program("modprobe", &[name]).is_ok() && known())
}

pub(crate) fn mkfs_name(filesystem: &str) -> &'static str {
    match filesystem {
        "ext2" | "ext3" | "ext4" => "mke2fs",
        "xfs" => "mkfs.xfs",
        "btrfs" => "mkfs.btrfs",
        "f2fs" => "mkfs.f2fs",
        "jfs" => "mkfs.jfs",
        "reiserfs" => "mkfs.reiserfs",
        _ => "zpool",
    }
}

/// What mkfs is told always: quietly, and over whatever is there.
pub(crate) fn mkfs_always(filesystem: &str) -> &'static [&'static str] {
    match filesystem {
        "ext2" => &["-q", "-F", "-t", "ext2", "-E", "nodiscard"],
        "ext3" => &["-q", "-F", "-t", "ext3", "-E", "nodiscard"],
        "ext4" => &["-q", "-F", "-t", "ext4", "-E", "nodiscard"],
        "xfs" => &["-q", "-f", "-K"],
        "btrfs" => &["-q", "-f", "-K"],
        "f2fs" => &["-q", "-f", "-t", "0"],
        "jfs" => &["-q"],
        "reiserfs" => &["-q", "-ff"],
        _ => &[],
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

impl Ground {
    /// A device of its own.
    fn device(&mut self, leftovers: &mut Leftovers) -> Result<String> {
        let number = self.made;
        self.made += 1;
        let (backing, slice) = match &self.device {
            Some(device) => (device.clone(), Some(number * self.device_bytes)),
            None => {
                let image = self.dir.join(format!("image-{number}"));
                let file = File::create_new(&image).map_err(Error::io("create", &image))?;
                file.set_len(self.device_bytes).map_err(Error::io("grow", &image))?;
                (image, None)
            }
        };
        leftovers.note(Thing::Loop(backing.clone()))?;
        let backing = text(&backing);
        let (offset, size);
        let mut arguments = vec!["--find", "--show"];
        if let Some(at) = slice {
            (offset, size) = (at.to_string(), self.device_bytes.to_string());
            arguments.extend(["--offset", &offset, "--sizelimit", &size]);
        }
        arguments.push(&backing);
        Ok(run_program("losetup", &arguments)?.trim().to_owned())
    }

    /// Makes and mounts a spec. What was made before a failure is undone.
    pub(super) fn make(&mut self, spec: &Spec, leftovers: &mut Leftovers) -> Result<Made> {
        let kept = leftovers.count();
        let made = match &spec.stack {
            Stack::Nfs { export } => self.nfs(spec, export, leftovers),
            Stack::Ganesha => self.ganesha(spec, leftovers),
            _ => self.local(spec, &self.dir.clone(), leftovers),
        };
        if made.is_err() {
            leftovers.undo_behind(kept);
            // It may have been among what was undone; exporting it twice does no harm.
            self.nfs_root = false;
        }
        let made = made?;
        if spec.acl_entries {
            let entries =
                "d:u::rwx,d:u:1001:rwx,d:u:1002:r-x,d:g::---,d:g:1003:r-x,d:m::rwx,d:o::---";
            run_program("setfacl", &["-m", entries, &text(&made.at)])?;
        }
        Ok(made)
    }

    /// Makes a filesystem of this kernel's and mounts it in a new directory in `within`.
    fn local(&mut self, spec: &Spec, within: &Path, leftovers: &mut Leftovers) -> Result<Made> {
        if spec.filesystem == "zfs" {
            let why = "zfs is not made by this program: measure a pool by run DIR…";
            return Err(Error::Usage(why.to_owned()));
        }
        let name = mkfs_name(spec.filesystem);
        let count = match spec.stack {
            Stack::BtrfsRaid { devices, .. } | Stack::Md { devices, .. } => devices,
            Stack::ExternalJournal => 2,
            _ => 1,
        };
        let mut devices = Vec::new();
        for _ in 0..count {
            devices.push(self.device(leftovers)?);
        }
        let mut arguments: Vec<String> = mkfs_always(spec.filesystem)
            .iter()
            .chain(&spec.mkfs)
            .map(|s| (*s).to_owned())
            .collect();
        arguments.extend(self.inodes(spec.filesystem));
        let (mut before, mount_device) = (String::new(), devices[0].clone());
        let mut mount_device = mount_device;
        match spec.stack {
            Stack::ExternalJournal => {
                run_program(name, &["-q", "-F", "-O", "journal_dev", "-b", "4096", &devices[1]])?;
                before = format!("{name} -O journal_dev {}; ", devices[1]);
                arguments.extend(["-b".into(), "4096".into()]);
                arguments.extend([
                    "-J".into(),
                    format!("device={}", devices[1]),
                    devices[0].clone(),
                ]);
            }
            Stack::BtrfsRaid { profile, .. } => {
                arguments.extend(["-d", profile, "-m", profile].map(str::to_owned));
                arguments.extend(devices.iter().cloned());
            }
            Stack::Md { level, devices: count } => {
                let array = free_array();
                leftovers.note(Thing::Array(PathBuf::from(&array)))?;
                let raid_devices = format!("--raid-devices={count}");
                let level_option = format!("--level={level}");
                let mut create = vec![
                    "--create",
                    &array,
                    "--run",
                    "--assume-clean",
                    "--metadata=1.2",
                    &level_option,
                    &raid_devices,
                ];
                create.extend(devices.iter().map(String::as_str));
                run_program("mdadm", &create)?;
                before = format!("mdadm {}; ", create.join(" "));
                arguments.push(array.clone());
                mount_device = array;
            }
            _ => arguments.push(devices[0].clone()),
        }
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_program(name, &words)?;
        let at = self.mount_point(within)?;
        let mount = mount(spec.filesystem, &spec.mount, &mount_device, &at, leftovers)?;
        let reshape = spec.lacks_index().then(|| {
            let (device, at) = (mount_device.clone(), at.clone());
            let mut mount: Vec<String> = vec!["-t".into(), spec.filesystem.into()];
            if !spec.mount.is_empty() {
                mount.extend(["-o".into(), spec.mount.join(",")]);
            }
            mount.extend([device.clone(), text(&at)]);
            Box::new(move |filling| reindex(&device, &at, &mount, filling)) as Reshape
        });
        let mkfs = format!("{before}{name} {}", words.join(" "));
        Ok(Made { at, mkfs, mount, reshape })
    }

    /// What mkfs is told where its usual number of inodes does not do for the largest folder.
    fn inodes(&self, filesystem: &str) -> Vec<String> {
        let wanted = self.messages_max + self.messages_max / 8 + INODES_BESIDE;
        if wanted < self.device_bytes / BYTES_PER_INODE {
            return Vec::new();
        }
        match filesystem {
            "ext2" | "ext3" | "ext4" => vec!["-N".into(), wanted.to_string()],
            // Of all space, in percent.
            "xfs" => vec!["-i".into(), "maxpct=75".into()],
            _ => Vec::new(),
        }
    }

    fn mount_point(&mut self, within: &Path) -> Result<PathBuf> {
        let at = within.join(format!("mount-{}", self.made));
        self.made += 1;
        std::fs::create_dir(&at).map_err(Error::io("create", &at))?;
        Ok(at)
    }

    /// A fresh ext4, exported and mounted over loopback.
    fn nfs(&mut self, spec: &Spec, export: &str, leftovers: &mut Leftovers) -> Result<Made> {
        let below =
            Spec { filesystem: "ext4", mount: vec![], stack: Stack::Single, ..spec.clone() };
        // Apart from what clients mount: the server looks at all that is mounted below an export,
        // and would wait for itself.
        let exports = self.dir.join("exports");
        std::fs::create_dir_all(&exports).map_err(Error::io("create", &exports))?;
        let made = self.local(&below, &exports, leftovers)?;
        start_server()?;
        let exported = format!("127.0.0.1:{}", made.at.display());
        leftovers.note(Thing::Export(exported.clone()))?;
        let options =
            format!("rw,no_root_squash,no_subtree_check,insecure,fsid={},{export}", self.made);
        run_program("exportfs", &["-o", &options, &exported])?;
        let at = self.mount_point(&self.dir.clone())?;
        let line = self.mount_export(spec, &exports, &made.at, &at, leftovers)?;
        let mkfs = format!("{}; exportfs -o {options} {exported}", made.mkfs);
        Ok(Made { at, mkfs, mount: line, reshape: None })
    }

    /// A fresh ext4, served by NFS-Ganesha and mounted over loopback.
    fn ganesha(&mut self, spec: &Spec, leftovers: &mut Leftovers) -> Result<Made> {
        let below =
            Spec { filesystem: "ext4", mount: vec![], stack: Stack::Single, ..spec.clone() };
        let made = self.local(&below, &self.dir.clone(), leftovers)?;
        let (port, command) = ganesha::start(&self.dir, &made.at, self.made, leftovers)?;
        let at = self.mount_point(&self.dir.clone())?;
        let port = format!("port={port}");
        let options: Vec<&str> = spec.mount.iter().copied().chain([port.as_str()]).collect();
        let source = format!("127.0.0.1:{}", ganesha::EXPORT);
        let line = mount("nfs", &options, &source, &at, leftovers)?;
        Ok(Made { at, mkfs: format!("{}; {command}", made.mkfs), mount: line, reshape: None })
    }

    /// Mounts the export `exported` (in `exports`) at `at`.
    ///
    /// NFSv4 clients walk there from the server's `/`, which nfsd shows by itself only where that
    /// can be exported: not where it is a container's overlay, or a directory of the host's as in
    /// the guest. There `exports` is exported as their root, unless this host, as a file server, has
    /// one already.
    fn mount_export(
        &mut self,
        spec: &Spec,
        exports: &Path,
        exported: &Path,
        at: &Path,
        leftovers: &mut Leftovers,
    ) -> Result<String> {
        let source = |path: &Path| format!("127.0.0.1:{}", path.display());
        let four = !spec.mount.contains(&"vers=3");
        let tried = match four && self.nfs_root {
            true => Err(Error::Usage("below a root of ours".to_owned())),
            false => mount("nfs", &spec.mount, &source(exported), at, leftovers),
        };
        let Err(error) = tried else { return tried };
        let others = nfs::has_root();
        if !four || (others && !self.nfs_root) {
            return Err(error);
        }
        if !self.nfs_root {
            leftovers.note(Thing::Export(source(exports)))?;
            let options = "ro,no_root_squash,no_subtree_check,insecure,fsid=0";
            run_program("exportfs", &["-o", options, &source(exports)])?;
            self.nfs_root = true;
        }
        let below = exported.strip_prefix(exports).unwrap_or(exported);
        mount("nfs", &spec.mount, &source(&Path::new("/").join(below)), at, leftovers)
    }
}

/// Gives the filesystem on `device`, mounted at `at`, an index for new directories (`filling`), or
/// takes the index of all away and leaves the names where they are: filling a large directory
/// without one would take hours, as each name is looked for among all.
fn reindex(device: &str, at: &Path, mount: &[String], filling: bool) -> Result<()> {
    run_program("umount", &[&text(at)])?;
    // tune2fs takes the index only from a filesystem that was just checked.
    let checked = match run_program("e2fsck", &["-fy", device]) {
        Err(Error::Program { said, .. }) if said.contains("exit status: 1") => Ok(String::new()),
        other => other,
    };
    let change = if filling { "dir_index" } else { "^dir_index" };
    let done = checked.and_then(|_| run_program("tune2fs", &["-O", change, device])).map(drop);
    let mount: Vec<&str> = mount.iter().map(String::as_str).collect();
    run_program("mount", &mount)?;
    done
}

/// A name of an array that is not in use.
fn free_array() -> String {
    let free = (100..).find(|n| !Path::new(&format!("/sys/block/md{n}")).exists());
    format!("/dev/md{}", free.unwrap_or(100))
}

fn mount(
    filesystem: &str,
    options: &[&str],
    device: &str,
    at: &Path,
    leftovers: &mut Leftovers,
) -> Result<String> {
    leftovers.note(Thing::Mount(at.to_owned()))?;
    let (options, at) = (options.join(","), text(at));
    let mut arguments = vec!["-t", filesystem];
    if !options.is_empty() {
        arguments.extend(["-o", &options]);
    }
    arguments.extend([device, &at]);
    run_program("mount", &arguments)?;
    Ok(format!("mount {}", arguments.join(" ")))
}

/// Starts the kernel's file server, where it does not run yet.
fn start_server() -> Result<()> {
    let threads = || std::fs::read_to_string("/proc/fs/nfsd/threads").unwrap_or_default();
    if !Path::new("/proc/fs/nfsd/threads").exists() {
        run_program("mount", &["-t", "nfsd", "nfsd", "/proc/fs/nfsd"])?;
    }
    if threads().trim().parse::<u32>().unwrap_or(0) > 0 {
        return Ok(());
    }
    for dir in ["/run/rpcbind", "/var/lib/nfs/sm", "/var/lib/nfs/v4recovery"] {
        std::fs::create_dir_all(dir).map_err(Error::io("create", Path::new(dir)))?;
    }
    for table in ["/var/lib/nfs/etab", "/var/lib/nfs/rmtab"] {
        let path = Path::new(table);
        File::options().create(true).append(true).open(path).map_err(Error::io("create", path))?;
    }
    // Both may run already: what they then say matters less than whether the server starts.
    let _ = run_program("rpcbind", &["-w"]);
    let _ = run_program("rpc.mountd", &[]);
    // Nobody had locks before that could be asked for again: no waiting.
    for name in ["nfsv4leasetime", "nfsv4gracetime"] {
        let _ = std::fs::write(Path::new("/proc/fs/nfsd").join(name), "10");
    }
    run_program("rpc.nfsd", &["4"])?;
    let _ = std::fs::write("/proc/fs/nfsd/v4_end_grace", "Y");
    Ok(())
}

/// Looks whether a block device may be overwritten.
///
/// # Errors
/// [`Error::Refused`] when it holds data or is in use.
pub(super) fn refuse_device_with_data(device: &Path) -> Result<()> {
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
    let refuse = |reason: String| Err(Error::Refused { path: device.to_owned(), reason });
    let facts = std::fs::metadata(device).map_err(Error::io("look at", device))?;
    if !facts.file_type().is_block_device() {
        return refuse("expected a block device".to_owned());
    }
    // The kernel gives it exclusively only when nothing uses it: no mount, array or volume.
    let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
    if let Err(error) = File::options().read(true).custom_flags(exclusive).open(device) {
        return refuse(format!("it is in use: {error}"));
    }
    // blkid fails with status 2 when it finds no signature of anything.
    match run_program("blkid", &["-p", &text(device)]) {
        Ok(found) => refuse(format!(
            "it holds data ({}); wipefs -a {} would destroy that",
            found.trim(),
            device.display()
        )),
        Err(Error::Program { said, .. }) if said.contains("exit status: 2") => Ok(()),
        Err(error) => Err(error),
    }
}
