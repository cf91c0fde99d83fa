//! Files of one mailbox as Cyrus 3.6 has them: `cyrus.header`, `cyrus.index`, `cyrus.cache`,
//! `cyrus.annotations`.
//!
//! What the files that are there say of a message is kept where it is still so: its cache record,
//! its digest, its conversation. Records of expunged messages whose files Cyrus kept stay, too.
//! The index is written last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use engine::{MailboxToAdopt, MessageToAdopt};
use foreign::cyrus::Damage;
use foreign::cyrus::annotations::{Annotation, OWNER};
use foreign::cyrus::cache::{self, make};
use foreign::cyrus::db::{self, Form, Pair};
use foreign::cyrus::header::{Header, KEYWORDS_MAX};
use foreign::cyrus::index::{Index, Record, flag, option};
use foreign::cyrus::mboxlist::Acl;
use foreign::cyrus::name::Name;
use protocol::types::SystemFlags;
use serde::{Deserialize, Serialize};

use super::archived;
use super::ledger::{FileStamp, Written};
use super::site::{Site, read_if_any};
use super::write::Stage;

/// What Cyrus 3.6 keeps in the index, and older indexes as annotations of messages.
const IN_INDEX: [&str; 3] = [
    "/vendor/cmu/cyrus-imapd/savedate",
    "/vendor/cmu/cyrus-imapd/createdmodseq",
    "/vendor/cmu/cyrus-imapd/thrid",
];
/// With what the sync CRC of annotations begins.
const SYNC_CRC_FIRST: u32 = 12_345_678;

/// A mailbox to be written.
pub struct Target<'a> {
    /// What we know of it.
    pub mailbox: &'a MailboxToAdopt,
    /// Its name in Cyrus.
    pub name: &'a Name,
    /// Type letters.
    pub kind: &'a str,
    /// Its user; for shared mailboxes none.
    pub owner: &'a str,
    /// As it is to be written.
    pub acl: &'a Acl,
    /// Its quota root.
    pub quota_root: Option<&'a Name>,
    /// Octets of its own annotations.
    pub annotation_bytes: u64,
    /// Below a partition's root.
    pub dir: &'a Path,
    /// Cyrus's name of the partition.
    pub partition: &'a str,
    /// Seconds since 1970.
    pub now: u64,
}

/// What quota roots count of a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// Octets of messages.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Octets of annotations.
    pub annotations: u64,
    /// Everybody has the owner's `\Seen` there.
    pub shared_seen: bool,
}

impl Weight {
    /// Of a mailbox that Cyrus has and we do not serve.
    pub fn of_index(index: &Index) -> Weight {
        Weight {
            bytes: index.live().map(|record| record.size).sum(),
            messages: index.live().count() as u64,
            annotations: index.header.annotation_bytes,
            shared_seen: false,
        }
    }

    /// With that of another one.
    pub fn add(&mut self, other: Weight) {
        self.bytes += other.bytes;
        self.messages += other.messages;
        self.annotations += other.annotations;
    }
}

/// What was there before.
#[derive(Default)]
struct Before {
    header: Header,
    index: Index,
    cache: Vec<u8>,
    annotations: Vec<Pair>,
    /// There is something else: Cyrus's programs end with a failed assertion where they meet it.
    annotations_damaged: bool,
    annotations_file: Vec<u8>,
}

/// What is to be there.
struct Made {
    keywords: Vec<String>,
    /// `cyrus.header`
    header: Vec<u8>,
    annotations: Vec<Annotation>,
    index: Index,
    /// Absent: it is as it was.
    cache: Option<Vec<u8>>,
}

