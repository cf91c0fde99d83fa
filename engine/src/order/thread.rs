//! The threading algorithms of RFC 5256, and REFS.
//!
//! A message's parent is a number in an array; who belongs to the same parent is found by going
//! through all messages once in the order of their dates, so that siblings come in order without
//! being sorted. Nothing recurses: how deep threads are costs no stack.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use protocol::imap::sort::{ThreadAlgorithm, ThreadNode};
use protocol::types::{SeqNum, Uid};

use super::{Clue, Node};

/// No node, no message.
const NONE: u32 = u32::MAX;

/// Ancestors that are looked at in all while links are made. Real mail needs a few for each
/// message; beyond, a link that might make a loop is left out, so that a mailbox made to be slow
/// gets shorter threads.
const ANCESTOR_STEPS_MAX: usize = 50_000_000;

/// Hashes are keyed and random already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.0 = self.0 << 8 ^ u64::from(*octet));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type ByHash<T> = HashMap<u64, T, BuildHasherDefault<AsItIs>>;

/// The threads of messages given in mailbox order; `references` holds what their clues point to.
/// Messages are told by their place in `clues`.
fn threads(algorithm: ThreadAlgorithm, clues: &[Clue], references: &[u64]) -> Vec<ThreadNode<u32>> {
    let order = by_date(clues);
    match algorithm {
        ThreadAlgorithm::OrderedSubject => {
            let parents = by_subject(clues, &order);
            Forest::new(parents, clues.len()).told(&order)
        }
        ThreadAlgorithm::References => {
            let mut forest = Forest::linked(clues, references);
            forest.gather_subjects(clues, &order);
            forest.told(&order)
        }
        ThreadAlgorithm::Refs => {
            let forest = Forest::linked(clues, references);
            forest.told_by_newest(&order)
        }
    }
}

/// The same, with the messages' numbers.
pub(crate) fn nodes(algorithm: ThreadAlgorithm, clues: &[Clue], references: &[u64]) -> Arc<[Node]> {
    let message = |place: u32| {
        let clue = &clues[place as usize];
        (SeqNum(clue.seq), Uid(clue.uid))
    };
    threads(algorithm, clues, references)
        .into_iter()
        .map(|node| ThreadNode { message: node.message.map(message), children: node.children })
        .collect()
}

/// Places in `clues` by sent date, those of one date in mailbox order.
fn by_date(clues: &[Clue]) -> Vec<u32> {
    let mut order: Vec<(i64, u32)> = clues.iter().map(|clue| clue.date).zip(0..).collect();
    order.sort();
    order.into_iter().map(|(_, place)| place).collect()
}

/// ORDEREDSUBJECT: the first message of a subject is the parent of the others.
fn by_subject(clues: &[Clue], order: &[u32]) -> Vec<u32> {
    let mut firsts = ByHash::<u32>::default();
    let mut parents = vec![NONE; clues.len()];
    for &place in order {
        let first = *firsts.entry(clues[place as usize].subject).or_insert(place);
        if first != place {
            parents[place as usize] = first;
        }
    }
    parents
}

/// Messages, by their places in the clues, and behind them parents that are no messages.
struct Forest {
    /// Each node's parent, or [`NONE`]. Only messages have one.
    parents: Vec<u32>,
    /// How many nodes are messages.
    messages: usize,
}

impl Forest {
    fn new(parents: Vec<u32>, messages: usize) -> Forest {
        Forest { parents, messages }
    }

    /// Steps 1 to 3: nodes are linked by ids, and parents that are no messages pruned.
    fn linked(clues: &[Clue], references: &[u64]) -> Forest {
        let mut links = Links::new(clues);
        for (place, clue) in (0..).zip(clues) {
            links.add(place, &references[clue.references.clone()]);
        }
        links.pruned(clues.len())
    }

    fn is_message(&self, node: u32) -> bool {
        (node as usize) < self.messages
    }

