//! An archive checked by itself, without the store; and what is old in it removed.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::chain::{Chain, GapFound};
use super::format::{
    BaseManifest, MAILBOX_FILES, MailboxLine, MessageName, Owner, SegmentManifest, hex, names_in,
    read_json, read_text,
};
use super::pool::Pool;
use super::target::{BACKUP_LOCK, TAKER_LOCK, lock};
use crate::error::{Error, Result};
use crate::format::facts::{FACTS_BYTES, Facts};
use crate::format::index::{
    RECORD_BYTES, RECORDS_OFFSET, Record, SLOT_BYTES, Slot, words_from_bytes,
};
use crate::ids::{Lsn, MailboxId, StoreId};
use crate::io::{Open, Storage, StoredFile};
use crate::log::scan_segment;

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// What an archive holds, and what is wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ArchiveReport {
    /// Whose it is.
    pub store: String,
    /// Whole segments.
    pub segments: u64,
    /// Bytes of these.
    pub segment_bytes: u64,
    /// Base backups: end LSN and from when on they serve, microseconds since 1970.
    pub bases: Vec<(u64, u64)>,
    /// Message files that segments and backups need and that are there.
    pub messages: u64,
    /// Octets of these.
    pub message_bytes: u64,
    /// Time of the first change, microseconds since 1970.
    pub first_time_us: u64,
    /// Time of the last change, microseconds since 1970.
    pub last_time_us: u64,
    /// Messages that could not be had when their segment was taken, and that nobody else had.
    pub absent: u64,
    /// What is missing between the first segment and the last.
    pub gaps: Vec<GapFound>,
    /// What is damaged or incomplete, a line each.
    pub findings: Vec<String>,
}

/// What was removed from an archive, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PruneReport {
    /// Segments.
    pub segments: u64,
    /// Base backups.
    pub bases: u64,
    /// Message files that nothing left needs.
    pub messages: u64,
    /// Bytes of all of these.
    pub bytes: u64,
    /// What is left can be restored from this time on, microseconds since 1970; 0 when there is
    /// no backup in the archive.
    pub restorable_us: u64,
}

/// A base backup that is whole, as far as its manifest goes.
pub(super) struct Base {
    pub(super) dir: PathBuf,
    pub(super) manifest: BaseManifest,
}

/// All base backups in a directory, oldest first. Those without a manifest are unfinished.
pub(super) fn bases(storage: &dyn Storage, root: &Path) -> Result<Vec<Base>> {
    let mut out = Vec::new();
    for name in names_in(storage, &root.join("base"))? {
        let dir = root.join("base").join(name);
        let path = dir.join("manifest.json");
        if storage.stat(&path).is_err() {
            continue;
        }
        out.push(Base { manifest: read_json(storage, &path)?, dir });
    }
    out.sort_by_key(|base: &Base| base.manifest.end_lsn);
    Ok(out)
}

/// Reads lines of JSON.
pub(super) fn read_lines<T: serde::de::DeserializeOwned>(
    storage: &dyn Storage,
    path: &Path,
    each: &mut dyn FnMut(T) -> Result<()>,
) -> Result<()> {
    let bad =
        |e: serde_json::Error| super::format::not_as_expected(path, "lines of JSON", e.to_string());
    for line in read_text(storage, path)?.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
        each(serde_json::from_slice(line).map_err(bad)?)?;
    }
    Ok(())
}

impl Base {
    pub(super) fn mailboxes(&self, storage: &dyn Storage) -> Result<Vec<MailboxLine>> {
        let mut out = Vec::new();
        let each = &mut |line| {
            out.push(line);
            Ok(())
        };
        read_lines(storage, &self.dir.join("mailboxes.jsonl"), each)?;
        Ok(out)
    }

    pub(super) fn file(&self, id: &str, ending: &str) -> PathBuf {
        self.dir.join("mailbox").join(format!("{id}.{ending}"))
    }

    /// Calls `each` with every message of a mailbox that is not a tombstone.
    pub(super) fn messages(
        &self,
        storage: &dyn Storage,
        line: &MailboxLine,
        each: &mut dyn FnMut(MessageName) -> Result<()>,
    ) -> Result<()> {
        let open = |ending| {
            let path = self.file(&line.id, ending);
            storage.open(&path, Open::Read).map_err(Error::io("open", path))
        };
        let (index, facts) = (open("index")?, open("facts")?);
        let id = MailboxId::parse(&line.id).unwrap_or_default();
        each_message(&*index, &*facts, &self.file(&line.id, "index"), id, each)
    }
}

