//! `cursus handback cyrus --watch`: Cyrus's files of mailboxes kept current while Cursus serves, so that
//! the hand-back itself has little left to write.
//!
//! A pass asks the server for the figures of everybody who has mailboxes that changed since the pass
//! before, and writes those mailboxes whose UIDVALIDITY, UIDNEXT or HIGHESTMODSEQ are others than in the
//! [ledger](super::ledger), one after another: header, index, cache, annotations of messages. So it costs
//! what changed; the first one looks at all. Lists (`mailboxes.db`, subscriptions, quotas, …), rights that
//! changed alone and directories with another place are for the hand-back. No directory is made: one that
//! is gone was deleted or renamed meanwhile, and the next pass sees that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use admin::wire::MailboxLine;
use admin::{Client, Reply, Request};
use config::Config;
use engine::Moment;
use serde_json::json;

use super::hand_back::Giver;
use super::ledger::{FileStamp, Ledger};
use super::locks;
use super::now;
use super::plan;
use super::site::Site;
use crate::failure::{Failed, Kind};
use crate::output::Output;
use crate::place;
use crate::store::unexpected;

/// What a pass wrote.
struct Passed {
    mailboxes: u64,
    messages: u64,
    /// Mailboxes that were looked at.
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
    let mut ledger = Ledger::read(config);
    let mut is_waiting = false;
    loop {
        // Nobody changes Cyrus's lists while it does not run, as a rule.
        let (conf, config_dir, list) = Site::whereabouts(imapd_conf)?;
        let site = Site::read(imapd_conf)?;
        let lists =
            [imapd_conf.to_owned(), list, site.database("annotation_db_path", "annotations.db")];
        let stamps = || lists.each_ref().map(|path| FileStamp::of(path));
        let read = stamps();
        let mut watcher = Watcher {
            giver: Giver::new(&site, config, now(), &plan::partitions(&site, config)?),
            since: None,
            again: BTreeSet::new(),
        };
        while stamps() == read {
            if let Some(who) = locks::server(&conf, imapd_conf, &config_dir) {
                return Err(Failed::new(Kind::Temporary, format!("{who}: stop Cyrus before")));
            }
            match place::connect(config)? {
                Some(mut client) => {
                    is_waiting = false;
                    let began = Instant::now();
                    match watcher.pass(&mut client, &mut ledger) {
                        Ok(Passed { mailboxes: 0, findings, .. }) if findings.is_empty() => {}
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

/// Who makes passes.
struct Watcher<'a> {
    giver: Giver<'a>,
    /// What was written down before this moment of the store was looked at.
    since: Option<Moment>,
    /// Whose mailboxes could not all be looked at or written, and are next time.
    again: BTreeSet<String>,
}

impl Watcher<'_> {
    fn pass(&mut self, client: &mut Client, ledger: &mut Ledger) -> Result<Passed, Failed> {
        let also = self.again.iter().cloned().collect();
        let (moment, users, lines) =
            match client.ask(Request::MailboxesChanged { since: self.since, also })? {
                Reply::MailboxesChanged { now, users, mailboxes } => (now, users, mailboxes),
                other => return Err(unexpected(&other)),
            };
        let users = users.unwrap_or_else(|| {
            let listed = lines.iter().map(|line| line.user.clone());
            listed.chain(ledger.users().map(str::to_owned)).collect()
        });
        self.since = Some(moment);
        self.again.clone_from(&users);
        let mut by_user: BTreeMap<&str, Vec<&MailboxLine>> =
            users.iter().map(|user| (user.as_str(), Vec::new())).collect();
        for line in &lines {
            by_user.entry(&line.user).or_default().push(line);
        }
        self.giver.begin(now());
        let mut written = Ok(true);
        for (user, lines) in by_user {
            ledger.retain(user, &lines.iter().map(|line| line.name.as_str()).collect());
            let changed: BTreeSet<&str> = lines
                .iter()
                .filter(|line| !is_current(line, ledger))
                .map(|line| line.name.as_str())
                .collect();
            written = match changed.is_empty() {
                true => Ok(true),
                false => self.giver.follow(client, user, &changed, ledger),
            };
            match written {
                Ok(true) => drop(self.again.remove(user)),
                Ok(false) => {}
                Err(_) => break,
            }
        }
        // What was written counts, also where something else could not be.
        ledger.write().map_err(|reason| Failed::new(Kind::Incomplete, reason))?;
        written?;
        let done = std::mem::take(&mut self.giver.done);
        Ok(Passed {
            mailboxes: done.mailboxes,
            messages: done.messages,
            of: lines.len(),
            findings: done.findings,
        })
    }
}

fn is_current(line: &MailboxLine, ledger: &Ledger) -> bool {
    ledger.get(&line.user, &line.name).is_some_and(|there| {
        there.uid_validity == line.uid_validity
            && there.uid_next == line.uid_next
            && there.modseq_highest == line.modseq_highest
    })
}
