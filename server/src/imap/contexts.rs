//! Searches whose results the client is kept told of: UPDATE of RFC 5267.
//!
//! A context remembers what it was asked and which messages it has told. At a sync point the messages
//! that came, changed or went are looked at, and no others: those that went are told before their
//! EXPUNGE, the others after the EXISTS and FETCH that are the cause. Contexts of SEARCH have their
//! results as UID ranges and tell no positions; contexts of SORT have a list, and tell where in it
//! messages come and go.
//!
//! Invariant: a context's results are what the same command would find in the session's view, flags
//! as they were looked at last.

use engine::{Changes, Collation, Mailbox, SortValues, View};
use protocol::imap::SearchKey;
use protocol::imap::command::Tag;
use protocol::imap::encode;
use protocol::imap::sort::{SortCriterion, SortKey};
use protocol::types::{SequenceSet, Uid};

/// Updates that one session can have at a time; for more NOUPDATE is told.
pub(super) const UPDATES_MAX: usize = 32;

/// The searches of a session that asked for updates.
#[derive(Default)]
pub(super) struct Contexts(Vec<Context>);

/// One of them.
pub(super) struct Context {
    pub(super) tag: Tag,
    /// Tells UIDs rather than sequence numbers.
    pub(super) uid: bool,
    /// What messages have to meet; sequence numbers and `$` were replaced when it was asked.
    pub(super) key: SearchKey,
    pub(super) collation: Collation,
    pub(super) results: Results,
}

/// What the client knows of a context's results.
pub(super) enum Results {
    /// Ascending UID ranges.
    Found(Vec<(u32, u32)>),
    /// In the order of the criteria.
    Sorted(Vec<SortCriterion>, Vec<Uid>),
}

/// A position and the numbers that come or go there.
type Pairs = Vec<(u32, SequenceSet)>;

impl Contexts {
    /// Whether there is nothing to be told, ever.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one has this tag.
    pub(super) fn has(&self, tag: &str) -> bool {
        self.0.iter().any(|context| context.tag.as_str() == tag)
    }

    /// Whether one more can be kept up to date: not where what changes in one message changes the
    /// place of others, nor by annotations, which the view does not show.
    pub(super) fn can_add(&self, key: &SearchKey, criteria: &[SortCriterion]) -> bool {
        use SortKey::{Annotation, ModSeq, Relevancy};
        let moves = |c: &SortCriterion| matches!(c.key, Relevancy | ModSeq | Annotation(_));
        let many = self.0.len() >= UPDATES_MAX;
        !many && !key.names_annotations() && !criteria.iter().any(moves)
    }

    pub(super) fn add(&mut self, context: Context) {
        self.0.push(context);
    }

    /// Ends all; returns their tags.
    pub(super) fn into_tags(self) -> impl Iterator<Item = Tag> {
        self.0.into_iter().map(|context| context.tag)
    }

    pub(super) fn cancel(&mut self, tag: &str) {
        self.0.retain(|context| context.tag.as_str() != tag);
    }

    /// Takes messages out of all results that are gone from `view`, the client's view until now.
    pub(super) fn remove(&mut self, view: &View, gone: &[Uid], out: &mut Vec<u8>) {
        for context in &mut self.0 {
            let number = context.number_in(view);
            let removed = context.results.remove(gone, &number);
            context.write(out, "REMOVEFROM", &removed);
        }
    }

    /// Looks at messages that came or changed, and tells what that changes in the results. `view` is
    /// what the client knows now; `settle` replaces what only the session knows.
    pub(super) async fn update(
        &mut self,
        mailbox: &Mailbox,
        view: &View,
        touched: &[Uid],
        settle: &dyn Fn(SearchKey) -> SearchKey,
        out: &mut Vec<u8>,
    ) -> engine::Result<()> {
        for context in &mut self.0 {
            let numbers = touched.iter().map(|uid| uid.0);
            let among = SearchKey::UidSet(SequenceSet::from_ascending(numbers));
            let key = SearchKey::And(vec![among, settle(context.key.clone())]);
            let matching: Vec<Uid> = match &context.results {
                Results::Found(_) => {
                    let found = mailbox.search(view, &key, context.collation).await?;
                    found.iter().map(|(_, message)| message.uid).collect()
                }
                Results::Sorted(criteria, _) => {
                    let by = (&criteria[..], SortValues::default());
                    let sort = mailbox.sort(view, &key, by, context.collation, false);
                    sort.await?.messages.iter().map(|(_, uid)| *uid).collect()
                }
            };
            let mut matches = matching.clone();
            matches.sort_unstable();
            let fails = |uid: &&Uid| matches.binary_search(uid).is_err();
            let gone: Vec<Uid> = touched.iter().filter(fails).copied().collect();
            let number = context.number_in(view);
            let removed = context.results.remove(&gone, &number);
            let come = context.results.missing(matching);
            let places = match &context.results {
                Results::Sorted(criteria, order) if !come.is_empty() => {
                    let placing = mailbox.places(view, criteria, context.collation, order, &come);
                    placing.await?
                }
                _ => Vec::new(),
            };
            let added = context.results.add(&come, &places, &number);
            context.write(out, "REMOVEFROM", &removed);
            context.write(out, "ADDTO", &added);
        }
        Ok(())
    }
}

