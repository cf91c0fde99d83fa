//! The bytes of a simulated file, in pages that copies share.
//!
//! Invariants: a page that is absent is all zeros; bytes of the last page behind the length are
//! zeros, so that a file that shrinks and grows again has no old bytes.

use std::sync::Arc;

/// Bytes of one page.
const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

/// What a file holds. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Contents {
    len: usize,
    pages: Vec<Option<Arc<Page>>>,
}

impl Contents {
    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Copies what there is at `offset`; returns how much that is.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len);
        let n = buf.len().min(self.len - start);
        let mut done = 0;
        while done < n {
            let (page, within) = ((start + done) / PAGE_BYTES, (start + done) % PAGE_BYTES);
            let part = (n - done).min(PAGE_BYTES - within);
            let out = &mut buf[done..done + part];
            match &self.pages[page] {
                Some(bytes) => out.copy_from_slice(&bytes[within..within + part]),
                None => out.fill(0),
            }
            done += part;
        }
        n
    }

    /// Puts bytes at `offset`, growing where needed.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let start = offset as usize;
        if self.len < start + bytes.len() {
            self.resize(start + bytes.len());
        }
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = ((start + done) / PAGE_BYTES, (start + done) % PAGE_BYTES);
            let part = (bytes.len() - done).min(PAGE_BYTES - within);
            let from = &bytes[done..done + part];
            done += part;
            let slot = &mut self.pages[page];
            if slot.is_none() && from.iter().all(|b| *b == 0) {
                continue;
            }
            let memory = slot.get_or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(memory)[within..within + part].copy_from_slice(from);
        }
    }

    /// Cuts or grows with zeros.
    pub(super) fn resize(&mut self, len: usize) {
        self.pages.resize(len.div_ceil(PAGE_BYTES), None);
        if len < self.len
            && let Some(Some(last)) = self.pages.last_mut()
            && !len.is_multiple_of(PAGE_BYTES)
        {
            Arc::make_mut(last)[len % PAGE_BYTES..].fill(0);
        }
        self.len = len;
    }
}
