//! SORT and THREAD over a view. Keys and clues are read in the turns of the search, each turn orders
//! its own, and the last one puts all together: the session's core has no part in it.

use std::sync::Arc;

use protocol::imap::search::SearchKey;
use protocol::imap::sort::{SortCriterion, ThreadAlgorithm, ThreadNode};
use protocol::types::{ModSeq, SeqNum, SequenceSet, Uid};

use super::search::{Gather, Match};
use super::{Mailbox, MailboxInner, View};
use crate::annotation::SortValues;
use crate::collation::Collation;
use crate::error::{Error, Result};
use crate::order::{self, Clue, ClueMaker, KeyMaker, Keyed, Node, Room};
use crate::search::{WordHit, relevancy};

/// Messages in the order that SORT asked for.
#[derive(Debug, Default)]
pub struct Sorted {
    /// The messages.
    pub messages: Vec<(SeqNum, Uid)>,
    /// How relevant each of them is, 1 to 100, if that was asked for.
    pub scores: Vec<u8>,
    /// The highest MODSEQ among them; `None` may stand for it where all were asked for.
    pub modseq: Option<ModSeq>,
}

impl Mailbox {
    /// The messages of a view that match, in the order of `criteria` (RFC 5256) and, where these name
    /// annotations, of their `values`; `rates`: with their relevancy. `$` and `\Recent` have been replaced as for [`Mailbox::search`]. Dropping the
    /// future ends the work.
    ///
    /// # Errors
    /// As [`Mailbox::search`].
    pub async fn sort(
        &self,
        view: &View,
        key: &SearchKey,
        (criteria, values): (&[SortCriterion], SortValues),
        collation: Collation,
        rates: bool,
    ) -> Result<Sorted> {
        if !rates && let Some(sorted) = self.sorted_by_kept(view, key, criteria, collation).await? {
            return Ok(sorted);
        }
        self.sort_plain(view, key, (criteria, values), collation, rates).await
    }

    /// The same by the keys of the messages.
    pub(super) async fn sort_plain(
        &self,
        view: &View,
        key: &SearchKey,
        (criteria, values): (&[SortCriterion], SortValues),
        collation: Collation,
        rates: bool,
    ) -> Result<Sorted> {
        let maker = KeyMaker::new(criteria, collation, values);
        let by_relevancy = maker.by_relevancy();
        let rates = rates || by_relevancy.is_some();
        let sort = Sort { maker, rates, messages: view.exists() };
        self.gather(view, self.program(view, key, collation), sort).await
    }

    /// The threads of the messages of a view that match.
    ///
    /// # Errors
    /// As [`Mailbox::search`].
    pub async fn thread(
        &self,
        view: &View,
        key: &SearchKey,
        algorithm: ThreadAlgorithm,
        collation: Collation,
    ) -> Result<Arc<[ThreadNode<(SeqNum, Uid)>]>> {
        if let Some(nodes) = self.threads_by_kept(view, key, algorithm, collation).await? {
            return Ok(nodes);
        }
        let maker = Arc::new(ClueMaker::new(algorithm, collation));
        Ok(self.clues(view, key, maker, Some(algorithm)).await?.nodes)
    }

    /// The clues of the messages that match; with their threads, if an algorithm is given.
    pub(super) async fn clues(
        &self,
        view: &View,
        key: &SearchKey,
        maker: Arc<ClueMaker>,
        algorithm: Option<ThreadAlgorithm>,
    ) -> Result<Threaded> {
        let program = self.program(view, key, maker.collation());
        self.gather(view, program, Thread { maker, algorithm }).await
    }
}

/// Messages for each of which another place can be looked for in a list before all are sorted anew:
/// that many reads one look takes.
pub(super) const PROBES: usize = 24;

impl Mailbox {
    /// Where in `order`, messages of a view as [`Mailbox::sort`] sorts them, others belong: by the
    /// number of those that come before. `come` is sorted likewise; not for annotations.
    ///
    /// # Errors
    /// As [`Mailbox::search`].
    pub async fn places(
        &self,
        view: &View,
        criteria: &[SortCriterion],
        collation: Collation,
        order: &[Uid],
        come: &[Uid],
    ) -> Result<Vec<usize>> {
        if come.len() * PROBES > order.len() {
            let uids = |some: &[Uid]| some.iter().map(|uid| uid.0).collect::<Vec<_>>();
            let (mut all, mut others) = ([uids(order), uids(come)].concat(), uids(come));
            all.sort_unstable();
            others.sort_unstable();
            let key = SearchKey::UidSet(SequenceSet::from_ascending(all));
            let by = (criteria, SortValues::default());
            let sorted = self.sort(view, &key, by, collation, false).await?;
            let (mut before, mut places) = (0, Vec::with_capacity(come.len()));
            for (_, uid) in sorted.messages {
                match others.binary_search(&uid.0) {
                    Ok(_) => places.push(before),
                    Err(_) => before += 1,
                }
            }
            return Ok(places);
        }
        let (inner, view) = (self.0.clone(), view.clone());
        let (order, come) = (order.to_vec(), come.to_vec());
        let maker = KeyMaker::new(criteria, collation, SortValues::default());
        let look = move || places_among(&inner, &view, &maker, &order, &come).unwrap_or_default();
        self.0.shared.helpers.run(look).await.map_err(|_| Error::Closing)
    }
}

