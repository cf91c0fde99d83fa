//! `cursus export`: mail into files of other programs.
//!
//! A file that is there is never written over: an mbox is written beside its place and renamed when it
//! is whole; directories have to be without messages.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use admin::wire::{MESSAGE_LINES_MAX, MessageLine};
use admin::{Reply, Request};
use config::Config;
use serde::Serialize;

use crate::cli::{ExportFiles, FileForm};
use crate::failure::{Failed, Kind};
use crate::mailfiles::{dbox, eml, maildir, mbox, mh};
use crate::output::{Output, Table, human_bytes};
use crate::place::Place;
use crate::store::unexpected;

/// Messages asked for at once.
const READ_MESSAGES: usize = 32;

/// What was written of one mailbox.
#[derive(Serialize)]
struct Written {
    mailbox: String,
    path: String,
    messages: u64,
    bytes: u64,
    /// What will not be read back as it was.
    changed: Vec<String>,
}

/// Where messages of one mailbox go.
enum Writer {
    Mbox(mbox::Writer<BufWriter<File>>, PathBuf, PathBuf),
    Maildir(maildir::Writer),
    Mh(mh::Writer),
    Eml(eml::Writer),
    Dbox(dbox::Writer),
    Nowhere,
}

/// Does `cursus export …`.
pub fn run(args: &ExportFiles, config: &Config, out: &Output) -> Result<(), Failed> {
    let mut place = Place::find(config)?;
    let done = all(args, &mut place, out);
    let closed = place.close();
    let (written, failures) = done?;
    for one in &written {
        for changed in &one.changed {
            eprintln!("cursus: {} {changed}", one.mailbox);
        }
    }
    let row = |one: &Written| {
        let (messages, bytes) = (one.messages.to_string(), human_bytes(one.bytes));
        vec![one.mailbox.clone(), one.path.clone(), messages, bytes]
    };
    out.table(&written, || Table {
        headings: &["mailbox", "path", "#messages", "#size"],
        rows: written.iter().map(row).collect(),
    });
    match failures.len() {
        0 => closed,
        n => {
            failures.iter().for_each(|failed| eprintln!("cursus: {failed}"));
            Err(Failed::new(Kind::Incomplete, format!("{n} mailboxes were not exported")))
        }
    }
}

fn all(
    args: &ExportFiles,
    place: &mut Place,
    out: &Output,
) -> Result<(Vec<Written>, Vec<String>), Failed> {
    let lines = match place.ask(Request::Mailboxes { user: Some(args.user.clone()) })? {
        Reply::Mailboxes(lines) => lines,
        other => return Err(unexpected(&other)),
    };
    let mut names: Vec<String> = lines.iter().map(|line| line.name.clone()).collect();
    if !args.mailbox.is_empty() {
        if let Some(missing) = args.mailbox.iter().find(|name| !names.contains(name)) {
            return Err(Failed::new(Kind::Data, format!("{} has no mailbox {missing}", args.user)));
        }
        names.retain(|name| args.mailbox.contains(name));
    }
    let wanted = lines.iter().filter(|line| names.contains(&line.name));
    let bar = out.progress(wanted.map(|line| u64::from(line.messages)).sum(), "exporting");
    let (mut written, mut failures) = (Vec::new(), Vec::new());
    for name in &names {
        match one(args, place, name, &bar) {
            Ok(done) => written.push(done),
            // What is wrong with one mailbox's files is not wrong with the others'.
            Err(failed) if failed.kind() == Kind::Data => {
                failures.push(format!("{name}: {failed}"))
            }
            Err(failed) => return Err(failed),
        }
    }
    bar.finish_and_clear();
    Ok((written, failures))
}

/// A mailbox's name as a path below a directory.
fn below(dir: &Path, name: &str) -> Result<PathBuf, Failed> {
    if name.split('/').any(|level| level.starts_with('.') || level.contains('\0')) {
        return Err(Failed::new(Kind::Data, "a level of its name begins with a dot"));
    }
    Ok(name.split('/').fold(dir.to_owned(), |path, level| path.join(level)))
}

fn refused(path: &Path, error: std::io::Error) -> Failed {
    let kind = match error.kind() {
        std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::InvalidInput => Kind::Data,
        _ => Kind::Incomplete,
    };
    Failed::new(kind, format!("{}: {error}", path.display()))
}

