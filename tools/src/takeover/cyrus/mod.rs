//! `cursus takeover cyrus`, `cursus handback cyrus`, `cursus expire cyrus`.

mod archived;
pub mod dump;
pub mod expire;
pub(crate) mod given;
mod hand_back;
mod ledger;
mod lists;
pub(crate) mod locks;
pub(crate) mod look;
mod mailbox;
mod moves;
mod plan;
mod quota_roots;
mod retire;
mod site;
pub(crate) mod source;
pub mod unexpunge;
mod watch;
mod write;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use admin::unfinished::{Opener, TAKING_NAME};
use config::Config;
use engine::{AdoptionReport, Error, UserToAdopt};
use serde::Serialize;

use crate::cli::{HandbackCyrus, TakeoverCyrus};
use crate::failure::{Failed, Kind};
use crate::output::Output;
use crate::place::{self, Opened};
use hand_back::Giver;
use ledger::Ledger;
use plan::{Planner, Read};
use site::Site;

/// What a takeover did, or would do.
#[derive(Default, Serialize)]
struct Summary {
    dry_run: bool,
    users: u64,
    mailboxes: u64,
    messages: u64,
    /// Taken over earlier.
    known: u64,
    /// Mailboxes of Cyrus's that are not for mail.
    left_alone: Vec<String>,
    /// What works otherwise from here on.
    notes: Vec<String>,
    findings: Vec<String>,
}

