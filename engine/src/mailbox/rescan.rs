//! Other programs' changes to a Maildir: deliveries, moves, flags, removals.
//!
//! A rescan runs in the applier's place with the file lock held, so names on disk differ from the
//! index only by what others did. Where a watch tells of every change, [`super::events`] looks at
//! the names that it tells; else directories are listed: `new/` alone where only its time differs.
//!
//! New names get UIDs by Append frames, missing ones (looked for twice) are expunged, changed
//! letters merge bit by bit with what the name last said; all of it goes through the log before
//! anyone sees it.

mod compare;
mod merge;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::files::Files;
use super::foreign::TICK_NS;
use super::{Mailbox, MailboxInner, Tx, View, settle};
use crate::error::Result;
use crate::io::Storage;
use crate::layout::LayoutKind;

/// Times of `new/` and `cur/`, ns since 1970; 0 for one that is not there.
pub(crate) fn directory_times(storage: &dyn Storage, dir: &Path) -> (i64, i64) {
    let time = |dir: &Path| storage.stat_fresh(dir).map_or(0, |s| s.mtime_ns);
    (time(&dir.join("new")), time(&dir.join("cur")))
}

/// Whether directories with these times hold what a listing found that began at `listed_at`
/// (ns since 1970; 0: there was none) and saw the times `known`.
pub(crate) fn is_unchanged(known: (i64, i64), listed_at: i64, now: (i64, i64)) -> bool {
    listed_at != 0 && now == known && listed_at - now.0.max(now.1) > TICK_NS
}

impl Mailbox {
    /// Looks for changes by other programs when that is due, then gives the newest view.
    pub async fn refresh(&self) -> Result<View> {
        self.settled().await;
        self.0.named().await;
        if self.0.may_differ() {
            self.look_now().await?;
        }
        Ok(self.view())
    }

    /// Takes in what events told; lists where there are none.
    pub(crate) async fn look_now(&self) -> Result<()> {
        let Some(heard) = self.0.ask_rescan() else { return Ok(()) };
        settle(&self.0.shared, heard).await
    }

    /// Compares the directory with the index now.
    pub(crate) async fn rescan_now(&self) -> Result<()> {
        self.0.foreign.lock().distrust();
        let Some(heard) = self.0.ask_rescan() else { return Ok(()) };
        settle(&self.0.shared, heard).await
    }
}

impl MailboxInner {
    fn is_maildir(&self) -> bool {
        self.place.read().partition.layout.kind() == LayoutKind::Maildir
    }

    /// Whether the directory may hold changes that the index does not know. Two `stat` calls
    /// where nobody watches.
    pub(super) fn may_differ(&self) -> bool {
        if !self.is_maildir() {
            return false;
        }
        if self.is_behind_original() {
            self.foreign.lock().distrust();
            return true;
        }
        let mut foreign = self.foreign.lock();
        if foreign.distrusted || foreign.listed_at == 0 {
            return true;
        }
        if self.is_watched() && self.shared.watches.are_events(self.id) {
            // Nobody waits for the events of one that only lingers: whoever comes now shall see
            // what was there before.
            return self.only_lingers() && foreign.is_behind(self.directory_times());
        }
        foreign.doubts(self.directory_times())
    }

    pub(super) fn directory_times(&self) -> (i64, i64) {
        directory_times(&*self.shared.storage, &self.place.read().dir)
    }

    /// Whether a file of a message that we removed may still be about, under a name that only a
    /// listing tells. If so, the next look lists.
    pub(crate) fn must_look_first(&self) -> bool {
        self.is_maildir() && self.foreign.lock().is_strayed()
    }

    /// Asks the appliers for a rescan; `None` where none is needed or possible.
    pub(crate) fn ask_rescan(self: &Arc<Self>) -> Option<oneshot::Receiver<Result<()>>> {
        if !self.is_maildir() {
            return None;
        }
        let (tell, heard) = oneshot::channel();
        {
            let mut state = self.open_state().ok()?;
            state.rescan.get_or_insert_default().push(tell);
        }
        self.schedule();
        Some(heard)
    }

    /// A rescan for a helper thread that cannot await: does it when the files are free.
    ///
    /// # Errors
    /// What kept it from looking at everything.
    pub(crate) fn rescan_blocking(self: &Arc<Self>) -> Result<()> {
        self.foreign.lock().distrust();
        let Some(heard) = self.ask_rescan() else { return Ok(()) };
        self.shared.wait_blocking(heard)
    }

    /// The rescan itself, under the file lock, with no rescan's frames on their way.
    pub(crate) fn rescan(
        self: &Arc<Self>,
        files: &mut Files,
        waiters: Vec<oneshot::Sender<Result<()>>>,
    ) {
        match self.look(files) {
            // Applied under the file lock that we hold, so not yet told to anybody.
            Ok(Some(tx)) => tx.also_tell(waiters),
            Ok(None) => {
                self.keep_promise(files);
                tell_all(waiters, Ok(()));
            }
            Err(error) => {
                tracing::warn!(mailbox = %self.id, %error, "cannot look through the mailbox");
                self.foreign.lock().distrust();
                self.break_promise(&error);
                self.keep_promise(files);
                tell_all(waiters, Err(error));
            }
        }
    }

    /// Looks where it must: at what events told, at `new/`, at everything.
    fn look(self: &Arc<Self>, files: &mut Files) -> Result<Option<Arc<Tx>>> {
        let (distrusted, new_differs) = {
            let foreign = self.foreign.lock();
            (foreign.distrusted || foreign.listed_at == 0, foreign.new_differs)
        };
        if distrusted {
            return self.compare(files);
        }
        if new_differs {
            let Some(last) = self.compare_new(files)? else { return self.compare(files) };
            // Events that came meanwhile have their turn after this.
            if !self.foreign.lock().events().is_empty() {
                self.ask_rescan();
            }
            return Ok(last);
        }
        if self.is_watched() && self.shared.watches.are_events(self.id) {
            return self.follow_events(files);
        }
        self.compare(files)
    }
}

fn tell_all(waiters: Vec<oneshot::Sender<Result<()>>>, result: Result<()>) {
    for waiter in waiters {
        // A waiter that went away needs no answer.
        let _ = waiter.send(result.clone());
    }
}

impl MailboxInner {
    /// Right after the last watch ended; `events`: it told of every change.
    pub(crate) fn look_after_unwatch(&self, events: bool) {
        if !events {
            return self.foreign.lock().overflow();
        }
        let times = self.directory_times();
        let now = self.shared.storage.now_ns();
        self.foreign.lock().unwatched(times, now);
        // Whoever has the files may need the table still.
        if let Some(mut files) = self.files.try_lock() {
            files.forget_bases();
        }
    }

    /// Right after a watch began: changes from before it are found by the directory times.
    pub(crate) fn look_after_watch(self: &Arc<Self>) {
        let times = self.directory_times();
        if self.foreign.lock().doubts(times) {
            self.ask_rescan();
        }
    }

    /// For mailboxes without events: asks for a rescan when the directory times say so.
    pub(crate) fn poll(self: &Arc<Self>) {
        if self.may_differ() {
            self.ask_rescan();
        }
    }
}
