//! An index made again from what is left: message files, facts, file names.
//!
//! UIDs survive in the cyrus layout (the file names) and in a Maildir whose facts and heap are
//! readable; Maildir messages without them get new UIDs above all known ones. Flags survive in
//! Maildir names; in the cyrus layout they are lost, and the log says so.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use protocol::types::{ModSeq, Uid, UidValidity};

use crate::config::Partition;
use crate::error::{Error, Result};
use crate::format::facts::{FACTS_BYTES, Facts};
use crate::format::frame::{Append, Source};
use crate::format::heap::{self, ENTRY_HEADER_BYTES};
use crate::ids::{Lsn, MailboxId};
use crate::io::{Open, Storage};
use crate::layout::{LayoutKind, Location};
use crate::mailbox::apply::{new_message, scan_file};
use crate::mailbox::files::{Files, INDEX_NAME};
use crate::shared::Shared;

/// UIDs left out behind the highest one found, since later ones may have been given and lost.
const UID_GAP: u32 = 10_000;

/// What facts and heap still tell of a message.
struct Remembered {
    uid: Uid,
    save_date: i64,
}

/// Sets the damaged files aside and writes new ones from the directory.
pub(crate) fn rebuild(
    shared: &Arc<Shared>,
    partition: &Partition,
    dir: &Path,
    id: MailboxId,
    uid_validity: UidValidity,
) -> Result<Files> {
    let storage = &*shared.storage;
    let kind = partition.layout.kind();
    let remembered = remember(storage, dir);
    let mut found: Vec<Location> = Vec::new();
    partition
        .layout
        .list(storage, dir, false, &mut |at| found.push(at))
        .map_err(Error::io("list", dir))?;
    let summary = shared.catalog.summary(id)?.unwrap_or_default();
    let mut next = summary.uid_next.max(1);
    let mut modseq = summary.modseq.max(1);
    let highest = remembered.values().map(|r| r.uid.0).max().unwrap_or(0);
    next = next.max(highest.saturating_add(1));
    found.sort_by(|a, b| a.base.cmp(&b.base));
    let mut placed = Vec::with_capacity(found.len());
    for at in found {
        let known = remembered.get(&at.base).filter(|_| kind == LayoutKind::Maildir);
        let uid = match (kind, known) {
            (LayoutKind::Cyrus, _) => at.uid,
            (LayoutKind::Maildir, Some(r)) => r.uid,
            (LayoutKind::Maildir, None) => {
                let uid = Uid(next.saturating_add(UID_GAP));
                next += 1;
                uid
            }
        };
        placed.push((uid, known.map(|r| r.save_date), at));
    }
    placed.sort_by_key(|(uid, _, _)| *uid);
    placed.dedup_by_key(|(uid, _, _)| *uid);
    for name in [INDEX_NAME, "cursus.facts", "cursus.heap"] {
        let from = dir.join(name);
        match storage.rename(&from, &dir.join(format!("{name}.damaged"))) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("set aside", from)(e));
            }
            _ => {}
        }
    }
    let (limit, trust) = (Lsn(u64::MAX), &shared.trust);
    let mut files = Files::open(storage, dir, shared.store_id, id, uid_validity, limit, trust)?;
    let (mut count, mut last) = (0, 0);
    for (uid, save_date, at) in placed {
        let path = partition.layout.path(dir, &at);
        let (Ok(stat), Ok(facts)) = (storage.stat(&path), scan_file(storage, &path, kind)) else {
            tracing::error!(path = %path.display(), "cannot read a message; left out");
            continue;
        };
        modseq += 1;
        let date = stat.mtime_ns / 1_000_000_000;
        let append = Append {
            uid,
            modseq: ModSeq(modseq),
            internal_date: date,
            save_date: save_date.unwrap_or_else(|| shared.now_seconds()),
            flags: at.flags.system(),
            keywords: 0,
            size: facts.size,
            stored: facts.stored,
            header_size: facts.header_size,
            sent_date: facts.sent_date.unwrap_or(date),
            subject_hash: facts.subject_hash,
            from_hash: facts.from_hash,
            content_id: facts.content_id,
            source: Source::Foreign,
            base: at.base,
            other_letters: at.other_letters,
            name_flags: at.flags.0,
            in_new: at.in_new,
        };
        files.append(vec![new_message(&append, facts.extras)])?;
        (count, last) = (count + 1, uid.0);
    }
    files.head.uid_next = Uid(next.max(last.saturating_add(1)).saturating_add(UID_GAP));
    files.head.modseq_highest = ModSeq(modseq);
    files.head.vanished_floor = ModSeq(modseq);
    files.write_both_slots(shared.owner_epoch)?;
    files.sync()?;
    let lost = if kind == LayoutKind::Cyrus { "flags and keywords" } else { "keywords" };
    tracing::warn!(dir = %dir.display(), messages = count, lost, "index rebuilt");
    Ok(files)
}

/// UIDs by file name, from facts and heap, as far as they are whole.
fn remember(storage: &dyn Storage, dir: &Path) -> HashMap<Vec<u8>, Remembered> {
    let mut out = HashMap::new();
    let open = |name: &str| storage.open(&dir.join(name), Open::Read).ok();
    let (Some(facts), Some(heap_file)) = (open("cursus.facts"), open("cursus.heap")) else {
        return out;
    };
    let mut bytes = [0; FACTS_BYTES];
    let mut at = 0;
    while facts.read_exact_at(&mut bytes, at).is_ok() {
        at += FACTS_BYTES as u64;
        let uid = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let Some(one) = Facts::decode(&bytes, uid) else { continue };
        let mut header = [0; ENTRY_HEADER_BYTES];
        let name_at = one.name_at.get();
        if name_at == 0 || heap_file.read_exact_at(&mut header, name_at).is_err() {
            continue;
        }
        let Some(len) = heap::data_len(&header, heap::Kind::FileName, uid) else { continue };
        let mut name = vec![0; len];
        let read = heap_file.read_exact_at(&mut name, name_at + ENTRY_HEADER_BYTES as u64);
        if read.is_err() || !heap::is_whole(&header, &name) {
            continue;
        }
        if let Some(nul) = name.iter().position(|&b| b == 0) {
            name.truncate(nul);
        }
        out.insert(name, Remembered { uid: Uid(uid), save_date: one.save_date.get() });
    }
    out
}
