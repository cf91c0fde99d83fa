//! `cursus unexpunge cyrus`: messages that Cyrus's delayed expunge kept, listed and brought back, as its
//! own `unexpunge` does.
//!
//! Works beside a running server, and with Cyrus stopped. A message comes back under a new UID, with its
//! flags, date and annotations; then its old file goes, and its record is marked as one whose file is
//! gone. What a run that was cut off has brought back already is known by the note that it left
//! ([`again`]); a record without file is not listed any more, and marked by the hand-back.

mod again;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use admin::wire::{ImportAnnotation, ImportMessage};
use admin::{Reply, Request};
use config::Config;
use foreign::cyrus::annotations::Annotation;
use foreign::cyrus::cache;
use foreign::cyrus::db;
use foreign::cyrus::header::Header;
use foreign::cyrus::index::{Index, Record, flag};
use foreign::cyrus::name::Owner;
use protocol::types::SystemFlags;
use serde::{Serialize, Serializer};

use super::expire::{deleted_at, is_message_of, named};
use super::given::{Given, Places};
use super::locks;
use super::now;
use super::plan;
use super::site::{Site, read_if_any};
use super::source::Source;
use super::write::Stage;
use crate::archive::shown;
use crate::cli::UnexpungeCyrus;
use crate::failure::{Failed, Kind};
use crate::output::Output;
use crate::place::Place;
use crate::store::unexpected;

/// Items of a cache record that a listing shows, behind the others.
const SHOWN_FIRST: usize = 5;

/// What is kept of one message. Times are seconds since 1970.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// By its name here.
    pub mailbox: String,
    /// The UID that it had.
    pub uid: u32,
    /// Octets.
    pub size: u64,
    /// The day of the Date header.
    #[serde(serialize_with = "as_text")]
    pub sent: i64,
    /// The date of its arrival.
    #[serde(serialize_with = "as_text")]
    pub received: i64,
    /// The record's last change.
    #[serde(serialize_with = "as_text")]
    pub expunged: i64,
    /// Headers as Cyrus's cache has them.
    pub from: String,
    /// Likewise.
    pub to: String,
    /// Likewise.
    pub cc: String,
    /// Likewise.
    pub bcc: String,
    /// Likewise.
    pub subject: String,
}

fn as_text<S: Serializer>(seconds: &i64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time(*seconds))
}

impl Kept {
    fn text(&self) -> String {
        let Kept { mailbox, uid, size, from, to, cc, bcc, subject, .. } = self;
        let (sent, received) = (time(self.sent), time(self.received));
        let expunged = time(self.expunged);
        format!(
            "UID: {uid}\n\tMbox: {mailbox}\n\tSize: {size}\n\tSent: {sent}\n\tRecv: {received}\n\
             \tExpg: {expunged}\n\tFrom: {from}\n\tTo  : {to}\n\tCc  : {cc}\n\tBcc : {bcc}\n\
             \tSubj: {subject}\n\n"
        )
    }
}

/// A mailbox that delayed delete kept.
#[derive(Debug, Serialize)]
pub struct KeptMailbox {
    /// As Cyrus calls it.
    mailbox: String,
    /// When.
    deleted: String,
    messages: u64,
    octets: u64,
    directory: PathBuf,
}

/// A message that came back.
#[derive(Debug, Serialize)]
pub struct Restored {
    /// By its name here.
    pub mailbox: String,
    /// The UID that it had.
    pub before: u32,
    /// The UID that it has.
    pub uid: u32,
}

/// What a run found or did.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Messages, where they are listed.
    pub kept: Vec<Kept>,
    /// Mailboxes, likewise.
    pub mailboxes: Vec<KeptMailbox>,
    /// Messages that came back.
    pub restored: Vec<Restored>,
    /// UIDs that were asked for and of which nothing is kept.
    pub missing: Vec<u32>,
    /// What is wrong.
    pub findings: Vec<String>,
}

