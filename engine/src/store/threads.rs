//! The store's threads: log writer, appliers, ticker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::owner::Owners;
use crate::shared::Shared;

/// How often small duties are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Wait before failed work is tried again, and between polls of directories without events.
const RETRY: Duration = Duration::from_secs(1);
/// A checkpoint comes at least this soon while files wait for their destruction.
const DOOMED_WAIT: Duration = Duration::from_secs(5);
/// How long a stop waits for work to be applied.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// Running threads of a store.
pub(super) struct Threads {
    writer: JoinHandle<()>,
    appliers: Vec<JoinHandle<()>>,
    ticker: JoinHandle<()>,
    archiver: Option<JoinHandle<()>>,
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(run).map_err(Error::io("start thread", name))
}

impl Threads {
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Threads> {
        let writer = {
            let shared = shared.clone();
            spawn("cursus-log", move || shared.log.run_writer())?
        };
        let applier = || {
            let shared = shared.clone();
            spawn("cursus-apply", move || {
                while let Some(mailbox) = shared.apply.pop() {
                    mailbox.run();
                }
            })
        };
        let appliers =
            (0..shared.config.appliers.max(1)).map(|_| applier()).collect::<Result<_>>()?;
        let ticker = {
            let shared = shared.clone();
            spawn("cursus-tick", move || tick(&shared))?
        };
        let archiver = match &shared.archive {
            None => None,
            Some(_) => {
                let shared = shared.clone();
                let run = move || {
                    if let Some(archive) = &shared.archive {
                        archive.run(&shared, TICK);
                    }
                };
                Some(spawn("cursus-archive", run)?)
            }
        };
        Ok(Threads { writer, appliers, ticker, archiver })
    }

    /// Ends the threads after their work is done. The log is closed already.
    pub(super) fn stop(self, shared: &Arc<Shared>) -> Result<()> {
        let joined = self.writer.join().is_ok();
        let deadline = Instant::now() + STOP_WAIT;
        while shared.log.status().active > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        shared.closing.store(true, Ordering::Release);
        let ticked = self.ticker.join().is_ok();
        let archived = self.archiver.is_none_or(|thread| thread.join().is_ok());
        shared.finish_names();
        shared.apply.close();
        let applied = self.appliers.into_iter().map(JoinHandle::join).all(|ended| ended.is_ok());
        if joined && ticked && archived && applied {
            Ok(())
        } else {
            Err(Error::NotAllowed("a thread of the store had failed; see the log"))
        }
    }
}

/// Batches of renames that one mailbox has in a turn.
const NAMES_TURNS: usize = 16;

fn tick(shared: &Arc<Shared>) {
    let mut last_checkpoint = Instant::now();
    let mut last_retry = Instant::now();
    let mut last_expiry = Instant::now();
    let trusted = Duration::from_secs(shared.config.verified_seconds.max(1));
    let every = Duration::from_secs(shared.config.checkpoint_seconds.max(1));
    while !shared.closing.load(Ordering::Acquire) {
        std::thread::sleep(TICK);
        shared.follow_names_in_time();
        shared.heal_noted();
        if last_expiry.elapsed() >= trusted {
            last_expiry = Instant::now();
            shared.trust.expire();
        }
        if last_retry.elapsed() >= RETRY {
            last_retry = Instant::now();
            shared.retry_stalled();
            shared.watches.trim();
            Owners::renew(shared);
            for mailbox in shared.watches.polled() {
                mailbox.poll();
            }
            tend_archive(shared);
            shared.hand_back_due();
            shared.tidy_soon();
            if let Err(error) = shared.log.prepare_spare() {
                tracing::warn!(%error, "cannot prepare a log segment ahead");
            }
        }
        let since = last_checkpoint.elapsed();
        let due = since >= every && shared.has_checkpoint_work()
            || since >= DOOMED_WAIT.min(every)
                && !shared.aside.is_held()
                && !shared.doomed.lock().is_empty()
            || shared.log.wants_checkpoint()
            || shared.mailboxes.wants_checkpoint();
        if due {
            last_checkpoint = Instant::now();
            if let Err(error) = shared.checkpoint() {
                tracing::error!(%error, "checkpoint failed; it will be tried again");
                std::thread::sleep(RETRY);
            }
        }
    }
}

/// What the archive needs done though it may hang itself.
fn tend_archive(shared: &Arc<Shared>) {
    let Some(archive) = &shared.archive else { return };
    let closed = shared.log.close_aged();
    if let Err(error) = closed.and_then(|()| archive.enforce_limit(shared)) {
        tracing::warn!(%error, "cannot look after what waits for the archive");
    }
}

impl Shared {
    /// One turn of renames for every mailbox that has some due.
    pub(crate) fn follow_names(&self) {
        let due = std::mem::take(&mut *self.names_due.lock());
        for (id, mailbox) in due {
            if (0..NAMES_TURNS).all(|_| mailbox.follow_flags()) {
                self.names_due.lock().insert(id, mailbox);
            }
        }
    }

    /// The same for those mailboxes where it is time for it.
    fn follow_names_in_time(&self) {
        let due = std::mem::take(&mut *self.names_due.lock());
        for (id, mailbox) in due {
            if mailbox.follow_flags_in_time(NAMES_TURNS) {
                self.names_due.lock().insert(id, mailbox);
            }
        }
    }

    /// All renames that are due: before a stop.
    pub(crate) fn finish_names(&self) {
        while !self.names_due.lock().is_empty() {
            self.follow_names();
        }
    }
}
