//! `cursus archive …` and `cursus backup`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use admin::{Reply, Request};
use config::Config;
use engine::archive::{self, ArchiveReport};
use engine::io::Storage;
use engine::io::blocking::Blocking;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::{ArchiveCommand, BackupArgs};
use crate::failure::{Failed, Kind};
use crate::output::{Output, Table, human_bytes};
use crate::place::{self, Place};
use crate::store::unexpected;

/// How often the progress of a backup is asked for.
const PROGRESS_EVERY: Duration = Duration::from_millis(300);

/// Does `cursus archive …`.
pub fn run(command: &ArchiveCommand, config: &Config, out: &Output) -> Result<(), Failed> {
    match command {
        ArchiveCommand::Status => status(config, out),
        ArchiveCommand::Take => take(config, out),
        ArchiveCommand::Verify { dir, quick } => verify(&directory(dir, config)?, !quick, out),
        ArchiveCommand::Prune { before, dir, dry_run } => {
            prune(before, &directory(dir, config)?, *dry_run, out)
        }
    }
}

fn directory(given: &Option<PathBuf>, config: &Config) -> Result<PathBuf, Failed> {
    given.clone().or_else(|| config.archive.directory.clone()).ok_or_else(|| {
        Failed::new(Kind::Config, "no archive.directory is configured: name one with --dir")
    })
}

/// Microseconds since 1970 of a time as RFC 3339 writes it.
pub(crate) fn moment(text: &str) -> Result<u64, Failed> {
    let parsed = OffsetDateTime::parse(text, &Rfc3339);
    let micros = parsed.map(|time| time.unix_timestamp_nanos() / 1000);
    match micros {
        Ok(micros) => Ok(u64::try_from(micros).unwrap_or(0)),
        Err(error) => {
            let expected = "expected RFC 3339 with a zone, such as 2026-11-24T04:30:00+01:00";
            Err(Failed::new(Kind::Data, format!("time {text:?}: {error}; {expected}")))
        }
    }
}

/// A time for people, in UTC.
pub(crate) fn shown(us: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000);
    match (us, time.map(|time| time.format(&Rfc3339))) {
        (1.., Ok(Ok(text))) => text,
        _ => "-".to_owned(),
    }
}

pub(crate) fn failed(error: engine::Error) -> Failed {
    let kind = match &error {
        engine::Error::Corrupt { .. } | engine::Error::NotAllowed(_) => Kind::Data,
        engine::Error::Locked(_) => Kind::Unreachable,
        _ => Kind::Incomplete,
    };
    Failed::new(kind, error.to_string())
}

fn status(config: &Config, out: &Output) -> Result<(), Failed> {
    let mut place = Place::find(config)?;
    let asked = place.ask(Request::Status);
    let closed = place.close();
    let store = match asked? {
        Reply::Status(status) => status.store,
        other => return Err(unexpected(&other)),
    };
    let archive = &store["archive"];
    if archive.is_null() {
        return Err(Failed::new(Kind::Config, "no archive is configured"));
    }
    out.table(archive, || {
        let number = |key: &str| archive[key].as_u64().unwrap_or(0);
        let row = |key: &str, value: String| vec![key.to_owned(), value];
        let text = |key: &str| archive[key].as_str().unwrap_or("none").to_owned();
        let mut rows = vec![
            row("target", text("target")),
            row("alarm", text("alarm")),
            row("taken until", shown(number("taken_time_us"))),
            row("segments", number("segments").to_string()),
            row("messages", number("messages").to_string()),
            row("message bytes", human_bytes(number("message_bytes"))),
            row("absent messages", number("absent").to_string()),
            row("waiting segments", number("pending_segments").to_string()),
            row("waiting bytes", human_bytes(number("pending_bytes"))),
        ];
        for gap in archive["gaps"].as_array().into_iter().flatten() {
            let lsn = |key: &str| gap[key].as_u64().unwrap_or(0);
            let (first, end, until) = (lsn("first_lsn"), lsn("end_lsn"), lsn("last_time_us"));
            let reason = gap["reason"].as_str().unwrap_or("");
            let text = format!("LSN {first} to {end}, until {}: {reason}", shown(until));
            rows.push(row("gap", text));
        }
        Table { headings: &["what", "value"], rows }
    });
    closed?;
    match archive["alarm"].as_str() {
        None => Ok(()),
        Some(alarm) => Err(Failed::new(Kind::Incomplete, format!("archive: {alarm}"))),
    }
}

fn take(config: &Config, out: &Output) -> Result<(), Failed> {
    let mut place = Place::find(config)?;
    let asked = place.ask(Request::Checkpoint).and_then(|_| place.ask(Request::ArchiveNow));
    let closed = place.close();
    let all = match asked? {
        Reply::Archived { all } => all,
        other => return Err(unexpected(&other)),
    };
    let text = if all { "nothing waits for the archive" } else { "some still waits" };
    out.line(&serde_json::json!({ "all": all }), text);
    closed
}

