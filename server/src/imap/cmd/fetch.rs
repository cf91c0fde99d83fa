//! FETCH and UID FETCH: RFC 3501 section 6.4.5, CHANGEDSINCE of RFC 7162 section 3.1.4, VANISHED of
//! its section 3.2.6, dates of saving of RFC 8514, PARTIAL of RFC 9394 section 3.3, annotations of
//! RFC 5257.

use engine::{
    Annotations, Error, Mailbox, PrivateSeen, Record, SeqMatch, StoreMode, StoreOutcome,
    StoreRequest, User, View,
};
use protocol::imap::command::{Fetch, FetchItem, SetArgument};
use protocol::imap::encode;
use protocol::types::{ModSeq, SeqNum, SystemFlags, Uid};

use super::super::fetch::{AnnotationItem, Beside, Plan, Sent, ahead, write_message};
use super::super::limit::{count, refusal, within};
use super::super::reply::{End, Outcome, Reply};
use super::super::selected::FlagItems;
use super::super::session::{Session, YIELD_BYTES};
use super::store::answer_early;

/// How many records are looked at before other sessions run, if they give no output.
const YIELD_RECORDS: usize = 8192;

/// Messages whose dates of saving are read at once.
const DATES_TURN: u32 = 4096;

/// Messages whose `\Seen` is told before other sessions run.
const MARKED_TURN: usize = 2048;

/// Ranges of so many messages get large buffers for their answers.
pub(super) const LONG_RECORDS: u32 = 64;

/// Keeps its place as a sequence number, not as data: while the client is slow, nothing is read
/// ahead.
pub(in super::super) async fn run(session: &mut Session, fetch: Fetch) -> Outcome {
    let limit = session.message_limit();
    serve(session, fetch, limit).await
}

/// A FETCH of so many messages at most: what SELECT tells by one has no limit.
pub(super) async fn serve(session: &mut Session, fetch: Fetch, limit: Option<u32>) -> Outcome {
    if fetch.vanished && !session.features.qresync {
        return Ok(Reply::bad("ENABLE QRESYNC first"));
    }
    if fetch.changed_since.is_some() || fetch.items.contains(&FetchItem::ModSeq) {
        session.enable_condstore();
    }
    let is_bad = |item: &FetchItem| match item {
        FetchItem::Annotation { entries, .. } => AnnotationItem::is_bad(entries),
        _ => false,
    };
    if fetch.items.iter().any(is_bad) {
        return Ok(Reply::bad("Expected names of entries such as /comment or /1.2/comment"));
    }
    if let (true, Some(since)) = (fetch.vanished, fetch.changed_since) {
        let Some(selected) = session.selected.as_ref() else {
            return Ok(Reply::bad("Select a mailbox first"));
        };
        let known = selected.uid_ranges(&fetch.set);
        if let Err(reply) = tell_vanished(session, known, since, SeqMatch::default()).await {
            return Ok(reply);
        }
    }
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let ranges = match selected.resolve(&fetch.set, fetch.uid) {
        Ok(ranges) => ranges,
        Err(reply) => return Ok(reply),
    };
    let (ranges, cut) = match (fetch.partial, limit) {
        (None, None) => (ranges, None),
        (None, Some(_)) => session.cut(ranges),
        (Some(window), limit) => {
            let ranges = within(ranges, window);
            if let Some(limit) = limit.filter(|limit| count(&ranges) > *limit as usize) {
                return Ok(refusal(limit));
            }
            (ranges, None)
        }
    };
    let (uid, since) = (fetch.uid, fetch.changed_since.unwrap_or_default());
    let plan = Plan::new(fetch, session.features);
    if plan.needs_file {
        ahead::look_ahead(session);
    }
    let Some(selected) = session.selected.as_ref() else { return Ok(Reply::ok("Completed")) };
    let mut progress = Progress {
        uids_to_mark: (plan.marks_seen && selected.scope().system.contains(SystemFlags::SEEN))
            .then(Vec::new),
        trouble: None,
        ahead: SeqNum(0),
    };
    for (first, last) in ranges {
        send_range(session, &plan, first, last, since, &mut progress).await?;
    }
    if let Some(uids) = progress.uids_to_mark.filter(|uids| !uids.is_empty()) {
        mark_seen(session, uids, uid).await?;
    }
    // RFC 5257 section 3.2.1.
    if plan.missed_part.get() {
        progress.trouble.get_or_insert_with(|| Reply::failure(&Error::NoSuchPart, "NONEXISTENT"));
    }
    let reply = progress.trouble.unwrap_or_else(|| Reply::ok("Completed"));
    Ok(session.limited(reply, cut))
}

/// Tells which of the `known` UIDs were removed after `since`.
pub(super) async fn tell_vanished(
    session: &mut Session,
    known: Vec<(u32, u32)>,
    since: ModSeq,
    matched: SeqMatch,
) -> Result<(), Reply> {
    let Some(selected) = session.selected.as_ref() else { return Ok(()) };
    let found = selected.mailbox.vanished(&selected.view, since, known, matched).await;
    let ranges = found
        .map_err(|error| session.failure("look for removed messages", &error, "NONEXISTENT"))?;
    session.conn.out.with_vec(|out| encode::vanished(out, true, &ranges));
    Ok(())
}