impl Target<'_> {
    fn path(&self, site: &Site, what: &str, file: &str) -> Result<PathBuf, String> {
        let root = site.root(self.partition, what).map_err(|e| e.to_string())?;
        Ok(root.join(self.dir).join(file))
    }

    /// What is there: a file that is damaged counts as none, and is named.
    fn before(&self, site: &Site, findings: &mut Vec<String>) -> Result<Before, String> {
        let bytes = |what, file| -> Result<_, String> {
            let path = self.path(site, what, file)?;
            read_if_any(&path).map_err(|e| e.to_string())
        };
        let mut damaged = |what, file, damage: Damage| {
            let path = self.path(site, what, file).unwrap_or_default();
            findings.push(format!("{}: made anew: {damage}", path.display()));
        };
        let mut before = Before {
            cache: bytes("cache", "cyrus.cache")?.unwrap_or_default(),
            ..Before::default()
        };
        if let Some(bytes) = bytes("header", "cyrus.header")? {
            match Header::read(&bytes) {
                Ok(header) => before.header = header,
                Err(damage) => damaged("header", "cyrus.header", damage),
            }
        }
        if let Some(bytes) = bytes("index", "cyrus.index")? {
            match Index::read(&bytes) {
                Ok(index) => before.index = index,
                Err(damage) => damaged("index", "cyrus.index", damage),
            }
        }
        self.mark_removed(site, &mut before.index)?;
        if before.index.header.uid_validity != self.mailbox.uid_validity {
            before.index = Index::default();
        }
        let annotations = bytes("annotations", "cyrus.annotations")?.unwrap_or_default();
        match db::read(&annotations) {
            Ok(pairs) => before.annotations = pairs,
            Err(damage) => {
                before.annotations_damaged = true;
                damaged("annotations", "cyrus.annotations", damage);
            }
        }
        before.annotations_file = annotations;
        Ok(before)
    }

    /// Marks expunged messages whose files are gone, as Cyrus does when it removes them.
    fn mark_removed(&self, site: &Site, index: &mut Index) -> Result<(), String> {
        let home = self.path(site, "", "")?;
        let mut some = false;
        for record in index.records.iter_mut().filter(|record| !record.is_live()) {
            let elsewhere = flag::UNLINKED | flag::ARCHIVED;
            if record.system_flags & elsewhere != 0 {
                continue;
            }
            match fs::symlink_metadata(home.join(format!("{}.", record.uid))) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    record.system_flags |= flag::UNLINKED;
                    some = true;
                }
                _ => {}
            }
        }
        if some {
            index.header.first_expunged = index.first_expunged();
        }
        Ok(())
    }

    /// All files as they are to be, beside what is there.
    fn make(&self, site: &Site, findings: &mut Vec<String>) -> Result<(Before, Made), String> {
        let before = self.before(site, findings)?;
        let (keywords, numbers) = self.keywords(&before.header)?;
        let header = self.header(keywords.clone());
        let annotations = self.annotations(&before);
        let mut index = self.index(&before, &numbers);
        let cache = self.cache(site, &before, &mut index)?;
        let live: BTreeSet<u32> = index.live().map(|record| record.uid).collect();
        let counted =
            annotations.iter().filter(|a| a.of.parse().is_ok_and(|uid| live.contains(&uid)));
        let own: u64 = counted.map(|annotation| annotation.value.len() as u64).sum();
        let generation = cache.as_deref().or(Some(&before.cache)).and_then(|c| c.first_chunk());
        index.header.generation = generation.map_or(0, |bytes| u32::from_be_bytes(*bytes));
        index.header.header_file_crc = crc32fast::hash(&header);
        index.header.annotation_bytes = self.annotation_bytes + own;
        index.header.sync_crc_annotations = self.annotations_crc(&index, &annotations);
        Ok((before, Made { keywords, header, annotations, index, cache }))
    }

    /// Keywords, index and cache as [`Target::write`] would make them; nothing is written or locked.
    pub fn seen(&self, site: &Site) -> Result<(Vec<String>, Index, Vec<u8>), String> {
        let (before, made) = self.make(site, &mut Vec::new())?;
        Ok((made.keywords, made.index, made.cache.unwrap_or(before.cache)))
    }

    /// Stages all files; returns what quota roots count. What is damaged of Cyrus's files is named,
    /// and made anew.
    pub fn write(
        &self,
        site: &Site,
        stage: &mut Stage,
        findings: &mut Vec<String>,
    ) -> Result<Weight, String> {
        let index = self.path(site, "index", "cyrus.index")?;
        let _held = site.lock_mailbox(&self.mailbox.unique_id, index)?;
        let (before, made) = self.make(site, findings)?;
        let Made { keywords, header, annotations, index, cache } = made;
        if let Some(cache) = cache {
            stage.put(&self.path(site, "cache", "cyrus.cache")?, &cache)?;
        }
        let pairs = db::sorted(annotations.iter().map(Annotation::write).collect());
        if before.annotations_damaged || pairs != db::sorted(before.annotations.clone()) {
            // Skiplist and flat ones become the usual form, which all releases open.
            let there = Form::of(&before.annotations_file);
            let named = site.conf.get("annotation_db").and_then(Form::named);
            let is_twom = there.filter(|form| *form != Form::Flat).or(named) == Some(Form::Twom);
            let form = if is_twom { Form::Twom } else { Form::Twoskip };
            let bytes = db::write(form, &pairs, &before.annotations_file, 0);
            stage.put(&self.path(site, "annotations", "cyrus.annotations")?, &bytes)?;
        }
        if let Some(root) = archived::root(site, self.partition) {
            let home = self.path(site, "", "")?;
            let originals = archived::originals(&before.index, &home, &root.join(self.dir));
            originals.into_iter().for_each(|path| stage.remove(path));
        }
        stage.put(&self.path(site, "header", "cyrus.header")?, &header)?;
        stage.put(&self.path(site, "index", "cyrus.index")?, &index.write(&keywords))?;
        let live = self.mailbox.messages.len() as u64;
        let bytes = self.mailbox.messages.iter().map(|message| message.size).sum();
        let shared_seen = index.header.options & option::SHARED_SEEN != 0;
        let annotations = index.header.annotation_bytes;
        Ok(Weight { bytes, messages: live, annotations, shared_seen })
    }

    fn header(&self, keywords: Vec<String>) -> Vec<u8> {
        let header = Header {
            kind: self.kind.to_owned(),
            name: Some(self.name.clone()),
            unique_id: self.mailbox.unique_id.clone(),
            quota_root: self.quota_root.cloned(),
            keywords,
            acl: self.acl.clone(),
        };
        header.write()
    }

    fn stamps(&self, site: &Site) -> Result<[FileStamp; 3], String> {
        let of = |what: &str| {
            Ok::<_, String>(FileStamp::of(&self.path(site, what, &format!("cyrus.{what}"))?))
        };
        Ok([of("header")?, of("index")?, of("cache")?])
    }

    /// What is to be noted once the files have their places.
    pub fn written(&self, site: &Site, user: &str, weight: Weight) -> Result<Written, String> {
        let path = self.path(site, "header", "cyrus.header")?;
        let header = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Written {
            user: user.to_owned(),
            name: self.mailbox.name.clone(),
            unique_id: self.mailbox.unique_id.clone(),
            uid_validity: self.mailbox.uid_validity,
            uid_next: self.mailbox.uid_next,
            modseq_highest: self.mailbox.modseq_highest,
            recent_uid: self.mailbox.recent_uid,
            header_crc: crc32fast::hash(&header),
            annotation_bytes: self.annotation_bytes,
            weight,
            files: self.stamps(site)?,
        })
    }

    /// Whether all files are as they would be written now; the mailbox may be without its messages.
    pub fn is_as(&self, site: &Site, written: &Written) -> Result<bool, String> {
        if !written.has_messages_of(self.mailbox)
            || written.annotation_bytes != self.annotation_bytes
            || written.files != self.stamps(site)?
        {
            return Ok(false);
        }
        let path = self.path(site, "header", "cyrus.header")?;
        let bytes = read_if_any(&path).map_err(|e| e.to_string())?.unwrap_or_default();
        let Ok(before) = Header::read(&bytes) else { return Ok(false) };
        let (keywords, _) = self.keywords(&before)?;
        Ok(written.header_crc == crc32fast::hash(&self.header(keywords)))
    }

    /// Names by number, the old ones in their places, and the number of each of our bits.
    fn keywords(&self, before: &Header) -> Result<(Vec<String>, Vec<usize>), String> {
        let mut names = before.keywords.clone();
        let mut numbers = Vec::new();
        for keyword in &self.mailbox.keywords {
            let there = names.iter().position(|name| name.eq_ignore_ascii_case(keyword));
            let number = there.or_else(|| names.iter().position(String::is_empty));
            let number = number.unwrap_or(names.len());
            match names.get_mut(number) {
                Some(name) => name.clone_from(keyword),
                None => names.push(keyword.clone()),
            }
            numbers.push(number);
        }
        match names.len() {
            0..=KEYWORDS_MAX => Ok((names, numbers)),
            n => Err(format!("{n} keywords, {KEYWORDS_MAX} can be")),
        }
    }

    /// Annotations of messages: ours, and those of Cyrus's own that are not for clients.
    fn annotations(&self, before: &Before) -> Vec<Annotation> {
        let live: BTreeSet<u32> = self.mailbox.messages.iter().map(|message| message.uid).collect();
        let expunged: BTreeSet<u32> = before.index.kept().map(|record| record.uid).collect();
        let mut kept = Vec::new();
        let mut known: BTreeMap<(String, String, String), Annotation> = BTreeMap::new();
        for annotation in before.annotations.iter().filter_map(|pair| Annotation::read(pair).ok()) {
            let uid = annotation.of.parse().unwrap_or(0);
            let internal =
                !annotation.entry.starts_with('/') || annotation.entry.starts_with("/vendor/cmu/");
            if IN_INDEX.contains(&annotation.entry.as_str()) {
                continue;
            }
            if !live.contains(&uid) {
                if expunged.contains(&uid) {
                    kept.push(annotation);
                }
                continue;
            }
            if internal || annotation.is_deleted() {
                kept.push(annotation);
                continue;
            }
            let Annotation { of, entry, user, .. } = &annotation;
            known.insert((of.clone(), entry.clone(), user.clone()), annotation);
        }
        for (uid, whose, entry, value) in &self.mailbox.annotations {
            let user = if whose == self.owner { OWNER.to_owned() } else { whose.clone() };
            let key = (uid.to_string(), entry.clone(), user.clone());
            let same = known.remove(&key).filter(|there| there.value == *value);
            kept.push(same.unwrap_or_else(|| Annotation {
                of: uid.to_string(),
                entry: entry.clone(),
                user,
                value: value.clone(),
                modseq: self.mailbox.modseq_highest,
                flags: 0,
            }));
        }
        kept
    }

    fn index(&self, before: &Before, numbers: &[usize]) -> Index {
        let mailbox = self.mailbox;
        let known: BTreeMap<u32, &Record> =
            before.index.records.iter().map(|record| (record.uid, record)).collect();
        let mut records: BTreeMap<u32, Record> = BTreeMap::new();
        for record in before.index.records.iter().filter(|record| !record.is_live()) {
            records.insert(record.uid, record.clone());
        }
        let stored = StoredDates::of(&before.annotations);
        for message in &mailbox.messages {
            let old =
                known.get(&message.uid).filter(|old| old.is_live() && old.size == message.size);
            let mut record = old.map_or_else(Record::default, |old| (*old).clone());
            stored.fill(&mut record);
            // All that we serve is in the mailbox's own directory.
            let internal = flag::INTERNAL & !flag::ARCHIVED;
            let flags = flags(message) | record.system_flags & internal;
            let users = (0..64).filter(|bit| message.keywords >> bit & 1 != 0);
            let users = users
                .filter_map(|bit: usize| numbers.get(bit))
                .fold(0, |all, n| all | 1_u128 << (n & 127));
            // Before 12 the index does not have `\Seen`: that alone is no change.
            let before_seen = if before.index.header.minor < 12 { flag::SEEN } else { 0 };
            let differs = (record.system_flags ^ flags) & !before_seen != 0
                || record.user_flags != users
                || record.modseq != message.modseq;
            if old.is_none() {
                record.uid = message.uid;
                record.size = message.size;
                record.internal_date = message.internal_date;
                record.save_date = message.save_date;
                record.created_modseq = message.modseq;
            }
            if old.is_none() || differs {
                record.last_updated = self.now as i64;
            }
            record.system_flags = flags;
            record.user_flags = users;
            record.modseq = message.modseq;
            records.insert(message.uid, record);
        }
        let mut header = before.index.header.clone();
        if before.index.header.minor == 0 {
            header.options = option::POP3_NEW_UIDL;
            header.created_modseq = 1;
            header.changes_epoch = self.now;
        }
        let last = records.keys().next_back().copied().unwrap_or(0);
        let changed = header.modseq_highest != mailbox.modseq_highest;
        if changed {
            // Removals that were ours have no records.
            header.modseq_deleted = mailbox.modseq_highest;
            header.last_append = header.last_append.max(self.now);
        }
        header.uid_validity = mailbox.uid_validity;
        header.last_uid = mailbox.uid_next.saturating_sub(1).max(last);
        header.modseq_highest = mailbox.modseq_highest;
        self.set_recent(&mut header);
        header.options &= !option::DELETED;
        Index { header, records: records.into_values().collect() }
    }

    fn set_recent(&self, header: &mut foreign::cyrus::index::Header) {
        let last = self.mailbox.recent_uid.saturating_sub(1);
        if header.recent_uid != last {
            header.recent_uid = last;
            header.recent_time = self.now;
        }
    }

    /// Stages the index that is there with what is recent as it is now.
    pub fn write_recent(&self, site: &Site, stage: &mut Stage) -> Result<(), String> {
        let path = self.path(site, "index", "cyrus.index")?;
        let _held = site.lock_mailbox(&self.mailbox.unique_id, path.clone())?;
        let before = self.before(site, &mut Vec::new())?;
        let mut index = before.index;
        self.set_recent(&mut index.header);
        stage.put(&path, &index.write(&before.header.keywords))
    }

    /// The cache with records for all messages; `None`: it is as it was.
    fn cache(
        &self,
        site: &Site,
        before: &Before,
        index: &mut Index,
    ) -> Result<Option<Vec<u8>>, String> {
        let mut bytes = before.cache.clone();
        let mut grown = false;
        if bytes.len() < cache::HEADER_BYTES {
            bytes = before.index.header.generation.to_be_bytes().to_vec();
        }
        let home = self.path(site, "", "")?;
        for record in index.records.iter_mut().filter(|record| record.is_live()) {
            let whole = cache::record(&before.cache, record.cache_offset).ok();
            let whole = whole.filter(|_| {
                record.cache_offset >= cache::HEADER_BYTES as u64
                    && record.cache_version == cache::VERSION_WRITTEN
            });
            let crc = whole.map(crc32fast::hash);
            let is_good = match before.index.header.minor {
                12.. => crc.is_some_and(|crc| crc == record.cache_crc),
                _ => false,
            };
            if is_good && record.guid != [0; 20] {
                continue;
            }
            let path = home.join(format!("{}.", record.uid));
            let message = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let made = make(&message);
            record.guid = made.guid;
            record.header_size = made.header_size;
            if record.date_utc == 0 {
                // Without a Date field Cyrus takes the day of arrival.
                let day = record.internal_date - record.internal_date.rem_euclid(86_400);
                let has_date = made.date_utc != 0;
                record.date_utc = if has_date { made.date_utc } else { record.internal_date };
                record.sent_date = if has_date { made.sent_date } else { day };
            }
            record.cache_offset = bytes.len() as u64;
            record.cache_version = cache::VERSION_WRITTEN;
            record.cache_crc = crc32fast::hash(&made.record);
            bytes.extend(made.record);
            grown = true;
        }
        Ok(grown.then_some(bytes))
    }

    fn annotations_crc(&self, index: &Index, annotations: &[Annotation]) -> u32 {
        let one = |uid: u32, entry: &str, user: &str, value: &[u8]| {
            let mut text = format!("{uid} {entry} {user} ").into_bytes();
            text.extend_from_slice(value);
            crc32fast::hash(&text)
        };
        let mut crc = SYNC_CRC_FIRST;
        let mut live = BTreeSet::new();
        for record in index.live() {
            live.insert(record.uid);
            let numbers = [record.save_date.unwrap_or(0) as u64, record.created_modseq];
            for (entry, number) in IN_INDEX.iter().zip(numbers).filter(|(_, number)| *number != 0) {
                crc ^= one(record.uid, entry, "", number.to_string().as_bytes());
            }
            if record.conversation != 0 {
                // Without leading zeros, unlike what clients are told.
                let text = format!("{:x}", record.conversation);
                crc ^= one(record.uid, IN_INDEX[2], "", text.as_bytes());
            }
        }
        for annotation in annotations.iter().filter(|annotation| !annotation.is_deleted()) {
            let uid = annotation.of.parse().unwrap_or(0);
            if live.contains(&uid) {
                let user = if annotation.user == OWNER { self.owner } else { &annotation.user };
                crc ^= one(uid, &annotation.entry, user, &annotation.value);
            }
        }
        crc
    }
}

