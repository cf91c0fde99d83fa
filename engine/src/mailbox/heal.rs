//! Mending single records of index, facts and heap from what else is there.
//!
//! A record is mended from the first of these that has it: its own checksum (one bit turned), a
//! copy of it elsewhere in the file (blocks that changed places), the log's frames since the
//! checkpoint, the other files and the message file with its name. A record's place is proven by
//! the order of UIDs and by index and facts stating the same one. Nothing here throws away more
//! than the record that it mends, and each mending is a line in the log.
//!
//! Flags that no source has are lost: they are set to what the file's name says, through the log,
//! so that every session hears of it; the line says so.
//!
//! Invariant: runs under the file lock, so no record is half written while it is looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protocol::types::{ModSeq, SeqNum, SystemFlags, Uid};

use super::apply::{new_message, scan_file};
use super::files::{Files, INDEX_NAME, NewMessage};
use super::{Mailbox, MailboxInner, View};
use crate::error::{Error, Result};
use crate::format::facts::Facts;
use crate::format::frame::{FlagChange, Frame};
use crate::format::heap;
use crate::format::index::Record;
use crate::ids::Lsn;
use crate::layout::{LayoutKind, Location, NameFlags};
use crate::log::scan;
use crate::mapped::PAGE_RECORDS;
use crate::message::Ingested;

/// What a mending did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Healing {
    /// Lines: file, record, what was wrong, what it was mended from.
    pub(crate) mended: Vec<String>,
    /// Lines: what could not be mended.
    pub(crate) left: Vec<String>,
}

/// A message as the frames since the checkpoint tell it.
struct Logged {
    message: NewMessage,
}

/// Sources that are looked up at most once in a mending, when first needed.
struct Sources<'a> {
    mailbox: &'a Arc<MailboxInner>,
    log: Option<HashMap<Uid, Logged>>,
    listed: Option<BTreeMap<Vec<u8>, Location>>,
    names: Option<HashMap<u32, (u64, Vec<u8>)>>,
    /// Every file was there to be looked at, and none had the content that was last looked for.
    nowhere: bool,
    /// `listed` lacks what could not be listed.
    list_failed: bool,
}

/// What is in the files at a position.
struct Seen {
    record: Option<Record>,
    facts: Option<Facts>,
}

impl Mailbox {
    /// Mends what was met damaged. Returns whether something was mended.
    pub async fn mend(&self) -> Result<bool> {
        let inner = self.0.clone();
        let done = self.0.shared.helpers.run(move || inner.heal()).await;
        self.0.shared.pump();
        Ok(!done.map_err(|_| Error::Closing)?.mended.is_empty())
    }

    /// The failure of whoever needs a record that stays damaged.
    pub fn damaged(&self, view: &View, seq: SeqNum) -> Error {
        let uid = view.uid(seq).unwrap_or_default();
        Error::Corrupt {
            path: self.0.place.read().dir.join(INDEX_NAME),
            expected: "a record that can be mended",
            found: format!("damage of UID {uid}, message {seq}"),
        }
    }
}

impl MailboxInner {
    /// Mends what readers noted. For helper threads; no lock is held.
    pub(crate) fn heal(self: &Arc<Self>) -> Healing {
        let mut files = self.files.lock();
        self.heal_files(&mut files, false)
    }

