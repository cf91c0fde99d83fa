//! `cursus handback cyrus --watch`: Cyrus's files of mailboxes kept current while Cursus serves, so that
//! the hand-back itself has little left to write.
//!
//! A pass asks the server for the figures of all mailboxes and writes those whose UIDVALIDITY, UIDNEXT or
//! HIGHESTMODSEQ are others than in the [ledger](super::ledger), one after another: header, index, cache,
//! annotations of messages. Lists (`mailboxes.db`, subscriptions, quotas, …), rights that changed alone
//! and directories with another place are for the hand-back. No directory is made: one that is gone was
//! deleted or renamed meanwhile, and the next pass sees that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use admin::{Client, Reply, Request};
use config::Config;
use serde_json::json;

use super::hand_back::Giver;
use super::ledger::Ledger;
use super::locks;
use super::now;
use super::plan::Planner;
use super::site::Site;
use crate::failure::{Failed, Kind};
use crate::output::Output;
use crate::place;
use crate::store::unexpected;

/// What a pass wrote.
struct Passed {
    mailboxes: u64,
    messages: u64,
    /// All mailboxes that there are.
    of: usize,
    findings: Vec<String>,
}

/// Makes passes until the process is ended.
pub fn watch(
    imapd_conf: &Path,
    interval: Duration,
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    let partitions =
        Planner::new(&mut Site::read(imapd_conf)?, config, now(), false)?.partitions().clone();
    let mut ledger = Ledger::read(config);
    let mut is_waiting = false;
    loop {
        let (conf, config_dir, _) = Site::whereabouts(imapd_conf)?;
        if let Some(who) = locks::server(&conf, imapd_conf, &config_dir) {
            return Err(Failed::new(Kind::Temporary, format!("{who}: stop Cyrus before")));
        }
        match place::connect(config)? {
            Some(mut client) => {
                is_waiting = false;
                let began = Instant::now();
                match pass(&mut client, imapd_conf, config, &partitions, &mut ledger) {
                    Ok(Passed { mailboxes: 0, .. }) => {}
                    Ok(passed) => tell(&passed, began.elapsed(), out),
                    // The server was stopped, the disk is full: the next pass may do better.
                    Err(error) => eprintln!("cursus: {error}"),
                }
            }
            None if is_waiting => {}
            None => {
                is_waiting = true;
                eprintln!("cursus: cursusd does not run: waiting for it");
            }
        }
        std::thread::sleep(interval);
    }
}

fn tell(passed: &Passed, took: Duration, out: &Output) {
    let Passed { mailboxes, messages, of, findings } = passed;
    for finding in findings {
        eprintln!("cursus: {finding}");
    }
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let value = json!({
        "mailboxes": mailboxes, "messages": messages, "of": of, "milliseconds": milliseconds,
    });
    let seconds = took.as_secs_f64();
    out.line(
        &value,
        &format!("{mailboxes} of {of} mailboxes written, {messages} messages, {seconds:.1} s"),
    );
}

fn pass(
    client: &mut Client,
    imapd_conf: &Path,
    config: &Config,
    partitions: &BTreeMap<String, String>,
    ledger: &mut Ledger,
) -> Result<Passed, Failed> {
    let lines = match client.ask(Request::Mailboxes { user: None })? {
        Reply::Mailboxes(lines) => lines,
        other => return Err(unexpected(&other)),
    };
    let mut changed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in &lines {
        let is_current = ledger.get(&line.user, &line.name).is_some_and(|there| {
            there.uid_validity == line.uid_validity
                && there.uid_next == line.uid_next
                && there.modseq_highest == line.modseq_highest
        });
        if !is_current {
            changed.entry(&line.user).or_default().insert(&line.name);
        }
    }
    let mut passed = Passed { mailboxes: 0, messages: 0, of: lines.len(), findings: Vec::new() };
    if changed.is_empty() {
        return Ok(passed);
    }
    let site = Site::read(imapd_conf)?;
    let mut giver = Giver::new(&site, config, now(), partitions);
    let mut written = Ok(());
    for (user, names) in changed {
        written = giver.follow(client, user, &names, ledger);
        if written.is_err() {
            break;
        }
    }
    let there: BTreeSet<(&str, &str)> =
        lines.iter().map(|line| (line.user.as_str(), line.name.as_str())).collect();
    ledger.mailboxes.retain(|(user, name), _| there.contains(&(user.as_str(), name.as_str())));
    // What was written counts, also where something else could not be.
    ledger.write().map_err(|reason| Failed::new(Kind::Incomplete, reason))?;
    written?;
    passed.mailboxes = giver.done.mailboxes;
    passed.messages = giver.done.messages;
    passed.findings = std::mem::take(&mut giver.done.findings);
    Ok(passed)
}
