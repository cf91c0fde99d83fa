//! `cursus restore`.
//!
//! A whole store is made in place by the engine. A user, a folder or a message takes two steps:
//! the engine makes a store of that user as of the moment in a directory of our own, and what is
//! asked for goes from there into the live store as ordinary messages, with their dates, flags,
//! keywords and annotations.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use admin::wire::{ImportAnnotation, ImportMessage};
use admin::{Reply, Request};
use config::Config;
use engine::archive::{self, RestoreOptions, RestoreReport};
use engine::io::blocking::Blocking;
use engine::io::{Lane, Storage};
use engine::layout::{LayoutKind, LayoutOptions, layout_for};
use engine::{Drive, Mailbox, Record, Store, StoreConfig, UserOptions, View};
use protocol::types::SystemFlags;
use serde::Serialize;

use crate::archive::{failed, moment, shown};
use crate::cli::RestoreArgs;
use crate::failure::{Failed, Kind};
use crate::output::Output;
use crate::place::Place;
use crate::store::unexpected;

/// Messages and bytes of one request; a message may be larger.
const BATCH_MESSAGES_MAX: usize = 32;
const BATCH_BYTES_HIGH: usize = 4 << 20;

#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    report: RestoreReport,
    restored: u64,
    present: u64,
    dry_run: bool,
    into: String,
}

/// Does `cursus restore`.
pub fn run(args: &RestoreArgs, config: &Config, out: &Output) -> Result<(), Failed> {
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    let mut from = args.from.clone();
    let archive = args.archive.clone().or_else(|| config.archive.directory.clone());
    from.extend(archive.filter(|dir| dir.join("archive.json").is_file() && !from.contains(dir)));
    let as_of_us = args.as_of.as_deref().map(moment).transpose()?;
    let options =
        RestoreOptions { from, as_of_us, user: args.user.clone(), across_gaps: args.across_gaps };
    if let Some(dir) = &args.into_state {
        return into_state(dir, &options, &storage, out);
    }
    let Some(user) = &args.user else {
        let settings = admin::store::store_config(config, "localhost");
        let settings = StoreConfig { archive: None, ..settings };
        let report = archive::restore(settings, storage, &options).map_err(failed)?;
        let into = config.state_dir.display().to_string();
        return tell(Summary { report, restored: 0, present: 0, dry_run: false, into }, out);
    };
    let scratch = config.state_dir.join(format!("restore-{}", std::process::id()));
    let done = from_scratch(&scratch, user, args, config, &options, &storage, out);
    let _ = std::fs::remove_dir_all(&scratch);
    tell(done?, out)
}

fn tell(summary: Summary, out: &Output) -> Result<(), Failed> {
    let report = &summary.report;
    let what = match (summary.restored, summary.present) {
        (0, 0) => format!("{} transactions replayed", report.transactions),
        (n, 0) => format!("{n} messages"),
        (n, present) => format!("{n} messages, {present} were there"),
    };
    let done = if summary.dry_run { "would restore" } else { "restored" };
    let mut text =
        format!("{done} as of {}: {what}, into {}", shown(report.reached_us), summary.into);
    if report.archive_ends_before {
        text += "; the archive ends before the moment asked for";
    }
    out.line(&summary, &text);
    for gap in &report.gaps {
        eprintln!("cursus: went across a {gap}");
    }
    for line in &report.missing {
        eprintln!("cursus: nowhere in the archive: {line}");
    }
    match report.missing.len() {
        0 => Ok(()),
        n => Err(Failed::new(Kind::Incomplete, format!("{n} messages are not in the archive"))),
    }
}

