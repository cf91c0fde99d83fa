//! STORE answered before it is durable: the one exception to "acknowledge after the commit point".
//!
//! [`Mailbox::store_early`] computes the change and pushes its frame, as every STORE does, and
//! returns. The frame is written within [`ANSWERED_WAIT`]; from there the change goes the way of
//! all changes. Nobody but the caller hears of it before it is durable and applied: whoever wants
//! to see it, the caller too, awaits [`Mailbox::settled`] first, which makes the log hurry.
//!
//! Crash states: before the frame is durable the change never was; after it, it is redone. A
//! failed write voids the change: the flags are what they were, its MODSEQ is burnt, the log says
//! so, and [`View::was_reverted`](super::View::was_reverted) tells who was answered.
//!
//! Invariants: no MODSEQ of such a change leaves before the change is durable (callers of
//! sessions that want MODSEQs use [`Mailbox::store`]); at most [`OPEN_MAX`] changes of a mailbox
//! are answered and not applied.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use protocol::types::{ModSeq, SystemFlags, Uid};
use tokio::sync::oneshot;

use super::ops::INLINE_UIDS_MAX;
use super::{Item, Mailbox, MailboxInner, State, StoreOutcome, StoreRequest, Tx};
use crate::error::Result;
use crate::format::frame::Frame;
use crate::ids::MailboxId;

/// How long an answered change lies before it is written. With the write itself it stays within
/// the 50 ms that are promised.
const ANSWERED_WAIT: Duration = Duration::from_millis(20);

/// Changes of one mailbox that are answered and not applied, at most; a further one waits.
const OPEN_MAX: u64 = 8192;

/// Ranges of failed MODSEQs that are remembered.
const REVERTED_RANGES_MAX: usize = 64;

/// What a message has by an early answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Which.
    pub uid: Uid,
    /// Its system flags.
    pub flags: SystemFlags,
    /// Its keyword bits.
    pub keywords: u64,
}

/// Changes of a mailbox that were answered early. Under the state lock.
#[derive(Default)]
pub(crate) struct Early {
    /// Pushed so far.
    pushed: u64,
    /// Of these, applied or void. Items go in push order, so these are the first ones.
    done: u64,
    /// Who waits until so many are done.
    waiters: Vec<(u64, oneshot::Sender<()>)>,
}

/// MODSEQs of answered changes that failed, as inclusive ascending ranges.
#[derive(Default)]
pub(crate) struct Reverted(VecDeque<(u64, u64)>);

impl Reverted {
    pub(crate) fn contains(&self, modseq: ModSeq) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&modseq.0))
    }

    fn add(&mut self, modseq: ModSeq) {
        match self.0.back_mut() {
            Some(last) if last.1 + 1 == modseq.0 => last.1 = modseq.0,
            _ => self.0.push_back((modseq.0, modseq.0)),
        }
        if self.0.len() > REVERTED_RANGES_MAX {
            self.0.pop_front();
        }
    }
}

impl Mailbox {
    /// Changes flags as [`Mailbox::store`] does, but may return, with
    /// [`StoreOutcome::answered`], when the change is only pushed: it is durable within 50 ms, and
    /// seen by others after that. Conditional, large and unusual changes (new keywords) are
    /// durable at the return, as are those of a mailbox that has many such changes open.
    ///
    /// # Errors
    /// Those of [`Mailbox::store`]; a write that fails after the answer is logged and told by
    /// [`View::was_reverted`](super::View::was_reverted).
    pub async fn store_early(&self, request: StoreRequest) -> Result<StoreOutcome> {
        if request.unchanged_since.is_none() && request.uids.len() <= INLINE_UIDS_MAX {
            self.0.shared.log.room().await;
            if let Some(outcome) = self.0.answer_early(&request)? {
                return Ok(outcome);
            }
        }
        self.store(request).await
    }

    /// Returns when every change that was answered early before this call is durable and visible,
    /// or void. At once when there is none. Cancel-safe.
    pub async fn settled(&self) {
        let heard = {
            let mut state = self.0.state.lock();
            let early = &mut state.early;
            if early.pushed == early.done {
                return;
            }
            let (tell, heard) = oneshot::channel();
            early.waiters.push((early.pushed, tell));
            heard
        };
        let shared = &self.0.shared;
        shared.log.hurry();
        shared.pump();
        if shared.standstill().is_none() {
            let _ = heard.await;
        }
    }
}

