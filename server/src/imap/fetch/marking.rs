//! Messages that a FETCH makes `\\Seen`: marked before they are sent, so that their one answer has the
//! flags that they have then (RFC 3501 section 6.4.5).
//!
//! Invariant: what could not be sent after all is marked back before the command ends.

use engine::{Answered, PrivateSeen, Record, StoreMode, StoreOutcome, StoreRequest, View};
use protocol::types::{ModSeq, SeqNum, SystemFlags, Uid};

use super::super::cmd::store::adopt_early;
use super::super::reply::End;
use super::super::session::Session;

/// Messages that are marked by one change. A client that goes away in the middle of a long FETCH finds
/// at most so many marked that it did not get.
const WINDOW: u32 = 128;

/// The messages of a FETCH that became `\\Seen`.
#[derive(Debug, Default)]
pub(in super::super) struct Marks {
    /// Up to here they are marked.
    pub(in super::super) through: SeqNum,
    /// Those of the last change, ascending.
    marked: Vec<Marked>,
    /// Marked and not sent.
    failed: Vec<Uid>,
}

/// What a message has now.
#[derive(Clone, Copy, Debug)]
struct Marked {
    uid: Uid,
    flags: SystemFlags,
    keywords: u64,
    /// Where it is known; it is told to nobody else.
    modseq: Option<ModSeq>,
}

impl Marks {
    /// Marks the unseen ones of the messages from `next` on, of those that changed after `since`,
    /// unless that is done.
    pub(in super::super) async fn ahead(
        &mut self,
        session: &mut Session,
        next: SeqNum,
        last: SeqNum,
        since: ModSeq,
    ) -> Result<(), End> {
        let Some(selected) = session.selected.as_ref().filter(|_| next > self.through) else {
            return Ok(());
        };
        self.through = SeqNum(last.0.min(next.0.saturating_add(WINDOW - 1)));
        self.marked.clear();
        let unseen = |record: &Record| {
            let asked = since == ModSeq(0) || record.modseq > since;
            asked && !record.flags.contains(SystemFlags::SEEN)
        };
        let records = selected.view.records(next, self.through);
        let uids = records.filter(|(_, record)| unseen(record)).map(|(_, record)| record.uid);
        let uids: Vec<Uid> = uids.collect();
        if uids.is_empty() {
            return Ok(());
        }
        let outcome = match mark(session, uids).await {
            Ok(outcome) => outcome,
            Err(error) => {
                // The messages can be sent; that they stay unseen is not the client's trouble.
                session.failure("mark messages as seen", &error, "NONEXISTENT");
                return Ok(());
            }
        };
        let seen = session.selected.as_ref().and_then(|selected| selected.seen.clone());
        self.marked = marked(&outcome, seen.as_ref());
        match outcome.answered {
            Some(_) => adopt_early(session, &outcome).await,
            None => session.adopt(outcome.view.clone(), outcome.own()).await,
        }
    }

    /// Gives a record the flags that it has now; whether it was marked.
    pub(in super::super) fn apply(&self, record: &mut Record) -> bool {
        let Ok(at) = self.marked.binary_search_by_key(&record.uid, |marked| marked.uid) else {
            return false;
        };
        let marked = &self.marked[at];
        (record.flags, record.keywords) = (marked.flags, marked.keywords);
        record.modseq = marked.modseq.unwrap_or(record.modseq);
        true
    }

    /// A message was marked and could not be sent.
    pub(in super::super) fn not_sent(&mut self, uid: Uid) {
        self.failed.push(uid);
    }

    /// Marks back what was not sent. The next sync point tells it.
    pub(in super::super) async fn take_back(self, session: &mut Session) {
        let Some(selected) = session.selected.as_ref().filter(|_| !self.failed.is_empty()) else {
            return;
        };
        let mut uids = self.failed;
        uids.sort_unstable();
        let (owner, mailbox) = (selected.owner.clone(), selected.mailbox.clone());
        let taken = match &selected.seen {
            Some(seen) => match owner.change_private_seen(seen, uids, false).await {
                Ok(uids) => mailbox.store(touch(seen, uids)).await,
                Err(error) => Err(error),
            },
            None => mailbox.store(seen_request(uids, StoreMode::Remove)).await,
        };
        if let Err(error) = taken {
            session.failure("mark messages as unseen", &error, "NONEXISTENT");
        }
    }
}

fn seen_request(uids: Vec<Uid>, mode: StoreMode) -> StoreRequest {
    let (flags, keywords, unchanged_since) = (SystemFlags::SEEN, vec![], None);
    StoreRequest { uids, mode, flags, keywords, unchanged_since }
}

/// A new MODSEQ for messages of which a user's own `\\Seen` changed.
fn touch(seen: &PrivateSeen, uids: Vec<Uid>) -> StoreRequest {
    StoreRequest { flags: SystemFlags::empty(), ..seen_request(uids, seen.touch()) }
}

async fn mark(session: &mut Session, uids: Vec<Uid>) -> engine::Result<StoreOutcome> {
    let early = session.answers_early();
    let Some(selected) = session.selected.as_ref() else { return Err(engine::Error::MailboxGone) };
    let (owner, mailbox) = (selected.owner.clone(), selected.mailbox.clone());
    if let Some(seen) = selected.seen.clone() {
        let uids = owner.change_private_seen(&seen, uids, true).await?;
        return mailbox.store(touch(&seen, uids)).await;
    }
    let request = seen_request(uids, StoreMode::Add);
    if early { mailbox.store_early(request).await } else { mailbox.store(request).await }
}

fn marked(outcome: &StoreOutcome, seen: Option<&PrivateSeen>) -> Vec<Marked> {
    if let Some(answered) = &outcome.answered {
        let changed = |one: &&Answered| outcome.changed.binary_search(&one.uid).is_ok();
        let marked = |one: &Answered| {
            let &Answered { uid, flags, keywords } = one;
            Marked { uid, flags, keywords, modseq: None }
        };
        return answered.iter().filter(changed).map(marked).collect();
    }
    let view: View = outcome.view.seen_by(seen);
    let records = outcome.changed.iter().filter_map(|uid| view.record_of(*uid));
    let marked = |record: Record| {
        let Record { uid, flags, keywords, modseq, .. } = record;
        Marked { uid, flags, keywords, modseq: Some(modseq) }
    };
    records.map(|(_, record)| marked(record)).collect()
}
