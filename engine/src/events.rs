//! What happens to a user's mailboxes, for sessions that want to be told: NOTIFY (RFC 5465) and
//! METADATA (RFC 5464).
//!
//! A [`Hub`] for each user in memory, and one for the server, hands on to [`Listener`]s. What is
//! told is a hint that names what to look at: of messages only which mailboxes have new ones,
//! removals or other flags, so that a queue is bounded by the number of mailboxes. A queue that
//! grows past its bounds is emptied and says so. Posting costs one load where nobody listens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::format::frame::Frame;
use crate::ids::MailboxId;
use crate::store::Store;
use crate::user::User;

/// Changes of names and metadata that a listener may leave unheard.
pub const EVENTS_MAX: usize = 4096;
/// Mailboxes with changed messages that a listener may leave unheard.
pub const EVENT_MAILBOXES_MAX: usize = 16 << 10;

/// What happened to a mailbox's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageEvents(u8);

impl MessageEvents {
    /// There are new ones.
    pub const NEW: MessageEvents = MessageEvents(1);
    /// Some are gone.
    pub const EXPUNGED: MessageEvents = MessageEvents(2);
    /// Some have other flags.
    pub const FLAGS: MessageEvents = MessageEvents(4);

    /// Both together.
    #[must_use]
    pub fn union(self, other: MessageEvents) -> MessageEvents {
        MessageEvents(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub fn both(self, other: MessageEvents) -> MessageEvents {
        MessageEvents(self.0 & other.0)
    }

    /// Whether any of `other` is among them.
    pub fn intersects(self, other: MessageEvents) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing happened.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What a frame does.
    pub(crate) fn of(frame: &Frame) -> MessageEvents {
        match frame {
            Frame::Append(_) => MessageEvents::NEW,
            Frame::Expunge { .. } => MessageEvents::EXPUNGED,
            Frame::Flags { .. } => MessageEvents::FLAGS,
            _ => MessageEvents::default(),
        }
    }
}

/// A change of a user's names or of metadata. Names are internal ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A mailbox was made.
    Created(String),
    /// A mailbox is gone.
    Deleted(String),
    /// A mailbox has another name, and so have those below it.
    Renamed {
        /// What it was called.
        from: String,
        /// What it is called.
        to: String,
    },
    /// A name was subscribed, or no longer.
    Subscription(String),
    /// A mailbox's access control list changed.
    Rights(String),
    /// Metadata was set or removed.
    Metadata {
        /// Of which mailbox; `None`: of the server.
        mailbox: Option<MailboxId>,
        /// The user whose entries these are; `None`: shared ones.
        whose: Option<String>,
        /// Names of the entries, with their scope.
        entries: Vec<String>,
    },
}

/// What a listener has not heard yet.
#[derive(Debug, Default)]
pub struct Heard {
    /// In order, each with the user whose mailboxes it is about (empty: the server).
    pub events: Vec<(Arc<str>, Event)>,
    /// What happened to messages since.
    pub messages: Vec<(MailboxId, MessageEvents)>,
    /// There was too much: everything up to here is lost.
    pub overflow: bool,
}

#[derive(Default)]
struct Pending {
    events: Vec<(Arc<str>, Event)>,
    messages: BTreeMap<MailboxId, MessageEvents>,
    overflow: bool,
}

impl Pending {
    fn overflow(&mut self) {
        *self = Pending { overflow: true, ..Pending::default() };
    }
}

#[derive(Default)]
struct Queue {
    pending: Mutex<Pending>,
    wants_messages: AtomicBool,
    wake: Notify,
}

/// Hands on what happens to a user's mailboxes, or to the server.
pub(crate) struct Hub {
    owner: Arc<str>,
    listeners: Mutex<Vec<Arc<Queue>>>,
    /// Of them, so that nobody waits for the lock in vain.
    count: AtomicUsize,
}

impl Hub {
    pub(crate) fn new(owner: &str) -> Hub {
        let (listeners, count) = (Mutex::default(), AtomicUsize::new(0));
        Hub { owner: owner.into(), listeners, count }
    }

    /// Whose mailboxes it tells of.
    pub(crate) fn owner(&self) -> Arc<str> {
        self.owner.clone()
    }

    /// Whether anybody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Tells of a change of names or metadata.
    pub(crate) fn post(&self, event: &Event) {
        if !self.is_heard() {
            return;
        }
        for queue in &*self.listeners.lock() {
            let mut pending = queue.pending.lock();
            if pending.events.len() >= EVENTS_MAX {
                pending.overflow();
            }
            if !pending.overflow {
                pending.events.push((self.owner.clone(), event.clone()));
            }
            drop(pending);
            queue.wake.notify_one();
        }
    }