    /// Under the file lock: mends what was noted, or looks at everything.
    pub(crate) fn heal_files(self: &Arc<Self>, files: &mut Files, all: bool) -> Healing {
        let mut done = Healing::default();
        let noted = files.damage.take();
        let lost = files.table.is_lost() || files.blobs.is_lost();
        if noted.is_empty() && !all && !lost {
            return done;
        }
        if let Err(error) = files.lengthen() {
            let dir = files.dir.display();
            tracing::error!(%dir, %error, "cannot mend the files of a mailbox");
            done.left.push(error.to_string());
            return done;
        }
        let count = files.head.count;
        let whole_pages = |at: usize| {
            let page = at / PAGE_RECORDS;
            // A record out of order may belong to the page before or behind.
            page.saturating_sub(1) * PAGE_RECORDS..((page + 2) * PAGE_RECORDS).min(count)
        };
        let positions: BTreeSet<usize> = match all || files.table.is_lost() {
            true => (0..count).collect(),
            false => noted.into_iter().filter(|p| *p < count).flat_map(whole_pages).collect(),
        };
        let mut sources = Sources {
            mailbox: self,
            log: None,
            listed: None,
            names: None,
            nowhere: false,
            list_failed: false,
        };
        let mut lost_flags = Vec::new();
        let mut unmended = BTreeSet::new();
        for &position in &positions {
            match sources.mend(files, position, &mut lost_flags) {
                Ok(lines) => done.mended.extend(lines),
                Err(line) => {
                    unmended.insert(position / PAGE_RECORDS);
                    done.left.push(line);
                }
            }
        }
        for page in positions.iter().map(|p| p / PAGE_RECORDS).collect::<BTreeSet<_>>() {
            files.table.examined(page * PAGE_RECORDS, !unmended.contains(&page));
        }
        if lost && let Err(error) = files.restore_maps() {
            tracing::error!(dir = %files.dir.display(), %error, "cannot map the files again");
        }
        for line in &done.mended {
            self.shared.mendings.mended(&files.dir, line);
        }
        for line in &done.left {
            self.shared.mendings.left(&files.dir, line);
        }
        if !done.mended.is_empty() {
            files.recount();
            self.share.add(files.account());
            self.mark_dirty();
            self.publish(files);
            self.log_lost_flags(files, lost_flags);
        }
        done
    }

    /// Flags that were set anew are a change like others: logged, with a MODSEQ of their own.
    fn log_lost_flags(self: &Arc<Self>, files: &mut Files, uids: Vec<Uid>) {
        if self.shared.redoing.load(Ordering::Acquire) {
            // Nobody has a view yet, and the log is being read: the next checkpoint keeps it.
            files.head.modseq_highest = ModSeq(files.head.modseq_highest.0 + 1);
            for uid in uids {
                let Some(position) = files.position_of(uid) else { continue };
                let modseq = files.head.modseq_highest;
                let record = Record { modseq, ..files.record(position) };
                if let Err(error) = files.rewrite(&[(position, record)]) {
                    tracing::warn!(mailbox = %self.id, %error, "cannot date mended flags");
                }
            }
            return;
        }
        let Ok(mut state) = self.open_state() else { return };
        let passed = state.keywords.passed_bit();
        let change = |uid: Uid| {
            // A change that is on its way says it itself.
            let position = files.position_of(uid).filter(|_| state.latest.get(uid).is_none())?;
            let record = files.record(position);
            let (flags, keywords) = (record.flags, record.keywords);
            let before = record.name_flags_wanted(passed);
            (!record.expunged).then_some(FlagChange { uid, flags, keywords, before })
        };
        let changes: Vec<FlagChange> = uids.into_iter().filter_map(change).collect();
        if changes.is_empty() {
            return;
        }
        let modseq = state.take_modseq();
        let frame = Frame::Flags { modseq, changes: changes.clone() };
        match self.push_frames(&mut state, vec![(frame, Vec::new())], 0) {
            Ok(_) => state.will_have(&changes, modseq),
            Err(error) => tracing::warn!(mailbox = %self.id, %error, "cannot log mended flags"),
        }
    }
}

