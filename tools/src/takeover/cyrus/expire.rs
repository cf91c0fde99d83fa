//! `cursus expire cyrus`: what Cyrus's delayed expunge and delayed delete left in its files, removed
//! when it is old, as its own `cyr_expire -X` and `-D` would.
//!
//! Works beside a running server, which serves nothing of this, and with Cyrus stopped.
//!
//! | what | when it went | a crash leaves |
//! |---|---|---|
//! | message files of expunged records | the record's last update | files gone, their records as before: the next run, or the hand-back, marks them |
//! | directories of `DELETED.….TIME` | TIME, hexadecimal | some files gone, `cyrus.header` last: the next run goes on |
//! | their entries in `mailboxes.db` and `annotations.db` | behind all directories | entries without directories: the next run removes them |
//!
//! A message file goes only where its octets are those that the record tells, by size and SHA-1, and
//! where the store serves no message of that UID. `cyrus.index` keeps its version: a record is marked
//! as Cyrus marks it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use admin::{Reply, Request};
use config::Config;
use foreign::cyrus::cache;
use foreign::cyrus::header::Header;
use foreign::cyrus::index::{Index, Record, flag};
use foreign::cyrus::mboxlist::Entry;
use foreign::cyrus::name::{Name, Owner};
use serde::Serialize;

use super::given::{Given, Places};
use super::lists::Lists;
use super::locks;
use super::now;
use super::plan;
use super::site::{Site, read_if_any};
use super::source::Source;
use super::write::Stage;
use crate::cli::{ExpireCyrus, ExpireOf};
use crate::failure::{Failed, Kind};
use crate::output::Output;
use crate::place::Place;
use crate::store::unexpected;

/// Seconds of a day.
const DAY: u64 = 86_400;
/// Of these indexes and older ones cyr_expire of 3.6 removes nothing.
const MINOR_VERSION_MIN: u32 = 8;
/// Digits of the time at the end of a deleted mailbox's name.
const TIME_DIGITS: usize = 8;
/// Files of a mailbox as `metapartition_files` calls them; empty: its messages.
const PARTS: [&str; 9] =
    ["", "header", "index", "cache", "annotations", "expunge", "squat", "lock", "dav"];

/// What was removed, or would be.
#[derive(Default, Serialize)]
struct Summary {
    dry_run: bool,
    /// Message files of expunged messages, with their octets.
    messages: u64,
    octets: u64,
    /// Deleted mailboxes, with all their files and octets.
    mailboxes: u64,
    mailbox_files: u64,
    mailbox_octets: u64,
    /// Each of them.
    removed: Vec<Removed>,
    findings: Vec<String>,
}

/// One mailbox with something that goes.
#[derive(Serialize)]
struct Removed {
    /// As Cyrus calls it.
    mailbox: String,
    /// Expunged messages by UID; all of it is without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    uids: Vec<u32>,
    /// Files.
    files: u64,
    /// In them.
    octets: u64,
}

impl Removed {
    fn line(&self) -> String {
        let Removed { mailbox, uids, files, octets } = self;
        match uids.len() {
            0 => format!("{mailbox}: deleted, {files} files, {octets} octets\n"),
            n => {
                let uids: Vec<_> = uids.iter().map(u32::to_string).collect();
                let uids = uids.join(",");
                format!("{mailbox}: {n} expunged messages, {octets} octets: UID {uids}\n")
            }
        }
    }
}

/// Does `cursus expire cyrus`.
pub fn expire(
    args: &ExpireCyrus,
    imapd_conf: &Path,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    let (conf, config_dir, list) = Site::whereabouts(imapd_conf)?;
    // Also for a look: else Cyrus serves, and its own cyr_expire is the one to ask.
    let _held = locks::take(&conf, imapd_conf, &config_dir, &list)?;
    let site = Site::read(imapd_conf)?;
    let partitions = plan::partitions(&site, config)?;
    let mut place = Place::find(config)?;
    let mut expiry = Expiry {
        site: &site,
        places: Places::new(&site, config, &partitions),
        of: &args.of,
        now: now(),
        done: Summary { dry_run: args.dry_run, ..Summary::default() },
    };
    let done = expiry.run(args, &mut place);
    place.close()?;
    done?;
    let done = expiry.done;
    for finding in &done.findings {
        eprintln!("cursus: {finding}");
    }
    let Summary { messages, octets, mailboxes, mailbox_files, mailbox_octets, .. } = &done;
    let verb = if args.dry_run { "to be removed" } else { "removed" };
    let lines: String = done.removed.iter().map(Removed::line).collect();
    let text = format!(
        "{lines}{messages} expunged messages ({octets} octets), {mailboxes} deleted mailboxes \
         ({mailbox_files} files, {mailbox_octets} octets) {verb}"
    );
    out.line(&done, &text);
    Failed::unless_clean(done.findings.len())
}

