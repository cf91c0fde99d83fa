//! COPY and MOVE with their UID forms: RFC 3501 section 6.4.7, RFC 6851, COPYUID of RFC 4315,
//! HIGHESTMODSEQ of RFC 7162 section 3.2, annotations of RFC 5257 section 4.6.

use engine::{Carried, CarriedAnnotations, Copied, FlagScope, Mailbox, PrivateSeen, Rights, User};
use protocol::imap::command::Copy;
use protocol::imap::encode::{Code, Status};
use protocol::types::{SequenceSet, SystemFlags, Uid};

use super::super::limit::refusal;
use super::super::reply::{End, Outcome, Reply};
use super::super::session::Session;
use super::super::sync::SyncPoint;

/// Messages that are copied before the next ones.
const PIECE_MESSAGES: usize = 4096;

/// Pairs of UIDs that are put into sets without a helper.
const INLINE_PAIRS_MAX: usize = 32 << 10;

pub(in super::super) async fn run(session: &mut Session, copy: Copy) -> Outcome {
    let (target, uids) = match prepare(session, &copy).await {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return Ok(Reply::ok("No such messages")),
        Err(reply) => return Ok(reply),
    };
    if let Some(limit) = session.save_limit().filter(|limit| uids.len() > *limit as usize) {
        return Ok(refusal(limit));
    }
    if let Some(refusal) = sent(session, &target, &uids).await? {
        return Ok(refusal);
    }
    match transfer(session, &target, uids, false).await? {
        Ok(copied) => {
            if session.services.config().trash.move_expunged
                && let Some(selected) = session.selected.as_mut()
            {
                selected.note_copied(copied.pairs.iter().map(|(from, _)| *from));
            }
            Ok(match copy_uid(session, copied).await {
                Some(code) => Reply::ok("Copied").code(code),
                None => Reply::ok("No such messages"),
            })
        }
        Err(error) => Ok(session.failure("copy messages", &error, "TRYCREATE")),
    }
}

/// The EXPUNGE lines come from the sync point that follows, after COPYUID as RFC 6851 wants it.
pub(in super::super) async fn run_move(session: &mut Session, copy: Copy) -> Outcome {
    let Some(selected) = session.selected.as_ref() else {
        return Ok(Reply::bad("Select a mailbox first"));
    };
    if selected.read_only {
        return Ok(Reply::no("Mailbox is selected read-only").word("CANNOT"));
    }
    // RFC 6851 section 4.1: what STORE of \Deleted and EXPUNGE need.
    if !selected.rights.contains(Rights::DELETE_MESSAGES.union(Rights::EXPUNGE)) {
        return Ok(Reply::no_permission());
    }
    let (target, mut uids) = match prepare(session, &copy).await {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return Ok(Reply::ok("No such messages")),
        Err(reply) => return Ok(reply),
    };
    let cut = session.cut_uids(&mut uids, session.save_limit());
    if let Some(refusal) = sent(session, &target, &uids).await? {
        return Ok(refusal);
    }
    match transfer(session, &target, uids, true).await? {
        Ok(moved) => {
            if let Some(code) = copy_uid(session, moved).await {
                session.untagged(Status::Ok, Some(&code), "Moved");
            }
            let mut reply = Reply::ok("Moved");
            if session.features.condstore {
                session.sync_point(SyncPoint::Newest).await?;
                let highest = session.selected.as_ref().map(|s| s.view.modseq_highest());
                reply.code = highest.map(Code::HighestModSeq);
            }
            Ok(session.limited(reply, cut))
        }
        Err(error) => Ok(session.failure("move messages", &error, "TRYCREATE")),
    }
}

/// Sends messages that go to the outbox; if that fails, why they don't.
async fn sent(session: &mut Session, target: &Target, uids: &[Uid]) -> Result<Option<Reply>, End> {
    if !target.is_outbox {
        return Ok(None);
    }
    if let Some(refusal) = session.outbox_refusal(uids.len()) {
        return Ok(Some(refusal));
    }
    let Some(selected) = session.selected.as_ref() else { return Ok(None) };
    let (mailbox, view) = (selected.mailbox.clone(), selected.view.clone());
    Ok(session.send(&mailbox, &view, uids).await?.err())
}

/// Leaves `\Seen` to the user's own, where that is kept apart, if it may be set.
pub(super) fn own_scope(
    scope: FlagScope,
    seen: Option<PrivateSeen>,
) -> (FlagScope, Option<PrivateSeen>) {
    if seen.is_none() {
        return (scope, None);
    }
    let may = scope.system.contains(SystemFlags::SEEN);
    let system = scope.system.difference(SystemFlags::SEEN);
    (FlagScope { system, ..scope }, seen.filter(|_| may))
}

