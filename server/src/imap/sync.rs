//! Sync points: where a client is told how the selected mailbox differs from what it knows.
//!
//! Invariant: `Selected::view` is what the client believes. It changes here alone, each difference
//! told (or known to the client, who made it), and never where sequence numbers have to hold still;
//! and in `promised`, for messages that SELECT told of before they were read.

use engine::{Changes, NewAnnotations, User, View};
use protocol::imap::command::Body;
use protocol::imap::encode::{Code, Status};
use protocol::types::{ModSeq, Uid};

use super::reply::End;
use super::selected::Selected;
use super::session::Session;
use super::{cmd, contexts};

/// What a session tells at the end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncPoint {
    /// Nothing: sequence numbers have to hold still (RFC 3501 section 7.4.1).
    None,
    /// What is known already.
    Newest,
    /// The same, after a removal of the session's own: also where NOTIFY lets the mailbox hold still.
    Own,
    /// What is found by looking, foreign changes too.
    Refreshed,
}

impl SyncPoint {
    pub(super) fn of(body: &Body) -> SyncPoint {
        match body {
            Body::Noop | Body::Check => SyncPoint::Refreshed,
            Body::Notify(_) => SyncPoint::Refreshed,
            Body::Expunge | Body::UidExpunge(_) | Body::Move(_) => SyncPoint::Own,
            Body::Fetch(fetch) if !fetch.uid => SyncPoint::None,
            Body::Store(store) if !store.uid => SyncPoint::None,
            // RFC 7162 section 3.2.10.2 for the second.
            Body::Search(search) if !search.uid || search.key.names_sequence_numbers() => {
                SyncPoint::None
            }
            Body::Sort(sort) if !sort.uid || sort.key.names_sequence_numbers() => SyncPoint::None,
            Body::Thread(thread) if !thread.uid || thread.key.names_sequence_numbers() => {
                SyncPoint::None
            }
            // Their answers begin or end with the whole state of a mailbox.
            Body::Select { .. } | Body::Close | Body::Unselect | Body::Logout => SyncPoint::None,
            _ => SyncPoint::Newest,
        }
    }
}

/// Newer views that one sync point takes, while others change flags faster than they are told.
const VIEWS_MAX: usize = 8;

/// EXPUNGE lines that are written before other sessions run.
const EXPUNGED_TURN: usize = 4096;