    /// The nodes without a parent, in the order of their dates: of their earliest children, where
    /// they are no messages.
    fn roots(&self, order: &[u32]) -> Vec<u32> {
        let mut seen = vec![false; self.parents.len() - self.messages];
        let mut roots = Vec::new();
        for &place in order {
            let parent = self.parents[place as usize];
            if parent == NONE {
                roots.push(place);
            } else if !self.is_message(parent)
                && !std::mem::replace(&mut seen[parent as usize - self.messages], true)
            {
                roots.push(parent);
            }
        }
        roots
    }

    /// Step 5: threads of one subject become one.
    fn gather_subjects(&mut self, clues: &[Clue], order: &[u32]) {
        let roots = self.roots(order);
        // The first child of each parent that is no message.
        let mut firsts = vec![NONE; self.parents.len() - self.messages];
        for &place in order {
            let parent = self.parents[place as usize];
            if parent != NONE && !self.is_message(parent) {
                let first = &mut firsts[parent as usize - self.messages];
                if *first == NONE {
                    *first = place;
                }
            }
        }
        let speaker = |node: u32| match (node as usize).checked_sub(self.messages) {
            None => node,
            Some(at) => firsts[at],
        };
        let subject = |node: u32| clues[speaker(node) as usize].subject;
        let is_reply = |node: u32| clues[speaker(node) as usize].is_reply;
        let is_message = |node: u32| (node as usize) < self.messages;
        // (B)
        let mut table = ByHash::<u32>::default();
        for &node in roots.iter().filter(|node| subject(**node) != 0) {
            let there = table.entry(subject(node)).or_insert(node);
            if is_message(*there) && (!is_message(node) || is_reply(*there) && !is_reply(node)) {
                *there = node;
            }
        }
        // (C)
        let mut parents = std::mem::take(&mut self.parents);
        let mut merged = HashMap::<u32, u32>::new();
        for &node in roots.iter().filter(|node| subject(**node) != 0) {
            let Some(there) = table.get_mut(&subject(node)).filter(|there| **there != node) else {
                continue;
            };
            if !is_message(node) {
                // By (B) the one in the table is none, either.
                merged.insert(node, *there);
            } else if !is_message(*there) || is_reply(node) && !is_reply(*there) {
                parents[node as usize] = *there;
            } else {
                let parent = parents.len() as u32;
                parents.push(NONE);
                parents[*there as usize] = parent;
                parents[node as usize] = parent;
                *there = parent;
            }
        }
        if !merged.is_empty() {
            for parent in &mut parents[..self.messages] {
                *parent = *merged.get(parent).unwrap_or(parent);
            }
        }
        self.parents = parents;
    }

    /// Step 6: the threads in their order.
    fn told(&self, order: &[u32]) -> Vec<ThreadNode<u32>> {
        let roots = self.roots(order);
        self.tell(&roots, order)
    }

    /// As [`Forest::told`], with the threads in the order of their newest messages.
    fn told_by_newest(&self, order: &[u32]) -> Vec<ThreadNode<u32>> {
        let mut tops = vec![NONE; self.parents.len()];
        let mut seen = vec![false; self.parents.len()];
        let mut roots = Vec::new();
        let mut way = Vec::new();
        for &place in order.iter().rev() {
            let mut node = place;
            while tops[node as usize] == NONE && self.parents[node as usize] != NONE {
                way.push(node);
                node = self.parents[node as usize];
            }
            let top = if tops[node as usize] == NONE { node } else { tops[node as usize] };
            tops[node as usize] = top;
            way.drain(..).for_each(|node| tops[node as usize] = top);
            if !std::mem::replace(&mut seen[top as usize], true) {
                roots.push(top);
            }
        }
        roots.reverse();
        self.tell(&roots, order)
    }