/// As [`Mailbox::places`], by looks into the order; blocks. `None` when a message can't be read.
pub(super) fn places_among(
    inner: &Arc<MailboxInner>,
    view: &View,
    maker: &KeyMaker,
    order: &[Uid],
    come: &[Uid],
) -> Option<Vec<usize>> {
    let mut room = Room::default();
    let mut missed = false;
    let mut key_of = |uid: Uid| {
        let mut octets = Vec::new();
        let mut written = false;
        if let Some((seq, _)) = view.record_of(uid) {
            inner.sweep(view, seq, seq, &mut |record, mut swept| {
                let wanted = maker.wants_fields(record.sent_date);
                let write = |record: &_, fields: crate::search::Fields<'_>| {
                    maker.write(record, &fields, &mut room, &mut octets)
                };
                written = swept.as_match().with_fields(wanted, write).is_ok();
                true
            });
        }
        missed |= !written;
        (octets, uid)
    };
    let mut places = Vec::with_capacity(come.len());
    let mut from = 0;
    for uid in come {
        let key = key_of(*uid);
        from += order[from..].partition_point(|there| key_of(*there) < key);
        places.push(from);
    }
    (!missed).then_some(places)
}

struct Sort {
    maker: KeyMaker,
    rates: bool,
    /// Messages of the view.
    messages: u32,
}

#[derive(Default)]
struct SortBatch {
    batch: order::Batch,
    /// By message: its size and how well it matches.
    measured: Vec<(u32, Box<[WordHit]>)>,
    modseq: Option<ModSeq>,
    room: Room,
}

impl Gather for Sort {
    type Batch = SortBatch;
    type Answer = Sorted;

    fn keep(&self, mut found: Match<'_, '_>, into: &mut SortBatch) -> Result<()> {
        let (seq, uid) = (found.seq(), found.record().uid);
        into.modseq = into.modseq.max(Some(found.record().modseq));
        if self.rates {
            into.measured.push((found.record().size, found.hits()));
        }
        let SortBatch { batch, room, .. } = into;
        let at = batch.octets.len();
        let wanted = self.maker.wants_fields(found.record().sent_date);
        let write = |record: &_, fields: crate::search::Fields<'_>| {
            self.maker.write(record, &fields, room, &mut batch.octets)
        };
        let rating = found.with_fields(wanted, write);
        match rating {
            Ok(rating) => {
                batch.messages.push(Keyed::new(seq, uid, &batch.octets, at, rating));
                Ok(())
            }
            Err(error) => {
                batch.octets.truncate(at);
                if self.rates {
                    into.measured.pop();
                }
                Err(error)
            }
        }
    }

    fn settle(&self, batch: &mut SortBatch) {
        if !self.rates {
            batch.batch.sort();
        }
    }

    fn finish(&self, batches: Vec<SortBatch>) -> Sorted {
        let mut all = order::Batch::default();
        let (mut measured, mut modseq) = (Vec::new(), None);
        all.reserve(batches.iter().map(|turn| &turn.batch));
        for turn in batches {
            all.append(turn.batch);
            measured.extend(turn.measured);
            modseq = modseq.max(turn.modseq);
        }
        let mut scores = Vec::new();
        if self.rates {
            let hits: Vec<_> = measured.iter().map(|(size, hits)| (*size, &**hits)).collect();
            let rated = relevancy(&hits, self.messages);
            if let Some(reverse) = self.maker.by_relevancy() {
                all.rate(&rated, reverse);
            }
            // What was found comes in the order of the view.
            let places: Vec<SeqNum> = all.messages.iter().map(|keyed| keyed.seq).collect();
            all.sort();
            let score = |keyed: &Keyed| {
                places.binary_search(&keyed.seq).ok().and_then(|place| rated.get(place)).copied()
            };
            scores = all.messages.iter().map(|keyed| score(keyed).unwrap_or(1)).collect();
        } else {
            all.sort();
        }
        let messages = all.messages.iter().map(|keyed| (keyed.seq, keyed.uid)).collect();
        Sorted { messages, scores, modseq }
    }
}

struct Thread {
    maker: Arc<ClueMaker>,
    algorithm: Option<ThreadAlgorithm>,
}

/// Messages and their threads.
pub(super) struct Threaded {
    /// In the order of the view.
    pub(super) clues: Vec<Clue>,
    pub(super) references: Vec<u64>,
    /// None if no algorithm was given.
    pub(super) nodes: Arc<[Node]>,
}

#[derive(Default)]
struct ThreadBatch {
    clues: Vec<Clue>,
    references: Vec<u64>,
    room: Room,
}

impl Gather for Thread {
    type Batch = ThreadBatch;
    type Answer = Threaded;

    fn keep(&self, mut found: Match<'_, '_>, batch: &mut ThreadBatch) -> Result<()> {
        let ThreadBatch { clues, references, room } = batch;
        let clue = found.with_fields(true, |record, fields| {
            self.maker.clue(record, &fields, room, references)
        })?;
        clues.push(clue);
        Ok(())
    }

    fn finish(&self, batches: Vec<ThreadBatch>) -> Self::Answer {
        let mut clues: Vec<Clue> = Vec::with_capacity(batches.iter().map(|b| b.clues.len()).sum());
        let mut references = Vec::with_capacity(batches.iter().map(|b| b.references.len()).sum());
        for batch in batches {
            let from = references.len();
            references.extend_from_slice(&batch.references);
            let moved = |clue: Clue| Clue {
                references: clue.references.start + from..clue.references.end + from,
                ..clue
            };
            clues.extend(batch.clues.into_iter().map(moved));
        }
        let nodes = match self.algorithm {
            Some(algorithm) => order::nodes(algorithm, &clues, &references),
            None => Arc::default(),
        };
        Threaded { clues, references, nodes }
    }
}