/// Does `cursus unexpunge cyrus`.
pub fn unexpunge(
    args: &UnexpungeCyrus,
    imapd_conf: &Path,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    let done = find(args, imapd_conf, config)?;
    for finding in &done.findings {
        eprintln!("cursus: {finding}");
    }
    let mailbox = args.mailbox.as_deref().unwrap_or_default();
    for uid in &done.missing {
        eprintln!("cursus: {mailbox}: nothing is kept of UID {uid}");
    }
    let mut text: String = done.kept.iter().map(Kept::text).collect();
    for KeptMailbox { mailbox, deleted, messages, octets, directory } in &done.mailboxes {
        let directory = directory.display();
        text += &format!(
            "{mailbox}: deleted {deleted}, {messages} messages, {octets} octets: {directory}\n"
        );
    }
    for Restored { mailbox, before, uid } in &done.restored {
        text += &format!("{mailbox}: {before} => {uid}\n");
    }
    if args.restores() {
        text += &format!("restored {} expunged messages", done.restored.len());
    }
    out.line(&done, text.trim_end());
    Failed::unless_clean(done.findings.len() + done.missing.len())
}

/// Lists or brings back, without a word.
pub fn find(args: &UnexpungeCyrus, imapd_conf: &Path, config: &Config) -> Result<Summary, Failed> {
    let (conf, config_dir, list) = Site::whereabouts(imapd_conf)?;
    // Also for a look: else Cyrus serves, and its own unexpunge is the one to ask.
    let _held = locks::take(&conf, imapd_conf, &config_dir, &list)?;
    let site = Site::read(imapd_conf)?;
    let partitions = plan::partitions(&site, config)?;
    let places = Places::new(&site, config, &partitions);
    let state_dir = &config.state_dir;
    let mut run =
        Run { site: &site, places, args, state_dir, now: now(), done: Summary::default() };
    if let Some(user) = &args.user {
        let mut place = Place::find(config)?;
        let done = run.user(user, &mut place);
        place.close()?;
        done?;
    }
    if args.deleted_mailboxes {
        run.deleted_mailboxes()?;
    }
    Ok(run.done)
}

/// One run.
struct Run<'a> {
    site: &'a Site,
    places: Places<'a>,
    args: &'a UnexpungeCyrus,
    state_dir: &'a Path,
    /// Seconds since 1970.
    now: u64,
    done: Summary,
}

/// Unix seconds as a listing has them.
fn time(seconds: i64) -> String {
    shown(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000))
}