    fn tell(&self, roots: &[u32], order: &[u32]) -> Vec<ThreadNode<u32>> {
        // Where each node's children begin, then the children, by rising date.
        let mut ends = vec![0u32; self.parents.len() + 1];
        for parent in self.parents.iter().filter(|parent| **parent != NONE) {
            ends[*parent as usize + 1] += 1;
        }
        for at in 1..ends.len() {
            ends[at] += ends[at - 1];
        }
        let mut next = ends.clone();
        let mut children = vec![NONE; ends.last().map_or(0, |end| *end as usize)];
        for &place in order {
            let parent = self.parents[place as usize];
            if parent != NONE {
                let at = &mut next[parent as usize];
                children[*at as usize] = place;
                *at += 1;
            }
        }
        let mut told = Vec::with_capacity(self.parents.len());
        let mut waiting: Vec<u32> = Vec::new();
        for &root in roots {
            waiting.push(root);
            while let Some(node) = waiting.pop() {
                let (from, to) = (ends[node as usize], ends[node as usize + 1]);
                let message = self.is_message(node).then_some(node);
                told.push(ThreadNode { message, children: to - from });
                waiting.extend(children[from as usize..to as usize].iter().rev());
            }
        }
        told
    }
}

/// Nodes while they are linked: messages, and behind them those that are only referred to.
struct Links {
    nodes: ByHash<u32>,
    parents: Vec<u32>,
    has_children: Vec<bool>,
    steps_left: usize,
}

impl Links {
    fn new(clues: &[Clue]) -> Links {
        let mut nodes = ByHash::with_capacity_and_hasher(clues.len(), Default::default());
        for (place, clue) in (0..).zip(clues) {
            if clue.id != 0 {
                // The first message of an id has it.
                nodes.entry(clue.id).or_insert(place);
            }
        }
        let parents = vec![NONE; clues.len()];
        let has_children = vec![false; clues.len()];
        Links { nodes, parents, has_children, steps_left: ANCESTOR_STEPS_MAX }
    }

    fn node(&mut self, id: u64) -> u32 {
        let fresh = self.parents.len() as u32;
        let node = *self.nodes.entry(id).or_insert(fresh);
        if node == fresh {
            self.parents.push(NONE);
            self.has_children.push(false);
        }
        node
    }

    /// Step 1 for one message.
    fn add(&mut self, place: u32, references: &[u64]) {
        let mut before = NONE;
        for &id in references {
            let node = self.node(id);
            if before != NONE && self.parents[node as usize] == NONE {
                self.link(before, node);
            }
            before = node;
        }
        self.parents[place as usize] = NONE;
        if before != NONE {
            self.link(before, place);
        }
    }

    /// Makes a node without a parent the child of another, unless that is below it.
    fn link(&mut self, parent: u32, child: u32) {
        if self.has_children[child as usize] || parent == child {
            let mut above = parent;
            while above != NONE {
                let Some(left) = self.steps_left.checked_sub(1) else { return };
                self.steps_left = left;
                if above == child {
                    return;
                }
                above = self.parents[above as usize];
            }
        }
        self.parents[child as usize] = parent;
        self.has_children[parent as usize] = true;
    }

    /// Step 3: a message's parent is the nearest message above, or the topmost node if none is and
    /// others have it, too.
    fn pruned(self, messages: usize) -> Forest {
        let Links { mut parents, .. } = self;
        let is_message = |node: u32| (node as usize) < messages;
        // For nodes that are no messages: what takes their place.
        let mut stands_for = vec![NONE; parents.len() - messages];
        let mut way = Vec::new();
        for place in 0..messages {
            let mut node = parents[place];
            if node == NONE || is_message(node) {
                continue;
            }
            let found = loop {
                let at = node as usize - messages;
                if stands_for[at] != NONE {
                    break stands_for[at];
                }
                way.push(at);
                match parents[node as usize] {
                    NONE => break node,
                    above if is_message(above) => break above,
                    above => node = above,
                }
            };
            way.drain(..).for_each(|at| stands_for[at] = found);
            parents[place] = found;
        }
        let mut counts = vec![0u32; parents.len() - messages];
        for parent in parents[..messages].iter().filter(|p| **p != NONE && !is_message(**p)) {
            counts[*parent as usize - messages] += 1;
        }
        for parent in &mut parents[..messages] {
            if *parent != NONE && !is_message(*parent) && counts[*parent as usize - messages] == 1 {
                *parent = NONE;
            }
        }
        parents[messages..].fill(NONE);
        Forest::new(parents, messages)
    }
}

#[cfg(test)]
mod tests;
