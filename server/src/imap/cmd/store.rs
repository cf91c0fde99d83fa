//! STORE and UID STORE: RFC 3501 section 6.4.6, UNCHANGEDSINCE of RFC 7162 section 3.1.3, ANNOTATION
//! of RFC 5257 section 4.5.

use engine::{
    Annotate, Answered, Error, FlagScope, PrivateSeen, Rights, StoreOutcome, StoreRequest, User,
};
use protocol::imap::command::{Store, StoreMode};
use protocol::imap::encode::Code;
use protocol::types::{ModSeq, SeqNum, SequenceSet, SystemFlags, Uid};
use tokio::sync::mpsc;

use super::super::annotations;
use super::super::reply::{End, Outcome, Reply};
use super::super::selected::{FlagItems, Selected, SeqRanges};
use super::super::session::{PIECE_BYTES, Session};
use super::fetch::LONG_RECORDS;

/// Messages whose structure is looked at before other sessions run.
const YIELD_MESSAGES: usize = 256;

pub(in super::super) async fn run(session: &mut Session, store: Store) -> Outcome {
    if store.unchanged_since.is_some() {
        session.enable_condstore();
    }
    if !store.annotations.is_empty() {
        return annotate(session, store).await;
    }
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    if selected.read_only {
        return Ok(Reply::no("Mailbox is selected read-only").word("CANNOT"));
    }
    let scope = selected.scope();
    let (system, keywords) = (scope.system_of(store.flags.system), store.flags.keywords.clone());
    let names_none = store.flags.system.is_empty() && keywords.is_empty();
    let may_none = system.is_empty() && (keywords.is_empty() || !scope.keywords);
    // One flag that may be changed is enough (RFC 4314 section 4).
    if scope.is_empty() || !names_none && may_none {
        return Ok(Reply::no_permission());
    }
    let ranges = match selected.resolve(&store.set, store.uid) {
        Ok(ranges) => ranges,
        Err(reply) => return Ok(reply),
    };
    let (ranges, cut) = session.cut(ranges);
    let uids = match selected.uids(session.services.store.helpers(), ranges.clone(), None).await {
        Ok(uids) => uids,
        Err(error) => return Ok(session.failure("store flags", &error, "NONEXISTENT")),
    };
    if uids.is_empty() {
        return Ok(Reply::ok("No such messages"));
    }
    if let Some(seen) = &selected.seen {
        let seen = seen.clone();
        return store_own(session, store, seen, (ranges, uids), cut).await;
    }
    let request = StoreRequest {
        uids,
        mode: match store.mode {
            StoreMode::Replace if scope == FlagScope::ALL => engine::StoreMode::Replace,
            StoreMode::Replace => engine::StoreMode::ReplaceWithin(scope),
            StoreMode::Add => engine::StoreMode::Add,
            StoreMode::Remove => engine::StoreMode::Remove,
        },
        flags: system,
        keywords: if scope.keywords { keywords } else { vec![] },
        unchanged_since: store.unchanged_since,
    };
    // Who counts MODSEQs is told of every change in their order.
    if !store.silent
        && !session.features.condstore
        && request.unchanged_since.is_none()
        && request.uids.len() > StoreRequest::PART
    {
        return Box::pin(store_many(session, request, ranges, (store.uid, cut))).await;
    }
    let stored = if session.answers_early() {
        selected.mailbox.store_early(request).await
    } else {
        let mailbox = selected.mailbox.clone();
        session.working(None, mailbox.store(request)).await?
    };
    let outcome = match stored {
        Ok(outcome) => outcome,
        Err(error) => return Ok(session.failure("store flags", &error, "NONEXISTENT")),
    };
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    if let Some(answered) = &outcome.answered {
        let items = FlagItems::of_command(session.features, store.uid);
        answer_early(session, &outcome, answered, items, store.silent).await?;
        return Ok(session.limited(Reply::ok("Completed"), cut));
    }
    let modified = modified_set(selected, &outcome, store.uid);
    answer(session, ranges, &outcome, store.uid, store.silent).await?;
    let reply = match modified {
        Some(set) => Reply::ok("Some messages were changed before").code(Code::Modified(set)),
        None => Reply::ok("Completed"),
    };
    Ok(session.limited(reply, cut))
}

