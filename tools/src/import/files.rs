//! `cursus import`: mail from files of other programs, with their folders.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use admin::wire::ImportMessage;
use admin::{Reply, Request};
use config::Config;
use serde::Serialize;

use super::{BATCH_BYTES_HIGH, BATCH_MESSAGES_MAX, Refused};
use crate::cli::{FileForm, ImportFiles};
use crate::failure::{Failed, Kind};
use crate::mailfiles::{Damage, Found, Messages, Tree, dbox, eml, maildir, mbox, mh};
use crate::migrate::content_id;
use crate::output::{Output, Table, human_bytes};
use crate::place::Place;
use crate::store::unexpected;

/// What came of it.
#[derive(Default, Serialize)]
struct Summary {
    imported: u64,
    present: u64,
    bytes: u64,
    mailboxes: BTreeMap<String, u64>,
    failed: Vec<Refused>,
    dry_run: bool,
}

/// Does `cursus import …`.
pub fn run(args: &ImportFiles, config: &Config, out: &Output) -> Result<(), Failed> {
    let mut sources: Vec<Tree> = Vec::new();
    for path in &args.paths {
        if !path.exists() {
            let message = format!("{}: there is no such file", path.display());
            return Err(Failed::new(Kind::Data, message));
        }
        sources.push(tree(args, path));
    }
    let place = if args.dry_run { None } else { Some(Place::find(config)?) };
    let mut importing = Importing {
        args,
        place,
        summary: Summary { dry_run: args.dry_run, ..Summary::default() },
        present: HashMap::new(),
        batch: Vec::new(),
        batch_bytes: 0,
        mailbox: String::new(),
    };
    let bar = out.progress(0, "importing");
    // Those without messages, too.
    let mut folders = sources.iter().flat_map(|tree| &tree.folders);
    let mut done = folders.try_for_each(|folder| importing.make(folder));
    let mut messages = sources.into_iter().flat_map(|tree| tree.messages);
    while done.is_ok()
        && let Some(found) = messages.next()
    {
        bar.inc(1);
        done = match found {
            Ok(found) => importing.take(found),
            Err(damage) => {
                let (source, reason) = (damage.source.clone(), damage.reason());
                importing.summary.failed.push(Refused { source, reason });
                Ok(())
            }
        };
    }
    let done = done.and_then(|()| importing.send());
    bar.finish_and_clear();
    let Importing { place, summary, .. } = importing;
    let closed = place.map_or(Ok(()), Place::close);
    tell(&summary, out);
    done?;
    match summary.failed.len() {
        0 => closed,
        n => Err(Failed::new(Kind::Incomplete, format!("{n} were not imported"))),
    }
}

fn tell(summary: &Summary, out: &Output) {
    for refused in &summary.failed {
        eprintln!("cursus: {}: {}", refused.source, refused.reason);
    }
    out.table(summary, || Table {
        headings: &["mailbox", "#messages"],
        rows: summary.mailboxes.iter().map(|(m, n)| vec![m.clone(), n.to_string()]).collect(),
    });
    if !out.is_json() {
        let verb = if summary.dry_run { "would be imported" } else { "imported" };
        let Summary { imported, present, bytes, .. } = summary;
        eprintln!("cursus: {imported} {verb}, {}, {present} were there", human_bytes(*bytes));
    }
}

