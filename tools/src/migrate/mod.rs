//! `cursus migrate imap`: mail of users comes over from any IMAP server, and what changes there
//! later, too.
//!
//! | module | says |
//! |---|---|
//! | [`users`] | whose mail, and how to log in for it |
//! | [`mapping`] | which folder becomes which mailbox |
//! | `account` | one user's run: plan, renames, folder by folder, new connections |
//! | `folder`, `arrivals` | one folder: flags, removals; new messages |
//! | `numbers` | UIDVALIDITY and UIDs of the source, kept |
//! | `uidls` | UIDLs of the source's POP3 |
//! | `flags`, `sharing` | flags and access control lists of the source as the target has them |
//! | [`state`] | what was done: a run that is killed is followed by one that does the rest |
//! | `target` | the store as a migration needs it |
//! | `progress`, `report`, `stop` | how far, what came of it, how far an error reaches |

mod account;
mod arrivals;
mod flags;
mod folder;
pub mod mapping;
mod numbers;
mod progress;
mod report;
mod sharing;
pub mod state;
mod stop;
mod target;
mod uidls;
pub mod users;

pub(crate) use arrivals::content_id;
pub(crate) use flags::taken as taken_flags;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::imap::{Bearer, Session};
use client::{Error, Server, Tls, pop3};
use config::Config;

use crate::cli::{MigrateCommand, MigrateImap, MigrateTls};
use crate::failure::{Failed, Kind};
use crate::output::{Output, Table};
use crate::place::{self, Place};
use account::{Planned, Run};
use folder::Choice;
use mapping::Rules;
use progress::{Progress, Throttle};
use report::UserReport;
use state::State;
use users::{Account, Master};

/// What all users' runs share.
pub struct Migration {
    server: Server,
    /// The same mail by POP3, for its UIDLs.
    pop3: Option<Server>,
    rules: Rules,
    choice: Choice,
    /// Ours, for the names that can be on them.
    partitions: Vec<engine::Partition>,
    state: State,
    progress: Progress,
    throttle: Throttle,
    retries: u32,
    acl: bool,
    subscriptions: bool,
    /// What the source shows as shared comes over, instead of users' own folders.
    shared: bool,
    /// Names here of users at the source.
    names: HashMap<String, String>,
}

/// Does `cursus migrate …`.
pub fn run(command: &MigrateCommand, config: &Config, out: &Output) -> Result<(), Failed> {
    match command {
        MigrateCommand::Imap(args) => imap(args, config, out),
    }
}

fn imap(args: &MigrateImap, config: &Config, out: &Output) -> Result<(), Failed> {
    let accounts = accounts(args)?;
    let migration = migration(args, config, &accounts, out.is_json())?;
    migration.reach()?;
    if args.dry_run {
        return dry_run(&migration, &accounts, config, out);
    }
    let reports = std::thread::scope(|scope| {
        let shown = scope.spawn(|| migration.progress.show());
        let reports = all(&migration, &accounts, args.jobs, config);
        migration.progress.end();
        shown.thread().unpark();
        reports
    })?;
    if let Some(path) = &args.report {
        report::write(path, &reports)?;
    }
    report::tell(&reports, out)
}

fn accounts(args: &MigrateImap) -> Result<Vec<Account>, Failed> {
    let first_line = |path: &PathBuf| {
        let text = users::read_secret(path)?;
        Ok::<_, Failed>(text.lines().next().unwrap_or_default().to_owned())
    };
    let master = match (&args.master_user, &args.master_password_file) {
        (Some(name), Some(file)) => {
            let (name, star) = (name.clone(), args.master_star);
            Some(Master { name, password: first_line(file)?, star })
        }
        _ => None,
    };
    let bearer = match (args.bearer, args.xoauth2) {
        (true, _) => Some(Bearer::Offered),
        (_, true) => Some(Bearer::Xoauth2),
        _ => None,
    };
    if let Some(file) = &args.users {
        return users::parse(&users::read_secret(file)?, master.as_ref(), bearer);
    }
    let Some(user) = &args.user else {
        return Err(Failed::new(Kind::Data, "expected --users or --user"));
    };
    let password = match (&master, &args.password_file) {
        (Some(_), _) => String::new(),
        (None, Some(file)) => first_line(file)?,
        (None, None) => {
            return Err(Failed::new(Kind::Data, "expected --password-file or --master-user"));
        }
    };
    let target = args.target.as_ref().unwrap_or(user);
    Ok(vec![users::account(user, &password, target, master.as_ref(), bearer)?])
}

fn migration(
    args: &MigrateImap,
    config: &Config,
    accounts: &[Account],
    quiet: bool,
) -> Result<Migration, Failed> {
    let tls = tls(args.tls);
    let port = args.port.unwrap_or(if tls == Tls::Implicit { 993 } else { 143 });
    let timeout = Duration::from_secs(args.timeout.max(1));
    let server = Server::new(&args.host, port, tls, args.tls_ca.as_deref(), args.insecure, timeout);
    let server = server.map_err(|e| Failed::new(Kind::Config, e.to_string()))?;
    let pop3 = match &args.pop3 {
        Some((host, port)) => Some(pop3_server(args, host, *port, timeout)?),
        None => None,
    };
    let state = match &args.state {
        Some(path) => path.clone(),
        None => config.state_dir.join("migrate.redb"),
    };
    let names = accounts.iter().map(|one| (one.source.clone(), one.target.clone()));
    Ok(Migration {
        server,
        pop3,
        rules: Rules {
            strip_prefix: args.strip_prefix.clone(),
            add_prefix: args.add_prefix.clone(),
            maps: args.map.clone(),
            patterns: args.regex.clone(),
            only: args.only.clone(),
            exclude: args.exclude.clone(),
            merge: args.merge,
        },
        choice: Choice {
            delete: args.delete,
            match_message_id: args.r#match.is_some(),
            keep_uids: args.keep_uids,
        },
        partitions: admin::store::store_config(config, "localhost").partitions,
        state: State::open(&state)?,
        progress: Progress::new(accounts.len() as u64, quiet),
        throttle: Throttle::new(args.max_rate),
        retries: args.retries,
        acl: !args.no_acl,
        subscriptions: !args.no_subscriptions,
        shared: args.shared,
        names: names.collect(),
    })
}

