//! What SORT and THREAD keep of a mailbox's messages, since clients ask for the same order again and
//! again: the order of all of them, and the clues that threads are made from, with the threads.
//!
//! Nothing that is kept can become wrong: what a message is sorted by never changes, and it is told
//! by its UID. It can only lack messages that came later, and have some that are gone.
//!
//! Invariants: what a store's mailboxes keep is counted by one [`Budget`], and each mailbox's goes
//! with the mailbox; nobody takes another lock while holding a shelf's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use protocol::imap::sort::{SortCriterion, SortKey, ThreadAlgorithm, ThreadNode};
use protocol::types::{SeqNum, Uid};

use super::{Clue, ClueMaker};
use crate::collation::Collation;

/// So many orders and kinds of threads a mailbox keeps at most.
const SHELF_MAX: usize = 16;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Sort(Vec<SortCriterion>, Collation),
    Thread(ThreadAlgorithm, Collation),
}

impl Question {
    /// `None` when the order by these criteria may change while messages stay: by what changes of a
    /// message, by what is not the message's, or by the search.
    pub(crate) fn sort(criteria: &[SortCriterion], collation: Collation) -> Option<Question> {
        use SortKey::{Annotation, ModSeq, Relevancy};
        let changes = |c: &SortCriterion| matches!(c.key, Annotation(_) | ModSeq | Relevancy);
        (!criteria.iter().any(changes)).then(|| Question::Sort(criteria.to_vec(), collation))
    }
}

/// Messages in the order of some criteria.
#[derive(Debug)]
pub(crate) struct Order {
    /// Which generation the positions are of.
    pub(crate) generation: u32,
    /// No message at or above this UID is here.
    pub(crate) below: Uid,
    pub(crate) places: Vec<Place>,
}

/// A message of an [`Order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of its record.
    pub(crate) position: u32,
    pub(crate) uid: Uid,
}

/// What makes threads, and those of all messages.
pub(crate) struct Threads {
    /// Whose hashes are in the clues.
    pub(crate) maker: Arc<ClueMaker>,
    /// No message at or above this UID is here.
    pub(crate) below: Uid,
    /// By rising UID. Their sequence numbers count for nothing.
    pub(crate) clues: Vec<Clue>,
    pub(crate) references: Vec<u64>,
    /// Which messages `nodes` are the threads of.
    pub(crate) of: MessageSet,
    pub(crate) nodes: Arc<[Node]>,
}

/// A message in a thread, or a parent that is none.
pub(crate) type Node = ThreadNode<(SeqNum, Uid)>;

/// Tells the message lists of a mailbox apart: records are only added, and tombstones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageSet {
    pub(crate) generation: u32,
    pub(crate) count: usize,
    pub(crate) tombstones: u32,
}

/// An answer that is kept.
#[derive(Clone)]
pub(crate) enum Kept {
    Order(Arc<Order>),
    Threads(Arc<Threads>),
}

impl Kept {
    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Kept::Order(order) => size_of_val(&order.places[..]),
            Kept::Threads(threads) => {
                size_of_val(&threads.clues[..])
                    + size_of_val(&threads.references[..])
                    + size_of_val(&threads.nodes[..])
            }
        }
    }
}

/// How much is kept in all mailboxes of a store.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    bytes: AtomicUsize,
    /// Rises with every use.
    clock: AtomicU64,
}

impl Budget {
    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }
}

/// What one mailbox keeps.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<Vec<Entry>>);

struct Entry {
    question: Question,
    kept: Kept,
    used: u64,
    charge: Charge,
}

/// Bytes that count in a budget while it lives.
struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Shelf {
    /// What is kept for a question; counts as a use.
    pub(crate) fn find(&self, question: &Question) -> Option<Kept> {
        let mut entries = self.0.lock();
        let entry = entries.iter_mut().find(|entry| entry.question == *question)?;
        entry.used = entry.charge.budget.now();
        Some(entry.kept.clone())
    }

    /// Keeps an answer in place of the one before.
    pub(crate) fn keep(&self, question: Question, kept: Kept, budget: &Arc<Budget>) {
        let bytes = kept.bytes();
        budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        let charge = Charge { budget: budget.clone(), bytes };
        let entry = Entry { question, kept, used: budget.now(), charge };
        let mut entries = self.0.lock();
        entries.retain(|other| other.question != entry.question);
        if entries.len() >= SHELF_MAX
            && let Some(oldest) = (0..entries.len()).min_by_key(|at| entries[*at].used)
        {
            entries.swap_remove(oldest);
        }
        entries.push(entry);
    }

    pub(crate) fn forget(&self, question: &Question) {
        self.0.lock().retain(|entry| entry.question != *question);
    }

    /// When each answer was last used, with its bytes.
    pub(crate) fn uses(&self) -> Vec<(u64, usize)> {
        self.0.lock().iter().map(|entry| (entry.used, entry.charge.bytes)).collect()
    }

    /// Lets go what was last used at or before `used`.
    pub(crate) fn let_go(&self, used: u64) {
        self.0.lock().retain(|entry| entry.used > used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(messages: u32) -> Kept {
        let place = |n| Place { position: n, uid: Uid(n + 1) };
        let places = (0..messages).map(place).collect();
        Kept::Order(Arc::new(Order { generation: 1, below: Uid(messages + 1), places }))
    }

    fn by(key: SortKey) -> Question {
        let criterion = SortCriterion { key, reverse: false };
        Question::sort(&[criterion], Collation::default()).unwrap()
    }

    #[test]
    fn what_is_kept_is_counted_until_it_goes() {
        let budget = Arc::new(Budget::default());
        let (one, other) = (Shelf::default(), Shelf::default());
        one.keep(by(SortKey::Date), order(100), &budget);
        one.keep(by(SortKey::Date), order(10), &budget);
        one.keep(by(SortKey::Size), order(1), &budget);
        other.keep(by(SortKey::Date), order(5), &budget);
        assert_eq!(budget.bytes(), 16 * 8);
        assert!(one.find(&by(SortKey::Date)).is_some());
        // The one by size is older than that.
        let oldest = one.uses().iter().map(|(used, _)| *used).min().unwrap();
        one.let_go(oldest);
        assert!(one.find(&by(SortKey::Size)).is_none());
        assert_eq!(budget.bytes(), 15 * 8);
        drop(other);
        one.forget(&by(SortKey::Date));
        assert_eq!(budget.bytes(), 0);
        let criteria = |n: usize| {
            let one = SortCriterion { key: SortKey::To, reverse: false };
            Question::sort(&vec![one; n], Collation::default()).unwrap()
        };
        for n in 1..=SHELF_MAX + 1 {
            one.keep(criteria(n), order(1), &budget);
        }
        assert!(one.find(&criteria(1)).is_none());
        assert!(one.find(&criteria(2)).is_some());
        assert_eq!(budget.bytes(), SHELF_MAX * 8);
    }

    #[test]
    fn orders_that_change_while_messages_stay_are_not_kept() {
        for key in [SortKey::ModSeq, SortKey::Relevancy, SortKey::Annotation(0)] {
            let criteria = [SortKey::Date, key].map(|key| SortCriterion { key, reverse: false });
            assert_eq!(Question::sort(&criteria, Collation::default()), None);
        }
    }
}