impl Summary {
    fn add(&mut self, report: AdoptionReport) {
        self.users += u64::from(report.mailboxes > 0);
        self.mailboxes += report.mailboxes;
        self.messages += report.messages;
        self.known += report.known;
        self.findings.extend(report.findings);
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Refuses to go on beside a server of ours.
fn stopped(config: &Config) -> Result<(), Failed> {
    match place::connect(config)? {
        None => Ok(()),
        Some(_) => Err(Failed::new(Kind::Temporary, "cursusd runs: stop it before")),
    }
}

/// Makes the state directory and an empty users file, where they are missing; and what keeps others
/// from the store until [`end_state`].
fn begin_state(config: &Config) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::create_dir_all(&config.state_dir)?;
    let mut options = std::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(config.users_file()) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    File::create(config.state_dir.join(TAKING_NAME))?.sync_all()?;
    File::open(&config.state_dir)?.sync_all()
}

/// All users have been looked at: others may open the store.
fn end_state(config: &Config) -> Result<(), Failed> {
    let file = config.state_dir.join(TAKING_NAME);
    std::fs::remove_file(&file)
        .map_err(|e| Failed::new(Kind::Incomplete, format!("{}: {e}", file.display())))
}

/// Does `cursus takeover cyrus`.
pub fn takeover(
    args: &TakeoverCyrus,
    imapd_conf: &Path,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    stopped(config)?;
    let (conf, config_dir, list) = Site::whereabouts(imapd_conf)?;
    let mut notes = Vec::new();
    let _held = if args.dry_run {
        let running = locks::server(&conf, imapd_conf, &config_dir);
        notes.extend(running.map(|who| format!("{who}: what it changes from here on is not seen")));
        None
    } else {
        Some(locks::take(&conf, imapd_conf, &config_dir, &list)?)
    };
    let mut site = Site::read(imapd_conf)?;
    if !args.dry_run && retire::is_retiring(config) {
        retire::retire(config, &site, now())?;
    }
    notes.extend(denied(&site, config)?);
    let planner = Planner::new(&mut site, config, now(), args)?;
    let plan = planner.plan();
    let mut summary = Summary {
        notes,
        dry_run: args.dry_run,
        left_alone: plan.left_alone,
        findings: plan.findings,
        ..Summary::default()
    };
    let opened = if args.dry_run {
        None
    } else {
        begin_state(config).map_err(|error| {
            let message = format!("{}: {error}", config.state_dir.display());
            Failed::new(Kind::Unreachable, message)
        })?;
        Some(Opened::open_by(config, Opener::Takeover)?)
    };
    let bar = out.progress(plan.users.values().map(|all| all.len() as u64).sum(), "mailboxes");
    for (name, mailboxes) in &plan.users {
        // One after another: nobody's messages stay in memory.
        let Read { user, findings, notes } = planner.user(name, mailboxes);
        summary.findings.extend(findings);
        summary.notes.extend(notes);
        match &opened {
            None => {
                summary.users += 1;
                summary.mailboxes += user.mailboxes.len() as u64;
                summary.messages += messages(&user);
            }
            Some(opened) => match opened.store().adopt(name, user, &mut || bar.tick()) {
                Ok(report) => summary.add(report),
                Err(error) => {
                    let hint = match error {
                        Error::MailboxExists => {
                            ", made here before, and not out of Cyrus's: begin with an empty state_dir"
                        }
                        _ => "",
                    };
                    summary.findings.push(format!("{name}: not taken over: {error}{hint}"));
                }
            },
        }
        bar.inc(mailboxes.len() as u64);
    }
    bar.finish_and_clear();
    if let Some(opened) = opened {
        opened.close()?;
        end_state(config)?;
    }
    report(&summary, out)
}

/// Who is denied services by Cyrus's list, if it is not ours as well.
fn denied(site: &Site, config: &Config) -> Result<Vec<String>, Failed> {
    let path = site.database("userdeny_db_path", "user_deny.db");
    if path == config.deny_file() {
        return Ok(Vec::new());
    }
    let entries = auth::deny::read(&path);
    let entries = entries.map_err(|e| Failed::new(Kind::Data, e.to_string()))?;
    let line = |user| {
        format!(
            "{user}: in Cyrus's deny list; set auth.deny_file = {path:?}, and it is served here, too"
        )
    };
    Ok(entries.into_keys().map(line).collect())
}

fn messages(user: &UserToAdopt) -> u64 {
    user.mailboxes.iter().map(|mailbox| mailbox.messages.len() as u64).sum()
}

fn report(summary: &Summary, out: &Output) -> Result<(), Failed> {
    for finding in summary.notes.iter().chain(&summary.findings) {
        eprintln!("cursus: {finding}");
    }
    let Summary { users, mailboxes, messages, known, .. } = summary;
    let verb = if summary.dry_run { "to be taken over" } else { "taken over" };
    let mut text = format!("{users} users, {mailboxes} mailboxes, {messages} messages {verb}");
    if *known > 0 {
        text += &format!("; {known} mailboxes were before");
    }
    if !summary.left_alone.is_empty() {
        text += &format!("; {} of other types left alone", summary.left_alone.len());
    }
    out.line(summary, &text);
    Failed::unless_clean(summary.findings.len())
}

/// What a hand-back wrote.
#[derive(Default, Serialize)]
struct Given {
    users: u64,
    mailboxes: u64,
    messages: u64,
    findings: Vec<String>,
    /// Where our catalog and log are now.
    aside: std::path::PathBuf,
}

/// Does `cursus handback cyrus`.
pub fn give_back(
    args: &HandbackCyrus,
    imapd_conf: &Path,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    if args.watch {
        return watch::watch(imapd_conf, Duration::from_secs(args.interval), config, out);
    }
    stopped(config)?;
    let now = now();
    let (conf, config_dir, list) = Site::whereabouts(imapd_conf)?;
    let _held = locks::take(&conf, imapd_conf, &config_dir, &list)?;
    let site = Site::read(imapd_conf)?;
    let before = match retire::is_retiring(config) {
        true => Some(retire::retire(config, &site, now)?),
        false => retire::set_aside(config)?,
    };
    if let Some(aside) = before {
        let text = format!("all was handed back before; {} has what was here", aside.display());
        out.line(&Given { aside, ..Given::default() }, &text);
        return Ok(());
    }
    let partitions = plan::partitions(&site, config)?;
    let opened = Opened::open_by(config, Opener::HandBack)?;
    let ledger = Ledger::read(config);
    let done = Giver::new(&site, config, now, &partitions).write(opened.store(), &ledger);
    opened.close()?;
    let done = done?;
    let site = Site::read(imapd_conf)?;
    let aside = retire::retire(config, &site, now)?;
    let hand_back::Done { users, mailboxes, messages, findings } = done;
    for finding in &findings {
        eprintln!("cursus: {finding}");
    }
    let text = format!(
        "{users} users, {mailboxes} mailboxes, {messages} messages handed back; {} has what was here",
        aside.display()
    );
    let failures = findings.len();
    out.line(&Given { users, mailboxes, messages, findings, aside }, &text);
    Failed::unless_clean(failures)
}