/// A STORE of more messages than one transaction changes: those that are done are answered while the
/// others are under way.
async fn store_many(
    session: &mut Session,
    request: StoreRequest,
    ranges: SeqRanges,
    (uid, cut): (bool, Option<Code>),
) -> Outcome {
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let mailbox = selected.mailbox.clone();
    let uids = request.uids.clone();
    let (tell, mut parts) = mpsc::unbounded_channel();
    // Nobody listens when the session went away; the change stands all the same.
    let storing = mailbox.store_in_parts(request, move |part| drop(tell.send(part)));
    let answering = async {
        let mut rest = (ranges, &uids[..]);
        while let Some(part) = session.working(None, parts.recv()).await? {
            let those = first_of(&mut rest.0, StoreRequest::PART as u32);
            // Of the messages that have their answers still before them, nothing is told but that.
            answer_part(session, those, &part, rest.1, uid).await?;
            rest.1 = rest.1.get(StoreRequest::PART..).unwrap_or_default();
        }
        Ok::<_, End>((session, rest))
    };
    let (stored, answered) = tokio::join!(storing, answering);
    let (session, (ranges, uids)) = answered?;
    let Err(error) = stored else {
        return Ok(session.limited(Reply::ok("Completed"), cut));
    };
    // What others changed of these was left to answers that do not come any more.
    let nothing = (ModSeq(0), Vec::new(), Vec::new(), Vec::new());
    let (modseq, modified, changed, before) = nothing;
    let view = mailbox.view();
    let none = StoreOutcome { modseq, modified, changed, before, view, answered: None };
    answer_part(session, ranges, &none, uids, uid).await?;
    Ok(session.failure("store flags", &error, "NONEXISTENT"))
}

/// Takes the first `count` messages from ranges.
fn first_of(ranges: &mut SeqRanges, mut count: u32) -> SeqRanges {
    let mut taken = SeqRanges::new();
    let mut whole = 0;
    for range in ranges.iter_mut() {
        let (first, last) = *range;
        let there = last.0 - first.0 + 1;
        if there > count {
            if count > 0 {
                taken.push((first, SeqNum(first.0 + count - 1)));
                range.0 = SeqNum(first.0 + count);
            }
            break;
        }
        taken.push((first, last));
        count -= there;
        whole += 1;
    }
    ranges.drain(..whole);
    taken
}

/// A STORE in a mailbox in which the user has a `\Seen` of his own. That is changed first, and what
/// else there is then; a message of which only that changed gets a new MODSEQ all the same.
async fn store_own(
    session: &mut Session,
    store: Store,
    seen: PrivateSeen,
    (ranges, mut uids): (SeqRanges, Vec<Uid>),
    cut: Option<Code>,
) -> Outcome {
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let (owner, mailbox) = (selected.owner.clone(), selected.mailbox.clone());
    let scope = selected.scope();
    let names_seen = store.flags.system.contains(SystemFlags::SEEN);
    let may_see = scope.system.contains(SystemFlags::SEEN);
    let mut modified = Vec::new();
    if let Some(since) = store.unchanged_since {
        let newest = mailbox.view();
        let is_newer = |uid: &Uid| newest.record_of(*uid).is_some_and(|(_, r)| r.modseq > since);
        (modified, uids) = uids.into_iter().partition(is_newer);
    }
    let on = match store.mode {
        StoreMode::Replace => may_see.then_some(names_seen),
        StoreMode::Add => (may_see && names_seen).then_some(true),
        StoreMode::Remove => (may_see && names_seen).then_some(false),
    };
    let rest = FlagScope { system: scope.system.difference(SystemFlags::SEEN), ..scope };
    let request = StoreRequest {
        uids: uids.clone(),
        mode: match store.mode {
            StoreMode::Replace => engine::StoreMode::ReplaceWithin(rest),
            StoreMode::Add => engine::StoreMode::Add,
            StoreMode::Remove => engine::StoreMode::Remove,
        },
        flags: rest.system_of(store.flags.system),
        keywords: if rest.keywords { store.flags.keywords } else { vec![] },
        unchanged_since: store.unchanged_since,
    };
    let work = async move {
        let mut touched = match on {
            Some(on) => owner.change_private_seen(&seen, uids, on).await?,
            None => Vec::new(),
        };
        let mut outcome = mailbox.store(request).await?;
        touched.retain(|uid| outcome.changed.binary_search(uid).is_err());
        if !touched.is_empty() {
            let (mode, unchanged_since) = (seen.touch(), None);
            let (flags, keywords) = (SystemFlags::empty(), vec![]);
            let request = StoreRequest { uids: touched, mode, flags, keywords, unchanged_since };
            let more = mailbox.store(request).await?;
            let changed = outcome.changed.into_iter().chain(more.changed);
            let before = outcome.before.into_iter().chain(more.before);
            let mut both: Vec<(Uid, ModSeq)> = changed.zip(before).collect();
            both.sort_unstable();
            (outcome.changed, outcome.before) = both.into_iter().unzip();
            (outcome.modseq, outcome.view) = (more.modseq, more.view);
        }
        outcome.modified.extend(modified);
        outcome.modified.sort_unstable();
        outcome.modified.dedup();
        Ok(outcome)
    };
    let outcome: engine::Result<StoreOutcome> = session.working(None, work).await?;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Ok(session.failure("store flags", &error, "NONEXISTENT")),
    };
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let modified = modified_set(selected, &outcome, store.uid);
    answer(session, ranges, &outcome, store.uid, store.silent).await?;
    let reply = match modified {
        Some(set) => Reply::ok("Some messages were changed before").code(Code::Modified(set)),
        None => Reply::ok("Completed"),
    };
    Ok(session.limited(reply, cut))
}

