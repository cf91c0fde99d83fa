//! The filesystems of a profile: each with its making, its mount, and the place that it differs
//! from in one option.

/// What a filesystem lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stack {
    /// One device.
    Single,
    /// ext4 with its journal on a second device.
    ExternalJournal,
    /// btrfs over several devices with a profile for data and metadata.
    BtrfsRaid {
        /// Such as `raid1`.
        profile: &'static str,
        /// Devices.
        devices: usize,
    },
    /// An array of md.
    Md {
        /// Such as `5`.
        level: &'static str,
        /// Devices.
        devices: usize,
    },
    /// An export of ext4, mounted on this host.
    Nfs {
        /// Options of the export beside `rw,no_root_squash`.
        export: &'static str,
    },
    /// The same by NFS-Ganesha, a file server that is a program.
    Ganesha,
}

/// One place of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// As figures name it.
    pub name: String,
    /// As mount(8) names it.
    pub filesystem: &'static str,
    /// Options of its mkfs.
    pub mkfs: Vec<&'static str>,
    /// Options of its mount.
    pub mount: Vec<&'static str>,
    /// What is below.
    pub stack: Stack,
    /// Directories carry a default ACL of several entries.
    pub acl_entries: bool,
    /// The place that it differs from in one option, and the option.
    pub neighbour: Option<(&'static str, &'static str)>,
}

/// How much of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// ext4 in its modes, xfs and btrfs: minutes.
    Quick,
    /// Every choice that the chapter on filesystems of the Courier and Cyrus book discusses.
    Book,
    /// All that this program knows.
    Full,
    /// How directories bear a hundred to a million names, on what differs there.
    Scaling,
}

fn plain(filesystem: &'static str) -> Spec {
    Spec {
        name: filesystem.to_owned(),
        filesystem,
        mkfs: vec![],
        mount: vec![],
        stack: Stack::Single,
        acl_entries: false,
        neighbour: None,
    }
}

/// `base` with one option more.
fn beside(base: &'static str, choice: &'static str) -> Spec {
    Spec { name: format!("{base} {choice}"), neighbour: Some((base, choice)), ..plain(base) }
}

fn mounted(base: &'static str, option: &'static str) -> Spec {
    Spec { mount: vec![option], ..beside(base, option) }
}