/// Dates and MODSEQs that older indexes keep as annotations.
struct StoredDates(BTreeMap<u32, (Option<i64>, Option<u64>)>);

impl StoredDates {
    fn of(pairs: &[Pair]) -> StoredDates {
        let mut dates: BTreeMap<u32, (Option<i64>, Option<u64>)> = BTreeMap::new();
        for annotation in pairs.iter().filter_map(|pair| Annotation::read(pair).ok()) {
            let text = std::str::from_utf8(&annotation.value).unwrap_or_default();
            let slot = dates.entry(annotation.of.parse().unwrap_or(0)).or_default();
            if annotation.entry == IN_INDEX[0] {
                slot.0 = text.parse().ok();
            } else if annotation.entry == IN_INDEX[1] {
                slot.1 = text.parse().ok();
            }
        }
        StoredDates(dates)
    }

    fn fill(&self, record: &mut Record) {
        let Some((saved, created)) = self.0.get(&record.uid) else { return };
        record.save_date = record.save_date.or(*saved);
        if record.created_modseq == 0 {
            record.created_modseq = created.unwrap_or(0);
        }
    }
}

fn flags(message: &MessageToAdopt) -> u32 {
    let named = [
        (SystemFlags::ANSWERED, flag::ANSWERED),
        (SystemFlags::FLAGGED, flag::FLAGGED),
        (SystemFlags::DELETED, flag::DELETED),
        (SystemFlags::DRAFT, flag::DRAFT),
        (SystemFlags::SEEN, flag::SEEN),
    ];
    let set = named.iter().filter(|(ours, _)| message.flags.contains(*ours));
    set.fold(0, |all, (_, bit)| all | bit)
}
