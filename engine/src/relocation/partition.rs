//! A mailbox goes to another partition, and is the same mailbox there: id, UIDs, UIDVALIDITY,
//! MODSEQs, flags, keywords, dates, annotations, metadata, rights, limits.
//!
//! Its messages are copied while it is in use. Then it takes no change for as long as a checkpoint
//! and the copying of what came meanwhile take; one frame says where it is; and its directory gets
//! its place. Sessions that have it selected see it go, and find it with the next SELECT.
//!
//! The checkpoint is there so that recovery meets no frame of the mailbox from before the move: such
//! a frame names files as the old partition has them.
//!
//! Crash states: before the frame is durable there is the old mailbox, and a copy that the next
//! start removes. After it there is the new one, in the directory of arrivals or in its place,
//! complete; recovery brings it to its place, and the old directory to where deleted mailboxes wait
//! for the checkpoint that covers the frame ("destroy last").

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::transfer::{Transfer, Turn};
use crate::config::Partition;
use crate::delivery::{Delivery, Target};
use crate::error::{Error, Result};
use crate::format::frame::Frame;
use crate::ids::{Lsn, MailboxId};
use crate::io::{Lane, Open};
use crate::layout::{LayoutKind, Location};
use crate::mailbox::{Mailbox, MailboxInner, message_line_ends};
use crate::message::Crlf;
use crate::namespace::{INBOX, Namespace, SpecialUse};
use crate::shared::{Doomed, DoomedKind, Drive, Shared};
use crate::user::{Move, User, UserInner, trash_dir};

/// Attempts to have a mailbox stand still.
const ROUNDS_MAX: usize = 10;
/// Looks whether all that was under way in it has come to its end, and the wait between two.
const SETTLE_ROUNDS_MAX: usize = 1000;
const ROUND_WAIT: Duration = Duration::from_millis(5);
/// Checkpoints tried until one covers all that came before the mailbox stood still.
const CHECKPOINTS_MAX: usize = 100;

const BUSY: Error = Error::NotAllowed("the mailbox is too busy to be moved; try again later");
const BACKUP: Error = Error::NotAllowed("a backup is under way; try again when it is done");
const LEFTOVER: Error =
    Error::NotAllowed("an earlier move of the mailbox from there is not cleaned up yet");

/// How an attempt to switch ended.
enum Switched {
    Done(Left),
    /// Something is to be done in the mailbox first.
    Busy(Transfer),
}

/// What a mailbox left behind on its old partition, among the deleted.
struct Left {
    /// Of the frame that says so.
    lsn: Lsn,
    old: Mailbox,
    partition: Partition,
    dir: PathBuf,
}

/// A message that another program delivered to where the mailbox was, at the last moment.
struct Stray {
    at: Location,
    internal_date: i64,
    served: Vec<u8>,
}

impl User {
    /// Moves a mailbox, not those below it, to another partition.
    ///
    /// # Errors
    /// [`Error::NoSuchPartition`]; [`Error::NotAllowed`] while it is being moved already, while a
    /// backup is under way, and when changes of it do not come to an end.
    pub async fn change_partition(&self, name: &str, partition: &str) -> Result<()> {
        let name = Namespace::canonical(name);
        let shared = &self.0.shared;
        let entry = self.namespace().mailboxes.get(&name).cloned().ok_or(Error::NoSuchMailbox)?;
        if entry.partition == partition {
            return Ok(());
        }
        let to = shared.partition(partition)?.clone();
        let turn = Turn::take(shared, entry.id)?;
        let mailbox = self.mailbox(&name).await?;
        mailbox.refresh().await?;
        let old = mailbox.0.clone();
        let ahead = move || -> Result<Transfer> {
            old.shared.make_way(&to, old.id)?;
            let from = old.place.read().clone();
            let mut transfer = Transfer::begin(&old.shared, turn, from, to)?;
            transfer.ahead(&old)?;
            Ok(transfer)
        };
        let mut transfer = shared.helpers.run(ahead).await.map_err(|_| Error::Closing)??;
        for _ in 0..ROUNDS_MAX {
            // Deliveries of other programs get their UIDs here.
            mailbox.refresh().await?;
            let (old, name) = (mailbox.clone(), name.clone());
            match self.change(move |user| user.switch(&name, &old, transfer)).await? {
                Switched::Done(left) => return self.take_in(left).await,
                Switched::Busy(again) => transfer = again,
            }
        }
        Err(BUSY)
    }