/// Tells what a client wants to know of new messages (RFC 5465 section 5.2): those from UID `from`
/// on. None of it makes them `\Seen`.
pub(in super::super) async fn tell_new(
    session: &mut Session,
    items: Vec<FetchItem>,
    from: Uid,
) -> Result<(), End> {
    let Some(selected) = session.selected.as_ref() else { return Ok(()) };
    let range = selected.view.seqs_in_uid_range((from.0, u32::MAX));
    let Some((first, last)) = range else { return Ok(()) };
    let set = SetArgument::Saved;
    let fetch =
        Fetch { uid: false, set, items, changed_since: None, vanished: false, partial: None };
    let plan = Plan::new(fetch, session.features);
    let mut progress = Progress { uids_to_mark: None, trouble: None, ahead: SeqNum(0) };
    send_range(session, &plan, first, last, ModSeq(0), &mut progress).await
}

/// What has to be done or said when all messages are sent.
struct Progress {
    /// Messages that were sent and become `\Seen`; `None` if that is not wanted.
    uids_to_mark: Option<Vec<Uid>>,
    /// The first message that could not be sent, as the command's answer.
    trouble: Option<Reply>,
    /// The last message whose file was asked for ahead.
    ahead: SeqNum,
}

impl Progress {
    fn sent(&mut self, record: &Record) {
        if let Some(uids) = &mut self.uids_to_mark
            && !record.flags.contains(SystemFlags::SEEN)
        {
            uids.push(record.uid);
        }
    }
}

impl Progress {
    /// Asks for the files of a range that were not asked for yet, when enough has come together.
    fn read_ahead(
        &mut self,
        session: &Session,
        mailbox: &Mailbox,
        view: &View,
        first: SeqNum,
        last: SeqNum,
    ) {
        let first = first.max(SeqNum(self.ahead.0 + 1));
        if last.0 < first.0.saturating_add(ahead::MESSAGES_AHEAD / 4) {
            return;
        }
        let records: Vec<Record> = view.records(first, last).map(|(_, record)| record).collect();
        mailbox.read_ahead(&session.services.lane, &records);
        self.ahead = last;
    }
}

/// Dates of saving of the messages that come next.
#[derive(Default)]
struct Dates {
    first: SeqNum,
    dates: Vec<Option<i64>>,
}

impl Dates {
    fn has(&self, seq: SeqNum) -> bool {
        seq >= self.first && ((seq.0 - self.first.0) as usize) < self.dates.len()
    }

    fn of(&self, seq: SeqNum) -> Option<i64> {
        *self.dates.get(seq.0.checked_sub(self.first.0)? as usize)?
    }
}

