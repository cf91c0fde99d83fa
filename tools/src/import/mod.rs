//! `cursus message import`: messages from files, mbox files and Maildirs.
//!
//! A message that is refused doesn't stop the others; all failures are reported at the end, and
//! the exit status says so.

pub mod files;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use admin::wire::ImportMessage;
use admin::{Reply, Request};
use config::Config;
use serde::Serialize;

use crate::cli::ImportArgs;
use crate::failure::{Failed, Kind};
use crate::mailfiles::{Damage, Found, Messages, maildir, mbox};
use crate::output::Output;
use crate::place::Place;

/// Messages in a batch, at most.
const BATCH_MESSAGES_MAX: usize = 32;

/// A batch of so many bytes gets no further message.
const BATCH_BYTES_HIGH: usize = 4 << 20;

#[derive(Default, Serialize)]
struct Summary {
    imported: u64,
    failed: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    source: String,
    reason: String,
}

/// Does `cursus message import …`.
pub fn run(args: &ImportArgs, config: &Config, out: &Output) -> Result<(), Failed> {
    let sources = args.files.iter().map(|f| Source::of(f)).collect::<Result<Vec<_>, _>>()?;
    let mut place = Place::find(config)?;
    let done = import_all(args, sources, &mut place, out);
    let closed = place.close();
    let summary = done?;
    let failures = summary.failed.len();
    for refused in &summary.failed {
        eprintln!("cursus: {}: {}", refused.source, refused.reason);
    }
    out.line(&summary, &format!("{} messages imported into {}", summary.imported, args.mailbox));
    match failures {
        0 => closed,
        n => Err(Failed::new(Kind::Incomplete, format!("{n} messages not imported"))),
    }
}

/// What a name on the command line stands for.
enum Source {
    Stdin,
    Message(PathBuf),
    Mbox(PathBuf),
    /// And how many messages it has.
    Maildir(PathBuf, u64),
}

impl Source {
    fn of(path: &Path) -> Result<Source, Failed> {
        let bad = |e: std::io::Error| Failed::new(Kind::Data, format!("{}: {e}", path.display()));
        if path == Path::new("-") {
            return Ok(Source::Stdin);
        }
        if path.is_dir() {
            if !maildir::is_maildir(path) {
                let expected = "expected a message, an mbox file or a Maildir with cur and new";
                let message = format!("{}: directory, {expected}", path.display());
                return Err(Failed::new(Kind::Data, message));
            }
            let files = maildir::files(path);
            let files = files.map_err(|e| Failed::new(Kind::Data, e.to_string()))?;
            return Ok(Source::Maildir(path.to_owned(), files.len() as u64));
        }
        let mut start = [0; 5];
        let mut file = File::open(path).map_err(bad)?;
        let is_mbox = file.read_exact(&mut start).is_ok() && &start == b"From ";
        Ok(if is_mbox { Source::Mbox(path.to_owned()) } else { Source::Message(path.to_owned()) })
    }

    /// How many messages, for the progress bar; an mbox file counts as one until it is read.
    fn count(&self) -> u64 {
        match self {
            Source::Maildir(_, count) => *count,
            Source::Stdin | Source::Message(_) | Source::Mbox(_) => 1,
        }
    }

    fn messages(self) -> Messages {
        match self {
            Source::Stdin => {
                Box::new(std::iter::once_with(|| read("-".to_owned(), std::io::stdin())))
            }
            Source::Message(path) => Box::new(std::iter::once_with(move || read_file(&path))),
            Source::Maildir(path, _) => maildir::read(&path, false).messages,
            Source::Mbox(path) => {
                let name = path.display().to_string();
                let headers = mbox::Headers { flags: true, strip: false };
                match File::open(&path) {
                    Ok(file) => {
                        let file = BufReader::new(file);
                        Box::new(mbox::Reader::new(file, &name, mbox::Kind::Rd, headers))
                    }
                    Err(e) => {
                        let damage = Damage { source: name, offset: None, what: e.to_string() };
                        Box::new(std::iter::once(Err(damage)))
                    }
                }
            }
        }
    }
}

