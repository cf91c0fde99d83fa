//! STORE and EXPUNGE: computed against the newest known state in memory, logged, applied.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::MutexGuard;
use protocol::types::{Keyword, ModSeq, SystemFlags, Uid};
use tokio::sync::oneshot;

use super::view::Walk;
use super::{Answered, Item, Latest, Mailbox, MailboxInner, State, Tx, View, settle};
use crate::acl::FlagScope;
use crate::error::{Error, Result};
use crate::format::frame::{AnnotationValue, FlagChange, Frame};
use crate::format::index::name_flags;
use crate::ids::Lsn;

/// Changes of one transaction at most; more are several transactions.
const CHANGES_MAX: usize = 8 << 10;
/// Messages that one transaction removes at most: so many are done with while a session's core
/// waits for the state lock.
const REMOVALS_MAX: usize = 8 << 10;
/// Transactions of one command that are under way at a time: what is remembered of changes until
/// they are applied, under a lock that sessions wait for, stays as small as that.
const TRANSACTIONS_OPEN_MAX: usize = 4;
/// UIDs beyond which the computing is done by a helper, not on the session's core.
pub(super) const INLINE_UIDS_MAX: usize = 512;

/// What STORE does with the flags given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreMode {
    /// `FLAGS`
    Replace,
    /// `FLAGS` of somebody who may change these flags and leaves the others as they are.
    ReplaceWithin(FlagScope),
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
    /// Nothing but the MODSEQ. With a number: what changed is a user's own, with the set of this
    /// number. See [`crate::PrivateSeen::touch`].
    Touch(Option<u64>),
}

/// One STORE.
#[derive(Clone, Debug)]
pub struct StoreRequest {
    /// Ascending. Those that do not exist are passed over.
    pub uids: Vec<Uid>,
    /// What to do.
    pub mode: StoreMode,
    /// System flags given.
    pub flags: SystemFlags,
    /// Keywords given.
    pub keywords: Vec<Keyword>,
    /// Leave messages changed after this alone (RFC 7162).
    pub unchanged_since: Option<ModSeq>,
}

impl StoreRequest {
    /// Messages that one transaction changes at most.
    pub const PART: usize = CHANGES_MAX;

    /// The flags and keyword bits of a message that has `now`; `keywords` are the request's.
    pub(super) fn result(&self, now: &Latest, keywords: u64) -> (SystemFlags, u64) {
        match self.mode {
            StoreMode::Replace => (self.flags, keywords),
            StoreMode::ReplaceWithin(scope) => {
                let kept = now.flags.difference(scope.system);
                let words = if scope.keywords { keywords } else { now.keywords };
                (scope.system_of(self.flags).union(kept), words)
            }
            StoreMode::Add => (now.flags.union(self.flags), now.keywords | keywords),
            StoreMode::Touch(_) => (now.flags, now.keywords),
            StoreMode::Remove => (now.flags.difference(self.flags), now.keywords & !keywords),
        }
    }
}

/// What STORE did.
#[derive(Clone)]
pub struct StoreOutcome {
    /// MODSEQ of the changes; HIGHESTMODSEQ where nothing changed.
    pub modseq: ModSeq,
    /// Left alone because of `unchanged_since`, ascending.
    pub modified: Vec<Uid>,
    /// Changed, ascending.
    pub changed: Vec<Uid>,
    /// The MODSEQ that each of `changed` had before: one that is above what somebody was told says
    /// that others changed the message, too.
    pub before: Vec<ModSeq>,
    /// A view that shows the changes; one that may not show them yet where `answered` is there.
    pub view: View,
    /// Of [`Mailbox::store_early`], where the change is not durable yet: what each message of the
    /// request has now.
    pub answered: Option<Vec<Answered>>,
}

impl StoreOutcome {
    /// What [`View::changes_beside`] may leave out for who made the change: its messages and its
    /// MODSEQ, 0 where nothing changed.
    pub fn own(&self) -> (&[Uid], ModSeq) {
        let modseq = if self.changed.is_empty() { ModSeq(0) } else { self.modseq };
        (&self.changed, modseq)
    }
}

