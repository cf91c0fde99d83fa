//! The segments of one mailbox.
//!
//! Which files count is told by the directory alone: segments with proper names that are whole and
//! of this mailbox. Where one covers all that another does, the other is a merge's left-over and
//! goes. What no segment covers is searched without an index. So no crash leaves anything that
//! could be trusted wrongly, and the directory may be deleted at any time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::merge;
use super::query::{Bits, Wanted, scan};
use super::segment::{Cover, Doc, Owner, SUFFIX, Segment, TEMPORARY, Writer};
use crate::error::{Error, Result};
use crate::io::{Kind, Storage};
use crate::mailbox::View;
use crate::search::{Leaf, Place, Verdict};

/// So many neighbours of about one size are merged into one.
const MERGE_FROM: usize = 4;
/// Segments of one size: up to so many times as many messages as the next smaller size.
const TIER_FACTOR: usize = 4;

/// See the module. Segments rise by UID and do not overlap.
pub(super) struct Shelf {
    dir: PathBuf,
    owner: Owner,
    segments: Vec<Arc<Segment>>,
}

impl Shelf {
    /// Reads what is there; removes what does not count.
    pub(super) fn open(storage: &dyn Storage, dir: &Path, owner: Owner, view: &View) -> Shelf {
        let mut names = Vec::new();
        let listed = storage.list(dir, &mut |name, kind| {
            if let (Ok(name), Kind::File) = (std::str::from_utf8(name), kind) {
                names.push(name.to_owned());
            }
        });
        if let Err(error) = listed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), %error, "cannot list the full-text index");
        }
        let mut segments = Vec::new();
        for name in names {
            let path = dir.join(&name);
            if name.ends_with(TEMPORARY) {
                let _ = storage.unlink(&path);
            } else if name.ends_with(SUFFIX) {
                match Segment::open(storage, &path, owner).and_then(|s| believable(s, view)) {
                    Ok(segment) => segments.push(Arc::new(segment)),
                    Err(error) => drop_file(storage, &path, &error),
                }
            }
        }
        // The widest of those that begin at the same place first.
        segments.sort_unstable_by_key(|s| (s.range().0, u32::MAX - s.range().1));
        let mut shelf = Shelf { dir: dir.to_owned(), owner, segments: Vec::new() };
        for segment in segments {
            if shelf.segments.last().is_some_and(|last| segment.range().0 <= last.range().1) {
                let _ = storage.unlink(&segment.path);
            } else {
                shelf.segments.push(segment);
            }
        }
        shelf
    }

    pub(super) fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// The first stretch of UIDs of a view that no segment covers, and how many messages of the
    /// view are in such stretches.
    pub(super) fn gap(&self, view: &View) -> (Option<(u32, u32)>, usize) {
        let mut covered = self.segments.iter().map(|s| s.range()).enumerate().peekable();
        let (mut gap, mut missing): (Option<(u32, u32)>, usize) = (None, 0);
        // The segment behind the gap, by number.
        let mut behind = None;
        for (_, uid) in view.uids() {
            while covered.next_if(|(_, (_, last))| *last < uid.0).is_some() {}
            let next = covered.peek();
            if next.is_some_and(|(_, (first, _))| *first <= uid.0) {
                continue;
            }
            missing += 1;
            let next = next.map(|(number, _)| *number);
            gap = match gap {
                None => {
                    behind = next;
                    Some((uid.0, uid.0))
                }
                Some((first, _)) if behind == next => Some((first, uid.0)),
                other => other,
            };
        }
        (gap, missing)
    }

    /// Takes in a segment that was just written.
    pub(super) fn add(&mut self, storage: &dyn Storage, path: &Path) -> Result<()> {
        let segment = Segment::open(storage, path, self.owner)?;
        let (first, last) = segment.range();
        self.segments.retain(|other| other.range().1 < first || last < other.range().0);
        let at = self.segments.partition_point(|other| other.range().0 < first);
        self.segments.insert(at, Arc::new(segment));
        Ok(())
    }

    /// Forgets a segment and removes its file.
    pub(super) fn remove(&mut self, storage: &dyn Storage, path: &Path) {
        self.segments.retain(|segment| segment.path != path);
        let _ = storage.unlink(path);
    }

    /// Removes everything.
    pub(super) fn clear(&mut self, storage: &dyn Storage) {
        for segment in std::mem::take(&mut self.segments) {
            let _ = storage.unlink(&segment.path);
        }
        let _ = storage.remove_dir(&self.dir);
    }

    /// Neighbours that are to become one: at least [`MERGE_FROM`] of about the same size, with the
    /// smaller ones among them, and nothing of the view between them that none covers.
    pub(super) fn due(&self, view: &View) -> Option<Vec<Arc<Segment>>> {
        let tier = |segment: &Arc<Segment>| segment.docs().len().max(1).ilog(TIER_FACTOR);
        let most = self.segments.iter().map(tier).max()?;
        (0..=most).find_map(|limit| {
            let runs = self.segments.chunk_by(|a, b| {
                let between = (a.range().1 + 1, b.range().0 - 1);
                (tier(a) <= limit) == (tier(b) <= limit)
                    && view.seqs_in_uid_ranges(&[between]).is_empty()
            });
            let mut runs = runs.filter(|run| tier(&run[0]) <= limit && run.len() >= MERGE_FROM);
            runs.next().map(<[_]>::to_vec)
        })
    }

    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Whether a segment speaks of the messages that the mailbox has: after a restore, or a log that