fn import_all(
    args: &ImportArgs,
    sources: Vec<Source>,
    place: &mut Place,
    out: &Output,
) -> Result<Summary, Failed> {
    if args.create {
        create(args, place)?;
    }
    let bar = out.progress(sources.iter().map(Source::count).sum(), "importing");
    let mut summary = Summary::default();
    let mut batch = Batch::default();
    for incoming in sources.into_iter().flat_map(Source::messages) {
        match incoming {
            Ok(incoming) => batch.add(incoming),
            Err(damage) => {
                let source = damage.source.clone();
                summary.failed.push(Refused { source, reason: damage.reason() });
                bar.inc(1);
            }
        }
        if batch.is_full() {
            bar.inc(batch.messages.len() as u64);
            store(std::mem::take(&mut batch), args, place, &mut summary)?;
        }
    }
    store(batch, args, place, &mut summary)?;
    bar.finish_and_clear();
    Ok(summary)
}

fn create(args: &ImportArgs, place: &mut Place) -> Result<(), Failed> {
    let request = Request::MailboxCreate {
        user: args.user.clone(),
        name: args.mailbox.clone(),
        special_use: Vec::new(),
    };
    match place.ask(request) {
        Err(error) if error.kind() == Kind::Exists => Ok(()),
        other => other.map(drop),
    }
}

fn read_file(path: &Path) -> Result<Found, Damage> {
    let source = path.display().to_string();
    let damage =
        |e: std::io::Error| Damage { source: source.clone(), offset: None, what: e.to_string() };
    let file = File::open(path).map_err(damage)?;
    let modified = file.metadata().and_then(|m| m.modified()).ok();
    let since = modified.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let mut found = read(source.clone(), file)?;
    found.internal_date = since.and_then(|d| i64::try_from(d.as_secs()).ok());
    Ok(found)
}

fn read(source: String, mut from: impl Read) -> Result<Found, Damage> {
    let mut octets = Vec::new();
    let damage = |what: String| Damage { source: source.clone(), offset: None, what };
    match from.read_to_end(&mut octets) {
        Ok(0) => Err(damage("empty, expected a message".to_owned())),
        Ok(_) => Ok(Found { source, octets, ..Found::default() }),
        Err(e) => Err(damage(e.to_string())),
    }
}

/// Messages that are stored together: one commit for all of them.
#[derive(Default)]
struct Batch {
    messages: Vec<Found>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, incoming: Found) {
        self.bytes += incoming.octets.len();
        self.messages.push(incoming);
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES_HIGH
    }
}

/// Stores a batch; one that is refused, message by message, to find out which it is that is
/// refused. An error ends the import: no further message would fare better.
fn store(
    batch: Batch,
    args: &ImportArgs,
    place: &mut Place,
    summary: &mut Summary,
) -> Result<(), Failed> {
    if batch.messages.is_empty() {
        return Ok(());
    }
    match ask(&batch.messages, args, place) {
        Ok(()) => summary.imported += batch.messages.len() as u64,
        Err(failed) if failed.kind() == Kind::Temporary => return Err(failed),
        Err(_) => {
            for incoming in batch.messages {
                match ask(std::slice::from_ref(&incoming), args, place) {
                    Ok(()) => summary.imported += 1,
                    Err(failed) => {
                        let reason = failed.to_string();
                        summary.failed.push(Refused { source: incoming.source, reason });
                    }
                }
            }
        }
    }
    Ok(())
}

fn ask(messages: &[Found], args: &ImportArgs, place: &mut Place) -> Result<(), Failed> {
    let line = |incoming: &Found| ImportMessage {
        bytes: incoming.octets.len() as u64,
        flags: args.flags.iter().chain(&incoming.flags).cloned().collect(),
        internal_date: incoming.internal_date,
        uid: None,
        annotations_bytes: 0,
    };
    let request = Request::Import {
        user: args.user.clone(),
        mailbox: args.mailbox.clone(),
        messages: messages.iter().map(line).collect(),
        uid_next: None,
    };
    let empty: Box<dyn Read + '_> = Box::new(std::io::empty());
    let mut body =
        messages.iter().fold(empty, |body, m| Box::new(body.chain(m.octets.as_slice())) as _);
    match place.ask_with(request, &mut body)? {
        Reply::Imported { .. } => Ok(()),
        other => Err(crate::store::unexpected(&other)),
    }
}
