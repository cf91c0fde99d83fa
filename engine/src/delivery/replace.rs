//! REPLACE (RFC 8508): one message comes and another goes, in one transaction.
//!
//! Crash states: the new message's file is made durable before the frames are pushed, and not
//! beside them as a plain delivery's is. A frame whose file is not whole is void at recovery, and
//! the removal in the same transaction is not: with the file first, either both are there or
//! neither, and the old message is never gone without the new one.

use std::sync::Arc;

use protocol::types::Uid;
use tokio::sync::oneshot;

use super::{Appended, Delivery, Heard, Prepared, Unsynced, bits_of, sync_names};
use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::mailbox::{Mailbox, Tx, ranges, settle};

impl Delivery {
    /// Commits the message to its one target, and removes the message `old` of `source` with it.
    ///
    /// # Errors
    /// `Expunged` if `old` is not there any more; nothing is added then. `OverQuota` if what the
    /// message has more than the old one does not fit.
    pub async fn replace(mut self, source: &Mailbox, old: Uid) -> Result<Appended> {
        self.shared.log.room().await;
        let (mut prepared, bodies) = self.prepare().await?;
        for body in bodies {
            self.sync_now(body).await?;
        }
        let Some(one) = prepared.pop() else { return Err(Error::Closing) };
        let appending = self.targets[one.target].mailbox.0.appending().await;
        let pushed = self.push_replacement(&one, source, old);
        drop(appending);
        let (appended, heard) = pushed?;
        self.committed = true;
        settle(&self.shared, heard).await?;
        Ok(appended)
    }

    async fn sync_now(&self, body: Unsynced) -> Result<()> {
        let Unsynced { file, names, names_too } = body;
        let (tell, heard) = oneshot::channel();
        self.lane.sync_detached(file, move |synced| {
            // The waiter is gone: so is the delivery.
            let _ = tell.send(synced);
        });
        let synced = heard.await.map_err(|_| Error::Closing)?;
        synced.map_err(Error::io("sync", &names[0]))?;
        if names_too {
            let storage = self.shared.storage.clone();
            let sync = move || sync_names(&*storage, &names);
            self.shared.helpers.run(sync).await.map_err(|_| Error::Closing)??;
        }
        Ok(())
    }

    /// Pushes both frames under both mailboxes' state locks, which are taken in the order of the
    /// ids.
    fn push_replacement(&self, one: &Prepared, source: &Mailbox, old: Uid) -> Result<Heard> {
        let (from, into) = (&source.0, &self.targets[one.target].mailbox.0);
        let same = from.id == into.id;
        let (mut source_state, mut target_state);
        if same {
            source_state = None;
            target_state = into.open_state()?;
        } else if from.id < into.id {
            source_state = Some(from.open_state()?);
            target_state = into.open_state()?;
        } else {
            target_state = into.open_state()?;
            source_state = Some(from.open_state()?);
        }
        let newest = from.view();
        let state = source_state.as_deref().unwrap_or(&target_state);
        if state.current(&newest, old).is_none() {
            return Err(Error::Expunged(old));
        }
        let old_size = newest.record_of(old).map_or(0, |(_, record)| u64::from(record.size));
        let more = self.targets[one.target].usage(one.facts.size.into());
        into.share.allow_instead(&from.share, more, old_size)?;
        let mut frames = Vec::new();
        let appended = self.frames_of(one, &mut target_state, &mut frames)?;
        target_state.name_bits(bits_of(&frames), &mut frames);
        let state = source_state.as_deref_mut().unwrap_or(&mut target_state);
        let modseq = state.take_modseq();
        let removal = Frame::Expunge { modseq, moved: false, ranges: ranges(&[old]) };
        let mut log_frames: Vec<_> =
            frames.iter().map(|(frame, _)| (into.id, frame.clone())).collect();
        log_frames.push((from.id, removal.clone()));
        let mut touched = vec![into.clone()];
        if !same {
            touched.push(from.clone());
        }
        let (tx, heard) = Tx::new(log_frames.len() as u32, 0, touched);
        let report: Arc<Tx> = tx.clone();
        let lsn = self.shared.log.push(&log_frames, Box::new(move |r| report.log_report(r)))?;
        tx.pushed(lsn);
        into.enqueue(&mut target_state, &tx, lsn, frames.into_iter());
        let state = source_state.as_deref_mut().unwrap_or(&mut target_state);
        state.will_be_gone(&[old], modseq);
        from.enqueue(state, &tx, lsn, std::iter::once((removal, Vec::new())));
        Ok((appended, heard))
    }
}