/// When a deleted mailbox was deleted, by its name.
pub(super) fn deleted_at(name: &Name) -> Option<u64> {
    let last = name.levels.last()?;
    let is_time = last.len() == TIME_DIGITS && last.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(last, 16).ok().filter(|_| is_time)
}

/// Whether a file is the message that a record tells.
pub(super) fn is_message_of(record: &Record, bytes: &[u8]) -> bool {
    bytes.len() as u64 == record.size
        && (record.guid == [0; 20] || cache::make(bytes).guid == record.guid)
}

pub(super) fn named(path: &Path) -> impl Fn(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

/// One run.
struct Expiry<'a> {
    site: &'a Site,
    places: Places<'a>,
    of: &'a ExpireOf,
    /// Seconds since 1970.
    now: u64,
    done: Summary,
}

/// Whether a mailbox is one of those that are looked at.
fn is_of(of: &ExpireOf, name: &Name, deleted: &str) -> bool {
    match of {
        ExpireOf::All => true,
        ExpireOf::Prefix(prefix) => name.to_internal().starts_with(prefix.as_str()),
        ExpireOf::User(user) => {
            let mut name = name.clone();
            if name.owner(deleted) == Owner::Deleted {
                name.levels.remove(0);
            }
            matches!(name.owner(deleted), Owner::User(one, _) if one == *user)
        }
    }
}

