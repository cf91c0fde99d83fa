//! From frames to values, live and in recovery. Under the file lock of the mailbox.

use std::sync::atomic::Ordering;

use protocol::types::Uid;

use crate::error::Result;
use crate::format::frame::AnnotationValue;
use crate::mailbox::MailboxInner;
use crate::mailbox::files::Files;
use crate::metadata::{Key, Value};
use crate::quota::Growth;

impl MailboxInner {
    /// The effect of a frame. Messages that are not there, or no longer, are passed over; so is
    /// everything once the mailbox is deleted.
    pub(crate) fn apply_annotations(
        &self,
        files: &Files,
        ranges: &[(u32, u32)],
        values: &[AnnotationValue],
    ) -> Result<()> {
        if self.deleted.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut uids = Vec::new();
        for &(first, last) in ranges {
            // By what there is, since what a frame says may be as long as it likes.
            let mut position = files.lower_bound(Uid(first));
            while position < files.head.count {
                let record = files.record(position);
                if record.uid.0 > last {
                    break;
                }
                if !record.expunged && uids.last() != Some(&record.uid) {
                    uids.push(record.uid);
                }
                position += 1;
            }
        }
        let keyed = keyed(self, &uids, values);
        let growth = self.shared.growth(keyed.iter().map(|(key, value)| (key, *value)))?;
        self.annotated.store(true, Ordering::Release);
        self.shared.metadata.annotate(self.id, &uids, values);
        self.share.grow(growth);
        Ok(())
    }

    /// Messages (ascending) are gone, and their annotations with them.
    pub(crate) fn drop_annotations(&self, uids: &[Uid]) -> Result<()> {
        let (Some(&first), Some(&last)) = (uids.first(), uids.last()) else { return Ok(()) };
        if !self.annotated.load(Ordering::Acquire) || self.deleted.load(Ordering::Acquire) {
            return Ok(());
        }
        let (mut dead, mut bytes) = (Vec::new(), 0);
        self.shared.each_annotation(self.id, first, last, &mut |uid, whose, entry, value| {
            if uids.binary_search(&uid).is_ok() {
                let (whose, entry) = (whose.to_owned(), entry.to_owned());
                dead.push(Key { mailbox: self.id, uid, whose, entry });
                bytes += value.len() as u64;
            }
            true
        })?;
        self.shared.metadata.remove(dead);
        self.share.grow(Growth::between(bytes, 0));
        Ok(())
    }
}

/// Every value of every message, with its place.
pub(super) fn keyed<'v>(
    mailbox: &MailboxInner,
    uids: &[Uid],
    values: &'v [AnnotationValue],
) -> Vec<(Key, &'v Value)> {
    let key = |uid: Uid, value: &AnnotationValue| Key {
        mailbox: mailbox.id,
        uid,
        whose: value.whose.clone(),
        entry: value.entry.clone(),
    };
    let of_one = |uid: &Uid| {
        let uid = *uid;
        values.iter().map(move |value| (key(uid, value), &value.value))
    };
    uids.iter().flat_map(of_one).collect()
}
