//! Which records of an index are tombstones, with rank and select.
//!
//! Bits lie in blocks of 32,768 records (4 KiB) that views share: an expunge copies the blocks it
//! touches and nothing else. A mailbox without tombstones owns no memory here.

use std::sync::Arc;

const BLOCK_WORDS: usize = 512;
/// Records of one block.
const BLOCK_RECORDS: usize = BLOCK_WORDS * 64;

type Block = [u64; BLOCK_WORDS];

/// An immutable set of record positions.
#[derive(Clone, Default)]
pub(crate) struct Tombstones {
    blocks: Arc<Vec<Option<Arc<Block>>>>,
    /// Tombstones in front of block n.
    before: Arc<Vec<u32>>,
    total: u32,
}

impl Tombstones {
    /// How many.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Whether the record at `index` is one.
    #[inline]
    pub(crate) fn contains(&self, index: usize) -> bool {
        self.total > 0 && self.word(index / 64) & (1 << (index % 64)) != 0
    }

    fn word(&self, word: usize) -> u64 {
        let block = self.blocks.get(word / BLOCK_WORDS).and_then(Option::as_ref);
        block.map_or(0, |b| b[word % BLOCK_WORDS])
    }

    /// The set with more positions.
    pub(crate) fn with(&self, indices: impl IntoIterator<Item = usize>) -> Tombstones {
        let mut blocks = Vec::clone(&self.blocks);
        for index in indices {
            let at = index / BLOCK_RECORDS;
            if blocks.len() <= at {
                blocks.resize(at + 1, None);
            }
            let block = blocks[at].get_or_insert_with(|| Arc::new([0; BLOCK_WORDS]));
            let word = (index % BLOCK_RECORDS) / 64;
            let bit = 1 << (index % 64);
            if block[word] & bit == 0 {
                Arc::make_mut(block)[word] |= bit;
            }
        }
        let mut before = Vec::with_capacity(blocks.len());
        let mut total = 0;
        for block in &blocks {
            before.push(total);
            total += block.as_ref().map_or(0, |b| b.iter().map(|w| w.count_ones()).sum::<u32>());
        }
        Tombstones { blocks: Arc::new(blocks), before: Arc::new(before), total }
    }

    /// Tombstones in front of `index`.
    pub(crate) fn rank(&self, index: usize) -> u32 {
        if self.total == 0 {
            return 0;
        }
        let block = index / BLOCK_RECORDS;
        let Some(&before) = self.before.get(block) else { return self.total };
        let Some(bits) = &self.blocks[block] else { return before };
        let word = (index % BLOCK_RECORDS) / 64;
        let whole: u32 = bits[..word].iter().map(|w| w.count_ones()).sum();
        let part = bits[word] & ((1u64 << (index % 64)) - 1);
        before + whole + part.count_ones()
    }

    /// Tombstones in front of `index`, when it is known how many are in front of a place at or
    /// before it: for walks over many places, ascending.
    pub(crate) fn rank_behind(&self, (at, before): (usize, u32), index: usize) -> u32 {
        if self.total == 0 {
            return 0;
        }
        let block = index / BLOCK_RECORDS;
        if at / BLOCK_RECORDS != block {
            return self.rank(index);
        }
        let Some(Some(bits)) = self.blocks.get(block) else { return self.rank(index) };
        let below = |index: usize| (1u64 << (index % 64)) - 1;
        let (first, last) = ((at % BLOCK_RECORDS) / 64, (index % BLOCK_RECORDS) / 64);
        if first == last {
            return before + (bits[first] & below(index) & !below(at)).count_ones();
        }
        let whole: u32 = bits[first + 1..last].iter().map(|w| w.count_ones()).sum();
        let ends =
            (bits[first] & !below(at)).count_ones() + (bits[last] & below(index)).count_ones();
        before + whole + ends
    }

    /// Position of the nth record (from 0) that is no tombstone, in an endless table.
    pub(crate) fn live(&self, n: usize) -> usize {
        if self.total == 0 {
            return n;
        }
        let live_before = |b: usize| b * BLOCK_RECORDS - self.before[b] as usize;
        let mut low = 0;
        let mut high = self.before.len();
        while high - low > 1 {
            let middle = (low + high) / 2;
            if live_before(middle) <= n { low = middle } else { high = middle }
        }
        let mut left = n - live_before(low);
        let mut word = low * BLOCK_WORDS;
        while word < self.blocks.len() * BLOCK_WORDS {
            let bits = !self.word(word);
            let here = bits.count_ones() as usize;
            if left < here {
                return word * 64 + nth_set_bit(bits, left);
            }
            left -= here;
            word += 1;
        }
        word * 64 + left
    }

