//! Metadata of mailboxes and of the server (RFC 5464): named values, shared or a user's own.
//!
//! | what | mailbox id | whose |
//! |---|---|---|
//! | `/shared/…` of a mailbox | its | nobody's |
//! | `/private/…` of a mailbox | its | the user who set it, owner or not |
//! | `/shared/…` of the server | zeros | nobody's |
//! | `/private/…` of the server | zeros | the user's |
//!
//! Values are facts: frames in the log, rows of the catalog. What no checkpoint has written yet is
//! in memory, in front of the catalog; nothing else is kept, since values may be large and are
//! seldom asked for. `/private/specialuse` (RFC 6154 section 4) is not stored: it shows and changes
//! the mailbox's special uses. Some entries have names that no client can say: `seen`, a user's
//! `\Seen` in another's mailbox ([`crate::seen`]), and those below `uidl` ([`crate::uidls`]).
//!
//! Invariant: names of entries are in lower case here, begin with their scope and are well formed
//! ([`entry_name`]). Changes are made under the owner's `changes` lock; those of the server's shared
//! entries under a lock of their own inside it.

mod unwritten;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::types::Uid;

pub(crate) use unwritten::{Key, Unwritten, Value};

use crate::error::{Error, Result};
use crate::events::Event;
use crate::format::frame::Frame;
use crate::ids::MailboxId;
use crate::namespace::{MailboxEntry, Namespace, SpecialUse};
use crate::quota::Growth;
use crate::seen;
use crate::shared::Shared;
use crate::uidls;
use crate::user::{User, UserInner};

/// Bytes of an entry's name at most.
pub const ENTRY_BYTES_MAX: usize = 1024;
/// Shows and sets a mailbox's special uses.
const SPECIAL_USE: &str = "/private/specialuse";

/// How far below an entry GETMETADATA looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// The entry alone.
    #[default]
    Zero,
    /// And those one level below.
    One,
    /// And all below.
    Infinity,
}

