//! Annotations of messages (RFC 5257) as commands name them: who may set which, and what SEARCH and
//! SORT mean by them.

use engine::{
    AnnotationScope, AnnotationValue, Collation, Mailbox, Rights, SortValues, annotation_part,
    annotation_refusal,
};
use protocol::imap::SearchKey;
use protocol::imap::annotation::{AnnotationKey, AnnotationSet, AnnotationSide};
use protocol::types::{SequenceSet, SetRange, SetValue};

use super::reply::Reply;
use protocol::imap::pattern::Pattern;

/// Between the levels of an entry's name.
const SEPARATOR: char = '/';

/// What STORE or APPEND sets, for a user with these rights on the mailbox: RFC 5257 section 3.4.
pub(super) fn values(
    sets: Vec<AnnotationSet>,
    viewer: &str,
    rights: Rights,
) -> Result<Vec<AnnotationValue>, Reply> {
    if sets.iter().any(|set| annotation_part(&set.entry).is_none()) {
        return Err(Reply::bad("Expected names of entries such as /comment or /1.2/comment"));
    }
    let needed = |private| if private { Rights::READ } else { Rights::ANNOTATE };
    if !sets.iter().all(|set| rights.contains(needed(set.private))) {
        return Err(Reply::no_permission());
    }
    let refusal = |set: &AnnotationSet| annotation_refusal(&set.entry, set.value.as_deref());
    if let Some(text) = sets.iter().find_map(refusal) {
        return Err(Reply::no(text).word("CANNOT"));
    }
    let value = |set: AnnotationSet| AnnotationValue {
        whose: if set.private { viewer.to_owned() } else { String::new() },
        entry: set.entry,
        value: set.value.map(Into::into),
    };
    Ok(sets.into_iter().map(value).collect())
}

/// The body parts that values are about, each once.
pub(super) fn parts(values: &[AnnotationValue]) -> Vec<Vec<u32>> {
    let mut parts: Vec<Vec<u32>> =
        values.iter().filter_map(|value| annotation_part(&value.entry)).collect();
    parts.retain(|part| !part.is_empty());
    parts.sort_unstable();
    parts.dedup();
    parts
}

/// Which entries FETCH and SEARCH mean by a name, maybe with wildcards.
pub(super) struct EntryPattern(Entries);

enum Entries {
    Named(String),
    Matching(Pattern),
}

impl EntryPattern {
    pub(super) fn new(entry: &str) -> EntryPattern {
        EntryPattern(match entry.contains(['*', '%']) {
            true => Entries::Matching(Pattern::new("", entry, SEPARATOR)),
            false => Entries::Named(entry.to_owned()),
        })
    }

    /// The one name, if there are no wildcards.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.0 {
            Entries::Named(name) => Some(name),
            Entries::Matching(_) => None,
        }
    }

    pub(super) fn matches(&self, entry: &str) -> bool {
        match &self.0 {
            Entries::Named(name) => name == entry,
            Entries::Matching(pattern) => pattern.matches(entry, entry.len()),
        }
    }
}

/// Puts the messages that have such annotations in place of keys that name them.
pub(super) async fn found(
    key: SearchKey,
    mailbox: &Mailbox,
    viewer: &str,
    collation: Collation,
) -> engine::Result<SearchKey> {
    if !key.names_annotations() {
        return Ok(key);
    }
    let mut named = Vec::new();
    each_named(&key, &mut named);
    let mut sets = Vec::with_capacity(named.len());
    for (entry, side, text) in named {
        let pattern = EntryPattern::new(&entry);
        let scope = match side {
            AnnotationSide::Either => AnnotationScope::Either,
            AnnotationSide::Private => AnnotationScope::Private,
            AnnotationSide::Shared => AnnotationScope::Shared,
        };
        let names = move |entry: &str| pattern.matches(entry);
        let ranges = mailbox.annotated(viewer, names, scope, &text, collation).await?;
        let range = |(first, last)| SetRange {
            first: SetValue::Number(first),
            last: SetValue::Number(last),
        };
        sets.push(SequenceSet { ranges: ranges.into_iter().map(range).collect() });
    }
    Ok(put(key, &mut sets.into_iter()))
}

fn each_named(key: &SearchKey, out: &mut Vec<(String, AnnotationSide, String)>) {
    match key {
        SearchKey::Annotation { entry, side, text } => {
            out.push((entry.clone(), *side, text.clone()));
        }
        SearchKey::Not(key) | SearchKey::Fuzzy(key) => each_named(key, out),
        SearchKey::Or(a, b) => {
            each_named(a, out);
            each_named(b, out);
        }
        SearchKey::And(keys) => keys.iter().for_each(|key| each_named(key, out)),
        _ => {}
    }
}

/// In the order of [`each_named`].
fn put(key: SearchKey, sets: &mut impl Iterator<Item = SequenceSet>) -> SearchKey {
    let mut boxed = |key: Box<SearchKey>| Box::new(put(*key, sets));
    match key {
        SearchKey::Annotation { .. } => SearchKey::UidSet(sets.next().unwrap_or_default()),
        SearchKey::Not(key) => SearchKey::Not(boxed(key)),
        SearchKey::Fuzzy(key) => SearchKey::Fuzzy(boxed(key)),
        SearchKey::Or(a, b) => {
            let a = boxed(a);
            SearchKey::Or(a, boxed(b))
        }
        SearchKey::And(keys) => {
            SearchKey::And(keys.into_iter().map(|key| *boxed(Box::new(key))).collect())
        }
        other => other,
    }
}

/// The values that SORT compares.
pub(super) async fn sort_values(
    keys: Vec<AnnotationKey>,
    mailbox: &Mailbox,
    viewer: &str,
    collation: Collation,
) -> engine::Result<SortValues> {
    let keys = keys.into_iter().map(|key| (key.entry, key.private)).collect();
    mailbox.sort_values(viewer, keys, collation).await
}
