//! The superblock of ext2, ext3 and ext4 (Documentation/filesystems/ext4/super.rst), read from the
//! device: needs the right to read it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes before the superblock.
const AT: u64 = 1024;
const BYTES: usize = 1024;
const MAGIC: u16 = 0xEF53;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_DIR_INDEX: u32 = 0x20;
const INCOMPAT_EXTENTS: u32 = 0x40;
const INCOMPAT_LARGEDIR: u32 = 0x4000;

/// Where the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// None.
    None,
    /// In the filesystem.
    Internal,
    /// On a device of its own.
    External,
}

/// What a superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ext {
    /// Directories have a hashed index.
    pub dir_index: bool,
    /// Directories may be larger than 2 GiB of names.
    pub large_dir: bool,
    /// Files are mapped by extents.
    pub extents: bool,
    /// The journal.
    pub journal: Journal,
    /// Bytes of an inode.
    pub inode_bytes: u16,
    /// Blocks that a RAID wants written at once; 0: not told.
    pub stripe_blocks: u32,
}

impl Ext {
    /// Reads the superblock of a device.
    ///
    /// # Errors
    /// When it may not be read, or there is no such superblock.
    pub fn read(device: &Path) -> std::io::Result<Ext> {
        let mut bytes = [0; BYTES];
        File::open(device)?.read_exact_at(&mut bytes, AT)?;
        parse(&bytes).ok_or_else(|| std::io::Error::other("no superblock of ext2, ext3 or ext4"))
    }
}

fn parse(bytes: &[u8; BYTES]) -> Option<Ext> {
    let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let u32_at =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if u16_at(0x38) != MAGIC {
        return None;
    }
    let (compat, incompat) = (u32_at(0x5C), u32_at(0x60));
    let journal = match (compat & COMPAT_HAS_JOURNAL != 0, u32_at(0xE4)) {
        (false, _) => Journal::None,
        (true, 0) => Journal::Internal,
        (true, _) => Journal::External,
    };
    Some(Ext {
        dir_index: compat & COMPAT_DIR_INDEX != 0,
        large_dir: incompat & INCOMPAT_LARGEDIR != 0,
        extents: incompat & INCOMPAT_EXTENTS != 0,
        journal,
        // Revision 0 has inodes of 128 bytes and no field for them.
        inode_bytes: if u32_at(0x4C) == 0 { 128 } else { u16_at(0x58) },
        stripe_blocks: u32_at(0x170),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{has_program, run_program};

    fn made(options: &[&str]) -> Ext {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let mut arguments = vec!["-q", "-F"];
        arguments.extend(options);
        arguments.push(image.to_str().unwrap());
        run_program("mke2fs", &arguments).unwrap();
        Ext::read(&image).unwrap()
    }

    #[test]
    fn what_mke2fs_makes_is_read() {
        if !has_program("mke2fs") {
            println!("skipped: no mke2fs");
            return;
        }
        let ext = made(&["-t", "ext4", "-O", "^dir_index", "-I", "256"]);
        assert!(!ext.dir_index && ext.extents);
        assert_eq!((ext.journal, ext.inode_bytes), (Journal::Internal, 256));
        let ext = made(&["-t", "ext2", "-O", "dir_index", "-I", "128", "-E", "stripe_width=32"]);
        assert!(ext.dir_index && !ext.extents);
        assert_eq!((ext.journal, ext.inode_bytes, ext.stripe_blocks), (Journal::None, 128, 32));
    }

    #[test]
    fn other_bytes_are_no_superblock() {
        assert_eq!(parse(&[0; BYTES]), None);
    }
}
