//! SELECT and EXAMINE: RFC 3501 section 6.3.1 and 6.3.2, RFC 9051, RFC 7162 sections 3.1
//! and 3.2.5, RFC 8474 section 4.2, RFC 5257 sections 4.1 and 4.2.

use engine::{FirstLook, Mailbox, Rights, SeqMatch};
use protocol::imap::command::{Fetch, FetchItem, QResync, SelectParameters, SetArgument};
use protocol::imap::encode::{self, Code, ListLine, Status};
use protocol::types::{SeqNum, SequenceSet};

use super::super::reply::{End, Outcome, Reply};
use super::super::selected::Selected;
use super::super::session::Session;
use super::super::sharing::Place;
use super::fetch;
use super::search::set_of;

pub(in super::super) async fn run(
    session: &mut Session,
    name: &str,
    read_only: bool,
    parameters: SelectParameters,
) -> Outcome {
    let SelectParameters { condstore, annotate, qresync } = parameters;
    if qresync.is_some() && !session.features.qresync {
        return Ok(Reply::bad("ENABLE QRESYNC first"));
    }
    // Even a SELECT that fails ends the selection before it. RFC 7162 section 3.2.11 has all clients
    // told so.
    if session.selected.take().is_some() {
        session.untagged(Status::Ok, Some(&Code::Word("CLOSED")), "Previous mailbox closed");
    }
    session.features.condstore |= condstore;
    let place = match session.place_with(name, Rights::READ, "NONEXISTENT").await {
        Ok(place) => place,
        Err(reply) => return Ok(reply),
    };
    let warns = session.services.config().imap.quota_warn_percent > 0;
    // Whoever asks more of it than numbers waits for the messages.
    let needs_messages = qresync.is_some() || !place.own || warns || session.notices.is_some();
    let looked = match needs_messages {
        true => whole(&place).await,
        false => place.user.first_look(&place.name).await,
    };
    let (mailbox, view, promised) = match looked {
        Ok((mailbox, FirstLook::Whole(view))) => (mailbox, view, None),
        Ok((mailbox, FirstLook::Promised(promised))) => {
            (mailbox, promised.before().clone(), Some(promised))
        }
        Err(error) => return Ok(session.failure("open a mailbox", &error, "NONEXISTENT")),
    };
    // Flags are the reader's even so.
    let is_only_read = match mailbox.is_read_only_copy().await {
        Ok(is_only_read) => is_only_read,
        Err(error) => return Ok(session.failure("open a mailbox", &error, "NONEXISTENT")),
    };
    let seen = match session.own_seen(&place, &mailbox).await {
        Ok(seen) => seen,
        Err(error) => return Ok(session.failure("read what was seen", &error, "NONEXISTENT")),
    };
    let mailbox_name = place.name.clone();
    let mut selected = Box::new(Selected::new(place, (mailbox, view), seen, read_only));
    selected.tells_annotations = annotate;
    let value_bytes_max = session.services.config().limits.metadata_value_bytes_max;
    let read_only = selected.read_only || is_only_read;
    let separator = session.viewer().ok().map(|viewer| viewer.names.separator());
    let rev2 = session.features.rev2;
    // RFC 9051 does without, and UIDONLY knows no sequence numbers.
    let unseen = match &promised {
        _ if rev2 || session.features.uid_only => Ok(None),
        Some(promised) => Ok(promised.first_unseen()),
        None => selected.mailbox.first_unseen(&selected.view).await,
    };
    let unseen = match unseen {
        Ok(unseen) => unseen,
        Err(error) => return Ok(session.failure("look through a mailbox", &error, "NONEXISTENT")),
    };
    selected.promised = promised;
    session.conn.out.with_vec(|out| {
        write_state(out, &selected, (name, separator), rev2, unseen);
        // RFC 5257 section 4.1.
        let level = match selected.examined {
            true => "READ-ONLY".to_owned(),
            false => value_bytes_max.to_string(),
        };
        let code = Code::Text(format!("ANNOTATIONS {level}"));
        encode::status(out, None, Status::Ok, Some(&code), "Annotations can be used");
    });
    session.selected = Some(selected);
    warn_of_quota(session, &mailbox_name);
    if let Some(known) = qresync
        && let Err(reply) = resynchronise(session, *known).await?
    {
        session.selected = None;
        return Ok(reply);
    }
    Ok(Reply::ok("Selected").word(if read_only { "READ-ONLY" } else { "READ-WRITE" }))
}