/// Messages that came or changed, ascending.
pub(super) fn touched(changes: &Changes, old: &View, newest: &View) -> Vec<Uid> {
    let first = old.uid_next();
    let mut touched: Vec<Uid> = changes.flags.iter().copied().filter(|uid| *uid < first).collect();
    if let Some((from, to)) = newest.seqs_in_uid_range((first.0, u32::MAX)) {
        touched.extend(newest.records(from, to).map(|(_, record)| record.uid));
    }
    touched
}

impl Context {
    /// What a message is called in this context's answers.
    fn number_in(&self, view: &View) -> impl Fn(Uid) -> Option<u32> + use<> {
        let (uid, view) = (self.uid, view.clone());
        move |message: Uid| if uid { Some(message.0) } else { view.seq(message).map(|seq| seq.0) }
    }

    fn write(&self, out: &mut Vec<u8>, what: &str, pairs: &Pairs) {
        if !pairs.is_empty() {
            encode::context_update(out, &self.tag, self.uid, what, pairs);
        }
    }
}

impl Results {
    /// Those of some messages that are not among them.
    fn missing(&self, mut some: Vec<Uid>) -> Vec<Uid> {
        match self {
            Results::Found(ranges) => some.retain(|uid| !has(ranges, uid.0)),
            Results::Sorted(_, order) if some.len() < 8 => some.retain(|uid| !order.contains(uid)),
            Results::Sorted(_, order) => {
                let mut known = order.clone();
                known.sort_unstable();
                some.retain(|uid| known.binary_search(uid).is_err());
            }
        }
        some
    }

    /// Takes messages out (ascending; some may not be there); returns what is to be told.
    fn remove(&mut self, gone: &[Uid], number: &dyn Fn(Uid) -> Option<u32>) -> Pairs {
        match self {
            Results::Found(ranges) => {
                let there: Vec<Uid> =
                    gone.iter().copied().filter(|uid| has(ranges, uid.0)).collect();
                if there.is_empty() {
                    return Vec::new();
                }
                take_out(ranges, &there);
                anywhere(&there, number)
            }
            Results::Sorted(_, order) => {
                let goes = |uid: &Uid| gone.binary_search(uid).is_ok();
                // Runs of neighbours, the last first, so that positions hold still.
                let mut runs: Vec<(usize, Vec<Uid>)> = Vec::new();
                for (at, uid) in order.iter().enumerate().filter(|(_, uid)| goes(uid)) {
                    match runs.last_mut() {
                        Some((first, run)) if *first + run.len() == at => run.push(*uid),
                        _ => runs.push((at, vec![*uid])),
                    }
                }
                order.retain(|uid| !goes(uid));
                let pair = |(at, run): (usize, Vec<Uid>)| (at as u32 + 1, set(&run, number));
                runs.into_iter().rev().map(pair).collect()
            }
        }
    }

    /// Puts messages in that are not there; in a sorted list, before the places (counted from 0, in
    /// the list as it is) that `places` tells, rising. Returns what is to be told.
    fn add(
        &mut self,
        come: &[Uid],
        places: &[usize],
        number: &dyn Fn(Uid) -> Option<u32>,
    ) -> Pairs {
        if come.is_empty() {
            return Vec::new();
        }
        match self {
            Results::Found(ranges) => {
                put_in(ranges, come);
                anywhere(come, number)
            }
            Results::Sorted(_, order) => {
                let mut grown = Vec::with_capacity(order.len() + come.len());
                let mut runs: Vec<(usize, Vec<Uid>)> = Vec::new();
                let mut from = 0;
                for (uid, &place) in come.iter().zip(places) {
                    let place = place.clamp(from, order.len());
                    grown.extend_from_slice(&order[from..place]);
                    from = place;
                    match runs.last_mut() {
                        Some((first, run)) if *first + run.len() == grown.len() => run.push(*uid),
                        _ => runs.push((grown.len(), vec![*uid])),
                    }
                    grown.push(*uid);
                }
                grown.extend_from_slice(&order[from..]);
                *order = grown;
                let pair = |(at, run): (usize, Vec<Uid>)| (at as u32 + 1, set(&run, number));
                runs.into_iter().map(pair).collect()
            }
        }
    }
}

fn set(uids: &[Uid], number: &dyn Fn(Uid) -> Option<u32>) -> SequenceSet {
    SequenceSet::from_ascending(uids.iter().filter_map(|uid| number(*uid)))
}

/// Position 0: the client keeps its list in mailbox order.
fn anywhere(uids: &[Uid], number: &dyn Fn(Uid) -> Option<u32>) -> Pairs {
    vec![(0, set(uids, number))]
}

fn has(ranges: &[(u32, u32)], n: u32) -> bool {
    let after = ranges.partition_point(|range| range.0 <= n);
    after > 0 && n <= ranges[after - 1].1
}

