//! A mailbox that was selected before its messages were read: see [`engine::Mailbox::first_look`].
//!
//! SELECT has told how many messages there are and nothing of any of them. A FETCH of UIDs and flags is
//! answered from the files' names, where these tell all. The next other command that may need a message
//! waits here for the rest, and tells what came otherwise: messages that are gone already, others that are
//! new, and flags that are no more what was told.

use engine::{Promised, User};
use protocol::imap::command::{Body, Fetch, FetchItem, SetArgument};
use protocol::imap::encode;
use protocol::types::{SeqNum, SetValue, SystemFlags, Uid};

use super::reply::{End, Reply};
use super::selected::{Features, FlagItems, Selected, SeqRanges, begin_fetch};
use super::session::Session;

/// Messages whose flags are written at once: they fit a large buffer.
const FLAGS_TURN: u32 = 1024;

impl Session {
    /// Answers what needs none of the messages that SELECT told of; `None`: all others wait for them.
    pub(super) async fn answer_early(&mut self, body: &Body) -> Result<Option<Reply>, End> {
        let Body::Fetch(fetch) = body else { return Ok(None) };
        let promised = self.selected.as_ref().and_then(|selected| selected.promised.as_ref());
        let Some(promised) = promised.cloned() else { return Ok(None) };
        Box::pin(self.fetch_early(fetch, promised)).await
    }

    async fn fetch_early(
        &mut self,
        fetch: &Fetch,
        promised: Promised,
    ) -> Result<Option<Reply>, End> {
        let features = self.features;
        // MODSEQs come with the messages, and sessions that count them get these with all flags.
        let has_more = fetch.changed_since.is_some() || fetch.vanished || fetch.partial.is_some();
        if has_more || features.condstore || features.uid_only || self.message_limit().is_some() {
            return Ok(None);
        }
        let Some(items) = early_items(fetch) else { return Ok(None) };
        let Some(ranges) = resolve(&promised, &fetch.set, fetch.uid) else { return Ok(None) };
        for (first, last) in ranges {
            let mut next = first;
            while next <= last {
                let to = SeqNum(last.0.min(next.0.saturating_add(FLAGS_TURN - 1)));
                let Some(messages) = promised.messages(next, to) else { return Ok(None) };
                self.conn.out.with_large(|out| {
                    for message in messages {
                        write_early(out, message, &items, features);
                    }
                });
                next = SeqNum(to.0.saturating_add(1));
                self.breathe().await?;
            }
        }
        if let Some(selected) = self.selected.as_mut() {
            selected.told_early = true;
        }
        Ok(Some(Reply::ok("Completed")))
    }

    /// Waits for the messages that SELECT told of. A command that speaks of sequence numbers is
    /// refused if some are gone: those of the others are not what its client thinks.
    pub(super) async fn keep_promise(&mut self, by_numbers: bool) -> Result<Option<Reply>, End> {
        match self.selected.as_ref().is_some_and(|selected| selected.promised.is_some()) {
            true => Box::pin(self.wait_for_messages(by_numbers)).await,
            false => Ok(None),
        }
    }

    async fn wait_for_messages(&mut self, by_numbers: bool) -> Result<Option<Reply>, End> {
        let Some(selected) = self.selected.as_mut() else { return Ok(None) };
        let Some(promised) = selected.promised.clone() else { return Ok(None) };
        self.services.meter.doing("first look");
        let kept = selected.mailbox.kept(&promised).await;
        if selected.mailbox.is_gone() {
            return Err(End::Bye("The selected mailbox was deleted"));
        }
        let newest = match kept {
            Ok(view) => view.seen_by(selected.seen.as_ref()),
            Err(error) => {
                let user = self.user.as_ref().map(User::name);
                self.services.log_error(&self.conn, user, "read a mailbox", &error);
                return Err(End::Bye("The selected mailbox cannot be read"));
            }
        };
        let missing = promised.missing(&newest);
        if by_numbers && !missing.is_empty() {
            let text = "Messages were removed by another program: NOOP tells which";
            return Ok(Some(Reply::no(text).word("EXPUNGEISSUED")));
        }
        let features = self.features;
        let otherwise = match selected.told_early {
            true => selected.mailbox.told_otherwise(&promised, &newest).await,
            false => Ok(Vec::new()),
        };
        let otherwise = otherwise.map_err(|_| End::Bye("Server is shutting down"))?;
        let (seqs, uids): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
        (selected.promised, selected.told_early) = (None, false);
        let exists = newest.exists();
        let more = (exists != promised.exists() - seqs.len() as u32).then_some(exists);
        self.conn.out.with_vec(|out| {
            if !seqs.is_empty() {
                match features.qresync || features.uid_only {
                    true => Selected::write_vanished(out, &uids),
                    false => Selected::write_expunged(out, &seqs),
                }
            }
            selected.take_view(newest, more, out, features);
            selected.claim_recent();
            let items = FlagItems::of_command(features, false);
            for seq in otherwise {
                if let Some(record) = selected.view.record(seq) {
                    selected.write_flag_fetch(out, seq, &record, features, items);
                }
            }
        });
        if features.condstore {
            self.tell_modseq_highest();
        }
        Ok(None)
    }
}

/// The items of a FETCH that asks for UIDs and flags alone, in the order of its answer.
fn early_items(fetch: &Fetch) -> Option<Vec<FetchItem>> {
    let mut items = fetch.items.clone();
    if fetch.uid && !items.contains(&FetchItem::Uid) {
        items.insert(0, FetchItem::Uid);
    }
    let is_early = |item: &FetchItem| matches!(item, FetchItem::Uid | FetchItem::Flags);
    items.iter().all(is_early).then_some(items)
}

/// A set's messages; `None` for what is not plain, which is looked at with the messages.
fn resolve(promised: &Promised, set: &SetArgument, by_uid: bool) -> Option<SeqRanges> {
    let SetArgument::Set(set) = set else { return None };
    if by_uid {
        let ranges = set.resolve(promised.uid_last().0).into_iter();
        return Some(ranges.filter_map(|range| promised.seqs_in_uid_range(range)).collect());
    }
    let exists = promised.exists();
    let is_beyond = |end: SetValue| matches!(end, SetValue::Number(n) if n > exists);
    if set.ranges.iter().any(|range| is_beyond(range.first) || is_beyond(range.last)) {
        return None;
    }
    let ranges = set.resolve(exists).into_iter();
    Some(ranges.map(|(first, last)| (SeqNum(first), SeqNum(last))).collect())
}

/// One message's answer. All promised messages are new to everybody.
fn write_early(
    out: &mut Vec<u8>,
    (seq, uid, flags): (SeqNum, Uid, SystemFlags),
    items: &[FetchItem],
    features: Features,
) {
    begin_fetch(out, seq, uid, features);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        if *item == FetchItem::Uid {
            out.extend_from_slice(b"UID ");
            encode::number(out, u64::from(uid.0));
        } else {
            out.extend_from_slice(b"FLAGS ");
            encode::flags(out, flags, [], (!features.rev2).then_some("\\Recent"));
        }
    }
    out.extend_from_slice(b")\r\n");
}