/// A mailbox with all of its messages.
async fn whole(place: &Place) -> engine::Result<(Mailbox, FirstLook)> {
    let mailbox = place.user.mailbox(&place.name).await?;
    let view = mailbox.refresh().await?;
    Ok((mailbox, FirstLook::Whole(view)))
}

/// Warns of a limit that is nearly reached, as Cyrus does, if the configuration says from where on.
fn warn_of_quota(session: &mut Session, name: &str) {
    let percent_min = u64::from(session.services.config().imap.quota_warn_percent);
    let Some(selected) = session.selected.as_ref().filter(|_| percent_min > 0) else { return };
    let root = selected.owner.quota_root(name);
    let (usage, limits) = (root.usage, root.limits);
    let share = |used: u64, limit: Option<u64>| {
        limit.filter(|limit| *limit > 0).map(|limit| used.saturating_mul(100) / limit)
    };
    let shares = [share(usage.bytes, limits.bytes), share(usage.messages, limits.messages)];
    let Some(percent) = shares.into_iter().flatten().max().filter(|p| *p >= percent_min) else {
        return;
    };
    let text = format!("Mailbox is at {percent}% of quota");
    session.untagged(Status::No, Some(&Code::Word("ALERT")), &text);
}

/// Tells what happened since the client last looked, if it is still the same mailbox.
async fn resynchronise(session: &mut Session, known: QResync) -> Result<Result<(), Reply>, End> {
    let QResync { uid_validity, modseq, known, matched } = known;
    let Some(selected) = session.selected.as_ref() else { return Ok(Ok(())) };
    if selected.view.uid_validity() != uid_validity {
        return Ok(Ok(()));
    }
    let newest = selected.view.uid_next().0.saturating_sub(1);
    let known = match known {
        Some(set) => set,
        None if newest == 0 => return Ok(Ok(())),
        None => set_of(&[(1, newest)]),
    };
    let ranges = |set: &SequenceSet| set.resolve(u32::MAX);
    let matched = matched.map(|(seqs, uids)| SeqMatch { seqs: ranges(&seqs), uids: ranges(&uids) });
    let told = fetch::tell_vanished(session, ranges(&known), modseq, matched.unwrap_or_default());
    if let Err(reply) = told.await {
        return Ok(Err(reply));
    }
    let flags = Fetch {
        uid: true,
        set: SetArgument::Set(known),
        items: vec![FetchItem::Flags],
        changed_since: Some(modseq),
        vanished: false,
        partial: None,
    };
    let reply = fetch::serve(session, flags, None).await?;
    Ok(if reply.status == Status::Ok { Ok(()) } else { Err(reply) })
}

fn write_state(
    out: &mut Vec<u8>,
    selected: &Selected,
    (name, separator): (&str, Option<char>),
    rev2: bool,
    unseen: Option<SeqNum>,
) {
    let view = &selected.view;
    // All promised messages are new to everybody.
    let (exists, recent, uid_next) = match &selected.promised {
        Some(promised) => (promised.exists(), promised.exists() as usize, promised.uid_next()),
        None => (view.exists(), selected.recent_count(), view.uid_next()),
    };
    selected.write_flag_names(out);
    encode::print(out, format_args!("* {exists} EXISTS\r\n"));
    let ok = |out: &mut Vec<u8>, code: Code, text: &str| {
        encode::status(out, None, Status::Ok, Some(&code), text);
    };
    if rev2 {
        let line = ListLine { name, separator, ..ListLine::default() };
        encode::list(out, &line, true);
    } else {
        encode::print(out, format_args!("* {recent} RECENT\r\n"));
        if let Some(first) = unseen {
            ok(out, Code::Unseen(first.0), "First unseen");
        }
    }
    ok(out, Code::UidValidity(view.uid_validity()), "UIDs valid");
    ok(out, Code::UidNext(uid_next), "Predicted next UID");
    ok(out, Code::HighestModSeq(view.modseq_highest()), "Highest");
    let object_id = selected.owner.namespace().object_id(selected.mailbox.id());
    ok(out, Code::MailboxId(object_id), "Mailbox id");
    ok(out, Code::UrlMechanism, "URLs can be authorised");
}
