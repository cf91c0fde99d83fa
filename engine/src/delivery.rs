//! A message on its way in: LMTP's, APPEND's, an importer's.
//!
//! It streams into one staged file per partition that its targets are on, while one pass makes
//! the facts and the cache blob. At the commit each target gets a link, an UID and a frame; the
//! file's sync and the log's group write run side by side, and both are the commit point. What
//! can fail fails before; dropping a delivery removes what was staged.

mod replace;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::types::{Keyword, ModSeq, SystemFlags, Uid, UidValidity};
use tokio::sync::oneshot;

use crate::annotation::annotation_part;
use crate::error::{Error, Result, is_out_of_descriptors};
use crate::format::frame::{AnnotationValue, Append, Frame, Source};
use crate::io::{BodyFile, Lane, Storage};
use crate::mailbox::{Mailbox, Place, Tx, message_line_ends, set_name_flags, settle};
use crate::message::{Extras, Ingest, Ingested};
use crate::quota::Usage;
use crate::shared::{Drive, Shared};
use crate::store::Store;
use crate::user::User;

/// Stored bytes kept in memory before they go to the staged file.
const SPOOL_BYTES: usize = 256 << 10;

/// One mailbox that a message goes to.
#[derive(Clone)]
pub struct Target {
    /// Whose mailbox it is.
    pub user: User,
    /// Which mailbox.
    pub mailbox: Mailbox,
    /// Initial system flags.
    pub flags: SystemFlags,
    /// Initial keywords.
    pub keywords: Vec<Keyword>,
    /// Seconds since 1970; now when absent.
    pub internal_date: Option<i64>,
    /// Annotations that it begins with.
    pub annotations: Vec<AnnotationValue>,
}

impl Target {
    /// Whether the message has the body parts that annotations are about.
    fn has_parts(&self, facts: &Ingested) -> bool {
        let parts = self.annotations.iter().filter_map(|one| annotation_part(&one.entry));
        let mut parts = parts.filter(|part| !part.is_empty()).peekable();
        if parts.peek().is_none() {
            return true;
        }
        let Ok(extras) = Extras::open(&facts.extras) else { return false };
        parts.all(|part| extras.has_part(&part))
    }

    /// What the message, of so many octets, adds to what the mailbox holds.
    fn usage(&self, bytes: u64) -> Usage {
        let values = self.annotations.iter().filter_map(|one| one.value.as_ref());
        let annotation_bytes = values.map(|value| value.len() as u64).sum();
        Usage { bytes, messages: 1, annotation_bytes, ..Usage::default() }
    }
}

/// Where a message got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its number.
    pub uid: Uid,
    /// Of the mailbox.
    pub uid_validity: UidValidity,
    /// Of its creation.
    pub modseq: ModSeq,
}

/// One staged file.
struct Spool {
    place: Place,
    /// Positions in `targets`.
    targets: Vec<usize>,
    ingest: Option<Ingest>,
    stage: String,
    path: PathBuf,
    file: Option<BodyFile>,
    buffer: Vec<u8>,
    written: u64,
}

/// A message streaming in.
pub struct Delivery {
    shared: Arc<Shared>,
    lane: Lane,
    targets: Vec<Target>,
    spools: Vec<Spool>,
    /// Targets whose limits don't count.
    unlimited: Vec<usize>,
    /// The UID that it gets; the next one when absent.
    uid: Option<Uid>,
    size: u64,
    now: i64,
    /// The staged files belong to transactions now.
    committed: bool,
}

/// A target's frame before it has an UID.
struct Prepared {
    target: usize,
    stage: String,
    place: Place,
    facts: Arc<Ingested>,
    body: usize,
}

/// A staged file that is to be synced, and all of its names.
struct Unsynced {
    file: BodyFile,
    names: Vec<PathBuf>,
    /// Their directories are to be synced too.
    names_too: bool,
}

type Heard = (Appended, oneshot::Receiver<Result<()>>);

impl Delivery {
    /// Begins a message for these mailboxes.
    pub fn new(store: &Store, lane: &Lane, targets: Vec<Target>) -> Result<Delivery> {
        Delivery::over(store.shared().clone(), lane, targets)
    }