/// Calls `each` with every live message of index and facts.
fn each_message(
    index: &dyn StoredFile,
    facts: &dyn StoredFile,
    path: &Path,
    id: MailboxId,
    each: &mut dyn FnMut(MessageName) -> Result<()>,
) -> Result<()> {
    let bad = |what: String| super::format::not_as_expected(path, "an index of a backup", what);
    let mut head = vec![0; SLOT_BYTES as usize];
    index.read_exact_at(&mut head, 0).map_err(Error::io("read", path))?;
    let slot = Slot::decode(&head).map_err(|e| bad(e.to_string()))?;
    if slot.mailbox_id != id.0 {
        return Err(bad("another mailbox".into()));
    }
    let mut record_bytes = [0; RECORD_BYTES];
    let mut facts_bytes = [0; FACTS_BYTES];
    for position in 0..u64::from(slot.records.get()) {
        let at = RECORDS_OFFSET + position * RECORD_BYTES as u64;
        index.read_exact_at(&mut record_bytes, at).map_err(Error::io("read", path))?;
        let Some(record) = Record::decode(&words_from_bytes(&record_bytes)) else {
            return Err(bad(format!("a damaged record at position {position}")));
        };
        if record.expunged {
            continue;
        }
        let at = position * FACTS_BYTES as u64;
        facts.read_exact_at(&mut facts_bytes, at).map_err(Error::io("read", path))?;
        let Some(facts) = Facts::decode(&facts_bytes, record.uid.0) else {
            return Err(bad(format!("damaged facts of UID {}", record.uid)));
        };
        each(MessageName { content_id: facts.content_id, stored: facts.stored.get() })?;
    }
    Ok(())
}

/// Size and BLAKE3 of a file.
pub(super) fn digest(storage: &dyn Storage, path: &Path) -> Result<(u64, String)> {
    let file = storage.open(path, Open::Read).map_err(Error::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    loop {
        let n = file.read_at(&mut buffer, at).map_err(Error::io("read", path))?;
        if n == 0 {
            return Ok((at, hex(&hasher.finalize())));
        }
        hasher.update(&buffer[..n]);
        at += n as u64;
    }
}

/// The store that an archive or backup directory belongs to.
pub(super) fn store_of(storage: &dyn Storage, root: &Path) -> Result<(StoreId, Owner)> {
    let path = root.join("archive.json");
    let owner: Owner = match storage.stat(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let found = "none".to_owned();
            return Err(super::format::not_as_expected(&path, "an archive or a backup", found));
        }
        _ => read_json(storage, &path)?,
    };
    let id = MailboxId::parse(&owner.store)
        .ok_or_else(|| super::format::not_as_expected(&path, "a store id", owner.store.clone()))?;
    Ok((StoreId(id.0), owner))
}

/// Checks an archive or backup directory. `contents`: also reads every message.
pub fn verify(storage: &Arc<dyn Storage>, root: &Path, contents: bool) -> Result<ArchiveReport> {
    let (store_id, owner) = store_of(&**storage, root)?;
    let mut report = ArchiveReport { store: owner.store, ..ArchiveReport::default() };
    let bases = bases(&**storage, root)?;
    let logs: Vec<PathBuf> = bases.iter().map(|base| base.dir.join("log")).collect();
    let chain = Chain::read(&**storage, &[root.to_owned()], &logs, store_id)?;
    report.findings.extend(chain.damage.iter().cloned());
    let mut needed: HashSet<MessageName> = HashSet::new();
    let mut absent: HashSet<MessageName> = HashSet::new();
    for segment in &chain.segments {
        let manifest_path = segment.path.with_extension("json");
        if storage.stat(&manifest_path).is_err() {
            // A backup's own log: it is checked with the backup.
            continue;
        }
        let manifest: SegmentManifest = read_json(&**storage, &manifest_path)?;
        check_segment(storage, &segment.path, &manifest, store_id, &mut report)?;
        absent.extend(&manifest.absent);
        needed.extend(manifest.messages);
    }
    for base in &bases {
        check_base(storage, base, &mut needed, &mut report)?;
        absent.extend(&base.manifest.absent);
    }
    let pool = Pool::new(storage.clone(), root);
    for name in &needed {
        let there = if contents { pool.is_whole(name)? } else { pool.has(name)? };
        if there {
            report.messages += 1;
            report.message_bytes += u64::from(name.stored);
        } else if absent.contains(name) && !pool.has(name)? {
            report.absent += 1;
        } else {
            report.findings.push(format!("message {name} is missing or damaged"));
        }
    }
    let first = chain.segments.first().map_or(0, |s| s.first_lsn.min(s.durable_lsn));
    report.gaps = chain.gaps(Lsn(first), None);
    report.first_time_us = chain.segments.first().map_or(0, |s| s.first_time_us);
    report.last_time_us = chain.end().1;
    Ok(report)
}

