//! A mailbox's index, facts, heap and cache in another directory, as they are: ids, UIDs, MODSEQs,
//! tombstones, keywords and dates. Where the layout differs, each message gets its place in the new
//! one afterwards.
//!
//! Invariant: the copy is durable on return, and both of its header slots hold for every
//! checkpoint, so that it can be opened whatever the log says.

use std::path::Path;
use std::sync::Arc;

use super::files::{Files, INDEX_NAME, Image, heap_name};
use crate::error::{Error, Result};
use crate::format::facts::FACTS_BYTES;
use crate::format::heap;
use crate::format::index::{RECORD_BYTES, RECORDS_OFFSET, SLOT_BYTES};
use crate::io::{Open, Storage, StoredFile};
use crate::layout::Location;

/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;

impl Files {
    /// Writes the files into another directory, which has none of them. Under the file lock, while
    /// nothing is to be applied.
    pub(crate) fn copy_to(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        owner_epoch: u32,
    ) -> Result<()> {
        let Image { mut slot, count, heap_bytes, index, facts, heap } = self.image(owner_epoch);
        slot.cache_bytes = self.head.cache_bytes.into();
        slot.cache_generation = self.head.cache_generation.into();
        let cache_name = format!("cursus.cache.{}", self.head.cache_generation);
        // The index last: by it a directory is known as the mailbox's.
        let files = [
            (&heap, "cursus.heap", heap_bytes),
            (&self.cache, &*cache_name, self.head.cache_bytes),
            (&facts, "cursus.facts", (count * FACTS_BYTES) as u64),
            (&index, INDEX_NAME, RECORDS_OFFSET + (count * RECORD_BYTES) as u64),
        ];
        for (from, name, end) in files {
            let to = dir.join(name);
            let copied = self.copy_file(storage, &**from, name, &to, end)?;
            if name == INDEX_NAME {
                for at in [0, SLOT_BYTES] {
                    copied.write_at(&slot.encode(), at).map_err(Error::io("write", &to))?;
                }
            }
            copied.sync_all().map_err(Error::io("sync", to))?;
        }
        storage.sync_dir(dir).map_err(Error::io("sync", dir))
    }

    fn copy_file(
        &self,
        storage: &dyn Storage,
        from: &dyn StoredFile,
        name: &str,
        to: &Path,
        end: u64,
    ) -> Result<Arc<dyn StoredFile>> {
        let output = storage.open(to, Open::CreateNew).map_err(Error::io("create", to))?;
        let mut buffer = vec![0; COPY_BYTES.min(end as usize)];
        let mut at = 0;
        while at < end {
            let wanted = (end - at).min(buffer.len() as u64) as usize;
            let read = from.read_at(&mut buffer[..wanted], at);
            let n = read.map_err(Error::io("read", self.dir.join(name)))?;
            // An index without records may end with its header, a cache is disposable.
            if n == 0 {
                break;
            }
            output.write_at(&buffer[..n], at).map_err(Error::io("write", to))?;
            at += n as u64;
        }
        Ok(output)
    }

    /// Gives a message the place and the stored octets that it has in another layout. What the
    /// cache says of it goes: offsets in the file are others.
    pub(crate) fn set_place(&mut self, position: usize, at: &Location, stored: u32) -> Result<()> {
        let Some(mut facts) = self.facts(position) else {
            return Err(Error::Corrupt {
                path: self.dir.join("cursus.facts"),
                expected: "facts that can be read",
                found: format!("damage of UID {}", at.uid),
            });
        };
        let name = heap_name(at);
        let mut name_at = 0;
        if !name.is_empty() {
            name_at = self.heap_append(heap::Kind::FileName, at.uid.0, &name)?;
        }
        facts.stored = stored.into();
        self.write_facts(position, facts.named(name_at))?;
        let mut record = self.record(position);
        (record.name_flags, record.in_new) = (at.flags, at.in_new);
        (record.cache_offset, record.cache_len) = (0, 0);
        self.rewrite(&[(position, record)])
    }
}