/// STORE of annotations: RFC 5257 section 4.5. Without an answer but the MODSEQs of CONDSTORE.
async fn annotate(session: &mut Session, store: Store) -> Outcome {
    let viewer = session.user.as_ref().map_or("", User::name).to_owned();
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let rights = if selected.examined { Rights::NONE } else { selected.rights };
    let values = match annotations::values(store.annotations, &viewer, rights) {
        Ok(values) => values,
        Err(reply) => return Ok(reply),
    };
    let ranges = match selected.resolve(&store.set, store.uid) {
        Ok(ranges) => ranges,
        Err(reply) => return Ok(reply),
    };
    let (ranges, cut) = session.cut(ranges);
    let uids = match selected.uids(session.services.store.helpers(), ranges.clone(), None).await {
        Ok(uids) => uids,
        Err(error) => return Ok(session.failure("store annotations", &error, "NONEXISTENT")),
    };
    if uids.is_empty() {
        return Ok(Reply::ok("No such messages"));
    }
    if let Err(error) = check_parts(session, &uids, &annotations::parts(&values)).await {
        return Ok(session.failure("store annotations", &error, "NONEXISTENT"));
    }
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let (mailbox, seen) = (selected.mailbox.clone(), selected.seen.clone());
    let request = Annotate { uids, values, unchanged_since: store.unchanged_since };
    let work = async move { mailbox.annotate(request, seen.as_ref()).await };
    let outcome = match session.working(None, work).await? {
        Ok(outcome) => outcome,
        Err(error) => return Ok(session.failure("store annotations", &error, "NONEXISTENT")),
    };
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    let modified = modified_set(selected, &outcome, store.uid);
    answer(session, ranges, &outcome, store.uid, true).await?;
    let reply = match modified {
        Some(set) => Reply::ok("Some messages were changed before").code(Code::Modified(set)),
        None => Reply::ok("Completed"),
    };
    Ok(session.limited(reply, cut))
}