impl Sources<'_> {
    /// Looks at one position, and mends record, facts and name. Lines of what was mended; the
    /// line of what could not be.
    fn mend(
        &mut self,
        files: &mut Files,
        position: usize,
        lost_flags: &mut Vec<Uid>,
    ) -> Result<Vec<String>, String> {
        let seen = Seen { record: files.whole_record(position), facts: files.any_facts(position) };
        let uid = self.uid(files, position, &seen);
        let Some(uid) = uid else {
            return Err(format!("{INDEX_NAME} record {position}: its UID is in no file"));
        };
        let mut lines = Vec::new();
        let says_uid = |r: &Record| r.uid == uid;
        if !seen.record.as_ref().is_some_and(says_uid) {
            let wrong = if seen.record.is_some() { "another message's" } else { "damaged" };
            let facts = seen.facts.filter(|f| f.uid.get() == uid.0);
            let (record, from) = self.record(files, position, uid, facts, lost_flags)?;
            files.put_record(position, &record).map_err(|e| e.to_string())?;
            lines.push(format!("{INDEX_NAME} UID {uid}: {wrong} record, mended from {from}"));
        }
        let facts = seen.facts.filter(|f| f.uid.get() == uid.0);
        let record = files.whole_record(position);
        let dead = record.is_some_and(|r| r.expunged);
        let facts = match facts {
            Some(facts) => facts,
            None => {
                let (facts, from) = self.facts(files, position, uid, dead)?;
                files.write_facts(position, facts).map_err(|e| e.to_string())?;
                let wrong = if seen.facts.is_some() { "another message's" } else { "damaged" };
                lines.push(format!("cursus.facts UID {uid}: {wrong} record, mended from {from}"));
                facts
            }
        };
        let named = facts.name_at.get();
        if dead {
            // Its file may come back, and only the name tells that it is not a delivery.
            let known = self.names(files).get(&uid.0).map(|(at, _)| *at);
            let lost = named != 0 && files.cold.entry(named, heap::Kind::FileName, uid.0).is_none();
            if lost {
                let at = known.unwrap_or(0);
                files.write_facts(position, facts.named(at)).map_err(|e| e.to_string())?;
                lines.push(format!("cursus.heap UID {uid}: name at {named}, mended from {at}"));
            }
        } else if named != 0 && files.cold.entry(named, heap::Kind::FileName, uid.0).is_none() {
            let from = self.name(files, position, uid, &facts)?;
            lines.push(format!(
                "cursus.heap UID {uid}: damaged name at {named}, mended from {from}"
            ));
        }
        Ok(lines)
    }

    /// Which message belongs at a position.
    fn uid(&mut self, files: &Files, position: usize, seen: &Seen) -> Option<Uid> {
        let stated = |at: usize| {
            let record = files.whole_record(at).map(|r| r.uid);
            let facts = files.any_facts(at).map(|f| Uid(f.uid.get()));
            (record, facts)
        };
        let agreed = |at: usize| match stated(at) {
            (Some(a), Some(b)) if a == b => Some(a),
            _ => None,
        };
        let record = seen.record.map(|r| r.uid);
        let facts = seen.facts.map(|f| Uid(f.uid.get()));
        if record.is_some() && record == facts {
            return record;
        }
        let below = (0..position).rev().find_map(agreed).unwrap_or(Uid(0));
        let above = (position + 1..files.head.count).find_map(agreed);
        let above = above.unwrap_or(files.head.uid_next);
        let fits = |uid: &Uid| *uid > below && *uid < above;
        match (record.filter(fits), facts.filter(fits)) {
            (Some(uid), None) | (None, Some(uid)) => return Some(uid),
            (Some(record), Some(facts)) => {
                // Whichever is nearer to the place that the neighbours leave for it.
                let first = (0..position).rev().take_while(|at| agreed(*at).is_none()).count();
                let expected = below.0.saturating_add(first as u32 + 1);
                let near = |uid: Uid| uid.0.abs_diff(expected);
                return Some(if near(record) <= near(facts) { record } else { facts });
            }
            (None, None) => {}
        }
        if let Some(record) = files.bit_back(position).filter(|r| fits(&r.uid)) {
            return Some(record.uid);
        }
        if let Some(facts) = files.facts_bit_back(position) {
            return Some(Uid(facts.uid.get())).filter(fits);
        }
        if let Some(uid) = files.torn_uid(position).filter(fits) {
            return Some(uid);
        }
        // Neighbours that are damaged as well leave room for as many messages.
        let unknown_below = (0..position).rev().take_while(|at| agreed(*at).is_none()).count();
        let unknown_above =
            (position + 1..files.head.count).take_while(|at| agreed(*at).is_none()).count();
        let room = above.0.checked_sub(below.0)?.checked_sub(1)? as usize;
        if room == unknown_below + unknown_above + 1 {
            return Some(Uid(below.0 + unknown_below as u32 + 1));
        }
        let candidates: Vec<Uid> = self.known_uids(files).into_iter().filter(fits).collect();
        let unknown = unknown_below + unknown_above + 1;
        (candidates.len() == unknown).then(|| candidates[unknown_below])
    }

    /// UIDs that names of files and entries of the heap state, ascending.
    fn known_uids(&mut self, files: &Files) -> BTreeSet<Uid> {
        let kind = self.mailbox.place.read().partition.layout.kind();
        match kind {
            LayoutKind::Cyrus => self.listed().values().map(|at| at.uid).collect(),
            LayoutKind::Maildir => self.names(files).keys().map(|uid| Uid(*uid)).collect(),
        }
    }

    fn record(
        &mut self,
        files: &mut Files,
        position: usize,
        uid: Uid,
        facts: Option<Facts>,
        lost_flags: &mut Vec<Uid>,
    ) -> Result<(Record, &'static str), String> {
        if let Some(record) = files.bit_back(position).filter(|r| r.uid == uid) {
            return Ok((record, "its own checksum"));
        }
        let elsewhere = (0..files.head.count).filter(|at| *at != position).find_map(|at| {
            let near = files.table.first_word(at) as u32 == uid.0;
            near.then(|| files.whole_record(at)).flatten().filter(|r| r.uid == uid)
        });
        if let Some(record) = elsewhere {
            return Ok((record, "a copy elsewhere in the file"));
        }
        if files.is_tombstone(position) {
            return Ok((tombstone(uid, files.head.modseq_highest), "the list of removed messages"));
        }
        if let Some(logged) = self.log(files).get(&uid) {
            return Ok((logged.message.record, "the log"));
        }
        let facts = facts.or_else(|| files.facts_bit_back(position));
        let found = self.find(files, uid, facts.as_ref());
        let Some((at, path, mtime)) = found else {
            if let Some(old) = files.own_words(position, uid) {
                return Ok((old, "its own words"));
            }
            if files.suspect_removed > 0 {
                files.suspect_removed -= 1;
                return Ok((tombstone(uid, files.head.modseq_highest), "the missing message file"));
            }
            return Err(format!("{INDEX_NAME} UID {uid}: the message has no file either"));
        };
        let ingested = self.scan(&path)?;
        let torn = files.torn(position, uid, &ingested);
        let modseq = facts.map_or(files.head.modseq_highest, |f| ModSeq(f.created_modseq.get()));
        let record = Record {
            uid,
            flags: at.flags.system(),
            keywords: 0,
            modseq,
            internal_date: mtime,
            size: ingested.size,
            header_size: ingested.header_size,
            sent_date: ingested.sent_date.unwrap_or(mtime).clamp(0, i64::from(u32::MAX)) as u32,
            subject_hash: ingested.subject_hash,
            from_hash: ingested.from_hash,
            name_flags: at.flags,
            in_new: at.in_new,
            expunged: false,
            cache_offset: 0,
            cache_len: 0,
        };
        match torn {
            Some(old) => Ok((Record { cache_offset: 0, cache_len: 0, ..old }, "its own words")),
            None => {
                lost_flags.push(uid);
                let maildir = "the message file and its name; keywords are lost";
                let cyrus = "the message file; flags and keywords are lost";
                let is_maildir = !at.base.is_empty();
                Ok((record, if is_maildir { maildir } else { cyrus }))
            }
        }
    }

    fn facts(
        &mut self,
        files: &mut Files,
        position: usize,
        uid: Uid,
        dead: bool,
    ) -> Result<(Facts, &'static str), String> {
        if let Some(facts) = files.facts_bit_back(position).filter(|f| f.uid.get() == uid.0) {
            return Ok((facts, "its own checksum"));
        }
        let elsewhere = (0..files.head.count)
            .filter(|at| *at != position)
            .find_map(|at| files.any_facts(at).filter(|f| f.uid.get() == uid.0));
        if let Some(facts) = elsewhere {
            return Ok((facts, "a copy elsewhere in the file"));
        }
        let modseq = files.whole_record(position).map_or(0, |r| r.modseq.0);
        if dead {
            let name_at = self.names(files).get(&uid.0).map_or(0, |(at, _)| *at);
            return Ok((Facts::new(uid.0, 0, [0; 16], 0, modseq, name_at), "the index"));
        }
        if let Some(Logged { message }) = self.log(files).get(&uid) {
            let (stored, id, saved) = (message.stored, message.content_id, message.save_date);
            let (record, name) = (message.record, message.name.clone());
            let at = self.names(files).get(&uid.0).map(|(at, _)| *at);
            let at = match at {
                Some(at) => at,
                None if name.is_empty() => 0,
                None => files.append_name(uid, &name).map_err(|e| e.to_string())?,
            };
            let facts = Facts::new(uid.0, stored, id, saved, record.modseq.0, at);
            return Ok((facts, "the log"));
        }
        let Some((at, path, mtime)) = self.find(files, uid, None) else {
            return Err(format!("cursus.facts UID {uid}: its message file is not found"));
        };
        let ingested = self.scan(&path)?;
        let size = files.whole_record(position).map(|r| r.size);
        if size.is_some_and(|size| size != ingested.size) {
            let path = path.display();
            return Err(format!("cursus.facts UID {uid}: {path} has another size than the index"));
        }
        let name_at = match self.names(files).get(&uid.0) {
            _ if at.base.is_empty() => 0,
            Some((name_at, _)) => *name_at,
            None => {
                let name = super::files::heap_name(&at);
                files.append_name(uid, &name).map_err(|e| e.to_string())?
            }
        };
        let (stored, id) = (ingested.stored, ingested.content_id);
        Ok((Facts::new(uid.0, stored, id, mtime, modseq, name_at), "the message file as it is"))
    }

    /// A name anew in the heap.
    fn name(
        &mut self,
        files: &mut Files,
        position: usize,
        uid: Uid,
        facts: &Facts,
    ) -> Result<&'static str, String> {
        let failed = |e: Error| e.to_string();
        if files.name_bit_back(facts.name_at.get(), uid).map_err(failed)? {
            return Ok("its own checksum");
        }
        if let Some(Logged { message }) = self.log(files).get(&uid)
            && !message.name.is_empty()
        {
            let name = message.name.clone();
            let name_at = files.append_name(uid, &name).map_err(failed)?;
            files.write_facts(position, facts.named(name_at)).map_err(failed)?;
            return Ok("the log");
        }
        self.nowhere = false;
        let Some((at, _, _)) = self.find(files, uid, Some(facts)) else {
            if self.nowhere {
                files.fileless.insert(uid);
            }
            return Err(format!("cursus.heap UID {uid}: no file has the message's content"));
        };
        let name = super::files::heap_name(&at);
        let name_at = files.append_name(uid, &name).map_err(failed)?;
        files.write_facts(position, facts.named(name_at)).map_err(failed)?;
        Ok("the directory and the message's content id")
    }

    fn scan(&self, path: &std::path::Path) -> Result<Ingested, String> {
        let kind = self.mailbox.place.read().partition.layout.kind();
        scan_file(&*self.mailbox.shared.storage, path, kind).map_err(|e| e.to_string())
    }

    /// The file of a message: where, its path, its time.
    fn find(
        &mut self,
        files: &Files,
        uid: Uid,
        facts: Option<&Facts>,
    ) -> Option<(Location, PathBuf, i64)> {
        let place = self.mailbox.place.read().clone();
        let layout = place.partition.layout.clone();
        let storage = self.mailbox.shared.storage.clone();
        let at = match layout.kind() {
            LayoutKind::Cyrus => self.listed().values().find(|at| at.uid == uid)?.clone(),
            LayoutKind::Maildir => {
                let entry = facts
                    .and_then(|f| files.cold.entry(f.name_at.get(), heap::Kind::FileName, uid.0))
                    .or_else(|| self.names(files).get(&uid.0).map(|(_, name)| name.clone()));
                let base = entry.map(|name| {
                    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
                    name[..end].to_vec()
                });
                match base.and_then(|base| self.listed().get(&base).cloned()) {
                    Some(at) => at,
                    None => self.find_by_content(files, facts?)?,
                }
            }
        };
        let path = layout.path(&place.dir, &at);
        let mtime = storage.stat(&path).ok()?.mtime_ns.div_euclid(1_000_000_000);
        Some((Location { uid, ..at }, path, mtime))
    }

    /// A file that no name in the heap is for and that has the message's content.
    fn find_by_content(&mut self, files: &Files, facts: &Facts) -> Option<Location> {
        let place = self.mailbox.place.read().clone();
        let layout = place.partition.layout.clone();
        let names = files.names().ok()?;
        let known: std::collections::HashSet<&[u8]> =
            (0..files.head.count).map(|p| names.of(p).0).collect();
        let storage = self.mailbox.shared.storage.clone();
        let mut all_read = true;
        let mut unknown = self.listed().values().filter(|at| !known.contains(&at.base[..]));
        let found = unknown.find(|at| {
            let path = layout.path(&place.dir, at);
            let scanned = storage.stat(&path).map_err(Error::io("stat", &path)).and_then(|stat| {
                let same = stat.size == u64::from(facts.stored.get());
                same.then(|| scan_file(&*storage, &path, layout.kind())).transpose()
            });
            all_read &= scanned.is_ok();
            scanned.is_ok_and(|f| f.is_some_and(|found| found.content_id == facts.content_id))
        });
        let found = found.cloned();
        self.nowhere = found.is_none() && all_read && !self.list_failed;
        found
    }

    /// Message files by base name, or by the bytes of their UID where names have none.
    fn listed(&mut self) -> &BTreeMap<Vec<u8>, Location> {
        let mailbox = self.mailbox;
        self.listed.get_or_insert_with(|| {
            let place = mailbox.place.read().clone();
            let mut listed = BTreeMap::new();
            let kind = place.partition.layout.kind();
            let found = place.partition.layout.list(
                &*mailbox.shared.storage,
                &place.dir,
                false,
                &mut |at| {
                    let key = match kind {
                        LayoutKind::Maildir => at.base.clone(),
                        LayoutKind::Cyrus => at.uid.0.to_be_bytes().to_vec(),
                    };
                    listed.insert(key, at);
                },
            );
            if let Err(error) = found {
                tracing::warn!(dir = %place.dir.display(), %error, "cannot list a mailbox");
                self.list_failed = true;
            }
            listed
        })
    }

    /// The newest whole name entry of each UID in the heap, and where it is.
    fn names(&mut self, files: &Files) -> &HashMap<u32, (u64, Vec<u8>)> {
        self.names.get_or_insert_with(|| files.heap_names())
    }

    /// Messages whose Append frame is not older than the checkpoint, with what followed.
    fn log(&mut self, files: &Files) -> &HashMap<Uid, Logged> {
        let mailbox = self.mailbox;
        self.log.get_or_insert_with(|| {
            let mut known: HashMap<Uid, Logged> = HashMap::new();
            let shared = &mailbox.shared;
            let from = Lsn(shared.checkpointed.load(Ordering::Acquire));
            let mut each = |tx: crate::log::Transaction| {
                for (id, frame) in tx.frames {
                    if id == mailbox.id {
                        take_frame(&mut known, frame);
                    }
                }
                Ok(())
            };
            let dir = &shared.config.log_dir;
            if let Err(error) = scan(&*shared.storage, dir, shared.store_id, from, &mut each) {
                tracing::debug!(%error, "the log cannot be read back for a mending");
            }
            // A frame that is not applied yet tells of what is not in the files.
            let state = mailbox.state.lock();
            known.retain(|uid, _| *uid < files.head.uid_next && state.latest.get(*uid).is_none());
            drop(state);
            known
        })
    }
}