impl MailboxInner {
    /// The state lock, unless the mailbox is deleted, on its way to elsewhere, or another host's.
    pub(crate) fn open_state(&self) -> Result<MutexGuard<'_, State>> {
        self.check_owner()?;
        let state = self.state.lock();
        match (state.gone, state.moving) {
            (true, _) => Err(Error::MailboxGone),
            (_, true) => Err(Error::MailboxMoving),
            _ => Ok(state),
        }
    }

    /// Pushes frames of this mailbox alone as one transaction and queues them, under its lock.
    pub(crate) fn push_frames(
        self: &Arc<Self>,
        state: &mut State,
        frames: Vec<(Frame, Vec<u8>)>,
        bodies: u32,
    ) -> Result<(Arc<Tx>, oneshot::Receiver<Result<()>>)> {
        let (tx, heard) = Tx::new(frames.len() as u32, bodies, vec![self.clone()]);
        let report = tx.clone();
        let (log_frames, extras): (Vec<_>, Vec<_>) =
            frames.into_iter().map(|(frame, extras)| ((self.id, frame), extras)).unzip();
        let lsn = self.shared.log.push(&log_frames, Box::new(move |r| report.log_report(r)))?;
        tx.pushed(lsn);
        self.enqueue(state, &tx, lsn, log_frames.into_iter().map(|(_, f)| f).zip(extras));
        Ok((tx, heard))
    }

    /// Puts frames just pushed into the queue. Under the state lock that was held at the push.
    pub(crate) fn enqueue(
        &self,
        state: &mut State,
        tx: &Arc<Tx>,
        lsn: Lsn,
        frames: impl Iterator<Item = (Frame, Vec<u8>)>,
    ) {
        for (frame, extras) in frames {
            let (tx, seen) = (tx.clone(), Vec::new());
            state.queue.push_back(Item {
                tx,
                lsn,
                frame,
                extras,
                from_rescan: false,
                seen,
                early: false,
            });
        }
    }
}

impl State {
    /// The next MODSEQ.
    pub(crate) fn take_modseq(&mut self) -> ModSeq {
        self.modseq_last = ModSeq(self.modseq_last.0 + 1);
        self.modseq_last
    }

    /// The next UID.
    pub(crate) fn take_uid(&mut self) -> Result<Uid> {
        let uid = self.uid_next;
        if uid == Uid::MAX {
            return Err(Error::NotAllowed("mailbox has used up its UIDs"));
        }
        self.uid_next = Uid(uid.0 + 1);
        Ok(uid)
    }

    /// Bits of keywords; with `grow`, unknown ones are added to the table.
    /// The transaction that uses them must go through [`State::name_bits`].
    pub(crate) fn keyword_bits(&mut self, keywords: &[Keyword], grow: bool) -> Result<u64> {
        let unknown = |k: &Keyword| self.keywords.bit(k) == 0;
        if grow && keywords.iter().any(unknown) {
            let max = super::KeywordTable::KEYWORDS_MAX;
            let table = self.keywords.with(keywords).ok_or(Error::TooManyKeywords { max })?;
            self.keywords = Arc::new(table);
        }
        Ok(keywords.iter().fold(0, |bits, k| bits | self.keywords.bit(k)))
    }

    /// Bits of keywords that another server gave: those for which there is no room are passed over.
    pub(crate) fn known_keyword_bits(&mut self, keywords: &[Keyword]) -> u64 {
        let one = |bits, word: &Keyword| {
            let bit = self.keyword_bits(std::slice::from_ref(word), true);
            bits | bit.unwrap_or_else(|error| {
                tracing::warn!(keyword = word.as_str(), %error, "a keyword is passed over");
                0
            })
        };
        keywords.iter().fold(0, one)
    }

