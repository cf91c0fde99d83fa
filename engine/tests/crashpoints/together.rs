//! Operations of several sessions, side by side on one thread: between any two steps of one, the
//! seed may let another go on, the log be written or an applier have its turn.

use std::task::{Context, Poll, Waker};

use engine::{Drive, MailboxId, Turn};

use crate::bench::{Bench, Memory, Seen};
use crate::model::{Chain, Effect};
use crate::work::{Op, Outcome, Random, Unanswered};

/// Turns without any progress after which nothing more is expected: the power is gone, or a
/// fault stands in the way.
const IDLE_MAX: usize = 12;

/// What a session could read, and the number of the next operation at that time.
struct Shown {
    operation: u64,
    id: MailboxId,
    uid_next: u32,
    modseq: u64,
}

/// What operations that ran together said, in which order, and what was visible when.
pub struct History {
    pub ops: Vec<(String, Unanswered, Option<Outcome>)>,
    shown: Vec<Shown>,
}

impl History {
    /// What may have been done at a moment when those in `answered`, a bit each, had their
    /// answers.
    pub fn chains(&self, answered: u64) -> Vec<Chain> {
        let chain = |(i, (_, unanswered, outcome)): (usize, &(_, Unanswered, Option<Outcome>))| {
            match outcome {
                Some(outcome) if answered & (1 << i) != 0 => outcome.effects.clone(),
                // Bits of letters are merged, and lost, one by one.
                _ if unanswered.borrow().iter().any(|(e, _)| matches!(e, Effect::Merge { .. })) => {
                    unanswered.borrow().clone()
                }
                // What came of it later is known; whether it was durable yet is not.
                Some(outcome) => outcome.effects.iter().map(|(e, _)| (e.clone(), false)).collect(),
                None => unanswered.borrow().clone(),
            }
        };
        self.ops.iter().enumerate().map(chain).collect()
    }

    /// All answers that came.
    pub fn answered(&self) -> u64 {
        let done = self.ops.iter().enumerate().filter(|(_, (_, _, outcome))| outcome.is_some());
        done.fold(0, |bits, (i, _)| bits | 1 << i)
    }

    /// Adds what sessions knew at a moment.
    pub fn remember(&self, memory: &mut Memory, answered: u64, operation: u64) {
        let mut told = |id: MailboxId, uid_next: u32, modseq: u64| {
            let seen: &mut Seen = std::sync::Arc::make_mut(memory.entry(id).or_default());
            seen.told(uid_next, modseq);
        };
        for (i, (_, _, outcome)) in self.ops.iter().enumerate() {
            let known = outcome.as_ref().filter(|_| answered & (1 << i) != 0);
            known.iter().flat_map(|o| &o.told).for_each(|&(id, next, m)| told(id, next, m));
        }
        for shown in self.shown.iter().filter(|shown| shown.operation <= operation) {
            told(shown.id, shown.uid_next, shown.modseq);
        }
    }

    pub fn text(&self) -> Vec<String> {
        let one =
            |(what, unanswered, outcome): &(String, Unanswered, Option<Outcome>)| match outcome {
                Some(Outcome { error: None, effects, .. }) => format!("{what}: {effects:?}"),
                Some(Outcome { error: Some(e), effects, .. }) => {
                    format!("{what} FAILED {e}: {effects:?}")
                }
                None => format!("{what} UNANSWERED: {:?}", unanswered.borrow()),
            };
        self.ops.iter().map(one).collect()
    }
}

/// Runs operations until all have their answers or none will come.
pub fn run(bench: &Bench, random: &mut Random, ops: Vec<Op>) -> History {
    let mut context = Context::from_waker(Waker::noop());
    let mut history = History { ops: Vec::new(), shown: Vec::new() };
    let mut running = Vec::new();
    let mut watched = Vec::new();
    for (i, op) in ops.into_iter().enumerate() {
        history.ops.push((op.what, op.unanswered, None));
        watched.extend(op.mailboxes);
        running.push((i, op.run));
    }
    bench.sim.set_mark(0);
    if bench.drive == Drive::Inline {
        // Each does what it waits for: nothing comes in between.
        for (i, op) in running {
            history.ops[i].2 = bench.wait(op);
        }
        return history;
    }
    let mut idle = 0;
    while !running.is_empty() && idle < IDLE_MAX {
        let before = bench.sim.operations();
        let mut moved = false;
        if random.once_in(2) {
            let at = random.below(running.len() as u64) as usize;
            if let Poll::Ready(outcome) = running[at].1.as_mut().poll(&mut context) {
                let (i, _) = running.swap_remove(at);
                history.ops[i].2 = Some(outcome);
                bench.sim.set_mark(history.answered());
                moved = true;
            }
        } else {
            let turns = [Turn::Log, Turn::Apply, Turn::Helper, Turn::Log, Turn::Apply, Turn::Names];
            let turn = turns[random.below(turns.len() as u64) as usize];
            moved = bench.store.turn(turn);
        }
        moved |= bench.sim.operations() != before;
        if moved {
            for mailbox in &watched {
                let view = mailbox.view();
                let (uid_next, modseq) = (view.uid_next().0, view.modseq_highest().0);
                let operation = bench.sim.operations() + 1;
                let id = mailbox.id();
                let last = history.shown.iter().rev().find(|shown| shown.id == id);
                if last.is_none_or(|l| (l.uid_next, l.modseq) != (uid_next, modseq)) {
                    history.shown.push(Shown { operation, id, uid_next, modseq });
                }
            }
            idle = 0;
            continue;
        }
        // By chance nothing was due, or nothing is: then everybody has a turn.
        let helped = [Turn::Helper, Turn::Log, Turn::Apply].map(|turn| bench.store.turn(turn));
        if !helped.contains(&true) {
            idle += 1;
            if idle % 4 == 0 {
                bench.store.turn(Turn::Retry);
            }
        }
    }
    // Those that are left are dropped, as when a session goes away.
    history
}
