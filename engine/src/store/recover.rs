//! Start and recovery: catalog, log, redo, checkpoint. Reported in one line.
//!
//! The log is redone by [`super::redo`]. Nothing is unlinked before the closing checkpoint, so a copy
//! whose link was lost finds its source.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;

use super::redo::Redo;
use super::threads::Threads;
use super::{Running, Store};
use crate::archive::{Aside, Bodies, SEGMENT_OUTBOX, Taker, UNFINISHED};
use crate::catalog::{Batch, Catalog, Meta};
use crate::config::{Partition, StoreConfig};
use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::Storage;
use crate::io::network::Network;
use crate::layout::{LayoutKind, create_durable};
use crate::log::{KeepSegments, Log, LogStart, Scan, Transaction, scan};
use crate::mount::Mount;
use crate::relocation::ARRIVALS;
use crate::shared::{Drive, Shared, SharedStart, stage_mark};
use crate::user::TRASH;

/// Opens a store.
pub(super) fn open(config: StoreConfig, storage: Arc<dyn Storage>, drive: Drive) -> Result<Store> {
    let began = Instant::now();
    for dir in [&config.state_dir, &config.log_dir] {
        create_durable(&*storage, dir).map_err(Error::io("create", dir))?;
    }
    check_state_dirs(&config, &*storage)?;
    let lock_path = config.state_dir.join("lock");
    let lock = storage.lock(&lock_path).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => Error::Locked(lock_path.clone()),
        _ => Error::io("lock", &lock_path)(e),
    })?;
    let mut config = config;
    config.descriptors_max = config.descriptors_max.min(descriptors_of_process() / 2);
    let unfinished = config.state_dir.join(UNFINISHED);
    if storage.stat(&unfinished).is_ok() {
        return Err(Error::Corrupt {
            path: unfinished,
            expected: "a store; a restore into here has not come to its end",
            found: "its mark".into(),
        });
    }
    let (catalog, meta) = Catalog::open(&*storage, &config.state_dir.join("catalog.redb"))?;
    let meta = meta.unwrap_or_else(|| Meta {
        store_id: StoreId::random(&*storage),
        epoch: 0,
        owner_epoch: 0,
        checkpoint: Lsn(0),
        uid_validity_last: 0,
        unclean_epoch: 0,
    });
    let mut transactions = Vec::new();
    let found = scan(&*storage, &config.log_dir, meta.store_id, meta.checkpoint, &mut |tx| {
        transactions.push(tx);
        Ok(())
    })?;
    for line in &found.damage {
        tracing::error!(damage = line, "the log is damaged");
    }
    let owner_epoch = meta.owner_epoch + 1;
    let epoch = meta.epoch.max(found.epoch_max) + 1;
    let unclean_epoch = if found.segments > 0 { meta.owner_epoch } else { meta.unclean_epoch };
    let was_clean = found.segments == 0 && meta.unclean_epoch < meta.owner_epoch;
    let began_meta = Meta { epoch, owner_epoch, unclean_epoch: owner_epoch, ..meta };
    let nothing = Batch {
        meta: began_meta,
        users: vec![],
        summaries: vec![],
        gone: vec![],
        metadata: vec![],
    };
    catalog.commit(&nothing)?;
    let state_dir = &config.state_dir;
    storage.sync_dir(state_dir).map_err(Error::io("sync", state_dir))?;
    for partition in &config.partitions {
        let path = &partition.path;
        create_durable(&*storage, path).map_err(Error::io("create", path))?;
        // After a clean stop nothing of ours waits for the device.
        if was_clean {
            continue;
        }
        match storage.sync_filesystem(path) {
            Err(e) if e.kind() != ErrorKind::Unsupported => {
                return Err(Error::io("sync", path)(e));
            }
            _ => {}
        }
    }
    let mut mounts = HashMap::new();
    for partition in &config.partitions {
        let mount = Mount::resolve(&*storage, &partition.path, partition.mount)?;
        tracing::debug!(partition = partition.name, ?mount, "partition");
        mounts.insert(partition.name.clone(), mount);
    }
    let private = |p: &&Partition| mounts.get(&p.name).is_some_and(|mount| mount.private);
    let roots: Vec<_> = config.partitions.iter().filter(private).map(|p| p.path.clone()).collect();
    let storage: Arc<dyn Storage> =
        if roots.is_empty() { storage } else { Arc::new(Network::new(storage, roots)) };
    let aside = Aside::new(meta.store_id);
    let archive = match &config.archive {
        None => None,
        Some(archive) => {
            let leftovers = aside.begin(&*storage, &config.partitions)?;
            Some(Taker::new(&storage, &config.log_dir, archive.clone(), leftovers)?)
        }
    };
    let start = LogStart {
        dir: config.log_dir.clone(),
        store_id: meta.store_id,
        epoch,
        owner_epoch,
        next: found.next,
        time_us: found.time_us,
        bytes_max: config.log_bytes_max,
        segment_bytes: config.log_segment_bytes,
        archive: archive.as_ref().map(|taker| KeepSegments {
            dir: config.log_dir.join(SEGMENT_OUTBOX),
            age_max: taker.config.segment_age_max,
        }),
    };
    let log = Log::new(storage.clone(), start);
    let uid_validity_last = meta.uid_validity_last;
    let store_id = meta.store_id;
    let shared = Shared::new(SharedStart {
        config,
        storage,
        drive,
        store_id,
        owner_epoch,
        unclean_epoch,
        checkpoint: meta.checkpoint,
        uid_validity_last,
        log,
        catalog,
        mounts,
        aside,
        archive,
    });
    let recovered = transactions.len() as u64;
    if recovered > 0 || found.segments > 0 {
        shared.redoing.store(true, Ordering::Release);
        let mut redo = Redo::new(&shared, None);
        redo.run(transactions)?;
        shared.redoing.store(false, Ordering::Release);
        shared.checkpoint()?;
        shared.log.clear()?;
        shared.destroy_doomed(Lsn(u64::MAX));
        let (placed, void) = (redo.placed, redo.void);
        redo.log_missing();
        let took = began.elapsed();
        tracing::info!(transactions = recovered, placed, void, ?took, "recovered from the log");
    }
    clean_up(&shared);
    shared.find_departed()?;
    shared.log.prepare_spare()?;
    let threads = match drive {
        Drive::Threads => Some(Threads::start(&shared)?),
        Drive::Inline | Drive::Manual => None,
    };
    let running = Running {
        threads: Mutex::new(threads),
        lock: Mutex::new(Some(lock)),
        recovered,
        damage: found.damage,
    };
    Ok(Store { shared, running: Arc::new(running) })
}