    /// Puts a frame with the keywords' names in front of frames that use these bits, where the
    /// files do not have the names yet.
    pub(crate) fn name_bits(&self, bits: u64, frames: &mut Vec<(Frame, Vec<u8>)>) {
        let filed = self.keywords_filed.names().len() as u32;
        if u64::MAX.checked_shl(filed).is_some_and(|unfiled| bits & unfiled != 0) {
            let names = self.keywords.names().iter().map(|k| k.as_str().to_owned()).collect();
            frames.insert(0, (Frame::Keywords { names }, Vec::new()));
        }
    }

    /// Remembers the flags of changes on their way.
    pub(crate) fn will_have(&mut self, changes: &[FlagChange], modseq: ModSeq) {
        self.latest.changed(changes, modseq);
    }

    /// A change of a message's flags from what they are now.
    pub(crate) fn flag_change(
        &self,
        uid: Uid,
        now: &Latest,
        flags: SystemFlags,
        keywords: u64,
    ) -> FlagChange {
        let before = name_flags(now.flags, now.keywords, self.keywords.passed_bit());
        FlagChange { uid, flags, keywords, before }
    }

    /// Whether a change of this message is pushed and not yet applied.
    fn is_on_its_way(&self, uid: Uid) -> bool {
        self.latest.get(uid).is_some()
    }

    /// What a message's flags are, changes on their way included; `None` when it is (or will be)
    /// gone.
    pub(crate) fn current(&self, view: &View, uid: Uid) -> Option<Latest> {
        let mut nowhere = usize::MAX;
        self.current_next(&mut view.walk(), &mut nowhere, uid)
    }

    /// As [`State::current`], for a walk over rising UIDs; `next` as for [`Walk::record_next`].
    pub(crate) fn current_next(
        &self,
        walk: &mut Walk<'_>,
        next: &mut usize,
        uid: Uid,
    ) -> Option<Latest> {
        if let Some(latest) = self.latest.get(uid) {
            return (!latest.expunged).then_some(latest);
        }
        let record = walk.record_next(next, uid)?;
        let (flags, keywords, modseq) = (record.flags, record.keywords, record.modseq);
        Some(Latest { flags, keywords, modseq, expunged: false })
    }
}

impl Mailbox {
    /// Changes flags. Returns when the change is durable and visible.
    pub async fn store(&self, request: StoreRequest) -> Result<StoreOutcome> {
        self.store_with(request, Arc::default()).await
    }

    /// The same, with annotations that each message gets that gets a new MODSEQ.
    pub(crate) async fn store_with(
        &self,
        request: StoreRequest,
        annotations: Arc<[AnnotationValue]>,
    ) -> Result<StoreOutcome> {
        let mut whole = StoreOutcome {
            modseq: ModSeq(0),
            modified: Vec::new(),
            changed: Vec::new(),
            before: Vec::new(),
            view: self.view(),
            answered: None,
        };
        let stored = self.store_parts(request, annotations, |part| {
            whole.modified.extend(part.modified);
            whole.changed.extend(part.changed);
            whole.before.extend(part.before);
            whole.modseq = whole.modseq.max(part.modseq);
        });
        stored.await?;
        whole.view = self.view();
        if whole.changed.is_empty() {
            whole.modseq = whole.view.modseq_highest();
        }
        Ok(whole)
    }

    /// As [`Mailbox::store`], for who has something to do with the messages that are done while the
    /// others are still on their way: of each [`StoreRequest::PART`] messages of the request `tell` is
    /// given what became of them, in order, when that is durable and visible. The next parts may be
    /// visible then, too. After an error the rest is not told.
    pub async fn store_in_parts(
        &self,
        request: StoreRequest,
        mut tell: impl FnMut(StoreOutcome),
    ) -> Result<()> {
        let told = |part: PreparedStore| {
            let view = self.view();
            let PreparedStore { modified, changed, before, .. } = part;
            let modseq = if changed.is_empty() { view.modseq_highest() } else { part.modseq };
            tell(StoreOutcome { modseq, modified, changed, before, view, answered: None });
        };
        self.store_parts(request, Arc::default(), told).await
    }