impl Migration {
    /// Sees that the source answers, and by a certificate that is trusted: else that is said once, and
    /// not of each user after all tries.
    fn reach(&self) -> Result<(), Failed> {
        let imap = Session::open(&self.server).map(Session::log_out).err();
        let pop3 = self.pop3.as_ref().and_then(|server| pop3::Session::open(server).err());
        for (server, error) in [(Some(&self.server), imap), (self.pop3.as_ref(), pop3)] {
            let (Some(Server { host, port, .. }), Some(error)) = (server, error) else { continue };
            let kind = match &error {
                Error::Connection(_) => Kind::Unreachable,
                Error::Tls(_) => Kind::Config,
                // Of the moment: users' runs try again.
                _ => continue,
            };
            let told = error.to_string();
            let place = format!("{host}:{port}");
            let message = match told.starts_with(&place) {
                true => format!("source {told}"),
                false => format!("source {place}: {told}"),
            };
            return Err(Failed::new(kind, message));
        }
        Ok(())
    }
}

fn tls(wanted: MigrateTls) -> Tls {
    match wanted {
        MigrateTls::Implicit => Tls::Implicit,
        MigrateTls::Starttls => Tls::StartTls,
        MigrateTls::None => Tls::None,
    }
}

fn pop3_server(
    args: &MigrateImap,
    host: &str,
    port: Option<u16>,
    timeout: Duration,
) -> Result<Server, Failed> {
    let tls = tls(args.pop3_tls.unwrap_or(args.tls));
    let port = port.unwrap_or(if tls == Tls::Implicit { 995 } else { 110 });
    let server = Server::new(host, port, tls, args.tls_ca.as_deref(), args.insecure, timeout);
    server.map_err(|e| Failed::new(Kind::Config, e.to_string()))
}

/// All users, as many at a time as wanted; reports in the order of the users.
fn all(
    migration: &Migration,
    accounts: &[Account],
    jobs: usize,
    config: &Config,
) -> Result<Vec<UserReport>, Failed> {
    let begin = || migration.progress.users_begun.fetch_add(1, Ordering::Relaxed);
    let end = || migration.progress.users_done.fetch_add(1, Ordering::Relaxed);
    if place::connect(config)?.is_none() {
        // The store is opened here, and this process does one thing at a time with it.
        let mut place = Place::find(config)?;
        let mut reports = Vec::with_capacity(accounts.len());
        for account in accounts {
            begin();
            reports.push(Run::new(migration, account).run(config, Some(&mut place)));
            end();
        }
        place.close()?;
        return Ok(reports);
    }
    let next = AtomicUsize::new(0);
    let reports: Vec<Mutex<Option<UserReport>>> =
        accounts.iter().map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, accounts.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(account), Some(slot)) = (accounts.get(at), reports.get(at)) else {
                        return;
                    };
                    begin();
                    let report = Run::new(migration, account).run(config, None);
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
                    end();
                }
            });
        }
    });
    let taken =
        reports.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ok(taken.flatten().collect())
}

fn dry_run(
    migration: &Migration,
    accounts: &[Account],
    config: &Config,
    out: &Output,
) -> Result<(), Failed> {
    let mut place = Place::find(config)?;
    let (mut plan, mut failures): (Vec<Planned>, Vec<Failed>) = (Vec::new(), Vec::new());
    for account in accounts {
        match Run::new(migration, account).plan_only(&mut place) {
            Ok(found) => plan.extend(found),
            Err(failed) => failures.push(failed),
        }
    }
    place.close()?;
    let row = |one: &Planned| {
        let mut notes = one.special_use.clone();
        notes.extend(one.subscribed.then(|| "subscribed".to_owned()));
        notes.extend((!one.exists).then(|| "new".to_owned()));
        notes.extend(one.cannot_be.as_ref().map(|why| format!("would not come over: {why}")));
        notes.extend(one.uids_not_kept.as_ref().map(|why| format!("UIDs cannot be kept: {why}")));
        vec![
            one.user.clone(),
            one.source.clone(),
            one.target.clone(),
            one.messages.to_string(),
            one.known.to_string(),
            notes.join(" "),
        ]
    };
    out.table(&plan, || Table {
        headings: &["user", "folder", "mailbox", "#messages", "#known", "notes"],
        rows: plan.iter().map(row).collect(),
    });
    for failed in &failures {
        eprintln!("cursus: {failed}");
    }
    let nameless = plan.iter().filter(|one| one.cannot_be.is_some()).count();
    let unkept = plan.iter().filter(|one| one.uids_not_kept.is_some()).count();
    match failures.len() {
        0 if nameless > 0 => {
            let message = format!("{nameless} folders cannot have these names here");
            Err(Failed::new(Kind::Incomplete, message))
        }
        0 if unkept > 0 => {
            let message =
                format!("{unkept} folders cannot keep their UIDs and would not come over");
            Err(Failed::new(Kind::Incomplete, message))
        }
        0 => Ok(()),
        n => Err(Failed::new(Kind::Incomplete, format!("{n} users cannot be migrated so"))),
    }
}