/// Settings for a store below a directory, with the partitions of the backup.
fn settings_below(
    dir: &Path,
    storage: &Arc<dyn Storage>,
    from: &[PathBuf],
) -> Result<(StoreConfig, String), Failed> {
    let known = archive::partitions(&**storage, from).map_err(failed)?;
    let Some((first, _)) = known.first().cloned() else {
        let message = "no base backup in the directories named".to_owned();
        return Err(Failed::new(Kind::Data, message));
    };
    let mut toml = format!(
        "# A restored store. Add listeners, and the archive if it goes on in the same one.\n\
         state_dir = \"state\"\ndefault_partition = {first:?}\n"
    );
    let mut partitions = Vec::new();
    for (name, kind) in known {
        let path = dir.join("mail").join(&name);
        let layout = match kind {
            LayoutKind::Maildir => "maildir",
            LayoutKind::Cyrus => "cyrus",
        };
        toml += &format!(
            "\n[[partition]]\nname = {name:?}\npath = {:?}\nlayout = {layout:?}\n",
            format!("mail/{name}")
        );
        let layout = layout_for(kind, &LayoutOptions::default());
        let mount = engine::MountOptions::default();
        partitions.push(engine::Partition { name, path, layout, mount });
    }
    Ok((StoreConfig::new(dir.join("state"), partitions), toml))
}

fn into_state(
    dir: &Path,
    options: &RestoreOptions,
    storage: &Arc<dyn Storage>,
    out: &Output,
) -> Result<(), Failed> {
    let (settings, toml) = settings_below(dir, storage, &options.from)?;
    let report = archive::restore(settings, storage.clone(), options).map_err(failed)?;
    let file = dir.join("restored.toml");
    std::fs::write(&file, toml)
        .map_err(|e| Failed::new(Kind::Incomplete, format!("{}: {e}", file.display())))?;
    let into = dir.display().to_string();
    tell(Summary { report, restored: 0, present: 0, dry_run: false, into }, out)
}

fn from_scratch(
    scratch: &Path,
    user: &str,
    args: &RestoreArgs,
    config: &Config,
    options: &RestoreOptions,
    storage: &Arc<dyn Storage>,
    out: &Output,
) -> Result<Summary, Failed> {
    let (settings, _) = settings_below(scratch, storage, &options.from)?;
    let report = archive::restore(settings, storage.clone(), options).map_err(failed)?;
    let (settings, _) = settings_below(scratch, storage, &options.from)?;
    let past = Past::open(settings, storage, user)?;
    let mut place = Place::find(config)?;
    let below = match (args.in_place, &args.into_namespace) {
        (true, _) => None,
        (false, Some(name)) => Some(name.clone()),
        (false, None) => {
            // A separator of levels must not be in it, and colons are trouble to some clients.
            let moment = options.as_of_us.unwrap_or(report.reached_us);
            Some(format!("Restored {}", shown(moment / 1_000_000 * 1_000_000).replace(':', ".")))
        }
    };
    let mut copy = Copy { past: &past, place: &mut place, args, user, restored: 0, present: 0 };
    let copied = copy.all(below.as_deref(), out);
    let (restored, present) = (copy.restored, copy.present);
    let closed = place.close();
    copied?;
    closed?;
    let into = match below {
        Some(name) => format!("{user} {name}"),
        None => user.to_owned(),
    };
    Ok(Summary { report, restored, present, dry_run: args.dry_run, into })
}

/// The user's mail as it was.
struct Past {
    runtime: tokio::runtime::Runtime,
    store: Store,
    lane: Lane,
    user: engine::User,
}