impl Expiry<'_> {
    fn run(&mut self, args: &ExpireCyrus, place: &mut Place) -> Result<(), Failed> {
        let before = |days: u64| self.now.saturating_sub(days.saturating_mul(DAY));
        let (expunged, deleted) = (args.expunged.map(before), args.deleted.map(before));
        if let Some(mark) = expunged {
            let users =
                match place.ask(Request::MailboxesChanged { since: None, also: Vec::new() })? {
                    Reply::MailboxesChanged { mailboxes, .. } => {
                        mailboxes.into_iter().map(|line| line.user).collect::<BTreeSet<_>>()
                    }
                    other => return Err(unexpected(&other)),
                };
            for user in users {
                if matches!(self.of, ExpireOf::User(only) if *only != user) {
                    continue;
                }
                self.user(place, &user, mark)?;
            }
        }
        if let Some(mark) = deleted {
            self.deleted(mark)?;
        }
        Ok(())
    }

    /// Expunged messages of all of a user's mailboxes.
    fn user(&mut self, source: &mut dyn Source, user: &str, mark: u64) -> Result<(), Failed> {
        let mailboxes = source.heads(user)?.mailboxes;
        for mailbox in self.places.wanted_of(user, mailboxes) {
            // What has no place in Cyrus has no files of its own there.
            let Ok(Some(one)) = self.places.place(user, mailbox, self.now) else { continue };
            if !is_of(self.of, &one.name, &self.site.deleted_prefix) {
                continue;
            }
            if let Err(reason) = self.expunged(source, &one, mark) {
                self.done.findings.push(format!("{}: {reason}", one.name));
            }
        }
        Ok(())
    }

    fn path(&self, one: &Given, what: &str, file: &str) -> Result<PathBuf, String> {
        let root = self.site.root(one.partition(), what).map_err(|e| e.to_string())?;
        Ok(root.join(&one.dir).join(file))
    }

    /// Expunged messages of a mailbox.
    fn expunged(&mut self, source: &mut dyn Source, one: &Given, mark: u64) -> Result<(), String> {
        let path = self.path(one, "index", "cyrus.index")?;
        let old = |bytes: &[u8]| -> Result<Vec<Record>, String> {
            let index = Index::read(bytes).map_err(|e| format!("{}: {e}", path.display()))?;
            let known = index.header.uid_validity == one.mailbox.uid_validity
                && index.header.minor >= MINOR_VERSION_MIN;
            let is_old = |record: &&Record| record.last_updated <= mark as i64;
            Ok(index.kept().filter(|_| known).filter(is_old).cloned().collect())
        };
        let read = || read_if_any(&path).map_err(|e| e.to_string());
        // Most have none.
        let Some(bytes) = read()? else { return Ok(()) };
        if old(&bytes)?.is_empty() {
            return Ok(());
        }
        let _held = match self.done.dry_run {
            true => None,
            false => Some(self.site.lock_mailbox(&one.mailbox.unique_id, path.clone())?),
        };
        let bytes = read()?.unwrap_or_default();
        let full = source.mailbox(&one.user, &one.mailbox.name).map_err(|e| e.to_string())?;
        // It was renamed or deleted meanwhile: the next run sees what it is then.
        let Some(full) = full
            .filter(|full| full.unique_id == one.mailbox.unique_id && full.dir == one.mailbox.dir)
        else {
            return Ok(());
        };
        let served: BTreeSet<u32> = full.messages.iter().map(|message| message.uid).collect();
        let mut gone = BTreeSet::new();
        let mut removed =
            Removed { mailbox: one.name.to_string(), uids: Vec::new(), files: 0, octets: 0 };
        for record in old(&bytes)? {
            let file = self.path(one, "", &format!("{}.", record.uid))?;
            let mut stays = |why: &str| {
                self.done.findings.push(format!("{}: stays: {why}", file.display()));
            };
            if served.contains(&record.uid) {
                stays("a message that is served has this UID");
                continue;
            }
            if record.system_flags & flag::ARCHIVED != 0 {
                stays("it is in an archive partition");
                continue;
            }
            match fs::read(&file) {
                Ok(there) if is_message_of(&record, &there) => {
                    if !self.done.dry_run {
                        fs::remove_file(&file).map_err(named(&file))?;
                    }
                    removed.octets += record.size;
                    removed.files += 1;
                    removed.uids.push(record.uid);
                    gone.insert(record.uid);
                }
                Ok(_) => stays("it is not the message that cyrus.index tells of"),
                // Removed by a run that was cut off.
                Err(e) if e.kind() == io::ErrorKind::NotFound => drop(gone.insert(record.uid)),
                Err(e) => stays(&e.to_string()),
            }
        }
        if !self.done.dry_run && !gone.is_empty() {
            let home = self.path(one, "", "")?;
            File::open(&home).and_then(|dir| dir.sync_all()).map_err(named(&home))?;
            let marked = Index::unlinked(&bytes, &gone).map_err(|e| e.to_string())?;
            let mut stage = Stage::in_existing_directories();
            stage.put(&path, &marked)?;
            stage.publish()?;
        }
        if removed.files > 0 {
            self.done.messages += removed.files;
            self.done.octets += removed.octets;
            self.done.removed.push(removed);
        }
        Ok(())
    }

    /// Deleted mailboxes.
    fn deleted(&mut self, mark: u64) -> Result<(), Failed> {
        let site = self.site;
        let mut gone = Vec::new();
        for entry in &site.mailboxes {
            let is_deleted = entry.name.owner(&site.deleted_prefix) == Owner::Deleted
                && entry.server.is_none()
                // What is left in the list of one that is no more.
                && !entry.kind.contains('d')
                && deleted_at(&entry.name).is_some_and(|time| time <= mark);
            if !is_deleted || !is_of(self.of, &entry.name, &site.deleted_prefix) {
                continue;
            }
            let (Some(partition), Some(dir)) = (&entry.partition, site.directory(entry)) else {
                continue;
            };
            match self.remove(entry, partition, &dir) {
                Ok((files, octets)) => {
                    self.done.mailboxes += 1;
                    self.done.mailbox_files += files;
                    self.done.mailbox_octets += octets;
                    let mailbox = entry.name.to_string();
                    self.done.removed.push(Removed { mailbox, uids: Vec::new(), files, octets });
                    gone.push(entry);
                }
                Err(reason) => self.done.findings.push(format!("{}: {reason}", entry.name)),
            }
        }
        if gone.is_empty() || self.done.dry_run {
            return Ok(());
        }
        let mut lists = Lists::new(site, self.now);
        lists.without(&gone)?;
        lists.stage.publish().map_err(|reason| Failed::new(Kind::Incomplete, reason))?;
        Ok(())
    }

    /// Removes all files of a mailbox; gives how many there were, and their octets.
    fn remove(&self, entry: &Entry, partition: &str, dir: &Path) -> Result<(u64, u64), String> {
        let root = |what: &&str| self.site.root(partition, what).map_err(|e| e.to_string());
        let mut roots: BTreeSet<PathBuf> = PARTS.iter().map(&root).collect::<Result<_, _>>()?;
        roots.extend(
            self.site.conf.get(&format!("archivepartition-{partition}")).map(PathBuf::from),
        );
        let header_path = root(&"header")?.join(dir).join("cyrus.header");
        if let Some(bytes) = read_if_any(&header_path).map_err(|e| e.to_string())? {
            let header = Header::read(&bytes);
            let header = header.map_err(|e| format!("{}: {e}", header_path.display()))?;
            let is_it = entry.unique_id.as_ref().is_none_or(|id| *id == header.unique_id);
            if !is_it {
                return Err(format!("{}: another mailbox's", header_path.display()));
            }
        }
        let mut files = Vec::new();
        for root in &roots {
            files.append(&mut files_in(&root.join(dir))?);
        }
        let is_ours = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cursus."))
        };
        if let Some(ours) = files.iter().find(|(path, _)| is_ours(path)) {
            return Err(format!("{}: it is served", ours.0.display()));
        }
        let octets = files.iter().map(|(_, octets)| octets).sum();
        if self.done.dry_run {
            return Ok((files.len() as u64, octets));
        }
        let index = root(&"index")?.join(dir).join("cyrus.index");
        let id = entry.unique_id.as_deref().unwrap_or_default();
        let _held = self.site.lock_mailbox(id, index)?;
        // By its header the directory is known: it goes last.
        files.sort_by_key(|(path, _)| *path == header_path);
        for (path, _) in &files {
            fs::remove_file(path).map_err(named(path))?;
        }
        for root in &roots {
            let above = root.join(dir);
            // As far up as nothing else is there.
            let mut above = above.as_path();
            while above != root && fs::remove_dir(above).is_ok() {
                let Some(parent) = above.parent() else { break };
                above = parent;
            }
        }
        Ok((files.len() as u64, octets))
    }
}

