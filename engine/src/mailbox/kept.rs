//! SORT and THREAD answered from what is kept of the mailbox ([`crate::order::Shelf`]).
//!
//! An order of all messages is kept when one was asked for: of all of them, or of most. Later it
//! answers for any of them: what came meanwhile is put in where it belongs, what is gone is passed
//! over. Threads of all messages are kept as they are told; for other messages, and when some came or
//! went, they are made anew from the clues, and no message is read again.
//!
//! Invariant: an answer has exactly the messages that match, or is not given from here: where a
//! message is missing in what is kept, all are looked at as if nothing were.

use std::sync::Arc;

use protocol::imap::search::SearchKey;
use protocol::imap::sort::{SortCriterion, ThreadAlgorithm};
use protocol::types::{SeqNum, SequenceSet, SetRange, SetValue, Uid};

use super::order::{PROBES, Sorted, places_among};
use super::search::{INLINE_MESSAGES_MAX, Matched, by_index};
use super::{Mailbox, MailboxInner, View};
use crate::annotation::SortValues;
use crate::collation::Collation;
use crate::error::{Error, Result};
use crate::order::{self, Clue, Kept, KeyMaker, MessageSet, Node, Order, Place, Question, Threads};
use crate::search::Needs;

/// Of mailboxes of so many messages an answer from what is kept is put together where the caller is: a
/// nanosecond or two for each.
const INLINE_KEPT_MAX: u32 = 64 << 10;
/// An order is walked from end to end for an answer, unless that has less than one of so many
/// messages: then their keys are read.
const SPARSE: usize = 128;

type List = Vec<(SeqNum, Matched)>;

/// Which messages of a view an answer has.
enum Among {
    All,
    /// Those, ascending.
    These(List),
}

impl Among {
    fn count(&self, view: &View) -> usize {
        match self {
            Among::All => view.exists() as usize,
            Among::These(list) => list.len(),
        }
    }
}

impl View {
    /// Which messages it has, to be compared with other views of the same mailbox.
    fn message_set(&self) -> MessageSet {
        let (generation, count) = (self.0.generation, self.0.count);
        MessageSet { generation, count, tombstones: self.0.tombs.total() }
    }

    /// The UID behind that of the last record.
    fn below(&self) -> Uid {
        match self.0.count.checked_sub(1) {
            Some(last) => Uid(self.uid_at(last).0.saturating_add(1)),
            None => Uid(0),
        }
    }
}

/// UIDs from one on.
fn from_uid(first: Uid) -> SearchKey {
    let range = SetRange { first: SetValue::Number(first.0), last: SetValue::Number(u32::MAX) };
    SearchKey::UidSet(SequenceSet { ranges: vec![range] })
}

impl Order {
    fn new(view: &View, sorted: &[(SeqNum, Uid)]) -> Order {
        let place = |&(seq, uid): &(SeqNum, Uid)| {
            let position = view.position(seq).unwrap_or(view.0.count) as u32;
            Place { position, uid }
        };
        let places = sorted.iter().map(place).collect();
        Order { generation: view.0.generation, below: view.below(), places }
    }

    /// The same by the positions of a view of another generation, without what that has not.
    fn moved(&self, view: &View) -> Order {
        let moved = |place: &Place| {
            let position = view.position_of(place.uid)? as u32;
            Some(Place { position, uid: place.uid })
        };
        let places = self.places.iter().filter_map(moved).collect();
        Order { generation: view.0.generation, below: self.below, places }
    }

    /// Some messages of a view of this generation in this order; `None` if one is missing here.
    fn told(&self, view: &View, among: &Among) -> Option<Vec<(SeqNum, Uid)>> {
        let (count, tombs) = (view.0.count, &view.0.tombs);
        let expected = among.count(view);
        let mut told = Vec::with_capacity(expected);
        if let (Among::All, 0) = (among, tombs.total()) {
            let there = |place: &&Place| (place.position as usize) < count;
            told.extend(self.places.iter().filter(there).map(|p| (SeqNum(p.position + 1), p.uid)));
            return (told.len() == expected).then_some(told);
        }
        // By position; 0 for what is not among them.
        let mut seqs = vec![0_u32; count];
        let live = (0..count).filter(|position| !tombs.contains(*position)).zip(1..);
        match among {
            Among::All => live.for_each(|(position, seq)| seqs[position] = seq),
            Among::These(list) => {
                let mut next = list.iter().map(|(seq, _)| seq.0).peekable();
                for (position, seq) in live {
                    if next.next_if_eq(&seq).is_some() {
                        seqs[position] = seq;
                    }
                }
            }
        }
        told.extend(self.places.iter().filter_map(|place| {
            let seq = *seqs.get(place.position as usize)?;
            (seq > 0).then_some((SeqNum(seq), place.uid))
        }));
        (told.len() == expected).then_some(told)
    }
}