impl Past {
    fn open(settings: StoreConfig, storage: &Arc<dyn Storage>, user: &str) -> Result<Past, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failed::new(Kind::Unreachable, e.to_string()))?;
        let store = Store::open(settings, storage.clone(), Drive::Inline).map_err(failed)?;
        if !runtime.block_on(store.has_user(user)).map_err(failed)? {
            let message = format!("{user} had no mail at that moment");
            return Err(Failed::new(Kind::NoUser, message));
        }
        let opened = runtime.block_on(store.user(user, &UserOptions::default()));
        let user = opened.map_err(failed)?;
        Ok(Past { runtime, store, lane: Lane::inline(storage.clone()), user })
    }

    fn mailbox(&self, name: &str) -> Result<Mailbox, Failed> {
        self.runtime.block_on(self.user.mailbox(name)).map_err(failed)
    }

    fn bytes(&self, mailbox: &Mailbox, record: &Record) -> Result<Vec<u8>, Failed> {
        let read = async {
            let file = mailbox.message(&self.lane, record).await?;
            let mut served = file.served(0, file.stored_size(), 0, u64::MAX);
            let mut out = Vec::with_capacity(record.size as usize);
            while let Some(piece) = served.next().await? {
                out.extend(piece);
            }
            Ok::<_, engine::Error>(out)
        };
        self.runtime.block_on(read).map_err(failed)
    }
}

impl Past {
    /// What the message was annotated with, by everybody.
    fn annotations(&self, mailbox: &Mailbox, record: &Record) -> Result<Vec<u8>, Failed> {
        let found =
            self.runtime.block_on(mailbox.annotations_of_all(record.uid)).map_err(failed)?;
        let value = |one: engine::AnnotationValue| ImportAnnotation {
            whose: one.whose,
            entry: one.entry,
            value: one.value.map_or_else(Vec::new, |value| value.to_vec()),
        };
        let all: Vec<ImportAnnotation> = found.into_iter().map(value).collect();
        if all.is_empty() {
            return Ok(Vec::new());
        }
        serde_json::to_vec(&all).map_err(|e| Failed::new(Kind::Data, e.to_string()))
    }
}

impl Drop for Past {
    fn drop(&mut self) {
        // It is thrown away: nothing is lost by a failure.
        let _ = self.store.close();
    }
}

struct Copy<'a> {
    past: &'a Past,
    place: &'a mut Place,
    args: &'a RestoreArgs,
    user: &'a str,
    restored: u64,
    present: u64,
}

/// One message on its way.
struct Message {
    bytes: Vec<u8>,
    flags: Vec<String>,
    internal_date: i64,
    /// JSON of the annotations; empty: none.
    annotations: Vec<u8>,
}

impl Message {
    fn octets(&self) -> usize {
        self.bytes.len() + self.annotations.len()
    }
}

