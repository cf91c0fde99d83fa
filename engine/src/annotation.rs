//! Annotations of messages (RFC 5257): named values, shared or a user's own.
//!
//! Values are facts: frames in the log, in the transaction of the message that they come with or of
//! the change of MODSEQ that tells of them; rows of the catalog from the next checkpoint on, and in
//! memory in front of it until then, as metadata is ([`crate::metadata`]). They go with their
//! message's removal.
//!
//! | module | says |
//! |---|---|
//! | `name` | names of entries |
//! | `read` | what messages have |
//! | `change` | STORE: limits, and the change |
//! | `apply` | from frames to values, live and in recovery |
//! | `notes` | what changed lately, for sessions that are told |
//!
//! Invariants: names of entries keep their case and are well formed ([`annotation_part`]). Values
//! change under the file lock of their mailbox, in the order of its queue, so what counts as
//! ANNOTATION-STORAGE follows exactly.

mod apply;
mod change;
mod name;
mod notes;
mod read;

pub use change::Annotate;
pub use name::{annotation_part, annotation_refusal};
pub use notes::NewAnnotations;
pub(crate) use notes::Notes;
pub use read::{Annotation, AnnotationScope, Annotations, SortValues};

use crate::error::Result;
use crate::ids::MailboxId;
use crate::metadata::{Key, Value};
use crate::quota::Growth;
use crate::shared::Shared;

fn bytes_of(value: &Value) -> u64 {
    value.as_ref().map_or(0, |value| value.len() as u64)
}

impl Shared {
    /// What these changes add to ANNOTATION-STORAGE.
    pub(crate) fn growth<'c>(
        &self,
        changes: impl Iterator<Item = (&'c Key, &'c Value)>,
    ) -> Result<Growth> {
        let mut growth = Growth::default();
        let (mut written, mut bytes) = (Vec::new(), Vec::new());
        for (key, value) in changes.filter(|(key, _)| key.is_counted()) {
            match self.metadata.get(key) {
                Some(before) => growth.add(Growth::between(bytes_of(&before), bytes_of(value))),
                None => {
                    written.push(key.clone());
                    bytes.push(bytes_of(value));
                }
            }
        }
        if !written.is_empty() {
            let (_, before) = self.catalog.annotation_bytes(&[], &written)?;
            for (before, now) in before.into_iter().zip(bytes) {
                growth.add(Growth::between(before, now));
            }
        }
        Ok(growth)
    }

    /// What mailboxes have of ANNOTATION-STORAGE, in octets.
    pub(crate) fn annotation_bytes_of(&self, ids: &[MailboxId]) -> Result<u64> {
        // In this order: what a checkpoint writes meanwhile is found in either.
        let unwritten = ids.iter().flat_map(|id| self.metadata.of(*id));
        let (keys, values): (Vec<Key>, Vec<Value>) =
            unwritten.filter(|(key, _)| key.is_counted()).unzip();
        let (sums, before) = self.catalog.annotation_bytes(ids, &keys)?;
        let mut bytes: u64 = sums.iter().sum();
        for (before, now) in before.iter().zip(&values) {
            bytes = bytes.wrapping_add(bytes_of(now).wrapping_sub(*before));
        }
        Ok(bytes)
    }

    /// What one mailbox has.
    pub(crate) fn annotation_bytes(&self, id: MailboxId) -> Result<u64> {
        self.annotation_bytes_of(&[id])
    }
}