    /// The same, for the store's own work.
    pub(crate) fn over(shared: Arc<Shared>, lane: &Lane, targets: Vec<Target>) -> Result<Delivery> {
        let mut spools: Vec<Spool> = Vec::new();
        for (i, target) in targets.iter().enumerate() {
            target.mailbox.check_open()?;
            if !target.mailbox.0.takes_deliveries() {
                return Err(Error::NotAllowed("nothing is delivered into a shared folder"));
            }
            let place = target.mailbox.0.place.read().clone();
            let same = |s: &&mut Spool| s.place.partition.name == place.partition.name;
            if let Some(spool) = spools.iter_mut().find(same) {
                spool.targets.push(i);
                continue;
            }
            let stage = shared.stage_name();
            let layout = &place.partition.layout;
            spools.push(Spool {
                path: layout.stage_path(&place.partition.path, &place.dir, &stage),
                ingest: Some(Ingest::new(message_line_ends(layout.kind()))),
                place,
                targets: vec![i],
                stage,
                file: None,
                buffer: Vec::new(),
                written: 0,
            });
        }
        let (lane, size, now) = (lane.clone(), 0, shared.now_seconds());
        let unlimited = Vec::new();
        let uid = None;
        Ok(Delivery { shared, lane, targets, spools, unlimited, uid, size, now, committed: false })
    }

    /// Takes the next piece of the message as it came over the wire.
    pub async fn write(&mut self, wire: &[u8]) -> Result<()> {
        self.size += wire.len() as u64;
        let max = self.shared.config.message_bytes_max;
        if self.size > max {
            return Err(Error::TooBig { max });
        }
        for spool in &mut self.spools {
            if let Some(ingest) = &mut spool.ingest {
                ingest.feed(wire, &mut spool.buffer);
            }
            if spool.buffer.len() >= SPOOL_BYTES {
                spool.flush(&self.lane, &self.shared).await?;
            }
        }
        Ok(())
    }

    /// Has the message come into the target at this place whatever the limits of its mailbox.
    pub fn ignore_quota(&mut self, place: usize) {
        self.unlimited.push(place);
    }

    /// Gives the message, which goes to one mailbox, the UID that another server gave it.
    ///
    /// The commit fails with [`Error::NotAllowed`] where that is not above all that were given.
    pub fn keep_uid(&mut self, uid: Uid) {
        self.uid = Some(uid);
    }

    /// Gives the message these annotations, in all of its mailboxes.
    pub fn annotate(&mut self, annotations: Vec<AnnotationValue>) {
        for target in &mut self.targets {
            target.annotations.extend(annotations.iter().cloned());
        }
    }

    /// Octets taken so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Commits the message; one result per target, in their order. What was pushed goes on to
    /// its end even if this future is dropped.
    pub async fn commit(mut self) -> Vec<Result<Appended>> {
        self.shared.log.room().await;
        let (prepared, bodies) = match self.prepare().await {
            Ok(prepared) => prepared,
            Err(error) => return self.targets.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut appending = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            appending.push(target.mailbox.0.appending().await);
        }
        let pushed: Vec<Result<Heard>> = self.push_each(prepared, bodies);
        drop(appending);
        let mut results = Vec::with_capacity(pushed.len());
        for one in pushed {
            results.push(match one {
                Ok((appended, heard)) => settle(&self.shared, heard).await.map(|()| appended),
                Err(error) => Err(error),
            });
        }
        results
    }

    /// Commits several messages, each with one and the same target mailbox: all or none.
    pub async fn commit_all(mut deliveries: Vec<Delivery>) -> Result<Vec<Appended>> {
        let Some(first) = deliveries.first() else { return Ok(Vec::new()) };
        let shared = first.shared.clone();
        let target = first.targets[0].clone();
        shared.log.room().await;
        let mut prepared = Vec::with_capacity(deliveries.len());
        for delivery in &mut deliveries {
            let (mut one, mut bodies) = delivery.prepare().await?;
            if let (Some(frame), Some(body)) = (one.pop(), bodies.pop()) {
                prepared.push((frame, body));
            }
        }
        let mut more = Usage::default();
        for (delivery, (one, _)) in deliveries.iter().zip(&prepared) {
            more = more.plus(delivery.targets[one.target].usage(one.facts.size.into()));
        }
        target.mailbox.0.share.allow(None, more)?;
        let appending = target.mailbox.0.appending().await;
        let (appended, heard, bodies) = {
            let inner = &target.mailbox.0;
            let mut state = inner.open_state()?;
            // Looked at before any is taken: what is taken and not pushed is lost.
            deliveries.iter().filter_map(|one| one.uid).try_fold(state.uid_next, |next, uid| {
                state.allow_uid_given(uid, next).map(|()| Uid(uid.0 + 1))
            })?;
            let mut frames = Vec::new();
            let mut appended = Vec::new();
            let mut bodies = Vec::new();
            for (delivery, (one, body)) in deliveries.iter().zip(prepared) {
                appended.push(delivery.frames_of(&one, &mut state, &mut frames)?);
                bodies.push(body);
            }
            state.name_bits(bits_of(&frames), &mut frames);
            let (tx, heard) = inner.push_frames(&mut state, frames, bodies.len() as u32)?;
            let bodies: Vec<_> = bodies.into_iter().map(|b| (b, vec![tx.clone()])).collect();
            (appended, heard, bodies)
        };
        drop(appending);
        for delivery in &mut deliveries {
            delivery.committed = true;
        }
        for (body, txs) in bodies {
            deliveries[0].sync_for(body, txs);
        }
        settle(&shared, heard).await?;
        Ok(appended)
    }

