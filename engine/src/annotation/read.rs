//! What annotations messages have, as one user sees them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use memchr::memmem;
use protocol::types::Uid;

use crate::collation::Collation;
use crate::error::{Error, Result};
use crate::format::frame::AnnotationValue;
use crate::ids::MailboxId;
use crate::mailbox::{Mailbox, MailboxInner, ranges};
use crate::metadata::Value;
use crate::shared::Shared;

/// Octets of values that one look gathers, unless one message alone has more.
pub(super) const LOOK_BYTES: usize = 1 << 20;

/// An entry of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Its name.
    pub entry: String,
    /// What everybody sees; `None`: no value.
    pub shared: Value,
    /// The viewer's own.
    pub private: Value,
}

/// Entries of a stretch of messages.
#[derive(Debug, Default)]
pub struct Annotations {
    first: Uid,
    last: Uid,
    of: BTreeMap<Uid, Vec<Annotation>>,
}

impl Annotations {
    /// Whether the message is in the stretch.
    pub fn covers(&self, uid: Uid) -> bool {
        (self.first..=self.last).contains(&uid) && self.first > Uid(0)
    }

    /// Those of a message, by their names.
    pub fn of(&self, uid: Uid) -> &[Annotation] {
        self.of.get(&uid).map_or(&[], |found| found)
    }
}

/// Which values are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationScope {
    /// `value`
    Either,
    /// `value.shared`
    Shared,
    /// `value.priv`
    Private,
}

impl AnnotationScope {
    fn has(self, whose: &str, viewer: &str) -> bool {
        let (shared, private) = (whose.is_empty(), whose == viewer);
        match self {
            AnnotationScope::Either => shared || private,
            AnnotationScope::Shared => shared,
            AnnotationScope::Private => private && !shared,
        }
    }
}

/// Values to sort by, one list of messages for each key.
#[derive(Debug, Default)]
pub struct SortValues(pub(crate) Vec<HashMap<Uid, Box<[u8]>>>);

type Each<'e> = dyn FnMut(Uid, &str, &str, &[u8]) -> bool + 'e;

