//! The algorithms beside one that follows RFC 5256 to the letter, with trees of vectors.

use proptest::prelude::*;

use super::*;

/// A node of the naive algorithm.
#[derive(Clone, Debug, Default)]
struct Node {
    message: Option<u32>,
    parent: Option<usize>,
    children: Vec<usize>,
}

struct Naive<'a> {
    clues: &'a [Clue],
    nodes: Vec<Node>,
}

impl Naive<'_> {
    fn is_below(&self, node: usize, above: usize) -> bool {
        node == above || self.nodes[node].parent.is_some_and(|parent| self.is_below(parent, above))
    }

    fn cut(&mut self, node: usize) {
        if let Some(parent) = self.nodes[node].parent.take() {
            self.nodes[parent].children.retain(|child| *child != node);
        }
    }

    fn put_below(&mut self, node: usize, parent: usize) {
        self.cut(node);
        self.nodes[node].parent = Some(parent);
        self.nodes[parent].children.push(node);
    }

    fn is_dummy(&self, node: usize) -> bool {
        self.nodes[node].message.is_none()
    }

    /// (date, place) by which a node is sorted.
    fn date(&self, node: usize) -> (i64, u32) {
        match self.nodes[node].message {
            Some(place) => (self.clues[place as usize].date, place),
            None => self.nodes[node].children.iter().map(|child| self.date(*child)).min().unwrap(),
        }
    }

    fn first(&self, node: usize) -> &Clue {
        &self.clues[self.date(node).1 as usize]
    }

    fn newest(&self, node: usize) -> (i64, u32) {
        let own = self.nodes[node].message.map(|place| (self.clues[place as usize].date, place));
        let below = self.nodes[node].children.iter().map(|child| self.newest(*child));
        own.into_iter().chain(below).max().unwrap()
    }

    fn prune(&mut self, node: usize) {
        for child in self.nodes[node].children.clone() {
            self.prune(child);
        }
        if !self.is_dummy(node) {
            return;
        }
        let (parent, children) = (self.nodes[node].parent, self.nodes[node].children.clone());
        match parent {
            _ if children.is_empty() => self.cut(node),
            Some(parent) => {
                self.cut(node);
                children.iter().for_each(|child| self.put_below(*child, parent));
            }
            None if children.len() == 1 => self.cut(children[0]),
            None => {}
        }
    }

    fn told(&self, node: usize, out: &mut Vec<ThreadNode<u32>>) {
        let mut children = self.nodes[node].children.clone();
        children.sort_by_key(|child| self.date(*child));
        let message = self.nodes[node].message;
        out.push(ThreadNode { message, children: children.len() as u32 });
        children.iter().for_each(|child| self.told(*child, out));
    }
}