/// What is below a path in this form.
fn tree(args: &ImportFiles, path: &Path) -> Tree {
    let kind = match args.form {
        FileForm::Mbox => mbox::Kind::O,
        FileForm::Mboxrd => mbox::Kind::Rd,
        FileForm::Mboxcl => mbox::Kind::Cl,
        FileForm::Mboxcl2 => mbox::Kind::Cl2,
        FileForm::Maildir => return maildir::read(path, !args.no_folders),
        FileForm::Mh => return without_folders(args, mh::read(path)),
        FileForm::Eml => return without_folders(args, eml::read(path)),
        FileForm::Dbox => return without_folders(args, dbox::read(path)),
    };
    let headers = mbox::Headers { flags: args.status, strip: args.strip_status };
    let mut files = Vec::new();
    let mut damage = Vec::new();
    mbox_files(path, None, &mut files, &mut damage);
    let read =
        move |(path, mailbox): (PathBuf, Option<String>)| -> Messages {
            let name = path.display().to_string();
            match File::open(&path) {
                Ok(file) => {
                    let reader = mbox::Reader::new(BufReader::new(file), &name, kind, headers);
                    Box::new(reader.map(move |one| {
                        one.map(|found| Found { mailbox: mailbox.clone(), ..found })
                    }))
                }
                Err(e) => {
                    let damage = Damage { source: name, offset: None, what: e.to_string() };
                    Box::new(std::iter::once(Err(damage)))
                }
            }
        };
    let folders = files.iter().filter_map(|(_, mailbox)| mailbox.clone()).collect();
    let all = damage.into_iter().map(Err).chain(files.into_iter().flat_map(read));
    without_folders(args, Tree { folders, messages: Box::new(all) })
}

fn without_folders(args: &ImportFiles, tree: Tree) -> Tree {
    if !args.no_folders {
        return tree;
    }
    let is_within = |one: &Result<Found, Damage>| matches!(one, Ok(Found { mailbox: Some(_), .. }));
    let messages = tree.messages.filter(move |one| !is_within(one));
    Tree { folders: Vec::new(), messages: Box::new(messages) }
}

/// The mbox files of a tree: `Work/Old.mbox` is the mailbox `Work/Old`.
fn mbox_files(
    path: &Path,
    above: Option<&str>,
    files: &mut Vec<(PathBuf, Option<String>)>,
    damage: &mut Vec<Damage>,
) {
    if !path.is_dir() {
        return files.push((path.to_owned(), None));
    }
    let listed = std::fs::read_dir(path).and_then(|dir| dir.collect::<Result<Vec<_>, _>>());
    let mut listed = match listed {
        Ok(listed) => listed,
        Err(e) => {
            let source = path.display().to_string();
            return damage.push(Damage { source, offset: None, what: e.to_string() });
        }
    };
    listed.sort_by_key(std::fs::DirEntry::file_name);
    for entry in listed {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let bare = name.strip_suffix(".mbox").unwrap_or(&name);
        let mailbox = above.map_or_else(|| bare.to_owned(), |above| format!("{above}/{bare}"));
        match entry.path().is_dir() {
            true => mbox_files(&entry.path(), Some(&mailbox), files, damage),
            false => files.push((entry.path(), Some(mailbox))),
        }
    }
}

struct Importing<'a> {
    args: &'a ImportFiles,
    place: Option<Place>,
    summary: Summary,
    /// By mailbox: how often each content is there.
    present: HashMap<String, HashMap<String, u64>>,
    batch: Vec<Found>,
    batch_bytes: usize,
    /// Of the batch.
    mailbox: String,
}