impl Shared {
    /// Calls `each` with the annotations of these messages, everybody's: UID, whose, entry, value;
    /// in this order, as long as it wants more.
    pub(crate) fn each_annotation(
        &self,
        id: MailboxId,
        first: Uid,
        last: Uid,
        each: &mut Each<'_>,
    ) -> Result<()> {
        let first = first.max(Uid(1));
        // In this order: what a checkpoint writes meanwhile is found in either.
        let unwritten = self.metadata.within(id, first, last);
        let mut newer = unwritten.iter().map(|(key, value)| {
            let at = (key.uid, key.whose.as_str(), key.entry.as_str());
            (at, value.as_deref())
        });
        let mut newer = newer.by_ref().peekable();
        let mut more = true;
        self.catalog.annotations((id, first), &mut |(mailbox, uid, whose, entry), value| {
            if mailbox != id || uid > last {
                return Ok(false);
            }
            let at = (uid, whose, entry);
            while let Some((at, value)) = newer.next_if(|(newer, _)| *newer < at) {
                more = value.is_none_or(|value| each(at.0, at.1, at.2, value));
                if !more {
                    return Ok(false);
                }
            }
            let value = match newer.next_if(|(newer, _)| *newer == at) {
                Some((_, value)) => value,
                None => Some(value),
            };
            more = value.is_none_or(|value| each(uid, whose, entry, value));
            Ok(more)
        })?;
        if more {
            for ((uid, whose, entry), value) in newer {
                if !value.is_none_or(|value| each(uid, whose, entry, value)) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether any message of a mailbox has an annotation.
    pub(crate) fn has_annotations(&self, id: MailboxId) -> Result<bool> {
        let mut found = false;
        self.each_annotation(id, Uid(1), Uid::MAX, &mut |_, _, _, _| {
            found = true;
            false
        })?;
        Ok(found)
    }
}

impl MailboxInner {
    /// Annotations that go along with copies of messages (ascending), and the last message up to
    /// which they are known: all of them, unless they are much.
    pub(crate) fn annotations_to_carry(
        &self,
        uids: &[Uid],
        takes: &dyn Fn(&str) -> bool,
    ) -> Result<(HashMap<Uid, Vec<AnnotationValue>>, Uid)> {
        let mut found: HashMap<Uid, Vec<AnnotationValue>> = HashMap::new();
        let (Some(&first), Some(&last)) = (uids.first(), uids.last()) else {
            return Ok((found, Uid::MAX));
        };
        let (mut through, mut bytes, mut now) = (last, 0, Uid(0));
        self.shared.each_annotation(self.id, first, last, &mut |uid, whose, entry, value| {
            if uids.binary_search(&uid).is_err() || !takes(whose) {
                return true;
            }
            if uid != now && bytes > LOOK_BYTES {
                through = now;
                return false;
            }
            (now, bytes) = (uid, bytes + value.len());
            found.entry(uid).or_default().push(AnnotationValue {
                whose: whose.to_owned(),
                entry: entry.to_owned(),
                value: Some(Arc::from(value)),
            });
            true
        })?;
        Ok((found, through))
    }
}

impl Mailbox {
    /// Every value of a message, everybody's.
    pub async fn annotations_of_all(&self, uid: Uid) -> Result<Vec<AnnotationValue>> {
        let inner = self.0.clone();
        let look = move || inner.annotations_to_carry(&[uid], &|_| true);
        let found = self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing)??;
        Ok(found.0.into_values().flatten().collect())
    }

    /// Annotations of the messages from UID `first` on, up to `last` or, where they are much, up to
    /// one before it.
    pub async fn annotations(&self, viewer: &str, first: Uid, last: Uid) -> Result<Annotations> {
        let (inner, viewer) = (self.0.clone(), viewer.to_owned());
        let look = move || {
            let mut of: BTreeMap<Uid, BTreeMap<String, Annotation>> = BTreeMap::new();
            let (mut through, mut bytes, mut now) = (last, 0, Uid(0));
            inner.shared.each_annotation(
                inner.id,
                first,
                last,
                &mut |uid, whose, entry, value| {
                    if !AnnotationScope::Either.has(whose, &viewer) {
                        return true;
                    }
                    if uid != now && bytes > LOOK_BYTES {
                        through = now;
                        return false;
                    }
                    (now, bytes) = (uid, bytes + value.len());
                    let entries = of.entry(uid).or_default();
                    let found = entries.entry(entry.to_owned()).or_insert_with(|| Annotation {
                        entry: entry.to_owned(),
                        shared: None,
                        private: None,
                    });
                    let slot =
                        if whose.is_empty() { &mut found.shared } else { &mut found.private };
                    *slot = Some(Arc::from(value));
                    true
                },
            )?;
            let of = of.into_iter().map(|(uid, entries)| (uid, entries.into_values().collect()));
            Ok(Annotations { first, last: through, of: of.collect() })
        };
        self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing)?
    }

    /// Messages that have an entry whose name `names` takes with a value that contains `text`, by
    /// the collation: ascending ranges of UIDs.
    pub async fn annotated(
        &self,
        viewer: &str,
        names: impl Fn(&str) -> bool + Send + 'static,
        scope: AnnotationScope,
        text: &str,
        collation: Collation,
    ) -> Result<Vec<(u32, u32)>> {
        let (inner, viewer) = (self.0.clone(), viewer.to_owned());
        let mut wanted = Vec::new();
        collation.form(text, &mut wanted);
        let look = move || {
            let wanted = memmem::Finder::new(&wanted);
            let (mut uids, mut form): (Vec<Uid>, Vec<u8>) = (Vec::new(), Vec::new());
            let all = (Uid(1), Uid::MAX);
            inner.shared.each_annotation(
                inner.id,
                all.0,
                all.1,
                &mut |uid, whose, entry, value| {
                    if uids.last() != Some(&uid) && scope.has(whose, &viewer) && names(entry) {
                        form.clear();
                        collation.form(&String::from_utf8_lossy(value), &mut form);
                        if wanted.find(&form).is_some() {
                            uids.push(uid);
                        }
                    }
                    true
                },
            )?;
            Ok(ranges(&uids))
        };
        self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing)?
    }

    /// Values of entries, each shared or the viewer's own (`true`), to sort by.
    pub async fn sort_values(
        &self,
        viewer: &str,
        keys: Vec<(String, bool)>,
        collation: Collation,
    ) -> Result<SortValues> {
        if keys.is_empty() {
            return Ok(SortValues::default());
        }
        let (inner, viewer) = (self.0.clone(), viewer.to_owned());
        let look = move || {
            let mut values: Vec<HashMap<Uid, Box<[u8]>>> =
                keys.iter().map(|_| HashMap::new()).collect();
            let all = (Uid(1), Uid::MAX);
            inner.shared.each_annotation(
                inner.id,
                all.0,
                all.1,
                &mut |uid, whose, entry, value| {
                    for ((name, private), values) in keys.iter().zip(&mut values) {
                        let whose_wanted = if *private { viewer.as_str() } else { "" };
                        if whose == whose_wanted && entry == name {
                            let mut form = Vec::new();
                            collation.form(&String::from_utf8_lossy(value), &mut form);
                            form.truncate(crate::order::STRING_BYTES_MAX);
                            values.insert(uid, form.into());
                        }
                    }
                    true
                },
            )?;
            Ok(SortValues(values))
        };
        self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing)?
    }
}