/// Copies or moves in pieces, as many messages as the engine makes one transaction of, so that the
/// client can be told how far it is.
async fn transfer(
    session: &mut Session,
    target: &Target,
    uids: Vec<Uid>,
    remove: bool,
) -> Result<engine::Result<Copied>, End> {
    let Target { owner, mailbox: target, carried, seen, .. } = target;
    let mut all = Copied { uid_validity: target.uid_validity(), pairs: Vec::new() };
    let total = uids.len() as u64;
    for (i, some) in uids.chunks(PIECE_MESSAGES).enumerate() {
        let Some(selected) = session.selected.as_ref() else { break };
        let (mailbox, view, some) =
            (selected.mailbox.clone(), selected.view.clone(), some.to_vec());
        let carried = carried.clone();
        let work = async move { mailbox.transfer(&view, some, target, remove, carried).await };
        let done = (i * PIECE_MESSAGES) as u64;
        match session.working(Some((done, total)), work).await? {
            Ok(copied) => all.pairs.extend(copied.pairs),
            Err(error) => return Ok(Err(error)),
        }
    }
    if let (Some(seen), Some(selected)) = (seen, session.selected.as_ref()) {
        // What the user had seen is seen in the copy, for this user.
        let had_seen = |from: &Uid| {
            let record = selected.view.record_of(*from).map(|(_, record)| record);
            record.is_some_and(|record| record.flags.contains(SystemFlags::SEEN))
        };
        let uids = all.pairs.iter().filter(|(from, _)| had_seen(from)).map(|(_, to)| *to);
        let uids: Vec<Uid> = uids.collect();
        if !uids.is_empty()
            && let Err(error) = owner.change_private_seen(seen, uids, true).await
        {
            // The copies are there; that they count as unseen is no reason to make them again.
            session.failure("mark messages as seen", &error, "TRYCREATE");
        }
    }
    Ok(Ok(all))
}

/// Where messages go.
struct Target {
    owner: User,
    mailbox: Mailbox,
    /// Flags and annotations that may be set there.
    carried: Carried,
    /// The session's user's own `\Seen` there, where it is not the owner's and may be set.
    seen: Option<PrivateSeen>,
    /// What comes there is sent.
    is_outbox: bool,
}

/// The target, and the UIDs of the set; `None` if the set is empty.
async fn prepare(session: &mut Session, copy: &Copy) -> Result<Option<(Target, Vec<Uid>)>, Reply> {
    let (place, mailbox) = session.mailbox(&copy.mailbox, Rights::INSERT, "TRYCREATE").await?;
    let seen = session.own_seen(&place, &mailbox).await;
    let seen = seen.map_err(|error| session.failure("read what was seen", &error, "TRYCREATE"))?;
    let (flags, seen) = own_scope(place.scope(), seen);
    let is_outbox = session.is_outbox(&place);
    let rights = place.rights.unwrap_or_default();
    // RFC 5257 section 4.6.
    let viewer = session.user.as_ref().map(User::name).filter(|_| rights.contains(Rights::READ));
    let annotations = CarriedAnnotations::Of {
        shared: rights.contains(Rights::ANNOTATE),
        private: viewer.map(str::to_owned),
    };
    let carried = Carried { flags, annotations };
    let target = Target { owner: place.user, mailbox, carried, seen, is_outbox };
    let Some(selected) = session.selected.as_ref() else {
        return Err(Reply::bad("Select a mailbox first"));
    };
    let ranges = selected.resolve(&copy.set, copy.uid)?;
    let uids = selected.uids(session.services.store.helpers(), ranges, Some(|_| true)).await;
    let uids = uids.map_err(|error| session.failure("copy messages", &error, "NONEXISTENT"))?;
    Ok((!uids.is_empty()).then_some((target, uids)))
}

/// Sets of many UIDs are put together by a helper thread.
async fn copy_uid(session: &Session, copied: Copied) -> Option<Code> {
    let (uid_validity, many) = (copied.uid_validity, copied.pairs.len() > INLINE_PAIRS_MAX);
    let sets = move || {
        let from = copied.pairs.iter().map(|(from, _)| from.0);
        let to = copied.pairs.iter().map(|(_, to)| to.0);
        let sets = (SequenceSet::from_ascending(from), SequenceSet::from_ascending(to));
        (!copied.pairs.is_empty()).then_some(sets)
    };
    let (from, to) = match many {
        // It answers as long as the store is open.
        true => session.services.store.helpers().run(sets).await.ok()??,
        false => sets()?,
    };
    Some(Code::CopyUid(uid_validity, from, to))
}
