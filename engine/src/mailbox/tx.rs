//! A transaction between its push and its end: what it still waits for, whom it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::MailboxInner;
use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::ids::Lsn;
use crate::layout::Location;
use crate::shared::Shared;

/// One transaction. It is settled when the log and every body have reported; then its items are
/// applied (or dropped, when one report was a failure); then the waiter hears.
pub(crate) struct Tx {
    /// Reports still to come: one for the log, one for each body.
    waiting: AtomicU32,
    /// Items still to be applied.
    left: AtomicU32,
    lsn: AtomicU64,
    failed: Mutex<Option<Error>>,
    logged: AtomicBool,
    done: Mutex<Vec<oneshot::Sender<Result<()>>>>,
    /// Whose queues hold the items.
    mailboxes: Mutex<Vec<Arc<MailboxInner>>>,
}

/// A frame in a mailbox's queue.
pub(crate) struct Item {
    pub(crate) tx: Arc<Tx>,
    pub(crate) lsn: Lsn,
    pub(crate) frame: Frame,
    /// Of an Append: made while it streamed in. Empty: made from the file when applied.
    pub(crate) extras: Vec<u8>,
    /// Made by a rescan: the next one waits until it is applied.
    pub(crate) from_rescan: bool,
    /// What a rescan saw the names of these messages say: written down with its frame, since it
    /// is the base of the next merge.
    pub(crate) seen: Vec<Location>,
    /// Answered when it was pushed: see [`crate::Mailbox::store_early`].
    pub(crate) early: bool,
}

impl Tx {
    /// A transaction of `items` frames that waits for the log and `bodies` file syncs.
    /// `mailboxes` are those whose queues will hold the items.
    pub(crate) fn new(
        items: u32,
        bodies: u32,
        mailboxes: Vec<Arc<MailboxInner>>,
    ) -> (Arc<Tx>, oneshot::Receiver<Result<()>>) {
        let (tell, heard) = oneshot::channel();
        let tx = Tx {
            waiting: AtomicU32::new(1 + bodies),
            left: AtomicU32::new(items),
            lsn: AtomicU64::new(0),
            failed: Mutex::new(None),
            logged: AtomicBool::new(false),
            done: Mutex::new(vec![tell]),
            mailboxes: Mutex::new(mailboxes),
        };
        (Arc::new(tx), heard)
    }

    /// Called under the state locks of the mailboxes, right after the push. A report may come
    /// earlier: it schedules the mailboxes, whose appliers wait for the same state locks.
    pub(crate) fn pushed(&self, lsn: Lsn) {
        self.lsn.store(lsn.0, Ordering::Release);
    }

    /// Whether everything waited for has reported.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Why the transaction is void, if it is.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failed.lock().clone()
    }

    /// The log's report.
    pub(crate) fn log_report(&self, result: Result<()>) {
        self.logged.store(result.is_ok(), Ordering::Release);
        self.report(result);
    }

    /// Whether the frames are durable in the log.
    pub(crate) fn is_logged(&self) -> bool {
        self.logged.load(Ordering::Acquire)
    }

    /// One report: a body's, or through [`Tx::log_report`] the log's.
    pub(crate) fn report(&self, result: Result<()>) {
        if let Err(error) = result {
            self.failed.lock().get_or_insert(error);
        }
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            for mailbox in std::mem::take(&mut *self.mailboxes.lock()) {
                mailbox.schedule();
            }
        }
    }

    /// One item is applied, or dropped with the void transaction.
    pub(crate) fn item_done(&self, shared: &Shared) {
        if self.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        shared.log.applied(Lsn(self.lsn.load(Ordering::Acquire)));
        for tell in std::mem::take(&mut *self.done.lock()) {
            // Nobody listens when the session went away; the change stands all the same.
            let _ = tell.send(self.failure().map_or(Ok(()), Err));
        }
    }

    /// More waiters. Only under the file lock of a mailbox that has items of this transaction
    /// still in its queue: then the end has not been told.
    pub(crate) fn also_tell(&self, waiters: Vec<oneshot::Sender<Result<()>>>) {
        self.done.lock().extend(waiters);
    }
}
