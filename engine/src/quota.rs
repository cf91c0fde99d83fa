//! Quota (RFC 9208): how much a user's mailboxes may hold.
//!
//! A mailbox is governed by one quota root: the nearest one that is set on itself or on a mailbox
//! above it, else the user's own. What a nested root governs does not count towards the user's.
//! Limits are facts: frames in the log, rows of the catalog. Usage is the sum over the figures of
//! the mailboxes and is never stored; while a user is in memory the appliers keep the sums.
//!
//! Lock order: sums change under the file lock of the mailbox that they are about; which mailbox
//! belongs to which root changes under the user's `changes` lock, and each mailbox's share moves
//! under its file lock.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::ids::MailboxId;
use crate::mailbox::Mailbox;
use crate::namespace::{MailboxEntry, Namespace, SEPARATOR};
use crate::takeover::Tally;
use crate::user::{User, UserInner, UserOptions};

/// The limits of a quota root; `None`: not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaLimits {
    /// STORAGE, in served octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// MESSAGE
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// MAILBOX
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailboxes: Option<u64>,
    /// ANNOTATION-STORAGE, in octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotation_bytes: Option<u64>,
}

/// What the mailboxes of a quota root, or of a user, hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Served octets.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Octets of values of metadata and annotations.
    pub annotation_bytes: u64,
}

impl Usage {
    pub(crate) fn plus(self, more: Usage) -> Usage {
        Usage {
            bytes: self.bytes.saturating_add(more.bytes),
            messages: self.messages.saturating_add(more.messages),
            mailboxes: self.mailboxes.saturating_add(more.mailboxes),
            annotation_bytes: self.annotation_bytes.saturating_add(more.annotation_bytes),
        }
    }

    /// Sums that are read while appliers change them may be out of step for a moment.
    fn minus(self, less: Usage) -> Usage {
        Usage {
            bytes: self.bytes.saturating_sub(less.bytes),
            messages: self.messages.saturating_sub(less.messages),
            mailboxes: self.mailboxes.saturating_sub(less.mailboxes),
            annotation_bytes: self.annotation_bytes.saturating_sub(less.annotation_bytes),
        }
    }
}

impl QuotaLimits {
    /// In the order of frames.
    pub(crate) fn to_array(self) -> [Option<u64>; 4] {
        [self.bytes, self.messages, self.mailboxes, self.annotation_bytes]
    }

    pub(crate) fn from_array(limits: [Option<u64>; 4]) -> QuotaLimits {
        let [bytes, messages, mailboxes, annotation_bytes] = limits;
        QuotaLimits { bytes, messages, mailboxes, annotation_bytes }
    }

    /// Whether `more` may come to what is there. A resource that nothing comes to is not asked
    /// for: who is above a limit already may still do what does not make it worse.
    pub(crate) fn allow(&self, used: Usage, more: Usage) -> Result<()> {
        let over = |used: u64, more: u64, limit: Option<u64>| {
            more > 0 && limit.is_some_and(|limit| used.saturating_add(more) > limit)
        };
        if over(used.bytes, more.bytes, self.bytes)
            || over(used.messages, more.messages, self.messages)
            || over(used.mailboxes, more.mailboxes, self.mailboxes)
            || over(used.annotation_bytes, more.annotation_bytes, self.annotation_bytes)
        {
            return Err(Error::OverQuota);
        }
        Ok(())
    }
}

/// One quota root, as GETQUOTA tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuotaRoot {
    /// The mailbox that it is set on; `None`: the user's own.
    pub mailbox: Option<String>,
    /// What is allowed.
    pub limits: QuotaLimits,
    /// What is there.
    pub usage: Usage,
}

/// By how much values of metadata and annotations grow, in octets; it may be less than nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Growth(u64);

impl Growth {
    /// Of what was not there.
    pub(crate) fn of(bytes: u64) -> Growth {
        Growth(bytes)
    }

    /// From `before` to `now`.
    pub(crate) fn between(before: u64, now: u64) -> Growth {
        Growth(now.wrapping_sub(before))
    }

    pub(crate) fn add(&mut self, more: Growth) {
        self.0 = self.0.wrapping_add(more.0);
    }

