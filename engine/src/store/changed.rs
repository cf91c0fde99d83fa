//! Whose mailboxes changed since a moment: for programs that follow a store and should pay for what
//! changes in it, not for what is in it.
//!
//! A user is noted with the number of the turn in which a checkpoint takes what changed of him; what
//! none has taken yet changed since any moment. So one may be told twice, and nobody is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Store;
use crate::ids::MailboxId;
use crate::mailbox::MailboxInner;
use crate::shared::Shared;
use crate::user::UserInner;

/// A moment in the life of a store, from [`Store::changed_since`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Of which start of the store.
    epoch: u32,
    /// Turns of checkpoints before.
    turn: u64,
}

/// Who changed when.
#[derive(Default)]
pub(crate) struct ChangedUsers(Mutex<Turns>);

#[derive(Default)]
struct Turns {
    /// How many there were.
    taken: u64,
    /// The last one of each user.
    users: BTreeMap<Arc<str>, u64>,
}

/// What a checkpoint writes down.
pub(crate) struct Taken {
    pub(crate) mailboxes: BTreeMap<MailboxId, Arc<MailboxInner>>,
    pub(crate) users: BTreeMap<String, Arc<UserInner>>,
}

impl Shared {
    /// Takes what changed, for a checkpoint, and notes whose it is.
    pub(crate) fn take_changed(&self) -> Taken {
        // Under the lock all the way: who asks meanwhile finds it in one place or the other.
        let mut turns = self.changed_users.0.lock();
        let mailboxes = std::mem::take(&mut *self.dirty.lock());
        let users = std::mem::take(&mut *self.dirty_users.lock());
        turns.taken += 1;
        let turn = turns.taken;
        turns.users.extend(mailboxes.values().map(|mailbox| (mailbox.events.owner(), turn)));
        turns.users.extend(users.keys().map(|name| (name.as_str().into(), turn)));
        Taken { mailboxes, users }
    }
}

impl Store {
    /// Who has mailboxes that changed since a moment, and the moment to ask with next time. `None`:
    /// that is not known, as of a moment before this start, and anybody's may have.
    pub fn changed_since(&self, moment: Option<Moment>) -> (Moment, Option<BTreeSet<String>>) {
        let shared = self.shared();
        let turns = shared.changed_users.0.lock();
        let now = Moment { epoch: shared.owner_epoch, turn: turns.taken };
        let Some(since) = moment.filter(|moment| moment.epoch == now.epoch) else {
            return (now, None);
        };
        let noted = turns.users.iter().filter(|(_, turn)| **turn > since.turn);
        let mut names: BTreeSet<String> = noted.map(|(name, _)| name.to_string()).collect();
        let dirty = shared.dirty.lock();
        names.extend(dirty.values().map(|mailbox| mailbox.events.owner().to_string()));
        drop(dirty);
        names.extend(shared.dirty_users.lock().keys().cloned());
        (now, Some(names))
    }
}