impl MailboxInner {
    /// `None` when the change has to be durable first.
    fn answer_early(self: &Arc<Self>, request: &StoreRequest) -> Result<Option<StoreOutcome>> {
        let mut state = self.open_state()?;
        let view = self.view();
        let unknown = request.keywords.iter().any(|k| view.keywords().bit(k) == 0);
        if unknown || state.early.pushed - state.early.done >= OPEN_MAX {
            return Ok(None);
        }
        let keywords = state.keyword_bits(&request.keywords, false)?;
        let mut answered = Vec::with_capacity(request.uids.len());
        let mut changes = Vec::with_capacity(request.uids.len());
        let mut before = Vec::new();
        for &uid in &request.uids {
            let Some(now) = state.current(&view, uid) else { continue };
            let (flags, bits) = request.result(&now, keywords);
            // A keyword that others are just giving the mailbox is not announced yet.
            if bits.checked_shr(view.keywords().names().len() as u32).is_some_and(|rest| rest != 0)
            {
                return Ok(None);
            }
            if (flags, bits) != (now.flags, now.keywords) {
                changes.push(state.flag_change(uid, &now, flags, bits));
                before.push(now.modseq);
            }
            answered.push(Answered { uid, flags, keywords: bits });
        }
        let mut outcome = StoreOutcome {
            modseq: ModSeq(0),
            modified: Vec::new(),
            changed: changes.iter().map(|change| change.uid).collect(),
            before,
            view,
            answered: Some(answered),
        };
        if !changes.is_empty() {
            let modseq = state.take_modseq();
            let frame = Frame::Flags { modseq, changes };
            self.push_early(&mut state, frame)?;
            outcome.modseq = modseq;
        }
        Ok(Some(outcome))
    }

    fn push_early(self: &Arc<Self>, state: &mut State, frame: Frame) -> Result<()> {
        let (tx, _) = Tx::new(1, 0, vec![self.clone()]);
        let report = tx.clone();
        let frames: [(MailboxId, Frame); 1] = [(self.id, frame)];
        let told = Box::new(move |result| report.log_report(result));
        let lsn = self.shared.log.push_unhurried(&frames, told, ANSWERED_WAIT)?;
        tx.pushed(lsn);
        let [(_, frame)] = frames;
        if let Frame::Flags { modseq, changes } = &frame {
            state.will_have(changes, *modseq);
        }
        let (extras, seen) = (Vec::new(), Vec::new());
        let item = Item { tx, lsn, frame, extras, from_rescan: false, seen, early: true };
        state.queue.push_back(item);
        state.early.pushed += 1;
        Ok(())
    }

    /// Notes which answered changes are void. Before the view is published.
    pub(crate) fn note_reverted(&self, done: &[Item]) {
        let void = |item: &&Item| item.early && item.tx.failure().is_some();
        let mut failed = 0;
        for item in done.iter().filter(void) {
            if let Frame::Flags { modseq, .. } = &item.frame {
                self.reverted.lock().add(*modseq);
                failed += 1;
            }
        }
        if failed > 0 {
            tracing::error!(mailbox = %self.id, changes = failed,
                "flag changes were answered and could not be made durable; they are undone");
        }
    }
}

impl State {
    /// Counts applied and void changes; returns who waited for them. After the view is published.
    pub(crate) fn early_done(&mut self, done: &[Item]) -> Vec<oneshot::Sender<()>> {
        let early = &mut self.early;
        early.done += done.iter().filter(|item| item.early).count() as u64;
        let done = early.done;
        early.waiters.extract_if(.., |(target, _)| *target <= done).map(|(_, tell)| tell).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverted_modseqs_are_remembered_as_ranges_and_forgotten_in_order() {
        let mut reverted = Reverted::default();
        for modseq in [5, 6, 7, 9] {
            reverted.add(ModSeq(modseq));
        }
        assert_eq!(reverted.0, [(5, 7), (9, 9)]);
        let known: Vec<u64> = (1..12).filter(|m| reverted.contains(ModSeq(*m))).collect();
        assert_eq!(known, [5, 6, 7, 9]);
        for n in 0..REVERTED_RANGES_MAX as u64 {
            reverted.add(ModSeq(100 + 2 * n));
        }
        assert!(!reverted.contains(ModSeq(9)) && reverted.contains(ModSeq(100)));
    }
}
