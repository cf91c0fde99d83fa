//! Loops over a whole [`Store`] in a directory: deliveries by the commit log, index changes, scans.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{
    Delivery, Drive, MountOptions, Partition, Store, StoreConfig, StoreMode, StoreRequest, Target,
    UserOptions,
};
use protocol::types::{SeqNum, SystemFlags};

use super::{Bench, Corpus, Measured};
use crate::error::{Error, Result};
use crate::stats::Samples;
use crate::stop;

pub(super) const MAILDIR: LayoutKind = LayoutKind::Maildir;
pub(super) const CYRUS: LayoutKind = LayoutKind::Cyrus;

/// Bytes of the log: larger than what one measurement writes, so that its checkpoint comes at the
/// end, where it is measured.
const LOG_BYTES: u64 = 64 << 20;
/// Users that deliveries go to in turn.
const USERS: usize = 4;
/// Messages that one flag change is about.
const UIDS_PER_STORE: usize = 10;

/// Opens a new store in a directory.
pub(crate) fn open(
    storage: Arc<dyn Storage>,
    dir: &Path,
    kind: LayoutKind,
    log_bytes: u64,
) -> Result<Store> {
    let partition = Partition {
        name: "default".into(),
        path: dir.join("mail"),
        layout: layout_for(kind, &LayoutOptions::default()),
        mount: MountOptions::default(),
    };
    let mut config = StoreConfig::new(dir.join("state"), vec![partition]);
    config.log_bytes_max = log_bytes;
    // What is measured is on any filesystem, NFS too.
    config.network_state = true;
    Ok(Store::open(config, storage, Drive::Threads)?)
}

/// The INBOX of a user as a target.
pub(crate) async fn target(store: &Store, user: &str) -> Result<Target> {
    let user = store.user(user, &UserOptions::default()).await?;
    let mailbox = user.mailbox("INBOX").await?;
    let flags = SystemFlags::empty();
    Ok(Target { user, mailbox, flags, keywords: vec![], internal_date: None, annotations: vec![] })
}

/// Delivers one message durably.
pub(crate) async fn deliver_one(
    store: &Store,
    lane: &Lane,
    target: &Target,
    message: &[u8],
) -> Result<engine::Appended> {
    let mut delivery = Delivery::new(store, lane, vec![target.clone()])?;
    delivery.write(message).await?;
    Ok(delivery.commit().await.remove(0)?)
}

/// Runs `work` on a core like the server's: one thread, one runtime, with a ring or without.
pub(crate) fn on_a_core<T>(
    store: &Store,
    ring: bool,
    dir: &Path,
    work: impl AsyncFnOnce(Lane) -> Result<T>,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("start a runtime for", dir))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let pool = store.helpers().clone();
        let lane = match ring {
            true => Lane::ring(pool).map_err(Error::io("use io_uring on", dir))?,
            false => Lane::pool(pool),
        };
        work(lane).await
    })
}

/// Delivers `count` messages, as many at a time as the bench says; the samples are the deliveries'.
async fn deliver_many(
    store: &Store,
    lane: &Lane,
    bench: &Bench<'_>,
    count: usize,
) -> Result<Samples> {
    let mut targets = Vec::new();
    for user in 0..USERS {
        targets.push(target(store, &format!("user{user}")).await?);
    }
    // Owned by the tasks, which outlive no bench but may not borrow from one.
    let corpus = Rc::new((0..64).map(|n| bench.corpus.wire(n).to_vec()).collect::<Vec<_>>());
    let (next, began, limit) = (Rc::new(Cell::new(0)), Instant::now(), bench.limit);
    let tasks: Vec<_> = (0..bench.concurrency.max(1))
        .map(|worker| {
            let (store, lane, next) = (store.clone(), lane.clone(), next.clone());
            let (target, corpus) = (targets[worker % USERS].clone(), corpus.clone());
            tokio::task::spawn_local(async move {
                let mut samples = Samples::default();
                while next.get() < count && began.elapsed() < limit {
                    stop::check()?;
                    let n = next.replace(next.get() + 1);
                    let before = Instant::now();
                    deliver_one(&store, &lane, &target, &corpus[n % corpus.len()]).await?;
                    samples.push(before.elapsed());
                }
                Ok::<_, Error>(samples)
            })
        })
        .collect();
    let mut samples = Samples::default();
    for task in tasks {
        let ended = task.await.map_err(|e| Error::Usage(format!("a delivery ended: {e}")))?;
        samples.merge(ended?);
    }
    Ok(samples)
}

