//! A mailbox that was selected before its messages were read: see [`engine::Mailbox::first_look`].
//!
//! SELECT has told how many messages there are and nothing of any of them. The next command that may
//! need one waits here for the rest, and tells what came otherwise: messages that are gone already, and
//! others that are new.

use engine::User;

use super::reply::{End, Reply};
use super::selected::Selected;
use super::session::Session;

impl Session {
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
        let (seqs, uids): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
        selected.promised = None;
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
        });
        if features.condstore {
            self.tell_modseq_highest();
        }
        Ok(None)
    }
}
