//! One mailbox's index, facts and heap, and the messages that they name, copied while it is in use.
//!
//! Invariant: what a writer changes under the copy is read again until it is whole; what stays damaged
//! is a finding, copied as it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::types::Uid;

use super::{Backup, CHUNK_BYTES};
use crate::archive::format::{MailboxLine, MessageName};
use crate::archive::pool::Put;
use crate::archive::writer::{Writer, Written};
use crate::error::{Error, Result};
use crate::format::facts::{FACTS_BYTES, Facts};
use crate::format::index::{
    RECORD_BYTES, RECORDS_OFFSET, Record, SLOT_BYTES, Slot, words_from_bytes, words_to_bytes,
};
use crate::ids::MailboxId;
use crate::mailbox::MailboxInner;
use crate::mailbox::files::Image;

/// Records copied at a time.
const CHUNK_RECORDS: usize = 1024;
/// Times that a record that is being changed is read again, and the wait between.
const TORN_RETRIES: u32 = 500;
const TORN_WAIT: Duration = Duration::from_millis(1);

impl Backup<'_> {
    /// Copies one mailbox; `None` for one that was deleted meanwhile: the log says so, too.
    pub(super) fn mailbox(
        &mut self,
        making: &Path,
        user: &str,
        name: &str,
        id: MailboxId,
    ) -> Result<Option<MailboxLine>> {
        let shared = self.shared;
        let open = {
            let owner = shared.known_user(user)?;
            let _one = owner.changes.lock();
            let namespace = owner.namespace.load_full();
            // Renamed, maybe, since the catalog was read.
            match namespace
                .name_of(id)
                .or_else(|| namespace.mailboxes.get_key_value(name).map(|(n, _)| n))
            {
                Some(name) if namespace.mailboxes[name].id == id => owner.open(name)?.0,
                _ => return Ok(None),
            }
        };
        let image = {
            let mut files = open.files.lock();
            open.fold_into_head(&mut files);
            files.image(shared.owner_epoch)
        };
        let base = making.join("mailbox");
        let path = |ending: &str| base.join(format!("{id}.{ending}"));
        // In this order: facts may come to point to names behind the heap's end of before.
        let (facts, messages) = self.facts(&image, &path("facts"))?;
        let heap = self.heap(&image, &path("heap"))?;
        let index = self.index(&open, &image, heap.0, &messages, &path("index"))?;
        Ok(Some(MailboxLine {
            id: id.to_string(),
            uid_validity: open.uid_validity().0,
            files: [index, facts, heap],
        }))
    }

    /// The index, without places in a cache; and the messages of all live records.
    fn index(
        &mut self,
        open: &Arc<MailboxInner>,
        image: &Image,
        heap_bytes: u64,
        messages: &[Option<MessageName>],
        to: &Path,
    ) -> Result<Written> {
        let mut out = Writer::new(&*self.shared.storage, to.to_owned(), self.sync)?;
        let mut head = vec![0; 2 * SLOT_BYTES as usize];
        let mut slot = image.slot;
        slot.heap_bytes = heap_bytes.into();
        for at in [0, SLOT_BYTES as usize] {
            head[at..at + size_of::<Slot>()].copy_from_slice(&slot.encode());
        }
        out.write(&head)?;
        let mut bytes = vec![0; CHUNK_RECORDS * RECORD_BYTES];
        for start in (0..image.count).step_by(CHUNK_RECORDS) {
            let n = CHUNK_RECORDS.min(image.count - start);
            let at = RECORDS_OFFSET + (start * RECORD_BYTES) as u64;
            let chunk = &mut bytes[..n * RECORD_BYTES];
            image.index.read_exact_at(chunk, at).map_err(Error::io("read", to))?;
            for (i, one) in chunk.chunks_exact_mut(RECORD_BYTES).enumerate() {
                let again =
                    |one: &mut [u8]| image.index.read_exact_at(one, at + (i * RECORD_BYTES) as u64);
                let whole = whole(one, again, |b| Record::decode(&words_from_bytes(b)))
                    .map_err(Error::io("read", to))?;
                let mut record = match whole {
                    Some(record) => record,
                    None => {
                        let place = to.file_name().unwrap_or_default().to_string_lossy();
                        self.findings.push(format!("{place}: record {} is damaged", start + i));
                        Record::decode_unchecked(&words_from_bytes(one))
                    }
                };
                (record.cache_offset, record.cache_len) = (0, 0);
                one.copy_from_slice(&words_to_bytes(&record.encode()));
                if let (false, Some(name)) = (record.expunged, messages[start + i]) {
                    self.message(open, record.uid, name)?;
                }
            }
            out.write(chunk)?;
            self.wrote(chunk.len() as u64);
        }
        out.finish()
    }

    /// The facts, and the messages that they name, by position.
    fn facts(&mut self, image: &Image, to: &Path) -> Result<(Written, Vec<Option<MessageName>>)> {
        let mut out = Writer::new(&*self.shared.storage, to.to_owned(), self.sync)?;
        let mut messages = Vec::with_capacity(image.count);
        let mut bytes = vec![0; CHUNK_RECORDS * FACTS_BYTES];
        let own_uid = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        for start in (0..image.count).step_by(CHUNK_RECORDS) {
            let n = CHUNK_RECORDS.min(image.count - start);
            let at = (start * FACTS_BYTES) as u64;
            let chunk = &mut bytes[..n * FACTS_BYTES];
            image.facts.read_exact_at(chunk, at).map_err(Error::io("read", to))?;
            for (i, one) in chunk.chunks_exact_mut(FACTS_BYTES).enumerate() {
                let again =
                    |one: &mut [u8]| image.facts.read_exact_at(one, at + (i * FACTS_BYTES) as u64);
                let facts = whole(one, again, |b| Facts::decode(b, own_uid(b)))
                    .map_err(Error::io("read", to))?;
                if facts.is_none() {
                    let place = to.file_name().unwrap_or_default().to_string_lossy();
                    self.findings.push(format!("{place}: facts {} are damaged", start + i));
                }
                messages.push(facts.map(|facts| MessageName {
                    content_id: facts.content_id,
                    stored: facts.stored.get(),
                }));
            }
            out.write(chunk)?;
            self.wrote(chunk.len() as u64);
        }
        Ok((out.finish()?, messages))
    }

    fn heap(&mut self, image: &Image, to: &Path) -> Result<Written> {
        let mut out = Writer::new(&*self.shared.storage, to.to_owned(), self.sync)?;
        let size = image.heap.size().map_err(Error::io("stat", to))?;
        // Entries are multiples of 8; of one that is just being written nothing speaks yet.
        let end = (size / 8 * 8).max(image.heap_bytes);
        let mut bytes = vec![0; CHUNK_BYTES.min(end as usize)];
        let mut at = 0;
        while at < end {
            let n = (end - at).min(bytes.len() as u64) as usize;
            image.heap.read_exact_at(&mut bytes[..n], at).map_err(Error::io("read", to))?;
            out.write(&bytes[..n])?;
            self.wrote(n as u64);
            at += n as u64;
        }
        out.finish()
    }

    /// One message of a mailbox.
    fn message(&mut self, open: &Arc<MailboxInner>, uid: Uid, name: MessageName) -> Result<()> {
        self.check_cancel()?;
        self.messages += 1;
        self.octets += u64::from(name.stored);
        self.progress.messages.fetch_add(1, Ordering::Relaxed);
        // Names change under us; the view knows the latest.
        let find = || open.path_of(uid).map(|(path, ..)| path);
        self.put(&name, find)
    }

    /// Keeps a message in the pool, from where `find` says it lies or from what is held aside.
    pub(super) fn put(
        &mut self,
        name: &MessageName,
        find: impl Fn() -> Option<PathBuf>,
    ) -> Result<()> {
        let shared = self.shared;
        let mut found = Put::Missing;
        for _ in 0..3 {
            let kept = shared.aside.find(&*shared.storage, &shared.config.partitions, name);
            for path in find().into_iter().chain(kept) {
                found = self.pool.put(name, &path)?;
                match found {
                    Put::Present => return Ok(()),
                    Put::Written(bytes) => {
                        self.written.push(*name);
                        self.wrote(bytes);
                        return Ok(());
                    }
                    Put::Missing | Put::Differs => {}
                }
            }
            std::thread::sleep(TORN_WAIT);
        }
        if found == Put::Differs {
            self.findings.push(format!("message {name}: its file is not what the index says"));
        }
        self.absent.push(*name);
        Ok(())
    }
}

/// A thing that decodes, read again for as long as it does not.
fn whole<T>(
    bytes: &mut [u8],
    mut again: impl FnMut(&mut [u8]) -> std::io::Result<()>,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> std::io::Result<Option<T>> {
    for _ in 0..TORN_RETRIES {
        if let Some(out) = decode(bytes) {
            return Ok(Some(out));
        }
        std::thread::sleep(TORN_WAIT);
        again(bytes)?;
    }
    Ok(decode(bytes))
}
