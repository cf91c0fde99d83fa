//! COPY and MOVE.
//!
//! Within a filesystem and a layout a copy is a hard link, staged before the commit like a
//! delivery's file but not synced: the frame names its source, and the source's file stays until a
//! checkpoint covers the frame ("destroy last"), so recovery can link again. Otherwise the bytes
//! are written and synced as a delivery's are.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::types::{Uid, UidValidity};
use tokio::sync::oneshot;

use super::apply::location_of;
use super::files::INDEX_NAME;
use super::ops::ranges;
use super::pour::pour;
use super::{Mailbox, MailboxInner, Place, Tx, View, settle};
use crate::acl::FlagScope;
use crate::error::{Error, Result};
use crate::format::frame::{AnnotationValue, Append, Frame, Source};
use crate::format::index::Record;
use crate::io::Open;
use crate::layout::NameFlags;
use crate::quota::Usage;
use crate::shared::Shared;

/// Messages of one transaction at most.
const MESSAGES_MAX: usize = 4096;

/// What COPY or MOVE did.
#[derive(Clone, Debug)]
pub struct Copied {
    /// UIDVALIDITY of the target.
    pub uid_validity: UidValidity,
    /// UID in the source and in the target, ascending.
    pub pairs: Vec<(Uid, Uid)>,
}

/// What copies take along of a message, beside its bytes and dates.
#[derive(Clone, Debug)]
pub struct Carried {
    /// These flags: RFC 4314 section 4.
    pub flags: FlagScope,
    /// These annotations.
    pub annotations: CarriedAnnotations,
}

impl Carried {
    /// Everything.
    pub const ALL: Carried =
        Carried { flags: FlagScope::ALL, annotations: CarriedAnnotations::Everybodys };
}

/// Which annotations go along with a copy.
#[derive(Clone, Debug)]
pub enum CarriedAnnotations {
    /// All of them: where it is not a user who copies.
    Everybodys,
    /// Those that RFC 5257 section 4.6 lets a user take along.
    Of {
        /// Shared ones.
        shared: bool,
        /// The private ones of this user.
        private: Option<String>,
    },
}

impl CarriedAnnotations {
    fn takes(&self, whose: &str) -> bool {
        match self {
            CarriedAnnotations::Everybodys => true,
            CarriedAnnotations::Of { shared, .. } if whose.is_empty() => *shared,
            CarriedAnnotations::Of { private, .. } => private.as_deref() == Some(whose),
        }
    }
}

struct Staged {
    record: Record,
    content_id: [u8; 16],
    stored: u32,
    stage: String,
    linked: bool,
}

impl Mailbox {
    /// Copies messages; all or none.
    pub async fn copy(&self, view: &View, uids: Vec<Uid>, target: &Mailbox) -> Result<Copied> {
        self.transfer(view, uids, target, false, Carried::ALL).await
    }

    /// Moves messages; all or none.
    pub async fn move_to(&self, view: &View, uids: Vec<Uid>, target: &Mailbox) -> Result<Copied> {
        self.transfer(view, uids, target, true, Carried::ALL).await
    }

    /// Copies, or with `remove` moves, messages with what is `carried`; the rest is left behind.
    pub async fn transfer(
        &self,
        view: &View,
        mut uids: Vec<Uid>,
        target: &Mailbox,
        remove: bool,
        carried: Carried,
    ) -> Result<Copied> {
        self.check_open()?;
        target.check_open()?;
        let shared = self.0.shared.clone();
        let mut copied = Copied { uid_validity: target.uid_validity(), pairs: Vec::new() };
        // The original may go when what is elsewhere is durable, and not before; what comes into a
        // copy of a shared folder is there when the original has it.
        let arrivals = target.arrivals().await?;
        let expunges = remove && (self.0.copy.is_some() || arrivals.is_some());
        let remove = remove && !expunges;
        uids.sort_unstable();
        let mut rest = &uids[..];
        while !rest.is_empty() {
            shared.log.room().await;
            let appending = target.0.appending().await;
            let (source, into) = (self.0.clone(), target.0.clone());
            let part = rest[..rest.len().min(MESSAGES_MAX)].to_vec();
            let (view, carried) = (view.clone(), carried.clone());
            let job = move || {
                let _appending = appending;
                push_transfer(&source, &into, &view, &part, (remove, &carried))
            };
            let (taken, pushed) = shared.helpers.run(job).await.map_err(|_| Error::Closing)??;
            rest = &rest[taken..];
            let Some((pairs, heard)) = pushed else { continue };
            settle(&shared, heard).await?;
            copied.pairs.extend(pairs);
        }
        if arrivals.is_some() {
            target.publish(copied.pairs.iter().map(|(_, to)| *to).collect()).await?;
        }
        if expunges {
            self.expunge(view, copied.pairs.iter().map(|(from, _)| *from).collect()).await?;
        }
        Ok(copied)
    }
}