    async fn store_parts(
        &self,
        request: StoreRequest,
        annotations: Arc<[AnnotationValue]>,
        mut tell: impl FnMut(PreparedStore),
    ) -> Result<()> {
        let StoreRequest { uids, mode, flags, keywords, unchanged_since } = request;
        let mut parts = uids.chunks(CHANGES_MAX);
        let mut preparing = None;
        let mut open: VecDeque<PreparedStore> = VecDeque::new();
        loop {
            if preparing.is_none()
                && open.len() < TRANSACTIONS_OPEN_MAX
                && let Some(part) = parts.next()
            {
                let (uids, keywords) = (part.to_vec(), keywords.clone());
                let request = StoreRequest { uids, mode, flags, keywords, unchanged_since };
                preparing = Some(Box::pin(self.prepare(request, annotations.clone())));
            }
            let is_first = open.is_empty();
            let oldest = open.front_mut().and_then(|part| part.heard.as_mut());
            match (&mut preparing, oldest) {
                // While the next part is computed, the oldest is waited for, too.
                (Some(next), Some(oldest)) => tokio::select! {
                    biased;
                    heard = oldest => {
                        heard.unwrap_or(Err(Error::Closing))?;
                        open.pop_front().into_iter().for_each(&mut tell);
                    }
                    prepared = next => {
                        open.push_back(prepared?);
                        preparing = None;
                    }
                },
                (Some(next), None) if is_first => {
                    open.push_back(next.await?);
                    preparing = None;
                }
                _ => {
                    let Some(mut oldest) = open.pop_front() else { return Ok(()) };
                    if let Some(heard) = oldest.heard.take() {
                        settle(&self.0.shared, heard).await?;
                    }
                    tell(oldest);
                }
            }
        }
    }

    /// Computes a part of a change and pushes it: a helper's work where it is much.
    async fn prepare(
        &self,
        request: StoreRequest,
        annotations: Arc<[AnnotationValue]>,
    ) -> Result<PreparedStore> {
        self.0.shared.log.room().await;
        let inner = self.0.clone();
        if request.uids.len() <= INLINE_UIDS_MAX {
            return inner.prepare_store(&request, &annotations);
        }
        let job = move || inner.prepare_store(&request, &annotations);
        self.0.shared.helpers.run(job).await.map_err(|_| Error::Closing)?
    }

    /// Removes messages for good. UIDs that do not exist are passed over. Returns the MODSEQ of
    /// the removal when it is durable and visible.
    pub async fn expunge(&self, view: &View, uids: Vec<Uid>) -> Result<ModSeq> {
        let _ = view;
        let uids = self.without_originals(uids).await?;
        let mut modseq = None;
        let mut open = VecDeque::new();
        for part in uids.chunks(REMOVALS_MAX) {
            if open.len() >= TRANSACTIONS_OPEN_MAX
                && let Some((of_part, oldest)) = open.pop_front()
            {
                settle(&self.0.shared, oldest).await?;
                modseq = Some(of_part);
            }
            self.0.shared.log.room().await;
            let (inner, part) = (self.0.clone(), part.to_vec());
            open.extend(if part.len() > INLINE_UIDS_MAX {
                let job = move || inner.push_expunge(part);
                self.0.shared.helpers.run(job).await.map_err(|_| Error::Closing)??
            } else {
                inner.push_expunge(part)?
            });
        }
        for (of_part, heard) in open {
            settle(&self.0.shared, heard).await?;
            modseq = Some(of_part);
        }
        Ok(modseq.unwrap_or_else(|| self.view().modseq_highest()))
    }
}

/// A change that was pushed: its MODSEQ, and who tells of its end.
type Pushed = (ModSeq, oneshot::Receiver<Result<()>>);

