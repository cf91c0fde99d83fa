//! STORE of annotations (RFC 5257 section 4.5): limits first, then the change, with a new MODSEQ
//! for each message in the same transaction.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use protocol::types::{ModSeq, SystemFlags, Uid};

use super::apply::keyed;
use crate::error::{Error, Result};
use crate::format::frame::AnnotationValue;
use crate::mailbox::{Mailbox, MailboxInner, StoreMode, StoreOutcome, StoreRequest};
use crate::quota::{Growth, Usage};
use crate::seen::PrivateSeen;

/// Messages whose growth is summed up at a time.
const GROWTH_MESSAGES: usize = 1024;

/// One STORE of annotations.
#[derive(Clone, Debug)]
pub struct Annotate {
    /// Ascending. Those that do not exist are passed over.
    pub uids: Vec<Uid>,
    /// What each message gets. Private values are all of one user.
    pub values: Vec<AnnotationValue>,
    /// Leave messages changed after this alone (RFC 7162).
    pub unchanged_since: Option<ModSeq>,
}

impl Mailbox {
    /// Sets and removes annotations. Returns when the change is durable and visible. `own` is the
    /// changing user's `\Seen`, where it is kept apart: it tells their sessions from others'.
    ///
    /// # Errors
    /// [`Error::AnnotationTooBig`], [`Error::AnnotationTooMany`] and [`Error::OverQuota`] before
    /// anything is changed.
    pub async fn annotate(
        &self,
        request: Annotate,
        own: Option<&PrivateSeen>,
    ) -> Result<StoreOutcome> {
        let Annotate { uids, values, unchanged_since } = request;
        check_values(&values, self.0.shared.config.metadata_value_bytes_max)?;
        let (inner, values) = (self.0.clone(), Arc::<[AnnotationValue]>::from(values));
        let (some, checked) = (uids.clone(), values.clone());
        let check = move || inner.may_annotate(&some, &checked);
        self.0.shared.helpers.run(check).await.map_err(|_| Error::Closing)??;
        let shared = values.iter().any(|value| value.whose.is_empty());
        let mode = match (shared, own) {
            (true, _) => StoreMode::Touch(None),
            (false, Some(seen)) => seen.touch(),
            (false, None) => StoreMode::Touch(Some(crate::seen::OWNERS)),
        };
        let (flags, keywords) = (SystemFlags::empty(), Vec::new());
        let request = StoreRequest { uids, mode, flags, keywords, unchanged_since };
        self.store_with(request, values).await
    }

    /// Whether a message that comes may have these annotations.
    ///
    /// # Errors
    /// [`Error::AnnotationTooBig`], [`Error::AnnotationTooMany`]
    pub fn check_annotations(&self, values: &[AnnotationValue]) -> Result<()> {
        let config = &self.0.shared.config;
        check_values(values, config.metadata_value_bytes_max)?;
        let max = config.annotations_max;
        let set: BTreeSet<_> =
            values.iter().filter(|v| v.value.is_some()).map(|v| (&v.whose, &v.entry)).collect();
        if set.len() > max { Err(Error::AnnotationTooMany { max }) } else { Ok(()) }
    }
}

fn check_values(values: &[AnnotationValue], max: usize) -> Result<()> {
    let is_long = |value: &AnnotationValue| value.value.as_ref().is_some_and(|v| v.len() > max);
    if values.iter().any(is_long) { Err(Error::AnnotationTooBig { max }) } else { Ok(()) }
}

impl MailboxInner {
    /// Whether messages (ascending) may have these values beside what they have. Blocks.
    fn may_annotate(&self, uids: &[Uid], values: &[AnnotationValue]) -> Result<()> {
        let (Some(&first), Some(&last)) = (uids.first(), uids.last()) else { return Ok(()) };
        if values.iter().all(|value| value.value.is_none()) {
            return Ok(());
        }
        let named = |whose: &str, entry: &str| {
            values.iter().rev().find(|value| value.whose == whose && value.entry == entry)
        };
        let distinct: BTreeSet<_> =
            values.iter().map(|v| (v.whose.as_str(), v.entry.as_str())).collect();
        let set = distinct.iter().filter(|(w, e)| named(w, e).is_some_and(|v| v.value.is_some()));
        let set = set.count();
        let viewer = values.iter().map(|v| v.whose.as_str()).find(|whose| !whose.is_empty());
        // Of each message with some: how many it has that stay as they are, and how many in all.
        let mut there: HashMap<Uid, (usize, usize)> = HashMap::new();
        self.shared.each_annotation(self.id, first, last, &mut |uid, whose, entry, _| {
            let counts = whose.is_empty() || Some(whose) == viewer;
            if counts && uids.binary_search(&uid).is_ok() {
                let (stay, all) = there.entry(uid).or_default();
                *stay += usize::from(named(whose, entry).is_none());
                *all += 1;
            }
            true
        })?;
        let max = self.shared.config.annotations_max;
        let too_many = |(stay, all): (usize, usize)| stay + set > max && stay + set > all;
        if too_many((0, 0)) || there.into_values().any(too_many) {
            return Err(Error::AnnotationTooMany { max });
        }
        let mut growth = Growth::default();
        for some in uids.chunks(GROWTH_MESSAGES) {
            let keyed = keyed(self, some, values);
            growth.add(self.shared.growth(keyed.iter().map(|(key, value)| (key, *value)))?);
        }
        let annotation_bytes = growth.wanted();
        self.share.allow(None, Usage { annotation_bytes, ..Usage::default() })
    }
}