impl Mailbox {
    /// What SORT is answered with from the order that is kept, which is made if it is worth it;
    /// `None` when the messages that match have to be sorted.
    pub(super) async fn sorted_by_kept(
        &self,
        view: &View,
        key: &SearchKey,
        criteria: &[SortCriterion],
        collation: Collation,
    ) -> Result<Option<Sorted>> {
        if !self.keeps(view) {
            return Ok(None);
        }
        let Some(question) = Question::sort(criteria, collation) else { return Ok(None) };
        let known = match self.0.kept.find(&question) {
            Some(Kept::Order(order)) => Some(order),
            _ => None,
        };
        let Some(among) = self.among(view, key, collation, known.is_some()).await? else {
            return Ok(None);
        };
        let many = among.count(view) > view.exists() as usize / 2;
        let modseq = match &among {
            Among::All => None,
            Among::These(list) => list.iter().map(|(_, matched)| matched.modseq).max(),
        };
        let order = match known {
            Some(_) if among.count(view) < view.exists() as usize / SPARSE => None,
            Some(order) => self.brought_up(view, &question, order, criteria, collation).await?,
            None if many => self.ordered(view, &question, criteria, collation).await?,
            None => None,
        };
        let Some(order) = order else {
            return self.sorted_of(view, among, criteria, collation).await;
        };
        let (told, among) = if view.exists() <= INLINE_KEPT_MAX {
            (order.told(view, &among), among)
        } else {
            let view = view.clone();
            let tell = move || (order.told(&view, &among), among);
            self.0.shared.helpers.run(tell).await.map_err(|_| Error::Closing)?
        };
        if let Some(messages) = told {
            return Ok(Some(Sorted { messages, scores: Vec::new(), modseq }));
        }
        // Older views have messages that are gone, and others go on with what is kept.
        if view.message_set() == self.view().message_set() {
            self.0.kept.forget(&question);
        }
        self.sorted_of(view, among, criteria, collation).await
    }

    /// What THREAD is answered with from what is kept, likewise.
    pub(super) async fn threads_by_kept(
        &self,
        view: &View,
        key: &SearchKey,
        algorithm: ThreadAlgorithm,
        collation: Collation,
    ) -> Result<Option<Arc<[Node]>>> {
        if !self.keeps(view) {
            return Ok(None);
        }
        let question = Question::Thread(algorithm, collation);
        let known = match self.0.kept.find(&question) {
            Some(Kept::Threads(threads)) => Some(threads),
            _ => None,
        };
        let Some(among) = self.among(view, key, collation, known.is_some()).await? else {
            return Ok(None);
        };
        let is_all = among.count(view) == view.exists() as usize;
        let Some(threads) = known else {
            if !is_all {
                return Ok(None);
            }
            let made = self.threaded(view, &SearchKey::All, algorithm, collation).await?;
            let whole = made.clues.len() == view.exists() as usize;
            let nodes = made.nodes.clone();
            if whole {
                self.keep(view, question, Kept::Threads(Arc::new(made)));
            }
            return Ok(Some(nodes));
        };
        if is_all && threads.of == view.message_set() {
            return Ok(Some(threads.nodes.clone()));
        }
        let news = match view.below() > threads.below {
            true => Some(self.clues_from(view, &threads).await?),
            false => None,
        };
        let (view, inner) = (view.clone(), self.0.clone());
        let make = move || match news {
            Some((clues, references)) => {
                let threads = Arc::new(threads.with(&view, algorithm, clues, references));
                let told = match (is_all, &among) {
                    (true, _) if threads.of == view.message_set() => Some(threads.nodes.clone()),
                    _ => threads.told(&view, &among, algorithm).map(|(nodes, _)| nodes),
                };
                inner.keep(&view, question, Kept::Threads(threads));
                told
            }
            None => {
                let (nodes, clues) = threads.told(&view, &among, algorithm)?;
                if is_all && view.below() == threads.below {
                    let threads = threads.told_anew(&view, clues, nodes.clone());
                    inner.keep(&view, question, Kept::Threads(Arc::new(threads)));
                }
                Some(nodes)
            }
        };
        self.0.shared.helpers.run(make).await.map_err(|_| Error::Closing)
    }

