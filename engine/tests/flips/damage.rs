//! What is done to which file: all of it follows from the seed.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    Log,
    Index,
    Facts,
    Heap,
    Cache,
    Catalog,
    Message,
}

impl FileKind {
    pub(crate) fn of(path: &Path) -> Option<FileKind> {
        let name = path.file_name()?.to_str()?;
        let message = |name: &str| name.contains(",S=") || name.ends_with('.');
        Some(match name {
            "cursus.index" => FileKind::Index,
            "cursus.facts" => FileKind::Facts,
            "cursus.heap" => FileKind::Heap,
            "catalog.redb" => FileKind::Catalog,
            _ if name.starts_with("cursus.cache.") => FileKind::Cache,
            "spare.log" => return None,
            _ if name.ends_with(".log") => FileKind::Log,
            _ if message(name) => FileKind::Message,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// One bit.
    Bit,
    /// 512 bytes of zeros.
    Sector,
    /// The rest of the file is gone.
    Cut,
    /// Two blocks of 4 KiB change places.
    Swap,
}

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the start.
    Offline,
    /// Under the open store, before the mailbox is read.
    Live,
}

#[derive(Debug)]
pub(crate) struct Damage {
    pub(crate) file_kind: FileKind,
    pub(crate) when: When,
    pub(crate) act: Act,
    pub(crate) path: PathBuf,
    at: u64,
    other: u64,
}

/// A small generator of numbers that look random: SplitMix64.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

impl Damage {
    /// One of the files, by turns of kind.
    pub(crate) fn choose(seed: u64, files: &[(FileKind, PathBuf)]) -> Damage {
        let mut numbers = Numbers(seed);
        let mut kinds: Vec<FileKind> = files.iter().map(|(kind, _)| *kind).collect();
        kinds.sort();
        kinds.dedup();
        let file_kind = kinds[(seed % kinds.len() as u64) as usize];
        let of_kind: Vec<&PathBuf> =
            files.iter().filter(|(kind, _)| *kind == file_kind).map(|(_, path)| path).collect();
        let path = of_kind[numbers.below(of_kind.len() as u64) as usize].clone();
        let len = std::fs::metadata(&path).unwrap().len().max(1);
        let act = match numbers.below(10) {
            0 => Act::Sector,
            1 => Act::Cut,
            2 if len >= 8192 => Act::Swap,
            _ => Act::Bit,
        };
        let live = numbers.below(2) == 0 && file_kind != FileKind::Log;
        let when = if live { When::Live } else { When::Offline };
        let at = match act {
            Act::Bit => numbers.below(len * 8),
            Act::Cut => numbers.below(len),
            Act::Sector => numbers.below(len) / 512 * 512,
            Act::Swap => numbers.below(len / 4096) * 4096,
        };
        let other = numbers.below(len / 4096) * 4096;
        Damage { file_kind, when, act, path, at, other }
    }

    /// Does it; `false` when that changed nothing.
    pub(crate) fn inflict(&self) -> bool {
        let file = std::fs::File::options().read(true).write(true).open(&self.path).unwrap();
        let before = std::fs::read(&self.path).unwrap();
        match self.act {
            Act::Bit => {
                let byte = self.at / 8;
                let Some(old) = before.get(byte as usize) else { return false };
                file.write_all_at(&[old ^ (1 << (self.at % 8))], byte).unwrap();
            }
            Act::Sector => {
                let len = (before.len() as u64 - self.at).min(512) as usize;
                file.write_all_at(&vec![0; len], self.at).unwrap();
            }
            Act::Cut => file.set_len(self.at).unwrap(),
            Act::Swap => {
                let block = |at: u64| before[at as usize..at as usize + 4096].to_vec();
                file.write_all_at(&block(self.at), self.other).unwrap();
                file.write_all_at(&block(self.other), self.at).unwrap();
            }
        }
        std::fs::read(&self.path).unwrap() != before
    }
}