impl Copy<'_> {
    fn all(&mut self, below: Option<&str>, out: &Output) -> Result<(), Failed> {
        let namespace = self.past.user.namespace();
        let wanted = |name: &&String| self.args.mailbox.as_ref().is_none_or(|only| only == *name);
        let names: Vec<&String> = namespace.mailboxes.keys().filter(wanted).collect();
        if let (Some(only), true) = (&self.args.mailbox, names.is_empty()) {
            let message = format!("{} had no mailbox {only} at that moment", self.user);
            return Err(Failed::new(Kind::Data, message));
        }
        let bar = out.progress(names.len() as u64, "restoring");
        for name in names {
            let target = match below {
                Some(below) => format!("{below}/{name}"),
                None => name.clone(),
            };
            self.mailbox(name, &target, below.is_none())?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn mailbox(&mut self, name: &str, target: &str, in_place: bool) -> Result<(), Failed> {
        let mailbox = self.past.mailbox(name)?;
        let view = mailbox.view();
        let mut there = if in_place { self.contents(target)? } else { HashMap::new() };
        let mut made = false;
        let mut batch: Vec<Message> = Vec::new();
        for (_, record) in view.all() {
            if self.args.uid.is_some_and(|uid| uid != record.uid.0) {
                continue;
            }
            let bytes = self.past.bytes(&mailbox, &record)?;
            if self.args.message_id.as_ref().is_some_and(|id| !has_message_id(&bytes, id)) {
                continue;
            }
            let id = view.content_id(record.uid).unwrap_or_default();
            if let Some(n) = there.get_mut(&id).filter(|n| **n > 0) {
                *n -= 1;
                self.present += 1;
                continue;
            }
            self.restored += 1;
            if self.args.dry_run {
                let subject = header(&bytes, "subject").unwrap_or_default();
                println!("{target}\t{}\t{}\t{subject}", record.uid, bytes.len());
                continue;
            }
            if !std::mem::replace(&mut made, true) {
                self.create(target)?;
            }
            let flags = flags_of(&view, &record);
            let annotations = self.past.annotations(&mailbox, &record)?;
            let internal_date = record.internal_date;
            batch.push(Message { bytes, flags, internal_date, annotations });
            let octets: usize = batch.iter().map(Message::octets).sum();
            if batch.len() >= BATCH_MESSAGES_MAX || octets >= BATCH_BYTES_HIGH {
                self.send(target, std::mem::take(&mut batch))?;
            }
        }
        if !batch.is_empty() {
            self.send(target, batch)?;
        }
        Ok(())
    }

    /// How often each content is in a mailbox of the live store.
    fn contents(&mut self, mailbox: &str) -> Result<HashMap<String, u64>, Failed> {
        let (user, mailbox) = (self.user.to_owned(), mailbox.to_owned());
        let mut out = HashMap::new();
        match self.place.ask(Request::Contents { user, mailbox }) {
            Ok(Reply::Contents(ids)) => {
                ids.into_iter().for_each(|id| *out.entry(id).or_default() += 1);
                Ok(out)
            }
            Ok(other) => Err(unexpected(&other)),
            // It was deleted: it is made again.
            Err(error) if error.kind() == Kind::Data => Ok(out),
            Err(error) => Err(error),
        }
    }

    fn create(&mut self, name: &str) -> Result<(), Failed> {
        let request = Request::MailboxCreate {
            user: self.user.to_owned(),
            name: name.to_owned(),
            special_use: Vec::new(),
        };
        match self.place.ask(request) {
            Err(error) if error.kind() == Kind::Exists => Ok(()),
            other => other.map(drop),
        }
    }

    fn send(&mut self, mailbox: &str, batch: Vec<Message>) -> Result<(), Failed> {
        let messages = batch
            .iter()
            .map(|message| ImportMessage {
                bytes: message.bytes.len() as u64,
                flags: message.flags.clone(),
                internal_date: Some(message.internal_date),
                uid: None,
                annotations_bytes: message.annotations.len() as u64,
            })
            .collect();
        let (user, mailbox) = (self.user.to_owned(), mailbox.to_owned());
        let body: Vec<u8> =
            batch.into_iter().flat_map(|m| [m.bytes, m.annotations]).flatten().collect();
        let request = Request::Import { user, mailbox, messages, uid_next: None };
        match self.place.ask_with(request, &mut body.as_slice())? {
            Reply::Imported { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn flags_of(view: &View, record: &Record) -> Vec<String> {
    let system = SystemFlags::NAMES.iter().filter(|(flag, _)| record.flags.contains(*flag));
    let mut flags: Vec<String> = system.map(|(_, name)| (*name).to_owned()).collect();
    flags.extend(view.keywords().of_bits(record.keywords).map(|k| k.as_str().to_owned()));
    flags
}

/// The value of a header field, unfolded.
fn header(message: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&message[..message.len().min(256 << 10)]).into_owned();
    let head = text.split("\r\n\r\n").next().unwrap_or("").replace("\r\n\t", " ");
    let head = head.replace("\r\n ", " ");
    let value = |line: &str| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    head.split("\r\n").find_map(value)
}

fn has_message_id(message: &[u8], id: &str) -> bool {
    let bare = |id: &str| id.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
    header(message, "message-id").is_some_and(|is| bare(&is) == bare(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_known_by_their_id() {
        let message = b"Subject: a\r\n b\r\nMessage-Id:\r\n <x@y>\r\n\r\nMessage-ID: <z@z>\r\n";
        assert!(has_message_id(message, "<x@y>") && has_message_id(message, "x@y"));
        assert!(!has_message_id(message, "z@z"));
        assert_eq!(header(message, "subject").as_deref(), Some("a b"));
    }
}