fn naive(algorithm: ThreadAlgorithm, clues: &[Clue], references: &[u64]) -> Vec<ThreadNode<u32>> {
    let message = |place| Node { message: Some(place as u32), ..Node::default() };
    let mut all = Naive { clues, nodes: (0..clues.len()).map(message).collect() };
    let mut out = Vec::new();
    if algorithm == ThreadAlgorithm::OrderedSubject {
        let mut order: Vec<usize> = (0..clues.len()).collect();
        order.sort_by_key(|place| (clues[*place].date, *place));
        let mut roots: Vec<usize> = Vec::new();
        for place in order {
            let same = |root: &&usize| clues[**root].subject == clues[place].subject;
            match roots.iter().find(same).copied() {
                Some(root) => all.put_below(place, root),
                None => roots.push(place),
            }
        }
        roots.iter().for_each(|root| all.told(*root, &mut out));
        return out;
    }
    // Step 1.
    let mut ids: Vec<(u64, usize)> = Vec::new();
    for (place, clue) in clues.iter().enumerate() {
        if clue.id != 0 && !ids.iter().any(|(id, _)| *id == clue.id) {
            ids.push((clue.id, place));
        }
    }
    for (place, clue) in clues.iter().enumerate() {
        let mut before = None;
        for id in &references[clue.references.clone()] {
            let known = ids.iter().find(|(known, _)| known == id).map(|(_, node)| *node);
            let node = known.unwrap_or_else(|| {
                all.nodes.push(Node::default());
                ids.push((*id, all.nodes.len() - 1));
                all.nodes.len() - 1
            });
            if let Some(before) = before
                && all.nodes[node].parent.is_none()
                && !all.is_below(before, node)
            {
                all.put_below(node, before);
            }
            before = Some(node);
        }
        all.cut(place);
        if let Some(before) = before
            && !all.is_below(before, place)
        {
            all.put_below(place, before);
        }
    }
    // Steps 2 and 3.
    let roots = |all: &Naive<'_>| -> Vec<usize> {
        let is_root = |node: &usize| {
            let node = &all.nodes[*node];
            node.parent.is_none() && (node.message.is_some() || !node.children.is_empty())
        };
        (0..all.nodes.len()).filter(is_root).collect()
    };
    for root in roots(&all) {
        all.prune(root);
    }
    if algorithm == ThreadAlgorithm::Refs {
        let mut roots = roots(&all);
        roots.sort_by_key(|root| all.newest(*root));
        roots.iter().for_each(|root| all.told(*root, &mut out));
        return out;
    }
    // Steps 4 and 5.
    let mut tops = roots(&all);
    tops.sort_by_key(|root| all.date(*root));
    let mut table: Vec<(u64, usize)> = Vec::new();
    for &node in &tops {
        let clue = all.first(node);
        if clue.subject == 0 {
            continue;
        }
        match table.iter_mut().find(|(subject, _)| *subject == clue.subject) {
            None => table.push((clue.subject, node)),
            Some((_, there)) => {
                let replies = all.first(*there).is_reply && !clue.is_reply;
                if !all.is_dummy(*there) && (all.is_dummy(node) || replies) {
                    *there = node;
                }
            }
        }
    }
    for &node in &tops {
        // A message that was made a child meanwhile is not under the root any more.
        if all.nodes[node].parent.is_some() || all.first(node).subject == 0 {
            continue;
        }
        let clue = all.first(node).clone();
        let at = table.iter().position(|(subject, _)| *subject == clue.subject).unwrap();
        let there = table[at].1;
        if there == node {
            continue;
        }
        match (all.is_dummy(there), all.is_dummy(node)) {
            (true, true) => {
                for child in all.nodes[node].children.clone() {
                    all.put_below(child, there);
                }
            }
            (true, false) => all.put_below(node, there),
            _ if clue.is_reply && !all.first(there).is_reply => all.put_below(node, there),
            _ => {
                all.nodes.push(Node::default());
                let parent = all.nodes.len() - 1;
                all.put_below(there, parent);
                all.put_below(node, parent);
                table[at].1 = parent;
            }
        }
    }
    // Step 6.
    let mut tops = roots(&all);
    tops.sort_by_key(|root| all.date(*root));
    tops.iter().for_each(|root| all.told(*root, &mut out));
    out
}

/// Messages with few different dates, subjects and ids, so that everything collides.
fn mailbox() -> impl Strategy<Value = (Vec<Clue>, Vec<u64>)> {
    let message =
        (0i64..6, 0u64..5, any::<bool>(), 0u64..12, prop::collection::vec(1u64..16, 0..5));
    prop::collection::vec(message, 0..14).prop_map(|messages| {
        let (mut clues, mut references) = (Vec::new(), Vec::new());
        for (date, subject, is_reply, id, refers) in messages {
            let from = references.len();
            references.extend(refers);
            let seq = clues.len() as u32 + 1;
            let references = from..references.len();
            clues.push(Clue { seq, uid: seq, date, subject, is_reply, id, references });
        }
        (clues, references)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn threads_are_those_of_the_letter_of_the_rfc((clues, references) in mailbox()) {
        for (name, algorithm) in ThreadAlgorithm::ALL {
            let expected = naive(algorithm, &clues, &references);
            prop_assert_eq!(threads(algorithm, &clues, &references), expected, "{}", name);
        }
    }
}

/// A chain of replies, the newest first, so that each link has all of the others below it.
#[test]
fn long_chains_end_in_time_and_need_no_stack() {
    let count = 100_000u64;
    let mut references = Vec::new();
    let clue = |n: u64| {
        let from = references.len();
        references.push(n + 1);
        let seq = n as u32;
        let references = from..references.len();
        Clue { seq, uid: seq, date: -(n as i64), subject: 1, is_reply: true, id: n, references }
    };
    let clues: Vec<Clue> = (1..=count).map(clue).collect();
    let told = threads(ThreadAlgorithm::References, &clues, &references);
    assert_eq!(told.len() as u64, count);
    assert_eq!(told[0].message, Some(count as u32 - 1));
    assert!(told[..told.len() - 1].iter().all(|node| node.children == 1));
}
