//! Where the message of a file's base name is: a hash table in memory, for mailboxes whose
//! directories are watched.
//!
//! Eight bytes a message: 32 bits of a hash, and the position. The hash is a filter only: a name
//! counts as found when the name in the heap says so too.
//!
//! Invariant: the table covers the positions below `covered` of one generation. Positions behind
//! that are added at the next look; another generation is another table.

use std::hash::{BuildHasher, RandomState};

use super::files::Files;
use crate::error::Result;

/// Slots of an empty table.
const SLOTS_MIN: usize = 64;

/// See the module.
pub(super) struct Bases {
    generation: u32,
    covered: usize,
    hasher: RandomState,
    /// Hash and position + 1; 0 is free. A power of two, at most three quarters in use.
    slots: Vec<(u32, u32)>,
    used: usize,
}

impl Bases {
    fn new(generation: u32, count: usize) -> Bases {
        let slots = (count * 2).next_power_of_two().max(SLOTS_MIN);
        Bases {
            generation,
            covered: 0,
            hasher: RandomState::new(),
            slots: vec![(0, 0); slots],
            used: 0,
        }
    }

    fn insert(&mut self, base: &[u8], position: usize) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            let fresh = vec![(0, 0); self.slots.len() * 2];
            for slot in std::mem::replace(&mut self.slots, fresh) {
                if slot.1 != 0 {
                    self.put(slot);
                }
            }
        }
        let hash = self.hasher.hash_one(base) as u32;
        self.put((hash, position as u32 + 1));
        self.used += 1;
    }

    fn put(&mut self, slot: (u32, u32)) {
        let mask = self.slots.len() - 1;
        let mut at = slot.0 as usize & mask;
        while self.slots[at].1 != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    /// Positions whose names may be `base`.
    fn candidates(&self, base: &[u8]) -> Vec<usize> {
        let hash = self.hasher.hash_one(base) as u32;
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        let mut out = Vec::new();
        while self.slots[at].1 != 0 {
            if self.slots[at].0 == hash {
                out.push(self.slots[at].1 as usize - 1);
            }
            at = (at + 1) & mask;
        }
        out
    }
}

impl Files {
    /// The position of the message whose file has this base name: a living one, else a tombstone.
    /// Reads all names at the first call, and new ones at later calls.
    pub(super) fn find_base(&mut self, base: &[u8]) -> Result<Option<usize>> {
        let mut bases = match self.bases.take() {
            Some(bases)
                if bases.generation == self.head.generation && bases.covered <= self.head.count =>
            {
                bases
            }
            _ => self.all_bases()?,
        };
        while bases.covered < self.head.count {
            match self.location(bases.covered) {
                Some(at) => bases.insert(&at.base, bases.covered),
                None => self.note_nameless(bases.covered),
            }
            bases.covered += 1;
        }
        let mut found = None;
        for position in bases.candidates(base) {
            if self.location(position).is_some_and(|at| at.base == base) {
                let dead = self.is_tombstone(position);
                if !dead || found.is_none() {
                    found = Some((dead, position));
                }
                if !dead {
                    break;
                }
            }
        }
        self.bases = Some(bases);
        Ok(found.map(|(_, position)| position))
    }

    /// Forgets the table: nobody watches any more.
    pub(super) fn forget_bases(&mut self) {
        self.bases = None;
    }

    /// A message without a name that can be read is damaged: its file must not be taken for a new
    /// one's.
    fn note_nameless(&self, position: usize) {
        if !self.is_tombstone(position) {
            self.damage.note(position);
        }
    }

    fn all_bases(&self) -> Result<Bases> {
        let names = self.names()?;
        let mut bases = Bases::new(self.head.generation, self.head.count);
        for position in 0..self.head.count {
            let (base, _) = names.of(position);
            if base.is_empty() {
                self.note_nameless(position);
            } else {
                bases.insert(base, position);
            }
        }
        bases.covered = self.head.count;
        Ok(bases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_also_after_growing() {
        let mut bases = Bases::new(1, 0);
        for n in 0..5000 {
            bases.insert(format!("{n}.host").as_bytes(), n);
        }
        for n in 0..5000 {
            assert!(bases.candidates(format!("{n}.host").as_bytes()).contains(&n));
        }
        let strangers = (5000..10_000).map(|n| bases.candidates(format!("{n}.host").as_bytes()));
        assert!(strangers.map(|found| found.len()).sum::<usize>() < 10, "the hash tells apart");
    }
}