fn check_segment(
    storage: &Arc<dyn Storage>,
    path: &Path,
    manifest: &SegmentManifest,
    store_id: StoreId,
    report: &mut ArchiveReport,
) -> Result<()> {
    let shown = path.display();
    let (bytes, blake3) = match digest(&**storage, path) {
        Ok(found) => found,
        Err(error) => {
            report.findings.push(error.to_string());
            return Ok(());
        }
    };
    report.segments += 1;
    report.segment_bytes += bytes;
    if (bytes, &blake3) != (manifest.bytes, &manifest.blake3) {
        let said = (manifest.bytes, &manifest.blake3);
        report.findings.push(format!("{shown}: {bytes} bytes {blake3}, expected {said:?}"));
        return Ok(());
    }
    match scan_segment(&**storage, path, store_id, &mut |_| Ok(())) {
        Ok(Ok((_, found))) if found.next.0 == manifest.end_lsn => {
            report.findings.extend(found.damage);
        }
        Ok(Ok((_, found))) => report
            .findings
            .push(format!("{shown}: ends at LSN {}, expected {}", found.next, manifest.end_lsn)),
        Ok(Err(damage)) => report.findings.push(damage),
        Err(error) => report.findings.push(error.to_string()),
    }
    Ok(())
}

/// Whether a file is what its digest says; else that is a finding.
fn same(
    storage: &dyn Storage,
    path: &Path,
    said: (Option<u64>, &str),
    report: &mut ArchiveReport,
) -> bool {
    let finding = match digest(storage, path) {
        Ok((bytes, blake3)) if said.0.is_none_or(|n| n == bytes) && blake3 == said.1 => {
            return true;
        }
        Ok(_) => format!("{}: not what its digest says", path.display()),
        Err(error) => error.to_string(),
    };
    report.findings.push(finding);
    false
}

fn check_base(
    storage: &Arc<dyn Storage>,
    base: &Base,
    needed: &mut HashSet<MessageName>,
    report: &mut ArchiveReport,
) -> Result<()> {
    let m = &base.manifest;
    report.bases.push((m.end_lsn, m.consistent_us));
    let files = &**storage;
    same(files, &base.dir.join("catalog.jsonl"), (None, &m.catalog_blake3), report);
    for (name, said) in m.values() {
        same(files, &base.dir.join(name), (None, said), report);
    }
    let lines = base.dir.join("mailboxes.jsonl");
    if !same(files, &lines, (None, &m.mailboxes_blake3), report) {
        return Ok(());
    }
    for line in base.mailboxes(&**storage)? {
        let whole = MAILBOX_FILES.iter().zip(&line.files).fold(true, |whole, (file, said)| {
            let path = base.file(&line.id, file.0);
            same(files, &path, (Some(said.0), &said.1), report) && whole
        });
        if whole {
            base.messages(&**storage, &line, &mut |name| {
                needed.insert(name);
                Ok(())
            })?;
        }
    }
    for (name, said) in &m.log {
        let path = base.dir.join("log").join(name);
        if !same(files, &path, (None, said), report) {
            continue;
        }
        let store_id = MailboxId::parse(&m.store).unwrap_or_default();
        let mut each = |transaction: crate::log::Transaction| {
            for (_, frame) in &transaction.frames {
                if let crate::format::frame::Frame::Append(a) = frame {
                    needed.insert(MessageName { content_id: a.content_id, stored: a.stored });
                }
            }
            Ok(())
        };
        match scan_segment(&**storage, &path, StoreId(store_id.0), &mut each) {
            Ok(Ok((_, found))) => report.findings.extend(found.damage),
            Ok(Err(damage)) => report.findings.push(damage),
            Err(error) => report.findings.push(error.to_string()),
        }
    }
    Ok(())
}

