//! What all clients together have been promised: messages that exist, and those that are gone.
//!
//! A message belongs to the client that made it; only the owner ever marks it `\Deleted`, so
//! nobody else's message may vanish. The ledger is told *before* a command that may remove a message
//! is sent and *after* one that makes or removes one was answered, so that what it says alive is
//! alive for everybody, and what it says gone is gone for everybody who looks from then on.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::view::Wrong;

/// Where a message is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Answered, and nobody has asked to remove it.
    Alive,
    /// Marked as deleted, or on its way elsewhere: it may be there or not.
    Doomed,
    /// Its removal was answered.
    Gone,
}

#[derive(Debug)]
struct Entry {
    marker: String,
    life: Life,
}

#[derive(Debug, Default)]
struct Mailbox {
    uid_validity: u32,
    messages: BTreeMap<u32, Entry>,
    /// Highest MODSEQ that anybody was told.
    modseq: u64,
    /// Every UID below was given before.
    uid_next: u32,
}

/// The promises, by mailbox number.
#[derive(Debug)]
pub(crate) struct Ledger {
    mailboxes: Vec<Mutex<Mailbox>>,
    /// Markers of deliveries that were answered 250, all into mailbox 0.
    delivered: Mutex<BTreeSet<String>>,
}

impl Ledger {
    pub(crate) fn new(mailboxes: usize) -> Ledger {
        let mailboxes = std::iter::repeat_with(Mutex::default).take(mailboxes).collect();
        Ledger { mailboxes, delivered: Mutex::default() }
    }

    /// UIDVALIDITY as SELECT, STATUS, APPENDUID or COPYUID says it.
    pub(crate) fn uid_validity(&self, mailbox: usize, value: u32) -> Result<(), Wrong> {
        let mut one = self.mailboxes[mailbox].lock();
        if one.uid_validity == 0 {
            one.uid_validity = value;
        }
        if one.uid_validity != value {
            return Err(format!("UIDVALIDITY was {} and is {value}", one.uid_validity));
        }
        Ok(())
    }

    /// A message was made: APPENDUID or COPYUID has been answered.
    pub(crate) fn made(&self, mailbox: usize, uid: u32, marker: &str) -> Result<(), Wrong> {
        let mut one = self.mailboxes[mailbox].lock();
        let entry = Entry { marker: marker.to_owned(), life: Life::Alive };
        match one.messages.insert(uid, entry) {
            None => Ok(()),
            Some(before) => {
                Err(format!("UID {uid} was given twice: {} and {marker}", before.marker))
            }
        }
    }

    /// Its removal is about to be asked for.
    pub(crate) fn doom(&self, mailbox: usize, uid: u32) {
        if let Some(entry) = self.mailboxes[mailbox].lock().messages.get_mut(&uid)
            && entry.life == Life::Alive
        {
            entry.life = Life::Doomed;
        }
    }

    /// Its removal was answered.
    pub(crate) fn gone(&self, mailbox: usize, uid: u32) {
        if let Some(entry) = self.mailboxes[mailbox].lock().messages.get_mut(&uid) {
            entry.life = Life::Gone;
        }
    }

    /// Somebody was told that it is no more.
    pub(crate) fn told_gone(&self, mailbox: usize, uid: u32) -> Result<(), Wrong> {
        match self.mailboxes[mailbox].lock().messages.get(&uid) {
            Some(entry) if entry.life == Life::Alive => {
                Err(format!("UID {uid} ({}) vanished, and nobody removed it", entry.marker))
            }
            _ => Ok(()),
        }
    }

    /// The marker that a message must have.
    pub(crate) fn marker(&self, mailbox: usize, uid: u32) -> Option<String> {
        Some(self.mailboxes[mailbox].lock().messages.get(&uid)?.marker.clone())
    }

    /// Messages that must be in what is asked for from now on.
    pub(crate) fn alive(&self, mailbox: usize) -> Vec<u32> {
        self.of_life(mailbox, Life::Alive)
    }

    /// Messages that must not be in what is asked for from now on.
    pub(crate) fn removed(&self, mailbox: usize) -> Vec<u32> {
        self.of_life(mailbox, Life::Gone)
    }

    fn of_life(&self, mailbox: usize, life: Life) -> Vec<u32> {
        let one = self.mailboxes[mailbox].lock();
        one.messages.iter().filter(|(_, e)| e.life == life).map(|(&uid, _)| uid).collect()
    }

    pub(crate) fn is_alive(&self, mailbox: usize, uid: u32) -> bool {
        let one = self.mailboxes[mailbox].lock();
        one.messages.get(&uid).is_some_and(|entry| entry.life == Life::Alive)
    }

    /// HIGHESTMODSEQ and UIDNEXT that were known before a question was asked: the answer may not be
    /// below.
    pub(crate) fn floor(&self, mailbox: usize) -> (u64, u32) {
        let one = self.mailboxes[mailbox].lock();
        (one.modseq, one.uid_next)
    }

    /// HIGHESTMODSEQ and UIDNEXT of an answer.
    pub(crate) fn raise(&self, mailbox: usize, modseq: u64, uid_next: u32) {
        let mut one = self.mailboxes[mailbox].lock();
        one.modseq = one.modseq.max(modseq);
        one.uid_next = one.uid_next.max(uid_next);
    }

    pub(crate) fn delivered(&self, marker: String) {
        self.delivered.lock().insert(marker);
    }

    pub(crate) fn deliveries(&self) -> BTreeSet<String> {
        self.delivered.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_doomed_messages_may_vanish() {
        let ledger = Ledger::new(1);
        ledger.made(0, 7, "a").unwrap();
        assert!(ledger.told_gone(0, 7).is_err());
        ledger.doom(0, 7);
        assert!(ledger.told_gone(0, 7).is_ok());
        assert!(ledger.alive(0).is_empty());
        ledger.gone(0, 7);
        ledger.doom(0, 7);
        assert_eq!(ledger.removed(0), [7]);
        assert!(ledger.made(0, 7, "b").is_err());
    }

    #[test]
    fn uid_validity_stands() {
        let ledger = Ledger::new(1);
        ledger.uid_validity(0, 5).unwrap();
        assert!(ledger.uid_validity(0, 6).is_err());
    }
}
