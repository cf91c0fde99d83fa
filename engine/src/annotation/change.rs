//! STORE of annotations (RFC 5257 section 4.5): limits first, then the change, with a new MODSEQ
//! for each message in the same transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    /// What each message gets.
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
        let mut sides: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for AnnotationValue { whose, entry, .. } in values {
            sides.entry(whose).or_default().insert(entry);
        }
        let most = sides.values().map(BTreeSet::len).max().unwrap_or(0);
        if most > max { Err(Error::AnnotationTooMany { max }) } else { Ok(()) }
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
        let mut sides: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
        for AnnotationValue { whose, entry, value } in values {
            sides.entry(whose).or_default().insert(entry, value.is_some());
        }
        // Of each message with some, and each side: how many stay as they are, and how many are there.
        let mut there: HashMap<(Uid, &str), (usize, usize)> = HashMap::new();
        self.shared.each_annotation(self.id, first, last, &mut |uid, whose, entry, _| {
            if let Some((whose, named)) = sides.get_key_value(whose)
                && uids.binary_search(&uid).is_ok()
            {
                let (stay, all) = there.entry((uid, whose)).or_default();
                *stay += usize::from(!named.contains_key(entry));
                *all += 1;
            }
            true
        })?;
        let max = self.shared.config.annotations_max;
        let set = |whose: &str| sides[whose].values().filter(|set| **set).count();
        let too_many = |whose, stay, all| stay + set(whose) > max && stay + set(whose) > all;
        if sides.keys().any(|whose| too_many(whose, 0, 0))
            || there.iter().any(|((_, whose), (stay, all))| too_many(whose, *stay, *all))
        {
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
