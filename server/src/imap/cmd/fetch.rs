//! FETCH and UID FETCH: RFC 3501 section 6.4.5, CHANGEDSINCE of RFC 7162 section 3.1.4, VANISHED of
//! its section 3.2.6, dates of saving of RFC 8514, PARTIAL of RFC 9394 section 3.3, annotations of
//! RFC 5257.

use engine::{Annotations, Error, Mailbox, Record, SeqMatch, User, View};
use protocol::imap::command::{Fetch, FetchItem, SetArgument};
use protocol::imap::encode;
use protocol::types::{ModSeq, SeqNum, SystemFlags, Uid};

use super::super::fetch::{AnnotationItem, Beside, Marks, Plan, Sent, ahead, write_message};
use super::super::limit::{count, refusal, within};
use super::super::reply::{End, Outcome, Reply};
use super::super::session::{PIECE_BYTES, Session};

/// How many records are looked at before other sessions run, if they give no output.
const YIELD_RECORDS: usize = 8192;

/// Messages whose dates of saving are read at once.
const DATES_TURN: u32 = 4096;

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
    let since = fetch.changed_since.unwrap_or_default();
    let plan = Plan::new(fetch, session.features);
    if plan.needs_file {
        ahead::look_ahead(session);
    }
    let Some(selected) = session.selected.as_ref() else { return Ok(Reply::ok("Completed")) };
    let marks = plan.marks_seen && selected.scope().system.contains(SystemFlags::SEEN);
    let mut progress =
        Progress { marks: marks.then(Marks::default), trouble: None, ahead: SeqNum(0) };
    for (first, last) in ranges {
        send_range(session, &plan, first, last, since, &mut progress).await?;
    }
    if let Some(marks) = progress.marks {
        marks.take_back(session).await;
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
    let mut progress = Progress { marks: None, trouble: None, ahead: SeqNum(0) };
    send_range(session, &plan, first, last, ModSeq(0), &mut progress).await
}

/// What has to be done or said when all messages are sent.
struct Progress {
    /// What becomes `\Seen`; `None` if nothing does.
    marks: Option<Marks>,
    /// The first message that could not be sent, as the command's answer.
    trouble: Option<Reply>,
    /// The last message whose file was asked for ahead.
    ahead: SeqNum,
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
        if let Some(marks) = &mut progress.marks {
            marks.ahead(session, next, last, since).await?;
        }
        // As many as index and cache answer, without an await.
        let Some(selected) = session.selected.as_ref() else { return Ok(()) };
        let marks = progress.marks.as_ref();
        let mut visited = 0;
        let mut damaged = None;
        // Most often index and cache tell all, and nothing else is looked at for each message.
        let has_more = plan.needs_save_date || plan.needs_annotations() || marks.is_some();
        let encode = |out: &mut Vec<u8>| {
            let start = out.len();
            let mut records = selected.view.records(next, last).stopping_at_damage();
            next = SeqNum(last.0 + 1);
            for (seq, mut record) in records.by_ref().take(YIELD_RECORDS) {
                if marks.is_some_and(|marks| seq > marks.through) {
                    next = seq;
                    return None;
                }
                let wants_date = has_more && plan.needs_save_date && !dates.has(seq);
                if wants_date
                    || has_more && plan.needs_annotations() && !annotations.covers(record.uid)
                {
                    next = seq;
                    return None;
                }
                next = SeqNum(seq.0 + 1);
                visited += 1;
                if record.modseq <= since && since.0 > 0 {
                    continue;
                }
                let became_seen = marks.is_some_and(|marks| marks.apply(&mut record));
                let mut beside = Beside { save_date: None, annotations: &[], became_seen };
                if has_more {
                    beside.save_date = dates.of(seq);
                    beside.annotations = annotations.of(record.uid);
                }
                if !plan.write_now(selected, out, seq, &record, beside) {
                    return Some((seq, record, became_seen));
                }
                if out.len() - start > PIECE_BYTES {
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
        if let Some((seq, record, became_seen)) = slow {
            let (mailbox, view) = (selected.mailbox.clone(), selected.view.clone());
            if session.ahead.is_wanted() {
                let to = SeqNum(last.0.min(seq.0.saturating_add(ahead::MESSAGES_AHEAD)));
                progress.read_ahead(session, &mailbox, &view, SeqNum(seq.0 + 1), to);
            }
            let waits = session.services.lane.waits();
            let save_date = dates.of(seq);
            let annotations = annotations.of(record.uid);
            let beside = Beside { save_date, annotations, became_seen };
            let sent = write_message(session, plan, &mailbox, &view, seq, record, beside).await?;
            if let Sent::Trouble(reply) = sent {
                progress.trouble.get_or_insert(reply);
                if let Some(marks) = progress.marks.as_mut().filter(|_| became_seen) {
                    marks.not_sent(record.uid);
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