    /// Whether anything is kept of a view's messages.
    fn keeps(&self, view: &View) -> bool {
        let config = &self.0.shared.config;
        config.orders_bytes_max > 0 && view.exists() >= config.order_messages_min
    }

    /// Which messages match, unless that should be found out while they are sorted: `seeks` looks
    /// at more than their records.
    async fn among(
        &self,
        view: &View,
        key: &SearchKey,
        collation: Collation,
        seeks: bool,
    ) -> Result<Option<Among>> {
        if *key == SearchKey::All {
            return Ok(Some(Among::All));
        }
        let program = self.program(view, key, collation);
        if program.needs() != Needs::Index {
            return match seeks {
                true => {
                    self.search(view, key, collation).await.map(|list| Some(Among::These(list)))
                }
                false => Ok(None),
            };
        }
        if view.exists() <= INLINE_MESSAGES_MAX {
            return Ok(Some(Among::These(by_index(view, &program))));
        }
        let view = view.clone();
        let look = move || by_index(&view, &program);
        let list = self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing)?;
        Ok(Some(Among::These(list)))
    }

    /// Some messages sorted by their keys. `None` for all, which the caller does.
    async fn sorted_of(
        &self,
        view: &View,
        among: Among,
        criteria: &[SortCriterion],
        collation: Collation,
    ) -> Result<Option<Sorted>> {
        let Among::These(list) = among else { return Ok(None) };
        let uids = list.iter().map(|(_, matched)| matched.uid.0);
        let key = SearchKey::UidSet(SequenceSet::from_ascending(uids));
        self.sorted_by_keys(view, &key, criteria, collation).await.map(Some)
    }

    async fn sorted_by_keys(
        &self,
        view: &View,
        key: &SearchKey,
        criteria: &[SortCriterion],
        collation: Collation,
    ) -> Result<Sorted> {
        self.sort_plain(view, key, (criteria, SortValues::default()), collation, false).await
    }

    /// The order of all messages, made anew and kept; `None` when one can't be read.
    async fn ordered(
        &self,
        view: &View,
        question: &Question,
        criteria: &[SortCriterion],
        collation: Collation,
    ) -> Result<Option<Arc<Order>>> {
        let sorted = self.sorted_by_keys(view, &SearchKey::All, criteria, collation).await?;
        if sorted.messages.len() != view.exists() as usize {
            return Ok(None);
        }
        let order = Arc::new(Order::new(view, &sorted.messages));
        self.0.keep(view, question.clone(), Kept::Order(order.clone()));
        Ok(Some(order))
    }

    /// A kept order with the positions of a view, and the messages that it has more.
    async fn brought_up(
        &self,
        view: &View,
        question: &Question,
        order: Arc<Order>,
        criteria: &[SortCriterion],
        collation: Collation,
    ) -> Result<Option<Arc<Order>>> {
        let is_newer = view.0.generation > order.generation;
        let order = match view.0.generation == order.generation {
            true => order,
            false => Arc::new(order.moved(view)),
        };
        let news = view.seqs_in_uid_range((order.below.0, u32::MAX));
        let Some((first, last)) = news else {
            if is_newer {
                self.0.keep(view, question.clone(), Kept::Order(order.clone()));
            }
            return Ok(Some(order));
        };
        let come = (last.0 - first.0 + 1) as usize;
        if come * PROBES > order.places.len() {
            return self.ordered(view, question, criteria, collation).await;
        }
        let news = from_uid(order.below);
        let sorted = self.sorted_by_keys(view, &news, criteria, collation).await?;
        if sorted.messages.len() != come {
            return Ok(None);
        }
        let maker = KeyMaker::new(criteria, collation, SortValues::default());
        let (inner, grown) = (self.0.clone(), view.clone());
        let put_in = move || order.with(&inner, &grown, &maker, &sorted.messages);
        let grown = self.0.shared.helpers.run(put_in).await.map_err(|_| Error::Closing)?;
        let Some(grown) = grown.map(Arc::new) else { return Ok(None) };
        self.0.keep(view, question.clone(), Kept::Order(grown.clone()));
        Ok(Some(grown))
    }
}