/// What is in a directory, but for directories, with octets; nothing of one that is not there.
fn files_in(dir: &Path) -> Result<Vec<(PathBuf, u64)>, String> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(files),
        other => other.map_err(named(dir))?,
    };
    for entry in entries {
        let entry = entry.map_err(named(dir))?;
        let meta = entry.metadata().map_err(named(&entry.path()))?;
        if !meta.is_dir() {
            files.push((entry.path(), meta.len()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_mailbox_has_its_time_in_its_name() {
        let at = |name| deleted_at(&Name::from_internal(name).unwrap());
        assert_eq!(at("DELETED.user.alice.Old.6A4B1F7E"), Some(0x6a4b_1f7e));
        for other in ["DELETED.user.alice.Old", "DELETED.user.face", "DELETED.user.a.+A4B1F7E"] {
            assert_eq!(at(other), None, "{other}");
        }
    }

    #[test]
    fn mailboxes_are_chosen_by_user_or_by_the_beginning_of_their_names() {
        let is_of =
            |of: &ExpireOf, name: &str| is_of(of, &Name::from_internal(name).unwrap(), "DELETED");
        let alice = ExpireOf::User("alice".into());
        for name in ["user.alice", "user.alice.Work", "DELETED.user.alice.Old.6A4B1F7E"] {
            assert!(is_of(&alice, name) && is_of(&ExpireOf::All, name), "{name}");
        }
        for name in ["user.alicex", "a.test!user.alice", "shared", "DELETED.user.bob.6A4B1F7E"] {
            assert!(!is_of(&alice, name), "{name}");
        }
        let prefix = ExpireOf::Prefix("user.alice".into());
        assert!(is_of(&prefix, "user.alicex") && is_of(&prefix, "user.alice.Work"));
        assert!(!is_of(&prefix, "DELETED.user.alice.Old.6A4B1F7E"));
    }

    #[test]
    fn a_file_with_other_octets_is_not_the_records_message() {
        let text = b"Subject: a\r\n\r\nb\r\n";
        let guid = cache::make(text).guid;
        let record = Record { size: text.len() as u64, guid, ..Record::default() };
        assert!(is_message_of(&record, text));
        assert!(!is_message_of(&record, b"Subject: a\r\n\r\nc\r\n"));
        assert!(!is_message_of(&record, b"Subject: a\r\n\r\n"));
        // Versions before 10 do not know it.
        assert!(is_message_of(&Record { guid: [0; 20], ..record }, b"Subject: a\r\n\r\nc\r\n"));
    }
}