fn open(args: &ExportFiles, name: &str) -> Result<(Writer, PathBuf), Failed> {
    let kind = match args.form {
        FileForm::Mbox => mbox::Kind::O,
        FileForm::Mboxrd => mbox::Kind::Rd,
        FileForm::Mboxcl => mbox::Kind::Cl,
        FileForm::Mboxcl2 => mbox::Kind::Cl2,
        FileForm::Maildir => {
            let folder = (name != "INBOX" && args.mailbox.len() != 1).then_some(name);
            let bad = |e| refused(&args.to, e);
            let path = args.to.clone();
            return match args.dry_run {
                true => Ok((Writer::Nowhere, path)),
                false => Ok((
                    Writer::Maildir(maildir::Writer::new(&args.to, folder).map_err(bad)?),
                    path,
                )),
            };
        }
        FileForm::Dbox => {
            let bad = |e| refused(&args.to, e);
            let path = dbox::Writer::place(&args.to, name).map_err(bad)?;
            let bad = |e| refused(&path, e);
            let writer = match args.dry_run {
                true => Writer::Nowhere,
                false => Writer::Dbox(dbox::Writer::new(&args.to, name).map_err(bad)?),
            };
            return Ok((writer, path));
        }
        FileForm::Mh | FileForm::Eml => {
            let path = match args.mailbox.len() {
                1 => args.to.clone(),
                _ => below(&args.to, name)?,
            };
            let bad = |e| refused(&path, e);
            let writer = match (args.dry_run, args.form) {
                (true, _) => Writer::Nowhere,
                (false, FileForm::Mh) => Writer::Mh(mh::Writer::new(&path).map_err(bad)?),
                (false, _) => Writer::Eml(eml::Writer::new(&path).map_err(bad)?),
            };
            return Ok((writer, path));
        }
    };
    let path = match args.mailbox.len() == 1 && !args.to.is_dir() {
        true => args.to.clone(),
        false => {
            let path = below(&args.to, name)?;
            path.with_file_name(format!(
                "{}.mbox",
                path.file_name().unwrap_or_default().to_string_lossy()
            ))
        }
    };
    if args.dry_run {
        return Ok((Writer::Nowhere, path));
    }
    let bad = |e| refused(&path, e);
    if path.exists() {
        return Err(bad(std::io::ErrorKind::AlreadyExists.into()));
    }
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(bad)?;
    }
    let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = path.with_file_name(format!(".{file_name}.part"));
    let file = File::create(&beside).map_err(bad)?;
    let writer = mbox::Writer::new(BufWriter::new(file), kind, args.status);
    Ok((Writer::Mbox(writer, beside, path.clone()), path))
}

fn one(
    args: &ExportFiles,
    place: &mut Place,
    name: &str,
    bar: &indicatif::ProgressBar,
) -> Result<Written, Failed> {
    let (mut writer, path) = open(args, name)?;
    let mut written = Written {
        mailbox: name.to_owned(),
        path: path.display().to_string(),
        messages: 0,
        bytes: 0,
        changed: Vec::new(),
    };
    let mut above = 0;
    let numbers = loop {
        let (user, mailbox) = (args.user.clone(), name.to_owned());
        let limit = MESSAGE_LINES_MAX;
        let request = Request::Messages { user, mailbox, above, limit, message_ids: false };
        let (numbers, messages, more) = match place.ask(request)? {
            Reply::Messages { uid_validity, uid_next, messages, more } => {
                ((uid_validity, uid_next), messages, more)
            }
            other => return Err(unexpected(&other)),
        };
        for chunk in messages.chunks(READ_MESSAGES) {
            match &mut writer {
                Writer::Nowhere => {
                    written.messages += chunk.len() as u64;
                    written.bytes += chunk.iter().map(|one| one.size).sum::<u64>();
                }
                writer => copy(args, place, name, chunk, writer, &mut written)?,
            }
            bar.inc(chunk.len() as u64);
        }
        match messages.last() {
            Some(last) if more => above = last.uid,
            _ => break numbers,
        }
    };
    let bad = |e| refused(&path, e);
    match writer {
        Writer::Mbox(writer, beside, path) => {
            let file = writer.finish().map_err(bad)?;
            file.get_ref().sync_all().map_err(bad)?;
            // A name that came meanwhile stays.
            std::fs::hard_link(&beside, &path).map_err(bad)?;
            std::fs::remove_file(&beside).map_err(bad)?;
        }
        Writer::Maildir(writer) => writer.finish().map_err(bad)?,
        Writer::Mh(writer) => writer.finish().map_err(bad)?,
        Writer::Dbox(writer) => writer.finish(numbers).map_err(bad)?,
        Writer::Eml(_) | Writer::Nowhere => {}
    }
    Ok(written)
}

fn copy(
    args: &ExportFiles,
    place: &mut Place,
    name: &str,
    chunk: &[MessageLine],
    writer: &mut Writer,
    written: &mut Written,
) -> Result<(), Failed> {
    let uids: Vec<u32> = chunk.iter().map(|line| line.uid).collect();
    // Trouble with our file must not break off what the server sends.
    let mut trouble = None;
    place.read((&args.user, name), &uids, &mut |at, _, from| {
        let Some(line) = chunk.get(at).filter(|_| trouble.is_none()) else { return Ok(()) };
        let mut octets = Vec::new();
        from.read_to_end(&mut octets)?;
        match writer.add(line, &octets) {
            Ok(changed) => {
                let told = changed.map(|changed| format!("UID {}: {changed}", line.uid));
                written.changed.extend(told);
                written.messages += 1;
                written.bytes += octets.len() as u64;
            }
            Err(error) => trouble = Some(error),
        }
        Ok(())
    })?;
    match trouble {
        Some(error) => Err(refused(Path::new(&written.path), error)),
        None => Ok(()),
    }
}

impl Writer {
    fn add(&mut self, line: &MessageLine, octets: &[u8]) -> std::io::Result<Option<&'static str>> {
        match self {
            Writer::Mbox(writer, ..) => writer.add(octets, &line.flags, line.internal_date),
            Writer::Maildir(writer) => writer.add(octets, &line.flags, line.internal_date),
            Writer::Mh(writer) => writer.add(octets, &line.flags, line.internal_date),
            Writer::Dbox(writer) => writer.add(line, octets),
            Writer::Eml(writer) => writer.add(line.uid, octets, line.internal_date).map(|()| None),
            Writer::Nowhere => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_directory() {
        let dir = Path::new("/x");
        assert_eq!(below(dir, "Work/Old").unwrap(), Path::new("/x/Work/Old"));
        for name in ["../x", "a/../b", ".hidden", "a/.b"] {
            assert!(below(dir, name).is_err(), "{name}");
        }
    }
}