impl Session {
    /// Tells what happened to the selected mailbox, if this is the time for it.
    pub(super) async fn sync_point(&mut self, point: SyncPoint) -> Result<(), End> {
        if self.holds_still() && point != SyncPoint::Own {
            return Ok(());
        }
        let Some(selected) = self.selected.as_mut() else { return Ok(()) };
        if point == SyncPoint::None || selected.promised.is_some() {
            return Ok(());
        }
        if point == SyncPoint::Refreshed
            && let Err(error) = selected.mailbox.refresh().await
        {
            let user = self.user.as_ref().map(User::name);
            self.services.log_error(&self.conn, user, "refresh a mailbox", &error);
        }
        for _ in 0..VIEWS_MAX {
            let Some(selected) = self.selected.as_mut() else { return Ok(()) };
            let newest = selected.newest().await;
            if selected.mailbox.is_gone() {
                return Err(End::Bye("The selected mailbox was deleted"));
            }
            if newest.is_same(&selected.view) {
                return Ok(());
            }
            // Apart from the task's own memory: an idle session shall not have room for it.
            Box::pin(self.tell(newest, (&[], ModSeq(0)), true)).await?;
            // Flags are live: those just told may be newer than the view, and a removal between the
            // two was not told, which a client that resumes from their MODSEQ would never hear of.
            if !self.selected.as_ref().is_some_and(|selected| selected.told_ahead()) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A sync point after the session's own change, which was told or need not be: its
    /// messages and MODSEQ, `own` (ascending), are left out. Does nothing while expunges are in the
    /// way: they may not be told here.
    pub(super) async fn adopt(&mut self, newest: View, own: (&[Uid], ModSeq)) -> Result<(), End> {
        Box::pin(self.tell(newest, own, false)).await
    }

    /// Tells the client what differs in a newer view, with pauses for other sessions, and takes it.
    async fn tell(
        &mut self,
        newest: View,
        (own, modseq): (&[Uid], ModSeq),
        expunges: bool,
    ) -> Result<(), End> {
        self.check_rights()?;
        let Some(selected) = self.selected.as_ref() else { return Ok(()) };
        self.services.meter.doing("sync point");
        let newest = newest.seen_by(selected.seen.as_ref());
        // Contexts have to know of the session's own changes, too.
        let old = (!selected.contexts.is_empty()).then(|| selected.view.clone());
        let modseq = if old.is_some() { ModSeq(0) } else { modseq };
        let changes = selected.mailbox.changes(&newest, &selected.view, modseq).await;
        let changes = changes.map_err(|_| End::Bye("Server is shutting down"))?;
        if !expunges && !changes.expunged.is_empty() {
            return Ok(());
        }
        let features = self.features;
        let (tells_flags, notified) = (self.tells_flags(), self.notifies_annotations());
        if let (Some(old), Some(selected)) = (&old, self.selected.as_mut()) {
            let remove = |out: &mut Vec<u8>| selected.contexts.remove(old, &changes.vanished, out);
            self.conn.out.with_vec(remove);
        }
        if features.qresync || features.uid_only {
            for some in changes.vanished.chunks(EXPUNGED_TURN) {
                self.conn.out.with_vec(|out| Selected::write_vanished(out, some));
                self.breathe().await?;
            }
        } else {
            for some in changes.expunged.rchunks(EXPUNGED_TURN) {
                self.conn.out.with_vec(|out| Selected::write_expunged(out, some));
                self.breathe().await?;
            }
        }
        let Some(selected) = self.selected.as_mut() else { return Ok(()) };
        let viewer = self.user.as_ref().map_or("", User::name);
        let tells_annotations = notified.unwrap_or(selected.tells_annotations);
        let annotations = match tells_annotations {
            true => {
                let (since, through) = (selected.view.modseq_highest(), newest.modseq_highest());
                selected.mailbox.new_annotations(since, through, viewer)
            }
            false => NewAnnotations::default(),
        };
        let known = selected.view.uid_next();
        self.conn.out.with_vec(|out| selected.take_view(newest, changes.exists, out, features));
        if changes.exists.is_some()
            && let Some(items) = self.items_of_new()
        {
            Box::pin(cmd::fetch::tell_new(self, items, known)).await?;
        }
        let tells_any = tells_flags || !annotations.is_empty();
        let mut rest = if tells_any { &changes.flags[..] } else { &[] };
        while !rest.is_empty() {
            let Some(selected) = self.selected.as_ref() else { return Ok(()) };
            let write = |out: &mut Vec<u8>| {
                selected.write_changed(out, rest, own, (tells_flags, &annotations), features)
            };
            rest = &rest[self.conn.out.with_vec(write)..];
            self.breathe().await?;
            if !rest.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        let Some(selected) = self.selected.as_mut() else { return Ok(()) };
        self.conn.out.with_vec(|out| selected.forget_answered(out, features));
        if let Some(old) = old {
            self.update_contexts(&changes, &old).await;
        }
        Ok(())
    }

    /// Tells what differs in the results of searches that asked for updates.
    async fn update_contexts(&mut self, changes: &Changes, old: &View) {
        let Some(selected) = self.selected.as_mut() else { return };
        let touched = contexts::touched(changes, old, &selected.view);
        if touched.is_empty() {
            return;
        }
        let mut contexts = std::mem::take(&mut selected.contexts);
        let (selected, mut lines) = (&*selected, Vec::new());
        let settle = |key| cmd::search::settle(key, selected);
        let view = &selected.view;
        let updated = contexts.update(&selected.mailbox, view, &touched, &settle, &mut lines).await;
        self.conn.out.push_vec(lines);
        if let Err(error) = updated {
            self.failure("update a search", &error, "NONEXISTENT");
            for tag in contexts.into_tags() {
                let code = Code::NoUpdate(tag);
                self.untagged(Status::No, Some(&code), "Updates cannot be had any more");
            }
        } else if let Some(selected) = self.selected.as_mut() {
            selected.contexts = contexts;
        }
    }

    /// A command that enables CONDSTORE: the first one of a session tells HIGHESTMODSEQ of the
    /// selected mailbox (RFC 7162 section 3.1).
    pub(super) fn enable_condstore(&mut self) {
        if !std::mem::replace(&mut self.features.condstore, true) {
            self.tell_modseq_highest();
        }
    }

    /// Tells up to where the client knows every change of the selected mailbox.
    pub(super) fn tell_modseq_highest(&mut self) {
        if let Some(selected) = &self.selected {
            let code = Code::HighestModSeq(selected.view.modseq_highest());
            self.untagged(Status::Ok, Some(&code), "Highest");
        }
    }
}