async fn send_range(
    session: &mut Session,
    plan: &Plan,
    first: SeqNum,
    last: SeqNum,
    since: ModSeq,
    progress: &mut Progress,
) -> Result<(), End> {
    let mut next = first;
    let mut dates = Dates::default();
    let mut annotations = Annotations::default();
    while next <= last {
        if plan.needs_annotations()
            && let Some(selected) = session.selected.as_ref()
            && let (Some(from), Some(to)) = (selected.view.uid(next), selected.view.uid(last))
            && !annotations.covers(from)
        {
            let viewer = session.user.as_ref().map_or("", User::name);
            match selected.mailbox.annotations(viewer, from, to).await {
                Ok(read) => annotations = read,
                Err(error) => {
                    let reply = session.failure("read annotations", &error, "NONEXISTENT");
                    progress.trouble.get_or_insert(reply);
                    return Ok(());
                }
            }
        }
        if plan.needs_save_date && !dates.has(next) {
            let Some(selected) = session.selected.as_ref() else { return Ok(()) };
            let to = SeqNum(last.0.min(next.0.saturating_add(DATES_TURN - 1)));
            match selected.mailbox.save_dates(&selected.view, next, to).await {
                Ok(read) => dates = Dates { first: next, dates: read },
                Err(_) => return Err(End::Bye("Server is shutting down")),
            }
        }
        // As many as index and cache answer, without an await.
        let Some(selected) = session.selected.as_ref() else { return Ok(()) };
        let mut visited = 0;
        let mut damaged = None;
        let encode = |out: &mut Vec<u8>| {
            let start = out.len();
            let mut records = selected.view.records(next, last).stopping_at_damage();
            next = SeqNum(last.0 + 1);
            for (seq, record) in records.by_ref().take(YIELD_RECORDS) {
                let wants_date = plan.needs_save_date && !dates.has(seq);
                if wants_date || plan.needs_annotations() && !annotations.covers(record.uid) {
                    next = seq;
                    return None;
                }
                next = SeqNum(seq.0 + 1);
                visited += 1;
                if record.modseq <= since && since.0 > 0 {
                    continue;
                }
                let beside =
                    Beside { save_date: dates.of(seq), annotations: annotations.of(record.uid) };
                if !plan.write_now(selected, out, seq, &record, beside) {
                    return Some((seq, record));
                }
                progress.sent(&record);
                if out.len() - start > YIELD_BYTES {
                    return None;
                }
            }
            damaged = records.damaged();
            None
        };
        let out = &mut session.conn.out;
        let slow = if last.0 - first.0 >= LONG_RECORDS {
            out.with_large(encode)
        } else {
            out.with_vec(encode)
        };
        if let Some(seq) = damaged {
            next = mend(session, seq, progress).await;
        }
        let Some(selected) = session.selected.as_ref() else { return Ok(()) };
        if let Some((seq, record)) = slow {
            let (mailbox, view) = (selected.mailbox.clone(), selected.view.clone());
            if session.ahead.is_wanted() {
                let to = SeqNum(last.0.min(seq.0.saturating_add(ahead::MESSAGES_AHEAD)));
                progress.read_ahead(session, &mailbox, &view, SeqNum(seq.0 + 1), to);
            }
            let waits = session.services.lane.waits();
            let save_date = dates.of(seq);
            let beside = Beside { save_date, annotations: annotations.of(record.uid) };
            match write_message(session, plan, &mailbox, &view, seq, record, beside).await? {
                Sent::Whole => progress.sent(&record),
                Sent::Trouble(reply) => {
                    progress.trouble.get_or_insert(reply);
                }
            }
            session.ahead.note(session.services.lane.waits() != waits);
        }
        session.breathe().await?;
        if visited == YIELD_RECORDS {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Has a damaged record mended; the message costs itself alone when that fails. Returns where to
/// go on.
async fn mend(session: &Session, seq: SeqNum, progress: &mut Progress) -> SeqNum {
    let Some(selected) = session.selected.as_ref() else { return seq };
    let mended = selected.mailbox.mend().await;
    if selected.view.record(seq).is_some() {
        return seq;
    }
    let error = mended.err().unwrap_or_else(|| selected.mailbox.damaged(&selected.view, seq));
    let reply = session.failure("read a message's record", &error, "NONEXISTENT");
    progress.trouble.get_or_insert(reply);
    SeqNum(seq.0 + 1)
}

/// Sets `\Seen` as one change and tells the new flags.
async fn mark_seen(session: &mut Session, uids: Vec<Uid>, uid: bool) -> Result<(), End> {
    let early = session.answers_early();
    let Some(selected) = session.selected.as_ref() else { return Ok(()) };
    if let Some(seen) = selected.seen.clone() {
        return mark_own_seen(session, seen, uids, uid).await;
    }
    let request = StoreRequest {
        uids,
        mode: StoreMode::Add,
        flags: SystemFlags::SEEN,
        keywords: vec![],
        unchanged_since: None,
    };
    let stored = if early {
        selected.mailbox.store_early(request).await
    } else {
        selected.mailbox.store(request).await
    };
    let outcome = match stored {
        Ok(outcome) => outcome,
        Err(error) => {
            // The messages were sent; that they stay unseen is not the client's trouble.
            session.failure("mark messages as seen", &error, "NONEXISTENT");
            return Ok(());
        }
    };
    let features = session.features;
    let items = FlagItems::of_command(features, uid);
    if let Some(mut answered) = outcome.answered.clone() {
        answered.retain(|one| outcome.changed.binary_search(&one.uid).is_ok());
        return answer_early(session, &outcome, &answered, Some(items)).await;
    }
    tell_marked(session, &outcome, items).await
}

/// The same in a mailbox in which the user has a `\Seen` of his own.
async fn mark_own_seen(
    session: &mut Session,
    seen: PrivateSeen,
    uids: Vec<Uid>,
    uid: bool,
) -> Result<(), End> {
    let Some(selected) = session.selected.as_ref() else { return Ok(()) };
    let (owner, mailbox) = (selected.owner.clone(), selected.mailbox.clone());
    let marked = async {
        let uids = owner.change_private_seen(&seen, uids, true).await?;
        let (mode, unchanged_since) = (seen.touch(), None);
        let (flags, keywords) = (SystemFlags::empty(), vec![]);
        mailbox.store(StoreRequest { uids, mode, flags, keywords, unchanged_since }).await
    };
    match marked.await {
        Ok(outcome) => {
            let items = FlagItems::of_command(session.features, uid);
            tell_marked(session, &outcome, items).await
        }
        Err(error) => {
            session.failure("mark messages as seen", &error, "NONEXISTENT");
            Ok(())
        }
    }
}

/// Tells the flags of messages that became `\Seen`.
async fn tell_marked(
    session: &mut Session,
    outcome: &StoreOutcome,
    items: FlagItems,
) -> Result<(), End> {
    let features = session.features;
    session.adopt(outcome.view.clone(), outcome.own()).await?;
    for some in outcome.changed.chunks(MARKED_TURN) {
        let Some(selected) = session.selected.as_ref() else { return Ok(()) };
        session.conn.out.with_vec(|out| {
            for (seq, record) in some.iter().filter_map(|uid| selected.view.record_of(*uid)) {
                selected.write_flag_fetch(out, seq, &record, features, items);
            }
        });
        session.breathe().await?;
    }
    Ok(())
}