    /// Finishes the staged files and their links, all but the sync.
    async fn prepare(&mut self) -> Result<(Vec<Prepared>, Vec<Unsynced>)> {
        let mut prepared = Vec::with_capacity(self.targets.len());
        let mut bodies = Vec::with_capacity(self.spools.len());
        for (body, spool) in self.spools.iter_mut().enumerate() {
            let Some(ingest) = spool.ingest.take() else { return Err(Error::Closing) };
            let facts = Arc::new(ingest.finish(&mut spool.buffer));
            if !spool.targets.iter().all(|&at| self.targets[at].has_parts(&facts)) {
                return Err(Error::NoSuchPart);
            }
            spool.flush(&self.lane, &self.shared).await?;
            let Some(file) = spool.file.clone() else { return Err(Error::Closing) };
            let first = &self.targets[spool.targets[0]];
            let date = first.internal_date.unwrap_or(self.now);
            file.set_mtime(date).map_err(Error::io("date", &spool.path))?;
            let mut links = Vec::new();
            for (n, &target) in spool.targets.iter().enumerate() {
                let place = self.targets[target].mailbox.0.place.read().clone();
                let stage = if n == 0 { spool.stage.clone() } else { self.shared.stage_name() };
                if n > 0 {
                    let layout = &place.partition.layout;
                    links.push(layout.stage_path(&place.partition.path, &place.dir, &stage));
                }
                prepared.push(Prepared { target, stage, place, facts: facts.clone(), body });
            }
            let mut names = vec![spool.path.clone()];
            names.extend(links.iter().cloned());
            if !links.is_empty() {
                let (storage, from) = (self.shared.storage.clone(), spool.path.clone());
                let job = move || {
                    links
                        .iter()
                        .try_for_each(|to| storage.link(&from, to).map_err(Error::io("link", to)))
                };
                self.shared.helpers.run(job).await.map_err(|_| Error::Closing)??;
            }
            let names_too = self.shared.syncs_names(&spool.place.partition.name);
            bodies.push(Unsynced { file, names, names_too });
        }
        Ok((prepared, bodies))
    }

    /// Pushes a transaction per target and starts the syncs. No await in here: once something is
    /// pushed, its syncs are under way.
    fn push_each(&mut self, prepared: Vec<Prepared>, bodies: Vec<Unsynced>) -> Vec<Result<Heard>> {
        let mut results: Vec<Result<Heard>> = Vec::new();
        results.resize_with(self.targets.len(), || Err(Error::Closing));
        let mut waiting: Vec<Vec<Arc<Tx>>> = bodies.iter().map(|_| Vec::new()).collect();
        for one in &prepared {
            let target = &self.targets[one.target];
            let more = target.usage(one.facts.size.into());
            let allowed = match self.unlimited.contains(&one.target) {
                true => Ok(()),
                false => target.mailbox.0.share.allow(None, more),
            };
            let pushed = allowed.and_then(|()| {
                let inner = &target.mailbox.0;
                let mut state = inner.open_state()?;
                let mut frames = Vec::new();
                let appended = self.frames_of(one, &mut state, &mut frames)?;
                state.name_bits(bits_of(&frames), &mut frames);
                let (tx, heard) = inner.push_frames(&mut state, frames, 1)?;
                Ok((appended, heard, tx))
            });
            results[one.target] = pushed.map(|(appended, heard, tx)| {
                waiting[one.body].push(tx);
                (appended, heard)
            });
            if results[one.target].is_err() {
                let layout = &one.place.partition.layout;
                let path = layout.stage_path(&one.place.partition.path, &one.place.dir, &one.stage);
                self.discard(path);
            }
        }
        self.committed = true;
        for (body, txs) in bodies.into_iter().zip(waiting) {
            if !txs.is_empty() {
                self.sync_for(body, txs);
            }
        }
        results
    }

