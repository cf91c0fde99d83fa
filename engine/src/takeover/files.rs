//! Small files of other servers, read and replaced whole.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::io::{Open, Stat, Storage};
use crate::shared::Shared;

/// Files larger than this are not read: they hold no list of a mailbox.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// By what a file or directory is known to be as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    mtime_ns: i64,
    size: u64,
    inode: u64,
}

impl Stamp {
    pub(super) fn mtime_ns(&self) -> i64 {
        self.mtime_ns
    }
}

/// What a path is now; `None` where nothing is. What cannot be told is not taken for nothing.
pub(super) fn stamp(storage: &dyn Storage, path: &Path) -> Result<Option<Stamp>> {
    match storage.stat_fresh(path) {
        Ok(stat) => {
            let Stat { mtime_ns, size, inode, .. } = stat;
            Ok(Some(Stamp { mtime_ns, size, inode }))
        }
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::io("stat", path)(e)),
    }
}

/// A file's bytes; `None` where there is none.
pub(super) fn read(storage: &dyn Storage, path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match storage.open(path, Open::Read) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let size = file.size().map_err(Error::io("stat", path))?;
    if size > FILE_BYTES_MAX {
        return Err(Error::Corrupt {
            path: path.to_owned(),
            expected: "a file below 1 GiB",
            found: format!("{size} bytes"),
        });
    }
    let mut bytes = vec![0; size as usize];
    match file.read_exact_at(&mut bytes, 0) {
        // Replaced files keep their bytes; one that shrank under us is read again next time.
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
        other => other.map(|()| Some(bytes)).map_err(Error::io("read", path)),
    }
}

/// Gives a file new bytes: a temporary file in `tmp/` of the Maildir, synced, renamed.
pub(super) fn replace(shared: &Shared, maildir: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let storage = &*shared.storage;
    let temporary = maildir.join("tmp").join(shared.stage_name());
    let write = || {
        let file = storage.open(&temporary, Open::CreateNew)?;
        file.write_at(bytes, 0)?;
        file.sync_data()?;
        storage.rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = storage.unlink(&temporary);
        Error::io("replace", path)(error)
    })
}

/// The same where the bytes differ from what is there. Returns whether they did.
pub(super) fn update(shared: &Shared, maildir: &Path, path: &Path, bytes: &[u8]) -> Result<bool> {
    if read(&*shared.storage, path)?.as_deref() == Some(bytes) {
        return Ok(false);
    }
    replace(shared, maildir, path, bytes)?;
    Ok(true)
}