fn verify(dir: &Path, contents: bool, out: &Output) -> Result<(), Failed> {
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    let report = archive::verify(&storage, dir, contents).map_err(failed)?;
    out.line(&report, &described(&report));
    Failed::unless_clean(report.findings.len() + report.gaps.len())
}

fn described(report: &ArchiveReport) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text += &format!("{finding}\n");
    }
    for gap in &report.gaps {
        text += &format!("{gap}\n");
    }
    for (lsn, from) in &report.bases {
        text += &format!("base backup at LSN {lsn}, serves from {}\n", shown(*from));
    }
    let (segments, messages) = (report.segments, report.messages);
    let (first, last) = (shown(report.first_time_us), shown(report.last_time_us));
    let bytes = human_bytes(report.message_bytes);
    text + &format!("{segments} segments, {first} to {last}; {messages} messages, {bytes}")
}

fn prune(before: &str, dir: &Path, dry_run: bool, out: &Output) -> Result<(), Failed> {
    let before = moment(before)?;
    let storage: Arc<dyn Storage> = Arc::new(Blocking::new());
    let report = archive::prune(&storage, dir, before, dry_run).map_err(failed)?;
    let done = if dry_run { "would remove" } else { "removed" };
    let (segments, bases, messages) = (report.segments, report.bases, report.messages);
    let bytes = human_bytes(report.bytes);
    let mut text =
        format!("{done} {segments} segments, {bases} backups, {messages} messages, {bytes}");
    if report.restorable_us > 0 {
        text += &format!("; restores reach back to {}", shown(report.restorable_us));
    }
    out.line(&report, &text);
    Ok(())
}

/// Does `cursus backup`.
pub fn backup(args: &BackupArgs, config: &Config, out: &Output) -> Result<(), Failed> {
    let to = std::path::absolute(&args.to)
        .map_err(|e| Failed::new(Kind::Data, format!("{}: {e}", args.to.display())))?;
    let users = std::path::absolute(config.users_file()).ok().filter(|file| file.is_file());
    let request = Request::Backup {
        to: to.to_string_lossy().into_owned(),
        bytes_per_second: args.bytes_per_second,
        users_file: users.map(|file| file.to_string_lossy().into_owned()),
    };
    let mut place = Place::find(config)?;
    let watched = place::connect(config)?;
    let done = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        if let Some(client) = watched {
            scope.spawn(|| watch(client, &done, out));
        }
        let asked = place.ask(request);
        done.store(true, Ordering::Release);
        asked
    });
    let closed = place.close();
    let report = match asked? {
        Reply::BackedUp(report) => report,
        other => return Err(unexpected(&other)),
    };
    let number = |key: &str| report[key].as_u64().unwrap_or(0);
    let text = format!(
        "{} users, {} mailboxes, {} messages; {} messages ({}) copied into {}; serves from {}",
        number("users"),
        number("mailboxes"),
        number("messages"),
        number("messages_copied"),
        human_bytes(number("bytes_copied")),
        report["dir"].as_str().unwrap_or(""),
        shown(number("consistent_us")),
    );
    out.line(&report, &text);
    let findings: Vec<&Value> = report["findings"].as_array().into_iter().flatten().collect();
    for finding in &findings {
        eprintln!("cursus: {}", finding.as_str().unwrap_or(""));
    }
    match findings.len() {
        0 => closed,
        n => Err(Failed::new(Kind::Incomplete, format!("{n} things in the store are damaged"))),
    }
}

/// Shows how far the backup is, on a connection of its own.
fn watch(mut client: admin::Client, done: &AtomicBool, out: &Output) {
    let bar = out.progress(1, "backup");
    while !done.load(Ordering::Acquire) {
        std::thread::sleep(PROGRESS_EVERY);
        let Ok(reply) = client.ask(Request::BackupProgress) else { break };
        let Reply::BackupProgress { phase, mailboxes, mailboxes_total, messages, bytes } = reply
        else {
            break;
        };
        bar.set_length(mailboxes_total.max(1));
        bar.set_position(mailboxes);
        bar.set_message(format!("{phase}: {messages} messages, {}", human_bytes(bytes)));
    }
    bar.finish_and_clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_zone() {
        assert_eq!(moment("1970-01-01T01:00:01.5+01:00").unwrap(), 1_500_000);
        assert!(moment("2026-11-24 04:30").unwrap_err().to_string().contains("RFC 3339"));
        assert_eq!(shown(1_000_000), "1970-01-01T00:00:01Z");
        assert_eq!(shown(0), "-");
    }
}