    fn sync_for(&self, body: Unsynced, txs: Vec<Arc<Tx>>) {
        let shared = self.shared.clone();
        let Unsynced { file, names, names_too } = body;
        let report = move |result: Result<()>| {
            if let Err(error) = &result {
                tracing::error!(%error, "a message could not be made durable");
            }
            txs.iter().for_each(|tx| tx.report(result.clone()));
        };
        self.lane.sync_detached(file, move |synced| {
            let result = synced.map_err(Error::io("sync", &names[0]));
            if result.is_err() || !names_too {
                return report(result);
            }
            let storage = shared.storage.clone();
            let sync = move || report(sync_names(&*storage, &names));
            match shared.drive {
                Drive::Threads => shared.helpers.spawn(sync),
                Drive::Inline | Drive::Manual => sync(),
            }
        });
    }

    /// Appends the frames of one message to `frames`, with UID and MODSEQ from the state.
    fn frames_of(
        &self,
        one: &Prepared,
        state: &mut crate::mailbox::State,
        frames: &mut Vec<(Frame, Vec<u8>)>,
    ) -> Result<Appended> {
        let target = &self.targets[one.target];
        let keywords = state.keyword_bits(&target.keywords, true)?;
        let uid = match self.uid {
            Some(uid) => state.take_uid_given(uid)?,
            None => state.take_uid()?,
        };
        let modseq = state.take_modseq();
        let facts = &one.facts;
        let internal_date = target.internal_date.unwrap_or(self.now);
        let layout = &one.place.partition.layout;
        let mut append = Append {
            uid,
            modseq,
            internal_date,
            save_date: self.now,
            flags: target.flags,
            keywords,
            size: facts.size,
            stored: facts.stored,
            header_size: facts.header_size,
            sent_date: facts.sent_date.unwrap_or(internal_date),
            subject_hash: facts.subject_hash,
            from_hash: facts.from_hash,
            content_id: facts.content_id,
            source: Source::Staged(one.stage.clone()),
            base: layout.base_name(&self.shared.unique(), facts.stored, facts.size),
            other_letters: Vec::new(),
            name_flags: 0,
            in_new: false,
        };
        set_name_flags(&mut append, state.keywords.passed_bit());
        frames.push((Frame::Append(append), facts.extras.clone()));
        if !target.annotations.is_empty() {
            let (ranges, values) = (vec![(uid.0, uid.0)], target.annotations.clone());
            frames.push((Frame::Annotations { ranges, values }, Vec::new()));
        }
        Ok(Appended { uid, uid_validity: target.mailbox.uid_validity(), modseq })
    }

    fn discard(&self, path: PathBuf) {
        let storage = self.shared.storage.clone();
        self.shared.helpers.spawn(move || {
            // Not there when nothing was written yet.
            let _ = storage.unlink(&path);
        });
    }
}

/// Makes the names of files durable, each directory once.
pub(crate) fn sync_names(storage: &dyn Storage, names: &[PathBuf]) -> Result<()> {
    let mut dirs: Vec<&Path> = names.iter().filter_map(|name| name.parent()).collect();
    dirs.sort_unstable();
    dirs.dedup();
    dirs.iter().try_for_each(|dir| storage.sync_dir(dir).map_err(Error::io("sync", *dir)))
}

/// The keyword bits that appended messages have.
fn bits_of(frames: &[(Frame, Vec<u8>)]) -> u64 {
    let bits = |(frame, _): &(Frame, Vec<u8>)| match frame {
        Frame::Append(append) => append.keywords,
        _ => 0,
    };
    frames.iter().map(bits).fold(0, |all, bits| all | bits)
}

impl Spool {
    /// Moves the buffer to the staged file, which is made at first need.
    async fn flush(&mut self, lane: &Lane, shared: &Arc<Shared>) -> Result<()> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                let mut made = lane.create(&self.path).await;
                if made.as_ref().is_err_and(is_out_of_descriptors) {
                    shared.freed_descriptors().await;
                    made = lane.create(&self.path).await;
                }
                self.file.insert(made.map_err(Error::io("create", &self.path))?).clone()
            }
        };
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let len = buffer.len() as u64;
        let back = lane.write(&file, buffer, self.written).await;
        self.buffer = back.map_err(Error::io("write", &self.path))?;
        self.written += len;
        Ok(())
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.committed {
            for spool in &self.spools {
                if spool.file.is_some() {
                    self.discard(spool.path.clone());
                }
            }
        }
    }
}
