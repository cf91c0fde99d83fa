//! What is in memory: mailboxes, with their descriptors and maps, and users. One list of each, the
//! least recently used go first, and only what nobody needs.
//!
//! Invariants:
//! - At most one object of a mailbox exists that can write its files. An entry leaves only under
//!   the write lock, while the registry alone holds it: whatever is changed, queued, watched or
//!   selected is held by somebody else too.
//! - A mailbox that leaves is in the catalog as it is, so that its figures answer for it.
//! - A user stays as long as one of their mailboxes does, which counts into the same usage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::ids::MailboxId;
use crate::mailbox::MailboxInner;
use crate::shared::Shared;
use crate::user::UserInner;

/// Descriptors of an open mailbox: index, facts, heap, cache.
pub(crate) const MAILBOX_DESCRIPTORS: usize = 4;

/// Mailboxes that leave under one turn of the write lock.
const LEAVE_TURN: usize = 64;

/// The open mailboxes.
#[derive(Default)]
pub(crate) struct Registry {
    open: RwLock<BTreeMap<MailboxId, Arc<MailboxInner>>>,
    /// Rises with every use.
    clock: AtomicU64,
    /// Bytes of the maps, as of each one's opening or the last pass.
    mapped: AtomicU64,
    /// A pass that found too little to let go: none before there are so many.
    not_before: AtomicUsize,
    evicted: AtomicU64,
    /// Too many are open and changed: a checkpoint would make them free to go.
    wants_checkpoint: AtomicBool,
}

impl Registry {
    /// The open mailbox of an id; counts as a use.
    pub(crate) fn find(&self, id: MailboxId) -> Option<Arc<MailboxInner>> {
        let open = self.open.read();
        let mailbox = open.get(&id)?;
        mailbox.used.store(self.now(), Ordering::Relaxed);
        Some(mailbox.clone())
    }

    pub(crate) fn insert(&self, mailbox: &Arc<MailboxInner>) {
        mailbox.used.store(self.now(), Ordering::Relaxed);
        self.mapped.fetch_add(mailbox.view().mapped_bytes(), Ordering::Relaxed);
        self.open.write().insert(mailbox.id, mailbox.clone());
    }

    pub(crate) fn remove(&self, id: MailboxId) {
        self.open.write().remove(&id);
    }

    /// Every open mailbox; no use.
    pub(crate) fn all(&self) -> Vec<Arc<MailboxInner>> {
        self.open.read().values().cloned().collect()
    }

    /// Empties the registry: the store stops.
    pub(crate) fn take_all(&self) -> Vec<Arc<MailboxInner>> {
        std::mem::take(&mut *self.open.write()).into_values().collect()
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.read().len()
    }

    /// Bytes of maps and mailboxes let go, for people.
    pub(crate) fn figures(&self) -> (u64, u64) {
        (self.mapped.load(Ordering::Relaxed), self.evicted.load(Ordering::Relaxed))
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the ticker should make a checkpoint so that mailboxes can leave.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.wants_checkpoint.swap(false, Ordering::AcqRel)
    }

    /// A checkpoint ended: what it wrote may leave.
    pub(crate) fn checkpointed(&self) {
        self.not_before.store(0, Ordering::Release);
    }

    /// Lets the least recently used go until at most `max` are open and their maps hold at most
    /// `mapped_max` bytes. Returns how many left.
    fn shrink(&self, max: usize, mapped_max: u64) -> usize {
        let (mut free, mut mapped, mut len) = (Vec::new(), 0, 0_usize);
        for mailbox in self.open.read().values() {
            len += 1;
            mapped += mailbox.view().mapped_bytes();
            if Arc::strong_count(mailbox) == 1 {
                free.push((mailbox.used.load(Ordering::Relaxed), mailbox.id));
            }
        }
        free.sort_unstable();
        let mut left = 0;
        for turn in free.chunks(LEAVE_TURN) {
            let mut leaving = Vec::new();
            let mut open = self.open.write();
            for (used, id) in turn {
                if len <= max && mapped <= mapped_max {
                    break;
                }
                let still = |m: &Arc<MailboxInner>| {
                    Arc::strong_count(m) == 1
                        && m.used.load(Ordering::Relaxed) == *used
                        && m.is_idle()
                };
                if open.get(id).is_some_and(still)
                    && let Some(mailbox) = open.remove(id)
                {
                    mapped = mapped.saturating_sub(mailbox.view().mapped_bytes());
                    len -= 1;
                    leaving.push(mailbox);
                }
            }
            drop(open);
            // Watches, maps and descriptors go without the lock.
            for mailbox in &leaving {
                mailbox.shared.watches.unlinger(mailbox);
            }
            left += leaving.len();
        }
        self.mapped.store(mapped, Ordering::Relaxed);
        self.evicted.fetch_add(left as u64, Ordering::Relaxed);
        left
    }
}