impl Importing<'_> {
    /// Where what is in a folder, or beside all of them, goes.
    fn mailbox_of(&self, folder: Option<&str>) -> String {
        match (&self.args.mailbox, folder) {
            (None, None) => "INBOX".to_owned(),
            (None, Some(folder)) => folder.to_owned(),
            (Some(named), None) => named.clone(),
            (Some(named), Some(folder)) => format!("{named}/{folder}"),
        }
    }

    /// Makes the mailbox of a folder.
    fn make(&mut self, folder: &str) -> Result<(), Failed> {
        let mailbox = self.mailbox_of(Some(folder));
        self.summary.mailboxes.entry(mailbox.clone()).or_default();
        self.create(&mailbox)
    }

    fn take(&mut self, mut found: Found) -> Result<(), Failed> {
        let mailbox = self.mailbox_of(found.mailbox.as_deref());
        if mailbox != self.mailbox {
            self.send()?;
            self.mailbox = mailbox.clone();
            if self.place.is_some() {
                self.open(&mailbox)?;
            }
        }
        if self.args.resume
            && let Some(n) = self.present.get_mut(&mailbox)
            && let Some(n) = n.get_mut(&content_id(&found.octets)).filter(|n| **n > 0)
        {
            *n -= 1;
            self.summary.present += 1;
            return Ok(());
        }
        found.flags.extend(self.args.flags.iter().cloned());
        self.batch_bytes += found.octets.len();
        self.batch.push(found);
        match self.batch.len() >= BATCH_MESSAGES_MAX || self.batch_bytes >= BATCH_BYTES_HIGH {
            true => self.send(),
            false => Ok(()),
        }
    }

    /// Makes a mailbox that is missing, and looks at what it has.
    fn open(&mut self, mailbox: &str) -> Result<(), Failed> {
        self.create(mailbox)?;
        let Some(place) = &mut self.place else { return Ok(()) };
        if self.args.resume && !self.present.contains_key(mailbox) {
            let (user, mailbox) = (self.args.user.clone(), mailbox.to_owned());
            let mut contents: HashMap<String, u64> = HashMap::new();
            match place.ask(Request::Contents { user, mailbox: mailbox.clone() })? {
                Reply::Contents(ids) => {
                    ids.into_iter().for_each(|id| *contents.entry(id).or_default() += 1);
                }
                other => return Err(unexpected(&other)),
            }
            self.present.insert(mailbox, contents);
        }
        Ok(())
    }

    /// Makes a mailbox that is missing.
    fn create(&mut self, mailbox: &str) -> Result<(), Failed> {
        let Some(place) = &mut self.place else { return Ok(()) };
        let (user, name) = (self.args.user.clone(), mailbox.to_owned());
        let create = Request::MailboxCreate { user, name, special_use: Vec::new() };
        match place.ask(create) {
            Err(failed) if failed.kind() != Kind::Exists => Err(failed),
            _ => Ok(()),
        }
    }

    /// Stores the batch; one that is refused, message by message.
    fn send(&mut self) -> Result<(), Failed> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        match self.ask(&batch) {
            Ok(()) => Ok(()),
            Err(failed) if failed.kind() != Kind::Data => Err(failed),
            Err(_) => {
                for found in batch {
                    match self.ask(std::slice::from_ref(&found)) {
                        Ok(()) => {}
                        Err(failed) if failed.kind() != Kind::Data => return Err(failed),
                        Err(failed) => {
                            let (source, reason) = (found.source, failed.to_string());
                            self.summary.failed.push(Refused { source, reason });
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn ask(&mut self, batch: &[Found]) -> Result<(), Failed> {
        if let Some(place) = &mut self.place {
            let mut dropped = BTreeMap::new();
            let line = |found: &Found| ImportMessage {
                bytes: found.octets.len() as u64,
                flags: crate::migrate::taken_flags(&found.flags, &mut dropped),
                internal_date: found.internal_date,
                uid: None,
                annotations_bytes: 0,
            };
            let request = Request::Import {
                user: self.args.user.clone(),
                mailbox: self.mailbox.clone(),
                messages: batch.iter().map(line).collect(),
                uid_next: None,
            };
            let empty: Box<dyn Read + '_> = Box::new(std::io::empty());
            let mut body = batch
                .iter()
                .fold(empty, |body, one| Box::new(body.chain(one.octets.as_slice())) as _);
            match place.ask_with(request, &mut body)? {
                Reply::Imported { .. } => {}
                other => return Err(unexpected(&other)),
            }
            for (flag, count) in dropped {
                let reason = format!("flag {flag:?} of {count} messages was left out");
                eprintln!("cursus: {}: {reason}", self.mailbox);
            }
        }
        self.summary.imported += batch.len() as u64;
        self.summary.bytes += batch.iter().map(|one| one.octets.len() as u64).sum::<u64>();
        *self.summary.mailboxes.entry(self.mailbox.clone()).or_default() += batch.len() as u64;
        Ok(())
    }
}