/// Catalog and log want a local filesystem: their promises end where a network begins.
fn check_state_dirs(config: &StoreConfig, storage: &dyn Storage) -> Result<()> {
    for dir in [&config.state_dir, &config.log_dir] {
        let filesystem = storage.filesystem(dir).map_err(Error::io("look at", dir))?;
        if filesystem.network && !config.network_state {
            return Err(Error::Unsuitable {
                path: dir.clone(),
                filesystem: filesystem.name,
                expected: "a local one for catalog and log; store.network_state = true allows it",
            });
        }
    }
    Ok(())
}

/// Descriptors that this process may have.
fn descriptors_of_process() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// A store that is made from a base and a log that come from elsewhere, by the same redo.
pub(crate) struct Replay {
    shared: Arc<Shared>,
    bodies: Arc<Bodies>,
    _lock: Box<dyn Send + Sync>,
}

impl Replay {
    /// Over a base that has been laid out, with its catalog. Nothing can be logged: the log that
    /// is replayed is the only one.
    pub(crate) fn open(
        config: StoreConfig,
        storage: Arc<dyn Storage>,
        bodies: Arc<Bodies>,
    ) -> Result<Replay> {
        create_durable(&*storage, &config.log_dir).map_err(Error::io("create", &config.log_dir))?;
        let lock_path = config.state_dir.join("lock");
        let lock = storage.lock(&lock_path).map_err(|e| match e.kind() {
            ErrorKind::WouldBlock => Error::Locked(lock_path.clone()),
            _ => Error::io("lock", &lock_path)(e),
        })?;
        let path = config.state_dir.join("catalog.redb");
        let (catalog, meta) = Catalog::open(&*storage, &path)?;
        let meta = meta.ok_or_else(|| Error::Corrupt {
            path,
            expected: "the catalog of a base",
            found: "an empty one".into(),
        })?;
        let log = Log::new(
            storage.clone(),
            LogStart {
                dir: config.log_dir.clone(),
                store_id: meta.store_id,
                epoch: meta.epoch,
                owner_epoch: meta.owner_epoch,
                next: meta.checkpoint,
                time_us: 0,
                bytes_max: config.log_bytes_max,
                segment_bytes: config.log_segment_bytes,
                archive: None,
            },
        );
        log.refuse("a restore is under way");
        let mut mounts = HashMap::new();
        for partition in &config.partitions {
            let mount = Mount::resolve(&*storage, &partition.path, partition.mount)?;
            mounts.insert(partition.name.clone(), mount);
        }
        let shared = Shared::new(SharedStart {
            config,
            storage,
            drive: Drive::Inline,
            store_id: meta.store_id,
            owner_epoch: meta.owner_epoch,
            unclean_epoch: meta.unclean_epoch,
            checkpoint: meta.checkpoint,
            uid_validity_last: meta.uid_validity_last,
            log,
            catalog,
            mounts,
            aside: Aside::new(meta.store_id),
            archive: None,
        });
        Ok(Replay { shared, bodies, _lock: lock })
    }