    /// Tells that a mailbox's messages changed.
    pub(crate) fn post_messages(&self, mailbox: MailboxId, what: MessageEvents) {
        if !self.is_heard() || what.is_empty() {
            return;
        }
        for queue in &*self.listeners.lock() {
            if !queue.wants_messages.load(Ordering::Acquire) {
                continue;
            }
            let mut pending = queue.pending.lock();
            let known = pending.messages.contains_key(&mailbox);
            if !known && pending.messages.len() >= EVENT_MAILBOXES_MAX {
                pending.overflow();
            }
            if !pending.overflow {
                let slot = pending.messages.entry(mailbox).or_default();
                *slot = slot.union(what);
            }
            drop(pending);
            queue.wake.notify_one();
        }
    }

    fn add(&self, queue: &Arc<Queue>) {
        let mut listeners = self.listeners.lock();
        listeners.push(queue.clone());
        self.count.store(listeners.len(), Ordering::Release);
    }

    fn remove(&self, queue: &Arc<Queue>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|other| !Arc::ptr_eq(other, queue));
        self.count.store(listeners.len(), Ordering::Release);
    }
}

/// Hears what happens to the mailboxes of users, and to the server. Keeps these users in memory.
pub struct Listener {
    queue: Arc<Queue>,
    hubs: Vec<Arc<Hub>>,
    users: Vec<User>,
}

impl Listener {
    /// One that hears of the server's metadata.
    pub fn new(store: &Store) -> Listener {
        let mut listener = Listener { queue: Arc::default(), hubs: Vec::new(), users: Vec::new() };
        listener.add(&store.shared().events);
        listener
    }

    /// Hears of a user's mailboxes, too, from now on.
    pub fn hear(&mut self, user: &User) {
        if !self.users.iter().any(|other| other.name() == user.name()) {
            self.add(&user.0.events);
            self.users.push(user.clone());
        }
    }

    /// Whether changes of messages are told, too. At first they are not.
    pub fn hear_messages(&self, on: bool) {
        self.queue.wants_messages.store(on, Ordering::Release);
    }

    fn add(&mut self, hub: &Arc<Hub>) {
        hub.add(&self.queue);
        self.hubs.push(hub.clone());
    }

    /// Returns when something happened since the last [`Listener::take`]. Cancel-safe.
    pub async fn happened(&self) {
        loop {
            if self.has_news() {
                return;
            }
            self.queue.wake.notified().await;
        }
    }

    /// Whether [`Listener::take`] has something.
    pub fn has_news(&self) -> bool {
        let pending = self.queue.pending.lock();
        !pending.events.is_empty() || !pending.messages.is_empty() || pending.overflow
    }

    /// What happened since the last call.
    pub fn take(&self) -> Heard {
        let pending = std::mem::take(&mut *self.queue.pending.lock());
        let messages = pending.messages.into_iter().collect();
        Heard { events: pending.events, messages, overflow: pending.overflow }
    }

    /// Forgets events for which this holds: the listener's own doing.
    pub fn forget(&self, own: impl Fn(&str, &Event) -> bool) {
        self.queue.pending.lock().events.retain(|(owner, event)| !own(owner, event));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.hubs.iter().for_each(|hub| hub.remove(&self.queue));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(hub: &Arc<Hub>) -> Listener {
        let mut listener = Listener { queue: Arc::default(), hubs: Vec::new(), users: Vec::new() };
        listener.add(hub);
        listener
    }

    #[test]
    fn what_happened_is_told_once_and_only_to_who_listens() {
        let hub = Arc::new(Hub::new("jo"));
        hub.post(&Event::Created("a".into()));
        let one = listener(&hub);
        hub.post(&Event::Created("b".into()));
        hub.post(&Event::Created("c".into()));
        hub.post_messages(MailboxId([1; 16]), MessageEvents::NEW);
        one.hear_messages(true);
        hub.post_messages(MailboxId([2; 16]), MessageEvents::NEW);
        hub.post_messages(MailboxId([2; 16]), MessageEvents::FLAGS);
        one.forget(|owner, event| owner == "jo" && *event == Event::Created("c".into()));
        let heard = one.take();
        assert_eq!(heard.events, [("jo".into(), Event::Created("b".into()))]);
        let both = MessageEvents::NEW.union(MessageEvents::FLAGS);
        assert_eq!(heard.messages, [(MailboxId([2; 16]), both)]);
        assert!(!one.has_news());
        drop(one);
        assert!(!hub.is_heard());
    }

    #[test]
    fn a_queue_is_full_at_its_bound_and_says_so() {
        let hub = Arc::new(Hub::new("jo"));
        let one = listener(&hub);
        (0..EVENTS_MAX).for_each(|n| hub.post(&Event::Created(n.to_string())));
        assert_eq!(one.take().events.len(), EVENTS_MAX);
        (0..=EVENTS_MAX).for_each(|n| hub.post(&Event::Created(n.to_string())));
        hub.post(&Event::Created("later".into()));
        let heard = one.take();
        assert!(heard.overflow && heard.events.is_empty());
    }
}