pub(super) fn deliver(bench: &Bench<'_>, kind: LayoutKind, ring: bool) -> Result<Measured> {
    let store = open(bench.storage.clone(), bench.dir, kind, LOG_BYTES)?;
    let measured = bench.watched(|| {
        on_a_core(&store, ring, bench.dir, async |lane| {
            let began = Instant::now();
            let samples = deliver_many(&store, &lane, bench, bench.operations).await?;
            // The log alone is durable, but what it saves now a checkpoint pays later.
            store.checkpoint().await?;
            let units = samples.count() as u64;
            let notes = vec![format!("files by {}; checkpoint included", lane.backend_name())];
            let elapsed = began.elapsed();
            Ok(Measured { samples, units, elapsed, cache: "warm", notes, ..Measured::default() })
        })
    });
    close(store, measured)
}

/// Closes the store also when the measurement failed, and tells the first trouble.
fn close(store: Store, measured: Result<Measured>) -> Result<Measured> {
    let closed = store.close();
    let measured = measured?;
    closed?;
    Ok(measured)
}

/// A store with one filled mailbox, its user's name and the corpus' start.
async fn filled(store: &Store, lane: &Lane, corpus: &Corpus, count: usize) -> Result<Target> {
    let target = target(store, "user0").await?;
    let mut deliveries = Vec::new();
    for n in 0..count {
        stop::check()?;
        let mut delivery = Delivery::new(store, lane, vec![target.clone()])?;
        delivery.write(corpus.wire(n)).await?;
        deliveries.push(delivery);
        if deliveries.len() == 64 || n + 1 == count {
            Delivery::commit_all(std::mem::take(&mut deliveries)).await?;
        }
    }
    store.checkpoint().await?;
    Ok(target)
}

pub(super) fn index_update(bench: &Bench<'_>) -> Result<Measured> {
    let store = open(bench.storage.clone(), bench.dir, CYRUS, LOG_BYTES)?;
    let measured = on_a_core(&store, false, bench.dir, async |lane| {
        let messages = bench.operations.clamp(UIDS_PER_STORE, 500);
        let target = filled(&store, &lane, bench.corpus, messages).await?;
        let uids: Vec<_> = target.mailbox.view().uids().map(|(_, uid)| uid).collect();
        let mut samples = Samples::default();
        let began = Instant::now();
        for n in 0..bench.operations {
            if began.elapsed() > bench.limit {
                break;
            }
            stop::check()?;
            let at = (n * UIDS_PER_STORE) % uids.len();
            let part = uids[at..(at + UIDS_PER_STORE).min(uids.len())].to_vec();
            let round = n * UIDS_PER_STORE / uids.len();
            let mode = if round.is_multiple_of(2) { StoreMode::Add } else { StoreMode::Remove };
            let request = StoreRequest {
                uids: part,
                mode,
                flags: SystemFlags::SEEN,
                keywords: vec![],
                unchanged_since: None,
            };
            let before = Instant::now();
            target.mailbox.store(request).await?;
            samples.push(before.elapsed());
        }
        store.checkpoint().await?;
        let units = samples.count() as u64;
        let notes = vec![format!("{UIDS_PER_STORE} messages each; checkpoint included")];
        let elapsed = began.elapsed();
        Ok(Measured { samples, units, elapsed, cache: "warm", notes, ..Measured::default() })
    });
    close(store, measured)
}

pub(super) fn index_scan(bench: &Bench<'_>) -> Result<Measured> {
    let store = open(bench.storage.clone(), bench.dir, CYRUS, LOG_BYTES)?;
    let measured = on_a_core(&store, false, bench.dir, async |lane| {
        let messages = bench.operations.clamp(1, 1000);
        let target = filled(&store, &lane, bench.corpus, messages).await?;
        let view = target.mailbox.view();
        let scan = || view.records(SeqNum(1), SeqNum(view.exists())).count();
        let mut measured = super::side_by_side(20, 1, bench.limit, |_| match scan() {
            n if n == messages => Ok(()),
            n => Err(Error::Usage(format!("an index scan saw {n} of {messages} records"))),
        })?;
        measured.units *= messages as u64;
        measured.notes.push(format!("{messages} records; the rate counts records"));
        Ok(measured)
    });
    close(store, measured)
}