impl Order {
    /// With messages that came, in their order. Without what is gone, whose keys could not be
    /// compared any more; `None` when another's cannot, either.
    fn with(
        &self,
        inner: &Arc<MailboxInner>,
        view: &View,
        maker: &KeyMaker,
        come: &[(SeqNum, Uid)],
    ) -> Option<Order> {
        let gone = |place: &Place| view.0.tombs.contains(place.position as usize);
        let old: Vec<Place> = self.places.iter().filter(|place| !gone(place)).copied().collect();
        let uids: Vec<Uid> = come.iter().map(|(_, uid)| *uid).collect();
        let order: Vec<Uid> = old.iter().map(|place| place.uid).collect();
        let before = places_among(inner, view, maker, &order, &uids)?;
        let come = Order::new(view, come);
        let mut places = Vec::with_capacity(old.len() + come.places.len());
        let mut taken = 0;
        for (place, before) in come.places.iter().zip(before) {
            places.extend_from_slice(&old[taken..before]);
            places.push(*place);
            taken = before;
        }
        places.extend_from_slice(&old[taken..]);
        Some(Order { places, ..come })
    }
}

impl Threads {
    /// With messages that came, and the threads of all that a view has.
    fn with(
        &self,
        view: &View,
        algorithm: ThreadAlgorithm,
        come: Vec<Clue>,
        references: Vec<u64>,
    ) -> Threads {
        let (mut all, from) = (self.clues.clone(), self.references.len());
        all.extend(come.into_iter().map(|clue| Clue {
            references: clue.references.start + from..clue.references.end + from,
            ..clue
        }));
        let mut threads = Threads {
            maker: self.maker.clone(),
            below: view.below(),
            clues: all,
            references: [&self.references[..], &references[..]].concat(),
            of: self.of,
            nodes: self.nodes.clone(),
        };
        if let Some((nodes, clues)) = threads.told(view, &Among::All, algorithm) {
            threads = threads.told_anew(view, clues, nodes);
        }
        threads
    }

    /// The threads of some messages of a view, with their clues; `None` if one is missing here.
    fn told(
        &self,
        view: &View,
        among: &Among,
        algorithm: ThreadAlgorithm,
    ) -> Option<(Arc<[Node]>, Vec<Clue>)> {
        let mut clues = Vec::with_capacity(among.count(view));
        let mut next = self.clues.iter().peekable();
        let mut take = |seq: SeqNum, uid: Uid| {
            while next.next_if(|clue| clue.uid < uid.0).is_some() {}
            if let Some(clue) = next.next_if(|clue| clue.uid == uid.0) {
                clues.push(Clue { seq: seq.0, ..clue.clone() });
            }
        };
        match among {
            Among::All => view.uids().for_each(|(seq, uid)| take(seq, uid)),
            Among::These(list) => list.iter().for_each(|(seq, found)| take(*seq, found.uid)),
        }
        if clues.len() != among.count(view) {
            return None;
        }
        Some((order::nodes(algorithm, &clues, &self.references), clues))
    }

    /// With the threads of all messages of a view, and the clues of nothing else.
    fn told_anew(&self, view: &View, clues: Vec<Clue>, nodes: Arc<[Node]>) -> Threads {
        let references = self.references.clone();
        let (maker, below, of) = (self.maker.clone(), self.below, view.message_set());
        Threads { maker, below, clues, references, of, nodes }
    }
}

impl Mailbox {
    /// What the threads of a view's messages are made from, and they.
    async fn threaded(
        &self,
        view: &View,
        key: &SearchKey,
        algorithm: ThreadAlgorithm,
        collation: Collation,
    ) -> Result<Threads> {
        let maker = Arc::new(order::ClueMaker::new(algorithm, collation));
        let found = self.clues(view, key, maker.clone(), Some(algorithm)).await?;
        let (below, of) = (view.below(), view.message_set());
        let (clues, references, nodes) = (found.clues, found.references, found.nodes);
        Ok(Threads { maker, below, clues, references, of, nodes })
    }

    /// Clues of the messages that threads do not have.
    async fn clues_from(&self, view: &View, threads: &Threads) -> Result<(Vec<Clue>, Vec<u64>)> {
        let news = from_uid(threads.below);
        let found = self.clues(view, &news, threads.maker.clone(), None).await?;
        Ok((found.clues, found.references))
    }

    fn keep(&self, view: &View, question: Question, kept: Kept) {
        self.0.keep(view, question, kept);
    }
}

impl MailboxInner {
    /// Keeps an answer about all messages of a view, unless one is kept that knows of later ones, or
    /// this one alone would take most of what may be kept.
    fn keep(&self, view: &View, question: Question, kept: Kept) {
        let newest = View(self.view.load_full(), None);
        let is_old = view.0.generation < newest.0.generation;
        if is_old || kept.bytes() > self.shared.config.orders_bytes_max / 2 {
            return;
        }
        self.kept.keep(question, kept, &self.shared.orders);
        self.shared.let_orders_go();
    }
}