/// Takes ascending numbers out of ascending ranges.
fn take_out(ranges: &mut Vec<(u32, u32)>, gone: &[Uid]) {
    let mut rest = gone.iter().map(|uid| uid.0).peekable();
    let mut left = Vec::with_capacity(ranges.len());
    for &(first, last) in ranges.iter() {
        let mut from = Some(first);
        while rest.next_if(|n| *n < first).is_some() {}
        while let Some(n) = rest.next_if(|n| *n <= last) {
            if let Some(from) = from.filter(|from| *from < n) {
                left.push((from, n - 1));
            }
            from = n.checked_add(1);
        }
        if let Some(from) = from.filter(|from| *from <= last) {
            left.push((from, last));
        }
    }
    *ranges = left;
}

/// Puts ascending numbers into ascending ranges.
fn put_in(ranges: &mut Vec<(u32, u32)>, come: &[Uid]) {
    let mut all = std::mem::take(ranges);
    all.extend(come.iter().map(|uid| (uid.0, uid.0)));
    all.sort_unstable();
    for (first, last) in all {
        match ranges.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => ranges.push((first, last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client does with an update.
    fn apply(list: &mut Vec<u32>, what: &str, pairs: &Pairs) {
        for (position, set) in pairs {
            // A range counts upwards, a list in its order.
            let numbers: Vec<u32> = set
                .to_string()
                .split(',')
                .flat_map(|part| {
                    let (a, b) = part.split_once(':').unwrap_or((part, part));
                    a.parse::<u32>().unwrap()..=b.parse().unwrap()
                })
                .collect();
            match (what, *position as usize) {
                ("ADDTO", 0) => {
                    list.extend(&numbers);
                    list.sort_unstable();
                }
                ("ADDTO", at) => drop(list.splice(at - 1..at - 1, numbers)),
                (_, 0) => list.retain(|n| !numbers.contains(n)),
                (_, at) => {
                    let taken: Vec<u32> = list.drain(at - 1..at - 1 + numbers.len()).collect();
                    assert_eq!(taken, numbers, "what is taken is what is there");
                }
            }
        }
    }

    /// Changes to lists, applied as a client would, beside the lists themselves; a seed a run.
    #[test]
    fn a_client_that_applies_updates_has_what_the_server_has() {
        let number = |uid: Uid| Some(uid.0);
        for seed in 0..400u64 {
            let mut state = seed * 2 + 1;
            let mut random = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let sorted = seed % 2 == 1;
            // The order of the criteria: by a made-up key, then by UID.
            let key = |uid: u32| ((uid.wrapping_mul(2_654_435_761) >> 28) * u32::from(sorted), uid);
            let mut results = match sorted {
                true => Results::Sorted(vec![], vec![]),
                false => Results::Found(vec![]),
            };
            let mut client = Vec::new();
            let mut truth: Vec<u32> = Vec::new();
            for _ in 0..12 {
                let some: Vec<u32> = (1..40).filter(|_| random(4) == 0).collect();
                if random(2) == 0 {
                    let gone: Vec<Uid> = some.iter().copied().map(Uid).collect();
                    truth.retain(|n| !some.contains(n));
                    apply(&mut client, "REMOVEFROM", &results.remove(&gone, &number));
                } else {
                    let mut come: Vec<u32> =
                        some.into_iter().filter(|n| !truth.contains(n)).collect();
                    come.sort_by_key(|n| key(*n));
                    let place = |n: &u32| truth.partition_point(|there| key(*there) < key(*n));
                    let places: Vec<usize> = come.iter().map(place).collect();
                    let uids: Vec<Uid> = come.iter().copied().map(Uid).collect();
                    apply(&mut client, "ADDTO", &results.add(&uids, &places, &number));
                    truth.extend(come);
                    truth.sort_by_key(|n| key(*n));
                }
                assert_eq!(client, truth, "seed {seed}");
                let missing = results.missing((1..40).map(Uid).collect());
                assert!((1..40).all(|n| missing.contains(&Uid(n)) != truth.contains(&n)));
            }
        }
    }

    #[test]
    fn neighbours_are_told_together() {
        let number = |uid: Uid| Some(uid.0);
        let uids = |numbers: &[u32]| numbers.iter().copied().map(Uid).collect::<Vec<_>>();
        let mut results = Results::Sorted(vec![], uids(&[2734, 2735]));
        // RFC 5267 section 4.3.3, the preferred form.
        let added = results.add(&uids(&[2731, 2732, 2733]), &[0, 0, 0], &number);
        assert_eq!(added.len(), 1);
        assert_eq!((added[0].0, added[0].1.to_string()), (1, "2731:2733".to_owned()));
        let removed = results.remove(&uids(&[2731, 2734, 2735]), &number);
        let told: Vec<_> = removed.iter().map(|(at, set)| (*at, set.to_string())).collect();
        assert_eq!(told, [(4, "2734:2735".to_owned()), (1, "2731".to_owned())]);
    }
}