/// Whether every message has these body parts.
async fn check_parts(session: &Session, uids: &[Uid], parts: &[Vec<u32>]) -> engine::Result<()> {
    let Some(selected) = session.selected.as_ref().filter(|_| !parts.is_empty()) else {
        return Ok(());
    };
    for (n, uid) in uids.iter().enumerate() {
        let Some((_, record)) = selected.view.record_of(*uid) else { continue };
        let made;
        let mapped = selected.view.extras(&record);
        let extras = match mapped.as_ref().and_then(|mapped| mapped.extras()) {
            Some(extras) => Some(extras),
            None => {
                made = selected.mailbox.extras(&session.services.lane, &record).await?;
                made.extras()
            }
        };
        let has = |part: &Vec<u32>| extras.is_some_and(|extras| extras.has_part(part));
        if !parts.iter().all(has) {
            return Err(Error::NoSuchPart);
        }
        if n % YIELD_MESSAGES == YIELD_MESSAGES - 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// The messages that failed UNCHANGEDSINCE, named as the command named them.
fn modified_set(selected: &Selected, outcome: &StoreOutcome, uid: bool) -> Option<SequenceSet> {
    if outcome.modified.is_empty() {
        return None;
    }
    let number = |message: &Uid| {
        if uid { Some(message.0) } else { selected.view.seq(*message).map(|seq| seq.0) }
    };
    Some(SequenceSet::from_ascending(outcome.modified.iter().filter_map(number)))
}

/// Tells the new flags of messages whose change the view does not show yet; of a silent STORE only
/// where others had changed them, too (RFC 3501 section 6.4.6: the client cannot know the result).
async fn answer_early(
    session: &mut Session,
    outcome: &StoreOutcome,
    answered: &[Answered],
    items: FlagItems,
    silent: bool,
) -> Result<(), End> {
    let features = session.features;
    let Some(selected) = session.selected.as_ref() else { return Ok(()) };
    let overtaken = selected.overtaken(outcome);
    adopt_early(session, outcome).await?;
    let Some(selected) = session.selected.as_ref() else { return Ok(()) };
    session.conn.out.with_vec(|out| {
        for Answered { uid, flags, keywords } in answered {
            if silent && overtaken.binary_search(uid).is_err() {
                continue;
            }
            if let Some((seq, mut record)) = selected.view.record_of(*uid) {
                (record.flags, record.keywords) = (*flags, *keywords);
                selected.write_flag_fetch(out, seq, &record, features, items);
            }
        }
    });
    Ok(())
}

/// Notes a change that the view does not show yet, and tells what others did.
pub(in super::super) async fn adopt_early(
    session: &mut Session,
    outcome: &StoreOutcome,
) -> Result<(), End> {
    let Some(selected) = session.selected.as_mut() else { return Ok(()) };
    selected.note_answered(&outcome.changed, outcome.modseq);
    session.adopt(outcome.view.clone(), (&[], ModSeq(0))).await
}

/// Tells the new flags: of every message of the set, or if silent only of those that others had
/// changed, too, and the MODSEQs that a CONDSTORE client has to learn.
async fn answer(
    session: &mut Session,
    ranges: SeqRanges,
    outcome: &StoreOutcome,
    uid: bool,
    silent: bool,
) -> Result<(), End> {
    let features = session.features;
    let Some(selected) = session.selected.as_ref() else { return Ok(()) };
    let overtaken = if silent { selected.overtaken(outcome) } else { Vec::new() };
    // First what others did, and the names of new keywords, so that the flags below are known.
    session.adopt(outcome.view.clone(), outcome.own()).await?;
    if silent && !features.condstore && overtaken.is_empty() {
        return Ok(());
    }
    tell_flags(session, ranges, outcome, &overtaken, uid, silent).await
}

/// As [`answer`], for a part of a change: `own` (ascending) are the messages whose answers come, in
/// this part and behind it.
async fn answer_part(
    session: &mut Session,
    ranges: SeqRanges,
    outcome: &StoreOutcome,
    own: &[Uid],
    uid: bool,
) -> Result<(), End> {
    session.adopt(outcome.view.clone(), (own, ModSeq(0))).await?;
    tell_flags(session, ranges, outcome, &[], uid, false).await
}

async fn tell_flags(
    session: &mut Session,
    ranges: SeqRanges,
    outcome: &StoreOutcome,
    overtaken: &[Uid],
    uid: bool,
    silent: bool,
) -> Result<(), End> {
    let features = session.features;
    let items = FlagItems::of_command(features, uid);
    for (first, last) in ranges {
        let mut next = first;
        while next <= last {
            let Some(selected) = session.selected.as_ref() else { return Ok(()) };
            let write = |out: &mut Vec<u8>| {
                let start = out.len();
                for (seq, record) in selected.view.records(next, last) {
                    next.0 = seq.0 + 1;
                    if outcome.modified.binary_search(&record.uid).is_ok() {
                        continue;
                    }
                    if !silent || overtaken.binary_search(&record.uid).is_ok() {
                        selected.write_flag_fetch(out, seq, &record, features, items);
                    } else if features.condstore
                        && outcome.changed.binary_search(&record.uid).is_ok()
                    {
                        selected.write_modseq_fetch(out, seq, &record, features, items);
                    }
                    if out.len() - start > PIECE_BYTES {
                        return;
                    }
                }
                next.0 = last.0 + 1;
            };
            if last.0 - first.0 >= LONG_RECORDS {
                session.conn.out.with_large(write);
            } else {
                session.conn.out.with_vec(write);
            }
            session.breathe().await?;
        }
    }
    Ok(())
}