/// Removes what no restore to a moment at or after `before_us` needs: with backups in the
/// archive, everything before the newest one that is consistent by then; without, the segments
/// whose last change is older. Then message files that nothing left names.
pub fn prune(
    storage: &Arc<dyn Storage>,
    root: &Path,
    before_us: u64,
    dry_run: bool,
) -> Result<PruneReport> {
    let (store_id, _) = store_of(&**storage, root)?;
    let _locks = (lock(&**storage, root, TAKER_LOCK)?, lock(&**storage, root, BACKUP_LOCK)?);
    let all = bases(&**storage, root)?;
    let had_bases = !all.is_empty();
    let keep = all.iter().rposition(|base| base.manifest.consistent_us <= before_us);
    let mut report = PruneReport::default();
    if had_bases && keep.is_none() {
        report.restorable_us = all[0].manifest.consistent_us;
        return Ok(report);
    }
    let keep = keep.unwrap_or(0);
    let (old, left) = all.split_at(keep);
    let remove = |path: &Path, report: &mut PruneReport| -> Result<()> {
        report.bytes += storage.stat(path).map_or(0, |s| s.size);
        if dry_run {
            return Ok(());
        }
        match storage.unlink(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("unlink", path)(e)),
            _ => Ok(()),
        }
    };
    for base in old {
        report.bases += 1;
        // The manifest first: without it the rest is nothing.
        let files = base_files(&**storage, base)?;
        files.iter().try_for_each(|path| remove(path, &mut report))?;
        if !dry_run {
            for dir in ["mailbox", "log", "extra", ""] {
                let _ = storage.remove_dir(&base.dir.join(dir));
            }
        }
    }
    report.restorable_us = left.first().map_or(0, |base| base.manifest.consistent_us);
    let mut needed: HashSet<MessageName> = HashSet::new();
    let chain = Chain::read(&**storage, &[root.to_owned()], &[], store_id)?;
    for segment in &chain.segments {
        let due = match left.first() {
            Some(base) => segment.end_lsn <= base.manifest.checkpoint_lsn,
            None => segment.last_time_us < before_us,
        };
        let manifest_path = segment.path.with_extension("json");
        if due {
            report.segments += 1;
            remove(&manifest_path, &mut report)?;
            remove(&segment.path, &mut report)?;
        } else {
            let manifest: SegmentManifest = read_json(&**storage, &manifest_path)?;
            needed.extend(manifest.messages);
        }
    }
    let mut nothing = ArchiveReport::default();
    for base in left {
        check_base(storage, base, &mut needed, &mut nothing)?;
    }
    if let Some(finding) = nothing.findings.first() {
        // What a damaged backup needs cannot be known: better to keep too much.
        tracing::error!(finding, "a backup in the archive is damaged; no message is removed");
        return Ok(report);
    }
    // Under both locks nobody is writing there.
    for name in names_in(&**storage, &root.join("tmp"))? {
        remove(&root.join("tmp").join(name), &mut report).or_else(|error| match error {
            // The directory of a backup that was cut off; the next one empties it.
            Error::Io { .. } => Ok(()),
            other => Err(other),
        })?;
    }
    let messages = root.join("messages");
    for sub in names_in(&**storage, &messages)? {
        let dir = messages.join(sub);
        for name in names_in(&**storage, &dir)? {
            if MessageName::parse(&name).is_some_and(|name| !needed.contains(&name)) {
                report.messages += 1;
                remove(&dir.join(name), &mut report)?;
            }
        }
    }
    Ok(report)
}

fn base_files(storage: &dyn Storage, base: &Base) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        ["manifest.json", "mailboxes.jsonl", "catalog.jsonl"].map(|n| base.dir.join(n)).into();
    files.extend(base.manifest.values().map(|(name, _)| base.dir.join(name)));
    for sub in ["mailbox", "log", "extra"] {
        let dir = base.dir.join(sub);
        files.extend(names_in(storage, &dir)?.into_iter().map(|name| dir.join(name)));
    }
    Ok(files)
}