/// The stored form of an entry's name; `None` for one that RFC 5464 section 3.2 does not allow.
pub fn entry_name(name: &str) -> Option<String> {
    let good = |b: u8| (b' '..0x7f).contains(&b) && !b"*%".contains(&b);
    if name.len() > ENTRY_BYTES_MAX || !name.bytes().all(good) {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let mut levels = name.strip_prefix('/')?.split('/');
    if name[1..].split('/').any(str::is_empty) {
        return None;
    }
    matches!(levels.next(), Some("private" | "shared")).then_some(name)
}

/// Whether an entry of this name may be set: a scope alone may not, nor a vendor's name alone.
fn may_be_set(entry: &str) -> bool {
    let levels: Vec<&str> = entry[1..].split('/').collect();
    levels.len() >= if levels.get(1) == Some(&"vendor") { 4 } else { 2 }
}

fn is_private(entry: &str) -> bool {
    entry == "/private" || entry.starts_with("/private/")
}

impl User {
    /// Metadata of one of the user's mailboxes, or of the server (`None`), as `viewer` sees it. Of
    /// each entry named that is not there `None` comes back; of what is below, only what is there.
    /// Names are as [`entry_name`] gives them.
    pub async fn metadata(
        &self,
        mailbox: Option<&str>,
        viewer: &str,
        entries: Vec<String>,
        depth: Depth,
    ) -> Result<Vec<(String, Option<Arc<[u8]>>)>> {
        let namespace = self.namespace();
        let mailbox = match mailbox {
            None => None,
            Some(name) => {
                let found = namespace.mailboxes.get(&Namespace::canonical(name));
                Some(found.ok_or(Error::NoSuchMailbox)?.clone())
            }
        };
        let (shared, viewer) = (self.0.shared.clone(), viewer.to_owned());
        let job = move || read(&shared, mailbox.as_ref(), &viewer, &entries, depth);
        self.0.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }

    /// Sets and removes metadata of one of the user's mailboxes, or of the server (`None`), on
    /// behalf of `viewer`: all or nothing.
    ///
    /// # Errors
    /// [`Error::MetadataTooBig`], [`Error::MetadataTooMany`]; [`Error::NotAllowed`] for a name that
    /// is only a scope or a vendor, or a special use that is not known.
    pub async fn set_metadata(
        &self,
        mailbox: Option<&str>,
        viewer: &str,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<()> {
        let max = self.0.shared.config.metadata_value_bytes_max;
        if changes.iter().any(|(_, value)| value.as_ref().is_some_and(|v| v.len() > max)) {
            return Err(Error::MetadataTooBig { max });
        }
        if !changes.iter().all(|(entry, _)| may_be_set(entry)) {
            return Err(Error::NotAllowed("an entry needs a name below its scope and vendor"));
        }
        let name = mailbox.map(Namespace::canonical);
        let viewer = viewer.to_owned();
        self.change(move |user| user.set_metadata(name.as_deref(), &viewer, changes)).await
    }
}

impl UserInner {
    fn set_metadata(
        self: &Arc<Self>,
        name: Option<&str>,
        viewer: &str,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<()> {
        let namespace = self.namespace.load_full();
        let found = match name {
            None => None,
            Some(name) => {
                let found = namespace.mailboxes.get_key_value(name);
                Some(found.ok_or(Error::NoSuchMailbox)?)
            }
        };
        let id = found.map(|(_, entry)| entry.id).unwrap_or_default();
        // Without a mailbox the shared entries are everybody's.
        let _one_at_a_time = found.is_none().then(|| self.shared.metadata.server.lock());
        let (mut shared, mut private) = (BTreeMap::new(), BTreeMap::new());
        let mut frames = Vec::new();
        for (entry, value) in changes {
            if let (SPECIAL_USE, Some((name, mailbox))) = (entry.as_str(), found) {
                let uses = special_uses(value.as_deref().unwrap_or_default())?;
                let bits = SpecialUse::to_bits(&uses);
                frames.push((id, self.frame_of(name, mailbox, bits)));
                continue;
            }
            let side = if is_private(&entry) { &mut private } else { &mut shared };
            side.insert(entry, value.map(Arc::from));
        }
        let owner = if found.is_some() { self.name.as_str() } else { "" };
        let mut told = Vec::new();
        let mut growth = Growth::default();
        for (whose, side) in [("", shared), (viewer, private)] {
            if side.is_empty() {
                continue;
            }
            self.may_have(id, whose, &side)?;
            let key = |entry: &String| Key {
                mailbox: id,
                uid: Uid(0),
                whose: whose.to_owned(),
                entry: entry.clone(),
            };
            let keyed: Vec<_> = side.iter().map(|(entry, value)| (key(entry), value)).collect();
            growth.add(self.shared.growth(keyed.iter().map(|(key, value)| (key, *value)))?);
            let changes: Vec<(String, Value)> = side.into_iter().collect();
            let entries = changes.iter().map(|(entry, _)| entry.clone()).collect();
            told.push(Event::Metadata {
                mailbox: found.map(|(_, entry)| entry.id),
                whose: (!whose.is_empty()).then(|| whose.to_owned()),
                entries,
            });
            let (user, whose) = (owner.to_owned(), whose.to_owned());
            frames.push((id, Frame::Metadata { user, whose, changes }));
        }
        if frames.is_empty() {
            return Ok(());
        }
        if let Some((name, _)) = found {
            self.may_annotate(name, growth)?;
        }
        let lsn = self.commit(&frames)?;
        self.apply(&frames);
        for (id, frame) in &frames {
            if let Frame::Metadata { whose, changes, .. } = frame {
                self.shared.metadata.apply(*id, whose, changes);
            }
        }
        if let Some((name, _)) = found {
            self.annotated(name, growth);
        }
        self.applied(lsn);
        let hub = if found.is_some() { &self.events } else { &self.shared.events };
        told.iter().for_each(|event| hub.post(event));
        Ok(())
    }

    /// Removes the user's own entries of the server; `None` if there are none.
    pub(crate) fn own_server_metadata_gone(&self) -> Result<Option<Frame>> {
        let own = below(&self.shared, MailboxId::default(), &self.name, "/private")?;
        let changes: Vec<(String, Value)> = own.into_keys().map(|entry| (entry, None)).collect();
        let (user, whose) = (String::new(), self.name.clone());
        Ok((!changes.is_empty()).then_some(Frame::Metadata { user, whose, changes }))
    }

    /// Whether there is room for what these changes leave.
    fn may_have(
        &self,
        id: MailboxId,
        whose: &str,
        changes: &BTreeMap<String, Value>,
    ) -> Result<()> {
        if changes.values().all(Option::is_none) {
            return Ok(());
        }
        let scope = if whose.is_empty() { "/shared" } else { "/private" };
        let there = below(&self.shared, id, whose, scope)?;
        let mut after: BTreeSet<&str> = there.keys().map(String::as_str).collect();
        let before = after.len();
        for (entry, value) in changes {
            match value {
                Some(_) => after.insert(entry),
                None => after.remove(entry.as_str()),
            };
        }
        let max = self.shared.config.metadata_entries_max;
        if after.len() > max && after.len() > before {
            return Err(Error::MetadataTooMany { max });
        }
        Ok(())
    }

    /// Gives one mailbox the metadata of another one, which may be another user's: what RFC 5464
    /// section 4.1 asks of RENAME of INBOX.
    pub(crate) fn copy_metadata(self: &Arc<Self>, from: MailboxId, to: MailboxId) -> Result<()> {
        let before = self.shared.annotation_bytes(to)?;
        let mut all: BTreeMap<Key, Arc<[u8]>> =
            self.shared.catalog.metadata_of(from)?.into_iter().collect();
        for (key, value) in self.shared.metadata.within(from, Uid(0), Uid(0)) {
            match value {
                Some(value) => all.insert(key, value),
                None => all.remove(&key),
            };
        }
        let mut by_user: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
        // Of other UIDs.
        let uidls = format!("{}/", uidls::ENTRIES);
        all.retain(|key, _| key.entry != seen::ENTRY && !key.entry.starts_with(&uidls));
        for (key, value) in all {
            by_user.entry(key.whose).or_default().push((key.entry, Some(value)));
        }
        let frame =
            |(whose, changes)| (to, Frame::Metadata { user: self.name.clone(), whose, changes });
        let frames: Vec<_> = by_user.into_iter().map(frame).collect();
        if frames.is_empty() {
            return Ok(());
        }
        let lsn = self.commit(&frames)?;
        for (id, frame) in &frames {
            if let Frame::Metadata { whose, changes, .. } = frame {
                self.shared.metadata.apply(*id, whose, changes);
            }
        }
        self.applied(lsn);
        let growth = Growth::between(before, self.shared.annotation_bytes(to)?);
        if let Some(name) = self.namespace.load().name_of(to) {
            self.annotated(name, growth);
        }
        Ok(())
    }
}

/// Blocks.
fn read(
    shared: &Shared,
    mailbox: Option<&MailboxEntry>,
    viewer: &str,
    entries: &[String],
    depth: Depth,
) -> Result<Vec<(String, Value)>> {
    let id = mailbox.map(|entry| entry.id).unwrap_or_default();
    let uses = || {
        let uses = &mailbox?.special_use;
        let text: Vec<&str> = uses.iter().map(|use_| use_.as_str()).collect();
        (!uses.is_empty()).then(|| Arc::from(text.join(" ").into_bytes()))
    };
    let mut out: Vec<(String, Value)> = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in entries {
        let whose = if is_private(entry) { viewer } else { "" };
        let key = Key { mailbox: id, uid: Uid(0), whose: whose.to_owned(), entry: entry.clone() };
        let value = match (entry.as_str(), shared.metadata.get(&key)) {
            (SPECIAL_USE, _) if mailbox.is_some() => uses(),
            (_, Some(value)) => value,
            (_, None) => shared.catalog.metadata(&key)?,
        };
        if seen.insert(entry.clone()) {
            out.push((entry.clone(), value));
        }
        if depth == Depth::Zero {
            continue;
        }
        let mut found = below(shared, id, whose, entry)?;
        if is_private(entry)
            && let Some(uses) = uses()
            && SPECIAL_USE.strip_prefix(entry.as_str()).is_some_and(|rest| rest.starts_with('/'))
        {
            found.insert(SPECIAL_USE.to_owned(), uses);
        }
        for (name, value) in found {
            let levels = name[entry.len()..].matches('/').count();
            if (levels == 1 || depth == Depth::Infinity) && seen.insert(name.clone()) {
                out.push((name, Some(value)));
            }
        }
    }
    Ok(out)
}

/// What is below an entry, whatever its level.
pub(crate) fn below(
    shared: &Shared,
    mailbox: MailboxId,
    whose: &str,
    entry: &str,
) -> Result<BTreeMap<String, Arc<[u8]>>> {
    let prefix = format!("{entry}/");
    let from = Key { mailbox, uid: Uid(0), whose: whose.to_owned(), entry: prefix.clone() };
    // In this order: what a checkpoint writes meanwhile is found in either.
    let unwritten = shared.metadata.below(&from, &prefix);
    let mut found = shared.catalog.metadata_below(&from, &prefix)?;
    for (name, value) in unwritten {
        match value {
            Some(value) => found.insert(name, value),
            None => found.remove(&name),
        };
    }
    Ok(found)
}

/// Special uses as `/private/specialuse` has them: words with blanks between.
fn special_uses(value: &[u8]) -> Result<Vec<SpecialUse>> {
    let text = std::str::from_utf8(value).unwrap_or("?");
    let mut uses = Vec::new();
    for word in text.split_ascii_whitespace() {
        let known = SpecialUse::parse(word).ok_or(Error::NotAllowed("unknown special use"))?;
        if !uses.contains(&known) {
            uses.push(known);
        }
    }
    Ok(uses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_names_are_those_of_rfc_5464() {
        assert_eq!(entry_name("/Private/Comment").as_deref(), Some("/private/comment"));
        assert_eq!(entry_name("/shared").as_deref(), Some("/shared"));
        let long = format!("/shared/{}", "x".repeat(ENTRY_BYTES_MAX - 8));
        assert!(entry_name(&long).is_some() && entry_name(&format!("{long}x")).is_none());
        for bad in
            ["", "/", "comment", "/comment", "/shared/", "/shared//x", "/shared/*", "/shared/%"]
        {
            assert_eq!(entry_name(bad), None, "{bad}");
        }
        assert_eq!(entry_name("/shared/é"), None);
        for (name, good) in [
            ("/shared", false),
            ("/shared/comment", true),
            ("/private/vendor/x", false),
            ("/private/vendor/x/y", true),
        ] {
            assert_eq!(may_be_set(name), good, "{name}");
        }
    }
}