    /// Takes in what came at the last moment, then lets the old directory go.
    async fn take_in(&self, left: Left) -> Result<()> {
        let shared = self.0.shared.clone();
        let look = move || left.strays().map(|strays| (left, strays));
        let (left, strays) = shared.helpers.run(look).await.map_err(|_| Error::Closing)??;
        for stray in strays {
            let name = self.namespace().name_of(left.old.id()).cloned();
            let target = Target {
                user: self.clone(),
                mailbox: self.mailbox(&name.ok_or(Error::NoSuchMailbox)?).await?,
                flags: stray.at.flags.system(),
                keywords: Vec::new(),
                internal_date: Some(stray.internal_date),
                annotations: Vec::new(),
            };
            let lane = Lane::inline(shared.storage.clone());
            let mut delivery = Delivery::over(shared.clone(), &lane, vec![target])?;
            delivery.write(&stray.served).await?;
            for delivered in delivery.commit().await {
                delivered?;
            }
        }
        let what = DoomedKind::Mailbox(left.partition, left.dir);
        shared.doomed.lock().push(Doomed { lsn: left.lsn, what });
        Ok(())
    }
}

impl Shared {
    /// Makes sure that a partition has nothing left of a mailbox that was there before, nor gets it
    /// back by a power cut: a start would find two of one mailbox.
    fn make_way(self: &Arc<Self>, to: &Partition, id: MailboxId) -> Result<()> {
        let left = trash_dir(self, to, id);
        if self.storage.stat(&left).is_ok() {
            self.checkpoint()?;
        }
        if self.storage.stat(&left).is_ok() {
            return Err(LEFTOVER);
        }
        let parent = left.parent().unwrap_or(&left);
        match self.storage.sync_dir(parent) {
            // Nothing was ever deleted there.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::io("sync", parent)),
        }
    }

    /// A checkpoint that covers all that was logged before.
    fn checkpoint_all(self: &Arc<Self>) -> Result<()> {
        let end = self.log.end();
        for _ in 0..CHECKPOINTS_MAX {
            self.checkpoint()?;
            if self.checkpointed.load(Ordering::Acquire) >= end.0 {
                return Ok(());
            }
            self.wait_a_round();
        }
        Err(BUSY)
    }

    fn wait_a_round(&self) {
        match self.drive {
            Drive::Threads => std::thread::sleep(ROUND_WAIT),
            Drive::Inline | Drive::Manual => self.pump_blocked(),
        }
    }
}