type Pushed = Option<(Vec<(Uid, Uid)>, oneshot::Receiver<Result<()>>)>;

/// The blocking part: stages files, then pushes the transaction. Returns with how many of the
/// messages it is: fewer than all where their annotations are much.
fn push_transfer(
    source: &Arc<MailboxInner>,
    target: &Arc<MailboxInner>,
    view: &View,
    uids: &[Uid],
    (remove, carried): (bool, &Carried),
) -> Result<(usize, Pushed)> {
    let shared = source.shared.clone();
    let takes = |whose: &str| carried.annotations.takes(whose);
    let (annotations, through) = match source.annotated.load(Ordering::Acquire) {
        true => source.annotations_to_carry(uids, &takes)?,
        false => (HashMap::new(), Uid::MAX),
    };
    let uids = &uids[..uids.partition_point(|uid| *uid <= through)];
    let place = target.place.read().clone();
    let mut staged = Vec::with_capacity(uids.len());
    for &uid in uids {
        let one = match record_mended(source, view, uid) {
            Ok(Some(record)) => stage(source, &place, &record),
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        match one {
            Ok(Some(one)) => staged.push(one),
            // Expunged by another session, or removed by another program: not copied.
            Ok(None) => {}
            Err(error) => {
                discard(&shared, &place, &staged);
                return Err(error);
            }
        }
    }
    if let Err(error) = sync_links(&shared, &place, &staged) {
        discard(&shared, &place, &staged);
        return Err(error);
    }
    let values = annotations.values().flatten().filter_map(|one| one.value.as_ref());
    let more = Usage {
        bytes: staged.iter().map(|one| u64::from(one.record.size)).sum(),
        messages: staged.len() as u64,
        annotation_bytes: values.map(|value| value.len() as u64).sum(),
        ..Usage::default()
    };
    let from = remove.then_some(&source.share);
    let carried = (carried.flags, annotations);
    let pushed = target
        .share
        .allow(from, more)
        .and_then(|()| push_staged(source, target, &place, view, &staged, (remove, carried)));
    if !matches!(pushed, Ok(Some(_))) {
        discard(&shared, &place, &staged);
    }
    pushed.map(|pushed| (uids.len(), pushed))
}

/// Makes the names of staged links durable where nothing else does so in time: recovery links a copy
/// again from its source, which another program may have removed for good by then.
fn sync_links(shared: &Shared, place: &Place, staged: &[Staged]) -> Result<()> {
    let partition = &place.partition;
    let whole = shared.mount(&partition.name)?.filesystem.renames_are_whole;
    let links = shared.syncs_names(&partition.name) || !whole;
    match staged.iter().find(|one| one.linked).filter(|_| links) {
        Some(one) => {
            let path = partition.layout.stage_path(&partition.path, &place.dir, &one.stage);
            crate::delivery::sync_names(&*shared.storage, &[path])
        }
        None => Ok(()),
    }
}

fn discard(shared: &Shared, place: &Place, staged: &[Staged]) {
    for one in staged {
        let layout = &place.partition.layout;
        let path = layout.stage_path(&place.partition.path, &place.dir, &one.stage);
        let _ = shared.storage.unlink(&path);
    }
}

/// The record of a message in the view; a damaged one is mended first. `None` when the message is
/// not there.
fn record_mended(source: &Arc<MailboxInner>, view: &View, uid: Uid) -> Result<Option<Record>> {
    let found = view.record_of(uid);
    if found.is_some() || view.position_of(uid).is_none() {
        return Ok(found.map(|(_, record)| record));
    }
    source.heal();
    let mended = view.record_of(uid).ok_or_else(|| source.unreadable(uid))?;
    Ok(Some(mended.1))
}

/// Makes the file of one message appear under a stage name of the target.
fn stage(source: &Arc<MailboxInner>, place: &Place, record: &Record) -> Result<Option<Staged>> {
    let shared = &source.shared;
    let name = shared.stage_name();
    let to = place.partition.layout.stage_path(&place.partition.path, &place.dir, &name);
    for _ in 0..3 {
        let Some((from, facts_stored, content_id)) = source.path_mended(record.uid)? else {
            return Ok(None);
        };
        let same_form =
            source.place.read().partition.layout.kind() == place.partition.layout.kind();
        let linked = if same_form {
            shared.storage.link(&from, &to)
        } else {
            Err(ErrorKind::CrossesDevices.into())
        };
        let one = |stored, linked| {
            let stage = name.clone();
            Ok(Some(Staged { record: *record, content_id, stored, stage, linked }))
        };
        match linked {
            Ok(()) => return one(facts_stored, true),
            Err(e) if e.kind() == ErrorKind::NotFound => source.rescan_blocking()?,
            Err(e) if matches!(e.kind(), ErrorKind::CrossesDevices | ErrorKind::TooManyLinks) => {
                match copy_bytes(source, place, &from, &to, record.internal_date) {
                    Ok(stored) => return one(stored, false),
                    Err(Error::Io { source: e, .. }) if e.kind() == ErrorKind::NotFound => {
                        source.rescan_blocking()?;
                    }
                    Err(error) => return Err(error),
                }
            }
            Err(e) => return Err(Error::io("link", to)(e)),
        }
    }
    Ok(None)
}

/// Writes the message in the target's form; durable on return. Returns its stored octets.
fn copy_bytes(
    source: &MailboxInner,
    place: &Place,
    from: &Path,
    to: &Path,
    internal_date: i64,
) -> Result<u32> {
    let storage = &source.shared.storage;
    let input = storage.open(from, Open::Read).map_err(Error::io("open", from))?;
    let output = storage.open(to, Open::CreateNew).map_err(Error::io("create", to))?;
    let (its_form, form) =
        (source.place.read().partition.layout.kind(), place.partition.layout.kind());
    let result = pour((&*input, from, its_form), (&*output, to, form), internal_date);
    let result = result.and_then(|stored| {
        if source.shared.syncs_names(&place.partition.name) {
            crate::delivery::sync_names(&**storage, &[to.to_owned()])?;
        }
        Ok(stored)
    });
    if result.is_err() {
        let _ = storage.unlink(to);
    }
    result
}

fn push_staged(
    source: &Arc<MailboxInner>,
    target: &Arc<MailboxInner>,
    place: &Place,
    view: &View,
    staged: &[Staged],
    (remove, (scope, mut annotations)): (bool, (FlagScope, HashMap<Uid, Vec<AnnotationValue>>)),
) -> Result<Pushed> {
    let shared = &source.shared;
    if staged.is_empty() {
        return Ok(None);
    }
    let same = source.id == target.id;
    // Two state locks are taken in the order of the ids.
    let (mut source_state, mut target_state);
    if same {
        source_state = None;
        target_state = target.open_state()?;
    } else if source.id < target.id {
        source_state = Some(source.open_state()?);
        target_state = target.open_state()?;
    } else {
        target_state = target.open_state()?;
        source_state = Some(source.open_state()?);
    }
    let newest = source.view();
    let state_of_source = source_state.as_deref().unwrap_or(&target_state);
    let current: Vec<_> =
        staged.iter().map(|s| state_of_source.current(&newest, s.record.uid)).collect();
    let names = view.keywords().of_bits(u64::MAX).cloned().collect::<Vec<_>>();
    let newer_names = newest.keywords().names().to_vec();
    let table = if newer_names.len() > names.len() { newer_names } else { names };
    let mut target_frames = Vec::with_capacity(staged.len() + 1);
    let mut used_bits = 0;
    let mut pairs = Vec::with_capacity(staged.len());
    for (one, current) in staged.iter().zip(&current) {
        let record = &one.record;
        let Some(now) = current else {
            let path =
                place.partition.layout.stage_path(&place.partition.path, &place.dir, &one.stage);
            let _ = shared.storage.unlink(&path);
            continue;
        };
        let keywords: Vec<_> = (0..64)
            .filter(|i| scope.keywords && now.keywords & (1u64 << i) != 0)
            .filter_map(|i| table.get(i as usize).cloned())
            .collect();
        let flags = match &view.1 {
            Some(seen) => seen.laid_over(record.uid, now.flags),
            None => now.flags,
        };
        let bits = target_state.keyword_bits(&keywords, true)?;
        used_bits |= bits;
        let uid = target_state.take_uid()?;
        let modseq = target_state.take_modseq();
        let base = place.partition.layout.base_name(&shared.unique(), one.stored, record.size);
        let mut append = Append {
            uid,
            modseq,
            internal_date: record.internal_date,
            save_date: shared.now_seconds(),
            flags: scope.system_of(flags),
            keywords: bits,
            size: record.size,
            stored: one.stored,
            header_size: record.header_size,
            sent_date: i64::from(record.sent_date),
            subject_hash: record.subject_hash,
            from_hash: record.from_hash,
            content_id: one.content_id,
            source: if one.linked {
                Source::Linked { stage: one.stage.clone(), mailbox: source.id, uid: record.uid }
            } else {
                Source::Staged(one.stage.clone())
            },
            base,
            other_letters: Vec::new(),
            name_flags: 0,
            in_new: false,
        };
        let passed = target_state.keywords.passed_bit();
        set_name_flags(&mut append, passed);
        debug_assert_eq!(location_of(&append).uid, uid);
        pairs.push((record.uid, uid));
        target_frames.push((Frame::Append(append), Vec::new()));
        if let Some(values) = annotations.remove(&record.uid) {
            let ranges = vec![(uid.0, uid.0)];
            target_frames.push((Frame::Annotations { ranges, values }, Vec::new()));
        }
    }
    if pairs.is_empty() {
        return Ok(None);
    }
    target_state.name_bits(used_bits, &mut target_frames);
    let moved: Vec<Uid> = pairs.iter().map(|(from, _)| *from).collect();
    let mut source_frame = None;
    if remove {
        let state = source_state.as_deref_mut().unwrap_or(&mut target_state);
        let modseq = state.take_modseq();
        source_frame = Some(Frame::Expunge { modseq, moved: true, ranges: ranges(&moved) });
    }
    let mut log_frames: Vec<_> =
        target_frames.iter().map(|(frame, _)| (target.id, frame.clone())).collect();
    log_frames.extend(source_frame.iter().map(|frame| (source.id, frame.clone())));
    let mut touched = vec![target.clone()];
    if !same && remove {
        touched.push(source.clone());
    }
    let (tx, heard) = Tx::new(log_frames.len() as u32, 0, touched);
    let report = tx.clone();
    let lsn = shared.log.push(&log_frames, Box::new(move |r| report.log_report(r)))?;
    tx.pushed(lsn);
    let mut pins = source.pinned.lock();
    pins.extend(moved.iter().map(|uid| (*uid, lsn)));
    drop(pins);
    target.enqueue(&mut target_state, &tx, lsn, target_frames.into_iter());
    let state = source_state.as_deref_mut().unwrap_or(&mut target_state);
    if let Some(Frame::Expunge { modseq, .. }) = source_frame {
        state.will_be_gone(&moved, modseq);
    }
    source.enqueue(state, &tx, lsn, source_frame.into_iter().map(|frame| (frame, Vec::new())));
    Ok(Some((pairs, heard)))
}

/// Gives a new Maildir file the name that its flags ask for.
pub(crate) fn set_name_flags(append: &mut Append, passed_bit: u64) {
    let passed = if append.keywords & passed_bit != 0 { NameFlags::PASSED } else { 0 };
    append.name_flags = append.flags.0 | passed;
    append.in_new = append.name_flags == 0;
}

impl MailboxInner {
    /// Path, stored octets and content id of a message's file, where it was last seen.
    pub(crate) fn path_of(&self, uid: Uid) -> Option<(PathBuf, u32, [u8; 16])> {
        let view = self.view();
        let at = view.location(uid)?;
        let (stored, content_id) = view.stored(uid)?;
        let place = self.place.read();
        let path = place.partition.layout.path(&place.dir, &at);
        Some((path, stored, content_id))
    }

    /// As [`MailboxInner::path_of`]; what cannot be read is mended first, and fails when it cannot
    /// be: only a message that is gone has no path. For helper threads; no lock is held.
    fn path_mended(self: &Arc<Self>, uid: Uid) -> Result<Option<(PathBuf, u32, [u8; 16])>> {
        if let Some(found) = self.path_of(uid) {
            return Ok(Some(found));
        }
        self.heal();
        match self.path_of(uid) {
            None if self.view().position_of(uid).is_some() => Err(self.unreadable(uid)),
            found => Ok(found),
        }
    }

    fn unreadable(&self, uid: Uid) -> Error {
        Error::Corrupt {
            path: self.place.read().dir.join(INDEX_NAME),
            expected: "a record, facts and a name that can be read or mended",
            found: format!("damage of UID {uid}"),
        }
    }
}