    /// What has to be allowed.
    pub(crate) fn wanted(self) -> u64 {
        i64::try_from(self.0).unwrap_or_default() as u64
    }
}

/// Sums that the appliers keep.
#[derive(Default)]
pub(crate) struct Sums {
    messages: AtomicU64,
    bytes: AtomicU64,
    annotation_bytes: AtomicU64,
}

impl Sums {
    /// Adds differences, which wrap.
    pub(crate) fn add(&self, (messages, bytes): (u64, u64)) {
        self.messages.fetch_add(messages, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Values of metadata or annotations have grown.
    fn grow(&self, Growth(bytes): Growth) {
        self.annotation_bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Takes a mailbox's share away.
    fn subtract(&self, (messages, bytes): (u64, u64), annotation_bytes: u64) {
        self.messages.fetch_sub(messages, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.annotation_bytes.fetch_sub(annotation_bytes, Ordering::AcqRel);
    }

    /// Begins anew, in recovery.
    pub(crate) fn set(&self, (messages, bytes): (u64, u64), annotation_bytes: u64) {
        self.messages.store(messages, Ordering::Release);
        self.bytes.store(bytes, Ordering::Release);
        self.annotation_bytes.store(annotation_bytes, Ordering::Release);
    }

    /// With so many mailboxes.
    fn read(&self, mailboxes: u64) -> Usage {
        Usage {
            messages: self.messages.load(Ordering::Acquire),
            bytes: self.bytes.load(Ordering::Acquire),
            mailboxes,
            annotation_bytes: self.annotation_bytes.load(Ordering::Acquire),
        }
    }
}

/// A quota root on a mailbox, with what it governs.
pub(crate) struct Root {
    id: MailboxId,
    name: String,
    limits: QuotaLimits,
    sums: Sums,
    mailboxes: u64,
}

impl Root {
    fn usage(&self) -> Usage {
        self.sums.read(self.mailboxes)
    }
}

/// What a user's open mailboxes share: what they all hold, and what they may hold.
pub(crate) struct Ledger {
    /// Of all mailboxes, whatever their root.
    pub(crate) sums: Sums,
    mailboxes: AtomicU64,
    /// Of the user's own root.
    limits: Mutex<QuotaLimits>,
    roots: ArcSwap<Vec<Arc<Root>>>,
    /// The user's `maildirsize`.
    pub(crate) tally: Tally,
}

impl Ledger {
    /// Of so many messages and octets, and octets of metadata and annotations.
    pub(crate) fn new(all: (u64, u64), annotation_bytes: u64) -> Ledger {
        let sums = Sums::default();
        sums.set(all, annotation_bytes);
        Ledger {
            sums,
            mailboxes: AtomicU64::new(0),
            limits: Mutex::default(),
            roots: ArcSwap::default(),
            tally: Tally::default(),
        }
    }

    pub(crate) fn all(&self) -> Usage {
        self.sums.read(self.mailboxes.load(Ordering::Acquire))
    }

    /// What the user's own root governs, with what other programs delivered and nobody has looked
    /// at yet.
    fn own_usage(&self) -> Usage {
        let (bytes, messages) = self.tally.ahead();
        let all = self.all().plus(Usage { bytes, messages, ..Usage::default() });
        self.roots.load().iter().fold(all, |left, root| left.minus(root.usage()))
    }

    /// The limits of the user's own root.
    pub(crate) fn own_limits(&self) -> QuotaLimits {
        *self.limits.lock()
    }

    fn allow(&self, root: Option<&Root>, more: Usage) -> Result<()> {
        match root {
            Some(root) => root.limits.allow(root.usage(), more),
            None => {
                let limits = *self.limits.lock();
                limits.allow(self.own_usage(), more)
            }
        }
    }

    /// The root that governs a name; `None`: the user's own.
    fn root_of(&self, name: &str) -> Option<Arc<Root>> {
        let roots = self.roots.load();
        nearest(&roots, name).map(|at| roots[at].clone())
    }
}

/// The place of a name's root among those on mailboxes.
fn nearest<R: Borrow<Root>>(roots: &[R], name: &str) -> Option<usize> {
    let governs = |root: &Root| {
        let below = name.strip_prefix(root.name.as_str());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATOR))
    };
    let found = roots.iter().enumerate().filter(|(_, root)| governs((*root).borrow()));
    found.max_by_key(|(_, root)| (*root).borrow().name.len()).map(|(at, _)| at)
}

/// A mailbox's place in its user's [`Ledger`].
pub(crate) struct Share {
    ledger: Arc<Ledger>,
    root: ArcSwapOption<Root>,
}

impl Share {
    /// Of a mailbox that is opened. Its sums are counted already.
    pub(crate) fn new(ledger: Arc<Ledger>, namespace: &Namespace, id: MailboxId) -> Share {
        let mut root = None;
        if !ledger.roots.load().is_empty() {
            root = namespace.name_of(id).and_then(|name| ledger.root_of(name));
        }
        Share { ledger, root: ArcSwapOption::new(root) }
    }

    /// The user's `maildirsize`.
    pub(crate) fn tally(&self) -> &Tally {
        &self.ledger.tally
    }

    /// Adds differences (wrapping). Under the mailbox's file lock.
    pub(crate) fn add(&self, difference: (u64, u64)) {
        self.ledger.sums.add(difference);
        if let Some(root) = &*self.root.load() {
            root.sums.add(difference);
        }
    }

    /// Annotations have grown. Under the mailbox's file lock.
    pub(crate) fn grow(&self, growth: Growth) {
        self.ledger.sums.grow(growth);
        if let Some(root) = &*self.root.load() {
            root.sums.grow(growth);
        }
    }

    /// The mailbox is gone, with what was accounted for it and the octets of its metadata and
    /// annotations. Under its file lock.
    pub(crate) fn leave(&self, accounted: (u64, u64), annotation_bytes: u64) {
        self.ledger.sums.subtract(accounted, annotation_bytes);
        if let Some(root) = self.root.swap(None) {
            root.sums.subtract(accounted, annotation_bytes);
        }
    }

    /// Whether so much may come into this mailbox, from another one with `from`.
    pub(crate) fn allow(&self, from: Option<&Share>, more: Usage) -> Result<()> {
        // A move within a root changes nothing that it counts.
        if from.is_some_and(|from| self.has_root_of(from)) {
            return Ok(());
        }
        self.ledger.allow(self.root.load().as_deref(), more)
    }

    /// Whether a message that adds `more` may come into this mailbox as one of `freed` octets goes
    /// from the mailbox with `from`.
    pub(crate) fn allow_instead(&self, from: &Share, more: Usage, freed: u64) -> Result<()> {
        match self.has_root_of(from) {
            true => {
                let bytes = more.bytes.saturating_sub(freed);
                self.allow(None, Usage { bytes, messages: 0, ..more })
            }
            false => self.allow(None, more),
        }
    }

    fn has_root_of(&self, other: &Share) -> bool {
        let same = match (&*self.root.load(), &*other.root.load()) {
            (Some(a), Some(b)) => a.id == b.id,
            (None, None) => true,
            _ => false,
        };
        Arc::ptr_eq(&self.ledger, &other.ledger) && same
    }
}

impl Mailbox {
    /// Whether so much more may come into this mailbox.
    ///
    /// # Errors
    /// [`Error::OverQuota`]
    pub fn check_quota(&self, bytes: u64, messages: u64) -> Result<()> {
        self.0.share.allow(None, Usage { bytes, messages, ..Usage::default() })
    }
}

impl User {
    /// What all of the user's mailboxes hold.
    pub fn usage(&self) -> Usage {
        self.0.ledger.all()
    }

    /// The quota root that governs a name, whether or not there is a mailbox of this name.
    pub fn quota_root(&self, name: &str) -> QuotaRoot {
        let ledger = &self.0.ledger;
        match ledger.root_of(&Namespace::canonical(name)) {
            Some(root) => told(&root),
            None => self.own_root(),
        }
    }

    /// All of the user's quota roots, the user's own first.
    pub fn quota_roots(&self) -> Vec<QuotaRoot> {
        let roots = self.0.ledger.roots.load();
        std::iter::once(self.own_root()).chain(roots.iter().map(|root| told(root))).collect()
    }

    fn own_root(&self) -> QuotaRoot {
        let ledger = &self.0.ledger;
        let limits = *ledger.limits.lock();
        QuotaRoot { mailbox: None, limits, usage: ledger.own_usage() }
    }

    /// Sets the limits of the user's own root, or makes `mailbox` a root with these limits.
    /// `None` takes back what was set: the account's limits count again, the mailbox belongs to
    /// the root above it.
    pub async fn set_quota(
        &self,
        mailbox: Option<&str>,
        limits: Option<QuotaLimits>,
    ) -> Result<()> {
        let name = mailbox.map(Namespace::canonical);
        self.change(move |user| {
            let namespace = user.namespace.load_full();
            let (id, before) = match &name {
                None => (MailboxId::default(), namespace.quota),
                Some(name) => {
                    let entry = namespace.mailboxes.get(name).ok_or(Error::NoSuchMailbox)?;
                    (entry.id, entry.quota)
                }
            };
            if before == limits {
                return Ok(());
            }
            let frames = vec![(id, Frame::Quota { user: user.name.clone(), limits })];
            let lsn = user.commit(&frames)?;
            user.apply(&frames);
            user.applied(lsn);
            user.limit();
            if id == MailboxId::default() {
                user.tell_limits()?;
            }
            user.regroup()
        })
        .await
    }

    pub(crate) fn set_options(&self, options: &UserOptions) {
        {
            let mut current = self.0.options.lock();
            if *current == *options {
                return;
            }
            *current = options.clone();
        }
        self.0.limit();
    }
}

fn told(root: &Root) -> QuotaRoot {
    QuotaRoot { mailbox: Some(root.name.clone()), limits: root.limits, usage: root.usage() }
}

impl UserInner {
    /// Brings the limits of the user's own root up to date: the catalog's, else the account's.
    pub(crate) fn limit(&self) {
        let account = {
            let options = self.options.lock();
            QuotaLimits {
                bytes: options.quota_bytes,
                messages: options.quota_messages,
                ..QuotaLimits::default()
            }
        };
        let limits = self.namespace.load().quota.unwrap_or(account);
        *self.ledger.limits.lock() = limits;
    }

    /// Brings the roots up to date with the namespace, and counts what each governs. Under the
    /// `changes` lock, or before anybody else has the user.
    pub(crate) fn regroup(&self) -> Result<()> {
        let namespace = self.namespace.load_full();
        let ledger = &self.ledger;
        ledger.mailboxes.store(namespace.mailboxes.len() as u64, Ordering::Release);
        let root = |(name, entry): (&String, &MailboxEntry)| {
            let (id, name, limits) = (entry.id, name.clone(), entry.quota?);
            Some(Root { id, name, limits, sums: Sums::default(), mailboxes: 0 })
        };
        let mut fresh: Vec<Root> = namespace.mailboxes.iter().filter_map(root).collect();
        if fresh.is_empty() && ledger.roots.load().is_empty() {
            return Ok(());
        }
        let mut members: Vec<(Option<usize>, &MailboxEntry)> = Vec::new();
        for (name, entry) in &namespace.mailboxes {
            let root = nearest(&fresh, name);
            if let Some(root) = root {
                fresh[root].mailboxes += 1;
            }
            members.push((root, entry));
        }
        let fresh: Vec<Arc<Root>> = fresh.into_iter().map(Arc::new).collect();
        let mut closed = Vec::new();
        for (root, entry) in members {
            let root = root.map(|at| fresh[at].clone());
            match self.shared.mailboxes.find(entry.id) {
                Some(open) => {
                    let files = open.files.lock();
                    if let Some(root) = &root {
                        root.sums.add(files.accounted());
                        root.sums.grow(Growth::of(self.shared.annotation_bytes(entry.id)?));
                    }
                    // One that was opened while this user was read belongs to another copy of them.
                    if Arc::ptr_eq(&open.share.ledger, ledger) {
                        open.share.root.store(root);
                    }
                }
                None => closed.extend(root.map(|root| (root, entry.id))),
            }
        }
        let figures = self.shared.catalog.summaries(closed.iter().map(|(_, id)| *id))?;
        for ((root, _), figures) in closed.iter().zip(figures) {
            let figures = figures.unwrap_or_default();
            root.sums.add((figures.messages, figures.bytes));
        }
        for (root, id) in &closed {
            root.sums.grow(Growth::of(self.shared.annotation_bytes(*id)?));
        }
        ledger.roots.store(Arc::new(fresh));
        Ok(())
    }

    /// Whether a mailbox may be made under this name.
    pub(crate) fn may_create(&self, name: &str) -> Result<()> {
        let root = self.ledger.root_of(name);
        self.ledger.allow(root.as_deref(), Usage { mailboxes: 1, ..Usage::default() })
    }

    /// Whether metadata of a mailbox may grow so.
    pub(crate) fn may_annotate(&self, name: &str, growth: Growth) -> Result<()> {
        let more = Usage { annotation_bytes: growth.wanted(), ..Usage::default() };
        self.ledger.allow(self.ledger.root_of(name).as_deref(), more)
    }

    /// Metadata of a mailbox has grown. Under the `changes` lock.
    pub(crate) fn annotated(&self, name: &str, growth: Growth) {
        self.ledger.sums.grow(growth);
        if let Some(root) = self.ledger.root_of(name) {
            root.sums.grow(growth);
        }
    }

    /// Whether mailboxes may have new names: what comes under another root must have room there.
    pub(crate) fn may_rename(&self, moving: &[(&str, String, &MailboxEntry)]) -> Result<()> {
        if self.ledger.roots.load().is_empty() {
            return Ok(());
        }
        let mut coming: BTreeMap<Option<String>, (Option<Arc<Root>>, Usage)> = BTreeMap::new();
        for (from, to, entry) in moving {
            let (old, new) = (self.ledger.root_of(from), self.ledger.root_of(to));
            let name = |root: &Option<Arc<Root>>| root.as_ref().map(|root| root.name.clone());
            // A root takes what it governs along.
            let along = |root: &Arc<Root>| moving.iter().any(|(_, _, entry)| entry.id == root.id);
            if name(&old) == name(&new) || old.as_ref().is_some_and(along) {
                continue;
            }
            let figures = match self.shared.mailboxes.find(entry.id) {
                Some(open) => open.files.lock().accounted(),
                None => {
                    let figures = self.shared.catalog.summary(entry.id)?.unwrap_or_default();
                    (figures.messages, figures.bytes)
                }
            };
            let annotation_bytes = self.shared.annotation_bytes(entry.id)?;
            let (messages, bytes) = figures;
            let more = Usage { messages, bytes, mailboxes: 1, annotation_bytes };
            let slot = coming.entry(name(&new)).or_insert((new, Usage::default()));
            slot.1 = slot.1.plus(more);
        }
        coming.values().try_for_each(|(root, more)| self.ledger.allow(root.as_deref(), *more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str, limits: QuotaLimits) -> Root {
        let id = MailboxId([name.len() as u8; 16]);
        Root { id, name: name.into(), limits, sums: Sums::default(), mailboxes: 0 }
    }

    #[test]
    fn the_nearest_root_governs() {
        let none = QuotaLimits::default();
        let roots = [root("a", none), root("a/b", none), root("ab", none)];
        let found = |name| nearest(&roots, name).map(|at| roots[at].name.as_str());
        for (name, expected) in [
            ("a", Some("a")),
            ("a/x", Some("a")),
            ("a/b", Some("a/b")),
            ("a/b/c", Some("a/b")),
            ("ab/c", Some("ab")),
            ("abc", None),
        ] {
            assert_eq!(found(name), expected, "{name}");
        }
    }

    #[test]
    fn a_limit_holds_at_its_value_and_not_past_it() {
        let limits = QuotaLimits { bytes: Some(10), messages: Some(0), ..Default::default() };
        let bytes = |bytes| Usage { bytes, ..Usage::default() };
        assert!(limits.allow(bytes(4), bytes(6)).is_ok());
        assert!(limits.allow(bytes(4), bytes(7)).is_err());
        assert!(limits.allow(bytes(u64::MAX), bytes(1)).is_err());
        assert!(limits.allow(bytes(11), bytes(0)).is_ok());
        assert!(limits.allow(bytes(0), Usage { messages: 1, ..Usage::default() }).is_err());
    }
}