/// was lost, the same UIDs may stand for others.
fn believable(segment: Segment, view: &View) -> Result<Segment> {
    let bad = |found: String| Error::Corrupt {
        path: segment.path.clone(),
        expected: "an index of the mailbox's own messages",
        found,
    };
    let (first, last) = segment.range();
    let Some(newest) = segment.docs().last() else { return Err(bad("no message".to_owned())) };
    let rising = segment.docs().windows(2).all(|pair| pair[0].uid < pair[1].uid);
    if !rising || segment.docs()[0].uid < first || newest.uid > last || last >= view.uid_next().0 {
        return Err(bad(format!("UIDs {first} to {last}")));
    }
    match view.stored(protocol::types::Uid(newest.uid)) {
        Some((_, content_id)) if content_id != segment.content_id() => {
            Err(bad(format!("another message as UID {}", newest.uid)))
        }
        _ => Ok(segment),
    }
}

/// Removes a segment that is of no use, and says why.
pub(super) fn drop_file(storage: &dyn Storage, path: &Path, error: &Error) {
    tracing::warn!(path = %path.display(), %error, "dropping a part of the full-text index");
    let _ = storage.unlink(path);
}

/// Merges neighbours, leaving out what the view has no longer. Returns the new file.
pub(super) fn merge_neighbours(
    storage: &dyn Storage,
    dir: &Path,
    owner: Owner,
    view: &View,
    segments: &[Arc<Segment>],
) -> Result<Option<PathBuf>> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(None) };
    let (uid_first, uid_last) = (first.range().0, last.range().1);
    let content_id = last.content_id();
    let segments: Vec<&Segment> = segments.iter().map(|s| &**s).collect();
    let mut writer = Writer::new(storage, dir)?;
    let keep = |uid| view.position_of(protocol::types::Uid(uid)).is_some();
    let docs = merge(&segments, keep, &mut writer)?;
    writer.finish(&Cover { owner, uid_first, uid_last, docs: &docs, content_id }).map(Some)
}

/// What the segments say of the leaves of a search, for the messages of a view. `Err` names a
/// damaged segment.
pub(super) fn verdicts(
    segments: &[Arc<Segment>],
    view: &View,
    leaves: &[Leaf],
) -> Result<Vec<Option<Verdict>>> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut asked: Vec<Option<Asked>> = Vec::new();
    let exists = view.exists() as usize;
    for leaf in leaves {
        let own: Vec<Wanted> = match (&leaf.clues, &leaf.words) {
            (_, words) if !words.is_empty() => words.iter().cloned().map(Wanted::Like).collect(),
            (Some(clues), _) => clues.patterns.iter().cloned().map(Wanted::Exactly).collect(),
            _ => {
                asked.push(None);
                continue;
            }
        };
        let mut number = |own: Wanted| {
            wanted.iter().position(|known| *known == own).unwrap_or_else(|| {
                wanted.push(own);
                wanted.len() - 1
            })
        };
        let suffice = leaf.clues.as_ref().is_some_and(|clues| clues.suffice);
        asked.push(Some(Asked {
            wanted: own.into_iter().map(&mut number).collect(),
            suffice: suffice && leaf.place != Place::Field,
            place: leaf.place,
            verdict: Verdict { possible: Bits::new(exists, true), sure: Bits::new(exists, false) },
        }));
    }
    if wanted.is_empty() {
        return Ok(leaves.iter().map(|_| None).collect());
    }
    let mut uids = view.uids().peekable();
    for segment in segments {
        let hits = scan(segment, &wanted)?;
        for (number, &Doc { uid, opaque }) in segment.docs().iter().enumerate() {
            while uids.next_if(|(_, known)| known.0 < uid).is_some() {}
            let Some((seq, _)) = uids.next_if(|(_, known)| known.0 == uid) else { continue };
            for asked in asked.iter_mut().flatten() {
                let has = |kind: &usize| match (asked.place, &hits[*kind]) {
                    (Place::Bodies, hits) => hits.bodies.has(number),
                    (Place::Field | Place::Headers, hits) => hits.headers.has(number),
                    (Place::Both, hits) => hits.headers.has(number) || hits.bodies.has(number),
                };
                let all = asked.wanted.iter().all(has);
                asked.verdict.possible.set(seq.index(), all || opaque);
                asked.verdict.sure.set(seq.index(), all && asked.suffice);
            }
        }
    }
    Ok(asked.into_iter().map(|asked| asked.map(|asked| asked.verdict)).collect())
}

struct Asked {
    wanted: Vec<usize>,
    suffice: bool,
    place: Place,
    verdict: Verdict,
}