impl UserInner {
    /// Switches to the copy, unless something is still to be done in the mailbox.
    fn switch(
        self: &Arc<Self>,
        name: &str,
        old: &Mailbox,
        mut transfer: Transfer,
    ) -> Result<Switched> {
        let shared = &self.shared;
        let namespace = self.namespace.load_full();
        let entry = namespace.mailboxes.get(name).filter(|entry| entry.id == old.id());
        let entry = entry.ok_or(Error::NoSuchMailbox)?;
        // A backup has the old directory in its catalog, maybe.
        let Some(_no_backup) = shared.backup_one.try_lock() else { return Err(BACKUP) };
        shared.owners.of(shared, transfer.to(), &self.name)?;
        let home = self.dir_of(transfer.to(), name)?;
        if !old.0.stand_still() {
            return Ok(Switched::Busy(transfer));
        }
        transfer.set_from(old.0.place.read().clone());
        let user = self.name.clone();
        let (uid_validity, partition) = (entry.uid_validity, transfer.to().name.clone());
        let special_use = SpecialUse::to_bits(&entry.special_use);
        let mut frames = Vec::new();
        if name == INBOX {
            let (user, partition) = (user.clone(), partition.clone());
            frames.push((MailboxId::default(), Frame::User { user, partition }));
        }
        let name = name.to_owned();
        frames
            .push((entry.id, Frame::Mailbox { user, name, partition, uid_validity, special_use }));
        let committed = shared
            .checkpoint_all()
            .and_then(|()| {
                let mut files = old.0.files.lock();
                old.0.fold_into_head(&mut files);
                transfer.finish(&files)
            })
            .and_then(|()| self.commit(&frames));
        let lsn = committed.inspect_err(|_| old.0.state.lock().moving = false)?;
        self.apply(&frames);
        old.0.state.lock().gone = true;
        {
            // Nothing more of the old files is written down.
            let _files = old.0.files.lock();
            old.0.deleted.store(true, Ordering::Release);
        }
        let id = old.id();
        shared.mailboxes.remove(id);
        shared.dirty.lock().remove(&id);
        shared.names_due.lock().remove(&id);
        shared.watches.unlinger(&old.0);
        let place = old.0.place.read().clone();
        let left = trash_dir(shared, &place.partition, id);
        let (mailbox, from, to) = (old.0.clone(), place.dir, left.clone());
        let arrival = Move::Arrival {
            partition: transfer.to().clone(),
            from: transfer.dir().to_owned(),
            to: home,
        };
        let leaving = Move::Mailbox { mailbox, from, to, doomed: false };
        transfer.keep();
        self.follow(lsn, [leaving, arrival].into());
        old.0.wake();
        self.regroup()?;
        Ok(Switched::Done(Left { lsn, old: old.clone(), partition: place.partition, dir: left }))
    }
}

impl MailboxInner {
    /// From here on nothing changes in the mailbox, once what is under way has come to its end; says
    /// whether it has, in good time.
    fn stand_still(&self) -> bool {
        self.state.lock().moving = true;
        for _ in 0..SETTLE_ROUNDS_MAX {
            {
                // Whoever applies something has this lock until the view is there.
                let _files = self.files.lock();
                let state = self.state.lock();
                if state.gone {
                    break;
                }
                if state.queue.is_empty() && state.rescan.is_none() {
                    return true;
                }
            }
            self.shared.wait_a_round();
        }
        self.state.lock().moving = false;
        false
    }
}

impl Left {
    /// What other programs put into the old directory after the last look at it.
    fn strays(&self) -> Result<Vec<Stray>> {
        let layout = &self.partition.layout;
        let mut found = Vec::new();
        if layout.kind() == LayoutKind::Cyrus {
            return Ok(Vec::new());
        }
        let storage = &*self.old.0.shared.storage;
        let listed = layout.list(storage, &self.dir, true, &mut |at| found.push(at));
        match listed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("list", &self.dir)(e));
            }
            _ if found.is_empty() => return Ok(Vec::new()),
            _ => {}
        }
        let files = self.old.0.files.lock();
        let bases = (0..files.head.count).filter_map(|position| files.location(position));
        let known: HashSet<Vec<u8>> = bases.map(|at| at.base).collect();
        drop(files);
        found.retain(|at| !known.contains(&at.base));
        found.into_iter().map(|at| self.read(at)).collect()
    }

    fn read(&self, at: Location) -> Result<Stray> {
        let path = self.partition.layout.path(&self.dir, &at);
        let storage = &*self.old.0.shared.storage;
        let stat = storage.stat(&path).map_err(Error::io("stat", &path))?;
        let file = storage.open(&path, Open::Read).map_err(Error::io("open", &path))?;
        let mut stored = vec![0; stat.size as usize];
        file.read_exact_at(&mut stored, 0).map_err(Error::io("read", &path))?;
        let served = Crlf::new(message_line_ends(LayoutKind::Maildir)).converted(stored);
        Ok(Stray { at, internal_date: stat.mtime_ns / 1_000_000_000, served })
    }
}