    /// Positions in `self` and not in `older`, ascending, below `limit`.
    pub(crate) fn since(&self, older: &Tombstones, limit: usize) -> Vec<usize> {
        let mut out = Vec::new();
        if self.total == older.total {
            return out;
        }
        for (b, block) in self.blocks.iter().enumerate() {
            let Some(bits) = block else { continue };
            let old = older.blocks.get(b).and_then(Option::as_ref);
            if old.is_some_and(|o| Arc::ptr_eq(o, bits)) {
                continue;
            }
            for word in 0..BLOCK_WORDS {
                let mut fresh = bits[word] & !old.map_or(0, |o| o[word]);
                while fresh != 0 {
                    let at = b * BLOCK_RECORDS + word * 64 + fresh.trailing_zeros() as usize;
                    if at < limit {
                        out.push(at);
                    }
                    fresh &= fresh - 1;
                }
            }
        }
        out
    }
}

fn nth_set_bit(mut bits: u64, n: usize) -> usize {
    for _ in 0..n {
        bits &= bits - 1;
    }
    bits.trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Positions near the borders of words and blocks, and anywhere.
    fn position() -> impl Strategy<Value = usize> {
        let border = (0..4usize, 0..130usize)
            .prop_map(|(block, off)| (block * BLOCK_RECORDS + off).saturating_sub(65));
        prop_oneof![border, 0..3 * BLOCK_RECORDS]
    }

    fn batches() -> impl Strategy<Value = Vec<Vec<usize>>> {
        let runs = (position(), 1..300usize).prop_map(|(at, len)| (at..at + len).collect());
        let scattered = prop::collection::vec(position(), 0..40);
        prop::collection::vec(prop_oneof![runs, scattered], 0..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn sets_made_step_by_step_agree_with_a_naive_one(
            batches in batches(),
            probes in prop::collection::vec(position(), 60),
            limit in position(),
        ) {
            let mut naive = BTreeSet::new();
            let mut tombs = Tombstones::default();
            let mut steps = vec![(tombs.clone(), naive.clone())];
            for batch in batches {
                tombs = tombs.with(batch.iter().copied());
                naive.extend(batch);
                steps.push((tombs.clone(), naive.clone()));
            }
            for (tombs, naive) in &steps {
                prop_assert_eq!(tombs.total() as usize, naive.len());
                let mut ascending = probes.clone();
                ascending.sort_unstable();
                let mut known = (0, 0);
                for at in ascending {
                    known = (at, tombs.rank_behind(known, at));
                    prop_assert_eq!(known.1, tombs.rank(at), "rank behind, {}", at);
                }
                for &at in &probes {
                    prop_assert_eq!(tombs.contains(at), naive.contains(&at), "contains {}", at);
                    let dead = naive.range(..at).count();
                    prop_assert_eq!(tombs.rank(at) as usize, dead, "rank {}", at);
                    if !naive.contains(&at) {
                        // Select is rank's inverse.
                        prop_assert_eq!(tombs.live(at - dead), at);
                    }
                }
            }
            for (i, (older, known)) in steps.iter().enumerate() {
                for (newer, all) in &steps[i..] {
                    let fresh: Vec<usize> =
                        all.difference(known).copied().filter(|at| *at < limit).collect();
                    prop_assert_eq!(newer.since(older, limit), fresh);
                }
            }
        }
    }

    #[test]
    fn rank_and_live_agree_with_counting() {
        let dead: Vec<usize> =
            (0..100_000).filter(|i| i % 7 == 3 || (40_000..70_000).contains(i)).collect();
        let tombs = Tombstones::default().with(dead.iter().copied());
        assert_eq!(tombs.total() as usize, dead.len());
        let mut live = 0;
        let mut gone = 0;
        for i in 0..120_000 {
            assert_eq!(tombs.rank(i), gone, "rank {i}");
            if dead.binary_search(&i).is_ok() {
                assert!(tombs.contains(i));
                gone += 1;
            } else {
                assert!(!tombs.contains(i));
                assert_eq!(tombs.live(live), i);
                live += 1;
            }
        }
    }

    #[test]
    fn since_names_the_new_ones() {
        let old = Tombstones::default().with([5, 40_000]);
        let new = old.with([6, 40_001, 99_999]);
        assert_eq!(new.since(&old, 50_000), vec![6, 40_001]);
        assert_eq!(old.since(&old, 50_000), Vec::<usize>::new());
    }
}