impl MailboxInner {
    /// Pushes the removal of those messages that are there; `None` when there are none.
    fn push_expunge(self: &Arc<Self>, uids: Vec<Uid>) -> Result<Option<Pushed>> {
        let mut gone = uids;
        gone.sort_unstable();
        gone.dedup();
        let mut state = self.open_state()?;
        let current = self.view();
        // A removal that another is just making may still fail, and is not durable: it is pushed
        // again, so that this one waits for what it promises.
        gone.retain(|&uid| state.is_on_its_way(uid) || state.current(&current, uid).is_some());
        if gone.is_empty() {
            return Ok(None);
        }
        let modseq = state.take_modseq();
        let frame = Frame::Expunge { modseq, moved: false, ranges: ranges(&gone) };
        let (_, heard) = self.push_frames(&mut state, vec![(frame, Vec::new())], 0)?;
        state.will_be_gone(&gone, modseq);
        Ok(Some((modseq, heard)))
    }
}

impl State {
    /// Remembers that messages have a removal on its way.
    pub(crate) fn will_be_gone(&mut self, uids: &[Uid], modseq: ModSeq) {
        self.latest.expunged(uids, modseq);
    }
}

/// Ascending UIDs as inclusive ranges.
pub(crate) fn ranges(uids: &[Uid]) -> Vec<(u32, u32)> {
    let mut out: Vec<(u32, u32)> = Vec::new();
    for uid in uids {
        match out.last_mut() {
            Some(last) if last.1 + 1 == uid.0 => last.1 = uid.0,
            _ => out.push((uid.0, uid.0)),
        }
    }
    out
}

struct PreparedStore {
    modseq: ModSeq,
    modified: Vec<Uid>,
    changed: Vec<Uid>,
    before: Vec<ModSeq>,
    heard: Option<oneshot::Receiver<Result<()>>>,
}

impl MailboxInner {
    fn prepare_store(
        self: &Arc<Self>,
        request: &StoreRequest,
        annotations: &[AnnotationValue],
    ) -> Result<PreparedStore> {
        let mut state = self.open_state()?;
        let view = self.view();
        let grow = request.mode != StoreMode::Remove;
        let keywords = state.keyword_bits(&request.keywords, grow)?;
        let mut prepared = PreparedStore {
            modseq: ModSeq(0),
            modified: Vec::new(),
            changed: Vec::new(),
            before: Vec::new(),
            heard: None,
        };
        let mut changes = Vec::with_capacity(request.uids.len());
        let mut next = request.uids.first().map_or(0, |&first| view.lower_bound(first));
        let mut walk = view.walk();
        for &uid in &request.uids {
            let Some(now) = state.current_next(&mut walk, &mut next, uid) else { continue };
            if request.unchanged_since.is_some_and(|since| now.modseq > since) {
                prepared.modified.push(uid);
                continue;
            }
            let (flags, bits) = request.result(&now, keywords);
            // Flags that another is just setting may still come to nothing: see `push_expunge`.
            let touches = matches!(request.mode, StoreMode::Touch(_));
            if touches || (flags, bits) != (now.flags, now.keywords) || state.is_on_its_way(uid) {
                changes.push(state.flag_change(uid, &now, flags, bits));
                prepared.before.push(now.modseq);
            }
        }
        if changes.is_empty() {
            return Ok(prepared);
        }
        let modseq = state.take_modseq();
        if let StoreMode::Touch(Some(whose)) = request.mode {
            self.touches.lock().note(modseq, whose);
        }
        let bits = changes.iter().fold(0, |bits, c| bits | c.keywords);
        let mut frames = Vec::with_capacity(2);
        if !annotations.is_empty() {
            let uids: Vec<Uid> = changes.iter().map(|change| change.uid).collect();
            let (ranges, values) = (ranges(&uids), annotations.to_vec());
            self.notes.lock().add(modseq, ranges.clone(), annotations);
            // Before the view that tells of them.
            frames.push((Frame::Annotations { ranges, values }, Vec::new()));
        }
        frames.push((Frame::Flags { modseq, changes: changes.clone() }, Vec::new()));
        state.name_bits(bits, &mut frames);
        prepared.heard = Some(self.push_frames(&mut state, frames, 0)?.1);
        state.will_have(&changes, modseq);
        prepared.modseq = modseq;
        prepared.changed = changes.iter().map(|c| c.uid).collect();
        Ok(prepared)
    }
}