impl Shared {
    /// How many mailboxes may be open, by the nearer of the two limits.
    fn open_mailboxes_max(&self) -> usize {
        let config = &self.config;
        config.open_mailboxes_max.min(config.descriptors_max / MAILBOX_DESCRIPTORS).max(1)
    }

    /// Lets idle mailboxes and users go where more are in memory than the limits say: an eighth
    /// at a time, so that not every opening looks through all.
    pub(crate) fn make_room(&self) {
        let (max, mapped_max) = (self.open_mailboxes_max(), self.config.mapped_bytes_max);
        let len = self.mailboxes.len();
        let over = len >= max || self.mailboxes.figures().0 > mapped_max;
        if over && len >= self.mailboxes.not_before.load(Ordering::Acquire) {
            let left = self.mailboxes.shrink(max - max.div_ceil(8), mapped_max / 8 * 7);
            if left < max.div_ceil(8) {
                self.mailboxes.not_before.store(len + max.div_ceil(8), Ordering::Release);
                if self.dirty.lock().len() > max / 2 {
                    self.mailboxes.wants_checkpoint.store(true, Ordering::Release);
                }
            }
        }
        self.let_users_go(self.config.open_users_max);
    }

    /// After the system refused a descriptor: lets every idle mailbox go, after a checkpoint
    /// where none is idle without one.
    pub(crate) fn free_descriptors(self: &Arc<Self>) {
        tracing::warn!(
            open_mailboxes = self.mailboxes.len(),
            "out of file descriptors; closing mailboxes that are not in use"
        );
        if self.mailboxes.shrink(0, 0) == 0 {
            if let Err(error) = self.checkpoint() {
                tracing::error!(%error, "checkpoint for want of descriptors failed");
            }
            self.mailboxes.shrink(0, 0);
        }
    }

    /// [`Shared::free_descriptors`] for a session, which must not block.
    pub(crate) async fn freed_descriptors(self: &Arc<Self>) {
        let shared = self.clone();
        // A helper that panicked has said so; the caller's second try tells the rest.
        let _ = self.helpers.run(move || shared.free_descriptors()).await;
    }

    /// Lets what mailboxes keep for SORT and THREAD go where it takes more than it may: the least
    /// recently used, until an eighth is free.
    pub(crate) fn let_orders_go(&self) {
        let max = self.config.orders_bytes_max;
        if self.orders.bytes() <= max {
            return;
        }
        let mailboxes = self.mailboxes.all();
        let mut uses: Vec<(u64, usize)> = mailboxes.iter().flat_map(|m| m.kept.uses()).collect();
        uses.sort_unstable();
        let (mut left, mut oldest) = (self.orders.bytes(), 0);
        for (used, bytes) in uses {
            if left <= max / 8 * 7 {
                break;
            }
            left = left.saturating_sub(bytes);
            oldest = used;
        }
        mailboxes.iter().for_each(|mailbox| mailbox.kept.let_go(oldest));
    }

    fn let_users_go(&self, max: usize) {
        let mut users = self.users.lock();
        if users.len() <= max {
            return;
        }
        let idle = |user: &Arc<UserInner>| Arc::strong_count(user) == 1 && user.is_idle();
        let mut free: Vec<(u64, String)> = users
            .values()
            .filter(|user| idle(user))
            .map(|user| (user.used.load(Ordering::Relaxed), user.name.clone()))
            .collect();
        free.sort_unstable();
        let over = users.len() - (max - max.div_ceil(8));
        for (_, name) in free.iter().take(over) {
            users.remove(name);
        }
    }
}