fn take_frame(known: &mut HashMap<Uid, Logged>, frame: Frame) {
    match frame {
        Frame::Append(append) => {
            known.insert(append.uid, Logged { message: new_message(&append, Vec::new()) });
        }
        Frame::Flags { modseq, changes } => {
            for change in changes {
                if let Some(Logged { message }) = known.get_mut(&change.uid) {
                    let record = &mut message.record;
                    (record.flags, record.keywords) = (change.flags, change.keywords);
                    record.modseq = modseq;
                }
            }
        }
        Frame::Expunge { modseq, ranges, .. } => {
            let within = |uid: &Uid| ranges.iter().any(|&(a, b)| (a..=b).contains(&uid.0));
            for (uid, Logged { message }) in known.iter_mut() {
                if within(uid) {
                    message.record.expunged = true;
                    message.record.modseq = modseq;
                }
            }
        }
        _ => {}
    }
}

fn tombstone(uid: Uid, modseq: ModSeq) -> Record {
    Record {
        uid,
        flags: SystemFlags::empty(),
        keywords: 0,
        modseq,
        internal_date: 0,
        size: 0,
        header_size: 0,
        sent_date: 0,
        subject_hash: 0,
        from_hash: 0,
        name_flags: NameFlags(0),
        in_new: false,
        expunged: true,
        cache_offset: 0,
        cache_len: 0,
    }
}