impl Run<'_> {
    fn user(&mut self, user: &str, place: &mut Place) -> Result<(), Failed> {
        let wanted = self.args.mailbox.as_deref();
        let mailboxes = place.heads(user)?.mailboxes;
        if mailboxes.is_empty() {
            return Err(Failed::new(Kind::NoUser, format!("{user} has no mail")));
        }
        let mut met = false;
        for mailbox in self.places.wanted_of(user, mailboxes) {
            if wanted.is_some_and(|name| mailbox.name != name) {
                continue;
            }
            met = true;
            // What has no place in Cyrus has no files of its own there.
            let Ok(Some(one)) = self.places.place(user, mailbox, self.now) else { continue };
            let done = match self.args.restores() {
                true => self.restore(place, &one),
                false => self.list(&one),
            };
            if let Err(reason) = done {
                self.done.findings.push(format!("{}: {reason}", one.name));
            }
        }
        match wanted {
            Some(name) if !met => {
                Err(Failed::new(Kind::Data, format!("{user} has no mailbox {name}")))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, one: &Given, what: &str, file: &str) -> Result<PathBuf, String> {
        let root = self.site.root(one.partition(), what).map_err(|e| e.to_string())?;
        Ok(root.join(&one.dir).join(file))
    }

    /// The index of a mailbox, where it is of the mailbox that is served; its octets.
    fn index(&self, one: &Given) -> Result<Option<(Index, Vec<u8>)>, String> {
        let path = self.path(one, "index", "cyrus.index")?;
        let Some(bytes) = read_if_any(&path).map_err(|e| e.to_string())? else { return Ok(None) };
        let index = Index::read(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        let is_ours = index.header.uid_validity == one.mailbox.uid_validity;
        Ok(is_ours.then_some((index, bytes)))
    }

    fn is_wanted(&self, record: &Record) -> bool {
        let UnexpungeCyrus { uid, within, .. } = self.args;
        let since = within.map(|seconds| self.now.saturating_sub(seconds) as i64);
        (uid.is_empty() || uid.contains(&record.uid))
            && since.is_none_or(|since| record.last_updated >= since)
    }

    /// Records of expunged messages whose files are there. Indexes of old versions have no mark for others.
    fn kept(&self, one: &Given, index: &Index) -> Result<Vec<Record>, String> {
        let home = self.path(one, "", "")?;
        let is_there = |record: &&Record| {
            let file = fs::symlink_metadata(home.join(format!("{}.", record.uid)));
            let is_gone = file.is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
            !is_gone || record.system_flags & flag::ARCHIVED != 0
        };
        let wanted = index.kept().filter(|record| self.is_wanted(record));
        Ok(wanted.filter(is_there).cloned().collect())
    }

    fn list(&mut self, one: &Given) -> Result<(), String> {
        let Some((index, _)) = self.index(one)? else { return Ok(()) };
        let records = self.kept(one, &index)?;
        if records.is_empty() {
            return Ok(());
        }
        let path = self.path(one, "cache", "cyrus.cache")?;
        let cached = read_if_any(&path).map_err(|e| e.to_string())?.unwrap_or_default();
        for record in records {
            let there = cache::record(&cached, record.cache_offset).ok();
            let made;
            let items = match there.filter(|bytes| crc32fast::hash(bytes) == record.cache_crc) {
                Some(bytes) => cache::items(bytes),
                None => {
                    let file = self.path(one, "", &format!("{}.", record.uid))?;
                    made = fs::read(&file).map_or_else(|_| Vec::new(), |b| cache::make(&b).record);
                    cache::items(&made)
                }
            };
            let item = |n: usize| {
                let bytes = items.get(SHOWN_FIRST + n).copied().unwrap_or_default();
                let text = String::from_utf8_lossy(bytes);
                text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>()
            };
            self.done.kept.push(Kept {
                mailbox: one.mailbox.name.clone(),
                uid: record.uid,
                size: record.size,
                sent: record.sent_date,
                received: record.internal_date,
                expunged: record.last_updated,
                from: item(0),
                to: item(1),
                cc: item(2),
                bcc: item(3),
                subject: item(4),
            });
        }
        Ok(())
    }

    fn restore(&mut self, place: &mut Place, one: &Given) -> Result<(), String> {
        let index_path = self.path(one, "index", "cyrus.index")?;
        let _held = self.site.lock_mailbox(&one.mailbox.unique_id, index_path.clone())?;
        let found = self.index(one)?;
        let kept = match &found {
            Some((index, _)) => self.kept(one, index)?,
            None => Vec::new(),
        };
        for uid in &self.args.uid {
            if !kept.iter().any(|record| record.uid == *uid) {
                self.done.missing.push(*uid);
            }
        }
        let Some((index, bytes)) = found.filter(|_| !kept.is_empty()) else {
            // With what was asked for; the rest may have some.
            let all = self.args.all;
            return if all { again::Note::drop_of(self.state_dir, one) } else { Ok(()) };
        };
        let header_path = self.path(one, "header", "cyrus.header")?;
        let header_bytes =
            read_if_any(&header_path).map_err(|e| e.to_string())?.unwrap_or_default();
        let header =
            Header::read(&header_bytes).map_err(|e| format!("{}: {e}", header_path.display()))?;
        let annotations = self.annotations(one)?;
        let minor = index.header.minor;
        let mut note = again::Note::begin(self.state_dir, place, one)?;
        let mut gone = BTreeSet::new();
        let mut stopped = Ok(());
        for record in kept {
            let file = self.path(one, "", &format!("{}.", record.uid))?;
            if record.system_flags & flag::ARCHIVED != 0 {
                let line = "it is in an archive partition";
                self.done.findings.push(format!("{}: {line}", file.display()));
                continue;
            }
            let octets = match fs::read(&file) {
                Ok(octets) if is_message_of(&record, &octets) => octets,
                Ok(_) => {
                    let line = "it is not the message that cyrus.index tells of";
                    self.done.findings.push(format!("{}: {line}", file.display()));
                    continue;
                }
                Err(error) => {
                    self.done.findings.push(named(&file)(error));
                    continue;
                }
            };
            let flags = self.flags(&record, minor, &header);
            let annotations = annotations_of(&annotations, one, &record);
            let there = note.brought_back(place, one, &record, &octets);
            let there = there.and_then(|there| match there {
                Some(uid) => Ok(uid),
                None => import(place, one, &record, octets, flags, annotations),
            });
            match there {
                Ok(uid) => {
                    let mailbox = one.mailbox.name.clone();
                    self.done.restored.push(Restored { mailbox, before: record.uid, uid });
                }
                Err(failed) => {
                    stopped = Err(failed.to_string());
                    break;
                }
            }
            stopped = fs::remove_file(&file).map_err(named(&file));
            gone.insert(record.uid);
            if stopped.is_err() {
                break;
            }
        }
        if !gone.is_empty() {
            let home = self.path(one, "", "")?;
            File::open(&home).and_then(|dir| dir.sync_all()).map_err(named(&home))?;
            let marked = Index::unlinked(&bytes, &gone).map_err(|e| e.to_string())?;
            let mut stage = Stage::in_existing_directories();
            stage.put(&index_path, &marked)?;
            stage.publish()?;
        }
        stopped?;
        note.end()
    }

    fn flags(&self, record: &Record, minor: u32, header: &Header) -> Vec<String> {
        let system = plan::system_flags(record, minor, None);
        let named = SystemFlags::NAMES.iter().filter(|(flag, _)| system.contains(*flag));
        let mut flags: Vec<String> = named.map(|(_, name)| (*name).to_owned()).collect();
        flags.retain(|name| !(self.args.clear_deleted && name == "\\Deleted"));
        let keywords = header.keywords.iter().enumerate();
        let has = |n: usize| n < 128 && record.user_flags >> n & 1 != 0;
        flags.extend(
            keywords.filter(|(n, name)| has(*n) && !name.is_empty()).map(|(_, name)| name.clone()),
        );
        flags.extend(self.args.flag.clone());
        flags
    }

    fn annotations(&self, one: &Given) -> Result<Vec<Annotation>, String> {
        let path = self.path(one, "annotations", "cyrus.annotations")?;
        let bytes = read_if_any(&path).map_err(|e| e.to_string())?.unwrap_or_default();
        let named = |e: foreign::cyrus::Damage| format!("{}: {e}", path.display());
        let pairs = db::read(&bytes).map_err(named)?;
        pairs.iter().map(|pair| Annotation::read(pair).map_err(named)).collect()
    }

    /// Lists what delayed delete kept.
    fn deleted_mailboxes(&mut self) -> Result<(), Failed> {
        let site = self.site;
        for entry in &site.mailboxes {
            let is_deleted = entry.name.owner(&site.deleted_prefix) == Owner::Deleted
                && entry.server.is_none()
                && !entry.kind.contains('d');
            let (Some(at), Some(partition), Some(dir)) =
                (deleted_at(&entry.name), &entry.partition, site.directory(entry))
            else {
                continue;
            };
            if !is_deleted {
                continue;
            }
            let directory = site.root(partition, "")?.join(&dir);
            let index = read_if_any(&site.root(partition, "index")?.join(&dir).join("cyrus.index"));
            let index = index?.and_then(|bytes| Index::read(&bytes).ok()).unwrap_or_default();
            self.done.mailboxes.push(KeptMailbox {
                mailbox: entry.name.to_string(),
                deleted: time(at as i64),
                messages: index.live().count() as u64,
                octets: index.live().map(|record| record.size).sum(),
                directory,
            });
        }
        Ok(())
    }
}

/// Annotations of a message as an import has them: JSON, or nothing.
fn annotations_of(all: &[Annotation], one: &Given, record: &Record) -> Vec<u8> {
    let uid = record.uid.to_string();
    let values: Vec<ImportAnnotation> = all
        .iter()
        .filter(|annotation| annotation.of == uid && plan::is_kept(annotation))
        .map(|annotation| ImportAnnotation {
            whose: plan::whose(&annotation.user, &one.owner).0,
            entry: annotation.entry.clone(),
            value: annotation.value.clone(),
        })
        .collect();
    match values.is_empty() {
        true => Vec::new(),
        false => serde_json::to_vec(&values).unwrap_or_default(),
    }
}

/// Stores a message anew; gives its UID.
fn import(
    place: &mut Place,
    one: &Given,
    record: &Record,
    mut octets: Vec<u8>,
    flags: Vec<String>,
    annotations: Vec<u8>,
) -> Result<u32, Failed> {
    let message = ImportMessage {
        bytes: octets.len() as u64,
        flags,
        internal_date: Some(record.internal_date),
        uid: None,
        annotations_bytes: annotations.len() as u64,
    };
    octets.extend(annotations);
    let request = Request::Import {
        user: one.user.clone(),
        mailbox: one.mailbox.name.clone(),
        messages: vec![message],
        uid_next: None,
    };
    match place.ask_with(request, &mut octets.as_slice())? {
        Reply::Imported { uids, .. } => Ok(uids.first().copied().unwrap_or_default()),
        other => Err(unexpected(&other)),
    }
}