    /// Redoes what the segments of a directory have at or above `from`, as far as `pick` leaves
    /// it.
    pub(crate) fn run(
        &self,
        dir: &Path,
        from: Lsn,
        pick: &mut dyn FnMut(&mut Transaction),
    ) -> Result<Scan> {
        let shared = &self.shared;
        let mut transactions = Vec::new();
        let found = scan(&*shared.storage, dir, shared.store_id, from, &mut |mut transaction| {
            pick(&mut transaction);
            if !transaction.frames.is_empty() {
                transactions.push(transaction);
            }
            Ok(())
        })?;
        for line in &found.damage {
            tracing::error!(damage = line, "the log is damaged");
        }
        for part in apart_by_partition(shared, transactions)? {
            Redo::new(shared, Some(self.bodies.clone())).run(part)?;
            shared.checkpoint()?;
            shared.destroy_doomed(Lsn(u64::MAX));
            shared.checkpoint()?;
            // A redo finds nothing open: directories follow names before it opens them.
            drop(shared.mailboxes.take_all());
        }
        shared.log.skip_to(found.next, found.time_us);
        shared.checkpoint()?;
        Ok(found)
    }

    /// Everything below is in the store.
    pub(crate) fn skip_to(&self, end: Lsn) {
        self.shared.log.skip_to(end, 0);
    }

    /// The last checkpoint: afterwards it is a store that was closed.
    pub(crate) fn finish(self) -> Result<()> {
        self.shared.clean.store(true, Ordering::Release);
        self.shared.checkpoint()?;
        clean_up(&self.shared);
        self.shared.let_go();
        Ok(())
    }
}

/// Cuts a log before each transaction that takes a mailbox to another partition: frames name files as
/// the partition has them on which they were written. A running store makes a checkpoint there.
fn apart_by_partition(
    shared: &Arc<Shared>,
    transactions: Vec<Transaction>,
) -> Result<Vec<Vec<Transaction>>> {
    let mut partitions: HashMap<MailboxId, String> = HashMap::new();
    let mut parts: Vec<Vec<Transaction>> = vec![Vec::new()];
    for transaction in transactions {
        let mut moves = false;
        for (id, frame) in &transaction.frames {
            let Frame::Mailbox { user, partition, .. } = frame else { continue };
            let before = match partitions.insert(*id, partition.clone()) {
                Some(before) => Some(before),
                None => {
                    let namespace = shared.known_user(user)?.namespace.load_full();
                    let entry = namespace.name_of(*id).map(|name| &namespace.mailboxes[name]);
                    entry.map(|entry| entry.partition.clone())
                }
            };
            moves |= before.is_some_and(|before| before != *partition);
        }
        match parts.last_mut() {
            Some(part) if !moves => part.push(transaction),
            _ => parts.push(vec![transaction]),
        }
    }
    Ok(parts)
}

/// Removes what only a crash leaves: deleted mailboxes, copies of mailboxes that did not get to their
/// end, stage files of the cyrus layout.
fn clean_up(shared: &Shared) {
    let storage = &*shared.storage;
    // Others may be at work on these partitions: only what this store made goes.
    let mark = stage_mark(shared.store_id);
    for partition in &shared.config.partitions {
        let mut leftovers = Vec::new();
        for parent in [TRASH, ARRIVALS] {
            let parent = partition.path.join(parent);
            // A partition without them has no such directory.
            let _ = storage.list(&parent, &mut |name, _| {
                let name = String::from_utf8_lossy(name);
                if name.split_once('.').is_some_and(|(store, _)| store == mark) {
                    leftovers.push(parent.join(name.as_ref()));
                }
            });
        }
        for dir in leftovers {
            if let Err(error) = partition.layout.destroy(storage, &partition.path, &dir) {
                tracing::warn!(dir = %dir.display(), %error, "cannot destroy a deleted mailbox");
            }
        }
        if partition.layout.kind() == LayoutKind::Cyrus {
            let stage = partition.layout.stage_path(&partition.path, &partition.path, "");
            let mut names = Vec::new();
            let _ = storage.list(&stage, &mut |name, _| names.push(name.to_vec()));
            for name in names.iter().filter_map(|name| std::str::from_utf8(name).ok()) {
                if name.starts_with("cursus.") && name.split('.').nth(2) == Some(mark.as_str()) {
                    let _ = storage.unlink(&stage.join(name));
                }
            }
        }
    }
}
