//! The files of a backup, written front to back: their bytes, and lines of JSON.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::format::{hex, to_json};
use crate::error::{Error, Result};
use crate::io::{Open, Storage, StoredFile};

/// A written file: its bytes, and their checksum in hexadecimal.
pub(super) type Written = (u64, String);

/// Bytes of lines that are written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A file being written front to back, with its digest. Durable when finished, or with the
/// filesystem.
pub(super) struct Writer {
    file: Arc<dyn StoredFile>,
    path: PathBuf,
    at: u64,
    hasher: blake3::Hasher,
    sync: bool,
}

impl Writer {
    pub(super) fn new(storage: &dyn Storage, path: PathBuf, sync: bool) -> Result<Writer> {
        let file = storage.open(&path, Open::CreateNew).map_err(Error::io("create", &path))?;
        Ok(Writer { file, path, at: 0, hasher: blake3::Hasher::new(), sync })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_at(bytes, self.at).map_err(Error::io("write", &self.path))?;
        self.at += bytes.len() as u64;
        self.hasher.update(bytes);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Written> {
        if self.sync {
            self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        }
        Ok((self.at, hex(&self.hasher.finalize())))
    }
}

/// Lines of JSON being written.
pub(super) struct Lines(Writer, Vec<u8>);

impl Lines {
    pub(super) fn new(storage: &dyn Storage, path: PathBuf, sync: bool) -> Result<Lines> {
        Ok(Lines(Writer::new(storage, path, sync)?, Vec::new()))
    }

    pub(super) fn add(&mut self, line: &impl Serialize) -> Result<()> {
        self.1.extend(to_json(line));
        if self.1.len() >= CHUNK_BYTES {
            self.0.write(&self.1)?;
            self.1.clear();
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<String> {
        self.0.write(&self.1)?;
        Ok(self.0.finish()?.1)
    }
}