fn made(base: &'static str, choice: &'static str, mkfs: &[&'static str]) -> Spec {
    Spec { mkfs: mkfs.to_vec(), ..beside(base, choice) }
}

fn btrfs_raid(choice: &'static str, devices: usize) -> Spec {
    Spec { stack: Stack::BtrfsRaid { profile: choice, devices }, ..beside("btrfs", choice) }
}

fn md(choice: &'static str, level: &'static str, devices: usize) -> Spec {
    Spec { stack: Stack::Md { level, devices }, ..beside("ext4", choice) }
}

/// An export with `sync`, beside the place that it differs from.
fn nfs(
    name: &'static str,
    neighbour: (&'static str, &'static str),
    mount: &[&'static str],
) -> Spec {
    let (stack, neighbour) = (Stack::Nfs { export: "sync" }, Some(neighbour));
    Spec { name: name.to_owned(), stack, mount: mount.to_vec(), neighbour, ..plain("nfs") }
}

fn nfs_beside(choice: &'static str, export: &'static str, mount: &[&'static str]) -> Spec {
    let name = format!("nfs v4.2 {choice}");
    Spec { name, stack: Stack::Nfs { export }, ..nfs("", ("nfs v4.2", choice), mount) }
}

fn quick() -> Vec<Spec> {
    vec![
        plain("ext4"),
        mounted("ext4", "strictatime"),
        mounted("ext4", "noatime"),
        made("ext4", "without dir_index", &["-O", "^dir_index"]),
        mounted("ext4", "data=journal"),
        mounted("ext4", "data=writeback"),
        plain("xfs"),
        plain("btrfs"),
    ]
}

fn book() -> Vec<Spec> {
    let mut all = quick();
    all.extend([
        plain("ext2"),
        plain("ext3"),
        made("ext3", "without dir_index", &["-O", "^dir_index"]),
        mounted("ext3", "data=journal"),
        mounted("ext3", "data=writeback"),
        plain("reiserfs"),
        mounted("reiserfs", "notail"),
        plain("jfs"),
        mounted("xfs", "noatime"),
        mounted("ext4", "nodiratime"),
        made("ext4", "no journal", &["-O", "^has_journal"]),
        Spec { stack: Stack::ExternalJournal, ..beside("ext4", "external journal") },
        mounted("ext4", "noacl"),
        Spec { acl_entries: true, ..beside("ext4", "ACL entries") },
        mounted("ext4", "commit=60"),
        btrfs_raid("raid1", 2),
        md("on md RAID 0", "0", 2),
        md("on md RAID 1", "1", 2),
        md("on md RAID 5", "5", 3),
        md("on md RAID 10", "10", 4),
        nfs("nfs v4.2", ("ext4", "over NFSv4.2"), &["vers=4.2"]),
        nfs("nfs v3", ("nfs v4.2", "vers=3"), &["vers=3", "nolock"]),
        nfs_beside("export async", "async", &["vers=4.2"]),
        nfs_beside("rsize and wsize 8192", "sync", &["vers=4.2", "rsize=8192", "wsize=8192"]),
        nfs_beside("noatime", "sync", &["vers=4.2", "noatime"]),
    ]);
    all
}

fn full() -> Vec<Spec> {
    let mut all = book();
    all.extend([
        mounted("ext4", "nobarrier"),
        mounted("ext4", "commit=1"),
        mounted("ext4", "lazytime"),
        made("ext4", "inodes of 128", &["-I", "128"]),
        made("ext4", "inodes of 512", &["-I", "512"]),
        made("ext4", "large_dir", &["-O", "large_dir"]),
        mounted("ext4", "sync"),
        mounted("xfs", "lazytime"),
        made("xfs", "inodes of 1024", &["-i", "size=1024"]),
        mounted("btrfs", "noatime"),
        mounted("btrfs", "nobarrier"),
        mounted("btrfs", "flushoncommit"),
        btrfs_raid("raid0", 2),
        btrfs_raid("raid5", 3),
        btrfs_raid("raid6", 4),
        btrfs_raid("raid10", 4),
        md("on md RAID 6", "6", 4),
        plain("f2fs"),
        plain("zfs"),
        nfs("nfs v4.1", ("nfs v4.2", "vers=4.1"), &["vers=4.1"]),
        nfs("nfs v4.0", ("nfs v4.2", "vers=4.0"), &["vers=4.0"]),
        Spec { stack: Stack::Ganesha, ..nfs_beside("by ganesha", "sync", &["vers=4.2"]) },
        nfs_beside("noac", "sync", &["vers=4.2", "noac"]),
        nfs_beside("actimeo=0", "sync", &["vers=4.2", "actimeo=0"]),
    ]);
    all
}

fn scaling() -> Vec<Spec> {
    vec![
        plain("ext4"),
        made("ext4", "without dir_index", &["-O", "^dir_index"]),
        made("ext4", "large_dir", &["-O", "large_dir"]),
        mounted("ext4", "data=journal"),
        mounted("ext4", "data=writeback"),
        made("ext4", "no journal", &["-O", "^has_journal"]),
        plain("ext3"),
        made("ext3", "without dir_index", &["-O", "^dir_index"]),
        plain("ext2"),
        plain("xfs"),
        plain("btrfs"),
    ]
}

impl Spec {
    /// A filesystem as mkfs and mount make it by themselves.
    pub fn plain(filesystem: &'static str) -> Spec {
        plain(filesystem)
    }

    /// Made without the index of directories (ext2, ext3, ext4).
    pub fn lacks_index(&self) -> bool {
        self.mkfs.contains(&"^dir_index")
    }
}

impl Profile {
    /// Its places, each after its neighbour.
    pub fn specs(self) -> Vec<Spec> {
        match self {
            Profile::Quick => quick(),
            Profile::Book => book(),
            Profile::Full => full(),
            Profile::Scaling => scaling(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_neighbours_exist() {
        for profile in [Profile::Quick, Profile::Book, Profile::Full, Profile::Scaling] {
            let specs = profile.specs();
            for (at, spec) in specs.iter().enumerate() {
                assert!(!specs[..at].iter().any(|s| s.name == spec.name), "{} twice", spec.name);
                if let Some((neighbour, _)) = spec.neighbour {
                    assert!(specs.iter().any(|s| s.name == neighbour), "{} alone", spec.name);
                }
            }
        }
    }

    #[test]
    fn the_book_profile_has_what_the_book_discusses() {
        let specs = Profile::Book.specs();
        let has = |name: &str| specs.iter().any(|spec| spec.name == name);
        for name in [
            "ext2",
            "ext3",
            "xfs",
            "reiserfs",
            "jfs",
            "ext4 data=journal",
            "ext4 data=writeback",
            "ext4 noatime",
            "ext4 without dir_index",
            "ext4 noacl",
            "ext4 on md RAID 5",
            "nfs v3",
            "nfs v4.2 export async",
        ] {
            assert!(has(name), "{name}");
        }
    }
}
